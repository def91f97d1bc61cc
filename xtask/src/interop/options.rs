//! The command line of `cargo xtask interop`.

use std::path::PathBuf;

use super::CLIENTS;

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
            only: Vec::new(),
        };
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
                "--faults" => options.is_faults_only = true,
                "--bin" => options.binary = Some(value()?.into()),
                "--bootstrap" => {
                    options.bootstrap = Some(value()?);
                    options.peer = Peer::Running;
                }
                "--nodes" => {
                    let count = value()?;
                    options.nodes = match count.parse() {
                        Ok(count @ 1..=9) => count,
                        _ => return Err(format!("1 to 9 nodes, not {count}")),
                    };
                }
                "--peer" => match value()?.as_str() {
                    "kafka" => options.peer = Peer::Kafka,
                    other => return Err(format!("no such peer: {other}")),
                },
                "--only" => {
                    let name = value()?;
                    if !CLIENTS.contains(&name.as_str()) {
                        return Err(format!("no such client: {name} (one of {CLIENTS:?})"));
                    }
                    options.only.push(name);
                }
                other => return Err(format!("interop has no option {other}")),
            }
        }
        if options.is_faults_only && (options.nodes < 3 || options.peer != Peer::Braidlog) {
            return Err("--faults needs --nodes 3 or more".to_owned());
        }
        Ok(options)
    }

    /// Whether this client is to run.
    pub(crate) fn wants(&self, client: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == client)
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
    }

    #[test]
    fn only_may_be_repeated_and_names_a_client() {
        let options = parse("--quick --only kcat --only java").unwrap();
        assert!(options.is_quick && options.wants("kcat") && options.wants("java"));
        assert!(!options.wants("kafkajs"));
        assert!(parse("--only sarama").is_err());
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
