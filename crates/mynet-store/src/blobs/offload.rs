//! Moves blocking work off the reactor, one batch at a time.

use std::{io, path::PathBuf};

use tokio::task::{JoinError, JoinHandle, spawn_blocking};

use super::DiskError;

/// Runs blocking work in the pool.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, DiskError> {
    spawn_blocking(work).await.map_err(lost)
}

/// A panic in the pool goes on in the caller; otherwise the runtime is shutting down.
fn lost(error: JoinError) -> DiskError {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(error) => gone(io::Error::other(error)),
    }
}

fn gone(source: io::Error) -> DiskError {
    DiskError { verb: "finish work on", path: PathBuf::from("blobs"), source }
}

/// State that is either here or away in the blocking pool, working.
///
/// Whoever waits for it may be dropped and come back: the job keeps running, and its result waits here.
#[derive(Debug)]
pub(super) struct Offload<T, R> {
    here: Option<T>,
    away: Option<JoinHandle<(T, R)>>,
}

impl<T: Send + 'static, R: Send + 'static> Offload<T, R> {
    pub(super) fn new(state: T) -> Self {
        Self { here: Some(state), away: None }
    }

    pub(super) fn is_away(&self) -> bool {
        self.away.is_some()
    }

    /// Sends the state to work. The one before must have been joined.
    pub(super) fn start(&mut self, work: impl FnOnce(&mut T) -> R + Send + 'static) -> Result<(), DiskError> {
        let mut state = self.here.take().ok_or_else(|| gone(io::Error::other("its last step never returned")))?;
        self.away = Some(spawn_blocking(move || {
            let result = work(&mut state);
            (state, result)
        }));
        Ok(())
    }

    /// Waits for the state to come back with its result; `None` if it was not away.
    pub(super) async fn join(&mut self) -> Result<Option<R>, DiskError> {
        let Some(job) = &mut self.away else { return Ok(None) };
        let returned = job.await;
        self.away = None;
        let (state, result) = returned.map_err(lost)?;
        self.here = Some(state);
        Ok(Some(result))
    }

    /// Takes the state out, if it is here.
    pub(super) fn into_inner(self) -> Option<T> {
        self.here
    }
}
