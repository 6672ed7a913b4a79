//! Pipelines that fail and go on, on real datanodes: packets by hand, on both engines.

use nix::sys::signal::Signal;
use ringfs_proto::Code;
use ringfs_proto::ids::Stamp;
use ringfs_proto::meta::data::{RecoverV1, WriteStage, packet_flags};
use ringfs_proto::meta::membership::ReplicaState;
use ringfs_tests::cluster::{Cluster, Options};
use ringfs_tests::data::Pattern;
use ringfs_tests::pipeline::{RawPipeline, TestBlock};
use ringfs_tests::wait;

const LIMIT: u64 = 4 << 20;
const ENGINES: [&str; 2] = ["threads", "glommio"];

fn cluster(engine: &'static str, datanodes: usize) -> Cluster {
    Cluster::start(&Options { datanodes, engine, ..Options::default() })
}

fn recover(old_stamp: Stamp, length: u64) -> WriteStage {
    WriteStage::Recover(RecoverV1 { old_stamp, length })
}

fn next(stamp: Stamp, by: u64) -> Stamp {
    Stamp(stamp.0 + by)
}

/// Bytes of a pattern on a pipeline, from where it is.
fn write(pipeline: &mut RawPipeline, seed: u64, until: u64, cut: usize) {
    let data = Pattern { seed }.bytes(pipeline.offset, (until - pipeline.offset) as usize);
    pipeline.write(&data, cut);
}

fn check(block: &TestBlock, node: usize, stamp: Stamp, seed: u64, length: u64) {
    let info = block.info(node).expect("a replica");
    assert_eq!((info.stamp, info.visible_length), (stamp, length), "node {node}");
    Pattern { seed }.check(0, &block.read(node, stamp, 0, length).expect("read"));
}

fn error<T: std::fmt::Debug>(opened: Result<T, (ringfs_proto::WireError, u32)>) -> (Code, u32) {
    let (error, node) = opened.expect_err("refused");
    (error.code, node)
}

#[test]
fn a_pipeline_goes_on_without_the_node_that_died() {
    for engine in ENGINES {
        let mut cluster = cluster(engine, 3);
        let block = TestBlock::new(&cluster, "/f", LIMIT);
        let mut old = block.open(&[0, 1, 2], block.stamp, WriteStage::Create).expect("opened");
        write(&mut old, 1, 1_000_777, 300_000);
        cluster.datanodes[1].kill_9();
        // What the writer sends from now on reaches the first node, but is acknowledged by none.
        let rest = Pattern { seed: 1 }.bytes(old.offset, 70_001);
        drop(old.send(&rest, 0));
        let stamp = next(block.stamp, 1);
        let mut new = block.open(&[0, 2], stamp, recover(block.stamp, 1_000_777)).expect("goes on");
        assert!(old.ack().map_or(true, |ack| ack.code != 0), "the old pipeline is over");
        write(&mut new, 1, 1_500_000, 100_001);
        new.finish();
        for node in [0, 2] {
            check(&block, node, stamp, 1, 1_500_000);
            assert_eq!(block.info(node).expect("a replica").state, ReplicaState::Finalized);
        }
    }
}

#[test]
fn a_new_stamp_fences_the_old_writer_on_whatever_shard() {
    for engine in ENGINES {
        let cluster = cluster(engine, 1);
        let mut seen = 0;
        for turn in 0..12u64 {
            let block = TestBlock::new(&cluster, &format!("/f{turn}"), LIMIT);
            let mut old = block.open(&[0], block.stamp, WriteStage::Create).expect("opened");
            write(&mut old, turn, 100_000, 33_333);
            // The connection of the new writer comes to a shard of the kernel's choice. The old one goes on sending.
            old.send(&Pattern { seed: turn }.bytes(100_000, 5000), 0).expect("sent");
            let stamp = next(block.stamp, 1);
            let mut new = block.open(&[0], stamp, recover(block.stamp, 100_000)).expect("goes on");
            let foreign = vec![0xee; 9000];
            drop(old.send(&foreign, 0));
            drop(old.send(&[], packet_flags::LAST));
            while let Ok(ack) = old.ack() {
                assert!(ack.length <= 105_000 && !ack.is_finalized, "acknowledged after the fence: {ack:?}");
                assert!([0, Code::StampMismatch as u16].contains(&ack.code), "{ack:?}");
                seen += usize::from(ack.code == 0);
            }
            write(&mut new, turn, 110_000, 7_000);
            new.finish();
            check(&block, 0, stamp, turn, 110_000);
        }
        assert!(seen <= 12, "at most what was sent before the fence");
    }
}

#[test]
fn replicas_in_every_state_go_on() {
    for engine in ENGINES {
        let mut cluster = cluster(engine, 2);
        let block = TestBlock::new(&cluster, "/f", LIMIT);
        let mut pipeline = block.open(&[0, 1], block.stamp, WriteStage::Create).expect("opened");
        write(&mut pipeline, 9, 300_100, 100_000);
        // Finalized on the first node only would need luck: on both, as far as the replicas are concerned it is the same.
        pipeline.finish();
        let second = next(block.stamp, 3);
        let mut pipeline = block.open(&[0, 1], second, recover(block.stamp, 299_000)).expect("goes on");
        assert_eq!(block.info(0).expect("a replica").state, ReplicaState::BeingWritten);
        // The request again: the first answer may have been lost.
        let mut again = block.open(&[1, 0], second, recover(block.stamp, 299_000)).expect("goes on");
        while pipeline.ack().is_ok() {}
        write(&mut again, 9, 400_200, 50_000);
        check(&block, 0, second, 9, 400_200);
        cluster.datanodes.iter_mut().for_each(|node| node.kill_9());
        cluster.start_all();
        let block = block.rejoined(&cluster);
        assert_eq!(block.info(0).expect("a replica").state, ReplicaState::WaitingForRecovery);
        let third = next(block.stamp, 4);
        let mut pipeline = block.open(&[0, 1], third, recover(second, 400_200)).expect("goes on");
        write(&mut pipeline, 9, 400_300, 50_000);
        pipeline.finish();
        check(&block, 0, third, 9, 400_300);
        check(&block, 1, third, 9, 400_300);
    }
}

#[test]
fn a_replica_that_is_too_short_or_of_another_stamp_is_dropped_by_the_writer() {
    let cluster = cluster("auto", 2);
    let block = TestBlock::new(&cluster, "/f", LIMIT);
    let mut pipeline = block.open(&[0, 1], block.stamp, WriteStage::Create).expect("opened");
    write(&mut pipeline, 1, 10_000, 10_000);
    let stamp = next(block.stamp, 5);
    let too_long = block.open(&[0, 1], stamp, recover(block.stamp, 10_001));
    assert_eq!(error(too_long), (Code::OutOfRange, 1), "the last node is asked first");
    let newer = block.open(&[0], next(stamp, 1), recover(next(block.stamp, 1), 10_000));
    assert_eq!(error(newer), (Code::StampMismatch, 0), "it has an older stamp than the one named");
    let mut good = block.open(&[0, 1], stamp, recover(block.stamp, 10_000)).expect("goes on");
    let older = block.open(&[0], next(block.stamp, 2), recover(block.stamp, 10_000));
    assert_eq!(error(older), (Code::StampMismatch, 0), "it has a newer stamp by now");
    write(&mut good, 1, 20_000, 10_000);
    // An end before what had been written would take back what readers may have seen.
    drop(good);
    let mut shorter = block.open(&[0], next(stamp, 1), recover(stamp, 15_000)).expect("goes on");
    shorter.send(&[], packet_flags::LAST).expect("sent");
    assert_eq!(shorter.ack().expect("an answer").code, Code::Malformed as u16);
    check(&block, 0, next(stamp, 1), 1, 20_000);
}

#[test]
fn readers_see_all_of_what_they_saw_while_a_pipeline_goes_on() {
    for engine in ENGINES {
        let cluster = cluster(engine, 1);
        let block = TestBlock::new(&cluster, "/f", LIMIT);
        let mut pipeline = block.open(&[0], block.stamp, WriteStage::Create).expect("opened");
        write(&mut pipeline, 5, 900_000, 111_111);
        drop(pipeline);
        let stamp = next(block.stamp, 1);
        let mut pipeline = block.open(&[0], stamp, recover(block.stamp, 123_456)).expect("goes on");
        while pipeline.offset < 1_000_000 {
            check(&block, 0, stamp, 5, pipeline.offset.max(900_000));
            let until = (pipeline.offset + 77_777).min(1_000_000);
            write(&mut pipeline, 5, until, 20_000);
        }
        pipeline.finish();
        check(&block, 0, stamp, 5, 1_000_000);
    }
}

#[test]
fn a_copy_is_seen_when_it_is_whole_and_leaves_nothing_when_it_is_not() {
    for engine in ENGINES {
        let cluster = cluster(engine, 2);
        let block = TestBlock::new(&cluster, "/f", LIMIT);
        let copies = |node: usize| {
            let directory = cluster.datanodes[node].dir().join("data/copies");
            std::fs::read_dir(directory).map_or(0, Iterator::count)
        };
        let mut half = block.open(&[0, 1], block.stamp, WriteStage::Copy).expect("opened");
        write(&mut half, 3, 500_000, 100_000);
        assert_eq!((copies(0), copies(1)), (1, 1));
        assert_eq!(block.info(0).expect_err("not there yet").code, Code::BlockMissing);
        drop(half);
        wait::until_true("unfinished copies are removed", || copies(0) + copies(1) == 0);
        // A source that stalls does not keep another from copying.
        let mut stalled = block.open(&[0, 1], block.stamp, WriteStage::Copy).expect("opened");
        stalled.send(&[1; 1000], 0).expect("sent");
        let mut copy = block.open(&[0, 1], block.stamp, WriteStage::Copy).expect("opened");
        write(&mut copy, 3, 500_001, 100_000);
        copy.finish();
        for node in [0, 1] {
            check(&block, node, block.stamp, 3, 500_001);
            assert_eq!(block.info(node).expect("a replica").state, ReplicaState::Finalized);
        }
        let again = block.open(&[0], block.stamp, WriteStage::Copy);
        assert_eq!(error(again), (Code::ReplicaExists, 0));
        let newer = next(block.stamp, 1);
        let mut copy = block.open(&[0], newer, WriteStage::Copy).expect("an older replica is replaced");
        write(&mut copy, 4, 400_000, 100_000);
        check(&block, 0, block.stamp, 3, 500_001);
        copy.finish();
        check(&block, 0, newer, 4, 400_000);
    }
}

/// The end of the pipeline cannot say that the bytes are bad, and nobody before it takes them for good.
#[test]
fn every_target_of_a_copy_verifies_it() {
    for engine in ENGINES {
        let mut cluster = cluster(engine, 2);
        let block = TestBlock::new(&cluster, "/f", LIMIT);
        let mut copy = block.open(&[0, 1], block.stamp, WriteStage::Copy).expect("opened");
        cluster.datanodes[1].process().signal(Signal::SIGSTOP);
        copy.send_as(&[1; 100], &[0; 4], packet_flags::LAST).expect("sent");
        let ack = copy.ack().expect("an answer");
        assert_eq!((ack.code, ack.failed_node), (Code::ChecksumMismatch as u16, 0));
        assert_eq!(block.info(0).expect_err("nothing was kept").code, Code::BlockMissing);
        cluster.datanodes[1].process().signal(Signal::SIGCONT);
    }
}

#[test]
fn a_node_that_joins_has_what_the_others_have() {
    for engine in ENGINES {
        let mut cluster = cluster(engine, 3);
        let block = TestBlock::new(&cluster, "/f", LIMIT);
        let mut old = block.open(&[0, 1], block.stamp, WriteStage::Create).expect("opened");
        write(&mut old, 6, 1_234_567, 100_000);
        cluster.datanodes[1].kill_9();
        let code = |copied: Result<(), ringfs_proto::WireError>| copied.expect_err("refused").code;
        assert_eq!(code(block.transfer(0, next(block.stamp, 1), 10, &[2])), Code::StampMismatch);
        assert_eq!(code(block.transfer(0, block.stamp, 1_234_568, &[2])), Code::OutOfRange);
        block.transfer(0, block.stamp, 1_234_567, &[2]).expect("copied");
        let joined = block.info(2).expect("a replica");
        assert_eq!((joined.state, joined.visible_length), (ReplicaState::BeingWritten, 1_234_567));
        // Fewer bytes than the source has, up to the middle of a chunk; a replica that is there already gives way.
        block.transfer(0, block.stamp, 1_000_001, &[2]).expect("copied again");
        check(&block, 2, block.stamp, 6, 1_000_001);
        let stamp = next(block.stamp, 1);
        let mut new = block.open(&[0, 2], stamp, recover(block.stamp, 1_000_001)).expect("goes on");
        write(&mut new, 6, 2_000_000, 100_000);
        new.finish();
        check(&block, 0, stamp, 6, 2_000_000);
        check(&block, 2, stamp, 6, 2_000_000);
        cluster.datanodes[2].kill_9();
        cluster.datanodes[2].start();
        let block = block.rejoined(&cluster);
        check(&block, 2, stamp, 6, 2_000_000);
    }
}
