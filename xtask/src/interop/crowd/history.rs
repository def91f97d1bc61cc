//! What the members, the sender and the watcher of a crowd said, one event a line.
//!
//! Every line begins with the machine's monotonic time in nanoseconds, so that the lines of several
//! processes can be put in order (`xtask/interop/README.md` has their form).

use std::collections::BTreeMap;

/// Something that happened at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    /// Monotonic nanoseconds.
    pub(super) at_ns: u64,
    /// What.
    pub(super) what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// A member has these partitions from now on, beside those that it has.
    Assigned(String, Vec<u32>),
    /// A member has given these up, by itself.
    Revoked(String, Vec<u32>),
    /// A member has learnt that it had lost these.
    Lost(String, Vec<u32>),
    /// A member is no more: it closed, or its process was killed.
    Ended(String),
    /// A member has processed a record.
    Read {
        /// Who.
        member: String,
        /// Where.
        at: At,
        /// The record's value.
        value: u64,
    },
    /// A member's commit was acknowledged: `at.offset` is the first record that is not committed.
    Committed {
        /// Who.
        member: String,
        /// Where.
        at: At,
        /// When it was asked for.
        begun_ns: u64,
    },
    /// A member's commit was not acknowledged.
    Refused(String),
    /// A record was sent and acknowledged.
    Sent {
        /// Where.
        at: At,
        /// The record's value.
        value: u64,
    },
    /// These offsets were committed, says the coordinator, by partition.
    Seen {
        /// When it was asked.
        begun_ns: u64,
        /// By partition.
        next: BTreeMap<u32, u64>,
    },
    /// The coordinator's view of the group.
    Group(GroupView),
    /// A client failed in a way that it should not.
    Problem(String),
    /// A request of ours is done.
    Answer(String),
}

/// An offset of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct At {
    /// Its partition.
    pub(super) partition: u32,
    /// The offset.
    pub(super) offset: u64,
}

/// What a group's coordinator says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GroupView {
    /// Nobody is about to join, to give up or to take anything.
    pub(super) is_stable: bool,
    /// So many members; 0 when the coordinator could not be asked.
    pub(super) members: usize,
    /// The node that is the coordinator, when one could be asked.
    pub(super) coordinator: Option<u32>,
}

impl Event {
    /// Reads a line.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        Self::try_parse(line).ok_or_else(|| format!("odd line {line}"))
    }

    fn try_parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split('\t').collect();
        let (at_ns, words) = words.split_first()?;
        let what = match *words {
            ["assigned", member, partitions] => {
                What::Assigned(member.to_owned(), numbers(partitions)?)
            }
            ["revoked", member, partitions] => {
                What::Revoked(member.to_owned(), numbers(partitions)?)
            }
            ["lost", member, partitions] => What::Lost(member.to_owned(), numbers(partitions)?),
            ["closed", member] => What::Ended(member.to_owned()),
            ["read", member, partition, offset, value] => What::Read {
                member: member.to_owned(),
                at: At::parse(partition, offset)?,
                value: value.parse().ok()?,
            },
            ["commit", member, partition, next, begun] => What::Committed {
                member: member.to_owned(),
                at: At::parse(partition, next)?,
                begun_ns: begun.parse().ok()?,
            },
            ["refused", _, why] => What::Refused(why.to_owned()),
            ["sent", partition, offset, value] => What::Sent {
                at: At::parse(partition, offset)?,
                value: value.parse().ok()?,
            },
            ["seen", begun, next] => What::Seen {
                begun_ns: begun.parse().ok()?,
                next: offsets(next)?,
            },
            ["group", state, members, coordinator] => What::Group(GroupView {
                is_stable: state == "STABLE",
                members: members.parse().ok()?,
                coordinator: coordinator.parse().ok(),
            }),
            ["problem", who, why] => What::Problem(format!("{who}: {why}")),
            ["answer", what] => What::Answer(what.to_owned()),
            _ => return None,
        };
        let at_ns = at_ns.parse().ok()?;
        Some(Self { at_ns, what })
    }
}

impl At {
    fn parse(partition: &str, offset: &str) -> Option<Self> {
        Some(Self {
            partition: partition.parse().ok()?,
            offset: offset.parse().ok()?,
        })
    }
}

fn numbers(list: &str) -> Option<Vec<u32>> {
    let items = list.split(',').filter(|item| !item.is_empty());
    items.map(|item| item.parse().ok()).collect()
}

fn offsets(list: &str) -> Option<BTreeMap<u32, u64>> {
    let items = list.split(',').filter(|item| !item.is_empty());
    let entry = |item: &str| {
        let (partition, next) = item.split_once(':')?;
        Some((partition.parse().ok()?, next.parse().ok()?))
    };
    items.map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_events() {
        let what = |line: &str| Event::parse(line).unwrap().what;
        assert_eq!(
            Event::parse("12\tassigned\ta-1\t3,4").unwrap(),
            Event {
                at_ns: 12,
                what: What::Assigned("a-1".to_owned(), vec![3, 4])
            }
        );
        assert_eq!(
            what("12\trevoked\ta-1\t"),
            What::Revoked("a-1".to_owned(), Vec::new())
        );
        assert_eq!(
            what("12\tcommit\ta-1\t3\t7\t11"),
            What::Committed {
                member: "a-1".to_owned(),
                at: At {
                    partition: 3,
                    offset: 7
                },
                begun_ns: 11
            }
        );
        assert_eq!(
            what("12\tseen\t11\t3:7,4:8"),
            What::Seen {
                begun_ns: 11,
                next: BTreeMap::from([(3, 7), (4, 8)])
            }
        );
        let away = GroupView::default();
        assert_eq!(what("12\tgroup\tUNKNOWN\t0\t-1"), What::Group(away));
    }

    #[test]
    fn other_lines_are_refused() {
        for line in ["", "12", "12\tread\ta", "x\tclosed\ta", "12\tlost\ta\t-1"] {
            assert!(Event::parse(line).is_err(), "{line}");
        }
    }
}
