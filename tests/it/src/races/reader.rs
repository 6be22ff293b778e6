//! A reader of the control topic without a past. It goes over every committed record from the first on, and looks at the
//! state behind each: none may be half of one change and half of another.

use broker::{Broker, ConsumerOptions, Isolation, OffsetAt};
use record::TopicPartition;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const READ: Duration = Duration::from_secs(30);

#[derive(Default)]
pub struct Seen {
    /// The newest value of each key.
    state: BTreeMap<String, Value>,
    pub records: u64,
    pub wrongs: Vec<String>,
}

/// Reads to where the committed records end now.
pub fn read(broker: &dyn Broker, topic: &str) -> Seen {
    let partition = TopicPartition::new(topic, 0);
    let end = broker
        .admin()
        .unwrap()
        .offsets(
            std::slice::from_ref(&partition),
            OffsetAt::End(Isolation::ReadCommitted),
        )
        .unwrap()[0];
    let options = ConsumerOptions {
        group: None,
        client_id: "fresh".into(),
        isolation: Isolation::ReadCommitted,
        queue_bytes_max: 8 << 20,
        headers: false,
    };
    let mut consumer = broker.consumer(&options).unwrap();
    consumer.assign(&[(partition.clone(), 0)]).unwrap();
    let (mut seen, mut fetched, began) = (Seen::default(), Vec::new(), Instant::now());
    while consumer.position(&partition).unwrap().unwrap_or(0) < end {
        assert!(began.elapsed() < READ, "read `{topic}` to {end} within {READ:?}");
        consumer.poll(Duration::from_millis(50), 1_000, &mut fetched).unwrap();
        for batch in fetched.drain(..) {
            for row in 0..batch.records.len() {
                let key = String::from_utf8_lossy(batch.records.key(row).unwrap()).into_owned();
                seen.take(key, batch.records.value(row), batch.offsets[row]);
            }
        }
    }
    seen
}

impl Seen {
    fn take(&mut self, key: String, value: Option<&[u8]>, offset: i64) {
        self.records += 1;
        if let Err(error) = server::check_control_record(&key, value) {
            self.wrongs.push(format!("record {offset}: {error}"));
        }
        match value.map(|value| serde_json::from_slice::<Value>(value).unwrap_or_default()) {
            None => drop(self.state.remove(&key)),
            Some(value) => {
                let before = self.state.insert(key.clone(), value);
                if before.is_some() && key.starts_with("module:") {
                    self.wrongs
                        .push(format!("record {offset}: `{key}` was registered over another one"));
                }
            }
        }
        for (pipeline, digest) in self.lacking() {
            self.wrongs.push(format!(
                "record {offset}: `{pipeline}` needs module {digest}, which is not registered"
            ));
        }
    }

    fn modules(&self) -> impl Iterator<Item = &Value> {
        self.state
            .iter()
            .filter(|(key, _)| key.starts_with("module:"))
            .map(|(_, module)| module)
    }

    /// Pipelines and the modules that they need in vain.
    fn lacking(&self) -> Vec<(String, String)> {
        let known: Vec<&str> = self.modules().filter_map(|module| module["digest"].as_str()).collect();
        let pipelines = self.state.iter().filter(|(key, _)| !key.starts_with("module:"));
        let needs = pipelines.flat_map(|(key, pipeline)| {
            let digests = digests(&pipeline["topology"]["nodes"]);
            digests.into_iter().map(move |digest| (key.clone(), digest))
        });
        needs.filter(|(_, digest)| !known.contains(&digest.as_str())).collect()
    }

    /// The digest of the only module.
    pub fn module_digest(&self) -> Option<String> {
        self.modules()
            .next()
            .and_then(|module| module["digest"].as_str())
            .map(str::to_owned)
    }

    pub fn idle_ms(&self, pipeline: &str) -> Option<u64> {
        let mut named = self
            .state
            .iter()
            .filter(|(key, _)| key.ends_with(&format!(":{pipeline}")));
        named.next()?.1["topology"]["max_task_idle_ms"].as_u64()
    }
}

/// Wherever they stand in it.
fn digests(value: &Value) -> Vec<String> {
    match value {
        Value::Object(fields) => {
            let own = fields.get("digest").and_then(Value::as_str).map(str::to_owned);
            own.into_iter().chain(fields.values().flat_map(digests)).collect()
        }
        Value::Array(values) => values.iter().flat_map(digests).collect(),
        _ => Vec::new(),
    }
}
