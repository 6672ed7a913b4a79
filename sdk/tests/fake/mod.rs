//! Servers that speak the native protocol and misbehave on demand: plain threads, everything in memory.

#![allow(dead_code)] // Each test binary uses a part.

pub mod chain;
pub mod datanode;
pub mod namenode;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringfs_proto::frame::{self, Header};
use ringfs_proto::hello::{self, HELLO_PREFIX_BYTES, HelloReplyV1, HelloV1, Prefix};
use ringfs_proto::ids::{ClusterId, SessionId};
use ringfs_proto::limits::{FRAME_HEADER_BYTES, META_BYTES_MAX};
use ringfs_proto::wire::Message;

/// How long a test waits for a condition.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A lock that a failed test may have poisoned.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a condition.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

/// A listener whose connections can be cut.
#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    is_down: Arc<AtomicBool>,
}

impl Server {
    /// Serves each connection by a thread of its own.
    pub fn start(serve: impl Fn(Connection) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = listener.local_addr().expect("address");
        let (connections, is_down) =
            (Arc::<Mutex<Vec<TcpStream>>>::default(), Arc::new(AtomicBool::new(false)));
        let (serve, kept, down) = (Arc::new(serve), connections.clone(), is_down.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if down.load(Ordering::SeqCst) {
                    continue; // Closed at once, as by a host whose server is gone.
                }
                stream.set_nodelay(true).expect("nodelay");
                lock(&kept).push(stream.try_clone().expect("clone"));
                let serve = serve.clone();
                std::thread::spawn(move || {
                    let kept = stream.try_clone().expect("clone");
                    let mut connection = Connection { stream, session: SessionId::default() };
                    // The end of a connection is the client's business.
                    let _ended = connection.greet().and_then(|()| serve(connection));
                    let _closed_already = kept.shutdown(std::net::Shutdown::Both);
                });
            }
        });
        Self { address, connections, is_down }
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        for stream in lock(&self.connections).drain(..) {
            let _gone = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Cuts every connection and accepts none, or accepts again.
    pub fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
        self.cut();
    }

    /// Connections that were ever accepted and not cut.
    pub fn accepted(&self) -> usize {
        lock(&self.connections).len()
    }
}

/// The server's end of a connection.
#[derive(Debug)]
pub struct Connection {
    pub stream: TcpStream,
    pub session: SessionId,
}

impl Connection {
    fn greet(&mut self) -> io::Result<()> {
        let mut prefix = [0; HELLO_PREFIX_BYTES];
        self.stream.read_exact(&mut prefix)?;
        let prefix = Prefix::decode(&prefix, false).map_err(io::Error::other)?;
        let mut body = vec![0; prefix.body_len];
        self.stream.read_exact(&mut body)?;
        let hello: HelloV1 = prefix.decode_body(&body).map_err(io::Error::other)?;
        self.session = hello.session;
        let reply = HelloReplyV1 {
            code: 0,
            message: String::new(),
            version: 1,
            features: 0,
            cluster: ClusterId([1; 16]),
            nonce: [0; 16],
        };
        self.stream.write_all(&hello::encode_reply(&reply))
    }

    /// The next frame: header, metadata, payload.
    pub fn next(&mut self) -> io::Result<(Header, Vec<u8>, Vec<u8>)> {
        let mut head = [0; FRAME_HEADER_BYTES];
        self.stream.read_exact(&mut head)?;
        let header = Header::decode(&head, META_BYTES_MAX).map_err(io::Error::other)?;
        let mut meta = vec![0; header.meta_len as usize];
        self.stream.read_exact(&mut meta)?;
        header.check_meta(&meta).map_err(io::Error::other)?;
        let mut payload = vec![0; header.payload_len as usize];
        self.stream.read_exact(&mut payload)?;
        Ok((header, meta, payload))
    }

    pub fn reply(&mut self, header: &Header, message: &impl Message, payload: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame::append(&mut bytes, header.reply(), payload.len(), |meta| message.encode_into(meta));
        bytes.extend(payload);
        self.stream.write_all(&bytes)
    }

    pub fn refuse(&mut self, header: &Header, code: ringfs_proto::Code) -> io::Result<()> {
        let mut bytes = Vec::new();
        frame::append_error(&mut bytes, header, &ringfs_proto::WireError::new(code, code.text()));
        self.stream.write_all(&bytes)
    }
}

/// Bytes that differ at every offset.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u8).collect()
}
