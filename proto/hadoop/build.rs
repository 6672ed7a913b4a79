//! Makes Rust types of `protos`.

use std::error::Error;

const FILES: [&str; 5] = ["rpc.proto", "hdfs.proto", "client.proto", "datanode.proto", "transfer.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=protos");
    let files = protox::compile(FILES, ["protos"])?;
    prost_build::Config::new().bytes(["."]).compile_fds(files)?;
    Ok(())
}
