//! Runs the tasks of all hosts in one thread, in an order that the seed decides, in time that passes only when nobody
//! can go on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use ringfs_tests::random::Random;

/// A machine of the simulated cluster: its tasks end together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub u8);

impl std::fmt::Display for HostId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "h{}", self.0)
    }
}

/// Time since the simulation began, µs.
pub type Micros = u64;

/// Runs tasks. Clones share it.
#[derive(Clone)]
pub struct Executor {
    inner: Rc<Inner>,
}

struct Inner {
    now: Cell<Micros>,
    steps: Cell<u64>,
    hash: Cell<u64>,
    is_traced: bool,
    tasks: RefCell<BTreeMap<u64, Task>>,
    next_task: Cell<u64>,
    ready: Arc<Mutex<Vec<u64>>>,
    timers: RefCell<BTreeMap<(Micros, u64), Waker>>,
    next_timer: Cell<u64>,
    paused: RefCell<BTreeMap<HostId, Micros>>,
    random: RefCell<Random>,
}

struct Task {
    host: HostId,
    /// Taken out while it is polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    waker: Arc<TaskWaker>,
}

struct TaskWaker {
    task: u64,
    is_ready: AtomicBool,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::Relaxed) {
            lock(&self.ready).push(self.task);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A task of this host went on.
    Ran(HostId),
    /// Nobody could go on: time has passed.
    Waited,
    /// Nobody will ever go on.
    Idle,
}

impl Executor {
    /// Without tasks, at time 0. With `is_traced`, [`Executor::note`] prints.
    pub fn new(random: Random, is_traced: bool) -> Self {
        let inner = Inner {
            now: Cell::new(0),
            steps: Cell::new(0),
            hash: Cell::new(0xcbf2_9ce4_8422_2325),
            is_traced,
            tasks: RefCell::default(),
            next_task: Cell::new(1),
            ready: Arc::default(),
            timers: RefCell::default(),
            next_timer: Cell::new(1),
            paused: RefCell::default(),
            random: RefCell::new(random),
        };
        Self { inner: Rc::new(inner) }
    }

    /// The time.
    pub fn now(&self) -> Micros {
        self.inner.now.get()
    }

    /// Steps of tasks so far.
    pub fn steps(&self) -> u64 {
        self.inner.steps.get()
    }

    /// A number for all that has happened so far, in its order: equal for equal runs.
    pub fn hash(&self) -> u64 {
        self.inner.hash.get()
    }

    /// Draws from the stream of the executor, its hosts and its network.
    pub fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.inner.random.borrow_mut())
    }

    /// Adds a fact to what has happened, and prints it when asked to.
    pub fn note(&self, text: impl FnOnce() -> String) {
        let text = text();
        text.bytes().for_each(|byte| self.mix(u64::from(byte)));
        if self.inner.is_traced {
            eprintln!("{:>12.6} s  {text}", self.now() as f64 / 1e6);
        }
    }

    fn mix(&self, value: u64) {
        // FNV-1a over 64-bit words.
        self.inner.hash.set((self.inner.hash.get() ^ value).wrapping_mul(0x0100_0000_01b3));
    }

    /// Runs a task on a host.
    pub fn spawn(&self, host: HostId, future: impl Future<Output = ()> + 'static) {
        let task = self.inner.next_task.get();
        self.inner.next_task.set(task + 1);
        let ready = self.inner.ready.clone();
        let waker = Arc::new(TaskWaker { task, is_ready: AtomicBool::new(false), ready });
        waker.wake_by_ref();
        let future: Pin<Box<dyn Future<Output = ()>>> = Box::pin(future);
        self.inner.tasks.borrow_mut().insert(task, Task { host, future: Some(future), waker });
    }

    /// Ends all tasks of a host where they are.
    pub fn kill(&self, host: HostId) {
        let ended: Vec<u64> = {
            let tasks = self.inner.tasks.borrow();
            tasks.iter().filter(|(_, task)| task.host == host).map(|(id, _)| *id).collect()
        };
        for task in ended {
            // Dropped outside of the borrow: what a future holds may wake others.
            let gone = self.inner.tasks.borrow_mut().remove(&task);
            drop(gone);
        }
        self.inner.paused.borrow_mut().remove(&host);
    }

    /// Stops a host for a while: its clock goes on, its tasks do not.
    pub fn pause(&self, host: HostId, until: Micros) {
        self.inner.paused.borrow_mut().insert(host, until);
        self.wake_at(until, &Waker::noop().clone());
    }

    /// Whether a host stands still.
    pub fn is_paused(&self, host: HostId) -> bool {
        self.inner.paused.borrow().get(&host).is_some_and(|until| *until > self.now())
    }

    /// Wakes someone at a time, or at once when it has passed.
    pub fn wake_at(&self, at: Micros, waker: &Waker) {
        if at <= self.now() {
            return waker.wake_by_ref();
        }
        let timer = self.inner.next_timer.get();
        self.inner.next_timer.set(timer + 1);
        self.inner.timers.borrow_mut().insert((at, timer), waker.clone());
    }

    /// Waits.
    pub fn sleep(&self, duration: Duration) -> Sleep {
        self.sleep_until(self.now().saturating_add(duration.as_micros() as Micros))
    }

    /// Waits for a time.
    pub fn sleep_until(&self, until: Micros) -> Sleep {
        Sleep { executor: self.clone(), until, timer: None }
    }

    /// Lets one ready task go on, or time pass.
    pub fn step(&self) -> Step {
        let Some(task) = self.take_ready() else { return self.pass_time() };
        let taken = {
            let mut tasks = self.inner.tasks.borrow_mut();
            let Some(task) = tasks.get_mut(&task) else { return Step::Waited };
            let Some(future) = task.future.take() else { return Step::Waited };
            (task.host, future, task.waker.clone())
        };
        let (host, mut future, waker) = taken;
        self.inner.steps.set(self.steps() + 1);
        self.mix(self.now());
        self.mix(task);
        let waker = Waker::from(waker);
        let is_done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut ended = None;
        {
            let mut tasks = self.inner.tasks.borrow_mut();
            match tasks.get_mut(&task) {
                Some(task) if !is_done => task.future = Some(future),
                // Done, or killed by what it did.
                _ => ended = Some((tasks.remove(&task), future)),
            }
        }
        drop(ended);
        Step::Ran(host)
    }

    /// A ready task of a host that is not paused, as the seed decides.
    fn take_ready(&self) -> Option<u64> {
        loop {
            let mut ready = lock(&self.inner.ready);
            if ready.is_empty() {
                return None;
            }
            let at = self.draw(|random| random.below(ready.len() as u64)) as usize;
            let task = ready.swap_remove(at);
            drop(ready);
            let tasks = self.inner.tasks.borrow();
            let Some(found) = tasks.get(&task) else { continue };
            let paused_until = self.inner.paused.borrow().get(&found.host).copied().unwrap_or(0);
            if paused_until > self.now() {
                let waker = Waker::from(found.waker.clone());
                found.waker.is_ready.store(false, Ordering::Relaxed);
                self.wake_at(paused_until, &waker);
                continue;
            }
            found.waker.is_ready.store(false, Ordering::Relaxed);
            return Some(task);
        }
    }

    fn pass_time(&self) -> Step {
        let Some(((at, _), first)) = self.inner.timers.borrow_mut().pop_first() else { return Step::Idle };
        self.inner.now.set(at);
        first.wake();
        loop {
            let mut timers = self.inner.timers.borrow_mut();
            let Some(next) = timers.first_entry().filter(|next| next.key().0 == at) else { break };
            let waker = next.remove();
            drop(timers);
            waker.wake();
        }
        Step::Waited
    }
}

/// Waiting for a time.
pub struct Sleep {
    executor: Executor,
    until: Micros,
    timer: Option<(Micros, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.executor.now() >= self.until {
            return Poll::Ready(());
        }
        if self.timer.is_none() {
            let inner = self.executor.inner.clone();
            let key = (self.until, inner.next_timer.get());
            inner.next_timer.set(key.1 + 1);
            inner.timers.borrow_mut().insert(key, context.waker().clone());
            self.timer = Some(key);
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.timer.filter(|key| key.0 > self.executor.now()) {
            self.executor.inner.timers.borrow_mut().remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64) -> (Vec<u64>, u64) {
        let executor = Executor::new(Random::new(seed), false);
        let order = Rc::new(RefCell::new(Vec::new()));
        for number in 0..8 {
            let (order, sleeper) = (order.clone(), executor.clone());
            executor.spawn(HostId(0), async move {
                for turn in 0..3 {
                    sleeper.sleep(Duration::from_millis(5)).await;
                    order.borrow_mut().push(number * 10 + turn);
                }
            });
        }
        while executor.step() != Step::Idle {}
        assert_eq!(executor.now(), 15_000);
        let order = order.borrow().clone();
        (order, executor.hash())
    }

    #[test]
    fn the_seed_decides_the_order() {
        assert_eq!(run(1), run(1));
        assert_ne!(run(1).0, run(2).0);
        assert_ne!(run(1).1, run(2).1);
    }

    #[test]
    fn a_killed_host_does_nothing_more_and_a_paused_one_goes_on_later() {
        let executor = Executor::new(Random::new(7), false);
        let done = Rc::new(RefCell::new(Vec::new()));
        for host in 0..3 {
            let (done, sleeper) = (done.clone(), executor.clone());
            executor.spawn(HostId(host), async move {
                sleeper.sleep(Duration::from_millis(1)).await;
                done.borrow_mut().push((host, sleeper.now()));
            });
        }
        executor.pause(HostId(2), 9000);
        while executor.now() == 0 && executor.step() != Step::Idle {}
        executor.kill(HostId(1));
        while executor.step() != Step::Idle {}
        assert_eq!(*done.borrow(), [(0, 1000), (2, 10_000)], "the paused host began at 9 ms");
    }

    #[test]
    fn a_task_may_kill_its_own_host() {
        let executor = Executor::new(Random::new(7), false);
        let killer = executor.clone();
        let reached = Rc::new(Cell::new(false));
        let reaching = reached.clone();
        executor.spawn(HostId(0), async move {
            killer.kill(HostId(0));
            killer.sleep(Duration::from_millis(1)).await;
            reaching.set(true);
        });
        while executor.step() != Step::Idle {}
        assert!(!reached.get());
    }
}
