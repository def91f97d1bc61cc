//! The behaviours of clients whose drivers know single requests (`xtask/interop/README.md`), each
//! on a topic of its own: the same for every such client.

use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::client::{Client, Protocol, UNABLE};
use super::driver::Driver;
use super::report::Report;
use crate::process::Owned;

/// How long anything may take that nodes show a little late.
const LATE_LIMIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

type Check = fn(&mut Driver, &str) -> Result<(), String>;

const CHECKS: &[(&str, Check)] = &[
    ("describe cluster", describes_cluster),
    ("create and list a topic", creates_and_lists),
    ("creating a topic twice is refused", refuses_to_create_twice),
    ("unknown and bad configs are refused", refuses_bad_configs),
    ("bad names and counts are refused", refuses_bad_topics),
    ("create partitions", creates_partitions),
    ("describe configs", describes_configs),
    ("alter configs, and they are enforced", alters_configs),
    ("idempotent producer", produces_idempotently),
    ("acks 0, 1 and all", produces_with_all_acks),
    ("read from beginning, middle and end", reads_from_positions),
    ("offsets for times", finds_offsets_by_time),
    ("list offsets", lists_offsets),
    ("delete records", deletes_records),
    ("offset out of range is reported", reports_out_of_range),
    (
        "record over max.message.bytes is refused",
        refuses_too_large,
    ),
    (
        "unknown topic is reported, not created",
        reports_unknown_topic,
    ),
    ("producing to a new topic creates it", creates_by_producing),
    (
        "delete a topic and create it again",
        deletes_and_creates_again,
    ),
];

/// Of the clients whose drivers know the requests for groups.
const GROUP_CHECKS: &[(&str, Check)] = &[
    ("list and describe groups", lists_groups),
    (
        "set and delete a group's offsets",
        sets_and_deletes_group_offsets,
    ),
    ("delete groups, but none with members", deletes_groups),
];
const GROUP_ADMINS: [&str; 4] = ["franz-go", "sarama", "kafka-go", "kafka-python"];

/// Runs all of them.
pub(crate) fn run(driver: &mut Driver, name: &str, prefix: &str, report: &mut Report) {
    let groups = match GROUP_ADMINS.contains(&name) {
        true => GROUP_CHECKS,
        false => &[],
    };
    for (number, (behaviour, check)) in CHECKS.iter().chain(groups).enumerate() {
        report.add(
            name,
            behaviour,
            check(driver, &format!("{prefix}-{number}")),
        );
    }
}

fn equal(found: &[String], expected: &str) -> Result<(), String> {
    let found = found.join(" ");
    match found == expected {
        true => Ok(()),
        false => Err(format!("found {found}, not {expected}")),
    }
}

/// Asks again until the answer is the expected one: nodes show some things a little late.
fn until(driver: &mut Driver, words: &[&str], expected: &str) -> Result<(), String> {
    let deadline = Instant::now() + LATE_LIMIT;
    loop {
        let outcome = driver.ask(words).and_then(|found| equal(&found, expected));
        if outcome.is_ok() || Instant::now() > deadline {
            return outcome;
        }
        sleep(POLL_INTERVAL);
    }
}

/// Asks what must be refused with this error of Kafka's.
fn refused(driver: &mut Driver, error: &str, words: &[&str]) -> Result<(), String> {
    match driver.ask(words) {
        Ok(_) => Err(format!("{} was not refused with {error}", words[0])),
        Err(why) if why.contains(error) => Ok(()),
        // It cannot tell.
        Err(why) if why.starts_with(UNABLE) => Err(why),
        Err(why) => Err(format!("{} was refused with {why}", words[0])),
    }
}

fn is_listed(driver: &mut Driver, topic: &str) -> Result<bool, String> {
    let topics = driver.ask(&["topics"])?;
    Ok(topics
        .iter()
        .flat_map(|all| all.split(','))
        .any(|one| one == topic))
}

fn until_listed(driver: &mut Driver, topic: &str, wanted: bool) -> Result<(), String> {
    let deadline = Instant::now() + LATE_LIMIT;
    while is_listed(driver, topic)? != wanted {
        if Instant::now() > deadline {
            return Err(format!("{topic} in the list: not {wanted}"));
        }
        sleep(POLL_INTERVAL);
    }
    Ok(())
}

fn create(driver: &mut Driver, topic: &str, partitions: &str) -> Result<(), String> {
    driver.ask(&["create", topic, partitions])?;
    until_listed(driver, topic, true)
}

/// Sends `record 0` and so on to partition 0.
fn send(driver: &mut Driver, topic: &str, count: &str, acks: &str) -> Result<Vec<String>, String> {
    driver.ask(&["send", topic, "0", count, acks, "0", "-1"])
}

fn fill(driver: &mut Driver, topic: &str, count: &str) -> Result<(), String> {
    create(driver, topic, "1")?;
    send(driver, topic, count, "all").map(|_| ())
}

fn value(driver: &mut Driver, topic: &str, offset: u32) -> Result<(), String> {
    let found = driver.ask(&["value", topic, "0", &offset.to_string()])?;
    equal(&found, &format!("record {offset}"))
}

fn describes_cluster(driver: &mut Driver, _: &str) -> Result<(), String> {
    let port = |address: &str| address.rsplit(':').next().map(str::to_owned);
    let mut expected: Vec<String> = driver.bootstrap().split(',').filter_map(port).collect();
    let found = driver.ask(&["cluster"])?;
    let [id, controller, ports] = found.as_slice() else {
        return Err(format!("odd answer {found:?}"));
    };
    let mut ports: Vec<&str> = ports.split(',').collect();
    ports.sort_unstable();
    expected.sort_unstable();
    if id.is_empty() || controller.starts_with('-') {
        return Err(format!("cluster id {id:?}, controller {controller}"));
    }
    match ports == expected {
        true => Ok(()),
        false => Err(format!("ports are {ports:?}, not {expected:?}")),
    }
}

fn creates_and_lists(driver: &mut Driver, topic: &str) -> Result<(), String> {
    driver.ask(&["create", topic, "3", "retention.ms=86400000"])?;
    until_listed(driver, topic, true)
}

fn refuses_to_create_twice(driver: &mut Driver, topic: &str) -> Result<(), String> {
    create(driver, topic, "1")?;
    refused(driver, "TOPIC_ALREADY_EXISTS", &["create", topic, "1"])
}

fn refuses_bad_configs(driver: &mut Driver, topic: &str) -> Result<(), String> {
    for config in ["no.such.config=1", "retention.ms=soon"] {
        refused(driver, "INVALID_CONFIG", &["create", topic, "1", config])?;
    }
    Ok(())
}

fn refuses_bad_topics(driver: &mut Driver, topic: &str) -> Result<(), String> {
    let bad = format!("{topic} with blanks");
    refused(driver, "INVALID_TOPIC_EXCEPTION", &["create", &bad, "1"])?;
    refused(driver, "INVALID_PARTITIONS", &["create", topic, "0"])
}

fn creates_partitions(driver: &mut Driver, topic: &str) -> Result<(), String> {
    create(driver, topic, "2")?;
    driver.ask(&["grow", topic, "5"])?;
    until(driver, &["bounds", topic, "4"], "0 0")?;
    driver.ask(&["send", topic, "4", "1", "all", "0", "-1"])?;
    until(driver, &["bounds", topic, "4"], "0 1")?;
    refused(driver, "INVALID_PARTITIONS", &["grow", topic, "3"])
}

fn describes_configs(driver: &mut Driver, topic: &str) -> Result<(), String> {
    driver.ask(&["create", topic, "1", "retention.ms=86400000"])?;
    until_listed(driver, topic, true)?;
    until(driver, &["config", topic, "retention.ms"], "86400000")?;
    until(driver, &["config", topic, "max.message.bytes"], "1048588")?;
    until(driver, &["config", topic, "cleanup.policy"], "delete")
}

fn alters_configs(driver: &mut Driver, topic: &str) -> Result<(), String> {
    create(driver, topic, "1")?;
    driver.ask(&["set-config", topic, "max.message.bytes", "5000"])?;
    until(driver, &["config", topic, "max.message.bytes"], "5000")?;
    let large = ["send", topic, "0", "1", "all", "10000", "-1"];
    refused(driver, "MESSAGE_TOO_LARGE", &large)?;
    let unknown = ["set-config", topic, "no.such.config", "1"];
    refused(driver, "INVALID_CONFIG", &unknown)
}

fn produces_idempotently(driver: &mut Driver, topic: &str) -> Result<(), String> {
    create(driver, topic, "1")?;
    equal(&send(driver, topic, "20000", "idempotent")?, "0 19999")?;
    until(driver, &["bounds", topic, "0"], "0 20000")?;
    value(driver, topic, 19_999)
}

fn produces_with_all_acks(driver: &mut Driver, topic: &str) -> Result<(), String> {
    create(driver, topic, "1")?;
    for acks in ["0", "1", "all"] {
        send(driver, topic, "100", acks)?;
    }
    until(driver, &["bounds", topic, "0"], "0 300")
}

fn reads_from_positions(driver: &mut Driver, topic: &str) -> Result<(), String> {
    fill(driver, topic, "1000")?;
    [0, 501, 999]
        .iter()
        .try_for_each(|at| value(driver, topic, *at))
}

fn finds_offsets_by_time(driver: &mut Driver, topic: &str) -> Result<(), String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_err(|problem| problem.to_string())?;
    let base = i64::try_from(now.as_millis()).map_err(|e| e.to_string())? - 3_600_000;
    create(driver, topic, "1")?;
    let base_text = base.to_string();
    driver.ask(&["send", topic, "0", "1000", "all", "0", &base_text])?;
    let asked = [-5, 0, 500_000, 500_001, 10_000_000];
    for (after, expected) in asked.into_iter().zip(["0", "0", "500", "501", "-1"]) {
        let found = driver.ask(&["at-time", topic, &(base + after).to_string()])?;
        equal(&found, expected).map_err(|why| format!("{after} ms after the first: {why}"))?;
    }
    Ok(())
}

fn lists_offsets(driver: &mut Driver, topic: &str) -> Result<(), String> {
    fill(driver, topic, "100")?;
    until(driver, &["bounds", topic, "0"], "0 100")
}

fn deletes_records(driver: &mut Driver, topic: &str) -> Result<(), String> {
    fill(driver, topic, "100")?;
    driver.ask(&["trim", topic, "40"])?;
    until(driver, &["bounds", topic, "0"], "40 100")?;
    value(driver, topic, 40)?;
    let before = ["value", topic, "0", "39"];
    refused(driver, "OFFSET_OUT_OF_RANGE", &before)
}

fn reports_out_of_range(driver: &mut Driver, topic: &str) -> Result<(), String> {
    fill(driver, topic, "10")?;
    let beyond = ["value", topic, "0", "1000"];
    refused(driver, "OFFSET_OUT_OF_RANGE", &beyond)
}

fn refuses_too_large(driver: &mut Driver, topic: &str) -> Result<(), String> {
    create(driver, topic, "1")?;
    let large = ["send", topic, "0", "1", "all", "1048576", "-1"];
    refused(driver, "MESSAGE_TOO_LARGE", &large)?;
    let fits = ["send", topic, "0", "1", "all", "1048376", "-1"];
    driver.ask(&fits)?;
    until(driver, &["bounds", topic, "0"], "0 1")
}

fn reports_unknown_topic(driver: &mut Driver, topic: &str) -> Result<(), String> {
    let asked = ["bounds", topic, "0"];
    refused(driver, "UNKNOWN_TOPIC_OR_PARTITION", &asked)?;
    match is_listed(driver, topic)? {
        true => Err("asking created the topic".to_owned()),
        false => Ok(()),
    }
}

fn creates_by_producing(driver: &mut Driver, topic: &str) -> Result<(), String> {
    send(driver, topic, "1", "all")?;
    until_listed(driver, topic, true)?;
    value(driver, topic, 0)
}

fn deletes_and_creates_again(driver: &mut Driver, topic: &str) -> Result<(), String> {
    fill(driver, topic, "10")?;
    driver.ask(&["delete", topic])?;
    until_listed(driver, topic, false)?;
    fill(driver, topic, "5")?;
    until(driver, &["bounds", topic, "0"], "0 5")
}

fn lists_groups(driver: &mut Driver, topic: &str) -> Result<(), String> {
    let group = format!("{topic}-group");
    fill(driver, topic, "50")?;
    driver.ask(&["set-group-offset", &group, topic, "40"])?;
    until_group_listed(driver, &group, true)?;
    until(driver, &["group-state", &group], "Empty 0")
}

fn sets_and_deletes_group_offsets(driver: &mut Driver, topic: &str) -> Result<(), String> {
    let group = format!("{topic}-group");
    fill(driver, topic, "50")?;
    for offset in ["40", "7"] {
        driver.ask(&["set-group-offset", &group, topic, offset])?;
        until(driver, &["group-offset", &group, topic], offset)?;
    }
    // With another topic's offset the group stays.
    let other = format!("{topic}-other");
    create(driver, &other, "1")?;
    driver.ask(&["set-group-offset", &group, &other, "3"])?;
    driver.ask(&["delete-group-offset", &group, topic])?;
    until(driver, &["group-offset", &group, topic], "-1")?;
    until(driver, &["group-offset", &group, &other], "3")
}

fn deletes_groups(driver: &mut Driver, topic: &str) -> Result<(), String> {
    let group = format!("{topic}-group");
    create(driver, topic, "1")?;
    let mut program = driver.member(&group, topic, Protocol::Classic)?;
    let mut member = Owned::spawn(&mut program.command)?;
    until(driver, &["group-state", &group], "Stable 1")?;
    refused(driver, "NON_EMPTY_GROUP", &["delete-group", &group])?;
    drop(member.0.stdin.take());
    member.wait_until(Instant::now() + LATE_LIMIT)?;
    until(driver, &["group-state", &group], "Empty 0")?;
    driver.ask(&["delete-group", &group])?;
    until_group_listed(driver, &group, false)
}

fn until_group_listed(driver: &mut Driver, group: &str, wanted: bool) -> Result<(), String> {
    let deadline = Instant::now() + LATE_LIMIT;
    loop {
        let groups = driver.ask(&["groups"])?;
        let mut groups = groups.iter().flat_map(|all| all.split(','));
        if groups.any(|one| one == group) == wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("{group} in the list: not {wanted}"));
        }
        sleep(POLL_INTERVAL);
    }
}
