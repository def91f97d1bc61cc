//! The copy of one partition, kept over failed offers so that the next one goes on with it.
//!
//! Blocking: locked on blocking threads only, also by what a dropped staging left running.

use bytes::Bytes;
use storage::batch::BatchHeader;
use storage::partition_log::{
    CopyError, LogConfig, LogCopy, LogState, SegmentState, StorageError, TombstoneView,
};
use storage::store::LogStore;
use storage::{LogId, Offset};

use super::fitting::{Fitting, Unfit};

/// Where a copy stands.
#[derive(Default)]
enum Stand {
    /// Not begun.
    #[default]
    Nothing,
    /// Takes more.
    Copying(Box<LogCopy>),
    /// Synced; takes no more.
    Done {
        end: Offset,
        segments: Vec<SegmentState>,
    },
}

/// One partition's copy.
pub(super) struct Slot {
    id: LogId,
    /// End of the local log that it goes on from; `None` when it stands alone.
    after: Option<Offset>,
    /// Log start that the source raised meanwhile.
    raised: Option<Offset>,
    /// Whether it stands alone though there is a local log.
    is_whole: bool,
    fitting: Fitting,
    stand: Stand,
}

impl From<CopyError> for SlotError {
    fn from(error: CopyError) -> SlotError {
        match error {
            CopyError::Refused { .. } => SlotError::Unfit(error.to_string()),
            CopyError::Storage(error) => SlotError::Storage(error),
        }
    }
}

/// Why batches were not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum SlotError {
    /// What came is not what was asked for; says what.
    #[error("{0}")]
    Unfit(String),
    /// It has to be copied from the log start on.
    #[error(transparent)]
    Mixed(#[from] Unfit),
    /// This node's disk.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Slot {
    pub(super) fn new(id: LogId) -> Slot {
        Slot {
            id,
            after: None,
            raised: None,
            is_whole: false,
            fitting: Fitting::default(),
            stand: Stand::Nothing,
        }
    }

    /// Takes up what was copied for an earlier offer, or begins anew when it does not fit this one.
    /// Returns where to read on.
    pub(super) fn resume(&mut self, after: Option<Offset>, target: &LogState) -> Offset {
        let start = self.start(target);
        let fits = match &self.stand {
            Stand::Nothing => false,
            Stand::Copying(copy) => copy.end() <= target.end && copy.end() >= start,
            Stand::Done { end, .. } => *end == target.end,
        };
        if !fits || (self.after != after && !self.is_whole) {
            self.begin_anew(after, None);
        }
        self.end()
            .unwrap_or(self.after.unwrap_or(self.start(target)))
    }

    /// Drops what there is. With `raised`, the copy stands alone from this log start on.
    pub(super) fn begin_anew(&mut self, after: Option<Offset>, raised: Option<Offset>) {
        if let Stand::Copying(copy) = std::mem::take(&mut self.stand) {
            copy.abandon();
        }
        self.after = after;
        self.raised = raised;
        self.is_whole = false;
        self.fitting = match after {
            Some(_) => Fitting::after_others(),
            None => Fitting::default(),
        };
    }

    /// Drops what there is: what comes now does not fit it, nor the local log. The copy begins at the
    /// log start, and stays so. Returns where to read on.
    pub(super) fn begin_whole(&mut self, target: &LogState) -> Offset {
        self.begin_anew(None, self.raised);
        self.is_whole = true;
        self.start(target)
    }

    /// The log start that the copy gives the partition.
    pub(super) fn start(&self, target: &LogState) -> Offset {
        self.raised
            .map_or(target.start, |raised| raised.max(target.start))
    }

    /// Whether the local log stays, below the copy.
    pub(super) fn keeps_local(&self) -> bool {
        self.after.is_some()
    }

    /// No tombstone was dropped from here on in what was copied.
    pub(super) fn tombstones_gone_below(&self) -> Offset {
        self.fitting.gone_below()
    }

    /// Bytes that are there.
    pub(super) fn size_bytes(&self) -> u64 {
        match &self.stand {
            Stand::Nothing => 0,
            Stand::Copying(copy) => copy.size_bytes(),
            Stand::Done { segments, .. } => segments.iter().map(|segment| segment.bytes).sum(),
        }
    }

    fn end(&self) -> Option<Offset> {
        match &self.stand {
            Stand::Nothing => None,
            Stand::Copying(copy) => Some(copy.end()),
            Stand::Done { end, .. } => Some(*end),
        }
    }

    /// Appends batches that were asked for from `from` on and reach to `next`.
    pub(super) fn append(
        &mut self,
        logs: &LogStore,
        config: LogConfig,
        (from, next): (Offset, Offset),
        (batches, gone): (&Bytes, Option<TombstoneView>),
    ) -> Result<(), SlotError> {
        // Also of batches of which a full disk takes only a part.
        self.fitting.take(gone)?;
        if let Stand::Nothing = self.stand {
            // A copy that stands alone begins with the batch that holds the log start.
            let base = match self.after {
                Some(after) => after,
                None => first_base(batches, from)?,
            };
            let copy = logs.begin_copy(self.id, base, config)?;
            self.stand = Stand::Copying(Box::new(copy));
        }
        let Stand::Copying(copy) = &mut self.stand else {
            return Err(SlotError::Unfit("the copy is complete".to_owned()));
        };
        // Refused batches leave the copy as it was; so does a full disk, up to what was taken.
        copy.append(batches)?;
        if copy.end() != next {
            let end = copy.end();
            return Err(SlotError::Unfit(format!("batches up to {end}, not {next}")));
        }
        Ok(())
    }

    /// Syncs what was copied.
    pub(super) fn finish(&mut self) -> Result<Vec<SegmentState>, StorageError> {
        match std::mem::take(&mut self.stand) {
            Stand::Nothing => Ok(Vec::new()),
            Stand::Copying(copy) => {
                let end = copy.end();
                let segments = copy.finish()?;
                self.stand = Stand::Done {
                    end,
                    segments: segments.clone(),
                };
                Ok(segments)
            }
            Stand::Done { end, segments } => {
                self.stand = Stand::Done {
                    end,
                    segments: segments.clone(),
                };
                Ok(segments)
            }
        }
    }
}

/// Base offset of the first batch, which must hold `from` or follow it.
fn first_base(batches: &Bytes, from: Offset) -> Result<Offset, SlotError> {
    let header = BatchHeader::parse(batches)
        .map_err(|error| SlotError::Unfit(format!("not a batch: {error}")))?;
    let base = Offset(header.base_offset);
    if base > from || header.last_offset() < from {
        let last = header.last_offset();
        return Err(SlotError::Unfit(format!(
            "a batch {base}..={last} instead of one at {from}"
        )));
    }
    Ok(base)
}
