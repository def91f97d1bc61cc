//! Faults that are put into the product on purpose, to show that the checks of `jepsen/` find them.
//!
//! Each is a plausible mistake of a few lines that breaks a promise. They exist only in builds with
//! the cargo feature `seeded-bugs`; without it [`is_on`] is constantly false, the compiler removes
//! them all, and neither [`set`] nor the environment turns one on. One at a time, for the whole
//! process.

use std::fmt;
use std::str::FromStr;

/// Environment variable that names the fault of a process; read by [`from_environment`].
pub const VARIABLE: &str = "BRAIDLOG_SEEDED_BUG";

/// Whether this build has the faults.
pub const IS_BUILT_IN: bool = cfg!(feature = "seeded-bugs");

/// What of the system it is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// One disk: journal, partition logs, checkpoints.
    Storage,
    /// Consensus.
    Raft,
    /// Partitions, producers, the catalogue.
    Broker,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Layer::Storage => "storage",
            Layer::Raft => "raft",
            Layer::Broker => "broker",
        })
    }
}

/// What is expected to find a fault: names as `jepsen` knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hint {
    /// The workload.
    pub workload: &'static str,
    /// The kinds of faults under which it shows.
    pub nemeses: &'static [&'static str],
}

/// All that is known of one fault.
struct Card {
    name: &'static str,
    layer: Layer,
    about: &'static str,
    breaks: &'static str,
    hint: Hint,
}

macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident = $name:literal, $layer:ident, $about:literal, $breaks:literal,
        $workload:literal [$($nemesis:literal),*];)*) => {
        /// A fault that can be put in.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug {
            $(
                #[doc = $about]
                $(#[$doc])*
                $bug,
            )*
        }

        impl Bug {
            /// Every one, layer by layer.
            pub const ALL: &[Bug] = &[$(Bug::$bug),*];

            const fn card(self) -> Card {
                match self {
                    $(Bug::$bug => Card {
                        name: $name,
                        layer: Layer::$layer,
                        about: $about,
                        breaks: $breaks,
                        hint: Hint { workload: $workload, nemeses: &[$($nemesis),*] },
                    },)*
                }
            }
        }
    };
}

bugs! {
    AckBeforeFsync = "ack-before-fsync", Storage,
        "a round of the journal is answered when it is written and synced only with the next one",
        "an acknowledged record is read by every later scan",
        "log" ["power"];
    DamageTakenForTear = "damage-taken-for-tear", Storage,
        "damage in the middle of the journal is taken for a torn end, and all behind it is dropped",
        "when data is gone the node refuses, it never shortens",
        "log" ["bitflip"];
    JournalRecycledEarly = "journal-recycled-early", Storage,
        "a journal file is recycled while its last entries are not in a checkpoint yet",
        "an acknowledged record is read by every later scan",
        "log" ["kill", "power"];
    FailedFsyncBelieved = "failed-fsync-believed", Storage,
        "a failed sync of the journal is passed over, since the next one will do",
        "an acknowledged record is read by every later scan",
        "log" ["disk"];
    RenameNotSynced = "rename-not-synced", Storage,
        "the directory is not synced after a checkpoint was renamed into its place",
        "an acknowledged record is read by every later scan",
        "log" ["power"];
    CheckpointBeforeSync = "checkpoint-before-sync", Storage,
        "a checkpoint records ends of logs that are not written and synced yet",
        "an acknowledged record is read by every later scan",
        "log" ["power"];
    IndexOffByOne = "index-off-by-one", Storage,
        "the search in a sparse index takes the entry after the right one",
        "an acknowledged record is read by every later scan",
        "log" ["kill"];
    DamageServed = "damage-served", Storage,
        "batches read from a segment are not checked against their CRC",
        "a record is read with its bytes",
        "log" ["bitflip", "kill"];
    VoteForgotten = "vote-forgotten", Raft,
        "a vote is kept in memory and not written to the journal",
        "an offset never shows two values",
        "log" ["kill", "partition"];
    VoteForShorterLog = "vote-for-shorter-log", Raft,
        "a voter does not compare logs before it gives its vote",
        "an acknowledged record is read by every later scan",
        "log" ["partition", "kill"];
    SentCountsAsHeld = "sent-counts-as-held", Raft,
        "a leader counts an entry as held by a follower as soon as it is sent",
        "an acknowledged record is read by every later scan",
        "log" ["partition", "kill"];
    AckBeforeWrite = "ack-before-write", Raft,
        "entries count as held before the journal has written them",
        "an acknowledged record is read by every later scan",
        "log" ["power"];
    CommitToldEarly = "commit-told-early", Raft,
        "a leader tells followers that what it sends them is committed",
        "an offset never shows two values",
        "log" ["partition", "kill"];
    LogEndTakenForCommitted = "log-end-taken-for-committed", Raft,
        "after a restart everything in the log is taken for committed",
        "an offset never shows two values",
        "log" ["packet", "power"];
    LeaderRestored = "leader-restored", Raft,
        "a leader that restarts goes on leading its term without an election",
        "an offset never shows two values",
        "log" ["power"];
    StaleLeaderServes = "stale-leader-serves", Raft,
        "a leader that has lost the majority goes on serving",
        "an acknowledged record is read by every later scan",
        "log" ["partition"];
    ServesBeforeOwnTerm = "serves-before-own-term", Raft,
        "a new leader serves before it has applied an entry of its own term",
        "an acknowledged record is read by every later scan",
        "log" ["kill", "partition", "transfer"];
    InFlightRefused = "in-flight-refused", Raft,
        "a leader that loses the majority refuses entries in flight, which may still commit, for certain",
        "an error said to be definite is definite",
        "log" ["partition"];
    CheckpointSaysTooMuch = "checkpoint-says-too-much", Raft,
        "a checkpoint says that it holds what was applied while it was made",
        "an acknowledged record is read by every later scan",
        "log" ["kill"];
    PulledRangeOffByOne = "pulled-range-off-by-one", Broker,
        "a replica that takes a checkpoint over copies one record too few",
        "an offset never shows two values",
        "log" ["kill", "partition"];
    InstallKeepsShortLog = "install-keeps-short-log", Broker,
        "a checkpoint that is taken over does not replace a log that is shorter than it says",
        "an offset never shows two values",
        "log" ["kill", "partition"];
    ProducersForgottenAtFailover = "producers-forgotten-at-failover", Broker,
        "what is known of producers is dropped when another leader's first batch is applied",
        "an idempotent producer's value appears once",
        "log" ["kill", "partition", "transfer"];
    ProducersNotSaved = "producers-not-saved", Broker,
        "a checkpoint does not hold what is known of producers",
        "an idempotent producer's value appears once",
        "log" ["kill"];
    RepeatGetsNewOffset = "repeat-gets-new-offset", Broker,
        "a repeated batch is answered with the end of the log instead of its own offset",
        "an offset never shows two values",
        "log" ["packet", "pause", "partition"];
    ProducerIdsGivenTwice = "producer-ids-given-twice", Broker,
        "the catalogue's checkpoint forgets which producer ids were given out",
        "an acknowledged record is read by every later scan",
        "log,meta" ["kill"];
    ClockInApply = "clock-in-apply", Broker,
        "producers expire by the local clock of each replica",
        "an idempotent producer's value appears once",
        "log" ["clock"];
    LogStartTooFar = "log-start-too-far", Broker,
        "a log that is opened again starts at its newest segment",
        "an acknowledged record is read by every later scan",
        "log" ["kill"];
    SealOneShort = "seal-one-short", Broker,
        "a partition that moves is sealed one record before its end",
        "an acknowledged record is read by every later scan",
        "log,meta" ["transfer"];
    DeletedTopicReturns = "deleted-topic-returns", Broker,
        "the deletion of a topic does not reach the catalogue's checkpoint",
        "what was acknowledged stays done",
        "log,meta" ["kill"];
    TopicAckedEarly = "topic-acked-early", Broker,
        "the creation of a topic is acknowledged while it waits for others to be proposed with",
        "what was acknowledged stays done",
        "meta" ["kill", "partition"];
    ConfigNotSaved = "config-not-saved", Broker,
        "the catalogue's checkpoint forgets the configs of topics",
        "what was acknowledged stays done",
        "log,meta" ["kill"];
}

impl Bug {
    /// Its name, in kebab case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.card().name
    }

    /// What it does, in a sentence.
    #[must_use]
    pub const fn about(self) -> &'static str {
        self.card().about
    }

    /// The promise that it breaks.
    #[must_use]
    pub const fn breaks(self) -> &'static str {
        self.card().breaks
    }

    /// Where it is.
    #[must_use]
    pub const fn layer(self) -> Layer {
        self.card().layer
    }

    /// What is expected to find it.
    #[must_use]
    pub const fn hint(self) -> Hint {
        self.card().hint
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No fault has that name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no seeded bug `{0}`")]
pub struct UnknownBug(String);

impl FromStr for Bug {
    type Err = UnknownBug;

    fn from_str(name: &str) -> Result<Bug, UnknownBug> {
        let named = Bug::ALL.iter().find(|bug| bug.name() == name);
        named.copied().ok_or_else(|| UnknownBug(name.to_owned()))
    }
}

/// This build has no seeded bugs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this build has no seeded bugs: build it with the cargo feature `seeded-bugs`")]
pub struct NotBuiltIn;

#[cfg(feature = "seeded-bugs")]
mod switch {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{Bug, NotBuiltIn, UnknownBug, VARIABLE};

    /// The fault's place in the list, from 1; 0: none.
    static ON: AtomicUsize = AtomicUsize::new(0);

    /// Whether this fault is put in.
    #[inline]
    #[must_use]
    pub fn is_on(bug: Bug) -> bool {
        ON.load(Ordering::Relaxed) == bug as usize + 1
    }

    /// Puts a fault in, instead of the one before, or takes it out.
    ///
    /// # Errors
    /// The build has none.
    pub fn set(bug: Option<Bug>) -> Result<(), NotBuiltIn> {
        let place = bug.map_or(0, |bug| bug as usize + 1);
        ON.store(place, Ordering::Relaxed);
        if let Some(bug) = bug {
            tracing::warn!(
                %bug,
                "THIS PROCESS HAS A SEEDED BUG AND WILL LOSE DATA: {}",
                bug.about()
            );
        }
        Ok(())
    }

    /// Puts in what the environment names; nothing when it names nothing.
    ///
    /// # Errors
    /// There is no such fault.
    pub fn from_environment() -> Result<Option<Bug>, UnknownBug> {
        let Some(name) = std::env::var_os(VARIABLE) else {
            return Ok(None);
        };
        let bug: Bug = name.to_string_lossy().parse()?;
        set(Some(bug)).expect("they are built in");
        Ok(Some(bug))
    }
}

#[cfg(not(feature = "seeded-bugs"))]
mod switch {
    use super::{Bug, NotBuiltIn, UnknownBug};

    /// Whether this fault is put in: never, in this build.
    #[inline]
    #[must_use]
    pub const fn is_on(_bug: Bug) -> bool {
        false
    }

    /// Puts a fault in, or takes it out.
    ///
    /// # Errors
    /// The build has none.
    pub const fn set(bug: Option<Bug>) -> Result<(), NotBuiltIn> {
        match bug {
            Some(_) => Err(NotBuiltIn),
            None => Ok(()),
        }
    }

    /// Puts in what the environment names: nothing, in this build, which does not look.
    ///
    /// # Errors
    /// None.
    pub const fn from_environment() -> Result<Option<Bug>, UnknownBug> {
        Ok(None)
    }
}

pub use switch::{from_environment, is_on, set};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_bug_has_a_name_and_a_sentence_of_its_own() {
        let names: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        let sentences: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.about()).collect();
        assert_eq!(
            (names.len(), sentences.len()),
            (Bug::ALL.len(), Bug::ALL.len())
        );
        assert!(Bug::ALL.len() >= 20);
        for bug in Bug::ALL {
            assert_eq!(bug.name().parse(), Ok(*bug));
            assert!(!bug.breaks().is_empty() && !bug.hint().nemeses.is_empty());
        }
        assert_eq!(
            "no-bug".parse::<Bug>(),
            Err(UnknownBug("no-bug".to_owned()))
        );
    }

    #[cfg(not(feature = "seeded-bugs"))]
    #[test]
    fn an_ordinary_build_has_none_whatever_the_environment_says() {
        // Constants: the environment is not even looked at.
        const _: () = assert!(!is_on(Bug::AckBeforeFsync));
        const NAMED: Result<Option<Bug>, UnknownBug> = from_environment();
        assert_eq!(NAMED, Ok(None));
        assert_eq!(set(Some(Bug::AckBeforeFsync)), Err(NotBuiltIn));
        assert!(Bug::ALL.iter().all(|bug| !is_on(*bug)));
    }

    #[cfg(feature = "seeded-bugs")]
    #[test]
    fn one_bug_is_on_at_a_time() {
        set(Some(Bug::VoteForgotten)).unwrap();
        let on: Vec<Bug> = Bug::ALL.iter().copied().filter(|bug| is_on(*bug)).collect();
        assert_eq!(on, [Bug::VoteForgotten]);
        set(None).unwrap();
        assert!(Bug::ALL.iter().all(|bug| !is_on(*bug)));
    }
}
