//! Totals of trees, of which each takes as many turns of the namespace thread as its tree needs.

use std::collections::VecDeque;

use ringfs_proto::ids::InodeId;
use ringfs_proto::meta::namespace::FileKind;
use ringfs_proto::meta::tree::ContentSummaryReplyV1;
use ringfs_proto::{Code, WireError};

use super::Core;
use crate::calls::{Call, Reply, Request};
use crate::state::{Asked, Everything};

/// Trees that are summed at once; beyond, callers are told to come back.
pub const SUMMARIES_MAX: usize = 1024;
/// Inodes that are looked at in one turn.
pub const INODES_PER_TURN_MAX: usize = 4096;

/// A tree that is being summed.
#[derive(Debug)]
struct Summary {
    call: Call,
    inode: InodeId,
    /// Where the next turn goes on, relative to the inode.
    after: String,
    totals: ContentSummaryReplyV1,
}

/// All trees that are being summed; they take turns.
#[derive(Debug, Default)]
pub(super) struct Summaries {
    waiting: VecDeque<Summary>,
    longest_turn: usize,
}

impl Summaries {
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Core {
    /// HDFS: `FSDirStatAndListingOp.getContentSummary`, which gives up its lock from time to time.
    pub(super) fn begin_summary(&mut self, call: Call) {
        match self.summary_of(&call) {
            Ok((inode, totals)) => {
                self.summaries.waiting.push_back(Summary { call, inode, after: String::new(), totals });
            }
            Err(error) => self.answer(call, Err(error)),
        }
    }

    fn summary_of(&self, call: &Call) -> Result<(InodeId, ContentSummaryReplyV1), WireError> {
        let Request::ContentSummary(request) = &call.request else {
            return Err(WireError::new(Code::Internal, "no content summary"));
        };
        if self.summaries.waiting.len() >= SUMMARIES_MAX {
            return Err(WireError::new(Code::Busy, format!("{SUMMARIES_MAX} trees are being summed")));
        }
        let status = self.state.stat(&self.path_for(call, &request.path, Asked::TRAVERSE)?)?;
        let mut totals = ContentSummaryReplyV1::default();
        match status.kind {
            FileKind::File => self.add_file(status.inode, &mut totals),
            FileKind::Directory => totals.directories += 1,
        }
        Ok((status.inode, totals))
    }

    /// One turn of the tree that has waited longest.
    pub(super) fn go_on_summing(&mut self) {
        let Some(mut summary) = self.summaries.waiting.pop_front() else { return };
        let (caller, after) = (summary.call.caller.clone(), core::mem::take(&mut summary.after));
        let everything = Everything { depth_max: 0 };
        let Some(mut walk) = self.state.walk(caller.author(), summary.inode, everything, &after) else {
            let error = WireError::new(Code::NotFound, "the tree was deleted while it was summed");
            return self.answer(summary.call, Err(error));
        };
        let mut is_done = true;
        while let Some(visit) = walk.next_visit() {
            if visit.is_directory {
                summary.totals.directories += 1;
            } else {
                self.add_file(visit.inode, &mut summary.totals);
            }
            if walk.cost() >= INODES_PER_TURN_MAX {
                walk.path().clone_into(&mut summary.after);
                is_done = false;
                break;
            }
        }
        self.summaries.longest_turn = self.summaries.longest_turn.max(walk.cost());
        if let Err(denied) = walk.denied() {
            self.answer(summary.call, Err(denied));
        } else if is_done {
            self.answer(summary.call, Ok(Reply::ContentSummary(summary.totals)));
        } else {
            self.summaries.waiting.push_back(summary);
        }
    }

    fn add_file(&self, inode: InodeId, totals: &mut ContentSummaryReplyV1) {
        let Some((length, space)) = self.state.space_of(inode) else { return };
        totals.files += 1;
        totals.length = totals.length.saturating_add(length);
        totals.space_consumed = totals.space_consumed.saturating_add(space);
    }

    /// The most inodes that one turn of a summary has looked at.
    #[cfg(test)]
    pub(super) fn longest_summary_turn(&self) -> usize {
        self.summaries.longest_turn
    }
}
