//! How long a cluster is away when its namenode is killed: from `kill -9` to the first read and the first write of clients
//! that were connected, with 800,000 records in the log and 100,000 blocks on a datanode.
//!
//! The records are written by the namenode's own log, and the replicas stand in the journal of a real datanode, which
//! reports them; the files that are read and written are real. Twice: with all records to be replayed, and with a checkpoint.
//! Beside it what the machine needs to start a process and to read the same bytes. `recovery [records] [blocks] [rounds]`.

use std::error::Error;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringfs_benches::state::{Generator, Sizes};
use ringfs_disk::SystemDisk;
use ringfs_namenode::boot::boot;
use ringfs_namenode::checkpoint;
use ringfs_namenode::config::Config;
use ringfs_sdk::Client;
use ringfs_tests::cluster::{Cluster, Options, binary, file_options};
use ringfs_tests::data::Pattern;
use ringfs_tests::process::own_cpu;

const FILE_BYTES: usize = 4096;
const FILES: u64 = 16;
const PATTERN: Pattern = Pattern { seed: 11 };
/// No checkpoint is taken but those that this asks for, and nothing is deleted or scrubbed meanwhile.
const NAMENODE_TOML: &str = "checkpoint_records = 1000000000\ncheckpoint_log_bytes = 1000000000000\ncheckpoint_interval_ms = 100000000\nreplication = 1\n";
const DATANODE_TOML: &str = "scrub_bytes_per_second = 0\n";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Times of one kill, from the kill on.
#[derive(Debug, Clone, Copy)]
struct Round {
    listens: Duration,
    read: Duration,
    write: Duration,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut word = |default: u64| words.next().map_or(Ok(default), |word| word.parse());
    let sizes = Sizes { records: word(800_000)?, blocks: word(100_000)? };
    let rounds = word(5)?;
    println!(
        "# {} records, {} blocks, {rounds} rounds, {} CPUs",
        sizes.records,
        sizes.blocks,
        std::thread::available_parallelism()?
    );
    let options = Options {
        namenode_toml: NAMENODE_TOML.to_owned(),
        datanode_toml: DATANODE_TOML.to_owned(),
        ..Options::default()
    };
    let mut cluster = Cluster::start(&options);
    let client = cluster.client();
    for file in 0..FILES {
        write(&client, &format!("/real-{file}"))?;
    }
    cluster.kill_9_all();
    let config = namenode_config(&cluster);
    let journal = cluster.datanodes[0].dir().join("data/journal");
    Generator::new(&config, &journal)?.run(sizes)?;
    let bytes = bytes_of(&config.wal_dirs[0], "wal-")?;
    replay_alone("the log alone", &config, rounds)?;
    cluster.start_all();
    kill_and_wait("all in the log", &mut cluster, &client, rounds)?;
    let written = client.checkpoint("")?;
    kill_and_wait("in a checkpoint", &mut cluster, &client, rounds)?;
    cluster.kill_9_all();
    checkpoint_alone(&config, rounds)?;
    print_limits(&config.wal_dirs[0], bytes, written.bytes, rounds)
}

fn namenode_config(cluster: &Cluster) -> Config {
    Config { wal_dirs: vec![cluster.namenode.dir().join("wal")], ..Config::default() }
}

/// Kills the namenode and starts it again, while a reader and a writer that were connected before try on.
fn kill_and_wait(title: &str, cluster: &mut Cluster, client: &Client, rounds: u64) -> Result<()> {
    let mut all = Vec::new();
    for round in 0..rounds {
        let (reader, writer) = (cluster.client(), cluster.client());
        read(&reader, "/real-0")?;
        write(&writer, &format!("/before-{title}-{round}"))?;
        let begin = Instant::now();
        cluster.namenode.kill_9();
        let reading = std::thread::spawn(move || {
            read(&reader, &format!("/real-{}", 1 + round % (FILES - 1)))
                .map(|()| begin.elapsed())
                .map_err(|error| error.to_string())
        });
        let path = format!("/after-{title}-{round}");
        let writing = std::thread::spawn(move || {
            write(&writer, &path).map(|()| begin.elapsed()).map_err(|error| error.to_string())
        });
        cluster.namenode.start();
        let listens = begin.elapsed();
        let read = reading.join().expect("no panic")?;
        let write = writing.join().expect("no panic")?;
        all.push(Round { listens, read, write });
        read_again(client, round)?;
    }
    let column = |of: fn(&Round) -> Duration| all.iter().map(of).collect::<Vec<_>>();
    print(&format!("{title}: kill to a listening namenode"), column(|round| round.listens));
    print(&format!("{title}: kill to the first read"), column(|round| round.read));
    print(&format!("{title}: kill to the first write, closed"), column(|round| round.write));
    Ok(())
}

/// Everything is still there: a benchmark of a cluster that has lost something says nothing.
fn read_again(client: &Client, round: u64) -> Result<()> {
    read(client, &format!("/real-{}", round % FILES))
}

fn write(client: &Client, path: &str) -> Result<()> {
    let mut writer = client.create_with(path, &file_options(1, 0))?;
    writer.write_all(&PATTERN.bytes(0, FILE_BYTES))?;
    writer.close()?;
    Ok(())
}

fn read(client: &Client, path: &str) -> Result<()> {
    let mut bytes = Vec::new();
    client.open(path)?.read_to_end(&mut bytes)?;
    assert_eq!(bytes.len(), FILE_BYTES, "the whole file");
    PATTERN.check(0, &bytes);
    Ok(())
}

/// A start as the namenode makes it, without a process.
fn replay_alone(title: &str, config: &Config, rounds: u64) -> Result<()> {
    let disk: Arc<dyn ringfs_disk::Disk> = Arc::new(SystemDisk);
    let mut times = Vec::new();
    let (mut records, cpu) = (0, own_cpu());
    for round in 0..rounds {
        let begin = Instant::now();
        let booted = boot(&disk, config, round).map_err(|error| error.to_string())?;
        times.push(begin.elapsed());
        records = booted.log.last().0 - booted.checkpoint.0;
    }
    let cpu = own_cpu().saturating_sub(cpu);
    print(&format!("{title}: read, verified, applied"), times.clone());
    print_rate("records", records, &times, cpu);
    Ok(())
}

fn checkpoint_alone(config: &Config, rounds: u64) -> Result<()> {
    let directory = &config.wal_dirs[0];
    let identity = ringfs_namenode::directory::Directories::open(&SystemDisk, &config.wal_dirs)?;
    let cluster = identity.identity.cluster.cluster;
    let index = checkpoint::list(&SystemDisk, directory)?.pop().ok_or("no checkpoint")?;
    let (mut times, mut inodes, cpu) = (Vec::new(), 0, own_cpu());
    for _ in 0..rounds {
        let begin = Instant::now();
        let state = checkpoint::load(&SystemDisk, &checkpoint::path(directory, index), cluster)?;
        times.push(begin.elapsed());
        inodes = state.counts().files + state.counts().directories;
    }
    let cpu = own_cpu().saturating_sub(cpu);
    print(&format!("the checkpoint alone: {inodes} inodes"), times.clone());
    print_rate("inodes", inodes, &times, cpu);
    Ok(())
}

/// A rate by the clock, and by the CPU time of all threads: the latter is what a busy machine leaves to compare.
fn print_rate(unit: &str, count: u64, times: &[Duration], cpu: Duration) {
    let by_clock = count as f64 / median(times).as_secs_f64();
    let by_cpu = count as f64 * times.len() as f64 / cpu.as_secs_f64();
    println!("{:<52} {by_clock:>9.0} {unit}/s, {by_cpu:.0} per CPU-second", "");
}

/// What no namenode can do without: a process that starts, and the bytes of the log and of the checkpoint, read.
fn print_limits(directory: &Path, log_bytes: u64, checkpoint_bytes: u64, rounds: u64) -> Result<()> {
    let times = |act: &dyn Fn() -> Result<()>| -> Result<Vec<Duration>> {
        let time = |_| {
            let begin = Instant::now();
            act().map(|()| begin.elapsed())
        };
        (0..rounds).map(time).collect()
    };
    let start = times(&|| {
        Command::new(binary()).arg("--version").output()?;
        Ok(())
    })?;
    print("limit: a process starts and ends", start);
    for (prefix, bytes) in [("wal-", log_bytes), ("checkpoint-", checkpoint_bytes)] {
        let files = files_of(directory, prefix)?;
        let read = times(&|| {
            let mut buffer = vec![0; 4 << 20];
            for path in &files {
                let mut file = fs::File::open(path)?;
                while file.read(&mut buffer)? > 0 {}
            }
            Ok(())
        })?;
        print(&format!("limit: {} MiB of {prefix}* are read", bytes >> 20), read);
    }
    Ok(())
}

fn files_of(directory: &Path, prefix: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(prefix) {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn bytes_of(directory: &Path, prefix: &str) -> Result<u64> {
    files_of(directory, prefix)?.iter().map(|path| Ok(fs::metadata(path)?.len())).sum()
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn print(title: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1000.0);
    let [least, median, most] = [times.first(), times.get(times.len() / 2), times.last()].map(ms);
    println!("{title:<52} {least:>9.1}/{median:.1}/{most:.1} ms");
}
