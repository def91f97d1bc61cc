//! Records of a coordinator: a key, and a value or nothing, in a compacted log.

use bytes::Bytes;

/// A record as it lies in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// What compaction keeps the last record of.
    pub key: Bytes,
    /// `None` is a tombstone: the key is forgotten.
    pub value: Option<Bytes>,
}

/// A record that a coordinator appends and replays.
///
/// Decoding what was encoded gives an equal record.
pub trait Record: Sized + Clone + PartialEq + std::fmt::Debug {
    /// Why bytes are no record.
    type Error: std::error::Error;

    /// The record's bytes.
    fn encode(&self) -> Encoded;

    /// The record of these bytes; never panics, whatever they are.
    ///
    /// # Errors
    /// When they are damaged, or of a kind that this version does not know.
    fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, Self::Error>;
}
