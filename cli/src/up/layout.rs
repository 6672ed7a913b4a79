//! The directory of a cluster that `ringfs up` runs: paths, remembered ports, configurations.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use ringfs_namenode::directory::read_cluster_file;
use serde::{Deserialize, Serialize};

use super::{REPLICATION, UpError};

/// What is kept between two runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// How many datanodes.
    pub datanodes: u16,
    /// Port of the namenode.
    pub port: u16,
    /// Its HTTP port.
    pub http_port: u16,
    /// Data port and HTTP port of each datanode; 0 = not chosen yet.
    pub datanode_ports: Vec<(u16, u16)>,
}

impl Default for Remembered {
    fn default() -> Self {
        Self { datanodes: 0, port: 8020, http_port: 9870, datanode_ports: Vec::new() }
    }
}

impl Remembered {
    /// Takes the options of this run into account.
    ///
    /// # Errors
    /// `Options` when there are fewer datanodes than hold data.
    pub fn apply(
        &mut self,
        datanodes: Option<u16>,
        port: Option<u16>,
        http_port: Option<u16>,
    ) -> Result<(), UpError> {
        let wanted = datanodes.unwrap_or(if self.datanodes == 0 { 3 } else { self.datanodes });
        if wanted < self.datanodes {
            let message = format!(
                "this cluster has {} datanodes; with {wanted} their blocks would be missing",
                self.datanodes
            );
            return Err(UpError::Options(message));
        }
        self.datanodes = wanted;
        self.datanode_ports.resize(usize::from(wanted), (0, 0));
        if port == Some(0) {
            (self.port, self.http_port) = (0, 0);
            self.datanode_ports.fill((0, 0));
        }
        self.port = port.unwrap_or(self.port);
        self.http_port = http_port.unwrap_or(self.http_port);
        Ok(())
    }
}

/// Paths in the directory of a cluster.
#[derive(Debug, Clone)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// The directory, made if missing.
    ///
    /// # Errors
    /// `Io`.
    pub fn new(dir: &Path) -> Result<Self, UpError> {
        fs::create_dir_all(dir).map_err(io_error("create", dir))?;
        Ok(Self { dir: fs::canonicalize(dir).map_err(io_error("find", dir))? })
    }

    /// The directory itself.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of a server.
    pub fn server_dir(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Takes the directory for this process.
    ///
    /// # Errors
    /// `InUse`, `Io`.
    pub fn lock(&self) -> Result<Flock<File>, UpError> {
        let path = self.dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_held| UpError::InUse(self.dir.clone()))
    }

    /// What the last run has left.
    ///
    /// # Errors
    /// `Io`, `Options` when it cannot be parsed.
    pub fn remembered(&self) -> Result<Remembered, UpError> {
        let path = self.dir.join("up.toml");
        if !path.exists() {
            return Ok(Remembered::default());
        }
        let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
        toml::from_str(&text)
            .map_err(|error| UpError::Options(format!("{}: {}", path.display(), error.message())))
    }

    /// Keeps this for the next run.
    ///
    /// # Errors
    /// `Io`.
    pub fn remember(&self, remembered: &Remembered) -> Result<(), UpError> {
        self.write_toml(&self.dir.join("up.toml"), remembered)
    }

    /// Whether the namenode's directory was made.
    pub fn is_formatted(&self) -> bool {
        self.wal_dir().join("format.toml").exists()
    }

    fn wal_dir(&self) -> PathBuf {
        self.dir.join("namenode/wal")
    }

    /// Writes the namenode's configuration.
    ///
    /// # Errors
    /// `Io`.
    pub fn write_namenode_config(&self, bind: IpAddr, remembered: &Remembered) -> Result<(), UpError> {
        let config = ringfs_namenode::Config {
            wal_dirs: vec![self.wal_dir()],
            bind,
            port: remembered.port,
            http_port: remembered.http_port,
            replication: remembered.datanodes.min(REPLICATION),
            ..ringfs_namenode::Config::default()
        };
        self.write_config("namenode", &config)
    }

    /// Writes the configuration of a datanode.
    ///
    /// # Errors
    /// `Io`.
    pub fn write_datanode_config(
        &self,
        index: u16,
        bind: IpAddr,
        remembered: &Remembered,
    ) -> Result<(), UpError> {
        let name = format!("datanode-{index}");
        let (port, http_port) = remembered.datanode_ports[usize::from(index)];
        let config = ringfs_datanode::Config {
            join_file: self.dir.join("join.toml"),
            volumes: vec![self.server_dir(&name).join("data").into()],
            bind,
            port,
            http_port,
            ..ringfs_datanode::Config::default()
        };
        self.write_config(&name, &config)
    }

    /// Writes the join file that the datanodes read.
    ///
    /// # Errors
    /// `Io`, `Options` when the cluster's own file cannot be read.
    pub fn write_join_file(&self, namenode: SocketAddr) -> Result<(), UpError> {
        let mut cluster =
            read_cluster_file(&self.wal_dir()).map_err(|error| UpError::Options(error.to_string()))?;
        let host = if namenode.ip().is_unspecified() { IpAddr::from([127, 0, 0, 1]) } else { namenode.ip() };
        cluster.namenode = Some(SocketAddr::new(host, namenode.port()).to_string());
        write_secret(&self.dir.join("join.toml"), &cluster.render())
    }

    fn write_config(&self, name: &str, config: &impl Serialize) -> Result<(), UpError> {
        let directory = self.server_dir(name);
        fs::create_dir_all(&directory).map_err(io_error("create", &directory))?;
        self.write_toml(&directory.join("config.toml"), config)
    }

    fn write_toml(&self, path: &Path, value: &impl Serialize) -> Result<(), UpError> {
        let text = toml::to_string(value)
            .map_err(|error| UpError::Options(format!("{}: {error}", path.display())))?;
        write_durably(path, &text, 0o644)
    }
}

/// Writes a file that only its owner may read.
///
/// # Errors
/// `Io`.
pub fn write_secret(path: &Path, text: &str) -> Result<(), UpError> {
    write_durably(path, text, 0o600)
}

/// Replaces a file as a whole: after a power cut it holds the old text or the new one.
fn write_durably(path: &Path, text: &str, mode: u32) -> Result<(), UpError> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    };
    write().map_err(io_error("write", path))
}

/// An error of the operating system, with what was tried.
pub fn io_error(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> UpError {
    let path = path.to_owned();
    move |source| UpError::Io { action, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_kept_unless_free_ones_are_asked_for() {
        let mut remembered = Remembered::default();
        remembered.apply(Some(2), None, None).expect("applied");
        assert_eq!((remembered.port, remembered.datanode_ports.len()), (8020, 2));
        remembered.datanode_ports[1] = (5000, 5001);
        remembered.apply(None, None, Some(7)).expect("applied");
        assert_eq!(
            (remembered.port, remembered.http_port, remembered.datanode_ports[1]),
            (8020, 7, (5000, 5001))
        );
        remembered.apply(Some(3), Some(0), None).expect("applied");
        assert_eq!(
            remembered,
            Remembered { datanodes: 3, port: 0, http_port: 0, datanode_ports: vec![(0, 0); 3] }
        );
        assert!(remembered.apply(Some(2), None, None).is_err(), "datanodes that hold data are not left out");
    }
}
