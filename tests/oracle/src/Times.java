import com.fasterxml.jackson.databind.JsonNode;
import java.time.Instant;
import java.time.OffsetDateTime;
import java.time.format.DateTimeParseException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.processor.TimestampExtractor;

/** `timestamp` of a source as an extractor. */
final class Times {
    private Times() {}

    static TimestampExtractor extractor(JsonNode said) {
        if (said.isTextual()) {
            return said.asText().equals("wall-clock")
                ? new org.apache.kafka.streams.processor.WallclockTimestampExtractor()
                : (record, partitionTime) -> record.timestamp();
        }
        String field = said.get("field").asText();
        String format = said.path("format").asText("rfc3339");
        String invalid = said.path("invalid").asText("fail");
        return (record, partitionTime) -> {
            long time;
            try {
                time = time(record, field, format);
            } catch (RuntimeException e) {
                time = -1;
            }
            if (time >= 0) return time;
            return switch (invalid) {
                case "partition-time" -> partitionTime;
                case "skip", "dead-letter" -> -1;
                default -> throw new org.apache.kafka.streams.errors.StreamsException("no time in `" + field + "`");
            };
        };
    }

    private static long time(ConsumerRecord<Object, Object> record, String field, String format) {
        JsonNode found = field.equals("value") ? Forms.json((Bytes) record.value())
            : Parts.field(field.substring("value.".length()), Forms.json((Bytes) record.value()));
        return switch (format) {
            case "ms" -> whole(found);
            case "s" -> Math.multiplyExact(whole(found), 1000L);
            case "us" -> Math.floorDiv(whole(found), 1000L);
            case "rfc3339" -> instant(found.textValue()).toEpochMilli();
            default -> throw new PipelineFile.NoCounterpart("times of format `" + format + "`");
        };
    }

    private static long whole(JsonNode found) {
        if (!found.isIntegralNumber()) throw new IllegalArgumentException("no whole number");
        return found.longValue();
    }

    private static Instant instant(String text) throws DateTimeParseException {
        return OffsetDateTime.parse(text).toInstant();
    }
}
