//! What HDFS clients send: Hadoop RPC to a namenode without a shell, and data transfer.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use prost::Message;
use ringfs_hadoop::calls::{CLIENT_PROTOCOL, append_call, beginning};
use ringfs_hadoop::client::{
    AddBlockRequest, CompleteRequest, CreateRequest, DeleteRequest, GetBatchedListingRequest,
    GetFileInfoRequest, GetListingRequest, MkdirsRequest, RenameRequest,
};
use ringfs_hadoop::frames;
use ringfs_hadoop::hdfs::{ExtendedBlock, FsPermission};
use ringfs_hadoop::packets::{self, Operation, Packet, Varint};
use ringfs_hadoop::rpc::{IpcConnectionContext, RequestHeader, RpcSasl};
use ringfs_hadoop::transfer::{
    BaseHeader, ClientOperationHeader, OpBlockChecksum, OpReadBlock, OpTransferBlock, OpWriteBlock,
    PipelineAck,
};
use ringfs_namenode::calls::{Call, Caller, Credentials};
use ringfs_namenode::config::Config;
use ringfs_namenode::core::{Core, Now};
use ringfs_namenode::hadoop::{Holders, Origin, Step, begin, superusers_only};
use ringfs_namenode::state::State;
use ringfs_namenode::wal::BatchBuilder;
use ringfs_proto::capability::{ClusterKey, KEY_BYTES};
use ringfs_proto::frame::Header;
use ringfs_proto::hello::Role;
use ringfs_proto::ids::{CallId, ClusterId, SessionId};

use crate::input::Input;

const CLIENT: [u8; 16] = [7; 16];
const NOW: Now = Now { mono_ms: 1000, wall_ms: 1_000_000 };
/// Questions that one call asks at most.
const QUESTIONS_MAX: usize = 8;

struct Bench {
    core: Core,
    caller: Arc<Caller>,
    origin: Origin,
    calls: u64,
}

impl Bench {
    fn new() -> Self {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let session = SessionId(CLIENT);
        let key = ClusterKey::new(1, [9; KEY_BYTES]);
        let state = State::new("super", "supergroup");
        Self {
            core: Core::new(state, ClusterId([3; 16]), key, Config::default(), NOW, 42),
            caller: Arc::new(Caller {
                connection: 1,
                session,
                user: "ann".to_owned(),
                credentials: Credentials::privileged(),
                address,
                role: Role::Client,
                nonce: [3; 16],
                renews_leases: true,
                is_datanode: AtomicBool::new(false),
            }),
            origin: Origin { address, session, holders: Arc::new(Holders::default()), pool: "BP-1".into() },
            calls: 0,
        }
    }

    /// A call, with all that it asks, as long as it is answered at once.
    fn call(&mut self, method: &RequestHeader, request: &[u8]) {
        let _refusal = superusers_only(&method.method_name, request, "eve");
        let mut step = begin(method, request, &self.origin);
        for _ in 0..QUESTIONS_MAX {
            let Step::Ask(ask) = step else { return };
            self.calls += 1;
            let header = Header::request(ask.request.op(), CallId(self.calls));
            self.core.call(
                Call {
                    caller: self.caller.clone(),
                    call: CallId(self.calls),
                    lowest_unanswered: CallId(self.calls),
                    header,
                    request: ask.request,
                    context: None,
                },
                NOW,
            );
            while let Some(batch) = self.core.take_batch() {
                self.core.durable(batch.last(), BatchBuilder::default(), NOW);
            }
            while self.core.has_work() {
                self.core.work(NOW);
            }
            let answers = self.core.take_answers();
            let Some(answer) = answers.into_iter().find(|answer| answer.header.call.0 == self.calls) else {
                return;
            };
            step = (ask.then)(answer.result);
        }
        assert!(!matches!(step, Step::Ask(_)), "a call ends");
    }
}

/// The bytes of a connection behind `hrpc`.
pub fn rpc(data: &[u8]) {
    let mut input = Input(data);
    let _refused = frames::decode_beginning(input.array());
    let mut bench = Bench::new();
    let mut rest = input.0;
    while let Ok(Some(frame)) = frames::first_frame(rest) {
        rest = &rest[4 + frame.len()..];
        let Ok(frame) = frames::decode_frame(frame) else { continue };
        assert!(frame.context().is_none_or(|context| context.len() <= 128), "what is logged is bounded");
        match frame.header.call_id {
            frames::SASL_CALL => drop(frame.message::<RpcSasl>()),
            frames::CONTEXT_CALL => drop(frame.message::<IpcConnectionContext>()),
            _ => {
                let Ok((method, request)) = frame.method() else { continue };
                bench.call(&method, request);
                let mut answer = Vec::new();
                frames::append_success(&mut answer, &frame.call(), &[]);
                assert_eq!(
                    frames::first_frame(&answer).map(|frame| frame.map(<[u8]>::len)),
                    Ok(Some(answer.len() - 4))
                );
            }
        }
    }
}

/// Bytes of a connection to a datanode: an operation with its message, then packets or acks.
pub fn data(data: &[u8]) {
    let mut input = Input(data);
    let Ok(operation) = Operation::decode(input.array()) else { return };
    let Some(message) = message_of(&mut input) else { return };
    match operation {
        Operation::Write => drop(packets::decode::<OpWriteBlock>("write", message)),
        Operation::Read => drop(packets::decode::<OpReadBlock>("read", message)),
        Operation::Checksum => drop(packets::decode::<OpBlockChecksum>("checksum", message)),
        _ => drop(packets::decode::<OpTransferBlock>("transfer", message)),
    }
    if operation == Operation::Read {
        while let Some(ack) = message_of(&mut input) {
            drop(packets::decode::<PipelineAck>("ack", ack));
        }
        return;
    }
    while !input.is_empty() {
        let Ok((body, header)) = packets::decode_packet_head(input.array()) else { return };
        let Ok(packet) = packets::decode_packet(input.take(header), body) else { return };
        assert_eq!(packet.data_len + packet.checksums_len, body, "a packet is what it says");
        let mut again = Vec::new();
        packets::append_packet_head(&mut again, &packet);
        let mut again = Input(&again);
        let lengths = packets::decode_packet_head(again.array());
        let lengths = lengths.expect("what was decoded can be encoded");
        assert_eq!(packets::decode_packet(again.take(lengths.1), lengths.0), Ok(packet), "a packet survives");
        input.take(body);
    }
}

/// A message behind its length.
fn message_of<'a>(input: &mut Input<'a>) -> Option<&'a [u8]> {
    let mut length = Varint::default();
    while !input.is_empty() {
        if let Some(length) = length.push(input.byte()).ok()? {
            return Some(input.take(length));
        }
    }
    None
}

/// Connections that make one call each, and one that makes them all.
pub fn rpc_seeds() -> Vec<Vec<u8>> {
    let permission = || FsPermission { perm: 0o755 };
    let (path, client) = ("/d/f".to_owned(), "DFSClient_1".to_owned());
    let create = CreateRequest {
        src: path.clone(),
        masked: permission(),
        client_name: client.clone(),
        create_flag: 3,
        create_parent: true,
        replication: 3,
        block_size: 1 << 20,
        ..CreateRequest::default()
    };
    let add =
        AddBlockRequest { src: path.clone(), client_name: client.clone(), ..AddBlockRequest::default() };
    let complete =
        CompleteRequest { src: path.clone(), client_name: client.clone(), ..CompleteRequest::default() };
    let calls: [(&str, Vec<u8>); 9] = [
        (
            "mkdirs",
            MkdirsRequest { src: "/d".into(), masked: permission(), create_parent: true, unmasked: None }
                .encode_to_vec(),
        ),
        ("create", create.encode_to_vec()),
        ("addBlock", add.encode_to_vec()),
        ("complete", complete.encode_to_vec()),
        ("getFileInfo", GetFileInfoRequest { src: path.clone() }.encode_to_vec()),
        (
            "getListing",
            GetListingRequest { src: "/".into(), need_location: true, ..GetListingRequest::default() }
                .encode_to_vec(),
        ),
        (
            "getBatchedListing",
            GetBatchedListingRequest {
                paths: vec!["/".into(), "/d".into()],
                ..GetBatchedListingRequest::default()
            }
            .encode_to_vec(),
        ),
        ("rename", RenameRequest { src: path.clone(), dst: "/g".into() }.encode_to_vec()),
        ("delete", DeleteRequest { src: path, recursive: true }.encode_to_vec()),
    ];
    let begin = || beginning(CLIENT, "ann")[4..].to_vec();
    let mut all = begin();
    let mut seeds = Vec::new();
    for (number, (method, request)) in calls.iter().enumerate() {
        let mut one = begin();
        for bytes in [&mut one, &mut all] {
            append_call(bytes, CLIENT, number as i32, CLIENT_PROTOCOL, method, request);
        }
        seeds.push(one);
    }
    seeds.push(all);
    seeds
}

/// Each operation, with packets or acks.
pub fn data_seeds() -> Vec<Vec<u8>> {
    let block =
        ExtendedBlock { pool_id: "BP-1".to_owned(), block_id: 1, generation_stamp: 2, num_bytes: Some(3) };
    let base = BaseHeader { block, token: None, trace_info: None };
    let header = ClientOperationHeader { base_header: base.clone(), client_name: "DFSClient_1".to_owned() };
    let read = OpReadBlock { header: header.clone(), offset: 0, len: 3, ..OpReadBlock::default() };
    let write = OpWriteBlock { header: header.clone(), pipeline_size: 1, ..OpWriteBlock::default() };
    let transfer = OpTransferBlock { header, ..OpTransferBlock::default() };
    let checksum = OpBlockChecksum { header: base, ..OpBlockChecksum::default() };
    let begin = |operation: Operation, message: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = vec![0, 28, operation as u8];
        message(&mut bytes);
        bytes
    };
    let mut reading = begin(Operation::Read, &|bytes| packets::append(bytes, &read));
    packets::append_ack(&mut reading, 7, std::iter::empty());
    let mut writing = begin(Operation::Write, &|bytes| packets::append(bytes, &write));
    for (sequence, data_len) in [(0, 3), (1, 0)] {
        let is_last = data_len == 0;
        let checksums_len = if is_last { 0 } else { 4 };
        let packet = Packet { sequence, offset: 0, data_len, checksums_len, is_last, is_sync: false };
        packets::append_packet_head(&mut writing, &packet);
        writing.extend(vec![9; data_len + checksums_len]);
    }
    vec![
        reading,
        writing,
        begin(Operation::Checksum, &|bytes| packets::append(bytes, &checksum)),
        begin(Operation::Transfer, &|bytes| packets::append(bytes, &transfer)),
    ]
}
