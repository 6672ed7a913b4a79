//! Too much of everything: connections that say nothing, users who ask without end, peers that stop in the middle.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use ringfs_proto::Code;
use ringfs_proto::meta::namespace::StatRequestV1;
use ringfs_proto::ops::Stat;
use ringfs_tests::cluster::{Cluster, Options, Server, file_options};
use ringfs_tests::data::Pattern;
use ringfs_tests::raw::Raw;
use ringfs_tests::wait;

const IDLE: usize = 10_000;
/// What an idle connection may cost a server, bytes of memory.
const IDLE_BYTES_MAX: u64 = 32 << 10;
/// Calls that one greedy connection sends before it reads an answer.
const BURST: usize = 200;
const GREEDY: usize = 8;

/// Lets this process have as many descriptors as it may. False when those are not enough for the test.
fn has_descriptors() -> bool {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("raised");
    let is_enough = hard > IDLE as u64 + 500;
    if !is_enough {
        println!("SKIPPED: {IDLE} connections need more than {hard} descriptors: ulimit -Hn");
    }
    is_enough
}

/// Opens many connections to a server that say hello and nothing more.
fn open_idle(server: &mut Server) -> Vec<Raw> {
    let address = server.address();
    let before = server.process().resident_bytes();
    let idle: Vec<Raw> = (0..IDLE).map(|_| Raw::greeted(address)).collect();
    let grown = server.process().resident_bytes().saturating_sub(before);
    assert!(grown < IDLE as u64 * IDLE_BYTES_MAX, "{grown} bytes for {IDLE} idle connections");
    idle
}

fn write_and_read(cluster: &Cluster, path: &str) {
    let client = cluster.client();
    let pattern = Pattern { seed: 1 };
    let mut writer = client.create_with(path, &file_options(1, 1 << 20)).expect("created");
    writer.write_all(&pattern.bytes(0, 3 << 20)).expect("written");
    writer.close().expect("closed");
    let mut bytes = vec![0; 3 << 20];
    client.open(path).expect("opened").read_at(0, &mut bytes).expect("read");
    pattern.check(0, &bytes);
}

/// This process has descriptors for one test of idle connections, not for two at once.
static DESCRIPTORS: Mutex<()> = Mutex::new(());

fn idle_connections_cost_little(engine: &'static str) {
    if !has_descriptors() {
        return;
    }
    let _all_of_them = DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner);
    let mut cluster = Cluster::start(&Options { engine, ..Options::default() });
    let idle = open_idle(&mut cluster.namenode);
    write_and_read(&cluster, "/beside/many/at/the/namenode");
    drop(idle);
    let idle = open_idle(&mut cluster.datanodes[0]);
    write_and_read(&cluster, "/beside/many/at/the/datanode");
    drop(idle);
    wait::until_true("the servers have let go of them", || {
        let mut servers = [&mut cluster.namenode, &mut cluster.datanodes[0]];
        servers.iter_mut().all(|server| server.process().descriptors() < IDLE / 10)
    });
}

#[test]
fn idle_connections_cost_little_on_glommio() {
    idle_connections_cost_little("glommio");
}

#[test]
fn idle_connections_cost_little_on_threads() {
    idle_connections_cost_little("threads");
}

/// Asks without end, many calls ahead of their answers; counts the answers, and how many of them say `Busy`.
fn be_greedy(cluster: &Cluster, stop: &AtomicBool, answered: &AtomicU64, busy: &AtomicU64) {
    let mut raw = Raw::greeted_as(cluster.namenode.address(), "greedy");
    let request = StatRequestV1 { path: "/".to_owned() };
    while !stop.load(Ordering::Relaxed) {
        let burst: Vec<u8> = (0..BURST).flat_map(|_| raw.request::<Stat>(&request)).collect();
        raw.stream.write_all(&burst).expect("sent");
        for _ in 0..BURST {
            let (header, _, _) = raw.receive().expect("an answer");
            assert!([None, Some(Code::Busy)].contains(&header.code), "{:?}", header.code);
            busy.fetch_add(u64::from(header.code.is_some()), Ordering::Relaxed);
            answered.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_greedy_user_is_told_to_come_back_and_others_are_served() {
    let namenode_toml = "calls_queued_per_user_max = 100\n".to_owned();
    let cluster = Cluster::start(&Options { namenode_toml, ..Options::default() });
    let (stop, answered, busy) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..GREEDY {
            scope.spawn(|| be_greedy(&cluster, &stop, &answered, &busy));
        }
        wait::until_true("the greedy user is told to come back", || busy.load(Ordering::Relaxed) > 1000);
        let before = answered.load(Ordering::Relaxed);
        for round in 0..20 {
            write_and_read(&cluster, &format!("/calm/{round}"));
        }
        let stats = cluster.client().fs_stats().expect("answered");
        assert_eq!(
            (stats.datanodes_live, stats.datanodes_stale),
            (1, 0),
            "heartbeats have a lane of their own"
        );
        wait::until_true("the greedy user is served too", || {
            answered.load(Ordering::Relaxed) > before + 1000
        });
        stop.store(true, Ordering::Relaxed);
    });
    assert!(cluster.namenode.metric("ringfs_namenode_calls_busy_total") >= 1000.0);
}

#[test]
fn a_peer_that_stops_in_the_middle_of_a_frame_is_cut_off() {
    let datanode_toml = "shards = 2\npeer_stall_ms = 1000\n".to_owned();
    let cluster = Cluster::start(&Options { datanode_toml, ..Options::default() });
    let mut stalled = Raw::greeted(cluster.datanodes[0].address());
    let mut idle = Raw::greeted(cluster.datanodes[0].address());
    let ping = ringfs_proto::meta::admin::PingV1 { echo: 7 };
    let frame = stalled.request::<ringfs_proto::ops::Ping>(&ping);
    stalled.stream.write_all(&frame[..frame.len() / 2]).expect("sent");
    assert!(stalled.is_closed(), "it was cut off");
    assert_eq!(idle.call::<ringfs_proto::ops::Ping>(&ping), Ok(ping), "silence between frames is no fault");
    write_and_read(&cluster, "/after");
}
