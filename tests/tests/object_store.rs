//! RingFS as an object store: the tests that every store of the `object_store` crate has to pass, on a real cluster, and what
//! is its own: what is put is seen whole, and an update of what has changed is refused.

use std::sync::Arc;

use futures_lite::StreamExt;
use object_store::path::Path;
use object_store::{
    GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion, WriteMultipart,
    integration,
};
use ringfs_sdk::Reactor;
use ringfs_sdk::object_store::RingFsStore;
use ringfs_tests::cluster::{Cluster, Options};

struct Fixture {
    _cluster: Cluster,
    _reactor: Reactor,
    store: RingFsStore,
    runtime: tokio::runtime::Runtime,
}

fn start() -> Fixture {
    let namenode_toml = "replication = 1\nsmall_files.inline_bytes_max = 65536\n".to_owned();
    let cluster = Cluster::start(&Options { namenode_toml, ..Options::default() });
    let reactor = Reactor::start("ringfs-store").expect("started");
    let store = RingFsStore::new(reactor.client(cluster.client()), "/store");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    Fixture { _cluster: cluster, _reactor: reactor, store, runtime: runtime.expect("a runtime") }
}

#[test]
fn it_is_a_store_as_all_others() {
    let Fixture { store, runtime, .. } = &start();
    runtime.block_on(async {
        integration::put_get_delete_list(store).await;
        integration::get_opts(store).await;
        integration::put_opts(store, true).await;
        integration::list_uses_directories_correctly(store).await;
        integration::list_with_delimiter(store).await;
        integration::rename_and_copy(store).await;
        integration::copy_if_not_exists(store).await;
        integration::copy_rename_nonexistent_object(store).await;
        integration::stream_get(store).await;
        integration::multipart_out_of_order(store).await;
        integration::multipart_race_condition(store, true).await;
        integration::list_with_offset_exclusivity(store).await;
    });
}

#[test]
fn objects_of_any_size_come_back_in_ranges() {
    let Fixture { store, runtime, .. } = &start();
    runtime.block_on(async {
        for len in [0_usize, 1, 65_536, 65_537, 9_000_000] {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 % 251) as u8).collect();
            let location = Path::from(format!("sizes/{len}"));
            let put = store.put(&location, PutPayload::from(bytes.clone())).await.expect("put");
            let got = store.get(&location).await.expect("got");
            assert_eq!((got.meta.size, &got.meta.e_tag), (len as u64, &put.e_tag));
            assert!(got.bytes().await.expect("read") == bytes);
            let head = store.get_opts(&location, GetOptions { head: true, ..GetOptions::default() });
            assert_eq!(head.await.expect("there").meta.size, len as u64);
        }
        let ranges = [5..10, 8_000_000..8_000_003, 0..1];
        let read = store.get_ranges(&Path::from("sizes/9000000"), &ranges).await.expect("read");
        for (range, bytes) in ranges.iter().zip(&read) {
            let expected: Vec<u8> = range.clone().map(|at| (at * 31 % 251) as u8).collect();
            assert!(*bytes == expected, "{range:?}");
        }
        let listed: Vec<_> = store.list(Some(&Path::from("sizes"))).collect().await;
        assert_eq!(listed.len(), 5);
    });
}

#[test]
fn an_update_of_what_has_changed_is_refused() {
    let Fixture { store, runtime, .. } = &start();
    runtime.block_on(async {
        let location = Path::from("table/_latest");
        let first = store.put(&location, "1".into()).await.expect("put");
        let update = |e_tag: Option<String>| PutOptions {
            mode: PutMode::Update(UpdateVersion { e_tag, version: None }),
            ..PutOptions::default()
        };
        let second =
            store.put_opts(&location, "2".into(), update(first.e_tag.clone())).await.expect("it is that");
        let refused =
            store.put_opts(&location, "3".into(), update(first.e_tag)).await.expect_err("it is not");
        assert!(matches!(refused, object_store::Error::Precondition { .. }), "{refused}");
        let got = store.get(&location).await.expect("got");
        assert_eq!(got.meta.e_tag, second.e_tag);
        assert_eq!(got.bytes().await.expect("read"), "2");
        let create = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let refused = store.put_opts(&location, "4".into(), create).await.expect_err("it is there");
        assert!(matches!(refused, object_store::Error::AlreadyExists { .. }), "{refused}");
    });
}

#[test]
fn parts_are_seen_when_all_are_there() {
    let Fixture { store, runtime, .. } = &start();
    runtime.block_on(async {
        let location = Path::from("parts/whole");
        let upload = store.put_multipart(&location).await.expect("begun");
        let mut write = WriteMultipart::new_with_chunk_size(upload, 100_000);
        let bytes: Vec<u8> = (0..1_234_567_usize).map(|at| (at * 7 % 255) as u8).collect();
        for piece in bytes.chunks(33_333) {
            write.write(piece);
        }
        assert!(store.head(&location).await.is_err(), "not yet");
        let names = || store.list(Some(&Path::from("parts"))).count();
        assert_eq!(names().await, 0, "what is not complete is not listed");
        write.finish().await.expect("complete");
        assert!(store.get(&location).await.expect("got").bytes().await.expect("read") == bytes);
        let mut given_up = store.put_multipart(&location).await.expect("begun");
        given_up.put_part("never".into()).await.expect("written");
        given_up.abort().await.expect("given up");
        assert_eq!(names().await, 1);
    });
    let _shared: Arc<dyn ObjectStore> = Arc::new(store.clone());
}
