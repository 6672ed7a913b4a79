//! Writers whose datanodes die at each step, and during the recovery from it: the write goes on, and what was acknowledged is
//! on every datanode that the namenode names.

mod fake;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use fake::chain::Moment;
use fake::datanode::FakeDatanode;
use fake::namenode::FakeNamenode;
use fake::{lock, pattern, wait_until};
use ringfs_proto::Code;
use ringfs_proto::meta::data::packet_flags;
use ringfs_proto::ops::Op;
use ringfs_sdk::{Client, ClientBuilder, CreateOptions, Kind, ReplacePolicy, Writer};

const BLOCK: u64 = 64 << 10;
const PACKET: usize = 4096;

struct Cluster {
    namenode: FakeNamenode,
    datanodes: Vec<FakeDatanode>,
    client: Client,
}

fn builder() -> ClientBuilder {
    Client::builder().packet_bytes(PACKET).write_window_bytes(4 * PACKET)
}

/// Three datanodes take each block; the others are spare.
fn cluster(count: u8, builder: ClientBuilder) -> Cluster {
    let datanodes: Vec<_> = (1..=count).map(FakeDatanode::start).collect();
    let peers: Vec<_> = datanodes.iter().map(|node| (node.id, node.state.clone())).collect();
    for datanode in &datanodes {
        *lock(&datanode.state.peers) = peers.clone();
    }
    let namenode = FakeNamenode::start(datanodes.iter().map(FakeDatanode::node).collect());
    lock(&namenode.state).pipeline_nodes = Some(3);
    let client = builder.connect(&namenode.uri()).expect("client");
    Cluster { namenode, datanodes, client }
}

impl Cluster {
    fn create(&self) -> Writer {
        let options = CreateOptions { block_size: BLOCK, ..CreateOptions::default() };
        self.client.create_with("/f", &options).expect("create")
    }

    fn dies_at(&self, node: usize, moment: Moment, count: usize) {
        *lock(&self.datanodes[node].state.dies_at) = Some((moment, count));
    }

    /// Each block is whole, finalized and under its stamp on every datanode that the namenode names.
    fn check(&self, data: &[u8], replicas: std::ops::RangeInclusive<usize>) {
        let blocks = lock(&self.namenode.state).blocks("/f");
        let mut begin = 0;
        for (block, nodes) in blocks {
            let end = begin + block.length as usize;
            assert!(replicas.contains(&nodes.len()), "{} replicas", nodes.len());
            for node in nodes {
                let datanode = self.datanodes.iter().find(|datanode| datanode.id == node.datanode);
                let state = &datanode.expect("known").state;
                let replica = lock(&state.replicas).get(&block.block).copied();
                assert_eq!(replica, Some((block.stamp, true)), "node {}", node.port);
                assert!(lock(&state.blocks)[&block.block] == data[begin..end], "bytes from {begin}");
            }
            begin = end;
        }
        assert_eq!(begin, data.len());
    }

    /// Whatever is acknowledged now is on every live datanode of the last block.
    fn check_flushed(&self, data: &[u8], length: u64) {
        let (block, nodes) = lock(&self.namenode.state).blocks("/f").pop().expect("a block");
        let begin = (length - 1) / BLOCK * BLOCK;
        for node in nodes {
            let datanode = self.datanodes.iter().find(|datanode| datanode.id == node.datanode);
            let stored = lock(&datanode.expect("known").state.blocks)[&block.block].clone();
            assert!(stored.starts_with(&data[begin as usize..length as usize]), "acknowledged bytes");
        }
    }
}

/// Writes with a flush after each piece, and closes.
fn write_all(cluster: &Cluster, data: &[u8]) {
    let mut writer = cluster.create();
    for piece in data.chunks(10_000) {
        writer.append(piece).expect("the write goes on");
        writer.hflush().expect("and so do flushes");
        cluster.check_flushed(data, writer.position());
    }
    assert_eq!(writer.close().expect("close").length, data.len() as u64);
}

#[test]
fn a_datanode_that_dies_at_any_moment_is_dropped_while_the_write_goes_on() {
    let data = pattern(150_000);
    for moment in [Moment::Opening, Moment::Opened, Moment::Packet, Moment::Written, Moment::Finalized] {
        for node in 0..3 {
            for count in [1, 2, 3] {
                let cluster = cluster(3, builder().replace_datanode_on_failure(ReplacePolicy::Never));
                cluster.dies_at(node, moment, count);
                write_all(&cluster, &data);
                assert!(cluster.datanodes[node].state.is_dead.load(SeqCst), "{moment:?} {count} came");
                cluster.check(&data, 2..=3);
            }
        }
    }
}

#[test]
fn a_datanode_that_dies_is_replaced_by_one_that_gets_what_was_acknowledged() {
    let data = pattern(150_000);
    for policy in [ReplacePolicy::Default, ReplacePolicy::Always] {
        for moment in [Moment::Packet, Moment::Written, Moment::Finalized] {
            for node in 0..3 {
                let cluster = cluster(4, builder().replace_datanode_on_failure(policy));
                cluster.dies_at(node, moment, 2);
                write_all(&cluster, &data);
                let least = if policy == ReplacePolicy::Always { 3 } else { 2 };
                cluster.check(&data, least..=3);
                assert!(lock(&cluster.datanodes[3].state.packets).is_empty(), "it joins at the end");
            }
        }
    }
}

#[test]
fn a_second_failure_in_the_middle_of_a_recovery_is_survived() {
    let data = pattern(150_000);
    let moments = [Moment::Opening, Moment::Opened, Moment::Copying, Moment::Copied, Moment::Packet];
    for policy in [ReplacePolicy::Never, ReplacePolicy::Default] {
        for moment in moments {
            for (first, second) in [(0, 1), (1, 0), (2, 0), (2, 1), (0, 2), (1, 3)] {
                let cluster = cluster(5, builder().replace_datanode_on_failure(policy));
                cluster.dies_at(first, Moment::Packet, 5);
                // The first block is opened once on each of them; the next time is the recovery.
                let count = match moment {
                    Moment::Opening | Moment::Opened if second < 3 => 2,
                    Moment::Packet if second < 3 => 6,
                    _ => 1,
                };
                cluster.dies_at(second, moment, count);
                write_all(&cluster, &data);
                cluster.check(&data, 1..=3);
            }
        }
    }
}

#[test]
fn a_lost_answer_of_the_namenode_in_a_recovery_is_asked_for_again() {
    let data = pattern(100_000);
    for op in [Op::UpdateBlockForPipeline, Op::UpdatePipeline, Op::AddDatanodes] {
        let cluster = cluster(4, builder());
        cluster.dies_at(1, Moment::Packet, 5);
        lock(&cluster.namenode.state).cuts_at = Some(op);
        write_all(&cluster, &data);
        cluster.check(&data, 3..=3);
        let calls = cluster.namenode.calls(op);
        assert!(calls.len() == 2 && calls[0].0 == calls[1].0, "one call id: {calls:?}");
    }
}

#[test]
fn a_silent_datanode_is_found_and_dropped() {
    let data = pattern(60_000);
    for node in 0..3 {
        let builder = builder()
            .pipeline_timeout(Duration::from_millis(200))
            .replace_datanode_on_failure(ReplacePolicy::Never);
        let cluster = cluster(3, builder);
        let mut writer = cluster.create();
        writer.append(&data[..20_000]).expect("write");
        writer.hflush().expect("flush");
        cluster.datanodes[node].state.is_silent.store(true, SeqCst);
        writer.append(&data[20_000..]).expect("write");
        writer.hsync().expect("sync");
        writer.close().expect("close");
        cluster.check(&data, 2..=2);
        let (_, nodes) = lock(&cluster.namenode.state).blocks("/f").pop().expect("a block");
        assert!(nodes.iter().all(|left| left.datanode != cluster.datanodes[node].id), "that one");
        cluster.datanodes[node].state.is_dead.store(true, SeqCst);
    }
}

#[test]
fn what_was_synced_is_synced_again_after_a_recovery() {
    let cluster = cluster(4, builder());
    let data = pattern(30_000);
    let mut writer = cluster.create();
    writer.append(&data[..10_000]).expect("write");
    writer.hsync().expect("sync");
    cluster.dies_at(0, Moment::Packet, 1);
    writer.append(&data[10_000..]).expect("write");
    writer.hflush().expect("flush");
    let first = lock(&cluster.datanodes[1].state.packets)[0];
    assert_eq!(
        (first.0, first.1, first.3),
        (0, 10_000, packet_flags::SYNC),
        "the first over the new pipeline"
    );
    writer.close().expect("close");
    cluster.check(&data, 3..=3);
}

#[test]
fn without_best_effort_a_write_that_wants_a_replacement_fails() {
    let data = pattern(60_000);
    let strict =
        builder().replace_datanode_on_failure(ReplacePolicy::Always).replace_datanode_best_effort(false);
    let cluster = cluster(3, strict);
    let mut writer = cluster.create();
    writer.append(&data[..10_000]).expect("write");
    writer.hflush().expect("flush");
    cluster.dies_at(2, Moment::Packet, 1);
    let error =
        writer.append(&data[10_000..]).and_then(|()| writer.hflush()).expect_err("no fourth datanode");
    assert_eq!((error.kind(), error.errno()), (Kind::PipelineFailed, libc::EIO), "{error}");
    assert!(error.to_string().contains("replace_datanode_on_failure"), "{error}");
}

#[test]
fn when_all_are_gone_the_write_fails_and_when_one_comes_back_it_goes_on() {
    let data = pattern(60_000);
    let cluster = cluster(3, builder().deadline(Duration::from_millis(300)));
    let mut writer = cluster.create();
    writer.append(&data[..10_000]).expect("write");
    writer.hflush().expect("flush");
    let all = |is_dead| cluster.datanodes.iter().for_each(|node| node.state.is_dead.store(is_dead, SeqCst));
    all(true);
    let error = writer.append(&data[10_000..]).and_then(|()| writer.hflush()).expect_err("nobody is left");
    assert_eq!(error.kind(), Kind::PipelineFailed, "{error}");
    assert_eq!(writer.hflush().expect_err("failed before").kind(), Kind::BadHandle);

    all(false);
    let patient = builder().connect(&cluster.namenode.uri()).expect("client");
    let options = CreateOptions { block_size: BLOCK, overwrite: true, ..CreateOptions::default() };
    let mut writer = patient.create_with("/f", &options).expect("create");
    writer.append(&data[..10_000]).expect("write");
    writer.hflush().expect("flush");
    all(true);
    let stamps = cluster.namenode.calls(Op::UpdateBlockForPipeline).len();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            writer.append(&data[10_000..]).expect("write");
            writer.close().expect("close")
        });
        let namenode = &cluster.namenode;
        wait_until("all were tried", || namenode.calls(Op::UpdateBlockForPipeline).len() >= stamps + 4);
        cluster.datanodes[1].state.is_dead.store(false, SeqCst);
        assert_eq!(writing.join().expect("writer").length, data.len() as u64);
    });
    cluster.check(&data, 1..=1);
}

#[test]
fn a_datanode_that_comes_back_on_another_port_is_found_there() {
    let data = pattern(30_000);
    let mut cluster = cluster(1, builder());
    let mut writer = cluster.create();
    writer.append(&data[..10_000]).expect("write");
    writer.hflush().expect("flush");
    let state = cluster.datanodes[0].state.clone();
    cluster.datanodes[0].server.set_down(true);
    let moved = FakeDatanode::start_over(1, state);
    lock(&cluster.namenode.state).nodes = vec![moved.node()];
    writer.append(&data[10_000..]).expect("the write goes on");
    writer.close().expect("close");
    cluster.datanodes[0] = moved;
    cluster.check(&data, 1..=1);
}

#[test]
fn a_writer_whose_lease_is_gone_is_told_so() {
    let cluster = cluster(3, builder());
    let mut writer = cluster.create();
    writer.append(&pattern(10_000)).expect("write");
    writer.hflush().expect("flush");
    lock(&cluster.namenode.state).refuses = Some((Op::UpdateBlockForPipeline, Code::LeaseLost));
    // As block recovery does: a higher stamp fences the pipeline.
    for datanode in &cluster.datanodes {
        lock(&datanode.state.replicas).values_mut().for_each(|replica| replica.0.0 += 10);
    }
    let error = writer.append(&pattern(10_000)).and_then(|()| writer.hflush()).expect_err("fenced");
    assert_eq!((error.kind(), error.errno()), (Kind::LeaseLost, libc::ESTALE), "{error}");
}

#[test]
fn a_new_block_avoids_the_datanode_that_failed() {
    let cluster = cluster(4, builder());
    cluster.dies_at(1, Moment::Packet, 3);
    let data = pattern(3 * BLOCK as usize);
    write_all(&cluster, &data);
    let failed = cluster.datanodes[1].id;
    assert!(lock(&cluster.namenode.state).excluded.contains(&failed));
    cluster.check(&data, 2..=3);
}
