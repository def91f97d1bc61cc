//! Consumer groups: the coordinators of the partitions of `__consumer_offsets`.

use std::sync::PoisonError;

use groups::{Command, Response, Uuid};
use storage::NodeId;
use tokio::sync::oneshot;

use super::{CoordinatorError, PendingReply};
use crate::Broker;

impl Broker {
    /// The node that coordinates this group now. Makes the internal topic when it is missing.
    ///
    /// # Errors
    /// `NotAvailable` while it has no leader, or cannot be made now; `ShuttingDown`.
    pub async fn group_coordinator(&self, group_id: &str) -> Result<NodeId, CoordinatorError> {
        let _ = group_id;
        Err(CoordinatorError::NotAvailable)
    }

    /// Hands a command about `group_id` to its coordinator, if that is this node. Its place in the
    /// order of the coordinator's commands is fixed when this returns.
    ///
    /// # Errors
    /// All but `Resigned`.
    pub async fn submit_to_group(
        &self,
        group_id: &str,
        command: Command,
    ) -> Result<PendingReply, CoordinatorError> {
        let _ = (group_id, command);
        let (_, answer) = oneshot::channel();
        Ok(PendingReply::new(answer))
    }

    /// Hands a command to every coordinator of groups that this node is; one answer each.
    pub async fn submit_to_all_groups(
        &self,
        command: Command,
    ) -> Vec<Result<Response, CoordinatorError>> {
        let _ = command;
        Vec::new()
    }

    /// A value that was never used before, for a command that may make a member.
    #[must_use]
    pub fn fresh_group_id(&self) -> Uuid {
        let ids = self.inner.ids.lock();
        Uuid(u128::from_be_bytes(
            ids.unwrap_or_else(PoisonError::into_inner).uuid(),
        ))
    }
}
