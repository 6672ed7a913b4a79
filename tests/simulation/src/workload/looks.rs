//! What workers look at: their directories in every way there is, everybody's files.

use ringfs_sdk::{Error, Kind, WalkEntry, WalkOptions};

use super::{Found, Worker, describe, is_refusal};
use crate::model::root_of;

impl Worker {
    pub(super) fn list_all(&mut self) {
        let directories: Vec<String> = {
            let model = self.shared.model.borrow();
            let trees = model.trees(self.index).iter();
            let mut all: Vec<String> = trees
                .flat_map(|tree| tree.iter())
                .filter(|(_, node)| node.file.is_none())
                .map(|(path, _)| path.clone())
                .collect();
            all.sort();
            all.dedup();
            all
        };
        directories.iter().for_each(|directory| self.list(directory));
    }

    pub(super) fn list(&mut self, directory: &str) {
        let listed = self.client.list(directory).and_then(|listing| listing.collect::<Result<Vec<_>, _>>());
        self.count(&listed);
        self.note(|| format!("list {directory}: {}", describe(&listed)));
        let mut model = self.shared.model.borrow_mut();
        match listed {
            Ok(entries) => {
                let is_file = entries.len() == 1 && entries[0].name.is_empty();
                let shown: Vec<_> = entries.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
                model.listed(self.index, directory, (!is_file).then_some(&shown));
            }
            Err(error) if error.kind() == Kind::NotFound => model.listed(self.index, directory, None),
            Err(_) => {}
        }
    }

    /// Looks at the directory of this worker in one of the ways there are.
    pub(super) fn look(&mut self) {
        let root = root_of(self.index);
        match self.random.below(7) {
            0 => self.list(&root),
            1 => self.walk(&root),
            2 => self.glob(),
            3 => self.stat_all(),
            4 => self.sum_up(&root),
            _ => {
                let path = self.some_path();
                self.look_at_attributes(&path);
            }
        }
    }

    fn walk(&mut self, root: &str) {
        let walked = self.client.walk(root, &WalkOptions::default()).and_then(Iterator::collect);
        let walked: Result<Vec<WalkEntry>, Error> = walked;
        self.count(&walked);
        self.note(|| format!("walk {root}: {}", describe(&walked)));
        let Ok(walked) = walked else { return };
        let shown: Vec<_> = walked.into_iter().map(|entry| (entry.path, entry.status)).collect();
        self.shared.model.borrow_mut().walked(self.index, root, Some(&shown));
    }

    fn glob(&mut self) {
        let (root, names) = (root_of(self.index), 1 + self.random.below(2) as usize);
        let pattern = format!("{root}{}", "/[a-e]".repeat(names));
        let matches = self.client.glob(&pattern);
        self.count(&matches);
        self.note(|| format!("glob {pattern}: {}", describe(&matches)));
        let Ok(matches) = matches else { return };
        let name = |path: String| path.strip_prefix(&format!("{root}/")).unwrap_or(&path).to_owned();
        let shown: Vec<_> = matches.into_iter().map(|found| (name(found.path), found.status)).collect();
        self.shared.model.borrow_mut().matched(self.index, names, &shown);
    }

    fn stat_all(&mut self) {
        let paths: Vec<String> = (0..4).map(|_| self.some_path()).collect();
        let all = self.client.stat_all(&paths);
        self.count(&all);
        self.note(|| format!("stat {paths:?}: {}", describe(&all)));
        let mut model = self.shared.model.borrow_mut();
        for (path, status) in paths.iter().zip(all.into_iter().flatten()) {
            match status {
                Ok(status) => model.saw_status(self.index, path, Some(&status)),
                Err(error) => {
                    // A file above it is as good as nothing.
                    if !is_refusal(&error) {
                        model.violated(format!("stat {path} with others: {error}"));
                    }
                    model.saw_status(self.index, path, None);
                }
            }
        }
    }

    fn sum_up(&mut self, root: &str) {
        let sum = self.client.content_summary(root);
        self.count(&sum);
        self.note(|| format!("sum up {root}: {}", describe(&sum)));
        let Ok(sum) = sum else { return };
        let mut model = self.shared.model.borrow_mut();
        model.counted(self.index, sum.files, sum.directories);
        let [tree] = model.trees(self.index) else { return };
        let lengths: Option<Vec<u64>> =
            tree.values().filter_map(|node| node.file).map(|number| model.file(number).closed).collect();
        // What is open may grow, and what is being cut shrink.
        if let Some(length) = lengths.map(|lengths| lengths.iter().sum::<u64>())
            && length != sum.length
        {
            model.violated(format!("{root} has {} bytes, {length} were acknowledged", sum.length));
        }
    }

    /// The attributes of a path that its status does not tell.
    pub(super) fn look_at_attributes(&mut self, path: &str) {
        let xattrs = self.client.xattrs(path, &[]);
        self.count(&xattrs);
        let acl = self.client.acl(path);
        self.count(&acl);
        self.note(|| format!("attributes of {path}: {}, {}", describe(&xattrs), describe(&acl)));
        let mut model = self.shared.model.borrow_mut();
        if let Ok(xattrs) = xattrs {
            model.saw_xattrs(self.index, path, &xattrs);
        }
        match acl {
            Ok(acl) => model.saw_acl(self.index, path, &acl),
            Err(error) if is_refusal(&error) => model.saw_status(self.index, path, None),
            Err(_) => {}
        }
    }

    /// Some files, in one call.
    pub(super) fn read_many(&mut self) {
        let found: Vec<Found> = (0..3).filter_map(|_| self.some_file()).collect();
        let paths: Vec<&str> = found.iter().map(|(path, ..)| path.as_str()).collect();
        let read = self.client.read_many(&paths);
        self.count(&read);
        self.note(|| format!("read {paths:?}: {}", describe(&read)));
        let Ok(read) = read else { return };
        let mut model = self.shared.model.borrow_mut();
        for ((path, files, is_certain), bytes) in found.iter().zip(read) {
            let Ok(bytes) = bytes else { continue };
            match &files[..] {
                [(number, known)] if *is_certain => {
                    model.seen_length(*number, known, bytes.len() as u64, known.closed.is_none());
                    model.seen_bytes(*number, 0, &bytes);
                }
                // Its owner may have put another there since it was asked for.
                _ if !model.is_of_some_file(0, &bytes) => {
                    model.violated(format!("read {path} with others: bytes of no file that may be there"));
                }
                _ => {}
            }
        }
    }

    pub(super) fn stat(&mut self) {
        let Some((path, files, is_certain)) = self.some_file() else { return };
        let status = self.client.stat(&path);
        self.count(&status);
        self.note(|| format!("stat {path}: {}", describe(&status)));
        let mut model = self.shared.model.borrow_mut();
        if let (Ok(status), true) = (&status, is_certain) {
            model.saw_status(self.index, &path, Some(status));
        }
        match (&status, &files[..]) {
            (Ok(status), [(number, known)]) if is_certain && !status.is_open => {
                model.seen_length(*number, known, status.length, false);
                if let Some(crc) = status.content_crc {
                    model.seen_crc(*number, status.length, crc);
                }
            }
            (Err(error), _) if is_certain && is_refusal(error) => {
                model.violated(format!("stat {path}: {error}"));
            }
            _ => {}
        }
    }

    pub(super) fn read(&mut self) {
        let Some((path, files, is_certain)) = self.some_file() else { return };
        let opened = self.client.open(&path);
        self.count(&opened);
        let Ok(reader) = opened.inspect_err(|error| self.note(|| format!("open {path}: {error}"))) else {
            return;
        };
        let (len, is_open) = (reader.len(), reader.status().is_open);
        let offset = if self.random.chance(500) { 0 } else { self.random.below(len + 1) };
        let wanted = if self.random.chance(500) { len - offset } else { self.random.below(len - offset + 1) };
        let mut bytes = vec![0; wanted as usize];
        let read = reader.read_at(offset, &mut bytes);
        self.note(|| format!("read {path} of {len} bytes from {offset}: {}", describe(&read)));
        self.count(&read);
        let counts = &self.shared.counts;
        let Ok(read) = read else { return };
        counts.read_bytes.set(counts.read_bytes.get() + read as u64);
        let mut model = self.shared.model.borrow_mut();
        if read as u64 != wanted {
            model.violated(format!("read {path}: {read} bytes instead of {wanted}"));
        }
        match &files[..] {
            [(number, known)] if is_certain => {
                model.seen_length(*number, known, len, is_open);
                model.seen_bytes(*number, offset, &bytes);
            }
            // Its owner may have put another there since it was asked for.
            _ if !model.is_of_some_file(offset, &bytes) => {
                model.violated(format!("read {path}: bytes of no file that may be there"));
            }
            _ => {}
        }
    }
}
