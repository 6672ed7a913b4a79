//! Connections: the native protocol and that of HDFS clients, told apart by their first bytes. The only module that names tokio.
//!
//! A connection has a task that reads and one that writes. Calls are decoded by the reader and handed over in batches,
//! one per read; answers are encoded by the writer, one write for all that wait. A connection may have a bounded number
//! of unanswered calls, and all connections together a bounded number of calls in the inbox: beyond, nothing is read. A
//! user with too many calls in the inbox is answered `Busy`. Datanodes have a lane of their own, which is never full.

mod connection;
mod hadoop;

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ringfs_proto::frame::Header;
use ringfs_proto::ids::ClusterId;
use ringfs_proto::limits::{CALLS_IN_FLIGHT_MAX, META_BYTES_MAX};
use ringfs_proto::metrics::Metric;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::calls::{Answer, is_urgent};
use crate::config::Config;
use crate::groups::Identities;
use crate::hadoop::Holders;
use crate::inbox::Inbox;
use crate::wal::Values;

/// How long a hello, or the rest of a frame that has begun, may take.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(30);
/// Threads that move frames. Each has a runtime of its own and keeps its connections: threads that share theirs wake each other for
/// every call.
const THREADS: usize = 2;
/// Memory that a call of ordinary size takes while it waits.
pub(crate) const CALL_BYTES: u32 = 4096;
/// Threads that read contents of small files, at most, and look up users, for each thread that moves frames.
const BLOCKING_THREADS_MAX: usize = 8;
/// Pause after accept has failed, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many calls of ordinary size a call counts for, by its memory. Reports of datanodes, which are larger than anything of a
/// client, are bounded by what each datanode may have in flight: they count as one.
fn room_of(header: &Header) -> u32 {
    if is_urgent(header.op) { 1 } else { 1 + header.meta_len / CALL_BYTES }
}

// However large its calls are, a connection can hand over what it has decoded: half of what it may have in flight, and one more.
const _: () =
    assert!(CALLS_IN_FLIGHT_MAX / 2 + 1 + META_BYTES_MAX / CALL_BYTES as usize <= CALLS_IN_FLIGHT_MAX);

/// What connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    inbox: Arc<Inbox>,
    cluster: ClusterId,
    identities: Arc<Identities>,
    values: Arc<Values>,
    /// Writers of HDFS clients.
    holders: Arc<Holders>,
    room: Semaphore,
    connections: Mutex<HashMap<u64, mpsc::UnboundedSender<Answer>>>,
    connections_max: usize,
    open: AtomicUsize,
    accepted: AtomicU64,
    refused: AtomicU64,
    malformed: AtomicU64,
    busy: AtomicU64,
}

/// The running server of the native protocol.
#[derive(Debug)]
pub struct Rpc {
    runtimes: Vec<Runtime>,
    shared: Arc<Shared>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

impl Rpc {
    /// Serves connections that `listener` accepts.
    ///
    /// # Errors
    /// What the runtime or the socket says.
    pub fn start(
        listener: TcpListener,
        inbox: Arc<Inbox>,
        cluster: ClusterId,
        identities: Arc<Identities>,
        values: Arc<Values>,
        config: &Config,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder
                .worker_threads(1)
                .max_blocking_threads(BLOCKING_THREADS_MAX)
                .thread_name("rpc")
                .enable_all()
                .build()
        };
        let runtimes = (0..THREADS).map(|_| runtime()).collect::<std::io::Result<Vec<Runtime>>>()?;
        let shared = Arc::new(Shared {
            inbox,
            cluster,
            identities,
            values,
            holders: Arc::default(),
            room: Semaphore::new(config.calls_queued_max.max(CALLS_IN_FLIGHT_MAX)),
            connections: Mutex::default(),
            connections_max: config.connections_max,
            open: AtomicUsize::new(0),
            accepted: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            busy: AtomicU64::new(0),
        });
        let (stop, stopped) = watch::channel(false);
        let listener = {
            let _inside = runtimes[0].enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let handles = runtimes.iter().map(|runtime| runtime.handle().clone()).collect();
        runtimes[0].spawn(accept(listener, handles, shared.clone(), stopped));
        Ok(Self { runtimes, shared, address, stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands answers to the connections that wait for them.
    pub fn deliver(&self, answers: Vec<Answer>) {
        let with_room = answers.iter().filter(|answer| !is_urgent(answer.header.op));
        self.shared.room.add_permits(with_room.map(|answer| room_of(&answer.header) as usize).sum());
        let connections = self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner);
        for answer in answers {
            if let Some(connection) = connections.get(&answer.caller.connection) {
                // A connection that closes at this moment needs no answer.
                let _closed = connection.send(answer);
            }
        }
    }

    /// What is shown of the connections.
    pub fn metrics(&self) -> Vec<Metric> {
        let shared = &self.shared;
        let count = |value: &AtomicU64| value.load(Ordering::Relaxed);
        vec![
            Metric::gauge(
                "ringfs_namenode_connections",
                "Open connections.",
                shared.open.load(Ordering::Relaxed) as f64,
            ),
            Metric::counter(
                "ringfs_namenode_connections_total",
                "Connections accepted.",
                count(&shared.accepted),
            ),
            Metric::counter(
                "ringfs_namenode_connections_refused_total",
                "Connections refused because there were too many.",
                count(&shared.refused),
            ),
            Metric::counter(
                "ringfs_namenode_malformed_total",
                "Connections closed because of malformed bytes.",
                count(&shared.malformed),
            ),
            Metric::counter(
                "ringfs_namenode_calls_busy_total",
                "Calls that were told to come back, because their user had too many waiting.",
                count(&shared.busy),
            ),
        ]
    }

    /// Stops accepting and reading. What was read is still answered.
    pub fn stop_reading(&self) {
        // Without a receiver the accepting task is gone already.
        let _gone = self.stop.send(true);
    }

    /// Ends every connection after the answers that were delivered.
    pub fn stop(mut self) {
        self.stop_reading();
        self.shared.connections.lock().unwrap_or_else(PoisonError::into_inner).clear();
        for runtime in self.runtimes.drain(..) {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}

/// Accepts connections, and deals them out to the threads.
async fn accept(
    listener: tokio::net::TcpListener,
    threads: Vec<Handle>,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let tasks_stopped = stopped.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => return,
        };
        // Each thread has its own epoll.
        match accepted.and_then(|(stream, address)| Ok((stream.into_std()?, address))) {
            Ok((stream, address)) => {
                let number = shared.accepted.fetch_add(1, Ordering::Relaxed) + 1;
                if shared.open.fetch_add(1, Ordering::Relaxed) >= shared.connections_max {
                    shared.open.fetch_sub(1, Ordering::Relaxed);
                    shared.refused.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(%address, max = shared.connections_max, "connection refused: too many");
                    continue;
                }
                let (shared, stopped) = (shared.clone(), tasks_stopped.clone());
                threads[number as usize % threads.len()].spawn(async move {
                    connection::serve(stream, address, number, shared, stopped).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
