//! Configuration files: TOML, where an unknown key is refused with the nearest known one.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Names further apart than this are not taken for a slip.
const NEAR_ENOUGH: f64 = 0.6;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFileError {
    /// It cannot be read.
    #[error("read configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It is not TOML, or a value is of the wrong kind.
    #[error("configuration {path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A key that there is not.
    #[error("configuration {path}: unknown key `{key}`{hint}")]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The nearest known one, if one is near.
        hint: String,
    },
}

/// Reads a configuration.
///
/// # Errors
/// [`ConfigFileError`].
pub fn read<C: DeserializeOwned + Serialize + Default>(path: &Path) -> Result<C, ConfigFileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigFileError::Read { path: path.to_owned(), source })?;
    let invalid = |reason: String| ConfigFileError::Invalid { path: path.to_owned(), reason };
    let describe = |error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        invalid(format!("line {}: {}", before.matches('\n').count() + 1, error.message()))
    };
    let table: toml::Table = toml::from_str(&text).map_err(describe)?;
    let known = known_keys::<C>();
    if let Some(key) = table.keys().find(|key| !known.contains(key)) {
        let hint = nearest(key, &known).map_or(String::new(), |near| format!("; did you mean `{near}`?"));
        return Err(ConfigFileError::UnknownKey { path: path.to_owned(), key: key.clone(), hint });
    }
    toml::from_str(&text).map_err(describe)
}

/// Every key of a configuration: those of its default, and those that are absent there.
fn known_keys<C: Serialize + Default>() -> Vec<String> {
    // TOML has no null: JSON shows keys without a value too.
    match serde_json::to_value(C::default()) {
        Ok(serde_json::Value::Object(fields)) => fields.into_iter().map(|(key, _)| key).collect(),
        _ => Vec::new(),
    }
}

fn nearest<'a>(key: &str, known: &'a [String]) -> Option<&'a str> {
    let scored = known.iter().map(|name| (strsim::jaro_winkler(key, name), name));
    let (score, name) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (score >= NEAR_ENOUGH).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text<C: DeserializeOwned + Serialize + Default>(text: &str) -> Result<C, ConfigFileError> {
        let temp = tempfile::tempdir().expect("temporary directory");
        let path = temp.path().join("config.toml");
        std::fs::write(&path, text).expect("written");
        read(&path)
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let error =
            read_text::<ringfs_namenode::Config>("wal_dir = ['/x']").expect_err("refused").to_string();
        assert!(error.ends_with("unknown key `wal_dir`; did you mean `wal_dirs`?"), "{error}");
        let error =
            read_text::<ringfs_datanode::Config>("name_node = 'x:1'").expect_err("refused").to_string();
        assert!(error.contains("did you mean `namenode`?"), "{error}");
        assert!(read_text::<ringfs_datanode::Config>("port = 'x'").is_err());
    }

    #[test]
    fn every_key_is_documented() {
        let document = include_str!("../../docs/configuration.md");
        let keys = known_keys::<ringfs_namenode::Config>()
            .into_iter()
            .chain(known_keys::<ringfs_datanode::Config>());
        for key in keys {
            // A table has a row for each of its own keys.
            let is_documented = ["` |", "."].iter().any(|end| document.contains(&format!("| `{key}{end}")));
            assert!(is_documented, "docs/configuration.md lacks `{key}`");
        }
    }
}
