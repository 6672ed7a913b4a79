//! Users and groups by number, in the order in which the log names them first.

use std::collections::BTreeMap;

use ringfs_proto::ids::PrincipalId;

/// All names of users and groups.
#[derive(Debug, Default)]
pub struct Principals {
    names: Vec<Box<str>>,
    by_name: BTreeMap<Box<str>, u32>,
}

impl Principals {
    /// The number of a name, which is given one if it has none.
    pub fn intern(&mut self, name: &str) -> PrincipalId {
        if let Some(id) = self.by_name.get(name) {
            return PrincipalId(*id);
        }
        let id = u32::try_from(self.names.len()).expect("fewer than 2^32 users and groups");
        self.names.push(name.into());
        self.by_name.insert(name.into(), id);
        PrincipalId(id)
    }

    /// The number of a name that has one.
    pub fn find(&self, name: &str) -> Option<PrincipalId> {
        self.by_name.get(name).copied().map(PrincipalId)
    }

    /// All names, by number.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// The name of a number that was given out.
    pub fn name(&self, id: PrincipalId) -> &str {
        &self.names[id.0 as usize]
    }
}
