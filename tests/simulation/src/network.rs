//! Streams of bytes between hosts: in order and complete as long as they last, late, cut off by partitions, broken by
//! resets and by hosts that die.
//!
//! A partition holds bytes back; they go on when it heals, unless keepalive has broken the stream before. A reset loses
//! what was on the way, in both directions: the sender cannot know how much has arrived.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::executor::{Executor, HostId, Micros};

/// Bytes on the way in one direction of a stream.
const WINDOW_BYTES: usize = 128 << 10;
/// Silence after which keepalive breaks a stream.
const KEEPALIVE: Micros = 35_000_000;
/// Between two attempts to reach a host that does not answer.
const SYN_RETRY: Duration = Duration::from_millis(500);

/// The network. Clones share it.
#[derive(Clone)]
pub struct Network {
    inner: Rc<Inner>,
}

struct Inner {
    executor: Executor,
    /// Several may share an address: each stream goes to one of them.
    listeners: RefCell<BTreeMap<SocketAddr, Vec<Rc<Backlog>>>>,
    streams: RefCell<Vec<Weak<Stream>>>,
    /// From whom nothing comes to whom.
    cut: RefCell<BTreeSet<(HostId, HostId)>>,
    /// Hosts without power: they do not even refuse.
    dark: RefCell<BTreeSet<HostId>>,
    /// Hosts whose process has made its last step: it sends nothing more.
    ended: RefCell<BTreeSet<HostId>>,
    slow: Cell<u64>,
    next_port: Cell<u16>,
}

#[derive(Default)]
struct Backlog {
    waiting: RefCell<VecDeque<(End, SocketAddr)>>,
    waker: RefCell<Option<Waker>>,
}

struct Stream {
    network: Network,
    hosts: [HostId; 2],
    /// What each end has sent.
    pipes: [RefCell<Pipe>; 2],
    /// When each end sees that the stream is broken.
    broken: [Cell<Option<Micros>>; 2],
    is_closed: [Cell<bool>; 2],
}

#[derive(Default)]
struct Pipe {
    segments: VecDeque<Segment>,
    bytes: usize,
    last_at: Micros,
    end_at: Option<Micros>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Segment {
    at: Micros,
    bytes: Vec<u8>,
    read: usize,
}

/// One end of a stream. Dropping it closes the stream.
pub struct End {
    stream: Rc<Stream>,
    side: usize,
}

/// Accepts streams.
pub struct Listening {
    backlog: Rc<Backlog>,
    /// Where.
    pub address: SocketAddr,
}

/// The address of a host.
pub fn address_of(host: HostId) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(10, 0, 0, host.0 + 1))
}

fn host_of(address: IpAddr) -> Option<HostId> {
    let IpAddr::V4(address) = address else { return None };
    address.octets()[3].checked_sub(1).map(HostId)
}

impl Network {
    /// Without listeners.
    pub fn new(executor: Executor) -> Self {
        let inner = Inner {
            executor,
            listeners: RefCell::default(),
            streams: RefCell::default(),
            cut: RefCell::default(),
            dark: RefCell::default(),
            ended: RefCell::default(),
            slow: Cell::new(1),
            next_port: Cell::new(30_000),
        };
        Self { inner: Rc::new(inner) }
    }

    /// Listens on a port of a host, beside others that do.
    pub fn listen(&self, host: HostId, port: u16) -> Listening {
        let backlog = Rc::new(Backlog::default());
        let address = SocketAddr::new(address_of(host), port);
        self.inner.listeners.borrow_mut().entry(address).or_default().push(backlog.clone());
        Listening { backlog, address }
    }

    /// Connects from a host.
    ///
    /// # Errors
    /// `ConnectionRefused` when nobody listens, `TimedOut` when nobody answers within `deadline`.
    pub async fn connect(&self, from: HostId, to: SocketAddr, deadline: Duration) -> io::Result<End> {
        let executor = &self.inner.executor;
        let until = executor.now() + deadline.as_micros() as Micros;
        let target = host_of(to.ip()).ok_or(ErrorKind::AddrNotAvailable)?;
        loop {
            executor.sleep(Duration::from_micros(2 * self.latency())).await;
            let is_reached = !self.is_cut(from, target) && !self.is_cut(target, from);
            if is_reached && !self.inner.dark.borrow().contains(&target) {
                let listeners = self.inner.listeners.borrow();
                let backlogs = listeners.get(&to).filter(|backlogs| !backlogs.is_empty());
                let backlogs = backlogs.ok_or(ErrorKind::ConnectionRefused)?;
                let backlog = executor.draw(|random| random.pick(backlogs).clone());
                return Ok(self.join(from, target, &backlog));
            }
            if executor.now() >= until {
                return Err(ErrorKind::TimedOut.into());
            }
            let left = Duration::from_micros(until - executor.now());
            executor.sleep(SYN_RETRY.min(left)).await;
        }
    }

    /// Nothing comes from one host to another until [`Network::heal`].
    pub fn cut(&self, from: HostId, to: HostId) {
        self.inner.cut.borrow_mut().insert((from, to));
        let at = self.inner.executor.now() + KEEPALIVE;
        let network = self.clone();
        let timer = self.inner.executor.sleep_until(at);
        // Keepalive is the kernel's: it belongs to no process.
        self.inner.executor.spawn(HostId(u8::MAX), async move {
            timer.await;
            if network.is_cut(from, to) {
                network.break_between(from, to);
            }
        });
    }

    /// Every partition is over.
    pub fn heal(&self) {
        self.inner.cut.borrow_mut().clear();
        for stream in self.streams() {
            stream.pipes.iter().for_each(|pipe| pipe.borrow_mut().wake_reader());
        }
    }

    /// Whether nothing comes from one to the other.
    pub fn is_cut(&self, from: HostId, to: HostId) -> bool {
        self.inner.cut.borrow().contains(&(from, to))
    }

    /// Everything takes so many times as long.
    pub fn set_slow(&self, factor: u64) {
        self.inner.slow.set(factor.max(1));
    }

    /// Breaks one stream that the seed chooses. Returns between whom.
    pub fn reset_one(&self) -> Option<(HostId, HostId)> {
        let streams: Vec<_> = self.streams().into_iter().filter(|stream| !stream.is_over()).collect();
        if streams.is_empty() {
            return None;
        }
        let stream = self.inner.executor.draw(|random| random.pick(&streams).clone());
        stream.break_off(self.inner.executor.now());
        Some((stream.hosts[0], stream.hosts[1]))
    }

    /// The process of a host makes no step any more: what it still does reaches nobody.
    pub fn mute(&self, host: HostId) {
        self.inner.ended.borrow_mut().insert(host);
    }

    /// The processes of a host have ended: its kernel closes what they had open.
    pub fn host_ended(&self, host: HostId) {
        self.forget_listeners(host);
        self.inner.ended.borrow_mut().remove(&host);
        let now = self.inner.executor.now();
        for stream in self.streams_of(host) {
            let side = stream.side_of(host);
            stream.is_closed[side].set(true);
            if self.inner.executor.draw(|random| random.chance(500)) {
                stream.pipes[side].borrow_mut().end(now + self.latency());
            } else {
                stream.break_off(now + self.latency());
            }
        }
    }

    /// A host has lost its power: its peers hear nothing.
    pub fn host_dark(&self, host: HostId) {
        self.forget_listeners(host);
        self.inner.ended.borrow_mut().remove(&host);
        self.inner.dark.borrow_mut().insert(host);
        let at = self.inner.executor.now() + KEEPALIVE;
        self.streams_of(host).iter().for_each(|stream| stream.break_off(at));
    }

    /// A host has power again: it knows none of its old streams, and says so.
    pub fn host_lit(&self, host: HostId) {
        self.inner.dark.borrow_mut().remove(&host);
        for stream in self.streams_of(host) {
            let at = self.inner.executor.now() + self.latency();
            stream.break_off(at);
        }
    }

    fn forget_listeners(&self, host: HostId) {
        let address = address_of(host);
        let gone = {
            let mut listeners = self.inner.listeners.borrow_mut();
            let (gone, kept) =
                std::mem::take(&mut *listeners).into_iter().partition(|(at, _)| at.ip() == address);
            *listeners = kept;
            let gone: BTreeMap<_, _> = gone;
            gone
        };
        // Outside of the borrow: streams that wait in a backlog are closed here.
        drop(gone);
    }

    fn break_between(&self, one: HostId, other: HostId) {
        let now = self.inner.executor.now();
        for stream in self.streams_of(one) {
            if stream.hosts.contains(&other) {
                stream.break_off(now);
            }
        }
    }

    fn join(&self, from: HostId, target: HostId, backlog: &Rc<Backlog>) -> End {
        let stream = Rc::new(Stream {
            network: self.clone(),
            hosts: [from, target],
            pipes: Default::default(),
            broken: Default::default(),
            is_closed: Default::default(),
        });
        let mut streams = self.inner.streams.borrow_mut();
        streams.retain(|stream| stream.strong_count() > 0);
        streams.push(Rc::downgrade(&stream));
        let port = self.inner.next_port.get();
        self.inner.next_port.set(if port == u16::MAX { 30_000 } else { port + 1 });
        let accepted = End { stream: stream.clone(), side: 1 };
        backlog.waiting.borrow_mut().push_back((accepted, SocketAddr::new(address_of(from), port)));
        if let Some(waker) = backlog.waker.borrow_mut().take() {
            waker.wake();
        }
        End { stream, side: 0 }
    }

    fn streams(&self) -> Vec<Rc<Stream>> {
        self.inner.streams.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    fn streams_of(&self, host: HostId) -> Vec<Rc<Stream>> {
        self.streams().into_iter().filter(|stream| stream.hosts.contains(&host)).collect()
    }

    /// How long a segment is on its way: mostly some hundred µs, sometimes much longer.
    fn latency(&self) -> Micros {
        let slow = self.inner.slow.get();
        self.inner.executor.draw(|random| {
            let base = if random.chance(20) { random.range(1000..30_000) } else { random.range(50..300) };
            base * slow
        })
    }
}

impl Listening {
    /// Waits for a stream.
    pub async fn accept(&self) -> (End, SocketAddr) {
        poll_fn(|context| match self.backlog.waiting.borrow_mut().pop_front() {
            Some(accepted) => Poll::Ready(accepted),
            None => {
                *self.backlog.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl Pipe {
    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    fn end(&mut self, at: Micros) {
        self.end_at = Some(self.end_at.unwrap_or(at.max(self.last_at)));
        self.wake_reader();
    }

    fn lose(&mut self) {
        self.segments.clear();
        self.bytes = 0;
        self.wake_reader();
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }
}

impl Stream {
    fn side_of(&self, host: HostId) -> usize {
        usize::from(self.hosts[0] != host)
    }

    fn is_over(&self) -> bool {
        self.broken.iter().any(|broken| broken.get().is_some()) || self.is_closed.iter().any(Cell::get)
    }

    /// Both ends see it from `at` on; what is on the way then is lost.
    fn break_off(self: &Rc<Self>, at: Micros) {
        for broken in &self.broken {
            broken.set(Some(broken.get().map_or(at, |before| before.min(at))));
        }
        let executor = &self.network.inner.executor;
        for pipe in &self.pipes {
            let mut pipe = pipe.borrow_mut();
            for waker in pipe.reader.take().into_iter().chain(pipe.writer.take()) {
                executor.wake_at(at, &waker);
            }
            if at <= executor.now() {
                pipe.lose();
            }
        }
    }

    fn is_broken(&self, side: usize) -> bool {
        self.broken[side].get().is_some_and(|at| at <= self.network.inner.executor.now())
    }
}

impl End {
    /// Between which hosts: this one first.
    pub fn hosts(&self) -> (HostId, HostId) {
        (self.stream.hosts[self.side], self.stream.hosts[1 - self.side])
    }

    /// Receives at least one byte; 0 at the end of the stream.
    ///
    /// # Errors
    /// `ConnectionReset`.
    pub async fn read(&self, target: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_read(target, context)).await
    }

    /// Whether a read would give something at once: bytes, the end, or an error.
    pub fn is_readable(&self) -> bool {
        let pipe = self.stream.pipes[1 - self.side].borrow();
        let now = self.stream.network.inner.executor.now();
        let has_bytes = pipe.segments.front().is_some_and(|segment| segment.at <= now);
        self.stream.is_broken(self.side) || has_bytes || pipe.end_at.is_some_and(|at| at <= now)
    }

    fn poll_read(&self, target: &mut [u8], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let stream = &self.stream;
        if stream.is_closed[self.side].get() {
            return Poll::Ready(Ok(0));
        }
        if stream.is_broken(self.side) {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        let executor = &stream.network.inner.executor;
        let mut pipe = stream.pipes[1 - self.side].borrow_mut();
        let is_cut = stream.network.is_cut(stream.hosts[1 - self.side], stream.hosts[self.side]);
        let next_at = pipe.segments.front().map(|segment| segment.at).or(pipe.end_at).filter(|_| !is_cut);
        match next_at {
            Some(at) if at <= executor.now() => return Poll::Ready(Ok(take(&mut pipe, target))),
            Some(at) => executor.wake_at(at, context.waker()),
            None => {}
        }
        if let Some(at) = stream.broken[self.side].get() {
            executor.wake_at(at, context.waker());
        }
        pipe.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Sends all of `bytes`.
    ///
    /// # Errors
    /// `BrokenPipe`, `ConnectionReset`; how much has arrived is not known.
    pub async fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        poll_fn(|context| self.poll_write(&mut rest, context)).await
    }

    fn poll_write(&self, rest: &mut &[u8], context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &self.stream;
        let network = &stream.network;
        while !rest.is_empty() {
            if stream.is_closed[self.side].get() {
                return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
            }
            if stream.is_broken(self.side) {
                return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
            }
            if network.inner.ended.borrow().contains(&stream.hosts[self.side]) {
                return Poll::Ready(Ok(()));
            }
            let latency = network.latency();
            let executor = &network.inner.executor;
            if stream.is_closed[1 - self.side].get() && stream.broken[self.side].get().is_none() {
                // The other end answers bytes that nobody will read with a reset.
                stream.break_off(executor.now() + 2 * latency);
            }
            let mut pipe = stream.pipes[self.side].borrow_mut();
            if pipe.bytes >= WINDOW_BYTES {
                pipe.writer = Some(context.waker().clone());
                return Poll::Pending;
            }
            let most = rest.len().min(WINDOW_BYTES - pipe.bytes);
            // Mostly in one piece, sometimes cut anywhere.
            let len =
                executor.draw(
                    |random| if random.chance(850) { most } else { 1 + random.below(most as u64) as usize },
                );
            let (now, later) = rest.split_at(len);
            pipe.last_at = pipe.last_at.max(executor.now() + latency);
            let at = pipe.last_at;
            pipe.segments.push_back(Segment { at, bytes: now.to_vec(), read: 0 });
            pipe.bytes += len;
            if let Some(waker) = pipe.reader.take() {
                executor.wake_at(at, &waker);
            }
            *rest = later;
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the stream in both directions.
    pub fn shut_down(&self) {
        let stream = &self.stream;
        if stream.is_closed[self.side].replace(true) {
            return;
        }
        let at = stream.network.inner.executor.now() + stream.network.latency();
        stream.pipes[self.side].borrow_mut().end(at);
        stream.pipes[1 - self.side].borrow_mut().lose();
    }
}

fn take(pipe: &mut Pipe, target: &mut [u8]) -> usize {
    let Some(segment) = pipe.segments.front_mut() else { return 0 };
    let len = target.len().min(segment.bytes.len() - segment.read);
    target[..len].copy_from_slice(&segment.bytes[segment.read..segment.read + len]);
    segment.read += len;
    let is_done = segment.read == segment.bytes.len();
    pipe.bytes -= len;
    if is_done {
        pipe.segments.pop_front();
    }
    if let Some(waker) = pipe.writer.take() {
        waker.wake();
    }
    len
}

impl Drop for End {
    fn drop(&mut self) {
        if !self.stream.network.inner.ended.borrow().contains(&self.stream.hosts[self.side]) {
            self.shut_down();
        }
    }
}
