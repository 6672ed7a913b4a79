//! Results of changes, kept so that a call that comes twice is carried out once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ringfs_proto::ids::{CallId, LogIndex, SessionId};
use ringfs_proto::limits::RETRY_RESULTS_MAX;

use super::Outcome;

/// Sessions whose results are kept; the longest idle goes first.
pub const SESSIONS_MAX: usize = 65_536;

/// What is kept of one session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Session {
    /// The record of its last result.
    pub last_used: LogIndex,
    /// The lowest call that it waits for.
    pub lowest_unanswered: CallId,
    /// Results, in the order of the log.
    pub results: VecDeque<(CallId, Outcome)>,
}

/// Results by session and call.
#[derive(Debug, Default)]
pub struct RetryCache {
    /// Shared with a snapshot while one is taken; a session that changes meanwhile is copied first.
    sessions: BTreeMap<SessionId, Arc<Session>>,
    by_use: BTreeMap<LogIndex, SessionId>,
    evicted: u64,
}

impl RetryCache {
    /// The result of a call that was applied.
    pub fn get(&self, session: SessionId, call: CallId) -> Option<&Outcome> {
        let results = &self.sessions.get(&session)?.results;
        results.iter().rev().find(|(other, _)| *other == call).map(|(_, outcome)| outcome)
    }

    /// Whether the session waits for no answer to this call any more.
    pub fn is_answered(&self, session: SessionId, call: CallId) -> bool {
        self.sessions.get(&session).is_some_and(|session| call < session.lowest_unanswered)
    }

    /// Keeps a result and forgets those that the session has received.
    pub fn insert(
        &mut self,
        index: LogIndex,
        session: SessionId,
        call: CallId,
        lowest: CallId,
        outcome: Outcome,
    ) {
        if session == SessionId::default() {
            return;
        }
        let entry = Arc::make_mut(self.sessions.entry(session).or_default());
        self.by_use.remove(&entry.last_used);
        entry.last_used = index;
        self.by_use.insert(index, session);
        entry.lowest_unanswered = entry.lowest_unanswered.max(lowest);
        entry.results.retain(|(other, _)| *other >= entry.lowest_unanswered);
        if entry.results.len() == RETRY_RESULTS_MAX {
            entry.results.pop_front();
        }
        entry.results.push_back((call, outcome));
        self.evict();
    }

    /// Sessions that were forgotten to make room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// All sessions, ascending, as they are now.
    pub fn sessions(&self) -> impl Iterator<Item = (SessionId, &Arc<Session>)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// Puts a session back from a checkpoint. False if there are two of the same id or record, or too many results.
    pub fn restore(&mut self, id: SessionId, session: Session) -> bool {
        let is_bounded = self.sessions.len() < SESSIONS_MAX && session.results.len() <= RETRY_RESULTS_MAX;
        let is_new = self.by_use.insert(session.last_used, id).is_none();
        is_bounded && is_new && self.sessions.insert(id, Arc::new(session)).is_none()
    }

    fn evict(&mut self) {
        while self.sessions.len() > SESSIONS_MAX {
            let Some((_, session)) = self.by_use.pop_first() else { return };
            self.sessions.remove(&session);
            self.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Applied;
    use super::*;

    #[test]
    fn results_are_kept_until_the_session_has_them() {
        let mut cache = RetryCache::default();
        let session = SessionId([1; 16]);
        for call in 1..=3 {
            cache.insert(LogIndex(call), session, CallId(call), CallId(0), Ok(Applied::Deleted(call == 2)));
        }
        assert_eq!(cache.get(session, CallId(2)), Some(&Ok(Applied::Deleted(true))));
        cache.insert(LogIndex(4), session, CallId(4), CallId(3), Ok(Applied::Done));
        assert_eq!(cache.get(session, CallId(2)), None);
        assert!(cache.get(session, CallId(3)).is_some());
        assert!(cache.is_answered(session, CallId(2)));
        assert!(!cache.is_answered(session, CallId(3)));
        assert_eq!(cache.get(SessionId([2; 16]), CallId(3)), None);
    }

    #[test]
    fn memory_is_bounded_per_session() {
        let mut cache = RetryCache::default();
        let session = SessionId([1; 16]);
        for call in 1..=RETRY_RESULTS_MAX as u64 + 5 {
            cache.insert(LogIndex(call), session, CallId(call), CallId(0), Ok(Applied::Done));
        }
        assert_eq!(cache.get(session, CallId(5)), None);
        assert!(cache.get(session, CallId(6)).is_some());
    }
}
