//! The seam between block serving and the machine: tasks, timers, sockets, files.
//!
//! Everything above this module is written once, against [`Engine`], as single-threaded async code; a shard (one
//! thread) runs it. Two engines implement the seam from the first day: `glommio` (thread per CPU, io_uring, direct
//! I/O) and `threads` (epoll and a fixed pool for file I/O, where the kernel or the container forbids io_uring).
//! Each runtime is named in its own module only.
//!
//! Rules for both: a buffer given to the kernel is owned by the operation until it completes, whatever happens to the
//! future; no call blocks a shard for more than about 100 µs, file-system calls that may (mkdir, unlink, rename,
//! fsync of a directory) go through [`Engine::blocking`].

pub mod glommio;
mod start;
pub mod stop;
mod system;
#[cfg(test)]
mod tests;
pub mod threads;

use std::future::Future;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::path::Path;
use std::time::Duration;

pub use start::{Engines, NOT_LOGGED, Options, start};
pub use stop::Stop;
use system::allocate;
pub use system::blocked_calls;
use system::{
    first_after, keep_alive, probe_io_uring, prompt, read_full, read_resident, send_file_once, send_from,
    send_now, shut_down, write_all_now,
};

/// Alignment of addresses, offsets and lengths of direct I/O, in bytes.
pub const DIRECT_ALIGN: usize = 4096;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Through the page cache, for reading.
    BufferedRead,
    /// Through the page cache, for reading and writing.
    Buffered,
    /// Around the page cache (`O_DIRECT`), for reading and writing.
    Direct,
}

/// Whether a file is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// It must exist.
    Existing,
    /// It must not exist.
    New,
}

/// Weight of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Serves a client.
    Foreground,
    /// May wait: scrubbing, copying, deleting.
    Background,
}

/// What the shards of an engine run: written once, for every engine.
#[allow(async_fn_in_trait, reason = "every future stays on its shard")]
pub trait Service: Clone + Send + 'static {
    /// Runs on one shard until `stop`.
    async fn run<E: Engine>(self, engine: E, stop: Stop);
}

/// One shard of an engine: a handle that is cheap to clone and stays on its thread.
#[allow(async_fn_in_trait, reason = "every future stays on its shard: no Send bound is wanted")]
pub trait Engine: Clone + 'static {
    /// A listening socket.
    type Listener: Listener<Reader = Self::Reader, Writer = Self::Writer>;
    /// Receiving half of a connection.
    type Reader: Reader;
    /// Sending half of a connection.
    type Writer: Writer<File = Self::File>;
    /// An open file.
    type File: File<Buffer = Self::Buffer, ReadBuffer = Self::ReadBuffer>;
    /// Memory for writing: aligned to [`DIRECT_ALIGN`], of fixed capacity.
    type Buffer: AsRef<[u8]> + AsMut<[u8]> + 'static;
    /// Memory with bytes that were read.
    type ReadBuffer: AsRef<[u8]> + 'static;

    /// Name of the engine, for logs: `glommio` or `threads`.
    fn name(&self) -> &'static str;

    /// Index of this shard.
    fn shard(&self) -> usize;

    /// Runs a task on this shard.
    fn spawn(&self, weight: Weight, task: impl Future<Output = ()> + 'static);

    /// Waits.
    async fn sleep(&self, duration: Duration);

    /// Runs a blocking closure on a helper thread; the number of helper threads is bounded.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T;

    /// Listens on the socket that this shard was started with.
    ///
    /// # Errors
    /// `AddrNotAvailable` when it listens already; whatever the runtime says.
    fn listen(&self) -> io::Result<Self::Listener>;

    /// Connects, with `TCP_NODELAY` and keepalive.
    ///
    /// # Errors
    /// `TimedOut` after `deadline`, or what connect says.
    async fn connect(
        &self,
        address: SocketAddr,
        deadline: Duration,
    ) -> io::Result<(Self::Reader, Self::Writer)>;

    /// Opens a file, `O_CLOEXEC`.
    ///
    /// # Errors
    /// What open says; `InvalidInput` when the file system refuses direct I/O.
    async fn open(&self, path: &Path, access: Access, create: Create) -> io::Result<Self::File>;

    /// A buffer of `capacity` bytes, a multiple of [`DIRECT_ALIGN`], from this shard's pool when it has one.
    fn buffer(&self, capacity: usize) -> Self::Buffer;

    /// Gives a buffer back to the pool.
    fn recycle(&self, buffer: Self::Buffer);
}

/// A listening socket.
#[allow(async_fn_in_trait, reason = "every future stays on its shard")]
pub trait Listener: 'static {
    /// Receiving half of an accepted connection.
    type Reader: Reader;
    /// Sending half of an accepted connection.
    type Writer: Writer;

    /// Waits for a connection. It is set to `TCP_NODELAY` and keepalive.
    ///
    /// # Errors
    /// What accept says; the caller pauses and goes on.
    async fn accept(&self) -> io::Result<(Self::Reader, Self::Writer, SocketAddr)>;

    /// Where it listens.
    ///
    /// # Errors
    /// What getsockname says.
    fn address(&self) -> io::Result<SocketAddr>;
}

/// Receiving half of a connection.
#[allow(async_fn_in_trait, reason = "every future stays on its shard")]
pub trait Reader: 'static {
    /// Receives at least one byte, or 0 at the end of the stream.
    ///
    /// # Errors
    /// What recv says.
    async fn read(&mut self, target: &mut [u8]) -> io::Result<usize>;

    /// Fills `target`.
    ///
    /// # Errors
    /// `UnexpectedEof` when the stream ends before, or what recv says.
    async fn read_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < target.len() {
            match self.read(&mut target[filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => filled += len,
            }
        }
        Ok(())
    }

    /// A call that ends the stream in both directions while a task waits for it, for watchdogs. It may be made as long as
    /// this half lives.
    fn cutter(&self) -> Box<dyn Fn()>;
}

/// Sending half of a connection.
#[allow(async_fn_in_trait, reason = "every future stays on its shard")]
pub trait Writer: 'static {
    /// The engine's files, for [`Writer::send_file`].
    type File: File;

    /// Sends all parts in order.
    ///
    /// # Errors
    /// What send says; the stream is then useless.
    async fn write_all_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// Sends `len` bytes of a buffered file from the page cache, without copying them through user space.
    ///
    /// # Errors
    /// `UnexpectedEof` when the file ends before, or what sendfile says; the stream is then useless.
    async fn send_file(&mut self, file: &Self::File, offset: u64, len: usize) -> io::Result<()>;

    /// Ends the stream in both directions; both halves notice.
    fn shut_down(&mut self);
}

/// An open file.
#[allow(async_fn_in_trait, reason = "every future stays on its shard")]
pub trait File: 'static {
    /// Memory for writing.
    type Buffer;
    /// Memory with bytes that were read.
    type ReadBuffer;

    /// Reads up to `len` bytes; fewer at the end of the file. A direct file needs an aligned offset and length.
    ///
    /// # Errors
    /// What read says.
    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Self::ReadBuffer>;

    /// Writes the first `len` bytes of `buffer` and gives it back. A direct file needs an aligned offset and length.
    ///
    /// # Errors
    /// What write says; a short write is repeated inside.
    async fn write_at(&self, buffer: Self::Buffer, len: usize, offset: u64)
    -> (io::Result<()>, Self::Buffer);

    /// Writes a few bytes through the page cache, at once: for slots and checksums of a buffered file, at most 64 KiB.
    ///
    /// # Errors
    /// What write says; a short write is repeated inside.
    async fn write_small_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes data and needed metadata durable.
    ///
    /// # Errors
    /// What fdatasync says: fatal for the volume, never retried.
    async fn sync_data(&self) -> io::Result<()>;

    /// Allocates space for `len` bytes from the start, without changing the file's size when `keep_size`.
    ///
    /// # Errors
    /// What fallocate says.
    async fn allocate(&self, len: u64, keep_size: bool) -> io::Result<()>;

    /// The descriptor, for hints to the kernel. `None` where there is no kernel below: hints are then lost.
    fn raw_fd(&self) -> Option<RawFd>;

    /// Whether a range is in the page cache as a whole, so that [`Writer::send_file`] of it waits for no disk.
    fn is_resident(&self, offset: u64, len: u64) -> bool {
        self.raw_fd().is_some_and(|file| system::is_resident(file, offset, len))
    }

    /// A range will be read soon. A hint.
    fn will_need(&self, offset: u64, len: u64) {
        if let Some(file) = self.raw_fd() {
            system::will_need(file, offset, len);
        }
    }

    /// No more shall be read into the page cache than is asked for. A hint.
    fn no_read_ahead(&self) {
        if let Some(file) = self.raw_fd() {
            system::no_read_ahead(file);
        }
    }

    /// Closes the file after operations in flight.
    async fn close(self);
}
