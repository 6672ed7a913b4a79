//! Two hosts: a namenode and a datanode in network namespaces of their own, joined by a join file, as in
//! `docs/operating.md`. Needs root and `ip`; says so loudly where it cannot run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use ringfs_tests::cluster::binary;
use ringfs_tests::process::{Process, Sandbox};
use ringfs_tests::wait;
use tempfile::TempDir;

const NAMENODE: &str = "10.99.71.1";
const DATANODE: &str = "10.99.71.2";

/// Two namespaces with a cable between them; gone when dropped.
struct Hosts {
    names: [String; 2],
}

impl Hosts {
    fn new() -> Option<Self> {
        let tag = std::process::id();
        let hosts = Self { names: [format!("ringfs-a-{tag}"), format!("ringfs-b-{tag}")] };
        let [a, b] = &hosts.names;
        let (cable_a, cable_b) = (format!("rfa{tag}"), format!("rfb{tag}"));
        let steps = [
            format!("netns add {a}"),
            format!("netns add {b}"),
            format!("link add {cable_a} type veth peer name {cable_b}"),
            format!("link set {cable_a} netns {a}"),
            format!("link set {cable_b} netns {b}"),
            format!("-n {a} addr add {NAMENODE}/24 dev {cable_a}"),
            format!("-n {b} addr add {DATANODE}/24 dev {cable_b}"),
            format!("-n {a} link set {cable_a} up"),
            format!("-n {b} link set {cable_b} up"),
            format!("-n {a} link set lo up"),
            format!("-n {b} link set lo up"),
        ];
        for step in steps {
            let status = Command::new("ip").args(step.split(' ')).stderr(Stdio::null()).status();
            if !status.is_ok_and(|status| status.success()) {
                println!("SKIPPED: `ip {step}` failed: network namespaces need root and iproute2");
                return None;
            }
        }
        Some(hosts)
    }

    fn command(&self, host: usize, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.names[host]]).arg(binary()).args(words);
        command
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            drop(Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status());
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn a_datanode_on_another_host_joins_by_file() {
    let Some(hosts) = Hosts::new() else { return };
    let temp = TempDir::new().expect("temporary directory");
    let path = |name: &str| temp.path().join(name);
    let namenode = path("namenode.toml");
    fs::write(&namenode, format!("wal_dirs = [{:?}]\nbind = \"{NAMENODE}\"\n", path("wal")))
        .expect("written");
    let format =
        hosts.command(0, &["namenode", "--config", text(&namenode), "--format"]).output().expect("run");
    assert!(format.status.success(), "{format:?}");
    let command = hosts.command(0, &["namenode", "--config", text(&namenode)]);
    let running_namenode = Process::start("namenode", command, &path("namenode.log"), Sandbox::None);
    let address = format!("{NAMENODE}:8020");
    let words = ["admin", "join-file", "--config", text(&namenode), "--namenode", &address, "--output"];
    let joined = hosts.command(0, &words).arg(path("join.toml")).output().expect("run");
    assert!(joined.status.success(), "{joined:?}");

    let datanode = path("datanode.toml");
    let config = format!(
        "join_file = {:?}\nvolumes = [{:?}]\nbind = \"{DATANODE}\"\n",
        path("join.toml"),
        path("volume")
    );
    fs::write(&datanode, config).expect("written");
    let command = hosts.command(1, &["datanode", "--config", text(&datanode)]);
    let _datanode = Process::start("datanode", command, &path("datanode.log"), Sandbox::None);

    let uri = format!("ringfs://{address}");
    wait::until_true("the datanode has joined", || {
        let report = hosts.command(1, &["admin", "report", "--fs", &uri]).output().expect("run");
        String::from_utf8_lossy(&report.stdout).contains("1 live")
    });
    let put = hosts.command(0, &["fs", "--fs", &uri, "-put", text(&namenode), "/f"]).output().expect("run");
    assert!(put.status.success(), "{put:?}");
    let cat = hosts.command(1, &["fs", "--fs", &uri, "-cat", "/f"]).output().expect("run");
    assert_eq!(cat.stdout, fs::read(&namenode).expect("read"));
    assert!(
        running_namenode.log().contains("users are taken at their word"),
        "listening beyond the host is warned of"
    );
}
