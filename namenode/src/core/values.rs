//! Small files, whose bytes are in the log: taken with `Put` and `Complete`, given with locations.
//!
//! Bytes come with a call and go into the batch of its record; here they are counted and named. They are read where the
//! answer is sent, never on this thread.

use ringfs_proto::capability::CapabilityError;
use ringfs_proto::limits::{BATCH_PATHS_MAX, INLINE_BYTES_MAX, META_BYTES_MAX};
use ringfs_proto::meta::namespace::{FileRefV1, GetBlockLocationsRequestV1, InlineTailV1, LocatedBlockV1};
use ringfs_proto::meta::values::{
    BatchOpenReplyV1, BatchOpenRequestV1, OpenedV1, PutRequestV1, ReadValueReplyV1, ReadValueRequestV1,
};
use ringfs_proto::{Code, WireError};

use super::{Core, Now};
use crate::calls::{Call, Reply, Request};
use crate::state::VALUE_INDEX_MAX;
use crate::wal::ValuePlace;
use crate::wal::record::{ChangeV1, PutV1, TailV1, ValueV1};

/// What a status, a located block and a replica of it take of a frame besides their texts and bytes, at most.
const STATUS_BYTES: usize = 256;
const LOCATED_BYTES: usize = 192;
const NODE_BYTES: usize = 96;
/// What the blocks of a file, or the files of a batch, take of a frame at most besides their contents, if they are more than
/// one.
pub(super) const OPENED_BYTES_MAX: usize = 480 << 10;

const _: () = assert!(OPENED_BYTES_MAX + INLINE_BYTES_MAX < META_BYTES_MAX);

/// Bytes that an answer shall bring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedValue {
    /// Where they are.
    pub place: ValuePlace,
    /// How many of them count, from the first.
    pub length: u64,
}

impl Request {
    /// Takes out the bytes that go into the log.
    pub(super) fn take_values(&mut self) -> Vec<Vec<u8>> {
        match self {
            Self::Put(request) if !request.bytes.is_empty() => vec![core::mem::take(&mut request.bytes)],
            Self::Complete(request) => {
                request.tail.iter_mut().map(|tail| core::mem::take(&mut tail.bytes)).collect()
            }
            _ => Vec::new(),
        }
    }
}

impl Core {
    /// Bytes of the largest content that is taken now; 0: none is.
    pub(super) fn inline_bytes_max(&self) -> u32 {
        let limit = self.config.small_files.inline_bytes_max.min(INLINE_BYTES_MAX as u32);
        if self.has_room_for(u64::from(limit)) { limit } else { 0 }
    }

    fn has_room_for(&self, bytes: u64) -> bool {
        let logged =
            self.filling.values_len() + self.full.iter().map(|batch| batch.values_len()).sum::<u64>();
        let total = self.state.values().bytes + logged + bytes;
        total <= self.config.small_files.total_bytes_max && self.state.applied() < VALUE_INDEX_MAX
    }

    fn check_inline(&self, what: &str, bytes: usize) -> Result<(), WireError> {
        let limit = self.config.small_files.inline_bytes_max.min(INLINE_BYTES_MAX as u32);
        if bytes > limit as usize {
            let message = format!("{what}: {bytes} bytes are not kept in the namenode, at most {limit}");
            return Err(WireError::new(Code::LimitExceeded, message));
        }
        if !self.has_room_for(bytes as u64) {
            let message = format!(
                "{what}: the namenode keeps {} bytes of small files and takes no more (small_files.total_bytes_max)",
                self.state.values().bytes
            );
            return Err(WireError::new(Code::LimitExceeded, message));
        }
        Ok(())
    }

    pub(super) fn filter_put(&mut self, request: &PutRequestV1) -> Result<ChangeV1, WireError> {
        let file = self.created(&request.file)?;
        self.check_inline(&format!("put {}", request.file.path), request.bytes.len())?;
        let value = (!request.bytes.is_empty()).then(|| ValueV1::of(&request.bytes));
        let (block, _) = self.next_block();
        Ok(ChangeV1::Put(PutV1 { file, block, value }))
    }

    pub(super) fn filter_tail(&mut self, tail: &InlineTailV1) -> Result<TailV1, WireError> {
        if tail.bytes.is_empty() {
            return Err(WireError::new(Code::InvalidArgument, "the end of a file has no bytes"));
        }
        self.check_inline("close a file", tail.bytes.len())?;
        let (block, _) = self.next_block();
        Ok(TailV1 { block, value: ValueV1::of(&tail.bytes), replaces_last: tail.replaces_last })
    }

    /// Asks for the bytes of values, as far as they fit into the answer.
    pub(super) fn want_values(&mut self, blocks: &mut [LocatedBlockV1]) {
        for located in blocks.iter_mut().filter(|located| located.inline.is_some()) {
            let Some(place) = self.state.value(located.block.block) else { continue };
            let wanted: usize = self.wanted.iter().map(|wanted| wanted.place.len as usize).sum();
            if !self.wanted.is_empty() && wanted + place.len as usize > INLINE_BYTES_MAX {
                return;
            }
            self.wanted.push(WantedValue { place, length: located.block.length });
        }
    }

    /// The content of a block, for who shows that he may read it.
    pub(super) fn read_value(
        &mut self,
        request: &ReadValueRequestV1,
        now: Now,
    ) -> Result<ReadValueReplyV1, WireError> {
        let ReadValueRequestV1 { capability, block } = request;
        let refused = |code, message: String| Err(WireError::new(code, message));
        let shown = match self.key.verify(capability, now.wall_ms / 1000) {
            Ok(shown) => shown,
            Err(error @ CapabilityError::Expired { .. }) => {
                return refused(Code::CapabilityExpired, error.to_string());
            }
            Err(error) => return refused(Code::CapabilityInvalid, error.to_string()),
        };
        if shown.block != block.block {
            let message = format!("the capability is for block {}, not for {}", shown.block, block.block);
            return refused(Code::CapabilityInvalid, message);
        }
        let Some(place) = self.state.value(block.block) else {
            return refused(Code::BlockMissing, format!("block {} is not kept here", block.block));
        };
        self.wanted.push(WantedValue { place, length: block.length });
        let (checksum, chunk_bytes) = (shown.checksum, shown.chunk_bytes);
        Ok(ReadValueReplyV1 { bytes: Vec::new(), checksum, chunk_bytes })
    }

    /// Opens as many files as one answer can hold.
    pub(super) fn batch_open(
        &mut self,
        request: &BatchOpenRequestV1,
        call: &Call,
        now: Now,
    ) -> Result<Reply, WireError> {
        if request.paths.len() > BATCH_PATHS_MAX {
            let message = format!("{} paths in one call, at most {BATCH_PATHS_MAX}", request.paths.len());
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        let (mut files, mut bytes) = (Vec::new(), 0);
        for path in &request.paths {
            let wanted = self.wanted.len();
            let one = GetBlockLocationsRequestV1 {
                file: FileRefV1::Path(path.clone()),
                offset: 0,
                length: u64::MAX,
            };
            let opened = match self.locations(&one, call, now) {
                Ok(reply) => OpenedV1::Open(reply),
                Err(error) => OpenedV1::Refused(error.code as u16, error.message),
            };
            bytes += size_of(&opened);
            let has_all = inline_blocks(&opened) == self.wanted.len() - wanted;
            if (!has_all || bytes > OPENED_BYTES_MAX) && !files.is_empty() {
                // The next answer has room for it.
                self.wanted.truncate(wanted);
                break;
            }
            files.push(opened);
        }
        Ok(Reply::BatchOpen(BatchOpenReplyV1 { files }))
    }
}

/// Blocks of a file that are kept in the namenode.
fn inline_blocks(opened: &OpenedV1) -> usize {
    let OpenedV1::Open(reply) = opened else { return 0 };
    reply.blocks.iter().filter(|block| block.inline.is_some()).count()
}

/// What a file takes of a frame besides its contents, at most.
fn size_of(opened: &OpenedV1) -> usize {
    let reply = match opened {
        OpenedV1::Refused(_, message) => return LOCATED_BYTES + message.len(),
        OpenedV1::Open(reply) => reply,
    };
    let blocks: usize = reply.blocks.iter().map(located_bytes).sum();
    STATUS_BYTES + reply.status.owner.len() + reply.status.group.len() + blocks
}

/// What a located block takes of a frame besides its content, at most.
pub(super) fn located_bytes(block: &LocatedBlockV1) -> usize {
    LOCATED_BYTES + block.nodes.iter().map(|node| NODE_BYTES + node.host.len()).sum::<usize>()
}
