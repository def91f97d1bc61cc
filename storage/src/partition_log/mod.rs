//! One partition's log: Kafka record batches at contiguous offsets, in memory and in segment files.
//!
//! Holds committed data only, so it is never cut at its end while it runs. `append` touches memory
//! alone; the segment writer (`crate::writer`) brings batches to the files; reads come from the
//! tail in memory or from files, where every batch is verified before it is served. After a
//! restart the files are looked at when they are first needed, not before.

mod copy;
mod epochs;
mod error;
mod file_part;
pub(crate) mod index;
mod log;
pub(crate) mod open;
mod read;
mod repair;
mod replace;
mod segment;
pub(crate) mod segment_format;
pub(crate) mod staged;
mod state;
pub(crate) mod tail;
mod timestamps;
mod tombstones;
pub(crate) mod walk;

pub use copy::{CopyError, LogCopy, check_copied};
pub use error::{Damage, ReadError, StorageError};
pub use log::{LogConfig, PartitionLog, SegmentInfo};
pub use read::ReadBatches;
pub use repair::SegmentRepair;
pub use replace::{ReplacedFiles, SegmentReplacement};
pub use state::{LogState, LogStateError, SegmentState};
pub use tombstones::TombstoneView;
