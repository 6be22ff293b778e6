//! Joins of a table with another one by a field of its values: the foreign key.
//!
//! Three nodes and two internal topics, as in Kafka Streams. The left table's rows subscribe to their foreign key
//! ([`Subscriber`]); where the right table's keys are, a look-up remembers who subscribed and answers with what the right
//! table has, now and at each change ([`Lookup`]); back at the left table's keys an answer makes a result, if the left
//! row is still the one that subscribed ([`Resolver`]). A digest of the left row tells; Kafka Streams' is of its value
//! alone, so that an answer that is under way can pass for one to a later row with the same value.
//!
//! What decides the result without the right side (no left row, or no foreign key in it) is sent on at once, where Kafka
//! Streams sends it through both topics. The last result of each key is the same; those between may differ, and so may
//! tombstones where nothing was before.

use record::{Batch, BatchBuilder};
use sha2::{Digest, Sha256};
use state::{Bounds, Stores};
use topology::{ForeignJoin, JoinKind, Selector};

use crate::projection::Projector;
use crate::select::select_of;
use crate::table_join::{Made, Past};
use crate::{Applied, Error, Stage};

const DIGEST_BYTES: usize = 16;
const DELETE: u8 = 0;
const SUBSCRIBE: u8 = 1;
/// As `SUBSCRIBE`, but nothing was there before: what has no match needs no tombstone.
const SUBSCRIBE_FIRST: u8 = 2;
const ABSENT: u8 = 0;
const PRESENT: u8 = 1;

type Digested = [u8; DIGEST_BYTES];

/// Of a left row. With its time, since a value may come back: an answer to the earlier row must not pass for one to the
/// later, to which there may be none that corrects it (`SUBSCRIBE_FIRST`).
fn digest(time: i64, value: &[u8]) -> Digested {
    let mut short = Digested::default();
    let whole = Sha256::new().chain_update(time.to_be_bytes()).chain_update(value);
    short.copy_from_slice(whole.finalize().split_at(DIGEST_BYTES).0);
    short
}

fn fault(row: usize) -> impl Fn(String) -> Error {
    move |reason| Error::Row {
        row: row as u32,
        stage: Stage::Deserialization,
        reason,
    }
}

/// The left table's changes, as subscriptions under the foreign key.
#[derive(Clone, Debug)]
pub struct Subscriber {
    on: Selector,
    kind: JoinKind,
    projector: Projector,
}

/// Subscriptions for the right table's keys, and results that need none.
#[derive(Debug)]
pub struct Subscribed {
    pub subscriptions: Applied,
    pub results: Applied,
}

impl Subscriber {
    pub fn new(join: &ForeignJoin) -> Self {
        Self {
            on: join.on.clone(),
            kind: join.kind,
            projector: projector(join),
        }
    }

    /// # Errors
    /// [`Error::Row`] for a value that is not JSON.
    pub fn apply(&self, batch: &Batch) -> Result<Subscribed, Error> {
        let (mut rows, mut causes, mut results) = (BatchBuilder::default(), Vec::new(), Made::default());
        for (row, time) in batch.timestamps().iter().enumerate() {
            let Some(key) = batch.key(row) else {
                results.dropped += 1;
                continue;
            };
            let (new, old) = (batch.value(row), batch.old(row).map(|(_, old)| old));
            let foreign = |value: Option<&[u8]>| match value {
                None => Ok(None),
                Some(value) => select_of(&self.on, Some(key), Some(value))
                    .map(|found| found.map(|f| f.into_owned()))
                    .map_err(fault(row)),
            };
            let (from, to) = (foreign(old)?, foreign(new)?);
            let mut send = |foreign: &[u8], instruction: u8, digest: Digested| {
                let value = [&[instruction], digest.as_slice(), key].concat();
                rows.push(Some(foreign), Some(&value), *time);
                causes.push(row as u32);
            };
            if let Some(from) = from.as_ref().filter(|from| to.as_ref() != Some(from)) {
                send(from, DELETE, Digested::default());
            }
            match (new, &to) {
                (Some(new), Some(to)) => {
                    let instruction = if old.is_none() { SUBSCRIBE_FIRST } else { SUBSCRIBE };
                    send(to, instruction, digest(*time, new));
                }
                (Some(new), None) if self.kind == JoinKind::Left => {
                    let value = self.projector.value(Some(key), Some(new), None).map_err(fault(row))?;
                    results.push(row, Some(&value), *time, None);
                }
                _ if old.is_some() => results.push(row, None, *time, None),
                _ => {}
            }
        }
        let subscriptions = Applied {
            rows: rows.finish(),
            causes: Some(causes),
            dropped: 0,
        };
        Ok(Subscribed {
            subscriptions,
            results: results.finish(batch, false)?,
        })
    }
}

/// Who subscribed to which key of the right table.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// Of the subscriptions.
    store: usize,
    right: usize,
    kind: JoinKind,
}

impl Lookup {
    /// `store` and `right` are the task's numbers of the subscriptions' and the right table's stores.
    pub fn new(join: &ForeignJoin, store: usize, right: usize) -> Self {
        let kind = join.kind;
        Self { store, right, kind }
    }

    /// The right table's store.
    pub fn right(&self) -> usize {
        self.right
    }

    /// Port 0 takes subscriptions, port 1 the right table's rows with what they replace; `is_past` as in
    /// [`crate::TableJoiner::apply`]. Answers go to the keys of the left table.
    ///
    /// # Errors
    /// [`Error::Row`] for what is no subscription; those of the stores.
    pub fn apply(
        &self,
        batch: &Batch,
        ports: &[u8],
        is_past: &dyn Fn(usize, usize) -> bool,
        stores: &mut Stores,
    ) -> Result<Applied, Error> {
        let mut right = Past::new(batch, ports, 1, self.right, is_past);
        let mut answers = Answers::default();
        for (row, time) in batch.timestamps().iter().enumerate() {
            let Some(key) = batch.key(row) else {
                answers.dropped += 1;
                continue;
            };
            if ports.get(row).is_some_and(|port| *port == 1) {
                self.changed(row, key, batch.value(row), *time, stores, &mut answers)?;
                continue;
            }
            let Some((instruction, digest, left)) = batch.value(row).and_then(subscription) else {
                return Err(fault(row)("no subscription of a join".to_owned()));
            };
            let of_left = [prefix(key).as_slice(), left].concat();
            if instruction == DELETE {
                stores.write(self.store, &of_left, None, *time)?;
                continue;
            }
            let entry = [time.to_be_bytes().as_slice(), digest].concat();
            stores.write(self.store, &of_left, Some(&entry), *time)?;
            right.read(row, key, stores, |found| {
                if found.is_some() || instruction == SUBSCRIBE || self.kind == JoinKind::Left {
                    let at = found.map_or(*time, |(at, _)| at.max(*time));
                    answers.push(row, left, digest, found.map(|(_, value)| value), at);
                }
            })?;
        }
        Ok(Applied {
            rows: answers.rows.finish(),
            causes: Some(answers.causes),
            dropped: answers.dropped,
        })
    }

    /// All who subscribed hear of a change, in the order of their keys.
    fn changed(
        &self,
        row: usize,
        key: &[u8],
        value: Option<&[u8]>,
        time: i64,
        stores: &mut Stores,
        answers: &mut Answers,
    ) -> Result<(), Error> {
        let prefix = prefix(key);
        stores.scan(self.store, &Bounds::prefix(&prefix), false, &mut |entry, stored| {
            let left = entry.get(prefix.len()..).unwrap_or_default();
            if let Some((at, digest)) = stored.split_first_chunk::<8>() {
                answers.push(row, left, digest, value, time.max(i64::from_be_bytes(*at)));
            }
            true
        })?;
        Ok(())
    }
}

#[derive(Default)]
struct Answers {
    rows: BatchBuilder,
    causes: Vec<u32>,
    dropped: u64,
}

impl Answers {
    fn push(&mut self, row: usize, left: &[u8], digest: &[u8], value: Option<&[u8]>, time: i64) {
        let flag = if value.is_some() { PRESENT } else { ABSENT };
        let answer = [digest, &[flag], value.unwrap_or_default()].concat();
        self.rows.push(Some(left), Some(&answer), time);
        self.causes.push(row as u32);
    }
}

/// Instruction, digest and key of the left row.
fn subscription(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (instruction, rest) = bytes.split_first()?;
    let (digest, left) = rest.split_at_checked(DIGEST_BYTES)?;
    Some((*instruction, digest, left))
}

/// A foreign key behind its length, so that no key begins with another one.
fn prefix(key: &[u8]) -> Vec<u8> {
    let length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    [length.to_be_bytes().as_slice(), key].concat()
}

/// Answers, as results.
#[derive(Clone, Debug)]
pub struct Resolver {
    left: usize,
    kind: JoinKind,
    projector: Projector,
}

impl Resolver {
    /// `left` is the task's number of the left table's store.
    pub fn new(join: &ForeignJoin, left: usize) -> Self {
        Self {
            left,
            kind: join.kind,
            projector: projector(join),
        }
    }

    /// The left table's store.
    pub fn left(&self) -> usize {
        self.left
    }

    /// Port 0 takes answers, port 1 the left table's rows with what they replace; `is_past` as in
    /// [`crate::TableJoiner::apply`].
    ///
    /// # Errors
    /// [`Error::Row`] for what is no answer, or not what its format says; those of the stores.
    pub fn apply(
        &self,
        batch: &Batch,
        ports: &[u8],
        is_past: &dyn Fn(usize, usize) -> bool,
        stores: &mut Stores,
    ) -> Result<Applied, Error> {
        let mut left = Past::new(batch, ports, 1, self.left, is_past);
        let mut made = Made::default();
        for (row, time) in batch.timestamps().iter().enumerate() {
            let Some(key) = batch.key(row).filter(|_| ports.get(row).is_none_or(|port| *port == 0)) else {
                continue;
            };
            let answer = batch.value(row).and_then(|value| value.split_at_checked(DIGEST_BYTES));
            let Some((asked, Some((flag, right)))) = answer.map(|(asked, rest)| (asked, rest.split_first())) else {
                return Err(fault(row)("no answer of a join".to_owned()));
            };
            let right = (*flag == PRESENT).then_some(right);
            let result = left.read(row, key, stores, |mine| {
                let Some((_, mine)) = mine.filter(|(at, mine)| digest(*at, mine) == asked) else {
                    return Ok(());
                };
                let joined = right.is_some() || self.kind == JoinKind::Left;
                let value = joined
                    .then(|| self.projector.value(Some(key), Some(mine), right))
                    .transpose()?;
                made.push(row, value.as_deref(), *time, None);
                Ok(())
            })?;
            result.map_err(fault(row))?;
        }
        made.finish(batch, false)
    }
}

fn projector(join: &ForeignJoin) -> Projector {
    Projector::new(join.value.clone(), join.left_key, join.left_value, join.right_value)
}
