//! A read-committed reader of all updates, page by page over REST.

use crate::node::Node;
use std::collections::BTreeMap;

/// Wrong updates that are told; one fault makes many.
const JUMPS_MAX: usize = 20;

/// What the output held, by key, in the order of its offsets.
#[derive(Debug, Default)]
pub struct Updates {
    pub records: u64,
    /// The last update of every key.
    pub last: BTreeMap<String, u64>,
    /// Updates that did not follow the one before by one, in words.
    pub jumps: Vec<String>,
}

impl Updates {
    /// The next update of `key`; `place` says where it stands.
    pub fn count(&mut self, key: &str, count: u64, place: impl FnOnce() -> String) {
        let last = self.last.entry(key.to_owned()).or_insert(0);
        if count != *last + 1 && self.jumps.len() < JUMPS_MAX {
            self.jumps.push(format!("`{key}`: {count} after {last} at {}", place()));
        }
        *last = count;
        self.records += 1;
    }

    fn take(&mut self, record: &serde_json::Value) {
        let key = record["key"]
            .as_str()
            .unwrap_or_else(|| panic!("a key that is no text: {record}"));
        let count = record["value"]
            .as_u64()
            .unwrap_or_else(|| panic!("a value that is no count: {record}"));
        self.count(key, count, || {
            format!("partition {} offset {}", record["partition"], record["offset"])
        });
    }
}

/// From the first to the last record of `topic`, counts by keys that are texts.
pub fn read(node: &Node, topic: &str) -> Updates {
    let mut updates = Updates::default();
    let mut from = "earliest".to_owned();
    loop {
        let query = format!("from={from}&limit=10000&key-format=string&value-format=i64");
        let path = format!("/v1/topics/{topic}/records?{query}");
        let page = node
            .get(&path)
            .unwrap_or_else(|| panic!("no page of `{topic}` from {from}:\n{}", node.log()));
        for record in page["records"].as_array().unwrap() {
            updates.take(record);
        }
        if page["end"] == true {
            return updates;
        }
        from = page["next"].as_str().unwrap().to_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_or_there_twice_is_told() {
        let taken = |counts: &[u64]| {
            let mut updates = Updates::default();
            for (offset, count) in counts.iter().enumerate() {
                updates.take(&json!({ "key": "k", "value": count, "partition": 0, "offset": offset }));
            }
            (updates.jumps, updates.last["k"])
        };
        assert_eq!(taken(&[1, 2, 3]), (vec![], 3));
        assert_eq!(taken(&[1, 2, 2, 3]).0, ["`k`: 2 after 2 at partition 0 offset 2"]);
        assert_eq!(taken(&[1, 3]).0, ["`k`: 3 after 1 at partition 0 offset 1"]);
        assert_eq!(taken(&[2]).0, ["`k`: 2 after 0 at partition 0 offset 0"]);
    }
}
