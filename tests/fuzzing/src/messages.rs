//! Messages: every type that crosses a wire, and the namenode's choice of one by the header.

use std::fmt::Debug;

use ringfs_namenode::calls::Request;
use ringfs_proto::frame::Header;
use ringfs_proto::hello::{HelloReplyV1, HelloV1};
use ringfs_proto::ids::CallId;
use ringfs_proto::meta::admin::*;
use ringfs_proto::meta::attributes::*;
use ringfs_proto::meta::changes::*;
use ringfs_proto::meta::data::*;
use ringfs_proto::meta::inspect::*;
use ringfs_proto::meta::membership::*;
use ringfs_proto::meta::namespace::*;
use ringfs_proto::meta::tree::*;
use ringfs_proto::meta::values::*;
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;

use crate::input::Input;

/// Fixed examples of all messages: those of the golden test.
const GOLDEN: &str = include_str!("../../../proto/tests/golden.txt");

macro_rules! kinds {
    ($($name:ident)*) => {
        /// Every message: its name and what is checked of bytes that may be one. An input's first byte chooses.
        const KINDS: &[(&str, fn(&[u8]))] = &[$((stringify!($name), survives::<$name>),)*];
    };
}

kinds! {
    PingV1 FsStatsRequestV1 FsStatsReplyV1 DatanodeReportRequestV1 DatanodeReportReplyV1 ServerDefaultsRequestV1
    ServerDefaultsReplyV1 CheckpointRequestV1 CheckpointReplyV1 SafeModeRequestV1 SafeModeReplyV1
    StatRequestV1 FileStatusV1 ListRequestV1 ListReplyV1 MkdirsRequestV1 DoneV1 CreateRequestV1 CreateReplyV1
    AddBlockRequestV1 AddBlockReplyV1 AbandonBlockRequestV1 CompleteRequestV1 GetBlockLocationsRequestV1
    GetBlockLocationsReplyV1 RenameRequestV1 DeleteRequestV1 DeleteReplyV1 UpdateBlockForPipelineRequestV1
    UpdateBlockForPipelineReplyV1 UpdatePipelineRequestV1 AddDatanodesRequestV1 AddDatanodesReplyV1
    RecoverLeaseRequestV1 RecoverLeaseReplyV1 RenewLeaseRequestV1 SetReplicationRequestV1 SetReplicationReplyV1
    ReportBadBlocksRequestV1
    RegisterRequestV1 RegisterReplyV1 HeartbeatRequestV1 HeartbeatReplyV1 BlockReportRequestV1
    IncrementalReportRequestV1 ReportReplyV1
    ReadRangesRequestV1 RangeDataV1 CreditV1 WillNeedRequestV1 WriteOpenRequestV1 WriteOpenReplyV1 WritePacketV1
    WriteAckV1 ReplicaInfoRequestV1 ReplicaInfoReplyV1 TransferReplicaRequestV1
    HelloV1 HelloReplyV1 ReplicationRequestV1 ReplicationReplyV1
    WalkRequestV1 WalkReplyV1 GlobRequestV1 GlobReplyV1 BatchStatRequestV1 BatchStatReplyV1 ContentSummaryRequestV1
    ContentSummaryReplyV1 ListOpenFilesRequestV1 ListOpenFilesReplyV1 ListCorruptFilesRequestV1 ListCorruptFilesReplyV1
    AppendRequestV1 AppendReplyV1 TruncateRequestV1 TruncateReplyV1 ConcatRequestV1
    CommitRequestV1 CommitReplyV1
    CheckFilesRequestV1 CheckFilesReplyV1 ActivityRequestV1 ActivityReplyV1
    SetPermissionRequestV1 SetOwnerRequestV1 SetTimesRequestV1 CheckAccessRequestV1 ChangeAclRequestV1 GetAclRequestV1
    GetAclReplyV1 SetXattrRequestV1 RemoveXattrRequestV1 GetXattrsRequestV1 GetXattrsReplyV1 SetStoragePolicyRequestV1
    GetStoragePoliciesRequestV1 GetStoragePoliciesReplyV1
    PutRequestV1 BatchOpenRequestV1 BatchOpenReplyV1 ReadValueRequestV1 ReadValueReplyV1
}

/// What was accepted once is accepted again, and is the same.
fn survives<M: Message + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = M::decode(bytes) {
        let again = M::decode(&message.encode());
        assert_eq!(again.as_ref(), Ok(&message), "what was decoded survives");
    }
}

/// Any bytes as the message that the first byte names.
pub fn messages(data: &[u8]) {
    let mut input = Input(data);
    let kind = usize::from(input.byte());
    if let Some((_, check)) = KINDS.get(kind) {
        check(input.0);
    }
}

/// The examples of the golden test.
///
/// # Panics
/// If the golden test has a message that this target does not know: add it to the list above.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (name, bytes) in golden().filter(|(name, _)| !is_no_message(name)) {
        let word = name.split(' ').next().unwrap_or_default();
        let kind = KINDS.iter().position(|(kind, _)| kind.strip_suffix("V1") == Some(word));
        let kind = kind.unwrap_or_else(|| panic!("no target decodes {name}"));
        seeds.push([&[kind as u8][..], &bytes].concat());
    }
    seeds
}

/// What a frame with the operation and version of the first bytes says to the namenode.
pub fn requests(data: &[u8]) {
    let mut input = Input(data);
    let (op, version) = (input.u16(), u16::from(input.byte()));
    let Some(op) = Op::from_u16(op) else { return };
    let header = Header { op_version: version, ..Header::request(op, CallId(1)) };
    if let Ok(request) = Request::decode(&header, input.0) {
        assert_eq!((request.op(), version), (op, 1), "decoded as what it is");
    }
}

/// One request of each operation that has an example.
pub fn request_seeds() -> Vec<Vec<u8>> {
    let request = |op: &Op| {
        let name = if *op == Op::Ping { "Ping".to_owned() } else { format!("{}Request", op.name()) };
        let (_, bytes) = golden().find(|(golden, _)| *golden == name)?;
        Some([&(*op as u16).to_le_bytes()[..], &[1], &bytes].concat())
    };
    Op::ALL.iter().filter_map(request).collect()
}

/// The golden examples by name.
pub(crate) fn golden() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    GOLDEN.lines().filter_map(|line| line.rsplit_once(' ')).map(|(name, hex)| (name, from_hex(hex)))
}

/// Examples that have targets of their own.
fn is_no_message(name: &str) -> bool {
    ["hello on the wire", "frame header", "capability"].contains(&name)
}

fn from_hex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..text.len()).step_by(2).map_while(digit).collect()
}
