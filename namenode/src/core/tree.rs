//! Calls about many inodes. Each looks at a bounded number of them and says where the next one goes on.

use ringfs_proto::capability::CAPABILITY_BYTES;
use ringfs_proto::ids::InodeId;
use ringfs_proto::limits::{BATCH_PATHS_MAX, LIST_PAGE_ENTRIES_MAX, LOCATED_BLOCKS_MAX, META_BYTES_MAX};
use ringfs_proto::meta::namespace::{FileKind, FileStatusV1, LocatedBlockV1};
use ringfs_proto::meta::tree::{
    BatchStatReplyV1, BatchStatRequestV1, CorruptFileV1, GlobMatchV1, GlobReplyV1, GlobRequestV1,
    ListCorruptFilesReplyV1, ListCorruptFilesRequestV1, ListOpenFilesReplyV1, ListOpenFilesRequestV1,
    OpenFileV1, StatResultV1, WalkEntryV1, WalkReplyV1, WalkRequestV1,
};
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::{Core, Now};
use crate::calls::{Call, Reply, Request};
use crate::state::{Access, Asked, Everything, Glob, OpenFile, ROOT, Slot};

/// What one call costs the namespace thread at most, in entries that are looked at.
pub const COST_PER_CALL_MAX: usize = 4096;
/// Bytes of a reply, estimated, at which a page ends.
const REPLY_BYTES_MAX: usize = META_BYTES_MAX / 2;
/// Bytes of a status besides its texts, estimated from above.
const STATUS_BYTES: usize = 160;
/// Bytes of a located block, and of each of its nodes.
const LOCATED_BYTES: (usize, usize) = (160, 128);

/// How full a page is.
#[derive(Debug)]
struct Page {
    entries_left: usize,
    bytes_left: usize,
    blocks_left: usize,
}

impl Page {
    fn new(entries_max: u32) -> Self {
        let most = LIST_PAGE_ENTRIES_MAX;
        let entries = if entries_max == 0 { most } else { entries_max.min(most) };
        Self { entries_left: entries as usize, bytes_left: REPLY_BYTES_MAX, blocks_left: LOCATED_BLOCKS_MAX }
    }

    /// Counts an entry in.
    fn add(&mut self, bytes: usize) {
        self.entries_left = self.entries_left.saturating_sub(1);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }

    fn is_full(&self) -> bool {
        self.entries_left == 0 || self.bytes_left == 0 || self.blocks_left == 0
    }
}

impl Core {
    /// Answers a call about many inodes; `None` for everything else.
    pub(super) fn tree_read(&mut self, call: &Call, now: Now) -> Option<Result<Reply, WireError>> {
        Some(match &call.request {
            Request::Walk(request) => self.walk(request, call, now).map(Reply::Walk),
            Request::Glob(request) => self.glob(request, call).map(Reply::Glob),
            Request::BatchStat(request) => self.batch_stat(request, call).map(Reply::BatchStat),
            Request::ListOpenFiles(request) => self.list_open_files(request).map(Reply::ListOpenFiles),
            Request::ListCorruptFiles(request) => {
                self.list_corrupt_files(request).map(Reply::ListCorruptFiles)
            }
            _ => return None,
        })
    }

    fn walk(&mut self, request: &WalkRequestV1, call: &Call, now: Now) -> Result<WalkReplyV1, WireError> {
        let root = self.state.stat(&self.path_for(call, &request.path, Asked::TRAVERSE)?)?;
        let mut page = Page::new(request.entries_max);
        if root.kind == FileKind::File {
            let is_first = request.start_after.is_empty();
            let entry =
                is_first.then(|| self.walk_entry(String::new(), root, request, &mut page, (call, now)));
            return Ok(WalkReplyV1 { entries: entry.into_iter().collect(), next: None });
        }
        let choice = Everything { depth_max: request.depth_max };
        let (mut found, mut next) = (Vec::new(), None);
        let gone = || WireError::new(Code::NotFound, format!("File does not exist: {}", request.path));
        let mut walk = self
            .state
            .walk(call.caller.author(), root.inode, choice, &request.start_after)
            .ok_or_else(gone)?;
        while let Some(visit) = walk.next_visit() {
            if !(request.files_only && visit.is_directory) {
                // Most entries are smaller: what is too much is cut off below.
                page.add(walk.path().len() + STATUS_BYTES);
                found.push((walk.path().to_owned(), visit.inode));
            }
            if page.is_full() || walk.cost() >= COST_PER_CALL_MAX {
                next = Some(walk.path().to_owned());
                break;
            }
        }
        walk.denied()?;
        self.fill_walk(found, next, request, (call, now))
    }

    /// Tells the status, and the blocks, of what a walk has found, as far as a page goes.
    fn fill_walk(
        &mut self,
        found: Vec<(String, InodeId)>,
        next: Option<String>,
        request: &WalkRequestV1,
        by: (&Call, Now),
    ) -> Result<WalkReplyV1, WireError> {
        let mut page = Page::new(0);
        let (mut entries, len) = (Vec::with_capacity(found.len()), found.len());
        for (number, (path, inode)) in found.into_iter().enumerate() {
            let Some(status) = self.state.stat_inode(inode) else { continue };
            entries.push(self.walk_entry(path.clone(), status, request, &mut page, by));
            if page.is_full() && number + 1 < len {
                return Ok(WalkReplyV1 { entries, next: Some(path) });
            }
        }
        Ok(WalkReplyV1 { entries, next })
    }

    fn walk_entry(
        &mut self,
        path: String,
        status: FileStatusV1,
        request: &WalkRequestV1,
        page: &mut Page,
        (call, now): (&Call, Now),
    ) -> WalkEntryV1 {
        page.add(path.len() + status_bytes(&status));
        let (mut blocks, mut has_all_blocks) = (Vec::new(), true);
        if request.with_locations && status.kind == FileKind::File {
            (blocks, has_all_blocks) = self.blocks_of(status.inode, page, call, now);
        }
        WalkEntryV1 { path, status, blocks, has_all_blocks }
    }

    /// The first blocks of a file, for as much room as a page has; at least one.
    fn blocks_of(
        &mut self,
        inode: InodeId,
        page: &mut Page,
        call: &Call,
        now: Now,
    ) -> (Vec<LocatedBlockV1>, bool) {
        let Ok(file) = self.state.file(inode) else { return (Vec::new(), true) };
        let views: Vec<_> = self.state.blocks_in(&file, 0, u64::MAX).take(LOCATED_BLOCKS_MAX + 1).collect();
        let read = Asked::target(Access::READ);
        let may_read = self.state.check_inode(call.caller.author(), inode, read).is_ok();
        let mut blocks = Vec::new();
        for view in &views {
            if !blocks.is_empty() && (page.blocks_left == 0 || page.bytes_left == 0) {
                return (blocks, false);
            }
            let mut located = self.locate(&file, view, call, now);
            if !may_read {
                // Where the bytes are is no secret to who may list the directory; what opens them is.
                located.capability = [0; CAPABILITY_BYTES];
            }
            let bytes = LOCATED_BYTES.0 + located.nodes.len() * LOCATED_BYTES.1;
            page.bytes_left = page.bytes_left.saturating_sub(bytes);
            page.blocks_left = page.blocks_left.saturating_sub(1);
            blocks.push(located);
        }
        (blocks, true)
    }

    /// HDFS: `Globber.glob`, which asks for directory after directory.
    fn glob(&self, request: &GlobRequestV1, call: &Call) -> Result<GlobReplyV1, WireError> {
        let patterns = Glob::expand(&request.pattern)?;
        let (begin, mut after) = cursor(&request.start_after)?;
        let mut page = Page::new(request.entries_max);
        let (mut matches, mut cost) = (Vec::new(), 0);
        for (number, pattern) in patterns.iter().enumerate().skip(begin) {
            let glob = Glob::parse(pattern)?;
            if glob.is_root() {
                let status = self.state.stat_inode(ROOT);
                matches.extend(status.map(|status| GlobMatchV1 { path: "/".to_owned(), status }));
            }
            let Some(mut walk) =
                self.state.walk(call.caller.author(), ROOT, &glob, after).filter(|_| !glob.is_root())
            else {
                continue;
            };
            while let Some(visit) = walk.next_visit() {
                if visit.is_admitted
                    && glob.is_match_at(visit.depth)
                    && let Some(status) = self.state.stat_inode(visit.inode)
                {
                    page.add(walk.path().len() + status_bytes(&status));
                    matches.push(GlobMatchV1 { path: format!("/{}", walk.path()), status });
                }
                if page.is_full() || cost + walk.cost() >= COST_PER_CALL_MAX {
                    return Ok(GlobReplyV1 { matches, next: Some(format!("{number}:{}", walk.path())) });
                }
            }
            walk.denied()?;
            // Compiling a pattern costs as well.
            cost += walk.cost() + pattern.len();
            after = "";
            if cost >= COST_PER_CALL_MAX && number + 1 < patterns.len() {
                return Ok(GlobReplyV1 { matches, next: Some(format!("{}:", number + 1)) });
            }
        }
        Ok(GlobReplyV1 { matches, next: None })
    }

    fn batch_stat(&self, request: &BatchStatRequestV1, call: &Call) -> Result<BatchStatReplyV1, WireError> {
        if request.paths.len() > BATCH_PATHS_MAX {
            let message =
                format!("status of {} paths: at most {BATCH_PATHS_MAX} in one call", request.paths.len());
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        let mut page = Page::new(0);
        let mut results = Vec::with_capacity(request.paths.len());
        for path in &request.paths {
            let path = self.path_for(call, path, Asked::TRAVERSE);
            let result = match path.and_then(|path| self.state.stat(&path)) {
                Ok(status) => {
                    page.add(status_bytes(&status));
                    StatResultV1::Found(status)
                }
                Err(error) => {
                    page.add(STATUS_BYTES + error.message.len());
                    StatResultV1::Failed(error.code as u16, error.message)
                }
            };
            results.push(result);
            if page.is_full() {
                break;
            }
        }
        Ok(BatchStatReplyV1 { results })
    }

    /// HDFS: `FSNamesystem.listOpenFiles`.
    fn list_open_files(&self, request: &ListOpenFilesRequestV1) -> Result<ListOpenFilesReplyV1, WireError> {
        let root = self.state.stat(&Components::parse(&request.path)?)?.inode;
        let mut page = Page::new(request.entries_max);
        let mut files = Vec::new();
        for (number, (inode, file)) in self.state.leases().after(request.after).enumerate() {
            if self.state.is_within(inode, root)
                && let Some(path) = self.state.path_of_inode(inode)
            {
                page.add(path.len() + STATUS_BYTES);
                files.push(self.open_file(inode, path, file));
            }
            if page.is_full() || number + 1 >= COST_PER_CALL_MAX {
                return Ok(ListOpenFilesReplyV1 { files, next: Some(inode) });
            }
        }
        Ok(ListOpenFilesReplyV1 { files, next: None })
    }

    fn open_file(&self, inode: InodeId, path: String, file: &OpenFile) -> OpenFileV1 {
        let (user, host) = self.sessions.who(file.session).unwrap_or_default();
        OpenFileV1 {
            inode,
            path,
            session: file.session,
            user: user.to_owned(),
            host: host.to_owned(),
            is_recovering: file.recovery_stamp.is_some(),
        }
    }

    /// HDFS: `FSNamesystem.listCorruptFileBlocks`.
    fn list_corrupt_files(
        &self,
        request: &ListCorruptFilesRequestV1,
    ) -> Result<ListCorruptFilesReplyV1, WireError> {
        if !self.safe_mode.are_blocks_reported() {
            let message = format!("Cannot list corrupt files: {}", self.safe_mode_reason());
            return Err(WireError::new(Code::SafeMode, message));
        }
        let root = self.state.stat(&Components::parse(&request.path)?)?.inode;
        let mut page = Page::new(0);
        let mut files = Vec::new();
        let Ok(from) = Slot::try_from(request.cookie) else {
            return Ok(ListCorruptFilesReplyV1 { files, next: None });
        };
        for (number, slot) in self.replication.missing_from(from).enumerate() {
            if page.is_full() || number >= COST_PER_CALL_MAX {
                return Ok(ListCorruptFilesReplyV1 { files, next: Some(u64::from(slot)) });
            }
            let Some((view, file)) =
                self.state.block_in_slot(slot).and_then(|block| self.state.block(block.block))
            else {
                continue;
            };
            if self.state.is_within(file.inode, root)
                && let Some(path) = self.state.path_of_inode(file.inode)
            {
                page.add(path.len() + STATUS_BYTES);
                files.push(CorruptFileV1 { path, inode: file.inode, block: view.block.block });
            }
        }
        Ok(ListCorruptFilesReplyV1 { files, next: None })
    }
}

fn status_bytes(status: &FileStatusV1) -> usize {
    STATUS_BYTES + status.name.len() + status.owner.len() + status.group.len()
}

/// Which of several patterns goes on, and behind which path.
fn cursor(text: &str) -> Result<(usize, &str), WireError> {
    if text.is_empty() {
        return Ok((0, ""));
    }
    let parts = text.split_once(':').and_then(|(number, path)| Some((number.parse().ok()?, path)));
    parts.ok_or_else(|| WireError::new(Code::InvalidArgument, format!("no place to go on with: {text}")))
}
