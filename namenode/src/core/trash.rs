//! Empties the trash: what users have moved to `/user/U/.Trash/Current` becomes a checkpoint named by the time, and
//! checkpoints that are old enough are deleted. HDFS: `TrashPolicyDefault.Emptier`; times are in UTC here, so that no
//! server's clock setting matters.
//!
//! Users are looked at a few in one tick; each change is a record of its own, and large trees are freed in turns.

use chrono::{DateTime, NaiveDateTime};
use ringfs_proto::path::Components;

use super::{Core, Now};
use crate::wal::record::{ChangeV1, DeleteV1, RenameV1};

/// Users whose trash is looked at in one tick, at most.
const USERS_PER_TICK_MAX: u32 = 100;
/// Entries of one user's trash that are looked at in one pass, at most.
const CHECKPOINTS_MAX: u32 = 1000;
/// Checkpoints of one second, at most (HDFS: 1000 attempts).
const SAME_NAMES_MAX: u32 = 1000;
/// Name of a checkpoint: year to second.
const NAME_FORMAT: &str = "%y%m%d%H%M%S";
/// Bytes of such a name.
const NAME_LEN: usize = 12;
/// Bytes of a name as older releases of Hadoop gave it: year to minute.
const OLD_NAME_LEN: usize = 10;
/// What is in the trash and is no checkpoint yet.
const CURRENT: &str = "Current";
const MINUTE_MS: u64 = 60_000;

/// When the trash is emptied next, and how far a pass is.
#[derive(Debug, Default)]
pub(super) struct Emptier {
    /// Wall clock, ms; 0 before the first tick.
    next_ms: u64,
    /// The last user that was looked at in the pass that is under way.
    pub(super) after: Option<String>,
}

impl Core {
    /// Time has passed: when it is time, the trash of some users is emptied.
    pub(super) fn look_at_trash(&mut self, now: Now) {
        let period_ms = self.trash_period_ms();
        if period_ms == 0 || !self.changes_are_accepted() {
            return;
        }
        // A clock that was set back does not stop the emptier for long.
        if self.emptier.next_ms == 0 || self.emptier.next_ms > now.wall_ms + period_ms {
            self.emptier.next_ms = (now.wall_ms / period_ms + 1) * period_ms;
        }
        if self.emptier.after.is_none() && now.wall_ms >= self.emptier.next_ms {
            self.emptier.after = Some(String::new());
            self.emptier.next_ms = (now.wall_ms / period_ms + 1) * period_ms;
        }
        if let Some(after) = self.emptier.after.take() {
            self.emptier.after = self.empty_some(&after, now);
        }
    }

    /// Between two passes: never longer than what is in the trash is kept.
    fn trash_period_ms(&self) -> u64 {
        let (kept, period) =
            (self.config.trash_interval_minutes, self.config.trash_checkpoint_interval_minutes);
        let period = if period == 0 { kept } else { period.min(kept) };
        u64::from(period) * MINUTE_MS
    }

    /// Empties the trash of the users after one; returns the last one if there are more.
    fn empty_some(&mut self, after: &str, now: Now) -> Option<String> {
        let users = Components::parse("/user").ok()?;
        let page = self.state.list(&users, after, USERS_PER_TICK_MAX).ok()?;
        for user in &page.entries {
            self.empty(&format!("/user/{}/.Trash", user.name), now);
        }
        page.entries.last().filter(|_| page.remaining > 0).map(|last| last.name.clone())
    }

    fn empty(&mut self, trash: &str, now: Now) {
        let Ok(path) = Components::parse(trash) else { return };
        let Ok(page) = self.state.list(&path, "", CHECKPOINTS_MAX) else { return };
        let kept_ms = u64::from(self.config.trash_interval_minutes) * MINUTE_MS;
        for entry in &page.entries {
            if is_older(&entry.name, now.wall_ms.saturating_sub(kept_ms)) {
                let path = format!("{trash}/{}", entry.name);
                tracing::info!(path, "deleted from the trash");
                let change = DeleteV1 { path, recursive: true, is_subtree_permitted: true };
                self.log_own(ChangeV1::Delete(change), None, now);
            }
        }
        if page.entries.iter().any(|entry| entry.name == CURRENT)
            && let Some(target) = self.checkpoint_name(trash, now)
        {
            tracing::info!(target, "a checkpoint of the trash");
            let source = format!("{trash}/{CURRENT}");
            self.log_own(ChangeV1::Rename(RenameV1 { source, target, overwrite: false }), None, now);
        }
    }

    /// A name by the time that is free.
    fn checkpoint_name(&self, trash: &str, now: Now) -> Option<String> {
        let time = DateTime::from_timestamp_millis(i64::try_from(now.wall_ms).ok()?)?;
        let name = format!("{trash}/{}", time.format(NAME_FORMAT));
        let is_free =
            |name: &String| Components::parse(name).is_ok_and(|path| self.state.stat(&path).is_err());
        let others = (1..SAME_NAMES_MAX).map(|number| format!("{name}-{number}"));
        std::iter::once(name.clone()).chain(others).find(is_free)
    }
}

/// Whether an entry of the trash is a checkpoint from before a time, ms. What has another name stays for ever, as in HDFS.
fn is_older(name: &str, than_ms: u64) -> bool {
    let (time, number) = name.split_once('-').unwrap_or((name, "1"));
    let is_name = number.parse::<u32>().is_ok() && time.bytes().all(|byte| byte.is_ascii_digit());
    let time = match time.len() {
        NAME_LEN => time.to_owned(),
        OLD_NAME_LEN => format!("{time}00"),
        _ => return false,
    };
    let parsed = NaiveDateTime::parse_from_str(&time, NAME_FORMAT).ok().filter(|_| is_name);
    let made_ms = parsed.and_then(|time| u64::try_from(time.and_utc().timestamp_millis()).ok());
    made_ms.is_some_and(|made_ms| made_ms < than_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_told_by_their_names() {
        let at = |text: &str| {
            let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S").expect("a time");
            time.and_utc().timestamp_millis() as u64
        };
        let later = at("2026-11-25 06:30:01");
        for name in ["261125063000", "261125063000-7", "2611250630", "250101000000"] {
            assert!(is_older(name, later), "{name}");
        }
        for name in
            ["261125063001", "261125063002", "Current", "", "26112506300", "261125063000-x", "991332000000"]
        {
            assert!(!is_older(name, later), "{name}");
        }
    }
}
