import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.dataformat.toml.TomlMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.regex.Pattern;

/** A pipeline file as a tree; which words it may have is the engine's to check. */
final class PipelineFile {
    private static final Pattern DURATION = Pattern.compile("(\\d+)(ms|s|m|h|d)");
    final JsonNode root;

    PipelineFile(JsonNode root) {
        this.root = root;
    }

    static PipelineFile read(Path path) throws IOException {
        return new PipelineFile(new TomlMapper().readTree(path.toFile()));
    }

    JsonNode sources() {
        return root.path("sources");
    }

    JsonNode steps() {
        return root.path("steps");
    }

    JsonNode sinks() {
        return root.path("sinks");
    }

    long taskIdle() {
        JsonNode said = root.path("max-task-idle");
        if (said.isMissingNode()) return 0;
        return said.asText().equals("never") ? -1 : duration(said).toMillis();
    }

    /** What a step does with a record that fails. */
    String onError(JsonNode step) {
        return step.path("on-error").asText(root.path("defaults").path("on-error").asText("stop"));
    }

    static Duration duration(JsonNode value) {
        if (value.isIntegralNumber()) return Duration.ofMillis(value.longValue());
        var found = DURATION.matcher(value.asText());
        if (!found.matches()) throw new IllegalArgumentException("no duration: " + value);
        long number = Long.parseLong(found.group(1));
        return switch (found.group(2)) {
            case "ms" -> Duration.ofMillis(number);
            case "s" -> Duration.ofSeconds(number);
            case "m" -> Duration.ofMinutes(number);
            case "h" -> Duration.ofHours(number);
            default -> Duration.ofDays(number);
        };
    }

    /** A thing of Wasmill that Kafka Streams has no counterpart of. */
    static final class NoCounterpart extends RuntimeException {
        NoCounterpart(String what) {
            super(what);
        }
    }
}
