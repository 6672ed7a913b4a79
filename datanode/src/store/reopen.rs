//! Replicas that are written again, or given their end, after their writer has gone. The caller holds the seat of the
//! replica in all of this.
//!
//! Every step leaves a file that a start can read: a new slot counts only once it is whole, and says no more than what is
//! below it.

use std::io;
use std::sync::Arc;

use ringfs_disk::{DiskFile, OpenOptions};
use ringfs_proto::ids::{BlockId, Stamp, StorageId};
use ringfs_proto::meta::membership::{FencedReplicaV1, ReplicaChangeV1, ReplicaState};
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_proto::{Code, WireError};

use super::composite;
use super::recovery::stored_tail;
use super::replica::{Replica, Tail};
use super::{Created, Purpose, Store};
use crate::format::block::{HEAD_BYTES, Header, TailSlot};
use crate::format::journal::{Event, Record};

/// A replica as its file says.
#[derive(Debug, Clone)]
pub struct Examined {
    /// The replica.
    pub created: Created,
    /// Its state.
    pub state: ReplicaState,
    /// Bytes of it that are written, acknowledged or not, and the checksum of the partial last chunk.
    pub written: Tail,
    /// How much of it is on stable storage.
    pub synced: Tail,
}

impl Store {
    /// Looks how far a replica is written. Blocks.
    ///
    /// # Errors
    /// `BlockCorrupt`, `VolumeFailed`, `BlockMissing`, `Io`.
    pub fn examine(&self, replica: &Arc<Replica>) -> Result<Examined, WireError> {
        let index = usize::from(replica.volume);
        let volume = &self.disks[index].volume;
        if volume.has_failed() {
            return Err(WireError::new(Code::VolumeFailed, format!("volume {} has failed", volume.id)));
        }
        if replica.is_corrupt() {
            return Err(corrupt(replica.block, "it was found before"));
        }
        let path = volume.block_path(replica.block);
        let read = || -> io::Result<(Arc<dyn DiskFile>, Vec<u8>, u64)> {
            let file = self.machine.files().open(&path, OpenOptions::READ)?;
            let mut head = vec![0; HEAD_BYTES];
            let filled = file.read_full_at(&mut head, 0)?;
            head.truncate(filled);
            let len = file.len()?;
            Ok((file, head, len))
        };
        let (file, head, len) = read().map_err(|error| self.read_failed(replica, &error))?;
        let header = Header::decode(&head).map_err(|error| {
            self.mark_corrupt(replica);
            corrupt(replica.block, &error.to_string())
        })?;
        let slot = TailSlot::newest(&head, replica.block, volume.id);
        let state = replica.state();
        let (written, synced) = match state {
            ReplicaState::Finalized => {
                let length = replica.tail().length;
                let crc = stored_tail(&*file, &header.layout, length);
                let crc = crc.map_err(|error| self.read_failed(replica, &error))?;
                (Tail { length, crc }, Tail { length, crc })
            }
            // A start has cut it to what verifies, which may be less than its slot says.
            ReplicaState::WaitingForRecovery => {
                let tail = replica.tail();
                (tail, slot.map_or_else(Tail::default, |slot| slot.synced()))
            }
            ReplicaState::BeingWritten | ReplicaState::Temporary => {
                slot.map_or_else(Default::default, |slot| (slot.tail(), slot.synced()))
            }
        };
        if written.length < replica.tail().length {
            self.mark_corrupt(replica);
            return Err(corrupt(replica.block, "its slots say less than was acknowledged"));
        }
        let created = Created {
            replica: replica.clone(),
            path,
            layout: header.layout,
            is_direct: header.is_direct,
            allocated: len.saturating_sub(header.layout.data_offset()),
            journaled: 0,
            promise: None,
            slot_sequence: slot.map_or(0, |slot| slot.sequence),
            purpose: Purpose::Write,
        };
        Ok(Examined { created, state, written, synced })
    }

    /// Opens a replica under a new stamp, durably, whatever its state was: its length stays. `expected` bytes more will
    /// come at most. Blocks.
    ///
    /// # Errors
    /// `NoRoom`; `Io`: the volume has failed.
    pub fn open_again(&self, examined: &Examined, stamp: Stamp, expected: u64) -> Result<Created, WireError> {
        let replica = &examined.created.replica;
        let index = usize::from(replica.volume);
        let disk = &self.disks[index];
        let Created { layout, allocated, .. } = examined.created;
        let until = layout.data_offset() + examined.written.length.saturating_add(expected).max(allocated);
        let promise = self.promise(index, replica.block, layout.data_offset() + allocated, until)?;
        let slot = TailSlot {
            sequence: examined.created.slot_sequence + 1,
            stamp,
            length: examined.written.length,
            synced_length: examined.synced.length,
            tail_crc: examined.written.crc,
            synced_crc: examined.synced.crc,
            is_finalized: false,
        };
        let open = || -> io::Result<u64> {
            let file = self.machine.files().open(&examined.created.path, OpenOptions::WRITE)?;
            file.write_all_at(&slot.encode(replica.block, disk.volume.id), slot.offset())?;
            file.sync_data()?;
            let length = examined.created.layout.limit;
            let record = Record { event: Event::BeingWritten, block: replica.block, stamp, length };
            let journaled = disk.journal.append(&record)?;
            disk.journal.sync(journaled)?;
            Ok(journaled)
        };
        let journaled = open()
            .map_err(|error| self.io_failed(index, "open again the replica of", replica.block, &error))?;
        if examined.state == ReplicaState::Finalized {
            // The checksum of its partial chunk was that in the file until now.
            replica.set_tail(examined.written);
        }
        replica.set_stamp(stamp);
        replica.set_state(ReplicaState::BeingWritten);
        self.report(disk.volume.id, ReplicaChangeV1::Stored(replica.report()));
        let slot_sequence = slot.sequence;
        Ok(Created { journaled, promise: Some(promise), slot_sequence, ..examined.created.clone() })
    }

    /// Gives a replica the end that a block recovery has chosen, at most what is written, and its stamp: finalized, on
    /// stable storage, in the journal, reported. The file keeps its size where readers have seen more. Blocks.
    ///
    /// # Errors
    /// `Io`: the volume has failed.
    pub fn finish_recovery(&self, examined: &Examined, stamp: Stamp, tail: Tail) -> Result<(), WireError> {
        let Examined { created, .. } = examined;
        let replica = &created.replica;
        let index = usize::from(replica.volume);
        let disk = &self.disks[index];
        let failed =
            |error: io::Error| self.io_failed(index, "finish the recovery of", replica.block, &error);
        let crc = self.write_end(examined, stamp, tail).map_err(failed)?;
        let finish = || -> io::Result<()> {
            self.sync_directories(&created.path)?;
            let event = Event::Finalized;
            let record = Record { event, block: replica.block, stamp, length: tail.length };
            disk.journal.sync(disk.journal.append(&record)?)
        };
        finish().map_err(failed)?;
        let before = replica.set_tail(tail);
        disk.volume.count_resized(before, tail.length);
        replica.set_stamp(stamp);
        replica.set_state(ReplicaState::Finalized);
        self.report_finalized(replica, crc);
        Ok(())
    }

    /// The slot with the new end comes first, for an open replica: it carries the checksum of the partial chunk, so that a
    /// start finds all of `tail` whatever becomes of the checksum in the file. Only when that is in place, too, the replica
    /// is finalized. Returns its checksum.
    fn write_end(&self, examined: &Examined, stamp: Stamp, tail: Tail) -> io::Result<u32> {
        let Created { replica, layout, path, slot_sequence, .. } = &examined.created;
        let storage = self.storage_of(replica);
        let file = self.machine.files().open(path, OpenOptions::READ_WRITE)?;
        file.sync_data()?;
        let open = TailSlot {
            sequence: slot_sequence + 1,
            stamp,
            length: tail.length,
            synced_length: tail.length,
            tail_crc: tail.crc,
            synced_crc: tail.crc,
            is_finalized: false,
        };
        file.write_all_at(&open.encode(replica.block, storage), open.offset())?;
        file.sync_data()?;
        let chunk_bytes = u64::from(layout.chunk_bytes);
        if !tail.length.is_multiple_of(chunk_bytes) {
            file.write_all_at(&tail.crc.to_be_bytes(), layout.checksum_offset(tail.length / chunk_bytes))?;
        }
        let visible = replica.tail().length.max(tail.length);
        file.set_len(layout.data_offset() + visible)?;
        file.sync_data()?;
        let finalized = TailSlot { sequence: open.sequence + 1, is_finalized: true, ..open };
        file.write_all_at(&finalized.encode(replica.block, storage), finalized.offset())?;
        file.sync_all()?;
        composite::crc_of(&*file, layout, tail)
    }

    /// Tells the namenode how far a replica is that was fenced for a block recovery.
    pub fn report_fenced(&self, examined: &Examined, recovery_stamp: Stamp) {
        let replica = &examined.created.replica;
        let length = examined.written.length;
        self.report(
            self.storage_of(replica),
            ReplicaChangeV1::Fenced(FencedReplicaV1 {
                block: BlockRefV1 { block: replica.block, stamp: replica.stamp(), length },
                state: examined.state,
                synced_length: examined.synced.length,
                recovery_stamp,
            }),
        );
    }

    /// Tells the namenode again how a replica is.
    pub fn report_again(&self, replica: &Replica) {
        self.report(self.storage_of(replica), ReplicaChangeV1::Stored(replica.report()));
    }

    /// Tells the namenode that there is no replica of a block on a storage.
    pub fn report_missing(&self, storage: StorageId, block: BlockId, stamp: Stamp) {
        self.report(storage, ReplicaChangeV1::Deleted(BlockRefV1 { block, stamp, length: 0 }));
    }
}

fn corrupt(block: BlockId, reason: &str) -> WireError {
    WireError::new(Code::BlockCorrupt, format!("replica of block {block} is corrupt: {reason}"))
}
