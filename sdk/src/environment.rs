//! The seams between a client and what is around it: the way to the namenode, time, chance, the session.
//!
//! Nothing that decides in this crate looks at a clock or opens a socket by itself. What [`crate::Client::connect`] makes runs on
//! sockets and the system's clock in the session of the process; tests and simulations bring their own.

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringfs_proto::WireError;
use ringfs_proto::frame::Header;
use ringfs_proto::ids::SessionId;

use crate::driver::wait;
use crate::error::Fault;
use crate::net::session::random;
use crate::transport::Transport;

/// Time and chance, as the retries and loops of a client see them.
pub trait Clock: Send + Sync + Debug {
    /// The time. It never goes back.
    fn now(&self) -> Instant;

    /// Lets time pass.
    fn pause(&self, pause: Duration);

    /// A random number, to spread what many clients do at once.
    fn random(&self) -> u32;
}

/// The clock and the random numbers of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn pause(&self, pause: Duration) {
        wait::pause(pause);
    }

    fn random(&self) -> u32 {
        u32::from_ne_bytes(random())
    }
}

/// The way to the namenode: carries one try of a call.
pub trait Channel: Send + Sync + Debug {
    /// Sends a request frame and returns its answer: header and metadata. `attempt` counts the tries of the call from 0.
    ///
    /// # Errors
    /// No answer came until `until`, or none that can be one. Whether the request arrived is then unknown.
    fn exchange(
        &self,
        attempt: usize,
        frame: &[u8],
        until: Instant,
    ) -> Result<(Header, Vec<u8>), ChannelError>;

    /// Whether the namenode still sees a connection of this client's session, as far as is known without asking it.
    fn is_attached(&self) -> bool {
        true
    }
}

/// Why a try brought no answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ChannelError(pub(crate) Fault);

impl ChannelError {
    /// The namenode cannot be reached, or the connection broke: the call is tried again.
    pub fn unreachable(error: io::Error) -> Self {
        Self(Fault::Io(error))
    }

    /// The namenode said nothing for this long: the call is tried again.
    pub fn silent(waited: Duration) -> Self {
        Self(Fault::Silent(waited.as_millis()))
    }

    /// The namenode refused the connection.
    pub fn refused(error: WireError) -> Self {
        Self(Fault::Wire(error))
    }
}

impl From<Fault> for ChannelError {
    fn from(fault: Fault) -> Self {
        Self(fault)
    }
}

/// Everything that a client stands on, for [`crate::ClientBuilder::build_on`].
#[derive(Debug, Clone)]
pub struct Environment {
    /// The way to the namenode.
    pub channel: Arc<dyn Channel>,
    /// The way to datanodes.
    pub transport: Arc<dyn Transport>,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
    /// The session that calls belong to; it must be new, since its call ids begin at 1.
    pub session: SessionId,
}
