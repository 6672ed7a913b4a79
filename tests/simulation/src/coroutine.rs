//! Synchronous code as a task: the SDK's calls wait in the middle of a call stack, on a stack of their own.
//!
//! The only place that names corosensei. [`run`] makes a task of a closure; inside it, [`wait`] waits for a future.

#![allow(unsafe_code, reason = "the closure finds the way out of its stack through a pointer of this thread")]

use std::cell::Cell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::ptr;
use std::task::{Context, Poll, Waker};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};

/// Bytes of a stack. What the SDK keeps on it is small; a guard page follows.
const STACK_BYTES: usize = 512 << 10;

type Way = Yielder<Waker, ()>;

thread_local! {
    /// The way out of the stack that runs now, and the waker of its task.
    static CURRENT: Cell<*const Current> = const { Cell::new(ptr::null()) };
}

struct Current {
    way: *const Way,
    waker: Cell<Option<Waker>>,
}

/// A closure on a stack of its own, as a future.
struct Task {
    coroutine: Coroutine<Waker, (), ()>,
    current: Box<Current>,
}

/// Runs `body` as a task.
///
/// # Panics
/// If there is no memory for a stack.
pub fn run(body: impl FnOnce() + 'static) -> impl Future<Output = ()> {
    let current = Box::new(Current { way: ptr::null(), waker: Cell::new(None) });
    let stack = DefaultStack::new(STACK_BYTES).expect("memory for a stack");
    let coroutine = Coroutine::with_stack(stack, move |way: &Way, waker: Waker| {
        let current = CURRENT.get().cast_mut();
        // SAFETY: `Task::poll` has just set the pointer to its own `Current`, which nobody else looks at meanwhile.
        let current = unsafe { &mut *current };
        current.way = way;
        current.waker.set(Some(waker));
        body();
    });
    Task { coroutine, current }
}

impl Future for Task {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let before = CURRENT.replace(&raw const *self.current);
        let result = self.coroutine.resume(context.waker().clone());
        CURRENT.set(before);
        match result {
            CoroutineResult::Yield(()) => Poll::Pending,
            CoroutineResult::Return(()) => Poll::Ready(()),
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // The stack is unwound here; destructors that wait would find no way out, and see that they are dropped.
        let before = CURRENT.replace(ptr::null());
        if self.coroutine.started() && !self.coroutine.done() {
            self.coroutine.force_unwind();
        }
        CURRENT.set(before);
    }
}

/// Whether the caller may [`wait`]: not while its stack is unwound.
pub fn can_wait() -> bool {
    !CURRENT.get().is_null()
}

/// Waits for a future, from inside of [`run`].
///
/// # Panics
/// Outside.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    let current = CURRENT.get();
    assert!(!current.is_null(), "nobody waits outside of a coroutine");
    // SAFETY: it is the `Current` of the task that runs now, which outlives its stack.
    let current = unsafe { &*current };
    let mut future = pin!(future);
    loop {
        let waker = current.waker.take().unwrap_or_else(|| Waker::noop().clone());
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        current.waker.set(Some(waker));
        if let Poll::Ready(value) = polled {
            return value;
        }
        // SAFETY: set when the stack began, by whom the stack belongs to; this code runs on that stack.
        let way = unsafe { &*current.way };
        current.waker.set(Some(way.suspend(())));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::time::Duration;

    use super::*;
    use crate::executor::{Executor, HostId, Step};
    use ringfs_tests::random::Random;

    #[test]
    fn synchronous_code_waits_in_the_middle_of_its_stack() {
        let executor = Executor::new(Random::new(1), false);
        let times = Rc::new(RefCell::new(Vec::new()));
        for number in 1..=3 {
            let (executor, times) = (executor.clone(), times.clone());
            let sleeper = executor.clone();
            executor.spawn(
                HostId(0),
                run(move || {
                    for _ in 0..2 {
                        wait(sleeper.sleep(Duration::from_millis(number)));
                        times.borrow_mut().push((number, sleeper.now()));
                    }
                }),
            );
        }
        while executor.step() != Step::Idle {}
        times.borrow_mut().sort_unstable();
        assert_eq!(*times.borrow(), [(1, 1000), (1, 2000), (2, 2000), (2, 4000), (3, 3000), (3, 6000)]);
    }

    #[test]
    fn a_dropped_task_drops_what_its_stack_holds() {
        let executor = Executor::new(Random::new(1), false);
        let held = Rc::new(());
        let (inside, sleeper) = (held.clone(), executor.clone());
        executor.spawn(
            HostId(0),
            run(move || {
                let _inside = inside;
                wait(sleeper.sleep(Duration::from_secs(1)));
            }),
        );
        assert_eq!(executor.step(), Step::Ran(HostId(0)));
        assert_eq!(Rc::strong_count(&held), 2);
        executor.kill(HostId(0));
        assert_eq!(Rc::strong_count(&held), 1);
    }
}
