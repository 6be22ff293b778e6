//! Stamps every record with the version of the module and with how often its key has come: `2.0.0 17 VALUE`.
//!
//! One crate, many versions: see [`VERSION`]; what follows a version's dash says what is wrong with it. So a test of
//! swaps sees in each record who made it, and in the counts whether state was kept.
//! - `traps`: panics after 1,000 records of an instance
//! - `traps-late`: after 10,000, which is past any probation
//! - `slow`: takes a multiple of the time
//! - `rejects`: sends every second record to the dead letters
//! - `differs`: stamps as version 1 does, and says something else of every tenth record
//! - `schema`: keeps its counts in other bytes, and cannot read those of before
//! - `migrates`: the same, and can
//! - `closed`: does not open
use std::cell::Cell;
use wasmill_guest::component::{
    Answer, Batch, Column, Component, Description, Migrated, Now as Clocks, Rows as Answered, Running, Setting, Task,
};
use wasmill_guest::Error;
use wasmill_guest::prelude::*;

/// The version, with spaces behind it. `stamps.sh` writes others over it in the built component: one build gives all.
#[used]
static VERSION: [u8; 32] = *b"STAMP-VERSION=1                 ";

fn version() -> &'static str {
    // Not known to the compiler, which would put it where it cannot be found.
    let text = std::str::from_utf8(std::hint::black_box(&VERSION)).unwrap_or_default();
    text.split_once('=').map_or("", |(_, version)| version.trim_end())
}

/// What is wrong with this version.
fn wrong() -> &'static str {
    version().split_once('-').map_or("", |(_, wrong)| wrong)
}

fn schema() -> u32 {
    if matches!(wrong(), "schema" | "migrates") { 2 } else { 1 }
}

/// Under schema 2 a count stands in the upper bits.
const SHIFT: u32 = 8;

/// Rounds of a sum that nobody needs.
const SLOW_ROUNDS: u64 = 500_000;

struct Stamp {
    records: Input<String, String>,
    stamped: Output<String, String>,
    counts: KeyValue<String, i64>,
    seen: Cell<u64>,
    version: &'static str,
    wrong: &'static str,
}

impl Stamp {
    fn misbehave(&self, value: &str) -> Outcome {
        let seen = self.seen.get() + 1;
        self.seen.set(seen);
        match self.wrong {
            "traps" if seen > 1_000 => panic!("this version cannot count beyond a thousand"),
            "traps-late" if seen > 10_000 => panic!("this version is tired after ten thousand"),
            "rejects" if seen.is_multiple_of(2) => return dead_letter(format!("`{value}` is not liked")),
            "slow" => {
                let sum = (0..SLOW_ROUNDS).fold(seen, |sum, n| std::hint::black_box(sum.wrapping_mul(31) ^ n));
                std::hint::black_box(sum);
            }
            _ => {}
        }
        done()
    }
}

impl Processor for Stamp {
    fn declare(m: &mut Module) -> Self {
        Stamp {
            records: m.input("in"),
            stamped: m.output("out"),
            counts: m.store("counts").schema(schema()).done(),
            seen: Cell::new(0),
            version: if wrong() == "differs" { "1" } else { version() },
            wrong: wrong(),
        }
    }

    fn open(&mut self, _: &mut Open) -> Result<()> {
        match self.wrong {
            "closed" => Err(Error::new("this version does not open")),
            _ => Ok(()),
        }
    }

    fn prefetch(&self, rows: &Rows) -> Result<()> {
        self.counts.fetch(rows.keys());
        Ok(())
    }

    fn process(&mut self, row: Row<'_>, out: &mut Outbox) -> Outcome {
        let Some(record) = row.of(&self.records)? else {
            return done();
        };
        self.misbehave(&record.value)?;
        let shift = if schema() == 2 { SHIFT } else { 0 };
        let count = (self.counts.get(&record.key)?.unwrap_or(0) >> shift) + 1;
        self.counts.put(&record.key, count << shift);
        let said = if self.wrong == "differs" && record.value.ends_with('0') {
            "something else"
        } else {
            &record.value
        };
        out.send(&self.stamped, &record.key, format!("{} {count} {said}", self.version));
        done()
    }

    fn migrate(store: &str, _: u32, key: &[u8], value: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        if wrong() != "migrates" {
            return Err(Error::new(format!("the counts in `{store}` are of another time")));
        }
        let count: [u8; 8] = value.try_into().map_err(|_| Error::new("a count has eight bytes"))?;
        let moved = i64::from_be_bytes(count) << SHIFT;
        Ok(vec![(key.to_vec(), moved.to_be_bytes().to_vec())])
    }
}

/// As the SDK makes it, under the version of the build.
struct Versioned(Running<Stamp>);

impl Component for Versioned {
    fn describe(name: &str, _: &str, summary: &str) -> Description {
        Running::<Stamp>::describe(name, version(), summary)
    }

    fn open(settings: Vec<Setting>, task: Task) -> std::result::Result<Self, String> {
        Running::open(settings, task).map(Self)
    }

    fn process(&mut self, now: Clocks, batch: Batch, ports: Vec<u8>) -> std::result::Result<Answer, String> {
        self.0.process(now, batch, ports)
    }

    fn punctuate(&mut self, now: Clocks, name: &str) -> std::result::Result<Answered, String> {
        self.0.punctuate(now, name)
    }

    fn migrate(store: u32, schema: u32, keys: &Column, values: &Column) -> std::result::Result<Migrated, String> {
        Running::<Stamp>::migrate(store, schema, keys, values)
    }
}

wasmill_guest::component!(Versioned);
