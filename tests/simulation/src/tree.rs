//! A namespace as simple as can be: what one worker's directory may look like.

use std::collections::BTreeMap;

/// What has a name: a directory, or the file of this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A directory.
    Directory,
    /// A file.
    File(u64),
}

/// Names and what they name, by full path. The directory it begins with is always there.
pub type Tree = BTreeMap<String, Node>;

/// A change of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes a directory and those above it.
    Mkdirs(String),
    /// Makes a file, in place of another if it may.
    Create {
        /// Its path.
        path: String,
        /// Its number.
        number: u64,
        /// Whether it may replace a file.
        overwrite: bool,
        /// Its length, if it is made with its content and closed.
        content: Option<u64>,
    },
    /// Gives another name, which must be free unless what has it may be replaced.
    Rename {
        /// What is renamed.
        source: String,
        /// Its name from then on.
        target: String,
        /// Whether a file may take the place of a file, and a directory that of an empty one.
        overwrite: bool,
    },
    /// Deletes what is there, and what is in it.
    Delete(String),
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// The namespace after a change; `None` when the change must be refused.
pub fn apply(tree: &Tree, change: &Change) -> Option<Tree> {
    let mut after = tree.clone();
    match change {
        Change::Mkdirs(path) => make_directories(&mut after, path)?,
        Change::Create { path, number, overwrite, .. } => {
            make_directories(&mut after, parent(path))?;
            let is_free = match after.get(path) {
                None => true,
                Some(Node::File(_)) => *overwrite,
                Some(Node::Directory) => false,
            };
            is_free.then(|| after.insert(path.clone(), Node::File(*number)))?;
        }
        Change::Rename { source, target, overwrite } => {
            let is_replaceable = match (tree.get(source), tree.get(target)) {
                (_, None) => true,
                (Some(Node::File(_)), Some(Node::File(_))) => source != target,
                (Some(Node::Directory), Some(Node::Directory)) => {
                    source != target && !tree.keys().any(|path| is_below(path, target))
                }
                _ => false,
            };
            let is_possible = tree.contains_key(source)
                && is_replaceable
                && (*overwrite || !tree.contains_key(target))
                && tree.get(parent(target)) == Some(&Node::Directory)
                && !is_below(target, source);
            if !is_possible {
                return None;
            }
            after.remove(target);
            for (path, node) in tree.iter().filter(|(path, _)| *path == source || is_below(path, source)) {
                after.remove(path);
                after.insert(format!("{target}{}", &path[source.len()..]), *node);
            }
        }
        Change::Delete(path) => after.retain(|other, _| other != path && !is_below(other, path)),
    }
    Some(after)
}

fn make_directories(tree: &mut Tree, path: &str) -> Option<()> {
    let mut missing = Vec::new();
    let mut at = path;
    loop {
        match tree.get(at) {
            Some(Node::Directory) => break,
            Some(Node::File(_)) => return None,
            None if at.is_empty() => break,
            None => missing.push(at.to_owned()),
        }
        at = parent(at);
    }
    tree.extend(missing.into_iter().map(|path| (path, Node::Directory)));
    Some(())
}

/// Names in a directory, sorted; `None` when it is none.
pub fn list(tree: &Tree, directory: &str) -> Option<Vec<(String, Node)>> {
    (tree.get(directory) == Some(&Node::Directory)).then(|| {
        let inside = tree.iter().filter(|(path, _)| parent(path) == directory);
        inside.map(|(path, node)| (path[directory.len() + 1..].to_owned(), *node)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(path: &str, number: u64, overwrite: bool) -> Change {
        Change::Create { path: path.to_owned(), number, overwrite, content: None }
    }

    #[test]
    fn changes_do_what_they_say_or_are_refused() {
        let empty = Tree::from([("/w".to_owned(), Node::Directory)]);
        let tree = apply(&empty, &create("/w/a/f", 1, false)).expect("made");
        assert_eq!(list(&tree, "/w"), Some(vec![("a".to_owned(), Node::Directory)]));
        assert_eq!(apply(&tree, &create("/w/a/f", 2, false)), None);
        assert_eq!(apply(&tree, &create("/w/a/f/g", 2, false)), None);
        assert_eq!(apply(&tree, &create("/w/a/f", 2, true)).expect("replaced")["/w/a/f"], Node::File(2));
        let rename = |source: &str, target: &str, overwrite| Change::Rename {
            source: source.to_owned(),
            target: target.to_owned(),
            overwrite,
        };
        assert_eq!(apply(&tree, &rename("/w/a", "/w/a/b", true)), None);
        let moved = apply(&tree, &rename("/w/a", "/w/b", false)).expect("moved");
        let two = apply(&tree, &create("/w/g", 2, false)).expect("made");
        assert_eq!(apply(&two, &rename("/w/g", "/w/a/f", false)), None);
        let replaced = apply(&two, &rename("/w/g", "/w/a/f", true)).expect("replaced");
        assert_eq!((replaced.len(), replaced["/w/a/f"]), (3, Node::File(2)));
        assert_eq!(apply(&two, &rename("/w/g", "/w/a", true)), None);
        assert_eq!(apply(&two, &rename("/w/g", "/w/g", true)), None);
        assert_eq!(moved.keys().collect::<Vec<_>>(), ["/w", "/w/b", "/w/b/f"]);
        assert_eq!(apply(&moved, &Change::Delete("/w/b".into())), Some(empty.clone()));
        assert_eq!(apply(&empty, &Change::Delete("/w/none".into())), Some(empty));
    }
}
