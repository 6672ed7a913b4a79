//! A running namenode: the namespace between the network and the log.
//!
//! One works on the namespace at a time, in turns. A turn is taken by the namespace thread, or at once by the thread that has read calls
//! from the network while nobody else has one: then a call wakes no other thread.

use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringfs_disk::{Disk, SystemDisk};
use ringfs_proto::ids::{ClusterId, LogIndex};
use ringfs_proto::limits::{CALLS_IN_FLIGHT_MAX, META_BYTES_MAX};
use ringfs_proto::metrics::{Metric, Observed};

use crate::boot::{self, Booted};
use crate::checkpoint::{self, CheckpointError};
use crate::config::Config;
use crate::core::{Copied, Core, Now, Order};
use crate::directory::{self, Directories, DirectoryError};
use crate::groups::Identities;
use crate::inbox::{Inbox, Work};
use crate::metrics::Metrics;
use crate::rpc::{CALL_BYTES, Rpc};
use crate::topology::Topology;
use crate::wal::collect::Wanted;
use crate::wal::{self, Values, WalError, WalHandle};

/// Between two looks at the clock when nothing comes in.
const TICK: Duration = Duration::from_millis(100);
/// Between two looks at a checkpoint whose disk is slower than the copying.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(2);
/// Memory of the process besides the namespace and what calls take.
const BASE_BYTES: u64 = 256 << 20;

/// Why a namenode did not start, or not stop.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not make sense.
    #[error("configuration: {0}")]
    Config(String),
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The log cannot be used.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// A checkpoint is damaged, and nothing else has what it covers.
    #[error("{gap}; it was covered by a checkpoint that cannot be used: {checkpoint}")]
    Uncovered {
        /// What is missing of the log.
        gap: WalError,
        /// What is wrong with the newest checkpoint.
        checkpoint: Box<CheckpointError>,
    },
    /// The address cannot be listened on.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A thread cannot be started.
    #[error("start thread: {0}")]
    Thread(std::io::Error),
}

impl StartError {
    /// What to do when acknowledged changes cannot be read back; `None` for every other reason.
    pub fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::Uncovered { .. }
            | Self::Wal(WalError::Damaged { .. } | WalError::Gap { .. } | WalError::Foreign { .. }) => Some(
                "acknowledged changes cannot be read back: bring back a good copy of the directory (another wal_dir, or a backup made by `ringfs admin checkpoint --to`), then start again; see docs/operating.md",
            ),
            _ => None,
        }
    }
}

/// Makes a new cluster in the configured directories.
///
/// # Errors
/// `Config`, `Directory`.
pub fn format(config: &Config) -> Result<ClusterId, StartError> {
    if config.wal_dirs.is_empty() {
        return Err(StartError::Config("wal_dirs is empty: name the directories of the log".to_owned()));
    }
    let superuser = process_user();
    Ok(directory::format(&SystemDisk, &config.wal_dirs, &superuser, &config.permissions.superuser_group)?
        .cluster)
}

/// A running namenode.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    cluster: ClusterId,
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
    memory_limit_bytes: u64,
}

#[derive(Debug)]
struct Shared {
    metrics: Metrics,
    rpc: Mutex<Option<Rpc>>,
    failure: Mutex<Option<String>>,
    /// What a person must look at while the namenode goes on.
    trouble: Mutex<Option<String>>,
}

/// Starts a namenode on formatted directories. Returns when it listens.
///
/// # Errors
/// [`StartError`]: the message says what to do.
pub fn start(config: &Config) -> Result<Server, StartError> {
    warn_of_trust(config);
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let begin = Instant::now();
    let Booted { directories, state, log, checkpoint } = boot::boot(&disk, config, random()?)?;
    let elapsed_ms = begin.elapsed().as_millis() as u64;
    tracing::info!(last = %log.last(), %checkpoint, replayed = log.last().0 - checkpoint.0, elapsed_ms, "log replayed");
    let (cluster, key) = (directories.identity.cluster.cluster, directories.identity.cluster.key.clone());
    let superusers = vec![directories.identity.superuser.clone(), process_user()];
    let identities = Arc::new(Identities::new(config, superusers).map_err(StartError::Config)?);
    let inbox = Arc::new(Inbox::new(config.calls_queued_per_user_max));
    let log_bytes = log.replayed_bytes();
    let values = Arc::new(Values::new(disk.clone(), log.status()));
    let completions = inbox.clone();
    let on_complete = move |completion| completions.add(|work| work.completions.push(completion));
    let wal = wal::start(log, config.io_uring, on_complete)?;
    let topology = Topology::start(config, inbox.clone())?;
    let clock = Clock::start();
    let mut core = Core::new(state, cluster, key, config.clone(), clock.now(), clock.now().wall_ms);
    core.set_checkpoint(checkpoint, log_bytes, clock.now());
    let metrics = core.metrics().clone();
    let address = SocketAddr::new(config.bind, config.port);
    let listen = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(listen)?;
    let rpc =
        Rpc::start(listener, inbox.clone(), cluster, identities, values.clone(), config).map_err(listen)?;
    let address = rpc.address();
    let memory_limit_bytes = memory_limit(config);
    tracing::info!(%address, %cluster, memory_limit_bytes, "namenode listens");
    let shared =
        Shared { metrics, rpc: Mutex::new(Some(rpc)), failure: Mutex::new(None), trouble: Mutex::new(None) };
    let shared = Arc::new(shared);
    let collector = Collector::start(values.clone(), inbox.clone()).map_err(StartError::Thread)?;
    let namespace = Arc::new(Mutex::new(Namespace {
        core,
        wal,
        topology,
        clock,
        inbox: inbox.clone(),
        shared: shared.clone(),
        disk,
        directories,
        checkpoint: None,
        collector,
        values,
        last_tick: Instant::now(),
    }));
    let at_once = Arc::downgrade(&namespace);
    inbox.serve_at_once(Box::new(move || {
        at_once.upgrade().is_some_and(|namespace| serve_at_once(&namespace))
    }));
    let (turns, failure) = (inbox.clone(), shared.clone());
    let run = move || run(&namespace, &turns, &failure);
    let thread = std::thread::Builder::new().name("namespace".to_owned()).spawn(run);
    let thread = Some(thread.map_err(StartError::Thread)?);
    Ok(Server { address, cluster, inbox, thread, shared, memory_limit_bytes })
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The cluster.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// What operators see.
    pub fn observed(&self) -> Arc<dyn Observed> {
        self.shared.clone()
    }

    /// Memory that it takes at most besides the namespace, by its configuration, in bytes.
    pub fn memory_limit_bytes(&self) -> u64 {
        self.memory_limit_bytes
    }

    /// Why it can serve no more, once that is so: the process must end with an error.
    pub fn failed(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes no more calls, answers those it has, and ends.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.inbox.add(|work| work.is_stopping = true);
            let _panicked = thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Observed for Shared {
    fn health(&self) -> Result<(), String> {
        let text = |text: &Mutex<Option<String>>| text.lock().unwrap_or_else(PoisonError::into_inner).clone();
        text(&self.failure).or_else(|| text(&self.trouble)).map_or(Ok(()), Err)
    }

    fn metrics(&self) -> Vec<Metric> {
        let mut all = self.metrics.collect();
        if let Some(rpc) = &*self.rpc.lock().unwrap_or_else(PoisonError::into_inner) {
            all.extend(rpc.metrics());
        }
        all
    }
}

/// What works on the namespace: in turns, mostly of the namespace thread.
struct Namespace {
    core: Core,
    wal: WalHandle,
    topology: Topology,
    clock: Clock,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    disk: Arc<dyn Disk>,
    directories: Directories,
    /// The checkpoint that is being written.
    checkpoint: Option<checkpoint::Handle>,
    collector: Collector,
    values: Arc<Values>,
    last_tick: Instant,
}

/// Reads for the collection of values, on a thread of its own.
struct Collector {
    orders: Sender<Wanted>,
}

impl Collector {
    fn start(values: Arc<Values>, inbox: Arc<Inbox>) -> std::io::Result<Self> {
        let (orders, receiver) = channel::<Wanted>();
        let run = move || {
            for wanted in receiver {
                let collected = values.collect(&wanted);
                inbox.add(|work| work.collected.push(collected));
            }
        };
        std::thread::Builder::new().name("collector".to_owned()).spawn(run)?;
        Ok(Self { orders })
    }

    fn collect(&self, wanted: Wanted) {
        // A thread that has panicked takes no more orders: dead values stay then.
        let _gone = self.orders.send(wanted);
    }
}

/// The namespace thread: takes turns until it is told to stop and all is done, or the log fails.
fn run(namespace: &Mutex<Namespace>, inbox: &Inbox, shared: &Shared) {
    let mut is_stopping = false;
    let mut patience = TICK;
    loop {
        inbox.wait(patience);
        let turn = namespace.lock().map_err(|_poisoned| "a turn of the namespace has panicked".to_owned());
        let turn = turn.and_then(|mut namespace| {
            // Taken under the lock: no turn gets in between, and calls keep their order.
            let work = inbox.take();
            is_stopping |= work.is_stopping;
            namespace.turn(work)?;
            patience = namespace.patience();
            Ok(is_stopping && namespace.core.is_drained())
        });
        match turn {
            Ok(false) => {}
            Ok(true) => break,
            Err(failure) => {
                tracing::error!(failure, "the namenode stops");
                *shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
                return;
            }
        }
    }
    let rpc = shared.rpc.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(rpc) = rpc {
        rpc.stop();
    }
    // With the namespace its log ends, after what was handed over.
}

/// A turn with the calls that wait, for whoever has added some; false if another has the namespace.
fn serve_at_once(namespace: &Mutex<Namespace>) -> bool {
    let Ok(mut namespace) = namespace.try_lock() else { return false };
    let (calls, usages, has_more) = namespace.inbox.take_calls();
    let now = namespace.clock.now();
    namespace.core.note_usages(&usages);
    calls.into_iter().for_each(|call| namespace.core.call(call, now));
    namespace.hand_over();
    if has_more || namespace.core.has_work() {
        namespace.inbox.add(|work| work.is_left = true);
    }
    true
}

impl Namespace {
    /// Works on what has come, and on what takes several turns.
    ///
    /// # Errors
    /// Why the log has failed.
    fn turn(&mut self, work: Work) -> Result<(), String> {
        let now = self.clock.now();
        if work.is_stopping {
            self.with_rpc(|rpc| rpc.stop_reading());
        }
        work.disconnected.into_iter().for_each(|connection| self.core.disconnected(connection));
        work.racks.iter().for_each(|racks| self.core.set_racks(racks));
        self.core.note_usages(&work.usages);
        work.urgent.into_iter().for_each(|call| self.core.call(call, now));
        for completion in work.completions {
            if let Some(failure) = completion.failure {
                return Err(format!("the write-ahead log failed: {failure}"));
            }
            self.finish(completion.last, completion.builder, now);
        }
        work.collected.into_iter().for_each(|collected| self.core.collected(collected, now));
        work.checkpoints.into_iter().for_each(|done| self.checkpoint_done(done, now));
        work.calls.into_iter().for_each(|call| self.core.call(call, now));
        if self.last_tick.elapsed() >= TICK {
            self.last_tick = Instant::now();
            self.look_around(now);
            if self.topology.asks_for_hosts() {
                self.topology.ask(self.core.hosts_without_rack());
            }
        }
        if self.core.has_work() {
            self.core.work(now);
        }
        self.copy_checkpoint();
        if let Some(wanted) = self.core.take_collection() {
            self.collector.collect(wanted);
        }
        self.hand_over();
        Ok(())
    }

    /// A batch is durable: it is applied, its answers leave, then the log may mark it.
    fn finish(&mut self, last: LogIndex, builder: wal::BatchBuilder, now: Now) {
        self.core.durable(last, builder, now);
        self.hand_over();
        self.wal.acknowledged(last);
    }

    /// How long to wait for work.
    fn patience(&self) -> Duration {
        match &self.checkpoint {
            _ if self.core.has_work() => Duration::ZERO,
            Some(checkpoint) if checkpoint.wants_sections() => Duration::ZERO,
            Some(_) => CHECKPOINT_PAUSE,
            None => TICK,
        }
    }

    fn look_around(&mut self, now: Now) {
        let status = self.wal.status();
        self.core.set_log_has_room(status.has_room());
        self.core.set_log_dirs_failed(status.failed());
        self.core.tick(now);
        *self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = self.core.older_state();
    }

    /// The share of this turn of a checkpoint, if one is to be taken.
    fn copy_checkpoint(&mut self) {
        if let Some(order) = self.core.take_checkpoint() {
            self.begin_checkpoint(order);
        }
        let wanting = self.checkpoint.as_mut().filter(|checkpoint| checkpoint.wants_sections());
        let Some(checkpoint) = wanting else { return };
        match self.core.copy_checkpoint() {
            Copied::Some(section) => section.into_iter().for_each(|section| checkpoint.section(section)),
            Copied::All => checkpoint.finish(),
        }
    }

    fn begin_checkpoint(&mut self, order: Order) {
        let identity = &self.directories.identity;
        let kind = match order.target {
            Some(target) => checkpoint::Kind::Backup(target, Box::new(identity.clone())),
            None => checkpoint::Kind::Ordinary,
        };
        let beside = checkpoint::Beside { directories: self.wal.status().live(), kept: order.kept };
        let header = checkpoint::format::Header { cluster: identity.cluster.cluster, index: order.index };
        let inbox = self.inbox.clone();
        let on_done = move |done| inbox.add(|work| work.checkpoints.push(done));
        match checkpoint::start(self.disk.clone(), kind, beside, header, order.rest, on_done) {
            Ok(handle) => self.checkpoint = Some(handle),
            Err(source) => {
                let path = "checkpoint".into();
                let error = CheckpointError::Io { action: "start the thread of", path, source };
                self.core.checkpoint_done(Err(error), self.clock.now());
            }
        }
    }

    fn checkpoint_done(&mut self, done: checkpoint::Done, now: Now) {
        self.checkpoint = None;
        self.values.close();
        for (directory, error) in done.failed {
            self.wal.fail_directory(directory, error);
        }
        self.core.checkpoint_done(done.result, now);
    }

    fn hand_over(&mut self) {
        if let Some(batch) = self.core.take_batch() {
            self.wal.append(batch);
        }
        let answers = self.core.take_answers();
        if !answers.is_empty() {
            self.with_rpc(|rpc| rpc.deliver(answers));
        }
    }

    fn with_rpc(&self, act: impl FnOnce(&Rpc)) {
        if let Some(rpc) = &*self.shared.rpc.lock().unwrap_or_else(PoisonError::into_inner) {
            act(rpc);
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Clock {
    begin: Instant,
}

impl Clock {
    fn start() -> Self {
        Self { begin: Instant::now() }
    }

    fn now(self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono_ms: self.begin.elapsed().as_millis() as u64, wall_ms: wall.as_millis() as u64 }
    }
}

fn random() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| StartError::Config(format!("no random numbers: {error}")))?;
    Ok(u64::from_le_bytes(bytes))
}

fn warn_of_trust(config: &Config) {
    if !config.bind.is_loopback() {
        tracing::warn!(bind = %config.bind, "listening beyond this host: users are taken at their word, so let only trusted hosts reach this port");
    }
}

fn memory_limit(config: &Config) -> u64 {
    // A connection may hold one frame that is not complete; calls beyond the queue's bound are not read.
    let half_frames =
        config.connections_max as u64 * (META_BYTES_MAX as u64 / CALLS_IN_FLIGHT_MAX as u64 + (64 << 10));
    BASE_BYTES + half_frames + config.calls_queued_max as u64 * u64::from(CALL_BYTES)
}

fn process_user() -> String {
    let uid = nix::unistd::Uid::effective();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    // As clients name a user that the host does not know: else he could not administer what he has started.
    let name = user.map_or_else(|| uid.to_string(), |user| user.name);
    std::env::var("RINGFS_USER").ok().filter(|name| !name.is_empty()).unwrap_or(name)
}
