//! Why a datanode did not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use ringfs_proto::ids::ClusterId;

/// A refused start. The message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not make sense.
    #[error("configuration: {0}")]
    Config(String),
    /// The join file cannot be used.
    #[error("read join file {path}: {reason}; make one with `ringfs admin join-file` on the namenode's host")]
    JoinFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A volume of another cluster.
    #[error(
        "open volume {path}: it belongs to cluster {found}, this datanode joins {expected}; use another directory, or empty it if nothing in it is needed"
    )]
    ForeignVolume {
        /// The volume.
        path: PathBuf,
        /// Its cluster.
        found: ClusterId,
        /// The cluster of the join file.
        expected: ClusterId,
    },
    /// A directory with something else in it.
    #[error("open volume {path}: the directory is not empty and holds no RingFS volume; name an empty one")]
    NotAVolume {
        /// The directory.
        path: PathBuf,
    },
    /// Another process uses it.
    #[error("lock volume {path}: another datanode is running on it")]
    Locked {
        /// The volume.
        path: PathBuf,
    },
    /// It cannot be written to.
    #[error("write to volume {path}: {source}; check its permissions and that it is not mounted read-only")]
    ReadOnly {
        /// The volume.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
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
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The address cannot be listened on.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The engine cannot be started.
    #[error("start engine: {0}")]
    Engine(io::Error),
}

pub(crate) fn io_error(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> StartError {
    let path = path.into();
    move |source| StartError::Io { action, path, source }
}
