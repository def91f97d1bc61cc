//! What a consumer group has to say about offsets: who may commit and fetch them.

use super::group::ConsumerGroup;
use crate::error::GroupError;

impl ConsumerGroup {
    /// Whether whoever comes with this member id and epoch (or generation) may commit.
    ///
    /// A negative epoch is that of an admin, or of a consumer that assigns partitions to itself:
    /// it may commit as long as the group has no members.
    pub(crate) fn check_commit(
        &self,
        member_id: &str,
        _instance_id: Option<&str>,
        epoch: i32,
        understands_member_epochs: bool,
    ) -> Result<(), GroupError> {
        if epoch < 0 && self.is_empty() {
            return Ok(());
        }
        let member = self.member(member_id).ok_or(GroupError::UnknownMemberId)?;
        if !member.is_classic() && !understands_member_epochs {
            return Err(GroupError::UnsupportedVersion);
        }
        self.check_epoch(member_id, epoch)
    }

    /// Whether whoever comes with this member id and epoch may fetch offsets. Without a member id
    /// and with a negative epoch: an admin, or a client that says nothing of itself.
    pub(crate) fn check_fetch(
        &self,
        member_id: Option<&str>,
        epoch: i32,
    ) -> Result<(), GroupError> {
        match member_id.filter(|id| !id.is_empty()) {
            None if epoch < 0 => Ok(()),
            None => Err(GroupError::UnknownMemberId),
            Some(id) => self.check_epoch(id, epoch),
        }
    }

    fn check_epoch(&self, member_id: &str, epoch: i32) -> Result<(), GroupError> {
        let member = self.member(member_id).ok_or(GroupError::UnknownMemberId)?;
        if epoch == member.current.epoch {
            Ok(())
        } else if member.is_classic() {
            Err(GroupError::IllegalGeneration)
        } else {
            Err(GroupError::StaleMemberEpoch)
        }
    }
}
