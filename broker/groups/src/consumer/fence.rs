//! Members that go: they leave, or were silent or slow for too long.

use std::sync::Arc;

use super::convert;
use super::draft::Draft;
use super::timers;
use crate::groups::Groups;
use crate::turn::Turn;

/// Takes these members out of the group. When only members of the classic protocol stay, and the
/// configuration allows it, the group becomes a classic one.
pub(super) fn fence(groups: &mut Groups, group_id: &str, ids: &[Arc<str>], turn: &mut Turn<'_>) {
    let Some(group) = groups.consumer(group_id) else {
        return;
    };
    if ids.is_empty() {
        return;
    }
    if convert::may_downgrade_without(group, ids, turn.config) {
        convert::to_classic_without(groups, group_id, ids, turn);
        return;
    }
    let mut draft = Draft::of(group_id, group);
    for id in ids {
        draft.remove_member(id);
    }
    draft.drop_unused_expressions();
    draft.advance_epoch(true, turn.topics);
    let key = draft.group_id();
    draft
        .into_records()
        .into_iter()
        .for_each(|record| turn.append(record));
    for id in ids {
        timers::cancel_all(groups, &key, id, turn);
    }
}
