//! The HDFS face of the namenode: `ClientProtocol` over Hadoop RPC, translated into native calls.
//!
//! A method is a function of its request that says what to ask the namespace, and what to make of the answer: a [`Step`].
//! Most ask once; some ask again with what they were told. Nothing here reads or writes, and no rule of the namespace is here:
//! `rpc/hadoop.rs` moves the bytes, `core` and `state` decide. docs/hdfs-compat.md lists the methods.

#![allow(clippy::needless_pass_by_value, reason = "every method is given its request")]

mod absent;
mod admin;
mod attributes;
mod convert;
mod errors;
mod files;
mod holders;
mod methods;
mod namespace;
mod server;

use std::net::IpAddr;
use std::sync::Arc;

use prost::{Message, Name};
use ringfs_hadoop::frames::RemoteError;
use ringfs_proto::WireError;
use ringfs_proto::ids::{ClusterId, SessionId};
use sha2::{Digest, Sha256};

use crate::calls::{Question, Reply, Request};

pub use holders::Holders;
pub use methods::{begin, superusers_only};

/// What a call does next.
pub enum Step {
    /// It asks the namespace.
    Ask(Ask),
    /// It is answered, with an encoded response.
    Done(Result<Vec<u8>, RemoteError>),
    /// It is answered with the groups of a user.
    Groups(String),
    /// Groups of users are looked up anew.
    ForgetGroups,
}

/// A question to the namespace.
pub struct Ask {
    /// What is asked.
    pub request: Request,
    /// In whose name leases are held and results are kept.
    pub session: SessionId,
    /// What is made of the answer.
    pub then: Then,
}

/// What is made of an answer.
pub type Then = Box<dyn FnOnce(Result<Reply, WireError>) -> Step + Send>;

/// Whose call it is.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Where from.
    pub address: IpAddr,
    /// The client's process.
    pub session: SessionId,
    /// Writers by their names.
    pub holders: Arc<Holders>,
    /// The name of all blocks of this cluster.
    pub pool: Arc<str>,
}

impl Origin {
    /// The session of a writer of the client.
    fn writer(&self, name: &str) -> SessionId {
        self.holders.session_of(name, self.address)
    }
}

/// The name under which clients know the blocks of a cluster.
pub fn pool_of(cluster: ClusterId) -> Arc<str> {
    format!("BP-{cluster}").into()
}

/// The session of a client's process, by the id that its calls carry.
pub fn session_of_client(id: &[u8]) -> SessionId {
    SessionId(id.try_into().unwrap_or_else(|_| digest(id)))
}

fn digest(bytes: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(bytes);
    core::array::from_fn(|at| digest[at])
}

fn decode<M: Message + Name + Default>(bytes: &[u8]) -> Result<M, RemoteError> {
    ringfs_hadoop::decode(bytes).map_err(|error| errors::malformed(&error.to_string()))
}

fn done(response: &impl Message) -> Step {
    Step::Done(Ok(response.encode_to_vec()))
}

fn failed(error: RemoteError) -> Step {
    Step::Done(Err(error))
}

/// Asks the namespace, in the name of a session, and makes something of the answer.
fn ask<Q: Question>(
    session: SessionId,
    question: Q,
    then: impl FnOnce(Result<Q::Answer, WireError>) -> Step + Send + 'static,
) -> Step {
    let then = Box::new(move |result: Result<Reply, WireError>| then(result.and_then(Q::answer)));
    Step::Ask(Ask { request: question.into_request(), session, then })
}
