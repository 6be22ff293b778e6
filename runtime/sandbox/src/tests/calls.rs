//! Calls of an instance: columns both ways, stores, limits, and what is left after a trap.

use state::{StoreSpec, Stores, memory::Memory};
use task::processor::{Context, Emission, Emitted, Failure, Input};
use task::schedules::Schedules;
use topology::Limits;

use super::guest::{ANSWER, Guest, SCRATCH};
use super::{NOW, batch, input, load, opened};
use crate::InstanceOptions;

fn emission(emitted: Emitted) -> Emission {
    match emitted {
        Emitted::Rows(emission) => emission,
        other => panic!("{other:?}"),
    }
}

fn trap(failure: Failure) -> (String, String) {
    match failure {
        Failure::Trap { cause, backtrace } => (cause, backtrace),
        other => panic!("{other:?}"),
    }
}

/// Emits the values it was given.
fn echo() -> String {
    let (kind, some, column) = (ANSWER + 4, ANSWER + 64, ANSWER + 68);
    format!(
        "(i32.store8 (i32.const {kind}) (i32.const 2))
         (i32.store8 (i32.const {some}) (i32.const 1))
         (memory.copy (i32.const {column}) (i32.add (local.get $p) (i32.const 44)) (i32.const 28))"
    )
}

fn values(input: &Input) -> Vec<Option<&[u8]>> {
    (0..input.batch.len()).map(|row| input.batch.value(row)).collect()
}

#[test]
fn columns_come_back_as_they_went() {
    let (mut processor, mut context) = opened(
        &Guest {
            process: &echo(),
            ..Guest::default()
        },
        Limits::default(),
    );
    let words: Vec<Option<String>> = (0..100).map(|i| (i % 7 != 3).then(|| "x".repeat(i % 11))).collect();
    let whole = batch(&words.iter().map(Option::as_deref).collect::<Vec<_>>());
    for (from, length) in [(0, 100), (0, 1), (3, 1), (5, 64), (90, 10)] {
        let input = input(whole.slice(from, length));
        let answer = processor.process(&mut context, NOW, &input).unwrap();
        let echoed = emission(answer.emitted).values.unwrap();
        assert_eq!(echoed.iter().collect::<Vec<_>>(), values(&input), "{from}+{length}");
    }
    assert!(processor.memory_bytes() >= 2 << 16);
    processor.close();
    assert_eq!(processor.memory_bytes(), 0);
}

#[test]
fn a_selection_is_a_bitmap_and_a_wrong_one_breaks_the_contract() {
    let select = format!(
        "(i32.store8 (i32.const {}) (i32.const 1))
         (i32.store (i32.const {}) (i32.const 16))
         (i32.store (i32.const {}) (i32.const 1))",
        ANSWER + 4,
        ANSWER + 8,
        ANSWER + 12
    );
    let (mut processor, mut context) = opened(
        &Guest {
            process: &select,
            ..Guest::default()
        },
        Limits::default(),
    );
    // The byte at 16 is `t`, 0b0111_0100.
    let answer = processor
        .process(&mut context, NOW, &input(batch(&[Some("a"); 5])))
        .unwrap();
    match answer.emitted {
        Emitted::Selected(bits) => assert_eq!(bits.iter().collect::<Vec<_>>(), [false, false, true, false, true]),
        other => panic!("{other:?}"),
    }
    let broken = processor
        .process(&mut context, NOW, &input(batch(&[Some("a"); 9])))
        .unwrap_err();
    assert_eq!(
        broken,
        Failure::Contract("the answer of `process` `selected`: a bitmap of 1 bytes for 9 rows, which take 2".into())
    );
}

#[test]
fn stores_are_those_of_the_task() {
    // Puts the batch into the store, gets its keys again, and emits the values that came.
    let (entries, keys, times, got) = (SCRATCH + 4, SCRATCH + 4, SCRATCH + 60, SCRATCH + 128);
    let load = |at: u32| format!("(i32.load (i32.const {at}))");
    let columns: String = (0..7).map(|i| load(keys + 4 * i)).collect();
    let process = format!(
        "(memory.copy (i32.const {entries}) (i32.add (local.get $p) (i32.const 16)) (i32.const 56))
         (i64.store align=4 (i32.const {times}) (i64.const 0))
         (call $put (i32.const {SCRATCH}))
         (call $get (i32.const 0) {columns} (i32.const {got}))
         (i32.store8 (i32.const {}) (i32.const 2))
         (i32.store8 (i32.const {}) (i32.const 1))
         (memory.copy (i32.const {}) (i32.const {}) (i32.const 28))",
        ANSWER + 4,
        ANSWER + 64,
        ANSWER + 68,
        got + 28
    );
    let guest = Guest {
        process: &process,
        stores: &["seen"],
        ..Guest::default()
    };
    let memory = Memory::default();
    let spec = |name: &str| StoreSpec {
        name: name.into(),
        timestamped: false,
    };
    let mut context = Context {
        stores: Stores::new(
            vec![spec("other"), spec("step-seen")],
            Box::new(memory.clone()),
            1 << 20,
        ),
        store_of: vec![1],
        ..Context::default()
    };
    let mut processor = super::load(&guest).instance(InstanceOptions::default()).unwrap();
    processor.open(&mut context).unwrap();
    let input = input(batch(&[Some("a"), None, Some(""), Some("ddd")]));
    let answer = processor.process(&mut context, NOW, &input).unwrap();
    let got = emission(answer.emitted).values.unwrap();
    assert_eq!(got.iter().collect::<Vec<_>>(), values(&input));

    context.stores.applied(&[]).unwrap();
    context.stores.write_back().unwrap();
    let stored: Vec<_> = memory
        .entries(1)
        .into_iter()
        .map(|(key, value)| (key, value.len()))
        .collect();
    assert_eq!(stored, [(b"k0".to_vec(), 1), (b"k2".to_vec(), 0), (b"k3".to_vec(), 3)]);
    assert!(memory.entries(0).is_empty());
}

#[test]
fn misuse_of_a_capability_traps_with_what_was_wrong() {
    let start = |every: u64, some: u32, row: u32| {
        format!(
            "(call $start (i32.const 16) (i32.const 3) (i64.const {every}) (i32.const 0)
               (i32.const 0) (i64.const 0) (i32.const {some}) (i32.const {row}))"
        )
    };
    let get = "(call $get (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) \
               (i32.const 0) (i32.const 0) (i32.const 3072))";
    let cases = [
        (start(0, 1, 0), "schedule `the` has an interval of 0 ms"),
        (start(5, 1, 1), "row 1 of a call with 1 rows"),
        (start(5, 0, 0), "must name its row"),
        (get.to_owned(), "there is no store 4, the module declares 0"),
    ];
    for (process, expected) in &cases {
        let (mut processor, mut context) = opened(
            &Guest {
                process,
                ..Guest::default()
            },
            Limits::default(),
        );
        let failure = processor
            .process(&mut context, NOW, &input(batch(&[Some("a")])))
            .unwrap_err();
        let (cause, backtrace) = trap(failure);
        assert!(cause.contains(expected) && !cause.contains('\n'), "{cause}");
        assert!(backtrace.contains("guest!process"), "{backtrace}");
    }
}

#[test]
fn limits_name_themselves_and_the_context_comes_back() {
    let spin = "(loop $for_ever (br $for_ever))";
    let hog = "(drop (memory.grow (i32.const 200)))";
    let recurse = "(drop (call $process (local.get $p)))";
    let too_much = echo();
    let limits = Limits {
        call_ms: 50,
        memory_bytes: 4 << 20,
        result_bytes: 1 << 10,
        ..Limits::default()
    };
    let cases = [
        (spin, "`process` ran longer than 50 ms (`limits.call`)"),
        (hog, "wants 13.7MiB of memory, and `limits.memory` is 4MiB"),
        (recurse, "overflowed its stack"),
        (
            &too_much,
            "`process` handed the host more than 1KiB in one call (`limits.result`)",
        ),
    ];
    let large = "x".repeat(200 << 10);
    for (process, expected) in cases {
        let (mut processor, mut context) = opened(
            &Guest {
                process,
                ..Guest::default()
            },
            limits,
        );
        context.store_of = vec![7];
        let failure = processor
            .process(&mut context, NOW, &input(batch(&[Some(&large)])))
            .unwrap_err();
        let (cause, _) = trap(failure);
        assert!(cause.contains(expected), "{cause}");
        assert_eq!(context.store_of, [7]);
        assert_eq!(processor.memory_bytes(), 0, "the instance is gone");

        // Nothing runs on what a trap left behind, and a new instance is as good as the first.
        let again = processor
            .process(&mut context, NOW, &input(batch(&[Some("x")])))
            .unwrap_err();
        assert!(matches!(again, Failure::Host(_)));
        processor.renew().unwrap();
        processor.open(&mut context).unwrap();
    }
}

#[test]
fn a_trap_carries_the_last_words() {
    let process = "(call $log (i32.const 4) (i32.const 20) (i32.const 10) (i32.const 1) (i32.const 0)) unreachable";
    let (mut processor, mut context) = opened(
        &Guest {
            process,
            ..Guest::default()
        },
        Limits::default(),
    );
    let failure = processor
        .process(&mut context, NOW, &input(batch(&[Some("a")])))
        .unwrap_err();
    let (cause, backtrace) = trap(failure);
    assert_eq!(
        (cause.as_str(), backtrace.as_str()),
        ("`process` gave up: third rail", "guest!process")
    );
}

#[test]
fn schedules_reach_the_task() {
    let open = "(call $start (i32.const 16) (i32.const 3) (i64.const 1000) (i32.const 1) (i32.const 0) (i64.const 0)
                  (i32.const 0) (i32.const 0))";
    let (mut processor, context) = opened(
        &Guest {
            open,
            ..Guest::default()
        },
        Limits::default(),
    );
    assert_ne!(
        format!("{:?}", context.schedules),
        format!("{:?}", Schedules::default())
    );
    let mut context = context;
    let answer = processor.punctuate(&mut context, NOW, "the").unwrap();
    assert!(answer.values.is_none() && answer.causes.is_none());
}

#[test]
fn settings_must_be_parameters() {
    let options = InstanceOptions {
        settings: vec![("limit".into(), serde_json::json!(3))],
        ..InstanceOptions::default()
    };
    let error = load(&Guest::default()).instance(options).err().unwrap();
    assert_eq!(error.to_string(), "setting `limit`: the module has no such parameter");
}
