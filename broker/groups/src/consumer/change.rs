//! What follows when a member says something new of itself, in either protocol: its record, the
//! expressions, the group epoch, the target assignment, and its own next step.

use std::sync::Arc;

use super::Soft;
use super::draft::Draft;
use super::expressions;
use super::heartbeat::{Refusal, refuse};
use super::reconcile::{Reconciliation, Says};
use crate::error::GroupError;
use crate::record::consumer::{ExpressionValue, MemberValue};
use crate::turn::Turn;

/// A member and what it says.
pub(crate) struct Change<'a> {
    /// Its id.
    pub(crate) id: &'a Arc<str>,
    /// What was known of it.
    pub(crate) old: &'a MemberValue,
    /// What is known of it now.
    pub(crate) value: MemberValue,
    /// What it says of what it has.
    pub(crate) says: Says<'a>,
}

/// Puts all of it into the draft. Whether what the member has was written anew.
pub(crate) fn apply(
    draft: &mut Draft<'_>,
    soft: &mut Soft,
    turn: &Turn<'_>,
    change: Change<'_>,
) -> Result<bool, Refusal> {
    let Change {
        id,
        old,
        value,
        says,
    } = change;
    let subscription_changed = subscribe(draft, soft, turn, id, old, value)?;
    let done = assign_and_reconcile(draft, turn, id, subscription_changed, says);
    if done.is_err() {
        // The draft is dropped: whatever was seen of the topics is to be looked at again.
        soft.forget_topics(&draft.group_id());
    }
    done
}

/// The target assignment, if the group has a new epoch, and the member's next step.
pub(crate) fn assign_and_reconcile(
    draft: &mut Draft<'_>,
    turn: &Turn<'_>,
    id: &Arc<str>,
    subscription_changed: bool,
    says: Says<'_>,
) -> Result<bool, Refusal> {
    draft
        .update_target(turn.topics, turn.config)
        .or_else(|nonsense| {
            let message =
                format!("Failed to compute a new target assignment: the assignor {nonsense}.");
            refuse(GroupError::UnsupportedAssignor, message)
        })?;
    reconcile(draft, turn, id, subscription_changed, says)
}

/// The member's record, the expressions and the group epoch. Whether the subscription changed.
pub(crate) fn subscribe(
    draft: &mut Draft<'_>,
    soft: &mut Soft,
    turn: &Turn<'_>,
    id: &Arc<str>,
    old: &MemberValue,
    value: MemberValue,
) -> Result<bool, Refusal> {
    let names_changed = value.topic_names != old.topic_names;
    let regex = |value: &MemberValue| value.topic_regex.clone().filter(|regex| !regex.is_empty());
    let (old_regex, new_regex) = (regex(old), regex(&value));
    let regex_changed = old_regex != new_regex;
    if *old != value {
        draft.put_member(id, value);
    }
    if regex_changed {
        draft.drop_unused_expressions();
        if let Some(expression) = &new_regex {
            resolve_new(draft, turn, expression)?;
        }
    }
    let version = turn.topics.version;
    let group_id = draft.group_id();
    let known = soft.of(&group_id);
    let mut topics_changed = false;
    if !draft.group().expressions().is_empty() && known.expressions_are_due(version, turn) {
        let refreshed = refresh(draft, turn);
        topics_changed = refreshed.changed;
        // What is left is for the next heartbeat.
        known.expressions = refreshed.is_whole.then_some((version, turn.now_ms));
    }
    let subscription_changed = names_changed || regex_changed;
    // A new group must leave epoch 0.
    let needed = draft.group().epoch() == 0 || subscription_changed || topics_changed;
    if needed || known.hashed != Some(version) {
        draft.advance_epoch(needed, turn.topics);
        known.hashed = Some(version);
    }
    Ok(subscription_changed)
}

/// Resolves an expression that a member has just brought, unless the group knows it.
fn resolve_new(draft: &mut Draft<'_>, turn: &Turn<'_>, expression: &str) -> Result<(), Refusal> {
    if draft.group().expressions().contains_key(expression) {
        return Ok(());
    }
    let expressions_max = turn.config.regexes_per_group_max;
    if draft.group().expressions().len() >= expressions_max {
        return refuse(
            GroupError::InvalidRegularExpression,
            format!("The group has {expressions_max} other regular expressions already."),
        );
    }
    match expressions::resolve(expression, turn.topics, turn.config.regex_bytes_max) {
        Ok(topics) => {
            let value = expression_value(topics, turn);
            draft.put_expression(expression, Some(value));
            Ok(())
        }
        Err(bad) => refuse(
            GroupError::InvalidRegularExpression,
            format!(
                "SubscribedTopicRegex `{expression}` is not a valid regular expression: {bad}."
            ),
        ),
    }
}

/// What matching expressions again has come to.
struct Refreshed {
    /// Some of them stand for other topics than before.
    changed: bool,
    /// All of them were looked at.
    is_whole: bool,
}

/// Matches the expressions of the group against the topics that there are now, as many as one batch
/// should hold.
fn refresh(draft: &mut Draft<'_>, turn: &Turn<'_>) -> Refreshed {
    let known: Vec<_> = draft
        .group()
        .expressions()
        .iter()
        .map(|(expression, value)| (expression.clone(), value.clone()))
        .collect();
    let (mut changed, mut bytes) = (false, 0);
    for (expression, old) in known {
        if bytes > turn.config.regex_refresh_bytes {
            let is_whole = false;
            return Refreshed { changed, is_whole };
        }
        // It was good when it was brought; if a later version of the matcher thinks otherwise,
        // it matches nothing.
        let topics = expressions::resolve(&expression, turn.topics, turn.config.regex_bytes_max)
            .unwrap_or_default();
        if topics != old.topics {
            changed = true;
            bytes += topics.iter().map(String::len).sum::<usize>();
            draft.put_expression(&expression, Some(expression_value(topics, turn)));
        }
    }
    let is_whole = true;
    Refreshed { changed, is_whole }
}

fn expression_value(
    topics: std::collections::BTreeSet<String>,
    turn: &Turn<'_>,
) -> ExpressionValue {
    let version = i64::try_from(turn.topics.version).unwrap_or(i64::MAX);
    ExpressionValue {
        topics,
        version,
        timestamp_ms: turn.now_ms,
    }
}

/// The member's next step towards its target. Whether its assignment was written anew.
pub(crate) fn reconcile(
    draft: &mut Draft<'_>,
    turn: &Turn<'_>,
    id: &Arc<str>,
    subscription_changed: bool,
    says: Says<'_>,
) -> Result<bool, Refusal> {
    let member = draft.group().member(id).cloned().unwrap_or_default();
    if !subscription_changed && member.is_reconciled_to(draft.group().assignment_epoch()) {
        return Ok(false);
    }
    let next = Reconciliation {
        group: draft.group(),
        id,
        topics: turn.topics,
        subscription_changed,
        says,
    }
    .next(&member);
    let next = next.or_else(|_| {
        refuse(
            GroupError::FencedMemberEpoch,
            "The consumer group member is in a unknown state. The member must abandon all its \
             partitions and rejoin.",
        )
    })?;
    let changed = next != member.current;
    if changed {
        draft.put_current(id, next);
    }
    Ok(changed)
}
