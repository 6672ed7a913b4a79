//! Which packets of a block are under way: their bytes until they are acknowledged, sequence numbers, acknowledgements.
//! Does no I/O.
//!
//! A packet is kept until every node of the pipeline has it, so that it can be sent again over another pipeline. Its memory
//! is then used for a later packet: a writer allocates while its window fills for the first time, and not after.

use std::collections::VecDeque;

use ringfs_proto::meta::data::{WriteAckV1, WritePacketV1, packet_flags};

use super::checksums::compute_checksums;

/// A packet that is not acknowledged.
#[derive(Debug, Default)]
struct Packet {
    /// First byte in the block.
    offset: u64,
    flags: u8,
    data: Vec<u8>,
    checksums: Vec<u8>,
}

impl Packet {
    fn end(&self) -> u64 {
        self.offset + self.data.len() as u64
    }
}

/// A packet as it is to be sent.
#[derive(Debug)]
pub(super) struct Outgoing<'w> {
    pub head: WritePacketV1,
    pub checksums: &'w [u8],
    pub data: &'w [u8],
}

/// The packets of one block that are not acknowledged yet, bounded by their bytes.
#[derive(Debug)]
pub(super) struct Window {
    bytes_max: usize,
    bytes: usize,
    /// The first has sequence `first` on the present pipeline.
    packets: VecDeque<Packet>,
    /// How many of them were sent over the present pipeline.
    sent: usize,
    first: u64,
    /// Bytes of the block so far.
    length: u64,
    acked_length: u64,
    synced_length: u64,
    is_finalized: bool,
    /// Memory of packets that were acknowledged; at most what the window held at once.
    spare: Vec<Packet>,
}

/// An acknowledgement that contradicts what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "acknowledgement of packet {sequence} with {length} bytes: expected packets {first} to {last}, at most {sent} bytes"
)]
pub(super) struct AckError {
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
            sent: 0,
            first: 0,
            length: 0,
            acked_length: 0,
            synced_length: 0,
            is_finalized: false,
            spare: Vec::new(),
        }
    }

    /// Begins a block; the memory stays.
    pub fn begin_block(&mut self) {
        while let Some(packet) = self.packets.pop_front() {
            self.spare.push(packet);
        }
        (self.bytes, self.sent, self.first) = (0, 0, 0);
        (self.length, self.acked_length, self.synced_length) = (0, 0, 0);
        self.is_finalized = false;
    }

    /// Begins behind the bytes of a block that every node of its pipeline has.
    pub fn begin_at(&mut self, length: u64) {
        self.begin_block();
        (self.length, self.acked_length) = (length, length);
    }

    /// Whether a packet of `len` bytes may be added now. One may always be under way.
    pub fn has_room(&self, len: usize) -> bool {
        self.packets.is_empty() || self.bytes + len <= self.bytes_max
    }

    /// Adds the next packet of the block. `data` is exchanged for empty memory that was used before.
    pub fn push(&mut self, data: &mut Vec<u8>, flags: u8) {
        let mut packet = self.spare.pop().unwrap_or_default();
        packet.data.clear();
        std::mem::swap(&mut packet.data, data);
        (packet.offset, packet.flags) = (self.length, flags);
        compute_checksums(packet.offset, &packet.data, &mut packet.checksums);
        self.bytes += packet.data.len();
        self.length = packet.end();
        self.packets.push_back(packet);
    }

    /// The next packet that was not sent over the present pipeline.
    pub fn unsent(&self) -> Option<Outgoing<'_>> {
        let Packet { offset, flags, data, checksums } = self.packets.get(self.sent)?;
        let head = WritePacketV1 {
            sequence: self.first + self.sent as u64,
            offset: *offset,
            checksums_len: checksums.len() as u32,
            data_len: data.len() as u32,
            flags: *flags,
        };
        Some(Outgoing { head, checksums, data })
    }

    /// Notes that the packet which [`Self::unsent`] gave is sent.
    pub fn mark_sent(&mut self) {
        self.sent = self.packets.len().min(self.sent + 1);
    }

    /// Takes an acknowledgement. Returns whether it acknowledged anything new.
    ///
    /// # Errors
    /// [`AckError`]: the peer is broken.
    pub fn ack(&mut self, ack: &WriteAckV1) -> Result<bool, AckError> {
        let next = self.first + self.sent as u64;
        let last_acked = ack.sequence.checked_sub(self.first).map(|index| index as usize);
        let acked_end = last_acked.and_then(|index| Some(self.packets.get(index)?.end()));
        let sent = self.sent_length();
        let is_possible = ack.sequence < next
            && (acked_end.unwrap_or(0)..=sent).contains(&ack.length)
            && ack.synced_length <= ack.length;
        if !is_possible {
            let (sequence, length, first, last) =
                (ack.sequence, ack.length, self.first, next.saturating_sub(1));
            return Err(AckError { sequence, length, first, last, sent });
        }
        let has_news = last_acked.is_some();
        for _ in 0..last_acked.map_or(0, |index| index + 1) {
            let Some(packet) = self.packets.pop_front() else { break };
            self.acked_length = self.acked_length.max(packet.end());
            self.bytes -= packet.data.len();
            self.first += 1;
            self.sent -= 1;
            self.spare.push(packet);
        }
        self.synced_length = self.synced_length.max(ack.synced_length);
        self.is_finalized |= ack.is_finalized;
        Ok(has_news)
    }

    /// Another pipeline takes over, whose nodes have the bytes that were acknowledged: everything else is sent again.
    ///
    /// What was on stable storage of the old pipeline is brought there on the new one too, before anything else.
    pub fn rewind(&mut self) {
        (self.sent, self.first) = (0, 0);
        if std::mem::take(&mut self.synced_length) == 0 {
            return;
        }
        if self.packets.is_empty() {
            self.push(&mut Vec::new(), 0);
        }
        if let Some(packet) = self.packets.front_mut() {
            packet.flags |= packet_flags::SYNC;
        }
    }

    /// Whether every packet is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Whether every packet was sent.
    pub fn is_sent(&self) -> bool {
        self.sent == self.packets.len()
    }

    /// Bytes of the block so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of the block that every node of the pipeline has: the packets behind are kept here.
    pub fn acked_length(&self) -> u64 {
        self.acked_length
    }

    /// Whether all bytes so far are on stable storage of every node.
    pub fn is_synced(&self) -> bool {
        self.synced_length >= self.length
    }

    /// Whether the block is finalized on every node.
    pub fn is_finalized(&self) -> bool {
        self.is_finalized
    }

    fn sent_length(&self) -> u64 {
        self.packets.get(self.sent).map_or(self.length, |packet| packet.offset)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ack(sequence: u64, length: u64) -> WriteAckV1 {
        WriteAckV1 { sequence, length, synced_length: 0, is_finalized: false, code: 0, failed_node: 0 }
    }

    fn push(window: &mut Window, len: usize) {
        let begin = window.length();
        window.push(&mut (begin..begin + len as u64).map(|at| at as u8).collect(), 0);
    }

    fn send_all(window: &mut Window) {
        while window.unsent().is_some() {
            window.mark_sent();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// A model of the nodes: whatever is acknowledged, cut off and sent again, they have each byte once, in order.
        #[test]
        fn bytes_are_kept_until_acknowledged_and_never_exceed_the_window(
            steps in proptest::collection::vec((1usize..300, 0usize..6, any::<bool>()), 1..80),
        ) {
            let mut window = Window::new(1000);
            let (mut nodes, mut ends, mut acked) = (Vec::<u8>::new(), Vec::<u64>::new(), 0);
            for (len, acks, fails) in steps {
                if window.has_room(len) {
                    push(&mut window, len);
                }
                prop_assert!(window.bytes <= 1000);
                while let Some(packet) = window.unsent() {
                    prop_assert_eq!(packet.head.sequence, ends.len() as u64);
                    prop_assert_eq!(packet.head.offset, nodes.len() as u64);
                    nodes.extend(packet.data);
                    ends.push(nodes.len() as u64);
                    window.mark_sent();
                }
                if let Some(end) = ends.get(acks).copied().filter(|end| *end >= acked) {
                    prop_assert!(window.ack(&ack(acks as u64, end)).is_ok());
                    acked = end;
                }
                prop_assert_eq!(window.acked_length(), acked);
                let kept: usize = window.packets.iter().map(|packet| packet.data.len()).sum();
                prop_assert_eq!((window.bytes, window.acked_length() + kept as u64), (kept, window.length()));
                if fails {
                    nodes.truncate(acked as usize);
                    ends.clear();
                    window.rewind();
                }
            }
            let expected: Vec<u8> = (0..nodes.len()).map(|at| at as u8).collect();
            prop_assert_eq!(nodes, expected);
        }
    }

    #[test]
    fn acknowledgements_of_what_was_not_sent_are_refused() {
        let mut window = Window::new(1000);
        assert!(window.ack(&ack(0, 0)).is_err());
        push(&mut window, 10);
        assert!(window.ack(&ack(0, 10)).is_err(), "not sent yet");
        send_all(&mut window);
        assert!(window.ack(&ack(1, 10)).is_err());
        assert!(window.ack(&ack(0, 11)).is_err());
        assert!(window.ack(&ack(0, 9)).is_err(), "less than its packet");
        assert_eq!(window.ack(&ack(0, 10)), Ok(true));
        assert_eq!(window.ack(&ack(0, 10)), Ok(false), "a repeated one changes nothing");
        assert!(window.is_empty());
    }

    #[test]
    fn what_was_synced_is_synced_again_over_another_pipeline() {
        let mut window = Window::new(1000);
        for rest in [0, 20] {
            window.begin_block();
            push(&mut window, 10);
            send_all(&mut window);
            window.ack(&WriteAckV1 { synced_length: 10, ..ack(0, 10) }).expect("sent");
            assert!(window.is_synced());
            if rest > 0 {
                push(&mut window, rest);
                send_all(&mut window);
            }
            window.rewind();
            assert!(!window.is_synced());
            let head = window.unsent().expect("something to send").head;
            assert_eq!((head.sequence, head.offset, head.data_len), (0, 10, rest as u32));
            assert_eq!(head.flags, packet_flags::SYNC);
        }
    }

    #[test]
    fn memory_of_acknowledged_packets_is_used_again() {
        let mut window = Window::new(1000);
        let mut data = vec![1; 500];
        for _ in 0..20 {
            data.resize(500, 1);
            window.push(&mut data, 0);
            window.mark_sent();
            let (sequence, length) = (window.first, window.length());
            window.ack(&ack(sequence, length)).expect("sent");
        }
        assert!(window.spare.len() <= 2 && data.capacity() >= 500);
    }
}
