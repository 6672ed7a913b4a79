//! After quiet: everything that was acknowledged is there, every file has its replicas, nothing is left over.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use ringfs_proto::ids::SessionId;
use ringfs_sdk::{Client, Error, Kind, WalkEntry, WalkOptions};

use crate::coroutine;
use crate::executor::HostId;
use crate::file::File;
use crate::model::{Model, root_of};
use crate::workload::Shared;
use crate::world::{SECOND, World};

/// Where the checks are made from.
const HOST: HostId = HostId(200);
/// How long things may take until they are as they should be.
const PATIENCE_S: u64 = 120;
/// Times that a file is asked for before it counts as lost.
const TRIES_MAX: u32 = 20;

/// Waits for quiet and looks at everything.
pub fn check(world: &mut World) {
    world.run_for(2 * SECOND);
    settle(world);
    let (shared, client) = (world.shared.clone(), world.connect(HOST, SessionId([255; 16])));
    let executor = world.executor.clone();
    let done = Rc::new(Cell::new(false));
    let reading = done.clone();
    let pause = move || coroutine::wait(executor.sleep(Duration::from_millis(500)));
    let body = move || {
        read_everything(&client, &shared, &pause);
        reading.set(true);
    };
    world.executor.spawn(HOST, coroutine::run(body));
    world.run_until(|_| done.get());
    // Readers have found bad replicas: they are replaced.
    world.run_for(2 * SECOND);
    settle(world);
    if !world.short_blocks().is_empty() {
        // Of a file that was just closed by recovery: that is no quiet.
        world.run_for(2 * SECOND);
        settle(world);
    }
    world.short_blocks().into_iter().for_each(|short| world.violated(short));
    world.check_replay();
}

fn settle(world: &mut World) {
    for _ in 0..PATIENCE_S {
        let is_settled = world.namenode.as_ref().is_some_and(|namenode| namenode.look(is_settled));
        if is_settled {
            return;
        }
        world.run_for(SECOND);
    }
    let what =
        world.namenode.as_ref().map(|namenode| namenode.look(|core| format!("{:?}", core.metrics().gauges)));
    world.shared.model.borrow_mut().violated(format!("things do not settle: {what:?}"));
}

fn is_settled(core: &ringfs_namenode::core::Core) -> bool {
    let gauges = &core.metrics().gauges;
    let wrong = [
        &gauges.safe_mode,
        &gauges.blocks_missing,
        &gauges.blocks_short,
        &gauges.blocks_corrupt,
        &gauges.pending_deletions,
        &gauges.replicas_leaving,
        &gauges.parked,
    ];
    wrong.iter().all(|gauge| gauge.get() == 0)
}

fn read_everything(client: &Client, shared: &Shared, pause: &dyn Fn()) {
    let workers = shared.in_flight.borrow().len();
    for worker in 0..workers {
        check_tree(client, &shared.model, worker);
        let files: Vec<(String, u64)> = {
            let model = shared.model.borrow();
            let Some(tree) = model.trees(worker).first() else { continue };
            tree.iter().filter_map(|(path, node)| Some((path.clone(), node.file?))).collect()
        };
        if shared.model.borrow().trees(worker).len() == 1 {
            files.iter().for_each(|(path, number)| check_file(client, shared, path, *number, pause));
        }
    }
}

fn check_tree(client: &Client, model: &RefCell<Model>, worker: usize) {
    let root = root_of(worker);
    let walked = client.walk(&root, &WalkOptions::default()).and_then(Iterator::collect);
    let walked: Result<Vec<WalkEntry>, Error> = walked;
    let shown: Vec<_> = match walked {
        Ok(walked) => walked.into_iter().map(|entry| (entry.path, entry.status)).collect(),
        Err(error) if error.kind() == Kind::NotFound => {
            return model.borrow_mut().walked(worker, &root, None);
        }
        Err(error) => return model.borrow_mut().violated(format!("walk {root} in quiet: {error}")),
    };
    model.borrow_mut().walked(worker, &root, Some(&shown));
    for path in shown.iter().map(|(path, _)| format!("{root}/{path}")) {
        match (client.xattrs(&path, &[]), client.acl(&path)) {
            (Ok(xattrs), Ok(acl)) => {
                model.borrow_mut().saw_xattrs(worker, &path, &xattrs);
                model.borrow_mut().saw_acl(worker, &path, &acl);
            }
            (xattrs, acl) => {
                let what = format!("attributes of {path} in quiet: {:?}, {:?}", xattrs.err(), acl.err());
                model.borrow_mut().violated(what);
            }
        }
    }
}

fn check_file(client: &Client, shared: &Shared, path: &str, number: u64, pause: &dyn Fn()) {
    let mut failure = String::new();
    for _ in 0..TRIES_MAX {
        let known = shared.model.borrow().file(number);
        let read = client.open(path).and_then(|reader| {
            let len = reader.len();
            let mut bytes = vec![0; len as usize];
            let read = reader.read_at(0, &mut bytes)?;
            bytes.truncate(read);
            Ok((len, reader.status().is_open, bytes))
        });
        match read {
            Ok((len, is_open, bytes)) => {
                let mut model = shared.model.borrow_mut();
                model.seen_length(number, &known, len, is_open);
                model.seen_bytes(number, 0, &bytes);
                if bytes.len() as u64 != len {
                    model.violated(format!("{path}: {} of {len} bytes", bytes.len()));
                }
                return;
            }
            Err(error) => failure = error.to_string(),
        }
        pause();
    }
    let known = shared.model.borrow().file(number);
    if !is_without_last_block(client, path, &known, &failure) {
        let what = format!("{path}, file {number}, cannot be read in quiet: {failure}; {known:?}");
        shared.model.borrow_mut().violated(what);
    }
}

/// Whether nothing that was acknowledged lies in the last block, and nobody says that he has a good replica of it: a power cut
/// took what its writer had not synced. How long such a file is shows when its lease is recovered.
fn is_without_last_block(client: &Client, path: &str, known: &File, failure: &str) -> bool {
    let Ok(blocks) = client.block_locations(path, 0, u64::MAX) else { return false };
    let acknowledged = known.flushed.max(known.synced);
    blocks.last().is_some_and(|last| {
        let block = last.block.block;
        let has_nobody = failure.ends_with(&format!("has the open block {block} any more"))
            || failure.ends_with(&format!("replica of block {block} is corrupt"));
        last.is_open && has_nobody && last.offset >= acknowledged && known.closed.is_none()
    })
}
