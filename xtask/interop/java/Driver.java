import java.io.BufferedInputStream;
import java.io.BufferedReader;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.FileInputStream;
import java.io.InputStreamReader;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Iterator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** The Java client behind the line protocol of ../README.md. */
public final class Driver {
    static final long SECONDS_MAX = 30; // of any single request
    /** For a topic to be created while nodes are away. */
    private static final long PATIENCE_SECONDS = 100;
    private static final int LINES = 210;
    /** Sent but not yet answered records, so that a long file does not hold its futures. */
    private static final int IN_FLIGHT_MAX = 10_000;

    static String bootstrap;
    private static Admin admin;

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        if (arguments.length > 1) {
            playRole(arguments);
            return;
        }
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.split("\t", -1);
            try {
                String found = run(words);
                answer(found == null ? new String[] {"ok"} : new String[] {"ok", found});
            } catch (Throwable problem) {
                answer("error", reason(problem));
            }
        }
        if (admin != null) {
            admin.close(Duration.ofSeconds(1));
        }
    }

    /** What is not behind the line protocol: the second argument says which role it is. */
    private static void playRole(String[] arguments) throws Exception {
        switch (arguments[1]) {
            case "member":
                Member.run(arguments[2], arguments[3], arguments[4]);
                break;
            case "crowd":
                Crowd.run(arguments[2], Arrays.copyOfRange(arguments, 3, arguments.length));
                break;
            case "watcher":
                Watcher.run(arguments[2], arguments[3], Integer.parseInt(arguments[4]));
                break;
            default:
                throw new IllegalArgumentException("unknown role " + arguments[1]);
        }
    }

    private static String run(String[] words) throws Exception {
        switch (words[0]) {
            case "version":
                return "kafka-clients " + clientVersion() + ", Java " + System.getProperty("java.version");
            case "create":
                create(words);
                return null;
            case "delete":
                await(admin().deleteTopics(List.of(words[1])).all());
                return null;
            case "produce":
                return String.valueOf(produce(words[1], words[2], words[3]));
            case "digest":
                return digest(words[1], null, null);
            case "digest-of":
                return digest(words[1], words[2], words[3]);
            case "produce-lines":
                return String.valueOf(produceLines(words[1], Long.parseLong(words[2])));
            case "lines":
                return lines(words[1]);
            case "checks":
                Checks.runAll(words[1]);
                return null;
            default:
                throw new IllegalArgumentException("unknown request " + words[0]);
        }
    }

    /** Creates a topic though nodes may be away: tries again what may pass. */
    private static void create(String[] words) throws Exception {
        NewTopic topic = new NewTopic(words[1], Optional.of(Integer.parseInt(words[2])), Optional.empty());
        Map<String, String> configs = new java.util.HashMap<>();
        for (int i = 3; i < words.length; i++) {
            String[] entry = words[i].split("=", 2);
            configs.put(entry[0], entry[1]);
        }
        long begun = System.nanoTime();
        for (boolean again = false; ; again = true) {
            Throwable problem;
            try {
                await(admin().createTopics(List.of(topic.configs(configs))).all());
                return;
            } catch (TimeoutException late) {
                problem = late;
            } catch (ExecutionException failed) {
                problem = failed.getCause();
            }
            if (again && problem instanceof TopicExistsException) {
                return; // an earlier try did it, though its answer was lost
            }
            boolean passes = problem instanceof RetriableException || problem instanceof TimeoutException
                // fewer nodes than replicas are known to live
                || problem instanceof InvalidReplicationFactorException;
            if (!passes || System.nanoTime() - begun > PATIENCE_SECONDS * 1_000_000_000L) {
                throw new ExecutionException(problem);
            }
            Thread.sleep(200);
        }
    }

    private static String clientVersion() throws Exception {
        Properties facts = new Properties();
        try (var file = Driver.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            facts.load(file);
        }
        return facts.getProperty("version");
    }

    static void answer(String... words) {
        System.out.println(String.join("\t", words).replace('\n', ' '));
        System.out.flush();
    }

    static String reason(Throwable problem) {
        Throwable cause = problem instanceof ExecutionException && problem.getCause() != null
            ? problem.getCause() : problem;
        return cause.getClass().getSimpleName() + ": " + cause.getMessage();
    }

    // Clients

    static Admin admin() {
        if (admin == null) {
            admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        }
        return admin;
    }

    static <T> T await(Future<T> future) throws Exception {
        return future.get(SECONDS_MAX, TimeUnit.SECONDS);
    }

    /** How many nodes there are: every one of them is in the bootstrap addresses. */
    static int nodes() {
        return bootstrap.split(",").length;
    }

    /** A producer with the client's defaults (idempotence on, acks=all) and the given settings. */
    static KafkaProducer<byte[], byte[]> producer(String... settings) {
        return new KafkaProducer<>(
            properties(settings), new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(String... settings) {
        Properties properties = properties(settings);
        properties.putIfAbsent("auto.offset.reset", "none");
        properties.putIfAbsent("allow.auto.create.topics", "false");
        properties.putIfAbsent("max.poll.records", "10000");
        return new KafkaConsumer<>(properties, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static Properties properties(String... settings) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        for (int i = 0; i < settings.length; i += 2) {
            properties.put(settings[i], settings[i + 1]);
        }
        return properties;
    }

    /** Sends everything and returns the offsets in the order of the records. */
    static List<Long> sendAll(
        KafkaProducer<byte[], byte[]> producer, Iterator<ProducerRecord<byte[], byte[]>> records)
        throws Exception {
        List<Long> offsets = new ArrayList<>();
        ArrayList<Future<RecordMetadata>> sent = new ArrayList<>();
        while (records.hasNext()) {
            sent.add(producer.send(records.next()));
            if (sent.size() >= IN_FLIGHT_MAX || !records.hasNext()) {
                producer.flush();
                for (Future<RecordMetadata> future : sent) {
                    offsets.add(await(future).offset());
                }
                sent.clear();
            }
        }
        return offsets;
    }

    /** Reads partition 0 from its first offset to its end and insists on offsets without gaps. */
    static void readWhole(String topic, RecordSink sink) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            readWhole(consumer, topic, sink);
        }
    }

    private static void readWhole(KafkaConsumer<byte[], byte[]> consumer, String topic, RecordSink sink)
        throws Exception {
        TopicPartition partition = new TopicPartition(topic, 0);
        {
            Duration limit = Duration.ofSeconds(SECONDS_MAX);
            long next = consumer.beginningOffsets(List.of(partition), limit).get(partition);
            long end = consumer.endOffsets(List.of(partition), limit).get(partition);
            consumer.assign(List.of(partition));
            consumer.seek(partition, next);
            long quietSince = System.nanoTime();
            while (next < end) {
                var batch = consumer.poll(Duration.ofSeconds(1));
                if (!batch.isEmpty()) {
                    quietSince = System.nanoTime();
                } else if (System.nanoTime() - quietSince > SECONDS_MAX * 1_000_000_000L) {
                    throw new IllegalStateException("read up to offset " + next + " of " + end);
                }
                for (ConsumerRecord<byte[], byte[]> record : batch) {
                    if (record.offset() != next) {
                        throw new IllegalStateException(
                            "offset " + record.offset() + " came where " + next + " was due");
                    }
                    sink.take(record);
                    next++;
                }
            }
        }
    }

    interface RecordSink {
        void take(ConsumerRecord<byte[], byte[]> record) throws Exception;
    }

    // Record files

    private static long produce(String topic, String codec, String file) throws Exception {
        try (RecordFile records = new RecordFile(topic, file);
            KafkaProducer<byte[], byte[]> producer = producer(
                "compression.type", codec, "linger.ms", "5", "batch.size", "262144",
                "max.request.size", "2000000")) {
            List<Long> offsets = sendAll(producer, records);
            for (int due = 0; due < offsets.size(); due++) {
                // a batch that was there already when it was sent again may come without its offset
                if (offsets.get(due) != due && offsets.get(due) != -1) {
                    throw new IllegalStateException("offset " + offsets.get(due) + " where " + due + " was due");
                }
            }
            return offsets.size();
        }
    }

    /** The records of a file, read as they are asked for. */
    private static final class RecordFile implements Iterator<ProducerRecord<byte[], byte[]>>, AutoCloseable {
        private final String topic;
        private final DataInputStream file;
        private int length;

        RecordFile(String topic, String path) throws Exception {
            this.topic = topic;
            this.file = new DataInputStream(new BufferedInputStream(new FileInputStream(path), 1 << 20));
            readLength();
        }

        private void readLength() throws java.io.IOException {
            try {
                length = file.readInt();
            } catch (EOFException end) {
                length = -1;
            }
        }

        @Override
        public boolean hasNext() {
            return length >= 0;
        }

        @Override
        public ProducerRecord<byte[], byte[]> next() {
            byte[] value = new byte[length];
            try {
                file.readFully(value);
                readLength();
            } catch (java.io.IOException problem) {
                throw new java.io.UncheckedIOException(problem);
            }
            return new ProducerRecord<>(topic, 0, null, value);
        }

        @Override
        public void close() throws java.io.IOException {
            file.close();
        }
    }

    /** Reads from the replica on a node, which is in a rack of its own, when these are given. */
    private static String digest(String topic, String node, String rack) throws Exception {
        MessageDigest sha = MessageDigest.getInstance("SHA-256");
        long[] count = {0};
        ByteBuffer length = ByteBuffer.allocate(4);
        String[] settings = rack == null ? new String[0] : new String[] {"client.rack", rack};
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(settings)) {
            readWhole(consumer, topic, record -> {
                byte[] value = record.value() == null ? new byte[0] : record.value();
                sha.update(length.clear().putInt(value.length).flip());
                sha.update(value);
                count[0]++;
            });
            if (node != null) {
                mustHaveReadFrom(consumer, node);
            }
        }
        return count[0] + "\t" + hex(sha);
    }

    private static void mustHaveReadFrom(KafkaConsumer<byte[], byte[]> consumer, String node) {
        double here = 0;
        double elsewhere = 0;
        for (var metric : consumer.metrics().values()) {
            if (metric.metricName().name().equals("incoming-byte-total")) {
                String from = metric.metricName().tags().get("node-id");
                double bytes = ((Number) metric.metricValue()).doubleValue();
                if (("node-" + node).equals(from)) {
                    here += bytes;
                } else if (from != null) {
                    elsewhere += bytes;
                }
            }
        }
        if (here <= elsewhere) {
            throw new IllegalStateException(
                here + " bytes came from node " + node + " and " + elsewhere + " from others");
        }
    }

    private static String hex(MessageDigest sha) {
        return HexFormat.of().formatHex(sha.digest());
    }

    // Small records

    private static int produceLines(String topic, long baseMs) throws Exception {
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < LINES; i++) {
            byte[] key = i % 5 == 0 ? null : bytes("key-" + i % 17);
            byte[] value = i % 7 == 0 ? null : i % 7 == 1 ? new byte[0] : bytes("value " + i);
            var record = new ProducerRecord<>(topic, 0, baseMs + 1000L * i, key, value);
            if (i % 3 == 1) {
                record.headers().add("h", bytes(String.valueOf(i)));
            } else if (i % 3 == 2) {
                record.headers().add("h", bytes("a")).add("h", bytes("b")).add("n", null);
            }
            records.add(record);
        }
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            return sendAll(producer, records.iterator()).size();
        }
    }

    private static String lines(String topic) throws Exception {
        MessageDigest plain = MessageDigest.getInstance("SHA-256");
        MessageDigest timed = MessageDigest.getInstance("SHA-256");
        long[] count = {0};
        readWhole(topic, record -> {
            List<String> headers = new ArrayList<>();
            for (Header header : record.headers()) {
                headers.add(header.key() + "=" + (header.value() == null ? "NULL" : text(header.value())));
            }
            String rest = sized(record.key()) + " " + sized(record.value()) + " "
                + String.join(",", headers) + "\n";
            plain.update(bytes(record.offset() + " " + rest));
            timed.update(bytes(record.offset() + " " + record.timestamp() + " " + rest));
            count[0]++;
        });
        return count[0] + "\t" + hex(plain) + "\t" + hex(timed);
    }

    private static String sized(byte[] bytes) {
        return bytes == null ? "-1 " : bytes.length + " " + text(bytes);
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return new String(bytes, StandardCharsets.UTF_8);
    }
}
