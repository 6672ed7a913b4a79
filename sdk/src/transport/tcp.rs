//! Block data over TCP: one lane per datanode of a batch, all of them in progress at once in the caller's thread.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ringfs_proto::WireError;
use ringfs_proto::checksum::CHECKSUM_BYTES;
use ringfs_proto::frame::Header;
use ringfs_proto::limits::{CHUNK_BYTES_MAX, CHUNK_BYTES_MIN, READ_RANGES_MAX};
use ringfs_proto::meta::admin::PingV1;
use ringfs_proto::meta::data::{
    ReadHint, ReadRangeV1, ReplicaInfoReplyV1, ReplicaInfoRequestV1, TransferReplicaRequestV1,
    WriteOpenRequestV1,
};
use ringfs_proto::ops::{Op, Ping, ReplicaInfo, TransferReplica};

use super::hedge::{Copy, HedgePolicy, Place, copies_of, is_overtaken, take_over};
use super::lane::{Lane, Ranges, Step};
use super::latency::Latencies;
use super::pipeline::TcpPipeline;
use super::stream::TcpStream;
use super::{Fetch, Pipeline, PipelineError, RangeStream, Transport, TransportError};
use crate::driver::process::PerProcess;
use crate::driver::wait::{self, Interest, Waiting};
use crate::error::Fault;
use crate::limits::{RANGE_BYTES_MAX, REQUESTS_AHEAD, TRANSFER_BYTES_PER_SECOND_MIN};
use crate::net::connection::{Caller, Connection};
use crate::net::pool::{Keep, Pool};
use crate::read::part::Target;
use crate::read::range::RangeProgress;

/// Times that a connection which has been idle is replaced by a new one before its node counts as unreachable.
const STALE_TRIES_MAX: usize = 2;

/// Transport over TCP.
#[derive(Debug)]
pub(crate) struct Tcp {
    caller: Caller,
    waiting: Waiting,
    hedging: HedgePolicy,
    latencies: PerProcess<Latencies>,
}

impl Tcp {
    pub fn new(caller: Caller, waiting: Waiting, hedging: HedgePolicy) -> Self {
        Self { caller, waiting, hedging, latencies: PerProcess::new() }
    }
}

impl Transport for Tcp {
    fn fetch(&self, fetches: &mut [Fetch<'_>], hint: ReadHint) {
        let mut nodes = NodeReads::by_node(fetches, hint);
        self.drive(&mut nodes, fetches);
    }

    fn stream(
        &self,
        node: SocketAddr,
        range: ReadRangeV1,
        hint: ReadHint,
    ) -> Result<Box<dyn RangeStream>, TransportError> {
        let stream = TcpStream::open(node, range, hint, &self.caller);
        stream
            .map(|stream| Box::new(stream) as Box<dyn RangeStream>)
            .map_err(|fault| TransportError::from_fault(node, fault))
    }

    fn replica_info(
        &self,
        node: SocketAddr,
        request: &ReplicaInfoRequestV1,
    ) -> Result<ReplicaInfoReplyV1, TransportError> {
        let called = with_connection(node, &self.caller, |connection| {
            let header = Header::request(Op::ReplicaInfo, connection.next_call());
            connection.call::<ReplicaInfo>(header, request, Instant::now() + self.caller.io_timeout)
        });
        called.map_err(|fault| TransportError::from_fault(node, fault))
    }

    fn open_pipeline(
        &self,
        node: SocketAddr,
        request: &WriteOpenRequestV1,
    ) -> Result<Box<dyn Pipeline>, PipelineError> {
        TcpPipeline::open(node, request, &self.caller).map(|pipeline| Box::new(pipeline) as Box<dyn Pipeline>)
    }

    fn transfer_replica(
        &self,
        node: SocketAddr,
        request: &TransferReplicaRequestV1,
    ) -> Result<(), TransportError> {
        // It is answered when all is copied.
        let copying = Duration::from_secs(request.block.length / TRANSFER_BYTES_PER_SECOND_MIN);
        let called = with_connection(node, &self.caller, |connection| {
            let header = Header::request(Op::TransferReplica, connection.next_call());
            let until = Instant::now() + self.caller.io_timeout + copying;
            connection.call::<TransferReplica>(header, request, until)
        });
        called.map(|_done| ()).map_err(|fault| TransportError::from_fault(node, fault))
    }
}

/// Whether a server answers within `timeout`.
pub(super) fn is_alive(node: SocketAddr, caller: &Caller, timeout: Duration) -> bool {
    let patience = Caller {
        connect_timeout: caller.connect_timeout.min(timeout),
        io_timeout: caller.io_timeout.min(timeout),
        ..caller.clone()
    };
    let called = with_connection(node, &patience, |connection| {
        let header = Header::request(Op::Ping, connection.next_call());
        connection.call::<Ping>(header, &PingV1 { echo: 0 }, Instant::now() + patience.io_timeout)
    });
    !matches!(called, Err(fault) if fault.is_connection())
}

/// Makes one call on a pooled connection; on another one if the first had been idle and turns out to be dead.
fn with_connection<T>(
    node: SocketAddr,
    caller: &Caller,
    mut call: impl FnMut(&mut Connection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let pool = Pool::current();
    let mut tries = 0;
    loop {
        let mut checkout = pool.checkout(node, caller)?;
        let result = call(&mut checkout.connection);
        let is_broken = matches!(&result, Err(fault) if fault.is_connection());
        if !is_broken {
            pool.give_back(checkout.connection, caller, Keep::Briefly);
        }
        tries += 1;
        // Silence says nothing about the connection: another one would be silent too.
        let is_stale = is_broken && checkout.was_idle && !matches!(&result, Err(Fault::Silent(_)));
        if !(is_stale && tries < STALE_TRIES_MAX) {
            return result;
        }
    }
}

/// The ranges of one batch that one datanode is asked for.
#[derive(Debug)]
struct NodeReads {
    address: SocketAddr,
    hint: ReadHint,
    /// Indices of the fetches, in the order in which they are asked for.
    order: Vec<usize>,
    /// How many of them have been asked for.
    asked: usize,
    lane: Option<Lane>,
    was_idle: bool,
    tries: usize,
    is_done: bool,
    /// When anything last arrived, and how much had by then.
    heard: (Instant, u64),
    /// When it was asked, until its first byte comes.
    asked_at: Option<Instant>,
    /// How long the first byte took, until it is recorded.
    first_byte_after: Option<Duration>,
    wants_write: bool,
    /// How long it may be silent before another is asked too.
    patience: Option<Duration>,
}

impl NodeReads {
    /// The reads of a batch, by node.
    fn by_node(fetches: &[Fetch<'_>], hint: ReadHint) -> Vec<Self> {
        let mut nodes: Vec<Self> = Vec::new();
        for (index, fetch) in fetches.iter().enumerate() {
            match nodes.iter_mut().find(|node| node.address == fetch.node) {
                Some(node) => node.order.push(index),
                None => nodes.push(Self::new(fetch.node, index, hint)),
            }
        }
        nodes
    }

    /// When it is late, unless something comes before.
    fn late_at(&self) -> Option<Instant> {
        self.patience.filter(|_| !self.is_done).map(|patience| self.heard.0 + patience)
    }

    /// Another has answered in its place: its connection is closed, and no byte of it arrives any more.
    fn overtaken(&mut self, latencies: &Latencies) {
        if let Some(asked) = self.asked_at.take() {
            latencies.record(self.address, asked.elapsed(), 0);
        }
        (self.lane, self.is_done) = (None, true);
    }

    /// Notes the first byte.
    fn note_latency(&mut self) {
        let has_answered = self.lane.as_ref().is_some_and(|lane| lane.received_bytes > 0);
        if has_answered && let Some(asked) = self.asked_at.take() {
            self.first_byte_after = Some(asked.elapsed());
        }
    }

    fn new(address: SocketAddr, first: usize, hint: ReadHint) -> Self {
        let (order, heard) = (vec![first], (Instant::now(), 0));
        Self {
            address,
            hint,
            order,
            asked: 0,
            lane: None,
            was_idle: false,
            tries: 0,
            is_done: false,
            heard,
            asked_at: None,
            first_byte_after: None,
            wants_write: false,
            patience: None,
        }
    }

    /// Does what can be done now. Returns whether to wait for writing too; `None` when all is done.
    fn advance(&mut self, fetches: &mut [Fetch<'_>], caller: &Caller) -> Option<bool> {
        loop {
            let advanced = self.try_advance(fetches, caller);
            self.note_latency();
            match advanced {
                Ok(Some(write)) => return Some(write),
                Ok(None) => {
                    self.finish(fetches, caller);
                    return None;
                }
                Err(fault) if self.is_stale_connection(&fault) => (self.lane, self.asked) = (None, 0),
                Err(fault) => {
                    self.fail(fetches, fault);
                    return None;
                }
            }
        }
    }

    fn try_advance(&mut self, fetches: &mut [Fetch<'_>], caller: &Caller) -> Result<Option<bool>, Fault> {
        let Self { lane, order, asked, .. } = self;
        let lane = match lane {
            Some(lane) => lane,
            None => {
                let checkout = Pool::current().checkout(self.address, caller)?;
                self.was_idle = checkout.was_idle;
                self.tries += 1;
                self.heard = (Instant::now(), 0);
                self.asked_at = Some(self.heard.0);
                lane.insert(Lane::new(checkout.connection))
            }
        };
        loop {
            while lane.calls_open() < REQUESTS_AHEAD && *asked < order.len() {
                let ranges = next_request(&order[*asked..], fetches);
                let first = std::mem::replace(asked, *asked + ranges.len());
                let credit_bytes = whole_payload_bytes(&ranges);
                lane.request(first, ranges, self.hint, credit_bytes);
            }
            match lane.step(&mut Batch { order, fetches, node: self.address })? {
                Step::Idle if *asked == order.len() => return Ok(None),
                Step::Idle => {}
                Step::Wait { write } => {
                    check_silence(lane.received_bytes, &mut self.heard, caller)?;
                    return Ok(Some(write));
                }
                Step::Full => return Err(Fault::Protocol("a part does not fit its range".to_owned())),
            }
        }
    }

    fn is_stale_connection(&self, fault: &Fault) -> bool {
        let has_received = self.lane.as_ref().is_some_and(|lane| lane.received_bytes > 0);
        fault.is_connection()
            && !matches!(fault, Fault::Silent(_))
            && self.was_idle
            && self.lane.is_some()
            && !has_received
            && self.tries < STALE_TRIES_MAX
    }

    fn finish(&mut self, fetches: &mut [Fetch<'_>], caller: &Caller) {
        self.is_done = true;
        for index in &self.order {
            let fetch = &mut fetches[*index];
            let result = fetch.result.take();
            fetch.result = Some(result.unwrap_or_else(|| {
                let short = || Fault::Protocol("a range ended early".to_owned());
                let is_whole = fetch.progress.is_complete();
                if is_whole { Ok(()) } else { Err(TransportError::from_fault(self.address, short())) }
            }));
        }
        if let Some(lane) = self.lane.take() {
            Pool::current().give_back(lane.connection, caller, Keep::Briefly);
        }
    }

    /// The connection is gone, and with it all that was not complete.
    fn fail(&mut self, fetches: &mut [Fetch<'_>], fault: Fault) {
        self.is_done = true;
        let text = fault.to_string();
        let mut cause = Some(fault);
        let current = self.lane.take().and_then(|lane| lane.current());
        // The range that was arriving has the fault itself; the others only lost their connection.
        if let Some(index) = current.and_then(|current| self.order.get(current)) {
            let fault = cause.take().unwrap_or_else(|| Fault::Protocol(text.clone()));
            fetches[*index].result = Some(Err(TransportError::from_fault(self.address, fault)));
        }
        for index in &self.order {
            let fetch = &mut fetches[*index];
            if fetch.result.is_none() {
                let is_whole = fetch.progress.is_complete();
                let mut fault = || cause.take().unwrap_or_else(|| Fault::Protocol(text.clone()));
                let failed =
                    if is_whole { None } else { Some(TransportError::from_fault(self.address, fault())) };
                fetch.result = Some(failed.map_or(Ok(()), Err));
            }
        }
    }
}

fn check_silence(received: u64, heard: &mut (Instant, u64), caller: &Caller) -> Result<(), Fault> {
    let now = Instant::now();
    if heard.1 != received {
        *heard = (now, received);
    }
    let silence = now.duration_since(heard.0);
    if silence < caller.io_timeout { Ok(()) } else { Err(Fault::Silent(silence.as_millis())) }
}

/// The ranges of the next request: as many of `order` as belong into one.
fn next_request(order: &[usize], fetches: &[Fetch<'_>]) -> Vec<ReadRangeV1> {
    let mut ranges: Vec<ReadRangeV1> = Vec::new();
    let mut bytes = 0;
    for index in order {
        let range = &fetches[*index].range;
        bytes += range.length;
        if !ranges.is_empty() && (bytes > RANGE_BYTES_MAX || ranges.len() == READ_RANGES_MAX) {
            break;
        }
        ranges.push(range.clone());
    }
    ranges
}

/// Credit for all of a request at once: a datanode that waits for credit could not take the request behind it. What the
/// node sends goes to the caller's memory, so its amount needs no other bound.
fn whole_payload_bytes(ranges: &[ReadRangeV1]) -> u64 {
    let data = |range: &ReadRangeV1| range.length + 2 * u64::from(CHUNK_BYTES_MAX);
    let data: u64 = ranges.iter().map(data).sum();
    data + data / u64::from(CHUNK_BYTES_MIN) * CHECKSUM_BYTES as u64
}

/// The fetches of one lane, numbered as they are asked for.
struct Batch<'b, 'a> {
    order: &'b [usize],
    fetches: &'b mut [Fetch<'a>],
    node: SocketAddr,
}

impl Ranges for Batch<'_, '_> {
    fn target(&mut self, index: usize) -> Option<(Target<'_>, &mut RangeProgress)> {
        let fetch = self.fetches.get_mut(*self.order.get(index)?)?;
        let target = Target { offset: fetch.progress.begin(), memory: fetch.target, ahead_bytes: 0 };
        Some((target, &mut fetch.progress))
    }

    fn refused(&mut self, index: usize, error: WireError) {
        let fetch = self.order.get(index).and_then(|index| self.fetches.get_mut(*index));
        if let Some(fetch) = fetch {
            fetch.result = Some(Err(TransportError::refused(self.node, error)));
        }
    }
}

impl Tcp {
    /// Drives all nodes until each of their fetches has a result.
    fn drive(&self, nodes: &mut [NodeReads], fetches: &mut [Fetch<'_>]) {
        let latencies = self.latencies.get(Latencies::default);
        for node in nodes.iter_mut() {
            let has_others = node.order.iter().all(|index| fetches[*index].other.is_some());
            node.patience = self.hedging.patience(latencies, node.address).filter(|_| has_others);
        }
        while self.advance(nodes, fetches) {
            let copies = plan_hedge(nodes, fetches, latencies);
            if !copies.is_empty() {
                return self.race(nodes, fetches, copies);
            }
            let late_at = nodes.iter().filter_map(NodeReads::late_at).min();
            self.wait_or_fail(nodes, &[], fetches, late_at);
        }
    }

    /// Does what can be done now. Returns whether there is anything left.
    fn advance(&self, nodes: &mut [NodeReads], fetches: &mut [Fetch<'_>]) -> bool {
        let latencies = self.latencies.get(Latencies::default);
        for node in nodes.iter_mut().filter(|node| !node.is_done) {
            node.wants_write = node.advance(fetches, &self.caller).unwrap_or(false);
            if let Some(latency) = node.first_byte_after.take() {
                latencies.record(node.address, latency, self.hedging.budget_permille);
            }
        }
        nodes.iter().any(|node| !node.is_done)
    }

    /// Reads on from late nodes, and from those that may be faster, until every fetch has a result from either.
    fn race(&self, nodes: &mut [NodeReads], fetches: &mut [Fetch<'_>], copies: Vec<Copy>) {
        tracing::debug!(ranges = copies.len(), "a replica is late: another is asked too");
        let mut copies = copies;
        let places: Vec<Place> = copies.iter().map(|copy| copy.place).collect();
        let mut again: Vec<Fetch<'_>> = copies
            .iter_mut()
            .map(|copy| Fetch::new(copy.node, copy.range.clone(), &mut copy.memory))
            .collect();
        let hint = nodes.first().map_or(ReadHint::Normal, |node| node.hint);
        let mut helpers = NodeReads::by_node(&again, hint);
        while self.advance(nodes, fetches) {
            self.advance(&mut helpers, &mut again);
            for node in nodes.iter_mut().filter(|node| !node.is_done) {
                if is_overtaken(&node.order, fetches, &again, &places) {
                    node.overtaken(self.latencies.get(Latencies::default));
                    take_over(&node.order, fetches, &again, &places);
                }
            }
            if nodes.iter().any(|node| !node.is_done) {
                self.wait_or_fail(nodes, &helpers, fetches, None);
            }
        }
    }

    /// Waits until something can be done, or somebody has been silent for too long, or `late_at`.
    fn wait_or_fail(
        &self,
        nodes: &mut [NodeReads],
        helpers: &[NodeReads],
        fetches: &mut [Fetch<'_>],
        late_at: Option<Instant>,
    ) {
        if let Err(fault) = self.wait(nodes.iter().chain(helpers), late_at) {
            for node in nodes.iter_mut().filter(|node| !node.is_done) {
                node.fail(fetches, Fault::Protocol(fault.to_string()));
            }
        }
    }

    fn wait<'n>(
        &self,
        nodes: impl Iterator<Item = &'n NodeReads> + Clone,
        late_at: Option<Instant>,
    ) -> Result<(), Fault> {
        let open = nodes.filter(|node| !node.is_done);
        let lanes = open.clone().filter_map(|node| Some((node.lane.as_ref()?, node.wants_write)));
        let interests: Result<Vec<_>, Fault> = lanes
            .map(|(lane, write)| Ok(Interest { stream: lane.connection.stream()?, read: true, write }))
            .collect();
        let interests = interests?;
        let silent_at = open.map(|node| node.heard.0 + self.caller.io_timeout).min();
        if let Some(until) = silent_at.into_iter().chain(late_at).min() {
            wait::any(&interests, until, self.waiting)?;
        }
        Ok(())
    }
}

/// What is asked for again at others, of the nodes that are late now. Each is looked at once.
fn plan_hedge(nodes: &mut [NodeReads], fetches: &[Fetch<'_>], latencies: &Latencies) -> Vec<Copy> {
    let mut copies = Vec::new();
    for node in nodes.iter_mut() {
        if node.late_at().is_none_or(|late| late > Instant::now()) {
            continue;
        }
        node.patience = None;
        if let Some(of_node) = copies_of(&node.order, fetches)
            && latencies.may_hedge()
        {
            copies.extend(of_node);
        }
    }
    copies
}
