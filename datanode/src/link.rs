//! The connection to the namenode: registration, heartbeats, reports, commands.
//!
//! [`session`] decides what is said and when; here is one plain thread with one socket that carries it, apart from the shards
//! so that a shard that waits for its disk keeps no heartbeat back.

pub mod session;

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringfs_proto::WireError;
use ringfs_proto::frame::{FrameError, Header};
use ringfs_proto::hello::{HELLO_PREFIX_BYTES, HelloError, HelloReplyV1, Prefix};
use ringfs_proto::limits::{FRAME_HEADER_BYTES, META_BYTES_MAX_REPORT};

use crate::node::Node;
pub use session::{Session, Step};

/// Between two attempts to reach the namenode.
const RECONNECT: Duration = Duration::from_millis(150);
/// Between two looks whether the namenode is still there, while nothing is to be said.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How long the namenode may take to answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(20);

/// The running link.
#[derive(Debug)]
pub struct Link {
    stop: Arc<AtomicBool>,
    node: Arc<Node>,
    threads: Vec<JoinHandle<()>>,
}

/// What a datanode says of itself.
#[derive(Debug, Clone)]
pub struct Identity {
    /// `host:port` of the namenode.
    pub namenode: String,
    /// Numeric address for clients; empty = as the namenode sees it.
    pub host: String,
    /// Data port.
    pub port: u16,
    /// HTTP port.
    pub http_port: u16,
}

/// Why a connection to the namenode ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The network, or the machine.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The namenode refused.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// What came is not of the protocol.
    #[error("{0}")]
    Protocol(String),
}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl From<HelloError> for LinkError {
    fn from(error: HelloError) -> Self {
        Self::Protocol(error.to_string())
    }
}

impl Link {
    /// Joins the cluster, and stays joined.
    ///
    /// # Errors
    /// What the operating system says of a thread.
    pub fn start(node: Arc<Node>, identity: Identity) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let namenode = identity.namenode.clone();
        let session = Session::new(node.clone(), identity);
        let (begin, stop_too) = (Instant::now(), stop.clone());
        let shell = Shell { node: node.clone(), namenode, session, stop: stop_too, begin };
        let link = std::thread::Builder::new().name("link".to_owned()).spawn(move || shell.run())?;
        Ok(Self { stop, node, threads: vec![link] })
    }

    /// Leaves.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.node.store.wake();
        for thread in self.threads.drain(..) {
            let _panicked = thread.join();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread's side of a session: a socket, a clock, and where commands go.
struct Shell {
    node: Arc<Node>,
    /// `host:port`.
    namenode: String,
    session: Session,
    stop: Arc<AtomicBool>,
    begin: Instant,
}

impl Shell {
    fn run(mut self) {
        let mut was_reached = true;
        while !self.is_stopped() {
            match self.connect() {
                Ok(mut stream) => {
                    was_reached = true;
                    match self.serve(&mut stream) {
                        Ok(()) => return,
                        Err(error) => {
                            tracing::warn!(%error, namenode = self.namenode, "lost the namenode: trying again");
                        }
                    }
                }
                Err(error) => {
                    if was_reached || matches!(error, LinkError::Wire(_)) {
                        tracing::warn!(%error, namenode = self.namenode, "cannot join the namenode: trying again");
                    }
                    was_reached = false;
                }
            }
            self.pause();
        }
    }

    /// Waits a little, for changes to come are part of the full report anyway.
    fn pause(&self) {
        let until = Instant::now() + RECONNECT;
        while Instant::now() < until && !self.is_stopped() {
            std::thread::park_timeout(RECONNECT / 4);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Connects, says hello and registers.
    fn connect(&mut self) -> Result<TcpStream, LinkError> {
        let mut addresses = self.namenode.to_socket_addrs()?;
        let address =
            addresses.next().ok_or_else(|| LinkError::Protocol("its name has no address".to_owned()))?;
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_DEADLINE)?;
        *self.node.namenode.lock() = Some(address);
        stream.set_read_timeout(Some(ANSWER_DEADLINE))?;
        stream.set_write_timeout(Some(ANSWER_DEADLINE))?;
        stream.set_nodelay(true)?;
        stream.write_all(&self.session.connected())?;
        self.session.welcomed(&read_hello_reply(&mut stream)?)?;
        let mut frame = Vec::new();
        while !self.session.is_joined() {
            self.step(&mut stream, &mut frame)?;
        }
        Ok(stream)
    }

    fn serve(&mut self, stream: &mut TcpStream) -> Result<(), LinkError> {
        let mut frame = Vec::new();
        while !self.is_stopped() {
            self.step(stream, &mut frame)?;
            for command in self.session.take_commands() {
                // A queue that is full now has room later: the namenode asks again for what does not show.
                if let Err(command) = self.node.commands.push(command) {
                    tracing::warn!(?command, "too many commands wait: left to the namenode to give again");
                }
            }
        }
        Ok(())
    }

    /// Makes one call, or waits until there is something to say.
    fn step(&mut self, stream: &mut TcpStream, frame: &mut Vec<u8>) -> Result<(), LinkError> {
        match self.session.next(self.begin.elapsed(), frame)? {
            Step::Call => {
                stream.write_all(frame)?;
                let (header, meta) = read_reply(stream)?;
                self.session.answered(self.begin.elapsed(), &header, &meta)
            }
            Step::Wait(until) => {
                let wait = until.saturating_sub(self.begin.elapsed()).min(LOOK_INTERVAL);
                self.node.store.wait_for_changes(wait);
                Ok(look_for_end(stream)?)
            }
        }
    }
}

/// Whether the namenode is gone, which a heartbeat would find out only when it is due.
///
/// # Errors
/// `UnexpectedEof`, or what reading says.
fn look_for_end(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    match peeked {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        // Nothing is due, and what comes unasked is found out by the next call.
        _ => Ok(()),
    }
}

fn read_hello_reply(stream: &mut TcpStream) -> Result<HelloReplyV1, LinkError> {
    let mut prefix = [0; HELLO_PREFIX_BYTES];
    stream.read_exact(&mut prefix)?;
    let prefix = Prefix::decode(&prefix, true)?;
    let mut body = vec![0; prefix.body_len];
    stream.read_exact(&mut body)?;
    Ok(prefix.decode_body(&body)?)
}

fn read_reply(stream: &mut TcpStream) -> Result<(Header, Vec<u8>), LinkError> {
    let mut head = [0; FRAME_HEADER_BYTES];
    stream.read_exact(&mut head)?;
    let header = Header::decode(&head, META_BYTES_MAX_REPORT)?;
    let mut meta = vec![0; header.meta_len as usize];
    stream.read_exact(&mut meta)?;
    header.check_meta(&meta)?;
    Ok((header, meta))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn the_end_of_a_namenode_is_seen_without_a_call() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
        let mut ours = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        let (mut theirs, _) = listener.accept().expect("accepted");
        look_for_end(&ours).expect("silence is no end");
        theirs.write_all(&[7, 8]).expect("sent");
        let mut bytes = [0; 2];
        ours.read_exact(&mut bytes).expect("reading waits again after a look");
        assert_eq!(bytes, [7, 8]);
        drop(theirs);
        // The end arrives by the kernel: reading waits for it.
        assert_eq!(ours.read(&mut bytes).expect("the end"), 0);
        let error = look_for_end(&ours).expect_err("it is gone");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
