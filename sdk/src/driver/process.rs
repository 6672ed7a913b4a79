//! The process and its forks: a generation that a fork raises, and the sockets that a child closes.
//!
//! The child's handler runs between `fork` and its first instruction in the child, where any lock may be held by a
//! thread that no longer exists: it only stores to atomics and calls `close`. A fork waits for drivers that are being
//! made, so that the child finds all their descriptors noted.

use std::cell::Cell;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, IntoRawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{io, ptr};

use crate::limits::SOCKETS_MAX;

const FREE: i32 = -1;
/// How long a thread that makes its driver, or forks, waits for another that makes its driver.
const MAKING_PATIENCE: Duration = Duration::from_millis(100);
static GENERATION: AtomicU64 = AtomicU64::new(1);
static DESCRIPTORS: [AtomicI32; SOCKETS_MAX] = [const { AtomicI32::new(FREE) }; SOCKETS_MAX];
static NEXT_SLOT: AtomicUsize = AtomicUsize::new(0);
static HANDLER: Once = Once::new();
/// One driver is made at a time, so that each finds its own descriptors, and none while the process forks. Not a lock of a
/// library: a child must be able to free it.
static IS_MAKING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// While this thread forks.
    static HELD_FOR_FORK: Cell<Option<Making>> = const { Cell::new(None) };
}

/// Rises by one in each forked child. Whatever carries a lower one was inherited.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Installs the handler that runs in forked children. Called before anything is opened.
pub(crate) fn watch_forks() {
    HANDLER.call_once(|| {
        // SAFETY: the handlers are functions of this program, which live as long as the process does.
        let code = unsafe { libc::pthread_atfork(Some(before_fork), Some(in_parent), Some(in_child)) };
        if code != 0 {
            tracing::warn!(code, "no fork handler could be installed: forked children must not use RingFS");
        }
    });
}

/// The right to make a driver, until it is dropped.
struct Making;

impl Making {
    /// Waits for it; `None` when another takes too long.
    fn begin() -> Option<Self> {
        let begin = Instant::now();
        while IS_MAKING.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_err() {
            if begin.elapsed() > MAKING_PATIENCE {
                return None;
            }
            std::thread::yield_now();
        }
        Some(Self)
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        IS_MAKING.store(false, Ordering::Release);
    }
}

extern "C" fn before_fork() {
    HELD_FOR_FORK.set(Making::begin());
}

extern "C" fn in_parent() {
    drop(HELD_FOR_FORK.take());
}

extern "C" fn in_child() {
    // Held for this fork, or by a thread that does not exist here.
    drop(HELD_FOR_FORK.take());
    IS_MAKING.store(false, Ordering::Release);
    GENERATION.fetch_add(1, Ordering::Relaxed);
    for slot in &DESCRIPTORS {
        let descriptor = slot.swap(FREE, Ordering::Relaxed);
        if descriptor != FREE {
            // SAFETY: the descriptor was opened by this crate in the parent, and its owners in this process see the new
            // generation and never use or close it again.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// A descriptor that a forked child closes.
#[derive(Debug)]
pub(crate) struct Inherited {
    slot: usize,
    generation: u64,
}

impl Inherited {
    /// Notes a descriptor.
    ///
    /// # Errors
    /// When the process has [`SOCKETS_MAX`] already.
    pub fn note(descriptor: i32) -> io::Result<Self> {
        let begin = NEXT_SLOT.fetch_add(1, Ordering::Relaxed);
        for offset in 0..SOCKETS_MAX {
            let slot = (begin + offset) % SOCKETS_MAX;
            let free = &DESCRIPTORS[slot];
            if free.compare_exchange(FREE, descriptor, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Ok(Self { slot, generation: generation() });
            }
        }
        Err(io::Error::other(format!("this process has {SOCKETS_MAX} sockets of RingFS open")))
    }

    /// Whether this process opened it.
    pub fn is_ours(&self) -> bool {
        self.generation == generation()
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        if self.is_ours() {
            DESCRIPTORS[self.slot].store(FREE, Ordering::Relaxed);
        }
    }
}

/// Descriptors of a driver that a forked child closes, found by looking before and after it is made: the library that makes
/// them does not tell.
#[derive(Debug)]
pub(crate) struct Found {
    _inherited: Vec<Inherited>,
}

impl Found {
    /// Makes something, and notes the rings and epoll instances that it has opened, `opens_max` at most. When other code of
    /// the program opens such descriptors at the same moment, nobody can tell whose is whose, and none is noted: they
    /// then stay open in a child until it executes another program.
    pub fn made_by<T>(make: impl FnOnce() -> T, opens_max: usize) -> (T, Self) {
        let making = Making::begin();
        let before = driver_descriptors();
        let made = make();
        let after = driver_descriptors();
        let found: Vec<i32> = after.into_iter().filter(|descriptor| !before.contains(descriptor)).collect();
        let is_sure = making.is_some() && found.len() <= opens_max;
        let inherited = if is_sure { found } else { Vec::new() };
        let noted = inherited.into_iter().filter_map(|descriptor| Inherited::note(descriptor).ok());
        (made, Self { _inherited: noted.collect() })
    }
}

/// Rings and epoll instances that are open in this process.
fn driver_descriptors() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let is_driver = |entry: &std::fs::DirEntry| {
        let target = std::fs::read_link(entry.path()).unwrap_or_default();
        ["anon_inode:[io_uring]", "anon_inode:[eventpoll]"].iter().any(|kind| target.as_os_str() == *kind)
    };
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse().ok();
    entries.flatten().filter(is_driver).filter_map(number).collect()
}

/// A socket that a forked child closes in the handler and then never touches.
#[derive(Debug)]
pub(crate) struct Socket {
    stream: Option<TcpStream>,
    inherited: Inherited,
}

impl Socket {
    /// Takes a connected stream.
    ///
    /// # Errors
    /// When the process has too many.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        let inherited = Inherited::note(stream.as_raw_fd())?;
        Ok(Self { stream: Some(stream), inherited })
    }

    /// The stream.
    ///
    /// # Errors
    /// In a forked child of the process that opened it.
    pub fn stream(&self) -> io::Result<&TcpStream> {
        match &self.stream {
            Some(stream) if self.inherited.is_ours() => Ok(stream),
            _ => Err(io::Error::other("the connection belongs to the parent process")),
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(stream) = self.stream.take() {
            if self.inherited.is_ours() {
                // The slot first: a descriptor that is closed must not be closed again by a child, as another's.
                DESCRIPTORS[self.inherited.slot].store(FREE, Ordering::Relaxed);
                drop(stream);
            } else {
                let _closed_by_the_handler = stream.into_raw_fd();
            }
        }
    }
}

/// A value that only the process which made it uses and drops: what is behind it may have been in the hands of another
/// thread at the fork.
#[derive(Debug)]
pub(crate) struct OfProcess<T> {
    value: Option<T>,
    generation: u64,
}

impl<T> OfProcess<T> {
    pub fn new(value: T) -> Self {
        Self { value: Some(value), generation: generation() }
    }

    /// The value; `None` in a forked child.
    pub fn get(&self) -> Option<&T> {
        self.value.as_ref().filter(|_| self.generation == generation())
    }

    /// The value; `None` in a forked child.
    pub fn get_mut(&mut self) -> Option<&mut T> {
        self.value.as_mut().filter(|_| self.generation == generation())
    }
}

impl<T> Drop for OfProcess<T> {
    fn drop(&mut self) {
        if self.generation != generation() {
            let _left_to_the_end_of_the_process = self.value.take().map(std::mem::ManuallyDrop::new);
        }
    }
}

/// A value that each process of a family of forks makes for itself, locks included.
#[derive(Debug)]
pub(crate) struct PerProcess<T> {
    current: AtomicPtr<Made<T>>,
}

#[derive(Debug)]
struct Made<T> {
    generation: u64,
    value: T,
}

// SAFETY: the pointer is reached by shared reference only, and what it points to is never moved; the value itself is
// `Send` and `Sync`.
unsafe impl<T: Send + Sync> Send for PerProcess<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for PerProcess<T> {}

impl<T> PerProcess<T> {
    pub const fn new() -> Self {
        Self { current: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The value of this process, made by `make` at the first call. What was inherited is neither used nor dropped.
    pub fn get(&self, make: impl FnOnce() -> T) -> &T {
        let found = self.current.load(Ordering::Acquire);
        // SAFETY: a pointer that was ever stored is from `Box::into_raw` and is freed by `drop` alone, which excludes us.
        if let Some(made) = unsafe { found.as_ref() }
            && made.generation == generation()
        {
            return &made.value;
        }
        self.replace(found, make())
    }

    fn replace(&self, found: *mut Made<T>, value: T) -> &T {
        let fresh = Box::into_raw(Box::new(Made { generation: generation(), value }));
        let won = self.current.compare_exchange(found, fresh, Ordering::AcqRel, Ordering::Acquire);
        let kept = match won {
            Ok(_) => fresh,
            Err(other) => {
                // SAFETY: `fresh` was not published, so this is its only owner.
                drop(unsafe { Box::from_raw(fresh) });
                other
            }
        };
        // SAFETY: not null, and as in `get`.
        unsafe { &(*kept).value }
    }
}

impl<T> Drop for PerProcess<T> {
    fn drop(&mut self) {
        let found = *self.current.get_mut();
        // SAFETY: as in `get`.
        let is_ours = unsafe { found.as_ref() }.is_some_and(|made| made.generation == generation());
        if is_ours {
            // SAFETY: from `Box::into_raw`, and `&mut self` makes this the only owner.
            drop(unsafe { Box::from_raw(found) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_made_once_and_dropped_with_its_owner() {
        let value = std::sync::Arc::new(());
        let cell = PerProcess::new();
        assert!(std::sync::Arc::ptr_eq(cell.get(|| value.clone()), &value));
        cell.get(|| unreachable!("made already"));
        drop(cell);
        assert_eq!(std::sync::Arc::strong_count(&value), 1);
    }
}
