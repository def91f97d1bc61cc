//! Consumer groups: the coordinators of the partitions of `__consumer_offsets`.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use futures_util::future::join_all;
use groups::{Command, Groups, GroupsConfig, Response, Topics, Uuid, partition_of};
use storage::{NodeId, PartitionId};

use super::context::{TopicsCache, gone};
use super::{CoordinatorError, Coordinators, Kind, PendingReply};
use crate::{Broker, BrokerError};

/// The coordinators of groups on this node.
pub(crate) type GroupCoordinators = Coordinators<GroupKind>;

/// Groups, as a kind of coordinators.
pub(crate) struct GroupKind {
    config: GroupsConfig,
    topics: TopicsCache,
}

impl GroupKind {
    pub(crate) fn new(config: GroupsConfig) -> GroupKind {
        GroupKind {
            config,
            topics: TopicsCache::default(),
        }
    }
}

impl Kind for GroupKind {
    type State = Groups;

    const TOPIC: &'static str = "__consumer_offsets";

    fn fresh(&self) -> Groups {
        Groups::new(self.config.clone())
    }

    fn may_append(command: &Command) -> bool {
        match command {
            Command::Heartbeat(_)
            | Command::OffsetFetch(_)
            | Command::ListGroups(_)
            | Command::DescribeGroups(_)
            | Command::ConsumerGroupDescribe(_) => false,
            Command::JoinGroup(_)
            | Command::SyncGroup(_)
            | Command::LeaveGroup(_)
            | Command::OffsetCommit(_)
            | Command::OffsetDelete(_)
            | Command::DeleteGroups(_)
            | Command::ConsumerGroupHeartbeat(_)
            | Command::TopicsChanged
            | Command::TopicsDeleted(_) => true,
        }
    }

    fn context(&self, broker: &Broker) -> Arc<Topics> {
        self.topics.newest(&broker.inner.images)
    }

    fn news(&self, before: &Topics, now: &Topics) -> Vec<Command> {
        let deleted = gone(before, now);
        let mut news = Vec::new();
        if !deleted.is_empty() {
            news.push(Command::TopicsDeleted(deleted));
        }
        news.push(Command::TopicsChanged);
        news
    }

    fn missing(&self, state: &Groups, topics: &Topics) -> BTreeSet<String> {
        let mut names = state.topics_with_offsets();
        names.retain(|name| topics.by_name(name).is_none());
        names.into_iter().map(str::to_owned).collect()
    }

    fn forget(&self, mut missing: BTreeSet<String>, now: &Topics) -> Option<Command> {
        missing.retain(|name| now.by_name(name).is_none());
        (!missing.is_empty()).then(|| Command::TopicsDeleted(missing.into_iter().collect()))
    }
}

impl Broker {
    /// The node that coordinates this group now. Makes the internal topic when it is missing.
    ///
    /// # Errors
    /// `NotAvailable` while it has no leader, or cannot be made now; `ShuttingDown`.
    pub async fn group_coordinator(&self, group_id: &str) -> Result<NodeId, CoordinatorError> {
        let partition = self.group_partition(group_id).await?;
        let leader = self.partition_status(partition).and_then(|it| it.leader);
        leader.ok_or(CoordinatorError::NotAvailable)
    }

    /// Hands a command about `group_id` to its coordinator, if that is this node. Its place in the
    /// order of the coordinator's commands is fixed when this returns. Makes the internal topic when
    /// it is missing.
    ///
    /// # Errors
    /// All but `Resigned`; nothing was done.
    pub async fn submit_to_group(
        &self,
        group_id: &str,
        command: Command,
    ) -> Result<PendingReply, CoordinatorError> {
        let partition = self.group_partition(group_id).await?;
        self.submit_to_partition(partition, command)
    }

    /// Hands a command to every coordinator of groups that this node is; one answer each.
    pub async fn submit_to_all_groups(
        &self,
        command: Command,
    ) -> Vec<Result<Response, CoordinatorError>> {
        let Some(topic) = self.internal_topic(GroupKind::TOPIC) else {
            return Vec::new();
        };
        let mut pending = Vec::new();
        let mut statuses = self.statuses();
        for index in 0..topic.partitions {
            let partition = topic.partition(index);
            let leader = statuses.of(partition).and_then(|status| status.leader);
            if leader != Some(self.node_id()) {
                continue;
            }
            match self.submit_to_partition(partition, command.clone()) {
                // Others coordinate the groups there.
                Err(CoordinatorError::NotCoordinator) => {}
                submitted => pending.push(async move { submitted?.await }),
            }
        }
        join_all(pending).await
    }

    /// A value that was never used before, for a command that may make a member.
    #[must_use]
    pub fn fresh_group_id(&self) -> Uuid {
        let ids = self.inner.ids.lock();
        Uuid(u128::from_be_bytes(
            ids.unwrap_or_else(PoisonError::into_inner).uuid(),
        ))
    }

    async fn group_partition(&self, group_id: &str) -> Result<PartitionId, CoordinatorError> {
        let partitions = self.inner.config.offsets_topic_partitions;
        let topic = self.needed_topic(&self.inner.groups, partitions).await?;
        let partitions = u16::try_from(topic.partitions).unwrap_or(u16::MAX);
        Ok(topic.partition(u32::from(partition_of(group_id, partitions))))
    }

    fn submit_to_partition(
        &self,
        partition: PartitionId,
        command: Command,
    ) -> Result<PendingReply, CoordinatorError> {
        match self.led(partition) {
            Ok(_) => self.inner.groups.hand_in(partition, command),
            Err(BrokerError::ShuttingDown) => Err(CoordinatorError::ShuttingDown),
            Err(BrokerError::NotLeader { .. }) => Err(CoordinatorError::NotCoordinator),
            Err(_) => Err(CoordinatorError::NotAvailable),
        }
    }
}
