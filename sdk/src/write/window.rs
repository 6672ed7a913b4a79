//! Which packets of a pipeline are under way: sequence numbers, bytes, acknowledgements. Does no I/O.

use std::collections::VecDeque;

use ringfs_proto::meta::data::WriteAckV1;

/// The packets of one block that are not acknowledged yet, bounded by their bytes.
#[derive(Debug)]
pub(crate) struct Window {
    bytes_max: usize,
    bytes: usize,
    /// Lengths of the packets under way; the first has sequence `first`.
    packets: VecDeque<usize>,
    first: u64,
    acked_length: u64,
    synced_length: u64,
    is_finalized: bool,
}

/// An acknowledgement that contradicts what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "acknowledgement of packet {sequence} with {length} bytes: expected packets {first} to {last}, at most {sent} bytes"
)]
pub(crate) struct AckError {
    sequence: u64,
    length: u64,
    first: u64,
    last: u64,
    sent: u64,
}

impl Window {
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            packets: VecDeque::new(),
            first: 0,
            acked_length: 0,
            synced_length: 0,
            is_finalized: false,
        }
    }

    /// Whether a packet of `len` bytes may be sent now. One may always be under way.
    pub fn has_room(&self, len: usize) -> bool {
        self.packets.is_empty() || self.bytes + len <= self.bytes_max
    }

    /// Notes a packet that is sent; returns its sequence.
    pub fn send(&mut self, len: usize) -> u64 {
        self.packets.push_back(len);
        self.bytes += len;
        self.first + self.packets.len() as u64 - 1
    }

    /// The sequence that the next packet will have.
    pub fn next_sequence(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    /// Takes an acknowledgement; `sent` is the length of the block so far.
    ///
    /// # Errors
    /// [`AckError`]: the peer is broken.
    pub fn ack(&mut self, ack: &WriteAckV1, sent: u64) -> Result<(), AckError> {
        let next = self.next_sequence();
        if ack.sequence >= next || ack.length > sent || ack.synced_length > ack.length {
            let (sequence, length, first, last) =
                (ack.sequence, ack.length, self.first, next.saturating_sub(1));
            return Err(AckError { sequence, length, first, last, sent });
        }
        while self.first <= ack.sequence
            && let Some(len) = self.packets.pop_front()
        {
            self.bytes -= len;
            self.first += 1;
        }
        self.acked_length = self.acked_length.max(ack.length);
        self.synced_length = self.synced_length.max(ack.synced_length);
        self.is_finalized |= ack.is_finalized;
        Ok(())
    }

    /// Whether every packet is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Bytes of the block that every node of the pipeline has.
    pub fn acked_length(&self) -> u64 {
        self.acked_length
    }

    /// Bytes of the block that are on stable storage of every node.
    pub fn synced_length(&self) -> u64 {
        self.synced_length
    }

    /// Whether the block is finalized on every node.
    pub fn is_finalized(&self) -> bool {
        self.is_finalized
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ack(sequence: u64, length: u64) -> WriteAckV1 {
        WriteAckV1 { sequence, length, synced_length: 0, is_finalized: false, code: 0, failed_node: 0 }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn bytes_under_way_never_exceed_the_window(
            steps in proptest::collection::vec((1usize..300, 0u64..8), 1..80),
        ) {
            let mut window = Window::new(1000);
            let (mut sent, mut lengths) = (0u64, Vec::new());
            for (len, acked) in steps {
                if window.has_room(len) {
                    prop_assert_eq!(window.send(len), lengths.len() as u64);
                    sent += len as u64;
                    lengths.push(sent);
                }
                prop_assert!(window.bytes <= 1000);
                let sequence = (window.first + acked).min(window.next_sequence() - 1);
                prop_assert_eq!(window.ack(&ack(sequence, lengths[sequence as usize]), sent), Ok(()));
                let after: usize = window.packets.iter().sum();
                prop_assert_eq!(window.bytes, after);
                prop_assert_eq!(window.acked_length() + after as u64, sent);
            }
        }
    }

    #[test]
    fn acknowledgements_of_what_was_not_sent_are_refused() {
        let mut window = Window::new(1000);
        assert!(window.ack(&ack(0, 0), 0).is_err());
        window.send(10);
        assert!(window.ack(&ack(1, 10), 10).is_err());
        assert!(window.ack(&ack(0, 11), 10).is_err());
        assert_eq!(window.ack(&ack(0, 10), 10), Ok(()));
        assert_eq!(window.ack(&ack(0, 10), 10), Ok(()), "a repeated one changes nothing");
        assert!(window.is_empty());
    }
}
