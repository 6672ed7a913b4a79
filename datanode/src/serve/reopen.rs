//! Taking a replica over from whoever writes it, and finding the place where its bytes go on.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::or;
use ringfs_proto::checksum::{CHECKSUM_BYTES, verify_chunks};
use ringfs_proto::ids::Stamp;
use ringfs_proto::meta::data::RecoverV1;
use ringfs_proto::{Code, WireError};

use super::Shard;
use super::pipeline::{Start, page_begin};
use super::write::Opened;
use crate::engine::{DIRECT_ALIGN, Engine, File};
use crate::format::block::Layout;
use crate::store::NewReplica;
use crate::store::replica::{Replica, Tail};
use crate::store::seat::{Refused, Seat};

/// How long an old writer's I/O may take to end. Less than who asked for the recovery waits for it.
const FENCE_DEADLINE: Duration = Duration::from_secs(3);

/// Files of a replica and what is known of its end.
pub struct Source<'a, E: Engine> {
    /// The replica.
    pub replica: &'a Arc<Replica>,
    /// Where things are.
    pub layout: Layout,
    /// Its data.
    pub data: &'a E::File,
    /// Its checksums.
    pub head: &'a E::File,
    /// How far it goes, and the checksum of its partial last chunk.
    pub end: Tail,
}

/// The last bytes before some length.
pub struct Prefix {
    /// The length, and the checksum of the partial chunk before it.
    pub tail: Tail,
    /// The bytes from the beginning of its page.
    pub page: Vec<u8>,
}

impl<E: Engine> Shard<E> {
    /// Fences whoever writes a replica under `stamp` or a lower one, and waits until that task has ended.
    pub(super) async fn seize(&self, replica: &Arc<Replica>, stamp: Stamp) -> Result<Seat, WireError> {
        let seized = async { Some(Seat::seize(replica, stamp).await) };
        let late = async {
            self.engine.sleep(FENCE_DEADLINE).await;
            None
        };
        let block = replica.block;
        match or(seized, late).await {
            Some(Ok(seat)) if !replica.is_gone() => Ok(seat),
            Some(Ok(_)) => {
                Err(WireError::new(Code::BlockMissing, format!("replica of block {block} was deleted")))
            }
            Some(Err(Refused::Fenced(floor))) => {
                let message =
                    format!("replica of block {block} takes stamps from {floor} on, asked with {stamp}");
                Err(WireError::new(Code::StampMismatch, message))
            }
            Some(Err(Refused::Crowded)) => {
                let message = format!("too many want to write the replica of block {block}");
                Err(WireError::new(Code::Busy, message))
            }
            None => {
                let message =
                    format!("the old writer of block {block} does not end: its disk does not answer");
                Err(WireError::new(Code::Busy, message))
            }
        }
    }

    /// Goes on with a replica whose pipeline has failed, whatever has become of it here since.
    pub(super) async fn reopen(&self, new: &NewReplica, recover: &RecoverV1) -> Result<Opened<E>, WireError> {
        let missing = || {
            WireError::new(
                Code::BlockMissing,
                format!("no replica of block {} on {}", new.block, new.storage),
            )
        };
        let node = &self.node;
        let replica = node.store.find(new.block).ok_or_else(missing)?;
        if node.store.storage_of(&replica) != new.storage {
            return Err(missing());
        }
        check_stamp(&replica, new, recover)?;
        let seat = self.seize(&replica, new.stamp).await?;
        check_stamp(&replica, new, recover)?;
        let examining = (node.clone(), replica.clone());
        let examined = self.engine.blocking(move || examining.0.store.examine(&examining.1)).await?;
        if examined.written.length < recover.length {
            let message = format!(
                "replica of block {} has {} bytes, the pipeline goes on at {}",
                new.block, examined.written.length, recover.length
            );
            return Err(WireError::new(Code::OutOfRange, message));
        }
        let files = self.open_files(&examined.created).await;
        let (data, head) = files.map_err(|error| node.store.write_failed(&replica, &error))?;
        let (layout, end) = (examined.created.layout, examined.written);
        let source = Source { replica: &replica, layout, data: &data, head: &head, end };
        let Prefix { tail, page } = self.read_prefix(&source, recover.length).await?;
        let (node, stamp, synced) = (node.clone(), new.stamp, examined.synced);
        let expected = new.expected.saturating_sub(examined.written.length);
        let open_again = move || node.store.open_again(&examined, stamp, expected);
        let created = self.engine.blocking(open_again).await?;
        let (start, slot_sequence) = (Start { tail, existing: end }, created.slot_sequence);
        Ok(Opened { seat, created, data, head, start, page, slot_sequence, synced })
    }

    /// Reads and verifies what lies before `length` in its page and in its chunk.
    ///
    /// # Errors
    /// `BlockCorrupt`, `Io`.
    pub(super) async fn read_prefix(&self, source: &Source<'_, E>, length: u64) -> Result<Prefix, WireError> {
        let Source { replica, layout, data, head, end } = source;
        let chunk_bytes = u64::from(layout.chunk_bytes);
        let (page, chunk) = (page_begin(length), length / chunk_bytes * chunk_bytes);
        // Both are powers of two: the smaller is at a chunk's and at a page's beginning.
        let begin = page.min(chunk);
        if begin == length {
            return Ok(Prefix { tail: Tail { length, crc: 0 }, page: Vec::new() });
        }
        let until = length.next_multiple_of(chunk_bytes).min(end.length);
        let len = (until - begin) as usize;
        let failed = |error: std::io::Error| self.node.store.read_failed(replica, &error);
        let read = data.read_at(layout.data_offset() + begin, len.next_multiple_of(DIRECT_ALIGN)).await;
        let read = read.map_err(failed)?;
        let first = begin / chunk_bytes;
        let count = len.div_ceil(layout.chunk_bytes as usize);
        let stored = head.read_at(layout.checksum_offset(first), count * CHECKSUM_BYTES).await;
        let mut stored = stored.map_err(failed)?.as_ref().to_vec();
        if until == end.length && !until.is_multiple_of(chunk_bytes) && stored.len() == count * CHECKSUM_BYTES
        {
            let at = stored.len() - CHECKSUM_BYTES;
            stored[at..].copy_from_slice(&end.crc.to_be_bytes());
        }
        let bytes = &read.as_ref()[..len.min(read.as_ref().len())];
        if bytes.len() < len || verify_chunks(layout.checksum, bytes, layout.chunk_bytes, &stored).is_err() {
            self.node.store.mark_corrupt(replica);
            let message = format!("replica of block {} is corrupt before byte {until}", replica.block);
            return Err(WireError::new(Code::BlockCorrupt, message));
        }
        let partial = &bytes[(chunk - begin) as usize..(length - begin) as usize];
        let crc = if partial.is_empty() { 0 } else { layout.checksum.of(partial) };
        let page = bytes[(page - begin) as usize..(length - begin) as usize].to_vec();
        Ok(Prefix { tail: Tail { length, crc }, page })
    }
}

/// A stamp between the old and the new one is that of an attempt that failed half-way: it goes on as well.
/// HDFS: `FsDatasetImpl.recoverCheck`.
fn check_stamp(replica: &Replica, new: &NewReplica, recover: &RecoverV1) -> Result<(), WireError> {
    let found = replica.stamp();
    if recover.old_stamp <= found && found <= new.stamp {
        return Ok(());
    }
    let message = format!(
        "replica of block {} has stamp {found}, the pipeline goes from {} to {}",
        new.block, recover.old_stamp, new.stamp
    );
    Err(WireError::new(Code::StampMismatch, message))
}
