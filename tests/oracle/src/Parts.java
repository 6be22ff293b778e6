import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import org.apache.kafka.common.utils.Bytes;

/** Parts of a row, and conditions on it, as `pipeline.toml` writes them. */
final class Parts {
    private Parts() {}

    /** `key`, `value` or `value.FIELD`; a text of JSON gives its characters, another field its JSON text. */
    static Bytes select(String part, Bytes key, Bytes value) {
        if (part.equals("key")) return key;
        if (part.equals("value")) return value;
        if (value == null) return null;
        JsonNode field = field(part.substring("value.".length()), Forms.json(value));
        if (field.isNull()) return null;
        return Forms.text(field.isTextual() ? field.textValue() : field.toString());
    }

    static JsonNode field(String path, JsonNode value) {
        for (String name : path.split("\\.")) value = value.path(name);
        return value.isMissingNode() ? Forms.NULL : value;
    }

    static boolean isField(String part) {
        return part.startsWith("value.");
    }

    static String format(String part, String key, String value) {
        return part.equals("key") ? key : part.equals("value") ? value : "string";
    }

    static boolean holds(JsonNode branch, Row.Formats formats, Row row) {
        if (branch.has("where")) return Expression.of(branch.get("where").asText()).holds(formats, row);
        String of = branch.get("of").asText();
        if (branch.has("exists")) return select(of, row.key(), row.value()) != null;
        if (branch.has("starts-with")) {
            Bytes found = select(of, row.key(), row.value());
            return found != null && Forms.string(found).startsWith(branch.get("starts-with").asText());
        }
        JsonNode equals = branch.get("equals");
        if (isField(of)) {
            if (row.value() == null) return equals.isNull();
            return Forms.same(field(of.substring("value.".length()), Forms.json(row.value())), equals);
        }
        Bytes found = select(of, row.key(), row.value());
        if (found == null) return equals.isNull();
        return Forms.same(Forms.decode(format(of, formats.key(), formats.value()), found), equals);
    }

    static List<String> names(JsonNode list) {
        List<String> names = new ArrayList<>();
        if (list.isTextual()) names.add(list.asText());
        for (JsonNode name : list) names.add(name.asText());
        return names;
    }
}
