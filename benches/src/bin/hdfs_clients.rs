//! HDFS clients, against RingFS and, with `--peer`, against a real HDFS in the same run: a mix of operations over Hadoop RPC, 4 KiB files
//! made by Hadoop's own client, a large file written and read by it, and 32 such clients at once with native ones beside them.
//! Needs a JDK and Maven. `hdfs_clients [--peer] [--tiny] [--only-mix]`.
//!
//! Both systems have three datanodes, keep each block three times, and answer a write when it is in the memory of three (HDFS's
//! default). Times depend on the machine and its load; CPU is what to compare.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ringfs_benches::mix::{FILES_PER_DIRECTORY, Mix};
use ringfs_benches::report::{RESULTS, Report};
use ringfs_sdk::{Client, CreateOptions};
use ringfs_tests::cluster::{Cluster, Options};
use ringfs_tests::java::{self, RealHdfs};
use ringfs_tests::process::{Process, cpu_of, own_cpu};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Calls in flight of the mix.
const IN_FLIGHT: usize = 8;
const DATANODES: usize = 3;
const CLIENTS: usize = 32;

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    directories: u64,
    mix: Duration,
    rounds: usize,
    created: u64,
    file_bytes: u64,
    crowd_rounds: u64,
    only_mix: bool,
}

const WHOLE: Sizes = Sizes {
    directories: 64,
    mix: Duration::from_secs(10),
    rounds: 3,
    created: 1000,
    file_bytes: 1 << 30,
    crowd_rounds: 30,
    only_mix: false,
};

const TINY: Sizes = Sizes {
    directories: 2,
    mix: Duration::from_millis(200),
    rounds: 1,
    created: 20,
    file_bytes: 4 << 20,
    crowd_rounds: 2,
    only_mix: false,
};

/// One of the two systems.
struct System {
    name: &'static str,
    uri: String,
    /// Who has started it, and is its superuser.
    user: String,
    address: SocketAddr,
    namenode: i32,
    all: Vec<i32>,
}

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|found| found == word);
    let sizes = Sizes { only_mix: has("--only-mix"), ..if has("--tiny") { TINY } else { WHOLE } };
    let target = std::env::current_exe()?.parent().ok_or("no directory")?.join("java");
    let target = target.to_str().ok_or("the path of this program is not UTF-8")?;
    let mut report = Report::new("HDFS clients");
    let user;
    {
        // Neither system writes an audit log: HDFS has none unless it is set up.
        let environment = vec![("RUST_LOG".to_owned(), "warn".to_owned())];
        let cluster = Cluster::start(&Options { datanodes: DATANODES, environment, ..Options::default() });
        let pid = |process: &Option<Process>| process.as_ref().map_or(0, Process::pid);
        let namenode = pid(&cluster.namenode.process);
        let all = cluster.datanodes.iter().map(|datanode| pid(&datanode.process)).chain([namenode]).collect();
        let uri = cluster.uri().replace("ringfs://", "hdfs://");
        user = cluster.client().user().to_owned();
        let system = System {
            name: "RingFS",
            uri,
            user: user.clone(),
            address: cluster.namenode.address(),
            namenode,
            all,
        };
        measure(&system, sizes, target, &mut report)?;
        if !sizes.only_mix {
            beside_native_clients(&cluster, &system, sizes, target, &mut report)?;
        }
    }
    if has("--peer") {
        let hdfs = RealHdfs::start(DATANODES, &[]);
        let pids = hdfs.pids();
        let namenode = pids.iter().find(|(role, _)| role == "namenode").map_or(0, |(_, pid)| *pid);
        let all = pids.iter().map(|(_, pid)| *pid).collect();
        let address = hdfs.uri().trim_start_matches("hdfs://").parse()?;
        let system = System { name: "HDFS", uri: hdfs.uri(), user, address, namenode, all };
        measure(&system, sizes, target, &mut report)?;
    }
    report.finish(Path::new(RESULTS))?;
    Ok(())
}

impl System {
    /// CPU time of all servers.
    fn cpu(&self) -> Duration {
        self.all.iter().map(|pid| cpu_of(*pid)).sum()
    }

    /// Runs an operation of the Java program; returns what it says.
    fn stock(&self, target: &str, operation: &str, arguments: &[&str]) -> Result<Vec<f64>> {
        let output = java::java(target, "StockBench")
            .args([&self.uri, operation, &DATANODES.to_string()])
            .args(arguments)
            .output()?;
        if !output.status.success() {
            return Err(format!("{operation}: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        let words = String::from_utf8(output.stdout)?;
        Ok(words.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>()?)
    }
}

fn measure(system: &System, sizes: Sizes, target: &str, report: &mut Report) -> Result<()> {
    let name = system.name;
    system.stock(target, "tree", &["/tree", &sizes.directories.to_string(), "1024"])?;
    mix(system, sizes, report)?;
    if sizes.only_mix {
        return Ok(());
    }
    let count = sizes.created.to_string();
    let mut all = Vec::new();
    for round in 0..sizes.rounds {
        let before = system.cpu();
        let mut times = system.stock(target, "create", &[&format!("/created/{round}"), &count, "4096"])?;
        times.push((system.cpu() - before).as_secs_f64() * 1e6 / sizes.created as f64);
        all.push(times);
    }
    let [p50, p99, mean, cpu] = [0, 1, 2, 3].map(|at| median(all.iter().filter_map(|times| times.get(at))));
    report.add(format!("{name}: Java client, 4 KiB file made: p50"), p50, "ms");
    report.add(format!("{name}: Java client, 4 KiB file made: p99"), p99, "ms");
    report.add(format!("{name}: Java client, 4 KiB file made: mean"), mean, "ms");
    report.add(format!("{name}: Java client, 4 KiB file made: CPU of all servers"), cpu, "µs each");

    let gib = sizes.file_bytes as f64 / f64::from(1 << 30);
    let bytes = sizes.file_bytes.to_string();
    let mut written = Vec::new();
    for _ in 0..sizes.rounds {
        let before = system.cpu();
        let seconds = system.stock(target, "write", &["/large", &bytes])?;
        written.push((seconds[0], (system.cpu() - before).as_secs_f64()));
    }
    large(name, "written", gib, &written, report);
    let before = system.cpu();
    let seconds = system.stock(target, "read", &["/large", &sizes.rounds.to_string()])?;
    let cpu = (system.cpu() - before).as_secs_f64() / sizes.rounds as f64;
    let read: Vec<(f64, f64)> = seconds.iter().map(|seconds| (*seconds, cpu)).collect();
    large(name, "read", gib, &read, report);

    let rounds = sizes.crowd_rounds.to_string();
    let before = system.cpu();
    let crowd = system.stock(target, "crowd", &["/crowd", &CLIENTS.to_string(), &rounds])?;
    let cpu = (system.cpu() - before).as_secs_f64() * 1e6 / (CLIENTS as u64 * sizes.crowd_rounds) as f64;
    tell_crowd(&format!("{name}: {CLIENTS} Java clients"), &crowd, cpu, report);
    Ok(())
}

/// The mix: the first round is not counted, for Java needs one.
fn mix(system: &System, sizes: Sizes, report: &mut Report) -> Result<()> {
    let mut mix = Mix::connect(system.address, &system.user, "/tree", sizes.directories, 1)?;
    mix.run(IN_FLIGHT, sizes.mix)?;
    let (mut rates, mut cpus, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..sizes.rounds {
        let (before, own_before) = (cpu_of(system.namenode), own_cpu());
        let done = mix.run(IN_FLIGHT, sizes.mix)?;
        let per = |cpu: Duration| cpu.as_secs_f64() * 1e6 / done.operations.max(1) as f64;
        rates.push(done.operations as f64 / done.took.as_secs_f64());
        cpus.push(per(cpu_of(system.namenode) - before));
        own.push(per(own_cpu() - own_before));
    }
    let title = format!(
        "{}: mix over Hadoop RPC, {IN_FLIGHT} in flight, {} files",
        system.name,
        sizes.directories * FILES_PER_DIRECTORY
    );
    report.add(format!("{title}: rate"), median(&rates), "per s");
    report.add(format!("{title}: CPU of the namenode"), median(&cpus), "µs each");
    report.add(format!("{title}: CPU of the generator"), median(&own), "µs each");
    Ok(())
}

fn large(name: &str, what: &str, gib: f64, rounds: &[(f64, f64)], report: &mut Report) {
    let rates: Vec<f64> = rounds.iter().map(|(seconds, _)| gib * 1024.0 / seconds).collect();
    let cpus: Vec<f64> = rounds.iter().map(|(_, cpu)| cpu / gib).collect();
    report.add(format!("{name}: Java client, large file {what}: rate"), median(&rates), "MiB/s");
    report.add(format!("{name}: Java client, large file {what}: CPU of all servers"), median(&cpus), "s/GiB");
}

fn tell_crowd(title: &str, crowd: &[f64], cpu: f64, report: &mut Report) {
    let what = "4 KiB file made, looked at, read, deleted";
    for (at, figure, unit) in [(0, "rate", "per s"), (1, "p50", "ms"), (2, "p99", "ms")] {
        report.add(format!("{title}, {what}: {figure}"), crowd.get(at).copied().unwrap_or_default(), unit);
    }
    report.add(format!("{title}, {what}: CPU of all servers"), cpu, "µs each");
}

/// The crowd again, while as many native clients write and read.
fn beside_native_clients(
    cluster: &Cluster,
    system: &System,
    sizes: Sizes,
    target: &str,
    report: &mut Report,
) -> Result<()> {
    let stop = std::sync::atomic::AtomicBool::new(false);
    let is_over = || stop.load(std::sync::atomic::Ordering::Relaxed);
    let rounds = sizes.crowd_rounds.to_string();
    let (crowd, native, cpu) = std::thread::scope(|scope| {
        let work = |client: Client, number: usize| {
            let (content, path) = ([7; 4096], format!("/native/{number}"));
            let options = CreateOptions { overwrite: true, ..CreateOptions::default() };
            let mut done = 0_u64;
            while !is_over() {
                client.put(&path, &content, &options)?;
                client.read_many(&[&path])?.remove(0)?;
                done += 1;
            }
            Ok::<_, ringfs_sdk::Error>(done)
        };
        let native: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let client = cluster.client();
                scope.spawn(move || work(client, number))
            })
            .collect();
        let before = system.cpu();
        let crowd = system.stock(target, "crowd", &["/crowd", &CLIENTS.to_string(), &rounds]);
        let cpu = system.cpu() - before;
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let done: Vec<_> = native.into_iter().map(|one| one.join().expect("no panic")).collect();
        (crowd, done.into_iter().sum::<ringfs_sdk::Result<u64>>(), cpu)
    });
    let (crowd, native) = (crowd?, native?);
    let rounds = (CLIENTS as u64 * sizes.crowd_rounds) as f64;
    let title = format!("{}: {CLIENTS} Java clients beside {CLIENTS} native ones", system.name);
    tell_crowd(&title, &crowd, cpu.as_secs_f64() * 1e6 / (rounds + native as f64), report);
    report.add(format!("{title}: files put and read by the native ones meanwhile"), native as f64, "");
    Ok(())
}

fn median<'a>(values: impl IntoIterator<Item = &'a f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().copied().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
