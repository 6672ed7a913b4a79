//! Idle connections of this process, each at a frame boundary, by address and user.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use parking_lot::Mutex;

use super::connection::{Caller, Connection};
use crate::driver::process::PerProcess;
use crate::error::Fault;
use crate::limits::{IDLE_EXPIRY, IDLE_MAX, IDLE_PER_ADDRESS_MAX};

static POOL: PerProcess<Pool> = PerProcess::new();

/// Whether idle connections may be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// After a while.
    Briefly,
    /// Never: leases live as long as the session's connection.
    Session,
}

/// The idle connections of this process.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    idle: Mutex<Idle>,
}

#[derive(Debug, Default)]
struct Idle {
    by_peer: HashMap<(SocketAddr, String), Vec<IdleConnection>>,
    count: usize,
}

#[derive(Debug)]
struct IdleConnection {
    connection: Connection,
    since: Instant,
    keep: Keep,
}

impl IdleConnection {
    fn is_expired(&self, now: Instant) -> bool {
        self.keep == Keep::Briefly && now.duration_since(self.since) >= IDLE_EXPIRY
    }
}

/// A connection for one call, and whether it has been idle before: then its peer may have gone without our knowing.
#[derive(Debug)]
pub(crate) struct Checkout {
    pub connection: Connection,
    pub was_idle: bool,
}

impl Pool {
    /// The pool of this process.
    pub fn current() -> &'static Self {
        POOL.get(Self::default)
    }

    /// An idle connection that is alive, or a new one.
    pub fn checkout(&self, address: SocketAddr, caller: &Caller) -> Result<Checkout, Fault> {
        while let Some(idle) = self.take(address, &caller.user) {
            if !idle.is_expired(Instant::now()) && idle.connection.is_idle_and_alive() {
                return Ok(Checkout { connection: idle.connection, was_idle: true });
            }
        }
        Ok(Checkout { connection: Connection::open(address, caller)?, was_idle: false })
    }

    /// Whether an idle connection to a peer is alive.
    pub fn has_live(&self, address: SocketAddr, user: &str) -> bool {
        let idle = self.idle.lock();
        let peers = idle.by_peer.get(&(address, user.to_owned()));
        peers.is_some_and(|peers| peers.iter().any(|idle| idle.connection.is_idle_and_alive()))
    }

    /// Takes back a connection at a frame boundary; the longest idle ones make room for it.
    pub fn give_back(&self, connection: Connection, caller: &Caller, keep: Keep) {
        if !connection.is_at_boundary() {
            return;
        }
        let now = Instant::now();
        let mut idle = self.idle.lock();
        let key = (connection.address(), caller.user.clone());
        let peers = idle.by_peer.entry(key).or_default();
        if peers.len() >= IDLE_PER_ADDRESS_MAX {
            return;
        }
        peers.push(IdleConnection { connection, since: now, keep });
        idle.count += 1;
        if idle.count > IDLE_MAX || idle.count.is_multiple_of(16) {
            idle.drop_expired(now);
        }
    }

    fn take(&self, address: SocketAddr, user: &str) -> Option<IdleConnection> {
        let mut idle = self.idle.lock();
        // The most recent one: its peer is the most likely to be there, and the others can expire.
        let taken = idle.by_peer.get_mut(&(address, user.to_owned()))?.pop()?;
        idle.count -= 1;
        Some(taken)
    }
}

impl Idle {
    fn drop_expired(&mut self, now: Instant) {
        self.by_peer.retain(|_, peers| {
            peers.retain(|idle| !idle.is_expired(now));
            !peers.is_empty()
        });
        self.count = self.by_peer.values().map(Vec::len).sum();
        if self.count > IDLE_MAX {
            self.by_peer.retain(|_, peers| {
                peers.retain(|idle| idle.keep == Keep::Session);
                !peers.is_empty()
            });
            self.count = self.by_peer.values().map(Vec::len).sum();
        }
    }
}
