//! Where the blocks of an open file are, as far as is known. Does no I/O.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::LocatedBlock;

/// A block with the addresses of its replicas, best first.
#[derive(Debug)]
pub(crate) struct Place {
    pub located: LocatedBlock,
    pub replicas: Vec<SocketAddr>,
}

impl Place {
    pub fn new(located: LocatedBlock) -> Self {
        // Replicas with late heartbeats come last; a host that is not a numeric address cannot be reached.
        let (fresh, stale): (Vec<_>, Vec<_>) = located.nodes.iter().partition(|node| !node.is_stale);
        let address =
            |node: &crate::Node| Some(SocketAddr::new(node.host.parse::<IpAddr>().ok()?, node.port));
        let replicas = fresh.into_iter().chain(stale).filter_map(address).collect();
        Self { located, replicas }
    }

    /// Offset in the file of the first byte.
    pub fn begin(&self) -> u64 {
        self.located.offset
    }

    /// Offset in the file of the first byte behind.
    pub fn end(&self) -> u64 {
        self.located.offset.saturating_add(self.located.block.length)
    }
}

/// The blocks that are known, and the length of the file.
#[derive(Debug, Clone)]
pub(crate) struct Locations {
    /// By offset, without overlap.
    places: Vec<Arc<Place>>,
    pub length: u64,
}

impl Locations {
    /// Of a file of `length` bytes, no block of which is known.
    pub fn new(length: u64) -> Self {
        Self { places: Vec::new(), length }
    }

    /// The block that holds the byte at `offset`, if it is known.
    pub fn find(&self, offset: u64) -> Option<Arc<Place>> {
        let after = self.places.partition_point(|place| place.begin() <= offset);
        let place = self.places.get(after.checked_sub(1)?)?;
        (offset < place.end()).then(|| place.clone())
    }

    /// All blocks, by offset.
    pub fn into_places(self) -> Vec<Arc<Place>> {
        self.places
    }

    /// Takes blocks that were fetched; each replaces what was known of its part of the file.
    pub fn add(&mut self, found: Vec<Arc<Place>>) {
        for place in found {
            self.places.retain(|known| known.end() <= place.begin() || known.begin() >= place.end());
            let at = self.places.partition_point(|known| known.begin() < place.begin());
            self.places.insert(at, place);
        }
    }
}

#[cfg(test)]
mod tests {
    use ringfs_proto::ids::{BlockId, DatanodeId, Stamp, StorageId};

    use super::*;
    use crate::{BlockRef, Node};

    fn place(offset: u64, length: u64) -> Arc<Place> {
        let block = BlockRef { block: BlockId(offset + 1), stamp: Stamp(1), length };
        let node = |port, is_stale| Node {
            datanode: DatanodeId([port as u8; 16]),
            storage: StorageId([1; 16]),
            host: "127.0.0.1".to_owned(),
            port,
            is_stale,
        };
        let nodes = vec![node(1, true), node(2, false)];
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
    }

    #[test]
    fn a_byte_is_found_in_its_block_only() {
        let mut locations = Locations::new(0);
        locations.add(vec![place(100, 50), place(0, 100)]);
        let begin = |offset| locations.find(offset).map(|place| place.begin());
        assert_eq!([0, 99, 100, 149, 150].map(begin), [Some(0), Some(0), Some(100), Some(100), None]);
    }

    #[test]
    fn fresh_locations_replace_old_ones_and_stale_replicas_come_last() {
        let mut locations = Locations::new(0);
        locations.add(vec![place(0, 100), place(100, 100)]);
        locations.add(vec![place(100, 40)]);
        assert!(locations.find(150).is_none());
        assert_eq!(place(0, 1).replicas.iter().map(SocketAddr::port).collect::<Vec<_>>(), [2, 1]);
    }
}
