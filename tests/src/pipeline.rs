//! A writer that does just what a test says: pipelines over real datanodes, packet by packet.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use ringfs_proto::capability::{Capability, CapabilityBytes, ClusterKey, Mode};
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::frame::{self, Header};
use ringfs_proto::ids::{BlockId, CallId, PrincipalId, Stamp};
use ringfs_proto::meta::data::{
    PipelineNodeV1, RangeDataV1, ReadHint, ReadRangeV1, ReadRangesRequestV1, ReplicaInfoReplyV1,
    ReplicaInfoRequestV1, TransferReplicaRequestV1, WriteAckV1, WriteHint, WriteOpenReplyV1,
    WriteOpenRequestV1, WritePacketV1, WriteStage, packet_flags,
};
use ringfs_proto::meta::namespace::{
    AddBlockRequestV1, BlockRefV1, CreateRequestV1, UpdateBlockForPipelineRequestV1,
};
use ringfs_proto::ops::{
    AddBlock, Create, Op, ReadRanges, ReplicaInfo, TransferReplica, UpdateBlockForPipeline, WriteOpen,
};
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use crate::cluster::{Cluster, Server};
use ringfs_sdk::LocatedBlock;

use crate::raw::Raw;
use crate::wait;

/// Bytes per checksum.
pub const CHUNK_BYTES: u32 = 512;

/// Stamps that the namenode gives out for a block, one above the other, for the pipelines of a test.
pub const STAMPS_GIVEN: u64 = 8;

/// A block of an open file, which a test writes itself.
#[derive(Debug, Clone)]
pub struct TestBlock {
    /// The cluster's key.
    pub key: ClusterKey,
    /// The block.
    pub block: BlockId,
    /// The stamp that the namenode gave it.
    pub stamp: Stamp,
    /// Most bytes of it.
    pub limit: u64,
    /// All nodes that the test may use.
    pub nodes: Vec<PipelineNodeV1>,
}

/// An open pipeline.
#[derive(Debug)]
pub struct RawPipeline {
    raw: Raw,
    call: CallId,
    sequence: u64,
    /// Where the next packet begins.
    pub offset: u64,
}

/// Where a node listens.
pub fn address_of(node: &PipelineNodeV1) -> SocketAddr {
    SocketAddr::new(node.host.parse::<IpAddr>().expect("numeric"), node.port)
}

/// The running nodes, in the order of the cluster; one that does not run is where it was, or nowhere.
fn nodes_of(cluster: &Cluster) -> Vec<PipelineNodeV1> {
    let node = |datanode: &Server| {
        let port = datanode.address().port();
        wait::until("the datanode has joined", || {
            let datanodes = cluster.client().datanode_report().ok()?;
            let info = datanodes.iter().find(|info| info.port == port)?;
            let (datanode, storage) = (info.datanode, info.volumes.first()?.storage);
            Some(PipelineNodeV1 { datanode, storage, host: info.host.clone(), port })
        })
    };
    cluster.datanodes.iter().map(node).collect()
}

impl TestBlock {
    /// The first block of a new file, as the namenode gives it out. The nodes are all of the cluster, in its order.
    pub fn new(cluster: &Cluster, path: &str, limit: u64) -> Self {
        let mut namenode = Raw::greeted(cluster.namenode.address());
        let create = CreateRequestV1 {
            path: path.to_owned(),
            mode: 0o644,
            unmasked_mode: 0o644,
            overwrite: false,
            create_parents: true,
            replication: 1,
            block_size: limit,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: CHUNK_BYTES,
        };
        let inode = namenode.call::<Create>(&create).expect("created").status.inode;
        let add = AddBlockRequestV1 { inode, previous: None, excluded: Vec::new() };
        let added = namenode.call::<AddBlock>(&add).expect("a block").located.block;
        let BlockRefV1 { block, stamp, .. } = added;
        // A datanode with a stamp that the log never named would put the namenode into safe mode.
        let ask = UpdateBlockForPipelineRequestV1 { inode, block: added };
        for given in 1..=STAMPS_GIVEN {
            let reply = namenode.call::<UpdateBlockForPipeline>(&ask).expect("a stamp");
            assert_eq!(reply.stamp.0, stamp.0 + given, "stamps follow each other");
        }
        Self { key: cluster.cluster_file().key, block, stamp, limit, nodes: nodes_of(cluster) }
    }

    /// A block that was written in another way.
    pub fn of(cluster: &Cluster, located: &LocatedBlock) -> Self {
        let BlockRefV1 { block, stamp, length } = located.block;
        Self { key: cluster.cluster_file().key, block, stamp, limit: length, nodes: nodes_of(cluster) }
    }

    /// The same block after datanodes were started again, which have reached the namenode.
    #[must_use]
    pub fn rejoined(&self, cluster: &Cluster) -> Self {
        let block = Self { nodes: nodes_of(cluster), ..self.clone() };
        let is_running = |node: &usize| cluster.datanodes[*node].process.is_some();
        for node in (0..block.nodes.len()).filter(is_running) {
            wait::until_true("the datanode has joined", || {
                block.info(node).map_or_else(|error| error.code != Code::Busy, |_| true)
            });
        }
        block
    }

    /// Opens the block under a stamp.
    pub fn capability(&self, stamp: Stamp, mode: Mode) -> CapabilityBytes {
        self.key.sign(&Capability {
            mode,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: CHUNK_BYTES,
            user: PrincipalId(0),
            block: self.block,
            stamp,
            length_limit: self.limit,
            expires_s: u64::MAX / 2,
        })
    }

    /// Sets up a pipeline over some of the nodes.
    ///
    /// # Errors
    /// What the pipeline answers, and the index of the node that failed.
    pub fn open(
        &self,
        nodes: &[usize],
        stamp: Stamp,
        stage: WriteStage,
    ) -> Result<RawPipeline, (WireError, u32)> {
        let nodes: Vec<PipelineNodeV1> = nodes.iter().map(|index| self.nodes[*index].clone()).collect();
        let mut raw = Raw::greeted(address_of(&nodes[0]));
        let offset = if let WriteStage::Recover(recover) = &stage { recover.length } else { 0 };
        let request = WriteOpenRequestV1 {
            capability: self.capability(stamp, Mode::Write),
            block: self.block,
            stamp,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: CHUNK_BYTES,
            nodes,
            hint: WriteHint::Normal,
            announced_length: u64::MAX,
            stage,
        };
        let bytes = raw.request::<WriteOpen>(&request);
        raw.stream.write_all(&bytes).expect("sent");
        let (header, meta, _) = raw.receive().expect("an answer");
        if let Some(error) = frame::reply_error(&header, &meta) {
            return Err((error, 0));
        }
        let reply = WriteOpenReplyV1::decode(&meta).expect("an answer");
        match reply.code {
            0 => Ok(RawPipeline { raw, call: header.call, sequence: 0, offset }),
            code => Err((WireError::new(Code::from_u16(code), reply.message), reply.failed_node)),
        }
    }

    /// What a node says of its replica.
    ///
    /// # Errors
    /// What it answers.
    pub fn info(&self, node: usize) -> Result<ReplicaInfoReplyV1, WireError> {
        let capability = self.capability(Stamp(0), Mode::Read);
        let request = ReplicaInfoRequestV1 { capability, block: self.block };
        Raw::greeted(address_of(&self.nodes[node])).call::<ReplicaInfo>(&request)
    }

    /// Has one node copy its replica to others.
    ///
    /// # Errors
    /// What it answers.
    pub fn transfer(
        &self,
        source: usize,
        stamp: Stamp,
        length: u64,
        targets: &[usize],
    ) -> Result<(), WireError> {
        let request = TransferReplicaRequestV1 {
            capability: self.capability(stamp, Mode::Write),
            block: BlockRefV1 { block: self.block, stamp, length },
            targets: targets.iter().map(|index| self.nodes[*index].clone()).collect(),
        };
        Raw::greeted(address_of(&self.nodes[source])).call::<TransferReplica>(&request).map(drop)
    }

    /// Reads from one node and verifies checksums.
    ///
    /// # Errors
    /// The code of the range.
    ///
    /// # Panics
    /// If bytes do not match their checksums.
    pub fn read(&self, node: usize, stamp: Stamp, offset: u64, length: u64) -> Result<Vec<u8>, Code> {
        let mut raw = Raw::greeted(address_of(&self.nodes[node]));
        let capability = self.capability(stamp, Mode::Read);
        let ranges = vec![ReadRangeV1 { capability, block: self.block, stamp, offset, length }];
        let request =
            ReadRangesRequestV1 { ranges, credit_bytes: u64::MAX, hint: ReadHint::Normal, record_bytes: 0 };
        let bytes = raw.request::<ReadRanges>(&request);
        raw.stream.write_all(&bytes).expect("sent");
        let mut found = Vec::new();
        loop {
            let (_, meta, payload) = raw.receive().expect("an answer");
            let part = RangeDataV1::decode(&meta).expect("a part");
            if part.code != 0 {
                return Err(Code::from_u16(part.code));
            }
            let (sums, data) = payload.split_at(part.checksums_len as usize);
            ringfs_proto::checksum::verify_chunks(part.checksum, data, part.chunk_bytes, sums)
                .expect("bytes match their checksums");
            let skip = offset.saturating_sub(part.offset) as usize;
            found.extend(&data[skip..]);
            if part.is_last {
                found.truncate(length as usize);
                return Ok(found);
            }
        }
    }
}

impl RawPipeline {
    /// Sends a packet; says whether the socket took it.
    ///
    /// # Errors
    /// What the socket says.
    pub fn send(&mut self, data: &[u8], flags: u8) -> io::Result<()> {
        self.send_as(data, &checksums(self.offset, data), flags)
    }

    /// Sends a packet with checksums that are given.
    ///
    /// # Errors
    /// What the socket says.
    pub fn send_as(&mut self, data: &[u8], checksums: &[u8], flags: u8) -> io::Result<()> {
        let packet = WritePacketV1 {
            sequence: self.sequence,
            offset: self.offset,
            checksums_len: checksums.len() as u32,
            data_len: data.len() as u32,
            flags,
        };
        let header = Header::request(Op::WritePacket, self.call);
        let mut bytes = Vec::new();
        frame::append(&mut bytes, header, checksums.len() + data.len(), |meta| packet.encode_into(meta));
        bytes.extend(checksums);
        bytes.extend(data);
        self.raw.stream.write_all(&bytes)?;
        self.sequence += 1;
        self.offset += data.len() as u64;
        Ok(())
    }

    /// The next ack.
    ///
    /// # Errors
    /// When the pipeline has ended.
    pub fn ack(&mut self) -> io::Result<WriteAckV1> {
        let (_, meta, _) = self.raw.receive()?;
        Ok(WriteAckV1::decode(&meta).expect("an ack"))
    }

    /// Waits until everything that was sent is acknowledged.
    ///
    /// # Panics
    /// If it is not.
    pub fn wait_acked(&mut self) -> WriteAckV1 {
        loop {
            let ack = self.ack().expect("the pipeline stands");
            assert_eq!(ack.code, 0, "node {} failed", ack.failed_node);
            if ack.length == self.offset && ack.sequence + 1 == self.sequence {
                return ack;
            }
        }
    }

    /// Sends bytes in packets of at most `cut`, and waits for their acks.
    ///
    /// # Panics
    /// If the pipeline fails.
    pub fn write(&mut self, data: &[u8], cut: usize) -> WriteAckV1 {
        for piece in data.chunks(cut) {
            self.send(piece, 0).expect("sent");
        }
        self.wait_acked()
    }

    /// Ends the block.
    ///
    /// # Panics
    /// If the pipeline fails.
    pub fn finish(&mut self) {
        self.send(&[], packet_flags::LAST).expect("sent");
        let ack = self.wait_acked();
        assert!(ack.is_finalized);
    }
}

fn checksums(offset: u64, data: &[u8]) -> Vec<u8> {
    let (mut at, mut rest, mut sums) = (offset, data, Vec::new());
    while !rest.is_empty() {
        let room = (u64::from(CHUNK_BYTES) - at % u64::from(CHUNK_BYTES)) as usize;
        let (piece, later) = rest.split_at(room.min(rest.len()));
        sums.extend(ChecksumType::Crc32c.of(piece).to_be_bytes());
        (at, rest) = (at + piece.len() as u64, later);
    }
    sums
}
