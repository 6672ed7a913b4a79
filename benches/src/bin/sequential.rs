//! Sequential write and read of one large file, beside what the disk (fio) and the loopback can do in the same run.
//!
//! Rates depend on the machine and its load; CPU-seconds per GiB, both ends together, are what to compare. Each figure
//! is the median of several rounds, with the range. `sequential [GiB] [rounds]`.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use ringfs_sdk::{Client, ReadHint};
use ringfs_tests::cluster::{Cluster, Options, file_options};
use ringfs_tests::data::Pattern;
use ringfs_tests::process::own_cpu;

const PIECE_BYTES: usize = 4 << 20;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// One round of one measurement.
#[derive(Debug, Clone, Copy)]
struct Round {
    elapsed: Duration,
    cpu: Duration,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let bytes = words.next().map_or(Ok(2), |word| word.parse::<u64>())? << 30;
    let rounds = words.next().map_or(Ok(5), |word| word.parse::<usize>())?;
    println!("# {} GiB, {rounds} rounds, {} CPUs", bytes >> 30, std::thread::available_parallelism()?);
    println!("{:<46} {:>24} {:>26}", "", "MiB/s min/median/max", "CPU-s per GiB, both ends");
    for (engine, replication) in [("glommio", 1), ("glommio", 3), ("threads", 1), ("threads", 3)] {
        let options = Options { datanodes: 3, engine, datanode_toml: String::new(), ..Options::default() };
        let cluster = Cluster::start(&options);
        let client = cluster.client();
        let mut writes = Vec::new();
        for round in 0..rounds {
            writes.push(write(&cluster, &client, &format!("/f{round}"), bytes, replication)?);
        }
        print(&format!("{engine}: write, {replication} replica(s)"), &writes, bytes);
        if replication == 1 {
            let mut reads = Vec::new();
            for _ in 0..rounds {
                drop_caches();
                reads.push(read(&cluster, &client, "/f0", bytes)?);
            }
            print(&format!("{engine}: read, caches dropped before"), &reads, bytes);
            let warm =
                (0..rounds).map(|_| read(&cluster, &client, "/f0", bytes)).collect::<Result<Vec<_>>>()?;
            print(&format!("{engine}: read, from the page cache"), &warm, bytes);
        }
    }
    let dir = tempfile::tempdir()?;
    fio(dir.path(), "fio write, direct, 1 MiB, depth 8", "write", bytes);
    fio(dir.path(), "fio read, direct, 1 MiB, depth 8", "read", bytes);
    let floor = (0..rounds).map(|_| loopback(dir.path(), bytes)).collect::<Result<Vec<_>>>()?;
    print("floor: loopback, sendfile from the page cache", &floor, bytes);
    Ok(())
}

fn write(cluster: &Cluster, client: &Client, path: &str, bytes: u64, replication: u16) -> Result<Round> {
    let mut piece = vec![0; PIECE_BYTES];
    Pattern { seed: 1 }.fill(0, &mut piece);
    measure(cluster, || {
        let mut writer = client.create_with(path, &file_options(replication, 0))?;
        for _ in 0..bytes / PIECE_BYTES as u64 {
            writer.write_all(&piece)?;
        }
        writer.close()?;
        Ok(())
    })
}

fn read(cluster: &Cluster, client: &Client, path: &str, bytes: u64) -> Result<Round> {
    let mut piece = vec![0; PIECE_BYTES];
    measure(cluster, || {
        let mut reader = client.open(path)?;
        reader.set_hint(ReadHint::Normal);
        let mut total = 0;
        loop {
            match reader.read(&mut piece)? {
                0 => break,
                len => total += len as u64,
            }
        }
        assert_eq!(total, bytes, "the whole file was read");
        Ok(())
    })
}

/// Time and CPU of this process and all servers.
fn measure(cluster: &Cluster, act: impl FnOnce() -> Result<()>) -> Result<Round> {
    let servers = || -> Duration {
        let processes =
            cluster.datanodes.iter().chain([&cluster.namenode]).filter_map(|server| server.process.as_ref());
        processes.map(ringfs_tests::process::Process::cpu).sum()
    };
    let (begin, cpu) = (Instant::now(), servers() + own_cpu());
    act()?;
    Ok(Round { elapsed: begin.elapsed(), cpu: (servers() + own_cpu()).saturating_sub(cpu) })
}

/// What the kernel alone costs: sendfile of a warm file to a loopback connection that is read and thrown away.
fn loopback(dir: &Path, bytes: u64) -> Result<Round> {
    let path = dir.join("floor");
    let file_bytes = bytes.min(256 << 20);
    if !path.exists() {
        std::fs::write(&path, vec![1; file_bytes as usize])?;
    }
    let file = std::fs::File::open(&path)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut reader = TcpStream::connect(listener.local_addr()?)?;
    let (writer, _) = listener.accept()?;
    let (begin, cpu) = (Instant::now(), own_cpu());
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let mut sent = 0;
        while sent < bytes {
            let mut offset = (sent % file_bytes).cast_signed();
            let len = (file_bytes - sent % file_bytes).min(bytes - sent) as usize;
            // SAFETY: the kernel only reads and advances `offset`; both descriptors are open in this closure.
            let part = unsafe { libc::sendfile(writer.as_raw_fd(), file.as_raw_fd(), &raw mut offset, len) };
            sent += u64::try_from(part).map_err(|_negative| std::io::Error::last_os_error())?;
        }
        Ok(())
    });
    let mut piece = vec![0; PIECE_BYTES];
    let mut total = 0;
    while total < bytes {
        total += reader.read(&mut piece)? as u64;
    }
    sender.join().expect("no panic")?;
    Ok(Round { elapsed: begin.elapsed(), cpu: own_cpu().saturating_sub(cpu) })
}

/// Runs fio, and prints its rate; says so loudly when it is not there.
fn fio(dir: &Path, name: &str, mode: &str, bytes: u64) {
    let arguments = [
        "--name=limit".to_owned(),
        format!("--directory={}", dir.display()),
        format!("--rw={mode}"),
        format!("--size={bytes}"),
        "--bs=1M".to_owned(),
        "--iodepth=8".to_owned(),
        "--direct=1".to_owned(),
        "--ioengine=io_uring".to_owned(),
        "--output-format=json".to_owned(),
    ];
    let Ok(output) = Command::new("fio").args(arguments).output() else {
        println!("{name:<46} SKIPPED: fio is not installed");
        return;
    };
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let rate = json["jobs"][0][mode]["bw_bytes"].as_f64().unwrap_or(0.0) / f64::from(1 << 20);
    println!("{name:<46} {rate:>24.0}");
}

/// Asks the kernel to forget clean pages. Needs root; without, "cold" reads are warm, and the row says so.
fn drop_caches() {
    // SAFETY: sync has no arguments and cannot fail.
    unsafe { libc::sync() };
    if let Err(error) = std::fs::write("/proc/sys/vm/drop_caches", "1") {
        eprintln!("caches cannot be dropped: {error}");
    }
}

fn print(name: &str, rounds: &[Round], bytes: u64) {
    let mib = bytes as f64 / f64::from(1 << 20);
    let mut rates: Vec<f64> = rounds.iter().map(|round| mib / round.elapsed.as_secs_f64()).collect();
    let mut cpu: Vec<f64> = rounds.iter().map(|round| round.cpu.as_secs_f64() / (mib / 1024.0)).collect();
    rates.sort_by(f64::total_cmp);
    cpu.sort_by(f64::total_cmp);
    let middle = rounds.len() / 2;
    let last = rounds.len() - 1;
    println!(
        "{name:<46} {:>24} {:>26}",
        format!("{:.0}/{:.0}/{:.0}", rates[0], rates[middle], rates[last]),
        format!("{:.2}/{:.2}/{:.2}", cpu[0], cpu[middle], cpu[last])
    );
}
