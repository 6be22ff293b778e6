import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.kstream.WindowedSerdes;

/** Topics that Wasmill wrote beside those that Kafka Streams wrote. */
final class Compare {
    static final List<String> OUTPUTS = List.of("counts", "windows", "sessions", "by-city");
    private static final HexFormat HEX = HexFormat.of();

    private final String brokers;
    private final String prefix;

    Compare(String brokers, String prefix) {
        this.brokers = brokers;
        this.prefix = prefix;
    }

    /** Outputs record for record, changelogs key for key, a repartition topic as a heap. */
    void all() {
        for (String output : List.of("counts", "windows", "sessions")) {
            int rows = same(output, rows(name("ours", output)), rows(name("java", output)));
            System.out.printf("%-22s %6d records, each as Kafka Streams wrote it, in its partition and order%n", output, rows);
        }
        // Its rows come from four tasks, in no order between them.
        System.out.printf("%-22s %6d keys, the last value of each%n", "by-city", same("by-city",
            last(name("ours", "by-city"), false), last(name("java", "by-city"), false)));
        for (String store : List.of("people", "counts", "windows", "sessions", "by-city")) {
            // A session's time is its end with us; Kafka Streams sends the time of the record that changed it, and
            // reads neither back.
            boolean times = !store.equals("sessions");
            String topic = store + "-changelog";
            System.out.printf("%-22s %6d keys%n", topic, same(topic, last(name("ours", topic), times), last(name("java", topic), times)));
        }
        List<String> ours = heap(name("ours", "by-city-repartition"));
        System.out.printf("%-22s %6d changes (KIP-904)%n", "by-city-repartition",
            same("by-city-repartition", ours, heap(name("java", "by-city-repartition"))));
        windows();
    }

    /** Wasmill's windows as an application in Java reads them. */
    private void windows() {
        var keys = Apps.windows().deserializer();
        long found = 0;
        for (ConsumerRecord<byte[], byte[]> row : read(name("ours", "windows"))) {
            Windowed<String> key = keys.deserialize(row.topic(), row.key());
            long count = Serdes.Long().deserializer().deserialize(row.topic(), row.value());
            if (!key.key().startsWith("key-") || key.window().start() % 10_000 != 0 || count < 1) {
                throw new IllegalStateException("no window of ours: " + key + " = " + count);
            }
            found++;
        }
        var sessions = new WindowedSerdes.SessionWindowedSerde<>(Serdes.String()).deserializer();
        for (ConsumerRecord<byte[], byte[]> row : read(name("ours", "sessions"))) {
            Windowed<String> key = sessions.deserialize(row.topic(), row.key());
            if (!key.key().startsWith("key-") || key.window().end() < key.window().start()) {
                throw new IllegalStateException("no session of ours: " + key);
            }
            found++;
        }
        System.out.printf("%-22s %6d read with Kafka Streams' serdes%n", "windowed keys", found);
    }

    /** What the pipeline `back` made of what Kafka Streams wrote. */
    void back() {
        for (String output : List.of("windows", "counts")) {
            Map<String, String> theirs = last(name("java", output), false);
            Map<String, String> met = last(name("back", output), false);
            for (Map.Entry<String, String> key : theirs.entrySet()) {
                long count = Long.parseUnsignedLong(key.getValue(), 16);
                String wanted = HEX.formatHex(("{\"left\":" + count + ",\"right\":" + count + "}").getBytes());
                if (!wanted.equals(met.get(key.getKey()))) {
                    throw new IllegalStateException(output + ": " + key.getKey() + " is " + count + " there, and here " + met.get(key.getKey()));
                }
            }
            if (met.size() != theirs.size()) throw new IllegalStateException(output + ": " + met.size() + " keys of " + theirs.size());
            System.out.printf("%-22s %6d keys of Kafka Streams met ours%n", "back-" + output, met.size());
        }
        int rows = same("back-sessions", rows(name("back", "sessions")), rows(name("java", "sessions")));
        System.out.printf("%-22s %6d records went through%n", "back-sessions", rows);
    }

    private String name(String app, String topic) {
        return prefix + "-" + app + "-" + topic;
    }

    private static int same(String what, List<String> ours, List<String> theirs) {
        for (int i = 0; i < Math.max(ours.size(), theirs.size()); i++) {
            String a = i < ours.size() ? ours.get(i) : "nothing";
            String b = i < theirs.size() ? theirs.get(i) : "nothing";
            if (!a.equals(b)) throw new IllegalStateException(what + ", row " + i + ": Wasmill " + a + ", Kafka Streams " + b);
        }
        return some(what, ours.size());
    }

    private static int same(String what, Map<String, String> ours, Map<String, String> theirs) {
        return same(what, ours.entrySet().stream().map(Object::toString).toList(),
            theirs.entrySet().stream().map(Object::toString).toList());
    }

    private static int some(String what, int count) {
        if (count == 0) throw new IllegalStateException(what + ": there is nothing to compare");
        return count;
    }

    private static String row(ConsumerRecord<byte[], byte[]> row, boolean times) {
        String value = row.value() == null ? "null" : HEX.formatHex(row.value());
        return times ? value + " at " + row.timestamp() : value;
    }

    private static String key(ConsumerRecord<byte[], byte[]> row) {
        return row.partition() + ":" + (row.key() == null ? "null" : HEX.formatHex(row.key()));
    }

    private List<String> rows(String topic) {
        return read(topic).stream().map(row -> key(row) + " = " + row(row, true)).toList();
    }

    private List<String> heap(String topic) {
        return rows(topic).stream().sorted().toList();
    }

    /** The last value of each key that was not deleted. */
    private Map<String, String> last(String topic, boolean times) {
        Map<String, String> last = new TreeMap<>();
        for (ConsumerRecord<byte[], byte[]> row : read(topic)) {
            if (row.value() == null) last.remove(key(row)); else last.put(key(row), row(row, times));
        }
        return last;
    }

    /** Committed records, partition by partition. */
    private List<ConsumerRecord<byte[], byte[]>> read(String topic) {
        List<ConsumerRecord<byte[], byte[]>> rows = new ArrayList<>();
        Map<String, Object> set = Map.of("bootstrap.servers", brokers, "isolation.level", "read_committed");
        try (var consumer = new KafkaConsumer<>(set, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            for (TopicPartition partition : Interop.partitions(topic).toList()) {
                consumer.assign(List.of(partition));
                consumer.seekToBeginning(List.of(partition));
                long end = consumer.endOffsets(List.of(partition)).get(partition);
                while (consumer.position(partition) < end) {
                    consumer.poll(java.time.Duration.ofMillis(100)).forEach(rows::add);
                }
            }
        }
        return rows;
    }
}
