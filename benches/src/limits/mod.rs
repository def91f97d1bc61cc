//! What the machine can do, without a broker: `limits SECONDS DIR [NAME...]` measures each of these
//! for so long (all when none is named) and prints one JSON object with a field for each.
//!
//! Latencies are in microseconds, a MB is 10^6 bytes. Files are made in DIR, and removed. `evict
//! DIR` takes files out of the page cache, so that the next reader meets the disk.

mod cold;
mod disk;
mod memory;

use std::path::Path;

use load::latency::Latencies;
use serde_json::{Map, Value, json};

pub(crate) use cold::evict;

/// One limit: its name, and what measures it for so many seconds in a directory.
type Limit = (&'static str, fn(i64, &Path) -> Result<Value, String>);

const LIMITS: [Limit; 6] = [
    ("sync_4k", |seconds, dir| disk::sync(4 << 10, seconds, dir)),
    ("sync_1m", |seconds, dir| disk::sync(1 << 20, seconds, dir)),
    ("group_commit", disk::group_commit),
    ("loopback", memory::loopback),
    ("memory_copy", memory::copy),
    ("cold_read", cold::read),
];

pub(crate) fn run(arguments: &[String]) -> Result<Value, String> {
    let [seconds, dir, names @ ..] = arguments else {
        return Err("limits SECONDS DIR [NAME...]".to_owned());
    };
    let seconds: i64 = match seconds.parse() {
        Ok(seconds @ 1..=600) => seconds,
        _ => return Err(format!("1 to 600 seconds, not {seconds}")),
    };
    let known = |name: &&String| LIMITS.iter().any(|(known, _)| known == name);
    if let Some(name) = names.iter().find(|name| !known(name)) {
        return Err(format!("there is no limit {name}"));
    }
    let mut measured = Map::new();
    for (name, measure) in LIMITS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            measured.insert(name.to_owned(), measure(seconds, Path::new(dir))?);
        }
    }
    Ok(Value::Object(measured))
}

/// Something done again and again, in steps of so many bytes.
fn told(steps: u64, bytes_each: u64, us: i64, latencies: &Latencies) -> Value {
    let seconds = Value::from(us).as_f64().unwrap_or(0.0) / 1e6;
    let rate = |count: u64| Value::from(count).as_f64().unwrap_or(0.0) / seconds.max(1e-9);
    let figures = latencies.figures();
    json!({
        "per_second": rate(steps),
        "mb_per_second": rate(steps * bytes_each) / 1e6,
        "p50_us": figures.map(|figures| figures.p50_us),
        "p99_us": figures.map(|figures| figures.p99_us),
    })
}

fn told_io(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_not_a_limit_is_refused() {
        for line in ["", "1", "0 .", "x .", "1 . sync_4k nonsense"] {
            assert!(run(&words(line)).is_err(), "{line}");
        }
    }

    #[test]
    fn limits_that_are_named_are_measured_and_leave_nothing() {
        let dir = std::env::temp_dir().join(format!("limits-test-{}", std::process::id()));
        storage::disk::Disk::Real.create_dir_all(&dir).unwrap();
        let line = format!("1 {} sync_4k memory_copy group_commit", dir.display());
        let measured = run(&words(&line)).unwrap();
        assert_eq!(measured.as_object().unwrap().len(), 3);
        for (name, limit) in measured.as_object().unwrap() {
            let rate = limit["mb_per_second"].as_f64().unwrap();
            assert!(
                rate > 0.0 && limit["p99_us"].as_f64() >= limit["p50_us"].as_f64(),
                "{name}"
            );
        }
        let left = storage::disk::Disk::Real.read_dir(&dir).unwrap();
        assert!(left.is_empty());
        storage::disk::Disk::Real.remove_dir_all(&dir).unwrap();
    }
}
