//! [`Limits`]: what a run has to reach before it proves anything, and what nodes may use.

use serde::{Deserialize, Serialize};

/// What [`check`](super::check()) is told beside the history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Fewer acknowledged sends than this prove nothing.
    pub sends_ok_min: u64,
    /// Fewer polls that returned records than this prove nothing.
    pub polls_ok_min: u64,
    /// Fewer acknowledged sends than this to a key that was sent to prove nothing of it.
    pub key_sends_ok_min: u64,
    /// Fewer acknowledged changes of topics and settings than this prove nothing; 0 where the
    /// workload makes none.
    pub admin_ok_min: u64,
    /// Fewer acknowledged commits of groups' members than this prove nothing; 0 where the workload
    /// makes none.
    pub commits_ok_min: u64,
    /// A group that came to rest less often than this until healing began proves nothing.
    pub group_rests_min: u64,
    /// Faults that the run was asked for, by name: each has to take effect once. Of those that
    /// were only tried, one has to.
    pub faults_expected: Vec<String>,
    /// Whether the history has to have the phases `heal`, `final` and `end` and a read of each
    /// replica; off for histories of clients alone.
    pub whole_run: bool,
    /// Replicas that each partition that was sent to has to show in the end.
    pub replicas_min: u32,
    /// Whether records may go from the beginning of a log (retention); otherwise that is a loss.
    pub log_start_moves: bool,
    /// How old what a describe or a list shows may be when it is asked before phase `final`: a node
    /// that was away answers with what it knows. From phase `final` on, not at all.
    pub metadata_age_us_max: u64,
    /// From phase `healed` (or `heal`, where that is missing) until each key has an acknowledged
    /// write, at most.
    pub heal_us_max: u64,
    /// From there, or from the last acknowledged send after it, until each group has committed past
    /// every record, at most.
    pub group_heal_us_max: u64,
    /// Resident memory of a node, at most.
    pub rss_kib_max: u64,
    /// Open descriptors of a node, at most.
    pub descriptors_max: u64,
    /// The median of the last quarter of a node's samples is at most so many times that of the second ...
    pub growth_factor_max: f64,
    /// ... and so much more memory,
    pub growth_slack_kib: u64,
    /// ... or so many more descriptors.
    pub growth_slack_descriptors: u64,
    /// How many of each anomaly are told in full; the others are counted.
    pub anomalies_told_max: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            sends_ok_min: 100,
            polls_ok_min: 50,
            key_sends_ok_min: 1,
            admin_ok_min: 0,
            commits_ok_min: 0,
            group_rests_min: 0,
            faults_expected: Vec::new(),
            whole_run: true,
            replicas_min: 2,
            log_start_moves: false,
            metadata_age_us_max: 120_000_000,
            heal_us_max: 30_000_000,
            group_heal_us_max: 90_000_000,
            rss_kib_max: 4 << 20,
            descriptors_max: 10_000,
            growth_factor_max: 1.5,
            growth_slack_kib: 128 << 10,
            growth_slack_descriptors: 200,
            anomalies_told_max: 20,
        }
    }
}
