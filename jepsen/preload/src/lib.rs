//! A library preloaded into a node (`LD_PRELOAD`): disk faults, power cuts and wrong clocks.
//!
//! It takes the place of libc's file calls and of its wall clock. Calls that concern the data
//! directory are made to fail, to be late or to lie as the control file says, and account is kept of
//! what is synced, so that the harness can take away the rest when it cuts the power
//! (`jepsen_control`). Everything else is passed on; so is everything in a process that is not told
//! of a side directory.
//!
//! What it does not see: writes through a shared mapping, raw system calls, io_uring, and files that
//! are reached by a descriptor it did not see opened. The product has none of these.
//!
//! Its own files it works on by raw system calls (`sys`), since a call of libc would come back
//! here. Locks, in this order: one file, names, files. None is held while a sync is under way.
#![expect(
    unsafe_code,
    reason = "functions of libc are replaced here, and called"
)]

mod clock;
mod faults;
mod files;
mod interpose;
mod name_log;
mod state;
mod sync;
mod sys;
mod writes;
