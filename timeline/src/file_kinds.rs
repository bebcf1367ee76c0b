//! Names the kind of a file that no parser claims, so that the ledger can count it.

/// A word for what these first bytes are: `elf`, `script`, `text`, `gzip`, `empty`, `binary` …
///
/// ```
/// assert_eq!(timeline::file_kinds::kind_of(b"\x7fELF\x02"), "elf");
/// assert_eq!(timeline::file_kinds::kind_of(b"#!/bin/sh\n"), "script");
/// ```
pub fn kind_of(head: &[u8]) -> &'static str {
    const MAGIC: &[(&[u8], &str)] = &[
        (b"\x7fELF", "elf"),
        (b"#!", "script"),
        (b"\x1f\x8b", "gzip"),
        (b"\xfd7zXZ", "xz"),
        (b"BZh", "bzip2"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"PK\x03\x04", "zip"),
        (b"SQLite format 3\0", "sqlite"),
        (b"LPKSHHRH", "journal"),
        (b"!<arch>", "ar archive"),
        (b"\x89PNG", "image"),
        (b"\xff\xd8\xff", "image"),
        (b"GIF8", "image"),
        (b"%PDF", "pdf"),
        (b"TZif", "time zone"),
        (b"\xde\x12\x04\x95", "message catalogue"),
        (b"\x95\x04\x12\xde", "message catalogue"),
        (b"-----BEGIN", "pem"),
        (b"<?xml", "xml"),
    ];
    if head.is_empty() {
        return "empty";
    }
    if let Some((_, kind)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
        return kind;
    }
    if matches!(head, [_, 0x0d, 0x0d, 0x0a, ..]) {
        return "python bytecode";
    }
    let odd = head.iter().filter(|b| **b < 9 || (14..32).contains(*b) && **b != 27).count();
    if head.contains(&0) || odd * 50 > head.len() {
        if head.iter().all(|b| *b == 0) { "zeros" } else { "binary" }
    } else {
        "text"
    }
}
