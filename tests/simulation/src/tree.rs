//! A namespace as simple as can be: what one worker's directory may look like.

use std::collections::BTreeMap;

use crate::attributes::{Attribute, Attributes};

/// What has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The number of a file; none of a directory.
    pub file: Option<u64>,
    /// What else it carries.
    pub attributes: Attributes,
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
        /// Bytes per block.
        block_size: u64,
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
    /// Moves what is in files behind what is in another.
    Concat {
        /// The other, whose attributes stay.
        target: String,
        /// The files.
        sources: Vec<String>,
        /// The number of what the target is from then on.
        number: u64,
        /// The numbers of what becomes it, in order.
        parts: Vec<u64>,
        /// Whether the files may be joined: what a tree does not know.
        fits: bool,
    },
    /// Changes an attribute of what is there.
    Set(String, Attribute),
    /// Makes several changes, all or none.
    Commit(Vec<Step>),
}

/// One of several changes that are made together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// A path and whether something must be there.
    pub condition: Option<(String, bool)>,
    /// The change. It deletes only what is there.
    pub change: Change,
}

impl Node {
    /// A new directory, or file of this number.
    fn new(tree: &Tree, path: &str, file: Option<u64>) -> Self {
        let group = tree.get(parent(path)).map(|above| above.attributes.group());
        Self { file, attributes: Attributes::of_new(file.is_none(), group) }
    }
}

/// A directory and nothing in it.
pub fn empty(root: String) -> Tree {
    let node = Node::new(&Tree::new(), &root, None);
    Tree::from([(root, node)])
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

fn is_below(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

fn is_directory(tree: &Tree, path: &str) -> bool {
    tree.get(path).is_some_and(|node| node.file.is_none())
}

fn touch_parent(tree: &mut Tree, path: &str) {
    if let Some(above) = tree.get_mut(parent(path)) {
        above.attributes.is_touched();
    }
}

/// The namespace after a change; `None` when the change must be refused.
pub fn apply(tree: &Tree, change: &Change) -> Option<Tree> {
    let mut after = tree.clone();
    match change {
        Change::Mkdirs(path) => make_directories(&mut after, path, false)?,
        Change::Create { path, number, overwrite, .. } => {
            make_directories(&mut after, parent(path), true)?;
            let is_free = match after.get(path) {
                None => true,
                Some(there) => there.file.is_some() && *overwrite,
            };
            let node = Node::new(&after, path, Some(*number));
            is_free.then(|| after.insert(path.clone(), node))?;
            touch_parent(&mut after, path);
        }
        Change::Rename { source, target, overwrite } => {
            let is_replaceable = match (tree.get(source)?.file, tree.get(target).map(|node| node.file)) {
                (_, None) => true,
                (Some(_), Some(Some(_))) => source != target,
                (None, Some(None)) => source != target && !tree.keys().any(|path| is_below(path, target)),
                _ => false,
            };
            let is_possible = is_replaceable
                && (*overwrite || !tree.contains_key(target))
                && is_directory(tree, parent(target))
                && !is_below(target, source);
            if !is_possible {
                return None;
            }
            after.remove(target);
            for (path, node) in tree.iter().filter(|(path, _)| *path == source || is_below(path, source)) {
                after.remove(path);
                after.insert(format!("{target}{}", &path[source.len()..]), node.clone());
            }
            touch_parent(&mut after, source);
            touch_parent(&mut after, target);
        }
        Change::Delete(path) => {
            after.retain(|other, _| other != path && !is_below(other, path));
            if after.len() < tree.len() {
                touch_parent(&mut after, path);
            }
        }
        Change::Concat { target, sources, number, fits, .. } => {
            let is_file = |path: &String| tree.get(path).is_some_and(|node| node.file.is_some());
            let are_files = sources.iter().chain([target]).all(is_file);
            if !fits || !are_files {
                return None;
            }
            after.retain(|path, _| !sources.contains(path));
            let node = after.get_mut(target)?;
            node.file = Some(*number);
            node.attributes.is_touched();
            touch_parent(&mut after, target);
        }
        Change::Set(path, attribute) => after.get_mut(path)?.attributes.apply(attribute)?,
        Change::Commit(steps) => return steps.iter().try_fold(after, |tree, step| take(&tree, step)),
    }
    Some(after)
}

fn take(tree: &Tree, step: &Step) -> Option<Tree> {
    if step.condition.as_ref().is_some_and(|(path, is_there)| tree.contains_key(path) != *is_there) {
        return None;
    }
    match &step.change {
        Change::Delete(path) if !tree.contains_key(path) => None,
        change => apply(tree, change),
    }
}

/// Directories that are made on the way to a file are like the one above them.
fn make_directories(tree: &mut Tree, path: &str, is_on_the_way: bool) -> Option<()> {
    match tree.get(path) {
        Some(node) => return node.file.is_none().then_some(()),
        None if path.is_empty() => return Some(()),
        None => make_directories(tree, parent(path), is_on_the_way)?,
    }
    let mut node = Node::new(tree, path, None);
    if let (true, Some(above)) = (is_on_the_way, tree.get(parent(path))) {
        node.attributes.take_mode_of(&above.attributes);
    }
    tree.insert(path.to_owned(), node);
    touch_parent(tree, path);
    Some(())
}

/// Names in a directory, sorted; `None` when it is none.
pub fn list<'a>(tree: &'a Tree, directory: &str) -> Option<Vec<(&'a str, &'a Node)>> {
    is_directory(tree, directory).then(|| {
        let inside = tree.iter().filter(|(path, _)| parent(path) == directory);
        inside.map(|(path, node)| (&path[directory.len() + 1..], node)).collect()
    })
}

/// What is below a directory, at any depth, by path from there; `None` when it is none.
pub fn below<'a>(tree: &'a Tree, directory: &str) -> Option<Vec<(&'a str, &'a Node)>> {
    is_directory(tree, directory).then(|| {
        let inside = tree.iter().filter(|(path, _)| is_below(path, directory));
        inside.map(|(path, node)| (&path[directory.len() + 1..], node)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(path: &str, number: u64, overwrite: bool) -> Change {
        Change::Create { path: path.to_owned(), number, overwrite, content: None, block_size: 1024 }
    }

    fn rename(source: &str, target: &str, overwrite: bool) -> Change {
        Change::Rename { source: source.to_owned(), target: target.to_owned(), overwrite }
    }

    fn names(tree: &Tree) -> Vec<(&str, Option<u64>)> {
        tree.iter().map(|(path, node)| (path.as_str(), node.file)).collect()
    }

    #[test]
    fn changes_do_what_they_say_or_are_refused() {
        let start = empty("/w".to_owned());
        let tree = apply(&start, &create("/w/a/f", 1, false)).expect("made");
        assert_eq!(list(&tree, "/w").expect("a directory").len(), 1);
        assert_eq!(apply(&tree, &create("/w/a/f", 2, false)), None);
        assert_eq!(apply(&tree, &create("/w/a/f/g", 2, false)), None);
        let replaced = apply(&tree, &create("/w/a/f", 2, true)).expect("replaced");
        assert_eq!(replaced["/w/a/f"].file, Some(2));
        assert_eq!(apply(&tree, &rename("/w/a", "/w/a/b", true)), None);
        let moved = apply(&tree, &rename("/w/a", "/w/b", false)).expect("moved");
        let two = apply(&tree, &create("/w/g", 2, false)).expect("made");
        assert_eq!(apply(&two, &rename("/w/g", "/w/a/f", false)), None);
        let replaced = apply(&two, &rename("/w/g", "/w/a/f", true)).expect("replaced");
        assert_eq!(names(&replaced), [("/w", None), ("/w/a", None), ("/w/a/f", Some(2))]);
        assert_eq!(apply(&two, &rename("/w/g", "/w/a", true)), None);
        assert_eq!(apply(&two, &rename("/w/g", "/w/g", true)), None);
        assert_eq!(names(&moved), [("/w", None), ("/w/b", None), ("/w/b/f", Some(1))]);
        assert_eq!(apply(&moved, &Change::Delete("/w/b".into())), Some(start.clone()));
        assert_eq!(apply(&start, &Change::Delete("/w/none".into())), Some(start));
    }

    #[test]
    fn what_is_joined_is_one_file_and_what_is_committed_one_change() {
        let start = empty("/w".to_owned());
        let one = apply(&start, &create("/w/f", 1, false)).expect("made");
        let two = apply(&one, &create("/w/g", 2, false)).expect("made");
        let concat = |fits| Change::Concat {
            target: "/w/f".into(),
            sources: vec!["/w/g".into()],
            number: 3,
            parts: vec![1, 2],
            fits,
        };
        assert_eq!(names(&apply(&two, &concat(true)).expect("joined")), [("/w", None), ("/w/f", Some(3))]);
        assert_eq!((apply(&two, &concat(false)), apply(&one, &concat(true))), (None, None));
        let step = |condition, change| Step { condition, change };
        let missing = Some(("/w/h".to_owned(), false));
        let commit = Change::Commit(vec![
            step(missing.clone(), rename("/w/f", "/w/h", false)),
            step(None, create("/w/f", 4, false)),
        ]);
        let expected = [("/w", None), ("/w/f", Some(4)), ("/w/h", Some(1))];
        let done = apply(&one, &commit).expect("done");
        assert_eq!(names(&done), expected);
        assert_eq!(apply(&done, &commit), None);
        let delete = step(None, Change::Delete("/w/none".into()));
        assert_eq!(
            apply(&one, &Change::Commit(vec![step(missing, rename("/w/f", "/w/h", false)), delete])),
            None
        );
    }

    #[test]
    fn attributes_stay_with_what_has_them() {
        let start = empty("/w".to_owned());
        let tree = apply(&start, &create("/w/a/f", 1, false)).expect("made");
        let set = |tree: &Tree, path: &str, attribute| apply(tree, &Change::Set(path.to_owned(), attribute));
        assert_eq!(set(&tree, "/w/none", Attribute::Mode(0)), None);
        let tree = set(&tree, "/w/a", Attribute::Group("other".into())).expect("set");
        let tree = set(&tree, "/w/a/f", Attribute::Mode(0o600)).expect("set");
        let tree = apply(&tree, &rename("/w/a", "/w/b", false)).expect("moved");
        let tree = apply(&tree, &create("/w/b/g", 2, false)).expect("made");
        assert_eq!(tree["/w/b/g"].attributes.group(), "other");
        assert_eq!(tree["/w/b/f"].attributes.group(), "staff");
        let same = set(&tree, "/w/b/f", Attribute::Mode(0o600)).expect("set");
        assert_eq!(same, tree);
    }
}
