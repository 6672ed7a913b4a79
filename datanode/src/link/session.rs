//! What a datanode says to its namenode, and when. No I/O: bytes to send go out, answers and the time come in.
//!
//! After the hello a connection carries one call at a time: registration, a full report of every volume, then heartbeats at
//! their interval and changes as they happen. Whatever was lost with a connection is in the full reports of the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ringfs_proto::frame::{self, Header};
use ringfs_proto::hello::{self, HelloReplyV1};
use ringfs_proto::ids::{CallId, RegistrationEpoch, ReportSequence, StorageId};
use ringfs_proto::limits::REPORT_PAGE_REPLICAS_MAX;
use ringfs_proto::meta::membership::{
    BlockReportRequestV1, CommandV1, HeartbeatReplyV1, HeartbeatRequestV1, IncrementalReportRequestV1,
    RegisterReplyV1, RegisterRequestV1, ReplicaChangeV1, ReplicaV1, ReportReplyV1,
};
use ringfs_proto::ops::{BlockReport, Heartbeat, IncrementalReport, Op, Operation, Register};
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use super::{Identity, LinkError};
use crate::metrics::{ShardMetrics, Value};
use crate::node::Node;

/// A namenode that asks for more than this many heartbeats a second is not listened to.
const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(10);

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send the frame, and give its answer to [`Session::answered`].
    Call,
    /// Wait until this time, or until replicas change.
    Wait(Duration),
}

/// A datanode's side of the conversation. It outlives connections.
#[derive(Debug)]
pub struct Session {
    node: Arc<Node>,
    identity: Identity,
    /// Of the last report.
    sequence: u64,
    connection: Connection,
    commands: Vec<CommandV1>,
}

/// What is forgotten with a connection.
#[derive(Debug, Default)]
struct Connection {
    is_joined: bool,
    epoch: RegistrationEpoch,
    /// For the namenode's proof.
    nonce: [u8; 16],
    heartbeat_interval: Duration,
    heartbeat_at: Duration,
    last_call: u64,
    /// The call that is not answered yet.
    called: Option<Op>,
    /// Failed volumes that the namenode knows of.
    retired_told: usize,
    report: Option<Report>,
    messages: VecDeque<Outgoing>,
}

/// What waits to be said, in order.
#[derive(Debug)]
enum Outgoing {
    /// With this nonce of the namenode.
    Register([u8; 16]),
    Heartbeat,
    Report(StorageId),
    Changes(StorageId, Vec<ReplicaChangeV1>),
}

/// A full report that is being sent.
#[derive(Debug)]
struct Report {
    storage: StorageId,
    sequence: ReportSequence,
    page: u32,
    replicas: std::vec::IntoIter<ReplicaV1>,
    corrupt: Vec<ReplicaChangeV1>,
}

impl Session {
    /// A datanode that has no connection yet.
    pub fn new(node: Arc<Node>, identity: Identity) -> Self {
        Self { node, identity, sequence: 0, connection: Connection::default(), commands: Vec::new() }
    }

    /// A connection stands: the hello to send on it.
    pub fn connected(&mut self) -> Vec<u8> {
        self.connection = Connection::default();
        hello::encode_hello(&self.node.hello())
    }

    /// The namenode has answered the hello.
    ///
    /// # Errors
    /// Its refusal.
    pub fn welcomed(&mut self, reply: &HelloReplyV1) -> Result<(), LinkError> {
        if reply.code != 0 {
            return Err(WireError::new(Code::from_u16(reply.code), reply.message.clone()).into());
        }
        self.connection.messages.push_back(Outgoing::Register(reply.nonce));
        Ok(())
    }

    /// What to do at time `now`; a call is put into `frame`. Calls wait for the answer of the one before.
    ///
    /// Times are measured from any one moment.
    ///
    /// # Errors
    /// The machine has no random bytes.
    pub fn next(&mut self, now: Duration, frame: &mut Vec<u8>) -> Result<Step, LinkError> {
        debug_assert!(self.connection.called.is_none(), "one call at a time");
        frame.clear();
        let retired = self.node.store.retired_volumes();
        if retired != self.connection.retired_told {
            // What was on a failed volume must be copied by others: the namenode hears of it before anything else.
            (self.connection.retired_told, self.connection.heartbeat_at) = (retired, now);
        }
        if self.is_joined() && now >= self.connection.heartbeat_at {
            self.connection.heartbeat_at = now + self.connection.heartbeat_interval;
            self.heartbeat(frame);
            return Ok(Step::Call);
        }
        if self.connection.report.is_some() {
            self.report_page(frame);
            return Ok(Step::Call);
        }
        if self.connection.messages.is_empty() && self.is_joined() {
            self.take_changes();
        }
        match self.connection.messages.pop_front() {
            None => return Ok(Step::Wait(self.connection.heartbeat_at)),
            Some(Outgoing::Register(nonce)) => self.register(&nonce, frame)?,
            Some(Outgoing::Heartbeat) => self.heartbeat(frame),
            Some(Outgoing::Report(storage)) => self.begin_report(storage, frame),
            Some(Outgoing::Changes(storage, changes)) => self.report_changes(storage, changes, frame),
        }
        Ok(Step::Call)
    }

    /// The answer to the last call has come.
    ///
    /// # Errors
    /// What makes the connection useless: a refusal, an answer that is none, a namenode without the cluster's key.
    pub fn answered(&mut self, now: Duration, header: &Header, meta: &[u8]) -> Result<(), LinkError> {
        let call = CallId(self.connection.last_call);
        if header.call != call || !header.is_reply() || header.payload_len > 0 {
            let message = format!("an answer to call {} where {call} belongs", header.call);
            return Err(LinkError::Protocol(message));
        }
        if let Some(error) = frame::reply_error(header, meta) {
            return Err(error.into());
        }
        match self.connection.called.take() {
            Some(Op::Register) => self.registered(now, &decode::<RegisterReplyV1>(meta)?),
            Some(Op::Heartbeat) => {
                let reply = decode::<HeartbeatReplyV1>(meta)?;
                self.node.set_clock(reply.clock_s);
                reply.commands.into_iter().for_each(|command| self.command(command));
                Ok(())
            }
            _ => {
                if decode::<ReportReplyV1>(meta)?.has_commands {
                    self.connection.heartbeat_at = now;
                }
                Ok(())
            }
        }
    }

    /// Commands of the namenode that are to be carried out, in order.
    pub fn take_commands(&mut self) -> Vec<CommandV1> {
        core::mem::take(&mut self.commands)
    }

    /// Whether the namenode has taken the registration of this connection.
    pub fn is_joined(&self) -> bool {
        self.connection.is_joined
    }

    fn register(&mut self, namenode_nonce: &[u8; 16], frame: &mut Vec<u8>) -> Result<(), LinkError> {
        let node = &self.node;
        let mut nonce = [0; 16];
        node.machine().fill_random(&mut nonce)?;
        self.connection.nonce = nonce;
        let request = RegisterRequestV1 {
            datanode: node.id,
            cluster: node.cluster,
            nonce,
            proof: node.key.prove("register", namenode_nonce, &node.id.0),
            host: self.identity.host.clone(),
            port: self.identity.port,
            http_port: self.identity.http_port,
            software: env!("CARGO_PKG_VERSION").to_owned(),
            pid: node.machine().process(),
            volumes: node.store.volumes(),
        };
        self.call::<Register>(&request, frame);
        Ok(())
    }

    fn registered(&mut self, now: Duration, reply: &RegisterReplyV1) -> Result<(), LinkError> {
        if !self.node.key.is_proved("accept", &self.connection.nonce, &self.node.id.0, &reply.proof) {
            return Err(LinkError::Protocol("the namenode does not have the cluster's key".to_owned()));
        }
        let interval = Duration::from_millis(u64::from(reply.heartbeat_interval_ms));
        (self.connection.is_joined, self.connection.epoch) = (true, reply.epoch);
        self.connection.heartbeat_interval = interval.max(HEARTBEAT_INTERVAL_MIN);
        self.connection.heartbeat_at = now + self.connection.heartbeat_interval;
        // Before the clock, without which nobody writes.
        self.node.store.joined(reply.last_stamp);
        self.node.set_clock(reply.clock_s);
        let reports = self.node.store.volumes().into_iter().map(|volume| Outgoing::Report(volume.storage));
        self.connection.messages.extend(reports);
        self.connection.messages.push_back(Outgoing::Heartbeat);
        tracing::info!(namenode = self.identity.namenode, epoch = %reply.epoch, "joined the namenode");
        Ok(())
    }

    fn heartbeat(&mut self, frame: &mut Vec<u8>) {
        let sum = |value: fn(&ShardMetrics) -> &Value| -> u32 {
            self.node.metrics.iter().map(|shard| value(shard).get() as u32).sum()
        };
        let request = HeartbeatRequestV1 {
            epoch: self.connection.epoch,
            volumes: self.node.store.volumes(),
            reads_active: sum(|metrics| &metrics.reads_active),
            writes_active: sum(|metrics| &metrics.writes_active),
            copies_active: sum(|metrics| &metrics.copies_active),
            written: self.node.written.take(),
        };
        self.call::<Heartbeat>(&request, frame);
    }

    fn command(&mut self, command: CommandV1) {
        match command {
            CommandV1::Report(storage) => self.connection.messages.push_back(Outgoing::Report(storage)),
            command => self.commands.push(command),
        }
    }

    fn begin_report(&mut self, storage: StorageId, frame: &mut Vec<u8>) {
        let (replicas, corrupt) = self.node.store.snapshot(storage);
        let (sequence, replicas) = (self.next_sequence(), replicas.into_iter());
        self.connection.report = Some(Report { storage, sequence, page: 0, replicas, corrupt });
        self.report_page(frame);
    }

    fn report_page(&mut self, frame: &mut Vec<u8>) {
        let Some(mut report) = self.connection.report.take() else { return };
        let replicas: Vec<_> = report.replicas.by_ref().take(REPORT_PAGE_REPLICAS_MAX).collect();
        let is_last = report.replicas.len() == 0;
        let (epoch, storage, sequence, page) =
            (self.connection.epoch, report.storage, report.sequence, report.page);
        let request = BlockReportRequestV1 { epoch, storage, sequence, page, is_last, replicas };
        self.call::<BlockReport>(&request, frame);
        if !is_last {
            report.page += 1;
            self.connection.report = Some(report);
        } else if !report.corrupt.is_empty() {
            self.connection.messages.push_front(Outgoing::Changes(storage, report.corrupt));
        }
    }

    /// Sorts what has changed by storage; the order within each stays.
    fn take_changes(&mut self) {
        let mut rest = self.node.store.take_changes();
        while let Some((storage, _)) = rest.first() {
            let storage = *storage;
            let (now, later): (Vec<_>, Vec<_>) = rest.into_iter().partition(|(of, _)| *of == storage);
            for part in now.chunks(REPORT_PAGE_REPLICAS_MAX) {
                let changes = part.iter().map(|(_, change)| *change).collect();
                self.connection.messages.push_back(Outgoing::Changes(storage, changes));
            }
            rest = later;
        }
    }

    fn report_changes(&mut self, storage: StorageId, changes: Vec<ReplicaChangeV1>, frame: &mut Vec<u8>) {
        let (epoch, sequence) = (self.connection.epoch, self.next_sequence());
        let request = IncrementalReportRequestV1 { epoch, storage, sequence, changes };
        self.call::<IncrementalReport>(&request, frame);
    }

    fn next_sequence(&mut self) -> ReportSequence {
        self.sequence += 1;
        ReportSequence(self.sequence)
    }

    fn call<O: Operation>(&mut self, request: &O::Request, frame: &mut Vec<u8>) {
        self.connection.last_call += 1;
        self.connection.called = Some(O::OP);
        let call = CallId(self.connection.last_call);
        let header = Header { op_version: O::VERSION, ..Header::request(O::OP, call) };
        frame::append(frame, header, 0, |meta| request.encode_into(meta));
    }
}

fn decode<M: Message>(meta: &[u8]) -> Result<M, LinkError> {
    M::decode(meta).map_err(|error| LinkError::Protocol(error.to_string()))
}

#[cfg(test)]
mod tests {
    use ringfs_proto::capability::ClusterKey;
    use ringfs_proto::checksum::ChecksumType;
    use ringfs_proto::ids::{BlockId, ClusterId, DatanodeId, Stamp};
    use tempfile::TempDir;

    use super::*;
    use crate::Config;
    use crate::format::block::Layout;
    use crate::machine::SystemMachine;
    use crate::store::{NewReplica, Store, VolumeSettings};

    const CLUSTER: ClusterId = ClusterId([1; 16]);
    const INTERVAL: Duration = Duration::from_millis(100);

    fn key() -> ClusterKey {
        ClusterKey::new(1, [7; 32])
    }

    /// A session with a namenode that answers everything.
    struct Fixture {
        _temp: TempDir,
        node: Arc<Node>,
        session: Session,
        now: Duration,
        commands: Vec<CommandV1>,
        has_commands: bool,
        frame: Vec<u8>,
    }

    impl Fixture {
        fn new() -> Self {
            let temp = TempDir::new().expect("temporary directory");
            let volumes = ["one", "two"].map(|name| VolumeSettings::new(temp.path().join(name)));
            let store = Store::open(Arc::new(SystemMachine), &volumes, CLUSTER).expect("opened");
            let id = DatanodeId([2; 16]);
            let node = Arc::new(Node::new(id, CLUSTER, key(), store, Config::default(), 1));
            let identity =
                Identity { namenode: "nn:1".to_owned(), host: String::new(), port: 1, http_port: 2 };
            let session = Session::new(node.clone(), identity);
            let now = Duration::from_secs(5);
            let (commands, has_commands, frame) = (Vec::new(), false, Vec::new());
            Self { _temp: temp, node, session, now, commands, has_commands, frame }
        }

        fn connect(&mut self) {
            let hello = self.session.connected();
            assert!(!hello.is_empty());
            let reply = HelloReplyV1 {
                code: 0,
                message: String::new(),
                version: 1,
                features: 0,
                cluster: CLUSTER,
                nonce: [3; 16],
            };
            self.session.welcomed(&reply).expect("welcome");
        }

        /// The next call, answered; `None` when the session waits.
        fn step(&mut self) -> Option<Op> {
            match self.session.next(self.now, &mut self.frame).expect("a step") {
                Step::Wait(until) => {
                    assert!(until > self.now);
                    None
                }
                Step::Call => {
                    let head = self.frame[..frame_header()].try_into().expect("a header");
                    let header = Header::decode(&head, 1 << 20).expect("a frame of ours");
                    let meta = self.reply(&header);
                    self.session.answered(self.now, &header.reply(), &meta).expect("taken");
                    Some(header.op)
                }
            }
        }

        fn reply(&mut self, header: &Header) -> Vec<u8> {
            let meta = &self.frame[frame_header()..];
            let mut out = Vec::new();
            match header.op {
                Op::Register => {
                    let request = RegisterRequestV1::decode(meta).expect("a registration");
                    let id = request.datanode.0;
                    assert!(key().is_proved("register", &[3; 16], &id, &request.proof));
                    let proof = key().prove("accept", &request.nonce, &id);
                    let epoch = RegistrationEpoch(9);
                    let heartbeat_interval_ms = INTERVAL.as_millis() as u32;
                    let last_stamp = Stamp(0);
                    RegisterReplyV1 { epoch, proof, clock_s: 1, last_stamp, heartbeat_interval_ms }
                        .encode_into(&mut out);
                }
                Op::Heartbeat => {
                    let commands = core::mem::take(&mut self.commands);
                    HeartbeatReplyV1 { clock_s: 1, commands }.encode_into(&mut out);
                }
                _ => {
                    let has_commands = core::mem::take(&mut self.has_commands);
                    ReportReplyV1 { sequence: ReportSequence(1), has_commands }.encode_into(&mut out);
                }
            }
            out
        }

        fn steps(&mut self) -> Vec<Op> {
            std::iter::from_fn(|| self.step()).collect()
        }

        fn create(&self, block: u64) {
            let volumes = self.node.store.volumes();
            let storage = volumes[block as usize % volumes.len()].storage;
            let layout = Layout { checksum: ChecksumType::Crc32c, chunk_bytes: 512, limit: 1 << 20 };
            let (block, stamp) = (BlockId(block), Stamp(1));
            let new = NewReplica { block, stamp, storage, layout, is_direct: false, expected: 0 };
            self.node.store.create(&new).expect("created");
        }
    }

    fn frame_header() -> usize {
        ringfs_proto::limits::FRAME_HEADER_BYTES
    }

    #[test]
    fn a_session_registers_reports_and_beats() {
        let mut fixture = Fixture::new();
        fixture.connect();
        let joined = [Op::Register, Op::BlockReport, Op::BlockReport, Op::Heartbeat];
        assert_eq!(fixture.steps(), joined);
        fixture.now += INTERVAL;
        assert_eq!(fixture.steps(), [Op::Heartbeat]);
        // A new connection begins anew.
        fixture.connect();
        assert_eq!(fixture.steps(), joined);
    }

    #[test]
    fn changes_are_reported_at_once_storage_by_storage() {
        let mut fixture = Fixture::new();
        fixture.connect();
        fixture.steps();
        (1..=4).for_each(|block| fixture.create(block));
        assert_eq!(fixture.steps(), [Op::IncrementalReport; 2]);
        (5..=6).for_each(|block| fixture.create(block));
        fixture.now += INTERVAL;
        assert_eq!(fixture.steps(), [Op::Heartbeat, Op::IncrementalReport, Op::IncrementalReport]);
    }

    #[test]
    fn commands_are_handed_out_and_asked_for_at_once() {
        let mut fixture = Fixture::new();
        fixture.connect();
        fixture.steps();
        fixture.create(1);
        fixture.has_commands = true;
        let storage = fixture.node.store.volumes()[0].storage;
        let delete = CommandV1::Invalidate(ringfs_proto::meta::membership::InvalidateV1 {
            storage,
            replicas: Vec::new(),
        });
        fixture.commands = vec![CommandV1::Report(storage), delete.clone()];
        assert_eq!(fixture.steps(), [Op::IncrementalReport, Op::Heartbeat, Op::BlockReport]);
        assert_eq!(fixture.session.take_commands(), [delete]);
        assert!(fixture.session.take_commands().is_empty());
    }

    #[test]
    fn a_namenode_that_is_none_is_left() {
        let mut fixture = Fixture::new();
        fixture.connect();
        let step = fixture.session.next(fixture.now, &mut fixture.frame).expect("a step");
        assert_eq!(step, Step::Call);
        let call = Header::request(Op::Register, CallId(1)).reply();
        let mut meta = Vec::new();
        let proof = [0; 32];
        let (epoch, last_stamp) = (RegistrationEpoch(1), Stamp(0));
        RegisterReplyV1 { epoch, proof, clock_s: 1, last_stamp, heartbeat_interval_ms: 1 }
            .encode_into(&mut meta);
        let answered = fixture.session.answered(fixture.now, &call, &meta);
        assert!(matches!(answered, Err(LinkError::Protocol(_))), "no proof of the key");
        let other = Header { call: CallId(2), ..call };
        assert!(fixture.session.answered(fixture.now, &other, &meta).is_err(), "another call's answer");
        assert!(!fixture.session.is_joined());
    }
}
