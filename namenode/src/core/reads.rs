//! Calls that change nothing: answered at once from applied state.

use ringfs_proto::capability::{Capability, CapabilityBytes, LIFETIME_S, Mode};
use ringfs_proto::ids::{BlockId, InodeId, PrincipalId};
use ringfs_proto::limits::{CHUNK_BYTES_NATIVE, LOCATED_BLOCKS_MAX, PACKET_DATA_BYTES_DEFAULT};
use ringfs_proto::meta::admin::{DatanodeReportReplyV1, FsStatsReplyV1, ServerDefaultsReplyV1};
use ringfs_proto::meta::namespace::{GetBlockLocationsReplyV1, GetBlockLocationsRequestV1, LocatedBlockV1};
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::values::{OPENED_BYTES_MAX, located_bytes};
use super::{Core, Now};
use crate::blocks::StorageIndex;
use crate::calls::{Call, Reply, Request};
use crate::state::{Asked, BlockView, FileView};

impl Core {
    /// Answers a read; `None` for everything else.
    pub(super) fn read(&mut self, call: &Call, now: Now) -> Option<Result<Reply, WireError>> {
        Some(match &call.request {
            Request::Ping(request) => Ok(Reply::Ping(request.clone())),
            Request::Stat(request) => {
                let path = self.path_for(call, &request.path, Asked::TRAVERSE);
                path.and_then(|path| self.state.stat(&path)).map(Reply::Stat)
            }
            Request::List(request) => {
                let list =
                    |path: Components<'_>| self.state.list(&path, &request.start_after, request.entries_max);
                let asked = self.state.to_list(&request.path);
                self.path_for(call, &request.path, asked).and_then(list).map(Reply::List)
            }
            Request::GetBlockLocations(request) => {
                self.locations(request, call, now).map(Reply::GetBlockLocations)
            }
            Request::FsStats(_) => Ok(Reply::FsStats(self.fs_stats())),
            Request::DatanodeReport(_) => {
                let datanodes = self.nodes.report(now.mono_ms);
                Ok(Reply::DatanodeReport(DatanodeReportReplyV1 { datanodes }))
            }
            Request::ServerDefaults(_) => Ok(Reply::ServerDefaults(ServerDefaultsReplyV1 {
                block_size: self.config.block_size,
                replication: self.config.replication,
                chunk_bytes: CHUNK_BYTES_NATIVE,
                packet_bytes: PACKET_DATA_BYTES_DEFAULT as u32,
                trash_interval_minutes: self.config.trash_interval_minutes,
                inline_bytes_max: self.inline_bytes_max(),
            })),
            Request::CheckFiles(request) => self.check_files(request, call).map(Reply::CheckFiles),
            Request::Activity(request) => Ok(Reply::Activity(self.activity(request, now))),
            Request::BatchOpen(request) => self.batch_open(request, call, now),
            Request::ReadValue(request) => self.read_value(request, now).map(Reply::ReadValue),
            _ => return self.attribute_read(call).or_else(|| self.tree_read(call, now)),
        })
    }

    pub(super) fn locations(
        &mut self,
        request: &GetBlockLocationsRequestV1,
        call: &Call,
        now: Now,
    ) -> Result<GetBlockLocationsReplyV1, WireError> {
        self.check_readable(call, &request.file)?;
        let file = self.state.file_ref(&request.file)?;
        let views: Vec<BlockView> =
            self.state.blocks_in(&file, request.offset, request.length).take(LOCATED_BLOCKS_MAX).collect();
        let (mut blocks, mut bytes) = (Vec::new(), 0);
        for view in &views {
            let block = self.locate(&file, view, call, now);
            bytes += located_bytes(&block);
            // The rest is for the next call.
            if bytes > OPENED_BYTES_MAX && !blocks.is_empty() {
                break;
            }
            blocks.push(block);
        }
        if !call.caller.renews_leases {
            self.want_values(&mut blocks);
        }
        let status = self.state.stat_inode(file.inode);
        let gone = || WireError::new(Code::NotFound, format!("inode {} does not exist", file.inode));
        let status = status.ok_or_else(gone)?;
        self.note_access(&status, now);
        Ok(GetBlockLocationsReplyV1 { status, blocks })
    }

    /// A block for reading.
    pub(super) fn locate(
        &mut self,
        file: &FileView,
        view: &BlockView,
        call: &Call,
        now: Now,
    ) -> LocatedBlockV1 {
        if view.value.is_some() && call.caller.renews_leases {
            // HDFS clients know datanodes only: any of them asks for the bytes.
            let storages = self.nodes.some_live(call.caller.address, usize::from(file.replication));
            let located = self.located(file, view, &storages, Mode::Read, call, now);
            return LocatedBlockV1 { inline: Some(Vec::new()), ..located };
        }
        if view.value.is_some() {
            return LocatedBlockV1 {
                inline: Some(Vec::new()),
                capability: [0; size_of::<CapabilityBytes>()],
                ..self.located(file, view, &[], Mode::Read, call, now)
            };
        }
        let mut storages: Vec<StorageIndex> = self.blocks.storages(view.slot).collect();
        let (mut are_all_nodes, mut is_begun) = (true, true);
        if view.is_open {
            (are_all_nodes, is_begun) = self.where_open(file, view, &mut storages);
        }
        if storages.is_empty() && !view.is_open {
            storages = self.blocks.last_resort(view.slot, view.block);
        }
        self.nodes.sort_for_reading(&mut storages, call.caller.address);
        let located = self.located(file, view, &storages, Mode::Read, call, now);
        LocatedBlockV1 { are_all_nodes, is_begun, ..located }
    }

    /// Adds who may have an open block: where the log says that it was to go, which a restart does not forget, and who has
    /// reported a replica that counts. Returns whether these are all, and whether replicas were made for certain.
    fn where_open(
        &self,
        file: &FileView,
        view: &BlockView,
        storages: &mut Vec<StorageIndex>,
    ) -> (bool, bool) {
        let Some(logged) = self.state.leases().get(file.inode) else { return (false, true) };
        let here = logged.pipeline.iter().filter_map(|storage| self.nodes.index_of(*storage));
        storages.extend(here.filter(|storage| !self.nodes.is_gone(*storage)));
        let are_all = storages.len() == logged.pipeline.len();
        if let Some(open) = self.blocks.open(view.slot) {
            let current = open.replicas.iter().filter(|(_, replica)| replica.block.stamp >= view.block.stamp);
            storages.extend(open.pipeline.iter().chain(current.map(|(storage, _)| storage)));
        }
        storages.sort_unstable();
        storages.dedup();
        (are_all, logged.has_stood || logged.acked_length > 0)
    }

    /// A new block for writing, with the pipeline that was logged for it.
    ///
    /// # Errors
    /// `NotFound`; `Busy` after a restart, until a datanode of the pipeline is back.
    pub(super) fn locate_for_writing(
        &mut self,
        inode: InodeId,
        block: BlockId,
        call: &Call,
        now: Now,
    ) -> Result<LocatedBlockV1, WireError> {
        let gone = || WireError::new(Code::NotFound, format!("block {block} of inode {inode} is gone"));
        let (view, file) = self.state.block(block).ok_or_else(gone)?;
        let mut pipeline = self.blocks.open(view.slot).map(|open| open.pipeline.clone()).unwrap_or_default();
        if pipeline.is_empty() && view.is_open {
            pipeline = self.logged_pipeline(inode);
            if pipeline.is_empty() {
                let message =
                    format!("no datanode of the pipeline of block {block} is back after the restart");
                return Err(WireError::new(Code::Busy, message));
            }
            self.blocks.set_pipeline(view.slot, pipeline.clone(), 0);
        }
        let offset = self
            .state
            .last_block_of(&file)
            .filter(|last| last.slot == view.slot)
            .map_or(0, |last| last.offset);
        Ok(self.located(&file, &BlockView { offset, ..view }, &pipeline, Mode::Write, call, now))
    }

    fn located(
        &self,
        file: &FileView,
        view: &BlockView,
        storages: &[StorageIndex],
        mode: Mode,
        call: &Call,
        now: Now,
    ) -> LocatedBlockV1 {
        LocatedBlockV1 {
            block: view.block,
            offset: view.offset,
            is_open: view.is_open,
            nodes: storages.iter().map(|storage| self.nodes.node(*storage)).collect(),
            are_all_nodes: true,
            is_begun: false,
            capability: self.sign(file, view, mode, call, now),
            inline: None,
        }
    }

    pub(super) fn sign(
        &self,
        file: &FileView,
        view: &BlockView,
        mode: Mode,
        call: &Call,
        now: Now,
    ) -> CapabilityBytes {
        let user = self.state.principal(&call.caller.user).unwrap_or(PrincipalId(u32::MAX));
        self.sign_for(file, view, mode, user, now)
    }

    /// A capability for whoever acts on behalf of `user`.
    pub(super) fn sign_for(
        &self,
        file: &FileView,
        view: &BlockView,
        mode: Mode,
        user: PrincipalId,
        now: Now,
    ) -> CapabilityBytes {
        self.key.sign(&Capability {
            mode,
            checksum: file.checksum,
            chunk_bytes: if file.chunk_bytes == 0 { CHUNK_BYTES_NATIVE } else { file.chunk_bytes },
            user,
            block: view.block.block,
            stamp: view.block.stamp,
            length_limit: file.block_size.max(view.block.length),
            expires_s: now.wall_ms / 1000 + LIFETIME_S,
        })
    }

    /// Totals.
    pub(super) fn fs_stats(&self) -> FsStatsReplyV1 {
        let counts = self.state.counts();
        let sum = |value: fn(&ringfs_proto::meta::membership::VolumeStatusV1) -> u64| {
            self.nodes.volumes().map(value).sum()
        };
        let [datanodes_live, datanodes_stale, datanodes_dead] = self.nodes.counts();
        FsStatsReplyV1 {
            cluster: self.cluster,
            capacity_bytes: sum(|volume| volume.capacity_bytes),
            used_bytes: sum(|volume| volume.used_bytes),
            remaining_bytes: sum(|volume| volume.remaining_bytes),
            files: counts.files,
            directories: counts.directories,
            blocks: counts.blocks,
            open_files: self.state.open_files() as u64,
            under_replicated_blocks: self.replication.short(),
            missing_blocks: self.replication.missing(),
            corrupt_blocks: self.blocks.corrupt_blocks(),
            pending_deletion_blocks: self.nodes.pending_invalidations(),
            datanodes_live,
            datanodes_stale,
            datanodes_dead,
            safe_mode: self.safe_mode_reason(),
            applied: self.state.applied(),
            pending_replication_blocks: self.replication.copied(),
            excess_replicas: self.blocks.doomed_count(),
            checkpoint: self.checkpoints.last,
            wal_dirs_failed: self.log_dirs_failed,
            namespace_bytes: (self.state.memory_bytes() + self.blocks.memory_bytes()) as u64,
        }
    }

    /// Puts what monitors see into the metrics.
    pub(super) fn update_gauges(&self) {
        let counts = self.state.counts();
        let [live, stale, dead] = self.nodes.counts();
        let gauges = &self.metrics.gauges;
        gauges.files.set(counts.files);
        gauges.directories.set(counts.directories);
        gauges.blocks.set(counts.blocks);
        gauges.blocks_missing.set(self.replication.missing());
        gauges.blocks_short.set(self.replication.short());
        gauges.blocks_corrupt.set(self.blocks.corrupt_blocks());
        gauges.blocks_copied.set(self.replication.copied());
        gauges.replicas_doomed.set(self.blocks.doomed_count());
        gauges.copying_waits.set(u64::from(self.nodes.is_copying_held()));
        gauges.replicas_leaving.set(self.blocks.leaving_count());
        gauges.open_files.set(self.state.open_files() as u64);
        gauges.recoveries.set(self.recoveries.count() as u64);
        gauges.pending_deletions.set(self.nodes.pending_invalidations());
        gauges.datanodes_live.set(u64::from(live));
        gauges.datanodes_stale.set(u64::from(stale));
        gauges.datanodes_dead.set(u64::from(dead));
        gauges.safe_mode.set(u64::from(!self.safe_mode_reason().is_empty()));
        gauges.parked.set(self.parked.count() as u64);
        gauges.applied.set(self.state.applied().0);
        gauges.checkpoint.set(self.checkpoints.last.0);
        gauges.checkpoint_running.set(u64::from(self.is_checkpoint_running()));
        gauges.values.set(self.state.values().count);
        gauges.value_bytes.set(self.state.values().bytes);
        gauges.value_segments.set(self.state.values().by_segment.len() as u64);
        gauges.wal_dirs_failed.set(u64::from(self.log_dirs_failed));
    }
}
