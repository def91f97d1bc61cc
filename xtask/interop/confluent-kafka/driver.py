"""confluent-kafka (librdkafka) behind the line protocol of ../README.md."""

import concurrent.futures
import functools
import hashlib
import json
import struct
import sys
import threading
import time

import confluent_kafka
from confluent_kafka import ConsumerGroupState, ConsumerGroupTopicPartitions
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, OFFSET_INVALID, Consumer, IsolationLevel
from confluent_kafka import KafkaError, KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin import NewPartitions, NewTopic, OffsetSpec, ResourceType

SECONDS_MAX = 30  # of any single request
PATIENCE_SECONDS = 100  # for a topic to be created while nodes are away
LINES = 210
BOOTSTRAP = sys.argv[1]
NODES = len(BOOTSTRAP.split(","))

# What tells a member that its partitions are given away.
FENCED = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.FENCED_MEMBER_EPOCH,
}

# What is asked again while leaders move.
MOVING = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}

# What is asked again while nodes are away.
PASSING = {
    KafkaError._TRANSPORT,
    KafkaError._TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._DESTROY,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.NOT_CONTROLLER,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.BROKER_NOT_AVAILABLE,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    # Fewer nodes than replicas are known to live.
    KafkaError.INVALID_REPLICATION_FACTOR,
}


def consumer(**settings):
    # group.id is demanded by the library; nothing here subscribes or commits.
    return Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "check.crcs": True,
            "enable.partition.eof": True,
        }
        | {dotted(name): value for name, value in settings.items()}
    )


def dotted(name):
    return name if name.endswith("_cb") else name.replace("_", ".")


def producer(**settings):
    return Producer(
        {"bootstrap.servers": BOOTSTRAP, "acks": "all", "linger.ms": 5}
        | {name.replace("_", "."): value for name, value in settings.items()}
    )


def send_all(sender, topic, records, partition=0):
    """Produces records (dicts of produce() arguments); returns delivered offsets in order."""
    offsets, errors = [], []

    def delivered(error, message):
        if error is not None:
            errors.append(error)
        else:
            offsets.append(message.offset())

    for record in records:
        while True:
            try:
                sender.produce(topic, partition=partition, on_delivery=delivered, **record)
                break
            except BufferError:
                sender.poll(0.1)
        sender.poll(0)
    left = sender.flush(300)
    if errors:
        raise KafkaException(errors[0])
    if left:
        raise TimeoutError(f"{left} records were not delivered in time")
    return offsets


def read_records(path):
    with open(path, "rb", buffering=1 << 20) as file:
        while header := file.read(4):
            (length,) = struct.unpack(">I", header)
            yield file.read(length)


def read_from(reader, topic, start, end, seconds_max=300, partition=0):
    """Yields the messages of [start, end), and insists on offsets without gaps."""
    reader.assign([TopicPartition(topic, partition, start)])
    expected, deadline = start, time.monotonic() + seconds_max
    while expected < end:
        if time.monotonic() > deadline:
            raise TimeoutError(f"read up to offset {expected} of {end}")
        for message in reader.consume(min(10_000, end - expected), timeout=1.0):
            if error := message.error():
                if error.code() == KafkaError._PARTITION_EOF:
                    continue
                raise KafkaException(error)
            if message.offset() != expected:
                raise ValueError(f"offset {message.offset()} came where {expected} was due")
            yield message
            expected += 1
            if expected == end:
                break


def read_whole(topic, reader=None):
    own = reader or consumer()
    try:
        start, end = watermarks(own, topic)
        yield from read_from(own, topic, start, end)
    finally:
        if reader is None:
            own.close()


def watermarks(reader, topic):
    """Start and end; asked again when the leader moves just then, as every client has to."""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        try:
            return reader.get_watermark_offsets(TopicPartition(topic, 0), timeout=SECONDS_MAX)
        except KafkaException as problem:
            if problem.args[0].code() not in MOVING or time.monotonic() > deadline:
                raise
        time.sleep(0.05)


# Requests


def version():
    return f"confluent-kafka {confluent_kafka.__version__}, librdkafka {confluent_kafka.libversion()[0]}"


def create_patiently(topic, partitions, *configs):
    """Creates a topic though nodes may be away: tries again what may pass."""
    deadline, tries = time.monotonic() + PATIENCE_SECONDS, 0
    while True:
        try:
            return create(topic, partitions, *configs)
        except KafkaException as problem:
            code = problem.args[0].code()
            # An earlier try of this request did it, though its answer was lost.
            is_there = tries > 0 and code == KafkaError.TOPIC_ALREADY_EXISTS
            if is_there and is_listed_now(topic):
                return None
            if not (is_there or code in PASSING) or time.monotonic() > deadline:
                raise
        except (AssertionError, TimeoutError, concurrent.futures.TimeoutError):
            if time.monotonic() > deadline:
                raise
        tries += 1
        time.sleep(0.2)


def create(topic, partitions, *configs):
    new = NewTopic(topic, int(partitions), config=dict(entry.split("=", 1) for entry in configs))
    wait(admin().create_topics([new]))
    until(lambda: is_listed(topic), "the new topic in the list")


def delete(topic):
    wait(admin().delete_topics([topic]))


def produce(topic, codec, path):
    sender = producer(
        compression_type=codec,
        enable_idempotence=True,
        message_max_bytes=2_000_000,
        queue_buffering_max_kbytes=65_536,
    )
    offsets = send_all(sender, topic, ({"value": value} for value in read_records(path)))
    # A batch that was there already when it was sent again may come without its offset.
    for due, offset in enumerate(offsets):
        assert offset in (due, OFFSET_INVALID), f"offset {offset} where {due} was due"
    return len(offsets)


def digest(topic, reader=None):
    sha, count = hashlib.sha256(), 0
    for message in read_whole(topic, reader):
        value = message.value() or b""
        sha.update(struct.pack(">I", len(value)))
        sha.update(value)
        count += 1
    return f"{count}\t{sha.hexdigest()}"


def digest_of(topic, node, rack):
    received = {}

    def note(statistics):
        for broker in json.loads(statistics)["brokers"].values():
            received[str(broker["nodeid"])] = broker["rxbytes"]

    reader = consumer(client_rack=rack, statistics_interval_ms=100, stats_cb=note)
    try:
        found = digest(topic, reader)
        received.clear()
        # Statistics come while the reader is asked for messages: there are no more.
        until(lambda: reader.poll(0.1) is None and received, "statistics")
    finally:
        reader.close()
    others = sum(received.values()) - received.get(node, 0)
    assert received.get(node, 0) > others, f"received {received}, not most from node {node}"
    return found


def small_record(i, base_ms):
    headers = [
        None,
        [("h", str(i).encode())],
        [("h", b"a"), ("h", b"b"), ("n", None)],
    ][i % 3]
    record = {
        "key": None if i % 5 == 0 else f"key-{i % 17}",
        "value": None if i % 7 == 0 else b"" if i % 7 == 1 else f"value {i}".encode(),
        "timestamp": base_ms + 1000 * i,
    }
    return record if headers is None else record | {"headers": headers}


def produce_lines(topic, base_ms):
    records = (small_record(i, int(base_ms)) for i in range(LINES))
    return len(send_all(producer(), topic, records))


def sized(value):
    return b"-1 " if value is None else b"%d %s" % (len(value), value)


def lines(topic):
    plain, timed, count = hashlib.sha256(), hashlib.sha256(), 0
    for message in read_whole(topic):
        headers = b",".join(
            name.encode() + b"=" + (b"NULL" if value is None else value)
            for name, value in message.headers() or []
        )
        rest = b"%s %s %s\n" % (sized(message.key()), sized(message.value()), headers)
        plain.update(b"%d %s" % (message.offset(), rest))
        timed.update(b"%d %d %s" % (message.offset(), message.timestamp()[1], rest))
        count += 1
    return f"{count}\t{plain.hexdigest()}\t{timed.hexdigest()}"


# Behaviours


@functools.cache
def admin():
    # Kept for good: its futures fail when the client is dropped before they are done.
    return AdminClient({"bootstrap.servers": BOOTSTRAP})


def is_listed(topic):
    return topic in admin().list_topics(timeout=SECONDS_MAX).topics


def is_listed_now(topic):
    try:
        return is_listed(topic)
    except KafkaException:
        return False


def wait(futures):
    return {name: future.result(timeout=SECONDS_MAX) for name, future in futures.items()}


def refused(code, action):
    """Runs an action that must be refused with this Kafka error."""
    try:
        action()
    except KafkaException as problem:
        found = problem.args[0]
        assert found.code() == code, f"refused with {found.name()}: {found.str()}"
    else:
        raise AssertionError("was not refused")


def until(condition, what):
    """Waits for a condition that metadata may show a little late."""
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline, f"never seen: {what}"
        time.sleep(0.05)


def equal(found, expected, what="value"):
    assert found == expected, f"{what} is {found!r}, not {expected!r}"


def fill(topic, count, base_ms=None, **settings):
    """Makes a topic of `count` records `record I`, one second apart when base_ms is given."""
    create(topic, 1)
    times = (lambda i: {}) if base_ms is None else (lambda i: {"timestamp": base_ms + 1000 * i})
    records = ({"value": f"record {i}".encode()} | times(i) for i in range(count))
    equal(send_all(producer(**settings), topic, records), list(range(count)), "offsets")


def now_ms():
    return int(time.time() * 1000)


def check_describe_cluster(_):
    cluster = admin().describe_cluster(request_timeout=SECONDS_MAX).result()
    assert cluster.cluster_id, "no cluster id"
    ports = {int(address.rsplit(":", 1)[1]) for address in BOOTSTRAP.split(",")}
    equal({node.port for node in cluster.nodes}, ports, "ports")
    assert cluster.controller is not None, "no controller"


def check_create_list_describe(prefix):
    create(prefix, 3, "retention.ms=86400000", "max.message.bytes=2000000")
    describe = lambda: wait(admin().describe_topics(TopicCollection([prefix])))[prefix]
    described = describe()
    equal([p.id for p in described.partitions], [0, 1, 2], "partitions")
    in_sync = lambda p: p.leader is not None and len(p.isr) == NODES
    until(lambda: all(map(in_sync, describe().partitions)), "every replica in sync")
    assert str(described.topic_id) != "AAAAAAAAAAAAAAAAAAAAAA", "no topic id"


def check_create_twice(prefix):
    create(prefix, 1)
    refused(KafkaError.TOPIC_ALREADY_EXISTS, lambda: create(prefix, 1))


def check_unknown_config(prefix):
    refused(KafkaError.INVALID_CONFIG, lambda: create(prefix, 1, "no.such.config=1"))
    refused(KafkaError.INVALID_CONFIG, lambda: create(prefix, 1, "retention.ms=soon"))


def check_bad_topics(prefix):
    refused(KafkaError.TOPIC_EXCEPTION, lambda: create(prefix + " with blanks", 1))
    refused(KafkaError.INVALID_PARTITIONS, lambda: create(prefix, 0))
    refused(
        KafkaError.INVALID_REPLICATION_FACTOR,
        lambda: wait(admin().create_topics([NewTopic(prefix, 1, 7)])),
    )


def check_validate_only(prefix):
    wait(admin().create_topics([NewTopic(prefix, 1)], validate_only=True))
    assert not is_listed(prefix), "topic was created"


def check_many_topics(prefix):
    names = [f"{prefix}-{i}" for i in range(100)]
    wait(admin().create_topics([NewTopic(name, 1) for name in names]))
    wait(admin().delete_topics(names))


def check_create_partitions(prefix):
    create(prefix, 2)
    wait(admin().create_partitions([NewPartitions(prefix, 5)]))
    count = lambda: len(admin().list_topics(prefix, timeout=SECONDS_MAX).topics[prefix].partitions)
    until(lambda: count() == 5, "five partitions")
    equal(send_all(producer(), prefix, [{"value": b"x"}], partition=4), [0], "offsets")
    refused(
        KafkaError.INVALID_PARTITIONS,
        lambda: wait(admin().create_partitions([NewPartitions(prefix, 3)])),
    )


def topic_configs(topic):
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return wait(admin().describe_configs([resource]))[resource]


def check_describe_configs(prefix):
    create(prefix, 1, "retention.ms=86400000")
    configs = topic_configs(prefix)
    equal(configs["retention.ms"].value, "86400000")
    assert not configs["retention.ms"].is_default
    equal(configs["max.message.bytes"].value, "1048588")
    assert configs["max.message.bytes"].is_default
    assert "cleanup.policy" in configs, "cleanup.policy is missing"


def check_alter_configs(prefix):
    create(prefix, 1)

    def alter(name, value, operation):
        entry = ConfigEntry(name, value, incremental_operation=operation)
        resource = ConfigResource(ResourceType.TOPIC, prefix, incremental_configs=[entry])
        wait(admin().incremental_alter_configs([resource]))

    alter("max.message.bytes", "5000", AlterConfigOpType.SET)
    until(lambda: topic_configs(prefix)["max.message.bytes"].value == "5000", "the new value")
    big = [{"value": b"x" * 10_000}]
    refused(KafkaError.MSG_SIZE_TOO_LARGE, lambda: send_all(producer(), prefix, big))
    alter("max.message.bytes", None, AlterConfigOpType.DELETE)
    until(lambda: topic_configs(prefix)["max.message.bytes"].is_default, "the default again")
    equal(send_all(producer(), prefix, big), [0], "offsets")
    refused(KafkaError.INVALID_CONFIG, lambda: alter("no.such", "1", AlterConfigOpType.SET))


def check_idempotent(prefix):
    fill(prefix, 20_000, enable_idempotence=True, batch_num_messages=50, linger_ms=0)
    values = [message.value() for message in read_whole(prefix)]
    equal(values, [f"record {i}".encode() for i in range(20_000)], "values")


def check_acks(prefix):
    create(prefix, 1)
    for acks in ("0", "1", "all"):
        send_all(producer(acks=acks), prefix, [{"value": acks.encode()}] * 100)
    reader = consumer()
    ends = lambda: reader.get_watermark_offsets(TopicPartition(prefix, 0), timeout=SECONDS_MAX)
    until(lambda: ends() == (0, 300), "300 records")
    reader.close()


def first_value(topic, offset, **settings):
    reader = consumer(**settings)
    try:
        reader.assign([TopicPartition(topic, 0, offset)])
        deadline = time.monotonic() + SECONDS_MAX
        while time.monotonic() < deadline:
            message = reader.poll(1.0)
            if message is None:
                continue
            if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
                return None
            if message.error():
                raise KafkaException(message.error())
            return message.value()
        raise TimeoutError("nothing was read")
    finally:
        reader.close()


def check_positions(prefix):
    fill(prefix, 1000)
    equal(first_value(prefix, OFFSET_BEGINNING), b"record 0")
    equal(first_value(prefix, 501), b"record 501")
    equal(first_value(prefix, 999), b"record 999")
    equal(first_value(prefix, OFFSET_END), None)
    equal(first_value(prefix, 501, isolation_level="read_committed"), b"record 501")


def check_timestamps(prefix):
    base = now_ms() - 3_600_000
    fill(prefix, 1000, base, compression_type="lz4")
    reader = consumer()
    asked = [base - 5, base, base + 500_000, base + 500_001, base + 10_000_000]
    found = [
        reader.offsets_for_times([TopicPartition(prefix, 0, when)], timeout=SECONDS_MAX)[0].offset
        for when in asked
    ]
    reader.close()
    equal(found, [0, 0, 500, 501, OFFSET_END], "offsets")
    equal(first_value(prefix, found[2]), b"record 500")


def check_list_offsets(prefix):
    base = now_ms() - 3_600_000
    fill(prefix, 100, base)
    partition = TopicPartition(prefix, 0)

    def listed(spec, **settings):
        answer = wait(admin().list_offsets({partition: spec}, **settings))[partition]
        return answer.offset

    equal(listed(OffsetSpec.earliest()), 0, "earliest")
    equal(listed(OffsetSpec.latest()), 100, "latest")
    committed = IsolationLevel.READ_COMMITTED
    equal(listed(OffsetSpec.latest(), isolation_level=committed), 100, "latest committed")
    equal(listed(OffsetSpec.max_timestamp()), 99, "max timestamp")
    equal(listed(OffsetSpec.for_timestamp(base + 41_500)), 42, "by timestamp")
    equal(listed(OffsetSpec.for_timestamp(base + 10_000_000)), -1, "after the last")


def check_delete_records(prefix):
    fill(prefix, 100)
    partition = TopicPartition(prefix, 0, 40)
    deleted = wait(admin().delete_records([partition]))[partition]
    equal(deleted.low_watermark, 40, "low watermark")
    equal(first_value(prefix, OFFSET_BEGINNING), b"record 40")
    reader = consumer()
    marks = reader.get_watermark_offsets(TopicPartition(prefix, 0), timeout=SECONDS_MAX)
    reader.close()
    equal(marks, (40, 100), "watermarks")
    beyond = [TopicPartition(prefix, 0, 101)]
    refused(KafkaError.OFFSET_OUT_OF_RANGE, lambda: wait(admin().delete_records(beyond)))


def check_out_of_range(prefix):
    fill(prefix, 10)
    refused(KafkaError._AUTO_OFFSET_RESET, lambda: first_value(prefix, 1000))
    equal(first_value(prefix, 1000, auto_offset_reset="earliest"), b"record 0")


def check_too_large(prefix):
    create(prefix, 1)
    sender = producer(message_max_bytes=3_000_000)
    too_large = [{"value": bytes(1024 * 1024)}]
    refused(KafkaError.MSG_SIZE_TOO_LARGE, lambda: send_all(sender, prefix, too_large))
    fits = [{"value": bytes(1024 * 1024 - 200)}]
    equal(send_all(sender, prefix, fits), [0], "offsets")


def check_unknown_topic(prefix):
    reader = consumer()
    try:
        found = reader.list_topics(prefix, timeout=SECONDS_MAX).topics[prefix].error
        equal(found and found.code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "error")
        names = reader.list_topics(timeout=SECONDS_MAX).topics
        assert prefix not in names, "asking created the topic"
    finally:
        reader.close()
    refused(
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        lambda: wait(admin().describe_topics(TopicCollection([prefix]))),
    )
    refused(KafkaError.UNKNOWN_TOPIC_OR_PART, lambda: delete(prefix))


def check_auto_create(prefix):
    equal(send_all(producer(), prefix, [{"value": b"first"}]), [0], "offsets")
    equal(first_value(prefix, OFFSET_BEGINNING), b"first")


def check_long_poll(prefix):
    create(prefix, 1)
    reader = consumer(fetch_wait_max_ms=20_000)
    try:
        reader.assign([TopicPartition(prefix, 0, 0)])
        while not ((message := reader.poll(1.0)) and message.error()):
            pass  # the end-of-partition event: the next fetch waits at the broker
        reader.poll(1.0)
        send_all(producer(linger_ms=0), prefix, [{"value": b"wake up"}])
        asked = time.monotonic()
        message = reader.poll(15.0)
        assert message is not None, "the record did not wake the fetch"
        equal(message.value(), b"wake up")
        assert time.monotonic() - asked < 10, "woken late"
    finally:
        reader.close()


def check_delete_topic(prefix):
    fill(prefix, 10)
    described = lambda: wait(admin().describe_topics(TopicCollection([prefix])))[prefix]
    old = str(described().topic_id)
    delete(prefix)
    until(lambda: not is_listed(prefix), "deletion")
    fill(prefix, 5)
    assert str(described().topic_id) != old, "the topic id was used again"
    equal([m.value() for m in read_whole(prefix)][-1], b"record 4")


def check_many_partitions(prefix):
    create(prefix, 50)
    sender = producer()
    for partition in range(50):
        for i in range(20):
            sender.produce(prefix, partition=partition, value=f"{partition} {i}".encode())
        sender.poll(0)
    equal(sender.flush(SECONDS_MAX), 0, "undelivered records")
    reader = consumer()
    try:
        reader.assign([TopicPartition(prefix, p, OFFSET_BEGINNING) for p in range(50)])
        found, deadline = {}, time.monotonic() + SECONDS_MAX
        while sum(map(len, found.values())) < 1000:
            assert time.monotonic() < deadline, "too few records"
            for message in reader.consume(1000, timeout=1.0):
                if not message.error():
                    found.setdefault(message.partition(), []).append(message.value())
    finally:
        reader.close()
    for partition in range(50):
        equal(found[partition], [f"{partition} {i}".encode() for i in range(20)], "records")


def group_now(group):
    return admin().describe_consumer_groups([group], request_timeout=SECONDS_MAX)[group].result()


def check_group_state(prefix):
    group = f"{prefix}-group"
    create(prefix, 2)
    for protocol in ("classic", "consumer"):
        name = f"{group}-{protocol}"
        reader = consumer(group_id=name, group_protocol=protocol, auto_offset_reset="earliest")
        try:
            reader.subscribe([prefix])

            def is_stable():
                reader.poll(0.1)
                found = group_now(name)
                return found.state == ConsumerGroupState.STABLE and len(reader.assignment()) == 2

            until(is_stable, "a stable group")
            equal(len(group_now(name).members), 1, "members")
            listed = admin().list_consumer_groups(request_timeout=SECONDS_MAX).result()
            assert name in {found.group_id for found in listed.valid}, "it is not listed"
            refused(KafkaError.NON_EMPTY_GROUP, lambda: wait(admin().delete_consumer_groups([name])))
        finally:
            reader.close()
        until(lambda: group_now(name).state == ConsumerGroupState.EMPTY, "an empty group")
        wait(admin().delete_consumer_groups([name]))
        refused(KafkaError.GROUP_ID_NOT_FOUND, lambda: wait(admin().delete_consumer_groups([name])))


def check_group_offsets(prefix):
    group = f"{prefix}-group"
    fill(prefix, 50)

    def committed():
        asked = ConsumerGroupTopicPartitions(group)
        found = wait(admin().list_consumer_group_offsets([asked]))[group].topic_partitions
        return {(one.topic, one.partition): one.offset for one in found}

    for offset in (40, 7):
        wanted = ConsumerGroupTopicPartitions(group, [TopicPartition(prefix, 0, offset)])
        wait(admin().alter_consumer_group_offsets([wanted]))
        equal(committed(), {(prefix, 0): offset}, "offsets")
    reader = consumer(group_id=group)
    try:
        reader.assign([TopicPartition(prefix, 0)])
        deadline = time.monotonic() + SECONDS_MAX
        while not (message := reader.poll(1.0)):
            assert time.monotonic() < deadline, "nothing is read"
        assert message.error() is None, message.error()
        equal(message.value(), b"record 7", "what is read from there")
    finally:
        reader.close()


CHECKS = [
    ("describe cluster", check_describe_cluster),
    ("create, list and describe a topic", check_create_list_describe),
    ("creating a topic twice is refused", check_create_twice),
    ("unknown and bad configs are refused", check_unknown_config),
    ("bad names, counts and factors are refused", check_bad_topics),
    ("validate-only creates nothing", check_validate_only),
    ("100 topics in one request", check_many_topics),
    ("create partitions", check_create_partitions),
    ("describe configs", check_describe_configs),
    ("alter configs, and they are enforced", check_alter_configs),
    ("idempotent producer", check_idempotent),
    ("acks 0, 1 and all", check_acks),
    ("50 partitions at once", check_many_partitions),
    ("read from beginning, middle and end", check_positions),
    ("offsets for times", check_timestamps),
    ("list offsets", check_list_offsets),
    ("delete records", check_delete_records),
    ("offset out of range is reported", check_out_of_range),
    ("record over max.message.bytes is refused", check_too_large),
    ("unknown topic is reported, not created", check_unknown_topic),
    ("producing to a new topic creates it", check_auto_create),
    ("a waiting fetch is woken by a record", check_long_poll),
    ("delete a topic and create it again", check_delete_topic),
    ("list, describe and delete groups, none with members", check_group_state),
    ("set a group's offsets", check_group_offsets),
]


def checks(prefix):
    for number, (name, check) in enumerate(CHECKS):
        try:
            check(f"{prefix}-{number}")
        except Exception as problem:
            answer("failed", name, f"{type(problem).__name__}: {problem}")
        else:
            answer("passed", name)


REQUESTS = {
    "version": version,
    "create": create_patiently,
    "delete": delete,
    "produce": produce,
    "digest": digest,
    "digest-of": digest_of,
    "produce-lines": produce_lines,
    "lines": lines,
    "checks": checks,
}


def committed(reader, message):
    """Commits a message, again while its coordinator moves; False when the partition is not ours."""
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        try:
            reader.commit(message=message, asynchronous=False)
            return True
        except KafkaException as problem:
            if problem.args[0].code() in FENCED or time.monotonic() > deadline:
                return False
            time.sleep(0.1)


def member(group, topic, protocol):
    """Is a member of a group until standard input ends: it commits what it read, then shows it."""
    ended = threading.Event()

    def wait_for_end():
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    settings = {"group_id": group, "group_protocol": protocol, "auto_offset_reset": "earliest"}
    if protocol == "classic":
        settings |= {"session_timeout_ms": 6000, "heartbeat_interval_ms": 1000}
    reader = consumer(enable_partition_eof=False, enable_auto_offset_store=True, **settings)
    reader.subscribe([topic])
    while not ended.is_set():
        message = reader.poll(0.2)
        if message is None:
            continue
        if error := message.error():
            if error.retriable() or error.code() in PASSING:
                continue
            raise KafkaException(error)
        if not committed(reader, message):
            continue  # so not shown: whoever has the partition next reads it
        answer("record", message.partition(), message.offset(), message.value().decode())
    reader.close()
    answer("left")


def answer(*words):
    text = "\t".join(" ".join(str(word).split("\n")) for word in words)
    print(text, flush=True)


def main():
    if sys.argv[2:3] == ["member"]:
        return member(*sys.argv[3:6])
    for line in sys.stdin:
        name, *arguments = line.rstrip("\n").split("\t")
        try:
            found = REQUESTS[name](*arguments)
        except Exception as problem:
            answer("error", f"{type(problem).__name__}: {problem}")
        else:
            answer("ok", *([] if found is None else [found]))


main()
