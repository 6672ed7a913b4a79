//! The mix of operations of a large HDFS cluster (Niazi et al., FAST '17, table 1), over the HDFS wire: a generator that costs little
//! itself, with so many calls in flight on one connection.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use prost::Message;
use ringfs_hadoop::calls::{self, CLIENT_PROTOCOL};
use ringfs_hadoop::client::{
    CompleteRequest, CreateRequest, DeleteRequest, GetBlockLocationsRequest, GetFileInfoRequest,
    GetListingRequest, MkdirsRequest, RenameRequest, SetOwnerRequest, SetPermissionRequest,
    SetReplicationRequest,
};
use ringfs_hadoop::frames;
use ringfs_hadoop::hdfs::FsPermission;
use ringfs_tests::random::Random;

/// Files in a directory.
pub const FILES_PER_DIRECTORY: u64 = 16;
const CLIENT: calls::ClientId = [0x4d; 16];
const CLIENT_NAME: &str = "mix";
/// How long an answer may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Hundredths of a percent of each operation.
const WEIGHTS: [(Operation, u64); 12] = [
    (Operation::Locate, 6873),
    (Operation::StatFile, 1304),
    (Operation::ListDirectory, 852),
    (Operation::StatDirectory, 396),
    (Operation::Create, 270),
    (Operation::Rename, 130),
    (Operation::Delete, 75),
    (Operation::ListFile, 49),
    (Operation::SetOwner, 32),
    (Operation::SetReplication, 14),
    (Operation::SetPermission, 3),
    (Operation::Mkdirs, 2),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Locate,
    StatFile,
    ListDirectory,
    StatDirectory,
    Create,
    Rename,
    Delete,
    ListFile,
    SetOwner,
    SetReplication,
    SetPermission,
    Mkdirs,
}

/// What an answer leads to.
#[derive(Debug)]
enum After {
    /// Nothing: the operation has ended.
    Nothing,
    /// The file that was made is completed; with that the operation ends.
    Complete(String),
    /// The file is there, under its new name.
    Mine(String),
}

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Done {
    /// Operations. A file that is made counts once, with its two calls.
    pub operations: u64,
    /// Calls.
    pub calls: u64,
    /// How long it took.
    pub took: Duration,
}

/// A generator, and what it knows of the namespace.
#[derive(Debug)]
pub struct Mix {
    stream: TcpStream,
    received: Vec<u8>,
    random: Random,
    tree: String,
    directories: u64,
    call: i32,
    number: u64,
    in_flight: HashMap<i32, After>,
    /// Files that it has made and may rename or delete.
    mine: VecDeque<String>,
}

impl Mix {
    /// Connects. Below `tree` there are directories by their numbers, each with [`FILES_PER_DIRECTORY`] files by theirs.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn connect(
        address: SocketAddr,
        user: &str,
        tree: &str,
        directories: u64,
        seed: u64,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(&calls::beginning(CLIENT, user))?;
        Ok(Self {
            stream,
            received: Vec::new(),
            random: Random::new(seed),
            tree: tree.to_owned(),
            directories,
            call: 0,
            number: 0,
            in_flight: HashMap::new(),
            mine: VecDeque::new(),
        })
    }

    /// Keeps so many calls in flight for a while.
    ///
    /// # Errors
    /// What the operating system says, and any answer that is an exception.
    pub fn run(&mut self, in_flight: usize, length: Duration) -> io::Result<Done> {
        let begin = Instant::now();
        let mut done = Done::default();
        let mut bytes = Vec::new();
        while begin.elapsed() < length || !self.in_flight.is_empty() {
            while self.in_flight.len() < in_flight && begin.elapsed() < length {
                self.begin(&mut bytes);
            }
            if !bytes.is_empty() {
                self.stream.write_all(&bytes)?;
                bytes.clear();
            }
            self.receive(&mut bytes, &mut done)?;
        }
        done.took = begin.elapsed();
        Ok(done)
    }

    fn file(&mut self) -> String {
        let (directory, file) = (self.random.below(self.directories), self.random.below(FILES_PER_DIRECTORY));
        format!("{}/{directory}/{file}", self.tree)
    }

    fn directory(&mut self) -> String {
        format!("{}/{}", self.tree, self.random.below(self.directories))
    }

    fn fresh(&mut self) -> String {
        self.number += 1;
        format!("{}/new/{}/{}", self.tree, self.number / FILES_PER_DIRECTORY, self.number)
    }

    fn begin(&mut self, bytes: &mut Vec<u8>) {
        let mut at = self.random.below(10_000);
        let chosen = WEIGHTS.iter().find(|(_, weight)| {
            let is_it = at < *weight;
            at = at.saturating_sub(*weight);
            is_it
        });
        let operation = chosen.map_or(Operation::Locate, |(operation, _)| *operation);
        let locate = |src| {
            (
                "getBlockLocations",
                GetBlockLocationsRequest { src, offset: 0, length: 1 << 30 }.encode_to_vec(),
            )
        };
        let list = |src| {
            let list = GetListingRequest { src, need_location: false, ..GetListingRequest::default() };
            ("getListing", list.encode_to_vec())
        };
        let mut after = After::Nothing;
        let (method, request) = match operation {
            Operation::Locate => locate(self.file()),
            Operation::StatFile => ("getFileInfo", GetFileInfoRequest { src: self.file() }.encode_to_vec()),
            Operation::StatDirectory => {
                ("getFileInfo", GetFileInfoRequest { src: self.directory() }.encode_to_vec())
            }
            Operation::ListDirectory => list(self.directory()),
            Operation::ListFile => list(self.file()),
            Operation::Create => {
                let path = self.fresh();
                after = After::Complete(path.clone());
                ("create", create(path).encode_to_vec())
            }
            Operation::Rename => match self.mine.pop_front() {
                Some(src) => {
                    let dst = format!("{src}-renamed");
                    after = After::Mine(dst.clone());
                    ("rename", RenameRequest { src, dst }.encode_to_vec())
                }
                None => locate(self.file()),
            },
            Operation::Delete => match self.mine.pop_front() {
                Some(src) => ("delete", DeleteRequest { src, recursive: false }.encode_to_vec()),
                None => locate(self.file()),
            },
            Operation::SetOwner => {
                let own = SetOwnerRequest {
                    src: self.file(),
                    username: Some("ann".to_owned()),
                    groupname: Some("staff".to_owned()),
                };
                ("setOwner", own.encode_to_vec())
            }
            Operation::SetReplication => {
                let set = SetReplicationRequest { src: self.file(), replication: 1 };
                ("setReplication", set.encode_to_vec())
            }
            Operation::SetPermission => {
                let set = SetPermissionRequest { src: self.file(), permission: FsPermission { perm: 0o644 } };
                ("setPermission", set.encode_to_vec())
            }
            Operation::Mkdirs => {
                let mkdirs = MkdirsRequest {
                    src: format!("{}-made", self.fresh()),
                    masked: FsPermission { perm: 0o755 },
                    create_parent: true,
                    unmasked: None,
                };
                ("mkdirs", mkdirs.encode_to_vec())
            }
        };
        self.send(bytes, method, &request, after);
    }

    fn send(&mut self, bytes: &mut Vec<u8>, method: &str, request: &[u8], after: After) {
        calls::append_call(bytes, CLIENT, self.call, CLIENT_PROTOCOL, method, request);
        self.in_flight.insert(self.call, after);
        self.call += 1;
    }

    /// Waits for one answer at least, and takes all that have come.
    fn receive(&mut self, bytes: &mut Vec<u8>, done: &mut Done) -> io::Result<()> {
        let mut piece = [0; 64 << 10];
        let len = self.stream.read(&mut piece)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.received.extend_from_slice(&piece[..len]);
        let mut used = 0;
        let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        let received = std::mem::take(&mut self.received);
        while let Some(frame) =
            frames::first_frame(&received[used..]).map_err(|error| wrong(error.to_string()))?
        {
            used += 4 + frame.len();
            let answer = calls::decode_answer(frame).map_err(|error| wrong(error.to_string()))?;
            answer.result.map_err(|(class, message)| wrong(format!("{class}: {message}")))?;
            done.calls += 1;
            match self.in_flight.remove(&answer.call) {
                Some(After::Complete(src)) => {
                    let complete = CompleteRequest {
                        src: src.clone(),
                        client_name: CLIENT_NAME.to_owned(),
                        ..CompleteRequest::default()
                    };
                    self.send(bytes, "complete", &complete.encode_to_vec(), After::Mine(src));
                    continue;
                }
                Some(After::Mine(path)) => self.mine.push_back(path),
                Some(After::Nothing) => {}
                None => return Err(wrong(format!("an answer to call {}", answer.call))),
            }
            done.operations += 1;
        }
        self.received = received[used..].to_vec();
        Ok(())
    }
}

fn create(src: String) -> CreateRequest {
    CreateRequest {
        src,
        masked: FsPermission { perm: 0o644 },
        client_name: CLIENT_NAME.to_owned(),
        create_flag: 1,
        create_parent: true,
        replication: 1,
        block_size: 128 << 20,
        ..CreateRequest::default()
    }
}
