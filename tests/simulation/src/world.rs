//! A cluster of simulated machines, and the life that a seed gives it: work under faults, then quiet, then a look at
//! everything.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringfs_disk::{Disk, SimulatedDisk};
use ringfs_namenode::directory;
use ringfs_proto::cluster_file::ClusterFile;
use ringfs_proto::ids::{BlockId, SessionId};
use ringfs_sdk::Client;

use crate::clock::HostClock;
use crate::coroutine;
use crate::datanode::{self, Datanode};
use crate::engine;
use crate::executor::{Executor, HostId, Micros, Step};
use crate::faults::{self, Fault, Targets};
use crate::harm::LogFault;
use crate::holders::STEPS_PER_LOOK;
use crate::model::Model;
use crate::namenode::{self, Namenode};
use crate::network::Network;
use crate::workload::{Counts, Shared, Worker};
use crate::{client, quiet};
use ringfs_tests::random::Random;

/// Datanodes.
pub(crate) const DATANODES: u8 = 4;
/// Clients; each has a worker.
const CLIENTS: u8 = 3;
/// Steps after which a simulation that does not end has failed.
const STEPS_MAX: u64 = 3_000_000;
/// Faults of a life at least.
pub const FAULTS_MIN: u64 = 5;
/// Steps of a life at least.
pub const STEPS_MIN: u64 = 2000;
/// When work that does not end has failed.
const TIME_MAX: Micros = 3_600_000_000;

/// What is simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// Whether to print what happens.
    pub is_traced: bool,
    /// A mistake that is made on purpose.
    pub mistake: Option<Mistake>,
}

/// Mistakes that are made on purpose, to see that they are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// Syncs of block files do nothing.
    DropBlockSync,
    /// Syncs of the log do nothing.
    DropLogSync,
    /// The namenode answers before its log is written.
    NamenodeAcknowledgesEarly,
    /// Datanodes answer before data is written.
    DatanodeAcknowledgesEarly,
    /// The namenode does not recognise retries.
    ForgetRetryResults,
    /// Recoveries leave the old writer of a replica where it is.
    #[cfg(feature = "planted-bugs")]
    SkipFences,
}

/// How a simulation ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What was wrong; nothing is well.
    pub violations: Vec<String>,
    /// Steps of tasks.
    pub steps: u64,
    /// Faults that took effect, by kind.
    pub faults: [u64; Fault::NAMES.len()],
    /// Operations that were acknowledged.
    pub acknowledged: u64,
    /// Operations that failed for want of servers.
    pub failed: u64,
    /// Bytes that were read and compared.
    pub read_bytes: u64,
    /// Equal for equal runs.
    pub hash: u64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Event {
    Fault(Fault),
    Start(HostId),
    Heal,
    NotSlow,
    Room(HostId),
    RepairLog(usize),
}

pub(crate) struct Server {
    pub(crate) clock: HostClock,
    pub(crate) disk: SimulatedDisk,
    process: u32,
    pub(crate) is_up: bool,
    pub(crate) cuts_power: bool,
}

/// A cluster.
pub struct World {
    pub(crate) executor: Executor,
    pub(crate) network: Network,
    plan: Plan,
    cluster: ClusterFile,
    pub(crate) servers: BTreeMap<HostId, Server>,
    pub(crate) namenode: Option<Rc<Namenode>>,
    pub(crate) datanodes: BTreeMap<HostId, Datanode>,
    pub(crate) shared: Rc<Shared>,
    left: Vec<Rc<Cell<u32>>>,
    events: BTreeMap<(Micros, u64), Event>,
    next_event: u64,
    sessions: u64,
    pub(crate) random: Random,
    pub(crate) faults: [u64; Fault::NAMES.len()],
    epoch: Instant,
    pub(crate) damaged: BTreeSet<(HostId, BlockId)>,
    pub(crate) log_faults: Option<LogFault>,
    /// Workers whose process was killed and has not started again.
    pub(crate) clients_down: BTreeSet<usize>,
    /// When the namenode started.
    pub(crate) namenode_since: Micros,
    next_look: u64,
    targets: Targets,
}

pub(crate) const NAMENODE: HostId = HostId(0);

fn client_host(worker: usize) -> HostId {
    HostId(DATANODES + 1 + worker as u8)
}

/// Runs a simulation.
pub fn run(plan: Plan) -> Outcome {
    let mut world = World::new(plan);
    world.work();
    if !world.has_failed() {
        world.rest();
    }
    let outcome = world.outcome();
    world.take_down();
    outcome
}

impl World {
    fn new(plan: Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let executor = Executor::new(random.fork(), plan.is_traced);
        let network = Network::new(executor.clone());
        let mut model = Model::default();
        (0..usize::from(CLIENTS)).for_each(|worker| model.add_worker(worker));
        let in_flight = RefCell::new(vec![None; usize::from(CLIENTS)]);
        let shared = Rc::new(Shared { model: RefCell::new(model), counts: Counts::default(), in_flight });
        let servers: BTreeMap<HostId, Server> = (0..=DATANODES)
            .map(|host| {
                let disk = SimulatedDisk::new(random.number());
                let clock = HostClock::default();
                (HostId(host), Server { clock, disk, process: 0, is_up: false, cuts_power: false })
            })
            .collect();
        let disk = &servers[&NAMENODE].disk;
        let cluster = directory::format(disk, &wal_dirs(), "ann", "staff").expect("an empty disk");
        let mut world = Self {
            executor,
            network,
            plan,
            cluster,
            servers,
            namenode: None,
            datanodes: BTreeMap::new(),
            shared,
            left: Vec::new(),
            events: BTreeMap::new(),
            next_event: 0,
            sessions: 0,
            random,
            faults: Default::default(),
            epoch: Instant::now(),
            damaged: BTreeSet::new(),
            log_faults: None,
            clients_down: BTreeSet::new(),
            namenode_since: 0,
            next_look: 0,
            targets: Targets {
                namenode: NAMENODE,
                datanodes: (1..=DATANODES).map(HostId).collect(),
                clients: (0..usize::from(CLIENTS)).map(client_host).collect(),
            },
        };
        world.plant();
        world.prepare_disks();
        (0..=DATANODES).for_each(|host| world.start(HostId(host)));
        world
    }

    /// What an installer leaves behind: it is on stable storage before anything begins.
    fn prepare_disks(&self) {
        for (host, server) in &self.servers {
            let directories = if *host == NAMENODE { wal_dirs() } else { volumes() };
            for directory in directories {
                server.disk.create_directories(&directory).expect("an empty disk");
                for above in directory.ancestors() {
                    server.disk.sync_directory(above).expect("a directory");
                }
            }
        }
    }

    fn plant(&self) {
        #[cfg(feature = "planted-bugs")]
        ringfs_datanode::planted::skip_fences(self.plan.mistake == Some(Mistake::SkipFences));
        for (host, server) in &self.servers {
            match self.plan.mistake {
                Some(Mistake::DropBlockSync) if *host != NAMENODE => {
                    server.disk.forget_syncs_of(Some("blk_"));
                }
                Some(Mistake::DropLogSync) if *host == NAMENODE => server.disk.forget_syncs_of(Some("wal-")),
                _ => {}
            }
        }
    }

    fn has_failed(&self) -> bool {
        !self.shared.model.borrow().violations().is_empty()
    }

    pub(crate) fn violated(&self, what: String) {
        self.shared.model.borrow_mut().violated(what);
    }

    /// Ends every task: they hold the world that runs them, which would never be freed otherwise.
    fn take_down(&mut self) {
        (0..=DATANODES).for_each(|host| self.end(HostId(host), false));
        for host in 0..=DATANODES + CLIENTS {
            self.network.mute(HostId(host));
            self.executor.kill(HostId(host));
        }
    }

    fn outcome(&self) -> Outcome {
        if self.has_failed() {
            self.describe_blocks();
        }
        Outcome {
            violations: self.shared.model.borrow().violations().to_vec(),
            steps: self.executor.steps(),
            faults: self.faults,
            acknowledged: self.shared.counts.acknowledged.get(),
            failed: self.shared.counts.failed.get(),
            read_bytes: self.shared.counts.read_bytes.get(),
            hash: self.executor.hash(),
        }
    }

    /// Workers work and things fail, until all work is done.
    fn work(&mut self) {
        for worker in 0..usize::from(CLIENTS) {
            self.left.push(Rc::new(Cell::new(self.random.range(50..100) as u32)));
            self.start_worker(worker);
        }
        let mut random = self.random.fork();
        let count = random.range(FAULTS_MIN + 3..18);
        for (at, fault) in faults::schedule(&mut random, &self.targets, 20_000_000, count) {
            self.at(at, Event::Fault(fault));
        }
        self.run_until(|world| {
            world.left.iter().all(|left| Rc::strong_count(left) == 1) && world.events.is_empty()
        });
    }

    /// A fault happens, or one that can, a little later.
    fn happen_to_fail(&mut self, fault: Fault) {
        if !self.fail(fault) {
            let (mut random, pause) = (self.random.fork(), self.random.range(1000..500_000));
            self.after(pause, Event::Fault(faults::one(&mut random, &self.targets)));
        }
    }

    /// Nothing fails any more; after a while everything is as it should be.
    fn rest(&mut self) {
        self.network.heal();
        self.network.set_slow(1);
        for directory in wal_dirs() {
            self.servers[&NAMENODE].disk.set_failed(&directory, false);
        }
        let hosts: Vec<HostId> = self.servers.keys().copied().collect();
        for host in hosts {
            self.servers[&host].disk.set_capacity(1 << 40);
            if !self.servers[&host].is_up {
                self.start(host);
            }
        }
        quiet::check(self);
    }

    /// A namenode that starts again from its disk has the same namespace.
    pub(crate) fn check_replay(&mut self) {
        let digest = |world: &Self| {
            world.namenode.as_ref().map(|namenode| namenode.look(|core| core.state().digest()))
        };
        let before = digest(self);
        self.end(NAMENODE, true);
        self.start(NAMENODE);
        let after = digest(self);
        if before != after && !self.has_failed() {
            self.violated(format!("the namespace is another after a start: {before:?}, {after:?}"));
        }
    }

    /// Runs until something is so, or something is wrong.
    pub(crate) fn run_until(&mut self, mut is_so: impl FnMut(&Self) -> bool) {
        while !self.has_failed() && !is_so(self) {
            if self.executor.steps() > STEPS_MAX || self.executor.now() > TIME_MAX {
                let left: Vec<u32> = self.left.iter().map(|left| left.get()).collect();
                return self.violated(format!("it does not end: {left:?} operations are left"));
            }
            while let Some(next) =
                self.events.first_entry().filter(|next| next.key().0 <= self.executor.now())
            {
                let event = next.remove();
                self.happen(event);
            }
            match self.executor.step() {
                Step::Ran(host) => {
                    self.look_at(host);
                    self.look_around(host);
                }
                Step::Waited => {}
                Step::Idle => return self.violated("nothing happens any more".to_owned()),
            }
        }
    }

    /// Runs for a while.
    pub(crate) fn run_for(&mut self, micros: Micros) {
        let until = self.executor.now() + micros;
        self.executor.wake_at(until, std::task::Waker::noop());
        self.run_until(|world| world.executor.now() >= until);
    }

    fn at(&mut self, at: Micros, event: Event) {
        self.next_event += 1;
        self.events.insert((at, self.next_event), event);
        self.executor.wake_at(at, std::task::Waker::noop());
    }

    pub(crate) fn after(&mut self, micros: Micros, event: Event) {
        self.at(self.executor.now() + micros, event);
    }

    /// What must hold at any time, does it?
    fn look_around(&mut self, host: HostId) {
        if host == NAMENODE && self.is_a_datanode_lost() {
            self.shared.model.borrow_mut().datanode_was_given_up();
        }
        if self.executor.steps() >= self.next_look {
            self.next_look = self.executor.steps() + STEPS_PER_LOOK;
            self.check_holders();
        }
    }

    /// A host has made a step: was it the last?
    fn look_at(&mut self, host: HostId) {
        let Some(server) = self.servers.get(&host) else { return };
        if server.is_up && server.disk.is_stopped() {
            let cuts_power = server.cuts_power;
            self.executor.note(|| format!("{host} has made its last disk operation"));
            self.end(host, cuts_power);
            self.after(1_000_000, Event::Start(host));
        }
        if host == NAMENODE && self.namenode.as_ref().is_some_and(|namenode| namenode.failure().is_some()) {
            self.end(host, false);
            self.after(1_000_000, Event::Start(host));
        }
        if self.datanodes.get(&host).is_some_and(|datanode| !datanode.node.store.has_volumes()) {
            // It ends with an error, and whoever runs it starts it again.
            self.end(host, false);
            self.after(1_000_000, Event::Start(host));
        }
    }

    fn start(&mut self, host: HostId) {
        let Some(server) = self.servers.get_mut(&host).filter(|server| !server.is_up) else { return };
        server.process += 1;
        server.is_up = true;
        server.cuts_power = false;
        let (process, clock, disk) = (server.process, server.clock.clone(), server.disk.clone());
        self.network.host_lit(host);
        let started = if host == NAMENODE {
            self.start_namenode(clock, disk)
        } else {
            self.start_datanode(host, process, clock, disk)
        };
        self.executor.note(|| format!("{host} starts: {started:?}"));
        let Err(error) = started else { return };
        let has_stopped = self.servers[&host].disk.is_stopped();
        let log_has_failed = host == NAMENODE && matches!(self.log_faults, Some(LogFault::Failed(_)));
        if !has_stopped && !log_has_failed && !error.contains("nput/output error") {
            return self.violated(format!("{host} does not start: {error}"));
        }
        let cuts_power = self.servers[&host].cuts_power;
        self.end(host, cuts_power);
        self.after(500_000, Event::Start(host));
    }

    fn start_namenode(&mut self, clock: HostClock, disk: SimulatedDisk) -> Result<(), String> {
        let machine = namenode::Machine {
            host: NAMENODE,
            executor: self.executor.clone(),
            network: self.network.clone(),
            disk,
            clock,
        };
        let mistakes = namenode::Mistakes {
            acknowledges_early: self.plan.mistake == Some(Mistake::NamenodeAcknowledgesEarly),
            forgets_results: self.plan.mistake == Some(Mistake::ForgetRetryResults),
        };
        let seed = self.random.number();
        let started = Namenode::start(&machine, &namenode::config(&wal_dirs()), seed, mistakes);
        let namenode = started.map_err(|error| describe(&error))?;
        if self.log_faults == Some(LogFault::Behind) && namenode.failed_log_dirs() == 0 {
            self.log_faults = None;
        }
        self.namenode = Some(namenode);
        self.namenode_since = self.executor.now();
        Ok(())
    }

    fn start_datanode(
        &mut self,
        host: HostId,
        process: u32,
        clock: HostClock,
        disk: SimulatedDisk,
    ) -> Result<(), String> {
        let machine = datanode::Machine {
            host,
            executor: self.executor.clone(),
            network: self.network.clone(),
            disk,
            clock,
            volumes: volumes(),
        };
        let acknowledges_early = self.plan.mistake == Some(Mistake::DatanodeAcknowledgesEarly);
        let mistakes = engine::Mistakes { acknowledges_early };
        let started = Datanode::start(&machine, NAMENODE, &self.cluster, process, mistakes);
        self.datanodes.insert(host, started.map_err(|error| describe(&error))?);
        Ok(())
    }

    /// The process of a server ends where it is.
    pub(crate) fn end(&mut self, host: HostId, cuts_power: bool) {
        if cuts_power && self.datanodes.contains_key(&host) {
            let kept = self.kept_without(host);
            self.shared.model.borrow_mut().datanode_lost_power(&kept);
        }
        let Some(server) = self.servers.get_mut(&host).filter(|server| server.is_up) else { return };
        server.is_up = false;
        self.network.mute(host);
        self.executor.kill(host);
        if host == NAMENODE {
            self.namenode = None;
        }
        self.datanodes.remove(&host);
        let disk = &self.servers[&host].disk;
        if cuts_power {
            disk.cut_power();
            self.network.host_dark(host);
        } else {
            disk.kill();
            self.network.host_ended(host);
        }
    }

    fn start_worker(&mut self, worker: usize) {
        self.clients_down.remove(&worker);
        self.sessions += 1;
        let host = client_host(worker);
        let mut session = [0; 16];
        session[..8].copy_from_slice(&self.sessions.to_le_bytes());
        let executor = self.executor.clone();
        let client = self.connect(host, SessionId(session));
        let worker = Worker {
            index: worker,
            client,
            shared: self.shared.clone(),
            executor,
            random: self.random.fork(),
            left: self.left[worker].clone(),
        };
        self.executor.spawn(host, coroutine::run(move || worker.run()));
    }

    pub(crate) fn connect(&self, host: HostId, session: SessionId) -> Client {
        let place = client::Place {
            host,
            executor: self.executor.clone(),
            network: self.network.clone(),
            namenode: NAMENODE,
            epoch: self.epoch,
            session,
        };
        client::connect(&place, Client::builder().packet_bytes(4096).write_window_bytes(16 << 10))
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Fault(fault) => self.happen_to_fail(fault),
            Event::Start(host) => match self.worker_of(host) {
                Some(worker) => self.start_worker(worker),
                None => self.start(host),
            },
            Event::Heal => {
                self.executor.note(|| "partitions are over".to_owned());
                self.network.heal();
            }
            Event::NotSlow => self.network.set_slow(1),
            Event::Room(host) => self.servers[&host].disk.set_capacity(1 << 40),
            Event::RepairLog(directory) => self.repair_log(directory),
        }
    }

    pub(crate) fn worker_of(&self, host: HostId) -> Option<usize> {
        host.0.checked_sub(DATANODES + 1).map(usize::from)
    }
}

pub(crate) fn wal_dirs() -> Vec<PathBuf> {
    vec![PathBuf::from("/first/wal"), PathBuf::from("/second/wal")]
}

fn volumes() -> Vec<PathBuf> {
    vec![PathBuf::from("/volume")]
}

fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// A second, in the time of the executor.
pub(crate) const SECOND: Micros = Duration::from_secs(1).as_micros() as Micros;
