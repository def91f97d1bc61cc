//! What every client can be asked for, whatever it is written in.

use std::process::Command;
use std::time::Duration;

use super::records::RecordFile;
use super::report::Report;

/// The codecs of Kafka's record batches.
pub(crate) const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// The slowest rate at which a client is still waited for.
const BYTES_PER_SECOND_MIN: u64 = 2 << 20;
/// What is waited for in any case.
const LIMIT_SECONDS_MIN: u64 = 120;

/// How long sending or reading this many bytes may take.
pub(crate) fn request_limit(bytes: u64) -> Duration {
    Duration::from_secs(LIMIT_SECONDS_MIN + bytes / BYTES_PER_SECOND_MIN)
}

/// Begins an error that is a property of the client: its line says `not run` and the rest.
pub(crate) const UNABLE: &str = "unable: ";

/// An error of a client with what it is about, which a property of the client does not need.
pub(crate) fn about(what: &str, why: String) -> String {
    match why.starts_with(UNABLE) {
        true => why,
        false => format!("{what}: {why}"),
    }
}

/// The two protocols of consumer groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Clients join, elect a leader and assign.
    Classic,
    /// The broker assigns (KIP-848).
    Consumer,
}

impl Protocol {
    /// As drivers and `group.protocol` have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        }
    }
}

/// How to start a member of a group.
pub(crate) struct MemberProgram {
    /// It shows `record PARTITION OFFSET VALUE`, parted by tabs, on its standard output.
    pub(crate) command: Command,
    /// What asks it to leave.
    pub(crate) leaves: Leaves,
    /// It shows records before it has committed them, or before it knows that it has.
    pub(crate) shows_uncommitted: bool,
}

/// What asks a member of a group to leave it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaves {
    /// The end of its input.
    AtEndOfInput,
    /// SIGTERM.
    OnSignal,
}

/// What a reader found in a whole partition.
pub(crate) struct Digest {
    /// Records, when the reader counts them.
    pub(crate) count: Option<u64>,
    /// SHA-256 over (length, value) of every record, in order.
    pub(crate) sha256: String,
}

/// What a reader made of the small records.
#[derive(PartialEq, Eq)]
pub(crate) struct LinesDigest {
    /// SHA-256 of the lines without timestamps.
    pub(crate) plain: String,
    /// SHA-256 of the lines with timestamps.
    pub(crate) timed: String,
}

/// What the small records lack, since not every client can send it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LeftOut {
    /// The header without a value is missing.
    pub(crate) null_headers: bool,
    /// The value is empty, not null, where the key is null too.
    pub(crate) null_records: bool,
}

/// A real Kafka client. Topics have one partition, so that order is total.
pub(crate) trait Client: Send {
    /// As given to `--only`.
    fn name(&self) -> &'static str;
    /// Its version and that of what it rests on.
    fn version(&mut self) -> Result<String, String>;
    /// Whether [`Client::create`] and [`Client::delete`] work.
    fn can_create_topics(&self) -> bool;
    /// Creates a topic with `key=value` configs.
    fn create(&mut self, topic: &str, partitions: u32, configs: &[&str]) -> Result<(), String>;
    /// Deletes a topic.
    fn delete(&mut self, topic: &str) -> Result<(), String>;
    /// Sends every record of a file, in order, with `acks=all`.
    fn produce(&mut self, topic: &str, codec: &str, file: &RecordFile) -> Result<(), String>;
    /// Reads a topic whole, in which these records should be.
    fn digest(&mut self, topic: &str, file: &RecordFile) -> Result<Digest, String>;
    /// The same from the replica on one node, which is in this rack.
    fn digest_of(
        &mut self,
        topic: &str,
        node: u32,
        rack: &str,
        bytes: u64,
    ) -> Result<Digest, String>;
    /// Whether [`Client::produce_lines`] works.
    fn can_produce_lines(&self) -> bool;
    /// Sends the small records.
    fn produce_lines(&mut self, topic: &str, timestamp_base_ms: u64) -> Result<LeftOut, String>;
    /// Reads the small records.
    fn lines(&mut self, topic: &str) -> Result<LinesDigest, String>;
    /// Runs the client's own behaviours, on topics whose names begin with `prefix`.
    fn checks(&mut self, prefix: &str, report: &mut Report);
    /// A member of a group that reads a topic from the group's commits, or else its beginning.
    fn member(&self, group: &str, topic: &str, protocol: Protocol)
    -> Result<MemberProgram, String>;
}
