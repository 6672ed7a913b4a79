//! Files and their blocks: create, add, abandon, complete.

use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{InodeId, SessionId};
use ringfs_proto::limits::{BLOCK_BYTES_MAX, FILE_BLOCKS_MAX};
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::super::arena::Slot;
use super::super::blocks::BlockView;
use super::super::inode::{BLOCK_SIZE_UNIT, BlockList, Kind};
use super::super::tree::{Found, Modes};
use super::super::{Applied, Effect, Outcome, State};
use super::{MODE_MASK, parent_is_file, parent_missing};
use crate::wal::record::{AbandonBlockV1, AddBlockV1, CompleteV1, CreateV1, RecordV1};

/// What directories that are made on the way to a file have beside the bits of the one above them, less its sticky bit
/// (HDFS: `FSDirMkdirOp.addImplicitUwx`).
const OWNER_WRITE_EXECUTE: u16 = 0o300;

impl State {
    /// HDFS: `FSNamesystem.startFileInt`, `FSDirWriteFileOp.startFile`.
    pub(super) fn create(
        &mut self,
        change: &CreateV1,
        record: &RecordV1,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let path = Components::parse(&change.path)?;
        let names = path.names();
        let block_size_units = u32::try_from(change.block_size / BLOCK_SIZE_UNIT).map_err(|_| {
            WireError::new(Code::InvalidArgument, format!("block size {}", change.block_size))
        })?;
        self.check_create(change, record.session)?;
        if let Found::Inode(slot) = self.find(names) {
            self.remove_tree(slot, effects);
        }
        let (parent, existing) = match self.find(names) {
            Found::Missing { parent, existing } => (parent, existing),
            _ => return Err(WireError::new(Code::Internal, "the path is not free")),
        };
        let Some((name, parents)) = names[existing..].split_last() else {
            return Err(WireError::new(Code::Internal, "a missing path has a name"));
        };
        let owner = self.principals.intern(&record.user);
        let mode = self.inodes.get(parent).mode & 0o777 | OWNER_WRITE_EXECUTE;
        let modes = Modes { masked: mode, unmasked: mode };
        let parent = self.make_directories(parent, parents, owner, modes);
        let kind = Kind::File {
            blocks: BlockList::Empty,
            block_size_units,
            replication: change.replication,
            checksum: change.checksum,
            chunk_log2: change.chunk_bytes.checked_ilog2().unwrap_or(0) as u8,
        };
        let modes = Modes { masked: change.mode & MODE_MASK, unmasked: change.unmasked_mode & MODE_MASK };
        let slot = self.make(parent, name, owner, modes, kind);
        let inode = self.inodes.get(slot).id;
        self.counts.files += 1;
        self.leases.open(inode, record.session);
        Ok(Applied::Created(inode))
    }

    /// Refuses a path that cannot be created.
    pub(super) fn check_create(&self, change: &CreateV1, session: SessionId) -> Result<(), WireError> {
        let path = Components::parse(&change.path)?;
        let names = path.names();
        match self.find(names) {
            Found::Inode(slot) => self.check_replaceable(slot, change.overwrite, session, &path),
            Found::BelowFile { existing } => Err(parent_is_file(names, existing)),
            Found::Missing { existing, .. } if existing + 1 < names.len() && !change.create_parents => {
                Err(parent_missing(names))
            }
            Found::Missing { parent, .. } => self.check_room(parent),
        }
    }

    fn check_replaceable(
        &self,
        slot: Slot,
        overwrite: bool,
        session: SessionId,
        path: &Components<'_>,
    ) -> Result<(), WireError> {
        let inode = self.inodes.get(slot);
        let path = path.canonical();
        if inode.is_directory() {
            return Err(WireError::new(Code::IsADirectory, format!("{path} already exists as a directory")));
        }
        if overwrite {
            return Ok(());
        }
        self.check_not_written(slot, session, "CREATE_FILE", &path)?;
        Err(WireError::new(Code::AlreadyExists, format!("{path} already exists")))
    }

    /// HDFS: `FSDirWriteFileOp.validateAddBlock`, `storeAllocatedBlock`.
    pub(super) fn add_block(
        &mut self,
        change: &AddBlockV1,
        session: SessionId,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let reopened = self.reopen_for(change.inode, session, change.previous, false, effects)?;
        let previous = reopened.map_or(change.previous, |recovered| recovered.last);
        let slot = self.leased(change.inode, session)?;
        let mut list = self.list_of(slot);
        let last = self.blocks.last(list);
        if let (Some(last), true) = (last, self.is_repeated_add(list, previous)) {
            return Ok(Applied::BlockAdded(last.block.block));
        }
        if self.blocks.count(&list) >= FILE_BLOCKS_MAX as usize {
            let message = format!("file {} has {FILE_BLOCKS_MAX} blocks", self.path_of(slot));
            return Err(WireError::new(Code::LimitExceeded, message));
        }
        self.check_unused(change.block)?;
        self.commit_last(slot, last, previous, change.previous_crc, effects)?;
        let block_slot =
            self.blocks.push(&mut list, self.checksum_of(slot), slot, change.block, change.stamp);
        self.set_list(slot, list);
        self.counts.blocks += 1;
        if let Some(file) = self.leases.get_mut(change.inode) {
            file.begin_block(change.stamp, change.pipeline.clone());
        }
        let block = BlockRefV1 { block: change.block, stamp: change.stamp, length: 0 };
        effects.push(Effect::BlockAdded(block_slot, block));
        Ok(Applied::BlockAdded(change.block))
    }

    /// Whether a request to add a block was carried out before: its previous block is the last but one, and the last
    /// one is still open.
    fn is_repeated_add(&self, list: BlockList, previous: Option<BlockRefV1>) -> bool {
        let is_open = self.blocks.last(list).is_some_and(|last| last.is_open);
        let before = self.blocks.penultimate(list).map(|view| view.block);
        is_open && before == previous
    }

    pub(super) fn abandon_block(
        &mut self,
        change: &AbandonBlockV1,
        session: SessionId,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        if self.is_gone_with_its_lease(change, session) {
            return Ok(Applied::Done);
        }
        let slot = self.leased(change.inode, session)?;
        let mut list = self.list_of(slot);
        match self.blocks.last(list) {
            Some(last) if last.block.block == change.block && last.is_open => {
                self.check_unacked(change)?;
                self.blocks.pop(&mut list, self.checksum_of(slot));
                self.set_list(slot, list);
                if let Some(file) = self.leases.get_mut(change.inode) {
                    file.end_block();
                }
                self.removed(&last, effects);
                Ok(Applied::Done)
            }
            // The block is gone already: a repeated call.
            _ if self.blocks.find(change.block).is_none() => Ok(Applied::Done),
            _ => {
                let message =
                    format!("block {} is not the open last block of {}", change.block, self.path_of(slot));
                Err(WireError::new(Code::InvalidArgument, message))
            }
        }
    }

    /// Bytes that were acknowledged once are not taken back.
    fn check_unacked(&self, change: &AbandonBlockV1) -> Result<(), WireError> {
        let acked_length = self.leases.get(change.inode).map_or(0, |file| file.acked_length);
        if acked_length == 0 {
            return Ok(());
        }
        let message = format!("abandon block {}: {acked_length} bytes of it were acknowledged", change.block);
        Err(WireError::new(Code::InvalidArgument, message))
    }

    /// Whether recovery has taken the block back already, as nothing of it was written: its writer may go on without it.
    fn is_gone_with_its_lease(&self, change: &AbandonBlockV1, session: SessionId) -> bool {
        let recovered = self.leases.recovered(change.inode);
        recovered.is_some_and(|recovered| recovered.session == session)
            && self.blocks.find(change.block).is_none()
    }

    /// HDFS: `FSDirWriteFileOp.completeFile`.
    pub(super) fn complete(
        &mut self,
        change: &CompleteV1,
        session: SessionId,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        if let Some(done) = self.completed_before(change) {
            return Ok(done);
        }
        if change.tail.is_some() {
            // Who comes back has more to say than what the file was closed with.
            self.reopen_for(change.inode, session, change.last, false, effects)?;
        } else if self.returning(change.inode, session, change.last)?.is_some() {
            return Ok(Applied::Completed(change.inode));
        }
        let slot = self.leased(change.inode, session)?;
        let last = self.blocks.last(self.list_of(slot));
        if let Some(tail) = &change.tail {
            self.check_tail(slot, last, tail)?;
        }
        self.commit_last(slot, last, change.last, change.crc, effects)?;
        if let Some(tail) = &change.tail {
            self.set_tail(slot, tail);
        }
        self.leases.close(change.inode);
        let (index, time_ms) = (self.applied, self.time_ms);
        let inode = self.inodes.get_mut(slot);
        (inode.version, inode.mtime_ms) = (index, time_ms);
        Ok(Applied::Completed(change.inode))
    }

    /// Whether a file was closed with this last block: a call that comes again is answered again.
    fn completed_before(&self, change: &CompleteV1) -> Option<Applied> {
        let slot = self.slot_of(change.inode)?;
        let view = self.file_view(slot)?;
        let last = self.blocks.last(view.blocks);
        let is_same = match &change.tail {
            None => last.map(|last| last.block) == change.last,
            Some(tail) => {
                let value = last.and_then(|last| last.value);
                let before = self.blocks.penultimate(view.blocks).map(|view| view.block);
                value.is_some_and(|place| (place.len, place.crc) == (tail.value.len, tail.value.crc))
                    && (tail.replaces_last || before == change.last)
            }
        };
        (view.session.is_none() && is_same).then_some(Applied::Completed(change.inode))
    }

    /// Gives the last block the length that its pipeline acknowledged.
    fn commit_last(
        &mut self,
        slot: Slot,
        last: Option<BlockView>,
        acked: Option<BlockRefV1>,
        crc: Option<u32>,
        effects: &mut Vec<Effect>,
    ) -> Result<(), WireError> {
        let block = check_previous(last, acked).map_err(|reason| {
            WireError::new(
                Code::InvalidArgument,
                format!("commit last block of {}: {reason}", self.path_of(slot)),
            )
        })?;
        let (Some(block), Some(view)) = (block, last) else { return Ok(()) };
        if view.is_open {
            self.check_acked(slot, block)?;
            self.blocks.commit(view.slot, block.length, crc);
            self.counts.committed_blocks += 1;
            effects.push(Effect::BlockCommitted(view.slot, block));
        }
        Ok(())
    }

    /// What was acknowledged once is never given up.
    fn check_acked(&self, slot: Slot, block: BlockRefV1) -> Result<(), WireError> {
        let file = self.leases.get(self.inodes.get(slot).id);
        let acked_length = file.map_or(0, |file| file.acked_length);
        if (acked_length..=BLOCK_BYTES_MAX).contains(&block.length) {
            return Ok(());
        }
        let message =
            format!("block {}: {acked_length} bytes were acknowledged, not {}", block.block, block.length);
        Err(WireError::new(Code::InvalidArgument, message))
    }

    /// Refuses a session that does not have the file open for writing.
    ///
    /// # Errors
    /// `LeaseLost`, also when the file is gone.
    pub fn check_lease(&self, inode: InodeId, session: SessionId) -> Result<(), WireError> {
        self.leased(inode, session).map(|_| ())
    }

    /// The slot of a file that `session` has open for writing.
    ///
    /// # Errors
    /// `LeaseLost`, also when the file is gone (HDFS: `FSNamesystem.checkLease`).
    pub(super) fn leased(&self, inode: InodeId, session: SessionId) -> Result<Slot, WireError> {
        let lost = |reason: &str| {
            let path = self.path_of_inode(inode).unwrap_or_default();
            WireError::new(Code::LeaseLost, format!("No lease on {path} (inode {inode}): {reason}"))
        };
        let slot = self.slot_of(inode).ok_or_else(|| lost("File does not exist."))?;
        match self.leases.get(inode) {
            Some(file) if file.recovery_stamp.is_some() => Err(lost("it is being recovered.")),
            Some(file) if file.session == session => Ok(slot),
            Some(_) => Err(lost("another session writes it.")),
            None => Err(lost("File is not open for writing.")),
        }
    }

    pub(in super::super) fn list_of(&self, slot: Slot) -> BlockList {
        match self.inodes.get(slot).kind {
            Kind::File { blocks, .. } => blocks,
            Kind::Directory { .. } => BlockList::Empty,
        }
    }

    /// Type of a file's checksums.
    pub(in super::super) fn checksum_of(&self, slot: Slot) -> ChecksumType {
        match self.inodes.get(slot).kind {
            Kind::File { checksum, .. } => checksum,
            Kind::Directory { .. } => ChecksumType::Crc32c,
        }
    }

    pub(in super::super) fn set_list(&mut self, slot: Slot, list: BlockList) {
        if let Kind::File { blocks, .. } = &mut self.inodes.get_mut(slot).kind {
            *blocks = list;
        }
    }
}

/// Compares the last block with what the writer says of it.
fn check_previous(last: Option<BlockView>, acked: Option<BlockRefV1>) -> Result<Option<BlockRefV1>, String> {
    match (last, acked) {
        (None, None) => Ok(None),
        (Some(last), Some(acked)) if last.block.block == acked.block && last.block.stamp == acked.stamp => {
            if last.is_open || last.block.length == acked.length {
                Ok(Some(acked))
            } else {
                Err(format!("block {} has length {}, not {}", acked.block, last.block.length, acked.length))
            }
        }
        (last, acked) => {
            let name = |block: Option<BlockRefV1>| {
                block.map_or("none".to_owned(), |b| format!("{} stamp {}", b.block, b.stamp))
            };
            Err(format!("it is {}, not {}", name(last.map(|view| view.block)), name(acked)))
        }
    }
}
