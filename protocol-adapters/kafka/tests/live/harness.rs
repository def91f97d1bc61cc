//! A broker with a Kafka listener in a directory of its own, and a client that speaks frames.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use broker::record::{BatchProducer, Compression, Record, encode_batch};
use broker::{Broker, BrokerConfig, Env};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::join_all;
use kafka::{KafkaServer, KafkaServerConfig, KafkaServerHandle};
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use raft::{Peers, PeersConfig};
use storage::NodeId;
use storage::clock::Clock;
use storage::data_dir::DataDir;
use storage::disk::Disk;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long anything may take before a test gives up.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A running node.
pub(crate) struct Server {
    pub(crate) broker: Broker,
    pub(crate) handle: KafkaServerHandle,
    dir: PathBuf,
}

/// Sockets and a directory that a node will have.
struct Place {
    dir: PathBuf,
    peers: Peers,
    kafka: KafkaServer,
    number: u64,
}

impl Place {
    async fn new(kafka: KafkaServerConfig) -> Place {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::SeqCst);
        let name = format!("braidlog-kafka-{}-{number}", std::process::id());
        let anywhere = ([127, 0, 0, 1], 0).into();
        Place {
            dir: std::env::temp_dir().join(name),
            peers: Peers::bind(PeersConfig::new(anywhere), Clock::system())
                .await
                .unwrap(),
            kafka: KafkaServer::bind(anywhere, kafka, Clock::system()).unwrap(),
            number,
        }
    }

    async fn start(self, config: BrokerConfig) -> Server {
        let port = |address: SocketAddr| ("127.0.0.1".to_owned(), address.port());
        let env = Env {
            clock: Clock::system(),
            disk: Disk::Real,
            seed: [1, 2, 3, self.number],
        };
        let data_dir = DataDir::open(&Disk::Real, &self.dir).unwrap();
        let config = BrokerConfig {
            journal_file_bytes: 1 << 20,
            advertised: [
                ("kafka".to_owned(), port(self.kafka.local_addr())),
                ("peers".to_owned(), port(self.peers.local_addr())),
            ]
            .into(),
            ..config
        };
        let broker = Broker::start(config, env, data_dir, self.peers)
            .await
            .unwrap();
        let handle = self.kafka.serve(broker.clone());
        Server {
            broker,
            handle,
            dir: self.dir,
        }
    }
}

impl Server {
    /// A node that is a cluster by itself.
    pub(crate) async fn start() -> Server {
        Server::start_with(BrokerConfig::default(), KafkaServerConfig::default()).await
    }

    pub(crate) async fn start_with(config: BrokerConfig, kafka: KafkaServerConfig) -> Server {
        let config = BrokerConfig {
            rack: Some("rack".to_owned()),
            ..config
        };
        Place::new(kafka).await.start(config).await
    }

    /// Nodes 1, 2 and 3, each in a rack of its own (`rack-1`, ...).
    pub(crate) async fn start_three() -> Vec<Server> {
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(Place::new(KafkaServerConfig::default()).await);
        }
        let seeds: Vec<String> = places
            .iter()
            .map(|place| place.peers.local_addr().to_string())
            .collect();
        let starts = places.into_iter().zip(1..).map(|(place, id)| {
            place.start(BrokerConfig {
                node_id: Some(NodeId(id)),
                rack: Some(format!("rack-{id}")),
                seeds: seeds.clone(),
                ..BrokerConfig::default()
            })
        });
        tokio::time::timeout(DEADLINE * 2, join_all(starts))
            .await
            .expect("three nodes find one another")
    }

    pub(crate) async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.handle.local_addr()).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            correlation_id: -3,
        }
    }

    /// A client and a topic made for it.
    pub(crate) async fn client_and_topic(&self, name: &'static str, partitions: i32) -> Client {
        let mut client = self.connect().await;
        let topic = CreatableTopic::default()
            .with_name(topic_name(name))
            .with_num_partitions(partitions)
            .with_replication_factor(1);
        let request = CreateTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(20_000);
        let response = client.call(7, &request).await;
        assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0]);
        client
    }

    /// Where its data lives.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) async fn stop(self) {
        self.handle.shutdown().await;
        self.broker.shutdown().await;
        Disk::Real.remove_dir_all(&self.dir).unwrap();
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    pub(crate) correlation_id: i32,
}

impl Client {
    /// Sends a request and reads its answer.
    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request).await;
        self.receive::<R>(version).await
    }

    /// Sends a request.
    pub(crate) async fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation_id += 1;
        let frame = frame(version, self.correlation_id, request);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// Reads an answer to a request of this kind, and nothing else.
    pub(crate) async fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let (_, mut body) = self.receive_frame().await.expect("an answer");
        let header = match R::KEY {
            18 => 0,
            _ => <R::Response as HeaderVersion>::header_version(version),
        };
        ResponseHeader::decode(&mut body, header).unwrap();
        let response = <R::Response as Decodable>::decode(&mut body, version).unwrap();
        assert!(
            body.is_empty(),
            "key {} version {version}: bytes left over",
            R::KEY
        );
        response
    }

    /// The correlation id and the whole of the next answer; `None` when the connection is closed.
    pub(crate) async fn receive_frame(&mut self) -> Option<(i32, Bytes)> {
        let read = async {
            let length = self.stream.read_i32().await.ok()?;
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut frame).await.ok()?;
            let frame = Bytes::from(frame);
            Some((frame.clone().get_i32(), frame))
        };
        tokio::time::timeout(DEADLINE, read)
            .await
            .expect("an answer or an end in time")
    }

    /// Whether the server closes the connection without another answer.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.receive_frame().await.is_none()
    }
}

/// A request as it goes out.
pub(crate) fn frame<R: Request>(version: i16, correlation_id: i32, request: &R) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("test")));
    let mut buf = BytesMut::new();
    buf.put_i32(0);
    header.encode(&mut buf, R::header_version(version)).unwrap();
    request.encode(&mut buf, version).unwrap();
    let length = i32::try_from(buf.len() - 4).unwrap();
    buf[..4].copy_from_slice(&length.to_be_bytes());
    buf.freeze()
}

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// One batch of these values.
pub(crate) fn batch(values: &[&str], producer: BatchProducer) -> Bytes {
    compressed(values, Compression::None, producer)
}

pub(crate) fn compressed(
    values: &[&str],
    compression: Compression,
    producer: BatchProducer,
) -> Bytes {
    let timestamp_ms = Clock::system().wall_ms();
    let record = |value: &&str| Record {
        timestamp_ms,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..Record::default()
    };
    encode_batch(
        &values.iter().map(record).collect::<Vec<_>>(),
        compression,
        producer,
    )
}

/// A produce of one batch to one partition.
pub(crate) fn produce(topic: &str, partition: i32, acks: i16, records: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default()
        .with_index(partition)
        .with_records(Some(records));
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(20_000)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(topic_name(topic))
                .with_partition_data(vec![data]),
        ])
}

/// A fetch of one partition that does not wait.
pub(crate) fn fetch(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![
            FetchTopic::default()
                .with_topic(topic_name(topic))
                .with_partitions(vec![
                    FetchPartition::default()
                        .with_partition(partition)
                        .with_current_leader_epoch(-1)
                        .with_last_fetched_epoch(-1)
                        .with_fetch_offset(offset)
                        .with_partition_max_bytes(1 << 20),
                ]),
        ])
}

/// A fetch that waits for a byte until the deadline of the tests.
pub(crate) fn waiting_fetch(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    fetch(topic, partition, offset).with_max_wait_ms(60_000)
}
