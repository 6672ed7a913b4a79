//! Snapshots that are taken while records are applied, and namespaces made from them.

use ringfs_proto::meta::changes::CommitStepV1;

use ringfs_proto::meta::attributes::XattrV1;

use super::*;

/// One record of a random run.
#[derive(Debug, Clone)]
enum Act {
    Create(String, bool),
    Mkdirs(String),
    Delete(String),
    Rename(String, String),
    AddBlock(u8),
    Abandon(u8),
    Complete(u8),
    NewStamp(u8),
    UpdatePipeline(u8),
    FenceWriter(u8),
    CloseFile(u8),
    SetReplication(String, u16),
    Append(String, bool),
    Concat(String, Vec<String>),
    Truncate(String, u8),
    EndTruncate(u8),
    Put(String, u8),
    CompleteWithTail(u8, bool),
    MoveValues(u8),
    Free,
    Commit(Vec<CommitStepV1>),
    SetPermission(String, u16),
    SetOwner(String, bool),
    SetTimes(String, u8),
    Touch(u8),
    ChangeAcl(String, u8),
    SetXattr(String, u8),
    RemoveXattr(String, u8),
    SetStoragePolicy(String, bool),
    /// The call before once more.
    Repeat,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (paths(), any::<bool>()).prop_map(|(path, overwrite)| Act::Create(path, overwrite)),
        1 => paths().prop_map(Act::Mkdirs),
        1 => paths().prop_map(Act::Delete),
        2 => (paths(), paths()).prop_map(|(source, target)| Act::Rename(source, target)),
        6 => any::<u8>().prop_map(Act::AddBlock),
        1 => any::<u8>().prop_map(Act::Abandon),
        2 => any::<u8>().prop_map(Act::Complete),
        2 => any::<u8>().prop_map(Act::NewStamp),
        2 => any::<u8>().prop_map(Act::UpdatePipeline),
        1 => any::<u8>().prop_map(Act::FenceWriter),
        1 => any::<u8>().prop_map(Act::CloseFile),
        1 => (paths(), 1u16..5).prop_map(|(path, replication)| Act::SetReplication(path, replication)),
        2 => (paths(), any::<bool>()).prop_map(|(path, new_block)| Act::Append(path, new_block)),
        1 => (paths(), prop::collection::vec(paths(), 1..3)).prop_map(|(path, others)| Act::Concat(path, others)),
        2 => (paths(), any::<u8>()).prop_map(|(path, part)| Act::Truncate(path, part)),
        1 => any::<u8>().prop_map(Act::EndTruncate),
        4 => (paths(), any::<u8>()).prop_map(|(path, len)| Act::Put(path, len)),
        3 => (any::<u8>(), any::<bool>()).prop_map(|(choice, replaces)| Act::CompleteWithTail(choice, replaces)),
        2 => any::<u8>().prop_map(Act::MoveValues),
        1 => Just(Act::Free),
        2 => commits::steps().prop_map(Act::Commit),
        1 => (paths(), 0u16..0o2000).prop_map(|(path, mode)| Act::SetPermission(path, mode)),
        1 => (paths(), any::<bool>()).prop_map(|(path, is_group)| Act::SetOwner(path, is_group)),
        1 => (paths(), any::<u8>()).prop_map(|(path, time)| Act::SetTimes(path, time)),
        1 => (2u8..9).prop_map(Act::Touch),
        3 => (paths(), any::<u8>()).prop_map(|(path, what)| Act::ChangeAcl(path, what)),
        2 => (paths(), any::<u8>()).prop_map(|(path, name)| Act::SetXattr(path, name)),
        1 => (paths(), any::<u8>()).prop_map(|(path, name)| Act::RemoveXattr(path, name)),
        1 => (paths(), any::<bool>()).prop_map(|(path, is_set)| Act::SetStoragePolicy(path, is_set)),
        1 => Just(Act::Repeat),
    ];
    prop::collection::vec(act, 1..120)
}

/// An open file that `choice` picks, with its last block as its writer would name it.
fn picked(state: &State, choice: u8) -> Option<(InodeId, SessionId, Option<BlockRefV1>)> {
    let open: Vec<_> = (1..=state.last_inode.0)
        .map(InodeId)
        .filter_map(|inode| Some((inode, state.file(inode).ok()?.session?)))
        .collect();
    let (inode, session) = *open.get(usize::from(choice) % open.len().max(1))?;
    let last = state.last_block_of(&state.file(inode).expect("a file"));
    let last =
        last.map(|view| BlockRefV1 { length: view.block.length.max(u64::from(choice) + 1), ..view.block });
    Some((inode, session, last))
}

/// What datanodes say of a block, or nothing.
fn crc_of(choice: u8) -> Option<u32> {
    (!choice.is_multiple_of(4)).then(|| u32::from(choice).wrapping_mul(0x0765_4321))
}

/// Some bytes behind the records of a batch.
fn value(len: u8) -> ValueV1 {
    ValueV1 { at: u32::from(len) * 3, len: u32::from(len), crc: u32::from(len) * 77 }
}

/// Some values of a segment that are written again, among them one that is not there.
fn move_values(state: &State, choice: u8) -> Option<ChangeV1> {
    let segments: Vec<_> = state.values().by_segment.keys().copied().collect();
    let segment = *segments.get(usize::from(choice) % segments.len().max(1))?;
    let places = (1..=state.last_block().0).filter_map(|id| Some((BlockId(id), state.value(BlockId(id))?)));
    let there = places.filter(|(_, place)| place.segment == segment);
    let moved =
        there.filter(|(id, _)| !(id.0 + u64::from(choice)).is_multiple_of(3)).map(|(block, place)| {
            let value = ValueV1 { at: block.0 as u32 * 300, len: place.len, crc: place.crc };
            MovedV1 { block, offset: place.offset, value }
        });
    let gone = MovedV1 { block: BlockId(1), offset: 7, value: value(9) };
    Some(ChangeV1::MoveValues(MoveValuesV1 { segment, moved: moved.chain([gone]).collect() }))
}

fn last_of(state: &State, path: &str) -> Option<BlockRefV1> {
    let inode = state.stat(&Components::parse(path).expect("valid")).ok()?.inode;
    Some(state.last_block_of(&state.file(inode).ok()?)?.block)
}

fn act(driver: &mut Driver, act: &Act, sessions: u64) {
    let index = driver.state.applied().0 + 1;
    let mut session = SessionId([(index % sessions) as u8 + 1; 16]);
    let mut call = CallId(index);
    let (block, stamp) = (BlockId(driver.state.last_block().0 + 1), Stamp(driver.state.last_stamp().0 + 1));
    let mut of_writer = |choice, change: &dyn Fn(InodeId, Option<BlockRefV1>) -> ChangeV1| {
        let (inode, writer, last) = picked(&driver.state, choice)?;
        session = writer;
        Some(change(inode, last))
    };
    let change = match act {
        Act::Create(path, overwrite) => Some(create(path, *overwrite)),
        Act::Mkdirs(path) => Some(mkdirs(path)),
        Act::Delete(path) => Some(delete(path, true)),
        Act::Rename(source, target) => Some(rename(source, target, true)),
        Act::AddBlock(choice) => of_writer(*choice, &|inode, previous| {
            ChangeV1::AddBlock(AddBlockV1 {
                inode,
                previous,
                previous_crc: crc_of(*choice),
                block,
                stamp,
                pipeline: Vec::new(),
            })
        }),
        Act::Abandon(choice) => of_writer(*choice, &|inode, last| {
            let block = last.map_or(BlockId(1), |last| last.block);
            ChangeV1::AbandonBlock(AbandonBlockV1 { inode, block })
        }),
        Act::Complete(choice) => of_writer(*choice, &|inode, last| {
            ChangeV1::Complete(CompleteV1 { inode, last, crc: crc_of(*choice), tail: None })
        }),
        Act::NewStamp(choice) => of_writer(*choice, &|inode, last| {
            let block = last.unwrap_or(BlockRefV1 { block, stamp, length: 0 });
            ChangeV1::NewStamp(NewStampV1 { inode, block, stamp })
        }),
        Act::UpdatePipeline(choice) => of_writer(*choice, &|inode, last| {
            let old = last.unwrap_or(BlockRefV1 { block, stamp, length: 0 });
            let stamp = driver.state.last_stamp();
            let pipeline = vec![ringfs_proto::ids::StorageId([*choice; 16])];
            ChangeV1::UpdatePipeline(UpdatePipelineV1 { inode, old, stamp, pipeline })
        }),
        Act::FenceWriter(choice) => of_writer(*choice, &|inode, last| {
            let block = last.map_or(block, |last| last.block);
            ChangeV1::FenceWriter(FenceWriterV1 { inode, block, stamp })
        }),
        Act::CloseFile(choice) => of_writer(*choice, &|inode, last| {
            let open = driver.state.leases.get(inode).expect("it was picked among the open ones");
            let (holder, recovery_stamp) = (open.session, open.recovery_stamp);
            let end = match (last, recovery_stamp) {
                (Some(last), Some(stamp)) => FileEndV1::Commit(BlockRefV1 { stamp, ..last }),
                _ => FileEndV1::AsIs,
            };
            ChangeV1::CloseFile(CloseFileV1 { inode, holder, recovery_stamp, end, crc: crc_of(*choice) })
        }),
        Act::SetReplication(path, replication) => {
            Some(ChangeV1::SetReplication(SetReplicationV1 { path: path.clone(), replication: *replication }))
        }
        Act::Append(path, new_block) => {
            let reopened = last_of(&driver.state, path).filter(|_| !new_block);
            let pipeline = vec![ringfs_proto::ids::StorageId([1; 16])];
            Some(ChangeV1::Append(AppendV1 { path: path.clone(), reopened, pipeline }))
        }
        Act::Concat(path, others) => {
            Some(ChangeV1::Concat(ConcatV1 { target: path.clone(), sources: others.clone() }))
        }
        Act::Truncate(path, part) => {
            let status = driver.status(path);
            let length = status.map_or(0, |status| status.length * u64::from(*part) / 255);
            Some(driver.truncation(path, length))
        }
        Act::Commit(steps) => Some(ChangeV1::Commit(CommitV1 { steps: steps.clone() })),
        Act::Free => Some(ChangeV1::Free),
        Act::Put(path, len) => {
            let ChangeV1::Create(file) = create(path, len % 2 == 0) else { return };
            Some(ChangeV1::Put(PutV1 { file, block, value: (*len > 0).then(|| value(*len)) }))
        }
        Act::CompleteWithTail(choice, replaces_last) => of_writer(*choice, &|inode, last| {
            let tail = TailV1 { block, value: value(choice / 2 + 1), replaces_last: *replaces_last };
            ChangeV1::Complete(CompleteV1 { inode, last, crc: None, tail: Some(tail) })
        }),
        Act::MoveValues(choice) => move_values(&driver.state, *choice),
        Act::EndTruncate(choice) => {
            let all: Vec<_> = driver.state.truncations.iter().collect();
            let picked = all.get(usize::from(*choice) % all.len().max(1));
            picked.map(|(inode, truncation)| {
                ChangeV1::EndTruncate(EndTruncateV1 {
                    inode: *inode,
                    block: truncation.new.block,
                    crc: crc_of(*choice),
                })
            })
        }
        Act::SetPermission(..)
        | Act::SetOwner(..)
        | Act::SetTimes(..)
        | Act::Touch(..)
        | Act::ChangeAcl(..)
        | Act::SetXattr(..)
        | Act::RemoveXattr(..)
        | Act::SetStoragePolicy(..) => Some(of_attributes(act)),
        Act::Repeat => driver.records.last().map(|record| {
            (session, call) = (record.session, record.call);
            record.change.clone()
        }),
    };
    if let Some(change) = change {
        let _refused_or_not = driver.apply_as(session, call, change);
    }
}

/// The change of an act that is about what an inode carries.
fn of_attributes(act: &Act) -> ChangeV1 {
    let named = |number: &u8| format!("user.{}", number % 4);
    match act.clone() {
        Act::SetPermission(path, mode) => ChangeV1::SetPermission(SetPermissionV1 { path, mode }),
        Act::SetOwner(path, is_group) => {
            let name = |wanted| (is_group == wanted).then(|| "eve".to_owned());
            ChangeV1::SetOwner(SetOwnerV1 { path, owner: name(false), group: name(true) })
        }
        Act::SetTimes(path, time) => {
            let (mtime_ms, atime_ms) = (Some(u64::from(time)), Some(u64::from(time) * 1000));
            ChangeV1::SetTimes(SetTimesV1 { path, mtime_ms, atime_ms })
        }
        Act::Touch(inode) => ChangeV1::Touch(TouchV1 { inode: InodeId(u64::from(inode)) }),
        Act::ChangeAcl(path, what) => {
            ChangeV1::ChangeAcl(ChangeAclV1 { path, change: permissions::acl_change(what) })
        }
        Act::SetXattr(path, number) => {
            let xattr = XattrV1 { name: named(&number), value: vec![number; usize::from(number)] };
            ChangeV1::SetXattr(SetXattrV1 { path, xattr, flags: number % 3 + 1 })
        }
        Act::RemoveXattr(path, number) => ChangeV1::RemoveXattr(RemoveXattrV1 { path, name: named(&number) }),
        Act::SetStoragePolicy(path, is_set) => {
            ChangeV1::SetStoragePolicy(SetStoragePolicyV1 { path, policy: if is_set { 2 } else { 0 } })
        }
        other => panic!("{other:?} is about something else"),
    }
}

/// All sections of a snapshot, taken at once.
fn sections_of(state: &mut State) -> Vec<Section> {
    let (mut snapshot, rest) = state.begin_snapshot();
    let mut sections: Vec<Section> = rest.into_sections().collect();
    while !snapshot.is_done() {
        sections.extend(state.copy(&mut snapshot, 3).1);
    }
    state.end_snapshot();
    sections
}

fn restored(sections: &[Section]) -> Result<State, RestoreError> {
    let mut restorer = Restorer::default();
    sections.iter().try_for_each(|section| restorer.section(section))?;
    restorer.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Replay of everything, and of what follows a checkpoint that was copied in the middle of it, give the same.
    #[test]
    fn a_checkpoint_and_its_tail_are_the_whole_log(
        acts in acts(),
        begin in 0usize..120,
        pace in 1usize..4,
        every in 1usize..5,
        sessions in 1u64..4,
        steps_max in 1usize..6,
    ) {
        let mut driver = Driver::new();
        driver.state.detached.steps_max = steps_max;
        let begin = begin % acts.len();
        for step in &acts[..begin] {
            act(&mut driver, step, sessions);
        }
        let expected = driver.state.digest();
        let (mut snapshot, rest) = driver.state.begin_snapshot();
        let index = snapshot.index();
        let mut inodes = Vec::new();
        for (number, step) in acts[begin..].iter().enumerate() {
            act(&mut driver, step, sessions);
            if number % every == 0 && !snapshot.is_done() {
                let (looked_at, section) = driver.state.copy(&mut snapshot, pace);
                prop_assert!(looked_at <= pace);
                inodes.extend(section);
            }
        }
        while !snapshot.is_done() {
            inodes.extend(driver.state.copy(&mut snapshot, pace).1);
        }
        driver.state.end_snapshot();
        let mut sections: Vec<Section> = rest.into_sections().collect();
        sections.extend(inodes);
        let mut state = restored(&sections).expect("restored");
        state.detached.steps_max = steps_max;
        prop_assert_eq!(state.applied(), index);
        prop_assert_eq!(state.digest(), expected);
        for record in driver.records.iter().filter(|record| record.index > index) {
            state.set_values_at(values_at(record.index));
            let _refused_or_not = state.apply(record, &mut Vec::new());
        }
        prop_assert_eq!(state.digest(), driver.state.digest());
        let mut found = BTreeMap::new();
        walk(&state, "/", &mut found);
        let mut wanted = BTreeMap::new();
        walk(&driver.state, "/", &mut wanted);
        prop_assert_eq!(found, wanted);
        let again: Vec<Section> = sections_of(&mut state);
        prop_assert_eq!(restored(&again).expect("restored").digest(), driver.state.digest());
    }

    /// No bytes of a section make a panic; what is accepted can be walked and copied again.
    #[test]
    fn damaged_sections_are_refused_or_harmless(acts in acts(), flips in prop::collection::vec((any::<u16>(), any::<u8>()), 1..4)) {
        let mut driver = Driver::new();
        driver.state.detached.steps_max = 2;
        for step in &acts {
            act(&mut driver, step, 2);
        }
        let mut sections = sections_of(&mut driver.state);
        for (at, flip) in flips {
            let section = usize::from(at) % sections.len();
            let payload = &mut sections[section].payload;
            let at = usize::from(at) / 3 % payload.len();
            payload[at] ^= flip;
        }
        if let Ok(mut state) = restored(&sections) {
            let _digest = state.digest();
            assert!(!sections_of(&mut state).is_empty());
        }
    }
}

#[test]
fn retry_results_outlive_a_checkpoint() {
    let mut driver = Driver::new();
    let first = driver.apply_as(WRITER, CallId(5), create("/f", false));
    let other = SessionId([2; 16]);
    let refused = driver.apply_as(other, CallId(6), rename("/none", "/x", false));
    let mut state = restored(&sections_of(&mut driver.state)).expect("restored");
    assert_eq!(state.retry_result(WRITER, CallId(5)), Some(&first));
    assert_eq!(state.retry_result(other, CallId(6)), Some(&refused));
    let again = RecordV1 { index: LogIndex(3), ..driver.records[0].clone() };
    let again = RecordV1 { time_ms: 5000, ..again };
    assert_eq!(state.apply(&again, &mut Vec::new()), first, "carried out once");
}

#[test]
fn a_turn_looks_at_no_more_inodes_than_it_may() {
    let mut driver = Driver::new();
    for file in 0..30_000 {
        driver.create(&format!("/d{}/f{file}", file % 7)).expect("created");
    }
    let (mut snapshot, rest) = driver.state.begin_snapshot();
    let (mut turns, mut sections) = (0, rest.into_sections().collect::<Vec<_>>());
    while !snapshot.is_done() {
        driver.apply(delete(&format!("/d{}/f{}", turns % 7, turns), false)).expect("deleted");
        let (looked_at, section) = driver.state.copy(&mut snapshot, 1000);
        assert!(looked_at <= 1000, "{looked_at}");
        sections.extend(section);
        turns += 1;
    }
    driver.state.end_snapshot();
    assert!(turns >= 30 && snapshot.copied() == 30_008, "{turns} turns, {} copied", snapshot.copied());
    assert!(sections.iter().filter(|section| section.kind == SectionKind::Inodes).count() > 1);
    assert_eq!(restored(&sections).expect("restored").counts().files, 30_000);
}

#[test]
fn sections_that_do_not_fit_together_are_refused() {
    let mut driver = Driver::new();
    let inode = driver.create("/d/f").expect("created");
    driver.add_block(inode, None).expect("added");
    driver.create("/d/g").expect("created");
    let sections = sections_of(&mut driver.state);
    let refused = |sections: &[Section]| restored(sections).expect_err("refused").0;
    assert!(restored(&sections).is_ok());
    assert!(refused(&sections[1..]).contains("not with the totals"));
    assert!(refused(&sections[..sections.len() - 1]).contains("no root"));
    let twice: Vec<Section> = sections.iter().chain(sections.last()).cloned().collect();
    assert!(refused(&twice).contains("there twice"));
    let inodes = sections.len() - 1;
    // The parent of the second inode, "/d", becomes itself: a circle beside the root.
    let mut circle = sections.clone();
    let second = 48;
    assert_eq!(circle[inodes].payload[second..second + 8], 2u64.to_le_bytes());
    circle[inodes].payload[second + 8] = 2;
    assert!(refused(&circle).contains("in a circle"));
    for len in 0..sections[inodes].payload.len() {
        let mut cut = sections.clone();
        cut[inodes].payload.truncate(len);
        refused(&cut);
    }
}
