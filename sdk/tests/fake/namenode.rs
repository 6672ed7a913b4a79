//! A namenode with files in memory.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex};

use ringfs_proto::Code;
use ringfs_proto::ids::{BlockId, CallId, DatanodeId, InodeId, LogIndex, SessionId, Stamp};
use ringfs_proto::meta::namespace::*;
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;

use super::{Connection, Server, lock};

#[derive(Debug, Clone)]
struct File {
    status: FileStatusV1,
    blocks: Vec<(BlockRefV1, Vec<NodeV1>)>,
}

/// What it holds, does wrong, and has seen.
#[derive(Debug, Default)]
pub struct State {
    files: BTreeMap<String, File>,
    pub nodes: Vec<NodeV1>,
    /// Blocks go to one node each, in turn, instead of to all.
    pub spreads: bool,
    /// Nodes of a new block, at most.
    pub pipeline_nodes: Option<usize>,
    /// Says that other nodes may have open blocks too.
    pub hides_nodes: bool,
    next_block: u64,
    next_inode: u64,
    /// Calls that are answered with a code, in order.
    pub refusals: Vec<Code>,
    /// Carries out the next call, then cuts the connection in place of an answer.
    pub cuts_next: bool,
    answered: HashMap<(SessionId, CallId), Vec<u8>>,
    /// Operation, call, flags of all requests.
    pub calls: Vec<(Op, CallId, u8)>,
    pub abandoned: Vec<BlockId>,
    pub excluded: Vec<DatanodeId>,
    /// Replicas that were reported as bad.
    pub bad: Vec<BadReplicaV1>,
    /// The last stamp that was given out.
    stamp: u64,
    /// Cuts the connection in place of the answer to the next call of this operation.
    pub cuts_at: Option<Op>,
    /// Refuses the calls of an operation with a code.
    pub refuses: Option<(Op, Code)>,
}

#[derive(Debug)]
pub struct FakeNamenode {
    pub server: Server,
    pub state: Arc<Mutex<State>>,
}

impl FakeNamenode {
    pub fn start(nodes: Vec<NodeV1>) -> Self {
        let state = State { nodes, next_block: 1, next_inode: 2, stamp: 1, ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let served = state.clone();
        let server = Server::start(move |connection| serve(&served, connection));
        Self { server, state }
    }

    pub fn uri(&self) -> String {
        format!("ringfs://{}", self.server.address)
    }

    pub fn calls(&self, op: Op) -> Vec<(CallId, u8)> {
        let state = lock(&self.state);
        state.calls.iter().filter(|call| call.0 == op).map(|call| (call.1, call.2)).collect()
    }
}

fn serve(state: &Mutex<State>, mut connection: Connection) -> io::Result<()> {
    loop {
        let (header, meta, _) = connection.next()?;
        let mut state = lock(state);
        state.calls.push((header.op, header.call, header.flags));
        if let Some((_, code)) = state.refuses.filter(|(op, _)| *op == header.op) {
            drop(state);
            connection.refuse(&header, code)?;
            continue;
        }
        if !state.refusals.is_empty() {
            let code = state.refusals.remove(0);
            drop(state);
            connection.refuse(&header, code)?;
            continue;
        }
        let answer = match state.answered.get(&(connection.session, header.call)).cloned() {
            Some(answer) => Ok(answer),
            None => state.answer(header.op, &meta),
        };
        if let Ok(answer) = &answer {
            state.answered.insert((connection.session, header.call), answer.clone());
        }
        let cuts = std::mem::take(&mut state.cuts_next) || state.cuts_at == Some(header.op);
        if cuts {
            state.cuts_at = None;
        }
        drop(state);
        if cuts {
            return connection.stream.shutdown(std::net::Shutdown::Both);
        }
        match answer {
            Ok(answer) => connection.reply(&header, &Encoded(answer), &[])?,
            Err(code) => connection.refuse(&header, code)?,
        }
    }
}

/// A message that is encoded already.
struct Encoded(Vec<u8>);

impl Message for Encoded {
    fn encode_into(&self, bytes: &mut Vec<u8>) {
        bytes.extend(&self.0);
    }

    fn decode(bytes: &[u8]) -> Result<Self, ringfs_proto::wire::DecodeError> {
        Ok(Self(bytes.to_vec()))
    }
}

impl State {
    fn answer(&mut self, op: Op, meta: &[u8]) -> Result<Vec<u8>, Code> {
        match op {
            Op::Stat => {
                let request = decode::<StatRequestV1>(meta)?;
                Ok(self.files.get(&request.path).ok_or(Code::NotFound)?.status.encode())
            }
            Op::List => self.list(&decode(meta)?),
            Op::Create => self.create(&decode(meta)?),
            Op::AddBlock => self.add_block(&decode(meta)?),
            Op::AbandonBlock => {
                let request = decode::<AbandonBlockRequestV1>(meta)?;
                self.abandoned.push(request.block);
                let file = self.file(request.inode)?;
                file.blocks.retain(|(block, _)| block.block != request.block);
                Ok(DoneV1 { index: LogIndex(1) }.encode())
            }
            Op::Complete => self.complete(&decode(meta)?),
            Op::GetBlockLocations => self.locate(&decode(meta)?),
            Op::Delete => {
                let request = decode::<DeleteRequestV1>(meta)?;
                Ok(DeleteReplyV1 { deleted: self.files.remove(&request.path).is_some() }.encode())
            }
            Op::UpdateBlockForPipeline => {
                let request = decode::<UpdateBlockForPipelineRequestV1>(meta)?;
                let present = self.open_block(request.inode, request.block.block)?.0;
                let block = BlockRefV1 { stamp: present.stamp, ..request.block };
                self.stamp += 1;
                let stamp = Stamp(self.stamp);
                Ok(UpdateBlockForPipelineReplyV1 { block, stamp, capability: [0; 64] }.encode())
            }
            Op::RenewLease => Ok(DoneV1 { index: LogIndex(0) }.encode()),
            Op::ReportBadBlocks => {
                self.bad.extend(decode::<ReportBadBlocksRequestV1>(meta)?.replicas);
                Ok(DoneV1 { index: LogIndex(0) }.encode())
            }
            Op::UpdatePipeline => self.update_pipeline(&decode(meta)?),
            Op::AddDatanodes => self.add_datanodes(&decode(meta)?),
            _ => Err(Code::Unsupported),
        }
    }

    /// The open last block of a file.
    fn open_block(&mut self, inode: InodeId, block: BlockId) -> Result<&mut (BlockRefV1, Vec<NodeV1>), Code> {
        let file = self.file(inode)?;
        file.blocks.last_mut().filter(|(known, _)| known.block == block).ok_or(Code::InvalidArgument)
    }

    fn update_pipeline(&mut self, request: &UpdatePipelineRequestV1) -> Result<Vec<u8>, Code> {
        let (newest, all) = (Stamp(self.stamp), self.nodes.clone());
        let (block, nodes) = self.open_block(request.inode, request.old.block)?;
        if request.old.stamp != block.stamp || request.stamp != newest || request.nodes.is_empty() {
            return Err(Code::InvalidArgument);
        }
        block.stamp = request.stamp;
        let known = |replica: &AckedReplicaV1| {
            all.iter().find(|node| node.datanode == replica.datanode).cloned().ok_or(Code::InvalidArgument)
        };
        *nodes = request.nodes.iter().map(known).collect::<Result<_, _>>()?;
        Ok(DoneV1 { index: LogIndex(1) }.encode())
    }

    fn add_datanodes(&mut self, request: &AddDatanodesRequestV1) -> Result<Vec<u8>, Code> {
        self.open_block(request.inode, request.block)?;
        let is_new = |node: &&NodeV1| {
            !request.excluded.contains(&node.datanode)
                && !request.existing.iter().any(|replica| replica.datanode == node.datanode)
        };
        let nodes: Vec<_> =
            self.nodes.iter().filter(is_new).take(usize::from(request.count)).cloned().collect();
        if nodes.is_empty() {
            return Err(Code::NoRoom);
        }
        Ok(AddDatanodesReplyV1 { nodes, capability: [0; 64] }.encode())
    }

    /// The blocks of a file, with the stamp and pipeline that each has now.
    pub fn blocks(&self, path: &str) -> Vec<(BlockRefV1, Vec<NodeV1>)> {
        self.files.get(path).map(|file| file.blocks.clone()).unwrap_or_default()
    }

    fn file(&mut self, inode: InodeId) -> Result<&mut File, Code> {
        self.files.values_mut().find(|file| file.status.inode == inode).ok_or(Code::NotFound)
    }

    fn list(&mut self, request: &ListRequestV1) -> Result<Vec<u8>, Code> {
        // Pages of two, so that small tests have several.
        let after = self.files.iter().filter(|(path, _)| path[1..] > *request.start_after);
        let named =
            after.map(|(path, file)| FileStatusV1 { name: path[1..].to_owned(), ..file.status.clone() });
        let mut entries: Vec<_> = named.collect();
        let remaining = entries.len().saturating_sub(2) as u32;
        entries.truncate(2);
        Ok(ListReplyV1 { entries, remaining }.encode())
    }

    fn create(&mut self, request: &CreateRequestV1) -> Result<Vec<u8>, Code> {
        if self.files.contains_key(&request.path) && !request.overwrite {
            return Err(Code::AlreadyExists);
        }
        self.next_inode += 1;
        let status = FileStatusV1 {
            inode: InodeId(self.next_inode),
            kind: FileKind::File,
            name: String::new(),
            length: 0,
            told_bytes: 0,
            mode: request.mode,
            owner: "me".into(),
            group: "us".into(),
            mtime_ms: 0,
            atime_ms: 0,
            replication: 3,
            block_size: if request.block_size == 0 { 1 << 20 } else { request.block_size },
            children: 0,
            is_open: true,
            version: LogIndex(0),
            content_crc: None,
            has_acl: false,
            storage_policy: 0,
        };
        self.files.insert(request.path.clone(), File { status: status.clone(), blocks: Vec::new() });
        Ok(CreateReplyV1 { status, inline_bytes_max: 0 }.encode())
    }

    fn add_block(&mut self, request: &AddBlockRequestV1) -> Result<Vec<u8>, Code> {
        self.excluded.clone_from(&request.excluded);
        let mut nodes: Vec<_> =
            self.nodes.iter().filter(|node| !request.excluded.contains(&node.datanode)).cloned().collect();
        if nodes.is_empty() {
            return Err(Code::NoRoom);
        }
        if let Some(count) = self.pipeline_nodes {
            nodes.truncate(count);
        }
        let block = BlockRefV1 { block: BlockId(self.next_block), stamp: Stamp(1), length: 0 };
        if self.spreads {
            nodes = vec![nodes[self.next_block as usize % nodes.len()].clone()];
        }
        self.next_block += 1;
        let file = self.file(request.inode)?;
        file.commit(request.previous)?;
        let offset = file.status.length;
        file.blocks.push((block, nodes.clone()));
        let located = LocatedBlockV1 {
            block,
            offset,
            is_open: true,
            nodes,
            are_all_nodes: true,
            is_begun: false,
            capability: [0; 64],
            inline: None,
        };
        Ok(AddBlockReplyV1 { located }.encode())
    }

    fn complete(&mut self, request: &CompleteRequestV1) -> Result<Vec<u8>, Code> {
        let file = self.file(request.inode)?;
        file.commit(request.last)?;
        file.status.is_open = false;
        Ok(file.status.encode())
    }

    fn locate(&mut self, request: &GetBlockLocationsRequestV1) -> Result<Vec<u8>, Code> {
        let file = match &request.file {
            FileRefV1::Path(path) => self.files.get(path).cloned().ok_or(Code::NotFound)?,
            FileRefV1::Inode(inode) => self.file(*inode)?.clone(),
        };
        let mut offset = 0;
        let count = file.blocks.len();
        let mut blocks = Vec::new();
        for (index, (block, nodes)) in file.blocks.into_iter().enumerate() {
            let is_open = file.status.is_open && index + 1 == count;
            let nodes = if self.spreads { nodes } else { self.nodes.clone() };
            let (length, capability) = (block.length, [0; 64]);
            let (are_all_nodes, is_begun) = (!self.hides_nodes, false);
            blocks.push(LocatedBlockV1 {
                block,
                offset,
                is_open,
                nodes,
                are_all_nodes,
                is_begun,
                capability,
                inline: None,
            });
            offset += length;
        }
        Ok(GetBlockLocationsReplyV1 { status: file.status, blocks }.encode())
    }
}

impl File {
    fn commit(&mut self, last: Option<BlockRefV1>) -> Result<(), Code> {
        if let Some(last) = last {
            let block = self.blocks.last_mut().ok_or(Code::InvalidArgument)?;
            if block.0.block != last.block {
                return Err(Code::InvalidArgument);
            }
            block.0.length = last.length;
        }
        self.status.length = self.blocks.iter().map(|(block, _)| block.length).sum();
        Ok(())
    }
}

fn decode<M: Message>(meta: &[u8]) -> Result<M, Code> {
    M::decode(meta).map_err(|_malformed| Code::Malformed)
}
