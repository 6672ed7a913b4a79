//! Safe mode: reads are answered, changes are refused.

use ringfs_proto::ids::{BlockId, Stamp};
use ringfs_proto::meta::admin::{SafeModeAction, SafeModeReplyV1};
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_proto::{Code, WireError};

use super::Core;
use crate::state::ID_MAX;
use crate::wal::record::RaiseIdsV1;

/// What resolves a state that is older than its datanodes'.
const ACCEPT_COMMAND: &str = "ringfs admin safemode leave --accept-older-state";

/// Why changes are refused. Each reason ends by itself; changes are accepted when none is left.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SafeMode {
    /// Not enough blocks are reported yet after the start.
    is_waiting: bool,
    /// The log cannot make its next segment.
    is_room_lacking: bool,
    /// An operator wants it.
    is_wanted: bool,
    /// A datanode has a block that this namenode never made: its state is older than theirs.
    older: Option<Older>,
}

/// The highest ids of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Older {
    ours: (BlockId, Stamp),
    theirs: (BlockId, Stamp),
}

impl SafeMode {
    /// After a start.
    pub(super) fn waiting() -> Self {
        Self { is_waiting: true, ..Self::default() }
    }

    /// Whether changes are accepted.
    pub(super) fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Whether replicas may be deleted and copied: the state has been compared with the datanodes', and is no older.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_waiting && !self.is_wanted && self.older.is_none()
    }

    /// Whether enough blocks were reported since the start: what has no replica now is missing.
    pub(super) fn are_blocks_reported(&self) -> bool {
        !self.is_waiting
    }

    pub(super) fn set_log_has_room(&mut self, has_room: bool) {
        if self.is_room_lacking && has_room {
            tracing::info!("the log has room again");
        }
        self.is_room_lacking = !has_room;
    }
}

impl Core {
    /// Why changes are refused; empty when they are not.
    pub(super) fn safe_mode_reason(&self) -> String {
        if let Some(trouble) = self.older_state() {
            return trouble;
        }
        if self.safe_mode.is_wanted {
            return "an operator wants it: `ringfs admin safemode leave` ends it".to_owned();
        }
        if self.safe_mode.is_room_lacking {
            return "the disk of the write-ahead log is full: make room".to_owned();
        }
        if !self.safe_mode.is_waiting {
            return String::new();
        }
        let all = self.state.counts().committed_blocks;
        let reported = all.saturating_sub(self.replication.missing());
        let share = f64::from(self.config.safe_mode_threshold_permille) / 10.0;
        format!("{reported} of {all} blocks are reported, {share} % are needed")
    }

    /// That the state is older than the datanodes', with both numbers and what resolves it.
    pub fn older_state(&self) -> Option<String> {
        let Older { ours, theirs } = self.safe_mode.older?;
        Some(format!(
            "a datanode has block {} and stamp {}, the log ends at block {} and stamp {}: this namenode's state is older than \
             its datanodes'. Start it with the newest log or backup; or give up what the lost part of the log named by \
             `{ACCEPT_COMMAND}`",
            theirs.0, theirs.1, ours.0, ours.1
        ))
    }

    /// Refuses a change in safe mode (HDFS: `FSNamesystem.checkNameNodeSafeMode`).
    pub(super) fn check_safe_mode(&self, what: &str) -> Result<(), WireError> {
        if self.safe_mode.is_off() {
            return Ok(());
        }
        let message = format!("Cannot {what}. Name node is in safe mode: {}", self.safe_mode_reason());
        Err(WireError::new(Code::SafeMode, message))
    }

    /// Leaves safe mode once enough blocks are reported.
    pub(super) fn look_at_safe_mode(&mut self) {
        if !self.safe_mode.is_waiting {
            return;
        }
        let all = self.state.counts().committed_blocks;
        let reported = all.saturating_sub(self.replication.missing());
        if reported * 1000 >= all * u64::from(self.config.safe_mode_threshold_permille) {
            tracing::info!(reported, all, "blocks are reported");
            self.safe_mode.is_waiting = false;
        }
    }

    /// Whether a replica is of a block or of a stamp that the log never named; if so, safe mode begins.
    pub(super) fn is_newer_than_the_log(&mut self, block: BlockRefV1) -> bool {
        let ours = (self.state.last_block(), self.state.last_stamp());
        if block.block <= ours.0 && block.stamp <= ours.1 {
            return false;
        }
        let before = self.safe_mode.older.map_or(ours, |older| older.theirs);
        let theirs = (before.0.max(block.block), before.1.max(block.stamp));
        let is_new = self.safe_mode.older.is_none();
        self.safe_mode.older = Some(Older { ours, theirs });
        if is_new {
            let reason = self.older_state().unwrap_or_default();
            tracing::error!(ours = %ours.0, theirs = %theirs.0, reason, "safe mode: the state is older than the datanodes'");
        }
        true
    }

    /// Asks about safe mode or changes it, where that needs no record (HDFS: `FSNamesystem.setSafeMode`).
    pub(super) fn set_safe_mode(&mut self, action: SafeModeAction) -> Result<SafeModeReplyV1, WireError> {
        match action {
            SafeModeAction::Get => {}
            SafeModeAction::Enter => {
                tracing::warn!("safe mode: an operator wants it");
                self.safe_mode.is_wanted = true;
            }
            SafeModeAction::Leave | SafeModeAction::LeaveDespiteOlderState => {
                if let Some(reason) = self.older_state() {
                    // Not `SafeMode`, which callers wait for the end of.
                    return Err(WireError::new(Code::InvalidArgument, reason));
                }
                self.leave_safe_mode();
            }
        }
        Ok(SafeModeReplyV1 { reason: self.safe_mode_reason() })
    }

    /// The record that gives up what the lost part of the log named; `None` when the state is not older.
    pub(super) fn accept_older_state(&mut self) -> Result<Option<RaiseIdsV1>, WireError> {
        let Some(Older { theirs: (block, stamp), .. }) = self.safe_mode.older else { return Ok(None) };
        if block.0 > ID_MAX {
            let message = format!("block {block} of a datanode exceeds {ID_MAX}: no namenode has made it");
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        // Calls that are logged after this one get ids above theirs.
        self.last_ids = (self.last_ids.0.max(block), self.last_ids.1.max(stamp));
        Ok(Some(RaiseIdsV1 { block, stamp }))
    }

    /// The ids of the datanodes are the log's now.
    pub(super) fn ids_are_raised(&mut self) {
        let ours = (self.state.last_block(), self.state.last_stamp());
        let is_covered = |older: &Older| older.theirs.0 <= ours.0 && older.theirs.1 <= ours.1;
        if self.safe_mode.older.as_ref().is_some_and(is_covered) {
            tracing::warn!(block = %ours.0, stamp = %ours.1, "an operator accepts the older state: what the lost part of the log named is given up");
            self.safe_mode.older = None;
        }
        self.leave_safe_mode();
    }

    fn leave_safe_mode(&mut self) {
        if self.safe_mode.is_wanted || self.safe_mode.is_waiting {
            tracing::warn!("safe mode: an operator ends it");
        }
        (self.safe_mode.is_wanted, self.safe_mode.is_waiting) = (false, false);
    }
}
