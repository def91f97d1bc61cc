//! What a process has used, from `/proc`; where there is none (not Linux), nothing is told.

use std::path::Path;

use storage::disk::{Disk, OpenMode};

/// The kernel counts the time of processes in hundredths of a second here.
const TICKS_PER_SECOND: u64 = 100;
const TEXT_BYTES_MAX: usize = 1 << 20;

/// What a process has used since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    /// When it was started, in ticks since boot: a later process of the same id is another.
    started: u64,
    /// Processor time of all threads, in user and kernel.
    pub(crate) cpu_ticks: u64,
    /// Resident memory now, in bytes.
    pub(crate) resident_bytes: u64,
    /// Context switches of the threads that live: it waited,
    pub(crate) voluntary: u64,
    /// or it was made to.
    pub(crate) involuntary: u64,
}

/// Whether a process of this id runs and can be looked at.
#[must_use]
pub fn process_exists(pid: u32) -> bool {
    Usage::of(pid).is_some()
}

impl Usage {
    /// Of this process, when it runs.
    pub(crate) fn of(pid: u32) -> Option<Usage> {
        let (started, cpu_ticks) = parse_stat(&read(&format!("/proc/{pid}/stat"))?)?;
        let status = read(&format!("/proc/{pid}/status"))?;
        let resident_kib = number_of(&status, "VmRSS:")?;
        let mut usage = Usage {
            started,
            cpu_ticks,
            resident_bytes: resident_kib * 1024,
            voluntary: 0,
            involuntary: 0,
        };
        // The switches in `status` are those of its first thread.
        let threads = Disk::Real.read_dir(Path::new(&format!("/proc/{pid}/task")));
        for thread in threads.ok()? {
            // One that ends meanwhile is gone with what it counted.
            let Some(status) = read(&format!("/proc/{pid}/task/{}/status", thread.name)) else {
                continue;
            };
            usage.voluntary += number_of(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            usage.involuntary += number_of(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        Some(usage)
    }

    /// Of this process.
    pub(crate) fn own() -> Option<Usage> {
        Usage::of(std::process::id())
    }

    /// What was used since `earlier`: ticks and switches. `None`: it is another process.
    pub(crate) fn since(&self, earlier: &Usage) -> Option<Usage> {
        (self.started == earlier.started).then(|| Usage {
            started: self.started,
            cpu_ticks: self.cpu_ticks.saturating_sub(earlier.cpu_ticks),
            resident_bytes: self.resident_bytes,
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
        })
    }

    /// Its processor time in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        crate::report::float(self.cpu_ticks) / crate::report::float(TICKS_PER_SECOND)
    }
}

/// Start time and processor time. The second field is the program's name in parentheses and may
/// hold anything.
fn parse_stat(text: &str) -> Option<(u64, u64)> {
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    // The state is field 3; 14 and 15 are time in user and kernel, 22 is the start.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ended = matches!(fields.first(), Some(&"Z" | &"X"));
    (!ended).then_some(())?;
    Some((field(22)?, field(14)? + field(15)?))
}

/// The number behind a name at the beginning of a line.
fn number_of(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The whole of a file in `/proc`, which says its length is 0.
fn read(path: &str) -> Option<String> {
    let file = Disk::Real.open(Path::new(path), OpenMode::Read).ok()?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    while bytes.len() < TEXT_BYTES_MAX {
        match file.read_at(&mut buffer, bytes.len() as u64).ok()? {
            0 => break,
            count => bytes.extend_from_slice(&buffer[..count]),
        }
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "42 (a) R 1 (b) S 1 42 42 0 -1 4194560 100 0 0 0 17 5 0 0 20 0 9 0 777 1 2 3";
        assert_eq!(parse_stat(stat), Some((777, 22)));
        assert_eq!(parse_stat(&stat.replace(" S ", " Z ")), None);
        assert_eq!(parse_stat(""), None);
        let status = "VmRSS:\t  12 kB\nnonvoluntary_ctxt_switches:\t3\n";
        assert_eq!(number_of(status, "VmRSS:"), Some(12));
        assert_eq!(number_of(status, "voluntary_ctxt_switches:"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_uses_time_and_memory() {
        let before = Usage::own().expect("it runs");
        let mut word = 1;
        while Usage::own()
            .expect("it runs")
            .since(&before)
            .unwrap()
            .cpu_ticks
            == 0
        {
            word = crate::stamp::mixed(word);
        }
        assert!(before.resident_bytes > 100_000, "{word}");
        let other = Usage {
            started: before.started + 1,
            ..before
        };
        assert_eq!(before.since(&other), None);
    }
}
