//! The seam between the servers and file systems: what the log, checkpoints, journals and block stores do with files.
//!
//! Everything that has to survive a crash is written through [`Disk`], so that a disk that forgets what was not synced, tears
//! sectors or fails can stand in its place. [`SystemDisk`] is the real one, [`SimulatedDisk`] the one of tests. What a packet of data costs does not go through
//! here: shards write block data through the files of their engine.
//!
//! The crate knows nothing of what is in the files, and never decides that a failed operation may be tried again.
//!
//! What an implementation promises, and no more:
//!
//! - Bytes written are on stable storage after [`DiskFile::sync_data`] or [`DiskFile::sync_all`] of that file, or when the write
//!   returns on a file opened with [`OpenOptions::synced`]. Without, a power cut may keep any part of them.
//! - A name that was made, changed or removed is on stable storage after [`Disk::sync_directory`] of its directory.
//! - A rename replaces its target in one step, also for who looks after a crash.

#![forbid(unsafe_code)]

pub mod simulated;
mod system;

use std::any::Any;
use std::fmt::Debug;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

pub use simulated::SimulatedDisk;
pub use system::SystemDisk;

/// Whether opening makes a file. Files are made with mode 0600.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Create {
    /// It must exist.
    #[default]
    Existing,
    /// It is made when it is missing, and kept when it is there.
    IfMissing,
    /// It is made when it is missing, and emptied when it is there.
    Empty,
    /// It must not exist.
    New,
}

/// How a file is opened. Always close-on-exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOptions {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Whether it is made.
    pub create: Create,
    /// Around the page cache (`O_DIRECT`): memory, offsets and lengths are multiples of 4096 bytes.
    pub is_direct: bool,
    /// Each write returns when it is on stable storage (`O_DSYNC`).
    pub is_synced: bool,
}

impl OpenOptions {
    /// An existing file, for reading.
    pub const READ: Self =
        Self { read: true, write: false, create: Create::Existing, is_direct: false, is_synced: false };
    /// An existing file, for writing.
    pub const WRITE: Self = Self { read: false, write: true, ..Self::READ };
    /// An existing file, for both.
    pub const READ_WRITE: Self = Self { write: true, ..Self::READ };

    /// Makes the file as `create` says.
    #[must_use]
    pub const fn create(self, create: Create) -> Self {
        Self { create, ..self }
    }

    /// Around the page cache.
    #[must_use]
    pub const fn direct(self) -> Self {
        Self { is_direct: true, ..self }
    }

    /// With every write synced.
    #[must_use]
    pub const fn synced(self) -> Self {
        Self { is_synced: true, ..self }
    }
}

/// Room of the file system that a path is on, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub capacity_bytes: u64,
    /// What this process may still use.
    pub free_bytes: u64,
}

/// A lock that is held until it is dropped.
pub type DiskLock = Box<dyn Any + Send + Sync>;

/// File systems.
pub trait Disk: Debug + Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists` as [`Create`] says; `InvalidInput` when the file system refuses direct I/O; what open says.
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, in place of what has that name.
    ///
    /// # Errors
    /// What rename says.
    fn rename(&self, source: &Path, target: &Path) -> io::Result<()>;

    /// Removes the name of a file; who has the file open goes on.
    ///
    /// # Errors
    /// `NotFound`, or what unlink says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a directory and those above it that are missing.
    ///
    /// # Errors
    /// What mkdir says, but for directories that are there.
    fn create_directories(&self, path: &Path) -> io::Result<()>;

    /// Names in a directory, sorted. Names that are not UTF-8 come with replacement characters: none of them is ours.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, or what readdir says.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;

    /// Whether there is anything of this name that can be looked at.
    fn exists(&self, path: &Path) -> bool;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What open or fsync says: fatal for what lies in it, as every failed sync.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// Room of the file system of `path`.
    ///
    /// # Errors
    /// What statvfs says.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// Takes the lock of a file, which is made when it is missing. A lock ends with its process.
    ///
    /// # Errors
    /// `WouldBlock`: another holds it. What open says.
    fn lock(&self, path: &Path) -> io::Result<DiskLock>;

    /// Everything in a file.
    ///
    /// # Errors
    /// What open or read says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenOptions::READ)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Everything in a text file.
    ///
    /// # Errors
    /// `InvalidData` when it is not UTF-8; what open or read says.
    fn read_to_string(&self, path: &Path) -> io::Result<String> {
        String::from_utf8(self.read(path)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Puts a small file in place in one step: after a crash there is the old one or the new one, and after this returns the new.
    /// It is written beside its name first, with the ending `new`.
    ///
    /// # Errors
    /// What the operating system says of any step; the old file is then still there, or the new one not yet durable.
    fn write_durably(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let new = path.with_extension("new");
        let file = self.open(&new, OpenOptions::WRITE.create(Create::Empty))?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        self.rename(&new, path)?;
        self.sync_directory(path.parent().unwrap_or(Path::new(".")))
    }
}

/// An open file. Shared by threads; closed when the last of them drops it.
#[allow(clippy::len_without_is_empty, reason = "the length of a file may fail to be had")]
pub trait DiskFile: Debug + Send + Sync {
    /// Reads up to `target.len()` bytes; 0 at the end of the file.
    ///
    /// # Errors
    /// What pread says.
    fn read_at(&self, target: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes`; beyond the end of the file, what lies between reads as zeros.
    ///
    /// # Errors
    /// What pwrite says; a part may be written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the bytes durable, and the length if it changed.
    ///
    /// # Errors
    /// What fdatasync says. Never to be tried again: what was not written may be forgotten.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes bytes and metadata durable.
    ///
    /// # Errors
    /// What fsync says. Never to be tried again: what was not written may be forgotten.
    fn sync_all(&self) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// What ftruncate says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Takes room for the first `len` bytes; the length stays as it is when `keep_len`, else it is at least `len` after.
    ///
    /// # Errors
    /// What fallocate says: `StorageFull` when there is no room.
    fn allocate(&self, len: u64, keep_len: bool) -> io::Result<()>;

    /// Its length in bytes.
    ///
    /// # Errors
    /// What fstat says.
    fn len(&self) -> io::Result<u64>;

    /// Asks the page cache to forget what is clean of this file. A hint: nothing depends on it.
    fn drop_cache(&self) {}

    /// The descriptor, for engines of the kernel that take one. `None` where there is no kernel below.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Fills `target`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before; what pread says.
    fn read_exact_at(&self, target: &mut [u8], offset: u64) -> io::Result<()> {
        let filled = self.read_full_at(target, offset)?;
        if filled < target.len() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Reads until `target` is full or the file ends; returns how many bytes it holds.
    ///
    /// # Errors
    /// What pread says.
    fn read_full_at(&self, target: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < target.len() {
            match self.read_at(&mut target[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
