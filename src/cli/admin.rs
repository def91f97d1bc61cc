//! An operator command's way to the cluster: one HTTP request at a time to one node, which answers
//! for all of them.

use std::time::Duration;

use bytes::Bytes;
use http_admin::model::Problem;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use super::failure::{Failure, Kind};
use crate::config::HTTP_PORT;
use crate::units::Period;

/// Largest answer: the picture of a cluster with thousands of shards.
const ANSWER_BYTES_MAX: usize = 64 << 20;
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(5);

/// Which node to ask.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct AdminArguments {
    /// The HTTP listener of any node [default: 127.0.0.1:8080]
    #[arg(long, value_name = "HOST[:PORT]")]
    http: Option<String>,
    /// Of a node that was started with the same
    #[arg(long, value_name = "N", conflicts_with = "http")]
    port_offset: Option<u16>,
    /// Give up after this long
    #[arg(long, value_name = "TIME", default_value = "30s")]
    pub(super) timeout: Period,
}

impl AdminArguments {
    pub(super) fn address(&self) -> String {
        let Some(http) = &self.http else {
            let port = HTTP_PORT.saturating_add(self.port_offset.unwrap_or(0));
            return format!("127.0.0.1:{port}");
        };
        let bare_v6 = http.matches(':').count() > 1 && !http.contains(']');
        if bare_v6 {
            format!("[{http}]:{HTTP_PORT}")
        } else if http.contains(':') && !http.ends_with(']') {
            http.clone()
        } else {
            format!("{http}:{HTTP_PORT}")
        }
    }

    /// A command to suggest, pointed at the same node.
    pub(super) fn suggest(&self, command: &str) -> String {
        match (&self.http, self.port_offset) {
            (Some(http), _) => format!("`braidlog {command} --http {http}`"),
            (None, Some(offset)) => format!("`braidlog {command} --port-offset {offset}`"),
            (None, None) => format!("`braidlog {command}`"),
        }
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Bytes,
    ) -> Result<T, Failure> {
        self.ask(Method::POST, path, body).await
    }

    pub(super) async fn delete(&self, path: &str) -> Result<(), Failure> {
        let answer = self.send(Method::DELETE, path, Bytes::new()).await?;
        self.checked(answer).map(|_| ())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, Failure> {
        let answer = self.send(method, path, body).await?;
        let body = self.checked(answer)?;
        serde_json::from_slice(&body).map_err(|error| self.no_braidlog(&error.to_string()))
    }

    /// One request on a connection of its own, within the timeout.
    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let limit = Duration::from(self.timeout);
        let exchange = self.exchange(method, path, body, limit.min(CONNECT_TIMEOUT_MAX));
        match tokio::time::timeout(limit, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::new(
                Kind::TimedOut,
                format!(
                    "{} did not answer within {}, it may or may not have happened",
                    self.address(),
                    self.timeout
                ),
            )
            .help("allow more with --timeout")),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        connect_limit: Duration,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let address = self.address();
        let connected = tokio::time::timeout(connect_limit, TcpStream::connect(&address)).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.unreachable(&error.to_string())),
            Err(_) => return Err(self.unreachable("no answer to the connection")),
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.no_braidlog(&error.to_string()))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &address)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| Failure::new(Kind::Usage, format!("--http {address}: {error}")))?;
        let answering = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            Ok((status, Limited::new(answer.into_body(), ANSWER_BYTES_MAX)))
        };
        let lost = |error: &hyper::Error| {
            Failure::new(
                Kind::Unreachable,
                format!("{address} did not answer, it may or may not have happened: {error}"),
            )
            .help(format!(
                "see how it stands with {}",
                self.suggest("cluster status")
            ))
        };
        // The connection must be driven while its answer is waited for; its own end is told to the
        // request as well.
        let conversing = async {
            let (status, body) = answering
                .await
                .map_err(|error: hyper::Error| lost(&error))?;
            let body = body
                .collect()
                .await
                .map_err(|error| self.no_braidlog(&error.to_string()))?;
            Ok((status, body.to_bytes()))
        };
        let mut conversing = std::pin::pin!(conversing);
        tokio::select! {
            answer = &mut conversing => answer,
            _ = connection => conversing.await,
        }
    }

    /// The body of a success, else what the problem says.
    fn checked(&self, (status, body): (StatusCode, Bytes)) -> Result<Bytes, Failure> {
        if status.is_success() {
            return Ok(body);
        }
        let kind = match status {
            StatusCode::NOT_FOUND => Kind::NotFound,
            StatusCode::CONFLICT => Kind::Conflict,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::NotAuthorised,
            StatusCode::GATEWAY_TIMEOUT => Kind::TimedOut,
            StatusCode::SERVICE_UNAVAILABLE => Kind::Unreachable,
            _ => Kind::Failed,
        };
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
        if problem.kind.is_empty() {
            return Err(self.no_braidlog(&format!("status {status}")));
        }
        let failure = Failure::new(kind, problem.detail);
        Err(match problem.hint {
            Some(hint) => failure.help(hint),
            None => failure,
        })
    }

    fn unreachable(&self, reason: &str) -> Failure {
        Failure::new(
            Kind::Unreachable,
            format!("nothing answers at {}: {reason}", self.address()),
        )
        .help("start a node with `braidlog start`, or name another one's HTTP listener with --http HOST:PORT")
    }

    fn no_braidlog(&self, reason: &str) -> Failure {
        Failure::new(
            Kind::Failed,
            format!(
                "{} does not answer as a node does: {reason}",
                self.address()
            ),
        )
        .help("is that the HTTP port of a node? `braidlog start` prints it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(http: Option<&str>, port_offset: Option<u16>) -> AdminArguments {
        AdminArguments {
            http: http.map(str::to_owned),
            port_offset,
            timeout: Period::from_secs(1),
        }
    }

    #[test]
    fn a_node_is_named_by_address_or_by_offset() {
        for (http, port_offset, address) in [
            (None, None, "127.0.0.1:8080"),
            (None, Some(200), "127.0.0.1:8280"),
            (Some("10.0.0.1"), None, "10.0.0.1:8080"),
            (Some("10.0.0.1:81"), None, "10.0.0.1:81"),
            (Some("::1"), None, "[::1]:8080"),
            (Some("[::1]"), None, "[::1]:8080"),
            (Some("[::1]:81"), None, "[::1]:81"),
        ] {
            assert_eq!(arguments(http, port_offset).address(), address);
        }
    }

    #[test]
    fn a_problem_becomes_a_failure_with_its_hint() {
        let body = Bytes::from_static(
            br#"{"type":"unknown_node","title":"t","status":404,"detail":"no node 9","hint":"look"}"#,
        );
        let failure = arguments(None, None)
            .checked((StatusCode::NOT_FOUND, body))
            .unwrap_err();
        assert_eq!(failure.kind(), Kind::NotFound);
        let strange = arguments(None, None)
            .checked((StatusCode::NOT_FOUND, Bytes::from_static(b"<html>")))
            .unwrap_err();
        assert_eq!(strange.kind(), Kind::Failed);
    }
}
