#![no_main]
#![allow(missing_docs)]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringfs_fuzzing::run("hadoop_data", data));
