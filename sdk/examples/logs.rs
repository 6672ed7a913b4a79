//! Logs: appended to by one process after the other, read by ranges, cut, joined.
//!
//! `RINGFS_URI=ringfs://127.0.0.1:8020 cargo run --example logs`

use std::io::Write;
use std::time::Duration;

use ringfs_sdk::{Client, Error};

fn line(number: u32) -> String {
    format!("{number:05} something has happened\n")
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_config()?;
    for day in ["monday", "tuesday"] {
        let mut writer = client.create(&format!("/logs/{day}"))?;
        writer.write_all(line(1).as_bytes())?;
        writer.close()?;
        let mut writer = client.append(&format!("/logs/{day}"))?;
        for number in 2..=1000 {
            writer.write_all(line(number).as_bytes())?;
        }
        writer.hsync()?; // It is on the disks of all datanodes of the pipeline.
        writer.close()?;
    }
    let bytes = line(1).len() as u64;

    // Several ranges in one call.
    let reader = client.open("/logs/monday")?;
    let (mut first, mut last) = (vec![0; 5], vec![0; 5]);
    reader.read_vectored_at(&mut [(0, &mut first), (999 * bytes, &mut last)])?;
    assert_eq!((&first[..], &last[..]), (&b"00001"[..], &b"01000"[..]));

    // The second half of monday is not wanted; tuesday is joined to the rest without a copy.
    let is_done = client.truncate("/logs/monday", 500 * bytes)?;
    while !is_done && client.stat("/logs/monday")?.is_open {
        std::thread::park_timeout(Duration::from_millis(50));
    }
    client.concat("/logs/monday", &["/logs/tuesday"])?;
    let status = client.stat("/logs/monday")?;
    assert_eq!(status.length, 1500 * bytes);

    client.set_xattr("/logs/monday", "user.source", b"example")?;
    client.set_permission("/logs/monday", 0o640)?;
    let names: Result<Vec<String>, Error> = client.xattr_names("/logs/monday");
    println!("{} bytes, {:o}, {}", status.length, client.stat("/logs/monday")?.mode, names?.join(" "));
    client.delete("/logs", true)?;
    Ok(())
}
