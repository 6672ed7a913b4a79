//! System calls that both engines make in the same way.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

/// Parts that one gathering send takes.
const PARTS_MAX: usize = 8;
/// A call that a shard makes itself and that takes longer has waited for something.
const PROMPT: Duration = Duration::from_millis(1);
/// `cachestat(2)`, Linux 6.5: not in libc yet.
const SYS_CACHESTAT: libc::c_long = 451;

/// Calls of shards that were not prompt. Written so seldom that all shards may share it.
static BLOCKED_CALLS: AtomicU64 = AtomicU64::new(0);

/// How many calls have kept a shard waiting for more than a millisecond.
pub fn blocked_calls() -> u64 {
    BLOCKED_CALLS.load(Ordering::Relaxed)
}

/// Makes a call that should not wait, and counts it when it does.
pub fn prompt<T>(call: impl FnOnce() -> T) -> T {
    let begin = Instant::now();
    let result = call();
    if begin.elapsed() > PROMPT {
        BLOCKED_CALLS.fetch_add(1, Ordering::Relaxed);
    }
    result
}

/// Sets `TCP_NODELAY`, and keepalive as DESIGN has it: 20 s idle, 3 probes 5 s apart.
pub fn keep_alive(stream: &impl AsFd) -> io::Result<()> {
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(20))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    let socket = socket2::SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)
}

/// Sends what comes after the first `sent` bytes of `parts`, by one call of `send`.
pub fn send_from(
    parts: &[IoSlice<'_>],
    mut sent: usize,
    send: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut rest = [IoSlice::new(&[]); PARTS_MAX];
    let mut count = 0;
    for part in parts {
        if sent >= part.len() {
            sent -= part.len();
        } else if count < PARTS_MAX {
            rest[count] = IoSlice::new(&part[sent..]);
            (sent, count) = (0, count + 1);
        }
    }
    send(&rest[..count])
}

/// One `sendfile` from `offset` on.
pub fn send_file_once(socket: RawFd, file: RawFd, offset: u64, len: usize) -> io::Result<usize> {
    let mut at = i64::try_from(offset).map_err(io::Error::other)?;
    // SAFETY: the kernel only reads and advances `at`; both descriptors are open while their owners are borrowed.
    let sent = prompt(|| unsafe { libc::sendfile(socket, file, &raw mut at, len) });
    usize::try_from(sent).map_err(|_negative| io::Error::last_os_error())
}

/// Shuts a socket down in both directions; whoever waits on it notices.
pub fn shut_down(socket: RawFd) {
    // A socket that is not connected any more is what is wanted.
    let _not_connected = shutdown(socket, Shutdown::Both);
}

/// Reads what the page cache has at once; returns how many bytes.
pub fn read_resident(file: RawFd, target: &mut [u8], offset: u64) -> usize {
    let Ok(offset) = i64::try_from(offset) else { return 0 };
    let slice = IoSliceMut::new(target);
    // SAFETY: one valid slice, whose memory stays borrowed during the call; `IoSliceMut` has the layout of `iovec`.
    let read = unsafe { libc::preadv2(file, (&raw const slice).cast(), 1, offset, libc::RWF_NOWAIT) };
    usize::try_from(read).unwrap_or(0)
}

/// Fills `target` from byte `filled` on; returns how many bytes it holds, fewer at the end of the file.
pub fn read_full(file: &File, target: &mut [u8], offset: u64, mut filled: usize) -> io::Result<usize> {
    while filled < target.len() {
        match file.read_at(&mut target[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Allocates space from the start of a file.
pub fn allocate(file: &File, len: u64, keep_size: bool) -> io::Result<()> {
    let len = i64::try_from(len).map_err(io::Error::other)?;
    let mode = if keep_size { libc::FALLOC_FL_KEEP_SIZE } else { 0 };
    // SAFETY: a call without pointers on a descriptor that `file` keeps open.
    let result = unsafe { libc::fallocate(file.as_raw_fd(), mode, 0, len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether a range of a file is in the page cache as a whole, so that sending it waits for no disk.
pub fn is_resident(file: RawFd, offset: u64, len: u64) -> bool {
    let range = [offset, len];
    // nr_cache, nr_dirty, nr_writeback, nr_evicted, nr_recently_evicted
    let mut pages = [0u64; 5];
    // SAFETY: the kernel reads two and writes five 64-bit numbers.
    let result = unsafe { libc::syscall(SYS_CACHESTAT, file, range.as_ptr(), pages.as_mut_ptr(), 0) };
    let first = offset / 4096;
    let last = (offset + len).div_ceil(4096);
    result == 0 && pages[0] >= last - first
}

/// Tells the kernel that a range will be read soon.
pub fn will_need(file: RawFd, offset: u64, len: u64) {
    let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
    // SAFETY: a call without pointers. It is only a hint: no result matters.
    let _hint = unsafe { libc::posix_fadvise(file, offset, len, libc::POSIX_FADV_WILLNEED) };
}

/// Sends what the socket takes at once.
pub fn send_now(socket: RawFd, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: an all-zero message header is valid: no name, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = parts.as_ptr().cast_mut().cast();
    message.msg_iovlen = parts.len();
    // SAFETY: the header points to `parts`, which stay borrowed; `IoSlice` has the layout of `iovec`.
    let sent = unsafe { libc::sendmsg(socket, &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_negative| io::Error::last_os_error())
}

/// The first part that is not sent yet, from its first byte that is not.
pub fn first_after<'a>(parts: &'a [IoSlice<'_>], mut sent: usize) -> &'a [u8] {
    for part in parts {
        if sent < part.len() {
            return &part[sent..];
        }
        sent -= part.len();
    }
    &[]
}

/// Writes a few bytes through the page cache.
pub fn write_all_now(file: RawFd, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let at = i64::try_from(offset).map_err(io::Error::other)?;
        // SAFETY: the kernel reads `bytes`, which stay borrowed.
        let written = unsafe { libc::pwrite(file, bytes.as_ptr().cast(), bytes.len(), at) };
        match usize::try_from(written) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(_negative) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// Whether the kernel and the container allow io_uring.
pub fn probe_io_uring() -> io::Result<()> {
    let mut params = [0u8; 120];
    // SAFETY: the kernel fills at most the 120 bytes of `struct io_uring_params`.
    let descriptor = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr()) };
    let Ok(descriptor) = RawFd::try_from(descriptor) else { return Err(io::Error::other("no descriptor")) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    nix::unistd::close(descriptor).map_err(io::Error::from)
}

/// Tells the kernel to read no more of a file than is asked for.
pub fn no_read_ahead(file: RawFd) {
    // SAFETY: as above.
    let _hint = unsafe { libc::posix_fadvise(file, 0, 0, libc::POSIX_FADV_RANDOM) };
}
