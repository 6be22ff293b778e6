//! The global tables of a driver: a row is there as soon as it is piped, and stays whatever is restarted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use record::{Fetched, TopicPartition};
use state::memory::Memory;
use state::{GLOBAL_ROWS, GlobalTable};
use topology::Topology;

use crate::error::Error;
use crate::log::{Record, columns};

#[derive(Default)]
pub struct Globals {
    /// By topic.
    tables: BTreeMap<Arc<str>, Kept>,
}

struct Kept {
    name: String,
    table: Arc<GlobalTable>,
    memory: Memory,
    read: i64,
}

fn failed(name: &str) -> impl Fn(state::Error) -> Error {
    move |error| Error::Global {
        table: name.to_owned(),
        cause: error.to_string(),
    }
}

impl Globals {
    pub fn new(topology: &Topology) -> Result<Self, Error> {
        let mut tables = BTreeMap::new();
        for table in &topology.globals {
            let memory = Memory::default();
            let made = GlobalTable::new(Box::new(memory.clone())).map_err(failed(&table.name))?;
            let kept = Kept {
                name: table.name.clone(),
                table: Arc::new(made),
                memory,
                read: 0,
            };
            tables.insert(Arc::from(table.topic.as_str()), kept);
        }
        Ok(Self { tables })
    }

    /// For the tasks, by name.
    pub fn by_name(&self) -> HashMap<String, Arc<GlobalTable>> {
        let tables = self.tables.values();
        tables
            .map(|kept| (kept.name.clone(), Arc::clone(&kept.table)))
            .collect()
    }

    /// Takes records of a topic; one that no global table has is none of its.
    pub fn push(&mut self, topic: &str, records: &[Record]) -> Result<(), Error> {
        let Some(kept) = self.tables.get_mut(topic) else {
            return Ok(());
        };
        kept.read += records.len() as i64;
        kept.table.push(&[&Fetched {
            partition: TopicPartition::new(topic, 0),
            offsets: Vec::new(),
            records: columns(records),
            next: kept.read,
        }]);
        // No task runs, so no reader holds it back.
        kept.table.settle().map_err(failed(&kept.name))?;
        Ok(())
    }

    /// Keys with what is stored under them, in their order; `None`: there is no such table.
    pub fn entries(&self, name: &str) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let kept = self.tables.values().find(|kept| kept.name == name)?;
        Some(kept.memory.entries(GLOBAL_ROWS))
    }
}
