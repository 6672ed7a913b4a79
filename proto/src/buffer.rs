//! Memory for direct I/O: aligned, owned, given to the kernel by value. Shared by the log and the block store.

#![allow(unsafe_code, reason = "memory of a chosen alignment")]

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// Alignment of addresses, offsets and lengths of direct writes.
pub const ALIGN: usize = 4096;

/// Zeroed memory whose address and capacity are multiples of [`ALIGN`].
#[derive(Debug)]
pub struct AlignedBuffer {
    memory: NonNull<u8>,
    capacity: usize,
    len: usize,
}

// SAFETY: the buffer owns its memory alone.
unsafe impl Send for AlignedBuffer {}

impl AlignedBuffer {
    /// A buffer for at least `capacity` bytes, with length 0.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1).next_multiple_of(ALIGN);
        // SAFETY: the layout has a size above 0.
        let memory = unsafe { alloc_zeroed(layout(capacity)) };
        let memory = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout(capacity)));
        Self { memory, capacity, len: 0 }
    }

    /// A buffer that holds as little as can be, to stand where one was taken.
    pub fn empty() -> Self {
        Self::new(0)
    }

    /// Bytes that it can hold.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Sets the length; bytes above the old one are zero or what was there before.
    ///
    /// # Panics
    /// If `len` exceeds the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity);
        self.len = len;
    }

    /// Appends bytes, growing when needed.
    pub fn extend(&mut self, bytes: &[u8]) {
        let begin = self.len;
        self.grow(begin + bytes.len());
        self.len = begin + bytes.len();
        self.as_mut()[begin..].copy_from_slice(bytes);
    }

    /// Appends zeros up to a multiple of [`ALIGN`].
    pub fn pad(&mut self) {
        let begin = self.len;
        self.len = begin.next_multiple_of(ALIGN);
        self.as_mut()[begin..].fill(0);
    }

    /// Address of the memory, for the kernel.
    pub fn as_ptr(&self) -> *const u8 {
        self.memory.as_ptr()
    }

    fn grow(&mut self, needed: usize) {
        if needed > self.capacity {
            let mut larger = Self::new(needed.max(self.capacity * 2));
            larger.len = self.len;
            larger.as_mut().copy_from_slice(self.as_ref());
            *self = larger;
        }
    }
}

impl AsRef<[u8]> for AlignedBuffer {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the memory is owned, initialised (zeroed at first) and at least `len` long.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.len) }
    }
}

impl AsMut<[u8]> for AlignedBuffer {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_ref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBuffer {
    fn drop(&mut self) {
        // SAFETY: the memory was allocated with this layout in `new`.
        unsafe { dealloc(self.memory.as_ptr(), layout(self.capacity)) };
    }
}

fn layout(capacity: usize) -> Layout {
    Layout::from_size_align(capacity, ALIGN).expect("capacities are far below isize::MAX")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_survives_growth_and_padding_is_zero() {
        let mut buffer = AlignedBuffer::new(1);
        for byte in 0..=255u8 {
            buffer.extend(&[byte; 100]);
        }
        buffer.pad();
        assert_eq!(buffer.as_ptr() as usize % ALIGN, 0);
        assert_eq!(buffer.as_ref().len() % ALIGN, 0);
        assert!(
            buffer.as_ref()[..25_600].chunks(100).enumerate().all(|(at, chunk)| chunk == [at as u8; 100])
        );
        assert!(buffer.as_ref()[25_600..].iter().all(|byte| *byte == 0));
    }
}
