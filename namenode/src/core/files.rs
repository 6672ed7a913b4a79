//! Changes of closed files: append, truncate, concat. What depends on where replicas are is decided here.

use ringfs_proto::ids::{InodeId, StorageId};
use ringfs_proto::limits::{CONCAT_SOURCES_MAX, PIPELINE_NODES_MAX};
use ringfs_proto::meta::changes::{AppendReplyV1, AppendRequestV1, ConcatRequestV1, TruncateRequestV1};
use ringfs_proto::meta::namespace::{BlockRefV1, FileKind, FileRefV1, LocatedBlockV1};
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::{Core, Now};
use crate::blocks::StorageIndex;
use crate::calls::{Call, Reply};
use crate::state::{Access, Asked, BlockView, FileView};
use crate::wal::record::{AppendV1, ChangeV1, ConcatV1, CutV1, TruncateV1};

impl Core {
    pub(super) fn filter_append(
        &mut self,
        request: &AppendRequestV1,
        call: &Call,
    ) -> Result<ChangeV1, WireError> {
        self.check_safe_mode(&format!("append to {}", request.path))?;
        let path = self.path_for(call, &request.path, Asked::target(Access::WRITE))?;
        if self.state.stat(&path)?.kind == FileKind::Directory {
            let message =
                format!("Cannot append to directory {}; already exists as a directory.", request.path);
            return Err(WireError::new(Code::IsADirectory, message));
        }
        let path = path.canonical();
        let file = self.state.file_ref(&FileRefV1::Path(path.clone()))?;
        let last = self.state.last_block_of(&file);
        let goes_on =
            |last: &BlockView| !last.is_open && last.value.is_none() && last.block.length < file.block_size;
        let Some(view) = last.filter(|last| !request.new_block && goes_on(last)) else {
            return Ok(ChangeV1::Append(AppendV1 { path, reopened: None, pipeline: Vec::new() }));
        };
        let mut holders = self.holders_now(&view);
        if holders.is_empty() && file.session.is_none() {
            return Err(self.not_replicated("append", &path, view.block));
        }
        self.nodes.sort_for_reading(&mut holders, call.caller.address);
        holders.truncate(PIPELINE_NODES_MAX);
        let pipeline: Vec<StorageId> = holders.iter().map(|holder| self.nodes.storage_id(*holder)).collect();
        Ok(ChangeV1::Append(AppendV1 { path, reopened: Some(view.block), pipeline }))
    }

    pub(super) fn filter_truncate(
        &mut self,
        request: &TruncateRequestV1,
        call: &Call,
    ) -> Result<ChangeV1, WireError> {
        let TruncateRequestV1 { path, length } = request;
        self.check_safe_mode(&format!("truncate {path}"))?;
        let path = self.path_for(call, path, Asked::target(Access::WRITE))?.canonical();
        let file = self.state.file_ref(&FileRefV1::Path(path.clone()))?;
        let cut = match self.state.cut_at(&file, *length).filter(|_| file.session.is_none()) {
            Some(view) if view.value.is_some() => None,
            Some(view) if self.holders_now(&view).is_empty() => {
                return Err(self.not_replicated("truncate", &path, view.block));
            }
            Some(view) => {
                let (block, stamp) = self.next_block();
                Some(CutV1 { old: view.block, block, stamp })
            }
            None => None,
        };
        Ok(ChangeV1::Truncate(TruncateV1 { path, length: *length, cut }))
    }

    pub(super) fn filter_concat(&self, request: &ConcatRequestV1) -> Result<ChangeV1, WireError> {
        self.check_safe_mode(&format!("concat {}", request.target))?;
        let count = request.sources.len();
        if count == 0 || count > CONCAT_SOURCES_MAX {
            let message = format!("concat: {count} sources given, not 1 to {CONCAT_SOURCES_MAX}");
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        let canonical = |path: &String| Ok(Components::parse(path)?.canonical());
        let sources = request.sources.iter().map(canonical).collect::<Result<_, WireError>>()?;
        Ok(ChangeV1::Concat(ConcatV1 { target: canonical(&request.target)?, sources }))
    }

    /// Storages with a good replica of a committed block that can be asked now.
    pub(super) fn holders_now(&self, view: &BlockView) -> Vec<StorageIndex> {
        self.blocks.storages(view.slot).filter(|storage| !self.nodes.is_gone(*storage)).collect()
    }

    fn not_replicated(&self, verb: &str, path: &str, block: BlockRefV1) -> WireError {
        let message =
            format!("{verb}: block {} of {path} has no good replica that is known now", block.block);
        WireError::new(Code::NotReplicatedYet, message)
    }

    /// Answers who has opened a file for appending.
    pub(super) fn appended(&mut self, inode: InodeId, call: &Call, now: Now) -> Result<Reply, WireError> {
        let file = self.state.file(inode)?;
        let gone = || WireError::new(Code::NotFound, format!("inode {inode} was deleted"));
        let status = self.state.stat_inode(inode).ok_or_else(gone)?;
        let last = match self.state.last_block_of(&file) {
            Some(view) if view.is_open => Some(self.reopened_block(&file, &view, call, now)?),
            Some(view) => Some(self.locate(&file, &view, call, now)),
            None => None,
        };
        let mut last = last;
        if !call.caller.renews_leases {
            self.want_values(last.as_mut_slice());
        }
        Ok(Reply::Append(AppendReplyV1 { status, last, inline_bytes_max: self.inline_bytes_max() }))
    }

    fn reopened_block(
        &mut self,
        file: &FileView,
        view: &BlockView,
        call: &Call,
        now: Now,
    ) -> Result<LocatedBlockV1, WireError> {
        let length = self.state.leases().get(file.inode).map_or(0, |open| open.acked_length);
        let mut located = self.locate_for_writing(file.inode, view.block.block, call, now)?;
        located.block.length = length;
        located.nodes.truncate(PIPELINE_NODES_MAX);
        Ok(located)
    }
}
