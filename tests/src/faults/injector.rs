//! What breaks and mends: faults overlap where they hit different servers, and those that take a replica away for good come
//! alone, when every block has all of its replicas.

use std::time::{Duration, Instant};

use ringfs_sdk::Client;

use super::memory::Memory;
use super::observer::{Observer, Silence};
use super::plan::{Fault, KINDS, Plan, Target};
use super::shared::Shared;
use super::site::{self, Flipped, Site};
use super::writer::{self, DoomedWriter};
use super::{Options, WORKERS, workload};
use crate::random::Random;
use crate::wait;

/// Faults at once.
const OVERLAP_MAX: usize = 2;
/// How long a cluster has to stay whole: a datanode that is heard has said by then what it has, and what it lacks.
const SETTLED: Duration = Duration::from_millis(500);
/// How often it is looked whether something is to be mended.
const TURN: Duration = Duration::from_millis(5);
/// How long after its hold a fault that has met nothing yet waits for something to meet.
const GRACE: Duration = Duration::from_secs(10);
/// How long a cluster may take until every block has its replicas again.
const SETTLE_DEADLINE: Duration = Duration::from_secs(180);

/// A fault that is not mended yet.
#[derive(Debug)]
struct Active {
    fault: Fault,
    began: Instant,
    hold: Duration,
    broken: Broken,
}

/// What is needed to mend it.
#[derive(Debug)]
enum Broken {
    Server,
    Byte(Option<Flipped>),
    Calls { hits_before: usize },
    Writer(DoomedWriter),
}

/// Injects the faults of a plan.
pub struct Injector<'a> {
    /// What is broken.
    pub site: Site,
    /// Faults by kind, in the order of [`KINDS`].
    pub injected: [u64; KINDS.len()],
    /// Those of them for which there was nothing to break.
    pub void: [u64; KINDS.len()],
    /// For kinds that take replicas: times from the mending until every block had its replicas again.
    pub whole_after: Vec<(usize, Duration)>,
    /// What processes took.
    pub memory: Memory,
    shared: &'a Shared,
    observer: &'a Observer,
    client: Client,
    random: Random,
    active: Vec<Active>,
    writers: u64,
}

impl<'a> Injector<'a> {
    /// Hands for a cluster whose clients share `shared`.
    pub fn new(site: Site, shared: &'a Shared, observer: &'a Observer, seed: u64) -> Self {
        let client = workload::client(&site.cluster.uri());
        Self {
            site,
            injected: [0; KINDS.len()],
            void: [0; KINDS.len()],
            whole_after: Vec::new(),
            memory: Memory::default(),
            shared,
            observer,
            client,
            random: Random::new(seed ^ 0xfa57),
            active: Vec::new(),
            writers: 0,
        }
    }

    /// Injects as many as `options` wants, and mends all.
    ///
    /// # Panics
    /// If the cluster does not come back to where every block has its replicas.
    pub fn run(&mut self, options: &Options) {
        let plan = Plan::new(options.seed, site::DATANODES, &options.kinds);
        for (number, step) in plan.take(options.faults).enumerate() {
            if self.shared.elapsed() > options.time_max {
                break;
            }
            self.make_way(step.fault);
            self.tell(&format!(
                "{:>5}/{}  {} for {} ms",
                number + 1,
                options.faults,
                step.fault,
                step.hold_ms
            ));
            let broken = self.break_it(step.fault);
            self.injected[step.fault.kind()] += 1;
            let hold = Duration::from_millis(step.hold_ms);
            self.active.push(Active { fault: step.fault, began: Instant::now(), hold, broken });
            if step.fault.takes_replicas() {
                self.mend_all();
                let mended = Instant::now();
                self.settle();
                let whole_after = mended.elapsed().saturating_sub(SETTLED);
                self.whole_after.push((step.fault.kind(), whole_after));
            } else {
                self.pass(Duration::from_millis(step.pause_ms));
            }
        }
        self.mend_all();
        self.shared.let_rest(true);
        self.wait("clients close their files", |this| this.shared.are_resting(WORKERS));
        self.settle();
    }

    /// A line of progress.
    fn tell(&self, what: &str) {
        let acknowledged: u64 = self.shared.acknowledged().iter().sum();
        let (errors, lost) = (self.shared.errors(), self.shared.contradictions().len());
        let seconds = self.shared.elapsed().as_secs_f64();
        eprintln!("{seconds:>7.1} s {what:<44} {acknowledged:>8} acknowledged, {errors} errors, {lost} lost");
    }

    /// Waits until nothing is broken that this fault must not meet.
    fn make_way(&mut self, fault: Fault) {
        if fault.takes_replicas() {
            self.mend_all();
            self.shared.let_rest(true);
            self.wait("clients close their files", |this| this.shared.are_resting(WORKERS));
            self.settle();
            self.shared.let_rest(false);
        }
        let target = fault.target();
        self.mend_until(|this| {
            let is_apart = this.active.iter().all(|active| active.fault.target().is_apart_from(target));
            is_apart && this.active.len() < OVERLAP_MAX
        });
    }

    fn mend_all(&mut self) {
        self.mend_until(|this| this.active.is_empty());
    }

    /// Mends what has been broken for long enough, until a condition holds.
    fn mend_until(&mut self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            self.turn();
        }
    }

    fn pass(&mut self, duration: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < duration {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.look();
        match self.active.iter().position(|active| self.is_due(active)) {
            Some(due) => {
                let active = self.active.swap_remove(due);
                self.mend(active);
            }
            None => wait::pass(TURN),
        }
    }

    fn is_due(&self, active: &Active) -> bool {
        let over = active.began.elapsed().checked_sub(active.hold);
        let has_met = match &active.broken {
            Broken::Calls { hits_before } => self.site.hits() > *hits_before,
            Broken::Writer(writer) => writer.has_flushed(),
            _ => true,
        };
        over.is_some_and(|over| has_met || over > GRACE)
    }

    /// Looks at processes and at what ended by itself.
    fn look(&mut self) {
        let running = self.site.servers().filter_map(|server| {
            Some((server.name().to_owned(), server.process.as_ref().map(crate::process::Process::pid)?))
        });
        let own = ("clients".to_owned(), i32::try_from(std::process::id()).unwrap_or_default());
        self.memory.look(running.chain([own]));
        let failing = self.active.iter().find(|active| matches!(active.fault, Fault::FailDatanodeIo(_)));
        let failing = failing.map(|active| active.fault.target());
        let broken: Vec<Target> = self.active.iter().map(|active| active.fault.target()).collect();
        self.site.start_ended(&broken, failing);
    }

    fn wait(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let held = wait::attempt_within(SETTLE_DEADLINE, || {
            self.turn();
            condition(self).then_some(())
        });
        held.unwrap_or_else(|| {
            panic!("waited {SETTLE_DEADLINE:?} in vain: {what}: {:?}", self.client.fs_stats())
        });
    }

    /// Waits until every block has all its replicas, by what all servers have said since: nothing that was broken is left.
    fn settle(&mut self) {
        let (client, begin) = (self.client.clone(), Instant::now());
        let mut whole_since = None;
        self.wait("every block has its replicas again", |_| {
            let is_whole = client.fs_stats().is_ok_and(|stats| site::is_whole(&stats));
            let are_heard = client.datanode_report().is_ok_and(|datanodes| {
                let elapsed_ms = begin.elapsed().as_millis();
                datanodes.iter().all(|datanode| u128::from(datanode.last_heartbeat_ms) < elapsed_ms)
            });
            if !(is_whole && are_heard) {
                whole_since = None;
            }
            whole_since.get_or_insert_with(Instant::now).elapsed() >= SETTLED && is_whole && are_heard
        });
    }

    fn break_it(&mut self, fault: Fault) -> Broken {
        let is_seen = self.active.iter().all(|active| active.fault.target() != Target::Namenode);
        if !fault.target().is_apart_from(Target::Namenode) {
            self.observer.forget();
        }
        let watch = |this: &Self, number, silence| {
            if is_seen {
                this.observer.begin(this.site.datanode_host(number), silence);
            }
        };
        match fault {
            Fault::KillNamenode => self.site.namenode().kill_9(),
            Fault::KillDatanode(number) => {
                self.site.datanode(number).kill_9();
                watch(self, number, Silence::Killed);
            }
            Fault::KillAll => self.site.cluster.kill_9_all(),
            Fault::PauseNamenode => Site::pause(self.site.namenode(), true),
            Fault::PauseDatanode(number) => {
                Site::pause(self.site.datanode(number), true);
                watch(self, number, Silence::Paused);
            }
            Fault::CutNamenode => self.site.connect_namenode(false),
            Fault::CutDatanode(number) => {
                self.site.connect_datanode(number, false);
                watch(self, number, Silence::Cut);
            }
            Fault::FillDatanode(number) => self.site.fill(number, true),
            Fault::FailDatanodeIo(number) => {
                let hits_before = self.site.hits();
                self.site.fail_datanode(number, &mut self.random);
                return Broken::Calls { hits_before };
            }
            Fault::FailLogIo => {
                let hits_before = self.site.hits();
                self.site.fail_log(&mut self.random);
                return Broken::Calls { hits_before };
            }
            Fault::CorruptBlock(number) => {
                return Broken::Byte(self.site.flip_in_block(number, &mut self.random));
            }
            Fault::CorruptJournal(number) => {
                self.site.datanode(number).kill_9();
                return Broken::Byte(self.site.flip_in_journal(number, &mut self.random));
            }
            Fault::CorruptLog => {
                self.site.namenode().kill_9();
                return Broken::Byte(self.site.flip_in_log("wal-", &mut self.random));
            }
            Fault::CorruptCheckpoint => {
                self.site.namenode().kill_9();
                return Broken::Byte(self.site.flip_in_log("checkpoint-", &mut self.random));
            }
            Fault::KillWriter => {
                self.writers += 1;
                let path = format!("{}file-{}", writer::DIRECTORY, self.writers);
                let (uri, seed) = (self.site.cluster.uri(), self.random.number());
                return Broken::Writer(DoomedWriter::start(&uri, &path, seed, &self.shared.ledger));
            }
        }
        Broken::Server
    }

    fn mend(&mut self, Active { fault, began, broken, .. }: Active) {
        let kind = fault.kind();
        if let Target::Datanode(number) = fault.target() {
            self.observer.end(&self.site.datanode_host(number));
        }
        match (fault, broken) {
            (Fault::PauseNamenode, _) => Site::pause(self.site.namenode(), false),
            (Fault::PauseDatanode(number), _) => Site::pause(self.site.datanode(number), false),
            (Fault::CutNamenode, _) => self.site.connect_namenode(true),
            (Fault::CutDatanode(number), _) => self.site.connect_datanode(number, true),
            (Fault::FillDatanode(number), _) => self.site.fill(number, false),
            (Fault::FailDatanodeIo(number), Broken::Calls { hits_before }) => {
                self.void[kind] += u64::from(self.site.hits() == hits_before);
                self.site.fail_nothing();
                self.site.datanode(number).kill_9();
            }
            (Fault::FailLogIo, Broken::Calls { hits_before }) => {
                self.void[kind] += u64::from(self.site.hits() == hits_before);
                self.site.fail_nothing();
                self.site.namenode().kill_9();
            }
            (Fault::CorruptBlock(_), Broken::Byte(Some(flipped))) => {
                // Found by a reader or by the scrubber; a good replica takes its place.
                self.wait(&format!("{flipped:?} is replaced"), |_| flipped.is_gone());
            }
            (_, Broken::Byte(None)) => self.void[kind] += 1,
            (_, Broken::Writer(writer)) => match writer.kill(&self.shared.ledger) {
                Ok(flushes) => self.void[kind] += u64::from(flushes == 0),
                Err(error) => self.shared.fail("writer process", &error),
            },
            _ => {}
        }
        if self.site.cluster.namenode.process.is_none() {
            let killed = if fault == Fault::FailLogIo { Instant::now() } else { began };
            self.shared.namenode_starts(killed);
        }
        self.look();
    }
}
