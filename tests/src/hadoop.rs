//! A bare HDFS client: calls and packets by hand.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use prost::{Message, Name};
use ringfs_hadoop::calls::{self, CLIENT_PROTOCOL};
use ringfs_hadoop::packets::{self, Packet};
use ringfs_hadoop::transfer::{BlockOpResponse, PipelineAck};

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
        stream.write_all(&calls::beginning(client, user)).expect("sent");
        Self { stream, client, next_call: 0 }
    }

    /// Sends a call; returns its number.
    pub fn send(&mut self, protocol: &str, method: &str, request: &[u8]) -> i32 {
        let call = self.next_call;
        self.next_call += 1;
        let mut frame = Vec::new();
        calls::append_call(&mut frame, self.client, call, protocol, method, request);
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
        let answer = calls::decode_answer(&frame).expect("an answer");
        Ok((answer.call, answer.result.map(<[u8]>::to_vec)))
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
