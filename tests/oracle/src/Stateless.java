import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.Repartitioned;
import org.apache.kafka.streams.processor.api.ContextualFixedKeyProcessor;
import org.apache.kafka.streams.processor.api.ContextualProcessor;
import org.apache.kafka.streams.processor.api.FixedKeyRecord;
import org.apache.kafka.streams.processor.api.Record;

/** filter, map, flat-map, peek, repartition, to-stream and expressions at select-key and sinks. */
final class Stateless {
    private Stateless() {}

    static Stream filter(String name, JsonNode step, Stream in, boolean not) {
        Expression where = Expression.of(step.get("where").asText());
        Row.Formats formats = in.formats();
        if (in.table() != null) {
            var kept = in.table().filter((k, v) -> where.holds(formats, new Row(k, v, 0, null)) != not, Named.as(name));
            return Stream.table(kept, in.key(), in.value(), in.onCommit());
        }
        if (in.windows() != null) {
            var kept = in.windows().filter((w, v) -> where.holds(in.windowed(), in.window(w, v)) != not, Named.as(name));
            return Stream.windows(kept, in.key(), in.value(), in.onCommit());
        }
        KStream<Bytes, Bytes> rows = in.asRows().rows();
        KStream<Bytes, Bytes> kept;
        if (where.plain) {
            kept = not
                ? rows.filterNot((k, v) -> where.holds(formats, new Row(k, v, 0, null)), Named.as(name))
                : rows.filter((k, v) -> where.holds(formats, new Row(k, v, 0, null)), Named.as(name));
        } else {
            kept = rows.processValues(() -> new ContextualFixedKeyProcessor<Bytes, Bytes, Bytes>() {
                @Override
                public void process(FixedKeyRecord<Bytes, Bytes> r) {
                    if (where.holds(formats, new Row(r.key(), r.value(), r.timestamp(), r.headers())) != not) {
                        context().forward(r);
                    }
                }
            }, Named.as(name));
        }
        return Stream.rows(kept, in.key(), in.value(), in.onCommit());
    }

    /** An expression, or a table of expressions that gives an object. */
    static JsonNode shape(JsonNode shape, Row.Formats formats, Row row, Object item) {
        if (shape.isTextual()) {
            return Expression.json(Expression.of(shape.asText()).evaluate(formats, row, item));
        }
        var object = Forms.JSON.createObjectNode();
        shape.properties().forEach(field -> object.set(field.getKey(), shape(field.getValue(), formats, row, item)));
        return object;
    }

    private static boolean plain(JsonNode shape) {
        if (shape.isMissingNode()) return true;
        if (shape.isTextual()) return Expression.of(shape.asText()).plain;
        for (JsonNode field : shape) if (!plain(field)) return false;
        return true;
    }

    static Stream map(String name, JsonNode step, Stream given, boolean keyed) {
        if (given.rows() == null && !keyed) return mapTable(name, step, given);
        Stream in = given.asRows();
        Row.Formats formats = in.formats();
        String key = keyed ? step.path("key-result").asText("string") : in.key();
        boolean valued = step.has("value");
        String value = valued ? step.path("result").asText("json") : in.value();
        Work work = row -> List.of(KeyValue.pair(
            keyed ? Forms.encode(key, shape(step.get("key"), formats, row, null)) : row.key(),
            valued ? Forms.encode(value, shape(step.get("value"), formats, row, null)) : row.value()));
        boolean plain = plain(step.path("key")) && plain(step.path("value"));
        KStream<Bytes, Bytes> rows;
        if (plain && keyed) {
            rows = in.rows().map((k, v) -> work.of(new Row(k, v, 0, null)).get(0), Named.as(name));
        } else if (plain) {
            rows = in.rows().mapValues((k, v) -> work.of(new Row(k, v, 0, null)).get(0).value, Named.as(name));
        } else {
            rows = process(name, in.rows(), keyed, work);
        }
        return Stream.rows(rows, key, value, in.onCommit());
    }

    private static Stream mapTable(String name, JsonNode step, Stream in) {
        Row.Formats formats = in.formats();
        String value = step.path("result").asText("json");
        if (in.windows() != null) {
            var mapped = in.windows().mapValues((w, v) -> v == null ? null
                : Forms.encode(value, shape(step.get("value"), in.windowed(), in.window(w, v), null)), Named.as(name));
            return Stream.windows(mapped, in.key(), value, in.onCommit());
        }
        var mapped = in.table().mapValues((k, v) -> v == null ? null
            : Forms.encode(value, shape(step.get("value"), formats, new Row(k, v, 0, null), null)), Named.as(name));
        return Stream.table(mapped, in.key(), value, in.onCommit());
    }

    static Stream flatMap(String name, JsonNode step, Stream given, boolean keyed) {
        Stream in = given.asRows();
        Row.Formats formats = in.formats();
        Expression each = Expression.of(step.get("each").asText());
        String key = keyed ? step.path("key-result").asText("string") : in.key();
        String value = step.path("result").asText("json");
        JsonNode shape = step.has("value") ? step.get("value") : Forms.JSON.getNodeFactory().textNode("item");
        Work work = row -> {
            List<KeyValue<Bytes, Bytes>> made = new ArrayList<>();
            for (Object item : each.list(formats, row)) {
                made.add(KeyValue.pair(
                    keyed ? Forms.encode(key, shape(step.get("key"), formats, row, item)) : row.key(),
                    Forms.encode(value, shape(shape, formats, row, item))));
            }
            return made;
        };
        boolean plain = each.plain && plain(step.path("key")) && plain(shape);
        KStream<Bytes, Bytes> rows;
        if (plain && keyed) {
            rows = in.rows().flatMap((k, v) -> work.of(new Row(k, v, 0, null)), Named.as(name));
        } else if (plain) {
            rows = in.rows().flatMapValues((k, v) -> work.of(new Row(k, v, 0, null)).stream().map(p -> p.value).toList(),
                Named.as(name));
        } else {
            rows = process(name, in.rows(), keyed, work);
        }
        return Stream.rows(rows, key, value, in.onCommit());
    }

    interface Work {
        List<KeyValue<Bytes, Bytes>> of(Row row);
    }

    private static KStream<Bytes, Bytes> process(String name, KStream<Bytes, Bytes> rows, boolean keyed, Work work) {
        if (keyed) {
            return rows.process(() -> new ContextualProcessor<Bytes, Bytes, Bytes, Bytes>() {
                @Override
                public void process(Record<Bytes, Bytes> r) {
                    for (var made : work.of(new Row(r.key(), r.value(), r.timestamp(), r.headers()))) {
                        context().forward(r.withKey(made.key).withValue(made.value));
                    }
                }
            }, Named.as(name));
        }
        return rows.processValues(() -> new ContextualFixedKeyProcessor<Bytes, Bytes, Bytes>() {
            @Override
            public void process(FixedKeyRecord<Bytes, Bytes> r) {
                for (var made : work.of(new Row(r.key(), r.value(), r.timestamp(), r.headers()))) {
                    context().forward(r.withValue(made.value));
                }
            }
        }, Named.as(name));
    }

    static Stream selectKey(String name, JsonNode step, Stream given) {
        Stream in = given.asRows();
        if (step.has("key")) return map(name, step, in, true);
        String by = step.get("by").asText();
        var rows = in.rows().selectKey((k, v) -> Parts.select(by, k, v), Named.as(name));
        return Stream.rows(rows, Parts.format(by, in.key(), in.value()), in.value(), in.onCommit());
    }

    static Stream repartition(String name, JsonNode step, Stream given) {
        Stream in = given.asRows();
        Repartitioned<Bytes, Bytes> how = Repartitioned.as(step.path("name").asText(name));
        return Stream.rows(in.rows().repartition(how), in.key(), in.value(), in.onCommit());
    }

    /** A table as a stream, under another key if one is said. */
    static Stream toStream(String name, JsonNode step, Stream in) {
        Stream rows = in.asRows();
        return step.has("key") ? map(name, step, rows, true) : rows;
    }

    static void sink(JsonNode sink, Stream in) {
        if (!sink.has("topic-from")) {
            in.rows().to(sink.get("topic").asText(), Produced.with(Build.BYTES, Build.BYTES));
            return;
        }
        Expression topic = Expression.of(sink.get("topic-from").asText());
        List<String> allowed = Parts.names(sink.get("topics"));
        Row.Formats formats = in.formats();
        in.rows().to((k, v, context) -> {
            String name = String.valueOf(topic.evaluate(formats, new Row(k, v, context.timestamp(), context.headers()), null));
            if (!allowed.contains(name)) throw new IllegalArgumentException("`" + name + "` is none of the topics");
            return name;
        });
    }
}
