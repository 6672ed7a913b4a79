//! Datanodes that carry out what they are told, on disks made of a map.

use std::collections::BTreeMap;

use ringfs_proto::ids::{BlockId, StorageId};
use ringfs_proto::meta::membership::{CommandV1, ReplicaChangeV1, ReplicaV1, TransferV1};
use ringfs_proto::meta::namespace::{BlockRefV1, SetReplicationRequestV1};

use super::cluster::*;
use crate::calls::{Reply, Request};
use crate::config::Config;

/// Between two heartbeats.
const BEAT_MS: u64 = 1000;

/// A replica on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDisk {
    pub block: BlockRefV1,
    pub is_good: bool,
}

/// A datanode and its disk.
pub struct Peer {
    pub number: u8,
    pub node: Node,
    pub is_up: bool,
    pub disk: BTreeMap<BlockId, OnDisk>,
}

/// A namenode and its datanodes.
pub struct Fleet {
    pub cluster: Cluster,
    pub peers: Vec<Peer>,
    /// Commands that were carried out.
    pub transfers: Vec<(u8, TransferV1)>,
    pub deletions: Vec<(u8, BlockId)>,
    pub verifications: Vec<(u8, BlockId)>,
    /// Whether copies arrive.
    pub copies_arrive: bool,
}

impl Fleet {
    /// `count` datanodes, and a namenode that has been up for long enough to copy.
    pub fn new(config: Config, count: u8) -> Self {
        let mut fleet = Self {
            cluster: Cluster::new(config),
            peers: Vec::new(),
            transfers: Vec::new(),
            deletions: Vec::new(),
            verifications: Vec::new(),
            copies_arrive: true,
        };
        (1..=count).for_each(|number| fleet.add(number));
        fleet.beats(31);
        fleet
    }

    pub fn add(&mut self, number: u8) {
        let node = self.cluster.join(number);
        self.peers.push(Peer { number, node, is_up: true, disk: BTreeMap::new() });
    }

    /// Peers by position.
    pub fn peer(&mut self, at: usize) -> &mut Peer {
        &mut self.peers[at]
    }

    /// A heartbeat of everyone who is up, and all that follows from it.
    pub fn beat(&mut self) {
        self.cluster.pass(BEAT_MS);
        for at in 0..self.peers.len() {
            if self.peers[at].is_up {
                let node = self.peers[at].node.clone();
                match self.cluster.heartbeat(&node) {
                    Ok(commands) => commands.into_iter().for_each(|command| self.obey(at, command)),
                    Err(_) => self.start(at),
                }
            }
        }
    }

    pub fn beats(&mut self, count: usize) {
        (0..count).for_each(|_| self.beat());
    }

    fn obey(&mut self, at: usize, command: CommandV1) {
        let number = self.peers[at].number;
        match command {
            CommandV1::Invalidate(invalidate) => {
                for replica in invalidate.replicas {
                    self.deletions.push((number, replica.block));
                    let has = self.peers[at].disk.get(&replica.block);
                    if has.is_some_and(|has| has.block.stamp <= replica.stamp) {
                        self.peers[at].disk.remove(&replica.block);
                    }
                    self.tell(at, ReplicaChangeV1::Deleted(replica));
                }
            }
            CommandV1::Transfer(transfer) => {
                self.transfers.push((number, *transfer.clone()));
                if self.copies_arrive {
                    self.transfer(at, &transfer);
                }
            }
            CommandV1::Verify(verify) => {
                for block in verify.blocks {
                    self.verifications.push((number, block));
                    let bad = self.peers[at].disk.get(&block).filter(|has| !has.is_good).map(|has| has.block);
                    if let Some(bad) = bad {
                        self.tell(at, ReplicaChangeV1::Corrupt(bad));
                    }
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn transfer(&mut self, source: usize, transfer: &TransferV1) {
        let from = transfer.cut_from.unwrap_or(transfer.block);
        let Some(has) = self.peers[source].disk.get(&from.block).copied() else { return };
        if !has.is_good {
            return self.tell(source, ReplicaChangeV1::Corrupt(has.block));
        }
        for target in &transfer.targets {
            let at = self.at_of(target.storage);
            let block = transfer.block;
            let has_good = self.peers[at].disk.get(&block.block).is_some_and(|has| has.is_good);
            if !self.peers[at].is_up || has_good {
                return;
            }
            self.peers[at].disk.insert(block.block, OnDisk { block, is_good: true });
            self.tell(at, ReplicaChangeV1::Stored(finalized(block)));
        }
    }

    fn at_of(&self, storage: StorageId) -> usize {
        self.peers.iter().position(|peer| peer.node.storage == storage).expect("a peer")
    }

    pub fn tell(&mut self, at: usize, change: ReplicaChangeV1) {
        // One that must register again does so with its next heartbeat.
        let _unregistered = self.cluster.increment(&mut self.peers[at].node, &[change]);
    }

    /// The process of a datanode dies.
    pub fn kill(&mut self, at: usize) {
        self.peers[at].is_up = false;
        let connection = self.peers[at].node.caller.connection;
        self.cluster.core.disconnected(connection);
    }

    /// It is back, as are all replicas on its disk.
    pub fn start(&mut self, at: usize) {
        self.register(at);
        self.report(at);
    }

    /// It is back, and has not reported yet.
    pub fn register(&mut self, at: usize) {
        let connection = self.peers[at].node.caller.connection;
        self.cluster.core.disconnected(connection);
        let peer = &mut self.peers[at];
        let sequence = peer.node.sequence;
        peer.node = Node { sequence, ..self.cluster.register(peer.number).expect("registered") };
        peer.is_up = true;
    }

    pub fn report(&mut self, at: usize) {
        let peer = &mut self.peers[at];
        let (good, bad): (Vec<OnDisk>, Vec<OnDisk>) = peer.disk.values().partition(|has| has.is_good);
        let replicas: Vec<ReplicaV1> = good.iter().map(|has| finalized(has.block)).collect();
        self.cluster.report(&mut peer.node, &replicas).expect("reported");
        bad.iter().for_each(|has| self.tell(at, ReplicaChangeV1::Corrupt(has.block)));
    }

    /// A replica goes bad, and its datanode notices.
    pub fn spoil(&mut self, at: usize, block: BlockId) {
        self.spoil_unnoticed(at, block);
        let bad = self.peers[at].disk[&block].block;
        self.tell(at, ReplicaChangeV1::Corrupt(bad));
    }

    pub fn spoil_unnoticed(&mut self, at: usize, block: BlockId) {
        self.peers[at].disk.get_mut(&block).expect("a replica").is_good = false;
    }

    /// A closed file of one block, on the datanodes that it was placed on.
    pub fn write(&mut self, path: &str, replication: u16) -> BlockRefV1 {
        let writer = self.cluster.writer();
        let request = ringfs_proto::meta::namespace::CreateRequestV1 { replication, ..create(path) };
        let Ok(Reply::Create(reply)) = self.cluster.ask(&writer, Request::Create(request)) else {
            panic!("create {path}");
        };
        let inode = reply.status.inode;
        let located = self.cluster.add_block(&writer, inode, None).expect("added");
        let block = written(&located, 10);
        for node in &located.nodes {
            let at = self.at_of(node.storage);
            self.peers[at].disk.insert(block.block, OnDisk { block, is_good: true });
            self.tell(at, ReplicaChangeV1::Stored(finalized(block)));
        }
        self.cluster.ask(&writer, complete(inode, Some(block))).expect("closed");
        block
    }

    pub fn set_replication(&mut self, path: &str, replication: u16) {
        let writer = self.cluster.writer();
        let request = SetReplicationRequestV1 { path: path.to_owned(), replication };
        self.cluster.ask(&writer, Request::SetReplication(request)).expect("set");
    }

    /// Positions of the datanodes with a good replica on their disks.
    pub fn holders(&self, block: BlockId) -> Vec<usize> {
        let has = |peer: &Peer| peer.disk.get(&block).is_some_and(|has| has.is_good);
        (0..self.peers.len()).filter(|at| has(&self.peers[*at])).collect()
    }

    /// As [`Fleet::holders`], of those that are up.
    pub fn live_holders(&self, block: BlockId) -> Vec<usize> {
        self.holders(block).into_iter().filter(|at| self.peers[*at].is_up).collect()
    }
}
