import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.RebalanceInProgressException;

/** A member of a group until standard input ends: it commits what it read, then shows it. */
final class Member {
    private static final Duration POLL = Duration.ofMillis(200);

    static void run(String group, String topic, String protocol) {
        AtomicBoolean isEnded = new AtomicBoolean();
        Thread watcher = new Thread(() -> {
            try {
                System.in.readAllBytes();
            } catch (IOException gone) {
                // whoever started this is gone, which ends it too
            }
            isEnded.set(true);
        });
        watcher.setDaemon(true);
        watcher.start();
        List<String> settings = new ArrayList<>(List.of(
            "group.id", group, "group.protocol", protocol, "auto.offset.reset", "earliest",
            "enable.auto.commit", "false"));
        if (protocol.equals("classic")) {
            settings.addAll(List.of("session.timeout.ms", "6000", "heartbeat.interval.ms", "1000"));
        }
        try (KafkaConsumer<byte[], byte[]> consumer = Driver.consumer(settings.toArray(String[]::new))) {
            consumer.subscribe(List.of(topic));
            while (!isEnded.get()) {
                var records = consumer.poll(POLL);
                if (records.isEmpty()) {
                    continue;
                }
                try {
                    consumer.commitSync();
                } catch (CommitFailedException | RebalanceInProgressException lost) {
                    continue; // not committed, so not shown: whoever has them next reads them
                }
                for (ConsumerRecord<byte[], byte[]> record : records) {
                    Driver.answer("record", String.valueOf(record.partition()),
                        String.valueOf(record.offset()), Driver.text(record.value()));
                }
            }
        }
        Driver.answer("left");
    }
}
