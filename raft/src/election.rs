//! Elections driven by the transport: when the leader's process is surely gone, nobody waits for
//! its lease to lapse.
//!
//! The first of the surviving voters in id order asks itself to take over, as a leader that hands
//! over would; that opens the leases. The others follow after a pause each, should it not come
//! about: its log may be too short. Whatever this misses, the ordinary time-outs catch.

use std::sync::Arc;
use std::time::Duration;

use openraft::raft::TransferLeaderRequest;
use storage::{NodeId, ShardId};
use tokio::sync::broadcast::error::RecvError;

use crate::Apply;
use crate::group::GroupRaft;
use crate::peer::Peers;
use crate::status::Status;
use crate::store::Log;
use crate::tombstone::Recall;
use crate::types::log_id;

/// Between one voter's turn and the next's.
const TURN: Duration = Duration::from_millis(120);
/// How long a campaign may take: some milliseconds and a few syncs.
const CAMPAIGN_MAX: Duration = Duration::from_millis(200);

/// One shard's watch over its leader's process.
pub(crate) struct Election<A: Apply> {
    pub(crate) id: ShardId,
    pub(crate) raft: GroupRaft<A>,
    pub(crate) status: Arc<Status>,
    pub(crate) log: Log,
    pub(crate) recall: Recall,
    pub(crate) me: NodeId,
    pub(crate) peers: Peers,
}

impl<A: Apply> Election<A> {
    pub(crate) async fn run(self) {
        let mut gone = self.peers.gone();
        loop {
            match gone.recv().await {
                Ok(node) => self.replace(node).await,
                // What was missed is left to the time-outs.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Sees to it that another leads when `gone` did.
    async fn replace(&self, gone: NodeId) {
        if self.leader() != Some(gone) || !self.recall.is_overtaken() {
            return;
        }
        let Some(turn) = self.turn(gone) else { return };
        tokio::time::sleep(TURN * turn).await;
        if self.leader() == Some(gone) {
            self.take_over(gone).await;
        }
        if turn == 0 {
            // Lost only to a longer log, whose voter must not be disturbed now.
            return;
        }
        let mut leadership = self.status.leadership.subscribe();
        let led = leadership.wait_for(|held| held.leader.is_some_and(|leader| leader != gone));
        if tokio::time::timeout(CAMPAIGN_MAX, led).await.is_err() {
            // Who came before has voted for itself in this term, and its lease is gone: the next
            // term is won by an ordinary campaign. It fails only when the shard has stopped.
            let _ = self.raft.trigger().elect(false).await;
        }
    }

    fn leader(&self) -> Option<NodeId> {
        self.status.leadership.borrow().leader
    }

    /// How many voters come before this one; `None` when it is no voter.
    fn turn(&self, gone: NodeId) -> Option<u32> {
        let members = self.status.members.borrow();
        if !members.voters.contains(&self.me) {
            return None;
        }
        let links = self.peers.links();
        let links = links.borrow();
        let before = members
            .voters
            .range(..self.me)
            .filter(|node| **node != gone && links.get(node).is_some_and(|link| link.connected));
        u32::try_from(before.count()).ok()
    }

    /// Campaigns as if `gone`, the leader, had asked for it: other voters' leases do not stand in
    /// the way. Not when another leads or campaigns by now.
    async fn take_over(&self, gone: NodeId) {
        let known = self.raft.with_raft_state(|state| *state.vote_ref()).await;
        let Ok(vote) = known else { return };
        if !vote.is_committed() || vote.leader_id().voted_for != u64::from(gone.0) {
            return;
        }
        let last = self.log.ends().1.map(log_id);
        let request = TransferLeaderRequest::new(vote, u64::from(self.me.0), last);
        match self.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => {
                tracing::info!(
                    shard = self.id.0,
                    "the leader's process is gone: campaigning for its place"
                );
            }
            // Another voter was faster, or this one is not ready.
            Ok(Err(error)) => tracing::debug!(shard = self.id.0, %error, "did not campaign"),
            // The shard has stopped.
            Err(_) => {}
        }
    }
}
