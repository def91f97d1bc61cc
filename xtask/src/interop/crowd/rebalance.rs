//! How long rebalances take: from what causes one until every partition has one owner again and
//! the coordinator says that all members are as they should be.
//!
//! Pure: taken from a history after the fact, so that a change that comes late counts too.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{Event, GroupView, What};

/// What befalls a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Cause {
    /// All members join an empty group.
    AllJoin,
    /// Members close, all those of a process.
    BatchLeaves,
    /// As many join.
    BatchJoins,
    /// A process of members is killed; time is counted from when their sessions end.
    Killed,
    /// A node that does not coordinate the group is restarted.
    NodeRestarts,
    /// The coordinator is restarted.
    CoordinatorRestarts,
    /// The coordinator is killed and stays away.
    CoordinatorKilled,
    /// The coordinator is killed just when members join.
    CoordinatorKilledInRebalance,
    /// It is started again.
    NodeReturns,
}

impl Cause {
    /// All of them, in the order of the table.
    pub(super) const ALL: [Self; 9] = [
        Self::AllJoin,
        Self::BatchLeaves,
        Self::BatchJoins,
        Self::Killed,
        Self::NodeRestarts,
        Self::CoordinatorRestarts,
        Self::CoordinatorKilled,
        Self::CoordinatorKilledInRebalance,
        Self::NodeReturns,
    ];

    /// What the table calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AllJoin => "all members join",
            Self::BatchLeaves => "a batch leaves",
            Self::BatchJoins => "a batch joins",
            Self::Killed => "a process is killed (after its sessions)",
            Self::NodeRestarts => "another node is restarted",
            Self::CoordinatorRestarts => "the coordinator is restarted",
            Self::CoordinatorKilled => "the coordinator is killed",
            Self::CoordinatorKilledInRebalance => "the coordinator is killed as they join",
            Self::NodeReturns => "the killed node returns",
        }
    }
}

/// When something befell the group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    /// What.
    pub(super) cause: Cause,
    /// Monotonic nanoseconds.
    pub(super) at_ns: u64,
    /// So many members there are in the end.
    pub(super) members: usize,
}

/// A rebalance, or what could have been one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rebalance {
    /// What caused it.
    pub(super) cause: Cause,
    /// Until everything was settled for good; None when it never was.
    pub(super) took_ns: Option<u64>,
    /// How long a partition was without an owner, at the longest.
    pub(super) unowned_ns: u64,
    /// How long no member's commit was acknowledged, at the longest.
    pub(super) uncommitted_ns: u64,
}

/// Who owns what, and what the coordinator says, after the events so far.
pub(super) struct Tracker {
    owners: Vec<BTreeSet<String>>,
    /// Since when a partition is without an owner.
    unowned_since: BTreeMap<usize, u64>,
    group: GroupView,
}

impl Tracker {
    /// Nobody owns any of so many partitions.
    pub(super) fn new(partitions: usize) -> Self {
        Self {
            owners: vec![BTreeSet::new(); partitions],
            unowned_since: (0..partitions).map(|partition| (partition, 0)).collect(),
            group: GroupView::default(),
        }
    }

    /// Takes an event; how long a partition that gets an owner by it was without one.
    pub(super) fn apply(&mut self, event: &Event) -> Option<u64> {
        match &event.what {
            What::Assigned(member, partitions) => {
                let owned = partitions
                    .iter()
                    .map(|one| self.give(*one, member, event.at_ns));
                return owned.max().flatten();
            }
            What::Revoked(member, partitions) | What::Lost(member, partitions) => {
                for partition in partitions {
                    self.take(*partition as usize, member, event.at_ns);
                }
            }
            What::Ended(member) => {
                for partition in 0..self.owners.len() {
                    self.take(partition, member, event.at_ns);
                }
            }
            What::Group(view) => self.group = view.clone(),
            _ => {}
        }
        None
    }

    fn give(&mut self, partition: u32, member: &str, at_ns: u64) -> Option<u64> {
        let partition = partition as usize;
        self.owners.get_mut(partition)?.insert(member.to_owned());
        let since = self.unowned_since.remove(&partition)?;
        Some(at_ns.saturating_sub(since))
    }

    fn take(&mut self, partition: usize, member: &str, at_ns: u64) {
        if let Some(owners) = self.owners.get_mut(partition)
            && owners.remove(member)
            && owners.is_empty()
        {
            self.unowned_since.insert(partition, at_ns);
        }
    }

    /// Whether the group has so many members, all at rest, and each partition one owner.
    pub(super) fn is_settled(&self, members: usize) -> bool {
        self.group.is_stable
            && self.group.members == members
            && self.owners.iter().all(|owners| owners.len() == 1)
    }

    /// The node that coordinates the group, when it was last asked.
    pub(super) fn coordinator(&self) -> Option<u32> {
        self.group.coordinator
    }

    /// What the coordinator said is old: it is to say it again.
    pub(super) fn forget_view(&mut self) {
        self.group = GroupView::default();
    }

    /// What there is, for a message.
    pub(super) fn shown(&self) -> String {
        let owned = self.owners.iter().filter(|owners| owners.len() == 1);
        format!(
            "{} partitions have one owner, {:?}",
            owned.count(),
            self.group
        )
    }
}

/// What came of each mark until the next, and of the last one until the end.
pub(super) fn rebalances(
    events: &[Event],
    marks: &[Mark],
    partitions: usize,
    end_ns: u64,
) -> Vec<Rebalance> {
    let mut ordered: Vec<&Event> = events.iter().collect();
    ordered.sort_by_key(|event| event.at_ns);
    let mut events = ordered.into_iter().peekable();
    let mut tracker = Tracker::new(partitions);
    let mut found = Vec::new();
    for (at, mark) in marks.iter().enumerate() {
        while let Some(event) = events.next_if(|event| event.at_ns < mark.at_ns) {
            tracker.apply(event);
        }
        let until_ns = marks.get(at + 1).map_or(end_ns, |next| next.at_ns);
        let before = marks[..at].last().map_or(0, |mark| mark.members);
        tracker.forget_view();
        let mut window = Window::new(mark, before);
        while let Some(event) = events.next_if(|event| event.at_ns < until_ns) {
            window.take(event, &mut tracker);
        }
        found.push(window.close(at == 0));
    }
    found
}

/// The time after a mark.
struct Window<'a> {
    mark: &'a Mark,
    members_before: usize,
    /// When the rebalance begins: with the mark, or when the coordinator misses somebody.
    begun_ns: Option<u64>,
    settled_ns: Option<u64>,
    unowned_ns: u64,
    last_commit_ns: u64,
    uncommitted_ns: u64,
}

impl<'a> Window<'a> {
    fn new(mark: &'a Mark, members_before: usize) -> Self {
        Self {
            mark,
            members_before,
            begun_ns: (mark.cause != Cause::Killed).then_some(mark.at_ns),
            settled_ns: None,
            unowned_ns: 0,
            last_commit_ns: mark.at_ns,
            uncommitted_ns: 0,
        }
    }

    fn take(&mut self, event: &Event, tracker: &mut Tracker) {
        if let What::Group(view) = &event.what
            && view.coordinator.is_some()
            && (!view.is_stable || view.members < self.members_before)
        {
            self.begun_ns.get_or_insert(event.at_ns);
        }
        if let What::Committed { .. } = event.what {
            let since_ns = event.at_ns - self.last_commit_ns;
            self.uncommitted_ns = self.uncommitted_ns.max(since_ns);
            self.last_commit_ns = event.at_ns;
        }
        if let Some(unowned_ns) = tracker.apply(event) {
            self.unowned_ns = self.unowned_ns.max(unowned_ns);
        }
        match tracker.is_settled(self.mark.members) {
            true => self.settled_ns = self.settled_ns.or(Some(event.at_ns)),
            false => self.settled_ns = None,
        }
    }

    /// In the first window no partition had an owner to begin with, and no member anything to commit.
    fn close(self, is_first: bool) -> Rebalance {
        let unless_first = |ns| if is_first { 0 } else { ns };
        let took = |settled: u64| Some(settled.saturating_sub(self.begun_ns?));
        Rebalance {
            cause: self.mark.cause,
            took_ns: self.settled_ns.and_then(took),
            unowned_ns: unless_first(self.unowned_ns),
            uncommitted_ns: unless_first(self.uncommitted_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(lines: &str) -> Vec<Event> {
        let event = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            Event::parse(&words.join("\t")).unwrap()
        };
        lines.lines().map(str::trim).map(event).collect()
    }

    const JOIN: &str = "12 assigned a 0
        13 assigned b 1
        14 group STABLE 2 1";

    fn join() -> Mark {
        Mark {
            cause: Cause::AllJoin,
            at_ns: 10,
            members: 2,
        }
    }

    fn mark(cause: Cause, members: usize) -> Mark {
        Mark {
            cause,
            at_ns: 20,
            members,
        }
    }

    fn took(lines: &str, marks: &[Mark]) -> Vec<(Option<u64>, u64)> {
        let found = rebalances(&events(lines), marks, 2, 100);
        found
            .iter()
            .map(|one| (one.took_ns, one.unowned_ns))
            .collect()
    }

    #[test]
    fn it_takes_until_all_is_owned_and_stable() {
        assert_eq!(took(JOIN, &[join()]), [(Some(4), 0)]);
    }

    #[test]
    fn a_later_change_counts_too() {
        let lines = format!("{JOIN}\n15 revoked b 1\n18 assigned a 1");
        assert_eq!(took(&lines, &[join()]), [(Some(8), 0)]);
    }

    #[test]
    fn what_never_settles_has_no_time() {
        assert_eq!(
            took("12 assigned a 0\n14 group STABLE 2 1", &[join()]),
            [(None, 0)]
        );
        let lines = format!("{JOIN}\n15 assigned a 1");
        assert_eq!(took(&lines, &[join()]), [(None, 0)], "two owners");
        let lines = format!("{JOIN}\n15 group STABLE 3 1");
        assert_eq!(took(&lines, &[join()]), [(None, 0)], "a member too many");
    }

    #[test]
    fn what_comes_after_the_end_does_not_count() {
        let lines = format!("{JOIN}\n100 closed a");
        assert_eq!(took(&lines, &[join()]), [(Some(4), 0)]);
    }

    #[test]
    fn what_the_coordinator_said_before_does_not_count() {
        let marks = [join(), mark(Cause::NodeRestarts, 2)];
        assert_eq!(took(JOIN, &marks), [(Some(4), 0), (None, 0)]);
        let lines = format!("{JOIN}\n23 group STABLE 2 1");
        assert_eq!(took(&lines, &marks), [(Some(4), 0), (Some(3), 0)]);
    }

    #[test]
    fn the_longest_time_without_a_commit_is_found() {
        let lines = format!(
            "{JOIN}
            21 commit a 0 1 19
            27 commit b 1 1 25
            29 commit a 0 2 28
            30 group STABLE 2 1"
        );
        let marks = [join(), mark(Cause::NodeRestarts, 2)];
        let found = rebalances(&events(&lines), &marks, 2, 100);
        let longest: Vec<u64> = found.iter().map(|one| one.uncommitted_ns).collect();
        assert_eq!(longest, [0, 6]);
    }

    #[test]
    fn the_sessions_of_the_killed_are_not_counted() {
        let lines = format!(
            "{JOIN}
            20 closed b
            25 group STABLE 2 1
            50 group RECONCILING 1 1
            53 assigned a 1
            54 group STABLE 1 1"
        );
        let marks = [join(), mark(Cause::Killed, 1)];
        assert_eq!(took(&lines, &marks), [(Some(4), 0), (Some(4), 33)]);
    }
}
