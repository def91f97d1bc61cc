//! Settings of the transport and who the nodes are. Every limit that can be set stands here.

use std::fmt;
use std::net::SocketAddr;

use storage::NodeId;

/// Settings of [`crate::Peers`].
#[derive(Debug, Clone)]
pub struct PeersConfig {
    /// Where peers are awaited; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Mutual TLS on every connection; `None` speaks in the clear.
    pub tls: Option<PeerTls>,
    /// Largest body of a frame; a longer one closes the connection.
    pub frame_bytes_max: usize,
    /// Bytes sent to a peer and not yet answered, for each of data and bulk; then senders wait.
    pub inflight_bytes_per_peer_max: usize,
    /// The same for one append stream.
    pub inflight_bytes_per_stream_max: usize,
    /// For a connection, its TLS handshake and its hello, together.
    pub connect_timeout_ms: u64,
    /// An append stream with unanswered requests fails after so long without an answer.
    pub stream_stall_ms: u64,
    /// A control connection is closed after so long a silence, in spite of pings.
    pub silence_ms: u64,
    /// A connection that takes no byte for so long is closed.
    pub write_stall_ms: u64,
    /// A connection of somebody who is no member is closed after so long.
    pub stranger_ms: u64,
    /// Accepted connections at once; more are closed at once.
    pub connections_max: usize,
}

impl PeersConfig {
    /// The defaults, listening at `listen`, without TLS.
    #[must_use]
    pub fn new(listen: SocketAddr) -> PeersConfig {
        PeersConfig {
            listen,
            tls: None,
            frame_bytes_max: 136 << 20,
            inflight_bytes_per_peer_max: 64 << 20,
            inflight_bytes_per_stream_max: 16 << 20,
            connect_timeout_ms: 1_000,
            stream_stall_ms: 5_000,
            silence_ms: 3_000,
            write_stall_ms: 10_000,
            stranger_ms: 30_000,
            connections_max: 1_024,
        }
    }
}

/// What mutual TLS needs. The certificates of all nodes come from one authority, the cluster's
/// own, and nothing else is trusted.
#[derive(Clone)]
pub struct PeerTls {
    /// This node's certificate, then those between it and the authority. It must name the host
    /// under which the node is listed, and serve for both client and server.
    pub certificate_chain_pem: Vec<u8>,
    /// Its private key.
    pub key_pem: Vec<u8>,
    /// The authority's certificate.
    pub ca_pem: Vec<u8>,
}

impl fmt::Debug for PeerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTls").finish_non_exhaustive()
    }
}

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its cluster.
    pub cluster_id: String,
    /// Its number there.
    pub node: NodeId,
    /// Drawn when its data directory was founded or joined.
    pub incarnation: [u8; 16],
}

/// A member of the cluster, as the catalogue lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerMember {
    /// Host name or address, resolved anew at each dial.
    pub host: String,
    /// Its peer port.
    pub port: u16,
    /// Its data directory's incarnation.
    pub incarnation: [u8; 16],
}

/// Which of the connections to a peer carries a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Small and urgent: votes, heartbeats, questions.
    Control,
    /// Log entries.
    Data,
    /// Large and slow: copies.
    Bulk,
}

impl Lane {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Lane::Control => "control",
            Lane::Data => "data",
            Lane::Bulk => "bulk",
        }
    }
}
