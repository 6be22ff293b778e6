//! A native processor whose every decision is a function of the row, the stores and the times.

use std::collections::BTreeMap;

use arrow_array::builder::BinaryBuilder;
use arrow_buffer::BooleanBuffer;
use state::Bounds;

use super::mix;
use crate::Processor;
use crate::processor::{Answer, Context, Emission, Emitted, Failure, Input, Now, RowOutcome};
use crate::schedules::{Clock, Schedule};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A selection.
    Filter,
    /// One row for one.
    Map,
    /// None to three rows for one.
    FlatMap,
}

#[derive(Clone, Debug)]
pub struct Config {
    pub seed: u64,
    pub style: Style,
    pub ports: u32,
    /// Percent of rows.
    pub schedules: u64,
    pub drops: u64,
    pub dead_letters: u64,
    pub fails: u64,
    pub retries: u64,
    pub traps: u64,
    pub opens_schedule: bool,
}

pub struct TestModule {
    config: Config,
    dead: bool,
}

impl TestModule {
    pub fn new(config: Config) -> Self {
        Self { config, dead: false }
    }
}

fn hash(seed: u64, parts: &[&[u8]]) -> u64 {
    parts.iter().fold(mix(seed), |h, part| {
        part.iter().fold(mix(h), |h, b| mix(h ^ u64::from(*b)))
    })
}

/// Reads, changes and sometimes deletes an entry of each store; what it saw.
fn touch(context: &mut Context, key: &[u8], h: u64) -> u64 {
    let mut saw = 0;
    for store in context.store_of.clone() {
        let timestamped = context.stores.spec(store).unwrap().timestamped;
        let skip = if timestamped { 8 } else { 0 };
        let old = context
            .stores
            .read(store, key, |v| v.map(|v| hash(1, &[&v[skip..]])))
            .unwrap();
        saw = mix(saw ^ old.unwrap_or(7));
        match h % 10 {
            0 => context.stores.write(store, key, None, 5).unwrap(),
            1 => {
                let mut seen = 0;
                let visit = &mut |key: &[u8], value: &[u8]| {
                    seen = hash(seen, &[key, &value[skip..]]);
                    true
                };
                context
                    .stores
                    .scan(store, &Bounds::prefix(b"k"), h % 20 < 10, visit)
                    .unwrap();
                saw = mix(saw ^ seen);
            }
            2 => context.stores.delete_range(store, b"k1", b"k3").unwrap(),
            _ => {
                let value = [&5_i64.to_be_bytes()[..skip], &saw.to_be_bytes()].concat();
                context.stores.write(store, key, Some(&value), 5).unwrap();
            }
        }
    }
    saw
}

#[derive(Default)]
struct Made {
    causes: Vec<u32>,
    targets: Vec<u32>,
    values: BinaryBuilder,
}

impl Processor for TestModule {
    fn open(&mut self, context: &mut Context) -> Result<(), Failure> {
        if self.config.opens_schedule {
            let schedule = Schedule {
                every_ms: 17,
                clock: Clock::StreamTime,
                anchor: Some(3),
            };
            context
                .start_schedule("opened", schedule, None)
                .map_err(Failure::Guest)?;
            let schedule = Schedule {
                every_ms: 10,
                clock: Clock::WallTime,
                anchor: Some(0),
            };
            context.start_schedule("wall", schedule, None).map_err(Failure::Guest)?;
        }
        Ok(())
    }

    fn process(&mut self, context: &mut Context, now: Now, input: &Input) -> Result<Answer, Failure> {
        assert!(!self.dead, "an instance that trapped was called again");
        assert_eq!(input.stream_times.len(), input.batch.len());
        let config = self.config.clone();
        let mut made = Made::default();
        let mut outcomes: BTreeMap<u32, RowOutcome> = BTreeMap::new();
        let mut kept = Vec::new();
        // What comes of a punctuation or a flush has no record to leave out.
        let blameless = context.origin.offsets.is_empty();
        for row in 0..input.batch.len() {
            let key = input.batch.key(row).unwrap_or(b"none");
            let (time, stream_time) = (input.batch.timestamps()[row], input.stream_times[row]);
            let port = input.ports.get(row).copied().unwrap_or(0);
            let origin = (input.origin.offsets.get(row), input.origin.partition_of.get(row));
            let identity = format!("{time} {stream_time} {port} {origin:?}");
            let h = hash(
                config.seed,
                &[key, input.batch.value(row).unwrap_or(b"null"), identity.as_bytes()],
            );
            if h % 100 < config.traps && !blameless {
                self.dead = true;
                return Err(Failure::Trap {
                    cause: format!("trap of {h:x}"),
                    backtrace: String::new(),
                });
            }
            let dice = mix(h) % 100;
            let outcome = if blameless {
                None
            } else if dice < config.fails {
                Some(RowOutcome::Fail(format!("{h:x}")))
            } else if dice < config.fails + config.retries && now.wall_time % 1000 < (h % 150) as i64 {
                Some(RowOutcome::Retry {
                    after_ms: (h % 7) as u32,
                    reason: format!("{h:x}"),
                })
            } else {
                None
            };
            if let Some(outcome) = outcome {
                outcomes.insert(row as u32, outcome);
                kept.push(false);
                continue;
            }
            let saw = touch(context, key, mix(h + 1));
            if mix(h + 2) % 100 < config.schedules {
                let clock = if h.is_multiple_of(3) {
                    Clock::WallTime
                } else {
                    Clock::StreamTime
                };
                let anchor = h.is_multiple_of(4).then_some(stream_time + 1 + (h % 9) as i64);
                let schedule = Schedule {
                    every_ms: 1 + h % 23,
                    clock,
                    anchor,
                };
                context
                    .start_schedule(&format!("s{}", h % 3), schedule, Some(row as u32))
                    .map_err(Failure::Guest)?;
            }
            let dice = mix(h + 3) % 100;
            if dice < config.drops {
                outcomes.insert(row as u32, RowOutcome::Drop("dropped".into()));
                kept.push(false);
                continue;
            }
            if dice < config.drops + config.dead_letters {
                outcomes.insert(row as u32, RowOutcome::DeadLetter(format!("{h:x} {saw:x}")));
                kept.push(false);
                continue;
            }
            kept.push(!mix(h + 4).is_multiple_of(3));
            let rows = if config.style == Style::FlatMap {
                mix(h + 5) % 4
            } else {
                1
            };
            for ordinal in 0..rows {
                made.causes.push(row as u32);
                made.targets
                    .push((mix(h + 6 + ordinal) % u64::from(config.ports)) as u32);
                made.values.append_value(format!(
                    "{:x}",
                    hash(saw + ordinal, &[identity.as_bytes(), &h.to_be_bytes()])
                ));
            }
        }
        let outcomes: Vec<(u32, RowOutcome)> = outcomes.into_iter().collect();
        let rows = Emission {
            causes: (config.style == Style::FlatMap || !outcomes.is_empty()).then_some(made.causes),
            targets: (config.ports > 1).then_some(made.targets),
            values: Some(made.values.finish()),
            ..Emission::default()
        };
        let emitted = match config.style {
            Style::Filter => Emitted::Selected(BooleanBuffer::from(kept)),
            _ => Emitted::Rows(rows),
        };
        Ok(Answer { emitted, outcomes })
    }

    fn punctuate(&mut self, context: &mut Context, now: Now, name: &str) -> Result<Emission, Failure> {
        assert!(!self.dead);
        let identity = format!("{name} {now:?}");
        let h = hash(self.config.seed, &[identity.as_bytes()]);
        let mut made = Made::default();
        let mut keys = BinaryBuilder::new();
        for n in 0..h % 4 {
            let key = format!("k{}", mix(h + n) % 5);
            let saw = touch(context, key.as_bytes(), mix(h + 10 + n));
            keys.append_value(&key);
            made.values.append_value(format!("{identity} {saw:x}"));
            made.targets.push((mix(h + n) % u64::from(self.config.ports)) as u32);
        }
        match h % 6 {
            0 | 1 => context.schedules.stop(name),
            2 => {
                let schedule = Schedule {
                    every_ms: 1 + h % 50,
                    clock: Clock::StreamTime,
                    anchor: None,
                };
                context
                    .start_schedule("again", schedule, None)
                    .map_err(Failure::Guest)?;
            }
            _ => {}
        }
        let targets = (self.config.ports > 1).then_some(made.targets);
        Ok(Emission {
            targets,
            keys: Some(keys.finish()),
            values: Some(made.values.finish()),
            ..Emission::default()
        })
    }

    fn renew(&mut self) -> Result<(), Failure> {
        self.dead = false;
        Ok(())
    }

    fn close(&mut self) {}

    fn module(&self) -> &str {
        "test@1"
    }
}
