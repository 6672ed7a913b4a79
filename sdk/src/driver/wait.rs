//! Waiting until a socket can be read or written: one by `poll`, several by the ring or by `poll`; in a fiber, by giving
//! the thread to other fibers.

use std::io;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::fiber;

/// What is waited for on one socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Interest<'a> {
    pub stream: &'a TcpStream,
    pub read: bool,
    pub write: bool,
}

/// How several sockets are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// By io_uring where it is allowed, else by epoll.
    Ring,
    /// By epoll.
    Epoll,
    /// By poll: for threads that run monoio themselves.
    Poll,
}

/// Waits until one of the sockets is ready, or has failed, or `until` has passed. Returns whether one is ready.
pub(crate) fn any(interests: &[Interest<'_>], until: Instant, waiting: Waiting) -> io::Result<bool> {
    if let Some(woken) = fiber::wait(interests, until) {
        return woken;
    }
    if interests.len() > 1
        && let Some(ready) = super::ring::any(interests, until, waiting)
    {
        return ready;
    }
    by_poll(interests, until)
}

/// Waits for one socket.
pub(crate) fn one(interest: Interest<'_>, until: Instant) -> io::Result<bool> {
    match fiber::wait(&[interest], until) {
        Some(woken) => woken,
        None => by_poll(&[interest], until),
    }
}

/// Lets time pass. (Parking the thread would swallow a wake-up that is meant for the caller.)
pub(crate) fn pause(pause: Duration) {
    let until = Instant::now() + pause;
    if fiber::wait(&[], until).is_some() {
        return;
    }
    // Without descriptors the kernel can only refuse for want of memory; the pause is then shorter.
    let _elapsed = poll_until(&mut [], until);
}

fn by_poll(interests: &[Interest<'_>], until: Instant) -> io::Result<bool> {
    if let [interest] = interests {
        // The common case allocates nothing.
        return poll_until(&mut [descriptor(interest)], until);
    }
    let mut descriptors: Vec<PollFd<'_>> = interests.iter().map(descriptor).collect();
    poll_until(&mut descriptors, until)
}

fn descriptor<'a>(interest: &Interest<'a>) -> PollFd<'a> {
    let mut flags = PollFlags::empty();
    flags.set(PollFlags::POLLIN, interest.read);
    flags.set(PollFlags::POLLOUT, interest.write);
    PollFd::new(interest.stream.as_fd(), flags)
}

fn poll_until(descriptors: &mut [PollFd<'_>], until: Instant) -> io::Result<bool> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up, so that the last millisecond is not spent in a busy loop.
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(descriptors, timeout) {
            Ok(ready) if ready > 0 => return Ok(true),
            Ok(_) if Instant::now() >= until => return Ok(false),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
