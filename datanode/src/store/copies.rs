//! Copies from other datanodes. Until its last packet a copy is a file beside the block files, in no journal, seen by no
//! reader and by no report; then it takes its place at once, and that of an older replica. A crash before leaves the
//! older replica as it was, and a file that the next start removes.

use std::io;
use std::sync::Arc;

use ringfs_disk::OpenOptions;
use ringfs_proto::ids::BlockId;
use ringfs_proto::meta::membership::{ReplicaChangeV1, ReplicaState};
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_proto::{Code, WireError};

use super::composite;
use super::deletion::ignore_missing;
use super::replica::Replica;
use super::seat::Seat;
use super::volume::Volume;
use super::{Created, NewReplica, Purpose, Store, created};
use crate::format::block::TailSlot;
use crate::format::journal::{Event, Record};

impl Store {
    /// Whether a copy may take the place of what is here: of nothing, of a corrupt replica, of one with a lower stamp; and
    /// of one with the same stamp that nobody can write to its end any more, for the copy has all that was acknowledged.
    /// HDFS: `FsDatasetImpl.createTemporary`.
    ///
    /// # Errors
    /// `ReplicaExists`.
    pub fn may_copy(&self, new: &NewReplica, purpose: Purpose) -> Result<(), WireError> {
        let Some(older) = self.find(new.block) else { return Ok(()) };
        let is_behind = match older.state() {
            ReplicaState::WaitingForRecovery => true,
            ReplicaState::BeingWritten => purpose == Purpose::CopyOpen,
            ReplicaState::Finalized | ReplicaState::Temporary => false,
        };
        let is_replaced =
            older.is_corrupt() || older.stamp() < new.stamp || (older.stamp() == new.stamp && is_behind);
        if is_replaced {
            return Ok(());
        }
        let message =
            format!("there is a replica of block {} with stamp {} already", new.block, older.stamp());
        Err(WireError::new(Code::ReplicaExists, message))
    }

    /// The unfinished copy of a block.
    pub fn find_copy(&self, block: BlockId) -> Option<Arc<Replica>> {
        self.copies.lock().get(&block).cloned()
    }

    /// Makes a temporary replica, and the seat of who writes it. Blocks.
    ///
    /// # Errors
    /// `ReplicaExists`: another copy is under way; `NoRoom`, `VolumeFailed`, `InvalidArgument`, `Io`.
    pub fn begin_copy(&self, new: &NewReplica, purpose: Purpose) -> Result<(Created, Seat), WireError> {
        let (index, promise) = self.promise_new(new)?;
        let disk = &self.disks[index];
        self.insert_copy(index, new).and_then(|(replica, seat)| {
            let path = disk.volume.copy_path(new.block);
            match self.make_file(disk, &path, new) {
                Ok(allocated) => {
                    let created = Created { purpose, ..created(replica, path, new, allocated, promise) };
                    self.has_taken(&created, created.allocated_bytes());
                    Ok((created, seat))
                }
                Err(error) => {
                    self.forget_copy(&replica);
                    Err(self.io_failed(index, "create a copy of", new.block, &error))
                }
            }
        })
    }

    fn insert_copy(&self, index: usize, new: &NewReplica) -> Result<(Arc<Replica>, Seat), WireError> {
        let mut copies = self.copies.lock();
        if copies.contains_key(&new.block) {
            let message = format!("block {} is being copied here already", new.block);
            return Err(WireError::new(Code::ReplicaExists, message));
        }
        let block = BlockRefV1 { block: new.block, stamp: new.stamp, length: 0 };
        let replica = Arc::new(Replica::new(block, index as u16, ReplicaState::Temporary, 0));
        let seat = Seat::first(&replica);
        copies.insert(new.block, replica.clone());
        Ok((replica, seat))
    }

    fn forget_copy(&self, replica: &Arc<Replica>) {
        replica.set_gone();
        let mut copies = self.copies.lock();
        if copies.get(&replica.block).is_some_and(|found| Arc::ptr_eq(found, replica)) {
            copies.remove(&replica.block);
        }
    }

    /// Puts a finished copy in place: on stable storage, in the journal, reported. `older` is the seat of the replica whose
    /// place it takes. Blocks.
    ///
    /// The older replica goes first, durably. A power cut in between leaves none of the two, not one under the name of the other;
    /// and the source still has its own.
    ///
    /// # Errors
    /// `ReplicaExists` when a replica has come meanwhile; `Io`: the volume has failed.
    pub fn finish_copy(
        &self,
        created: &Created,
        slot: &TailSlot,
        older: Option<&Seat>,
    ) -> Result<(), WireError> {
        let replica = &created.replica;
        let index = usize::from(replica.volume);
        let disk = &self.disks[index];
        let block = BlockRefV1 { block: replica.block, stamp: slot.stamp, length: slot.length };
        let new = NewReplica {
            block: block.block,
            stamp: block.stamp,
            storage: disk.volume.id,
            layout: created.layout,
            is_direct: created.is_direct,
            expected: 0,
        };
        self.may_copy(&new, created.purpose)?;
        let failed = |error: io::Error| self.io_failed(index, "finish a copy of", block.block, &error);
        let crc = self.write_copy(created, slot).map_err(failed)?;
        match (self.find(block.block), older) {
            (Some(found), Some(older)) if Arc::ptr_eq(&found, older.replica()) => {
                self.delete_all(&[found])?;
            }
            (None, _) => {}
            (Some(_), _) => {
                let message = format!("another replica of block {} came first", block.block);
                return Err(WireError::new(Code::ReplicaExists, message));
            }
        }
        self.place_copy(created, slot).map_err(failed)?;
        created.has_all();
        replica.set_tail(slot.tail());
        replica.set_state(match slot.is_finalized {
            true => ReplicaState::Finalized,
            false => ReplicaState::BeingWritten,
        });
        self.copies.lock().remove(&block.block);
        self.stripe(block.block).lock().insert(block.block, replica.clone());
        disk.volume.count_stored(slot.length);
        match crc {
            Some(crc) => self.report_finalized(replica, crc),
            None => self.report(disk.volume.id, ReplicaChangeV1::Stored(replica.report())),
        }
        Ok(())
    }

    /// All of a copy on stable storage: its bytes first, then the slot that says so. Returns the checksum of a complete one.
    fn write_copy(&self, created: &Created, slot: &TailSlot) -> io::Result<Option<u32>> {
        let file = self.machine.files().open(&created.path, OpenOptions::READ_WRITE)?;
        if slot.is_finalized {
            file.set_len(created.layout.data_offset() + slot.length)?;
        }
        file.sync_data()?;
        let slot = TailSlot { synced_length: slot.length, synced_crc: slot.tail_crc, ..*slot };
        file.write_all_at(
            &slot.encode(created.replica.block, self.storage_of(&created.replica)),
            slot.offset(),
        )?;
        file.sync_all()?;
        let crc = slot.is_finalized.then(|| composite::crc_of(&*file, &created.layout, slot.tail()));
        crc.transpose()
    }

    fn place_copy(&self, created: &Created, slot: &TailSlot) -> io::Result<()> {
        let (block, files) = (created.replica.block, self.machine.files());
        let disk = &self.disks[usize::from(created.replica.volume)];
        let path = disk.volume.block_path(block);
        if let Some(directory) = path.parent().filter(|directory| !files.exists(directory)) {
            files.create_directories(directory)?;
        }
        files.rename(&created.path, &path)?;
        self.sync_directories(&path)?;
        let (event, length) = match slot.is_finalized {
            true => (Event::Finalized, slot.length),
            false => (Event::BeingWritten, created.layout.limit),
        };
        let record = Record { event, block, stamp: slot.stamp, length };
        disk.journal.sync(disk.journal.append(&record)?)
    }

    /// Removes an unfinished copy. Blocks.
    pub fn discard_copy(&self, created: &Created) {
        let removed = self.machine.files().remove(&created.path).or_else(ignore_missing);
        if let Err(error) = removed {
            tracing::warn!(%error, path = %created.path.display(), "could not remove an unfinished copy: the next start does");
        }
        self.forget_copy(&created.replica);
    }
}

/// Removes what a crash has left of copies.
///
/// # Errors
/// What the operating system says.
pub(super) fn clear(volume: &Volume) -> io::Result<()> {
    let directory = volume.copies_path();
    let names = match volume.files().list(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        names => names?,
    };
    for name in names {
        volume.files().remove(&directory.join(&name))?;
        tracing::info!(path = %directory.join(name).display(), "an unfinished copy is removed");
    }
    Ok(())
}
