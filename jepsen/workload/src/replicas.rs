//! Reading one partition from each node that carries it: followers answer fetches as well.

use std::time::Duration;

use bytes::Bytes;
use jepsen_check::compacted::Record;
use jepsen_check::history::{Key, Op, Value};
use kafka_client::ClientError;
use kafka_client::api::{FetchOptions, FetchPartition};
use tokio::time::{Instant, sleep};

use crate::batch::{self, Digest};
use crate::client::nodes::Nodes;
use crate::fault::NodeId;
use crate::finish::replica_read;

const PAUSE: Duration = Duration::from_millis(200);
/// However late it is, each partition gets so long.
const PATIENCE_MIN: Duration = Duration::from_secs(3);
const FETCH_BYTES_MAX: i32 = 4 << 20;

/// The nodes that carry a partition, in order; all there are when nobody tells in time.
pub(crate) async fn find(nodes: &mut Nodes, key: &Key, deadline: Instant) -> Vec<NodeId> {
    loop {
        if let Some(found) = told(nodes, key).await {
            return found;
        }
        if Instant::now() + PAUSE >= deadline {
            return nodes.all_sorted();
        }
        sleep(PAUSE).await;
    }
}

/// The nodes that carry a partition, in order, as some node tells.
async fn told(nodes: &mut Nodes, key: &Key) -> Option<Vec<NodeId>> {
    let metadata = nodes.metadata(Some(&[key.topic.as_str()])).await.ok()?;
    let mut topics = metadata.topics.iter();
    let topic = topics.find(|topic| topic.name == key.topic)?;
    let mut partitions = topic.partitions.iter();
    let told = partitions.find(|told| told.index == key.partition && told.leader >= 0)?;
    let ids = told
        .replicas
        .iter()
        .filter_map(|node| NodeId::try_from(*node).ok());
    let mut ids: Vec<NodeId> = ids.collect();
    ids.sort_unstable();
    Some(ids)
}

/// Until when a partition's replicas are waited for.
pub(crate) fn patience(deadline: Instant) -> Instant {
    deadline.max(Instant::now() + PATIENCE_MIN)
}

/// Reads all replicas until all have been read to one and the same end: then `None`; or until other
/// nodes carry the partition than these, as a node told that knows of the latest changes or of older
/// ones; or the deadline.
pub(crate) async fn read_to_the_end(
    nodes: &mut Nodes,
    key: &Key,
    reads: &mut [Reader],
    deadline: Instant,
) -> Option<Vec<NodeId>> {
    loop {
        for read in reads.iter_mut() {
            read.catch_up(nodes, deadline).await;
        }
        let ends: Vec<Option<i64>> = reads.iter().map(Reader::end).collect();
        let is_equal = ends.iter().all(|end| end.is_some() && *end == ends[0]);
        if is_equal || reads.iter().any(|read| read.damage.is_some()) {
            return None;
        }
        if Instant::now() + PAUSE >= deadline {
            return None;
        }
        sleep(PAUSE).await;
        let found = told(nodes, key).await;
        let is_other = |found: &Vec<NodeId>| !found.iter().eq(reads.iter().map(|read| &read.node));
        if let Some(found) = found.filter(is_other) {
            return Some(found);
        }
    }
}

/// What a replica has.
#[derive(Debug)]
enum Content {
    /// What clients sent.
    Sent(Vec<(i64, Value)>, Digest),
    /// What nodes wrote, and may have cleaned.
    Compacted(Vec<Record>),
}

/// What was read of one replica so far.
#[derive(Debug)]
pub(crate) struct Reader {
    node: NodeId,
    key: Key,
    next: i64,
    log_start: i64,
    high_watermark: Option<i64>,
    content: Content,
    damage: Option<String>,
    failure: String,
}

impl Reader {
    pub(crate) fn new(node: NodeId, key: &Key) -> Reader {
        Reader {
            node,
            key: key.clone(),
            next: 0,
            log_start: 0,
            high_watermark: None,
            content: Content::Sent(Vec::new(), Digest::default()),
            damage: None,
            failure: "it was not asked".to_owned(),
        }
    }

    /// Of a compacted partition that nodes write to.
    pub(crate) fn compacted(node: NodeId, key: &Key) -> Reader {
        Reader {
            content: Content::Compacted(Vec::new()),
            ..Reader::new(node, key)
        }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }

    /// The operation, as it is asked for.
    pub(crate) fn asked(&self) -> Op {
        match self.content {
            Content::Sent(..) => replica_read(self.node, &self.key),
            Content::Compacted(_) => Op::CompactedRead {
                node: self.node,
                key: self.key.clone(),
                end: 0,
                records: Vec::new(),
            },
        }
    }

    /// The high watermark, once everything below it was read.
    fn end(&self) -> Option<i64> {
        self.high_watermark.filter(|end| *end <= self.next)
    }

    /// What was read; or why it is less than the node should give.
    pub(crate) fn finish(self) -> Result<Op, String> {
        let end = self.end();
        if let Some(damage) = self.damage {
            return Err(format!("damaged: {damage}"));
        }
        let end = end.ok_or_else(|| format!("not live: {}", self.failure))?;
        let (node, key) = (self.node, self.key);
        Ok(match self.content {
            Content::Sent(records, digest) => Op::ReplicaRead {
                node,
                key,
                log_start: self.log_start,
                end,
                records,
                digest: digest.finish(),
            },
            Content::Compacted(records) => Op::CompactedRead {
                node,
                key,
                end,
                records,
            },
        })
    }

    /// Reads on until there is no more for now.
    async fn catch_up(&mut self, nodes: &mut Nodes, deadline: Instant) {
        while self.damage.is_none() && Instant::now() < deadline {
            match self.step(nodes).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => {
                    self.failure = error.to_string();
                    nodes.failed(self.node, &error);
                    return;
                }
            }
        }
    }

    /// One fetch; says whether it got on.
    async fn step(&mut self, nodes: &mut Nodes) -> Result<bool, ClientError> {
        let connection = nodes.connection(self.node).await?;
        let mut wanted = FetchPartition::new(&self.key.topic, self.key.partition, self.next);
        wanted.bytes_max = FETCH_BYTES_MAX;
        let options = FetchOptions {
            wait_ms_max: 20,
            bytes_max: FETCH_BYTES_MAX,
            ..FetchOptions::default()
        };
        let answer = connection.fetch(&[wanted], options).await?;
        answer.error.check()?;
        let fetched = answer.partitions.into_iter().next();
        let fetched = fetched.ok_or(ClientError::Malformed("no result"))?;
        fetched.error.check()?;
        self.log_start = fetched.log_start;
        self.high_watermark = Some(fetched.high_watermark);
        let before = self.next;
        if let Err(damage) = self.take(&fetched.records) {
            self.damage = Some(format!("from offset {before}: {damage}"));
        }
        Ok(self.damage.is_none() && self.next > before)
    }

    fn take(&mut self, bytes: &Bytes) -> Result<(), String> {
        let (all, digest) = match &mut self.content {
            Content::Sent(records, digest) => (records, digest),
            Content::Compacted(all) => {
                let told = batch::decode_compacted(bytes);
                let (records, next) = told.map_err(|damage| damage.to_string())?;
                // The first batch may begin before what was asked for.
                let new = records.into_iter().filter(|one| one.offset >= self.next);
                all.extend(new);
                self.next = self.next.max(next.unwrap_or(0));
                return Ok(());
            }
        };
        let batches = batch::decode_all(bytes).map_err(|damage| damage.to_string())?;
        for batch in batches {
            if batch.base_offset < self.next {
                return Err(format!(
                    "asked for offset {}, got a batch from {} to {}",
                    self.next, batch.base_offset, batch.last_offset
                ));
            }
            digest.update(&batch);
            self.next = batch.last_offset + 1;
            all.extend(batch.records);
        }
        Ok(())
    }
}
