//! What the results were measured on, as far as Linux tells it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::json::Json;
use crate::process::succeed;

const ASK_LIMIT: Duration = Duration::from_secs(30);

/// Processors, memory, kernel.
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) processors: usize,
    pub(super) memory_mb: f64,
    pub(super) kernel: String,
}

impl Machine {
    pub(super) fn look() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processors = std::thread::available_parallelism();
        let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
        Machine {
            processor: field(&read("/proc/cpuinfo"), "model name")
                .unwrap_or("unknown")
                .to_owned(),
            processors: processors.map_or(0, usize::from),
            memory_mb: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|text| text.split(' ').next()?.parse::<f64>().ok())
                .map_or(0.0, |kib| kib * 1.024e-3),
            kernel: match kernel.is_empty() {
                true => std::env::consts::OS.to_owned(),
                false => format!("Linux {kernel}"),
            },
        }
    }

    pub(super) fn json(&self) -> Json {
        Json::object([
            ("processor", Json::text(&self.processor)),
            ("processors", Json::Number(self.processors.to_string())),
            ("memory_mb", Json::number(self.memory_mb.round())),
            ("kernel", Json::text(&self.kernel)),
        ])
    }
}

/// What stands behind a name and a colon at the beginning of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let mut found = lines.filter(|(before, _)| before.trim() == name);
    found.next().map(|(_, value)| value.trim())
}

/// Processes that ran or waited, over the last 1, 5 and 15 minutes; empty where nobody counts them.
pub(super) fn load_average() -> Vec<f64> {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let words = text.split(' ').take(3);
    words.filter_map(|word| word.parse().ok()).collect()
}

/// Free space where a folder is.
pub(super) fn free_mib(folder: &Path) -> Result<u64, String> {
    let mut df = Command::new("df");
    let said = succeed(df.args(["-Pm"]).arg(folder), ASK_LIMIT)?.text();
    let free = (said.lines().nth(1)).and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    free.ok_or_else(|| format!("df says {said}"))
}

/// The day and the minute, in UTC.
pub(super) fn now() -> Result<String, String> {
    let mut date = Command::new("date");
    let said = succeed(date.args(["-u", "+%Y-%m-%d %H:%M UTC"]), ASK_LIMIT)?;
    Ok(said.text().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "model\t\t: 1\nmodel name\t: A processor: fast\nMemTotal:  2048 kB\n";
        assert_eq!(field(text, "model name"), Some("A processor: fast"));
        assert_eq!(field(text, "MemTotal"), Some("2048 kB"));
        assert_eq!(field(text, "name"), None);
    }

    #[test]
    fn there_is_space_where_this_runs() {
        assert!(free_mib(Path::new("/")).is_ok());
        assert!(free_mib(Path::new("/nowhere/at/all")).is_err());
    }
}
