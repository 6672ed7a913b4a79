//! A disk in memory that forgets, tears and fails as real ones do when the power goes.
//!
//! The page cache outlives the process that wrote to it ([`SimulatedDisk::kill`]), not the power
//! ([`SimulatedDisk::cut_power`]): of each 512-byte sector that was not synced any version since the last sync may be left,
//! of each length that was not synced any, and of the names in a directory that were changed since it was synced only the
//! first so many changes. Everything is decided by the seed.
//!
//! An operation may be the last of its process: [`SimulatedDisk::stop_after`]. It takes effect in part, and from then on
//! every operation fails, until [`SimulatedDisk::kill`] or [`SimulatedDisk::cut_power`] make the disk ready for the next
//! process. Handles of an earlier process fail for ever.

mod content;
mod names;
mod random;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Create, Disk, DiskFile, DiskLock, OpenOptions, Space};
use content::{Content, PAGE_BYTES, SECTOR_BYTES};
use names::{Names, Node};
use random::Random;

/// Bytes of a disk, unless told otherwise.
const CAPACITY_BYTES: u64 = 1 << 40;

/// Kinds of operations that can be made to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Reading bytes.
    Read,
    /// Writing bytes, lengths and names.
    Write,
    /// Making them durable.
    Sync,
}

/// A disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimulatedDisk {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    random: Random,
    names: Names,
    files: BTreeMap<u64, Content>,
    next_file: u64,
    /// Counts processes: handles of an earlier one are of no use.
    process: u64,
    operations: u64,
    stop_after: Option<u64>,
    is_stopped: bool,
    failures: BTreeMap<Kind, u64>,
    /// Directories below which every operation fails.
    failed: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    forgotten_syncs: Option<String>,
    capacity_bytes: u64,
}

struct File {
    disk: SimulatedDisk,
    path: PathBuf,
    file: u64,
    process: u64,
    options: OpenOptions,
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> Self {
        let inner = Inner {
            random: Random::new(seed),
            names: Names::new(),
            files: BTreeMap::new(),
            next_file: 1,
            process: 0,
            operations: 0,
            stop_after: None,
            is_stopped: false,
            failures: BTreeMap::new(),
            failed: BTreeSet::new(),
            locks: BTreeSet::new(),
            forgotten_syncs: None,
            capacity_bytes: CAPACITY_BYTES,
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Operations that changed something or made it durable, so far.
    pub fn operations(&self) -> u64 {
        self.inner().operations
    }

    /// The operation after `operations` more ones is the last of its process: it takes effect in part, at most.
    pub fn stop_after(&self, operations: u64) {
        let mut inner = self.inner();
        inner.stop_after = Some(inner.operations + operations);
    }

    /// Whether the last operation of the process has been made.
    pub fn is_stopped(&self) -> bool {
        self.inner().is_stopped
    }

    /// The process ends; what it wrote is in the page cache. The next may begin.
    pub fn kill(&self) {
        self.inner().next_process();
    }

    /// The power fails, and comes back. The next process may begin.
    pub fn cut_power(&self) {
        let mut inner = self.inner();
        let Inner { random, names, files, .. } = &mut *inner;
        names.forget(random);
        files.values_mut().for_each(|content| content.forget(random));
        inner.next_process();
    }

    /// The next `count` operations of a kind fail with an I/O error.
    pub fn fail(&self, kind: Kind, count: u64) {
        self.inner().failures.insert(kind, count);
    }

    /// Every operation below a directory fails, or works again.
    pub fn set_failed(&self, directory: &Path, has_failed: bool) {
        let mut inner = self.inner();
        if has_failed {
            inner.failed.insert(directory.to_owned());
        } else {
            inner.failed.remove(directory);
        }
    }

    /// Syncs of files and directories whose path has this text in it do nothing, and say that they did.
    pub fn forget_syncs_of(&self, text: Option<&str>) {
        self.inner().forgotten_syncs = text.map(str::to_owned);
    }

    /// Makes the disk larger or smaller. What is stored stays.
    pub fn set_capacity(&self, bytes: u64) {
        self.inner().capacity_bytes = bytes;
    }

    /// Bytes that are stored.
    pub fn used_bytes(&self) -> u64 {
        self.inner().used_bytes()
    }

    /// Turns a bit of a file around. False where nothing is stored.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) -> bool {
        let mut inner = self.inner();
        let Some(Node::File(file)) = inner.names.find(path) else { return false };
        inner.files.get_mut(&file).is_some_and(|content| content.flip_bit(offset, bit))
    }

    /// Offsets of the 4 KiB pages of a file that hold anything but zeros, in order.
    pub fn stored_pages(&self, path: &Path) -> Vec<u64> {
        let inner = self.inner();
        let Some(Node::File(file)) = inner.names.find(path) else { return Vec::new() };
        inner.files.get(&file).map(|content| content.stored_pages().collect()).unwrap_or_default()
    }

    /// Every file, by path.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = self.inner().names.files().map(|(path, _)| path).collect();
        files.sort();
        files
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimulatedDisk({} operations)", self.inner().operations)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of a simulated disk", self.path.display())
    }
}

/// How far an operation goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Whole,
    /// It is the last of its process.
    Part,
}

impl Inner {
    fn next_process(&mut self) {
        self.process += 1;
        (self.stop_after, self.is_stopped) = (None, false);
        self.locks.clear();
        self.failures.clear();
        let named: BTreeSet<u64> = self.names.files().map(|(_, file)| file).collect();
        self.files.retain(|file, _| named.contains(file));
    }

    fn used_bytes(&self) -> u64 {
        self.files.values().map(Content::used_bytes).sum()
    }

    /// Checks whether an operation may be made at all.
    fn check(&mut self, kind: Kind, path: &Path) -> io::Result<()> {
        if self.is_stopped {
            return Err(io::Error::other("the process has ended"));
        }
        if self.failed.iter().any(|failed| path.starts_with(failed)) {
            return Err(input_output());
        }
        match self.failures.get_mut(&kind) {
            Some(count) if *count > 0 => {
                *count -= 1;
                Err(input_output())
            }
            _ => Ok(()),
        }
    }

    /// Begins an operation that changes something.
    fn begin(&mut self, kind: Kind, path: &Path) -> io::Result<Extent> {
        self.check(kind, path)?;
        self.operations += 1;
        if self.stop_after.is_some_and(|last| self.operations > last) {
            self.is_stopped = true;
            return Ok(Extent::Part);
        }
        Ok(Extent::Whole)
    }

    /// Begins an operation that is made as a whole or not at all.
    fn begin_whole(&mut self, kind: Kind, path: &Path) -> io::Result<()> {
        match self.begin(kind, path)? {
            Extent::Part if self.random.below(2) == 0 => Err(io::Error::other("the process has ended")),
            Extent::Whole | Extent::Part => Ok(()),
        }
    }

    fn content(&mut self, file: u64) -> io::Result<&mut Content> {
        self.files.get_mut(&file).ok_or_else(|| io::Error::other("the file is gone"))
    }

    fn forgets_sync_of(&self, path: &Path) -> bool {
        let path = path.to_string_lossy();
        self.forgotten_syncs.as_ref().is_some_and(|text| path.contains(text.as_str()))
    }

    fn open(&mut self, path: &Path, options: OpenOptions) -> io::Result<u64> {
        match (self.names.find(path), options.create) {
            (Some(Node::Directory), _) => Err(io::ErrorKind::IsADirectory.into()),
            (Some(_), Create::New) => Err(io::ErrorKind::AlreadyExists.into()),
            (None, Create::Existing) => Err(io::ErrorKind::NotFound.into()),
            (Some(Node::File(file)), Create::Empty) => {
                self.begin_whole(Kind::Write, path)?;
                self.content(file)?.set_len(0);
                Ok(file)
            }
            (Some(Node::File(file)), _) => Ok(file),
            (None, _) => {
                self.begin_whole(Kind::Write, path)?;
                let file = self.next_file;
                self.names.set(path, Some(Node::File(file)))?;
                self.next_file += 1;
                self.files.insert(file, Content::default());
                Ok(file)
            }
        }
    }
}

fn input_output() -> io::Error {
    const EIO: i32 = 5;
    io::Error::from_raw_os_error(EIO)
}

fn no_space() -> io::Error {
    const ENOSPC: i32 = 28;
    io::Error::from_raw_os_error(ENOSPC)
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.inner();
        inner.check(Kind::Read, path)?;
        let file = inner.open(path, options)?;
        let process = inner.process;
        Ok(Arc::new(File { disk: self.clone(), path: path.to_owned(), file, process, options }))
    }

    fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.begin_whole(Kind::Write, target)?;
        inner.names.rename(source, target)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        let Some(Node::File(_)) = inner.names.find(path) else { return Err(io::ErrorKind::NotFound.into()) };
        inner.begin_whole(Kind::Write, path)?;
        inner.names.set(path, None)
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        if inner.names.find(path) == Some(Node::Directory) {
            return inner.check(Kind::Read, path);
        }
        inner.begin_whole(Kind::Write, path)?;
        inner.names.create_directories(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut inner = self.inner();
        inner.check(Kind::Read, path)?;
        inner.names.list(path)
    }

    fn exists(&self, path: &Path) -> bool {
        let mut inner = self.inner();
        inner.check(Kind::Read, path).is_ok() && inner.names.find(path).is_some()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.inner();
        inner.begin_whole(Kind::Sync, path)?;
        if inner.forgets_sync_of(path) {
            return Ok(());
        }
        inner.names.sync(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let mut inner = self.inner();
        inner.check(Kind::Read, path)?;
        let capacity_bytes = inner.capacity_bytes;
        Ok(Space { capacity_bytes, free_bytes: capacity_bytes.saturating_sub(inner.used_bytes()) })
    }

    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        let mut inner = self.inner();
        inner.open(path, OpenOptions::WRITE.create(Create::IfMissing))?;
        if !inner.locks.insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Held { disk: self.clone(), path: path.to_owned(), process: inner.process }))
    }
}

struct Held {
    disk: SimulatedDisk,
    path: PathBuf,
    process: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut inner = self.disk.inner();
        if inner.process == self.process {
            inner.locks.remove(&self.path);
        }
    }
}

impl File {
    fn inner(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.inner();
        if inner.process == self.process { Ok(inner) } else { Err(io::Error::other("the process has ended")) }
    }

    /// Around the page cache, everything is aligned.
    fn check_aligned(&self, offset: u64, len: usize) -> io::Result<()> {
        let is_aligned = offset.is_multiple_of(PAGE_BYTES as u64) && len.is_multiple_of(PAGE_BYTES);
        if self.options.is_direct && !is_aligned { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(()) }
    }
}

impl DiskFile for File {
    fn read_at(&self, target: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut inner = self.inner()?;
        inner.check(Kind::Read, &self.path)?;
        if offset >= inner.content(self.file)?.len() {
            // As Linux does it, the end of the file is looked at before the alignment.
            return Ok(0);
        }
        self.check_aligned(offset, target.len())?;
        Ok(inner.content(self.file)?.read(target, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.check_aligned(offset, bytes.len())?;
        if !self.options.write {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut inner = self.inner()?;
        let extent = inner.begin(Kind::Write, &self.path)?;
        let growth = inner.content(self.file)?.growth(offset, bytes.len() as u64);
        if inner.used_bytes() + growth > inner.capacity_bytes {
            return Err(no_space());
        }
        let is_synced = self.options.is_synced && !inner.forgets_sync_of(&self.path);
        if extent == Extent::Whole {
            inner.content(self.file)?.write(bytes, offset, is_synced);
            return Ok(());
        }
        // Some of its sectors, from the first on, have come to the page cache or to the disk.
        let sectors = inner.random.below(bytes.len() as u64 / SECTOR_BYTES as u64 + 1) as usize;
        inner.content(self.file)?.write(&bytes[..sectors * SECTOR_BYTES], offset, false);
        Err(io::Error::other("the process has ended"))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn sync_all(&self) -> io::Result<()> {
        let mut inner = self.inner()?;
        inner.begin_whole(Kind::Sync, &self.path)?;
        if !inner.forgets_sync_of(&self.path) {
            inner.content(self.file)?.sync();
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut inner = self.inner()?;
        inner.begin_whole(Kind::Write, &self.path)?;
        inner.content(self.file)?.set_len(len);
        Ok(())
    }

    fn allocate(&self, len: u64, keep_len: bool) -> io::Result<()> {
        let mut inner = self.inner()?;
        inner.begin_whole(Kind::Write, &self.path)?;
        let free = inner.capacity_bytes.saturating_sub(inner.used_bytes());
        let content = inner.content(self.file)?;
        if len.saturating_sub(content.len()) > free {
            return Err(no_space());
        }
        if !keep_len && len > content.len() {
            content.set_len(len);
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        let mut inner = self.inner()?;
        inner.check(Kind::Read, &self.path)?;
        Ok(inner.content(self.file)?.len())
    }
}
