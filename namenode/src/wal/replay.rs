//! Reading the log at a start: every record in order, and where the next one goes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use ringfs_proto::ids::{ClusterId, LogIndex};

use super::format::{BatchHeader, FormatError, SEGMENT_HEADER_BYTES, SegmentHeader, decode_records};
use super::record::RecordV1;
use super::{BATCH_BYTES_MAX, WalError, io_error, segment};
use ringfs_proto::buffer::ALIGN;

const READ_BYTES: usize = 4 << 20;

/// Where a replayed log ends.
#[derive(Debug)]
pub struct Replayed {
    /// The last good record.
    pub last: LogIndex,
    /// The segment to go on with, and where; `None` for an empty log.
    pub(super) tail: Option<(PathBuf, SegmentHeader, u64)>,
    /// Bytes of an unfinished batch that were cut.
    pub cut_bytes: u64,
}

/// Replays all segments. `mark` is the highest mark of the ring.
///
/// # Errors
/// [`WalError`]: nothing was changed on disk.
pub fn replay(
    directory: &Path,
    cluster: ClusterId,
    mut mark: LogIndex,
    on_record: &mut dyn FnMut(RecordV1),
) -> Result<Replayed, WalError> {
    let segments = segment::list(directory)?;
    let mut end = Replayed { last: LogIndex(0), tail: None, cut_bytes: 0 };
    let mut unfinished = None;
    for (position, (_, path)) in segments.iter().enumerate() {
        let file = File::open(path).map_err(io_error("open", path))?;
        let header = segment::read_header(&file, path, cluster)?;
        if header.first.0 != end.last.0 + 1 {
            return Err(WalError::Gap {
                path: path.clone(),
                found: header.first,
                expected: LogIndex(end.last.0 + 1),
            });
        }
        let stop = read_segment(&file, path, &header, &mut end, &mut mark, on_record)?;
        end.tail = Some((path.clone(), header, stop.offset));
        let is_last = position + 1 == segments.len();
        match stop.damage {
            Some(reason) if is_last => unfinished = Some((stop.offset, reason)),
            // A segment is only begun when all before it is finished.
            Some(reason) => return Err(damaged(path, stop.offset, reason, mark, end.last)),
            None => {}
        }
    }
    if let (Some((path, header, offset)), true) = (&end.tail, mark > end.last) {
        let reason = unfinished.map_or_else(
            || format!("the log ends here, {} bytes before the end of the segment", header.bytes - offset),
            |(_, reason)| reason,
        );
        return Err(damaged(path, *offset, reason, mark, end.last));
    }
    if mark > end.last {
        return Err(damaged(directory, 0, "all segments are missing".to_owned(), mark, end.last));
    }
    if let (Some((path, header, offset)), Some((_, reason))) = (&end.tail, unfinished) {
        segment::cut(path, *offset)?;
        end.cut_bytes = header.bytes - offset;
        tracing::warn!(path = %path.display(), offset, reason, last = %end.last, "cut a batch that was never finished");
    }
    Ok(end)
}

struct Stop {
    offset: u64,
    damage: Option<String>,
}

/// Reads the batches of one segment, up to its first page that is no batch.
fn read_segment(
    file: &File,
    path: &Path,
    header: &SegmentHeader,
    end: &mut Replayed,
    mark: &mut LogIndex,
    on_record: &mut dyn FnMut(RecordV1),
) -> Result<Stop, WalError> {
    let seed = header.seed();
    let mut window = Window { file, path, bytes: Vec::new(), begin: 0 };
    let mut offset = SEGMENT_HEADER_BYTES;
    while offset < header.bytes {
        let page = window.get(offset, ALIGN)?;
        if page.iter().all(|byte| *byte == 0) {
            return Ok(Stop { offset, damage: None });
        }
        let batch = match BatchHeader::decode(page, seed) {
            Ok(batch) => batch,
            Err(FormatError(reason)) => return Ok(Stop { offset, damage: Some(reason) }),
        };
        let records = decode_records(&batch, window.get(offset, batch.padded_len())?, seed);
        let records = match check_order(&batch, end.last).and(records) {
            Ok(records) => records,
            Err(FormatError(reason)) => return Ok(Stop { offset, damage: Some(reason) }),
        };
        *mark = (*mark).max(batch.acknowledged);
        end.last = batch.last();
        records.into_iter().for_each(&mut *on_record);
        offset += batch.padded_len() as u64;
    }
    Ok(Stop { offset, damage: None })
}

fn check_order(batch: &BatchHeader, last: LogIndex) -> Result<(), FormatError> {
    if batch.first.0 == last.0 + 1 {
        return Ok(());
    }
    Err(FormatError(format!("batch begins at record {}, expected {}", batch.first, last.0 + 1)))
}

fn damaged(
    path: &Path,
    offset: u64,
    reason: String,
    acknowledged: LogIndex,
    last_good: LogIndex,
) -> WalError {
    WalError::Damaged { path: path.to_owned(), offset, reason, acknowledged, last_good }
}

/// A part of a file in memory, read in large pieces.
struct Window<'a> {
    file: &'a File,
    path: &'a Path,
    bytes: Vec<u8>,
    begin: u64,
}

impl Window<'_> {
    /// `len` bytes from `offset` on; fewer at the end of the file. `len` is at most a padded batch.
    fn get(&mut self, offset: u64, len: usize) -> Result<&[u8], WalError> {
        debug_assert!(len <= BATCH_BYTES_MAX.next_multiple_of(ALIGN));
        let is_held = offset >= self.begin && offset + len as u64 <= self.begin + self.bytes.len() as u64;
        if !is_held {
            self.bytes.resize(len.max(READ_BYTES), 0);
            let mut filled = 0;
            while filled < self.bytes.len() {
                let part = self.file.read_at(&mut self.bytes[filled..], offset + filled as u64);
                match part.map_err(io_error("read", self.path))? {
                    0 => break,
                    read => filled += read,
                }
            }
            self.bytes.truncate(filled);
            self.begin = offset;
        }
        let at = (offset - self.begin) as usize;
        Ok(&self.bytes[at..(at + len).min(self.bytes.len())])
    }
}
