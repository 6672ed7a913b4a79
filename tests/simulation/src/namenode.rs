//! The shell of a simulated namenode: real frames, the real deciding core, the real log, over simulated streams and disk.
//!
//! It does what `rpc.rs` and `server.rs` of the namenode do with sockets and threads, and decides nothing.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::future;
use ringfs_disk::{Disk, SimulatedDisk};
use ringfs_namenode::boot;
use ringfs_namenode::calls::{Answer, Call, Caller, Credentials, Request};
use ringfs_namenode::checkpoint::format::Header;
use ringfs_namenode::checkpoint::{Beside, Done, Kind, Run};
use ringfs_namenode::config::SmallFiles;
use ringfs_namenode::core::{Copied, Core, Now, Order};
use ringfs_namenode::directory::Directories;
use ringfs_namenode::state::Rest;
use ringfs_namenode::wal::{BatchBuilder, Log, Values};
use ringfs_namenode::{Config, StartError};
use ringfs_proto::frame::{self, flags};
use ringfs_proto::hello::{self, HelloReplyV1, HelloV1};
use ringfs_proto::ids::{CallId, ClusterId, LogIndex};
use ringfs_proto::limits::{META_BYTES_MAX, META_BYTES_MAX_REPORT};

use crate::clock::HostClock;
use crate::executor::{Executor, HostId};
use crate::network::{End, Network};
use crate::wire::Wire;
use crate::workload::INLINE_BYTES_MAX;
use ringfs_tests::random::Random;

/// Port of the namenode.
pub const PORT: u16 = 8020;
const TICK: Duration = Duration::from_millis(100);
/// A log without new batches for this long writes its mark.
const IDLE: Duration = Duration::from_millis(5);

/// What a namenode stands on; it outlives its processes.
#[derive(Clone)]
pub struct Machine {
    /// Where it runs.
    pub host: HostId,
    /// Runs it.
    pub executor: Executor,
    /// Its streams.
    pub network: Network,
    /// Its disk.
    pub disk: SimulatedDisk,
    /// Its time of day.
    pub clock: HostClock,
}

/// Mistakes that are made on purpose, to see them found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mistakes {
    /// Changes are applied and answered before their batch is written.
    pub acknowledges_early: bool,
    /// Retries are not recognised.
    pub forgets_results: bool,
}

/// A running namenode.
pub struct Namenode {
    machine: Machine,
    core: RefCell<Core>,
    values: Values,
    log: RefCell<Log>,
    cluster: ClusterId,
    batches: RefCell<VecDeque<BatchBuilder>>,
    log_waker: RefCell<Option<Waker>>,
    outboxes: RefCell<BTreeMap<u64, Rc<Outbox>>>,
    next_connection: Cell<u64>,
    failure: RefCell<Option<String>>,
    mistakes: Mistakes,
    _directories: Directories,
}

#[derive(Default)]
struct Outbox {
    answers: RefCell<VecDeque<Answer>>,
    waker: RefCell<Option<Waker>>,
    is_closed: Cell<bool>,
}

/// Bytes of a block where nobody asks for others.
pub const BLOCK_BYTES: u64 = 16 << 10;

/// The configuration of a simulated namenode: everything happens sooner than usual.
pub fn config(wal_dirs: &[PathBuf]) -> Config {
    Config {
        wal_dirs: wal_dirs.to_vec(),
        wal_segment_bytes: 1 << 16,
        small_files: SmallFiles { inline_bytes_max: INLINE_BYTES_MAX as u32, ..SmallFiles::default() },
        replication: 3,
        block_size: BLOCK_BYTES,
        heartbeat_interval_ms: 300,
        datanode_stale_ms: 1500,
        datanode_dead_ms: 6000,
        invalidation_delay_ms: 2000,
        lease_soft_ms: 2000,
        lease_hard_ms: 12_000,
        block_recovery_timeout_ms: 1500,
        checkpoint_records: 40,
        checkpoint_inodes_per_turn: 2,
        ..Config::default()
    }
}

impl Namenode {
    /// Starts a process on a machine.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn start(
        machine: &Machine,
        config: &Config,
        seed: u64,
        mistakes: Mistakes,
    ) -> Result<Rc<Self>, StartError> {
        let disk: Arc<dyn Disk> = Arc::new(machine.disk.clone());
        let now = now(machine);
        let (core, log, directories) = boot::start_core(&disk, config, now, seed)?;
        let namenode = Rc::new(Self {
            machine: machine.clone(),
            core: RefCell::new(core),
            values: Values::new(disk, log.status()),
            log: RefCell::new(log),
            cluster: directories.identity.cluster.cluster,
            batches: RefCell::default(),
            log_waker: RefCell::default(),
            outboxes: RefCell::default(),
            next_connection: Cell::new(1),
            failure: RefCell::default(),
            mistakes,
            _directories: directories,
        });
        let Machine { host, executor, network, .. } = machine;
        let listening = network.listen(*host, PORT);
        let accepting = namenode.clone();
        executor.spawn(*host, async move {
            loop {
                let (end, address) = listening.accept().await;
                let serving = accepting.clone();
                accepting.machine.executor.spawn(accepting.machine.host, serving.serve(end, address.ip()));
            }
        });
        executor.spawn(*host, namenode.clone().append());
        executor.spawn(*host, namenode.clone().tick());
        Ok(namenode)
    }

    /// Why it can serve no more.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// Looks at what it knows.
    pub fn look<T>(&self, look: impl FnOnce(&Core) -> T) -> T {
        look(&self.core.borrow())
    }

    async fn tick(self: Rc<Self>) {
        loop {
            self.machine.executor.sleep(TICK).await;
            let has_room = self.log.borrow().status().has_room();
            let mut core = self.core.borrow_mut();
            core.set_log_has_room(has_room);
            core.set_log_dirs_failed(self.failed_log_dirs());
            core.tick(now(&self.machine));
            let order = core.take_checkpoint();
            while let Some(wanted) = core.take_collection() {
                core.collected(self.values.collect(&wanted), now(&self.machine));
            }
            drop(core);
            self.hand_over();
            if let Some(order) = order {
                self.machine.executor.spawn(self.machine.host, self.clone().write_checkpoint(order));
            }
        }
    }

    /// How many directories of the log are out of use.
    pub fn failed_log_dirs(&self) -> u32 {
        self.log.borrow().status().failed()
    }

    /// What the checkpoint's thread does, and the namespace thread for it.
    async fn write_checkpoint(self: Rc<Self>, order: Order) {
        let disk: Arc<dyn Disk> = Arc::new(self.machine.disk.clone());
        let beside = Beside { directories: self.log.borrow().status().live(), kept: order.kept.clone() };
        let header = Header { cluster: self.cluster, index: order.index };
        let done = match Run::begin(disk, Kind::Ordinary, beside, header) {
            Ok(run) => self.write_sections(run, order.rest).await,
            Err(error) => Done { result: Err(error), failed: Vec::new() },
        };
        self.machine
            .executor
            .note(|| format!("checkpoint: {:?}", done.result.as_ref().map_err(|e| e.to_string())));
        for (directory, error) in done.failed {
            // With no directory left the next batch fails.
            let _told_by_the_next = self.log.borrow_mut().fail_directory(&directory, error);
        }
        self.core.borrow_mut().checkpoint_done(done.result, now(&self.machine));
        self.hand_over();
    }

    async fn write_sections(&self, mut run: Run, rest: Rest) -> Done {
        let executor = &self.machine.executor;
        for section in rest.into_sections() {
            if let Err(error) = run.section(&section) {
                return run.fail(error);
            }
        }
        loop {
            executor.sleep(Duration::from_micros(executor.draw(|random| random.range(100..20_000)))).await;
            let copied = self.core.borrow_mut().copy_checkpoint();
            let written = match copied {
                Copied::All => return run.finish(),
                Copied::Some(None) => Ok(()),
                Copied::Some(Some(section)) => run.section(&section),
            };
            if let Err(error) = written {
                return run.fail(error);
            }
        }
    }

    /// What the log's thread does.
    async fn append(self: Rc<Self>) {
        let executor = self.machine.executor.clone();
        loop {
            let is_idle = async {
                executor.sleep(IDLE).await;
                None
            };
            let next = future::or(async { Some(self.next_batch().await) }, is_idle).await;
            let batch = match next {
                Some(batch) => batch,
                None => {
                    self.log.borrow_mut().idle();
                    self.next_batch().await
                }
            };
            if !self.write(batch).await {
                return;
            }
        }
    }

    async fn next_batch(&self) -> BatchBuilder {
        future::poll_fn(|context| match self.batches.borrow_mut().pop_front() {
            Some(batch) => Poll::Ready(batch),
            None => {
                *self.log_waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }

    /// Writes a batch and takes the consequences. False when the log has failed.
    async fn write(&self, mut builder: BatchBuilder) -> bool {
        let executor = &self.machine.executor;
        let pause = |random: &mut Random| match random.chance(30) {
            true => random.range(2000..60_000),
            false => random.range(80..900),
        };
        let last = builder.last();
        if self.mistakes.acknowledges_early {
            // Its records are applied and answered before they are written; a new builder stands for what comes back.
            self.core.borrow_mut().durable(last, BatchBuilder::default(), now(&self.machine));
            self.hand_over();
            executor.sleep(Duration::from_micros(executor.draw(pause) * 10)).await;
            return self.log.borrow_mut().append(&mut builder).is_ok();
        }
        executor.sleep(Duration::from_micros(executor.draw(pause))).await;
        let appended = self.log.borrow_mut().append(&mut builder);
        executor.sleep(Duration::from_micros(executor.draw(pause))).await;
        if let Err(error) = appended {
            executor.note(|| format!("{} the log has failed: {error}", self.machine.host));
            *self.failure.borrow_mut() = Some(error.to_string());
            return false;
        }
        self.finish(last, builder);
        true
    }

    /// A batch is durable: it is applied, its answers leave, then the log may mark it.
    fn finish(&self, last: LogIndex, builder: BatchBuilder) {
        self.core.borrow_mut().durable(last, builder, now(&self.machine));
        self.hand_over();
        self.log.borrow_mut().acknowledged(last);
    }

    fn hand_over(&self) {
        let (batch, answers) = {
            let mut core = self.core.borrow_mut();
            // Trees are small here: what is left to do is done at once.
            while core.has_work() {
                core.work(now(&self.machine));
            }
            (core.take_batch(), core.take_answers())
        };
        if let Some(batch) = batch {
            self.batches.borrow_mut().push_back(batch);
            wake(&self.log_waker);
        }
        for answer in answers {
            let outbox = self.outboxes.borrow().get(&answer.caller.connection).cloned();
            if let Some(outbox) = outbox {
                outbox.answers.borrow_mut().push_back(answer);
                wake(&outbox.waker);
            }
        }
    }

    async fn serve(self: Rc<Self>, end: End, address: IpAddr) {
        let connection = self.next_connection.replace(self.next_connection.get() + 1);
        let mut wire = Wire::new(end);
        let outbox = Rc::new(Outbox::default());
        if let Ok(caller) = self.greet(&mut wire, connection, address).await {
            self.outboxes.borrow_mut().insert(connection, outbox.clone());
            let writing = self.clone().write_answers(wire.end.clone(), outbox.clone());
            self.machine.executor.spawn(self.machine.host, writing);
            let _ended = self.read_calls(&mut wire, &Arc::new(caller)).await;
        }
        wire.end.shut_down();
        self.outboxes.borrow_mut().remove(&connection);
        outbox.is_closed.set(true);
        wake(&outbox.waker);
        self.core.borrow_mut().disconnected(connection);
        self.hand_over();
    }

    async fn greet(&self, wire: &mut Wire, connection: u64, address: IpAddr) -> io::Result<Caller> {
        let hello: HelloV1 = wire.hello(false).await?;
        let nonce = self.machine.executor.draw(|random| u128::from(random.number()).to_le_bytes());
        let version = hello::negotiate_version(&hello).ok_or(io::ErrorKind::Unsupported)?;
        let (cluster, message) = (self.cluster, String::new());
        let reply = HelloReplyV1 { code: 0, message, version, features: 0, cluster, nonce };
        wire.end.write_all(&hello::encode_reply(&reply)).await?;
        Ok(Caller {
            connection,
            session: hello.session,
            user: hello.user,
            credentials: Credentials::privileged(),
            address,
            role: hello.role,
            nonce,
            renews_leases: false,
            is_datanode: AtomicBool::new(false),
        })
    }

    async fn read_calls(&self, wire: &mut Wire, caller: &Arc<Caller>) -> io::Result<()> {
        loop {
            let meta_max = if caller.is_proved_datanode() { META_BYTES_MAX_REPORT } else { META_BYTES_MAX };
            let Some((header, meta)) = wire.frame(meta_max).await? else { return Ok(()) };
            let request = Request::decode(&header, &meta).map_err(|error| {
                let text = format!("{}: {}", header.op.name(), error.message);
                io::Error::new(io::ErrorKind::InvalidData, text)
            })?;
            let (mut call, lowest_unanswered) = (header.call, header.lowest_unanswered);
            if self.mistakes.forgets_results && header.flags & flags::RETRY != 0 {
                // Under another number it is a call that was never seen.
                call = CallId(call.0 + self.machine.executor.draw(|random| random.range(1 << 40..1 << 50)));
            }
            let call =
                Call { caller: caller.clone(), call, lowest_unanswered, header, request, context: None };
            self.core.borrow_mut().call(call, now(&self.machine));
            self.hand_over();
        }
    }

    async fn write_answers(self: Rc<Self>, end: Rc<End>, outbox: Rc<Outbox>) {
        loop {
            let next = future::poll_fn(|context| {
                if let Some(answer) = outbox.answers.borrow_mut().pop_front() {
                    return Poll::Ready(Some(answer));
                }
                *outbox.waker.borrow_mut() = Some(context.waker().clone());
                if outbox.is_closed.get() { Poll::Ready(None) } else { Poll::Pending }
            });
            let Some(mut answer) = next.await else { return };
            answer.fill(&self.values);
            let mut bytes = Vec::new();
            match answer.result {
                Ok(reply) => {
                    frame::append(&mut bytes, answer.header.reply(), 0, |meta| reply.encode_into(meta));
                }
                Err(error) => frame::append_error(&mut bytes, &answer.header, &error),
            }
            if end.write_all(&bytes).await.is_err() {
                return;
            }
        }
    }
}

fn now(machine: &Machine) -> Now {
    let now = machine.executor.now();
    Now { mono_ms: now / 1000, wall_ms: machine.clock.unix_ms(now) }
}

fn wake(waker: &RefCell<Option<Waker>>) {
    if let Some(waker) = waker.borrow_mut().take() {
        waker.wake();
    }
}
