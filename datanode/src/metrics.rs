//! What a datanode counts: per shard, each value with one writer, summed when read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringfs_proto::metrics::Metric;

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Value(AtomicU64);

impl Value {
    /// Adds to it.
    pub fn add(&self, value: u64) {
        self.0.store(self.get().wrapping_add(value), Ordering::Relaxed);
    }

    /// Takes from it.
    pub fn sub(&self, value: u64) {
        self.0.store(self.get().wrapping_sub(value), Ordering::Relaxed);
    }

    /// Raises it to at least `value`.
    pub fn raise(&self, value: u64) {
        if value > self.get() {
            self.0.store(value, Ordering::Relaxed);
        }
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one shard counts.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "described where they are shown")]
pub struct ShardMetrics {
    pub read_bytes: Value,
    pub read_ranges: Value,
    pub read_errors: Value,
    pub reads_active: Value,
    pub reads_active_max: Value,
    pub sendfile_bytes: Value,
    pub write_bytes: Value,
    pub write_packets: Value,
    pub write_groups: Value,
    pub write_acks: Value,
    pub writes_active: Value,
    pub refused_capabilities: Value,
    pub malformed: Value,
    pub connections: Value,
    pub connections_total: Value,
    pub stalled: Value,
    pub copies_active: Value,
    pub copies: Value,
    pub copy_bytes: Value,
    pub fenced: Value,
    pub scrubbed_bytes: Value,
    pub scrubbed_replicas: Value,
    pub scrub_errors: Value,
    pub journal_compactions: Value,
}

type Row = (&'static str, &'static str, bool, fn(&ShardMetrics) -> &Value);

const ROWS: &[Row] = &[
    ("ringfs_datanode_scrubbed_bytes_total", "Bytes that were compared with their checksums.", true, |m| {
        &m.scrubbed_bytes
    }),
    ("ringfs_datanode_scrubbed_replicas_total", "Replicas that the scrubber found good.", true, |m| {
        &m.scrubbed_replicas
    }),
    ("ringfs_datanode_scrub_errors_total", "Replicas that did not verify.", true, |m| &m.scrub_errors),
    (
        "ringfs_datanode_journal_compactions_total",
        "Journals of volumes that were written anew without what is undone.",
        true,
        |m| &m.journal_compactions,
    ),
    ("ringfs_datanode_read_bytes_total", "Bytes of block data sent to readers.", true, |m| &m.read_bytes),
    ("ringfs_datanode_read_ranges_total", "Ranges served.", true, |m| &m.read_ranges),
    ("ringfs_datanode_read_errors_total", "Ranges refused or failed.", true, |m| &m.read_errors),
    ("ringfs_datanode_reads_active", "Read calls in progress.", false, |m| &m.reads_active),
    (
        "ringfs_datanode_reads_active_max",
        "Most read calls in progress at once, summed over shards.",
        false,
        |m| &m.reads_active_max,
    ),
    ("ringfs_datanode_sendfile_bytes_total", "Bytes sent from the page cache without a copy.", true, |m| {
        &m.sendfile_bytes
    }),
    ("ringfs_datanode_write_bytes_total", "Bytes of block data received.", true, |m| &m.write_bytes),
    ("ringfs_datanode_write_packets_total", "Packets received.", true, |m| &m.write_packets),
    ("ringfs_datanode_write_groups_total", "Groups of packets written together.", true, |m| &m.write_groups),
    ("ringfs_datanode_write_acks_total", "Acks sent.", true, |m| &m.write_acks),
    ("ringfs_datanode_writes_active", "Replicas being written.", false, |m| &m.writes_active),
    (
        "ringfs_datanode_refused_capabilities_total",
        "Operations refused for want of a valid capability.",
        true,
        |m| &m.refused_capabilities,
    ),
    ("ringfs_datanode_malformed_total", "Connections closed because of malformed bytes.", true, |m| {
        &m.malformed
    }),
    ("ringfs_datanode_connections", "Open connections.", false, |m| &m.connections),
    ("ringfs_datanode_connections_total", "Connections accepted.", true, |m| &m.connections_total),
    (
        "ringfs_datanode_stalled_total",
        "Connections cut off because a peer moved no byte for too long.",
        true,
        |m| &m.stalled,
    ),
    ("ringfs_datanode_copies_active", "Replicas being copied to other datanodes.", false, |m| {
        &m.copies_active
    }),
    ("ringfs_datanode_copies_total", "Replicas copied to other datanodes.", true, |m| &m.copies),
    ("ringfs_datanode_copy_bytes_total", "Bytes sent to other datanodes in copies.", true, |m| &m.copy_bytes),
    ("ringfs_datanode_fenced_total", "Pipelines cut off because a newer one has the replica.", true, |m| {
        &m.fenced
    }),
];

/// The metrics of all shards.
pub fn collect(shards: &[Arc<ShardMetrics>]) -> Vec<Metric> {
    let show = |(name, help, is_counter, value): &Row| {
        let sum = shards.iter().map(|shard| value(shard).get()).sum::<u64>();
        if *is_counter { Metric::counter(name, help, sum) } else { Metric::gauge(name, help, sum as f64) }
    };
    ROWS.iter().map(show).collect()
}
