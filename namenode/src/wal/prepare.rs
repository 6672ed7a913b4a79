//! The next segment, made ahead of its use.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ringfs_disk::Disk;

use super::segment;

/// Between attempts to make the next segment.
const RETRY: Duration = Duration::from_millis(200);

/// Makes the next segment in every directory.
pub struct Preparer {
    disk: Arc<dyn Disk>,
    /// The live directories.
    pub directories: Vec<PathBuf>,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    has_room: Arc<AtomicBool>,
    is_background: bool,
    running: Option<JoinHandle<()>>,
    is_ready: bool,
}

impl Preparer {
    /// Nothing is made yet.
    pub fn new(disk: Arc<dyn Disk>, directories: Vec<PathBuf>, segment_bytes: u64) -> Self {
        let has_room = Arc::new(AtomicBool::new(true));
        Self {
            disk,
            directories,
            segment_bytes,
            has_room,
            is_background: false,
            running: None,
            is_ready: false,
        }
    }

    /// From now on segments are made on a thread of their own.
    pub fn set_background(&mut self) {
        self.is_background = true;
    }

    /// Whether there is a next segment, or one is on its way.
    pub fn has_room(&self) -> Arc<AtomicBool> {
        self.has_room.clone()
    }

    /// Begins to make the next segment, unless it is there.
    pub fn begin(&mut self) {
        if self.is_ready || self.running.is_some() {
            return;
        }
        if !self.is_background {
            return self.try_now();
        }
        let (disk, directories, bytes, has_room) =
            (self.disk.clone(), self.directories.clone(), self.segment_bytes, self.has_room.clone());
        let work = move || {
            while let Err(error) = prepare(&*disk, &directories, bytes) {
                note_no_room(&has_room, &error);
                std::thread::sleep(RETRY);
            }
            has_room.store(true, Ordering::Relaxed);
        };
        self.running = std::thread::Builder::new().name("wal-prepare".to_owned()).spawn(work).ok();
    }

    /// Waits for the next segment and takes it; it holds at least `bytes`. Returns its size.
    ///
    /// # Errors
    /// `StorageFull` and the like when there is no room and nobody makes some.
    pub fn take(&mut self, bytes: u64) -> io::Result<u64> {
        self.begin();
        if let Some(running) = self.running.take() {
            // The thread ends when the segment is there; one that panicked has made none, which activation finds out.
            let _panicked = running.join();
            self.is_ready = true;
        }
        if !self.is_ready || bytes > self.segment_bytes {
            prepare(&*self.disk, &self.directories, bytes.max(self.segment_bytes))?;
        }
        self.is_ready = false;
        Ok(bytes.max(self.segment_bytes))
    }

    fn try_now(&mut self) {
        match prepare(&*self.disk, &self.directories, self.segment_bytes) {
            Ok(()) => {
                self.is_ready = true;
                self.has_room.store(true, Ordering::Relaxed);
            }
            Err(error) => note_no_room(&self.has_room, &error),
        }
    }
}

/// Makes the segment everywhere. Only a lack of room is an error: a directory that fails otherwise is found out when the
/// segment is put to use, and dropped if others are left.
fn prepare(disk: &dyn Disk, directories: &[PathBuf], bytes: u64) -> io::Result<()> {
    for directory in directories {
        match segment::prepare(disk, directory, bytes) {
            Err(error) if is_room_lacking(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, path = %directory.display(), "could not make the next segment of the log");
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

fn is_room_lacking(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn note_no_room(has_room: &AtomicBool, error: &io::Error) {
    if has_room.swap(false, Ordering::Relaxed) {
        tracing::error!(%error, "no room for the next segment of the log: changes are refused until there is");
    }
}
