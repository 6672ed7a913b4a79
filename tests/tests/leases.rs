//! Leases and recovery on real processes: writers are killed, stopped and cut off, others take their files over, and nothing
//! that was acknowledged is lost.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use ringfs_proto::Code;
use ringfs_proto::meta::data::WriteStage;
use ringfs_sdk::{Client, CreateOptions, Kind};
use ringfs_tests::cluster::{Cluster, Options, file_options};
use ringfs_tests::data::Pattern;
use ringfs_tests::hosts::Hosts;
use ringfs_tests::pipeline::TestBlock;
use ringfs_tests::remote::{Failed, RemoteWriter, Task};
use ringfs_tests::wait;

const BLOCK: u64 = 1 << 20;
const ENGINES: [&str; 2] = ["threads", "glommio"];
const SEED: u64 = 4;
/// Times of datanodes, scaled down.
const FAST: &str = "heartbeat_interval_ms = 200\ndatanode_stale_ms = 600\nblock_recovery_timeout_ms = 1000\n";
/// Limits that nothing here reaches.
const PATIENT: &str = "lease_soft_ms = 300000\nlease_hard_ms = 600000\n";

fn cluster(engine: &'static str, datanodes: usize, namenode_toml: &str) -> Cluster {
    Cluster::start(&Options {
        datanodes,
        engine,
        namenode_toml: format!("{FAST}{namenode_toml}"),
        ..Options::default()
    })
}

fn task(cluster: &Cluster, path: &str, replication: u16) -> Task {
    Task {
        uri: cluster.uri(),
        path: path.to_owned(),
        seed: SEED,
        replication,
        block_size: BLOCK,
        pipeline_timeout: Duration::from_secs(30),
    }
}

fn is_open(client: &Client, path: &str) -> bool {
    client.stat(path).expect("it is there").is_open
}

fn recover(client: &Client, path: &str) {
    wait::until_true("the file is recovered", || client.recover_lease(path).expect("it can be recovered"));
    assert!(!is_open(client, path));
}

/// The file has at least what was acknowledged, at most what was written, and the right bytes. Returns its length.
fn check(client: &Client, path: &str, acked: u64, written: u64) -> u64 {
    let reader = client.open(path).expect("opened");
    assert!((acked..=written).contains(&reader.len()), "{path}: {} of {acked} to {written}", reader.len());
    let mut bytes = vec![0; reader.len() as usize];
    assert_eq!(reader.read_at(0, &mut bytes).expect("read") as u64, reader.len());
    Pattern { seed: SEED }.check(0, &bytes);
    if let Some(content) = client.stat(path).expect("there").content_crc {
        assert_eq!(content.crc, content.kind.of(&bytes), "what is known is right");
    }
    reader.len()
}

/// Another writer replaces the file; its content is short and of another pattern.
fn overwrite(client: &Client, path: &str) -> Vec<u8> {
    let content = Pattern { seed: 99 }.bytes(0, 12_345);
    let options = CreateOptions { overwrite: true, ..file_options(1, BLOCK) };
    let mut writer = client.create_with(path, &options).expect("created");
    writer.append(&content).expect("written");
    writer.close().expect("closed");
    content
}

fn read(client: &Client, path: &str) -> Vec<u8> {
    let reader = client.open(path).expect("opened");
    let mut bytes = vec![0; reader.len() as usize];
    assert_eq!(reader.read_at(0, &mut bytes).expect("read"), bytes.len());
    bytes
}

#[test]
fn a_file_whose_writer_was_killed_is_closed_with_all_that_was_acknowledged() {
    for engine in ENGINES {
        let cluster = cluster(engine, 3, PATIENT);
        let client = cluster.client();
        // In the first block, at the end of one, just behind, and without a byte of the packet that is being collected.
        for (index, bytes) in [1, 70_001, BLOCK, BLOCK + 5, 2 * BLOCK + 333_333].into_iter().enumerate() {
            let path = format!("/f{index}");
            let mut writer = RemoteWriter::start(&task(&cluster, &path, 3));
            let acked = writer.write(bytes);
            let written = writer.ask("append 10").expect("appended");
            writer.kill_9();
            recover(&client, &path);
            check(&client, &path, acked, written);
            assert!(client.recover_lease(&path).expect("closed already"));
        }
        assert_eq!(read(&client, "/f1").len(), 70_001, "bytes of a packet that was not sent are nowhere");
        let content = overwrite(&client, "/f1");
        assert_eq!(read(&client, "/f1"), content);
        assert!(client.delete("/f2", false).expect("deleted"));
    }
}

#[test]
fn a_writer_that_is_gone_gives_way_after_the_soft_limit_to_whoever_wants_the_path() {
    let mut cluster = cluster("auto", 2, "lease_soft_ms = 500\nlease_hard_ms = 600000\n");
    let client = cluster.client();
    let mut lives = RemoteWriter::start(&task(&cluster, "/lives", 2));
    let mut dies = RemoteWriter::start(&task(&cluster, "/dies", 2));
    let acked = dies.write(100_000);
    lives.write(100_000);
    dies.kill_9();
    let create = |path| client.create(path).expect_err("it is there").kind();
    assert_eq!(create("/dies"), Kind::Busy, "its lease is held");
    wait::until_true("the creator is told that the file is closed", || {
        create("/dies") == Kind::AlreadyExists
    });
    check(&client, "/dies", acked, acked);
    // The other has outlived the limit by its connection: nobody gets its file by asking for the path.
    assert_eq!(create("/lives"), Kind::Busy);
    cluster.namenode.kill_9();
    cluster.namenode.start();
    assert_eq!(lives.write(100_000), 200_000, "a restart of the namenode is a pause");
    assert_eq!(lives.ask("close"), Ok(200_000));
    check(&client, "/lives", 200_000, 200_000);
}

#[test]
fn a_file_whose_writer_is_gone_is_closed_after_the_hard_limit_by_itself() {
    let mut cluster = cluster("auto", 2, "lease_soft_ms = 500\nlease_hard_ms = 1500\n");
    let client = cluster.client();
    let mut lives = RemoteWriter::start(&task(&cluster, "/lives", 2));
    let mut dies = RemoteWriter::start(&task(&cluster, "/dies", 2));
    let acked = dies.write(BLOCK + 100_000);
    dies.kill_9();
    wait::until_true("the file is closed", || !is_open(&client, "/dies"));
    check(&client, "/dies", acked, acked);
    // Whoever died while the namenode was away is gone as well.
    let mut dies = RemoteWriter::start(&task(&cluster, "/dies too", 2));
    let acked = dies.write(100_000);
    cluster.namenode.kill_9();
    dies.kill_9();
    cluster.namenode.start();
    lives.write(1000);
    wait::until_true("the file is closed", || !is_open(&client, "/dies too"));
    check(&client, "/dies too", acked, acked);
    assert!(is_open(&client, "/lives"), "whoever has a connection keeps its file");
    assert_eq!(lives.ask("close"), Ok(1000));
}

/// Names of errors.
fn lease_lost(result: Result<u64, Failed>) {
    let failed = result.expect_err("its lease is lost");
    assert_eq!((failed.kind.as_str(), failed.errno), ("LeaseLost", libc::ESTALE), "{}", failed.text);
}

#[test]
fn a_writer_that_was_stopped_while_its_file_was_taken_over_is_told_so() {
    for engine in ENGINES {
        let cluster = cluster(engine, 3, PATIENT);
        let client = cluster.client();
        let mut writers: Vec<RemoteWriter> =
            (0..4).map(|index| RemoteWriter::start(&task(&cluster, &format!("/f{index}"), 3))).collect();
        for writer in &mut writers {
            writer.write(300_000);
            writer.signal(Signal::SIGSTOP);
        }
        for index in 0..4 {
            recover(&client, &format!("/f{index}"));
            check(&client, &format!("/f{index}"), 300_000, 300_000);
        }
        let content = overwrite(&client, "/f0");
        assert!(client.delete("/f1", false).expect("deleted"));
        writers.iter().for_each(|writer| writer.signal(Signal::SIGCONT));
        let [overwritten, deleted, left, closed] = &mut writers[..] else { unreachable!("four of them") };
        // What is appended may be collected; it is told when it is to be acknowledged, or at once.
        lease_lost(overwritten.ask("append 200000").and_then(|_| overwritten.ask("hflush")));
        assert_eq!(overwritten.ask("hflush").expect_err("failed before").kind, "BadHandle");
        assert_eq!(read(&client, "/f0"), content, "nothing of it is anywhere");
        lease_lost(deleted.ask("append 10").and_then(|_| deleted.ask("close")));
        assert_eq!(client.stat("/f1").expect_err("deleted").kind(), Kind::NotFound);
        // Nobody has opened these since, and nothing is missing: they go on.
        assert_eq!(left.write(2 * BLOCK), 300_000 + 2 * BLOCK);
        assert!(is_open(&client, "/f2"));
        assert_eq!(left.ask("close"), Ok(300_000 + 2 * BLOCK));
        check(&client, "/f2", 300_000 + 2 * BLOCK, 300_000 + 2 * BLOCK);
        assert_eq!(closed.ask("close"), Ok(300_000));
        check(&client, "/f3", 300_000, 300_000);
    }
}

#[test]
fn a_writer_that_is_cut_off_for_less_than_the_limit_goes_on() {
    let hosts = match Hosts::new(4) {
        Ok(hosts) => Arc::new(hosts),
        Err(missing) => return println!("SKIPPED: {missing}"),
    };
    let cluster = Cluster::start(&Options {
        datanodes: 2,
        hosts: Some(hosts.clone()),
        namenode_toml: format!("{FAST}{PATIENT}"),
        ..Options::default()
    });
    let client = cluster.client();
    let mut writer = RemoteWriter::start_on(&hosts, 3, &task(&cluster, "/f", 2));
    writer.write(100_000);
    hosts.cut(3);
    writer.tell("append 300000");
    writer.tell("hflush");
    assert_eq!(client.create("/f").expect_err("it is there").kind(), Kind::Busy);
    check(&client, "/f", 100_000, 400_000);
    hosts.join(3);
    assert_eq!(writer.answer(), Ok(400_000));
    assert_eq!(writer.answer(), Ok(400_000));
    assert_eq!(writer.ask("close"), Ok(400_000));
    check(&client, "/f", 400_000, 400_000);
}

/// A writer that is killed while one of its three datanodes stands still: those before it in the pipeline have more than
/// was acknowledged. Returns what was acknowledged, what was written, and whether any has more: none, if the first stands.
fn tear(cluster: &mut Cluster, path: &str, stopped: usize) -> (u64, u64, bool) {
    let mut writer = RemoteWriter::start(&task(cluster, path, 3));
    let acked = writer.write(200_000);
    let received = |cluster: &Cluster| -> f64 {
        let others = (0..3).filter(|node| *node != stopped);
        others.map(|node| cluster.datanodes[node].metric("ringfs_datanode_write_bytes_total")).sum()
    };
    let before = received(cluster);
    cluster.datanodes[stopped].process().signal(Signal::SIGSTOP);
    writer.tell("append 400000");
    writer.tell("hflush");
    assert_eq!(writer.answer(), Ok(600_000));
    let is_torn = || (received(cluster) >= before + 400_000.0).then_some(());
    let is_torn = wait::attempt_within(Duration::from_secs(1), is_torn).is_some();
    writer.kill_9();
    (acked, 600_000, is_torn)
}

#[test]
fn replicas_of_different_length_get_the_longest_that_is_safe() {
    for engine in ENGINES {
        let mut cluster = cluster(engine, 3, &format!("{PATIENT}datanode_dead_ms = 3000\n"));
        let client = cluster.client();
        let mut files = Vec::new();
        for stopped in 0..3 {
            let path = format!("/f{stopped}");
            let (acked, written, is_torn) = tear(&mut cluster, &path, stopped);
            // The one that stands is not waited for for long: what the others have is enough, and they have it alike.
            recover(&client, &path);
            let length = check(&client, &path, acked, written);
            cluster.datanodes[stopped].process().signal(Signal::SIGCONT);
            files.push((path, length, is_torn));
        }
        assert!(files.iter().filter(|(_, _, is_torn)| *is_torn).count() >= 1, "{files:?}");
        for (path, length, _) in &files {
            let located = wait::until("the replica that stood still is replaced", || {
                let located = client.block_locations(path, 0, u64::MAX).expect("located").remove(0);
                (located.nodes.len() == 3).then_some(located)
            });
            let block = TestBlock::of(&cluster, &located);
            for node in 0..3 {
                let bytes = block.read(node, block.stamp, 0, *length).expect("each has all of it");
                assert_eq!(bytes.len() as u64, *length);
                Pattern { seed: SEED }.check(0, &bytes);
            }
            assert_eq!(check(&client, path, *length, *length), *length, "nothing changes any more");
        }
    }
}

#[test]
fn a_replica_that_a_restart_has_cut_is_heard_before_the_length_is_chosen() {
    for engine in ENGINES {
        let mut cluster = cluster(engine, 3, PATIENT);
        let client = cluster.client();
        let mut writer = RemoteWriter::start(&task(&cluster, "/f", 3));
        let acked = writer.write(500_000);
        for node in &mut cluster.datanodes {
            node.kill_9();
        }
        writer.kill_9();
        assert!(!client.recover_lease("/f").expect("recovery begins"));
        assert!(is_open(&client, "/f"), "nobody is left who could say how long it is");
        cluster.start_all();
        recover(&client, "/f");
        check(&client, "/f", acked, acked);
    }
}

#[test]
fn a_writer_that_opens_its_block_when_the_file_is_closed_is_refused() {
    for engine in ENGINES {
        let mut cluster = cluster(engine, 1, PATIENT);
        let client = cluster.client();
        // It was given a block, and stands still before it opens its pipeline.
        let block = TestBlock::new(&cluster, "/f", BLOCK);
        recover(&client, "/f");
        check(&client, "/f", 0, 0);
        let open = |block: &TestBlock| {
            let opened = block.open(&[0], block.stamp, WriteStage::Create);
            opened.map(drop).expect_err("no byte of it would be in the file").0.code
        };
        assert_eq!(open(&block), Code::StampMismatch);
        cluster.datanodes[0].kill_9();
        cluster.start_all();
        assert_eq!(open(&block.rejoined(&cluster)), Code::StampMismatch, "after a restart as well");
    }
}

#[test]
fn the_command_line_recovers_a_file() {
    let cluster = cluster("auto", 2, PATIENT);
    let client = cluster.client();
    let mut writer = RemoteWriter::start(&task(&cluster, "/f", 2));
    let acked = writer.write(123_456);
    writer.kill_9();
    let run = |words: &[&str]| {
        let output = cluster.command(words).output().expect("run");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, out, err) = run(&["admin", "recover-lease", "/f", "--retries", "30"]);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.ends_with("recoverLease SUCCEEDED on /f\n"), "{out}");
    check(&client, "/f", acked, acked);
    assert_eq!(run(&["admin", "recover-lease", "/f"]).0, Some(0), "closed already");
    let (code, _, err) = run(&["admin", "recover-lease", "/missing"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("/missing") && err.contains("does not exist"), "{err}");
    client.mkdirs("/d").expect("made");
    let (code, _, err) = run(&["admin", "recover-lease", "/d"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("/d") && err.contains("not a file"), "{err}");
}
