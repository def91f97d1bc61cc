//! What remains of a replica that this node forgot: its vote, and where its log ended.
//!
//! A node may be given a shard again that it had forgotten. Empty as it is then, it would vote for
//! anybody, also for one that lacks entries which this node once helped to commit. So the vote is
//! taken up again, and until the log has come past its old end, candidates behind that end are
//! refused and this node is none itself: it behaves as if it had never forgotten.
//!
//! ```text
//! body of the state file, big-endian:
//! | has vote u8 | vote, or as many zeros (see entry.rs) | has position u8 | term u64 | index u64 |
//! ```

use std::io;
use std::path::Path;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use storage::disk::Disk;
use storage::journal::ShardLog;
use storage::{LogPosition, NodeId, Term};

use crate::entry::{
    DecodeError, decode_position, decode_vote, encode_position, encode_vote, end, need,
};
use crate::store::Log;
use crate::types::{LogId, Vote, position};

const FILE_KIND: [u8; 4] = *b"TOMB";
const FILE_VERSION: u16 = 1;
const VOTE_BYTES: usize = 14;

/// What a replica that has forgotten everything is to remember, told by the shard's leader once its
/// members have gone on without that replica: nothing that the replica did before matters then to
/// anybody who may still win an election.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Floor {
    /// The leader's term: the replica takes part in no earlier one, and votes for no other in it.
    pub term: Term,
    /// The leader.
    pub leader: NodeId,
    /// Something committed after the members had changed: whoever has less gets no vote.
    pub last: LogPosition,
}

/// What is kept of a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tombstone {
    pub(crate) vote: Option<Vote>,
    pub(crate) last: Option<LogPosition>,
}

impl Tombstone {
    /// Of a replica with this log, which may itself have been forgotten before.
    pub(crate) fn new(
        known: &ShardLog,
        before: Option<Tombstone>,
    ) -> Result<Tombstone, DecodeError> {
        let vote = known.vote.clone().map(decode_vote).transpose()?;
        let before = before.unwrap_or(Tombstone {
            vote: None,
            last: None,
        });
        Ok(Tombstone {
            // It was taken up again, so that what is there now is no lower.
            vote: vote.or(before.vote),
            last: known.last.max(before.last),
        })
    }

    /// What is kept of a replica that has forgotten all but, perhaps, this.
    pub(crate) fn raised(before: Option<Tombstone>, floor: Floor) -> Tombstone {
        let (vote, last) = before.map_or((None, None), |before| (before.vote, before.last));
        let leaders = Vote::new_committed(floor.term.0, u64::from(floor.leader.0));
        Tombstone {
            vote: vote.filter(|vote| *vote >= leaders).or(Some(leaders)),
            last: last.max(Some(floor.last)),
        }
    }

    /// Blocks.
    pub(crate) fn read(disk: &Disk, path: &Path) -> io::Result<Option<Tombstone>> {
        let body = storage::state_file::read(disk, path, FILE_KIND, FILE_VERSION)
            .map_err(io::Error::other)?;
        Ok(body.map(Tombstone::decode).transpose()?)
    }

    /// Blocks; durable on return.
    pub(crate) fn write(&self, disk: &Disk, path: &Path) -> io::Result<()> {
        storage::state_file::write(disk, path, FILE_KIND, FILE_VERSION, &self.encode())
            .map_err(io::Error::other)
    }

    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32);
        out.put_u8(u8::from(self.vote.is_some()));
        match &self.vote {
            Some(vote) => out.put_slice(&encode_vote(vote)),
            None => out.put_bytes(0, VOTE_BYTES),
        }
        out.put_u8(u8::from(self.last.is_some()));
        encode_position(self.last.unwrap_or_default(), &mut out);
        out.freeze()
    }

    fn decode(mut bytes: Bytes) -> Result<Tombstone, DecodeError> {
        let what = "tombstone";
        need(&bytes, 1 + VOTE_BYTES + 1, what)?;
        let has_vote = bytes.get_u8() != 0;
        let vote = bytes.split_to(VOTE_BYTES);
        let vote = has_vote.then(|| decode_vote(vote)).transpose()?;
        let has_last = bytes.get_u8() != 0;
        let last = decode_position(&mut bytes, what)?;
        end(&bytes, what)?;
        Ok(Tombstone {
            vote,
            last: has_last.then_some(last),
        })
    }
}

/// Where the log of a forgotten replica ended, held against the log of now.
#[derive(Clone)]
pub(crate) struct Recall {
    /// `None` when nothing was forgotten.
    pub(crate) last: Option<LogPosition>,
    pub(crate) log: Log,
}

impl Recall {
    /// Whether the log has come past what was forgotten.
    pub(crate) fn is_overtaken(&self) -> bool {
        self.last.is_none() || self.log.ends().1 >= self.last
    }

    /// Whether a candidate whose log ends there may have this node's vote.
    pub(crate) fn admits(&self, candidate: Option<&LogId>) -> bool {
        self.is_overtaken() || candidate.map(position) >= self.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use storage::LogIndex;
    use storage::disk::SimDisk;

    use super::*;

    fn at(term: u64, index: u64) -> Option<LogPosition> {
        Some(LogPosition {
            term: Term(term),
            index: LogIndex(index),
        })
    }

    #[test]
    fn a_tombstone_survives_its_file() {
        let disk = Disk::Sim(SimDisk::new(1));
        let path = Path::new("/5.tombstone");
        assert_eq!(Tombstone::read(&disk, path).unwrap(), None);
        for vote in [None, Some(Vote::new(4, 2)), Some(Vote::new_committed(5, 3))] {
            for last in [None, at(4, 77)] {
                let tombstone = Tombstone { vote, last };
                tombstone.write(&disk, path).unwrap();
                assert_eq!(Tombstone::read(&disk, path).unwrap(), Some(tombstone));
            }
        }
    }

    #[test]
    fn forgetting_again_keeps_the_later_end() {
        let known = ShardLog {
            vote: Some(encode_vote(&Vote::new(6, 1))),
            last: at(3, 9),
            ..ShardLog::default()
        };
        let before = Tombstone {
            vote: Some(Vote::new(5, 2)),
            last: at(5, 4),
        };
        let both = Tombstone::new(&known, Some(before)).unwrap();
        assert_eq!((both.vote, both.last), (Some(Vote::new(6, 1)), at(5, 4)));
        let first = Tombstone::new(&known, None).unwrap();
        assert_eq!((first.vote, first.last), (Some(Vote::new(6, 1)), at(3, 9)));
    }

    #[test]
    fn a_floor_raises_what_is_kept_and_lowers_nothing() {
        let floor = Floor {
            term: Term(6),
            leader: NodeId(1),
            last: at(6, 20).unwrap(),
        };
        let raised = |vote, last| {
            let before = Tombstone { vote, last };
            let after = Tombstone::raised(Some(before), floor);
            (after.vote.unwrap(), after.last)
        };
        let leaders = Vote::new_committed(6, 1);
        let none = Tombstone::raised(None, floor);
        assert_eq!((none.vote, none.last), (Some(leaders), at(6, 20)));
        assert_eq!(
            raised(Some(Vote::new(6, 2)), at(5, 90)),
            (leaders, at(6, 20))
        );
        let later = Vote::new(7, 2);
        assert_eq!(raised(Some(later), at(6, 21)), (later, at(6, 21)));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = Tombstone::decode(bytes.into());
        }
    }
}
