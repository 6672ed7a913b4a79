//! Files that a shard keeps open for reading, so that a warm read opens nothing and asks no lock.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use ringfs_proto::ids::BlockId;
use ringfs_proto::{Code, WireError};

use crate::engine::{Access, Create, Engine, File};
use crate::format::block::{HEAD_BYTES, Header, Layout};
use crate::node::Node;
use crate::store::replica::Replica;

/// Files that a shard keeps open.
pub const OPEN_FILES_MAX: usize = 512;

/// A replica with its file.
pub struct OpenFile<E: Engine> {
    /// The replica.
    pub replica: Arc<Replica>,
    /// Where things are.
    pub layout: Layout,
    /// Whether its data is written around the page cache.
    pub is_direct: bool,
    /// Through the page cache: finalized lengths, and header and checksums of all.
    pub buffered: E::File,
    /// Around it, for data of a replica that is still written so.
    pub direct: Option<E::File>,
}

/// The files of a shard.
pub struct OpenFiles<E: Engine> {
    inner: RefCell<Inner<E>>,
}

struct Inner<E: Engine> {
    files: HashMap<BlockId, Rc<OpenFile<E>>>,
    order: VecDeque<BlockId>,
}

impl<E: Engine> Default for OpenFiles<E> {
    fn default() -> Self {
        Self { inner: RefCell::new(Inner { files: HashMap::new(), order: VecDeque::new() }) }
    }
}

impl<E: Engine> OpenFiles<E> {
    /// The open file of a block.
    ///
    /// # Errors
    /// `BlockMissing`, `BlockCorrupt`, `Io`.
    pub async fn get(
        &self,
        engine: &E,
        node: &Node,
        block: BlockId,
        is_open: bool,
    ) -> Result<Rc<OpenFile<E>>, WireError> {
        if let Some(file) = self.cached(block, is_open) {
            return Ok(file);
        }
        let missing = || WireError::new(Code::BlockMissing, format!("no replica of block {block} here"));
        let replica = node.store.find(block).filter(|replica| !replica.is_gone()).ok_or_else(missing)?;
        let path = node.store.path_of(&replica);
        let failed = |error: std::io::Error| WireError::new(Code::Io, format!("open block {block}: {error}"));
        let buffered = engine.open(&path, Access::BufferedRead, Create::Existing).await.map_err(failed)?;
        if is_open {
            // Reading ahead from the checksums would bring data into the page cache that is written around it.
            buffered.no_read_ahead();
        }
        let head = buffered.read_at(0, HEAD_BYTES).await.map_err(failed)?;
        let header = Header::decode(head.as_ref()).map_err(|error| {
            node.store.mark_corrupt(&replica);
            WireError::new(Code::BlockCorrupt, format!("block {block}: {error}"))
        })?;
        let direct = if is_open && header.is_direct {
            Some(engine.open(&path, Access::Direct, Create::Existing).await.map_err(failed)?)
        } else {
            None
        };
        let (layout, is_direct) = (header.layout, header.is_direct);
        let file = Rc::new(OpenFile { replica, layout, is_direct, buffered, direct });
        self.insert(block, &file);
        Ok(file)
    }

    /// Closes the files of replicas that were deleted, so that their space comes back.
    pub fn drop_gone(&self) {
        let inner = &mut *self.inner.borrow_mut();
        inner.files.retain(|_, file| !file.replica.is_gone());
        inner.order.retain(|block| inner.files.contains_key(block));
    }

    fn cached(&self, block: BlockId, is_open: bool) -> Option<Rc<OpenFile<E>>> {
        let mut inner = self.inner.borrow_mut();
        let file = inner.files.get(&block)?;
        // Opened for one of the two, a file is opened again for the other.
        let is_usable = !file.replica.is_gone() && (!file.is_direct || is_open == file.direct.is_some());
        if is_usable {
            return Some(file.clone());
        }
        inner.files.remove(&block);
        None
    }

    fn insert(&self, block: BlockId, file: &Rc<OpenFile<E>>) {
        let mut inner = self.inner.borrow_mut();
        if inner.files.insert(block, file.clone()).is_none() {
            inner.order.push_back(block);
        }
        while inner.order.len() > OPEN_FILES_MAX {
            if let Some(oldest) = inner.order.pop_front() {
                inner.files.remove(&oldest);
            }
        }
    }
}
