//! Client and namenode: many inodes in one call. Every call is bounded: an answer that is not complete says where to go on.

use crate::ids::{BlockId, InodeId, SessionId};
use crate::meta::namespace::{FileStatusV1, LocatedBlockV1};

/// Asks for a page of all that is below a directory, depth first, siblings in the order of the bytes of their names.
///
/// What changes between two pages is seen or not; what stays is seen exactly once. With `depth_max` 1 and
/// `with_locations` it is HDFS's `getListing` with `needLocation`. Errors: `NotFound`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct WalkRequestV1 {
    /// Absolute path of a directory; a file is its own only entry, with an empty path.
    pub path: String,
    /// `next` of the page before; empty for the first page.
    pub start_after: String,
    /// Levels below the directory that are entered; 0 means all.
    pub depth_max: u32,
    /// Whether directories are left out.
    pub files_only: bool,
    /// Whether the blocks of files are told, with capabilities to read them.
    pub with_locations: bool,
    /// Entries wanted; the server sends at most `LIST_PAGE_ENTRIES_MAX`, 0 means that.
    pub entries_max: u32,
}

/// A file or directory below the one that was asked about.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct WalkEntryV1 {
    /// Path below the directory, without a leading slash.
    pub path: String,
    /// Its status, with an empty name.
    pub status: FileStatusV1,
    /// The first blocks of a file, if they were asked for.
    pub blocks: Vec<LocatedBlockV1>,
    /// Whether `blocks` are all; if not, `GetBlockLocations` has the rest.
    pub has_all_blocks: bool,
}

/// A page of a tree.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct WalkReplyV1 {
    /// May be empty although there is more: the server looks at a bounded number of inodes in one call.
    pub entries: Vec<WalkEntryV1>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<String>,
}

/// Asks for a page of the paths that match a pattern. HDFS: `Globber`, `GlobPattern`.
///
/// In a name, `?` is one character, `*` any number of them, `[a-c]` one of some, `[^a-c]` or `[!a-c]` one of all others,
/// `{a,b}` one of several texts, which may contain slashes; `\` takes the meaning from the character behind it. Errors:
/// `InvalidArgument` (no pattern, or one that is too large), `LimitExceeded` (more than `GLOB_PATTERNS_MAX` patterns come
/// out of texts with slashes).
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GlobRequestV1 {
    /// Absolute path with patterns in its names.
    pub pattern: String,
    /// `next` of the page before; empty for the first page.
    pub start_after: String,
    /// Matches wanted; the server sends at most `LIST_PAGE_ENTRIES_MAX`, 0 means that.
    pub entries_max: u32,
}

/// A path that matches.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GlobMatchV1 {
    /// Absolute path.
    pub path: String,
    /// Its status, with an empty name.
    pub status: FileStatusV1,
}

/// A page of matches, ordered component by component. A pattern with texts that contain slashes is several patterns, one
/// after the other, and a path that matches two of them comes twice.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GlobReplyV1 {
    /// May be empty although there is more.
    pub matches: Vec<GlobMatchV1>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<String>,
}

/// Asks for the status of several paths.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct BatchStatRequestV1 {
    /// Absolute paths, at most `BATCH_PATHS_MAX`.
    pub paths: Vec<String>,
}

/// What became of one path.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum StatResultV1 {
    /// Its status.
    Found(FileStatusV1),
    /// An error code and its message.
    Failed(u16, String),
}

/// Results in the order of the paths, for as many of the first paths as fit into a frame: at least one.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct BatchStatReplyV1 {
    /// One for each path; a client asks again for those at the end that have none.
    pub results: Vec<StatResultV1>,
}

/// Asks what there is at and below a path. HDFS: `ClientProtocol.getContentSummary`. Errors: `NotFound`, `Busy`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ContentSummaryRequestV1 {
    /// Absolute path.
    pub path: String,
}

/// Totals of a tree. A tree that changes meanwhile is counted partly before and partly after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ContentSummaryReplyV1 {
    /// Files.
    pub files: u64,
    /// Directories, the path itself included.
    pub directories: u64,
    /// Bytes in all files; an open block counts nothing.
    pub length: u64,
    /// Bytes in all wanted replicas; an open block counts as full.
    pub space_consumed: u64,
}

/// Asks for a page of the files that are open for writing. HDFS: `ClientProtocol.listOpenFiles`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ListOpenFilesRequestV1 {
    /// Only what is at or below this absolute path is told.
    pub path: String,
    /// `next` of the page before; 0 for the first page.
    pub after: InodeId,
    /// Entries wanted; the server sends at most `LIST_PAGE_ENTRIES_MAX`, 0 means that.
    pub entries_max: u32,
}

/// A file that is open for writing.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct OpenFileV1 {
    /// The file.
    pub inode: InodeId,
    /// Its absolute path.
    pub path: String,
    /// Who writes it, or wrote it until its lease began to be recovered.
    pub session: SessionId,
    /// The writer's user; empty while its session has no connection.
    pub user: String,
    /// The writer's numeric IP address; empty while its session has no connection.
    pub host: String,
    /// Whether its lease is being recovered.
    pub is_recovering: bool,
}

/// A page of open files, by inode.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ListOpenFilesReplyV1 {
    /// May be empty although there is more.
    pub files: Vec<OpenFileV1>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<InodeId>,
}

/// Asks for a page of the blocks without a good replica. HDFS: `ClientProtocol.listCorruptFileBlocks`.
///
/// Errors: `SafeMode` while the blocks are not reported yet after a start.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ListCorruptFilesRequestV1 {
    /// Only what is at or below this absolute path is told.
    pub path: String,
    /// `next` of the page before; 0 for the first page. It means nothing to another process of the namenode.
    pub cookie: u64,
}

/// A file with a block that nobody can read now.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CorruptFileV1 {
    /// Its absolute path.
    pub path: String,
    /// The file.
    pub inode: InodeId,
    /// The block.
    pub block: BlockId,
}

/// A page of blocks without a good replica, in no order; a file with several comes several times.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ListCorruptFilesReplyV1 {
    /// May be empty although there is more.
    pub files: Vec<CorruptFileV1>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<u64>,
}

crate::impl_message!(
    WalkRequestV1,
    WalkReplyV1,
    GlobRequestV1,
    GlobReplyV1,
    BatchStatRequestV1,
    BatchStatReplyV1,
    ContentSummaryRequestV1,
    ContentSummaryReplyV1,
    ListOpenFilesRequestV1,
    ListOpenFilesReplyV1,
    ListCorruptFilesRequestV1,
    ListCorruptFilesReplyV1,
);
