//! Answers that bring the contents of small files: filled in where they are sent, by whoever may wait for a disk.

use ringfs_proto::WireError;
use ringfs_proto::meta::namespace::LocatedBlockV1;
use ringfs_proto::meta::values::OpenedV1;

use crate::calls::{Answer, Reply};
use crate::core::WantedValue;
use crate::wal::Values;

impl Answer {
    /// Bytes that are to be filled in.
    pub fn wanted_bytes(&self) -> usize {
        self.values.iter().map(|wanted| wanted.place.len as usize).sum()
    }

    /// Fills in what is wanted. What cannot be read is the error of its file. Blocks.
    pub fn fill(&mut self, values: &Values) {
        let wanted = core::mem::take(&mut self.values);
        if let Ok(reply) = &mut self.result
            && let Err(error) = fill(reply, wanted, values)
        {
            self.result = Err(error);
        }
    }
}

fn fill(reply: &mut Reply, wanted: Vec<WantedValue>, values: &Values) -> Result<(), WireError> {
    let mut wanted = wanted.into_iter();
    match reply {
        Reply::GetBlockLocations(reply) => fill_blocks(&mut reply.blocks, &mut wanted, values),
        Reply::Append(reply) => fill_blocks(reply.last.as_mut_slice(), &mut wanted, values),
        Reply::ReadValue(reply) => {
            for wanted in wanted {
                values.read(wanted.place, &mut reply.bytes)?;
                reply.bytes.truncate(wanted.length as usize);
            }
            Ok(())
        }
        Reply::BatchOpen(reply) => {
            for file in &mut reply.files {
                let OpenedV1::Open(opened) = file else { continue };
                let count = opened.blocks.iter().filter(|block| block.inline.is_some()).count();
                let mut own: Vec<_> = wanted.by_ref().take(count).collect();
                if let Err(error) = fill_blocks(&mut opened.blocks, &mut own.drain(..), values) {
                    *file = OpenedV1::Refused(error.code as u16, error.message);
                }
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

fn fill_blocks(
    blocks: &mut [LocatedBlockV1],
    wanted: &mut impl Iterator<Item = WantedValue>,
    values: &Values,
) -> Result<(), WireError> {
    let inline = blocks.iter_mut().filter_map(|located| located.inline.as_mut());
    for (target, wanted) in inline.zip(wanted) {
        values.read(wanted.place, target)?;
        target.truncate(wanted.length as usize);
    }
    Ok(())
}
