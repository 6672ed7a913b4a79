//! A pipeline over TCP: packets go out, acknowledgements come in whenever they are there.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::Instant;

use ringfs_proto::frame::{self, Header};
use ringfs_proto::ids::CallId;
use ringfs_proto::limits::FRAME_HEADER_BYTES;
use ringfs_proto::meta::data::{WriteAckV1, WriteOpenRequestV1, WritePacketV1};
use ringfs_proto::ops::{Op, Operation, WriteOpen, WritePacket};
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use super::{AckWait, Pipeline, SetupError, TransportError};
use crate::error::Fault;
use crate::limits::ACKS_WAITING_MAX;
use crate::net::connection::{Caller, Connection};
use crate::net::pool::{Keep, Pool};

/// Room for several acknowledgements.
const READ_BYTES: usize = 4096;

#[derive(Debug)]
pub(crate) struct TcpPipeline {
    connection: Option<Connection>,
    node: SocketAddr,
    call: CallId,
    acks: VecDeque<WriteAckV1>,
    caller: Caller,
    is_finalized: bool,
}

impl TcpPipeline {
    pub fn open(node: SocketAddr, request: &WriteOpenRequestV1, caller: &Caller) -> Result<Self, SetupError> {
        let first_failed =
            |fault| SetupError { failed_node: 0, source: TransportError::from_fault(node, fault) };
        let mut checkout = Pool::current().checkout(node, caller).map_err(first_failed)?;
        let mut call = checkout.connection.next_call();
        let mut opened = set_up(&mut checkout.connection, call, request, caller);
        if checkout.was_idle && matches!(&opened, Err(fault) if fault.is_connection()) {
            // The peer had closed it without our knowing; a request that it never read has created nothing.
            checkout.connection = Connection::open(node, caller).map_err(first_failed)?;
            call = checkout.connection.next_call();
            opened = set_up(&mut checkout.connection, call, request, caller);
        }
        let reply = opened.map_err(first_failed)?;
        if reply.code != 0 {
            let error = WireError::new(Code::from_u16(reply.code), reply.message);
            Pool::current().give_back(checkout.connection, caller, Keep::Briefly);
            let source = TransportError::refused(node, error);
            return Err(SetupError { failed_node: reply.failed_node as usize, source });
        }
        let (connection, acks) = (Some(checkout.connection), VecDeque::new());
        Ok(Self { connection, node, call, acks, caller: caller.clone(), is_finalized: false })
    }

    fn try_send(&mut self, packet: &WritePacketV1, checksums: &[u8], data: &[u8]) -> Result<(), Fault> {
        let mut head = std::mem::take(&mut self.connection()?.out);
        head.clear();
        let header = Header {
            job_tag: self.caller.job_tag,
            op_version: WritePacket::VERSION,
            ..Header::request(Op::WritePacket, self.call)
        };
        frame::append(&mut head, header, checksums.len() + data.len(), |meta| packet.encode_into(meta));
        let sent = self.send_slices([&head, checksums, data]);
        head.clear();
        if let Some(connection) = &mut self.connection {
            connection.out = head;
        }
        sent
    }

    fn send_slices(&mut self, slices: [&[u8]; 3]) -> Result<(), Fault> {
        let mut slices = slices.map(IoSlice::new);
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        let mut since = Instant::now();
        while !left.is_empty() {
            match self.connection()?.try_send(left)? {
                Some(len) => {
                    IoSlice::advance_slices(&mut left, len);
                    since = Instant::now();
                }
                None => {
                    // Acknowledgements are taken meanwhile: a node that cannot send them may not read on.
                    let until = since + self.caller.io_timeout;
                    self.connection()?.wait(true, true, since, until)?;
                    self.take_acks()?;
                }
            }
        }
        Ok(())
    }

    /// Decodes what has arrived. Returns whether anything had.
    fn take_acks(&mut self) -> Result<bool, Fault> {
        let call = self.call;
        let connection = self.connection.as_mut().ok_or(Fault::Handle("the pipeline has failed"))?;
        let has_received = connection.try_receive_inbox(READ_BYTES)?;
        while let Some((header, meta)) = connection.inbox.frame()? {
            let len = FRAME_HEADER_BYTES + meta.len();
            let ack = decode_ack(&header, meta, call)?;
            connection.inbox.consume(len);
            if self.acks.len() == ACKS_WAITING_MAX {
                return Err(Fault::Protocol("acknowledgements that nobody asked for".to_owned()));
            }
            self.is_finalized |= ack.is_finalized && ack.code == 0;
            self.acks.push_back(ack);
        }
        Ok(has_received)
    }

    fn wait_for_ack(&mut self) -> Result<(), Fault> {
        let since = Instant::now();
        while self.acks.is_empty() {
            if !self.take_acks()? {
                let until = since + self.caller.io_timeout;
                self.connection()?.wait(true, false, since, until)?;
            }
        }
        Ok(())
    }

    fn connection(&mut self) -> Result<&mut Connection, Fault> {
        self.connection.as_mut().ok_or(Fault::Handle("the pipeline has failed"))
    }

    /// A failure ends the pipeline. If the node has said why, that is the better answer.
    fn failed(&mut self, fault: Fault) -> TransportError {
        while matches!(self.take_acks(), Ok(true)) {}
        self.connection = None;
        match self.acks.iter().find(|ack| ack.code != 0) {
            Some(ack) => TransportError::refused(self.node, ack_error(ack)),
            None => TransportError::from_fault(self.node, fault),
        }
    }
}

impl Pipeline for TcpPipeline {
    fn send(&mut self, packet: &WritePacketV1, checksums: &[u8], data: &[u8]) -> Result<(), TransportError> {
        self.try_send(packet, checksums, data).map_err(|fault| self.failed(fault))
    }

    fn next_ack(&mut self, wait: AckWait) -> Result<Option<WriteAckV1>, TransportError> {
        if self.acks.is_empty() {
            let taken = match wait {
                AckWait::No => self.take_acks().map(|_| ()),
                AckWait::Yes => self.wait_for_ack(),
            };
            if let Err(fault) = taken
                && self.acks.is_empty()
            {
                return Err(self.failed(fault));
            }
        }
        let ack = self.acks.pop_front();
        match ack {
            Some(ack) if ack.code != 0 => {
                self.connection = None;
                Err(TransportError::refused(self.node, ack_error(&ack)))
            }
            ack => Ok(ack),
        }
    }
}

impl Drop for TcpPipeline {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take()
            && self.is_finalized
        {
            Pool::current().give_back(connection, &self.caller, Keep::Briefly);
        }
    }
}

fn set_up(
    connection: &mut Connection,
    call: CallId,
    request: &WriteOpenRequestV1,
    caller: &Caller,
) -> Result<<WriteOpen as Operation>::Reply, Fault> {
    let header = Header { job_tag: caller.job_tag, ..Header::request(Op::WriteOpen, call) };
    connection.call::<WriteOpen>(header, request, Instant::now() + caller.io_timeout)
}

fn decode_ack(header: &Header, meta: &[u8], call: CallId) -> Result<WriteAckV1, Fault> {
    if !header.is_reply() || header.call != call || header.payload_len != 0 {
        return Err(Fault::Protocol(format!("{} of call {} in a pipeline", header.op.name(), header.call)));
    }
    match frame::reply_error(header, meta) {
        Some(error) => Err(error.into()),
        None => Ok(WriteAckV1::decode(meta)?),
    }
}

fn ack_error(ack: &WriteAckV1) -> WireError {
    let code = Code::from_u16(ack.code);
    WireError::new(code, format!("node {} of the pipeline failed: {code}", ack.failed_node))
}
