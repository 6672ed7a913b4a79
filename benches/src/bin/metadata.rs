//! Small files and metadata: 4 KiB files put, created, opened and read, statuses, listings and reads of many at once, by one
//! client and by 64, beside what a sync of the disk and a round trip over the loopback take in the same run.
//!
//! Each client has a thread and connections of its own. Rates depend on the machine and its load; CPU per operation is what to
//! compare. Each figure is the median of several rounds. `metadata [seconds a round] [rounds]`.

use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ringfs_benches::report::{RESULTS, Report};
use ringfs_sdk::{Client, CreateOptions};
use ringfs_tests::cluster::{Cluster, Options};
use ringfs_tests::process::{Process, own_cpu};

const FILE_BYTES: usize = 4096;
const DIRECTORIES: u64 = 10;
const FILES_PER_DIRECTORY: u64 = 1000;
const CLIENTS: [usize; 2] = [1, 64];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Does an operation once; returns how many that were.
type Act<'a> = dyn Fn(&Client, u64) -> ringfs_sdk::Result<u64> + Sync + 'a;

/// One round of one operation.
#[derive(Debug, Clone, Copy, Default)]
struct Round {
    per_s: f64,
    p99_ms: f64,
    client_us: f64,
    server_us: f64,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let seconds = words.next().map_or(Ok(2.0), |word| word.parse::<f64>())?;
    let rounds = words.next().map_or(Ok(3), |word| word.parse::<usize>())?;
    let namenode_toml = format!("small_files.inline_bytes_max = {}\n", 64 << 10);
    let cluster = Cluster::start(&Options { datanodes: 3, namenode_toml, ..Options::default() });
    let content: Vec<u8> = (0..FILE_BYTES).map(|at| at as u8).collect();
    fill(&cluster.client(), &content)?;
    let next = AtomicU64::new(0);
    let fresh = |name: &str| {
        let number = next.fetch_add(1, Ordering::Relaxed);
        format!("/{name}/{}/{number:012}", number % 64)
    };
    let options = CreateOptions { replication: 3, ..CreateOptions::default() };
    let operations: [(&str, &Act<'_>); 6] = [
        ("put 4 KiB", &|client, _turn| client.put(&fresh("put"), &content, &options).map(|_status| 1)),
        ("create, write, close 4 KiB", &|client, _turn| {
            let mut writer = client.create_with(&fresh("created"), &options)?;
            drop(writer.write_all(&content));
            writer.close().map(|_status| 1)
        }),
        ("open, read 4 KiB", &|client, turn| {
            let mut bytes = [0; FILE_BYTES];
            client.open(&known(turn))?.read_at(0, &mut bytes).map(|_bytes| 1)
        }),
        ("stat", &|client, turn| client.stat(&known(turn)).map(|_status| 1)),
        ("list 1000 entries", &|client, turn| {
            client.list(&format!("/small/{}", turn % DIRECTORIES))?.try_for_each(|entry| entry.map(drop))?;
            Ok(1)
        }),
        ("read many: 1000 files of 4 KiB", &|client, turn| {
            let directory = turn % DIRECTORIES;
            let paths: Vec<String> =
                (0..FILES_PER_DIRECTORY).map(|file| format!("/small/{directory}/{file:06}")).collect();
            client.read_many(&paths)?.into_iter().try_for_each(|bytes| bytes.map(drop))?;
            Ok(FILES_PER_DIRECTORY)
        }),
    ];
    let mut report = Report::new("metadata");
    for (name, act) in operations {
        for clients in CLIENTS {
            let mut all = Vec::new();
            for _ in 0..rounds {
                all.push(round(&cluster, clients, Duration::from_secs_f64(seconds), act)?);
            }
            let unit = if clients == 1 { "client" } else { "clients" };
            tell(&format!("{name}, {clients} {unit}"), &all, &mut report);
        }
    }
    report.add("limit: a synced write of 4 KiB to the disk", synced_writes(cluster.dir(), seconds)?, "per s");
    report.add("limit: a round trip of 64 bytes over the loopback", round_trips(seconds)?, "per s");
    report.finish(Path::new(RESULTS))?;
    Ok(())
}

/// The files that are read.
fn fill(client: &Client, content: &[u8]) -> Result<()> {
    for file in 0..DIRECTORIES * FILES_PER_DIRECTORY {
        client.put(&known(file), content, &CreateOptions::default())?;
    }
    Ok(())
}

fn known(turn: u64) -> String {
    let (directory, file) = (turn % DIRECTORIES, turn / DIRECTORIES % FILES_PER_DIRECTORY);
    format!("/small/{directory}/{file:06}")
}

/// All clients do the same for a while.
fn round(cluster: &Cluster, clients: usize, length: Duration, act: &Act<'_>) -> Result<Round> {
    let all: Vec<Client> = (0..clients).map(|_| cluster.client()).collect();
    for client in &all {
        // Its connection is made before the time counts.
        client.stat("/")?;
    }
    let (begin, stop) = (Barrier::new(clients + 1), AtomicBool::new(false));
    let (done, took, client_cpu, server_cpu, times) = std::thread::scope(|scope| {
        let work = |client: Client, number: u64| {
            let (mut done, mut times, mut turn) = (0, Vec::new(), number * 7919);
            begin.wait();
            while !stop.load(Ordering::Relaxed) {
                let one = Instant::now();
                done += act(&client, turn)?;
                times.push(one.elapsed());
                turn += 1;
            }
            Ok::<_, ringfs_sdk::Error>((done, times))
        };
        let running: Vec<_> =
            (0..).zip(all).map(|(number, client)| scope.spawn(move || work(client, number))).collect();
        begin.wait();
        let (start, own, servers) = (Instant::now(), own_cpu(), cpu(cluster));
        pause(length);
        stop.store(true, Ordering::Relaxed);
        let ended: Vec<_> = running.into_iter().map(|one| one.join().expect("no panic")).collect();
        let (took, own, servers) = (start.elapsed(), own_cpu() - own, cpu(cluster) - servers);
        let (mut done, mut times) = (0, Vec::new());
        for one in ended {
            let (count, latencies) = one?;
            done += count;
            times.extend(latencies);
        }
        Ok::<_, ringfs_sdk::Error>((done, took, own, servers, times))
    })?;
    let mut times = times;
    times.sort_unstable();
    let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or_default();
    let per = |cpu: Duration| cpu.as_secs_f64() * 1e6 / done.max(1) as f64;
    Ok(Round {
        per_s: done as f64 / took.as_secs_f64(),
        p99_ms: p99.as_secs_f64() * 1000.0,
        client_us: per(client_cpu),
        server_us: per(server_cpu),
    })
}

fn tell(title: &str, rounds: &[Round], report: &mut Report) {
    let median = |of: fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    report.add(format!("{title}: rate"), median(|round| round.per_s), "per s");
    report.add(format!("{title}: p99 of a call"), median(|round| round.p99_ms), "ms");
    report.add(format!("{title}: CPU of the clients"), median(|round| round.client_us), "µs each");
    report.add(format!("{title}: CPU of the servers"), median(|round| round.server_us), "µs each");
}

/// CPU time of all servers.
fn cpu(cluster: &Cluster) -> Duration {
    let servers = cluster.datanodes.iter().chain([&cluster.namenode]);
    servers.filter_map(|server| server.process.as_ref()).map(Process::cpu).sum()
}

fn pause(length: Duration) {
    use ringfs_sdk::environment::{Clock, SystemClock};
    SystemClock.pause(length);
}

/// What every change waits for, one after the other.
fn synced_writes(directory: &Path, seconds: f64) -> Result<f64> {
    let file = File::create(directory.join("synced"))?;
    let (begin, mut count) = (Instant::now(), 0);
    file.set_len(64 << 20)?;
    while begin.elapsed().as_secs_f64() < seconds {
        file.write_all_at(&[7; FILE_BYTES], count % 16_384 * FILE_BYTES as u64)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(count as f64 / begin.elapsed().as_secs_f64())
}

/// What every call of one client waits for.
fn round_trips(seconds: f64) -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _address) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while far.read_exact(&mut bytes).and_then(|()| far.write_all(&bytes)).is_ok() {}
    });
    let (begin, mut count, mut bytes) = (Instant::now(), 0_u64, [0; 64]);
    while begin.elapsed().as_secs_f64() < seconds {
        near.write_all(&bytes)?;
        near.read_exact(&mut bytes)?;
        count += 1;
    }
    let rate = count as f64 / begin.elapsed().as_secs_f64();
    drop(near);
    echo.join().expect("no panic");
    Ok(rate)
}
