use std::sync::Arc;

use super::*;

/// Two threads that hand each other a counter and note who had it when.
fn ping_pong(seed: u64) -> Vec<(char, u32)> {
    let turns = Turns::new(seed);
    let _entered = turns.enter();
    let shared = Arc::new((Mutex::new((0_u32, Vec::new())), Condvar::new()));
    let threads: Vec<JoinHandle> = ['a', 'b', 'c']
        .into_iter()
        .map(|name| {
            let shared = Arc::clone(&shared);
            spawn(&name.to_string(), move || {
                let (mutex, changed) = &*shared;
                for _ in 0..20 {
                    let mut state = mutex.lock().unwrap();
                    state.0 += 1;
                    let count = state.0;
                    state.1.push((name, count));
                    changed.notify_one();
                    let waited = changed.wait_timeout(mutex, state, Duration::from_millis(1));
                    drop(waited.unwrap());
                }
            })
            .unwrap()
        })
        .collect();
    assert!(shared.0.lock().unwrap().1.is_empty(), "nobody ran yet");
    for tick in 1..200 {
        turns.set_now_us(tick * 1_000);
        turns.run_ready();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    assert!(turns.threads().is_empty());
    std::mem::take(&mut shared.0.lock().unwrap().1)
}

#[test]
fn the_order_of_threads_repeats_with_the_seed_and_differs_without() {
    let first = ping_pong(1);
    assert_eq!(first.len(), 60);
    assert_eq!(first, ping_pong(1));
    assert!((2..10).any(|seed| ping_pong(seed) != first));
}

#[test]
fn time_passes_only_when_it_is_moved() {
    let turns = Turns::new(3);
    let _entered = turns.enter();
    let woken = Arc::new(Mutex::new(Vec::new()));
    let noting = Arc::clone(&woken);
    let thread = spawn("sleeper", move || {
        for due in [5_000, 9_000] {
            sleep_until(due);
            noting.lock().unwrap().push(now_us().unwrap());
        }
    })
    .unwrap();
    for (now, expected) in [(4_999, 0), (5_000, 1), (8_000, 1), (12_000, 2)] {
        turns.set_now_us(now);
        turns.run_ready();
        assert_eq!(woken.lock().unwrap().len(), expected, "at {now}");
    }
    assert_eq!(*woken.lock().unwrap(), [5_000, 12_000]);
    thread.join().unwrap();
}

#[test]
fn others_run_while_the_main_thread_waits_also_those_that_sleep() {
    let turns = Turns::new(4);
    let _entered = turns.enter();
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let setting = Arc::clone(&shared);
    let thread = spawn("setter", move || {
        sleep_until(1_000_000);
        *setting.0.lock().unwrap() = true;
        setting.1.notify_all();
    })
    .unwrap();
    let (mutex, changed) = &*shared;
    let mut is_set = mutex.lock().unwrap();
    while !*is_set {
        is_set = changed.wait(mutex, is_set).unwrap();
    }
    drop(is_set);
    assert_eq!(turns.now_us(), 0);
    thread.join().unwrap();
}

#[test]
fn a_mutex_that_is_held_by_one_that_sleeps_stops_nobody() {
    let turns = Turns::new(5);
    let _entered = turns.enter();
    let held = Arc::new(Mutex::new(0));
    let holding = Arc::clone(&held);
    let thread = spawn("holder", move || {
        let mut guard = lock(&holding).unwrap();
        sleep_until(7_000);
        *guard = 1;
    })
    .unwrap();
    turns.run_ready();
    assert!(held.try_lock().is_err(), "it holds it and sleeps");
    assert_eq!(*lock(&held).unwrap(), 1);
    thread.join().unwrap();
}

#[test]
#[should_panic(expected = "nothing can go on")]
fn a_deadlock_is_told() {
    let turns = Turns::new(6);
    let _entered = turns.enter();
    let never = (Mutex::new(()), Condvar::new());
    let guard = never.0.lock().unwrap();
    drop(never.1.wait(&never.0, guard));
}

#[test]
fn a_panic_of_a_thread_shows_at_its_join() {
    let turns = Turns::new(7);
    let _entered = turns.enter();
    let thread = spawn("panics", || panic!("on purpose")).unwrap();
    assert!(thread.join().is_err());
    turns.run_ready();
}

#[test]
fn outside_of_a_simulation_all_is_the_machines() {
    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let setting = Arc::clone(&shared);
    let thread = spawn("setter", move || {
        *setting.0.lock().unwrap() = true;
        setting.1.notify_one();
    })
    .unwrap();
    assert!(!thread.is_current());
    let (mutex, changed) = &*shared;
    let mut is_set = lock(mutex).unwrap();
    while !*is_set {
        is_set = changed.wait(mutex, is_set).unwrap();
    }
    drop(is_set);
    thread.join().unwrap();
    let guard = mutex.lock().unwrap();
    let (_guard, is_over) = changed
        .wait_timeout(mutex, guard, Duration::from_millis(1))
        .unwrap();
    assert!(is_over || now_us().is_none());
    assert_eq!(process_id(), std::process::id());
}
