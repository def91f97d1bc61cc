//! UnregisterBroker, key 64, version 0 (KIP-500).

use super::UNREGISTER_BROKER;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

impl Connection {
    /// Removes a node from the cluster for good; only one that holds no replicas.
    pub async fn unregister_broker(&self, node_id: i32) -> Result<(), ClientError> {
        let mut body = Writer::new();
        body.i32(node_id).no_tags();
        let mut answer = self.call(UNREGISTER_BROKER, 0, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let error = ErrorCode(answer.i16()?);
        let message = answer.nullable_string()?;
        answer.skip_tags()?;
        answer.finish()?;
        error.check_with(message)
    }
}
