//! Checkpoints on a real directory.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ringfs_disk::{Disk, SystemDisk};
use ringfs_proto::checksum::crc32;
use ringfs_proto::ids::{CallId, ClusterId, LogIndex, SessionId, Term};

use super::format::{Header, SectionHeader};
use super::*;
use crate::state::{Section, SectionKind, State};
use crate::wal::record::{ChangeV1, MkdirsV1, RecordV1};

const CLUSTER: ClusterId = ClusterId([0xab; 16]);

fn state(directories: u64) -> State {
    let mut state = State::new("super", "supergroup");
    for index in 1..=directories {
        let path = format!("/d{index}");
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
            change: ChangeV1::Mkdirs(MkdirsV1 {
                path,
                mode: 0o755,
                unmasked_mode: 0o755,
                create_parents: false,
            }),
        };
        state.apply(&record, &mut Vec::new()).expect("made");
    }
    state
}

fn write(state: &mut State, directories: &[&Path]) -> Done {
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let directories = directories.iter().map(|path| path.to_path_buf()).collect();
    let beside = Beside { directories, ..Beside::default() };
    let (mut snapshot, rest) = state.begin_snapshot();
    let header = Header { cluster: CLUSTER, index: snapshot.index() };
    let mut run = Run::begin(disk, Kind::Ordinary, beside, header).expect("begun");
    rest.into_sections().try_for_each(|section| run.section(&section)).expect("written");
    while !snapshot.is_done() {
        if let Some(section) = state.copy(&mut snapshot, 100).1 {
            run.section(&section).expect("written");
        }
    }
    state.end_snapshot();
    run.finish()
}

#[test]
fn a_checkpoint_is_read_back_and_the_two_newest_are_kept() {
    let temp = tempfile::tempdir().expect("temporary directory");
    for count in [3, 5, 9, 9] {
        let mut state = state(count);
        let written = write(&mut state, &[temp.path()]).result.expect("written");
        let file = path(temp.path(), LogIndex(count));
        assert_eq!((written.index.0, written.bytes), (count, fs::metadata(&file).expect("there").len()));
        let loaded = load(&SystemDisk, &file, CLUSTER).expect("loaded");
        assert_eq!(loaded.digest(), state.digest());
    }
    assert_eq!(list(&SystemDisk, temp.path()).expect("listed"), [LogIndex(5), LogIndex(9)]);
    assert!(!temp.path().join(PART).exists());
}

#[test]
fn damage_anywhere_is_found_with_its_offset() {
    let temp = tempfile::tempdir().expect("temporary directory");
    write(&mut state(40), &[temp.path()]).result.expect("written");
    let file = path(temp.path(), LogIndex(40));
    let whole = fs::read(&file).expect("read");
    let load = || load(&SystemDisk, &file, CLUSTER);
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        fs::write(&file, &damaged).expect("written");
        assert!(
            matches!(load(), Err(CheckpointError::Damaged { offset, .. }) if offset <= at as u64),
            "flip at {at}"
        );
        fs::write(&file, &whole[..at]).expect("written");
        assert!(matches!(load(), Err(CheckpointError::Damaged { .. })), "cut at {at}");
    }
    fs::write(&file, [&whole[..], &[0]].concat()).expect("written");
    assert!(matches!(load(), Err(CheckpointError::Damaged { .. })), "longer than it says");
    fs::write(&file, &whole).expect("written");
    assert!(load().is_ok());
    let other = super::load(&SystemDisk, &file, ClusterId([1; 16]));
    assert!(matches!(other, Err(CheckpointError::Damaged { offset: 0, .. })));
}

#[test]
fn a_directory_that_fails_is_left_out_and_reported() {
    let temp = tempfile::tempdir().expect("temporary directory");
    let (good, bad) = (temp.path().join("good"), temp.path().join("missing"));
    fs::create_dir(&good).expect("made");
    let done = write(&mut state(3), &[&bad, &good]);
    assert_eq!(done.result.expect("written").directory, good);
    assert_eq!(done.failed.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>(), [bad]);
}

#[test]
fn a_backup_goes_into_an_empty_directory_only() {
    let temp = tempfile::tempdir().expect("temporary directory");
    fs::write(temp.path().join("mine"), "x").expect("written");
    let formatted = [temp.path().join("nn")];
    crate::directory::format(&SystemDisk, &formatted, "ann", "staff").expect("formatted");
    let identity =
        crate::directory::Directories::open(&SystemDisk, &formatted).expect("opened").identity.clone();
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk);
    let kind = Kind::Backup(temp.path().to_owned(), Box::new(identity));
    let header = Header { cluster: CLUSTER, index: LogIndex(1) };
    let refused = Run::begin(disk, kind, Beside::default(), header);
    assert!(matches!(refused, Err(CheckpointError::Target { .. })));
}

#[test]
fn headers_have_these_bytes() {
    let header = Header { cluster: CLUSTER, index: LogIndex(9) };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(
        hex(&header.encode()),
        concat!("5246534301000000", "abababababababababababababababab", "0900000000000000", "5c3c9511")
    );
    let section = Section { kind: SectionKind::Inodes, items: 2, payload: b"payload".to_vec() };
    let seed = header.seed();
    assert_eq!(
        hex(&SectionHeader::of(&section, seed).encode(seed)),
        concat!("050000000200000007000000", "9ab6a2243869da2d")
    );
}

/// The whole file of a small namespace, as it lands on disk. A change of any field's place shows here.
#[test]
fn a_checkpoint_has_these_bytes() {
    let temp = tempfile::tempdir().expect("temporary directory");
    write(&mut state(2), &[temp.path()]).result.expect("written");
    let bytes = fs::read(path(temp.path(), LogIndex(2))).expect("read");
    assert_eq!((bytes.len(), crc32(&bytes)), (548, 2_547_692_693));
}
