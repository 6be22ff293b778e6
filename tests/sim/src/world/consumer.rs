//! Reading: positions count control records, a fetch may bring nothing, an end is as old as the last fetch.

use super::World;
use super::log::Status;
use broker::{Consumer, ConsumerOptions, Error, ErrorKind, Isolation};
use rand::RngExt;
use record::{BatchBuilder, Fetched, TopicPartition};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Clone, Debug)]
struct Assigned {
    next: i64,
    paused: bool,
    end: Option<i64>,
}

pub struct WorldConsumer {
    world: World,
    isolation: Isolation,
    headers: bool,
    assigned: BTreeMap<TopicPartition, Assigned>,
}

impl WorldConsumer {
    pub fn new(world: World, options: &ConsumerOptions) -> Self {
        Self {
            world,
            isolation: options.isolation,
            headers: options.headers,
            assigned: BTreeMap::new(),
        }
    }

    fn fetch(&mut self, partition: &TopicPartition, records_max: usize) -> Result<Option<Fetched>, Error> {
        let Some(assigned) = self.assigned.get_mut(partition) else {
            return Ok(None);
        };
        let mut guard = self.world.lock();
        let state = &mut *guard;
        if assigned.paused || state.chance(state.faults.empty_fetch) {
            return Ok(None);
        }
        let limit = match records_max {
            0 => return Ok(None),
            n if state.faults.empty_fetch > 0.0 => state.rng.random_range(1..=n.min(16)),
            n => n,
        };
        let Some(log) = state
            .topics
            .get(&*partition.topic)
            .and_then(|t| t.partitions.get(partition.partition as usize))
        else {
            return Ok(None);
        };
        let committed_only = self.isolation == Isolation::ReadCommitted;
        let end = if committed_only { log.stable() } else { log.end() };
        if assigned.next < log.start || assigned.next > log.end() {
            let cause = format!("{} is not in {}..{}", assigned.next, log.start, log.end());
            return Err(Error::new(
                ErrorKind::OffsetOutOfRange,
                format!("read {partition}"),
                cause,
            ));
        }
        assigned.end = Some(end);
        let (mut offsets, mut rows, mut next) = (Vec::new(), BatchBuilder::default(), assigned.next);
        while next < end {
            let Some(entry) = log.entries.get(next as usize) else {
                break;
            };
            let visible = !committed_only || entry.status == Status::Committed;
            if let (Some(record), true) = (&entry.record, visible) {
                if offsets.len() == limit {
                    break;
                }
                offsets.push(next);
                let headers = if self.headers {
                    record.headers.clone()
                } else {
                    Vec::new()
                };
                rows.push_with_headers(
                    record.key.as_deref(),
                    record.value.as_deref(),
                    record.timestamp,
                    headers,
                );
            }
            next += 1;
        }
        assigned.next = next;
        drop(guard);
        Ok((!offsets.is_empty()).then(|| Fetched {
            partition: partition.clone(),
            offsets,
            records: rows.finish(),
            next,
        }))
    }
}

impl Consumer for WorldConsumer {
    fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<(), Error> {
        for (partition, next) in partitions {
            self.assigned.insert(
                partition.clone(),
                Assigned {
                    next: *next,
                    paused: false,
                    end: None,
                },
            );
        }
        Ok(())
    }

    fn unassign(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for partition in partitions {
            self.assigned.remove(partition);
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for partition in partitions {
            if let Some(assigned) = self.assigned.get_mut(partition) {
                assigned.paused = true;
            }
        }
        Ok(())
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<(), Error> {
        for partition in partitions {
            if let Some(assigned) = self.assigned.get_mut(partition) {
                assigned.paused = false;
            }
        }
        Ok(())
    }

    fn poll(&mut self, _wait: Duration, records_max: usize, into: &mut Vec<Fetched>) -> Result<(), Error> {
        let mut left = records_max;
        let partitions: Vec<TopicPartition> = self.assigned.keys().cloned().collect();
        for partition in partitions {
            if let Some(fetched) = self.fetch(&partition, left)? {
                left -= fetched.offsets.len();
                into.push(fetched);
            }
        }
        Ok(())
    }

    fn position(&mut self, partition: &TopicPartition) -> Result<Option<i64>, Error> {
        Ok(self.assigned.get(partition).map(|a| a.next))
    }

    fn end_hint(&mut self, partition: &TopicPartition) -> Option<i64> {
        self.assigned.get(partition).and_then(|a| a.end)
    }
}
