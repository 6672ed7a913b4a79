//! Who is silent for too long, and what it means when many are.
//!
//! Silence is counted on the namenode's own loop: while the namenode itself stood still, nobody was silent. When a good
//! part of the datanodes vanish at once it is more likely a switch than their disks: copying waits.

use ringfs_proto::meta::admin::DatanodeState;

use super::Datanodes;
use crate::blocks::StorageIndex;

/// Time that one turn of the namenode's loop counts for at most, ms: the loop turns ten times a second.
const TURN_MS_MAX: u64 = 1000;
/// Copying waits when more than one in this many datanodes vanish at once.
const VANISHED_SHARE: usize = 5;

/// What a look at the clock has found.
#[derive(Debug, Default)]
pub struct Lost {
    /// Datanodes that are taken as lost from now on.
    pub nodes: Vec<usize>,
    /// Their storages.
    pub storages: Vec<StorageIndex>,
}

/// Copying waits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hold {
    nodes: Vec<usize>,
    until_ms: u64,
}

/// The time as the loop has lived it, and the datanodes that vanished together.
#[derive(Debug, Default)]
pub(super) struct Silence {
    last_tick_ms: Option<u64>,
    /// Time during which the loop stood still.
    stalled_ms: u64,
    /// When datanodes were taken as lost.
    losses: Vec<(usize, u64)>,
    hold: Option<Hold>,
}

impl Silence {
    /// The time on the loop's own clock.
    pub(super) fn time_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.stalled_ms)
    }

    fn turn(&mut self, now_ms: u64) {
        let passed_ms = now_ms.saturating_sub(self.last_tick_ms.unwrap_or(now_ms));
        self.last_tick_ms = Some(now_ms);
        if passed_ms > TURN_MS_MAX {
            tracing::warn!(passed_ms, "the namenode stood still: the silence of datanodes does not count");
            self.stalled_ms += passed_ms - TURN_MS_MAX;
        }
    }
}

impl Datanodes {
    /// Looks who is silent for too long.
    pub fn tick(&mut self, now_ms: u64) -> Lost {
        self.silence.turn(now_ms);
        let time_ms = self.silence.time_ms(now_ms);
        let mut lost = Lost::default();
        for node in &mut self.nodes {
            let silent_ms = time_ms.saturating_sub(node.heard_ms);
            if silent_ms >= self.patience.dead_ms && node.state != DatanodeState::Dead {
                node.state = DatanodeState::Dead;
                // Its replicas are forgotten: if it wakes up it must join again, with full reports.
                node.connection = None;
                node.commands.clear();
                tracing::warn!(datanode = %node.id, host = node.host, port = node.port, silent_ms, "datanode is taken as lost");
                lost.nodes.push(node.index);
                lost.storages.extend(&node.storages);
            } else if silent_ms >= self.patience.stale_ms && node.state == DatanodeState::Live {
                node.state = DatanodeState::Stale;
                tracing::warn!(datanode = %node.id, host = node.host, port = node.port, silent_ms, "datanode is silent: avoided");
            }
        }
        self.look_at_losses(&lost.nodes, time_ms);
        lost
    }

    /// Why nothing is copied, if many datanodes vanished at once: how many, of how many, and for how long still, ms.
    pub fn copying_waits(&self, now_ms: u64) -> Option<(usize, usize, u64)> {
        let hold = self.silence.hold.as_ref()?;
        let left_ms = hold.until_ms.saturating_sub(self.silence.time_ms(now_ms));
        Some((hold.nodes.len(), self.nodes.len(), left_ms))
    }

    /// Whether nothing is copied because many datanodes vanished at once.
    pub fn is_copying_held(&self) -> bool {
        self.silence.hold.is_some()
    }

    /// Somebody says that the datanodes that vanished will not come back.
    pub fn copy_now(&mut self) {
        self.silence.hold = None;
        self.silence.losses.clear();
    }

    fn look_at_losses(&mut self, lost: &[usize], time_ms: u64) {
        let window_ms = self.patience.dead_ms;
        let silence = &mut self.silence;
        silence.losses.extend(lost.iter().map(|node| (*node, time_ms)));
        silence.losses.retain(|(node, at_ms)| {
            self.nodes[*node].state == DatanodeState::Dead && at_ms + window_ms > time_ms
        });
        if let Some(hold) = &mut silence.hold {
            hold.nodes.retain(|node| self.nodes[*node].state != DatanodeState::Live);
        }
        if !lost.is_empty() {
            self.begin_hold(time_ms);
        }
        if let Some(hold) = &self.silence.hold {
            let is_over = hold.until_ms <= time_ms || !self.are_many(hold.nodes.len());
            if is_over {
                tracing::info!(vanished = hold.nodes.len(), "copying goes on");
                self.silence.hold = None;
            }
        }
    }

    /// Datanodes were lost: copying waits if they are many, with those that were lost shortly before and those that are
    /// silent as well by now.
    fn begin_hold(&mut self, time_ms: u64) {
        let recent = self.silence.losses.iter().map(|(node, _)| *node);
        let silent =
            self.nodes.iter().filter(|node| node.state == DatanodeState::Stale).map(|node| node.index);
        let mut nodes: Vec<usize> = recent.chain(silent).collect();
        nodes.extend(self.silence.hold.iter().flat_map(|hold| hold.nodes.iter().copied()));
        nodes.sort_unstable();
        nodes.dedup();
        if self.are_many(nodes.len()) {
            let until_ms = time_ms + self.patience.mass_failure_wait_ms;
            tracing::warn!(
                vanished = nodes.len(),
                of = self.nodes.len(),
                "many datanodes vanished at once: copying waits for them"
            );
            self.silence.hold = Some(Hold { nodes, until_ms });
        }
    }

    /// More than one, and more than a fifth of those that could have vanished.
    fn are_many(&self, vanished: usize) -> bool {
        let live = self.nodes.iter().filter(|node| node.state == DatanodeState::Live).count();
        vanished > 1 && vanished * VANISHED_SHARE > live + vanished
    }
}
