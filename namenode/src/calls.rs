//! Calls as the namespace thread sees them: decoded, with who called.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ringfs_proto::frame::Header;
use ringfs_proto::hello::Role;
use ringfs_proto::ids::{CallId, SessionId};
use ringfs_proto::meta::{admin, attributes, changes, inspect, membership, namespace, tree, values};
use ringfs_proto::ops::Op;
use ringfs_proto::wire::{DecodeError, Message};
use ringfs_proto::{Code, WireError};

use crate::core::WantedValue;
use crate::state::Author;

/// Who is at the other end of a connection.
#[derive(Debug)]
pub struct Caller {
    /// Number of the connection, unique in this process.
    pub connection: u64,
    /// The caller's process.
    pub session: SessionId,
    /// On whose behalf.
    pub user: String,
    /// What the user is, as it was found out last.
    pub credentials: Arc<Credentials>,
    /// Where from.
    pub address: IpAddr,
    /// As what.
    pub role: Role,
    /// Whether its leases live by what it says, as those of HDFS clients; else by its connections.
    pub renews_leases: bool,
    /// Bytes that this side sent for proofs.
    pub nonce: [u8; 16],
    /// Set when a datanode has proved the cluster's key here: its reports may be large.
    pub is_datanode: AtomicBool,
}

/// What a user is besides his name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// His groups; empty for who is privileged.
    pub groups: Vec<String>,
    /// Whether permissions are no matter to him.
    pub is_privileged: bool,
}

impl Credentials {
    /// Those of a superuser.
    pub fn privileged() -> Arc<Self> {
        Arc::new(Self { groups: Vec::new(), is_privileged: true })
    }
}

impl Caller {
    /// On whose behalf, for checks of permissions.
    pub fn author(&self) -> Author<'_> {
        let Credentials { groups, is_privileged } = &*self.credentials;
        Author { user: &self.user, groups, is_privileged: *is_privileged }
    }

    /// The same caller, of whom something else is known.
    pub fn with_credentials(&self, credentials: Arc<Credentials>) -> Self {
        Self {
            connection: self.connection,
            session: self.session,
            user: self.user.clone(),
            credentials,
            address: self.address,
            role: self.role,
            renews_leases: self.renews_leases,
            nonce: self.nonce,
            is_datanode: AtomicBool::new(self.is_proved_datanode()),
        }
    }

    /// Whether reports are accepted from this connection.
    pub fn is_proved_datanode(&self) -> bool {
        self.is_datanode.load(Ordering::Relaxed)
    }
}

/// A request, and what is answered to it.
pub(crate) trait Question {
    /// The answer.
    type Answer;

    /// The request among all others.
    fn into_request(self) -> Request;

    /// The answer among all others.
    ///
    /// # Errors
    /// `Internal`: it is that of another request.
    fn answer(reply: Reply) -> Result<Self::Answer, WireError>;
}

/// Defines the requests and replies that the namenode knows, in one table.
macro_rules! calls {
    ($($name:ident: $request:ty => $reply:ty;)*) => {
        /// What is asked.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "the operations are documented in the protocol")]
        pub enum Request {
            $($name($request),)*
        }

        /// What is answered.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs, reason = "the operations are documented in the protocol")]
        pub enum Reply {
            $($name($reply),)*
        }

        impl Request {
            /// Decodes the metadata of a frame.
            ///
            /// # Errors
            /// `Malformed`, or `Unsupported` for an operation or version that is not served here.
            pub fn decode(header: &Header, meta: &[u8]) -> Result<Self, WireError> {
                if header.op_version != 1 {
                    let message = format!("{} version {}: this release knows 1", header.op.name(), header.op_version);
                    return Err(WireError::new(Code::Unsupported, message));
                }
                let malformed = |error: DecodeError| WireError::new(Code::Malformed, error.to_string());
                match header.op {
                    $(Op::$name => <$request>::decode(meta).map(Self::$name).map_err(malformed),)*
                    other => Err(WireError::new(Code::Unsupported, format!("the namenode does not serve {}", other.name()))),
                }
            }

            /// The operation.
            pub fn op(&self) -> Op {
                match self {
                    $(Self::$name(_) => Op::$name,)*
                }
            }
        }

        $(impl Question for $request {
            type Answer = $reply;

            fn into_request(self) -> Request {
                Request::$name(self)
            }

            fn answer(reply: Reply) -> Result<$reply, WireError> {
                match reply {
                    Reply::$name(reply) => Ok(reply),
                    other => Err(WireError::new(Code::Internal, format!("an unexpected reply: {other:?}"))),
                }
            }
        })*

        impl Reply {
            /// Appends the metadata of a frame.
            pub fn encode_into(&self, bytes: &mut Vec<u8>) {
                match self {
                    $(Self::$name(reply) => reply.encode_into(bytes),)*
                }
            }
        }
    };
}

calls! {
    Ping: admin::PingV1 => admin::PingV1;
    Stat: namespace::StatRequestV1 => namespace::FileStatusV1;
    List: namespace::ListRequestV1 => namespace::ListReplyV1;
    Mkdirs: namespace::MkdirsRequestV1 => namespace::DoneV1;
    Create: namespace::CreateRequestV1 => namespace::CreateReplyV1;
    AddBlock: namespace::AddBlockRequestV1 => namespace::AddBlockReplyV1;
    AbandonBlock: namespace::AbandonBlockRequestV1 => namespace::DoneV1;
    Complete: namespace::CompleteRequestV1 => namespace::FileStatusV1;
    GetBlockLocations: namespace::GetBlockLocationsRequestV1 => namespace::GetBlockLocationsReplyV1;
    Rename: namespace::RenameRequestV1 => namespace::DoneV1;
    Delete: namespace::DeleteRequestV1 => namespace::DeleteReplyV1;
    FsStats: admin::FsStatsRequestV1 => admin::FsStatsReplyV1;
    DatanodeReport: admin::DatanodeReportRequestV1 => admin::DatanodeReportReplyV1;
    ServerDefaults: admin::ServerDefaultsRequestV1 => admin::ServerDefaultsReplyV1;
    UpdateBlockForPipeline: namespace::UpdateBlockForPipelineRequestV1 => namespace::UpdateBlockForPipelineReplyV1;
    UpdatePipeline: namespace::UpdatePipelineRequestV1 => namespace::DoneV1;
    AddDatanodes: namespace::AddDatanodesRequestV1 => namespace::AddDatanodesReplyV1;
    RecoverLease: namespace::RecoverLeaseRequestV1 => namespace::RecoverLeaseReplyV1;
    RenewLease: namespace::RenewLeaseRequestV1 => namespace::DoneV1;
    SetReplication: namespace::SetReplicationRequestV1 => namespace::SetReplicationReplyV1;
    ReportBadBlocks: namespace::ReportBadBlocksRequestV1 => namespace::DoneV1;
    Checkpoint: admin::CheckpointRequestV1 => admin::CheckpointReplyV1;
    SafeMode: admin::SafeModeRequestV1 => admin::SafeModeReplyV1;
    Replication: admin::ReplicationRequestV1 => admin::ReplicationReplyV1;
    Walk: tree::WalkRequestV1 => tree::WalkReplyV1;
    Glob: tree::GlobRequestV1 => tree::GlobReplyV1;
    BatchStat: tree::BatchStatRequestV1 => tree::BatchStatReplyV1;
    ContentSummary: tree::ContentSummaryRequestV1 => tree::ContentSummaryReplyV1;
    ListOpenFiles: tree::ListOpenFilesRequestV1 => tree::ListOpenFilesReplyV1;
    ListCorruptFiles: tree::ListCorruptFilesRequestV1 => tree::ListCorruptFilesReplyV1;
    SetPermission: attributes::SetPermissionRequestV1 => namespace::DoneV1;
    SetOwner: attributes::SetOwnerRequestV1 => namespace::DoneV1;
    SetTimes: attributes::SetTimesRequestV1 => namespace::DoneV1;
    CheckAccess: attributes::CheckAccessRequestV1 => namespace::DoneV1;
    ChangeAcl: attributes::ChangeAclRequestV1 => namespace::DoneV1;
    GetAcl: attributes::GetAclRequestV1 => attributes::GetAclReplyV1;
    SetXattr: attributes::SetXattrRequestV1 => namespace::DoneV1;
    RemoveXattr: attributes::RemoveXattrRequestV1 => namespace::DoneV1;
    GetXattrs: attributes::GetXattrsRequestV1 => attributes::GetXattrsReplyV1;
    SetStoragePolicy: attributes::SetStoragePolicyRequestV1 => namespace::DoneV1;
    GetStoragePolicies: attributes::GetStoragePoliciesRequestV1 => attributes::GetStoragePoliciesReplyV1;
    Append: changes::AppendRequestV1 => changes::AppendReplyV1;
    Truncate: changes::TruncateRequestV1 => changes::TruncateReplyV1;
    Concat: changes::ConcatRequestV1 => namespace::DoneV1;
    Commit: changes::CommitRequestV1 => changes::CommitReplyV1;
    CheckFiles: inspect::CheckFilesRequestV1 => inspect::CheckFilesReplyV1;
    Activity: inspect::ActivityRequestV1 => inspect::ActivityReplyV1;
    Put: values::PutRequestV1 => namespace::FileStatusV1;
    BatchOpen: values::BatchOpenRequestV1 => values::BatchOpenReplyV1;
    ReadValue: values::ReadValueRequestV1 => values::ReadValueReplyV1;
    Register: membership::RegisterRequestV1 => membership::RegisterReplyV1;
    Heartbeat: membership::HeartbeatRequestV1 => membership::HeartbeatReplyV1;
    BlockReport: membership::BlockReportRequestV1 => membership::ReportReplyV1;
    IncrementalReport: membership::IncrementalReportRequestV1 => membership::ReportReplyV1;
}

impl Request {
    /// Whether it has the lane of its own that keeps datanodes alive under a storm of calls.
    pub fn is_urgent(&self) -> bool {
        is_urgent(self.op())
    }
}

/// Whether calls of an operation have the lane of the datanodes.
pub fn is_urgent(op: Op) -> bool {
    matches!(op, Op::Register | Op::Heartbeat | Op::BlockReport | Op::IncrementalReport)
}

/// A call and who waits for its answer.
#[derive(Debug, Clone)]
pub struct Call {
    /// Who called.
    pub caller: Arc<Caller>,
    /// Its id in the session.
    pub call: CallId,
    /// The session's lowest unanswered call.
    pub lowest_unanswered: CallId,
    /// The frame's header, from which the reply's is made.
    pub header: Header,
    /// What is asked.
    pub request: Request,
    /// For whom, in the words of the client, for the audit log (HDFS: `CallerContext`).
    pub context: Option<Arc<str>>,
}

/// The answer to a call.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Who called.
    pub caller: Arc<Caller>,
    /// The header of the call.
    pub header: Header,
    /// The answer.
    pub result: Result<Reply, WireError>,
    /// Contents of small files that are to be filled in before it is sent, in the order of its blocks.
    pub values: Vec<WantedValue>,
}

impl Answer {
    /// An answer that is ready to be sent.
    pub fn ready(caller: Arc<Caller>, header: Header, result: Result<Reply, WireError>) -> Self {
        Self { caller, header, result, values: Vec::new() }
    }
}
