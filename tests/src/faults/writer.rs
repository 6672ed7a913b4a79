//! A writing client in a process of its own, that is killed with its file open.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use ringfs_sdk::CreateOptions;

use super::ledger::{Entry, Known, Ledger};
use super::workload::{self, BLOCK_BYTES, REPLICATION};
use crate::cluster::binary;
use crate::data::Pattern;

/// First word of the command line of such a process: then come URI, path and seed.
pub const COMMAND: &str = "doomed-writer";
/// Where the files of such processes are.
pub const DIRECTORY: &str = "/doomed/";
const PIECE_BYTES: u64 = 7000;

/// What a process has said.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    written: u64,
    flushed: u64,
    flushes: usize,
}

/// The process.
#[derive(Debug)]
pub struct DoomedWriter {
    child: Child,
    path: String,
    said: Arc<Mutex<Said>>,
    listener: JoinHandle<()>,
}

impl DoomedWriter {
    /// Starts it.
    ///
    /// # Panics
    /// If the `faults` binary is not built, or does not start.
    pub fn start(uri: &str, path: &str, seed: u64, ledger: &Ledger) -> Self {
        // How much it writes is known when it is dead.
        let unknown = Entry { written: u64::MAX, is_closed: Known::Maybe, ..Entry::created(seed) };
        ledger.set(path, Entry { exists: Known::Maybe, ..unknown });
        let mut command = Command::new(binary().with_file_name("faults"));
        command.args([COMMAND, uri, path, &seed.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("the writer starts");
        let output = child.stdout.take().expect("piped");
        let said = Arc::new(Mutex::new(Said::default()));
        let listener = std::thread::spawn({
            let said = said.clone();
            move || listen(output, &said)
        });
        Self { child, path: path.to_owned(), said, listener }
    }

    /// Whether it has flushed something.
    pub fn has_flushed(&self) -> bool {
        hold(&self.said).flushes > 0
    }

    /// Kills it; what it has said by then is what was acknowledged. Returns how often it had flushed.
    ///
    /// # Errors
    /// That it had ended by itself: nothing but a failed call makes it.
    ///
    /// # Panics
    /// If the operating system has forgotten its child.
    pub fn kill(mut self, ledger: &Ledger) -> Result<usize, String> {
        let ended = self.child.try_wait().expect("a child");
        // It may end in between; what it said is read to the end either way.
        let _already_gone = self.child.kill();
        self.child.wait().expect("a child");
        self.listener.join().expect("it only listens");
        let Said { written, flushed, flushes } = *hold(&self.said);
        let exists = if flushes > 0 { Known::Yes } else { Known::Maybe };
        ledger.change(&self.path, |entry| {
            (entry.written, entry.flushed, entry.exists) = (written, flushed, exists);
        });
        ended.map_or(Ok(flushes), |status| Err(format!("the writer of {} ended: {status}", self.path)))
    }
}

/// Takes in what a process says, to its end.
fn listen(output: ChildStdout, said: &Mutex<Said>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let mut said = hold(said);
        match line.split_once(' ').and_then(|(word, bytes)| Some((word, bytes.parse().ok()?))) {
            Some(("writing", bytes)) => said.written = bytes,
            Some(("flushed", bytes)) => (said.flushed, said.flushes) = (bytes, said.flushes + 1),
            _ => {}
        }
    }
}

fn hold(said: &Mutex<Said>) -> MutexGuard<'_, Said> {
    said.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the process does: writes and flushes, and says so, until it is killed.
///
/// # Errors
/// What the file system says.
pub fn run(uri: &str, path: &str, seed: u64) -> Result<(), Box<dyn std::error::Error>> {
    let client = workload::client(uri);
    let options =
        CreateOptions { replication: REPLICATION, block_size: BLOCK_BYTES, ..CreateOptions::default() };
    let mut writer = client.create_with(path, &options)?;
    let mut stdout = std::io::stdout();
    loop {
        let position = writer.position();
        writeln!(stdout, "writing {}", position + PIECE_BYTES)?;
        stdout.flush()?;
        writer.write_all(&Pattern { seed }.bytes(position, PIECE_BYTES as usize))?;
        writer.hflush()?;
        writeln!(stdout, "flushed {}", position + PIECE_BYTES)?;
        stdout.flush()?;
    }
}
