//! What a shadow finds, and what it leaves alone.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]
use super::*;
use crate::processor::{Emitted, Origin};
use record::BatchBuilder;

/// Sends every row on; a row `odd` twice where `twice` says so, and traps on a row `trap`.
struct Sender {
    twice: bool,
    traps: bool,
}

impl Processor for Sender {
    fn open(&mut self, _: &mut Context) -> Result<(), Failure> {
        Ok(())
    }

    fn process(&mut self, _: &mut Context, _: Now, input: &Input) -> Result<Answer, Failure> {
        let mut causes = Vec::new();
        let mut values = BatchBuilder::default();
        for row in 0..input.batch.len() {
            let value = input.batch.value(row).unwrap();
            if self.traps && value == b"trap" {
                return Err(Failure::Trap {
                    cause: "trapped".into(),
                    backtrace: String::new(),
                });
            }
            for _ in 0..if self.twice && value == b"odd" { 2 } else { 1 } {
                causes.push(row as u32);
                values.push(Some(value), Some(value), 0);
            }
        }
        let values = values.finish();
        Ok(Answer {
            emitted: Emitted::Rows(Emission {
                causes: Some(causes),
                values: Some(values.values().clone()),
                ..Emission::default()
            }),
            outcomes: Vec::new(),
        })
    }

    fn punctuate(&mut self, _: &mut Context, _: Now, _: &str) -> Result<Emission, Failure> {
        Ok(Emission::default())
    }

    fn renew(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn close(&mut self) {}

    fn module(&self) -> &str {
        "sender@1"
    }
}

fn shadowed() -> Shadowed {
    let running = Box::new(Sender {
        twice: false,
        traps: false,
    });
    Shadowed {
        step: "send".into(),
        name: "sender@1".into(),
        outputs: 1,
        running: Arc::new(Mutex::new(running)),
        shadow: Box::new(Sender {
            twice: true,
            traps: true,
        }),
        context: Context::default(),
        findings: Findings::default(),
        seen: BTreeMap::new(),
        gone: false,
    }
}

/// Rows at offsets from `first` on.
fn call(shadowed: &mut Shadowed, first: i64, values: &[&str]) -> usize {
    let mut rows = BatchBuilder::default();
    for value in values {
        rows.push(Some(b"k"), Some(value.as_bytes()), 7);
    }
    let input = Input {
        batch: rows.finish(),
        ports: Vec::new(),
        stream_times: vec![7; values.len()].into(),
        origin: Origin::default(),
    };
    let mut context = Context {
        origin: Origin {
            partitions: vec![TopicPartition::new("in", 3)],
            partition_of: vec![0; values.len()],
            offsets: (first..).take(values.len()).collect(),
        },
        ..Context::default()
    };
    let answer = shadowed.process(&mut context, Now::default(), &input).unwrap();
    let (outs, _) = answer::outputs(answer, &input.batch, 1).unwrap();
    outs.iter().map(|o| o.batch.len()).sum()
}

#[test]
fn what_differs_is_counted_and_shown_and_what_ran_goes_on() {
    let mut both = shadowed();
    assert_eq!(call(&mut both, 10, &["a", "odd"]), 2);
    let found = both.findings.get();
    assert_eq!(
        (found.records, found.rows_from, found.rows_to, found.differences),
        (2, 2, 3, 1)
    );
    let expected = Difference {
        step: "send".into(),
        input: Some((TopicPartition::new("in", 3), 11)),
        from: None,
        to: Some("port 0: k = odd @ 7".into()),
    };
    assert_eq!(found.samples, [expected]);
}

#[test]
fn a_failing_shadow_hurts_nobody() {
    let mut both = shadowed();
    assert_eq!(call(&mut both, 0, &["trap", "b"]), 2);
    assert_eq!(call(&mut both, 2, &["c"]), 1);
    let found = both.findings.get();
    assert_eq!((found.failures, found.last_failure.as_deref()), (1, Some("trapped")));
    assert_eq!((found.records, found.differences), (1, 0));
}

#[test]
fn a_repeated_run_is_seen_once() {
    let mut both = shadowed();
    call(&mut both, 0, &["a", "odd"]);
    call(&mut both, 0, &["a", "odd"]);
    call(&mut both, 1, &["odd", "c"]);
    call(&mut both, 3, &["d"]);
    let found = both.findings.get();
    assert_eq!((found.records, found.differences), (3, 1));
}
