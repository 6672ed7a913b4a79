//! A million blocks: reports in pages, a report that names less, and a lost datanode, in turns of bounded work.

use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{BlockId, CallId, InodeId, LogIndex, SessionId, Stamp, Term};
use ringfs_proto::limits::REPORT_PAGE_REPLICAS_MAX;
use ringfs_proto::meta::membership::{ReplicaChangeV1, ReplicaV1};
use ringfs_proto::meta::namespace::BlockRefV1;

use super::super::replication::FORGOTTEN_PER_TURN_MAX;
use super::cluster::*;
use crate::state::State;
use crate::wal::record::{AddBlockV1, ChangeV1, CompleteV1, CreateV1, RecordV1};

const BLOCKS: u64 = 1_000_000;
const BLOCKS_PER_FILE: u64 = 10_000;
const LENGTH: u64 = 10;
/// Bytes of memory that the block map may take for a block with three replicas.
const BYTES_PER_BLOCK_MAX: usize = 16;

fn nth(number: u64) -> BlockRefV1 {
    block(number, LENGTH)
}

/// A namespace of [`BLOCKS`] blocks, applied record by record.
fn namespace() -> State {
    let mut state = State::new("super", "supergroup");
    let mut effects = Vec::new();
    let mut index = 0;
    let mut apply = |change| {
        index += 1;
        let record = RecordV1 {
            index: LogIndex(index),
            term: Term(1),
            time_ms: index,
            session: SessionId([1; 16]),
            call: CallId(index),
            lowest_unanswered: CallId(index),
            user: "ann".to_owned(),
            groups: Vec::new(),
            is_privileged: true,
            change,
        };
        state.apply(&record, &mut effects).expect("applied");
        effects.clear();
    };
    for file in 0..BLOCKS / BLOCKS_PER_FILE {
        let inode = InodeId(file + 3);
        apply(ChangeV1::Create(CreateV1 {
            path: format!("/d/{file}"),
            mode: 0o644,
            unmasked_mode: 0o644,
            overwrite: false,
            create_parents: true,
            replication: 3,
            block_size: 1 << 20,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: 4096,
        }));
        let first = file * BLOCKS_PER_FILE + 1;
        for number in first..first + BLOCKS_PER_FILE {
            let previous = (number > first).then(|| nth(number - 1));
            let (block, stamp) = (BlockId(number), Stamp(number));
            apply(ChangeV1::AddBlock(AddBlockV1 {
                inode,
                previous,
                previous_crc: None,
                block,
                stamp,
                pipeline: Vec::new(),
            }));
        }
        let last = Some(nth(first + BLOCKS_PER_FILE - 1));
        apply(ChangeV1::Complete(CompleteV1 { inode, last, crc: None, tail: None }));
    }
    assert_eq!(state.counts().committed_blocks, BLOCKS);
    state
}

/// A full report of the blocks that `has` says, in as few pages as it takes.
fn report(cluster: &mut Cluster, node: &mut Node, has: impl Fn(u64) -> bool) {
    node.sequence += 1;
    let replicas: Vec<ReplicaV1> =
        (1..=BLOCKS).filter(|number| has(*number)).map(|number| finalized(nth(number))).collect();
    let pages = replicas.chunks(REPORT_PAGE_REPLICAS_MAX);
    let last = pages.len().saturating_sub(1);
    for (page, replicas) in pages.enumerate() {
        cluster.page(node, node.sequence, page as u32, page == last, replicas).expect("taken");
    }
}

/// Ticks, with heartbeats of `nodes`, until nothing is left to forget; no turn forgets more than it may.
fn forget(cluster: &mut Cluster, nodes: &[Node]) -> (u64, u64) {
    let (mut turns, mut all) = (0, 0);
    while cluster.core.blocks.leaving_count() > 0 {
        let before = cluster.core.metrics().forgotten();
        cluster.pass(100);
        nodes.iter().for_each(|node| drop(cluster.heartbeat(node).expect("heard")));
        let forgotten = cluster.core.metrics().forgotten() - before;
        assert!(forgotten <= FORGOTTEN_PER_TURN_MAX as u64, "{forgotten} in one turn");
        (turns, all) = (turns + 1, all + forgotten);
    }
    (turns, all)
}

#[test]
fn a_million_blocks_are_reported_compared_and_forgotten() {
    let begin = std::time::Instant::now();
    let mut cluster = Cluster::with_state(namespace(), config());
    println!("{BLOCKS} blocks applied after {:?}", begin.elapsed());
    assert_eq!(cluster.stats().missing_blocks, BLOCKS);
    let mut nodes: Vec<Node> = (1..=3).map(|number| cluster.register(number).expect("joined")).collect();
    for node in &mut nodes {
        let begin = std::time::Instant::now();
        report(&mut cluster, node, |_| true);
        println!("a report of {BLOCKS} replicas took {:?}", begin.elapsed());
        assert_eq!(cluster.stats().missing_blocks, 0);
    }
    let stats = cluster.stats();
    assert_eq!((stats.under_replicated_blocks, stats.excess_replicas, stats.safe_mode.as_str()), (0, 0, ""));
    let bytes = cluster.core.blocks.memory_bytes();
    println!("the block map takes {bytes} bytes");
    assert!(bytes <= BYTES_PER_BLOCK_MAX * BLOCKS as usize, "{bytes} bytes");

    // The same again changes nothing; one that names fewer takes turns.
    report(&mut cluster, &mut nodes[0], |_| true);
    assert_eq!((cluster.core.blocks.leaving_count(), cluster.core.metrics().forgotten()), (0, 0));
    report(&mut cluster, &mut nodes[0], |number| number > 300_000);
    assert_eq!(cluster.readers_go_to("/d/0"), [nodes[1].id, nodes[2].id], "they count no more at once");
    let (turns, forgotten) = forget(&mut cluster, &nodes);
    assert_eq!((turns, forgotten), (29, 290_000), "the first turn is that of the report");
    assert_eq!(cluster.stats().under_replicated_blocks, 300_000);
    report(&mut cluster, &mut nodes[0], |_| true);
    assert_eq!(cluster.stats().under_replicated_blocks, 0);

    // Increments, then a lost datanode.
    let deleted: Vec<ReplicaChangeV1> =
        (1..=1000).map(|number| ReplicaChangeV1::Deleted(nth(number))).collect();
    cluster.increment(&mut nodes[1], &deleted).expect("reported");
    assert_eq!(cluster.stats().under_replicated_blocks, 1000);
    for _ in 0..29 {
        cluster.pass(1000);
        nodes[..2].iter().for_each(|node| drop(cluster.heartbeat(node).expect("heard")));
    }
    cluster.pass(1000);
    assert_eq!(cluster.stats().datanodes_dead, 1);
    assert_eq!(cluster.readers_go_to("/d/5"), [nodes[0].id, nodes[1].id]);
    let (turns, forgotten) = forget(&mut cluster, &nodes[..2]);
    assert!(turns <= BLOCKS / FORGOTTEN_PER_TURN_MAX as u64 && forgotten <= BLOCKS);
    let stats = cluster.stats();
    assert_eq!((stats.under_replicated_blocks, stats.missing_blocks), (BLOCKS, 0));
    println!("all of it took {:?}", begin.elapsed());
}
