//! Misbehaves at the value `boom`, in the way that the parameter `mode` says; all other records pass unchanged.
//!
//! - `loop`: never comes back
//! - `hog`: takes memory until there is none
//! - `panic`: panics with a message
//! - `bad-output`: answers with a column whose offsets decrease
use wasmill_guest::Parameter;
use wasmill_guest::bindings::wasmill::streams::answers::Emitted;
use wasmill_guest::component::{Answer, Batch, Column, Component, Description, Now, Rows, Setting, Task};
use wasmill_guest::prelude::*;

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
        let modes = ["loop", "hog", "panic", "bad-output"].map(str::to_owned);
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
        let boom = |ends: &[u32]| batch.values.data.get(ends[0] as usize..ends[1] as usize) == Some(b"boom");
        let emitted = if batch.values.offsets.windows(2).any(boom) {
            self.misbehave()
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
    fn misbehave(&self) -> Emitted {
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
            _ => Emitted::Rows(Rows {
                causes: Some(vec![0, 0]),
                targets: None,
                keys: None,
                values: Some(Column {
                    data: vec![1, 2],
                    offsets: vec![0, 2, 1],
                    validity: None,
                }),
                timestamps: None,
                headers: None,
            }),
        }
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
