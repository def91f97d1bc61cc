//! Child processes that end: each has a deadline and an owner that kills it by its own handle.
//!
//! Output is drained by threads, so a talkative child never blocks on a full pipe.

use std::io::Read;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a running child is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// How much of a child's error output is quoted in a report.
const QUOTED_CHARS_MAX: usize = 400;

/// A child that is killed and reaped when dropped.
pub(crate) struct Owned(pub(crate) Child);

impl Owned {
    /// Starts a command.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        command
            .spawn()
            .map(Self)
            .map_err(|problem| format!("cannot run {name}: {problem}"))
    }

    /// Waits for the child to end by itself.
    pub(crate) fn wait_until(&mut self, deadline: Instant) -> Result<ExitStatus, String> {
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL_INTERVAL),
                Ok(None) => return Err("ran out of time".to_owned()),
                Err(problem) => return Err(format!("cannot wait for it: {problem}")),
            }
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Errors mean that it has ended already, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a finished command left behind.
pub(crate) struct Finished {
    /// Whether it exited with 0.
    pub(crate) is_success: bool,
    /// Standard output, as it came.
    pub(crate) stdout: Vec<u8>,
    /// Standard error as text.
    pub(crate) stderr: String,
}

impl Finished {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The end of the error output (of the output when there is none), on one line.
    pub(crate) fn complaint(&self) -> String {
        let said = if self.stderr.trim().is_empty() {
            self.text()
        } else {
            self.stderr.clone()
        };
        one_line(&said)
    }
}

/// The last characters of a text, on one line.
pub(crate) fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let skipped = words.chars().count().saturating_sub(QUOTED_CHARS_MAX);
    words.chars().skip(skipped).collect()
}

/// Runs a command to its end, feeding it nothing; an error says that it did not start or end.
pub(crate) fn finish(command: &mut Command, limit: Duration) -> Result<Finished, String> {
    let child = Owned::spawn(
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )?;
    finish_spawned(child, Instant::now() + limit)
}

/// Runs a command to its end while `feed`, on a thread of its own, writes its standard input.
pub(crate) fn finish_with(
    command: &mut Command,
    limit: Duration,
    feed: impl FnOnce(ChildStdin) -> std::io::Result<()> + Send + 'static,
) -> Result<Finished, String> {
    let mut child = Owned::spawn(
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped()),
    )?;
    let stdin = child.0.stdin.take().expect("it was asked for");
    let feeder = std::thread::spawn(move || feed(stdin));
    let finished = finish_spawned(child, Instant::now() + limit)?;
    match feeder.join() {
        // A failed child explains a broken pipe better than the pipe does.
        Ok(Err(problem)) if finished.is_success => Err(format!("cannot feed it: {problem}")),
        Err(_) => Err("feeding it panicked".to_owned()),
        Ok(_) => Ok(finished),
    }
}

/// Collects a started child's output until it ends; its pipes are drained, when it has any.
pub(crate) fn finish_spawned(mut child: Owned, deadline: Instant) -> Result<Finished, String> {
    let stdout = drain(child.0.stdout.take());
    let stderr = drain(child.0.stderr.take());
    let status = child.wait_until(deadline);
    drop(child);
    let stderr = String::from_utf8_lossy(&collect(stderr)).into_owned();
    let stdout = collect(stdout);
    let status = status.map_err(|problem| format!("{problem}: {}", one_line(&stderr)))?;
    Ok(Finished {
        is_success: status.success(),
        stdout,
        stderr,
    })
}

/// As [`finish`], with a failed exit as an error that quotes the command.
pub(crate) fn succeed(command: &mut Command, limit: Duration) -> Result<Finished, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let finished = finish(command, limit)?;
    if finished.is_success {
        Ok(finished)
    } else {
        Err(format!("{name} failed: {}", finished.complaint()))
    }
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            // A pipe that breaks has ended: what came before it is the output.
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn collect(thread: JoinHandle<Vec<u8>>) -> Vec<u8> {
    thread.join().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_exit_are_reported() {
        let finished = finish(&mut shell("echo out; echo oh no >&2; exit 3"), LIMIT).unwrap();
        assert_eq!(
            (finished.text().as_str(), finished.is_success),
            ("out\n", false)
        );
        assert_eq!(finished.complaint(), "oh no");
        assert!(succeed(&mut shell("exit 1"), LIMIT).is_err());
    }

    #[test]
    fn a_child_that_takes_too_long_is_ended() {
        let started = Instant::now();
        let ended = finish(
            &mut shell("echo busy >&2; exec sleep 1000"),
            Duration::from_millis(200),
        );
        assert_eq!(ended.err().as_deref(), Some("ran out of time: busy"));
        assert!(started.elapsed() < LIMIT);
    }

    #[test]
    fn a_fed_child_reads_everything() {
        let feed = |mut stdin: ChildStdin| stdin.write_all(&[b'x'; 1_000_000]);
        let finished = finish_with(&mut shell("wc -c"), LIMIT, feed).unwrap();
        assert_eq!(finished.text().trim(), "1000000");
    }

    #[test]
    fn a_long_complaint_is_cut_from_the_front() {
        let text = "a ".repeat(1000) + "the reason";
        let quoted = one_line(&text);
        assert_eq!(quoted.chars().count(), QUOTED_CHARS_MAX);
        assert!(quoted.ends_with("the reason"));
    }
}
