//! What all shards share: the store, the cluster's key, the namenode's clock, bounds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ringfs_proto::capability::{Capability, CapabilityBytes, CapabilityError, ClusterKey, Mode};
use ringfs_proto::hello::{HelloV1, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, Role};
use ringfs_proto::ids::{BlockId, ClusterId, DatanodeId, SessionId, Stamp};
use ringfs_proto::{Code, WireError};

use crate::commands::Commands;
use crate::config::Config;
use crate::machine::Machine;
use crate::metrics::ShardMetrics;
use crate::store::Store;
use crate::written::WrittenBlocks;

const UNKNOWN: i64 = i64::MIN;

/// A datanode, seen from its shards.
#[derive(Debug)]
pub struct Node {
    /// Its id.
    pub id: DatanodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Opens and proves.
    pub key: ClusterKey,
    /// Its replicas.
    pub store: Store,
    /// Its configuration.
    pub config: Config,
    /// What each shard counts.
    pub metrics: Vec<Arc<ShardMetrics>>,
    /// What the namenode wants done.
    pub commands: Commands,
    /// Which blocks are being written.
    pub written: Arc<WrittenBlocks>,
    /// Where its namenode was reached last.
    pub namenode: Mutex<Option<SocketAddr>>,
    /// When its process began.
    pub started: Instant,
    clock_offset_s: AtomicI64,
    connections: AtomicUsize,
    writers: AtomicUsize,
    joins: AtomicUsize,
    copying: AtomicUsize,
}

impl Node {
    /// A datanode that has not heard of its namenode yet.
    pub fn new(
        id: DatanodeId,
        cluster: ClusterId,
        key: ClusterKey,
        store: Store,
        config: Config,
        shards: usize,
    ) -> Self {
        Self {
            id,
            cluster,
            key,
            store,
            config,
            metrics: (0..shards).map(|_| Arc::default()).collect(),
            commands: Commands::new(shards),
            written: Arc::default(),
            namenode: Mutex::default(),
            started: Instant::now(),
            clock_offset_s: AtomicI64::new(UNKNOWN),
            connections: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
            joins: AtomicUsize::new(0),
            copying: AtomicUsize::new(0),
        }
    }

    /// The machine that it runs on.
    pub fn machine(&self) -> &dyn Machine {
        self.store.machine()
    }

    /// What this datanode says first on a connection that it opens, to its namenode or to another datanode.
    pub fn hello(&self) -> HelloV1 {
        HelloV1 {
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION_MAX,
            role: Role::Datanode,
            features: 0,
            session: SessionId(self.id.0),
            cluster: self.cluster,
            user: "datanode".to_owned(),
            auth_scheme: 0,
            credentials: Vec::new(),
        }
    }

    /// The namenode's clock says `clock_s`.
    pub fn set_clock(&self, clock_s: u64) {
        self.clock_offset_s.store(clock_s as i64 - self.machine().unix_s(), Ordering::Relaxed);
    }

    /// Checks that a capability opens `block` of at least `stamp` for `mode`.
    ///
    /// # Errors
    /// `CapabilityInvalid`, `CapabilityExpired`; `Busy` while the namenode's clock is not known.
    pub fn check(
        &self,
        bytes: &CapabilityBytes,
        mode: Mode,
        block: BlockId,
        stamp: Stamp,
    ) -> Result<Capability, WireError> {
        let offset = self.clock_offset_s.load(Ordering::Relaxed);
        if offset == UNKNOWN {
            return Err(WireError::new(Code::Busy, "this datanode has not reached its namenode yet"));
        }
        let now_s = u64::try_from(self.machine().unix_s() + offset).unwrap_or(0);
        let capability = self.key.verify(bytes, now_s).map_err(|error| {
            let code = if matches!(error, CapabilityError::Expired { .. }) {
                Code::CapabilityExpired
            } else {
                Code::CapabilityInvalid
            };
            WireError::new(code, error.to_string())
        })?;
        // A writer may always read what it writes.
        let is_allowed = capability.mode == mode || (capability.mode == Mode::Write && mode == Mode::Read);
        let is_stamp =
            if mode == Mode::Write { capability.stamp == stamp } else { stamp >= capability.stamp };
        if !is_allowed || capability.block != block || !is_stamp {
            let message = format!(
                "the capability is for {:?} of block {} stamp {}, not for {mode:?} of block {block} stamp {stamp}",
                capability.mode, capability.block, capability.stamp
            );
            return Err(WireError::new(Code::CapabilityInvalid, message));
        }
        Ok(capability)
    }

    /// Bytes that clients have read and written since the start.
    pub fn moved_bytes(&self) -> u64 {
        self.metrics.iter().map(|shard| shard.read_bytes.get().wrapping_add(shard.write_bytes.get())).sum()
    }

    /// Counts a connection; `None` when there are too many.
    pub fn take_connection(self: &Arc<Self>) -> Option<Permit> {
        Permit::take(self, |node| &node.connections, self.config.connections_max)
    }

    /// Counts a replica being written; `None` when there are too many.
    pub fn take_writer(self: &Arc<Self>) -> Option<Permit> {
        Permit::take(self, |node| &node.writers, self.writers_max())
    }

    /// Counts a copy that a writer waits for; `None` when there are too many.
    pub fn take_copy(self: &Arc<Self>) -> Option<Permit> {
        Permit::take(self, |node| &node.joins, self.config.copies_max)
    }

    /// Counts a copy that shares the rate of all copies; as many may run as the namenode asks for, see `copies_max`.
    pub fn share_copy_rate(self: &Arc<Self>) -> Option<Permit> {
        Permit::take(self, |node| &node.copying, usize::MAX)
    }

    /// How long a copy rests after so many bytes, so that all that run keep below their rate together.
    pub fn rest_of_copy(&self, bytes: u64) -> Duration {
        match self.config.copy_bytes_per_second {
            0 => Duration::ZERO,
            rate => {
                let copies = self.copying.load(Ordering::Relaxed).max(1) as u64;
                crate::scrub::rest(bytes.saturating_mul(copies), rate)
            }
        }
    }

    /// Most replicas being written at once: as configured, and as memory allows.
    pub fn writers_max(&self) -> usize {
        let by_memory = self.config.packet_memory_bytes / crate::serve::WRITER_BYTES;
        self.config.writers_max.min(usize::try_from(by_memory).unwrap_or(usize::MAX)).max(1)
    }
}

/// Counts as one until it is dropped.
#[derive(Debug)]
pub struct Permit {
    node: Arc<Node>,
    count: fn(&Node) -> &AtomicUsize,
}

impl Permit {
    fn take(node: &Arc<Node>, count: fn(&Node) -> &AtomicUsize, max: usize) -> Option<Self> {
        if count(node).fetch_add(1, Ordering::Relaxed) >= max {
            count(node).fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self { node: node.clone(), count })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        (self.count)(&self.node).fetch_sub(1, Ordering::Relaxed);
    }
}
