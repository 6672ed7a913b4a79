//! The thread of a reactor: fibers in turn, and one epoll instance for all that they wait for.
//!
//! A fiber runs until it waits; its sockets are then armed for one event, and its deadline is noted. What is ready runs
//! next. Nothing on this thread blocks but the one wait for the kernel.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Instant;

use async_channel::{Receiver, Sender};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::SigSet;

use super::fiber::{Awaited, Body, Fiber, Stack, Turn, Wait};
use super::process::{Inherited, watch_forks};
use super::tasks::{Tasks, Token};
use crate::limits::{
    FIBER_STACKS_IDLE_MAX, REACTOR_EVENTS_MAX, REACTOR_OPERATIONS_MAX, REACTOR_QUEUE_LEN_MAX,
};

/// What the bell's descriptor is called among the tokens.
const BELL: u64 = u64::MAX;

/// Work for a reactor.
pub(crate) struct Operation {
    pub body: Body,
    /// Set when nobody wants the result any more: then it is not begun, or its stack is unwound. `None`: it is carried
    /// out to its end.
    pub abandoned: Option<Arc<AtomicBool>>,
}

impl Operation {
    fn is_abandoned(&self) -> bool {
        self.abandoned.as_ref().is_some_and(|abandoned| abandoned.load(SeqCst))
    }
}

/// A reactor as other threads see it.
#[derive(Debug)]
pub(crate) struct Remote {
    queue: Sender<Operation>,
    bell: EventFd,
    /// Whether the reactor waits in the kernel, or is about to.
    is_asleep: AtomicBool,
    is_stopping: AtomicBool,
    has_abandoned: AtomicBool,
    _inherited: Inherited,
}

impl Remote {
    /// Hands over an operation. Waits while the queue is full.
    ///
    /// # Errors
    /// The reactor has stopped.
    pub async fn submit(&self, operation: Operation) -> Result<(), Stopped> {
        self.queue.send(operation).await.map_err(|_stopped| Stopped)?;
        self.wake();
        Ok(())
    }

    /// Some operation's flag was set.
    pub fn note_abandoned(&self) {
        self.has_abandoned.store(true, SeqCst);
        self.wake();
    }

    /// Takes no more operations, drops those that are in progress, and ends the thread.
    pub fn stop(&self) {
        self.queue.close();
        self.is_stopping.store(true, SeqCst);
        self.wake();
    }

    fn wake(&self) {
        if self.is_asleep.swap(false, SeqCst) {
            // It fails only when the counter is full, and then the bell rings already.
            let _rings = self.bell.write(1);
        }
    }
}

/// The reactor takes no more operations.
#[derive(Debug)]
pub(crate) struct Stopped;

/// Starts the thread of a reactor.
///
/// # Errors
/// When the process may have no more threads or descriptors.
pub(crate) fn start(name: &str) -> io::Result<(Arc<Remote>, JoinHandle<()>)> {
    watch_forks();
    let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let (queue, inbox) = async_channel::bounded(REACTOR_QUEUE_LEN_MAX);
    let remote = Arc::new(Remote {
        queue,
        _inherited: Inherited::note(bell.as_fd().as_raw_fd())?,
        bell,
        is_asleep: AtomicBool::new(false),
        is_stopping: AtomicBool::new(false),
        has_abandoned: AtomicBool::new(false),
    });
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    let inherited = Inherited::note(epoll.0.as_raw_fd())?;
    epoll.add(&remote.bell, EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
    let own = remote.clone();
    let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Signals are the program's: its handlers run on its own threads.
        let _unblocked_at_worst = SigSet::all().thread_block();
        // Made here: fibers never leave their thread.
        Reactor::new(own, inbox, epoll, inherited).run();
    })?;
    Ok((remote, thread))
}

#[derive(Debug)]
struct Reactor {
    remote: Arc<Remote>,
    inbox: Receiver<Operation>,
    epoll: Epoll,
    _inherited: Inherited,
    tasks: Tasks,
    ready: VecDeque<(Token, io::Result<bool>)>,
    deadlines: BTreeSet<(Instant, Token)>,
    stacks: Vec<Stack>,
}

impl Reactor {
    fn new(remote: Arc<Remote>, inbox: Receiver<Operation>, epoll: Epoll, inherited: Inherited) -> Self {
        Self {
            remote,
            inbox,
            epoll,
            _inherited: inherited,
            tasks: Tasks::default(),
            ready: VecDeque::new(),
            deadlines: BTreeSet::new(),
            stacks: Vec::new(),
        }
    }

    fn run(mut self) {
        let mut events = vec![EpollEvent::empty(); REACTOR_EVENTS_MAX];
        while !self.remote.is_stopping.load(SeqCst) {
            self.admit();
            self.drop_abandoned();
            self.resume_ready();
            self.wait(&mut events);
            self.expire();
        }
    }

    /// Begins operations as long as there is room.
    fn admit(&mut self) {
        while self.tasks.len() < REACTOR_OPERATIONS_MAX
            && let Ok(operation) = self.inbox.try_recv()
        {
            if operation.is_abandoned() {
                continue;
            }
            match self.stacks.pop().map_or_else(Stack::new, Ok) {
                Ok(stack) => {
                    let fiber = Fiber::new(stack, operation.body);
                    let token = self.tasks.insert(fiber, operation.abandoned);
                    self.ready.push_back((token, Ok(true)));
                }
                // Whoever waits for it hears that it was dropped.
                Err(error) => tracing::warn!(%error, "no memory for the stack of an operation"),
            }
        }
    }

    fn drop_abandoned(&mut self) {
        if !self.remote.has_abandoned.swap(false, SeqCst) {
            return;
        }
        for token in self.tasks.abandoned() {
            if let Some(task) = self.tasks.remove(token) {
                self.forget_deadline(token, task.until);
            }
        }
    }

    /// One turn for each that is ready now. Those that become ready meanwhile wait for the sockets to be looked at.
    fn resume_ready(&mut self) {
        for _ in 0..self.ready.len() {
            let Some((token, woken)) = self.ready.pop_front() else { return };
            let Some(task) = self.tasks.get(token) else { continue };
            match task.fiber.resume(woken) {
                Turn::Waits(wait) => self.suspended(token, &wait),
                Turn::Ended => {
                    let stack = self.tasks.remove(token).and_then(|task| task.fiber.into_stack());
                    self.stacks.extend(stack.filter(|_| self.stacks.len() < FIBER_STACKS_IDLE_MAX));
                }
                Turn::Panicked => {
                    tracing::error!("an operation panicked on the reactor");
                    self.tasks.remove(token);
                }
            }
        }
    }

    fn suspended(&mut self, token: Token, wait: &Wait) {
        for socket in &wait.sockets {
            if let Err(error) = self.arm(token, *socket) {
                self.ready.push_back((token, Err(error.into())));
                return;
            }
        }
        if let Some(task) = self.tasks.get(token) {
            task.until = Some(wait.until);
            self.deadlines.insert((wait.until, token));
        }
    }

    /// Asks for one event. A socket stays in the instance until it is closed, disarmed while nobody waits for it.
    fn arm(&self, token: Token, socket: Awaited) -> nix::Result<()> {
        let mut flags = EpollFlags::EPOLLONESHOT;
        flags.set(EpollFlags::EPOLLIN, socket.read);
        flags.set(EpollFlags::EPOLLOUT, socket.write);
        let mut event = EpollEvent::new(flags, token.to_u64());
        // SAFETY: the fiber that waits for the socket keeps it open as long as it is suspended, which it is now.
        let descriptor = unsafe { BorrowedFd::borrow_raw(socket.descriptor) };
        match self.epoll.modify(descriptor, &mut event) {
            Err(Errno::ENOENT) => self.epoll.add(descriptor, event),
            armed => armed,
        }
    }

    /// Waits until something is ready, somebody calls, or the first deadline has come; only looks if there is work.
    fn wait(&mut self, events: &mut [EpollEvent]) {
        self.remote.is_asleep.store(true, SeqCst);
        let timeout = if self.has_work() { EpollTimeout::ZERO } else { self.until_deadline() };
        let found = self.epoll.wait(events, timeout);
        self.remote.is_asleep.store(false, SeqCst);
        match found {
            Ok(count) => events.iter().take(count).for_each(|event| self.happened(event.data())),
            Err(Errno::EINTR) => {}
            Err(error) => tracing::error!(%error, "the reactor cannot wait"),
        }
    }

    fn has_work(&self) -> bool {
        let can_admit = !self.inbox.is_empty() && self.tasks.len() < REACTOR_OPERATIONS_MAX;
        can_admit
            || !self.ready.is_empty()
            || self.remote.is_stopping.load(SeqCst)
            || self.remote.has_abandoned.load(SeqCst)
    }

    fn until_deadline(&self) -> EpollTimeout {
        let Some((until, _)) = self.deadlines.first() else { return EpollTimeout::NONE };
        let left = until.saturating_duration_since(Instant::now());
        // Rounded up, so that the last millisecond is not spent in a busy loop.
        i32::try_from(left.as_micros().div_ceil(1000))
            .ok()
            .and_then(|left| EpollTimeout::try_from(left).ok())
            .unwrap_or(EpollTimeout::MAX)
    }

    fn happened(&mut self, data: u64) {
        if data == BELL {
            let _silent_again = self.remote.bell.read();
            return;
        }
        let token = Token::from_u64(data);
        // Of one that waits no more: it was woken by another socket, or has ended.
        let Some(until) = self.tasks.get(token).and_then(|task| task.until.take()) else { return };
        self.deadlines.remove(&(until, token));
        self.ready.push_back((token, Ok(true)));
    }

    /// Wakes those whose deadline has come.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some((until, token)) = self.deadlines.first().copied()
            && until <= now
        {
            self.deadlines.pop_first();
            if let Some(task) = self.tasks.get(token) {
                task.until = None;
                self.ready.push_back((token, Ok(false)));
            }
        }
    }

    fn forget_deadline(&mut self, token: Token, until: Option<Instant>) {
        if let Some(until) = until {
            self.deadlines.remove(&(until, token));
        }
    }
}

impl Drop for Reactor {
    /// Whoever waits for an operation that was not begun hears that it will not be.
    fn drop(&mut self) {
        self.inbox.close();
        while self.inbox.try_recv().is_ok() {}
    }
}
