//! Waiting for conditions.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Pause between two looks; short against every deadline, long against the cost of a look.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks again and again until `look` gives a value.
///
/// # Errors
/// After `limit`, with what was waited for and the last reason that `look` gave.
pub fn until<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => bail!("waited {limit:?} for {what}: {error:#}"),
            Err(_) => thread::park_timeout(PAUSE),
        }
    }
}
