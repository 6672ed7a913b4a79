//! What the cluster has said that it did: facts that must hold from then on, whatever fails.
//!
//! Each worker changes its own directory only, one change after the other. As long as every call is answered there is one
//! tree that the directory must be; a call without an answer may have been carried out or not, and there are two. An answer
//! that fits none of the trees is a violation.

use std::collections::BTreeMap;

use ringfs_sdk::ContentCrc;

use crate::tree::{Change, Node, Tree, apply, list};

/// Trees that are told apart at once; a worker that knows less asks before it goes on.
pub const TREES_MAX: usize = 8;

/// What is known of a file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    /// Bytes that were handed to the client.
    pub written: u64,
    /// Bytes that were acknowledged by `hflush`, and survive the death of every process.
    pub flushed: u64,
    /// What was flushed and not synced outlives its power cut on other datanodes only.
    pub is_weak: bool,
    /// Bytes at the last `hflush` or `hsync` that was answered: without new ones the next says nothing new.
    pub asked: u64,
    /// Bytes that were acknowledged by `hsync`, and survive power cuts.
    pub synced: u64,
    /// Its length, once somebody was told that it is closed.
    pub closed: Option<u64>,
    /// It may be closed with all that was written: nobody was told.
    pub may_be_closed: bool,
    /// Its writer holds it open.
    pub has_writer: bool,
    /// The worker that writes it.
    pub worker: usize,
    /// It is being cut to this length, or will be: until then it is as before, and nobody is told when.
    pub cut_to: Option<u64>,
}

impl File {
    /// `hflush` was acknowledged. Without new bytes no datanode was asked, and what a power cut took is not back; nor is it
    /// when the power was cut while the answer was on its way.
    pub fn has_flushed(&mut self, lost_power_meanwhile: bool) {
        if self.written > self.asked {
            self.asked = self.written;
            if !lost_power_meanwhile {
                (self.flushed, self.is_weak) = (self.written, false);
            }
        }
    }

    /// It is closed with this length.
    pub fn has_closed(&mut self, length: u64) {
        (self.closed, self.synced, self.flushed, self.asked) = (Some(length), length, length, length);
        self.is_weak = false;
    }

    /// It may be cut to `length` now, or later.
    pub fn is_cut(&mut self, length: u64) {
        self.closed = None;
        self.cut_to = Some(length);
        (self.synced, self.flushed) = (self.synced.min(length), self.flushed.min(length));
    }

    /// It may be open again, behind its end.
    pub fn is_appended(&mut self) {
        if let Some(length) = self.closed.take() {
            (self.synced, self.flushed, self.asked) = (length, length, length);
        }
        self.may_be_closed = true;
    }

    /// `hsync` was acknowledged.
    pub fn has_synced(&mut self) {
        (self.flushed, self.synced, self.asked) = (self.written, self.written, self.written);
    }
}

/// The facts.
#[derive(Debug, Default)]
pub struct Model {
    files: BTreeMap<u64, File>,
    trees: BTreeMap<usize, Vec<Tree>>,
    next_number: u64,
    power_cuts: u64,
    violations: Vec<String>,
}

/// The byte of a file at an offset: no other file has the same bytes.
pub fn byte_of(number: u64, offset: u64) -> u8 {
    let mixed = (number << 32 | offset >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (8 * (offset & 7))) as u8
}

/// Bytes of a file.
pub fn bytes_of(number: u64, offset: u64, len: usize) -> Vec<u8> {
    (offset..offset + len as u64).map(|at| byte_of(number, at)).collect()
}

/// The directory of a worker.
pub fn root_of(worker: usize) -> String {
    format!("/w{worker}")
}

impl Model {
    /// A worker begins with its directory and nothing in it.
    pub fn add_worker(&mut self, worker: usize) {
        self.trees.insert(worker, vec![Tree::from([(root_of(worker), Node::Directory)])]);
    }

    /// What was found to be wrong.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Something is wrong.
    pub fn violated(&mut self, what: String) {
        self.violations.push(what);
    }

    /// A number for a new file.
    pub fn next_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// The trees that a worker's directory may be.
    pub fn trees(&self, worker: usize) -> &[Tree] {
        self.trees.get(&worker).map(Vec::as_slice).unwrap_or_default()
    }

    /// What is known of a file.
    pub fn file(&self, number: u64) -> File {
        self.files.get(&number).cloned().unwrap_or_default()
    }

    /// Learns something of a file.
    pub fn learn(&mut self, number: u64, learn: impl FnOnce(&mut File)) {
        learn(self.files.entry(number).or_default());
    }

    /// All files, by number.
    pub fn files(&self) -> impl Iterator<Item = (u64, &File)> {
        self.files.iter().map(|(number, file)| (*number, file))
    }

    /// A call that makes a change is about to be made.
    pub fn begin(&mut self, worker: usize, change: &Change) {
        if let Change::Create { number, content, .. } = change {
            let file = self.files.entry(*number).or_default();
            (file.has_writer, file.worker) = (content.is_none(), worker);
            (file.written, file.may_be_closed) = (content.unwrap_or(0), content.is_some());
        }
    }

    /// The process of a worker has ended, and with it its writers.
    pub fn writers_are_gone(&mut self, worker: usize) {
        for file in self.files.values_mut().filter(|file| file.worker == worker) {
            file.has_writer = false;
        }
    }

    /// A change was answered.
    pub fn answered(&mut self, worker: usize, change: &Change, is_done: bool) {
        if let (Change::Create { number, content: Some(length), .. }, true) = (change, is_done) {
            self.learn(*number, |file| file.has_closed(*length));
        }
        let before = self.trees.remove(&worker).unwrap_or_default();
        let after: Vec<Tree> = match is_done {
            true => before.iter().filter_map(|tree| apply(tree, change)).collect(),
            false => before.iter().filter(|tree| apply(tree, change).is_none()).cloned().collect(),
        };
        if after.is_empty() {
            let answer = if is_done { "was carried out" } else { "was refused" };
            self.violations.push(format!("{change:?} {answer}, which no history allows: {before:?}"));
            self.trees.insert(worker, before);
        } else {
            self.set(worker, after);
        }
    }

    /// A change was not answered: it was carried out, or not, or will be until a later call of the session is.
    pub fn unanswered(&mut self, worker: usize, change: &Change) {
        let before = self.trees.remove(&worker).unwrap_or_default();
        let changed: Vec<Tree> = before.iter().filter_map(|tree| apply(tree, change)).collect();
        self.set(worker, before.into_iter().chain(changed).collect());
    }

    /// Somebody was shown the names in a directory. `kinds` says of each whether it is a directory.
    pub fn listed(&mut self, worker: usize, directory: &str, kinds: Option<&[(String, bool)]>) {
        let fits = |tree: &Tree| {
            let expected = list(tree, directory);
            let expected = expected.map(|names| -> Vec<(String, bool)> {
                names.into_iter().map(|(name, node)| (name, node == Node::Directory)).collect()
            });
            expected.as_deref() == kinds
        };
        let before = self.trees.remove(&worker).unwrap_or_default();
        let after: Vec<Tree> = before.iter().filter(|tree| fits(tree)).cloned().collect();
        if after.is_empty() {
            self.violations.push(format!("{directory} holds {kinds:?}, which no history allows: {before:?}"));
            self.trees.insert(worker, before);
        } else {
            self.set(worker, after);
        }
    }

    /// Power cuts of datanodes so far.
    pub fn power_cuts(&self) -> u64 {
        self.power_cuts
    }

    /// The power of a datanode was cut: what was only flushed may be gone, but for the files that others keep.
    pub fn datanode_lost_power(&mut self, kept: &[u64]) {
        self.power_cuts += 1;
        for (number, file) in self.files.iter_mut().filter(|(_, file)| file.flushed > file.synced) {
            file.is_weak = true;
            if !kept.contains(number) {
                file.flushed = file.synced;
            }
        }
    }

    /// The namenode waits for a datanode no more: what a power cut has left to that one alone is given up with it.
    pub fn datanode_was_given_up(&mut self) {
        for file in self.files.values_mut().filter(|file| file.is_weak) {
            file.flushed = file.flushed.min(file.synced);
        }
    }

    /// Somebody was told the length of a file. `known` is what was known of it when he asked.
    pub fn seen_length(&mut self, number: u64, known: &File, length: u64, is_open: bool) {
        let now = self.file(number);
        let acknowledged = known.closed.unwrap_or(0).max(known.flushed.min(now.flushed)).max(known.synced);
        let least = acknowledged.min(now.cut_to.unwrap_or(u64::MAX));
        if length < least {
            self.violations
                .push(format!("file {number} has {length} bytes, {least} were acknowledged: {now:?}"));
        }
        if length > now.written || now.closed.is_some_and(|closed| length > closed) {
            self.violations
                .push(format!("file {number} has {length} bytes, which were never written: {now:?}"));
        }
        if is_open && known.closed.is_some() && now.cut_to.is_none() {
            self.violations.push(format!("file {number} is open, it was closed: {known:?}"));
        }
        if !is_open && now.cut_to.is_none() {
            // Closed without its writer having been told, or by recovery: then its writer may come back and go on behind
            // what is on stable storage now.
            self.learn(number, |file| {
                (file.synced, file.flushed) = (file.synced.max(length), file.flushed.max(length));
            });
        }
    }

    /// Somebody was told the checksum of the content of a file that is closed with `length` bytes.
    pub fn seen_crc(&mut self, number: u64, length: u64, content: ContentCrc) {
        if content.crc != content.kind.of(&bytes_of(number, 0, length as usize)) {
            self.violations.push(format!("file {number} of {length} bytes has not the checksum {content:?}"));
        }
    }

    /// Somebody was given bytes. They must be those of `number` from `offset` on.
    pub fn seen_bytes(&mut self, number: u64, offset: u64, bytes: &[u8]) {
        let wrong = bytes.iter().zip(offset..).position(|(byte, at)| *byte != byte_of(number, at));
        if let Some(wrong) = wrong {
            let at = offset + wrong as u64;
            self.violations.push(format!("file {number}: the byte at {at} is not the one that was written"));
        }
    }

    fn set(&mut self, worker: usize, trees: Vec<Tree>) {
        let mut distinct: Vec<Tree> = Vec::new();
        for tree in trees {
            if !distinct.contains(&tree) {
                distinct.push(tree);
            }
        }
        distinct.truncate(4 * TREES_MAX);
        self.trees.insert(worker, distinct);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        let mut model = Model::default();
        model.add_worker(0);
        model
    }

    #[test]
    fn an_answer_that_no_history_allows_is_a_violation() {
        let mut model = model();
        let mkdirs = Change::Mkdirs("/w0/a".into());
        model.answered(0, &mkdirs, true);
        model.listed(0, "/w0", Some(&[("a".into(), true)]));
        assert!(model.violations().is_empty());
        model.listed(0, "/w0", Some(&[]));
        assert_eq!(model.violations().len(), 1);
    }

    #[test]
    fn a_call_without_an_answer_may_have_been_carried_out_until_something_tells() {
        let mut model = model();
        let mkdirs = Change::Mkdirs("/w0/a".into());
        model.unanswered(0, &mkdirs);
        assert_eq!(model.trees(0).len(), 2);
        model.listed(0, "/w0", Some(&[]));
        assert_eq!(model.trees(0).len(), 1);
        model.listed(0, "/w0", Some(&[("a".into(), true)]));
        assert_eq!(model.violations().len(), 1);
    }

    #[test]
    fn acknowledged_bytes_are_there_and_no_others() {
        let mut model = model();
        model.learn(7, |file| (file.written, file.flushed) = (10, 5));
        let known = model.file(7);
        model.seen_length(7, &known, 5, true);
        model.seen_bytes(7, 2, &bytes_of(7, 2, 3));
        assert!(model.violations().is_empty());
        model.seen_length(7, &known, 4, true);
        model.seen_length(7, &known, 11, true);
        model.seen_bytes(7, 2, &bytes_of(8, 2, 3));
        assert_eq!(model.violations().len(), 3);
        model.datanode_lost_power(&[7]);
        let known = model.file(7);
        model.seen_length(7, &known, 4, true);
        assert_eq!(model.violations().len(), 4);
        model.datanode_lost_power(&[]);
        let known = model.file(7);
        model.seen_length(7, &known, 0, true);
        assert_eq!(model.violations().len(), 4);
    }
}
