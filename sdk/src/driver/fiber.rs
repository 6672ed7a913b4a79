//! Calls on stacks of their own: where a synchronous call would wait, its fiber gives the thread to others.
//!
//! The only place that names corosensei. [`Fiber`] runs a closure until it waits; [`wait`], called anywhere below that
//! closure, suspends it. So readers, writers and retries exist once, for threads and for the reactor.
//!
//! **What a fiber may not do.** It shares its thread with others, so it holds no lock and no borrow of the thread over a
//! wait, and makes no system call that blocks.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Instant;

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

use super::wait::Interest;
use crate::limits::{FIBER_STACK_BYTES, FIBER_TURN_MAX};

type Way = Yielder<io::Result<bool>, Wait>;

thread_local! {
    /// The way out of the fiber that runs now; null outside of fibers, and while one is unwound.
    static WAY: Cell<*const Way> = const { Cell::new(ptr::null()) };
    /// When its turn began.
    static TURN_BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// What a fiber runs.
pub(crate) type Body = Box<dyn FnOnce() + Send>;

/// What a suspended fiber waits for: that one of the sockets is ready, or that the time has come.
#[derive(Debug)]
pub(super) struct Wait {
    pub sockets: Vec<Awaited>,
    pub until: Instant,
}

/// A socket that a suspended fiber keeps open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Awaited {
    pub descriptor: RawFd,
    pub read: bool,
    pub write: bool,
}

/// How a turn of a fiber ended.
#[derive(Debug)]
pub(super) enum Turn {
    /// It waits.
    Waits(Wait),
    /// Its closure has returned.
    Ended,
    /// Its closure has panicked, and said so on its thread's panic hook.
    Panicked,
}

/// A closure on a stack of its own.
pub(super) struct Fiber {
    /// Gone once its stack was taken back.
    coroutine: Option<Coroutine<io::Result<bool>, Wait, (), DefaultStack>>,
}

impl fmt::Debug for Fiber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_started = self.coroutine.as_ref().is_some_and(Coroutine::started);
        f.debug_struct("Fiber").field("is_started", &is_started).finish_non_exhaustive()
    }
}

/// A stack that no fiber uses.
pub(super) struct Stack(DefaultStack);

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stack")
    }
}

impl Stack {
    /// Memory for a stack, with a guard page behind it.
    ///
    /// # Errors
    /// When the process may map no more.
    pub fn new() -> io::Result<Self> {
        DefaultStack::new(FIBER_STACK_BYTES).map(Self)
    }
}

impl Fiber {
    /// A fiber that has not begun.
    pub fn new(stack: Stack, body: Body) -> Self {
        let coroutine = Coroutine::with_stack(stack.0, move |way: &Way, _begin| {
            WAY.set(way);
            body();
        });
        Self { coroutine: Some(coroutine) }
    }

    /// Runs it until it waits or ends. `woken` is what its [`wait`] returns.
    pub fn resume(&mut self, woken: io::Result<bool>) -> Turn {
        let Some(coroutine) = &mut self.coroutine else { return Turn::Ended };
        TURN_BEGAN.set(Some(Instant::now()));
        let turn = catch_unwind(AssertUnwindSafe(|| coroutine.resume(woken)));
        WAY.set(ptr::null());
        match turn {
            Ok(CoroutineResult::Yield(wait)) => Turn::Waits(wait),
            Ok(CoroutineResult::Return(())) => Turn::Ended,
            Err(_said_already) => Turn::Panicked,
        }
    }

    /// The stack of a fiber that has ended; `None` if it has not.
    pub fn into_stack(mut self) -> Option<Stack> {
        let ended = self.coroutine.take_if(|coroutine| coroutine.done())?;
        Some(Stack(ended.into_stack()))
    }
}

impl Drop for Fiber {
    /// Drops what the stack of an unfinished fiber holds, as a panic would. (Destructors do not wait: there is no way out.)
    fn drop(&mut self) {
        debug_assert!(WAY.get().is_null(), "fibers are dropped by their reactor");
        if let Some(coroutine) = self.coroutine.as_mut().filter(|fiber| fiber.started() && !fiber.done()) {
            coroutine.force_unwind();
        }
    }
}

/// Waits like [`super::wait::any`]; `None` outside of fibers.
pub(super) fn wait(interests: &[Interest<'_>], until: Instant) -> Option<io::Result<bool>> {
    if WAY.get().is_null() {
        return None;
    }
    let awaited = |interest: &Interest<'_>| Awaited {
        descriptor: interest.stream.as_raw_fd(),
        read: interest.read,
        write: interest.write,
    };
    suspend(Wait { sockets: interests.iter().map(awaited).collect(), until })
}

/// Lets other fibers of this thread run when this one has run for long. Called where much may be sent without a wait.
pub(crate) fn breathe() {
    if WAY.get().is_null() {
        return;
    }
    let now = Instant::now();
    if TURN_BEGAN.get().is_some_and(|began| now.duration_since(began) >= FIBER_TURN_MAX) {
        suspend(Wait { sockets: Vec::new(), until: now });
    }
}

fn suspend(wait: Wait) -> Option<io::Result<bool>> {
    let way = WAY.get();
    // SAFETY: not null, so it was set by the fiber that runs now, on whose stack this code is: the way lives as long as
    // that stack does.
    let woken = unsafe { way.as_ref() }?.suspend(wait);
    // Others have run meanwhile.
    WAY.set(way);
    Some(woken)
}
