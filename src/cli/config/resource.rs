//! What has configs, as named on the command line.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use kafka_client::api::ConfigResource;
use kafka_client::{ClientError, Connection, ErrorCode};

use crate::cli::failure::{Failure, Kind};
use crate::cli::session::Session;

/// Whose configs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) enum Resource {
    /// `topic/NAME`
    Topic(String),
    /// `broker/ID`: a node's own.
    Broker(i32),
    /// `brokers`: those that hold on every node that has none of its own.
    Brokers,
}

impl Resource {
    /// As Kafka names it.
    pub(super) fn wire(&self) -> ConfigResource {
        match self {
            Resource::Topic(name) => ConfigResource::Topic(name.clone()),
            Resource::Broker(id) => ConfigResource::Broker(id.to_string()),
            Resource::Brokers => ConfigResource::Broker(String::new()),
        }
    }

    /// The node to ask: a broker answers for its own configs, any node for the rest.
    pub(super) async fn node(&self, session: &mut Session) -> Result<Arc<Connection>, Failure> {
        let Resource::Broker(id) = self else {
            return Ok(Arc::clone(session.node()));
        };
        let brokers = session.metadata(Some(&[])).await?.brokers;
        if brokers.iter().all(|broker| broker.node_id != *id) {
            let ids: Vec<String> = brokers.iter().map(|b| b.node_id.to_string()).collect();
            return Err(
                Failure::new(Kind::NotFound, format!("there is no broker {id} now"))
                    .help(format!("there are: {}", ids.join(", "))),
            );
        }
        session.broker(*id).await
    }

    /// A failed call about this.
    pub(super) fn failure(&self, session: &Session, error: ClientError) -> Failure {
        if let Resource::Topic(name) = self {
            return session.topic_failure(name, error);
        }
        let refused = matches!(
            error,
            ClientError::Refused {
                code: ErrorCode::INVALID_CONFIG,
                ..
            }
        );
        let failure = session.failure(&self.to_string(), error);
        if !refused {
            return failure;
        }
        let list = session.suggest(&format!("config describe {self}"));
        failure.help(format!("which can be set, and what they mean: {list}"))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Resource::Topic(name) => write!(f, "topic/{name}"),
            Resource::Broker(id) => write!(f, "broker/{id}"),
            Resource::Brokers => f.write_str("brokers"),
        }
    }
}

impl FromStr for Resource {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Resource, &'static str> {
        const EXPECTED: &str = "expected topic/NAME, broker/ID, or brokers";
        match text.split_once('/') {
            Some(("topic", name)) if !name.is_empty() => Ok(Resource::Topic(name.to_owned())),
            Some(("broker", id)) => id
                .parse()
                .ok()
                .filter(|id| *id >= 0)
                .map(Resource::Broker)
                .ok_or(EXPECTED),
            None if text == "brokers" => Ok(Resource::Brokers),
            _ => Err(EXPECTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_written_as_it_is_read() {
        for text in ["topic/orders", "broker/7", "brokers"] {
            assert_eq!(text.parse::<Resource>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "orders",
            "topic/",
            "topic",
            "broker/",
            "broker/-1",
            "broker/x",
            "broker",
            "brokers/1",
            "group/g",
        ] {
            assert!(text.parse::<Resource>().is_err(), "{text}");
        }
    }
}
