//! How long a block is that is being written, by what datanodes say of their replicas. Does no I/O.
//!
//! The same facts decide as when its lease is recovered (docs/decisions/0005): a replica that was open without a break has all
//! that was acknowledged, so any one settles it. One that a restart has cut to what verifies may lack acknowledged bytes if the
//! power was lost, so all who may have more are heard, and the longest counts. (HDFS: `DFSInputStream.readBlockLength` and
//! `ReplicaWaitingToBeRecovered.getVisibleLength`, which shows nothing of such a replica.)

use std::net::SocketAddr;

use ringfs_proto::ids::Stamp;
use ringfs_proto::meta::data::ReplicaInfoReplyV1;
use ringfs_proto::meta::membership::ReplicaState;
use ringfs_proto::{Code, WireError};

use super::locations::Place;
use crate::transport::TransportError;

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct LengthOfOpen {
    /// The longest replica that a restart has cut.
    cut: Option<u64>,
    /// Why one who may have a replica did not say how long it is.
    failure: Option<TransportError>,
}

impl LengthOfOpen {
    /// Hears what a datanode says. Returns the length if that settles it. `stamp` is the block's.
    pub fn hear(
        &mut self,
        node: SocketAddr,
        stamp: Stamp,
        answer: Result<ReplicaInfoReplyV1, TransportError>,
    ) -> Option<u64> {
        match answer {
            // It was dropped from the pipeline: what it has may be less than what was acknowledged since.
            Ok(info) if info.stamp < stamp => {
                let message = format!("the replica has stamp {}", info.stamp);
                let stale = WireError::new(Code::StampMismatch, message);
                self.failure = Some(TransportError::refused(node, stale));
            }
            Ok(info) => match info.state {
                ReplicaState::Finalized | ReplicaState::BeingWritten => return Some(info.visible_length),
                ReplicaState::WaitingForRecovery => self.cut = self.cut.max(Some(info.visible_length)),
                // A copy that is under way: its source has more.
                ReplicaState::Temporary => {}
            },
            Err(error) if error.code() == Some(Code::BlockMissing) => {}
            Err(error) => self.failure = Some(error),
        }
        None
    }

    /// All who are known were heard, and none settled it: the length, if nobody else can have more.
    ///
    /// # Errors
    /// Why it is not known.
    pub fn conclude(self, place: &Place) -> Result<u64, String> {
        if let Some(failure) = self.failure {
            return Err(failure.to_string());
        }
        let located = &place.located;
        let (block, known) = (located.block.block, place.replicas.len());
        if !located.are_all_nodes || known < located.nodes.len() {
            return Err(format!(
                "{known} datanodes are known that may have the open block {block}, others may too"
            ));
        }
        match self.cut {
            Some(length) => Ok(length),
            // Its writer has not got as far as that, or never will.
            None if !located.is_begun => Ok(0),
            None => Err(format!("none of {known} datanodes has the open block {block} any more")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockRef, LocatedBlock, Node};
    use ringfs_proto::ids::{BlockId, DatanodeId, StorageId};

    type Answer = Result<ReplicaInfoReplyV1, TransportError>;

    fn replica(state: ReplicaState, visible_length: u64) -> Answer {
        Ok(ReplicaInfoReplyV1 { stamp: Stamp(5), state, visible_length })
    }

    fn refused(code: Code) -> Answer {
        Err(TransportError::refused(address(), WireError::new(code, "no")))
    }

    fn address() -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }

    /// What comes of answers, one from each node of a block.
    fn length(are_all_nodes: bool, is_begun: bool, answers: Vec<Answer>) -> Result<u64, String> {
        let node = |number| Node {
            datanode: DatanodeId([number; 16]),
            storage: StorageId([number; 16]),
            host: "127.0.0.1".to_owned(),
            port: u16::from(number),
            is_stale: false,
        };
        let block = BlockRef { block: BlockId(1), stamp: Stamp(5), length: 0 };
        let nodes = (1..).take(answers.len()).map(node).collect();
        let (offset, is_open, capability) = (0, true, [0; 64]);
        let located =
            LocatedBlock { block, offset, is_open, nodes, are_all_nodes, is_begun, capability, inline: None };
        let mut word = LengthOfOpen::default();
        for answer in answers {
            if let Some(length) = word.hear(address(), block.stamp, answer) {
                return Ok(length);
            }
        }
        word.conclude(&Place::new(located))
    }

    const CUT: ReplicaState = ReplicaState::WaitingForRecovery;
    const OPEN: ReplicaState = ReplicaState::BeingWritten;

    #[test]
    fn one_that_was_open_without_a_break_settles_it() {
        let missing = || refused(Code::BlockMissing);
        assert_eq!(length(false, true, vec![replica(CUT, 3), replica(OPEN, 7), missing()]), Ok(7));
        assert_eq!(length(false, false, vec![replica(ReplicaState::Finalized, 9)]), Ok(9));
    }

    #[test]
    fn the_longest_of_those_that_were_cut_counts_when_all_were_heard() {
        let cut = |length| replica(CUT, length);
        assert_eq!(length(true, true, vec![cut(3), cut(7), refused(Code::BlockMissing)]), Ok(7));
        assert!(length(false, true, vec![cut(3), cut(7)]).is_err(), "one that is not known may have more");
        assert!(length(true, true, vec![cut(3), refused(Code::VolumeFailed)]).is_err());
    }

    #[test]
    fn it_is_empty_only_when_all_say_that_it_was_never_begun() {
        let missing = || refused(Code::BlockMissing);
        assert_eq!(length(true, false, vec![missing(), missing()]), Ok(0));
        assert!(length(false, false, vec![missing(), missing()]).is_err());
        assert!(length(true, true, vec![missing(), missing()]).is_err());
        assert!(length(false, false, vec![]).is_err());
        let old = Ok(ReplicaInfoReplyV1 { stamp: Stamp(4), state: OPEN, visible_length: 9 });
        assert!(length(true, false, vec![missing(), old]).is_err());
    }
}
