//! A connection of an HDFS client: Hadoop RPC frames, as many calls in progress as a native connection may have.
//!
//! As with native connections a task reads and one writes. What a call will make of the namespace's answers waits in between,
//! by the number that the question carries. A call that asks more than once keeps its place in the connection's bound.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use prost::Message;
use ringfs_hadoop::admin::GetGroupsForUserResponse;
use ringfs_hadoop::frames::{self, Authentication, CallHeader, FrameError, RemoteError};
use ringfs_hadoop::rpc::{IpcConnectionContext, RpcSasl, SaslState};
use ringfs_proto::frame::Header;
use ringfs_proto::hello::Role;
use ringfs_proto::ids::{CallId, SessionId, TraceId};
use ringfs_proto::limits::{CALLS_IN_FLIGHT_MAX, PRINCIPAL_BYTES_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use super::connection::{Closed, READ_BYTES, Watch, credentials};
use super::{FRAME_DEADLINE, Shared, room_of};
use crate::calls::{Answer, Call, Caller};
use crate::hadoop::{Ask, Origin, Step, Then, begin, pool_of, session_of_client, superusers_only};

/// Callers that a connection knows at once: one for each name under which its client writes.
const CALLERS_MAX: usize = 16;
/// What a call counts towards its connection's bound: its answer may be a listing.
const CALL_WEIGHT: u32 = 8;

/// A call that waits for the namespace.
struct Waiting {
    call: CallHeader,
    context: Option<Arc<str>>,
    then: Then,
}

/// Whose question it is.
struct Asking {
    call: CallHeader,
    context: Option<Arc<str>>,
    caller: Arc<Caller>,
    /// Bytes of memory that the call takes.
    len: usize,
}

/// What the two tasks of a connection share.
struct Session {
    shared: Arc<Shared>,
    waiting: Mutex<(u64, HashMap<u64, Waiting>)>,
    in_flight: Semaphore,
    /// Encoded answers that need no answer of the namespace; each has a place, but for the last of a connection.
    ready: mpsc::UnboundedSender<Vec<u8>>,
}

/// Serves an HDFS client whose magic was read.
pub(super) async fn serve(
    mut stream: TcpStream,
    address: SocketAddr,
    number: u64,
    shared: &Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Closed> {
    let mut beginning = [0; frames::BEGINNING_BYTES - frames::MAGIC.len()];
    let read = timeout(FRAME_DEADLINE, stream.read_exact(&mut beginning));
    read.await.map_err(|_elapsed| Closed::Deadline)??;
    let authentication = match frames::decode_beginning(beginning) {
        Ok(authentication) => authentication,
        Err(error) => {
            let mut bytes = Vec::new();
            frames::append_fatal(&mut bytes, &CallHeader::none(), &error);
            stream.write_all(&bytes).await?;
            return Err(error.into());
        }
    };
    let (reader, writer) = stream.into_split();
    let (answers, answered) = mpsc::unbounded_channel();
    let (ready, encoded) = mpsc::unbounded_channel();
    shared.connections.lock().unwrap_or_else(PoisonError::into_inner).insert(number, answers);
    let session = Arc::new(Session {
        shared: shared.clone(),
        waiting: Mutex::default(),
        in_flight: Semaphore::new(CALLS_IN_FLIGHT_MAX),
        ready,
    });
    let writing = tokio::spawn(write_answers(writer, answered, encoded, session.clone()));
    let mut reading = Reading::new(number, address, authentication, session);
    let read = tokio::select! {
        read = reading.read_calls(reader) => read,
        _ = stopped.changed() => Ok(()),
    };
    drop(reading);
    if *stopped.borrow() || read.is_err() {
        // What was read is still answered, and why the connection ends is still said.
        shared.connections.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        let _ended = timeout(FRAME_DEADLINE, writing).await;
    } else {
        writing.abort();
    }
    read
}

/// The reading side of a connection.
struct Reading {
    number: u64,
    address: SocketAddr,
    authentication: Authentication,
    session: Arc<Session>,
    origin: Option<Origin>,
    callers: Vec<Arc<Caller>>,
    watch: Watch,
    /// Questions of the calls that were read, not handed over yet.
    questions: Vec<Call>,
}

impl Reading {
    fn new(number: u64, address: SocketAddr, authentication: Authentication, session: Arc<Session>) -> Self {
        let (origin, callers, watch, questions) = (None, Vec::new(), Watch::new(), Vec::new());
        Self { number, address, authentication, session, origin, callers, watch, questions }
    }

    async fn read_calls(&mut self, mut reader: OwnedReadHalf) -> Result<(), Closed> {
        let mut bytes = Vec::with_capacity(READ_BYTES);
        loop {
            let taken = self.take_all(&bytes).await;
            // What came together is handed over together, also what came before something wrong: each time a thread is woken.
            self.session.hand_over(&mut self.questions).await;
            bytes.drain(..taken?);
            bytes.reserve(READ_BYTES);
            let len = if bytes.is_empty() {
                reader.read_buf(&mut bytes).await?
            } else {
                let read = timeout(FRAME_DEADLINE, reader.read_buf(&mut bytes));
                read.await.map_err(|_elapsed| Closed::Deadline)??
            };
            if len == 0 {
                return Ok(());
            }
        }
    }

    /// Takes the whole frames in `bytes`; returns how many bytes they are.
    async fn take_all(&mut self, bytes: &[u8]) -> Result<usize, Closed> {
        let mut used = 0;
        while let Some(frame) = self.checked(&CallHeader::none(), frames::first_frame(&bytes[used..]))? {
            used += 4 + frame.len();
            self.take(frame).await?;
        }
        Ok(used)
    }

    /// Tells the client why its connection ends.
    fn checked<T>(&self, call: &CallHeader, result: Result<T, FrameError>) -> Result<T, Closed> {
        result.map_err(|error| {
            let mut bytes = Vec::new();
            frames::append_fatal(&mut bytes, call, &error);
            let _closed = self.session.ready.send(bytes);
            error.into()
        })
    }

    async fn take(&mut self, frame: &[u8]) -> Result<(), Closed> {
        let len = frame.len();
        let frame = self.checked(&CallHeader::none(), frames::decode_frame(frame))?;
        let call = frame.call();
        let context = frame.context().map(Arc::from);
        match call.call {
            frames::PING_CALL => return Ok(()),
            frames::SASL_CALL => {
                let sasl: RpcSasl = self.checked(&call, frame.message())?;
                return self.negotiate(&call, &sasl).await;
            }
            frames::CONTEXT_CALL => {
                let context: IpcConnectionContext = self.checked(&call, frame.message())?;
                return self.begin(&call, &context).await;
            }
            0.. => {}
            other => {
                let error = FrameError::Header(format!("call id {other} is not known"));
                return self.checked(&call, Err(error));
            }
        }
        let (method, request) = self.checked(&call, frame.method())?;
        let Some(origin) = self.origin.clone() else {
            let error = FrameError::Header("a call before the connection context".to_owned());
            return self.checked(&call, Err(error));
        };
        if !self.session.try_take_place() {
            // Places come back with answers.
            self.session.hand_over(&mut self.questions).await;
            self.session.take_place().await;
        }
        let refusal = superusers_only(&method.method_name, request, &self.callers[0].user)
            .filter(|_| !self.caller(origin.session).credentials.is_privileged);
        let step = match refusal {
            None => begin(&method, request, &origin),
            Some(error) => Step::Done(Err(error)),
        };
        match step {
            Step::Done(result) => self.session.say(&call, result),
            Step::Ask(ask) => {
                let caller = self.caller(ask.session);
                self.questions.push(self.session.question(ask, Asking { call, context, caller, len }));
            }
            Step::Groups(user) => {
                // What was read before is not to wait for the look-up.
                self.session.hand_over(&mut self.questions).await;
                let result = self.groups(user).await?;
                self.session.say(&call, result);
            }
            Step::ForgetGroups => {
                self.session.shared.identities.forget();
                self.session.say(&call, Ok(Vec::new()));
            }
        }
        Ok(())
    }

    /// The groups of a user, looked up where waiting does no harm.
    async fn groups(&self, user: String) -> Result<Result<Vec<u8>, RemoteError>, Closed> {
        let identities = self.session.shared.identities.clone();
        let found = tokio::task::spawn_blocking(move || identities.groups(&user)).await;
        let found = found.map_err(std::io::Error::other)?;
        let response = found.map(|groups| GetGroupsForUserResponse { groups }.encode_to_vec());
        Ok(response.map_err(|error| RemoteError::new("java.io.IOException", error)))
    }

    /// A client that is set up for tokens or tickets is told that neither is asked for.
    async fn negotiate(&mut self, call: &CallHeader, sasl: &RpcSasl) -> Result<(), Closed> {
        if self.authentication != Authentication::Sasl || sasl.state() != SaslState::Negotiate {
            let error = FrameError::Message(format!("SASL state {:?} is not expected", sasl.state()));
            return self.checked(call, Err(error));
        }
        let success = RpcSasl { state: SaslState::Success as i32, ..RpcSasl::default() };
        let mut bytes = Vec::new();
        frames::append_success(&mut bytes, call, &success.encode_to_vec());
        self.session.take_place().await;
        let _closed = self.session.ready.send(bytes);
        Ok(())
    }

    /// The client says on whose behalf it calls, and is taken at its word.
    async fn begin(&mut self, call: &CallHeader, context: &IpcConnectionContext) -> Result<(), Closed> {
        let user =
            context.user_info.as_ref().and_then(|info| info.effective_user.clone()).unwrap_or_default();
        // Of a principal `user/host@REALM` the first part is the user.
        let user = user.split(['/', '@']).next().unwrap_or_default().to_owned();
        if user.is_empty() || user.len() > PRINCIPAL_BYTES_MAX || self.origin.is_some() {
            let error = FrameError::Header(format!("a connection context of user {user:?}"));
            return self.checked(call, Err(error));
        }
        let shared = &self.session.shared;
        let credentials = credentials(&shared.identities, &user).await?;
        let session = session_of_client(&call.client);
        let pool = pool_of(shared.cluster);
        let (address, holders) = (self.address.ip(), shared.holders.clone());
        self.origin = Some(Origin { address, session, holders, pool });
        self.callers.push(Arc::new(Caller {
            connection: self.number,
            session,
            user,
            credentials,
            address: self.address.ip(),
            role: Role::Client,
            renews_leases: true,
            nonce: [0; 16],
            is_datanode: AtomicBool::new(false),
        }));
        Ok(())
    }

    /// The caller as he is known now, in the name of a session.
    fn caller(&mut self, session: SessionId) -> Arc<Caller> {
        if let Some(fresh) = self.watch.refresh(&self.callers[0], &self.session.shared.identities) {
            self.callers = vec![fresh];
        }
        if let Some(known) = self.callers.iter().find(|caller| caller.session == session) {
            return known.clone();
        }
        self.callers.truncate(CALLERS_MAX - 1);
        let first = &self.callers[0];
        let caller = Arc::new(Caller { session, ..first.with_credentials(first.credentials.clone()) });
        self.callers.push(caller.clone());
        caller
    }
}

impl Session {
    /// Takes the place of a call in the connection's bound. It is given back when its answer is about to be written.
    async fn take_place(&self) {
        // The semaphore is never closed.
        if let Ok(permits) = self.in_flight.acquire_many(CALL_WEIGHT).await {
            permits.forget();
        }
    }

    fn try_take_place(&self) -> bool {
        self.in_flight.try_acquire_many(CALL_WEIGHT).map(tokio::sync::SemaphorePermit::forget).is_ok()
    }

    /// Appends an answer, with the names of writers that people know.
    fn append(&self, bytes: &mut Vec<u8>, call: &CallHeader, result: Result<Vec<u8>, RemoteError>) {
        match result {
            Ok(message) => frames::append_success(bytes, call, &message),
            Err(error) => {
                let message = self.shared.holders.named(&error.message);
                frames::append_error(bytes, call, &RemoteError { message, ..error });
            }
        }
    }

    /// Answers a call that asks the namespace nothing.
    fn say(&self, call: &CallHeader, result: Result<Vec<u8>, RemoteError>) {
        let mut bytes = Vec::new();
        self.append(&mut bytes, call, result);
        let _closed = self.ready.send(bytes);
    }

    fn give_place_back(&self) {
        self.in_flight.add_permits(CALL_WEIGHT as usize);
    }

    /// The question of a call, which waits for its answer from now on.
    fn question(&self, ask: Ask, asking: Asking) -> Call {
        let Ask { request, then, .. } = ask;
        let Asking { call, context, caller, len } = asking;
        let call_id = CallId(u64::from(call.call.cast_unsigned()));
        let number = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.0 += 1;
            let number = waiting.0;
            waiting.1.insert(number, Waiting { call, context: context.clone(), then });
            number
        };
        let header = Header {
            flags: 0,
            op: request.op(),
            op_version: 1,
            code: None,
            remaining_ms: 0,
            call: CallId(number),
            trace: TraceId::default(),
            job_tag: 0,
            meta_len: len as u32,
            payload_len: 0,
            meta_crc: 0,
            lowest_unanswered: CallId(0),
        };
        Call { caller, call: call_id, lowest_unanswered: CallId(0), header, request, context }
    }

    /// Hands questions over, once there is room for them: at most so many at a time as any configuration has room for.
    async fn hand_over(&self, questions: &mut Vec<Call>) {
        while !questions.is_empty() {
            let mut wanted = 0;
            let fits = |call: &&Call| {
                wanted += room_of(&call.header);
                wanted <= CALLS_IN_FLIGHT_MAX as u32
            };
            let count = questions.iter().take_while(fits).count().max(1);
            self.hand_over_some(&mut questions.drain(..count).collect()).await;
        }
    }

    async fn hand_over_some(&self, questions: &mut Vec<Call>) {
        let room = &self.shared.room;
        let wanted = questions.iter().map(|call| room_of(&call.header)).sum();
        if let Ok(permits) = room.acquire_many(wanted).await {
            permits.forget();
        }
        for refused in self.shared.inbox.add_calls(questions) {
            room.add_permits(room_of(&refused.header) as usize);
            let answer = super::connection::busy(refused);
            let connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(connection) = connections.get(&answer.caller.connection) {
                let _closed = connection.send(answer);
            }
        }
    }

    /// What becomes of a call that was waiting for an answer: encoded bytes, or another question.
    fn answered(&self, answer: Answer, bytes: &mut Vec<u8>, questions: &mut Vec<Call>) {
        let number = answer.header.call.0;
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).1.remove(&number);
        let Some(Waiting { call, context, then }) = waiting else { return };
        match then(answer.result) {
            Step::Done(result) => {
                self.append(bytes, &call, result);
                self.give_place_back();
            }
            // Only a call that begins is one of these.
            Step::Groups(_) | Step::ForgetGroups => self.give_place_back(),
            Step::Ask(ask) => {
                let caller = match answer.caller.session == ask.session {
                    true => answer.caller,
                    false => Arc::new(Caller {
                        session: ask.session,
                        ..answer.caller.with_credentials(answer.caller.credentials.clone())
                    }),
                };
                let len = answer.header.meta_len as usize;
                questions.push(self.question(ask, Asking { call, context, caller, len }));
            }
        }
    }
}

/// Writes answers until the server or the peer has enough.
async fn write_answers(
    mut writer: OwnedWriteHalf,
    mut answered: mpsc::UnboundedReceiver<Answer>,
    mut ready: mpsc::UnboundedReceiver<Vec<u8>>,
    session: Arc<Session>,
) {
    let (mut bytes, mut questions) = (Vec::new(), Vec::new());
    loop {
        tokio::select! {
            biased;
            Some(encoded) = ready.recv() => {
                bytes.extend(encoded);
                session.give_place_back();
            }
            answer = answered.recv() => match answer {
                Some(answer) => session.answered(answer, &mut bytes, &mut questions),
                None => break,
            },
        }
        while bytes.len() < READ_BYTES
            && let Ok(answer) = answered.try_recv()
        {
            session.answered(answer, &mut bytes, &mut questions);
        }
        session.hand_over(&mut questions).await;
        if !write(&mut writer, &mut bytes).await {
            return;
        }
    }
    while let Ok(encoded) = ready.try_recv() {
        bytes.extend(encoded);
    }
    write(&mut writer, &mut bytes).await;
}

async fn write(writer: &mut OwnedWriteHalf, bytes: &mut Vec<u8>) -> bool {
    if bytes.is_empty() {
        return true;
    }
    let written = timeout(FRAME_DEADLINE, writer.write_all(bytes)).await;
    bytes.clear();
    bytes.shrink_to(READ_BYTES * 16);
    matches!(written, Ok(Ok(())))
}
