import java.io.BufferedReader;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.RetriableException;

/** Many members of one group in one process; what they do goes to standard output as it happens. */
final class Crowd {
    private final String[] settings;
    private final String topic;
    private final List<Person> people = new ArrayList<>();

    private Crowd(String topic, String[] settings) {
        this.topic = topic;
        this.settings = settings;
    }

    /**
     * Until its input ends: {@code prepare TAG COUNT} makes clients, {@code join} makes members of
     * them, {@code leave} closes them all.
     */
    static void run(String topic, String[] settings) throws Exception {
        Crowd crowd = new Crowd(topic, settings);
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            String[] words = line.split("\t", -1);
            switch (words[0]) {
                case "prepare":
                    crowd.prepare(words[1], Integer.parseInt(words[2]));
                    break;
                case "join":
                    crowd.people.forEach(person -> person.thread.start());
                    break;
                case "leave":
                    crowd.leave();
                    break;
                default:
                    throw new IllegalArgumentException("unknown request " + words[0]);
            }
            log("answer", words[0]);
        }
        crowd.leave();
    }

    private void prepare(String tag, int count) {
        for (int i = 0; i < count; i++) {
            people.add(new Person(tag + "-" + i, topic, Driver.consumer(settings)));
        }
    }

    private void leave() throws InterruptedException {
        people.forEach(person -> person.isLeaving = true);
        for (Person person : people) {
            person.thread.join();
        }
        people.clear();
    }

    // The log: unbuffered, so that what was said stays said when the process is killed

    private static final FileOutputStream OUTPUT = new FileOutputStream(FileDescriptor.out);

    /** One line that begins with the monotonic time, which all processes of a machine share. */
    static void log(String... words) {
        logAll(List.of(line(words)));
    }

    static String line(String... words) {
        return System.nanoTime() + "\t" + String.join("\t", words).replace('\n', ' ') + "\n";
    }

    static synchronized void logAll(List<String> lines) {
        try {
            OUTPUT.write(Driver.bytes(String.join("", lines)));
        } catch (IOException gone) {
            throw new UncheckedIOException(gone); // whoever started this is gone
        }
    }

    /** One member: it logs what it reads, then commits it, then logs the commit. */
    private static final class Person implements ConsumerRebalanceListener {
        private static final Duration POLL = Duration.ofMillis(200);
        private static final Duration COMMIT_LIMIT = Duration.ofSeconds(10);
        private static final Duration REVOKED_COMMIT_LIMIT = Duration.ofSeconds(5);

        final Thread thread = new Thread(this::live);
        volatile boolean isLeaving;
        private final String name;
        private final String topic;
        private final KafkaConsumer<byte[], byte[]> consumer;
        /** Read and not yet known to be committed: the next offset of each partition. */
        private final Map<TopicPartition, OffsetAndMetadata> pending = new HashMap<>();

        Person(String name, String topic, KafkaConsumer<byte[], byte[]> consumer) {
            this.name = name;
            this.topic = topic;
            this.consumer = consumer;
        }

        private void live() {
            try (KafkaConsumer<byte[], byte[]> closed = consumer) {
                consumer.subscribe(List.of(topic), this);
                while (!isLeaving) {
                    read();
                    commit(COMMIT_LIMIT);
                }
            } catch (Throwable problem) {
                log("problem", name, Driver.reason(problem));
            }
            log("closed", name);
        }

        private void read() {
            var records = consumer.poll(POLL);
            List<String> lines = new ArrayList<>();
            for (ConsumerRecord<byte[], byte[]> record : records) {
                lines.add(line("read", name, String.valueOf(record.partition()),
                    String.valueOf(record.offset()), Driver.text(record.value())));
                pending.put(new TopicPartition(record.topic(), record.partition()),
                    new OffsetAndMetadata(record.offset() + 1));
            }
            if (!lines.isEmpty()) {
                logAll(lines);
            }
        }

        /** Commits what is pending; what is not answered well stays so while the partition is ours. */
        private void commit(Duration limit) {
            if (pending.isEmpty()) {
                return;
            }
            String begun = String.valueOf(System.nanoTime());
            try {
                consumer.commitSync(pending, limit);
            } catch (CommitFailedException | RebalanceInProgressException | RetriableException refused) {
                log("refused", name, Driver.reason(refused));
                return;
            }
            List<String> lines = new ArrayList<>();
            pending.forEach((partition, next) -> lines.add(line("commit", name,
                String.valueOf(partition.partition()), String.valueOf(next.offset()), begun)));
            logAll(lines);
            pending.clear();
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            log("assigned", name, numbers(partitions));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            commit(REVOKED_COMMIT_LIMIT);
            pending.keySet().removeAll(partitions);
            log("revoked", name, numbers(partitions));
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            pending.keySet().removeAll(partitions);
            log("lost", name, numbers(partitions));
        }

        private static String numbers(Collection<TopicPartition> partitions) {
            return partitions.stream().map(partition -> String.valueOf(partition.partition()))
                .collect(Collectors.joining(","));
        }
    }
}
