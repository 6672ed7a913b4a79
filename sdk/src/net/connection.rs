//! One native connection: made with a hello; sends and receives within deadlines. Its socket never blocks.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ringfs_proto::frame::{self, Header};
use ringfs_proto::hello::{
    self, HELLO_PREFIX_BYTES, HelloReplyV1, HelloV1, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, Prefix, Role,
};
use ringfs_proto::ids::{CallId, ClusterId};
use ringfs_proto::limits::{FRAME_HEADER_BYTES, META_BYTES_MAX};
use ringfs_proto::ops::Operation;
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};

use super::inbox::Inbox;
use super::session::Session;
use crate::driver::fiber;
use crate::driver::process::{Socket, watch_forks};
use crate::driver::wait::{self, Interest};
use crate::error::Fault;

/// Taken off the socket at once where no payload can follow.
const READ_BYTES: usize = 16 << 10;

/// Who calls, and how patiently.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub user: String,
    pub connect_timeout: Duration,
    pub io_timeout: Duration,
    /// How long a pipeline may be silent before its nodes are asked whether they live.
    pub pipeline_timeout: Duration,
    pub job_tag: u32,
}

/// A connection at a frame boundary, or in the middle of a call of its only user.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: Socket,
    address: SocketAddr,
    pub inbox: Inbox,
    /// Encoded frames that wait to be sent; empty at a frame boundary, and kept for its memory.
    pub out: Vec<u8>,
    /// Calls on this connection to a datanode have ids of their own: they are never retried under the same id.
    last_call: u64,
}

impl Connection {
    /// Connects and exchanges hellos.
    pub fn open(address: SocketAddr, caller: &Caller) -> Result<Self, Fault> {
        watch_forks();
        let until = Instant::now() + caller.connect_timeout;
        let mut connection = Self {
            socket: connect(address, until)?,
            address,
            inbox: Inbox::default(),
            out: Vec::new(),
            last_call: 0,
        };
        connection.greet(caller, until)?;
        Ok(connection)
    }

    fn greet(&mut self, caller: &Caller, until: Instant) -> Result<(), Fault> {
        let hello = HelloV1 {
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION_MAX,
            role: Role::Client,
            features: 0,
            session: Session::current().id(),
            cluster: ClusterId::default(),
            user: caller.user.clone(),
            auth_scheme: 0,
            credentials: Vec::new(),
        };
        self.send(&mut [IoSlice::new(&hello::encode_hello(&hello))], until)?;
        self.receive_until(HELLO_PREFIX_BYTES, until)?;
        let prefix = self.inbox.filled().first_chunk().ok_or_else(|| cut("hello"))?;
        let prefix = Prefix::decode(prefix, true)?;
        self.receive_until(HELLO_PREFIX_BYTES + prefix.body_len, until)?;
        let body = self.inbox.filled().get(HELLO_PREFIX_BYTES..HELLO_PREFIX_BYTES + prefix.body_len);
        let reply: HelloReplyV1 = prefix.decode_body(body.unwrap_or_default())?;
        self.inbox.consume(HELLO_PREFIX_BYTES + prefix.body_len);
        if reply.code != 0 {
            return Err(WireError::new(Code::from_u16(reply.code), reply.message).into());
        }
        Ok(())
    }

    /// The stream, for waiting.
    pub fn stream(&self) -> io::Result<&TcpStream> {
        self.socket.stream()
    }

    /// The peer.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// An id for a call that is answered on this connection or never.
    pub fn next_call(&mut self) -> CallId {
        self.last_call += 1;
        CallId(self.last_call)
    }

    /// Whether nothing is half sent or half received, in the process that opened it.
    pub fn is_at_boundary(&self) -> bool {
        self.inbox.filled().is_empty() && self.out.is_empty() && self.stream().is_ok()
    }

    /// Whether an idle connection can take another call: the peer is there and has said nothing.
    pub fn is_idle_and_alive(&self) -> bool {
        let Ok(stream) = self.stream() else { return false };
        let mut byte = [0];
        let is_silent = matches!(stream.peek(&mut byte), Err(error) if error.kind() == ErrorKind::WouldBlock);
        is_silent && self.inbox.filled().is_empty()
    }

    /// Makes one call and waits for its only answer. `until` bounds this try.
    pub fn call<O: Operation>(
        &mut self,
        header: Header,
        request: &O::Request,
        until: Instant,
    ) -> Result<O::Reply, Fault> {
        self.ask::<O>(header, request, until)?;
        self.answer::<O>(header, until)
    }

    /// Sends a request.
    pub fn ask<O: Operation>(
        &mut self,
        header: Header,
        request: &O::Request,
        until: Instant,
    ) -> Result<(), Fault> {
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let header = Header { op: O::OP, op_version: O::VERSION, ..header };
        frame::append(&mut out, header, 0, |meta| request.encode_into(meta));
        let sent = self.send(&mut [IoSlice::new(&out)], until);
        out.clear();
        self.out = out;
        sent
    }

    /// Waits for the answer to the request with this header; after `Silent` it may be waited for again.
    pub fn answer<O: Operation>(&mut self, header: Header, until: Instant) -> Result<O::Reply, Fault> {
        let header = Header { op: O::OP, ..header };
        let (reply, end) = self.receive_frame(until)?;
        let meta = self.inbox.filled().get(FRAME_HEADER_BYTES..end).unwrap_or_default();
        let result = decode_reply::<O>(&header, &reply, meta);
        self.inbox.consume(end);
        result
    }

    /// Sends a request that is encoded already, and returns its answer.
    pub fn exchange(&mut self, frame: &[u8], until: Instant) -> Result<(Header, Vec<u8>), Fault> {
        let head = frame.first_chunk().ok_or_else(|| Fault::Protocol("no request".to_owned()))?;
        let request = Header::decode(head, META_BYTES_MAX)?;
        self.send(&mut [IoSlice::new(frame)], until)?;
        let (reply, end) = self.receive_frame(until)?;
        check_answer(&request, &reply)?;
        let meta = self.inbox.filled().get(FRAME_HEADER_BYTES..end).unwrap_or_default().to_vec();
        self.inbox.consume(end);
        Ok((reply, meta))
    }

    /// Waits for a frame without payload: its header, and where it ends in the inbox.
    fn receive_frame(&mut self, until: Instant) -> Result<(Header, usize), Fault> {
        loop {
            if let Some((reply, meta)) = self.inbox.frame()? {
                return Ok((reply, FRAME_HEADER_BYTES + meta.len()));
            }
            self.receive_more(until)?;
        }
    }

    /// Sends all of `slices`.
    pub fn send(&self, slices: &mut [IoSlice<'_>], until: Instant) -> Result<(), Fault> {
        let begin = Instant::now();
        let mut slices = slices;
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            match self.try_send(slices)? {
                Some(len) => IoSlice::advance_slices(&mut slices, len),
                None => self.wait(false, true, begin, until)?,
            }
        }
        Ok(())
    }

    /// Sends what the socket takes now; `None` when it takes nothing.
    pub fn try_send(&self, slices: &[IoSlice<'_>]) -> Result<Option<usize>, Fault> {
        let stream = self.stream()?;
        // A socket that takes everything would keep a reactor's thread.
        fiber::breathe();
        // A peer that is gone is an error of this call, not a signal to the process.
        not_ready(SockRef::from(stream).send_vectored_with_flags(slices, libc::MSG_NOSIGNAL))
    }

    /// Receives what is there now; `None` when there is nothing.
    pub fn try_receive(&self, slices: &mut [IoSliceMut<'_>]) -> Result<Option<usize>, Fault> {
        let mut stream = self.stream()?;
        match not_ready(stream.read_vectored(slices))? {
            Some(0) => Err(cut("answer")),
            received => Ok(received),
        }
    }

    /// Receives into the inbox what is there now; `false` when there is nothing.
    pub fn try_receive_inbox(&mut self, len: usize) -> Result<bool, Fault> {
        let Self { socket, inbox, .. } = self;
        let mut stream = socket.stream()?;
        match not_ready(stream.read(inbox.space(len)))? {
            Some(0) => Err(cut("answer")),
            Some(len) => {
                inbox.arrived(len);
                Ok(true)
            }
            None => Ok(false),
        }
    }

    /// Waits until the socket can be read or written.
    pub fn wait(&self, read: bool, write: bool, begin: Instant, until: Instant) -> Result<(), Fault> {
        let interest = Interest { stream: self.stream()?, read, write };
        if wait::one(interest, until)? { Ok(()) } else { Err(Fault::Silent(begin.elapsed().as_millis())) }
    }

    fn receive_more(&mut self, until: Instant) -> Result<(), Fault> {
        let begin = Instant::now();
        let len = self.inbox.missing(0)?.max(READ_BYTES);
        while !self.try_receive_inbox(len)? {
            self.wait(true, false, begin, until)?;
        }
        Ok(())
    }

    fn receive_until(&mut self, len: usize, until: Instant) -> Result<(), Fault> {
        while self.inbox.filled().len() < len {
            self.receive_more_raw(len - self.inbox.filled().len(), until)?;
        }
        Ok(())
    }

    fn receive_more_raw(&mut self, len: usize, until: Instant) -> Result<(), Fault> {
        let begin = Instant::now();
        while !self.try_receive_inbox(len)? {
            self.wait(true, false, begin, until)?;
        }
        Ok(())
    }
}

fn check_answer(request: &Header, reply: &Header) -> Result<(), Fault> {
    let is_answer = reply.is_reply() && reply.call == request.call && reply.op == request.op;
    if is_answer && reply.payload_len == 0 {
        return Ok(());
    }
    let text = format!("{} of call {} answers {}", reply.op.name(), reply.call, request.call);
    Err(Fault::Protocol(text))
}

/// The answer to a call, if the frame is one.
pub(crate) fn decode_reply<O: Operation>(
    request: &Header,
    reply: &Header,
    meta: &[u8],
) -> Result<O::Reply, Fault> {
    check_answer(request, reply)?;
    if let Some(error) = frame::reply_error(reply, meta) {
        return Err(error.into());
    }
    Ok(O::Reply::decode(meta)?)
}

/// Connects without a call that blocks.
fn connect(address: SocketAddr, until: Instant) -> Result<Socket, Fault> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    let socket = Socket::new(socket.into())?;
    let stream = socket.stream()?;
    configure(stream)?;
    match SockRef::from(stream).connect(&address.into()) {
        Ok(()) => return Ok(socket),
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    if !wait::one(Interest { stream, read: false, write: true }, until)? {
        return Err(Fault::Io(io::Error::new(ErrorKind::TimedOut, "the connection was not made in time")));
    }
    match stream.take_error()? {
        None => Ok(socket),
        Some(error) => Err(error.into()),
    }
}

fn configure(stream: &TcpStream) -> io::Result<()> {
    // The kernels at both ends answer whether the other host lives: a lease needs no thread here.
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(20))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)
}

fn not_ready(result: io::Result<usize>) -> Result<Option<usize>, Fault> {
    match result {
        Ok(len) => Ok(Some(len)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The peer closed in the middle of something.
pub(crate) fn cut(what: &str) -> Fault {
    Fault::Io(io::Error::new(ErrorKind::UnexpectedEof, format!("the peer closed in the middle of a {what}")))
}
