//! Real processes that are killed, paused, cut off, filled, corrupted and failed, from a seed, while clients work.
//!
//! [`plan`] says what breaks, [`site`] breaks and mends it, [`workload`] are the clients, [`ledger`] is what they were
//! promised. [`run`] ends with everything mended, and reads back all that was acknowledged.

pub mod ledger;
pub mod plan;
pub mod site;
pub mod workload;
pub mod writer;

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ringfs_sdk::Client;

use crate::cluster::Server;
use crate::process::Process;
use crate::random::Random;
use crate::wait;
use ledger::{Contradiction, Known, Ledger, Seen};
use plan::{Fault, KINDS, Plan, Step};
use site::{Flipped, Site};
use workload::{Shared, Worker};
use writer::DoomedWriter;

/// Writing clients of a run.
const WORKERS: u64 = 3;

/// What a run is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides faults and files.
    pub seed: u64,
    /// How many faults.
    pub faults: usize,
    /// How long at most; the last fault is mended all the same.
    pub time_max: Duration,
    /// Engine of the datanodes.
    pub engine: &'static str,
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// Faults by kind, in the order of [`KINDS`].
    pub injected: [u64; KINDS.len()],
    /// Faults for which there was nothing to break.
    pub void: u64,
    /// Time from the mending of a fault until every block had its replicas again, the longest by kind; for those kinds
    /// after which nothing else is broken before that.
    pub settled: [Duration; KINDS.len()],
    /// Highest resident memory of namenode and datanodes, in the first and in the second half of the faults, bytes.
    pub memory: Memory,
    /// Calls that were acknowledged.
    pub acknowledged: u64,
    /// Bytes that were read and compared.
    pub compared_bytes: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Texts of some of them.
    pub error_texts: Vec<String>,
    /// What was acknowledged and is not so.
    pub contradictions: Vec<Contradiction>,
}

/// Highest resident memory, bytes: in the first half of a run, and in the second.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// The namenode.
    pub namenode: [u64; 2],
    /// The largest datanode.
    pub datanode: [u64; 2],
}

impl Report {
    /// Whether nothing was lost and no client saw an error.
    pub fn is_good(&self) -> bool {
        self.contradictions.is_empty() && self.errors == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((kind, count), settled) in KINDS.iter().zip(self.injected).zip(self.settled) {
            write!(f, "{count:>8} {kind}")?;
            if settled > Duration::ZERO {
                write!(f, ", whole again after at most {:.1} s", settled.as_secs_f64())?;
            }
            writeln!(f)?;
        }
        writeln!(f, "{:>8} of them had nothing to break", self.void)?;
        writeln!(f, "{:>8} calls acknowledged", self.acknowledged)?;
        writeln!(f, "{:>8} MiB read and compared", self.compared_bytes >> 20)?;
        let Memory { namenode, datanode } = self.memory;
        for (role, [first, second]) in [("namenode", namenode), ("largest datanode", datanode)] {
            writeln!(f, "{:>8} MiB of memory, {role}; {} in the second half", first >> 20, second >> 20)?;
        }
        writeln!(f, "{:>8} calls failed", self.errors)?;
        self.error_texts.iter().try_for_each(|text| writeln!(f, "         {text}"))?;
        writeln!(f, "{:>8} contradictions", self.contradictions.len())?;
        self.contradictions.iter().try_for_each(|contradiction| writeln!(f, "         {contradiction}"))
    }
}

/// Injects faults while clients work; then mends everything and reads back what was acknowledged.
///
/// # Errors
/// What the machine lacks for it.
pub fn run(options: &Options) -> Result<Report, String> {
    let mut site = Site::new(options.engine, Vec::new())?;
    let shared = Shared::default();
    let mut hands = Hands { random: Random::new(options.seed ^ 0xfa57), ..Hands::default() };
    let uri = site.cluster.uri();
    std::thread::scope(|scope| {
        for number in 0..WORKERS {
            let (client, shared) = (site.cluster.client(), &shared);
            scope.spawn(move || Worker::new(client, shared, options.seed, number).run());
        }
        let (client, reading) = (site.cluster.client(), &shared);
        scope.spawn(move || workload::read_always(&client, reading, options.seed));
        let injected = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            hands.inject(&mut site, &shared.ledger, options);
        }));
        shared.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = injected {
            // The clients end when the cluster is gone; what went wrong is the panic.
            eprintln!("{}", site.cluster.logs());
            std::panic::resume_unwind(panic);
        }
    });
    let client = Client::connect(&uri).map_err(|error| error.to_string())?;
    site.settle(&client);
    read_back(&client, &shared);
    let count = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
    let report = Report {
        injected: hands.injected,
        void: hands.void,
        settled: hands.settled,
        memory: hands.memory,
        acknowledged: count(&shared.acknowledged),
        compared_bytes: count(&shared.compared_bytes),
        errors: count(&shared.errors),
        error_texts: shared.error_texts(),
        contradictions: shared.contradictions(),
    };
    if !report.is_good() {
        eprintln!("{}", site.cluster.logs());
    }
    Ok(report)
}

/// Compares every file with what is known of it, and looks for files that nobody knows.
fn read_back(client: &Client, shared: &Shared) {
    let all = shared.ledger.all();
    for (path, entry) in &all {
        // Files of writers that are gone are closed by the namenode once their lease has run out.
        let mut last = String::new();
        let seen = wait::attempt(|| match workload::look(client, path, entry.seed) {
            Ok(Seen::File { is_open: true, length, .. }) => {
                last = format!("it is still open, with {length} bytes");
                None
            }
            Ok(seen) => Some(seen),
            Err(error) => {
                last = error.to_string();
                None
            }
        });
        let checked = match seen {
            Some(seen) => entry.check(path, &seen),
            None => Err(Contradiction { path: path.clone(), reason: last }),
        };
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
}

/// What injects.
#[derive(Debug)]
struct Hands {
    random: Random,
    injected: [u64; KINDS.len()],
    void: u64,
    settled: [Duration; KINDS.len()],
    memory: Memory,
    writers: u64,
}

impl Default for Hands {
    fn default() -> Self {
        Self {
            random: Random::new(0),
            injected: [0; KINDS.len()],
            void: 0,
            settled: [Duration::ZERO; KINDS.len()],
            memory: Memory::default(),
            writers: 0,
        }
    }
}

impl Hands {
    fn inject(&mut self, site: &mut Site, ledger: &Ledger, options: &Options) {
        let client = site.cluster.client();
        let begin = Instant::now();
        for (number, step) in Plan::new(options.seed, site::DATANODES).take(options.faults).enumerate() {
            if begin.elapsed() > options.time_max {
                break;
            }
            let is_late = number * 2 > options.faults || begin.elapsed() * 2 > options.time_max;
            self.look_at_memory(site, usize::from(is_late));
            if step.fault.destroys() {
                site.settle(&client);
            }
            eprintln!("{:>7.1} s  {} for {} ms", begin.elapsed().as_secs_f64(), step.fault, step.hold_ms);
            self.injected[step.fault.kind()] += 1;
            if !self.carry_out(step, site, ledger) {
                self.void += 1;
            }
            if step.fault.destroys() {
                let mended = Instant::now();
                site.settle(&client);
                let settled = &mut self.settled[step.fault.kind()];
                *settled = mended.elapsed().max(*settled);
            }
        }
        site.settle(&client);
    }

    fn look_at_memory(&mut self, site: &Site, half: usize) {
        let resident = |server: &Server| server.process.as_ref().map_or(0, Process::resident_bytes);
        let Memory { namenode, datanode } = &mut self.memory;
        let largest = site.cluster.datanodes.iter().map(resident).max().unwrap_or(0);
        namenode[half] = namenode[half].max(resident(&site.cluster.namenode));
        datanode[half] = datanode[half].max(largest);
    }

    /// Breaks, holds, mends. False when there was nothing to break.
    fn carry_out(&mut self, Step { fault, hold_ms }: Step, site: &mut Site, ledger: &Ledger) -> bool {
        let hold = || wait::pass(Duration::from_millis(hold_ms));
        let mut flipped = None;
        match fault {
            Fault::KillNamenode => {
                site.namenode().kill_9();
                hold();
            }
            Fault::KillDatanode(number) => {
                site.datanode(number).kill_9();
                hold();
            }
            Fault::KillAll => site.cluster.kill_9_all(),
            Fault::PauseNamenode => {
                Site::pause(site.namenode(), true);
                hold();
                Site::pause(site.namenode(), false);
            }
            Fault::PauseDatanode(number) => {
                Site::pause(site.datanode(number), true);
                hold();
                Site::pause(site.datanode(number), false);
            }
            Fault::CutNamenode => {
                site.connect_namenode(false);
                hold();
                site.connect_namenode(true);
            }
            Fault::CutDatanode(number) => {
                site.connect_datanode(number, false);
                hold();
                site.connect_datanode(number, true);
            }
            Fault::FillDatanode(number) => {
                let disk = site.datanode(number).disk.as_ref().expect("every datanode has a disk");
                disk.fill().expect("filled");
                hold();
                disk.free().expect("freed");
            }
            Fault::FailDatanodeIo(_) | Fault::FailLogIo => return false,
            Fault::CorruptBlock(number) => flipped = site.flip_in_block(number, &mut self.random),
            Fault::CorruptJournal(number) => {
                site.datanode(number).kill_9();
                flipped = site.flip_in_journal(number, &mut self.random);
            }
            Fault::CorruptLog => {
                site.namenode().kill_9();
                flipped = site.flip_in_log("wal-", &mut self.random);
            }
            Fault::CorruptCheckpoint => {
                site.namenode().kill_9();
                flipped = site.flip_in_log("checkpoint-", &mut self.random);
            }
            Fault::KillWriter => {
                self.writers += 1;
                let path = format!("/doomed/file-{}", self.writers);
                DoomedWriter::start(&site.cluster.uri(), &path, self.random.number(), ledger).kill(ledger);
            }
        }
        site.start_ended();
        match (&flipped, fault) {
            (Some(flipped), Fault::CorruptBlock(_)) => wait_until_replaced(flipped),
            (None, _) if (10..=13).contains(&fault.kind()) => return false,
            _ => {}
        }
        true
    }
}

/// The bad replica is found, by a reader or by the scrubber, and a good one takes its place.
fn wait_until_replaced(flipped: &Flipped) {
    wait::until_true(&format!("{flipped:?} is replaced"), || flipped.is_gone());
}
