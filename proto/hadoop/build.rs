//! Makes Rust types of `protos`, and a table of the fields that messages must have.

use std::error::Error;
use std::fmt::Write;
use std::path::PathBuf;

use protox::prost_reflect::prost_types::FileDescriptorSet;
use protox::prost_reflect::prost_types::field_descriptor_proto::Label;

const FILES: [&str; 6] =
    ["rpc.proto", "hdfs.proto", "client.proto", "admin.proto", "datanode.proto", "transfer.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=protos");
    let files = protox::compile(FILES, ["protos"])?;
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    std::fs::write(out.join("required.rs"), required(&files)?)?;
    prost_build::Config::new().bytes(["."]).enable_type_names().compile_fds(files)?;
    Ok(())
}

/// The numbers of the fields that a message must have, by its full name, sorted.
fn required(files: &FileDescriptorSet) -> Result<String, std::fmt::Error> {
    let mut all: Vec<(String, Vec<i32>)> = Vec::new();
    for file in &files.file {
        for message in &file.message_type {
            let fields = message.field.iter().filter(|field| field.label() == Label::Required);
            let numbers: Vec<i32> = fields.map(|field| field.number()).collect();
            all.push((format!("{}.{}", file.package(), message.name()), numbers));
        }
    }
    all.sort();
    let mut text = format!("const REQUIRED: [(&str, &[u32]); {}] = [\n", all.len());
    for (name, numbers) in all.iter() {
        writeln!(text, "    ({name:?}, &{numbers:?}),")?;
    }
    text.push_str("];\n");
    Ok(text)
}
