//! Who writes which file, and what is remembered of writers whose files were closed by recovery.
//!
//! Part of the logged state. A lease has no age here: how long its session was not heard of is soft, see the core.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use ringfs_proto::ids::{BlockId, InodeId, LogIndex, SessionId, Stamp, StorageId};
use ringfs_proto::meta::namespace::BlockRefV1;

/// Files whose former writers may still come back; the longest closed goes first.
pub const RECOVERED_MAX: usize = 65_536;

/// A file that is open for writing. What it says of a block is about the open last one, if there is one.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct OpenFile {
    /// Who writes it, or wrote it until a recovery began.
    pub session: SessionId,
    /// The stamp of the recovery that has fenced the writer.
    pub recovery_stamp: Option<Stamp>,
    /// The block's stamp when its writer got it.
    pub first_stamp: Stamp,
    /// The highest stamp that was given to the writer; the block has it once the pipeline stands with it.
    pub given_stamp: Stamp,
    /// Bytes that were acknowledged for certain: no recovery makes the block shorter.
    pub acked_length: u64,
    /// Whether a pipeline has stood for certain, so that there are replicas, even if nobody has one any more.
    pub has_stood: bool,
    /// Where the block was told to go, in the order of the pipeline.
    pub pipeline: Vec<StorageId>,
}

impl OpenFile {
    fn new(session: SessionId) -> Self {
        Self {
            session,
            recovery_stamp: None,
            first_stamp: Stamp(0),
            given_stamp: Stamp(0),
            acked_length: 0,
            has_stood: false,
            pipeline: Vec::new(),
        }
    }

    /// The file has a new, empty last block.
    pub fn begin_block(&mut self, stamp: Stamp, pipeline: Vec<StorageId>) {
        *self = Self { first_stamp: stamp, given_stamp: stamp, pipeline, ..Self::new(self.session) };
    }

    /// The file has no open block any more.
    pub fn end_block(&mut self) {
        *self = Self::new(self.session);
    }

    /// The highest stamp that a replica of the block can have.
    pub fn highest_stamp(&self) -> Stamp {
        self.recovery_stamp.unwrap_or_default().max(self.given_stamp)
    }
}

/// A file that was closed although its writer had not asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Recovered {
    /// Who wrote it.
    pub session: SessionId,
    /// Its last block as it is now.
    pub last: Option<BlockRefV1>,
    /// The writer knows that block by a stamp from this one ...
    pub first_stamp: Stamp,
    /// ... to this one.
    pub given_stamp: Stamp,
    /// The record that closed it.
    pub index: LogIndex,
}

impl Recovered {
    /// Whether `session` wrote the file, and what it last saw acknowledged is what the file has.
    pub fn is_as_left(&self, session: SessionId, acked: Option<BlockRefV1>) -> bool {
        let is_same = match (self.last, acked) {
            (None, None) => true,
            (Some(last), Some(acked)) => {
                let is_known = (self.first_stamp..=self.given_stamp).contains(&acked.stamp);
                last.block == acked.block
                    && last.length == acked.length
                    && (is_known || last.stamp == acked.stamp)
            }
            _ => false,
        };
        self.session == session && is_same
    }
}

/// All open files, and those that were recovered.
#[derive(Debug, Default)]
pub struct Leases {
    open: BTreeMap<InodeId, OpenFile>,
    /// Derived from `open`.
    by_session: BTreeSet<(SessionId, InodeId)>,
    recovered: BTreeMap<InodeId, Recovered>,
    /// Derived from `recovered`.
    by_age: BTreeSet<(LogIndex, InodeId)>,
    /// Bytes that writers have told of the last blocks of open files. Not logged: what is told of a file goes with its lease.
    told: BTreeMap<InodeId, (BlockId, u64)>,
}

impl Leases {
    /// A session opens a file. Whoever wrote it before does not come back.
    pub fn open(&mut self, inode: InodeId, session: SessionId) {
        self.put(inode, OpenFile::new(session));
        self.forget_recovered(inode);
    }

    /// An open file as it was, for checkpoints.
    pub fn put(&mut self, inode: InodeId, file: OpenFile) {
        self.by_session.insert((file.session, inode));
        if let Some(before) = self.open.insert(inode, file) {
            let after = &self.open[&inode];
            if before.session != after.session {
                self.by_session.remove(&(before.session, inode));
            }
        }
    }

    /// A file is open no more.
    pub fn close(&mut self, inode: InodeId) -> Option<OpenFile> {
        self.told.remove(&inode);
        let file = self.open.remove(&inode)?;
        self.by_session.remove(&(file.session, inode));
        Some(file)
    }

    /// A file is gone.
    pub fn forget(&mut self, inode: InodeId) {
        self.close(inode);
        self.forget_recovered(inode);
    }

    /// An open file.
    pub fn get(&self, inode: InodeId) -> Option<&OpenFile> {
        self.open.get(&inode)
    }

    /// An open file, to change what is known of its block.
    pub fn get_mut(&mut self, inode: InodeId) -> Option<&mut OpenFile> {
        self.open.get_mut(&inode)
    }

    /// The writer of an open file says how many bytes its last block has.
    pub fn tell(&mut self, inode: InodeId, block: BlockId, length: u64) {
        if self.open.contains_key(&inode) {
            self.told.insert(inode, (block, length));
        }
    }

    /// What the writer of a file has last told of the length of a block.
    pub fn told(&self, inode: InodeId, block: BlockId) -> Option<u64> {
        self.told.get(&inode).filter(|(of, _)| *of == block).map(|(_, length)| *length)
    }

    /// The files that a session has open, ascending.
    pub fn files_of(&self, session: SessionId) -> impl Iterator<Item = InodeId> + '_ {
        let all = (session, InodeId(0))..=(session, InodeId(u64::MAX));
        self.by_session.range(all).map(|(_, inode)| *inode)
    }

    /// All open files, by inode.
    pub fn iter(&self) -> impl Iterator<Item = (InodeId, &OpenFile)> + '_ {
        self.open.iter().map(|(inode, file)| (*inode, file))
    }

    /// The open files behind an inode.
    pub fn after(&self, inode: InodeId) -> impl Iterator<Item = (InodeId, &OpenFile)> + '_ {
        let behind = (Bound::Excluded(inode), Bound::Unbounded);
        self.open.range(behind).map(|(inode, file)| (*inode, file))
    }

    /// How many files are open.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Remembers a writer that may come back.
    pub fn remember(&mut self, inode: InodeId, recovered: Recovered) {
        self.forget_recovered(inode);
        self.by_age.insert((recovered.index, inode));
        self.recovered.insert(inode, recovered);
        while self.recovered.len() > RECOVERED_MAX {
            let Some((_, oldest)) = self.by_age.pop_first() else { return };
            self.recovered.remove(&oldest);
        }
    }

    /// How a file was closed without its writer.
    pub fn recovered(&self, inode: InodeId) -> Option<&Recovered> {
        self.recovered.get(&inode)
    }

    /// All that is remembered, by inode.
    pub fn iter_recovered(&self) -> impl Iterator<Item = (InodeId, &Recovered)> + '_ {
        self.recovered.iter().map(|(inode, recovered)| (*inode, recovered))
    }

    fn forget_recovered(&mut self, inode: InodeId) {
        if let Some(recovered) = self.recovered.remove(&inode) {
            self.by_age.remove(&(recovered.index, inode));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: SessionId = SessionId([1; 16]);
    const BOB: SessionId = SessionId([2; 16]);

    fn recovered(index: u64) -> Recovered {
        let last = BlockRefV1 { block: BlockId(7), stamp: Stamp(9), length: 100 };
        Recovered {
            session: ANN,
            last: Some(last),
            first_stamp: Stamp(3),
            given_stamp: Stamp(5),
            index: LogIndex(index),
        }
    }

    #[test]
    fn files_are_found_by_their_writer() {
        let mut leases = Leases::default();
        leases.open(InodeId(3), ANN);
        leases.open(InodeId(2), ANN);
        leases.open(InodeId(4), BOB);
        leases.open(InodeId(3), BOB);
        assert_eq!(leases.files_of(ANN).collect::<Vec<_>>(), [InodeId(2)]);
        assert_eq!(leases.files_of(BOB).collect::<Vec<_>>(), [InodeId(3), InodeId(4)]);
        leases.close(InodeId(3));
        leases.forget(InodeId(4));
        assert_eq!((leases.files_of(BOB).count(), leases.count()), (0, 1));
    }

    #[test]
    fn a_writer_finds_its_file_as_it_left_it_by_any_stamp_it_can_know() {
        let acked = |stamp, length| Some(BlockRefV1 { block: BlockId(7), stamp: Stamp(stamp), length });
        let is_as_left = |session, acked| recovered(1).is_as_left(session, acked);
        for (stamp, expected) in [(2, false), (3, true), (4, true), (5, true), (6, false), (9, true)] {
            assert_eq!(is_as_left(ANN, acked(stamp, 100)), expected, "stamp {stamp}");
        }
        assert!(!is_as_left(ANN, acked(3, 99)) && !is_as_left(BOB, acked(3, 100)) && !is_as_left(ANN, None));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut leases = Leases::default();
        for inode in 1..=RECOVERED_MAX as u64 + 1 {
            leases.remember(InodeId(inode), recovered(inode));
        }
        assert_eq!(leases.iter_recovered().count(), RECOVERED_MAX);
        assert!(leases.recovered(InodeId(1)).is_none() && leases.recovered(InodeId(2)).is_some());
        leases.open(InodeId(2), BOB);
        assert!(leases.recovered(InodeId(2)).is_none(), "another has opened it");
    }
}
