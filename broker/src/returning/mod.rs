//! The return of a node that lost its memory: power went while it answered before it synced, or its
//! journal is damaged.
//!
//! It may have forgotten what it acknowledged, and with its journal what it voted for. So it comes
//! back under its id with a new incarnation. With that one command the catalogue marks it in every
//! shard that others have too, see `catalogue/voids.rs`; each shard's leader takes it out of the
//! members and clears the mark, and then the ordinary path adds it again: learner, caught up,
//! voter. Until a shard's mark is cleared this node opens nothing of it, so it neither votes nor
//! acknowledges there. `cluster.rs` is the others' side, `node.rs` how such a node starts,
//! `stale.rs` what becomes of what it has on its disk; `run_end.rs` notes what a start goes by.

mod accepted;
pub(crate) mod cluster;
pub(crate) mod node;
pub(crate) mod run_end;
pub(crate) mod stale;
