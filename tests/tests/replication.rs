//! Replicas that are lost, bad, too few or too many: real datanodes copy and delete until each file has what it wants.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

use ringfs_proto::meta::namespace::{BadReplicaV1, ReportBadBlocksRequestV1, SetReplicationRequestV1};
use ringfs_proto::ops;
use ringfs_sdk::Client;
use ringfs_tests::cluster::{Cluster, Options, file_options};
use ringfs_tests::data::Pattern;
use ringfs_tests::raw::Raw;
use ringfs_tests::wait;

const BLOCK: u64 = 1 << 20;
/// Where a block file's data may begin, at the latest: behind header and checksums, at a boundary of 64 KiB.
const DATA_OFFSET: u64 = 64 << 10;

fn start(datanodes: usize) -> Cluster {
    let namenode_toml = "heartbeat_interval_ms = 200\ndatanode_stale_ms = 1000\ndatanode_dead_ms = 3000\n\
                         invalidation_delay_ms = 0\nreplication_timeout_ms = 5000\n";
    Cluster::start(&Options { datanodes, namenode_toml: namenode_toml.to_owned(), ..Options::default() })
}

fn write(client: &Client, path: &str, seed: u64, size: u64, replication: u16) {
    let mut writer = client.create_with(path, &file_options(replication, BLOCK)).expect("created");
    writer.write_all(&Pattern { seed }.bytes(0, size as usize)).expect("written");
    writer.close().expect("closed");
}

fn check(client: &Client, path: &str, seed: u64, size: u64) {
    let reader = client.open(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut bytes = vec![0; size as usize];
    let len = reader.read_at(0, &mut bytes).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(len as u64, size, "{path}");
    Pattern { seed }.check(0, &bytes);
}

/// The live datanodes that each block of a file is on.
fn replicas(client: &Client, path: &str) -> Vec<usize> {
    let located = client.block_locations(path, 0, u64::MAX).expect("located");
    located.iter().map(|block| block.nodes.iter().filter(|node| !node.is_stale).count()).collect()
}

fn wait_for_replicas(cluster: &Cluster, client: &Client, path: &str, wanted: usize) {
    let have = || replicas(client, path).iter().all(|count| *count == wanted);
    let begin = Instant::now();
    while !have() {
        assert!(begin.elapsed() < wait::DEADLINE, "{path}: {:?}\n{}", replicas(client, path), cluster.logs());
        wait::pass(std::time::Duration::from_millis(20));
    }
}

fn set_replication(cluster: &Cluster, path: &str, replication: u16) {
    let request = SetReplicationRequestV1 { path: path.to_owned(), replication };
    let reply = Raw::greeted(cluster.namenode.address()).call::<ops::SetReplication>(&request);
    assert!(reply.expect("set").is_file);
}

/// The block files of a datanode with data.
fn block_files(cluster: &Cluster, datanode: usize) -> Vec<PathBuf> {
    let has_data = |path: &PathBuf| fs::metadata(path).is_ok_and(|meta| meta.len() > DATA_OFFSET);
    cluster.datanodes[datanode].block_files().into_iter().filter(has_data).collect()
}

#[test]
fn a_lost_datanodes_blocks_are_copied_and_what_it_brings_back_is_trimmed() {
    let mut cluster = start(4);
    let client = cluster.client();
    let sizes = [1, 4096, 70_000, BLOCK, 3 * BLOCK + 17];
    for (seed, size) in sizes.iter().cycle().take(15).enumerate() {
        write(&client, &format!("/d/{seed}"), seed as u64, *size, 2 + seed as u16 % 2);
    }
    let begin = Instant::now();
    cluster.datanodes[0].kill_9();
    wait::until_true("it is avoided", || client.fs_stats().is_ok_and(|stats| stats.datanodes_live == 3));
    let avoided = begin.elapsed();
    wait::until_true("it is lost", || client.fs_stats().is_ok_and(|stats| stats.datanodes_dead == 1));
    let lost = begin.elapsed();
    let short = |stats: &ringfs_sdk::FsStats| stats.under_replicated_blocks + stats.missing_blocks;
    wait::until_true("all is copied", || client.fs_stats().is_ok_and(|stats| short(&stats) == 0));
    println!("avoided after {avoided:?}, lost after {lost:?}, copied after {:?}", begin.elapsed());
    for seed in 0..15 {
        wait_for_replicas(&cluster, &client, &format!("/d/{seed}"), 2 + seed % 2);
        check(&client, &format!("/d/{seed}"), seed as u64, sizes[seed % 5]);
    }
    // It comes back with all it had: that is one too many of each.
    cluster.datanodes[0].start();
    wait::until_true("it is back", || client.fs_stats().is_ok_and(|stats| stats.datanodes_live == 4));
    for seed in 0..15 {
        wait_for_replicas(&cluster, &client, &format!("/d/{seed}"), 2 + seed % 2);
    }
    let wanted: usize =
        (0..15).map(|seed| replicas(&client, &format!("/d/{seed}")).iter().sum::<usize>()).sum();
    let on_disk =
        || cluster.datanodes.iter().map(|node| node.metric("ringfs_datanode_volume_replicas") as usize);
    wait::until_true("the others are deleted", || on_disk().sum::<usize>() == wanted);
    // Whatever was deleted, each file is whole on what is left, one datanode after the other being gone.
    for gone in 0..4 {
        cluster.datanodes[gone].kill_9();
        for seed in 0..15 {
            check(&client, &format!("/d/{seed}"), seed as u64, sizes[seed % 5]);
        }
        cluster.datanodes[gone].start();
        cluster.wait_serving();
    }
}

#[test]
fn replication_is_raised_and_lowered() {
    let cluster = start(3);
    let client = cluster.client();
    write(&client, "/a", 7, 2 * BLOCK + 5, 1);
    set_replication(&cluster, "/a", 3);
    wait_for_replicas(&cluster, &client, "/a", 3);
    check(&client, "/a", 7, 2 * BLOCK + 5);
    set_replication(&cluster, "/a", 1);
    wait_for_replicas(&cluster, &client, "/a", 1);
    wait::until_true("the others are deleted", || {
        (0..3).map(|datanode| block_files(&cluster, datanode).len()).sum::<usize>() == 3
    });
    check(&client, "/a", 7, 2 * BLOCK + 5);
}

#[test]
fn a_replica_that_a_reader_finds_bad_is_verified_and_replaced() {
    let cluster = start(3);
    let client = cluster.client();
    write(&client, "/a", 9, BLOCK, 2);
    let located = client.block_locations("/a", 0, u64::MAX).expect("located").remove(0);
    let holders: Vec<usize> =
        (0..3).filter(|datanode| !block_files(&cluster, *datanode).is_empty()).collect();
    assert_eq!(holders.len(), 2);
    let bad = holders[0];
    let file = OpenOptions::new().write(true).open(&block_files(&cluster, bad)[0]).expect("a block file");
    file.write_all_at(b"not what was written", DATA_OFFSET + 4096).expect("spoilt");
    let port = cluster.datanodes[bad].address().port();
    let node = located.nodes.iter().find(|node| node.port == port).expect("a holder");
    let replica = BadReplicaV1 { block: located.block, datanode: node.datanode, storage: node.storage };
    let request = ReportBadBlocksRequestV1 { replicas: vec![replica] };
    Raw::greeted(cluster.namenode.address()).call::<ops::ReportBadBlocks>(&request).expect("taken");
    wait::until_true("it is replaced by another", || {
        let located = client.block_locations("/a", 0, u64::MAX).expect("located").remove(0);
        located.nodes.len() == 2 && located.nodes.iter().all(|node| node.port != port)
    });
    wait::until_true("it is deleted", || block_files(&cluster, bad).is_empty());
    check(&client, "/a", 9, BLOCK);
    assert_eq!(client.fs_stats().expect("stats").corrupt_blocks, 0);
}

/// The time within which 99 of 100 reads of 64 KiB came, over at least `READS_MIN` of them and until `is_over`.
fn p99_of_reads(client: &Client, is_over: impl Fn() -> bool) -> std::time::Duration {
    const READS_MIN: usize = 500;
    let mut times = Vec::new();
    let mut bytes = vec![0; 64 << 10];
    for turn in 0_u64.. {
        let (seed, offset) = (turn * 7 % FILES, turn * 13 % (BLOCK / (64 << 10)) * (64 << 10));
        let begin = Instant::now();
        let reader = client.open(&format!("/d/{seed}")).expect("opened");
        assert_eq!(reader.read_at(offset, &mut bytes).expect("read"), bytes.len());
        times.push(begin.elapsed());
        Pattern { seed }.check(offset, &bytes);
        if times.len() >= READS_MIN && turn % 50 == 0 && is_over() {
            break;
        }
    }
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

const FILES: u64 = 120;

#[test]
fn clients_see_no_error_while_a_datanode_is_lost_and_its_blocks_are_copied() {
    let mut cluster = start(4);
    let client = cluster.client();
    (0..FILES).for_each(|seed| write(&client, &format!("/d/{seed}"), seed, BLOCK, 2));
    let before = p99_of_reads(&client, || true);
    cluster.datanodes[0].kill_9();
    let begin = Instant::now();
    let observer = cluster.client();
    let is_lost = || observer.fs_stats().is_ok_and(|stats| stats.datanodes_dead == 1);
    let avoided = p99_of_reads(&client, is_lost);
    let is_copied = || {
        let stats = observer.fs_stats().expect("stats");
        assert!(begin.elapsed() < wait::DEADLINE, "{stats:?}");
        stats.under_replicated_blocks + stats.missing_blocks == 0
    };
    let meanwhile = p99_of_reads(&client, is_copied);
    let copied = cluster.namenode.metric("ringfs_namenode_replicas_copied_total");
    println!(
        "p99 of open and read 64 KiB: {before:?} before, {avoided:?} while it was silent, {meanwhile:?} while {copied} \
         blocks were copied; all was copied {:?} after the kill",
        begin.elapsed()
    );
    assert!(copied > 0.0);
    // Writing goes on as well.
    write(&client, "/more", 1, BLOCK, 2);
    check(&client, "/more", 1, BLOCK);
}

#[test]
fn racks_come_from_a_table_that_may_change() {
    let namenode_toml = "topology_file = \"NAMENODE_DIR/racks\"\n".to_owned();
    let cluster = Cluster::start(&Options { datanodes: 2, namenode_toml, ..Options::default() });
    let topology = || {
        let output = cluster.command(&["admin", "topology"]).output().expect("run");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let report = cluster.command(&["admin", "report"]).output().expect("run");
    assert!(
        report.status.success()
            && String::from_utf8_lossy(&report.stdout).contains("0 blocks are being copied")
    );
    assert!(topology().starts_with("/default-rack\n"));
    for rack in ["/row1/rack1", "/row2/rack22"] {
        fs::write(cluster.namenode.dir().join("racks"), format!("127.0.0.1 {rack}\n")).expect("written");
        wait::until_true("the datanodes are there", || topology().starts_with(&format!("{rack}\n")));
        assert_eq!(topology().lines().count(), 3);
    }
    let copied = cluster.command(&["admin", "copy-now"]).output().expect("run");
    assert!(String::from_utf8_lossy(&copied.stdout).contains("nothing waits"));
}
