//! A cluster of real processes with a directory of its own.
//!
//! Unlike `ringfs up` it starts nothing again by itself: what a test kills stays dead until the test starts it.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use ringfs_proto::cluster_file::ClusterFile;
use ringfs_sdk::{Client, CreateOptions};
use serde::Deserialize;
use tempfile::TempDir;

use crate::disks::Disk;
use crate::hosts::Hosts;
use crate::process::{Process, Sandbox};
use crate::wait;

/// Lines of a log that are shown of a server when a test fails.
const LOG_LINES_SHOWN: usize = 60;

/// What a server says of itself once it listens.
#[derive(Debug, Clone, Deserialize)]
pub struct Ready {
    /// Data or RPC port.
    pub address: SocketAddr,
    /// HTTP port.
    pub http: SocketAddr,
    /// Memory that it takes at most, bytes.
    pub memory_limit_bytes: u64,
}

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many datanodes.
    pub datanodes: usize,
    /// Their engine: `glommio`, `threads` or `auto`.
    pub engine: &'static str,
    /// What the kernel allows the servers.
    pub sandbox: Sandbox,
    /// More lines for the namenode's configuration.
    pub namenode_toml: String,
    /// More lines for each datanode's configuration; `DATANODE_DIR` in them is its directory.
    pub datanode_toml: String,
    /// More lines for single datanodes, by their number.
    pub single_datanode_toml: Vec<String>,
    /// Hosts for the servers: the namenode on the first, the datanodes on those behind it. `None`: all on loopback.
    pub hosts: Option<Arc<Hosts>>,
    /// Gives each datanode a disk of its own of so many bytes.
    pub disk_bytes: Option<u64>,
    /// Environment of the servers.
    pub environment: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        let datanode_toml = "shards = 2\n".to_owned();
        Self {
            datanodes: 1,
            engine: "auto",
            sandbox: Sandbox::None,
            namenode_toml: String::new(),
            datanode_toml,
            single_datanode_toml: Vec::new(),
            hosts: None,
            disk_bytes: None,
            environment: Vec::new(),
        }
    }
}

/// A server: where its files are, and its process while it runs.
#[derive(Debug)]
pub struct Server {
    role: &'static str,
    dir: PathBuf,
    sandbox: Sandbox,
    host: Option<(Arc<Hosts>, usize)>,
    environment: Vec<(String, String)>,
    /// Its own disk, if it was given one.
    pub disk: Option<Disk>,
    /// The process; `None` after it was killed.
    pub process: Option<Process>,
    /// What it said when it last started.
    pub ready: Option<Ready>,
}

/// A running cluster. Its processes end and its directory goes with it.
#[derive(Debug)]
pub struct Cluster {
    /// The namenode.
    pub namenode: Server,
    /// The datanodes.
    pub datanodes: Vec<Server>,
    dir: TempDir,
}

/// The `ringfs` binary of this build.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test");
    let build = test.ancestors().find(|dir| dir.join("ringfs").is_file());
    build.expect("ringfs is built beside the tests: cargo build --workspace").join("ringfs")
}

impl Server {
    /// Starts it and waits until it listens. While somebody else has the port that it kept, a client for instance that was
    /// given it for a connection, it is started again.
    pub fn start(&mut self) -> &Ready {
        wait::until(&format!("{} has its port", self.role), || self.try_start());
        self.ready.as_ref().expect("it listens")
    }

    /// `None`: its port is taken.
    fn try_start(&mut self) -> Option<()> {
        let ready_file = self.dir.join("ready.json");
        drop(fs::remove_file(&ready_file));
        let mut command = match &self.host {
            Some((hosts, host)) => hosts.command(*host, &binary()),
            None => Command::new(binary()),
        };
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.arg(self.role).arg("--config").arg(self.config_file()).arg("--ready-file").arg(&ready_file);
        command.arg("--with-parent").arg(std::process::id().to_string());
        let mut process = Process::start(self.role, command, &self.dir.join("log"), self.sandbox);
        let ready = wait::until(&format!("{} listens", self.role), || {
            if process.ended().is_some() {
                let log = process.log();
                let is_taken =
                    log.trim_end().lines().last().is_some_and(|line| line.contains("Address already in use"));
                assert!(is_taken, "{} ended at its start:\n{log}", self.role);
                return Some(None);
            }
            let text = fs::read_to_string(&ready_file).ok()?;
            serde_json::from_str::<Ready>(&text).ok().map(Some)
        });
        self.process = Some(process);
        self.ready = Some(ready?);
        Some(())
    }

    /// Its configuration: what is changed there counts from the next start on.
    pub fn config_file(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// Sets a key of its configuration, which counts from the next start on.
    ///
    /// # Panics
    /// If no line begins with the key.
    pub fn configure(&self, key: &str, value: &str) {
        let config = fs::read_to_string(self.config_file()).expect("read");
        let key = format!("{key} = ");
        let (with, without): (Vec<&str>, Vec<&str>) = config.lines().partition(|line| line.starts_with(&key));
        assert_eq!(with.len(), 1, "{key}");
        let config = format!("{key}{value}\n{}\n", without.join("\n"));
        fs::write(self.config_file(), config).expect("written");
    }

    /// The port that it was given stays its own over restarts.
    fn keep_port(&self) {
        self.configure("port", &self.address().port().to_string());
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.ready.as_ref().expect("started").address
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("running")
    }

    /// Ends it as a power cut would.
    pub fn kill_9(&mut self) {
        drop(self.process.take());
    }

    /// `namenode`, or `datanode-` and its number.
    pub fn name(&self) -> &str {
        self.dir.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files of a datanode's replicas, in order.
    pub fn block_files(&self) -> Vec<PathBuf> {
        let files = walkdir::WalkDir::new(&self.dir).sort_by_file_name().into_iter().filter_map(Result::ok);
        let is_block =
            |path: &PathBuf| path.components().any(|part| part.as_os_str() == "blocks") && path.is_file();
        files.map(walkdir::DirEntry::into_path).filter(is_block).collect()
    }

    /// Everything it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// The value of a metric without labels, or the sum over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let http = self.ready.as_ref().expect("started").http;
        let text = http_get(http, "/metrics");
        let values = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Cluster {
    /// Makes and starts a cluster; returns when it takes changes.
    ///
    /// # Panics
    /// If it does not start; with `disk_bytes`, if the machine cannot mount a file: see [`Disk::new`].
    pub fn start(options: &Options) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let server = |role, name: &str, host: usize| {
            let dir = dir.path().join(name);
            fs::create_dir_all(&dir).expect("made");
            let host = options.hosts.clone().map(|hosts| (hosts, host));
            let environment = options.environment.clone();
            Server {
                role,
                dir,
                sandbox: options.sandbox,
                host,
                environment,
                disk: None,
                process: None,
                ready: None,
            }
        };
        let mut namenode = server("namenode", "namenode", 0);
        let wal = namenode.dir.join("wal");
        let bind = |host| {
            options
                .hosts
                .as_ref()
                .map_or_else(String::new, |hosts| format!("bind = \"{}\"\n", hosts.address(host)))
        };
        let more = &options.namenode_toml;
        let wal_dirs =
            if more.contains("wal_dirs =") { String::new() } else { format!("wal_dirs = [{wal:?}]\n") };
        // Most tests look at what datanodes do, with little files.
        let inline = if more.contains("small_files") { "" } else { "small_files.inline_bytes_max = 0\n" };
        let config = format!("http_port = 0\nport = 0\n{wal_dirs}{inline}{}{more}", bind(0))
            .replace("NAMENODE_DIR", &namenode.dir.to_string_lossy());
        let config_file = namenode.config_file();
        fs::write(&config_file, &config).expect("written");
        let formatted =
            Command::new(binary()).args(["namenode", "--format", "--config"]).arg(&config_file).output();
        assert!(formatted.expect("run").status.success(), "formatted");
        let address = namenode.start().address;
        namenode.keep_port();
        let join_file = dir.path().join("join.toml");
        let text = fs::read_to_string(wal.join("cluster.toml")).expect("read");
        let mut cluster = ClusterFile::parse(&text).expect("a cluster file");
        cluster.namenode = Some(address.to_string());
        fs::write(&join_file, cluster.render()).expect("written");
        let mut datanodes = Vec::new();
        for index in 0..options.datanodes {
            let mut datanode = server("datanode", &format!("datanode-{index}"), index + 1);
            let volume = datanode.dir.join("data");
            datanode.disk = options.disk_bytes.map(|bytes| Disk::new(&volume, bytes).expect("a disk"));
            let single = options.single_datanode_toml.get(index).map_or("", String::as_str);
            let more = format!("{}{single}", options.datanode_toml)
                .replace("DATANODE_DIR", &datanode.dir.to_string_lossy());
            let unless = |key: &str, line: String| if more.contains(key) { String::new() } else { line };
            let volumes = unless("volumes =", format!("volumes = [{volume:?}]\n"));
            let engine = unless("engine =", format!("engine = \"{}\"\n", options.engine));
            let config = format!(
                "join_file = {join_file:?}\nhttp_port = 0\nport = 0\n{volumes}{engine}{}{more}",
                bind(index + 1)
            );
            fs::write(datanode.config_file(), config).expect("written");
            datanode.start();
            datanode.keep_port();
            datanodes.push(datanode);
        }
        let cluster = Self { namenode, datanodes, dir };
        cluster.wait_serving();
        cluster
    }

    /// The directory of the cluster.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `ringfs://host:port`.
    pub fn uri(&self) -> String {
        format!("ringfs://{}", self.namenode.address())
    }

    /// A client.
    pub fn client(&self) -> Client {
        Client::connect(&self.uri()).expect("a client")
    }

    /// The cluster's identity and key.
    pub fn cluster_file(&self) -> ClusterFile {
        let text = fs::read_to_string(self.dir().join("join.toml")).expect("read");
        ClusterFile::parse(&text).expect("a cluster file")
    }

    /// Waits until changes are accepted and every running datanode is live.
    pub fn wait_serving(&self) {
        let client = self.client();
        let running = self.datanodes.iter().filter(|datanode| datanode.process.is_some()).count();
        wait::until_true("the cluster serves", || {
            client
                .fs_stats()
                .is_ok_and(|stats| stats.safe_mode.is_empty() && stats.datanodes_live as usize >= running)
        });
    }

    /// The ends of all logs, for whoever looks for what went wrong.
    pub fn logs(&self) -> String {
        let servers = std::iter::once(&self.namenode).chain(&self.datanodes);
        let end = |server: &Server| {
            let log = server.log();
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains(" audit: ")).collect();
            let end = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n");
            format!("--- {}\n{end}\n", server.dir.display())
        };
        servers.map(end).collect()
    }

    /// Ends every process as a power cut would.
    pub fn kill_9_all(&mut self) {
        self.datanodes.iter_mut().for_each(Server::kill_9);
        self.namenode.kill_9();
    }

    /// Starts everything that does not run, and waits until it serves.
    pub fn start_all(&mut self) {
        if self.namenode.process.is_none() {
            self.namenode.start();
        }
        for datanode in self.datanodes.iter_mut().filter(|datanode| datanode.process.is_none()) {
            datanode.start();
        }
        self.wait_serving();
    }

    /// A `ringfs` command line on this cluster.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(words).env("RINGFS_URI", self.uri()).env_remove("RINGFS_CONFIG").env("RUST_LOG", "off");
        command
    }
}

/// Options for a file of so many replicas and bytes per block.
pub fn file_options(replication: u16, block_size: u64) -> CreateOptions {
    CreateOptions { replication, block_size, ..CreateOptions::default() }
}

/// The body of an HTTP answer.
///
/// # Panics
/// If the server does not answer with success.
pub fn http_get(address: SocketAddr, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).expect("HTTP answers");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
    body.to_owned()
}
