//! The memory of the whole process: locked, so that it is not swapped out; kept out of core files; and given back when it is free.
//!
//! `daemon` and `content` import it. It imports nothing of ours.

use std::sync::{Mutex, PoisonError};

use rustix::mm::{MlockAllFlags, mlockall, munlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior};

/// Whether memory is locked. Held while that changes.
static LOCKED: Mutex<bool> = Mutex::new(false);

/// Locks all memory, each page when it is first used, unless a limit applies: with a limit, some later allocation would
/// fail.
///
/// # Errors
/// The system does not let this process lock its memory.
pub(crate) fn lock() -> rustix::io::Result<()> {
    let mut locked = LOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    let result = lock_all();
    *locked = result.is_ok();
    result
}

fn lock_all() -> rustix::io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Memlock);
    let all = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    if limit.current.is_none() {
        return mlockall(all);
    }
    // With a limit of 0, mlockall succeeds only with CAP_IPC_LOCK. So this also fails in a user namespace, where root has
    // that capability in name only.
    rustix::process::setrlimit(Resource::Memlock, Rlimit { current: Some(0), ..limit })?;
    let locked = mlockall(all);
    rustix::process::setrlimit(Resource::Memlock, limit)?;
    locked
}

/// From now on no core file of this process is written, and no other process of its user can read its memory (PR_SET_DUMPABLE of
/// prctl(2)).
///
/// # Errors
/// The system's.
pub(crate) fn keep_secret() -> rustix::io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

/// Gives memory that was freed back to the system. Decoders of films leave tens of megabytes in the allocator's arenas, which it
/// keeps for ever. Locked pages cannot be given back, so memory is unlocked meanwhile, for some milliseconds.
pub(crate) fn give_back() {
    let mut locked = LOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    let was_locked = *locked && munlockall().is_ok();
    film_facts::give_back_memory();
    if was_locked {
        *locked = lock_all().is_ok();
    }
}
