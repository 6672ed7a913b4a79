//! The operations that a reactor has in progress, by tokens that are never used twice. Does no I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use super::fiber::Fiber;

/// Names a task. One of a task that has ended names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Token {
    slot: u32,
    generation: u32,
}

impl Token {
    /// For the kernel to keep.
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    pub fn from_u64(data: u64) -> Self {
        Self { slot: data as u32, generation: (data >> 32) as u32 }
    }
}

/// One operation.
#[derive(Debug)]
pub(super) struct Task {
    pub fiber: Fiber,
    /// Its deadline, while it waits.
    pub until: Option<Instant>,
    abandoned: Option<Arc<AtomicBool>>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    task: Option<Task>,
}

/// The tasks of a reactor.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Tasks {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn insert(&mut self, fiber: Fiber, abandoned: Option<Arc<AtomicBool>>) -> Token {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.task = Some(Task { fiber, until: None, abandoned });
        Token { slot: index, generation: slot.generation }
    }

    pub fn get(&mut self, token: Token) -> Option<&mut Task> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        if slot.generation == token.generation { slot.task.as_mut() } else { None }
    }

    pub fn remove(&mut self, token: Token) -> Option<Task> {
        self.get(token)?;
        let slot = &mut self.slots[token.slot as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(token.slot);
        slot.task.take()
    }

    /// Those that nobody waits for any more.
    pub fn abandoned(&self) -> Vec<Token> {
        let is_abandoned = |task: &Task| task.abandoned.as_ref().is_some_and(|flag| flag.load(SeqCst));
        let tokens = self.slots.iter().zip(0..).filter_map(|(slot, index)| {
            let is_dropped = slot.task.as_ref().is_some_and(is_abandoned);
            is_dropped.then_some(Token { slot: index, generation: slot.generation })
        });
        tokens.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::fiber::Stack;
    use super::*;

    fn fiber() -> Fiber {
        Fiber::new(Stack::new().expect("memory"), Box::new(|| {}))
    }

    #[test]
    fn the_token_of_a_task_that_has_ended_names_none() {
        let mut tasks = Tasks::default();
        let first = tasks.insert(fiber(), None);
        assert!(tasks.remove(first).is_some());
        let second = tasks.insert(fiber(), None);
        assert_eq!((first.slot, tasks.len()), (second.slot, 1));
        assert!(tasks.get(first).is_none() && tasks.remove(first).is_none());
        assert_eq!(Token::from_u64(second.to_u64()), second);
        assert!(tasks.get(second).is_some());
    }

    #[test]
    fn only_flagged_tasks_are_abandoned() {
        let mut tasks = Tasks::default();
        let flag = Arc::new(AtomicBool::new(false));
        let token = tasks.insert(fiber(), Some(flag.clone()));
        tasks.insert(fiber(), None);
        assert_eq!(tasks.abandoned(), []);
        flag.store(true, SeqCst);
        assert_eq!(tasks.abandoned(), [token]);
    }
}
