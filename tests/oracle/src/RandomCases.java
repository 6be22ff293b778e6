import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;

/**
 * Small pipelines and inputs drawn from a seed, with what Kafka Streams makes of them as expected.jsonl, for the engine to
 * play in every cut. `any-order.txt` names topics whose rows are compared as a heap.
 */
final class RandomCases {
    private final Random random;
    private final RandomPipeline pipeline;

    private RandomCases(long seed) {
        random = new Random(seed);
        pipeline = new RandomPipeline(seed, random);
    }

    static void write(Path folder, long first, int count) throws IOException {
        for (long seed = first; seed < first + count; seed++) {
            try {
                new RandomCases(seed).write(Files.createDirectories(folder.resolve("seed-" + seed)));
            } catch (RuntimeException e) {
                throw new IllegalStateException("seed " + seed, e);
            }
        }
    }

    private void write(Path path) throws IOException {
        Path file = path.resolve("pipeline.toml");
        Files.writeString(file, pipeline.text());
        if (!pipeline.anyOrder.isEmpty()) Files.write(path.resolve("any-order.txt"), pipeline.anyOrder);
        List<JsonNode> input = input();
        write(path.resolve("input.jsonl"), input);
        Play play = new Play(PipelineFile.read(file));
        play.run(input, stores -> {});
        List<JsonNode> expected = new ArrayList<>();
        play.outputs().keySet().forEach(topic -> play.topic(topic).forEach(line -> {
            ((ObjectNode) line).remove("headers");
            expected.add(line);
        }));
        if (play.stopped != null) throw new IllegalStateException("it stops: " + play.stopped);
        write(path.resolve("expected.jsonl"), expected);
    }

    private static void write(Path path, List<JsonNode> lines) throws IOException {
        StringBuilder text = new StringBuilder();
        lines.forEach(line -> text.append(line).append('\n'));
        Files.writeString(path, text);
    }

    /** A row of the global table, of any time: it has none. */
    private JsonNode globalRow() {
        var line = Forms.JSON.createObjectNode().put("topic", "global");
        String key = pick("a", "b", "c", "x", "y", "none", "");
        if (!key.isEmpty()) line.put("key", key);
        if (random.nextInt(4) == 0) {
            line.putNull("value");
        } else {
            line.putObject("value").put("n", random.nextInt(5)).put("k", pick("x", "y"));
        }
        return line.put("timestamp", random.nextInt(60));
    }

    private String pick(String... of) {
        return of[random.nextInt(of.length)];
    }

    /**
     * Rows out of order and of equal times, with null keys and values. Where rows go on without a match they come in order
     * and rows far in the future follow them: Kafka Streams lets such rows wait longer than their window asks, so that one
     * out of order could still meet what has gone on with us.
     */
    private List<JsonNode> input() {
        List<JsonNode> lines = new ArrayList<>();
        boolean ordered = !pipeline.anyOrder.isEmpty();
        int count = 1 + random.nextInt(40);
        long time = 20;
        for (int i = 0; i < count; i++) {
            if (random.nextInt(12) == 0) {
                lines.add(Forms.JSON.createObjectNode().put(random.nextBoolean() ? "commit" : "restart", true));
            }
            time = Math.max(0, time + (ordered ? random.nextInt(5) : random.nextInt(12) - 4));
            // Some far too late, and some after a pause.
            if (random.nextInt(25) == 0) time = ordered ? time + 30 : Math.max(0, time + random.nextInt(90) - 45);
            if (pipeline.global && random.nextInt(3) == 0) lines.add(globalRow());
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
        for (int i = 1; ordered && i <= 3; i++) {
            for (String side : List.of("x", "y")) {
                var line = Forms.JSON.createObjectNode().put("topic", "in").put("key", "last");
                line.putObject("value").put("n", 1).put("k", side);
                lines.add(line.put("timestamp", time + i * 1_000L));
            }
        }
        return lines;
    }
}
