//! Blocks that are kept in the namenode: their bytes are fetched from there for HDFS clients, which know datanodes only.
//!
//! A shard keeps one connection for this; what is asked at the same time gets connections of its own, which are closed after it.

use std::io::{self, IoSlice};
use std::time::Duration;

use futures_lite::future::or;
use ringfs_proto::capability::CapabilityBytes;
use ringfs_proto::frame::{self, Header};
use ringfs_proto::hello::{self, HelloReplyV1};
use ringfs_proto::ids::CallId;
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_proto::meta::values::{ReadValueReplyV1, ReadValueRequestV1};
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use crate::engine::{Engine, Reader, Writer};
use crate::serve::Shard;
use crate::serve::frames::{Closed, Frames};

/// How long the namenode may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// A connection to the namenode.
pub(crate) struct Asking<E: Engine> {
    frames: Frames<E::Reader>,
    writer: E::Writer,
}

impl<E: Engine> Shard<E> {
    /// The bytes of a block that is kept in the namenode.
    ///
    /// # Errors
    /// Those of the namenode; `BlockMissing`; `Busy` when it cannot be reached.
    pub(super) async fn value_of(
        &self,
        capability: CapabilityBytes,
        block: BlockRefV1,
    ) -> Result<ReadValueReplyV1, WireError> {
        let request = ReadValueRequestV1 { capability, block };
        let kept = self.asking.borrow_mut().take();
        let asked = async { Some(self.ask(kept, &request).await) };
        let late = async {
            self.engine.sleep(DEADLINE).await;
            None
        };
        let unreachable = |why: String| {
            WireError::new(Code::Busy, format!("ask the namenode for block {}: {why}", block.block))
        };
        match or(asked, late).await {
            Some(Ok(answer)) => answer,
            Some(Err(closed)) => Err(unreachable(closed.to_string())),
            None => Err(unreachable("no answer in time".to_owned())),
        }
    }

    async fn ask(
        &self,
        kept: Option<Asking<E>>,
        request: &ReadValueRequestV1,
    ) -> Result<Result<ReadValueReplyV1, WireError>, Closed> {
        // The one that was kept may have ended since.
        if let Some(mut asking) = kept
            && let Ok(answer) = asking.ask(request).await
        {
            self.asking.borrow_mut().replace(asking);
            return Ok(answer);
        }
        let mut asking = self.reach_namenode().await?;
        let answer = asking.ask(request).await?;
        self.asking.borrow_mut().replace(asking);
        Ok(answer)
    }

    async fn reach_namenode(&self) -> Result<Asking<E>, Closed> {
        let address = *self.node.namenode.lock();
        let address = address.ok_or_else(|| Closed::Io(io::ErrorKind::NotConnected.into()))?;
        let (reader, writer) = self.engine.connect(address, DEADLINE).await?;
        let watch = self.watches.add(reader.cutter());
        let mut asking: Asking<E> = Asking { frames: Frames::new(reader, watch), writer };
        let hello = hello::encode_hello(&self.node.hello());
        asking.writer.write_all_vectored(&[IoSlice::new(&hello)]).await?;
        let welcome: HelloReplyV1 = asking.frames.hello(true).await?;
        match welcome.code {
            0 => Ok(asking),
            _ => Err(Closed::Protocol(welcome.message)),
        }
    }
}

impl<E: Engine> Asking<E> {
    async fn ask(
        &mut self,
        request: &ReadValueRequestV1,
    ) -> Result<Result<ReadValueReplyV1, WireError>, Closed> {
        let mut out = Vec::new();
        frame::append(&mut out, Header::request(Op::ReadValue, CallId(1)), 0, |meta| {
            request.encode_into(meta);
        });
        self.writer.write_all_vectored(&[IoSlice::new(&out)]).await?;
        let answer = self.frames.next().await?;
        let answer = answer.ok_or_else(|| Closed::Io(io::ErrorKind::UnexpectedEof.into()))?;
        if let Some(error) = frame::reply_error(&answer, self.frames.meta()) {
            return Ok(Err(error));
        }
        Ok(Ok(ReadValueReplyV1::decode(self.frames.meta())?))
    }
}
