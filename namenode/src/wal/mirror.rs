//! Making directories of the log alike at a start: repairs of the first, copies to the others.
//!
//! A file that is copied comes under another name first and is put in place in one step, so that a crash leaves the old
//! file or the new one. What is overwritten in place did not verify before.

use std::io;
use std::path::Path;

use ringfs_proto::ids::LogIndex;

use ringfs_disk::{Create, Disk, DiskFile, OpenOptions};

use super::replay::Repair;
use super::values::crc_of;
use super::{WalError, collect, io_error, segment};

const PART: &str = "copy.part";
const COPY_BYTES: usize = 1 << 20;

/// Puts into `directory` what its mirrors have and it has not.
///
/// # Errors
/// What the operating system says: the directory cannot be used then.
pub fn repair(disk: &dyn Disk, directory: &Path, repairs: &[Repair]) -> Result<(), WalError> {
    for repair in repairs {
        match repair {
            Repair::Segment { source, first } => {
                let (source, target) = (segment::path(source, *first), segment::path(directory, *first));
                copy(disk, &source, &target).map_err(io_error("restore", &target))?;
            }
            Repair::Batch { source, first, offset, len, reason } => {
                let (source, target) = (segment::path(source, *first), segment::path(directory, *first));
                copy_range(disk, &source, &target, *offset, *len).map_err(io_error("restore", &target))?;
                tracing::error!(path = %target.display(), offset, reason, source = %source.display(), "a batch of the log was damaged in one directory: restored from another");
            }
        }
    }
    Ok(())
}

/// Makes the segments of `target` those of `source`; returns how many were copied. The bytes of those before
/// `compared_from` are the same if their length is.
///
/// # Errors
/// What the operating system says: the target cannot be used then.
pub fn mirror(
    disk: &dyn Disk,
    source: &Path,
    target: &Path,
    compared_from: LogIndex,
) -> Result<usize, WalError> {
    let wanted = segment::list(disk, source)?;
    let mut copied = 0;
    for first in &wanted {
        let (from, to) = (segment::path(source, *first), segment::path(target, *first));
        if !is_same(disk, &from, &to, *first >= compared_from).map_err(io_error("compare", &to))? {
            // Records were compared when they were replayed; values were not looked at, and the good one is not always ours.
            heal_values(disk, *first, &to, &from).map_err(io_error("restore values in", &from))?;
            copy(disk, &from, &to).map_err(io_error("copy", &to))?;
            copied += 1;
        }
    }
    for first in segment::list(disk, target)?.iter().filter(|first| !wanted.contains(first)) {
        let path = segment::path(target, *first);
        disk.remove(&path).map_err(io_error("remove", &path))?;
    }
    disk.sync_directory(target).map_err(io_error("sync", target))?;
    Ok(copied)
}

/// Puts values into a segment that are damaged there and good in its mirror.
fn heal_values(disk: &dyn Disk, first: LogIndex, source: &Path, target: &Path) -> io::Result<()> {
    if !disk.exists(source) {
        return Ok(());
    }
    let (good, ours) = (disk.open(source, OpenOptions::READ)?, disk.open(target, OpenOptions::READ)?);
    let mut next = Some(0);
    while let Some(offset) = next {
        // Behind what cannot be read there are no values that anybody could find.
        let Ok(names) = collect::names(&ours, first, offset) else { return Ok(()) };
        for (_, place) in &names.found {
            let verifies = |file: &dyn DiskFile| {
                let mut bytes = vec![0; place.len as usize];
                file.read_exact_at(&mut bytes, place.offset).is_ok() && crc_of(&bytes) == place.crc
            };
            if !verifies(&*ours) && verifies(&*good) {
                copy_range(disk, source, target, place.offset, place.len as usize)?;
                tracing::error!(path = %target.display(), offset = place.offset, source = %source.display(), "a value in the log was damaged in one directory: restored from another");
            }
        }
        next = names.next;
    }
    Ok(())
}

/// Copies a file, durably and in one step.
///
/// # Errors
/// What the operating system says.
pub fn copy(disk: &dyn Disk, source: &Path, target: &Path) -> io::Result<()> {
    let directory = target.parent().unwrap_or(Path::new("."));
    let part = directory.join(PART);
    let from = disk.open(source, OpenOptions::READ)?;
    let to = disk.open(&part, OpenOptions::WRITE.create(Create::Empty))?;
    let (mut buffer, mut offset) = (vec![0; COPY_BYTES], 0);
    loop {
        let read = from.read_full_at(&mut buffer, offset)?;
        if read == 0 {
            break;
        }
        to.write_all_at(&buffer[..read], offset)?;
        offset += read as u64;
    }
    to.sync_all()?;
    disk.rename(&part, target)?;
    disk.sync_directory(directory)
}

fn copy_range(disk: &dyn Disk, source: &Path, target: &Path, offset: u64, len: usize) -> io::Result<()> {
    let mut bytes = vec![0; len];
    disk.open(source, OpenOptions::READ)?.read_exact_at(&mut bytes, offset)?;
    let file = disk.open(target, OpenOptions::WRITE)?;
    file.write_all_at(&bytes, offset)?;
    file.sync_all()
}

fn is_same(disk: &dyn Disk, one: &Path, other: &Path, by_bytes: bool) -> io::Result<bool> {
    if !disk.exists(other) {
        return Ok(false);
    }
    let (one, other) = (disk.open(one, OpenOptions::READ)?, disk.open(other, OpenOptions::READ)?);
    if one.len()? != other.len()? {
        return Ok(false);
    }
    if !by_bytes {
        return Ok(true);
    }
    let (mut left, mut right, mut offset) = (vec![0; COPY_BYTES], vec![0; COPY_BYTES], 0);
    loop {
        let read = one.read_full_at(&mut left, offset)?;
        // What cannot be read is not the same, and is written anew.
        if other.read_full_at(&mut right, offset).ok() != Some(read) || left[..read] != right[..read] {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
        offset += read as u64;
    }
}
