//! The same operations as futures, here on tokio; one thread of the SDK carries them all out.
//!
//! `RINGFS_URI=ringfs://127.0.0.1:8020 cargo run --example futures`

use ringfs_sdk::{AsyncClient, Client, CreateOptions, Error, Reactor};

async fn write(client: AsyncClient, number: u32) -> Result<u64, Error> {
    let mut writer = client.create(&format!("/shards/{number}.bin")).await?;
    for _ in 0..16 {
        writer.write(vec![number as u8; 1 << 16]).await?;
    }
    writer.close().await.map(|status| status.length)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let reactor = Reactor::start("ringfs")?;
    let client = reactor.client(Client::from_config()?);

    let writers: Vec<_> = (0..8).map(|number| tokio::spawn(write(client.clone(), number))).collect();
    for writer in writers {
        assert_eq!(writer.await??, 1 << 20);
    }

    let reader = client.open("/shards/3.bin").await?;
    let ranges = reader.read_ranges(&[0..4, 1_000_000..1_000_004]).await?;
    assert_eq!(ranges, [[3; 4], [3; 4]]);

    client.put("/shards/index", "8 shards", &CreateOptions::default()).await?;
    // Whatever else a client can do is a future by `with`.
    let sum = client.with(|client| client.content_summary("/shards")).await?;
    println!("{} files, {} bytes", sum.files, sum.length);
    assert_eq!((sum.files, sum.length), (9, (8 << 20) + 8));
    client.delete("/shards", true).await?;
    Ok(())
}
