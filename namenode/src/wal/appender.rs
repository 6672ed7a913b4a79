//! How a batch reaches the disk: by io_uring where it is allowed, else by plain writes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::WalError;
use super::uring::Ring;
use crate::config::IoUring;
use ringfs_proto::buffer::AlignedBuffer;

/// A segment open for synced writes.
#[derive(Debug)]
pub struct SyncedFile {
    pub file: File,
    /// Whether the descriptor syncs each write by itself (`O_DSYNC`).
    pub is_dsync: bool,
}

/// Writes batches.
pub enum Appender {
    /// Through io_uring.
    Ring(Ring),
    /// By pwrite.
    Plain,
}

impl Appender {
    /// Chooses, and says so in the log once.
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
            ring.forget_segment();
        }
    }

    /// Writes the whole buffer and waits until it is on stable storage.
    pub fn append(
        &mut self,
        target: &SyncedFile,
        buffer: AlignedBuffer,
        offset: u64,
    ) -> (io::Result<()>, AlignedBuffer) {
        let (result, buffer) = match self {
            Self::Ring(ring) => ring.write_all_at(&target.file, buffer, offset),
            Self::Plain => (target.file.write_all_at(buffer.as_ref(), offset), buffer),
        };
        let result = result.and_then(|()| if target.is_dsync { Ok(()) } else { target.file.sync_data() });
        (result, buffer)
    }
}
