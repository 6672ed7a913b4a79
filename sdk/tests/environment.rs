//! A client on an environment of its own: no socket, no real time, no process-wide session.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ringfs_proto::frame::{Header, flags};
use ringfs_proto::ids::{CallId, LogIndex, SessionId};
use ringfs_proto::limits::{FRAME_HEADER_BYTES, META_BYTES_MAX};
use ringfs_proto::meta::data::{
    ReadHint, ReadRangeV1, ReplicaInfoReplyV1, ReplicaInfoRequestV1, TransferReplicaRequestV1,
    WriteOpenRequestV1,
};
use ringfs_proto::meta::namespace::{DoneV1, MkdirsRequestV1};
use ringfs_proto::wire::Message;
use ringfs_sdk::environment::{Channel, ChannelError, Clock, Environment};
use ringfs_sdk::transport::{Fetch, Pipeline, PipelineError, RangeStream, Transport, TransportError};
use ringfs_sdk::{Client, Kind};

/// Time that passes only while somebody waits.
#[derive(Debug)]
struct VirtualClock {
    begin: Instant,
    passed: Mutex<Duration>,
}

impl Clock for VirtualClock {
    fn now(&self) -> Instant {
        self.begin + *self.passed.lock().expect("held")
    }

    fn pause(&self, pause: Duration) {
        *self.passed.lock().expect("held") += pause;
    }

    fn random(&self) -> u32 {
        u32::MAX / 2
    }
}

/// Fails the first `failures` tries, and remembers what was asked.
#[derive(Debug, Default)]
struct Flaky {
    failures: usize,
    asked: Mutex<Vec<(CallId, CallId, bool)>>,
}

impl Channel for Flaky {
    fn exchange(
        &self,
        attempt: usize,
        frame: &[u8],
        _until: Instant,
    ) -> Result<(Header, Vec<u8>), ChannelError> {
        let header = Header::decode(frame.first_chunk().expect("a header"), META_BYTES_MAX).expect("ours");
        MkdirsRequestV1::decode(&frame[FRAME_HEADER_BYTES..]).expect("a request");
        let is_retry = header.flags & flags::RETRY != 0;
        self.asked.lock().expect("held").push((header.call, header.lowest_unanswered, is_retry));
        if attempt < self.failures {
            return Err(ChannelError::unreachable(io::ErrorKind::ConnectionReset.into()));
        }
        let mut meta = Vec::new();
        DoneV1 { index: LogIndex(1) }.encode_into(&mut meta);
        Ok((header.reply(), meta))
    }
}

#[derive(Debug)]
struct Nowhere;

impl Nowhere {
    fn error(node: SocketAddr) -> TransportError {
        TransportError::unreachable(node, io::ErrorKind::NotConnected.into())
    }
}

impl Transport for Nowhere {
    fn fetch(&self, fetches: &mut [Fetch<'_>], _hint: ReadHint) {
        fetches.iter_mut().for_each(|fetch| fetch.result = Some(Err(Self::error(fetch.node))));
    }

    fn stream(
        &self,
        node: SocketAddr,
        _range: ReadRangeV1,
        _hint: ReadHint,
    ) -> Result<Box<dyn RangeStream>, TransportError> {
        Err(Self::error(node))
    }

    fn replica_info(
        &self,
        node: SocketAddr,
        _request: &ReplicaInfoRequestV1,
    ) -> Result<ReplicaInfoReplyV1, TransportError> {
        Err(Self::error(node))
    }

    fn open_pipeline(
        &self,
        node: SocketAddr,
        _request: &WriteOpenRequestV1,
    ) -> Result<Box<dyn Pipeline>, PipelineError> {
        Err(PipelineError { failed_node: Some(0), source: Self::error(node) })
    }

    fn transfer_replica(
        &self,
        node: SocketAddr,
        _request: &TransferReplicaRequestV1,
    ) -> Result<(), TransportError> {
        Err(Self::error(node))
    }
}

fn client(failures: usize) -> (Client, Arc<Flaky>, Arc<VirtualClock>) {
    let channel = Arc::new(Flaky { failures, ..Flaky::default() });
    let clock = Arc::new(VirtualClock { begin: Instant::now(), passed: Mutex::default() });
    let (transport, session) = (Arc::new(Nowhere), SessionId([7; 16]));
    let environment = Environment { channel: channel.clone(), transport, clock: clock.clone(), session };
    let client = Client::builder().build_on(environment, "ringfs://nowhere:1").expect("a client");
    (client, channel, clock)
}

#[test]
fn calls_are_retried_under_their_id_in_the_time_of_the_environment() {
    let (client, channel, clock) = client(3);
    client.mkdirs("/a").expect("the fourth try is answered");
    assert!(clock.now() > clock.begin, "it has waited between tries");
    client.mkdirs("/b").expect("as before");
    let asked = core::mem::take(&mut *channel.asked.lock().expect("held"));
    // The ids of its own session begin at 1, and an answered call is below all that follow.
    let expected = |call| {
        let call = CallId(call);
        [false, true, true, true].map(|is_retry| (call, call, is_retry))
    };
    assert_eq!(asked, [expected(1), expected(2)].concat());
}

#[test]
fn a_client_gives_up_at_its_deadline() {
    let (client, channel, clock) = client(usize::MAX);
    let error = client.mkdirs("/a").expect_err("nobody answers");
    assert_eq!(error.kind(), Kind::Unreachable);
    let passed = clock.now() - clock.begin;
    assert!(passed > Duration::from_secs(30) && passed <= Duration::from_secs(60), "{passed:?}");
    assert!(channel.asked.lock().expect("held").len() > 10);
}
