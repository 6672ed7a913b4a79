//! A namenode's directory: made once by formatting, then owned by one process.
//!
//! | file | content |
//! |---|---|
//! | `cluster.toml` | id and key of the cluster, mode 0600 |
//! | `format.toml` | version of the directory, and who owns the root of the namespace |
//! | `lock` | locked by the running namenode |
//! | `marks`, `wal-*.log` | the log, see [`crate::wal`] |

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use ringfs_proto::capability::ClusterKey;
use ringfs_proto::cluster_file::{ClusterFile, ClusterFileError};
use ringfs_proto::ids::ClusterId;
use serde::{Deserialize, Serialize};

const VERSION: u32 = 1;
const CLUSTER_FILE: &str = "cluster.toml";
const FORMAT_FILE: &str = "format.toml";
const LOCK_FILE: &str = "lock";
/// How long a lock that is held is asked for again.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// Why a directory cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// Formatting would destroy something.
    #[error(
        "format {path}: the directory is not empty; choose another, or empty it if nothing in it is needed"
    )]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// Nothing was formatted here.
    #[error("open {path}: not formatted; run `ringfs namenode --config FILE --format` once")]
    NotFormatted {
        /// The directory.
        path: PathBuf,
    },
    /// Another process owns it.
    #[error("lock {path}: another namenode is running on this directory")]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Made by another release.
    #[error("open {path}: version {found}, this release knows {VERSION}")]
    Version {
        /// The directory.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// A file that cannot be parsed.
    #[error("parse {path}: {reason}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The operating system refused.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Format {
    version: u32,
    superuser: String,
    group: String,
}

/// A formatted directory that this process owns.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Id and key.
    pub cluster: ClusterFile,
    /// Owner of the root.
    pub superuser: String,
    /// Group of the root.
    pub group: String,
    _lock: Flock<File>,
}

impl Directory {
    /// Makes a new cluster in an empty or missing directory.
    ///
    /// # Errors
    /// `NotEmpty`, or what the operating system says.
    pub fn format(path: &Path, superuser: &str, group: &str) -> Result<ClusterFile, DirectoryError> {
        fs::create_dir_all(path).map_err(io_error("create", path))?;
        let mut entries = fs::read_dir(path).map_err(io_error("list", path))?;
        if entries.next().is_some() {
            return Err(DirectoryError::NotEmpty { path: path.to_owned() });
        }
        let (mut id, mut key) = ([0; 16], [0; 32]);
        let random =
            |bytes: &mut [u8]| getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()));
        random(&mut id).and_then(|()| random(&mut key)).map_err(io_error("make the key of", path))?;
        let cluster = ClusterFile { cluster: ClusterId(id), key: ClusterKey::new(1, key), namenode: None };
        write_durably(&path.join(CLUSTER_FILE), &cluster.render())?;
        let format = Format { version: VERSION, superuser: superuser.to_owned(), group: group.to_owned() };
        let text = toml::to_string(&format).map_err(|error| parse_error(path, &error.to_string()))?;
        write_durably(&path.join(FORMAT_FILE), &text)?;
        sync_directory(path).map_err(io_error("sync", path))?;
        Ok(cluster)
    }

    /// Takes ownership of a formatted directory.
    ///
    /// # Errors
    /// `NotFormatted`, `Locked`, `Version`, `Parse`, or what the operating system says.
    pub fn open(path: &Path) -> Result<Self, DirectoryError> {
        let format_path = path.join(FORMAT_FILE);
        if !format_path.exists() {
            return Err(DirectoryError::NotFormatted { path: path.to_owned() });
        }
        let lock_path = path.join(LOCK_FILE);
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path);
        let file = file.map_err(io_error("open", &lock_path))?;
        let lock = lock(file).map_err(|_held| DirectoryError::Locked { path: path.to_owned() })?;
        let format: Format = toml::from_str(&read(&format_path)?)
            .map_err(|error| parse_error(&format_path, error.message()))?;
        if format.version != VERSION {
            return Err(DirectoryError::Version { path: path.to_owned(), found: format.version });
        }
        let cluster = read_cluster_file(path)?;
        Ok(Self {
            path: path.to_owned(),
            cluster,
            superuser: format.superuser,
            group: format.group,
            _lock: lock,
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Id and key of the cluster of a formatted directory, without owning it: for `ringfs admin join-file`.
///
/// # Errors
/// `Parse`, or what the operating system says.
pub fn read_cluster_file(directory: &Path) -> Result<ClusterFile, DirectoryError> {
    let path = directory.join(CLUSTER_FILE);
    ClusterFile::parse(&read(&path)?).map_err(|ClusterFileError { reason }| parse_error(&path, &reason))
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Takes a lock. A process that was killed holds its own for a moment longer, until its last thread is gone.
fn lock(mut file: File) -> Result<Flock<File>, Errno> {
    let begin = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((_, errno)) if begin.elapsed() > LOCK_PATIENCE => return Err(errno),
            Err((held, _)) => file = held,
        }
        std::thread::park_timeout(LOCK_PATIENCE / 40);
    }
}

fn read(path: &Path) -> Result<String, DirectoryError> {
    fs::read_to_string(path).map_err(io_error("read", path))
}

fn write_durably(path: &Path, text: &str) -> Result<(), DirectoryError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(io_error("write", path))
}

fn parse_error(path: &Path, reason: &str) -> DirectoryError {
    DirectoryError::Parse { path: path.to_owned(), reason: reason.to_owned() }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_formatted_once_and_owned_by_one() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let path = temp.path().join("nn");
        assert!(matches!(Directory::open(&path), Err(DirectoryError::NotFormatted { .. })));
        let made = Directory::format(&path, "ann", "staff").expect("formatted");
        assert!(matches!(Directory::format(&path, "ann", "staff"), Err(DirectoryError::NotEmpty { .. })));
        let opened = Directory::open(&path).expect("opened");
        assert_eq!((opened.cluster.cluster, opened.superuser.as_str()), (made.cluster, "ann"));
        assert!(matches!(Directory::open(&path), Err(DirectoryError::Locked { .. })));
        drop(opened);
        assert!(Directory::open(&path).is_ok());
    }
}
