//! Where a command works: a file system and an absolute path on it, from what its user wrote.

use ringfs_sdk::Client;

use crate::admin::connect;

/// The file system and the absolute path that are meant: a URI with a path, or a path on the file system of `fs`, or on that
/// of the environment or configuration. What is relative is below `/user/NAME`.
///
/// # Errors
/// A sentence for the user: no file system is known, or its URI is wrong.
pub fn find(fs: Option<&str>, text: &str) -> Result<(Client, String), String> {
    let (uri, path) = split(text);
    let client = connect(uri.as_deref().or(fs)).map_err(|error| error.to_string())?;
    let path = absolute(path, client.user());
    Ok((client, path))
}

/// `ringfs://host:port` and the path behind it.
fn split(text: &str) -> (Option<String>, &str) {
    let Some((scheme, rest)) = text.split_once("://") else { return (None, text) };
    let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    (Some(format!("{scheme}://{authority}")), path)
}

fn absolute(path: &str, user: &str) -> String {
    let path = match path {
        "" | "." => format!("/user/{user}"),
        path if path.starts_with('/') => path.to_owned(),
        path => format!("/user/{user}/{path}"),
    };
    match path.trim_end_matches('/') {
        "" => "/".to_owned(),
        path => path.to_owned(),
    }
}

/// The path of something below a directory.
pub fn below(directory: &str, path: &str) -> String {
    match (directory, path) {
        (directory, "") => directory.to_owned(),
        ("/", path) => format!("/{path}"),
        (directory, path) => format!("{directory}/{path}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_absolute() {
        for (text, expected) in [
            ("", "/user/ann"),
            (".", "/user/ann"),
            ("a/b/", "/user/ann/a/b"),
            ("/", "/"),
            ("//", "/"),
            ("/a/", "/a"),
        ] {
            assert_eq!(absolute(text, "ann"), expected, "{text}");
        }
    }

    #[test]
    fn a_uri_names_a_file_system_of_its_own() {
        assert_eq!(split("ringfs://h:1/a/b"), (Some("ringfs://h:1".to_owned()), "/a/b"));
        assert_eq!(split("ringfs://h:1"), (Some("ringfs://h:1".to_owned()), "/"));
        assert_eq!(split("/a"), (None, "/a"));
    }

    #[test]
    fn what_is_below_the_root_has_one_slash() {
        assert_eq!(below("/", "a/b"), "/a/b");
        assert_eq!(below("/d", "a"), "/d/a");
        assert_eq!(below("/d/f", ""), "/d/f");
    }
}
