import java.util.HashMap;
import java.util.Map;
import org.apache.kafka.streams.errors.ErrorHandlerContext;
import org.apache.kafka.streams.errors.ProcessingExceptionHandler;
import org.apache.kafka.streams.processor.api.Record;

/** What a pipeline says with `on-error`: go on without the record, or stop. Processors are named as their steps. */
public final class Failures implements ProcessingExceptionHandler {
    private static final Map<String, String> POLICY = new HashMap<>();
    static int letters;

    static void begin(PipelineFile file) {
        POLICY.clear();
        letters = 0;
        file.steps().properties().forEach(step -> POLICY.put(step.getKey(), file.onError(step.getValue())));
    }

    @Override
    public Response handleError(ErrorHandlerContext context, Record<?, ?> record, Exception e) {
        String node = String.valueOf(context.processorNodeId());
        String best = "";
        for (String step : POLICY.keySet()) if (node.startsWith(step) && step.length() > best.length()) best = step;
        switch (POLICY.getOrDefault(best, "stop")) {
            case "skip":
                return Response.resume();
            case "dead-letter":
                letters++;
                return Response.resume();
            default:
                return Response.fail();
        }
    }

    @Override
    public void configure(Map<String, ?> settings) {}
}
