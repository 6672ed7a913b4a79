//! Writing allocates nothing per packet once it is warm: client, namenode and datanode in one process, every allocation
//! counted. On the threads engine: glommio allocates at each wait for a socket (docs/decisions/0004), which drowns ours.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use ringfs_sdk::{Client, CreateOptions};
use ringfs_tests::wait;

/// Counts, then asks the system.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const GIB: u64 = 1 << 30;
const PIECE_BYTES: usize = 4 << 20;
const PACKET_BYTES: u64 = 512 << 10;

#[test]
fn a_gib_is_written_without_an_allocation_per_packet() {
    let temp = tempfile::tempdir().expect("temporary directory");
    let namenode_config = ringfs_namenode::Config {
        wal_dirs: vec![temp.path().join("wal")],
        port: 0,
        replication: 1,
        // Calls of datanodes allocate; they are not what is measured here.
        heartbeat_interval_ms: 2000,
        ..ringfs_namenode::Config::default()
    };
    ringfs_namenode::format(&namenode_config).expect("formatted");
    let namenode = ringfs_namenode::start(&namenode_config).expect("started");
    let join_file = temp.path().join("join.toml");
    let mut cluster = ringfs_namenode::directory::read_cluster_file(&temp.path().join("wal")).expect("read");
    cluster.namenode = Some(namenode.address().to_string());
    std::fs::write(&join_file, cluster.render()).expect("written");
    let datanode_config = ringfs_datanode::Config {
        join_file,
        volumes: vec![temp.path().join("volume").into()],
        port: 0,
        shards: 2,
        engine: ringfs_datanode::config::EngineChoice::Threads,
        ..ringfs_datanode::Config::default()
    };
    let datanode = ringfs_datanode::start(&datanode_config).expect("started");
    let client = Client::connect(&format!("ringfs://{}", namenode.address())).expect("a client");
    wait::until_true("the datanode has joined", || {
        client.fs_stats().is_ok_and(|stats| stats.datanodes_live == 1)
    });

    let options = CreateOptions { replication: 1, block_size: 2 * GIB, ..CreateOptions::default() };
    let mut writer = client.create_with("/f", &options).expect("created");
    let piece = vec![7; PIECE_BYTES];
    let mut write = |bytes: u64| {
        for _ in 0..bytes / PIECE_BYTES as u64 {
            writer.write_all(&piece).expect("written");
        }
        writer.hflush().expect("flushed");
    };
    write(GIB / 8);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    write(GIB);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let packets = GIB / PACKET_BYTES;
    // What is left is not per packet: heartbeats, ticks, the growth of the file.
    assert!(
        allocations < packets / 4,
        "{allocations} allocations for {packets} packets on {}",
        datanode.engine()
    );
    writer.close().expect("closed");
    datanode.stop();
    namenode.stop();
}
