//! Which groups a user belongs to, and whether he is a superuser: asked of the host, of a file, or of the configuration.
//!
//! Looking up may block (the host may ask a directory service), so it happens on threads that may wait, never on the
//! namespace thread. What was found is kept for a while and then looked up again beside the calls that still use the old.

use std::collections::{BTreeMap, HashMap};
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::calls::Credentials;
use crate::config::{Config, GroupMapping};

/// Users that are remembered, at most: beyond, all are forgotten and looked up again.
const USERS_MAX: usize = 65_536;
/// Groups of one user, at most: further ones do not count (Linux: `NGROUPS_MAX` is 65,536, NFS knows 16).
const GROUPS_MAX: usize = 1024;

/// The users as this namenode knows them.
#[derive(Debug)]
pub struct Identities {
    superusers: Vec<String>,
    superuser_group: String,
    are_checked: bool,
    source: Source,
    kept: Duration,
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug)]
enum Source {
    Host,
    File(PathBuf),
    Static(BTreeMap<String, Vec<String>>),
}

#[derive(Debug)]
struct Known {
    credentials: Arc<Credentials>,
    until: Instant,
}

impl Identities {
    /// As the configuration says; `superusers` are privileged whatever their groups.
    ///
    /// # Errors
    /// What is missing in the configuration.
    pub fn new(config: &Config, superusers: Vec<String>) -> Result<Self, String> {
        let groups = &config.groups;
        let source = match (groups.mapping, &groups.file) {
            (GroupMapping::Host, _) => Source::Host,
            (GroupMapping::Static, _) => Source::Static(groups.members.clone()),
            (GroupMapping::File, Some(file)) => Source::File(file.clone()),
            (GroupMapping::File, None) => {
                return Err("groups.mapping is \"file\": name it in groups.file".to_owned());
            }
        };
        Ok(Self {
            superusers,
            superuser_group: config.permissions.superuser_group.clone(),
            are_checked: config.permissions.enabled,
            source,
            kept: Duration::from_millis(groups.cache_ms),
            known: Mutex::default(),
        })
    }

    /// What is known of a user without asking anybody, and whether that is old enough to be looked up again.
    pub fn known(&self, user: &str) -> Option<(Arc<Credentials>, bool)> {
        if !self.are_checked || self.superusers.iter().any(|superuser| superuser == user) {
            return Some((Credentials::privileged(), false));
        }
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(user).map(|known| (known.credentials.clone(), known.until <= Instant::now()))
    }

    /// Looks a user up. May block. Whose groups cannot be had has those that he had before, or none.
    pub fn look_up(&self, user: &str) -> Arc<Credentials> {
        if let Some((credentials, false)) = self.known(user) {
            return credentials;
        }
        let found = self.groups_of(user);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(user).map(|known| known.credentials.clone());
        let credentials = match found {
            Ok(groups) => Arc::new(self.credentials(groups)),
            Err(error) => {
                tracing::warn!(user, error, "the groups of a user cannot be looked up");
                before.clone().unwrap_or_default()
            }
        };
        // The same object as before tells connections that nothing has changed.
        let credentials = before.filter(|before| *before == credentials).unwrap_or(credentials);
        if known.len() >= USERS_MAX {
            known.clear();
        }
        let until = Instant::now() + self.kept;
        known.insert(user.to_owned(), Known { credentials: credentials.clone(), until });
        credentials
    }

    /// The groups of a user, as they are now. May block.
    ///
    /// # Errors
    /// Why they cannot be had.
    pub fn groups(&self, user: &str) -> Result<Vec<String>, String> {
        self.groups_of(user)
    }

    /// Groups of all users are looked up anew.
    pub fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn credentials(&self, mut groups: Vec<String>) -> Credentials {
        if groups.contains(&self.superuser_group) {
            return Credentials { groups: Vec::new(), is_privileged: true };
        }
        groups.truncate(GROUPS_MAX);
        Credentials { groups, is_privileged: false }
    }

    fn groups_of(&self, user: &str) -> Result<Vec<String>, String> {
        match &self.source {
            Source::Host => groups_of_host(user),
            Source::Static(members) => Ok(members.get(user).cloned().unwrap_or_default()),
            Source::File(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| format!("read {}: {error}", path.display()))?;
                Ok(groups_in(&text, user))
            }
        }
    }
}

/// The groups of a user in lines of `user = group, group`; `#` begins a comment. The last line of a user counts.
fn groups_in(text: &str, user: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let own = lines.filter_map(|line| line.split_once('=')).rfind(|(name, _)| name.trim() == user);
    let groups = own.map_or("", |(_, groups)| groups);
    groups.split(',').map(str::trim).filter(|group| !group.is_empty()).map(str::to_owned).collect()
}

/// The groups of a user of this host; none of one that it does not know (HDFS: `JniBasedUnixGroupsMapping`).
fn groups_of_host(user: &str) -> Result<Vec<String>, String> {
    use nix::unistd::{Group, User, getgrouplist};
    let failed = |error: nix::errno::Errno| error.to_string();
    let Some(account) = User::from_name(user).map_err(failed)? else { return Ok(Vec::new()) };
    let name = CString::new(user).map_err(|error| error.to_string())?;
    let mut groups = Vec::new();
    for gid in getgrouplist(&name, account.gid).map_err(failed)? {
        if let Some(group) = Group::from_gid(gid).map_err(failed)? {
            groups.push(group.name);
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Groups, Permissions};

    fn identities(groups: Groups) -> Identities {
        let config = Config { groups, ..Config::default() };
        Identities::new(&config, vec!["super".to_owned()]).expect("it makes sense")
    }

    fn members() -> BTreeMap<String, Vec<String>> {
        let of = |user: &str, groups: &[&str]| {
            (user.to_owned(), groups.iter().map(|group| (*group).to_owned()).collect())
        };
        [of("ann", &["staff", "research"]), of("eve", &["supergroup"])].into()
    }

    #[test]
    fn superusers_are_privileged_and_others_have_their_groups() {
        let mapping = GroupMapping::Static;
        let identities = identities(Groups { mapping, members: members(), ..Groups::default() });
        assert!(identities.look_up("super").is_privileged);
        assert!(identities.look_up("eve").is_privileged, "a member of the superuser group");
        let ann = identities.look_up("ann");
        assert_eq!((ann.groups.join(" "), ann.is_privileged), ("staff research".to_owned(), false));
        assert_eq!(*identities.look_up("bob"), Credentials::default());
        assert!(Arc::ptr_eq(&ann, &identities.look_up("ann")));
    }

    #[test]
    fn everybody_is_privileged_where_permissions_are_off() {
        let permissions = Permissions { enabled: false, ..Permissions::default() };
        let config = Config { permissions, ..Config::default() };
        let identities = Identities::new(&config, Vec::new()).expect("it makes sense");
        assert!(identities.look_up("bob").is_privileged);
    }

    #[test]
    fn a_file_names_users_and_groups() {
        let text =
            "# users\nann = staff,research\nbob=staff # and nothing else\nann = research , ops\n\n=x\neve\n";
        assert_eq!(groups_in(text, "ann"), ["research", "ops"]);
        assert_eq!(groups_in(text, "bob"), ["staff"]);
        assert!(groups_in(text, "eve").is_empty() && groups_in(text, "carl").is_empty());
    }

    #[test]
    fn what_is_looked_up_again_keeps_its_identity_until_it_changes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("groups");
        std::fs::write(&path, "ann = staff\n").expect("written");
        let mapping = GroupMapping::File;
        let groups = Groups { mapping, file: Some(path.clone()), cache_ms: 0, ..Groups::default() };
        let identities = identities(groups);
        let first = identities.look_up("ann");
        assert!(identities.known("ann").is_some_and(|(_, is_old)| is_old));
        assert!(Arc::ptr_eq(&first, &identities.look_up("ann")));
        std::fs::write(&path, "ann = staff, ops\n").expect("written");
        assert_eq!(identities.look_up("ann").groups, ["staff", "ops"]);
        std::fs::remove_file(&path).expect("removed");
        assert_eq!(identities.look_up("ann").groups, ["staff", "ops"], "as it was before");
    }

    #[test]
    fn the_host_knows_its_root() {
        assert!(groups_of_host("root").expect("answered").contains(&"root".to_owned()));
        assert!(groups_of_host("nobody at all").expect("answered").is_empty());
    }
}
