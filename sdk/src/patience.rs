//! Pauses between tries of a call, until its deadline.

use std::sync::Arc;

use crate::client::Shared;
use crate::environment::Clock;
use crate::retry::Retries;

/// What is left of a deadline.
#[derive(Debug)]
pub(crate) struct Patience {
    clock: Arc<dyn Clock>,
    retries: Retries,
}

impl Patience {
    /// The patience of a call that begins now.
    pub fn new(shared: &Shared) -> Self {
        let clock = shared.clock.clone();
        let retries = Retries::new(clock.now() + shared.options.deadline);
        Self { clock, retries }
    }

    /// Lets some time pass, longer each time; false when none is left.
    pub fn pause(&mut self) -> bool {
        let pause = self.retries.pause(self.clock.now(), self.clock.random());
        pause.is_some_and(|pause| {
            self.clock.pause(pause);
            true
        })
    }
}
