//! `cargo xtask bench`: Braidlog beside its peers, in interleaved rounds.
//!
//! Installs and starts each peer here, puts the same load on each in turn, and compares figures of
//! the same round. Loads come from `braidlog bench`, whatever broker they are for; limits of the
//! machine and clients of other protocols from the crate `benches`. A round that is not sound has
//! no figures, and makes the exit code that of a failure; a goal that is missed does not.

mod json;
mod limits;
mod machine;
mod options;
mod page;
mod peers;
mod report;
mod rounds;
mod rows;
mod server;
mod stats;
mod trouble;
mod work;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::interop::node::{build, build_package};
use crate::process::succeed;
use crate::root;
use json::Json;
use machine::Machine;
use options::Options;
use report::Report;
use rows::{On, Row};

const COMMAND_LIMIT: Duration = Duration::from_secs(300);
/// Limits of the machine are measured again when they are older than this.
const LIMITS_AGE_MAX: Duration = Duration::from_secs(3_600);

/// What every round needs.
struct Bench {
    options: Options,
    /// `target/bench`.
    folder: PathBuf,
    binary: PathBuf,
    /// The program of the crate `benches`.
    tools: PathBuf,
    machine: Machine,
    limits_measured: Json,
}

/// Measures what the options ask for; true when there are figures for all of it.
pub(crate) fn run(arguments: &[String]) -> Result<bool, String> {
    let rows = rows::all();
    let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
    let options = Options::parse(arguments, &names)?;
    if options.is_list {
        for row in &rows {
            println!("{:<20} {}", row.name, row.about);
        }
        return Ok(true);
    }
    if let Some(path) = &options.page {
        page::check(path)?;
    }
    let mut bench = Bench::prepare(options)?;
    let mut report = Report::open(bench.folder.join("results.jsonl"))?;
    let mut limits_at = None;
    for row in &rows {
        if !bench.options.wants(row.name) {
            continue;
        }
        if limits_at.is_none_or(|at: Instant| at.elapsed() > LIMITS_AGE_MAX) {
            bench.measure_limits()?;
            limits_at = Some(Instant::now());
        }
        println!("{}: {}", row.name, row.about);
        rounds::measure(&bench, row, &mut report)?;
    }
    println!("\n{}", report.table());
    println!(
        "client and brokers share {} processors",
        bench.machine.processors
    );
    println!("results: {}", bench.folder.join("results.jsonl").display());
    if let Some(path) = &bench.options.page {
        page::write(path, &bench, &rows, &report)?;
    }
    Ok(report.is_whole())
}

impl Bench {
    fn prepare(options: Options) -> Result<Bench, String> {
        let folder = root().join("target/bench");
        let logs = folder.join("logs");
        fs::create_dir_all(&logs).map_err(|problem| format!("{}: {problem}", logs.display()))?;
        let binary = match &options.binary {
            Some(binary) => binary.clone(),
            None => build()?,
        };
        let tools = match &options.tools {
            Some(tools) => tools.clone(),
            None => build_package("benches")?,
        };
        Ok(Bench {
            options,
            folder,
            binary,
            tools,
            machine: Machine::look(),
            limits_measured: Json::Null,
        })
    }

    /// The file for what a process says.
    fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    /// A folder of this name with nothing in it.
    fn empty_folder(&self, name: &str) -> Result<PathBuf, String> {
        let folder = self.folder.join(name);
        let told =
            |problem: std::io::Error| format!("cannot empty {}: {problem}", folder.display());
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(told)?;
        }
        fs::create_dir_all(&folder).map_err(told)?;
        Ok(folder)
    }

    fn create_topic(&self, topic: &str, partitions: u32, server: &str) -> Result<(), String> {
        let mut create = Command::new(&self.binary);
        create.args(["topic", "create", topic, "--server", server]);
        create.args(["--partitions", &partitions.to_string()]);
        create.args(["--timeout", "120s"]);
        succeed(&mut create, COMMAND_LIMIT).map(|_| ())
    }

    fn delete_topic(&self, topic: &str, server: &str) -> Result<(), String> {
        let mut delete = Command::new(&self.binary);
        delete.args(["topic", "delete", topic, "--server", server]);
        succeed(&mut delete, COMMAND_LIMIT).map(|_| ())
    }

    /// Versions and settings of all that the rows have, each once.
    fn versions(&self, rows: &[Row]) -> Vec<String> {
        let mut told = Vec::new();
        for row in rows.iter().filter(|row| self.options.wants(row.name)) {
            for contender in &row.contenders {
                let On::Peer(peer, nodes) = contender.on else {
                    continue;
                };
                let version = peer
                    .version(self)
                    .unwrap_or_else(|trouble| trouble.to_string());
                let line = format!("{version} ({})", peer.settings(nodes));
                if !told.contains(&line) {
                    told.push(line);
                }
            }
        }
        told
    }
}
