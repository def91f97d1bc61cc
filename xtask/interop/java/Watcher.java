import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeoutException;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.DescribeConsumerGroupsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsOptions;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Sends numbered records all the time and says what a group's coordinator says of it. */
final class Watcher {
    private static final int TICKS_PER_SECOND = 10;
    private static final long LOOK_INTERVAL_MS = 200;
    private static final int LOOK_LIMIT_MS = 2_000;
    /** One look of so many is at the committed offsets as well. */
    private static final int OFFSETS_EVERY = 5;

    private static volatile boolean isSending = true;

    /** Until its input ends: {@code now} tells the time, {@code stop} ends the sending. */
    static void run(String group, String topic, int partitions) throws Exception {
        Thread sender = new Thread(() -> send(topic, partitions));
        sender.setDaemon(true);
        sender.start();
        Thread looker = new Thread(() -> look(group));
        looker.setDaemon(true);
        looker.start();
        BufferedReader input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = input.readLine(); line != null; line = input.readLine()) {
            if (line.equals("stop")) {
                isSending = false;
                sender.join();
            }
            Crowd.log("answer", line);
        }
    }

    /** Each partition gets a record a second, whose value is its number in the partition. */
    private static void send(String topic, int partitions) {
        try (KafkaProducer<byte[], byte[]> producer = Driver.producer()) {
            long begun = System.nanoTime();
            for (long tick = 0; isSending; tick++) {
                for (int at = (int) (tick % TICKS_PER_SECOND); at < partitions; at += TICKS_PER_SECOND) {
                    int partition = at;
                    String value = String.valueOf(tick / TICKS_PER_SECOND);
                    producer.send(new ProducerRecord<>(topic, partition, null, Driver.bytes(value)), (sent, problem) -> {
                        if (problem != null) {
                            Crowd.log("problem", "sender", Driver.reason(problem));
                        } else {
                            Crowd.log("sent", String.valueOf(partition), String.valueOf(sent.offset()), value);
                        }
                    });
                }
                long due = begun + (tick + 1) * 1_000_000_000L / TICKS_PER_SECOND;
                Thread.sleep(Math.max(0, (due - System.nanoTime()) / 1_000_000));
            }
        } catch (InterruptedException | RuntimeException problem) {
            Crowd.log("problem", "sender", Driver.reason(problem));
        }
    }

    private static void look(String group) {
        try {
            for (long number = 0; ; number++) {
                state(group);
                if (number % OFFSETS_EVERY == 0) {
                    offsets(group);
                }
                Thread.sleep(LOOK_INTERVAL_MS);
            }
        } catch (InterruptedException | RuntimeException problem) {
            Crowd.log("problem", "watcher", Driver.reason(problem));
        }
    }

    private static void state(String group) throws InterruptedException {
        var options = new DescribeConsumerGroupsOptions().timeoutMs(LOOK_LIMIT_MS);
        try {
            ConsumerGroupDescription found =
                Driver.await(Driver.admin().describeConsumerGroups(List.of(group), options).all()).get(group);
            var coordinator = found.coordinator();
            Crowd.log("group", found.groupState().name(), String.valueOf(found.members().size()),
                String.valueOf(coordinator == null ? -1 : coordinator.id()));
        } catch (InterruptedException over) {
            throw over;
        } catch (Exception unknown) {
            Crowd.log("group", "UNKNOWN", "0", "-1"); // not there yet, or its coordinator is away
        }
    }

    private static void offsets(String group) throws InterruptedException {
        String begun = String.valueOf(System.nanoTime());
        var options = new ListConsumerGroupOffsetsOptions().timeoutMs(LOOK_LIMIT_MS);
        try {
            var found = Driver.await(Driver.admin().listConsumerGroupOffsets(group, options)
                .partitionsToOffsetAndMetadata());
            Crowd.log("seen", begun, found.entrySet().stream()
                .filter(entry -> entry.getValue() != null)
                .map(entry -> entry.getKey().partition() + ":" + entry.getValue().offset())
                .collect(Collectors.joining(",")));
        } catch (InterruptedException over) {
            throw over;
        } catch (ExecutionException | TimeoutException unknown) {
            return; // its coordinator is away
        } catch (Exception problem) {
            Crowd.log("problem", "watcher", Driver.reason(problem));
        }
    }
}
