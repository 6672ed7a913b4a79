//! The namenode's checkpoints: a file as it is, and one whose sections come from the input, with checksums that are right.

use std::path::Path;

use ringfs_disk::{Create, Disk, OpenOptions, SimulatedDisk};
use ringfs_namenode::checkpoint::format::{HEADER_BYTES, Header, SectionHeader, end};
use ringfs_namenode::checkpoint::load;
use ringfs_namenode::state::{Section, SectionKind, State};
use ringfs_namenode::wal::record::{ChangeV1, DeleteV1, RecordV1};
use ringfs_proto::ids::{CallId, ClusterId, LogIndex, SessionId, Term};
use ringfs_proto::path::Components;

use crate::input::{Input, push_piece};
use crate::log::changes;

const CLUSTER: ClusterId = ClusterId([7; 16]);
const FILE: &str = "/nn/checkpoint";
/// Bytes that are kept of the last inode and the last block: maps by id are arrays, so that an id costs memory.
const ID_BYTES: usize = 3;
/// Sections of one input.
const SECTIONS_MAX: usize = 64;
/// Inodes that are copied in one turn, so that a copy takes several.
const INODES_PER_TURN: usize = 2;

/// A file of the input, and a file of its pieces.
pub fn checkpoints(data: &[u8]) {
    if let Some(state) = read(data) {
        go_on(state);
    }
    if let Some(state) = read(&sealed(Input(data))) {
        go_on(state);
    }
}

fn read(bytes: &[u8]) -> Option<State> {
    let disk = SimulatedDisk::new(1);
    let path = Path::new(FILE);
    disk.create_directories(path.parent()?).expect("a new disk");
    let file = disk.open(path, OpenOptions::WRITE.create(Create::New)).expect("a new disk");
    file.write_all_at(bytes, 0).expect("a new disk has room");
    load(&disk, path, CLUSTER).ok()
}

/// What was read is a namespace: it survives another checkpoint, and records can be applied to it.
fn go_on(mut state: State) {
    let again = read(&file(LogIndex(state.applied().0), sections(&mut state))).expect("its own checkpoint");
    assert_eq!(again.digest(), state.digest(), "what was read survives");
    let root = Components::parse("/").expect("a path");
    let entries = state.list(&root, "", 1000).expect("there is a root").entries;
    let delete = |name: String| {
        ChangeV1::Delete(DeleteV1 { path: format!("/{name}"), recursive: true, is_subtree_permitted: false })
    };
    let deletes = entries.into_iter().map(|entry| delete(entry.name));
    for change in changes().into_iter().chain(deletes.collect::<Vec<_>>()) {
        apply(&mut state, change);
    }
    let again = read(&file(LogIndex(state.applied().0), sections(&mut state))).expect("its own checkpoint");
    assert_eq!(again.digest(), state.digest(), "what has changed survives");
}

fn apply(state: &mut State, mut change: ChangeV1) {
    if let ChangeV1::AddBlock(change) = &mut change {
        // An id that was given out before is a defect of the log, not of a checkpoint.
        change.block.0 = state.last_block().0 + 1;
    }
    let index = LogIndex(state.applied().0 + 1);
    let record = RecordV1 {
        index,
        term: Term(1),
        time_ms: state.time_ms(),
        session: SessionId([5; 16]),
        call: CallId(index.0),
        lowest_unanswered: CallId(0),
        user: "ann".to_owned(),
        groups: Vec::new(),
        is_privileged: true,
        change,
    };
    let _refused = state.apply(&record, &mut Vec::new());
}

fn sections(state: &mut State) -> Vec<Section> {
    let (mut snapshot, rest) = state.begin_snapshot();
    let mut sections: Vec<Section> = rest.into_sections().collect();
    while !snapshot.is_done() {
        sections.extend(state.copy(&mut snapshot, INODES_PER_TURN).1);
    }
    state.end_snapshot();
    sections
}

fn file(index: LogIndex, sections: Vec<Section>) -> Vec<u8> {
    let header = Header { cluster: CLUSTER, index };
    let seed = header.seed();
    let count = sections.len() as u64;
    let mut bytes = header.encode().to_vec();
    for section in sections.into_iter().chain([end(count)]) {
        bytes.extend(SectionHeader::of(&section, seed).encode(seed));
        bytes.extend(section.payload);
    }
    bytes
}

/// Kind, items and payload of each section; the last record is what the totals say.
fn sealed(mut input: Input<'_>) -> Vec<u8> {
    let mut sections = Vec::new();
    while !input.is_empty() && sections.len() < SECTIONS_MAX {
        let (kind, items) = (u32::from(input.byte() % 8), u32::from(input.u16()));
        let mut payload = input.piece().to_vec();
        let Some(kind) = SectionKind::from_u32(kind) else { continue };
        if kind == SectionKind::Totals {
            for id in [16..24, 24..32] {
                let id = payload.get_mut(id).unwrap_or_default();
                id.iter_mut().skip(ID_BYTES).for_each(|byte| *byte = 0);
            }
        }
        sections.push(Section { kind, items, payload });
    }
    let first = sections.first().and_then(|section| section.payload.first_chunk());
    file(LogIndex(first.map_or(0, |index| u64::from_le_bytes(*index))), sections)
}

/// Namespaces after more and more records, each as a file and as pieces.
pub fn checkpoint_seeds() -> Vec<Vec<u8>> {
    let mut state = State::new("super", "supergroup");
    let mut seeds = vec![Header { cluster: CLUSTER, index: LogIndex(3) }.encode()[..HEADER_BYTES].to_vec()];
    let all = changes();
    let steps = [0, 1, 2, 3, 6, all.len()];
    for pair in steps.windows(2).map(|pair| &all[pair[0]..pair[1]]).chain([&all[..4], &all[..2]]) {
        pair.iter().for_each(|change| apply(&mut state, change.clone()));
        let sections = sections(&mut state);
        let mut pieces = Vec::new();
        for section in &sections {
            pieces.push(section.kind as u8);
            pieces.extend((section.items as u16).to_le_bytes());
            push_piece(&mut pieces, &section.payload);
        }
        seeds.push(pieces);
        seeds.push(file(state.applied(), sections));
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_a_namespace() {
        for seed in checkpoint_seeds().iter().skip(1) {
            assert!(read(seed).is_some() || read(&sealed(Input(seed))).is_some());
        }
    }
}
