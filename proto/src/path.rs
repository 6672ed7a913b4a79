//! Paths: absolute, `/` separated UTF-8, as HDFS has them (`DFSUtil.isValidName`).

use crate::code::{Code, WireError};
use crate::limits::{NAME_BYTES_MAX, PATH_BYTES_MAX, PATH_DEPTH_MAX};

/// The components of a path that has been checked; the root has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Components<'a> {
    path: &'a str,
    names: Vec<&'a str>,
}

impl<'a> Components<'a> {
    /// Checks a path and splits it. Repeated and trailing slashes are ignored.
    ///
    /// # Errors
    /// `InvalidArgument` for a path that is not absolute or has a component `.`, `..`, or one with `:` or NUL;
    /// `NameTooLong` for a component above 255 bytes, a path above 8000 bytes or more than 1000 levels.
    pub fn parse(path: &'a str) -> Result<Self, WireError> {
        if path.len() > PATH_BYTES_MAX {
            return Err(path_too_long());
        }
        if !path.starts_with('/') {
            return Err(WireError::new(
                Code::InvalidArgument,
                format!("Invalid path name {path:?}: not absolute"),
            ));
        }
        let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
        if names.len() > PATH_DEPTH_MAX {
            return Err(path_too_long());
        }
        for name in &names {
            check_name(name, path)?;
        }
        Ok(Self { path, names })
    }

    /// Refuses a path under which nothing can be made: clients of HDFS ask for snapshots and inodes by these names.
    ///
    /// # Errors
    /// `InvalidArgument`.
    pub fn check_can_be_made(&self) -> Result<(), WireError> {
        let reserved = match self.names.as_slice() {
            [".reserved", ..] => ".reserved",
            names if names.contains(&".snapshot") => ".snapshot",
            _ => return Ok(()),
        };
        Err(WireError::new(Code::InvalidArgument, format!("\"{reserved}\" is a reserved name.")))
    }

    /// The names from the root down.
    pub fn names(&self) -> &[&'a str] {
        &self.names
    }

    /// The path as it was given.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// Whether this is the root.
    pub fn is_root(&self) -> bool {
        self.names.is_empty()
    }

    /// The path in its shortest form.
    pub fn canonical(&self) -> String {
        if self.names.is_empty() { "/".to_owned() } else { format!("/{}", self.names.join("/")) }
    }
}

fn path_too_long() -> WireError {
    let message = format!("Pathname too long.  Limit {PATH_BYTES_MAX} characters, {PATH_DEPTH_MAX} levels.");
    WireError::new(Code::NameTooLong, message)
}

fn check_name(name: &str, path: &str) -> Result<(), WireError> {
    if name.len() > NAME_BYTES_MAX {
        let directory = path.split(name).next().unwrap_or_default().trim_end_matches('/');
        let message = format!(
            "The maximum path component name limit of {name} in directory {} is exceeded: limit={NAME_BYTES_MAX} length={}",
            if directory.is_empty() { "/" } else { directory },
            name.len()
        );
        return Err(WireError::new(Code::NameTooLong, message));
    }
    if matches!(name, "." | "..") || name.contains([':', '\0']) {
        return Err(WireError::new(Code::InvalidArgument, format!("Invalid path name {path}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slashes_are_normalized() {
        let components = Components::parse("//a///b c/é/").expect("valid");
        assert_eq!(components.names(), ["a", "b c", "é"]);
        assert_eq!(components.canonical(), "/a/b c/é");
        assert!(Components::parse("/").expect("valid").is_root());
    }

    #[test]
    fn invalid_paths_are_refused() {
        for path in ["", "a", "a/b", "/a/../b", "/.", "/a:b", "/a\0"] {
            assert_eq!(Components::parse(path).expect_err(path).code, Code::InvalidArgument);
        }
        let long_name = format!("/{}", "n".repeat(256));
        let deep = "/d".repeat(1001);
        let long = format!("/{}", "n/".repeat(4000));
        for path in [long_name, deep, long] {
            assert_eq!(Components::parse(&path).expect_err("too long").code, Code::NameTooLong);
        }
        assert!(Components::parse(&format!("/{}", "n".repeat(255))).is_ok());
    }
}
