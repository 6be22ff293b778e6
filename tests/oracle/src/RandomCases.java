import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/**
 * Small pipelines and inputs drawn from a seed, with what Kafka Streams makes of them as expected.jsonl: for
 * `wasmill test FOLDER`, which plays them in every cut.
 *
 * One source, so that the order of inputs is that of arrival; streams are merged only where no repartition topic lies
 * between them, since no order holds across one.
 */
final class RandomCases {
    private record Line(String name, boolean numbers, int part) {}

    private final Random random;
    private final StringBuilder file = new StringBuilder();
    private final List<Line> streams = new ArrayList<>();
    private int steps;
    private int parts;

    private RandomCases(long seed) {
        random = new Random(seed);
        file.append("# Drawn from seed ").append(seed).append(".\nwasmill = 1\nname = \"random-").append(seed)
            .append("\"\n\n[sources.in]\ntopic = \"in\"\nkey = \"string\"\nvalue = \"json\"\n");
        streams.add(new Line("in", false, 0));
        int count = 1 + random.nextInt(5);
        for (int i = 0; i < count; i++) step();
        for (Line line : streams) {
            if (line.name().equals("in") || random.nextInt(3) == 0 && steps > 1) continue;
            sink(line);
        }
        if (!file.toString().contains("[sinks.")) sink(streams.get(streams.size() - 1));
    }

    static void write(Path folder, long first, int count) throws IOException {
        for (long seed = first; seed < first + count; seed++) {
            RandomCases drawn = new RandomCases(seed);
            Path path = Files.createDirectories(folder.resolve("seed-" + seed));
            Path pipeline = path.resolve("pipeline.toml");
            Files.writeString(pipeline, drawn.file);
            List<JsonNode> input = drawn.input();
            write(path.resolve("input.jsonl"), input);
            Play play = new Play(PipelineFile.read(pipeline));
            play.run(input, stores -> {});
            List<JsonNode> expected = new ArrayList<>();
            play.outputs().keySet().forEach(topic -> play.topic(topic).forEach(line -> {
                ((com.fasterxml.jackson.databind.node.ObjectNode) line).remove("headers");
                expected.add(line);
            }));
            if (play.stopped != null) throw new IllegalStateException("seed " + seed + " stops: " + play.stopped);
            write(path.resolve("expected.jsonl"), expected);
        }
    }

    private static void write(Path path, List<JsonNode> lines) throws IOException {
        StringBuilder text = new StringBuilder();
        lines.forEach(line -> text.append(line).append('\n'));
        Files.writeString(path, text);
    }

    private String pick(String... of) {
        return of[random.nextInt(of.length)];
    }

    private void sink(Line line) {
        file.append("\n[sinks.").append(line.name()).append("]\nfrom = \"").append(line.name()).append("\"\ntopic = \"out-")
            .append(line.name()).append("\"\n");
    }

    private void step() {
        Line from = streams.get(random.nextInt(streams.size()));
        String name = "s" + ++steps;
        String merge = mergeable(from);
        int kind = random.nextInt(from.numbers() ? 5 : 10);
        if (kind == 0 && merge != null) {
            begin(name, "merge", "[\"" + from.name() + "\", \"" + merge + "\"]");
            streams.add(new Line(name, from.numbers(), from.part()));
            return;
        }
        switch (kind) {
            case 0, 1 -> {
                begin(name, pick("filter", "filter-not"), quoted(from));
                line("where", from.numbers() ? "value != null && value > 2" : "value != null && has(value.n) && value.n > 2");
                streams.add(new Line(name, from.numbers(), from.part()));
            }
            case 2 -> {
                begin(name, "map-values", quoted(from));
                line("value", from.numbers() ? "value == null ? dyn(null) : value * 2"
                    : "value == null ? dyn(null) : {'n': has(value.n) ? value.n + 1 : 0, 'k': key}");
                if (from.numbers()) line("result", "i64");
                streams.add(new Line(name, from.numbers(), from.part()));
            }
            case 3 -> {
                begin(name, "select-key", quoted(from));
                line("key", pick("key == null ? 'none' : key + key", "value == null ? dyn(null) : 'k'", "'one'"));
                streams.add(new Line(name, from.numbers(), ++parts));
            }
            case 4 -> {
                begin(name, pick("to-table", "last"), quoted(from));
                table(name, from.numbers());
            }
            case 5 -> {
                begin(name, "count", quoted(from));
                if (random.nextBoolean()) line("group-by", "value.k");
                if (random.nextInt(3) == 0) {
                    // What a step makes of the last updates is not the last of what it makes of each.
                    line("emit", "on-commit");
                    sink(new Line(name, true, 0));
                } else {
                    table(name, true);
                }
            }
            case 6 -> {
                begin(name, pick("sum", "min", "max"), quoted(from));
                line("of", "value.n");
                line("result", "i64");
                if (random.nextBoolean()) line("group-by", "value.k");
                table(name, true);
            }
            case 7, 8 -> windows(name, from);
            default -> {
                begin(name, "flat-map-values", quoted(from));
                line("each", "value == null || !has(value.n) ? [] : [value, {'n': value.n * 10}]");
                streams.add(new Line(name, false, from.part()));
            }
        }
    }

    /**
     * Its changes go on as a stream, some of them through a filter, new values and a grouping of the table. To Kafka Streams
     * the first sum of a key replaces 0, which was never sent: what takes that 0 for a row is not drawn.
     */
    private void table(String name, boolean numbers) {
        String last = name;
        if (random.nextInt(3) == 0) {
            begin(name + "-kept", numbers ? "filter" : pick("filter", "filter-not"), '"' + last + '"');
            line("where", numbers ? "value > 2" : "has(value.n) && value.n > 2");
            last = name + "-kept";
        }
        if (random.nextInt(4) == 0) {
            begin(name + "-made", "map-values", '"' + last + '"');
            line("value", numbers ? "value == 4 ? dyn(null) : value + 1" : "has(value.n) ? {'n': value.n + 1, 'k': key} : value");
            if (numbers) line("result", "i64");
            last = name + "-made";
        }
        if (!numbers && random.nextInt(3) == 0) {
            begin(name + "-groups", "count", '"' + last + '"');
            line("group-by", "value.k");
            sink(new Line(name + "-groups", true, 0));
        }
        begin(name + "-rows", "to-stream", '"' + last + '"');
        streams.add(new Line(name + "-rows", numbers, ++parts));
    }

    /** A table of windows, as it is or what passes of it. */
    private void windows(String name, Line from) {
        String op = pick("count", "sum", "min", "first");
        begin(name, op, quoted(from));
        if (!op.equals("count")) line("of", "value.n");
        if (random.nextBoolean()) line("group-by", "value.k");
        int size = 1 + random.nextInt(12);
        String window = switch (random.nextInt(5)) {
            case 0 -> "tumbling = \"" + size + "ms\"";
            case 1 -> "hopping = \"" + size + "ms\", advance = \"" + (1 + random.nextInt(size)) + "ms\"";
            case 2 -> "session = \"" + size + "ms\"";
            default -> "sliding = \"" + size + "ms\"";
        };
        file.append("window = { ").append(window).append(", grace = \"").append(random.nextInt(15)).append("ms\" }\n");
        if (random.nextInt(3) == 0) line("emit", "on-close");
        sink(new Line(name, true, 0));
    }

    private String mergeable(Line from) {
        for (Line other : streams) {
            if (other != from && other.numbers() == from.numbers() && other.part() == from.part()) return other.name();
        }
        return null;
    }

    private static String quoted(Line from) {
        return '"' + from.name() + '"';
    }

    private void begin(String name, String op, String from) {
        file.append("\n[steps.").append(name).append("]\nop = \"").append(op).append("\"\nfrom = ").append(from).append('\n');
    }

    private void line(String key, String value) {
        file.append(key).append(" = \"").append(value).append("\"\n");
    }

    private List<JsonNode> input() {
        List<JsonNode> lines = new ArrayList<>();
        int count = 1 + random.nextInt(25);
        long time = 20;
        for (int i = 0; i < count; i++) {
            if (random.nextInt(12) == 0) {
                lines.add(Forms.JSON.createObjectNode().put(random.nextBoolean() ? "commit" : "restart", true));
            }
            time = Math.max(0, time + random.nextInt(12) - 4);
            var line = Forms.JSON.createObjectNode().put("topic", "in");
            String key = pick("a", "b", "c", "");
            if (!key.isEmpty()) line.put("key", key);
            if (random.nextInt(7) == 0) {
                line.putNull("value");
            } else {
                var value = line.putObject("value");
                if (random.nextInt(6) != 0) value.put("n", random.nextInt(7) - 1);
                if (random.nextInt(6) != 0) value.put("k", pick("x", "y"));
            }
            lines.add(line.put("timestamp", time));
        }
        return lines;
    }
}
