package wasmill.bench;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.JoinWindows;
import org.apache.kafka.streams.kstream.Joined;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.StreamJoined;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.WindowStore;

/**
 * The benchmark's jobs on Kafka Streams. Nothing is measured in here: it runs until it is told to stop, and whoever
 * measures watches the topics, the group's offsets and /proc from outside, as for the other programs of the table.
 *
 * <p>Arguments: {@code job=pass|count|window|stream-table|stream-stream in=TOPIC right=TOPIC out=TOPIC
 * window.ms=MS within.ms=MS} and any setting of Kafka Streams as {@code name=value}.
 * Standard output says how long a restore took.
 */
public final class Jobs {
    private static final Serde<byte[]> BYTES = Serdes.ByteArray();
    private static final byte[] LEFT = "{\"left\":\"".getBytes(StandardCharsets.UTF_8);
    private static final byte[] RIGHT = "\",\"right\":\"".getBytes(StandardCharsets.UTF_8);
    private static final byte[] END = "\"}".getBytes(StandardCharsets.UTF_8);

    private Jobs() {}

    public static void main(String[] arguments) throws InterruptedException {
        Map<String, String> words = new HashMap<>();
        Properties settings = new Properties();
        for (String argument : arguments) {
            int at = argument.indexOf('=');
            String name = argument.substring(0, at);
            String value = argument.substring(at + 1);
            switch (name) {
                case "job", "in", "right", "out", "window.ms", "within.ms" -> words.put(name, value);
                default -> settings.put(name, value);
            }
        }
        settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class.getName());
        settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class.getName());
        KafkaStreams streams = new KafkaStreams(topology(words), settings);
        CountDownLatch failed = new CountDownLatch(1);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            failed.countDown();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setGlobalStateRestoreListener(new RestoreClock());
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(60))));
        streams.start();
        failed.await();
        System.exit(1);
    }

    private static Topology topology(Map<String, String> words) {
        StreamsBuilder builder = new StreamsBuilder();
        KStream<byte[], byte[]> in = builder.stream(words.get("in"), Consumed.with(BYTES, BYTES));
        switch (words.get("job")) {
            case "pass" -> in
                .filter((key, value) -> value != null && value.length > 0 && value[0] % 2 == 0)
                .to(words.get("out"), Produced.with(BYTES, BYTES));
            case "count" -> in
                .groupByKey(Grouped.with(BYTES, BYTES))
                .count(Materialized.<byte[], Long, KeyValueStore<Bytes, byte[]>>as("counts"))
                .toStream()
                .to(words.get("out"), Produced.with(BYTES, Serdes.Long()));
            case "window" -> {
                Duration size = Duration.ofMillis(Long.parseLong(words.get("window.ms")));
                in.groupByKey(Grouped.with(BYTES, BYTES))
                    .windowedBy(TimeWindows.ofSizeAndGrace(size, Duration.ofSeconds(10)))
                    .count(Materialized.<byte[], Long, WindowStore<Bytes, byte[]>>as("counts"))
                    .toStream()
                    .to(words.get("out"), Produced.with(
                        new WindowedSerdes.TimeWindowedSerde<>(BYTES, size.toMillis()), Serdes.Long()));
            }
            case "stream-table" -> {
                KTable<byte[], byte[]> right = builder.table(words.get("right"), Consumed.with(BYTES, BYTES),
                    Materialized.<byte[], byte[], KeyValueStore<Bytes, byte[]>>as("right"));
                in.join(right, Jobs::both, Joined.with(BYTES, BYTES, BYTES)).to(words.get("out"), Produced.with(BYTES, BYTES));
            }
            case "stream-stream" -> {
                KStream<byte[], byte[]> right = builder.stream(words.get("right"), Consumed.with(BYTES, BYTES));
                Duration within = Duration.ofMillis(Long.parseLong(words.get("within.ms")));
                in.join(right, Jobs::both, JoinWindows.ofTimeDifferenceWithNoGrace(within),
                        StreamJoined.with(BYTES, BYTES, BYTES).withStoreName("pairs"))
                    .to(words.get("out"), Produced.with(BYTES, BYTES));
            }
            default -> throw new IllegalArgumentException("no job `" + words.get("job") + "`");
        }
        return builder.build();
    }

    /** Both values as JSON; what the benchmark sends has nothing to escape. */
    private static byte[] both(byte[] left, byte[] right) {
        byte[] joined = new byte[LEFT.length + left.length + RIGHT.length + right.length + END.length];
        int at = 0;
        for (byte[] part : new byte[][] {LEFT, left, RIGHT, right, END}) {
            System.arraycopy(part, 0, joined, at, part.length);
            at += part.length;
        }
        return joined;
    }

    /** Prints what restoring all partitions took, from the first that began to the last that ended. */
    private static final class RestoreClock implements StateRestoreListener {
        private final AtomicLong began = new AtomicLong();
        private final AtomicLong records = new AtomicLong();

        @Override
        public void onRestoreStart(TopicPartition partition, String store, long from, long to) {
            began.compareAndSet(0, System.nanoTime());
        }

        @Override
        public void onBatchRestored(TopicPartition partition, String store, long end, long count) {
            records.addAndGet(count);
        }

        @Override
        public void onRestoreEnd(TopicPartition partition, String store, long total) {
            double seconds = (System.nanoTime() - began.get()) / 1e9;
            System.out.printf("restored %d records in %.3f s%n", records.get(), seconds);
            System.out.flush();
        }
    }
}
