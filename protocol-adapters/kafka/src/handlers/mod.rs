//! One file an API, and the dispatch between them.
//!
//! [`begin`] takes one request as far as its place in the order is fixed. Produce, Fetch and requests
//! about a group go on from there on their own, while later requests are begun; every other request
//! is finished in [`begin`], so that what a client sends after it sees what it did. Handlers get decoded requests
//! and give typed answers: bytes are read and written here only (and in the two record paths,
//! `produce` and `fetch_response`).

mod alter_client_quotas;
mod alter_configs;
mod alter_partition_reassignments;
mod api_versions;
mod configs;
mod create_partitions;
mod create_topics;
mod delete_records;
mod delete_topics;
mod describe_client_quotas;
mod describe_cluster;
mod describe_configs;
mod describe_log_dirs;
mod describe_quorum;
mod describe_topic_partitions;
mod elect_leaders;
mod fetch;
mod fetch_response;
mod groups;
mod incremental_alter_configs;
mod init_producer_id;
mod list_config_resources;
mod list_offsets;
mod list_partition_reassignments;
mod metadata;
mod offset_for_leader_epoch;
mod produce;
mod produce_unsupported;
mod quotas;
mod unregister_broker;
mod update_features;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use broker::catalogue::QuotaKey;
use broker::{Broker, BrokerError, ByteBudget, ByteShare};
use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::protocol::{Decodable, Encodable};
use listener::Stop;
use storage::{LeaderEpoch, PartitionId};
use tracing::{error, trace};

use crate::api_versions::{Api, ApiSpec};
use crate::codec::{self, FrameError, RequestStart};
use crate::fetch_sessions::FetchSessions;
use crate::mapping::{self, Endpoint, Surface};
use crate::server::KafkaServerConfig;
use crate::session::Outcome;
use crate::shape;
use crate::throttle::Throttle;

use self::quotas::{FetchMeter, QuotaClient};

/// Longest message of a refusal: most repeat what was refused, and older versions have no room for
/// more than 32 KiB.
const MESSAGE_BYTES_MAX: usize = 1024;
/// Parts of one request that are worked on at the same time, where they may be.
const LOOKUPS_AT_ONCE: usize = 32;

/// What a request is answered with, and for whom.
pub(crate) struct Context {
    /// Who knows the answers.
    pub(crate) broker: Broker,
    /// Which of the nodes' addresses clients are given.
    pub(crate) listener_name: String,
    /// Where the client is, as Kafka writes it: `/10.0.0.1`.
    pub(crate) client_host: String,
    /// Largest amount of records in one answer to a fetch.
    pub(crate) fetch_bytes_max: usize,
    /// What consumers need not say again with each fetch.
    pub(crate) fetch_sessions: FetchSessions,
    /// What fetches take from before they read.
    pub(crate) reads: ByteBudget,
    /// How the listener was started, for those who ask.
    pub(crate) config: Arc<KafkaServerConfig>,
    /// Where the listener listens.
    pub(crate) listens_on: SocketAddr,
    /// Mutes the connection when its client has used too much.
    pub(crate) throttle: Arc<Throttle>,
    /// Ends waiting when the server stops.
    pub(crate) stop: Stop,
}

/// A request whose place in the order is fixed.
pub(crate) enum Begun {
    /// It is done.
    Done(Outcome),
    /// It goes on by itself. Dropping it takes nothing back that was begun.
    Pending(Work),
    /// It goes on by itself when no other fetch of the connection does and what those read is sent:
    /// what it answers may be large, and cannot be answered earlier anyway.
    PendingFetch(FetchWork),
}

/// What is left to do of a request.
pub(crate) type Work = Pin<Box<dyn Future<Output = Outcome> + Send>>;
/// What is left to do of a fetch; its answer holds the share until it is sent.
pub(crate) type FetchWork = Pin<Box<dyn Future<Output = (Outcome, ByteShare)> + Send>>;

/// Why a connection is closed without an answer, as Kafka does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RequestError {
    /// An API, or a version of it, that is not advertised.
    #[error("api key {api_key} version {version} is not supported")]
    Unsupported {
        /// Which API.
        api_key: i16,
        /// Which version.
        version: i16,
    },
    /// The header or the shape of the body is wrong.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The body has the right shape and still cannot be read.
    #[error("malformed {api:?} request, version {version}: {reason}")]
    Body {
        /// Which API.
        api: Api,
        /// Which version.
        version: i16,
        /// What the decoder says.
        reason: String,
    },
}

/// The request that an answer belongs to.
#[derive(Debug, Clone, Copy)]
struct Call {
    spec: &'static ApiSpec,
    version: i16,
    correlation_id: i32,
}

/// Reads a request and begins it. Requests of one connection must be begun one after another.
pub(crate) async fn begin(context: &Context, mut frame: Bytes) -> Result<Begun, RequestError> {
    let RequestStart {
        api_key,
        version,
        correlation_id,
    } = RequestStart::take(&mut frame)?;
    let unsupported = RequestError::Unsupported { api_key, version };
    let Some(spec) = ApiSpec::of_key(api_key) else {
        return Err(unsupported);
    };
    let call = Call {
        spec,
        version,
        correlation_id,
    };
    if !(spec.advertised_min..=spec.max).contains(&version) {
        return match spec.api {
            Api::ApiVersions => Ok(Begun::Done(api_versions::unsupported(correlation_id))),
            _ => Err(unsupported),
        };
    }
    let client_id = codec::take_client_id(&mut frame, spec, version)?;
    trace!(api = ?spec.api, version, correlation_id, ?client_id, bytes = frame.len(), "request");
    if version < spec.served_min {
        return produce_unsupported::answer(call, frame).map(Begun::Done);
    }
    shape::check(spec, version, &frame).map_err(FrameError::from)?;
    let client = QuotaClient::new(client_id.as_ref());
    dispatch(context, call, (client, client_id), frame).await
}

async fn dispatch(
    context: &Context,
    call: Call,
    (client, client_id): (QuotaClient, Option<Bytes>),
    body: Bytes,
) -> Result<Begun, RequestError> {
    let version = call.version;
    let outcome = match call.spec.api {
        Api::Produce => {
            let told_ms = client.charge(context, QuotaKey::ProducerByteRate, body.len());
            return Ok(produce::begin(context, call, call.decode(body)?, told_ms).await);
        }
        Api::Fetch => {
            let meter = FetchMeter::new(context, client);
            return Ok(fetch::begin(context, call, meter, call.decode(body)?));
        }
        Api::ListOffsets => {
            call.answer(&list_offsets::handle(context, version, call.decode(body)?).await)
        }
        Api::Metadata => call.answer(&metadata::handle(context, version, call.decode(body)?).await),
        Api::OffsetCommit => {
            return Ok(groups::offset_commit::begin(context, call, call.decode(body)?).await);
        }
        Api::OffsetFetch => {
            return Ok(groups::offset_fetch::begin(context, call, call.decode(body)?).await);
        }
        Api::FindCoordinator => call
            .answer(&groups::find_coordinator::handle(context, version, call.decode(body)?).await),
        Api::JoinGroup => {
            let (client_id, request) = (client_id.as_ref(), call.decode(body)?);
            return Ok(groups::join_group::begin(context, call, client_id, request).await);
        }
        Api::Heartbeat => {
            return Ok(groups::heartbeat::begin(context, call, call.decode(body)?).await);
        }
        Api::LeaveGroup => {
            return Ok(groups::leave_group::begin(context, call, call.decode(body)?).await);
        }
        Api::SyncGroup => {
            return Ok(groups::sync_group::begin(context, call, call.decode(body)?).await);
        }
        Api::DescribeGroups => call
            .answer(&groups::describe_groups::handle(context, version, call.decode(body)?).await),
        Api::ListGroups => {
            call.answer(&groups::list_groups::handle(context, call.decode(body)?).await)
        }
        Api::ApiVersions => call.answer(&api_versions::handle(version, &call.decode(body)?)),
        Api::CreateTopics => {
            call.answer(&create_topics::handle(context, &client, version, call.decode(body)?).await)
        }
        Api::DeleteTopics => {
            call.answer(&delete_topics::handle(context, &client, version, call.decode(body)?).await)
        }
        Api::DeleteRecords => {
            call.answer(&delete_records::handle(context, call.decode(body)?).await)
        }
        Api::InitProducerId => {
            call.answer(&init_producer_id::handle(context, call.decode(body)?).await)
        }
        Api::OffsetForLeaderEpoch => call.answer(&offset_for_leader_epoch::handle(
            context,
            call.decode(body)?,
        )),
        Api::DescribeConfigs => call.answer(&describe_configs::handle(
            context,
            version,
            call.decode(body)?,
        )),
        Api::AlterConfigs => call.answer(&alter_configs::handle(context, call.decode(body)?).await),
        Api::DescribeLogDirs => {
            call.answer(&describe_log_dirs::handle(context, version, call.decode(body)?).await)
        }
        Api::CreatePartitions => call.answer(
            &create_partitions::handle(context, &client, version, call.decode(body)?).await,
        ),
        Api::DeleteGroups => {
            call.answer(&groups::delete_groups::handle(context, call.decode(body)?).await)
        }
        Api::ElectLeaders => {
            call.answer(&elect_leaders::handle(context, version, call.decode(body)?).await)
        }
        Api::IncrementalAlterConfigs => {
            call.answer(&incremental_alter_configs::handle(context, call.decode(body)?).await)
        }
        Api::AlterPartitionReassignments => call.answer(
            &alter_partition_reassignments::handle(context, version, call.decode(body)?).await,
        ),
        Api::ListPartitionReassignments => call.answer(&list_partition_reassignments::handle(
            context,
            call.decode(body)?,
        )),
        Api::OffsetDelete => {
            return Ok(groups::offset_delete::begin(context, call, call.decode(body)?).await);
        }
        Api::DescribeClientQuotas => {
            call.answer(&describe_client_quotas::handle(context, call.decode(body)?))
        }
        Api::AlterClientQuotas => {
            call.answer(&alter_client_quotas::handle(context, call.decode(body)?).await)
        }
        Api::UpdateFeatures => call.answer(&update_features::handle(version, &call.decode(body)?)),
        Api::ListConfigResources => call.answer(&list_config_resources::handle(
            context,
            version,
            &call.decode(body)?,
        )),
        Api::DescribeQuorum => call.answer(&describe_quorum::handle(
            context,
            version,
            call.decode(body)?,
        )),
        Api::DescribeCluster => call.answer(&describe_cluster::handle(
            context,
            version,
            &call.decode(body)?,
        )),
        Api::UnregisterBroker => {
            call.answer(&unregister_broker::handle(context, call.decode(body)?).await)
        }
        Api::ConsumerGroupHeartbeat => {
            let (client_id, request) = (client_id.as_ref(), call.decode(body)?);
            let begun =
                groups::consumer_group_heartbeat::begin(context, call, client_id, request).await;
            return Ok(begun);
        }
        Api::ConsumerGroupDescribe => {
            call.answer(&groups::consumer_group_describe::handle(context, call.decode(body)?).await)
        }
        Api::DescribeTopicPartitions => call.answer(&describe_topic_partitions::handle(
            context,
            call.decode(body)?,
        )),
    };
    Ok(Begun::Done(outcome))
}

/// Why something is refused, in Kafka's terms and in words.
#[derive(Debug, Clone)]
struct Refusal {
    code: ResponseError,
    message: String,
}

impl Refusal {
    fn new(code: ResponseError, message: &str) -> Refusal {
        Refusal {
            code,
            message: message[..message.floor_char_boundary(MESSAGE_BYTES_MAX)].to_owned(),
        }
    }

    /// The request contradicts itself.
    fn request(message: &str) -> Refusal {
        Refusal::new(ResponseError::InvalidRequest, message)
    }

    /// The broker refused something that Kafka's controller answers for.
    fn controller(error: &BrokerError) -> Refusal {
        let code = mapping::error_code(error, Surface::Controller);
        Refusal::new(code, &error.to_string())
    }
}

/// KIP-951: who leads a partition that was refused with this error, and where clients reach it;
/// `None` when the error is not about leaders, or this node was taken for the leader and is none.
fn leader_hint(
    broker: &Broker,
    listener: &str,
    partition: Option<PartitionId>,
    error_code: i16,
) -> Option<(Endpoint, LeaderEpoch)> {
    let moved = error_code == ResponseError::NotLeaderOrFollower.code();
    let fenced = error_code == ResponseError::FencedLeaderEpoch.code();
    if !(moved || fenced) {
        return None;
    }
    let status = broker.partition_status(partition?)?;
    let leader = status.leader?;
    if moved && leader == broker.node_id() {
        return None;
    }
    let catalogue = broker.catalogue();
    let endpoint = mapping::endpoint(catalogue.nodes.get(&leader)?, listener)?;
    Some((endpoint, status.leader_epoch))
}

impl Call {
    fn decode<R: Decodable>(&self, mut body: Bytes) -> Result<R, RequestError> {
        R::decode(&mut body, self.version).map_err(|failure| RequestError::Body {
            api: self.spec.api,
            version: self.version,
            reason: failure.to_string(),
        })
    }

    fn answer<R: Encodable>(&self, body: &R) -> Outcome {
        self.answer_at(self.version, body)
    }

    /// An answer in another version than the request's.
    fn answer_at<R: Encodable>(&self, version: i16, body: &R) -> Outcome {
        let encoded = body.compute_size(version).and_then(|bytes| {
            let mut buf = codec::begin_answer(self.spec, version, self.correlation_id, bytes);
            body.encode(&mut buf, version)?;
            Ok(buf)
        });
        match encoded {
            Ok(buf) => self.finish(buf, Vec::new()),
            Err(failure) => {
                error!(api = ?self.spec.api, version, %failure, "cannot encode an answer");
                Outcome::Close
            }
        }
    }

    fn finish(&self, head: bytes::BytesMut, rest: Vec<Bytes>) -> Outcome {
        match codec::end_answer(head, rest) {
            Some(frame) => Outcome::Answer(frame),
            None => {
                error!(api = ?self.spec.api, "an answer over 2 GiB cannot be sent");
                Outcome::Close
            }
        }
    }
}
