//! What readers see: applied state, in the types of the wire.

use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{BlockId, InodeId, SessionId};
use ringfs_proto::limits::LIST_PAGE_ENTRIES_MAX;
use ringfs_proto::meta::attributes::{AclEntryV1, XattrV1};
use ringfs_proto::meta::namespace::{
    BlockRefV1, ContentCrcV1, FileKind, FileRefV1, FileStatusV1, ListReplyV1,
};
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::apply::MODE_MASK;
use super::arena::{NONE, Slot};
use super::blocks::BlockView;
use super::inode::{BLOCK_SIZE_UNIT, BlockList, Kind};
use super::{ROOT_SLOT, State, Truncation};
use crate::wal::ValuePlace;

/// A file as the operations on its blocks need it.
#[derive(Debug, Clone, Copy)]
pub struct FileView {
    /// The file.
    pub inode: InodeId,
    /// Wanted replicas.
    pub replication: u16,
    /// Bytes per block.
    pub block_size: u64,
    /// Type of the checksums.
    pub checksum: ChecksumType,
    /// Bytes per checksum; 0 = not known yet.
    pub chunk_bytes: u32,
    /// Who writes it.
    pub session: Option<SessionId>,
    pub(super) blocks: BlockList,
}

impl State {
    /// Status of a path.
    ///
    /// # Errors
    /// `NotFound`, also below a file.
    pub fn stat(&self, path: &Components<'_>) -> Result<FileStatusV1, WireError> {
        Ok(self.status(self.find_existing(path)?, false))
    }

    /// Status of an inode, with an empty name.
    pub fn stat_inode(&self, inode: InodeId) -> Option<FileStatusV1> {
        Some(self.status(self.slot_of(inode)?, false))
    }

    /// The ACL entries that an inode keeps: see `GetAclReplyV1`.
    pub fn acl_entries(&self, inode: InodeId) -> &[AclEntryV1] {
        let extra = self.slot_of(inode).and_then(|slot| self.extra_of(slot));
        extra.map_or(&[], |extra| &extra.acl)
    }

    /// The extended attributes of an inode, by name.
    pub fn xattrs(&self, inode: InodeId) -> &[XattrV1] {
        let extra = self.slot_of(inode).and_then(|slot| self.extra_of(slot));
        extra.map_or(&[], |extra| &extra.xattrs)
    }

    /// A page of a directory.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn list(
        &self,
        path: &Components<'_>,
        start_after: &str,
        entries_max: u32,
    ) -> Result<ListReplyV1, WireError> {
        let slot = self.find_existing(path)?;
        if !self.inodes.get(slot).is_directory() {
            let entries = if start_after.is_empty() { vec![self.status(slot, false)] } else { Vec::new() };
            return Ok(ListReplyV1 { entries, remaining: 0 });
        }
        let Some(children) = self.children(slot) else {
            return Ok(ListReplyV1 { entries: Vec::new(), remaining: 0 });
        };
        let page =
            if entries_max == 0 { LIST_PAGE_ENTRIES_MAX } else { entries_max.min(LIST_PAGE_ENTRIES_MAX) };
        let after = start_after.as_bytes();
        let slots = children.after(after, |slot| self.name_of(slot)).take(page as usize);
        let entries: Vec<FileStatusV1> = slots.map(|slot| self.status(slot, true)).collect();
        let all = children.count_after(after, |slot| self.name_of(slot));
        Ok(ListReplyV1 { remaining: (all - entries.len()) as u32, entries })
    }

    /// A file by its inode.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub fn file(&self, inode: InodeId) -> Result<FileView, WireError> {
        let slot = self.slot_of(inode);
        let slot =
            slot.ok_or_else(|| WireError::new(Code::NotFound, format!("inode {inode} does not exist")))?;
        self.file_view(slot)
            .ok_or_else(|| WireError::new(Code::IsADirectory, format!("inode {inode} is a directory")))
    }

    /// A file by path or inode.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, or what the path's check says.
    pub fn file_ref(&self, file: &FileRefV1) -> Result<FileView, WireError> {
        match file {
            FileRefV1::Inode(inode) => self.file(*inode),
            FileRefV1::Path(path) => {
                let path = Components::parse(path)?;
                let slot = self.find_existing(&path)?;
                // HDFS: INodeFile.valueOf.
                let message = || format!("Path is not a file: {}", path.canonical());
                self.file_view(slot).ok_or_else(|| WireError::new(Code::IsADirectory, message()))
            }
        }
    }

    /// The blocks of a file that overlap a range, in order; the open last block counts as reaching to the end.
    pub fn blocks_in(
        &self,
        file: &FileView,
        offset: u64,
        length: u64,
    ) -> impl Iterator<Item = BlockView> + '_ {
        let until = offset.saturating_add(length);
        let blocks: Vec<BlockView> = self.blocks.iter(&file.blocks).collect();
        blocks.into_iter().filter(move |view| {
            let ends_after = view.is_open || view.offset + view.block.length > offset;
            ends_after && view.offset < until
        })
    }

    /// The last block of a file.
    pub fn last_block_of(&self, file: &FileView) -> Option<BlockView> {
        self.blocks.last(file.blocks)
    }

    /// Bytes in a file, and bytes in all replicas that it wants: an open block counts nothing as length, and as full there
    /// (HDFS: `INodeFile.storagespaceConsumed`).
    pub fn space_of(&self, inode: InodeId) -> Option<(u64, u64)> {
        let file = self.file(inode).ok()?;
        let length = self.blocks.length(file.blocks);
        let is_open = self.blocks.last(file.blocks).is_some_and(|last| last.is_open);
        let full = if is_open { length.saturating_add(file.block_size) } else { length };
        Some((length, full.saturating_mul(u64::from(file.replication))))
    }

    /// The block of a file that has bytes on both sides of a length.
    pub fn cut_at(&self, file: &FileView, length: u64) -> Option<BlockView> {
        self.cut_block(&file.blocks, length)
    }

    /// A block of datanodes by its id, and its file.
    pub fn block(&self, id: BlockId) -> Option<(BlockView, FileView)> {
        let (view, slot) = self.blocks.find(id).filter(|(view, _)| view.value.is_none())?;
        Some((view, self.file_view(slot)?))
    }

    /// Where a value is.
    pub fn value(&self, id: BlockId) -> Option<ValuePlace> {
        self.blocks.find(id)?.0.value
    }

    /// The block in a slot that is in use.
    pub fn block_in_slot(&self, slot: Slot) -> Option<BlockRefV1> {
        self.blocks.in_slot(slot)
    }

    /// The committed block in a slot, and how many replicas its file wants.
    pub fn committed_in_slot(&self, slot: Slot) -> Option<(BlockRefV1, u16)> {
        let (view, file) = self.blocks.find_slot(slot)?;
        match self.inodes.get(file).kind {
            Kind::File { replication, .. } if !view.is_open => Some((view.block, replication)),
            _ => None,
        }
    }

    /// All blocks, by id.
    pub fn all_blocks(&self) -> impl Iterator<Item = BlockView> + '_ {
        self.blocks.all()
    }

    /// The number of a user's name, if the log has named it.
    pub fn principal(&self, name: &str) -> Option<ringfs_proto::ids::PrincipalId> {
        self.principals.find(name)
    }

    /// The path of an inode, for messages and logs.
    pub fn path_of_inode(&self, inode: InodeId) -> Option<String> {
        Some(self.path_of(self.slot_of(inode)?))
    }

    /// The path of a slot.
    pub(super) fn path_of(&self, mut slot: Slot) -> String {
        let mut names = Vec::new();
        while slot != ROOT_SLOT && slot != NONE {
            names.push(String::from_utf8_lossy(self.name_of(slot)));
            slot = self.inodes.get(slot).parent;
        }
        names.reverse();
        format!("/{}", names.join("/"))
    }

    pub(super) fn file_view(&self, slot: Slot) -> Option<FileView> {
        let inode = self.inodes.get(slot);
        let Kind::File { blocks, block_size_units, replication, checksum, chunk_log2 } = inode.kind else {
            return None;
        };
        Some(FileView {
            inode: inode.id,
            replication,
            block_size: u64::from(block_size_units) * BLOCK_SIZE_UNIT,
            checksum,
            chunk_bytes: if chunk_log2 == 0 { 0 } else { 1 << chunk_log2 },
            session: self.leases.get(inode.id).map(|file| file.session),
            blocks,
        })
    }

    fn status(&self, slot: Slot, with_name: bool) -> FileStatusV1 {
        let inode = self.inodes.get(slot);
        let file = self.file_view(slot);
        FileStatusV1 {
            inode: inode.id,
            kind: if file.is_some() { FileKind::File } else { FileKind::Directory },
            name: if with_name {
                String::from_utf8_lossy(self.name_of(slot)).into_owned()
            } else {
                String::new()
            },
            length: file.map_or(0, |file| self.blocks.length(file.blocks)),
            told_bytes: file.and_then(|file| self.told_bytes(&file)).unwrap_or(0),
            mode: inode.mode & MODE_MASK,
            owner: self.principals.name(inode.owner).to_owned(),
            group: self.principals.name(inode.group).to_owned(),
            mtime_ms: inode.mtime_ms,
            atime_ms: u64::from(inode.atime_s) * 1000,
            replication: file.map_or(0, |file| file.replication),
            block_size: file.map_or(0, |file| file.block_size),
            children: self.child_count(slot),
            is_open: file.is_some_and(|file| file.session.is_some())
                || self.truncations.get(inode.id).is_some(),
            version: inode.version,
            content_crc: file.and_then(|file| self.content_crc(&file)),
            has_acl: self.extra_of(slot).is_some_and(|extra| !extra.acl.is_empty()),
            storage_policy: self.policy_of(slot),
        }
    }

    /// The writer of a file says how many bytes its open last block has. Nothing that is logged depends on it.
    pub fn tell_length(&mut self, inode: InodeId, length: u64) {
        let Ok(file) = self.file(inode) else { return };
        if let Some(last) = self.last_block_of(&file).filter(|last| last.is_open) {
            // Its word counts for no more than the block can hold.
            self.leases.tell(inode, last.block.block, length.min(file.block_size));
        }
    }

    fn told_bytes(&self, file: &FileView) -> Option<u64> {
        file.session?;
        let last = self.last_block_of(file).filter(|last| last.is_open)?;
        self.leases.told(file.inode, last.block.block)
    }

    fn content_crc(&self, file: &FileView) -> Option<ContentCrcV1> {
        let is_closed = file.session.is_none() && self.truncations.get(file.inode).is_none();
        let crc = is_closed.then(|| self.blocks.crc(file.blocks, file.checksum)).flatten()?;
        Some(ContentCrcV1 { kind: file.checksum, crc })
    }

    /// A checksum over everything that a later record can make a difference of, for tests of determinism.
    pub fn digest(&self) -> u32 {
        use std::fmt::Write;
        let mut text = format!("{:08x}", self.tree_digest());
        let principals = self.principals.names();
        let ids = (self.applied, self.time_ms, self.last_inode, self.last_block, self.last_stamp);
        let sessions: Vec<_> = self.retry.sessions().collect();
        write!(
            text,
            "{ids:?} {:?} {principals:?} {:?} {sessions:?} {:?}",
            self.counts,
            self.leases,
            self.detached.roots()
        )
        .expect("writing to a string cannot fail");
        ringfs_proto::checksum::crc32(text.as_bytes())
    }

    /// A checksum over files, directories and blocks alone.
    pub fn tree_digest(&self) -> u32 {
        use ringfs_proto::wire::Message;
        let mut bytes = Vec::new();
        for (_, slot) in self.inode_slots.iter() {
            self.status(slot, true).encode_into(&mut bytes);
            bytes.extend(self.path_of(slot).bytes());
            if let Some(extra) = self.extra_of(slot) {
                bytes.extend(format!("{extra:?}").bytes());
            }
            if let Kind::File { blocks, .. } = &self.inodes.get(slot).kind {
                for view in self.blocks.iter(blocks) {
                    let BlockRefV1 { block, stamp, length } = view.block;
                    for number in [block.0, stamp.0, length, view.offset] {
                        bytes.extend(number.to_le_bytes());
                    }
                    bytes.extend([u8::from(view.is_open)]);
                    bytes.extend(format!("{:?} {:?}", view.crc, view.value).bytes());
                }
            }
        }
        for (inode, file) in self.leases.iter() {
            bytes.extend(format!("{inode} {file:?}").bytes());
        }
        for (inode, Truncation { old, new, .. }) in self.truncations.iter() {
            bytes.extend(format!("{inode} {old:?} {new:?}").bytes());
        }
        for (inode, recovered) in self.leases.iter_recovered() {
            bytes.extend(format!("{inode} {recovered:?}").bytes());
        }
        ringfs_proto::checksum::crc32(&bytes)
    }
}
