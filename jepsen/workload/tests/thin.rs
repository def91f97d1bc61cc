//! The thin client against a broker that follows a script: what it says of a send is exact.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jepsen_check::history::Key;
use jepsen_workload::batch;
use jepsen_workload::client::thin::ThinClient;
use jepsen_workload::client::{ClientOptions, Polled, Sent};
use jepsen_workload::random::Random;
use kafka_client::api::{FETCH, INIT_PRODUCER_ID, METADATA, PRODUCE};
use kafka_client::wire::Writer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What the broker does with one produce.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// Acknowledges it at this offset.
    Ack(i64),
    /// Answers this code.
    Code(i16),
    /// Closes the connection without an answer.
    Close,
}

/// What the broker was asked, in order.
#[derive(Debug, Default)]
struct Seen {
    /// Of each batch: producer id, sequence, all bytes.
    batches: Vec<(i64, i32, Bytes)>,
    producers: i64,
}

struct Broker {
    address: String,
    seen: Arc<Mutex<Seen>>,
}

fn key() -> Key {
    Key {
        topic: "t".to_owned(),
        partition: 0,
    }
}

/// A broker that leads partition 0 of topic `t`, and serves these bytes to fetches.
async fn broker(script: &[Turn], log: Bytes) -> Broker {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let script = Arc::new(Mutex::new(script.iter().copied().collect::<VecDeque<_>>()));
    let shared = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(
                stream,
                Arc::clone(&script),
                Arc::clone(&shared),
                log.clone(),
            ));
        }
    });
    Broker { address, seen }
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<Mutex<VecDeque<Turn>>>,
    seen: Arc<Mutex<Seen>>,
    log: Bytes,
) {
    while let Ok(len) = stream.read_i32().await {
        let mut request = vec![0; usize::try_from(len).expect("a length")];
        stream
            .read_exact(&mut request)
            .await
            .expect("a whole request");
        let api = i16::from_be_bytes([request[0], request[1]]);
        let mut body = Writer::new();
        match api {
            METADATA => metadata(&mut body),
            INIT_PRODUCER_ID => {
                let mut seen = seen.lock().expect("no panic");
                seen.producers += 1;
                body.i32(0).i16(0).i64(seen.producers).i16(0).no_tags();
            }
            PRODUCE => {
                let batch = batch_of(&request);
                let producer = i64::from_be_bytes(batch[43..51].try_into().expect("eight"));
                let sequence = i32::from_be_bytes(batch[53..57].try_into().expect("four"));
                seen.lock()
                    .expect("no panic")
                    .batches
                    .push((producer, sequence, batch));
                match script
                    .lock()
                    .expect("no panic")
                    .pop_front()
                    .expect("the script goes on")
                {
                    Turn::Ack(offset) => produced(&mut body, 0, offset),
                    Turn::Code(code) => produced(&mut body, code, -1),
                    Turn::Close => return,
                }
            }
            FETCH => fetched(&mut body, &log),
            other => panic!("API {other} is not in the play"),
        }
        let body = body.finish();
        let mut frame = BytesMut::new();
        frame.extend_from_slice(&i32::try_from(body.len() + 5).expect("short").to_be_bytes());
        frame.extend_from_slice(&request[4..8]);
        frame.extend_from_slice(&[0]);
        frame.extend_from_slice(&body);
        if stream.write_all(&frame).await.is_err() {
            return;
        }
    }
}

/// The record batch of a produce request: found by its own length, which ends two bytes of tags
/// before the partition's, the topic's and the request's.
fn batch_of(request: &[u8]) -> Bytes {
    let start = (0..request.len()).find(|at| {
        let counted = request.get(at + 8..at + 12).map(|len| {
            usize::try_from(i32::from_be_bytes(len.try_into().expect("four"))).unwrap_or(0)
        });
        let is_magic = request.get(at + 16) == Some(&2);
        is_magic
            && request[*at..*at + 8] == [0; 8]
            && counted.is_some_and(|len| at + 12 + len + 3 == request.len())
    });
    let start = start.expect("a batch in a produce");
    Bytes::copy_from_slice(&request[start..request.len() - 3])
}

fn metadata(body: &mut Writer) {
    body.i32(0);
    body.array([()], |item, ()| {
        item.i32(1)
            .string("127.0.0.1")
            .i32(1)
            .nullable_string(None)
            .no_tags();
    });
    body.nullable_string(None).i32(1);
    body.array([()], |item, ()| {
        item.i16(0).string("t").uuid([7; 16]).bool(false);
        item.array([()], |item, ()| {
            item.i16(0).i32(0).i32(1).i32(3);
            for _ in 0..3 {
                item.array([1], |item, node| {
                    item.i32(node);
                });
            }
            item.no_tags();
        });
        item.i32(0).no_tags();
    });
    body.no_tags();
}

fn produced(body: &mut Writer, code: i16, offset: i64) {
    body.array([()], |item, ()| {
        item.string("t");
        item.array([()], |item, ()| {
            item.i32(0).i16(code).i64(offset).i64(-1).i64(0);
            item.array([(); 0], |_, ()| ());
            item.nullable_string(None).no_tags();
        });
        item.no_tags();
    });
    body.i32(0).no_tags();
}

fn fetched(body: &mut Writer, log: &Bytes) {
    body.i32(0).i16(0).i32(0);
    body.array([()], |item, ()| {
        item.string("t");
        item.array([()], |item, ()| {
            item.i32(0).i16(0).i64(2).i64(2).i64(0);
            item.null_array().i32(-1).compact_bytes(Some(log)).no_tags();
        });
        item.no_tags();
    });
    body.no_tags();
}

fn client(broker: &Broker, idempotent: bool, seed: u64) -> ThinClient {
    let options = ClientOptions {
        op_timeout: Duration::from_secs(20),
        request_timeout: Duration::from_secs(20),
        patience: Duration::from_secs(20),
        idempotent,
        padding_bytes_max: 10,
        timestamp_ms: 5,
    };
    ThinClient::new(
        vec![(1, broker.address.clone())],
        options,
        Random::new(seed),
    )
}

/// Sends under many seeds, because whether a client tries again is drawn; the outcomes and what
/// the broker saw of each.
async fn under_many_seeds(
    idempotent: bool,
    script: &[Turn],
) -> Vec<(Sent, Vec<(i64, i32, Bytes)>)> {
    let mut all = Vec::new();
    for seed in 0..24 {
        let broker = broker(script, Bytes::new()).await;
        let sent = client(&broker, idempotent, seed)
            .send(&key(), &[11, 12])
            .await;
        let seen = std::mem::take(&mut broker.seen.lock().expect("no panic").batches);
        all.push((sent, seen));
    }
    all
}

#[tokio::test]
async fn what_was_refused_for_good_failed_and_what_was_refused_for_now_is_tried_again() {
    for (sent, seen) in under_many_seeds(false, &[Turn::Code(10)]).await {
        assert!(matches!(sent, Sent::Fail(why) if why.contains("MESSAGE_TOO_LARGE")));
        assert_eq!(seen.len(), 1);
    }
    for (sent, seen) in
        under_many_seeds(false, &[Turn::Code(5), Turn::Code(19), Turn::Ack(9)]).await
    {
        assert_eq!(sent, Sent::Ok(9));
        assert_eq!(seen.len(), 3);
    }
}

#[tokio::test]
async fn a_node_that_does_not_lead_is_taken_at_its_word_now_and_then() {
    let mut given_up = 0;
    for (sent, seen) in under_many_seeds(true, &[Turn::Code(6), Turn::Ack(9), Turn::Ack(9)]).await {
        match sent {
            Sent::Fail(_) => {
                assert_eq!(seen.len(), 1);
                given_up += 1;
            }
            // An acknowledged batch may be repeated.
            sent => assert!(sent == Sent::Ok(9) && seen.len() >= 2, "{sent:?}"),
        }
    }
    assert!((1..20).contains(&given_up), "{given_up} of 24");
}

#[tokio::test]
async fn a_plain_batch_is_never_sent_again_once_its_outcome_is_unknown() {
    for lost in [
        Turn::Close,
        Turn::Code(7),
        Turn::Code(20),
        Turn::Code(-1),
        Turn::Code(9_999),
    ] {
        for (sent, seen) in under_many_seeds(false, &[lost]).await {
            assert!(matches!(sent, Sent::Info(_)), "{lost:?}: {sent:?}");
            assert_eq!(seen.len(), 1, "{lost:?}");
            assert_eq!((seen[0].0, seen[0].1), (-1, -1), "no producer");
        }
    }
}

#[tokio::test]
async fn an_idempotent_batch_is_sent_again_as_it_was() {
    let outcomes = under_many_seeds(true, &[Turn::Close, Turn::Ack(4), Turn::Ack(4)]).await;
    let again: Vec<_> = outcomes.iter().filter(|(_, seen)| seen.len() > 1).collect();
    let given_up = outcomes.len() - again.len();
    assert!(
        again.len() > 5 && given_up > 0,
        "{} sent again",
        again.len()
    );
    for (sent, seen) in &outcomes {
        match seen.len() {
            1 => assert!(matches!(sent, Sent::Info(_)), "{sent:?}"),
            _ => assert_eq!(*sent, Sent::Ok(4)),
        }
        assert!(seen.iter().all(|batch| *batch == seen[0]), "the same bytes");
    }
}

#[tokio::test]
async fn a_refusal_after_an_unknown_outcome_leaves_it_unknown() {
    for (sent, _) in under_many_seeds(true, &[Turn::Close, Turn::Code(10)]).await {
        assert!(matches!(sent, Sent::Info(_)), "{sent:?}");
    }
    // Written long ago, but nobody says where.
    for (sent, seen) in under_many_seeds(true, &[Turn::Code(46)]).await {
        assert!(matches!(sent, Sent::Info(_)), "{sent:?}");
        assert_eq!(seen.len(), 1);
    }
}

#[tokio::test]
async fn sequence_numbers_go_on_after_ok_stay_after_fail_and_end_with_an_unknown_outcome() {
    for seed in 0..24 {
        let script = [
            Turn::Code(10),
            Turn::Ack(0),
            Turn::Ack(0),
            Turn::Ack(0),
            Turn::Ack(0),
        ];
        let broker = broker(&script, Bytes::new()).await;
        let mut client = client(&broker, true, seed);
        assert!(matches!(client.send(&key(), &[1]).await, Sent::Fail(_)));
        assert_eq!(client.send(&key(), &[2, 3]).await, Sent::Ok(0));
        assert_eq!(client.send(&key(), &[4]).await, Sent::Ok(0));
        let seen = std::mem::take(&mut broker.seen.lock().expect("no panic").batches);
        // What was refused for good ends the producer; the others follow each other.
        assert_eq!((seen[0].0, seen[0].1), (1, 0));
        assert_eq!((seen[1].0, seen[1].1), (2, 0));
        let last = seen.last().expect("three were sent");
        assert_eq!((last.0, last.1), (2, 2));
    }
    let broker = broker(&[Turn::Close; 40], Bytes::new()).await;
    let mut client = client(&broker, true, 3);
    for value in 0..4 {
        assert!(matches!(client.send(&key(), &[value]).await, Sent::Info(_)));
    }
    let seen = std::mem::take(&mut broker.seen.lock().expect("no panic").batches);
    let producers: std::collections::BTreeSet<i64> = seen.iter().map(|batch| batch.0).collect();
    assert_eq!(producers.len(), 4, "each has one of its own");
}

#[tokio::test]
async fn a_poll_gives_what_is_there_once_and_tells_damage() {
    let log = batch::encode(&[(21, 3), (22, 0)], 0, None);
    let broker = broker(&[], log.clone()).await;
    let mut reader = client(&broker, false, 1);
    reader.assign(&[(key(), 1)]);
    let Polled::Ok(reads) = reader.poll().await else {
        panic!("it was there");
    };
    assert_eq!(reads[0].records, [(1, 22)], "from the position on");
    assert_eq!(reads[0].high_watermark, 2);
    assert_eq!(reader.positions()[&key()], 2);

    let mut flipped = BytesMut::from(&log[..]);
    *flipped.last_mut().expect("bytes") ^= 1;
    let broker = self::broker(&[], flipped.freeze()).await;
    let mut reader = client(&broker, false, 1);
    reader.assign(&[(key(), 0)]);
    assert!(matches!(reader.poll().await, Polled::Damaged(why) if why.contains("CRC")));
}

#[tokio::test]
async fn nobody_there_is_a_failure_within_the_time_that_an_operation_has() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let options = ClientOptions {
        op_timeout: Duration::from_millis(200),
        request_timeout: Duration::from_secs(1),
        patience: Duration::from_secs(1),
        idempotent: true,
        padding_bytes_max: 0,
        timestamp_ms: 0,
    };
    let mut client = ThinClient::new(vec![(1, address)], options, Random::new(1));
    assert!(matches!(client.send(&key(), &[1]).await, Sent::Fail(_)));
    client.assign(&[(key(), 0)]);
    assert!(matches!(client.poll().await, Polled::Fail(_)));
}

#[tokio::test]
async fn a_node_that_never_says_who_leads_makes_a_send_fail_for_certain() {
    // It takes connections and answers nothing: nothing was produced, so nothing is unknown.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let options = ClientOptions {
        op_timeout: Duration::from_millis(300),
        request_timeout: Duration::from_millis(100),
        patience: Duration::from_millis(100),
        idempotent: false,
        padding_bytes_max: 0,
        timestamp_ms: 0,
    };
    let mut client = ThinClient::new(vec![(1, address)], options, Random::new(1));
    assert!(matches!(client.send(&key(), &[1]).await, Sent::Fail(_)));
    drop(listener);
}
