//! Blocks of files: 32 bytes each, found by id and by file.

use std::collections::BTreeMap;

use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{BlockId, LogIndex, Stamp};
use ringfs_proto::limits::INLINE_BYTES_MAX;
use ringfs_proto::meta::namespace::BlockRefV1;

use super::arena::{Arena, Slot};
use super::id_map::IdMap;
use super::inode::BlockList;
use crate::wal::ValuePlace;

/// A block of a file. The top bits of `length` are [`OPEN`], [`HAS_CRC`] and [`IS_VALUE`].
///
/// Of a block that is a value in the log, the place is here too: the offset in `length`, segment and stored bytes in `stamp`.
#[derive(Debug, Clone, Copy)]
struct Block {
    id: BlockId,
    stamp: Stamp,
    length: u64,
    file: Slot,
    /// Checksum of its bytes, or 0; of a value, that of its stored bytes.
    crc: u32,
}

const _: () = assert!(size_of::<Block>() == 32);

/// The block is open.
const OPEN: u64 = 1 << 63;
/// The checksum of the block is known.
const HAS_CRC: u64 = 1 << 62;
/// The block is a value in the log.
const IS_VALUE: u64 = 1 << 61;
const LENGTH: u64 = IS_VALUE - 1;
/// Bits of the length of a value; its offset is above.
const VALUE_LENGTH_BITS: u32 = 20;
const VALUE_LENGTH: u64 = (1 << VALUE_LENGTH_BITS) - 1;
/// Bits of the segment of a value; its stored bytes are above.
const SEGMENT_BITS: u32 = 44;
/// No value is written behind this record: its place could not be kept.
pub const VALUE_INDEX_MAX: LogIndex = LogIndex((1 << SEGMENT_BITS) - 1);
/// Values lie before this offset of their segment.
pub const VALUE_OFFSET_MAX: u64 = LENGTH >> VALUE_LENGTH_BITS;
/// The stamp of every value: its bytes never change under its id.
pub const VALUE_STAMP: Stamp = Stamp(1);

const _: () = assert!(INLINE_BYTES_MAX as u64 <= VALUE_LENGTH);

/// A block as others see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockView {
    /// Where the block map keeps what it knows of it.
    pub slot: Slot,
    /// Id, stamp and committed length.
    pub block: BlockRefV1,
    /// Offset in the file; 0 when the block was found by id.
    pub offset: u64,
    /// Whether it is being written: its length is not known here.
    pub is_open: bool,
    /// Checksum of its bytes, if it is known.
    pub crc: Option<u32>,
    /// Where its bytes are in the log, for a block that is a value: no datanode has it. They may be more than its length.
    pub value: Option<ValuePlace>,
}

/// Slots of the blocks of a file with several, and what is known of all but the last together.
#[derive(Debug, Clone, Default)]
struct List {
    slots: Vec<Slot>,
    before_last: Sum,
}

/// Length and checksum of blocks that follow one another.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    length: u64,
    /// Blocks without a checksum count as if it were 0, so that they can be taken off again.
    crc: u32,
    unknown: u32,
}

impl Sum {
    fn push(&mut self, kind: ChecksumType, view: &BlockView) {
        self.length += view.block.length;
        self.crc = kind.combine(self.crc, view.crc.unwrap_or_default(), view.block.length);
        self.unknown += u32::from(view.crc.is_none());
    }

    fn pop(&mut self, kind: ChecksumType, view: &BlockView) {
        self.length -= view.block.length;
        self.crc = kind.uncombine(self.crc, view.crc.unwrap_or_default(), view.block.length);
        self.unknown -= u32::from(view.crc.is_none());
    }
}

/// All blocks.
#[derive(Debug, Default)]
pub struct Blocks {
    blocks: Arena<Block>,
    by_id: IdMap,
    lists: Arena<List>,
    values: ValueTotals,
}

/// How much of each segment of the log is in use by values.
#[derive(Debug, Default)]
pub struct ValueTotals {
    /// How many there are.
    pub count: u64,
    /// Stored bytes of all.
    pub bytes: u64,
    /// The same of each segment that has any.
    pub by_segment: BTreeMap<LogIndex, u64>,
}

impl ValueTotals {
    fn add(&mut self, place: ValuePlace) {
        self.count += 1;
        self.bytes += u64::from(place.len);
        *self.by_segment.entry(place.segment).or_default() += u64::from(place.len);
    }

    fn take(&mut self, place: ValuePlace) {
        self.count -= 1;
        self.bytes -= u64::from(place.len);
        if let Some(bytes) = self.by_segment.get_mut(&place.segment) {
            *bytes -= u64::from(place.len);
            if *bytes == 0 {
                self.by_segment.remove(&place.segment);
            }
        }
    }
}

impl Blocks {
    /// Adds an open block to the end of a file's list; `kind` is the type of the file's checksums, here and below.
    pub fn push(
        &mut self,
        list: &mut BlockList,
        kind: ChecksumType,
        file: Slot,
        id: BlockId,
        stamp: Stamp,
    ) -> Slot {
        self.push_block(list, kind, Block { id, stamp, length: OPEN, file, crc: 0 })
    }

    /// Adds a value to the end of a file's list. `length` is how much of it counts.
    pub fn push_value(
        &mut self,
        list: &mut BlockList,
        kind: ChecksumType,
        file: Slot,
        id: BlockId,
        place: ValuePlace,
        length: u64,
    ) -> Slot {
        let mut block = Block { id, stamp: VALUE_STAMP, length: 0, file, crc: 0 };
        block.set_value(kind, place, length);
        self.values.add(place);
        self.push_block(list, kind, block)
    }

    /// Cuts a value. It is the last of its file.
    pub fn cut_value(&mut self, slot: Slot, kind: ChecksumType, length: u64) {
        let block = self.blocks.get_mut(slot);
        if let Some(place) = block.view(slot).value {
            block.set_value(kind, place, length);
        }
    }

    /// A value was written again, if it is still where it was.
    pub fn move_value(&mut self, id: BlockId, from: (LogIndex, u64), to: ValuePlace) {
        let Some(slot) = self.by_id.get(id.0) else { return };
        let view = self.view(slot);
        let Some(place) = view.value.filter(|place| (place.segment, place.offset) == from) else { return };
        self.values.take(place);
        self.values.add(to);
        self.blocks.get_mut(slot).set_place(to, view.block.length);
    }

    /// What values take of the log.
    pub fn values(&self) -> &ValueTotals {
        &self.values
    }

    fn push_block(&mut self, list: &mut BlockList, kind: ChecksumType, block: Block) -> Slot {
        let id = block.id;
        let slot = self.blocks.insert(block);
        self.by_id.insert(id.0, slot);
        *list = match *list {
            BlockList::Empty => BlockList::One(slot),
            BlockList::One(first) => {
                let mut before_last = Sum::default();
                before_last.push(kind, &self.view(first));
                BlockList::Many(self.lists.insert(List { slots: vec![first, slot], before_last }))
            }
            BlockList::Many(number) => {
                let last = *self.lists.get(number).slots.last().expect("a list is never empty");
                let view = self.view(last);
                let list = self.lists.get_mut(number);
                list.before_last.push(kind, &view);
                list.slots.push(slot);
                BlockList::Many(number)
            }
        };
        slot
    }

    /// Takes the last block off a file's list.
    pub fn pop(&mut self, list: &mut BlockList, kind: ChecksumType) -> Option<BlockView> {
        let view = self.last(*list)?;
        *list = match *list {
            BlockList::Many(number) => {
                let list = self.lists.get_mut(number);
                list.slots.pop();
                let slots = &list.slots;
                let last = *slots.last().expect("a list has two blocks or more");
                if slots.len() == 1 {
                    *list = List::default();
                    self.lists.remove(number);
                    BlockList::One(last)
                } else {
                    list.before_last.pop(kind, &self.blocks.get(last).view(last));
                    BlockList::Many(number)
                }
            }
            BlockList::One(_) | BlockList::Empty => BlockList::Empty,
        };
        self.by_id.remove(view.block.block.0);
        self.blocks.remove(view.slot);
        if let Some(place) = view.value {
            self.values.take(place);
        }
        Some(view)
    }

    /// Takes all blocks off a file's list; they stay.
    pub fn take(&mut self, list: &mut BlockList) -> Vec<Slot> {
        match core::mem::replace(list, BlockList::Empty) {
            BlockList::Many(number) => {
                let slots = self.lists.get(number).slots.clone();
                *self.lists.get_mut(number) = List::default();
                self.lists.remove(number);
                slots
            }
            list => self.slots(&list).to_vec(),
        }
    }

    /// Puts blocks that were taken off other lists behind those of a file.
    pub fn join(&mut self, list: &mut BlockList, kind: ChecksumType, moved: &[Slot], file: Slot) {
        for slot in moved {
            self.blocks.get_mut(*slot).file = file;
        }
        let mut slots = self.take(list);
        slots.extend(moved);
        *list = self.list_with(slots, kind);
    }

    fn list_with(&mut self, slots: Vec<Slot>, kind: ChecksumType) -> BlockList {
        match *slots.as_slice() {
            [] => BlockList::Empty,
            [one] => BlockList::One(one),
            [ref all_but_last @ .., _] => {
                let mut before_last = Sum::default();
                all_but_last.iter().for_each(|slot| before_last.push(kind, &self.view(*slot)));
                BlockList::Many(self.lists.insert(List { slots, before_last }))
            }
        }
    }

    /// Gives a block its length and its checksum, if that is known, and closes it. It is the last of its file.
    pub fn commit(&mut self, slot: Slot, length: u64, crc: Option<u32>) {
        let block = self.blocks.get_mut(slot);
        block.length = length | if crc.is_some() { HAS_CRC } else { 0 };
        block.crc = crc.unwrap_or_default();
    }

    /// Gives a block another stamp.
    pub fn set_stamp(&mut self, slot: Slot, stamp: Stamp) {
        self.blocks.get_mut(slot).stamp = stamp;
    }

    /// Opens a committed block again: its length is not known here any more. It is the last of its file.
    pub fn reopen(&mut self, slot: Slot) {
        let block = self.blocks.get_mut(slot);
        (block.length, block.crc) = (OPEN, 0);
    }

    /// The last block of a file.
    pub fn last(&self, list: BlockList) -> Option<BlockView> {
        match list {
            BlockList::Empty => None,
            BlockList::One(slot) => Some(self.view(slot)),
            BlockList::Many(number) => {
                let list = self.lists.get(number);
                let view = self.view(*list.slots.last()?);
                Some(BlockView { offset: list.before_last.length, ..view })
            }
        }
    }

    /// The last block but one of a file.
    pub fn penultimate(&self, list: BlockList) -> Option<BlockView> {
        let slots = self.slots(&list);
        let index = slots.len().checked_sub(2)?;
        Some(self.view(slots[index]))
    }

    /// Bytes in all blocks of a file; an open one counts 0.
    pub fn length(&self, list: BlockList) -> u64 {
        self.last(list).map_or(0, |last| last.offset + last.block.length)
    }

    /// Checksum of all bytes of a file; nothing when a block is open or its checksum is not known.
    pub fn crc(&self, list: BlockList, kind: ChecksumType) -> Option<u32> {
        match list {
            BlockList::Empty => Some(0),
            BlockList::One(slot) => self.view(slot).crc,
            BlockList::Many(number) => {
                let list = self.lists.get(number);
                let mut sum = list.before_last;
                sum.push(kind, &self.view(*list.slots.last()?));
                (sum.unknown == 0).then_some(sum.crc)
            }
        }
    }

    /// How many blocks a file has.
    pub fn count(&self, list: &BlockList) -> usize {
        self.slots(list).len()
    }

    /// The blocks of a file with their offsets.
    pub fn iter<'a>(&'a self, list: &'a BlockList) -> impl Iterator<Item = BlockView> + 'a {
        self.slots(list).iter().scan(0, |offset, slot| {
            let view = BlockView { offset: *offset, ..self.view(*slot) };
            *offset += view.block.length;
            Some(view)
        })
    }

    /// The block or value with an id, and the slot of its file.
    pub fn find(&self, id: BlockId) -> Option<(BlockView, Slot)> {
        let slot = self.by_id.get(id.0)?;
        Some((self.view(slot), self.blocks.get(slot).file))
    }

    /// The block in a slot, and the slot of its file; nothing for a value and for a freed slot.
    pub fn find_slot(&self, slot: Slot) -> Option<(BlockView, Slot)> {
        let view = self.view(slot);
        let is_block = view.value.is_none() && self.by_id.get(view.block.block.0) == Some(slot);
        is_block.then(|| (view, self.blocks.get(slot).file))
    }

    /// The block in a slot; what a freed slot held is found no more by its id.
    pub fn in_slot(&self, slot: Slot) -> Option<BlockRefV1> {
        self.find_slot(slot).map(|(view, _)| view.block)
    }

    /// From now on, blocks are kept as they are now.
    pub fn begin_snapshot(&mut self) {
        self.blocks.begin_snapshot();
        self.lists.begin_snapshot();
    }

    /// What was kept is forgotten.
    pub fn end_snapshot(&mut self) {
        self.blocks.end_snapshot();
        self.lists.end_snapshot();
    }

    /// The blocks of a list of the snapshot as they were when it began.
    pub fn as_they_were<'a>(&'a self, list: &'a BlockList) -> impl ExactSizeIterator<Item = BlockView> + 'a {
        let slots: &[Slot] = match list {
            BlockList::Empty => &[],
            BlockList::One(slot) => core::slice::from_ref(slot),
            BlockList::Many(number) => self.lists.as_it_was(*number).map_or(&[], |list| &list.slots),
        };
        let view = |slot: &Slot| {
            let block = self.blocks.as_it_was(*slot).expect("a file of the snapshot had this block");
            block.view(*slot)
        };
        slots.iter().map(view)
    }

    /// All blocks that are not values, by id.
    pub fn all(&self) -> impl Iterator<Item = BlockView> + '_ {
        self.by_id.iter().map(|(_, slot)| self.view(slot)).filter(|view| view.value.is_none())
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        self.blocks.memory_bytes() + self.by_id.memory_bytes() + self.lists.memory_bytes()
    }

    fn slots<'a>(&'a self, list: &'a BlockList) -> &'a [Slot] {
        match list {
            BlockList::Empty => &[],
            BlockList::One(slot) => core::slice::from_ref(slot),
            BlockList::Many(number) => &self.lists.get(*number).slots,
        }
    }

    fn view(&self, slot: Slot) -> BlockView {
        self.blocks.get(slot).view(slot)
    }
}

impl Block {
    fn view(&self, slot: Slot) -> BlockView {
        let Self { id, stamp, length, crc, .. } = *self;
        let known = (length & HAS_CRC != 0).then_some(crc);
        if length & IS_VALUE == 0 {
            let block = BlockRefV1 { block: id, stamp, length: length & LENGTH };
            return BlockView {
                slot,
                block,
                offset: 0,
                is_open: length & OPEN != 0,
                crc: known,
                value: None,
            };
        }
        let place = ValuePlace {
            segment: LogIndex(stamp.0 & VALUE_INDEX_MAX.0),
            offset: (length & LENGTH) >> VALUE_LENGTH_BITS,
            len: (stamp.0 >> SEGMENT_BITS) as u32,
            crc,
        };
        let block = BlockRefV1 { block: id, stamp: VALUE_STAMP, length: length & VALUE_LENGTH };
        BlockView { slot, block, offset: 0, is_open: false, crc: known, value: Some(place) }
    }

    /// Makes it a value of which `length` bytes count; their checksum is known while they are all that is stored.
    fn set_value(&mut self, kind: ChecksumType, place: ValuePlace, length: u64) {
        let has_crc = kind == ChecksumType::Crc32c && length == u64::from(place.len);
        self.length = if has_crc { HAS_CRC } else { 0 };
        self.set_place(place, length);
    }

    fn set_place(&mut self, place: ValuePlace, length: u64) {
        self.stamp = Stamp(place.segment.0 | u64::from(place.len) << SEGMENT_BITS);
        self.length = self.length & HAS_CRC | IS_VALUE | place.offset << VALUE_LENGTH_BITS | length;
        self.crc = place.crc;
    }
}
