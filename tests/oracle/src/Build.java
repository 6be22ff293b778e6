import com.fasterxml.jackson.databind.JsonNode;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** A pipeline file as a topology of Kafka Streams, step for operator. Every key and value is its bytes. */
final class Build {
    static final Serde<Bytes> BYTES = Serdes.Bytes();

    final StreamsBuilder builder = new StreamsBuilder();
    /** Formats of the topics that are read and written. */
    final Map<String, Row.Formats> inputs = new LinkedHashMap<>();
    final Map<String, Row.Formats> outputs = new LinkedHashMap<>();
    final Set<String> late = new HashSet<>();
    /** Repartition topics, which a case may look into. */
    final Map<String, Row.Formats> internal = new LinkedHashMap<>();
    /** Output topics that hold the last value of each key at a commit. */
    final Set<String> onCommit = new HashSet<>();
    /** Formats of stores that may be looked into. */
    final Map<String, Row.Formats> stores = new HashMap<>();
    private final PipelineFile file;
    private final Map<String, Stream> built = new HashMap<>();
    private final Map<String, GlobalKTable<Bytes, Bytes>> globals = new HashMap<>();
    private final Set<String> building = new HashSet<>();

    Build(PipelineFile file) {
        this.file = file;
        // In the file's order, so that the children of a node come in the order the engine has them in.
        file.sources().properties().forEach(source -> of(source.getKey()));
        file.steps().properties().forEach(step -> {
            if (!step.getValue().path("op").asText().equals("branch")) of(step.getKey());
        });
        // Kafka Streams only counts late rows; that they went to a topic is not compared.
        file.steps().forEach(step -> {
            if (step.path("late").isTextual()) late.add(step.get("late").asText());
        });
        file.sinks().properties().forEach(sink -> sink(sink.getValue()));
    }

    private void sink(JsonNode sink) {
        for (String from : Parts.names(sink.get("from"))) {
            Stream in = of(from).asRows();
            List<String> topics = sink.has("topic-from")
                ? Parts.names(sink.get("topics")) : List.of(sink.get("topic").asText());
            for (String topic : topics) {
                outputs.put(topic, in.formats());
                if (in.onCommit()) onCommit.add(topic);
            }
            Stateless.sink(sink, in);
        }
    }

    private Stream of(String from) {
        Stream known = built.get(from);
        if (known != null) return known;
        String name = from.contains(".") ? from.substring(0, from.indexOf('.')) : from;
        if (!building.add(name)) throw new IllegalArgumentException("a circle at `" + name + "`");
        JsonNode source = file.sources().get(name);
        if (source != null) {
            built.put(name, source(name, source));
        } else {
            JsonNode step = file.steps().get(name);
            if (step == null) throw new IllegalArgumentException("nothing is called `" + name + "`");
            if (step.has("module")) throw new PipelineFile.NoCounterpart("a module is code of the user");
            step(name, step);
        }
        building.remove(name);
        Stream stream = built.get(from);
        if (stream == null) throw new IllegalArgumentException("nothing is called `" + from + "`");
        return stream;
    }

    private Stream source(String name, JsonNode source) {
        if (source.has("idle")) throw new PipelineFile.NoCounterpart("time goes on by records only in Kafka Streams");
        String key = source.path("key").asText("bytes");
        String value = source.path("value").asText("bytes");
        List<String> topics = source.has("topics") ? Parts.names(source.get("topics")) : Parts.names(source.get("topic"));
        topics.forEach(topic -> inputs.put(topic, new Row.Formats(key, value)));
        Consumed<Bytes, Bytes> how = Consumed.with(BYTES, BYTES).withName(name);
        if (source.has("timestamp")) how = how.withTimestampExtractor(Times.extractor(source.get("timestamp"), new Row.Formats(key, value)));
        switch (source.path("as").asText("stream")) {
            case "table": {
                KTable<Bytes, Bytes> table = builder.table(topics.get(0), how, store(name, source, key, value));
                return Stream.table(table, key, value, false);
            }
            case "global-table": {
                globals.put(name, builder.globalTable(topics.get(0), how, store(name, source, key, value)));
                return new Stream(null, null, null, key, value, false);
            }
            default:
                return Stream.rows(builder.stream(topics, how), key, value, false);
        }
    }

    private Materialized<Bytes, Bytes, KeyValueStore<Bytes, byte[]>> store(String name, JsonNode node, String key, String value) {
        if (node.has("ttl")) throw new PipelineFile.NoCounterpart("Kafka Streams has no TTL on tables");
        if (node.has("versioned")) {
            var kept = PipelineFile.duration(node.get("versioned"));
            Materialized<Bytes, Bytes, KeyValueStore<Bytes, byte[]>> as =
                Materialized.as(Stores.persistentVersionedKeyValueStore(name, kept));
            return as.withKeySerde(BYTES).withValueSerde(BYTES);
        }
        stores.put(name, new Row.Formats(key, value));
        Materialized<Bytes, Bytes, KeyValueStore<Bytes, byte[]>> as = Materialized.as(name);
        return as.withKeySerde(BYTES).withValueSerde(BYTES);
    }

    private void step(String name, JsonNode step) {
        String op = step.get("op").asText();
        if (op.equals("join")) {
            Stream right = of(step.get("right").asText());
            built.put(name, new Joins(name, step, of(step.get("left").asText()), right)
                .build(globals.get(step.get("right").asText())));
            return;
        }
        if (op.equals("merge")) {
            built.put(name, merge(name, step));
            return;
        }
        if (op.equals("cogroup")) {
            built.put(name, cogroup(name, step));
            return;
        }
        Stream in = of(Parts.names(step.get("from")).get(0));
        switch (op) {
            case "branch" -> branch(name, step, in.asRows());
            case "count", "sum", "min", "max", "first", "last" -> built.put(name, aggregate(name, step, in));
            case "suppress" -> built.put(name, suppress(name, step, in));
            case "group-by" -> built.put(name, groupBy(name, step, in));
            case "to-table" -> built.put(name, toTable(name, step, in.asRows()));
            case "select-key" -> built.put(name, Stateless.selectKey(name, step, in));
            case "filter", "filter-not" -> built.put(name, Stateless.filter(name, step, in, op.equals("filter-not")));
            case "map", "map-values" -> built.put(name, Stateless.map(name, step, in, op.equals("map")));
            case "flat-map", "flat-map-values" ->
                built.put(name, Stateless.flatMap(name, step, in, op.equals("flat-map")));
            case "peek" -> built.put(name, in);
            case "repartition" -> built.put(name, Stateless.repartition(name, step, in));
            case "to-stream" -> built.put(name, Stateless.toStream(name, step, in));
            default -> throw new PipelineFile.NoCounterpart("Kafka Streams has no `" + op + "`");
        }
    }

    private Stream aggregate(String name, JsonNode step, Stream in) {
        String key = Parts.format(step.path("group-by").asText("key"), in.key(), in.value());
        internal.put(file.root.path("name").asText("oracle") + "-" + name + "-repartition", new Row.Formats(key, in.value()));
        Stream out = new Aggregates(name, step, in).build();
        if (out.table() != null) stores.put(name, out.formats());
        return out;
    }

    /** An object with a field for each stream; one whose stream has had no rows is null. */
    private Stream cogroup(String name, JsonNode step) {
        var none = Forms.JSON.createObjectNode();
        step.get("inputs").forEach(input -> none.putNull(input.get("name").asText()));
        CogroupedKStream<Bytes, Bytes> all = null;
        String key = null;
        for (JsonNode input : step.get("inputs")) {
            String field = input.get("name").asText();
            Aggregates part = new Aggregates(name + "-" + field, input, of(input.get("from").asText()));
            Aggregator<Bytes, Bytes, Bytes> adder = part.into(field);
            all = all == null ? part.grouped().cogroup(adder) : all.cogroup(part.grouped(), adder);
            key = part.key();
        }
        Materialized<Bytes, Bytes, KeyValueStore<Bytes, byte[]>> as = Materialized.as(name);
        as = as.withKeySerde(BYTES).withValueSerde(BYTES);
        KTable<Bytes, Bytes> table = all.aggregate(() -> Forms.text(none.toString()), Named.as(name), as);
        stores.put(name, new Row.Formats(key, "json"));
        return Stream.table(table, key, "json", step.path("emit").asText().equals("on-commit"));
    }

    private Stream merge(String name, JsonNode step) {
        Stream all = null;
        for (String from : Parts.names(step.get("from"))) {
            Stream next = of(from).asRows();
            all = all == null ? next
                : Stream.rows(all.rows().merge(next.rows()), all.key(), all.value(), all.onCommit() || next.onCommit());
        }
        return all;
    }

    private void branch(String name, JsonNode step, Stream in) {
        BranchedKStream<Bytes, Bytes> split = in.rows().split(Named.as(name + "."));
        for (JsonNode branch : step.get("branches")) {
            split = split.branch((k, v) -> Parts.holds(branch, in.formats(), new Row(k, v, 0, null)),
                Branched.as(branch.get("name").asText()));
        }
        Map<String, KStream<Bytes, Bytes>> ports = step.has("default")
            ? split.defaultBranch(Branched.as(step.get("default").asText())) : split.noDefaultBranch();
        ports.forEach((port, rows) -> built.put(port, Stream.rows(rows, in.key(), in.value(), in.onCommit())));
    }

    private Stream groupBy(String name, JsonNode step, Stream in) {
        String by = step.get("by").asText();
        Stream rows = in.asRows();
        Repartitioned<Bytes, Bytes> how = Repartitioned.with(BYTES, BYTES).withName(name);
        var grouped = rows.rows().selectKey((k, v) -> Parts.select(by, k, v), Named.as(name)).repartition(how);
        return Stream.rows(grouped, Parts.format(by, in.key(), in.value()), in.value(), in.onCommit());
    }

    private Stream toTable(String name, JsonNode step, Stream in) {
        KTable<Bytes, Bytes> table = in.rows().toTable(Named.as(name), store(name, step, in.key(), in.value()));
        return Stream.table(table, in.key(), in.value(), in.onCommit());
    }

    private Stream suppress(String name, JsonNode step, Stream in) {
        String until = step.get("until").asText();
        if (until.equals("window-closes")) {
            Suppressed.StrictBufferConfig strict = Suppressed.BufferConfig.unbounded();
            var held = in.windows().suppress(Suppressed.untilWindowCloses(strict).withName(name));
            return Stream.windows(held, in.key(), in.value(), in.onCommit());
        }
        var held = Suppressed.untilTimeLimit(PipelineFile.duration(step.get("until")), buffer(step));
        if (in.windows() != null) {
            KTable<Windowed<Bytes>, Bytes> windows = in.windows().suppress(held.withName(name));
            return Stream.windows(windows, in.key(), in.value(), in.onCommit());
        }
        Suppressed<Bytes> named = Suppressed.<Bytes>untilTimeLimit(PipelineFile.duration(step.get("until")), buffer(step))
            .withName(name);
        return Stream.table(in.table().suppress(named), in.key(), in.value(), in.onCommit());
    }

    private static Suppressed.BufferConfig<?> buffer(JsonNode step) {
        Suppressed.EagerBufferConfig eager = step.has("max-records")
            ? Suppressed.BufferConfig.maxRecords(step.get("max-records").asLong())
            : Suppressed.BufferConfig.maxBytes(step.path("max-bytes").asLong(Long.MAX_VALUE));
        return step.path("when-full").asText().equals("stop") ? eager.shutDownWhenFull() : eager.emitEarlyWhenFull();
    }
}
