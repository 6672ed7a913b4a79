//! How far a range of a block has been read. Does no I/O.

/// A range of a block, and how much of it has arrived and been verified. Offsets are in the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeProgress {
    begin: u64,
    end: u64,
    /// Up to here every byte was verified.
    verified: u64,
    /// Where the next part must begin; unknown before the first.
    next_part: Option<u64>,
    has_ended: bool,
}

impl RangeProgress {
    /// A range of which nothing has arrived.
    pub fn new(begin: u64, length: u64) -> Self {
        Self { begin, end: begin.saturating_add(length), verified: begin, next_part: None, has_ended: false }
    }

    /// First byte.
    pub fn begin(&self) -> u64 {
        self.begin
    }

    /// First byte behind.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Bytes from the begin that have arrived and been verified.
    pub fn verified_len(&self) -> u64 {
        self.verified.min(self.end) - self.begin
    }

    /// Whether all of it is there.
    pub fn is_complete(&self) -> bool {
        self.verified >= self.end
    }

    /// Whether the server has said that no part follows.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Whether a part at `offset`, made of chunks of `chunk_bytes`, continues this range.
    pub(super) fn accepts(&self, offset: u64, chunk_bytes: u64) -> bool {
        match self.next_part {
            Some(next) => offset == next,
            None => offset <= self.begin && self.begin - offset < chunk_bytes,
        }
    }

    /// All of it came by another way, verified.
    pub(crate) fn complete(&mut self) {
        (self.verified, self.has_ended) = (self.end, true);
    }

    pub(super) fn part_begins(&mut self, offset: u64, len: u64, is_last: bool) {
        self.next_part = Some(offset + len);
        self.has_ended = is_last;
    }

    pub(super) fn verify_up_to(&mut self, offset: u64) {
        self.verified = self.verified.max(offset);
    }
}
