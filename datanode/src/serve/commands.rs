//! Carrying out what the namenode wants: deleting, copying, verifying. Block recovery is in `recovery.rs`.

use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::rc::Rc;

use ringfs_proto::Code;
use ringfs_proto::meta::data::WriteStage;
use ringfs_proto::meta::membership::{CommandV1, InvalidateV1, TransferV1, VerifyV1};
use ringfs_proto::meta::namespace::BlockRefV1;

use super::Shard;
use super::copy::Copy;
use super::signal::Signal;
use crate::engine::{Engine, Weight};

/// Commands of one shard that are being carried out at once, at most; copies are bounded apart.
const COMMANDS_ACTIVE_MAX: usize = 64;
/// Replicas that are deleted together, at most: one sync of the journal serves them.
const DELETED_TOGETHER_MAX: usize = 64;
/// Copies of one shard that wait for their turn, at most.
const COPIES_QUEUED_MAX: usize = 256;

/// What a shard has to do for the namenode.
#[derive(Default)]
pub struct Work {
    active: Cell<usize>,
    copies_active: Cell<usize>,
    copies_waiting: RefCell<VecDeque<TransferV1>>,
    signal: Signal,
}

impl<E: Engine> Shard<E> {
    /// Takes commands and carries them out, for as long as the shard serves.
    pub(super) async fn carry_out_commands(self: Rc<Self>) {
        loop {
            let has_room = || (self.work.active.get() < COMMANDS_ACTIVE_MAX).then_some(());
            self.work.signal.until(has_room).await;
            let command = self.node.commands.next(self.engine.shard()).await;
            match command {
                CommandV1::Transfer(transfer) => self.queue_copy(*transfer),
                CommandV1::Invalidate(invalidate) => {
                    self.carry_out(Weight::Background, self.clone().invalidate(invalidate));
                }
                CommandV1::BeginRecovery(begin) => {
                    self.carry_out(Weight::Foreground, self.clone().begin_recovery(begin));
                }
                CommandV1::FinishRecovery(finish) => {
                    self.carry_out(Weight::Foreground, self.clone().finish_recovery(finish));
                }
                CommandV1::Verify(verify) => {
                    self.carry_out(Weight::Background, self.clone().verify_replicas(verify));
                }
                // The link sends reports itself.
                CommandV1::Report(_) => {}
            }
        }
    }

    fn carry_out(self: &Rc<Self>, weight: Weight, task: impl Future<Output = ()> + 'static) {
        self.work.active.set(self.work.active.get() + 1);
        let shard = self.clone();
        self.engine.spawn(weight, async move {
            task.await;
            shard.work.active.set(shard.work.active.get() - 1);
            shard.work.signal.notify();
        });
    }

    /// Deletes replicas. Who still writes one is cut off first.
    async fn invalidate(self: Rc<Self>, mut invalidate: InvalidateV1) {
        // A replica that is named twice is deleted once: the second seizure would wait for the first, for ever.
        let replicas = &mut invalidate.replicas;
        replicas.sort_unstable_by_key(|replica| (replica.block, Reverse(replica.stamp)));
        replicas.dedup_by_key(|replica| replica.block);
        for group in replicas.chunks(DELETED_TOGETHER_MAX) {
            let mut seats = Vec::with_capacity(group.len());
            for BlockRefV1 { block, stamp, .. } in group {
                let replica = self.node.store.find(*block).filter(|replica| replica.stamp() <= *stamp);
                let Some(replica) = replica else { continue };
                match self.seize(&replica, *stamp).await {
                    // Who had the seat may have raised the stamp before it ended.
                    Ok(seat) if replica.stamp() <= *stamp => seats.push(seat),
                    Ok(_) => {}
                    Err(error) => tracing::warn!(%block, %error, "could not delete a replica"),
                }
            }
            let (node, replicas) = (self.node.clone(), seats.iter().map(|seat| seat.replica().clone()));
            let replicas: Vec<_> = replicas.collect();
            if let Err(error) = self.engine.blocking(move || node.store.delete_all(&replicas)).await {
                tracing::warn!(%error, "could not delete replicas");
            }
        }
    }

    /// Copies wait for their turn here, so that nothing else waits for them.
    fn queue_copy(self: &Rc<Self>, transfer: TransferV1) {
        if self.work.copies_waiting.borrow().len() >= COPIES_QUEUED_MAX {
            tracing::info!(block = %transfer.block.block, "too many copies wait: left to the namenode to ask again");
            return;
        }
        self.work.copies_waiting.borrow_mut().push_back(transfer);
        if self.work.copies_active.get() < self.copies_max() {
            self.work.copies_active.set(self.work.copies_active.get() + 1);
            let shard = self.clone();
            self.engine.spawn(Weight::Background, async move {
                shard.copy_waiting().await;
                shard.work.copies_active.set(shard.work.copies_active.get() - 1);
            });
        }
    }

    /// Copies one replica after the other until none waits.
    async fn copy_waiting(self: &Rc<Self>) {
        loop {
            let next = self.work.copies_waiting.borrow_mut().pop_front();
            let Some(TransferV1 { block, cut_from, capability, targets }) = next else { return };
            let copy = Copy { block, cut_from, capability, targets, stage: WriteStage::Copy };
            match self.copy(&copy).await {
                Ok(()) => {}
                // Another copy was faster.
                Err(error) if error.code == Code::ReplicaExists => {}
                Err(error) => tracing::warn!(block = %block.block, %error, "could not copy a replica"),
            }
        }
    }

    /// This shard's share of the copies that may run at once.
    fn copies_max(&self) -> usize {
        (self.node.config.copies_max / self.node.metrics.len()).max(1)
    }

    /// Compares replicas with their checksums. Open ones are verified by their readers, and when they are recovered.
    async fn verify_replicas(self: Rc<Self>, verify: VerifyV1) {
        for block in verify.blocks {
            let verified = match self.read_replica(block).await {
                Ok(reading) => {
                    let verified = match reading.is_finalized() {
                        true => self.verify(&reading, None).await,
                        false => Ok(()),
                    };
                    reading.close().await;
                    verified
                }
                Err(error) => Err(error),
            };
            if let Err(error) = verified {
                tracing::warn!(%block, %error, "replica does not verify");
            }
        }
    }
}
