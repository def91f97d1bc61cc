"""kafka-python behind the line protocol of ../README.md."""

import time

import kafka
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.admin import ConfigResource
from kafka.structs import OffsetAndMetadata

import line

# Sent but not yet answered records.
IN_FLIGHT_MAX = 5_000


def raise_for(kinds):
    for kind in kinds:
        if kind is not errors.NoError:
            raise kind()


class Client:
    HAS_NULL_HEADERS = False

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.kept = None

    def admin(self):
        self.kept = self.kept or KafkaAdminClient(bootstrap_servers=self.bootstrap)
        return self.kept

    def close(self):
        if self.kept:
            self.kept.close()

    def consumer(self, **settings):
        defaults = {"auto_offset_reset": "none", "enable_auto_commit": False}
        return KafkaConsumer(bootstrap_servers=self.bootstrap, **(defaults | settings))

    def version(self):
        return f"kafka-python {kafka.__version__}"

    def create(self, topic, partitions, configs):
        self.admin().create_topics({topic: {"num_partitions": partitions, "configs": configs}})

    def delete(self, topic):
        self.admin().delete_topics([topic])

    def topics(self):
        return self.admin().list_topics()

    def cluster(self):
        found = self.admin().describe_cluster()
        ports = [broker["port"] for broker in found["brokers"]]
        return found["cluster_id"], found["controller_id"], ports

    def config(self, topic, name):
        asked = ConfigResource("TOPIC", topic)
        found = self.admin().describe_configs([asked], config_filter="all")
        return found["topic"][topic][name]["value"]

    def set_config(self, topic, name, value):
        change = ConfigResource("TOPIC", topic, {name: value})
        found = self.admin().alter_configs([change], raise_on_unknown=False)["topic"][topic]
        # What was refused comes back as text or as an error.
        if isinstance(found, Exception):
            raise found
        if "InvalidConfiguration" in str(found):
            raise errors.InvalidConfigurationError(found)

    def grow(self, topic, partitions):
        self.admin().create_partitions({topic: partitions})

    def trim(self, topic, offset):
        self.admin().delete_records({TopicPartition(topic, 0): offset})

    def bounds(self, topic, partition):
        asked = TopicPartition(topic, partition)
        with self.consumer(allow_auto_create_topics=False) as reader:
            if not reader.partitions_for_topic(topic):
                raise errors.UnknownTopicOrPartitionError(topic)
            limit = 1000 * line.SECONDS_MAX
            start = reader.beginning_offsets([asked], timeout_ms=limit)[asked]
            return start, reader.end_offsets([asked], timeout_ms=limit)[asked]

    def at_time(self, topic, when_ms):
        asked = TopicPartition(topic, 0)
        with self.consumer() as reader:
            found = reader.offsets_for_times({asked: when_ms})[asked]
            return -1 if found is None else found.offset

    def send(self, topic, partition, records, codec="none", acks="all", idempotent=False):
        sender = KafkaProducer(
            bootstrap_servers=self.bootstrap,
            acks=acks if acks == "all" else int(acks),
            enable_idempotence=idempotent,
            compression_type=None if codec == "none" else codec,
            linger_ms=5,
            batch_size=262_144,
            max_request_size=1_900_000,
        )
        offsets, sent = [], []

        def collect():
            sender.flush(timeout=10 * line.SECONDS_MAX)
            offsets.extend(future.get(timeout=line.SECONDS_MAX).offset for future in sent)
            sent.clear()

        try:
            for record in records:
                sent.append(sender.send(topic, partition=partition, **record))
                if len(sent) == IN_FLIGHT_MAX:
                    collect()
            collect()
        finally:
            sender.close(timeout=line.SECONDS_MAX)
        return offsets

    def read(self, topic, partition, start, end, rack=None, node=None):
        settings = {"client_rack": rack} if rack else {}
        with self.consumer(max_poll_records=10_000, **settings) as reader:
            asked = TopicPartition(topic, partition)
            reader.assign([asked])
            reader.seek(asked, start)
            due, deadline = start, time.monotonic() + line.SECONDS_MAX
            while due < end:
                found = reader.poll(timeout_ms=1000).get(asked, [])
                if found:
                    deadline = time.monotonic() + line.SECONDS_MAX
                assert time.monotonic() < deadline, f"read up to offset {due} of {end}"
                for record in found[: end - due]:
                    yield record
                    due += 1

    def groups(self):
        return [found["group_id"] for found in self.admin().list_groups()]

    def group_state(self, group):
        found = self.admin().describe_groups([group])[group]
        return found["group_state"], len(found["members"])

    def group_offset(self, group, topic):
        asked = TopicPartition(topic, 0)
        found = self.admin().list_group_offsets({group: [asked]})[group]
        return found[asked].offset if asked in found else -1

    def set_group_offset(self, group, topic, offset):
        wanted = {TopicPartition(topic, 0): OffsetAndMetadata(offset, "", -1)}
        raise_for(self.admin().alter_group_offsets(group, wanted).values())

    def delete_group_offset(self, group, topic):
        raise_for(self.admin().delete_group_offsets(group, [TopicPartition(topic, 0)]).values())

    def delete_group(self, group):
        found = self.admin().delete_groups([group])[group]
        if found != "OK":
            raise getattr(errors, found)(group)

    def member(self, group, topic, protocol, stop):
        if protocol != "classic":
            raise line.Unable("kafka-python has the classic protocol only")
        reader = self.consumer(
            group_id=group,
            auto_offset_reset="earliest",
            session_timeout_ms=6000,
            heartbeat_interval_ms=1000,
        )
        reader.subscribe([topic])
        while not stop.is_set():
            found = reader.poll(timeout_ms=200)
            if not found:
                continue
            try:
                reader.commit()
            except errors.CommitFailedError:
                continue  # not committed, so not shown: whoever has them next reads them
            for records in found.values():
                for record in records:
                    line.show_record(record.partition, record.offset, record.value)
        reader.close(autocommit=False)


if __name__ == "__main__":
    line.main(Client)
