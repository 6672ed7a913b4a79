//! The native protocol by hand, for tests that say what no client of ours would.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use ringfs_proto::frame::{self, Header};
use ringfs_proto::hello::{self, HELLO_PREFIX_BYTES, HelloReplyV1, HelloV1, Prefix, Role};
use ringfs_proto::ids::{CallId, ClusterId, SessionId};
use ringfs_proto::limits::{FRAME_HEADER_BYTES, META_BYTES_MAX};
use ringfs_proto::ops::Operation;
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use crate::wait::DEADLINE;

/// A connection.
#[derive(Debug)]
pub struct Raw {
    /// The socket.
    pub stream: TcpStream,
    next_call: u64,
}

impl Raw {
    /// Connects, without a word.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        stream.set_write_timeout(Some(DEADLINE)).expect("a timeout");
        Self { stream, next_call: 1 }
    }

    /// Connects and says hello, on behalf of the user that runs the servers.
    pub fn greeted(address: SocketAddr) -> Self {
        Self::greeted_with(address, &hello())
    }

    /// Connects and says hello on behalf of a user.
    pub fn greeted_as(address: SocketAddr, user: &str) -> Self {
        Self::greeted_with(address, &HelloV1 { user: user.to_owned(), ..hello() })
    }

    fn greeted_with(address: SocketAddr, hello: &HelloV1) -> Self {
        let mut raw = Self::connect(address);
        let reply = raw.hello(hello);
        assert_eq!(reply.code, 0, "{}", reply.message);
        raw
    }

    /// Says hello.
    pub fn hello(&mut self, hello: &HelloV1) -> HelloReplyV1 {
        self.stream.write_all(&hello::encode_hello(hello)).expect("sent");
        let mut prefix = [0; HELLO_PREFIX_BYTES];
        self.stream.read_exact(&mut prefix).expect("a reply");
        let prefix = Prefix::decode(&prefix, true).expect("a reply");
        let mut body = vec![0; prefix.body_len];
        self.stream.read_exact(&mut body).expect("a reply");
        prefix.decode_body(&body).expect("a reply")
    }

    /// The bytes of a request.
    pub fn request<O: Operation>(&mut self, request: &O::Request) -> Vec<u8> {
        let header = Header::request(O::OP, CallId(self.next_call));
        self.next_call += 1;
        let mut bytes = Vec::new();
        frame::append(&mut bytes, header, 0, |meta| request.encode_into(meta));
        bytes
    }

    /// Calls.
    ///
    /// # Errors
    /// What the server answers.
    pub fn call<O: Operation>(&mut self, request: &O::Request) -> Result<O::Reply, WireError> {
        let bytes = self.request::<O>(request);
        self.stream.write_all(&bytes).expect("sent");
        let (header, meta, _) = self.receive().expect("an answer");
        match frame::reply_error(&header, &meta) {
            Some(error) => Err(error),
            None => {
                O::Reply::decode(&meta).map_err(|error| WireError::new(Code::Malformed, error.to_string()))
            }
        }
    }

    /// Receives a frame.
    ///
    /// # Errors
    /// When the peer has closed.
    pub fn receive(&mut self) -> io::Result<(Header, Vec<u8>, Vec<u8>)> {
        let mut head = [0; FRAME_HEADER_BYTES];
        self.stream.read_exact(&mut head)?;
        let header = Header::decode(&head, META_BYTES_MAX).map_err(io::Error::other)?;
        let (mut meta, mut payload) =
            (vec![0; header.meta_len as usize], vec![0; header.payload_len as usize]);
        self.stream.read_exact(&mut meta)?;
        self.stream.read_exact(&mut payload)?;
        Ok((header, meta, payload))
    }

    /// Whether the peer closes without another byte.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.stream.read(&mut byte) {
            Ok(len) => len == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

/// A hello of a client of whatever cluster, on behalf of the user that runs the servers.
pub fn hello() -> HelloV1 {
    let mut session = [0; 16];
    getrandom::fill(&mut session).expect("random bytes");
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective()).expect("answered");
    HelloV1 {
        version_min: 1,
        version_max: 1,
        role: Role::Client,
        features: 0,
        session: SessionId(session),
        cluster: ClusterId::default(),
        user: user.expect("the process has a user").name,
        auth_scheme: 0,
        credentials: Vec::new(),
    }
}
