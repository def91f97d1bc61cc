use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use super::*;

/// Something must come within this time, on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// Nothing may come within this time.
const A_WHILE: Duration = Duration::from_millis(300);

/// Network namespaces, where they can be made.
fn netns() -> Option<Net> {
    match Net::make(Isolate::Netns, 2, 1) {
        Ok(net) => Some(net),
        Err(error) => {
            eprintln!("NOT RUN: {error}");
            None
        }
    }
}

fn cut(links: &[Link], clients: &[(u32, NodeId)]) -> Cut {
    Cut {
        links: links.iter().copied().collect(),
        clients: clients.iter().copied().collect(),
    }
}

/// The links of all over which something comes, tried until it is as expected.
fn passing(net: &Net, expected: &[Link]) -> Vec<Link> {
    let nodes = [1, 2, 3];
    let each = nodes.iter().flat_map(|a| nodes.iter().map(|b| (*a, *b)));
    let all: Vec<Link> = each.filter(|(a, b)| a != b).collect();
    let mut passed = Vec::new();
    for _ in 0..20 {
        passed = net.probe(&all).unwrap().passed.into_keys().collect();
        if passed == expected {
            break;
        }
    }
    passed
}

#[test]
fn in_namespaces_exactly_the_links_are_cut_that_should_be() {
    let Some(net) = netns() else { return };
    for node in 1..=3 {
        net.add(node).unwrap();
    }
    let all = [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)];
    assert_eq!(passing(&net, &all), all);
    let one_way = net.cut(cut(&[(1, 2)], &[]));
    let rest = [(1, 3), (2, 1), (2, 3), (3, 1), (3, 2)];
    assert_eq!(passing(&net, &rest), rest);
    let other = net.cut(cut(&[(3, 1), (3, 2)], &[]));
    assert_eq!(
        passing(&net, &[(1, 3), (2, 1), (2, 3)]),
        [(1, 3), (2, 1), (2, 3)]
    );
    net.undo(one_way);
    let rest = [(1, 2), (1, 3), (2, 1), (2, 3)];
    assert_eq!(passing(&net, &rest), rest);
    assert!(net.dropped(&[(3, 1)]).unwrap() > 0);
    assert_eq!(net.dropped(&[(2, 3)]), Some(0));
    net.undo(other);
    assert_eq!(passing(&net, &all), all);
}

#[test]
fn in_namespaces_packets_are_as_late_as_they_should_be() {
    let Some(net) = netns() else { return };
    for node in 1..=3 {
        net.add(node).unwrap();
    }
    let shape = Shape {
        delay: Duration::from_millis(100),
        jitter: Duration::from_millis(20),
        loss_per_mille: 100,
    };
    let id = net.shape(BTreeSet::from([1]), shape);
    let way = |net: &Net, link| {
        let deadline = std::time::Instant::now() + SOON;
        loop {
            let passed = net.probe(&[link]).unwrap().passed;
            if let Some(way) = passed.get(&link) {
                return way.unwrap();
            }
            assert!(std::time::Instant::now() < deadline);
        }
    };
    assert!(way(&net, (1, 2)) >= shape.delay);
    assert!(way(&net, (3, 1)) >= shape.delay);
    net.undo(id);
    let deadline = std::time::Instant::now() + SOON;
    while way(&net, (1, 2)) >= shape.delay {
        assert!(std::time::Instant::now() < deadline);
    }
}

#[test]
fn a_client_in_its_namespace_reaches_what_its_node_reaches_and_nothing_else_is_there() {
    let Some(net) = netns() else { return };
    let Net::Netns(inner) = &net else { return };
    for node in 1..=2 {
        net.add(node).unwrap();
    }
    let address = |client, node| net.kafka(client, node).unwrap();
    // On one thread per namespace: a listener in each node's, the clients here.
    let listeners: Vec<TcpListener> = [1, 2].map(|node| inner.listener(node, 9_092)).into();
    std::thread::scope(|scope| {
        let there = scope.spawn(|| {
            net.enter().unwrap();
            let dial = |address: String, within| {
                let address = address.parse().unwrap();
                TcpStream::connect_timeout(&address, within).is_ok()
            };
            let reaches = |client, node| dial(address(client, node), SOON);
            assert!(reaches(0, 1) && reaches(0, 2) && reaches(1, 2));
            net.cut(cut(&[(1, 2), (2, 1)], &[(0, 1)]));
            assert!(reaches(0, 1));
            assert!(!dial(address(0, 2), A_WHILE));
            assert!(reaches(1, 2));
            // The harness, and a client that nobody announced.
            assert!(reaches(77, 2) && reaches(u32::MAX, 2));
            // No way out.
            assert!(!dial("192.0.2.1:80".to_owned(), A_WHILE));
            net.heal();
            assert!(reaches(0, 2));
        });
        there.join().unwrap();
    });
    drop(listeners);
}

/// A node's listener for others, that tells what it hears, and answers each byte with one.
fn echo(address: &str) -> mpsc::Receiver<u8> {
    let listener = TcpListener::bind(address).unwrap();
    let (heard, told) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (mut from, heard) = (stream, heard.clone());
            std::thread::spawn(move || {
                let mut byte = [0];
                while from.read_exact(&mut byte).is_ok() {
                    if heard.send(byte[0]).is_err() || from.write_all(&byte).is_err() {
                        return;
                    }
                }
            });
        }
    });
    told
}

fn port(addresses: &Addresses, key: &str) -> String {
    let found = addresses.settings.iter().find_map(|s| s.strip_prefix(key));
    format!("127.0.0.1:{}", found.unwrap())
}

fn next(told: &mpsc::Receiver<u8>) -> u8 {
    told.recv_timeout(SOON).unwrap()
}

/// The first bytes of what node 2 says to another.
const HELLO_OF_2: [u8; 13] = *b"BRDL\x01\0\x20\0\x01\x02\0\0\0";

#[test]
fn on_loopback_bytes_wait_one_way_while_a_link_is_cut_and_go_on_after_it() {
    let net = Net::make(Isolate::Loopback, 1, 1).unwrap();
    let addresses = net.add(1).unwrap();
    let told = echo(&port(&addresses, "peers.port="));
    let mut dialled = TcpStream::connect(&addresses.peers).unwrap();
    dialled.write_all(&HELLO_OF_2).unwrap();
    for byte in HELLO_OF_2 {
        assert_eq!(next(&told), byte);
    }
    dialled.set_read_timeout(Some(SOON)).unwrap();
    let mut answer = [0; 13];
    dialled.read_exact(&mut answer).unwrap();
    let forth = net.cut(cut(&[(2, 1)], &[]));
    dialled.write_all(b"x").unwrap();
    assert!(told.recv_timeout(A_WHILE).is_err());
    assert!(net.probe(&[(2, 1)]).unwrap().passed.is_empty());
    net.undo(forth);
    assert_eq!(next(&told), b'x');
    // The answer to `x` has come; the one to `y` is cut off.
    dialled.read_exact(&mut answer[..1]).unwrap();
    net.cut(cut(&[(1, 2)], &[]));
    dialled.write_all(b"y").unwrap();
    assert_eq!(next(&told), b'y');
    dialled.set_read_timeout(Some(A_WHILE)).unwrap();
    assert!(dialled.read_exact(&mut answer[..1]).is_err());
    net.heal();
    dialled.set_read_timeout(Some(SOON)).unwrap();
    dialled.read_exact(&mut answer[..1]).unwrap();
    assert_eq!(answer[0], b'y');
}

#[test]
fn on_loopback_a_client_has_an_address_of_its_own_that_can_be_cut_off() {
    let net = Net::make(Isolate::Loopback, 2, 1).unwrap();
    let addresses = net.add(1).unwrap();
    let told = echo(&port(&addresses, "kafka.port="));
    let [mut one, mut other] =
        [0, 1].map(|client| TcpStream::connect(net.kafka(client, 1).unwrap()).unwrap());
    // Client 0 is with node 2, which does not reach node 1.
    net.cut(cut(&[(1, 2), (2, 1)], &[(0, 2)]));
    one.write_all(b"a").unwrap();
    other.write_all(b"b").unwrap();
    assert_eq!(next(&told), b'b');
    assert!(told.recv_timeout(A_WHILE).is_err());
    net.heal();
    assert_eq!(next(&told), b'a');
}

#[test]
fn on_loopback_bytes_are_late_but_in_order() {
    let net = Net::make(Isolate::Loopback, 1, 1).unwrap();
    let addresses = net.add(1).unwrap();
    let told = echo(&port(&addresses, "peers.port="));
    let delay = Duration::from_millis(50);
    net.shape(
        BTreeSet::from([1]),
        Shape {
            delay,
            jitter: delay,
            loss_per_mille: 0,
        },
    );
    let mut dialled = TcpStream::connect(&addresses.peers).unwrap();
    let begun = std::time::Instant::now();
    dialled.write_all(&HELLO_OF_2).unwrap();
    assert_eq!(next(&told), HELLO_OF_2[0]);
    assert!(begun.elapsed() >= delay, "{:?}", begun.elapsed());
    for expected in &HELLO_OF_2[1..] {
        assert_eq!(next(&told), *expected);
    }
    for byte in 0..50 {
        dialled.write_all(&[byte]).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    for byte in 0..50 {
        assert_eq!(next(&told), byte);
    }
}

#[test]
fn isolation_is_read_by_name() {
    assert_eq!("netns".parse(), Ok(Isolate::Netns));
    assert_eq!("loopback".parse(), Ok(Isolate::Loopback));
    assert!("chroot".parse::<Isolate>().is_err());
}
