//! What the embedded log keeps on disk: chunks of records, and the entries of its book.

pub fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 2 {
        0 => {
            if let Err(reason) = local::check_chunk(bytes) {
                assert!(!reason.is_empty());
            }
        }
        _ => {
            let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
            let (key, value) = bytes.split_at(at);
            let _ = local::check_book_entry(key, value.get(1..).unwrap_or_default());
        }
    }
}
