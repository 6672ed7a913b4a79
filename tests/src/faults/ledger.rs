//! What was acknowledged, and what a reader may find: the model that a faulty cluster is held to.
//!
//! Every file has one writer at a time, so what is known of it is simple: bytes that were flushed must be there; bytes that
//! were handed over may be; no other byte may. A call that failed leaves two possibilities, and both are kept.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::random::Random;

/// Whether something holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was acknowledged.
    Yes,
    /// It was never asked for.
    No,
    /// It was asked for, and no answer came.
    Maybe,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its bytes are [`crate::data::Pattern`] of this seed.
    pub seed: u64,
    /// Bytes that were handed to the writer.
    pub written: u64,
    /// Bytes that a flush acknowledged.
    pub flushed: u64,
    /// Whether it is closed, with `written` bytes.
    pub is_closed: Known,
    /// Whether it is there.
    pub exists: Known,
}

/// A contradiction between what was acknowledged and what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct Contradiction {
    /// The file.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What a reader found at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Nothing.
    Missing,
    /// A file, and whether every one of its bytes is its writer's.
    File {
        /// Its length.
        length: u64,
        /// Whether it is open for writing.
        is_open: bool,
        /// The first wrong byte.
        wrong: Option<u64>,
    },
}

impl Entry {
    /// A file that was created.
    pub fn created(seed: u64) -> Self {
        Self { seed, written: 0, flushed: 0, is_closed: Known::No, exists: Known::Yes }
    }

    /// Compares what is known with what was found.
    ///
    /// # Errors
    /// Why they contradict each other.
    pub fn check(&self, path: &str, seen: &Seen) -> Result<(), Contradiction> {
        let contradiction = |reason: String| Err(Contradiction { path: path.to_owned(), reason });
        match (self.exists, seen) {
            (Known::Yes, Seen::Missing) => contradiction("it was acknowledged, and is not there".to_owned()),
            (Known::No, Seen::File { .. }) => contradiction("it was deleted, and is there".to_owned()),
            (_, Seen::Missing) => Ok(()),
            (_, Seen::File { wrong: Some(offset), .. }) => {
                contradiction(format!("byte {offset} is not what was written"))
            }
            (_, Seen::File { length, is_open, wrong: None }) => self.check_length(path, *length, *is_open),
        }
    }

    fn check_length(&self, path: &str, length: u64, is_open: bool) -> Result<(), Contradiction> {
        let contradiction = |reason: String| Err(Contradiction { path: path.to_owned(), reason });
        if length < self.flushed {
            return contradiction(format!("{} bytes were flushed, {length} are there", self.flushed));
        }
        if length > self.written {
            return contradiction(format!("{} bytes were written, {length} are there", self.written));
        }
        match self.is_closed {
            Known::Yes if is_open => contradiction("it was closed, and is open".to_owned()),
            Known::Yes if length != self.written => {
                contradiction(format!("it was closed with {} bytes, {length} are there", self.written))
            }
            _ => Ok(()),
        }
    }
}

/// All files. A path has an entry from before its creation is asked for, so that nothing unknown can be there.
#[derive(Debug, Default)]
pub struct Ledger {
    files: Mutex<BTreeMap<String, Entry>>,
    /// Renames whose answer was never seen: exactly one of the two paths is there.
    undecided: Mutex<Vec<(String, String)>>,
}

impl Ledger {
    /// Sets what is known of a path.
    pub fn set(&self, path: &str, entry: Entry) {
        self.lock().insert(path.to_owned(), entry);
    }

    /// Changes what is known of a path.
    ///
    /// # Panics
    /// If it has no entry: a mistake of the workload.
    pub fn change(&self, path: &str, change: impl FnOnce(&mut Entry)) {
        change(self.lock().get_mut(path).expect("the path has an entry"));
    }

    /// A rename is asked for.
    ///
    /// # Panics
    /// If the source has no entry: a mistake of the workload.
    pub fn rename_begun(&self, source: &str, target: &str) {
        let mut files = self.lock();
        let entry = Entry { exists: Known::Maybe, ..files[source].clone() };
        files.insert(target.to_owned(), entry.clone());
        files.insert(source.to_owned(), entry);
    }

    /// Its answer is there: it was carried out.
    pub fn rename_done(&self, source: &str, target: &str) {
        self.change(source, |entry| entry.exists = Known::No);
        self.change(target, |entry| entry.exists = Known::Yes);
    }

    /// Its answer will never come.
    pub fn rename_undecided(&self, source: &str, target: &str) {
        let mut undecided = self.undecided.lock().unwrap_or_else(PoisonError::into_inner);
        undecided.push((source.to_owned(), target.to_owned()));
    }

    /// The renames whose answer was never seen.
    pub fn undecided(&self) -> Vec<(String, String)> {
        self.undecided.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known of a path.
    pub fn get(&self, path: &str) -> Option<Entry> {
        self.lock().get(path).cloned()
    }

    /// One of the paths that are or may be there.
    pub fn pick(&self, random: &mut Random) -> Option<(String, Entry)> {
        let files = self.lock();
        let from = random.below(files.len() as u64) as usize;
        let mut from_there_on = files.iter().skip(from).chain(files.iter().take(from));
        let (path, entry) = from_there_on.find(|(_, entry)| entry.exists != Known::No)?;
        Some((path.clone(), entry.clone()))
    }

    /// All paths with what is known of them.
    pub fn all(&self) -> BTreeMap<String, Entry> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(length: u64, is_open: bool) -> Seen {
        Seen::File { length, is_open, wrong: None }
    }

    #[test]
    fn flushed_bytes_must_be_there_and_no_more_than_were_written() {
        let entry = Entry { written: 20, flushed: 10, ..Entry::created(1) };
        for length in 10..=20 {
            assert_eq!(entry.check("/f", &file(length, true)), Ok(()));
        }
        assert!(entry.check("/f", &file(9, true)).is_err());
        assert!(entry.check("/f", &file(21, true)).is_err());
        assert!(entry.check("/f", &Seen::Missing).is_err());
        assert!(entry.check("/f", &Seen::File { length: 15, is_open: true, wrong: Some(3) }).is_err());
    }

    #[test]
    fn a_closed_file_is_whole_and_closed() {
        let entry = Entry { written: 20, flushed: 10, is_closed: Known::Yes, ..Entry::created(1) };
        assert_eq!(entry.check("/f", &file(20, false)), Ok(()));
        assert!(entry.check("/f", &file(19, false)).is_err());
        assert!(entry.check("/f", &file(20, true)).is_err());
    }

    #[test]
    fn only_files_that_may_be_there_are_picked() {
        let (ledger, mut random) = (Ledger::default(), Random::new(1));
        assert_eq!(ledger.pick(&mut random), None);
        for (path, exists) in [("/a", Known::No), ("/b", Known::Maybe), ("/c", Known::No), ("/d", Known::Yes)]
        {
            ledger.set(path, Entry { exists, ..Entry::created(1) });
        }
        let picked: Vec<String> = (0..50).filter_map(|_| Some(ledger.pick(&mut random)?.0)).collect();
        assert_eq!(picked.len(), 50);
        assert!(picked.iter().any(|path| path == "/b") && picked.iter().any(|path| path == "/d"));
        assert!(picked.iter().all(|path| path == "/b" || path == "/d"));
    }

    #[test]
    fn a_call_without_answer_leaves_both_possibilities() {
        let ledger = Ledger::default();
        ledger.set("/a", Entry::created(1));
        ledger.rename_begun("/a", "/b");
        for path in ["/a", "/b"] {
            let entry = ledger.get(path).expect("known");
            assert_eq!(entry.check(path, &Seen::Missing), Ok(()));
            assert_eq!(entry.check(path, &file(0, true)), Ok(()));
        }
        ledger.set("/c", Entry::created(2));
        ledger.rename_begun("/c", "/d");
        ledger.rename_done("/c", "/d");
        assert!(ledger.get("/c").expect("known").check("/c", &file(0, true)).is_err());
        assert!(ledger.get("/d").expect("known").check("/d", &Seen::Missing).is_err());
    }
}
