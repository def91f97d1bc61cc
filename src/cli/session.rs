//! A client command's way to the cluster: the node it was pointed at, and those that it has to ask
//! because they lead a partition or answer for themselves.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_client::api::{Metadata, MetadataTopic};
use kafka_client::{ClientError, ConnectOptions, Connection, ErrorCode};
use storage::clock::Clock;

use super::failure::{Failure, Kind};
use crate::config::KAFKA_PORT;
use crate::units::Period;

/// Pause between looks at a topic whose partitions have no leader yet.
const LEADER_POLL: Duration = Duration::from_millis(20);
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Which node to talk to.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ServerArguments {
    /// The node to talk to
    #[arg(long, value_name = "HOST[:PORT]", default_value = "127.0.0.1:9092")]
    pub(super) server: String,
    /// Give up after this long without an answer
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(super) timeout: Period,
}

impl ServerArguments {
    pub(super) fn address(&self) -> String {
        let bare_v6 = self.server.matches(':').count() > 1 && !self.server.contains(']');
        if bare_v6 {
            format!("[{}]:{KAFKA_PORT}", self.server)
        } else if self.server.contains(':') && !self.server.ends_with(']') {
            self.server.clone()
        } else {
            format!("{}:{KAFKA_PORT}", self.server)
        }
    }

    /// A command to suggest, pointed at the same node.
    pub(super) fn suggest(&self, command: &str) -> String {
        if self.address() == format!("127.0.0.1:{KAFKA_PORT}") {
            format!("`braidlog {command}`")
        } else {
            format!("`braidlog {command} --server {}`", self.server)
        }
    }
}

/// Connections to the cluster.
pub(super) struct Session {
    arguments: ServerArguments,
    clock: Clock,
    bootstrap: Arc<Connection>,
    // Addresses as the cluster advertises them; of one node only, the one that was connected to.
    brokers: HashMap<i32, String>,
    connections: HashMap<i32, Arc<Connection>>,
}

impl Session {
    /// Connects to the node.
    pub(super) async fn open(
        arguments: &ServerArguments,
        clock: &Clock,
    ) -> Result<Session, Failure> {
        let bootstrap = Arc::new(connect(arguments, &arguments.address()).await?);
        Ok(Session {
            arguments: arguments.clone(),
            clock: clock.clone(),
            bootstrap,
            brokers: HashMap::new(),
            connections: HashMap::new(),
        })
    }

    /// The node that was asked for.
    pub(super) fn node(&self) -> &Arc<Connection> {
        &self.bootstrap
    }

    pub(super) fn timeout(&self) -> Period {
        self.arguments.timeout
    }

    /// Milliseconds on a clock that only goes forward.
    pub(super) fn now_ms(&self) -> i64 {
        self.clock.monotonic_ms()
    }

    /// When on that clock something that begins now should give up.
    pub(super) fn deadline_ms(&self) -> i64 {
        self.now_ms().saturating_add(self.timeout().signed_ms())
    }

    /// A command to suggest, pointed at the same node.
    pub(super) fn suggest(&self, command: &str) -> String {
        self.arguments.suggest(command)
    }

    /// A failed call as a failed command. `subject` names what it was about.
    pub(super) fn failure(&self, subject: &str, error: ClientError) -> Failure {
        failure(&self.arguments, self.bootstrap.address(), error).context(subject)
    }

    /// Metadata of these topics, or all of them. Topics are never created by asking.
    pub(super) async fn metadata(&mut self, topics: Option<&[&str]>) -> Result<Metadata, Failure> {
        let metadata = self
            .bootstrap
            .metadata(topics, false)
            .await
            .map_err(|error| failure(&self.arguments, self.bootstrap.address(), error))?;
        self.brokers = metadata
            .brokers
            .iter()
            .map(|broker| (broker.node_id, format!("{}:{}", broker.host, broker.port)))
            .collect();
        Ok(metadata)
    }

    /// A topic that exists, its partitions in order of their numbers.
    pub(super) async fn topic(&mut self, name: &str) -> Result<MetadataTopic, Failure> {
        let metadata = self.metadata(Some(&[name])).await?;
        let mut topic = metadata
            .topics
            .into_iter()
            .find(|topic| topic.name == name)
            .ok_or_else(|| Failure::new(Kind::Failed, "the node answers for another topic"))?;
        topic
            .error
            .check()
            .or_else(|error| match topic.error {
                // The partitions say more about this.
                ErrorCode::LEADER_NOT_AVAILABLE => Ok(()),
                _ => Err(error),
            })
            .map_err(|error| self.topic_failure(name, error))?;
        topic.partitions.sort_by_key(|partition| partition.index);
        Ok(topic)
    }

    /// A topic whose partitions all have a leader, waiting for them within the timeout.
    pub(super) async fn led_topic(&mut self, name: &str) -> Result<MetadataTopic, Failure> {
        let deadline = self.deadline_ms();
        loop {
            let topic = self.topic(name).await?;
            let Some(leaderless) = topic
                .partitions
                .iter()
                .find(|partition| partition.leader < 0)
            else {
                return Ok(topic);
            };
            if self.now_ms() >= deadline {
                return Err(Failure::new(
                    Kind::TimedOut,
                    format!("topic {name}: partition {} has no leader", leaderless.index),
                )
                .help(self.suggest(&format!("topic describe {name}"))));
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
    }

    /// A failed call about a topic.
    pub(super) fn topic_failure(&self, name: &str, error: ClientError) -> Failure {
        let subject = format!("topic {name}");
        let help = match &error {
            ClientError::Refused {
                code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                ..
            } => {
                let create = self.suggest(&format!("topic create {name}"));
                let list = self.suggest("topic list");
                return Failure::new(Kind::NotFound, format!("{subject} does not exist"))
                    .help(format!("create it with {create}, or see {list}"));
            }
            ClientError::Refused {
                code: ErrorCode::TOPIC_ALREADY_EXISTS,
                ..
            } => {
                let describe = self.suggest(&format!("topic describe {name}"));
                return Failure::new(Kind::Conflict, format!("{subject} exists already"))
                    .help(format!("look at it with {describe}"));
            }
            ClientError::Refused {
                code: ErrorCode::INVALID_CONFIG,
                ..
            } => {
                let configs = self.suggest("topic describe TOPIC --configs");
                Some(format!(
                    "the configs of a topic, with what they mean: {configs}"
                ))
            }
            _ => None,
        };
        let failure = self.failure(&subject, error);
        match help {
            Some(help) => failure.help(help),
            None => failure,
        }
    }

    /// A connection to the node of this id, which [`Session::metadata`] has told of.
    pub(super) async fn broker(&mut self, node_id: i32) -> Result<Arc<Connection>, Failure> {
        // The only node is the one at hand, whatever address it advertises.
        if self.is_alone() {
            return Ok(Arc::clone(&self.bootstrap));
        }
        if let Some(connection) = self.connections.get(&node_id) {
            return Ok(Arc::clone(connection));
        }
        let address = self.address(node_id).ok_or_else(|| {
            Failure::new(
                Kind::Unreachable,
                format!("node {node_id} is needed and has no address now"),
            )
        })?;
        let connection = Arc::new(connect(&self.arguments, address).await?);
        self.connections.insert(node_id, Arc::clone(&connection));
        Ok(connection)
    }

    /// A connection of its own to this node, for answers that take long.
    pub(super) async fn connect_anew(
        &self,
        node_id: i32,
        answer_limit: Duration,
    ) -> Result<Connection, ClientError> {
        let no_address = || ClientError::NotSent(format!("node {node_id} has no address now"));
        let address = self.address(node_id).ok_or_else(no_address)?;
        let options = ConnectOptions {
            request_timeout: answer_limit,
            ..options(&self.arguments)
        };
        Connection::connect(address, options).await
    }

    /// Whether there is no other node than the one that was asked for, as far as it knows.
    pub(super) fn is_alone(&self) -> bool {
        self.brokers.len() <= 1
    }

    fn address(&self, node_id: i32) -> Option<&str> {
        if self.is_alone() {
            return Some(self.bootstrap.address());
        }
        self.brokers.get(&node_id).map(String::as_str)
    }

    /// Connects to this node anew the next time.
    pub(super) fn forget(&mut self, node_id: i32) {
        self.connections.remove(&node_id);
    }
}

async fn connect(arguments: &ServerArguments, address: &str) -> Result<Connection, Failure> {
    Connection::connect(address, options(arguments))
        .await
        .map_err(|error| failure(arguments, address, error))
}

fn options(arguments: &ServerArguments) -> ConnectOptions {
    let timeout = Duration::from(arguments.timeout);
    ConnectOptions {
        client_id: "braidlog".to_owned(),
        connect_timeout: timeout.min(CONNECT_TIMEOUT_MAX),
        request_timeout: timeout,
        ..ConnectOptions::default()
    }
}

pub(super) fn failure(arguments: &ServerArguments, address: &str, error: ClientError) -> Failure {
    match error {
        ClientError::Connect {
            address, reason, ..
        } => {
            let port_offset = address
                .rsplit_once(':')
                .and_then(|(_, port)| port.parse::<u16>().ok())
                .and_then(|port| port.checked_sub(KAFKA_PORT))
                .filter(|offset| *offset > 0)
                .map(|offset| format!(" --port-offset {offset}"));
            Failure::new(
                Kind::Unreachable,
                format!("nothing answers at {address}: {reason}"),
            )
            .help(format!(
                "start a node with `braidlog start{}`, or name another with --server HOST:PORT",
                port_offset.unwrap_or_default()
            ))
        }
        ClientError::NotSent(reason) => Failure::new(
            Kind::Unreachable,
            format!("the connection to {address} is gone, nothing was done: {reason}"),
        )
        .help("try again"),
        ClientError::NoAnswer(reason) => Failure::new(
            Kind::Unreachable,
            format!("{address} did not answer, it may or may not have happened: {reason}"),
        )
        .help(format!(
            "see what is there with {}",
            arguments.suggest("topic list")
        )),
        ClientError::TimedOut { timeout_ms } => Failure::new(
            Kind::TimedOut,
            format!(
                "{address} did not answer within {timeout_ms} ms, it may or may not have happened"
            ),
        )
        .help("allow more with --timeout"),
        ClientError::Malformed(what) => Failure::new(
            Kind::Failed,
            format!("{address} does not answer as a Kafka broker does: {what}"),
        )
        .help("is that the Kafka port?"),
        ClientError::Refused { code, message } => {
            let text = message.unwrap_or_else(|| code.name().to_owned());
            Failure::new(kind_of(code), text)
        }
    }
}

fn kind_of(code: ErrorCode) -> Kind {
    match code {
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::GROUP_ID_NOT_FOUND => Kind::NotFound,
        ErrorCode::TOPIC_ALREADY_EXISTS
        | ErrorCode::NON_EMPTY_GROUP
        | ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC => Kind::Conflict,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::GROUP_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        | ErrorCode::SASL_AUTHENTICATION_FAILED => Kind::NotAuthorised,
        ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
        | ErrorCode::COORDINATOR_NOT_AVAILABLE
        | ErrorCode::NOT_COORDINATOR
        | ErrorCode::LEADER_NOT_AVAILABLE
        | ErrorCode::NOT_LEADER_OR_FOLLOWER => Kind::TimedOut,
        _ => Kind::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(server: &str) -> ServerArguments {
        ServerArguments {
            server: server.to_owned(),
            timeout: Period::from_secs(1),
        }
    }

    #[test]
    fn a_server_without_a_port_has_kafkas() {
        for (server, address) in [
            ("localhost", "localhost:9092"),
            ("10.0.0.1:19092", "10.0.0.1:19092"),
            ("::1", "[::1]:9092"),
            ("[::1]", "[::1]:9092"),
            ("[::1]:5", "[::1]:5"),
        ] {
            assert_eq!(arguments(server).address(), address);
        }
    }

    #[test]
    fn suggestions_point_at_the_same_node() {
        assert_eq!(
            arguments("127.0.0.1").suggest("topic list"),
            "`braidlog topic list`"
        );
        assert_eq!(
            arguments("h:1").suggest("topic list"),
            "`braidlog topic list --server h:1`"
        );
    }
}
