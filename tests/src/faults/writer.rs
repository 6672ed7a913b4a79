//! A writing client in a process of its own, that is killed with its file open.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use ringfs_sdk::{Client, CreateOptions};

use super::ledger::{Entry, Known, Ledger};
use super::workload::{BLOCK_BYTES, REPLICATION};
use crate::cluster::binary;
use crate::data::Pattern;

/// First word of the command line of such a process: then come URI, path and seed.
pub const COMMAND: &str = "doomed-writer";
/// Flushes before it is killed.
const FLUSHES: usize = 20;
const PIECE_BYTES: u64 = 7000;

/// The process.
#[derive(Debug)]
pub struct DoomedWriter {
    child: Child,
    path: String,
}

impl DoomedWriter {
    /// Starts it.
    ///
    /// # Panics
    /// If the `faults` binary is not built, or does not start.
    pub fn start(uri: &str, path: &str, seed: u64, ledger: &Ledger) -> Self {
        ledger.set(path, Entry { exists: Known::Maybe, is_closed: Known::Maybe, ..Entry::created(seed) });
        let mut command = Command::new(binary().with_file_name("faults"));
        command.args([COMMAND, uri, path, &seed.to_string()]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the writer starts");
        Self { child, path: path.to_owned() }
    }

    /// Kills it after some flushes; what it had said by then is what was acknowledged.
    pub fn kill(mut self, ledger: &Ledger) {
        let output = BufReader::new(self.child.stdout.take().expect("piped"));
        let mut flushes = 0;
        for line in output.lines().map_while(Result::ok) {
            let Some((word, bytes)) = line.split_once(' ') else { continue };
            let Ok(bytes) = bytes.parse() else { continue };
            ledger.change(&self.path, |entry| match word {
                "writing" => entry.written = bytes,
                _ => (entry.flushed, entry.exists) = (bytes, Known::Yes),
            });
            flushes += usize::from(word == "flushed");
            if flushes == FLUSHES {
                // It may have ended by itself; what it said is read to the end either way.
                let _already_gone = self.child.kill();
            }
        }
        let _status = self.child.wait();
    }
}

/// What the process does: writes and flushes, and says so, until it is killed.
///
/// # Errors
/// What the file system says.
pub fn run(uri: &str, path: &str, seed: u64) -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::connect(uri)?;
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
