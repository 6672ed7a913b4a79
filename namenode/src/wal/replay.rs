//! Reading the log at a start: every record in order, and where the next one goes.
//!
//! The directories given are mirrors, so a batch that is damaged in one is taken from another. What the first directory
//! lacks is noted and repaired once the whole log has been read; nothing is changed on disk before.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringfs_disk::{Disk, DiskFile, OpenOptions};
use ringfs_proto::ids::{ClusterId, LogIndex};

use super::format::{BatchHeader, FormatError, SEGMENT_HEADER_BYTES, SegmentHeader, decode_records};
use super::record::RecordV1;
use super::values::{ValuesAt, crc_of};
use super::{BATCH_BYTES_MAX, WalError, segment};
use ringfs_proto::buffer::ALIGN;

const READ_BYTES: usize = 4 << 20;

/// Where a replayed log ends, and what has to be put right.
#[derive(Debug, Default)]
pub struct Replayed {
    /// The last good record.
    pub last: LogIndex,
    /// The segment to go on with, and where; `None` when a new one begins.
    pub tail: Option<Tail>,
    /// An unfinished batch at the tail has to be cut.
    pub unfinished: Option<String>,
    /// The first segment that was read: those before it are kept for their values alone.
    pub begin: LogIndex,
    /// What the first directory lacks.
    pub repairs: Vec<Repair>,
    /// Bytes of the batches that were read for their records.
    pub bytes: u64,
}

/// A place in a segment.
#[derive(Debug, Clone, Copy)]
pub struct Tail {
    /// The segment.
    pub header: SegmentHeader,
    /// Where in it.
    pub offset: u64,
}

/// Something that the first directory lacks and another has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// A whole segment.
    Segment {
        /// The directory that has it.
        source: PathBuf,
        /// Its first record.
        first: LogIndex,
    },
    /// A batch.
    Batch {
        /// The directory that has it.
        source: PathBuf,
        /// First record of its segment.
        first: LogIndex,
        /// Where it is.
        offset: u64,
        /// Its bytes, padding included.
        len: usize,
        /// What is wrong with it in the first directory.
        reason: String,
    },
}

/// Replays the records above `from`. `mark` is the highest mark of the rings.
///
/// # Errors
/// [`WalError`]: nothing was changed on disk.
pub fn replay(
    disk: &dyn Disk,
    directories: &[PathBuf],
    cluster: ClusterId,
    from: LogIndex,
    mark: LogIndex,
    on_record: &mut dyn FnMut(RecordV1, ValuesAt),
) -> Result<Replayed, WalError> {
    let mut all = BTreeSet::new();
    for directory in directories {
        all.extend(segment::list(disk, directory)?);
    }
    let needed = needed(&all, &directories[0], from)?;
    let mut reader = Reader {
        disk,
        directories,
        cluster,
        from,
        mark,
        is_last_segment: false,
        on_record,
        end: Replayed::default(),
    };
    reader.end.last = needed.first().map_or(from, |first| LogIndex(first.0 - 1));
    reader.end.begin = needed.first().copied().unwrap_or_default();
    for (position, first) in needed.iter().enumerate() {
        reader.is_last_segment = position + 1 == needed.len();
        reader.read_segment(*first)?;
    }
    reader.finish()
}

/// The segments that hold records above `from`.
fn needed(all: &BTreeSet<LogIndex>, directory: &Path, from: LogIndex) -> Result<Vec<LogIndex>, WalError> {
    let expected = LogIndex(from.0 + 1);
    match (all.range(..=expected).next_back(), all.first()) {
        (Some(first), _) => Ok(all.range(*first..).copied().collect()),
        (None, Some(found)) => {
            let path = segment::path(directory, *found);
            Err(WalError::Gap { path, found: *found, expected })
        }
        (None, None) => Ok(Vec::new()),
    }
}

struct Reader<'a> {
    disk: &'a dyn Disk,
    directories: &'a [PathBuf],
    cluster: ClusterId,
    from: LogIndex,
    mark: LogIndex,
    is_last_segment: bool,
    on_record: &'a mut dyn FnMut(RecordV1, ValuesAt),
    end: Replayed,
}

/// A page where a batch should begin.
enum Place {
    /// Nothing was ever written there.
    Zeros,
    /// It does not verify.
    Bad(String),
    /// A batch, with the records that are wanted.
    Batch(BatchHeader, Vec<RecordV1>),
}

impl Reader<'_> {
    fn read_segment(&mut self, first: LogIndex) -> Result<(), WalError> {
        let (header, mut windows) = self.open_segment(first)?;
        let path = windows[0].path.clone();
        if header.first.0 != self.end.last.0 + 1 {
            let expected = LogIndex(self.end.last.0 + 1);
            return Err(WalError::Gap { path, found: header.first, expected });
        }
        let mut offset = SEGMENT_HEADER_BYTES;
        let mut stop = None;
        while offset < header.bytes {
            match self.read_place(&header, &mut windows, offset) {
                Place::Batch(batch, records) => {
                    self.mark = self.mark.max(batch.acknowledged);
                    self.end.last = batch.last();
                    self.end.bytes += if records.is_empty() { 0 } else { batch.padded_len() as u64 };
                    let values_at = ValuesAt { segment: first, offset: offset + batch.len as u64 };
                    records.into_iter().for_each(|record| (self.on_record)(record, values_at));
                    offset += batch.padded_len() as u64;
                }
                Place::Zeros => break,
                Place::Bad(reason) => {
                    stop = Some(reason);
                    break;
                }
            }
        }
        self.end.tail = Some(Tail { header, offset });
        match stop {
            Some(reason) if self.is_last_segment => self.end.unfinished = Some(reason),
            // A segment is only begun when all before it is finished.
            Some(reason) => return Err(self.damaged(path, offset, reason)),
            None => {}
        }
        Ok(())
    }

    /// Opens a segment where it is good. The first window is that of the first directory, if it is good there.
    fn open_segment(&mut self, first: LogIndex) -> Result<(SegmentHeader, Vec<Window>), WalError> {
        let mut good: Option<SegmentHeader> = None;
        let (mut windows, mut failure) = (Vec::new(), None);
        for directory in self.directories {
            match Window::open(self.disk, directory, first, self.cluster) {
                Ok((header, window)) if good.is_none_or(|good| good == header) => {
                    good = Some(header);
                    windows.push(window);
                }
                Ok((header, window)) => {
                    let reason = format!("its epoch {} is not that of its mirrors", header.epoch);
                    failure = failure.or(Some(WalError::Foreign { path: window.path, reason }));
                }
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match (good, failure) {
            (Some(header), None) => Ok((header, windows)),
            (Some(header), Some(failure)) => {
                if windows[0].directory != self.directories[0] {
                    tracing::error!(error = %failure.chain(), "a segment of the log is damaged: it is taken from {}", windows[0].directory.display());
                    let source = windows[0].directory.clone();
                    self.end.repairs.push(Repair::Segment { source, first });
                }
                Ok((header, windows))
            }
            (None, Some(failure)) => Err(failure),
            (None, None) => {
                let path = segment::path(&self.directories[0], first);
                Err(WalError::Foreign { path, reason: "it was there a moment ago".to_owned() })
            }
        }
    }

    /// What is at `offset`, in the first mirror that has a batch there.
    fn read_place(&mut self, header: &SegmentHeader, windows: &mut [Window], offset: u64) -> Place {
        let mut first = None;
        for window in windows {
            match self.read_window(header, window, offset) {
                Place::Batch(batch, records) => {
                    if let Some(first) = first {
                        self.note_batch(header, window, offset, &batch, first);
                    }
                    return Place::Batch(batch, records);
                }
                // Of two mirrors, the one that holds something tells more than the one that holds nothing.
                Place::Bad(reason) if !matches!(first, Some(Place::Bad(_))) => {
                    first = Some(Place::Bad(reason));
                }
                other => first = first.or(Some(other)),
            }
        }
        first.unwrap_or(Place::Zeros)
    }

    fn note_batch(
        &mut self,
        header: &SegmentHeader,
        window: &Window,
        offset: u64,
        batch: &BatchHeader,
        first: Place,
    ) {
        let reason = match first {
            Place::Bad(reason) => reason,
            _ => "it is missing".to_owned(),
        };
        if self
            .end
            .repairs
            .contains(&Repair::Segment { source: window.directory.clone(), first: header.first })
        {
            return;
        }
        self.end.repairs.push(Repair::Batch {
            source: window.directory.clone(),
            first: header.first,
            offset,
            len: batch.padded_len(),
            reason,
        });
    }

    fn read_window(&self, header: &SegmentHeader, window: &mut Window, offset: u64) -> Place {
        let seed = header.seed();
        let page = match window.get(offset, ALIGN) {
            Ok(page) if page.iter().all(|byte| *byte == 0) => return Place::Zeros,
            Ok(page) => page,
            Err(error) => return Place::Bad(format!("read: {error}")),
        };
        let batch = match BatchHeader::decode(page, seed).and_then(|batch| self.in_order(batch)) {
            Ok(batch) => batch,
            Err(FormatError(reason)) => return Place::Bad(reason),
        };
        if batch.last() <= self.from {
            // The checkpoint has it.
            return Place::Batch(batch, Vec::new());
        }
        let bytes = match window.get(offset, batch.len) {
            Ok(bytes) => bytes,
            Err(error) => return Place::Bad(format!("read: {error}")),
        };
        let mut records = match decode_records(&batch, bytes, seed) {
            Ok(records) => records,
            Err(FormatError(reason)) => return Place::Bad(reason),
        };
        if let Err(reason) = self.check_values(header, window, offset, &batch, &records) {
            return Place::Bad(reason);
        }
        records.retain(|record| record.index > self.from);
        Place::Batch(batch, records)
    }

    /// A batch is only begun when the one before is on stable storage with its values. So of the last batch alone they may
    /// have been cut off; of all others they are looked at when somebody reads them, and a bad one is the matter of its file
    /// alone.
    fn check_values(
        &self,
        header: &SegmentHeader,
        window: &mut Window,
        offset: u64,
        batch: &BatchHeader,
        records: &[RecordV1],
    ) -> Result<(), String> {
        let is_over = !self.is_last_segment || batch.last() <= self.mark;
        if batch.values_len == 0 || is_over || self.is_followed(header, window, offset, batch) {
            return Ok(());
        }
        for record in records {
            for (_, value) in record.change.named_values() {
                let begin = offset + batch.len as u64 + u64::from(value.at);
                let bytes = window.get(begin, value.len as usize);
                let bytes = bytes.map_err(|error| format!("read: {error}"))?;
                if crc_of(bytes) != value.crc {
                    return Err(format!("checksum mismatch in a value of record {}", record.index));
                }
            }
        }
        Ok(())
    }

    fn is_followed(
        &self,
        header: &SegmentHeader,
        window: &mut Window,
        offset: u64,
        batch: &BatchHeader,
    ) -> bool {
        let page = window.get(offset + batch.padded_len() as u64, ALIGN);
        let next = page.ok().and_then(|page| BatchHeader::decode(page, header.seed()).ok());
        next.is_some_and(|next| next.first.0 == batch.last().0 + 1)
    }

    fn in_order(&self, batch: BatchHeader) -> Result<BatchHeader, FormatError> {
        let expected = self.end.last.0 + 1;
        if batch.first.0 == expected {
            return Ok(batch);
        }
        Err(FormatError(format!("batch begins at record {}, expected {expected}", batch.first)))
    }

    fn finish(mut self) -> Result<Replayed, WalError> {
        let acknowledged = self.mark;
        if let (Some(Tail { header, offset }), true) =
            (self.end.tail, acknowledged > self.end.last.max(self.from))
        {
            let path = segment::path(&self.directories[0], header.first);
            let reason = self.end.unfinished.take().unwrap_or_else(|| {
                format!("the log ends here, {} bytes before the end of the segment", header.bytes - offset)
            });
            return Err(self.damaged(path, offset, reason));
        }
        if acknowledged > self.end.last.max(self.from) {
            let reason = "all segments are missing".to_owned();
            return Err(self.damaged(self.directories[0].clone(), 0, reason));
        }
        if self.end.last < self.from {
            tracing::warn!(last = %self.end.last, checkpoint = %self.from, "the log ends before the checkpoint, which has all that was acknowledged: a new segment begins");
            let Replayed { begin, repairs, .. } = self.end;
            return Ok(Replayed { last: self.from, begin, repairs, ..Replayed::default() });
        }
        Ok(self.end)
    }

    fn damaged(&self, path: PathBuf, offset: u64, reason: String) -> WalError {
        let (acknowledged, last_good) = (self.mark, self.end.last);
        WalError::Damaged { path, offset, reason, acknowledged, last_good }
    }
}

/// A part of a segment in memory, read in large pieces.
struct Window {
    directory: PathBuf,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    bytes: Vec<u8>,
    begin: u64,
}

impl Window {
    fn open(
        disk: &dyn Disk,
        directory: &Path,
        first: LogIndex,
        cluster: ClusterId,
    ) -> Result<(SegmentHeader, Self), WalError> {
        let path = segment::path(directory, first);
        let file = disk.open(&path, OpenOptions::READ).map_err(super::io_error("open", &path))?;
        let header = segment::read_header(&*file, &path, cluster)?;
        if header.first != first {
            let reason = format!("its header says that it begins at record {}", header.first);
            return Err(WalError::Foreign { path, reason });
        }
        Ok((header, Self { directory: directory.to_owned(), path, file, bytes: Vec::new(), begin: 0 }))
    }

    /// `len` bytes from `offset` on; fewer at the end of the file. `len` is at most that of a batch.
    fn get(&mut self, offset: u64, len: usize) -> std::io::Result<&[u8]> {
        debug_assert!(len <= BATCH_BYTES_MAX);
        let is_held = offset >= self.begin && offset + len as u64 <= self.begin + self.bytes.len() as u64;
        if !is_held {
            self.bytes.resize(len.max(READ_BYTES), 0);
            let filled = self.file.read_full_at(&mut self.bytes, offset);
            self.bytes.truncate(*filled.as_ref().unwrap_or(&0));
            self.begin = offset;
            filled?;
        }
        let at = (offset - self.begin) as usize;
        Ok(&self.bytes[at..(at + len).min(self.bytes.len())])
    }
}
