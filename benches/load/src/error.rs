//! Why there is no run at all.

use kafka_client::ClientError;

/// Why a run did not begin. What goes wrong later stands in the report.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The topic is not there, and this kind of run creates none.
    #[error("topic {0} does not exist")]
    NoTopic(String),
    /// The topic has another number of partitions than asked for.
    #[error("topic {topic} exists and has {found} partitions, not {asked}")]
    OtherPartitions {
        /// The topic.
        topic: String,
        /// What it has.
        found: usize,
        /// What was asked for.
        asked: i32,
    },
    /// A partition has no leader.
    #[error("topic {topic}: partition {partition} has no leader")]
    NoLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
    },
    /// The cluster does not answer, or refuses.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Threads or runtimes cannot be made.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] std::io::Error),
}
