//! Links between nodes over real sockets: who is let in, who is not and why, and what a node sees
//! of the others.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use raft::{
    Caller, Lane, LinkError, PeerIdentity, PeerMember, PeerService, PeerTls, Peers, PeersConfig,
    PeersError, RefusedReason,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use storage::NodeId;
use storage::clock::Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(30);
const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const THREE: NodeId = NodeId(3);

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Answers with who asked and what.
struct Parrot;

impl PeerService for Parrot {
    fn ask(&self, from: Caller, request: Bytes) -> BoxFuture<'static, Bytes> {
        async move {
            let from = match from {
                Caller::Member(node) => format!("{node}: "),
                Caller::Stranger(_) => "stranger: ".to_owned(),
            };
            [from.as_bytes(), &request].concat().into()
        }
        .boxed()
    }
}

fn incarnation(node: NodeId) -> [u8; 16] {
    [u8::try_from(node.0).unwrap(); 16]
}

fn identity(node: NodeId) -> PeerIdentity {
    PeerIdentity {
        cluster_id: "test".to_owned(),
        node,
        incarnation: incarnation(node),
    }
}

fn member(node: NodeId, address: SocketAddr) -> PeerMember {
    PeerMember {
        host: address.ip().to_string(),
        port: address.port(),
        incarnation: incarnation(node),
    }
}

fn settings() -> PeersConfig {
    let mut config = PeersConfig::new(loopback());
    config.connect_timeout_ms = 5_000;
    config
}

async fn bind(config: PeersConfig) -> Peers {
    Peers::bind(config, Clock::system()).await.unwrap()
}

/// A node that serves.
async fn node(node: NodeId, config: PeersConfig) -> Peers {
    let peers = bind(config).await;
    peers.serve(Arc::new(Parrot));
    peers.set_identity(identity(node));
    peers
}

fn introduce(all: &[(NodeId, &Peers)]) {
    let members: BTreeMap<_, _> = all
        .iter()
        .map(|(node, peers)| (*node, member(*node, peers.local_addr())))
        .collect();
    for (_, peers) in all {
        peers.set_members(members.clone());
    }
}

async fn linked(peers: &Peers, node: NodeId) {
    let mut links = peers.links();
    let linked = links.wait_for(|links| links.get(&node).is_some_and(|link| link.connected));
    timeout(LONG, linked).await.unwrap().unwrap();
}

/// Waits for a refusal and returns its reason and sentence.
async fn refusal(peers: &Peers, node: NodeId) -> (RefusedReason, String) {
    let mut links = peers.links();
    let refused = links.wait_for(|links| {
        links
            .get(&node)
            .is_some_and(|link| !link.connected && link.refused.is_some())
    });
    let links = timeout(LONG, refused).await.unwrap().unwrap();
    let refusal = links[&node].refused.clone().unwrap();
    (refusal.reason, refusal.sentence)
}

async fn ask(peers: &Peers, node: NodeId, lane: Lane) -> Result<Bytes, LinkError> {
    let asked = peers.ask(node, lane, Bytes::from_static(b"hey"), LONG);
    timeout(LONG, asked).await.unwrap()
}

async fn ask_stranger(peers: &Peers, address: SocketAddr) -> Result<Bytes, LinkError> {
    let address = address.to_string();
    let asked = peers.ask_stranger(&address, Bytes::from_static(b"hey"), LONG);
    timeout(LONG, asked).await.unwrap()
}

#[tokio::test]
async fn members_answer_each_other() {
    let (one, two) = (node(ONE, settings()).await, node(TWO, settings()).await);
    introduce(&[(ONE, &one), (TWO, &two)]);
    for lane in [Lane::Control, Lane::Data, Lane::Bulk] {
        assert_eq!(ask(&one, TWO, lane).await.unwrap(), "1: hey");
        assert_eq!(ask(&two, ONE, lane).await.unwrap(), "2: hey");
        assert_eq!(ask(&two, TWO, lane).await.unwrap(), "2: hey");
    }
    linked(&one, TWO).await;
    one.shutdown().await;
    assert_eq!(
        ask(&one, TWO, Lane::Bulk).await,
        Err(LinkError::ShuttingDown)
    );
    two.shutdown().await;
}

#[tokio::test]
async fn strangers_are_answered_before_anybody_knows_who_he_is() {
    let (one, two) = (bind(settings()).await, bind(settings()).await);
    let address = two.local_addr();
    assert_eq!(
        ask_stranger(&one, address).await,
        Err(LinkError::NotServing)
    );
    two.serve(Arc::new(Parrot));
    assert_eq!(ask_stranger(&one, address).await.unwrap(), "stranger: hey");
    let name = format!("localhost:{}", address.port());
    let asked = one
        .ask_stranger(&name, Bytes::from_static(b"hey"), LONG)
        .await;
    assert_eq!(asked.unwrap(), "stranger: hey");
    for unusable in ["nonsense", "host:port", ":"] {
        let asked = one.ask_stranger(unusable, Bytes::new(), LONG).await;
        assert!(
            matches!(asked, Err(LinkError::Unreachable { .. })),
            "{asked:?}"
        );
    }
    // A member is not let in by who does not know itself.
    one.set_identity(identity(ONE));
    one.set_members(BTreeMap::from([(TWO, member(TWO, address))]));
    assert_eq!(refusal(&one, TWO).await.0, RefusedReason::NotReady);
    two.set_identity(identity(TWO));
    // It has no list yet: anybody of its cluster is let in.
    linked(&one, TWO).await;
}

#[tokio::test]
async fn each_wrong_word_is_refused_and_the_reason_is_shown() {
    let two = node(TWO, settings()).await;
    let there = two.local_addr();
    two.set_members(BTreeMap::from([
        (TWO, member(TWO, there)),
        (ONE, member(ONE, loopback())),
    ]));
    for (expected, words, change) in [
        (
            RefusedReason::WrongCluster,
            "belongs to cluster test",
            (|own, _| own.cluster_id = "another".to_owned())
                as fn(&mut PeerIdentity, &mut BTreeMap<NodeId, PeerMember>),
        ),
        (
            RefusedReason::UnknownNode,
            "node 4 is not a member",
            |own, _| own.node = NodeId(4),
        ),
        (
            RefusedReason::WrongIncarnation,
            "node 1 is listed with another data directory",
            |own, _| own.incarnation = [9; 16],
        ),
        (
            RefusedReason::NotThatNode,
            "this is node 2, not 3",
            |_, members| {
                let two = members.remove(&TWO).unwrap();
                members.insert(THREE, two);
            },
        ),
        (
            RefusedReason::WrongIncarnation,
            "node 2 runs on another data directory",
            |_, members| members.get_mut(&TWO).unwrap().incarnation = [9; 16],
        ),
    ] {
        let mut own = identity(ONE);
        let mut members = BTreeMap::from([(TWO, member(TWO, there))]);
        change(&mut own, &mut members);
        let asked = *members.keys().next().unwrap();
        let one = bind(settings()).await;
        one.set_identity(own);
        one.set_members(members);
        let (reason, sentence) = refusal(&one, asked).await;
        assert_eq!(reason, expected);
        assert!(sentence.contains(words), "{sentence}");
        let error = ask(&one, asked, Lane::Bulk).await.unwrap_err();
        assert!(matches!(&error, LinkError::Refused(refusal) if refusal.reason == expected));
    }
}

/// The head of a hello or welcome, and what follows.
fn first_words(version: u16, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"BRDL".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(u16::try_from(rest.len()).unwrap().to_le_bytes());
    bytes.extend(rest);
    bytes
}

#[tokio::test]
async fn another_version_is_refused_in_words_that_every_version_reads() {
    let two = node(TWO, settings()).await;
    let mut stream = TcpStream::connect(two.local_addr()).await.unwrap();
    let hello = first_words(9, b"whatever version 9 says");
    stream.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    timeout(LONG, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(answer[..4], *b"BRDL");
    assert_eq!(answer[8], 2);
    let sentence = std::str::from_utf8(&answer[29..]).unwrap();
    assert_eq!(sentence, "this node speaks version 1, the caller 9");

    // And a node of version 9 refuses one of ours.
    let listener = TcpListener::bind(loopback()).await.unwrap();
    let there = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut rest = vec![2];
            rest.extend([0; 20]);
            rest.extend(b"only version 9 is spoken here");
            stream.write_all(&first_words(9, &rest)).await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let one = node(ONE, settings()).await;
    one.set_members(BTreeMap::from([(TWO, member(TWO, there))]));
    let (reason, sentence) = refusal(&one, TWO).await;
    assert_eq!(reason, RefusedReason::WrongVersion);
    assert_eq!(sentence, "only version 9 is spoken here");
}

/// Node 1's words for a control connection to node 2.
fn hello() -> Vec<u8> {
    let mut rest = vec![0];
    rest.extend(1_u32.to_le_bytes());
    rest.extend(incarnation(ONE));
    rest.extend(2_u32.to_le_bytes());
    rest.extend(incarnation(TWO));
    rest.extend([77; 16]);
    rest.extend(b"test");
    first_words(1, &rest)
}

#[tokio::test]
async fn garbage_costs_its_sender_the_connection_and_nobody_else_anything() {
    let (one, two) = (node(THREE, settings()).await, node(TWO, settings()).await);
    introduce(&[(THREE, &one), (TWO, &two)]);
    two.set_removed(BTreeSet::new());
    linked(&one, TWO).await;
    let huge = [&hello()[..], &u32::MAX.to_le_bytes()].concat();
    let garbled = [&hello()[..], &21_u32.to_le_bytes(), &[7; 25]].concat();
    for garbage in [
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(),
        vec![0; 100],
        vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc],
        first_words(1, b"too short"),
        [b"BRDL".as_slice(), &[1, 0, 255, 255]].concat(),
        huge,
        garbled,
    ] {
        let mut stream = TcpStream::connect(two.local_addr()).await.unwrap();
        stream.write_all(&garbage).await.unwrap();
        let mut answer = Vec::new();
        // The end may come as a reset, when more was sent than was read.
        let _ = timeout(LONG, stream.read_to_end(&mut answer))
            .await
            .unwrap();
        assert!(answer.len() < 100);
    }
    assert_eq!(ask(&one, TWO, Lane::Control).await.unwrap(), "3: hey");
}

#[tokio::test]
async fn who_says_no_hello_is_cut_off() {
    let two = node(TWO, settings()).await;
    let mut stream = TcpStream::connect(two.local_addr()).await.unwrap();
    stream.write_all(b"BRDL").await.unwrap();
    let ended = timeout(LONG, stream.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
}

#[tokio::test]
async fn connections_are_limited() {
    let mut config = settings();
    config.connections_max = 3;
    let two = node(TWO, config).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpStream::connect(two.local_addr()).await.unwrap());
    }
    let mut one_more = TcpStream::connect(two.local_addr()).await.unwrap();
    let ended = timeout(LONG, one_more.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_member_that_left_or_moved_is_dropped_and_dialled_anew() {
    let (one, two) = (node(ONE, settings()).await, node(TWO, settings()).await);
    introduce(&[(ONE, &one), (TWO, &two)]);
    linked(&one, TWO).await;
    linked(&two, ONE).await;
    // Node 2 is started elsewhere, and the list says so.
    let moved = node(TWO, settings()).await;
    introduce(&[(ONE, &one), (TWO, &moved)]);
    linked(&one, TWO).await;
    two.shutdown().await;
    linked(&moved, ONE).await;
    assert_eq!(ask(&one, TWO, Lane::Control).await.unwrap(), "1: hey");
    // Node 1 takes node 2 from the list: no link stands, and none is let in.
    one.set_members(BTreeMap::from([(ONE, member(ONE, one.local_addr()))]));
    assert!(one.links().borrow().is_empty());
    let error = ask(&one, TWO, Lane::Control).await.unwrap_err();
    assert_eq!(error, LinkError::NotAMember { node: TWO });
    assert_eq!(refusal(&moved, ONE).await.0, RefusedReason::UnknownNode);
    // With the removed known, the refusal tells the way out; others may be newer than the list.
    one.set_removed(BTreeSet::from([TWO]));
    let three = node(THREE, settings()).await;
    three.set_members(BTreeMap::from([(ONE, member(ONE, one.local_addr()))]));
    linked(&three, ONE).await;
    let mut links = moved.links();
    let told = links.wait_for(|links| {
        let refused = links[&ONE].refused.as_ref();
        refused.is_some_and(|refusal| refusal.sentence.contains("join as a new node"))
    });
    timeout(LONG, told).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_process_that_is_gone_is_named_at_once_and_found_again() {
    let (one, two) = (node(ONE, settings()).await, node(TWO, settings()).await);
    introduce(&[(ONE, &one), (TWO, &two)]);
    linked(&one, TWO).await;
    let mut gone = one.gone();
    let address = two.local_addr();
    drop(two);
    let named = timeout(LONG, gone.recv()).await.unwrap();
    assert_eq!(named, Ok(TWO));
    assert!(!one.links().borrow()[&TWO].connected);
    let mut config = settings();
    config.listen = address;
    let _again = node(TWO, config).await;
    linked(&one, TWO).await;
    assert_eq!(ask(&one, TWO, Lane::Bulk).await.unwrap(), "1: hey");
    assert!(gone.try_recv().is_err());
}

async fn refused_for(peers: &Peers, node: NodeId, reason: RefusedReason) -> String {
    let mut links = peers.links();
    let refused = links.wait_for(|links| {
        let refused = links.get(&node).and_then(|link| link.refused.as_ref());
        refused.is_some_and(|refusal| refusal.reason == reason)
    });
    let links = timeout(LONG, refused).await.unwrap().unwrap();
    links[&node].refused.clone().unwrap().sentence
}

#[tokio::test]
async fn a_second_process_of_a_node_is_refused_until_the_first_is_gone() {
    let mut config = settings();
    config.silence_ms = 1_500;
    let (one, two) = (
        node(ONE, config.clone()).await,
        node(TWO, config.clone()).await,
    );
    introduce(&[(ONE, &one), (TWO, &two)]);
    linked(&one, TWO).await;
    let since_ms = one.links().borrow()[&TWO].since_ms;
    let copy = node(ONE, config).await;
    copy.set_members(BTreeMap::from([(TWO, member(TWO, two.local_addr()))]));
    let sentence = refused_for(&copy, TWO, RefusedReason::RunsTwice).await;
    assert!(
        sentence.contains("another process runs as node 1"),
        "{sentence}"
    );
    let asked = ask(&copy, TWO, Lane::Bulk).await.unwrap_err();
    assert!(
        matches!(&asked, LinkError::Refused(refusal) if refusal.reason == RefusedReason::RunsTwice)
    );
    // The first never lost its link.
    assert_eq!(ask(&one, TWO, Lane::Control).await.unwrap(), "1: hey");
    let link = one.links().borrow()[&TWO].clone();
    assert!(link.connected && link.since_ms == since_ms, "{link:?}");
    one.shutdown().await;
    linked(&copy, TWO).await;
    assert_eq!(ask(&copy, TWO, Lane::Data).await.unwrap(), "1: hey");
}

#[tokio::test]
async fn a_process_whose_connection_fell_silent_makes_room_for_its_successor() {
    let mut config = settings();
    config.silence_ms = 600;
    let two = node(TWO, config).await;
    // As after a cut cable: nothing comes any more, no end either.
    let mut silent = TcpStream::connect(two.local_addr()).await.unwrap();
    silent.write_all(&hello()).await.unwrap();
    silent.read_exact(&mut [0; 29]).await.unwrap();
    let one = node(ONE, settings()).await;
    one.set_members(BTreeMap::from([(TWO, member(TWO, two.local_addr()))]));
    let linking = timeout(LONG, linked(&one, TWO));
    linking.await.unwrap();
    let ended = timeout(LONG, silent.read(&mut [0; 8])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)));
}

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    fn certify(&self, host: &str) -> PeerTls {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        PeerTls {
            certificate_chain_pem: certificate.pem().into_bytes(),
            key_pem: key.serialize_pem().into_bytes(),
            ca_pem: self.pem.clone().into_bytes(),
        }
    }
}

fn secured(tls: PeerTls) -> PeersConfig {
    PeersConfig {
        tls: Some(tls),
        ..settings()
    }
}

#[tokio::test]
async fn nodes_of_one_authority_speak_tls() {
    let authority = Authority::new();
    let tls = || secured(authority.certify("127.0.0.1"));
    let (one, two) = (node(ONE, tls()).await, node(TWO, tls()).await);
    introduce(&[(ONE, &one), (TWO, &two)]);
    for lane in [Lane::Control, Lane::Data, Lane::Bulk] {
        assert_eq!(ask(&one, TWO, lane).await.unwrap(), "1: hey");
        let large = Bytes::from(vec![7; 3 << 20]);
        let answer = one.ask(TWO, lane, large.clone(), LONG).await.unwrap();
        assert_eq!(answer[3..], large);
    }
    let stranger = bind(tls()).await;
    let asked = ask_stranger(&stranger, two.local_addr()).await;
    assert_eq!(asked.unwrap(), "stranger: hey");
}

#[tokio::test]
async fn tls_of_another_authority_or_host_or_none_is_refused() {
    let authority = Authority::new();
    let two = node(TWO, secured(authority.certify("127.0.0.1"))).await;
    let plain = node(THREE, settings()).await;
    let misnamed = node(THREE, secured(authority.certify("elsewhere"))).await;
    for (asked, there, config) in [
        (TWO, &two, secured(Authority::new().certify("127.0.0.1"))),
        (TWO, &two, settings()),
        (THREE, &plain, secured(authority.certify("127.0.0.1"))),
        (THREE, &misnamed, secured(authority.certify("127.0.0.1"))),
    ] {
        let one = node(ONE, config).await;
        one.set_members(BTreeMap::from([(asked, member(asked, there.local_addr()))]));
        let (reason, sentence) = refusal(&one, asked).await;
        assert_eq!(reason, RefusedReason::Tls, "{sentence}");
        let asked = ask_stranger(&one, there.local_addr()).await;
        assert!(matches!(asked, Err(LinkError::Refused(_))), "{asked:?}");
    }
    // A certificate that this side would trust, but not the other.
    let mut tls = Authority::new().certify("127.0.0.1");
    tls.ca_pem = authority.pem.clone().into_bytes();
    let one = node(ONE, secured(tls)).await;
    one.set_members(BTreeMap::from([(TWO, member(TWO, two.local_addr()))]));
    let (reason, sentence) = refusal(&one, TWO).await;
    assert_eq!(reason, RefusedReason::Tls, "{sentence}");
}

#[tokio::test]
async fn unusable_settings_do_not_start() {
    let taken = bind(settings()).await;
    let mut config = settings();
    config.listen = taken.local_addr();
    let bound = Peers::bind(config, Clock::system()).await;
    assert!(matches!(bound, Err(PeersError::Listen { .. })));
    let mut tls = Authority::new().certify("127.0.0.1");
    tls.key_pem = b"no key".to_vec();
    let bound = Peers::bind(secured(tls), Clock::system()).await;
    assert!(matches!(bound, Err(PeersError::Tls(_))));
    let mut config = settings();
    config.frame_bytes_max = 0;
    let bound = Peers::bind(config, Clock::system()).await;
    assert!(matches!(bound, Err(PeersError::Config { .. })));
}
