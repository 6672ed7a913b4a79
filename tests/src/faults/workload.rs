//! Clients that write, flush, rename, delete and read without pause, and note in the ledger what was acknowledged.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringfs_sdk::{Client, CreateOptions, Error, Kind, Writer};

use super::ledger::{Entry, Known, Seen};
use super::shared::{Operation, Shared};
use crate::data::Pattern;
use crate::random::Random;

/// Bytes per block: files have up to four.
pub const BLOCK_BYTES: u64 = 256 << 10;
/// Replicas of every file.
pub const REPLICATION: u16 = 3;
/// Closed files that one client keeps; older ones are deleted.
const FILES_MAX: usize = 24;
/// Files that one client has open at once.
const OPEN_MAX: usize = 3;
/// How long a call is tried again: longer than any fault of a run lasts, on a machine that has more to do.
const DEADLINE: Duration = Duration::from_secs(120);
/// As [`super::site`] scales the servers' times down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const IO_TIMEOUT: Duration = Duration::from_secs(5);
const PIPELINE_TIMEOUT: Duration = Duration::from_secs(1);

/// A client that rides out whatever ends.
///
/// # Panics
/// If the address is none.
pub fn client(uri: &str) -> Client {
    let builder = Client::builder().deadline(DEADLINE).connect_timeout(CONNECT_TIMEOUT);
    let builder = builder.io_timeout(IO_TIMEOUT).pipeline_timeout(PIPELINE_TIMEOUT);
    builder.connect(uri).expect("the address of the namenode")
}

/// A client with a directory of its own.
pub struct Worker<'a> {
    client: Client,
    shared: &'a Shared,
    random: Random,
    directory: String,
    files_made: u64,
    closed: VecDeque<String>,
    open: Vec<(String, Pattern, Writer)>,
}

impl<'a> Worker<'a> {
    /// Client number `number` of a run.
    pub fn new(client: Client, shared: &'a Shared, seed: u64, number: u64) -> Self {
        let random = Random::new(seed ^ number.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let directory = format!("/worker-{number}");
        Self { client, shared, random, directory, files_made: 0, closed: VecDeque::new(), open: Vec::new() }
    }

    /// Works until it is told to stop, then closes what it has open.
    pub fn run(mut self) {
        while !self.shared.is_stopping() {
            if self.shared.is_rest_wanted() {
                self.close_all();
                self.shared.rest();
            }
            match self.random.below(100) {
                0..50 if self.open.len() < OPEN_MAX => self.create(),
                0..80 => self.write_on(),
                80..88 => self.rename(),
                88..92 => self.delete(),
                _ => self.close_one(),
            }
            while self.closed.len() > FILES_MAX {
                self.delete();
            }
        }
        self.close_all();
    }

    fn close_all(&mut self) {
        while !self.open.is_empty() {
            self.close_one();
        }
    }

    fn create(&mut self) {
        self.files_made += 1;
        let path = format!("{}/file-{}", self.directory, self.files_made);
        let pattern = Pattern { seed: self.random.number() };
        let entry = Entry::created(pattern.seed);
        self.shared.ledger.set(&path, Entry { exists: Known::Maybe, ..entry.clone() });
        let options =
            CreateOptions { replication: REPLICATION, block_size: BLOCK_BYTES, ..CreateOptions::default() };
        let began = Instant::now();
        match self.client.create_with(&path, &options) {
            Ok(writer) => {
                self.shared.ledger.set(&path, entry);
                self.shared.acknowledge(Operation::Create, began);
                self.open.push((path, pattern, writer));
            }
            Err(error) => self.shared.fail("create", &error),
        }
    }

    /// Adds to an open file, and flushes, syncs or closes it by chance.
    fn write_on(&mut self) {
        if self.open.is_empty() {
            return self.create();
        }
        let at = self.random.below(self.open.len() as u64) as usize;
        let (path, pattern, mut writer) = self.open.swap_remove(at);
        match self.write_piece(&path, pattern, &mut writer) {
            Ok(()) if writer.position() >= 4 * BLOCK_BYTES => self.close(path, writer),
            Ok(()) => self.open.push((path, pattern, writer)),
            Err(error) => self.lose(&path, &error),
        }
    }

    fn write_piece(&mut self, path: &str, pattern: Pattern, writer: &mut Writer) -> std::io::Result<()> {
        let len_max = if self.random.chance(200) { 200_000 } else { 10_000 };
        let len = 1 + self.random.below(len_max);
        let position = writer.position();
        self.shared.ledger.change(path, |entry| entry.written = position + len);
        writer.write_all(&pattern.bytes(position, len as usize))?;
        let began = Instant::now();
        let operation = match self.random.below(10) {
            0..3 => writer.hflush().map(|()| Operation::Flush)?,
            3 => writer.hsync().map(|()| Operation::Sync)?,
            _ => return Ok(()),
        };
        self.shared.ledger.change(path, |entry| entry.flushed = position + len);
        self.shared.acknowledge(operation, began);
        Ok(())
    }

    fn close_one(&mut self) {
        if !self.open.is_empty() {
            let at = self.random.below(self.open.len() as u64) as usize;
            let (path, _, writer) = self.open.swap_remove(at);
            self.close(path, writer);
        }
    }

    fn close(&mut self, path: String, mut writer: Writer) {
        let began = Instant::now();
        match writer.close() {
            Ok(_status) => {
                self.shared.ledger.change(&path, |entry| {
                    (entry.is_closed, entry.flushed) = (Known::Yes, entry.written);
                });
                self.shared.acknowledge(Operation::Close, began);
                self.closed.push_back(path);
            }
            Err(error) => self.lose(&path, &error),
        }
    }

    /// A writer has failed: the namenode will close its file, with what was flushed or more.
    fn lose(&mut self, path: &str, error: &dyn std::fmt::Display) {
        self.shared.ledger.change(path, |entry| entry.is_closed = Known::Maybe);
        self.shared.fail("write", error);
    }

    fn rename(&mut self) {
        let Some(source) = self.closed.pop_front() else { return };
        let target = format!("{source}-renamed");
        self.shared.ledger.rename_begun(&source, &target);
        let began = Instant::now();
        match self.client.rename(&source, &target, false) {
            Ok(()) => {
                self.shared.ledger.rename_done(&source, &target);
                self.shared.acknowledge(Operation::Rename, began);
                self.closed.push_back(target);
            }
            Err(error) => {
                self.shared.ledger.rename_undecided(&source, &target);
                self.shared.fail("rename", &error);
            }
        }
    }

    fn delete(&mut self) {
        let Some(path) = self.closed.pop_front() else { return };
        self.shared.ledger.change(&path, |entry| entry.exists = Known::Maybe);
        let began = Instant::now();
        match self.client.delete(&path, false) {
            Ok(_existed) => {
                self.shared.ledger.change(&path, |entry| entry.exists = Known::No);
                self.shared.acknowledge(Operation::Delete, began);
            }
            Err(error) => self.shared.fail("delete", &error),
        }
    }
}

/// Reads files of all clients and compares them, until it is told to stop.
pub fn read_always(client: &Client, shared: &Shared, seed: u64) {
    let mut random = Random::new(seed ^ 0xbead);
    while !shared.is_stopping() {
        let Some((path, entry)) = shared.ledger.pick(&mut random) else {
            std::thread::yield_now();
            continue;
        };
        let began = Instant::now();
        let seen = look(client, &path, entry.seed);
        // What changed meanwhile cannot be held against what was known before.
        if shared.ledger.get(&path).as_ref() != Some(&entry) {
            continue;
        }
        match seen {
            Ok(seen) => {
                if let Seen::File { length, .. } = seen {
                    shared.compared_bytes.fetch_add(length, Ordering::Relaxed);
                    shared.acknowledge(Operation::Read, began);
                }
                if let Err(contradiction) = entry.check(&path, &seen) {
                    shared.contradict(contradiction);
                }
            }
            Err(error) => shared.fail("read", &error),
        }
    }
}

/// Reads a whole file and compares every byte.
///
/// # Errors
/// What the client says, but for a path that is not there.
pub fn look(client: &Client, path: &str, seed: u64) -> Result<Seen, Error> {
    let reader = match client.open(path) {
        Ok(reader) => reader,
        Err(error) if error.kind() == Kind::NotFound => return Ok(Seen::Missing),
        Err(error) => return Err(error),
    };
    let (length, is_open) = (reader.len(), reader.status().is_open);
    let mut bytes = vec![0; length as usize];
    let read = match reader.read_at(0, &mut bytes) {
        Ok(read) => read,
        // It was deleted between the two calls.
        Err(_) if client.stat(path).is_err_and(|error| error.kind() == Kind::NotFound) => {
            return Ok(Seen::Missing);
        }
        Err(error) => return Err(error),
    };
    let expected = Pattern { seed }.bytes(0, read);
    let wrong = expected.iter().zip(&bytes).position(|(expected, found)| expected != found);
    let wrong = wrong.map(|at| at as u64).or_else(|| ((read as u64) < length).then_some(read as u64));
    Ok(Seen::File { length, is_open, wrong })
}
