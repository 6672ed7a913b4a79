//! Where the file system is and how to treat it: URIs, configuration files, the builder of a client.
//!
//! The first of these that exists decides, and no other is read:
//!
//! 1. the environment variable `RINGFS_URI` (only the address; everything else has its default);
//! 2. the file that `RINGFS_CONFIG` names (it must exist);
//! 3. `./ringfs.toml`;
//! 4. `$XDG_CONFIG_HOME/ringfs/client.toml`, else `~/.config/ringfs/client.toml`;
//! 5. `/etc/ringfs/client.toml`.
//!
//! Keys of the file; one that is not in this table is refused:
//!
//! | key | unit | default | meaning |
//! |---|---|---|---|
//! | `uri` | | required | `ringfs://host:port` of the namenode; port 8020 if left out |
//! | `user` | | see below | on whose behalf calls are made |
//! | `umask` | | 0o022 | permission bits that new files and directories do not get |
//! | `write_window_bytes` | bytes | 8 MiB | sent and not yet acknowledged, at most, per writer |
//! | `packet_bytes` | bytes | 512 KiB | block data per packet, 4 KiB to 4 MiB |
//! | `deadline_ms` | ms | 60000 | how long a call survives a namenode that does not answer |
//! | `connect_timeout_ms` | ms | 5000 | for one connection |
//! | `io_timeout_ms` | ms | 30000 | how long a peer may be silent while an answer is due |
//! | `pipeline_timeout_ms` | ms | 10000 | how long a pipeline may be silent before the node that does not live is dropped |
//! | `replace_datanode_on_failure` | | `"default"` | whether it is replaced: `never`, `default`, `always` ([`ReplacePolicy`]) |
//! | `replace_datanode_best_effort` | | true | whether to go on with fewer where there is none |
//! | `hedge_budget_permille` | | 50 | reads in thousand that may be asked for at a second replica when the first is late; 0: none |
//! | `hedge_after_min_ms` | ms | 20 | a replica that was silent for less is not late |
//! | `job_tag` | | 0 | groups calls of one job in the servers' accounts |
//! | `io_uring` | | true | whether io_uring may be used; epoll and poll otherwise |
//!
//! The user is `RINGFS_USER`, else the key `user`, else the user of the process.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use ringfs_proto::limits::{PACKET_DATA_BYTES_DEFAULT, PACKET_DATA_BYTES_MAX, WRITE_WINDOW_BYTES_DEFAULT};
use serde::Deserialize;

use crate::client::Client;
use crate::driver::wait::Waiting;
use crate::environment::Environment;
use crate::error::{Error, Fault, Result};
use crate::limits::{
    CONNECT_TIMEOUT_DEFAULT, DEADLINE_DEFAULT, HEDGE_AFTER_MIN_DEFAULT, HEDGE_BUDGET_PERMILLE_DEFAULT,
    IO_TIMEOUT_DEFAULT, PIPELINE_TIMEOUT_DEFAULT,
};
use crate::transport::hedge::HedgePolicy;
use crate::write::ReplacePolicy;

/// Port of a namenode, unless the URI says otherwise.
const PORT_DEFAULT: u16 = 8020;
const PACKET_BYTES_MIN: usize = 4096;
const UMASK_DEFAULT: u16 = 0o022;
const SCHEME: &str = "ringfs://";

/// Address of a file system: `ringfs://host:port`, with an optional path that only command lines use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uri {
    /// Name or numeric address of the namenode; IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What follows the authority: empty, or an absolute path.
    pub path: String,
}

/// The text is not an address of a file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parse URI {text:?}: expected ringfs://host[:port][/path]")]
pub struct UriError {
    /// What was given.
    pub text: String,
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> std::result::Result<Self, UriError> {
        parse_uri(text).ok_or_else(|| UriError { text: text.chars().take(256).collect() })
    }
}

impl std::fmt::Display for Uri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port, path } = self;
        if host.contains(':') {
            write!(f, "{SCHEME}[{host}]:{port}{path}")
        } else {
            write!(f, "{SCHEME}{host}:{port}{path}")
        }
    }
}

fn parse_uri(text: &str) -> Option<Uri> {
    let rest = text.strip_prefix(SCHEME)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) => digits.parse().ok().filter(|port| *port != 0)?,
        None if port.is_empty() => PORT_DEFAULT,
        None => return None,
    };
    (!host.is_empty()).then(|| Uri { host: host.to_owned(), port, path: path.to_owned() })
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not an address.
    #[error(transparent)]
    Uri(#[from] UriError),
    /// The host has no address.
    #[error("resolve {host}: {source}")]
    Resolve {
        /// Which host.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// A file that cannot be read.
    #[error("read {path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that does not hold what it should: the text names line, key and what is known.
    #[error("parse {path}: {source}", path = path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: toml::de::Error,
    },
    /// None of the places has a configuration.
    #[error("set RINGFS_URI, or write one of {tried}")]
    Nowhere {
        /// The files that were looked for.
        tried: String,
    },
    /// A value outside its range.
    #[error("{key} = {value}: expected {expected}")]
    Range {
        /// Which key.
        key: &'static str,
        /// Its value.
        value: u64,
        /// What it may be.
        expected: &'static str,
    },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    uri: String,
    user: Option<String>,
    write_window_bytes: Option<usize>,
    packet_bytes: Option<usize>,
    deadline_ms: Option<u64>,
    connect_timeout_ms: Option<u64>,
    io_timeout_ms: Option<u64>,
    pipeline_timeout_ms: Option<u64>,
    replace_datanode_on_failure: Option<ReplacePolicy>,
    replace_datanode_best_effort: Option<bool>,
    hedge_budget_permille: Option<u32>,
    hedge_after_min_ms: Option<u64>,
    umask: Option<u16>,
    job_tag: Option<u32>,
    io_uring: Option<bool>,
}

/// Options of a client. Made by [`Client::builder`].
///
/// ```no_run
/// let client = ringfs_sdk::Client::builder()
///     .user("etl")
///     .write_window_bytes(32 << 20)
///     .connect("ringfs://namenode.example:8020")?;
/// # Ok::<(), ringfs_sdk::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    pub(crate) user: String,
    pub(crate) write_window_bytes: usize,
    pub(crate) packet_bytes: usize,
    pub(crate) deadline: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) io_timeout: Duration,
    pub(crate) pipeline_timeout: Duration,
    pub(crate) replace_policy: ReplacePolicy,
    pub(crate) replace_best_effort: bool,
    pub(crate) hedging: HedgePolicy,
    pub(crate) umask: u16,
    pub(crate) job_tag: u32,
    pub(crate) waiting: Waiting,
}

impl Default for ClientBuilder {
    fn default() -> Self {
        Self {
            user: process_user(),
            write_window_bytes: WRITE_WINDOW_BYTES_DEFAULT,
            packet_bytes: PACKET_DATA_BYTES_DEFAULT,
            deadline: DEADLINE_DEFAULT,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            io_timeout: IO_TIMEOUT_DEFAULT,
            pipeline_timeout: PIPELINE_TIMEOUT_DEFAULT,
            replace_policy: ReplacePolicy::Default,
            replace_best_effort: true,
            hedging: HedgePolicy {
                budget_permille: HEDGE_BUDGET_PERMILLE_DEFAULT,
                after_min: HEDGE_AFTER_MIN_DEFAULT,
            },
            umask: UMASK_DEFAULT,
            job_tag: 0,
            waiting: Waiting::Ring,
        }
    }
}

impl ClientBuilder {
    /// On whose behalf calls are made. Default: `RINGFS_USER`, else the user of the process.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = user.into();
        self
    }

    /// Permission bits that new files and directories do not get, at most `0o777`; 022 if not set (HDFS:
    /// `fs.permissions.umask-mode`). Where a directory has a default ACL, that takes the place of the umask.
    #[must_use]
    pub fn umask(mut self, umask: u16) -> Self {
        self.umask = umask;
        self
    }

    /// Bytes that a writer may have sent and not yet seen acknowledged. At least one packet.
    #[must_use]
    pub fn write_window_bytes(mut self, bytes: usize) -> Self {
        self.write_window_bytes = bytes;
        self
    }

    /// Block data per packet, 4 KiB to 4 MiB.
    #[must_use]
    pub fn packet_bytes(mut self, bytes: usize) -> Self {
        self.packet_bytes = bytes;
        self
    }

    /// How long a call survives a namenode that does not answer, is in safe mode or is busy.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// How long one connection may take to be made.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a peer may be silent while an answer is due.
    #[must_use]
    pub fn io_timeout(mut self, timeout: Duration) -> Self {
        self.io_timeout = timeout;
        self
    }

    /// How long a pipeline may be silent while an acknowledgement is due. Then its datanodes are asked whether they
    /// live; one that does not answer is dropped, and perhaps replaced, while the write goes on.
    #[must_use]
    pub fn pipeline_timeout(mut self, timeout: Duration) -> Self {
        self.pipeline_timeout = timeout;
        self
    }

    /// Whether a datanode that fails under a write is replaced by another.
    #[must_use]
    pub fn replace_datanode_on_failure(mut self, policy: ReplacePolicy) -> Self {
        self.replace_policy = policy;
        self
    }

    /// Whether a write goes on with fewer datanodes when the policy wants another and there is none. Off, as it is in
    /// HDFS unless its user says otherwise, such a write fails.
    #[must_use]
    pub fn replace_datanode_best_effort(mut self, best_effort: bool) -> Self {
        self.replace_best_effort = best_effort;
        self
    }

    /// Hedged reads: when a replica is silent for longer than 95 of 100 of its answers took, and for at least
    /// `after_min`, another is asked for the same bytes, for at most `budget_permille` of a thousand reads. 0 turns it off.
    #[must_use]
    pub fn hedging(mut self, budget_permille: u32, after_min: Duration) -> Self {
        self.hedging = HedgePolicy { budget_permille, after_min };
        self
    }

    /// Groups the calls of one job in the servers' accounts; 0 means none.
    #[must_use]
    pub fn job_tag(mut self, tag: u32) -> Self {
        self.job_tag = tag;
        self
    }

    /// Forbids io_uring to this client: several sockets are then waited for by epoll.
    #[must_use]
    pub fn forbid_io_uring(mut self) -> Self {
        self.waiting = Waiting::Epoll;
        self
    }

    /// Makes no driver: several sockets are waited for by `poll`. For programs that run monoio in the threads of their
    /// calls; there the driver would be refused, with a panic message, once per thread.
    #[must_use]
    pub fn wait_by_poll(mut self) -> Self {
        self.waiting = Waiting::Poll;
        self
    }

    /// Makes the client. No connection is opened before the first call.
    ///
    /// # Errors
    /// `Config`: not a URI, a host without address, an option outside its range.
    pub fn connect(self, uri: &str) -> Result<Client> {
        let parsed = Uri::from_str(uri).map_err(ConfigError::from);
        let made = parsed.and_then(|uri| self.check().and_then(|()| Ok((resolve(&uri)?, uri))));
        let (addresses, parsed) =
            made.map_err(|error| Error::new("connect to", uri, Fault::Config(error)))?;
        Ok(Client::new(self, parsed, addresses))
    }

    /// Makes a client that stands on something else than the sockets and the clock of this process: for tests and simulations.
    /// `uri` is only for its name.
    ///
    /// # Errors
    /// `Config`: not a URI, an option outside its range.
    #[doc(hidden)]
    pub fn build_on(self, environment: Environment, uri: &str) -> Result<Client> {
        let parsed = Uri::from_str(uri).map_err(ConfigError::from);
        let made = parsed.and_then(|uri| self.check().map(|()| uri));
        let parsed = made.map_err(|error| Error::new("connect to", uri, Fault::Config(error)))?;
        Ok(Client::on(environment, self, parsed))
    }

    /// Makes the client that the environment or a configuration file describes; [`Client::from_config`] has the order.
    ///
    /// # Errors
    /// `Config`, as [`Self::connect`], and a file that cannot be read or has an unknown key.
    pub fn connect_by_config(self) -> Result<Client> {
        if let Some(uri) = variable("RINGFS_URI") {
            return self.connect(&uri);
        }
        let file = find_file().and_then(|path| read_file(&path));
        let file = file.map_err(|error| Error::new("configure", "client", Fault::Config(error)))?;
        let uri = file.uri.clone();
        self.with_file(file).connect(&uri)
    }

    fn with_file(mut self, file: File) -> Self {
        if let Some(user) = file.user
            && variable("RINGFS_USER").is_none()
        {
            self.user = user;
        }
        let ms = |value: Option<u64>, default| value.map_or(default, Duration::from_millis);
        self.write_window_bytes = file.write_window_bytes.unwrap_or(self.write_window_bytes);
        self.packet_bytes = file.packet_bytes.unwrap_or(self.packet_bytes);
        self.deadline = ms(file.deadline_ms, self.deadline);
        self.connect_timeout = ms(file.connect_timeout_ms, self.connect_timeout);
        self.io_timeout = ms(file.io_timeout_ms, self.io_timeout);
        self.pipeline_timeout = ms(file.pipeline_timeout_ms, self.pipeline_timeout);
        self.replace_policy = file.replace_datanode_on_failure.unwrap_or(self.replace_policy);
        self.replace_best_effort = file.replace_datanode_best_effort.unwrap_or(self.replace_best_effort);
        let HedgePolicy { budget_permille, after_min } = &mut self.hedging;
        *budget_permille = file.hedge_budget_permille.unwrap_or(*budget_permille);
        *after_min = ms(file.hedge_after_min_ms, *after_min);
        self.umask = file.umask.unwrap_or(self.umask);
        self.job_tag = file.job_tag.unwrap_or(self.job_tag);
        if file.io_uring == Some(false) {
            self.waiting = Waiting::Epoll;
        }
        self
    }

    fn check(&self) -> std::result::Result<(), ConfigError> {
        let range = |key, value: usize, expected| ConfigError::Range { key, value: value as u64, expected };
        if self.umask > 0o777 {
            return Err(range("umask", usize::from(self.umask), "0o000 to 0o777"));
        }
        if !(PACKET_BYTES_MIN..=PACKET_DATA_BYTES_MAX).contains(&self.packet_bytes) {
            return Err(range("packet_bytes", self.packet_bytes, "4096 to 4194304"));
        }
        if self.write_window_bytes < self.packet_bytes {
            return Err(range("write_window_bytes", self.write_window_bytes, "at least packet_bytes"));
        }
        Ok(())
    }
}

fn resolve(uri: &Uri) -> std::result::Result<Vec<SocketAddr>, ConfigError> {
    let failed = |source| ConfigError::Resolve { host: uri.host.clone(), source };
    let addresses: Vec<_> = (uri.host.as_str(), uri.port).to_socket_addrs().map_err(failed)?.collect();
    if addresses.is_empty() {
        return Err(failed(io::Error::other("no address")));
    }
    Ok(addresses)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn process_user() -> String {
    let uid = nix::unistd::getuid();
    variable("RINGFS_USER").unwrap_or_else(|| {
        nix::unistd::User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
    })
}

fn find_file() -> std::result::Result<PathBuf, ConfigError> {
    if let Some(path) = variable("RINGFS_CONFIG") {
        return Ok(path.into());
    }
    let home = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")));
    let mut places = vec![PathBuf::from("ringfs.toml")];
    places.extend(home.map(|home| home.join("ringfs/client.toml")));
    places.push("/etc/ringfs/client.toml".into());
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| {
        let tried: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        ConfigError::Nowhere { tried: tried.join(", ") }
    })
}

fn read_file(path: &Path) -> std::result::Result<File, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    toml::from_str(&text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed() {
        let uri = |host: &str, port, path: &str| Uri { host: host.into(), port, path: path.into() };
        assert_eq!("ringfs://a:1/b/c".parse(), Ok(uri("a", 1, "/b/c")));
        assert_eq!("ringfs://a".parse(), Ok(uri("a", 8020, "")));
        assert_eq!("ringfs://[::1]:9".parse(), Ok(uri("::1", 9, "")));
        assert_eq!(
            "ringfs://[::1]:9/x".parse::<Uri>().map(|uri| uri.to_string()),
            Ok("ringfs://[::1]:9/x".into())
        );
        for text in
            ["", "hdfs://a:1", "ringfs://", "ringfs://:1", "ringfs://a:", "ringfs://a:0", "ringfs://a:x"]
        {
            assert!(text.parse::<Uri>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("client.toml");
        std::fs::write(&path, "uri = 'ringfs://a'\nusr = 'x'\n").expect("write");
        let text = read_file(&path).expect_err("unknown key").to_string();
        assert!(text.contains("usr") && text.contains("user"), "{text}");
    }

    #[test]
    fn options_outside_their_range_are_refused() {
        let small = ClientBuilder::default().packet_bytes(100).connect("ringfs://127.0.0.1:1");
        assert!(small.expect_err("too small").to_string().contains("packet_bytes = 100"));
        let window = ClientBuilder::default().write_window_bytes(100).connect("ringfs://127.0.0.1:1");
        assert!(window.is_err());
    }
}
