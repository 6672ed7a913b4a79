//! A namenode without a shell, and the datanodes and writers that talk to it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ringfs_proto::capability::ClusterKey;
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::frame::Header;
use ringfs_proto::hello::Role;
use ringfs_proto::ids::{
    BlockId, CallId, ClusterId, DatanodeId, InodeId, RegistrationEpoch, ReportSequence, SessionId, Stamp,
    StorageId,
};
use ringfs_proto::meta::admin::{FsStatsReplyV1, FsStatsRequestV1};
use ringfs_proto::meta::membership::{
    BlockReportRequestV1, CommandV1, HeartbeatRequestV1, IncrementalReportRequestV1, RegisterRequestV1,
    ReplicaChangeV1, ReplicaState, ReplicaV1, VolumeStatusV1,
};
use ringfs_proto::meta::namespace::{
    AddBlockRequestV1, BlockRefV1, CompleteRequestV1, CreateRequestV1, DeleteRequestV1, FileRefV1,
    GetBlockLocationsRequestV1, LocatedBlockV1,
};
use ringfs_proto::{Code, WireError};

use super::super::{Core, Now};
use crate::calls::{Answer, Call, Caller, Reply, Request};
use crate::config::Config;
use crate::state::State;
use crate::wal::BatchBuilder;

pub const CLUSTER: ClusterId = ClusterId([7; 16]);
/// Where clients are: on no datanode's host.
pub const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 99));
const NONCE: [u8; 16] = [3; 16];
const GIB: u64 = 1 << 30;

pub type Answered = Result<Reply, WireError>;

/// A namenode and its time.
pub struct Cluster {
    pub core: Core,
    pub mono_ms: u64,
    next_call: u64,
    next_connection: u64,
}

/// A datanode with one volume.
#[derive(Clone)]
pub struct Node {
    pub id: DatanodeId,
    pub storage: StorageId,
    pub caller: Arc<Caller>,
    pub epoch: RegistrationEpoch,
    pub sequence: u64,
    pub volumes: Vec<VolumeStatusV1>,
}

pub fn config() -> Config {
    Config { invalidation_delay_ms: 0, ..Config::default() }
}

pub fn key() -> ClusterKey {
    ClusterKey::new(1, [9; 32])
}

impl Cluster {
    /// An empty namenode, out of safe mode.
    pub fn new(config: Config) -> Self {
        Self::with_state(State::new("super", "supergroup"), config)
    }

    /// A namenode that was started again.
    pub fn with_state(state: State, config: Config) -> Self {
        let now = Now { mono_ms: 1000, wall_ms: 1_000_000 };
        let core = Core::new(state, CLUSTER, key(), config, now, 42);
        Self { core, mono_ms: now.mono_ms, next_call: 0, next_connection: 0 }
    }

    /// With this many datanodes, each with an empty volume of 1 TiB.
    pub fn with_nodes(config: Config, count: u8) -> (Self, Vec<Node>) {
        let mut cluster = Self::new(config);
        let nodes = (1..=count).map(|number| cluster.join(number)).collect();
        (cluster, nodes)
    }

    pub fn now(&self) -> Now {
        Now { mono_ms: self.mono_ms, wall_ms: 1_000_000 + self.mono_ms }
    }

    /// Lets time pass, with ticks as often as the namenode's loop makes them, and one at its end.
    pub fn pass(&mut self, ms: u64) {
        let until_ms = self.mono_ms + ms;
        while self.mono_ms < until_ms {
            self.mono_ms = until_ms.min(self.mono_ms + 100);
            self.core.tick(self.now());
        }
    }

    /// Lets time pass in which the namenode itself stands still.
    pub fn stall(&mut self, ms: u64) {
        self.mono_ms += ms;
        self.core.tick(self.now());
    }

    pub fn caller(&mut self, session: u8, address: IpAddr) -> Arc<Caller> {
        self.next_connection += 1;
        Arc::new(Caller {
            connection: self.next_connection,
            session: SessionId([session; 16]),
            user: "ann".to_owned(),
            credentials: crate::calls::Credentials::privileged(),
            address,
            role: Role::Client,
            nonce: NONCE,
            renews_leases: false,
            is_datanode: AtomicBool::new(false),
        })
    }

    pub fn writer(&mut self) -> Arc<Caller> {
        self.caller(200, ELSEWHERE)
    }

    pub fn next_call(&mut self) -> u64 {
        self.next_call += 1;
        self.next_call
    }

    /// Hands a call in; whatever it leads to is left waiting.
    pub fn send(&mut self, caller: &Arc<Caller>, call: u64, request: Request) {
        self.send_with_lowest(caller, call, 0, request);
    }

    pub fn send_with_lowest(&mut self, caller: &Arc<Caller>, call: u64, lowest: u64, request: Request) {
        let call = Call {
            caller: caller.clone(),
            call: CallId(call),
            lowest_unanswered: CallId(lowest),
            header: Header::request(request.op(), CallId(call)),
            request,
            context: None,
        };
        self.core.call(call, self.now());
    }

    /// Makes everything durable that is logged; returns how many records that were.
    pub fn sync(&mut self) -> usize {
        let mut records = 0;
        while let Some(batch) = self.core.take_batch() {
            records += batch.count();
            self.core.durable(batch.last(), BatchBuilder::default(), self.now());
        }
        records
    }

    pub fn answers(&mut self) -> Vec<Answer> {
        self.core.take_answers()
    }

    /// A call that must be answered as soon as the log is durable.
    pub fn ask(&mut self, caller: &Arc<Caller>, request: Request) -> Answered {
        let call = self.next_call();
        self.send(caller, call, request);
        self.sync();
        let mut answers = self.answers();
        assert_eq!(answers.len(), 1, "one call, one answer: {answers:?}");
        let answer = answers.remove(0);
        assert_eq!(answer.header.call, CallId(call));
        answer.result
    }

    /// A datanode that registers and reports an empty volume.
    pub fn join(&mut self, number: u8) -> Node {
        let mut node = self.register(number).expect("registered");
        self.report(&mut node, &[]).expect("reported");
        node
    }

    pub fn register(&mut self, number: u8) -> Result<Node, WireError> {
        self.register_as(number, vec![volume(number)], u32::from(number))
    }

    /// A datanode with these volumes, run by process `pid`, on a new connection.
    pub fn register_as(
        &mut self,
        number: u8,
        volumes: Vec<VolumeStatusV1>,
        pid: u32,
    ) -> Result<Node, WireError> {
        let caller = self.caller(number, IpAddr::V4(Ipv4Addr::new(10, 0, 0, number)));
        let id = DatanodeId([number; 16]);
        let request = RegisterRequestV1 {
            datanode: id,
            cluster: CLUSTER,
            nonce: [5; 16],
            proof: key().prove("register", &NONCE, &id.0),
            host: String::new(),
            port: 9866,
            http_port: 0,
            software: "test".to_owned(),
            pid,
            volumes: volumes.clone(),
        };
        let reply = self.ask(&caller, Request::Register(request))?;
        let Reply::Register(reply) = reply else { panic!("{reply:?}") };
        assert!(key().is_proved("accept", &[5; 16], &id.0, &reply.proof));
        let storage = volumes.first().map_or(StorageId([number; 16]), |volume| volume.storage);
        Ok(Node { id, storage, caller, epoch: reply.epoch, sequence: 0, volumes })
    }

    pub fn heartbeat(&mut self, node: &Node) -> Result<Vec<CommandV1>, WireError> {
        let request = HeartbeatRequestV1 {
            epoch: node.epoch,
            volumes: node.volumes.clone(),
            reads_active: 0,
            writes_active: 0,
            copies_active: 0,
            written: Vec::new(),
        };
        match self.ask(&node.caller, Request::Heartbeat(request))? {
            Reply::Heartbeat(reply) => Ok(reply.commands),
            other => panic!("{other:?}"),
        }
    }

    /// The blocks that a heartbeat tells a datanode to delete.
    pub fn deletions(&mut self, node: &Node) -> Vec<BlockId> {
        let commands = self.heartbeat(node).expect("heard");
        let blocks = |command| match command {
            CommandV1::Invalidate(invalidate) => {
                assert_eq!(invalidate.storage, node.storage);
                invalidate.replicas
            }
            _ => Vec::new(),
        };
        commands.into_iter().flat_map(blocks).map(|replica| replica.block).collect()
    }

    /// A full report of one page.
    pub fn report(&mut self, node: &mut Node, replicas: &[ReplicaV1]) -> Answered {
        node.sequence += 1;
        let sequence = node.sequence;
        self.page(node, sequence, 0, true, replicas)
    }

    pub fn page(
        &mut self,
        node: &Node,
        sequence: u64,
        page: u32,
        is_last: bool,
        replicas: &[ReplicaV1],
    ) -> Answered {
        let request = BlockReportRequestV1 {
            epoch: node.epoch,
            storage: node.storage,
            sequence: ReportSequence(sequence),
            page,
            is_last,
            replicas: replicas.to_vec(),
        };
        let call = self.next_call();
        self.send(&node.caller, call, Request::BlockReport(request));
        self.answer_to(call)
    }

    /// An incremental report with the next sequence.
    pub fn increment(&mut self, node: &mut Node, changes: &[ReplicaChangeV1]) -> Answered {
        node.sequence += 1;
        self.increment_at(node, node.sequence, changes)
    }

    pub fn increment_at(&mut self, node: &Node, sequence: u64, changes: &[ReplicaChangeV1]) -> Answered {
        let request = IncrementalReportRequestV1 {
            epoch: node.epoch,
            storage: node.storage,
            sequence: ReportSequence(sequence),
            changes: changes.to_vec(),
        };
        let call = self.next_call();
        self.send(&node.caller, call, Request::IncrementalReport(request));
        self.answer_to(call)
    }

    /// The answer to one call; those to others stay for [`Cluster::answers`].
    fn answer_to(&mut self, call: u64) -> Answered {
        let mut answers = self.core.take_answers();
        let at = answers.iter().position(|answer| answer.header.call == CallId(call)).expect("answered");
        let answer = answers.remove(at);
        self.core.answers = answers;
        answer.result
    }

    /// A finalized replica appears on a datanode.
    pub fn store(&mut self, node: &mut Node, block: BlockRefV1) {
        self.increment(node, &[ReplicaChangeV1::Stored(finalized(block))]).expect("reported");
    }

    pub fn create(&mut self, writer: &Arc<Caller>, path: &str) -> Result<InodeId, Code> {
        match self.ask(writer, Request::Create(create(path))) {
            Ok(Reply::Create(reply)) => Ok(reply.status.inode),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code),
        }
    }

    pub fn add_block(
        &mut self,
        writer: &Arc<Caller>,
        inode: InodeId,
        previous: Option<BlockRefV1>,
    ) -> Result<LocatedBlockV1, Code> {
        match self.ask(writer, add_block(inode, previous)) {
            Ok(Reply::AddBlock(reply)) => Ok(reply.located),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.code),
        }
    }

    /// A closed file of one block of 10 bytes, with replicas on `nodes`.
    pub fn write(&mut self, path: &str, nodes: &mut [Node]) -> BlockRefV1 {
        let writer = self.writer();
        let inode = self.create(&writer, path).expect("created");
        let block = written(&self.add_block(&writer, inode, None).expect("added"), 10);
        nodes.iter_mut().for_each(|node| self.store(node, block));
        self.ask(&writer, complete(inode, Some(block))).expect("closed");
        block
    }

    pub fn delete(&mut self, path: &str) {
        let writer = self.writer();
        self.ask(&writer, delete(path)).expect("deleted");
    }

    /// The datanodes that a reader of a file's first block is sent to, sorted.
    pub fn readers_go_to(&mut self, path: &str) -> Vec<DatanodeId> {
        let mut nodes: Vec<_> = self.located(path).nodes.iter().map(|node| node.datanode).collect();
        nodes.sort_unstable();
        nodes
    }

    pub fn located(&mut self, path: &str) -> LocatedBlockV1 {
        let reader = self.caller(201, ELSEWHERE);
        let file = FileRefV1::Path(path.to_owned());
        let request = GetBlockLocationsRequestV1 { file, offset: 0, length: u64::MAX };
        match self.ask(&reader, Request::GetBlockLocations(request)) {
            Ok(Reply::GetBlockLocations(reply)) => reply.blocks.first().expect("a block").clone(),
            other => panic!("{other:?}"),
        }
    }

    pub fn stats(&mut self) -> FsStatsReplyV1 {
        let reader = self.caller(201, ELSEWHERE);
        match self.ask(&reader, Request::FsStats(FsStatsRequestV1 { flags: 0 })) {
            Ok(Reply::FsStats(reply)) => reply,
            other => panic!("{other:?}"),
        }
    }

    /// Stops, and starts again from what was applied.
    pub fn restart(self, config: Config) -> Self {
        let Self { core, next_call, next_connection, .. } = self;
        let mut cluster = Self::with_state(core.state, config);
        (cluster.next_call, cluster.next_connection) = (next_call, next_connection);
        cluster
    }
}

pub fn volume(number: u8) -> VolumeStatusV1 {
    VolumeStatusV1 {
        storage: StorageId([number; 16]),
        path: format!("/disk{number}"),
        capacity_bytes: 1024 * GIB,
        used_bytes: 0,
        remaining_bytes: 1024 * GIB,
        reserved_bytes: 0,
        replicas: 0,
        is_failed: false,
        scrubbed_s: 0,
        bad_replicas: 0,
    }
}

pub fn ids(nodes: &[Node]) -> Vec<DatanodeId> {
    nodes.iter().map(|node| node.id).collect()
}

pub fn block(id: u64, length: u64) -> BlockRefV1 {
    BlockRefV1 { block: BlockId(id), stamp: Stamp(id), length }
}

/// A located block with the length that its pipeline acknowledged.
pub fn written(located: &LocatedBlockV1, length: u64) -> BlockRefV1 {
    BlockRefV1 { length, ..located.block }
}

pub fn finalized(block: BlockRefV1) -> ReplicaV1 {
    ReplicaV1 { block, state: ReplicaState::Finalized }
}

pub fn create(path: &str) -> CreateRequestV1 {
    CreateRequestV1 {
        path: path.to_owned(),
        mode: 0o644,
        unmasked_mode: 0o644,
        overwrite: false,
        create_parents: true,
        replication: 3,
        block_size: GIB,
        checksum: ChecksumType::Crc32c,
        chunk_bytes: 4096,
    }
}

pub fn add_block(inode: InodeId, previous: Option<BlockRefV1>) -> Request {
    Request::AddBlock(AddBlockRequestV1 { inode, previous, excluded: Vec::new() })
}

pub fn complete(inode: InodeId, last: Option<BlockRefV1>) -> Request {
    Request::Complete(CompleteRequestV1 { inode, last, acked: Vec::new(), tail: None })
}

pub fn delete(path: &str) -> Request {
    Request::Delete(DeleteRequestV1 { path: path.to_owned(), recursive: true })
}
