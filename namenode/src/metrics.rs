//! What the namenode counts. Written by the namespace thread, read by the HTTP face at any time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ringfs_proto::metrics::Metric;
use ringfs_proto::ops::Op;

/// A number with one writer.
#[derive(Debug, Default)]
pub struct Value(AtomicU64);

impl Value {
    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Adds to it; only its one writer may.
    pub fn add(&self, value: u64) {
        self.set(self.get() + value);
    }

    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Values that rise and fall.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "described where they are shown")]
pub struct Gauges {
    pub files: Value,
    pub directories: Value,
    pub blocks: Value,
    pub blocks_missing: Value,
    pub blocks_short: Value,
    pub blocks_corrupt: Value,
    pub blocks_copied: Value,
    pub replicas_doomed: Value,
    pub replicas_leaving: Value,
    pub copying_waits: Value,
    pub open_files: Value,
    pub recoveries: Value,
    pub pending_deletions: Value,
    pub datanodes_live: Value,
    pub datanodes_stale: Value,
    pub datanodes_dead: Value,
    pub safe_mode: Value,
    pub parked: Value,
    pub applied: Value,
    pub checkpoint: Value,
    pub checkpoint_running: Value,
    pub wal_dirs_failed: Value,
    pub values: Value,
    pub value_bytes: Value,
    pub value_segments: Value,
}

#[derive(Debug)]
struct Counters {
    calls: Vec<Value>,
    errors: Vec<Value>,
    batches: Value,
    records: Value,
    copied: Value,
    forgotten: Value,
    checkpoints: Value,
    checkpoints_failed: Value,
    moved: Value,
}

/// All of them.
#[derive(Debug, Clone)]
pub struct Metrics {
    counters: Arc<Counters>,
    /// Values that rise and fall.
    pub gauges: Arc<Gauges>,
}

impl Default for Metrics {
    fn default() -> Self {
        let per_op = || Op::ALL.iter().map(|_| Value::default()).collect();
        let counters = Counters {
            calls: per_op(),
            errors: per_op(),
            batches: Value::default(),
            records: Value::default(),
            copied: Value::default(),
            forgotten: Value::default(),
            checkpoints: Value::default(),
            checkpoints_failed: Value::default(),
            moved: Value::default(),
        };
        Self { counters: Arc::new(counters), gauges: Arc::default() }
    }
}

impl Metrics {
    /// A call has come.
    pub fn count_call(&self, op: Op) {
        self.counters.calls[index(op)].add(1);
    }

    /// A call was answered with an error.
    pub fn count_error(&self, op: Op) {
        self.counters.errors[index(op)].add(1);
    }

    /// Values were written again.
    pub fn count_moved(&self, values: usize) {
        self.counters.moved.add(values as u64);
    }

    /// A batch goes to the log.
    pub fn count_batch(&self, records: usize) {
        self.counters.batches.add(1);
        self.counters.records.add(records as u64);
    }

    /// A replica was copied.
    pub fn count_copied(&self) {
        self.counters.copied.add(1);
    }

    /// Replicas of lost datanodes or volumes were forgotten.
    pub fn count_forgotten(&self, replicas: usize) {
        self.counters.forgotten.add(replicas as u64);
    }

    /// Replicas of lost datanodes or volumes that were forgotten so far.
    pub fn forgotten(&self) -> u64 {
        self.counters.forgotten.get()
    }

    /// A checkpoint is done, or has failed.
    pub fn count_checkpoint(&self, is_good: bool) {
        let counters = &self.counters;
        if is_good { &counters.checkpoints } else { &counters.checkpoints_failed }.add(1);
    }

    /// Calls and errors of the operations that were ever called, in the order of [`Op::ALL`].
    pub fn operations(&self) -> impl Iterator<Item = (Op, u64, u64)> + '_ {
        let Counters { calls, errors, .. } = &*self.counters;
        let each = Op::ALL.iter().zip(calls).zip(errors);
        each.map(|((op, calls), errors)| (*op, calls.get(), errors.get())).filter(|(_, calls, _)| *calls > 0)
    }

    /// What is shown.
    pub fn collect(&self) -> Vec<Metric> {
        let (counters, gauges) = (&self.counters, &self.gauges);
        let by_op = |name, help, values: &[Value]| -> Vec<Metric> {
            let used = Op::ALL.iter().zip(values).filter(|(_, value)| value.get() > 0);
            used.map(|(op, value)| Metric::counter(name, help, value.get()).with_label("op", op.name()))
                .collect()
        };
        let mut all = by_op("ringfs_namenode_calls_total", "Calls by operation.", &counters.calls);
        all.extend(by_op(
            "ringfs_namenode_errors_total",
            "Calls answered with an error, by operation.",
            &counters.errors,
        ));
        all.push(Metric::counter(
            "ringfs_namenode_values_moved_total",
            "Contents of small files that collection has written again.",
            counters.moved.get(),
        ));
        all.push(Metric::counter(
            "ringfs_namenode_wal_batches_total",
            "Batches written to the log.",
            counters.batches.get(),
        ));
        all.push(Metric::counter(
            "ringfs_namenode_wal_records_total",
            "Records written to the log.",
            counters.records.get(),
        ));
        all.push(Metric::counter(
            "ringfs_namenode_replicas_copied_total",
            "Replicas that were copied because a block had too few.",
            counters.copied.get(),
        ));
        all.push(Metric::counter(
            "ringfs_namenode_replicas_forgotten_total",
            "Replicas of lost datanodes and volumes that were forgotten.",
            counters.forgotten.get(),
        ));
        all.push(Metric::counter(
            "ringfs_namenode_checkpoints_total",
            "Checkpoints and backups that were written.",
            counters.checkpoints.get(),
        ));
        all.push(Metric::counter(
            "ringfs_namenode_checkpoints_failed_total",
            "Checkpoints and backups that could not be written.",
            counters.checkpoints_failed.get(),
        ));
        let gauge = |name, help, value: &Value| Metric::gauge(name, help, value.get() as f64);
        all.extend([
            gauge("ringfs_namenode_files", "Files.", &gauges.files),
            gauge("ringfs_namenode_directories", "Directories.", &gauges.directories),
            gauge("ringfs_namenode_blocks", "Blocks.", &gauges.blocks),
            gauge(
                "ringfs_namenode_blocks_missing",
                "Committed blocks without a live replica.",
                &gauges.blocks_missing,
            ),
            gauge(
                "ringfs_namenode_blocks_under_replicated",
                "Committed blocks with fewer replicas than wanted, and at least one.",
                &gauges.blocks_short,
            ),
            gauge("ringfs_namenode_blocks_corrupt", "Blocks with a corrupt replica.", &gauges.blocks_corrupt),
            gauge("ringfs_namenode_blocks_copied", "Blocks that are being copied.", &gauges.blocks_copied),
            gauge(
                "ringfs_namenode_replicas_excess",
                "Replicas of existing blocks that wait to be deleted.",
                &gauges.replicas_doomed,
            ),
            gauge(
                "ringfs_namenode_replicas_leaving",
                "Replicas of lost datanodes that are not forgotten yet.",
                &gauges.replicas_leaving,
            ),
            gauge(
                "ringfs_namenode_copying_waits",
                "1 while nothing is copied because many datanodes vanished at once.",
                &gauges.copying_waits,
            ),
            gauge("ringfs_namenode_values", "Small files whose content is in the log.", &gauges.values),
            gauge("ringfs_namenode_value_bytes", "Bytes of them.", &gauges.value_bytes),
            gauge(
                "ringfs_namenode_value_segments",
                "Segments of the log that hold any of them.",
                &gauges.value_segments,
            ),
            gauge("ringfs_namenode_open_files", "Files open for writing.", &gauges.open_files),
            gauge(
                "ringfs_namenode_recoveries",
                "Files whose leases are being recovered.",
                &gauges.recoveries,
            ),
            gauge(
                "ringfs_namenode_pending_deletions",
                "Replicas that wait to be deleted.",
                &gauges.pending_deletions,
            ),
            gauge(
                "ringfs_namenode_datanodes_live",
                "Datanodes with recent heartbeats.",
                &gauges.datanodes_live,
            ),
            gauge(
                "ringfs_namenode_datanodes_stale",
                "Datanodes whose heartbeats are late.",
                &gauges.datanodes_stale,
            ),
            gauge(
                "ringfs_namenode_datanodes_dead",
                "Datanodes that are taken as lost.",
                &gauges.datanodes_dead,
            ),
            gauge("ringfs_namenode_safe_mode", "1 while changes are refused.", &gauges.safe_mode),
            gauge("ringfs_namenode_parked_calls", "Calls that wait for block reports.", &gauges.parked),
            gauge("ringfs_namenode_applied_index", "Last applied record of the log.", &gauges.applied),
            gauge(
                "ringfs_namenode_checkpoint_index",
                "Last record of the newest checkpoint.",
                &gauges.checkpoint,
            ),
            gauge(
                "ringfs_namenode_checkpoint_running",
                "1 while a checkpoint is written.",
                &gauges.checkpoint_running,
            ),
            gauge(
                "ringfs_namenode_wal_dirs_failed",
                "Directories of the log that are out of use.",
                &gauges.wal_dirs_failed,
            ),
        ]);
        all
    }
}

fn index(op: Op) -> usize {
    Op::ALL.iter().position(|other| *other == op).unwrap_or(0)
}
