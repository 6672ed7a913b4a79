//! The thread that writes a checkpoint, so that the namespace thread never waits for a disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use ringfs_disk::Disk;

use super::format::Header;
use super::run::{Beside, Done, Kind, Run};
use super::{CheckpointError, io_error};
use crate::state::{Rest, Section};

/// Sections that may wait for the disk; then the copying pauses.
const SECTIONS_QUEUED_MAX: usize = 8;

enum Message {
    Section(Section),
    Finish,
}

/// Hands sections to the thread. Dropping it before [`Handle::finish`] gives the checkpoint up.
#[derive(Debug)]
pub struct Handle {
    messages: Sender<Message>,
    queued: Arc<AtomicUsize>,
    is_finished: bool,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Whether the next section should be made now.
    pub fn wants_sections(&self) -> bool {
        !self.is_finished && self.queued.load(Ordering::Relaxed) < SECTIONS_QUEUED_MAX
    }

    /// Writes a section.
    pub fn section(&self, section: Section) {
        self.queued.fetch_add(1, Ordering::Relaxed);
        self.send(Message::Section(section));
    }

    /// There are no more sections.
    pub fn finish(&mut self) {
        self.is_finished = true;
        self.send(Message::Finish);
    }

    fn send(&self, message: Message) {
        // A thread that has failed has said so; what comes after has no receiver any more.
        let _failed_before = self.messages.send(message);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let (gone, _) = channel();
        self.messages = gone;
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

/// Starts a checkpoint. `on_done` is called on its thread, once; not when it is given up.
///
/// # Errors
/// The operating system has no thread.
pub fn start(
    disk: Arc<dyn Disk>,
    kind: Kind,
    beside: Beside,
    header: Header,
    rest: Rest,
    on_done: impl FnOnce(Done) + Send + 'static,
) -> io::Result<Handle> {
    let (messages, receiver) = channel();
    let queued = Arc::new(AtomicUsize::new(0));
    let taken = queued.clone();
    let write = move || match Run::begin(disk, kind, beside, header) {
        Ok(run) => drop(write(run, rest, &receiver, &taken).map(on_done)),
        Err(error) => on_done(Done { result: Err(error), failed: Vec::new() }),
    };
    let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(write)?;
    Ok(Handle { messages, queued, is_finished: false, thread: Some(thread) })
}

/// Writes until the end; `None` when it was given up.
fn write(mut run: Run, rest: Rest, messages: &Receiver<Message>, taken: &AtomicUsize) -> Option<Done> {
    for section in rest.into_sections() {
        if let Err(error) = run.section(&section) {
            return Some(run.fail(error));
        }
    }
    loop {
        match messages.recv() {
            Ok(Message::Section(section)) => {
                taken.fetch_sub(1, Ordering::Relaxed);
                if let Err(error) = run.section(&section) {
                    return Some(run.fail(error));
                }
            }
            Ok(Message::Finish) => return Some(run.finish()),
            Err(_given_up) => {
                let error: CheckpointError =
                    io_error("write a checkpoint in", "")(io::ErrorKind::Interrupted.into());
                run.fail(error);
                return None;
            }
        }
    }
}
