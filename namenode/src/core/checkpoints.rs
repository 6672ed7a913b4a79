//! When a checkpoint is taken, and its share of each turn of the namespace thread.
//!
//! The copying takes a bounded number of inodes per turn, so that operations never wait for it; writing is the business of
//! the shell. One checkpoint at a time: of those that an operator asks for meanwhile, each is told that one is running.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use ringfs_proto::ids::LogIndex;
use ringfs_proto::meta::admin::{CheckpointReplyV1, CheckpointRequestV1};
use ringfs_proto::{Code, WireError};

use super::{Core, Now};
use crate::calls::{Call, Reply, Request};
use crate::checkpoint::{CheckpointError, Written};
use crate::state::{Rest, Section, Snapshot};

/// After a checkpoint that failed, none is begun by itself for this long.
const RETRY_MS: u64 = 60_000;
/// Values cost a start nothing, but the room of dead ones is free only after a checkpoint.
const VALUE_BYTES_PER_LOG_BYTE: u64 = 16;

/// A checkpoint that the shell shall write: `rest`, then the sections of [`Core::copy_checkpoint`].
#[derive(Debug)]
pub struct Order {
    /// The last record that it contains.
    pub index: LogIndex,
    /// The directory of a backup; `None` for the ordinary place.
    pub target: Option<PathBuf>,
    /// What it holds besides inodes.
    pub rest: Rest,
    /// Segments of the log in which it has values.
    pub kept: BTreeSet<LogIndex>,
}

/// What a turn has copied.
#[derive(Debug, PartialEq, Eq)]
pub enum Copied {
    /// More is to come; a section may be full.
    Some(Option<Section>),
    /// Nothing, because everything is.
    All,
}

/// The checkpoint that is being taken, and the last one.
#[derive(Debug, Default)]
pub struct Checkpoints {
    order: Option<Order>,
    snapshot: Option<Snapshot>,
    is_running: bool,
    is_backup: bool,
    waiting: Option<Call>,
    /// The last record of the newest checkpoint.
    pub(super) last: LogIndex,
    last_ms: u64,
    not_before_ms: u64,
    /// Bytes of the log since the newest checkpoint.
    pub(super) log_bytes: u64,
    log_bytes_at_begin: u64,
    /// Bytes of values since then: a checkpoint removes those that are dead.
    pub(super) value_bytes: u64,
    value_bytes_at_begin: u64,
    copied_in_turn_max: usize,
}

impl Checkpoints {
    /// None is taken yet; time counts from now.
    pub(super) fn since(now: Now) -> Self {
        Self { last_ms: now.mono_ms, ..Self::default() }
    }
}

impl Core {
    /// The namespace was read from the checkpoint at `index`; `log_bytes` of the log were replayed from there. They count for the
    /// next checkpoint: a namenode that is restarted again and again would have ever more to replay.
    pub fn set_checkpoint(&mut self, index: LogIndex, log_bytes: u64, now: Now) {
        let checkpoints = &mut self.checkpoints;
        (checkpoints.last, checkpoints.log_bytes, checkpoints.last_ms) = (index, log_bytes, now.mono_ms);
    }

    /// A checkpoint that is to be begun.
    pub fn take_checkpoint(&mut self) -> Option<Order> {
        self.checkpoints.order.take()
    }

    /// Copies the share of one turn.
    pub fn copy_checkpoint(&mut self) -> Copied {
        let Some(snapshot) = &mut self.checkpoints.snapshot else { return Copied::All };
        if snapshot.is_done() {
            self.end_copying();
            return Copied::All;
        }
        let (looked_at, section) = self.state.copy(snapshot, self.config.checkpoint_inodes_per_turn.max(1));
        self.checkpoints.copied_in_turn_max = self.checkpoints.copied_in_turn_max.max(looked_at);
        Copied::Some(section)
    }

    /// The most inodes that a turn has copied.
    pub fn copied_in_turn_max(&self) -> usize {
        self.checkpoints.copied_in_turn_max
    }

    /// The checkpoint is on stable storage, or has failed.
    pub fn checkpoint_done(&mut self, result: Result<Written, CheckpointError>, now: Now) {
        self.end_copying();
        let checkpoints = &mut self.checkpoints;
        checkpoints.is_running = false;
        let waiting = checkpoints.waiting.take();
        let answer = match result {
            Ok(written) => {
                tracing::info!(index = %written.index, bytes = written.bytes, directory = %written.directory.display(), "checkpoint");
                if !checkpoints.is_backup {
                    checkpoints.log_bytes =
                        checkpoints.log_bytes.saturating_sub(checkpoints.log_bytes_at_begin);
                    checkpoints.value_bytes =
                        checkpoints.value_bytes.saturating_sub(checkpoints.value_bytes_at_begin);
                    (checkpoints.last, checkpoints.last_ms) = (written.index, now.mono_ms);
                }
                self.metrics.count_checkpoint(true);
                let directory = written.directory.to_string_lossy().into_owned();
                Ok(Reply::Checkpoint(CheckpointReplyV1 {
                    directory,
                    index: written.index,
                    bytes: written.bytes,
                }))
            }
            Err(error) => {
                tracing::error!(error = error.chain(), "a checkpoint has failed: the log before it stays");
                checkpoints.not_before_ms = now.mono_ms + RETRY_MS;
                self.metrics.count_checkpoint(false);
                let is_argument = matches!(error, CheckpointError::Target { .. });
                let code = if is_argument { Code::InvalidArgument } else { Code::Io };
                Err(WireError::new(code, error.chain()))
            }
        };
        if let Some(call) = waiting {
            self.answer(call, answer);
        }
    }

    /// An operator asks for a checkpoint: answered once it is on stable storage.
    pub(super) fn checkpoint(&mut self, call: Call, request: &CheckpointRequestV1) {
        if self.checkpoints.is_running {
            let is_again =
                |waiting: &Call| (waiting.caller.session, waiting.call) == (call.caller.session, call.call);
            if self.checkpoints.waiting.as_ref().is_some_and(is_again) {
                self.checkpoints.waiting = Some(call);
                return;
            }
            let message = "a checkpoint is being written: try again when it is done";
            return self.answer(call, Err(WireError::new(Code::Busy, message)));
        }
        let target = (!request.target.is_empty()).then(|| PathBuf::from(&request.target));
        if let Some(path) = target.as_deref().filter(|path| !path.is_absolute()) {
            let message = format!("back up to {}: not an absolute path", path.display());
            return self.answer(call, Err(WireError::new(Code::InvalidArgument, message)));
        }
        self.checkpoints.waiting = Some(call);
        self.begin_checkpoint(target);
    }

    /// Begins a checkpoint when the log has grown or time has passed, so that the tail to replay stays bounded.
    pub(super) fn look_at_checkpoints(&mut self, now: Now) {
        let (checkpoints, config) = (&self.checkpoints, &self.config);
        let records = self.state.applied().0 - checkpoints.last.0;
        let is_due = records >= config.checkpoint_records.max(1)
            || checkpoints.log_bytes >= config.checkpoint_log_bytes
            || checkpoints.value_bytes / VALUE_BYTES_PER_LOG_BYTE >= config.checkpoint_log_bytes.max(1)
            || now.mono_ms.saturating_sub(checkpoints.last_ms) >= config.checkpoint_interval_ms;
        if records > 0 && is_due && !checkpoints.is_running && now.mono_ms >= checkpoints.not_before_ms {
            self.begin_checkpoint(None);
        }
    }

    /// Whether one is being written.
    pub(super) fn is_checkpoint_running(&self) -> bool {
        self.checkpoints.is_running
    }

    fn begin_checkpoint(&mut self, target: Option<PathBuf>) {
        let (snapshot, rest) = self.state.begin_snapshot();
        let index = snapshot.index();
        let where_to = target.as_deref().unwrap_or(Path::new("wal_dirs"));
        tracing::info!(%index, target = %where_to.display(), "a checkpoint begins");
        let checkpoints = &mut self.checkpoints;
        (checkpoints.is_running, checkpoints.is_backup) = (true, target.is_some());
        checkpoints.log_bytes_at_begin = checkpoints.log_bytes;
        checkpoints.value_bytes_at_begin = checkpoints.value_bytes;
        checkpoints.snapshot = Some(snapshot);
        let kept = self.state.values().by_segment.keys().copied().collect();
        checkpoints.order = Some(Order { index, target, rest, kept });
    }

    fn end_copying(&mut self) {
        self.checkpoints.order = None;
        if self.checkpoints.snapshot.take().is_some() {
            self.state.end_snapshot();
        }
    }

    /// Calls of operators; gives back what is none.
    pub(super) fn operator_call(&mut self, call: Call) -> Option<Call> {
        match &call.request {
            Request::Checkpoint(request) => {
                let request = request.clone();
                self.checkpoint(call, &request);
                None
            }
            Request::SafeMode(request) => {
                use ringfs_proto::meta::admin::SafeModeAction;
                if request.action == SafeModeAction::LeaveDespiteOlderState && self.older_state().is_some() {
                    // This one is logged.
                    return Some(call);
                }
                let result = self.set_safe_mode(request.action).map(Reply::SafeMode);
                self.answer(call, result);
                None
            }
            _ => Some(call),
        }
    }
}
