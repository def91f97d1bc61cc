//! Threads and condition variables, the machine's or simulated.
//!
//! Outside of a simulation all of this is what `std` has. In a simulation ([`Turns`]) the threads
//! stay threads, but exactly one of them runs at a time: it gives the turn away only where it waits
//! for a [`Condvar`], sleeps, joins another, finds a mutex taken ([`lock`]), or ends; and who is
//! next is drawn from a seed. So all that the threads do repeats with the seed. Time is moved by
//! hand. Who spawns a thread or makes a condition variable in a simulation does so for it.
//!
//! A thread that has the turn must not block on a mutex whose holder waits for its turn. Mutexes
//! that are held over work on the disk or over a wait are therefore taken with [`lock`].

mod core;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::sync::{Arc, LockResult, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use self::core::{Core, Ended, MAIN, me};

/// A simulation's threads. Clones share it.
#[derive(Clone)]
pub struct Turns {
    core: Arc<Core>,
}

/// As long as it lives, this thread is the simulation's main thread.
#[must_use = "the thread leaves the simulation when this is dropped"]
pub struct Entered {
    before: Option<core::Me>,
    /// Belongs to the thread that entered.
    _not_send: std::marker::PhantomData<*const ()>,
}

impl Turns {
    /// A simulation without threads, at time 0.
    #[must_use]
    pub fn new(seed: u64) -> Turns {
        Turns {
            core: Arc::new(Core::new(seed)),
        }
    }

    /// Makes this thread the main thread of the simulation: what it spawns and makes belongs to it.
    /// It has the turn until it waits for something or calls [`Turns::run_ready`].
    pub fn enter(&self) -> Entered {
        Entered {
            before: core::set_me(Some(core::Me {
                core: Arc::clone(&self.core),
                number: MAIN,
            })),
            _not_send: std::marker::PhantomData,
        }
    }

    /// Lets all threads run until each waits for something that has not come.
    ///
    /// # Panics
    /// When this is not the main thread, or threads keep waking one another for ever.
    pub fn run_ready(&self) {
        self.core.run_ready();
    }

    /// Moves the time that [`Condvar::wait_timeout`] and [`sleep_until`] go by. Runs nobody.
    pub fn set_now_us(&self, now_us: u64) {
        self.core.set_now_us(now_us);
    }

    /// The time.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.core.now_us()
    }

    /// The living threads (without the main one) and what each waits for, for people.
    #[must_use]
    pub fn threads(&self) -> Vec<String> {
        self.core.threads()
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        core::set_me(self.before.take());
    }
}

impl fmt::Debug for Entered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entered")
    }
}

/// Starts a thread: a member of the simulation when this thread is one. Such a thread does nothing
/// before it gets its first turn.
///
/// # Errors
/// When the machine has no thread left.
pub fn spawn(name: &str, f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    let Some(me) = me() else {
        return Ok(JoinHandle {
            thread: builder.spawn(f)?,
            simulated: None,
        });
    };
    let number = me.core.add_thread(name);
    let ended = Ended::new(Arc::clone(&me.core), number);
    let thread = builder.spawn(move || {
        let _ended = ended.begin();
        f();
    })?;
    Ok(JoinHandle {
        thread,
        simulated: Some((me.core, number)),
    })
}

/// A thread that was started here.
pub struct JoinHandle {
    thread: std::thread::JoinHandle<()>,
    simulated: Option<(Arc<Core>, u64)>,
}

impl JoinHandle {
    /// Waits for its end.
    ///
    /// # Errors
    /// With what the thread panicked with.
    pub fn join(self) -> std::thread::Result<()> {
        if let Some((core, number)) = &self.simulated {
            core.wait_for_end(*number);
        }
        self.thread.join()
    }

    /// Whether it is the thread that asks.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.thread.thread().id() == std::thread::current().id()
    }
}

impl fmt::Debug for JoinHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.thread.fmt(f)
    }
}

/// As `std`'s, but a wait is told the mutex that the guard is of.
pub struct Condvar {
    real: std::sync::Condvar,
    simulated: Option<(Arc<Core>, u64)>,
}

impl Condvar {
    /// One of the simulation's when this thread belongs to one.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "what it is depends on the thread"
    )]
    pub fn new() -> Condvar {
        Condvar {
            real: std::sync::Condvar::new(),
            simulated: me().map(|me| {
                let number = me.core.add_condvar();
                (me.core, number)
            }),
        }
    }

    /// As [`std::sync::Condvar::wait`]; `guard` is `mutex`'s.
    ///
    /// # Errors
    /// When the mutex is poisoned.
    pub fn wait<'a, T>(
        &self,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
    ) -> LockResult<MutexGuard<'a, T>> {
        let Some((core, number)) = &self.simulated else {
            return self.real.wait(guard);
        };
        drop(guard);
        core.wait(*number, None);
        lock(mutex)
    }

    /// As [`std::sync::Condvar::wait_timeout`]; says also whether the time is over.
    ///
    /// # Errors
    /// When the mutex is poisoned.
    pub fn wait_timeout<'a, T>(
        &self,
        mutex: &'a Mutex<T>,
        guard: MutexGuard<'a, T>,
        timeout: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, bool)> {
        let Some((core, number)) = &self.simulated else {
            return match self.real.wait_timeout(guard, timeout) {
                Ok((guard, over)) => Ok((guard, over.timed_out())),
                Err(poisoned) => {
                    let (guard, over) = poisoned.into_inner();
                    Err(PoisonError::new((guard, over.timed_out())))
                }
            };
        };
        drop(guard);
        let is_over = core.wait(*number, Some(timeout));
        match lock(mutex) {
            Ok(guard) => Ok((guard, is_over)),
            Err(poisoned) => Err(PoisonError::new((poisoned.into_inner(), is_over))),
        }
    }

    /// Wakes one that waits.
    pub fn notify_one(&self) {
        match &self.simulated {
            None => self.real.notify_one(),
            Some((core, number)) => core.notify(*number, false),
        }
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        match &self.simulated {
            None => self.real.notify_all(),
            Some((core, number)) => core.notify(*number, true),
        }
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Condvar")
    }
}

/// Takes a mutex that others hold while they wait or work on the disk. In a simulation those that
/// hold it get turns meanwhile.
///
/// # Errors
/// When the mutex is poisoned.
pub fn lock<T>(mutex: &Mutex<T>) -> LockResult<MutexGuard<'_, T>> {
    let Some(me) = me() else {
        return mutex.lock();
    };
    loop {
        match mutex.try_lock() {
            Ok(guard) => return Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => return Err(poisoned),
            Err(TryLockError::WouldBlock) => me.core.wait_for_others(me.number),
        }
    }
}

/// In a simulation a thread other than the main one sleeps until then; anyone else does not.
pub fn sleep_until(due_us: u64) {
    if let Some(me) = me().filter(|me| me.number != MAIN) {
        me.core.sleep_until(me.number, due_us);
    }
}

/// The process's number; in a simulation it is always the same.
#[must_use]
pub fn process_id() -> u32 {
    match me() {
        Some(_) => 1,
        None => std::process::id(),
    }
}

/// The simulation's time, on a thread that belongs to one.
#[must_use]
pub fn now_us() -> Option<u64> {
    me().map(|me| me.core.now_us())
}
