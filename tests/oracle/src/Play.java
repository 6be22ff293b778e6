import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.stream.Collectors;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.BytesDeserializer;
import org.apache.kafka.common.serialization.BytesSerializer;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.TestInputTopic;
import org.apache.kafka.streams.TopologyTestDriver;
import org.apache.kafka.streams.state.ValueAndTimestamp;
import org.apache.kafka.streams.test.TestRecord;

/** One case on Kafka Streams' own test driver: what comes of the input, as lines of expected.jsonl. */
final class Play {
    private final PipelineFile file;
    private final Build build;
    private final Map<String, List<JsonNode>> topics = new LinkedHashMap<>();
    /** What came since the last commit, of topics whose tables emit on commit. */
    private final Map<String, Map<JsonNode, JsonNode>> pending = new LinkedHashMap<>();
    String stopped;

    Play(PipelineFile file) {
        this.file = file;
        this.build = new Build(file);
    }

    static List<JsonNode> lines(Path path) throws IOException {
        List<JsonNode> lines = new ArrayList<>();
        for (String line : Files.readAllLines(path)) if (!line.isBlank()) lines.add(Forms.line(line));
        return lines;
    }

    Map<String, Row.Formats> outputs() {
        return build.outputs;
    }

    Set<String> late() {
        return build.late;
    }

    List<JsonNode> topic(String name) {
        return topics.getOrDefault(name, List.of());
    }

    private Properties settings() {
        Properties set = new Properties();
        set.put(StreamsConfig.APPLICATION_ID_CONFIG, file.root.path("name").asText("oracle"));
        set.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, "nowhere:1");
        set.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Build.BYTES.getClass());
        set.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Build.BYTES.getClass());
        set.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        set.put(StreamsConfig.MAX_TASK_IDLE_MS_CONFIG, file.taskIdle());
        set.put(StreamsConfig.STATE_DIR_CONFIG, System.getProperty("java.io.tmpdir") + "/wasmill-oracle-" + ProcessHandle.current().pid());
        // Kafka Streams emits closed windows and unmatched rows at most once a second of wall time.
        set.put("__emit.interval.ms.kstreams.windowed.aggregation__", 0L);
        set.put("__emit.interval.ms.kstreams.outer.join.spurious.results.fix__", 0L);
        set.put(StreamsConfig.PROCESSING_EXCEPTION_HANDLER_CLASS_CONFIG, Failures.class);
        if (Boolean.getBoolean("oracle.memory")) {
            set.put(StreamsConfig.DSL_STORE_SUPPLIERS_CLASS_CONFIG,
                "org.apache.kafka.streams.state.BuiltInDslStoreSuppliers$InMemoryDslStoreSuppliers");
        }
        return set;
    }

    /** Plays `input`; `look` is shown the stores at the end. */
    void run(List<JsonNode> input, Looks look) {
        Failures.begin(file);
        Times.wall = 0;
        try (TopologyTestDriver driver = new TopologyTestDriver(build.builder.build(), settings(), Instant.EPOCH)) {
            Map<String, TestInputTopic<Bytes, Bytes>> open = new LinkedHashMap<>();
            build.inputs.keySet().forEach(t ->
                open.put(t, driver.createInputTopic(t, new BytesSerializer(), new BytesSerializer())));
            long time = -1;
            for (JsonNode line : input) {
                if (line.has("topic")) {
                    time = line.has("timestamp") ? line.get("timestamp").longValue() : time + 1;
                    if (!pipe(open.get(line.get("topic").asText()), line, time)) {
                        collect(driver);
                        break;
                    }
                } else if (line.has("advance")) {
                    Times.wall += line.get("advance").longValue();
                    driver.advanceWallClockTime(Duration.ofMillis(line.get("advance").longValue()));
                }
                collect(driver);
                // A restart of the engine commits first; what it had is there afterwards, as it is here.
                if (line.has("commit") || line.has("restart")) commit();
            }
            commit();
            look.at((store, key) -> stored(driver, store, key));
        }
    }

    private boolean pipe(TestInputTopic<Bytes, Bytes> topic, JsonNode line, long time) {
        Row.Formats formats = build.inputs.get(line.get("topic").asText());
        RecordHeaders headers = new RecordHeaders();
        for (JsonNode pair : line.path("headers")) {
            JsonNode value = pair.get(1);
            headers.add(pair.get(0).asText(), value.isNull() ? null : value.asText().getBytes(StandardCharsets.UTF_8));
        }
        Bytes key = Forms.encode(formats.key(), line.path("key"));
        try {
            topic.pipeInput(new TestRecord<>(key, value(formats, line), headers, time));
            return true;
        } catch (RuntimeException e) {
            Throwable cause = e;
            while (cause.getCause() != null) cause = cause.getCause();
            stopped = String.valueOf(cause.getMessage());
            return false;
        }
    }

    private static Bytes value(Row.Formats formats, JsonNode line) {
        JsonNode value = line.path("value");
        return value.isMissingNode() ? null : Forms.encode(formats.value(), value);
    }

    private void collect(TopologyTestDriver driver) {
        collect(driver, build.outputs);
        Map<String, Row.Formats> internal = new LinkedHashMap<>(build.internal);
        internal.keySet().retainAll(driver.producedTopicNames());
        collect(driver, internal);
    }

    private void collect(TopologyTestDriver driver, Map<String, Row.Formats> of) {
        of.forEach((topic, formats) -> {
            var rows = driver.createOutputTopic(topic, new BytesDeserializer(), new BytesDeserializer()).readRecordsToList();
            for (TestRecord<Bytes, Bytes> row : rows) {
                var line = Forms.JSON.createObjectNode().put("topic", topic);
                line.set("key", Forms.decode(formats.key(), row.key()));
                line.set("value", Forms.decode(formats.value(), row.value()));
                line.put("timestamp", row.timestamp());
                var headers = line.putArray("headers");
                row.headers().forEach(h -> headers.addArray().add(h.key())
                    .add(h.value() == null ? null : new String(h.value(), StandardCharsets.UTF_8)));
                if (build.onCommit.contains(topic)) {
                    pending.computeIfAbsent(topic, t -> new LinkedHashMap<>()).put(line.get("key"), line);
                } else {
                    topics.computeIfAbsent(topic, t -> new ArrayList<>()).add(line);
                }
            }
        });
    }

    private void commit() {
        pending.forEach((topic, rows) -> topics.computeIfAbsent(topic, t -> new ArrayList<>()).addAll(rows.values()));
        pending.clear();
    }

    private JsonNode stored(TopologyTestDriver driver, String store, JsonNode key) {
        Row.Formats formats = build.stores.get(store);
        if (formats == null) return null;
        var found = driver.<Bytes, Bytes>getTimestampedKeyValueStore(store);
        ValueAndTimestamp<Bytes> value = found.get(Forms.encode(formats.key(), key));
        var line = Forms.JSON.createObjectNode().put("store", store);
        line.set("key", key);
        line.set("value", value == null ? Forms.NULL : Forms.decode(formats.value(), value.value()));
        if (value != null) line.put("timestamp", value.timestamp());
        return line;
    }

    interface Store {
        JsonNode get(String store, JsonNode key);
    }

    interface Looks {
        void at(Store stores);
    }
}
