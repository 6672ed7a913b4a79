//! The engine for kernels and containers that forbid io_uring: epoll, and a fixed pool of threads for file I/O.
//!
//! The only place that names tokio. A shard is a thread with a current-thread runtime; connections cost no thread. A
//! buffered read that is in memory, and a small buffered write, happen at once; everything that may wait for a disk goes
//! to the pool, through slots that are used again, so that an operation allocates nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fs::{File as StdFile, OpenOptions};
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use ringfs_proto::buffer::AlignedBuffer;
use tokio::io::{AsyncReadExt, Interest};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::{LocalSet, spawn_local};

use super::stop::Stop;
use super::{Access, Create, Engine, File, Listener, Reader, Service, Weight, Writer};

/// Buffers that a shard keeps for the next use.
const SPARE_BUFFERS: usize = 64;
/// Slots that a shard keeps for the next use.
const SPARE_SLOTS: usize = 256;

/// Runs `service` on shard `shard` until it returns. Blocks the calling thread.
///
/// # Errors
/// What the runtime says.
pub fn run_shard<S: Service>(
    shard: usize,
    pool: Arc<Pool>,
    socket: std::net::TcpListener,
    service: S,
    stop: Stop,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let spare = Spare { buffers: RefCell::default(), slots: RefCell::default() };
    let socket = Rc::new(Cell::new(Some(socket)));
    let engine = Threads { shard, pool, socket, spare: Rc::new(spare) };
    LocalSet::new().block_on(&runtime, service.run(engine, stop));
    Ok(())
}

struct Spare {
    buffers: RefCell<Vec<AlignedBuffer>>,
    slots: RefCell<Vec<Arc<Slot>>>,
}

impl Spare {
    fn buffer(&self, capacity: usize) -> AlignedBuffer {
        let mut buffers = self.buffers.borrow_mut();
        let found = buffers
            .iter()
            .rposition(|buffer| buffer.capacity() == capacity.next_multiple_of(super::DIRECT_ALIGN));
        let mut buffer = found.map_or_else(|| AlignedBuffer::new(capacity), |at| buffers.swap_remove(at));
        buffer.set_len(buffer.capacity());
        buffer
    }

    fn recycle(&self, buffer: AlignedBuffer) {
        let mut buffers = self.buffers.borrow_mut();
        if buffers.len() < SPARE_BUFFERS {
            buffers.push(buffer);
        }
    }
}

/// A shard of this engine.
#[derive(Clone)]
pub struct Threads {
    shard: usize,
    pool: Arc<Pool>,
    socket: Rc<Cell<Option<std::net::TcpListener>>>,
    spare: Rc<Spare>,
}

impl Engine for Threads {
    type Listener = TcpListener;
    type Reader = TcpReader;
    type Writer = TcpWriter;
    type File = PoolFile;
    type Buffer = AlignedBuffer;
    type ReadBuffer = ReadBuffer;

    fn name(&self) -> &'static str {
        "threads"
    }

    fn shard(&self) -> usize {
        self.shard
    }

    fn spawn(&self, _weight: Weight, task: impl Future<Output = ()> + 'static) {
        // Weights need a scheduler of our own; what is heavy in the background goes through the pool anyway.
        drop(spawn_local(task));
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let place = Arc::new(Mutex::new(None));
        let filled = place.clone();
        let call = Box::new(move || {
            let value = work();
            *filled.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
        });
        drop(submit(&self.pool, &self.spare, Job::Call(call)).await);
        let value = place.lock().unwrap_or_else(PoisonError::into_inner).take();
        value.expect("the pool has run the closure")
    }

    fn listen(&self) -> io::Result<TcpListener> {
        let socket = self.socket.take().ok_or(io::ErrorKind::AddrNotAvailable)?;
        socket.set_nonblocking(true)?;
        Ok(TcpListener { inner: tokio::net::TcpListener::from_std(socket)? })
    }

    async fn connect(&self, address: SocketAddr, deadline: Duration) -> io::Result<(TcpReader, TcpWriter)> {
        let connecting = tokio::time::timeout(deadline, tokio::net::TcpStream::connect(address));
        let stream = connecting.await.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))??;
        halves(stream)
    }

    async fn open(&self, path: &Path, access: Access, create: Create) -> io::Result<PoolFile> {
        let path = path.to_owned();
        let file = self.blocking(move || open(&path, access, create)).await?;
        let (pool, spare) = (self.pool.clone(), self.spare.clone());
        Ok(PoolFile { file: Arc::new(file), is_direct: access == Access::Direct, pool, spare })
    }

    fn buffer(&self, capacity: usize) -> AlignedBuffer {
        self.spare.buffer(capacity)
    }

    fn recycle(&self, buffer: AlignedBuffer) {
        self.spare.recycle(buffer);
    }
}

fn open(path: &Path, access: Access, create: Create) -> io::Result<StdFile> {
    let mut options = OpenOptions::new();
    options.read(true).write(access != Access::BufferedRead).create_new(create == Create::New).mode(0o600);
    if access == Access::Direct {
        options.custom_flags(libc::O_DIRECT);
    }
    options.open(path)
}

/// A listening socket.
pub struct TcpListener {
    inner: tokio::net::TcpListener,
}

impl Listener for TcpListener {
    type Reader = TcpReader;
    type Writer = TcpWriter;

    async fn accept(&self) -> io::Result<(TcpReader, TcpWriter, SocketAddr)> {
        let (stream, address) = self.inner.accept().await?;
        let (reader, writer) = halves(stream)?;
        Ok((reader, writer, address))
    }

    fn address(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

fn halves(stream: tokio::net::TcpStream) -> io::Result<(TcpReader, TcpWriter)> {
    super::keep_alive(&stream)?;
    let (reader, writer) = stream.into_split();
    Ok((TcpReader { inner: reader }, TcpWriter { inner: writer }))
}

/// Receiving half.
pub struct TcpReader {
    inner: OwnedReadHalf,
}

impl Reader for TcpReader {
    async fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.inner.read(target).await
    }

    fn cutter(&self) -> Box<dyn Fn()> {
        let socket = self.inner.as_ref().as_raw_fd();
        Box::new(move || super::shut_down(socket))
    }
}

/// Sending half.
pub struct TcpWriter {
    inner: OwnedWriteHalf,
}

impl Writer for TcpWriter {
    type File = PoolFile;

    async fn write_all_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let stream: &tokio::net::TcpStream = self.inner.as_ref();
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut sent = 0;
        while sent < total {
            stream.writable().await?;
            match super::send_from(parts, sent, |slices| stream.try_write_vectored(slices)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(len) => sent += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn send_file(&mut self, file: &PoolFile, offset: u64, len: usize) -> io::Result<()> {
        let stream: &tokio::net::TcpStream = self.inner.as_ref();
        let mut sent = 0;
        while sent < len {
            stream.writable().await?;
            let send = || {
                super::send_file_once(
                    stream.as_raw_fd(),
                    file.file.as_raw_fd(),
                    offset + sent as u64,
                    len - sent,
                )
            };
            match stream.try_io(Interest::WRITABLE, send) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(part) => sent += part,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn shut_down(&mut self) {
        super::shut_down(self.inner.as_ref().as_raw_fd());
    }
}

/// An open file; operations that may wait happen in the pool.
pub struct PoolFile {
    file: Arc<StdFile>,
    is_direct: bool,
    pool: Arc<Pool>,
    spare: Rc<Spare>,
}

/// Bytes that were read; the memory goes back to its shard.
pub struct ReadBuffer {
    buffer: Option<AlignedBuffer>,
    spare: Rc<Spare>,
}

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], AsRef::as_ref)
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.spare.recycle(buffer);
        }
    }
}

impl PoolFile {
    async fn submit(&self, job: Job) -> Done {
        submit(&self.pool, &self.spare, job).await
    }
}

impl File for PoolFile {
    type Buffer = AlignedBuffer;
    type ReadBuffer = ReadBuffer;

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<ReadBuffer> {
        let mut buffer = self.spare.buffer(len);
        buffer.set_len(len);
        let mut filled = 0;
        if !self.is_direct {
            filled = super::read_resident(self.file.as_raw_fd(), buffer.as_mut(), offset);
        }
        if filled < len {
            let done = self.submit(Job::Read { file: self.file.clone(), buffer, offset, filled }).await;
            let Done::Buffer(result, returned) = done else { return Err(io::ErrorKind::Other.into()) };
            (filled, buffer) = (result?, returned);
        }
        buffer.set_len(filled);
        Ok(ReadBuffer { buffer: Some(buffer), spare: self.spare.clone() })
    }

    async fn write_at(
        &self,
        buffer: AlignedBuffer,
        len: usize,
        offset: u64,
    ) -> (io::Result<()>, AlignedBuffer) {
        match self.submit(Job::Write { file: self.file.clone(), buffer, len, offset }).await {
            Done::Buffer(result, buffer) => (result.map(|_| ()), buffer),
            Done::Nothing(result) => (result, AlignedBuffer::new(0)),
        }
    }

    async fn write_small_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        super::prompt(|| self.file.write_all_at(bytes, offset))
    }

    async fn sync_data(&self) -> io::Result<()> {
        self.submit(Job::Sync { file: self.file.clone() }).await.result()
    }

    async fn allocate(&self, len: u64, keep_size: bool) -> io::Result<()> {
        self.submit(Job::Allocate { file: self.file.clone(), len, keep_size }).await.result()
    }

    fn raw_fd(&self) -> Option<RawFd> {
        Some(self.file.as_raw_fd())
    }

    async fn close(self) {
        // Operations in flight hold the file too: the last of them closes it.
    }
}

enum Job {
    Read { file: Arc<StdFile>, buffer: AlignedBuffer, offset: u64, filled: usize },
    Write { file: Arc<StdFile>, buffer: AlignedBuffer, len: usize, offset: u64 },
    Sync { file: Arc<StdFile> },
    Allocate { file: Arc<StdFile>, len: u64, keep_size: bool },
    Call(Box<dyn FnOnce() + Send>),
}

enum Done {
    Buffer(io::Result<usize>, AlignedBuffer),
    Nothing(io::Result<()>),
}

impl Done {
    fn result(self) -> io::Result<()> {
        match self {
            Self::Nothing(result) => result,
            Self::Buffer(result, _) => result.map(|_| ()),
        }
    }
}

impl Job {
    fn run(self) -> Done {
        match self {
            Self::Read { file, mut buffer, offset, filled } => {
                let result = super::read_full(&file, buffer.as_mut(), offset, filled);
                Done::Buffer(result, buffer)
            }
            Self::Write { file, buffer, len, offset } => {
                let result = file.write_all_at(&buffer.as_ref()[..len], offset).map(|()| len);
                Done::Buffer(result, buffer)
            }
            Self::Sync { file } => Done::Nothing(file.sync_data()),
            Self::Allocate { file, len, keep_size } => Done::Nothing(super::allocate(&file, len, keep_size)),
            Self::Call(call) => {
                call();
                Done::Nothing(Ok(()))
            }
        }
    }
}

/// A place for one operation: used again and again.
#[derive(Default)]
struct Slot {
    state: Mutex<SlotState>,
}

#[derive(Default)]
struct SlotState {
    job: Option<Job>,
    done: Option<Done>,
    waker: Option<Waker>,
}

impl Slot {
    fn lock(&self) -> std::sync::MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for an operation in the pool. Dropped before, the operation still ends, and frees what it holds.
async fn submit(pool: &Pool, spare: &Spare, job: Job) -> Done {
    let slot = spare.slots.borrow_mut().pop().unwrap_or_default();
    slot.lock().job = Some(job);
    pool.push(slot.clone());
    let done = poll_fn(|context| {
        let mut state = slot.lock();
        match state.done.take() {
            Some(done) => Poll::Ready(done),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    })
    .await;
    let mut slots = spare.slots.borrow_mut();
    if slots.len() < SPARE_SLOTS {
        slots.push(slot);
    }
    done
}

/// The threads that wait for disks. Its queue is bounded by what the shards have in flight.
#[derive(Default)]
pub struct Pool {
    queue: Mutex<(VecDeque<Arc<Slot>>, bool)>,
    arrived: Condvar,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn start(threads: usize) -> io::Result<(Arc<Self>, Vec<std::thread::JoinHandle<()>>)> {
        let pool = Arc::new(Self::default());
        let start = |index| {
            let pool = pool.clone();
            std::thread::Builder::new().name(format!("io-{index}")).spawn(move || pool.work())
        };
        let threads = (0..threads.max(1)).map(start).collect::<io::Result<_>>()?;
        Ok((pool, threads))
    }

    /// Ends the threads after what is queued.
    pub fn stop(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.arrived.notify_all();
    }

    fn push(&self, slot: Arc<Slot>) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).0.push_back(slot);
        self.arrived.notify_one();
    }

    fn work(&self) {
        loop {
            let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            let idle =
                |(queue, is_stopped): &mut (VecDeque<Arc<Slot>>, bool)| queue.is_empty() && !*is_stopped;
            let mut queue = self.arrived.wait_while(queue, idle).unwrap_or_else(PoisonError::into_inner);
            let Some(slot) = queue.0.pop_front() else { return };
            drop(queue);
            let Some(job) = slot.lock().job.take() else { continue };
            let done = job.run();
            let waker = {
                let mut state = slot.lock();
                state.done = Some(done);
                state.waker.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}
