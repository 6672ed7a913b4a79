//! docs/protocol.md names every operation and every error code.

use ringfs_proto::Code;
use ringfs_proto::ops::Op;

const DOCUMENT: &str = include_str!("../../docs/protocol.md");

#[test]
fn every_operation_is_described() {
    for op in Op::ALL {
        let row = format!("| {} | `{}` |", *op as u16, op.name());
        assert!(DOCUMENT.contains(&row), "docs/protocol.md lacks {row}");
    }
}

#[test]
fn every_code_is_described() {
    for code in Code::ALL {
        let row = format!("| {} | `{code:?}` | {:?} | {} |", *code as u16, code.retry(), code.text());
        assert!(DOCUMENT.contains(&row), "docs/protocol.md lacks {row}");
    }
}
