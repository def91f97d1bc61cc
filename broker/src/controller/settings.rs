//! How patient the controller is, and how much it does at once.

/// Numbers that [`super::plan`] goes by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// A node dead for longer has its replicas made anew on other nodes.
    pub(crate) replace_dead_after_ms: i64,
    /// A node dead for longer gives up a replica that it was only about to get.
    pub(crate) abandon_dead_after_ms: i64,
    /// A change of members that makes no progress for longer has stalled: it no longer counts
    /// among those under way, and new replicas that hold it up are given up.
    pub(crate) stall_after_ms: i64,
    /// A change of members that takes longer between two steps no longer counts among those under
    /// way, however it gets on: a replica may take over entries for ever and never catch up.
    pub(crate) slot_ms_max: i64,
    /// For how long a node that was given up so gets no replica of that shard.
    pub(crate) bar_ms: i64,
    /// Standing shards per node and replication factor.
    pub(crate) shards_per_node: usize,
    /// Shards whose members the controller changes at the same time.
    pub(crate) changes_max: usize,
    /// How long a preferred leader must have been alive and in sync before it leads again.
    pub(crate) settle_ms: i64,
    /// Time between two moves of leaders for balance.
    pub(crate) transfer_interval_ms: i64,
    /// Leaders moved away from draining nodes in one round.
    pub(crate) drain_transfers_max: usize,
    /// Time after which a transfer that was asked for is asked for again.
    pub(crate) ask_again_ms: i64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            replace_dead_after_ms: 10 * 60 * 1_000,
            abandon_dead_after_ms: 30 * 1_000,
            stall_after_ms: 10 * 60 * 1_000,
            slot_ms_max: 60 * 60 * 1_000,
            bar_ms: 30 * 60 * 1_000,
            shards_per_node: 2,
            changes_max: 2,
            settle_ms: 10_000,
            transfer_interval_ms: 2_000,
            drain_transfers_max: 2,
            ask_again_ms: 1_000,
        }
    }
}
