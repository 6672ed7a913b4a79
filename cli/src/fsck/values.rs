//! Blocks whose bytes the namenode's log has: whether they are good is known to who reads them.

use ringfs_proto::ids::BlockId;
use ringfs_sdk::{Client, Code, Error, Kind};

use super::check::{CheckedFile, is_value};

/// Reads the values of files, and notes those that do not verify. Files that are nothing else are read together.
///
/// # Errors
/// A sentence for the user: the namenode does not answer.
pub fn bad_values<'a>(
    client: &Client,
    files: impl Iterator<Item = &'a mut CheckedFile>,
) -> Result<(), String> {
    let has_values = |file: &&mut CheckedFile| file.blocks.iter().any(is_value);
    let (mut small, mut mixed): (Vec<_>, Vec<_>) =
        files.filter(has_values).partition(|file| file.blocks.iter().all(is_value));
    let paths: Vec<&str> = small.iter().map(|file| file.path.as_str()).collect();
    let read = client.read_many(&paths).map_err(|error| error.to_string())?;
    let are_bad =
        read.into_iter().map(|read| is_bad(read.map(drop))).collect::<Result<Vec<bool>, String>>()?;
    let bad = small.iter_mut().zip(are_bad).filter(|(_, is_bad)| *is_bad).map(|(file, _)| file);
    for file in bad.chain(mixed.iter_mut()) {
        file.bad_values = bad_values_of(client, file)?;
    }
    Ok(())
}

/// The values of a file that do not verify.
fn bad_values_of(client: &Client, file: &CheckedFile) -> Result<Vec<BlockId>, String> {
    let mut bad = Vec::new();
    for block in file.blocks.iter().filter(|block| is_value(block)) {
        let mut bytes = vec![0; block.block.length as usize];
        let read = client.open(&file.path).and_then(|reader| reader.read_at(block.offset, &mut bytes));
        if is_bad(read.map(drop))? {
            bad.push(block.block.block);
        }
    }
    Ok(bad)
}

fn is_bad(read: Result<(), Error>) -> Result<bool, String> {
    match read {
        Ok(()) => Ok(false),
        Err(error) if error.code() == Some(Code::BlockCorrupt) => Ok(true),
        // It was deleted meanwhile, or is not for this user to read: nothing is known of it.
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::PermissionDenied) => Ok(false),
        Err(error) => Err(error.to_string()),
    }
}
