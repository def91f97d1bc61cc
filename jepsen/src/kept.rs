//! [`KeptRun`]: the directory of a run: `history.jsonl`, `verdict.json`, `settings.json`, `report.html`.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use jepsen_check::history::{self, Event};
use jepsen_check::report::{self, About};
use jepsen_check::{Anomaly, Limits, Verdict, check};
use serde::{Deserialize, Serialize};

use crate::exit::Failure;

/// Which world a run was in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum World {
    /// Real processes.
    Run,
    /// Simulated nodes.
    Sim,
}

/// What a run was told, as `settings.json` has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) world: World,
    pub(crate) seed: u64,
    /// Arguments of the command that does it again, after `jepsen`.
    pub(crate) arguments: Vec<String>,
    /// The version of this program.
    pub(crate) version: String,
    /// What its page says of it.
    pub(crate) about: About,
    /// What it is judged by.
    pub(crate) limits: Limits,
    /// Anomalies seen elsewhere than in the history.
    #[serde(default)]
    pub(crate) seen_elsewhere: Vec<Anomaly>,
}

/// The directory of a run.
#[derive(Debug, Clone)]
pub(crate) struct KeptRun {
    dir: PathBuf,
}

impl KeptRun {
    /// A new one; there is no run in it yet.
    pub(crate) fn create(dir: &Path) -> Result<KeptRun, Failure> {
        if dir.join("history.jsonl").exists() || dir.join("settings.json").exists() {
            return Err(Failure::new(
                format!("{} holds a run already", dir.display()),
                "name another directory with --out, or remove that one",
            ));
        }
        let kept = KeptRun {
            dir: dir.to_owned(),
        };
        fs::create_dir_all(dir).map_err(|error| kept.failure("", &error))?;
        Ok(kept)
    }

    /// One that is there.
    pub(crate) fn open(dir: &Path) -> Result<KeptRun, Failure> {
        if !dir.join("history.jsonl").is_file() {
            return Err(Failure::new(
                format!("{} holds no run: it has no history.jsonl", dir.display()),
                "name the directory that `jepsen run` or `jepsen sim` printed",
            ));
        }
        Ok(KeptRun {
            dir: dir.to_owned(),
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn failure(&self, name: &str, error: &dyn std::fmt::Display) -> Failure {
        Failure::new(
            format!("{}: {error}", self.path(name).display()),
            "see that the directory can be written and the disk is not full, or name another one",
        )
    }

    /// A file of the run, to be written piece by piece.
    pub(crate) fn writer(&self, name: &str) -> Result<BufWriter<File>, Failure> {
        let file = File::create(self.path(name)).map_err(|error| self.failure(name, &error))?;
        Ok(BufWriter::new(file))
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        fs::write(self.path(name), text).map_err(|error| self.failure(name, &error))
    }

    pub(crate) fn write_settings(&self, settings: &Settings) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(settings)
            .map_err(|error| self.failure("settings.json", &error))?;
        self.write("settings.json", &(text + "\n"))
    }

    pub(crate) fn write_history(&self, events: &[Event]) -> Result<(), Failure> {
        let mut writer = self.writer("history.jsonl")?;
        let written = history::write(&mut writer, events);
        written.map_err(|error| self.failure("history.jsonl", &error))?;
        writer
            .flush()
            .map_err(|error| self.failure("history.jsonl", &error))
    }

    /// `verdict.json` and `report.html`.
    pub(crate) fn write_verdict(
        &self,
        events: &[Event],
        verdict: &Verdict,
        about: &About,
    ) -> Result<(), Failure> {
        let text = verdict
            .to_json()
            .map_err(|error| self.failure("verdict.json", &error))?;
        self.write("verdict.json", &text)?;
        self.write_report(events, verdict, about)
    }

    pub(crate) fn write_report(
        &self,
        events: &[Event],
        verdict: &Verdict,
        about: &About,
    ) -> Result<(), Failure> {
        self.write("report.html", &report::write(events, verdict, about))
    }

    /// Removes what nodes had on their disks, which is most of a run, where nobody will look for a
    /// cause in it; their logs stay.
    pub(crate) fn drop_data(&self) -> Result<(), Failure> {
        let nodes = self.path("nodes");
        let failure = |error: std::io::Error| self.failure("nodes", &error);
        for node in fs::read_dir(&nodes).map_err(failure)? {
            let node = node.map_err(failure)?.path();
            for name in ["data", "side"] {
                match fs::remove_dir_all(node.join(name)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(failure(error));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    pub(crate) fn history(&self) -> Result<Vec<Event>, Failure> {
        let name = "history.jsonl";
        let damaged = |error: &dyn std::fmt::Display| {
            let cause = format!("{}: {error}", self.path(name).display());
            Failure::new(
                cause,
                "the history was cut short or changed: do the run again",
            )
        };
        let file = File::open(self.path(name)).map_err(|error| damaged(&error))?;
        history::read_history(BufReader::new(file)).map_err(|error| damaged(&error))
    }

    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        self.json("settings.json")
    }

    /// `None` when it was not judged yet.
    pub(crate) fn verdict(&self) -> Result<Option<Verdict>, Failure> {
        if !self.path("verdict.json").exists() {
            return Ok(None);
        }
        self.json("verdict.json").map(Some)
    }

    fn json<T: for<'a> Deserialize<'a>>(&self, name: &str) -> Result<T, Failure> {
        let read = fs::read(self.path(name)).map_err(|error| error.to_string());
        let read =
            read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
        read.map_err(|error| {
            let cause = format!("{}: {error}", self.path(name).display());
            Failure::new(
                cause,
                "the run is damaged or of another version: do it again",
            )
        })
    }
}

/// What a history shows, and what was seen elsewhere.
pub(crate) fn judge(events: &[Event], limits: &Limits, seen_elsewhere: &[Anomaly]) -> Verdict {
    let mut verdict = check(events, limits);
    for anomaly in seen_elsewhere {
        verdict.add(anomaly.clone());
    }
    verdict
}
