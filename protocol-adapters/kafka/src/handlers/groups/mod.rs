//! Consumer groups, one file an API, and what they share.
//!
//! A request about a group is handed to the group's coordinator in the order of the connection
//! ([`submit`]); its answer is awaited apart ([`settle`]), so that a JoinGroup that waits for others
//! holds up nothing. What the groups decide is in `broker::groups`; here is only what differs
//! between versions, and the way there. Requests that name many groups have [`WINDOW`] commands
//! under way at most.

pub(super) mod consumer_group_describe;
pub(super) mod consumer_group_heartbeat;
pub(super) mod delete_groups;
pub(super) mod describe_groups;
pub(super) mod find_coordinator;
pub(super) mod heartbeat;
pub(super) mod join_group;
pub(super) mod leave_group;
pub(super) mod list_groups;
pub(super) mod offset_commit;
pub(super) mod offset_delete;
pub(super) mod offset_fetch;
pub(super) mod sync_group;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use broker::groups::{Client, Command, OffsetFetchResponse, Response, Uuid};
use broker::{CoordinatorError, PendingReply};
use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::GroupId;
use kafka_protocol::protocol::StrBytes;
use listener::Stop;
use tokio::time::{Instant, timeout_at};

use super::Context;
use crate::mapping;

/// How long the answer to a command is awaited that the coordinator need not let wait. What has not
/// come to an end by then is not known; clients look for the coordinator again and repeat.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Most commands of one request that are under way.
const WINDOW: usize = 32;
/// A coordinator answers a command as what it is.
const ANSWERED_AS_ASKED: &str = "a command is answered by the response of its name";

/// A command whose place in its coordinator's order is fixed, or that was refused.
type Asked = Result<PendingReply, CoordinatorError>;
/// A coordinator's answer, or why there is none.
type Settled = Result<Response, ResponseError>;

/// Hands a command to the coordinator of its group.
async fn submit(context: &Context, group_id: &str, command: Command) -> Asked {
    context.broker.submit_to_group(group_id, command).await
}

/// Awaits an answer that the coordinator gives as soon as it can.
async fn settle(asked: Asked) -> Settled {
    settle_until(asked, Instant::now() + ANSWER_WAIT).await
}

/// Awaits an answer until then; one that is there already is taken at any time.
async fn settle_until(asked: Asked, deadline: Instant) -> Settled {
    match timeout_at(deadline, reply(asked)).await {
        Ok(settled) => settled,
        Err(_) => Err(ResponseError::CoordinatorNotAvailable),
    }
}

/// Awaits an answer that may depend on other members, until the server stops: then the member is
/// told to look for another coordinator.
async fn settle_with_others(asked: Asked, mut stop: Stop) -> Settled {
    tokio::select! {
        settled = reply(asked) => settled,
        () = stop.requested() => Err(ResponseError::NotCoordinator),
    }
}

async fn reply(asked: Asked) -> Settled {
    let answered = match asked {
        Ok(pending) => pending.await,
        Err(error) => Err(error),
    };
    answered.map_err(|error| mapping::coordinator_error_code(&error))
}

/// Answers to the commands of one request, in its order; the last of them may still be under way.
/// They share one deadline, so that a coordinator that hangs does not cost each of its groups one.
struct Answers {
    deadline: Instant,
    settled: Vec<Settled>,
    /// About what the offsets among them take.
    bytes: usize,
    waiting: VecDeque<Asked>,
}

/// Most bytes of offsets in one answer: what a frame may have.
const OFFSETS_BYTES_MAX: usize = 100 << 20;

impl Answers {
    /// Hands over a command for each group, a window of them at a time. When this returns, all of
    /// them have their places.
    async fn ask(context: &Context, commands: Vec<(String, Command)>) -> Answers {
        let mut answers = Answers {
            deadline: Instant::now() + ANSWER_WAIT,
            settled: Vec::new(),
            bytes: 0,
            waiting: VecDeque::new(),
        };
        for (group_id, command) in commands {
            if answers.waiting.len() == WINDOW {
                answers.settle_oldest().await;
            }
            let asked = submit(context, &group_id, command).await;
            answers.waiting.push_back(asked);
        }
        answers
    }

    async fn settle_oldest(&mut self) {
        if let Some(asked) = self.waiting.pop_front() {
            let settled = settle_until(asked, self.deadline).await;
            self.settle(settled);
        }
    }

    /// Keeps an answer, as long as there is room for it.
    fn settle(&mut self, settled: Settled) {
        if let Ok(Response::OffsetFetch(fetched)) = &settled {
            self.bytes = self.bytes.saturating_add(offsets_bytes(fetched));
        }
        let settled = match self.bytes > OFFSETS_BYTES_MAX {
            true => Err(ResponseError::InvalidRequest),
            false => settled,
        };
        self.settled.push(settled);
    }

    /// All answers, as many as there were commands.
    async fn all(mut self) -> Vec<Settled> {
        while !self.waiting.is_empty() {
            self.settle_oldest().await;
        }
        self.settled
    }
}

/// About what offsets take, in memory and in an answer.
fn offsets_bytes(fetched: &OffsetFetchResponse) -> usize {
    const PARTITION: usize = 64;
    let topics = fetched.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions = partitions.map(|one| PARTITION + one.metadata.len());
        topic.name.len() + partitions.sum::<usize>()
    });
    topics.sum()
}

/// The groups of a request, each once.
fn distinct(groups: Vec<GroupId>) -> Vec<String> {
    let mut seen = HashSet::new();
    let distinct = groups.into_iter().filter(|id| seen.insert(id.clone()));
    distinct.map(|id| id.to_string()).collect()
}

/// Who sends a request.
fn client(context: &Context, client_id: Option<&Bytes>) -> Client {
    let id = client_id.map(|id| String::from_utf8_lossy(id).into_owned());
    Client {
        id: id.unwrap_or_default(),
        host: context.client_host.clone(),
    }
}

/// A nullable string of a request.
fn owned(text: Option<StrBytes>) -> Option<String> {
    text.map(|text| text.to_string())
}

/// Opaque bytes of a request that outlive it: a slice would keep the whole request in memory.
fn kept(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

/// A group's id for an answer.
fn group_id(id: impl Into<String>) -> GroupId {
    GroupId(mapping::text(id))
}

/// An id of a topic as groups have it.
fn uuid(bytes: &[u8; 16]) -> Uuid {
    Uuid(u128::from_be_bytes(*bytes))
}

/// An id of a topic as the protocol crate has it.
fn wire_uuid<U: TryFrom<Vec<u8>>>(id: Uuid) -> U {
    mapping::wire_uuid(id.0.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::{Decodable, Encodable};

    use super::*;

    /// What a client reads of an answer in one version.
    pub(super) fn through_the_wire<R: Encodable + Decodable>(answer: &R, version: i16) -> R {
        let mut buf = bytes::BytesMut::new();
        answer
            .encode(&mut buf, version)
            .unwrap_or_else(|failure| panic!("version {version}: {failure}"));
        let mut body = buf.freeze();
        let read = R::decode(&mut body, version).unwrap();
        assert!(body.is_empty(), "version {version}");
        read
    }

    #[test]
    fn a_group_named_twice_is_asked_about_once() {
        let named = ["b", "a", "b"].map(group_id).to_vec();
        assert_eq!(distinct(named), ["b", "a"]);
    }

    #[tokio::test]
    async fn a_refusal_is_told_however_late_it_is_asked_for() {
        let asked = Err(CoordinatorError::LoadInProgress);
        let settled = settle_until(asked, Instant::now()).await;
        assert_eq!(settled, Err(ResponseError::CoordinatorLoadInProgress));
    }

    #[test]
    fn offsets_are_answered_as_far_as_a_frame_has_room() {
        use broker::groups::{CommittedOffset, CommittedTopic};
        let metadata = "x".repeat(40 << 20);
        let offset = CommittedOffset {
            metadata,
            ..CommittedOffset::default()
        };
        let topic = CommittedTopic {
            partitions: vec![offset],
            ..CommittedTopic::default()
        };
        let mut answers = Answers {
            deadline: Instant::now(),
            settled: Vec::new(),
            bytes: 0,
            waiting: VecDeque::new(),
        };
        for _ in 0..4 {
            answers.settle(Ok(Response::OffsetFetch(OffsetFetchResponse {
                topics: vec![topic.clone()],
                ..OffsetFetchResponse::default()
            })));
        }
        let told: Vec<bool> = answers.settled.iter().map(Result::is_ok).collect();
        assert_eq!(told, [true, true, false, false]);
    }

    #[test]
    fn ids_of_topics_keep_their_bytes() {
        let bytes: [u8; 16] = std::array::from_fn(|i| u8::try_from(i).unwrap());
        let topic =
            kafka_protocol::messages::consumer_group_heartbeat_response::TopicPartitions::default()
                .with_topic_id(wire_uuid(uuid(&bytes)));
        assert_eq!(*topic.topic_id.as_bytes(), bytes);
    }

    #[test]
    fn what_outlives_a_request_does_not_hold_it() {
        let request = Bytes::from(vec![7; 1 << 20]);
        let slice = request.slice(10..20);
        let kept = kept(&slice);
        assert_eq!(kept, slice);
        drop(slice);
        assert!(request.try_into_mut().is_ok(), "nobody else holds it");
    }
}
