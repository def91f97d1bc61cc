"""aiokafka behind the line protocol of ../README.md."""

import asyncio
import time

import aiokafka
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, errors
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

import line

# Sent but not yet answered records.
IN_FLIGHT_MAX = 5_000


def raise_for(code, message):
    if code:
        raise errors.for_code(code)(message)


class Client:
    HAS_NULL_HEADERS = True

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.loop = asyncio.new_event_loop()

    def run(self, work):
        return self.loop.run_until_complete(work)

    def close(self):
        self.loop.close()

    def admin(self, action):
        async def act():
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            try:
                return await asyncio.wait_for(action(admin), line.SECONDS_MAX)
            finally:
                await admin.close()

        return self.run(act())

    def with_consumer(self, action):
        async def act():
            reader = self.consumer()
            await reader.start()
            try:
                return await asyncio.wait_for(action(reader), line.SECONDS_MAX)
            finally:
                await reader.stop()

        return self.run(act())

    def consumer(self, **settings):
        defaults = {"auto_offset_reset": "none", "enable_auto_commit": False}
        return AIOKafkaConsumer(bootstrap_servers=self.bootstrap, **(defaults | settings))

    def version(self):
        return f"aiokafka {aiokafka.__version__}"

    def create(self, topic, partitions, configs):
        try:
            # It insists on a number of replicas: as many as there are nodes.
            new = NewTopic(topic, partitions, len(self.bootstrap), topic_configs=configs)
        except errors.IllegalArgumentError as problem:
            raise line.Unable(f"aiokafka itself refuses: {problem}") from problem
        found = self.admin(lambda admin: admin.create_topics([new]))
        for _, code, *message in found.topic_errors:
            raise_for(code, *message)

    def delete(self, topic):
        found = self.admin(lambda admin: admin.delete_topics([topic]))
        for _, code in found.topic_error_codes:
            raise_for(code, topic)

    def topics(self):
        return self.admin(lambda admin: admin.list_topics())

    def cluster(self):
        found = self.admin(lambda admin: admin.describe_cluster())
        ports = [broker["port"] for broker in found["brokers"]]
        return found["cluster_id"], found["controller_id"], ports

    def config(self, topic, name):
        asked = ConfigResource(ConfigResourceType.TOPIC, topic)
        for found in self.admin(lambda admin: admin.describe_configs([asked])):
            for code, message, _, _, entries in found.resources:
                raise_for(code, message)
                return {entry[0]: entry[1] for entry in entries}[name]

    def set_config(self, topic, name, value):
        change = ConfigResource(ConfigResourceType.TOPIC, topic, {name: value})
        try:
            found = self.admin(lambda admin: admin.alter_configs([change]))
        except errors.IncompatibleBrokerVersion as problem:
            why = "aiokafka has only AlterConfigs (key 33), which the node does not offer"
            raise line.Unable(why) from problem
        for one in found:
            for code, message, *_ in one.resources:
                raise_for(code, message)

    def grow(self, topic, partitions):
        wanted = {topic: NewPartitions(partitions)}
        self.admin(lambda admin: admin.create_partitions(wanted))

    def trim(self, topic, offset):
        wanted = {TopicPartition(topic, 0): RecordsToDelete(offset)}
        self.admin(lambda admin: admin.delete_records(wanted))

    def bounds(self, topic, partition):
        asked = TopicPartition(topic, partition)

        async def both(reader):
            # Offsets of a topic that it does not know would be asked for until time runs out.
            if topic not in await reader.topics():
                raise errors.UnknownTopicOrPartitionError(topic)
            start = (await reader.beginning_offsets([asked]))[asked]
            return start, (await reader.end_offsets([asked]))[asked]

        return self.with_consumer(both)

    def at_time(self, topic, when_ms):
        asked = TopicPartition(topic, 0)

        async def ask(reader):
            found = (await reader.offsets_for_times({asked: when_ms}))[asked]
            return -1 if found is None else found.offset

        return self.with_consumer(ask)

    def send(self, topic, partition, records, codec="none", acks="all", idempotent=False):
        async def act():
            sender = AIOKafkaProducer(
                bootstrap_servers=self.bootstrap,
                acks=acks if acks == "all" else int(acks),
                enable_idempotence=idempotent,
                compression_type=None if codec == "none" else codec,
                linger_ms=5,
                max_batch_size=262_144,
                max_request_size=1_900_000,
            )
            await sender.start()
            offsets, sent = [], []

            async def collect():
                answers = await asyncio.wait_for(asyncio.gather(*sent), 10 * line.SECONDS_MAX)
                # Without acks there is no answer.
                offsets.extend(answer.offset for answer in answers if answer)
                sent.clear()

            try:
                for record in records:
                    sent.append(await sender.send(topic, partition=partition, **record))
                    if len(sent) == IN_FLIGHT_MAX:
                        await collect()
                await collect()
            finally:
                await sender.stop()
            return offsets

        return self.run(act())

    def read(self, topic, partition, start, end, rack=None, node=None):
        settings = {"client_rack": rack} if rack else {}
        asked = TopicPartition(topic, partition)

        async def start_reader():
            reader = self.consumer(**settings)
            await reader.start()
            reader.assign([asked])
            reader.seek(asked, start)
            return reader

        reader = self.run(start_reader())
        try:
            due, deadline = start, time.monotonic() + line.SECONDS_MAX
            while due < end:
                found = self.run(reader.getmany(asked, timeout_ms=1000, max_records=10_000))
                found = found.get(asked, [])
                if found:
                    deadline = time.monotonic() + line.SECONDS_MAX
                assert time.monotonic() < deadline, f"read up to offset {due} of {end}"
                for record in found[: end - due]:
                    yield record
                    due += 1
        finally:
            self.run(reader.stop())

    def member(self, group, topic, protocol, stop):
        if protocol != "classic":
            raise line.Unable("aiokafka has the classic protocol only")

        async def act():
            reader = self.consumer(
                group_id=group,
                auto_offset_reset="earliest",
                session_timeout_ms=6000,
                heartbeat_interval_ms=1000,
                # Where the group begins it asks a leader that has moved again and again, until
                # this time is over.
                metadata_max_age_ms=3000,
            )
            reader.subscribe([topic])
            await reader.start()
            while not stop.is_set():
                found = await reader.getmany(timeout_ms=200)
                if not found:
                    continue
                try:
                    await reader.commit()
                except (errors.CommitFailedError, errors.IllegalStateError):
                    continue  # not committed, so not shown: whoever has them next reads them
                for records in found.values():
                    for record in records:
                        line.show_record(record.partition, record.offset, record.value)
            await reader.stop()

        self.run(act())


if __name__ == "__main__":
    line.main(Client)
