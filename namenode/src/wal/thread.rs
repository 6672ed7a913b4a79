//! The thread that owns the log's files.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ringfs_proto::ids::{ClusterId, LogIndex, Term};

use super::appender::{Appender, SyncedFile};
use super::format::{BatchBuilder, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::marks::Marks;
use super::record::RecordV1;
use super::replay::{Replayed, replay};
use super::{BATCH_BYTES_MAX, Options, WalError, io_error, segment};
use crate::directory::Directory;
use ringfs_proto::buffer::ALIGN;

/// A log without new batches for this long writes its mark.
const IDLE: Duration = Duration::from_millis(5);
/// Between attempts to make the next segment.
const PREPARE_RETRY: Duration = Duration::from_millis(200);
/// The only term until there are replicated namenodes.
const TERM: Term = Term(1);

/// What became of a batch.
#[derive(Debug)]
pub struct Completion {
    /// Its last record.
    pub last: LogIndex,
    /// The builder, to be filled again.
    pub builder: BatchBuilder,
    /// Why the log can take no more. The namenode must stop: what is on disk is unknown.
    pub failure: Option<String>,
}

enum Message {
    Append(BatchBuilder),
    Acknowledged(LogIndex),
    Stop,
}

/// Hands batches to the log.
#[derive(Debug)]
pub struct WalHandle {
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
    has_room: Arc<AtomicBool>,
}

impl WalHandle {
    /// Writes a batch. At most one is in flight: the next is handed over after the completion of the one before.
    pub fn append(&self, builder: BatchBuilder) {
        self.send(Message::Append(builder));
    }

    /// Replies up to this record have left.
    pub fn acknowledged(&self, index: LogIndex) {
        self.send(Message::Acknowledged(index));
    }

    /// Whether the next segment is there: without it, changes are refused until the disk has room.
    pub fn has_room(&self) -> bool {
        self.has_room.load(Ordering::Relaxed)
    }

    /// Ends the thread after what was handed over.
    pub fn stop(mut self) {
        self.end();
    }

    fn send(&self, message: Message) {
        // A thread that has failed has said so in a completion; what comes after has no receiver any more.
        let _failed_before = self.messages.send(message);
    }

    fn end(&mut self) {
        self.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

impl Drop for WalHandle {
    fn drop(&mut self) {
        self.end();
    }
}

/// Replays the log of a directory, then starts the thread that appends to it.
///
/// Completions are given to `on_complete` on that thread, in order.
///
/// # Errors
/// [`WalError`]: the log is damaged, or the operating system refused.
pub fn start(
    directory: &Directory,
    options: &Options,
    on_record: &mut dyn FnMut(RecordV1),
    on_complete: impl Fn(Completion) + Send + 'static,
) -> Result<(WalHandle, LogIndex), WalError> {
    let cluster = directory.cluster.cluster;
    let path = directory.path().to_owned();
    let segment_bytes = options.segment_bytes.max(4 * BATCH_BYTES_MAX as u64).next_multiple_of(ALIGN as u64);
    let (marks, mark) = Marks::open(&path, cluster)?;
    let replayed = replay(&path, cluster, mark, on_record)?;
    let last = replayed.last;
    let active = open_tail(&path, cluster, segment_bytes, replayed)?;
    let has_room = Arc::new(AtomicBool::new(true));
    let (messages, receiver) = channel();
    let (ready, opened) = channel();
    let io_uring = options.io_uring;
    let preparer = Preparer { directory: path, segment_bytes, has_room: has_room.clone(), running: None };
    let run = move || {
        // The ring belongs to the thread that uses it.
        let appender = match Appender::choose(io_uring) {
            Ok(appender) => appender,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let mut log = Log { cluster, active, appender, marks, acknowledged: last, preparer };
        log.preparer.begin();
        drop(ready.send(Ok(())));
        log.run(&receiver, on_complete);
    };
    let thread = std::thread::Builder::new().name("wal".to_owned()).spawn(run);
    let thread = thread.map_err(io_error("start the thread of", directory.path()))?;
    let gone = |_| io_error("start the thread of", directory.path())(std::io::ErrorKind::BrokenPipe.into());
    opened.recv().map_err(gone)??;
    Ok((WalHandle { messages, thread: Some(thread), has_room }, last))
}

/// The segment that is being written.
#[derive(Debug)]
struct Active {
    header: SegmentHeader,
    file: SyncedFile,
    offset: u64,
}

fn open_tail(
    path: &std::path::Path,
    cluster: ClusterId,
    segment_bytes: u64,
    replayed: Replayed,
) -> Result<Active, WalError> {
    if let Some((segment_path, header, offset)) = replayed.tail {
        return Ok(Active { header, file: segment::open_synced(&segment_path)?, offset });
    }
    segment::prepare(path, segment_bytes).map_err(io_error("make a segment in", path))?;
    let (header, file) = segment::activate(path, cluster, LogIndex(1), segment_bytes)?;
    Ok(Active { header, file, offset: SEGMENT_HEADER_BYTES })
}

struct Log {
    cluster: ClusterId,
    active: Active,
    appender: Appender,
    marks: Marks,
    acknowledged: LogIndex,
    preparer: Preparer,
}

impl Log {
    fn run(mut self, messages: &Receiver<Message>, on_complete: impl Fn(Completion)) {
        while let Some(message) = self.next(messages) {
            match message {
                Message::Acknowledged(index) => self.acknowledged = index,
                Message::Stop => break,
                Message::Append(mut builder) => {
                    let last = builder.last();
                    let failure = self.append(&mut builder).err().map(|error| chain(&error));
                    let has_failed = failure.is_some();
                    on_complete(Completion { last, builder, failure });
                    if has_failed {
                        return;
                    }
                }
            }
        }
        self.write_mark();
    }

    /// The next message; the mark is written when none comes for a while.
    fn next(&mut self, messages: &Receiver<Message>) -> Option<Message> {
        match messages.recv_timeout(IDLE) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.write_mark();
                messages.recv().ok()
            }
        }
    }

    fn append(&mut self, builder: &mut BatchBuilder) -> Result<(), WalError> {
        if self.active.offset + builder.padded_len() > self.active.header.bytes {
            self.switch(LogIndex(builder.last().0 + 1 - builder.count() as u64))?;
        }
        let buffer = builder.seal(self.active.header.seed(), TERM, self.acknowledged);
        let len = buffer.as_ref().len() as u64;
        let (result, buffer) = self.appender.append(&self.active.file, buffer, self.active.offset);
        builder.reuse(buffer);
        result.map_err(io_error("append to the log in", &self.preparer.directory))?;
        self.active.offset += len;
        Ok(())
    }

    /// Goes on in a new segment, waiting for room if there is none.
    fn switch(&mut self, first: LogIndex) -> Result<(), WalError> {
        self.preparer.wait();
        let (header, file) =
            segment::activate(&self.preparer.directory, self.cluster, first, self.preparer.segment_bytes)?;
        self.appender.switch();
        self.active = Active { header, file, offset: SEGMENT_HEADER_BYTES };
        self.preparer.begin();
        Ok(())
    }

    fn write_mark(&mut self) {
        // A mark only sharpens what a start can tell; a log that cannot write will fail at its next batch.
        if let Err(error) = self.marks.write(self.acknowledged) {
            tracing::warn!(error = &error as &dyn std::error::Error, "could not write the mark");
        }
    }
}

/// Makes the next segment ahead of its use, on a thread of its own.
struct Preparer {
    directory: PathBuf,
    segment_bytes: u64,
    has_room: Arc<AtomicBool>,
    running: Option<JoinHandle<()>>,
}

impl Preparer {
    fn begin(&mut self) {
        let (directory, bytes, has_room) =
            (self.directory.clone(), self.segment_bytes, self.has_room.clone());
        let work = move || {
            while let Err(error) = segment::prepare(&directory, bytes) {
                if has_room.swap(false, Ordering::Relaxed) {
                    tracing::error!(%error, path = %directory.display(), "no room for the next segment of the log: changes are refused until there is");
                }
                std::thread::sleep(PREPARE_RETRY);
            }
            has_room.store(true, Ordering::Relaxed);
        };
        self.running = std::thread::Builder::new().name("wal-prepare".to_owned()).spawn(work).ok();
    }

    fn wait(&mut self) {
        match self.running.take() {
            Some(running) => drop(running.join()),
            None => {
                self.begin();
                self.wait();
            }
        }
    }
}

fn chain(error: &WalError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
