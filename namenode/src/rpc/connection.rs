//! One connection: its hello, its frames.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ringfs_proto::Code;
use ringfs_proto::code::WireError;
use ringfs_proto::frame::{self, FrameError, Header};
use ringfs_proto::hello::{self, HELLO_PREFIX_BYTES, HelloReplyV1, HelloV1, Prefix, Role};
use ringfs_proto::ids::ClusterId;
use ringfs_proto::limits::{
    CALLS_IN_FLIGHT_MAX, FRAME_HEADER_BYTES, META_BYTES_MAX, META_BYTES_MAX_REPORT, PRINCIPAL_BYTES_MAX,
};
use ringfs_proto::ops::Op;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::{FRAME_DEADLINE, Shared, hadoop, room_of};
use crate::calls::{Answer, Call, Caller, Credentials, Request};
use crate::groups::Identities;
use crate::wal::Values;

/// Bytes that are read at once.
pub(super) const READ_BYTES: usize = 64 << 10;
/// How often a connection looks whether its user is still what he was, at most.
const CREDENTIALS_PAUSE: Duration = Duration::from_secs(1);
/// Answers that are written at once.
const ANSWERS_PER_WRITE: usize = 512;
/// Bytes of files that are written at once; one answer may have more.
const VALUES_PER_WRITE_BYTES: usize = 1 << 20;

/// Why a connection was closed by this side.
#[derive(Debug, thiserror::Error)]
pub(super) enum Closed {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Hadoop(#[from] ringfs_hadoop::frames::FrameError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Hello(#[from] hello::HelloError),
    #[error("hello refused: {0}")]
    Refused(WireError),
    #[error("a client sent a frame with a payload of {0} bytes: the namenode takes none")]
    Payload(u32),
    #[error("the rest of a frame did not come within {FRAME_DEADLINE:?}")]
    Deadline,
}

/// Serves one connection until it ends.
pub(super) async fn serve(
    stream: std::net::TcpStream,
    address: SocketAddr,
    number: u64,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
) {
    let closed = run(stream, address, number, &shared, stopped).await;
    shared.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    shared.inbox.add(|work| work.disconnected.push(number));
    shared.open.fetch_sub(1, Ordering::Relaxed);
    match closed {
        Ok(()) => {}
        Err(Closed::Io(error)) => tracing::debug!(%address, %error, "connection ended"),
        Err(reason) => {
            shared.malformed.fetch_add(1, Ordering::Relaxed);
            tracing::info!(%address, %reason, "connection closed");
        }
    }
}

async fn run(
    stream: std::net::TcpStream,
    address: SocketAddr,
    number: u64,
    shared: &Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Closed> {
    let mut stream = TcpStream::from_std(stream)?;
    keep_alive(&stream)?;
    // The first bytes say which protocol is spoken.
    let mut magic = [0; frame::MAGIC.len()];
    timeout(FRAME_DEADLINE, stream.read_exact(&mut magic)).await.map_err(|_elapsed| Closed::Deadline)??;
    if magic == ringfs_hadoop::frames::MAGIC {
        return hadoop::serve(stream, address, number, shared, stopped).await;
    }
    let caller = timeout(FRAME_DEADLINE, greet(magic, &mut stream, address, number, shared));
    let caller = Arc::new(caller.await.map_err(|_elapsed| Closed::Deadline)??);
    let (reader, writer) = stream.into_split();
    let (answers, waiting) = mpsc::unbounded_channel();
    shared.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(number, answers);
    let in_flight = Arc::new(Semaphore::new(CALLS_IN_FLIGHT_MAX));
    let values = shared.values.clone();
    let writing = tokio::spawn(write_answers(writer, waiting, in_flight.clone(), values));
    let read = tokio::select! {
        read = read_calls(reader, &caller, shared, &in_flight) => read,
        _ = stopped.changed() => Ok(()),
    };
    if *stopped.borrow() {
        // The answers to what was read still leave; the server ends the writer when all are delivered.
        let _ended = writing.await;
    } else {
        writing.abort();
    }
    read
}

/// Keepalive answers the question whether the peer's host still lives, without a thread at either end.
fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(std::time::Duration::from_secs(20))
        .with_interval(std::time::Duration::from_secs(5))
        .with_retries(3);
    stream.set_nodelay(true)?;
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

async fn greet(
    magic: [u8; frame::MAGIC.len()],
    stream: &mut TcpStream,
    address: SocketAddr,
    connection: u64,
    shared: &Shared,
) -> Result<Caller, Closed> {
    let cluster = shared.cluster;
    let mut prefix = [0; HELLO_PREFIX_BYTES];
    prefix[..magic.len()].copy_from_slice(&magic);
    stream.read_exact(&mut prefix[magic.len()..]).await?;
    let prefix = Prefix::decode(&prefix, false)?;
    let mut body = vec![0; prefix.body_len];
    stream.read_exact(&mut body).await?;
    let hello: HelloV1 = prefix.decode_body(&body)?;
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| io::Error::other(error.to_string()))?;
    let mut reply = HelloReplyV1 { code: 0, message: String::new(), version: 0, features: 0, cluster, nonce };
    match check(&hello, cluster) {
        Ok(version) => reply.version = version,
        Err(error) => {
            (reply.code, reply.message) = (error.code as u16, error.message.clone());
            stream.write_all(&hello::encode_reply(&reply)).await?;
            return Err(Closed::Refused(error));
        }
    }
    let credentials = credentials(&shared.identities, &hello.user).await?;
    stream.write_all(&hello::encode_reply(&reply)).await?;
    Ok(Caller {
        connection,
        session: hello.session,
        user: hello.user,
        credentials,
        address: address.ip(),
        role: hello.role,
        renews_leases: false,
        nonce,
        is_datanode: AtomicBool::new(false),
    })
}

/// What a user is, looked up where waiting does no harm when it is not known.
pub(super) async fn credentials(identities: &Arc<Identities>, user: &str) -> io::Result<Arc<Credentials>> {
    if let Some((credentials, _)) = identities.known(user) {
        return Ok(credentials);
    }
    let (identities, user) = (identities.clone(), user.to_owned());
    tokio::task::spawn_blocking(move || identities.look_up(&user)).await.map_err(io::Error::other)
}

/// Keeps what a connection knows of its user up to date, without making its calls wait.
pub(super) struct Watch {
    looked_at: Instant,
    looking_up: Option<tokio::task::JoinHandle<Arc<Credentials>>>,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { looked_at: Instant::now(), looking_up: None }
    }

    /// The caller as he is known now; another object when that has changed. A datanode's groups make no difference.
    pub(super) fn refresh(
        &mut self,
        caller: &Arc<Caller>,
        identities: &Arc<Identities>,
    ) -> Option<Arc<Caller>> {
        if caller.role == Role::Datanode || self.looked_at.elapsed() < CREDENTIALS_PAUSE {
            return None;
        }
        self.looked_at = Instant::now();
        let is_looking_up = self.looking_up.as_ref().is_some_and(|task| !task.is_finished());
        let known = identities.known(&caller.user);
        if known.as_ref().is_none_or(|(_, is_old)| *is_old) && !is_looking_up {
            let (identities, user) = (identities.clone(), caller.user.clone());
            self.looking_up = Some(tokio::task::spawn_blocking(move || identities.look_up(&user)));
        }
        let (credentials, _) = known?;
        (credentials != caller.credentials).then(|| Arc::new(caller.with_credentials(credentials)))
    }
}

fn check(hello: &HelloV1, cluster: ClusterId) -> Result<u16, WireError> {
    if hello.cluster != ClusterId::default() && hello.cluster != cluster {
        let message = format!("this is cluster {cluster}, not {}", hello.cluster);
        return Err(WireError::new(Code::WrongCluster, message));
    }
    if hello.user.is_empty() || hello.user.len() > PRINCIPAL_BYTES_MAX {
        let message =
            format!("a user name has 1 to {PRINCIPAL_BYTES_MAX} bytes, this one {}", hello.user.len());
        return Err(WireError::new(Code::InvalidArgument, message));
    }
    if hello.auth_scheme != 0 {
        let message = format!("authentication scheme {} is not known", hello.auth_scheme);
        return Err(WireError::new(Code::Unsupported, message));
    }
    hello::negotiate_version(hello).ok_or_else(|| {
        let message = format!(
            "protocol versions {} to {}: this release speaks 1",
            hello.version_min, hello.version_max
        );
        WireError::new(Code::Unsupported, message)
    })
}

async fn read_calls(
    mut reader: OwnedReadHalf,
    caller: &Arc<Caller>,
    shared: &Arc<Shared>,
    in_flight: &Semaphore,
) -> Result<(), Closed> {
    let mut bytes = Vec::with_capacity(READ_BYTES);
    let mut decoded = Decoded::default();
    let (mut caller, mut watch) = (caller.clone(), Watch::new());
    loop {
        caller = watch.refresh(&caller, &shared.identities).unwrap_or(caller);
        let used = decode_calls(&bytes, &caller, &mut decoded)?;
        bytes.drain(..used);
        if used > 0 {
            hand_over(&mut decoded, shared, in_flight).await;
            continue;
        }
        bytes.reserve(READ_BYTES);
        // A frame that has begun must end; between frames a connection may be silent for as long as it likes.
        let len = if bytes.is_empty() {
            reader.read_buf(&mut bytes).await?
        } else {
            timeout(FRAME_DEADLINE, reader.read_buf(&mut bytes))
                .await
                .map_err(|_elapsed| Closed::Deadline)??
        };
        if len == 0 {
            return Ok(());
        }
    }
}

/// What one read brought.
#[derive(Default)]
struct Decoded {
    urgent: Vec<Call>,
    calls: Vec<Call>,
    refused: Vec<Answer>,
    weight: u32,
}

/// Decodes the whole frames in `bytes`; returns how many bytes they take.
fn decode_calls(bytes: &[u8], caller: &Arc<Caller>, decoded: &mut Decoded) -> Result<usize, Closed> {
    let meta_max = if caller.is_proved_datanode() { META_BYTES_MAX_REPORT } else { META_BYTES_MAX };
    let mut used = 0;
    // One read hands over a bounded number of calls; the rest stays in the buffer for the next turn.
    while decoded.weight < CALLS_IN_FLIGHT_MAX as u32 / 2 {
        let rest = &bytes[used..];
        let Some(head) = rest.first_chunk::<FRAME_HEADER_BYTES>() else { break };
        let header = Header::decode(head, meta_max)?;
        if header.payload_len != 0 {
            return Err(Closed::Payload(header.payload_len));
        }
        let Some(meta) = rest[FRAME_HEADER_BYTES..].get(..header.meta_len as usize) else { break };
        header.check_meta(meta)?;
        used += FRAME_HEADER_BYTES + meta.len();
        decoded.weight += weight(&header);
        match Request::decode(&header, meta) {
            Ok(request) => {
                let (call, lowest_unanswered) = (header.call, header.lowest_unanswered);
                let call =
                    Call { caller: caller.clone(), call, lowest_unanswered, header, request, context: None };
                if call.request.is_urgent() { decoded.urgent.push(call) } else { decoded.calls.push(call) }
            }
            Err(error) => decoded.refused.push(Answer::ready(caller.clone(), header, Err(error))),
        }
    }
    Ok(used)
}

/// What an unanswered call counts towards its connection's bound: answers that are large count more, so that a peer
/// that asks and does not read holds little memory.
fn weight(header: &Header) -> u32 {
    let is_large = matches!(
        header.op,
        Op::List | Op::GetBlockLocations | Op::BatchOpen | Op::ReadValue | Op::DatanodeReport
    );
    if is_large { 32 } else { room_of(header) }
}

/// Hands calls over, once this connection and the inbox have room for them.
async fn hand_over(decoded: &mut Decoded, shared: &Shared, in_flight: &Semaphore) {
    if !decoded.urgent.is_empty() {
        // The lane of the datanodes is bounded by what each may have in flight, and waits for nobody.
        shared.inbox.add(|work| work.urgent.append(&mut decoded.urgent));
    }
    let room = decoded.calls.iter().map(|call| room_of(&call.header)).sum();
    for (semaphore, count) in [(in_flight, decoded.weight), (&shared.room, room)] {
        // Neither semaphore is ever closed. The permits come back with the answers.
        if let Ok(permits) = semaphore.acquire_many(count).await {
            permits.forget();
        }
    }
    decoded.weight = 0;
    if !decoded.calls.is_empty() {
        let refused = shared.inbox.add_calls(&mut decoded.calls);
        shared.room.add_permits(refused.iter().map(|call| room_of(&call.header) as usize).sum());
        shared.busy.fetch_add(refused.len() as u64, Ordering::Relaxed);
        decoded.refused.extend(refused.into_iter().map(busy));
    }
    for answer in decoded.refused.drain(..) {
        let connections = shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = connections.get(&answer.caller.connection) {
            let _closed = connection.send(answer);
        }
    }
}

pub(super) fn busy(call: Call) -> Answer {
    let message = format!("too many calls of user {} wait", call.caller.user);
    Answer::ready(call.caller, call.header, Err(WireError::new(Code::Busy, message)))
}

/// Writes answers until the server or the peer has enough.
async fn write_answers(
    mut writer: OwnedWriteHalf,
    mut waiting: mpsc::UnboundedReceiver<Answer>,
    in_flight: Arc<Semaphore>,
    values: Arc<Values>,
) {
    let mut answers = Vec::new();
    let mut bytes = Vec::new();
    while waiting.recv_many(&mut answers, ANSWERS_PER_WRITE).await > 0 {
        while !answers.is_empty() {
            let now: Vec<Answer> = answers.drain(..written_together(&answers)).collect();
            let weight: u32 = now.iter().map(|answer| weight(&answer.header)).sum();
            let Some(now) = filled(now, &values).await else { return };
            for answer in now {
                match answer.result {
                    Ok(reply) => {
                        frame::append(&mut bytes, answer.header.reply(), 0, |meta| reply.encode_into(meta));
                    }
                    Err(error) => frame::append_error(&mut bytes, &answer.header, &error),
                }
            }
            let written = timeout(FRAME_DEADLINE, writer.write_all(&bytes)).await;
            if !matches!(written, Ok(Ok(()))) {
                return;
            }
            bytes.clear();
            bytes.shrink_to(READ_BYTES * 16);
            in_flight.add_permits(weight as usize);
        }
    }
}

/// How many answers are written at once: of those that bring contents of files, few enough to bound the memory.
fn written_together(answers: &[Answer]) -> usize {
    let mut wanted = 0;
    let fits = |answer: &&Answer| {
        wanted += answer.wanted_bytes();
        wanted <= VALUES_PER_WRITE_BYTES
    };
    answers.iter().take_while(fits).count().max(1)
}

/// Answers with the contents that they bring, read where waiting for a disk does no harm. `None` when the server ends.
async fn filled(answers: Vec<Answer>, values: &Arc<Values>) -> Option<Vec<Answer>> {
    if answers.iter().all(|answer| answer.wanted_bytes() == 0) {
        return Some(answers);
    }
    let values = values.clone();
    let fill = move || {
        let mut answers = answers;
        answers.iter_mut().for_each(|answer| answer.fill(&values));
        answers
    };
    tokio::task::spawn_blocking(fill).await.ok()
}
