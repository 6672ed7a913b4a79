//! A datanode that is started with a million replicas in its journal: how long it takes, how much memory, and the full report
//! in pages. The journal is made by a generator; there are no block files.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ringfs_datanode::Config;
use ringfs_datanode::format::journal::{Event, Record, encode_header};
use ringfs_datanode::link::Identity;
use ringfs_datanode::link::session::{Session, Step};
use ringfs_datanode::machine::SystemMachine;
use ringfs_datanode::node::Node;
use ringfs_datanode::store::{Store, VolumeSettings};
use ringfs_proto::capability::ClusterKey;
use ringfs_proto::frame::Header;
use ringfs_proto::hello::HelloReplyV1;
use ringfs_proto::ids::{
    BlockId, ClusterId, DatanodeId, RegistrationEpoch, ReportSequence, Stamp, StorageId,
};
use ringfs_proto::limits::{FRAME_HEADER_BYTES, META_BYTES_MAX_REPORT, REPORT_PAGE_REPLICAS_MAX};
use ringfs_proto::meta::membership::{
    BlockReportRequestV1, HeartbeatReplyV1, RegisterReplyV1, RegisterRequestV1, ReplicaState, ReportReplyV1,
};
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;

const REPLICAS: u64 = 1_000_000;
/// One of so many blocks that were written was deleted again.
const DELETED_OF: u64 = 5;
/// Memory that the datanode keeps for a replica.
const KEPT_BYTES_PER_REPLICA_MAX: usize = 192;
/// Memory that a start takes besides, for a replica, until it has read the journal.
const LOADING_BYTES_PER_REPLICA_MAX: usize = 64;
/// Memory that a full report takes, for a replica, until it is sent.
const REPORT_BYTES_PER_REPLICA_MAX: usize = 48;
const CLUSTER: ClusterId = ClusterId([1; 16]);
const NAMENODE_NONCE: [u8; 16] = [3; 16];

/// Counts the bytes in use, and asks the system.
struct Counting;

static USED: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

fn count(bytes: usize) {
    let used = USED.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST.fetch_max(used, Ordering::Relaxed);
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        USED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes in use, from which on [`most`] counts anew.
fn used() -> usize {
    let used = USED.load(Ordering::Relaxed);
    MOST.store(used, Ordering::Relaxed);
    used
}

/// The most bytes that were in use since [`used`].
fn most() -> usize {
    MOST.load(Ordering::Relaxed)
}

fn key() -> ClusterKey {
    ClusterKey::new(1, [7; 32])
}

/// A journal in which replicas were written, finalized and now and then deleted; [`REPLICAS`] are left.
fn write_journal(path: &Path, storage: StorageId) -> u64 {
    let mut file = BufWriter::new(File::create(path).expect("made"));
    file.write_all(&encode_header(storage)).expect("written");
    let (mut records, mut left, mut block) = (0, 0, 0);
    let mut append = |event, block, length| {
        records += 1;
        let record = Record { event, block: BlockId(block), stamp: Stamp(block), length };
        file.write_all(&record.encode(storage, records)).expect("written");
    };
    while left < REPLICAS {
        block += 1;
        append(Event::BeingWritten, block, 128 << 20);
        append(Event::Finalized, block, 1000 + block);
        if block % DELETED_OF == 0 {
            append(Event::Deleted, block, 0);
        } else {
            left += 1;
        }
    }
    file.flush().expect("written");
    records
}

fn open(path: &Path) -> Store {
    Store::open(Arc::new(SystemMachine), &[VolumeSettings::new(path)], CLUSTER).expect("opened")
}

/// A namenode that answers everything, and checks the pages of the one storage.
#[derive(Debug, Default)]
struct Namenode {
    pages: u32,
    sequence: Option<ReportSequence>,
    last: BlockId,
    replicas: u64,
    is_whole: bool,
}

impl Namenode {
    fn answer(&mut self, frame: &[u8]) -> (Header, Vec<u8>) {
        let head = frame[..FRAME_HEADER_BYTES].try_into().expect("a header");
        let header = Header::decode(&head, META_BYTES_MAX_REPORT).expect("a frame within the limits");
        let meta = &frame[FRAME_HEADER_BYTES..];
        let mut out = Vec::new();
        match header.op {
            Op::Register => {
                let request = RegisterRequestV1::decode(meta).expect("a registration");
                let proof = key().prove("accept", &request.nonce, &request.datanode.0);
                let (epoch, last_stamp) = (RegistrationEpoch(9), Stamp(0));
                RegisterReplyV1 { epoch, proof, clock_s: 1, last_stamp, heartbeat_interval_ms: 1000 }
                    .encode_into(&mut out);
            }
            Op::Heartbeat => HeartbeatReplyV1 { clock_s: 1, commands: Vec::new() }.encode_into(&mut out),
            _ => {
                let sequence = self.page(&BlockReportRequestV1::decode(meta).expect("a page"));
                ReportReplyV1 { sequence, has_commands: false }.encode_into(&mut out);
            }
        }
        (header.reply(), out)
    }

    fn page(&mut self, page: &BlockReportRequestV1) -> ReportSequence {
        assert_eq!(page.page, self.pages, "pages follow each other");
        assert_eq!(*self.sequence.get_or_insert(page.sequence), page.sequence, "all are of one report");
        assert!(page.replicas.len() <= REPORT_PAGE_REPLICAS_MAX);
        for replica in &page.replicas {
            let block = replica.block;
            assert!(block.block > self.last, "by block");
            assert_eq!((block.stamp.0, block.length), (block.block.0, 1000 + block.block.0));
            assert!(block.block.0 % DELETED_OF != 0, "block {} was deleted", block.block);
            assert_eq!(replica.state, ReplicaState::Finalized);
            self.last = block.block;
        }
        self.pages += 1;
        self.replicas += page.replicas.len() as u64;
        assert!(!self.is_whole, "nothing follows the last page");
        self.is_whole = page.is_last;
        page.sequence
    }
}

/// Joins, and sends the full report. Returns its sequence.
fn report(session: &mut Session) -> ReportSequence {
    let hello = session.connected();
    assert!(!hello.is_empty());
    let reply = HelloReplyV1 {
        code: 0,
        message: String::new(),
        version: 1,
        features: 0,
        cluster: CLUSTER,
        nonce: NAMENODE_NONCE,
    };
    session.welcomed(&reply).expect("welcome");
    let (now, mut frame, mut namenode) = (Duration::from_secs(5), Vec::new(), Namenode::default());
    while session.next(now, &mut frame).expect("a step") == Step::Call {
        let (header, meta) = namenode.answer(&frame);
        session.answered(now, &header, &meta).expect("taken");
    }
    assert!(namenode.is_whole && namenode.replicas == REPLICAS, "{namenode:?}");
    assert_eq!(u64::from(namenode.pages), REPLICAS.div_ceil(REPORT_PAGE_REPLICAS_MAX as u64));
    namenode.sequence.expect("a report")
}

#[test]
fn a_million_replicas_are_loaded_and_reported_within_bounds() {
    let temp = tempfile::tempdir().expect("temporary directory");
    let path = temp.path().join("volume");
    let storage = open(&path).volumes()[0].storage;
    let records = write_journal(&path.join("journal"), storage);
    let per_replica = |bytes: usize| bytes / REPLICAS as usize;

    let (before, begin) = (used(), Instant::now());
    let store = open(&path);
    let (loaded, kept) = (begin.elapsed(), USED.load(Ordering::Relaxed) - before);
    let loading = most() - before - kept;
    assert_eq!(store.volumes()[0].replicas, REPLICAS);
    println!(
        "{REPLICAS} replicas in {records} records: loaded in {loaded:.2?}, {} bytes kept and {} more taken for each",
        per_replica(kept),
        per_replica(loading)
    );
    assert!(per_replica(kept) <= KEPT_BYTES_PER_REPLICA_MAX, "{kept} bytes");
    assert!(per_replica(loading) <= LOADING_BYTES_PER_REPLICA_MAX, "{loading} bytes");

    let node = Node::new(DatanodeId([2; 16]), CLUSTER, key(), store, Config::default(), 1);
    let identity = Identity { namenode: "nn:1".to_owned(), host: String::new(), port: 1, http_port: 2 };
    let mut session = Session::new(Arc::new(node), identity);
    let (before, begin) = (used(), Instant::now());
    let first = report(&mut session);
    // A page as it is encoded, and as the namenode of this test has it, come on top.
    let taken = most() - before;
    println!("reported in {:.2?}, {} bytes taken for each", begin.elapsed(), per_replica(taken));
    assert!(per_replica(taken) <= REPORT_BYTES_PER_REPLICA_MAX, "{taken} bytes");
    assert!(report(&mut session) > first, "a new connection reports anew, under a later sequence");

    drop(session);
    let begin = Instant::now();
    assert_eq!(open(&path).volumes()[0].replicas, REPLICAS, "what a start writes anew is the same");
    println!("loaded again, without what was undone, in {:.2?}", begin.elapsed());
}
