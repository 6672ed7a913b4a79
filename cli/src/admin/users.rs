//! `ringfs admin users`: who asks the namenode, how much, and how long it makes them wait. HDFS has no such command.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::HumanDuration;
use ringfs_proto::meta::inspect::UserActivityV1;
use ringfs_sdk::{Activity, Client, Code};
use serde_json::{Value, json};

use super::connect;
use crate::output::{align, outln};

/// Options of the command.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Show the N users who asked most; 0 means all that are known.
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The file system [default: RINGFS_URI or the client's configuration]
    #[arg(long, value_name = "URI")]
    fs: Option<String>,
}

/// Shows them.
pub(super) fn users(options: &Options) -> Result<(), String> {
    let client = connect(options.fs.as_deref()).map_err(|error| error.to_string())?;
    let activity = client.activity(options.top).map_err(|error| error.to_string())?;
    let open_files = open_files(&client).map_err(|error| error.to_string())?;
    if options.json {
        outln!("{:#}", as_json(&activity, open_files.as_ref()));
    } else {
        table(&activity, open_files.as_ref()).iter().for_each(|line| outln!("{line}"));
    }
    Ok(())
}

/// Files that each user has open for writing; `None` when the caller may not ask.
fn open_files(client: &Client) -> ringfs_sdk::Result<Option<BTreeMap<String, u64>>> {
    let pages = match client.open_files("/") {
        Ok(pages) => pages,
        Err(error) if error.code() == Some(Code::PermissionDenied) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut by_user = BTreeMap::new();
    for file in pages {
        *by_user.entry(file?.user).or_default() += 1;
    }
    Ok(Some(by_user))
}

fn waited_us(user: &UserActivityV1) -> u64 {
    user.waited_us.checked_div(user.calls).unwrap_or(0)
}

fn as_json(activity: &Activity, open_files: Option<&BTreeMap<String, u64>>) -> Value {
    let row = |user: &UserActivityV1| {
        json!({
            "user": user.user, "connections": user.connections, "calls": user.calls, "refused": user.refused,
            "waited_us_mean": waited_us(user),
            "open_files": open_files.map(|files| files.get(&user.user).copied().unwrap_or(0)),
        })
    };
    json!({ "uptime_ms": activity.uptime_ms, "users": activity.users.iter().map(row).collect::<Vec<_>>() })
}

fn table(activity: &Activity, open_files: Option<&BTreeMap<String, u64>>) -> Vec<String> {
    let uptime = HumanDuration(Duration::from_millis(activity.uptime_ms));
    let mut rows =
        vec![["CALLS", "REFUSED", "WAIT (µs)", "CONNECTIONS", "OPEN FILES", "USER"].map(str::to_owned)];
    rows.extend(activity.users.iter().map(|user| {
        let open = match open_files {
            Some(files) => files.get(&user.user).copied().unwrap_or(0).to_string(),
            None => "-".to_owned(),
        };
        let name = if user.user.is_empty() { "(all others)" } else { &user.user };
        [
            user.calls.to_string(),
            user.refused.to_string(),
            waited_us(user).to_string(),
            user.connections.to_string(),
            open,
            name.to_owned(),
        ]
    }));
    let mut lines = vec![format!("Since the namenode's start {uptime} ago:")];
    lines.extend(align(&rows, [true, true, true, true, true, false]));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity() -> Activity {
        let user = |user: &str, calls, refused, waited_us| UserActivityV1 {
            user: user.to_owned(),
            connections: 2,
            calls,
            refused,
            waited_us,
        };
        let users = vec![user("ann", 1000, 7, 12_000), user("", 3, 0, 0), user("idle", 0, 0, 0)];
        Activity { uptime_ms: 120_000, operations: Vec::new(), users }
    }

    #[test]
    fn users_are_shown_with_how_long_they_wait() {
        let open = BTreeMap::from([("ann".to_owned(), 4)]);
        assert_eq!(
            table(&activity(), Some(&open)),
            [
                "Since the namenode's start 2 minutes ago:",
                "CALLS  REFUSED  WAIT (µs)  CONNECTIONS  OPEN FILES  USER",
                " 1000        7         12            2           4  ann",
                "    3        0          0            2           0  (all others)",
                "    0        0          0            2           0  idle",
            ]
        );
        assert!(table(&activity(), None)[2].contains("           -  ann"));
        let value = as_json(&activity(), Some(&open));
        assert_eq!(value["users"][0]["waited_us_mean"], 12);
        assert_eq!(as_json(&activity(), None)["users"][0]["open_files"], Value::Null);
    }
}
