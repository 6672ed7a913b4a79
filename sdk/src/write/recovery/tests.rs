use proptest::prelude::*;
use ringfs_proto::ids::{BlockId, StorageId};

use super::*;

fn node(number: u8) -> Node {
    let (datanode, storage) = (DatanodeId([number; 16]), StorageId([number; 16]));
    Node { datanode, storage, host: "192.0.2.1".to_owned(), port: u16::from(number), is_stale: false }
}

fn nodes(numbers: &[u8]) -> Vec<Node> {
    numbers.iter().copied().map(node).collect()
}

fn numbers(nodes: &[Node]) -> Vec<u16> {
    nodes.iter().map(|node| node.port).collect()
}

fn recovery(policy: ReplacePolicy, best_effort: bool, members: &[u8]) -> Recovery {
    let block = BlockRef { block: BlockId(1), stamp: Stamp(10), length: 500 };
    let wishes = Wishes { policy, best_effort, replication: 3, is_flushed: true };
    Recovery::new(block, nodes(members), wishes)
}

const UNREACHABLE: Failure = Failure::Unreachable;
const CAPABILITY: CapabilityBytes = [1; 64];

#[test]
fn without_replacement_the_rest_goes_on_under_a_new_stamp() {
    let mut recovery = recovery(ReplacePolicy::Never, false, &[1, 2, 3]);
    recovery.node_failed(Some(1), UNREACHABLE);
    assert_eq!(recovery.next(), Step::NewStamp);
    recovery.stamped(Stamp(10), Stamp(11), CAPABILITY);
    assert_eq!(recovery.next(), Step::Open { stamp: Stamp(11), capability: CAPABILITY });
    recovery.opened();
    assert_eq!(recovery.next(), Step::Update { stamp: Stamp(11) });
    assert_eq!(recovery.block().stamp, Stamp(10), "until the namenode knows");
    recovery.updated();
    assert_eq!(recovery.next(), Step::Done);
    let standing = recovery.standing().expect("done");
    assert_eq!((standing.block.stamp, numbers(&standing.nodes)), (Stamp(11), vec![1, 3]));
}

#[test]
fn a_new_node_gets_what_was_acknowledged_before_it_joins() {
    let mut recovery = recovery(ReplacePolicy::Default, false, &[1, 2, 3]);
    recovery.node_failed(Some(0), UNREACHABLE);
    assert_eq!(recovery.next(), Step::NewStamp, "may this writer go on?");
    recovery.stamped(Stamp(10), Stamp(11), CAPABILITY);
    assert_eq!(recovery.next(), Step::AddNodes { count: 1 });
    assert_eq!(recovery.failed(), [node(1).datanode]);
    recovery.added(nodes(&[4]), CAPABILITY).expect("one more");
    assert!(matches!(recovery.next(), Step::Transfer { source, .. } if source == node(2)));
    // A source that refuses stays in the pipeline; one that does not answer is dropped.
    recovery.transferred(Err(Failure::Refused(Code::Busy))).expect("another source");
    assert!(matches!(recovery.next(), Step::Transfer { source, .. } if source == node(3)));
    recovery.transferred(Ok(())).expect("copied");
    let open = Step::Open { stamp: Stamp(11), capability: CAPABILITY };
    assert_eq!((recovery.next(), numbers(recovery.nodes())), (open, vec![2, 3, 4]));
}

#[test]
fn targets_that_fail_are_replaced_by_others_within_bounds() {
    let mut recovery = recovery(ReplacePolicy::Always, true, &[1, 2]);
    let mut named = 3;
    recovery.stamped(Stamp(10), Stamp(11), CAPABILITY);
    while recovery.next() == (Step::AddNodes { count: 1 }) {
        recovery.added(nodes(&[named]), CAPABILITY).expect("best effort");
        recovery.transferred(Err(Failure::Refused(Code::PipelineFailed))).expect("best effort");
        named += 1;
    }
    assert_eq!((usize::from(named) - 3, recovery.failed().len()), (REPLACEMENTS_MAX, REPLACEMENTS_MAX));
    let open = Step::Open { stamp: Stamp(11), capability: CAPABILITY };
    assert_eq!((recovery.next(), numbers(recovery.nodes())), (open, vec![1, 2]));
}

#[test]
fn without_best_effort_a_missing_replacement_is_an_error() {
    for named in [vec![], nodes(&[2])] {
        let mut strict = recovery(ReplacePolicy::Always, false, &[1, 2]);
        assert_eq!(strict.added(named.clone(), CAPABILITY), Err(NoReplacement { left: 2 }));
        let mut lenient = recovery(ReplacePolicy::Always, true, &[1, 2]);
        lenient.stamped(Stamp(10), Stamp(11), CAPABILITY);
        assert_eq!(lenient.added(named, CAPABILITY), Ok(()));
        assert_eq!(lenient.next(), Step::Open { stamp: Stamp(11), capability: CAPABILITY });
    }
}

#[test]
fn nodes_that_were_unreachable_are_asked_again_and_those_without_the_bytes_are_not() {
    let mut recovery = recovery(ReplacePolicy::Never, true, &[1, 2]);
    recovery.node_failed(Some(1), Failure::Refused(Code::OutOfRange));
    recovery.node_failed(None, UNREACHABLE);
    assert_eq!(recovery.next(), Step::Wait);
    recovery.waited(&[]);
    assert_eq!((recovery.next(), numbers(recovery.nodes())), (Step::NewStamp, vec![1]));
    recovery.node_failed(Some(0), Failure::Refused(Code::BlockMissing));
    assert_eq!(recovery.next(), Step::Lost);
}

#[test]
fn a_node_that_comes_back_elsewhere_is_found_there() {
    let mut recovery = recovery(ReplacePolicy::Never, true, &[1, 2]);
    recovery.node_failed(Some(1), UNREACHABLE);
    recovery.node_failed(Some(0), UNREACHABLE);
    assert_eq!(recovery.next(), Step::Wait);
    let moved = Node { port: 77, ..node(2) };
    let other_storage = Node { port: 88, storage: StorageId([9; 16]), ..node(1) };
    recovery.waited(&[moved, other_storage]);
    assert_eq!(numbers(recovery.nodes()), [77, 1]);
}

#[test]
fn a_node_that_knows_a_later_stamp_is_kept_and_a_later_one_is_asked_for() {
    let mut recovery = recovery(ReplacePolicy::Never, true, &[1, 2]);
    for fence in 0..=FENCES_MAX as u64 {
        assert_eq!((recovery.next(), numbers(recovery.nodes())), (Step::NewStamp, vec![1, 2]));
        recovery.stamped(Stamp(20 + fence), Stamp(30 + fence), CAPABILITY);
        recovery.node_failed(Some(1), Failure::Refused(Code::StampMismatch));
    }
    assert_eq!(numbers(recovery.nodes()), [1], "it will never take one");
}

/// What the world does at a step.
#[derive(Debug, Clone, Copy)]
enum Turn {
    Succeeds,
    NodeFails(usize, Failure),
    Nobody,
}

fn turn() -> impl Strategy<Value = Turn> {
    let failure = prop_oneof![
        Just(Failure::Unreachable),
        Just(Failure::Refused(Code::StampMismatch)),
        Just(Failure::Refused(Code::BlockMissing)),
        Just(Failure::Refused(Code::PipelineFailed)),
    ];
    prop_oneof![
        3 => Just(Turn::Succeeds),
        2 => (0usize..4, failure).prop_map(|(index, failure)| Turn::NodeFails(index, failure)),
        1 => Just(Turn::Nobody),
    ]
}

fn policy() -> impl Strategy<Value = ReplacePolicy> {
    prop_oneof![Just(ReplacePolicy::Never), Just(ReplacePolicy::Default), Just(ReplacePolicy::Always)]
}

/// Datanodes, and what each holds.
#[derive(Debug)]
struct World {
    /// Nodes that hold the acknowledged bytes.
    holders: Vec<u16>,
    open: Vec<(u16, Stamp)>,
    stamp: Stamp,
    named: u8,
    steps: usize,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever fails on the way: a pipeline that stands has only nodes that hold what was acknowledged, all of them open
    /// under one stamp that is newer than any before, and it comes to an end once the world is kind.
    #[test]
    fn a_pipeline_that_stands_holds_what_was_acknowledged(
        policy in policy(), best_effort in any::<bool>(), is_flushed in any::<bool>(),
        turns in proptest::collection::vec(turn(), 0..60),
    ) {
        let block = BlockRef { block: BlockId(1), stamp: Stamp(10), length: 500 };
        let wishes = Wishes { policy, best_effort, replication: 3, is_flushed };
        let mut recovery = Recovery::new(block, nodes(&[1, 2, 3]), wishes);
        let mut world = World { holders: vec![1, 2, 3], open: vec![], stamp: Stamp(10), named: 4, steps: 0 };
        let limit = turns.len() + 40;
        let mut turns = turns.into_iter();
        recovery.node_failed(Some(0), UNREACHABLE);
        while let Some(is_over) = world.step(&mut recovery, turns.next().unwrap_or(Turn::Succeeds)) {
            prop_assert!(world.steps <= limit, "it comes to an end: {recovery:?}");
            if !is_over {
                continue;
            }
            let standing = recovery.standing().expect("done");
            prop_assert!(!standing.nodes.is_empty());
            prop_assert_eq!(standing.block.length, 500);
            for port in numbers(&standing.nodes) {
                prop_assert!(world.holders.contains(&port), "{port} holds what was acknowledged");
                prop_assert!(world.open.contains(&(port, standing.block.stamp)), "{port} is open");
            }
            let mut distinct = numbers(&standing.nodes);
            distinct.dedup();
            prop_assert_eq!(distinct.len(), standing.nodes.len());
            break;
        }
    }
}

impl World {
    /// Carries out a step. Whether the pipeline stands; `None` when the recovery gave up.
    fn step(&mut self, recovery: &mut Recovery, turn: Turn) -> Option<bool> {
        self.steps += 1;
        let next = recovery.next();
        let is_open = matches!(next, Step::Open { .. });
        match (next, turn) {
            (Step::AddNodes { count }, Turn::Succeeds) => {
                let numbers: Vec<u8> = (0..count as u8).map(|index| self.named + index).collect();
                self.named += count as u8;
                recovery.added(nodes(&numbers), CAPABILITY).ok()?;
            }
            (Step::AddNodes { .. }, _) => recovery.added(Vec::new(), CAPABILITY).ok()?,
            (Step::Transfer { source, targets, .. }, turn) => {
                assert!(self.holders.contains(&source.port), "a source holds what it copies");
                let result = match turn {
                    Turn::Succeeds => {
                        self.holders.extend(numbers(&targets));
                        Ok(())
                    }
                    Turn::NodeFails(_, failure) => Err(failure),
                    Turn::Nobody => Err(UNREACHABLE),
                };
                recovery.transferred(result).ok()?;
            }
            (Step::NewStamp, _) => {
                self.stamp = Stamp(self.stamp.0 + 1);
                recovery.stamped(recovery.block().stamp, self.stamp, CAPABILITY);
            }
            (Step::Open { .. } | Step::Update { .. }, Turn::NodeFails(index, failure)) if is_open => {
                recovery.node_failed(Some(index), failure);
            }
            (Step::Open { .. }, Turn::Nobody) => recovery.node_failed(None, UNREACHABLE),
            (Step::Open { stamp, .. }, _) => {
                self.open.extend(recovery.nodes().iter().map(|node| (node.port, stamp)));
                recovery.opened();
            }
            (Step::Update { stamp }, _) => {
                assert!(stamp == self.stamp, "the newest stamp");
                recovery.updated();
            }
            (Step::Wait, Turn::Nobody) | (Step::Lost, _) => return None,
            (Step::Wait, _) => recovery.waited(&[]),
            (Step::Done, _) => return Some(true),
        }
        Some(false)
    }
}
