//! Commands of a namenode to datanodes, given by the test itself: datanodes in this process, each shard with a port of its own,
//! so that the test chooses who serves a connection. On both engines.

use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use ringfs_datanode::config::EngineChoice;
use ringfs_datanode::engine::{self, Engines};
use ringfs_datanode::machine::SystemMachine;
use ringfs_datanode::node::Node;
use ringfs_datanode::serve::BlockService;
use ringfs_datanode::store::Store;
use ringfs_proto::Code;
use ringfs_proto::capability::{ClusterKey, KEY_BYTES, Mode};
use ringfs_proto::ids::{BlockId, ClusterId, DatanodeId, Stamp};
use ringfs_proto::meta::data::{PipelineNodeV1, RecoverV1, WriteStage};
use ringfs_proto::meta::membership::{
    BeginRecoveryV1, CommandV1, FencedReplicaV1, FinalizedReplicaV1, FinishRecoveryV1, InvalidateV1,
    ReplicaChangeV1, ReplicaState, ReplicaV1, TransferV1, VerifyV1,
};
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_tests::data::Pattern;
use ringfs_tests::pipeline::TestBlock;
use ringfs_tests::wait;
use tempfile::TempDir;

const CLUSTER: ClusterId = ClusterId([1; 16]);
const SHARDS: usize = 2;
const LIMIT: u64 = 1 << 20;
const BLOCK: BlockId = BlockId(70);

/// A datanode without a namenode.
struct TestNode {
    node: Arc<Node>,
    ports: Vec<u16>,
    changes: Vec<ReplicaChangeV1>,
    _engines: Engines,
    _temp: TempDir,
}

fn key() -> ClusterKey {
    ClusterKey::new(1, [9; KEY_BYTES])
}

impl TestNode {
    fn start(choice: EngineChoice, number: u8) -> Self {
        let temp = tempfile::tempdir().expect("temporary directory");
        let machine = Arc::new(SystemMachine);
        let config = ringfs_datanode::Config {
            volumes: vec![temp.path().join("data").into()],
            reserved_bytes: 0,
            engine: choice,
            ..ringfs_datanode::Config::default()
        };
        let store = Store::open(machine, &config.volume_settings(), CLUSTER).expect("a volume");
        let id = DatanodeId([number; 16]);
        let node = Arc::new(Node::new(id, CLUSTER, key(), store, config, SHARDS));
        node.set_clock(1000);
        let bind = |_| TcpListener::bind("127.0.0.1:0").expect("a port");
        let listeners: Vec<TcpListener> = (0..SHARDS).map(bind).collect();
        let port = |listener: &TcpListener| listener.local_addr().expect("bound").port();
        let ports = listeners.iter().map(port).collect();
        let options = engine::Options { choice, pin: false, io_threads: 4 };
        let engines = engine::start(&options, listeners, &BlockService::new(node.clone())).expect("started");
        Self { node, ports, changes: Vec::new(), _engines: engines, _temp: temp }
    }

    /// This node as a part of a pipeline, served by one of its shards.
    fn on(&self, shard: usize) -> PipelineNodeV1 {
        let storage = self.node.store.volumes()[0].storage;
        PipelineNodeV1 {
            datanode: self.node.id,
            storage,
            host: "127.0.0.1".to_owned(),
            port: self.ports[shard],
        }
    }

    fn command(&self, command: CommandV1) {
        self.node.commands.push(command).expect("room");
    }

    fn begin(&self, stamp: Stamp) {
        let (block, storage) = (BLOCK, self.on(0).storage);
        self.command(CommandV1::BeginRecovery(BeginRecoveryV1 { block, storage, recovery_stamp: stamp }));
    }

    fn finish(&self, stamp: Stamp, length: u64) {
        let block = BlockRefV1 { block: BLOCK, stamp, length };
        self.command(CommandV1::FinishRecovery(FinishRecoveryV1 { block, storage: self.on(0).storage }));
    }

    /// Waits until the node reports a change that `wanted` takes; changes before it are forgotten.
    fn reported<T>(&mut self, what: &str, wanted: impl Fn(&ReplicaChangeV1) -> Option<T>) -> T {
        wait::until(what, || {
            self.changes.extend(self.node.store.take_changes().into_iter().map(|(_, change)| change));
            let at = self.changes.iter().position(|change| wanted(change).is_some())?;
            let found = wanted(&self.changes[at]);
            self.changes.drain(..=at);
            found
        })
    }

    fn fenced(&mut self) -> FencedReplicaV1 {
        self.reported("a fenced replica", |change| match change {
            ReplicaChangeV1::Fenced(fenced) => Some(*fenced),
            _ => None,
        })
    }

    fn finalized(&mut self) -> BlockRefV1 {
        self.reported("a finalized replica", |change| match change {
            ReplicaChangeV1::Stored(ReplicaV1 { block, state: ReplicaState::Finalized })
            | ReplicaChangeV1::Finalized(FinalizedReplicaV1 { block, .. }) => Some(*block),
            _ => None,
        })
    }

    fn corrupt(&mut self) -> BlockRefV1 {
        self.reported("a corrupt replica", |change| match change {
            ReplicaChangeV1::Corrupt(block) => Some(*block),
            _ => None,
        })
    }

    fn file(&self) -> std::fs::File {
        let replica = self.node.store.find(BLOCK).expect("a replica");
        let path = self.node.store.path_of(&replica);
        std::fs::OpenOptions::new().read(true).write(true).open(path).expect("its file")
    }

    /// Turns a byte around, as a disk does.
    fn damage(&self, offset: u64) {
        let (file, mut byte) = (self.file(), [0]);
        file.read_exact_at(&mut byte, offset).expect("read");
        file.write_all_at(&[!byte[0]], offset).expect("written");
        file.sync_all().expect("synced");
    }
}

/// A block on these nodes, each served by its first shard unless the test says otherwise.
fn block(nodes: Vec<PipelineNodeV1>) -> TestBlock {
    TestBlock { key: key(), block: BLOCK, stamp: Stamp(10), limit: LIMIT, nodes }
}

fn engines(test: impl Fn(EngineChoice)) {
    for choice in [EngineChoice::Threads, EngineChoice::Glommio] {
        test(choice);
    }
}

/// Where data begins in a file of [`LIMIT`] bytes and chunks of 512.
const DATA_OFFSET: u64 = 64 << 10;

#[test]
fn a_recovery_cuts_the_writer_off_and_says_how_far_it_was() {
    engines(|choice| {
        for shard in 0..SHARDS {
            let mut node = TestNode::start(choice, 1);
            let block = block(vec![node.on(shard), node.on(1 - shard)]);
            let mut old = block.open(&[0], block.stamp, WriteStage::Create).expect("opened");
            old.write(&Pattern { seed: 1 }.bytes(0, 10_000), 3000);
            assert_eq!(
                node.node.written.take(),
                [BLOCK],
                "the namenode hears that the file is being written"
            );
            old.send(&Pattern { seed: 1 }.bytes(10_000, 500), 0).expect("sent");
            node.begin(Stamp(20));
            let fenced = node.fenced();
            assert!((10_000..=10_500).contains(&fenced.block.length), "{fenced:?}");
            assert_eq!((fenced.state, fenced.block.stamp), (ReplicaState::BeingWritten, Stamp(10)));
            assert_eq!((fenced.recovery_stamp, fenced.synced_length), (Stamp(20), 0));
            drop(old.send(&[1; 100], 0));
            while let Ok(ack) = old.ack() {
                assert!(ack.length <= 10_500, "acknowledged after the fence: {ack:?}");
            }
            // A lower one is not answered; the same again is, as it was.
            node.begin(Stamp(15));
            node.begin(Stamp(20));
            assert_eq!(node.fenced(), fenced);
            let lower = WriteStage::Recover(RecoverV1 { old_stamp: Stamp(10), length: 10_000 });
            let (error, _) = block.open(&[1], Stamp(19), lower).expect_err("fenced for more");
            assert_eq!(error.code, Code::StampMismatch);
            node.begin(Stamp(21));
            assert_eq!(node.fenced(), FencedReplicaV1 { recovery_stamp: Stamp(21), ..fenced });
        }
    });
}

#[test]
fn a_recovery_of_nothing_is_answered() {
    let mut node = TestNode::start(EngineChoice::Auto, 1);
    node.begin(Stamp(20));
    let missing = node.reported("a missing replica", |change| match change {
        ReplicaChangeV1::Deleted(block) => Some(*block),
        _ => None,
    });
    assert_eq!((missing.block, missing.length), (BLOCK, 0));
}

#[test]
fn a_fenced_replica_is_given_its_end_once() {
    engines(|choice| {
        let mut node = TestNode::start(choice, 1);
        let block = block(vec![node.on(0)]);
        let mut old = block.open(&[0], block.stamp, WriteStage::Create).expect("opened");
        old.write(&Pattern { seed: 2 }.bytes(0, 15_000), 4000);
        node.finish(Stamp(20), 9_999);
        node.begin(Stamp(20));
        assert_eq!(node.fenced().block.length, 15_000, "without a fence nothing was finished");
        node.finish(Stamp(20), 15_001);
        node.finish(Stamp(19), 9_000);
        node.finish(Stamp(20), 9_999);
        let end = BlockRefV1 { block: BLOCK, stamp: Stamp(20), length: 9_999 };
        assert_eq!(node.finalized(), end);
        node.finish(Stamp(20), 9_999);
        assert_eq!(node.finalized(), end, "the first answer may be lost");
        let bytes = block.read(0, Stamp(20), 0, 9_999).expect("read");
        Pattern { seed: 2 }.check(0, &bytes);
        assert_eq!(block.read(0, Stamp(20), 0, 10_000), Err(Code::OutOfRange));
        // A finalized replica has an end already.
        node.begin(Stamp(30));
        let fenced = node.fenced();
        assert_eq!((fenced.state, fenced.block, fenced.synced_length), (ReplicaState::Finalized, end, 9_999));
        node.finish(Stamp(30), 5_000);
        node.finish(Stamp(30), 9_999);
        assert_eq!(node.finalized(), BlockRefV1 { stamp: Stamp(30), ..end });
        // Its old writer is heard no more, and a new one goes on.
        let stage = WriteStage::Recover(RecoverV1 { old_stamp: Stamp(30), length: 9_999 });
        let mut appended = block.open(&[0], Stamp(31), stage).expect("goes on");
        appended.write(&Pattern { seed: 2 }.bytes(9_999, 5_001), 700);
        appended.finish();
        Pattern { seed: 2 }.check(0, &block.read(0, Stamp(31), 0, 15_000).expect("read"));
    });
}

#[test]
fn a_finalized_replica_is_copied() {
    engines(|choice| {
        for length in [0, 1, 4096, 700_001] {
            let mut nodes = [1, 2, 3].map(|number| TestNode::start(choice, number));
            let block = block(nodes.iter().map(|node| node.on(1)).collect());
            let mut writer = block.open(&[0], block.stamp, WriteStage::Create).expect("opened");
            if length > 0 {
                writer.write(&Pattern { seed: 3 }.bytes(0, length as usize), 100_000);
            }
            writer.finish();
            let wanted = BlockRefV1 { block: BLOCK, stamp: block.stamp, length };
            nodes[0].command(CommandV1::Transfer(Box::new(TransferV1 {
                block: wanted,
                cut_from: None,
                capability: block.capability(block.stamp, Mode::Write),
                targets: block.nodes[1..].to_vec(),
            })));
            assert_eq!(nodes[1].finalized(), wanted);
            assert_eq!(nodes[2].finalized(), wanted);
            if length > 0 {
                for node in [1, 2] {
                    Pattern { seed: 3 }.check(0, &block.read(node, block.stamp, 0, length).expect("read"));
                }
            }
        }
    });
}

#[test]
fn bad_bytes_are_not_copied_and_their_source_is_found() {
    engines(|choice| {
        let mut nodes = [1, 2].map(|number| TestNode::start(choice, number));
        let block = block(nodes.iter().map(|node| node.on(0)).collect());
        let mut writer = block.open(&[0], block.stamp, WriteStage::Create).expect("opened");
        writer.write(&Pattern { seed: 4 }.bytes(0, 600_000), 100_000);
        writer.finish();
        nodes[0].damage(DATA_OFFSET + 555_555);
        let wanted = BlockRefV1 { block: BLOCK, stamp: block.stamp, length: 600_000 };
        nodes[0].command(CommandV1::Transfer(Box::new(TransferV1 {
            block: wanted,
            cut_from: None,
            capability: block.capability(block.stamp, Mode::Write),
            targets: block.nodes[1..].to_vec(),
        })));
        assert_eq!(nodes[0].corrupt(), wanted);
        assert_eq!(block.info(1).expect_err("nothing was kept").code, Code::BlockMissing);
        assert_eq!(block.read(0, block.stamp, 0, 10), Err(Code::BlockCorrupt), "it is served no more");
    });
}

#[test]
fn damage_is_found_when_the_namenode_asks() {
    let mut node = TestNode::start(EngineChoice::Auto, 1);
    let block = block(vec![node.on(0)]);
    let mut writer = block.open(&[0], block.stamp, WriteStage::Create).expect("opened");
    writer.write(&Pattern { seed: 4 }.bytes(0, 300_123), 100_000);
    writer.finish();
    let verify =
        CommandV1::Verify(VerifyV1 { storage: node.on(0).storage, blocks: vec![BLOCK, BlockId(99)] });
    node.command(verify.clone());
    node.damage(DATA_OFFSET + 300_122);
    node.command(verify);
    assert_eq!(node.corrupt().length, 300_123);
}

#[test]
fn a_writer_that_is_late_is_refused_where_a_recovery_found_nothing() {
    engines(|choice| {
        let mut node = TestNode::start(choice, 1);
        let block = block(vec![node.on(0)]);
        node.begin(Stamp(12));
        node.reported("that there is none", |change| {
            matches!(change, ReplicaChangeV1::Deleted(_)).then_some(())
        });
        for stamp in [block.stamp, Stamp(11)] {
            let late = block.open(&[0], stamp, WriteStage::Create).map(drop).expect_err("refused");
            assert_eq!(late.0.code, Code::StampMismatch, "{}", late.0);
        }
        block.open(&[0], Stamp(12), WriteStage::Create).expect("given out after it");
    });
}

#[test]
fn a_replica_that_is_deleted_while_it_is_written_is_gone() {
    engines(|choice| {
        for shard in 0..SHARDS {
            let mut node = TestNode::start(choice, 1);
            let block = block(vec![node.on(shard)]);
            let mut writer = block.open(&[0], block.stamp, WriteStage::Create).expect("opened");
            writer.write(&Pattern { seed: 5 }.bytes(0, 50_000), 20_000);
            let file = node.file();
            let replicas = vec![BlockRefV1 { block: BLOCK, stamp: block.stamp, length: 0 }];
            node.command(CommandV1::Invalidate(InvalidateV1 { storage: node.on(0).storage, replicas }));
            node.reported("a deleted replica", |change| {
                matches!(change, ReplicaChangeV1::Deleted(_)).then_some(())
            });
            // Its writer is cut off, and told why unless the answer is lost with the connection.
            assert!(writer.ack().map_or(true, |ack| ack.code == Code::StampMismatch as u16));
            assert!(writer.ack().is_err());
            assert_eq!(block.info(0).expect_err("gone").code, Code::BlockMissing);
            let links = std::os::unix::fs::MetadataExt::nlink(&file.metadata().expect("metadata"));
            assert_eq!(links, 0, "its file is gone");
            let again = block.open(&[0], Stamp(11), WriteStage::Create);
            again.expect("the block may come again").write(&[1; 1000], 1000);
        }
    });
}
