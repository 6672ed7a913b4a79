//! A directory as an `object_store::ObjectStore`, as DataFusion, delta-rs and Polars take it.
//!
//! `RINGFS_URI=ringfs://127.0.0.1:8020 cargo run --features object_store --example object_store`

use std::sync::Arc;

use futures_lite::StreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use ringfs_sdk::object_store::RingFsStore;
use ringfs_sdk::{Client, Reactor};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let reactor = Reactor::start("ringfs")?;
    let client = reactor.client(Client::from_config()?);
    let store: Arc<dyn ObjectStore> = Arc::new(RingFsStore::new(client, "/tables"));

    let log = Path::from("trips/_delta_log/00000.json");
    store.put(&Path::from("trips/part-0.parquet"), vec![1; 1000].into()).await?;
    store.put_opts(&log, "{\"add\": 0}".into(), PutMode::Create.into()).await?;
    // A commit of another that comes second is refused.
    let second = store.put_opts(&log, "{\"add\": 1}".into(), PutMode::Create.into()).await;
    assert!(matches!(second, Err(object_store::Error::AlreadyExists { .. })));

    assert_eq!(store.get_range(&log, 2..5).await?, "add");
    let mut objects = store.list(Some(&Path::from("trips")));
    while let Some(object) = objects.next().await {
        let object = object?;
        println!("{:>6} {}", object.size, object.location);
        store.delete(&object.location).await?;
    }
    Ok(())
}
