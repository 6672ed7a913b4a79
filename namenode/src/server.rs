//! A running namenode: the namespace thread between the network and the log.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ringfs_proto::ids::{ClusterId, LogIndex};
use ringfs_proto::limits::{CALLS_IN_FLIGHT_MAX, META_BYTES_MAX};
use ringfs_proto::metrics::{Metric, Observed};

use crate::config::Config;
use crate::core::{Core, Now};
use crate::directory::{Directory, DirectoryError};
use crate::inbox::Inbox;
use crate::metrics::Metrics;
use crate::rpc::Rpc;
use crate::state::State;
use crate::wal::{self, Options, WalError, WalHandle};

/// Between two looks at the clock when nothing comes in.
const TICK: Duration = Duration::from_millis(100);
/// Memory that a call takes while it waits, at most on average.
const CALL_BYTES: u64 = 4096;
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

/// Makes a new cluster in the configured directory.
///
/// # Errors
/// `Config`, `Directory`.
pub fn format(config: &Config) -> Result<ClusterId, StartError> {
    let directory = wal_dir(config)?;
    let superuser = process_user();
    Ok(Directory::format(directory, &superuser, &config.superuser_group)?.cluster)
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
}

/// Starts a namenode on a formatted directory. Returns when it listens.
///
/// # Errors
/// [`StartError`]: the message says what to do.
pub fn start(config: &Config) -> Result<Server, StartError> {
    let directory = Directory::open(wal_dir(config)?)?;
    let (cluster, key) = (directory.cluster.cluster, directory.cluster.key.clone());
    warn_of_trust(config);
    let inbox = Arc::new(Inbox::default());
    let mut state = State::new(&directory.superuser, &directory.group);
    let wal = open_log(&directory, config, &mut state, &inbox)?;
    let clock = Clock::start();
    let core = Core::new(state, cluster, key, config.clone(), clock.now(), clock.now().wall_ms);
    let metrics = core.metrics().clone();
    let address = SocketAddr::new(config.bind, config.port);
    let listen = |source| StartError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(listen)?;
    let rpc = Rpc::start(listener, inbox.clone(), cluster, config.connections_max, config.calls_queued_max)
        .map_err(listen)?;
    let address = rpc.address();
    let memory_limit_bytes = memory_limit(config);
    tracing::info!(%address, %cluster, memory_limit_bytes, "namenode listens");
    let shared = Arc::new(Shared { metrics, rpc: Mutex::new(Some(rpc)), failure: Mutex::new(None) });
    let namespace =
        Namespace { core, wal, clock, inbox: inbox.clone(), shared: shared.clone(), _directory: directory };
    let thread = std::thread::Builder::new().name("namespace".to_owned()).spawn(move || namespace.run());
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
        match &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(failure) => Err(failure.clone()),
            None => Ok(()),
        }
    }

    fn metrics(&self) -> Vec<Metric> {
        let mut all = self.metrics.collect();
        if let Some(rpc) = &*self.rpc.lock().unwrap_or_else(PoisonError::into_inner) {
            all.extend(rpc.metrics());
        }
        all
    }
}

/// The thread that owns the namespace.
struct Namespace {
    core: Core,
    wal: WalHandle,
    clock: Clock,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    _directory: Directory,
}

impl Namespace {
    fn run(mut self) {
        let mut last_tick = Instant::now();
        let mut is_stopping = false;
        while !(is_stopping && self.core.is_drained()) {
            let work = self.inbox.take(TICK);
            let now = self.clock.now();
            is_stopping |= work.is_stopping;
            if work.is_stopping {
                self.with_rpc(|rpc| rpc.stop_reading());
            }
            work.disconnected.into_iter().for_each(|connection| self.core.disconnected(connection));
            work.urgent.into_iter().for_each(|call| self.core.call(call, now));
            for completion in work.completions {
                if let Some(failure) = completion.failure {
                    return self.fail(failure);
                }
                self.finish(completion.last, completion.builder, now);
            }
            work.calls.into_iter().for_each(|call| self.core.call(call, now));
            if last_tick.elapsed() >= TICK {
                last_tick = Instant::now();
                self.core.set_log_has_room(self.wal.has_room());
                self.core.tick(now);
            }
            self.hand_over();
        }
        let rpc = self.shared.rpc.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(rpc) = rpc {
            rpc.stop();
        }
        self.wal.stop();
    }

    /// A batch is durable: it is applied, its answers leave, then the log may mark it.
    fn finish(&mut self, last: LogIndex, builder: wal::BatchBuilder, now: Now) {
        self.core.durable(last, builder, now);
        self.hand_over();
        self.wal.acknowledged(last);
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

    fn fail(self, failure: String) {
        tracing::error!(failure, "the write-ahead log failed: the namenode stops");
        *self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
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

fn open_log(
    directory: &Directory,
    config: &Config,
    state: &mut State,
    inbox: &Arc<Inbox>,
) -> Result<WalHandle, StartError> {
    let options = Options { segment_bytes: config.wal_segment_bytes, io_uring: config.io_uring };
    let begin = Instant::now();
    let mut effects = Vec::new();
    let mut on_record = |record| {
        // A refusal was the answer when the record was written, and is the answer again.
        let _refused_again = state.apply(&record, &mut effects);
        effects.clear();
    };
    let completions = inbox.clone();
    let on_complete = move |completion| completions.add(|work| work.completions.push(completion));
    let (wal, last) = wal::start(directory, &options, &mut on_record, on_complete)?;
    tracing::info!(records = last.0, elapsed_ms = begin.elapsed().as_millis() as u64, "log replayed");
    Ok(wal)
}

fn wal_dir(config: &Config) -> Result<&std::path::Path, StartError> {
    match config.wal_dirs.as_slice() {
        [only] => Ok(only),
        [] => Err(StartError::Config("wal_dirs is empty: name the directory of the log".to_owned())),
        _ => Err(StartError::Config("wal_dirs: this release keeps exactly one".to_owned())),
    }
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
    BASE_BYTES + half_frames + config.calls_queued_max as u64 * CALL_BYTES
}

fn process_user() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).ok().flatten();
    std::env::var("RINGFS_USER").ok().or(user.map(|user| user.name)).unwrap_or_else(|| "ringfs".to_owned())
}
