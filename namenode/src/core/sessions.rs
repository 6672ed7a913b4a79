//! Which connections a session has, and since when it has none.
//!
//! Soft: a session is known by its calls, from any connection, and is lost when the last of these is gone. Times are of
//! the monotonic clock. Sessions that hold no lease are forgotten when they are lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ringfs_proto::ids::SessionId;

/// A connection: whose it is. A process may have several users, in one session.
#[derive(Debug)]
struct Connection {
    session: SessionId,
    user: String,
}

/// A session that has a connection.
#[derive(Debug, Default)]
struct Attached {
    connections: u32,
    /// As its first connection says: all of a session come from one process.
    user: String,
    host: String,
}

/// All sessions that have a connection or hold a lease.
#[derive(Debug, Default)]
pub struct Sessions {
    /// Looked up, or summed: its order does not matter.
    connections: HashMap<u64, Connection>,
    attached: BTreeMap<SessionId, Attached>,
    lost: BTreeMap<SessionId, u64>,
    /// Connections that ended since the last tick: calls of theirs may still arrive, and hold nothing.
    gone: BTreeSet<u64>,
    now_ms: u64,
}

impl Sessions {
    /// A session is heard on a connection.
    pub fn attach(&mut self, connection: u64, session: SessionId, who: impl FnOnce() -> (String, String)) {
        if self.connections.contains_key(&connection) || self.gone.contains(&connection) {
            return;
        }
        let (user, host) = who();
        self.connections.insert(connection, Connection { session, user: user.clone() });
        let attached =
            self.attached.entry(session).or_insert_with(|| Attached { connections: 0, user, host });
        attached.connections += 1;
        self.lost.remove(&session);
    }

    /// User and numeric address of a session that has a connection.
    pub fn who(&self, session: SessionId) -> Option<(&str, &str)> {
        self.attached.get(&session).map(|attached| (attached.user.as_str(), attached.host.as_str()))
    }

    /// How many connections each user has.
    pub fn connections_by_user(&self) -> BTreeMap<&str, u32> {
        let mut by_user = BTreeMap::new();
        for connection in self.connections.values() {
            *by_user.entry(connection.user.as_str()).or_default() += 1;
        }
        by_user
    }

    /// A connection is gone, and with the last one its session.
    pub fn detach(&mut self, connection: u64) {
        self.gone.insert(connection);
        let Some(Connection { session, .. }) = self.connections.remove(&connection) else { return };
        let Some(attached) = self.attached.get_mut(&session) else { return };
        attached.connections -= 1;
        if attached.connections == 0 {
            self.attached.remove(&session);
            self.lost.insert(session, self.now_ms);
        }
    }

    /// A session has a lease: if it has no connection, it is lost from now on.
    pub fn hold(&mut self, session: SessionId) {
        if !self.attached.contains_key(&session) {
            self.lost.entry(session).or_insert(self.now_ms);
        }
    }

    /// There is a sign of life of a session that is lost.
    pub fn renew(&mut self, session: SessionId) {
        if let Some(since_ms) = self.lost.get_mut(&session) {
            *since_ms = self.now_ms;
        }
    }

    /// Time passes. Lost sessions for which `holds` is false are forgotten.
    pub fn tick(&mut self, now_ms: u64, holds: impl Fn(SessionId) -> bool) {
        self.now_ms = now_ms;
        self.gone.clear();
        self.lost.retain(|session, _| holds(*session));
    }

    /// Whether a session is lost for at least `limit_ms`.
    pub fn is_lost_for(&self, session: SessionId, limit_ms: u64) -> bool {
        self.lost.get(&session).is_some_and(|since_ms| self.now_ms.saturating_sub(*since_ms) >= limit_ms)
    }

    /// Sessions that are lost for at least `limit_ms`, in order.
    pub fn lost_for(&self, limit_ms: u64) -> impl Iterator<Item = SessionId> + '_ {
        let is_long = move |since_ms: u64| self.now_ms.saturating_sub(since_ms) >= limit_ms;
        self.lost.iter().filter(move |(_, since_ms)| is_long(**since_ms)).map(|(session, _)| *session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: SessionId = SessionId([1; 16]);

    fn who() -> (String, String) {
        ("ann".to_owned(), "10.0.0.1".to_owned())
    }

    #[test]
    fn a_session_is_lost_with_its_last_connection_and_found_on_any() {
        let mut sessions = Sessions::default();
        sessions.tick(100, |_| true);
        sessions.attach(1, ANN, who);
        sessions.attach(2, ANN, who);
        sessions.attach(2, ANN, who);
        sessions.detach(1);
        sessions.tick(1000, |_| true);
        assert!(!sessions.is_lost_for(ANN, 0));
        assert_eq!(sessions.who(ANN), Some(("ann", "10.0.0.1")));
        sessions.attach(9, ANN, || ("bob".to_owned(), String::new()));
        assert_eq!(sessions.connections_by_user(), BTreeMap::from([("ann", 1), ("bob", 1)]));
        sessions.detach(9);
        sessions.detach(2);
        assert_eq!(sessions.who(ANN), None);
        sessions.tick(1500, |_| true);
        assert!(sessions.is_lost_for(ANN, 500) && !sessions.is_lost_for(ANN, 501));
        assert_eq!(sessions.lost_for(500).collect::<Vec<_>>(), [ANN]);
        sessions.attach(3, ANN, who);
        assert!(!sessions.is_lost_for(ANN, 0));
    }

    #[test]
    fn a_call_that_is_late_does_not_attach_a_connection_that_is_gone() {
        let mut sessions = Sessions::default();
        sessions.attach(1, ANN, who);
        sessions.detach(1);
        sessions.attach(1, ANN, who);
        sessions.tick(10, |_| true);
        assert!(sessions.is_lost_for(ANN, 10));
    }

    #[test]
    fn leases_of_the_lost_are_renewed_and_those_without_are_forgotten() {
        let mut sessions = Sessions::default();
        sessions.tick(5, |_| true);
        sessions.hold(ANN);
        sessions.tick(100, |_| true);
        sessions.renew(ANN);
        sessions.tick(150, |_| true);
        assert!(!sessions.is_lost_for(ANN, 51) && sessions.is_lost_for(ANN, 50));
        sessions.tick(150, |_| false);
        assert!(!sessions.is_lost_for(ANN, 0));
    }
}
