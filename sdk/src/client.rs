//! The client: one file system, its namespace, and the ways to open files.

use std::net::SocketAddr;
use std::sync::Arc;

use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::limits::CHUNK_BYTES_NATIVE;
use ringfs_proto::meta::admin::{
    CheckpointReplyV1, CheckpointRequestV1, DatanodeReportRequestV1, FsStatsRequestV1, ReplicationAction,
    ReplicationRequestV1, SafeModeAction, SafeModeRequestV1, ServerDefaultsRequestV1,
};
use ringfs_proto::meta::namespace::{
    CreateRequestV1, DeleteRequestV1, FileRefV1, GetBlockLocationsRequestV1, MkdirsRequestV1,
    RecoverLeaseRequestV1, RenameRequestV1, SetReplicationRequestV1, StatRequestV1,
};
use ringfs_proto::ops::{
    Checkpoint, Create, DatanodeReport, Delete, FsStats as FsStatsOp, GetBlockLocations, Mkdirs,
    RecoverLease, Rename, Replication, SafeMode, ServerDefaults as ServerDefaultsOp, SetReplication, Stat,
};

use crate::config::{ClientBuilder, Uri};
use crate::driver::process::PerProcess;
use crate::environment::{Clock, Environment, SystemClock};
use crate::error::Result;
use crate::listing::Listing;
use crate::namenode::{Namenode, TcpChannel};
use crate::net::connection::Caller;
use crate::net::session::Session;
use crate::read::Reader;
use crate::read::bad::BadReplicas;
use crate::transport::Transport;
use crate::transport::tcp::Tcp;
use crate::write::Writer;
use crate::{DatanodeInfo, FileStatus, FsStats, LocatedBlock, ServerDefaults};

/// A client of one file system. Cloning is cheap; all clones, and all that they open, share connections.
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

/// What a client shares with all that it opens.
#[derive(Debug)]
pub(crate) struct Shared {
    pub namenode: Namenode,
    pub transport: Arc<dyn Transport>,
    pub clock: Arc<dyn Clock>,
    pub options: ClientBuilder,
    /// Replicas that were found bad, for the namenode.
    pub bad_replicas: PerProcess<BadReplicas>,
    uri: Uri,
}

/// How a file is created.
///
/// ```
/// let options = ringfs_sdk::CreateOptions { replication: 2, overwrite: true, ..Default::default() };
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOptions {
    /// Wanted replicas, at most 512; 0 means the server's default.
    pub replication: u16,
    /// Bytes per block, at least 1024; 0 means the server's default.
    pub block_size: u64,
    /// Whether an existing file is replaced.
    pub overwrite: bool,
    /// Whether missing parents are made.
    pub create_parents: bool,
    /// Permission bits, from which the umask is taken.
    pub mode: u16,
    /// Bytes that will be written, if known: the datanodes choose how they keep them by it.
    pub announced_length: Option<u64>,
    /// Whether the file will be read soon: keep it in memory.
    pub reuse: bool,
}

impl Default for CreateOptions {
    /// The server's replication and block size, parents made, nothing replaced, mode 666.
    fn default() -> Self {
        Self {
            replication: 0,
            block_size: 0,
            overwrite: false,
            create_parents: true,
            mode: 0o666,
            announced_length: None,
            reuse: false,
        }
    }
}

impl Client {
    /// A client of `ringfs://host:port`, with default options. No connection is opened before the first call.
    ///
    /// # Errors
    /// `Config`: not a URI, or a host without address.
    ///
    /// ```no_run
    /// let client = ringfs_sdk::Client::connect("ringfs://127.0.0.1:8020")?;
    /// # Ok::<(), ringfs_sdk::Error>(())
    /// ```
    pub fn connect(uri: &str) -> Result<Self> {
        Self::builder().connect(uri)
    }

    /// The client that the environment or a configuration file describes. The first that exists decides: `RINGFS_URI`;
    /// the file that `RINGFS_CONFIG` names; `./ringfs.toml`; `~/.config/ringfs/client.toml`;
    /// `/etc/ringfs/client.toml`. Keys: `uri`, `user`, `umask`, `write_window_bytes`, `packet_bytes`, `deadline_ms`,
    /// `connect_timeout_ms`, `io_timeout_ms`, `pipeline_timeout_ms`, `replace_datanode_on_failure`,
    /// `replace_datanode_best_effort`, `hedge_budget_permille`, `hedge_after_min_ms`, `job_tag`, `io_uring`; any other is refused.
    ///
    /// # Errors
    /// `Config`.
    pub fn from_config() -> Result<Self> {
        Self::builder().connect_by_config()
    }

    /// Options, then [`ClientBuilder::connect`].
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }

    pub(crate) fn new(options: ClientBuilder, uri: Uri, addresses: Vec<SocketAddr>) -> Self {
        let caller = Caller {
            user: options.user.clone(),
            connect_timeout: options.connect_timeout,
            io_timeout: options.io_timeout,
            pipeline_timeout: options.pipeline_timeout,
            job_tag: options.job_tag,
        };
        let transport = Arc::new(Tcp::new(caller.clone(), options.waiting, options.hedging));
        let (channel, clock) = (Arc::new(TcpChannel::new(addresses, caller)), Arc::new(SystemClock));
        let namenode = Namenode::new(channel, clock.clone(), options.job_tag, options.deadline);
        Self {
            shared: Arc::new(Shared {
                namenode,
                transport,
                clock,
                options,
                bad_replicas: PerProcess::new(),
                uri,
            }),
        }
    }

    pub(crate) fn on(environment: Environment, options: ClientBuilder, uri: Uri) -> Self {
        let Environment { channel, transport, clock, session } = environment;
        let namenode = Namenode::new(channel, clock.clone(), options.job_tag, options.deadline);
        let namenode = namenode.with_session(Session::new(session));
        Self {
            shared: Arc::new(Shared {
                namenode,
                transport,
                clock,
                options,
                bad_replicas: PerProcess::new(),
                uri,
            }),
        }
    }

    /// The same client over another transport for block data; its options and namenode stay.
    #[must_use]
    pub fn with_transport(&self, transport: Arc<dyn Transport>) -> Self {
        let Shared { namenode, clock, options, uri, .. } = &*self.shared;
        let (namenode, clock) = (namenode.clone(), clock.clone());
        let (options, uri) = (options.clone(), uri.clone());
        Self {
            shared: Arc::new(Shared {
                namenode,
                transport,
                clock,
                options,
                bad_replicas: PerProcess::new(),
                uri,
            }),
        }
    }

    /// The address of the file system, without a path.
    pub fn uri(&self) -> String {
        let Uri { host, port, .. } = self.shared.uri.clone();
        Uri { host, port, path: String::new() }.to_string()
    }

    /// The user on whose behalf calls are made.
    pub fn user(&self) -> &str {
        &self.shared.options.user
    }

    /// Permission bits that new files and directories do not get.
    pub fn umask(&self) -> u16 {
        self.shared.options.umask
    }

    /// Status of a path.
    ///
    /// # Errors
    /// `NotFound`, `Refused` (not an absolute path), and what every call can give: `TimedOut`, `Unreachable`.
    pub fn stat(&self, path: &str) -> Result<FileStatus> {
        self.shared.namenode.call::<Stat>("stat", path, &StatRequestV1 { path: path.to_owned() })
    }

    /// Entries of a directory, sorted by the bytes of their names, fetched page by page. A file lists itself, with an
    /// empty name.
    ///
    /// # Errors
    /// `NotFound`.
    ///
    /// ```no_run
    /// # let client = ringfs_sdk::Client::from_config()?;
    /// for entry in client.list("/datasets")? {
    ///     let entry = entry?;
    ///     println!("{:>12} {}", entry.length, entry.name);
    /// }
    /// # Ok::<(), ringfs_sdk::Error>(())
    /// ```
    pub fn list(&self, path: &str) -> Result<Listing> {
        Listing::begin(self.shared.clone(), path)
    }

    /// Makes a directory and its missing parents (mode 777 less the umask). Nothing happens if it exists.
    ///
    /// # Errors
    /// `AlreadyExists` (it is a file), `Refused` (`NotADirectory`: an ancestor is a file), `SafeMode`.
    pub fn mkdirs(&self, path: &str) -> Result<()> {
        self.mkdirs_with(path, 0o777, true)
    }

    /// Makes a directory with permission bits, from which the umask is taken.
    ///
    /// # Errors
    /// As [`Self::mkdirs`], and `NotFound` when the parent is missing and `create_parents` is off.
    pub fn mkdirs_with(&self, path: &str, mode: u16, create_parents: bool) -> Result<()> {
        let request = MkdirsRequestV1 {
            path: path.to_owned(),
            mode: mode & !self.umask(),
            unmasked_mode: mode,
            create_parents,
        };
        self.shared.namenode.call::<Mkdirs>("make directory", path, &request).map(|_done| ())
    }

    /// Creates a file with default options; see [`Self::create_with`].
    ///
    /// # Errors
    /// As [`Self::create_with`].
    pub fn create(&self, path: &str) -> Result<Writer> {
        self.create_with(path, &CreateOptions::default())
    }

    /// Creates a file and opens it for writing.
    ///
    /// # Errors
    /// `AlreadyExists`, `Busy` (another writer has it open), `Refused` (`IsADirectory`, `NotADirectory`,
    /// `InvalidArgument`), `NotFound` (the parent), `SafeMode`.
    ///
    /// ```no_run
    /// use std::io::Write;
    /// # let client = ringfs_sdk::Client::from_config()?;
    /// let options = ringfs_sdk::CreateOptions { overwrite: true, ..Default::default() };
    /// let mut writer = client.create_with("/models/latest", &options)?;
    /// writer.write_all(b"weights")?;
    /// writer.close()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create_with(&self, path: &str, options: &CreateOptions) -> Result<Writer> {
        let request = self.to_create(path, options);
        let reply = self.shared.namenode.call::<Create>("create", path, &request)?;
        let writer = Writer::new(self.shared.clone(), path, &reply.status, options);
        Ok(writer.with_inline(reply.inline_bytes_max))
    }

    pub(crate) fn to_create(&self, path: &str, options: &CreateOptions) -> CreateRequestV1 {
        CreateRequestV1 {
            path: path.to_owned(),
            mode: options.mode & !self.umask(),
            unmasked_mode: options.mode,
            overwrite: options.overwrite,
            create_parents: options.create_parents,
            replication: options.replication,
            block_size: options.block_size,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: CHUNK_BYTES_NATIVE,
        }
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// `NotFound`, `Refused` (`IsADirectory`).
    ///
    /// ```no_run
    /// # let client = ringfs_sdk::Client::from_config()?;
    /// let reader = client.open("/datasets/train.bin")?;
    /// let mut record = vec![0; 4096];
    /// let len = reader.read_at(1 << 30, &mut record)?; // from any number of threads at once
    /// # Ok::<(), ringfs_sdk::Error>(())
    /// ```
    pub fn open(&self, path: &str) -> Result<Reader> {
        Reader::open(self.shared.clone(), path)
    }

    /// Renames: `target` is the new path itself, also when it is a directory. With `overwrite` an existing file, or an
    /// empty directory, is replaced.
    ///
    /// # Errors
    /// `NotFound`, `AlreadyExists`, `Refused` (`NotADirectory`, `NotEmpty`, `InvalidArgument`: target inside source,
    /// the root), `SafeMode`.
    pub fn rename(&self, source: &str, target: &str, overwrite: bool) -> Result<()> {
        let request = RenameRequestV1 { source: source.to_owned(), target: target.to_owned(), overwrite };
        self.shared.namenode.call::<Rename>("rename", source, &request).map(|_done| ())
    }

    /// Deletes. Returns whether there was something to delete.
    ///
    /// # Errors
    /// `Refused` (`NotEmpty`: a directory with entries, and not `recursive`), `SafeMode`.
    pub fn delete(&self, path: &str, recursive: bool) -> Result<bool> {
        let request = DeleteRequestV1 { path: path.to_owned(), recursive };
        self.shared.namenode.call::<Delete>("delete", path, &request).map(|reply| reply.deleted)
    }

    /// Changes how many replicas a file shall have. Returns whether the path is a file: a directory has none, and nothing
    /// was changed. Copies are made, or surplus ones deleted, in the background.
    ///
    /// # Errors
    /// `NotFound`, `Refused` (0, or more than 512), `SafeMode`.
    pub fn set_replication(&self, path: &str, replication: u16) -> Result<bool> {
        let request = SetReplicationRequestV1 { path: path.to_owned(), replication };
        let reply = self.shared.namenode.call::<SetReplication>("set replication of", path, &request)?;
        Ok(reply.is_file)
    }

    /// Takes the lease of a file from its writer, whoever that is, and closes the file with all that was acknowledged.
    /// Returns whether it is closed; if not, recovery has begun: ask again. The writer goes on if nobody else has opened
    /// the file for writing and nothing of what it was acknowledged is missing; else it gets `LeaseLost`.
    ///
    /// # Errors
    /// `NotFound`, `Refused` (`IsADirectory`), `SafeMode`.
    pub fn recover_lease(&self, path: &str) -> Result<bool> {
        let request = RecoverLeaseRequestV1 { path: path.to_owned() };
        let reply = self.shared.namenode.call::<RecoverLease>("recover the lease of", path, &request)?;
        Ok(reply.is_closed)
    }

    /// Totals of the file system.
    ///
    /// # Errors
    /// `TimedOut`, `Unreachable`.
    pub fn fs_stats(&self) -> Result<FsStats> {
        self.shared.namenode.call::<FsStatsOp>("ask totals of", "/", &FsStatsRequestV1 { flags: 0 })
    }

    /// The datanodes, by address.
    ///
    /// # Errors
    /// `TimedOut`, `Unreachable`.
    pub fn datanode_report(&self) -> Result<Vec<DatanodeInfo>> {
        let request = DatanodeReportRequestV1 { flags: 0 };
        let reply = self.shared.namenode.call::<DatanodeReport>("report datanodes of", "/", &request)?;
        Ok(reply.datanodes)
    }

    /// Why blocks of lost datanodes are not copied now; empty when they are. With `copy_now`, they are from now on.
    ///
    /// # Errors
    /// `TimedOut`, `Unreachable`.
    pub fn copying_waits(&self, copy_now: bool) -> Result<String> {
        let action = if copy_now { ReplicationAction::CopyNow } else { ReplicationAction::Get };
        let request = ReplicationRequestV1 { action };
        let reply = self.shared.namenode.call::<Replication>("ask about copies of", "/", &request)?;
        Ok(reply.waits)
    }

    /// Writes a checkpoint of the namespace and returns once it is on stable storage.
    ///
    /// `target` is empty for the ordinary place, after which the log before it may go; else an absolute path on the
    /// namenode's host, of an empty or missing directory from which a namenode can be started: a backup.
    ///
    /// # Errors
    /// `Busy` while another is being written, `InvalidArgument`, `Io`, `TimedOut`, `Unreachable`.
    pub fn checkpoint(&self, target: &str) -> Result<CheckpointReplyV1> {
        let request = CheckpointRequestV1 { target: target.to_owned() };
        self.shared.namenode.call::<Checkpoint>("write a checkpoint of", "/", &request)
    }

    /// Asks about safe mode, or changes it; returns why changes are refused, empty when they are not.
    ///
    /// # Errors
    /// `SafeMode` when it cannot be left so, `TimedOut`, `Unreachable`.
    pub fn safe_mode(&self, action: SafeModeAction) -> Result<String> {
        let request = SafeModeRequestV1 { action };
        self.shared.namenode.call::<SafeMode>("set safe mode of", "/", &request).map(|reply| reply.reason)
    }

    /// What is used where the user says nothing.
    ///
    /// # Errors
    /// `TimedOut`, `Unreachable`.
    pub fn server_defaults(&self) -> Result<ServerDefaults> {
        let request = ServerDefaultsRequestV1 { flags: 0 };
        self.shared.namenode.call::<ServerDefaultsOp>("ask defaults of", "/", &request)
    }

    /// Where the blocks of a range are, in the order of the file. `length` may be `u64::MAX`. What does not fit into one answer
    /// is asked for in further calls.
    ///
    /// # Errors
    /// `NotFound`, `Refused` (`IsADirectory`).
    pub fn block_locations(&self, path: &str, offset: u64, length: u64) -> Result<Vec<LocatedBlock>> {
        let (mut blocks, mut from, end) = (Vec::new(), offset, offset.saturating_add(length));
        loop {
            let file = FileRefV1::Path(path.to_owned());
            let request = GetBlockLocationsRequestV1 { file, offset: from, length: end - from };
            let reply = self.shared.namenode.call::<GetBlockLocations>("locate blocks of", path, &request)?;
            let Some(last) = reply.blocks.last() else { return Ok(blocks) };
            let (next, is_open) = (last.offset + last.block.length, last.is_open);
            let is_all = next >= end || (next >= reply.status.length && !reply.status.is_open);
            blocks.extend(reply.blocks);
            if is_open || is_all || next <= from {
                return Ok(blocks);
            }
            from = next;
        }
    }
}
