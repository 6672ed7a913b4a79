//! A namespace from the sections of a checkpoint.
//!
//! Sections come from a disk: everything is checked before it is believed, and what is wrong is an error, never a panic.

use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{BlockId, InodeId, LogIndex, PrincipalId, Stamp};
use ringfs_proto::limits::{BLOCK_BYTES_MAX, DIRECTORY_ENTRIES_MAX, FILE_BLOCKS_MAX, INLINE_BYTES_MAX};
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use super::apply::MODE_MASK;
use super::arena::{NONE, Slot};
use super::blocks::{Blocks, VALUE_INDEX_MAX, VALUE_OFFSET_MAX};
use super::children::Children;
use super::extras::{Extra, HAS_EXTRA, STORAGE_POLICIES};
use super::inode::{BlockList, Inode, Kind};
use super::names::Name;
use super::retry::{RetryCache, Session};
use super::snapshot::{
    ExtrasV1, HAS_CRC, IS_VALUE, LeasesV1, OPEN, OutcomeV1, PrincipalsV1, Section, SectionKind, SessionsV1,
};
use super::truncations::Truncation;
use super::{Counts, ID_MAX, ROOT, ROOT_SLOT, State};
use crate::wal::{ValuePlace, ValuesAt};

/// The highest record, time or stamp: all count up from there.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// Why sections are no namespace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct RestoreError(pub String);

fn wrong<T>(reason: impl Into<String>) -> Result<T, RestoreError> {
    Err(RestoreError(reason.into()))
}

/// A namespace that is being put together.
#[derive(Debug)]
pub struct Restorer {
    state: State,
    expected: Counts,
    has_totals: bool,
    /// The parent's id of each inode, by slot.
    parents: Vec<InodeId>,
    /// Files that are being cut.
    truncations: Vec<(InodeId, BlockRefV1, BlockRefV1)>,
    /// Inodes that say that they carry something.
    carrying: usize,
}

impl Default for Restorer {
    fn default() -> Self {
        let (expected, has_totals) = (Counts::default(), false);
        let (parents, truncations) = (Vec::new(), Vec::new());
        Self { state: State::bare(), expected, has_totals, parents, truncations, carrying: 0 }
    }
}

impl Restorer {
    /// Takes the next section.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn section(&mut self, section: &Section) -> Result<(), RestoreError> {
        if !self.has_totals && section.kind != SectionKind::Totals {
            return wrong(format!("it begins with {:?}, not with the totals", section.kind));
        }
        let mut input = Input { bytes: &section.payload };
        match section.kind {
            SectionKind::Totals => self.totals(&mut input)?,
            SectionKind::Principals => self.principals(section)?,
            SectionKind::Open => self.open(section)?,
            SectionKind::Sessions => self.sessions(section)?,
            SectionKind::Inodes => {
                for _ in 0..section.items {
                    self.inode(&mut input)?;
                }
                if !input.bytes.is_empty() {
                    return wrong(format!("{} bytes follow the last inode", input.bytes.len()));
                }
            }
            SectionKind::Extras => self.extras(section)?,
            SectionKind::End => return wrong("the end is no part of a namespace"),
        }
        Ok(())
    }

    /// The namespace, once all sections are there.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn finish(mut self) -> Result<State, RestoreError> {
        if self.parents.is_empty() {
            return wrong("there is no root");
        }
        if self.carrying != self.state.extras.count() {
            let carried = self.state.extras.count();
            return wrong(format!("{} inodes carry something, {carried} are told what", self.carrying));
        }
        self.link()?;
        self.check_reachable()?;
        self.restore_truncations()?;
        if self.state.counts != self.expected {
            return wrong(format!("it holds {:?}, the totals say {:?}", self.state.counts, self.expected));
        }
        self.check_leases()?;
        Ok(self.state)
    }

    /// Files alone are open for writing, and only in those a block is open.
    fn check_leases(&self) -> Result<(), RestoreError> {
        let file = |inode: &InodeId| self.state.file_view(self.state.inode_slots.get(inode.0)?);
        let is_file = |inode: &InodeId| file(inode).is_some();
        let leases = &self.state.leases;
        let stray = leases.iter().map(|(inode, _)| inode).find(|inode| !is_file(inode));
        if let Some(inode) = stray {
            return wrong(format!("inode {inode} is open for writing and is no file"));
        }
        let counts = self.state.counts;
        let is_open = |inode: &InodeId| {
            let last = file(inode).and_then(|file| self.state.blocks.last(file.blocks));
            last.is_some_and(|last| last.is_open)
        };
        let open = leases.iter().filter(|(inode, _)| is_open(inode)).count() as u64;
        if open + self.truncations.len() as u64 != counts.blocks - counts.committed_blocks {
            return wrong(format!("{open} files have an open block, but there are {counts:?}"));
        }
        Ok(())
    }

    /// The new blocks of files that are being cut: they are in no file's list yet.
    fn restore_truncations(&mut self) -> Result<(), RestoreError> {
        for (inode, old, new) in &self.truncations {
            let state = &mut self.state;
            let found = state.inode_slots.get(inode.0);
            let Some(slot) = found.filter(|_| state.leases.get(*inode).is_none()) else {
                return wrong(format!("inode {inode} is being truncated, and is open or not there"));
            };
            let blocks = state.list_of(slot);
            let is_ours = state.blocks.iter(&blocks).any(|view| view.block == *old && !view.is_open);
            if !is_ours || new.length == 0 || new.length >= old.length {
                return wrong(format!("inode {inode} is being truncated to {new:?} of {old:?}"));
            }
            check_new_block(state, new.block, new.stamp)?;
            let mut list = BlockList::Empty;
            let kind = state.checksum_of(slot);
            state.blocks.push(&mut list, kind, slot, new.block, new.stamp);
            state.counts.blocks += 1;
            if state.truncations.get(*inode).is_some() {
                return wrong(format!("inode {inode} is being truncated twice"));
            }
            state.truncations.insert(*inode, Truncation { old: *old, new: *new, list });
        }
        Ok(())
    }

    fn totals(&mut self, input: &mut Input<'_>) -> Result<(), RestoreError> {
        if core::mem::replace(&mut self.has_totals, true) {
            return wrong("there are two totals");
        }
        let state = &mut self.state;
        state.applied = LogIndex(input.u64()?);
        state.time_ms = input.u64()?;
        state.last_inode = InodeId(input.u64()?);
        state.last_block = BlockId(input.u64()?);
        state.last_stamp = Stamp(input.u64()?);
        let (files, directories) = (input.u64()?, input.u64()?);
        let (blocks, committed_blocks) = (input.u64()?, input.u64()?);
        self.expected = Counts { files, directories, blocks, committed_blocks };
        let highest = state.applied.0.max(state.time_ms).max(state.last_stamp.0);
        if highest > NUMBER_MAX {
            return wrong(format!("record, time or stamp {highest} exceeds {NUMBER_MAX}"));
        }
        if state.last_inode.0 > ID_MAX || state.last_block.0 > ID_MAX {
            return wrong(format!(
                "inode {} or block {} exceeds {ID_MAX}",
                state.last_inode, state.last_block
            ));
        }
        state.inode_slots.reserve(state.last_inode.0);
        Ok(())
    }

    fn principals(&mut self, section: &Section) -> Result<(), RestoreError> {
        for name in decode::<PrincipalsV1>(section)?.names {
            let number = self.state.principals.names().len() as u32;
            if self.state.principals.intern(&name) != PrincipalId(number) {
                return wrong(format!("user or group {name:?} is there twice"));
            }
        }
        Ok(())
    }

    fn open(&mut self, section: &Section) -> Result<(), RestoreError> {
        let LeasesV1 { open, recovered, truncations, detached } = decode(section)?;
        self.state.detached.restore(detached);
        self.truncations.extend(truncations);
        open.into_iter().for_each(|(inode, file)| self.state.leases.put(inode, file));
        recovered.into_iter().for_each(|(inode, left)| self.state.leases.remember(inode, left));
        Ok(())
    }

    fn extras(&mut self, section: &Section) -> Result<(), RestoreError> {
        for extra in decode::<ExtrasV1>(section)?.extras {
            let (id, state) = (extra.inode, &mut self.state);
            let slot = state.inode_slots.get(id.0);
            let is_flagged = slot.is_some_and(|slot| state.inodes.get(slot).mode & HAS_EXTRA != 0);
            if !is_flagged || state.extras.get(id).is_some() || !is_sound(&extra) {
                return wrong(format!("what inode {id} carries is not its, there twice, or odd"));
            }
            if !state.extras.put(extra) {
                return wrong(format!("inode {id} carries nothing"));
            }
        }
        Ok(())
    }

    fn sessions(&mut self, section: &Section) -> Result<(), RestoreError> {
        for image in decode::<SessionsV1>(section)?.sessions {
            let outcome = |outcome| match outcome {
                OutcomeV1::Applied(applied) => Ok(applied),
                OutcomeV1::Refused { code, message } => Err(WireError::new(Code::from_u16(code), message)),
            };
            let results = image.results.into_iter().map(|(call, image)| (call, outcome(image))).collect();
            let session =
                Session { last_used: image.last_used, lowest_unanswered: image.lowest_unanswered, results };
            if !self.state.retry.restore(image.session, session) {
                return wrong(format!("session {} does not fit into the retry cache", image.session));
            }
        }
        Ok(())
    }

    fn inode(&mut self, input: &mut Input<'_>) -> Result<(), RestoreError> {
        let (id, parent) = (InodeId(input.u64()?), InodeId(input.u64()?));
        let (mtime_ms, version) = (input.u64()?, LogIndex(input.u64()?));
        let (atime_s, owner, group) = (input.u32()?, PrincipalId(input.u32()?), PrincipalId(input.u32()?));
        let (mode, is_file, name_len) = (input.u16()?, input.u8()?, input.u8()?);
        let name = input.take(usize::from(name_len))?;
        let state = &mut self.state;
        if id.0 == 0 || id > state.last_inode || state.inode_slots.get(id.0).is_some() {
            return wrong(format!("inode {id} is above {} or there twice", state.last_inode));
        }
        let principals = state.principals.names().len() as u32;
        if owner.0 >= principals || group.0 >= principals {
            return wrong(format!(
                "inode {id} belongs to user {} or group {} of {principals}",
                owner.0, group.0
            ));
        }
        let is_root = state.inodes.end() == ROOT_SLOT;
        if is_root != (id == ROOT) || is_root != name.is_empty() || (is_root && is_file != 0) {
            return wrong(format!("inode {id}: the root comes first, and it alone has no name"));
        }
        if mode & !(MODE_MASK | HAS_EXTRA) != 0 {
            return wrong(format!("inode {id} has mode {mode:o}"));
        }
        self.carrying += usize::from(mode & HAS_EXTRA != 0);
        let name = put_name(state, id, name)?;
        let kind = Kind::Directory { children: NONE, count: 0 };
        let inode = Inode { id, mtime_ms, version, kind, parent: NONE, name, owner, group, atime_s, mode };
        let slot = state.inodes.insert(inode);
        state.inode_slots.insert(id.0, slot);
        match is_file {
            0 => state.counts.directories += 1,
            1 => {
                let kind = self.file(slot, input)?;
                self.state.inodes.get_mut(slot).kind = kind;
                self.state.counts.files += 1;
            }
            other => return wrong(format!("inode {id} is of kind {other}")),
        }
        self.parents.push(parent);
        Ok(())
    }

    fn block(
        &mut self,
        list: &mut BlockList,
        kind: ChecksumType,
        file: Slot,
        input: &mut Input<'_>,
    ) -> Result<(), RestoreError> {
        let state = &mut self.state;
        let (id, stamp, length) = (BlockId(input.u64()?), Stamp(input.u64()?), input.u64()?);
        if length & IS_VALUE != 0 {
            let (segment, offset) = (LogIndex(input.u64()?), input.u64()?);
            let place = ValuePlace { segment, offset, len: input.u32()?, crc: input.u32()? };
            let length = length & !IS_VALUE;
            let is_possible = segment <= VALUE_INDEX_MAX
                && offset < VALUE_OFFSET_MAX
                && place.len as usize <= INLINE_BYTES_MAX
                && (1..=u64::from(place.len)).contains(&length);
            check_new_block(state, id, Stamp(0))?;
            if !is_possible {
                return wrong(format!("value {id} has {length} bytes at {place:?}"));
            }
            state.blocks.push_value(list, kind, file, id, place, length);
            return Ok(());
        }
        check_new_block(state, id, stamp)?;
        let crc = if length & HAS_CRC != 0 { Some(input.u32()?) } else { None };
        if length & !(OPEN | HAS_CRC) > BLOCK_BYTES_MAX || (length & OPEN != 0 && crc.is_some()) {
            return wrong(format!("block {id} has stamp {stamp}, length {length:#x}, checksum {crc:?}"));
        }
        let slot = state.blocks.push(list, kind, file, id, stamp);
        if length & OPEN == 0 {
            state.blocks.commit(slot, length & !HAS_CRC, crc);
        }
        state.counts.blocks += 1;
        state.counts.committed_blocks += u64::from(length & OPEN == 0);
        Ok(())
    }

    fn file(&mut self, slot: Slot, input: &mut Input<'_>) -> Result<Kind, RestoreError> {
        let (block_size_units, replication) = (input.u32()?, input.u16()?);
        let (checksum, chunk_log2, count) = (input.u8()?, input.u8()?, input.u32()?);
        let Some(checksum) = ChecksumType::from_u8(checksum) else {
            return wrong(format!("checksum type {checksum}"));
        };
        if chunk_log2 > 31 || count > FILE_BLOCKS_MAX {
            return wrong(format!("a file with chunks of 2^{chunk_log2} bytes and {count} blocks"));
        }
        let mut blocks = BlockList::Empty;
        for _ in 0..count {
            if self.state.blocks.last(blocks).is_some_and(|before| before.is_open) {
                return wrong("a block follows one that is open".to_owned());
            }
            self.block(&mut blocks, checksum, slot, input)?;
        }
        Ok(Kind::File { blocks, block_size_units, replication, checksum, chunk_log2 })
    }

    /// Puts every inode into its parent, directory by directory.
    fn link(&mut self) -> Result<(), RestoreError> {
        let mut by_parent = Vec::with_capacity(self.parents.len());
        for (slot, parent) in self.parents.iter().enumerate().skip(1) {
            if *parent == InodeId(0) {
                // The root of a deleted tree, if it is named among them.
                continue;
            }
            let found = self.state.inode_slots.get(parent.0);
            let directory = found.filter(|parent| self.state.inodes.get(*parent).is_directory());
            let Some(directory) = directory else {
                return wrong(format!("inode {} is in {parent}, which is no directory", self.id(slot)));
            };
            self.state.inodes.get_mut(slot as Slot).parent = directory;
            by_parent.push((directory, slot as Slot));
        }
        // Inodes are mostly made, and so numbered, in the order of their names: runs that a stable sort makes use of.
        by_parent.sort_by_key(|(directory, _)| *directory);
        let mut entries = Vec::new();
        for group in by_parent.chunk_by(|one, other| one.0 == other.0) {
            entries.clear();
            entries.extend(group.iter().map(|(_, slot)| *slot));
            self.fill_directory(group[0].0, &mut entries)?;
        }
        Ok(())
    }

    fn fill_directory(&mut self, directory: Slot, entries: &mut [Slot]) -> Result<(), RestoreError> {
        let state = &mut self.state;
        entries.sort_by(|one, other| state.name_of(*one).cmp(state.name_of(*other)));
        let twice = entries.windows(2).find(|pair| state.name_of(pair[0]) == state.name_of(pair[1]));
        if let Some(pair) = twice {
            return wrong(format!(
                "inodes {} and {} have one name",
                state.inodes.get(pair[0]).id,
                state.inodes.get(pair[1]).id
            ));
        }
        if entries.len() > DIRECTORY_ENTRIES_MAX as usize {
            return wrong(format!("a directory of {} entries", entries.len()));
        }
        let children = state.directories.insert(Children::from_sorted(entries));
        state.inodes.get_mut(directory).kind = Kind::Directory { children, count: entries.len() as u32 };
        Ok(())
    }

    /// Every inode leads to the root: none is in a circle.
    fn check_reachable(&self) -> Result<(), RestoreError> {
        let mut is_reached = vec![false; self.parents.len()];
        is_reached[ROOT_SLOT as usize] = true;
        for root in self.state.detached.roots() {
            let slot = self.state.inode_slots.get(root.0).map(|slot| slot as usize);
            let Some(slot) = slot.filter(|slot| self.parents[*slot] == InodeId(0) && !is_reached[*slot])
            else {
                return wrong(format!(
                    "inode {root} is deleted, and is not there, or in a directory, or named twice"
                ));
            };
            is_reached[slot] = true;
        }
        let mut way = Vec::new();
        for slot in 0..self.parents.len() {
            let mut at = slot;
            while !is_reached[at] {
                if way.len() > self.parents.len() {
                    return wrong(format!("inode {} is in a circle", self.id(slot)));
                }
                if self.parents[at] == InodeId(0) {
                    return wrong(format!("inode {} is in no directory", self.id(at)));
                }
                way.push(at);
                at = self.state.inodes.get(at as Slot).parent as usize;
            }
            way.drain(..).for_each(|at| is_reached[at] = true);
        }
        Ok(())
    }

    fn id(&self, slot: usize) -> InodeId {
        self.state.inodes.get(slot as Slot).id
    }
}

impl State {
    /// Nothing at all, not even a root.
    fn bare() -> Self {
        Self {
            inodes: Default::default(),
            inode_slots: Default::default(),
            names: Default::default(),
            directories: Default::default(),
            blocks: Blocks::default(),
            principals: Default::default(),
            leases: Default::default(),
            truncations: Default::default(),
            detached: Default::default(),
            undo: None,
            extras: Default::default(),
            retry: RetryCache::default(),
            counts: Counts::default(),
            last_inode: ROOT,
            last_block: BlockId(0),
            last_stamp: Stamp(0),
            applied: LogIndex(0),
            time_ms: 0,
            values_at: ValuesAt::default(),
            is_in_snapshot: false,
        }
    }
}

/// Whether what an inode carries is in order.
fn is_sound(extra: &Extra) -> bool {
    let is_ordered = extra.acl.windows(2).all(|pair| pair[0].key() < pair[1].key())
        && extra.xattrs.windows(2).all(|pair| pair[0].name < pair[1].name);
    let is_policy = extra.policy == 0 || STORAGE_POLICIES.iter().any(|(id, _)| *id == extra.policy);
    is_ordered && is_policy && extra.acl.iter().all(|entry| entry.permission <= 7)
}

fn put_name(state: &mut State, id: InodeId, name: &[u8]) -> Result<Name, RestoreError> {
    match core::str::from_utf8(name) {
        Ok("") => Ok(Name::EMPTY),
        Ok(name) if !name.contains('/') => Ok(state.names.insert(name)),
        _ => wrong(format!("inode {id} has the name {}", String::from_utf8_lossy(name))),
    }
}

/// Refuses a block that the log never named, or that is there already.
fn check_new_block(state: &State, id: BlockId, stamp: Stamp) -> Result<(), RestoreError> {
    if id.0 == 0 || id > state.last_block || state.blocks.find(id).is_some() {
        return wrong(format!("block {id} is above {} or there twice", state.last_block));
    }
    if stamp > state.last_stamp {
        return wrong(format!("block {id} has stamp {stamp} above {}", state.last_stamp));
    }
    Ok(())
}

fn decode<M: Message>(section: &Section) -> Result<M, RestoreError> {
    M::decode(&section.payload).map_err(|error| RestoreError(error.to_string()))
}

/// Bytes that are taken from the front.
struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], RestoreError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(len) else {
            return wrong(format!("cut off: {len} bytes are expected, {} are there", self.bytes.len()));
        };
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RestoreError> {
        let Some((taken, rest)) = self.bytes.split_first_chunk() else {
            return wrong(format!("cut off: {N} bytes are expected, {} are there", self.bytes.len()));
        };
        self.bytes = rest;
        Ok(*taken)
    }

    fn u64(&mut self) -> Result<u64, RestoreError> {
        self.array().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, RestoreError> {
        self.array().map(u32::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, RestoreError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u8(&mut self) -> Result<u8, RestoreError> {
        self.array().map(u8::from_le_bytes)
    }
}
