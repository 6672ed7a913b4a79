//! Writers and namespace calls against servers that misbehave.

mod fake;

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use fake::datanode::FakeDatanode;
use fake::namenode::FakeNamenode;
use fake::{lock, pattern, wait_until};
use ringfs_proto::Code;
use ringfs_proto::frame::flags;
use ringfs_proto::ops::Op;
use ringfs_sdk::{Client, CreateOptions, Kind};

fn cluster(count: u8) -> (FakeNamenode, Vec<FakeDatanode>, Client) {
    let datanodes: Vec<_> = (1..=count).map(FakeDatanode::start).collect();
    let namenode = FakeNamenode::start(datanodes.iter().map(FakeDatanode::node).collect());
    let client = Client::connect(&namenode.uri()).expect("client");
    (namenode, datanodes, client)
}

/// What a datanode holds, block after block.
fn stored(datanode: &FakeDatanode) -> Vec<u8> {
    let blocks = lock(&datanode.state.blocks);
    let mut ids: Vec<_> = blocks.keys().copied().collect();
    ids.sort();
    ids.iter().flat_map(|id| blocks[id].clone()).collect()
}

#[test]
fn packets_blocks_and_flushes_keep_every_byte_in_order() {
    for (block_size, piece, flush_every) in [(8192, 1000, 3), (65_536, 70_001, 1), (1 << 20, 333, 100)] {
        let (_namenode, datanodes, _) = cluster(1);
        let namenode = FakeNamenode::start(vec![datanodes[0].node()]);
        let client = Client::builder().packet_bytes(16_384).connect(&namenode.uri()).expect("client");
        let data = pattern(200_003);
        let options = CreateOptions { block_size, ..CreateOptions::default() };
        let mut writer = client.create_with("/f", &options).expect("create");
        for (index, part) in data.chunks(piece).enumerate() {
            writer.append(part).expect("write");
            if index % flush_every == 0 {
                writer.hflush().expect("flush");
                assert_eq!(stored(&datanodes[0]).len() as u64, writer.position());
            }
        }
        writer.hsync().expect("sync");
        assert_eq!(writer.close().expect("close").length, data.len() as u64);
        assert!(stored(&datanodes[0]) == data, "blocks of {block_size}");
        assert_eq!(writer.append(b"x").expect_err("closed").errno(), libc::EBADF);
    }
}

#[test]
fn an_empty_file_has_no_block() {
    let (namenode, datanodes, client) = cluster(1);
    assert_eq!(client.create("/f").expect("create").close().expect("close").length, 0);
    assert!(namenode.calls(Op::AddBlock).is_empty() && stored(&datanodes[0]).is_empty());
}

#[test]
fn delayed_acknowledgements_fill_the_window_and_no_more() {
    let (namenode, datanodes, _) = cluster(1);
    let builder = Client::builder().packet_bytes(64 << 10).write_window_bytes(256 << 10);
    let client = builder.connect(&namenode.uri()).expect("client");
    let data = pattern(1 << 20);
    datanodes[0].hold_acks(true);
    let state = &datanodes[0].state;
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut writer = client.create("/f").expect("create");
            writer.append(&data).expect("write");
            writer.close().expect("close")
        });
        wait_until("the window fills", || state.received_bytes.load(SeqCst) == 256 << 10);
        assert!(!writing.is_finished());
        assert_eq!(state.received_bytes.load(SeqCst), 256 << 10, "and no more");
        datanodes[0].hold_acks(false);
        assert_eq!(writing.join().expect("writer").length, data.len() as u64);
    });
    assert!(stored(&datanodes[0]) == data);
}

#[test]
fn a_failed_set_up_abandons_the_block_and_tries_others() {
    let (namenode, datanodes, client) = cluster(3);
    datanodes[0].state.refuses_writes.store(true, SeqCst);
    datanodes[1].server.set_down(true);
    let mut writer = client.create("/f").expect("create");
    writer.append(b"some bytes").expect("write");
    writer.close().expect("close");
    let state = lock(&namenode.state);
    assert_eq!(state.excluded, [datanodes[0].id, datanodes[1].id]);
    assert_eq!(state.abandoned.len(), 2);
    drop(state);
    assert_eq!(stored(&datanodes[2]), b"some bytes");
}

#[test]
fn no_pipeline_at_all_is_an_error_of_its_cause() {
    let (namenode, datanodes, _) = cluster(1);
    let hasty =
        Client::builder().deadline(Duration::from_millis(100)).connect(&namenode.uri()).expect("client");
    datanodes[0].state.refuses_writes.store(true, SeqCst);
    let mut writer = hasty.create("/f").expect("create");
    writer.append(b"x").expect("collected");
    let error = writer.close().expect_err("nobody takes it");
    assert_eq!(error.code(), Some(Code::VolumeFailed), "{error}");
    assert_eq!(writer.append(b"x").expect_err("failed before").kind(), Kind::BadHandle);
}

#[test]
fn no_room_is_enospc() {
    let (namenode, _datanodes, client) = cluster(1);
    let mut writer = client.create("/f").expect("create");
    lock(&namenode.state).nodes.clear();
    writer.append(b"x").expect("collected");
    let error = writer.close().expect_err("no datanode");
    assert_eq!((error.kind(), error.errno()), (Kind::NoRoom, libc::ENOSPC));
}

#[test]
fn a_pipeline_that_breaks_after_data_flowed_is_a_typed_error() {
    let (namenode, datanodes, _) = cluster(1);
    let builder = Client::builder().packet_bytes(4096).deadline(Duration::from_millis(100));
    let client = builder.connect(&namenode.uri()).expect("client");
    datanodes[0].state.packets_until_failure.store(3, SeqCst);
    let mut writer = client.create("/g").expect("create");
    let error = writer.append(&pattern(1 << 20)).and_then(|()| writer.hflush()).expect_err("broken");
    assert_eq!((error.kind(), error.errno()), (Kind::PipelineFailed, libc::EIO), "{error}");
    assert_eq!(writer.hflush().expect_err("failed before").kind(), Kind::BadHandle);
}

#[test]
fn a_namenode_restart_in_a_call_is_a_pause_under_the_same_call_id() {
    let (namenode, _datanodes, client) = cluster(1);
    client.create("/a").expect("create");
    lock(&namenode.state).cuts_next = true;
    client.create("/b").expect("carried out once, answered at the second try");
    let calls = namenode.calls(Op::Create);
    assert_eq!(calls.len(), 3);
    assert_eq!(calls[1].0, calls[2].0, "one call id");
    assert_eq!((calls[1].1 & flags::RETRY, calls[2].1 & flags::RETRY), (0, flags::RETRY));
    namenode.server.set_down(true);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| client.stat("/b"));
        wait_until("a try has failed", || !asking.is_finished());
        namenode.server.set_down(false);
        asking.join().expect("thread").expect("stat");
    });
}

#[test]
fn passing_refusals_are_tried_again_and_final_ones_are_not() {
    let (namenode, _datanodes, client) = cluster(1);
    client.create("/a").expect("create");
    lock(&namenode.state).refusals = vec![Code::Busy, Code::SafeMode, Code::NotReplicatedYet];
    client.stat("/a").expect("at the fourth try");
    lock(&namenode.state).refusals = vec![Code::PermissionDenied];
    assert_eq!(client.stat("/a").expect_err("final").errno(), libc::EACCES);
    lock(&namenode.state).refusals = vec![Code::SafeMode; 1000];
    let hasty =
        Client::builder().deadline(Duration::from_millis(100)).connect(&namenode.uri()).expect("client");
    assert_eq!(hasty.stat("/a").expect_err("deadline").errno(), libc::EROFS);
}

#[test]
fn nobody_at_the_address_is_unreachable() {
    let (namenode, _datanodes, _) = cluster(0);
    namenode.server.set_down(true);
    let hasty =
        Client::builder().deadline(Duration::from_millis(50)).connect(&namenode.uri()).expect("client");
    let error = hasty.stat("/a").expect_err("nobody");
    assert_eq!((error.kind(), error.errno()), (Kind::Unreachable, libc::EHOSTUNREACH));
}

#[test]
fn a_listing_spans_pages() {
    let (_namenode, _datanodes, client) = cluster(1);
    for name in ["/a", "/b", "/c", "/d", "/e"] {
        client.create(name).expect("create").close().expect("close");
    }
    let names: Result<Vec<_>, _> =
        client.list("/").expect("list").map(|entry| entry.map(|e| e.name)).collect();
    assert_eq!(names.expect("pages"), ["a", "b", "c", "d", "e"]);
}

#[test]
fn a_writer_attaches_its_session_again_when_the_connection_is_lost() {
    let (namenode, _datanodes, client) = cluster(1);
    let mut writer = client.create("/f").expect("create");
    assert!(namenode.calls(Op::RenewLease).is_empty());
    namenode.server.cut();
    writer.append(b"x").expect("write");
    assert_eq!(namenode.calls(Op::RenewLease).len(), 1);
    writer.close().expect("close");
}

#[test]
fn a_write_does_not_fail_because_the_namenode_is_away() {
    let (namenode, datanodes, client) = cluster(1);
    let mut writer = client.create("/f").expect("create");
    writer.append(b"first").and_then(|()| writer.hflush()).expect("a pipeline stands");
    namenode.server.set_down(true);
    writer.append(b" second").and_then(|()| writer.hflush()).expect("data goes to datanodes");
    namenode.server.set_down(false);
    writer.close().expect("close");
    assert_eq!(stored(&datanodes[0]), b"first second");
}
