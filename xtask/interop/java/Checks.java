import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.IntStream;
import java.util.stream.LongStream;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.GroupListing;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.NoOffsetForPartitionException;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.GroupSubscribedToTopicException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownMemberIdException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

/** The behaviours of the Java client, each on a topic of its own. */
final class Checks {
    private static final Duration LIMIT = Duration.ofSeconds(Driver.SECONDS_MAX);

    interface Check {
        void run(String topic) throws Exception;
    }

    static void runAll(String prefix) {
        int number = 0;
        for (Map.Entry<String, Check> entry : all().entrySet()) {
            try {
                entry.getValue().run(prefix + "-" + number++);
                Driver.answer("passed", entry.getKey());
            } catch (Throwable problem) {
                Driver.answer("failed", entry.getKey(), Driver.reason(problem));
            }
        }
    }

    private static Map<String, Check> all() {
        Map<String, Check> all = new LinkedHashMap<>();
        all.put("describe cluster", Checks::describeCluster);
        all.put("create, list and describe a topic", Checks::createListDescribe);
        all.put("creating a topic twice is refused", Checks::createTwice);
        all.put("unknown and bad configs are refused", Checks::badConfigs);
        all.put("bad names, counts and factors are refused", Checks::badTopics);
        all.put("validate-only creates nothing", Checks::validateOnly);
        all.put("partitions with replicas given by hand", Checks::assignedReplicas);
        all.put("100 topics in one request", Checks::manyTopics);
        all.put("create partitions", Checks::createPartitions);
        all.put("describe configs", Checks::describeConfigs);
        all.put("alter configs, and they are enforced", Checks::alterConfigs);
        all.put("idempotent producer", Checks::idempotent);
        all.put("acks 0, 1 and all", Checks::acks);
        all.put("50 partitions at once", Checks::manyPartitions);
        all.put("read from beginning, middle and end", Checks::positions);
        all.put("offsets for times", Checks::offsetsForTimes);
        all.put("list offsets", Checks::listOffsets);
        all.put("delete records", Checks::deleteRecords);
        all.put("offset out of range is reported", Checks::outOfRange);
        all.put("record over max.message.bytes is refused", Checks::tooLarge);
        all.put("a batch over max.message.bytes is split", Checks::splitBatch);
        all.put("unknown topic is reported, not created", Checks::unknownTopic);
        all.put("producing to a new topic creates it", Checks::autoCreate);
        all.put("a waiting fetch is woken by a record", Checks::longPoll);
        all.put("delete a topic and create it again", Checks::deleteTopic);
        for (String protocol : List.of("classic", "consumer")) {
            all.put("list and describe groups, " + protocol, topic -> describeGroup(topic, protocol));
            all.put("delete groups, but none with members, " + protocol, topic -> deleteGroup(topic, protocol));
        }
        all.put("set and delete a group's offsets", Checks::groupOffsets);
        return all;
    }

    // Helpers

    private static void create(String topic, int partitions, String... configs) throws Exception {
        create(topic, partitions, false, configs);
    }

    private static void create(String topic, int partitions, boolean validateOnly, String... configs)
        throws Exception {
        Map<String, String> map = new HashMap<>();
        for (int i = 0; i < configs.length; i += 2) {
            map.put(configs[i], configs[i + 1]);
        }
        NewTopic wanted = new NewTopic(topic, Optional.of(partitions), Optional.empty()).configs(map);
        CreateTopicsOptions options = new CreateTopicsOptions().validateOnly(validateOnly);
        Driver.await(Driver.admin().createTopics(List.of(wanted), options).all());
        if (!validateOnly) {
            until(() -> isListed(topic), "the new topic in the list");
        }
    }

    private static void check(boolean fact, String otherwise) {
        if (!fact) {
            throw new AssertionError(otherwise);
        }
    }

    private static void equal(Object found, Object expected, String what) {
        check(Objects.equals(found, expected), what + " is " + found + ", not " + expected);
    }

    /** Waits for a condition that metadata may show a little late. */
    private static void until(Callable<Boolean> condition, String what) throws Exception {
        long deadline = System.nanoTime() + LIMIT.toNanos();
        while (!condition.call()) {
            check(System.nanoTime() < deadline, "never seen: " + what);
            Thread.sleep(50);
        }
    }

    private static void refused(Class<? extends Throwable> kind, Check action) {
        try {
            action.run(null);
        } catch (Throwable problem) {
            Throwable cause = problem instanceof ExecutionException ? problem.getCause() : problem;
            check(kind.isInstance(cause), "refused with " + cause);
            return;
        }
        throw new AssertionError("was not refused with " + kind.getSimpleName());
    }

    private static List<Long> send(String topic, int partition, byte[] value, String... settings)
        throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = Driver.producer(settings)) {
            return Driver.sendAll(producer,
                List.of(new ProducerRecord<byte[], byte[]>(topic, partition, null, value)).iterator());
        }
    }

    /** A topic of `count` records `record I`, one second apart when baseMs is given. */
    private static void fill(String topic, int count, Long baseMs, String... settings) throws Exception {
        create(topic, 1);
        try (KafkaProducer<byte[], byte[]> producer = Driver.producer(settings)) {
            List<Long> offsets = Driver.sendAll(producer, IntStream.range(0, count)
                .mapToObj(i -> new ProducerRecord<byte[], byte[]>(topic, 0,
                    baseMs == null ? null : Long.valueOf(baseMs + 1000L * i), null,
                    Driver.bytes("record " + i)))
                .iterator());
            equal(offsets, LongStream.range(0, count).boxed().toList(), "offsets");
        }
    }

    private static String firstValue(KafkaConsumer<byte[], byte[]> consumer, Duration limit) {
        long deadline = System.nanoTime() + limit.toNanos();
        while (System.nanoTime() < deadline) {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                return Driver.text(record.value());
            }
        }
        return null;
    }

    private static String valueAt(String topic, long offset, String... settings) {
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = Driver.consumer(settings)) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, offset);
            return firstValue(consumer, LIMIT);
        }
    }

    private static TopicDescription describe(String topic) throws Exception {
        return Driver.await(Driver.admin().describeTopics(List.of(topic)).allTopicNames()).get(topic);
    }

    private static boolean isListed(String topic) throws Exception {
        return Driver.await(Driver.admin().listTopics().names()).contains(topic);
    }

    private static Config configs(String topic) throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        return Driver.await(Driver.admin().describeConfigs(List.of(resource)).all()).get(resource);
    }

    // Behaviours

    private static void describeCluster(String topic) throws Exception {
        var cluster = Driver.admin().describeCluster();
        check(!Driver.await(cluster.clusterId()).isEmpty(), "no cluster id");
        var nodes = Driver.await(cluster.nodes());
        equal(nodes.size(), Driver.nodes(), "nodes");
        for (var node : nodes) {
            check((Driver.bootstrap + ",").contains(":" + node.port() + ","), "node at " + node);
        }
        check(Driver.await(cluster.controller()) != null, "no controller");
    }

    private static void createListDescribe(String topic) throws Exception {
        create(topic, 3, "retention.ms", "86400000", "max.message.bytes", "2000000");
        TopicDescription found = describe(topic);
        equal(found.partitions().stream().map(p -> p.partition()).toList(), List.of(0, 1, 2), "partitions");
        until(() -> describe(topic).partitions().stream()
            .allMatch(p -> p.leader() != null && p.isr().size() == Driver.nodes()), "every replica in sync");
        check(!found.topicId().equals(Uuid.ZERO_UUID), "no topic id");
        try (KafkaConsumer<byte[], byte[]> consumer = Driver.consumer()) {
            equal(consumer.partitionsFor(topic, LIMIT).size(), 3, "partitionsFor");
        }
    }

    private static void createTwice(String topic) throws Exception {
        create(topic, 1);
        refused(TopicExistsException.class, x -> create(topic, 1));
    }

    private static void badConfigs(String topic) {
        refused(InvalidConfigurationException.class, x -> create(topic, 1, "no.such.config", "1"));
        refused(InvalidConfigurationException.class, x -> create(topic, 1, "retention.ms", "soon"));
    }

    private static void badTopics(String topic) {
        refused(InvalidTopicException.class, x -> create(topic + " with blanks", 1));
        refused(InvalidPartitionsException.class, x -> create(topic, 0));
        refused(InvalidReplicationFactorException.class, x -> Driver.await(
            Driver.admin().createTopics(List.of(new NewTopic(topic, 1, (short) 7))).all()));
    }

    private static void validateOnly(String topic) throws Exception {
        create(topic, 1, true);
        check(!isListed(topic), "topic was created");
    }

    private static void assignedReplicas(String topic) throws Exception {
        int node = Driver.await(Driver.admin().describeCluster().nodes()).iterator().next().id();
        NewTopic wanted = new NewTopic(topic, Map.of(0, List.of(node), 1, List.of(node)));
        Driver.await(Driver.admin().createTopics(List.of(wanted)).all());
        until(() -> isListed(topic), "topic in the list");
        equal(describe(topic).partitions().size(), 2, "partitions");
    }

    private static void manyTopics(String topic) throws Exception {
        List<NewTopic> wanted = IntStream.range(0, 100)
            .mapToObj(i -> new NewTopic(topic + "-" + i, Optional.of(1), Optional.empty())).toList();
        Driver.await(Driver.admin().createTopics(wanted).all());
        Driver.await(Driver.admin().deleteTopics(wanted.stream().map(NewTopic::name).toList()).all());
    }

    private static void createPartitions(String topic) throws Exception {
        create(topic, 2);
        Driver.await(Driver.admin().createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all());
        until(() -> describe(topic).partitions().size() == 5, "five partitions");
        equal(send(topic, 4, Driver.bytes("x")), List.of(0L), "offsets");
        refused(InvalidPartitionsException.class, x -> Driver.await(
            Driver.admin().createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all()));
    }

    private static void describeConfigs(String topic) throws Exception {
        create(topic, 1, "retention.ms", "86400000");
        Config found = configs(topic);
        equal(found.get("retention.ms").value(), "86400000", "retention.ms");
        check(!found.get("retention.ms").isDefault(), "retention.ms is said to be a default");
        equal(found.get("max.message.bytes").value(), "1048588", "max.message.bytes");
        check(found.get("max.message.bytes").isDefault(), "max.message.bytes is not said to be a default");
        check(found.get("cleanup.policy") != null, "cleanup.policy is missing");
    }

    private static void alter(String topic, String name, String value, AlterConfigOp.OpType operation)
        throws Exception {
        var change = new AlterConfigOp(new ConfigEntry(name, value), operation);
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Driver.await(Driver.admin().incrementalAlterConfigs(Map.of(resource, List.of(change))).all());
    }

    private static void alterConfigs(String topic) throws Exception {
        create(topic, 1);
        alter(topic, "max.message.bytes", "5000", AlterConfigOp.OpType.SET);
        until(() -> configs(topic).get("max.message.bytes").value().equals("5000"), "the new value");
        refused(RecordTooLargeException.class, x -> send(topic, 0, new byte[10_000]));
        alter(topic, "max.message.bytes", null, AlterConfigOp.OpType.DELETE);
        until(() -> configs(topic).get("max.message.bytes").isDefault(), "the default again");
        equal(send(topic, 0, new byte[10_000]), List.of(0L), "offsets");
        refused(InvalidConfigurationException.class, x -> alter(topic, "no.such", "1", AlterConfigOp.OpType.SET));
    }

    private static void idempotent(String topic) throws Exception {
        fill(topic, 20_000, null, "linger.ms", "0", "batch.size", "1000");
        List<String> values = new ArrayList<>();
        Driver.readWhole(topic, record -> values.add(Driver.text(record.value())));
        equal(values, IntStream.range(0, 20_000).mapToObj(i -> "record " + i).toList(), "records");
    }

    private static void acks(String topic) throws Exception {
        create(topic, 1);
        for (String acks : List.of("0", "1", "all")) {
            for (int i = 0; i < 10; i++) {
                send(topic, 0, Driver.bytes(acks), "acks", acks, "enable.idempotence", "false");
            }
        }
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = Driver.consumer()) {
            until(() -> consumer.endOffsets(List.of(partition), LIMIT).get(partition) == 30, "30 records");
        }
    }

    private static void manyPartitions(String topic) throws Exception {
        create(topic, 50);
        List<TopicPartition> partitions = new ArrayList<>();
        Map<Integer, List<String>> sent = new TreeMap<>();
        try (KafkaProducer<byte[], byte[]> producer = Driver.producer()) {
            List<Future<?>> answers = new ArrayList<>();
            for (int p = 0; p < 50; p++) {
                partitions.add(new TopicPartition(topic, p));
                for (int i = 0; i < 20; i++) {
                    String value = p + " " + i;
                    sent.computeIfAbsent(p, x -> new ArrayList<>()).add(value);
                    answers.add(producer.send(new ProducerRecord<>(topic, p, null, Driver.bytes(value))));
                }
            }
            for (Future<?> answer : answers) {
                Driver.await(answer);
            }
        }
        Map<Integer, List<String>> found = new TreeMap<>();
        try (KafkaConsumer<byte[], byte[]> consumer = Driver.consumer()) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            int[] count = {0};
            until(() -> {
                for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(500))) {
                    found.computeIfAbsent(record.partition(), x -> new ArrayList<>())
                        .add(Driver.text(record.value()));
                    count[0]++;
                }
                return count[0] >= 1000;
            }, "1000 records");
        }
        equal(found, sent, "records");
    }

    private static void positions(String topic) throws Exception {
        fill(topic, 1000, null);
        equal(valueAt(topic, 0), "record 0", "at 0");
        equal(valueAt(topic, 501), "record 501", "at 501");
        equal(valueAt(topic, 999), "record 999", "at 999");
        equal(valueAt(topic, 501, "isolation.level", "read_committed"), "record 501", "committed at 501");
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = Driver.consumer()) {
            consumer.assign(List.of(partition));
            consumer.seekToEnd(List.of(partition));
            equal(consumer.position(partition, LIMIT), 1000L, "end");
            equal(firstValue(consumer, Duration.ofSeconds(1)), null, "at the end");
            consumer.seekToBeginning(List.of(partition));
            equal(firstValue(consumer, LIMIT), "record 0", "at the beginning");
        }
    }

    private static void offsetsForTimes(String topic) throws Exception {
        long base = System.currentTimeMillis() - 3_600_000;
        fill(topic, 1000, base, "compression.type", "lz4");
        TopicPartition partition = new TopicPartition(topic, 0);
        Map<Long, Long> wanted = new LinkedHashMap<>();
        wanted.put(base - 5, 0L);
        wanted.put(base, 0L);
        wanted.put(base + 500_000, 500L);
        wanted.put(base + 500_001, 501L);
        wanted.put(base + 10_000_000, null);
        try (KafkaConsumer<byte[], byte[]> consumer = Driver.consumer()) {
            for (Map.Entry<Long, Long> entry : wanted.entrySet()) {
                var found = consumer.offsetsForTimes(Map.of(partition, entry.getKey()), LIMIT).get(partition);
                equal(found == null ? null : found.offset(), entry.getValue(), "offset " + (entry.getKey() - base));
                if (found != null) {
                    equal(found.timestamp(), base + 1000 * entry.getValue(), "timestamp");
                }
            }
        }
        equal(valueAt(topic, 500), "record 500", "at the time");
    }

    private static void listOffsets(String topic) throws Exception {
        long base = System.currentTimeMillis() - 3_600_000;
        fill(topic, 100, base);
        equal(listed(topic, OffsetSpec.earliest(), IsolationLevel.READ_UNCOMMITTED), 0L, "earliest");
        equal(listed(topic, OffsetSpec.latest(), IsolationLevel.READ_UNCOMMITTED), 100L, "latest");
        equal(listed(topic, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED), 100L, "latest committed");
        equal(listed(topic, OffsetSpec.maxTimestamp(), IsolationLevel.READ_UNCOMMITTED), 99L, "max timestamp");
        equal(listed(topic, OffsetSpec.earliestLocal(), IsolationLevel.READ_UNCOMMITTED), 0L, "earliest local");
        equal(listed(topic, OffsetSpec.latestTiered(), IsolationLevel.READ_UNCOMMITTED), -1L, "latest tiered");
        equal(listed(topic, OffsetSpec.forTimestamp(base + 41_500), IsolationLevel.READ_UNCOMMITTED), 42L, "by time");
        equal(listed(topic, OffsetSpec.forTimestamp(base + 10_000_000), IsolationLevel.READ_UNCOMMITTED), -1L,
            "after the last");
    }

    private static long listed(String topic, OffsetSpec spec, IsolationLevel level) throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        return Driver.await(Driver.admin()
            .listOffsets(Map.of(partition, spec), new ListOffsetsOptions(level))
            .partitionResult(partition)).offset();
    }

    private static void deleteRecords(String topic) throws Exception {
        fill(topic, 100, null);
        TopicPartition partition = new TopicPartition(topic, 0);
        equal(deleteBefore(partition, 40), 40L, "low watermark");
        equal(valueAt(topic, 0, "auto.offset.reset", "earliest"), "record 40", "first record");
        try (KafkaConsumer<byte[], byte[]> consumer = Driver.consumer()) {
            equal(consumer.beginningOffsets(List.of(partition), LIMIT).get(partition), 40L, "beginning");
            equal(consumer.endOffsets(List.of(partition), LIMIT).get(partition), 100L, "end");
        }
        refused(org.apache.kafka.common.errors.OffsetOutOfRangeException.class, x -> deleteBefore(partition, 101));
        equal(deleteBefore(partition, -1), 100L, "low watermark after deleting all");
    }

    private static long deleteBefore(TopicPartition partition, long offset) throws Exception {
        return Driver.await(Driver.admin()
            .deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(offset)))
            .lowWatermarks().get(partition)).lowWatermark();
    }

    private static void outOfRange(String topic) throws Exception {
        fill(topic, 10, null);
        refused(OffsetOutOfRangeException.class, x -> valueAt(topic, 1000));
        equal(valueAt(topic, 1000, "auto.offset.reset", "earliest"), "record 0", "after a reset");
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = Driver.consumer()) {
            consumer.assign(List.of(partition));
            refused(NoOffsetForPartitionException.class, x -> consumer.poll(LIMIT));
        }
    }

    private static void tooLarge(String topic) throws Exception {
        create(topic, 1);
        refused(RecordTooLargeException.class,
            x -> send(topic, 0, new byte[1024 * 1024], "max.request.size", "3000000"));
        equal(send(topic, 0, new byte[1024 * 1024 - 200], "max.request.size", "3000000"), List.of(0L), "offsets");
    }

    private static void splitBatch(String topic) throws Exception {
        create(topic, 1, "max.message.bytes", "10000");
        try (KafkaProducer<byte[], byte[]> producer = Driver.producer("linger.ms", "200", "batch.size", "200000")) {
            List<Long> offsets = Driver.sendAll(producer, IntStream.range(0, 100)
                .mapToObj(i -> new ProducerRecord<byte[], byte[]>(topic, 0, null, Driver.bytes(i + "x".repeat(1000))))
                .iterator());
            equal(offsets, LongStream.range(0, 100).boxed().toList(), "offsets");
        }
    }

    private static void unknownTopic(String topic) throws Exception {
        refused(UnknownTopicOrPartitionException.class, x -> describe(topic));
        refused(UnknownTopicOrPartitionException.class,
            x -> Driver.await(Driver.admin().deleteTopics(List.of(topic)).all()));
        try (KafkaConsumer<byte[], byte[]> consumer = Driver.consumer()) {
            equal(consumer.partitionsFor(topic, LIMIT), List.of(), "partitions");
        }
        check(!isListed(topic), "asking created the topic");
    }

    private static void autoCreate(String topic) throws Exception {
        equal(send(topic, 0, Driver.bytes("first")), List.of(0L), "offsets");
        equal(valueAt(topic, 0), "first", "value");
    }

    private static void longPoll(String topic) throws Exception {
        create(topic, 1);
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = Driver.consumer("fetch.max.wait.ms", "20000");
            KafkaProducer<byte[], byte[]> producer = Driver.producer("linger.ms", "0")) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 0);
            equal(firstValue(consumer, Duration.ofSeconds(2)), null, "first poll");
            long sent = System.nanoTime();
            Driver.await(producer.send(new ProducerRecord<>(topic, 0, null, Driver.bytes("wake up"))));
            equal(firstValue(consumer, Duration.ofSeconds(15)), "wake up", "record");
            check(System.nanoTime() - sent < 10_000_000_000L, "woken late");
        }
    }

    private static void deleteTopic(String topic) throws Exception {
        fill(topic, 10, null);
        Uuid old = describe(topic).topicId();
        Driver.await(Driver.admin().deleteTopics(List.of(topic)).all());
        until(() -> !isListed(topic), "deletion");
        fill(topic, 5, null);
        check(!describe(topic).topicId().equals(old), "the topic id was used again");
        equal(valueAt(topic, 4), "record 4", "last record");
    }

    // Groups

    /** A member with all partitions of a topic, which has read nothing yet. */
    private static KafkaConsumer<byte[], byte[]> member(String group, String topic, String protocol)
        throws Exception {
        KafkaConsumer<byte[], byte[]> member = Driver.consumer("group.id", group, "group.protocol", protocol,
            "auto.offset.reset", "earliest", "enable.auto.commit", "false", "client.id", "someone");
        member.subscribe(List.of(topic));
        long deadline = System.nanoTime() + LIMIT.toNanos();
        while (member.assignment().isEmpty()) {
            member.poll(Duration.ofMillis(100));
            check(System.nanoTime() < deadline, "the member gets no partition");
        }
        return member;
    }

    private static ConsumerGroupDescription describeGroup(String group) throws Exception {
        return Driver.await(Driver.admin().describeConsumerGroups(List.of(group)).all()).get(group);
    }

    private static boolean isGroupListed(String group, ListGroupsOptions options) throws Exception {
        return Driver.await(Driver.admin().listGroups(options).all()).stream()
            .map(GroupListing::groupId).anyMatch(group::equals);
    }

    private static void describeGroup(String topic, String protocol) throws Exception {
        create(topic, 2);
        String group = topic + "-group";
        GroupType type = GroupType.parse(protocol);
        GroupType otherType = type == GroupType.CLASSIC ? GroupType.CONSUMER : GroupType.CLASSIC;
        try (KafkaConsumer<byte[], byte[]> member = member(group, topic, protocol)) {
            until(() -> {
                member.poll(Duration.ofMillis(10));
                return describeGroup(group).groupState() == GroupState.STABLE;
            }, "a stable group");
            ConsumerGroupDescription found = describeGroup(group);
            equal(found.type(), type, "type");
            equal(found.members().size(), 1, "members");
            var only = found.members().iterator().next();
            equal(only.clientId(), "someone", "client id");
            equal(only.assignment().topicPartitions().size(), 2, "assigned partitions");
            check(isGroupListed(group, new ListGroupsOptions().withTypes(java.util.Set.of(type))), "not listed by type");
            check(isGroupListed(group, new ListGroupsOptions().inGroupStates(java.util.Set.of(GroupState.STABLE))),
                "not listed by state");
            check(!isGroupListed(group, new ListGroupsOptions().withTypes(java.util.Set.of(otherType))),
                "listed with another type");
        }
        until(() -> describeGroup(group).groupState() == GroupState.EMPTY, "an empty group");
        refused(GroupIdNotFoundException.class, x -> describeGroup(group + "-unknown"));
    }

    private static void deleteGroup(String topic, String protocol) throws Exception {
        create(topic, 1);
        String group = topic + "-group";
        Check delete = x -> Driver.await(Driver.admin().deleteConsumerGroups(List.of(group)).all());
        TopicPartition partition = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> member = member(group, topic, protocol)) {
            member.commitSync(Map.of(partition, new OffsetAndMetadata(0)), LIMIT);
            refused(GroupNotEmptyException.class, delete);
            refused(GroupSubscribedToTopicException.class, x -> deleteOffsets(group, partition));
            refused(UnknownMemberIdException.class, x -> setOffsets(group, Map.of(partition, 0L)));
        }
        until(() -> describeGroup(group).groupState() == GroupState.EMPTY, "an empty group");
        delete.run(null);
        until(() -> !isGroupListed(group, new ListGroupsOptions()), "no such group in the list");
        refused(GroupIdNotFoundException.class, delete);
    }

    private static void setOffsets(String group, Map<TopicPartition, Long> offsets) throws Exception {
        Map<TopicPartition, OffsetAndMetadata> wanted = new HashMap<>();
        offsets.forEach((partition, offset) -> wanted.put(partition, new OffsetAndMetadata(offset, "by hand")));
        Driver.await(Driver.admin().alterConsumerGroupOffsets(group, wanted).all());
    }

    private static void deleteOffsets(String group, TopicPartition partition) throws Exception {
        Driver.await(Driver.admin().deleteConsumerGroupOffsets(group, java.util.Set.of(partition)).all());
    }

    private static Map<TopicPartition, Long> offsets(String group) throws Exception {
        Map<TopicPartition, Long> found = new HashMap<>();
        Driver.await(Driver.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata())
            .forEach((partition, committed) -> found.put(partition, committed.offset()));
        return found;
    }

    private static void groupOffsets(String topic) throws Exception {
        create(topic, 2);
        send(topic, 0, Driver.bytes("first"));
        send(topic, 0, Driver.bytes("second"));
        String group = topic + "-group";
        TopicPartition first = new TopicPartition(topic, 0);
        TopicPartition second = new TopicPartition(topic, 1);
        setOffsets(group, Map.of(first, 2L, second, 7L));
        equal(offsets(group), Map.of(first, 2L, second, 7L), "offsets");
        setOffsets(group, Map.of(first, 1L));
        deleteOffsets(group, second);
        equal(offsets(group), Map.of(first, 1L), "offsets after one was deleted");
        try (KafkaConsumer<byte[], byte[]> member = Driver.consumer("group.id", group,
            "group.protocol", "classic", "enable.auto.commit", "false")) {
            member.assign(List.of(first));
            equal(firstValue(member, LIMIT), "second", "what a member reads from there");
        }
    }
}
