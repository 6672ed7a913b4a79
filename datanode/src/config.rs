//! Configuration of a datanode: one TOML file, every key documented here.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::store::VolumeSettings;

/// Keys of `ringfs datanode --config FILE`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// File made by `ringfs admin join-file` on the namenode's host: cluster, key, address of the namenode.
    pub join_file: PathBuf,
    /// `host:port` of the namenode, when it is not the one in the join file.
    pub namenode: Option<String>,
    /// Directory for the datanode's id; the first volume when empty.
    pub state_dir: Option<PathBuf>,
    /// Directories that hold replicas, one per disk. Made and formatted when empty.
    pub volumes: Vec<VolumeConfig>,
    /// Address to listen on.
    pub bind: IpAddr,
    /// Data port; 0 takes a free one.
    pub port: u16,
    /// HTTP port; 0 takes a free one.
    pub http_port: u16,
    /// Numeric address that clients are told; the one the namenode sees when not given.
    pub advertise: Option<IpAddr>,
    /// Engine: `auto` probes for io_uring and takes `glommio` where it works.
    pub engine: EngineChoice,
    /// Threads that serve; 0 means one per CPU.
    pub shards: usize,
    /// Whether each shard is pinned to a CPU of its own.
    pub pin_shards: bool,
    /// Threads for file I/O of the `threads` engine, over all shards.
    pub io_threads: usize,
    /// Bytes kept free on each volume that does not say otherwise: below that, new blocks are refused.
    pub reserved_bytes: u64,
    /// A volume's journal is compacted when this many records, and as many as were in it, have come to it; 0: only at starts.
    pub journal_compact_records: u64,
    /// Volumes that may have failed before the datanode ends; all but one when not given.
    pub volumes_failed_max: Option<usize>,
    /// Every finalized replica is read and compared with its checksums once in this time, seconds; 0: never.
    pub scrub_period_s: u64,
    /// Most bytes per second that the scrubber reads from each volume; 0: none.
    pub scrub_bytes_per_second: u64,
    /// How replicas are written when the writer gives no hint.
    pub write_mode: WriteMode,
    /// Most connections.
    pub connections_max: usize,
    /// Most replicas being written at once.
    pub writers_max: usize,
    /// Most replicas being copied to other datanodes at once.
    pub copies_max: usize,
    /// Most bytes per second that copies to other datanodes take together, but for those that a writer waits for; 0: no limit.
    pub copy_bytes_per_second: u64,
    /// Bytes of packets held in memory, over all pipelines.
    pub packet_memory_bytes: u64,
    /// A peer that moves no byte of an operation for this time is cut off, ms.
    pub peer_stall_ms: u64,
}

/// A directory that holds replicas: its path, or a table with the path and what is particular to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum VolumeConfig {
    /// Just the path.
    Path(PathBuf),
    /// With keys of its own.
    Table(VolumeTable),
}

/// The keys of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumeTable {
    /// The directory.
    pub path: PathBuf,
    /// Bytes kept free on it, in place of [`Config::reserved_bytes`]. HDFS: `dfs.datanode.du.reserved.<dir>`
    /// (`ReservedSpaceCalculator`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved_bytes: Option<u64>,
}

impl VolumeConfig {
    /// The directory.
    pub fn path(&self) -> &Path {
        match self {
            Self::Path(path) | Self::Table(VolumeTable { path, .. }) => path,
        }
    }

    fn reserved_bytes(&self) -> Option<u64> {
        match self {
            Self::Path(_) => None,
            Self::Table(table) => table.reserved_bytes,
        }
    }
}

impl From<PathBuf> for VolumeConfig {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl Config {
    /// How each volume is used.
    pub fn volume_settings(&self) -> Vec<VolumeSettings> {
        let settings = |volume: &VolumeConfig| VolumeSettings {
            path: volume.path().to_owned(),
            reserved_bytes: volume.reserved_bytes().unwrap_or(self.reserved_bytes),
            journal_compact_records: self.journal_compact_records,
        };
        self.volumes.iter().map(settings).collect()
    }
}

/// Which engine serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// `glommio` if the kernel and the container allow it, else `threads`.
    Auto,
    /// io_uring; refuse to start without it.
    Glommio,
    /// epoll and a pool of I/O threads.
    Threads,
}

/// How replicas are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WriteMode {
    /// Around the page cache; small and `reuse` files through it.
    Direct,
    /// Through the page cache.
    Buffered,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            join_file: PathBuf::new(),
            namenode: None,
            state_dir: None,
            volumes: Vec::new(),
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 9866,
            http_port: 9864,
            advertise: None,
            engine: EngineChoice::Auto,
            shards: 0,
            pin_shards: false,
            io_threads: 8,
            reserved_bytes: 1 << 30,
            journal_compact_records: 1 << 18,
            volumes_failed_max: None,
            // HDFS: dfs.datanode.scan.period.hours = 504.
            scrub_period_s: 21 * 24 * 3600,
            scrub_bytes_per_second: 8 << 20,
            write_mode: WriteMode::Direct,
            connections_max: 16_384,
            writers_max: 512,
            copies_max: 8,
            // HDFS: dfs.datanode.balance.bandwidthPerSec = 100m.
            copy_bytes_per_second: 100 << 20,
            packet_memory_bytes: 512 << 20,
            peer_stall_ms: 60_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_may_have_a_reservation_of_its_own() {
        let text = "reserved_bytes = 7\njournal_compact_records = 5\n\
            volumes = [\"/one\", { path = \"/two\", reserved_bytes = 0 }, { path = \"/three\" }]\n";
        let config: Config = toml::from_str(text).expect("a configuration");
        let settings = config.volume_settings();
        let reserved = settings.iter().map(|volume| (volume.path.to_str(), volume.reserved_bytes));
        assert!(reserved.eq([(Some("/one"), 7), (Some("/two"), 0), (Some("/three"), 7)]));
        assert!(settings.iter().all(|volume| volume.journal_compact_records == 5));
        let again: Config = toml::from_str(&toml::to_string(&config).expect("text")).expect("the same");
        assert_eq!(again.volume_settings(), settings);
    }

    #[test]
    fn an_unknown_key_of_a_volume_is_refused() {
        let text = "volumes = [{ path = \"/one\", reserve_bytes = 0 }]";
        toml::from_str::<Config>(text).expect_err("a key that nobody knows");
    }
}
