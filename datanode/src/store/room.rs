//! Room on a volume: what replicas that are being written may still take is promised to them, so that together they never
//! take more than there is. A promise shrinks as its file grows, for what the file has taken the file system counts itself,
//! and ends with its writer. HDFS: `FsVolumeImpl.reserveSpaceForReplica`, `ReplicaInPipeline.bytesReserved`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use ringfs_proto::ids::BlockId;
use ringfs_proto::{Code, WireError};

use super::{ALLOCATION_BYTES_MAX, Created, Store};
use crate::format::block::Layout;

/// Room is counted in what file systems allocate.
const UNIT_BYTES: u64 = 4096;

/// What is promised on one volume.
#[derive(Debug, Default)]
pub struct Room {
    promised: Arc<AtomicU64>,
    /// One decides at a time: each sees what the others were promised.
    deciding: Mutex<()>,
}

/// Room that one file may still take.
#[derive(Debug)]
pub struct Promise {
    promised: Arc<AtomicU64>,
    /// Bytes that the file may have in all.
    until: AtomicU64,
    /// How many of them it has not taken yet.
    left: AtomicU64,
}

impl Room {
    /// Bytes that are promised now.
    pub fn promised_bytes(&self) -> u64 {
        self.promised.load(Ordering::Acquire)
    }

    /// Promises that a file which has taken `taken` bytes may have `until`. `None`: there is not enough room. `usable` says
    /// how much the volume has for everybody.
    ///
    /// # Errors
    /// What `usable` says.
    pub fn promise(
        &self,
        taken: u64,
        until: u64,
        usable: impl FnOnce() -> io::Result<u64>,
    ) -> io::Result<Option<Promise>> {
        let until = until.next_multiple_of(UNIT_BYTES);
        let bytes = until.saturating_sub(taken);
        if !self.take(bytes, usable)? {
            return Ok(None);
        }
        let (until, left) = (AtomicU64::new(until), AtomicU64::new(bytes));
        Ok(Some(Promise { promised: self.promised.clone(), until, left }))
    }

    /// As [`Room::promise`], for a file that shall become longer than was promised.
    fn extend(
        &self,
        promise: &Promise,
        until: u64,
        usable: impl FnOnce() -> io::Result<u64>,
    ) -> io::Result<bool> {
        let until = until.next_multiple_of(UNIT_BYTES);
        let bytes = until.saturating_sub(promise.until());
        if !self.take(bytes, usable)? {
            return Ok(false);
        }
        promise.until.fetch_add(bytes, Ordering::AcqRel);
        promise.left.fetch_add(bytes, Ordering::AcqRel);
        Ok(true)
    }

    fn take(&self, bytes: u64, usable: impl FnOnce() -> io::Result<u64>) -> io::Result<bool> {
        let _deciding = self.deciding.lock();
        // In this order: what was promised then and is not any more is in a file by now, and no longer usable.
        let promised = self.promised_bytes();
        let has_room = usable()? >= promised.saturating_add(bytes);
        if has_room {
            self.promised.fetch_add(bytes, Ordering::AcqRel);
        }
        Ok(has_room)
    }
}

impl Promise {
    /// Bytes that the file may have in all.
    pub fn until(&self) -> u64 {
        self.until.load(Ordering::Acquire)
    }

    /// The file has taken so many bytes by now, and does not give them back while it is written.
    pub fn taken(&self, bytes: u64) {
        let now = self.until().saturating_sub(bytes);
        let before = self.left.fetch_min(now, Ordering::AcqRel);
        self.promised.fetch_sub(before.saturating_sub(now), Ordering::AcqRel);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.taken(u64::MAX);
    }
}

/// Bytes that a replica's file takes at least while it is written through the page cache: between the checksums and the data
/// it has a hole.
fn written_bytes(layout: &Layout, length: u64) -> u64 {
    layout.checksum_offset(length.div_ceil(u64::from(layout.chunk_bytes))) + length
}

impl Store {
    pub(super) fn promise(
        &self,
        index: usize,
        block: BlockId,
        taken: u64,
        until: u64,
    ) -> Result<Arc<Promise>, WireError> {
        self.check_in_use(index)?;
        let volume = &self.disks[index].volume;
        let promise = volume.room.promise(taken, until, || volume.usable_bytes());
        let promise = promise.map_err(|error| self.io_failed(index, "find room for", block, &error))?;
        promise.map(Arc::new).ok_or_else(|| self.no_room(index, block, until.saturating_sub(taken)))
    }

    fn no_room(&self, index: usize, block: BlockId, bytes: u64) -> WireError {
        let storage = self.disks[index].volume.id;
        WireError::new(Code::NoRoom, format!("no room for block {block} ({bytes} bytes) on volume {storage}"))
    }

    /// Whether a replica's file must be promised more room before it has so many bytes of data: its writer has announced
    /// fewer. Does not block.
    pub fn needs_room(&self, created: &Created, data_bytes: u64) -> bool {
        let until = created.layout.data_offset() + data_bytes;
        created.promise.as_ref().is_some_and(|promise| until > promise.until())
    }

    /// Promises it more room: for that, and some more. Blocks.
    ///
    /// # Errors
    /// `NoRoom`, `Io`.
    pub fn promise_more(&self, created: &Created, data_bytes: u64) -> Result<(), WireError> {
        let Some(promise) = &created.promise else { return Ok(()) };
        let (index, block) = (usize::from(created.replica.volume), created.replica.block);
        let volume = &self.disks[index].volume;
        let least = created.layout.data_offset() + data_bytes;
        let most = least.saturating_add(ALLOCATION_BYTES_MAX);
        let most = most.min(created.layout.data_offset() + created.layout.limit).max(least);
        for until in [most, least] {
            let extended = volume.room.extend(promise, until, || volume.usable_bytes());
            if extended.map_err(|error| self.io_failed(index, "find room for", block, &error))? {
                return Ok(());
            }
        }
        Err(self.no_room(index, block, least - promise.until()))
    }

    /// A replica's file has so many bytes of data now: written, or allocated when it is written around the page cache.
    pub fn has_taken(&self, created: &Created, data_bytes: u64) {
        let Some(promise) = &created.promise else { return };
        promise.taken(match created.is_direct {
            true => created.layout.data_offset() + data_bytes,
            false => written_bytes(&created.layout, data_bytes),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(room: &Room, taken: u64, until: u64, usable: u64) -> Option<Promise> {
        room.promise(taken, until, || Ok(usable)).expect("asked")
    }

    #[test]
    fn what_is_promised_is_there_for_nobody_else() {
        let room = Room::default();
        let first = promise(&room, 0, 8192, 16384).expect("room");
        assert!(promise(&room, 0, 8193, 16384).is_none(), "less than three units are left");
        let second = promise(&room, 0, 8000, 16384).expect("room");
        assert!(promise(&room, 0, 1, 16384).is_none());
        drop(first);
        assert_eq!(room.promised_bytes(), 8192);
        drop(second);
        assert_eq!(room.promised_bytes(), 0);
        room.promise(0, 1, || Err(io::ErrorKind::NotFound.into())).expect_err("what the system says");
        assert_eq!(room.promised_bytes(), 0);
    }

    #[test]
    fn what_the_file_has_taken_is_counted_once() {
        let room = Room::default();
        let file = promise(&room, 4096, 40960, 1 << 20).expect("room");
        assert_eq!(room.promised_bytes(), 36864);
        file.taken(8192);
        file.taken(4096);
        assert_eq!(room.promised_bytes(), 32768, "it never gives anything back");
        assert!(room.extend(&file, 49152, || Ok(1 << 20)).expect("asked"));
        assert_eq!((file.until(), room.promised_bytes()), (49152, 40960));
        assert!(!room.extend(&file, 1 << 21, || Ok(1 << 20)).expect("asked"));
        file.taken(1 << 30);
        assert_eq!(room.promised_bytes(), 0);
    }

    #[test]
    fn threads_together_are_promised_no_more_than_there_is() {
        const USABLE: u64 = 100 * UNIT_BYTES;
        let room = Room::default();
        let used = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        let usable = || Ok(USABLE - used.load(Ordering::SeqCst));
                        let Some(file) = room.promise(0, 30 * UNIT_BYTES, usable).expect("asked") else {
                            continue;
                        };
                        for part in 1..=30 {
                            let before = used.fetch_add(UNIT_BYTES, Ordering::SeqCst);
                            assert!(before + UNIT_BYTES <= USABLE, "{before} bytes were used before");
                            file.taken(part * UNIT_BYTES);
                        }
                        // The file is deleted while its writer is still there: then nothing is promised.
                        used.fetch_sub(30 * UNIT_BYTES, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!((room.promised_bytes(), used.into_inner()), (0, 0));
    }
}
