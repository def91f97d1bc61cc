//! Bytes of a log entry, a vote, a commit mark and a membership, as they stand in the journal.
//!
//! All integers are big-endian. Every layout begins with a kind and a version, so that a later
//! version can add one and still read these. Decoding trusts nothing: every length is checked
//! against the bytes that remain before anything is reserved.
//!
//! ```text
//! operations  | 1 | 1 | time_ms i64 | count u32 | count x (head u32, body u32) | heads | bodies |
//! blank       | 2 | 1 |
//! membership  | 3 | 1 | membership |
//! membership    configs u16, per config: voters u16, voter u32 each; learners u16, learner u32 each
//! vote        | 1 | term u64 | node u32 | committed u8 |
//! commit mark | 1 | term u64 | index u64 |
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::vote::RaftVote;
use storage::{LogIndex, LogPosition, Term};

use crate::Op;
use crate::types::{Bundle, EntryPayload, LogId, Membership, Payload, Vote, log_id, position};

const KIND_OPERATIONS: u8 = 1;
const KIND_BLANK: u8 = 2;
const KIND_MEMBERSHIP: u8 = 3;
const VERSION: u8 = 1;
/// Head and body length of one operation in the table.
const OP_LENGTHS_BYTES: usize = 8;

/// Bytes that are not a layout this version knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("{what}: too few bytes")]
    Short { what: &'static str },
    #[error("{what}: {bytes} bytes too many")]
    Long { what: &'static str, bytes: usize },
    #[error("{what}: positions out of order")]
    Disordered { what: &'static str },
    #[error("{what} {kind} version {version} is not known")]
    Unknown {
        what: &'static str,
        kind: u8,
        version: u8,
    },
}

impl From<DecodeError> for std::io::Error {
    fn from(error: DecodeError) -> std::io::Error {
        std::io::Error::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// The pieces whose concatenation is the entry; bodies are handles, not copies.
pub(crate) fn encode(payload: &EntryPayload) -> Vec<Bytes> {
    match payload {
        EntryPayload::Blank => vec![Bytes::from_static(&[KIND_BLANK, VERSION])],
        EntryPayload::Membership(membership) => {
            let mut out = BytesMut::new();
            out.put_slice(&[KIND_MEMBERSHIP, VERSION]);
            encode_membership(membership, &mut out);
            vec![out.freeze()]
        }
        EntryPayload::Normal(Payload::Ops(bundle)) => encode_bundle(bundle),
        EntryPayload::Normal(Payload::Deferred) => panic!("an entry that was not read is written"),
    }
}

fn encode_bundle(bundle: &Bundle) -> Vec<Bytes> {
    let heads: usize = bundle.ops.iter().map(|op| op.head.len()).sum();
    let mut out = BytesMut::with_capacity(14 + bundle.ops.len() * OP_LENGTHS_BYTES + heads);
    out.put_slice(&[KIND_OPERATIONS, VERSION]);
    out.put_i64(bundle.time_ms);
    out.put_u32(length(bundle.ops.len()));
    for op in &bundle.ops {
        out.put_u32(length(op.head.len()));
        out.put_u32(length(op.body.len()));
    }
    for op in &bundle.ops {
        out.put_slice(&op.head);
    }
    let mut pieces = Vec::with_capacity(1 + bundle.ops.len());
    pieces.push(out.freeze());
    pieces.extend(
        bundle
            .ops
            .iter()
            .filter(|op| !op.body.is_empty())
            .map(|op| op.body.clone()),
    );
    pieces
}

fn length(count: usize) -> u32 {
    u32::try_from(count).expect("an entry is far below 4 GiB")
}

/// The entry whose bytes these are. Operations are slices of `bytes`.
pub(crate) fn decode(mut bytes: Bytes) -> Result<EntryPayload, DecodeError> {
    let what = "entry";
    need(&bytes, 2, what)?;
    let (kind, version) = (bytes.get_u8(), bytes.get_u8());
    match (kind, version) {
        (KIND_BLANK, VERSION) => end(&bytes, what).map(|()| EntryPayload::Blank),
        (KIND_MEMBERSHIP, VERSION) => {
            let membership = decode_membership(&mut bytes)?;
            end(&bytes, what).map(|()| EntryPayload::Membership(membership))
        }
        (KIND_OPERATIONS, VERSION) => {
            decode_bundle(bytes).map(|bundle| EntryPayload::Normal(Payload::Ops(Arc::new(bundle))))
        }
        _ => Err(DecodeError::Unknown {
            what,
            kind,
            version,
        }),
    }
}

fn decode_bundle(mut bytes: Bytes) -> Result<Bundle, DecodeError> {
    let what = "entry";
    need(&bytes, 12, what)?;
    let time_ms = bytes.get_i64();
    let count = bytes.get_u32() as usize;
    let table_bytes = count
        .checked_mul(OP_LENGTHS_BYTES)
        .ok_or(DecodeError::Short { what })?;
    need(&bytes, table_bytes, what)?;
    let mut table = bytes.split_to(table_bytes);
    let lengths: Vec<(usize, usize)> = (0..count)
        .map(|_| (table.get_u32() as usize, table.get_u32() as usize))
        .collect();
    let mut heads = Vec::with_capacity(count);
    for (head, _) in &lengths {
        need(&bytes, *head, what)?;
        heads.push(bytes.split_to(*head));
    }
    let mut ops = Vec::with_capacity(count);
    for (head, (_, body)) in heads.into_iter().zip(lengths) {
        need(&bytes, body, what)?;
        ops.push(Op {
            head,
            body: bytes.split_to(body),
        });
    }
    end(&bytes, what)?;
    Ok(Bundle { time_ms, ops })
}

pub(crate) fn encode_membership(membership: &Membership, out: &mut BytesMut) {
    let nodes = |ids: &mut dyn Iterator<Item = u64>, out: &mut BytesMut| {
        let ids: Vec<u64> = ids.collect();
        out.put_u16(u16::try_from(ids.len()).expect("a shard has few replicas"));
        for id in ids {
            out.put_u32(u32::try_from(id).expect("openraft's node ids are made from NodeId"));
        }
    };
    let configs = membership.get_joint_config();
    out.put_u16(u16::try_from(configs.len()).expect("a membership has one or two configs"));
    for voters in configs {
        nodes(&mut voters.iter().copied(), out);
    }
    nodes(&mut membership.learner_ids(), out);
}

pub(crate) fn decode_membership(bytes: &mut Bytes) -> Result<Membership, DecodeError> {
    let what = "membership";
    let nodes = |bytes: &mut Bytes| -> Result<BTreeSet<u64>, DecodeError> {
        need(bytes, 2, what)?;
        let count = usize::from(bytes.get_u16());
        need(bytes, count * 4, what)?;
        Ok((0..count).map(|_| u64::from(bytes.get_u32())).collect())
    };
    need(bytes, 2, what)?;
    let configs = usize::from(bytes.get_u16());
    need(bytes, configs * 2, what)?;
    let configs: Vec<BTreeSet<u64>> = (0..configs)
        .map(|_| nodes(bytes))
        .collect::<Result<_, _>>()?;
    let learners = nodes(bytes)?;
    Ok(Membership::new_with_defaults(configs, learners))
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    let mut out = BytesMut::with_capacity(14);
    out.put_u8(VERSION);
    out.put_u64(vote.leader_id().term);
    out.put_u32(u32::try_from(vote.leader_id().voted_for).expect("made from NodeId"));
    out.put_u8(u8::from(vote.is_committed()));
    out.freeze()
}

pub(crate) fn decode_vote(mut bytes: Bytes) -> Result<Vote, DecodeError> {
    let what = "vote";
    version_of(&mut bytes, what)?;
    need(&bytes, 13, what)?;
    let (term, node) = (bytes.get_u64(), u64::from(bytes.get_u32()));
    let committed = bytes.get_u8() != 0;
    end(&bytes, what)?;
    Ok(Vote::from_leader_id(
        openraft::impls::leader_id_std::LeaderId {
            term,
            voted_for: node,
        },
        committed,
    ))
}

pub(crate) fn encode_committed(id: &LogId) -> Bytes {
    let mut out = BytesMut::with_capacity(17);
    out.put_u8(VERSION);
    encode_position(position(id), &mut out);
    out.freeze()
}

pub(crate) fn decode_committed(mut bytes: Bytes) -> Result<LogId, DecodeError> {
    let what = "commit mark";
    version_of(&mut bytes, what)?;
    let id = decode_position(&mut bytes, what)?;
    end(&bytes, what)?;
    Ok(log_id(id))
}

pub(crate) fn encode_position(position: LogPosition, out: &mut BytesMut) {
    out.put_u64(position.term.0);
    out.put_u64(position.index.0);
}

pub(crate) fn decode_position(
    bytes: &mut Bytes,
    what: &'static str,
) -> Result<LogPosition, DecodeError> {
    need(bytes, 16, what)?;
    Ok(LogPosition {
        term: Term(bytes.get_u64()),
        index: LogIndex(bytes.get_u64()),
    })
}

fn version_of(bytes: &mut Bytes, what: &'static str) -> Result<(), DecodeError> {
    need(bytes, 1, what)?;
    match bytes.get_u8() {
        VERSION => Ok(()),
        version => Err(DecodeError::Unknown {
            what,
            kind: 0,
            version,
        }),
    }
}

pub(crate) fn need(bytes: &Bytes, count: usize, what: &'static str) -> Result<(), DecodeError> {
    if bytes.remaining() < count {
        Err(DecodeError::Short { what })
    } else {
        Ok(())
    }
}

pub(crate) fn end(bytes: &Bytes, what: &'static str) -> Result<(), DecodeError> {
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(DecodeError::Long {
            what,
            bytes: bytes.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(pieces: &[Bytes]) -> Bytes {
        pieces.concat().into()
    }

    fn op() -> impl Strategy<Value = Op> {
        let bytes = |max| proptest::collection::vec(any::<u8>(), 0..max).prop_map(Bytes::from);
        (bytes(20), bytes(200)).prop_map(|(head, body)| Op { head, body })
    }

    proptest! {
        #[test]
        fn operations_survive_the_journal(time_ms in any::<i64>(), ops in proptest::collection::vec(op(), 0..20)) {
            let payload = EntryPayload::Normal(Payload::Ops(Arc::new(Bundle { time_ms, ops })));
            prop_assert!(decode(joined(&encode(&payload))).unwrap() == payload);
        }

        #[test]
        fn memberships_survive_the_journal(
            configs in proptest::collection::vec(proptest::collection::btree_set(0..9u64, 1..5), 1..3),
            learners in proptest::collection::btree_set(10..19u64, 0..5),
        ) {
            let payload = EntryPayload::Membership(Membership::new_with_defaults(configs, learners));
            prop_assert!(decode(joined(&encode(&payload))).unwrap() == payload);
        }

        #[test]
        fn any_bytes_decode_without_a_panic(kind in 0..5u8, rest in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = [&[kind, VERSION][..], &rest].concat();
            let _ = decode(bytes.clone().into());
            let _ = decode_vote(bytes.clone().into());
            let _ = decode_committed(bytes.into());
        }

        #[test]
        fn a_cut_entry_is_refused(ops in proptest::collection::vec(op(), 1..5), cut in any::<prop::sample::Index>()) {
            let payload = EntryPayload::Normal(Payload::Ops(Arc::new(Bundle { time_ms: 1, ops })));
            let whole = joined(&encode(&payload));
            let cut = cut.index(whole.len());
            prop_assert!(decode(whole.slice(..cut)).is_err());
        }
    }

    #[test]
    fn a_huge_count_reserves_nothing() {
        let mut out = BytesMut::new();
        out.put_slice(&[KIND_OPERATIONS, VERSION]);
        out.put_i64(0);
        out.put_u32(u32::MAX);
        assert!(decode(out.freeze()).is_err());
    }

    #[test]
    fn bodies_are_not_copied() {
        let body = Bytes::from(vec![7; 100]);
        let bundle = Bundle {
            time_ms: 0,
            ops: vec![Op::data(Bytes::new(), body.clone())],
        };
        let pieces = encode(&EntryPayload::Normal(Payload::Ops(Arc::new(bundle))));
        assert_eq!(pieces[1].as_ptr(), body.as_ptr());
    }

    #[test]
    fn votes_and_commit_marks_survive_the_journal() {
        let vote = Vote::new_committed(7, 3);
        assert_eq!(decode_vote(encode_vote(&vote)).unwrap(), vote);
        let id = LogId::new_term_index(7, 99);
        assert_eq!(decode_committed(encode_committed(&id)).unwrap(), id);
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let error = decode(Bytes::from_static(&[KIND_BLANK, 9])).unwrap_err();
        assert_eq!(
            error,
            DecodeError::Unknown {
                what: "entry",
                kind: KIND_BLANK,
                version: 9
            }
        );
    }
}
