//! What the library in a node has seen and done, and waiting for it.

use std::fs;
use std::io;
use std::time::Duration;

use jepsen_control::control::Word;
use jepsen_workload::fault::DiskFault;

use super::NodeDisk;

/// How often the counters are looked at while waiting.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the library in a node has done so far; counts only rise, also over restarts of the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Processes that had the library in them.
    pub starts: u64,
    /// Writes that were seen.
    pub writes: u64,
    /// Bytes of these.
    pub written_bytes: u64,
    /// Syncs of files that were seen.
    pub syncs: u64,
    /// Names made, changed or removed.
    pub name_changes: u64,
    /// Times the node asked which boot this is.
    pub boot_id_reads: u64,
    /// Syncs that failed.
    pub sync_errors: u64,
    /// Syncs that lied.
    pub sync_lies: u64,
    /// Syncs that were late.
    pub sync_delays: u64,
    /// Writes that failed.
    pub write_errors: u64,
    /// Writes and reservations for which there was no space.
    pub full_errors: u64,
    /// Writes that wrote less than asked.
    pub short_writes: u64,
    /// Times the node read a wall clock that is off.
    pub clock_reads: u64,
    /// By how much the wall clock was off when it was read last.
    pub clock_seen_ms: i64,
}

impl Counts {
    /// How often a fault took effect.
    #[must_use]
    pub fn of(&self, how: DiskFault) -> u64 {
        match how {
            DiskFault::SyncError => self.sync_errors,
            DiskFault::WriteError => self.write_errors,
            DiskFault::Full => self.full_errors,
            DiskFault::ShortWrites => self.short_writes,
            DiskFault::SlowSync(_) => self.sync_delays,
            DiskFault::LyingSync => self.sync_lies,
        }
    }
}

impl NodeDisk {
    /// What has happened so far; an error when the library met what it does not know, since power
    /// cuts mean nothing then.
    pub fn counts(&self) -> io::Result<Counts> {
        let get = |word| self.control.get(word);
        if get(Word::Trouble)? != 0 {
            let what = fs::read_to_string(self.side.trouble()).unwrap_or_default();
            return Err(io::Error::other(format!(
                "the library in the node met what it does not know: {}",
                what.trim_end()
            )));
        }
        Ok(Counts {
            starts: get(Word::Starts)?,
            writes: get(Word::Writes)?,
            written_bytes: get(Word::WrittenBytes)?,
            syncs: get(Word::Syncs)?,
            name_changes: get(Word::NameChanges)?,
            boot_id_reads: get(Word::BootIdReads)?,
            sync_errors: get(Word::SyncErrors)?,
            sync_lies: get(Word::SyncLies)?,
            sync_delays: get(Word::SyncDelays)?,
            write_errors: get(Word::WriteErrors)?,
            full_errors: get(Word::FullErrors)?,
            short_writes: get(Word::ShortWrites)?,
            clock_reads: get(Word::ClockReads)?,
            clock_seen_ms: get(Word::ClockSeenMs)?.cast_signed(),
        })
    }

    /// Waits until the node has felt `how` since `before`; says what was seen.
    /// An idle node feels nothing: an error after `within`.
    pub async fn felt(
        &self,
        how: DiskFault,
        before: Counts,
        within: Duration,
    ) -> io::Result<String> {
        let what = match how {
            DiskFault::SyncError => "syncs failed",
            DiskFault::WriteError => "writes failed",
            DiskFault::Full => "writes and reservations found no space",
            DiskFault::ShortWrites => "writes were short",
            DiskFault::SlowSync(_) => "syncs were slow",
            DiskFault::LyingSync => "syncs lied",
        };
        self.wait(within, what, |now| {
            let times = now.of(how).saturating_sub(before.of(how));
            (times > 0).then(|| format!("{times} {what}"))
        })
        .await
    }

    /// Waits until the node has read its changed wall clock.
    pub async fn clock_felt(&self, before: Counts, within: Duration) -> io::Result<String> {
        let offset_ms = self.control.get(Word::ClockOffsetMs)?.cast_signed();
        self.wait(within, "the clock was read", |now| {
            let is_read = offset_ms == 0 || now.clock_reads > before.clock_reads;
            (is_read && now.clock_seen_ms == offset_ms)
                .then(|| format!("it reads a clock that is off by {offset_ms} ms"))
        })
        .await
    }

    async fn wait(
        &self,
        within: Duration,
        what: &str,
        seen: impl Fn(Counts) -> Option<String>,
    ) -> io::Result<String> {
        let looks = within.as_millis() / LOOK_EVERY.as_millis();
        for _ in 0..=looks {
            if let Some(seen) = seen(self.counts()?) {
                return Ok(seen);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("nothing seen of it within {within:?}: {what}"),
        ))
    }
}
