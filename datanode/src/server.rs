//! A running datanode: volumes, shards, link.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use ringfs_proto::cluster_file::ClusterFile;
use ringfs_proto::ids::DatanodeId;
use ringfs_proto::meta::membership::VolumeStatusV1;
use ringfs_proto::metrics::{Metric, Observed};
use serde::{Deserialize, Serialize};

use crate::config::{Config, VolumeConfig};
use crate::engine::{self, Engines};
use crate::error::{StartError, io_error};
use crate::link::{Identity, Link};
use crate::machine::{Machine, SystemMachine};
use crate::metrics;
use crate::node::Node;
use crate::serve::{BlockService, CONNECTION_BYTES, WRITER_BYTES};
use crate::store::Store;

/// Memory of the process besides connections and writers.
const BASE_BYTES: u64 = 128 << 20;
/// Buffers that each shard may keep for the next use.
const SPARE_BYTES_PER_SHARD: u64 = 64 << 20;
const LISTEN_BACKLOG: i32 = 1024;
/// Holds the id of the datanode.
const STATE_FILE: &str = "datanode.toml";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile {
    datanode: String,
}

/// A running datanode.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    node: Arc<Node>,
    engines: Engines,
    link: Link,
    memory_limit_bytes: u64,
}

#[derive(Debug)]
struct View(Arc<Node>);

/// Name, help and value of a metric that each volume has.
type VolumeRow = (&'static str, &'static str, fn(&VolumeStatusV1) -> u64);

/// Starts a datanode. Returns when it listens; it joins the namenode in the background.
///
/// # Errors
/// [`StartError`]: the message says what to do.
pub fn start(config: &Config) -> Result<Server, StartError> {
    if config.volumes.is_empty() {
        return Err(StartError::Config("volumes is empty: name a directory per disk".to_owned()));
    }
    let machine: Arc<dyn Machine> = Arc::new(SystemMachine);
    let cluster = read_join_file(&*machine, &config.join_file)?;
    let namenode = config.namenode.clone().or(cluster.namenode.clone());
    let namenode = namenode.ok_or_else(|| {
        StartError::Config("neither `namenode` nor the join file names the namenode".to_owned())
    })?;
    let store = Store::open(machine.clone(), &config.volume_settings(), cluster.cluster)?;
    let id = match &config.state_dir {
        Some(directory) => datanode_id(&*machine, directory)?,
        None => datanode_id_on_volumes(&*machine, &config.volumes)?,
    };
    let shards = shard_count(config);
    let (listeners, address) = listen(config, shards)?;
    let node = Arc::new(Node::new(id, cluster.cluster, cluster.key, store, config.clone(), shards));
    let service = BlockService::new(node.clone());
    let choice = config.engine;
    let options = engine::Options { choice, pin: config.pin_shards, io_threads: config.io_threads };
    let engines = engine::start(&options, listeners, &service).map_err(StartError::Engine)?;
    let memory_limit_bytes = memory_limit(config, &node, shards);
    tracing::info!(%address, datanode = %id, engine = engines.name(), shards, memory_limit_bytes, "datanode listens");
    let host = config.advertise.map(|address| address.to_string());
    let host = host
        .or_else(|| (!address.ip().is_unspecified()).then(|| address.ip().to_string()))
        .unwrap_or_default();
    let identity = Identity { namenode, host, port: address.port(), http_port: config.http_port };
    let link = Link::start(node.clone(), identity).map_err(StartError::Engine)?;
    Ok(Server { address, node, engines, link, memory_limit_bytes })
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its id.
    pub fn datanode(&self) -> DatanodeId {
        self.node.id
    }

    /// The engine that serves.
    pub fn engine(&self) -> &'static str {
        self.engines.name()
    }

    /// What operators see.
    pub fn observed(&self) -> Arc<dyn Observed> {
        Arc::new(View(self.node.clone()))
    }

    /// Memory that it takes at most, by its configuration, in bytes.
    pub fn memory_limit_bytes(&self) -> u64 {
        self.memory_limit_bytes
    }

    /// Why it can serve no more, once that is so: the process must end with an error.
    pub fn failed(&self) -> Option<String> {
        self.node.store.failure(self.node.config.volumes_failed_max)
    }

    /// Leaves the cluster and ends. Replicas being written stay open, with what was acknowledged.
    pub fn stop(mut self) {
        self.link.stop();
        self.engines.stop();
    }
}

impl Observed for View {
    fn health(&self) -> Result<(), String> {
        self.0.store.failure(Some(0)).map_or(Ok(()), Err)
    }

    fn metrics(&self) -> Vec<Metric> {
        let mut all = metrics::collect(&self.0.metrics);
        let help = "Calls that kept a shard waiting for more than a millisecond.";
        all.push(Metric::counter("ringfs_datanode_blocked_calls_total", help, engine::blocked_calls()));
        let volumes = self.0.store.volumes();
        let rows: [VolumeRow; 6] = [
            ("ringfs_datanode_volume_capacity_bytes", "Bytes of the volume's file system.", |volume| {
                volume.capacity_bytes
            }),
            ("ringfs_datanode_volume_used_bytes", "Bytes in replicas.", |volume| volume.used_bytes),
            ("ringfs_datanode_volume_remaining_bytes", "Bytes that can still be written.", |volume| {
                volume.remaining_bytes
            }),
            ("ringfs_datanode_volume_replicas", "Replicas.", |volume| volume.replicas),
            (
                "ringfs_datanode_volume_scrubbed_timestamp_seconds",
                "When the scrubber's last round ended, seconds since 1970; 0: never.",
                |volume| volume.scrubbed_s,
            ),
            (
                "ringfs_datanode_volume_bad_replicas",
                "Replicas found bad since the datanode was started.",
                |volume| volume.bad_replicas,
            ),
        ];
        for (name, help, value) in rows {
            for volume in &volumes {
                all.push(Metric::gauge(name, help, value(volume) as f64).with_label("volume", &volume.path));
            }
        }
        all
    }
}

fn read_join_file(machine: &dyn Machine, path: &Path) -> Result<ClusterFile, StartError> {
    let error = |reason: String| StartError::JoinFile { path: path.to_owned(), reason };
    let text = machine.files().read_to_string(path).map_err(|source| error(source.to_string()))?;
    ClusterFile::parse(&text).map_err(|parse| error(parse.to_string()))
}

/// The id of this datanode, from the first volume that has it. All that can be written to get it: a disk that fails does not
/// take the datanode's name with it.
fn datanode_id_on_volumes(machine: &dyn Machine, volumes: &[VolumeConfig]) -> Result<DatanodeId, StartError> {
    let paths = volumes.iter().map(VolumeConfig::path);
    let is_usable = |volume: &&Path| machine.files().exists(&volume.join("volume.toml"));
    let holder = paths.clone().find(|volume| machine.files().exists(&volume.join(STATE_FILE)));
    let holder = holder.or_else(|| paths.clone().find(is_usable)).unwrap_or(volumes[0].path());
    let id = datanode_id(machine, holder)?;
    for volume in paths.filter(is_usable) {
        let path = volume.join(STATE_FILE);
        if !machine.files().exists(&path)
            && let Err(error) = machine.files().write_durably(&path, state_text(id).as_bytes())
        {
            tracing::warn!(path = %path.display(), %error, "the datanode's id is not on this volume");
        }
    }
    Ok(id)
}

fn state_text(id: DatanodeId) -> String {
    format!("datanode = \"{id}\"\n")
}

/// The id of this datanode: made at its first start.
///
/// # Errors
/// `Parse`, or what the operating system says.
pub fn datanode_id(machine: &dyn Machine, directory: &Path) -> Result<DatanodeId, StartError> {
    let path = directory.join(STATE_FILE);
    if machine.files().exists(&path) {
        let text = machine.files().read_to_string(&path).map_err(io_error("read", &path))?;
        let parse = |reason: String| StartError::Parse { path: path.clone(), reason };
        let state: StateFile = toml::from_str(&text).map_err(|error| parse(error.message().to_owned()))?;
        return state.datanode.parse().map_err(|error| parse(format!("{error}")));
    }
    let mut id = [0; 16];
    machine.fill_random(&mut id).map_err(io_error("make the id in", &path))?;
    let id = DatanodeId(id);
    machine.files().create_directories(directory).map_err(io_error("create", directory))?;
    machine.files().write_durably(&path, state_text(id).as_bytes()).map_err(io_error("write", &path))?;
    Ok(id)
}

/// A listener per shard on one address: the kernel spreads connections over them.
fn listen(config: &Config, shards: usize) -> Result<(Vec<TcpListener>, SocketAddr), StartError> {
    let mut address = SocketAddr::new(config.bind, config.port);
    let mut bind = || -> std::io::Result<Vec<TcpListener>> {
        // Sockets that share a port would share it with those of another process, too: it must be free before.
        drop(bind_one(address, false)?);
        let mut listeners = Vec::new();
        for _ in 0..shards {
            let listener = bind_one(address, true)?;
            address = listener.local_addr()?;
            listeners.push(listener);
        }
        Ok(listeners)
    };
    match bind() {
        Ok(listeners) => Ok((listeners, address)),
        Err(source) => Err(StartError::Listen { address, source }),
    }
}

fn bind_one(address: SocketAddr, is_shared: bool) -> std::io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.bind(&address.into())?;
    if is_shared {
        socket.listen(LISTEN_BACKLOG)?;
    }
    Ok(socket.into())
}

fn shard_count(config: &Config) -> usize {
    match config.shards {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        shards => shards,
    }
}

fn memory_limit(config: &Config, node: &Node, shards: usize) -> u64 {
    BASE_BYTES
        + config.connections_max as u64 * CONNECTION_BYTES
        + node.writers_max() as u64 * WRITER_BYTES
        + shards as u64 * SPARE_BYTES_PER_SHARD
}
