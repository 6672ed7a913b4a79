//! Whatever fails: no good replica is deleted that is needed, and in the end each block has its replicas.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringfs_proto::ids::BlockId;

use super::super::cluster::*;
use super::super::fleet::Fleet;
use crate::config::Config;

const PEERS: usize = 6;
const FILES: usize = 6;

#[derive(Debug, Clone)]
enum Step {
    Beat(usize),
    Kill(usize),
    Start(usize),
    /// Registers; the report comes with a later step, or never.
    Register(usize),
    Report(usize),
    /// The disk is replaced by an empty one.
    Wipe(usize),
    Spoil(usize, usize),
    SetReplication(usize, u16),
    LoseCopies(bool),
    Stall,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..12usize).prop_map(Step::Beat),
        3 => (0..PEERS).prop_map(Step::Kill),
        4 => (0..PEERS).prop_map(Step::Start),
        1 => (0..PEERS).prop_map(Step::Register),
        1 => (0..PEERS).prop_map(Step::Report),
        1 => (0..PEERS).prop_map(Step::Wipe),
        3 => (0..PEERS, 0..FILES).prop_map(|(peer, file)| Step::Spoil(peer, file)),
        3 => (0..FILES, 1..5u16).prop_map(|(file, replication)| Step::SetReplication(file, replication)),
        1 => any::<bool>().prop_map(Step::LoseCopies),
        1 => Just(Step::Stall),
    ]
}

struct World {
    fleet: Fleet,
    files: Vec<(BlockId, u16)>,
}

impl World {
    fn new() -> Self {
        let quick = Config {
            datanode_stale_ms: 3000,
            datanode_dead_ms: 6000,
            mass_failure_wait_ms: 10_000,
            replication_timeout_ms: 8000,
            ..config()
        };
        let mut fleet = Fleet::new(quick, PEERS as u8);
        let files = (0..FILES).map(|file| (fleet.write(&format!("/{file}"), 3).block, 3)).collect();
        Self { fleet, files }
    }

    /// Good replicas by block, on disks of datanodes that are up or down.
    fn good(&self) -> BTreeMap<BlockId, usize> {
        self.files.iter().map(|(block, _)| (*block, self.fleet.holders(*block).len())).collect()
    }

    fn take(&mut self, step: &Step) {
        let fleet = &mut self.fleet;
        match *step {
            Step::Beat(count) => {
                for _ in 0..count {
                    self.beat();
                }
            }
            Step::Kill(at) => fleet.kill(at),
            Step::Start(at) => fleet.start(at),
            Step::Register(at) => fleet.register(at),
            Step::Report(at) if fleet.peers[at].is_up => {
                if fleet.cluster.heartbeat(&fleet.peers[at].node.clone()).is_ok() {
                    fleet.report(at);
                }
            }
            Step::Report(_) => {}
            Step::Wipe(at) => {
                fleet.kill(at);
                fleet.peer(at).disk.clear();
            }
            Step::Spoil(at, file) => {
                let block = self.files[file].0;
                if fleet.peers[at].is_up && fleet.peers[at].disk.contains_key(&block) {
                    fleet.spoil(at, block);
                }
            }
            Step::SetReplication(file, replication) => {
                fleet.set_replication(&format!("/{file}"), replication);
                self.files[file].1 = replication;
            }
            Step::LoseCopies(lost) => fleet.copies_arrive = !lost,
            Step::Stall => fleet.cluster.stall(20_000),
        }
    }

    /// A heartbeat: what it deletes is never the last, and never leaves fewer than are wanted on datanodes that are up.
    fn beat(&mut self) {
        let before = self.good();
        self.fleet.beat();
        for (block, wanted) in &self.files {
            let left = self.fleet.holders(*block).len();
            let fell = left < before[block];
            assert!(!fell || left >= usize::from(*wanted), "block {block}: {left} of {wanted} are left");
        }
    }

    fn settle(&mut self) {
        self.fleet.copies_arrive = true;
        for at in 0..PEERS {
            self.fleet.start(at);
        }
        for _ in 0..60 {
            self.beat();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn good_replicas_are_kept_and_in_the_end_complete(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        let before = world.good();
        world.settle();
        for (file, (block, wanted)) in world.files.clone().into_iter().enumerate() {
            let good = world.fleet.live_holders(block).len();
            let expected = if before[&block] == 0 { 0 } else { usize::from(wanted) };
            prop_assert_eq!(good, expected, "file {} of block {}", file, block);
        }
        let lost = before.values().filter(|good| **good == 0).count() as u64;
        let stats = world.fleet.cluster.stats();
        prop_assert_eq!(stats.missing_blocks, lost);
        prop_assert_eq!((stats.under_replicated_blocks, stats.pending_replication_blocks), (0, 0));
        prop_assert_eq!((stats.excess_replicas, stats.pending_deletion_blocks), (0, 0));
    }
}
