//! The only place that names tokio-uring.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::rc::Rc;

use tokio_uring::buf::{BoundedBuf, IoBuf, Slice};

use ringfs_proto::buffer::AlignedBuffer;

/// A ring of this thread.
pub struct Ring {
    runtime: tokio_uring::Runtime,
    /// The segments that are written to, on descriptors of their own.
    segments: Vec<(RawFd, Rc<tokio_uring::fs::File>)>,
}

/// A buffer in the hands of the kernel, for one write or for the same write to several files.
#[derive(Clone)]
struct Lent(Rc<AlignedBuffer>);

// SAFETY: the buffer's memory does not move when the buffer does, `as_ref().len()` bytes of it are initialised, and
// nobody changes it while it is shared.
unsafe impl IoBuf for Lent {
    fn stable_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    fn bytes_init(&self) -> usize {
        (*self.0).as_ref().len()
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
        Ok(Self { runtime, segments: Vec::new() })
    }

    /// Closes what it holds of the segments that were written to before: their descriptors may be given to others.
    pub fn forget_segments(&mut self) {
        for (_, file) in self.segments.drain(..) {
            if let Ok(file) = Rc::try_unwrap(file) {
                // What is in the file is on stable storage; there is nothing to learn from closing it.
                let _closed = self.runtime.block_on(file.close());
            }
        }
    }

    /// Writes the whole buffer to each file; all writes are in flight together.
    pub fn write_all_at(
        &mut self,
        descriptors: &[BorrowedFd<'_>],
        buffer: AlignedBuffer,
        offset: u64,
    ) -> (Vec<io::Result<()>>, AlignedBuffer) {
        let files: Vec<_> = descriptors.iter().map(|descriptor| self.segment(*descriptor)).collect();
        let lent = Lent(Rc::new(buffer));
        let results = self.runtime.block_on(write_to_all(files, lent.clone(), offset));
        // Every write has given its part back; a buffer that is still shared would be a defect of the ring.
        let buffer = Rc::try_unwrap(lent.0).unwrap_or_else(|_| AlignedBuffer::empty());
        (results, buffer)
    }

    fn segment(&mut self, descriptor: BorrowedFd<'_>) -> io::Result<Rc<tokio_uring::fs::File>> {
        let number = descriptor.as_raw_fd();
        if let Some((_, file)) = self.segments.iter().find(|(other, _)| *other == number) {
            return Ok(file.clone());
        }
        let file = Rc::new(tokio_uring::fs::File::from_std(File::from(descriptor.try_clone_to_owned()?)));
        self.segments.push((number, file.clone()));
        Ok(file)
    }
}

async fn write_to_all(
    files: Vec<io::Result<Rc<tokio_uring::fs::File>>>,
    lent: Lent,
    offset: u64,
) -> Vec<io::Result<()>> {
    let write = |file: io::Result<Rc<tokio_uring::fs::File>>| {
        let lent = lent.clone();
        tokio_uring::spawn(async move {
            let file = file?;
            write_all(&file, lent, offset).await
        })
    };
    if let [Ok(only)] = files.as_slice() {
        return vec![write_all(only, lent.clone(), offset).await];
    }
    let writes: Vec<_> = files.into_iter().map(write).collect();
    let mut results = Vec::with_capacity(writes.len());
    for write in writes {
        results.push(write.await.unwrap_or_else(|error| Err(io::Error::other(error))));
    }
    results
}

async fn write_all(file: &tokio_uring::fs::File, lent: Lent, mut offset: u64) -> io::Result<()> {
    let mut slice: Slice<Lent> = lent.slice_full();
    while slice.bytes_init() > 0 {
        let (result, returned) = file.write_at(slice, offset).submit().await;
        match result {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(len) => {
                offset += len as u64;
                let (begin, end) = (returned.begin() + len, returned.end());
                if begin == end {
                    return Ok(());
                }
                slice = returned.into_inner().slice(begin..end);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => slice = returned,
            Err(error) => return Err(error),
        }
    }
    Ok(())
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
