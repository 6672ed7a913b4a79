//! Keeps the journals of this shard's volumes short, a turn at a time at background weight.

use std::rc::Rc;

use super::Shard;
use crate::engine::{Engine, Weight};
use crate::store::compaction::Turn;

impl<E: Engine> Shard<E> {
    /// Begins to compact the journals that have become long.
    pub(super) fn compact_journals(self: &Rc<Self>) {
        for volume in self.volumes().filter(|volume| self.node.store.is_journal_long(*volume)) {
            self.engine.spawn(Weight::Background, self.clone().compact_journal(volume));
        }
    }

    async fn compact_journal(self: Rc<Self>, volume: usize) {
        let node = self.node.clone();
        let begun = self.engine.blocking(move || node.store.begin_compaction(volume)).await;
        let Some(mut compaction) = begun else { return };
        loop {
            let node = self.node.clone();
            let turn = move || {
                let turn = node.store.compact(volume, &mut compaction);
                (compaction, turn)
            };
            let turned;
            (compaction, turned) = self.engine.blocking(turn).await;
            match turned {
                Some(Turn::More) => {}
                Some(Turn::Done { .. }) => return self.metrics.journal_compactions.add(1),
                None => return,
            }
        }
    }
}
