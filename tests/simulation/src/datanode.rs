//! A simulated datanode: the real store, the real service and the real conversation with the namenode, over a simulated
//! engine. Only the socket of the link is replaced.

use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_lite::future;
use ringfs_datanode::engine::{Service, Stop};
use ringfs_datanode::link::{Identity, Session, Step};
use ringfs_datanode::machine::Machine as DatanodeMachine;
use ringfs_datanode::node::Node;
use ringfs_datanode::serve::BlockService;
use ringfs_datanode::store::Store;
use ringfs_datanode::{Config, StartError};
use ringfs_disk::{Disk, SimulatedDisk};
use ringfs_proto::capability::ClusterKey;
use ringfs_proto::cluster_file::ClusterFile;
use ringfs_proto::hello::HelloReplyV1;
use ringfs_proto::ids::DatanodeId;
use ringfs_proto::limits::META_BYTES_MAX_REPORT;

use crate::clock::HostClock;
use crate::engine::{Activity, Mistakes, PORT, Simulated};
use crate::executor::{Executor, HostId};
use crate::namenode;
use crate::network::{Network, address_of};
use crate::wire::Wire;

/// Between two attempts to reach the namenode.
const RECONNECT: Duration = Duration::from_millis(150);
/// How long the namenode may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);
/// Shards of a datanode: two, so that what comes to one may be held by the other.
const SHARDS: usize = 2;

/// What a datanode stands on; it outlives its processes.
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
    /// Its volumes.
    pub volumes: Vec<PathBuf>,
}

/// A running datanode.
pub struct Datanode {
    /// What its shards share.
    pub node: Arc<Node>,
}

/// The machine as the datanode's code sees it.
#[derive(Debug)]
struct Seen {
    host: HostId,
    /// Random bytes that were asked for: no two draws are equal.
    draws: AtomicU32,
    disk: SimulatedDisk,
    clock: HostClock,
    process: u32,
}

impl DatanodeMachine for Seen {
    fn files(&self) -> &dyn Disk {
        &self.disk
    }

    fn unix_s(&self) -> i64 {
        self.clock.unix_s()
    }

    fn fill_random(&self, bytes: &mut [u8]) -> io::Result<()> {
        // Distinct is enough: nobody in the simulation guesses.
        let draw = self.draws.fetch_add(1, Ordering::Relaxed);
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = match at {
                0 => self.host.0,
                1..5 => self.process.to_le_bytes()[at - 1],
                5..9 => draw.to_le_bytes()[at - 5],
                _ => 0x5a,
            };
        }
        Ok(())
    }

    fn process(&self) -> u32 {
        self.process
    }
}

/// The id of the datanode of a host.
pub fn id_of(host: HostId) -> DatanodeId {
    DatanodeId([host.0 + 1; 16])
}

/// The configuration of a simulated datanode.
pub fn config(volumes: &[PathBuf]) -> Config {
    let volumes = volumes.iter().cloned().map(Into::into).collect();
    // A journal is compacted several times in a life.
    let journal_compact_records = 20;
    Config { volumes, reserved_bytes: 0, journal_compact_records, peer_stall_ms: 4000, ..Config::default() }
}

impl Datanode {
    /// Starts a process on a machine.
    ///
    /// # Errors
    /// Why it does not start.
    pub fn start(
        machine: &Machine,
        namenode: HostId,
        cluster: &ClusterFile,
        process: u32,
        mistakes: Mistakes,
    ) -> Result<Self, StartError> {
        let Machine { host, executor, network, disk, clock, volumes } = machine;
        clock.follow(executor);
        let seen = Arc::new(Seen {
            host: *host,
            draws: AtomicU32::new(0),
            disk: disk.clone(),
            clock: clock.clone(),
            process,
        });
        let config = config(volumes);
        let store = Store::open(seen, &config.volume_settings(), cluster.cluster)?;
        let key: ClusterKey = cluster.key.clone();
        let node = Arc::new(Node::new(id_of(*host), cluster.cluster, key, store, config, SHARDS));
        let activity = Rc::new(Activity::default());
        for shard in 0..SHARDS {
            let engine = Simulated::new((*host, shard), executor, network, disk, &activity, mistakes);
            let service = BlockService::new(node.clone());
            executor.spawn(*host, service.run(engine, Stop::default()));
        }
        let host_name = address_of(*host).to_string();
        let identity = Identity {
            namenode: address_of(namenode).to_string(),
            host: host_name,
            port: PORT,
            http_port: 0,
        };
        let session = Session::new(node.clone(), identity);
        let link = Link { machine: machine.clone(), namenode, session, node: node.clone(), activity };
        executor.spawn(*host, link.run());
        Ok(Self { node })
    }
}

/// What the link's thread does.
struct Link {
    machine: Machine,
    namenode: HostId,
    session: Session,
    node: Arc<Node>,
    activity: Rc<Activity>,
}

impl Link {
    async fn run(mut self) {
        loop {
            if let Ok(mut wire) = self.connect().await {
                while self.step(&mut wire).await.is_ok() {
                    for command in self.session.take_commands() {
                        // A full queue drops it, as the real link does: the namenode asks again.
                        drop(self.node.commands.push(command));
                    }
                }
            }
            self.machine.executor.sleep(RECONNECT).await;
        }
    }

    async fn connect(&mut self) -> io::Result<Wire> {
        let Machine { host, network, .. } = &self.machine;
        let address = (address_of(self.namenode), namenode::PORT).into();
        let mut wire = Wire::new(network.connect(*host, address, ANSWER_DEADLINE).await?);
        let executor = self.machine.executor.clone();
        let greeting = async {
            wire.end.write_all(&self.session.connected()).await?;
            let reply: HelloReplyV1 = wire.hello(true).await?;
            self.session.welcomed(&reply).map_err(io::Error::other)
        };
        within(&executor, greeting).await?;
        Ok(wire)
    }

    /// Makes one call, or waits until there is something to say.
    async fn step(&mut self, wire: &mut Wire) -> io::Result<()> {
        let executor = self.machine.executor.clone();
        self.machine.clock.follow(&executor);
        let now = || Duration::from_micros(executor.now());
        let mut frame = Vec::new();
        match self.session.next(now(), &mut frame).map_err(io::Error::other)? {
            Step::Call => {
                let answer = async {
                    wire.end.write_all(&frame).await?;
                    wire.frame(META_BYTES_MAX_REPORT).await?.ok_or(io::ErrorKind::UnexpectedEof.into())
                };
                let (header, meta) = within(&executor, answer).await?;
                self.session.answered(now(), &header, &meta).map_err(io::Error::other)
            }
            Step::Wait(until) => {
                let timer = executor.sleep_until(until.as_micros() as u64);
                future::or(timer, self.activity.wait()).await;
                Ok(())
            }
        }
    }
}

async fn within<T>(executor: &Executor, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = async {
        executor.sleep(ANSWER_DEADLINE).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    future::or(work, late).await
}
