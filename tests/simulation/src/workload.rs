//! What workers do: one call after the other on their own directory, reads of everybody's files. Every answer is told to
//! the model.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ringfs_sdk::{Client, Error, Kind, Writer};
use ringfs_tests::random::Random;

use crate::coroutine::wait;
use crate::executor::Executor;
use crate::file::File;
use crate::model::{Model, root_of};
use crate::tree::{Change, Node};

mod changes;
mod looks;
mod writing;

/// Files that a worker has open for writing.
const WRITERS_MAX: usize = 2;
/// Names of files and directories: few, so that they meet again.
const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
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
            0..5 => {
                let path = self.some_path();
                self.change(&Change::Mkdirs(path));
            }
            5..20 if writers.len() < WRITERS_MAX => writers.extend(self.create()),
            20..53 if !writers.is_empty() => self.write(writers),
            53..58 => {
                let change = self.some_rename();
                self.change(&change);
            }
            58..61 => {
                let path = self.some_path();
                self.change(&Change::Delete(path));
            }
            61..64 => self.concat(),
            64..67 => self.commit(),
            67..71 => self.set_attribute(),
            71..77 => self.look(),
            77..79 => self.stat(),
            79..82 => self.recover_lease(),
            82..85 => self.set_replication(),
            85..89 => self.put(),
            89..92 if writers.len() < WRITERS_MAX => writers.extend(self.append()),
            92..94 => self.read_many(),
            94 => self.truncate(),
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
            let Some(path) = doubtful else { return };
            let is_alike = {
                let model = self.shared.model.borrow();
                let mut files =
                    model.trees(self.index).iter().map(|tree| tree.get(&path).map(|node| node.file));
                let first = files.next();
                files.all(|file| Some(file) == first)
            };
            if is_alike && self.look_closely(&path) {
                continue;
            }
            // Two files of one name look alike: neither is kept.
            let change = Change::Delete(path.clone());
            match self.client.delete(&path, true) {
                Ok(_) => self.shared.model.borrow_mut().answered(self.index, &change, true),
                Err(error) if is_refusal(&error) => return,
                Err(_) => self.shared.model.borrow_mut().unanswered(self.index, &change),
            }
            self.list_all();
        }
    }

    /// The attributes that a listing does not tell. Returns whether they were told.
    fn look_closely(&mut self, path: &str) -> bool {
        let number_before = self.shared.model.borrow().trees(self.index).len();
        self.look_at_attributes(path);
        self.shared.model.borrow().trees(self.index).len() < number_before
    }

    /// A path of a file of any worker, and the file of this number where only one can be.
    fn some_file(&mut self) -> Option<Found> {
        let workers = self.shared.in_flight.borrow().len() as u64;
        let owner = if self.random.chance(700) { self.index } else { self.random.below(workers) as usize };
        let model = self.shared.model.borrow();
        let tree = model.trees(owner).first()?;
        let is_file = |(path, node): (&String, &Node)| node.file.map(|_| path.clone());
        let paths: Vec<String> = tree.iter().filter_map(is_file).collect();
        if paths.is_empty() {
            return None;
        }
        let path = self.random.pick(&paths).clone();
        let mut numbers: Vec<u64> = match owner == self.index {
            true => model.trees(owner).iter().filter_map(|tree| tree.get(&path)?.file).collect(),
            // Its owner may rename and replace it meanwhile.
            false => model.files().map(|(number, _)| number).collect(),
        };
        numbers.sort_unstable();
        numbers.dedup();
        let is_certain = owner == self.index
            && model.trees(owner).iter().all(|tree| tree.get(&path).is_some_and(|node| node.file.is_some()));
        let files = numbers.into_iter().map(|number| (number, model.file(number))).collect();
        Some((path, files, is_certain))
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
