//! What a record of several changes has done so far, so that a change which is refused takes those before it back.
//!
//! Changes note what they do while there is an [`Undo`]; what they take out of the namespace is not freed before all are
//! carried out.

use super::State;
use super::arena::{NONE, Slot};

/// One thing that was done.
#[derive(Debug)]
enum Deed {
    /// An inode was made.
    Made(Slot),
    /// It was taken out of this directory.
    Removed { slot: Slot, parent: Slot },
    /// It was in this directory under this name.
    Moved { slot: Slot, parent: Slot, name: String },
    /// This was the time of a directory.
    Touched { directory: Slot, mtime_ms: u64 },
}

/// All that was done, in order.
#[derive(Debug, Default)]
pub(super) struct Undo {
    deeds: Vec<Deed>,
}

impl State {
    /// From now on, what is done is noted.
    pub(super) fn begin_undo(&mut self) {
        self.undo = Some(Undo::default());
    }

    /// All is carried out: what was removed is given up.
    pub(super) fn keep_all(&mut self) {
        for deed in self.undo.take().unwrap_or_default().deeds {
            if let Deed::Removed { slot, .. } = deed {
                self.give_up(slot);
            }
        }
    }

    /// All that was noted is taken back, the last first.
    pub(super) fn undo_all(&mut self) {
        for deed in self.undo.take().unwrap_or_default().deeds.into_iter().rev() {
            match deed {
                Deed::Made(slot) => {
                    self.unlink(slot, self.time_ms);
                    self.free(slot);
                }
                Deed::Removed { slot, parent } => {
                    let name = self.inodes.get(slot).name;
                    debug_assert_eq!(self.inodes.get(slot).parent, NONE);
                    self.link(slot, parent, name, self.time_ms);
                }
                Deed::Moved { slot, parent, name } => {
                    let present = self.inodes.get(slot).name;
                    self.unlink(slot, self.time_ms);
                    self.names.remove(present);
                    let name = self.names.insert(&name);
                    self.link(slot, parent, name, self.time_ms);
                }
                Deed::Touched { directory, mtime_ms } => {
                    self.inodes.get_mut(directory).mtime_ms = mtime_ms;
                }
            }
        }
    }

    pub(super) fn note_made(&mut self, slot: Slot) {
        self.note(Deed::Made(slot));
    }

    pub(super) fn note_removed(&mut self, slot: Slot, parent: Slot) {
        self.note(Deed::Removed { slot, parent });
    }

    pub(super) fn note_moved(&mut self, slot: Slot, parent: Slot, name: String) {
        self.note(Deed::Moved { slot, parent, name });
    }

    /// Before an entry of a directory comes or goes.
    pub(super) fn note_time_of(&mut self, directory: Slot) {
        let mtime_ms = self.inodes.get(directory).mtime_ms;
        self.note(Deed::Touched { directory, mtime_ms });
    }

    fn note(&mut self, deed: Deed) {
        if let Some(undo) = &mut self.undo {
            undo.deeds.push(deed);
        }
    }
}
