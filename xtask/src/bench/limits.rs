//! What the machine can do by itself, measured by the crate `benches` beside the brokers.

use std::process::Command;
use std::time::Duration;

use super::Bench;
use super::json::Json;
use super::stats::shown;
use crate::process::succeed;

/// Files are written before they are measured.
const LIMIT: Duration = Duration::from_secs(900);

impl Bench {
    /// The limits of these names, all when there is none, each for so long.
    pub(super) fn limits(&self, seconds: u64, names: &[&str]) -> Result<Json, String> {
        let mut command = Command::new(&self.tools);
        command.arg("limits").arg(seconds.to_string());
        command.arg(&self.folder).args(names);
        let said = succeed(&mut command, LIMIT)?.text();
        Json::parse(said.trim())
    }

    /// Measures all of them, and says so.
    pub(super) fn measure_limits(&mut self) -> Result<(), String> {
        println!("limits of the machine:");
        let seconds = if self.options.is_quick { 1 } else { 3 };
        let measured = self.limits(seconds, &[])?;
        if let Json::Object(limits) = &measured {
            for (name, limit) in limits {
                let number = |field| limit.at(field).and_then(Json::as_number).map(shown);
                let [rate, p50, p99] = ["mb_per_second", "p50_us", "p99_us"]
                    .map(|field| number(field).unwrap_or_default());
                println!("  {name:<12} {rate:>6} MB/s  p50 {p50} us  p99 {p99} us");
            }
        }
        self.limits_measured = measured;
        Ok(())
    }
}
