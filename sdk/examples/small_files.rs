//! Thousands of small files: each is made in one call, and a thousand of them are read in one.
//!
//! `RINGFS_URI=ringfs://127.0.0.1:8020 cargo run --example small_files`

use ringfs_sdk::{Client, CreateOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::from_config()?;

    let paths: Vec<String> = (0..3000).map(|number| format!("/labels/{number:04}.json")).collect();
    for (number, path) in paths.iter().enumerate() {
        client.put(path, format!("{{\"class\": {}}}", number % 10).as_bytes(), &CreateOptions::default())?;
    }

    let labels = client.read_many(&paths)?;
    assert_eq!(labels.len(), paths.len());
    let mut of_class_7 = 0;
    for (path, label) in paths.iter().zip(labels) {
        let label = label.map_err(|error| format!("{path}: {error}"))?;
        of_class_7 += usize::from(label == b"{\"class\": 7}");
    }
    println!("{of_class_7} of {} labels are of class 7", paths.len());
    assert_eq!(of_class_7, 300);

    assert_eq!(client.glob("/labels/29[0-9]7.json")?.len(), 10);
    assert_eq!(client.content_summary("/labels")?.files, 3000);
    client.delete("/labels", true)?;
    Ok(())
}
