import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.RetriableException;

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
            // read but not committed yet
            List<ConsumerRecord<byte[], byte[]>> pending = new ArrayList<>();
            consumer.subscribe(List.of(topic), new ConsumerRebalanceListener() {
                @Override
                public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
                    // they are read from their commits on
                }

                @Override
                public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
                    // whoever has them next reads what is not committed
                    pending.removeIf(record ->
                        partitions.contains(new TopicPartition(record.topic(), record.partition())));
                }
            });
            while (!isEnded.get()) {
                consumer.poll(POLL).forEach(pending::add);
                if (pending.isEmpty()) {
                    continue;
                }
                try {
                    consumer.commitSync();
                } catch (CommitFailedException | RebalanceInProgressException | RetriableException again) {
                    continue; // not committed, so not shown yet
                }
                for (ConsumerRecord<byte[], byte[]> record : pending) {
                    Driver.answer("record", String.valueOf(record.partition()),
                        String.valueOf(record.offset()), Driver.text(record.value()));
                }
                pending.clear();
            }
        }
        Driver.answer("left");
    }
}
