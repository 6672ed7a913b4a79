//! Whatever reports come in whatever order: what the namenode knows in the end is what the datanode has.

use std::collections::BTreeMap;

use proptest::prelude::*;
use ringfs_proto::meta::membership::{ReplicaChangeV1, ReplicaV1};
use ringfs_proto::meta::namespace::BlockRefV1;

use super::cluster::*;

const FILES: usize = 5;

#[derive(Debug, Clone)]
enum Step {
    Store(usize),
    Delete(usize),
    Spoil(usize),
    /// Sends the last incremental report again.
    Repeat,
    /// Begins a full report with so many replicas a page; one that was arriving is left half done.
    BeginReport(usize),
    NextPage,
    Rejoin,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..FILES).prop_map(Step::Store),
        3 => (0..FILES).prop_map(Step::Delete),
        1 => (0..FILES).prop_map(Step::Spoil),
        1 => Just(Step::Repeat),
        2 => (1..3usize).prop_map(Step::BeginReport),
        4 => Just(Step::NextPage),
        1 => Just(Step::Rejoin),
    ]
}

/// A datanode that knows what it has.
struct Disk {
    cluster: Cluster,
    node: Node,
    blocks: Vec<BlockRefV1>,
    /// What it has, and whether that is good.
    replicas: BTreeMap<usize, bool>,
    last_change: Option<(u64, ReplicaChangeV1)>,
    report: Option<(u64, u32, Vec<Vec<ReplicaV1>>)>,
}

impl Disk {
    fn new() -> Self {
        let (mut cluster, mut nodes) = Cluster::with_nodes(config(), 1);
        let blocks = (0..FILES).map(|file| cluster.write(&format!("/{file}"), &mut nodes)).collect();
        let replicas = (0..FILES).map(|file| (file, true)).collect();
        Self { cluster, node: nodes.remove(0), blocks, replicas, last_change: None, report: None }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Store(file) => {
                self.replicas.insert(file, true);
                self.change(ReplicaChangeV1::Stored(finalized(self.blocks[file])));
            }
            Step::Delete(file) => {
                self.replicas.remove(&file);
                self.change(ReplicaChangeV1::Deleted(self.blocks[file]));
            }
            Step::Spoil(file) if self.replicas.contains_key(&file) => {
                self.replicas.insert(file, false);
                self.change(ReplicaChangeV1::Corrupt(self.blocks[file]));
            }
            Step::Spoil(_) => {}
            Step::Repeat => {
                if let Some((sequence, change)) = self.last_change {
                    self.cluster.increment_at(&self.node, sequence, &[change]).expect("acknowledged");
                }
            }
            Step::BeginReport(per_page) => self.begin_report(per_page),
            Step::NextPage => self.next_page(),
            Step::Rejoin => self.rejoin(),
        }
    }

    fn change(&mut self, change: ReplicaChangeV1) {
        self.cluster.increment(&mut self.node, &[change]).expect("reported");
        self.last_change = Some((self.node.sequence, change));
    }

    fn begin_report(&mut self, per_page: usize) {
        self.node.sequence += 1;
        let good = self.replicas.iter().filter(|(_, is_good)| **is_good);
        let good: Vec<ReplicaV1> = good.map(|(file, _)| finalized(self.blocks[*file])).collect();
        let mut pages: Vec<Vec<ReplicaV1>> = good.chunks(per_page).map(<[_]>::to_vec).collect();
        if pages.is_empty() {
            pages.push(Vec::new());
        }
        pages.reverse();
        self.report = Some((self.node.sequence, 0, pages));
        self.next_page();
    }

    fn next_page(&mut self) {
        let Some((sequence, page, mut pages)) = self.report.take() else { return };
        let replicas = pages.pop().expect("a page is left");
        self.cluster.page(&self.node, sequence, page, pages.is_empty(), &replicas).expect("taken");
        if pages.is_empty() {
            // A full report names good replicas only: the others follow.
            let spoilt: Vec<usize> =
                self.replicas.iter().filter(|(_, is_good)| !**is_good).map(|(file, _)| *file).collect();
            spoilt.into_iter().for_each(|file| self.change(ReplicaChangeV1::Corrupt(self.blocks[file])));
        } else {
            self.report = Some((sequence, page + 1, pages));
        }
    }

    fn rejoin(&mut self) {
        let sequence = self.node.sequence;
        self.cluster.core.disconnected(self.node.caller.connection);
        self.node = Node { sequence, ..self.cluster.register(1).expect("joined again") };
        self.last_change = None;
        self.begin_report(2);
    }

    fn is_read(&mut self, file: usize) -> bool {
        !self.cluster.readers_go_to(&format!("/{file}")).is_empty()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_block_map_ends_as_the_disk(steps in prop::collection::vec(step(), 0..40)) {
        let mut disk = Disk::new();
        for step in &steps {
            disk.take(step);
        }
        while disk.report.is_some() {
            disk.next_page();
        }
        let good = disk.replicas.values().filter(|is_good| **is_good).count();
        for file in 0..FILES {
            // A bad replica is offered where there is no other: what verifies of it can be read.
            prop_assert_eq!(disk.is_read(file), disk.replicas.contains_key(&file), "file {}", file);
        }
        let stats = disk.cluster.stats();
        prop_assert_eq!(stats.missing_blocks, (FILES - good) as u64);
        prop_assert_eq!(stats.corrupt_blocks, (disk.replicas.len() - good) as u64);
    }
}
