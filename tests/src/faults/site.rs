//! The cluster that faults are injected into, and the hands that break and mend it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::signal::Signal;
use ringfs_sdk::{Client, FsStats};
use walkdir::WalkDir;

use crate::cluster::{Cluster, Options, Server};
use crate::hosts::Hosts;
use crate::random::Random;
use crate::wait;

/// Datanodes of a site: one more than a file has replicas.
pub const DATANODES: usize = 4;
/// Bytes of a datanode's disk.
const DISK_BYTES: u64 = 512 << 20;
const NAMENODE_HOST: usize = 0;

/// Times are scaled down: what takes half a minute in a cluster takes two seconds here.
const NAMENODE_TOML: &str = "\
wal_dirs = [\"NAMENODE_DIR/wal\", \"NAMENODE_DIR/wal-2\"]
checkpoint_records = 300
heartbeat_interval_ms = 200
datanode_stale_ms = 800
datanode_dead_ms = 2000
replication_timeout_ms = 4000
mass_failure_wait_ms = 1000
block_recovery_timeout_ms = 2000
lease_soft_ms = 1000
lease_hard_ms = 3000
invalidation_delay_ms = 500
";
const DATANODE_TOML: &str = "\
shards = 2
reserved_bytes = 4194304
peer_stall_ms = 3000
scrub_period_s = 5
journal_compact_records = 50
";

/// A cluster on hosts and disks of its own.
pub struct Site {
    /// Its servers.
    pub cluster: Cluster,
    hosts: Arc<Hosts>,
}

/// A byte that was flipped.
#[derive(Debug, Clone)]
pub struct Flipped {
    path: PathBuf,
    offset: u64,
    value: u8,
}

impl Flipped {
    /// Whether nobody can meet it any more: the file is gone or has been written anew.
    pub fn is_gone(&self) -> bool {
        let mut byte = [0];
        let read = File::open(&self.path).and_then(|file| file.read_exact_at(&mut byte, self.offset));
        read.is_err() || byte != [self.value]
    }
}

impl Site {
    /// Builds it. The calling thread moves to a network of its own.
    ///
    /// # Errors
    /// What the machine lacks: root, network namespaces, loop devices.
    pub fn new(engine: &'static str, environment: Vec<(String, String)>) -> Result<Self, String> {
        let hosts = Arc::new(Hosts::new(1 + DATANODES)?);
        let log = if environment.is_empty() { "" } else { "io_uring = \"off\"\n" };
        let options = Options {
            datanodes: DATANODES,
            engine,
            namenode_toml: format!("{NAMENODE_TOML}{log}"),
            datanode_toml: DATANODE_TOML.to_owned(),
            hosts: Some(hosts.clone()),
            disk_bytes: Some(DISK_BYTES),
            environment,
            ..Options::default()
        };
        Ok(Self { cluster: Cluster::start(&options), hosts })
    }

    /// The namenode.
    pub fn namenode(&mut self) -> &mut Server {
        &mut self.cluster.namenode
    }

    /// A datanode.
    pub fn datanode(&mut self, number: usize) -> &mut Server {
        &mut self.cluster.datanodes[number]
    }

    /// Pulls the cable of the namenode, or puts it back.
    pub fn connect_namenode(&self, is_connected: bool) {
        self.connect(NAMENODE_HOST, is_connected);
    }

    /// Pulls the cable of a datanode, or puts it back.
    pub fn connect_datanode(&self, number: usize, is_connected: bool) {
        self.connect(NAMENODE_HOST + 1 + number, is_connected);
    }

    fn connect(&self, host: usize, is_connected: bool) {
        if is_connected { self.hosts.join(host) } else { self.hosts.cut(host) }
    }

    /// Stops a server in its tracks, or lets it go on.
    pub fn pause(server: &mut Server, is_paused: bool) {
        server.process().signal(if is_paused { Signal::SIGSTOP } else { Signal::SIGCONT });
    }

    /// Starts every server that has ended, for whatever reason.
    pub fn start_ended(&mut self) {
        let Cluster { namenode, datanodes, .. } = &mut self.cluster;
        for server in std::iter::once(namenode).chain(datanodes) {
            if server.process.as_mut().is_none_or(|process| process.ended().is_some()) {
                server.start();
            }
        }
    }

    /// Waits until all servers are heard and every block has all its replicas: nothing that was broken is left.
    pub fn settle(&mut self, client: &Client) {
        self.start_ended();
        wait::until_true("every block has its replicas again", || {
            client.fs_stats().is_ok_and(|stats| is_whole(&stats))
        });
    }

    /// Flips a byte of a block file of a datanode. `None` when it has no finalized one.
    pub fn flip_in_block(&mut self, number: usize, random: &mut Random) -> Option<Flipped> {
        let blocks = self.datanode(number).dir().join("data/blocks");
        let files: Vec<PathBuf> = WalkDir::new(blocks)
            .sort_by_file_name()
            .into_iter()
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_file())
            .map(walkdir::DirEntry::into_path)
            .collect();
        (!files.is_empty()).then(|| random.pick(&files)).and_then(|path| flip(path, random))
    }

    /// Flips a byte of the journal of a datanode that is down.
    pub fn flip_in_journal(&mut self, number: usize, random: &mut Random) -> Option<Flipped> {
        flip(&self.datanode(number).dir().join("data/journal"), random)
    }

    /// Flips a byte of the newest file of the second copy of the log whose name begins so. The namenode is down.
    pub fn flip_in_log(&mut self, prefix: &str, random: &mut Random) -> Option<Flipped> {
        let directory = self.namenode().dir().join("wal-2");
        let names =
            fs::read_dir(&directory).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let newest = names.filter(|name| name.starts_with(prefix)).max()?;
        flip(&directory.join(newest), random)
    }
}

/// Whether every block has its replicas, and every datanode is heard.
fn is_whole(stats: &FsStats) -> bool {
    stats.safe_mode.is_empty()
        && stats.datanodes_live as usize == DATANODES
        && stats.under_replicated_blocks == 0
        && stats.missing_blocks == 0
        && stats.corrupt_blocks == 0
}

/// Flips a bit of one of the bytes that are not zero: what was never written is in nobody's checksum.
fn flip(path: &Path, random: &mut Random) -> Option<Flipped> {
    let bytes = fs::read(path).ok()?;
    let written: Vec<usize> =
        bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect();
    let at = if written.is_empty() { return None } else { *random.pick(&written) };
    let value = bytes[at] ^ (1 << random.below(8));
    let file = File::options().write(true).open(path).ok()?;
    file.write_all_at(&[value], at as u64).ok()?;
    // The page cache is written through to the disk, and dropped, so that direct readers see it too.
    file.sync_all().ok()?;
    Some(Flipped { path: path.to_owned(), offset: at as u64, value })
}
