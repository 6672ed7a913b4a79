//! A power cut, in a kernel of its own: User-mode Linux, and a disk that from one moment on drops every write.
//!
//! `tests/power_cut.rs` boots the guest, whose first process is this program. It starts a cluster on the disk, lets clients
//! work, makes the disk drop what is written, kills everything, mounts the disk as it then is, starts the cluster again
//! and looks for every byte that was closed or synced before the cut.

use std::error::Error;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use ringfs_sdk::{Client, CreateOptions};
use ringfs_tests::cluster::binary;
use ringfs_tests::data::Pattern;
use ringfs_tests::random::Random;
use ringfs_tests::wait;
use serde::Deserialize;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Facts before the power is cut.
const FACTS: usize = 60;
const DISK: &str = "/dev/ubda";
/// The one mapping of the guest.
const MAPPED: &str = "/dev/dm-0";
const MOUNT: &str = "/mnt";
const MODULES: [&str; 2] = ["drivers/md/dm-mod.ko", "drivers/md/dm-flakey.ko"];

/// Something that was acknowledged as durable.
struct Fact {
    path: String,
    seed: u64,
    length: u64,
    is_closed: bool,
}

#[derive(Deserialize)]
struct Ready {
    uri: String,
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let [_, output, seed] = &words[..] else {
        return eprintln!("usage: power_cut DIRECTORY SEED, as the first process of a guest");
    };
    let outcome = seed.parse().map_err(Into::into).and_then(|seed| guest(Path::new(output), seed));
    let text = match &outcome {
        Ok(facts) => format!("kept {facts}"),
        Err(error) => format!("failed: {error}"),
    };
    println!("{text}");
    let written = File::create(Path::new(output).join("result")).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    if let Err(error) = written {
        println!("cannot write the result: {error}");
    }
    // SAFETY: the call takes no memory of ours; the guest ends with it.
    unsafe { libc::reboot(libc::LINUX_REBOOT_CMD_POWER_OFF) };
}

fn guest(output: &Path, seed: u64) -> Result<usize> {
    for module in MODULES {
        load_module(module)?;
    }
    run("mkfs.ext4", &["-q", "-F", DISK])?;
    let sectors = fs::read_to_string("/sys/block/ubda/size")?.trim().to_owned();
    run("dmsetup", &["create", "--noudevsync", "power", "--table", &format!("0 {sectors} linear {DISK} 0")])?;
    run("mount", &[MAPPED, MOUNT])?;
    let mut cluster = start(output)?;
    let client = connect(output, &mut cluster)?;
    let facts = work(&client, seed)?;
    cut_power(&sectors)?;
    kill_all(&mut cluster)?;
    run("umount", &[MOUNT])?;
    run("dmsetup", &["remove", "--noudevsync", "power"])?;
    // What is on the disk now is what a machine would find that lost its power at the cut.
    run("mount", &[DISK, MOUNT])?;
    let mut cluster = start(output)?;
    let client = connect(output, &mut cluster)?;
    for fact in &facts {
        check(&client, fact)?;
    }
    kill_all(&mut cluster)?;
    Ok(facts.len())
}

/// Files that are closed, and files that are synced and left open: all of them durable when this returns. One more of
/// each kind is being written at the cut, and may be lost.
fn work(client: &Client, seed: u64) -> Result<Vec<Fact>> {
    let mut random = Random::new(seed);
    let mut facts = Vec::new();
    let mut open = Vec::new();
    let options = CreateOptions { replication: 2, block_size: 128 << 10, ..CreateOptions::default() };
    for number in 0..FACTS + 2 {
        let (path, seed) = (format!("/files/{number}"), random.number());
        let length = 1 + random.below(300_000);
        let mut writer = client.create_with(&path, &options)?;
        writer.write_all(&Pattern { seed }.bytes(0, length as usize))?;
        let is_closed = random.chance(600);
        if number >= FACTS {
            open.push(writer);
            continue;
        }
        if is_closed {
            writer.close()?;
        } else {
            writer.hsync()?;
            open.push(writer);
        }
        facts.push(Fact { path, seed, length, is_closed });
    }
    // Names that change are as durable as bytes.
    for fact in facts.iter_mut().filter(|fact| fact.is_closed).step_by(3) {
        let target = format!("{}-renamed", fact.path);
        client.rename(&fact.path, &target, false)?;
        fact.path = target;
    }
    Ok(facts)
}

fn check(client: &Client, fact: &Fact) -> Result<()> {
    let reader = client.open(&fact.path)?;
    let status = reader.status();
    if fact.is_closed && (status.is_open || reader.len() != fact.length) {
        let text = format!("{}: closed with {} bytes, found {status:?}", fact.path, fact.length);
        return Err(text.into());
    }
    let mut bytes = vec![0; fact.length as usize];
    let read = reader.read_at(0, &mut bytes)?;
    if bytes != (Pattern { seed: fact.seed }).bytes(0, bytes.len()) || read != bytes.len() {
        return Err(format!("{}: {} bytes were durable, {read} are there", fact.path, fact.length).into());
    }
    Ok(())
}

/// From now on the disk says that it writes, and does not.
fn cut_power(sectors: &str) -> Result<()> {
    let table = format!("0 {sectors} flakey {DISK} 0 0 3600 1 drop_writes");
    run("dmsetup", &["suspend", "--noudevsync", "--nolockfs", "--noflush", "power"])?;
    run("dmsetup", &["load", "power", "--table", &table])?;
    run("dmsetup", &["resume", "--noudevsync", "power"])
}

fn start(output: &Path) -> Result<Child> {
    drop(fs::remove_file(ready_file(output)));
    let log = File::options().create(true).append(true).open(output.join("log"))?;
    let mut command = Command::new(binary());
    command.args(["up", "--datanodes", "2", "--port", "0", "--dir"]).arg(Path::new(MOUNT).join("cluster"));
    command.arg("--ready-file").arg(ready_file(output));
    Ok(command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?)
}

fn ready_file(output: &Path) -> PathBuf {
    output.join("ready.json")
}

fn connect(output: &Path, cluster: &mut Child) -> Result<Client> {
    let ready = wait::attempt(|| {
        let ended = cluster.try_wait().ok().flatten();
        let text = fs::read_to_string(ready_file(output)).ok();
        ended.map(|_| None).or_else(|| serde_json::from_str::<Ready>(&text?).ok().map(Some))
    });
    match ready.flatten() {
        Some(ready) => Ok(Client::connect(&ready.uri)?),
        None => {
            let log = fs::read_to_string(output.join("log")).unwrap_or_default();
            Err(format!("the cluster does not start:\n{log}").into())
        }
    }
}

/// The servers end with the process that started them.
fn kill_all(cluster: &mut Child) -> Result<()> {
    cluster.kill()?;
    cluster.wait()?;
    let is_server = |entry: fs::DirEntry| {
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        name.trim() == "ringfs"
    };
    wait::until_true("the servers are gone", || {
        // The first process of a system is the parent of all whose own has ended.
        while waitpid(None, Some(WaitPidFlag::WNOHANG)).is_ok_and(|status| status != WaitStatus::StillAlive) {
        }
        fs::read_dir("/proc").is_ok_and(|entries| !entries.filter_map(std::result::Result::ok).any(is_server))
    });
    Ok(())
}

fn load_module(name: &str) -> Result<()> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let path = format!("/usr/lib/uml/modules/{}/kernel/{name}", release.trim());
    let file = File::open(&path).map_err(|error| format!("{path}: {error}"))?;
    let parameters = CString::default();
    // SAFETY: the kernel reads the file and the string, which live until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), 0) };
    if result == 0 { Ok(()) } else { Err(format!("{path}: {}", std::io::Error::last_os_error()).into()) }
}

fn run(program: &str, words: &[&str]) -> Result<()> {
    let output = Command::new(program).args(words).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("{program} {}: {error}", words.join(" ")).into())
}
