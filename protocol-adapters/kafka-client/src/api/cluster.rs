//! DescribeCluster, key 60, version 1 (KIP-700).

use super::DESCRIBE_CLUSTER;
use crate::wire::Writer;
use crate::{ClientError, Connection, ErrorCode};

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its id.
    pub cluster_id: String,
    /// The controller's node id, -1 for none.
    pub controller_id: i32,
    /// Its nodes.
    pub nodes: Vec<ClusterNode>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its id.
    pub node_id: i32,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
}

impl Connection {
    /// Describes the cluster.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        let mut body = Writer::new();
        // 1: the endpoints of brokers, not of controllers.
        body.bool(false).i8(1).no_tags();
        let mut answer = self.call(DESCRIBE_CLUSTER, 1, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let error = ErrorCode(answer.i16()?);
        let message = answer.nullable_string()?;
        let _endpoint_type = answer.i8()?;
        let description = ClusterDescription {
            cluster_id: answer.string()?,
            controller_id: answer.i32()?,
            nodes: answer.array(|item| {
                let node = ClusterNode {
                    node_id: item.i32()?,
                    host: item.string()?,
                    port: item.i32()?,
                    rack: item.nullable_string()?,
                };
                item.skip_tags()?;
                Ok(node)
            })?,
        };
        let _authorized_operations = answer.i32()?;
        answer.skip_tags()?;
        answer.finish()?;
        error.check_with(message)?;
        Ok(description)
    }
}
