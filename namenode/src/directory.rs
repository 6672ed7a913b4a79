//! A namenode's directories: made once by formatting, then owned by one process.
//!
//! | file | content |
//! |---|---|
//! | `cluster.toml` | id and key of the cluster, mode 0600 |
//! | `format.toml` | version of the directory, and who owns the root of the namespace |
//! | `lock` | locked by the running namenode |
//! | `members.toml`, `marks`, `wal-*.log` | the log, see [`crate::wal`] |

use std::io;
use std::path::{Path, PathBuf};

use ringfs_disk::{Disk, DiskLock, SystemDisk};
use ringfs_proto::capability::ClusterKey;
use ringfs_proto::cluster_file::{ClusterFile, ClusterFileError};
use ringfs_proto::ids::ClusterId;
use serde::{Deserialize, Serialize};

use crate::wal::members::Found;

const VERSION: u32 = 1;
const CLUSTER_FILE: &str = "cluster.toml";
const FORMAT_FILE: &str = "format.toml";
const LOCK_FILE: &str = "lock";
/// What may be in a directory that is taken as empty: traces of a fill that a crash cut short, or of a new file system.
const TRACES: &[&str] = &[LOCK_FILE, CLUSTER_FILE, "cluster.new", "format.new", "lost+found"];

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
    /// Two directories are not of one cluster.
    #[error("open {path}: it belongs to cluster {found}, {other} to {expected}")]
    Mixed {
        /// The directory.
        path: PathBuf,
        /// Its cluster.
        found: ClusterId,
        /// The directory before it.
        other: PathBuf,
        /// Its cluster.
        expected: ClusterId,
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

/// What every directory of a namenode says of itself.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Id and key.
    pub cluster: ClusterFile,
    /// Owner of the root.
    pub superuser: String,
    /// Group of the root.
    pub group: String,
}

impl Identity {
    /// A new cluster.
    ///
    /// # Errors
    /// The operating system has no random numbers.
    fn new(path: &Path, superuser: &str, group: &str) -> Result<Self, DirectoryError> {
        let (mut id, mut key) = ([0; 16], [0; 32]);
        let random =
            |bytes: &mut [u8]| getrandom::fill(bytes).map_err(|error| io::Error::other(error.to_string()));
        random(&mut id).and_then(|()| random(&mut key)).map_err(io_error("make the key of", path))?;
        let cluster = ClusterFile { cluster: ClusterId(id), key: ClusterKey::new(1, key), namenode: None };
        Ok(Self { cluster, superuser: superuser.to_owned(), group: group.to_owned() })
    }

    /// Writes it into a directory, which is formatted from then on.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn store(&self, disk: &dyn Disk, directory: &Path) -> Result<(), DirectoryError> {
        let format =
            Format { version: VERSION, superuser: self.superuser.clone(), group: self.group.clone() };
        let text = toml::to_string(&format).map_err(|error| parse_error(directory, &error.to_string()))?;
        // The format comes last: a directory without it is not formatted.
        for (name, text) in [(CLUSTER_FILE, self.cluster.render()), (FORMAT_FILE, text)] {
            let path = directory.join(name);
            disk.write_durably(&path, text.as_bytes()).map_err(io_error("write", &path))?;
        }
        Ok(())
    }

    fn load(disk: &dyn Disk, directory: &Path) -> Result<Self, DirectoryError> {
        let path = directory.join(FORMAT_FILE);
        let format: Format =
            toml::from_str(&read(disk, &path)?).map_err(|error| parse_error(&path, error.message()))?;
        if format.version != VERSION {
            return Err(DirectoryError::Version { path: directory.to_owned(), found: format.version });
        }
        let cluster = read_cluster_from(disk, directory)?;
        Ok(Self { cluster, superuser: format.superuser, group: format.group })
    }
}

/// Makes a new cluster in empty or missing directories.
///
/// # Errors
/// `NotEmpty`, or what the operating system says.
pub fn format(
    disk: &dyn Disk,
    paths: &[PathBuf],
    superuser: &str,
    group: &str,
) -> Result<ClusterFile, DirectoryError> {
    let first = paths.first().map_or(Path::new(""), PathBuf::as_path);
    for path in paths {
        create_durably(disk, path).map_err(io_error("create", path))?;
        if !disk.list(path).map_err(io_error("list", path))?.is_empty() {
            return Err(DirectoryError::NotEmpty { path: path.clone() });
        }
    }
    let identity = Identity::new(first, superuser, group)?;
    paths.iter().try_for_each(|path| identity.store(disk, path))?;
    Ok(identity.cluster)
}

/// Makes a directory and those above it that are missing, so that a power cut takes none of them away again.
///
/// # Errors
/// What the operating system says.
pub fn create_durably(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !disk.exists(path)).collect();
    disk.create_directories(path)?;
    let parents = missing.into_iter().filter_map(Path::parent);
    parents
        .map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
        .try_for_each(|parent| disk.sync_directory(parent))
}

/// The directories of a namenode, owned by this process.
pub struct Directories {
    /// What they say of themselves.
    pub identity: Identity,
    /// Each of them, in the order of the configuration.
    pub found: Vec<(PathBuf, Found)>,
    locks: Vec<DiskLock>,
}

impl std::fmt::Debug for Directories {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directories").field("found", &self.found).finish_non_exhaustive()
    }
}

impl Directories {
    /// Takes ownership of the formatted ones among `paths`.
    ///
    /// # Errors
    /// `NotFormatted` when none is, `Locked`, `Mixed`; what is wrong with the first one when none can be used.
    pub fn open(disk: &dyn Disk, paths: &[PathBuf]) -> Result<Self, DirectoryError> {
        let (mut found, mut locks, mut failure) = (Vec::new(), Vec::new(), None);
        let mut first: Option<(PathBuf, Identity)> = None;
        for path in paths {
            match open(disk, path) {
                Ok((identity, lock)) => {
                    if let Some((other, expected)) = &first {
                        check_same(path, &identity, other, expected)?;
                    }
                    first.get_or_insert_with(|| (path.clone(), identity));
                    locks.push(lock);
                    found.push((path.clone(), Found::Ours));
                }
                Err(error @ DirectoryError::Locked { .. }) => return Err(error),
                Err(error) => {
                    let is_empty =
                        matches!(error, DirectoryError::NotFormatted { .. }) && is_empty(disk, path);
                    let state = if is_empty { Found::Empty } else { Found::Unusable(chain(&error)) };
                    found.push((path.clone(), state));
                    failure = failure.or(Some(error));
                }
            }
        }
        match (first, failure) {
            (Some((_, identity)), _) => Ok(Self { identity, found, locks }),
            (None, Some(error)) => Err(error),
            (None, None) => Err(DirectoryError::NotFormatted { path: PathBuf::new() }),
        }
    }

    /// Formats an empty directory as the others, and takes ownership of it.
    ///
    /// # Errors
    /// `Locked`, or what the operating system says.
    pub fn fill(&mut self, disk: &dyn Disk, path: &Path) -> Result<(), DirectoryError> {
        self.identity.store(disk, path)?;
        self.locks.push(lock(disk, path)?);
        Ok(())
    }
}

fn open(disk: &dyn Disk, path: &Path) -> Result<(Identity, DiskLock), DirectoryError> {
    if !disk.exists(&path.join(FORMAT_FILE)) {
        return Err(DirectoryError::NotFormatted { path: path.to_owned() });
    }
    let lock = lock(disk, path)?;
    Ok((Identity::load(disk, path)?, lock))
}

fn lock(disk: &dyn Disk, path: &Path) -> Result<DiskLock, DirectoryError> {
    let lock_path = path.join(LOCK_FILE);
    disk.lock(&lock_path).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => DirectoryError::Locked { path: path.to_owned() },
        _ => io_error("lock", &lock_path)(error),
    })
}

fn is_empty(disk: &dyn Disk, path: &Path) -> bool {
    disk.list(path).is_ok_and(|names| names.iter().all(|name| TRACES.contains(&name.as_str())))
}

fn check_same(
    path: &Path,
    identity: &Identity,
    other: &Path,
    expected: &Identity,
) -> Result<(), DirectoryError> {
    let (found, expected) = (identity.cluster.cluster, expected.cluster.cluster);
    if found == expected {
        return Ok(());
    }
    Err(DirectoryError::Mixed { path: path.to_owned(), found, other: other.to_owned(), expected })
}

/// Id and key of the cluster of a formatted directory, without owning it: for `ringfs admin join-file`.
///
/// # Errors
/// `Parse`, or what the operating system says.
pub fn read_cluster_file(directory: &Path) -> Result<ClusterFile, DirectoryError> {
    read_cluster_from(&SystemDisk, directory)
}

fn read_cluster_from(disk: &dyn Disk, directory: &Path) -> Result<ClusterFile, DirectoryError> {
    let path = directory.join(CLUSTER_FILE);
    ClusterFile::parse(&read(disk, &path)?).map_err(|ClusterFileError { reason }| parse_error(&path, &reason))
}

fn read(disk: &dyn Disk, path: &Path) -> Result<String, DirectoryError> {
    disk.read_to_string(path).map_err(io_error("read", path))
}

fn parse_error(path: &Path, reason: &str) -> DirectoryError {
    DirectoryError::Parse { path: path.to_owned(), reason: reason.to_owned() }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DirectoryError {
    let path = path.to_owned();
    move |source| DirectoryError::Io { action, path, source }
}

fn chain(error: &DirectoryError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_formatted_once_and_owned_by_one() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let paths = [temp.path().join("a"), temp.path().join("b")];
        let open = || Directories::open(&SystemDisk, &paths);
        assert!(matches!(open(), Err(DirectoryError::NotFormatted { .. })));
        let made = format(&SystemDisk, &paths, "ann", "staff").expect("formatted");
        let again = format(&SystemDisk, &paths, "ann", "staff");
        assert!(matches!(again, Err(DirectoryError::NotEmpty { .. })));
        let opened = open().expect("opened");
        assert_eq!(opened.identity.cluster.cluster, made.cluster);
        assert_eq!(opened.identity.superuser, "ann");
        assert!(matches!(open(), Err(DirectoryError::Locked { .. })));
        drop(opened);
        assert!(open().is_ok());
    }

    #[test]
    fn an_empty_directory_is_filled_and_one_of_another_cluster_is_refused() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let [a, b, c] = ["a", "b", "c"].map(|name| temp.path().join(name));
        format(&SystemDisk, std::slice::from_ref(&a), "ann", "staff").expect("formatted");
        SystemDisk.create_directories(&b).expect("made");
        let mut opened = Directories::open(&SystemDisk, &[a.clone(), b.clone(), c.clone()]).expect("opened");
        let states: Vec<_> = opened.found.iter().map(|(_, found)| found.clone()).collect();
        assert!(matches!(states.as_slice(), [Found::Ours, Found::Empty, Found::Unusable(_)]), "{states:?}");
        opened.fill(&SystemDisk, &b).expect("filled");
        drop(opened);
        let opened = Directories::open(&SystemDisk, &[a.clone(), b]).expect("opened");
        assert!(opened.found.iter().all(|(_, found)| matches!(found, Found::Ours)));
        drop(opened);
        format(&SystemDisk, std::slice::from_ref(&c), "ann", "staff").expect("formatted");
        let mixed = Directories::open(&SystemDisk, &[a, c]);
        assert!(matches!(mixed, Err(DirectoryError::Mixed { .. })));
    }
}
