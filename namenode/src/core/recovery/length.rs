//! Which length a block gets when its writer is gone, and which replicas take part.
//!
//! No replica that is left out may have bytes that were acknowledged and that the chosen ones lack, as long as one of its
//! kind lives. What a replica proves depends on its life:
//! - finalized: it has all that the writer ever sent;
//! - being written, without a break: it has all that was acknowledged, and perhaps more;
//! - waiting for recovery: a restart cut it to what verifies. After a loss of power that may be less than was
//!   acknowledged, but no less than was synced; so all of these are heard, and the longest has the most.

use std::collections::BTreeMap;

use ringfs_proto::ids::Stamp;
use ringfs_proto::meta::membership::{FencedReplicaV1, ReplicaState};

use crate::blocks::StorageIndex;

/// What a datanode said when it was told to fence a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The replica is fenced.
    Fenced(FencedReplicaV1),
    /// There is no such replica.
    Missing,
    /// The replica is bad.
    Corrupt,
}

/// What is known of a block.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Its stamp: replicas with a lower one do not count.
    pub stamp: Stamp,
    /// What was acknowledged for certain.
    pub acked_length: u64,
    /// Whether there were replicas for certain.
    pub has_stood: bool,
    /// What was heard.
    pub answers: &'a BTreeMap<StorageIndex, Answer>,
    /// Datanodes that may have a replica and may still answer.
    pub waiting: usize,
    /// Datanodes that may have a replica and are lost.
    pub lost: usize,
    /// Whether those that wait have had their time.
    pub is_late: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Wait for more answers.
    Wait,
    /// The block gets this length, on these storages.
    Finish(u64, Vec<StorageIndex>),
    /// Nothing of it was ever written: the block goes.
    Remove,
    /// Nobody who answers has it; somebody who is lost may.
    Missing,
}

/// Decides.
pub fn decide(question: &Question<'_>) -> Verdict {
    let counts = |fenced: &&FencedReplicaV1| {
        let is_kind = matches!(
            fenced.state,
            ReplicaState::Finalized | ReplicaState::BeingWritten | ReplicaState::WaitingForRecovery
        );
        is_kind && fenced.block.stamp >= question.stamp && fenced.block.length >= question.acked_length
    };
    let fenced = question.answers.values().filter_map(|answer| match answer {
        Answer::Fenced(fenced) => Some(fenced),
        Answer::Missing | Answer::Corrupt => None,
    });
    let candidates: Vec<&FencedReplicaV1> = fenced.filter(counts).collect();
    // What is on stable storage somewhere was perhaps acknowledged as such.
    let synced = candidates.iter().map(|fenced| fenced.synced_length).max().unwrap_or(0);
    let lengths = |state| {
        let of_state = candidates.iter().filter(move |fenced| fenced.state == state);
        of_state.map(|fenced| fenced.block.length).filter(move |length| *length >= synced)
    };
    let whole = lengths(ReplicaState::Finalized).max();
    let unbroken = lengths(ReplicaState::BeingWritten).min();
    let broken = lengths(ReplicaState::WaitingForRecovery).max();
    let is_sure = whole.or(unbroken).is_some();
    if question.waiting > 0 && !(question.is_late && is_sure) {
        return Verdict::Wait;
    }
    match whole.or(unbroken).or(broken) {
        Some(0) if question.acked_length == 0 => Verdict::Remove,
        Some(length) => Verdict::Finish(length, participants(question, length)),
        None if is_never_written(question) => Verdict::Remove,
        None => Verdict::Missing,
    }
}

/// The replicas that can have this length: open ones are cut to it, finalized ones must have it.
fn participants(question: &Question<'_>, length: u64) -> Vec<StorageIndex> {
    let fits = |answer: &Answer| match answer {
        Answer::Fenced(FencedReplicaV1 { block, state, .. }) if block.stamp >= question.stamp => {
            match state {
                ReplicaState::Finalized => block.length == length,
                ReplicaState::BeingWritten | ReplicaState::WaitingForRecovery => block.length >= length,
                _ => false,
            }
        }
        _ => false,
    };
    question.answers.iter().filter(|(_, answer)| fits(answer)).map(|(storage, _)| *storage).collect()
}

/// Whether everybody who could have a replica says that there is none.
fn is_never_written(question: &Question<'_>) -> bool {
    let is_none = |answer: &Answer| match answer {
        Answer::Missing => true,
        Answer::Corrupt => false,
        Answer::Fenced(fenced) => fenced.state == ReplicaState::Temporary,
    };
    question.lost == 0
        && question.acked_length == 0
        && !question.has_stood
        && question.answers.values().all(is_none)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringfs_proto::ids::BlockId;
    use ringfs_proto::meta::namespace::BlockRefV1;

    use super::*;

    fn fenced(stamp: u64, length: u64, synced_length: u64, state: ReplicaState) -> Answer {
        let block = BlockRefV1 { block: BlockId(1), stamp: Stamp(stamp), length };
        Answer::Fenced(FencedReplicaV1 { block, state, synced_length, recovery_stamp: Stamp(9) })
    }

    fn open(length: u64) -> Answer {
        fenced(5, length, 0, ReplicaState::BeingWritten)
    }

    fn cut(length: u64) -> Answer {
        fenced(5, length, 0, ReplicaState::WaitingForRecovery)
    }

    fn whole(length: u64) -> Answer {
        fenced(5, length, length, ReplicaState::Finalized)
    }

    fn ask(answers: &[Answer], change: impl FnOnce(&mut Question<'_>)) -> Verdict {
        let answers: BTreeMap<StorageIndex, Answer> = (1..).zip(answers.iter().copied()).collect();
        let mut question = Question {
            stamp: Stamp(5),
            acked_length: 0,
            has_stood: false,
            answers: &answers,
            waiting: 0,
            lost: 0,
            is_late: false,
        };
        change(&mut question);
        decide(&question)
    }

    #[test]
    fn finalized_decide_then_the_shortest_unbroken_then_the_longest_that_was_cut() {
        assert_eq!(ask(&[whole(70), open(80), open(60)], |_| ()), Verdict::Finish(70, vec![1, 2]));
        assert_eq!(ask(&[open(80), open(60), cut(90), cut(10)], |_| ()), Verdict::Finish(60, vec![1, 2, 3]));
        assert_eq!(ask(&[cut(40), cut(60)], |_| ()), Verdict::Finish(60, vec![2]));
    }

    #[test]
    fn old_stamps_and_what_is_shorter_than_acknowledged_or_synced_take_no_part() {
        let old = fenced(4, 90, 0, ReplicaState::Finalized);
        assert_eq!(ask(&[old, open(50)], |_| ()), Verdict::Finish(50, vec![2]));
        assert_eq!(
            ask(&[open(50), open(70)], |question| question.acked_length = 60),
            Verdict::Finish(70, vec![2])
        );
        let synced = fenced(5, 80, 75, ReplicaState::BeingWritten);
        assert_eq!(ask(&[open(50), synced], |_| ()), Verdict::Finish(80, vec![2]));
    }

    #[test]
    fn those_who_may_still_answer_are_waited_for_longer_when_what_is_known_may_be_too_short() {
        assert_eq!(ask(&[open(50)], |question| question.waiting = 1), Verdict::Wait);
        let late = |question: &mut Question<'_>| (question.waiting, question.is_late) = (1, true);
        assert_eq!(ask(&[open(50)], late), Verdict::Finish(50, vec![1]));
        assert_eq!(ask(&[cut(50)], late), Verdict::Wait);
        assert_eq!(ask(&[], late), Verdict::Wait);
        assert_eq!(ask(&[cut(50)], |question| question.lost = 1), Verdict::Finish(50, vec![1]));
    }

    #[test]
    fn a_block_goes_only_when_nobody_can_have_a_byte_of_it() {
        assert_eq!(ask(&[Answer::Missing, Answer::Missing], |_| ()), Verdict::Remove);
        assert_eq!(ask(&[Answer::Missing, open(0)], |_| ()), Verdict::Remove);
        assert_eq!(ask(&[Answer::Missing], |question| question.lost = 1), Verdict::Missing);
        assert_eq!(ask(&[Answer::Missing], |question| question.has_stood = true), Verdict::Missing);
        assert_eq!(ask(&[Answer::Missing], |question| question.acked_length = 1), Verdict::Missing);
        assert_eq!(ask(&[Answer::Missing, Answer::Corrupt], |_| ()), Verdict::Missing);
        assert_eq!(
            ask(&[Answer::Missing, fenced(4, 5, 0, ReplicaState::BeingWritten)], |_| ()),
            Verdict::Missing
        );
    }

    /// A pipeline of three: what each has of an acknowledged length, by what became of it.
    fn replica(acked: u64) -> impl Strategy<Value = Option<Answer>> {
        prop_oneof![
            3 => (acked..acked + 50).prop_map(|length| Some(open(length))),
            // Killed: nothing that was acknowledged is missing.
            2 => (acked..acked + 50).prop_map(|length| Some(cut(length))),
            // Its machine lost power: anything may be missing.
            1 => (0..acked + 50).prop_map(|length| Some(cut(length))),
            1 => Just(None),
        ]
    }

    proptest! {
        #[test]
        fn no_acknowledged_byte_is_given_up_while_somebody_has_it(
            (acked, replicas) in (0..100u64).prop_flat_map(|acked| (Just(acked), prop::collection::vec(replica(acked), 1..4))),
            is_late in any::<bool>(),
        ) {
            let heard: BTreeMap<StorageIndex, Answer> =
                (1..).zip(&replicas).filter_map(|(storage, answer)| Some((storage, (*answer)?))).collect();
            let question = Question {
                stamp: Stamp(5), acked_length: 0, has_stood: true, answers: &heard,
                waiting: replicas.len() - heard.len(), lost: 0, is_late,
            };
            let length = |answer: &Answer| match answer { Answer::Fenced(fenced) => fenced.block.length, _ => 0 };
            if let Verdict::Finish(chosen, participants) = decide(&question) {
                let best = heard.values().map(length).max().unwrap_or(0);
                prop_assert!(chosen >= acked.min(best), "{} of {} acknowledged", chosen, acked);
                prop_assert!(!participants.is_empty());
                prop_assert!(participants.iter().all(|storage| length(&heard[storage]) >= chosen));
            }
        }
    }
}
