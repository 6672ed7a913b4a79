//! A directory, page by page, with futures.

use std::sync::Arc;

use futures_core::Stream;

use super::Turns;
use crate::FileStatus;
use crate::driver::process::OfProcess;
use crate::driver::reactor::Remote;
use crate::error::Result;
use crate::listing::Listing;

/// The entries of a directory as [`Listing`] gives them. Made by [`crate::AsyncClient::list`].
#[derive(Debug)]
pub struct AsyncListing {
    pages: Turns<Listing>,
}

impl AsyncListing {
    pub(crate) fn new(listing: Listing, remote: Arc<OfProcess<Arc<Remote>>>, path: &str) -> Self {
        Self { pages: Turns::new(listing, remote, path) }
    }

    /// The next entries, sorted by the bytes of their names; `None` behind the last.
    ///
    /// # Errors
    /// As [`crate::Client::list`]; the same page may be asked for again.
    ///
    /// # Cancel safety
    /// A page that was fetched for a future that is dropped is lost.
    pub async fn next_page(&mut self) -> Result<Option<Vec<FileStatus>>> {
        self.pages.run("list", Listing::next_page).await
    }

    /// All entries, one by one. Ends after an error.
    pub fn entries(self) -> impl Stream<Item = Result<FileStatus>> + Send {
        let begin = (Some(self), Vec::new().into_iter());
        futures_lite::stream::unfold(begin, |(mut listing, mut page)| async move {
            loop {
                if let Some(entry) = page.next() {
                    return Some((Ok(entry), (listing, page)));
                }
                match listing.as_mut()?.next_page().await {
                    Ok(Some(next)) => page = next.into_iter(),
                    Ok(None) => return None,
                    Err(error) => return Some((Err(error), (None, page))),
                }
            }
        })
    }
}
