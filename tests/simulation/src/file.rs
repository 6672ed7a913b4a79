//! What is known of the content of a file.

/// Bytes of a file, from an offset on, that are those of another from an offset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    at: u64,
    number: u64,
    from: u64,
}

/// What is known of a file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct File {
    /// Bytes that were handed to the client.
    pub written: u64,
    /// Bytes that were acknowledged by `hflush`, and survive the death of every process.
    pub flushed: u64,
    /// What was flushed and not synced outlives its power cut on other datanodes only.
    pub is_weak: bool,
    /// Bytes at the last `hflush` or `hsync` that was answered: without new ones the next says nothing new.
    pub asked: u64,
    /// Power cuts of datanodes before the first byte behind `asked` was handed over.
    pub power_cuts_before: u64,
    /// Bytes that were acknowledged by `hsync`, and survive power cuts.
    pub synced: u64,
    /// Its length, once somebody was told that it is closed.
    pub closed: Option<u64>,
    /// It may be closed with all that was written: nobody was told.
    pub may_be_closed: bool,
    /// Its writer holds it open.
    pub has_writer: bool,
    /// The worker that writes it.
    pub worker: usize,
    /// It is being cut to this length, or will be: until then it is as before, and nobody is told when.
    pub cut_to: Option<u64>,
    /// Bytes per block.
    pub block_size: u64,
    /// Where its bytes are not its own, in order of their places.
    pieces: Vec<Piece>,
}

impl File {
    /// `len` more bytes are handed to its writer, after so many power cuts.
    pub fn is_handed(&mut self, len: u64, power_cuts: u64) {
        if self.written <= self.asked {
            self.power_cuts_before = power_cuts;
        }
        self.written += len;
    }

    /// `hflush` was acknowledged, after so many power cuts. Without new bytes no datanode was asked, and what a power cut
    /// took is not back; nor is it when the power was cut since they were handed over: the datanodes may have
    /// acknowledged them before.
    pub fn has_flushed(&mut self, power_cuts: u64) {
        if self.written > self.asked {
            self.asked = self.written;
            if power_cuts == self.power_cuts_before {
                (self.flushed, self.is_weak) = (self.written, false);
            }
        }
    }

    /// It is closed with this length.
    pub fn has_closed(&mut self, length: u64) {
        (self.closed, self.synced, self.flushed, self.asked) = (Some(length), length, length, length);
        self.is_weak = false;
    }

    /// It may be cut to `length` now, or later.
    pub fn is_cut(&mut self, length: u64) {
        self.closed = None;
        self.cut_to = Some(length);
        (self.synced, self.flushed) = (self.synced.min(length), self.flushed.min(length));
    }

    /// It is open again, and what is written from now on is its own.
    pub fn is_reopened(&mut self, number: u64, length: u64) {
        (self.written, self.has_writer, self.may_be_closed) = (length, true, false);
        self.pieces.retain(|piece| piece.at < length);
        if !self.pieces.is_empty() {
            self.pieces.push(Piece { at: length, number, from: length });
        }
    }

    /// The byte of the file of this number at an offset.
    pub fn byte(&self, number: u64, offset: u64) -> u8 {
        match self.pieces.iter().rfind(|piece| piece.at <= offset) {
            Some(piece) => byte_of(piece.number, piece.from + (offset - piece.at)),
            None => byte_of(number, offset),
        }
    }

    /// Bytes of the file of this number.
    pub fn bytes(&self, number: u64, offset: u64, len: usize) -> Vec<u8> {
        (offset..offset + len as u64).map(|at| self.byte(number, at)).collect()
    }

    /// Bytes of the file of `number` go behind what is here.
    pub fn join(&mut self, number: u64, file: &File) {
        let (at, length) = (self.written, file.closed.unwrap_or(0));
        let own = [Piece { at: 0, number, from: 0 }];
        let pieces = if file.pieces.is_empty() { &own[..] } else { &file.pieces };
        let inside = pieces.iter().filter(|piece| piece.at < length);
        self.pieces.extend(inside.map(|piece| Piece { at: at + piece.at, ..*piece }));
        self.written += length;
    }

    /// It may be open again, behind its end.
    pub fn is_appended(&mut self) {
        if let Some(length) = self.closed.take() {
            (self.synced, self.flushed, self.asked) = (length, length, length);
        }
        self.may_be_closed = true;
    }

    /// `hsync` was acknowledged.
    pub fn has_synced(&mut self) {
        (self.flushed, self.synced, self.asked) = (self.written, self.written, self.written);
    }
}

/// A byte of a file that was written at an offset: no other file has the same bytes.
fn byte_of(number: u64, offset: u64) -> u8 {
    let mixed = (number << 32 | offset >> 3).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> (8 * (offset & 7))) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_joined_file_has_the_bytes_of_its_parts() {
        let closed = |length| File { closed: Some(length), ..File::default() };
        let mut joined = File::default();
        [(1, 10), (2, 20)].iter().for_each(|(number, length)| joined.join(*number, &closed(*length)));
        assert_eq!(joined.written, 30);
        let expected = [File::default().bytes(1, 5, 5), File::default().bytes(2, 0, 20)].concat();
        assert_eq!(joined.bytes(3, 5, 25), expected);
        joined.is_reopened(3, 12);
        let expected = [File::default().bytes(2, 0, 2), File::default().bytes(3, 12, 3)].concat();
        assert_eq!(joined.bytes(3, 10, 5), expected);
        joined.closed = Some(15);
        let mut twice = File::default();
        [(3, &joined), (3, &joined)].iter().for_each(|(number, file)| twice.join(*number, file));
        assert_eq!(twice.bytes(4, 15, 15), joined.bytes(3, 0, 15));
    }
}
