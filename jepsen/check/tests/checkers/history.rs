//! What a history is, written and read.

use std::io::Write;
use std::sync::{Arc, Mutex};

use jepsen_check::Recorder;
use jepsen_check::history::{Event, HistoryError, Kind, Op, Process, read_history, write};

use crate::story::events;

const STORY: &str = "phase faults\np1 send a/0 1 2 -> 0\np2 assign a/0@0\np2 poll a/0 0=1 1=2 hw=2
    p1 create t 3\np1 set t k=v\np1 describe t 3 k=v\np1 list t\np1 delete t -> fail\nnemesis kill
    node 1 rss=1 open=2\nn1 has a/0 0=1 1=2 end=2 crc=7\np2 crash -> info\nphase end";

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn lines(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, events).unwrap();
    bytes
}

fn read_error(events: &[Event]) -> HistoryError {
    read_history(lines(events).as_slice()).unwrap_err()
}

#[test]
fn what_is_written_is_read() {
    let story = events(STORY);
    assert_eq!(read_history(lines(&story).as_slice()).unwrap(), story);
}

#[test]
fn a_stream_has_what_was_recorded() {
    let shared = Shared::default();
    let recorder = Recorder::streaming(shared.clone());
    let client = Process::Client(1);
    recorder.invoke(5, client, Op::Crash);
    recorder.info(7, client, Op::Crash, "gone");
    let recorded = recorder.finish().unwrap();
    let bytes = shared.0.lock().unwrap().clone();
    assert_eq!(read_history(bytes.as_slice()).unwrap(), recorded);
    assert_eq!(recorded[1].error.as_deref(), Some("gone"));
}

#[test]
fn many_threads_write_one_history() {
    let recorder = Recorder::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let recorder = recorder.clone();
            scope.spawn(move || {
                for time_us in 0..500 {
                    recorder.invoke(time_us, Process::Client(number), Op::Crash);
                    recorder.ok(time_us, Process::Client(number), Op::Crash);
                }
            });
        }
    });
    let recorded = recorder.finish().unwrap();
    assert_eq!(recorded.len(), 8000);
    assert_eq!(read_history(lines(&recorded).as_slice()).unwrap(), recorded);
}

#[test]
fn a_missing_or_repeated_line_is_noticed() {
    let mut story = events(STORY);
    story.remove(3);
    assert!(matches!(
        read_error(&story),
        HistoryError::Index {
            expected: 3,
            found: 4
        }
    ));
    let mut story = events(STORY);
    story.insert(3, story[3].clone());
    assert!(matches!(
        read_error(&story),
        HistoryError::Index {
            expected: 4,
            found: 3
        }
    ));
}

#[test]
fn time_does_not_go_back() {
    let mut story = events(STORY);
    story[4].time_us = 0;
    assert!(matches!(
        read_error(&story),
        HistoryError::Time { index: 4, .. }
    ));
}

#[test]
fn a_process_does_one_thing_at_a_time() {
    let recorder = Recorder::new();
    recorder.invoke(0, Process::Client(1), Op::Crash);
    recorder.invoke(0, Process::Client(2), Op::Crash);
    recorder.invoke(0, Process::Client(1), Op::Crash);
    assert!(matches!(
        recorder.finish(),
        Err(HistoryError::StillOpen {
            index: 2,
            open: 0,
            ..
        })
    ));
}

#[test]
fn a_completion_has_an_invocation() {
    let recorder = Recorder::new();
    recorder.invoke(0, Process::Client(1), Op::Crash);
    recorder.ok(0, Process::Client(2), Op::Crash);
    assert!(matches!(
        recorder.finish(),
        Err(HistoryError::NothingOpen { index: 1, .. })
    ));
}

#[test]
fn a_client_ends_with_an_unknown_outcome_and_the_nemesis_does_not() {
    let ends = |process| {
        let recorder = Recorder::new();
        let fault = Op::Fault {
            name: "kill".to_owned(),
            begins: true,
            nodes: Vec::new(),
            detail: String::new(),
        };
        for _ in 0..2 {
            recorder.invoke(0, process, fault.clone());
            recorder.info(0, process, fault.clone(), "no effect seen");
        }
        recorder.finish()
    };
    assert!(matches!(
        ends(Process::Client(1)),
        Err(HistoryError::Reused { index: 2, .. })
    ));
    assert_eq!(ends(Process::Nemesis).unwrap().len(), 4);
}

#[test]
fn a_completion_is_of_what_was_asked() {
    let completes = |asked: &str, done: &str| {
        let recorder = Recorder::new();
        let (asked, done) = (events(asked).remove(0), events(done).remove(1));
        recorder.invoke(0, asked.process, asked.op);
        match done.kind {
            Kind::Ok => recorder.ok(1, asked.process, done.op),
            _ => recorder.info(1, asked.process, done.op, ""),
        };
        recorder.finish()
    };
    completes("p1 > send a/0 1", "p1 send a/0 1 -> 7").unwrap();
    for (asked, done) in [
        ("p1 > send a/0 1", "p1 send a/0 2 -> 7"),
        ("p1 > send a/0 1", "p1 send a/1 1 -> 7"),
        ("p1 > send a/0 1", "p1 poll"),
        ("p1 assign a/0@0", "p1 assign a/0@1"),
        ("p1 create t 1", "p1 create t 2"),
        ("p1 describe t", "p1 describe u"),
        ("n1 has a/0 end=0", "n1 has a/1 end=0"),
        ("nemesis kill", "nemesis kill undone"),
    ] {
        let done = completes(asked, done);
        assert!(
            matches!(done, Err(HistoryError::Mismatch { index: 1, open: 0 })),
            "{asked}"
        );
    }
}

#[test]
fn an_acknowledged_send_has_an_offset() {
    let recorder = Recorder::new();
    let send = events("p1 > send a/0 1").remove(0);
    recorder.invoke(0, send.process, send.op.clone());
    recorder.ok(0, send.process, send.op);
    assert!(matches!(
        recorder.finish(),
        Err(HistoryError::Malformed { index: 1, .. })
    ));
}

#[test]
fn what_is_no_event_is_an_error_and_no_panic() {
    let read = |text: &str| read_history(text.as_bytes()).unwrap_err();
    assert!(matches!(read("{}"), HistoryError::Parse { line: 1, .. }));
    assert!(matches!(
        read("\u{0}\n"),
        HistoryError::Parse { line: 1, .. }
    ));
    let mut torn = lines(&events(STORY));
    torn.truncate(torn.len() - 10);
    assert!(matches!(
        read_history(torn.as_slice()),
        Err(HistoryError::Parse { .. })
    ));
    assert_eq!(read_history(&b""[..]).unwrap(), []);
}

#[test]
fn a_writer_that_fails_is_told_at_the_end() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("full"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let recorder = Recorder::streaming(Full);
    recorder.note(
        0,
        Op::Phase {
            name: "faults".to_owned(),
        },
    );
    assert!(matches!(recorder.finish(), Err(HistoryError::Write(_))));
}
