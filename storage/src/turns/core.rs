//! Who has the turn, what the others wait for, and who is next.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The main thread's number.
pub(super) const MAIN: u64 = 0;
/// Turns within one call of the main thread, beyond which the threads are said to go in circles.
const TURNS_MAX: u64 = 5_000_000;
/// Threads woken before their time because the main thread waits for something, in one such wait.
const FORCED_MAX: u64 = 100_000;

thread_local! {
    static ME: RefCell<Option<Me>> = const { RefCell::new(None) };
}

/// The simulation that this thread belongs to, and as which of its threads.
#[derive(Clone)]
pub(super) struct Me {
    pub(super) core: Arc<Core>,
    pub(super) number: u64,
}

pub(super) fn me() -> Option<Me> {
    // A thread whose locals are gone is at its end and belongs to nothing.
    ME.try_with(|me| me.borrow().clone()).ok().flatten()
}

pub(super) fn set_me(me: Option<Me>) -> Option<Me> {
    ME.with(|place| place.replace(me))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// Has the turn, or may have it.
    Ready,
    /// The main thread lets the others run.
    Watches,
    Waits {
        condvar: u64,
        due_us: Option<u64>,
    },
    Sleeps {
        due_us: u64,
    },
    Joins {
        thread: u64,
    },
    /// Has found a mutex taken; tries again when others had a turn.
    Blocked,
}

impl Condition {
    fn due_us(self) -> Option<u64> {
        match self {
            Condition::Waits { due_us, .. } => due_us,
            Condition::Sleeps { due_us } => Some(due_us),
            _ => None,
        }
    }
}

struct Thread {
    name: String,
    condition: Condition,
    /// The wait ended because its time was over.
    is_over: bool,
    bell: Arc<Condvar>,
}

struct State {
    /// Whose turn it is.
    running: u64,
    threads: BTreeMap<u64, Thread>,
    next_thread: u64,
    next_condvar: u64,
    now_us: u64,
    random: u64,
    /// Turns given since the main thread had it last.
    turns: u64,
    /// Threads woken before their time since then.
    forced: u64,
    /// Nothing can go on: for the main thread to panic with.
    fatal: Option<String>,
}

pub(super) struct Core {
    state: Mutex<State>,
}

impl State {
    /// SplitMix64.
    fn draw(&mut self, below: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = (z ^ (z >> 31)) % below.max(1) as u64;
        usize::try_from(drawn).expect("below a usize")
    }

    fn thread(&mut self, number: u64) -> &mut Thread {
        self.threads.get_mut(&number).expect("a living thread")
    }

    /// Wakes those whose time has come.
    fn wake_due(&mut self) {
        let now_us = self.now_us;
        for thread in self.threads.values_mut() {
            if thread.condition.due_us().is_some_and(|due| due <= now_us) {
                thread.condition = Condition::Ready;
                thread.is_over = true;
            }
        }
    }

    /// Those that found a mutex taken may try again: others had a turn.
    fn unblock(&mut self, but: u64) {
        for (number, thread) in &mut self.threads {
            if *number != but && thread.condition == Condition::Blocked {
                thread.condition = Condition::Ready;
            }
        }
    }

    /// Who is next.
    fn next(&mut self) -> u64 {
        self.wake_due();
        self.turns += 1;
        if self.turns > TURNS_MAX {
            self.fatal = Some(format!("threads keep running: {}", self.describe()));
            return MAIN;
        }
        let ready: Vec<u64> = (self.threads.iter())
            .filter(|(_, thread)| thread.condition == Condition::Ready)
            .map(|(number, _)| *number)
            .collect();
        if !ready.is_empty() {
            return ready[self.draw(ready.len())];
        }
        if self.threads[&MAIN].condition == Condition::Watches {
            return MAIN;
        }
        // The main thread waits, so time stands: who would be next in time goes on.
        let due = |(number, thread): (&u64, &Thread)| Some((thread.condition.due_us()?, *number));
        let earliest = self.threads.iter().filter_map(due).min();
        self.forced += 1;
        match earliest {
            Some((_, number)) if self.forced <= FORCED_MAX => {
                let thread = self.thread(number);
                thread.condition = Condition::Ready;
                thread.is_over = true;
                number
            }
            _ => {
                self.fatal = Some(format!("nothing can go on: {}", self.describe()));
                MAIN
            }
        }
    }

    fn describe(&self) -> String {
        let all: Vec<String> = (self.threads.iter())
            .map(|(number, thread)| format!("{} ({number}): {:?}", thread.name, thread.condition))
            .collect();
        all.join(", ")
    }
}

impl Core {
    pub(super) fn new(seed: u64) -> Core {
        let main = Thread {
            name: "main".to_owned(),
            condition: Condition::Ready,
            is_over: false,
            bell: Arc::new(Condvar::new()),
        };
        Core {
            state: Mutex::new(State {
                running: MAIN,
                threads: BTreeMap::from([(MAIN, main)]),
                next_thread: MAIN + 1,
                next_condvar: 0,
                now_us: 0,
                random: seed,
                turns: 0,
                forced: 0,
                fatal: None,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This thread's number; nobody else may wait for a turn here.
    fn own_number(&self) -> u64 {
        let me = me().filter(|me| std::ptr::eq(&*me.core, self));
        me.expect("a thread of another simulation, or of none, waits for one of this")
            .number
    }

    pub(super) fn add_thread(&self, name: &str) -> u64 {
        let mut state = self.state();
        let number = state.next_thread;
        state.next_thread += 1;
        let thread = Thread {
            name: name.to_owned(),
            condition: Condition::Ready,
            is_over: false,
            bell: Arc::new(Condvar::new()),
        };
        state.threads.insert(number, thread);
        number
    }

    pub(super) fn add_condvar(&self) -> u64 {
        let mut state = self.state();
        state.next_condvar += 1;
        state.next_condvar
    }

    /// Gives the turn away and waits for the next one. Says whether a time limit has ended the wait.
    fn pass(&self, number: u64, condition: Condition) -> bool {
        let mut state = self.state();
        assert_eq!(state.running, number, "who gives the turn away has it");
        state.thread(number).condition = condition;
        if condition != Condition::Blocked {
            state.unblock(number);
        }
        let next = state.next();
        state.running = next;
        if next != number {
            state.thread(next).bell.notify_one();
        }
        let mut state = self.take_turn(state, number);
        let thread = state.thread(number);
        thread.condition = Condition::Ready;
        let is_over = std::mem::take(&mut thread.is_over);
        if number == MAIN {
            (state.turns, state.forced) = (0, 0);
            let fatal = state.fatal.take();
            drop(state);
            if let Some(fatal) = fatal {
                panic!("simulation: {fatal}");
            }
        }
        is_over
    }

    fn take_turn<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        number: u64,
    ) -> MutexGuard<'a, State> {
        let bell = Arc::clone(&state.thread(number).bell);
        while state.running != number {
            state = bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    pub(super) fn run_ready(&self) {
        let number = self.own_number();
        assert_eq!(number, MAIN, "only the main thread lets the others run");
        self.pass(MAIN, Condition::Watches);
    }

    pub(super) fn wait(&self, condvar: u64, timeout: Option<Duration>) -> bool {
        let number = self.own_number();
        let due_us = timeout.map(|timeout| {
            let us = u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX);
            self.now_us().saturating_add(us)
        });
        self.pass(number, Condition::Waits { condvar, due_us })
    }

    pub(super) fn notify(&self, condvar: u64, all: bool) {
        let mut state = self.state();
        let waiting: Vec<u64> = (state.threads.iter())
            .filter(|(_, thread)| {
                matches!(thread.condition, Condition::Waits { condvar: one, .. } if one == condvar)
            })
            .map(|(number, _)| *number)
            .collect();
        if waiting.is_empty() {
            return;
        }
        let woken = match all {
            true => waiting,
            false => vec![waiting[state.draw(waiting.len())]],
        };
        for number in woken {
            state.thread(number).condition = Condition::Ready;
        }
    }

    pub(super) fn sleep_until(&self, number: u64, due_us: u64) {
        if due_us > self.now_us() {
            self.pass(number, Condition::Sleeps { due_us });
        }
    }

    pub(super) fn wait_for_others(&self, number: u64) {
        self.pass(number, Condition::Blocked);
    }

    pub(super) fn wait_for_end(&self, thread: u64) {
        let is_alive = || self.state().threads.contains_key(&thread);
        if !is_alive() {
            return;
        }
        let number = self.own_number();
        while is_alive() {
            self.pass(number, Condition::Joins { thread });
        }
    }

    pub(super) fn set_now_us(&self, now_us: u64) {
        let mut state = self.state();
        state.now_us = state.now_us.max(now_us);
    }

    pub(super) fn now_us(&self) -> u64 {
        self.state().now_us
    }

    pub(super) fn threads(&self) -> Vec<String> {
        let state = self.state();
        (state.threads.iter())
            .filter(|(number, _)| **number != MAIN)
            .map(|(_, thread)| format!("{}: {:?}", thread.name, thread.condition))
            .collect()
    }

    /// The thread is gone; the turn goes on if it had it.
    fn end(&self, number: u64) {
        let mut state = self.state();
        state.threads.remove(&number);
        for thread in state.threads.values_mut() {
            if thread.condition == (Condition::Joins { thread: number }) {
                thread.condition = Condition::Ready;
            }
        }
        if state.running != number {
            return;
        }
        state.unblock(number);
        let next = state.next();
        state.running = next;
        state.thread(next).bell.notify_one();
    }
}

/// Takes a thread out of the simulation when it ends, or never begins.
pub(super) struct Ended {
    core: Arc<Core>,
    number: u64,
    /// It is dropped on the thread itself.
    has_begun: bool,
}

impl Ended {
    pub(super) fn new(core: Arc<Core>, number: u64) -> Ended {
        Ended {
            core,
            number,
            has_begun: false,
        }
    }

    /// Waits for the first turn of this thread.
    pub(super) fn begin(mut self) -> Ended {
        let state = self.core.state();
        drop(self.core.take_turn(state, self.number));
        set_me(Some(Me {
            core: Arc::clone(&self.core),
            number: self.number,
        }));
        self.has_begun = true;
        self
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if self.has_begun {
            set_me(None);
        }
        self.core.end(self.number);
    }
}
