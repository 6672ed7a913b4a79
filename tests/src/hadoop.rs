//! A bare HDFS client: calls and packets by hand.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use prost::{Message, Name};
use ringfs_hadoop::frames::{CONTEXT_CALL, MAGIC, VERSION};
use ringfs_hadoop::packets::{self, Packet};
use ringfs_hadoop::rpc::{
    IpcConnectionContext, Operation, RequestHeader, RpcKind, RpcRequestHeader, RpcResponseHeader, RpcStatus,
    UserInformation,
};
use ringfs_hadoop::transfer::{BlockOpResponse, PipelineAck};

/// `ClientProtocol`.
pub const CLIENT_PROTOCOL: &str = "org.apache.hadoop.hdfs.protocol.ClientProtocol";
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a call is answered: the response, or class and message of an exception.
pub type Answered = Result<Vec<u8>, (String, String)>;

/// A connection of Hadoop RPC.
#[derive(Debug)]
pub struct HadoopRpc {
    /// Its stream.
    pub stream: TcpStream,
    client: [u8; 16],
    next_call: i32,
}

/// The bytes that a connection begins with.
pub fn beginning(client: [u8; 16], user: &str) -> Vec<u8> {
    let mut bytes = [&MAGIC[..], &[VERSION, 0, 0]].concat();
    let user_info = UserInformation { effective_user: Some(user.to_owned()), real_user: None };
    let context =
        IpcConnectionContext { user_info: Some(user_info), protocol: Some(CLIENT_PROTOCOL.to_owned()) };
    let header = header(client, CONTEXT_CALL);
    append_frame(
        &mut bytes,
        &[&header.encode_length_delimited_to_vec(), &context.encode_length_delimited_to_vec()],
    );
    bytes
}

/// The bytes of a call.
pub fn call_frame(client: [u8; 16], call: i32, protocol: &str, method: &str, request: &[u8]) -> Vec<u8> {
    let method = RequestHeader {
        method_name: method.to_owned(),
        declaring_class_protocol_name: protocol.to_owned(),
        client_protocol_version: 1,
    };
    let mut length = Vec::new();
    prost::encoding::encode_varint(request.len() as u64, &mut length);
    let header = header(client, call).encode_length_delimited_to_vec();
    let mut bytes = Vec::new();
    append_frame(&mut bytes, &[&header, &method.encode_length_delimited_to_vec(), &length, request]);
    bytes
}

fn header(client: [u8; 16], call: i32) -> RpcRequestHeader {
    RpcRequestHeader {
        rpc_kind: Some(RpcKind::RpcProtocolBuffer as i32),
        rpc_op: Some(Operation::RpcFinalPacket as i32),
        call_id: call,
        client_id: client.to_vec().into(),
        retry_count: Some(0),
        ..RpcRequestHeader::default()
    }
}

fn append_frame(bytes: &mut Vec<u8>, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    bytes.extend((length as u32).to_be_bytes());
    parts.iter().for_each(|part| bytes.extend_from_slice(part));
}

impl HadoopRpc {
    /// Connects on behalf of a user, as a process of its own.
    pub fn connect(address: SocketAddr, user: &str) -> Self {
        let mut client = [0; 16];
        getrandom::fill(&mut client).expect("random bytes");
        Self::connect_as(address, user, client)
    }

    /// Connects as a process that was connected before.
    pub fn connect_as(address: SocketAddr, user: &str, client: [u8; 16]) -> Self {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("set");
        stream.write_all(&beginning(client, user)).expect("sent");
        Self { stream, client, next_call: 0 }
    }

    /// Sends a call; returns its number.
    pub fn send(&mut self, protocol: &str, method: &str, request: &[u8]) -> i32 {
        let call = self.next_call;
        self.next_call += 1;
        let frame = call_frame(self.client, call, protocol, method, request);
        self.stream.write_all(&frame).expect("sent");
        call
    }

    /// The next answer, with the number of its call.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn receive(&mut self) -> io::Result<(i32, Answered)> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame)?;
        let mut rest = &frame[..];
        let header = RpcResponseHeader::decode_length_delimited(&mut rest).expect("a header");
        let answered = match header.status() {
            RpcStatus::Success => {
                let length = prost::encoding::decode_varint(&mut rest).expect("a length");
                assert_eq!(rest.len() as u64, length, "clients refuse anything behind the response");
                Ok(rest.to_vec())
            }
            RpcStatus::Error | RpcStatus::Fatal => {
                assert!(rest.is_empty(), "clients refuse anything behind an error");
                Err((header.exception_class_name().to_owned(), header.error_msg().to_owned()))
            }
        };
        Ok((header.call_id.cast_signed(), answered))
    }

    /// Makes a call of `ClientProtocol`.
    ///
    /// # Errors
    /// Class and message.
    pub fn call<Q: Message, R: Message + Default>(
        &mut self,
        method: &str,
        request: &Q,
    ) -> Result<R, (String, String)> {
        let call = self.send(CLIENT_PROTOCOL, method, &request.encode_to_vec());
        let (answered, result) = self.receive().expect("an answer");
        assert_eq!(answered, call);
        result.map(|response| R::decode(&response[..]).expect("a response"))
    }
}

/// A connection of data transfer.
#[derive(Debug)]
pub struct Transfer {
    /// Its stream.
    pub stream: TcpStream,
}

impl Transfer {
    /// Connects.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("set");
        Self { stream }
    }

    /// Begins an operation.
    pub fn begin(&mut self, operation: packets::Operation, message: &impl Message) -> BlockOpResponse {
        let mut bytes = packets::VERSION.to_be_bytes().to_vec();
        bytes.push(operation as u8);
        packets::append(&mut bytes, message);
        self.stream.write_all(&bytes).expect("sent");
        self.message().expect("an answer")
    }

    /// Receives a message behind its length.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn message<M: Message + Name + Default>(&mut self) -> io::Result<M> {
        let mut length = packets::Varint::default();
        let len = loop {
            let mut byte = [0];
            self.stream.read_exact(&mut byte)?;
            if let Some(len) = length.push(byte[0]).expect("a length") {
                break len;
            }
        };
        let mut message = vec![0; len];
        self.stream.read_exact(&mut message)?;
        Ok(packets::decode("a message", &message).expect("a message"))
    }

    /// Sends a packet.
    pub fn send(&mut self, sequence: i64, offset: u64, checksums: &[u8], data: &[u8], is_last: bool) {
        let packet = Packet {
            sequence,
            offset,
            data_len: data.len(),
            checksums_len: checksums.len(),
            is_last,
            is_sync: false,
        };
        let mut bytes = Vec::new();
        packets::append_packet_head(&mut bytes, &packet);
        bytes.extend(checksums);
        bytes.extend(data);
        self.stream.write_all(&bytes).expect("sent");
    }

    /// The next ack.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn ack(&mut self) -> io::Result<PipelineAck> {
        self.message()
    }
}
