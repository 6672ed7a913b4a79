//! Writers on real processes whose datanodes are killed or stopped while they write and flush: the write goes on, and what was
//! acknowledged is read back.

use std::time::Duration;

use nix::sys::signal::Signal;
use ringfs_sdk::{Client, ReplacePolicy, Writer};
use ringfs_tests::cluster::{Cluster, Options, file_options};
use ringfs_tests::data::Pattern;
use ringfs_tests::wait;

const BLOCK: u64 = 4 << 20;
const PIECE: usize = 100_000;
const ENGINES: [&str; 2] = ["threads", "glommio"];

/// What happens to a datanode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Kill,
    Stop,
}

fn client(cluster: &Cluster, policy: ReplacePolicy) -> Client {
    let builder =
        Client::builder().pipeline_timeout(Duration::from_millis(500)).replace_datanode_on_failure(policy);
    builder.connect(&cluster.uri()).expect("a client")
}

/// Writes pieces, each flushed, every fourth synced.
fn write_pieces(writer: &mut Writer, pattern: Pattern, pieces: u64) {
    for piece in 0..pieces {
        let begin = writer.position();
        writer.append(&pattern.bytes(begin, PIECE)).expect("the write goes on");
        if piece % 4 == 3 { writer.hsync() } else { writer.hflush() }.expect("flushed");
    }
}

fn check(client: &Client, path: &str, pattern: Pattern, length: u64) {
    let reader = client.open(path).expect("opened");
    assert!(reader.len() >= length, "{path}: {} bytes, {length} were acknowledged", reader.len());
    let mut bytes = vec![0; length as usize];
    assert_eq!(reader.read_at(0, &mut bytes).expect("read") as u64, length);
    pattern.check(0, &bytes);
}

/// One of the datanodes of the last block of an open file.
fn victim(cluster: &Cluster, client: &Client, path: &str, index: usize) -> usize {
    let blocks = client.block_locations(path, 0, u64::MAX).expect("located");
    let nodes = &blocks.last().expect("a block").nodes;
    let port = nodes[index % nodes.len()].port;
    cluster.datanodes.iter().position(|node| node.address().port() == port).expect("of this cluster")
}

fn strike(cluster: &mut Cluster, node: usize, fault: Fault) {
    match fault {
        Fault::Kill => cluster.datanodes[node].kill_9(),
        Fault::Stop => cluster.datanodes[node].process().signal(Signal::SIGSTOP),
    }
}

fn writes_go_on(engine: &'static str, datanodes: usize, policy: ReplacePolicy) {
    let mut cluster = Cluster::start(&Options { datanodes, engine, ..Options::default() });
    let client = client(&cluster, policy);
    let mut seed = 0;
    for fault in [Fault::Kill, Fault::Stop] {
        for index in 0..3 {
            seed += 1;
            let (pattern, path) = (Pattern { seed }, format!("/f{seed}"));
            let mut writer = client.create_with(&path, &file_options(3, BLOCK)).expect("created");
            write_pieces(&mut writer, pattern, 10);
            let node = victim(&cluster, &client, &path, index);
            strike(&mut cluster, node, fault);
            write_pieces(&mut writer, pattern, 45);
            check(&client, &path, pattern, writer.position());
            let length = writer.close().expect("closed").length;
            assert_eq!(length, 55 * PIECE as u64);
            check(&client, &path, pattern, length);
            if fault == Fault::Stop {
                cluster.datanodes[node].kill_9();
            }
            cluster.start_all();
            check(&client, &path, pattern, length);
        }
    }
}

#[test]
fn writes_go_on_without_the_datanode_that_failed() {
    for engine in ENGINES {
        writes_go_on(engine, 3, ReplacePolicy::Never);
    }
}

#[test]
fn writes_go_on_with_another_datanode_by_default() {
    for engine in ENGINES {
        writes_go_on(engine, 4, ReplacePolicy::Default);
    }
}

#[test]
fn writes_go_on_with_another_datanode_always_and_without_when_there_is_none() {
    writes_go_on("threads", 4, ReplacePolicy::Always);
    writes_go_on("threads", 3, ReplacePolicy::Always);
}

#[test]
fn a_namenode_that_is_killed_in_the_middle_of_a_recovery_is_waited_for() {
    let mut cluster = Cluster::start(&Options { datanodes: 3, ..Options::default() });
    let client = client(&cluster, ReplacePolicy::Default);
    let pattern = Pattern { seed: 9 };
    let mut writer = client.create_with("/f", &file_options(3, BLOCK)).expect("created");
    write_pieces(&mut writer, pattern, 5);
    let node = victim(&cluster, &client, "/f", 1);
    cluster.namenode.kill_9();
    cluster.datanodes[node].kill_9();
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            write_pieces(&mut writer, pattern, 20);
            writer.close().expect("closed")
        });
        cluster.namenode.start();
        assert_eq!(writing.join().expect("the writer").length, 25 * PIECE as u64);
    });
    check(&client, "/f", pattern, 25 * PIECE as u64);
}

#[test]
fn a_writer_whose_only_datanode_restarts_goes_on() {
    let mut cluster = Cluster::start(&Options { datanodes: 1, ..Options::default() });
    let client = client(&cluster, ReplacePolicy::Default);
    let pattern = Pattern { seed: 10 };
    let mut writer = client.create_with("/f", &file_options(1, BLOCK)).expect("created");
    write_pieces(&mut writer, pattern, 5);
    cluster.datanodes[0].kill_9();
    cluster.datanodes[0].start();
    wait::until_true("it is back", || client.fs_stats().is_ok_and(|stats| stats.datanodes_live == 1));
    write_pieces(&mut writer, pattern, 5);
    assert_eq!(writer.close().expect("closed").length, 10 * PIECE as u64);
    check(&client, "/f", pattern, 10 * PIECE as u64);
}
