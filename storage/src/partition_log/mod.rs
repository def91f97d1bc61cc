//! One partition's log: Kafka record batches at contiguous offsets, in memory and in segment files.
//!
//! Holds committed data only, so it is never cut at its end while it runs. `append` touches memory
//! alone; the segment writer (`crate::writer`) brings batches to the files; reads come from the
//! tail in memory or from files, where every batch is verified before it is served. After a
//! restart the files are looked at when they are first needed, not before.

mod error;
mod log;
mod state;

pub use error::{Damage, ReadError, StorageError};
pub use log::{LogConfig, PartitionLog, ReadBatches, SegmentInfo};
pub use state::{LogState, LogStateError, SegmentState};
