//! Block recovery as the namenode runs it: a replica is fenced and its length reported, then it is given its end.
//! docs/decisions/0005 says why the namenode decides. HDFS: `FsDatasetImpl.initReplicaRecovery`, `updateReplicaUnderRecovery`.

use std::rc::Rc;

use ringfs_proto::WireError;
use ringfs_proto::meta::membership::{BeginRecoveryV1, FinishRecoveryV1, ReplicaState};

use super::Shard;
use super::reopen::{Prefix, Source};
use crate::engine::{Engine, File};
use crate::store::reopen::Examined;

impl<E: Engine> Shard<E> {
    /// Cuts off whoever writes a replica, and tells the namenode how far it is.
    pub(super) async fn begin_recovery(self: Rc<Self>, begin: BeginRecoveryV1) {
        if let Err(error) = self.try_begin(&begin).await {
            tracing::warn!(block = %begin.block, stamp = %begin.recovery_stamp, %error, "could not begin the recovery of a replica");
        }
    }

    async fn try_begin(&self, begin: &BeginRecoveryV1) -> Result<(), WireError> {
        let BeginRecoveryV1 { block, storage, recovery_stamp } = *begin;
        let store = &self.node.store;
        let replica = store.find_or_fence(block, recovery_stamp);
        let Some(replica) = replica.filter(|replica| store.storage_of(replica) == storage) else {
            store.report_missing(storage, block, recovery_stamp);
            return Ok(());
        };
        if replica.is_corrupt() {
            // The namenode has heard it before it asked; without an answer it would ask for ever.
            store.report_corrupt(&replica);
            return Ok(());
        }
        let _seat = self.seize(&replica, recovery_stamp).await?;
        let (node, examining) = (self.node.clone(), replica.clone());
        let examined = self.engine.blocking(move || node.store.examine(&examining)).await?;
        if examined.state == ReplicaState::Finalized {
            // It was opened to be appended to, and may have lain here for long: a bad one must not make the good ones outdated.
            let reading = self.read_replica(block).await?;
            let verified = self.verify(&reading, None).await;
            reading.close().await;
            verified?;
        } else {
            self.prefix_of(&examined, examined.written.length).await?;
        }
        tracing::info!(%block, stamp = %replica.stamp(), %recovery_stamp, state = ?examined.state, length = examined.written.length, "replica is fenced for a recovery");
        store.report_fenced(&examined, recovery_stamp);
        Ok(())
    }

    /// Gives a fenced replica its length and its stamp, and finalizes it.
    pub(super) async fn finish_recovery(self: Rc<Self>, finish: FinishRecoveryV1) {
        if let Err(error) = self.try_finish(&finish).await {
            tracing::warn!(block = %finish.block.block, stamp = %finish.block.stamp, %error, "could not finish the recovery of a replica");
        }
    }

    async fn try_finish(&self, finish: &FinishRecoveryV1) -> Result<(), WireError> {
        let (block, stamp, length) = (finish.block.block, finish.block.stamp, finish.block.length);
        let store = &self.node.store;
        let replica = store.find(block).filter(|replica| !replica.is_gone());
        let Some(replica) = replica.filter(|replica| store.storage_of(replica) == finish.storage) else {
            store.report_missing(finish.storage, block, stamp);
            return Ok(());
        };
        // A restart forgets fences: the namenode begins again, for what it heard may not be true any more.
        let floor = replica.seating.floor();
        if floor != stamp {
            tracing::info!(%block, %stamp, %floor, "replica is not fenced for this recovery: left as it is");
            return Ok(());
        }
        let _seat = self.seize(&replica, stamp).await?;
        let (node, examining) = (self.node.clone(), replica.clone());
        let examined = self.engine.blocking(move || node.store.examine(&examining)).await?;
        let is_finalized = examined.state == ReplicaState::Finalized;
        let is_end = examined.written.length == length;
        if is_finalized && is_end && replica.stamp() == stamp {
            store.report_again(&replica);
            return Ok(());
        }
        if examined.written.length < length || (is_finalized && !is_end) {
            tracing::warn!(%block, %stamp, length, written = examined.written.length, state = ?examined.state, "replica cannot be given this length: left as it is");
            return Ok(());
        }
        let Prefix { tail, .. } = self.prefix_of(&examined, length).await?;
        let node = self.node.clone();
        self.engine.blocking(move || node.store.finish_recovery(&examined, stamp, tail)).await
    }

    /// Reads and verifies what lies before `length`.
    async fn prefix_of(&self, examined: &Examined, length: u64) -> Result<Prefix, WireError> {
        let Examined { created, written, .. } = examined;
        let (replica, layout) = (&created.replica, created.layout);
        let files = self.open_files(created).await;
        let (data, head) = files.map_err(|error| self.node.store.read_failed(replica, &error))?;
        let source = Source { replica, layout, data: &data, head: &head, end: *written };
        let read = self.read_prefix(&source, length).await;
        data.close().await;
        head.close().await;
        read
    }
}
