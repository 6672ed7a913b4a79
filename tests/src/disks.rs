//! Small disks of a test: ext4 on a file, mounted. They can be filled to the last byte.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const BALLAST: &str = "ballast";
/// What a filled disk still has: less than any block file asks for.
const LEFT_BYTES: u64 = 64 << 10;
/// How often it is asked for what is left when others took some of it meanwhile.
const FILL_TRIES_MAX: usize = 16;
/// What the operating system counts the blocks of a file in.
const SECTOR_BYTES: u64 = 512;

/// A mounted disk; gone when dropped.
#[derive(Debug)]
pub struct Disk {
    mount: PathBuf,
}

impl Disk {
    /// Makes a disk of so many bytes and mounts it at `mount`; its image lies beside it.
    ///
    /// # Errors
    /// What is missing: root, loop devices, `mkfs.ext4`. A test then says so loudly and ends.
    pub fn new(mount: &Path, bytes: u64) -> Result<Self, String> {
        let image = mount.with_extension("image");
        let make = || -> io::Result<()> {
            fs::create_dir_all(mount)?;
            File::create(&image)?.set_len(bytes)
        };
        make().map_err(|error| format!("make {}: {error}", image.display()))?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        // Without a journal of its own and without reserved blocks: small, and as fast as its file.
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-O", "^has_journal", &text(&image)])?;
        run("mount", &["-o", "loop", &text(&image), &text(mount)])?;
        Ok(Self { mount: mount.to_owned() })
    }

    /// Takes all free room, also while others write: what they take in between is asked for again.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn fill(&self) -> io::Result<()> {
        let ballast = File::create(self.mount.join(BALLAST))?;
        let mut filled = Ok(());
        for _ in 0..FILL_TRIES_MAX {
            let space = nix::sys::statvfs::statvfs(&self.mount)?;
            let free = space.blocks_available() * space.fragment_size();
            let taken = ballast.metadata()?.blocks() * SECTOR_BYTES;
            let len = (taken + free.saturating_sub(LEFT_BYTES)).max(SECTOR_BYTES);
            let len = i64::try_from(len).map_err(io::Error::other)?;
            filled = nix::fcntl::posix_fallocate(&ballast, 0, len);
            if filled != Err(nix::errno::Errno::ENOSPC) {
                break;
            }
        }
        Ok(filled?)
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn free(&self) -> io::Result<()> {
        fs::remove_file(self.mount.join(BALLAST))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A process that was killed a moment ago may still hold it: the mount goes when the last one lets go.
        let _gone = run("umount", &["-l", &self.mount.to_string_lossy()]);
    }
}

fn run(program: &str, words: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("run {program}: {error}"))?;
    let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{program} {}: {error}", words.join(" "))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filled_disk_has_no_room_until_it_is_freed() {
        let temp = tempfile::tempdir().expect("temporary directory");
        let disk = match Disk::new(&temp.path().join("disk"), 16 << 20) {
            Ok(disk) => disk,
            Err(missing) => return println!("SKIPPED: {missing}"),
        };
        let write = || fs::write(temp.path().join("disk/file"), vec![1; 1 << 20]);
        write().expect("room");
        disk.fill().expect("filled");
        fs::remove_file(temp.path().join("disk/file")).expect("removed");
        disk.fill().expect("filled again");
        assert_eq!(write().expect_err("no room").raw_os_error(), Some(libc::ENOSPC));
        disk.free().expect("freed");
        write().expect("room again");
    }
}
