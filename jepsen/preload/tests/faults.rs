//! What a process with the library in it sees of each fault, through `std::fs` and libc.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test: it looks at real files, and ends where something is wrong"
)]

mod support;

use jepsen_control::control::Word;
use support::{Machine, draws, filled};

/// Loses everything that may be lost.
fn lose_all(limit: u64) -> u64 {
    // Names: in order, none of them; sectors: chance 0 of 1; length: the shorter.
    let _ = limit;
    0
}

#[test]
fn what_was_synced_survives_and_the_rest_vanishes() {
    let machine = Machine::new();
    let mut node = machine.start();
    node.ok("open a");
    node.ok("syncdir .");
    node.ok("writeall a 0 5000 1");
    node.ok("sync a");
    node.ok("writeall a 0 1000 2");
    node.ok("writeall a 5000 3000 3");
    assert_eq!(machine.read("a").unwrap().len(), 8000);
    let lost = machine.cut(node, &mut lose_all);
    assert_eq!(machine.read("a").unwrap(), filled(5000, 1));
    assert_eq!(lost.torn.sectors_kept, 0);
    assert_eq!(lost.torn.sectors_lost, 2 + 7);
    assert_eq!(lost.torn.lengths_changed, 1);
}

#[test]
fn what_is_not_synced_tears_at_sectors() {
    let machine = Machine::new();
    let mut node = machine.start();
    node.ok("open a");
    node.ok("syncdir .");
    node.ok("writeall a 0 102400 1");
    node.ok("sync a");
    node.ok("writeall a 0 102400 2");
    let mut draw = draws(4);
    let mut calls = 0;
    // The third draw chooses how many sectors get there: half of them.
    let lost = machine.cut(node, &mut |limit| {
        calls += 1;
        if calls == 3 { 2 } else { draw(limit) }
    });
    let (old, new) = (filled(102_400, 1), filled(102_400, 2));
    let seen = machine.read("a").unwrap();
    let mut counts = [0, 0];
    for at in (0..seen.len()).step_by(512) {
        let sector = &seen[at..at + 512];
        assert!(sector == &old[at..at + 512] || sector == &new[at..at + 512]);
        counts[usize::from(sector == &new[at..at + 512])] += 1;
    }
    assert!(counts[0] > 50 && counts[1] > 50, "{counts:?}");
    assert_eq!(lost.torn.sectors_lost, counts[0]);
    assert_eq!(lost.torn.sectors_kept, counts[1]);
}

#[test]
fn names_without_a_sync_of_their_directory_vanish() {
    let machine = Machine::new();
    let mut node = machine.start();
    node.ok("mkdir d");
    node.ok("open d/kept");
    node.ok("writeall d/kept 0 10 1");
    node.ok("sync d/kept");
    node.ok("syncdir d");
    node.ok("syncdir .");
    node.ok("open d/lost");
    node.ok("writeall d/lost 0 10 1");
    node.ok("sync d/lost");
    node.ok("mkdir e");
    node.ok("rename d/kept d/renamed");
    machine.cut(node, &mut lose_all);
    assert_eq!(machine.read("d/kept").unwrap(), filled(10, 1));
    for gone in ["d/lost", "d/renamed", "e"] {
        assert!(!machine.data.join(gone).exists(), "{gone}");
    }
}

#[test]
fn removed_and_replaced_files_come_back_where_no_sync_says_otherwise() {
    let machine = Machine::new();
    let mut node = machine.start();
    for name in ["a", "b", "t/c"] {
        if name == "t/c" {
            node.ok("mkdir t");
        }
        node.ok(&format!("open {name}"));
        node.ok(&format!("writeall {name} 0 700 {}", name.len()));
        node.ok(&format!("sync {name}"));
        node.ok(&format!("close {name}"));
    }
    node.ok("syncdir t");
    node.ok("syncdir .");
    node.ok("replace new 900 9");
    node.ok("rename new b");
    node.ok("remove a");
    node.ok("rmtree t");
    assert!(!machine.data.join("t").exists());
    machine.cut(node, &mut lose_all);
    assert_eq!(machine.read("a").unwrap(), filled(700, 1));
    assert_eq!(machine.read("b").unwrap(), filled(700, 1));
    assert_eq!(machine.read("t/c").unwrap(), filled(700, 3));
    let mut node = machine.start();
    node.ok("remove a");
    node.ok("rmtree t");
    node.ok("syncdir .");
    assert_eq!(
        std::fs::read_dir(machine.side.kept_dir()).unwrap().count(),
        0,
        "nothing is kept of what is gone for good"
    );
    machine.cut(node, &mut lose_all);
    assert!(!machine.data.join("a").exists() && !machine.data.join("t").exists());
    assert!(machine.data.join("b").exists());
}

#[test]
fn a_killed_process_loses_nothing_and_the_next_ones_sync_covers_it() {
    let machine = Machine::new();
    let mut node = machine.start();
    node.ok("open a");
    node.ok("writeall a 0 4000 1");
    drop(node);
    assert_eq!(machine.read("a").unwrap(), filled(4000, 1));
    let mut node = machine.start();
    node.ok("open a");
    node.ok("sync a");
    node.ok("syncdir .");
    machine.cut(node, &mut lose_all);
    assert_eq!(machine.read("a").unwrap(), filled(4000, 1));
}

#[test]
fn a_sync_of_the_file_system_covers_all() {
    let machine = Machine::new();
    let mut node = machine.start();
    node.ok("mkdir d");
    node.ok("open d/a");
    node.ok("writeall d/a 0 4000 1");
    node.ok("replace b 100 2");
    node.ok("syncall");
    node.ok("setlen d/a 100");
    machine.cut(node, &mut draws(1));
    assert_eq!(machine.read("b").unwrap(), filled(100, 2));
    let seen = machine.read("d/a").unwrap();
    assert!(seen.len() >= 100 && seen.len() <= 4000);
    assert_eq!(seen[..100], filled(100, 1));
}

#[test]
fn a_lying_sync_loses_and_an_honest_one_afterwards_makes_good() {
    let machine = Machine::new();
    let mut node = machine.start();
    node.ok("open a");
    node.ok("open b");
    machine.set(Word::SyncFault, 2);
    for command in ["writeall a 0 600 1", "sync a", "syncdir ."] {
        node.ok(command);
    }
    assert_eq!(machine.get(Word::SyncLies), 2);
    drop(node);
    let mut node = machine.start();
    node.ok("open a");
    node.ok("sync a");
    machine.cut(node, &mut lose_all);
    assert_eq!(machine.read("a"), None);

    let mut node = machine.start();
    for command in [
        "open a",
        "open b",
        "writeall a 0 600 1",
        "sync a",
        "syncdir .",
    ] {
        node.ok(command);
    }
    machine.set(Word::SyncFault, 0);
    node.ok("sync b");
    machine.cut(node, &mut lose_all);
    assert_eq!(machine.read("a").unwrap(), filled(600, 1));
}

#[test]
fn a_failed_sync_is_seen_and_a_later_one_does_not_write_what_it_left() {
    let machine = Machine::new();
    let mut node = machine.start();
    for command in ["open a", "syncdir .", "writeall a 0 512 1"] {
        node.ok(command);
    }
    machine.set(Word::SyncFault, 1);
    assert_eq!(node.run("sync a"), Err(5));
    assert_eq!(node.run("syncdir ."), Err(5));
    assert_eq!(node.run("syncall"), Err(5));
    machine.set(Word::SyncEvery, 2);
    let seen: Vec<bool> = (0..4).map(|_| node.run("syncdir .").is_ok()).collect();
    assert!(seen == [true, false, true, false] || seen == [false, true, false, true]);
    machine.set(Word::SyncFault, 0);
    node.ok("writeall a 512 512 2");
    node.ok("sync a");
    // Also not by another process.
    drop(node);
    let mut node = machine.start();
    node.ok("open a");
    node.ok("sync a");
    machine.cut(node, &mut lose_all);
    let seen = machine.read("a").unwrap();
    assert_eq!(seen[..512], [0; 512]);
    assert_eq!(seen[512..], filled(512, 2));

    let mut node = machine.start();
    node.ok("open a");
    machine.set(Word::SyncFault, 1);
    machine.set(Word::SyncEvery, 0);
    node.ok("writeall a 0 512 3");
    assert_eq!(node.run("sync a"), Err(5));
    machine.set(Word::SyncFault, 0);
    node.ok("writeall a 0 512 3");
    node.ok("sync a");
    machine.cut(node, &mut lose_all);
    assert_eq!(machine.read("a").unwrap()[..512], filled(512, 3));
}

#[test]
fn writes_fail_are_short_and_find_no_space() {
    let machine = Machine::new();
    let mut node = machine.start();
    node.ok("open a");
    node.ok("allocate a 0 8192");
    machine.set(Word::WriteFault, 1);
    assert_eq!(node.run("write a 0 100 1"), Err(5));
    assert_eq!(node.run("writev a 0 100 1"), Err(5));
    machine.set(Word::WriteFault, 3);
    assert_eq!(node.ok("write a 0 100 1"), "50");
    assert_eq!(node.ok("writev a 100 100 2"), "50");
    assert_eq!(node.ok("append a 100 3"), "50");
    node.ok("writeall a 300 1000 4");
    machine.set(Word::WriteFault, 2);
    assert_eq!(node.ok("writev a 4000 4192 5"), "4192");
    assert_eq!(node.run("allocate a 0 10000"), Err(28));
    assert_eq!(node.run("write a 8300 100 1"), Err(28));
    assert_eq!(node.ok("write a 8200 100 1"), "42");
    assert_eq!(node.run("replace b 10 1"), Err(28));
    assert_eq!(node.ok("free"), "0");
    machine.set(Word::WriteFault, 0);
    assert_ne!(node.ok("free"), "0");
    assert_eq!(node.ok("write a 8300 100 1"), "100");
    let seen = machine.read("a").unwrap();
    assert_eq!(seen[..50], filled(100, 1)[..50]);
    assert_eq!(seen[100..150], filled(100, 2)[..50]);
    assert_eq!(seen[8192..8200], filled(50, 3)[..8]);
    assert_eq!(seen[300..1300], filled(1000, 4));
    for (word, count) in [(Word::WriteErrors, 2), (Word::FullErrors, 4)] {
        assert_eq!(machine.get(word), count, "{word:?}");
    }
    assert!(machine.get(Word::ShortWrites) >= 4);
    machine.check();
}

#[test]
fn a_slow_disk_is_slow() {
    let machine = Machine::new();
    let mut node = machine.start();
    node.ok("open a");
    machine.set(Word::SyncDelayMs, 150);
    let elapsed_ms = |node: &mut support::Node| -> u64 {
        let clock = node.ok("clock");
        clock.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let before = elapsed_ms(&mut node);
    node.ok("sync a");
    let after = elapsed_ms(&mut node);
    assert!(after - before >= 150);
    assert_eq!(machine.get(Word::SyncDelays), 1);
}

#[test]
fn the_wall_clock_jumps_while_the_process_runs_and_the_monotonic_one_does_not() {
    let machine = Machine::new();
    let mut node = machine.start();
    let clock = |node: &mut support::Node| -> [i64; 3] {
        let answer = node.ok("clock");
        let mut numbers = answer.split(' ').map(|number| number.parse().unwrap());
        [(); 3].map(|()| numbers.next().unwrap())
    };
    let mut before = clock(&mut node);
    let mut offset_before = 0;
    for offset_ms in [3_600_000_i64, -86_400_001, 250, 0] {
        machine.set(Word::ClockOffsetMs, offset_ms.cast_unsigned());
        let now = clock(&mut node);
        // Truth moves on by what the monotonic clock says, give or take a slow machine.
        let jumped = (now[0] - offset_ms) - (before[0] - offset_before);
        let passed = now[1] - before[1];
        assert!(
            (jumped - passed).abs() < 20_000,
            "{offset_ms}: {jumped} {passed}"
        );
        assert!((0..20_000).contains(&passed));
        assert!((now[0] / 1000 - now[2]).abs() <= 1, "time() agrees");
        assert_eq!(machine.get(Word::ClockSeenMs).cast_signed(), offset_ms);
        (before, offset_before) = (now, offset_ms);
    }
    assert!(machine.get(Word::ClockReads) >= 3);
}

#[test]
fn the_boot_is_the_one_that_the_harness_says() {
    let machine = Machine::new();
    let mut node = machine.start();
    assert_eq!(node.ok("bootid"), "boot-0");
    std::fs::write(machine.side.boot_id(), "boot-1\n").unwrap();
    assert_eq!(node.ok("bootid"), "boot-1");
}
