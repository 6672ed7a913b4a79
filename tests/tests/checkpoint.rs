//! Checkpoints, backups, several log directories and safe mode by hand, on real processes.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use ringfs_tests::cluster::{Cluster, Options, binary, file_options};
use ringfs_tests::wait;

const BLOCK: u64 = 1 << 20;

/// What belongs into the file with a number.
fn content(number: usize) -> Vec<u8> {
    (0..3000 + number * 7).map(|at| (at * 31 + number) as u8).collect()
}

fn write(cluster: &Cluster, number: usize) {
    let client = cluster.client();
    let mut writer =
        client.create_with(&format!("/data/f{number}"), &file_options(1, BLOCK)).expect("created");
    writer.write_all(&content(number)).expect("written");
    writer.close().expect("closed");
}

fn check(cluster: &Cluster, count: usize) {
    let client = cluster.client();
    for number in 0..count {
        let path = format!("/data/f{number}");
        let reader = client.open(&path).expect("opened");
        let mut found = vec![0; content(number).len()];
        assert_eq!(reader.read_at(0, &mut found).expect("read"), found.len());
        assert!(found == content(number), "{path}");
    }
}

fn run(cluster: &Cluster, words: &[&str]) -> (i32, String) {
    let output = cluster.command(words).output().expect("run");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("an exit code"), String::from_utf8_lossy(&text).into_owned())
}

fn names(directory: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("listed").map(|entry| entry.expect("an entry").path());
    let is_named =
        |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    let mut found: Vec<PathBuf> = entries.filter(is_named).collect();
    found.sort();
    found
}

fn copy_all(source: &Path, target: &Path) {
    fs::create_dir_all(target).expect("made");
    for entry in fs::read_dir(source).expect("listed") {
        let path = entry.expect("an entry").path();
        fs::copy(&path, target.join(path.file_name().expect("named"))).expect("copied");
    }
}

#[test]
fn a_start_goes_on_from_a_checkpoint_and_survives_damage_to_it() {
    let namenode_toml = "wal_segment_bytes = 65536\n".to_owned();
    let mut cluster = Cluster::start(&Options { namenode_toml, ..Options::default() });
    let wal = cluster.namenode.dir().join("wal");
    for number in 0..10 {
        write(&cluster, number);
        if number % 3 == 2 {
            let (code, text) = run(&cluster, &["admin", "checkpoint"]);
            assert!(code == 0 && text.contains("checkpoint at record"), "{text}");
        }
    }
    assert_eq!(names(&wal, "checkpoint-").len(), 2);
    let first_kept = names(&wal, "wal-").remove(0);
    assert!(!first_kept.ends_with(format!("wal-{:020}.log", 1)), "the log before is gone: {first_kept:?}");
    cluster.namenode.kill_9();
    cluster.start_all();
    check(&cluster, 10);
    write(&cluster, 10);
    cluster.namenode.kill_9();
    let newest = names(&wal, "checkpoint-").remove(1);
    let mut bytes = fs::read(&newest).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).expect("written");
    cluster.start_all();
    check(&cluster, 11);
    assert!(cluster.namenode.log().contains("a checkpoint cannot be used"));
    // With both damaged, the log alone does not reach back to the beginning.
    cluster.namenode.kill_9();
    for path in names(&wal, "checkpoint-") {
        fs::write(&path, b"RFSC but no more").expect("written");
    }
    let config = cluster.namenode.dir().join("config.toml");
    let output = Command::new(binary()).arg("namenode").arg("--config").arg(config).output().expect("run");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{text}");
    assert!(text.contains("wal-") && text.contains("at offset 0") && text.contains("bring back"), "{text}");
}

#[test]
fn a_backup_under_load_is_a_namespace_to_start_from() {
    let mut cluster = Cluster::start(&Options::default());
    for number in 0..20 {
        write(&cluster, number);
    }
    let (backup, used) = (cluster.dir().join("backup"), cluster.dir().join("used"));
    fs::create_dir(&used).expect("made");
    fs::write(used.join("mine"), "x").expect("written");
    let text_of = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = cluster.client();
        let stop = &stop;
        scope.spawn(move || {
            for number in 0.. {
                client.mkdirs(&format!("/load/d{number}")).expect("made");
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        wait::until_true("load", || cluster.client().stat("/load/d5").is_ok());
        let (code, text) = run(&cluster, &["admin", "checkpoint", "--to", &text_of(&used)]);
        assert!(code == 1 && text.contains("not empty"), "{text}");
        let (code, text) = run(&cluster, &["admin", "checkpoint", "--to", &text_of(&backup)]);
        assert!(code == 0 && text.contains("backup at record"), "{text}");
        stop.store(true, Ordering::Relaxed);
    });
    cluster.namenode.kill_9();
    let wal = cluster.namenode.dir().join("wal");
    fs::remove_dir_all(&wal).expect("wiped");
    copy_all(&backup, &wal);
    cluster.start_all();
    check(&cluster, 20);
    assert!(cluster.client().stat("/load/d5").is_ok());
    write(&cluster, 20);
    cluster.namenode.kill_9();
    cluster.start_all();
    check(&cluster, 21);
}

#[test]
fn a_state_older_than_the_datanodes_waits_for_the_operator() {
    let mut cluster = Cluster::start(&Options::default());
    write(&cluster, 0);
    let backup = cluster.dir().join("backup");
    let (code, text) = run(&cluster, &["admin", "checkpoint", "--to", backup.to_str().expect("UTF-8")]);
    assert_eq!(code, 0, "{text}");
    write(&cluster, 1);
    write(&cluster, 2);
    cluster.kill_9_all();
    let wal = cluster.namenode.dir().join("wal");
    fs::remove_dir_all(&wal).expect("wiped");
    copy_all(&backup, &wal);
    cluster.namenode.start();
    cluster.datanodes[0].start();
    wait::until_true("the older state is noticed", || {
        run(&cluster, &["admin", "report"]).1.contains("older")
    });
    let command = "ringfs admin safemode leave --accept-older-state";
    let (code, report) = run(&cluster, &["admin", "report"]);
    assert!(
        code == 0 && report.contains("block 3") && report.contains("block 1") && report.contains(command),
        "{report}"
    );
    let log = cluster.namenode.log();
    assert!(log.contains("the log ends at block 1") && log.contains(command), "{log}");
    wait::until_true("the health page says it", || {
        let http = cluster.namenode.ready.as_ref().expect("started").http;
        http_status(http).contains(command)
    });
    assert_eq!(run(&cluster, &["admin", "safemode", "get"]).0, 3);
    assert_eq!(run(&cluster, &["admin", "safemode", "leave"]).0, 1);
    let (code, text) = run(&cluster, &["admin", "safemode", "leave", "--accept-older-state"]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(run(&cluster, &["admin", "safemode", "get"]).0, 0);
    cluster.wait_serving();
    check(&cluster, 1);
    write(&cluster, 1);
    check(&cluster, 2);
    assert_eq!(run(&cluster, &["admin", "safemode", "enter"]).0, 0);
    assert_eq!(run(&cluster, &["admin", "safemode", "get"]).0, 3);
    assert_eq!(run(&cluster, &["admin", "safemode", "leave"]).0, 0);
    assert!(cluster.client().mkdirs("/yes").is_ok());
}

/// The body of the health page, whatever its status is.
fn http_status(address: std::net::SocketAddr) -> String {
    let mut stream = std::net::TcpStream::connect(address).expect("HTTP answers");
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn one_of_two_log_directories_may_be_lost_and_is_filled_again() {
    let mut cluster = Cluster::start(&Options::default());
    let (first, second) = (cluster.namenode.dir().join("wal"), cluster.namenode.dir().join("wal-2"));
    write(&cluster, 0);
    cluster.namenode.kill_9();
    fs::create_dir(&second).expect("made");
    let config = cluster.namenode.dir().join("config.toml");
    let text = fs::read_to_string(&config).expect("read");
    let one = format!("wal_dirs = [{first:?}]");
    assert!(text.contains(&one));
    fs::write(&config, text.replace(&one, &format!("wal_dirs = [{first:?}, {second:?}]"))).expect("written");
    cluster.start_all();
    write(&cluster, 1);
    // Damage in one of them, anywhere, is no loss.
    cluster.namenode.kill_9();
    for path in names(&first, "wal-") {
        let mut bytes = fs::read(&path).expect("read");
        bytes[4096..12_288].fill(0x5a);
        fs::write(&path, bytes).expect("written");
    }
    cluster.start_all();
    check(&cluster, 2);
    write(&cluster, 2);
    cluster.namenode.kill_9();
    assert_eq!(
        fs::read(&names(&first, "wal-")[0]).expect("read"),
        fs::read(&names(&second, "wal-")[0]).expect("read")
    );
    // A directory that was in use has to be there, until the operator says otherwise.
    fs::remove_dir_all(&first).expect("lost");
    let refused = Command::new(binary()).arg("namenode").arg("--config").arg(&config).output().expect("run");
    let reason = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(3) && reason.contains("take it out of wal_dirs"), "{reason}");
    let text = fs::read_to_string(&config).expect("read");
    fs::write(&config, text.replace(&format!("{first:?}, "), "")).expect("written");
    cluster.start_all();
    check(&cluster, 3);
}
