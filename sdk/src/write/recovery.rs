//! Which step the recovery of a pipeline takes next. Does no I/O: outcomes go in, steps come out.
//!
//! The order is HDFS's (`DataStreamer.setupPipelineForAppendOrRecovery`), but for the stamp, which comes first here: it
//! says whether this writer may go on at all, and gives it back a file that was recovered meanwhile.
//!
//! 1. the node that failed is dropped;
//! 2. the namenode gives out a new stamp;
//! 3. when the policy wants it, the namenode names more nodes, and one that is left copies to them what was acknowledged;
//! 4. all nodes are opened under the stamp, which fences the old pipeline;
//! 5. the namenode hears of the new pipeline, before a byte goes over it;
//! 6. the writer sends again what was not acknowledged.
//!
//! A node that fails on the way is dropped, and the recovery begins again without it. When none is left, those that may
//! come back (they did not answer, rather than refuse) are tried again after a pause, where the namenode says that they are
//! now: a replica that was acknowledged survives the restart of its datanode.

use std::collections::VecDeque;

use ringfs_proto::Code;
use ringfs_proto::capability::CapabilityBytes;
use ringfs_proto::ids::{DatanodeId, Stamp};

use super::policy::ReplacePolicy;
use crate::limits::{FENCES_MAX, REPLACEMENTS_MAX};
use crate::{BlockRef, Node};

/// What the recovery needs from the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask the namenode for so many more nodes: [`Recovery::added`].
    AddNodes { count: usize },
    /// Let `source` copy the acknowledged bytes to `targets`: [`Recovery::transferred`].
    Transfer { source: Node, targets: Vec<Node>, capability: CapabilityBytes },
    /// Ask the namenode for a stamp: [`Recovery::stamped`].
    NewStamp,
    /// Open the nodes under the stamp: [`Recovery::opened`].
    Open { stamp: Stamp, capability: CapabilityBytes },
    /// Tell the namenode: [`Recovery::updated`].
    Update { stamp: Stamp },
    /// The pipeline stands.
    Done,
    /// Nobody is left, but some may come back: [`Recovery::waited`], or give up.
    Wait,
    /// Nobody is left.
    Lost,
}

/// How a node failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// It did not answer, or its connection broke: it may come back.
    Unreachable,
    /// It answered with an error.
    Refused(Code),
}

impl Failure {
    /// Whether the node will never have the acknowledged bytes under a stamp that can go on.
    fn is_final(self) -> bool {
        matches!(self, Self::Refused(Code::BlockMissing | Code::BlockCorrupt | Code::OutOfRange))
    }
}

/// What the writer wishes for its pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wishes {
    pub policy: ReplacePolicy,
    /// Whether to go on with fewer nodes when none can be added.
    pub best_effort: bool,
    /// Replicas that the file shall have.
    pub replication: usize,
    /// Whether something of the block was flushed.
    pub is_flushed: bool,
}

/// The recovery of one pipeline.
#[derive(Debug)]
pub(super) struct Recovery {
    /// As the namenode knows it, with the acknowledged length.
    block: BlockRef,
    /// The pipeline: nodes that have what was acknowledged.
    nodes: Vec<Node>,
    wishes: Wishes,
    /// Nodes that failed and may come back.
    absent: Vec<Node>,
    /// Datanodes that failed in this recovery, for the namenode not to name them.
    failed: Vec<DatanodeId>,
    replacements: usize,
    /// Stamps that were too old when they were used.
    fences: usize,
    /// A stamp that was given out and that no node has seen yet.
    stamp: Option<(Stamp, CapabilityBytes)>,
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// The policy is asked.
    Members,
    /// Nodes were added that have nothing yet, with the sources that were not tried.
    Copy {
        targets: Vec<Node>,
        capability: CapabilityBytes,
        sources: VecDeque<Node>,
    },
    /// The policy has its way, as far as it goes.
    Settled,
    Opened {
        stamp: Stamp,
        capability: CapabilityBytes,
    },
    Done {
        capability: CapabilityBytes,
    },
}

/// A pipeline that stands again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub block: BlockRef,
    pub nodes: Vec<Node>,
    pub capability: CapabilityBytes,
}

impl Recovery {
    /// The recovery of `block` with its acknowledged length, whose pipeline was `nodes`.
    pub fn new(block: BlockRef, nodes: Vec<Node>, wishes: Wishes) -> Self {
        let (absent, failed) = (Vec::new(), Vec::new());
        let phase = Phase::Members;
        Self { block, nodes, wishes, absent, failed, replacements: 0, fences: 0, stamp: None, phase }
    }

    /// What to do next.
    pub fn next(&self) -> Step {
        if self.nodes.is_empty() {
            return if self.absent.is_empty() { Step::Lost } else { Step::Wait };
        }
        match (&self.phase, self.stamp) {
            (Phase::Opened { stamp, .. }, _) => Step::Update { stamp: *stamp },
            (Phase::Done { .. }, _) => Step::Done,
            (_, None) => Step::NewStamp,
            (Phase::Members, _) if self.wants_more() => {
                Step::AddNodes { count: self.wishes.replication - self.nodes.len() }
            }
            (Phase::Copy { targets, capability, sources }, Some(_)) if !sources.is_empty() => {
                Step::Transfer {
                    source: sources[0].clone(),
                    targets: targets.clone(),
                    capability: *capability,
                }
            }
            (Phase::Members | Phase::Copy { .. } | Phase::Settled, Some((stamp, capability))) => {
                Step::Open { stamp, capability }
            }
        }
    }

    fn wants_more(&self) -> bool {
        let Wishes { policy, replication, is_flushed, .. } = self.wishes;
        self.replacements < REPLACEMENTS_MAX && policy.wants_more(replication, self.nodes.len(), is_flushed)
    }

    /// The block as the namenode knows it, with the acknowledged length.
    pub fn block(&self) -> BlockRef {
        self.block
    }

    /// The pipeline.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Datanodes that failed in this recovery.
    pub fn failed(&self) -> &[DatanodeId] {
        &self.failed
    }

    /// A node failed: it is dropped, and the recovery begins again without it. `None`: which one is not known. Then, as
    /// in HDFS, the first is suspected. A node that knows a later stamp has not failed: a later one is asked for.
    pub fn node_failed(&mut self, index: Option<usize>, failure: Failure) {
        (self.phase, self.stamp) = (Phase::Members, None);
        if failure == Failure::Refused(Code::StampMismatch) && self.fences < FENCES_MAX {
            self.fences += 1;
            return;
        }
        let index = index.filter(|index| *index < self.nodes.len()).unwrap_or(0);
        if index < self.nodes.len() {
            let node = self.nodes.remove(index);
            self.drop_node(node, failure);
        }
    }

    fn drop_node(&mut self, node: Node, failure: Failure) {
        self.exclude(node.datanode);
        if !failure.is_final() {
            self.absent.push(node);
        }
    }

    fn exclude(&mut self, datanode: DatanodeId) {
        if !self.failed.contains(&datanode) {
            self.failed.push(datanode);
        }
    }

    /// The namenode has named nodes; none when it has no others.
    pub fn added(&mut self, nodes: Vec<Node>, capability: CapabilityBytes) -> Result<(), NoReplacement> {
        self.replacements += 1;
        let known = |node: &Node| self.nodes.iter().any(|other| other.datanode == node.datanode);
        let targets: Vec<Node> = nodes.into_iter().filter(|node| !known(node)).collect();
        if targets.is_empty() {
            return self.not_replaced();
        }
        let sources = self.nodes.iter().cloned().collect();
        self.phase = Phase::Copy { targets, capability, sources };
        Ok(())
    }

    fn not_replaced(&mut self) -> Result<(), NoReplacement> {
        self.phase = Phase::Settled;
        if self.wishes.best_effort { Ok(()) } else { Err(NoReplacement { left: self.nodes.len() }) }
    }

    /// The copy has ended.
    pub fn transferred(&mut self, result: Result<(), Failure>) -> Result<(), NoReplacement> {
        let Phase::Copy { targets, sources, .. } = &mut self.phase else { return Ok(()) };
        match result {
            Ok(()) => {
                self.nodes.append(targets);
                self.phase = Phase::Settled;
                Ok(())
            }
            // The source says that a target failed: the namenode shall name others.
            Err(Failure::Refused(Code::PipelineFailed)) => {
                let failed: Vec<_> = targets.iter().map(|node| node.datanode).collect();
                failed.into_iter().for_each(|datanode| self.exclude(datanode));
                self.phase = Phase::Members;
                if self.wants_more() { Ok(()) } else { self.not_replaced() }
            }
            Err(failure) => {
                let source = sources.pop_front();
                let is_last = sources.is_empty();
                if failure == Failure::Unreachable
                    && let Some(source) = source
                    && let Some(at) = self.nodes.iter().position(|node| node.datanode == source.datanode)
                {
                    let node = self.nodes.remove(at);
                    self.drop_node(node, failure);
                }
                if is_last { self.not_replaced() } else { Ok(()) }
            }
        }
    }

    /// The namenode has given out a stamp. `present` is the stamp that replicas must have now: not the one that this writer
    /// knew, if its lease was recovered meanwhile.
    pub fn stamped(&mut self, present: Stamp, stamp: Stamp, capability: CapabilityBytes) {
        self.block.stamp = present;
        self.stamp = Some((stamp, capability));
    }

    /// All nodes are open under the stamp.
    pub fn opened(&mut self) {
        if let Some((stamp, capability)) = self.stamp.take() {
            self.phase = Phase::Opened { stamp, capability };
        }
    }

    /// The namenode knows the new pipeline.
    pub fn updated(&mut self) {
        if let Phase::Opened { stamp, capability } = self.phase {
            self.block.stamp = stamp;
            self.phase = Phase::Done { capability };
        }
    }

    /// A pause has passed: those that were unreachable may be back, perhaps at another address. `located` are the nodes of
    /// the block as the namenode knows them now.
    pub fn waited(&mut self, located: &[Node]) {
        for mut node in self.absent.drain(..) {
            let is_same = |found: &&Node| (found.datanode, found.storage) == (node.datanode, node.storage);
            if let Some(found) = located.iter().find(is_same) {
                node.clone_from(found);
            }
            self.nodes.push(node);
        }
        (self.phase, self.stamp) = (Phase::Settled, None);
    }

    /// The pipeline, once it stands.
    pub fn standing(self) -> Option<Standing> {
        let Phase::Done { capability } = self.phase else { return None };
        Some(Standing { block: self.block, nodes: self.nodes, capability })
    }
}

/// The policy wants another datanode, and there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no datanode replaces the one that failed, {left} are left (replace_datanode_on_failure)")]
pub(super) struct NoReplacement {
    left: usize,
}

#[cfg(test)]
mod tests;
