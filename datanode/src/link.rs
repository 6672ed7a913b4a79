//! The connection to the namenode: registration, heartbeats, reports, commands. One plain thread with one socket.
//!
//! A change of a replica is reported at once, and again until the namenode has answered: whatever was sent on a
//! connection that broke is contained in the full report that follows the next registration.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringfs_proto::WireError;
use ringfs_proto::frame::{self, Header};
use ringfs_proto::hello::{
    self, HELLO_PREFIX_BYTES, HelloReplyV1, HelloV1, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, Prefix, Role,
};
use ringfs_proto::ids::{CallId, RegistrationEpoch, ReportSequence, SessionId, StorageId};
use ringfs_proto::limits::{FRAME_HEADER_BYTES, META_BYTES_MAX_REPORT, REPORT_PAGE_REPLICAS_MAX};
use ringfs_proto::meta::membership::{
    BlockReportRequestV1, CommandV1, HeartbeatRequestV1, IncrementalReportRequestV1, RegisterRequestV1,
    ReplicaChangeV1,
};
use ringfs_proto::ops::{BlockReport, Heartbeat, IncrementalReport, Operation, Register};
use ringfs_proto::wire::Message;

use crate::node::Node;

/// Between two attempts to reach the namenode.
const RECONNECT: Duration = Duration::from_millis(150);
/// How long the namenode may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// The running link.
#[derive(Debug)]
pub struct Link {
    stop: Arc<AtomicBool>,
    node: Arc<Node>,
    threads: Vec<JoinHandle<()>>,
}

/// What a datanode says of itself.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `host:port` of the namenode.
    pub namenode: String,
    /// Numeric address for clients; empty = as the namenode sees it.
    pub host: String,
    /// Data port.
    pub port: u16,
    /// HTTP port.
    pub http_port: u16,
}

/// Why a connection to the namenode ended.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("{0}")]
    Protocol(String),
}

impl Link {
    /// Joins the cluster, and stays joined.
    ///
    /// # Errors
    /// What the operating system says of a thread.
    pub fn start(node: Arc<Node>, identity: Identity) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let session = Session { node: node.clone(), identity, stop: stop.clone(), sequence: 0 };
        let link = std::thread::Builder::new().name("link".to_owned()).spawn(move || session.run())?;
        Ok(Self { stop, node, threads: vec![link] })
    }

    /// Leaves.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.node.store.wake();
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Session {
    node: Arc<Node>,
    identity: Identity,
    stop: Arc<AtomicBool>,
    sequence: u64,
}

impl Session {
    fn run(mut self) {
        let mut was_reached = true;
        while !self.is_stopped() {
            match Namenode::connect(&self.node, &self.identity) {
                Ok(mut namenode) => {
                    was_reached = true;
                    match self.serve(&mut namenode) {
                        Ok(()) => return,
                        Err(error) => {
                            tracing::warn!(%error, namenode = self.identity.namenode, "lost the namenode: trying again");
                        }
                    }
                }
                Err(error) => {
                    if was_reached || matches!(error, LinkError::Wire(_)) {
                        tracing::warn!(%error, namenode = self.identity.namenode, "cannot join the namenode: trying again");
                    }
                    was_reached = false;
                }
            }
            self.pause();
        }
    }

    /// Waits a little, for changes to come are part of the full report anyway.
    fn pause(&self) {
        let until = Instant::now() + RECONNECT;
        while Instant::now() < until && !self.is_stopped() {
            std::thread::park_timeout(RECONNECT / 4);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn serve(&mut self, namenode: &mut Namenode) -> Result<(), LinkError> {
        tracing::info!(namenode = self.identity.namenode, epoch = %namenode.epoch, "joined the namenode");
        for volume in self.node.store.volumes() {
            self.report(namenode, volume.storage)?;
        }
        let mut last_heartbeat = Instant::now();
        self.heartbeat(namenode)?;
        while !self.is_stopped() {
            let rest = namenode.heartbeat_interval.saturating_sub(last_heartbeat.elapsed());
            let changes = self.node.store.take_changes(rest);
            let has_commands = self.report_changes(namenode, changes)?;
            if has_commands || last_heartbeat.elapsed() >= namenode.heartbeat_interval {
                last_heartbeat = Instant::now();
                self.heartbeat(namenode)?;
            }
        }
        Ok(())
    }

    fn heartbeat(&mut self, namenode: &mut Namenode) -> Result<(), LinkError> {
        let sum = |value: fn(&crate::metrics::ShardMetrics) -> &crate::metrics::Value| -> u32 {
            self.node.metrics.iter().map(|shard| value(shard).get() as u32).sum()
        };
        let request = HeartbeatRequestV1 {
            epoch: namenode.epoch,
            volumes: self.node.store.volumes(),
            reads_active: sum(|metrics| &metrics.reads_active),
            writes_active: sum(|metrics| &metrics.writes_active),
            copies_active: sum(|metrics| &metrics.copies_active),
            written: self.node.written.take(),
        };
        let reply = namenode.call::<Heartbeat>(&request)?;
        self.node.set_clock(reply.clock_s);
        for command in reply.commands {
            match command {
                CommandV1::Report(storage) => self.report(namenode, storage)?,
                // A queue that is full now has room later: the namenode asks again for what does not show.
                command => {
                    if let Err(command) = self.node.commands.push(command) {
                        tracing::warn!(
                            ?command,
                            "too many commands wait: left to the namenode to give again"
                        );
                    }
                }
            }
        }
        Ok(())
    }

    /// Sends a full report of a storage, in pages.
    fn report(&mut self, namenode: &mut Namenode, storage: StorageId) -> Result<(), LinkError> {
        let sequence = self.next_sequence();
        let (replicas, corrupt) = self.node.store.snapshot(storage);
        let mut pages = replicas.chunks(REPORT_PAGE_REPLICAS_MAX).peekable();
        let mut page = 0;
        loop {
            let replicas = pages.next().unwrap_or_default().to_vec();
            let is_last = pages.peek().is_none();
            let epoch = namenode.epoch;
            namenode.call::<BlockReport>(&BlockReportRequestV1 {
                epoch,
                storage,
                sequence,
                page,
                is_last,
                replicas,
            })?;
            if is_last {
                break;
            }
            page += 1;
        }
        // Commands that wait now come with the heartbeat that follows soon.
        self.report_changes(namenode, corrupt.into_iter().map(|change| (storage, change)).collect()).map(drop)
    }

    /// Sends changes, storage by storage, in order. Returns whether commands wait for this datanode.
    fn report_changes(
        &mut self,
        namenode: &mut Namenode,
        changes: Vec<(StorageId, ReplicaChangeV1)>,
    ) -> Result<bool, LinkError> {
        let (mut rest, mut has_commands) = (changes, false);
        while let Some((storage, _)) = rest.first() {
            let storage = *storage;
            let (now, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(of, _)| *of == storage);
            for part in now.chunks(REPORT_PAGE_REPLICAS_MAX) {
                let sequence = self.next_sequence();
                let changes = part.iter().map(|(_, change)| *change).collect();
                let epoch = namenode.epoch;
                let request = IncrementalReportRequestV1 { epoch, storage, sequence, changes };
                has_commands |= namenode.call::<IncrementalReport>(&request)?.has_commands;
            }
            rest = later;
        }
        Ok(has_commands)
    }

    fn next_sequence(&mut self) -> ReportSequence {
        self.sequence += 1;
        ReportSequence(self.sequence)
    }
}

/// A connection on which this datanode is registered.
struct Namenode {
    stream: TcpStream,
    epoch: RegistrationEpoch,
    heartbeat_interval: Duration,
    next_call: u64,
    out: Vec<u8>,
}

impl Namenode {
    fn connect(node: &Node, identity: &Identity) -> Result<Self, LinkError> {
        let mut addresses = identity.namenode.to_socket_addrs()?;
        let address =
            addresses.next().ok_or_else(|| LinkError::Protocol("its name has no address".to_owned()))?;
        let stream = TcpStream::connect_timeout(&address, ANSWER_DEADLINE)?;
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
        stream.set_nodelay(true)?;
        let (epoch, heartbeat_interval) = (RegistrationEpoch(0), Duration::from_secs(1));
        let mut namenode = Self { stream, epoch, heartbeat_interval, next_call: 1, out: Vec::new() };
        let nonce = namenode.greet(node)?;
        namenode.register(node, identity, &nonce)?;
        Ok(namenode)
    }

    fn greet(&mut self, node: &Node) -> Result<[u8; 16], LinkError> {
        let hello = HelloV1 {
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION_MAX,
            role: Role::Datanode,
            features: 0,
            session: SessionId(node.id.0),
            cluster: node.cluster,
            user: "datanode".to_owned(),
            auth_scheme: 0,
            credentials: Vec::new(),
        };
        self.stream.write_all(&hello::encode_hello(&hello))?;
        let mut prefix = [0; HELLO_PREFIX_BYTES];
        self.stream.read_exact(&mut prefix)?;
        let protocol = |error: hello::HelloError| LinkError::Protocol(error.to_string());
        let prefix = Prefix::decode(&prefix, true).map_err(protocol)?;
        let mut body = vec![0; prefix.body_len];
        self.stream.read_exact(&mut body)?;
        let reply: HelloReplyV1 = prefix.decode_body(&body).map_err(protocol)?;
        if reply.code != 0 {
            return Err(WireError::new(ringfs_proto::Code::from_u16(reply.code), reply.message).into());
        }
        Ok(reply.nonce)
    }

    fn register(
        &mut self,
        node: &Node,
        identity: &Identity,
        namenode_nonce: &[u8; 16],
    ) -> Result<(), LinkError> {
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
        let request = RegisterRequestV1 {
            datanode: node.id,
            cluster: node.cluster,
            nonce,
            proof: node.key.prove("register", namenode_nonce, &node.id.0),
            host: identity.host.clone(),
            port: identity.port,
            http_port: identity.http_port,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            volumes: node.store.volumes(),
        };
        let reply = self.call::<Register>(&request)?;
        if !node.key.is_proved("accept", &nonce, &node.id.0, &reply.proof) {
            return Err(LinkError::Protocol("the namenode does not have the cluster's key".to_owned()));
        }
        self.epoch = reply.epoch;
        self.heartbeat_interval = Duration::from_millis(u64::from(reply.heartbeat_interval_ms.max(10)));
        node.set_clock(reply.clock_s);
        Ok(())
    }

    fn call<O: Operation>(&mut self, request: &O::Request) -> Result<O::Reply, LinkError> {
        let call = CallId(self.next_call);
        self.next_call += 1;
        self.out.clear();
        let header = Header { op_version: O::VERSION, ..Header::request(O::OP, call) };
        frame::append(&mut self.out, header, 0, |meta| request.encode_into(meta));
        self.stream.write_all(&self.out)?;
        let mut head = [0; FRAME_HEADER_BYTES];
        self.stream.read_exact(&mut head)?;
        let protocol = |error: frame::FrameError| LinkError::Protocol(error.to_string());
        let reply = Header::decode(&head, META_BYTES_MAX_REPORT).map_err(protocol)?;
        let mut meta = vec![0; reply.meta_len as usize];
        self.stream.read_exact(&mut meta)?;
        reply.check_meta(&meta).map_err(protocol)?;
        if reply.call != call || !reply.is_reply() || reply.payload_len > 0 {
            return Err(LinkError::Protocol(format!(
                "an answer to call {} where {call} belongs",
                reply.call
            )));
        }
        if let Some(error) = frame::reply_error(&reply, &meta) {
            return Err(error.into());
        }
        O::Reply::decode(&meta).map_err(|error| LinkError::Protocol(error.to_string()))
    }
}
