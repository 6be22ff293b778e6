//! The engine's cases on the driver alone, whole and one by one: rows of the output topics. The command line plays them
//! in more ways and compares more; this needs neither it nor a sandbox, and takes drawn cases too: those in the folder
//! that `WASMILL_DRAWN` names (`tests/oracle/run.sh --random`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use driver::{Driver, NewProcessor, Piped, Record, RestoreFrom};
use serde_json::{Value, json};
use state::Layout;
use topology::{Format, NodeKind, SourceKind, Topology, WindowKind};

fn topology(folder: &Path) -> Topology {
    let text = fs::read_to_string(folder.join("pipeline.toml")).unwrap();
    let none =
        |_: &pipeline::ModuleRef| -> Result<_, pipeline::Undescribed> { panic!("a module in {}", folder.display()) };
    match pipeline::parse(&text, "pipeline.toml", &pipeline::Vars::default(), &none) {
        Ok(pipeline) => pipeline.topology,
        Err(problems) => panic!("{}: {}", folder.display(), problems.render(false)),
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn encode(format: Format, value: &Value) -> Option<Vec<u8>> {
    Some(match (format, value) {
        (_, Value::Null) => return None,
        (Format::I64, value) => value.as_i64().unwrap().to_be_bytes().to_vec(),
        (Format::F64, value) => value.as_f64().unwrap().to_be_bytes().to_vec(),
        (Format::Json, value) => value.to_string().into_bytes(),
        (_, Value::String(text)) => text.clone().into_bytes(),
        (_, value) => value.to_string().into_bytes(),
    })
}

fn decode(format: Format, bytes: Option<&[u8]>) -> Value {
    let Some(bytes) = bytes else { return Value::Null };
    match format {
        Format::I64 => json!(i64::from_be_bytes(bytes.try_into().unwrap())),
        Format::F64 => json!(f64::from_be_bytes(bytes.try_into().unwrap())),
        Format::Json => serde_json::from_slice(bytes).unwrap(),
        windowed => match windowed.unwindowed() {
            Some((plain, kind)) => decode_windowed(plain, kind, bytes),
            None => json!(String::from_utf8_lossy(bytes)),
        },
    }
}

fn decode_windowed(plain: Format, kind: WindowKind, bytes: &[u8]) -> Value {
    let layout = match kind {
        WindowKind::Time => Layout::Window,
        WindowKind::Session => Layout::Session { segment_ms: 1 },
    };
    let parts = layout.read_wire(bytes).unwrap();
    let key = decode(plain, Some(parts.key));
    match kind {
        WindowKind::Time => json!({ "key": key, "start": parts.start }),
        WindowKind::Session => json!({ "key": key, "start": parts.start, "end": parts.end }),
    }
}

/// Of keys and values, by topic.
type Formats = BTreeMap<String, (Format, Format)>;

fn formats(topology: &Topology) -> (Formats, Formats) {
    let (mut inputs, mut outputs) = (BTreeMap::new(), BTreeMap::new());
    for node in &topology.nodes {
        match &node.kind {
            NodeKind::Source(source) if source.kind != SourceKind::Repartition => {
                inputs.extend(source.topics.iter().map(|t| (t.clone(), (source.key, source.value))));
            }
            NodeKind::Sink(sink) => _ = outputs.insert(sink.topic.clone(), (sink.key, sink.value)),
            _ => {}
        }
    }
    let globals = topology.globals.iter();
    inputs.extend(globals.map(|table| (table.topic.clone(), (table.key, table.value))));
    (inputs, outputs)
}

/// `1` and `1.0` are one number.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|other| same(v, other)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        _ => a == b,
    }
}

/// What is wrong, when `at_once` records are piped together.
fn play(folder: &Path, at_once: usize) -> Vec<String> {
    let topology = topology(folder);
    let (inputs, outputs) = formats(&topology);
    let new: NewProcessor = Arc::new(|_, _, _| panic!("a module"));
    let mut driver = Driver::new(Arc::new(topology), new, 0).unwrap();
    let mut waiting = Vec::new();
    let mut timestamp = -1;
    for line in lines(&folder.join("input.jsonl")) {
        let Some(topic) = line["topic"].as_str() else {
            // What stops is compared as far as it came.
            let _ = driver.pipe(std::mem::take(&mut waiting));
            let _ = match (line.get("restart"), line.get("advance")) {
                (Some(_), _) => driver.restart(RestoreFrom::Changelogs),
                (None, Some(ms)) => driver.advance_wall(ms.as_i64().unwrap()),
                (None, None) => driver.commit(),
            };
            continue;
        };
        timestamp = line["timestamp"].as_i64().unwrap_or(timestamp + 1);
        let headers = line["headers"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
        let (key, value) = inputs[topic];
        waiting.push(Piped {
            topic: topic.into(),
            record: Record {
                key: encode(key, &line["key"]),
                value: encode(value, &line["value"]),
                timestamp,
                headers: headers
                    .iter()
                    .map(|pair| (pair[0].as_str().unwrap().to_owned(), text(&pair[1])))
                    .collect(),
            },
        });
        if waiting.len() >= at_once {
            let _ = driver.pipe(std::mem::take(&mut waiting));
        }
    }
    let _ = driver.pipe(waiting);
    let _ = driver.commit();
    compare(folder, &driver, &outputs)
}

fn compare(folder: &Path, driver: &Driver, outputs: &Formats) -> Vec<String> {
    let expected = lines(&folder.join("expected.jsonl"));
    let any_order = fs::read_to_string(folder.join("any-order.txt")).unwrap_or_default();
    let mut wrong = Vec::new();
    for (topic, (key, value)) in outputs {
        let mut got: Vec<Value> = driver
            .topic(topic)
            .iter()
            .map(|record| {
                json!({
                    "topic": topic,
                    "key": decode(*key, record.key.as_deref()),
                    "value": decode(*value, record.value.as_deref()),
                    "timestamp": record.timestamp,
                })
            })
            .collect();
        let mut wants: Vec<&Value> = expected.iter().filter(|line| line["topic"] == topic.as_str()).collect();
        if any_order.lines().any(|line| line == topic) {
            let row = |line: &Value| {
                let fields = ["timestamp", "key", "value"].map(|field| line[field].to_string());
                fields.join(" ")
            };
            got.sort_by_key(&row);
            wants.sort_by_key(|line| row(line));
        }
        for row in 0..got.len().max(wants.len()) {
            let (has, wants) = (got.get(row), wants.get(row));
            let fits = has.zip(wants).is_some_and(|(has, wants)| {
                ["key", "value", "timestamp"]
                    .iter()
                    .all(|field| wants.get(field).is_none_or(|wanted| same(wanted, &has[field])))
            });
            if !fits {
                wrong.push(format!(
                    "{}: {topic}, row {row}: {wants:?}, got {has:?}",
                    folder.display()
                ));
            }
        }
    }
    wrong
}

#[test]
fn cases_in_folders_give_what_they_expect() {
    let mut parents = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/engine")];
    parents.extend(std::env::var_os("WASMILL_DRAWN").map(PathBuf::from));
    let mut wrong = Vec::new();
    let mut count = 0;
    for parent in parents {
        for entry in fs::read_dir(&parent).unwrap() {
            let folder = entry.unwrap().path();
            if !folder.join("pipeline.toml").exists() {
                continue;
            }
            count += 1;
            for at_once in [usize::MAX, 1, 3] {
                wrong.extend(play(&folder, at_once));
            }
        }
    }
    eprintln!("{count} cases");
    assert!(wrong.is_empty(), "{} rows differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 15, "only {count} cases were found");
}
