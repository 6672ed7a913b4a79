//! `make demo`: a cluster of three datanodes, a data set, servers killed, everything read back and compared.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringfs_proto::checksum::ChecksumType;
use ringfs_sdk::{Client, FileKind};
use ringfs_tests::cluster::binary;
use ringfs_tests::data::Pattern;
use ringfs_tests::java;
use serde::Deserialize;

const SMALL_FILES: u64 = 400;
const SHARDS: u64 = 20;
/// A directory of the data set, and where Hadoop's shell puts it.
const SHARD: &str = "shard-00";
const OF_HADOOP: &str = "/of-hadoop";
const LARGE_BYTES: u64 = 1 << 30;
const PIECE_BYTES: usize = 4 << 20;
const DEADLINE: Duration = Duration::from_secs(60);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Debug, Deserialize)]
struct Ready {
    uri: String,
    namenode: Server,
    datanodes: Vec<Server>,
}

#[derive(Debug, Deserialize)]
struct Server {
    pid: i32,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\ndemo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let dir = tempfile::Builder::new().prefix("ringfs-demo-").tempdir()?;
    let (source, ready_file) = (dir.path().join("data"), dir.path().join("ready.json"));
    println!("RingFS demo, in {}\n", dir.path().display());

    step("make a data set: several hundred files, and one of 1 GiB");
    let sums = make_data(&source)?;
    let total: u64 = sums.values().map(|(bytes, _)| bytes).sum();
    println!("    {} files, {:.2} GiB", sums.len(), gib(total));

    step("start a cluster of three datanodes");
    let mut cluster = Running(start(dir.path(), &ready_file)?);
    let ready = wait_ready(&mut cluster.0, &ready_file)?;
    println!("    {} serves; every block is kept 3 times", ready.uri);

    step("put the data set in");
    let wrote = timed(|| fs_command(&ready.uri, &["-put", "-t", "8", path(&source)?, "/data"]))?;
    println!(
        "    {:.2} s, {:.0} MiB/s of data, {:.0} MiB/s to disks",
        wrote.as_secs_f64(),
        rate(total, wrote),
        rate(3 * total, wrote)
    );

    let has_hadoop = write_with_hadoop(&ready.uri, &source)?;

    step("kill -9 the namenode and one datanode");
    let begin = Instant::now();
    for server in [&ready.namenode, &ready.datanodes[0]] {
        kill(Pid::from_raw(server.pid), Signal::SIGKILL)?;
        println!("    killed process {}", server.pid);
    }
    let client = Client::connect(&ready.uri)?;
    let entries = client.list("/data")?.count();
    println!(
        "    {entries} entries listed again after {:.2} s: clients only saw a pause",
        begin.elapsed().as_secs_f64()
    );

    step("read everything back and compare checksums");
    let mut found = BTreeMap::new();
    let read = timed(|| read_tree(&client, "/data", "", &mut found))?;
    println!("    {:.2} s, {:.0} MiB/s, every byte verified", read.as_secs_f64(), rate(total, read));
    if found != sums {
        let wrong = sums.iter().find(|(name, sum)| found.get(*name) != Some(sum)).map(|(name, _)| name);
        return Err(format!("{wrong:?} is missing or has other bytes").into());
    }

    if has_hadoop {
        let mut of_hadoop = BTreeMap::new();
        read_tree(&client, OF_HADOOP, &format!("{SHARD}/"), &mut of_hadoop)?;
        let is_same = of_hadoop.iter().all(|(name, sum)| sums.get(name) == Some(sum));
        if of_hadoop.len() as u64 != SMALL_FILES / SHARDS || !is_same {
            return Err("what Hadoop's shell wrote is not what is read".into());
        }
        println!("    and the {} files that Hadoop's shell wrote", of_hadoop.len());
    }

    step("stop");
    kill(Pid::from_raw(i32::try_from(cluster.0.id())?), Signal::SIGTERM)?;
    let status = cluster.0.wait()?;
    println!("\n  files compared        {}", found.len());
    println!("  bytes compared        {total}");
    println!("  processes killed -9   2");
    println!("  lost or different     0");
    println!("  write, read           {:.0} MiB/s, {:.0} MiB/s", rate(total, wrote), rate(total, read));
    println!("  clean stop            {status}");
    Ok(())
}

/// Puts a directory in with Hadoop's own shell, where there is a JDK for it.
fn write_with_hadoop(uri: &str, source: &Path) -> Result<bool> {
    step("put a directory in with Hadoop's own shell");
    let is_there = |program: &str| Command::new(program).arg("-version").output().is_ok();
    if !is_there("java") || !is_there("mvn") {
        println!("    left out: it takes a JDK and Maven (Debian: openjdk-17-jdk-headless, maven)");
        return Ok(false);
    }
    let hadoop = Command::new(java::root().join("scripts/hadoop")).arg("classpath").output()?;
    if !hadoop.status.success() {
        println!("    left out: {}", String::from_utf8_lossy(&hadoop.stderr).trim());
        return Ok(false);
    }
    let uri = uri.replace("ringfs://", "hdfs://");
    println!("    $ hdfs dfs -fs {uri} -put {SHARD} {OF_HADOOP}");
    let status = Command::new("java")
        .args(["-cp", String::from_utf8(hadoop.stdout)?.trim(), "org.apache.hadoop.fs.FsShell", "-fs", &uri])
        .args(["-put", path(&source.join(SHARD))?, OF_HADOOP])
        .status()?;
    if status.success() { Ok(true) } else { Err(format!("Hadoop's shell: {status}").into()) }
}

/// The cluster; it ends with the demo, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let (Ok(None), Ok(pid)) = (self.0.try_wait(), i32::try_from(self.0.id())) {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGTERM);
            let _ended = self.0.wait();
        }
    }
}

fn step(what: &str) {
    println!("\n==> {what}");
}

/// Makes the files, and returns length and checksum of each by name.
fn make_data(source: &Path) -> Result<BTreeMap<String, (u64, u32)>> {
    let mut sums = BTreeMap::new();
    for index in 0..SMALL_FILES {
        let name = format!("shard-{:02}/sample-{index:04}.bin", index % SHARDS);
        // From nothing to about 200 KiB, as samples are.
        let bytes = (index * index * 7919) % (200 << 10);
        sums.insert(name.clone(), make_file(&source.join(&name), index, bytes)?);
    }
    sums.insert("checkpoint.bin".to_owned(), make_file(&source.join("checkpoint.bin"), 7, LARGE_BYTES)?);
    Ok(sums)
}

fn make_file(path: &Path, seed: u64, bytes: u64) -> Result<(u64, u32)> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    let mut file = File::create(path)?;
    let mut piece = vec![0; PIECE_BYTES];
    let (mut at, mut crc) = (0, 0);
    while at < bytes {
        let len = PIECE_BYTES.min((bytes - at) as usize);
        Pattern { seed }.fill(at, &mut piece[..len]);
        file.write_all(&piece[..len])?;
        crc = ChecksumType::Crc32c.append(crc, &piece[..len]);
        at += len as u64;
    }
    Ok((bytes, crc))
}

fn start(dir: &Path, ready_file: &Path) -> Result<Child> {
    let mut command = Command::new(binary());
    command.arg("up").arg("--dir").arg(dir.join("cluster")).args([
        "--datanodes",
        "3",
        "--port",
        "0",
        "--ready-file",
    ]);
    command.arg(ready_file).stdout(Stdio::null());
    Ok(command.spawn()?)
}

fn wait_ready(cluster: &mut Child, ready_file: &PathBuf) -> Result<Ready> {
    let begin = Instant::now();
    loop {
        if let Ok(text) = fs::read_to_string(ready_file) {
            return Ok(serde_json::from_str(&text)?);
        }
        if let Some(status) = cluster.try_wait()? {
            return Err(format!("the cluster ended: {status}").into());
        }
        if begin.elapsed() > DEADLINE {
            return Err("the cluster does not serve".into());
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn fs_command(uri: &str, words: &[&str]) -> Result<()> {
    println!("    $ ringfs fs {}", words.join(" "));
    let status = Command::new(binary()).arg("fs").args(words).env("RINGFS_URI", uri).status()?;
    if status.success() { Ok(()) } else { Err(format!("ringfs fs {}: {status}", words.join(" ")).into()) }
}

fn read_tree(client: &Client, path: &str, name: &str, sums: &mut BTreeMap<String, (u64, u32)>) -> Result<()> {
    for entry in client.list(path)? {
        let entry = entry?;
        let (path, name) = (format!("{path}/{}", entry.name), format!("{name}{}", entry.name));
        if entry.kind == FileKind::Directory {
            read_tree(client, &path, &format!("{name}/"), sums)?;
        } else {
            let mut reader = client.open(&path)?;
            let (mut buffer, mut total, mut crc) = (vec![0; PIECE_BYTES], 0, 0);
            loop {
                let len = Read::read(&mut reader, &mut buffer)?;
                if len == 0 {
                    break;
                }
                crc = ChecksumType::Crc32c.append(crc, &buffer[..len]);
                total += len as u64;
            }
            sums.insert(name, (total, crc));
        }
    }
    Ok(())
}

fn timed(act: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let begin = Instant::now();
    act()?;
    Ok(begin.elapsed())
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| "the temporary directory is not UTF-8".into())
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 30)
}

fn rate(bytes: u64, elapsed: Duration) -> f64 {
    bytes as f64 / f64::from(1 << 20) / elapsed.as_secs_f64()
}
