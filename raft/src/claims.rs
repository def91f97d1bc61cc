//! What a well-formed request claims, held against who sent it and against itself.
//!
//! openraft trusts what it is given: entries of a term above the leader's break its invariants and
//! stop the shard, and a candidate that calls its vote committed leads without being elected. So
//! what cannot come from a sane peer is refused before openraft hears of it.

use storage::{NodeId, Term};

use crate::message::Request;
use crate::snapshot::Checkpoint;
use crate::types::{LogId, Vote, position};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Incredible {
    #[error("it speaks for another node")]
    Sender,
    #[error("it comes from a leader whose election is not confirmed")]
    Uncommitted,
    #[error("it comes from a candidate that calls itself elected")]
    Committed,
    #[error("it names an entry of a term above its own")]
    Term,
    #[error("it offers a checkpoint of nothing")]
    Empty,
}

/// Checks a request of node `from`.
pub(crate) fn check(from: NodeId, request: &Request) -> Result<(), Incredible> {
    match request {
        Request::Append(append) => {
            leads(from, &append.vote)?;
            // Their terms rise: decoding saw to it.
            let last = append.entries.last().map(|entry| entry.log_id);
            for id in [append.prev_log_id, last, append.leader_commit] {
                within(&append.vote, id)?;
            }
            Ok(())
        }
        Request::Offer {
            vote, checkpoint, ..
        } => {
            leads(from, vote)?;
            check_offered(vote, checkpoint)
        }
        // What it is part of is checked when it is whole.
        Request::Part { vote, .. } => leads(from, vote),
        Request::Vote(asked) | Request::PreVote(asked) => {
            is_from(from, &asked.vote)?;
            if asked.vote.is_committed() {
                return Err(Incredible::Committed);
            }
            within(&asked.vote, asked.last_log_id)
        }
        // It names the leader's vote, which openraft compares with the one it holds.
        Request::Transfer(_) | Request::Poll { .. } | Request::Withdraw { .. } => Ok(()),
    }
}

/// Checks what an elected leader offers.
pub(crate) fn check_offered(vote: &Vote, checkpoint: &Checkpoint) -> Result<(), Incredible> {
    let last = checkpoint.meta.last_log_id.ok_or(Incredible::Empty)?;
    within(vote, Some(last))
}

fn leads(from: NodeId, vote: &Vote) -> Result<(), Incredible> {
    is_from(from, vote)?;
    if vote.is_committed() {
        Ok(())
    } else {
        Err(Incredible::Uncommitted)
    }
}

fn is_from(from: NodeId, vote: &Vote) -> Result<(), Incredible> {
    if vote.leader_id().voted_for == u64::from(from.0) {
        Ok(())
    } else {
        Err(Incredible::Sender)
    }
}

fn within(vote: &Vote, id: Option<LogId>) -> Result<(), Incredible> {
    if id.is_none_or(|id| position(&id).term <= Term(vote.leader_id().term)) {
        Ok(())
    } else {
        Err(Incredible::Term)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use openraft::raft::{AppendEntriesRequest, VoteRequest};

    use super::*;
    use crate::message::Part;
    use crate::snapshot::Manifest;
    use crate::types::{Entry, EntryPayload, SnapshotMeta, StoredMembership};

    const FROM: NodeId = NodeId(7);

    fn id(term: u64) -> LogId {
        LogId::new_term_index(term, 5)
    }

    fn append(vote: Vote, prev: u64, entry: u64, commit: u64) -> Request {
        Request::Append(AppendEntriesRequest {
            vote,
            prev_log_id: Some(id(prev)),
            entries: vec![Entry {
                log_id: LogId::new_term_index(entry, 6),
                payload: EntryPayload::Blank,
            }],
            leader_commit: Some(id(commit)),
        })
    }

    fn offer(vote: Vote, last: Option<LogId>) -> Request {
        Request::Offer {
            number: 1,
            vote,
            checkpoint: Checkpoint {
                meta: SnapshotMeta {
                    last_log_id: last,
                    last_membership: StoredMembership::default(),
                },
                manifest: Manifest {
                    time_ms: 0,
                    bytes: Bytes::new(),
                },
            },
        }
    }

    #[test]
    fn appends_come_from_an_elected_leader_and_hold_no_entry_of_a_later_term() {
        let vote = Vote::new_committed(3, 7);
        assert_eq!(check(FROM, &append(vote, 2, 3, 2)), Ok(()));
        for (prev, entry, commit) in [(4, 4, 2), (2, 4, 2), (2, 3, 4)] {
            let refused = check(FROM, &append(vote, prev, entry, commit));
            assert_eq!(refused, Err(Incredible::Term));
        }
        let candidate = append(Vote::new(3, 7), 2, 3, 2);
        assert_eq!(check(FROM, &candidate), Err(Incredible::Uncommitted));
        let other = append(Vote::new_committed(3, 8), 2, 3, 2);
        assert_eq!(check(FROM, &other), Err(Incredible::Sender));
    }

    #[test]
    fn offers_come_from_an_elected_leader_and_hold_something_of_its_time() {
        let vote = Vote::new_committed(3, 7);
        assert_eq!(check(FROM, &offer(vote, Some(id(3)))), Ok(()));
        assert_eq!(
            check(FROM, &offer(vote, Some(id(4)))),
            Err(Incredible::Term)
        );
        assert_eq!(check(FROM, &offer(vote, None)), Err(Incredible::Empty));
        let candidate = offer(Vote::new(3, 7), Some(id(3)));
        assert_eq!(check(FROM, &candidate), Err(Incredible::Uncommitted));
        let other = offer(Vote::new_committed(3, 8), Some(id(3)));
        assert_eq!(check(FROM, &other), Err(Incredible::Sender));
        let part = |vote| Request::Part {
            number: 1,
            vote,
            part: Part {
                total: 9,
                at: 0,
                pieces: Vec::new(),
            },
        };
        assert_eq!(check(FROM, &part(vote)), Ok(()));
        let candidate = check(FROM, &part(Vote::new(3, 7)));
        assert_eq!(candidate, Err(Incredible::Uncommitted));
    }

    #[test]
    fn votes_are_asked_for_by_the_candidate_and_not_as_if_it_were_elected() {
        let asked = |vote| {
            let mut request = VoteRequest::new(vote, Some(id(2)));
            request.leadership_transfer = true;
            [Request::Vote(request.clone()), Request::PreVote(request)]
        };
        for request in asked(Vote::new(3, 7)) {
            assert_eq!(check(FROM, &request), Ok(()));
        }
        for request in asked(Vote::new_committed(3, 7)) {
            assert_eq!(check(FROM, &request), Err(Incredible::Committed));
        }
        for request in asked(Vote::new(3, 8)) {
            assert_eq!(check(FROM, &request), Err(Incredible::Sender));
        }
    }
}
