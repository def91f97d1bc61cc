//! Where commands are handed in: a queue for each instance that leads here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use storage::PartitionId;
use tokio::sync::{mpsc, oneshot};

use super::replies::Reply;
use super::{Command, CoordinatorError, Kind, PendingReply, Response};

/// Commands that may wait for one instance; one more is told to try again.
const WAITING_MAX: usize = 8_192;

/// All coordinators of one kind on this node.
pub(crate) struct Coordinators<K: Kind> {
    pub(super) kind: K,
    desks: Mutex<BTreeMap<PartitionId, mpsc::Sender<Asked<K>>>>,
    /// Held by whoever makes the internal topic.
    pub(super) making: tokio::sync::Mutex<()>,
}

/// A command and who waits for its answer.
pub(super) struct Asked<K: Kind> {
    pub(super) command: Command<K>,
    pub(super) reply: Reply<Response<K>>,
}

/// Keeps an instance's desk open until it is dropped.
pub(super) struct Desk<K: Kind> {
    all: Arc<Coordinators<K>>,
    id: PartitionId,
    queue: mpsc::Sender<Asked<K>>,
}

impl<K: Kind> Coordinators<K> {
    pub(crate) fn new(kind: K) -> Coordinators<K> {
        Coordinators {
            kind,
            desks: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    fn desks(&self) -> MutexGuard<'_, BTreeMap<PartitionId, mpsc::Sender<Asked<K>>>> {
        self.desks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the desk of an instance that leads; what is handed in comes out of the queue.
    pub(super) fn open_desk(
        self: &Arc<Self>,
        id: PartitionId,
    ) -> (Desk<K>, mpsc::Receiver<Asked<K>>) {
        let (queue, handed_in) = mpsc::channel(WAITING_MAX);
        self.desks().insert(id, queue.clone());
        let desk = Desk {
            all: Arc::clone(self),
            id,
            queue,
        };
        (desk, handed_in)
    }

    /// Hands a command to the instance that leads the partition here.
    ///
    /// # Errors
    /// `LoadInProgress`: there is none yet, or too many commands wait.
    pub(super) fn hand_in(
        &self,
        id: PartitionId,
        command: Command<K>,
    ) -> Result<PendingReply<Response<K>>, CoordinatorError> {
        let (reply, answer) = oneshot::channel();
        let desk = self.desks().get(&id).cloned();
        let desk = desk.ok_or(CoordinatorError::LoadInProgress)?;
        match desk.try_send(Asked { command, reply }) {
            Ok(()) => Ok(PendingReply::new(answer)),
            Err(_) => Err(CoordinatorError::LoadInProgress),
        }
    }
}

impl<K: Kind> Drop for Desk<K> {
    fn drop(&mut self) {
        let mut desks = self.all.desks();
        // Another one may have been opened since.
        if desks
            .get(&self.id)
            .is_some_and(|it| it.same_channel(&self.queue))
        {
            desks.remove(&self.id);
        }
    }
}
