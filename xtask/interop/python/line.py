"""The line protocol of ../README.md; a driver brings the client behind it."""

import hashlib
import struct
import sys
import threading
import time

LINES = 210  # small records
SECONDS_MAX = 30  # of any single request
PATIENCE_SECONDS = 100  # for a topic to be created while nodes are away

# The errors that checks look for, by their numbers, with Kafka's names.
NAMES = {
    1: "OFFSET_OUT_OF_RANGE",
    3: "UNKNOWN_TOPIC_OR_PARTITION",
    10: "MESSAGE_TOO_LARGE",
    17: "INVALID_TOPIC_EXCEPTION",
    36: "TOPIC_ALREADY_EXISTS",
    37: "INVALID_PARTITIONS",
    38: "INVALID_REPLICATION_FACTOR",
    40: "INVALID_CONFIG",
    68: "NON_EMPTY_GROUP",
}
# What nodes that are away bring about: by their numbers, and those of the clients' own.
PASSING = {5, 6, 7, 8, 13, 38, 41}
PASSING_NAMES = {"KafkaConnectionError", "KafkaTimeoutError", "NodeNotReadyError", "NoBrokersAvailable"}


class Unable(Exception):
    """The client has no such feature."""


def number_of(problem):
    return getattr(problem, "errno", None)


def may_pass(problem):
    is_named = type(problem).__name__ in PASSING_NAMES
    return is_named or number_of(problem) in PASSING or isinstance(problem, (OSError, TimeoutError))


def reason(problem):
    name = NAMES.get(number_of(problem))
    text = f"{type(problem).__name__}: {problem}"
    return f"{name}: {text}" if name else text


def answer(*words):
    text = "\t".join(" ".join(str(word).split()) for word in words)
    print(text, flush=True)


def show_record(partition, offset, value):
    """Tells of a record whose offset is committed."""
    answer("record", partition, offset, value.decode())


def read_records(path):
    with open(path, "rb", buffering=1 << 20) as file:
        while header := file.read(4):
            (length,) = struct.unpack(">I", header)
            yield {"value": file.read(length)}


def sized(value):
    return b"-1 " if value is None else b"%d %s" % (len(value), value)


class Requests:
    """What a driver is asked for, in terms of its client.

    A client has version, create, delete, topics, cluster, config, set_config, grow, trim, bounds,
    at_time, send, read and member; see either driver.
    """

    def __init__(self, client):
        self.client = client

    def version(self):
        return self.client.version()

    def create(self, topic, partitions, *configs):
        settings = dict(entry.split("=", 1) for entry in configs)
        deadline, tries = time.monotonic() + PATIENCE_SECONDS, 0
        while True:
            try:
                return self.client.create(topic, int(partitions), settings)
            except Exception as problem:
                if tries and NAMES.get(number_of(problem)) == "TOPIC_ALREADY_EXISTS":
                    return None  # an earlier try did it, though its answer was lost
                if not may_pass(problem) or time.monotonic() > deadline:
                    raise
            tries += 1
            time.sleep(0.2)

    def delete(self, topic):
        self.client.delete(topic)

    def topics(self):
        return ",".join(self.client.topics())

    def cluster(self):
        cluster_id, controller, ports = self.client.cluster()
        return cluster_id, controller, ",".join(map(str, ports))

    def config(self, topic, name):
        return self.client.config(topic, name)

    def set_config(self, topic, name, value):
        self.client.set_config(topic, name, value)

    def grow(self, topic, partitions):
        self.client.grow(topic, int(partitions))

    def trim(self, topic, offset):
        self.client.trim(topic, int(offset))

    def bounds(self, topic, partition):
        return self.client.bounds(topic, int(partition))

    def at_time(self, topic, when_ms):
        return self.client.at_time(topic, int(when_ms))

    def value(self, topic, partition, offset):
        start = int(offset)
        for record in self.client.read(topic, int(partition), start, start + 1):
            return record.value.decode()

    def send(self, topic, partition, count, acks, size, base_ms):
        settings = {"acks": "all" if acks == "idempotent" else acks, "idempotent": acks == "idempotent"}
        base_ms = int(base_ms)

        def records():
            for i in range(int(count)):
                value = b"x" * int(size) if int(size) else f"record {i}".encode()
                times = {"timestamp_ms": base_ms + 1000 * i} if base_ms >= 0 else {}
                yield {"value": value} | times

        offsets = self.client.send(topic, int(partition), records(), **settings)
        return [offsets[0], offsets[-1]] if offsets else None

    def produce(self, topic, codec, path):
        offsets = self.client.send(
            topic, 0, read_records(path), codec=codec, idempotent=True, acks="all"
        )
        # A batch that was there already when it was sent again may come without its offset.
        for due, offset in enumerate(offsets):
            assert offset in (due, -1), f"offset {offset} where {due} was due"
        return len(offsets)

    def whole(self, topic, **settings):
        """Partition 0, whose offsets must have no gaps."""
        deadline = time.monotonic() + SECONDS_MAX
        while True:
            try:
                start, end = self.client.bounds(topic, 0)
                break
            except Exception as problem:
                # The leader moves just then.
                if not may_pass(problem) or time.monotonic() > deadline:
                    raise
            time.sleep(0.05)
        due = start
        for record in self.client.read(topic, 0, start, end, **settings):
            assert record.offset == due, f"offset {record.offset} came where {due} was due"
            yield record
            due += 1
        assert due == end, f"read up to offset {due} of {end}"

    def digest(self, topic, **settings):
        sha, count = hashlib.sha256(), 0
        for record in self.whole(topic, **settings):
            value = record.value or b""
            sha.update(struct.pack(">I", len(value)))
            sha.update(value)
            count += 1
        return count, sha.hexdigest()

    def digest_of(self, topic, node, rack):
        return self.digest(topic, rack=rack, node=node)

    def groups(self):
        return ",".join(self.client.groups())

    def group_state(self, group):
        return self.client.group_state(group)

    def group_offset(self, group, topic):
        return self.client.group_offset(group, topic)

    def set_group_offset(self, group, topic, offset):
        self.client.set_group_offset(group, topic, int(offset))

    def delete_group_offset(self, group, topic):
        self.client.delete_group_offset(group, topic)

    def delete_group(self, group):
        self.client.delete_group(group)

    def produce_lines(self, topic, base_ms):
        def record(i):
            key = None if i % 5 == 0 else b"key-%d" % (i % 17)
            value = None if i % 7 == 0 else b"" if i % 7 == 1 else b"value %d" % i
            if key is None and value is None:
                value = b""  # both clients insist on a key or a value
            headers = [[], [("h", b"%d" % i)], [("h", b"a"), ("h", b"b")] + null_headers][i % 3]
            times = {"timestamp_ms": int(base_ms) + 1000 * i}
            return {"key": key, "value": value, "headers": headers} | times

        null_headers = [("n", None)] if self.client.HAS_NULL_HEADERS else []
        offsets = self.client.send(topic, 0, map(record, range(LINES)))
        flags = ["without-null-records"] + ([] if null_headers else ["without-null-headers"])
        return len(offsets), *flags

    def lines(self, topic):
        plain, timed, count = hashlib.sha256(), hashlib.sha256(), 0
        for record in self.whole(topic):
            headers = b",".join(
                name.encode() + b"=" + (b"NULL" if value is None else value)
                for name, value in record.headers
            )
            rest = b"%s %s %s\n" % (sized(record.key), sized(record.value), headers)
            plain.update(b"%d %s" % (record.offset, rest))
            timed.update(b"%d %d %s" % (record.offset, record.timestamp, rest))
            count += 1
        return count, plain.hexdigest(), timed.hexdigest()


def respond(requests, name, arguments):
    try:
        found = getattr(requests, name.replace("-", "_"))(*arguments)
    except Unable as why:
        answer("unable", why)
    except Exception as problem:
        answer("error", reason(problem))
    else:
        found = [] if found is None else found if isinstance(found, (tuple, list)) else [found]
        answer("ok", *found)


def main(open_client):
    client = open_client(sys.argv[1].split(","))
    if sys.argv[2:3] == ["member"]:
        stop = threading.Event()

        def wait_for_end():
            sys.stdin.read()
            stop.set()

        threading.Thread(target=wait_for_end, daemon=True).start()
        try:
            client.member(*sys.argv[3:6], stop)
        except Unable as why:
            answer("unable", why)
            sys.exit(1)
        answer("left")
        return
    requests = Requests(client)
    for line in sys.stdin:
        name, *arguments = line.rstrip("\n").split("\t")
        respond(requests, name, arguments)
    client.close()
