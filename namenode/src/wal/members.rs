//! Which directories hold the whole log: the file `members.toml` of each of them.
//!
//! Each opening of the log, and each loss of a directory, gives the set a higher number and writes it to the
//! directories that are in it, before anything is acknowledged without the others. So a directory that was left
//! behind is told from one that has everything: its number is lower, or another's set does not name it.
//!
//! - The directories with the highest number are trusted: they are mirrors of each other up to the last batch.
//! - All others are made mirrors of a trusted one before the log is written again, whatever they hold.
//! - A directory of the trusted set that cannot be read stops the start, since it may have gone on without the others.

use std::path::{Path, PathBuf};

use ringfs_disk::Disk;
use serde::{Deserialize, Serialize};

use super::{WalError, io_error};

const FILE: &str = "members.toml";
const VERSION: u32 = 1;

/// A set of directories.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Members {
    version: u32,
    /// Rises with each change of the set.
    pub opening: u64,
    /// As the configuration names them.
    pub directories: Vec<PathBuf>,
}

/// What a start knows of a directory.
#[derive(Debug, Clone)]
pub enum Found {
    /// It is formatted and this process owns it.
    Ours,
    /// It is there and empty: it shall be filled.
    Empty,
    /// It cannot be used, for this reason.
    Unusable(String),
}

/// What a start does with each directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choice {
    /// The highest opening so far.
    pub opening: u64,
    /// They hold the whole log.
    pub trusted: Vec<PathBuf>,
    /// They are made mirrors of a trusted one.
    pub behind: Vec<PathBuf>,
    /// They are left out, with the reason.
    pub left_out: Vec<(PathBuf, String)>,
}

impl Members {
    /// The set of the next opening.
    pub fn new(opening: u64, directories: Vec<PathBuf>) -> Self {
        Self { version: VERSION, opening, directories }
    }

    /// Writes it to a directory, in one step.
    pub fn store(&self, disk: &dyn Disk, directory: &Path) -> Result<(), WalError> {
        let path = directory.join(FILE);
        let foreign = |reason: String| WalError::Foreign { path: path.clone(), reason };
        let text = toml::to_string(self).map_err(|error| foreign(error.to_string()))?;
        disk.write_durably(&path, text.as_bytes()).map_err(io_error("write", &path))
    }

    /// The set that a directory knows; opening 0 for a directory that was never written to.
    pub fn load(disk: &dyn Disk, directory: &Path) -> Result<Self, WalError> {
        let path = directory.join(FILE);
        if !disk.exists(&path) {
            return Ok(Self::default());
        }
        let foreign = |reason: String| WalError::Foreign { path: path.clone(), reason };
        let text = disk.read_to_string(&path).map_err(io_error("read", &path))?;
        let members: Self = toml::from_str(&text).map_err(|error| foreign(error.message().to_owned()))?;
        if members.version != VERSION {
            return Err(foreign(format!("version {}, this release knows {VERSION}", members.version)));
        }
        Ok(members)
    }
}

/// Decides which directories are trusted. `found` is in the order of the configuration.
///
/// # Errors
/// [`WalError::Member`] when a directory of the newest set cannot be read; what reading a set says, when no other
/// directory makes up for it.
pub fn choose(disk: &dyn Disk, found: &[(PathBuf, Found)]) -> Result<Choice, WalError> {
    let mut sets = Vec::new();
    let (mut empty, mut unusable) = (Vec::new(), Vec::new());
    for (path, found) in found {
        match found {
            Found::Ours => match Members::load(disk, path) {
                Ok(members) => sets.push((path.clone(), members)),
                Err(error) => unusable.push((path.clone(), error.chain())),
            },
            Found::Empty => empty.push(path.clone()),
            Found::Unusable(reason) => unusable.push((path.clone(), reason.clone())),
        }
    }
    let newest = sets.iter().map(|(_, members)| members).max_by_key(|members| members.opening);
    let newest = newest.cloned().unwrap_or_default();
    // The set of a log that was never opened names nobody.
    let is_member = |path: &PathBuf| newest.directories.contains(path);
    let missing = empty.iter().map(|path| (path.clone(), "it is empty".to_owned())).chain(unusable.clone());
    if let Some((path, reason)) = missing.into_iter().find(|(path, _)| is_member(path)) {
        return Err(WalError::Member { path, reason });
    }
    let mut choice = Choice { opening: newest.opening, left_out: unusable, ..Choice::default() };
    for (path, members) in sets {
        let list = if members.opening == newest.opening { &mut choice.trusted } else { &mut choice.behind };
        list.push(path);
    }
    choice.behind.extend(empty);
    if choice.trusted.is_empty() {
        let (path, reason) = choice.left_out.into_iter().next().unwrap_or_default();
        return Err(WalError::Member { path, reason });
    }
    Ok(choice)
}

#[cfg(test)]
mod tests {
    use ringfs_disk::SystemDisk;

    use super::*;

    fn directory(temp: &tempfile::TempDir, name: &str, opening: u64, directories: &[&str]) -> PathBuf {
        let path = temp.path().join(name);
        SystemDisk.create_directories(&path).expect("made");
        let directories = directories.iter().map(|name| temp.path().join(name)).collect();
        if opening > 0 {
            Members::new(opening, directories).store(&SystemDisk, &path).expect("stored");
        }
        path
    }

    #[test]
    fn the_newest_set_is_trusted_and_the_rest_is_behind() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let a = directory(&temp, "a", 4, &["a", "b"]);
        let b = directory(&temp, "b", 4, &["a", "b"]);
        let c = directory(&temp, "c", 3, &["a", "b", "c"]);
        let d = directory(&temp, "d", 0, &[]);
        let found = [
            (a.clone(), Found::Ours),
            (b.clone(), Found::Ours),
            (c.clone(), Found::Ours),
            (d.clone(), Found::Empty),
        ];
        let choice = choose(&SystemDisk, &found).expect("chosen");
        assert_eq!((choice.opening, choice.trusted, choice.behind), (4, vec![a, b], vec![c, d]));
    }

    #[test]
    fn a_member_that_cannot_be_read_or_was_emptied_stops_the_start() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let a = directory(&temp, "a", 4, &["a", "b"]);
        let b = directory(&temp, "b", 0, &[]);
        for lost in [Found::Empty, Found::Unusable("no such device".to_owned())] {
            let found = [(a.clone(), Found::Ours), (b.clone(), lost)];
            assert!(matches!(choose(&SystemDisk, &found), Err(WalError::Member { path, .. }) if path == b));
        }
    }

    #[test]
    fn a_directory_that_was_lost_before_may_stay_away() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let a = directory(&temp, "a", 5, &["a"]);
        let b = directory(&temp, "b", 4, &["a", "b"]);
        let found = [(b.clone(), Found::Unusable("input/output error".to_owned())), (a.clone(), Found::Ours)];
        let choice = choose(&SystemDisk, &found).expect("chosen");
        assert_eq!((choice.trusted, choice.left_out.len()), (vec![a.clone()], 1));
        let found = [(b.clone(), Found::Ours), (a.clone(), Found::Ours)];
        let choice = choose(&SystemDisk, &found).expect("chosen");
        assert_eq!((choice.trusted, choice.behind), (vec![a], vec![b]), "the longer-lived is trusted");
    }
}
