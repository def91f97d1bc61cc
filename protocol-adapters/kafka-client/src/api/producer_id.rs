//! InitProducerId, key 22, version 4 (KIP-98, KIP-360).

use super::INIT_PRODUCER_ID;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// Who an idempotent producer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// Its id.
    pub producer_id: i64,
    /// Its epoch.
    pub producer_epoch: i16,
}

impl Connection {
    /// A new identity for an idempotent producer, or one for `transactional_id`.
    pub async fn init_producer_id(
        &self,
        transactional_id: Option<&str>,
        transaction_timeout_ms: i32,
    ) -> Result<ProducerIdentity, ClientError> {
        let mut body = Writer::new();
        body.nullable_string(transactional_id)
            .i32(transaction_timeout_ms)
            .i64(-1)
            .i16(-1)
            .no_tags();
        let mut answer = self.call(INIT_PRODUCER_ID, 4, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let error = ErrorCode(answer.i16()?);
        let identity = ProducerIdentity {
            producer_id: answer.i64()?,
            producer_epoch: answer.i16()?,
        };
        answer.skip_tags()?;
        answer.finish()?;
        error.check()?;
        Ok(identity)
    }
}
