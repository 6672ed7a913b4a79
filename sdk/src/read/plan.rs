//! Which pieces of which blocks a read needs, and whom to ask next when one fails. Does no I/O.

use std::net::SocketAddr;
use std::sync::Arc;

use ringfs_proto::Code;
use ringfs_proto::code::Retry;
use ringfs_proto::meta::data::ReadRangeV1;
use ringfs_proto::meta::namespace::BadReplicaV1;

use super::locations::{Locations, Place};
use crate::limits::RANGE_BYTES_MAX;
use crate::transport::{Fetch, TransportError};

/// A part of a read that lies in one block and is asked for as one range.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    /// Offset in the file.
    pub offset: u64,
    target: &'a mut [u8],
    /// Bytes of the target that are there and verified.
    done: usize,
    place: Arc<Place>,
    failed: Vec<SocketAddr>,
    /// Those that failed before the locations were fetched anew: asked again when all others have failed.
    avoided: Vec<SocketAddr>,
    needs_refresh: bool,
    /// Whether a replica has only not answered since the locations were fetched: it may come back.
    may_come_back: bool,
}

/// What is known is not enough: the block with the byte at this offset of the file is to be located.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unlocated(pub u64);

/// The first byte within `ranges`, up to the end of the file, of which the block is not known.
pub(crate) fn first_unlocated(ranges: &[(u64, &mut [u8])], locations: &Locations) -> Option<Unlocated> {
    ranges.iter().find_map(|(offset, target)| {
        let end = offset.saturating_add(target.len() as u64).min(locations.length);
        let mut at = *offset;
        while at < end {
            match locations.find(at) {
                Some(place) => at = place.end(),
                None => return Some(Unlocated(at)),
            }
        }
        None
    })
}

/// Cuts ranges of a file, `(offset, memory)`, into pieces; what lies beyond the end of the file has none. Blocks that are
/// not known end the plan of their range: see [`first_unlocated`].
pub(crate) fn cut<'a>(ranges: &'a mut [(u64, &mut [u8])], locations: &Locations) -> Vec<Piece<'a>> {
    let mut pieces = Vec::with_capacity(ranges.len());
    for (offset, memory) in ranges {
        let len = locations.length.saturating_sub(*offset).min(memory.len() as u64);
        let mut rest = &mut memory[..len as usize];
        let mut at = *offset;
        while !rest.is_empty() {
            let Some(place) = locations.find(at) else { break };
            let len = (place.end() - at).min(RANGE_BYTES_MAX).min(rest.len() as u64);
            let (target, after) = std::mem::take(&mut rest).split_at_mut(len as usize);
            let mut piece = Piece::new(at, target, place);
            piece.take_inline();
            pieces.push(piece);
            (rest, at) = (after, at + len);
        }
    }
    pieces
}

impl<'a> Piece<'a> {
    fn new(offset: u64, target: &'a mut [u8], place: Arc<Place>) -> Self {
        Self {
            offset,
            target,
            done: 0,
            place,
            failed: Vec::new(),
            avoided: Vec::new(),
            needs_refresh: false,
            may_come_back: false,
        }
    }

    /// Takes bytes that came with the location: those of a small file, which the namenode keeps.
    fn take_inline(&mut self) {
        let begin = (self.offset - self.place.begin()) as usize;
        let bytes = self.place.located.inline.as_ref();
        if let Some(bytes) = bytes.and_then(|bytes| bytes.get(begin..begin + self.target.len())) {
            self.target.copy_from_slice(bytes);
            self.done = self.target.len();
        }
    }

    pub fn is_done(&self) -> bool {
        self.done == self.target.len()
    }

    /// Whether no replica is left to ask, or what we know of them is stale.
    pub fn needs_refresh(&self) -> bool {
        self.needs_refresh || self.next_replica().is_none()
    }

    /// Fresh locations: every replica may be asked again, those that have failed last. What one lacks, of an open block whose
    /// writer died for instance, another may have, and the namenode names them in the same order as before.
    pub fn refresh(&mut self, place: Arc<Place>) {
        (self.place, self.needs_refresh, self.may_come_back) = (place, false, false);
        self.take_inline();
        for node in self.failed.drain(..) {
            if !self.avoided.contains(&node) {
                self.avoided.push(node);
            }
        }
    }

    /// Whether waiting may help: a replica did not answer, or none is known yet.
    pub fn is_worth_waiting(&self) -> bool {
        self.may_come_back || self.place.replicas.is_empty()
    }

    /// The replica at an address, as the namenode knows it.
    pub fn replica_at(&self, address: SocketAddr) -> Option<BadReplicaV1> {
        let located = &self.place.located;
        let is_there =
            |node: &&crate::Node| node.port == address.port() && node.host.parse() == Ok(address.ip());
        let node = located.nodes.iter().find(is_there)?;
        Some(BadReplicaV1 { block: located.block, datanode: node.datanode, storage: node.storage })
    }

    fn next_replica(&self) -> Option<SocketAddr> {
        self.untried().next()
    }

    fn untried(&self) -> impl Iterator<Item = SocketAddr> {
        let is_avoided = |address: &SocketAddr| self.avoided.contains(address);
        let replicas = self.place.replicas.iter().copied().filter(|address| !self.failed.contains(address));
        replicas.clone().filter(move |address| !is_avoided(address)).chain(replicas.filter(is_avoided))
    }

    /// The rest of this piece, from the best replica that has not failed.
    pub fn fetch(&mut self) -> Option<Fetch<'_>> {
        let mut untried = self.untried();
        let (node, other) = (untried.next()?, untried.next());
        drop(untried);
        let located = &self.place.located;
        let target = &mut self.target[self.done..];
        let range = ReadRangeV1 {
            capability: located.capability,
            block: located.block.block,
            stamp: located.block.stamp,
            offset: self.offset - located.offset + self.done as u64,
            length: target.len() as u64,
        };
        Some(Fetch { other, ..Fetch::new(node, range, target) })
    }

    /// Takes the outcome of a fetch of this piece.
    pub fn settle(&mut self, node: SocketAddr, verified_len: u64, error: Option<&TransportError>) {
        self.done = self.target.len().min(self.done + verified_len as usize);
        if let Some(error) = error {
            self.failed.push(node);
            let class = error.code().map(Code::retry);
            self.needs_refresh |= class == Some(Retry::AfterRefresh);
            self.may_come_back |= class.is_none_or(|class| class == Retry::SameNode)
                || error.code() == Some(Code::ShuttingDown);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ringfs_proto::WireError;
    use ringfs_proto::ids::{BlockId, DatanodeId, Stamp, StorageId};

    use super::*;
    use crate::{BlockRef, LocatedBlock, Node};

    fn node(port: u16) -> Node {
        let (datanode, storage) = (DatanodeId([port as u8; 16]), StorageId([1; 16]));
        Node { datanode, storage, host: "127.0.0.1".to_owned(), port, is_stale: false }
    }

    fn file(block_len: u64, length: u64) -> Locations {
        let mut locations = Locations::new(length);
        let places = (0..length.div_ceil(block_len)).map(|index| {
            let offset = index * block_len;
            let block = BlockRef {
                block: BlockId(index + 1),
                stamp: Stamp(1),
                length: block_len.min(length - offset),
            };
            let nodes = vec![node(1), node(2)];
            Arc::new(Place::new(LocatedBlock {
                block,
                offset,
                is_open: false,
                nodes,
                are_all_nodes: true,
                is_begun: true,
                capability: [0; 64],
                inline: None,
            }))
        });
        locations.add(places.collect());
        locations
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn pieces_cover_each_range_once_up_to_the_end_of_the_file(
            block_len in 1u64..50, length in 0u64..200,
            asked in proptest::collection::vec((0u64..250, 0usize..120), 1..4),
        ) {
            let locations = file(block_len, length);
            let mut memory: Vec<_> = asked.iter().map(|(offset, len)| (*offset, vec![0u8; *len])).collect();
            let mut ranges: Vec<_> = memory.iter_mut().map(|(offset, bytes)| (*offset, &mut bytes[..])).collect();
            prop_assert_eq!(first_unlocated(&ranges, &locations), None);
            for piece in &mut cut(&mut ranges, &locations) {
                let (begin, end) = (piece.place.begin(), piece.place.end());
                prop_assert!(piece.offset >= begin && piece.offset + piece.target.len() as u64 <= end);
                let offset = piece.offset;
                let fetch = piece.fetch().expect("nothing has failed");
                for (at, byte) in fetch.target.iter_mut().enumerate() {
                    prop_assert_eq!(*byte, 0, "each byte once");
                    *byte = (offset as usize + at) as u8 | 1;
                }
            }
            for (offset, bytes) in &memory {
                for (at, byte) in bytes.iter().enumerate() {
                    let position = offset + at as u64;
                    prop_assert_eq!(*byte != 0, position < length, "position {}", position);
                }
            }
        }
    }

    #[test]
    fn a_failed_piece_goes_on_where_it_was_at_another_replica() {
        let locations = file(100, 100);
        let mut memory = [0; 50];
        let mut ranges = [(10, &mut memory[..])];
        let mut pieces = cut(&mut ranges, &locations);
        let piece = &mut pieces[0];
        let first = piece.fetch().expect("a replica").node;
        let error = TransportError::refused(first, WireError::new(Code::ChecksumMismatch, "wrong"));
        piece.settle(first, 20, Some(&error));
        let second = piece.fetch().expect("another replica");
        assert_eq!((second.node.port(), second.range.offset, second.range.length), (2, 30, 30));
        let node = second.node;
        piece.settle(node, 0, Some(&error));
        assert!(piece.needs_refresh() && piece.fetch().is_none());
        let place = piece.place.clone();
        piece.refresh(place);
        assert_eq!(piece.fetch().expect("all again").range.offset, 30);
        piece.settle(first, 30, None);
        assert!(piece.is_done());
    }

    #[test]
    fn an_expired_capability_asks_for_fresh_locations() {
        let locations = file(100, 100);
        let mut memory = [0; 10];
        let mut ranges = [(0, &mut memory[..])];
        let mut pieces = cut(&mut ranges, &locations);
        let node = pieces[0].fetch().expect("a replica").node;
        let error = TransportError::refused(node, WireError::new(Code::CapabilityExpired, "late"));
        pieces[0].settle(node, 0, Some(&error));
        assert!(pieces[0].needs_refresh());
    }

    #[test]
    fn after_a_refresh_those_that_failed_are_asked_last() {
        let locations = file(100, 100);
        let mut memory = [0; 10];
        let mut ranges = [(0, &mut memory[..])];
        let mut pieces = cut(&mut ranges, &locations);
        let piece = &mut pieces[0];
        let short = |node| TransportError::refused(node, WireError::new(Code::OutOfRange, "it has less"));
        for port in [1, 2] {
            let node = piece.fetch().expect("a replica").node;
            assert_eq!(node.port(), port, "in the namenode's order, but for what has failed");
            piece.settle(node, 0, Some(&short(node)));
            assert!(piece.needs_refresh());
            let place = piece.place.clone();
            piece.refresh(place);
        }
        assert_eq!(piece.fetch().expect("all again").node.port(), 1);
    }
}
