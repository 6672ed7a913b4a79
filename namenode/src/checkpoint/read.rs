//! A namespace from a checkpoint file.

use std::path::Path;

use ringfs_disk::{Disk, OpenOptions};
use ringfs_proto::ids::ClusterId;

use super::format::{HEADER_BYTES, Header, SECTION_HEADER_BYTES, SectionHeader};
use super::{CheckpointError, io_error};
use crate::state::{Restorer, Section, SectionKind, State};

/// Reads and checks a checkpoint.
///
/// # Errors
/// `Damaged` with the offset, or what the operating system says. A length that is read is never believed before the bytes
/// are there.
pub fn load(disk: &dyn Disk, path: &Path, cluster: ClusterId) -> Result<State, CheckpointError> {
    let file = disk.open(path, OpenOptions::READ).map_err(io_error("open", path))?;
    let len = file.len().map_err(io_error("read", path))?;
    let damaged = |offset: u64, reason: &dyn std::fmt::Display| CheckpointError::Damaged {
        path: path.to_owned(),
        offset,
        reason: reason.to_string(),
    };
    let read = |bytes: &mut [u8], offset: u64| {
        if len - offset.min(len) < bytes.len() as u64 {
            return Err(damaged(len, &"the file ends here"));
        }
        file.read_exact_at(bytes, offset).map_err(io_error("read", path))
    };
    let mut bytes = [0; HEADER_BYTES];
    read(&mut bytes, 0)?;
    let header = Header::decode(&bytes, cluster).map_err(|error| damaged(0, &error))?;
    let seed = header.seed();
    let mut restorer = Restorer::default();
    let (mut offset, mut sections) = (HEADER_BYTES as u64, 0u64);
    let mut payload = Vec::new();
    loop {
        let mut bytes = [0; SECTION_HEADER_BYTES];
        read(&mut bytes, offset)?;
        let head = SectionHeader::decode(&bytes, seed).map_err(|error| damaged(offset, &error))?;
        let begin = offset + SECTION_HEADER_BYTES as u64;
        if u64::from(head.bytes) > len - begin {
            return Err(damaged(len, &"the file ends in a section"));
        }
        payload.resize(head.bytes as usize, 0);
        read(&mut payload, begin)?;
        if !head.fits(&payload, seed) {
            return Err(damaged(begin, &format!("checksum mismatch in a section of {:?}", head.kind)));
        }
        let end = begin + u64::from(head.bytes);
        if head.kind == SectionKind::End {
            if payload != sections.to_le_bytes() || end != len {
                return Err(damaged(
                    offset,
                    &format!("the end comes after {sections} sections, at {end} of {len} bytes"),
                ));
            }
            break;
        }
        let section = Section { kind: head.kind, items: head.items, payload };
        restorer.section(&section).map_err(|error| damaged(begin, &error))?;
        (payload, offset, sections) = (section.payload, end, sections + 1);
    }
    let state = restorer.finish().map_err(|error| damaged(offset, &error))?;
    if state.applied() != header.index {
        return Err(damaged(
            0,
            &format!("it holds record {}, its header says {}", state.applied(), header.index),
        ));
    }
    Ok(state)
}
