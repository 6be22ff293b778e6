//! The hostile zoo: one guest a behaviour. Each lies in wait for the value `boom`; whatever it does then, the record is
//! in the dead letters with the reason and the place, and its neighbours went through once.
//!
//! The guests are hand-written components, since a toolchain would not let them do most of it; the task, the sandbox and
//! the pipeline are those of a node. What needs a node, its log and its transactions is in `poison`.

#[path = "../../../../runtime/sandbox/src/tests/guest.rs"]
#[allow(dead_code, reason = "the sandbox's own tests use the rest")]
mod guest;

use driver::{Driver, Error, NewProcessor, Piped, Record};
use guest::{ANSWER, Guest, SCRATCH};
use pipeline::Vars;
use sandbox::{InstanceOptions, Module, Sandbox, SandboxOptions, TaskName};
use std::sync::{Arc, LazyLock};

static SANDBOX: LazyLock<Sandbox> = LazyLock::new(|| Sandbox::new(SandboxOptions::default()).unwrap());

/// Where the bitmap of the selected rows lies.
const BITS: u32 = 4096;
/// What the tests set, far below the defaults, so that they are quick.
const LIMITS: &str = r#"{ call = "250ms", memory = "32MiB", result = "4MiB", log-lines = 5 }"#;

/// `process` that selects every row, and does `bad` where a value holds `boom`.
fn lies_in_wait(bad: &str) -> String {
    format!(
        "(local $rows i32) (local $at i32) (local $end i32)
         (local.set $rows (i32.load (i32.add (local.get $p) (i32.const 76))))
         (local.set $at (i32.load (i32.add (local.get $p) (i32.const 44))))
         (local.set $end (i32.add (local.get $at) (i32.load (i32.add (local.get $p) (i32.const 48)))))
         (block $fine (loop $next
           (br_if $fine (i32.gt_u (i32.add (local.get $at) (i32.const 4)) (local.get $end)))
           (if (i32.eq (i32.load align=1 (local.get $at)) (i32.const 0x6d6f6f62)) (then {bad}))
           (local.set $at (i32.add (local.get $at) (i32.const 1)))
           (br $next)))
         (memory.fill (i32.const {BITS}) (i32.const 255) (i32.const 4096))
         {}
         (i32.store (i32.const {}) (i32.shr_u (i32.add (local.get $rows) (i32.const 7)) (i32.const 3)))",
        words(ANSWER + 4, &[1, BITS]),
        ANSWER + 12
    )
}

/// Writes words to memory.
fn words(at: u32, words: &[u32]) -> String {
    (at..)
        .step_by(4)
        .zip(words)
        .map(|(at, word)| format!("(i32.store (i32.const {at}) (i32.const {word}))"))
        .collect()
}

/// An answer with rows: these words from `causes` on, which may point to [`SCRATCH`].
fn answers(payload: &[(u32, &[u32])], scratch: &[u32]) -> String {
    let parts: String = payload.iter().map(|(at, part)| words(ANSWER + at, part)).collect();
    let scratch = words(SCRATCH, scratch);
    format!(
        "{} {parts} {scratch} (return (i32.const {ANSWER}))",
        words(ANSWER + 4, &[2])
    )
}

/// A column of values: data, offsets at [`SCRATCH`] and their number.
fn values(data_bytes: u32, offsets: &[u32]) -> String {
    answers(&[(64, &[1, 16, data_bytes, SCRATCH, offsets.len() as u32])], offsets)
}

/// An outcome for row `row`, `drop` with the text at `text`.
fn outcome(row: u32, text: u32, bytes: u32) -> String {
    let list = words(ANSWER + 176, &[SCRATCH, 1]);
    let outcome = words(SCRATCH, &[row, 0, text, bytes, 0]);
    format!(
        "{} {list} {outcome} (return (i32.const {ANSWER}))",
        words(ANSWER + 4, &[0])
    )
}

fn load(guest: &Guest<'_>) -> Module {
    SANDBOX.load(&guest.build()).unwrap_or_else(|e| panic!("{e}"))
}

fn driver(module: &Module, on_error: &str) -> Driver {
    driver_with(module, on_error, LIMITS)
}

fn driver_with(module: &Module, on_error: &str, limits: &str) -> Driver {
    let text = format!(
        r#"wasmill = 1
name = "zoo"
defaults = {{ on-error = "{on_error}", dead-letters = "dead" }}
sources.in = {{ topic = "in" }}
steps.cage = {{ from = "in", module = "./tiny.wasm", limits = {limits} }}
sinks.out = {{ from = "cage", topic = "out" }}
"#
    );
    let pipeline = pipeline::parse(&text, "zoo.toml", &Vars::default(), &|_| {
        Ok(module.description().clone())
    });
    let pipeline = pipeline.unwrap_or_else(|e| panic!("{}", e.render(false)));
    let module = module.clone();
    let new: NewProcessor = Arc::new(move |_, _, step| {
        let options = InstanceOptions::of_step(step, TaskName::default());
        module.instance(options).map_err(|e| e.to_string())
    });
    Driver::new(Arc::new(pipeline.topology), new, 1_000).unwrap_or_else(|e| panic!("{e}"))
}

fn record(value: &str, timestamp: i64) -> Piped {
    Piped {
        topic: "in".into(),
        record: Record {
            key: Some(b"key".to_vec()),
            value: Some(value.as_bytes().to_vec()),
            timestamp,
            headers: vec![("own".into(), Some(b"header".to_vec()))],
        },
    }
}

fn values_of(records: &[Record]) -> Vec<&str> {
    let mut values = Vec::new();
    for record in records {
        values.push(str::from_utf8(record.value.as_deref().unwrap()).unwrap());
    }
    values
}

fn header<'r>(record: &'r Record, name: &str) -> &'r str {
    let found = record.headers.iter().find(|(known, _)| known == name);
    let (_, value) = found.unwrap_or_else(|| panic!("no header `{name}` in {:?}", record.headers));
    str::from_utf8(value.as_deref().unwrap()).unwrap()
}

/// Six records, the fourth of which sets the guest off.
fn contained(guest: &Guest<'_>, reason: &str) {
    contained_within(LIMITS, guest, reason);
}

fn contained_within(limits: &str, guest: &Guest<'_>, reason: &str) {
    let mut driver = driver_with(&load(guest), "dead-letter", limits);
    let records = ["a", "b", "c", "boom", "d", "e"];
    driver
        .pipe((100..).zip(records).map(|(time, value)| record(value, time)).collect())
        .unwrap_or_else(|e| panic!("{e}"));
    assert!(driver.run_rows_max() > 1, "no batch");
    assert_eq!(values_of(driver.topic("out")), ["a", "b", "c", "d", "e"]);
    let [letter] = driver.topic("dead") else {
        panic!("one dead letter, not {:?}", driver.topic("dead"));
    };
    assert_eq!(letter.key.as_deref(), Some(&b"key"[..]));
    assert_eq!((letter.value.as_deref(), letter.timestamp), (Some(&b"boom"[..]), 103));
    let names = [
        "own",
        "wasmill.error.stage",
        "wasmill.error.module",
        "wasmill.error.step",
    ];
    let headers = names.map(|name| header(letter, name));
    assert_eq!(headers, ["header", "processing", "tiny@1.0.0", "cage"]);
    let place = ["topic", "partition", "offset"].map(|name| header(letter, &format!("wasmill.error.{name}")));
    assert_eq!(place, ["in", "0", "3"]);
    let said = header(letter, "wasmill.error.reason");
    assert!(said.contains(reason), "`{reason}` is not in: {said}");
    assert!(!said.contains('\n'), "{said}");
}

fn bad(bad: &str, reason: &str) {
    contained(
        &Guest {
            process: &lies_in_wait(bad),
            stores: &["seen"],
            ..Guest::default()
        },
        reason,
    );
}

#[test]
fn an_endless_loop() {
    bad(
        "(loop $for_ever (br $for_ever))",
        "`process` ran longer than 250 ms (`limits.call`)",
    );
}

#[test]
fn memory_page_by_page() {
    bad(
        "(loop $more (drop (memory.grow (i32.const 1))) (br $more))",
        "`limits.memory` is 32MiB",
    );
}

#[test]
fn one_huge_allocation() {
    bad(
        "(drop (memory.grow (i32.const 60000)))",
        "wants 3.7GiB of memory, and `limits.memory` is 32MiB",
    );
}

#[test]
fn offsets_that_run_backwards() {
    bad(
        &values(2, &[0, 2, 1]),
        "the answer of `process` `values`: the offsets decrease at row 1",
    );
}

#[test]
fn offsets_past_the_end() {
    bad(&values(2, &[0, 5]), "`values`: the offsets end at 5, the data at 2");
}

#[test]
fn offsets_that_do_not_start() {
    bad(&values(2, &[1, 2]), "`values`: the offsets start at 1, not at 0");
}

#[test]
fn a_column_longer_than_memory() {
    let long = answers(&[(64, &[1, 16, 2, SCRATCH, 0x2000_0000])], &[0, 2]);
    bad(&long, "`process` failed: list pointer/length out of bounds of memory");
    let beyond = answers(&[(64, &[1, 0x7fff_0000, 2, SCRATCH, 2])], &[0, 2]);
    bad(&beyond, "`process` failed: list pointer/length out of bounds of memory");
}

#[test]
fn a_cause_that_is_no_row() {
    bad(&answers(&[(8, &[1, SCRATCH, 1])], &[7]), "names row 7 as a cause");
}

#[test]
fn an_outcome_of_a_row_that_is_not_there() {
    bad(&outcome(99, 16, 3), "an outcome to row 99");
}

#[test]
fn a_result_of_a_gigabyte() {
    // Memory of its own it may have; it is never touched, neither by the guest nor by the host.
    let gigabyte = answers(&[(64, &[1, 0, 1 << 30, SCRATCH, 2])], &[0, 1 << 30]);
    let process = lies_in_wait(&format!("(drop (memory.grow (i32.const 20000))) {gigabyte}"));
    let guest = Guest {
        process: &process,
        ..Guest::default()
    };
    let limits = r#"{ memory = "2GiB", recycle = "1GiB", result = "4MiB" }"#;
    let reason = "`process` handed the host more than 4MiB in one call (`limits.result`)";
    contained_within(limits, &guest, reason);
}

#[test]
fn a_stack_overflow() {
    bad(
        "(drop (call $process (local.get $p)))",
        "`process` overflowed its stack",
    );
}

#[test]
fn an_import_called_while_the_host_writes() {
    // The host allocates in the guest for what `get` gives back; there the guest calls out again.
    let process = lies_in_wait(&format!(
        "{} (global.set $flag (i32.const 1))
         (call $get (i32.const 0) (i32.const 0) (i32.const 0) (i32.const {SCRATCH}) (i32.const 2)
           (i32.const 0) (i32.const 0) (i32.const 0) (i32.const {}))",
        words(SCRATCH, &[0, 0]),
        SCRATCH + 64
    ));
    let guest = Guest {
        process: &process,
        realloc: "(if (global.get $flag) (then (call $stop (i32.const 16) (i32.const 3))))",
        stores: &["seen"],
        ..Guest::default()
    };
    contained(&guest, "cannot leave component instance");
}

#[test]
fn a_store_that_is_not_its_own() {
    let get = |store: u32| {
        let zeros = "(i32.const 0) ".repeat(7);
        format!("(call $get (i32.const {store}) {zeros} (i32.const {SCRATCH}))")
    };
    // Number 1 is a store of the task: that of its times.
    for store in [1, 7, u32::MAX] {
        bad(
            &get(store),
            &format!("`key-value.get`: there is no store {store}, the module declares 1"),
        );
    }
}

/// `put` of one entry with a key of ten million bytes.
#[test]
fn a_key_of_ten_megabytes_for_a_store() {
    let key = [0, 131_072, 10_000_000, SCRATCH + 96, 2, 0];
    let bad_put = format!(
        "(drop (memory.grow (i32.const 160))) {} {} {} (call $put (i32.const {SCRATCH}))",
        words(SCRATCH, &key),
        words(SCRATCH + 32, &[16, 3, SCRATCH + 104, 2, 0, 0, 0, 0, 0]),
        words(SCRATCH + 96, &[0, 10_000_000, 0, 3]),
    );
    let process = lies_in_wait(&bad_put);
    let guest = Guest {
        process: &process,
        stores: &["seen"],
        ..Guest::default()
    };
    contained(&guest, "handed the host more than 4MiB in one call (`limits.result`)");
    // Where the limits let it pass, its changelog would not take it.
    let reason = "`key-value.put`: an entry of 9.6MiB for store `seen`, which takes 976.6KiB";
    contained_within(r#"{ call = "1s", result = "64MiB" }"#, &guest, reason);
}

#[test]
fn writes_without_end() {
    // One entry of 100 KiB again and again: each is small, together they would fill the host's memory.
    let writes = format!(
        "(drop (memory.grow (i32.const 4))) {} {} {}
         (loop $more
           (i32.store (i32.const {key}) (i32.add (i32.load (i32.const {key})) (i32.const 1)))
           (call $put (i32.const {SCRATCH}))
           (br $more))",
        words(SCRATCH, &[0, SCRATCH + 128, 4, SCRATCH + 96, 2, 0, 0, 0]),
        words(SCRATCH + 32, &[131_072, 100_000, SCRATCH + 104, 2, 0, 0, 0, 0, 0]),
        words(SCRATCH + 96, &[0, 4, 0, 100_000]),
        key = SCRATCH + 128,
    );
    let process = lies_in_wait(&writes);
    let guest = Guest {
        process: &process,
        stores: &["seen"],
        ..Guest::default()
    };
    contained(&guest, "handed the host more than 4MiB in one call (`limits.result`)");
}

#[test]
fn text_that_is_not_utf_8() {
    let log = "(i32.store8 (i32.const 100) (i32.const 255))
               (call $log (i32.const 2) (i32.const 100) (i32.const 1) (i32.const 0) (i32.const 0))";
    bad(log, "utf-8");
    bad(
        &format!("(i32.store8 (i32.const 100) (i32.const 255)) {}", outcome(0, 100, 1)),
        "utf-8",
    );
}

#[test]
fn an_output_that_it_has_not() {
    bad(
        &answers(&[(20, &[1, SCRATCH, 1])], &[5]),
        "sends a row to output 5, and the module has 1",
    );
}

#[test]
fn a_stall_in_a_host_call() {
    // Many keys to look up, at some ten nanoseconds each at the least: the guest itself does nothing meanwhile.
    let stall = format!(
        "(drop (memory.grow (i32.const 1600)))
         (call $get (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 131072) (i32.const 25000000)
           (i32.const 0) (i32.const 0) (i32.const 0) (i32.const {SCRATCH}))"
    );
    let process = lies_in_wait(&stall);
    let guest = Guest {
        process: &process,
        stores: &["seen"],
        ..Guest::default()
    };
    let limits = r#"{ call = "200ms", memory = "256MiB", recycle = "200MiB", result = "128MiB" }"#;
    contained_within(limits, &guest, "`process` ran longer than 200 ms (`limits.call`)");
}

#[test]
fn forged_timestamps() {
    let forged = |low: u32, high: u32| answers(&[(96, &[1, SCRATCH, 1])], &[low, high]);
    bad(&forged(u32::MAX, u32::MAX), "negative timestamp -1 at row 0");
    // The end of time is a time: the row goes on with it, and its neighbours are not moved.
    let process = lies_in_wait(&forged(u32::MAX, i32::MAX as u32));
    let mut driver = driver(
        &load(&Guest {
            process: &process,
            ..Guest::default()
        }),
        "stop",
    );
    driver.pipe(vec![record("boom", 5)]).unwrap();
    driver.pipe(vec![record("a", 6), record("b", 7)]).unwrap();
    let times: Vec<i64> = driver.topic("out").iter().map(|record| record.timestamp).collect();
    assert_eq!(times, [i64::MAX, 6, 7]);
}

#[test]
fn a_log_flood_costs_lines_and_nothing_else() {
    let flood = "(local.set $end (i32.const 20000))
        (loop $more
          (call $log (i32.const 2) (i32.const 16) (i32.const 3) (i32.const 0) (i32.const 0))
          (local.set $end (i32.sub (local.get $end) (i32.const 1)))
          (br_if $more (local.get $end)))";
    let process = lies_in_wait(flood);
    let mut driver = driver(
        &load(&Guest {
            process: &process,
            ..Guest::default()
        }),
        "stop",
    );
    driver
        .pipe(["a", "boom", "b"].map(|value| record(value, 1)).into())
        .unwrap();
    assert_eq!(values_of(driver.topic("out")), ["a", "boom", "b"]);
}

#[test]
fn memory_that_grows_from_call_to_call_is_given_back_in_time() {
    // 32 MiB would be full after 32 calls; a trap would stop the task.
    let leak = "(drop (memory.grow (i32.const 16))) (local.set $rows";
    let leaking = lies_in_wait("").replacen("(local.set $rows", leak, 1);
    let mut driver = driver(
        &load(&Guest {
            process: &leaking,
            ..Guest::default()
        }),
        "stop",
    );
    for call in 0..200 {
        driver
            .pipe(vec![record("a", call)])
            .unwrap_or_else(|e| panic!("call {call}: {e}"));
    }
    assert_eq!(driver.topic("out").len(), 200);
}

#[test]
fn a_trap_at_one_record_in_ten_thousand() {
    let process = lies_in_wait("unreachable");
    let mut driver = driver(
        &load(&Guest {
            process: &process,
            ..Guest::default()
        }),
        "dead-letter",
    );
    let value = |i: usize| {
        if i % 10_000 == 5_000 {
            "boom".to_owned()
        } else {
            i.to_string()
        }
    };
    let (all, poison): (Vec<_>, Vec<_>) = (0..20_000)
        .map(|i| (i, value(i)))
        .partition(|(_, value)| value != "boom");
    driver
        .pipe((0..20_000).map(|i| record(&value(i), i as i64)).collect())
        .unwrap();
    let out = values_of(driver.topic("out"));
    assert!(
        all.iter().map(|(_, value)| value.as_str()).eq(out.iter().copied()),
        "{} came out",
        out.len()
    );
    let offsets: Vec<&str> = driver
        .topic("dead")
        .iter()
        .map(|letter| header(letter, "wasmill.error.offset"))
        .collect();
    let expected: Vec<String> = poison.iter().map(|(offset, _)| offset.to_string()).collect();
    assert_eq!(offsets, expected);
    assert!(header(&driver.topic("dead")[0], "wasmill.error.backtrace").contains("guest!process"));
}

#[test]
fn a_trap_at_every_record_is_stopped_by_a_bound() {
    let guest = Guest {
        process: "unreachable",
        ..Guest::default()
    };
    let mut driver = driver(&load(&guest), "dead-letter");
    let error = driver.pipe((0..5_000).map(|i| record("x", i)).collect()).unwrap_err();
    let Error::Task { error, .. } = error else {
        panic!("{error}")
    };
    let said = error.to_string();
    for part in [
        "step `cage` (tiny@1.0.0) at in-0-100",
        "100 records in a row",
        "`process` gave up",
    ] {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

#[test]
fn host_calls_in_describe() {
    let calls = "(call $stop (i32.const 16) (i32.const 3))";
    let refused = SANDBOX
        .load(
            &Guest {
                describe: calls,
                ..Guest::default()
            }
            .build(),
        )
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("an import called from `describe` traps: `timers.stop`"),
        "{refused}"
    );
}
