//! How many bytes this node may still take: the one place that knows.
//!
//! Of the capacity, what is neither used by blobs, nor promised to open transactions, nor granted to uploads in flight; and of
//! the file system, what is free beyond a reserve and not granted either.

use std::sync::atomic::{AtomicU64, Ordering};

use mynet_store::{
    blobs::{DiskError, free_space},
    meta::MetaError,
};

use crate::{handle::NodeError, shell::Shell, view::StorageView};

/// Free bytes that uploads and staging leave: databases and logs must go on.
const DISK_RESERVE: u64 = 64 * 1024 * 1024;
/// What an upload of unknown size is granted at a time. More would refuse small uploads beside large ones early, less asks
/// database and file system more often.
const GRANT_BYTES: u64 = 16 * 1024 * 1024;

/// Uploads in flight, all together.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    granted: AtomicU64,
    written: AtomicU64,
}

/// What one upload was granted; given back when it ends.
#[derive(Debug)]
pub(crate) struct Flight<'a> {
    shell: &'a Shell,
    granted: u64,
    written: u64,
}

/// Why room could not be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoomError {
    #[error(transparent)]
    Meta(#[from] MetaError),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<RoomError> for NodeError {
    fn from(error: RoomError) -> Self {
        Self::storage(error)
    }
}

impl Shell {
    /// Bytes that may still be taken by whoever has reserved `own` of them already.
    pub(crate) async fn room(&self, own: u64) -> Result<u64, RoomError> {
        let reserved = self.meta.reserved_bytes().await?.saturating_sub(own);
        let taken = self.meta.blob_bytes().await? + reserved + self.uploads.granted.load(Ordering::Relaxed);
        let capacity = self.config().storage.capacity.as_u64().saturating_sub(taken);
        Ok(capacity.min(self.disk_room()?))
    }

    /// Bytes that the file system may still take, whatever the capacity: for what counts in it already.
    pub(crate) fn disk_room(&self) -> Result<u64, DiskError> {
        let (granted, written) =
            (self.uploads.granted.load(Ordering::Relaxed), self.uploads.written.load(Ordering::Relaxed));
        let promised = DISK_RESERVE + granted.saturating_sub(written);
        Ok(free_space(self.blobs.dir())?.saturating_sub(promised))
    }

    /// How much of what this node may keep is taken, and by what.
    pub(crate) async fn storage_view(&self) -> Result<StorageView, NodeError> {
        let (used, reserved) = (self.meta.blob_bytes().await, self.meta.reserved_bytes().await);
        let disk_free = free_space(self.blobs.dir()).map_err(NodeError::storage)?;
        Ok(StorageView {
            capacity: self.config().storage.capacity.as_u64(),
            used: used.map_err(NodeError::storage)?,
            reserved: reserved.map_err(NodeError::storage)?,
            uploads: self.uploads.granted.load(Ordering::Relaxed),
            free: self.room(0).await?,
            disk_free,
            disk_reserve: DISK_RESERVE,
            upload_max: self.config().limits.upload.as_u64(),
        })
    }

    /// An upload begins.
    pub(crate) fn take_off(&self) -> Flight<'_> {
        Flight { shell: self, granted: 0, written: 0 }
    }
}

impl Flight<'_> {
    /// `bytes` more are about to be written.
    ///
    /// # Errors
    /// [`NodeError::NoSpace`]: there is no room for them; nothing was granted.
    pub(crate) async fn take(&mut self, bytes: u64) -> Result<(), NodeError> {
        let needed = self.written + bytes;
        if needed > self.granted {
            let room = self.shell.room(0).await?;
            let missing = needed - self.granted;
            if missing > room {
                return Err(NodeError::NoSpace { needed, free: self.granted + room });
            }
            let more = missing.max(GRANT_BYTES.min(room));
            self.granted += more;
            self.shell.uploads.granted.fetch_add(more, Ordering::Relaxed);
        }
        self.written = needed;
        self.shell.uploads.written.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.shell.uploads.granted.fetch_sub(self.granted, Ordering::Relaxed);
        self.shell.uploads.written.fetch_sub(self.written, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::GRANT_BYTES;
    use crate::{handle::Grant, testing::Founder};

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_taken_is_told_by_what_takes_it_and_the_rest_is_free() {
        let founder = Founder::start().await;
        let shell = founder.shell();
        let before = founder.handle.storage().await.unwrap();
        assert_eq!((before.used, before.reserved, before.uploads), (0, 0, 0));
        let public = |options: &mut crate::handle::AddOptions| (options.public, options.grant) = (true, Grant::Trusted);
        founder.add(b"ten bytes.", public).await;
        let mut flight = shell.take_off();
        flight.take(1).await.unwrap();
        let during = founder.handle.storage().await.unwrap();
        assert_eq!((during.used, during.uploads), (10, GRANT_BYTES));
        let of_capacity = during.capacity - during.used - during.uploads;
        assert!(during.free <= of_capacity && during.free < during.disk_free, "{during:?}");
        drop(flight);
        let after = founder.handle.storage().await.unwrap();
        assert_eq!((after.used, after.uploads), (10, 0));
    }
}
