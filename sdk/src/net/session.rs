//! Sessions: an id, and the calls that are not answered yet. A process has one; a client may have one of its own.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use ringfs_proto::ids::{CallId, SessionId};

use crate::driver::process::PerProcess;

static SESSION: PerProcess<Session> = PerProcess::new();

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    id: SessionId,
    calls: Mutex<Calls>,
}

#[derive(Debug)]
struct Calls {
    last: u64,
    unanswered: BTreeSet<u64>,
}

/// A call until it is dropped: answered, or given up.
#[derive(Debug)]
pub(crate) struct OpenCall<'a> {
    session: &'a Session,
    pub id: CallId,
}

impl Session {
    /// The session of this process; a forked child has one of its own.
    pub fn current() -> &'static Self {
        SESSION.get(|| Self::new(SessionId(random())))
    }

    /// A session without calls.
    pub fn new(id: SessionId) -> Self {
        Self { id, calls: Mutex::new(Calls { last: 0, unanswered: BTreeSet::new() }) }
    }

    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Begins a call.
    pub fn begin(&self) -> OpenCall<'_> {
        let mut calls = self.calls.lock();
        calls.last += 1;
        let id = calls.last;
        calls.unanswered.insert(id);
        OpenCall { session: self, id: CallId(id) }
    }

    /// The lowest call that is not answered; for the namenode to forget the results below it.
    pub fn lowest_unanswered(&self) -> CallId {
        let calls = self.calls.lock();
        CallId(calls.unanswered.first().copied().unwrap_or(calls.last + 1))
    }
}

impl Drop for OpenCall<'_> {
    fn drop(&mut self) {
        self.session.calls.lock().unanswered.remove(&self.id.0);
    }
}

/// Random bytes from the kernel.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // The kernel refuses only before its generator is seeded, early at boot, and then blocks instead.
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}
