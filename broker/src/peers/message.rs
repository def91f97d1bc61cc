//! Requests between nodes and their answers, and how they are encoded.
//!
//! ```text
//! request = version u8 (1), kind u8, then by kind:
//!   1 discover         asker?: cluster id text, node u32, incarnation 16 bytes
//!   2 join             a joiner, as in the catalogue's command
//!   3 propose          a catalogue command
//!   4 report           count, shard report*
//!   5 read range       body, see `stage/range.rs`; its answer comes bare
//!   6 transfer leader  shard u32, to u32
//!   7 barrier
//!  20 return           a comeback, as in the catalogue's command; asked again until there is a floor
//!  30 seal             see `moves/seal.rs`
//! answer = 0 u8, body by kind   or   1 u8, error (see `outcome.rs`)
//! x? = present u8, x
//! ```
//! Integers are big-endian; texts and lists carry a `u32` length. A version or kind that is not
//! known is answered with an error that says so.

use std::collections::BTreeSet;

use bytes::Bytes;
use raft::Floor;
use storage::{NodeId, ShardId};

use super::outcome::{put_error, put_outcome, take_error, take_outcome};
use crate::BrokerError;
use crate::catalogue::Void;
use crate::catalogue::command::{Joiner, put_joiner, take_joiner};
use crate::catalogue::machine::Outcome;
use crate::catalogue::voids::{Comeback, put_comeback, put_floor, take_comeback, take_floor};
use crate::moves::seal::SealRequest;
use crate::wire::{Malformed, Reader, Writer};

const VERSION: u8 = 1;
const DISCOVER: u8 = 1;
const JOIN: u8 = 2;
const PROPOSE: u8 = 3;
const REPORT: u8 = 4;
const READ_RANGE: u8 = 5;
const TRANSFER_LEADER: u8 = 6;
const BARRIER: u8 = 7;
const RETURN: u8 = 20;
const SEAL: u8 = 30;

/// Terms become leader epochs, which have 31 bits.
const TERM_MAX: u64 = 0x7fff_ffff;

/// What one node asks another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Who are you? With who asks, if it is somebody already.
    Discover(Option<Named>),
    /// Make me a member.
    Join(Joiner),
    /// Carry this command out; asked of the catalogue's leader.
    Propose(Bytes),
    /// This is what I lead.
    Report(Vec<ShardReport>),
    /// Batches of a partition.
    ReadRange(Bytes),
    /// Make another replica the leader; asked of the shard's leader.
    TransferLeader { shard: ShardId, to: NodeId },
    /// How far is the catalogue, for certain? Asked of its leader.
    Barrier,
    /// Take me back, who lost my memory. Asked of anybody.
    Return(Comeback),
    /// Seal a partition's log that is moved; asked of the leader of its shard.
    Seal(SealRequest),
}

/// A member of some cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) cluster_id: String,
    pub(crate) node: NodeId,
    pub(crate) incarnation: [u8; 16],
}

/// Who answers a discovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Discovered {
    pub(crate) incarnation: [u8; 16],
    pub(crate) standing: Standing,
    /// Why whoever asked cannot be the member it says it is.
    pub(crate) refusal: Option<String>,
}

/// Whether a node belongs to a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not yet.
    Blank {
        wanted: Option<NodeId>,
        seeds: BTreeSet<String>,
    },
    /// It does.
    Member {
        cluster_id: String,
        node: NodeId,
        /// Whether it has the catalogue, so that others may join through it.
        is_ready: bool,
    },
}

/// A member and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) node: NodeId,
    pub(crate) incarnation: [u8; 16],
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// A new member's id and its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) cluster_id: String,
    pub(crate) node: NodeId,
    pub(crate) members: Vec<Address>,
}

/// A shard as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ShardReport {
    pub(crate) shard: ShardId,
    pub(crate) term: u64,
    pub(crate) voters: BTreeSet<NodeId>,
    pub(crate) learners: BTreeSet<NodeId>,
    /// Whether a change of voters is under way.
    pub(crate) is_joint: bool,
    pub(crate) in_sync: BTreeSet<NodeId>,
    /// Replicas that are being filled.
    pub(crate) catching_up: Vec<CatchingUp>,
}

/// A replica that is being filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CatchingUp {
    pub(crate) node: NodeId,
    /// What it lacks; 0 when that is not known.
    pub(crate) bytes_left: u64,
    /// Index of the last entry that it is known to have; 0 when none is.
    pub(crate) entries: u64,
}

/// A request for a range, around the body that `stage` made.
pub(crate) fn read_range(body: Bytes) -> Bytes {
    Request::ReadRange(body).encode()
}

fn put_nodes(writer: &mut Writer, nodes: &BTreeSet<NodeId>) {
    writer.count(nodes.len());
    for node in nodes {
        writer.u32(node.0);
    }
}

fn take_nodes(reader: &mut Reader) -> Result<BTreeSet<NodeId>, Malformed> {
    (0..reader.count(4)?)
        .map(|_| Ok(NodeId(reader.u32()?)))
        .collect()
}

fn take_flag(reader: &mut Reader) -> Result<bool, Malformed> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(reader.malformed("0 or 1")),
    }
}

impl Request {
    pub(crate) fn encode(&self) -> Bytes {
        let mut writer = Writer::default();
        writer.u8(VERSION);
        match self {
            Request::Discover(asker) => {
                writer.u8(DISCOVER).u8(u8::from(asker.is_some()));
                if let Some(asker) = asker {
                    writer
                        .text(&asker.cluster_id)
                        .u32(asker.node.0)
                        .raw(&asker.incarnation);
                }
            }
            Request::Join(joiner) => put_joiner(writer.u8(JOIN), joiner),
            Request::Propose(command) => {
                writer.u8(PROPOSE).raw(command);
            }
            Request::Report(shards) => {
                writer.u8(REPORT).count(shards.len());
                for shard in shards {
                    put_report(&mut writer, shard);
                }
            }
            Request::ReadRange(body) => {
                writer.u8(READ_RANGE).raw(body);
            }
            Request::TransferLeader { shard, to } => {
                writer.u8(TRANSFER_LEADER).u32(shard.0).u32(to.0);
            }
            Request::Barrier => {
                writer.u8(BARRIER);
            }
            Request::Return(comeback) => put_comeback(writer.u8(RETURN), comeback),
            Request::Seal(request) => request.put(writer.u8(SEAL)),
        }
        writer.finish()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Request, Malformed> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(reader.malformed("a known version of requests"));
        }
        let request = match reader.u8()? {
            DISCOVER => Request::Discover(match take_flag(&mut reader)? {
                false => None,
                true => Some(Named {
                    cluster_id: reader.text()?,
                    node: NodeId(reader.u32()?),
                    incarnation: reader.array()?,
                }),
            }),
            JOIN => Request::Join(take_joiner(&mut reader)?),
            PROPOSE => Request::Propose(reader.rest()),
            REPORT => Request::Report(
                (0..reader.count(29)?)
                    .map(|_| take_report(&mut reader))
                    .collect::<Result<_, _>>()?,
            ),
            READ_RANGE => Request::ReadRange(reader.rest()),
            TRANSFER_LEADER => Request::TransferLeader {
                shard: ShardId(reader.u32()?),
                to: NodeId(reader.u32()?),
            },
            BARRIER => Request::Barrier,
            RETURN => Request::Return(take_comeback(&mut reader)?),
            SEAL => Request::Seal(SealRequest::take(&mut reader)?),
            _ => return Err(reader.malformed("a known kind of request")),
        };
        reader.end()?;
        Ok(request)
    }
}

fn put_report(writer: &mut Writer, report: &ShardReport) {
    writer.u32(report.shard.0).u64(report.term);
    put_nodes(writer, &report.voters);
    put_nodes(writer, &report.learners);
    writer.u8(u8::from(report.is_joint));
    put_nodes(writer, &report.in_sync);
    writer.count(report.catching_up.len());
    for replica in &report.catching_up {
        writer.u32(replica.node.0);
        writer.u64(replica.bytes_left).u64(replica.entries);
    }
}

fn take_report(reader: &mut Reader) -> Result<ShardReport, Malformed> {
    let (shard, term) = (ShardId(reader.u32()?), reader.u64()?);
    if term > TERM_MAX {
        return Err(reader.malformed("a term that a leader epoch can tell"));
    }
    Ok(ShardReport {
        shard,
        term,
        voters: take_nodes(reader)?,
        learners: take_nodes(reader)?,
        is_joint: take_flag(reader)?,
        in_sync: take_nodes(reader)?,
        catching_up: (0..reader.count(20)?)
            .map(|_| {
                Ok(CatchingUp {
                    node: NodeId(reader.u32()?),
                    bytes_left: reader.u64()?,
                    entries: reader.u64()?,
                })
            })
            .collect::<Result<_, Malformed>>()?,
    })
}

/// What an answer to some kind of request carries.
pub(crate) trait Answer: Sized {
    fn put(&self, writer: &mut Writer);
    fn take(reader: &mut Reader) -> Result<Self, Malformed>;
}

/// An answer or the reason why there is none, encoded.
pub(crate) fn encode_answer<T: Answer>(answer: &Result<T, BrokerError>) -> Bytes {
    let mut writer = Writer::default();
    match answer {
        Ok(answer) => answer.put(writer.u8(0)),
        Err(error) => put_error(writer.u8(1), error),
    }
    writer.finish()
}

/// The outer error: what came is no answer.
pub(crate) fn decode_answer<T: Answer>(bytes: Bytes) -> Result<Result<T, BrokerError>, Malformed> {
    let mut reader = Reader::new(bytes);
    let answer = match take_flag(&mut reader)? {
        false => Ok(T::take(&mut reader)?),
        true => Err(take_error(&mut reader)?),
    };
    reader.end()?;
    Ok(answer)
}

impl Answer for () {
    fn put(&self, _writer: &mut Writer) {}

    fn take(_reader: &mut Reader) -> Result<(), Malformed> {
        Ok(())
    }
}

impl Answer for Discovered {
    fn put(&self, writer: &mut Writer) {
        writer.raw(&self.incarnation);
        match &self.standing {
            Standing::Blank { wanted, seeds } => {
                writer.u8(0).u8(u8::from(wanted.is_some()));
                writer.u32(wanted.map_or(0, |node| node.0));
                writer.count(seeds.len());
                for seed in seeds {
                    writer.text(seed);
                }
            }
            Standing::Member {
                cluster_id,
                node,
                is_ready,
            } => {
                writer.u8(1).text(cluster_id).u32(node.0);
                writer.u8(u8::from(*is_ready));
            }
        }
        writer.u8(u8::from(self.refusal.is_some()));
        writer.text(self.refusal.as_deref().unwrap_or_default());
    }

    fn take(reader: &mut Reader) -> Result<Discovered, Malformed> {
        let incarnation = reader.array()?;
        let standing = match reader.u8()? {
            0 => {
                let (is_wanted, wanted) = (take_flag(reader)?, NodeId(reader.u32()?));
                Standing::Blank {
                    wanted: is_wanted.then_some(wanted),
                    seeds: (0..reader.count(4)?)
                        .map(|_| reader.text())
                        .collect::<Result<_, _>>()?,
                }
            }
            1 => Standing::Member {
                cluster_id: reader.text()?,
                node: NodeId(reader.u32()?),
                is_ready: take_flag(reader)?,
            },
            _ => return Err(reader.malformed("a known standing")),
        };
        let (is_refused, refusal) = (take_flag(reader)?, reader.text()?);
        Ok(Discovered {
            incarnation,
            standing,
            refusal: is_refused.then_some(refusal),
        })
    }
}

fn put_addresses(writer: &mut Writer, members: &[Address]) {
    writer.count(members.len());
    for member in members {
        writer.u32(member.node.0).raw(&member.incarnation);
        writer.text(&member.host).u16(member.port);
    }
}

fn take_addresses(reader: &mut Reader) -> Result<Vec<Address>, Malformed> {
    let take = |reader: &mut Reader| {
        Ok(Address {
            node: NodeId(reader.u32()?),
            incarnation: reader.array()?,
            host: reader.text()?,
            port: reader.u16()?,
        })
    };
    (0..reader.count(26)?).map(|_| take(reader)).collect()
}

impl Answer for Joined {
    fn put(&self, writer: &mut Writer) {
        writer.text(&self.cluster_id).u32(self.node.0);
        put_addresses(writer, &self.members);
    }

    fn take(reader: &mut Reader) -> Result<Joined, Malformed> {
        Ok(Joined {
            cluster_id: reader.text()?,
            node: NodeId(reader.u32()?),
            members: take_addresses(reader)?,
        })
    }
}

/// A node that came back is known with its new incarnation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) cluster_id: String,
    /// Whether the catalogue's shard has gone on without it, and what it is to remember then;
    /// `None`: it may go on with what it has.
    pub(crate) catalogue: Option<Void>,
    pub(crate) members: Vec<Address>,
}

impl Answer for Returned {
    fn put(&self, writer: &mut Writer) {
        writer.text(&self.cluster_id);
        let (kind, floor) = match self.catalogue {
            None => (0, Floor::default()),
            Some(Void::Waiting) => (1, Floor::default()),
            Some(Void::Cleared(floor)) => (2, floor),
            Some(Void::Accepted) => (3, Floor::default()),
        };
        put_floor(writer.u8(kind), floor);
        put_addresses(writer, &self.members);
    }

    fn take(reader: &mut Reader) -> Result<Returned, Malformed> {
        let cluster_id = reader.text()?;
        let (kind, floor) = (reader.u8()?, take_floor(reader)?);
        Ok(Returned {
            cluster_id,
            catalogue: match kind {
                0 => None,
                1 => Some(Void::Waiting),
                2 => Some(Void::Cleared(floor)),
                3 => Some(Void::Accepted),
                _ => return Err(reader.malformed("a known mark")),
            },
            members: take_addresses(reader)?,
        })
    }
}

/// How far the catalogue is, as an index of its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied(pub(crate) u64);

impl Answer for Applied {
    fn put(&self, writer: &mut Writer) {
        writer.u64(self.0);
    }

    fn take(reader: &mut Reader) -> Result<Applied, Malformed> {
        Ok(Applied(reader.u64()?))
    }
}

/// What a proposed command came to, and how far the log of the leader's catalogue was then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proposed {
    pub(crate) outcome: Outcome,
    /// Index of the log that whoever asked should have applied before it reads its own catalogue.
    pub(crate) applied: u64,
}

impl Answer for Proposed {
    fn put(&self, writer: &mut Writer) {
        put_outcome(writer.u64(self.applied), &self.outcome);
    }

    fn take(reader: &mut Reader) -> Result<Proposed, Malformed> {
        let applied = reader.u64()?;
        let outcome = take_outcome(reader)?;
        Ok(Proposed { outcome, applied })
    }
}

#[cfg(test)]
#[path = "message_test.rs"]
mod tests;
