//! Golden bytes: one fixed example of every message. A change of rkyv, of its features, or of a field's order shows here.
//!
//! The hexadecimal texts are in `golden.txt`, one line per message: name, a space, bytes. To add a message, add its
//! example and the line that the failing test prints.

#[path = "golden/attributes.rs"]
mod attributes;
#[path = "golden/inspect.rs"]
mod inspect;
#[path = "golden/tree.rs"]
mod tree;
#[path = "golden/values.rs"]
mod values;

use std::collections::BTreeMap;
use std::fmt::Debug;

use ringfs_proto::capability::{Capability, ClusterKey, Mode};
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::frame::Header;
use ringfs_proto::hello::{HelloReplyV1, HelloV1, Role};
use ringfs_proto::ids::*;
use ringfs_proto::meta::admin::*;
use ringfs_proto::meta::data::*;
use ringfs_proto::meta::membership::*;
use ringfs_proto::meta::namespace::*;
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;

/// Every example, encoded, by name. Each is checked to survive, and to be refused when any byte is cut off.
struct Examples(BTreeMap<&'static str, Vec<u8>>);

impl Examples {
    fn add<M: Message + PartialEq + Debug>(&mut self, name: &'static str, message: &M) {
        let bytes = message.encode();
        assert_eq!(M::decode(&bytes).as_ref(), Ok(message), "{name} survives");
        for len in 0..bytes.len() {
            // The root is at the end: what is cut off there cannot be the same message.
            assert!(M::decode(&bytes[..len]).ok().as_ref() != Some(message), "{name} cut to {len} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            // An error or another value, never a panic.
            drop(M::decode(&flipped));
        }
        assert!(self.0.insert(name, bytes).is_none(), "{name} twice");
    }
}

fn block() -> BlockRefV1 {
    BlockRefV1 { block: BlockId(0x11), stamp: Stamp(0x22), length: 0x3344 }
}

fn status() -> FileStatusV1 {
    FileStatusV1 {
        inode: InodeId(5),
        kind: FileKind::File,
        name: "a name longer than eight".to_owned(),
        length: 6,
        told_bytes: 0x66,
        mode: 0o644,
        owner: "ann".to_owned(),
        group: "staff".to_owned(),
        mtime_ms: 7,
        atime_ms: 8,
        replication: 3,
        block_size: 9,
        children: 10,
        is_open: true,
        version: LogIndex(11),
        content_crc: Some(ContentCrcV1 { kind: ChecksumType::Crc32c, crc: 0x0a0b_0c0d }),
        has_acl: true,
        storage_policy: 7,
    }
}

fn located() -> LocatedBlockV1 {
    let node = NodeV1 {
        datanode: DatanodeId([1; 16]),
        storage: StorageId([2; 16]),
        host: "10.0.0.1".to_owned(),
        port: 9866,
        is_stale: false,
    };
    LocatedBlockV1 {
        block: block(),
        offset: 4,
        is_open: false,
        nodes: vec![node],
        are_all_nodes: true,
        is_begun: true,
        capability: [0xcc; 64],
        inline: None,
    }
}

fn create_request() -> CreateRequestV1 {
    CreateRequestV1 {
        path: "/data/part-0".to_owned(),
        mode: 0o644,
        unmasked_mode: 0o644,
        overwrite: false,
        create_parents: true,
        replication: 3,
        block_size: 1 << 27,
        checksum: ChecksumType::Crc32c,
        chunk_bytes: 4096,
    }
}

fn pipeline_node() -> PipelineNodeV1 {
    PipelineNodeV1 {
        datanode: DatanodeId([1; 16]),
        storage: StorageId([2; 16]),
        host: "10.0.0.1".to_owned(),
        port: 9866,
    }
}

fn volume() -> VolumeStatusV1 {
    VolumeStatusV1 {
        storage: StorageId([2; 16]),
        path: "/disk1".to_owned(),
        capacity_bytes: 1,
        used_bytes: 2,
        remaining_bytes: 3,
        reserved_bytes: 4,
        replicas: 5,
        is_failed: false,
        scrubbed_s: 6,
        bad_replicas: 7,
    }
}

fn namespace(examples: &mut Examples) {
    let path = || "/data/part-0".to_owned();
    examples.add("StatRequest", &StatRequestV1 { path: path() });
    examples.add("FileStatus", &status());
    examples
        .add("ListRequest", &ListRequestV1 { path: path(), start_after: "a".to_owned(), entries_max: 10 });
    examples.add("ListReply", &ListReplyV1 { entries: vec![status(), status()], remaining: 7 });
    examples.add(
        "MkdirsRequest",
        &MkdirsRequestV1 { path: path(), mode: 0o755, unmasked_mode: 0o755, create_parents: true },
    );
    examples.add("Done", &DoneV1 { index: LogIndex(9) });
    examples.add("CreateRequest", &create_request());
    examples.add("CreateReply", &CreateReplyV1 { status: status(), inline_bytes_max: 9 });
    let excluded = vec![DatanodeId([7; 16])];
    examples
        .add("AddBlockRequest", &AddBlockRequestV1 { inode: InodeId(5), previous: Some(block()), excluded });
    examples.add("AddBlockReply", &AddBlockReplyV1 { located: located() });
    examples.add("AbandonBlockRequest", &AbandonBlockRequestV1 { inode: InodeId(5), block: BlockId(6) });
    let acked = vec![AckedReplicaV1 { datanode: DatanodeId([1; 16]), storage: StorageId([2; 16]) }];
    let tail = Some(InlineTailV1 { bytes: b"bytes".to_vec(), replaces_last: true });
    examples
        .add("CompleteRequest", &CompleteRequestV1 { inode: InodeId(5), last: Some(block()), acked, tail });
    let file = FileRefV1::Path(path());
    examples
        .add("GetBlockLocationsRequest", &GetBlockLocationsRequestV1 { file, offset: 1, length: u64::MAX });
    let file = FileRefV1::Inode(InodeId(5));
    examples
        .add("GetBlockLocationsRequest by inode", &GetBlockLocationsRequestV1 { file, offset: 1, length: 2 });
    let blocks = vec![located()];
    examples.add("GetBlockLocationsReply", &GetBlockLocationsReplyV1 { status: status(), blocks });
    examples
        .add("RenameRequest", &RenameRequestV1 { source: path(), target: "/x".to_owned(), overwrite: true });
    examples.add("DeleteRequest", &DeleteRequestV1 { path: path(), recursive: true });
    examples.add("DeleteReply", &DeleteReplyV1 { deleted: true });
    recovery(examples);
}

fn recovery(examples: &mut Examples) {
    let (inode, stamp, capability) = (InodeId(5), Stamp(0x23), [0xcc; 64]);
    let nodes = vec![AckedReplicaV1 { datanode: DatanodeId([1; 16]), storage: StorageId([2; 16]) }];
    let update = UpdateBlockForPipelineRequestV1 { inode, block: block() };
    examples.add("UpdateBlockForPipelineRequest", &update);
    examples.add(
        "UpdateBlockForPipelineReply",
        &UpdateBlockForPipelineReplyV1 { block: block(), stamp, capability },
    );
    let update = UpdatePipelineRequestV1 { inode, old: block(), stamp, nodes: nodes.clone() };
    examples.add("UpdatePipelineRequest", &update);
    let excluded = vec![DatanodeId([7; 16])];
    let add = AddDatanodesRequestV1 { inode, block: BlockId(6), existing: nodes, excluded, count: 2 };
    examples.add("AddDatanodesRequest", &add);
    examples.add("AddDatanodesReply", &AddDatanodesReplyV1 { nodes: located().nodes, capability });
    examples.add("RecoverLeaseRequest", &RecoverLeaseRequestV1 { path: "/data/part-0".to_owned() });
    examples.add("RecoverLeaseReply", &RecoverLeaseReplyV1 { is_closed: true });
    examples.add("RenewLeaseRequest", &RenewLeaseRequestV1 { told: Some((InodeId(5), 6)) });
    examples.add(
        "SetReplicationRequest",
        &SetReplicationRequestV1 { path: "/data/part-0".to_owned(), replication: 4 },
    );
    examples.add("SetReplicationReply", &SetReplicationReplyV1 { is_file: true });
    let (datanode, storage) = (DatanodeId([1; 16]), StorageId([2; 16]));
    let replicas = vec![BadReplicaV1 { block: block(), datanode, storage }];
    examples.add("ReportBadBlocksRequest", &ReportBadBlocksRequestV1 { replicas });
}

fn admin(examples: &mut Examples) {
    examples.add("Ping", &PingV1 { echo: 0x0102_0304_0506_0708 });
    examples.add("FsStatsRequest", &FsStatsRequestV1 { flags: 0 });
    examples.add(
        "FsStatsReply",
        &FsStatsReplyV1 {
            cluster: ClusterId([3; 16]),
            capacity_bytes: 1,
            used_bytes: 2,
            remaining_bytes: 3,
            files: 4,
            directories: 5,
            blocks: 6,
            open_files: 7,
            under_replicated_blocks: 8,
            missing_blocks: 9,
            corrupt_blocks: 10,
            pending_deletion_blocks: 11,
            datanodes_live: 12,
            datanodes_stale: 13,
            datanodes_dead: 14,
            safe_mode: "why".to_owned(),
            applied: LogIndex(15),
            namespace_bytes: 16,
            pending_replication_blocks: 17,
            excess_replicas: 18,
            checkpoint: LogIndex(19),
            wal_dirs_failed: 20,
        },
    );
    examples.add("DatanodeReportRequest", &DatanodeReportRequestV1 { flags: 0 });
    let node = DatanodeInfoV1 {
        datanode: DatanodeId([1; 16]),
        host: "10.0.0.1".to_owned(),
        port: 9866,
        http_port: 9864,
        state: DatanodeState::Stale,
        last_heartbeat_ms: 3100,
        software: "0.1.0".to_owned(),
        volumes: vec![volume()],
        blocks: 17,
        rack: "/a".to_owned(),
    };
    examples.add("DatanodeReportReply", &DatanodeReportReplyV1 { datanodes: vec![node] });
    examples.add("ServerDefaultsRequest", &ServerDefaultsRequestV1 { flags: 0 });
    let defaults = ServerDefaultsReplyV1 {
        block_size: 1 << 27,
        replication: 3,
        chunk_bytes: 4096,
        packet_bytes: 1 << 19,
        trash_interval_minutes: 360,
        inline_bytes_max: 65_536,
    };
    examples.add("ServerDefaultsReply", &defaults);
    examples.add("CheckpointRequest", &CheckpointRequestV1 { target: "/backup".to_owned() });
    let checkpoint = CheckpointReplyV1 { directory: "/backup".to_owned(), index: LogIndex(1), bytes: 2 };
    examples.add("CheckpointReply", &checkpoint);
    for (name, action) in [
        ("SafeModeRequest get", SafeModeAction::Get),
        ("SafeModeRequest enter", SafeModeAction::Enter),
        ("SafeModeRequest leave", SafeModeAction::Leave),
        ("SafeModeRequest leave despite", SafeModeAction::LeaveDespiteOlderState),
    ] {
        examples.add(name, &SafeModeRequestV1 { action });
    }
    examples.add("ReplicationRequest get", &ReplicationRequestV1 { action: ReplicationAction::Get });
    examples.add("ReplicationRequest copy now", &ReplicationRequestV1 { action: ReplicationAction::CopyNow });
    examples.add("ReplicationReply", &ReplicationReplyV1 { waits: "why".to_owned() });
    examples.add("SafeModeReply", &SafeModeReplyV1 { reason: "why".to_owned() });
}

fn membership(examples: &mut Examples) {
    examples.add(
        "RegisterRequest",
        &RegisterRequestV1 {
            datanode: DatanodeId([1; 16]),
            cluster: ClusterId([3; 16]),
            nonce: [4; 16],
            proof: [5; 32],
            host: String::new(),
            port: 9866,
            http_port: 9864,
            software: "0.1.0".to_owned(),
            pid: 77,
            volumes: vec![volume()],
        },
    );
    let epoch = RegistrationEpoch(6);
    examples.add(
        "RegisterReply",
        &RegisterReplyV1 {
            epoch,
            proof: [7; 32],
            clock_s: 8,
            last_stamp: Stamp(9),
            heartbeat_interval_ms: 1000,
        },
    );
    let written = vec![BlockId(9)];
    let heartbeat = HeartbeatRequestV1 {
        epoch,
        volumes: vec![volume()],
        reads_active: 1,
        writes_active: 2,
        copies_active: 3,
        written,
    };
    examples.add("HeartbeatRequest", &heartbeat);
    let storage = StorageId([2; 16]);
    let invalidate = CommandV1::Invalidate(InvalidateV1 { storage, replicas: vec![block()] });
    examples.add(
        "HeartbeatReply",
        &HeartbeatReplyV1 { clock_s: 8, commands: vec![invalidate, CommandV1::Report(storage)] },
    );
    let transfer = TransferV1 {
        block: block(),
        cut_from: Some(block()),
        capability: [0xcc; 64],
        targets: vec![pipeline_node()],
    };
    let begin = BeginRecoveryV1 { block: BlockId(9), storage, recovery_stamp: Stamp(0x23) };
    let commands = vec![
        CommandV1::Transfer(Box::new(transfer)),
        CommandV1::BeginRecovery(begin),
        CommandV1::FinishRecovery(FinishRecoveryV1 { block: block(), storage }),
        CommandV1::Verify(VerifyV1 { storage, blocks: vec![BlockId(9)] }),
    ];
    examples.add("HeartbeatReply recovery", &HeartbeatReplyV1 { clock_s: 8, commands });
    let states = [
        ReplicaState::Finalized,
        ReplicaState::BeingWritten,
        ReplicaState::WaitingForRecovery,
        ReplicaState::Temporary,
    ];
    let replicas: Vec<ReplicaV1> = states.map(|state| ReplicaV1 { block: block(), state }).into();
    let sequence = ReportSequence(10);
    let changes = vec![
        ReplicaChangeV1::Stored(replicas[0]),
        ReplicaChangeV1::Finalized(FinalizedReplicaV1 { block: block(), crc: 0x0102_0304 }),
        ReplicaChangeV1::Deleted(block()),
        ReplicaChangeV1::Corrupt(block()),
        ReplicaChangeV1::Fenced(FencedReplicaV1 {
            block: block(),
            state: ReplicaState::BeingWritten,
            synced_length: 7,
            recovery_stamp: Stamp(0x23),
        }),
    ];
    let report = BlockReportRequestV1 { epoch, storage, sequence, page: 1, is_last: true, replicas };
    examples.add("BlockReportRequest", &report);
    examples
        .add("IncrementalReportRequest", &IncrementalReportRequestV1 { epoch, storage, sequence, changes });
    examples.add("ReportReply", &ReportReplyV1 { sequence, has_commands: true });
}

fn data(examples: &mut Examples) {
    let range =
        ReadRangeV1 { capability: [0xcc; 64], block: BlockId(1), stamp: Stamp(2), offset: 3, length: 4 };
    let ranges = vec![range.clone()];
    for (name, hint) in [
        ("ReadRangesRequest", ReadHint::Normal),
        ("ReadRangesRequest once", ReadHint::Once),
        ("ReadRangesRequest reuse", ReadHint::Reuse),
    ] {
        examples.add(
            name,
            &ReadRangesRequestV1 { ranges: ranges.clone(), credit_bytes: 5, hint, record_bytes: 6 },
        );
    }
    examples.add(
        "RangeData",
        &RangeDataV1 {
            range: 1,
            code: 0,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: 4096,
            offset: 8192,
            checksums_len: 4,
            data_len: 100,
            is_last: true,
        },
    );
    examples.add("Credit", &CreditV1 { bytes: 1 << 20 });
    examples.add("WillNeedRequest", &WillNeedRequestV1 { ranges });
    for (name, stage) in [
        ("WriteOpenRequest", WriteStage::Create),
        ("WriteOpenRequest recover", WriteStage::Recover(RecoverV1 { old_stamp: Stamp(1), length: 5 })),
        ("WriteOpenRequest copy", WriteStage::Copy),
        ("WriteOpenRequest copy open", WriteStage::CopyOpen),
    ] {
        let request = WriteOpenRequestV1 {
            capability: [0xcc; 64],
            block: BlockId(1),
            stamp: Stamp(2),
            checksum: ChecksumType::Crc32,
            chunk_bytes: 512,
            nodes: vec![pipeline_node(), pipeline_node()],
            hint: WriteHint::Reuse,
            announced_length: u64::MAX,
            stage,
        };
        examples.add(name, &request);
    }
    let (capability, targets) = ([0xcc; 64], vec![pipeline_node()]);
    let transfer = TransferReplicaRequestV1 { capability, block: block(), targets };
    examples.add("TransferReplicaRequest", &transfer);
    examples.add("WriteOpenReply", &WriteOpenReplyV1 { code: 23, failed_node: 1, message: "why".to_owned() });
    let packet =
        WritePacketV1 { sequence: 1, offset: 2, checksums_len: 4, data_len: 100, flags: packet_flags::SYNC };
    examples.add("WritePacket", &packet);
    let ack = WriteAckV1 {
        sequence: 1,
        length: 102,
        synced_length: 100,
        is_finalized: false,
        code: 0,
        failed_node: 0,
    };
    examples.add("WriteAck", &ack);
    examples.add("ReplicaInfoRequest", &ReplicaInfoRequestV1 { capability: [0xcc; 64], block: BlockId(1) });
    let info =
        ReplicaInfoReplyV1 { stamp: Stamp(2), state: ReplicaState::WaitingForRecovery, visible_length: 3 };
    examples.add("ReplicaInfoReply", &info);
}

fn fixed(examples: &mut Examples) {
    let hello = HelloV1 {
        version_min: 1,
        version_max: 1,
        role: Role::Datanode,
        features: 0,
        session: SessionId([8; 16]),
        cluster: ClusterId([3; 16]),
        user: "ann".to_owned(),
        auth_scheme: 0,
        credentials: vec![1, 2],
    };
    examples.add("Hello", &hello);
    let (message, nonce) = ("why".to_owned(), [9; 16]);
    examples.add(
        "HelloReply",
        &HelloReplyV1 { code: 28, message, version: 1, features: 0, cluster: ClusterId([3; 16]), nonce },
    );
    let framed = ringfs_proto::hello::encode_hello(&hello);
    assert!(examples.0.insert("hello on the wire", framed).is_none());
    let mut header = Header::request(Op::WritePacket, CallId(0x0102));
    (header.remaining_ms, header.job_tag, header.meta_len, header.payload_len) = (1000, 5, 29, 104);
    assert!(examples.0.insert("frame header", header.encode().to_vec()).is_none());
    let capability = ClusterKey::new(1, [9; 32]).sign(&Capability {
        mode: Mode::Write,
        checksum: ChecksumType::Crc32c,
        chunk_bytes: 4096,
        user: PrincipalId(7),
        block: BlockId(17),
        stamp: Stamp(3),
        length_limit: 128 << 20,
        expires_s: 1000,
    });
    assert!(examples.0.insert("capability", capability.to_vec()).is_none());
}

#[test]
fn every_message_has_its_golden_bytes() {
    let mut examples = Examples(BTreeMap::new());
    for add in [
        namespace,
        admin,
        membership,
        data,
        fixed,
        attributes::all,
        attributes::carried,
        inspect::all,
        tree::reads,
        tree::changes,
        values::all,
    ] {
        add(&mut examples);
    }
    let golden: BTreeMap<&str, &str> =
        include_str!("golden.txt").lines().filter_map(|line| line.rsplit_once(' ')).collect();
    let mut wrong = Vec::new();
    for (name, bytes) in &examples.0 {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        if golden.get(name) != Some(&hex.as_str()) {
            wrong.push(format!("{name} {hex}"));
        }
    }
    assert!(wrong.is_empty(), "these bytes are not the golden ones:\n{}", wrong.join("\n"));
    let stale: Vec<_> = golden.keys().filter(|name| !examples.0.contains_key(*name)).collect();
    assert!(stale.is_empty(), "golden bytes without an example: {stale:?}");
}
