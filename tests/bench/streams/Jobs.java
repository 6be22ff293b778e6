package wasmill.bench;

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
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * The benchmark's jobs on Kafka Streams. Nothing is measured in here: it runs until it is told to stop, and whoever
 * measures watches the topics, the group's offsets and /proc from outside, as for the other programs of the table.
 *
 * <p>Arguments: {@code job=pass|count in=TOPIC out=TOPIC} and any setting of Kafka Streams as {@code name=value}.
 * Standard output says how long a restore took.
 */
public final class Jobs {
    private static final Serde<byte[]> BYTES = Serdes.ByteArray();

    private Jobs() {}

    public static void main(String[] arguments) throws InterruptedException {
        Map<String, String> words = new HashMap<>();
        Properties settings = new Properties();
        for (String argument : arguments) {
            int at = argument.indexOf('=');
            String name = argument.substring(0, at);
            String value = argument.substring(at + 1);
            switch (name) {
                case "job", "in", "out" -> words.put(name, value);
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
            default -> throw new IllegalArgumentException("no job `" + words.get("job") + "`");
        }
        return builder.build();
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
