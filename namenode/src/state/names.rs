//! Names of files and directories, as bytes in large chunks. A freed name's place goes to the next of its length.

use ringfs_proto::limits::NAME_BYTES_MAX;

const CHUNK_BYTES: usize = 1 << 20;

/// Where a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Name {
    offset: u32,
    len: u8,
}

impl Name {
    /// The empty name of the root.
    pub const EMPTY: Name = Name { offset: 0, len: 0 };
}

/// All names.
#[derive(Debug)]
pub struct Names {
    chunks: Vec<Vec<u8>>,
    free_by_len: Vec<Vec<u32>>,
    /// Names that are freed while a snapshot is taken stay as they are until its end.
    parked: Option<Vec<Name>>,
}

impl Default for Names {
    fn default() -> Self {
        Self { chunks: Vec::new(), free_by_len: vec![Vec::new(); NAME_BYTES_MAX + 1], parked: None }
    }
}

impl Names {
    /// Stores a name of 1 to 255 bytes.
    ///
    /// # Panics
    /// If the name is longer, or beyond 4 GiB of names.
    pub fn insert(&mut self, name: &str) -> Name {
        let len = u8::try_from(name.len()).expect("names are checked at the boundary");
        if let Some(offset) = self.free_by_len[name.len()].pop() {
            let at = offset as usize % CHUNK_BYTES;
            self.chunks[offset as usize / CHUNK_BYTES][at..at + name.len()].copy_from_slice(name.as_bytes());
            return Name { offset, len };
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() + name.len() > CHUNK_BYTES) {
            self.chunks.push(Vec::with_capacity(CHUNK_BYTES));
        }
        let chunk_index = self.chunks.len() - 1;
        let chunk = &mut self.chunks[chunk_index];
        let offset = chunk_index * CHUNK_BYTES + chunk.len();
        chunk.extend_from_slice(name.as_bytes());
        Name { offset: u32::try_from(offset).expect("less than 4 GiB of names"), len }
    }

    /// Frees a name.
    pub fn remove(&mut self, name: Name) {
        match &mut self.parked {
            Some(parked) => parked.push(name),
            None if name.len > 0 => self.free_by_len[name.len as usize].push(name.offset),
            None => {}
        }
    }

    /// From now on, the bytes of names stay.
    pub fn begin_snapshot(&mut self) {
        self.parked = Some(Vec::new());
    }

    /// Places of names that were freed meanwhile may be used again.
    pub fn end_snapshot(&mut self) {
        for name in self.parked.take().unwrap_or_default() {
            self.remove(name);
        }
    }

    /// The bytes of a name. Their order is the order of listings.
    pub fn get(&self, name: Name) -> &[u8] {
        if name.len == 0 {
            return b"";
        }
        let at = name.offset as usize % CHUNK_BYTES;
        &self.chunks[name.offset as usize / CHUNK_BYTES][at..at + name.len as usize]
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        let free: usize = self.free_by_len.iter().map(|free| free.capacity() * size_of::<u32>()).sum();
        self.chunks.len() * CHUNK_BYTES + free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_reused_by_length() {
        let mut names = Names::default();
        let first = names.insert("first");
        let other = names.insert("other name");
        names.remove(first);
        assert_eq!(names.insert("again"), first);
        assert_eq!(names.get(first), b"again");
        assert_eq!(names.get(other), b"other name");
        assert_eq!(names.get(Name::EMPTY), b"");
    }
}
