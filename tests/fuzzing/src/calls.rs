//! A namenode without a shell, and callers that may say anything: no call brings it down, each is answered once.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use ringfs_namenode::calls::{Call, Caller, Reply, Request};
use ringfs_namenode::config::Config;
use ringfs_namenode::core::{Core, Now};
use ringfs_namenode::state::State;
use ringfs_namenode::wal::BatchBuilder;
use ringfs_proto::capability::{ClusterKey, KEY_BYTES};
use ringfs_proto::frame::Header;
use ringfs_proto::hello::Role;
use ringfs_proto::ids::{CallId, ClusterId, DatanodeId, RegistrationEpoch, SessionId, StorageId};
use ringfs_proto::meta::membership::{RegisterRequestV1, VolumeStatusV1};
use ringfs_proto::ops::Op;

use crate::input::{Input, push_piece};
use crate::messages::golden;

const CLUSTER: ClusterId = ClusterId([3; 16]);
const NONCE: [u8; 16] = [3; 16];
/// Callers: the first are clients, the others datanodes.
const CLIENTS: u8 = 4;
const DATANODES: u8 = 4;
/// The most that one step lets pass, ms.
const STEP_MS: u64 = 400;
/// Steps of one input: an input that says more is long without being different.
const STEPS_MAX: usize = 256;

struct Bench {
    core: Core,
    now: Now,
    callers: Vec<Arc<Caller>>,
    epochs: Vec<RegistrationEpoch>,
    connections: u64,
    calls: u64,
    waiting: BTreeMap<(u64, CallId), u32>,
}

/// Steps: a call, a registration, records made durable, time that passes, a connection that goes.
pub fn calls(data: &[u8]) {
    let mut input = Input(data);
    let mut bench = Bench::new();
    (0..DATANODES).for_each(|number| bench.register(number));
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        match input.byte() % 8 {
            0..4 => bench.call(&mut input),
            4 => bench.register(input.byte() % DATANODES),
            5 => bench.sync(),
            6 => bench.pass(&mut input),
            _ => bench.disconnect(input.byte()),
        }
        bench.take_answers();
    }
    bench.sync();
    bench.take_answers();
}

impl Bench {
    fn new() -> Self {
        let config = Config { invalidation_delay_ms: 0, ..Config::default() };
        let key = ClusterKey::new(1, [9; KEY_BYTES]);
        let now = Now { mono_ms: 1000, wall_ms: 1_000_000 };
        let core = Core::new(State::new("super", "supergroup"), CLUSTER, key, config, now, 42);
        let mut bench = Self {
            core,
            now,
            callers: Vec::new(),
            epochs: vec![RegistrationEpoch(0); usize::from(DATANODES)],
            connections: 0,
            calls: 0,
            waiting: BTreeMap::new(),
        };
        bench.callers = (0..CLIENTS + DATANODES).map(|number| bench.connect(number)).collect();
        bench
    }

    fn connect(&mut self, number: u8) -> Arc<Caller> {
        self.connections += 1;
        let is_datanode = number >= CLIENTS;
        Arc::new(Caller {
            connection: self.connections,
            session: SessionId([number + 1; 16]),
            user: "ann".to_owned(),
            credentials: ringfs_namenode::calls::Credentials::privileged(),
            address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, number + 1)),
            role: if is_datanode { Role::Datanode } else { Role::Client },
            nonce: NONCE,
            renews_leases: false,
            is_datanode: AtomicBool::new(is_datanode),
        })
    }

    /// Caller, operation, a byte that tells whether the call is a new one, then the message.
    fn call(&mut self, input: &mut Input<'_>) {
        let who = usize::from(input.byte()) % self.callers.len();
        let op = usize::from(input.byte());
        let again = input.byte();
        let meta = input.piece();
        let Some(op) = Op::ALL.get(op) else { return };
        let Ok(mut request) = Request::decode(&Header::request(*op, CallId(1)), meta) else { return };
        self.set_epoch(&mut request, who);
        // The same id again is a retry, or two calls that claim to be one.
        let call = CallId(if again < 128 {
            self.calls + 1
        } else {
            self.calls.saturating_sub(u64::from(again - 128))
        });
        self.send(who, call, request);
    }

    fn send(&mut self, who: usize, call: CallId, request: Request) {
        self.calls = self.calls.max(call.0);
        let caller = self.callers[who].clone();
        *self.waiting.entry((caller.connection, call)).or_default() += 1;
        let header = Header::request(request.op(), call);
        let lowest_unanswered = CallId(call.0.saturating_sub(8));
        self.core.call(Call { caller, call, lowest_unanswered, header, request, context: None }, self.now);
    }

    /// A datanode knows its epoch; a fuzzer would not find it.
    fn set_epoch(&self, request: &mut Request, who: usize) {
        let Some(epoch) = who.checked_sub(usize::from(CLIENTS)).and_then(|at| self.epochs.get(at)) else {
            return;
        };
        match request {
            Request::Heartbeat(request) => request.epoch = *epoch,
            Request::BlockReport(request) => request.epoch = *epoch,
            Request::IncrementalReport(request) => request.epoch = *epoch,
            _ => {}
        }
    }

    fn register(&mut self, number: u8) {
        let who = usize::from(CLIENTS + number);
        let id = DatanodeId([number + 1; 16]);
        let volume = VolumeStatusV1 {
            storage: StorageId([number + 1; 16]),
            path: "/disk".to_owned(),
            capacity_bytes: 1 << 40,
            used_bytes: 0,
            remaining_bytes: 1 << 40,
            reserved_bytes: 0,
            replicas: 0,
            is_failed: false,
            scrubbed_s: 0,
            bad_replicas: 0,
        };
        let request = RegisterRequestV1 {
            datanode: id,
            cluster: CLUSTER,
            nonce: [5; 16],
            proof: ClusterKey::new(1, [9; KEY_BYTES]).prove("register", &NONCE, &id.0),
            host: String::new(),
            port: 9866,
            http_port: 0,
            software: "fuzz".to_owned(),
            pid: u32::from(number),
            volumes: vec![volume],
        };
        self.send(who, CallId(self.calls + 1), Request::Register(request));
        self.take_answers();
    }

    fn sync(&mut self) {
        while let Some(batch) = self.core.take_batch() {
            self.core.durable(batch.last(), BatchBuilder::default(), self.now);
        }
        self.work();
    }

    /// Does what is left to do. What a call cannot make endless, this does not either.
    fn work(&mut self) {
        while self.core.has_work() {
            self.core.work(self.now);
        }
    }

    /// The wall clock may jump, also back; the other goes on.
    fn pass(&mut self, input: &mut Input<'_>) {
        self.now.mono_ms += u64::from(input.byte()) * STEP_MS / 255 * 100;
        self.now.wall_ms =
            self.now.wall_ms.saturating_add(u64::from(input.u32())).saturating_sub(u64::from(u32::MAX / 2));
        self.core.tick(self.now);
    }

    fn disconnect(&mut self, number: u8) {
        let number = number % (CLIENTS + DATANODES);
        self.core.disconnected(self.callers[usize::from(number)].connection);
        self.callers[usize::from(number)] = self.connect(number);
    }

    fn take_answers(&mut self) {
        for answer in self.core.take_answers() {
            let waiting = self.waiting.get_mut(&(answer.caller.connection, answer.header.call));
            let waiting =
                waiting.filter(|count| **count > 0).expect("an answer has a call that waits for it");
            *waiting -= 1;
            if let Ok(Reply::Register(reply)) = &answer.result {
                let who = usize::from(answer.caller.session.0[0] - 1 - CLIENTS);
                self.epochs[who] = reply.epoch;
            }
            if let Ok(reply) = answer.result {
                reply.encode_into(&mut Vec::new());
            }
        }
    }
}

/// The golden request of each operation, alone and all after one another, with syncs between.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut all = Vec::new();
    for (at, op) in Op::ALL.iter().enumerate() {
        let name = format!("{}Request", op.name());
        for (_, meta) in golden().filter(|(golden, _)| golden.split(' ').next() == Some(&name)) {
            let is_report = (64..128).contains(&(*op as u16));
            let who = if is_report { CLIENTS } else { 0 };
            let mut step = vec![0, who, at as u8, 0];
            push_piece(&mut step, &meta);
            step.push(5);
            all.extend(&step);
            seeds.push(step);
        }
    }
    seeds.push([all.clone(), vec![6, 255, 0, 0, 0, 128], all.clone(), vec![7, 4], all].concat());
    seeds.extend([write_a_file()]);
    seeds
}

/// A file that is written and closed as a client and a datanode would.
fn write_a_file() -> Vec<u8> {
    let mut steps = Vec::new();
    for name in
        ["MkdirsRequest", "CreateRequest", "AddBlockRequest", "IncrementalReportRequest", "CompleteRequest"]
    {
        let op = Op::ALL.iter().position(|op| name.strip_suffix("Request") == Some(op.name()));
        let (_, meta) = golden().find(|(golden, _)| *golden == name).unwrap_or_default();
        let who = if name.starts_with("Incremental") { CLIENTS } else { 0 };
        steps.extend([0, who, op.unwrap_or_default() as u8, 0]);
        push_piece(&mut steps, &meta);
        steps.push(5);
    }
    steps
}
