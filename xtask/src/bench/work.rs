//! One round of one contender: a load is put on it, and the figures are taken from what the
//! generator says. A generator that fails, or says that its run was not sound, is a failed round.

use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Bench;
use super::json::Json;
use super::peers::Cluster;
use super::rows::{
    AGAIN, CPU_PER_GB, MB_PER_SECOND, Metric, P50, P99, READY, RECORDS_PER_SECOND, RESIDENT,
    RESIDENT_PEAK,
};
use super::server::Server;
use crate::process::{Owned, finish};

/// For one round of a generator, with its checks.
const ROUND_LIMIT: Duration = Duration::from_secs(900);
/// What a generator waits for an answer.
const TIMEOUT: [&str; 2] = ["--timeout", "60s"];
/// Until a broker that was killed takes records again.
const AGAIN_LIMIT: Duration = Duration::from_secs(120);
const AGAIN_POLL: Duration = Duration::from_millis(2);

/// The figures of a round, and all that the generator said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    pub(super) figures: Vec<(Metric, f64)>,
    pub(super) said: Json,
}

impl Sample {
    fn of(figures: Vec<(Metric, f64)>) -> Sample {
        let said = Json::Null;
        Sample { figures, said }
    }

    pub(super) fn figure(&self, metric: Metric) -> Option<f64> {
        let found = self.figures.iter().find(|(known, _)| *known == metric);
        found.map(|(_, figure)| *figure)
    }
}

/// Where figures of `braidlog bench` and of `benches one-by-one` stand, and by what they are
/// multiplied.
const FIGURES: [(Metric, &str, f64); 6] = [
    (MB_PER_SECOND, "figures.mb_per_second", 1.0),
    (RECORDS_PER_SECOND, "figures.records_per_second", 1.0),
    (CPU_PER_GB, "figures.broker.cpu_seconds_per_gb", 1.0),
    (RESIDENT, "figures.broker.resident_bytes", 1e-6),
    (P50, "figures.latency_us.p50", 1.0),
    (P99, "figures.latency_us.p99", 1.0),
];

/// What a generator printed: one object, sound, with figures.
pub(super) fn sample(said: &str) -> Result<Sample, String> {
    let said = Json::parse(said.trim())?;
    if said.at("ok") != Some(&Json::Bool(true)) {
        return Err(problems(&said));
    }
    let figure = |(metric, path, factor): (Metric, &str, f64)| {
        let number = said.at(path)?.as_number()?;
        Some((metric, number * factor))
    };
    let figures: Vec<_> = FIGURES.into_iter().filter_map(figure).collect();
    match figures.is_empty() {
        true => Err("it says that all is well, and has no figures".to_owned()),
        false => Ok(Sample { figures, said }),
    }
}

fn problems(said: &Json) -> String {
    let problems = match said.at("problems") {
        Some(Json::Array(problems)) => problems.iter().filter_map(Json::as_text).collect(),
        _ => Vec::new(),
    };
    match problems.is_empty() {
        true => "it does not say that all is well".to_owned(),
        false => problems.join("; "),
    }
}

/// Runs a generator to its end.
fn generate(command: &mut Command) -> Result<Sample, String> {
    let finished = finish(command, ROUND_LIMIT)?;
    let sample = sample(&finished.text());
    match (finished.is_success, sample) {
        (true, sample) => sample,
        // What stands in the object says it best; there is none when it could not begin.
        (false, Err(why)) if !finished.stdout.is_empty() => Err(why),
        (false, _) => Err(finished.complaint()),
    }
}

impl Bench {
    /// `braidlog bench` with these arguments against a cluster.
    fn bench_command(&self, cluster: &Cluster, words: &[String]) -> Command {
        let mut command = Command::new(&self.binary);
        command.arg("bench").args(words).args(["-o", "json"]);
        command.args(["--bootstrap", &cluster.bootstrap()]);
        command.args(TIMEOUT);
        if let [alone] = cluster.servers.as_slice() {
            command.args(["--broker-pid", &alone.pid().to_string()]);
        }
        command
    }

    /// A load for the time that rounds have.
    pub(super) fn load(
        &self,
        cluster: &Cluster,
        words: &[String],
        topic: &str,
    ) -> Result<Sample, String> {
        let mut command = self.bench_command(cluster, words);
        command.args(["--topic", topic]);
        command.args(["--duration", &format!("{}s", self.options.measure_s())]);
        command.args(["--warm-up", &format!("{}s", self.options.warm_up_s())]);
        let mut sample = generate(&mut command)?;
        if let [alone] = cluster.servers.as_slice() {
            let (_, most) = alone.resident_mb()?;
            sample.figures.push((RESIDENT_PEAK, most));
        }
        Ok(sample)
    }

    /// One record at a time to a broker of another kind.
    pub(super) fn one_by_one(&self, cluster: &Cluster, kind: &str) -> Result<Sample, String> {
        let mut command = Command::new(&self.tools);
        command.args(["one-by-one", kind, &cluster.bootstrap()]);
        command.arg(self.options.measure_s().to_string());
        command.arg(self.options.warm_up_s().to_string());
        generate(&mut command)
    }

    /// A limit of the machine.
    pub(super) fn limit(&self, name: &str) -> Result<Sample, String> {
        let said = self.limits(self.options.measure_s(), &[name])?;
        let number = |field: &str| said.at(&format!("{name}.{field}"))?.as_number();
        let figures = [
            (MB_PER_SECOND, number("mb_per_second")),
            (P50, number("p50_us")),
            (P99, number("p99_us")),
        ];
        let figures = figures.into_iter();
        let figures = figures.filter_map(|(metric, figure)| Some((metric, figure?)));
        Ok(Sample {
            figures: figures.collect(),
            said,
        })
    }

    /// Fills a topic that is read later.
    pub(super) fn fill(&self, cluster: &Cluster, topic: &str) -> Result<(), String> {
        let records = if self.options.is_quick {
            300_000
        } else {
            2_000_000
        };
        let line = format!(
            "produce --keep --check off --rate 0 --size 1KiB --partitions 4 --records {records} \
             --batch-bytes 1000000 --warm-up 0ms --topic {topic}"
        );
        generate(&mut self.bench_command(cluster, &words(&line))).map(|_| ())
    }

    /// Reads a topic whose files are in nobody's memory. Ours is started again: it has a cache of
    /// its own. Kafka has none, and would be cold after a start.
    pub(super) fn catch_up(&self, cluster: &mut Cluster, topic: &str) -> Result<Sample, String> {
        let is_ours = cluster.peer.is_ours();
        let server = &mut cluster.servers[0];
        if is_ours {
            server.stop()?;
        }
        self.evict(server)?;
        if is_ours {
            server.start_again()?;
            server.wait_until_ready()?;
        }
        let words = words(&format!("consume --clients 2 --topic {topic}"));
        generate(&mut self.bench_command(cluster, &words))
    }

    fn evict(&self, server: &Server) -> Result<(), String> {
        let mut evict = Command::new(&self.tools);
        evict.arg("evict").arg(&server.data);
        let evicted = finish(&mut evict, ROUND_LIMIT)?;
        match evicted.is_success {
            true => Ok(()),
            false => Err(evicted.complaint()),
        }
    }

    /// Kills a broker under load, starts it again, and waits until it has acknowledged records.
    /// What was acknowledged before must have no gap then, and nothing twice.
    pub(super) fn crash(&self, cluster: &mut Cluster, topic: &str) -> Result<Sample, String> {
        let load_s = self.options.measure_s();
        let load = words(&format!(
            "produce --keep --check off --rate 0 --size 1KiB --partitions 4 --batch-bytes 1000000 \
             --duration 600s --topic {topic}"
        ));
        let mut generator = self.bench_command(cluster, &load);
        let quiet = generator.stdout(Stdio::null()).stderr(Stdio::null());
        let mut generator = Owned::spawn(quiet.stdin(Stdio::null()))?;
        sleep(Duration::from_secs(load_s));
        if let Ok(Some(status)) = generator.0.try_wait() {
            return Err(format!("the load ended before the broker did: {status}"));
        }
        let killed = Instant::now();
        cluster.servers[0].kill()?;
        cluster.servers[0].start_again()?;
        // Its connections are broken: it ends by itself, and must not load what comes.
        drop(generator);
        let again = words(&format!(
            "produce --keep --check off --rate 0 --size 1KiB --records 1000 --warm-up 0ms \
             --topic {topic}"
        ));
        while !finish(&mut self.bench_command(cluster, &again), ROUND_LIMIT)?.is_success {
            if let Some(death) = cluster.death() {
                return Err(format!("it does not come back: {death}"));
            }
            if killed.elapsed() > AGAIN_LIMIT {
                return Err("it takes no records any more".to_owned());
            }
            sleep(AGAIN_POLL);
        }
        let again_ms = killed.elapsed().as_secs_f64() * 1e3;
        let read = words(&format!("consume --clients 2 --topic {topic}"));
        let mut sample = generate(&mut self.bench_command(cluster, &read))?;
        self.delete_topic(topic, &cluster.bootstrap())?;
        sample.figures = vec![(AGAIN, again_ms)];
        Ok(sample)
    }
}

/// Memory of a node that has run for so long.
pub(super) fn idle(cluster: &Cluster, for_s: u64) -> Result<Sample, String> {
    sleep(Duration::from_secs(for_s));
    let (now, most) = cluster.servers[0].resident_mb()?;
    Ok(Sample::of(vec![(RESIDENT, now), (RESIDENT_PEAK, most)]))
}

/// How long a start took that is over now.
pub(super) fn started(server: &Server) -> Sample {
    let ready_ms = server.since_start().as_secs_f64() * 1e3;
    Sample::of(vec![(READY, ready_ms)])
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_taken_from_a_sound_run() {
        let said = r#"{"mode":"produce","ok":true,"problems":[],"figures":{"mb_per_second":250.5,
            "latency_us":{"p50":900,"p99":4000},"broker":{"resident_bytes":50000000}}}"#;
        let sample = sample(said).unwrap();
        assert_eq!(sample.figure(MB_PER_SECOND), Some(250.5));
        assert_eq!(sample.figure(P99), Some(4000.0));
        assert_eq!(sample.figure(RESIDENT), Some(50.0));
        assert_eq!(sample.figure(CPU_PER_GB), None);
    }

    #[test]
    fn a_run_that_is_not_sound_has_no_figures() {
        let bad = r#"{"ok":false,"problems":["3 records lost","x"],"figures":null}"#;
        assert_eq!(sample(bad), Err("3 records lost; x".to_owned()));
        for said in [
            "",
            "{}",
            r#"{"ok":true}"#,
            r#"{"ok":"true"}"#,
            "{\"ok\":true} and more",
        ] {
            assert!(sample(said).is_err(), "{said}");
        }
        // Figures beside a run that was not sound are not looked at.
        let both = r#"{"ok":false,"problems":[],"figures":{"mb_per_second":1}}"#;
        assert!(sample(both).is_err());
    }

    #[test]
    fn a_generator_that_fails_says_why() {
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo no such broker >&2; exit 1"]);
        assert_eq!(generate(&mut shell), Err("no such broker".to_owned()));
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            r#"echo '{"ok":true,"figures":{"mb_per_second":1}}'; exit 1"#,
        ]);
        assert!(generate(&mut shell).is_err());
    }
}
