//! The replicas of this datanode: one file per block, on one or several volumes.
//!
//! Shards look a replica up once per request. What blocks (files made, finalized, deleted) is written as plain
//! functions here and run by the shards on helper threads.

mod changes;
pub mod compaction;
#[cfg(test)]
mod compaction_tests;
mod composite;
mod copies;
#[cfg(test)]
mod crash_tests;
mod deletion;
mod failure;
#[cfg(test)]
mod failure_tests;
mod fences;
pub mod journal;
pub mod recovery;
pub mod reopen;
pub mod replica;
pub mod room;
pub mod seat;
#[cfg(test)]
mod tests;
pub mod volume;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::{Condvar, Mutex};
use ringfs_disk::{Create, OpenOptions};
use ringfs_proto::ids::{BlockId, ClusterId, Stamp, StorageId};
use ringfs_proto::meta::membership::{
    FinalizedReplicaV1, ReplicaChangeV1, ReplicaState, ReplicaV1, VolumeStatusV1,
};
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_proto::{Code, WireError};

use crate::error::{StartError, io_error};
use crate::format::block::{Header, Layout, TailSlot};
use crate::format::journal::{Event, Record};
use crate::machine::Machine;
use changes::Changes;
use fences::Fences;
use journal::Journal;
use replica::Replica;
use room::Promise;
use seat::Seat;
use volume::Volume;
pub use volume::VolumeSettings;

const STRIPES: usize = 64;
/// The first allocation of a block file; each further one doubles, up to [`ALLOCATION_BYTES_MAX`].
pub const ALLOCATION_BYTES_MIN: u64 = 1 << 20;
/// The largest step in which a block file is allocated ahead.
pub const ALLOCATION_BYTES_MAX: u64 = 32 << 20;

/// What the last packet makes of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Its writer has closed the block: it is finalized.
    Write,
    /// It was temporary; now it is a finalized replica.
    Copy,
    /// It was temporary; now it is open, as if it had been in the block's pipeline from the start.
    CopyOpen,
}

/// A replica that is being written.
#[derive(Debug, Clone)]
pub struct Created {
    /// The replica.
    pub replica: Arc<Replica>,
    /// Its file.
    pub path: PathBuf,
    /// Where things are in it.
    pub layout: Layout,
    /// Whether its data is written around the page cache.
    pub is_direct: bool,
    /// Bytes of data that are allocated.
    pub allocated: u64,
    /// Number of its journal record.
    pub journaled: u64,
    /// Room that it may still take, until its writer is gone.
    pub promise: Option<Arc<Promise>>,
    /// Sequence of its newest slot.
    pub slot_sequence: u64,
    /// What its last packet makes of it.
    pub purpose: Purpose,
}

impl Created {
    /// Whether it is temporary until its last packet.
    pub fn is_copy(&self) -> bool {
        self.purpose != Purpose::Write
    }

    /// Bytes of data for which its file has room by now, whatever is written: none through the page cache.
    fn allocated_bytes(&self) -> u64 {
        if self.is_direct { self.allocated } else { 0 }
    }

    /// Bytes of data for which there is room, as far as that is promised.
    pub fn room_bytes(&self) -> u64 {
        let until = self.promise.as_ref().map_or(0, |promise| promise.until());
        until.saturating_sub(self.layout.data_offset())
    }

    /// Its file grows no more: nothing is promised to it any longer.
    fn has_all(&self) {
        if let Some(promise) = &self.promise {
            promise.taken(u64::MAX);
        }
    }

    /// Whether its last packet finalizes it.
    pub fn is_finalized_by_last(&self) -> bool {
        self.purpose != Purpose::CopyOpen
    }
}

/// What a new replica shall be.
#[derive(Debug, Clone, Copy)]
pub struct NewReplica {
    /// The block.
    pub block: BlockId,
    /// Its stamp.
    pub stamp: Stamp,
    /// The volume that the namenode chose.
    pub storage: StorageId,
    /// Where things are.
    pub layout: Layout,
    /// Whether data is written around the page cache.
    pub is_direct: bool,
    /// Bytes that will come at most.
    pub expected: u64,
}

#[derive(Debug)]
struct Mounted {
    volume: Volume,
    journal: Journal,
}

/// All replicas.
#[derive(Debug)]
pub struct Store {
    cluster: ClusterId,
    machine: Arc<dyn Machine>,
    disks: Vec<Mounted>,
    /// Volumes that could not be opened.
    unusable_at_start: usize,
    /// Failed volumes whose replicas were forgotten.
    retired: AtomicUsize,
    replicas: Vec<Mutex<HashMap<BlockId, Arc<Replica>>>>,
    copies: Mutex<HashMap<BlockId, Arc<Replica>>>,
    /// Blocks that recoveries asked for in vain.
    fences: Fences,
    changes: Mutex<Changes>,
    changed: Condvar,
}

impl Store {
    /// Opens the volumes and finds what they hold.
    ///
    /// # Errors
    /// [`StartError`]: the message says what to do.
    pub fn open(
        machine: Arc<dyn Machine>,
        volumes: &[VolumeSettings],
        cluster: ClusterId,
    ) -> Result<Self, StartError> {
        let mut store = Self {
            cluster,
            machine,
            disks: Vec::new(),
            unusable_at_start: 0,
            retired: AtomicUsize::new(0),
            replicas: (0..STRIPES).map(|_| Mutex::default()).collect(),
            copies: Mutex::default(),
            fences: Fences::default(),
            changes: Mutex::default(),
            changed: Condvar::new(),
        };
        let mut first_failure = None;
        for settings in volumes {
            match store.add_volume(settings) {
                Ok(()) => {}
                Err(error @ (StartError::ReadOnly { .. } | StartError::Io { .. })) => {
                    tracing::error!(path = %settings.path.display(), %error, "volume cannot be used: it counts as failed");
                    store.unusable_at_start += 1;
                    first_failure.get_or_insert(error);
                }
                // Whoever named this directory has to look: going on without it might be what nobody wants.
                Err(error) => return Err(error),
            }
        }
        match first_failure {
            Some(error) if store.disks.is_empty() => Err(error),
            _ => Ok(store),
        }
    }

    fn add_volume(&mut self, settings: &VolumeSettings) -> Result<(), StartError> {
        let VolumeSettings { path, reserved_bytes, journal_compact_records } = settings;
        let volume = Volume::open(&self.machine, path, self.cluster, *reserved_bytes)?;
        copies::clear(&volume).map_err(io_error("remove unfinished copies in", path))?;
        let loading = recovery::load(&volume).map_err(io_error("read the replicas of", path))?;
        let found = loading.found;
        let index = self.disks.len() as u16;
        for found in &found {
            let replica = Replica::new(found.block, index, found.state, found.tail_crc);
            if found.is_corrupt {
                replica.set_corrupt();
            }
            volume.count_stored(found.block.length);
            self.stripe(found.block.block).lock().insert(found.block.block, Arc::new(replica));
        }
        let (files, records) = (self.machine.files(), found.iter().map(recovery::Found::record));
        let journal = match Journal::rewrite(files, path, volume.id, records, *journal_compact_records) {
            Err(error) if is_full(&error) && loading.journaled.is_some() => {
                tracing::warn!(path = %path.display(), %error, "no room to write the journal anew: going on with the old one");
                let records = loading.journaled.unwrap_or_default();
                Journal::resume(files, path, volume.id, records, *journal_compact_records)
            }
            journal => journal,
        };
        let journal = journal.map_err(io_error("write the journal of", path))?;
        tracing::info!(path = %path.display(), storage = %volume.id, replicas = found.len(), "volume opened");
        self.disks.push(Mounted { volume, journal });
        Ok(())
    }

    /// The machine that it is on.
    pub fn machine(&self) -> &dyn Machine {
        &*self.machine
    }

    /// The replica of a block.
    pub fn find(&self, block: BlockId) -> Option<Arc<Replica>> {
        self.stripe(block).lock().get(&block).cloned()
    }

    /// The file of a replica.
    pub fn path_of(&self, replica: &Replica) -> PathBuf {
        self.disks[usize::from(replica.volume)].volume.block_path(replica.block)
    }

    /// Makes a replica: its file with header, its room, its journal record; and the seat of who writes it. Blocks.
    ///
    /// # Errors
    /// `ReplicaExists`, `NoRoom`, `VolumeFailed`, `InvalidArgument` for a volume of another, `Io`; `StampMismatch` for a
    /// writer that is late: see `store/fences.rs`.
    pub fn create(&self, new: &NewReplica) -> Result<(Created, Seat), WireError> {
        let (index, promise) = self.promise_new(new)?;
        let disk = &self.disks[index];
        let failed = |error: io::Error| self.io_failed(index, "create replica of", new.block, &error);
        let make = |replica: Arc<Replica>| -> io::Result<Created> {
            let BlockRefV1 { block, stamp, .. } = replica.block_ref();
            let record = Record { event: Event::BeingWritten, block, stamp, length: new.layout.limit };
            let journaled = disk.journal.append(&record)?;
            let path = disk.volume.block_path(block);
            let allocated = self.make_file(disk, &path, new)?;
            Ok(Created { journaled, ..created(replica, path, new, allocated, promise) })
        };
        let created = self.insert(index, new).and_then(|(replica, seat)| {
            let made = make(replica).map(|created| (created, seat)).map_err(failed);
            made.inspect_err(|_| self.forget(new.block))
        });
        if let Ok((created, _)) = &created {
            disk.volume.count_stored(0);
            self.has_taken(created, created.allocated_bytes());
            self.report(disk.volume.id, ReplicaChangeV1::Stored(created.replica.report()));
        }
        created
    }

    /// Promises room to a new replica. Returns the index of its volume.
    fn promise_new(&self, new: &NewReplica) -> Result<(usize, Arc<Promise>), WireError> {
        let index = self.disks.iter().position(|disk| disk.volume.id == new.storage);
        let unknown = || {
            WireError::new(Code::InvalidArgument, format!("storage {} is not of this datanode", new.storage))
        };
        let index = index.ok_or_else(unknown)?;
        let promise = self.promise(index, new.block, 0, new.layout.data_offset() + new.expected)?;
        Ok((index, promise))
    }

    /// What is on a failed volume is acknowledged no more, whatever its file system says.
    fn check_in_use(&self, index: usize) -> Result<(), WireError> {
        let volume = &self.disks[index].volume;
        if volume.has_failed() {
            return Err(WireError::new(Code::VolumeFailed, format!("volume {} has failed", volume.id)));
        }
        Ok(())
    }

    fn insert(&self, index: usize, new: &NewReplica) -> Result<(Arc<Replica>, Seat), WireError> {
        let mut stripe = self.stripe(new.block).lock();
        if stripe.contains_key(&new.block) {
            return Err(WireError::new(
                Code::ReplicaExists,
                format!("there is a replica of block {} already", new.block),
            ));
        }
        let floor = self.fences.floor_of(new.block);
        if new.stamp < floor {
            let message =
                format!("new replicas of block {} have stamps from {floor} on, not {}", new.block, new.stamp);
            return Err(WireError::new(Code::StampMismatch, message));
        }
        let block = BlockRefV1 { block: new.block, stamp: new.stamp, length: 0 };
        let replica = Arc::new(Replica::new(block, index as u16, ReplicaState::BeingWritten, 0));
        let seat = Seat::first(&replica);
        stripe.insert(new.block, replica.clone());
        Ok((replica, seat))
    }

    /// Finds a replica for a recovery. If there is none, none of an older stamp is made from now on.
    pub fn find_or_fence(&self, block: BlockId, recovery_stamp: Stamp) -> Option<Arc<Replica>> {
        let stripe = self.stripe(block).lock();
        let replica = stripe.get(&block).filter(|replica| !replica.is_gone()).cloned();
        if replica.is_none() {
            self.fences.add(block, recovery_stamp);
        }
        replica
    }

    /// The namenode has given out stamps up to `last` before this process joined it.
    pub fn joined(&self, last: Stamp) {
        self.fences.begin(last);
    }

    /// A replica could not be made.
    fn forget(&self, block: BlockId) {
        if let Some(replica) = self.stripe(block).lock().remove(&block) {
            replica.set_gone();
        }
    }

    /// Makes the file of a replica. Returns how many bytes of data are allocated.
    fn make_file(&self, disk: &Mounted, path: &Path, new: &NewReplica) -> io::Result<u64> {
        let files = self.machine.files();
        if let Some(directory) = path.parent().filter(|directory| !files.exists(directory)) {
            files.create_directories(directory)?;
        }
        // What a crash left of an older replica of this block was in no journal: it is not worth keeping.
        let file = files.open(path, OpenOptions::WRITE.create(Create::Empty))?;
        let header = Header {
            cluster: self.cluster,
            storage: disk.volume.id,
            block: new.block,
            stamp: new.stamp,
            layout: new.layout,
            is_direct: new.is_direct,
        };
        file.write_all_at(&header.encode(), 0)?;
        let allocated = new.expected.min(ALLOCATION_BYTES_MIN);
        if new.is_direct {
            file.allocate(new.layout.data_offset() + allocated, false)?;
        }
        Ok(allocated)
    }

    /// Completes a replica: trimmed, on stable storage, in the journal, reported. Blocks.
    ///
    /// # Errors
    /// `Io`: the volume has failed.
    pub fn finalize(&self, created: &Created, slot: &TailSlot) -> Result<(), WireError> {
        let replica = &created.replica;
        let index = usize::from(replica.volume);
        self.check_in_use(index)?;
        let disk = &self.disks[index];
        let finalize = || -> io::Result<u32> {
            let file = self.machine.files().open(&created.path, OpenOptions::READ_WRITE)?;
            file.write_all_at(&slot.encode(replica.block, disk.volume.id), slot.offset())?;
            file.set_len(created.layout.data_offset() + slot.length)?;
            file.sync_all()?;
            self.sync_directories(&created.path)?;
            let record = Record {
                event: Event::Finalized,
                block: replica.block,
                stamp: slot.stamp,
                length: slot.length,
            };
            disk.journal.sync(disk.journal.append(&record)?)?;
            composite::crc_of(&*file, &created.layout, slot.tail())
        };
        let crc = finalize()
            .map_err(|error| self.io_failed(index, "finalize replica of", replica.block, &error))?;
        let before = replica.raise_tail(slot.tail());
        disk.volume.count_resized(before, slot.length);
        created.has_all();
        replica.set_state(ReplicaState::Finalized);
        self.report_finalized(replica, crc);
        Ok(())
    }

    fn report_finalized(&self, replica: &Replica, crc: u32) {
        let finalized = FinalizedReplicaV1 { block: replica.block_ref(), crc };
        self.report(self.storage_of(replica), ReplicaChangeV1::Finalized(finalized));
    }

    /// Makes what was written so far, the file's name and its journal record durable. Blocks.
    ///
    /// # Errors
    /// `Io`: the volume has failed.
    pub fn sync(&self, created: &Created, slot: &TailSlot) -> Result<(), WireError> {
        let index = usize::from(created.replica.volume);
        self.check_in_use(index)?;
        let disk = &self.disks[index];
        let sync = || -> io::Result<()> {
            let file = self.machine.files().open(&created.path, OpenOptions::WRITE)?;
            file.sync_data()?;
            file.write_all_at(&slot.encode(created.replica.block, disk.volume.id), slot.offset())?;
            file.sync_data()?;
            self.sync_directories(&created.path)?;
            disk.journal.sync(created.journaled)
        };
        sync().map_err(|error| self.io_failed(index, "sync replica of", created.replica.block, &error))
    }

    /// A replica grew: readers may see this much.
    pub fn grow(&self, replica: &Replica, tail: replica::Tail) {
        let before = replica.raise_tail(tail);
        if tail.length > before && !replica.is_gone() {
            self.disks[usize::from(replica.volume)].volume.count_resized(before, tail.length);
        }
    }

    /// A reader found bytes that do not match: the replica is served no more, and the namenode is told.
    pub fn mark_corrupt(&self, replica: &Replica) {
        if replica.is_corrupt() {
            return;
        }
        replica.set_corrupt();
        let disk = &self.disks[usize::from(replica.volume)];
        disk.volume.count_bad();
        let BlockRefV1 { block, stamp, length } = replica.block_ref();
        match disk.journal.append(&Record { event: Event::Corrupt, block, stamp, length }) {
            // A start finds it good and the next reader bad again.
            Err(error) if is_full(&error) => {
                tracing::warn!(%block, %error, "a full disk cannot be told of a bad replica");
            }
            Err(error) => disk.volume.fail(&error),
            Ok(_) => {}
        }
        tracing::error!(%block, storage = %disk.volume.id, "replica is corrupt");
        self.report_corrupt(replica);
    }

    /// Tells the namenode that a replica is corrupt.
    pub fn report_corrupt(&self, replica: &Replica) {
        self.report(self.storage_of(replica), ReplicaChangeV1::Corrupt(replica.block_ref()));
    }

    /// The storage that has a replica of a block, else the one with the most room.
    pub fn roomiest(&self, block: BlockId) -> StorageId {
        if let Some(replica) = self.find(block) {
            return self.storage_of(&replica);
        }
        let usable = self.volumes().into_iter().filter(|volume| !volume.is_failed);
        usable.max_by_key(|volume| volume.remaining_bytes).map(|volume| volume.storage).unwrap_or_default()
    }

    /// The volumes as they are.
    pub fn volumes(&self) -> Vec<VolumeStatusV1> {
        self.disks.iter().map(|disk| disk.volume.status()).collect()
    }

    /// Whether any volume is in use.
    pub fn has_volumes(&self) -> bool {
        self.disks.iter().any(|disk| !disk.volume.has_failed())
    }

    /// Whether a volume has failed since the start.
    pub fn has_failed_volumes(&self) -> bool {
        self.disks.iter().any(|disk| disk.volume.has_failed())
    }

    /// Every replica of a storage, by block, and with it the changes of corrupt ones. Changes that waited to be
    /// reported are in it, and wait no more, but for answers to a recovery: a report has no place for them.
    pub fn snapshot(&self, storage: StorageId) -> (Vec<ReplicaV1>, Vec<ReplicaChangeV1>) {
        let is_kept = |of: StorageId, change: &ReplicaChangeV1| {
            of != storage || matches!(change, ReplicaChangeV1::Fenced(_))
        };
        self.changes.lock().waiting.retain(|(of, change)| is_kept(*of, change));
        let Some(index) = self.disks.iter().position(|disk| disk.volume.id == storage) else {
            return Default::default();
        };
        let expected = usize::try_from(self.disks[index].volume.replica_count()).unwrap_or_default();
        let (mut replicas, mut corrupt) = (Vec::with_capacity(expected), Vec::new());
        for stripe in &self.replicas {
            for replica in stripe.lock().values().filter(|replica| usize::from(replica.volume) == index) {
                if replica.is_corrupt() {
                    corrupt.push(replica.block_ref());
                } else {
                    replicas.push(replica.report());
                }
            }
        }
        replicas.sort_by_key(|replica| replica.block.block);
        corrupt.sort_by_key(|replica: &BlockRefV1| replica.block);
        let corrupt = corrupt.into_iter().map(ReplicaChangeV1::Corrupt).collect();
        (replicas, corrupt)
    }

    /// Makes the name of a block file durable, and those of the directories that may be new with it.
    fn sync_directories(&self, path: &Path) -> io::Result<()> {
        path.ancestors()
            .skip(1)
            .take(3)
            .try_for_each(|directory| self.machine.files().sync_directory(directory))
    }

    fn stripe(&self, block: BlockId) -> &Mutex<HashMap<BlockId, Arc<Replica>>> {
        &self.replicas[block.0 as usize % STRIPES]
    }

    /// A full disk is the writer's trouble; any other error is the volume's.
    fn io_failed(&self, index: usize, action: &str, block: BlockId, error: &io::Error) -> WireError {
        let code = if is_full(error) {
            Code::NoRoom
        } else if error.kind() == io::ErrorKind::NotFound {
            // The file was deleted while it was written: its file in the namespace was.
            Code::BlockMissing
        } else {
            self.disks[index].volume.fail(error);
            Code::Io
        };
        WireError::new(code, format!("{action} block {block}: {error}"))
    }

    /// A read of a replica failed: it is served no more.
    pub fn read_failed(&self, replica: &Replica, error: &io::Error) -> WireError {
        let message = format!("read replica of block {}: {error}", replica.block);
        if error.kind() == io::ErrorKind::NotFound && replica.is_gone() {
            return WireError::new(Code::BlockMissing, message);
        }
        self.mark_corrupt(replica);
        self.disks[usize::from(replica.volume)].volume.suspect();
        WireError::new(Code::Io, message)
    }

    /// A write of a replica's data failed.
    pub fn write_failed(&self, replica: &Replica, error: &io::Error) -> WireError {
        self.io_failed(usize::from(replica.volume), "write replica of", replica.block, error)
    }

    /// The id of the volume of a replica.
    pub fn storage_of(&self, replica: &Replica) -> StorageId {
        self.disks[usize::from(replica.volume)].volume.id
    }
}

/// Whether a disk has no room: by the kind, since an engine may wrap an error and lose its number. One that writes less
/// than it was given and is told no reason has met the end of the disk.
fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero
    )
}

fn created(
    replica: Arc<Replica>,
    path: PathBuf,
    new: &NewReplica,
    allocated: u64,
    promise: Arc<Promise>,
) -> Created {
    Created {
        replica,
        path,
        layout: new.layout,
        is_direct: new.is_direct,
        allocated,
        journaled: 0,
        promise: Some(promise),
        slot_sequence: 0,
        purpose: Purpose::Write,
    }
}
