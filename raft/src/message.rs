//! Bytes of what replicas of a shard say to each other: appends, votes, transfers of leadership,
//! offers of a checkpoint, and the answers.
//!
//! All integers are big-endian; votes and positions stand as in entry.rs. `at` is an optional
//! position: present u8, term u64, index u64. Decoding trusts nothing: every length is checked
//! against the bytes that remain before anything is reserved. Bodies of operations are pieces of
//! their own on the way out and slices of the frame on the way in.
//!
//! ```text
//! request     | kind u8 | version u8 | ...
//!   1 append    vote, prev at, commit at, count u32, count x (term u64, index u64, bytes u32), entries
//!   2 vote      vote, last at, transfer u8          3 pre-vote   the same
//!   4 transfer  vote, to u32, last at
//!   5 offer     number u64, vote, checkpoint (see snapshot.rs) to the end
//!   8 part      number u64, vote, total u64, at u64, bytes of such a checkpoint to the end
//!   6 poll      number u64                          7 withdraw   number u64
//! answer      | kind u8 | version u8 | ...
//!   1 appended  0 u8, matched at  |  1 u8, conflict at  |  2 u8, vote
//!   2 voted     vote, granted u8, last at
//!   3 transferred  0 u8  |  1 u8, expected vote, actual vote  |  2 u8, expected at, actual at
//!   4 staging   done u64, left known u8, left u64
//!   5 installed vote      6 failed  sentence in UTF-8      7 unknown offer      8 more
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use storage::bugs::{self, Bug};
use storage::{LogIndex, LogPosition, Term};

use crate::StageProgress;
use crate::entry::{self, DecodeError, end, need};
use crate::snapshot::Checkpoint;
use crate::types::{Entry, LogId, Types, Vote, log_id, position};

const VERSION: u8 = 1;
const APPEND: u8 = 1;
const VOTE: u8 = 2;
const PRE_VOTE: u8 = 3;
const TRANSFER: u8 = 4;
const OFFER: u8 = 5;
const POLL: u8 = 6;
const WITHDRAW: u8 = 7;
const PART: u8 = 8;

const APPENDED: u8 = 1;
const VOTED: u8 = 2;
const TRANSFERRED: u8 = 3;
const STAGING: u8 = 4;
const INSTALLED: u8 = 5;
const FAILED: u8 = 6;
const UNKNOWN_OFFER: u8 = 7;
const MORE: u8 = 8;

const VOTE_BYTES: usize = 14;
/// Term, index and length of one entry in the table.
const ENTRY_BYTES: usize = 20;
/// Longest sentence that explains a failure.
const SENTENCE_BYTES_MAX: usize = 1_024;

/// What one replica asks another.
#[derive(Debug)]
pub(crate) enum Request {
    Append(AppendEntriesRequest<Types>),
    Vote(VoteRequest<Types>),
    PreVote(VoteRequest<Types>),
    Transfer(TransferLeaderRequest<Types>),
    /// A checkpoint to take over, under a number the leader made up.
    Offer {
        number: u64,
        vote: Vote,
        checkpoint: Checkpoint,
    },
    /// A part of a checkpoint that is too large for one request. They come one after the other,
    /// and the last one is the offer.
    Part {
        number: u64,
        vote: Vote,
        part: Part,
    },
    /// How far is the offer of this number?
    Poll {
        number: u64,
    },
    /// The offer of this number no longer stands.
    Withdraw {
        number: u64,
    },
}

/// Bytes of an encoded checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    /// Bytes of the whole.
    pub(crate) total: u64,
    /// Where these are in it.
    pub(crate) at: u64,
    /// One after the other.
    pub(crate) pieces: Vec<Bytes>,
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Appended(StreamAppendResult<Types>),
    Voted(VoteResponse<Types>),
    Transferred(TransferLeaderResponse<Types>),
    Staging(StageProgress),
    Installed {
        vote: Vote,
    },
    Failed {
        sentence: String,
    },
    UnknownOffer,
    /// The part was taken; the next one is waited for.
    More,
}

impl Request {
    /// The pieces whose concatenation is the request.
    pub(crate) fn encode(&self) -> Vec<Bytes> {
        let mut out = BytesMut::with_capacity(128);
        match self {
            Request::Append(append) => return encode_append(append),
            Request::Vote(vote) => encode_vote_request(VOTE, vote, &mut out),
            Request::PreVote(vote) => encode_vote_request(PRE_VOTE, vote, &mut out),
            Request::Transfer(transfer) => {
                out.put_slice(&[TRANSFER, VERSION]);
                put_vote(transfer.from_leader(), &mut out);
                let to = u32::try_from(*transfer.to_node_id());
                out.put_u32(to.expect("openraft's node ids are made from NodeId"));
                put_at(transfer.last_log_id(), &mut out);
            }
            Request::Offer {
                number,
                vote,
                checkpoint,
            } => {
                out.put_slice(&[OFFER, VERSION]);
                out.put_u64(*number);
                put_vote(vote, &mut out);
                let mut all = vec![out.freeze()];
                all.extend(checkpoint.pieces());
                return all;
            }
            Request::Part { number, vote, part } => {
                out.put_slice(&[PART, VERSION]);
                out.put_u64(*number);
                put_vote(vote, &mut out);
                out.put_u64(part.total);
                out.put_u64(part.at);
                let mut all = vec![out.freeze()];
                all.extend(part.pieces.iter().cloned());
                return all;
            }
            Request::Poll { number } => {
                out.put_slice(&[POLL, VERSION]);
                out.put_u64(*number);
            }
            Request::Withdraw { number } => {
                out.put_slice(&[WITHDRAW, VERSION]);
                out.put_u64(*number);
            }
        }
        vec![out.freeze()]
    }

    /// The request whose bytes these are; entries and checkpoint are slices of them.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Request, DecodeError> {
        let what = "request";
        let kind = kind_of(&mut bytes, what)?;
        let request = match kind {
            APPEND => Request::Append(decode_append(&mut bytes)?),
            VOTE => Request::Vote(decode_vote_request(&mut bytes)?),
            PRE_VOTE => Request::PreVote(decode_vote_request(&mut bytes)?),
            TRANSFER => {
                let vote = get_vote(&mut bytes)?;
                need(&bytes, 4, what)?;
                let to = u64::from(bytes.get_u32());
                Request::Transfer(TransferLeaderRequest::new(vote, to, get_at(&mut bytes)?))
            }
            OFFER => {
                need(&bytes, 8, what)?;
                let number = bytes.get_u64();
                let vote = get_vote(&mut bytes)?;
                let checkpoint = Checkpoint::decode(bytes.split_off(0))?;
                Request::Offer {
                    number,
                    vote,
                    checkpoint,
                }
            }
            PART => {
                need(&bytes, 8, what)?;
                let number = bytes.get_u64();
                let vote = get_vote(&mut bytes)?;
                need(&bytes, 16, what)?;
                let part = Part {
                    total: bytes.get_u64(),
                    at: bytes.get_u64(),
                    pieces: vec![bytes.split_off(0)],
                };
                Request::Part { number, vote, part }
            }
            POLL | WITHDRAW => {
                need(&bytes, 8, what)?;
                let number = bytes.get_u64();
                if kind == POLL {
                    Request::Poll { number }
                } else {
                    Request::Withdraw { number }
                }
            }
            _ => return Err(unknown(what, kind)),
        };
        end(&bytes, what)?;
        Ok(request)
    }
}

/// Pieces of an append: one for all that is small, then those of each entry.
pub(crate) fn encode_append(append: &AppendEntriesRequest<Types>) -> Vec<Bytes> {
    let encoded: Vec<Vec<Bytes>> = append
        .entries
        .iter()
        .map(|entry| entry::encode(&entry.payload))
        .collect();
    let mut out = BytesMut::with_capacity(64 + encoded.len() * ENTRY_BYTES);
    out.put_slice(&[APPEND, VERSION]);
    put_vote(&append.vote, &mut out);
    put_at(append.prev_log_id.as_ref(), &mut out);
    let last = append.entries.last().map(|entry| entry.log_id);
    match bugs::is_on(Bug::CommitToldEarly) {
        true => put_at(append.leader_commit.max(last).as_ref(), &mut out),
        false => put_at(append.leader_commit.as_ref(), &mut out),
    }
    out.put_u32(length(encoded.len()));
    for (entry, pieces) in append.entries.iter().zip(&encoded) {
        entry::encode_position(position(&entry.log_id), &mut out);
        out.put_u32(length(pieces.iter().map(Bytes::len).sum()));
    }
    let mut all = Vec::with_capacity(1 + encoded.len() * 2);
    all.push(out.freeze());
    all.extend(encoded.into_iter().flatten());
    all
}

fn length(count: usize) -> u32 {
    u32::try_from(count).expect("a request is far below 4 GiB")
}

fn decode_append(bytes: &mut Bytes) -> Result<AppendEntriesRequest<Types>, DecodeError> {
    let what = "append";
    let vote = get_vote(bytes)?;
    let prev_log_id = get_at(bytes)?;
    let leader_commit = get_at(bytes)?;
    need(bytes, 4, what)?;
    let count = bytes.get_u32() as usize;
    let table_bytes = count
        .checked_mul(ENTRY_BYTES)
        .ok_or(DecodeError::Short { what })?;
    need(bytes, table_bytes, what)?;
    let mut table = bytes.split_to(table_bytes);
    let mut entries = Vec::with_capacity(count);
    let mut before = prev_log_id.map(|id| position(&id));
    for _ in 0..count {
        let at = LogPosition {
            term: Term(table.get_u64()),
            index: LogIndex(table.get_u64()),
        };
        // Nothing before it: the first entry of all.
        let follows = before.map_or(at.index.0 == 0, |before| {
            before.index.0.checked_add(1) == Some(at.index.0) && before.term <= at.term
        });
        if !follows {
            return Err(DecodeError::Disordered { what });
        }
        before = Some(at);
        let length = table.get_u32() as usize;
        need(bytes, length, what)?;
        entries.push(Entry {
            log_id: log_id(at),
            payload: entry::decode(bytes.split_to(length))?,
        });
    }
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id,
        entries,
        leader_commit,
    })
}

fn encode_vote_request(kind: u8, request: &VoteRequest<Types>, out: &mut BytesMut) {
    out.put_slice(&[kind, VERSION]);
    put_vote(&request.vote, out);
    put_at(request.last_log_id.as_ref(), out);
    out.put_u8(u8::from(request.leadership_transfer));
}

fn decode_vote_request(bytes: &mut Bytes) -> Result<VoteRequest<Types>, DecodeError> {
    let mut request = VoteRequest::new(get_vote(bytes)?, get_at(bytes)?);
    need(bytes, 1, "vote request")?;
    request.leadership_transfer = bytes.get_u8() != 0;
    Ok(request)
}

impl Answer {
    pub(crate) fn encode(&self) -> Vec<Bytes> {
        let mut out = BytesMut::with_capacity(64);
        match self {
            Answer::Appended(result) => {
                out.put_slice(&[APPENDED, VERSION]);
                match result {
                    Ok(matched) => {
                        out.put_u8(0);
                        put_at(matched.as_ref(), &mut out);
                    }
                    Err(StreamAppendError::Conflict(at)) => {
                        out.put_u8(1);
                        put_at(Some(at), &mut out);
                    }
                    Err(StreamAppendError::HigherVote(vote)) => {
                        out.put_u8(2);
                        put_vote(vote, &mut out);
                    }
                }
            }
            Answer::Voted(voted) => {
                out.put_slice(&[VOTED, VERSION]);
                put_vote(&voted.vote, &mut out);
                out.put_u8(u8::from(voted.vote_granted));
                put_at(voted.last_log_id.as_ref(), &mut out);
            }
            Answer::Transferred(result) => {
                out.put_slice(&[TRANSFERRED, VERSION]);
                match result {
                    Ok(()) => out.put_u8(0),
                    Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                        out.put_u8(1);
                        put_vote(expected, &mut out);
                        put_vote(actual, &mut out);
                    }
                    Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                        out.put_u8(2);
                        put_at(expected.as_ref(), &mut out);
                        put_at(actual.as_ref(), &mut out);
                    }
                }
            }
            Answer::Staging(progress) => {
                out.put_slice(&[STAGING, VERSION]);
                out.put_u64(progress.bytes_done);
                out.put_u8(u8::from(progress.bytes_left.is_some()));
                out.put_u64(progress.bytes_left.unwrap_or_default());
            }
            Answer::Installed { vote } => {
                out.put_slice(&[INSTALLED, VERSION]);
                put_vote(vote, &mut out);
            }
            Answer::Failed { sentence } => {
                out.put_slice(&[FAILED, VERSION]);
                let cut = sentence.floor_char_boundary(SENTENCE_BYTES_MAX);
                out.put_slice(&sentence.as_bytes()[..cut]);
            }
            Answer::UnknownOffer => out.put_slice(&[UNKNOWN_OFFER, VERSION]),
            Answer::More => out.put_slice(&[MORE, VERSION]),
        }
        vec![out.freeze()]
    }

    pub(crate) fn decode(mut bytes: Bytes) -> Result<Answer, DecodeError> {
        let what = "answer";
        let kind = kind_of(&mut bytes, what)?;
        let answer = match kind {
            APPENDED => Answer::Appended(match variant(&mut bytes, what)? {
                0 => Ok(get_at(&mut bytes)?),
                1 => {
                    let at = get_at(&mut bytes)?.ok_or(DecodeError::Short { what })?;
                    Err(StreamAppendError::Conflict(at))
                }
                2 => Err(StreamAppendError::HigherVote(get_vote(&mut bytes)?)),
                other => return Err(unknown(what, other)),
            }),
            VOTED => {
                let vote = get_vote(&mut bytes)?;
                let granted = variant(&mut bytes, what)? != 0;
                Answer::Voted(VoteResponse::new(vote, get_at(&mut bytes)?, granted))
            }
            TRANSFERRED => Answer::Transferred(match variant(&mut bytes, what)? {
                0 => Ok(()),
                1 => Err(TransferLeaderError::VoteChanged {
                    expected: get_vote(&mut bytes)?,
                    actual: get_vote(&mut bytes)?,
                }),
                2 => Err(TransferLeaderError::LogNotFlushed {
                    expected: get_at(&mut bytes)?,
                    actual: get_at(&mut bytes)?,
                }),
                other => return Err(unknown(what, other)),
            }),
            STAGING => {
                need(&bytes, 17, what)?;
                let bytes_done = bytes.get_u64();
                let is_known = bytes.get_u8() != 0;
                let left = bytes.get_u64();
                Answer::Staging(StageProgress {
                    bytes_done,
                    bytes_left: is_known.then_some(left),
                })
            }
            INSTALLED => Answer::Installed {
                vote: get_vote(&mut bytes)?,
            },
            FAILED => {
                let said = bytes.split_off(0);
                let said = &said[..said.len().min(SENTENCE_BYTES_MAX)];
                Answer::Failed {
                    sentence: String::from_utf8_lossy(said).into_owned(),
                }
            }
            UNKNOWN_OFFER => Answer::UnknownOffer,
            MORE => Answer::More,
            _ => return Err(unknown(what, kind)),
        };
        end(&bytes, what)?;
        Ok(answer)
    }
}

fn kind_of(bytes: &mut Bytes, what: &'static str) -> Result<u8, DecodeError> {
    need(bytes, 2, what)?;
    match (bytes.get_u8(), bytes.get_u8()) {
        (kind, VERSION) => Ok(kind),
        (kind, version) => Err(DecodeError::Unknown {
            what,
            kind,
            version,
        }),
    }
}

fn variant(bytes: &mut Bytes, what: &'static str) -> Result<u8, DecodeError> {
    need(bytes, 1, what)?;
    Ok(bytes.get_u8())
}

fn unknown(what: &'static str, kind: u8) -> DecodeError {
    DecodeError::Unknown {
        what,
        kind,
        version: VERSION,
    }
}

fn put_vote(vote: &Vote, out: &mut BytesMut) {
    out.put_slice(&entry::encode_vote(vote));
}

fn get_vote(bytes: &mut Bytes) -> Result<Vote, DecodeError> {
    need(bytes, VOTE_BYTES, "vote")?;
    entry::decode_vote(bytes.split_to(VOTE_BYTES))
}

fn put_at(id: Option<&LogId>, out: &mut BytesMut) {
    out.put_u8(u8::from(id.is_some()));
    entry::encode_position(id.map(position).unwrap_or_default(), out);
}

fn get_at(bytes: &mut Bytes) -> Result<Option<LogId>, DecodeError> {
    let what = "position";
    let is_present = variant(bytes, what)? != 0;
    let at = entry::decode_position(bytes, what)?;
    Ok(is_present.then(|| log_id(at)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::Op;
    use crate::types::{Bundle, EntryPayload, Payload};

    fn joined(pieces: Vec<Bytes>) -> Bytes {
        pieces.concat().into()
    }

    fn id() -> impl Strategy<Value = Option<LogId>> {
        proptest::option::of((0..9u64, 0..99u64))
            .prop_map(|id| id.map(|(term, index)| LogId::new_term_index(term, index)))
    }

    fn vote() -> impl Strategy<Value = Vote> {
        (any::<u64>(), any::<u32>(), any::<bool>()).prop_map(|(term, node, committed)| {
            let node = u64::from(node);
            if committed {
                Vote::new_committed(term, node)
            } else {
                Vote::new(term, node)
            }
        })
    }

    fn append() -> impl Strategy<Value = AppendEntriesRequest<Types>> {
        let body = proptest::collection::vec(any::<u8>(), 0..60);
        let entries = proptest::collection::vec(body, 0..6);
        (vote(), id(), id(), entries).prop_map(|(vote, prev, commit, bodies)| {
            let (term, next) =
                prev.map_or((0, 0), |id| (id.committed_leader_id().term, id.index + 1));
            let entries = bodies.into_iter().zip(next..).map(|(body, index)| Entry {
                log_id: LogId::new_term_index(term, index),
                payload: EntryPayload::Normal(Payload::Ops(Arc::new(Bundle {
                    time_ms: 5,
                    ops: vec![Op::data(Bytes::from_static(b"head"), body.into())],
                }))),
            });
            AppendEntriesRequest {
                vote,
                prev_log_id: prev,
                entries: entries.collect(),
                leader_commit: commit,
            }
        })
    }

    fn answers() -> impl Strategy<Value = Answer> {
        prop_oneof![
            id().prop_map(|at| Answer::Appended(Ok(at))),
            id().prop_filter_map("a conflict has a place", |at| {
                Some(Answer::Appended(Err(StreamAppendError::Conflict(at?))))
            }),
            vote().prop_map(|vote| Answer::Appended(Err(StreamAppendError::HigherVote(vote)))),
            (vote(), id(), any::<bool>()).prop_map(|(vote, at, granted)| Answer::Voted(
                VoteResponse::new(vote, at, granted)
            )),
            Just(Answer::Transferred(Ok(()))),
            (vote(), vote()).prop_map(|(expected, actual)| {
                Answer::Transferred(Err(TransferLeaderError::VoteChanged { expected, actual }))
            }),
            (id(), id()).prop_map(|(expected, actual)| {
                Answer::Transferred(Err(TransferLeaderError::LogNotFlushed { expected, actual }))
            }),
            (any::<u64>(), any::<Option<u64>>()).prop_map(|(bytes_done, bytes_left)| {
                Answer::Staging(StageProgress {
                    bytes_done,
                    bytes_left,
                })
            }),
            vote().prop_map(|vote| Answer::Installed { vote }),
            ".{0,50}".prop_map(|sentence| Answer::Failed { sentence }),
            Just(Answer::UnknownOffer),
            Just(Answer::More),
        ]
    }

    proptest! {
        #[test]
        fn appends_survive_the_wire(append in append()) {
            let bytes = joined(encode_append(&append));
            let Request::Append(read) = Request::decode(bytes.clone()).unwrap() else { panic!() };
            prop_assert_eq!(read.vote, append.vote);
            prop_assert_eq!(read.prev_log_id, append.prev_log_id);
            prop_assert_eq!(read.leader_commit, append.leader_commit);
            prop_assert!(read.entries == append.entries);
            for cut in 0..bytes.len() {
                prop_assert!(Request::decode(bytes.slice(..cut)).is_err());
            }
        }

        #[test]
        fn votes_and_transfers_survive_the_wire(vote in vote(), last in id(), transfer: bool, to: u32) {
            let mut request = VoteRequest::new(vote, last);
            request.leadership_transfer = transfer;
            let bytes = joined(Request::PreVote(request.clone()).encode());
            assert!(matches!(Request::decode(bytes).unwrap(), Request::PreVote(read) if read == request));
            let request = TransferLeaderRequest::new(vote, u64::from(to), last);
            let bytes = joined(Request::Transfer(request.clone()).encode());
            assert!(matches!(Request::decode(bytes).unwrap(), Request::Transfer(read) if read == request));
        }

        #[test]
        fn parts_survive_the_wire(
            vote in vote(),
            (number, total, at) in any::<(u64, u64, u64)>(),
            body in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let body = Bytes::from(body);
            let half = body.len() / 2;
            let pieces = vec![body.slice(..half), body.slice(half..)];
            let part = Part { total, at, pieces };
            let bytes = joined(Request::Part { number, vote, part }.encode());
            let Request::Part { number: read, vote: by, part } = Request::decode(bytes).unwrap()
            else { panic!() };
            prop_assert_eq!((read, by, part.total, part.at), (number, vote, total, at));
            prop_assert_eq!(joined(part.pieces), body);
        }

        #[test]
        fn answers_survive_the_wire(answer in answers()) {
            let read = Answer::decode(joined(answer.encode())).unwrap();
            prop_assert_eq!(format!("{read:?}"), format!("{answer:?}"));
        }

        #[test]
        fn any_bytes_decode_without_a_panic(kind in 0..10u8, rest in proptest::collection::vec(any::<u8>(), 0..120)) {
            let bytes = Bytes::from([&[kind, VERSION][..], &rest].concat());
            let _ = Request::decode(bytes.clone());
            let _ = Answer::decode(bytes);
        }
    }

    #[test]
    fn a_huge_count_reserves_nothing() {
        let mut out = BytesMut::new();
        out.put_slice(&[APPEND, VERSION]);
        put_vote(&Vote::new(1, 1), &mut out);
        put_at(None, &mut out);
        put_at(None, &mut out);
        out.put_u32(u32::MAX);
        assert!(Request::decode(out.freeze()).is_err());
    }

    #[test]
    fn entries_with_a_hole_are_refused() {
        let blank = |index| Entry {
            log_id: LogId::new_term_index(1, index),
            payload: EntryPayload::Blank,
        };
        let append = AppendEntriesRequest::<Types> {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            entries: vec![blank(0), blank(2)],
            leader_commit: None,
        };
        let error = Request::decode(joined(encode_append(&append))).unwrap_err();
        assert!(matches!(error, DecodeError::Disordered { .. }), "{error}");
        let headless = AppendEntriesRequest::<Types> {
            entries: vec![blank(3)],
            ..append
        };
        let error = Request::decode(joined(encode_append(&headless))).unwrap_err();
        assert!(matches!(error, DecodeError::Disordered { .. }), "{error}");
    }

    #[test]
    fn bodies_are_not_copied() {
        let body = Bytes::from(vec![7; 100]);
        let append = AppendEntriesRequest::<Types> {
            vote: Vote::new_committed(1, 1),
            prev_log_id: None,
            entries: vec![Entry {
                log_id: LogId::new_term_index(1, 0),
                payload: EntryPayload::Normal(Payload::Ops(Arc::new(Bundle {
                    time_ms: 0,
                    ops: vec![Op::data(Bytes::new(), body.clone())],
                }))),
            }],
            leader_commit: None,
        };
        let pieces = encode_append(&append);
        assert!(pieces.iter().any(|piece| piece.as_ptr() == body.as_ptr()));
    }
}
