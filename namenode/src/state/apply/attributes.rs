//! What an inode says of itself: permission bits, owner, group, times.

use ringfs_proto::path::Components;

use super::super::{Applied, Outcome, State};
use super::MODE_MASK;
use crate::wal::record::{SetOwnerV1, SetPermissionV1, SetTimesV1, TouchV1};

impl State {
    /// HDFS: `FSDirAttrOp.setPermission`.
    pub(super) fn set_permission(&mut self, change: &SetPermissionV1) -> Outcome {
        let slot = self.find_existing(&Components::parse(&change.path)?)?;
        let inode = self.inodes.get_mut(slot);
        inode.mode = inode.mode & !MODE_MASK | change.mode & MODE_MASK;
        Ok(Applied::Done)
    }

    /// HDFS: `FSDirAttrOp.setOwner`.
    pub(super) fn set_owner(&mut self, change: &SetOwnerV1) -> Outcome {
        let slot = self.find_existing(&Components::parse(&change.path)?)?;
        let owner = change.owner.as_ref().map(|name| self.principals.intern(name));
        let group = change.group.as_ref().map(|name| self.principals.intern(name));
        let inode = self.inodes.get_mut(slot);
        inode.owner = owner.unwrap_or(inode.owner);
        inode.group = group.unwrap_or(inode.group);
        Ok(Applied::Done)
    }

    /// HDFS: `FSDirAttrOp.setTimes`.
    pub(super) fn set_times(&mut self, change: &SetTimesV1) -> Outcome {
        let slot = self.find_existing(&Components::parse(&change.path)?)?;
        let inode = self.inodes.get_mut(slot);
        inode.mtime_ms = change.mtime_ms.unwrap_or(inode.mtime_ms);
        inode.atime_s = change.atime_ms.map_or(inode.atime_s, seconds);
        Ok(Applied::Done)
    }

    /// A reader has opened a file. That it is gone meanwhile is no matter.
    pub(super) fn touch(&mut self, change: &TouchV1) -> Outcome {
        let now_s = seconds(self.time_ms);
        if let Some(slot) = self.slot_of(change.inode) {
            let inode = self.inodes.get_mut(slot);
            inode.atime_s = inode.atime_s.max(now_s);
        }
        Ok(Applied::Done)
    }
}

/// Checked where a call comes in to be no more than fits.
fn seconds(time_ms: u64) -> u32 {
    u32::try_from(time_ms / 1000).unwrap_or(u32::MAX)
}
