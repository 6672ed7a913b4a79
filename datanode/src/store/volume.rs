//! A volume: a directory on a disk, with an identity, a journal, and room that is counted.
//!
//! | file | content |
//! |---|---|
//! | `volume.toml` | version, cluster, storage id |
//! | `lock` | locked by the running datanode |
//! | `journal` | which replicas there are, see [`crate::format::journal`] |
//! | `blocks/XX/YY/blk_ID` | a block file; XX and YY are bits 16 to 24 and 8 to 16 of the id |
//! | `copies/blk_ID` | a copy from another datanode that is not finished; removed at a start |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringfs_disk::{Create, Disk, DiskLock, OpenOptions};
use ringfs_proto::ids::{BlockId, ClusterId, StorageId};
use ringfs_proto::meta::membership::VolumeStatusV1;
use serde::{Deserialize, Serialize};

use super::room::Room;
use crate::error::{StartError, io_error};
use crate::machine::Machine;

const VERSION: u32 = 1;
const IDENTITY: &str = "volume.toml";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    version: u32,
    cluster: String,
    storage: String,
}

/// How a volume is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSettings {
    /// Its directory.
    pub path: PathBuf,
    /// Bytes kept free on it.
    pub reserved_bytes: u64,
    /// The least number of new records for which its journal is compacted; 0: never.
    pub journal_compact_records: u64,
}

impl VolumeSettings {
    /// A directory of which everything may be used, and whose journal is compacted only at a start.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), reserved_bytes: 0, journal_compact_records: 0 }
    }
}

/// A volume that this process owns.
pub struct Volume {
    /// Its id.
    pub id: StorageId,
    machine: Arc<dyn Machine>,
    path: PathBuf,
    reserved_bytes: u64,
    used_bytes: AtomicU64,
    /// What is promised to replicas that are being written.
    pub(super) room: Room,
    replicas: AtomicU64,
    has_failed: AtomicBool,
    is_retired: AtomicBool,
    is_suspected: AtomicBool,
    scrubbed_s: AtomicU64,
    bad_replicas: AtomicU64,
    _lock: DiskLock,
}

impl std::fmt::Debug for Volume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "volume {} in {}", self.id, self.path.display())
    }
}

impl Volume {
    /// Opens a volume, or makes one of an empty directory.
    ///
    /// # Errors
    /// [`StartError`]: the message says what to do.
    pub fn open(
        machine: &Arc<dyn Machine>,
        path: &Path,
        cluster: ClusterId,
        reserved_bytes: u64,
    ) -> Result<Self, StartError> {
        let files = machine.files();
        let read_only = |source| StartError::ReadOnly { path: path.to_owned(), source };
        files.create_directories(path).map_err(read_only)?;
        let identity_path = path.join(IDENTITY);
        if !files.exists(&identity_path) {
            make_identity(&**machine, path, &identity_path, cluster)?;
        }
        let lock = files.lock(&path.join("lock")).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StartError::Locked { path: path.to_owned() },
            _ => read_only(error),
        })?;
        let id = read_identity(files, path, &identity_path, cluster)?;
        check_writable(files, path).map_err(read_only)?;
        make_directories(files, path).map_err(read_only)?;
        Ok(Self {
            id,
            machine: machine.clone(),
            path: path.to_owned(),
            reserved_bytes,
            used_bytes: AtomicU64::new(0),
            room: Room::default(),
            replicas: AtomicU64::new(0),
            has_failed: AtomicBool::new(false),
            is_retired: AtomicBool::new(false),
            is_suspected: AtomicBool::new(false),
            scrubbed_s: AtomicU64::new(0),
            bad_replicas: AtomicU64::new(0),
            _lock: lock,
        })
    }

    /// The file system that it is on.
    pub fn files(&self) -> &dyn Disk {
        self.machine.files()
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the file of a block is.
    pub fn block_path(&self, block: BlockId) -> PathBuf {
        let (high, low) = (block.0 >> 16 & 0xff, block.0 >> 8 & 0xff);
        self.path.join(format!("blocks/{high:02x}/{low:02x}/blk_{}", block.0))
    }

    /// Where unfinished copies are.
    pub fn copies_path(&self) -> PathBuf {
        self.path.join("copies")
    }

    /// Where the file of an unfinished copy of a block is.
    pub fn copy_path(&self, block: BlockId) -> PathBuf {
        self.path.join(format!("copies/blk_{}", block.0))
    }

    /// A replica of so many bytes is there.
    pub fn count_stored(&self, bytes: u64) {
        self.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.replicas.fetch_add(1, Ordering::Relaxed);
    }

    /// A replica of so many bytes is gone.
    pub fn count_deleted(&self, bytes: u64) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.replicas.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many replicas there are.
    pub fn replica_count(&self) -> u64 {
        self.replicas.load(Ordering::Relaxed)
    }

    /// A replica has another length.
    pub fn count_resized(&self, before: u64, after: u64) {
        self.used_bytes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Free bytes that are not kept free.
    ///
    /// # Errors
    /// What the operating system says of the file system.
    pub(super) fn usable_bytes(&self) -> io::Result<u64> {
        self.space().map(|(_, free)| free.saturating_sub(self.reserved_bytes))
    }

    /// It is out of use.
    pub fn fail(&self, error: &io::Error) {
        if !self.has_failed.swap(true, Ordering::Relaxed) {
            tracing::error!(%error, path = %self.path.display(), "volume has failed: it is taken out of use");
        }
    }

    /// Whether it is out of use.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed)
    }

    /// Its replicas are forgotten. Returns whether they were before.
    pub fn retire(&self) -> bool {
        if self.is_retired.swap(true, Ordering::Relaxed) {
            return true;
        }
        self.used_bytes.store(0, Ordering::Relaxed);
        self.replicas.store(0, Ordering::Relaxed);
        false
    }

    /// Whether it has failed and its replicas are not forgotten yet.
    pub fn is_to_be_retired(&self) -> bool {
        self.has_failed() && !self.is_retired.load(Ordering::Relaxed)
    }

    /// A read failed: it is to be seen whether only that.
    pub fn suspect(&self) {
        self.is_suspected.store(true, Ordering::Relaxed);
    }

    /// Whether a read failed since it was last looked at.
    pub fn is_suspected(&self) -> bool {
        self.is_suspected.load(Ordering::Relaxed)
    }

    /// As [`Volume::is_suspected`], and forgets it.
    pub fn take_suspicion(&self) -> bool {
        self.is_suspected.swap(false, Ordering::Relaxed)
    }

    /// The scrubber's last whole round ended at this time.
    pub fn set_scrubbed(&self, unix_s: u64) {
        self.scrubbed_s.store(unix_s, Ordering::Relaxed);
    }

    /// A replica was found bad.
    pub fn count_bad(&self) {
        self.bad_replicas.fetch_add(1, Ordering::Relaxed);
    }

    /// As the namenode is told of it.
    pub fn status(&self) -> VolumeStatusV1 {
        let (capacity_bytes, free) = self.space().unwrap_or((0, 0));
        let promised = self.room.promised_bytes();
        VolumeStatusV1 {
            storage: self.id,
            path: self.path.display().to_string(),
            capacity_bytes,
            used_bytes: self.used_bytes.load(Ordering::Relaxed),
            remaining_bytes: free.saturating_sub(self.reserved_bytes).saturating_sub(promised),
            reserved_bytes: self.reserved_bytes,
            replicas: self.replica_count(),
            is_failed: self.has_failed(),
            scrubbed_s: self.scrubbed_s.load(Ordering::Relaxed),
            bad_replicas: self.bad_replicas.load(Ordering::Relaxed),
        }
    }

    /// Bytes of the file system, and those that are free.
    fn space(&self) -> io::Result<(u64, u64)> {
        self.files().space(&self.path).map(|space| (space.capacity_bytes, space.free_bytes))
    }
}

fn make_identity(
    machine: &dyn Machine,
    path: &Path,
    identity_path: &Path,
    cluster: ClusterId,
) -> Result<(), StartError> {
    let entries = machine.files().list(path).map_err(io_error("list", path))?;
    let is_ours = |name: &str| ["lock", "lost+found", "datanode.toml"].contains(&name);
    if entries.iter().any(|name| !is_ours(name)) {
        return Err(StartError::NotAVolume { path: path.to_owned() });
    }
    let mut id = [0; 16];
    machine.fill_random(&mut id).map_err(io_error("make the id of", path))?;
    let identity =
        Identity { version: VERSION, cluster: cluster.to_string(), storage: StorageId(id).to_string() };
    let text = toml::to_string(&identity)
        .map_err(|error| io_error("make the id of", path)(io::Error::other(error)))?;
    let written = machine.files().write_durably(identity_path, text.as_bytes());
    written.map_err(|source| StartError::ReadOnly { path: path.to_owned(), source })
}

fn read_identity(
    files: &dyn Disk,
    path: &Path,
    identity_path: &Path,
    cluster: ClusterId,
) -> Result<StorageId, StartError> {
    let parse = |reason: String| StartError::Parse { path: identity_path.to_owned(), reason };
    let text = files.read_to_string(identity_path).map_err(io_error("read", identity_path))?;
    let identity: Identity = toml::from_str(&text).map_err(|error| parse(error.message().to_owned()))?;
    if identity.version != VERSION {
        return Err(parse(format!("version {}, this release knows {VERSION}", identity.version)));
    }
    let found: ClusterId = identity.cluster.parse().map_err(|error| parse(format!("{error}")))?;
    if found != cluster {
        return Err(StartError::ForeignVolume { path: path.to_owned(), found, expected: cluster });
    }
    identity.storage.parse().map_err(|error| parse(format!("{error}")))
}

/// Makes what every block file lies in, durably, so that only the directories below are synced with a block.
fn make_directories(files: &dyn Disk, path: &Path) -> io::Result<()> {
    for name in ["blocks", "copies"] {
        files.create_directories(&path.join(name))?;
    }
    files.sync_directory(path)?;
    // A directory whose parent cannot be opened was there before.
    match path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .map(|parent| files.sync_directory(parent))
    {
        Some(Err(error)) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
        _ => Ok(()),
    }
}

/// A volume that turns read-only is better found at the start than at the first block.
fn check_writable(files: &dyn Disk, path: &Path) -> io::Result<()> {
    let probe = path.join("write-probe");
    drop(files.open(&probe, OpenOptions::WRITE.create(Create::Empty))?);
    files.remove(&probe)
}
