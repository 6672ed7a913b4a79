//! Small files, whose contents the namenode keeps: made in one call, read many at once.

use ringfs_proto::limits::{BATCH_PATHS_MAX, INLINE_BYTES_MAX};
use ringfs_proto::meta::values::{BatchOpenRequestV1, OpenedV1, PutRequestV1};
use ringfs_proto::ops::{BatchOpen, Put};
use ringfs_proto::{Code, WireError};

use crate::FileStatus;
use crate::client::{Client, CreateOptions};
use crate::error::{Error, Fault, Result};
use crate::read::Reader;

impl Client {
    /// Makes a file with its content and closes it: in one call while the file is small (`small_files.inline_bytes_max` of the
    /// namenode), else as a writer does. Readers see all of it or nothing.
    ///
    /// # Errors
    /// As [`Self::create_with`] and [`crate::Writer::close`]. `options.reuse` and `options.announced_length` matter for large files only.
    ///
    /// ```no_run
    /// # let client = ringfs_sdk::Client::from_config()?;
    /// client.put("/labels/0001.json", br#"{"class": 7}"#, &Default::default())?;
    /// # Ok::<(), ringfs_sdk::Error>(())
    /// ```
    pub fn put(&self, path: &str, bytes: &[u8], options: &CreateOptions) -> Result<FileStatus> {
        if bytes.len() <= INLINE_BYTES_MAX
            && let Some(status) = self.put_inline(path, bytes, options)?
        {
            return Ok(status);
        }
        let mut writer = self.create_with(path, options)?;
        writer.append(bytes)?;
        writer.close()
    }

    /// Puts a file that the namenode keeps; `None` when it keeps none of this size, or no more.
    pub(crate) fn put_inline(
        &self,
        path: &str,
        bytes: &[u8],
        options: &CreateOptions,
    ) -> Result<Option<FileStatus>> {
        let request = PutRequestV1 { file: self.to_create(path, options), bytes: bytes.to_vec() };
        match self.shared.namenode.call::<Put>("put", path, &request) {
            Err(error) if error.code() == Some(Code::LimitExceeded) => Ok(None),
            put => put.map(Some),
        }
    }

    /// Reads many files whole: small ones come with the answers that open them, thousands in a few calls; the blocks of larger
    /// ones are fetched from all datanodes at once. One result for each path, in order.
    ///
    /// # Errors
    /// Of each file as [`Self::open`] and [`crate::Reader::read_at`]; of the whole when the namenode does not answer.
    ///
    /// ```no_run
    #[doc = include_str!("../examples/small_files.rs")]
    /// ```
    pub fn read_many(&self, paths: &[impl AsRef<str>]) -> Result<Vec<Result<Vec<u8>>>> {
        let mut read = Vec::with_capacity(paths.len());
        while read.len() < paths.len() {
            let rest = &paths[read.len()..];
            let asked = rest.iter().take(BATCH_PATHS_MAX).map(|path| path.as_ref().to_owned()).collect();
            let request = BatchOpenRequestV1 { paths: asked };
            let reply = self.shared.namenode.call::<BatchOpen>("open", rest[0].as_ref(), &request)?;
            if reply.files.is_empty() || reply.files.len() > request.paths.len() {
                let text = format!("{} files for {} paths", reply.files.len(), request.paths.len());
                return Err(Error::new("open", rest[0].as_ref(), Fault::Protocol(text)));
            }
            let opened = request.paths.iter().zip(reply.files).map(|(path, file)| match file {
                OpenedV1::Open(reply) => Reader::opened(self.shared.clone(), path, reply),
                OpenedV1::Refused(code, message) => {
                    let error = WireError::new(Code::from_u16(code), message);
                    Err(Error::new("open", path, Fault::Wire(error)))
                }
            });
            let opened: Vec<Result<Reader>> = opened.collect();
            read.extend(read_whole(opened));
        }
        Ok(read)
    }
}

/// Reads files to their ends, all at once.
fn read_whole(opened: Vec<Result<Reader>>) -> Vec<Result<Vec<u8>>> {
    let mut targets: Vec<Vec<u8>> = opened
        .iter()
        .map(|reader| vec![0; reader.as_ref().map_or(0, |reader| reader.len() as usize)])
        .collect();
    let files = opened.iter().zip(&mut targets);
    let files = files.filter_map(|(reader, target)| Some((reader.as_ref().ok()?, &mut target[..])));
    let mut failures = Reader::read_all(files.collect()).into_iter();
    let results = opened.into_iter().zip(targets);
    results
        .map(|(opened, target)| {
            opened?;
            failures.next().flatten().map_or(Ok(target), Err)
        })
        .collect()
}
