//! Disks that go bad: damage is found by the scrubber, failed volumes are left, and what was on them is copied.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use ringfs_tests::cluster::{Cluster, Options, file_options};
use ringfs_tests::data::Pattern;
use ringfs_tests::shim::Faults;
use ringfs_tests::wait;

const FILE_BYTES: usize = 3 << 20;
/// Reads everything again every second, as fast as it can.
const SCRUB: &str = "shards = 2\nscrub_period_s = 1\nscrub_bytes_per_second = 1073741824\n";

fn put(cluster: &Cluster, path: &str, replication: u16, seed: u64) {
    let client = cluster.client();
    let mut writer = client.create_with(path, &file_options(replication, 1 << 20)).expect("created");
    writer.write_all(&Pattern { seed }.bytes(0, FILE_BYTES)).expect("written");
    writer.close().expect("closed");
}

fn check(cluster: &Cluster, path: &str, seed: u64) {
    let mut bytes = vec![0; FILE_BYTES];
    cluster.client().open(path).expect("opened").read_at(0, &mut bytes).expect("read");
    Pattern { seed }.check(0, &bytes);
}

/// Whether every block has all of its replicas, and none is bad.
fn is_whole(cluster: &Cluster) -> bool {
    let value = |name: &str| cluster.namenode.metric(name);
    value("ringfs_namenode_blocks_under_replicated") == 0.0
        && value("ringfs_namenode_blocks_corrupt") == 0.0
        && value("ringfs_namenode_blocks_missing") == 0.0
}

#[test]
fn flipped_bytes_are_found_without_a_reader_and_replaced() {
    let options = Options { datanodes: 3, datanode_toml: SCRUB.to_owned(), ..Options::default() };
    let cluster = Cluster::start(&options);
    put(&cluster, "/file", 2, 5);
    let damaged = cluster.datanodes[0]
        .block_files()
        .into_iter()
        .next()
        .or_else(|| cluster.datanodes[1].block_files().into_iter().next());
    let damaged = damaged.expect("a block file");
    let server =
        cluster.datanodes.iter().find(|server| damaged.starts_with(server.dir())).expect("its datanode");
    let len = fs::metadata(&damaged).expect("looked at").len();
    let mut byte = [0];
    let file = File::options().read(true).write(true).open(&damaged).expect("opened");
    file.read_exact_at(&mut byte, len - 5).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], len - 5).expect("written");
    file.sync_all().expect("synced");
    wait::until_true("the scrubber finds the damage", || {
        server.metric("ringfs_datanode_scrub_errors_total") >= 1.0
    });
    wait::until_true("the bad replica is replaced", || {
        is_whole(&cluster) && !is_same(&damaged, len, byte[0] ^ 0x10)
    });
    check(&cluster, "/file", 5);
    for server in &cluster.datanodes {
        assert!(server.metric("ringfs_datanode_scrubbed_bytes_total") > 0.0);
    }
    wait::until_true("the report says what was found, and that all is scrubbed", || {
        let datanodes = cluster.client().datanode_report().expect("a report");
        let volumes = || datanodes.iter().flat_map(|node| &node.volumes);
        volumes().all(|volume| volume.scrubbed_s > 0) && volumes().any(|volume| volume.bad_replicas > 0)
    });
    let report = cluster.command(&["admin", "report"]).output().expect("run");
    let report = String::from_utf8_lossy(&report.stdout).into_owned();
    assert!(report.contains("scrubbed ") && report.contains(" BAD replicas found"), "{report}");
}

/// Whether the damaged file is still what it was made.
fn is_same(path: &PathBuf, len: u64, value: u8) -> bool {
    let mut byte = [0];
    File::open(path).and_then(|file| file.read_exact_at(&mut byte, len - 5)).is_ok_and(|()| byte[0] == value)
}

/// A cluster whose first datanode has a second volume, and faults that it obeys.
fn with_second_volume(more: &str) -> (Cluster, Faults, tempfile::TempDir) {
    let temp = tempfile::tempdir().expect("temporary directory");
    let faults = Faults::new(temp.path());
    let options = Options {
        datanodes: 3,
        engine: "threads",
        datanode_toml: format!("{SCRUB}{more}"),
        environment: faults.environment(),
        ..Options::default()
    };
    let mut cluster = Cluster::start(&options);
    let server = &mut cluster.datanodes[0];
    let config = server.dir().join("config.toml");
    let text = fs::read_to_string(&config).expect("read");
    let (one, two) = (server.dir().join("data"), server.dir().join("second"));
    let volumes = format!("volumes = [{one:?}, {two:?}]");
    let text: Vec<_> =
        text.lines().map(|line| if line.starts_with("volumes =") { &volumes } else { line }).collect();
    fs::write(&config, text.join("\n")).expect("written");
    server.kill_9();
    server.start();
    cluster.wait_serving();
    wait::until_true("three datanodes live", || {
        cluster.namenode.metric("ringfs_namenode_datanodes_live") == 3.0
    });
    (cluster, faults, temp)
}

#[test]
fn a_volume_that_fails_is_left_and_its_blocks_are_copied() {
    let (mut cluster, faults, _temp) = with_second_volume("");
    for seed in 0..6 {
        put(&cluster, &format!("/file-{seed}"), 2, seed);
    }
    let of_second = |cluster: &Cluster| {
        let files = cluster.datanodes[0].block_files();
        files.into_iter().filter(|path| path.to_string_lossy().contains("/second/")).count()
    };
    assert!(of_second(&cluster) > 0, "blocks lie on the volume that will fail");
    faults.set("* EIO datanode-0/second\n");
    wait::until_true("the datanode leaves the volume", || {
        cluster.datanodes[0].log().contains("volume has failed")
    });
    wait::until_true("its blocks are copied", || {
        is_whole(&cluster) && cluster.namenode.metric("ringfs_namenode_replicas_copied_total") > 0.0
    });
    assert!(!faults.hits().is_empty());
    assert!(cluster.datanodes[0].process().ended().is_none(), "it serves on");
    for seed in 0..6 {
        check(&cluster, &format!("/file-{seed}"), seed);
    }
    put(&cluster, "/after", 3, 9);
    check(&cluster, "/after", 9);
    // A restart without the volume goes on with what is left.
    cluster.datanodes[0].kill_9();
    cluster.datanodes[0].start();
    cluster.wait_serving();
    wait::until_true("everything is there again", || is_whole(&cluster));
    check(&cluster, "/after", 9);
}

#[test]
fn more_failed_volumes_than_allowed_end_the_datanode() {
    let (mut cluster, faults, _temp) = with_second_volume("volumes_failed_max = 0\n");
    for seed in 0..4 {
        put(&cluster, &format!("/file-{seed}"), 3, seed);
    }
    faults.set("* EIO datanode-0/second\n");
    let ended = cluster.datanodes[0].process().wait();
    assert_eq!(ended.code(), Some(3));
    let log = cluster.datanodes[0].log();
    assert!(log.contains("1 of 2 volumes have failed, volumes_failed_max is 0"), "{log}");
    for seed in 0..4 {
        check(&cluster, &format!("/file-{seed}"), seed);
    }
}
