//! Configuration of a namenode: one TOML file, every key documented here.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Keys of `ringfs namenode --config FILE`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directories of the namenode, mirrors of each other. Made by `ringfs namenode --format`; an empty one that is added
    /// later is filled at the next start.
    pub wal_dirs: Vec<PathBuf>,
    /// Small files, which are kept in the log.
    pub small_files: SmallFiles,
    /// Address to listen on. Beyond loopback, users are taken at their word.
    pub bind: IpAddr,
    /// RPC port; 0 takes a free one.
    pub port: u16,
    /// HTTP port; 0 takes a free one.
    pub http_port: u16,
    /// Replicas of a file whose creator does not say.
    pub replication: u16,
    /// Bytes per block of a file whose creator does not say.
    pub block_size: u64,
    /// Replicas that must be reported before a file is closed or a block follows.
    pub replication_min: u16,
    /// Who may do what.
    pub permissions: Permissions,
    /// Which groups users belong to.
    pub groups: Groups,
    /// A reader's opening of a file is noted as its access time when the one before is older than this, ms; 0: never.
    pub access_time_precision_ms: u64,
    /// Between two heartbeats of a datanode, ms.
    pub heartbeat_interval_ms: u32,
    /// Silence after which a datanode is avoided, ms.
    pub datanode_stale_ms: u64,
    /// Silence after which a datanode is taken as lost, ms.
    pub datanode_dead_ms: u64,
    /// How long copying waits when many datanodes vanish at once, ms.
    pub mass_failure_wait_ms: u64,
    /// Which host is on which rack: lines of `host /rack`, read again when they change. Hosts are numeric addresses.
    pub topology_file: Option<PathBuf>,
    /// A program that prints a rack for each host that it is given, asked once per host.
    pub topology_script: Option<PathBuf>,
    /// Large blocks that a datanode copies, and that it receives, at once.
    pub replication_streams_per_node: u32,
    /// Blocks whose copying is begun ten times a second, at most.
    pub replication_work_per_tick: usize,
    /// How long a copy may take beside the time for its bytes, ms.
    pub replication_timeout_ms: u64,
    /// How long after its writer's last connection is gone others may take over a file, ms.
    pub lease_soft_ms: u64,
    /// How long after its writer's last connection is gone a file is recovered and closed, ms.
    pub lease_hard_ms: u64,
    /// How long a block recovery waits for datanodes that do not answer, ms; doubled when it has to begin again.
    pub block_recovery_timeout_ms: u64,
    /// How long what was moved to the trash is kept, minutes; 0: there is no trash (HDFS: `fs.trash.interval`).
    pub trash_interval_minutes: u32,
    /// Between two checkpoints of the trash, minutes; 0, or more than the former: as often (HDFS:
    /// `fs.trash.checkpoint.interval`).
    pub trash_checkpoint_interval_minutes: u32,
    /// Most connections.
    pub connections_max: usize,
    /// Most calls that wait for the namespace thread.
    pub calls_queued_max: usize,
    /// Most calls of one user that wait for it; more are told to come back.
    pub calls_queued_per_user_max: usize,
    /// Most replicas that are deleted per second and datanode.
    pub invalidations_per_second: u32,
    /// After a start, no replica is deleted for this time, ms.
    pub invalidation_delay_ms: u64,
    /// Share of blocks that must be reported before changes are allowed, in thousandths.
    pub safe_mode_threshold_permille: u32,
    /// Bytes of one segment of the log.
    pub wal_segment_bytes: u64,
    /// Whether the log uses io_uring: `auto`, `on` or `off` (plain pwrite).
    pub io_uring: IoUring,
    /// Most inodes that one turn of the namespace thread copies for a checkpoint.
    pub checkpoint_inodes_per_turn: usize,
    /// Records after which a checkpoint is taken.
    pub checkpoint_records: u64,
    /// Bytes of the log after which a checkpoint is taken.
    pub checkpoint_log_bytes: u64,
    /// Time after which a checkpoint is taken, if anything has changed, ms.
    pub checkpoint_interval_ms: u64,
}

/// Whether io_uring is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoUring {
    /// If the kernel and the container allow it.
    Auto,
    /// Refuse to start without it.
    On,
    /// Never.
    Off,
}

/// Small files, whose bytes are kept in the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmallFiles {
    /// Bytes of the largest file that is kept there, at most 512 KiB; 0: none is.
    pub inline_bytes_max: u32,
    /// Bytes of all of them together; beyond that small files go to datanodes, too.
    pub total_bytes_max: u64,
}

impl Default for SmallFiles {
    fn default() -> Self {
        Self { inline_bytes_max: 64 << 10, total_bytes_max: 16 << 30 }
    }
}

/// Who may do what.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Permissions {
    /// Whether permissions are looked at; if not, everybody may everything.
    pub enabled: bool,
    /// Members of this group, the user that formatted the namenode, and the one that started it, are superusers.
    pub superuser_group: String,
}

impl Default for Permissions {
    fn default() -> Self {
        Self { enabled: true, superuser_group: "supergroup".to_owned() }
    }
}

/// Which groups users belong to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Groups {
    /// Who is asked: `host`, `file` or `static`.
    pub mapping: GroupMapping,
    /// With `file`: lines of `user = group, group`.
    pub file: Option<PathBuf>,
    /// With `static`: the groups of each user.
    pub members: BTreeMap<String, Vec<String>>,
    /// How long an answer is believed before the groups are asked for again, ms.
    pub cache_ms: u64,
}

impl Default for Groups {
    fn default() -> Self {
        Self { mapping: GroupMapping::Host, file: None, members: BTreeMap::new(), cache_ms: 300_000 }
    }
}

/// Who knows the groups of users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupMapping {
    /// The namenode's host.
    Host,
    /// A file.
    File,
    /// The configuration.
    Static,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            wal_dirs: Vec::new(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8020,
            http_port: 9870,
            replication: ringfs_proto::limits::REPLICATION_DEFAULT,
            block_size: ringfs_proto::limits::BLOCK_BYTES_DEFAULT,
            replication_min: 1,
            small_files: SmallFiles::default(),
            permissions: Permissions::default(),
            groups: Groups::default(),
            access_time_precision_ms: 3_600_000,
            heartbeat_interval_ms: 1000,
            datanode_stale_ms: 3000,
            datanode_dead_ms: 30_000,
            mass_failure_wait_ms: 600_000,
            topology_file: None,
            topology_script: None,
            replication_streams_per_node: 2,
            replication_work_per_tick: 100,
            replication_timeout_ms: 60_000,
            lease_soft_ms: 60_000,
            lease_hard_ms: 20 * 60_000,
            block_recovery_timeout_ms: 10_000,
            trash_interval_minutes: 0,
            trash_checkpoint_interval_minutes: 0,
            connections_max: 16_384,
            calls_queued_max: 65_536,
            calls_queued_per_user_max: 8192,
            invalidations_per_second: 1000,
            invalidation_delay_ms: 5000,
            safe_mode_threshold_permille: 999,
            wal_segment_bytes: 64 << 20,
            io_uring: IoUring::Auto,
            checkpoint_inodes_per_turn: 8192,
            checkpoint_records: 1_000_000,
            checkpoint_log_bytes: 256 << 20,
            checkpoint_interval_ms: 3_600_000,
        }
    }
}
