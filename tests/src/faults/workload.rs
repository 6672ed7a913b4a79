//! Clients that write, flush, rename, delete and read without pause, and note in the ledger what was acknowledged.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ringfs_sdk::{Client, CreateOptions, Error, Kind, Writer};

use super::ledger::{Contradiction, Entry, Known, Ledger, Seen};
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
/// Errors that are kept with their texts; all are counted.
const ERRORS_KEPT: usize = 50;

/// What all clients share.
#[derive(Debug, Default)]
pub struct Shared {
    /// What was acknowledged.
    pub ledger: Ledger,
    /// Set when they shall end.
    pub stop: AtomicBool,
    /// Calls that were acknowledged.
    pub acknowledged: AtomicU64,
    /// Bytes that were read and compared.
    pub compared_bytes: AtomicU64,
    /// Calls that failed.
    pub errors: AtomicU64,
    texts: Mutex<Vec<String>>,
    contradictions: Mutex<Vec<Contradiction>>,
}

impl Shared {
    /// What failed, with its texts.
    pub fn error_texts(&self) -> Vec<String> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What readers found that must not be.
    pub fn contradictions(&self) -> Vec<Contradiction> {
        self.contradictions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what must not be.
    pub fn contradict(&self, contradiction: Contradiction) {
        self.contradictions.lock().unwrap_or_else(PoisonError::into_inner).push(contradiction);
    }

    fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    fn fail(&self, error: &dyn std::fmt::Display) {
        self.errors.fetch_add(1, Ordering::Relaxed);
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.len() < ERRORS_KEPT {
            texts.push(error.to_string());
        }
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
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
        match self.client.create_with(&path, &options) {
            Ok(writer) => {
                self.shared.ledger.set(&path, entry);
                self.shared.acknowledge();
                self.open.push((path, pattern, writer));
            }
            Err(error) => self.shared.fail(&error),
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
        match self.random.below(10) {
            0..3 => writer.hflush()?,
            3 => writer.hsync()?,
            _ => return Ok(()),
        }
        self.shared.ledger.change(path, |entry| entry.flushed = position + len);
        self.shared.acknowledge();
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
        match writer.close() {
            Ok(_status) => {
                self.shared.ledger.change(&path, |entry| {
                    (entry.is_closed, entry.flushed) = (Known::Yes, entry.written);
                });
                self.shared.acknowledge();
                self.closed.push_back(path);
            }
            Err(error) => self.lose(&path, &error),
        }
    }

    /// A writer has failed: the namenode will close its file, with what was flushed or more.
    fn lose(&mut self, path: &str, error: &dyn std::fmt::Display) {
        self.shared.ledger.change(path, |entry| entry.is_closed = Known::Maybe);
        self.shared.fail(error);
    }

    fn rename(&mut self) {
        let Some(source) = self.closed.pop_front() else { return };
        let target = format!("{source}-renamed");
        self.shared.ledger.rename_begun(&source, &target);
        match self.client.rename(&source, &target, false) {
            Ok(()) => {
                self.shared.ledger.rename_done(&source, &target);
                self.shared.acknowledge();
                self.closed.push_back(target);
            }
            Err(error) => {
                self.shared.ledger.rename_undecided(&source, &target);
                self.shared.fail(&error);
            }
        }
    }

    fn delete(&mut self) {
        let Some(path) = self.closed.pop_front() else { return };
        self.shared.ledger.change(&path, |entry| entry.exists = Known::Maybe);
        match self.client.delete(&path, false) {
            Ok(_existed) => {
                self.shared.ledger.change(&path, |entry| entry.exists = Known::No);
                self.shared.acknowledge();
            }
            Err(error) => self.shared.fail(&error),
        }
    }
}

/// Reads closed files of all clients and compares them, until it is told to stop.
pub fn read_always(client: &Client, shared: &Shared, seed: u64) {
    let mut random = Random::new(seed ^ 0xbead);
    while !shared.is_stopping() {
        let files: Vec<(String, Entry)> = shared.ledger.all().into_iter().collect();
        if files.is_empty() {
            std::thread::yield_now();
            continue;
        }
        let (path, entry) = random.pick(&files);
        let seen = look(client, path, entry.seed);
        // What changed meanwhile cannot be held against what was known before.
        if shared.ledger.get(path).as_ref() != Some(entry) {
            continue;
        }
        match seen {
            Ok(seen) => {
                if let Seen::File { length, .. } = seen {
                    shared.compared_bytes.fetch_add(length, Ordering::Relaxed);
                    shared.acknowledge();
                }
                if let Err(contradiction) = entry.check(path, &seen)
                    && shared.ledger.get(path).as_ref() == Some(entry)
                {
                    shared.contradict(contradiction);
                }
            }
            Err(error) => shared.fail(&error),
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
