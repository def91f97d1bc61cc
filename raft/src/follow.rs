//! Keeps what a shard tells of itself true: who leads, who its replicas are, whether it is cut off.
//!
//! One task a shard. It also sends the leader's heartbeats at the node's beat, switches openraft's
//! ticks on where a leader is missing, and tells the host when the shard ends by itself.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{Instant, ServerState};
use storage::bugs::{self, Bug};
use storage::{ShardId, Term};
use tokio::sync::watch;

use crate::group::GroupRaft;
use crate::host::Shared;
use crate::queue::Queue;
use crate::status::{End, Status};
use crate::types::node_id;
use crate::{Apply, HostFailure, Leadership, Members, ProposeError, UnknownReason};

/// The task's belongings.
pub(crate) struct Follow<A: Apply> {
    pub(crate) id: ShardId,
    pub(crate) raft: GroupRaft<A>,
    pub(crate) queue: Arc<Queue<A::Outcome>>,
    pub(crate) status: Arc<Status>,
    pub(crate) shared: Arc<Shared>,
}

/// What a shard does at the node's beat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// No other node takes part.
    Alone,
    /// It sends heartbeats.
    Leads,
    /// It looks whether a leader is heard.
    Follows,
}

/// What was found when everything was brought up to date.
#[derive(Debug, Clone, Copy)]
struct Found {
    role: Role,
    contact: Contact,
}

/// Whether a leader hears from a majority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Contact {
    /// Nobody to hear from, or it does not lead: nothing to watch.
    Unneeded,
    /// Within the time-out, which has this long to run.
    Heard(Duration),
    /// Not for a time-out.
    Lost,
}

impl<A: Apply> Follow<A> {
    /// Runs until the shard ends.
    pub(crate) async fn run(self) {
        let mut server = self.raft.server_metrics();
        let mut applied_term = self.status.applied_term();
        let mut ended = self.status.watch_end();
        let mut handed_over = self.status.watch_handed_over();
        let mut leads_since_ms = None;
        let mut beat: Option<watch::Receiver<()>> = None;
        let beat_interval = Duration::from_millis(self.shared.config.heartbeat_ms);
        loop {
            let end = *ended.borrow_and_update();
            // In a term that was given away nothing is served, whatever is applied.
            let given_away = *handed_over.borrow_and_update();
            let applied = applied_term
                .borrow_and_update()
                .filter(|term| given_away != Some(*term));
            let Found { role, contact } =
                self.publish(&mut server, applied, end, &mut leads_since_ms);
            match end {
                None => {}
                Some(End::Closed) => return,
                Some(end) => {
                    self.failed(end).await;
                    return;
                }
            }
            if role == Role::Alone {
                beat = None;
            } else {
                beat.get_or_insert_with(|| self.shared.beat.listen());
            }
            // Else the next beat looks in time.
            let recheck = match contact {
                Contact::Heard(left) if left <= beat_interval => Some(left),
                _ => None,
            };
            tokio::select! {
                changed = server.changed() => if changed.is_err() {
                    let failed = self.shared.journal.failed().is_some();
                    self.status.end(if failed { End::JournalFailed } else { End::Failed });
                },
                // The senders live in `status`, which is held here.
                _ = applied_term.changed() => {}
                _ = handed_over.changed() => {}
                _ = ended.changed() => {}
                () = heard(&mut beat) => if role == Role::Leads {
                    // It fails only when the shard has stopped, which `server` tells.
                    let _ = self.raft.trigger().heartbeat().await;
                },
                () = tokio::time::sleep(recheck.unwrap_or_default()), if recheck.is_some() => {}
            }
        }
    }

    /// Brings `Leadership` and `Members` up to date.
    fn publish(
        &self,
        server: &mut ServerMetrics,
        applied: Option<Term>,
        end: Option<End>,
        leads_since_ms: &mut Option<i64>,
    ) -> Found {
        let me = u64::from(self.shared.config.node.0);
        let (term, leads, leader, members) = {
            let server = server.borrow_watched();
            (
                Term(server.vote.leader_id().term),
                server.state == ServerState::Leader,
                server.current_leader,
                Members::of(&server.membership_config),
            )
        };
        let is_only_voter = members.voters.iter().eq([&self.shared.config.node]);
        let contact = if leads && !is_only_voter {
            self.contact(*leads_since_ms.get_or_insert_with(|| self.shared.clock.monotonic_ms()))
        } else {
            *leads_since_ms = None;
            Contact::Unneeded
        };
        let contact = match contact {
            Contact::Lost if bugs::is_on(Bug::StaleLeaderServes) => Contact::Unneeded,
            contact => contact,
        };
        let role = match (members.is_alone(self.shared.config.node), leads) {
            (true, _) => Role::Alone,
            (false, true) => Role::Leads,
            (false, false) => Role::Follows,
        };
        self.raft.runtime_config().tick(match role {
            // But to take the lead: the leader before may have left the shard.
            Role::Alone => is_only_voter && !leads,
            Role::Leads => false,
            Role::Follows => !self.hears_leader(),
        });
        self.status.set_isolated(contact == Contact::Lost);
        if contact == Contact::Lost {
            // They would wait for as long as it lasts; elsewhere they may be taken.
            let error = ProposeError::NotLeader { leader: None };
            self.queue.refuse_waiting(&error);
            let unknown = ProposeError::Unknown {
                reason: UnknownReason::MajorityLost,
            };
            let is_definite = bugs::is_on(Bug::InFlightRefused);
            self.queue
                .abandon_flights(if is_definite { &error } else { &unknown });
        }
        self.status.members.send_if_modified(|held| {
            *held != members && {
                *held = members;
                true
            }
        });
        let applied = match bugs::is_on(Bug::ServesBeforeOwnTerm) {
            true => Some(term),
            false => applied,
        };
        let leader = leader.filter(|leader| leads || *leader != me);
        let now = Leadership {
            term,
            leader: leader.filter(|_| end.is_none()).map(node_id),
            serving: leads && end.is_none() && applied == Some(term) && contact != Contact::Lost,
        };
        self.status.show_leadership(now);
        Found { role, contact }
    }

    /// Whether no election can be due before the beat after the next. openraft holds one when a
    /// leader's lease, the longest election time-out, and a time-out on top of it have passed since
    /// the last word from it.
    fn hears_leader(&self) -> bool {
        let config = &self.shared.config;
        let silence_max = config.election_ms_max.saturating_sub(config.heartbeat_ms);
        let heard = self.status.heard();
        heard.is_some_and(|at| at.elapsed() < Duration::from_millis(silence_max))
    }

    /// As openraft judges it for proposals: by the last time a majority had acknowledged.
    fn contact(&self, leads_since_ms: i64) -> Contact {
        let limit = Duration::from_millis(self.shared.config.election_ms_max);
        let acknowledged = self.raft.data_metrics().borrow_watched().last_quorum_acked;
        let ago = acknowledged.map_or_else(
            // Nobody has acknowledged this leader yet.
            || {
                let ago_ms = self
                    .shared
                    .clock
                    .monotonic_ms()
                    .saturating_sub(leads_since_ms);
                Duration::from_millis(u64::try_from(ago_ms).unwrap_or(0))
            },
            |at| at.elapsed(),
        );
        match limit.checked_sub(ago) {
            Some(left) if !left.is_zero() => Contact::Heard(left),
            _ => Contact::Lost,
        }
    }

    async fn failed(&self, end: End) {
        self.queue.close(end);
        self.shared.fail(match end {
            End::JournalFailed => HostFailure::Journal,
            End::Failed | End::Closed => HostFailure::Shard { shard: self.id },
        });
        // It may not have noticed: a replica that cannot write must not go on leading.
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(shard = self.id.0, %error, "the shard's task ended badly");
        }
    }
}

/// Waits for the next beat, for ever without one.
async fn heard(beat: &mut Option<watch::Receiver<()>>) {
    let Some(listener) = beat else {
        return std::future::pending().await;
    };
    if listener.changed().await.is_err() {
        // The host is gone, and this shard with it.
        *beat = None;
    }
}

type ServerMetrics = openraft::type_config::alias::WatchReceiverOf<
    crate::types::Types,
    openraft::metrics::RaftServerMetrics<crate::types::Types>,
>;
