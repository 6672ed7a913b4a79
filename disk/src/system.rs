//! The file systems of this machine.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, OFlag, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::sys::statvfs::statvfs;

use super::{Create, Disk, DiskFile, DiskLock, OpenOptions, Space};

const MODE: u32 = 0o600;
/// How long a lock that is held is asked for again.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// The file systems of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(open(path, options)?))
    }

    fn rename(&self, source: &Path, target: &Path) -> io::Result<()> {
        fs::rename(source, target)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_directories(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<fs::DirEntry>| {
            entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
        };
        let mut names: Vec<String> = fs::read_dir(path)?.map(name).collect::<io::Result<_>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = statvfs(path)?;
        Ok(Space {
            capacity_bytes: stat.blocks() * stat.fragment_size(),
            free_bytes: stat.blocks_available() * stat.fragment_size(),
        })
    }

    /// A process that was killed holds its lock for a moment longer, until its last thread is gone: it is asked for again.
    fn lock(&self, path: &Path) -> io::Result<DiskLock> {
        let mut file = open(path, OpenOptions::WRITE.create(Create::IfMissing))?;
        let begin = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Box::new(lock)),
                Err((held, Errno::EWOULDBLOCK)) if begin.elapsed() <= LOCK_PATIENCE => file = held,
                Err((_, errno)) => return Err(errno.into()),
            }
            std::thread::park_timeout(LOCK_PAUSE);
        }
    }
}

fn open(path: &Path, options: OpenOptions) -> io::Result<File> {
    let mut flags = OFlag::empty();
    flags.set(OFlag::O_DIRECT, options.is_direct);
    flags.set(OFlag::O_DSYNC, options.is_synced);
    let (is_made, is_emptied, is_new) = match options.create {
        Create::Existing => (false, false, false),
        Create::IfMissing => (true, false, false),
        Create::Empty => (true, true, false),
        Create::New => (true, false, true),
    };
    let mut open = fs::OpenOptions::new();
    open.read(options.read).write(options.write).create(is_made).truncate(is_emptied).create_new(is_new);
    open.mode(MODE).custom_flags(flags.bits()).open(path)
}

impl DiskFile for File {
    fn read_at(&self, target: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, target, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn allocate(&self, len: u64, keep_len: bool) -> io::Result<()> {
        let mut flags = FallocateFlags::empty();
        flags.set(FallocateFlags::FALLOC_FL_KEEP_SIZE, keep_len);
        fallocate(self, flags, 0, i64::try_from(len).map_err(io::Error::other)?).map_err(io::Error::from)
    }

    fn len(&self) -> io::Result<u64> {
        self.metadata().map(|metadata| metadata.len())
    }

    fn drop_cache(&self) {
        let _hint = posix_fadvise(self, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> io::ErrorKind {
        result.expect_err("refused").kind()
    }

    #[test]
    fn files_are_made_as_asked() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let (disk, path) = (SystemDisk, temp.path().join("file"));
        let open = |create| disk.open(&path, OpenOptions::READ_WRITE.create(create)).map(drop);
        assert_eq!(kind(open(Create::Existing)), io::ErrorKind::NotFound);
        open(Create::New).expect("made");
        assert_eq!(kind(open(Create::New)), io::ErrorKind::AlreadyExists);
        disk.open(&path, OpenOptions::WRITE).expect("opened").write_all_at(b"abc", 0).expect("written");
        open(Create::IfMissing).expect("kept");
        assert_eq!(disk.read(&path).expect("read"), b"abc");
        open(Create::Empty).expect("emptied");
        assert_eq!(disk.read_to_string(&path).expect("read"), "");
    }

    #[test]
    fn bytes_are_where_they_were_written() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let path = temp.path().join("file");
        let options = OpenOptions::READ_WRITE.create(Create::New).synced();
        let file = SystemDisk.open(&path, options).expect("made");
        file.write_all_at(b"end", 5).expect("written");
        let mut bytes = [9; 10];
        assert_eq!(file.read_full_at(&mut bytes, 0).expect("read"), 8);
        assert_eq!(&bytes[..8], b"\0\0\0\0\0end");
        assert_eq!(kind(file.read_exact_at(&mut bytes, 0)), io::ErrorKind::UnexpectedEof);
        file.allocate(100, true).expect("room");
        assert_eq!(file.len().expect("length"), 8);
        file.allocate(100, false).expect("room");
        assert_eq!(file.len().expect("length"), 100);
        file.set_len(6).expect("cut");
        (file.sync_data().and_then(|()| file.sync_all())).expect("synced");
        file.drop_cache();
        assert_eq!(SystemDisk.read(&path).expect("read"), b"\0\0\0\0\0e");
        assert!(file.descriptor().is_some());
    }

    #[test]
    fn names_change_and_are_listed_in_order() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let (disk, root) = (SystemDisk, temp.path().join("a/b"));
        assert_eq!(kind(disk.list(&root)), io::ErrorKind::NotFound);
        disk.create_directories(&root).expect("made");
        disk.create_directories(&root).expect("there already");
        for name in ["two.toml", "one.toml", "three.toml"] {
            disk.write_durably(&root.join(name), name.as_bytes()).expect("written");
        }
        disk.write_durably(&root.join("one.toml"), b"1").expect("replaced");
        disk.rename(&root.join("one.toml"), &root.join("two.toml")).expect("renamed");
        assert_eq!(disk.list(&root).expect("listed"), ["three.toml", "two.toml"]);
        assert_eq!(disk.read(&root.join("two.toml")).expect("read"), b"1");
        disk.remove(&root.join("two.toml")).expect("removed");
        assert!(!disk.exists(&root.join("two.toml")));
        assert_eq!(kind(disk.remove(&root.join("two.toml"))), io::ErrorKind::NotFound);
        let space = disk.space(&root).expect("space");
        assert!(space.free_bytes <= space.capacity_bytes);
    }

    #[test]
    fn a_lock_has_one_holder() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let path = temp.path().join("lock");
        let held = SystemDisk.lock(&path).expect("locked");
        assert_eq!(kind(SystemDisk.lock(&path).map(|_lock| ())), io::ErrorKind::WouldBlock);
        drop(held);
        assert!(SystemDisk.lock(&path).is_ok());
    }
}
