//! Peers that move no byte of an operation are cut off: one look a second, no timer per packet.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::time::Duration;

/// Between two looks.
pub const INTERVAL: Duration = Duration::from_secs(1);

struct Watched {
    cut: Box<dyn Fn()>,
    is_busy: Cell<bool>,
    last: Cell<u64>,
    now: Rc<Cell<u64>>,
}

/// The connections of a shard.
pub struct Watches {
    all: RefCell<Vec<Weak<Watched>>>,
    now: Rc<Cell<u64>>,
    patience: u64,
}

/// A connection that is watched until this is dropped.
#[derive(Clone)]
pub struct Watch(Rc<Watched>);

impl Watches {
    /// Peers may stall for `stall_ms`.
    pub fn new(stall_ms: u64) -> Self {
        let patience = stall_ms.div_ceil(INTERVAL.as_millis() as u64).max(1);
        Self { all: RefCell::default(), now: Rc::default(), patience }
    }

    /// Watches a connection that `cut` ends, and may end as long as the result lives.
    pub fn add(&self, cut: Box<dyn Fn()>) -> Watch {
        let (is_busy, last) = (Cell::new(false), Cell::new(self.now.get()));
        let watched = Rc::new(Watched { cut, is_busy, last, now: self.now.clone() });
        self.all.borrow_mut().push(Rc::downgrade(&watched));
        Watch(watched)
    }

    /// A look: cuts off who has stalled, and returns how many.
    pub fn tick(&self) -> u64 {
        let now = self.now.get() + 1;
        self.now.set(now);
        let mut stalled = 0;
        self.all.borrow_mut().retain(|watched| {
            let Some(watched) = watched.upgrade() else { return false };
            if watched.is_busy.get() && now - watched.last.get() > self.patience {
                tracing::info!("peer has stalled: cut off");
                (watched.cut)();
                watched.is_busy.set(false);
                stalled += 1;
            }
            true
        });
        stalled
    }
}

impl Watch {
    /// From now on the peer owes us progress, or no more.
    pub fn set_busy(&self, is_busy: bool) {
        self.0.is_busy.set(is_busy);
        self.progress();
    }

    /// A byte has moved.
    pub fn progress(&self) {
        self.0.last.set(self.0.now.get());
    }
}
