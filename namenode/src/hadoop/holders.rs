//! Writers by the names that they give themselves. The namespace knows their sessions, which are made of the names; people know
//! the names.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use ringfs_proto::ids::SessionId;

use super::digest;

/// Names that are known at once; beyond, all are forgotten, and sessions are shown as they are.
const NAMES_MAX: usize = 65_536;

/// Names of writers, by session.
#[derive(Debug, Default)]
pub struct Holders {
    names: Mutex<HashMap<SessionId, String>>,
}

impl Holders {
    /// The session of a writer.
    pub fn session_of(&self, name: &str, address: IpAddr) -> SessionId {
        let session = SessionId(digest(name.as_bytes()));
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES_MAX && !names.contains_key(&session) {
            names.clear();
        }
        names.entry(session).or_insert_with(|| format!("{name} on {address}"));
        session
    }

    /// The name of a writer, without its address.
    pub fn name_of(&self, session: SessionId) -> Option<String> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.get(&session).and_then(|shown| shown.rsplit_once(" on ")).map(|(name, _)| name.to_owned())
    }

    /// A text with names in the place of sessions.
    pub fn named(&self, text: &str) -> String {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |word: &str| word.parse().ok().and_then(|session: SessionId| names.get(&session).cloned());
        let words = text.split(' ').map(|word| name(word).unwrap_or_else(|| word.to_owned()));
        words.collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn sessions_are_shown_by_their_names() {
        let holders = Holders::default();
        let session = holders.session_of("DFSClient_1", IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(session, holders.session_of("DFSClient_1", IpAddr::V4(Ipv4Addr::LOCALHOST)));
        let other = SessionId([7; 16]);
        let text = format!("Failed for {session} because {other} holds it");
        assert_eq!(
            holders.named(&text),
            format!("Failed for DFSClient_1 on 127.0.0.1 because {other} holds it")
        );
        assert_eq!(holders.name_of(session).as_deref(), Some("DFSClient_1"));
        assert_eq!(holders.name_of(other), None);
    }
}
