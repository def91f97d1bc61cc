//! Metadata, key 3, version 12.

use super::METADATA;
use crate::wire::{Reader, Writer};
use crate::{ClientError, Connection, ErrorCode};

/// A picture of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The nodes.
    pub brokers: Vec<MetadataBroker>,
    /// The cluster's id.
    pub cluster_id: Option<String>,
    /// The controller's node id, -1 for none.
    pub controller_id: i32,
    /// The topics asked for.
    pub topics: Vec<MetadataTopic>,
}

/// A node and where to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataBroker {
    /// Its id.
    pub node_id: i32,
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: i32,
    /// Its rack.
    pub rack: Option<String>,
}

impl MetadataBroker {
    /// Where to reach it, as `host:port`.
    #[must_use]
    pub fn address(&self) -> String {
        host_port(&self.host, self.port)
    }
}

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataTopic {
    /// What is wrong with it.
    pub error: ErrorCode,
    /// Its name.
    pub name: String,
    /// Its id.
    pub topic_id: [u8; 16],
    /// Whether it is internal.
    pub internal: bool,
    /// Its partitions, in the server's order.
    pub partitions: Vec<MetadataPartition>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataPartition {
    /// What is wrong with it.
    pub error: ErrorCode,
    /// Its number.
    pub index: i32,
    /// Its leader's node id, -1 for none.
    pub leader: i32,
    /// Its leader epoch, -1 for unknown.
    pub leader_epoch: i32,
    /// Its replicas' node ids.
    pub replicas: Vec<i32>,
    /// Those in sync.
    pub in_sync: Vec<i32>,
    /// Those offline.
    pub offline: Vec<i32>,
}

impl Connection {
    /// Asks for these topics, or all with `None`. With `auto_create`, missing ones are created
    /// where the server allows it.
    pub async fn metadata(
        &self,
        topics: Option<&[&str]>,
        auto_create: bool,
    ) -> Result<Metadata, ClientError> {
        let mut body = Writer::new();
        match topics {
            Some(names) => body.array(names, |item, name| {
                item.uuid([0; 16]).string(name).no_tags();
            }),
            None => body.null_array(),
        };
        body.bool(auto_create).bool(false).no_tags();
        let mut answer = self.call(METADATA, 12, &body.finish()).await?;
        let _throttle_ms = answer.i32()?;
        let metadata = Metadata {
            brokers: answer.array(read_broker)?,
            cluster_id: answer.nullable_string()?,
            controller_id: answer.i32()?,
            topics: answer.array(read_topic)?,
        };
        answer.skip_tags()?;
        answer.finish()?;
        Ok(metadata)
    }
}

/// A host and a port as one address; an IPv6 address in brackets.
pub(super) fn host_port(host: &str, port: i32) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn read_broker(item: &mut Reader) -> Result<MetadataBroker, ClientError> {
    let broker = MetadataBroker {
        node_id: item.i32()?,
        host: item.string()?,
        port: item.i32()?,
        rack: item.nullable_string()?,
    };
    item.skip_tags()?;
    Ok(broker)
}

fn read_topic(item: &mut Reader) -> Result<MetadataTopic, ClientError> {
    let topic = MetadataTopic {
        error: ErrorCode(item.i16()?),
        name: item.nullable_string()?.unwrap_or_default(),
        topic_id: item.uuid()?,
        internal: item.bool()?,
        partitions: item.array(read_partition)?,
    };
    let _authorized_operations = item.i32()?;
    item.skip_tags()?;
    Ok(topic)
}

fn read_partition(item: &mut Reader) -> Result<MetadataPartition, ClientError> {
    let partition = MetadataPartition {
        error: ErrorCode(item.i16()?),
        index: item.i32()?,
        leader: item.i32()?,
        leader_epoch: item.i32()?,
        replicas: item.array(Reader::i32)?,
        in_sync: item.array(Reader::i32)?,
        offline: item.array(Reader::i32)?,
    };
    item.skip_tags()?;
    Ok(partition)
}
