//! Members of a consumer group that speak the classic protocol.

use coordinator::ReplyId;

use crate::command::{Heartbeat, JoinGroup, LeaveGroup, SyncGroup};
use crate::groups::Groups;
use crate::turn::Turn;

pub(crate) fn join(
    _groups: &mut Groups,
    _command: JoinGroup,
    _reply: ReplyId,
    _turn: &mut Turn<'_>,
) {
}

pub(crate) fn sync(
    _groups: &mut Groups,
    _command: SyncGroup,
    _reply: ReplyId,
    _turn: &mut Turn<'_>,
) {
}

pub(crate) fn heartbeat(
    _groups: &mut Groups,
    _command: Heartbeat,
    _reply: ReplyId,
    _turn: &mut Turn<'_>,
) {
}

pub(crate) fn leave(
    _groups: &mut Groups,
    _command: LeaveGroup,
    _reply: ReplyId,
    _turn: &mut Turn<'_>,
) {
}
