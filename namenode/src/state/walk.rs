//! Walks over a tree, depth first, siblings in the order of their names, that can be left off and taken up again.
//!
//! A walk is left off at a path and taken up behind it, whether or not that path is still there: what changes meanwhile is
//! seen or not, what stays is seen once. Taking up costs one look-up per level.

use ringfs_proto::WireError;
use ringfs_proto::ids::InodeId;
use ringfs_proto::limits::PATH_BYTES_MAX;

use super::arena::Slot;
use super::children::Entries;
use super::permissions::{Access, Author};
use super::{ROOT_SLOT, State};

/// Which entries a walk looks at. Depth 0 is that of the entries of the directory where it begins.
pub trait Choice {
    /// The only name that counts at a depth, if there is one: others are not even looked at.
    fn only(&self, depth: usize) -> Option<&str>;
    /// Whether an entry counts, and so does what is below it.
    fn admits(&self, depth: usize, name: &str) -> bool;
    /// Whether nothing counts below this depth.
    fn is_last(&self, depth: usize) -> bool;
    /// What looking at one entry costs, 1 for next to nothing.
    fn cost(&self, depth: usize) -> usize;
}

/// All entries down to a depth.
#[derive(Debug, Clone, Copy)]
pub struct Everything {
    /// Levels that are entered; 0 means all.
    pub depth_max: u32,
}

impl Choice for Everything {
    fn only(&self, _depth: usize) -> Option<&str> {
        None
    }

    fn admits(&self, _depth: usize, _name: &str) -> bool {
        true
    }

    fn is_last(&self, depth: usize) -> bool {
        self.depth_max != 0 && depth + 1 >= self.depth_max as usize
    }

    fn cost(&self, _depth: usize) -> usize {
        1
    }
}

/// An entry that a walk has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visit {
    /// The inode.
    pub inode: InodeId,
    /// How deep it is.
    pub depth: usize,
    /// Whether the choice admits it.
    pub is_admitted: bool,
    /// Whether it is a directory.
    pub is_directory: bool,
}

impl State {
    /// A walk below an inode, taken up behind the relative path `after`; from the beginning when that is empty. Nothing is
    /// below a file.
    ///
    /// A walk ends at a directory that `author` may not list, or not go through where only one name counts: see
    /// [`Walk::denied`].
    pub fn walk<'a, C: Choice>(
        &'a self,
        author: Author<'a>,
        inode: InodeId,
        choice: C,
        after: &str,
    ) -> Option<Walk<'a, C>> {
        Some(Walk::begin(self, author, self.slot_of(inode)?, choice, after))
    }

    /// Whether an inode is `ancestor` or somewhere below it.
    pub fn is_within(&self, inode: InodeId, ancestor: InodeId) -> bool {
        let (Some(mut slot), Some(ancestor)) = (self.slot_of(inode), self.slot_of(ancestor)) else {
            return false;
        };
        while slot != ancestor && slot != ROOT_SLOT {
            slot = self.inodes.get(slot).parent;
        }
        slot == ancestor
    }
}

/// A walk in progress.
#[derive(Debug)]
pub struct Walk<'a, C> {
    state: &'a State,
    author: Author<'a>,
    denied: Option<WireError>,
    choice: C,
    levels: Vec<Level<'a>>,
    path: String,
    cost: usize,
}

#[derive(Debug)]
struct Level<'a> {
    source: Source<'a>,
    /// Bytes of the path that lead to this level.
    path_len: usize,
}

#[derive(Debug)]
enum Source<'a> {
    All(Entries<'a>),
    One(Option<Slot>),
}

impl<'a, C: Choice> Walk<'a, C> {
    /// A walk below a directory, taken up behind the relative path `after`; from the beginning when that is empty.
    fn begin(state: &'a State, author: Author<'a>, directory: Slot, choice: C, after: &str) -> Self {
        let mut walk =
            Self { state, author, denied: None, choice, levels: Vec::new(), path: String::new(), cost: 0 };
        if !state.inodes.get(directory).is_directory() {
            return walk;
        }
        let mut at = directory;
        for name in after.split('/').filter(|name| !name.is_empty()) {
            let depth = walk.levels.len();
            walk.enter(at, name);
            if walk.denied.is_some() {
                return walk;
            }
            walk.cost += 1;
            walk.set_name(name);
            let child = state.child(at, name).filter(|_| walk.counts(depth, name));
            let Some(child) = child.filter(|child| walk.leads_on(*child, depth)) else { return walk };
            at = child;
        }
        walk.enter(at, "");
        walk
    }

    /// What the walk has cost so far.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// Why the walk has ended before everything was seen, if it has.
    pub fn denied(&mut self) -> Result<(), WireError> {
        self.denied.take().map_or(Ok(()), Err)
    }

    /// The relative path of the last visit.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The next entry.
    pub fn next_visit(&mut self) -> Option<Visit> {
        loop {
            let depth = self.levels.len().checked_sub(1)?;
            let Some(slot) = self.levels[depth].source.next() else {
                self.levels.pop();
                continue;
            };
            self.cost += self.choice.cost(depth);
            let state = self.state;
            let name = String::from_utf8_lossy(state.name_of(slot));
            let is_admitted = self.choice.admits(depth, &name);
            self.set_name(&name);
            if is_admitted && self.leads_on(slot, depth) {
                self.enter(slot, "");
            }
            let inode = state.inodes.get(slot);
            let is_directory = inode.is_directory();
            return Some(Visit { inode: inode.id, depth, is_admitted, is_directory });
        }
    }

    fn counts(&self, depth: usize, name: &str) -> bool {
        self.choice.only(depth).is_none_or(|only| only == name) && self.choice.admits(depth, name)
    }

    /// Whether what is below an entry counts. What no path can name is not walked.
    fn leads_on(&self, slot: Slot, depth: usize) -> bool {
        !self.choice.is_last(depth)
            && self.state.inodes.get(slot).is_directory()
            && self.path.len() <= PATH_BYTES_MAX
    }

    /// Makes the entries of a directory after `name` the deepest level.
    fn enter(&mut self, directory: Slot, name: &str) {
        let state = self.state;
        let access = match self.choice.only(self.levels.len()) {
            Some(_) => Access::EXECUTE,
            None => Access::READ_EXECUTE,
        };
        if let Err(denied) = state.check_slot(self.author, directory, access) {
            self.denied = Some(denied);
            self.levels.clear();
            return;
        }
        let source = match self.choice.only(self.levels.len()) {
            Some(only) => Source::One(state.child(directory, only).filter(|_| name < only)),
            None => {
                let children = state.children(directory);
                let after = children.map(|all| all.after(name.as_bytes(), |slot| state.name_of(slot)));
                Source::All(after.unwrap_or_default())
            }
        };
        self.levels.push(Level { source, path_len: self.path.len() });
    }

    /// The path is that of an entry of the deepest level.
    fn set_name(&mut self, name: &str) {
        let path_len = self.levels.last().map_or(0, |level| level.path_len);
        self.path.truncate(path_len);
        if path_len > 0 {
            self.path.push('/');
        }
        self.path.push_str(name);
    }
}

impl Source<'_> {
    fn next(&mut self) -> Option<Slot> {
        match self {
            Self::All(entries) => entries.next(),
            Self::One(slot) => slot.take(),
        }
    }
}
