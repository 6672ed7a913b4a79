//! Small files, whose contents the namenode keeps: made in one call.

use ringfs_proto::Code;
use ringfs_proto::limits::INLINE_BYTES_MAX;
use ringfs_proto::meta::values::PutRequestV1;
use ringfs_proto::ops::Put;

use crate::FileStatus;
use crate::client::{Client, CreateOptions};
use crate::error::Result;

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
        if bytes.len() <= INLINE_BYTES_MAX {
            let request = PutRequestV1 { file: self.to_create(path, options), bytes: bytes.to_vec() };
            match self.shared.namenode.call::<Put>("put", path, &request) {
                // So many bytes are not kept there, or no more of them: datanodes take them.
                Err(error) if error.code() == Some(Code::LimitExceeded) => {}
                put => return put,
            }
        }
        let mut writer = self.create_with(path, options)?;
        writer.append(bytes)?;
        writer.close()
    }
}
