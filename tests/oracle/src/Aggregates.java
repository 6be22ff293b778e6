import com.fasterxml.jackson.databind.JsonNode;
import java.math.BigInteger;
import java.time.Duration;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;

/** count, sum, min, max, first, last: of streams, of tables, in windows. */
final class Aggregates {
    private final String name;
    private final JsonNode step;
    private final String function;
    private final String of;
    private final Stream in;
    private final String given;
    private final String result;

    Aggregates(String name, JsonNode step, Stream in) {
        this.name = name;
        this.step = step;
        this.function = step.get("op").asText();
        this.of = step.path("of").asText("value");
        this.in = in;
        boolean kept = function.equals("first") || function.equals("last");
        this.given = Parts.isField(of) ? (kept ? "string" : "json") : Parts.format(of, in.key(), in.value());
        this.result = result();
    }

    private String result() {
        if (function.equals("count")) return "i64";
        String natural = switch (function) {
            case "first", "last" -> given;
            case "sum" -> given.equals("i64") ? "i64" : "f64";
            default -> given.equals("json") ? "f64" : given;
        };
        return step.path("result").asText(natural);
    }

    private String by() {
        return step.path("group-by").asText("key");
    }

    String key() {
        return Parts.format(by(), in.key(), in.value());
    }

    KGroupedStream<Bytes, Bytes> grouped() {
        String by = by();
        KStream<Bytes, Bytes> rows = in.asRows().rows();
        if (!by.equals("key")) rows = rows.selectKey((k, v) -> Parts.select(by, k, v), Named.as(name + "-key"));
        return known(rows).groupByKey(Grouped.with(name, Build.BYTES, Build.BYTES));
    }

    /** Adds a row to one field of an object. */
    Aggregator<Bytes, Bytes, Bytes> into(String field) {
        return (key, value, soFar) -> {
            var object = (com.fasterxml.jackson.databind.node.ObjectNode) Forms.json(soFar);
            Bytes before = object.get(field).isNull() ? first() : Forms.encode(result, object.get(field));
            object.set(field, Forms.decode(result, add(key, value, before)));
            return Forms.text(object.toString());
        };
    }

    Stream build() {
        String key = key();
        boolean onCommit = in.onCommit() || step.path("emit").asText().equals("on-commit");
        if (in.table() != null) return ofTable(by(), key, onCommit);
        KGroupedStream<Bytes, Bytes> grouped = grouped();
        if (!step.has("window")) {
            Materialized<Bytes, Bytes, KeyValueStore<Bytes, byte[]>> as = Materialized.as(name);
            as = as.withKeySerde(Build.BYTES).withValueSerde(Build.BYTES);
            KTable<Bytes, Bytes> table = grouped.aggregate(this::first, this::add, Named.as(name), as);
            return Stream.table(table, key, result, onCommit);
        }
        return Stream.windows(windowed(grouped, step.get("window")), key, result, onCommit);
    }

    /** A record without what is aggregated is left out. */
    private KStream<Bytes, Bytes> known(KStream<Bytes, Bytes> rows) {
        if (function.equals("count") || of.equals("key")) return rows;
        if (step.has("window")) {
            // It moves time all the same: so it goes on under a key that `Stream` leaves out of what comes of it.
            return rows.selectKey((k, v) -> k == null || Parts.select(of, k, v) != null ? k : Stream.LEFT_OUT,
                Named.as(name + "-known"));
        }
        return rows.filter((k, v) -> Parts.select(of, k, v) != null, Named.as(name + "-known"));
    }

    private KTable<Windowed<Bytes>, Bytes> windowed(KGroupedStream<Bytes, Bytes> grouped, JsonNode window) {
        EmitStrategy emit = step.path("emit").asText().equals("on-close")
            ? EmitStrategy.onWindowClose() : EmitStrategy.onWindowUpdate();
        if (window.has("session")) {
            SessionWindows windows = SessionWindows.ofInactivityGapAndGrace(
                PipelineFile.duration(window.get("session")), grace(window));
            Materialized<Bytes, Bytes, SessionStore<Bytes, byte[]>> as = Materialized.as(name);
            as = as.withKeySerde(Build.BYTES).withValueSerde(Build.BYTES);
            if (retention(window) != null) as = as.withRetention(retention(window));
            return grouped.windowedBy(windows).emitStrategy(emit)
                .aggregate(this::first, this::add, this::merge, Named.as(name), as);
        }
        Materialized<Bytes, Bytes, WindowStore<Bytes, byte[]>> as = Materialized.as(name);
        as = as.withKeySerde(Build.BYTES).withValueSerde(Build.BYTES);
        if (retention(window) != null) as = as.withRetention(retention(window));
        if (window.has("sliding")) {
            SlidingWindows windows = SlidingWindows.ofTimeDifferenceAndGrace(
                PipelineFile.duration(window.get("sliding")), grace(window));
            return grouped.windowedBy(windows).emitStrategy(emit).aggregate(this::first, this::add, Named.as(name), as);
        }
        if (window.isTextual() || window.has("unlimited")) {
            return grouped.windowedBy(UnlimitedWindows.of()).aggregate(this::first, this::add, Named.as(name), as);
        }
        Duration size = PipelineFile.duration(window.has("tumbling") ? window.get("tumbling") : window.get("hopping"));
        TimeWindows windows = TimeWindows.ofSizeAndGrace(size, grace(window));
        if (window.has("advance")) windows = windows.advanceBy(PipelineFile.duration(window.get("advance")));
        return grouped.windowedBy(windows).emitStrategy(emit).aggregate(this::first, this::add, Named.as(name), as);
    }

    /**
     * Without one, Kafka Streams keeps a window for its size and grace, and one that has not gone on when time jumps
     * further than that never does: so what is sent on close is kept for a day here.
     */
    private Duration retention(JsonNode window) {
        if (window.has("retention")) return PipelineFile.duration(window.get("retention"));
        return step.path("emit").asText().equals("on-close") ? Duration.ofDays(1) : null;
    }

    private static Duration grace(JsonNode window) {
        return PipelineFile.duration(window.get("grace"));
    }

    private Stream ofTable(String by, String key, boolean onCommit) {
        KGroupedTable<Bytes, Bytes> grouped = in.table().groupBy(
            (k, v) -> KeyValue.pair(Parts.select(by, k, v), v), Grouped.with(name + "-by", Build.BYTES, Build.BYTES));
        Materialized<Bytes, Bytes, KeyValueStore<Bytes, byte[]>> as = Materialized.as(name);
        as = as.withKeySerde(Build.BYTES).withValueSerde(Build.BYTES);
        return Stream.table(grouped.aggregate(this::first, this::add, this::subtract, Named.as(name), as),
            key, result, onCommit);
    }

    private Bytes first() {
        if (function.equals("count")) return Forms.i64(0);
        return function.equals("sum") ? number(0) : null;
    }

    private Bytes number(double value) {
        return result.equals("i64") ? Forms.i64((long) value) : Forms.f64(value);
    }

    private Bytes add(Bytes key, Bytes value, Bytes soFar) {
        if (function.equals("count")) return plus(soFar, 1);
        Bytes part = Parts.select(of, key, value);
        if (part == null || key.equals(Stream.LEFT_OUT)) return soFar;
        return switch (function) {
            case "first" -> soFar == null ? part : soFar;
            case "last" -> part;
            case "sum" -> sum(soFar, read(part), 1);
            default -> {
                Bytes read = read(part);
                if (soFar == null) yield read;
                int order = compare(read, soFar);
                yield (function.equals("min") ? order < 0 : order > 0) ? read : soFar;
            }
        };
    }

    private Bytes subtract(Bytes key, Bytes value, Bytes soFar) {
        if (function.equals("count")) return plus(soFar, -1);
        if (!function.equals("sum")) throw new IllegalArgumentException("no subtractor for " + function);
        Bytes part = Parts.select(of, key, value);
        return part == null ? soFar : sum(soFar, read(part), -1);
    }

    private Bytes merge(Bytes key, Bytes a, Bytes b) {
        if (a == null) return b;
        if (b == null) return a;
        return switch (function) {
            case "count" -> plus(a, Forms.decode("i64", b).longValue());
            case "sum" -> sum(a, b, 1);
            case "first" -> a;
            case "last" -> b;
            default -> (function.equals("min") ? compare(b, a) < 0 : compare(b, a) > 0) ? b : a;
        };
    }

    private static Bytes plus(Bytes a, long b) {
        return Forms.i64(Forms.decode("i64", a).longValue() + b);
    }

    private Bytes sum(Bytes soFar, Bytes number, int sign) {
        JsonNode a = Forms.decode(result, soFar);
        JsonNode b = Forms.decode(result, number);
        if (!result.equals("i64")) return Forms.f64(a.doubleValue() + sign * b.doubleValue());
        BigInteger whole = a.bigIntegerValue().add(b.bigIntegerValue().multiply(BigInteger.valueOf(sign)));
        return Forms.i64(whole.longValueExact());
    }

    private int compare(Bytes a, Bytes b) {
        return switch (result) {
            case "i64" -> Long.compare(Forms.decode("i64", a).longValue(), Forms.decode("i64", b).longValue());
            case "f64" -> Double.compare(Forms.decode("f64", a).doubleValue(), Forms.decode("f64", b).doubleValue());
            default -> a.compareTo(b);
        };
    }

    /** What was selected, in the format of the result. */
    private Bytes read(Bytes part) {
        if (!result.equals("i64") && !result.equals("f64")) return part;
        if (given.equals(result)) return part;
        if (given.equals("i64")) return Forms.f64(Forms.decode("i64", part).longValue());
        String text = Forms.string(part).trim();
        return result.equals("i64") ? Forms.i64(Long.parseLong(text)) : Forms.f64(Double.parseDouble(text));
    }
}
