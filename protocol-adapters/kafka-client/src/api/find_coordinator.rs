//! FindCoordinator, key 10, version 6 (KIP-699: several keys at once).

use super::FIND_COORDINATOR;
use super::metadata::host_port;
use crate::wire::{Reader, Writer};
use crate::{ClientError, Connection, ErrorCode};

/// What is coordinated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoordinatorKind {
    /// A group, by its id.
    Group,
    /// A transactional producer, by its transactional id.
    Transaction,
    /// A share partition.
    Share,
}

/// Who coordinates one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordinator {
    /// The key asked for.
    pub key: String,
    /// The node's id, -1 on an error.
    pub node_id: i32,
    /// The node's host.
    pub host: String,
    /// The node's port, -1 on an error.
    pub port: i32,
    /// What went wrong.
    pub error: ErrorCode,
    /// What the server says about it.
    pub message: Option<String>,
}

impl Coordinator {
    /// Where to reach it, as `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        host_port(&self.host, self.port)
    }
}

impl Connection {
    /// Who coordinates these keys; one result each.
    pub async fn find_coordinator(
        &self,
        kind: CoordinatorKind,
        keys: &[&str],
    ) -> Result<Vec<Coordinator>, ClientError> {
        let mut body = Writer::new();
        body.i8(match kind {
            CoordinatorKind::Group => 0,
            CoordinatorKind::Transaction => 1,
            CoordinatorKind::Share => 2,
        });
        body.array(keys, |item, key| {
            item.string(key);
        });
        body.no_tags();
        let mut answer = self.call(FIND_COORDINATOR, 6, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let coordinators = answer.array(read_coordinator)?;
        answer.skip_tags()?;
        answer.finish()?;
        Ok(coordinators)
    }
}

fn read_coordinator(item: &mut Reader) -> Result<Coordinator, ClientError> {
    let coordinator = Coordinator {
        key: item.string()?,
        node_id: item.i32()?,
        host: item.string()?,
        port: item.i32()?,
        error: ErrorCode(item.i16()?),
        message: item.nullable_string()?,
    };
    item.skip_tags()?;
    Ok(coordinator)
}
