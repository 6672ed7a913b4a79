//! A file is written, seen by readers while it is written, and read.
//!
//! `RINGFS_URI=ringfs://127.0.0.1:8020 cargo run --example first`

use std::io::{Read, Write};

use ringfs_sdk::Client;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_config()?;

    let mut writer = client.create("/examples/first/run-1.log")?;
    writer.write_all(b"step 1: loss 0.93\n")?;
    writer.hflush()?; // Every datanode of the pipeline has it, and readers see it.
    assert_eq!(client.open("/examples/first/run-1.log")?.len(), 18);
    writer.write_all(b"step 2: loss 0.71\n")?;
    writer.close()?;

    let mut log = String::new();
    let mut reader = client.open("/examples/first/run-1.log")?;
    reader.read_to_string(&mut log)?;
    assert_eq!(log.lines().count(), 2);
    let mut step = [0; 6];
    reader.read_at(18, &mut step)?; // At any place, from many threads at once.
    assert_eq!(&step, b"step 2");

    for entry in client.list("/examples/first")? {
        let entry = entry?;
        println!("{:>8} {}", entry.length, entry.name);
    }
    client.delete("/examples", true)?;
    Ok(())
}
