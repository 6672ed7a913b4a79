//! What `fsck` finds of a file, and totals of a tree. HDFS: `NamenodeFsck.collectBlocksSummary`, `ReplicationResult`.

use ringfs_proto::ids::BlockId;
use ringfs_sdk::{CheckedBlock, FileStatus, ReplicaHealth};

/// A file with all that is known of its blocks.
#[derive(Debug)]
pub struct CheckedFile {
    /// Absolute.
    pub path: String,
    /// Its status.
    pub status: FileStatus,
    /// All of its blocks, in order.
    pub blocks: Vec<CheckedBlock>,
    /// Those in the namenode's log that do not verify.
    pub bad_values: Vec<BlockId>,
}

/// Whether the namenode's log has the bytes of a block.
pub fn is_value(block: &CheckedBlock) -> bool {
    block.value_copies > 0
}

/// What is wrong with a block. A block that is being written has no such thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Finding {
    /// Replicas that count.
    pub live: u64,
    /// It has no replica at all.
    pub is_missing: bool,
    /// It has replicas, none of which is good.
    pub is_corrupt: bool,
    /// It has fewer replicas than wanted, and at least one.
    pub is_under: bool,
    /// It has more replicas than wanted.
    pub is_over: bool,
    /// It has enough replicas, on too few racks.
    pub is_misplaced: bool,
}

/// Looks at a block of a file.
pub fn look_at(file: &CheckedFile, block: &CheckedBlock) -> Finding {
    let wanted = u64::from(file.status.replication);
    if is_value(block) {
        let is_corrupt = file.bad_values.contains(&block.block.block);
        return Finding { is_corrupt, ..Finding::default() };
    }
    let count = |is: fn(ReplicaHealth) -> bool| {
        block.replicas.iter().filter(|replica| is(replica.health)).count() as u64
    };
    let live = count(|health| health == ReplicaHealth::Live);
    if block.is_open {
        return Finding { live: count(|health| health == ReplicaHealth::BeingWritten), ..Finding::default() };
    }
    let others = block.replicas.len() as u64 - live;
    Finding {
        live,
        is_missing: live == 0 && others == 0,
        is_corrupt: live == 0 && others > 0,
        is_under: live > 0 && live < wanted,
        is_over: live > wanted,
        is_misplaced: live > 0 && block.is_misplaced,
    }
}

/// What is wrong with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FileFindings {
    /// Blocks without any replica, and their bytes.
    pub missing: (u64, u64),
    /// Blocks of which all replicas are bad, and their bytes.
    pub corrupt: (u64, u64),
    /// Blocks with too few replicas.
    pub under: u64,
    /// Blocks on too few racks.
    pub misplaced: u64,
}

impl FileFindings {
    /// Whether bytes of it cannot be read.
    pub fn is_corrupt(&self) -> bool {
        self.missing.0 > 0 || self.corrupt.0 > 0
    }

    /// Whether nothing is wrong with it.
    pub fn is_ok(&self) -> bool {
        *self == Self::default()
    }
}

/// Looks at a file.
pub fn look_at_file(file: &CheckedFile) -> FileFindings {
    let mut all = FileFindings::default();
    for block in &file.blocks {
        let found = look_at(file, block);
        let add = |(blocks, bytes): (u64, u64), is: bool| {
            if is { (blocks + 1, bytes + block.block.length) } else { (blocks, bytes) }
        };
        all.missing = add(all.missing, found.is_missing);
        all.corrupt = add(all.corrupt, found.is_corrupt);
        all.under += u64::from(found.is_under);
        all.misplaced += u64::from(found.is_misplaced);
    }
    all
}

/// Totals of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Totals {
    /// Directories, that where it began included.
    pub directories: u64,
    /// Files that are closed, or were asked for too.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Their blocks on datanodes.
    pub blocks: u64,
    /// Bytes in those.
    pub block_bytes: u64,
    /// Their blocks in the namenode's log.
    pub values: u64,
    /// Bytes in those.
    pub value_bytes: u64,
    /// Files that are open for writing and were not looked into.
    pub open_files: u64,
    /// Bytes in them.
    pub open_files_bytes: u64,
    /// Their blocks.
    pub open_files_blocks: u64,
    /// Files of which bytes cannot be read.
    pub corrupt_files: u64,
    /// Blocks with at least one good replica.
    pub minimally_replicated_blocks: u64,
    /// Blocks with too many replicas.
    pub over_replicated_blocks: u64,
    /// Blocks with too few, and at least one.
    pub under_replicated_blocks: u64,
    /// Blocks on too few racks.
    pub mis_replicated_blocks: u64,
    /// Blocks without any replica.
    pub missing_blocks: u64,
    /// Bytes in them.
    pub missing_bytes: u64,
    /// Blocks of which all replicas are bad.
    pub corrupt_blocks: u64,
    /// Bytes in them.
    pub corrupt_bytes: u64,
    /// Replicas that count.
    pub replicas: u64,
    /// Replicas that there should be.
    pub wanted_replicas: u64,
    /// Replicas that are missing of blocks that have too few.
    pub missing_replicas: u64,
    /// Blocks that are being copied.
    pub copied_blocks: u64,
}

impl Totals {
    /// Counts a file that is open for writing and is not looked into.
    pub fn add_open(&mut self, file: &CheckedFile) {
        self.open_files += 1;
        self.open_files_bytes += file.status.length;
        self.open_files_blocks += file.blocks.len() as u64;
    }

    /// Counts a file.
    pub fn add(&mut self, file: &CheckedFile) {
        let found = look_at_file(file);
        self.files += 1;
        self.bytes += file.status.length;
        self.corrupt_files += u64::from(found.is_corrupt());
        self.missing_bytes += found.missing.1;
        self.corrupt_bytes += found.corrupt.1;
        for block in &file.blocks {
            let found = look_at(file, block);
            self.missing_blocks += u64::from(found.is_missing);
            self.corrupt_blocks += u64::from(found.is_corrupt);
            if is_value(block) {
                self.values += 1;
                self.value_bytes += block.block.length;
            } else {
                self.add_block(block, found, file.status.replication.into());
            }
        }
    }

    fn add_block(&mut self, block: &CheckedBlock, found: Finding, wanted: u64) {
        self.blocks += 1;
        self.block_bytes += block.block.length;
        self.minimally_replicated_blocks += u64::from(found.live > 0);
        self.over_replicated_blocks += u64::from(found.is_over);
        self.under_replicated_blocks += u64::from(found.is_under);
        self.mis_replicated_blocks += u64::from(found.is_misplaced);
        self.replicas += found.live;
        self.wanted_replicas += wanted;
        self.missing_replicas += if found.is_under { wanted - found.live } else { 0 };
        self.copied_blocks += u64::from(block.is_copied);
    }

    /// Whether all bytes can be read.
    pub fn is_healthy(&self) -> bool {
        self.corrupt_files == 0
    }
}

#[cfg(test)]
pub mod tests {
    use ringfs_proto::ids::{DatanodeId, InodeId, LogIndex, Stamp, StorageId};
    use ringfs_sdk::{BlockRef, CheckedReplica, FileKind, Node};

    use super::*;

    /// A replica on the datanode of this number.
    pub fn replica(number: u8, health: ReplicaHealth) -> CheckedReplica {
        let node = Node {
            datanode: DatanodeId([number; 16]),
            storage: StorageId([number; 16]),
            host: format!("10.0.0.{number}"),
            port: 9866,
            is_stale: false,
        };
        CheckedReplica { node, health }
    }

    /// A closed block of 100 bytes.
    pub fn block(number: u64, healths: &[ReplicaHealth]) -> CheckedBlock {
        CheckedBlock {
            block: BlockRef { block: BlockId(number), stamp: Stamp(7), length: 100 },
            offset: 0,
            is_open: false,
            is_misplaced: false,
            is_copied: false,
            value_copies: 0,
            replicas: (1..).zip(healths).map(|(number, health)| replica(number, *health)).collect(),
        }
    }

    /// A closed file that wants two replicas.
    pub fn file(path: &str, blocks: Vec<CheckedBlock>) -> CheckedFile {
        let status = FileStatus {
            inode: InodeId(2),
            kind: FileKind::File,
            name: String::new(),
            length: 100 * blocks.len() as u64,
            told_bytes: 0,
            mode: 0o644,
            owner: "ann".to_owned(),
            group: "staff".to_owned(),
            mtime_ms: 0,
            atime_ms: 0,
            replication: 2,
            block_size: 100,
            children: 0,
            is_open: false,
            version: LogIndex(1),
            has_acl: false,
            storage_policy: 0,
            content_crc: None,
        };
        CheckedFile { path: path.to_owned(), status, blocks, bad_values: Vec::new() }
    }

    use ReplicaHealth::{BeingWritten, Corrupt, Excess, Live, Outdated};

    #[test]
    fn what_is_wrong_with_a_block_is_told_by_its_replicas() {
        let cases: &[(&[ReplicaHealth], Finding)] = &[
            (&[Live, Live], Finding { live: 2, ..Finding::default() }),
            (&[Live, Live, Excess], Finding { live: 2, ..Finding::default() }),
            (&[Live], Finding { live: 1, is_under: true, ..Finding::default() }),
            (&[Live, Corrupt], Finding { live: 1, is_under: true, ..Finding::default() }),
            (&[Live, Live, Live], Finding { live: 3, is_over: true, ..Finding::default() }),
            (&[], Finding { is_missing: true, ..Finding::default() }),
            (&[Corrupt, Outdated], Finding { is_corrupt: true, ..Finding::default() }),
        ];
        for (healths, expected) in cases {
            assert_eq!(look_at(&file("/a", Vec::new()), &block(1, healths)), *expected, "{healths:?}");
        }
        let open = CheckedBlock { is_open: true, ..block(1, &[BeingWritten]) };
        let any = file("/a", Vec::new());
        assert_eq!(look_at(&any, &open), Finding { live: 1, ..Finding::default() });
        let misplaced = CheckedBlock { is_misplaced: true, ..block(1, &[Live, Live]) };
        assert!(look_at(&any, &misplaced).is_misplaced);
        let value = CheckedBlock { value_copies: 2, ..block(1, &[]) };
        assert_eq!(look_at(&any, &value), Finding::default(), "it wants no replica");
        let bad = CheckedFile { bad_values: vec![BlockId(1)], ..any };
        assert_eq!(look_at(&bad, &value), Finding { is_corrupt: true, ..Finding::default() });
    }

    #[test]
    fn totals_count_each_block_where_it_belongs() {
        let mut totals = Totals::default();
        totals.add(&file("/ok", vec![block(1, &[Live, Live]), block(2, &[Live, Live, Live])]));
        assert!(totals.is_healthy());
        totals.add(&file("/short", vec![CheckedBlock { is_copied: true, ..block(3, &[Live]) }]));
        totals.add(&file("/bad", vec![block(4, &[Corrupt]), block(5, &[])]));
        totals.add_open(&file("/open", vec![block(6, &[BeingWritten])]));
        totals.add(&file("/small", vec![CheckedBlock { value_copies: 1, ..block(7, &[]) }]));
        let expected = Totals {
            directories: 0,
            files: 4,
            bytes: 600,
            blocks: 5,
            block_bytes: 500,
            values: 1,
            value_bytes: 100,
            open_files: 1,
            open_files_bytes: 100,
            open_files_blocks: 1,
            corrupt_files: 1,
            minimally_replicated_blocks: 3,
            over_replicated_blocks: 1,
            under_replicated_blocks: 1,
            mis_replicated_blocks: 0,
            missing_blocks: 1,
            missing_bytes: 100,
            corrupt_blocks: 1,
            corrupt_bytes: 100,
            replicas: 6,
            wanted_replicas: 10,
            missing_replicas: 1,
            copied_blocks: 1,
        };
        assert_eq!(totals, expected);
        assert!(!totals.is_healthy());
    }
}
