//! Records, names and numbers that nodes write for each other or people type: the first byte says which; a record's key
//! and value are separated by a zero byte. What is read must be written as it was, or be refused with a reason.

use server::text;
use task::TaskId;
use topology::Format;
use worker::control::PipelineRecord;
use worker::metadata::Metadata;
use worker::placement::{Record, View};
use worker::stamp::Stamp;

pub fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else {
        return;
    };
    let words = String::from_utf8_lossy(bytes);
    match kind % 9 {
        0 => metadata(&words),
        1 => placement(bytes),
        2 => {
            if let Ok(record) = PipelineRecord::decode(bytes) {
                assert_eq!(PipelineRecord::decode(&record.encode().unwrap()).unwrap(), record);
                let _ = record.run();
            }
        }
        3 => {
            if let Ok(stamp) = serde_json::from_slice::<Stamp>(bytes) {
                let again: Stamp = serde_json::from_slice(&serde_json::to_vec(&stamp).unwrap()).unwrap();
                assert_eq!(again, stamp);
                worker::stamp::verdict(Some(&stamp), &again, i64::MAX);
            }
        }
        4 => {
            if let Ok(id) = words.parse::<TaskId>() {
                assert_eq!(id.to_string().parse::<TaskId>().unwrap(), id);
            }
        }
        5 => {
            if let Ok(module) = pipeline::ModuleRef::parse(&words) {
                assert_eq!(pipeline::ModuleRef::parse(&module.to_string()).unwrap(), module);
            }
            let _ = (topology::name_problem(&words), topology::topic_problem(&words));
            let _ = pipeline::duration_ms(&words);
        }
        6 => {
            let (key, value) = words.split_once('\0').unwrap_or((&words, ""));
            let value = (!value.is_empty()).then_some(value.as_bytes());
            let _ = server::check_control_record(key, value);
        }
        7 => {
            for format in [Format::Bytes, Format::String, Format::I64, Format::F64, Format::Json] {
                let shown = text::decode(format, Some(bytes));
                // Two documents that mean the same may be written differently, and not every number is JSON's. What does
                // not have its format is shown as text, and is no number when it comes back.
                let comes_back = match format {
                    Format::Bytes | Format::String => true,
                    Format::I64 => bytes.len() == 8,
                    _ => false,
                };
                if comes_back {
                    assert_eq!(text::encode(format, &shown).unwrap().as_deref(), Some(bytes), "{shown}");
                }
                let _ = text::encode_text(format, &words);
            }
        }
        _ => {
            if let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) {
                for format in [Format::Bytes, Format::String, Format::I64, Format::F64, Format::Json] {
                    let _ = text::encode(format, &value);
                }
            }
        }
    }
}

fn metadata(words: &str) {
    if let Ok(metadata) = words.parse::<Metadata>() {
        let line = metadata.to_string();
        assert_eq!(line.parse::<Metadata>().unwrap(), metadata);
        assert!(line.len() <= Metadata::bytes_max(metadata.targets.len(), metadata.tag.thread.len()));
    }
}

/// Lines of key and value, in order, as a reader meets them.
fn placement(bytes: &[u8]) {
    let mut view = View::default();
    for (offset, line) in (0..).zip(bytes.split(|byte| *byte == b'\n')) {
        let (key, value) = match line.iter().position(|byte| *byte == 0) {
            Some(at) => (&line[..at], Some(&line[at + 1..])),
            None => (line, None),
        };
        if let Ok(Some(record)) = Record::decode(key, value) {
            let (key, value) = record.encode().unwrap();
            assert_eq!(Record::decode(&key, value.as_deref()).unwrap().unwrap(), record);
        }
        let _ = view.apply(offset, key, value);
    }
    for (task, records) in &view.tasks {
        if let Some(placement) = &records.placement {
            let _ = (
                view.start(placement.run, *task),
                records.started_for(placement),
                records.released_for(placement),
            );
            let _ = view.owned(placement.run, &placement.owner).count();
            let _ = view.owed(placement.run, &placement.owner).count();
        }
    }
}
