//! A client of a whole cluster: it finds nodes and leaders through any of several addresses,
//! connects again where a connection ended, and follows leaders when they move.
//!
//! Each call works until it is answered, refused for good, or its time is up; in between it pauses
//! a little longer each time. What it never does by itself is to send a batch again that may have
//! been written: [`Resend`] says whether that is harmless. [`crate::Connection`] hides nothing;
//! this hides what a leader change looks like.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::{
    Acks, FetchOptions, FetchPartition, FetchedPartition, LeaderHint, ListedOffset, Metadata,
    OffsetQuery, ProducePartition, ProduceRequest, ProducedPartition, ProducerIdentity,
};
use crate::routes::Routes;
use crate::{ClientError, ConnectOptions, Connection, ErrorCode};

/// How a cluster is spoken to.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// Of each connection. A short request timeout lets calls move on from a node that is stopped.
    pub connection: ConnectOptions,
    /// How long a call may go on trying.
    pub call_timeout: Duration,
    /// The first pause between two tries,
    pub pause: Duration,
    /// and the longest: each is twice the one before.
    pub pause_max: Duration,
}

impl Default for ClusterOptions {
    fn default() -> ClusterOptions {
        ClusterOptions {
            connection: ConnectOptions::default(),
            call_timeout: Duration::from_secs(30),
            pause: Duration::from_millis(10),
            pause_max: Duration::from_millis(200),
        }
    }
}

/// What to do with a batch that may or may not have been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resend {
    /// Send it again: it has a producer id and a sequence, so it is written once.
    Harmless,
    /// Give up: it could be written twice.
    Never,
}

/// A client of a cluster. It may be shared; connections are shared between calls.
#[derive(Debug)]
pub struct ClusterClient {
    bootstrap: Vec<String>,
    options: ClusterOptions,
    state: Mutex<State>,
    // One call at a time asks who leads; the others find what it has learnt.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    routes: Routes,
    connections: HashMap<String, Arc<Connection>>,
    next: usize, // which address is asked first
}

impl ClusterClient {
    /// A client that begins at any of these addresses (`host:port`). Nothing is connected yet.
    #[must_use]
    pub fn new<A: Into<String>>(
        bootstrap: impl IntoIterator<Item = A>,
        options: ClusterOptions,
    ) -> ClusterClient {
        ClusterClient {
            bootstrap: bootstrap.into_iter().map(Into::into).collect(),
            options,
            state: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// The connection to an address, made when there is none.
    pub async fn connect(&self, address: &str) -> Result<Arc<Connection>, ClientError> {
        if let Some(connection) = self.state().connections.get(address) {
            return Ok(Arc::clone(connection));
        }
        let options = self.options.connection.clone();
        let connection = Arc::new(Connection::connect(address, options).await?);
        let mut state = self.state();
        // Another call may have been faster.
        let kept = state
            .connections
            .entry(address.to_owned())
            .or_insert(connection);
        Ok(Arc::clone(kept))
    }

    /// Gives up a connection on which a call has failed; the next call makes a new one.
    pub fn lost(&self, connection: &Arc<Connection>) {
        let mut state = self.state();
        let address = connection.address();
        let is_this = |kept: &Arc<Connection>| Arc::ptr_eq(kept, connection);
        if state.connections.get(address).is_some_and(is_this) {
            state.connections.remove(address);
        }
    }

    /// Asks any node for these topics, or all with `None`, and remembers who leads what. Each known
    /// address is asked once, another one first each time.
    pub async fn metadata(&self, topics: Option<&[&str]>) -> Result<Metadata, ClientError> {
        let mut failure = ClientError::NotSent("no address is known".to_owned());
        for address in self.addresses() {
            match self.metadata_from(&address, topics).await {
                Ok(metadata) => return Ok(metadata),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn metadata_from(
        &self,
        address: &str,
        topics: Option<&[&str]>,
    ) -> Result<Metadata, ClientError> {
        let connection = self.connect(address).await?;
        match connection.metadata(topics, false).await {
            Ok(metadata) => {
                self.state().routes.learn(&metadata);
                Ok(metadata)
            }
            Err(error) => {
                self.failed(&connection, &error);
                Err(error)
            }
        }
    }

    /// A connection to some node that answers.
    pub async fn any(&self) -> Result<Arc<Connection>, ClientError> {
        let mut failure = ClientError::NotSent("no address is known".to_owned());
        for address in self.addresses() {
            match self.connect(&address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The connection to a node.
    pub async fn node(&self, node_id: i32) -> Result<Arc<Connection>, ClientError> {
        let known = self.state().routes.address(node_id).map(str::to_owned);
        let address = match known {
            Some(address) => address,
            None => {
                self.metadata(Some(&[])).await?;
                let address = self.state().routes.address(node_id).map(str::to_owned);
                let unknown = || ClientError::NotSent(format!("no node {node_id} is known"));
                address.ok_or_else(unknown)?
            }
        };
        self.connect(&address).await
    }

    /// The connection to the controller, as told just now.
    pub async fn controller(&self) -> Result<Arc<Connection>, ClientError> {
        let mut tries = self.tries();
        loop {
            let error = match self.metadata(Some(&[])).await {
                Ok(_) => {
                    let controller = self.state().routes.controller();
                    match controller {
                        Some(node_id) => match self.node(node_id).await {
                            Ok(connection) => return Ok(connection),
                            Err(error) => error,
                        },
                        None => ClientError::NotSent("there is no controller".to_owned()),
                    }
                }
                Err(error) => error,
            };
            tries.again(error).await?;
        }
    }

    /// The connection to a partition's leader, once there is one. When a call on it fails, tell
    /// [`ClusterClient::lost`] or [`ClusterClient::moved`] before the next try.
    pub async fn leader(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Arc<Connection>, ClientError> {
        let mut tries = self.tries();
        loop {
            match self.try_leader(topic, partition).await {
                Ok(connection) => return Ok(connection),
                Err(error) => tries.again(error).await?,
            }
        }
    }

    async fn try_leader(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Arc<Connection>, ClientError> {
        let known = |client: &Self| client.state().routes.leader(topic, partition);
        let leader = match known(self) {
            Some(leader) => leader,
            None => {
                let _turn = self.asking.lock().await;
                match known(self) {
                    Some(leader) => leader,
                    None => {
                        let metadata = self.metadata(Some(&[topic])).await?;
                        known(self).ok_or_else(|| why_no_leader(&metadata, partition))?
                    }
                }
            }
        };
        let connected = self.node(leader).await;
        if connected.is_err() {
            self.state().routes.forget(topic, partition);
        }
        connected
    }

    /// The node that was thought to lead a partition does not, or does not answer. A hint of a
    /// newer leader is followed; without one the next call asks who leads.
    pub fn moved(&self, topic: &str, partition: i32, hint: Option<&LeaderHint>) {
        let mut state = self.state();
        let followed = hint.is_some_and(|hint| state.routes.follow(topic, partition, hint));
        if !followed {
            state.routes.forget(topic, partition);
        }
    }

    /// Appends a batch at the partition's leader.
    ///
    /// Once a try has an unknown outcome no later refusal makes the whole definite: then the error
    /// is [`ClientError::NoAnswer`].
    pub async fn produce(
        &self,
        batch: &ProducePartition,
        acks: Acks,
        resend: Resend,
    ) -> Result<ProducedPartition, ClientError> {
        let request = ProduceRequest {
            transactional_id: None,
            acks,
            timeout_ms: self.request_timeout_ms(),
            partitions: vec![batch.clone()],
        };
        let (topic, partition) = (batch.topic.as_str(), batch.partition);
        let mut may_be_written = false;
        let mut tries = self.tries();
        loop {
            let error = match self.try_produce(topic, partition, &request).await {
                Ok(produced) => return Ok(produced),
                Err(error) => error,
            };
            let goes_on = match error.is_definite() {
                true => is_passing(&error),
                false => resend == Resend::Harmless,
            };
            may_be_written |= !error.is_definite();
            let error = match may_be_written && error.is_definite() {
                true => ClientError::NoAnswer(format!("an earlier try had none, then: {error}")),
                false => error,
            };
            if !goes_on {
                return Err(error);
            }
            tries.again(error).await?;
        }
    }

    async fn try_produce(
        &self,
        topic: &str,
        partition: i32,
        request: &ProduceRequest,
    ) -> Result<ProducedPartition, ClientError> {
        let connection = self.try_leader(topic, partition).await?;
        let produced = match connection.produce(request).await {
            Ok(produced) => produced.into_iter().next(),
            Err(error) => {
                self.failed(&connection, &error);
                self.moved(topic, partition, None);
                return Err(error);
            }
        };
        if request.acks == Acks::None {
            return Ok(unanswered(topic, partition));
        }
        let produced = produced.ok_or(ClientError::Malformed("no result"))?;
        if produced.error.is_about_leader() {
            self.moved(topic, partition, produced.leader.as_ref());
        }
        produced.error.check_with(produced.message.clone())?;
        Ok(produced)
    }

    /// Fetches from the partition's leader.
    pub async fn fetch(
        &self,
        wanted: &FetchPartition,
        options: FetchOptions,
    ) -> Result<FetchedPartition, ClientError> {
        let (topic, partition) = (wanted.topic.as_str(), wanted.partition);
        let mut tries = self.tries();
        loop {
            match self.try_fetch(topic, partition, wanted, options).await {
                Ok(fetched) => return Ok(fetched),
                Err(error) if is_passing(&error) => tries.again(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_fetch(
        &self,
        topic: &str,
        partition: i32,
        wanted: &FetchPartition,
        options: FetchOptions,
    ) -> Result<FetchedPartition, ClientError> {
        let connection = self.try_leader(topic, partition).await?;
        let answer = match connection
            .fetch(std::slice::from_ref(wanted), options)
            .await
        {
            Ok(answer) => answer,
            Err(error) => {
                self.failed(&connection, &error);
                self.moved(topic, partition, None);
                return Err(error);
            }
        };
        answer.error.check()?;
        let fetched = answer.partitions.into_iter().next();
        let fetched = fetched.ok_or(ClientError::Malformed("no result"))?;
        if fetched.error.is_about_leader() {
            self.moved(topic, partition, fetched.leader.as_ref());
        }
        fetched.error.check()?;
        Ok(fetched)
    }

    /// Finds an offset at the partition's leader.
    pub async fn list_offset(&self, query: &OffsetQuery) -> Result<ListedOffset, ClientError> {
        let mut tries = self.tries();
        loop {
            match self.try_list_offset(query).await {
                Ok(listed) => return Ok(listed),
                Err(error) if is_passing(&error) => tries.again(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    async fn try_list_offset(&self, query: &OffsetQuery) -> Result<ListedOffset, ClientError> {
        let (topic, partition) = (query.topic.as_str(), query.partition);
        let connection = self.try_leader(topic, partition).await?;
        let asked = std::slice::from_ref(query);
        let listed = match connection.list_offsets(asked, false).await {
            Ok(listed) => listed.into_iter().next(),
            Err(error) => {
                self.failed(&connection, &error);
                self.moved(topic, partition, None);
                return Err(error);
            }
        };
        let listed = listed.ok_or(ClientError::Malformed("no result"))?;
        if listed.error.is_about_leader() {
            self.moved(topic, partition, None);
        }
        listed.error.check()?;
        Ok(listed)
    }

    /// A new identity for an idempotent producer, from any node.
    pub async fn init_producer_id(&self) -> Result<ProducerIdentity, ClientError> {
        let mut tries = self.tries();
        loop {
            let error = match self.any().await {
                Ok(connection) => match connection.init_producer_id(None, 0).await {
                    Ok(identity) => return Ok(identity),
                    Err(error) => {
                        self.failed(&connection, &error);
                        error
                    }
                },
                Err(error) => error,
            };
            match is_passing(&error) {
                true => tries.again(error).await?,
                false => return Err(error),
            }
        }
    }

    /// What to remember of a failed call: a connection that is of no use any more.
    fn failed(&self, connection: &Arc<Connection>, error: &ClientError) {
        if !matches!(error, ClientError::Refused { .. }) {
            self.lost(connection);
        }
    }

    /// Every address that is known, another one first each time.
    fn addresses(&self) -> Vec<String> {
        let mut state = self.state();
        let mut addresses = self.bootstrap.clone();
        for address in state.routes.addresses() {
            if !addresses.iter().any(|known| known == address) {
                addresses.push(address.to_owned());
            }
        }
        if !addresses.is_empty() {
            let first = state.next % addresses.len();
            addresses.rotate_left(first);
        }
        state.next = state.next.wrapping_add(1);
        addresses
    }

    fn request_timeout_ms(&self) -> i32 {
        let timeout = self.options.connection.request_timeout.as_millis();
        i32::try_from(timeout).unwrap_or(i32::MAX)
    }

    fn tries(&self) -> Tries {
        Tries {
            deadline: Instant::now() + self.options.call_timeout,
            pause: self.options.pause,
            pause_max: self.options.pause_max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tries of one call.
struct Tries {
    deadline: Instant,
    pause: Duration,
    pause_max: Duration,
}

impl Tries {
    /// Pauses before the next try, or errs with why the last one failed when the time is up.
    async fn again(&mut self, error: ClientError) -> Result<(), ClientError> {
        if Instant::now() + self.pause >= self.deadline {
            return Err(error);
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(self.pause_max);
        Ok(())
    }
}

/// Whether another try, perhaps elsewhere, may go better.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Refused { code, .. } => code.is_retriable(),
        _ => true,
    }
}

fn why_no_leader(metadata: &Metadata, partition: i32) -> ClientError {
    let Some(topic) = metadata.topics.first() else {
        return ClientError::Malformed("no topic");
    };
    let code = match topic.error {
        ErrorCode::NONE => topic
            .partitions
            .iter()
            .find(|told| told.index == partition)
            .map_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, |told| told.error),
        error => error,
    };
    match code {
        // Led by somebody of an epoch that is known to be over.
        ErrorCode::NONE => ErrorCode::LEADER_NOT_AVAILABLE.into(),
        code => code.into(),
    }
}

/// What is known of a batch that is never answered.
fn unanswered(topic: &str, partition: i32) -> ProducedPartition {
    ProducedPartition {
        topic: topic.to_owned(),
        partition,
        error: ErrorCode::NONE,
        base_offset: -1,
        log_append_time_ms: -1,
        log_start: -1,
        record_errors: Vec::new(),
        message: None,
        leader: None,
    }
}
