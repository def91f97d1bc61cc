//! `cargo xtask interop`: real Kafka clients, installed here, against nodes started here.
//!
//! Each client sends the word list with every codec and a large file of mixed records, and others
//! read it; then it runs its own behaviours and forms consumer groups. On a cluster (`--nodes 3`)
//! each also sends while nodes are killed, paused and cut off, and all of it is read from every
//! replica. One line each: `passed`, `failed: why` or `not run: reason`. What cannot be installed
//! is not run, never left out. `--matrix` writes all of it as a page. `--crowd` is a run of its own:
//! a group of two hundred members.

mod checks;
mod client;
mod cluster;
mod connect;
mod connect_distributed;
mod crowd;
mod driver;
mod exchange;
mod faults;
mod groups;
pub(crate) mod install;
mod kcat;
mod matrix;
pub(crate) mod node;
mod options;
mod pool;
mod proxy;
mod records;
mod replicas;
mod report;
mod rounds;
mod spark;
mod tools;
mod under_faults;
mod versions;

use std::path::PathBuf;

use client::Client;
use cluster::Cluster;
use driver::{Driver, Program};
use install::Workshop;
use kcat::Kcat;
use options::{Options, Peer};
use records::RecordFile;
use report::{Outcome, Report};
use rounds::Rounds;
use tools::Tools;

/// The clients' names, in the order of their lines.
const CLIENTS: [&str; 11] = [
    "kcat",
    "confluent-kafka",
    "java",
    "kafkajs",
    "rdkafka",
    "franz-go",
    "sarama",
    "kafka-go",
    "kafka-python",
    "aiokafka",
    "kafka-tools",
];
/// Those that only `--all` and `--only` have.
const SLOWEST: [&str; 2] = [connect::NAME, spark::NAME];
/// Those that send under faults with `--quick`: one of each family of implementations.
const FAULTS_QUICK: [&str; 4] = ["kcat", "confluent-kafka", "java", "kafkajs"];

const MIB: u64 = 1 << 20;
/// Where no broker is: a client can be asked for its version without one.
const NOWHERE: &str = "127.0.0.1:1";
/// Sent again and again under faults.
const FAULTS_FILE_BYTES: u64 = 16 * MIB;

/// How much is done of what is done with every client.
struct Amounts {
    /// One word of so many is sent.
    word_step: usize,
    /// So many clients read each topic of words.
    word_readers: usize,
    large_file_bytes: u64,
    /// So many clients read each large file.
    large_file_readers: usize,
}

impl Amounts {
    fn of(options: &Options) -> Self {
        match options.is_quick {
            true => Self {
                word_step: 16,
                word_readers: 2,
                large_file_bytes: 32 * MIB,
                large_file_readers: 2,
            },
            false => Self {
                word_step: 1,
                word_readers: CLIENTS.len(),
                large_file_bytes: 1024 * MIB,
                large_file_readers: 3,
            },
        }
    }
}

/// Runs everything that the options ask for; true when nothing failed.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let mut options = Options::parse(arguments)?;
    let workshop = Workshop::open()?;
    if options.peer == Peer::Braidlog && options.binary.is_none() {
        options.binary = Some(build_and_install(&options, &workshop)?);
    }
    let mut report = Report::default();
    if options.is_crowd {
        report.begin(options.nodes);
        crowd::run(&options, &workshop, &mut report);
        return Ok(report.close());
    }
    for nodes in options.runs() {
        report.begin(nodes);
        report = run_on(nodes, &options, &workshop, report)?;
    }
    if let Some(path) = &options.matrix {
        matrix::write(&report, path, &options.shown())?;
    }
    Ok(report.close())
}

/// Builds the binary while the clients are installed, most of which is waiting. What of them failed
/// is tried again, and reported, by whoever needs it.
fn build_and_install(options: &Options, workshop: &Workshop) -> Result<PathBuf, String> {
    std::thread::scope(|scope| {
        for name in wanted(options) {
            scope.spawn(move || install_one(name, workshop, NOWHERE));
        }
        node::build()
    })
}

/// The clients that the options ask for.
fn wanted(options: &Options) -> Vec<&'static str> {
    let wanted = CLIENTS.into_iter().filter(|name| options.wants(name));
    wanted.collect()
}

fn run_on(
    nodes: usize,
    options: &Options,
    workshop: &Workshop,
    mut report: Report,
) -> Result<Report, String> {
    let cluster = match start(nodes, options, workshop) {
        Ok(cluster) => cluster,
        Err(why) => {
            report.add("node", "start", Outcome::Failed(why));
            return Ok(report);
        }
    };
    let bootstrap = match (&cluster, &options.bootstrap) {
        (Some(cluster), _) => cluster.bootstrap(),
        (None, Some(address)) => address.clone(),
        (None, None) => unreachable!("a node is started unless there is an address"),
    };
    println!("broker: {bootstrap}");

    let clients = clients(options, workshop, &bootstrap, &mut report);
    let mut rounds = Rounds::new(clients, report, cluster);
    if options.wants(connect::NAME) && !options.is_faults_only {
        rounds.connect(workshop, &bootstrap);
    }
    if options.wants(spark::NAME) && !options.is_faults_only {
        rounds.spark(workshop, &bootstrap);
    }
    if rounds.has_clients() {
        run_rounds(&mut rounds, options, workshop, &bootstrap)?;
    }
    Ok(rounds.finish())
}

fn start(nodes: usize, options: &Options, workshop: &Workshop) -> Result<Option<Cluster>, String> {
    match &options.peer {
        Peer::Running => Ok(None),
        Peer::Braidlog => Cluster::start(workshop, options.binary.as_deref(), nodes).map(Some),
        Peer::Kafka => Cluster::start_kafka(workshop).map(Some),
    }
}

fn run_rounds(
    rounds: &mut Rounds,
    options: &Options,
    workshop: &Workshop,
    bootstrap: &str,
) -> Result<(), String> {
    if options.is_faults_only {
        return run_faults(rounds, options, workshop);
    }
    if options.is_groups_only {
        rounds.groups(bootstrap, options.has_new_groups());
        return Ok(());
    }
    let amounts = Amounts::of(options);
    rounds.behaviours_and_groups(bootstrap, options.has_new_groups());
    rounds.small_records()?;

    let words =
        install::words().and_then(|()| RecordFile::of_words(workshop.folder(), amounts.word_step));
    match words {
        Ok(words) => rounds.words(&words, amounts.word_readers),
        Err(why) => rounds
            .report()
            .add("all clients", "word list", Outcome::NotRun(why)),
    }

    let large = RecordFile::generated(workshop.folder(), amounts.large_file_bytes)?;
    println!(
        "large file: {} records in {} MiB",
        large.count,
        large.bytes / MIB
    );
    rounds.large_file(&large, amounts.large_file_readers);
    run_faults(rounds, options, workshop)?;
    rounds.words_after_kill();
    Ok(())
}

fn run_faults(rounds: &mut Rounds, options: &Options, workshop: &Workshop) -> Result<(), String> {
    let file = RecordFile::generated(workshop.folder(), FAULTS_FILE_BYTES)?;
    rounds.under_faults(&file, options.is_quick);
    Ok(())
}

/// Installs the clients, several at a time: most of it is waiting. One that cannot be had becomes a
/// line of the report.
fn clients(
    options: &Options,
    workshop: &Workshop,
    bootstrap: &str,
    report: &mut Report,
) -> Vec<Box<dyn Client>> {
    let wanted = wanted(options);
    let installed = std::thread::scope(|scope| {
        let install = |name| scope.spawn(move || install_one(name, workshop, bootstrap));
        let threads: Vec<_> = wanted.iter().copied().map(install).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread
                .join()
                .unwrap_or_else(|_| Err("its installation panicked".to_owned()))
        };
        threads.into_iter().map(join).collect::<Vec<_>>()
    });
    let mut clients = Vec::new();
    for (name, installed) in wanted.into_iter().zip(installed) {
        match installed {
            Ok((version, client)) => {
                println!("client {name}: {version}");
                report.note_version(name, version);
                clients.push(client);
            }
            Err(why) => report.add(name, "all behaviours", Outcome::NotRun(why)),
        }
    }
    clients
}

/// Installs a client and asks for its version.
fn install_one(
    name: &'static str,
    workshop: &Workshop,
    bootstrap: &str,
) -> Result<(String, Box<dyn Client>), String> {
    let driven = |program: Program| Box::new(Driver::new(program, bootstrap)) as Box<dyn Client>;
    let mut client: Box<dyn Client> = match name {
        "kcat" => install::kcat().map(|()| Box::new(Kcat::new(bootstrap)) as Box<dyn Client>)?,
        "kafka-tools" => Box::new(Tools::new(install::kafka_peer(workshop)?, bootstrap)),
        "confluent-kafka" => driven(install::confluent_kafka(workshop)?),
        "java" => driven(install::java(workshop)?),
        "kafkajs" => driven(install::kafkajs(workshop)?),
        "rdkafka" => driven(install::rdkafka(workshop)?),
        "kafka-python" | "aiokafka" => driven(install::pure_python(workshop, name)?),
        _ => driven(install::go(workshop, name)?),
    };
    Ok((client.version()?, client))
}
