//! Access control lists: what a change makes of one, and what one allows. Pure functions of entries and permission bits.
//!
//! As in HDFS (`AclTransformation`, `AclStorage`), an inode keeps of its access ACL what its permission bits do not say:
//! named users, the group and named groups. Owner and others are in the bits, and so is the mask, in the place of the group.

use std::collections::BTreeMap;

use ringfs_proto::limits::ACL_ENTRIES_MAX;
use ringfs_proto::meta::attributes::{AclChangeV1, AclEntryV1, AclKind, AclScope};
use ringfs_proto::{Code, WireError};

use super::permissions::{Access, Author};

const SCOPES: [AclScope; 2] = [AclScope::Access, AclScope::Default];
/// Who is in every ACL.
const BASE: [AclKind; 3] = [AclKind::User, AclKind::Group, AclKind::Other];

/// The ACLs of an inode as it keeps them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Permission bits with the sticky bit.
    pub mode: u16,
    /// In order; empty when the bits say everything.
    pub entries: Vec<AclEntryV1>,
}

/// What becomes of the ACLs of an inode.
///
/// # Errors
/// `InvalidArgument`, with the text of HDFS.
pub fn changed(kept: &Kept, change: &AclChangeV1, is_directory: bool) -> Result<Kept, WireError> {
    let entries = match change {
        AclChangeV1::RemoveAll => return Ok(without(kept)),
        AclChangeV1::Set(spec) if spec.is_empty() => return Ok(without(kept)),
        AclChangeV1::RemoveDefault => {
            let mut entries = logical(kept);
            entries.retain(|entry| entry.scope == AclScope::Access);
            checked(entries)?
        }
        AclChangeV1::Modify(spec) => modified(logical(kept), &validated(spec)?)?,
        AclChangeV1::Remove(spec) => removed(logical(kept), &validated(spec)?)?,
        AclChangeV1::Set(spec) => replaced(logical(kept), &validated(spec)?)?,
    };
    if !is_directory && entries.iter().any(|entry| entry.scope == AclScope::Default) {
        return invalid("Invalid ACL: only directories may have a default ACL.");
    }
    Ok(keep(&entries, kept.mode))
}

/// What a new entry of a directory gets (HDFS: `AclStorage.copyINodeDefaultAcl`). `mode` is what its maker asked for.
pub fn inherited(parent: &[AclEntryV1], mode: u16, is_directory: bool) -> Option<Kept> {
    let defaults: Vec<&AclEntryV1> = parent.iter().filter(|entry| entry.scope == AclScope::Default).collect();
    if defaults.is_empty() {
        return None;
    }
    let is_minimal = defaults.len() == BASE.len();
    let mut entries: Vec<AclEntryV1> = Vec::with_capacity(defaults.len() * 2);
    for entry in &defaults {
        let most = match (entry.kind, &entry.name) {
            (AclKind::User, None) => mode >> 6,
            (AclKind::Group, _) if is_minimal => mode >> 3,
            (AclKind::Mask, _) => mode >> 3,
            (AclKind::Other, _) => mode,
            _ => 7,
        };
        let permission = entry.permission & (most & 7) as u8;
        entries.push(AclEntryV1 { scope: AclScope::Access, permission, ..(*entry).clone() });
    }
    if is_directory {
        entries.extend(defaults.into_iter().cloned());
    }
    Some(keep(&entries, mode))
}

/// Whether an access ACL allows something (HDFS: `FSPermissionChecker.hasAclPermission`); `None` if there is none.
pub fn allows(
    entries: &[AclEntryV1],
    mode: u16,
    (owner, group): (&str, &str),
    author: Author<'_>,
    access: Access,
) -> Option<bool> {
    let mut own = entries.iter().take_while(|entry| entry.scope == AclScope::Access).peekable();
    own.peek()?;
    if owner == author.user {
        return Some(access.is_in(mode >> 6 & 7));
    }
    let mask = mode >> 3 & 7;
    let mut is_named = false;
    for entry in own {
        let is_masked_in = access.is_in(u16::from(entry.permission) & mask);
        match (entry.kind, entry.name.as_deref()) {
            (AclKind::User, Some(name)) if name == author.user => return Some(is_masked_in),
            (AclKind::Group, name) if author.is_member(name.unwrap_or(group)) => {
                if is_masked_in {
                    return Some(true);
                }
                is_named = true;
            }
            _ => {}
        }
    }
    Some(!is_named && access.is_in(mode & 7))
}

/// Both ACLs written out, in order, with what the bits say (HDFS: `AclStorage.readINodeLogicalAcl`).
fn logical(kept: &Kept) -> Vec<AclEntryV1> {
    let base = |kind, shift: u16| AclEntryV1 {
        scope: AclScope::Access,
        kind,
        name: None,
        permission: (kept.mode >> shift & 7) as u8,
    };
    let has_access = kept.entries.first().is_some_and(|entry| entry.scope == AclScope::Access);
    let mut all = kept.entries.clone();
    all.extend([base(AclKind::User, 6), base(AclKind::Other, 0)]);
    all.push(base(if has_access { AclKind::Mask } else { AclKind::Group }, 3));
    all.sort_by(|one, other| one.key().cmp(&other.key()));
    all
}

/// What an inode keeps of ACLs that are written out, in order, and valid.
fn keep(all: &[AclEntryV1], mode: u16) -> Kept {
    let (access, defaults): (Vec<&AclEntryV1>, Vec<&AclEntryV1>) =
        all.iter().partition(|entry| entry.scope == AclScope::Access);
    let of = |kind| {
        let found = access.iter().find(|entry| entry.kind == kind && entry.name.is_none());
        found.map(|entry| u16::from(entry.permission))
    };
    let group = of(AclKind::Mask).or(of(AclKind::Group)).unwrap_or(0);
    let (user, other) = (of(AclKind::User).unwrap_or(0), of(AclKind::Other).unwrap_or(0));
    let mode = mode & !0o777 | user << 6 | group << 3 | other;
    let mut entries = Vec::new();
    if access.len() > BASE.len() {
        let is_kept = |entry: &&&AclEntryV1| entry.kind == AclKind::Group || entry.name.is_some();
        entries.extend(access.iter().filter(is_kept).map(|entry| (*entry).clone()));
    }
    entries.extend(defaults.into_iter().cloned());
    Kept { mode, entries }
}

/// No ACL: the group has again what its entry says, not the mask (HDFS: `AclStorage.removeINodeAcl`).
fn without(kept: &Kept) -> Kept {
    let is_group = |entry: &&AclEntryV1| entry.key() == (AclScope::Access, AclKind::Group, None);
    let group = kept.entries.iter().find(is_group).map(|entry| u16::from(entry.permission) << 3);
    Kept { mode: group.map_or(kept.mode, |bits| kept.mode & !0o070 | bits), entries: Vec::new() }
}

/// What becomes of the masks (HDFS: the fields of the loops in `AclTransformation`).
#[derive(Debug, Default)]
struct Masks {
    given: BTreeMap<AclScope, AclEntryV1>,
    /// Scopes whose mask was named.
    is_named: BTreeMap<AclScope, bool>,
    /// Scopes of which something was named.
    is_touched: BTreeMap<AclScope, bool>,
}

impl Masks {
    fn touch(&mut self, entry: &AclEntryV1) {
        self.is_touched.insert(entry.scope, true);
        if entry.kind == AclKind::Mask {
            self.is_named.insert(entry.scope, true);
        }
    }

    /// Puts a mask aside; gives every other entry back.
    fn sort_out(&mut self, entry: AclEntryV1) -> Option<AclEntryV1> {
        if entry.kind != AclKind::Mask {
            return Some(entry);
        }
        self.given.insert(entry.scope, entry);
        None
    }

    /// HDFS: `AclTransformation.calculateMasks`.
    fn add_to(self, entries: &mut Vec<AclEntryV1>) -> Result<(), WireError> {
        for scope in SCOPES {
            let of_scope = || entries.iter().filter(|entry| entry.scope == scope);
            if of_scope().next().is_none() {
                continue;
            }
            let is_needed = of_scope().any(|entry| entry.name.is_some());
            let in_class = of_scope().filter(|entry| entry.kind == AclKind::Group || entry.name.is_some());
            let union = in_class.fold(0, |bits, entry| bits | entry.permission);
            let (is_named, is_touched) =
                (self.is_named.contains_key(&scope), self.is_touched.contains_key(&scope));
            match self.given.get(&scope) {
                None if is_needed && is_named => {
                    return invalid("Invalid ACL: mask is required and cannot be deleted.");
                }
                Some(mask) if !is_touched || is_named => entries.push(mask.clone()),
                None if !is_needed => {}
                _ => {
                    let (kind, name) = (AclKind::Mask, None);
                    entries.push(AclEntryV1 { scope, kind, name, permission: union });
                }
            }
        }
        Ok(())
    }
}

/// HDFS: `AclTransformation.mergeAclEntries`.
fn modified(existing: Vec<AclEntryV1>, spec: &[AclEntryV1]) -> Result<Vec<AclEntryV1>, WireError> {
    let (mut masks, mut entries) = (Masks::default(), Vec::new());
    let (mut named, is_named) = (spec.to_vec(), |entry: &AclEntryV1| find(spec, entry).is_some());
    let untouched = existing.into_iter().filter(|entry| !is_named(entry));
    for entry in untouched {
        entries.extend(masks.sort_out(entry));
    }
    for entry in named.drain(..) {
        masks.touch(&entry);
        entries.extend(masks.sort_out(entry));
    }
    finished(entries, masks)
}

/// HDFS: `AclTransformation.filterAclEntriesByAclSpec`.
fn removed(existing: Vec<AclEntryV1>, spec: &[AclEntryV1]) -> Result<Vec<AclEntryV1>, WireError> {
    let (mut masks, mut entries) = (Masks::default(), Vec::new());
    for entry in existing {
        if find(spec, &entry).is_some() {
            masks.touch(&entry);
        } else {
            entries.extend(masks.sort_out(entry));
        }
    }
    finished(entries, masks)
}

/// HDFS: `AclTransformation.replaceAclEntries`.
fn replaced(existing: Vec<AclEntryV1>, spec: &[AclEntryV1]) -> Result<Vec<AclEntryV1>, WireError> {
    let (mut masks, mut entries) = (Masks::default(), Vec::new());
    for entry in spec {
        masks.touch(entry);
        entries.extend(masks.sort_out(entry.clone()));
    }
    for entry in existing {
        if !masks.is_touched.contains_key(&entry.scope) {
            entries.extend(masks.sort_out(entry));
        }
    }
    finished(entries, masks)
}

fn finished(mut entries: Vec<AclEntryV1>, masks: Masks) -> Result<Vec<AclEntryV1>, WireError> {
    copy_defaults(&mut entries);
    masks.add_to(&mut entries)?;
    checked(entries)
}

/// A default ACL has what it lacks of owner, group and others from the access ACL (HDFS: `copyDefaultsIfNeeded`).
fn copy_defaults(entries: &mut Vec<AclEntryV1>) {
    if !entries.iter().any(|entry| entry.scope == AclScope::Default) {
        return;
    }
    for kind in BASE {
        let of = |scope| entries.iter().find(|entry| entry.key() == (scope, kind, None));
        if let (None, Some(own)) = (of(AclScope::Default), of(AclScope::Access)) {
            let copy = AclEntryV1 { scope: AclScope::Default, ..own.clone() };
            entries.push(copy);
        }
    }
}

/// HDFS: `AclTransformation.buildAndValidateAcl`.
fn checked(mut entries: Vec<AclEntryV1>) -> Result<Vec<AclEntryV1>, WireError> {
    entries.sort_by(|one, other| one.key().cmp(&other.key()));
    if entries.windows(2).any(|pair| pair[0].key() == pair[1].key()) {
        return invalid("Invalid ACL: multiple entries with same scope, type and name.");
    }
    check_count(&entries)?;
    let lacks =
        |scope| BASE.iter().any(|kind| !entries.iter().any(|entry| entry.key() == (scope, *kind, None)));
    if lacks(AclScope::Access) {
        return invalid("Invalid ACL: the user, group and other entries are required.");
    }
    if entries.iter().any(|entry| entry.scope == AclScope::Default) && lacks(AclScope::Default) {
        return invalid("Invalid default ACL: the user, group and other entries are required.");
    }
    Ok(entries)
}

/// What a caller names, in order (HDFS: `ValidatedAclSpec`).
fn validated(spec: &[AclEntryV1]) -> Result<Vec<AclEntryV1>, WireError> {
    let is_odd =
        |entry: &&AclEntryV1| entry.name.is_some() && matches!(entry.kind, AclKind::Mask | AclKind::Other);
    if spec.iter().any(|entry| is_odd(&entry)) {
        return invalid("Invalid ACL: this entry type must not have a name.");
    }
    if let Some(entry) = spec.iter().find(|entry| entry.permission > 7) {
        return invalid(format!("Invalid ACL: permission {} is none of 0 to 7.", entry.permission));
    }
    let mut spec = spec.to_vec();
    spec.sort_by(|one, other| one.key().cmp(&other.key()));
    if spec.windows(2).any(|pair| pair[0].key() == pair[1].key()) {
        return invalid("Invalid ACL: multiple entries with same scope, type and name.");
    }
    check_count(&spec)?;
    Ok(spec)
}

fn check_count(entries: &[AclEntryV1]) -> Result<(), WireError> {
    for (scope, word) in [(AclScope::Access, "access"), (AclScope::Default, "default")] {
        let count = entries.iter().filter(|entry| entry.scope == scope).count();
        if count > ACL_ENTRIES_MAX {
            return invalid(format!(
                "Invalid ACL: ACL has {count} {word} entries, which exceeds maximum of {ACL_ENTRIES_MAX}."
            ));
        }
    }
    Ok(())
}

fn find<'a>(spec: &'a [AclEntryV1], entry: &AclEntryV1) -> Option<&'a AclEntryV1> {
    spec.iter().find(|named| named.key() == entry.key())
}

fn invalid<T>(message: impl Into<String>) -> Result<T, WireError> {
    Err(WireError::new(Code::InvalidArgument, message))
}
