//! How a batch reaches the disks: by io_uring where it is allowed, else by plain writes.

use std::io;
use std::sync::Arc;

use ringfs_disk::DiskFile;

use super::WalError;
use super::uring::Ring;
use crate::config::IoUring;
use ringfs_proto::buffer::AlignedBuffer;

/// A segment open for synced writes.
#[derive(Debug, Clone)]
pub struct SyncedFile {
    pub file: Arc<dyn DiskFile>,
    /// Whether the descriptor syncs each write by itself (`O_DSYNC`).
    pub is_dsync: bool,
}

/// Writes batches.
pub enum Appender {
    /// Through io_uring, to all directories at once.
    Ring(Ring),
    /// By pwrite, to one directory after the other.
    Plain,
}

impl Appender {
    /// Chooses, and says so in the log once. To be called on the thread that appends.
    ///
    /// # Errors
    /// `IoUringUnavailable` when it was demanded.
    pub fn choose(choice: IoUring) -> Result<Self, WalError> {
        if choice == IoUring::Off {
            tracing::info!("write-ahead log uses plain writes: io_uring is configured off");
            return Ok(Self::Plain);
        }
        match Ring::new() {
            Ok(ring) => {
                tracing::info!("write-ahead log uses io_uring");
                Ok(Self::Ring(ring))
            }
            Err(error) if choice == IoUring::On => {
                Err(WalError::IoUringUnavailable { reason: error.to_string() })
            }
            Err(error) => {
                tracing::info!(%error, "write-ahead log uses plain writes: io_uring is not available");
                Ok(Self::Plain)
            }
        }
    }

    /// Another segment follows: nothing of the old one is held any longer.
    pub fn switch(&mut self) {
        if let Self::Ring(ring) = self {
            ring.forget_segments();
        }
    }

    /// Writes the whole buffer to each target and waits until it is on stable storage there, or has failed.
    pub fn append<'a>(
        &mut self,
        targets: impl Iterator<Item = &'a SyncedFile> + Clone,
        buffer: AlignedBuffer,
        offset: u64,
    ) -> (Vec<io::Result<()>>, AlignedBuffer) {
        let descriptors: Option<Vec<_>> = targets.clone().map(|target| target.file.descriptor()).collect();
        let (mut results, buffer) = match (self, descriptors) {
            (Self::Ring(ring), Some(descriptors)) => ring.write_all_at(&descriptors, buffer, offset),
            _ => {
                let write = |target: &SyncedFile| target.file.write_all_at(buffer.as_ref(), offset);
                (targets.clone().map(write).collect(), buffer)
            }
        };
        for (result, target) in results.iter_mut().zip(targets) {
            if result.is_ok() && !target.is_dsync {
                *result = target.file.sync_data();
            }
        }
        (results, buffer)
    }
}
