//! The plan of a topology, and its closures over batches.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use super::*;
use crate::application::{Built, build};
use crate::application_bindings::exports::wasmill::streams::functions::Aggregation;
use crate::bindings::wasmill::data::columns::{Batch, Column};
use crate::bindings::wasmill::streams::answers::{Answer, Disposition, Emitted};
use crate::columns::ColumnBuilder;

fn column(rows: &[Option<&[u8]>]) -> Column {
    let mut builder = ColumnBuilder::default();
    rows.iter().for_each(|row| builder.push(*row));
    builder.finish()
}

fn batch(keys: &[Option<&[u8]>], values: &[Option<&[u8]>]) -> Batch {
    Batch {
        keys: column(keys),
        values: column(values),
        timestamps: vec![0; values.len()],
        stream_times: None,
        headers: None,
        origin: None,
    }
}

fn texts(column: Option<&Column>) -> Vec<Option<String>> {
    let rows = column.map(|column| {
        column
            .iter()
            .map(|row| row.map(|bytes| String::from_utf8_lossy(bytes).into_owned()))
    });
    rows.map(Iterator::collect).unwrap_or_default()
}

/// Function 0 of the application, for rows without keys.
fn answer<A: Application>(values: &[Option<&[u8]>]) -> Answer {
    let (_, built): (_, Built) = build::<A>().unwrap();
    built.transform(0, &batch(&vec![None; values.len()], values)).unwrap()
}

struct WordCount;

impl Application for WordCount {
    fn build(b: &mut Builder) {
        let words = b
            .stream::<(), String>("lines")
            .flat_map_values(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .filter(|word| !word.is_empty());
        words
            .group_by(|word| word.clone())
            .count()
            .named("counts")
            .emit(Emit::OnCommit)
            .to("counts");
        words.filter(|word| word == "a").to("as");
    }
}

#[test]
fn a_plan_has_nodes_in_order_with_names_and_formats() {
    let (plan, _) = build::<WordCount>().unwrap();
    let nodes: Vec<String> = plan
        .nodes
        .iter()
        .map(|node| {
            let options = node
                .options
                .iter()
                .map(|option| format!(" {}={}", option.name, option.value));
            let functions = node.functions.iter().map(|f| format!(" {}({})", f.role, f.number));
            let rest: String = options.chain(functions).collect();
            format!("{} {} {}{rest}", node.name, node.operator, node.inputs.join("+"))
        })
        .collect();
    assert_eq!(
        nodes,
        [
            "flat-map-values flat-map-values lines result=\"string\" transform(0)",
            "filter filter flat-map-values transform(1)",
            "select-key select-key filter key-result=\"string\" transform(2)",
            "counts count select-key emit=\"on-commit\"",
            "filter-2 filter filter transform(3)",
        ]
    );
    let outputs: Vec<(&str, &str)> = plan
        .outputs
        .iter()
        .map(|o| (o.port.as_str(), o.node.as_str()))
        .collect();
    assert_eq!(outputs, [("counts", "counts"), ("as", "filter-2")]);
    let described = crate::application::describe::<WordCount>("w", "1", "");
    assert_eq!(described.inputs[0].value_format, "string");
    assert_eq!(described.outputs[0].key_format, "string");
    assert_eq!(described.outputs[0].value_format, "i64");
}

struct Nameless;

impl Application for Nameless {
    fn build(b: &mut Builder) {
        let stream = b.stream::<String, i64>("in").named("x");
        stream.group_by_key().reduce(|a, b| a + b).to("out");
        stream.to("out");
    }
}

#[test]
fn state_without_a_name_is_refused_with_all_else_that_is_wrong() {
    let Err(errors) = build::<Nameless>() else {
        panic!("it builds");
    };
    for part in [
        "a `reduce` has no name",
        "output `out` gets two streams",
        "stands at an input",
    ] {
        assert!(errors.contains(part), "{errors}");
    }
}

struct Lengths;

impl Application for Lengths {
    fn build(b: &mut Builder) {
        b.stream::<(), String>("in")
            .map_values(|text| text.to_uppercase())
            .to("out");
    }
}

#[test]
fn null_goes_on_and_what_does_not_parse_is_a_dead_letter() {
    let answer = answer::<Lengths>(&[Some(b"a"), None, Some(b"\xff"), Some(b"b")]);
    let Emitted::Rows(rows) = answer.emitted else {
        panic!("no rows");
    };
    assert_eq!(rows.causes, Some(vec![0, 1, 3]));
    assert!(rows.keys.is_none());
    assert_eq!(texts(rows.values.as_ref()), [Some("A".into()), None, Some("B".into())]);
    let [outcome] = answer.outcomes.as_slice() else {
        panic!("{:?}", answer.outcomes);
    };
    assert_eq!(outcome.row, 2);
    assert!(
        matches!(&outcome.disposition, Disposition::DeadLetter(reason) if reason.starts_with("deserialization: value")),
        "{outcome:?}"
    );
}

struct Turned;

impl Application for Turned {
    fn build(b: &mut Builder) {
        b.stream::<String, String>("in")
            .flat_map(|key, value| vec![(value.clone(), key.clone()), (value, key + "!")])
            .to("out");
    }
}

#[test]
fn a_flat_map_sees_keys_and_makes_them() {
    let (_, built) = build::<Turned>().unwrap();
    let given = batch(&[Some(b"k"), None, Some(b"l")], &[Some(b"v"), Some(b"w"), Some(b"x")]);
    let answer = built.transform(0, &given).unwrap();
    let Emitted::Rows(rows) = answer.emitted else {
        panic!("no rows");
    };
    assert_eq!(rows.causes, Some(vec![0, 0, 2, 2]));
    let some = |texts: &[&str]| texts.iter().map(|text| Some((*text).to_owned())).collect::<Vec<_>>();
    assert_eq!(texts(rows.keys.as_ref()), some(&["v", "v", "x", "x"]));
    assert_eq!(texts(rows.values.as_ref()), some(&["k", "k!", "l", "l!"]));
    assert!(
        matches!(&answer.outcomes[0].disposition, Disposition::DeadLetter(reason) if reason.contains("key: null")),
        "{:?}",
        answer.outcomes
    );
}

struct Joined;

impl Application for Joined {
    fn build(b: &mut Builder) {
        let stream = b.stream::<String, String>("in");
        let add = |all: Option<String>, new: String| match new.as_str() {
            "-" => None,
            _ => Some(all.unwrap_or_default() + &new),
        };
        stream
            .group_by_key()
            .aggregate(|| Some(">".to_owned()), add)
            .named("all")
            .to("all");
        stream
            .group_by_key()
            .reduce(|a, b| a + "," + &b)
            .named("list")
            .to("list");
    }
}

fn work(aggregates: &[Option<&[u8]>], values: &[Option<&[u8]>], slots: &[u32], every_step: bool) -> Aggregation {
    Aggregation {
        rows: batch(&vec![Some(&b"k"[..]); values.len()], values),
        keys: column(&vec![Some(&b"k"[..]); aggregates.len()]),
        aggregates: column(aggregates),
        kinds: vec![0; slots.len()],
        slots: slots.to_vec(),
        operands: (0..slots.len() as u32).collect(),
        every_step,
    }
}

#[test]
fn an_aggregate_answers_every_step_or_every_slot() {
    let (plan, built) = build::<Joined>().unwrap();
    assert_eq!(plan.nodes[0].functions[0].role, "aggregate");
    let values: [Option<&[u8]>; 6] = [
        Some(b"a"),
        Some(b"b"),
        Some(b"-"),
        Some(b"\xff"),
        Some(b"c"),
        Some(b"d"),
    ];
    let slots = [0, 1, 0, 0, 0, 1];
    let steps = built
        .aggregate(0, &work(&[None, Some(b"x")], &values, &slots, true))
        .unwrap();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(
        texts(Some(&steps.values)),
        [some(">a"), some("xb"), None, None, some(">c"), some("xbd")]
    );
    assert_eq!(steps.outcomes.len(), 1);
    assert_eq!(steps.outcomes[0].row, 3);
    let last = built
        .aggregate(0, &work(&[None, Some(b"x")], &values, &slots, false))
        .unwrap();
    assert_eq!(texts(Some(&last.values)), [some(">c"), some("xbd")]);
    let listed = built.aggregate(1, &work(&[None], &values[..2], &[0, 0], true)).unwrap();
    assert_eq!(texts(Some(&listed.values)), [some("a"), some("a,b")]);
    assert!(built.transform(0, &batch(&[], &[])).is_err());
}

#[test]
fn a_step_that_is_not_known_fails_the_call() {
    let (_, built) = build::<Joined>().unwrap();
    let mut unknown = work(&[None], &[Some(b"a")], &[0], true);
    unknown.kinds = vec![1];
    assert!(built.aggregate(0, &unknown).unwrap_err().contains("kind 1"));
}
