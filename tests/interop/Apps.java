import java.nio.file.Path;
import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KGroupedStream;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.SessionStore;
import org.apache.kafka.streams.state.WindowStore;

/** What ours.toml computes, on Kafka Streams. */
final class Apps {
    static final Duration WINDOW = Duration.ofSeconds(20);
    private static final Serde<String> TEXT = Serdes.String();
    private static final Duration KEPT = Duration.ofDays(1);

    private Apps() {}

    /** {@code id} is that of the application: its group, and the prefix of its internal topics and its outputs. */
    static KafkaStreams start(String brokers, String prefix, String id, Path state) {
        Properties set = new Properties();
        set.put(StreamsConfig.APPLICATION_ID_CONFIG, id);
        set.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
        set.put(StreamsConfig.STATE_DIR_CONFIG, state.toString());
        set.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        set.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        set.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        // What is in the repartition topics is compared.
        set.put(StreamsConfig.REPARTITION_PURGE_INTERVAL_MS_CONFIG, 3_600_000);
        set.put("auto.offset.reset", "earliest");
        KafkaStreams streams = new KafkaStreams(topology(prefix, id), set);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.start();
        return streams;
    }

    private static Topology topology(String prefix, String id) {
        StreamsBuilder builder = new StreamsBuilder();
        KGroupedStream<String, Long> in = builder.stream(prefix + "-in", Consumed.with(TEXT, Serdes.Long()))
            .groupByKey(Grouped.with(TEXT, Serdes.Long()));
        in.count(Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as("counts"))
            .toStream().to(id + "-counts", Produced.with(TEXT, Serdes.Long()));
        in.windowedBy(TimeWindows.ofSizeAndGrace(WINDOW, Duration.ofSeconds(10)).advanceBy(Duration.ofSeconds(10)))
            .count(Materialized.<String, Long, WindowStore<Bytes, byte[]>>as("windows").withRetention(KEPT))
            .toStream().to(id + "-windows", Produced.with(windows(), Serdes.Long()));
        in.windowedBy(SessionWindows.ofInactivityGapAndGrace(Duration.ofSeconds(3), Duration.ofSeconds(10)))
            .count(Materialized.<String, Long, SessionStore<Bytes, byte[]>>as("sessions").withRetention(KEPT))
            .toStream().to(id + "-sessions", Produced.with(new WindowedSerdes.SessionWindowedSerde<>(TEXT), Serdes.Long()));
        builder.table(prefix + "-people", Consumed.with(TEXT, TEXT),
                Materialized.<String, String, KeyValueStore<Bytes, byte[]>>as("people"))
            .groupBy((key, city) -> KeyValue.pair(city, city), Grouped.with("by-city", TEXT, TEXT))
            .count(Materialized.<String, Long, KeyValueStore<Bytes, byte[]>>as("by-city"))
            .toStream().to(id + "-by-city", Produced.with(TEXT, Serdes.Long()));
        return builder.build();
    }

    static WindowedSerdes.TimeWindowedSerde<String> windows() {
        return new WindowedSerdes.TimeWindowedSerde<>(TEXT, WINDOW.toMillis());
    }
}
