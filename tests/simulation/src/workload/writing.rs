//! Files that workers make, write, append to and cut.

use ringfs_sdk::{CreateOptions, Error, Kind};

use super::{INLINE_BYTES_MAX, OpenWriter, Worker, describe, is_refusal};
use crate::file::File;
use crate::tree::Change;

/// Bytes of one write, at most.
const WRITE_BYTES_MAX: u64 = 9000;

impl Worker {
    pub(super) fn create(&mut self) -> Option<OpenWriter> {
        let (path, number) = (self.some_path(), self.shared.model.borrow_mut().next_number());
        let overwrite = self.random.chance(300);
        let block_size = 1024 * self.random.range(1..17);
        let options = CreateOptions {
            replication: self.random.range(2..4) as u16,
            block_size,
            overwrite,
            reuse: self.random.chance(300),
            announced_length: self.random.chance(300).then(|| self.random.below(20_000)),
            ..CreateOptions::default()
        };
        let client = self.client.clone();
        let change = Change::Create { path: path.clone(), number, overwrite, content: None, block_size };
        let writer = self.make(&change, |_| client.create_with(&path, &options))?;
        Some(OpenWriter { writer, number })
    }

    /// A file with its content: kept in the namenode if it is small.
    pub(super) fn put(&mut self) {
        let (path, number) = (self.some_path(), self.shared.model.borrow_mut().next_number());
        let (overwrite, length) = (self.random.chance(500), self.random.below(INLINE_BYTES_MAX + 1));
        let options = CreateOptions { overwrite, block_size: 4096, ..CreateOptions::default() };
        let client = self.client.clone();
        let block_size = options.block_size;
        let change =
            Change::Create { path: path.clone(), number, overwrite, content: Some(length), block_size };
        let content = File::default().bytes(number, 0, length as usize);
        let _put = self.make(&change, |_| client.put(&path, &content, &options));
    }

    /// Goes on behind the end of a file that is closed.
    pub(super) fn append(&mut self) -> Option<OpenWriter> {
        let (path, files, is_certain) = self.some_file()?;
        let [(number, known)] = &files[..] else { return None };
        if !is_certain || known.worker != self.index || known.has_writer {
            return None;
        }
        let length = known.closed?;
        let number = *number;
        self.shared.model.borrow_mut().is_touched(self.index, &path);
        self.shared.model.borrow_mut().learn(number, File::is_appended);
        let opened = self.client.append(&path);
        self.count(&opened);
        self.note(|| format!("append to {path}: {}", describe(&opened)));
        let writer = opened.ok()?;
        let mut model = self.shared.model.borrow_mut();
        if writer.position() != length {
            model.violated(format!("{path} of {length} bytes is appended to at {}", writer.position()));
        }
        model.learn(number, |file| file.is_reopened(number, length));
        drop(model);
        Some(OpenWriter { writer, number })
    }

    /// Cuts a file that is closed: at once, or by a copy of a part of a block, whose end nobody waits for.
    pub(super) fn truncate(&mut self) {
        let Some((path, files, true)) = self.some_file() else { return };
        let [(number, known)] = &files[..] else { return };
        let (number, Some(before)) = (*number, known.closed) else { return };
        if known.worker != self.index || known.has_writer {
            return;
        }
        let length = self.random.below(before + 1);
        self.shared.model.borrow_mut().is_touched(self.index, &path);
        self.shared.model.borrow_mut().learn(number, |file| file.is_cut(length));
        let cut = self.client.truncate(&path, length);
        self.count(&cut);
        self.note(|| format!("cut {path} of {before} bytes to {length}: {}", describe(&cut)));
        let mut model = self.shared.model.borrow_mut();
        match cut {
            Ok(true) => model.learn(number, |file| {
                file.written = length;
                file.cut_to = None;
                file.has_closed(length);
            }),
            Err(error) if is_refusal(&error) => model.learn(number, |file| {
                file.cut_to = None;
                file.has_closed(before);
            }),
            Ok(false) | Err(_) => {}
        }
    }

    pub(super) fn write(&mut self, writers: &mut Vec<OpenWriter>) {
        let at = self.random.below(writers.len() as u64) as usize;
        let mut open = writers.swap_remove(at);
        let number = open.number;
        let done = match self.random.below(100) {
            0..15 => return self.close(open),
            15..40 => {
                let flushed = open.writer.hflush();
                let power_cuts = self.shared.model.borrow().power_cuts();
                self.acknowledged(number, &flushed, "hflush", |file| file.has_flushed(power_cuts));
                flushed.is_ok()
            }
            40..60 => {
                let synced = open.writer.hsync();
                self.acknowledged(number, &synced, "hsync", File::has_synced);
                synced.is_ok()
            }
            _ => {
                let len = 1 + self.random.below(WRITE_BYTES_MAX);
                let (file, power_cuts) = {
                    let model = self.shared.model.borrow();
                    (model.file(number), model.power_cuts())
                };
                let bytes = file.bytes(number, file.written, len as usize);
                self.shared.model.borrow_mut().learn(number, |file| file.is_handed(len, power_cuts));
                let written = open.writer.append(&bytes);
                self.acknowledged(number, &written, "write", |_| {});
                written.is_ok()
            }
        };
        match done {
            true => writers.push(open),
            false => self.shared.model.borrow_mut().learn(number, |file| file.has_writer = false),
        }
    }

    pub(super) fn acknowledged(
        &self,
        number: u64,
        result: &Result<(), Error>,
        what: &str,
        learn: impl FnOnce(&mut File),
    ) {
        self.count(result);
        self.note(|| format!("{what} file {number}: {}", describe(result)));
        if result.is_ok() {
            self.shared.model.borrow_mut().learn(number, learn);
        }
    }

    pub(super) fn close(&mut self, mut open: OpenWriter) {
        let number = open.number;
        self.shared.model.borrow_mut().learn(number, |file| file.may_be_closed = true);
        for _ in 0..3 {
            let closed = open.writer.close();
            self.count(&closed);
            self.note(|| format!("close file {number}: {}", describe(&closed)));
            match closed {
                Ok(status) => {
                    let mut model = self.shared.model.borrow_mut();
                    let file = model.file(number);
                    if status.length != file.written
                        || file.closed.is_some_and(|closed| closed != file.written)
                    {
                        model.violated(format!(
                            "file {number} was closed with {} bytes: {file:?}",
                            status.length
                        ));
                    }
                    model.learn(number, |file| file.closed = Some(file.written));
                    break;
                }
                Err(error) if error.kind() == Kind::TimedOut => {}
                Err(_) => break,
            }
        }
        self.shared.model.borrow_mut().learn(number, |file| file.has_writer = false);
    }
}
