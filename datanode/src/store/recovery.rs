//! What a volume holds after a start: from its journal, else from its block files; open replicas are cut to what
//! can be verified.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::Path;

use ringfs_disk::{DiskFile, OpenOptions};
use ringfs_proto::checksum::CHECKSUM_BYTES;
use ringfs_proto::ids::BlockId;
use ringfs_proto::meta::membership::ReplicaState;
use ringfs_proto::meta::namespace::BlockRefV1;

use super::deletion::ignore_missing;
use super::journal::{self, Loaded};
use super::replica::Tail;
use super::volume::Volume;
use crate::format::block::{HEAD_BYTES, Header, Layout, TailSlot};
use crate::format::journal::{Event, Record};

/// Deletions whose files a start looks for: more than are deleted in the time in which a file system makes names durable by
/// itself.
pub(super) const DELETED_LOOKED_AT_MAX: usize = 65_536;

/// A replica that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Block, stamp, length.
    pub block: BlockRefV1,
    /// Finalized, or waiting for recovery.
    pub state: ReplicaState,
    /// Checksum of the partial last chunk of an open replica.
    pub tail_crc: u32,
    /// Whether bytes that were on stable storage do not verify.
    pub is_corrupt: bool,
}

/// What a start finds on a volume.
#[derive(Debug)]
pub struct Loading {
    /// Everything on it.
    pub found: Vec<Found>,
    /// How many records its journal has that can go on being used.
    pub journaled: Option<u64>,
}

/// Everything on a volume.
///
/// # Errors
/// What the operating system says.
pub fn load(volume: &Volume) -> io::Result<Loading> {
    let mut replay = Replay::default();
    let loaded = journal::load(volume.files(), volume.path(), volume.id, |record| replay.take(record))?;
    let (records, journaled) = match loaded {
        Loaded::Records(count) => {
            remove_deleted(volume, &replay)?;
            (replay.live, Some(count))
        }
        Loaded::Unusable(offset) => {
            let records = scan_files(volume)?;
            if !records.is_empty() {
                tracing::warn!(path = %volume.path().display(), ?offset, "journal is missing or damaged: rebuilding it from the block files");
            }
            (records, None)
        }
    };
    let mut found = Vec::with_capacity(records.len());
    for record in records.into_values() {
        let block = BlockRefV1 { block: record.block, stamp: record.stamp, length: record.length };
        match record.event {
            Event::Finalized | Event::Corrupt => {
                let is_corrupt = record.event == Event::Corrupt;
                found.push(Found { block, state: ReplicaState::Finalized, tail_crc: 0, is_corrupt });
            }
            Event::BeingWritten => found.extend(reopen(volume, record.block)?),
            Event::Deleted => {}
        }
    }
    Ok(Loading { found, journaled })
}

impl Found {
    /// The journal record that says the same.
    pub fn record(&self) -> Record {
        let event = match self.state {
            _ if self.is_corrupt => Event::Corrupt,
            ReplicaState::Finalized => Event::Finalized,
            _ => Event::BeingWritten,
        };
        let BlockRefV1 { block, stamp, length } = self.block;
        Record { event, block, stamp, length }
    }
}

/// What a journal comes to.
#[derive(Debug, Default)]
pub(super) struct Replay {
    /// The last record of each block that is not deleted.
    pub live: BTreeMap<BlockId, Record>,
    /// The blocks that were deleted last, at most [`DELETED_LOOKED_AT_MAX`], also if they were made again.
    pub deleted: VecDeque<BlockId>,
}

impl Replay {
    /// Takes the next record.
    pub fn take(&mut self, record: Record) {
        if record.event != Event::Deleted {
            self.live.insert(record.block, record);
            return;
        }
        self.live.remove(&record.block);
        if self.deleted.len() == DELETED_LOOKED_AT_MAX {
            self.deleted.pop_front();
        }
        self.deleted.push_back(record.block);
    }
}

/// Removes the files of the replicas that were deleted last: a crash may have come in between.
fn remove_deleted(volume: &Volume, replay: &Replay) -> io::Result<()> {
    for block in replay.deleted.iter().filter(|block| !replay.live.contains_key(block)) {
        volume.files().remove(&volume.block_path(*block)).or_else(ignore_missing)?;
    }
    Ok(())
}

/// Reads the header and slots of every block file.
fn scan_files(volume: &Volume) -> io::Result<BTreeMap<BlockId, Record>> {
    let mut records = BTreeMap::new();
    let root = volume.path().join("blocks");
    if !volume.files().exists(&root) {
        return Ok(records);
    }
    let files = volume.files();
    for high in files.list(&root)? {
        let high = root.join(high);
        for low in files.list(&high)? {
            let low = high.join(low);
            for file in files.list(&low)? {
                let path = low.join(file);
                match read_head(&path, volume) {
                    Ok((header, slot)) => {
                        records.insert(header.block, record_of(&header, slot));
                    }
                    Err(reason) => {
                        tracing::warn!(path = %path.display(), reason, "not a block file: left alone");
                    }
                }
            }
        }
    }
    Ok(records)
}

fn record_of(header: &Header, slot: Option<TailSlot>) -> Record {
    match slot {
        Some(slot) if slot.is_finalized => {
            Record { event: Event::Finalized, block: header.block, stamp: slot.stamp, length: slot.length }
        }
        _ => Record { event: Event::BeingWritten, block: header.block, stamp: header.stamp, length: 0 },
    }
}

fn read_head(path: &Path, volume: &Volume) -> Result<(Header, Option<TailSlot>), String> {
    let mut head = vec![0; HEAD_BYTES];
    let file = volume.files().open(path, OpenOptions::READ).map_err(|error| error.to_string())?;
    file.read_exact_at(&mut head, 0).map_err(|error| error.to_string())?;
    let header = Header::decode(&head).map_err(|error| error.to_string())?;
    if header.storage != volume.id {
        return Err(format!("it belongs to storage {}", header.storage));
    }
    Ok((header, TailSlot::newest(&head, header.block, header.storage)))
}

/// Cuts an open replica to its longest verified prefix. `None` when there is no file or nothing was ever written.
fn reopen(volume: &Volume, block: BlockId) -> io::Result<Option<Found>> {
    let path = volume.block_path(block);
    let (header, slot) = match read_head(&path, volume) {
        Ok((header, slot)) => (header, slot),
        Err(reason) => {
            tracing::info!(path = %path.display(), reason, "open replica has no usable file: dropped");
            return Ok(None);
        }
    };
    let Some(slot) = slot else {
        let block = BlockRefV1 { block, stamp: header.stamp, length: 0 };
        return Ok(Some(Found {
            block,
            state: ReplicaState::WaitingForRecovery,
            tail_crc: 0,
            is_corrupt: false,
        }));
    };
    let file = volume.files().open(&path, OpenOptions::READ)?;
    let tail = verified(&*file, &header.layout, &slot)?;
    let is_complete = slot.is_finalized
        && tail.length == slot.length
        && stored_tail(&*file, &header.layout, tail.length)? == tail.crc;
    // What is written around the page cache must not stay in it. Only a hint: readers ask for direct reads anyway.
    file.drop_cache();
    // What was not on stable storage a power cut may take, from a replica that was just being finalized as well.
    let is_corrupt = tail.length < slot.synced_length;
    if tail.length < slot.length {
        tracing::warn!(path = %path.display(), claimed = slot.length, length = tail.length, synced = slot.synced_length, "open replica is cut to what can be verified");
    }
    let block = BlockRefV1 { block, stamp: slot.stamp, length: tail.length };
    let state = if is_complete { ReplicaState::Finalized } else { ReplicaState::WaitingForRecovery };
    Ok(Some(Found { block, state, tail_crc: tail.crc, is_corrupt }))
}

/// The longest prefix of an open replica that verifies: of what its slot says, and of what was on stable storage. The
/// checksum of the chunk that the latter ends in may be that of bytes which a power cut has taken.
fn verified(file: &dyn DiskFile, layout: &Layout, slot: &TailSlot) -> io::Result<Tail> {
    let all = verified_prefix(file, layout, slot.tail())?;
    if all.length >= slot.synced_length {
        return Ok(all);
    }
    let synced = verified_prefix(file, layout, slot.synced())?;
    Ok(if synced.length > all.length { synced } else { all })
}

/// The longest prefix of a replica whose chunks match their checksums, and the checksum of its partial last chunk.
fn verified_prefix(file: &dyn DiskFile, layout: &Layout, tail: Tail) -> io::Result<Tail> {
    let chunk_bytes = u64::from(layout.chunk_bytes);
    let (whole, rest) = (tail.length / chunk_bytes, tail.length % chunk_bytes);
    let mut data = vec![0; layout.chunk_bytes as usize];
    let mut stored = [0; CHECKSUM_BYTES];
    for chunk in 0..whole {
        file.read_exact_at(&mut stored, layout.checksum_offset(chunk)).or_else(zero_past_end)?;
        let is_read = file.read_exact_at(&mut data, layout.data_offset() + chunk * chunk_bytes).is_ok();
        if !is_read || layout.checksum.of(&data).to_be_bytes() != stored {
            return Ok(Tail { length: chunk * chunk_bytes, crc: 0 });
        }
    }
    let partial = &mut data[..rest as usize];
    let is_read = file.read_exact_at(partial, layout.data_offset() + whole * chunk_bytes).is_ok();
    if rest == 0 || !is_read || layout.checksum.of(partial) != tail.crc {
        return Ok(Tail { length: whole * chunk_bytes, crc: 0 });
    }
    Ok(tail)
}

/// The stored checksum of a partial last chunk; 0 when there is none.
pub(super) fn stored_tail(file: &dyn DiskFile, layout: &Layout, length: u64) -> io::Result<u32> {
    let chunk_bytes = u64::from(layout.chunk_bytes);
    if length.is_multiple_of(chunk_bytes) {
        return Ok(0);
    }
    let mut stored = [0; CHECKSUM_BYTES];
    file.read_exact_at(&mut stored, layout.checksum_offset(length / chunk_bytes)).or_else(zero_past_end)?;
    Ok(u32::from_be_bytes(stored))
}

fn zero_past_end(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::UnexpectedEof { Ok(()) } else { Err(error) }
}
