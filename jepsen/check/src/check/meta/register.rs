//! [`Register`]: whether reads and writes of one value can be put in an order that each of them
//! allows (linearizability), after Gibbons and Korach.
//!
//! Where values are unique, a write and the reads of its value are a cluster, and happen together:
//! from the first completion of one of them to the last invocation of one, if that is later (a
//! forward zone), or around a moment between (a backward zone). There is an order just when no read
//! ends before its write begins, no two forward zones overlap, and no backward zone lies within a
//! forward one. A write of unknown outcome that nobody read did not happen; one that was read did.
//! Where a value was written several times, its writes still happen, and a read needs one that was
//! not surely overwritten: less than the whole truth, and never a false alarm.

use std::collections::BTreeMap;

/// A moment that every other one follows.
const BEFORE_ALL: i64 = -1;

/// A write, from one moment to another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Write<'a> {
    value: &'a str,
    from: i64,
    // Never, if its outcome is unknown.
    to: i64,
    failed: bool,
}

impl<'a> Write<'a> {
    pub(super) fn done(value: &'a str, from: i64, to: i64) -> Write<'a> {
        Write {
            value,
            from,
            to,
            failed: false,
        }
    }

    pub(super) fn unknown(value: &'a str, from: i64) -> Write<'a> {
        Write {
            value,
            from,
            to: i64::MAX,
            failed: false,
        }
    }

    pub(super) fn failed(value: &'a str, from: i64) -> Write<'a> {
        Write {
            value,
            from,
            to: i64::MAX,
            failed: true,
        }
    }
}

/// A read; `None` where there was no value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read<'a> {
    pub(super) value: Option<&'a str>,
    pub(super) from: i64,
    pub(super) to: i64,
}

/// Reads and writes of one value.
#[derive(Debug, Default)]
pub(super) struct Register<'a> {
    writes: Vec<Write<'a>>,
    reads: Vec<Read<'a>>,
}

/// Why there is no order.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) what: String,
    pub(super) moments: Vec<i64>,
}

impl Broken {
    fn new(what: String, moments: impl Into<Vec<i64>>) -> Broken {
        Broken {
            what,
            moments: moments.into(),
        }
    }
}

/// A write and the reads of its value.
#[derive(Debug, Clone, Copy)]
struct Cluster<'a> {
    value: Option<&'a str>,
    first_completion: i64,
    last_invocation: i64,
}

impl<'a> Register<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    pub(super) fn write(&mut self, write: Write<'a>) {
        self.writes.push(write);
    }

    pub(super) fn read(&mut self, read: Read<'a>) {
        self.reads.push(read);
    }

    /// What is wrong with it; nothing when there is an order.
    pub(super) fn judge(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        let mut writes: BTreeMap<Option<&str>, Vec<Write<'_>>> = BTreeMap::new();
        for write in self.writes.iter().filter(|write| !write.failed) {
            writes.entry(Some(write.value)).or_default().push(*write);
        }
        let initial = self.initial(&writes, &mut broken);
        if let Some(initial) = initial {
            let write = Write {
                value: "",
                from: BEFORE_ALL,
                to: BEFORE_ALL,
                failed: false,
            };
            writes.entry(initial).or_default().push(write);
        }
        let mut reads: BTreeMap<Option<&str>, Vec<Read<'_>>> = BTreeMap::new();
        for read in &self.reads {
            // No value is how the register was at first.
            let value = read.value.or(initial.flatten());
            reads.entry(value).or_default().push(*read);
        }
        let overwritten = Overwritten::new(&self.writes);
        let mut clusters = Vec::new();
        for (value, writes) in &writes {
            let reads = reads.get(value).map_or(&[][..], Vec::as_slice);
            match writes.as_slice() {
                [write] => clusters.extend(cluster(*value, write, reads)),
                _ => {
                    let alone = writes.iter().filter(|write| write.to != i64::MAX);
                    clusters.extend(alone.filter_map(|write| cluster(*value, write, &[])));
                    for read in reads {
                        broken.extend(overwritten.judge(writes, read));
                    }
                }
            }
        }
        zones(&clusters, &mut broken);
        broken
    }

    /// What the register was at first: of the values that were read before anybody wrote them, the
    /// first; with preference for those that nobody tried to write. All others are wrong.
    fn initial(
        &self,
        writes: &BTreeMap<Option<&'a str>, Vec<Write<'a>>>,
        broken: &mut Vec<Broken>,
    ) -> Option<Option<&'a str>> {
        let unwritten = |read: &&Read<'a>| {
            let begun = writes
                .get(&read.value)
                .into_iter()
                .flatten()
                .map(|write| write.from)
                .min();
            begun.is_none_or(|begun| read.to < begun)
        };
        let mut failed: BTreeMap<&str, i64> = BTreeMap::new();
        for write in self.writes.iter().filter(|write| write.failed) {
            failed.entry(write.value).or_insert(write.from);
        }
        let unwritten: Vec<&Read<'_>> = self.reads.iter().filter(unwritten).collect();
        let values = || unwritten.iter().filter_map(|read| read.value);
        let absent = unwritten.iter().any(|read| read.value.is_none());
        let untried = values().find(|value| !failed.contains_key(value));
        let initial = match untried {
            None if absent => None,
            untried => untried.or_else(|| values().next()),
        };
        for read in &unwritten {
            let Some(value) = read.value.filter(|value| initial != Some(*value)) else {
                continue;
            };
            let (why, tried) = match failed.get(value) {
                Some(tried) => ("and setting it surely failed", Some(*tried)),
                None => ("and nobody had set it", None),
            };
            let moments: Vec<i64> = tried.into_iter().chain([read.to]).collect();
            broken.push(Broken::new(format!("`{value}` was read, {why}"), moments));
        }
        (absent || initial.is_some()).then_some(initial)
    }
}

fn cluster<'a>(
    value: Option<&'a str>,
    write: &Write<'_>,
    reads: &[Read<'_>],
) -> Option<Cluster<'a>> {
    if reads.is_empty() && write.to == i64::MAX {
        return None;
    }
    let completions = reads.iter().map(|read| read.to).chain([write.to]);
    let invocations = reads.iter().map(|read| read.from).chain([write.from]);
    Some(Cluster {
        value,
        first_completion: completions.min()?,
        last_invocation: invocations.max()?,
    })
}

/// Looks for zones that no order allows.
fn zones(clusters: &[Cluster<'_>], broken: &mut Vec<Broken>) {
    let (mut forward, backward): (Vec<&Cluster<'_>>, Vec<&Cluster<'_>>) = clusters
        .iter()
        .partition(|cluster| cluster.first_completion < cluster.last_invocation);
    forward.sort_by_key(|cluster| (cluster.first_completion, cluster.last_invocation));
    let shown =
        |value: Option<&str>| value.map_or("nothing".to_owned(), |value| format!("`{value}`"));
    let tell = |outer: &Cluster<'_>, inner: &Cluster<'_>| {
        let what = format!(
            "{} was there before and after {} was",
            shown(outer.value),
            shown(inner.value)
        );
        let moments = [
            outer.first_completion,
            inner.first_completion,
            inner.last_invocation,
            outer.last_invocation,
        ];
        Broken::new(what, moments)
    };
    let mut furthest: Option<&Cluster<'_>> = None;
    for zone in forward.iter().copied() {
        match furthest {
            Some(before) if zone.first_completion < before.last_invocation => {
                broken.push(tell(before, zone));
                if before.last_invocation < zone.last_invocation {
                    furthest = Some(zone);
                }
            }
            _ => furthest = Some(zone),
        }
    }
    for zone in backward {
        let before = forward
            .partition_point(|outer| outer.first_completion < zone.last_invocation)
            .checked_sub(1)
            .map(|at| forward[at]);
        if let Some(outer) = before.filter(|outer| zone.first_completion < outer.last_invocation) {
            broken.push(tell(outer, zone));
        }
    }
}

/// For the reads of values that were written several times.
struct Overwritten<'a> {
    // Acknowledged writes by completion; with each, the latest invocation up to there, and the
    // latest one of a write of another value than that.
    writes: Vec<(i64, Latest<'a>)>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Latest<'a> {
    first: Option<(i64, &'a str)>,
    other: Option<(i64, &'a str)>,
}

impl<'a> Overwritten<'a> {
    fn new(writes: &[Write<'a>]) -> Overwritten<'a> {
        let done = writes
            .iter()
            .filter(|write| !write.failed && write.to != i64::MAX);
        let mut done: Vec<&Write<'_>> = done.collect();
        done.sort_by_key(|write| write.to);
        let mut latest = Latest::default();
        let writes = done.into_iter().map(|write| {
            let new = Some((write.from, write.value));
            match latest.first {
                Some((_, value)) if value == write.value => latest.first = latest.first.max(new),
                first if first < new => {
                    latest = Latest {
                        first: new,
                        other: first,
                    }
                }
                _ => latest.other = latest.other.max(new),
            }
            (write.to, latest)
        });
        Overwritten {
            writes: writes.collect(),
        }
    }

    /// A read is wrong when after every write it could be of, another one surely came.
    fn judge(&self, writes: &[Write<'_>], read: &Read<'_>) -> Option<Broken> {
        let candidates = writes.iter().filter(|write| write.from < read.to);
        let last = candidates.map(|write| write.to).max()?;
        let before = self
            .writes
            .partition_point(|(to, _)| *to < read.from)
            .checked_sub(1)?;
        let latest = self.writes[before].1;
        let other = match (latest.first, read.value) {
            (Some((_, value)), Some(read)) if value == read => latest.other,
            (first, _) => first,
        };
        let (from, value) = other.filter(|(from, _)| *from > last)?;
        let what = format!(
            "`{}` was read after it was overwritten by `{value}`",
            read.value.unwrap_or_default()
        );
        Some(Broken::new(what, [last, from, read.to]))
    }
}
