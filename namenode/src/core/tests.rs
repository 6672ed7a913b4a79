//! The namenode's decisions, driven without I/O: time and durability are arguments.

mod checkpoints;
mod cluster;
mod commands;
mod convergence;
mod datanodes;
mod files;
mod fleet;
mod foreseen;
mod freeing;
mod inspect;
mod invalidation;
mod leases;
mod permissions;
mod pipelines;
mod replication;
mod reports;
mod retries;
mod safe_mode;
mod scale;
mod trash;
mod tree;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ringfs_proto::capability::{ClusterKey, Mode};
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::frame::Header;
use ringfs_proto::hello::Role;
use ringfs_proto::ids::{
    BlockId, CallId, ClusterId, DatanodeId, InodeId, RegistrationEpoch, ReportSequence, SessionId, Stamp,
    StorageId,
};
use ringfs_proto::meta::admin::FsStatsRequestV1;
use ringfs_proto::meta::membership::*;
use ringfs_proto::meta::namespace::*;
use ringfs_proto::{Code, WireError};

use super::*;
use crate::calls::Caller;

const CLUSTER: ClusterId = ClusterId([1; 16]);
const BLOCK_BYTES: u64 = 1 << 20;

/// A core, a clock that the test moves, and a log that is durable when the test says so.
struct Fixture {
    core: Core,
    now: Now,
    next_call: u64,
    next_connection: u64,
}

struct FakeDatanode {
    caller: Arc<Caller>,
    id: DatanodeId,
    storage: StorageId,
    epoch: RegistrationEpoch,
    sequence: u64,
}

fn caller(connection: u64, role: Role) -> Arc<Caller> {
    Arc::new(Caller {
        connection,
        session: SessionId([connection as u8; 16]),
        user: "ann".to_owned(),
        credentials: crate::calls::Credentials::privileged(),
        address: [127, 0, 0, 1].into(),
        role,
        nonce: [3; 16],
        renews_leases: false,
        is_datanode: AtomicBool::new(false),
    })
}

fn key() -> ClusterKey {
    ClusterKey::new(1, [9; 32])
}

impl Fixture {
    fn new() -> Self {
        Self::with_state(State::new("ann", "staff"))
    }

    fn with_state(state: State) -> Self {
        let now = Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 };
        let config = Config { replication: 2, block_size: BLOCK_BYTES, ..Config::default() };
        let core = Core::new(state, CLUSTER, key(), config, now, 42);
        Self { core, now, next_call: 1, next_connection: 100 }
    }

    fn pass(&mut self, ms: u64) {
        let until_ms = self.now.mono_ms + ms;
        while self.now.mono_ms < until_ms {
            let step_ms = (until_ms - self.now.mono_ms).min(100);
            self.now = Now { mono_ms: self.now.mono_ms + step_ms, wall_ms: self.now.wall_ms + step_ms };
            self.core.tick(self.now);
        }
    }

    fn send(&mut self, caller: &Arc<Caller>, id: CallId, request: Request) {
        let header = Header::request(request.op(), id);
        let (caller, lowest_unanswered) = (caller.clone(), CallId(0));
        self.core
            .call(Call { caller, call: id, lowest_unanswered, header, request, context: None }, self.now);
    }

    /// Everything that is logged becomes durable.
    fn make_durable(&mut self) -> usize {
        let mut records = 0;
        while let Some(batch) = self.core.take_batch() {
            records += batch.count();
            let last = batch.last();
            self.core.durable(last, BatchBuilder::default(), self.now);
        }
        records
    }

    fn answer(&mut self) -> Option<Result<Reply, WireError>> {
        let mut answers = self.core.take_answers();
        assert!(answers.len() <= 1, "{answers:?}");
        answers.pop().map(|answer| answer.result)
    }

    /// Calls, makes durable, and takes the answer.
    fn call(&mut self, caller: &Arc<Caller>, request: Request) -> Result<Reply, Code> {
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.send(caller, id, request);
        self.make_durable();
        while self.core.has_work() {
            self.core.work(self.now);
            self.make_durable();
        }
        self.answer().expect("an answer").map_err(|error| error.code)
    }

    fn client(&mut self) -> Arc<Caller> {
        self.next_connection += 1;
        caller(self.next_connection, Role::Client)
    }

    fn join(&mut self, number: u8, remaining_bytes: u64) -> FakeDatanode {
        self.next_connection += 1;
        let caller = caller(self.next_connection, Role::Datanode);
        let (id, storage) = (DatanodeId([number; 16]), StorageId([number; 16]));
        let request = register(id, storage, number, remaining_bytes);
        let Ok(Reply::Register(reply)) = self.call(&caller, Request::Register(request)) else {
            panic!("registered")
        };
        assert!(key().is_proved("accept", &[4; 16], &id.0, &reply.proof));
        let mut node = FakeDatanode { caller, id, storage, epoch: reply.epoch, sequence: 0 };
        self.full_report(&mut node, &[]);
        node
    }

    fn full_report(&mut self, node: &mut FakeDatanode, replicas: &[ReplicaV1]) {
        node.sequence += 1;
        self.page(node, 0, true, replicas).expect("taken");
    }

    fn page(
        &mut self,
        node: &FakeDatanode,
        page: u32,
        is_last: bool,
        replicas: &[ReplicaV1],
    ) -> Result<Reply, Code> {
        let request = BlockReportRequestV1 {
            epoch: node.epoch,
            storage: node.storage,
            sequence: ReportSequence(node.sequence),
            page,
            is_last,
            replicas: replicas.to_vec(),
        };
        self.call_datanode(node, Request::BlockReport(request))
    }

    /// Like `call`, for reports that may wake other calls.
    fn call_datanode(&mut self, node: &FakeDatanode, request: Request) -> Result<Reply, Code> {
        let id = CallId(self.next_call);
        self.next_call += 1;
        self.send(&node.caller, id, request);
        let mut answers = self.core.take_answers();
        let own = answers.iter().position(|answer| answer.caller.connection == node.caller.connection);
        let own = answers.remove(own.expect("an answer"));
        self.core.answers = answers;
        own.result.map_err(|error| error.code)
    }

    fn report(&mut self, node: &mut FakeDatanode, change: ReplicaChangeV1) {
        node.sequence += 1;
        let (epoch, storage, sequence) = (node.epoch, node.storage, ReportSequence(node.sequence));
        let request = IncrementalReportRequestV1 { epoch, storage, sequence, changes: vec![change] };
        self.call_datanode(node, Request::IncrementalReport(request)).expect("taken");
    }

    fn heartbeat(&mut self, node: &FakeDatanode) -> Result<Vec<CommandV1>, Code> {
        let request = HeartbeatRequestV1 {
            epoch: node.epoch,
            volumes: vec![volume(node.storage, 1 << 40)],
            reads_active: 0,
            writes_active: 0,
            copies_active: 0,
            written: Vec::new(),
        };
        match self.call_datanode(node, Request::Heartbeat(request))? {
            Reply::Heartbeat(reply) => Ok(reply.commands),
            other => panic!("{other:?}"),
        }
    }

    fn create(&mut self, client: &Arc<Caller>, path: &str) -> InodeId {
        match self.call(client, create(path)) {
            Ok(Reply::Create(reply)) => reply.status.inode,
            other => panic!("{other:?}"),
        }
    }

    fn add_block(
        &mut self,
        client: &Arc<Caller>,
        inode: InodeId,
        previous: Option<BlockRefV1>,
    ) -> Result<LocatedBlockV1, Code> {
        let request = AddBlockRequestV1 { inode, previous, excluded: Vec::new() };
        match self.call(client, Request::AddBlock(request))? {
            Reply::AddBlock(reply) => Ok(reply.located),
            other => panic!("{other:?}"),
        }
    }

    /// A closed file of one block on these datanodes.
    fn file(&mut self, client: &Arc<Caller>, path: &str, nodes: &mut [&mut FakeDatanode]) -> BlockRefV1 {
        let inode = self.create(client, path);
        let located = self.add_block(client, inode, None).expect("added");
        let block = BlockRefV1 { length: 100, ..located.block };
        for node in nodes {
            self.report(node, ReplicaChangeV1::Stored(finalized(block)));
        }
        self.call(client, complete(inode, block)).expect("closed");
        block
    }

    fn stats(&mut self) -> ringfs_proto::meta::admin::FsStatsReplyV1 {
        let client = self.client();
        match self.call(&client, Request::FsStats(FsStatsRequestV1 { flags: 0 })) {
            Ok(Reply::FsStats(stats)) => stats,
            other => panic!("{other:?}"),
        }
    }
}

fn volume(storage: StorageId, remaining_bytes: u64) -> VolumeStatusV1 {
    VolumeStatusV1 {
        storage,
        path: String::new(),
        capacity_bytes: remaining_bytes,
        used_bytes: 0,
        remaining_bytes,
        reserved_bytes: 0,
        replicas: 0,
        is_failed: false,
        scrubbed_s: 0,
        bad_replicas: 0,
    }
}

fn register(datanode: DatanodeId, storage: StorageId, number: u8, remaining_bytes: u64) -> RegisterRequestV1 {
    RegisterRequestV1 {
        datanode,
        cluster: CLUSTER,
        nonce: [4; 16],
        proof: key().prove("register", &[3; 16], &datanode.0),
        host: format!("10.0.0.{number}"),
        port: 9866,
        http_port: 0,
        software: "test".to_owned(),
        pid: u32::from(number),
        volumes: vec![volume(storage, remaining_bytes)],
    }
}

fn create(path: &str) -> Request {
    Request::Create(CreateRequestV1 {
        path: path.to_owned(),
        mode: 0o644,
        unmasked_mode: 0o644,
        overwrite: false,
        create_parents: true,
        replication: 0,
        block_size: 0,
        checksum: ChecksumType::Crc32c,
        chunk_bytes: 4096,
    })
}

fn complete(inode: InodeId, last: BlockRefV1) -> Request {
    Request::Complete(CompleteRequestV1 { inode, last: Some(last), acked: Vec::new(), tail: None })
}

fn delete(path: &str) -> Request {
    Request::Delete(DeleteRequestV1 { path: path.to_owned(), recursive: true })
}

fn finalized(block: BlockRefV1) -> ReplicaV1 {
    ReplicaV1 { block, state: ReplicaState::Finalized }
}

#[test]
fn a_change_is_answered_only_when_it_is_durable() {
    let mut fixture = Fixture::new();
    let client = fixture.client();
    fixture.send(&client, CallId(1), create("/f"));
    assert!(fixture.answer().is_none());
    fixture.send(&client, CallId(2), Request::Stat(StatRequestV1 { path: "/f".to_owned() }));
    let read = fixture.answer().expect("reads do not wait for the log");
    assert_eq!(read.expect_err("not applied yet").code, Code::NotFound);
    assert_eq!(fixture.make_durable(), 1);
    assert!(matches!(fixture.answer(), Some(Ok(Reply::Create(_)))));
}

#[test]
fn a_call_that_comes_twice_is_one_record() {
    let mut fixture = Fixture::new();
    let client = fixture.client();
    fixture.send(&client, CallId(1), create("/f"));
    fixture.send(&client, CallId(1), create("/f"));
    assert_eq!(fixture.make_durable(), 1, "the second joins the first");
    let first = fixture.core.take_answers();
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|answer| answer.result.is_ok()));
    fixture.send(&client, CallId(1), create("/f"));
    assert_eq!(fixture.make_durable(), 0, "a later one is answered from the cache");
    assert!(matches!(fixture.answer(), Some(Ok(Reply::Create(_)))));
    let other = fixture.client();
    assert_eq!(fixture.call(&other, create("/f")), Err(Code::LeaseHeld));
}

#[test]
fn blocks_go_to_distinct_live_datanodes_with_room() {
    let mut fixture = Fixture::new();
    let client = fixture.client();
    let inode = fixture.create(&client, "/f");
    assert_eq!(fixture.add_block(&client, inode, None).expect_err("nobody yet"), Code::Busy);
    let nodes: Vec<FakeDatanode> = (1..=3).map(|number| fixture.join(number, 1 << 40)).collect();
    let full = fixture.join(4, BLOCK_BYTES - 1);
    let located = fixture.add_block(&client, inode, None).expect("added");
    assert_eq!(located.nodes.len(), 2);
    assert_ne!(located.nodes[0].datanode, located.nodes[1].datanode);
    assert!(located.nodes.iter().all(|node| node.datanode != full.id));
    let capability = key().verify(&located.capability, fixture.now.wall_ms / 1000).expect("genuine");
    assert_eq!(
        (capability.mode, capability.block, capability.length_limit),
        (Mode::Write, BlockId(1), BLOCK_BYTES)
    );
    // Two silent datanodes leave one: fewer replicas are accepted.
    fixture.pass(2000);
    fixture.heartbeat(&nodes[2]).expect("alive");
    fixture.pass(1500);
    let abandon = Request::AbandonBlock(AbandonBlockRequestV1 { inode, block: BlockId(1) });
    fixture.call(&client, abandon).expect("abandoned");
    let located = fixture.add_block(&client, inode, None).expect("added");
    assert_eq!(located.nodes.iter().map(|node| node.datanode).collect::<Vec<_>>(), [nodes[2].id]);
    let abandon = Request::AbandonBlock(AbandonBlockRequestV1 { inode, block: located.block.block });
    fixture.call(&client, abandon).expect("abandoned");
    let request = AddBlockRequestV1 { inode, previous: None, excluded: vec![nodes[2].id] };
    assert_eq!(fixture.call(&client, Request::AddBlock(request)), Err(Code::NoRoom));
}

#[test]
fn room_promised_to_a_block_is_free_once_it_is_closed() {
    let mut fixture = Fixture::new();
    let client = fixture.client();
    // Room for three blocks and no more.
    let mut nodes = [fixture.join(1, 3 * BLOCK_BYTES), fixture.join(2, 3 * BLOCK_BYTES)];
    for file in 0..20 {
        let [a, b] = &mut nodes;
        fixture.file(&client, &format!("/f{file}"), &mut [a, b]);
    }
    let inodes: Vec<InodeId> = (0..4).map(|file| fixture.create(&client, &format!("/open{file}"))).collect();
    let results: Vec<bool> =
        inodes.iter().map(|inode| fixture.add_block(&client, *inode, None).is_ok()).collect();
    assert_eq!(results, [true, true, true, false]);
}

#[test]
fn complete_waits_for_reports_and_gives_up_after_five_seconds() {
    let mut fixture = Fixture::new();
    let mut node = fixture.join(1, 1 << 40);
    let client = fixture.client();
    let inode = fixture.create(&client, "/f");
    let block = BlockRefV1 { length: 100, ..fixture.add_block(&client, inode, None).expect("added").block };
    fixture.send(&client, CallId(1_000_050), complete(inode, block));
    assert_eq!((fixture.make_durable(), fixture.answer().is_none()), (0, true), "parked");
    let short = BlockRefV1 { length: 99, ..block };
    fixture.report(&mut node, ReplicaChangeV1::Stored(finalized(short)));
    assert_eq!(fixture.make_durable(), 0, "another length does not count");
    fixture.report(&mut node, ReplicaChangeV1::Stored(finalized(block)));
    assert_eq!(fixture.make_durable(), 1);
    assert!(matches!(fixture.answer(), Some(Ok(Reply::Complete(status))) if status.length == 100));

    let inode = fixture.create(&client, "/g");
    let block = BlockRefV1 { length: 1, ..fixture.add_block(&client, inode, None).expect("added").block };
    fixture.send(&client, CallId(1_000_060), complete(inode, block));
    fixture.pass(4999);
    assert!(fixture.answer().is_none());
    fixture.pass(1);
    assert_eq!(fixture.answer().expect("answered").expect_err("too late").code, Code::NotReplicatedYet);
}

#[test]
fn half_a_report_removes_nothing_and_a_whole_one_knows_less_than_later_changes() {
    let mut fixture = Fixture::new();
    let mut node = fixture.join(1, 1 << 40);
    let client = fixture.client();
    let blocks: Vec<BlockRefV1> =
        (0..3).map(|file| fixture.file(&client, &format!("/f{file}"), &mut [&mut node])).collect();
    assert_eq!(fixture.stats().missing_blocks, 0);
    node.sequence += 1;
    fixture.page(&node, 0, false, &[finalized(blocks[0])]).expect("taken");
    assert_eq!(fixture.stats().missing_blocks, 0, "half a report removes nothing");
    assert_eq!(fixture.page(&node, 2, true, &[]), Err(Code::InvalidArgument), "pages come in order");
    // A new report; while it arrives, one block it does not name is stored, and one it names is deleted.
    node.sequence += 1;
    let report = node.sequence;
    fixture.page(&node, 0, false, &[finalized(blocks[0])]).expect("taken");
    fixture.report(&mut node, ReplicaChangeV1::Stored(finalized(blocks[1])));
    fixture.report(&mut node, ReplicaChangeV1::Deleted(blocks[2]));
    let last = BlockReportRequestV1 {
        epoch: node.epoch,
        storage: node.storage,
        sequence: ReportSequence(report),
        page: 1,
        is_last: true,
        replicas: vec![finalized(blocks[2])],
    };
    fixture.call_datanode(&node, Request::BlockReport(last)).expect("taken");
    assert_eq!(fixture.stats().missing_blocks, 1, "only the deleted one");
    // A report that comes again, late, changes nothing.
    let late = IncrementalReportRequestV1 {
        epoch: node.epoch,
        storage: node.storage,
        sequence: ReportSequence(report),
        changes: vec![ReplicaChangeV1::Deleted(blocks[0])],
    };
    fixture.call_datanode(&node, Request::IncrementalReport(late)).expect("taken");
    assert_eq!(fixture.stats().missing_blocks, 1);
}

#[test]
fn replicas_are_deleted_after_the_delete_only_and_at_a_limited_rate() {
    let mut fixture = Fixture::new();
    let mut node = fixture.join(1, 1 << 40);
    let client = fixture.client();
    let block = fixture.file(&client, "/f", &mut [&mut node]);
    fixture.send(&client, CallId(1_000_070), delete("/f"));
    fixture.pass(10_000);
    assert_eq!(fixture.heartbeat(&node), Ok(Vec::new()), "the delete is not durable yet");
    fixture.make_durable();
    assert!(fixture.answer().is_some());
    fixture.pass(1000);
    let commands = fixture.heartbeat(&node).expect("alive");
    let expected = InvalidateV1 { storage: node.storage, replicas: vec![block] };
    assert_eq!(commands, [CommandV1::Invalidate(expected)]);
    // A replica of a block that is gone is deleted again when it is reported again.
    fixture.full_report(&mut node, &[finalized(block)]);
    fixture.pass(1000);
    assert_eq!(fixture.heartbeat(&node).expect("alive").len(), 1);
    let blocks: Vec<BlockRefV1> =
        (0..1500).map(|file| fixture.file(&client, &format!("/d/{file}"), &mut [&mut node])).collect();
    fixture.call(&client, delete("/d")).expect("deleted");
    fixture.pass(1000);
    let named = |commands: Vec<CommandV1>| match &commands[..] {
        [CommandV1::Invalidate(invalidate)] => invalidate.replicas.len(),
        _ => 0,
    };
    let first = named(fixture.heartbeat(&node).expect("alive"));
    assert_eq!(first, 1000, "at most so many a second");
    assert_eq!(named(fixture.heartbeat(&node).expect("alive")), 0);
    fixture.pass(1000);
    assert_eq!(named(fixture.heartbeat(&node).expect("alive")), blocks.len() - first);
}

#[test]
fn safe_mode_lasts_until_blocks_are_reported() {
    let mut first = Fixture::new();
    let mut node = first.join(1, 1 << 40);
    let client = first.client();
    let block = first.file(&client, "/f", &mut [&mut node]);
    // The same namespace after a restart: nothing is reported yet.
    let mut fixture = Fixture::with_state(first.core.state);
    let client = fixture.client();
    let mkdirs = || {
        Request::Mkdirs(MkdirsRequestV1 {
            path: "/d".to_owned(),
            mode: 0o755,
            unmasked_mode: 0o755,
            create_parents: true,
        })
    };
    assert_eq!(fixture.call(&client, mkdirs()), Err(Code::SafeMode));
    assert!(fixture.stats().safe_mode.starts_with("0 of 1 blocks"));
    assert!(
        fixture.call(&client, Request::Stat(StatRequestV1 { path: "/f".to_owned() })).is_ok(),
        "reads work"
    );
    let mut node = fixture.join(1, 1 << 40);
    assert_eq!(fixture.call(&client, mkdirs()), Err(Code::SafeMode));
    fixture.full_report(&mut node, &[finalized(block)]);
    assert!(fixture.call(&client, mkdirs()).is_ok());
}

#[test]
fn a_replica_newer_than_the_log_is_never_deleted_and_stops_changes() {
    let mut fixture = Fixture::new();
    let mut node = fixture.join(1, 1 << 40);
    let newer = BlockRefV1 { block: BlockId(1000), stamp: Stamp(1), length: 1 };
    fixture.full_report(&mut node, &[finalized(newer)]);
    let reason = fixture.stats().safe_mode;
    assert!(reason.contains("block 1000") && reason.contains("older"), "{reason}");
    fixture.pass(20_000);
    assert_eq!(fixture.heartbeat(&node), Ok(Vec::new()));
    let client = fixture.client();
    assert_eq!(fixture.call(&client, create("/f")), Err(Code::SafeMode));
}

#[test]
fn a_lost_datanode_is_avoided_then_forgotten_until_it_reports() {
    let mut fixture = Fixture::new();
    let mut node = fixture.join(1, 1 << 40);
    let client = fixture.client();
    let block = fixture.file(&client, "/f", &mut [&mut node]);
    fixture.core.disconnected(node.caller.connection);
    let stats = fixture.stats();
    assert_eq!(
        (stats.datanodes_stale, stats.missing_blocks),
        (1, 0),
        "a lost connection makes it stale at once"
    );
    fixture.pass(30_000);
    let stats = fixture.stats();
    assert_eq!((stats.datanodes_dead, stats.missing_blocks), (1, 1));
    assert_eq!(fixture.heartbeat(&node), Err(Code::StaleEpoch));
    let mut node = fixture.join(1, 1 << 40);
    fixture.full_report(&mut node, &[finalized(block)]);
    let stats = fixture.stats();
    assert_eq!((stats.datanodes_live, stats.missing_blocks), (1, 0));
}

#[test]
fn an_id_that_is_seen_twice_is_refused() {
    let mut fixture = Fixture::new();
    let node = fixture.join(1, 1 << 40);
    let stranger = fixture.client();
    let copied = RegisterRequestV1 { port: 7777, ..register(node.id, node.storage, 1, 1) };
    assert_eq!(fixture.call(&stranger, Request::Register(copied)), Err(Code::DuplicateId));
    let other = DatanodeId([8; 16]);
    let copied_volume = register(other, node.storage, 8, 1);
    assert_eq!(fixture.call(&stranger, Request::Register(copied_volume)), Err(Code::DuplicateId));
    let forged = RegisterRequestV1 { proof: [0; 32], ..register(other, StorageId([8; 16]), 8, 1) };
    assert_eq!(fixture.call(&stranger, Request::Register(forged)), Err(Code::PermissionDenied));
    // The same process on a new connection takes over, and fences the old one.
    let again = fixture.join(1, 1 << 40);
    assert!(again.epoch > node.epoch);
    assert_eq!(fixture.heartbeat(&node), Err(Code::StaleEpoch));
    assert!(fixture.heartbeat(&again).is_ok());
}

#[test]
fn corrupt_replicas_do_not_count_and_readers_go_to_live_ones_first() {
    let mut fixture = Fixture::new();
    let (mut a, mut b) = (fixture.join(1, 1 << 40), fixture.join(2, 1 << 40));
    let client = fixture.client();
    let block = fixture.file(&client, "/f", &mut [&mut a, &mut b]);
    let locate = |fixture: &mut Fixture| {
        let request = GetBlockLocationsRequestV1 {
            file: FileRefV1::Path("/f".to_owned()),
            offset: 0,
            length: u64::MAX,
        };
        match fixture.call(&client, Request::GetBlockLocations(request)) {
            Ok(Reply::GetBlockLocations(reply)) => reply.blocks[0].nodes.clone(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(locate(&mut fixture).len(), 2);
    fixture.core.disconnected(a.caller.connection);
    let nodes = locate(&mut fixture);
    assert_eq!((nodes[0].datanode, nodes[0].is_stale, nodes[1].is_stale), (b.id, false, true));
    fixture.report(&mut b, ReplicaChangeV1::Corrupt(block));
    assert_eq!(locate(&mut fixture).iter().map(|node| node.datanode).collect::<Vec<_>>(), [a.id]);
    let stats = fixture.stats();
    assert_eq!((stats.corrupt_blocks, stats.under_replicated_blocks), (1, 1));
}
