//! What a directory remembers while its node, which lost its memory, is taken back by the cluster.
//!
//! ```text
//! body of the state file `returning`, little-endian:
//! | before 16 | incarnation 16 | u8: 1 is answered, 2 is accepted | has lost all u8 |
//! | stale shards: count u32, id u32* |
//! ```

use std::collections::BTreeSet;
use std::io;

use super::{DataDir, DataDirError, io_error, malformed};
use crate::ShardId;
use crate::state_file;

const RETURNING_KIND: [u8; 4] = *b"RTRN";
const RETURNING_VERSION: u16 = 1;

/// How far a returning node has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returning {
    /// Its incarnation until now.
    pub before: [u8; 16],
    /// Drawn for this return: the incarnation it returns with, unless it keeps its own.
    pub incarnation: [u8; 16],
    /// Whether the cluster has said that it knows of this return. Pictures of the cluster that do
    /// not have it are older, and not to be acted on.
    pub is_answered: bool,
    /// Whether whoever runs the node has said, while the cluster had not answered, that it is to go
    /// on with what is on its disk. The return may have been carried out all the same.
    pub is_accepted: bool,
    /// Whether nothing is left of what the node had: its journal is damaged.
    pub has_lost_all: bool,
    /// Shards of which what is on this disk counts for nothing, unless the catalogue says that no
    /// other node has them.
    pub stale: BTreeSet<ShardId>,
}

impl Returning {
    fn encode(&self) -> Vec<u8> {
        let mut body = [self.before, self.incarnation].concat();
        let standing = u8::from(self.is_answered) | u8::from(self.is_accepted) << 1;
        body.extend([standing, u8::from(self.has_lost_all)]);
        let count = u32::try_from(self.stale.len()).expect("shard ids have 32 bits");
        body.extend_from_slice(&count.to_le_bytes());
        for shard in &self.stale {
            body.extend_from_slice(&shard.0.to_le_bytes());
        }
        body
    }

    fn decode(body: &[u8]) -> Option<Returning> {
        let (before, rest) = body.split_first_chunk()?;
        let (incarnation, rest) = rest.split_first_chunk()?;
        let (flags, rest) = rest.split_first_chunk::<2>()?;
        let (count, rest) = rest.split_first_chunk()?;
        let (ids, left) = rest.as_chunks();
        if !left.is_empty() || ids.len() != usize::try_from(u32::from_le_bytes(*count)).ok()? {
            return None;
        }
        if flags[0] > 3 || flags[1] > 1 {
            return None;
        }
        Some(Returning {
            before: *before,
            incarnation: *incarnation,
            is_answered: flags[0] & 1 != 0,
            is_accepted: flags[0] & 2 != 0,
            has_lost_all: flags[1] == 1,
            stale: ids
                .iter()
                .map(|id| ShardId(u32::from_le_bytes(*id)))
                .collect(),
        })
    }
}

impl DataDir {
    /// How far the node has come with its return; `None` when it is not returning.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn returning(&self) -> Result<Option<Returning>, DataDirError> {
        let path = self.path.join("returning");
        let body = state_file::read(&self.disk, &path, RETURNING_KIND, RETURNING_VERSION)?;
        let returning = body.map(|body| {
            Returning::decode(&body).ok_or_else(|| malformed(path, "a returning node", &body))
        });
        Ok(returning.transpose()?)
    }

    /// Notes how far the node has come with its return; durable on return.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn set_returning(&self, returning: &Returning) -> Result<(), DataDirError> {
        let path = self.path.join("returning");
        Ok(state_file::write(
            &self.disk,
            &path,
            RETURNING_KIND,
            RETURNING_VERSION,
            &returning.encode(),
        )?)
    }

    /// Notes that the node has returned; durable on return.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn clear_returning(&self) -> Result<(), DataDirError> {
        let path = self.path.join("returning");
        match self.disk.remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &path)(error));
            }
            _ => {}
        }
        self.disk
            .sync_dir(&self.path)
            .map_err(io_error("sync", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::disk::{Disk, SimDisk};

    #[test]
    fn a_return_is_remembered_through_crashes_until_it_is_done() {
        let sim = SimDisk::new(1);
        let disk = Disk::Sim(sim.clone());
        let open = || DataDir::open(&disk, Path::new("/var/data")).unwrap();
        assert_eq!(open().returning().unwrap(), None);
        let mut returning = Returning {
            before: [1; 16],
            incarnation: [2; 16],
            is_answered: false,
            is_accepted: false,
            has_lost_all: true,
            stale: [0, 3, 7].map(ShardId).into(),
        };
        for (seed, is_answered) in [(1, false), (2, true), (3, true)] {
            returning.is_answered = is_answered;
            returning.is_accepted = seed == 2;
            open().set_returning(&returning).unwrap();
            sim.crash(seed);
            assert_eq!(open().returning().unwrap(), Some(returning.clone()));
            returning.stale.pop_first();
        }
        open().clear_returning().unwrap();
        sim.crash(1);
        assert_eq!(open().returning().unwrap(), None);
        open().clear_returning().unwrap();
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Some(returning) = Returning::decode(&body) {
                prop_assert_eq!(Returning::decode(&returning.encode()), Some(returning));
            }
        }
    }
}
