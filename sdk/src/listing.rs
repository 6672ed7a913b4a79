//! A directory, page by page.

use std::sync::Arc;

use ringfs_proto::meta::namespace::ListRequestV1;
use ringfs_proto::ops::List;

use crate::FileStatus;
use crate::client::Shared;
use crate::error::Result;

/// The entries of a directory, sorted by the bytes of their names; fetched page by page as they are taken. A file lists
/// itself, with an empty name. Made by [`crate::Client::list`]. Ends after an error.
#[derive(Debug)]
pub struct Listing {
    shared: Arc<Shared>,
    path: String,
    page: std::vec::IntoIter<FileStatus>,
    last_name: String,
    is_complete: bool,
}

impl Listing {
    pub(crate) fn begin(shared: Arc<Shared>, path: &str) -> Result<Self> {
        let page = Vec::new().into_iter();
        let mut listing =
            Self { shared, path: path.to_owned(), page, last_name: String::new(), is_complete: false };
        listing.fetch()?;
        Ok(listing)
    }

    /// The rest of the present page, or the next one; `None` behind the last.
    pub(crate) fn next_page(&mut self) -> Result<Option<Vec<FileStatus>>> {
        if self.page.len() == 0 && !self.is_complete {
            self.fetch()?;
        }
        let page: Vec<_> = self.page.by_ref().collect();
        Ok(Some(page).filter(|page| !page.is_empty()))
    }

    fn fetch(&mut self) -> Result<()> {
        let start_after = self.last_name.clone();
        let request = ListRequestV1 { path: self.path.clone(), start_after, entries_max: 0 };
        let reply = self.shared.namenode.call::<List>("list", &self.path, &request)?;
        if let Some(last) = reply.entries.last() {
            self.last_name.clone_from(&last.name);
        }
        self.is_complete = reply.remaining == 0 || reply.entries.is_empty();
        self.page = reply.entries.into_iter();
        Ok(())
    }
}

impl Iterator for Listing {
    type Item = Result<FileStatus>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(entry) = self.page.next() {
            return Some(Ok(entry));
        }
        if self.is_complete {
            return None;
        }
        if let Err(error) = self.fetch() {
            self.is_complete = true;
            return Some(Err(error));
        }
        self.page.next().map(Ok)
    }
}
