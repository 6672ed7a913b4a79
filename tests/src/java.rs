//! Java for tests and benchmarks: programs, compiled, and a real HDFS.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

/// Ports that a real HDFS takes, from its first on.
const HDFS_PORTS: u16 = 32;

/// The top of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs a program of the repository; returns what it printed.
fn script(arguments: &[&str]) -> String {
    let output =
        Command::new(root().join("scripts/hadoop")).args(arguments).output().expect("it is a program");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// The class path of Hadoop, with the programs of `tests/hdfs` and `benches/hdfs` compiled into `target` (a directory).
///
/// # Panics
/// Without a JDK and Maven, or if they do not compile.
pub fn class_path(target: &str) -> &'static str {
    static CLASS_PATH: OnceLock<String> = OnceLock::new();
    CLASS_PATH.get_or_init(|| {
        let hadoop = script(&["classpath"]);
        let classes = Path::new(target).join("hdfs");
        let of = |dir: &str| std::fs::read_dir(root().join(dir)).expect("read").filter_map(Result::ok);
        let sources = of("tests/hdfs").chain(of("benches/hdfs"));
        let is_java = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "java");
        let compiled = Command::new("javac")
            .args(["-nowarn", "-cp", &hadoop, "-d"])
            .arg(&classes)
            .args(sources.map(|entry| entry.path()).filter(is_java))
            .output()
            .expect("javac is there");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        format!("{}:{hadoop}", classes.display())
    })
}

/// A Java virtual machine for one of the programs, small and quick to start.
pub fn java(target: &str, program: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", class_path(target), program]);
    command
}

/// A real HDFS on loopback. It ends and its directory goes with it.
#[derive(Debug)]
pub struct RealHdfs {
    port: u16,
    dir: TempDir,
}

impl RealHdfs {
    /// Starts it with so many datanodes; returns when it takes changes. Settings are `key=value`.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(datanodes: usize, settings: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let port = free_ports();
        let hdfs = Self { port, dir };
        let (path, port) = (hdfs.dir.path().to_string_lossy(), port.to_string());
        let datanodes = datanodes.to_string();
        script(&[&["up", "--dir", &path, "--port", &port, "--datanodes", &datanodes], settings].concat());
        hdfs
    }

    /// Role and process of each server.
    pub fn pids(&self) -> Vec<(String, i32)> {
        let lines = script(&["pids", "--dir", &self.dir.path().to_string_lossy()]);
        let pid = |line: &str| {
            let (role, pid) = line.split_once(' ')?;
            Some((role.to_owned(), pid.parse().ok()?))
        };
        lines.lines().filter_map(pid).collect()
    }

    /// `hdfs://host:port`.
    pub fn uri(&self) -> String {
        format!("hdfs://127.0.0.1:{}", self.port)
    }
}

impl Drop for RealHdfs {
    fn drop(&mut self) {
        script(&["down", "--dir", &self.dir.path().to_string_lossy()]);
    }
}

/// The first of [`HDFS_PORTS`] ports that nobody has, outside of those that the kernel gives away.
fn free_ports() -> u16 {
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (18_100..32_000)
        .step_by(usize::from(HDFS_PORTS))
        .find(|first| (*first..first + HDFS_PORTS).all(is_free))
        .expect("free ports")
}
