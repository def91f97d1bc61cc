//! openraft's state machine around an [`Apply`]: keeps what openraft must know of the applied state
//! (position, membership) and makes checkpoints when one is wanted.
//!
//! It never touches a file on the way of an entry. A broken invariant, also a panic in `apply`,
//! ends the shard and with it the host; see [`Machine`]'s `Drop`.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::vec;

use futures_util::{Stream, TryStreamExt};
use openraft::OptionalSend;
use openraft::storage::{EntryResponder, RaftStateMachine};
use storage::LogPosition;

use crate::inspect::{self, AppliedEntry};
use crate::snapshot::{Builder, Checkpoint, Checkpoints, Manifest};
use crate::status::{End, Status};
use crate::store::Log;
use crate::types::{
    Bundle, Entry, EntryPayload, LogId, Outcomes, Payload, Snapshot, SnapshotMeta,
    StoredMembership, Types, position,
};
use crate::{Apply, CheckpointError, EntryAt, InstallError};

/// Entries read at once when openraft only located them; it replays this many at a time.
const READ_AHEAD_ENTRIES: u64 = 64;
/// Entries applied before other tasks of the thread get a turn.
const ENTRIES_PER_TURN: usize = 16;

pub(crate) struct Machine<A: Apply> {
    /// Only ever used by one task; the mutex makes it `Sync` and is never locked.
    apply: Mutex<A>,
    log: Log,
    checkpoints: Arc<Checkpoints>,
    status: Arc<Status>,
    applied: Option<LogId>,
    /// Time of the last applied entry that had one.
    time_ms: i64,
    /// The last membership applied.
    membership: StoredMembership,
    /// Dropped last: tells that the rest is.
    _gone: Gone,
}

/// Says that the machine is gone, state and all.
struct Gone(Arc<Status>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.machine_gone();
    }
}

impl<A: Apply> Machine<A> {
    /// The machine as of the shard's checkpoint, or in its beginning.
    pub(crate) fn open(
        apply: A,
        log: Log,
        checkpoints: Arc<Checkpoints>,
        status: Arc<Status>,
    ) -> Result<Machine<A>, InstallError> {
        let mut machine = Machine {
            apply: Mutex::new(apply),
            log,
            checkpoints,
            _gone: Gone(Arc::clone(&status)),
            status,
            applied: None,
            time_ms: 0,
            membership: StoredMembership::default(),
        };
        if let Some(Checkpoint { meta, manifest }) = machine.checkpoints.current() {
            machine.restore(&meta, manifest)?;
        }
        Ok(machine)
    }

    fn restore(&mut self, meta: &SnapshotMeta, manifest: Manifest) -> Result<(), InstallError> {
        self.apply().install(manifest.bytes)?;
        self.applied = meta.last_log_id;
        self.time_ms = manifest.time_ms;
        self.membership = meta.last_membership.clone();
        if let Some(id) = self.applied.filter(|_| inspect::keeps_applied()) {
            self.keep(&id, None);
        }
        self.publish();
        Ok(())
    }

    /// Keeps what was applied for the checks of the simulation.
    fn keep(&mut self, id: &LogId, entry_crc: Option<u32>) {
        let applied = AppliedEntry {
            position: position(id),
            entry_crc,
            state: self.apply().digest(),
        };
        self.status.applied_entries.push(applied);
    }

    fn apply(&mut self) -> &mut A {
        self.apply.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn position(&self) -> Option<LogPosition> {
        self.applied.as_ref().map(position)
    }

    /// Tells the rest of the shard how far apply has come.
    fn publish(&self) {
        let Some(applied) = &self.applied else { return };
        let voters: Vec<u64> = self.membership.membership().voter_ids().collect();
        let solo = voters.len() == 1 && self.membership.membership().learner_ids().next().is_none();
        self.log.applied(applied, solo);
        self.status
            .applied(position(applied), self.log.appended_bytes());
    }

    /// The whole entry at `index`. What was read with it stays in `ahead`, which must not outlive
    /// one run of apply: entries beyond may not be committed and may change.
    async fn whole(&self, index: u64, ahead: &mut vec::IntoIter<Entry>) -> io::Result<Entry> {
        if let Some(entry) = ahead.find(|entry| entry.log_id.index == index) {
            return Ok(entry);
        }
        *ahead = self
            .log
            .entries(index, index + READ_AHEAD_ENTRIES)
            .await?
            .into_iter();
        ahead
            .next()
            .ok_or_else(|| io::Error::other("an entry that is applied is not in the log"))
    }

    fn outcomes(&mut self, id: &LogId, bundle: Option<&Bundle>, leads: bool) -> Outcomes {
        if let Some(bundle) = bundle {
            self.time_ms = bundle.time_ms;
        }
        let at = EntryAt {
            position: position(id),
            time_ms: self.time_ms,
        };
        let ops = bundle.map_or(&[][..], |bundle| &bundle.ops);
        let outcomes = self.apply().apply(at, ops);
        if !leads {
            return Outcomes(None);
        }
        assert_eq!(
            outcomes.len(),
            ops.len(),
            "apply returns one outcome per operation"
        );
        Outcomes(Some(Box::new(outcomes)))
    }
}

impl<A: Apply> RaftStateMachine<Types> for Machine<A> {
    type SnapshotData = Manifest;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let mut turn = 0;
        let mut ahead = Vec::new().into_iter();
        while let Some((mut entry, responder)) = entries.try_next().await? {
            if matches!(entry.payload, EntryPayload::Normal(Payload::Deferred)) {
                entry = self.whole(entry.log_id.index, &mut ahead).await?;
            }
            let id = entry.log_id;
            assert!(
                self.applied.is_none_or(|applied| applied < id),
                "entries are applied in order"
            );
            let outcomes = match &entry.payload {
                EntryPayload::Normal(Payload::Ops(bundle)) => {
                    self.outcomes(&id, Some(bundle), responder.is_some())
                }
                EntryPayload::Blank => self.outcomes(&id, None, responder.is_some()),
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(id), membership.clone());
                    self.outcomes(&id, None, responder.is_some())
                }
                EntryPayload::Normal(Payload::Deferred) => {
                    return Err(io::Error::other("an entry that was read is still not read"));
                }
            };
            self.applied = Some(id);
            if inspect::keeps_applied() {
                self.keep(&id, Some(inspect::entry_crc(&entry.payload)));
            }
            if let Some(responder) = responder {
                responder.send(outcomes);
            }
            turn += 1;
            if turn % ENTRIES_PER_TURN == 0 {
                self.publish();
                tokio::task::yield_now().await;
            }
        }
        self.publish();
        Ok(())
    }

    /// `force` asks for a snapshot of an empty machine over a purged log; opening a shard refuses
    /// that beforehand, and only openraft's own tests use it.
    async fn try_create_snapshot_builder(&mut self, force: bool) -> Option<Builder> {
        let wanted = self.checkpoints.take_wanted();
        if wanted.is_none() && !force {
            return None;
        }
        // One of the same position is of use where the state lies in other places since.
        if !force
            && self.position() == self.checkpoints.position()
            && !self.apply().lies_elsewhere()
        {
            self.status.checkpoint_begins(self.log.appended_bytes());
            if let Some(wanted) = wanted {
                // Whoever asked may have stopped waiting.
                let _ = wanted.send(self.position().ok_or(CheckpointError::Empty));
            }
            return None;
        }
        self.status.checkpoint_begins(self.log.appended_bytes());
        Some(Builder {
            checkpoints: Arc::clone(&self.checkpoints),
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
            },
            time_ms: self.time_ms,
            job: Mutex::new(Some(self.apply().checkpoint())),
            wanted,
            status: Arc::clone(&self.status),
        })
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        self.try_create_snapshot_builder(true)
            .await
            .expect("a forced builder is always made")
    }

    /// Never touches the log: openraft purges it afterwards. The file first: what was staged for
    /// the checkpoint is taken in when the state is first used, and no older one stands then.
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        manifest: Manifest,
    ) -> Result<(), io::Error> {
        let checkpoints = Arc::clone(&self.checkpoints);
        let checkpoint = Checkpoint {
            meta: meta.clone(),
            manifest: manifest.clone(),
        };
        net::blocking(move || checkpoints.save(&checkpoint))
            .await
            .map_err(io::Error::other)??;
        if meta.last_log_id > self.applied {
            self.restore(meta, manifest).map_err(io::Error::other)?;
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self
            .checkpoints
            .current()
            .map(|checkpoint| checkpoint.to_snapshot()))
    }
}

impl<A: Apply> Drop for Machine<A> {
    /// The machine goes with its task: when the shard closes, or when `apply` panicked or refused.
    fn drop(&mut self) {
        let journal_failed = self.log.journal_failed();
        self.status.end(if journal_failed {
            End::JournalFailed
        } else {
            End::Failed
        });
    }
}
