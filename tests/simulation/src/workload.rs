//! What workers do: one call after the other on their own directory, reads of everybody's files. Every answer is told to
//! the model.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ringfs_sdk::{Client, CreateOptions, Error, Kind, Writer};

use crate::coroutine::wait;
use crate::executor::{Executor, HostId};
use crate::model::{File, Model, bytes_of, root_of};
use crate::tree::{Change, Node};
use ringfs_tests::random::Random;

/// Files that a worker has open for writing.
const WRITERS_MAX: usize = 2;
/// Names of files and directories: few, so that they meet again.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
/// Bytes of one write, at most.
const WRITE_BYTES_MAX: u64 = 9000;
/// Bytes of the largest file that the namenode keeps.
pub const INLINE_BYTES_MAX: u64 = 3000;

/// What all workers of a simulation share.
pub struct Shared {
    /// The facts.
    pub model: RefCell<Model>,
    /// What is counted.
    pub counts: Counts,
    /// Changes that are being made, by worker.
    pub in_flight: RefCell<Vec<Option<Change>>>,
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Operations that were acknowledged.
    pub acknowledged: Cell<u64>,
    /// Operations that failed for want of servers.
    pub failed: Cell<u64>,
    /// Bytes that were read and compared.
    pub read_bytes: Cell<u64>,
}

/// A worker.
pub struct Worker {
    /// Which one.
    pub index: usize,
    /// Its host.
    pub host: HostId,
    /// Its client.
    pub client: Client,
    /// What it shares with the others.
    pub shared: Rc<Shared>,
    /// Its time.
    pub executor: Executor,
    /// Its decisions.
    pub random: Random,
    /// Operations that it has still to make.
    pub left: Rc<Cell<u32>>,
}

/// A path, the files that may be there with what is known of them, and whether one of them is for certain.
type Found = (String, Vec<(u64, File)>, bool);

struct OpenWriter {
    writer: Writer,
    number: u64,
}

impl Worker {
    /// Works until nothing is left to do. To be run as a coroutine.
    pub fn run(mut self) {
        self.settle();
        let mut writers = Vec::new();
        while self.left.get() > 0 {
            self.left.set(self.left.get() - 1);
            self.pause();
            self.operate(&mut writers);
        }
        while let Some(open) = writers.pop() {
            self.close(open);
        }
    }

    fn pause(&mut self) {
        let pause =
            if self.random.chance(200) { self.random.range(100..2000) } else { self.random.below(30) };
        wait(self.executor.sleep(Duration::from_millis(pause)));
    }

    fn note(&self, what: impl FnOnce() -> String) {
        self.executor.note(|| format!("w{} {}", self.index, what()));
    }

    fn operate(&mut self, writers: &mut Vec<OpenWriter>) {
        match self.random.below(100) {
            0..6 => {
                let path = self.some_path();
                self.change(&Change::Mkdirs(path));
            }
            6..22 if writers.len() < WRITERS_MAX => writers.extend(self.create()),
            22..60 if !writers.is_empty() => self.write(writers),
            60..66 => {
                let (source, target) = (self.some_path(), self.some_path());
                let overwrite = self.random.chance(400);
                self.change(&Change::Rename { source, target, overwrite });
            }
            66..70 => {
                let path = self.some_path();
                self.change(&Change::Delete(path));
            }
            70..75 => self.list(&root_of(self.index)),
            75..79 => self.stat(),
            79..83 => self.recover_lease(),
            83..86 => self.set_replication(),
            86..90 => self.put(),
            90..93 if writers.len() < WRITERS_MAX => writers.extend(self.append()),
            93..95 => self.read_many(),
            95 => self.truncate(),
            _ => self.read(),
        }
    }

    /// Takes a file from its writer, whoever that is: he may go on only if nothing that he wrote is lost.
    fn recover_lease(&mut self) {
        let Some((path, ..)) = self.some_file() else { return };
        let recovered = self.client.recover_lease(&path);
        self.count(&recovered);
        self.note(|| format!("recover the lease of {path}: {}", describe(&recovered)));
    }

    fn set_replication(&mut self) {
        let Some((path, _, is_certain)) = self.some_file() else { return };
        let replication = self.random.range(2..5) as u16;
        let set = self.client.set_replication(&path, replication);
        self.count(&set);
        self.note(|| format!("set the replication of {path} to {replication}: {}", describe(&set)));
        if let Err(error) = &set
            && is_certain
            && is_refusal(error)
        {
            self.shared.model.borrow_mut().violated(format!("set the replication of {path}: {error}"));
        }
    }

    /// A path in the directory of this worker, one or two names deep.
    fn some_path(&mut self) -> String {
        let (first, second) = (*self.random.pick(&NAMES), *self.random.pick(&NAMES));
        let root = root_of(self.index);
        if self.random.chance(600) { format!("{root}/{first}") } else { format!("{root}/{first}/{second}") }
    }

    /// Makes a change that gives nothing back.
    fn change(&mut self, change: &Change) {
        let client = self.client.clone();
        let _done = self.make(change, |change| match change {
            Change::Mkdirs(path) => client.mkdirs(path),
            Change::Rename { source, target, overwrite } => client.rename(source, target, *overwrite),
            Change::Delete(path) => client.delete(path, true).map(|_| ()),
            Change::Create { .. } => Ok(()),
        });
    }

    fn make<T>(&mut self, change: &Change, call: impl FnOnce(&Change) -> Result<T, Error>) -> Option<T> {
        self.shared.model.borrow_mut().begin(self.index, change);
        self.shared.in_flight.borrow_mut()[self.index] = Some(change.clone());
        let result = call(change);
        self.shared.in_flight.borrow_mut()[self.index] = None;
        self.note(|| format!("{change:?}: {}", describe(&result)));
        let mut model = self.shared.model.borrow_mut();
        match &result {
            Ok(_) => model.answered(self.index, change, true),
            Err(error) if is_refusal(error) => model.answered(self.index, change, false),
            Err(_) => model.unanswered(self.index, change),
        }
        drop(model);
        self.count(&result);
        if matches!(&result, Err(error) if !is_refusal(error)) {
            self.settle();
        }
        result.ok()
    }

    fn count<T>(&self, result: &Result<T, Error>) {
        let counts = &self.shared.counts;
        let count = if matches!(result, Err(error) if !is_refusal(error)) {
            &counts.failed
        } else {
            &counts.acknowledged
        };
        count.set(count.get() + 1);
    }

    /// Finds out what became of calls that were not answered: a later change of the session is behind them all.
    fn settle(&mut self) {
        let root = root_of(self.index);
        while let Err(error) = self.client.mkdirs(&root) {
            self.note(|| format!("settle: {error}"));
            self.pause();
        }
        self.list_all();
        loop {
            let doubtful = {
                let model = self.shared.model.borrow();
                let [first, second, ..] = model.trees(self.index) else { return };
                let differs = |path: &&String| first.get(*path) != second.get(*path);
                first.keys().chain(second.keys()).find(differs).cloned()
            };
            // Two files of one name look alike: neither is kept.
            let Some(path) = doubtful else { return };
            let change = Change::Delete(path.clone());
            match self.client.delete(&path, true) {
                Ok(_) => self.shared.model.borrow_mut().answered(self.index, &change, true),
                Err(error) if is_refusal(&error) => return,
                Err(_) => self.shared.model.borrow_mut().unanswered(self.index, &change),
            }
            self.list_all();
        }
    }

    fn list_all(&mut self) {
        let directories: Vec<String> = {
            let model = self.shared.model.borrow();
            let trees = model.trees(self.index).iter();
            let mut all: Vec<String> = trees
                .flat_map(|tree| tree.iter())
                .filter(|(_, node)| **node == Node::Directory)
                .map(|(path, _)| path.clone())
                .collect();
            all.sort();
            all.dedup();
            all
        };
        directories.iter().for_each(|directory| self.list(directory));
    }

    fn list(&mut self, directory: &str) {
        let listed = self.client.list(directory).and_then(|listing| listing.collect::<Result<Vec<_>, _>>());
        self.count(&listed);
        self.note(|| format!("list {directory}: {}", describe(&listed)));
        let mut model = self.shared.model.borrow_mut();
        match listed {
            Ok(entries) => {
                let is_file = entries.len() == 1 && entries[0].name.is_empty();
                let kinds: Vec<(String, bool)> = entries
                    .iter()
                    .map(|entry| (entry.name.clone(), entry.kind == ringfs_sdk::FileKind::Directory))
                    .collect();
                model.listed(self.index, directory, (!is_file).then_some(&kinds));
            }
            Err(error) if error.kind() == Kind::NotFound => model.listed(self.index, directory, None),
            Err(_) => {}
        }
    }

    fn create(&mut self) -> Option<OpenWriter> {
        let (path, number) = (self.some_path(), self.shared.model.borrow_mut().next_number());
        let overwrite = self.random.chance(300);
        let options = CreateOptions {
            replication: self.random.range(2..4) as u16,
            block_size: 1024 * self.random.range(1..17),
            overwrite,
            reuse: self.random.chance(300),
            announced_length: self.random.chance(300).then(|| self.random.below(20_000)),
            ..CreateOptions::default()
        };
        let client = self.client.clone();
        let change = Change::Create { path: path.clone(), number, overwrite, content: None };
        let writer = self.make(&change, |_| client.create_with(&path, &options))?;
        Some(OpenWriter { writer, number })
    }

    /// A file with its content: kept in the namenode if it is small.
    fn put(&mut self) {
        let (path, number) = (self.some_path(), self.shared.model.borrow_mut().next_number());
        let (overwrite, length) = (self.random.chance(500), self.random.below(INLINE_BYTES_MAX + 1));
        let options = CreateOptions { overwrite, block_size: 4096, ..CreateOptions::default() };
        let client = self.client.clone();
        let change = Change::Create { path: path.clone(), number, overwrite, content: Some(length) };
        let content = bytes_of(number, 0, length as usize);
        let _put = self.make(&change, |_| client.put(&path, &content, &options));
    }

    /// Goes on behind the end of a file that is closed.
    fn append(&mut self) -> Option<OpenWriter> {
        let (path, files, is_certain) = self.some_file()?;
        let [(number, known)] = &files[..] else { return None };
        if !is_certain || known.worker != self.index || known.has_writer {
            return None;
        }
        let length = known.closed?;
        let number = *number;
        self.shared.model.borrow_mut().learn(number, File::is_appended);
        let opened = self.client.append(&path);
        self.count(&opened);
        self.note(|| format!("append to {path}: {}", describe(&opened)));
        let writer = opened.ok()?;
        let mut model = self.shared.model.borrow_mut();
        if writer.position() != length {
            model.violated(format!("{path} of {length} bytes is appended to at {}", writer.position()));
        }
        model.learn(number, |file| {
            (file.written, file.has_writer, file.may_be_closed) = (length, true, false);
        });
        drop(model);
        Some(OpenWriter { writer, number })
    }

    /// Cuts a file that is closed: at once, or by a copy of a part of a block, whose end nobody waits for.
    fn truncate(&mut self) {
        let Some((path, files, true)) = self.some_file() else { return };
        let [(number, known)] = &files[..] else { return };
        let (number, Some(before)) = (*number, known.closed) else { return };
        if known.worker != self.index || known.has_writer {
            return;
        }
        let length = self.random.below(before + 1);
        self.shared.model.borrow_mut().learn(number, |file| file.is_cut(length));
        let cut = self.client.truncate(&path, length);
        self.count(&cut);
        self.note(|| format!("cut {path} of {before} bytes to {length}: {}", describe(&cut)));
        let mut model = self.shared.model.borrow_mut();
        match cut {
            Ok(true) => model.learn(number, |file| {
                file.written = length;
                file.cut_to = None;
                file.has_closed(length);
            }),
            Err(error) if is_refusal(&error) => model.learn(number, |file| {
                file.cut_to = None;
                file.has_closed(before);
            }),
            Ok(false) | Err(_) => {}
        }
    }

    /// Some files, in one call.
    fn read_many(&mut self) {
        let found: Vec<Found> = (0..3).filter_map(|_| self.some_file()).collect();
        let paths: Vec<&str> = found.iter().map(|(path, ..)| path.as_str()).collect();
        let read = self.client.read_many(&paths);
        self.count(&read);
        self.note(|| format!("read {paths:?}: {}", describe(&read)));
        let Ok(read) = read else { return };
        let mut model = self.shared.model.borrow_mut();
        for ((path, files, is_certain), bytes) in found.iter().zip(read) {
            let Ok(bytes) = bytes else { continue };
            let fits = |number: u64| bytes_of(number, 0, bytes.len()) == bytes;
            match &files[..] {
                [(number, known)] if *is_certain => {
                    model.seen_length(*number, known, bytes.len() as u64, known.closed.is_none());
                    model.seen_bytes(*number, 0, &bytes);
                }
                // Its owner may have put another there since it was asked for.
                _ if !model.files().any(|(number, _)| fits(number)) => {
                    model.violated(format!("read {path} with others: bytes of no file that may be there"));
                }
                _ => {}
            }
        }
    }

    fn write(&mut self, writers: &mut Vec<OpenWriter>) {
        let at = self.random.below(writers.len() as u64) as usize;
        let mut open = writers.swap_remove(at);
        let number = open.number;
        let done = match self.random.below(100) {
            0..15 => return self.close(open),
            15..40 => {
                let power_cuts = self.shared.model.borrow().power_cuts();
                let flushed = open.writer.hflush();
                let lost_power = self.shared.model.borrow().power_cuts() > power_cuts;
                self.acknowledged(number, &flushed, "hflush", |file| file.has_flushed(lost_power));
                flushed.is_ok()
            }
            40..60 => {
                let synced = open.writer.hsync();
                self.acknowledged(number, &synced, "hsync", File::has_synced);
                synced.is_ok()
            }
            _ => {
                let len = 1 + self.random.below(WRITE_BYTES_MAX);
                let offset = self.shared.model.borrow().file(number).written;
                let bytes = bytes_of(number, offset, len as usize);
                self.shared.model.borrow_mut().learn(number, |file| file.written += len);
                let written = open.writer.append(&bytes);
                self.acknowledged(number, &written, "write", |_| {});
                written.is_ok()
            }
        };
        match done {
            true => writers.push(open),
            false => self.shared.model.borrow_mut().learn(number, |file| file.has_writer = false),
        }
    }

    fn acknowledged(
        &self,
        number: u64,
        result: &Result<(), Error>,
        what: &str,
        learn: impl FnOnce(&mut File),
    ) {
        self.count(result);
        self.note(|| format!("{what} file {number}: {}", describe(result)));
        if result.is_ok() {
            self.shared.model.borrow_mut().learn(number, learn);
        }
    }

    fn close(&mut self, mut open: OpenWriter) {
        let number = open.number;
        self.shared.model.borrow_mut().learn(number, |file| file.may_be_closed = true);
        for _ in 0..3 {
            let closed = open.writer.close();
            self.count(&closed);
            self.note(|| format!("close file {number}: {}", describe(&closed)));
            match closed {
                Ok(status) => {
                    let mut model = self.shared.model.borrow_mut();
                    let file = model.file(number);
                    if status.length != file.written
                        || file.closed.is_some_and(|closed| closed != file.written)
                    {
                        model.violated(format!(
                            "file {number} was closed with {} bytes: {file:?}",
                            status.length
                        ));
                    }
                    model.learn(number, |file| file.closed = Some(file.written));
                    break;
                }
                Err(error) if error.kind() == Kind::TimedOut => {}
                Err(_) => break,
            }
        }
        self.shared.model.borrow_mut().learn(number, |file| file.has_writer = false);
    }

    /// A path of a file of any worker, and the file of this number where only one can be.
    fn some_file(&mut self) -> Option<Found> {
        let workers = self.shared.in_flight.borrow().len() as u64;
        let owner = if self.random.chance(700) { self.index } else { self.random.below(workers) as usize };
        let model = self.shared.model.borrow();
        let tree = model.trees(owner).first()?;
        let is_file = |(path, node): (&String, &Node)| matches!(node, Node::File(_)).then(|| path.clone());
        let paths: Vec<String> = tree.iter().filter_map(is_file).collect();
        if paths.is_empty() {
            return None;
        }
        let path = self.random.pick(&paths).clone();
        let mut numbers: Vec<u64> = match owner == self.index {
            true => model
                .trees(owner)
                .iter()
                .filter_map(|tree| match tree.get(&path) {
                    Some(Node::File(number)) => Some(*number),
                    _ => None,
                })
                .collect(),
            // Its owner may rename and replace it meanwhile.
            false => model.files().map(|(number, _)| number).collect(),
        };
        numbers.sort_unstable();
        numbers.dedup();
        let is_certain = owner == self.index
            && model.trees(owner).iter().all(|tree| matches!(tree.get(&path), Some(Node::File(_))));
        let files = numbers.into_iter().map(|number| (number, model.file(number))).collect();
        Some((path, files, is_certain))
    }

    fn stat(&mut self) {
        let Some((path, files, is_certain)) = self.some_file() else { return };
        let status = self.client.stat(&path);
        self.count(&status);
        self.note(|| format!("stat {path}: {}", describe(&status)));
        let mut model = self.shared.model.borrow_mut();
        match (&status, &files[..]) {
            (Ok(status), [(number, known)]) if is_certain && !status.is_open => {
                model.seen_length(*number, known, status.length, false);
                if let Some(crc) = status.content_crc {
                    model.seen_crc(*number, status.length, crc);
                }
            }
            (Err(error), _) if is_certain && is_refusal(error) => {
                model.violated(format!("stat {path}: {error}"));
            }
            _ => {}
        }
    }

    fn read(&mut self) {
        let Some((path, files, is_certain)) = self.some_file() else { return };
        let opened = self.client.open(&path);
        self.count(&opened);
        let Ok(reader) = opened.inspect_err(|error| self.note(|| format!("open {path}: {error}"))) else {
            return;
        };
        let (len, is_open) = (reader.len(), reader.status().is_open);
        let offset = if self.random.chance(500) { 0 } else { self.random.below(len + 1) };
        let wanted = if self.random.chance(500) { len - offset } else { self.random.below(len - offset + 1) };
        let mut bytes = vec![0; wanted as usize];
        let read = reader.read_at(offset, &mut bytes);
        self.note(|| format!("read {path} of {len} bytes from {offset}: {}", describe(&read)));
        self.count(&read);
        let counts = &self.shared.counts;
        let Ok(read) = read else { return };
        counts.read_bytes.set(counts.read_bytes.get() + read as u64);
        let mut model = self.shared.model.borrow_mut();
        if read as u64 != wanted {
            model.violated(format!("read {path}: {read} bytes instead of {wanted}"));
        }
        match &files[..] {
            [(number, known)] if is_certain => {
                model.seen_length(*number, known, len, is_open);
                model.seen_bytes(*number, offset, &bytes);
            }
            _ => {
                let fits = |number: u64| bytes_of(number, offset, bytes.len()) == bytes;
                // Its owner may have put another there since it was asked for.
                if !model.files().any(|(number, _)| fits(number)) {
                    model.violated(format!("read {path}: bytes of no file that may be there"));
                }
            }
        }
    }
}

/// Whether an answer says that nothing was changed and nothing will be.
fn is_refusal(error: &Error) -> bool {
    matches!(error.kind(), Kind::NotFound | Kind::AlreadyExists | Kind::Refused | Kind::Busy)
}

fn describe<T>(result: &Result<T, Error>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(error) => format!("{:?}: {error}", error.kind()),
    }
}
