//! What operators look into: what is known of the replicas of files, and what users ask.

use ringfs_proto::limits::{ACTIVITY_USERS_MAX, BATCH_PATHS_MAX, LOCATED_BLOCKS_MAX, META_BYTES_MAX};
use ringfs_proto::meta::inspect::{
    ActivityReplyV1, ActivityRequestV1, CheckFilesReplyV1, CheckFilesRequestV1, CheckedBlockV1,
    CheckedFileV1, CheckedReplicaV1, FileFromV1, OperationActivityV1, ReplicaHealth, UserActivityV1,
};
use ringfs_proto::{Code, WireError};

use super::{Core, Now};
use crate::activity::Usages;
use crate::blocks::{Aside, Fault, StorageIndex};
use crate::calls::Call;
use crate::state::{Asked, BlockView, FileView};

/// Files that are looked at in one call for somebody whose way to each must be checked.
const FILES_CHECKED_MAX: usize = 128;
/// Bytes of a reply, estimated, at which it ends.
const REPLY_BYTES_MAX: usize = META_BYTES_MAX / 2;
/// Bytes of a file, of a block, and of a replica in a reply, estimated from above.
const REPLY_BYTES: (usize, usize, usize) = (32, 64, 128);

/// Room that is left in a reply.
#[derive(Debug)]
struct Room {
    bytes: usize,
    blocks: usize,
}

impl Room {
    fn take_block(&mut self, block: &CheckedBlockV1) {
        self.blocks = self.blocks.saturating_sub(1);
        self.take(REPLY_BYTES.1 + block.replicas.len() * REPLY_BYTES.2);
    }

    fn take(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    fn is_used_up(&self) -> bool {
        self.bytes == 0 || self.blocks == 0
    }
}

impl Core {
    /// HDFS: `NamenodeFsck.collectFileSummary` and `collectBlocksSummary`, for a bounded number of blocks.
    pub(super) fn check_files(
        &self,
        request: &CheckFilesRequestV1,
        call: &Call,
    ) -> Result<CheckFilesReplyV1, WireError> {
        if request.files.len() > BATCH_PATHS_MAX {
            let message =
                format!("check of {} files: at most {BATCH_PATHS_MAX} in one call", request.files.len());
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        let author = call.caller.author();
        let files_max = if author.is_privileged { BATCH_PATHS_MAX } else { FILES_CHECKED_MAX };
        let mut room = Room { bytes: REPLY_BYTES_MAX, blocks: LOCATED_BLOCKS_MAX };
        let mut files = Vec::new();
        for from in request.files.iter().take(files_max) {
            self.state.check_inode(author, from.inode, Asked::TRAVERSE)?;
            files.push(self.check_file(*from, &mut room));
            if room.is_used_up() {
                break;
            }
        }
        Ok(CheckFilesReplyV1 { files })
    }

    fn check_file(&self, from: FileFromV1, room: &mut Room) -> CheckedFileV1 {
        room.take(REPLY_BYTES.0);
        let Ok(file) = self.state.file(from.inode) else {
            return CheckedFileV1 { is_there: false, blocks: Vec::new(), next_offset: None };
        };
        let mut blocks = Vec::new();
        for view in self.state.blocks_in(&file, from.offset, u64::MAX) {
            if !blocks.is_empty() && room.is_used_up() {
                return CheckedFileV1 { is_there: true, blocks, next_offset: Some(view.offset) };
            }
            let block = self.check_block(&file, &view);
            room.take_block(&block);
            blocks.push(block);
        }
        CheckedFileV1 { is_there: true, blocks, next_offset: None }
    }

    fn check_block(&self, file: &FileView, view: &BlockView) -> CheckedBlockV1 {
        if view.value.is_some() {
            return self.check_value(view);
        }
        let (good, mut found) =
            if view.is_open { (Vec::new(), self.open_replicas(view)) } else { self.replicas(view) };
        found.sort_unstable_by_key(|(storage, _)| *storage);
        let replica = |(storage, health)| CheckedReplicaV1 { node: self.nodes.node(storage), health };
        let wanted = usize::from(file.replication);
        CheckedBlockV1 {
            block: view.block,
            offset: view.offset,
            is_open: view.is_open,
            is_misplaced: !good.is_empty() && !self.nodes.are_well_spread(&good, wanted),
            value_copies: 0,
            is_copied: self.replication.is_copied(view.slot),
            replicas: found.into_iter().map(replica).collect(),
        }
    }

    /// Whether its bytes are good is seen by who reads them.
    fn check_value(&self, view: &BlockView) -> CheckedBlockV1 {
        CheckedBlockV1 {
            block: view.block,
            offset: view.offset,
            is_open: false,
            is_misplaced: false,
            is_copied: false,
            value_copies: self.log_copies(),
            replicas: Vec::new(),
        }
    }

    /// Copies that there are of the log.
    fn log_copies(&self) -> u16 {
        let failed = self.log_dirs_failed as usize;
        self.config.wal_dirs.len().saturating_sub(failed).clamp(1, usize::from(u16::MAX)) as u16
    }

    /// The good replicas of a committed block, and all of them.
    fn replicas(&self, view: &BlockView) -> (Vec<StorageIndex>, Vec<(StorageIndex, ReplicaHealth)>) {
        let good: Vec<StorageIndex> = self.blocks.storages(view.slot).collect();
        let mut all: Vec<_> = good.iter().map(|storage| (*storage, ReplicaHealth::Live)).collect();
        all.extend(self.blocks.aside(view.slot).map(|(storage, aside)| (storage, health_of(aside))));
        (good, all)
    }

    fn open_replicas(&self, view: &BlockView) -> Vec<(StorageIndex, ReplicaHealth)> {
        let Some(open) = self.blocks.open(view.slot) else { return Vec::new() };
        let mut storages: Vec<StorageIndex> = open.pipeline.clone();
        storages.extend(open.replicas.keys());
        storages.sort_unstable();
        storages.dedup();
        storages.into_iter().map(|storage| (storage, ReplicaHealth::BeingWritten)).collect()
    }

    /// Adds what users asked since this was called last.
    pub fn note_usages(&mut self, usages: &Usages) {
        self.usages.add_all(usages);
    }

    /// HDFS has no such call; its `nntop` metrics say a part of this.
    pub(super) fn activity(&self, request: &ActivityRequestV1, now: Now) -> ActivityReplyV1 {
        let most = ACTIVITY_USERS_MAX;
        let users_max = if request.users_max == 0 { most } else { request.users_max.min(most) };
        let connections = self.sessions.connections_by_user();
        let users = self.usages.busiest(users_max as usize).into_iter().map(|(user, usage)| UserActivityV1 {
            user: user.to_owned(),
            connections: connections.get(user).copied().unwrap_or(0),
            calls: usage.calls,
            refused: usage.refused,
            waited_us: usage.waited_us,
        });
        let operation = |(op, calls, errors)| OperationActivityV1 { op: op as u16, calls, errors };
        ActivityReplyV1 {
            uptime_ms: now.mono_ms.saturating_sub(self.started_ms),
            operations: self.metrics.operations().map(operation).collect(),
            users: users.collect(),
        }
    }
}

fn health_of(aside: Aside) -> ReplicaHealth {
    match aside {
        Aside::Doomed { fault: None, .. } => ReplicaHealth::Excess,
        Aside::Bad { fault: Fault::Corrupt, .. } | Aside::Doomed { fault: Some(Fault::Corrupt), .. } => {
            ReplicaHealth::Corrupt
        }
        Aside::Bad { fault: Fault::Outdated, .. } | Aside::Doomed { fault: Some(Fault::Outdated), .. } => {
            ReplicaHealth::Outdated
        }
    }
}
