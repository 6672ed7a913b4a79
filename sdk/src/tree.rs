//! Many inodes at once: walks, patterns, batches of paths, totals. What takes several calls is fetched page by page.

use std::sync::Arc;

use ringfs_proto::ids::InodeId;
use ringfs_proto::limits::BATCH_PATHS_MAX;
use ringfs_proto::meta::tree::{
    BatchStatRequestV1, ContentSummaryRequestV1, CorruptFileV1, GlobMatchV1, GlobRequestV1,
    ListCorruptFilesRequestV1, ListOpenFilesRequestV1, OpenFileV1, StatResultV1, WalkEntryV1, WalkRequestV1,
};
use ringfs_proto::ops::{
    BatchStat, ContentSummary as ContentSummaryOp, Glob, ListCorruptFiles, ListOpenFiles, Walk as WalkOp,
};
use ringfs_proto::{Code, WireError};

use crate::client::{Client, Shared};
use crate::error::{Error, Fault, Result};
use crate::{ContentSummary, FileStatus};

/// How a tree is walked. Default: all of it, without the places of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalkOptions {
    /// Levels below the directory that are entered; 0 means all, 1 is a listing.
    pub depth_max: u32,
    /// Whether directories are left out.
    pub files_only: bool,
    /// Whether the places of blocks are told too.
    pub with_locations: bool,
}

/// Answers that come page by page, one after the other; ends after an error. Made by [`Client::walk`],
/// [`Client::open_files`] and [`Client::corrupt_files`].
pub struct Pages<T> {
    page: std::vec::IntoIter<T>,
    fetch: Option<Fetch<T>>,
}

/// Fetches a page, and says how the next one is fetched.
struct Fetch<T>(Box<FetchPage<T>>);

type FetchPage<T> = dyn FnOnce() -> Result<(Vec<T>, Option<Fetch<T>>)> + Send;

impl<T> std::fmt::Debug for Pages<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (fetched, is_complete) = (self.page.len(), self.fetch.is_none());
        formatter.debug_struct("Pages").field("fetched", &fetched).field("is_complete", &is_complete).finish()
    }
}

impl<T> Pages<T> {
    /// The first page is fetched at once, so that a path that is not there is known at once.
    fn begin(first: Fetch<T>) -> Result<Self> {
        let (page, fetch) = (first.0)()?;
        Ok(Self { page: page.into_iter(), fetch })
    }
}

impl<T> Iterator for Pages<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.page.next() {
                return Some(Ok(item));
            }
            match (self.fetch.take()?.0)() {
                Ok((page, fetch)) => (self.page, self.fetch) = (page.into_iter(), fetch),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Client {
    /// All that is below a directory, depth first, siblings in the order of the bytes of their names, a thousand in one
    /// call. A file is its own only entry, with an empty path. What changes meanwhile is seen or not; what stays is seen
    /// once.
    ///
    /// # Errors
    /// `NotFound`.
    ///
    /// ```no_run
    /// # let client = ringfs_sdk::Client::from_config()?;
    /// let options = ringfs_sdk::WalkOptions { files_only: true, ..Default::default() };
    /// for entry in client.walk("/datasets", &options)? {
    ///     let entry = entry?;
    ///     println!("{:>12} {}", entry.status.length, entry.path);
    /// }
    /// # Ok::<(), ringfs_sdk::Error>(())
    /// ```
    pub fn walk(&self, path: &str, options: &WalkOptions) -> Result<Pages<WalkEntryV1>> {
        Pages::begin(walk_page(self.shared.clone(), path.to_owned(), *options, String::new()))
    }

    /// The paths that match a pattern, in the order of their bytes. In a name, `?` is one character, `*` any number,
    /// `[a-c]` one of some, `[^a-c]` one of all others, `{a,b}` one of several texts, which may contain slashes; `\` takes
    /// the meaning from the character behind it.
    ///
    /// # Errors
    /// `Refused` (no pattern, or one that stands for too many).
    ///
    /// ```no_run
    /// # let client = ringfs_sdk::Client::from_config()?;
    /// let shards = client.glob("/datasets/*/train-[0-9]*.{tfrecord,parquet}")?;
    /// # Ok::<(), ringfs_sdk::Error>(())
    /// ```
    pub fn glob(&self, pattern: &str) -> Result<Vec<GlobMatchV1>> {
        let (mut matches, mut next) = (Vec::new(), Some(String::new()));
        while let Some(start_after) = next {
            let request = GlobRequestV1 { pattern: pattern.to_owned(), start_after, entries_max: 0 };
            let reply = self.shared.namenode.call::<Glob>("match", pattern, &request)?;
            matches.extend(reply.matches);
            next = reply.next;
        }
        matches.sort_by(|one, other| one.path.cmp(&other.path));
        matches.dedup_by(|one, other| one.path == other.path);
        Ok(matches)
    }

    /// Status of many paths, in their order, a thousand in one call.
    ///
    /// # Errors
    /// What every call can give; that a path is not there is an error of that path only.
    pub fn stat_all(&self, paths: &[impl AsRef<str>]) -> Result<Vec<Result<FileStatus>>> {
        let mut all = Vec::with_capacity(paths.len());
        while all.len() < paths.len() {
            let rest = &paths[all.len()..];
            let names = rest.iter().take(BATCH_PATHS_MAX).map(|path| path.as_ref().to_owned()).collect();
            let request = BatchStatRequestV1 { paths: names };
            let reply = self.shared.namenode.call::<BatchStat>("stat", "several paths", &request)?;
            if reply.results.is_empty() || reply.results.len() > request.paths.len() {
                let text = format!("{} results for {} paths", reply.results.len(), request.paths.len());
                return Err(Error::new("stat", "several paths", Fault::Protocol(text)));
            }
            all.extend(reply.results.into_iter().zip(rest).map(|(result, path)| match result {
                StatResultV1::Found(status) => Ok(status),
                StatResultV1::Failed(code, message) => {
                    let error = WireError::new(Code::from_u16(code), message);
                    Err(Error::new("stat", path.as_ref(), error.into()))
                }
            }));
        }
        Ok(all)
    }

    /// Totals of all that is at and below a path.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn content_summary(&self, path: &str) -> Result<ContentSummary> {
        let request = ContentSummaryRequestV1 { path: path.to_owned() };
        self.shared.namenode.call::<ContentSummaryOp>("sum up", path, &request)
    }

    /// The files at or below a path that are open for writing, with their writers.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn open_files(&self, path: &str) -> Result<Pages<OpenFileV1>> {
        Pages::begin(open_files_page(self.shared.clone(), path.to_owned(), InodeId(0)))
    }

    /// The files at or below a path that have a block without a good replica, once for each such block.
    ///
    /// # Errors
    /// `NotFound`; `SafeMode` while the blocks are not reported yet after a start of the namenode.
    pub fn corrupt_files(&self, path: &str) -> Result<Pages<CorruptFileV1>> {
        Pages::begin(corrupt_files_page(self.shared.clone(), path.to_owned(), 0))
    }
}

fn walk_page(shared: Arc<Shared>, path: String, options: WalkOptions, after: String) -> Fetch<WalkEntryV1> {
    Fetch(Box::new(move || {
        let WalkOptions { depth_max, files_only, with_locations } = options;
        let request =
            WalkRequestV1 { path, start_after: after, depth_max, files_only, with_locations, entries_max: 0 };
        let reply = shared.namenode.call::<WalkOp>("walk", &request.path, &request)?;
        let next = reply.next.map(|next| walk_page(shared, request.path, options, next));
        Ok((reply.entries, next))
    }))
}

fn open_files_page(shared: Arc<Shared>, path: String, after: InodeId) -> Fetch<OpenFileV1> {
    Fetch(Box::new(move || {
        let request = ListOpenFilesRequestV1 { path, after, entries_max: 0 };
        let reply = shared.namenode.call::<ListOpenFiles>("list open files of", &request.path, &request)?;
        Ok((reply.files, reply.next.map(|next| open_files_page(shared, request.path, next))))
    }))
}

fn corrupt_files_page(shared: Arc<Shared>, path: String, cookie: u64) -> Fetch<CorruptFileV1> {
    Fetch(Box::new(move || {
        let request = ListCorruptFilesRequestV1 { path, cookie };
        let reply =
            shared.namenode.call::<ListCorruptFiles>("list corrupt files of", &request.path, &request)?;
        Ok((reply.files, reply.next.map(|next| corrupt_files_page(shared, request.path, next))))
    }))
}
