//! What happened between two looks at a cluster.

use std::collections::{BTreeMap, HashMap};

use ringfs_proto::ops::Op;
use ringfs_sdk::DatanodeState;
use serde::Serialize;

use super::sample::{NodeSample, Sample};

/// A datanode that moves less than this share of what others do per transfer is slow.
const SLOW_SHARE: f64 = 0.25;
/// Datanodes with transfers that are needed to tell which are slow.
const COMPARED_MIN: usize = 3;

/// Rates and totals.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// The cluster.
    pub cluster: String,
    /// How long the namenode runs, s.
    pub uptime_s: u64,
    /// Over how long the rates are, s.
    pub interval_s: f64,
    /// Why changes are refused; empty when they are not.
    pub safe_mode: String,
    /// Bytes of all volumes.
    pub capacity_bytes: u64,
    /// Bytes in replicas.
    pub used_bytes: u64,
    /// Files.
    pub files: u64,
    /// Files open for writing.
    pub open_files: u64,
    /// Blocks.
    pub blocks: u64,
    /// Blocks with too few replicas.
    pub under_replicated_blocks: u64,
    /// Blocks without a good replica.
    pub missing_blocks: u64,
    /// Blocks with a corrupt replica.
    pub corrupt_blocks: u64,
    /// Blocks that are being copied.
    pub copied_blocks: u64,
    /// Bytes/s that datanodes sent to readers.
    pub read_bytes_per_s: f64,
    /// Bytes/s that datanodes received, every replica counted.
    pub write_bytes_per_s: f64,
    /// Bytes/s of copies between datanodes.
    pub copy_bytes_per_s: f64,
    /// Calls/s of all operations.
    pub calls_per_s: f64,
    /// By operation, the most frequent first; those that were not called are left out.
    pub operations: Vec<OperationRate>,
    /// By user, whoever asked most first; those who asked nothing are left out.
    pub users: Vec<UserRate>,
    /// The datanodes, those in trouble first; `None` when the user may not ask for them.
    pub datanodes: Option<Vec<NodeRate>>,
}

/// Calls of an operation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OperationRate {
    /// Its name.
    pub operation: String,
    /// Calls/s.
    pub calls_per_s: f64,
    /// Errors/s.
    pub errors_per_s: f64,
}

/// Calls of a user.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UserRate {
    /// His name; empty: all others.
    pub user: String,
    /// Calls/s.
    pub calls_per_s: f64,
    /// Refused calls/s.
    pub refused_per_s: f64,
    /// How long a call waited for the namenode, µs, on average.
    pub waited_us: f64,
    /// Connections now.
    pub connections: u32,
}

/// A datanode.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeRate {
    /// Where clients reach it.
    pub address: String,
    /// Where it is.
    pub rack: String,
    /// `live`, `silent` or `lost`.
    pub state: &'static str,
    /// Bytes/s sent to readers.
    pub read_bytes_per_s: f64,
    /// Bytes/s received.
    pub write_bytes_per_s: f64,
    /// Bytes/s of copies to other datanodes.
    pub copy_bytes_per_s: f64,
    /// Reads, writes and copies in progress.
    pub active: u64,
    /// Connections that were cut off because a peer moved nothing, in the interval.
    pub stalled: u64,
    /// Reads that failed, in the interval.
    pub read_errors: u64,
    /// Share of its room that is used.
    pub used_share: f64,
    /// Why it is in trouble; empty when it is not.
    pub trouble: String,
}

impl NodeRate {
    fn moved(&self) -> f64 {
        self.read_bytes_per_s + self.write_bytes_per_s + self.copy_bytes_per_s
    }
}

impl View {
    /// What happened between two samples.
    pub fn between(before: &Sample, after: &Sample) -> Self {
        let seconds = after.at.saturating_sub(before.at).as_secs_f64().max(0.001);
        let operations = operations(before, after, seconds);
        let datanodes = after.nodes.as_ref().map(|nodes| node_rates(before, nodes, seconds));
        let sum = |rate: fn(&NodeRate) -> f64| datanodes.iter().flatten().map(rate).sum();
        let stats = &after.stats;
        Self {
            cluster: stats.cluster.to_string(),
            uptime_s: after.activity.uptime_ms / 1000,
            interval_s: seconds,
            safe_mode: stats.safe_mode.clone(),
            capacity_bytes: stats.capacity_bytes,
            used_bytes: stats.used_bytes,
            files: stats.files,
            open_files: stats.open_files,
            blocks: stats.blocks,
            under_replicated_blocks: stats.under_replicated_blocks,
            missing_blocks: stats.missing_blocks,
            corrupt_blocks: stats.corrupt_blocks,
            copied_blocks: stats.pending_replication_blocks,
            read_bytes_per_s: sum(|node| node.read_bytes_per_s),
            write_bytes_per_s: sum(|node| node.write_bytes_per_s),
            copy_bytes_per_s: sum(|node| node.copy_bytes_per_s),
            calls_per_s: operations.iter().map(|one| one.calls_per_s).sum(),
            operations,
            users: users(before, after, seconds),
            datanodes,
        }
    }
}

/// What was added to a counter; all of it when the server has begun anew.
fn added(before: u64, after: u64) -> u64 {
    after.checked_sub(before).unwrap_or(after)
}

fn operations(before: &Sample, after: &Sample, seconds: f64) -> Vec<OperationRate> {
    let earlier: HashMap<u16, (u64, u64)> =
        before.activity.operations.iter().map(|one| (one.op, (one.calls, one.errors))).collect();
    let rate = |one: &ringfs_proto::meta::inspect::OperationActivityV1| {
        let (calls, errors) = earlier.get(&one.op).copied().unwrap_or_default();
        let name =
            Op::from_u16(one.op).map_or_else(|| format!("operation {}", one.op), |op| op.name().to_owned());
        OperationRate {
            operation: name,
            calls_per_s: added(calls, one.calls) as f64 / seconds,
            errors_per_s: added(errors, one.errors) as f64 / seconds,
        }
    };
    let mut all: Vec<OperationRate> = after.activity.operations.iter().map(rate).collect();
    all.retain(|one| one.calls_per_s > 0.0);
    all.sort_by(|one, other| other.calls_per_s.total_cmp(&one.calls_per_s));
    all
}

fn users(before: &Sample, after: &Sample, seconds: f64) -> Vec<UserRate> {
    let earlier: HashMap<&str, _> =
        before.activity.users.iter().map(|one| (one.user.as_str(), one)).collect();
    let rate = |one: &ringfs_proto::meta::inspect::UserActivityV1| {
        let was = earlier.get(one.user.as_str());
        let calls = added(was.map_or(0, |was| was.calls), one.calls);
        let waited = added(was.map_or(0, |was| was.waited_us), one.waited_us);
        UserRate {
            user: one.user.clone(),
            calls_per_s: calls as f64 / seconds,
            refused_per_s: added(was.map_or(0, |was| was.refused), one.refused) as f64 / seconds,
            waited_us: if calls == 0 { 0.0 } else { waited as f64 / calls as f64 },
            connections: one.connections,
        }
    };
    let mut all: Vec<UserRate> = after.activity.users.iter().map(rate).collect();
    all.retain(|one| one.calls_per_s + one.refused_per_s > 0.0);
    let asked = |one: &UserRate| one.calls_per_s + one.refused_per_s;
    all.sort_by(|one, other| asked(other).total_cmp(&asked(one)));
    all
}

fn node_rates(before: &Sample, nodes: &[NodeSample], seconds: f64) -> Vec<NodeRate> {
    let earlier: HashMap<_, _> =
        before.nodes.iter().flatten().map(|node| (node.info.datanode, node.metrics.as_ref())).collect();
    let mut all: Vec<NodeRate> = nodes
        .iter()
        .map(|node| node_rate(node, earlier.get(&node.info.datanode).copied().flatten(), seconds))
        .collect();
    mark_slow(&mut all);
    all.sort_by(|one, other| {
        let by_trouble = one.trouble.is_empty().cmp(&other.trouble.is_empty());
        by_trouble.then(other.moved().total_cmp(&one.moved())).then_with(|| one.address.cmp(&other.address))
    });
    all
}

fn node_rate(node: &NodeSample, before: Option<&BTreeMap<String, f64>>, seconds: f64) -> NodeRate {
    let value = |metrics: Option<&BTreeMap<String, f64>>, name: &str| {
        metrics.and_then(|metrics| metrics.get(&format!("ringfs_datanode_{name}")).copied()).unwrap_or(0.0)
    };
    let now = node.metrics.as_ref();
    // Of a datanode that was not seen before nothing is known about the interval.
    let more = |name: &str| match before {
        Some(_) => added(value(before, name) as u64, value(now, name) as u64) as f64,
        None => 0.0,
    };
    let sum = |of: fn(&ringfs_sdk::VolumeStatus) -> u64| node.info.volumes.iter().map(of).sum::<u64>();
    let (capacity, used) = (sum(|volume| volume.capacity_bytes), sum(|volume| volume.used_bytes));
    let mut rate = NodeRate {
        address: format!("{}:{}", node.info.host, node.info.port),
        rack: node.info.rack.clone(),
        state: match node.info.state {
            DatanodeState::Live => "live",
            DatanodeState::Stale => "silent",
            DatanodeState::Dead => "lost",
        },
        read_bytes_per_s: more("read_bytes_total") / seconds,
        write_bytes_per_s: more("write_bytes_total") / seconds,
        copy_bytes_per_s: more("copy_bytes_total") / seconds,
        active: ["reads_active", "writes_active", "copies_active"]
            .map(|name| value(now, name) as u64)
            .iter()
            .sum(),
        stalled: more("stalled_total") as u64,
        read_errors: more("read_errors_total") as u64,
        used_share: if capacity == 0 { 0.0 } else { used as f64 / capacity as f64 },
        trouble: String::new(),
    };
    rate.trouble = trouble(node, &rate);
    rate
}

fn trouble(node: &NodeSample, rate: &NodeRate) -> String {
    let failed = node.info.volumes.iter().filter(|volume| volume.is_failed).count();
    if node.info.state != DatanodeState::Live {
        format!("silent for {:.0} s", node.info.last_heartbeat_ms as f64 / 1000.0)
    } else if node.metrics.is_none() {
        "no metrics".to_owned()
    } else if failed > 0 {
        format!("{failed} failed volumes")
    } else if rate.stalled > 0 {
        format!("{} stalled", rate.stalled)
    } else {
        String::new()
    }
}

/// A datanode that moves much less per transfer than the one in the middle is slow.
fn mark_slow(all: &mut [NodeRate]) {
    let per_transfer = |node: &NodeRate| node.moved() / node.active as f64;
    let mut compared: Vec<f64> = all.iter().filter(|node| node.active > 0).map(per_transfer).collect();
    if compared.len() < COMPARED_MIN {
        return;
    }
    compared.sort_by(f64::total_cmp);
    let median = compared[compared.len() / 2];
    for node in all.iter_mut().filter(|node| node.active > 0 && node.trouble.is_empty()) {
        if per_transfer(node) < median * SLOW_SHARE {
            node.trouble = "slow".to_owned();
        }
    }
}
