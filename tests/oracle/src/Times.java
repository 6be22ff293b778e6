import com.fasterxml.jackson.databind.JsonNode;
import java.time.OffsetDateTime;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.errors.StreamsException;
import org.apache.kafka.streams.processor.TimestampExtractor;

/** `timestamp` of a source as an extractor. */
final class Times {
    /** Kafka Streams' own extractor reads the machine's clock, and a case has one of its own. */
    static long wall;

    private Times() {}

    static TimestampExtractor extractor(JsonNode said, Row.Formats formats) {
        if (said.isTextual()) {
            return said.asText().equals("wall-clock")
                ? (record, partitionTime) -> wall
                : (record, partitionTime) -> record.timestamp();
        }
        boolean own = !said.has("field") && !said.has("expression");
        String invalid = said.path("invalid").asText(own ? "skip" : "fail");
        return (record, partitionTime) -> {
            long time;
            String why = "it is negative";
            try {
                time = own ? record.timestamp() : time(record, said, formats);
            } catch (RuntimeException e) {
                time = -1;
                why = String.valueOf(e.getMessage());
            }
            if (time >= 0) return time;
            switch (invalid) {
                case "skip":
                    return -1;
                case "dead-letter":
                    Failures.letters++;
                    return -1;
                case "partition-time":
                    if (partitionTime >= 0) return partitionTime;
                    throw new StreamsException("no time before this one: " + why);
                default:
                    throw new StreamsException("no time: " + why);
            }
        };
    }

    private static long time(ConsumerRecord<Object, Object> record, JsonNode said, Row.Formats formats) {
        JsonNode found = found(record, said, formats);
        String format = said.path("format").asText(found.isTextual() ? "rfc3339" : "ms");
        return switch (format) {
            case "ms" -> whole(found);
            case "s" -> Math.multiplyExact(whole(found), 1000L);
            case "rfc3339" -> OffsetDateTime.parse(found.textValue()).toInstant().toEpochMilli();
            default -> throw new IllegalArgumentException("times of format `" + format + "`");
        };
    }

    private static JsonNode found(ConsumerRecord<Object, Object> record, JsonNode said, Row.Formats formats) {
        Bytes key = (Bytes) record.key();
        Bytes value = (Bytes) record.value();
        if (said.has("expression")) {
            Row row = new Row(key, value, record.timestamp(), record.headers());
            return Expression.json(Expression.of(said.get("expression").asText()).evaluate(formats, row, null));
        }
        String part = said.get("field").asText();
        if (Parts.isField(part)) {
            return value == null ? Forms.NULL : Parts.field(part.substring("value.".length()), Forms.json(value));
        }
        String format = Parts.format(part, formats.key(), formats.value());
        JsonNode found = Forms.decode(format, part.equals("key") ? key : value);
        return found.isTextual() && found.textValue().matches("-?\\d+")
            ? Forms.JSON.getNodeFactory().numberNode(Long.parseLong(found.textValue())) : found;
    }

    private static long whole(JsonNode found) {
        if (!found.isIntegralNumber()) throw new IllegalArgumentException("no whole number");
        return found.longValue();
    }
}
