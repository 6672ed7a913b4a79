//! The engine for kernels that allow io_uring: thread per CPU, direct I/O through rings, tasks by weight.
//!
//! The only place that names glommio, which is dormant: what it does not offer (gathering sends, sendfile, reads that
//! only look at the page cache) is done here by plain system calls that do not wait; only waiting is left to it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::{AsyncRead, AsyncWrite, FutureExt};
use glommio::io::{BufferedFile, DmaBuffer, DmaFile, OpenOptions, ReadResult};
use glommio::net::{TcpListener as GlommioListener, TcpStream};
use glommio::{Latency, LocalExecutorBuilder, Placement, PoolPlacement, Shares, TaskQueueHandle};
use ringfs_proto::buffer::AlignedBuffer;

use super::stop::Stop;
use super::{Access, Create, Engine, File, Listener, Reader, Service, Weight, Writer};

/// Memory of a shard's pool for direct I/O. Registered with the kernel where its limit for locked memory allows.
pub const IO_MEMORY_BYTES: usize = 48 << 20;
/// What of glommio is not to be logged: its only message there says that a device is not polled, which is as it should be
/// (see `without_polling`).
pub const NOT_LOGGED: &str = "glommio::reactor=off";
/// Weights of the two task queues.
const FOREGROUND_SHARES: usize = 1000;
const BACKGROUND_SHARES: usize = 50;
/// How long a task of the foreground may keep a shard before others are looked at.
const FOREGROUND_LATENCY: Duration = Duration::from_millis(1);
/// Threads per shard for calls that block.
const BLOCKING_THREADS: usize = 2;
/// Bytes that are sent through the stream's own write when the socket is full: that write waits.
const WAITING_SEND_BYTES: usize = 16 << 10;
/// Buffers for small reads that a shard keeps for the next use.
const SPARE_BUFFERS: usize = 64;

/// Runs `service` on shard `shard` until it returns. Blocks the calling thread.
///
/// # Errors
/// What the runtime says, of locked memory for instance.
pub fn run_shard<S: Service>(
    shard: usize,
    cpu: Option<usize>,
    socket: std::net::TcpListener,
    service: S,
    stop: Stop,
) -> io::Result<()> {
    let executor = builder(cpu).make().map_err(io::Error::from)?;
    executor.run(async move {
        let proxy = glommio::executor();
        let latency = Latency::Matters(FOREGROUND_LATENCY);
        let foreground = proxy.create_task_queue(Shares::Static(FOREGROUND_SHARES), latency, "foreground");
        let background =
            proxy.create_task_queue(Shares::Static(BACKGROUND_SHARES), Latency::NotImportant, "background");
        let (socket, spare, unpolled) = (Rc::new(Cell::new(Some(socket))), Rc::default(), Rc::default());
        service.run(Glommio { shard, foreground, background, socket, spare, unpolled }, stop).await;
    });
    Ok(())
}

/// Whether an executor can be made here.
///
/// # Errors
/// Why not.
pub fn probe() -> io::Result<()> {
    super::probe_io_uring()?;
    let attempt = || builder(None).make().map(drop).map_err(io::Error::from);
    let joined = std::thread::spawn(attempt).join();
    joined.unwrap_or_else(|_panic| Err(io::Error::other("the executor could not be made")))
}

fn builder(cpu: Option<usize>) -> LocalExecutorBuilder {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    LocalExecutorBuilder::new(placement)
        .io_memory(IO_MEMORY_BYTES)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
}

/// Memory for small reads, used again.
type Spare = Rc<RefCell<Vec<AlignedBuffer>>>;

/// A shard of this engine.
#[derive(Clone)]
pub struct Glommio {
    shard: usize,
    foreground: TaskQueueHandle,
    background: TaskQueueHandle,
    socket: Rc<Cell<Option<std::net::TcpListener>>>,
    spare: Spare,
    /// Devices that glommio does not poll.
    unpolled: Rc<RefCell<BTreeSet<u64>>>,
}

impl Engine for Glommio {
    type Listener = Accepting;
    type Reader = TcpReader;
    type Writer = TcpWriter;
    type File = RingFile;
    type Buffer = RingBuffer;
    type ReadBuffer = ReadBuffer;

    fn name(&self) -> &'static str {
        "glommio"
    }

    fn shard(&self) -> usize {
        self.shard
    }

    fn spawn(&self, weight: Weight, task: impl Future<Output = ()> + 'static) {
        let queue = if weight == Weight::Foreground { self.foreground } else { self.background };
        match glommio::spawn_local_into(task, queue) {
            Ok(task) => drop(task.detach()),
            // The queues live as long as the shard.
            Err(error) => tracing::error!(%error, "task queue is gone"),
        }
    }

    async fn sleep(&self, duration: Duration) {
        glommio::timer::sleep(duration).await;
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        glommio::executor().spawn_blocking(work).await
    }

    fn listen(&self) -> io::Result<Accepting> {
        let socket = self.socket.take().ok_or(io::ErrorKind::AddrNotAvailable)?;
        // glommio makes the socket non-blocking around each accept, so that no two shards may share one.
        socket.set_nonblocking(false)?;
        // SAFETY: the descriptor is open, and ownership goes from `socket` to the listener.
        let inner = unsafe { GlommioListener::from_raw_fd(socket.into_raw_fd()) };
        Ok(Accepting { inner })
    }

    async fn connect(&self, address: SocketAddr, deadline: Duration) -> io::Result<(TcpReader, TcpWriter)> {
        let stream = TcpStream::connect_timeout(address, deadline).await.map_err(io::Error::from)?;
        halves(stream)
    }

    async fn open(&self, path: &Path, access: Access, create: Create) -> io::Result<RingFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(access != Access::BufferedRead).mode(0o600);
        let inner = match (access, create) {
            (Access::Direct, _) => {
                self.without_polling(path).await?;
                options.create_new(create == Create::New);
                Inner::Direct(open_direct(&options, path).await?)
            }
            _ => {
                options.create_new(create == Create::New);
                Inner::Buffered(options.buffered_open(path).await.map_err(io::Error::from)?)
            }
        };
        Ok(RingFile { inner, spare: self.spare.clone() })
    }

    fn buffer(&self, capacity: usize) -> RingBuffer {
        RingBuffer { memory: glommio::allocate_dma_buffer(capacity), capacity }
    }

    fn recycle(&self, buffer: RingBuffer) {
        // Its memory goes back to the shard's pool.
        drop(buffer);
    }
}

impl Glommio {
    /// Keeps direct I/O of a file's device out of the ring that is polled.
    ///
    /// At the first file of a device glommio tries whether the device can be polled, by reading the beginning. Where there is
    /// no block to read it would believe anything, and kernels have accepted reads that then span in a worker for ever. Polling
    /// costs CPU, and few devices are set up for it; so the first file is one that cannot be read.
    async fn without_polling(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().unwrap_or(path);
        let device = std::fs::metadata(directory)?.dev();
        if self.unpolled.borrow().contains(&device) {
            return Ok(());
        }
        let scratch = directory.join(format!(".unreadable-{}", self.shard));
        let options = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
        let file = self
            .blocking(move || {
                let file = options.open(&scratch);
                // Another task may have removed it.
                drop(std::fs::remove_file(&scratch));
                file
            })
            .await?;
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        open_direct(OpenOptions::new().write(true), Path::new(&name)).await?;
        self.unpolled.borrow_mut().insert(device);
        Ok(())
    }
}

/// Opens for direct I/O. glommio unwraps a look at the path's file system: the file may be deleted just then.
async fn open_direct(options: &OpenOptions, path: &Path) -> io::Result<Rc<DmaFile>> {
    let opened = AssertUnwindSafe(options.dma_open(path)).catch_unwind().await;
    let opened =
        opened.map_err(|_panic| io::Error::new(io::ErrorKind::NotFound, "deleted while it was opened"))?;
    opened.map(Rc::new).map_err(io::Error::from)
}

/// Memory for direct writes, from the shard's pool.
pub struct RingBuffer {
    memory: DmaBuffer,
    capacity: usize,
}

impl AsRef<[u8]> for RingBuffer {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_bytes()
    }
}

impl AsMut<[u8]> for RingBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        self.memory.as_bytes_mut()
    }
}

/// A listening socket.
pub struct Accepting {
    inner: GlommioListener,
}

impl Listener for Accepting {
    type Reader = TcpReader;
    type Writer = TcpWriter;

    async fn accept(&self) -> io::Result<(TcpReader, TcpWriter, SocketAddr)> {
        let stream = self.inner.accept().await.map_err(io::Error::from)?;
        let address = stream.peer_addr().map_err(io::Error::from)?;
        let (reader, writer) = halves(stream)?;
        Ok((reader, writer, address))
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr().map_err(io::Error::from)
    }
}

/// Both halves of a connection; each keeps a waiter of its own in it.
type Shared = Rc<RefCell<TcpStream>>;

fn halves(stream: TcpStream) -> io::Result<(TcpReader, TcpWriter)> {
    // SAFETY: the descriptor stays open while `stream` is borrowed, here.
    let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    super::keep_alive(&socket)?;
    // For sendfile, which knows no flag that keeps it from waiting.
    socket2::SockRef::from(&socket).set_nonblocking(true)?;
    let stream = Rc::new(RefCell::new(stream));
    Ok((TcpReader { stream: stream.clone() }, TcpWriter { stream, waiting: Vec::new() }))
}

/// Receiving half.
pub struct TcpReader {
    stream: Shared,
}

impl Reader for TcpReader {
    async fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| Pin::new(&mut *self.stream.borrow_mut()).poll_read(context, target)).await
    }

    fn cutter(&self) -> Box<dyn Fn()> {
        let socket = self.stream.borrow().as_raw_fd();
        Box::new(move || super::shut_down(socket))
    }
}

/// Sending half.
pub struct TcpWriter {
    stream: Shared,
    /// Bytes of a file on their way through a write that waits.
    waiting: Vec<u8>,
}

impl TcpWriter {
    /// Sends a few bytes, waiting until the socket takes some.
    async fn send_waiting(&self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|context| Pin::new(&mut *self.stream.borrow_mut()).poll_write(context, bytes)).await
    }
}

impl Writer for TcpWriter {
    type File = RingFile;

    async fn write_all_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let socket = self.stream.borrow().as_raw_fd();
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut sent = 0;
        while sent < total {
            match super::send_from(parts, sent, |slices| super::send_now(socket, slices)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let next = super::first_after(parts, sent);
                    sent += self.send_waiting(&next[..next.len().min(WAITING_SEND_BYTES)]).await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn send_file(&mut self, file: &RingFile, offset: u64, len: usize) -> io::Result<()> {
        let socket = self.stream.borrow().as_raw_fd();
        let mut sent = 0;
        while sent < len {
            match super::send_file_once(socket, file.descriptor(), offset + sent as u64, len - sent) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(part) => sent += part,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // sendfile cannot wait here: the next few bytes go through the stream's own write, which can.
                    let mut next = core::mem::take(&mut self.waiting);
                    next.resize(WAITING_SEND_BYTES.min(len - sent), 0);
                    let filled = super::read_resident(file.descriptor(), &mut next, offset + sent as u64);
                    let written = if filled > 0 {
                        self.send_waiting(&next[..filled]).await
                    } else {
                        let read = file.read_at(offset + sent as u64, next.len()).await?;
                        self.send_waiting(read.as_ref()).await
                    };
                    self.waiting = next;
                    match written? {
                        0 => return Err(io::ErrorKind::WriteZero.into()),
                        part => sent += part,
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn shut_down(&mut self) {
        super::shut_down(self.stream.borrow().as_raw_fd());
    }
}

enum Inner {
    Direct(Rc<DmaFile>),
    Buffered(BufferedFile),
}

/// An open file.
pub struct RingFile {
    inner: Inner,
    spare: Spare,
}

/// Bytes that were read.
pub enum ReadBuffer {
    /// By a ring, into its memory.
    Ring(ReadResult),
    /// From the page cache, into the shard's.
    Memory(AlignedBuffer, Spare),
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Ring(bytes) => bytes,
            Self::Memory(bytes, _) => bytes.as_ref(),
        }
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        if let Self::Memory(buffer, spare) = self {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_BUFFERS {
                spare.push(core::mem::replace(buffer, AlignedBuffer::empty()));
            }
        }
    }
}

impl RingFile {
    fn descriptor(&self) -> RawFd {
        match &self.inner {
            Inner::Direct(file) => file.as_raw_fd(),
            Inner::Buffered(file) => file.as_raw_fd(),
        }
    }

    fn memory(&self, len: usize) -> AlignedBuffer {
        let mut spare = self.spare.borrow_mut();
        let found = spare.iter().rposition(|buffer| {
            buffer.capacity() >= len && buffer.capacity() <= len * 2 + super::DIRECT_ALIGN
        });
        let mut buffer = found.map_or_else(|| AlignedBuffer::new(len), |at| spare.swap_remove(at));
        buffer.set_len(len);
        buffer
    }
}

impl File for RingFile {
    type Buffer = RingBuffer;
    type ReadBuffer = ReadBuffer;

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<ReadBuffer> {
        match &self.inner {
            Inner::Direct(file) => {
                Ok(ReadBuffer::Ring(file.read_at_aligned(offset, len).await.map_err(io::Error::from)?))
            }
            Inner::Buffered(file) => {
                let mut memory = self.memory(len);
                if super::read_resident(file.as_raw_fd(), memory.as_mut(), offset) == len {
                    return Ok(ReadBuffer::Memory(memory, self.spare.clone()));
                }
                Ok(ReadBuffer::Ring(file.read_at(offset, len).await.map_err(io::Error::from)?))
            }
        }
    }

    async fn write_at(&self, buffer: RingBuffer, len: usize, offset: u64) -> (io::Result<()>, RingBuffer) {
        let RingBuffer { mut memory, capacity } = buffer;
        let written = match &self.inner {
            Inner::Direct(file) => {
                // A buffer goes to the kernel for good, cut to what is written; the pool has another.
                memory.trim_to_size(len);
                file.write_at(memory, offset).await
            }
            Inner::Buffered(file) => file.write_at(memory.as_bytes()[..len].to_vec(), offset).await,
        };
        let result = match written.map_err(io::Error::from) {
            Ok(written) if written == len => Ok(()),
            Ok(_) => Err(io::ErrorKind::WriteZero.into()),
            Err(error) => Err(error),
        };
        (result, RingBuffer { memory: glommio::allocate_dma_buffer(capacity), capacity })
    }

    async fn write_small_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        super::prompt(|| super::write_all_now(self.descriptor(), bytes, offset))
    }

    async fn sync_data(&self) -> io::Result<()> {
        match &self.inner {
            Inner::Direct(file) => file.fdatasync().await.map_err(io::Error::from),
            Inner::Buffered(file) => file.fdatasync().await.map_err(io::Error::from),
        }
    }

    async fn allocate(&self, len: u64, keep_size: bool) -> io::Result<()> {
        match &self.inner {
            Inner::Direct(file) => file.pre_allocate(len, keep_size).await.map_err(io::Error::from),
            Inner::Buffered(file) => file.pre_allocate(len, keep_size).await.map_err(io::Error::from),
        }
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.descriptor())
    }

    async fn close(self) {
        // Whatever it says, the descriptor is gone, and what matters was synced before.
        match self.inner {
            Inner::Direct(file) => drop(file.close_rc().await),
            Inner::Buffered(file) => drop(file.close().await),
        }
    }
}
