//! `cargo xtask interop`: real Kafka clients, installed here, against nodes started here.
//!
//! Each client sends the word list with every codec and a large file of mixed records, and reads
//! what every other client sent; then it runs its own behaviours. On a cluster (`--nodes 3`) each
//! also sends while nodes are killed, paused and cut off, and all of it is read from every replica.
//! One line each: `passed`, `failed: why` or `not run: reason`. What cannot be installed is not run,
//! never left out.

mod client;
mod cluster;
mod driver;
mod faults;
mod install;
mod kcat;
mod node;
mod options;
mod proxy;
mod records;
mod replicas;
mod report;
mod rounds;

use client::Client;
use cluster::Cluster;
use driver::{Driver, Program};
use install::Workshop;
use kcat::Kcat;
use options::{Options, Peer};
use records::RecordFile;
use report::{Outcome, Report};
use rounds::Rounds;

/// The clients' names, in the order of their lines.
const CLIENTS: [&str; 4] = ["kcat", "confluent-kafka", "java", "kafkajs"];

const MIB: u64 = 1 << 20;
const LARGE_FILE_BYTES: u64 = 1024 * MIB;
const LARGE_FILE_BYTES_QUICK: u64 = 64 * MIB;
/// Sent again and again under faults.
const FAULTS_FILE_BYTES: u64 = 16 * MIB;

/// Runs everything that the options ask for; true when nothing failed.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let options = Options::parse(arguments)?;
    let workshop = Workshop::open()?;
    let mut report = Report::default();
    let cluster = match start(&options, &workshop) {
        Ok(cluster) => cluster,
        Err(why) => {
            report.add("node", "start", Outcome::Failed(why));
            return Ok(report.close());
        }
    };
    let bootstrap = match (&cluster, &options.bootstrap) {
        (Some(cluster), _) => cluster.bootstrap(),
        (None, Some(address)) => address.clone(),
        (None, None) => unreachable!("a node is started unless there is an address"),
    };
    println!("broker: {bootstrap}");

    let clients = clients(&options, &workshop, &bootstrap, &mut report);
    let mut rounds = Rounds::new(clients, report, cluster);
    if rounds.has_clients() {
        run_rounds(&mut rounds, &options, &workshop)?;
    }
    Ok(rounds.finish().close())
}

fn start(options: &Options, workshop: &Workshop) -> Result<Option<Cluster>, String> {
    match &options.peer {
        Peer::Running => Ok(None),
        Peer::Braidlog => {
            Cluster::start(workshop, options.binary.as_deref(), options.nodes).map(Some)
        }
        Peer::Kafka => Cluster::start_kafka(workshop).map(Some),
    }
}

fn run_rounds(rounds: &mut Rounds, options: &Options, workshop: &Workshop) -> Result<(), String> {
    if options.is_faults_only {
        return run_faults(rounds, options, workshop);
    }
    rounds.behaviours();
    rounds.small_records()?;

    match install::words().and_then(|()| RecordFile::of_words(workshop.folder())) {
        Ok(words) => rounds.words(&words),
        Err(why) => rounds
            .report()
            .add("all clients", "word list", Outcome::NotRun(why)),
    }

    let bytes = if options.is_quick {
        LARGE_FILE_BYTES_QUICK
    } else {
        LARGE_FILE_BYTES
    };
    let large = RecordFile::generated(workshop.folder(), bytes)?;
    println!(
        "large file: {} records in {} MiB",
        large.count,
        large.bytes / MIB
    );
    rounds.large_file(&large);
    run_faults(rounds, options, workshop)?;
    rounds.words_after_kill();
    Ok(())
}

fn run_faults(rounds: &mut Rounds, options: &Options, workshop: &Workshop) -> Result<(), String> {
    let file = RecordFile::generated(workshop.folder(), FAULTS_FILE_BYTES)?;
    rounds.under_faults(&file, options.is_quick);
    Ok(())
}

/// Installs the clients; one that cannot be had becomes a line of the report.
fn clients(
    options: &Options,
    workshop: &Workshop,
    bootstrap: &str,
    report: &mut Report,
) -> Vec<Box<dyn Client>> {
    let driven = |program: Result<Program, String>| {
        program.map(|program| Box::new(Driver::new(program, bootstrap)) as Box<dyn Client>)
    };
    let mut clients = Vec::new();
    for name in CLIENTS.into_iter().filter(|name| options.wants(name)) {
        let installed = match name {
            "kcat" => install::kcat().map(|()| Box::new(Kcat::new(bootstrap)) as Box<dyn Client>),
            "confluent-kafka" => driven(install::confluent_kafka(workshop)),
            "java" => driven(install::java(workshop)),
            _ => driven(install::kafkajs(workshop)),
        };
        let started = installed.and_then(|mut client| Ok((client.version()?, client)));
        match started {
            Ok((version, client)) => {
                println!("client {name}: {version}");
                clients.push(client);
            }
            Err(why) => report.add(name, "all behaviours", Outcome::NotRun(why)),
        }
    }
    clients
}
