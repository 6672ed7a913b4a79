//! The state of a large cluster without the time that it takes to become one: records for a namenode's log, written by that
//! log, and the records of a datanode's journal that go with them.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringfs_datanode::format::journal::{Event, RECORD_BYTES, Record};
use ringfs_disk::{Disk, SystemDisk};
use ringfs_namenode::boot::{Booted, boot};
use ringfs_namenode::config::Config;
use ringfs_namenode::state::Applied;
use ringfs_namenode::wal::BatchBuilder;
use ringfs_namenode::wal::record::{
    AddBlockV1, ChangeV1, CompleteV1, CreateV1, DeleteV1, MkdirsV1, RecordV1, RenameV1,
};
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{BlockId, CallId, InodeId, LogIndex, SessionId, Stamp, StorageId, Term};
use ringfs_proto::meta::namespace::BlockRefV1;

/// Sessions that make changes.
const SESSIONS: u64 = 64;
/// Files of a directory.
const FILES_PER_DIRECTORY: u64 = 1000;
/// Length of the blocks.
const BLOCK_BYTES: u64 = 1000;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How much there is in the end.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Records of the log, together with those that are there.
    pub records: u64,
    /// Files with a block that are added: three records each. What is left goes to files without, which come and go.
    pub blocks: u64,
}

/// Writes to a stopped namenode and a stopped datanode.
#[derive(Debug)]
pub struct Generator {
    booted: Booted,
    batch: BatchBuilder,
    journal: PathBuf,
    storage: StorageId,
    replicas: Vec<Record>,
}

impl Generator {
    /// For a namenode of this configuration, and the journal of a volume.
    ///
    /// # Errors
    /// What the start of a namenode says.
    pub fn new(config: &Config, journal: &Path) -> Result<Self> {
        let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
        let booted = boot(&disk, config, 1).map_err(|error| error.to_string())?;
        let header = fs::read(journal)?;
        let storage =
            header.get(8..24).and_then(|id| id.try_into().ok()).ok_or("the journal has no header")?;
        Ok(Self {
            booted,
            batch: BatchBuilder::default(),
            journal: journal.to_owned(),
            storage: StorageId(storage),
            replicas: Vec::new(),
        })
    }

    /// Writes everything, and closes the directories.
    ///
    /// # Errors
    /// What the log or the journal say; a change that is refused.
    pub fn run(mut self, sizes: Sizes) -> Result<()> {
        for file in 0..sizes.blocks {
            self.directory_of("with", file)?;
            self.file_with_block(&format!("/with/{}/file-{file:09}", file / FILES_PER_DIRECTORY))?;
        }
        let mut file = 0;
        while self.booted.state.applied().0 < sizes.records {
            self.directory_of("without", file)?;
            self.empty_file(&format!("/without/{}", file / FILES_PER_DIRECTORY), file)?;
            file += 1;
        }
        self.write()?;
        self.write_journal()
    }

    fn directory_of(&mut self, name: &str, file: u64) -> Result<()> {
        if !file.is_multiple_of(FILES_PER_DIRECTORY) {
            return Ok(());
        }
        let path = format!("/{name}/{}", file / FILES_PER_DIRECTORY);
        self.apply(
            file,
            ChangeV1::Mkdirs(MkdirsV1 { path, mode: 0o755, unmasked_mode: 0o755, create_parents: true }),
        )
        .map(drop)
    }

    fn file_with_block(&mut self, path: &str) -> Result<()> {
        let (state, number) = (&self.booted.state, self.replicas.len() as u64);
        let (block, stamp) = (BlockId(state.last_block().0 + 1), Stamp(state.last_stamp().0 + 1));
        let inode = self.create(number, path)?;
        let pipeline = vec![self.storage];
        self.apply(
            number,
            ChangeV1::AddBlock(AddBlockV1 {
                inode,
                previous: None,
                previous_crc: None,
                block,
                stamp,
                pipeline,
            }),
        )?;
        let last = Some(BlockRefV1 { block, stamp, length: BLOCK_BYTES });
        self.apply(number, ChangeV1::Complete(CompleteV1 { inode, last, crc: None, tail: None }))?;
        self.replicas.push(Record { event: Event::Finalized, block, stamp, length: BLOCK_BYTES });
        Ok(())
    }

    /// A file that is made, closed and renamed; every other one is deleted.
    fn empty_file(&mut self, directory: &str, file: u64) -> Result<()> {
        let (source, target) = (format!("{directory}/part-{file:09}"), format!("{directory}/done-{file:09}"));
        let inode = self.create(file, &source)?;
        self.apply(file, ChangeV1::Complete(CompleteV1 { inode, last: None, crc: None, tail: None }))?;
        self.apply(file, ChangeV1::Rename(RenameV1 { source, target: target.clone(), overwrite: false }))?;
        if file.is_multiple_of(2) {
            self.apply(
                file,
                ChangeV1::Delete(DeleteV1 { path: target, recursive: false, is_subtree_permitted: true }),
            )?;
        }
        Ok(())
    }

    fn create(&mut self, number: u64, path: &str) -> Result<InodeId> {
        let change = CreateV1 {
            path: path.to_owned(),
            mode: 0o644,
            unmasked_mode: 0o644,
            overwrite: false,
            create_parents: false,
            replication: 1,
            block_size: 128 << 20,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: 4096,
        };
        match self.apply(number, ChangeV1::Create(change))? {
            Applied::Created(inode) => Ok(inode),
            other => Err(format!("create {path}: {other:?}").into()),
        }
    }

    /// Logs and applies a change of the session with this number.
    fn apply(&mut self, number: u64, change: ChangeV1) -> Result<Applied> {
        let index = self.booted.state.applied().0 + 1;
        let session = 1 + number % SESSIONS;
        let record = RecordV1 {
            index: LogIndex(index),
            term: Term(1),
            time_ms: self.booted.state.time_ms(),
            session: SessionId(u128::from(session).to_le_bytes()),
            call: CallId(index),
            lowest_unanswered: CallId(index),
            user: "someone".to_owned(),
            groups: Vec::new(),
            is_privileged: true,
            change,
        };
        self.batch.push(&record);
        let applied = self.booted.state.apply(&record, &mut Vec::new())?;
        if self.batch.is_full() {
            self.write()?;
        }
        Ok(applied)
    }

    fn write(&mut self) -> Result<()> {
        if !self.batch.is_empty() {
            self.booted.log.append(&mut self.batch).map_err(|error| error.chain())?;
            self.booted.log.acknowledged(self.booted.log.last());
        }
        self.booted.log.idle();
        Ok(())
    }

    fn write_journal(&self) -> Result<()> {
        let mut bytes = fs::read(&self.journal)?;
        let records = bytes.len() / RECORD_BYTES - 1;
        bytes.truncate((records + 1) * RECORD_BYTES);
        for (record, sequence) in self.replicas.iter().zip(records as u64 + 1..) {
            bytes.extend(record.encode(self.storage, sequence));
        }
        fs::write(&self.journal, bytes)?;
        Ok(())
    }
}
