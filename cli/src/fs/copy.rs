//! Copying many files at once: a bounded number of threads, one bar, Ctrl-C that leaves nothing half-done.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use indicatif::{ProgressBar, ProgressStyle};

use super::args::Args;
use super::{Failure, Shell};

/// Bytes that are moved at once.
pub const BUFFER_BYTES: usize = 4 << 20;
/// Files at a time, unless `-t` says otherwise.
const THREADS_DEFAULT: usize = 4;
/// Most files at a time.
const THREADS_MAX: usize = 256;
/// Jobs that wait for a thread.
const QUEUE_MAX: usize = 1024;

/// What the threads of a copy share.
pub struct Progress<'a> {
    bar: ProgressBar,
    stop: &'a AtomicBool,
    has_failed: AtomicBool,
    name: &'static str,
}

impl<'a> Progress<'a> {
    /// Of a single copy whose length nobody knows.
    pub fn silent(stop: &'a AtomicBool, name: &'static str) -> Self {
        Self { bar: ProgressBar::hidden(), stop, has_failed: AtomicBool::new(false), name }
    }

    /// So many bytes have moved.
    pub fn moved(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
    }

    /// More bytes are to be moved than was known.
    pub fn expect(&self, bytes: u64) {
        self.bar.inc_length(bytes);
    }

    /// Whether Ctrl-C was pressed.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says what failed; the other files go on.
    pub fn say(&self, failure: Failure) {
        self.has_failed.store(true, Ordering::Relaxed);
        if let Failure::Path(reason) = failure {
            self.bar.suspend(|| eprintln!("{}: {reason}", self.name));
        }
    }
}

/// Runs `produce`, which hands out jobs, and `consume` on as many threads as `-t` says.
///
/// # Errors
/// `Told` when any job has failed.
pub fn run<J: Send>(
    shell: &Shell,
    name: &'static str,
    args: &Args,
    produce: impl FnOnce(&Progress<'_>, &mut dyn FnMut(J)) -> Result<(), Failure>,
    consume: impl Fn(&Progress<'_>, J) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let threads = threads(args)?;
    let progress = Progress { bar: bar(), stop: &shell.stop, has_failed: AtomicBool::new(false), name };
    let (jobs, waiting) = sync_channel(QUEUE_MAX);
    let waiting = Mutex::new(waiting);
    let produced = std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work(&progress, &waiting, &consume));
        }
        // The threads end when the sender is dropped with this closure, and the queue is empty.
        let mut give = move |job| {
            // The receiver lives as long as this scope.
            let _sent = jobs.send(job);
        };
        produce(&progress, &mut give)
    });
    progress.bar.finish_and_clear();
    match produced {
        Ok(()) if progress.is_stopped() => Err(Failure::Path("interrupted".to_owned())),
        Ok(()) if progress.has_failed.load(Ordering::Relaxed) => Err(Failure::Told),
        produced => produced,
    }
}

fn work<J: Send>(
    progress: &Progress<'_>,
    waiting: &Mutex<Receiver<J>>,
    consume: &(impl Fn(&Progress<'_>, J) -> Result<(), Failure> + Sync),
) {
    loop {
        let next = waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        if progress.is_stopped() {
            continue;
        }
        if let Err(failure) = consume(progress, job) {
            progress.say(failure);
        }
    }
}

fn threads(args: &Args) -> Result<usize, Failure> {
    let Some(text) = args.value("t") else { return Ok(THREADS_DEFAULT) };
    let threads = text.parse().ok().filter(|threads| (1..=THREADS_MAX).contains(threads));
    threads.ok_or_else(|| Failure::Usage(format!("-t {text}: expected a number from 1 to {THREADS_MAX}")))
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style =
        ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left  {msg}");
    let bar = ProgressBar::new(0);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
