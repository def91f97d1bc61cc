//! Events and operations in words, for tables and for what is shown when pointed at.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::axis::moment;
use super::svg::{escape, shorten};
use crate::history::{Admin, Event, Group, Key, Kind, Membership, Op, Process, Value};

/// Records written out of one list, around those that matter.
const RECORDS_SHOWN_MAX: usize = 8;
const DETAIL_CHARS_MAX: usize = 200;
const LINE_CHARS_MAX: usize = 600;

/// What a line is to show of long lists of records.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Focus<'a> {
    /// Nothing but this partition.
    pub(super) key: Option<&'a Key>,
    /// These values and their neighbours,
    pub(super) values: &'a [Value],
    /// and what stands at these offsets.
    pub(super) offsets: &'a [i64],
}

/// An operation in a line.
pub(super) fn operation(op: &Op, focus: Focus<'_>) -> String {
    match op {
        Op::Send {
            key,
            values: sent,
            idempotent,
            offset,
        } => {
            let mut text = format!("send {} to {key}", list(sent));
            if let Some(offset) = offset {
                let _ = write!(text, " → offset {offset}");
            }
            if !idempotent {
                text.push_str(" (not idempotent)");
            }
            text
        }
        Op::Poll { reads } if reads.is_empty() => "poll".to_owned(),
        Op::Poll { reads } => {
            let reads = reads
                .iter()
                .filter(|read| focus.key.is_none_or(|key| read.key == *key));
            let shown = reads.map(|read| {
                format!(
                    "{} {} (high watermark {})",
                    read.key,
                    records(&read.records, focus),
                    read.high_watermark
                )
            });
            format!("poll {}", shown.collect::<Vec<_>>().join("; "))
        }
        Op::Assign { positions } => {
            let shown = positions
                .iter()
                .map(|(key, offset)| format!("{key} from {offset}"));
            format!("assign {}", shown.collect::<Vec<_>>().join(", "))
        }
        Op::ReplicaRead {
            node,
            key,
            log_start,
            end,
            records: found,
            ..
        } => {
            format!(
                "read of {key} from node {node}, {log_start} to {end}: {}",
                records(found, focus)
            )
        }
        Op::CompactedRead {
            node,
            key,
            end,
            records: found,
        } => format!(
            "read of {key} from node {node}, to {end}: {} records",
            found.len()
        ),
        Op::Fault {
            name,
            begins,
            nodes,
            detail,
        } => {
            let turn = if *begins { "begins" } else { "ends" };
            format!(
                "{name} {turn} on {}: {}",
                nodes_named(nodes),
                shorten(detail, DETAIL_CHARS_MAX)
            )
        }
        Op::Resources {
            node,
            rss_kib,
            descriptors,
        } => {
            format!(
                "node {node} uses {} MiB and {descriptors} descriptors",
                rss_kib / 1024
            )
        }
        Op::Phase { name } => format!("phase {name}"),
        Op::Crash => "crash: a new client".to_owned(),
        Op::Admin(admin) => admin_words(admin),
        Op::Group(group) => group_words(group, focus),
    }
}

fn group_words(group: &Group, focus: Focus<'_>) -> String {
    let is_shown = |key: &&Key| focus.key.is_none_or(|focused| *key == focused);
    let keys = |keys: &[Key]| {
        let shown: Vec<String> = keys.iter().filter(is_shown).map(Key::to_string).collect();
        shown.join(", ")
    };
    let offsets = |offsets: &[(Key, i64)]| {
        let shown = offsets.iter().filter(|(key, _)| is_shown(&key));
        let shown: Vec<String> = shown
            .map(|(key, offset)| format!("{key} at {offset}"))
            .collect();
        shown.join(", ")
    };
    let membership = |what: &str, member: &Membership| {
        format!(
            "{what} {} as `{}` of generation {}: holds {}; owns {}",
            member.group,
            member.member,
            member.generation,
            keys(&member.held),
            keys(&member.owned)
        )
    };
    match group {
        Group::Join(member) => membership("join", member),
        Group::Heartbeat(member) => membership("heartbeat to", member),
        Group::Leave { group, member } => format!("leave {group} as `{member}`"),
        Group::Commit {
            group,
            member,
            generation,
            offsets: of,
        } => format!(
            "commit in {group} as `{member}` of generation {generation}: {}",
            offsets(of)
        ),
        Group::Committed { group, offsets: of } => {
            format!("committed in {group}: {}", offsets(of))
        }
    }
}

fn admin_words(admin: &Admin) -> String {
    match admin {
        Admin::CreateTopic { topic, partitions } => {
            format!("create {topic} with {partitions} partitions")
        }
        Admin::DeleteTopic { topic } => format!("delete {topic}"),
        Admin::SetConfig { topic, key, value } => format!("set {key}={value} of {topic}"),
        Admin::Describe {
            topic,
            exists: None,
            ..
        } => format!("describe {topic}"),
        Admin::Describe {
            topic,
            exists: Some(false),
            ..
        } => format!("describe {topic}: is not there"),
        Admin::Describe {
            topic,
            partitions,
            configs,
            ..
        } => {
            let settings: Vec<_> = configs
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let partitions = partitions.map_or_else(|| "?".to_owned(), |count| count.to_string());
            format!(
                "describe {topic}: {partitions} partitions {}",
                settings.join(" ")
            )
        }
        Admin::ListTopics { topics } if topics.is_empty() => "list topics".to_owned(),
        Admin::ListTopics { topics } => format!("list topics: {}", topics.join(" ")),
    }
}

/// `node 2`, `nodes 1 3`.
pub(super) fn nodes_named(nodes: &[u32]) -> String {
    let numbers: Vec<_> = nodes.iter().map(u32::to_string).collect();
    match numbers.as_slice() {
        [] => "the cluster".to_owned(),
        [one] => format!("node {one}"),
        several => format!("nodes {}", several.join(" ")),
    }
}

fn list(values: &[Value]) -> String {
    let shown: Vec<_> = values
        .iter()
        .take(RECORDS_SHOWN_MAX)
        .map(Value::to_string)
        .collect();
    let more = if values.len() > RECORDS_SHOWN_MAX {
        " …"
    } else {
        ""
    };
    format!("{}{more}", shown.join(" "))
}

/// `offset:value` of some records: those that matter and their neighbours, or the first and the
/// last ones.
fn records(records: &[(i64, Value)], focus: Focus<'_>) -> String {
    if records.is_empty() {
        return "nothing".to_owned();
    }
    let mut shown = BTreeSet::new();
    for (at, (offset, value)) in records.iter().enumerate() {
        // Where an offset that matters is left out, its neighbours show it.
        let is_near = focus.offsets.iter().any(|one| (offset - one).abs() <= 1);
        if (focus.values.contains(value) || is_near) && shown.len() < RECORDS_SHOWN_MAX {
            shown.extend([at.saturating_sub(1), at, (at + 1).min(records.len() - 1)]);
        }
    }
    if shown.is_empty() {
        let last = records.len() - 1;
        shown.extend([0, 1.min(last), last.saturating_sub(1), last]);
    }
    let mut text = String::from("[");
    let mut next = 0;
    for at in shown {
        if at > next {
            text.push_str("… ");
        }
        let (offset, value) = records[at];
        let _ = write!(text, "{offset}:{value} ");
        next = at + 1;
    }
    if next < records.len() {
        text.push('…');
    }
    format!("{}]", text.trim_end())
}

/// An event as a line of HTML, with the values that matter in bold.
pub(super) fn event_line(event: &Event, focus: Focus<'_>) -> String {
    let who = match event.process {
        Process::Client(process) => format!("p{process}"),
        Process::Nemesis => "nemesis".to_owned(),
    };
    let kind = match event.kind {
        Kind::Invoke => "invoke",
        Kind::Ok => "ok",
        Kind::Fail => "fail",
        Kind::Info => "info",
    };
    let text = shorten(&operation(&event.op, focus), LINE_CHARS_MAX);
    let mut line = format!(
        "<span class=\"dim\">{:>6} {:>10}</span> {who:<5} <span class=\"kind-{kind}\">{kind:<6}</span> {}",
        event.index,
        moment(event.time_us),
        emphasised(&text, focus.values)
    );
    if let Some(error) = &event.error {
        let _ = write!(
            line,
            " <span class=\"dim\">{}</span>",
            escape(&shorten(error, DETAIL_CHARS_MAX))
        );
    }
    line
}

/// Whether an event says anything of a partition.
pub(super) fn is_about(event: &Event, key: &Key) -> bool {
    match &event.op {
        Op::Send { key: of, .. } | Op::ReplicaRead { key: of, .. } => of == key,
        Op::Poll { reads } => reads.is_empty() || reads.iter().any(|read| read.key == *key),
        Op::Group(group) => group.keys().next().is_none() || group.keys().any(|of| of == key),
        _ => true,
    }
}

/// Escaped, with whole words that are one of `values` in bold.
fn emphasised(text: &str, values: &[Value]) -> String {
    let mut marked = String::new();
    let mut word = String::new();
    let flush = |word: &mut String, marked: &mut String| {
        let is_named = word
            .parse::<Value>()
            .is_ok_and(|value| values.contains(&value));
        if is_named {
            let _ = write!(marked, "<b class=\"loud-text\">{word}</b>");
        } else {
            marked.push_str(word);
        }
        word.clear();
    };
    for letter in text.chars() {
        if letter.is_ascii_digit() {
            word.push(letter);
        } else {
            flush(&mut word, &mut marked);
            marked.push_str(&escape(letter.encode_utf8(&mut [0; 4])));
        }
    }
    flush(&mut word, &mut marked);
    marked
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_read_the_records_that_matter_are_written() {
        let read: Vec<_> = (0..100)
            .map(|offset| (offset, offset as u64 + 1000))
            .collect();
        let of_value = Focus {
            values: &[1050],
            ..Focus::default()
        };
        assert_eq!(records(&read, of_value), "[… 49:1049 50:1050 51:1051 …]");
        let of_offset = Focus {
            offsets: &[99],
            ..Focus::default()
        };
        assert_eq!(records(&read, of_offset), "[… 97:1097 98:1098 99:1099]");
        assert_eq!(
            records(&read, Focus::default()),
            "[0:1000 1:1001 … 98:1098 99:1099]"
        );
        assert_eq!(records(&read[..1], Focus::default()), "[0:1000]");
        assert_eq!(records(&[], of_value), "nothing");
    }

    #[test]
    fn only_whole_values_are_in_bold() {
        assert_eq!(
            emphasised("4:17 171 <17>", &[17]),
            "4:<b class=\"loud-text\">17</b> 171 &lt;<b class=\"loud-text\">17</b>&gt;"
        );
    }
}
