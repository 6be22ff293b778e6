import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.streams.KafkaStreams;

/**
 * The Java side of run.sh: inputs, Kafka Streams applications, and the comparison of what they and Wasmill wrote.
 *
 * <p>Arguments: brokers, prefix of the topics, then a command with its words.
 */
public final class Interop {
    static final int PARTITIONS = 4;
    private static final Duration WAIT_MAX = Duration.ofMinutes(2);

    private final String brokers;
    private final String prefix;
    private final Admin admin;

    private Interop(String brokers, String prefix) {
        this.brokers = brokers;
        this.prefix = prefix;
        this.admin = Admin.create(Map.of("bootstrap.servers", brokers));
    }

    public static void main(String[] words) throws Exception {
        Interop interop = new Interop(words[0], words[1]);
        switch (words[2]) {
            case "topics" -> interop.topics();
            case "produce" -> interop.produce(Long.parseLong(words[3]), Integer.parseInt(words[4]));
            case "streams" -> interop.streams(words[3], Path.of(words[4]));
            case "wait" -> interop.settled(words[3], List.of(words).subList(4, words.length));
            case "free" -> interop.free(words[3]);
            case "compare" -> new Compare(interop.brokers, interop.prefix).all();
            case "back" -> new Compare(interop.brokers, interop.prefix).back();
            default -> throw new IllegalArgumentException(words[2]);
        }
        System.exit(0);
    }

    private void topics() throws Exception {
        List<NewTopic> topics = new ArrayList<>();
        for (String name : List.of("in", "people", "back-windows", "back-counts", "back-sessions")) topics.add(topic(name));
        for (String app : List.of("ours", "java")) {
            for (String name : Compare.OUTPUTS) topics.add(topic(app + "-" + name));
        }
        admin.createTopics(topics).all().get();
    }

    private NewTopic topic(String name) {
        return new NewTopic(prefix + "-" + name, PARTITIONS, (short) 1);
    }

    /** A round of records from {@code base} on: out of order, some too late, null keys and values, equal times. */
    private void produce(long base, int round) throws Exception {
        Random random = new Random(round);
        try (var producer = new KafkaProducer<>(Map.of("bootstrap.servers", brokers), new ByteArraySerializer(), new ByteArraySerializer())) {
            long time = base + round * 60_000L;
            for (int i = 0; i < 400; i++) {
                time += random.nextInt(3) == 0 ? 0 : random.nextInt(300);
                long at = random.nextInt(4) == 0 ? Math.max(base, time - random.nextInt(40_000)) : time;
                byte[] key = random.nextInt(20) == 0 ? null : text("key-" + random.nextInt(12));
                byte[] value = random.nextInt(15) == 0 ? null : ByteBuffer.allocate(8).putLong(i).array();
                // Null keys are spread as it comes; here all go to one partition, for both sides read the same anyway.
                producer.send(new ProducerRecord<>(prefix + "-in", key == null ? 0 : null, at, key, value)).get();
                byte[] city = random.nextInt(6) == 0 ? null : text("city-" + random.nextInt(4));
                producer.send(new ProducerRecord<>(prefix + "-people", null, at, text("person-" + random.nextInt(30)), city)).get();
            }
        }
    }

    private static byte[] text(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    /** Runs the application until it has worked off what there is. */
    private void streams(String id, Path state) throws Exception {
        KafkaStreams streams = Apps.start(brokers, prefix, id, state);
        settled(id, List.of(prefix + "-in", prefix + "-people"));
        if (streams.state() != KafkaStreams.State.RUNNING) throw new IllegalStateException(id + " is " + streams.state());
        if (!streams.close(WAIT_MAX)) throw new IllegalStateException(id + " does not close");
    }

    /** Waits until a group has committed all of its inputs and no topic grows any more. */
    private void settled(String group, List<String> inputs) throws Exception {
        List<TopicPartition> partitions = inputs.stream().flatMap(Interop::partitions).toList();
        long since = System.nanoTime();
        Map<TopicPartition, Long> before = Map.of();
        long quiet = System.nanoTime();
        while (true) {
            if (System.nanoTime() - since > WAIT_MAX.toNanos()) {
                throw new IllegalStateException(group + " does not get through its inputs: " + behind(group, partitions));
            }
            Map<TopicPartition, Long> now = ends(all());
            if (!now.equals(before) || !behind(group, partitions).isEmpty()) quiet = System.nanoTime();
            before = now;
            if (System.nanoTime() - quiet > 2_000_000_000L) return;
            Thread.sleep(100);
        }
    }

    static Stream<TopicPartition> partitions(String topic) {
        return java.util.stream.IntStream.range(0, PARTITIONS).mapToObj(p -> new TopicPartition(topic, p));
    }

    private List<TopicPartition> all() throws Exception {
        var names = admin.listTopics().names().get().stream().filter(name -> name.startsWith(prefix + "-")).toList();
        List<TopicPartition> all = new ArrayList<>();
        admin.describeTopics(names).allTopicNames().get().values().forEach(topic ->
            topic.partitions().forEach(p -> all.add(new TopicPartition(topic.name(), p.partition()))));
        return all;
    }

    private Map<TopicPartition, Long> ends(List<TopicPartition> partitions) throws Exception {
        Map<TopicPartition, OffsetSpec> asked = new TreeMap<>(java.util.Comparator.comparing(TopicPartition::toString));
        partitions.forEach(p -> asked.put(p, OffsetSpec.latest()));
        Map<TopicPartition, Long> ends = new java.util.HashMap<>();
        for (Map.Entry<TopicPartition, ListOffsetsResultInfo> end : admin.listOffsets(asked).all().get().entrySet()) {
            ends.put(end.getKey(), end.getValue().offset());
        }
        return ends;
    }

    /** Input partitions that the group has not committed to their ends, with its positions. */
    private Map<TopicPartition, Long> behind(String group, List<TopicPartition> partitions) throws Exception {
        var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        Map<TopicPartition, Long> behind = new java.util.HashMap<>();
        ends(partitions).forEach((partition, end) -> {
            var at = committed.get(partition);
            long offset = at == null ? 0 : at.offset();
            if (offset < end) behind.put(partition, offset);
        });
        return behind;
    }

    /** A node that was stopped stays a static member until its session ends; who takes over does not wait for that. */
    private void free(String group) throws Exception {
        // It may have ended by now.
        if (admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().isEmpty()) return;
        admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all().get();
    }
}
