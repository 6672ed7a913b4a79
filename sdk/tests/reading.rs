//! Readers against servers that misbehave.

mod fake;

use std::io::{Read, Write};
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use fake::datanode::FakeDatanode;
use fake::namenode::FakeNamenode;
use fake::{lock, pattern, wait_until};
use ringfs_proto::ops::Op;
use ringfs_sdk::{Client, CreateOptions, Kind};

struct Cluster {
    namenode: FakeNamenode,
    datanodes: Vec<FakeDatanode>,
    client: Client,
}

fn cluster(count: u8) -> Cluster {
    let datanodes: Vec<_> = (1..=count).map(FakeDatanode::start).collect();
    let namenode = FakeNamenode::start(datanodes.iter().map(FakeDatanode::node).collect());
    let client = Client::connect(&namenode.uri()).expect("client");
    Cluster { namenode, datanodes, client }
}

impl Cluster {
    /// Writes a file; the fake pipeline ends at its first node, so the replicas are copied by hand.
    fn put(&self, path: &str, data: &[u8], block_size: u64) {
        let options = CreateOptions { block_size, ..CreateOptions::default() };
        let mut writer = self.client.create_with(path, &options).expect("create");
        writer.write_all(data).expect("write");
        writer.close().expect("close");
        self.copy_blocks();
    }

    fn copy_blocks(&self) {
        let mut all = std::collections::HashMap::new();
        for datanode in &self.datanodes {
            all.extend(lock(&datanode.state.blocks).clone());
        }
        for datanode in &self.datanodes {
            lock(&datanode.state.blocks).extend(all.clone());
        }
    }

    fn check(&self, path: &str, data: &[u8]) {
        let reader = self.client.open(path).expect("open");
        let mut found = vec![0; data.len() + 1];
        assert_eq!(reader.read_at(0, &mut found).expect("read"), data.len());
        assert!(found[..data.len()] == *data);
    }
}

#[test]
fn every_range_around_chunks_parts_and_blocks_is_right() {
    let cluster = cluster(1);
    let data = pattern(300_000);
    cluster.put("/f", &data, 100_352);
    cluster.datanodes[0].state.part_bytes.store(8192, SeqCst);
    let reader = cluster.client.open("/f").expect("open");
    for begin in [0, 1, 4095, 4096, 4097, 8191, 100_351, 100_352, 200_000, 299_999, 300_000] {
        for len in [0, 1, 2, 4095, 4096, 4097, 16_384, 120_000, 300_000] {
            let mut found = vec![0; len];
            let end = data.len().min(begin + len);
            assert_eq!(reader.read_at(begin as u64, &mut found).expect("read"), end - begin, "{begin} {len}");
            assert!(found[..end - begin] == data[begin..end], "{begin} {len}");
        }
    }
}

#[test]
fn vectored_reads_fill_each_target_whatever_the_order_of_answers() {
    let cluster = cluster(2);
    let data = pattern(200_000);
    cluster.put("/f", &data, 65_536);
    let reader = cluster.client.open("/f").expect("open");
    let mut memory: Vec<_> = (0..100usize).map(|at| ((at * 1999) as u64, vec![0; 1 + at * 7])).collect();
    let mut ranges: Vec<_> = memory.iter_mut().map(|(offset, bytes)| (*offset, &mut bytes[..])).collect();
    let total: usize = ranges.iter().map(|(_, target)| target.len()).sum();
    assert_eq!(reader.read_vectored_at(&mut ranges).expect("read"), total);
    for (offset, bytes) in &memory {
        assert!(data[*offset as usize..*offset as usize + bytes.len()] == bytes[..], "at {offset}");
    }
}

#[test]
fn sequential_reads_of_any_size_give_the_file() {
    let cluster = cluster(1);
    let data = pattern(700_001);
    cluster.put("/f", &data, 262_144);
    for size in [777, 4096, 65_536, 100_000, 1 << 20] {
        let mut reader = cluster.client.open("/f").expect("open");
        let (mut found, mut buffer) = (Vec::new(), vec![0; size]);
        loop {
            let len = ringfs_sdk::Reader::read(&mut reader, &mut buffer).expect("read");
            assert!(len == size || found.len() + len == data.len(), "short only at the end");
            found.extend_from_slice(&buffer[..len]);
            if len < size {
                break;
            }
        }
        assert!(found == data, "buffers of {size}");
    }
    let mut all = Vec::new();
    cluster.client.open("/f").expect("open").read_to_end(&mut all).expect("read");
    assert!(all == data);
}

#[test]
fn blocks_on_several_datanodes_are_fetched_at_once() {
    let cluster = cluster(4);
    lock(&cluster.namenode.state).spreads = true;
    let data = pattern(1 << 20);
    cluster.put("/f", &data, 65_536);
    let reader = cluster.client.open("/f").expect("open");
    let mut found = vec![0; data.len()];
    assert_eq!(reader.read_at(0, &mut found).expect("read"), data.len());
    assert!(found == data);
    assert!(cluster.datanodes.iter().all(|datanode| datanode.state.reads.load(SeqCst) > 0));
}

#[test]
fn a_corrupt_replica_is_replaced_within_the_call() {
    let cluster = cluster(2);
    let data = pattern(150_000);
    cluster.put("/f", &data, 65_536);
    cluster.datanodes[0].state.corrupts.store(true, SeqCst);
    cluster.check("/f", &data);
    let mut found = Vec::new();
    cluster.client.open("/f").expect("open").read_to_end(&mut found).expect("read");
    assert!(found == data);
    let bad = lock(&cluster.namenode.state).bad.clone();
    assert_eq!(bad.len(), 3, "each bad replica once: {bad:?}");
    assert!(bad.iter().all(|replica| replica.datanode == cluster.datanodes[0].id));
    cluster.datanodes[1].state.corrupts.store(true, SeqCst);
    let reader = cluster.client.open("/f").expect("open");
    let error = reader.read_at(0, &mut [0; 100]).expect_err("no good replica");
    assert_eq!((error.kind(), error.errno()), (Kind::DataUnavailable, libc::EIO));
    assert!(error.to_string().contains("checksum mismatch"), "{error}");
}

#[test]
fn a_cut_answer_is_continued_by_another_replica() {
    let cluster = cluster(2);
    let data = pattern(150_000);
    cluster.put("/f", &data, 65_536);
    cluster.datanodes[0].state.truncates.store(true, SeqCst);
    cluster.check("/f", &data);
    cluster.datanodes[0].server.set_down(true);
    cluster.check("/f", &data);
}

#[test]
fn a_missing_replica_makes_the_reader_ask_for_fresh_locations() {
    let cluster = cluster(2);
    let data = pattern(50_000);
    cluster.put("/f", &data, 65_536);
    let reader = cluster.client.open("/f").expect("open");
    lock(&cluster.datanodes[0].state.blocks).clear();
    lock(&cluster.namenode.state).nodes.remove(0);
    let mut found = vec![0; data.len()];
    reader.read_at(0, &mut found).expect("read");
    assert!(found == data);
    assert_eq!(cluster.namenode.calls(Op::GetBlockLocations).len(), 2);
}

#[test]
fn an_open_file_is_readable_to_its_flushed_length() {
    let cluster = cluster(1);
    let data = pattern(100_000);
    let options = CreateOptions { block_size: 65_536, ..CreateOptions::default() };
    let mut writer = cluster.client.create_with("/f", &options).expect("create");
    writer.append(&data[..70_000]).expect("write");
    writer.hflush().expect("flush");
    let reader = cluster.client.open("/f").expect("open");
    assert_eq!(reader.len(), 70_000);
    let mut found = vec![0; 100_000];
    assert_eq!(reader.read_at(0, &mut found).expect("read"), 70_000);
    assert!(found[..70_000] == data[..70_000]);
    writer.append(&data[70_000..]).expect("write");
    writer.hflush().expect("flush");
    assert_eq!(reader.read_at(0, &mut found).expect("read"), 100_000);
    assert!(found == data);
}

#[test]
fn connections_are_used_again() {
    let cluster = cluster(1);
    let data = pattern(10_000);
    cluster.put("/f", &data, 65_536);
    (0..50).for_each(|_| cluster.check("/f", &data));
    assert_eq!((cluster.namenode.server.accepted(), cluster.datanodes[0].server.accepted()), (1, 1));
    // Idle connections that the peer has cut are noticed before anything is lost on them.
    cluster.datanodes[0].server.cut();
    cluster.namenode.server.cut();
    cluster.check("/f", &data);
}

#[test]
fn threads_on_one_handle_read_at_the_same_time() {
    let cluster = cluster(1);
    let data = pattern(1 << 20);
    cluster.put("/f", &data, 1 << 20);
    let state = &cluster.datanodes[0].state;
    state.reads_together.store(8, SeqCst);
    let reader = cluster.client.open("/f").expect("open");
    std::thread::scope(|scope| {
        for thread in 0..32usize {
            let (reader, data) = (&reader, &data);
            scope.spawn(move || {
                for round in 0..20usize {
                    let begin = (thread * 31_337 + round * 7919) % (data.len() - 5000);
                    let mut found = [0; 5000];
                    assert_eq!(reader.read_at(begin as u64, &mut found).expect("read"), 5000);
                    assert!(found == data[begin..begin + 5000]);
                }
            });
        }
    });
    wait_until("calls in flight", || state.reads_active_max.load(SeqCst) >= 8);
}

#[test]
fn reads_over_several_datanodes_work_inside_runtimes_and_without_io_uring() {
    let mut cluster = cluster(3);
    lock(&cluster.namenode.state).spreads = true;
    let data = pattern(1 << 20);
    cluster.put("/f", &data, 65_536);
    let tokio = tokio::runtime::Builder::new_current_thread().build().expect("tokio");
    tokio.block_on(async { cluster.check("/f", &data) });
    let mut monoio = monoio::RuntimeBuilder::<monoio::FusionDriver>::new().build().expect("monoio");
    monoio.block_on(async { cluster.check("/f", &data) });
    let uri = cluster.namenode.uri();
    for builder in [Client::builder().forbid_io_uring(), Client::builder().wait_by_poll()] {
        cluster.client = builder.connect(&uri).expect("client");
        cluster.check("/f", &data);
    }
}

#[test]
fn a_datanode_that_restarts_is_waited_for_when_no_other_has_the_block() {
    let cluster = cluster(1);
    let data = pattern(50_000);
    cluster.put("/f", &data, 65_536);
    let server = &cluster.datanodes[0].server;
    server.set_down(true);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| cluster.check("/f", &data));
        let locates = || cluster.namenode.calls(Op::GetBlockLocations).len();
        wait_until("it asks where else the block is", || locates() >= 8);
        server.set_down(false);
        reading.join().expect("the read goes on");
    });
}

#[test]
fn a_late_replica_is_hedged_within_the_budget_and_its_late_bytes_go_nowhere() {
    let mut cluster = cluster(2);
    let data = pattern(200_000);
    cluster.put("/f", &data, 65_536);
    let uri = cluster.namenode.uri();
    let after = std::time::Duration::from_millis(5);
    // Each read pays for a hedge; without a budget there are none.
    cluster.client = Client::builder().hedging(1000, after).connect(&uri).expect("client");
    let reader = cluster.client.open("/f").expect("open");
    let mut found = vec![0; data.len()];
    for _ in 0..4 {
        reader.read_at(0, &mut found).expect("read");
    }
    let [late, other] = [0, 1].map(|node| &cluster.datanodes[node].state);
    let before = other.reads.load(SeqCst);
    late.holds_reads.store(true, SeqCst);
    found.fill(0);
    assert_eq!(reader.read_at(0, &mut found).expect("the other has it"), data.len());
    assert!(found == data);
    assert!(other.reads.load(SeqCst) > before);
    found.fill(7);
    late.holds_reads.store(false, SeqCst);
    wait_until("the late answer is gone", || late.reads_active.load(SeqCst) == 0);
    assert!(found.iter().all(|byte| *byte == 7), "no byte lands in memory that was returned");
    reader.read_at(0, &mut found).expect("the late one answers again");
    assert!(found == data);
}

#[test]
fn without_a_budget_a_late_replica_is_waited_for() {
    let mut cluster = cluster(2);
    let data = pattern(50_000);
    cluster.put("/f", &data, 65_536);
    let after = std::time::Duration::from_millis(1);
    let uri = cluster.namenode.uri();
    cluster.client = Client::builder().hedging(0, after).connect(&uri).expect("client");
    let [late, other] = [0, 1].map(|node| &cluster.datanodes[node].state);
    late.holds_reads.store(true, SeqCst);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| cluster.check("/f", &data));
        wait_until("it is asked", || late.reads_active.load(SeqCst) == 1);
        assert_eq!(other.reads.load(SeqCst), 0);
        late.holds_reads.store(false, SeqCst);
        reading.join().expect("read");
    });
}

#[test]
fn an_open_block_is_empty_only_when_all_who_may_have_it_say_so() {
    let cluster = cluster(2);
    let hasty = Client::builder().deadline(Duration::from_millis(100));
    let hasty = hasty.connect(&cluster.namenode.uri()).expect("client");
    let mut writer = cluster.client.create("/open").expect("create");
    writer.write_all(&pattern(10)).expect("write");
    writer.hflush().expect("flushed");
    assert_eq!(hasty.open("/open").expect("one of two has it").len(), 10);
    cluster.datanodes.iter().for_each(|datanode| lock(&datanode.state.blocks).clear());
    lock(&cluster.namenode.state).hides_nodes = true;
    // Fewer bytes than were acknowledged would be wrong.
    assert_eq!(hasty.open("/open").expect_err("not known").kind(), Kind::DataUnavailable);
    lock(&cluster.namenode.state).hides_nodes = false;
    assert_eq!(hasty.open("/open").expect("nobody has begun it").len(), 0);
    cluster.datanodes[0].server.set_down(true);
    assert_eq!(hasty.open("/open").expect_err("one may have it").kind(), Kind::DataUnavailable);
}
