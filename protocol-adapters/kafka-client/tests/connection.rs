//! A connection against a server that misbehaves: what each call is told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_client::{ClientError, ConnectOptions, Connection, ErrorCode, FrameStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A server that answers one connection as `script` says; the connection to it.
async fn against<F>(script: impl FnOnce(TcpStream) -> F) -> Connection
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let options = ConnectOptions {
        request_timeout: Duration::from_secs(5),
        response_bytes_max: 1000,
        ..ConnectOptions::default()
    };
    let connection = Connection::connect(&address, options).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    tokio::spawn(script(stream));
    connection
}

async fn read_request(stream: &mut TcpStream) -> (i32, Vec<u8>) {
    let len = stream.read_u32().await.unwrap();
    let mut frame = vec![0; usize::try_from(len).unwrap()];
    stream.read_exact(&mut frame).await.unwrap();
    (i32::from_be_bytes(frame[4..8].try_into().unwrap()), frame)
}

fn frame(correlation: i32, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    frame.extend_from_slice(&correlation.to_be_bytes());
    frame.extend_from_slice(body);
    frame.freeze()
}

#[tokio::test]
async fn nobody_listening_is_a_definite_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Connection::connect(&address, ConnectOptions::default())
        .await
        .unwrap_err();
    assert!(error.is_definite());
    assert_eq!(
        error,
        ClientError::Connect {
            address,
            reason: "connection refused".to_owned(),
            timed_out: false
        }
    );
}

#[tokio::test]
async fn answers_reach_their_calls_in_order() {
    let connection = against(|mut stream| async move {
        for value in [7u8, 9] {
            let (correlation, _) = read_request(&mut stream).await;
            stream
                .write_all(&frame(correlation, &[0, value]))
                .await
                .unwrap();
        }
    })
    .await;
    let first = connection.send(3, 12, b"one").await.unwrap();
    let second = connection.send(3, 12, b"two").await.unwrap();
    assert_eq!(second.answer().await.unwrap().i8(), Ok(9));
    assert_eq!(first.answer().await.unwrap().i8(), Ok(7));
}

#[tokio::test]
async fn a_cut_leaves_the_outcome_unknown_and_later_calls_definitely_undone() {
    let connection = against(|mut stream| async move {
        read_request(&mut stream).await;
    })
    .await;
    let error = connection.call(3, 12, b"").await.unwrap_err();
    assert!(!error.is_definite(), "{error}");
    let later = connection.call(3, 12, b"").await.unwrap_err();
    assert!(later.is_definite(), "{later}");
}

#[tokio::test]
async fn an_answer_to_another_request_ends_the_connection() {
    let connection = against(|mut stream| async move {
        let (correlation, _) = read_request(&mut stream).await;
        stream
            .write_all(&frame(correlation + 1, &[0]))
            .await
            .unwrap();
        let _ = stream.read_u8().await;
    })
    .await;
    assert_eq!(
        connection.call(3, 12, b"").await.unwrap_err(),
        ClientError::Malformed("answers are out of order")
    );
    assert!(matches!(
        connection.call(3, 12, b"").await,
        Err(ClientError::NotSent(_))
    ));
}

#[tokio::test]
async fn an_overlong_answer_is_not_read() {
    let connection = against(|mut stream| async move {
        read_request(&mut stream).await;
        stream
            .write_all(&0x7fff_ffffu32.to_be_bytes())
            .await
            .unwrap();
        let _ = stream.read_u8().await;
    })
    .await;
    let error = connection.call(3, 12, b"").await.unwrap_err();
    assert!(matches!(error, ClientError::NoAnswer(_)) && !error.is_definite());
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_runs_into_the_deadline() {
    let connection = against(|mut stream| async move {
        read_request(&mut stream).await;
        let _ = stream.read_u8().await;
    })
    .await;
    assert_eq!(
        connection.call(3, 12, b"").await.unwrap_err(),
        ClientError::TimedOut { timeout_ms: 5000 }
    );
}

#[tokio::test]
async fn an_older_server_is_told_by_its_error() {
    let connection = against(|mut stream| async move {
        let (correlation, _) = read_request(&mut stream).await;
        // Version 0 of the answer: error 35 and the ranges.
        stream
            .write_all(&frame(correlation, &[0, 35, 0, 0, 0, 0]))
            .await
            .unwrap();
        let _ = stream.read_u8().await;
    })
    .await;
    assert_eq!(
        connection.api_versions().await.unwrap_err(),
        ClientError::from(ErrorCode::UNSUPPORTED_VERSION)
    );
}

#[tokio::test]
async fn offsets_are_deleted_in_the_old_encoding() {
    let connection = against(|mut stream| async move {
        let (correlation, request) = read_request(&mut stream).await;
        // Behind key, version and correlation: the client's id and no tagged fields, the group,
        // one topic with partitions 1 and 2.
        assert_eq!(
            request[8..],
            *b"\0\x08braidlog\0\x01g\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x01\0\0\0\x02"
        );
        let answer = b"\0\0\0\0\0\0\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\x01\0\0\0\0\0\x02\0\x56";
        stream.write_all(&frame(correlation, answer)).await.unwrap();
        let _ = stream.read_u8().await;
    })
    .await;
    let partitions = [("t".to_owned(), 1), ("t".to_owned(), 2)];
    let deleted = connection.offset_delete("g", &partitions).await.unwrap();
    assert_eq!(deleted.error, ErrorCode::NONE);
    assert_eq!(
        deleted.partitions,
        [
            ("t".to_owned(), 1, ErrorCode::NONE),
            ("t".to_owned(), 2, ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC)
        ]
    );
}

#[tokio::test]
async fn raw_bytes_go_out_as_they_are() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = FrameStream::connect(&address, Duration::from_secs(5), 100)
        .await
        .unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    client.send_raw(&[1, 2, 3]).await.unwrap();
    client.send(b"ab").await.unwrap();
    client.close_sending().await.unwrap();
    let mut all = Vec::new();
    server.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, [1, 2, 3, 0, 0, 0, 2, b'a', b'b']);
    server.write_all(&[0, 0, 0, 1, 9]).await.unwrap();
    drop(server);
    assert_eq!(
        client.receive().await.unwrap(),
        Some(Bytes::from_static(&[9]))
    );
    assert_eq!(client.receive().await.unwrap(), None);
}
