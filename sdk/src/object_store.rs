//! RingFS as an object store, for programs that speak [`object_store::ObjectStore`]: DataFusion, delta-rs, Polars.
//!
//! An object is a file; prefixes are directories, which are made as they are needed and never listed as objects. What is put is seen
//! whole or not at all: small objects are one call, larger ones are written beside their place and renamed. An `e_tag`
//! is inode and version of the content: two equal ones are the same bytes.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_channel::oneshot;
use futures_core::stream::BoxStream;
use futures_lite::stream::{self, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyMode, CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    RenameTargetMode, UploadPart,
};

use parking_lot::Mutex;

use crate::asynchronous::{AsyncClient, AsyncReader, AsyncWriter};
use crate::client::{Client, CreateOptions};
use crate::commit::Commit;
use crate::error::{Error, Kind};
use crate::reactor::operation::Dropped;
use crate::tree::WalkOptions;
use crate::{FileKind, FileStatus};
use ringfs_proto::limits::INLINE_BYTES_MAX;

type Result<T> = object_store::Result<T>;

const STORE: &str = "RingFS";
/// Ends the name of an object that is not complete; such names are never listed.
const PARTIAL: &str = "#ringfs-part";
/// Bytes of one piece of a stream.
const PIECE_BYTES: u64 = 4 << 20;
/// Objects that one step of a listing brings.
const LISTED_TOGETHER: usize = 1000;

/// A directory of a RingFS file system as an object store.
///
/// ```no_run
#[doc = include_str!("../examples/object_store.rs")]
/// ```
#[derive(Debug, Clone)]
pub struct RingFsStore {
    client: AsyncClient,
    /// Without a slash at its end.
    root: Arc<str>,
}

impl fmt::Display for RingFsStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RingFsStore({}{})", self.client.blocking().uri(), self.root)
    }
}

impl RingFsStore {
    /// Objects below a directory, an absolute path. It need not be there.
    pub fn new(client: AsyncClient, root: &str) -> Self {
        Self { client, root: root.trim_end_matches('/').into() }
    }

    fn path_of(&self, location: &Path) -> String {
        format!("{}/{location}", self.root)
    }

    /// Makes a call on the reactor.
    async fn run<T: Send + 'static>(
        &self,
        what: &'static str,
        path: &str,
        call: impl FnOnce(&Client) -> crate::Result<T> + Send + 'static,
    ) -> Result<T> {
        let ran = self.client.run((what, Dropped::Ends), path, call).await;
        ran.map_err(|error| wrong(path, error))
    }

    async fn stat(&self, location: &Path) -> Result<FileStatus> {
        let path = self.path_of(location);
        let asked = path.clone();
        let status = self.run("stat", &path, move |client| client.stat(&asked)).await?;
        if status.kind == FileKind::Directory {
            let source = "it is a directory".into();
            return Err(object_store::Error::NotFound { path, source });
        }
        Ok(status)
    }
}

/// The error of a call.
fn wrong(path: &str, error: Error) -> object_store::Error {
    let (kind, path, source) = (error.kind(), path.to_owned(), Box::new(error));
    match kind {
        Kind::NotFound => object_store::Error::NotFound { path, source },
        Kind::AlreadyExists => object_store::Error::AlreadyExists { path, source },
        Kind::PermissionDenied => object_store::Error::PermissionDenied { path, source },
        _ => object_store::Error::Generic { store: STORE, source },
    }
}

fn e_tag(status: &FileStatus) -> String {
    format!("{}-{}", status.inode, status.version)
}

fn meta(location: Path, status: &FileStatus) -> ObjectMeta {
    let last_modified = i64::try_from(status.mtime_ms).ok().and_then(DateTime::<Utc>::from_timestamp_millis);
    ObjectMeta {
        location,
        last_modified: last_modified.unwrap_or_default(),
        size: status.length,
        e_tag: Some(e_tag(status)),
        version: None,
    }
}

fn put_result(status: &FileStatus) -> PutResult {
    PutResult { e_tag: Some(e_tag(status)), version: None, extensions: Default::default() }
}

/// A name beside an object, which nobody else takes.
fn partial(path: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(
        "{path}.{}-{:x}-{number}{PARTIAL}",
        std::process::id(),
        u64::from_le_bytes(crate::net::session::random())
    )
}

fn options(overwrite: bool) -> CreateOptions {
    CreateOptions { overwrite, ..CreateOptions::default() }
}

/// Puts bytes where readers see all of them or nothing.
fn put(client: &Client, path: &str, bytes: &[u8], overwrite: bool) -> crate::Result<FileStatus> {
    if bytes.len() <= INLINE_BYTES_MAX
        && let Some(status) = client.put_inline(path, bytes, &options(overwrite))?
    {
        return Ok(status);
    }
    place(client, path, overwrite, None, |temporary| client.put(temporary, bytes, &options(true)).map(|_| ()))
}

/// Has a file written beside its place, and puts it there: in place of the one that was seen, if one is named.
fn place(
    client: &Client,
    path: &str,
    overwrite: bool,
    seen: Option<&FileStatus>,
    write: impl FnOnce(&str) -> crate::Result<()>,
) -> crate::Result<FileStatus> {
    let temporary = partial(path);
    let written = write(&temporary).and_then(|()| finish(client, &temporary, path, overwrite, seen));
    if written.is_err() {
        // What failed is told; the name is never listed.
        let _removed = client.delete(&temporary, false);
    }
    written
}

/// Renames a file that is complete to its place.
fn finish(
    client: &Client,
    temporary: &str,
    path: &str,
    overwrite: bool,
    seen: Option<&FileStatus>,
) -> crate::Result<FileStatus> {
    match seen {
        Some(seen) => {
            client.commit(&Commit::new().if_unchanged(path, seen).rename(temporary, path, true))?;
        }
        None => client.rename(temporary, path, overwrite)?,
    }
    client.stat(path)
}

fn copy(client: &Client, from: &str, to: &str, overwrite: bool) -> crate::Result<FileStatus> {
    let mut reader = client.open(from)?;
    place(client, to, overwrite, None, |temporary| {
        let mut writer = client.create_with(temporary, &options(true))?;
        let mut buffer = vec![0; (PIECE_BYTES as usize).min(reader.len() as usize + 1)];
        loop {
            match reader.read(&mut buffer)? {
                0 => return writer.close().map(|_status| ()),
                len => writer.append(&buffer[..len])?,
            }
        }
    })
}

#[async_trait]
impl ObjectStore for RingFsStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let path = self.path_of(location);
        let bytes = Bytes::from(payload);
        let target = path.clone();
        let status = match opts.mode {
            PutMode::Overwrite => {
                self.run("put", &path, move |client| put(client, &target, &bytes, true)).await
            }
            PutMode::Create => {
                self.run("put", &path, move |client| put(client, &target, &bytes, false)).await
            }
            PutMode::Update(version) => {
                let seen = self.stat(location).await;
                let expected = version.e_tag;
                let is_same = |seen: &FileStatus| expected.as_ref() == Some(&e_tag(seen));
                let differs = |path: &str| object_store::Error::Precondition {
                    path: path.to_owned(),
                    source: "the object is another by now".into(),
                };
                let seen = seen.ok().filter(is_same).ok_or_else(|| differs(&path))?;
                let put = move |client: &Client| {
                    place(client, &target, true, Some(&seen), |temporary| {
                        client.put(temporary, &bytes, &options(true)).map(|_status| ())
                    })
                };
                let put = self.client.run(("put", Dropped::Ends), &path, put).await;
                put.map_err(|error| match error.code() {
                    Some(crate::Code::ConditionFailed) => differs(&path),
                    _ => wrong(&path, error),
                })
            }
        };
        status.map(|status| put_result(&status))
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let path = self.path_of(location);
        let temporary = partial(&path);
        let created = self.client.create_with(&temporary, &options(true)).await;
        let writer = created.map_err(|error| wrong(&path, error))?;
        let parts = Parts { writer, path: path.clone(), state: Mutex::default() };
        Ok(Box::new(Upload { store: self.clone(), path, temporary, parts: Arc::new(parts), given: 0 }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = self.path_of(location);
        if options.version.is_some() {
            let source = "objects have no versions that are kept".into();
            return Err(object_store::Error::NotSupported { source });
        }
        let reader = self.client.open(&path).await.map_err(|error| match error.code() {
            Some(crate::Code::IsADirectory) => {
                object_store::Error::NotFound { path: path.clone(), source: Box::new(error) }
            }
            _ => wrong(&path, error),
        })?;
        let meta = meta(location.clone(), reader.status());
        options.check_preconditions(&meta)?;
        let range = match &options.range {
            Some(range) => range
                .as_range(meta.size)
                .map_err(|error| object_store::Error::Generic { store: STORE, source: Box::new(error) })?,
            None => 0..meta.size,
        };
        let wanted = if options.head { range.start..range.start } else { range.clone() };
        let payload = GetResultPayload::Stream(pieces(reader, path, wanted));
        Ok(GetResult { payload, meta, range, attributes: Default::default(), extensions: Default::default() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let path = self.path_of(location);
        let reader = self.client.open(&path).await.map_err(|error| wrong(&path, error))?;
        let read = reader.read_ranges(ranges).await.map_err(|error| wrong(&path, error))?;
        Ok(read.into_iter().map(Bytes::from).collect())
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        Box::pin(locations.then(move |location| {
            let store = store.clone();
            async move {
                let location = location?;
                store.stat(&location).await?;
                let path = store.path_of(&location);
                let gone = path.clone();
                store.run("delete", &path, move |client| client.delete(&gone, false)).await?;
                Ok(location)
            }
        }))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned().unwrap_or_default());
        let begin = async move {
            let path = store.path_of(&prefix);
            let directory = path.trim_end_matches('/').to_owned();
            let walked = store.client.run(("list", Dropped::Ends), &path, move |client| {
                let root = if directory.is_empty() { "/" } else { &directory };
                match client.stat(root)?.kind {
                    FileKind::Directory => {
                        let options = WalkOptions { files_only: true, ..WalkOptions::default() };
                        client.walk(root, &options).map(Some)
                    }
                    FileKind::File => Ok(None),
                }
            });
            match walked.await {
                Ok(pages) => Ok((store, prefix, path, pages)),
                Err(error) if error.kind() == Kind::NotFound => Ok((store, prefix, path, None)),
                Err(error) => Err(wrong(&path, error)),
            }
        };
        let pages = stream::once_future(begin).then(|begun| async move {
            let (store, prefix, path, pages) = begun?;
            Ok::<_, object_store::Error>(stream::try_unfold(pages, move |pages| {
                let (store, prefix, path) = (store.clone(), prefix.clone(), path.clone());
                async move {
                    let Some(mut pages) = pages else { return Ok(None) };
                    let next = store.run("list", &path, move |_client| {
                        let some: crate::Result<Vec<_>> = pages.by_ref().take(LISTED_TOGETHER).collect();
                        some.map(|some| (some, pages))
                    });
                    let (some, pages) = next.await?;
                    if some.is_empty() {
                        return Ok(None);
                    }
                    let shown = some.into_iter().filter(|entry| !entry.path.ends_with(PARTIAL));
                    let metas: Vec<Result<ObjectMeta>> =
                        shown.map(|entry| Ok(meta(below(&prefix, &entry.path)?, &entry.status))).collect();
                    Ok(Some((stream::iter(metas), Some(pages))))
                }
            }))
        });
        Box::pin(flat(pages))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let prefix = prefix.cloned().unwrap_or_default();
        let path = self.path_of(&prefix);
        let directory = match path.trim_end_matches('/') {
            "" => "/".to_owned(),
            path => path.to_owned(),
        };
        let listed = self.client.run(("list", Dropped::Ends), &path, move |client| {
            if client.stat(&directory)?.kind == FileKind::File {
                return Ok(Vec::new());
            }
            client.list(&directory)?.collect::<crate::Result<Vec<_>>>()
        });
        let entries = match listed.await {
            Err(error) if error.kind() == Kind::NotFound => Vec::new(),
            listed => listed.map_err(|error| wrong(&path, error))?,
        };
        let (mut common_prefixes, mut objects) = (Vec::new(), Vec::new());
        for entry in entries.iter().filter(|entry| !entry.name.ends_with(PARTIAL)) {
            let location = below(&prefix, &entry.name)?;
            match entry.kind {
                FileKind::Directory => common_prefixes.push(location),
                FileKind::File => objects.push(meta(location, entry)),
            }
        }
        Ok(ListResult { common_prefixes, objects, extensions: Default::default() })
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (source, target) = (self.path_of(from), self.path_of(to));
        let overwrite = matches!(options.mode, CopyMode::Overwrite);
        let path = if overwrite { source.clone() } else { target.clone() };
        self.run("copy", &path, move |client| copy(client, &source, &target, overwrite))
            .await
            .map(|_status| ())
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        let (source, target) = (self.path_of(from), self.path_of(to));
        let overwrite = matches!(options.target_mode, RenameTargetMode::Overwrite);
        let path = if overwrite { source.clone() } else { target.clone() };
        let rename = move |client: &Client| {
            if let Some((parent, _)) = target.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
                client.mkdirs(parent)?;
            }
            client.rename(&source, &target, overwrite)
        };
        self.run("rename", &path, rename).await
    }
}

/// The location of what is below a prefix, whose name is as it lies in the file system.
fn below(prefix: &Path, name: &str) -> Result<Path> {
    Ok(if prefix.as_ref().is_empty() { Path::parse(name)? } else { Path::parse(format!("{prefix}/{name}"))? })
}

/// The bytes of a range, piece by piece.
fn pieces(reader: AsyncReader, path: String, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
    let reader = Arc::new(reader);
    Box::pin(stream::try_unfold(range, move |range| {
        let (reader, path) = (reader.clone(), path.clone());
        async move {
            if range.is_empty() {
                return Ok(None);
            }
            let len = (range.end - range.start).min(PIECE_BYTES);
            let read =
                reader.read_at(range.start, len as usize).await.map_err(|error| wrong(&path, error))?;
            if read.len() as u64 != len {
                let source = format!("{path} ended at {}", range.start + read.len() as u64).into();
                return Err(object_store::Error::Generic { store: STORE, source });
            }
            Ok(Some((Bytes::from(read), range.start + len..range.end)))
        }
    }))
}

/// A stream of streams as one; ends after an error.
fn flat<S, T>(
    outer: impl futures_core::Stream<Item = Result<S>> + Send + 'static,
) -> impl futures_core::Stream<Item = Result<ObjectMeta>> + Send
where
    S: futures_core::Stream<Item = Result<T>> + Send + 'static,
    T: futures_core::Stream<Item = Result<ObjectMeta>> + Send + 'static,
{
    outer.flat_map(|inner| match inner {
        Ok(inner) => inner
            .flat_map(|page| match page {
                Ok(page) => page.boxed(),
                Err(error) => stream::once(Err(error)).boxed(),
            })
            .boxed(),
        Err(error) => stream::once(Err(error)).boxed(),
    })
}

/// Parts on their way, written one behind the other in the order in which they were given.
#[derive(Debug)]
struct Upload {
    store: RingFsStore,
    path: String,
    temporary: String,
    parts: Arc<Parts>,
    given: usize,
}

#[derive(Debug)]
struct Parts {
    writer: AsyncWriter,
    path: String,
    state: Mutex<PartsState>,
}

#[derive(Debug, Default)]
struct PartsState {
    /// The part that is written next.
    next: usize,
    /// Parts that came before it was their turn.
    early: BTreeMap<usize, PutPayload>,
    is_writing: bool,
    /// Who waits for a part to be written.
    waiting: Vec<oneshot::Sender<()>>,
}

impl Parts {
    /// Writes a part, and those behind it that came early. One that comes early itself waits while others are written; when
    /// none is, whoever brings the part before it writes both.
    async fn put(&self, number: usize, part: PutPayload) -> Result<()> {
        self.state.lock().early.insert(number, part);
        loop {
            let step = self.step(number);
            match step {
                Step::Done => return Ok(()),
                Step::Wait(written) => drop(written.await),
                Step::Write(number, part) => {
                    let mut ended = Writing { parts: self, number, is_written: false };
                    for piece in part {
                        let written = self.writer.write_shared(piece).await;
                        written.map_err(|error| wrong(&self.path, error))?;
                    }
                    ended.is_written = true;
                }
            }
        }
    }

    fn step(&self, number: usize) -> Step {
        let mut state = self.state.lock();
        let next = state.next;
        if state.is_writing {
            if number < next {
                return Step::Done;
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push(sender);
            return Step::Wait(receiver);
        }
        match state.early.remove(&next) {
            Some(part) => {
                state.is_writing = true;
                Step::Write(next, part)
            }
            None => Step::Done,
        }
    }
}

enum Step {
    Done,
    Wait(oneshot::Receiver<()>),
    Write(usize, PutPayload),
}

/// A part that is being written; one whose future was dropped, or that failed, is never passed.
struct Writing<'a> {
    parts: &'a Parts,
    number: usize,
    is_written: bool,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut state = self.parts.state.lock();
        state.is_writing = false;
        if self.is_written {
            state.next = self.number + 1;
        }
        for waiting in state.waiting.drain(..) {
            // Who waits no more needs no word.
            let _gone = waiting.send(());
        }
    }
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (parts, number) = (self.parts.clone(), self.given);
        self.given += 1;
        Box::pin(async move { parts.put(number, data).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let missing =
            || object_store::Error::Generic { store: STORE, source: "a part was not written".into() };
        if self.parts.state.lock().next != self.given {
            return Err(missing());
        }
        self.parts.writer.close_shared().await.map_err(|error| wrong(&self.path, error))?;
        let (temporary, path) = (self.temporary.clone(), self.path.clone());
        let finish = move |client: &Client| finish(client, &temporary, &path, true, None);
        self.store.run("complete", &self.path, finish).await.map(|status| put_result(&status))
    }

    async fn abort(&mut self) -> Result<()> {
        let temporary = self.temporary.clone();
        let delete = move |client: &Client| client.delete(&temporary, false).map(|_deleted| ());
        self.store.run("abort", &self.path, delete).await
    }
}
