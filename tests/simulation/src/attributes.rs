//! What files and directories carry beside their names and content.

use std::collections::BTreeMap;

use ringfs_sdk::{Acl, AclEntry, AclKind, AclScope, FileKind, FileStatus};

/// Who makes everything: the owner of what is new.
pub const USER: &str = "ann";
/// The group of the root.
const GROUP: &str = "staff";
/// Who is named in ACLs.
const NAMED: &str = "bob";

/// Attributes of a file or directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Attributes {
    mode: u16,
    owner: String,
    group: String,
    /// Of the content, where somebody has set it and nothing has changed it since.
    mtime_ms: Option<u64>,
    xattrs: BTreeMap<String, Vec<u8>>,
    /// Where there is an ACL: what it lets the named user and the group do. The group's bits of `mode` are its mask then.
    acl: Option<(u8, u8)>,
}

/// A change of attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// Sets permission bits.
    Mode(u16),
    /// Sets the owner.
    Owner(String),
    /// Sets the group.
    Group(String),
    /// Sets the time of the content, ms since 1970.
    Time(u64),
    /// Sets an extended attribute.
    Xattr(String, Vec<u8>),
    /// Removes an extended attribute, which must be there.
    NoXattr(String),
    /// Sets an ACL with these bits for owner, group and others, and these for a named user.
    Acl(u16, u8),
    /// Removes the ACL, if there is one.
    NoAcl,
}

impl Attributes {
    /// Of something new in a directory with `group`.
    pub fn of_new(is_directory: bool, group: Option<&str>) -> Self {
        Self {
            mode: if is_directory { 0o755 } else { 0o644 },
            owner: USER.to_owned(),
            group: group.unwrap_or(GROUP).to_owned(),
            mtime_ms: None,
            xattrs: BTreeMap::new(),
            acl: None,
        }
    }

    /// Those of a directory that was made on the way to a file, in one with others.
    pub fn take_mode_of(&mut self, above: &Self) {
        self.mode = above.mode & 0o777 | 0o300;
    }

    /// The group that new entries of this directory get.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// Extended attributes.
    pub fn xattrs(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.xattrs
    }

    /// Its content has changed, or may have.
    pub fn is_touched(&mut self) {
        self.mtime_ms = None;
    }

    /// Makes a change; `None` when it must be refused.
    pub fn apply(&mut self, change: &Attribute) -> Option<()> {
        match change {
            Attribute::Mode(mode) => self.mode = *mode,
            Attribute::Owner(owner) => self.owner.clone_from(owner),
            Attribute::Group(group) => self.group.clone_from(group),
            Attribute::Time(mtime_ms) => self.mtime_ms = Some(*mtime_ms),
            Attribute::Xattr(name, value) => drop(self.xattrs.insert(name.clone(), value.clone())),
            Attribute::NoXattr(name) => drop(self.xattrs.remove(name)?),
            Attribute::Acl(mode, named) => {
                let group = (mode >> 3 & 7) as u8;
                self.mode = mode & 0o707 | u16::from(group | named) << 3;
                self.acl = Some((*named, group));
            }
            Attribute::NoAcl => {
                if let Some((_, group)) = self.acl.take() {
                    self.mode = self.mode & 0o707 | u16::from(group) << 3;
                }
            }
        }
        Some(())
    }

    /// Whether a status may be that of something with these attributes.
    pub fn fit(&self, status: &FileStatus) -> bool {
        (self.mode, self.owner.as_str(), self.group.as_str(), self.acl.is_some())
            == (status.mode, status.owner.as_str(), status.group.as_str(), status.has_acl)
            && self.mtime_ms.is_none_or(|mtime_ms| mtime_ms == status.mtime_ms)
    }

    /// Whether an ACL may be that of something with these attributes.
    pub fn fit_acl(&self, acl: &Acl) -> bool {
        let expected = self.acl.map(|(named, group)| entries(group, named)).unwrap_or_default();
        self.mode == acl.mode && expected == acl.entries
    }
}

/// Whether a status is that of a directory.
pub fn is_directory(status: &FileStatus) -> bool {
    status.kind == FileKind::Directory
}

/// What is given to the client to set an ACL.
pub fn acl_to_set(mode: u16, named: u8) -> Vec<AclEntry> {
    let base = |kind, shift: u16| entry(kind, None, (mode >> shift & 7) as u8);
    let mut all = vec![base(AclKind::User, 6), base(AclKind::Group, 3), base(AclKind::Other, 0)];
    all.push(entry(AclKind::User, Some(NAMED), named));
    all
}

/// What permission bits do not say of an ACL.
fn entries(group: u8, named: u8) -> Vec<AclEntry> {
    vec![entry(AclKind::User, Some(NAMED), named), entry(AclKind::Group, None, group)]
}

fn entry(kind: AclKind, name: Option<&str>, permission: u8) -> AclEntry {
    AclEntry { scope: AclScope::Access, kind, name: name.map(str::to_owned), permission }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_has_a_mask_in_the_place_of_the_group() {
        let mut attributes = Attributes::of_new(false, None);
        attributes.apply(&Attribute::Acl(0o750, 0o2)).expect("allowed");
        assert_eq!((attributes.mode, attributes.acl), (0o770, Some((2, 5))));
        attributes.apply(&Attribute::Mode(0o700)).expect("allowed");
        attributes.apply(&Attribute::NoAcl).expect("allowed");
        assert_eq!((attributes.mode, attributes.acl), (0o750, None));
        assert_eq!(attributes.apply(&Attribute::NoXattr("user.a".to_owned())), None);
    }
}
