//! `ringfs up`: a whole cluster on one machine, in the foreground, as child processes.
//!
//! | in the directory | what |
//! |---|---|
//! | `lock` | locked while a cluster runs here |
//! | `up.toml` | how many datanodes, and the ports that were chosen |
//! | `join.toml` | made for the datanodes, mode 0600 |
//! | `namenode/`, `datanode-0/`... | `config.toml`, `log`, and the data |

mod children;
mod layout;

use std::fs::File;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::Flock;
use ringfs_sdk::Client;
use serde::Serialize;

use crate::servers::catch_signals;
use crate::{EXIT_CONFIG, EXIT_REFUSED};
use children::Child;
use layout::{Layout, Remembered};

pub use layout::write_secret;

/// How often children are looked at.
const LOOK: Duration = Duration::from_millis(50);
/// How long a cluster may take to serve.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// Replicas of a file, where there are as many datanodes.
const REPLICATION: u16 = 3;

/// Options of `ringfs up`.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where everything is kept; made if missing.
    #[arg(long, value_name = "DIR", default_value = "ringfs-data")]
    dir: PathBuf,
    /// How many datanodes [default: as many as the directory has, else 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    datanodes: Option<u16>,
    /// Address to listen on. Beyond loopback, users are taken at their word.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1")]
    bind: IpAddr,
    /// Port of the namenode; 0 takes free ports for all servers [default: as before, else 8020]
    #[arg(long, value_name = "PORT")]
    port: Option<u16>,
    /// HTTP port of the namenode; 0 takes a free one [default: as before, else 9870]
    #[arg(long, value_name = "PORT")]
    http_port: Option<u16>,
    /// Write this JSON file once the cluster serves: uri, http, namenode, datanodes.
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
}

/// Why a cluster did not start.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// Another one runs here.
    #[error("{0} is in use: another `ringfs up` runs on it")]
    InUse(PathBuf),
    /// The operating system refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// A child ended where it should have started.
    #[error("{name} did not start: {reason}")]
    Child {
        /// Which.
        name: String,
        /// The last line of its log.
        reason: String,
    },
    /// The directory was made with other options.
    #[error("{0}")]
    Options(String),
    /// The cluster does not serve in time.
    #[error("the cluster does not serve after {START_DEADLINE:?}: {0}; see the logs in its directory")]
    Deadline(String),
}

/// The ready file.
#[derive(Debug, Serialize)]
struct ReadyFile {
    uri: String,
    http: String,
    namenode: ReadyNamenode,
    datanodes: Vec<ReadyDatanode>,
}

#[derive(Debug, Serialize)]
struct ReadyNamenode {
    pid: u32,
    address: String,
}

#[derive(Debug, Serialize)]
struct ReadyDatanode {
    pid: u32,
    address: String,
    volumes: Vec<PathBuf>,
}

/// Runs a cluster until a signal.
pub fn run(options: &Options) -> ExitCode {
    let stop = catch_signals();
    match Cluster::start(options, &stop) {
        Ok(Some(cluster)) => cluster.supervise(&stop),
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringfs: {error}");
            ExitCode::from(if matches!(error, UpError::Options(_)) { EXIT_CONFIG } else { EXIT_REFUSED })
        }
    }
}

struct Cluster {
    layout: Layout,
    bind: IpAddr,
    ready_file: Option<PathBuf>,
    namenode: Child,
    datanodes: Vec<Child>,
    _lock: Flock<File>,
}

impl Cluster {
    /// Starts every server and waits until all serve; `None` when a signal came first.
    fn start(options: &Options, stop: &Arc<AtomicBool>) -> Result<Option<Self>, UpError> {
        let layout = Layout::new(&options.dir)?;
        let lock = layout.lock()?;
        let mut remembered = layout.remembered()?;
        remembered.apply(options.datanodes, options.port, options.http_port)?;
        layout.write_namenode_config(options.bind, &remembered)?;
        if !layout.is_formatted() {
            println!("formatting a new cluster in {}", layout.dir().display());
            children::format(&layout)?;
        }
        let mut namenode = Child::new("namenode", layout.server_dir("namenode"));
        namenode.start()?;
        let Some(ready) = namenode.wait_ready(stop, START_DEADLINE)? else { return Ok(None) };
        (remembered.port, remembered.http_port) = (ready.address.port(), ready.http.port());
        layout.write_namenode_config(options.bind, &remembered)?;
        layout.write_join_file(ready.address)?;
        let mut datanodes = Vec::new();
        for index in 0..remembered.datanodes {
            layout.write_datanode_config(index, options.bind, &remembered)?;
            let name = format!("datanode-{index}");
            let mut child = Child::new(&name, layout.server_dir(&name));
            child.start()?;
            datanodes.push(child);
        }
        for (index, child) in datanodes.iter_mut().enumerate() {
            let Some(ready) = child.wait_ready(stop, START_DEADLINE)? else { return Ok(None) };
            remembered.datanode_ports[index] = (ready.address.port(), ready.http.port());
            layout.write_datanode_config(index as u16, options.bind, &remembered)?;
        }
        layout.remember(&remembered)?;
        let ready_file = options.ready_file.clone();
        let mut cluster = Self { layout, bind: options.bind, ready_file, namenode, datanodes, _lock: lock };
        if !cluster.wait_serving(stop)? {
            cluster.stop();
            return Ok(None);
        }
        cluster.announce(&remembered)?;
        Ok(Some(cluster))
    }

    /// Waits until the namenode accepts changes and has heard of every datanode; false when a signal came first.
    fn wait_serving(&mut self, stop: &AtomicBool) -> Result<bool, UpError> {
        let deadline = Instant::now() + START_DEADLINE;
        let mut last = String::new();
        while Instant::now() < deadline {
            if stop.load(Ordering::Relaxed) {
                return Ok(false);
            }
            self.revive();
            match Client::connect(&self.uri()).and_then(|client| client.fs_stats()) {
                Ok(stats)
                    if stats.safe_mode.is_empty()
                        && stats.datanodes_live as usize >= self.datanodes.len() =>
                {
                    return Ok(true);
                }
                Ok(stats) => {
                    last = format!(
                        "{} of {} datanodes; {}",
                        stats.datanodes_live,
                        self.datanodes.len(),
                        stats.safe_mode
                    )
                }
                Err(error) => last = error.to_string(),
            }
            std::thread::park_timeout(LOOK);
        }
        Err(UpError::Deadline(last))
    }

    fn uri(&self) -> String {
        let address = self.namenode.ready().map(|ready| ready.address);
        let port = address.map_or(8020, |address| address.port());
        let host = if self.bind.is_unspecified() { "127.0.0.1".to_owned() } else { self.bind.to_string() };
        format!("ringfs://{host}:{port}")
    }

    fn announce(&self, remembered: &Remembered) -> Result<(), UpError> {
        let uri = self.uri();
        let http = self.namenode.ready().map(|ready| format!("http://{}", ready.http)).unwrap_or_default();
        println!("\nRingFS serves at {uri}");
        println!("  datanodes    {}", self.datanodes.len());
        println!("  replication  {}", remembered.datanodes.min(REPLICATION));
        println!("  block size   128 MiB");
        println!("  data         {}", self.layout.dir().display());
        println!("  health       {http}/healthz   metrics {http}/metrics");
        println!("\nIn another terminal:\n");
        println!("  export RINGFS_URI={uri}");
        println!("  ringfs fs -mkdir -p /data");
        println!("  ringfs fs -put README.md /data");
        println!("  ringfs fs -ls -R /");
        println!("\nCtrl-C stops it; the data stays.");
        self.write_ready_file()
    }

    fn write_ready_file(&self) -> Result<(), UpError> {
        let (Some(path), Some(namenode)) = (&self.ready_file, self.namenode.ready()) else { return Ok(()) };
        let datanode = |child: &Child| {
            let ready = child.ready()?;
            Some(ReadyDatanode {
                pid: ready.pid,
                address: ready.address.to_string(),
                volumes: vec![child.dir().join("data")],
            })
        };
        let ready = ReadyFile {
            uri: self.uri(),
            http: format!("http://{}", namenode.http),
            namenode: ReadyNamenode { pid: namenode.pid, address: namenode.address.to_string() },
            datanodes: self.datanodes.iter().filter_map(datanode).collect(),
        };
        crate::ready::write(path, &ready).map_err(layout::io_error("write", path))
    }

    /// Keeps every child running until a signal.
    fn supervise(mut self, stop: &AtomicBool) -> ExitCode {
        let mut is_stale = false;
        while !stop.load(Ordering::Relaxed) {
            is_stale |= self.revive();
            let are_ready = self.namenode.is_ready() && self.datanodes.iter_mut().all(Child::is_ready);
            if is_stale && are_ready {
                is_stale = false;
                if let Err(error) = self.write_ready_file() {
                    eprintln!("ringfs: {error}");
                }
            }
            std::thread::park_timeout(LOOK);
        }
        println!("\nstopping");
        self.stop();
        ExitCode::SUCCESS
    }

    /// Starts children again that have ended, not too often; says whether there were any.
    fn revive(&mut self) -> bool {
        let children = std::iter::once(&mut self.namenode).chain(&mut self.datanodes);
        children.map(Child::revive).fold(false, |any, revived| any | revived)
    }

    fn stop(&mut self) {
        for child in self.datanodes.iter_mut().chain(std::iter::once(&mut self.namenode)) {
            child.terminate();
        }
        for child in self.datanodes.iter_mut().chain(std::iter::once(&mut self.namenode)) {
            child.wait_ended();
        }
    }
}
