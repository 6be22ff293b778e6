//! A task through its public calls: failures, retries, waiting, restarts.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::result_large_err
)]

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::BinaryArray;
use record::{BatchBuilder, Fetched, TopicPartition};
use state::memory::Memory;
use task::processor::{Answer, Context, Emission, Emitted, Failure, Input, Now, RowOutcome};
use task::schedules::{Clock, Schedule};
use task::{Error, Options, Processor, Ran, Task, TaskId};
use topology::{
    Aggregate, AggregateFunction, DeadLetters, Edge, Emit, Format, Guarantee, Limits, ModuleStep, Node, NodeKind,
    OnError, Retries, Selector, Sink, Source, SourceKind, Start, Store, StoreKind, SubTopology, Topology,
};

/// Does what the values say: `trap`, `fail`, `drop`, `dead`, `retry@WALL`, `every@MS`, `bad` (breaks the contract);
/// counts rows in its store and sends everything else on.
struct Obedient {
    dead: bool,
}

impl Processor for Obedient {
    fn open(&mut self, _: &mut Context) -> Result<(), Failure> {
        self.dead = false;
        Ok(())
    }

    fn process(&mut self, context: &mut Context, now: Now, input: &Input) -> Result<Answer, Failure> {
        assert!(!self.dead, "called after a trap");
        let (mut causes, mut outcomes) = (Vec::new(), Vec::new());
        for row in 0..input.batch.len() {
            let value = String::from_utf8(input.batch.value(row).unwrap().to_vec()).unwrap();
            let (word, number) = value
                .split_once('@')
                .map_or((&*value, 0), |(w, n)| (w, n.parse::<i64>().unwrap()));
            let store = context.store_of[0];
            context
                .stores
                .write(store, input.batch.key(row).unwrap(), Some(value.as_bytes()), 0)
                .unwrap();
            let outcome = match word {
                "trap" => {
                    self.dead = true;
                    return Err(Failure::Trap {
                        cause: "unreachable".into(),
                        backtrace: "0: f".into(),
                    });
                }
                "bad" => {
                    return Ok(Answer {
                        emitted: Emitted::Nothing,
                        outcomes: vec![(99, RowOutcome::Drop(value))],
                    });
                }
                "fail" => Some(RowOutcome::Fail("no".into())),
                "drop" => Some(RowOutcome::Drop("no".into())),
                "dead" => Some(RowOutcome::DeadLetter("no".into())),
                "retry" if now.wall_time < number => Some(RowOutcome::Retry {
                    after_ms: 10,
                    reason: "later".into(),
                }),
                "every" => {
                    let schedule = Schedule {
                        every_ms: number as u64,
                        clock: Clock::WallTime,
                        anchor: None,
                    };
                    context.start_schedule("tick", schedule, Some(row as u32)).unwrap();
                    None
                }
                _ => None,
            };
            match outcome {
                Some(outcome) => outcomes.push((row as u32, outcome)),
                None => causes.push(row as u32),
            }
        }
        Ok(Answer {
            emitted: Emitted::Rows(Emission {
                causes: Some(causes),
                ..Emission::default()
            }),
            outcomes,
        })
    }

    fn punctuate(&mut self, _: &mut Context, now: Now, name: &str) -> Result<Emission, Failure> {
        let value = format!("{name} {}", now.wall_time);
        Ok(Emission {
            values: Some(BinaryArray::from_vec(vec![value.as_bytes()])),
            ..Emission::default()
        })
    }

    fn renew(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    fn close(&mut self) {}

    fn module(&self) -> &str {
        "obedient@1"
    }
}

fn node(name: &str, kind: NodeKind, from: Option<usize>) -> Node {
    let inputs = from
        .map(|from| Edge {
            from,
            from_port: 0,
            to_port: 0,
        })
        .into_iter()
        .collect();
    Node {
        name: name.into(),
        kind,
        inputs,
        on_error: OnError::Stop,
    }
}

fn store(name: &str, kind: StoreKind, emit: Emit) -> Store {
    let (key, value) = (Format::Bytes, Format::Bytes);
    Store {
        name: name.into(),
        kind,
        schema: 1,
        key,
        value,
        changelog: format!("p-{name}-changelog"),
        emit,
    }
}

fn topology(topics: &[&str], on_error: OnError, dead_letters: bool) -> Topology {
    let (key, value) = (Format::Bytes, Format::Bytes);
    let source = Source {
        topics: topics.iter().map(|t| (*t).to_owned()).collect(),
        kind: SourceKind::Stream,
        key,
        value,
        start: Start::Earliest,
        create: None,
        timestamps: Default::default(),
    };
    let step = ModuleStep {
        module: "obedient".into(),
        version: "1".into(),
        digest: String::new(),
        inputs: vec!["in".into()],
        outputs: vec!["out".into()],
        stores: vec![0],
        params: Default::default(),
        needs_headers: false,
        needs_origin: false,
        needs_stream_times: false,
        retries: Retries {
            max: 3,
            backoff_ms_min: 5,
            backoff_ms_max: 50,
        },
        limits: Limits::default(),
        grants: Box::default(),
        closure: None,
    };
    let count = Aggregate {
        function: AggregateFunction::Count,
        of: Selector::Value,
        of_format: Format::Bytes,
        result: Format::I64,
        store: 1,
        emit: Emit::OnCommit,
    };
    let sink = |topic: &str| {
        NodeKind::Sink(Sink {
            topic: topic.into(),
            key,
            value,
            create: None,
        })
    };
    Topology {
        name: "p".into(),
        guarantee: Guarantee::ExactlyOnce,
        max_task_idle_ms: 0,
        standbys: 0,
        nodes: vec![
            node("in", NodeKind::Source(source), None),
            Node {
                on_error,
                ..node("step", NodeKind::Module(step), Some(0))
            },
            node("out", sink("out"), Some(1)),
            node("counts", NodeKind::Aggregate(count), Some(1)),
            node("totals", sink("totals"), Some(3)),
        ],
        stores: vec![
            store("step-seen", StoreKind::KeyValue, Emit::EveryUpdate),
            store("counts", StoreKind::Timestamped, Emit::OnCommit),
            store("times-0", StoreKind::KeyValue, Emit::EveryUpdate),
        ],
        globals: Vec::new(),
        sub_topologies: vec![SubTopology {
            id: 0,
            nodes: vec![0, 1, 2, 3, 4],
            stores: vec![0, 1, 2],
            topics: topics.iter().map(|t| (*t).to_owned()).collect(),
        }],
        dead_letters: dead_letters.then(|| DeadLetters {
            topic: "dead".into(),
            create: None,
        }),
    }
}

fn new_task(topology: Topology, memory: &Memory, idle: i64) -> Task {
    let processors: HashMap<usize, Box<dyn Processor>> =
        [(1, Box::new(Obedient { dead: true }) as Box<dyn Processor>)].into();
    let partition_count_of = ["out", "totals", "dead"].map(|t| (t.to_owned(), 2)).into();
    let options = Options {
        partition_count_of,
        max_task_idle_ms: idle,
        ..Options::default()
    };
    let id = TaskId {
        sub_topology: 0,
        partition: 3,
    };
    Task::new(Arc::new(topology), id, processors, Box::new(memory.clone()), options).unwrap()
}

fn started(on_error: OnError, dead_letters: bool) -> (Task, Memory) {
    let memory = Memory::default();
    let mut task = new_task(topology(&["in"], on_error, dead_letters), &memory, 0);
    task.start(-1, 0).unwrap();
    (task, memory)
}

fn add(task: &mut Task, topic: &str, first: i64, values: &[(&str, i64)]) {
    let mut batch = BatchBuilder::default();
    for (value, time) in values {
        batch.push_with_headers(Some(b"k"), Some(value.as_bytes()), *time, vec![("own".into(), None)]);
    }
    let partition = TopicPartition::new(topic, 3);
    let next = first + values.len() as i64;
    let fetched = Fetched {
        partition: partition.clone(),
        offsets: (first..next).collect(),
        records: batch.finish(),
        next,
    };
    task.add(fetched).unwrap();
    task.set_end(&partition, true);
}

fn staged(task: &mut Task, topic: &str) -> Vec<String> {
    let mut values = Vec::new();
    for staged in task.take_staged().iter().filter(|s| &*s.topic == topic) {
        values.extend(
            (0..staged.batch.len()).map(|i| String::from_utf8_lossy(staged.batch.value(i).unwrap()).into_owned()),
        );
    }
    values
}

fn drain(task: &mut Task, wall: i64) -> Result<Option<i64>, Error> {
    loop {
        if let Ran::Idle { until } = task.run(wall)? {
            return Ok(until);
        }
    }
}

fn position(task: &Task) -> i64 {
    task.positions()[0].1
}

#[test]
fn a_failing_record_stops_the_task_after_what_came_before_it() {
    for (bad, text) in [("trap", "unreachable"), ("fail", "no"), ("bad", "outcomes")] {
        let (mut task, _) = started(OnError::Stop, false);
        let values = [("a", 1), ("b", 2), ("c", 3), (bad, 4), ("d", 5)];
        add(&mut task, "in", 10, &values);
        let error = drain(&mut task, 0).unwrap_err();
        let Error::Stop {
            step,
            module,
            origin,
            failure,
        } = &error
        else {
            panic!("{error}")
        };
        assert_eq!((step.as_str(), module.as_str()), ("step", "obedient@1"));
        assert_eq!(origin, &Some((TopicPartition::new("in", 3), 13)));
        assert!(failure.to_string().contains(text), "{failure}");
        assert_eq!((position(&task), task.stream_time()), (13, 3));
        assert_eq!(staged(&mut task, "out"), ["a", "b", "c"]);
        assert!(
            error.to_string().contains("step `step` (obedient@1) at in-3-13: "),
            "{error}"
        );
    }
}

#[test]
fn skipped_records_leave_nothing() {
    let (mut task, memory) = started(OnError::Skip, false);
    add(
        &mut task,
        "in",
        0,
        &[
            ("a", 1),
            ("trap", 50),
            ("fail", 60),
            ("b", 2),
            ("trap", 70),
            ("bad", 80),
            ("c", 3),
        ],
    );
    drain(&mut task, 0).unwrap();
    assert_eq!(staged(&mut task, "out"), ["a", "b", "c"]);
    assert_eq!((position(&task), task.stream_time(), task.metrics().skipped), (7, 3, 4));
    task.flush_tables(0).unwrap();
    let rows = task.changelog_rows().unwrap();
    task.committed(
        &rows
            .iter()
            .map(|(store, rows)| (*store, rows.len() as i64))
            .collect::<Vec<_>>(),
    )
    .unwrap();
    task.flush_state().unwrap();
    assert_eq!(memory.entries(0), [(b"k".to_vec(), b"c".to_vec())]);
    assert_eq!(
        memory.entries(1),
        [(b"k".to_vec(), [3_i64.to_be_bytes(), 3_i64.to_be_bytes()].concat())]
    );
    assert_eq!(rows.iter().map(|(store, _)| *store).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(rows[1].1.timestamps(), [3]);
}

#[test]
fn dead_letters_say_where_they_come_from() {
    let (mut task, _) = started(OnError::DeadLetter, true);
    add(&mut task, "in", 5, &[("dead", 1), ("a", 2), ("trap", 3), ("drop", 4)]);
    drain(&mut task, 0).unwrap();
    let all = task.take_staged();
    let dead: Vec<_> = all.iter().filter(|s| &*s.topic == "dead").collect();
    let text = |b: &Option<Vec<u8>>| {
        b.as_ref()
            .map(|b| String::from_utf8_lossy(b).into_owned())
            .unwrap_or_default()
    };
    let mut found = Vec::new();
    for staged in &dead {
        for row in 0..staged.batch.len() {
            let headers = staged.batch.headers().unwrap().row(row);
            assert_eq!(headers[0].0, "own");
            let named: Vec<String> = headers[1..].iter().map(|(n, v)| format!("{n}={}", text(v))).collect();
            found.push((
                text(&staged.batch.value(row).map(<[u8]>::to_vec)),
                staged.batch.timestamps()[row],
                named.join(" "),
            ));
            let origin = task.origin_of(staged.tag, row as u32).unwrap();
            assert!(
                named.contains(&format!("wasmill.error.offset={}", origin.1)),
                "{named:?} {origin:?}"
            );
        }
    }
    let headers = |reason: &str, more: &str, offset: i64| {
        format!(
            "wasmill.error.stage=processing wasmill.error.reason={reason} wasmill.error.module=obedient@1 \
             wasmill.error.step=step wasmill.error.pipeline=p wasmill.error.task=0_3 wasmill.error.at=0{more} \
             wasmill.error.topic=in wasmill.error.partition=3 wasmill.error.offset={offset}"
        )
    };
    let expected = [
        ("dead".to_owned(), 1, headers("no", "", 5)),
        (
            "trap".to_owned(),
            3,
            headers("unreachable", " wasmill.error.backtrace=0: f", 7),
        ),
    ];
    assert_eq!(found, expected);
    assert_eq!(task.metrics().dead_letters, 2);
}

#[test]
fn a_dead_letter_with_nowhere_to_go_stops() {
    let (mut task, _) = started(OnError::Skip, false);
    add(&mut task, "in", 0, &[("dead", 1)]);
    assert!(matches!(drain(&mut task, 0), Err(Error::Stop { .. })));
}

#[test]
fn a_module_that_fails_on_everything_is_stopped() {
    let (mut task, _) = started(OnError::Skip, false);
    add(&mut task, "in", 0, &vec![("trap", 1); 1000]);
    assert!(matches!(
        drain(&mut task, 0),
        Err(Error::Stop {
            failure: Failure::Trap { .. },
            ..
        })
    ));
    assert!(task.metrics().skipped < 200, "{:?}", task.metrics());
}

#[test]
fn a_retry_waits_in_its_place_and_is_bounded() {
    let (mut task, _) = started(OnError::Skip, false);
    add(
        &mut task,
        "in",
        0,
        &[("a", 1), ("retry@15", 2), ("b", 3), ("retry@1000", 4), ("c", 5)],
    );
    assert_eq!(drain(&mut task, 0).unwrap(), Some(10));
    assert_eq!((staged(&mut task, "out"), position(&task)), (vec!["a".to_owned()], 1));
    assert_eq!(task.run(9).unwrap(), Ran::Idle { until: Some(10) });
    assert_eq!(drain(&mut task, 10).unwrap(), Some(20));
    assert_eq!(drain(&mut task, 20).unwrap(), Some(30));
    assert_eq!(staged(&mut task, "out"), ["retry@15", "b"]);
    assert_eq!(
        (drain(&mut task, 30).unwrap(), drain(&mut task, 40).unwrap()),
        (Some(40), Some(50))
    );
    assert_eq!(drain(&mut task, 50).unwrap(), None);
    assert_eq!(
        (staged(&mut task, "out"), task.metrics().skipped),
        (vec!["c".to_owned()], 1)
    );
}

#[test]
fn inputs_are_waited_for_as_the_idle_rule_says() {
    for (idle, caught_up, at_once, later) in [
        (0, false, false, false),
        (0, true, true, true),
        (-1, false, true, true),
        (30, true, false, true),
    ] {
        let mut task = new_task(
            topology(&["in-b", "in-a"], OnError::Stop, false),
            &Memory::default(),
            idle,
        );
        task.start(-1, 0).unwrap();
        let names: Vec<&str> = task.sources().iter().map(|s| &*s.topic).collect();
        assert_eq!(names, ["in-a", "in-b"]);
        add(&mut task, "in-b", 0, &[("b", 1)]);
        task.set_end(&TopicPartition::new("in-a", 3), caught_up);
        let worked = |ran| matches!(ran, Ran::Worked { .. });
        assert_eq!(worked(task.run(100).unwrap()), at_once, "{idle} {caught_up}");
        assert_eq!(at_once || worked(task.run(130).unwrap()), later, "{idle} {caught_up}");
    }
}

#[test]
fn inputs_mix_by_time_then_by_topic() {
    let mut task = new_task(topology(&["in-b", "in-a"], OnError::Stop, false), &Memory::default(), 0);
    task.start(-1, 0).unwrap();
    add(&mut task, "in-b", 0, &[("b1", 1), ("b5", 5), ("b4", 4)]);
    add(&mut task, "in-a", 0, &[("a1", 1), ("a3", 3), ("a5", 5)]);
    assert_eq!(task.run(0).unwrap(), Ran::Worked { rows: 6 });
    assert_eq!(staged(&mut task, "out"), ["a1", "b1", "a3", "a5", "b5", "b4"]);
}

#[test]
fn an_abort_takes_everything_back() {
    let (mut task, memory) = started(OnError::Stop, false);
    task.set_position(&TopicPartition::new("in", 3), 20);
    add(&mut task, "in", 20, &[("a", 1)]);
    drain(&mut task, 0).unwrap();
    task.changelog_rows().unwrap();
    task.committed(&[(0, 1)]).unwrap();
    add(&mut task, "in", 21, &[("every@5", 9)]);
    drain(&mut task, 0).unwrap();
    assert!(task.uncommitted());
    assert_eq!(task.aborted(), [(TopicPartition::new("in", 3), 21)]);
    assert_eq!(
        (task.stream_time(), task.take_staged().len(), task.run(100).unwrap()),
        (1, 0, Ran::Idle { until: None })
    );
    task.flush_state().unwrap();
    assert_eq!(memory.entries(0), [(b"k".to_vec(), b"a".to_vec())]);
}

#[test]
fn punctuations_survive_a_restart() {
    let (mut task, memory) = started(OnError::Stop, false);
    add(&mut task, "in", 0, &[("every@100", 9)]);
    assert_eq!(drain(&mut task, 50).unwrap(), Some(150));
    task.changelog_rows().unwrap();
    task.committed(&[]).unwrap();
    task.flush_state().unwrap();
    task.close();
    let mut task = new_task(topology(&["in"], OnError::Stop, false), &memory, 0);
    task.start(-1, 480).unwrap();
    assert_eq!((task.stream_time(), drain(&mut task, 480).unwrap()), (9, Some(550)));
    assert_eq!(staged(&mut task, "out"), ["tick 480"]);
}

#[test]
fn a_record_that_the_broker_refuses_becomes_a_dead_letter_in_the_replay() {
    let (mut task, _) = started(OnError::Stop, true);
    let source = TopicPartition::new("in", 3);
    task.set_position(&source, 0);
    let values = [("a", 1), ("b", 2), ("c", 3)];
    add(&mut task, "in", 0, &values);
    drain(&mut task, 0).unwrap();
    let out = task.take_staged().into_iter().find(|s| &*s.topic == "out").unwrap();
    let (partition, offset) = task.origin_of(out.tag, 1).unwrap();
    assert_eq!((&partition, offset), (&source, 1));
    task.aborted();
    task.reject(partition, offset, "too large".into());
    add(&mut task, "in", 0, &values);
    drain(&mut task, 0).unwrap();
    let all = task.take_staged();
    let of = |topic: &str| -> Vec<Vec<u8>> {
        let staged = all.iter().filter(|s| &*s.topic == topic);
        staged
            .flat_map(|s| (0..s.batch.len()).map(|i| s.batch.value(i).unwrap().to_vec()))
            .collect()
    };
    assert_eq!(
        (of("out"), of("dead")),
        (vec![b"a".to_vec(), b"c".to_vec()], vec![b"b".to_vec()])
    );
}

#[test]
fn a_dead_letter_that_the_broker_refuses_stops_the_task() {
    let (mut task, _) = started(OnError::Stop, true);
    let source = TopicPartition::new("in", 3);
    task.set_position(&source, 0);
    let refused = |task: &mut Task| {
        task.aborted();
        task.reject(source.clone(), 0, "too large".into());
        add(task, "in", 0, &[("a", 1), ("b", 2)]);
        drain(task, 0)
    };
    // What came of it, then another record of the same transaction, then its dead letter.
    refused(&mut task).unwrap();
    task.aborted();
    add(&mut task, "in", 0, &[("a", 1), ("b", 2)]);
    drain(&mut task, 0).unwrap();
    let error = refused(&mut task).unwrap_err().to_string();
    assert!(error.contains("too large; and its dead letter too"), "{error}");
    assert!(error.contains("in-3-0"), "{error}");
}

/// Else code that came after a million rows would seem to take no time for one, and whatever comes after it slow.
#[test]
fn rows_and_time_are_of_the_code_that_runs_now() {
    let (mut task, _) = started(OnError::Stop, false);
    let pass = |task: &mut Task, first: i64, count: usize| {
        add(task, "in", first, &vec![("a", first); count]);
        drain(task, 0).unwrap();
        task.changelog_rows().unwrap();
        task.committed(&[]).unwrap();
        task.measured(&|step| step == "step").rows
    };
    let switch = |task: &mut Task| {
        let processors: HashMap<usize, Box<dyn Processor>> =
            [(1, Box::new(Obedient { dead: true }) as Box<dyn Processor>)].into();
        task.switch(processors, None, 0).unwrap();
        task.changelog_rows().unwrap();
        task.committed(&[]).unwrap();
    };
    assert_eq!(pass(&mut task, 0, 5), 5);
    switch(&mut task);
    assert_eq!(pass(&mut task, 5, 3), 3);
    task.switch_back();
    assert_eq!(pass(&mut task, 8, 2), 7);
    switch(&mut task);
    assert_eq!(task.measured(&|_| true).rows, 0);
    assert_eq!(pass(&mut task, 10, 1), 1);
}
