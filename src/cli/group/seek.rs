//! Moving a group: offsets are committed for it from outside, which a group without members allows.

use std::collections::{BTreeMap, BTreeSet};

use kafka_client::ErrorCode;
use kafka_client::api::{OffsetCommit, OffsetQuery, OffsetToCommit};
use serde_json::{Value, json};

use super::members::Group;
use super::progress::{offsets_of, or_dash};
use crate::cli::Context;
use crate::cli::commits::{TopicPartition, commit, committed};
use crate::cli::coordinator::{self, Coordinator};
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{Format, Table, printable};
use crate::cli::position::Position;
use crate::cli::session::Session;
use crate::cli::topic::{needs_partition, only_partition};

/// What is asked for.
pub(super) struct Seek {
    pub(super) group: String,
    pub(super) target: Target,
    pub(super) topics: Vec<String>,
    pub(super) partition: Option<i32>,
    pub(super) dry_run: bool,
}

/// Where to go.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    To(Position),
    By(i64),
}

/// What moves: one partition's committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Move {
    partition: TopicPartition,
    from: Option<i64>,
    to: i64,
    end: i64,
}

/// Where a partition's log begins and ends.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    start: i64,
    end: i64,
}

pub(super) async fn seek(
    session: &mut Session,
    seek: &Seek,
    context: &mut Context,
) -> Result<(), Failure> {
    let name = seek.group.as_str();
    let mut at = Coordinator::find(session, name).await?;
    let group = Group::ask(session, &mut at, name).await?;
    match &group {
        Some(group) if !group.members.is_empty() => {
            return Err(coordinator::has_members(session, name));
        }
        // With a topic it is made by its first commit.
        None if seek.topics.is_empty() => return Err(coordinator::does_not_exist(session, name)),
        _ => {}
    }
    let committed = committed(session, &mut at, name).await?;
    let partitions = chosen(session, seek, &committed).await?;
    let moves = planned(session, seek, &partitions, &committed).await?;
    let refused = match seek.dry_run {
        true => BTreeMap::new(),
        false => commit(session, &mut at, &from_outside(name, &moves)).await?,
    };
    let done: Vec<&Move> = moves
        .iter()
        .filter(|to_move| !refused.contains_key(&to_move.partition))
        .collect();
    show(seek, &done, context)?;
    let Some(((topic, partition), error)) = refused.into_iter().next() else {
        return Ok(());
    };
    // Members came after the look above.
    if error == ErrorCode::UNKNOWN_MEMBER_ID {
        return Err(coordinator::has_members(session, name));
    }
    let failure = coordinator::failure(session, name, error.into());
    Err(failure.context(&format!("topic {topic} partition {partition}")))
}

/// The partitions that are to move.
async fn chosen(
    session: &mut Session,
    seek: &Seek,
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<BTreeSet<TopicPartition>, Failure> {
    if seek.topics.is_empty() {
        let partitions: BTreeSet<TopicPartition> = committed.keys().cloned().collect();
        if partitions.is_empty() {
            let name = printable(seek.group.as_bytes());
            return Err(Failure::new(
                Kind::NotFound,
                format!("group {name} has no committed offsets to move"),
            )
            .help("say where it is to begin with --topic TOPIC"));
        }
        return Ok(partitions);
    }
    let mut partitions = BTreeSet::new();
    for name in &seek.topics {
        let topic = session.led_topic(name).await?;
        let topic = only_partition(session, topic, seek.partition)?;
        partitions.extend(topic.partitions.iter().map(|p| (name.clone(), p.index)));
    }
    Ok(partitions)
}

/// Where each of them goes.
async fn planned(
    session: &mut Session,
    seek: &Seek,
    partitions: &BTreeSet<TopicPartition>,
    committed: &BTreeMap<TopicPartition, i64>,
) -> Result<Vec<Move>, Failure> {
    if let (Target::To(Position::Offset(_)), Some((topic, _))) = (seek.target, partitions.first())
        && partitions.len() > 1
    {
        return Err(needs_partition(topic, partitions.len()));
    }
    let starts = offsets_of(session, partitions, OffsetQuery::EARLIEST).await?;
    let ends = offsets_of(session, partitions, OffsetQuery::LATEST).await?;
    let times = match seek.target {
        Target::To(Position::Time(ms)) => offsets_of(session, partitions, ms).await?,
        _ => BTreeMap::new(),
    };
    let mut moves = Vec::new();
    for partition in partitions {
        let subject = || format!("topic {} partition {}", partition.0, partition.1);
        let (Some(start), Some(end)) = (starts.get(partition), ends.get(partition)) else {
            return Err(Failure::new(
                Kind::TimedOut,
                format!("{}: where it begins and ends is not known", subject()),
            )
            .help(session.suggest(&format!("topic describe {} --replicas", partition.0))));
        };
        let bounds = Bounds {
            start: *start,
            end: *end,
        };
        let from = committed.get(partition).copied();
        let time = times.get(partition).copied();
        let to = destination(seek.target, from, time, bounds)
            .map_err(|failure| failure.context(&subject()))?;
        moves.push(Move {
            partition: partition.clone(),
            from,
            to,
            end: bounds.end,
        });
    }
    Ok(moves)
}

/// Where one partition goes. `time` is what was found for a time, -1 when nothing is as new.
fn destination(
    target: Target,
    from: Option<i64>,
    time: Option<i64>,
    Bounds { start, end }: Bounds,
) -> Result<i64, Failure> {
    match target {
        Target::To(Position::Start) => Ok(start),
        Target::To(Position::End) => Ok(end),
        Target::To(Position::Time(_)) => Ok(time.filter(|offset| *offset >= 0).unwrap_or(end)),
        Target::To(Position::Offset(offset)) if (start..=end).contains(&offset) => Ok(offset),
        Target::To(Position::Offset(offset)) => Err(Failure::new(
            Kind::Failed,
            format!("{offset} is no offset of it, they go from {start} to {end}"),
        )
        .help("give one between them, start, end, or @TIME")),
        Target::By(count) => match from {
            Some(from) => Ok(from.saturating_add(count).clamp(start, end.max(start))),
            None => Err(
                Failure::new(Kind::Failed, "there is no committed offset to go on from")
                    .help("say where to with --to, or which partition with --partition"),
            ),
        },
    }
}

/// What to commit from outside of the group.
fn from_outside(group: &str, moves: &[Move]) -> OffsetCommit {
    OffsetCommit {
        group_id: group.to_owned(),
        generation_or_epoch: -1,
        member_id: String::new(),
        instance_id: None,
        offsets: moves
            .iter()
            .map(|to_move| OffsetToCommit {
                topic: to_move.partition.0.clone(),
                partition: to_move.partition.1,
                offset: to_move.to,
                leader_epoch: -1,
                metadata: None,
            })
            .collect(),
    }
}

fn show(seek: &Seek, moves: &[&Move], context: &mut Context) -> Result<(), Failure> {
    if context.output.format() == Format::Json {
        let moves = moves.iter().map(|to_move| {
            json!({
                "topic": to_move.partition.0,
                "partition": to_move.partition.1,
                "from_offset": to_move.from,
                "to_offset": to_move.to,
                "end_offset": to_move.end,
                "lag": to_move.end - to_move.to,
            })
        });
        return Ok(context.output.json(&json!({
            "group": seek.group,
            "dry_run": seek.dry_run,
            "partitions": Value::from_iter(moves),
        }))?);
    }
    let mut table = Table::new(&["TOPIC", "PARTITION", "FROM", "TO", "END", "LAG"]);
    for to_move in moves {
        table.row(vec![
            printable(to_move.partition.0.as_bytes()),
            to_move.partition.1.to_string(),
            or_dash(to_move.from),
            to_move.to.to_string(),
            to_move.end.to_string(),
            (to_move.end - to_move.to).to_string(),
        ]);
    }
    Ok(context.output.table(&table)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { start: 10, end: 20 };

    fn to(position: Position) -> Option<i64> {
        destination(Target::To(position), None, None, BOUNDS).ok()
    }

    fn by(count: i64, from: Option<i64>) -> Option<i64> {
        destination(Target::By(count), from, None, BOUNDS).ok()
    }

    #[test]
    fn a_position_lies_within_the_log() {
        assert_eq!(to(Position::Start), Some(10));
        assert_eq!(to(Position::End), Some(20));
        for offset in [10, 15, 20] {
            assert_eq!(to(Position::Offset(offset)), Some(offset));
        }
        for offset in [0, 9, 21, i64::MAX] {
            assert_eq!(to(Position::Offset(offset)), None);
        }
    }

    #[test]
    fn a_time_newer_than_every_record_is_the_end() {
        let time = Target::To(Position::Time(5));
        for (found, offset) in [(Some(12), 12), (Some(-1), 20), (None, 20)] {
            assert_eq!(destination(time, None, found, BOUNDS).ok(), Some(offset));
        }
    }

    #[test]
    fn a_distance_ends_at_start_and_end() {
        for (count, offset) in [
            (0, 15),
            (3, 18),
            (-2, 13),
            (99, 20),
            (i64::MAX, 20),
            (i64::MIN, 10),
        ] {
            assert_eq!(by(count, Some(15)), Some(offset));
        }
        assert_eq!(by(-1, Some(3)), Some(10));
        assert_eq!(by(1, None), None);
    }
}
