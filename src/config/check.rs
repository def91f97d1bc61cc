//! What is refused before anything starts.

use std::net::IpAddr;

use super::{Config, ConfigError, PEERS_PORT};

/// Most seeds.
const SEEDS_MAX: usize = 64;
/// Most fetch sessions: who gives way is looked for among all of them.
const FETCH_SESSIONS_MAX: usize = 100_000;
/// Longest election time-out; beyond it a lost leader is not missed in any useful time.
const ELECTION_MS_MAX: u64 = 60_000;
/// Most partitions of the topic of groups: a node follows each of its own with a task.
const OFFSETS_PARTITIONS_MAX: i32 = 1_000;
/// Longest note beside an offset: records hold no string of 32 KiB.
const OFFSET_METADATA_BYTES_MAX: u64 = 16 << 10;
/// Longest time of a group: what is gone for longer is not missed in any useful time.
const GROUP_PERIOD_MS_MAX: u64 = 24 * 3_600 * 1_000;

impl Config {
    /// Refuses what cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |key, reason: &str| {
            Err(ConfigError::Value {
                key,
                reason: reason.to_owned(),
            })
        };
        if self.node_id.is_some_and(|id| i32::try_from(id).is_err()) {
            return refuse("node_id", "must be at most 2147483647");
        }
        for (port, reason) in [
            (self.kafka.port, "moves kafka.port beyond 65535"),
            (self.peers.port, "moves peers.port beyond 65535"),
            (self.http.port, "moves http.port beyond 65535"),
        ] {
            if port != 0 && port.checked_add(self.port_offset).is_none() {
                return refuse("port_offset", reason);
            }
        }
        if is_every_address(&self.kafka.host) && self.kafka.advertised_host.is_none() {
            return refuse(
                "kafka.advertised_host",
                "must say where clients reach this node when kafka.host listens on every address",
            );
        }
        if self.kafka.frame_bytes_max.0 < 1024 || self.kafka.frame_bytes_max.0 > 0x7fff_ffff {
            return refuse("kafka.frame_bytes_max", "must be between 1KiB and 2GiB");
        }
        if self.kafka.inflight_bytes_max.0 / 4 < self.kafka.frame_bytes_max.0 {
            return refuse(
                "kafka.inflight_bytes_max",
                "must be at least 4 times kafka.frame_bytes_max",
            );
        }
        for (key, period) in [
            ("kafka.frame_time_max", self.kafka.frame_time_max),
            ("kafka.send_time_max", self.kafka.send_time_max),
        ] {
            if period.ms == 0 {
                return refuse(key, "must be above 0");
            }
        }
        if self.kafka.connections_max == 0 || self.kafka.connections_per_address_max == 0 {
            return refuse("kafka.connections_max", "must be at least 1");
        }
        if self.kafka.inflight_requests_per_connection_max == 0 {
            return refuse(
                "kafka.inflight_requests_per_connection_max",
                "must be at least 1",
            );
        }
        if self.kafka.fetch_sessions_max > FETCH_SESSIONS_MAX {
            let reason = format!("must be at most {FETCH_SESSIONS_MAX}");
            return refuse("kafka.fetch_sessions_max", &reason);
        }
        self.check_peers()?;
        self.check_groups()?;
        if self.http.connections_max == 0 {
            return refuse("http.connections_max", "must be at least 1");
        }
        if self.http.request_time_max.ms == 0 {
            return refuse("http.request_time_max", "must be above 0");
        }
        if self.topics.partitions < 1 {
            return refuse("topics.partitions", "must be at least 1");
        }
        if self.topics.replication_factor < 0 {
            return refuse("topics.replication_factor", "must be at least 0");
        }
        if !(1..=64).contains(&self.storage.shards) {
            return refuse("storage.shards", "must be between 1 and 64");
        }
        if self.storage.journal_file_bytes.0 < 1 << 20 {
            return refuse("storage.journal_file_bytes", "must be at least 1MiB");
        }
        if self.storage.open_files_max == 0 {
            return refuse("storage.open_files_max", "must be at least 1");
        }
        if self.storage.upkeep_interval.ms == 0 {
            return refuse("storage.upkeep_interval", "must be above 0");
        }
        Ok(())
    }

    fn check_groups(&self) -> Result<(), ConfigError> {
        let refuse = |key, reason: &str| {
            Err(ConfigError::Value {
                key,
                reason: reason.to_owned(),
            })
        };
        let groups = &self.groups;
        if !(1..=OFFSETS_PARTITIONS_MAX).contains(&groups.offsets_partitions) {
            return refuse("groups.offsets_partitions", "must be between 1 and 1000");
        }
        if groups.session_timeout_min.ms == 0
            || groups.session_timeout_min.ms > groups.session_timeout_max.ms
        {
            return refuse(
                "groups.session_timeout_min",
                "must be above 0 and at most groups.session_timeout_max",
            );
        }
        if groups.consumer_heartbeat_interval.ms == 0
            || groups.consumer_heartbeat_interval.ms >= groups.consumer_session_timeout.ms
        {
            return refuse(
                "groups.consumer_heartbeat_interval",
                "must be above 0 and below groups.consumer_session_timeout",
            );
        }
        for (key, value) in [
            ("groups.offsets_retention", groups.offsets_retention.ms),
            (
                "groups.offsets_retention_check_interval",
                groups.offsets_retention_check_interval.ms,
            ),
            ("groups.members_max", groups.members_max as u64),
            (
                "groups.consumer_members_max",
                groups.consumer_members_max as u64,
            ),
        ] {
            if value == 0 {
                return refuse(key, "must be above 0");
            }
        }
        if groups.offset_metadata_bytes_max.0 > OFFSET_METADATA_BYTES_MAX {
            return refuse("groups.offset_metadata_bytes_max", "must be at most 16KiB");
        }
        let is_known = |name: &String| name == "uniform" || name == "range";
        let is_twice = matches!(&groups.consumer_assignors[..], [one, other] if one == other);
        if !(1..=2).contains(&groups.consumer_assignors.len())
            || is_twice
            || !groups.consumer_assignors.iter().all(is_known)
        {
            return refuse(
                "groups.consumer_assignors",
                "must be `uniform` and `range`, in the order wanted, or one of them",
            );
        }
        for (key, period) in [
            ("groups.session_timeout_max", groups.session_timeout_max),
            (
                "groups.initial_rebalance_delay",
                groups.initial_rebalance_delay,
            ),
            (
                "groups.consumer_session_timeout",
                groups.consumer_session_timeout,
            ),
        ] {
            if period.ms > GROUP_PERIOD_MS_MAX {
                return refuse(key, "must be at most 1d");
            }
        }
        Ok(())
    }

    fn check_peers(&self) -> Result<(), ConfigError> {
        let refuse = |key, reason: String| Err(ConfigError::Value { key, reason });
        if self.seeds.len() > SEEDS_MAX {
            return refuse("seeds", format!("at most {SEEDS_MAX}"));
        }
        if let Some(seed) = self.seeds.iter().find(|seed| !is_address(seed)) {
            return refuse(
                "seeds",
                format!("`{seed}` is not of the form HOST:PORT, such as 10.0.0.1:{PEERS_PORT}"),
            );
        }
        let peers = &self.peers;
        if is_every_address(&peers.host)
            && peers.advertised_host.is_none()
            && self.kafka.advertised_host.is_none()
        {
            return refuse(
                "peers.advertised_host",
                "must say where other nodes reach this one when peers.host listens on every \
                 address"
                    .to_owned(),
            );
        }
        let tls = [&peers.tls_certificate, &peers.tls_key, &peers.tls_ca];
        let given = tls.iter().filter(|path| path.is_some()).count();
        if given != 0 && given != tls.len() {
            return refuse(
                "peers.tls_certificate",
                "needs peers.tls_key and peers.tls_ca beside it: all three or none".to_owned(),
            );
        }
        if peers.heartbeat.ms == 0 {
            return refuse("peers.heartbeat", "must be above 0".to_owned());
        }
        if peers.election_timeout_min.ms < 2 * peers.heartbeat.ms {
            return refuse(
                "peers.election_timeout_min",
                "must be at least twice peers.heartbeat".to_owned(),
            );
        }
        if peers.election_timeout_max.ms <= peers.election_timeout_min.ms {
            return refuse(
                "peers.election_timeout_max",
                "must be above peers.election_timeout_min".to_owned(),
            );
        }
        if peers.election_timeout_max.ms > ELECTION_MS_MAX {
            return refuse(
                "peers.election_timeout_max",
                format!("must be at most {}s", ELECTION_MS_MAX / 1000),
            );
        }
        Ok(())
    }
}

/// Listening there is listening everywhere: nobody can connect to it.
pub(super) fn is_every_address(host: &str) -> bool {
    host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified())
}

/// `host:port`, an IPv6 address in brackets.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let is_bare_v6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    let is_port = port.parse::<u16>().is_ok_and(|port| port != 0);
    let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
    is_port && is_host && !is_bare_v6
}
