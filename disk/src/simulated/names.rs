//! Names in directories. Each directory remembers for certain only what was there when it was last synced; of what was
//! changed since, a power cut keeps the first so many changes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::random::Random;

/// What has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A file, by its number.
    File(u64),
    /// A directory; its names are found by its path.
    Directory,
}

/// Names that change in one step; `None` removes.
type Change = Vec<(String, Option<Node>)>;

#[derive(Debug, Default)]
struct Directory {
    names: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    unsynced: Vec<Change>,
}

/// All directories of a disk, by path. The root is always there.
#[derive(Debug)]
pub struct Names {
    directories: BTreeMap<PathBuf, Directory>,
}

impl Names {
    /// Just the root.
    pub fn new() -> Self {
        Self { directories: BTreeMap::from([(PathBuf::from("/"), Directory::default())]) }
    }

    /// What has this name.
    pub fn find(&self, path: &Path) -> Option<Node> {
        match split(path) {
            Ok((directory, name)) => self.directories.get(directory)?.names.get(name).copied(),
            Err(_) => (path == Path::new("/")).then_some(Node::Directory),
        }
    }

    /// Names in a directory, sorted.
    pub fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        match (self.directories.get(path), self.find(path)) {
            (Some(directory), _) => Ok(directory.names.keys().cloned().collect()),
            (None, Some(_)) => Err(io::ErrorKind::NotADirectory.into()),
            (None, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Gives something a name, or takes it away.
    pub fn set(&mut self, path: &Path, node: Option<Node>) -> io::Result<()> {
        let (directory, name) = split(path)?;
        self.change(directory, vec![(name.to_owned(), node)])
    }

    /// Renames in one step within a directory, in two from one to another.
    pub fn rename(&mut self, source: &Path, target: &Path) -> io::Result<()> {
        let Some(node @ Node::File(_)) = self.find(source) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let (from, old) = split(source)?;
        let (to, new) = split(target)?;
        if from == to {
            return self.change(from, vec![(old.to_owned(), None), (new.to_owned(), Some(node))]);
        }
        self.change(to, vec![(new.to_owned(), Some(node))])?;
        self.change(from, vec![(old.to_owned(), None)])
    }

    /// Makes a directory and those above it.
    pub fn create_directories(&mut self, path: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> = path.ancestors().take_while(|path| self.find(path).is_none()).collect();
        while let Some(path) = missing.pop() {
            self.set(path, Some(Node::Directory))?;
            self.directories.insert(path.to_owned(), Directory::default());
        }
        match self.find(path) {
            Some(Node::Directory) => Ok(()),
            _ => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    /// What is there now stays there.
    pub fn sync(&mut self, path: &Path) -> io::Result<()> {
        let directory = self.directories.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
        directory.durable = directory.names.clone();
        directory.unsynced.clear();
        Ok(())
    }

    /// What is left when the power fails.
    pub fn forget(&mut self, random: &mut Random) {
        for directory in self.directories.values_mut() {
            let kept = random.below(directory.unsynced.len() as u64 + 1) as usize;
            for change in directory.unsynced.drain(..).take(kept) {
                apply(&mut directory.durable, change);
            }
            directory.names = directory.durable.clone();
        }
        self.drop_unreachable();
    }

    /// Every file that has a name.
    pub fn files(&self) -> impl Iterator<Item = (PathBuf, u64)> {
        self.directories.iter().flat_map(|(path, directory)| {
            directory.names.iter().filter_map(move |(name, node)| match node {
                Node::File(file) => Some((path.join(name), *file)),
                Node::Directory => None,
            })
        })
    }

    fn change(&mut self, path: &Path, change: Change) -> io::Result<()> {
        let directory = self.directories.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
        apply(&mut directory.names, change.clone());
        directory.unsynced.push(change);
        Ok(())
    }

    /// Directories whose name was forgotten, or that of one above.
    fn drop_unreachable(&mut self) {
        let all: Vec<PathBuf> = self.directories.keys().cloned().collect();
        // Parents come before their children.
        for path in all.into_iter().filter(|path| path != Path::new("/")) {
            let is_named = self.find(&path) == Some(Node::Directory);
            if !is_named {
                self.directories.remove(&path);
            }
        }
    }
}

fn apply(names: &mut BTreeMap<String, Node>, change: Change) {
    for (name, node) in change {
        match node {
            Some(node) => names.insert(name, node),
            None => names.remove(&name),
        };
    }
}

fn split(path: &Path) -> io::Result<(&Path, &str)> {
    let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    Ok((parent, name))
}
