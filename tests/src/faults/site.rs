//! The cluster that faults are injected into, and the hands that break and mend it.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::signal::Signal;
use ringfs_datanode::format::block::{HEAD_BYTES, Header, TailSlot};
use ringfs_proto::checksum::CHECKSUM_BYTES;
use ringfs_sdk::FsStats;
use tempfile::TempDir;
use walkdir::WalkDir;

use super::plan::Target;
use crate::cluster::{Cluster, Options, Server};
use crate::hosts::Hosts;
use crate::random::Random;
use crate::shim;

/// Datanodes of a site: one more than a file has replicas.
pub const DATANODES: usize = 4;
/// Datanodes before this one use io_uring where the kernel allows it and have one volume; the others use plain system
/// calls, which can be made to fail, and have two.
pub const FIRST_WITH_THREADS: usize = 2;
/// Bytes of a datanode's disk.
const DISK_BYTES: u64 = 512 << 20;
const NAMENODE_HOST: usize = 0;
/// Block files that are looked at to find one that can be damaged.
const FILES_TRIED_MAX: usize = 32;

/// Times are scaled down: what takes half a minute in a cluster takes two seconds here.
const NAMENODE_TOML: &str = "\
wal_dirs = [\"NAMENODE_DIR/wal\", \"NAMENODE_DIR/wal-2\"]
io_uring = \"auto\"
checkpoint_records = 300
heartbeat_interval_ms = 200
datanode_stale_ms = 800
datanode_dead_ms = 2000
replication_timeout_ms = 4000
mass_failure_wait_ms = 1000
block_recovery_timeout_ms = 2000
lease_soft_ms = 1000
lease_hard_ms = 12000
invalidation_delay_ms = 500
";
const DATANODE_TOML: &str = "\
shards = 2
reserved_bytes = 4194304
peer_stall_ms = 3000
scrub_period_s = 2
journal_compact_records = 50
scrub_bytes_per_second = 67108864
";
const WITH_THREADS_TOML: &str = "\
engine = \"threads\"
volumes = [\"DATANODE_DIR/data\", \"DATANODE_DIR/data-2\"]
";

/// A cluster on hosts and disks of its own.
pub struct Site {
    /// Its servers.
    pub cluster: Cluster,
    /// What ended though nobody killed it, and what it logged last.
    pub ended: Vec<String>,
    hosts: Arc<Hosts>,
    shim: shim::Faults,
    _shim_dir: TempDir,
}

/// A bit that was flipped.
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
    pub fn new() -> Result<Self, String> {
        let shim_dir = tempfile::tempdir().map_err(|error| format!("make a directory: {error}"))?;
        crate::disks::Disk::new(&shim_dir.path().join("probe"), 16 << 20)?;
        let hosts = Arc::new(Hosts::new(1 + DATANODES)?);
        let shim = shim::Faults::new(shim_dir.path());
        let single = |number| if number < FIRST_WITH_THREADS { "" } else { WITH_THREADS_TOML };
        let options = Options {
            datanodes: DATANODES,
            namenode_toml: NAMENODE_TOML.to_owned(),
            datanode_toml: DATANODE_TOML.to_owned(),
            single_datanode_toml: (0..DATANODES).map(|number| single(number).to_owned()).collect(),
            hosts: Some(hosts.clone()),
            disk_bytes: Some(DISK_BYTES),
            environment: shim.environment(),
            ..Options::default()
        };
        let cluster = Cluster::start(&options);
        Ok(Self { cluster, ended: Vec::new(), hosts, shim, _shim_dir: shim_dir })
    }

    /// The namenode.
    pub fn namenode(&mut self) -> &mut Server {
        &mut self.cluster.namenode
    }

    /// A datanode.
    pub fn datanode(&mut self, number: usize) -> &mut Server {
        &mut self.cluster.datanodes[number]
    }

    /// All servers, the namenode first.
    pub fn servers(&self) -> impl Iterator<Item = &Server> {
        std::iter::once(&self.cluster.namenode).chain(&self.cluster.datanodes)
    }

    /// The address of a datanode, as text.
    pub fn datanode_host(&self, number: usize) -> String {
        self.hosts.address(NAMENODE_HOST + 1 + number).to_string()
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

    /// Takes all room of a datanode's disk, or gives it back.
    ///
    /// # Panics
    /// If the operating system refuses.
    pub fn fill(&mut self, number: usize, is_full: bool) {
        let disk = self.datanode(number).disk.as_ref().expect("every datanode has a disk");
        let done = if is_full { disk.fill() } else { disk.free() };
        done.expect("the disk is ours");
    }

    /// Makes file I/O of a datanode fail, in a way that chance decides. What comes of it is seen in [`Self::hits`].
    pub fn fail_datanode(&mut self, number: usize, random: &mut Random) {
        let dir = self.datanode(number).dir().join("data").to_string_lossy().into_owned();
        let rule = match random.below(4) {
            // What goes through io_uring never fails here; what is left (journal, directories) does.
            _ if number < FIRST_WITH_THREADS => format!("* EIO {dir}"),
            0 => format!("read EIO {dir}/blocks"),
            1 => format!("write EIO {dir}/"),
            2 => format!("fsync EIO {dir}/"),
            // Both volumes: no volume is left, and the datanode ends.
            _ => format!("* EIO {dir}"),
        };
        self.shim.set(&rule);
    }

    /// Starts the namenode with a log that does not use io_uring, one of whose two directories takes no writes any more.
    pub fn fail_log(&mut self, random: &mut Random) {
        self.namenode().kill_9();
        self.namenode().configure("io_uring", "\"off\"");
        self.namenode().start();
        let directory = self.log_dir(random).to_string_lossy().into_owned();
        let operation = *random.pick(&["write", "*"]);
        self.shim.set(&format!("{operation} EIO {directory}/"));
    }

    /// No file I/O fails any more; the namenode uses io_uring again from its next start on.
    pub fn fail_nothing(&mut self) {
        self.shim.set("");
        self.namenode().configure("io_uring", "\"auto\"");
    }

    /// Operations that were made to fail so far.
    pub fn hits(&self) -> usize {
        self.shim.hits().len()
    }

    /// Starts every server that does not run, but for those that are broken on purpose. One that nobody killed is noted,
    /// unless its disk was failing.
    pub fn start_ended(&mut self, broken: &[Target], is_failing: Option<Target>) {
        let Cluster { namenode, datanodes, .. } = &mut self.cluster;
        let datanodes =
            datanodes.iter_mut().enumerate().map(|(number, server)| (Target::Datanode(number), server));
        for (target, server) in std::iter::once((Target::Namenode, namenode)).chain(datanodes) {
            if broken.iter().any(|broken| !broken.is_apart_from(target)) {
                continue;
            }
            let ended = server.process.as_mut().map(|process| process.ended());
            match ended {
                Some(None) => continue,
                Some(Some(status)) if is_failing != Some(target) => {
                    let log = server.log();
                    let last = log.lines().rfind(|line| !line.contains(" audit: ")).unwrap_or_default();
                    self.ended.push(format!("{target:?}, {status}: {last}"));
                }
                _ => {}
            }
            server.start();
        }
    }

    /// Flips a bit of the data or of a checksum of a finalized replica of a datanode. `None` when it has none.
    pub fn flip_in_block(&mut self, number: usize, random: &mut Random) -> Option<Flipped> {
        let mut files: Vec<PathBuf> = WalkDir::new(self.datanode(number).dir())
            .sort_by_file_name()
            .into_iter()
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_file())
            .map(walkdir::DirEntry::into_path)
            .filter(|path| path.components().any(|part| part.as_os_str() == "blocks"))
            .collect();
        for _ in 0..FILES_TRIED_MAX.min(files.len()) {
            let path = files.swap_remove(random.below(files.len() as u64) as usize);
            if let Some(flipped) = verified_byte(&path, random).and_then(|at| flip(&path, at, random)) {
                return Some(flipped);
            }
        }
        None
    }

    /// Flips a bit of the journal of a datanode that is down.
    pub fn flip_in_journal(&mut self, number: usize, random: &mut Random) -> Option<Flipped> {
        flip_anywhere(&self.datanode(number).dir().join("data/journal"), random)
    }

    /// Flips a bit of the newest file of one of the copies of the log whose name begins so. The namenode is down.
    pub fn flip_in_log(&mut self, prefix: &str, random: &mut Random) -> Option<Flipped> {
        let directory = self.log_dir(random);
        let names =
            fs::read_dir(&directory).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let newest = names.filter(|name| name.starts_with(prefix)).max()?;
        flip_anywhere(&directory.join(newest), random)
    }

    fn log_dir(&mut self, random: &mut Random) -> PathBuf {
        let name = *random.pick(&["wal", "wal-2"]);
        self.namenode().dir().join(name)
    }
}

/// Whether every block has its replicas, every datanode is heard, and the log is whole.
pub fn is_whole(stats: &FsStats) -> bool {
    stats.safe_mode.is_empty()
        && stats.datanodes_live as usize == DATANODES
        && stats.under_replicated_blocks == 0
        && stats.missing_blocks == 0
        && stats.corrupt_blocks == 0
        && stats.wal_dirs_failed == 0
}

/// The place of a byte that a checksum covers, or that is one, in a finalized replica. (What follows the data is nobody's.)
fn verified_byte(path: &Path, random: &mut Random) -> Option<u64> {
    let mut head = vec![0; HEAD_BYTES];
    File::open(path).ok()?.read_exact_at(&mut head, 0).ok()?;
    let header = Header::decode(&head).ok()?;
    let tail = TailSlot::newest(&head, header.block, header.storage)?;
    if !tail.is_finalized || tail.length == 0 {
        return None;
    }
    let layout = header.layout;
    let chunks = tail.length / u64::from(layout.chunk_bytes);
    if chunks > 0 && random.chance(250) {
        return Some(layout.checksum_offset(0) + random.below(chunks * CHECKSUM_BYTES as u64));
    }
    Some(layout.data_offset() + random.below(tail.length))
}

/// Flips a bit of one of the bytes that are not zero: what was never written is in nobody's checksum.
fn flip_anywhere(path: &Path, random: &mut Random) -> Option<Flipped> {
    let bytes = fs::read(path).ok()?;
    let written: Vec<usize> =
        bytes.iter().enumerate().filter(|(_, byte)| **byte != 0).map(|(at, _)| at).collect();
    let at = if written.is_empty() { return None } else { *random.pick(&written) };
    flip(path, at as u64, random)
}

fn flip(path: &Path, offset: u64, random: &mut Random) -> Option<Flipped> {
    let file = File::options().read(true).write(true).open(path).ok()?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).ok()?;
    let value = byte[0] ^ (1 << random.below(8));
    file.write_all_at(&[value], offset).ok()?;
    // Written through to the disk, so that readers around the page cache see it too.
    file.sync_all().ok()?;
    Some(Flipped { path: path.to_owned(), offset, value })
}
