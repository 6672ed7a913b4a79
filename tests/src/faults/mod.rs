//! Real processes that are killed, paused, cut off, filled, corrupted and failed, from a seed, while clients work.
//!
//! [`plan`] says what breaks, [`injector`] breaks and mends it on a [`site`], [`workload`] are the clients, [`ledger`] is
//! what they were promised. [`run`] ends with everything mended, and reads back all that was acknowledged.

pub mod injector;
pub mod ledger;
pub mod memory;
pub mod observer;
pub mod plan;
pub mod report;
pub mod shared;
pub mod site;
pub mod workload;
pub mod writer;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringfs_sdk::Client;

use crate::cluster::Cluster;
use crate::wait;
use injector::Injector;
use ledger::{Contradiction, Entry, Known, Seen};
use observer::Observer;
use plan::KINDS;
use report::Report;
use shared::Shared;
use site::Site;
use workload::Worker;

/// Writing clients of a run.
pub const WORKERS: usize = 3;
/// How long all files together may take until they can be read and are closed.
const READ_BACK_DEADLINE: Duration = Duration::from_secs(180);
/// How long each is tried when that time is over.
const READ_BACK_LATE: Duration = Duration::from_millis(100);

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides faults and files.
    pub seed: u64,
    /// How many faults.
    pub faults: usize,
    /// How long at most; what is broken then is mended all the same.
    pub time_max: Duration,
    /// Of which kinds: indices in [`KINDS`].
    pub kinds: Vec<usize>,
    /// Where the logs of the servers go when it is over.
    pub logs: Option<PathBuf>,
}

impl Default for Options {
    /// A hundred faults of all kinds.
    fn default() -> Self {
        let day = Duration::from_secs(24 * 3600);
        Self { seed: 1, faults: 100, time_max: day, kinds: (0..KINDS.len()).collect(), logs: None }
    }
}

/// Injects faults while clients work; then mends everything and reads back what was acknowledged.
///
/// # Errors
/// What the machine lacks for it.
///
/// # Panics
/// If the cluster does not come back to where every block has its replicas.
pub fn run(options: &Options) -> Result<Report, String> {
    let begin = Instant::now();
    let site = Site::new()?;
    let uri = site.cluster.uri();
    let (shared, observer) = (Shared::default(), Observer::default());
    let mut injector = Injector::new(site, &shared, &observer, options.seed);
    std::thread::scope(|scope| {
        for number in 0..WORKERS {
            let (client, shared) = (workload::client(&uri), &shared);
            scope.spawn(move || Worker::new(client, shared, options.seed, number as u64).run());
        }
        scope.spawn(|| workload::read_always(&workload::client(&uri), &shared, options.seed));
        scope.spawn(|| observer.watch(&uri, &shared));
        let injected = catch_unwind(AssertUnwindSafe(|| injector.run(options)));
        shared.stop();
        if let Err(panic) = injected {
            // The clients end when their calls do; what went wrong is the panic.
            keep_logs(&injector.site.cluster, options);
            resume_unwind(panic);
        }
    });
    let read_back = read_back(&workload::client(&uri), &shared);
    let report = Report {
        seed: options.seed,
        elapsed_s: begin.elapsed().as_secs_f64(),
        faults: report::faults(&injector.injected, &injector.void, &injector.whole_after),
        operations: report::operations(&shared.acknowledged(), &shared.slowest_ms()),
        compared_bytes: shared.compared_bytes.load(Ordering::Relaxed),
        read_back,
        lost: report::lost(&shared.contradictions()),
        errors: shared.errors(),
        error_texts: shared.error_texts(),
        ended: injector.site.ended.clone(),
        detections: report::detections(&observer.detections()),
        outages: report::outages(&shared.outages()),
        memory: injector.memory.growth(),
        samples: injector.memory.samples(),
    };
    if !report.is_good() || options.logs.is_some() {
        keep_logs(&injector.site.cluster, options);
    }
    Ok(report)
}

/// Copies the logs to where the user wants them, or shows their ends.
fn keep_logs(cluster: &Cluster, options: &Options) {
    let Some(directory) = &options.logs else {
        return eprintln!("{}", cluster.logs());
    };
    for server in std::iter::once(&cluster.namenode).chain(&cluster.datanodes) {
        let target = directory.join(server.name()).with_extension("log");
        let copied = fs::create_dir_all(directory).and_then(|()| fs::write(&target, server.log()));
        if let Err(error) = copied {
            eprintln!("write {}: {error}", target.display());
        }
    }
}

/// Compares every path with what is known of it, and looks for files that nobody knows. Returns how many paths were
/// compared, and bytes.
fn read_back(client: &Client, shared: &Shared) -> [u64; 2] {
    let all = shared.ledger.all();
    let (begin, mut bytes) = (Instant::now(), 0);
    for (path, entry) in &all {
        let left = READ_BACK_DEADLINE.saturating_sub(begin.elapsed()).max(READ_BACK_LATE);
        let checked = look_until_closed(client, path, entry, left).and_then(|seen| {
            bytes += if let Seen::File { length, .. } = seen { length } else { 0 };
            entry.check(path, &seen)
        });
        if let Err(contradiction) = checked {
            shared.contradict(contradiction);
        }
    }
    let contradict = |path: &str, reason: &str| {
        shared.contradict(Contradiction { path: path.to_owned(), reason: reason.to_owned() });
    };
    let exists = |path: &str| client.stat(path).is_ok();
    for (source, target) in shared.ledger.undecided() {
        if exists(&source) == exists(&target) && all[&source].exists == Known::Maybe {
            contradict(&source, "a rename left it under both names, or under none");
        }
    }
    for directory in client.list("/").into_iter().flatten().filter_map(Result::ok) {
        let directory = format!("/{}", directory.name);
        for file in client.list(&directory).into_iter().flatten().filter_map(Result::ok) {
            let path = format!("{directory}/{}", file.name);
            if !all.contains_key(&path) {
                contradict(&path, "nobody has ever asked for it");
            }
        }
    }
    [all.len() as u64, bytes]
}

/// Reads a file. One whose writer is gone is closed by the namenode when its lease has run out, or is taken over: both
/// happen here.
fn look_until_closed(
    client: &Client,
    path: &str,
    entry: &Entry,
    deadline: Duration,
) -> Result<Seen, Contradiction> {
    let mut last = String::new();
    let is_taken_over = entry.seed.is_multiple_of(2) || !path.starts_with(writer::DIRECTORY);
    let seen = wait::attempt_within(deadline, || match workload::look(client, path, entry.seed) {
        Ok(Seen::File { is_open: true, length, .. }) => {
            last = format!("it is still open, with {length} bytes");
            if is_taken_over && let Err(error) = client.recover_lease(path) {
                last = format!("{last}: {error}");
            }
            None
        }
        Ok(seen) => Some(seen),
        Err(error) => {
            last = error.to_string();
            None
        }
    });
    seen.ok_or(Contradiction { path: path.to_owned(), reason: last })
}
