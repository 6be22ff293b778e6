import com.fasterxml.jackson.databind.JsonNode;
import java.time.Duration;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.kstream.*;
import org.apache.kafka.streams.state.KeyValueStore;

/** `op = "join"` of two streams, a stream and a table, two tables, by key or by a field that names the other's key. */
final class Joins {
    private final String name;
    private final JsonNode step;
    private final String kind;
    private final Stream left;
    private final Stream right;

    Joins(String name, JsonNode step, Stream left, Stream right) {
        this.name = name;
        this.step = step;
        this.kind = step.path("kind").asText("inner");
        this.left = left;
        this.right = right;
    }

    Stream build(GlobalKTable<Bytes, Bytes> global) {
        boolean onCommit = left.onCommit() || (right != null && right.onCommit());
        if (global != null) return rows(global(global), onCommit);
        if (left.table() != null && right.table() != null) {
            return Stream.table(step.has("on") ? foreign() : tables(), left.key(), "json", onCommit);
        }
        if (right.table() != null) return rows(streamTable(), onCommit);
        return rows(streams(), onCommit);
    }

    private Stream rows(KStream<Bytes, Bytes> rows, boolean onCommit) {
        return Stream.rows(rows, left.key(), "json", onCommit);
    }

    private KStream<Bytes, Bytes> streams() {
        Duration both = step.has("within") ? PipelineFile.duration(step.get("within")) : Duration.ZERO;
        JoinWindows windows = JoinWindows.ofTimeDifferenceAndGrace(both, PipelineFile.duration(step.get("grace")));
        if (step.has("before")) windows = windows.before(PipelineFile.duration(step.get("before")));
        if (step.has("after")) windows = windows.after(PipelineFile.duration(step.get("after")));
        StreamJoined<Bytes, Bytes, Bytes> how = StreamJoined.with(Build.BYTES, Build.BYTES, Build.BYTES).withName(name)
            .withStoreName(name);
        KStream<Bytes, Bytes> a = left.asRows().rows();
        KStream<Bytes, Bytes> b = right.asRows().rows();
        ValueJoinerWithKey<Bytes, Bytes, Bytes, Bytes> joiner = this::joined;
        return switch (kind) {
            case "left" -> a.leftJoin(b, joiner, windows, how);
            case "outer" -> a.outerJoin(b, joiner, windows, how);
            default -> a.join(b, joiner, windows, how);
        };
    }

    private KStream<Bytes, Bytes> streamTable() {
        Joined<Bytes, Bytes, Bytes> how = Joined.with(Build.BYTES, Build.BYTES, Build.BYTES, name);
        if (step.has("grace")) how = how.withGracePeriod(PipelineFile.duration(step.get("grace")));
        ValueJoinerWithKey<Bytes, Bytes, Bytes, Bytes> joiner = this::joined;
        return kind.equals("left")
            ? left.asRows().rows().leftJoin(right.table(), joiner, how)
            : left.asRows().rows().join(right.table(), joiner, how);
    }

    private KTable<Bytes, Bytes> tables() {
        ValueJoiner<Bytes, Bytes, Bytes> joiner = (a, b) -> joined(null, a, b);
        return switch (kind) {
            case "left" -> left.table().leftJoin(right.table(), joiner, Named.as(name), stored());
            case "outer" -> left.table().outerJoin(right.table(), joiner, Named.as(name), stored());
            default -> left.table().join(right.table(), joiner, Named.as(name), stored());
        };
    }

    private KTable<Bytes, Bytes> foreign() {
        String on = step.get("on").asText();
        java.util.function.Function<Bytes, Bytes> other = value -> Parts.select(on, null, value);
        ValueJoiner<Bytes, Bytes, Bytes> joiner = (a, b) -> joined(null, a, b);
        TableJoined<Bytes, Bytes> how = TableJoined.as(name);
        return kind.equals("left")
            ? left.table().leftJoin(right.table(), other, joiner, how, stored())
            : left.table().join(right.table(), other, joiner, how, stored());
    }

    private KStream<Bytes, Bytes> global(GlobalKTable<Bytes, Bytes> global) {
        String on = step.path("on").asText("key");
        KeyValueMapper<Bytes, Bytes, Bytes> other = (k, v) -> mapped(on, k, v);
        ValueJoinerWithKey<Bytes, Bytes, Bytes, Bytes> joiner = this::joined;
        return kind.equals("left")
            ? left.asRows().rows().leftJoin(global, other, joiner, Named.as(name))
            : left.asRows().rows().join(global, other, joiner, Named.as(name));
    }

    /** The key of a global table: a part of the row, or what an expression gives, as the table's keys are written. */
    private Bytes mapped(String on, Bytes key, Bytes value) {
        if (on.equals("key") || on.equals("value")) return Parts.select(on, key, value);
        if (on.matches("value(\\.[\\w-]+)+")) {
            if (value == null) return null;
            JsonNode field = Parts.field(on.substring("value.".length()), Forms.json(value));
            return Forms.encode(right.key(), field);
        }
        Row row = new Row(key, value, 0, null);
        return Forms.encode(right.key(), Expression.json(Expression.of(on).evaluate(left.formats(), row, null)));
    }

    private Materialized<Bytes, Bytes, KeyValueStore<Bytes, byte[]>> stored() {
        Materialized<Bytes, Bytes, KeyValueStore<Bytes, byte[]>> as = Materialized.as(name);
        return as.withKeySerde(Build.BYTES).withValueSerde(Build.BYTES);
    }

    /** Both sides, or the fields that `value` names. */
    private Bytes joined(Bytes key, Bytes a, Bytes b) {
        JsonNode k = Forms.decode(left.key(), key);
        String right = this.right == null ? "json" : this.right.value();
        JsonNode l = Forms.decode(left.value(), a);
        JsonNode r = Forms.decode(right, b);
        var made = Forms.JSON.createObjectNode();
        if (!step.has("value")) {
            made.set("left", l);
            made.set("right", r);
        } else {
            step.get("value").properties().forEach(field -> made.set(field.getKey(), side(field.getValue().asText(), k, l, r)));
        }
        return Forms.text(made.toString());
    }

    private static JsonNode side(String part, JsonNode k, JsonNode l, JsonNode r) {
        if (part.equals("key")) return k;
        if (part.equals("left")) return l;
        if (part.equals("right")) return r;
        return part.startsWith("left.") ? Parts.field(part.substring(5), l) : Parts.field(part.substring(6), r);
    }
}
