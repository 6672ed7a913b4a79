//! The datanode's engine over the simulated executor, network and disk.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use ringfs_datanode::engine::{Access, Create, Engine, File, Listener, Reader, Weight, Writer};
use ringfs_disk::{Disk, DiskFile, OpenOptions, SimulatedDisk};
use ringfs_proto::buffer::AlignedBuffer;

use crate::executor::{Executor, HostId};
use crate::network::{End, Listening, Network, address_of};
use ringfs_tests::random::Random;

/// Port of a datanode.
pub const PORT: u16 = 9866;
/// Buffers that a shard keeps for the next use.
const SPARE_BUFFERS: usize = 16;

/// A shard.
#[derive(Clone)]
pub struct Simulated {
    host: HostId,
    shard: usize,
    executor: Executor,
    network: Network,
    disk: SimulatedDisk,
    activity: Rc<Activity>,
    spare: Rc<RefCell<Vec<AlignedBuffer>>>,
    mistakes: Mistakes,
}

/// Mistakes that are made on purpose, to see them found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mistakes {
    /// Writes of data say that they are done before they are.
    pub acknowledges_early: bool,
}

/// Tells the link that replicas may have changed.
#[derive(Default)]
pub struct Activity {
    has_been: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Activity {
    /// Something was done.
    pub fn notify(&self) {
        self.has_been.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits until something was done since this was called last.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.has_been.take() {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

impl Simulated {
    /// A shard of a host.
    pub fn new(
        (host, shard): (HostId, usize),
        executor: &Executor,
        network: &Network,
        disk: &SimulatedDisk,
        activity: &Rc<Activity>,
        mistakes: Mistakes,
    ) -> Self {
        Self {
            host,
            shard,
            executor: executor.clone(),
            network: network.clone(),
            disk: disk.clone(),
            activity: activity.clone(),
            spare: Rc::default(),
            mistakes,
        }
    }

    /// How long an operation of the disk takes: mostly below a millisecond, sometimes much longer.
    async fn wait_for_disk(&self) {
        let pause = self.executor.draw(disk_pause);
        self.executor.sleep(Duration::from_micros(pause)).await;
    }
}

fn disk_pause(random: &mut Random) -> u64 {
    if random.chance(20) { random.range(2000..80_000) } else { random.range(20..400) }
}

impl Engine for Simulated {
    type Listener = SimulatedListener;
    type Reader = Receiver;
    type Writer = Sender;
    type File = OpenFile;
    type Buffer = AlignedBuffer;
    type ReadBuffer = Vec<u8>;

    fn name(&self) -> &'static str {
        "simulated"
    }

    fn shard(&self) -> usize {
        self.shard
    }

    fn spawn(&self, _weight: Weight, task: impl Future<Output = ()> + 'static) {
        self.executor.spawn(self.host, task);
    }

    async fn sleep(&self, duration: Duration) {
        self.executor.sleep(duration).await;
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.wait_for_disk().await;
        let value = work();
        self.activity.notify();
        self.wait_for_disk().await;
        value
    }

    fn listen(&self) -> io::Result<SimulatedListener> {
        Ok(SimulatedListener { listening: self.network.listen(self.host, PORT) })
    }

    async fn connect(&self, address: SocketAddr, deadline: Duration) -> io::Result<(Receiver, Sender)> {
        self.network.connect(self.host, address, deadline).await.map(halves)
    }

    async fn open(&self, path: &Path, access: Access, create: Create) -> io::Result<OpenFile> {
        self.wait_for_disk().await;
        let options = match access {
            Access::BufferedRead => OpenOptions::READ,
            Access::Buffered => OpenOptions::READ_WRITE,
            Access::Direct => OpenOptions::READ_WRITE.direct(),
        };
        let create = match create {
            Create::Existing => ringfs_disk::Create::Existing,
            Create::New => ringfs_disk::Create::New,
        };
        let file = self.disk.open(path, options.create(create))?;
        Ok(OpenFile { file, engine: self.clone() })
    }

    fn buffer(&self, capacity: usize) -> AlignedBuffer {
        let mut spare = self.spare.borrow_mut();
        let wanted = capacity.next_multiple_of(ringfs_datanode::engine::DIRECT_ALIGN);
        let found = spare.iter().rposition(|buffer| buffer.capacity() == wanted);
        let mut buffer = found.map_or_else(|| AlignedBuffer::new(capacity), |at| spare.swap_remove(at));
        buffer.set_len(buffer.capacity());
        buffer
    }

    fn recycle(&self, buffer: AlignedBuffer) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
    }
}

/// A listening socket.
pub struct SimulatedListener {
    listening: Listening,
}

impl Listener for SimulatedListener {
    type Reader = Receiver;
    type Writer = Sender;

    async fn accept(&self) -> io::Result<(Receiver, Sender, SocketAddr)> {
        let (end, address) = self.listening.accept().await;
        let (receiver, sender) = halves(end);
        Ok((receiver, sender, address))
    }

    fn address(&self) -> io::Result<SocketAddr> {
        Ok(self.listening.address)
    }
}

fn halves(end: End) -> (Receiver, Sender) {
    let end = Rc::new(end);
    (Receiver { end: end.clone() }, Sender { end })
}

/// Where the datanode of a host listens.
pub fn address(host: HostId) -> SocketAddr {
    SocketAddr::new(address_of(host), PORT)
}

/// Receiving half.
pub struct Receiver {
    end: Rc<End>,
}

impl Reader for Receiver {
    async fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.end.read(target).await
    }

    fn cutter(&self) -> Box<dyn Fn()> {
        let end = Rc::downgrade(&self.end);
        Box::new(move || {
            if let Some(end) = end.upgrade() {
                end.shut_down();
            }
        })
    }
}

/// Sending half.
pub struct Sender {
    end: Rc<End>,
}

impl Writer for Sender {
    type File = OpenFile;

    async fn write_all_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        self.end.write_all(&bytes).await
    }

    async fn send_file(&mut self, file: &OpenFile, offset: u64, len: usize) -> io::Result<()> {
        let bytes = file.read_at(offset, len).await?;
        if bytes.len() < len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.end.write_all(&bytes).await
    }

    fn shut_down(&mut self) {
        self.end.shut_down();
    }
}

/// An open file.
pub struct OpenFile {
    file: Arc<dyn DiskFile>,
    engine: Simulated,
}

impl File for OpenFile {
    type Buffer = AlignedBuffer;
    type ReadBuffer = Vec<u8>;

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.engine.wait_for_disk().await;
        let mut bytes = vec![0; len];
        let filled = self.file.read_full_at(&mut bytes, offset)?;
        bytes.truncate(filled);
        Ok(bytes)
    }

    async fn write_at(
        &self,
        buffer: AlignedBuffer,
        len: usize,
        offset: u64,
    ) -> (io::Result<()>, AlignedBuffer) {
        if self.engine.mistakes.acknowledges_early {
            let (engine, file, bytes) =
                (self.engine.clone(), self.file.clone(), buffer.as_ref()[..len].to_vec());
            let host = engine.host;
            self.engine.executor.spawn(host, async move {
                engine.executor.sleep(Duration::from_millis(100)).await;
                let _too_late_to_say = file.write_all_at(&bytes, offset);
            });
            return (Ok(()), buffer);
        }
        self.engine.wait_for_disk().await;
        let written = self.file.write_all_at(&buffer.as_ref()[..len], offset);
        self.engine.wait_for_disk().await;
        (written, buffer)
    }

    async fn write_small_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    async fn sync_data(&self) -> io::Result<()> {
        self.engine.wait_for_disk().await;
        let synced = self.file.sync_data();
        self.engine.wait_for_disk().await;
        synced
    }

    async fn allocate(&self, len: u64, keep_size: bool) -> io::Result<()> {
        self.file.allocate(len, keep_size)
    }

    fn raw_fd(&self) -> Option<std::os::fd::RawFd> {
        None
    }

    fn is_resident(&self, _offset: u64, _len: u64) -> bool {
        self.engine.executor.draw(|random| random.chance(500))
    }

    async fn close(self) {}
}
