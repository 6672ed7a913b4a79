//! Reading a segment for its values: which there were, and the bytes of those that are still wanted. Blocks; decides nothing.

use std::io;
use std::sync::Arc;

use ringfs_disk::{DiskFile, OpenOptions};
use ringfs_proto::WireError;
use ringfs_proto::buffer::ALIGN;
use ringfs_proto::ids::{BlockId, LogIndex};

use super::format::{BatchHeader, SEGMENT_HEADER_BYTES, SegmentHeader, decode_records};
use super::segment;
use super::values::{ValuePlace, Values};

/// Values that one order finds at most, but for those of its last batch.
const FOUND_MAX: usize = 4096;
/// Batches without a value that one order looks at, at most.
const BATCHES_MAX: usize = 4096;

/// What a collection wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// Which values there are in a segment, from an offset on; 0 for its beginning.
    Names(LogIndex, u64),
    /// The bytes of some.
    Bytes(Vec<(BlockId, ValuePlace)>),
}

/// The values of a part of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Where they were written, dead ones included.
    pub found: Vec<(BlockId, ValuePlace)>,
    /// Where to go on; `None` at the end of the segment.
    pub next: Option<u64>,
}

/// What a collection was told.
#[derive(Debug)]
pub enum Collected {
    /// The values of a part of a segment, or why they cannot be told.
    Names(Result<Names, String>),
    /// Bytes, or why there are none.
    Bytes(Vec<(BlockId, ValuePlace, Result<Vec<u8>, WireError>)>),
}

impl Values {
    /// Finds out what a collection wants to know.
    pub fn collect(&self, wanted: &Wanted) -> Collected {
        match wanted {
            Wanted::Names(segment, offset) => Collected::Names(self.names(*segment, *offset)),
            Wanted::Bytes(places) => {
                let read = |(block, place): &(BlockId, ValuePlace)| {
                    let mut bytes = Vec::new();
                    let read = self.read(*place, &mut bytes).map(|()| bytes);
                    (*block, *place, read)
                };
                Collected::Bytes(places.iter().map(read).collect())
            }
        }
    }

    fn names(&self, segment: LogIndex, offset: u64) -> Result<Names, String> {
        let mut failure = "the log has no directory".to_owned();
        for directory in self.live() {
            let path = segment::path(&directory, segment);
            let names =
                self.disk().open(&path, OpenOptions::READ).and_then(|file| names(&file, segment, offset));
            match names {
                Ok(names) => return Ok(names),
                Err(error) => failure = format!("{}: {error}", path.display()),
            }
        }
        Err(failure)
    }
}

/// The values of a part of a segment, as its records name them.
pub(super) fn names(file: &Arc<dyn DiskFile>, segment: LogIndex, offset: u64) -> io::Result<Names> {
    let wrong = |error: super::format::FormatError| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut page = [0; ALIGN];
    file.read_exact_at(&mut page, 0)?;
    let header = SegmentHeader::decode(&page).map_err(wrong)?;
    let mut offset = offset.max(SEGMENT_HEADER_BYTES);
    let mut found = Vec::new();
    for _ in 0..BATCHES_MAX {
        if offset >= header.bytes || found.len() >= FOUND_MAX {
            break;
        }
        file.read_exact_at(&mut page, offset)?;
        if page.iter().all(|byte| *byte == 0) {
            return Ok(Names { found, next: None });
        }
        let batch = BatchHeader::decode(&page, header.seed()).map_err(wrong)?;
        if batch.values_len > 0 {
            let mut bytes = vec![0; batch.len];
            file.read_exact_at(&mut bytes, offset)?;
            let begin = offset + batch.len as u64;
            for record in decode_records(&batch, &bytes, header.seed()).map_err(wrong)? {
                found.extend(record.change.named_values().into_iter().map(|(block, value)| {
                    let offset = begin + u64::from(value.at);
                    (block, ValuePlace { segment, offset, len: value.len, crc: value.crc })
                }));
            }
        }
        offset += batch.padded_len() as u64;
    }
    Ok(Names { found, next: (offset < header.bytes).then_some(offset) })
}
