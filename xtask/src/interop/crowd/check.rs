//! Whether a history of a crowd keeps what a group promises: nothing skipped, nothing read again by
//! whoever came after its commit, no commit undone, no partition with two owners.
//!
//! Pure: a history in, what is wrong with it out. A member that was killed, or that lost its
//! session, may leave records read but not committed; others read those again, rightly.

use std::collections::{BTreeMap, BTreeSet};

use super::history::{At, Event, What};

/// So many anomalies are told; a broken run has thousands of the same.
const TOLD_MAX: usize = 20;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Records that were sent.
    pub(super) sent: usize,
    /// Records that were processed, each as often as it was.
    pub(super) read: usize,
    /// Commits that were acknowledged.
    pub(super) commits: usize,
    /// Commits that were refused or not answered.
    pub(super) refused: usize,
    /// Partitions that members lost rather than gave up: when their session had ended, or when
    /// they closed in the middle of a rebalance.
    pub(super) lost: usize,
    /// What is wrong.
    pub(super) anomalies: Anomalies,
    /// Partitions that somebody got before the former owner had given them up: told apart, since
    /// commits still keep records from being read again.
    pub(super) early: Anomalies,
}

/// Some of what is wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Anomalies {
    /// The first of it.
    pub(super) told: Vec<String>,
    /// How often.
    pub(super) count: usize,
}

impl Anomalies {
    fn add(&mut self, partition: u32, what: &str) {
        self.count += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(format!("partition {partition}: {what}"));
        }
    }

    /// Nothing, or all that is told.
    pub(super) fn none(&self) -> Result<(), String> {
        match self.count {
            0 => Ok(()),
            count => Err(format!("{count} times: {}", self.told.join("; "))),
        }
    }
}

impl Findings {
    fn wrong(&mut self, partition: u32, what: &str) {
        self.anomalies.add(partition, what);
    }
}

/// Checks a history, whose events may be in any order.
pub(super) fn check(events: &[Event]) -> Findings {
    let mut ordered: Vec<&Event> = events.iter().collect();
    ordered.sort_by_key(|event| event.at_ns);
    let mut findings = Findings::default();
    let mut partitions: BTreeMap<u32, Partition<'_>> = BTreeMap::new();
    for event in ordered {
        sort_in(event, &mut partitions, &mut findings);
    }
    for (number, partition) in &partitions {
        let mut wrong = |what: String| findings.wrong(*number, &what);
        partition.check_reads(&mut wrong);
        partition.check_commits(&mut wrong);
        partition.check_owners(&mut wrong);
        let early = &mut findings.early;
        partition.check_handovers(&mut |what: String| early.add(*number, &what));
    }
    findings
}

fn sort_in<'a>(
    event: &'a Event,
    partitions: &mut BTreeMap<u32, Partition<'a>>,
    findings: &mut Findings,
) {
    let at_ns = event.at_ns;
    match &event.what {
        What::Assigned(member, numbers) => {
            for number in numbers {
                let begun = Span::begun(member, at_ns);
                partitions.entry(*number).or_default().spans.push(begun);
            }
        }
        What::Revoked(member, numbers) | What::Lost(member, numbers) => {
            let is_lost = matches!(event.what, What::Lost(..));
            for number in numbers {
                findings.lost += usize::from(is_lost);
                let partition = partitions.entry(*number).or_default();
                match partition.open(member) {
                    Some(span) => span.end(at_ns, is_lost),
                    None => findings.wrong(*number, &format!("{member} gave up what it had not")),
                }
            }
        }
        What::Ended(member) => {
            let spans = partitions.values_mut().filter_map(|one| one.open(member));
            spans.for_each(|span| span.end(at_ns, false));
        }
        What::Read { member, at, value } => {
            findings.read += 1;
            let partition = partitions.entry(at.partition).or_default();
            match partition.open(member) {
                Some(span) => span.reads.push(Read {
                    at_ns,
                    offset: at.offset,
                    value: *value,
                }),
                None => findings.wrong(
                    at.partition,
                    &format!("{member} read {} of a partition that it had not", at.offset),
                ),
            }
        }
        What::Committed {
            member,
            at,
            begun_ns,
        } => {
            findings.commits += 1;
            let commit = Commit {
                member,
                begun_ns: *begun_ns,
                acked_ns: at_ns,
                next: at.offset,
            };
            let partition = partitions.entry(at.partition).or_default();
            partition.commits.push(commit);
        }
        What::Sent { at, value } => {
            findings.sent += 1;
            let sent = &mut partitions.entry(at.partition).or_default().sent;
            if sent.insert(at.offset, *value).is_some() {
                let At { partition, offset } = *at;
                findings.wrong(
                    partition,
                    &format!("offset {offset} was given to two records"),
                );
            }
        }
        What::Seen { begun_ns, next } => {
            for (number, next) in next {
                let seen = (*begun_ns, at_ns, *next);
                partitions.entry(*number).or_default().seen.push(seen);
            }
        }
        What::Refused(_) => findings.refused += 1,
        What::Group(_) | What::Problem(_) | What::Answer(_) => {}
    }
}

/// What happened to one partition, in the order of time.
#[derive(Default)]
struct Partition<'a> {
    /// Values by offset.
    sent: BTreeMap<u64, u64>,
    spans: Vec<Span<'a>>,
    /// In the order of their acknowledgements.
    commits: Vec<Commit<'a>>,
    /// Committed offsets that were seen: asked at, answered at, the offset.
    seen: Vec<(u64, u64, u64)>,
}

/// A member's time with a partition.
struct Span<'a> {
    member: &'a str,
    begun_ns: u64,
    /// None while it goes on.
    ended_ns: Option<u64>,
    /// It was taken away without the member's doing.
    is_lost: bool,
    reads: Vec<Read>,
}

struct Read {
    at_ns: u64,
    offset: u64,
    value: u64,
}

struct Commit<'a> {
    member: &'a str,
    begun_ns: u64,
    acked_ns: u64,
    next: u64,
}

impl<'a> Span<'a> {
    fn begun(member: &'a str, begun_ns: u64) -> Self {
        Self {
            member,
            begun_ns,
            ended_ns: None,
            is_lost: false,
            reads: Vec::new(),
        }
    }

    fn end(&mut self, at_ns: u64, is_lost: bool) {
        self.ended_ns = Some(at_ns);
        self.is_lost = is_lost;
    }

    fn lasts_beyond(&self, at_ns: u64) -> bool {
        self.ended_ns.is_none_or(|ended| ended > at_ns)
    }
}

impl<'a> Partition<'a> {
    fn open(&mut self, member: &str) -> Option<&mut Span<'a>> {
        let mut newest_first = self.spans.iter_mut().rev();
        newest_first.find(|span| span.member == member && span.ended_ns.is_none())
    }

    /// The most that was committed and acknowledged before a time.
    fn committed_before(&self, at_ns: u64) -> u64 {
        let acked = self.commits.iter().filter(|one| one.acked_ns < at_ns);
        acked.map(|one| one.next).max().unwrap_or(0)
    }

    /// Every record once at least, without gaps, with its value, and none after its commit.
    fn check_reads(&self, wrong: &mut impl FnMut(String)) {
        let mut read = BTreeSet::new();
        for span in &self.spans {
            let member = span.member;
            let committed = self.committed_before(span.begun_ns);
            let mut due = None;
            for Read { offset, value, .. } in &span.reads {
                read.insert(*offset);
                match due {
                    Some(due) if due < *offset => {
                        wrong(format!("{member} went from {due} on to {offset}"));
                    }
                    Some(due) if due > *offset => {
                        wrong(format!("{member} went from {due} back to {offset}"));
                    }
                    _ => {}
                }
                due = Some(offset + 1);
                if *offset < committed {
                    wrong(format!(
                        "{member} read {offset} again though {committed} was committed when it got \
                         the partition"
                    ));
                }
                // A record that was read before its sender heard of it has no value here yet, but
                // all are heard of in the end.
                match self.sent.get(offset) {
                    Some(sent) if sent == value => {}
                    Some(sent) => wrong(format!("{member} read {value} at {offset}, not {sent}")),
                    None => wrong(format!("{member} read {offset}, which was never sent")),
                }
            }
        }
        for skipped in self.sent.keys().filter(|offset| !read.contains(offset)) {
            wrong(format!("nobody read {skipped}"));
        }
    }

    /// No commit beyond what was processed, and none undone.
    fn check_commits(&self, wrong: &mut impl FnMut(String)) {
        let reads = self.spans.iter().flat_map(|span| &span.reads);
        let reads: Vec<(u64, u64)> = reads.map(|read| (read.at_ns, read.offset + 1)).collect();
        let processed_before = |at_ns: u64| {
            let before = reads.iter().filter(|(read_ns, _)| *read_ns < at_ns);
            before.map(|(_, next)| *next).max().unwrap_or(0)
        };
        for one in &self.commits {
            let (member, next) = (one.member, one.next);
            let processed = processed_before(one.acked_ns);
            if next > processed {
                wrong(format!(
                    "{member} committed {next} when {processed} was processed"
                ));
            }
            let committed = self.committed_before(one.begun_ns);
            if next < committed {
                wrong(format!(
                    "{member} committed {next} after {committed} was committed"
                ));
            }
        }
        for (begun_ns, answered_ns, next) in &self.seen {
            let processed = processed_before(*answered_ns);
            if *next > processed {
                wrong(format!(
                    "{next} is committed when {processed} was processed"
                ));
            }
            let committed = self.committed_before(*begun_ns);
            if *next < committed {
                wrong(format!(
                    "{next} is committed after {committed} was acknowledged"
                ));
            }
        }
    }

    /// Nobody gets what another still has, unless that one has lost it unawares.
    fn check_handovers(&self, wrong: &mut impl FnMut(String)) {
        for (older, newer) in self.overlaps().filter(|(older, _)| !older.is_lost) {
            wrong(format!(
                "{} got it when {} had it",
                newer.member, older.member
            ));
        }
    }

    /// Spans that overlap, the one that began first before the other.
    fn overlaps(&self) -> impl Iterator<Item = (&Span<'a>, &Span<'a>)> {
        let with_older = |(at, newer): (usize, _)| {
            let older = self.spans[..at].iter();
            older.map(move |older| (older, newer))
        };
        let pairs = self.spans.iter().enumerate().flat_map(with_older);
        pairs.filter(|(older, newer): &(&Span<'_>, &Span<'_>)| older.lasts_beyond(newer.begun_ns))
    }

    /// Once a newer owner has committed, the older one reads on only if it lost the partition
    /// unawares, and commits nothing more.
    fn check_owners(&self, wrong: &mut impl FnMut(String)) {
        for (older, newer) in self.overlaps() {
            let (old, new) = (older.member, newer.member);
            let Some(taken_ns) = self.first_commit_of(newer) else {
                continue;
            };
            let mut reads = older.reads.iter();
            if !older.is_lost && reads.any(|read| read.at_ns > taken_ns) {
                wrong(format!("{old} read on after {new} had committed"));
            }
            let mut commits = self.commits_in(older);
            if commits.any(|commit| commit.begun_ns > taken_ns) {
                wrong(format!("{old} committed after {new} had committed"));
            }
        }
    }

    fn commits_in(&self, span: &Span<'_>) -> impl Iterator<Item = &Commit<'a>> {
        let is_in = |commit: &&Commit<'_>| {
            commit.member == span.member
                && commit.begun_ns > span.begun_ns
                && span.lasts_beyond(commit.begun_ns)
        };
        self.commits.iter().filter(is_in)
    }

    fn first_commit_of(&self, span: &Span<'_>) -> Option<u64> {
        self.commits_in(span).map(|commit| commit.acked_ns).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines without their tabs, one partition (0), values equal to offsets.
    fn found(lines: &str) -> Findings {
        let event = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            Event::parse(&words.join("\t")).unwrap()
        };
        let events: Vec<Event> = lines.lines().map(str::trim).map(event).collect();
        check(&events)
    }

    /// Three records, of which `a` has read and committed two when it gives the partition up.
    const BEGIN: &str = "1 sent 0 0 0
        2 sent 0 1 1
        3 sent 0 2 2
        4 assigned a 0
        5 read a 0 0 0
        6 read a 0 1 1
        8 commit a 0 2 7";
    const HAND_OVER: &str = "9 revoked a 0
        10 assigned b 0
        11 read b 0 2 2
        13 commit b 0 3 12
        15 seen 14 0:3
        16 closed b";

    fn anomaly(lines: &str) -> String {
        let mut found = found(lines);
        assert_eq!(found.early, Anomalies::default());
        assert_eq!(found.anomalies.count, 1, "{:?}", found.anomalies);
        found.anomalies.told.remove(0)
    }

    #[test]
    fn a_partition_that_is_handed_over_is_in_order() {
        let found = found(&format!("{BEGIN}\n{HAND_OVER}"));
        let expected = Findings {
            sent: 3,
            read: 3,
            commits: 2,
            ..Findings::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn what_a_killed_member_had_not_committed_is_rightly_read_again() {
        let lines = "1 sent 0 0 0
            2 sent 0 1 1
            3 assigned a 0
            4 read a 0 0 0
            6 commit a 0 1 5
            7 read a 0 1 1
            8 closed a
            9 assigned b 0
            10 read b 0 1 1
            12 commit b 0 2 11";
        assert_eq!(found(lines).anomalies, Anomalies::default());
    }

    #[test]
    fn a_record_that_nobody_read_is_skipped() {
        assert_eq!(anomaly(BEGIN), "partition 0: nobody read 2");
    }

    #[test]
    fn a_jump_over_a_record_is_told_though_another_reads_it() {
        let lines = "1 sent 0 0 0
            2 sent 0 1 1
            3 sent 0 2 2
            4 assigned a 0
            5 read a 0 0 0
            6 read a 0 2 2
            7 revoked a 0
            8 assigned b 0
            9 read b 0 0 0
            10 read b 0 1 1
            11 read b 0 2 2";
        assert_eq!(anomaly(lines), "partition 0: a went from 1 on to 2");
    }

    #[test]
    fn a_member_that_reads_its_own_records_again_is_told() {
        let lines = "1 sent 0 0 0
            4 assigned a 0
            5 read a 0 0 0
            6 read a 0 0 0";
        assert_eq!(anomaly(lines), "partition 0: a went from 1 back to 0");
    }

    #[test]
    fn a_record_that_is_read_after_its_commit_is_told() {
        let lines =
            format!("{BEGIN}\n9 revoked a 0\n10 assigned b 0\n11 read b 0 1 1\n12 read b 0 2 2");
        assert_eq!(
            anomaly(&lines),
            "partition 0: b read 1 again though 2 was committed when it got the partition"
        );
    }

    #[test]
    fn a_commit_whose_answer_came_later_may_not_be_known_yet() {
        let lines = "1 sent 0 0 0
            4 assigned a 0
            5 read a 0 0 0
            6 lost a 0
            7 assigned b 0
            8 commit a 0 1 5
            9 read b 0 0 0";
        assert_eq!(found(lines).anomalies, Anomalies::default());
    }

    #[test]
    fn another_record_at_an_offset_is_told() {
        let lines = "1 sent 0 0 0\n4 assigned a 0\n5 read a 0 0 7";
        assert_eq!(anomaly(lines), "partition 0: a read 7 at 0, not 0");
        let lines = "4 assigned a 0\n5 read a 0 0 0";
        assert_eq!(
            anomaly(lines),
            "partition 0: a read 0, which was never sent"
        );
    }

    #[test]
    fn an_offset_that_is_given_twice_is_told() {
        let lines = "1 sent 0 0 0\n2 sent 0 0 0\n4 assigned a 0\n5 read a 0 0 0";
        let expected = "partition 0: offset 0 was given to two records";
        assert_eq!(anomaly(lines), expected);
    }

    #[test]
    fn a_commit_beyond_what_was_processed_is_told() {
        let lines = "1 sent 0 0 0\n4 assigned a 0\n5 read a 0 0 0\n7 commit a 0 2 6";
        assert_eq!(
            anomaly(lines),
            "partition 0: a committed 2 when 1 was processed"
        );
        let lines = "1 sent 0 0 0\n4 assigned a 0\n5 read a 0 0 0\n7 seen 6 0:2";
        assert_eq!(
            anomaly(lines),
            "partition 0: 2 is committed when 1 was processed"
        );
    }

    #[test]
    fn a_commit_that_goes_back_is_told() {
        let lines = format!("{BEGIN}\n{HAND_OVER}\n18 commit b 0 2 17");
        assert_eq!(
            anomaly(&lines),
            "partition 0: b committed 2 after 3 was committed"
        );
    }

    #[test]
    fn a_commit_that_is_lost_is_told() {
        let lines = format!("{BEGIN}\n{HAND_OVER}\n18 seen 17 0:2");
        let expected = "partition 0: 2 is committed after 3 was acknowledged";
        assert_eq!(anomaly(&lines), expected);
    }

    #[test]
    fn a_partition_with_two_owners_is_told() {
        let lines = format!("{BEGIN}\n9 assigned b 0\n10 read b 0 2 2\n11 revoked a 0");
        let found = found(&lines);
        assert_eq!(found.early.told, ["partition 0: b got it when a had it"]);
        assert_eq!((found.early.count, found.anomalies.count), (1, 0));
        assert!(found.early.none().is_err() && found.anomalies.none().is_ok());
    }

    #[test]
    fn a_member_that_lost_its_partition_unawares_may_read_but_not_commit() {
        let fenced = "1 sent 0 0 0
            2 sent 0 1 1
            4 assigned a 0
            5 read a 0 0 0
            6 assigned b 0
            7 read b 0 0 0
            9 commit b 0 1 8
            10 read a 0 1 1";
        let rest = "\n13 lost a 0\n14 read b 0 1 1";
        let found = found(&format!("{fenced}{rest}"));
        assert_eq!((found.lost, found.anomalies), (1, Anomalies::default()));

        let committed = format!("{fenced}\n12 commit a 0 2 11{rest}");
        assert_eq!(
            anomaly(&committed),
            "partition 0: a committed after b had committed"
        );
    }

    #[test]
    fn an_owner_that_reads_on_after_the_newer_committed_is_told() {
        let lines = format!(
            "{BEGIN}\n9 assigned b 0\n10 read b 0 2 2\n12 commit b 0 3 11\n13 read a 0 2 2\n14 revoked a 0"
        );
        let found = found(&lines);
        let told = (found.early.told, found.anomalies.told);
        let expected = (
            vec!["partition 0: b got it when a had it".to_owned()],
            vec!["partition 0: a read on after b had committed".to_owned()],
        );
        assert_eq!(told, expected);
    }

    #[test]
    fn a_record_of_a_partition_that_was_given_up_is_told() {
        let lines = "1 sent 0 0 0
            4 assigned a 0
            5 read a 0 0 0
            6 revoked a 0
            7 read a 0 0 0";
        assert_eq!(
            anomaly(lines),
            "partition 0: a read 0 of a partition that it had not"
        );
        let lines = "4 assigned a 0\n6 revoked a 0\n7 revoked a 0";
        assert_eq!(anomaly(lines), "partition 0: a gave up what it had not");
    }

    #[test]
    fn a_broken_history_is_told_in_part() {
        let lines: Vec<String> = (0..30).map(|at| format!("{at} sent 0 {at} {at}")).collect();
        let found = found(&lines.join("\n"));
        assert_eq!(
            (found.anomalies.count, found.anomalies.told.len()),
            (30, TOLD_MAX)
        );
    }
}
