//! `--json`: one object a line, for programs. What people see rounded or masked is whole here.

use ringfs_sdk::{FileKind, FileStatus};
use serde_json::{Value, json};

use super::path::Place;
use crate::output::outln;

/// The option, as commands have it.
pub const FLAG: &str = "-json";

/// A status with its path.
pub fn status(place: &Place, status: &FileStatus) -> Value {
    json!({
        "path": place.path,
        "kind": if status.kind == FileKind::File { "file" } else { "directory" },
        "length": status.length, "replication": status.replication, "block_size": status.block_size,
        "owner": status.owner, "group": status.group, "mode": format!("{:o}", status.mode), "has_acl": status.has_acl,
        "mtime_ms": status.mtime_ms, "atime_ms": status.atime_ms, "inode": status.inode.0,
        "version": status.version.0, "children": status.children, "is_open": status.is_open,
        "crc": status.content_crc.map(|crc| json!({ "kind": format!("{:?}", crc.kind), "value": format!("{:08x}", crc.crc) })),
    })
}

/// Prints an object on a line.
pub fn print(value: &Value) {
    outln!("{value}");
}
