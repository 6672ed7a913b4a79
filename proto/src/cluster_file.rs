//! The cluster's identity as a small TOML text: who belongs together, and the key that proves it.
//!
//! The namenode keeps it beside its log; `ringfs admin join-file` writes it, with the namenode's address, for a
//! datanode on another host. It holds a secret: write it with mode 0600.

use serde::{Deserialize, Serialize};

use crate::capability::{ClusterKey, KEY_BYTES};
use crate::ids::ClusterId;

/// Identity and key of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterFile {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its key.
    pub key: ClusterKey,
    /// `host:port` of the namenode, in a file made for a datanode.
    pub namenode: Option<String>,
}

/// Why a text is not a cluster file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("parse cluster file: {reason}")]
pub struct ClusterFileError {
    /// What is wrong.
    pub reason: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    cluster: String,
    key_number: u32,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    namenode: Option<String>,
}

impl ClusterFile {
    /// Reads the text.
    ///
    /// # Errors
    /// [`ClusterFileError`] when it is not TOML of this form.
    pub fn parse(text: &str) -> Result<Self, ClusterFileError> {
        let error = |reason: String| ClusterFileError { reason };
        let text: Text = toml::from_str(text).map_err(|e| error(e.message().to_owned()))?;
        let cluster = text.cluster.parse().map_err(|e| error(format!("{e}")))?;
        let key = parse_key(&text.key)
            .ok_or_else(|| error(format!("key is not {} hexadecimal digits", KEY_BYTES * 2)))?;
        Ok(Self { cluster, key: ClusterKey::new(text.key_number, key), namenode: text.namenode })
    }

    /// The text.
    pub fn render(&self) -> String {
        let key = self.key.secret().iter().map(|byte| format!("{byte:02x}")).collect();
        let text = Text {
            cluster: self.cluster.to_string(),
            key_number: self.key.number(),
            key,
            namenode: self.namenode.clone(),
        };
        let body = toml::to_string(&text).expect("strings and numbers are TOML");
        format!(
            "# Identity and key of a RingFS cluster. Whoever has the key can read every block: keep it secret.\n{body}"
        )
    }
}

fn parse_key(text: &str) -> Option<[u8; KEY_BYTES]> {
    if text.len() != KEY_BYTES * 2 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; KEY_BYTES];
    for (byte, at) in key.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(text.get(at..at + 2)?, 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        let file = ClusterFile {
            cluster: ClusterId([3; 16]),
            key: ClusterKey::new(1, [0xa5; KEY_BYTES]),
            namenode: Some("127.0.0.1:8020".to_owned()),
        };
        let parsed = ClusterFile::parse(&file.render()).expect("own text");
        assert_eq!(parsed.cluster, file.cluster);
        assert_eq!(parsed.key.secret(), file.key.secret());
        assert_eq!(parsed.namenode, file.namenode);
    }

    #[test]
    fn damaged_text_is_rejected() {
        assert!(ClusterFile::parse("").is_err());
        assert!(ClusterFile::parse("cluster = 'x'\nkey_number = 1\nkey = ''").is_err());
    }
}
