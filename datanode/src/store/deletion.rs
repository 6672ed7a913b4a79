//! Deleting replicas: first on stable storage in the journal, many with one sync, then the files.
//!
//! The other way round a crash would leave replicas that the next start finds in the journal and reports, without a file.
//! What a crash leaves this way round are files that the journal calls deleted; the next start removes them.

use std::io;
use std::sync::Arc;

use ringfs_proto::WireError;
use ringfs_proto::ids::{BlockId, Stamp};
use ringfs_proto::meta::membership::ReplicaChangeV1;
use ringfs_proto::meta::namespace::BlockRefV1;

use super::Store;
use super::replica::Replica;
use crate::format::journal::{Event, Record};

impl Store {
    /// Deletes a replica, if its stamp is not newer than `stamp`. Readers that have its file open go on. Who may still write
    /// it was fenced before. Blocks.
    ///
    /// # Errors
    /// `Io`.
    pub fn delete(&self, block: BlockId, stamp: Stamp) -> Result<(), WireError> {
        match self.find(block).filter(|replica| replica.stamp() <= stamp) {
            Some(replica) => self.delete_all(&[replica]),
            None => Ok(()),
        }
    }

    /// Deletes replicas as [`Store::delete`] does, whatever their stamps are. Blocks.
    ///
    /// # Errors
    /// `Io`: the first failure; the others are deleted all the same.
    pub fn delete_all(&self, replicas: &[Arc<Replica>]) -> Result<(), WireError> {
        let mut deleted = Ok(());
        for index in 0..self.disks.len() {
            let of_volume = replicas.iter().filter(|replica| usize::from(replica.volume) == index);
            let of_volume: Vec<&Arc<Replica>> = of_volume.filter(|replica| !replica.is_gone()).collect();
            if of_volume.is_empty() {
                continue;
            }
            deleted = deleted.and(self.delete_of_volume(index, &of_volume));
        }
        deleted
    }

    fn delete_of_volume(&self, index: usize, replicas: &[&Arc<Replica>]) -> Result<(), WireError> {
        let disk = &self.disks[index];
        let record = || -> io::Result<()> {
            for replica in replicas {
                let (block, stamp) = (replica.block, replica.stamp());
                disk.journal.append(&Record { event: Event::Deleted, block, stamp, length: 0 })?;
            }
            disk.journal.sync_all()
        };
        let first = replicas[0].block;
        record().map_err(|error| self.io_failed(index, "record the deletion of", first, &error))?;
        let mut deleted = Ok(());
        for replica in replicas {
            replica.set_gone();
            let BlockRefV1 { block, length, .. } = replica.block_ref();
            let removed = self.machine.files().remove(&disk.volume.block_path(block));
            if let Err(error) = removed.or_else(ignore_missing) {
                deleted = deleted.and(Err(self.io_failed(index, "delete replica of", block, &error)));
            }
            let mut stripe = self.stripe(block).lock();
            if stripe.get(&block).is_some_and(|found| Arc::ptr_eq(found, replica)) {
                stripe.remove(&block);
            }
            drop(stripe);
            disk.volume.count_deleted(length);
            self.report(disk.volume.id, ReplicaChangeV1::Deleted(replica.block_ref()));
        }
        deleted
    }
}

/// What is to be removed may be gone already.
pub(super) fn ignore_missing(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
