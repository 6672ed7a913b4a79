//! Safe mode: reads are answered, changes are refused.

use ringfs_proto::ids::BlockId;
use ringfs_proto::{Code, WireError};

use super::Core;

/// Why changes are refused, or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SafeMode {
    /// They are not.
    Off,
    /// Not enough blocks are reported yet after the start.
    Waiting,
    /// The log cannot make its next segment.
    NoRoom,
    /// A datanode has a block that this namenode never made: its state is older than theirs.
    Older {
        /// The highest block of this namenode's log.
        ours: BlockId,
        /// The block that was reported.
        theirs: BlockId,
    },
}

impl SafeMode {
    pub(super) fn set_log_has_room(&mut self, has_room: bool) {
        match (&*self, has_room) {
            (Self::Off, false) => *self = Self::NoRoom,
            (Self::NoRoom, true) => {
                tracing::info!("the log has room again: changes are accepted");
                *self = Self::Off;
            }
            _ => {}
        }
    }
}

impl Core {
    /// Why changes are refused; empty when they are not.
    pub(super) fn safe_mode_reason(&self) -> String {
        match &self.safe_mode {
            SafeMode::Off => String::new(),
            SafeMode::Waiting => {
                let all = self.state.counts().committed_blocks;
                let reported = all.saturating_sub(self.replication.missing());
                let share = f64::from(self.config.safe_mode_threshold_permille) / 10.0;
                format!("{reported} of {all} blocks are reported, {share} % are needed")
            }
            SafeMode::NoRoom => "the disk of the write-ahead log is full: make room".to_owned(),
            SafeMode::Older { ours, theirs } => format!(
                "a datanode has block {theirs}, the log ends at block {ours}: this namenode's state is older than its \
                 datanodes'; restore the newest log and start again"
            ),
        }
    }

    /// Refuses a change in safe mode (HDFS: `FSNamesystem.checkNameNodeSafeMode`).
    pub(super) fn check_safe_mode(&self, what: &str) -> Result<(), WireError> {
        if self.safe_mode == SafeMode::Off {
            return Ok(());
        }
        let message = format!("Cannot {what}. Name node is in safe mode: {}", self.safe_mode_reason());
        Err(WireError::new(Code::SafeMode, message))
    }

    /// Leaves safe mode once enough blocks are reported.
    pub(super) fn look_at_safe_mode(&mut self) {
        if self.safe_mode != SafeMode::Waiting {
            return;
        }
        let all = self.state.counts().committed_blocks;
        let reported = all.saturating_sub(self.replication.missing());
        if reported * 1000 >= all * u64::from(self.config.safe_mode_threshold_permille) {
            tracing::info!(reported, all, "blocks are reported: changes are accepted");
            self.safe_mode = SafeMode::Off;
        }
    }

    /// A datanode knows a block that the log does not.
    pub(super) fn found_newer_block(&mut self, theirs: BlockId) {
        let ours = self.state.last_block();
        if !matches!(self.safe_mode, SafeMode::Older { .. }) {
            tracing::error!(%ours, %theirs, "a datanode has a block that the log never named: safe mode");
        }
        self.safe_mode = SafeMode::Older { ours, theirs };
    }
}
