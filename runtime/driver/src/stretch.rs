//! How many piped records may be read at once.
//!
//! A task reads its inputs in the order of timestamps, so records that arrive at two inputs together may change places,
//! and so may what tasks make of them for two inputs of a third one. Records are let in together only as far as neither
//! can happen: then a batch gives what the records one by one, in the order in which they were piped, would give.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use topology::{NodeKind, Topology};

use crate::log::Piped;

pub struct Stretches {
    waiting: VecDeque<Piped>,
    /// Sub-topologies that read a topic.
    readers: BTreeMap<Arc<str>, Vec<usize>>,
    /// By sub-topology: the topics that it writes and that are read again.
    fed: Vec<BTreeSet<Arc<str>>>,
    /// By sub-topology: nothing that comes of it meets again.
    apart: Vec<bool>,
    /// By sub-topology: the times of its rows are those of the records.
    own_times: Vec<bool>,
    /// Topics of global tables.
    globals: BTreeSet<Arc<str>>,
}

impl Stretches {
    pub fn new(topology: &Topology) -> Self {
        let mut readers: BTreeMap<Arc<str>, Vec<usize>> = BTreeMap::new();
        let mut written: Vec<BTreeSet<Arc<str>>> = Vec::new();
        let mut own_times = vec![true; topology.sub_topologies.len()];
        for (number, sub) in topology.sub_topologies.iter().enumerate() {
            let mut topics = BTreeSet::new();
            for node in sub.nodes.iter().filter_map(|node| topology.nodes.get(*node)) {
                match &node.kind {
                    NodeKind::Source(source) => {
                        if let (Some(own), false) = (own_times.get_mut(number), source.timestamps.is_plain()) {
                            *own = false;
                        }
                        for topic in &source.topics {
                            let known = readers.entry(topic.as_str().into()).or_default();
                            if !known.contains(&number) {
                                known.push(number);
                            }
                        }
                    }
                    NodeKind::Sink(sink) => _ = topics.insert(sink.topic.as_str().into()),
                    NodeKind::Repartition(repartition) => _ = topics.insert(repartition.topic.as_str().into()),
                    _ => {}
                }
            }
            topics.extend(
                topology
                    .dead_letters
                    .iter()
                    .map(|letters| letters.topic.as_str().into()),
            );
            written.push(topics);
        }
        for topics in &mut written {
            topics.retain(|topic| readers.contains_key(topic));
        }
        let mut stretches = Self {
            waiting: VecDeque::new(),
            readers,
            fed: written,
            apart: Vec::new(),
            own_times,
            globals: topology
                .globals
                .iter()
                .map(|table| table.topic.as_str().into())
                .collect(),
        };
        stretches.apart = (0..stretches.fed.len()).map(|sub| stretches.stays_apart(sub)).collect();
        stretches
    }

    /// All topics that something of `sub` may come to.
    fn derived(&self, sub: usize) -> BTreeSet<&Arc<str>> {
        let mut found = BTreeSet::new();
        let mut next = vec![sub];
        while let Some(sub) = next.pop() {
            for topic in self.fed.get(sub).into_iter().flatten() {
                if found.insert(topic) {
                    next.extend(self.readers.get(topic).into_iter().flatten());
                }
            }
        }
        found
    }

    fn stays_apart(&self, sub: usize) -> bool {
        let mut inputs = vec![0_usize; self.fed.len()];
        // The records themselves come to it: anything else would meet them.
        if let Some(own) = inputs.get_mut(sub) {
            *own = 1;
        }
        for topic in self.derived(sub) {
            for reader in self.readers.get(topic).into_iter().flatten() {
                if let Some(count) = inputs.get_mut(*reader) {
                    *count += 1;
                }
            }
        }
        inputs.iter().all(|count| *count <= 1)
    }

    /// Sub-topologies, each after those that feed it as far as they go in no circle.
    pub fn upstream_first(&self) -> Vec<usize> {
        let feeds = |from: usize, to: usize| {
            from != to
                && self
                    .derived(from)
                    .iter()
                    .any(|t| self.readers.get(*t).is_some_and(|r| r.contains(&to)))
        };
        let mut left: Vec<usize> = (0..self.fed.len()).collect();
        let mut order = Vec::new();
        while !left.is_empty() {
            let free = left
                .iter()
                .position(|sub| left.iter().all(|other| !feeds(*other, *sub)));
            order.push(left.remove(free.unwrap_or(0)));
        }
        order
    }

    pub fn is_read(&self, topic: &str) -> bool {
        self.readers.contains_key(topic) || self.is_global(topic)
    }

    pub fn is_global(&self, topic: &str) -> bool {
        self.globals.contains(topic)
    }

    pub fn push(&mut self, piped: Piped) {
        self.waiting.push_back(piped);
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The next records that may be read at once; empty when none wait.
    pub fn take(&mut self) -> Vec<Piped> {
        let rows = self.length();
        self.waiting.drain(..rows).collect()
    }

    fn length(&self) -> usize {
        let Some(first) = self.waiting.front() else { return 0 };
        if self.is_global(&first.topic) {
            // Before and after them everything comes to rest: what is piped behind finds them, what was before does not.
            let same = self.waiting.iter().take_while(|piped| piped.topic == first.topic);
            return same.count();
        }
        let readers = self.readers.get(&first.topic).map(Vec::as_slice).unwrap_or_default();
        let [only] = readers else { return 1 };
        if !self.apart.get(*only).copied().unwrap_or(false) {
            return 1;
        }
        let known = self.own_times.get(*only).copied().unwrap_or(false);
        let fits = |(row, piped): (usize, &Piped)| {
            let together = self.readers.get(&piped.topic).map(Vec::as_slice) == Some(readers);
            together && self.comes_last(row, piped, known)
        };
        self.waiting
            .iter()
            .enumerate()
            .skip(1)
            .position(|row| !fits(row))
            .map_or(self.waiting.len(), |n| n + 1)
    }

    /// Whether the record at `row` is read after all before it. It stands at the head of its input as soon as the one
    /// before it in its topic was read, and must lose against all that were piped in between. Ties go by topic.
    /// `known`: whether the task goes by the records' times.
    fn comes_last(&self, row: usize, piped: &Piped, known: bool) -> bool {
        let key = |piped: &Piped| (piped.record.timestamp, Arc::clone(&piped.topic));
        let between = self
            .waiting
            .range(..row)
            .rev()
            .take_while(|other| other.topic != piped.topic);
        let own = key(piped);
        between.into_iter().all(|other| known && key(other) < own)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::log::Record;

    fn stretches(readers: &[(&str, usize)], fed: &[&[&str]]) -> Stretches {
        let mut made = Stretches {
            waiting: VecDeque::new(),
            readers: BTreeMap::new(),
            fed: fed
                .iter()
                .map(|topics| topics.iter().map(|t| Arc::from(*t)).collect())
                .collect(),
            apart: Vec::new(),
            own_times: vec![true; fed.len()],
            globals: BTreeSet::new(),
        };
        for (topic, sub) in readers {
            made.readers.entry(Arc::from(*topic)).or_default().push(*sub);
        }
        made.apart = (0..made.fed.len()).map(|sub| made.stays_apart(sub)).collect();
        made
    }

    fn lengths(stretches: &mut Stretches, records: &[(&str, i64)]) -> Vec<usize> {
        for (topic, timestamp) in records {
            let record = Record {
                timestamp: *timestamp,
                ..Record::default()
            };
            stretches.push(Piped {
                topic: Arc::from(*topic),
                record,
            });
        }
        std::iter::from_fn(|| Some(stretches.take().len()).filter(|n| *n > 0)).collect()
    }

    #[test]
    fn records_go_together_as_long_as_they_keep_their_places() {
        let mut one = stretches(&[("a", 0), ("b", 0)], &[&[]]);
        // Within one topic the order is that of arrival, whatever the timestamps.
        assert_eq!(lengths(&mut one, &[("a", 5), ("a", 1), ("a", 9)]), [3]);
        assert_eq!(lengths(&mut one, &[("a", 5), ("b", 6), ("a", 7)]), [3]);
        // b at 4 would be read before a at 5.
        assert_eq!(lengths(&mut one, &[("a", 5), ("b", 4), ("b", 9)]), [1, 2]);
        // A tie goes to a, so b first would be read second.
        assert_eq!(lengths(&mut one, &[("b", 5), ("a", 5)]), [1, 1]);
        assert_eq!(lengths(&mut one, &[("a", 5), ("b", 5)]), [2]);
        // At the second a, b is still there: 3 would go before 6.
        assert_eq!(lengths(&mut one, &[("a", 5), ("b", 6), ("a", 3)]), [2, 1]);
    }

    #[test]
    fn rows_of_a_global_table_go_apart() {
        let mut one = stretches(&[("a", 0)], &[&[]]);
        one.globals = ["g", "h"].map(Arc::from).into();
        let records = [("a", 1), ("a", 2), ("g", 0), ("g", 9), ("h", 0), ("a", 3)];
        assert_eq!(lengths(&mut one, &records), [2, 2, 1, 1]);
    }

    #[test]
    fn what_may_meet_again_goes_one_by_one() {
        let mut line = stretches(&[("a", 0), ("r", 1)], &[&["r"], &[]]);
        assert_eq!(lengths(&mut line, &[("a", 1), ("a", 2)]), [2]);
        let mut diamond = stretches(&[("a", 0), ("r", 1), ("s", 1)], &[&["r", "s"], &[]]);
        assert_eq!(lengths(&mut diamond, &[("a", 1), ("a", 2)]), [1, 1]);
        let mut circle = stretches(&[("a", 0), ("r", 1), ("s", 0)], &[&["r"], &["s"]]);
        assert_eq!(lengths(&mut circle, &[("a", 1), ("a", 2)]), [1, 1]);
        let mut beside = stretches(&[("a", 0), ("r", 1), ("b", 1)], &[&["r"], &[]]);
        assert_eq!(
            lengths(&mut beside, &[("a", 1), ("b", 2), ("b", 3), ("a", 4)]),
            [1, 2, 1]
        );
        assert_eq!(
            stretches(&[("a", 1), ("r", 0)], &[&[], &["r"]]).upstream_first(),
            [1, 0]
        );
    }
}
