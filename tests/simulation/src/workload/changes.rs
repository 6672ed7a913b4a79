//! Changes of names and attributes, one in a call or several.

use ringfs_sdk::{Client, Commit, Error};

use super::Worker;
use crate::attributes::{Attribute, acl_to_set};
use crate::file::File;
use crate::namenode;
use crate::tree::{Change, Step};

/// Users and groups.
const NAMES: [&str; 3] = ["ann", "bob", "staff"];
/// Names of extended attributes.
const XATTRS: [&str; 2] = ["user.a", "user.b"];

impl Worker {
    /// Makes a change that gives nothing back.
    pub(super) fn change(&mut self, change: &Change) {
        let client = self.client.clone();
        let _done = self.make(change, |change| carry_out(&client, change));
    }

    pub(super) fn some_rename(&mut self) -> Change {
        let (source, target) = (self.some_path(), self.some_path());
        Change::Rename { source, target, overwrite: self.random.chance(400) }
    }

    /// Joins files that are closed.
    pub(super) fn concat(&mut self) {
        let model = self.shared.model.borrow();
        let [tree] = model.trees(self.index) else { return };
        let is_closed = |file: &File| file.closed.is_some_and(|length| length > 0) && !file.has_writer;
        let files: Vec<(String, u64, File)> = tree
            .iter()
            .filter_map(|(path, node)| Some((path.clone(), node.file?, model.file(node.file?))))
            .filter(|(.., file)| is_closed(file))
            .collect();
        drop(model);
        if files.is_empty() {
            return;
        }
        let (target, first, of_target) = self.random.pick(&files).clone();
        let directory = |path: &str| path.rsplit_once('/').map(|(directory, _)| directory.to_owned());
        let may_join = |path: &str, file: &File, sources: &[String]| {
            directory(path) == directory(&target)
                && file.block_size <= of_target.block_size
                && path != target
                && !sources.iter().any(|source| source == path)
        };
        let (mut sources, mut parts, mut fits) = (Vec::new(), vec![first], true);
        for _ in 0..=self.random.below(2) {
            let mut sensible = files.clone();
            if self.random.chance(850) {
                sensible.retain(|(path, _, file)| may_join(path, file, &sources));
            }
            if sensible.is_empty() {
                break;
            }
            let (path, number, file) = self.random.pick(&sensible).clone();
            fits &= may_join(&path, &file, &sources);
            sources.push(path);
            parts.push(number);
        }
        if sources.is_empty() {
            return;
        }
        let number = self.shared.model.borrow_mut().next_number();
        self.change(&Change::Concat { target, sources, number, parts, fits });
    }

    /// Several changes, which may contradict each other.
    pub(super) fn commit(&mut self) {
        let steps = (0..=self.random.below(3)).map(|_| self.some_step()).collect();
        self.change(&Change::Commit(steps));
    }

    fn some_step(&mut self) -> Step {
        let path = self.some_path();
        let change = match self.random.below(6) {
            0 => Change::Mkdirs(path),
            1 | 2 => self.some_rename(),
            3 => Change::Delete(path),
            _ => Change::Create {
                path,
                number: self.shared.model.borrow_mut().next_number(),
                overwrite: false,
                content: Some(0),
                block_size: namenode::BLOCK_BYTES,
            },
        };
        let condition = self.random.chance(200).then(|| (self.some_path(), self.random.chance(500)));
        Step { condition, change }
    }

    /// Changes an attribute of what is there, or is not.
    pub(super) fn set_attribute(&mut self) {
        let path = self.some_path();
        let xattr = (*self.random.pick(&XATTRS)).to_owned();
        let (mode, name) = (self.random.below(0o1000) as u16, (*self.random.pick(&NAMES)).to_owned());
        let attribute = match self.random.below(9) {
            0 => Attribute::Mode(mode),
            1 => Attribute::Owner(name),
            2 => Attribute::Group(name),
            // The time of a file that is open is that of its end.
            3 if self.is_at_rest(&path) => Attribute::Time(1_700_000_000_000 + self.random.below(1 << 36)),
            3..6 => Attribute::Xattr(xattr, self.random.number().to_le_bytes().to_vec()),
            6 => Attribute::NoXattr(xattr),
            7 => Attribute::Acl(mode, self.random.below(8) as u8),
            _ => Attribute::NoAcl,
        };
        self.change(&Change::Set(path, attribute));
    }

    fn is_at_rest(&self, path: &str) -> bool {
        let model = self.shared.model.borrow();
        let files = model.trees(self.index).iter().filter_map(|tree| tree.get(path)?.file);
        files.into_iter().all(|number| model.file(number).closed.is_some())
    }
}

fn carry_out(client: &Client, change: &Change) -> Result<(), Error> {
    match change {
        Change::Mkdirs(path) => client.mkdirs(path),
        Change::Rename { source, target, overwrite } => client.rename(source, target, *overwrite),
        Change::Delete(path) => client.delete(path, true).map(drop),
        Change::Concat { target, sources, .. } => client.concat(target, sources),
        Change::Set(path, attribute) => set(client, path, attribute),
        Change::Commit(steps) => client.commit(&steps.iter().fold(Commit::new(), add)).map(drop),
        Change::Create { .. } => unreachable!("files are made with a writer or their content"),
    }
}

fn set(client: &Client, path: &str, attribute: &Attribute) -> Result<(), Error> {
    match attribute {
        Attribute::Mode(mode) => client.set_permission(path, *mode),
        Attribute::Owner(owner) => client.set_owner(path, Some(owner), None),
        Attribute::Group(group) => client.set_owner(path, None, Some(group)),
        Attribute::Time(mtime_ms) => client.set_times(path, Some(*mtime_ms), None),
        Attribute::Xattr(name, value) => client.set_xattr(path, name, value),
        Attribute::NoXattr(name) => client.remove_xattr(path, name),
        Attribute::Acl(mode, named) => client.set_acl(path, &acl_to_set(*mode, *named)),
        Attribute::NoAcl => client.remove_acl(path),
    }
}

fn add(commit: Commit, step: &Step) -> Commit {
    let commit = match &step.condition {
        Some((path, true)) => commit.if_exists(path),
        Some((path, false)) => commit.if_missing(path),
        None => commit,
    };
    match &step.change {
        Change::Mkdirs(path) => commit.mkdirs(path),
        Change::Rename { source, target, overwrite } => commit.rename(source, target, *overwrite),
        Change::Delete(path) => commit.delete(path, true),
        Change::Create { path, .. } => commit.create_empty(path),
        other => unreachable!("no step of a commit: {other:?}"),
    }
}
