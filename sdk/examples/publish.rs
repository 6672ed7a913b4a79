//! A new version of a model takes the place of the old one in a single step, unless somebody else was faster.
//!
//! `RINGFS_URI=ringfs://127.0.0.1:8020 cargo run --example publish`

use ringfs_sdk::{Client, Code, Commit, CreateOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_config()?;
    let put = |path: &str, content: &[u8]| client.put(path, content, &CreateOptions::default());
    put("/models/current.bin", b"version 1")?;

    let seen = client.stat("/models/current.bin")?;
    put("/models/next.bin", b"version 2")?;
    let publish = Commit::new()
        .if_unchanged("/models/current.bin", &seen)
        .rename("/models/next.bin", "/models/current.bin", true)
        .create_empty("/models/_SUCCESS");
    client.commit(&publish)?;
    println!("version 2 is published");

    // Who was slower is told, and nothing has changed.
    put("/models/next.bin", b"version 3")?;
    let late = Commit::new().if_unchanged("/models/current.bin", &seen).rename(
        "/models/next.bin",
        "/models/current.bin",
        true,
    );
    let error = client.commit(&late).expect_err("another was faster");
    assert_eq!(error.code(), Some(Code::ConditionFailed));
    println!("version 3 is not: {error}");
    let mut current = [0; 9];
    client.open("/models/current.bin")?.read_at(0, &mut current)?;
    assert_eq!(&current, b"version 2");
    client.delete("/models", true)?;
    Ok(())
}
