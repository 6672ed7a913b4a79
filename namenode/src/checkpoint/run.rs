//! Writing one checkpoint, without threads: into every live directory, or into a directory of its own as a backup.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringfs_disk::{Create, Disk, DiskFile, OpenOptions};
use ringfs_proto::ids::LogIndex;

use super::format::{self, Header, SectionHeader};
use super::{CheckpointError, PART, io_error, path, prune};
use crate::directory::{Identity, create_durably};
use crate::state::Section;
use crate::wal::{WalError, mirror, segment};

/// What is written is synced in parts, so that the log never waits behind a whole checkpoint.
const SYNC_BYTES: u64 = 16 << 20;

/// Where a checkpoint goes.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Beside the log; what it makes needless is removed.
    Ordinary,
    /// Into an empty or missing directory, together with what a start needs.
    Backup(PathBuf, Box<Identity>),
}

/// The log that a checkpoint is of.
#[derive(Debug, Clone, Default)]
pub struct Beside {
    /// Its live directories.
    pub directories: Vec<PathBuf>,
    /// Segments in which the checkpoint has values: they stay, and a backup has copies of them.
    pub kept: BTreeSet<LogIndex>,
}

/// A checkpoint on stable storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The directory; the first of several.
    pub directory: PathBuf,
    /// The last record that it contains.
    pub index: LogIndex,
    /// Its size.
    pub bytes: u64,
}

/// What became of it.
#[derive(Debug)]
pub struct Done {
    /// The checkpoint, or why there is none. Directories that failed do not count while another is left.
    pub result: Result<Written, CheckpointError>,
    /// Directories of the log that have failed.
    pub failed: Vec<(PathBuf, WalError)>,
}

/// A checkpoint that is being written.
#[derive(Debug)]
pub struct Run {
    disk: Arc<dyn Disk>,
    kind: Kind,
    beside: Beside,
    header: Header,
    files: Vec<(PathBuf, Arc<dyn DiskFile>)>,
    failed: Vec<(PathBuf, io::Error)>,
    offset: u64,
    synced: u64,
    sections: u64,
}

impl Run {
    /// Begins: makes the files.
    ///
    /// # Errors
    /// `Target` when a backup's directory is not empty; what the operating system says.
    pub fn begin(
        disk: Arc<dyn Disk>,
        kind: Kind,
        beside: Beside,
        header: Header,
    ) -> Result<Self, CheckpointError> {
        let directories = match &kind {
            Kind::Ordinary => beside.directories.clone(),
            Kind::Backup(target, _) => {
                make_empty(&*disk, target)?;
                vec![target.clone()]
            }
        };
        let mut files = Vec::new();
        let mut failed = Vec::new();
        for directory in directories {
            match disk.open(&directory.join(PART), OpenOptions::WRITE.create(Create::Empty)) {
                Ok(file) => files.push((directory, file)),
                Err(error) => failed.push((directory, error)),
            }
        }
        let mut run = Self { disk, kind, beside, header, files, failed, offset: 0, synced: 0, sections: 0 };
        run.check_left()?;
        run.write(&header.encode())?;
        Ok(run)
    }

    /// Writes the next section.
    ///
    /// # Errors
    /// `Io`: no directory is left, or there is no room.
    pub fn section(&mut self, section: &Section) -> Result<(), CheckpointError> {
        let seed = self.header.seed();
        self.write(&SectionHeader::of(section, seed).encode(seed))?;
        self.write(&section.payload)?;
        self.sections += 1;
        if self.offset - self.synced > SYNC_BYTES {
            self.synced = self.offset;
            self.each(|_, file| file.sync_data())?;
        }
        Ok(())
    }

    /// Makes it durable under its name, and removes what it makes needless.
    pub fn finish(mut self) -> Done {
        let result = self.put_in_place();
        self.end(result)
    }

    /// Gives up: what was written is removed.
    pub fn fail(self, error: CheckpointError) -> Done {
        for (directory, _) in &self.files {
            // What is left has no meaning, and is overwritten by the next one.
            let _left_behind = self.disk.remove(&directory.join(PART));
        }
        self.end(Err(error))
    }

    fn put_in_place(&mut self) -> Result<Written, CheckpointError> {
        let end = format::end(self.sections);
        self.section(&end)?;
        self.each(|_, file| file.sync_all())?;
        let (disk, index) = (self.disk.clone(), self.header.index);
        self.each(|directory, _| {
            disk.rename(&directory.join(PART), &path(directory, index))?;
            disk.sync_directory(directory)
        })?;
        match &self.kind {
            Kind::Ordinary => self.prune(),
            Kind::Backup(target, identity) => {
                self.copy_values(target)?;
                identity.store(&*disk, target).map_err(|error| CheckpointError::Target {
                    path: target.clone(),
                    reason: error.to_string(),
                })?;
            }
        }
        Ok(Written { directory: self.files[0].0.clone(), index, bytes: self.offset })
    }

    /// The contents of small files lie in the log.
    fn copy_values(&self, target: &Path) -> Result<(), CheckpointError> {
        for first in &self.beside.kept {
            let to = segment::path(target, *first);
            let sources = self.beside.directories.iter().map(|directory| segment::path(directory, *first));
            let mut copied = Err(io::ErrorKind::NotFound.into());
            for from in sources {
                copied = mirror::copy(&*self.disk, &from, &to);
                if copied.is_ok() {
                    break;
                }
            }
            copied.map_err(io_error("copy the values of", &to))?;
        }
        Ok(())
    }

    /// Only now, when it is durable everywhere, what it covers may go.
    fn prune(&mut self) {
        if self.failed.is_empty() {
            for (directory, _) in &self.files {
                if let Err(error) = prune(&*self.disk, directory, &self.beside.kept) {
                    tracing::warn!(error = %error.chain(), "could not remove what a checkpoint has made needless");
                }
            }
        }
    }

    fn end(self, result: Result<Written, CheckpointError>) -> Done {
        let is_backup = matches!(self.kind, Kind::Backup(..));
        let failed = self.failed.into_iter().filter(|_| !is_backup);
        let failed = failed.map(|(directory, error)| {
            let error = crate::wal::io_error("write a checkpoint in", &directory)(error);
            (directory, error)
        });
        Done { result, failed: failed.collect() }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let offset = self.offset;
        self.each(|_, file| file.write_all_at(bytes, offset))?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// Does the same in each directory; one that fails is left out from then on, unless it is only full.
    fn each(&mut self, act: impl Fn(&Path, &dyn DiskFile) -> io::Result<()>) -> Result<(), CheckpointError> {
        let mut full = None;
        let failed = &mut self.failed;
        self.files.retain(|(directory, file)| match act(directory, &**file) {
            Ok(()) => true,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                full = Some(io_error("write a checkpoint in", directory)(error));
                true
            }
            Err(error) => {
                failed.push((directory.clone(), error));
                false
            }
        });
        full.map_or(Ok(()), Err)?;
        self.check_left()
    }

    fn check_left(&mut self) -> Result<(), CheckpointError> {
        if self.files.is_empty()
            && let Some((directory, error)) = self.failed.pop()
        {
            return Err(io_error("write a checkpoint in", directory)(error));
        }
        Ok(())
    }
}

fn make_empty(disk: &dyn Disk, target: &Path) -> Result<(), CheckpointError> {
    create_durably(disk, target).map_err(io_error("create", target))?;
    let names = disk.list(target).map_err(io_error("list", target))?;
    if names.is_empty() {
        return Ok(());
    }
    let reason = format!("the directory is not empty, it holds {}", names[0]);
    Err(CheckpointError::Target { path: target.to_owned(), reason })
}
