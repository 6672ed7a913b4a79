//! Blocks whose bytes the namenode's log has: whether they are good is known to who reads them.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use ringfs_proto::ids::BlockId;
use ringfs_sdk::{Client, Code, Kind};

use super::check::{CheckedFile, is_value};

/// Files that are read at once.
const READERS: usize = 8;

/// Reads the values of files, and notes those that do not verify.
///
/// # Errors
/// A sentence for the user: the namenode does not answer.
pub fn bad_values<'a>(
    client: &Client,
    files: impl Iterator<Item = &'a mut CheckedFile>,
) -> Result<(), String> {
    let waiting: VecDeque<&mut CheckedFile> = files.filter(|file| file.blocks.iter().any(is_value)).collect();
    let readers = READERS.min(waiting.len());
    let waiting = Mutex::new(waiting);
    let take = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let work = || -> Result<(), String> {
        while let Some(file) = take() {
            file.bad_values = read_values(client, file)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..readers).map(|_| scope.spawn(work)).collect();
        running.into_iter().try_for_each(|one| {
            one.join().map_err(|_panic| "a thread that reads small files has failed".to_owned()).flatten()
        })
    })
}

fn read_values(client: &Client, file: &CheckedFile) -> Result<Vec<BlockId>, String> {
    let mut bad = Vec::new();
    for block in file.blocks.iter().filter(|block| is_value(block)) {
        let mut bytes = vec![0; block.block.length as usize];
        let read = client.open(&file.path).and_then(|reader| reader.read_at(block.offset, &mut bytes));
        match read {
            Ok(_bytes) => {}
            Err(error) if error.code() == Some(Code::BlockCorrupt) => bad.push(block.block.block),
            // It was deleted meanwhile, or is not for this user to read: nothing is known of it.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::PermissionDenied) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(bad)
}
