//! What the cluster has said that it did: facts that must hold from then on, whatever fails.
//!
//! Each worker changes its own directory only, one change after the other. As long as every call is answered there is one
//! tree that the directory must be; a call without an answer may have been carried out or not, and there are two. An answer
//! that fits none of the trees is a violation.

use std::collections::BTreeMap;

use ringfs_sdk::{Acl, ContentCrc, FileStatus, Xattr};

use crate::attributes::is_directory;
use crate::file::File;
use crate::tree::{self, Change, Node, Tree, apply};

/// Trees that are told apart at once; a worker that knows less asks before it goes on.
pub const TREES_MAX: usize = 8;

/// The facts.
#[derive(Debug, Default)]
pub struct Model {
    files: BTreeMap<u64, File>,
    trees: BTreeMap<usize, Vec<Tree>>,
    next_number: u64,
    power_cuts: u64,
    violations: Vec<String>,
}

/// The directory of a worker.
pub fn root_of(worker: usize) -> String {
    format!("/w{worker}")
}

impl Model {
    /// A worker begins with its directory and nothing in it.
    pub fn add_worker(&mut self, worker: usize) {
        self.trees.insert(worker, vec![tree::empty(root_of(worker))]);
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
        match change {
            Change::Create { number, content, block_size, .. } => {
                let file = self.files.entry(*number).or_default();
                (file.has_writer, file.worker, file.block_size) = (content.is_none(), worker, *block_size);
                (file.written, file.may_be_closed) = (content.unwrap_or(0), content.is_some());
            }
            Change::Concat { number, parts, .. } => {
                let mut joined = File::default();
                (joined.worker, joined.may_be_closed) = (worker, true);
                joined.block_size = parts.first().map_or(0, |target| self.file(*target).block_size);
                parts.iter().for_each(|part| joined.join(*part, &self.file(*part)));
                self.files.insert(*number, joined);
            }
            Change::Commit(steps) => steps.iter().for_each(|step| self.begin(worker, &step.change)),
            _ => {}
        }
    }

    /// Files that a change has made are closed.
    fn has_closed(&mut self, change: &Change) {
        match change {
            Change::Create { number, content: Some(length), .. } => {
                self.learn(*number, |file| file.has_closed(*length));
            }
            Change::Concat { number, .. } => self.learn(*number, |file| file.has_closed(file.written)),
            Change::Commit(steps) => steps.iter().for_each(|step| self.has_closed(&step.change)),
            _ => {}
        }
    }

    /// The content of a file of a worker changes, and its time with it.
    pub fn is_touched(&mut self, worker: usize, path: &str) {
        let nodes = self.trees.get_mut(&worker).into_iter().flatten();
        nodes.filter_map(|tree| tree.get_mut(path)).for_each(|node| node.attributes.is_touched());
    }

    /// The process of a worker has ended, and with it its writers.
    pub fn writers_are_gone(&mut self, worker: usize) {
        for file in self.files.values_mut().filter(|file| file.worker == worker) {
            file.has_writer = false;
        }
    }

    /// A change was answered.
    pub fn answered(&mut self, worker: usize, change: &Change, is_done: bool) {
        if is_done {
            self.has_closed(change);
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

    /// Somebody saw something of the directory of a worker that fits only some of the trees.
    fn saw(&mut self, worker: usize, what: impl FnOnce() -> String, fits: impl Fn(&Tree) -> bool) {
        let before = self.trees.remove(&worker).unwrap_or_default();
        let after: Vec<Tree> = before.iter().filter(|tree| fits(tree)).cloned().collect();
        if after.is_empty() {
            self.violations.push(format!("{}, which no history allows: {before:?}", what()));
            self.trees.insert(worker, before);
        } else {
            self.set(worker, after);
        }
    }

    /// Somebody was shown what is in a directory, by name.
    pub fn listed(&mut self, worker: usize, directory: &str, shown: Option<&[(String, FileStatus)]>) {
        let what = || format!("{directory} holds {shown:?}");
        self.saw(worker, what, |tree| fit_all(tree::list(tree, directory), shown));
    }

    /// Somebody was shown all that is below a directory, by path from there.
    pub fn walked(&mut self, worker: usize, directory: &str, shown: Option<&[(String, FileStatus)]>) {
        let what = || format!("below {directory} is {shown:?}");
        self.saw(worker, what, |tree| fit_all(tree::below(tree, directory), shown));
    }

    /// Somebody was shown all paths of so many names below the worker's directory, sorted.
    pub fn matched(&mut self, worker: usize, names: usize, shown: &[(String, FileStatus)]) {
        let root = root_of(worker);
        let fits = |tree: &Tree| {
            let below = tree::below(tree, &root).unwrap_or_default();
            let matches = below.into_iter().filter(|(path, _)| path.split('/').count() == names);
            fit_all(Some(matches.collect()), Some(shown))
        };
        self.saw(worker, || format!("{names} names below {root} have {shown:?}"), fits);
    }

    /// Somebody was shown the status of a path, or that nothing is there.
    pub fn saw_status(&mut self, worker: usize, path: &str, status: Option<&FileStatus>) {
        let what = || format!("the status of {path} is {status:?}");
        self.saw(worker, what, |tree| match (tree.get(path), status) {
            (Some(node), Some(status)) => fit(node, status),
            (node, status) => node.is_none() && status.is_none(),
        });
    }

    /// Somebody was shown the extended attributes of a path.
    pub fn saw_xattrs(&mut self, worker: usize, path: &str, xattrs: &[Xattr]) {
        let shown = xattrs.iter().map(|xattr| (xattr.name.clone(), xattr.value.clone())).collect();
        let what = || format!("{path} has the attributes {xattrs:?}");
        self.saw(worker, what, |tree| tree.get(path).is_some_and(|node| *node.attributes.xattrs() == shown));
    }

    /// Somebody was shown the ACL of a path.
    pub fn saw_acl(&mut self, worker: usize, path: &str, acl: &Acl) {
        let what = || format!("{path} has the ACL {acl:?}");
        self.saw(worker, what, |tree| tree.get(path).is_some_and(|node| node.attributes.fit_acl(acl)));
    }

    /// Somebody was told how many files and directories are in the directory of a worker, itself included.
    pub fn counted(&mut self, worker: usize, files: u64, directories: u64) {
        let what = || format!("{files} files and {directories} directories are counted");
        self.saw(worker, what, |tree| {
            let is_file = |node: &&Node| node.file.is_some();
            tree.values().filter(is_file).count() as u64 == files && tree.len() as u64 == files + directories
        });
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
        if content.crc != content.kind.of(&self.file(number).bytes(number, 0, length as usize)) {
            self.violations.push(format!("file {number} of {length} bytes has not the checksum {content:?}"));
        }
    }

    /// Somebody was given bytes. They must be those of `number` from `offset` on.
    pub fn seen_bytes(&mut self, number: u64, offset: u64, bytes: &[u8]) {
        let file = self.file(number);
        let wrong = bytes.iter().zip(offset..).position(|(byte, at)| *byte != file.byte(number, at));
        if let Some(wrong) = wrong {
            let at = offset + wrong as u64;
            self.violations.push(format!("file {number}: the byte at {at} is not the one that was written"));
        }
    }

    /// Whether a file of any worker has these bytes at an offset.
    pub fn is_of_some_file(&self, offset: u64, bytes: &[u8]) -> bool {
        self.files.iter().any(|(number, file)| file.bytes(*number, offset, bytes.len()) == bytes)
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

fn fit(node: &Node, status: &FileStatus) -> bool {
    node.file.is_none() == is_directory(status) && node.attributes.fit(status)
}

/// Whether what was shown, by name, may be what is expected; `None` where there is no directory.
fn fit_all(expected: Option<Vec<(&str, &Node)>>, shown: Option<&[(String, FileStatus)]>) -> bool {
    match (expected, shown) {
        (Some(expected), Some(shown)) => {
            let mut pairs = expected.iter().zip(shown);
            expected.len() == shown.len()
                && pairs.all(|((name, node), (shown, status))| name == shown && fit(node, status))
        }
        (expected, shown) => expected.is_none() && shown.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str) -> (String, FileStatus) {
        let status = FileStatus {
            inode: ringfs_proto::ids::InodeId(1),
            kind: ringfs_sdk::FileKind::Directory,
            name: name.to_owned(),
            length: 0,
            told_bytes: 0,
            mode: 0o755,
            owner: "ann".to_owned(),
            group: "staff".to_owned(),
            mtime_ms: 0,
            atime_ms: 0,
            replication: 0,
            block_size: 0,
            children: 0,
            is_open: false,
            version: ringfs_proto::ids::LogIndex(0),
            has_acl: false,
            storage_policy: 0,
            content_crc: None,
        };
        (name.to_owned(), status)
    }

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
        model.listed(0, "/w0", Some(&[status("a")]));
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
        model.listed(0, "/w0", Some(&[status("a")]));
        assert_eq!(model.violations().len(), 1);
    }

    #[test]
    fn acknowledged_bytes_are_there_and_no_others() {
        let mut model = model();
        model.learn(7, |file| (file.written, file.flushed) = (10, 5));
        let known = model.file(7);
        model.seen_length(7, &known, 5, true);
        model.seen_bytes(7, 2, &model.file(7).bytes(7, 2, 3));
        assert!(model.violations().is_empty());
        model.seen_length(7, &known, 4, true);
        model.seen_length(7, &known, 11, true);
        model.seen_bytes(7, 2, &File::default().bytes(8, 2, 3));
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
