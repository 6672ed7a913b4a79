//! The messages of the native protocol, by who uses them.

pub mod admin;
pub mod attributes;
pub mod changes;
pub mod data;
pub mod inspect;
pub mod membership;
pub mod namespace;
pub mod tree;
pub mod values;
