//! Calls to the namenode: retried until a deadline.
//!
//! A retry keeps the id of its call, so that the namenode answers it from its retry cache if the first try was
//! carried out. A namenode that restarts is a pause.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringfs_proto::frame::{self, Header, flags};
use ringfs_proto::ids::CallId;
use ringfs_proto::ops::Operation;
use ringfs_proto::wire::Message;

use crate::environment::{Channel, ChannelError, Clock};
use crate::error::{Error, Fault, Result};
use crate::net::connection::{Caller, decode_reply};
use crate::net::pool::{Keep, Pool};
use crate::net::session::Session;
use crate::retry::Retries;

/// The namenode of a client.
#[derive(Debug, Clone)]
pub(crate) struct Namenode {
    channel: Arc<dyn Channel>,
    clock: Arc<dyn Clock>,
    /// The session of the client, when it is not that of the process.
    session: Option<Arc<Session>>,
    job_tag: u32,
    deadline: Duration,
}

impl Namenode {
    pub fn new(channel: Arc<dyn Channel>, clock: Arc<dyn Clock>, job_tag: u32, deadline: Duration) -> Self {
        Self { channel, clock, session: None, job_tag, deadline }
    }

    /// In a session of its own.
    pub fn with_session(self, session: Session) -> Self {
        Self { session: Some(Arc::new(session)), ..self }
    }

    /// Calls until there is a final answer or the deadline passes. `operation` and `subject` are for the error.
    pub fn call<O: Operation>(
        &self,
        operation: &'static str,
        subject: &str,
        request: &O::Request,
    ) -> Result<O::Reply> {
        let session = self.session();
        let call = session.begin();
        let until = self.clock.now() + self.deadline;
        let mut retries = Retries::new(until);
        let mut attempt = 0;
        loop {
            let fault = match self.attempt::<O>(session, call.id, attempt, request, until) {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            let Some(pause) = retries.after(&fault, self.clock.now(), self.clock.random()) else {
                return Err(Error::new(operation, subject, fault));
            };
            tracing::debug!(operation, subject, %fault, ?pause, "trying the namenode again");
            attempt += 1;
            self.clock.pause(pause);
        }
    }

    /// Calls once, whatever comes of it, and waits no longer than `timeout`.
    pub fn try_once<O: Operation>(
        &self,
        request: &O::Request,
        timeout: Duration,
    ) -> std::result::Result<O::Reply, Fault> {
        let session = self.session();
        let call = session.begin();
        self.attempt::<O>(session, call.id, 0, request, self.clock.now() + timeout.min(self.deadline))
    }

    /// Whether the namenode still sees a connection of this session, as far as is known.
    pub fn is_attached(&self) -> bool {
        self.channel.is_attached()
    }

    fn session(&self) -> &Session {
        match &self.session {
            Some(session) => session,
            None => Session::current(),
        }
    }

    fn attempt<O: Operation>(
        &self,
        session: &Session,
        call: CallId,
        attempt: usize,
        request: &O::Request,
        until: Instant,
    ) -> std::result::Result<O::Reply, Fault> {
        let left = until.saturating_duration_since(self.clock.now());
        let header = Header {
            flags: if attempt > 0 { flags::RETRY } else { 0 },
            remaining_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
            job_tag: self.job_tag,
            lowest_unanswered: session.lowest_unanswered(),
            op_version: O::VERSION,
            ..Header::request(O::OP, call)
        };
        let mut out = Vec::new();
        frame::append(&mut out, header, 0, |meta| request.encode_into(meta));
        let (reply, meta) =
            self.channel.exchange(attempt, &out, until).map_err(|ChannelError(fault)| fault)?;
        decode_reply::<O>(&header, &reply, &meta)
    }
}

/// The way to the namenode over TCP: one call at a time on a connection.
#[derive(Debug)]
pub(crate) struct TcpChannel {
    addresses: Vec<SocketAddr>,
    caller: Caller,
}

impl TcpChannel {
    pub fn new(addresses: Vec<SocketAddr>, caller: Caller) -> Self {
        Self { addresses, caller }
    }
}

impl Channel for TcpChannel {
    fn exchange(
        &self,
        attempt: usize,
        frame: &[u8],
        until: Instant,
    ) -> std::result::Result<(Header, Vec<u8>), ChannelError> {
        // The namenode's name may have several addresses; a try that fails goes on to the next.
        let address = self.addresses[attempt % self.addresses.len()];
        let pool = Pool::current();
        let mut connection = pool.checkout(address, &self.caller)?.connection;
        let answer = connection.exchange(frame, until.min(Instant::now() + self.caller.io_timeout));
        if answer.is_ok() {
            pool.give_back(connection, &self.caller, Keep::Session);
        }
        Ok(answer?)
    }

    fn is_attached(&self) -> bool {
        let pool = Pool::current();
        self.addresses.iter().any(|address| pool.has_live(*address, &self.caller.user))
    }
}
