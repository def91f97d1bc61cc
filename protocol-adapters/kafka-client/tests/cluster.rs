//! A cluster's client against nodes that follow a script: whom it asks, and what it sends again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_client::api::{Acks, METADATA, ProducePartition};
use kafka_client::wire::Writer;
use kafka_client::{ClientError, ClusterClient, ClusterOptions, ErrorCode, Resend};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What a node answers to a produce; `None` closes the connection instead.
type Produced = fn(usize, &[u16]) -> Option<Bytes>;

/// Two nodes, 1 and 2; metadata says that node 1 leads. Answers produces with `produced`, given the
/// node's number and all ports. Returns where they are, and how many produces came.
async fn two_nodes(produced: Produced) -> (Vec<String>, Arc<AtomicUsize>) {
    let mut listeners = Vec::new();
    for _ in 0..2 {
        listeners.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
    }
    let ports: Vec<u16> = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect();
    let count = Arc::new(AtomicUsize::new(0));
    for (node, listener) in (1..).zip(listeners) {
        let (ports, count) = (ports.clone(), Arc::clone(&count));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (ports, count) = (ports.clone(), Arc::clone(&count));
                tokio::spawn(serve(stream, node, ports, count, produced));
            }
        });
    }
    let addresses = ports.iter().map(|port| format!("127.0.0.1:{port}"));
    (addresses.collect(), count)
}

async fn serve(
    mut stream: TcpStream,
    node: usize,
    ports: Vec<u16>,
    count: Arc<AtomicUsize>,
    produced: Produced,
) {
    while let Ok(length) = stream.read_u32().await {
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut frame).await.unwrap();
        let body = if i16::from_be_bytes([frame[0], frame[1]]) == METADATA {
            Some(metadata(&ports))
        } else {
            count.fetch_add(1, Ordering::SeqCst);
            produced(node, &ports)
        };
        let Some(body) = body else {
            return;
        };
        let length = u32::try_from(body.len() + 5).unwrap();
        stream.write_u32(length).await.unwrap();
        stream.write_all(&frame[4..8]).await.unwrap();
        stream.write_u8(0).await.unwrap();
        stream.write_all(&body).await.unwrap();
    }
}

fn metadata(ports: &[u16]) -> Bytes {
    let mut body = Writer::new();
    body.i32(0);
    body.array(
        (1..).zip(ports).collect::<Vec<_>>(),
        |item, (node, port)| {
            item.i32(node).string("127.0.0.1").i32(i32::from(*port));
            item.nullable_string(None).no_tags();
        },
    );
    body.nullable_string(None).i32(1);
    body.array([()], |item, ()| {
        item.i16(0).nullable_string(Some("t")).uuid([1; 16]);
        item.bool(false).array([()], |item, ()| {
            item.i16(0).i32(0).i32(1).i32(5);
            for _ in 0..3 {
                item.array([1, 2], |item, id| {
                    item.i32(id);
                });
            }
            item.no_tags();
        });
        item.i32(0).no_tags();
    });
    body.no_tags();
    body.finish()
}

/// The answer to a produce: an error, and who leads instead, with its port.
fn answer(error: ErrorCode, hint: Option<(i32, u16)>) -> Bytes {
    let mut body = Writer::new();
    body.array([()], |item, ()| {
        item.string("t").array([()], |item, ()| {
            item.i32(0).i16(error.0).i64(42).i64(-1).i64(0);
            item.array([(); 0], |_, ()| ()).nullable_string(None);
            match hint {
                Some((node, _)) => item
                    .varint(1)
                    .varint(0)
                    .varint(9)
                    .i32(node)
                    .i32(6)
                    .no_tags(),
                None => item.no_tags(),
            };
        });
        item.no_tags();
    });
    body.i32(0);
    match hint {
        Some((node, port)) => {
            let mut endpoints = Writer::new();
            endpoints.array([()], |item, ()| {
                item.i32(node).string("127.0.0.1").i32(i32::from(port));
                item.nullable_string(None).no_tags();
            });
            let endpoints = endpoints.finish();
            body.varint(1).varint(0);
            body.varint(u32::try_from(endpoints.len()).unwrap());
            for byte in endpoints {
                body.i8(i8::from_be_bytes([byte]));
            }
        }
        None => {
            body.no_tags();
        }
    }
    body.finish()
}

fn client(addresses: Vec<String>) -> ClusterClient {
    let options = ClusterOptions {
        call_timeout: Duration::from_secs(5),
        ..ClusterOptions::default()
    };
    ClusterClient::new(addresses, options)
}

fn batch() -> ProducePartition {
    ProducePartition {
        topic: "t".to_owned(),
        partition: 0,
        records: Some(Bytes::from_static(b"batch")),
    }
}

#[tokio::test]
async fn a_hint_is_followed_although_metadata_is_older() {
    let (addresses, count) = two_nodes(|node, ports| match node {
        1 => Some(answer(
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            Some((2, ports[1])),
        )),
        _ => Some(answer(ErrorCode::NONE, None)),
    })
    .await;
    let client = client(addresses);
    for produced in 2..=3 {
        let written = client.produce(&batch(), Acks::All, Resend::Never).await;
        assert_eq!(written.unwrap().base_offset, 42);
        assert_eq!(
            count.load(Ordering::SeqCst),
            produced,
            "the new leader is known"
        );
    }
}

#[tokio::test]
async fn a_batch_that_may_be_written_is_sent_again_only_where_that_is_harmless() {
    let (addresses, count) = two_nodes(|_, _| None).await;
    let client = client(addresses);
    let error = client.produce(&batch(), Acks::All, Resend::Never).await;
    assert!(!error.unwrap_err().is_definite());
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_refusal_after_an_unknown_outcome_settles_nothing() {
    // The first answer leaves the outcome open, the second is final.
    static TIMES: AtomicUsize = AtomicUsize::new(0);
    let (addresses, _) = two_nodes(|_, _| {
        let code = match TIMES.fetch_add(1, Ordering::SeqCst) {
            0 => ErrorCode::REQUEST_TIMED_OUT,
            _ => ErrorCode::INVALID_PRODUCER_EPOCH,
        };
        Some(answer(code, None))
    })
    .await;
    let client = client(addresses);
    let error = client.produce(&batch(), Acks::All, Resend::Harmless).await;
    let error = error.unwrap_err();
    assert!(matches!(error, ClientError::NoAnswer(_)), "{error}");
    assert!(!error.is_definite());
}

#[tokio::test]
async fn the_node_that_answers_serves_when_the_first_does_not() {
    let (addresses, _) = two_nodes(|_, _| Some(answer(ErrorCode::NONE, None))).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let first = gone.local_addr().unwrap().to_string();
    drop(gone);
    let client = client([vec![first], addresses].concat());
    let metadata = client.metadata(Some(&["t"])).await.unwrap();
    assert_eq!(metadata.topics[0].partitions[0].leader, 1);
    assert!(client.any().await.is_ok());
    assert!(client.controller().await.is_ok());
    assert!(client.node(2).await.is_ok());
    assert!(client.node(3).await.is_err());
}
