//! The namenode's decisions: calls and the time go in, answers and log batches come out. No I/O, no threads, no clock.
//!
//! Log, then apply: a change becomes a record, the record joins the next batch, and only when the log says that the
//! batch is durable is it applied and answered. Reads are answered at once from applied state.

mod attributes;
mod changes;
mod checkpoints;
mod collection;
mod commits;
mod files;
mod inspect;
mod leases;
mod membership;
mod parked;
mod permissions;
mod pipelines;
mod reads;
mod recovery;
mod replication;
mod safe_mode;
mod sessions;
mod subtrees;
mod summaries;
#[cfg(test)]
mod tests;
mod trash;
mod tree;
mod truncations;
mod values;
mod verification;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ringfs_proto::capability::ClusterKey;
use ringfs_proto::hello::Role;
use ringfs_proto::ids::{BlockId, CallId, ClusterId, InodeId, LogIndex, SessionId, Stamp};
use ringfs_proto::{Code, WireError};

use crate::activity::Usages;
use crate::blocks::{BlockMap, StorageIndex};
use crate::calls::{Answer, Call, Reply, Request};
use crate::config::Config;
use crate::datanodes::{Datanodes, Patience};
use crate::metrics::Metrics;
use crate::state::{Effect, State};
use crate::wal::BatchBuilder;
use crate::wal::record::RecordV1;

pub use checkpoints::{Copied, Order};
pub use values::WantedValue;

use checkpoints::Checkpoints;
use collection::Collection;
use parked::Parked;
use recovery::Recoveries;
use replication::Replication;
use safe_mode::SafeMode;
use sessions::Sessions;
use subtrees::Subtrees;
use summaries::Summaries;
use trash::Emptier;
use truncations::Cuts;

/// The time, as the shell knows it.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic, ms since some start: for everything that waits.
    pub mono_ms: u64,
    /// Wall clock, ms since 1970: for records and capabilities only.
    pub wall_ms: u64,
}

/// A change that is logged and not yet applied.
#[derive(Debug)]
struct Pending {
    record: RecordV1,
    waiters: Vec<Call>,
    /// Where an added block shall go: chosen before it was logged.
    promise: Promise,
}

/// Room that was promised to a block.
#[derive(Debug, Default)]
struct Promise {
    pipeline: Vec<StorageIndex>,
    /// On each storage.
    bytes: u64,
}

/// The deciding part of a namenode.
#[derive(Debug)]
pub struct Core {
    state: State,
    blocks: BlockMap,
    nodes: Datanodes,
    replication: Replication,
    sessions: Sessions,
    recoveries: Recoveries,
    cluster: ClusterId,
    key: ClusterKey,
    config: Config,
    started_ms: u64,
    safe_mode: SafeMode,
    checkpoints: Checkpoints,
    log_dirs_failed: u32,
    pending: VecDeque<Pending>,
    in_flight: BTreeMap<(SessionId, CallId), LogIndex>,
    filling: BatchBuilder,
    full: VecDeque<BatchBuilder>,
    spare: Vec<BatchBuilder>,
    is_writing: bool,
    /// The highest ids that were applied or are logged.
    last_ids: (BlockId, Stamp),
    parked: Parked,
    summaries: Summaries,
    subtrees: Subtrees,
    cuts: Cuts,
    collection: Collection,
    emptier: Emptier,
    /// Files whose access is logged and not yet applied.
    touching: BTreeSet<InodeId>,
    /// Whether a record that frees what was deleted is logged and not applied.
    is_freeing: bool,
    answers: Vec<Answer>,
    /// Contents of small files for the answer that is being made.
    wanted: Vec<WantedValue>,
    effects: Vec<Effect>,
    metrics: Metrics,
    usages: Usages,
}

impl Core {
    /// A namenode whose log has been replayed into `state`.
    pub fn new(
        state: State,
        cluster: ClusterId,
        key: ClusterKey,
        config: Config,
        now: Now,
        seed: u64,
    ) -> Self {
        let patience = Patience {
            stale_ms: config.datanode_stale_ms,
            dead_ms: config.datanode_dead_ms,
            mass_failure_wait_ms: config.mass_failure_wait_ms,
        };
        let mut blocks = BlockMap::default();
        for view in state.all_blocks() {
            blocks.add(view.slot, Vec::new(), 0);
            if !view.is_open {
                blocks.commit(view.slot, view.block);
            }
        }
        let last_ids = (state.last_block(), state.last_stamp());
        let (sessions, recoveries) = leases::after_start(state.leases(), now);
        let mut core = Self {
            state,
            blocks,
            nodes: Datanodes::new(patience, seed),
            replication: Replication::default(),
            sessions,
            recoveries,
            cluster,
            key,
            config,
            started_ms: now.mono_ms,
            safe_mode: SafeMode::waiting(),
            checkpoints: Checkpoints::since(now),
            log_dirs_failed: 0,
            pending: VecDeque::new(),
            in_flight: BTreeMap::new(),
            filling: BatchBuilder::default(),
            full: VecDeque::new(),
            spare: Vec::new(),
            is_writing: false,
            last_ids,
            parked: Parked::default(),
            summaries: Summaries::default(),
            subtrees: Subtrees::default(),
            cuts: Cuts::default(),
            collection: Collection::default(),
            emptier: Emptier::default(),
            touching: BTreeSet::new(),
            is_freeing: false,
            answers: Vec::new(),
            wanted: Vec::new(),
            effects: Vec::new(),
            metrics: Metrics::default(),
            usages: Usages::default(),
        };
        (0..core.blocks.slots_end()).for_each(|slot| core.judge(slot));
        core.look_at_safe_mode();
        core
    }

    /// Takes a call. Its answer comes out of [`Core::take_answers`], now or later.
    pub fn call(&mut self, call: Call, now: Now) {
        self.metrics.count_call(call.request.op());
        if call.caller.role == Role::Client && !call.caller.renews_leases {
            let who = || (call.caller.user.clone(), call.caller.address.to_string());
            self.sessions.attach(call.caller.connection, call.caller.session, who);
        }
        if let Err(error) = self.check_superuser(&call) {
            self.answer(call, Err(error));
        } else if let Request::ContentSummary(_) = call.request {
            self.begin_summary(call);
        } else if let Some(result) = self.read(&call, now) {
            self.answer(call, result);
        } else if let Some(result) = self.datanode_call(&call, now) {
            self.answer(call, result);
        } else if let Some(call) = self.operator_call(call).and_then(|call| self.lease_call(call, now)) {
            self.change(call, now);
        }
    }

    /// A batch is durable up to its record `last`; its builder comes back.
    pub fn durable(&mut self, last: LogIndex, builder: BatchBuilder, now: Now) {
        self.is_writing = false;
        self.state.set_values_at(builder.placed());
        self.spare.push(builder);
        while self.pending.front().is_some_and(|pending| pending.record.index <= last) {
            if let Some(pending) = self.pending.pop_front() {
                self.apply(pending, now);
            }
        }
    }

    /// Whether there is work that nobody has to ask for again; then [`Core::work`] does some of it.
    pub fn has_work(&self) -> bool {
        self.summaries.is_waiting() || self.subtrees.is_waiting()
    }

    /// Does a bounded piece of the work that is left: a few milliseconds at most.
    pub fn work(&mut self, now: Now) {
        self.go_on_summing();
        self.go_on_below(now);
    }

    /// A connection is gone.
    pub fn disconnected(&mut self, connection: u64) {
        self.nodes.disconnected(connection);
        self.sessions.detach(connection);
    }

    /// Time has passed: called several times a second.
    pub fn tick(&mut self, now: Now) {
        let lost = self.nodes.tick(now.mono_ms);
        if !lost.nodes.is_empty() {
            self.hurry_truncations();
        }
        lost.nodes.into_iter().for_each(|node| self.give_up_copies_of(node));
        lost.storages.into_iter().for_each(|storage| self.forget_storage(storage));
        self.look_at_racks(false);
        self.replicate(now);
        self.look_at_leases(now);
        self.look_at_recoveries(now);
        self.look_at_truncations(now);
        self.go_on_freeing(now);
        self.look_at_trash(now);
        for call in self.parked.expired(now.mono_ms) {
            let message = "the last block is not reported by enough datanodes yet";
            self.answer(call, Err(WireError::new(Code::NotReplicatedYet, message)));
        }
        self.look_at_checkpoints(now);
        self.look_at_collection();
        self.update_gauges();
    }

    /// Whether the log can make its next segment.
    pub fn set_log_has_room(&mut self, has_room: bool) {
        self.safe_mode.set_log_has_room(has_room);
    }

    /// How many directories of the log are out of use.
    pub fn set_log_dirs_failed(&mut self, failed: u32) {
        self.log_dirs_failed = failed;
    }

    /// Answers that are ready.
    pub fn take_answers(&mut self) -> Vec<Answer> {
        core::mem::take(&mut self.answers)
    }

    /// The next batch for the log, if none is being written.
    pub fn take_batch(&mut self) -> Option<BatchBuilder> {
        if self.is_writing {
            return None;
        }
        let batch = match self.full.pop_front() {
            Some(batch) => batch,
            None if self.filling.is_empty() => return None,
            None => core::mem::replace(&mut self.filling, self.spare.pop().unwrap_or_default()),
        };
        self.metrics.count_batch(batch.count());
        // A start does not read values.
        self.checkpoints.log_bytes += batch.padded_len() - batch.values_len();
        self.checkpoints.value_bytes += batch.values_len();
        self.is_writing = true;
        Some(batch)
    }

    /// Whether nothing waits for the log or for a report.
    pub fn is_drained(&self) -> bool {
        self.pending.is_empty() && !self.is_writing
    }

    /// The namespace, for tests and totals.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    fn answer(&mut self, call: Call, result: Result<Reply, WireError>) {
        audit(&call, &result);
        if result.is_err() {
            self.metrics.count_error(call.request.op());
        }
        let Call { caller, header, .. } = call;
        let wanted = core::mem::take(&mut self.wanted);
        let values = if result.is_ok() { wanted } else { Vec::new() };
        self.answers.push(Answer { caller, header, result, values });
    }
}

/// One line per operation on the namespace: who, from where, what, on which path, with which result.
fn audit(call: &Call, result: &Result<Reply, WireError>) {
    let (path, target) = match &call.request {
        Request::Stat(request) => (request.path.as_str(), ""),
        Request::List(request) => (request.path.as_str(), ""),
        Request::Walk(request) => (request.path.as_str(), ""),
        Request::Glob(request) => (request.pattern.as_str(), ""),
        Request::ContentSummary(request) => (request.path.as_str(), ""),
        Request::Mkdirs(request) => (request.path.as_str(), ""),
        Request::Create(request) => (request.path.as_str(), ""),
        Request::Put(request) => (request.file.path.as_str(), ""),
        Request::Rename(request) => (request.source.as_str(), request.target.as_str()),
        Request::Delete(request) => (request.path.as_str(), ""),
        Request::Append(request) => (request.path.as_str(), ""),
        Request::SetPermission(request) => (request.path.as_str(), ""),
        Request::SetOwner(request) => (request.path.as_str(), ""),
        Request::SetTimes(request) => (request.path.as_str(), ""),
        Request::ChangeAcl(request) => (request.path.as_str(), ""),
        Request::SetXattr(request) => (request.path.as_str(), ""),
        Request::RemoveXattr(request) => (request.path.as_str(), ""),
        Request::SetStoragePolicy(request) => (request.path.as_str(), ""),
        Request::Truncate(request) => (request.path.as_str(), ""),
        Request::Concat(request) => (request.target.as_str(), ""),
        Request::RecoverLease(request) => (request.path.as_str(), ""),
        Request::GetBlockLocations(request) => match &request.file {
            ringfs_proto::meta::namespace::FileRefV1::Path(path) => (path.as_str(), ""),
            ringfs_proto::meta::namespace::FileRefV1::Inode(_) => return,
        },
        _ => return,
    };
    let (caller, op) = (&call.caller, call.request.op().name());
    let code = result.as_ref().err().map_or(0, |error| error.code as u16);
    let context = call.context.as_deref().unwrap_or_default();
    tracing::info!(target: "audit", user = caller.user, ip = %caller.address, op, path, target, code, context);
}
