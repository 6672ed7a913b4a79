//! The thread that owns the log.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ringfs_proto::ids::LogIndex;

use super::appender::Appender;
use super::format::BatchBuilder;
use super::log::{Log, Status};
use super::{WalError, io_error};
use crate::config::IoUring;

/// A log without new batches for this long writes its mark.
const IDLE: Duration = Duration::from_millis(5);

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
    Fail(PathBuf, WalError),
    Stop,
}

/// Hands batches to the log.
#[derive(Debug)]
pub struct WalHandle {
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
    status: Arc<Status>,
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

    /// A directory has failed elsewhere: it is taken out of use, unless it is the last.
    pub fn fail_directory(&self, path: PathBuf, error: WalError) {
        self.send(Message::Fail(path, error));
    }

    /// What others may know of the log.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
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

/// Starts the thread that appends to an open log.
///
/// Completions are given to `on_complete` on that thread, in order.
///
/// # Errors
/// [`WalError`]: there is no io_uring, although it was demanded, or no thread.
pub fn start(
    mut log: Log,
    io_uring: IoUring,
    on_complete: impl Fn(Completion) + Send + 'static,
) -> Result<WalHandle, WalError> {
    let status = log.status();
    let directory = status.live().into_iter().next().unwrap_or_default();
    let (messages, receiver) = channel();
    let (ready, opened) = channel();
    log.prepare_in_background();
    let run = move || {
        // The ring belongs to the thread that uses it.
        match Appender::choose(io_uring) {
            Ok(appender) => {
                drop(ready.send(Ok(())));
                Shell { log, appender }.run(&receiver, on_complete);
            }
            Err(error) => drop(ready.send(Err(error))),
        }
    };
    let thread = std::thread::Builder::new().name("wal".to_owned()).spawn(run);
    let thread = thread.map_err(io_error("start the thread of", &directory))?;
    let gone = |_| io_error("start the thread of", &directory)(std::io::ErrorKind::BrokenPipe.into());
    opened.recv().map_err(gone)??;
    Ok(WalHandle { messages, thread: Some(thread), status })
}

struct Shell {
    log: Log,
    appender: Appender,
}

impl Shell {
    fn run(mut self, messages: &Receiver<Message>, on_complete: impl Fn(Completion)) {
        while let Some(message) = self.next(messages) {
            match message {
                Message::Acknowledged(index) => self.log.acknowledged(index),
                Message::Stop => break,
                Message::Fail(path, error) => {
                    if let Err(error) = self.log.fail_directory_by(&mut self.appender, &path, error) {
                        // The next append finds the same and stops the namenode.
                        tracing::error!(error = %error.chain(), "the log has no directory left");
                    }
                }
                Message::Append(mut builder) => {
                    let last = builder.last();
                    let written = self.log.append_by(&mut self.appender, &mut builder);
                    let failure = written.err().map(|error| error.chain());
                    let has_failed = failure.is_some();
                    on_complete(Completion { last, builder, failure });
                    if has_failed {
                        return;
                    }
                }
            }
        }
        self.log.idle();
    }

    /// The next message; the mark is written when none comes for a while.
    fn next(&mut self, messages: &Receiver<Message>) -> Option<Message> {
        match messages.recv_timeout(IDLE) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.log.idle();
                messages.recv().ok()
            }
        }
    }
}
