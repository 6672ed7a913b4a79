//! The only place that names tokio-uring.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

use tokio_uring::buf::{BoundedBuf, IoBuf, Slice};

use ringfs_proto::buffer::AlignedBuffer;

/// A ring of this thread.
pub struct Ring {
    runtime: tokio_uring::Runtime,
    /// The segment that is written to, on a descriptor of its own.
    segment: Option<(RawFd, tokio_uring::fs::File)>,
}

/// A buffer in the hands of the kernel.
struct Lent(AlignedBuffer);

// SAFETY: the buffer's memory does not move when the buffer does, and `as_ref().len()` bytes of it are initialised.
unsafe impl IoBuf for Lent {
    fn stable_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.as_ref().len()
    }

    fn bytes_total(&self) -> usize {
        self.0.capacity()
    }
}

impl Ring {
    /// Sets a ring up; fails where the kernel or the container forbids it.
    pub fn new() -> io::Result<Self> {
        // The runtime's constructor panics on some failures of its own; a bare ring says politely what is forbidden.
        probe()?;
        let runtime = tokio_uring::Runtime::new(&tokio_uring::builder())?;
        Ok(Self { runtime, segment: None })
    }

    /// Closes what it holds of the segment that was written to before: its descriptor may be given to another.
    pub fn forget_segment(&mut self) {
        if let Some((_, file)) = self.segment.take() {
            // What is in the file is on stable storage; there is nothing to learn from closing it.
            let _closed = self.runtime.block_on(file.close());
        }
    }

    /// Writes the whole buffer.
    pub fn write_all_at(
        &mut self,
        file: &File,
        buffer: AlignedBuffer,
        offset: u64,
    ) -> (io::Result<()>, AlignedBuffer) {
        let ring_file = match self.segment.take() {
            Some((descriptor, ring_file)) if descriptor == file.as_raw_fd() => ring_file,
            _ => match file.try_clone() {
                Ok(clone) => tokio_uring::fs::File::from_std(clone),
                Err(error) => return (Err(error), buffer),
            },
        };
        let written = self.runtime.block_on(write_all(&ring_file, buffer, offset));
        self.segment = Some((file.as_raw_fd(), ring_file));
        written
    }
}

async fn write_all(
    file: &tokio_uring::fs::File,
    buffer: AlignedBuffer,
    mut offset: u64,
) -> (io::Result<()>, AlignedBuffer) {
    let mut slice: Slice<Lent> = Lent(buffer).slice_full();
    while slice.bytes_init() > 0 {
        let (result, returned) = file.write_at(slice, offset).submit().await;
        match result {
            Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), returned.into_inner().0),
            Ok(len) => {
                offset += len as u64;
                let (begin, end) = (returned.begin() + len, returned.end());
                let lent = returned.into_inner();
                if begin == end {
                    return (Ok(()), lent.0);
                }
                slice = lent.slice(begin..end);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => slice = returned,
            Err(error) => return (Err(error), returned.into_inner().0),
        }
    }
    (Ok(()), slice.into_inner().0)
}

fn probe() -> io::Result<()> {
    let mut params = [0u8; 120];
    // SAFETY: the kernel fills at most the 120 bytes of `struct io_uring_params`.
    let descriptor = unsafe { libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr()) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the descriptor was just made and nobody else has it.
    drop(unsafe { std::os::fd::OwnedFd::from_raw_fd(descriptor) });
    Ok(())
}
