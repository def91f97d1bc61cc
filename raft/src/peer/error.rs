//! What can go wrong between peers, by what the caller can do about it.

use std::fmt;
use std::io;

use storage::NodeId;

/// The transport does not start.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// The address cannot be listened at.
    #[error("cannot listen for peers at {address}")]
    Listen {
        /// The address asked for.
        address: std::net::SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// No thread, or no runtime for it.
    #[error("the raft thread does not start")]
    Thread(#[source] io::Error),
    /// The certificates do not make a TLS configuration.
    #[error("the peers' TLS settings are unusable")]
    Tls(#[from] TlsError),
    /// A setting is out of range.
    #[error("peers setting {setting} is out of range")]
    Config {
        /// The setting's name.
        setting: &'static str,
    },
}

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or without what it should hold.
    #[error("{what} is not readable as PEM")]
    Pem {
        /// Which of the three.
        what: &'static str,
    },
    /// Refused by the TLS library.
    #[error("the certificates do not fit: {reason}")]
    Refused {
        /// The library's words.
        reason: String,
    },
}

/// Why a peer does not let this node in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedReason {
    /// It belongs to another cluster.
    WrongCluster,
    /// It speaks another version of the peer protocol.
    WrongVersion,
    /// It does not list this node, or the node was removed.
    UnknownNode,
    /// The node there, or this one, has another data directory than the catalogue says.
    WrongIncarnation,
    /// Another node listens at that address.
    NotThatNode,
    /// It does not know yet who it is, does not serve yet, or has not yet noticed that this node's
    /// former process is gone.
    NotReady,
    /// TLS was not agreed on: another authority, no certificate, or one side speaks in the clear.
    Tls,
    /// Whatever listens there is no peer.
    NotAPeer,
    /// Another process runs as this node, most often from a copy of its data directory.
    RunsTwice,
}

impl RefusedReason {
    pub(crate) fn name(self) -> &'static str {
        match self {
            RefusedReason::WrongCluster => "of another cluster",
            RefusedReason::WrongVersion => "of another version",
            RefusedReason::UnknownNode => "of an unknown node",
            RefusedReason::WrongIncarnation => "of another data directory",
            RefusedReason::NotThatNode => "meant for another node",
            RefusedReason::NotReady => "too early",
            RefusedReason::Tls => "without the cluster's TLS",
            RefusedReason::NotAPeer => "of no peer",
            RefusedReason::RunsTwice => "of a node that runs twice",
        }
    }
}

/// A refusal with the sentence that explains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind it is.
    pub reason: RefusedReason,
    /// For the operator.
    pub sentence: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

/// A request to a peer was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The node is not listed as a member.
    #[error("node {node} is not a member")]
    NotAMember {
        /// The node asked for.
        node: NodeId,
    },
    /// No connection; nothing was sent.
    #[error("the peer cannot be reached: {kind}")]
    Unreachable {
        /// What the dial ended with.
        kind: io::ErrorKind,
    },
    /// The peer does not let this node in; nothing was sent.
    #[error("the peer refuses: {0}")]
    Refused(Refusal),
    /// The connection broke after the request was handed to it: it may have been carried out.
    #[error("the connection closed before the answer")]
    Closed,
    /// The deadline passed: the request may be carried out.
    #[error("no answer in time")]
    TimedOut,
    /// The peer does not carry that shard (now).
    #[error("the peer does not carry the shard")]
    NoShard,
    /// The peer does not answer such requests yet.
    #[error("the peer does not serve yet")]
    NotServing,
    /// The peer could not read the request, or its handler failed.
    #[error("the peer could not handle the request")]
    Rejected,
    /// The request is longer than a frame may be.
    #[error("the request is too large")]
    TooLarge,
    /// This node's transport was shut down.
    #[error("the transport is shut down")]
    ShuttingDown,
}

/// Why [`crate::Peers::ask`] has no answer.
pub type AskError = LinkError;

/// Why a [`super::Receive`] does not answer a call. Errors of the protocol inside travel as
/// answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The shard is closing.
    Closed,
    /// The request cannot be read.
    Malformed,
}
