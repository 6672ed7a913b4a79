//! What a user calls a path: absolute, relative to the home directory, or a URI with a file system of its own.

use std::cell::RefCell;
use std::collections::BTreeMap;

use ringfs_sdk::{Client, FileKind, FileStatus, Kind, WalkOptions};

use super::Failure;
use crate::admin::connect;

/// A path on a file system, as it was written and as it is meant.
#[derive(Clone)]
pub struct Place {
    /// The file system.
    pub client: Client,
    /// As the user wrote it, for messages.
    pub shown: String,
    /// Absolute.
    pub path: String,
}

/// Finds file systems; each is connected once.
pub struct Resolver {
    default: Option<String>,
    clients: RefCell<BTreeMap<String, Client>>,
}

impl Resolver {
    /// `default` is the file system of paths without one; `None` means that of the environment or configuration.
    pub fn new(default: Option<String>) -> Self {
        Self { default, clients: RefCell::default() }
    }

    /// Finds the file system of a path and makes the path absolute.
    ///
    /// # Errors
    /// When no file system is known, or its URI is wrong.
    pub fn place(&self, text: &str) -> Result<Place, Failure> {
        let (uri, path) = match text.split_once("://") {
            Some((scheme, rest)) => {
                let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
                (Some(format!("{scheme}://{authority}")), path)
            }
            None => (self.default.clone(), text),
        };
        let client = self.client(uri.as_deref())?;
        let path = match path {
            "" | "." => format!("/user/{}", client.user()),
            path if path.starts_with('/') => path.to_owned(),
            path => format!("/user/{}/{path}", client.user()),
        };
        let path = match path.trim_end_matches('/') {
            "" => "/".to_owned(),
            path => path.to_owned(),
        };
        let shown = match text.trim_end_matches('/') {
            "" if text.is_empty() => ".".to_owned(),
            "" => "/".to_owned(),
            shown => shown.to_owned(),
        };
        Ok(Place { client, shown, path })
    }

    /// What a path stands for, or a pattern: `*`, `?`, `[a-c]`, `{a,b}`, with a backslash before what is meant as it is. A
    /// path without any of these stands for itself, whether or not it is there.
    pub fn matches(&self, text: &str) -> Result<Vec<Place>, Failure> {
        let place = self.place(text)?;
        if !text.contains(['*', '?', '[', '{', '\\']) {
            return Ok(vec![place]);
        }
        let found = place.client.glob(&place.path).map_err(|error| place.failure(&error))?;
        let home = format!("/user/{}/", place.client.user());
        let uri = text.find("://").map(|_| place.client.uri());
        let shown = |path: &str| match &uri {
            Some(uri) => format!("{uri}{path}"),
            None if text.starts_with('/') => path.to_owned(),
            None => path.strip_prefix(&home).unwrap_or(path).to_owned(),
        };
        let placed = found.into_iter().map(|found| Place {
            client: place.client.clone(),
            shown: shown(&found.path),
            path: found.path,
        });
        Ok(placed.collect())
    }

    fn client(&self, uri: Option<&str>) -> Result<Client, Failure> {
        let key = uri.unwrap_or_default().to_owned();
        if let Some(client) = self.clients.borrow().get(&key) {
            return Ok(client.clone());
        }
        let client = connect(uri)?;
        self.clients.borrow_mut().insert(key, client.clone());
        Ok(client)
    }
}

impl Place {
    /// The entry `name` of this directory; entries of `.` are shown without it, as in Hadoop.
    pub fn child(&self, name: &str) -> Self {
        let join =
            |base: &str| if base.ends_with('/') { format!("{base}{name}") } else { format!("{base}/{name}") };
        let shown = if self.shown == "." { name.to_owned() } else { join(&self.shown) };
        Self { client: self.client.clone(), shown, path: join(&self.path) }
    }

    /// The last name of the path; empty for the root.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// All that is below this directory, parents before what is in them, in the order of names; nothing below a file.
    /// `depth_max` levels, 0 for all.
    pub fn below(&self, depth_max: u32) -> Result<Vec<(Self, FileStatus)>, Failure> {
        if self.stat()?.kind == FileKind::File {
            return Ok(Vec::new());
        }
        let options = WalkOptions { depth_max, ..WalkOptions::default() };
        let entries = self.client.walk(&self.path, &options).map_err(|error| self.failure(&error))?;
        let entry = |entry: ringfs_sdk::Result<ringfs_sdk::WalkEntry>| {
            let entry = entry.map_err(|error| self.failure(&error))?;
            Ok((self.child(&entry.path), entry.status))
        };
        entries.map(entry).collect()
    }

    /// Its status; an error that is shown when it is not there.
    pub fn stat(&self) -> Result<FileStatus, Failure> {
        self.client.stat(&self.path).map_err(|error| self.failure(&error))
    }

    /// Its status, if it is there.
    pub fn find(&self) -> Result<Option<FileStatus>, Failure> {
        match self.client.stat(&self.path) {
            Ok(status) => Ok(Some(status)),
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            Err(error) => Err(self.failure(&error)),
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> Result<bool, Failure> {
        Ok(self.find()?.is_some_and(|status| status.kind == FileKind::Directory))
    }

    /// The error of a call on this path, as Hadoop words it.
    pub fn failure(&self, error: &ringfs_sdk::Error) -> Failure {
        match error.errno() {
            libc::ENOENT => self.failed("No such file or directory"),
            libc::EEXIST => self.failed("File exists"),
            libc::EISDIR => self.failed("Is a directory"),
            libc::ENOTDIR => self.failed("Is not a directory"),
            libc::ENOTEMPTY => self.failed("Directory is not empty"),
            libc::EACCES => Failure::Path(error.message()),
            _ => Failure::Path(format!("`{}': {error}", self.shown)),
        }
    }

    /// The error of a change of an attribute, as Hadoop words it.
    pub fn changing(&self, what: &str, error: &ringfs_sdk::Error) -> Failure {
        match error.errno() {
            libc::ENOENT => self.failed("No such file or directory"),
            _ => Failure::Path(format!("{what} '{}': {}", self.shown, error.message())),
        }
    }

    /// A message about this path.
    pub fn failed(&self, reason: &str) -> Failure {
        Failure::Path(format!("`{}': {reason}", self.shown))
    }
}
