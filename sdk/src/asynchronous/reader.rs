//! Reading, with futures: into memory that the reactor owns meanwhile.

use std::ops::Range;
use std::sync::Arc;

use crate::FileStatus;
use crate::driver::process::OfProcess;
use crate::driver::reactor::Remote;
use crate::error::{Error, Fault, Kind, Result};
use crate::reactor::operation::{Call, Dropped};
use crate::read::Reader;

/// A file that is open for reading. Made by [`crate::AsyncClient::open`]; cloning is cheap, and reads of all clones are in
/// progress at once.
///
/// Reads are short only at the end of the file, as those of [`Reader`].
///
/// # Cancel safety
/// Every future may be dropped at any time. The read ends, its memory is freed, and a connection that was in the middle of an
/// answer is closed.
#[derive(Debug, Clone)]
pub struct AsyncReader {
    reader: Arc<Reader>,
    remote: Arc<OfProcess<Arc<Remote>>>,
    path: Arc<str>,
}

impl AsyncReader {
    pub(crate) fn new(reader: Reader, remote: Arc<OfProcess<Arc<Remote>>>, path: &str) -> Self {
        Self { reader: Arc::new(reader), remote, path: path.into() }
    }

    /// Status of the file as it was opened.
    pub fn status(&self) -> &FileStatus {
        self.reader.status()
    }

    /// Bytes in the file, as far as this reader knows.
    pub fn len(&self) -> u64 {
        self.reader.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads `length` bytes at `offset`; fewer at the end of the file.
    ///
    /// # Errors
    /// `DataUnavailable` when no replica gives right bytes; `Refused` when there is no memory for so many.
    ///
    /// # Cancel safety
    /// The read ends.
    pub async fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let range = offset..offset.saturating_add(length as u64);
        let mut found = self.read_ranges(std::slice::from_ref(&range)).await?;
        Ok(found.pop().unwrap_or_default())
    }

    /// Reads at `offset` into `target`, which is given back with the count of bytes read: `target.len()`, or fewer at the
    /// end of the file. After an error its content is undefined.
    ///
    /// # Errors
    /// As [`Self::read_at`].
    ///
    /// # Cancel safety
    /// The read ends, and `target` is dropped.
    pub async fn read_into(&self, offset: u64, target: Vec<u8>) -> Result<(Vec<u8>, usize)> {
        let reader = self.reader.clone();
        let mut target = target;
        self.run(move || {
            let len = reader.read_at(offset, &mut target)?;
            Ok((target, len))
        })
        .await
    }

    /// Reads several ranges at once, in the order that suits the datanodes. What lies beyond the end of the file is cut
    /// off.
    ///
    /// # Errors
    /// As [`Self::read_at`].
    ///
    /// # Cancel safety
    /// The read ends.
    pub async fn read_ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Vec<u8>>> {
        let (reader, ranges) = (self.reader.clone(), ranges.to_vec());
        let path = self.path.clone();
        self.run(move || read_ranges(&reader, &path, &ranges)).await
    }

    async fn run<T: Send + 'static>(&self, body: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let (remote, subject) = (&self.remote, &*self.path);
        Call { remote, operation: "read", subject, dropped: Dropped::Ends }.run(body).await
    }
}

fn read_ranges(reader: &Reader, path: &str, ranges: &[Range<u64>]) -> Result<Vec<Vec<u8>>> {
    let length = reader.reachable_length(ranges.iter().map(|range| range.end).max().unwrap_or(0))?;
    let mut found = Vec::with_capacity(ranges.len());
    for range in ranges {
        let there = range.end.min(length).saturating_sub(range.start);
        found.push(memory(there).ok_or_else(|| no_memory(path))?);
    }
    let starts = ranges.iter().map(|range| range.start);
    let mut targets: Vec<_> = starts.zip(&mut found).map(|(start, bytes)| (start, &mut bytes[..])).collect();
    reader.read_vectored_at(&mut targets)?;
    Ok(found)
}

/// Zeros, as the kernel gives them; `None` when there is no memory.
fn memory(length: u64) -> Option<Vec<u8>> {
    let length = usize::try_from(length).ok()?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).ok()?;
    bytes.resize(length, 0);
    Some(bytes)
}

fn no_memory(path: &str) -> Error {
    Error::new("read", path, Fault::Io(std::io::ErrorKind::OutOfMemory.into())).with_kind(Kind::Refused)
}
