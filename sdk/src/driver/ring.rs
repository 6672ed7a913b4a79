//! Waiting for several sockets through monoio: io_uring where the kernel allows it, else epoll.
//!
//! The sockets are gathered in an epoll instance of the thread, and the driver waits for that one descriptor. So a
//! socket is never lent to the driver: what it reads lands in the caller's memory by plain `recvmsg`, no operation of the
//! kernel outlives the call, and closing a socket closes it, whatever the driver still waits for.
//!
//! monoio refuses to run inside itself, and does not tell before. A thread where that happens is served by `poll` from
//! then on.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use monoio::net::TcpStream;
use monoio::time::TimeDriver;
use monoio::{FusionDriver, FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::process::{Found, generation};
use super::wait::{Interest, Waiting};

type Runtime = FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>;

/// What a driver opens: the runtime's ring or epoll instance, and the one that gathers sockets.
const DRIVER_DESCRIPTORS_MAX: usize = 2;

thread_local! {
    static DRIVER: RefCell<Slot> = const { RefCell::new(Slot::Unmade) };
}

enum Slot {
    Unmade,
    Made(Box<Leaked>),
    /// The thread runs monoio itself, or the kernel gives no driver.
    Unusable,
}

/// The driver of a thread. Not dropped in a forked child, where its descriptors mean other things.
struct Leaked {
    driver: Option<Driver>,
    waiting: Waiting,
    generation: u64,
}

struct Driver {
    // Dropped in this order: a descriptor that is closed must not be closed again by a child, as another's.
    _inherited: Found,
    gathered: TcpStream,
    runtime: Runtime,
}

impl Drop for Leaked {
    fn drop(&mut self) {
        if self.generation != generation() {
            let _left_to_the_end_of_the_process = self.driver.take().map(std::mem::ManuallyDrop::new);
        }
    }
}

/// Waits like [`super::wait::any`]; `None` where this thread cannot run the driver.
pub(super) fn any(interests: &[Interest<'_>], until: Instant, waiting: Waiting) -> Option<io::Result<bool>> {
    if cfg!(panic = "abort") || waiting == Waiting::Poll {
        return None;
    }
    let used = DRIVER.try_with(|slot| slot.try_borrow_mut().ok()?.any(interests, until, waiting));
    used.ok().flatten()
}

impl Slot {
    fn any(
        &mut self,
        interests: &[Interest<'_>],
        until: Instant,
        waiting: Waiting,
    ) -> Option<io::Result<bool>> {
        if matches!(self, Self::Made(made) if made.generation != generation() || made.waiting != waiting) {
            *self = Self::Unmade;
        }
        if matches!(self, Self::Unmade) {
            *self = make(waiting);
        }
        let Self::Made(made) = self else { return None };
        let driver = made.driver.as_mut()?;
        let waited = driver.wait(interests, until);
        if waited.is_none() {
            *self = Self::Unusable;
        }
        waited
    }
}

fn make(waiting: Waiting) -> Slot {
    match Driver::make(waiting) {
        Ok(Some(driver)) => {
            Slot::Made(Box::new(Leaked { driver: Some(driver), waiting, generation: generation() }))
        }
        Ok(None) => Slot::Unusable,
        Err(error) => {
            tracing::debug!(%error, "no driver for this thread: it is served by poll");
            Slot::Unusable
        }
    }
}

impl Driver {
    /// `None` inside another runtime of this kind.
    fn make(waiting: Waiting) -> io::Result<Option<Self>> {
        // A child of fork gets neither the memory of the ring nor, after its handler, the descriptors.
        let open = || Ok::<_, io::Error>((make_runtime(waiting)?, make_epoll()?));
        let (opened, inherited) = Found::made_by(open, DRIVER_DESCRIPTORS_MAX);
        let (mut runtime, epoll) = opened?;
        let Some(gathered) = run(&mut runtime, async { TcpStream::from_std(epoll) }) else { return Ok(None) };
        Ok(Some(Self { _inherited: inherited, gathered: gathered?, runtime }))
    }

    fn wait(&mut self, interests: &[Interest<'_>], until: Instant) -> Option<io::Result<bool>> {
        let epoll = self.gathered.as_raw_fd();
        let mut gathered = 0;
        let mut result = Some(Ok(true));
        for interest in interests {
            match gather(epoll, interest) {
                Ok(()) => gathered += 1,
                Err(error) => result = Some(Err(error)),
            }
        }
        if gathered == interests.len() {
            result = self.wait_gathered(until);
        }
        for interest in interests.iter().take(gathered) {
            // SAFETY: no event is passed; a descriptor that is not there is refused.
            unsafe {
                libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, interest.stream.as_raw_fd(), std::ptr::null_mut())
            };
        }
        result
    }

    fn wait_gathered(&mut self, until: Instant) -> Option<io::Result<bool>> {
        let Self { gathered, runtime, .. } = self;
        let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let waited = run(runtime, async { monoio::time::timeout(left, gathered.readable(false)).await })?;
        Some(match waited {
            Ok(Ok(())) => Ok(true),
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Ok(false),
        })
    }
}

/// An epoll instance, which the runtime takes for a socket.
fn make_epoll() -> io::Result<StdStream> {
    // SAFETY: no pointers; the result is checked below.
    let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    if epoll < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and has no other owner. It is only ever waited for and closed, which does not
    // depend on its being a socket.
    Ok(unsafe { StdStream::from_raw_fd(epoll) })
}

fn make_runtime(waiting: Waiting) -> io::Result<Runtime> {
    match waiting {
        Waiting::Ring => {
            let mut ring = io_uring::IoUring::builder();
            ring.dontfork();
            RuntimeBuilder::<FusionDriver>::new().uring_builder(ring).enable_timer().build()
        }
        Waiting::Epoll | Waiting::Poll => {
            Ok(RuntimeBuilder::<LegacyDriver>::new().enable_timer().build()?.into())
        }
    }
}

/// `None` when this thread is inside monoio already.
fn run<T>(runtime: &mut Runtime, future: impl Future<Output = T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(|| runtime.block_on(future))).ok()
}

fn gather(epoll: RawFd, interest: &Interest<'_>) -> io::Result<()> {
    let read = if interest.read { libc::EPOLLIN } else { 0 };
    let write = if interest.write { libc::EPOLLOUT } else { 0 };
    let mut event = libc::epoll_event { events: (read | write) as u32, u64: 0 };
    // SAFETY: the event lives over the call, and the kernel copies it.
    let code =
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, interest.stream.as_raw_fd(), &raw mut event) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How this thread waits for several sockets, for tests.
#[cfg(test)]
pub(super) fn is_made() -> Option<bool> {
    DRIVER.with_borrow(|slot| match slot {
        Slot::Unmade => None,
        Slot::Made(_) => Some(true),
        Slot::Unusable => Some(false),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::super::wait;
    use super::*;

    fn pair() -> (StdStream, StdStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let near = StdStream::connect(listener.local_addr().expect("address")).expect("connect");
        (near, listener.accept().expect("accept").0)
    }

    /// Waits for two sockets: neither is ready, then the second.
    fn check(waiting: Waiting) {
        let ((first, _peer), (second, mut writer)) = (pair(), pair());
        let interests = [&first, &second].map(|stream| Interest { stream, read: true, write: false });
        let soon = || Instant::now() + Duration::from_millis(5);
        assert!(!wait::any(&interests, soon(), waiting).expect("waits"), "nothing is ready");
        writer.write_all(b"x").expect("write");
        let late = Instant::now() + Duration::from_secs(60);
        assert!(wait::any(&interests, late, waiting).expect("waits"));
        assert!(wait::any(&interests, late, waiting).expect("waits"), "still ready");
    }

    #[test]
    fn each_way_of_waiting_sees_what_is_ready() {
        for waiting in [Waiting::Ring, Waiting::Epoll, Waiting::Poll, Waiting::Ring] {
            check(waiting);
        }
        assert_eq!(is_made(), Some(true));
    }

    #[test]
    fn inside_monoio_the_thread_is_served_by_poll() {
        let mut outer = RuntimeBuilder::<FusionDriver>::new().build().expect("runtime");
        outer.block_on(async { check(Waiting::Ring) });
        assert_eq!(is_made(), Some(false));
        check(Waiting::Ring);
    }
}
