//! The command line.

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jepsen_cluster::Isolate;
use jepsen_workload::WorkloadKind;
use jepsen_workload::plan::Kind;
use jepsen_workload::settings::ClientKind;
use storage::bugs::Bug;

/// Breaks a Braidlog cluster in every way we know and says whether a promise was broken.
///
/// Exit codes: 0 no promise was broken, 1 one was (an anomaly), 2 too little happened to tell,
/// 3 the harness could not do its part.
#[derive(Debug, Parser)]
#[command(name = "jepsen", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Break a cluster of real processes, then judge and draw what its clients saw
    Run(RunArguments),
    /// Break simulated clusters, one for each seed
    Sim(SimArguments),
    /// Judge a kept run again
    Check(KeptRun),
    /// Draw the report of a kept run again
    Report(KeptRun),
    /// Do a simulated run again and print its trace and verdict
    Replay(ReplayArguments),
    /// Show that the checks find every bug that is put in on purpose (needs the feature `seeded-bugs`)
    Bugs(BugsArguments),
    /// Say which workloads, nemeses, anomalies and seeded bugs there are
    List,
    /// One seed in this process, for `sim`
    #[command(hide = true)]
    SimSeed(SeedArguments),
}

#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The braidlog binary to break
    #[arg(long, value_name = "PATH")]
    pub(crate) bin: PathBuf,
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub(crate) nodes: u32,
    /// How nodes are kept apart: netns (needs root) or loopback [default: netns where it works]
    #[arg(long)]
    pub(crate) isolate: Option<Isolate>,
    /// What clients do, as a list: log, meta, group
    #[arg(long, value_delimiter = ',', default_value = "log")]
    pub(crate) workload: Vec<WorkloadKind>,
    /// What is broken, as a list (see `jepsen list`); `none` for nothing
    #[arg(long, default_value = "kill,pause,partition,packet,transfer")]
    pub(crate) nemesis: Nemeses,
    /// How long things are broken, in seconds
    #[arg(long, value_name = "SECONDS", alias = "duration", default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) time: u64,
    /// Operations a second, of all clients together
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Everything drawn at random follows from it [default: from the clock]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Which Kafka client: our own thin one, librdkafka (needs the feature `rdkafka`), or half of each
    #[arg(long, value_enum, default_value_t)]
    pub(crate) clients: Clients,
    /// When a record counts on a node
    #[arg(long, value_enum, default_value_t)]
    pub(crate) durability: Durability,
    /// Configuration of every node, as for `braidlog start` (may be repeated)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Where the run is kept [default: jepsen-out/run-SEED]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SimArguments {
    /// Seeds `A..B` (without B), or a single one
    #[arg(long, value_name = "A..B", default_value = "0..200")]
    pub(crate) seeds: Seeds,
    /// Seeds at a time, each in a process of its own
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) jobs: u32,
    /// Stop at the first seed that shows an anomaly
    #[arg(long)]
    pub(crate) stop_at_first: bool,
    /// Begin no seed after so many real seconds
    #[arg(long = "for", value_name = "SECONDS")]
    pub(crate) time_max: Option<u64>,
    /// Real seconds that a seed may take; a seed that takes longer hangs
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) seed_time: u64,
    /// Of a hundred seeds, so many may end without proving anything
    #[arg(long, value_name = "PERCENT", default_value_t = 10)]
    pub(crate) unknown_max: u64,
    /// Where seeds that show something are kept
    #[arg(long, value_name = "DIR", default_value = "jepsen-out/sim")]
    pub(crate) out: PathBuf,
    /// Keep every seed, not only those that show something
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) simulated: Simulated,
}

/// What the seed decides unless it is given.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Simulated {
    /// How many nodes [default: as the seed says]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=9))]
    pub(crate) nodes: Option<u32>,
    /// What clients do, as a list [default: as the seed says]
    #[arg(long, value_delimiter = ',')]
    pub(crate) workload: Option<Vec<WorkloadKind>>,
    /// What is broken, as a list; `none` for nothing [default: as the seed says]
    #[arg(long)]
    pub(crate) nemesis: Option<Nemeses>,
    /// How long things are broken, in virtual seconds
    #[arg(long, value_name = "SECONDS", alias = "duration", default_value_t = SIMULATED_SECONDS)]
    pub(crate) time: u64,
    /// When a record counts on a node [default: as the seed says]
    #[arg(long, value_enum)]
    pub(crate) durability: Option<Durability>,
}

/// Virtual seconds in which things are broken, unless told otherwise.
const SIMULATED_SECONDS: u64 = 20;

impl Simulated {
    /// As arguments that mean the same; what is not given is left out.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut add = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
        if let Some(nodes) = self.nodes {
            add("nodes", nodes.to_string());
        }
        if let Some(workload) = &self.workload {
            add("workload", names(workload, |kind| kind.name()));
        }
        if let Some(nemesis) = &self.nemesis {
            add("nemesis", nemesis.to_string());
        }
        if self.time != SIMULATED_SECONDS {
            add("time", self.time.to_string());
        }
        if let Some(durability) = self.durability {
            add("durability", durability.name().to_owned());
        }
        arguments
    }

    /// What the simulation is told.
    pub(crate) fn settings(&self, seed: u64) -> jepsen_sim::SimSettings {
        jepsen_sim::SimSettings {
            duration: Duration::from_secs(self.time),
            nodes: self.nodes,
            workloads: self.workload.clone(),
            nemeses: self.nemesis.as_ref().map(|nemesis| nemesis.0.clone()),
            durability: self.durability.map(Durability::simulated),
            ..jepsen_sim::SimSettings::new(seed)
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct SeedArguments {
    pub(crate) seed: u64,
    #[arg(long)]
    pub(crate) out: PathBuf,
    #[arg(long)]
    pub(crate) keep: bool,
    /// End when standard input does: with whoever holds its other end
    #[arg(long)]
    pub(crate) end_with_stdin: bool,
    #[command(flatten)]
    pub(crate) simulated: Simulated,
}

#[derive(Debug, Args)]
pub(crate) struct KeptRun {
    /// The directory of a run
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// A seed, or the directory of a kept run
    pub(crate) what: String,
    /// Where the trace goes instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
    /// What the nodes log into the trace, as `debug` or `raft=debug,info`
    #[arg(long, value_name = "DIRECTIVES")]
    pub(crate) log: Option<String>,
    #[command(flatten)]
    pub(crate) simulated: Simulated,
}

#[derive(Debug, Args)]
pub(crate) struct BugsArguments {
    /// Only this bug (may be repeated)
    #[arg(long, value_name = "NAME", alias = "bug")]
    pub(crate) only: Vec<Bug>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Seeds that are tried with the workload and nemeses that are expected to find a bug, and then
    /// as many that decide by themselves
    #[arg(long, default_value_t = 40)]
    pub(crate) tries: u64,
    /// How long things are broken in each run, in virtual seconds
    #[arg(long, value_name = "SECONDS", alias = "duration", default_value_t = SIMULATED_SECONDS)]
    pub(crate) time: u64,
    /// Runs at a time
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) jobs: u32,
    /// Where runs that find a bug are kept
    #[arg(long, value_name = "DIR", default_value = "jepsen-out/bugs")]
    pub(crate) out: PathBuf,
}

/// Kinds of faults, as a list on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Nemeses(pub(crate) Vec<Kind>);

impl std::str::FromStr for Nemeses {
    type Err = String;

    fn from_str(text: &str) -> Result<Nemeses, String> {
        if text == "none" {
            return Ok(Nemeses(Vec::new()));
        }
        let kinds = text.split(',').map(|name| name.trim().parse::<Kind>());
        let mut kinds: Vec<Kind> = kinds
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        kinds.dedup();
        Ok(Nemeses(kinds))
    }
}

impl std::fmt::Display for Nemeses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&names(&self.0, |kind| kind.name()))
    }
}

/// Names with commas between them.
pub(crate) fn names<T: Copy>(all: &[T], name: impl Fn(T) -> &'static str) -> String {
    all.iter()
        .map(|one| name(*one))
        .collect::<Vec<_>>()
        .join(",")
}

/// Seeds, as a range without its end or as a single one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seeds(pub(crate) Range<u64>);

impl std::str::FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Seeds, String> {
        let number = |text: &str| {
            text.trim()
                .parse::<u64>()
                .map_err(|error| format!("`{text}` is no seed: {error}"))
        };
        let seeds = match text.split_once("..") {
            Some((first, end)) => number(first)?..number(end)?,
            None => {
                let first = number(text)?;
                first..first.checked_add(1).ok_or("that seed is too large")?
            }
        };
        if seeds.is_empty() {
            return Err(format!(
                "there is no seed in {text}: its end is not part of it"
            ));
        }
        Ok(Seeds(seeds))
    }
}

/// Which Kafka client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Clients {
    #[default]
    Thin,
    Rdkafka,
    Both,
}

impl Clients {
    pub(crate) fn kind(self) -> ClientKind {
        match self {
            Clients::Thin => ClientKind::Thin,
            Clients::Rdkafka => ClientKind::Rdkafka,
            Clients::Both => ClientKind::Mixed,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Clients::Thin => "thin",
            Clients::Rdkafka => "rdkafka",
            Clients::Both => "both",
        }
    }
}

/// When a record counts on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    #[default]
    Fsync,
    Interval,
    Os,
}

impl Durability {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Durability::Fsync => "fsync",
            Durability::Interval => "interval",
            Durability::Os => "os",
        }
    }

    fn simulated(self) -> braidlog::config::Durability {
        match self {
            Durability::Fsync => braidlog::config::Durability::Fsync,
            Durability::Interval => braidlog::config::Durability::Interval,
            Durability::Os => braidlog::config::Durability::Os,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn seeds_are_a_range_without_its_end_or_one() {
        assert_eq!("0..200".parse(), Ok(Seeds(0..200)));
        assert_eq!("17".parse(), Ok(Seeds(17..18)));
        for wrong in ["5..5", "9..2", "x", "1..", "18446744073709551615"] {
            assert!(wrong.parse::<Seeds>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_a_seed_was_told_can_be_told_again() {
        let told = |arguments: &[&str]| {
            let all = ["jepsen", "sim"]
                .into_iter()
                .chain(arguments.iter().copied());
            match Cli::try_parse_from(all).unwrap().command {
                Command::Sim(sim) => sim.simulated.arguments(),
                other => panic!("{other:?}"),
            }
        };
        assert!(told(&["--seeds", "3"]).is_empty());
        let all = [
            "--nodes",
            "5",
            "--workload",
            "log,meta",
            "--nemesis",
            "kill,power",
            "--time",
            "7",
            "--durability",
            "os",
        ];
        assert_eq!(told(&all), all);
        assert_eq!(told(&["--nemesis", "none"]), ["--nemesis", "none"]);
    }

    #[test]
    fn nemeses_and_workloads_have_to_exist() {
        for wrong in [
            ["--nemesis", "kill,flood"],
            ["--workload", "queue"],
            ["--nodes", "0"],
        ] {
            let all = ["jepsen", "sim"].into_iter().chain(wrong);
            assert!(Cli::try_parse_from(all).is_err(), "{wrong:?}");
        }
    }
}
