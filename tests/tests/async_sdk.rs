//! The async face of the SDK on a real cluster: under several executors, many operations at once on one thread, futures that
//! are dropped, a reactor that is stopped, a forked child.

use std::future::Future;
use std::sync::Arc;

use futures_lite::future::block_on;
use nix::sys::signal::Signal;
use ringfs_sdk::{AsyncClient, CreateOptions, Kind, Reactor};
use ringfs_tests::cluster::{Cluster, Options, file_options};
use ringfs_tests::data::Pattern;

const BLOCK: u64 = 1 << 20;

fn start() -> (Cluster, Reactor, AsyncClient) {
    let cluster = Cluster::start(&Options { datanodes: 2, ..Options::default() });
    let reactor = Reactor::start("ringfs-test").expect("started");
    let client = reactor.client(cluster.client());
    (cluster, reactor, client)
}

/// Writes, lists, reads, renames and deletes.
async fn life(client: AsyncClient, number: u64) {
    let pattern = Pattern { seed: number };
    let (path, renamed) = (format!("/d{number}/f"), format!("/d{number}/g"));
    let bytes = pattern.bytes(0, 2 * BLOCK as usize + 12_345);
    let mut writer = client.create_with(&path, &file_options(2, BLOCK)).await.expect("created");
    for piece in bytes.chunks(500_000) {
        writer.write(piece.to_vec()).await.expect("written");
    }
    writer.hflush().await.expect("flushed");
    assert_eq!(writer.close().await.expect("closed").length, bytes.len() as u64);
    client.rename(&path, &renamed, false).await.expect("renamed");
    let mut listing = client.list(&format!("/d{number}")).await.expect("listed");
    let page = listing.next_page().await.expect("a page").expect("an entry");
    assert_eq!(page.iter().map(|entry| entry.name.as_str()).collect::<Vec<_>>(), ["g"]);
    let reader = client.open(&renamed).await.expect("opened");
    let read = reader.read_at(BLOCK - 5, BLOCK as usize).await.expect("read");
    pattern.check(BLOCK - 5, &read);
    assert_eq!(read.len(), BLOCK as usize);
    assert!(client.delete(&renamed, false).await.expect("deleted"));
    assert_eq!(client.stat(&renamed).await.expect_err("gone").kind(), Kind::NotFound);
}

/// Awaits all at once, on one thread.
async fn all<F: Future<Output = ()> + Send + 'static>(futures: Vec<F>) {
    let mut pinned: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(|context| {
        for slot in &mut pinned {
            if slot.as_mut().is_some_and(|future| future.as_mut().poll(context).is_ready()) {
                *slot = None;
            }
        }
        match pinned.iter().all(Option::is_none) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
}

#[test]
fn a_plain_block_on_is_enough() {
    let (_cluster, reactor, client) = start();
    block_on(life(client.clone(), 1));
    block_on(all((2..12).map(|number| life(client.clone(), number)).collect()));
    reactor.stop();
    assert_eq!(block_on(client.stat("/")).expect_err("stopped").kind(), Kind::BadHandle);
}

#[test]
fn tokio_awaits_hundreds_at_once() {
    let (_cluster, _reactor, client) = start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        let tasks: Vec<_> = (0..400)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move {
                    client.mkdirs(&format!("/m/{number}")).await.expect("made");
                    client.stat(&format!("/m/{number}")).await.expect("there");
                })
            })
            .collect();
        for task in tasks {
            task.await.expect("no panic");
        }
        let lives: Vec<_> = (0..6).map(|number| tokio::spawn(life(client.clone(), number))).collect();
        for life in lives {
            life.await.expect("no panic");
        }
    });
    let names = client.blocking().list("/m").expect("listed").count();
    assert_eq!(names, 400);
}

#[test]
fn a_future_that_is_dropped_leaves_the_others_alone() {
    let (mut cluster, _reactor, client) = start();
    // Nobody answers: the call waits, as a fiber, and is given up with its future.
    cluster.namenode.kill_9();
    let client = Arc::new(client);
    for _ in 0..50 {
        let asked = client.clone();
        let stat = Box::pin(async move { asked.stat("/").await });
        let given_up = block_on(futures_lite::future::or(
            async {
                drop(stat.await);
                false
            },
            async {
                futures_lite::future::yield_now().await;
                true
            },
        ));
        assert!(given_up);
    }
    cluster.namenode.start();
    let options = CreateOptions { overwrite: true, ..CreateOptions::default() };
    let made = block_on(async {
        let mut writer = client.create_with("/after", &options).await?;
        writer.close().await
    });
    assert_eq!(made.expect("made").length, 0);
}

#[test]
fn the_waiting_of_one_does_not_stop_another() {
    let (mut cluster, reactor, client) = start();
    block_on(life(client.clone(), 1));
    let mut writer = block_on(client.create_with("/held", &file_options(2, BLOCK))).expect("created");
    block_on(writer.write(vec![7; 100_000])).expect("written");
    let halt = |cluster: &mut Cluster, signal| {
        cluster.datanodes.iter_mut().for_each(|node| node.process().signal(signal));
    };
    halt(&mut cluster, Signal::SIGSTOP);
    // The flush waits for datanodes that stand still; the namenode answers meanwhile.
    let mut flush = Box::pin(writer.hflush());
    block_on(futures_lite::future::poll_once(&mut flush));
    for _ in 0..20 {
        block_on(client.stat("/")).expect("answered");
    }
    assert!(block_on(futures_lite::future::poll_once(&mut flush)).is_none(), "it waits still");
    halt(&mut cluster, Signal::SIGCONT);
    block_on(flush).expect("flushed");
    block_on(writer.close()).expect("closed");
    reactor.stop();
}
