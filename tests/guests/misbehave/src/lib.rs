//! Misbehaves at the value `boom`, in the way that the parameter `mode` says; all other records pass unchanged.
//!
//! - `loop`: never comes back
//! - `hog`: takes memory until there is none
//! - `panic`: panics with a message
//! - `bad-output`: answers with a column whose offsets decrease
//! - `big-key`: sends on a row with a key of ten million bytes, which no topic takes
//! - `flood`: logs a thousand lines, then lets the records pass
//! - `leak`: keeps four megabytes more for ever, then lets the records pass
//! - `busy`: harmless; computes for some milliseconds, then lets the records pass
use wasmill_guest::Parameter;
use wasmill_guest::bindings::wasmill::log::log::{Level, write};
use wasmill_guest::bindings::wasmill::streams::answers::Emitted;
use wasmill_guest::component::{Answer, Batch, Column, Component, Description, Now, Rows, Setting, Task};
use wasmill_guest::prelude::*;

/// Some twenty milliseconds.
const BUSY_TURNS: u64 = 20_000_000;

/// The contract's own level, because the level above cannot give a malformed answer.
struct Misbehave {
    mode: String,
}

/// What describes the module.
struct Declared {
    _records: Input<(), Bytes>,
    _passed: Output<(), Bytes>,
    mode: Param<String>,
}

impl Processor for Declared {
    fn declare(m: &mut Module) -> Self {
        let modes = ["loop", "hog", "panic", "bad-output", "big-key", "flood", "leak", "busy"].map(str::to_owned);
        Declared {
            _records: m.input("in"),
            _passed: m.output("out"),
            mode: m.param("mode").one_of(modes).default("panic".to_owned()).done(),
        }
    }
    fn process(&mut self, _: Row<'_>, _: &mut Outbox) -> Outcome {
        fail(&*self.mode)
    }
}

impl Component for Misbehave {
    fn describe(name: &str, version: &str, summary: &str) -> Description {
        wasmill_guest::component::Running::<Declared>::describe(name, version, summary)
    }

    fn open(settings: Vec<Setting>, _: Task) -> Result<Self, String> {
        let mode = settings.iter().find(|setting| setting.name == "mode");
        let mode = mode.map_or(Ok("panic".to_owned()), |setting| String::from_value(&setting.value))?;
        Ok(Misbehave { mode })
    }

    fn process(&mut self, _: Now, batch: Batch, _: Vec<u8>) -> Result<Answer, String> {
        let value = |ends: &[u32]| batch.values.data.get(ends[0] as usize..ends[1] as usize);
        let rows = batch.values.offsets.windows(2).map(value);
        let booms: Vec<bool> = rows.map(|value| value == Some(b"boom")).collect();
        let emitted = if booms.contains(&true) {
            self.misbehave(&booms)
        } else {
            Emitted::Selected(all(batch.timestamps.len()))
        };
        Ok(Answer {
            emitted,
            outcomes: Vec::new(),
        })
    }
}

impl Misbehave {
    fn misbehave(&self, booms: &[bool]) -> Emitted {
        match self.mode.as_str() {
            "loop" => loop {
                std::hint::black_box(());
            },
            "hog" => {
                let mut taken: Vec<Vec<u8>> = Vec::new();
                loop {
                    taken.push(vec![1; 1 << 20]);
                    std::hint::black_box(&taken);
                }
            }
            "panic" => panic!("asked to panic"),
            "big-key" => Emitted::Rows(Rows {
                keys: Some(keys(booms)),
                ..nothing()
            }),
            "flood" => {
                for line in 0..1_000 {
                    write(Level::Info, &format!("line {line} of a flood"), None);
                }
                Emitted::Selected(all(booms.len()))
            }
            "leak" => {
                std::mem::forget(std::hint::black_box(vec![1_u8; 4 << 20]));
                Emitted::Selected(all(booms.len()))
            }
            "busy" => {
                for turn in 0..BUSY_TURNS {
                    std::hint::black_box(turn);
                }
                Emitted::Selected(all(booms.len()))
            }
            _ => Emitted::Rows(Rows {
                causes: Some(vec![0, 0]),
                values: Some(Column {
                    data: vec![1, 2],
                    offsets: vec![0, 2, 1],
                    validity: None,
                }),
                ..nothing()
            }),
        }
    }
}

/// A key of one byte for each row, and of ten million for those that say `boom`.
fn keys(booms: &[bool]) -> Column {
    let mut offsets = vec![0];
    for boom in booms {
        let bytes = if *boom { 10_000_000 } else { 1 };
        offsets.push(offsets.last().copied().unwrap_or_default() + bytes);
    }
    let bytes = offsets.last().copied().unwrap_or_default() as usize;
    Column {
        data: vec![b'k'; bytes],
        offsets,
        validity: None,
    }
}

fn nothing() -> Rows {
    Rows {
        causes: None,
        targets: None,
        keys: None,
        values: None,
        timestamps: None,
        headers: None,
    }
}

/// A bitmap that selects every row.
fn all(rows: usize) -> Vec<u8> {
    let mut bits = vec![0xff; rows.div_ceil(8)];
    if let (Some(last), used @ 1..) = (bits.last_mut(), rows % 8) {
        *last &= (1 << used) - 1;
    }
    bits
}

wasmill_guest::component!(Misbehave);
