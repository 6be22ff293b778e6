import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Plays the engine's cases on Kafka Streams' TopologyTestDriver and compares record by record, topic by topic: keys,
 * values, timestamps, order, tombstones, dead letters, stops, and the stores that the case looks into.
 *
 * A case with `differs.md` differs on purpose: it is played all the same, and fails when there is no difference left.
 */
public final class Oracle {
    private int agreed;
    private int differ;
    private final List<String> failed = new ArrayList<>();

    public static void main(String[] arguments) throws IOException {
        if (arguments.length == 4 && arguments[0].equals("--random")) {
            RandomCases.write(Path.of(arguments[1]), Long.parseLong(arguments[2]), Integer.parseInt(arguments[3]));
            return;
        }
        Oracle oracle = new Oracle();
        boolean quiet = false;
        boolean show = false;
        for (String argument : arguments) {
            switch (argument) {
                case "--quiet" -> quiet = true;
                case "--show" -> show = true;
                default -> oracle.folder(Path.of(argument), quiet, show);
            }
        }
        System.out.printf("%d cases agree with Kafka Streams, %d differ as they say, %d fail%n",
            oracle.agreed, oracle.differ, oracle.failed.size());
        System.exit(oracle.failed.isEmpty() ? 0 : 1);
    }

    /** A case, or a folder of cases. */
    private void folder(Path path, boolean quiet, boolean show) throws IOException {
        if (Files.exists(path.resolve("pipeline.toml"))) {
            one(path, quiet, show);
            return;
        }
        try (var inside = Files.list(path)) {
            for (Path child : inside.filter(Files::isDirectory).sorted().toList()) folder(child, quiet, show);
        }
    }

    private void one(Path path, boolean quiet, boolean show) throws IOException {
        String name = path.getFileName().toString();
        Path differs = path.resolve("differs.md");
        List<String> problems;
        try {
            problems = compare(path, show);
        } catch (PipelineFile.NoCounterpart none) {
            problems = List.of("no counterpart: " + none.getMessage());
        } catch (RuntimeException e) {
            problems = List.of("could not be played: " + e);
            if (show) e.printStackTrace();
        }
        if (Files.exists(differs) && !problems.isEmpty()) {
            differ++;
            String why = Files.readAllLines(differs).get(0);
            if (!quiet) System.out.println("differs  " + name + ": " + why);
        } else if (problems.isEmpty() && !Files.exists(differs)) {
            agreed++;
            if (!quiet) System.out.println("agrees   " + name);
        } else {
            failed.add(name);
            if (problems.isEmpty()) problems = List.of("nothing differs, and differs.md says that something does");
            System.out.println("FAILED   " + name);
            problems.forEach(problem -> System.out.println("    " + problem));
        }
    }

    private static List<String> compare(Path path, boolean show) throws IOException {
        Play play = new Play(PipelineFile.read(path.resolve("pipeline.toml")));
        List<JsonNode> expected = Play.lines(path.resolve("expected.jsonl"));
        List<String> problems = new ArrayList<>();
        play.run(Play.lines(path.resolve("input.jsonl")), stores -> {
            for (JsonNode line : expected) {
                if (line.has("store")) store(line, stores, problems);
            }
        });
        Map<String, List<JsonNode>> by = new LinkedHashMap<>();
        play.outputs().keySet().forEach(topic -> by.put(topic, new ArrayList<>()));
        int letters = 0;
        String stops = null;
        for (JsonNode line : expected) {
            if (line.has("topic")) by.computeIfAbsent(line.get("topic").asText(), t -> new ArrayList<>()).add(line);
            if (line.has("dead-letter")) letters++;
            if (line.has("stops")) stops = line.get("stops").asText();
        }
        by.keySet().removeAll(play.late());
        by.forEach((topic, lines) -> rows(topic, lines, play.topic(topic), problems));
        if (letters != Failures.letters) {
            problems.add(letters + " dead letters are expected, Kafka Streams has " + Failures.letters);
        }
        if ((stops == null) != (play.stopped == null)) {
            problems.add("it stops with " + stops + ", Kafka Streams with " + play.stopped);
        }
        if (show) {
            play.outputs().keySet().forEach(topic -> play.topic(topic).forEach(line -> System.out.println(plain(line))));
        }
        return problems;
    }

    /** As it would stand in expected.jsonl. */
    private static String plain(JsonNode line) {
        var copy = line.deepCopy();
        if (copy.path("headers").isEmpty() && copy.isObject()) ((com.fasterxml.jackson.databind.node.ObjectNode) copy).remove("headers");
        return copy.toString();
    }

    private static void rows(String topic, List<JsonNode> expected, List<JsonNode> got, List<String> problems) {
        for (int i = 0; i < Math.max(expected.size(), got.size()); i++) {
            JsonNode wants = i < expected.size() ? expected.get(i) : null;
            JsonNode has = i < got.size() ? got.get(i) : null;
            if (wants != null && has != null && fits(wants, has)) continue;
            problems.add(topic + ", row " + i + ": expected " + wants + ", Kafka Streams " + (has == null ? null : plain(has)));
        }
    }

    /** Every field that the line states. */
    private static boolean fits(JsonNode wants, JsonNode has) {
        for (var field : wants.properties()) {
            JsonNode other = has.get(field.getKey());
            if (other == null || !Forms.same(field.getValue(), other)) return false;
        }
        return true;
    }

    private static void store(JsonNode line, Play.Store stores, List<String> problems) {
        JsonNode has = stores.get(line.get("store").asText(), line.get("key"));
        if (has != null && !fits(line, has)) problems.add("store: expected " + line + ", Kafka Streams " + has);
    }
}
