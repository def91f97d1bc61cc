//! What a broker says it offers, and who coordinates a group: ApiVersions and FindCoordinator, both
//! version 0, by hand.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::client::Protocol;

const LIMIT: Duration = Duration::from_secs(10);
const FIND_COORDINATOR: u16 = 10;
const API_VERSIONS: u16 = 18;
/// How long a group may be without a coordinator.
const COORDINATOR_LIMIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// An answer is a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// OffsetCommit, OffsetFetch, FindCoordinator; JoinGroup, Heartbeat, LeaveGroup, SyncGroup.
const CLASSIC: [u16; 7] = [8, 9, 10, 11, 12, 13, 14];
/// The first three of these, and ConsumerGroupHeartbeat.
const CONSUMER: [u16; 4] = [8, 9, 10, 68];

/// The keys of the APIs that a broker offers.
pub(crate) struct Offered(BTreeSet<u16>);

impl Offered {
    /// Asks the first of these addresses.
    pub(crate) fn by(bootstrap: &str) -> Result<Self, String> {
        let address = bootstrap.split(',').next().unwrap_or(bootstrap);
        let asked = ask(address, API_VERSIONS, &[]);
        let answer = asked.map_err(|problem| format!("cannot ask for ApiVersions: {problem}"))?;
        keys(&answer)
            .map(Self)
            .ok_or_else(|| "an odd answer to ApiVersions".to_owned())
    }

    /// Whether groups of this protocol are offered; else why not.
    pub(crate) fn groups(&self, protocol: Protocol) -> Result<(), String> {
        let needed = match protocol {
            Protocol::Classic => &CLASSIC[..],
            Protocol::Consumer => &CONSUMER[..],
        };
        let missing = needed.iter().filter(|key| !self.0.contains(key));
        let missing: Vec<String> = missing.map(u16::to_string).collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(format!(
                "group APIs are not advertised (keys {})",
                missing.join(", ")
            )),
        }
    }
}

/// The node that coordinates a group.
pub(crate) fn coordinator(bootstrap: &str, group: &str) -> Result<u32, String> {
    let length = u16::try_from(group.len()).map_err(|e| e.to_string())?;
    let body = [&length.to_be_bytes()[..], group.as_bytes()].concat();
    let deadline = Instant::now() + COORDINATOR_LIMIT;
    loop {
        let mut answers = bootstrap
            .split(',')
            .map(|address| ask(address, FIND_COORDINATOR, &body));
        if let Some(node) = answers.find_map(|answer| found_node(&answer.ok()?)) {
            return Ok(node);
        }
        if Instant::now() > deadline {
            return Err(format!("nobody coordinates group {group}"));
        }
        sleep(POLL_INTERVAL);
    }
}

/// Correlation id, error, node, host, port.
fn found_node(answer: &[u8]) -> Option<u32> {
    match answer.get(4..6)? {
        [0, 0] => Some(u32::from_be_bytes(answer.get(6..10)?.try_into().ok()?)),
        _ => None,
    }
}

fn ask(address: &str, api: u16, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let address = address.to_socket_addrs()?.next();
    let address = address.ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let client = b"interop";
    let mut request = Vec::new();
    request.extend(api.to_be_bytes());
    request.extend([0, 0]); // version
    request.extend([0, 0, 0, 1]); // correlation id
    request.extend([0, 7]);
    request.extend(client);
    request.extend(body);
    let length = u32::try_from(request.len()).map_err(std::io::Error::other)?;
    stream.write_all(&length.to_be_bytes())?;
    stream.write_all(&request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; (u32::from_be_bytes(length) as usize).min(ANSWER_BYTES_MAX)];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// Correlation id, error, count, then key, lowest and highest version each.
fn keys(answer: &[u8]) -> Option<BTreeSet<u16>> {
    let number = |at: usize| Some(u16::from_be_bytes([*answer.get(at)?, *answer.get(at + 1)?]));
    if number(4)? != 0 {
        return None;
    }
    let count = u32::from_be_bytes(answer.get(6..10)?.try_into().ok()?);
    (0..count as usize).map(|at| number(10 + 6 * at)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_missing_ones_named() {
        let mut answer = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 4];
        for key in [8_u8, 9, 10, 68] {
            answer.extend([0, key, 0, 0, 0, 9]);
        }
        let offered = Offered(keys(&answer).unwrap());
        assert_eq!(offered.groups(Protocol::Consumer), Ok(()));
        let why = offered.groups(Protocol::Classic).unwrap_err();
        assert_eq!(why, "group APIs are not advertised (keys 11, 12, 13, 14)");
        assert!(keys(&answer[..20]).is_none());
        answer[5] = 35;
        assert!(keys(&answer).is_none());
    }

    #[test]
    fn a_coordinator_is_a_node_without_an_error() {
        let mut answer = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, 3, 0, 1, b'h', 0, 0, 0x23, 0x84];
        assert_eq!(found_node(&answer), Some(3));
        answer[5] = 15;
        assert_eq!(found_node(&answer), None);
        assert_eq!(found_node(&answer[..5]), None);
    }
}
