//! Producer ids: unique for ever, taken from the catalogue in blocks (KIP-730).

use tokio::sync::Mutex;

use crate::catalogue::command::Command;
use crate::catalogue::machine::Outcome;
use crate::{Broker, BrokerError};

/// Ids taken at once; those left over when the node stops are never used.
const BLOCK: u32 = 1000;

/// The ids that this node may still give out.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    next_and_end: Mutex<(i64, i64)>,
}

impl Broker {
    /// A producer id that nobody had before (epoch 0).
    pub async fn new_producer_id(&self) -> Result<i64, BrokerError> {
        let mut block = self.inner.producer_ids.next_and_end.lock().await;
        if block.0 == block.1 {
            let command = Command::TakeProducerIds { count: BLOCK };
            match self.change_catalogue(&command).await? {
                Outcome::ProducerIds(first) => *block = (first, first + i64::from(BLOCK)),
                outcome => unreachable!("taking producer ids came to {outcome:?}"),
            }
        }
        block.0 += 1;
        Ok(block.0 - 1)
    }
}
