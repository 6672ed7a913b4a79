//! The operations of the native protocol: numbers, types, who answers.

use crate::meta::{admin, attributes, changes, data, inspect, membership, namespace, tree, values};
use crate::wire::Message;

/// An operation with its request and reply types, in one version.
pub trait Operation {
    /// Its number.
    const OP: Op;
    /// Version of the types.
    const VERSION: u16;
    /// What is asked.
    type Request: Message;
    /// What is answered.
    type Reply: Message;
}

/// Defines the operations in one table: name, number, version, request, reply.
macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $version:literal, $request:ty => $reply:ty;)*) => {
        /// Number of an operation on the wire.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Op {
            $($(#[$doc])* $name = $number,)*
        }

        impl Op {
            /// Every operation, for tests and tables.
            pub const ALL: &'static [Op] = &[$(Op::$name,)*];

            /// The operation of a number read from a peer.
            pub fn from_u16(value: u16) -> Option<Op> {
                match value {
                    $($number => Some(Op::$name),)*
                    _ => None,
                }
            }

            /// Its name, for logs and metrics.
            pub fn name(self) -> &'static str {
                match self {
                    $(Op::$name => stringify!($name),)*
                }
            }
        }

        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub struct $name;

            impl Operation for $name {
                const OP: Op = Op::$name;
                const VERSION: u16 = $version;
                type Request = $request;
                type Reply = $reply;
            }
        )*
    };
}

operations! {
    // Any server.
    /// Answers at once: is the connection alive?
    Ping = 1, 1, admin::PingV1 => admin::PingV1;

    // Client to namenode.
    /// Status of one path.
    Stat = 16, 1, namespace::StatRequestV1 => namespace::FileStatusV1;
    /// One page of a directory, sorted by the bytes of the names.
    List = 17, 1, namespace::ListRequestV1 => namespace::ListReplyV1;
    /// Makes a directory, with its parents on request.
    Mkdirs = 18, 1, namespace::MkdirsRequestV1 => namespace::DoneV1;
    /// Makes a file and takes its lease.
    Create = 19, 1, namespace::CreateRequestV1 => namespace::CreateReplyV1;
    /// Adds a block to an open file and chooses its datanodes.
    AddBlock = 20, 1, namespace::AddBlockRequestV1 => namespace::AddBlockReplyV1;
    /// Takes back the last block of an open file.
    AbandonBlock = 21, 1, namespace::AbandonBlockRequestV1 => namespace::DoneV1;
    /// Closes a file. Waits until its last block is reported by enough datanodes.
    Complete = 22, 1, namespace::CompleteRequestV1 => namespace::FileStatusV1;
    /// Where the blocks of a range of a file are, with capabilities to read them.
    GetBlockLocations = 23, 1, namespace::GetBlockLocationsRequestV1 => namespace::GetBlockLocationsReplyV1;
    /// Renames a file or directory.
    Rename = 24, 1, namespace::RenameRequestV1 => namespace::DoneV1;
    /// Deletes a file or directory.
    Delete = 25, 1, namespace::DeleteRequestV1 => namespace::DeleteReplyV1;
    /// Totals of the file system.
    FsStats = 26, 1, admin::FsStatsRequestV1 => admin::FsStatsReplyV1;
    /// The datanodes and their volumes.
    DatanodeReport = 27, 1, admin::DatanodeReportRequestV1 => admin::DatanodeReportReplyV1;
    /// What a client uses where its user says nothing.
    ServerDefaults = 28, 1, admin::ServerDefaultsRequestV1 => admin::ServerDefaultsReplyV1;
    /// A new stamp for the block of a pipeline that has failed.
    UpdateBlockForPipeline = 29, 1, namespace::UpdateBlockForPipelineRequestV1 => namespace::UpdateBlockForPipelineReplyV1;
    /// The pipeline stands again, under the new stamp.
    UpdatePipeline = 30, 1, namespace::UpdatePipelineRequestV1 => namespace::DoneV1;
    /// More datanodes for a pipeline that has lost some.
    AddDatanodes = 31, 1, namespace::AddDatanodesRequestV1 => namespace::AddDatanodesReplyV1;
    /// Takes the lease of a file from its writer, and closes it.
    RecoverLease = 32, 1, namespace::RecoverLeaseRequestV1 => namespace::RecoverLeaseReplyV1;
    /// The session lives.
    RenewLease = 33, 1, namespace::RenewLeaseRequestV1 => namespace::DoneV1;
    /// Changes how many replicas a file shall have.
    SetReplication = 34, 1, namespace::SetReplicationRequestV1 => namespace::SetReplicationReplyV1;
    /// Replicas that a reader found bad.
    ReportBadBlocks = 35, 1, namespace::ReportBadBlocksRequestV1 => namespace::DoneV1;
    /// Writes a checkpoint of the namespace, in its place or as a backup.
    Checkpoint = 36, 1, admin::CheckpointRequestV1 => admin::CheckpointReplyV1;
    /// Asks about safe mode, or changes it.
    SafeMode = 37, 1, admin::SafeModeRequestV1 => admin::SafeModeReplyV1;
    /// Asks whether lost datanodes' blocks are copied, or has them copied now.
    Replication = 38, 1, admin::ReplicationRequestV1 => admin::ReplicationReplyV1;

    // Client to namenode: what an inode carries.
    /// Changes permission bits.
    SetPermission = 39, 1, attributes::SetPermissionRequestV1 => namespace::DoneV1;
    /// Changes owner and group.
    SetOwner = 40, 1, attributes::SetOwnerRequestV1 => namespace::DoneV1;
    /// Changes the times of content and access.
    SetTimes = 41, 1, attributes::SetTimesRequestV1 => namespace::DoneV1;
    /// Asks whether the caller may do something with a path.
    CheckAccess = 42, 1, attributes::CheckAccessRequestV1 => namespace::DoneV1;
    /// Changes the ACLs of a path.
    ChangeAcl = 43, 1, attributes::ChangeAclRequestV1 => namespace::DoneV1;
    /// The ACLs of a path.
    GetAcl = 44, 1, attributes::GetAclRequestV1 => attributes::GetAclReplyV1;
    /// Sets an extended attribute.
    SetXattr = 45, 1, attributes::SetXattrRequestV1 => namespace::DoneV1;
    /// Removes an extended attribute.
    RemoveXattr = 46, 1, attributes::RemoveXattrRequestV1 => namespace::DoneV1;
    /// Extended attributes of a path, with their values or without.
    GetXattrs = 47, 1, attributes::GetXattrsRequestV1 => attributes::GetXattrsReplyV1;
    /// Says on what kind of storage something should be.
    SetStoragePolicy = 48, 1, attributes::SetStoragePolicyRequestV1 => namespace::DoneV1;
    /// All storage policies, and that of a path.
    GetStoragePolicies = 49, 1, attributes::GetStoragePoliciesRequestV1 => attributes::GetStoragePoliciesReplyV1;

    // Client to namenode: many inodes at once.
    /// One page of all that is below a directory.
    Walk = 50, 1, tree::WalkRequestV1 => tree::WalkReplyV1;
    /// One page of the paths that match a pattern.
    Glob = 51, 1, tree::GlobRequestV1 => tree::GlobReplyV1;
    /// Status of several paths.
    BatchStat = 52, 1, tree::BatchStatRequestV1 => tree::BatchStatReplyV1;
    /// Totals of a tree.
    ContentSummary = 53, 1, tree::ContentSummaryRequestV1 => tree::ContentSummaryReplyV1;
    /// One page of the files that are open for writing.
    ListOpenFiles = 54, 1, tree::ListOpenFilesRequestV1 => tree::ListOpenFilesReplyV1;
    /// One page of the blocks without a good replica.
    ListCorruptFiles = 55, 1, tree::ListCorruptFilesRequestV1 => tree::ListCorruptFilesReplyV1;
    /// Opens a closed file for writing behind its end.
    Append = 56, 1, changes::AppendRequestV1 => changes::AppendReplyV1;
    /// Cuts a closed file.
    Truncate = 57, 1, changes::TruncateRequestV1 => changes::TruncateReplyV1;
    /// Moves the blocks of files behind those of another.
    Concat = 58, 1, changes::ConcatRequestV1 => namespace::DoneV1;
    /// Several changes, all or none.
    Commit = 59, 1, changes::CommitRequestV1 => changes::CommitReplyV1;

    // Small files.
    /// Makes a file with its content.
    Put = 80, 1, values::PutRequestV1 => namespace::FileStatusV1;
    /// Opens many files for reading.
    BatchOpen = 81, 1, values::BatchOpenRequestV1 => values::BatchOpenReplyV1;
    /// The content of a block that is kept in the namenode, for a datanode whose client cannot ask for it.
    ReadValue = 82, 1, values::ReadValueRequestV1 => values::ReadValueReplyV1;

    // Datanode to namenode.
    /// A datanode joins, or comes back.
    Register = 64, 1, membership::RegisterRequestV1 => membership::RegisterReplyV1;
    /// A datanode is alive; it receives commands.
    Heartbeat = 65, 1, membership::HeartbeatRequestV1 => membership::HeartbeatReplyV1;
    /// One page of all replicas of a storage.
    BlockReport = 66, 1, membership::BlockReportRequestV1 => membership::ReportReplyV1;
    /// Replicas of a storage that changed.
    IncrementalReport = 67, 1, membership::IncrementalReportRequestV1 => membership::ReportReplyV1;

    // Client to namenode: what operators look into.
    /// What is known of the replicas of files.
    CheckFiles = 68, 1, inspect::CheckFilesRequestV1 => inspect::CheckFilesReplyV1;
    /// What the namenode was asked, by operation and by user.
    Activity = 69, 1, inspect::ActivityRequestV1 => inspect::ActivityReplyV1;

    // Client, or datanode, to datanode.
    /// Reads ranges of blocks. Answered by one or more frames of [`data::RangeDataV1`] per range.
    ReadRanges = 128, 1, data::ReadRangesRequestV1 => data::RangeDataV1;
    /// Lets the server send more bytes of a `ReadRanges` call. Carries the call's id; has no reply.
    Credit = 129, 1, data::CreditV1 => data::CreditV1;
    /// Ranges that will be read soon, in order. A hint; answered at once.
    WillNeed = 130, 1, data::WillNeedRequestV1 => namespace::DoneV1;
    /// Sets up a pipeline and creates the replica on every node of it.
    WriteOpen = 131, 1, data::WriteOpenRequestV1 => data::WriteOpenReplyV1;
    /// Data for an open pipeline. Carries the call id of its `WriteOpen`; answered by [`data::WriteAckV1`].
    WritePacket = 132, 1, data::WritePacketV1 => data::WriteAckV1;
    /// State and visible length of one replica.
    ReplicaInfo = 133, 1, data::ReplicaInfoRequestV1 => data::ReplicaInfoReplyV1;
    /// Copies the first bytes of an open replica to nodes that join its pipeline.
    TransferReplica = 134, 1, data::TransferReplicaRequestV1 => namespace::DoneV1;
}
