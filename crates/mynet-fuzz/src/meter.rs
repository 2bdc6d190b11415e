//! Counts allocations: every program that links this crate allocates through one counter.

use std::{
    alloc::System,
    sync::{Mutex, MutexGuard, PoisonError},
};

use cap::Cap;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, usize::MAX);

/// Held while something is measured, because the counter knows no threads.
static MEASURING: Mutex<()> = Mutex::new(());

/// Lets nothing else be measured until it is dropped. A failed measurement leaves nothing behind, so its poison is no news.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    MEASURING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What `work` returns, and all bytes that it asked for, those given back meanwhile and those of grown buffers included: at
/// least what it held at any moment.
pub(crate) fn asked_for<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATOR.total_allocated();
    let result = work();
    (result, ALLOCATOR.total_allocated().wrapping_sub(before))
}

/// Bytes that dropping `value` gives back: what it held.
pub(crate) fn held_by<T>(value: T) -> usize {
    let before = ALLOCATOR.allocated();
    drop(value);
    before.saturating_sub(ALLOCATOR.allocated())
}
