//! The namespace as it is at one record, copied while later records are applied.
//!
//! A snapshot begins in one moment. From then on whatever changes is kept aside as it was (see [`super::arena`]), so the
//! copying can take as many turns as it likes, a bounded number of inodes each, and still gives the namespace of that
//! moment. What is small is shared or copied at the beginning ([`Rest`]) and turned into bytes elsewhere.
//!
//! The bytes of sections are described in `docs/disk-format.md`.

use std::sync::Arc;

use ringfs_proto::ids::{CallId, InodeId, LogIndex, SessionId};
use ringfs_proto::meta::attributes::AclEntryV1;
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_proto::wire::Message;

use super::arena::{NONE, Slot};
use super::extras::Extra;
use super::inode::{Inode, Kind};
use super::leases::{OpenFile, Recovered};
use super::retry::Session;
use super::{Applied, Outcome, ROOT, State};

/// A section ends once it has this many bytes. One item may go beyond.
const SECTION_BYTES: usize = 1 << 20;
/// Set in the length of a block that is open.
pub(super) const OPEN: u64 = 1 << 63;
/// Set in the length of a block whose checksum follows.
pub(super) const HAS_CRC: u64 = 1 << 62;
/// Set in the length of a block that is a value, whose place follows.
pub(super) const IS_VALUE: u64 = 1 << 61;

/// What a section holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionKind {
    /// Last ids, counts, time: one item, first.
    Totals = 1,
    /// Names of users and groups, by number.
    Principals = 2,
    /// Files that are open for writing, and those whose former writers may come back.
    Open = 3,
    /// Results that are kept for retries, by session.
    Sessions = 4,
    /// Files and directories, with blocks; the root is the first.
    Inodes = 5,
    /// The end, with the number of sections: one item, last.
    End = 6,
    /// What inodes carry: ACLs, extended attributes, storage policies; after the inodes.
    Extras = 7,
}

impl SectionKind {
    /// The kind with a number.
    pub fn from_u32(number: u32) -> Option<Self> {
        let all = [
            Self::Totals,
            Self::Principals,
            Self::Open,
            Self::Sessions,
            Self::Inodes,
            Self::End,
            Self::Extras,
        ];
        all.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// A piece of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// What it holds.
    pub kind: SectionKind,
    /// How many.
    pub items: u32,
    /// Their bytes.
    pub payload: Vec<u8>,
}

/// Names of users and groups.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct PrincipalsV1 {
    pub names: Vec<String>,
}

/// Open files, and files whose former writers may come back.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct LeasesV1 {
    pub open: Vec<(InodeId, OpenFile)>,
    pub recovered: Vec<(InodeId, Recovered)>,
    /// Files that are being cut: the block that is cut in two, and the new one.
    pub truncations: Vec<(InodeId, BlockRefV1, BlockRefV1)>,
    /// The roots of deleted trees that are not freed yet; the last one goes first.
    pub detached: Vec<InodeId>,
}

/// What some inodes carry.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct ExtrasV1 {
    pub extras: Vec<Extra>,
}

/// The result of a call.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) enum OutcomeV1 {
    Applied(Applied),
    Refused { code: u16, message: String },
}

/// Results of one session.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct SessionV1 {
    pub session: SessionId,
    pub last_used: LogIndex,
    pub lowest_unanswered: CallId,
    pub results: Vec<(CallId, OutcomeV1)>,
}

/// Results of some sessions.
#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct SessionsV1 {
    pub sessions: Vec<SessionV1>,
}

ringfs_proto::impl_message!(PrincipalsV1, LeasesV1, SessionsV1, ExtrasV1);

/// A copy in progress.
#[derive(Debug)]
pub struct Snapshot {
    index: LogIndex,
    cursor: Slot,
    end: Slot,
    copied: u64,
    section: Section,
    extras_cursor: Slot,
    extras_end: Slot,
}

impl Snapshot {
    /// The last record that it contains.
    pub fn index(&self) -> LogIndex {
        self.index
    }

    /// Whether every inode is copied, with what it carries.
    pub fn is_done(&self) -> bool {
        self.are_inodes_done() && self.extras_cursor == self.extras_end
    }

    fn are_inodes_done(&self) -> bool {
        self.cursor == self.end && self.section.items == 0
    }

    /// Inodes that are copied.
    pub fn copied(&self) -> u64 {
        self.copied
    }
}

/// What a snapshot holds besides inodes.
#[derive(Debug)]
pub struct Rest {
    totals: Section,
    principals: Vec<String>,
    leases: LeasesV1,
    sessions: Vec<(SessionId, Arc<Session>)>,
}

impl Rest {
    /// Its sections, in the order of a checkpoint.
    pub fn into_sections(self) -> impl Iterator<Item = Section> {
        let names = PrincipalsV1 { names: self.principals };
        let principals = section(SectionKind::Principals, names.names.len(), &names);
        let LeasesV1 { open, recovered, truncations, detached } = &self.leases;
        let items = open.len() + recovered.len() + truncations.len() + detached.len();
        let open = section(SectionKind::Open, items, &self.leases);
        let mut sessions = self.sessions.into_iter().peekable();
        let next_sessions = move || {
            sessions.peek()?;
            let (mut part, mut bytes) = (Vec::new(), 0);
            while bytes < SECTION_BYTES
                && let Some((id, session)) = sessions.next()
            {
                let (image, image_bytes) = session_image(id, &session);
                part.push(image);
                bytes += image_bytes;
            }
            Some(section(SectionKind::Sessions, part.len(), &SessionsV1 { sessions: part }))
        };
        [self.totals, principals, open].into_iter().chain(std::iter::from_fn(next_sessions))
    }
}

impl State {
    /// Begins a snapshot of the namespace as it is now. One at a time.
    ///
    /// # Panics
    /// If there is one already.
    pub fn begin_snapshot(&mut self) -> (Snapshot, Rest) {
        assert!(!self.is_in_snapshot, "one snapshot at a time");
        self.is_in_snapshot = true;
        self.inodes.begin_snapshot();
        self.blocks.begin_snapshot();
        self.names.begin_snapshot();
        self.extras.records.begin_snapshot();
        let rest = Rest {
            totals: Section { kind: SectionKind::Totals, items: 1, payload: self.totals() },
            principals: self.principals.names().iter().map(|name| name.to_string()).collect(),
            leases: LeasesV1 {
                open: self.leases.iter().map(|(inode, file)| (inode, file.clone())).collect(),
                recovered: self.leases.iter_recovered().map(|(inode, left)| (inode, *left)).collect(),
                detached: self.detached.roots().to_vec(),
                truncations: self.truncations.iter().map(|(inode, cut)| (inode, cut.old, cut.new)).collect(),
            },
            sessions: self.retry.sessions().map(|(id, session)| (id, session.clone())).collect(),
        };
        let (cursor, end) = (0, self.inodes.end());
        let snapshot = Snapshot {
            index: self.applied,
            cursor,
            end,
            copied: 0,
            section: empty_section(),
            extras_cursor: 0,
            extras_end: self.extras.records.end(),
        };
        (snapshot, rest)
    }

    /// Copies up to `inodes_max` inodes. Returns how many it looked at, and a section when one is full or the last.
    pub fn copy(&self, snapshot: &mut Snapshot, inodes_max: usize) -> (usize, Option<Section>) {
        if snapshot.are_inodes_done() {
            return self.copy_extras(snapshot, inodes_max);
        }
        let begin = snapshot.cursor;
        let until = begin.saturating_add(inodes_max.try_into().unwrap_or(Slot::MAX)).min(snapshot.end);
        while snapshot.cursor < until && snapshot.section.payload.len() < SECTION_BYTES {
            if let Some(inode) = self.inode_as_it_was(snapshot.cursor) {
                self.put_inode(inode, &mut snapshot.section.payload);
                snapshot.section.items += 1;
                snapshot.copied += 1;
            }
            snapshot.cursor += 1;
        }
        let is_full = snapshot.section.payload.len() >= SECTION_BYTES || snapshot.cursor == snapshot.end;
        let section = (is_full && snapshot.section.items > 0)
            .then(|| core::mem::replace(&mut snapshot.section, empty_section()));
        ((snapshot.cursor - begin) as usize, section)
    }

    /// Copies what up to `inodes_max` inodes carry.
    fn copy_extras(&self, snapshot: &mut Snapshot, inodes_max: usize) -> (usize, Option<Section>) {
        let begin = snapshot.extras_cursor;
        let mut part = ExtrasV1 { extras: Vec::new() };
        let mut bytes = 0;
        while snapshot.extras_cursor < snapshot.extras_end
            && ((snapshot.extras_cursor - begin) as usize) < inodes_max
            && bytes < SECTION_BYTES
        {
            let extra = self.extras.records.as_it_was(snapshot.extras_cursor);
            if let Some(extra) = extra.filter(|extra| extra.inode != InodeId(0)) {
                bytes += size_of::<Extra>() + extra.acl.len() * size_of::<AclEntryV1>();
                bytes += extra.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum::<usize>();
                part.extras.push(extra.clone());
            }
            snapshot.extras_cursor += 1;
        }
        let looked_at = (snapshot.extras_cursor - begin) as usize;
        let copied = part.extras.len();
        (looked_at, (copied > 0).then(|| section(SectionKind::Extras, copied, &part)))
    }

    /// Ends the snapshot, done or not: what was kept for it is forgotten.
    pub fn end_snapshot(&mut self) {
        self.is_in_snapshot = false;
        self.inodes.end_snapshot();
        self.blocks.end_snapshot();
        self.names.end_snapshot();
        self.extras.records.end_snapshot();
    }

    fn totals(&self) -> Vec<u8> {
        let numbers = [
            self.applied.0,
            self.time_ms,
            self.last_inode.0,
            self.last_block.0,
            self.last_stamp.0,
            self.counts.files,
            self.counts.directories,
            self.counts.blocks,
            self.counts.committed_blocks,
        ];
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    /// The inode that was in a slot, if it was in use.
    fn inode_as_it_was(&self, slot: Slot) -> Option<&Inode> {
        let inode = self.inodes.as_it_was(slot)?;
        if !core::ptr::eq(inode, self.inodes.get(slot)) {
            return Some(inode);
        }
        // Nothing has happened to the slot: an inode that was freed before is found no more by its id.
        (self.inode_slots.get(inode.id.0) == Some(slot)).then_some(inode)
    }

    fn put_inode(&self, inode: &Inode, out: &mut Vec<u8>) {
        let parent = match inode.id {
            ROOT => InodeId(0),
            _ if inode.parent == NONE => InodeId(0),
            _ => self.inodes.as_it_was(inode.parent).expect("a parent was in use").id,
        };
        let name = self.names.get(inode.name);
        for number in [inode.id.0, parent.0, inode.mtime_ms, inode.version.0] {
            out.extend(number.to_le_bytes());
        }
        for number in [inode.atime_s, inode.owner.0, inode.group.0] {
            out.extend(number.to_le_bytes());
        }
        out.extend(inode.mode.to_le_bytes());
        out.extend([u8::from(!inode.is_directory()), name.len() as u8]);
        out.extend(name);
        let Kind::File { blocks, block_size_units, replication, checksum, chunk_log2 } = &inode.kind else {
            return;
        };
        out.extend(block_size_units.to_le_bytes());
        out.extend(replication.to_le_bytes());
        out.extend([*checksum as u8, *chunk_log2]);
        let views = self.blocks.as_they_were(blocks);
        out.extend((views.len() as u32).to_le_bytes());
        for view in views {
            let mut length = view.block.length;
            length |= if view.is_open { OPEN } else { 0 };
            length |= match view.value {
                Some(_) => IS_VALUE,
                None if view.crc.is_some() => HAS_CRC,
                None => 0,
            };
            for number in [view.block.block.0, view.block.stamp.0, length] {
                out.extend(number.to_le_bytes());
            }
            match view.value {
                Some(place) => {
                    out.extend(place.segment.0.to_le_bytes());
                    out.extend(place.offset.to_le_bytes());
                    out.extend(place.len.to_le_bytes());
                    out.extend(place.crc.to_le_bytes());
                }
                None => out.extend(view.crc.map(u32::to_le_bytes).into_iter().flatten()),
            }
        }
    }
}

fn empty_section() -> Section {
    Section { kind: SectionKind::Inodes, items: 0, payload: Vec::new() }
}

fn section(kind: SectionKind, items: usize, content: &impl Message) -> Section {
    Section { kind, items: items as u32, payload: content.encode() }
}

fn session_image(id: SessionId, session: &Session) -> (SessionV1, usize) {
    let mut bytes = size_of::<Session>();
    let mut image = |outcome: &Outcome| match outcome {
        Ok(applied) => OutcomeV1::Applied(applied.clone()),
        Err(error) => {
            bytes += error.message.len();
            OutcomeV1::Refused { code: error.code as u16, message: error.message.clone() }
        }
    };
    let results: Vec<_> = session.results.iter().map(|(call, outcome)| (*call, image(outcome))).collect();
    bytes += results.len() * size_of::<(CallId, OutcomeV1)>();
    let Session { last_used, lowest_unanswered, .. } = *session;
    (SessionV1 { session: id, last_used, lowest_unanswered, results }, bytes)
}
