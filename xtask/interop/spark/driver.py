"""Spark Structured Streaming and its Kafka connector behind two requests of ../README.md: `version`
and `checks`. kcat is the other side of every behaviour."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import pyspark
from py4j.java_gateway import JavaMember
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

BOOTSTRAP = sys.argv[1]
# The connector and what it needs, as Spark's class path.
JARS = os.environ["SPARK_KAFKA_JARS"]
SECONDS_MAX = 150  # of anything that is waited for
PARTITIONS = 4

session = None
folder = tempfile.mkdtemp(prefix="braidlog-spark-")


def spark():
    """The session, whose virtual machine starts at the first use."""
    global session
    if session is None:
        settings = {
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.driver.extraClassPath": JARS,
            "spark.driver.host": "127.0.0.1",
            "spark.driver.memory": "768m",
            "spark.local.dir": folder,
            "spark.sql.shuffle.partitions": "2",
            "spark.sql.warehouse.dir": os.path.join(folder, "warehouse"),
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
        }
        builder = SparkSession.builder.master("local[2]").appName("interop")
        for name, value in settings.items():
            builder = builder.config(name, value)
        session = builder.getOrCreate()
        session.sparkContext.setLogLevel("ERROR")
    return session


def version():
    connector = [name for name in os.listdir(os.path.dirname(JARS)) if name.startswith("kafka-clients")]
    clients = connector[0].removesuffix(".jar") if connector else "no kafka-clients"
    return f"PySpark {pyspark.__version__}, spark-sql-kafka-0-10 with {clients}"


# The other side


def kcat(*arguments, lines=None):
    text = None if lines is None else "".join(f"{line}\n" for line in lines)
    done = subprocess.run(
        ["kcat", "-b", BOOTSTRAP, *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        env=os.environ | {"KCAT_CONFIG": "/dev/null"},
    )
    if done.returncode:
        raise OSError(f"kcat: {done.stderr[-300:]}")
    return done.stdout


def send(topic, lines, *arguments):
    """Sends lines, by turns to all partitions."""
    lines = list(lines)
    for partition in range(PARTITIONS):
        sent = lines[partition::PARTITIONS]
        if sent:
            kcat("-P", "-t", topic, "-p", str(partition), "-X", "enable.idempotence=true", *arguments, lines=sent)


def read_back(topic, form="%s\n"):
    return kcat("-C", "-q", "-e", "-o", "beginning", "-t", topic, "-f", form).splitlines()


def admin():
    """The connector's own Java client: kcat neither makes topics nor deletes records."""
    jvm = spark()._jvm
    settings = jvm.java.util.HashMap()
    settings.put("bootstrap.servers", BOOTSTRAP)
    return jvm.org.apache.kafka.clients.admin.Admin.create(settings)


def create(topic):
    jvm, client = spark()._jvm, admin()
    try:
        wanted = jvm.java.util.ArrayList()
        empty = jvm.java.util.Optional.empty()
        count = jvm.java.util.Optional.of(PARTITIONS)
        wanted.add(jvm.org.apache.kafka.clients.admin.NewTopic(topic, count, empty))
        client.createTopics(wanted).all().get()
    finally:
        client.close()


def trim(topic, offset):
    """Deletes the records below an offset in every partition."""
    jvm, client = spark()._jvm, admin()
    try:
        wanted = jvm.java.util.HashMap()
        # The class has a method of the same name that is not static, and py4j would find that one.
        gateway = spark().sparkContext._gateway
        package = "z:org.apache.kafka.clients.admin.RecordsToDelete"
        before = JavaMember("beforeOffset", None, package, gateway._gateway_client)(offset)
        for partition in range(PARTITIONS):
            wanted.put(jvm.org.apache.kafka.common.TopicPartition(topic, partition), before)
        client.deleteRecords(wanted).all().get()
    finally:
        client.close()


# Spark's side


def batch(**settings):
    reader = spark().read.format("kafka").option("kafka.bootstrap.servers", BOOTSTRAP)
    for name, value in settings.items():
        reader = reader.option(name, value)
    return reader.load()


def stream(**settings):
    reader = spark().readStream.format("kafka").option("kafka.bootstrap.servers", BOOTSTRAP)
    for name, value in settings.items():
        reader = reader.option(name, value)
    return reader.load()


def values(frame):
    return sorted(row.value for row in frame.selectExpr("CAST(value AS STRING) AS value").collect())


def to_files(frame, name):
    """Starts a query that writes values to files; what is in the files is exactly once."""
    writer = frame.selectExpr("CAST(value AS STRING) AS value").writeStream.format("json")
    writer = writer.option("checkpointLocation", os.path.join(folder, name, "checkpoint"))
    return writer.trigger(processingTime="200 milliseconds").start(os.path.join(folder, name, "out"))


def in_files(name):
    out = os.path.join(folder, name, "out")
    # Spark's own list of the files that count, which only Spark reads.
    if not os.path.isdir(os.path.join(out, "_spark_metadata")):
        return []
    return sorted(row.value for row in spark().read.schema("value STRING").json(out).collect())


def until(query, condition, what):
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        if query.exception() is not None:
            raise query.exception()
        if time.monotonic() > deadline:
            raise TimeoutError(f"never seen: {what()}")
        time.sleep(0.3)


def equal(found, expected, what="it"):
    if found != expected:
        raise AssertionError(f"{what} is {str(found)[:200]}, not {str(expected)[:200]}")


def numbered(start, end):
    return [f"record {i:05}" for i in range(start, end)]


# Behaviours


def check_batch(topic):
    create(topic)
    send(topic, numbered(0, 2000), "-z", "zstd")
    whole = batch(subscribe=topic, startingOffsets="earliest", endingOffsets="latest")
    equal(values(whole), numbered(0, 2000), "everything")
    found = whole.groupBy("partition").agg({"offset": "max"}).collect()
    equal(sorted(map(tuple, found)), [(p, 499) for p in range(PARTITIONS)], "the last offsets")
    # From offset 100 to before 110 of two partitions, 5 records of the third, none of the last.
    first = {topic: {"0": 100, "1": 100, "2": 495, "3": 500}}
    last = {topic: {"0": 110, "1": 110, "2": -1, "3": -1}}
    part = batch(subscribe=topic, startingOffsets=json.dumps(first), endingOffsets=json.dumps(last))
    equal(part.count(), 25, "a part of it")
    pattern = batch(subscribePattern=topic + ".*", startingOffsets="earliest", endingOffsets="latest")
    equal(pattern.count(), 2000, "the records of a pattern of topics")


def check_headers(topic):
    create(topic)
    kcat("-P", "-t", topic, "-p", "0", "-K", ":", "-H", "h=a", "-H", "h=b", "-H", "g=1", lines=["k1:one", "k2:two"])
    kcat("-P", "-t", topic, "-p", "1", lines=["three"])
    frame = batch(subscribe=topic, includeHeaders="true")
    rows = frame.selectExpr("CAST(key AS STRING) AS key", "CAST(value AS STRING) AS value", "headers").collect()
    headers = [("h", b"a"), ("h", b"b"), ("g", b"1")]
    found = [
        (row.key, row.value, [(h.key, bytes(h.value)) for h in row.headers or []])
        for row in sorted(rows, key=lambda row: row.value)
    ]
    expected = [("k1", "one", headers), (None, "three", []), ("k2", "two", headers)]
    equal(found, expected, "what Spark reads")
    copy = topic + "-copy"
    create(copy)
    writer = frame.select("key", "value", "headers", "partition").write.format("kafka").option("topic", copy)
    writer.option("kafka.bootstrap.servers", BOOTSTRAP).option("includeHeaders", "true").save()
    lines = sorted(read_back(copy, "%k %s %h\n"))
    equal(lines, [" three ", "k1 one h=a,h=b,g=1", "k2 two h=a,h=b,g=1"], "what Spark wrote")


def check_resume(topic):
    create(topic)
    sent = 0
    for turn in range(3):
        # Some records come while no query runs, some while it does.
        send(topic, numbered(sent, sent + 200))
        query = to_files(stream(subscribe=topic, startingOffsets="earliest", maxOffsetsPerTrigger=150), topic)
        try:
            send(topic, numbered(sent + 200, sent + 400))
            sent += 400
            # The last turn reads everything; the others stop in the middle.
            wanted = sent if turn == 2 else sent - 200
            until(query, lambda: len(in_files(topic)) >= wanted, lambda: f"{wanted} of {len(in_files(topic))} records")
        finally:
            query.stop()
    equal(in_files(topic), numbered(0, sent), "what the stream read")


def check_sink(topic):
    create(topic)
    copy = topic + "-copy"
    create(copy)
    send(topic, numbered(0, 500))
    frame = stream(subscribe=topic, startingOffsets="earliest")
    frame = frame.selectExpr("CAST(value AS STRING) AS key", "upper(CAST(value AS STRING)) AS value")
    for turn in range(2):
        writer = frame.writeStream.format("kafka").option("kafka.bootstrap.servers", BOOTSTRAP)
        writer = writer.option("topic", copy).option("checkpointLocation", os.path.join(folder, copy))
        query = writer.trigger(availableNow=True).start()
        if not query.awaitTermination(SECONDS_MAX):
            query.stop()
            raise TimeoutError("the stream does not end")
        if turn == 0:
            send(topic, numbered(500, 1000))
    expected = [f"{value} {value.upper()}" for value in numbered(0, 1000)]
    equal(sorted(read_back(copy, "%k %s\n")), expected, "what another reads")


def check_times(topic):
    create(topic)
    send(topic, numbered(0, 100))
    time.sleep(1.5)
    between = int(time.time() * 1000)
    time.sleep(0.5)
    send(topic, numbered(100, 200))
    when = json.dumps({topic: {str(partition): between for partition in range(PARTITIONS)}})
    later = batch(subscribe=topic, startingOffsetsByTimestamp=when)
    equal(values(later), numbered(100, 200), "what is after the time")
    earlier = batch(subscribe=topic, endingOffsetsByTimestamp=when)
    equal(values(earlier), numbered(0, 100), "what is before the time")
    query = to_files(stream(subscribe=topic, startingTimestamp=str(between)), topic)
    try:
        until(query, lambda: len(in_files(topic)) >= 100, lambda: f"100 of {len(in_files(topic))} records")
    finally:
        query.stop()
    equal(in_files(topic), numbered(100, 200), "what a stream reads from the time")


def check_loss(topic):
    create(topic)
    send(topic, numbered(0, 200))

    def run(is_strict):
        settings = {"subscribe": topic, "startingOffsets": "earliest", "failOnDataLoss": is_strict}
        frame = stream(**settings).selectExpr("CAST(value AS STRING) AS value")
        writer = frame.writeStream.format("json").option("checkpointLocation", os.path.join(folder, topic, "checkpoint"))
        query = writer.trigger(availableNow=True).start(os.path.join(folder, topic, "out"))
        try:
            if not query.awaitTermination(SECONDS_MAX):
                raise TimeoutError("the stream does not end")
        finally:
            query.stop()

    run("true")
    equal(in_files(topic), numbered(0, 200), "what was read at first")
    send(topic, numbered(200, 400))
    # The stream is at 50 of every partition; 25 records of each are lost to it.
    trim(topic, 75)
    try:
        run("true")
    except StreamingQueryException as problem:
        if "failOnDataLoss" not in str(problem) and "data loss" not in str(problem).lower():
            raise
    else:
        raise AssertionError("the loss was not reported")
    run("false")
    equal(in_files(topic), numbered(0, 200) + numbered(300, 400), "what was read in the end")


CHECKS = [
    ("batch read: everything, a part, a pattern of topics", check_batch),
    ("keys and headers are kept, read and written", check_headers),
    ("a stream goes on from its checkpoint: none skipped, none twice", check_resume),
    ("a stream writes to a topic, and another client reads it", check_sink),
    ("start and end by timestamp", check_times),
    ("records that were deleted too early are reported", check_loss),
]


def answer(*words):
    print("\t".join(" ".join(str(word).split())[:600] for word in words), flush=True)


def checks(prefix):
    for number, (name, check) in enumerate(CHECKS):
        begun = time.monotonic()
        try:
            check(f"{prefix}-{number}")
        except Exception as problem:
            answer("failed", name, f"{type(problem).__name__}: {problem}")
        else:
            answer("passed", name)
        print(f"{name}: {time.monotonic() - begun:.1f} s", file=sys.stderr)


def main():
    for line in sys.stdin:
        name, *arguments = line.rstrip("\n").split("\t")
        try:
            found = {"version": version, "checks": checks}[name](*arguments)
        except Exception as problem:
            answer("error", f"{type(problem).__name__}: {problem}")
        else:
            answer("ok", *([] if found is None else [found]))
    if session is not None:
        session.stop()


try:
    main()
finally:
    shutil.rmtree(folder, ignore_errors=True)
