//! A row is measured: every contender once and then again, in turns, so that a machine that is
//! slower for a while is slower for all of them.
//!
//! Nodes of contenders run through all rounds, those that are not measured without a load. The
//! first trouble of a contender ends its rounds; the others go on.

use std::process::Command;
use std::time::Duration;

use super::Bench;
use super::json::Json;
use super::machine;
use super::peers::{Cluster, Peer};
use super::report::{Outcome, Report};
use super::rows::{Contender, On, RECORDS_PER_SECOND, Row, Work};
use super::trouble::Trouble;
use super::work::{Sample, idle, started};
use crate::process::succeed;

/// For what others have written to reach the disk.
const SYNC_LIMIT: Duration = Duration::from_secs(300);
/// Rounds write some GB; with less than this left they are not begun.
const FREE_MIB_MIN: u64 = 10 * 1024;

/// A contender, and what came of it so far.
struct Turn<'a> {
    contender: &'a Contender,
    samples: Vec<Sample>,
    trouble: Option<Trouble>,
    /// Nodes of its own, for those that are started in every round.
    own: Option<Cluster>,
}

/// Nodes that run through all rounds, each kind once.
struct Running(Vec<(Peer, usize, Result<Cluster, Trouble>)>);

impl Running {
    /// The nodes of this contender, started when it is the first that needs them.
    fn of(
        &mut self,
        bench: &Bench,
        contender: &Contender,
    ) -> Result<Option<&mut Cluster>, Trouble> {
        let On::Peer(peer, nodes) = contender.on else {
            return Ok(None);
        };
        if !contender.work.has_running_nodes() {
            return Ok(None);
        }
        let is_it = |one: &&mut (Peer, usize, _)| (one.0, one.1) == (peer, nodes);
        if self.0.iter_mut().find(is_it).is_none() {
            let started = Cluster::start(bench, peer, nodes);
            self.0.push((peer, nodes, started));
        }
        let found = self.0.iter_mut().find(is_it);
        let (_, _, cluster) = found.expect("it was put there");
        match cluster {
            Ok(cluster) => match cluster.death() {
                None => Ok(Some(cluster)),
                Some(why) => Err(Trouble::Failed(format!("{}: {why}", peer.name()))),
            },
            Err(trouble) => Err(trouble.clone()),
        }
    }
}

/// Measures a row in so many rounds.
pub(super) fn measure(bench: &Bench, row: &Row, report: &mut Report) -> Result<(), String> {
    let mut running = Running(Vec::new());
    let mut turns: Vec<Turn<'_>> = row
        .contenders
        .iter()
        .map(|contender| Turn {
            contender,
            samples: Vec::new(),
            trouble: None,
            own: None,
        })
        .collect();

    let mut peaks = Vec::new();
    for (at, turn) in turns.iter_mut().enumerate() {
        let topic = format!("{}-{at}", row.name);
        match warm_up(bench, turn, &mut running, &topic) {
            Ok(peak) => peaks.extend(peak),
            Err(trouble) => turn.trouble = Some(trouble),
        }
        if let Some(trouble) = &turn.trouble {
            println!("  {}: {trouble}", turn.contender.label);
        }
    }
    let rate = peaks.into_iter().reduce(f64::min).map(|peak| peak / 2.0);

    for round in 1..=bench.options.rounds {
        for (at, turn) in turns.iter_mut().enumerate() {
            if turn.trouble.is_some() {
                continue;
            }
            let load_average = machine::load_average();
            let topic = format!("{}-{at}-{round}", row.name);
            let fill = format!("{}-{at}", row.name);
            let outcome =
                settle(bench).and_then(|()| one(bench, turn, &mut running, [&topic, &fill], rate));
            let told = match &outcome {
                Ok(sample) => figures_shown(sample),
                Err(trouble) => trouble.to_string(),
            };
            println!("  round {round}  {}: {told}", turn.contender.label);
            report.note_round(bench, row, turn.contender, round, &load_average, &outcome)?;
            match outcome {
                Ok(sample) => turn.samples.push(sample),
                Err(trouble) => turn.trouble = Some(trouble),
            }
        }
    }
    let results: Vec<_> = turns
        .into_iter()
        .map(|turn| match turn.trouble {
            Some(trouble) => Err(trouble),
            None => Ok(turn.samples),
        })
        .collect();
    for goal in &row.goals {
        report.add(bench, Outcome::of(row, goal, &results))?;
    }
    Ok(())
}

/// What has to be done before the first round; a peak, where the rounds need one.
fn warm_up(
    bench: &Bench,
    turn: &mut Turn<'_>,
    running: &mut Running,
    topic: &str,
) -> Result<Option<f64>, Trouble> {
    let contender = turn.contender;
    let cluster = running.of(bench, contender)?;
    if let (Work::Start { partitions: 1.. }, On::Peer(peer, nodes)) =
        (&contender.work, contender.on)
    {
        turn.own = Some(with_topic(bench, peer, nodes, &contender.work)?);
    }
    let Some(cluster) = cluster else {
        return Ok(None);
    };
    if !contender.work.is_warmed() {
        return Ok(None);
    }
    println!("  warming up {}", contender.label);
    settle(bench)?;
    let warmed = match &contender.work {
        Work::Load(words) => bench.load(cluster, words, topic).map(|_| None),
        Work::Tail(words) => {
            let closed = [words.as_slice(), &["--rate".to_owned(), "0".to_owned()]].concat();
            let peak = bench.load(cluster, &closed, topic);
            peak.map(|sample| sample.figure(RECORDS_PER_SECOND))
        }
        _ => bench
            .fill(cluster, topic)
            .and_then(|()| bench.catch_up(cluster, topic))
            .map(|_| None),
    };
    warmed.map_err(Trouble::Failed)
}

/// A node that has a topic of so many partitions, and is stopped.
fn with_topic(bench: &Bench, peer: Peer, nodes: usize, work: &Work) -> Result<Cluster, Trouble> {
    let Work::Start { partitions } = work else {
        return Err(Trouble::Failed("it has no partitions".to_owned()));
    };
    let mut cluster = Cluster::start(bench, peer, nodes)?;
    let server = &mut cluster.servers[0];
    let made = bench
        .create_topic("many", *partitions, &server.address())
        .and_then(|()| server.stop());
    made.map_err(Trouble::Failed)?;
    Ok(cluster)
}

/// A round of a contender; of the two topics the first is of this round, the second of its warm-up.
fn one(
    bench: &Bench,
    turn: &mut Turn<'_>,
    running: &mut Running,
    [topic, filled]: [&str; 2],
    rate: Option<f64>,
) -> Result<Sample, Trouble> {
    let contender = turn.contender;
    if let Some(cluster) = running.of(bench, contender)? {
        let measured = match &contender.work {
            Work::Load(words) => bench.load(cluster, words, topic),
            Work::Tail(words) => {
                let rate = rate.ok_or_else(|| {
                    Trouble::Failed("nobody's peak is known, so there is no half".to_owned())
                })?;
                let paced = ["--rate".to_owned(), format!("{rate:.0}")];
                bench.load(cluster, &[words, &paced[..]].concat(), topic)
            }
            Work::OneByOne(kind) => bench.one_by_one(cluster, kind),
            Work::CatchUp => bench.catch_up(cluster, filled),
            Work::Crash => bench.crash(cluster, topic),
            _ => unreachable!("the others have no nodes that run"),
        };
        let sample = measured.map_err(Trouble::Failed)?;
        return match cluster.death() {
            None => Ok(sample),
            Some(why) => Err(Trouble::Failed(why)),
        };
    }
    match (&contender.work, contender.on) {
        (Work::Limit(name), _) => bench.limit(name).map_err(Trouble::Failed),
        (Work::Start { partitions: 0 }, On::Peer(peer, nodes)) => {
            let mut cluster = Cluster::launch(bench, peer, nodes)?;
            cluster.wait_until_ready()?;
            Ok(started(&cluster.servers[0]))
        }
        (Work::Start { .. }, _) => {
            let none = || Trouble::Failed("it has no node".to_owned());
            let server = &mut turn.own.as_mut().ok_or_else(none)?.servers[0];
            let ready = server
                .start_again()
                .and_then(|()| server.wait_until_ready());
            ready.map_err(Trouble::Failed)?;
            let sample = started(server);
            server.stop().map_err(Trouble::Failed)?;
            Ok(sample)
        }
        (Work::Idle, On::Peer(peer, nodes)) => {
            let cluster = Cluster::start(bench, peer, nodes)?;
            idle(&cluster, bench.options.measure_s()).map_err(Trouble::Failed)
        }
        _ => unreachable!("all others have nodes that run"),
    }
}

/// What was written before shall not be written to the disk while the next is measured.
fn settle(bench: &Bench) -> Result<(), Trouble> {
    succeed(&mut Command::new("sync"), SYNC_LIMIT).map_err(Trouble::Failed)?;
    let free = machine::free_mib(&bench.folder).map_err(Trouble::Failed)?;
    match free >= FREE_MIB_MIN {
        true => Ok(()),
        false => Err(Trouble::NotRun(format!(
            "{free} MiB are free, rounds need {FREE_MIB_MIN}"
        ))),
    }
}

fn figures_shown(sample: &Sample) -> String {
    let figures = sample.figures.iter();
    let shown = figures.map(|(metric, figure)| {
        let figure = super::stats::shown(*figure);
        format!("{} {figure}", metric.name)
    });
    shown.collect::<Vec<_>>().join("  ")
}

/// The figures of a round as a line of results has them.
pub(super) fn figures_json(sample: &Sample) -> Json {
    let figures = sample.figures.iter();
    let field = |(metric, figure): &(super::rows::Metric, f64)| {
        (metric.key.to_owned(), Json::number(*figure))
    };
    Json::Object(figures.map(field).collect())
}
