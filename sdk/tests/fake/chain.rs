//! A pipeline of several datanodes in memory: the first carries out what all of them do, in order, and any of them may die
//! at any moment of it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use ringfs_proto::Code;
use ringfs_proto::frame::Header;
use ringfs_proto::ids::{DatanodeId, LogIndex, Stamp};
use ringfs_proto::meta::data::*;
use ringfs_proto::meta::namespace::DoneV1;
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;

use super::datanode::{State, check_packet};
use super::{Connection, lock};

/// When a datanode may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Asked to open a replica, before it does.
    Opening,
    /// It has opened the replica; nobody hears of it.
    Opened,
    /// A packet has reached it and is not written.
    Packet,
    /// A packet is written; its acknowledgement is lost.
    Written,
    /// The replica is finalized; nobody hears of it.
    Finalized,
    /// Asked to copy a replica, before it does.
    Copying,
    /// It has copied a replica; nobody hears of it.
    Copied,
}

impl State {
    /// Passes a moment; fails if it dies at it, or is dead.
    fn pass(&self, moment: Moment) -> Result<(), Code> {
        let mut dies_at = lock(&self.dies_at);
        if let Some((at, left)) = &mut *dies_at
            && *at == moment
        {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.is_dead.store(true, SeqCst);
            }
        }
        drop(dies_at);
        self.live().map_err(|_dead| Code::PipelineFailed)
    }

    fn open(&self, request: &WriteOpenRequestV1) -> Result<(), Code> {
        self.pass(Moment::Opening)?;
        if self.refuses_writes.load(SeqCst) {
            return Err(Code::VolumeFailed);
        }
        let (mut blocks, mut replicas) = (lock(&self.blocks), lock(&self.replicas));
        match request.stage {
            WriteStage::Create => {
                if replicas.contains_key(&request.block) {
                    return Err(Code::ReplicaExists);
                }
                blocks.insert(request.block, Vec::new());
            }
            WriteStage::Recover(RecoverV1 { old_stamp, length }) => {
                let Some((stamp, _)) = replicas.get(&request.block) else { return Err(Code::BlockMissing) };
                if !(old_stamp..=request.stamp).contains(stamp) {
                    return Err(Code::StampMismatch);
                }
                let block = blocks.entry(request.block).or_default();
                if (block.len() as u64) < length {
                    return Err(Code::OutOfRange);
                }
                block.truncate(length as usize);
            }
            WriteStage::Copy | WriteStage::CopyOpen => return Err(Code::Unsupported),
        }
        replicas.insert(request.block, (request.stamp, false));
        drop((blocks, replicas));
        self.pass(Moment::Opened)
    }

    fn write(&self, request: &WriteOpenRequestV1, packet: &WritePacketV1, data: &[u8]) -> Result<(), Code> {
        self.pass(Moment::Packet)?;
        let mut blocks = lock(&self.blocks);
        let mut replicas = lock(&self.replicas);
        let replica = replicas.get_mut(&request.block).ok_or(Code::BlockMissing)?;
        if replica.0 != request.stamp {
            return Err(Code::StampMismatch);
        }
        let block = blocks.entry(request.block).or_default();
        assert_eq!(block.len() as u64, packet.offset, "packets follow each other");
        block.extend(data);
        replica.1 = packet.flags & packet_flags::LAST != 0;
        let is_finalized = replica.1;
        drop((blocks, replicas));
        self.pass(Moment::Written)?;
        if is_finalized { self.pass(Moment::Finalized) } else { Ok(()) }
    }
}

/// The nodes of a request, in order.
fn members(state: &State, nodes: &[PipelineNodeV1]) -> Vec<Arc<State>> {
    let peers = lock(&state.peers);
    let find = |id: DatanodeId| peers.iter().find(|(known, _)| *known == id).map(|(_, peer)| peer.clone());
    nodes.iter().map(|node| find(node.datanode).expect("a datanode of this cluster")).collect()
}

/// What all of `members` do in turn; the index and code of the first that fails. The first one dies with its connection.
fn each(
    members: &[Arc<State>],
    mut act: impl FnMut(&State) -> Result<(), Code>,
) -> io::Result<Result<(), (usize, Code)>> {
    for (index, member) in members.iter().enumerate() {
        if let Err(code) = act(member) {
            members[0].live()?;
            return Ok(Err((index, code)));
        }
    }
    members[0].live()?;
    Ok(Ok(()))
}

pub fn write(state: &State, connection: &mut Connection, header: &Header, meta: &[u8]) -> io::Result<()> {
    let request = WriteOpenRequestV1::decode(meta).map_err(io::Error::other)?;
    let members = members(state, &request.nodes);
    // Replicas are opened from the last node to the first, as real ones answer.
    let reversed: Vec<_> = members.iter().rev().cloned().collect();
    let mut opened = Ok(());
    for (index, member) in reversed.iter().enumerate() {
        if let Err(code) = member.open(&request) {
            opened = Err((members.len() - 1 - index, code));
            break;
        }
    }
    state.live()?;
    let (failed_node, code) = opened.err().map_or((0, 0), |(node, code)| (node as u32, code as u16));
    connection.reply(header, &WriteOpenReplyV1 { code, failed_node, message: "set up".into() }, &[])?;
    if code != 0 {
        return Ok(());
    }
    let mut synced_length = 0;
    loop {
        let (packet_header, meta, payload) = connection.next()?;
        assert_eq!((packet_header.op, packet_header.call), (Op::WritePacket, header.call));
        let packet = WritePacketV1::decode(&meta).map_err(io::Error::other)?;
        check_packet(&packet, &payload);
        lock(&state.packets).push((packet.sequence, packet.offset, packet.data_len, packet.flags));
        let data = &payload[packet.checksums_len as usize..];
        let written = each(&members, |member| member.write(&request, &packet, data))?;
        let length = packet.offset + u64::from(packet.data_len);
        if packet.flags != 0 {
            synced_length = length;
        }
        let (failed_node, code) = written.err().map_or((0, 0), |(node, code)| (node as u32, code as u16));
        let is_finalized = packet.flags & packet_flags::LAST != 0 && code == 0;
        let ack =
            WriteAckV1 { sequence: packet.sequence, length, synced_length, is_finalized, code, failed_node };
        connection.reply(&packet_header, &ack, &[])?;
        if code != 0 {
            return Err(io::Error::other("the pipeline has failed"));
        }
        if is_finalized {
            return Ok(());
        }
    }
}

pub fn transfer(state: &State, connection: &mut Connection, header: &Header, meta: &[u8]) -> io::Result<()> {
    let request = TransferReplicaRequestV1::decode(meta).map_err(io::Error::other)?;
    let block = request.block;
    let copied = state.pass(Moment::Copying).and_then(|()| {
        let data = lock(&state.blocks).get(&block.block).cloned().ok_or(Code::BlockMissing)?;
        let data = data.get(..block.length as usize).ok_or(Code::OutOfRange)?.to_vec();
        let stamp = lock(&state.replicas).get(&block.block).map(|replica| replica.0);
        if stamp.unwrap_or(Stamp(0)) < block.stamp {
            return Err(Code::StampMismatch);
        }
        for target in members(state, &request.targets) {
            target.pass(Moment::Opening)?;
            lock(&target.blocks).insert(block.block, data.clone());
            lock(&target.replicas).insert(block.block, (block.stamp, false));
        }
        state.transfers.fetch_add(1, SeqCst);
        state.pass(Moment::Copied)
    });
    state.live()?;
    match copied {
        Ok(()) => connection.reply(header, &DoneV1 { index: LogIndex(0) }, &[]),
        Err(code) => connection.refuse(header, code),
    }
}
