//! What the person who runs a cluster looks into: the replicas of files, and what the namenode is asked.

use ringfs_proto::ids::InodeId;
use ringfs_proto::limits::BATCH_PATHS_MAX;
use ringfs_proto::meta::inspect::{
    ActivityReplyV1, ActivityRequestV1, CheckFilesRequestV1, CheckedBlockV1, FileFromV1,
};
use ringfs_proto::ops::{Activity, CheckFiles};

use crate::client::Client;
use crate::error::{Error, Fault, Result};

impl Client {
    /// All that is known of the replicas of files, a thousand files or blocks in one call: the blocks of each file, in the
    /// order of `files`; `None` for one that is not there any more.
    ///
    /// # Errors
    /// `PermissionDenied`: a directory above a file may not be searched.
    pub fn check_files(&self, files: &[InodeId]) -> Result<Vec<Option<Vec<CheckedBlockV1>>>> {
        let mut all = Vec::with_capacity(files.len());
        let mut rest: Vec<FileFromV1> =
            files.iter().map(|inode| FileFromV1 { inode: *inode, offset: 0 }).collect();
        // The blocks that are known of the first file of the rest.
        let mut begun = Vec::new();
        while !rest.is_empty() {
            let page = rest.iter().take(BATCH_PATHS_MAX).copied().collect();
            let request = CheckFilesRequestV1 { files: page };
            let reply = self.shared.namenode.call::<CheckFiles>("check", "several files", &request)?;
            let (asked, answered) = (request.files.len(), reply.files.len());
            if answered == 0 || answered > asked {
                let text = format!("{answered} answers for {asked} files");
                return Err(Error::new("check", "several files", Fault::Protocol(text)));
            }
            let mut done = 0;
            for file in reply.files {
                begun.extend(file.blocks);
                if let Some(offset) = file.next_offset {
                    let is_further = offset > rest[done].offset;
                    if !is_further {
                        let text = format!("the blocks behind offset {offset} come twice");
                        return Err(Error::new("check", "several files", Fault::Protocol(text)));
                    }
                    rest[done].offset = offset;
                    break;
                }
                let blocks = core::mem::take(&mut begun);
                all.push(file.is_there.then_some(blocks));
                done += 1;
            }
            rest.drain(..done);
        }
        Ok(all)
    }

    /// What the namenode was asked since it started, by operation, and by the `users_max` users who asked most; 0 is as many
    /// as it tells in one answer.
    ///
    /// # Errors
    /// What every call can give.
    pub fn activity(&self, users_max: u32) -> Result<ActivityReplyV1> {
        self.shared.namenode.call::<Activity>("ask for", "activity", &ActivityRequestV1 { users_max })
    }
}
