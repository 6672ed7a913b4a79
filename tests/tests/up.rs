//! `ringfs up`: what dies is started again, all data survives, Ctrl-C stops everything; starts that are refused say why.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringfs_tests::cluster::{Cluster, Options, binary};
use ringfs_tests::process::{Process, Sandbox};
use ringfs_tests::wait;
use serde::Deserialize;
use tempfile::TempDir;

#[derive(Debug, Deserialize)]
struct Ready {
    uri: String,
    http: String,
    namenode: Server,
    datanodes: Vec<Datanode>,
}

#[derive(Debug, Deserialize)]
struct Server {
    pid: i32,
    address: String,
}

#[derive(Debug, Deserialize)]
struct Datanode {
    pid: i32,
    volumes: Vec<PathBuf>,
}

fn up(dir: &Path, more: &[&str]) -> (Process, PathBuf) {
    let ready_file = dir.join("ready.json");
    drop(fs::remove_file(&ready_file));
    let mut command = Command::new(binary());
    command.arg("up").arg("--dir").arg(dir.join("cluster")).arg("--ready-file").arg(&ready_file).args(more);
    (Process::start("up", command, &dir.join("up.log"), Sandbox::None), ready_file)
}

fn ready(process: &mut Process, file: &Path) -> Ready {
    wait::until("the cluster serves", || {
        assert!(process.ended().is_none(), "{}", process.log());
        serde_json::from_str(&fs::read_to_string(file).ok()?).ok()
    })
}

fn run(uri: &str, words: &[&str]) -> (i32, String) {
    let output = Command::new(binary()).arg("fs").args(words).env("RINGFS_URI", uri).output().expect("run");
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn is_running(pid: i32) -> bool {
    // A zombie that init has not reaped yet has ended too.
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state
        .rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim_start().starts_with(['Z', 'X']) && !rest.is_empty())
}

#[test]
fn children_and_up_itself_may_be_killed() {
    let temp = TempDir::new().expect("temporary directory");
    let (mut process, file) = up(temp.path(), &["--datanodes", "2", "--port", "0"]);
    let first = ready(&mut process, &file);
    assert!(first.http.starts_with("http://127.0.0.1:") && first.namenode.address.starts_with("127.0.0.1:"));
    assert!(first.datanodes.iter().all(|datanode| datanode.volumes.iter().all(|volume| volume.is_dir())));
    let source = temp.path().join("source");
    fs::write(&source, vec![7; 300_000]).expect("written");
    assert_eq!(run(&first.uri, &["-put", source.to_str().expect("UTF-8"), "/f"]).0, 0);

    for pid in [first.namenode.pid, first.datanodes[0].pid] {
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
    }
    let second = wait::until("the children run again", || {
        let ready: Ready = serde_json::from_str(&fs::read_to_string(&file).ok()?).ok()?;
        let is_new =
            ready.namenode.pid != first.namenode.pid && ready.datanodes[0].pid != first.datanodes[0].pid;
        is_new.then_some(ready)
    });
    assert_eq!(second.uri, first.uri, "the address stays");
    assert_eq!(run(&first.uri, &["-cat", "/f"]).1.len(), 300_000);

    process.kill_9();
    let pids: Vec<i32> =
        second.datanodes.iter().map(|datanode| datanode.pid).chain([second.namenode.pid]).collect();
    wait::until_true("the children of a killed parent end", || pids.iter().all(|pid| !is_running(*pid)));
    let (mut process, file) = up(temp.path(), &[]);
    let third = ready(&mut process, &file);
    assert_eq!((third.uri.as_str(), third.datanodes.len()), (first.uri.as_str(), 2));
    assert_eq!(run(&third.uri, &["-cat", "/f"]).1.len(), 300_000);

    let (mut other, _) = up(temp.path(), &[]);
    assert_eq!(other.wait().code(), Some(3));
    assert!(other.log().contains("another `ringfs up` runs on it"), "{}", other.log());

    process.signal(Signal::SIGINT);
    assert_eq!(process.wait().code(), Some(0));
    let pids: Vec<i32> =
        third.datanodes.iter().map(|datanode| datanode.pid).chain([third.namenode.pid]).collect();
    assert!(pids.iter().all(|pid| !is_running(*pid)), "Ctrl-C stops everything");
}

/// Runs a server that must refuse to start; returns its exit code and the last line on standard error.
fn refused(role: &str, config: &str) -> (i32, String) {
    let temp = TempDir::new().expect("temporary directory");
    let path = temp.path().join("config.toml");
    fs::write(&path, config).expect("written");
    let mut command = Command::new(binary());
    command.arg(role).arg("--config").arg(&path).stdout(Stdio::null());
    let output = command.output().expect("run");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code().unwrap_or(-1), text.lines().last().unwrap_or_default().to_owned())
}

#[test]
fn refused_starts_say_what_to_do_last() {
    let cluster = Cluster::start(&Options::default());
    let join = cluster.dir().join("join.toml");
    let temp = TempDir::new().expect("temporary directory");
    let volume = |name: &str| temp.path().join(name);
    let datanode = |volume: &Path, more: &str| {
        format!("join_file = {join:?}\nvolumes = [{volume:?}]\nport = 0\nhttp_port = 0\n{more}")
    };
    let check = |role: &str, config: &str, code: i32, reason: &str| {
        let (found, line) = refused(role, config);
        assert!(found == code && line.contains(reason), "exit code {found}, {line}");
    };
    check("namenode", "wal_dir = []", 2, "unknown key `wal_dir`; did you mean `wal_dirs`?");
    check("namenode", "port = 'x'", 2, "invalid type");
    check("namenode", "", 3, "wal_dirs is empty");
    check("namenode", &format!("wal_dirs = [{:?}]", volume("none")), 3, "not formatted; run");
    let wal = cluster.namenode.dir().join("wal");
    check("namenode", &format!("wal_dirs = [{wal:?}]\nport = 0"), 3, "another namenode is running");
    check("datanode", "volume = []", 2, "did you mean `volumes`?");
    check(
        "datanode",
        &format!("volumes = [{:?}]\njoin_file = '/nothing'", volume("v")),
        3,
        "make one with `ringfs admin join-file`",
    );
    let taken = cluster.datanodes[0].dir().join("data");
    check("datanode", &datanode(&taken, ""), 3, "another datanode is running on it");
    fs::create_dir(volume("foreign")).expect("made");
    fs::write(volume("foreign/photo.jpg"), b"x").expect("written");
    check("datanode", &datanode(&volume("foreign"), ""), 3, "holds no RingFS volume");
    let other = Cluster::start(&Options { datanodes: 1, ..Options::default() });
    let (mut other, theirs) = {
        let theirs = other.datanodes[0].dir().join("data");
        (other, theirs)
    };
    other.datanodes[0].kill_9();
    check("datanode", &datanode(&theirs, ""), 3, "it belongs to cluster");
    check("datanode", &datanode(Path::new("/proc/ringfs"), ""), 3, "check its permissions");
}

#[test]
fn a_formatted_directory_is_not_formatted_again() {
    let cluster = Cluster::start(&Options::default());
    let config = cluster.namenode.dir().join("config.toml");
    let mut command = Command::new(binary());
    let output = command.args(["namenode", "--format", "--config"]).arg(config).output().expect("run");
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not empty; choose another"));
}

#[test]
fn sigterm_drains_and_exits_0() {
    let mut cluster = Cluster::start(&Options::default());
    cluster.client().mkdirs("/d").expect("made");
    assert_eq!(cluster.datanodes[0].process().terminate().code(), Some(0));
    assert_eq!(cluster.namenode.process().terminate().code(), Some(0));
    cluster.datanodes[0].kill_9();
    cluster.namenode.kill_9();
    cluster.start_all();
    assert!(cluster.client().stat("/d").is_ok());
}
