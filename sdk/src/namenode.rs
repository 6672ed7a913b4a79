//! Calls to the namenode: one at a time on a connection, retried until a deadline.
//!
//! A retry keeps the id of its call, so that the namenode answers it from its retry cache if the first try was
//! carried out. A namenode that restarts is a pause.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringfs_proto::frame::{Header, flags};
use ringfs_proto::ids::CallId;
use ringfs_proto::ops::Operation;

use crate::driver::wait;
use crate::error::{Error, Fault, Result};
use crate::net::connection::Caller;
use crate::net::pool::{Keep, Pool};
use crate::net::session::{Session, random};
use crate::retry::Retries;

/// The namenode of a client.
#[derive(Debug, Clone)]
pub(crate) struct Namenode {
    addresses: Vec<SocketAddr>,
    caller: Caller,
    deadline: Duration,
}

impl Namenode {
    pub fn new(addresses: Vec<SocketAddr>, caller: Caller, deadline: Duration) -> Self {
        Self { addresses, caller, deadline }
    }

    /// Calls until there is a final answer or the deadline passes. `operation` and `subject` are for the error.
    pub fn call<O: Operation>(
        &self,
        operation: &'static str,
        subject: &str,
        request: &O::Request,
    ) -> Result<O::Reply> {
        let session = Session::current();
        let call = session.begin();
        let until = Instant::now() + self.deadline;
        let mut retries = Retries::new(until);
        let mut attempt = 0;
        loop {
            let fault = match self.attempt::<O>(session, call.id, attempt, request, until) {
                Ok(reply) => return Ok(reply),
                Err(fault) => fault,
            };
            let random = u32::from_ne_bytes(random());
            let Some(pause) = retries.after(&fault, Instant::now(), random) else {
                return Err(Error::new(operation, subject, fault));
            };
            tracing::debug!(operation, subject, %fault, ?pause, "trying the namenode again");
            attempt += 1;
            wait::pause(pause);
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
        // The namenode's name may have several addresses; a try that fails goes on to the next.
        let address = self.addresses[attempt % self.addresses.len()];
        let pool = Pool::current();
        let mut checkout = pool.checkout(address, &self.caller)?;
        let now = Instant::now();
        let left = until.saturating_duration_since(now);
        let header = Header {
            flags: if attempt > 0 { flags::RETRY } else { 0 },
            remaining_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
            job_tag: self.caller.job_tag,
            lowest_unanswered: session.lowest_unanswered(),
            ..Header::request(O::OP, call)
        };
        let result = checkout.connection.call::<O>(header, request, now + left.min(self.caller.io_timeout));
        if !matches!(&result, Err(fault) if fault.is_connection()) {
            pool.give_back(checkout.connection, &self.caller, Keep::Session);
        }
        result
    }
}
