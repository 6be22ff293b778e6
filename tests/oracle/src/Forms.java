import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Base64;
import org.apache.kafka.common.utils.Bytes;

/** Bytes of keys and values as the case files write them, and back. */
final class Forms {
    static final JsonMapper JSON = JsonMapper.builder()
        .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
        .build();
    static final JsonNode NULL = JsonNodeFactory.instance.nullNode();

    private Forms() {}

    static Bytes encode(String format, JsonNode value) {
        if (value == null || value.isNull() || value.isMissingNode()) return null;
        return switch (format) {
            case "string" -> text(value.isTextual() ? value.textValue() : value.toString());
            case "i64" -> i64(value.longValue());
            case "f64" -> f64(value.doubleValue());
            case "json" -> text(value.toString());
            default -> value.isTextual() ? text(value.textValue())
                : Bytes.wrap(Base64.getDecoder().decode(value.path("base64").textValue()));
        };
    }

    static JsonNode decode(String format, Bytes bytes) {
        if (bytes == null) return NULL;
        JsonNodeFactory make = JsonNodeFactory.instance;
        return switch (format) {
            case "i64" -> make.numberNode(ByteBuffer.wrap(bytes.get()).getLong());
            case "f64" -> make.numberNode(ByteBuffer.wrap(bytes.get()).getDouble());
            case "json" -> json(bytes);
            default -> make.textNode(string(bytes));
        };
    }

    static JsonNode json(Bytes bytes) {
        try {
            JsonNode read = JSON.readTree(bytes.get());
            if (read == null || read.isMissingNode()) throw new IllegalArgumentException("the value is not JSON: empty");
            return read;
        } catch (IOException e) {
            throw new IllegalArgumentException("the value is not JSON: " + e.getMessage());
        }
    }

    static JsonNode line(String text) throws JsonProcessingException {
        return JSON.readTree(text);
    }

    static Bytes text(String text) {
        return Bytes.wrap(text.getBytes(StandardCharsets.UTF_8));
    }

    static String string(Bytes bytes) {
        return new String(bytes.get(), StandardCharsets.UTF_8);
    }

    static Bytes i64(long number) {
        return Bytes.wrap(ByteBuffer.allocate(8).putLong(number).array());
    }

    static Bytes f64(double number) {
        return Bytes.wrap(ByteBuffer.allocate(8).putDouble(number).array());
    }

    /** `1` and `1.0` are one number; everything else as it is written. */
    static boolean same(JsonNode a, JsonNode b) {
        if (a.isNumber() && b.isNumber()) {
            return a.isIntegralNumber() && b.isIntegralNumber()
                ? a.bigIntegerValue().equals(b.bigIntegerValue())
                : a.doubleValue() == b.doubleValue();
        }
        if (a.isObject() && b.isObject()) {
            if (a.size() != b.size()) return false;
            for (var field : a.properties()) {
                JsonNode other = b.get(field.getKey());
                if (other == null || !same(field.getValue(), other)) return false;
            }
            return true;
        }
        if (a.isArray() && b.isArray()) {
            if (a.size() != b.size()) return false;
            for (int i = 0; i < a.size(); i++) if (!same(a.get(i), b.get(i))) return false;
            return true;
        }
        return a.equals(b);
    }
}
