//! What the language of pipelines reads of records and of people: keys of windows, changes of tables, expressions over
//! any record, origins of grants, the node's settings. The first byte says which. Keys must be written as they
//! were read, and changes read as they were written.

use std::path::Path;

use expressions::{Compiled, Row};
use operators::change;
use server::Config;
use state::Layout;
use topology::{Expression, Format, Origin};

const LAYOUTS: [Layout; 3] = [
    Layout::Window,
    Layout::KeyedWindow { segment_ms: 1_000 },
    Layout::Session { segment_ms: 1_000 },
];
const FORMATS: [Format; 5] = [Format::Bytes, Format::String, Format::I64, Format::F64, Format::Json];

pub fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 4 {
        0 => LAYOUTS.into_iter().for_each(|layout| key(layout, bytes)),
        1 => {
            if let Some(change) = change::decode(bytes) {
                // A length may have been written with more bytes than it takes.
                let written = change::encode(change).unwrap();
                assert!(written.len() <= bytes.len());
                assert_eq!(change::decode(&written), Some(change));
            }
        }
        2 => expression(bytes),
        _ => {
            let words = String::from_utf8_lossy(bytes);
            if let Ok(origin) = Origin::parse(&words) {
                assert_eq!(Origin::parse(&origin.to_string()).unwrap(), origin);
            }
            let _ = Origin::split(&words);
            let _ = Config::parse(&words, Path::new("wasmill.toml"));
        }
    }
}

fn key(layout: Layout, bytes: &[u8]) {
    if let Some(key) = layout.read_changelog(bytes) {
        assert_eq!(layout.changelog(&key), bytes);
        let mut stored = Vec::new();
        layout.write(&key, &mut stored);
        assert_eq!(layout.read(&stored), Some(key));
    }
    if let Some(key) = layout.read_wire(bytes) {
        let mut wire = Vec::new();
        layout.write_wire(&key, &mut wire);
        assert_eq!(wire, bytes);
    }
    let _ = layout.read(bytes);
}

/// Text, key and value, with a zero byte between them, are read in every format.
fn expression(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let text = String::from_utf8_lossy(parts.next().unwrap_or_default());
    let (key, value) = (parts.next(), parts.next());
    for format in FORMATS {
        let expression = Expression {
            text: text.to_string(),
            key: format,
            value: format,
        };
        let Ok(compiled) = Compiled::new(&expression) else {
            return;
        };
        let row = Row {
            key,
            value,
            timestamp: 7,
            headers: &[],
        };
        let _ = (compiled.holds(&row), compiled.list(&row));
        if let Ok(result) = compiled.json(&row, None) {
            let _ = result.to_string();
        }
    }
}
