import com.fasterxml.jackson.databind.JsonNode;
import com.google.protobuf.NullValue;
import dev.cel.common.CelOptions;
import dev.cel.common.types.SimpleType;
import dev.cel.compiler.CelCompiler;
import dev.cel.compiler.CelCompilerFactory;
import dev.cel.extensions.CelExtensions;
import dev.cel.parser.CelStandardMacro;
import dev.cel.runtime.CelRuntime;
import dev.cel.runtime.CelRuntimeFactory;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.utils.Bytes;

/** A condition or value over a record in the Common Expression Language, by Google's own implementation of it. */
final class Expression {
    private static final CelOptions OPTIONS = CelOptions.current().enableHeterogeneousNumericComparisons(true).build();
    private static final CelCompiler COMPILER = CelCompilerFactory.standardCelCompilerBuilder()
        .setOptions(OPTIONS)
        .setStandardMacros(CelStandardMacro.STANDARD_MACROS)
        .addVar("key", SimpleType.DYN)
        .addVar("value", SimpleType.DYN)
        .addVar("timestamp", SimpleType.INT)
        .addVar("headers", SimpleType.DYN)
        .addVar("item", SimpleType.DYN)
        .addLibraries(CelExtensions.strings())
        .build();
    private static final CelRuntime RUNTIME = CelRuntimeFactory.standardCelRuntimeBuilder()
        .setOptions(OPTIONS)
        .addLibraries(CelExtensions.strings())
        .build();
    private static final Map<String, Expression> KNOWN = new HashMap<>();

    private final CelRuntime.Program program;
    /** The Kafka Streams operator itself does not show time and headers to its function. */
    final boolean plain;

    private Expression(String text) {
        try {
            program = RUNTIME.createProgram(COMPILER.compile(text).getAst());
        } catch (Exception e) {
            throw new IllegalArgumentException("`" + text + "`: " + e.getMessage());
        }
        plain = !text.contains("timestamp") && !text.contains("headers");
    }

    static Expression of(String text) {
        return KNOWN.computeIfAbsent(text, Expression::new);
    }

    boolean holds(Row.Formats formats, Row row) {
        Object result = evaluate(formats, row, null);
        if (result instanceof Boolean is) return is;
        throw new IllegalArgumentException("a condition is true or false, not " + result);
    }

    Object evaluate(Row.Formats formats, Row row, Object item) {
        Map<String, Object> variables = new HashMap<>();
        variables.put("key", value(Forms.decode(formats.key(), row.key())));
        variables.put("value", value(Forms.decode(formats.value(), row.value())));
        variables.put("timestamp", row.timestamp());
        Map<String, Object> headers = new LinkedHashMap<>();
        if (row.headers() != null) {
            for (var header : row.headers()) {
                headers.put(header.key(), header.value() == null ? NullValue.NULL_VALUE
                    : Forms.string(Bytes.wrap(header.value())));
            }
        }
        variables.put("headers", headers);
        if (item != null) variables.put("item", item);
        try {
            return program.eval(variables);
        } catch (Exception e) {
            throw new IllegalArgumentException(e.getMessage(), e);
        }
    }

    List<?> list(Row.Formats formats, Row row) {
        Object result = evaluate(formats, row, null);
        if (result instanceof List<?> list) return list;
        throw new IllegalArgumentException("`each` gives a list, not " + result);
    }

    static Object value(JsonNode json) {
        if (json.isNull() || json.isMissingNode()) return NullValue.NULL_VALUE;
        if (json.isBoolean()) return json.booleanValue();
        if (json.isIntegralNumber()) return json.canConvertToLong() ? (Object) json.longValue() : (Object) json.doubleValue();
        if (json.isNumber()) return json.doubleValue();
        if (json.isTextual()) return json.textValue();
        if (json.isArray()) {
            List<Object> list = new ArrayList<>();
            json.forEach(element -> list.add(value(element)));
            return list;
        }
        Map<String, Object> map = new LinkedHashMap<>();
        json.properties().forEach(field -> map.put(field.getKey(), value(field.getValue())));
        return map;
    }

    static JsonNode json(Object value) {
        if (value == null || value instanceof NullValue || value instanceof dev.cel.common.values.NullValue) return Forms.NULL;
        if (value instanceof Map<?, ?> map) {
            var object = Forms.JSON.createObjectNode();
            map.forEach((name, field) -> object.set(String.valueOf(name), json(field)));
            return object;
        }
        if (value instanceof List<?> list) {
            var array = Forms.JSON.createArrayNode();
            list.forEach(element -> array.add(json(element)));
            return array;
        }
        return Forms.JSON.valueToTree(value);
    }
}
