//! The log of names: what was made, changed, removed and synced, in order.
//!
//! One line an event: what became of it, its letter, and what it is about, between tabs.
//! The library writes a line before it does the thing, with `?`, and puts `+` (done) or `-` (failed)
//! in its place afterwards. It changes names one at a time, so of those at most the last is open when
//! the process dies, and the data directory tells whether it happened; an open sync did not.
//!
//! ```text
//! + D <path>               a directory that is there for good     + S <path>             directory synced
//! + F <file> <path>        a file that is there for good          + A                    file system synced
//! + c <file> <path>        file created                           + x <file> <from> <to> sectors in doubt:
//! + m <path>               directory made                                                a sync of them failed
//! + r <from> <to>          renamed                                + o <file> <from> <to> written again, no
//! + u <path>               file removed                                                  more in doubt
//! + d <path>               directory removed
//! + p                      a process begins
//! ```

use std::io;
use std::path::Path;

use crate::FileId;
use crate::names::{Names, Node};

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fate {
    /// It was begun.
    Open = b'?',
    /// It happened.
    Done = b'+',
    /// It did not happen.
    Failed = b'-',
}

/// One event. Paths are below the data directory, which itself is the empty path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A process began to work on the data directory.
    Start,
    /// A directory that is there for good.
    HasDirectory {
        /// Where.
        path: String,
    },
    /// A file that is there for good, as its platter is.
    HasFile {
        /// Which.
        file: FileId,
        /// Where.
        path: String,
    },
    /// A file was created.
    Create {
        /// Which.
        file: FileId,
        /// Where.
        path: String,
    },
    /// A directory was made.
    MakeDirectory {
        /// Where.
        path: String,
    },
    /// A name was changed, to a free one or over that of another file.
    Rename {
        /// The old name.
        from: String,
        /// The new one.
        to: String,
    },
    /// A file's name was removed.
    Remove {
        /// The name.
        path: String,
    },
    /// An empty directory was removed.
    RemoveDirectory {
        /// Where it was.
        path: String,
    },
    /// A directory was synced.
    SyncDirectory {
        /// Where.
        path: String,
    },
    /// The file system was synced.
    SyncAll,
    /// A sync of these bytes failed: no later one writes them.
    Doubt {
        /// Of which file.
        file: FileId,
        /// From there on.
        start: u64,
        /// Up to there.
        end: u64,
    },
    /// These bytes were written again.
    Trust {
        /// Of which file.
        file: FileId,
        /// From there on.
        start: u64,
        /// Up to there.
        end: u64,
    },
}

impl Event {
    /// Its line, with the line's end.
    #[must_use]
    pub fn line(&self, fate: Fate) -> String {
        let fate = char::from(fate as u8);
        match self {
            Event::Start => format!("{fate}\tp\n"),
            Event::HasDirectory { path } => format!("{fate}\tD\t{path}\n"),
            Event::HasFile { file, path } => format!("{fate}\tF\t{file}\t{path}\n"),
            Event::Create { file, path } => format!("{fate}\tc\t{file}\t{path}\n"),
            Event::MakeDirectory { path } => format!("{fate}\tm\t{path}\n"),
            Event::Rename { from, to } => format!("{fate}\tr\t{from}\t{to}\n"),
            Event::Remove { path } => format!("{fate}\tu\t{path}\n"),
            Event::RemoveDirectory { path } => format!("{fate}\td\t{path}\n"),
            Event::SyncDirectory { path } => format!("{fate}\tS\t{path}\n"),
            Event::SyncAll => format!("{fate}\tA\n"),
            Event::Doubt { file, start, end } => format!("{fate}\tx\t{file}\t{start}\t{end}\n"),
            Event::Trust { file, start, end } => format!("{fate}\to\t{file}\t{start}\t{end}\n"),
        }
    }

    fn parse(line: &str) -> Option<(Fate, Event)> {
        let mut fields = line.split('\t');
        let fate = match fields.next()? {
            "?" => Fate::Open,
            "+" => Fate::Done,
            "-" => Fate::Failed,
            _ => return None,
        };
        let letter = fields.next()?;
        let mut text = || fields.next().map(str::to_owned);
        let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
        let event = match letter {
            "D" => Event::HasDirectory { path: text()? },
            "F" => Event::HasFile {
                file: number(text())?,
                path: text()?,
            },
            "c" => Event::Create {
                file: number(text())?,
                path: text()?,
            },
            "m" => Event::MakeDirectory { path: text()? },
            "r" => Event::Rename {
                from: text()?,
                to: text()?,
            },
            "u" => Event::Remove { path: text()? },
            "d" => Event::RemoveDirectory { path: text()? },
            "S" => Event::SyncDirectory { path: text()? },
            "A" => Event::SyncAll,
            "p" => Event::Start,
            "x" => Event::Doubt {
                file: number(text())?,
                start: number(text())?,
                end: number(text())?,
            },
            "o" => Event::Trust {
                file: number(text())?,
                start: number(text())?,
                end: number(text())?,
            },
            _ => return None,
        };
        fields.next().is_none().then_some((fate, event))
    }
}

/// A log as it was read.
#[derive(Debug)]
pub struct Replay {
    /// The names that come of it.
    pub names: Names,
    /// Bytes in doubt: file, start, end, in the order in which they became so, or (`false`) no more.
    pub doubts: Vec<(FileId, u64, u64, bool)>,
    /// Where open lines begin, with what became of them.
    pub settled: Vec<(u64, Fate)>,
    /// Bytes of whole lines; what is behind them was being written when the process died.
    pub len: u64,
    /// Whether anything has happened since the log was begun.
    pub is_fresh: bool,
}

/// Reads a log; `happened` tells of the last change of names, if it was open, whether it happened.
pub fn replay(text: &[u8], happened: impl Fn(&Event) -> bool) -> io::Result<Replay> {
    let mut replay = Replay {
        names: Names::new(),
        doubts: Vec::new(),
        settled: Vec::new(),
        len: 0,
        is_fresh: true,
    };
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let position = replay.len;
        let Some(line) = line.strip_suffix(b"\n") else {
            break;
        };
        replay.len += line.len() as u64 + 1;
        let wrong = |what: &str| {
            io::Error::other(format!(
                "log of names, byte {position}: {what}: {}",
                String::from_utf8_lossy(line)
            ))
        };
        let (mut fate, event) = std::str::from_utf8(line)
            .ok()
            .and_then(Event::parse)
            .ok_or_else(|| wrong("not understood"))?;
        if fate == Fate::Open {
            let is_sync = matches!(event, Event::SyncDirectory { .. } | Event::SyncAll);
            fate = if !is_sync && happened(&event) {
                Fate::Done
            } else {
                Fate::Failed
            };
            replay.settled.push((position, fate));
        }
        if !matches!(event, Event::HasFile { .. } | Event::HasDirectory { .. }) {
            replay.is_fresh = false;
        }
        if fate == Fate::Failed {
            continue;
        }
        match event {
            Event::Doubt { file, start, end } => replay.doubts.push((file, start, end, true)),
            Event::Trust { file, start, end } => replay.doubts.push((file, start, end, false)),
            _ => {}
        }
        if !replay.names.apply(position, &event) {
            return Err(wrong("cannot have happened"));
        }
    }
    // The library let go of these, at some sync.
    replay.names.forget_unnamed();
    Ok(replay)
}

/// Whether an event that was open when the process died has happened, as `data_dir` shows.
#[must_use]
pub fn has_happened(data_dir: &Path, event: &Event) -> bool {
    let is_there = |path: &str| data_dir.join(path).symlink_metadata().is_ok();
    match event {
        Event::Create { path, .. } | Event::MakeDirectory { path } => is_there(path),
        Event::Rename { from, .. } => !is_there(from),
        Event::Remove { path } | Event::RemoveDirectory { path } => !is_there(path),
        _ => true,
    }
}

/// The lines for names that are all durable.
#[must_use]
pub fn fresh(names: &[(String, Node)]) -> String {
    names
        .iter()
        .map(|(path, node)| {
            let path = path.clone();
            match node {
                Node::Directory(_) => Event::HasDirectory { path },
                Node::File(file) => Event::HasFile { file: *file, path },
            }
            .line(Fate::Done)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> io::Result<Replay> {
        replay(text.as_bytes(), |_| true)
    }

    #[test]
    fn every_event_is_read_as_it_was_written() {
        let path = || "a b/c".to_owned();
        for event in [
            Event::HasDirectory { path: path() },
            Event::HasFile {
                file: 3,
                path: path(),
            },
            Event::Create {
                file: 4,
                path: path(),
            },
            Event::MakeDirectory { path: path() },
            Event::Rename {
                from: path(),
                to: "d".to_owned(),
            },
            Event::Remove { path: path() },
            Event::RemoveDirectory { path: path() },
            Event::SyncDirectory {
                path: String::new(),
            },
            Event::SyncAll,
            Event::Start,
            Event::Doubt {
                file: 1,
                start: 0,
                end: 512,
            },
            Event::Trust {
                file: 1,
                start: 0,
                end: 512,
            },
        ] {
            for fate in [Fate::Open, Fate::Done, Fate::Failed] {
                let line = event.line(fate);
                let line = line.strip_suffix('\n').expect("a line");
                assert_eq!(Event::parse(line), Some((fate, event.clone())));
            }
        }
    }

    #[test]
    fn an_open_sync_did_not_happen_and_a_torn_line_does_not_count() {
        let text = "+\tc\t1\ta\n?\tS\t\n+\tc\t2\tb\n?\tA\n+\tu\t";
        let replay = lines(text).unwrap();
        assert_eq!(replay.names.pending(), 2);
        assert_eq!(replay.len, text.len() as u64 - 4);
        assert_eq!(replay.settled, [(8, Fate::Failed), (21, Fate::Failed)]);
        assert!(!replay.is_fresh);
    }

    #[test]
    fn what_was_written_fresh_is_durable() {
        let before = lines("+\tm\td\n+\tc\t5\td/a\n").unwrap();
        let text = fresh(&before.names.walk());
        let after = lines(&text).unwrap();
        assert_eq!(after.names.pending(), 0);
        assert_eq!(after.names.find("d/a"), Some(Node::File(5)));
        assert_eq!(after.names.next_file(), 6);
        assert!(after.is_fresh);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "x\n",
            "+\tz\ta\n",
            "+\tc\tone\ta\n",
            "+\tA\tmore\n",
            "+\tu\ta\n",
        ] {
            assert!(lines(text).is_err(), "{text:?}");
        }
    }
}
