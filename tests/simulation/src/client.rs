//! What a client of the SDK stands on: connections to servers over simulated streams, the time of the simulation.
//!
//! Retries, plans, windows and verification are the SDK's own; here are connections, one call at a time on each.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future;
use ringfs_proto::frame::{self, Header};
use ringfs_proto::hello::{self, HelloReplyV1, HelloV1, PROTOCOL_VERSION_MAX, PROTOCOL_VERSION_MIN, Role};
use ringfs_proto::ids::{CallId, ClusterId, SessionId};
use ringfs_proto::limits::META_BYTES_MAX;
use ringfs_proto::ops::Operation;
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};
use ringfs_sdk::environment::{Channel, ChannelError, Clock, Environment};
use ringfs_sdk::{Client, ClientBuilder};

use crate::coroutine::{can_wait, wait};
use crate::executor::{Executor, HostId, Micros};
use crate::namenode;
use crate::network::{Network, address_of};
use crate::one_thread::OneThread;
use crate::transport::Wires;
use crate::wire::Wire;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a peer may be silent while an answer is due.
pub const IO_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a client survives a namenode that does not answer.
const DEADLINE: Duration = Duration::from_secs(40);
/// A try that is given up early goes on in the network, while the next is made: the two may arrive in any order.
const IMPATIENT_PERMILLE: u64 = 15;

/// Where a client runs.
#[derive(Clone)]
pub struct Place {
    /// Its host.
    pub host: HostId,
    /// Runs it.
    pub executor: Executor,
    /// Its streams.
    pub network: Network,
    /// The namenode's host.
    pub namenode: HostId,
    /// When the simulation began, for those who count in `Instant`s.
    pub epoch: Instant,
    /// The session of its calls.
    pub session: SessionId,
}

/// Makes a client. It may be used inside of coroutines of its host.
///
/// # Panics
/// If the SDK refuses its own defaults.
pub fn connect(place: &Place, builder: ClientBuilder) -> Client {
    let address = SocketAddr::new(address_of(place.namenode), namenode::PORT);
    let environment = Environment {
        channel: Arc::new(SimulatedChannel(OneThread::new(Calls::new(place)))),
        transport: Arc::new(Wires::new(place)),
        clock: Arc::new(SimulatedClock(OneThread::new(place.clone()))),
        session: place.session,
    };
    let builder = builder.deadline(DEADLINE).user("ann");
    builder.build_on(environment, &format!("ringfs://{address}")).expect("the options are the defaults")
}

impl Place {
    fn instant(&self, at: Micros) -> Instant {
        self.epoch + Duration::from_micros(at)
    }

    /// Connects and says hello.
    pub(crate) async fn open(&self, address: SocketAddr) -> io::Result<Wire> {
        let mut wire = Wire::new(self.network.connect(self.host, address, CONNECT_TIMEOUT).await?);
        let hello = HelloV1 {
            version_min: PROTOCOL_VERSION_MIN,
            version_max: PROTOCOL_VERSION_MAX,
            role: Role::Client,
            features: 0,
            session: self.session,
            cluster: ClusterId::default(),
            user: "ann".to_owned(),
            auth_scheme: 0,
            credentials: Vec::new(),
        };
        let greeting = async {
            wire.end.write_all(&hello::encode_hello(&hello)).await?;
            wire.hello::<HelloReplyV1>(true).await
        };
        let reply = self.within(IO_TIMEOUT, greeting).await?;
        if reply.code != 0 {
            return Err(io::Error::other(reply.message));
        }
        Ok(wire)
    }

    /// Gives up after a while.
    pub(crate) async fn within<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let late = async {
            self.executor.sleep(deadline).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        future::or(work, late).await
    }
}

/// Makes one call on a connection.
pub(crate) async fn call<O: Operation>(
    wire: &mut Wire,
    id: CallId,
    request: &O::Request,
) -> io::Result<Result<O::Reply, WireError>> {
    let header = Header { op_version: O::VERSION, ..Header::request(O::OP, id) };
    let mut out = Vec::new();
    frame::append(&mut out, header, 0, |meta| request.encode_into(meta));
    wire.end.write_all(&out).await?;
    let (reply, meta) = wire.frame(META_BYTES_MAX).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    if reply.call != id {
        return Err(io::Error::other(format!("an answer to call {}, not to {id}", reply.call)));
    }
    match frame::reply_error(&reply, &meta) {
        Some(error) => Ok(Err(error)),
        None => O::Reply::decode(&meta).map(Ok).map_err(io::Error::other),
    }
}

#[derive(Debug)]
struct SimulatedClock(OneThread<Place>);

impl Clock for SimulatedClock {
    fn now(&self) -> Instant {
        let place = self.0.get();
        place.instant(place.executor.now())
    }

    fn pause(&self, pause: Duration) {
        if can_wait() {
            wait(self.0.get().executor.sleep(pause));
        }
    }

    fn random(&self) -> u32 {
        self.0.get().executor.draw(|random| random.number() as u32)
    }
}

/// The connections of a client to the namenode.
struct Calls {
    place: Place,
    idle: RefCell<Vec<Wire>>,
    /// Connections on which an answer was given up: what was sent still arrives.
    given_up: RefCell<Vec<Wire>>,
}

impl Calls {
    fn new(place: &Place) -> Self {
        Self { place: place.clone(), idle: RefCell::default(), given_up: RefCell::default() }
    }

    async fn exchange(&self, bytes: &[u8], until: Micros) -> io::Result<(Header, Vec<u8>)> {
        let Place { executor, .. } = &self.place;
        let idle = loop {
            match self.idle.borrow_mut().pop() {
                Some(wire) if wire.is_at_boundary() && !wire.end.is_readable() => break Some(wire),
                Some(_) => {}
                None => break None,
            }
        };
        let mut wire = match idle {
            Some(wire) => wire,
            None => self.place.open((address_of(self.place.namenode), namenode::PORT).into()).await?,
        };
        let is_impatient = executor.draw(|random| random.chance(IMPATIENT_PERMILLE));
        let patience = if is_impatient { Duration::from_micros(300) } else { IO_TIMEOUT };
        let left = Duration::from_micros(until.saturating_sub(executor.now())).min(patience);
        let answer = async {
            wire.end.write_all(bytes).await?;
            wire.frame(META_BYTES_MAX).await?.ok_or(io::ErrorKind::UnexpectedEof.into())
        };
        let answered = self.place.within(left, answer).await;
        match &answered {
            Ok(_) => self.idle.borrow_mut().push(wire),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => self.give_up(wire),
            Err(_) => {}
        }
        answered
    }

    fn give_up(&self, wire: Wire) {
        let mut given_up = self.given_up.borrow_mut();
        if given_up.len() >= 4 {
            given_up.remove(0);
        }
        given_up.push(wire);
    }
}

#[derive(Debug)]
struct SimulatedChannel(OneThread<Calls>);

impl Channel for SimulatedChannel {
    fn exchange(
        &self,
        _attempt: usize,
        frame: &[u8],
        until: Instant,
    ) -> Result<(Header, Vec<u8>), ChannelError> {
        if !can_wait() {
            return Err(ChannelError::unreachable(io::ErrorKind::Interrupted.into()));
        }
        let calls = self.0.get();
        let until = until.saturating_duration_since(calls.place.epoch).as_micros() as Micros;
        wait(calls.exchange(frame, until)).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => ChannelError::silent(IO_TIMEOUT),
            io::ErrorKind::InvalidData => {
                ChannelError::refused(WireError::new(Code::Malformed, error.to_string()))
            }
            _ => ChannelError::unreachable(error),
        })
    }
}

/// Idle connections to datanodes.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<BTreeMap<SocketAddr, Vec<Wire>>>,
}

impl Pool {
    /// An idle connection, or a new one.
    pub async fn checkout(&self, place: &Place, address: SocketAddr) -> io::Result<Wire> {
        loop {
            let idle = self.idle.borrow_mut().get_mut(&address).and_then(Vec::pop);
            match idle {
                Some(wire) if wire.is_at_boundary() && !wire.end.is_readable() => return Ok(wire),
                Some(_) => {}
                None => return place.open(address).await,
            }
        }
    }

    /// Keeps a connection at a frame boundary for later.
    pub fn give_back(&self, address: SocketAddr, wire: Wire) {
        if wire.is_at_boundary() {
            self.idle.borrow_mut().entry(address).or_default().push(wire);
        }
    }
}
