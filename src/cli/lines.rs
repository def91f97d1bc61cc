//! Standard input as records: a line each, gathered into batches.
//!
//! Whatever lines are there make a batch, so that an interactive line is sent at once and a large
//! file in large batches.

use std::io::{BufRead, BufReader, Read};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::failure::{Failure, Kind};

const BATCH_RECORDS_MAX: usize = 10_000;
/// Longest line.
const LINE_BYTES_MAX: usize = 64 << 20;
const INPUT_BUFFER_BYTES: usize = 256 << 10;

/// Reads standard input on a thread of its own. A batch is closed before its values, each with
/// `record_overhead_bytes` more, pass `batch_bytes`; a longer line is a batch of its own.
pub(super) fn read_lines(
    batch_bytes: usize,
    record_overhead_bytes: usize,
) -> mpsc::Receiver<Result<Vec<Bytes>, Failure>> {
    let (send, receive) = mpsc::channel(2);
    // Ends with the input, or when nobody listens any more; a blocked read goes with the process.
    std::thread::spawn(move || {
        let input = BufReader::with_capacity(INPUT_BUFFER_BYTES, std::io::stdin().lock());
        // Nobody is left to be told when sending fails.
        let _ = for_each_batch(input, batch_bytes, record_overhead_bytes, |batch| {
            send.blocking_send(batch).is_ok()
        });
    });
    receive
}

/// Hands batches of lines to `each` until the input ends, fails, or `each` answers false.
fn for_each_batch(
    mut input: BufReader<impl Read>,
    batch_bytes: usize,
    record_overhead_bytes: usize,
    mut each: impl FnMut(Result<Vec<Bytes>, Failure>) -> bool,
) -> Option<()> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    let mut lines = 0u64;
    loop {
        let mut line = Vec::new();
        let limit = LINE_BYTES_MAX as u64 + 2;
        let read = (&mut input).take(limit).read_until(b'\n', &mut line);
        lines += 1;
        let failure = match read {
            Err(error) => Some(format!("cannot read standard input: {error}")),
            Ok(_) if line.strip_suffix(b"\n").unwrap_or(&line).len() > LINE_BYTES_MAX => Some(
                format!("line {lines} is longer than {LINE_BYTES_MAX} bytes"),
            ),
            Ok(_) => None,
        };
        let ended = line.is_empty();
        if failure.is_none() && !ended {
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            let record_bytes = line.len() + record_overhead_bytes;
            if !batch.is_empty() && bytes + record_bytes > batch_bytes {
                bytes = 0;
                each(Ok(std::mem::take(&mut batch))).then_some(())?;
            }
            bytes += record_bytes;
            batch.push(Bytes::from(line));
        }
        let more_at_hand = !ended && failure.is_none() && input.buffer().contains(&b'\n');
        if !batch.is_empty() && (batch.len() >= BATCH_RECORDS_MAX || !more_at_hand) {
            bytes = 0;
            each(Ok(std::mem::take(&mut batch))).then_some(())?;
        }
        if let Some(message) = failure {
            each(Err(Failure::new(Kind::Failed, message))).then_some(())?;
            return Some(());
        }
        if ended {
            return Some(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(input: &[u8]) -> Vec<Vec<Bytes>> {
        let mut batches = Vec::new();
        let input = BufReader::with_capacity(1 << 20, input);
        for_each_batch(input, 512 << 10, 24, |batch| {
            batches.push(batch.expect("input without an error"));
            true
        });
        batches
    }

    #[test]
    fn a_line_is_a_value_without_its_end() {
        let lines = |input: &str| batches(input.as_bytes()).concat();
        assert_eq!(lines("a\nb\n"), ["a", "b"]);
        assert_eq!(lines("a\nb"), ["a", "b"]);
        assert_eq!(lines("a\n\n b \r\n"), ["a", "", " b \r"]);
        assert_eq!(lines(""), Vec::<Bytes>::new());
        assert_eq!(lines("\n"), [""]);
    }

    #[test]
    fn lines_at_hand_share_batches_up_to_the_limit() {
        let input = "0123456789\n".repeat(60_000);
        let batches = batches(input.as_bytes());
        assert_eq!(batches.concat().len(), 60_000);
        assert!(batches.len() < 12, "{} batches", batches.len());
        assert!(batches.iter().all(|batch| batch.len() <= BATCH_RECORDS_MAX));
    }

    #[test]
    fn an_overlong_line_is_refused_after_the_lines_before_it() {
        let mut input = b"first\n".to_vec();
        input.resize(input.len() + LINE_BYTES_MAX + 1, b'x');
        let mut seen = Vec::new();
        for_each_batch(BufReader::new(&input[..]), 512 << 10, 24, |batch| {
            seen.push(batch.map_err(|failure| format!("{failure:?}")));
            true
        });
        assert_eq!(seen[0], Ok(vec![Bytes::from("first")]));
        assert!(
            seen[1]
                .as_ref()
                .is_err_and(|message| message.contains("line 2"))
        );
    }

    #[test]
    fn no_batch_passes_the_limit_save_a_line_that_does() {
        let input = format!(
            "{}{}\n{}",
            "short\n".repeat(50),
            "x".repeat(300),
            "short\n".repeat(9)
        );
        let mut batches: Vec<Vec<Bytes>> = Vec::new();
        for_each_batch(BufReader::new(input.as_bytes()), 100, 10, |batch| {
            batches.push(batch.expect("input without an error"));
            true
        });
        assert_eq!(batches.concat().len(), 60);
        let bytes =
            |batch: &Vec<Bytes>| -> usize { batch.iter().map(|line| line.len() + 10).sum() };
        assert_eq!(batches.iter().filter(|batch| bytes(batch) > 100).count(), 1);
        assert!(
            batches
                .iter()
                .all(|batch| bytes(batch) <= 100 || batch.len() == 1)
        );
    }
}
