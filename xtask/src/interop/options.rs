//! The command line of `cargo xtask interop`.

use std::path::PathBuf;

use super::client::Protocol;
use super::{CLIENTS, FAULTS_QUICK, SLOWEST};

/// The fewest nodes of which one can be lost.
const NODES_TO_LOSE_ONE: usize = 3;

/// What answers the clients.
#[derive(PartialEq, Eq)]
pub(crate) enum Peer {
    /// Nodes of ours, started here.
    Braidlog,
    /// Apache Kafka, installed and started here.
    Kafka,
    /// Whatever listens on the address given by `--bootstrap`.
    Running,
}

/// What was asked for.
pub(crate) struct Options {
    /// The small large file.
    pub(crate) is_quick: bool,
    /// The binary to start instead of building one.
    pub(crate) binary: Option<PathBuf>,
    /// The address of a broker that runs already.
    pub(crate) bootstrap: Option<String>,
    /// What to start.
    pub(crate) peer: Peer,
    /// How many nodes of ours.
    pub(crate) nodes: usize,
    /// Nothing but what is sent under faults.
    pub(crate) is_faults_only: bool,
    /// Nothing but groups.
    pub(crate) is_groups_only: bool,
    /// Nothing but the crowd.
    pub(crate) is_crowd: bool,
    /// The crowd in this protocol alone.
    pub(crate) protocol: Option<Protocol>,
    /// Every client, against one node and against three.
    pub(crate) is_all: bool,
    /// Where the matrix is written.
    pub(crate) matrix: Option<PathBuf>,
    only: Vec<String>,
}

impl Options {
    /// Reads the arguments after `interop`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self {
            is_quick: false,
            binary: None,
            bootstrap: None,
            peer: Peer::Braidlog,
            nodes: 1,
            is_faults_only: false,
            is_groups_only: false,
            is_crowd: false,
            protocol: None,
            is_all: false,
            matrix: None,
            only: Vec::new(),
        };
        let mut nodes = None;
        let mut arguments = arguments.iter();
        while let Some(flag) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .cloned()
                    .ok_or_else(|| format!("{flag} needs a value"))
            };
            match flag.as_str() {
                "--quick" => options.is_quick = true,
                "--all" => options.is_all = true,
                "--faults" => options.is_faults_only = true,
                "--groups" => options.is_groups_only = true,
                "--crowd" => options.is_crowd = true,
                "--protocol" => match value()?.as_str() {
                    "classic" => options.protocol = Some(Protocol::Classic),
                    "consumer" => options.protocol = Some(Protocol::Consumer),
                    other => return Err(format!("no such protocol: {other}")),
                },
                "--matrix" => options.matrix = Some(value()?.into()),
                "--bin" => options.binary = Some(value()?.into()),
                "--bootstrap" => {
                    options.bootstrap = Some(value()?);
                    options.peer = Peer::Running;
                }
                "--nodes" => {
                    let count = value()?;
                    nodes = match count.parse() {
                        Ok(count @ 1..=9) => Some(count),
                        _ => return Err(format!("1 to 9 nodes, not {count}")),
                    };
                }
                "--peer" => match value()?.as_str() {
                    "kafka" => options.peer = Peer::Kafka,
                    other => return Err(format!("no such peer: {other}")),
                },
                "--only" => {
                    let name = value()?;
                    let known = [&CLIENTS[..], &SLOWEST].concat();
                    if !known.contains(&name.as_str()) {
                        return Err(format!("no such client: {name} (one of {known:?})"));
                    }
                    options.only.push(name);
                }
                other => return Err(format!("interop has no option {other}")),
            }
        }
        options.nodes = nodes.unwrap_or(match options.is_crowd {
            true => NODES_TO_LOSE_ONE,
            false => 1,
        });
        options.refuse_contradictions()?;
        Ok(options)
    }

    fn refuse_contradictions(&self) -> Result<(), String> {
        if self.is_faults_only && (self.nodes < NODES_TO_LOSE_ONE || self.peer != Peer::Braidlog) {
            return Err("--faults needs --nodes 3 or more".to_owned());
        }
        if self.is_all && (self.is_faults_only || self.is_groups_only) {
            return Err("--all is everything".to_owned());
        }
        if self.protocol.is_some() && !self.is_crowd {
            return Err("--protocol goes with --crowd".to_owned());
        }
        if self.is_crowd {
            let is_other = self.is_all || self.is_faults_only || self.is_groups_only;
            if is_other || self.is_quick || self.matrix.is_some() || !self.only.is_empty() {
                return Err("--crowd goes with --bin, --nodes and --protocol only".to_owned());
            }
            if self.nodes < NODES_TO_LOSE_ONE || self.peer != Peer::Braidlog {
                return Err("--crowd needs 3 nodes of ours or more".to_owned());
            }
        }
        Ok(())
    }

    /// What says how much was run, as on the command line.
    pub(crate) fn shown(&self) -> String {
        let flags = [
            (self.is_all, "--all"),
            (self.is_quick, "--quick"),
            (self.is_faults_only, "--faults"),
            (self.is_groups_only, "--groups"),
        ];
        let flags = flags
            .iter()
            .filter(|(is_set, _)| *is_set)
            .map(|(_, flag)| *flag);
        let mut words: Vec<String> = flags.map(str::to_owned).collect();
        if self.nodes != 1 {
            words.push(format!("--nodes {}", self.nodes));
        }
        words.extend(self.only.iter().map(|client| format!("--only {client}")));
        words.push("--matrix PATH".to_owned());
        words.join(" ")
    }

    /// Whether there are groups of the new protocol: their sessions last 45 s.
    pub(crate) fn has_new_groups(&self) -> bool {
        self.is_all || !self.is_quick
    }

    /// How many nodes there are, one run after the other.
    pub(crate) fn runs(&self) -> Vec<usize> {
        match self.is_all && self.peer == Peer::Braidlog && self.nodes == 1 {
            true => vec![1, 3],
            false => vec![self.nodes],
        }
    }

    /// Whether this client is to run.
    pub(crate) fn wants(&self, client: &str) -> bool {
        if !self.only.is_empty() {
            return self.only.iter().any(|only| only == client);
        }
        match self.is_faults_only && self.is_quick {
            true => FAULTS_QUICK.contains(&client),
            false => self.is_all || !SLOWEST.contains(&client),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(
            &line
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn without_options_every_client_runs_against_a_node_of_ours() {
        let options = parse("").unwrap();
        assert!(options.peer == Peer::Braidlog && !options.is_quick);
        assert!(CLIENTS.iter().all(|client| options.wants(client)));
        assert!(!SLOWEST.iter().any(|client| options.wants(client)));
    }

    #[test]
    fn all_has_the_slowest_clients_and_a_cluster() {
        let options = parse("--all").unwrap();
        assert!(SLOWEST.iter().all(|client| options.wants(client)));
        assert_eq!(options.runs(), [1, 3]);
        assert_eq!(parse("--all --nodes 5").unwrap().runs(), [5]);
        assert!(parse("--all --faults --nodes 3").is_err());
        assert!(options.has_new_groups() && !parse("--quick").unwrap().has_new_groups());
        assert!(parse("--all --quick").unwrap().has_new_groups());
    }

    #[test]
    fn a_crowd_has_a_cluster_and_nothing_else() {
        let options = parse("--crowd").unwrap();
        assert!(options.is_crowd && options.nodes == 3 && options.protocol.is_none());
        let options = parse("--crowd --nodes 5 --protocol consumer").unwrap();
        assert!(options.nodes == 5 && options.protocol == Some(Protocol::Consumer));
        for line in [
            "--crowd --nodes 1",
            "--crowd --all",
            "--crowd --only kcat",
            "--crowd --quick",
            "--crowd --peer kafka",
            "--crowd --protocol share",
            "--protocol classic",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn quick_faults_have_a_few_clients() {
        let options = parse("--quick --faults --nodes 3").unwrap();
        assert!(options.wants("java") && !options.wants("sarama"));
        let options = parse("--faults --nodes 3").unwrap();
        assert!(options.wants("sarama"));
    }

    #[test]
    fn only_may_be_repeated_and_names_a_client() {
        let options = parse("--quick --only kcat --only java").unwrap();
        assert!(options.is_quick && options.wants("kcat") && options.wants("java"));
        assert!(!options.wants("kafkajs"));
        assert!(parse("--only pulsar").is_err());
    }

    #[test]
    fn a_bootstrap_address_starts_nothing() {
        assert!(parse("--bootstrap 127.0.0.1:9092").unwrap().peer == Peer::Running);
        assert!(parse("--peer kafka").unwrap().peer == Peer::Kafka);
        assert!(parse("--bootstrap").is_err());
        assert!(parse("--fast").is_err());
        assert_eq!(parse("--nodes 3").unwrap().nodes, 3);
        assert!(parse("--nodes 0").is_err());
        assert!(parse("--faults --nodes 5").unwrap().is_faults_only);
        assert!(parse("--faults").is_err());
    }
}
