//! What the leader knows of a classic group.

/// What the leader knows of a classic group.
#[derive(Debug, Clone, Default)]
pub(crate) struct Live {}
