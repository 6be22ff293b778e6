//! Files that are right, and the topologies that they make.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use pipeline::{ModuleRef, Undescribed, Vars};
use topology::description::ModuleDescription;

const WORD_COUNT: &str = include_str!("word-count.toml");

fn modules() -> Vec<ModuleDescription> {
    serde_json::from_str(include_str!("modules.json")).unwrap()
}

fn describe(reference: &ModuleRef) -> Result<ModuleDescription, Undescribed> {
    modules()
        .into_iter()
        .find(|module| reference.to_string() == format!("{}@{}", module.name, module.version))
        .ok_or(Undescribed {
            message: "it is not registered".into(),
            hint: None,
            known: Vec::new(),
        })
}

fn parse(text: &str) -> pipeline::Pipeline {
    parse_with(text, &Vars::default())
}

fn parse_with(text: &str, vars: &Vars) -> pipeline::Pipeline {
    pipeline::parse(text, "pipeline.toml", vars, &describe)
        .unwrap_or_else(|problems| panic!("{}", problems.render(false)))
}

#[test]
fn word_count() {
    let pipeline = parse(WORD_COUNT);
    insta::assert_snapshot!(pipeline.topology.describe(), @r#"
    Pipeline word-count (exactly-once)

    Sub-topology 0 reads lines
      source lines: topic lines, bytes -> string, from the earliest
        --> words
      module words: tokenize@1 (1f0c)
        limits: memory 256MiB, recycle 128MiB, call 5000 ms, result 64MiB, log-lines 100 a second, http 4000 ms
        on error: stop; retries: 10 at most, after 200 to 10000 ms
        --> counts-select-key
        <-- lines
      select-key counts-select-key: new key is value
        --> counts-repartition-sink
        <-- words
      repartition counts-repartition-sink: topic word-count-counts-repartition, string -> string
        <-- counts-select-key
      store times-0: key-value, bytes -> bytes, changelog word-count-times-0-changelog

    Sub-topology 1 reads word-count-counts-repartition
      source counts-repartition-source: topic word-count-counts-repartition, string -> string, repartitioned
        --> counts
      count counts: store counts, gives i64, emits on commit
        --> counts
        <-- counts-repartition-source
      sink counts: topic word-counts, string -> i64
        <-- counts
      store counts: timestamped, string -> i64, changelog word-count-counts-changelog
    "#);
    let plan = pipeline.topology.partition_counts(&|_| None).unwrap();
    assert_eq!(plan.tasks, [4, 4]);
    let internal: Vec<_> = plan
        .internal
        .iter()
        .map(|t| (t.name.as_str(), t.partitions, t.cleanup))
        .collect();
    assert_eq!(
        internal,
        [
            ("word-count-counts-repartition", 4, "delete"),
            ("word-count-times-0-changelog", 4, "compact"),
            ("word-count-counts-changelog", 4, "compact"),
        ]
    );
    // Through the control topic and back it is the same.
    let json = serde_json::to_string(&pipeline.topology).unwrap();
    let back: topology::Topology = serde_json::from_str(&json).unwrap();
    assert_eq!(back, pipeline.topology);
    assert_eq!(back.clone().validated().unwrap(), back);
}

const GLOBAL: &str = r#"
wasmill = 1
name = "p"
[sources.flights]
topic = "flights"
value = "json"
[sources.airports]
topic = "airports"
key = "string"
value = "json"
as = "global-table"
[steps.by-day]
op = "select-key"
from = "flights"
by = "value.day"
[steps.route]
op = "join"
left = "by-day"
right = "airports"
on = "value.to"
[sinks.out]
from = "route"
topic = "out"
"#;

#[test]
fn a_global_table_is_beside_the_tasks() {
    let topology = parse(GLOBAL).topology;
    insta::assert_snapshot!(topology.describe(), @r#"
    Pipeline p (exactly-once)

    Sub-topology 0 reads flights
      source flights: topic flights, bytes -> json, from the earliest
        --> by-day
      select-key by-day: new key is value.day
        --> route
        <-- flights
      join route: inner, a stream with global table airports on value.to, gives json
        --> out
        <-- by-day
      sink out: topic out, string -> json
        <-- route

    Global table airports: topic airports, string -> json, whole on every node
    "#);
    // Another number of partitions is nobody's business, and nothing is repartitioned or logged.
    let of = |topic: &str| Some(if topic == "airports" { 5 } else { 4 });
    let plan = topology.partition_counts(&of).unwrap();
    assert_eq!((plan.tasks, plan.internal.len()), (vec![4], 0));
    let missing = topology.partition_counts(&|topic| (topic != "airports").then_some(4));
    assert!(missing.unwrap_err()[0].to_string().contains("`airports`"));
    let json = serde_json::to_string(&topology).unwrap();
    let back: topology::Topology = serde_json::from_str(&json).unwrap();
    assert_eq!(back.clone().validated().unwrap(), topology);
    // It holds nothing that its topic has not, so it may be another one.
    let changes = |from: &str, to: &str| -> Vec<String> {
        let other = parse(&GLOBAL.replace(from, to)).topology;
        let changes = topology::compatibility(&topology, &other);
        changes.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        changes("\"airports\"\nkey", "\"airports-2\"\nkey"),
        ["change global table `airports`: topic airports, string -> json -> topic airports-2, string -> json"]
    );
    assert_eq!(
        changes("\"value.to\"", "\"value.from\""),
        [
            "change join `route`: inner, a stream with global table airports on value.to, gives json -> inner, a stream \
             with global table airports on value.from, gives json"
        ]
    );
    assert_eq!(
        changes("[sinks.out]", "value = { to = \"right\" }\n[sinks.out]").len(),
        1
    );
}

#[test]
fn what_changes_the_key_is_repartitioned_and_nothing_else_is() {
    let topics = |steps: &str| -> Vec<String> {
        let text = format!(
            "wasmill = 1\nname = \"p\"\n[sources.s]\ntopic = \"s\"\nkey = \"string\"\nvalue = \"json\"\n{steps}\n"
        );
        let internal = parse(&text).topology.partition_counts(&|_| Some(3)).unwrap().internal;
        internal
            .into_iter()
            .filter(|topic| topic.cleanup == "delete")
            .map(|topic| topic.name)
            .collect()
    };
    let none: [&str; 0] = [];
    assert_eq!(topics("[steps.c]\nop = \"count\"\nfrom = \"s\""), none);
    assert_eq!(
        topics("[steps.c]\nop = \"count\"\nfrom = \"s\"\ngroup-by = \"value.user.id\""),
        ["p-c-repartition"]
    );
    assert_eq!(
        topics("[steps.k]\nop = \"select-key\"\nby = \"value\"\nfrom = \"s\"\n[steps.c]\nop = \"count\"\nfrom = \"k\""),
        ["p-c-repartition"]
    );
    // One grouping, two aggregates, one topic.
    assert_eq!(
        topics(
            "[steps.g]\nop = \"group-by\"\nby = \"value.a\"\nfrom = \"s\"\n[steps.c]\nop = \"count\"\nfrom = \"g\"\n\
             [steps.t]\nop = \"sum\"\nof = \"value.x\"\nfrom = \"g\""
        ),
        ["p-g-repartition"]
    );
    // A module changes keys unless its output says that it keeps them.
    assert_eq!(
        topics(
            "[steps.m]\nmodule = \"keeps@1\"\nfrom = \"s\"\n[steps.c]\nop = \"count\"\nfrom = \"m\"\n\
             [steps.n]\nmodule = \"changes@1\"\nfrom = \"s\"\n[steps.d]\nop = \"count\"\nfrom = \"n\""
        ),
        ["p-d-repartition"]
    );
}

#[test]
fn state_that_two_topics_reach_needs_equal_counts() {
    let text = "wasmill = 1\nname = \"p\"\n[sources.a]\ntopic = \"a\"\n[sources.b]\ntopic = \"b\"\n\
                [steps.m]\nop = \"merge\"\nfrom = [\"a\", \"b\"]\n[steps.c]\nop = \"count\"\nfrom = \"m\"\n";
    let topology = parse(text).topology;
    let problems = topology
        .partition_counts(&|topic| Some(if topic == "a" { 4 } else { 6 }))
        .unwrap_err();
    insta::assert_snapshot!(problems[0], @r#"`c`: keeps state by key and reads several topics, which need the same number of partitions: `a` has 4, `b` has 6; hint: group one by key first (`op = "group-by"`), which makes a repartition topic that fits"#);
    assert_eq!(topology.partition_counts(&|_| Some(6)).unwrap().tasks, [6]);
    let problems = topology
        .partition_counts(&|topic| (topic == "a").then_some(4))
        .unwrap_err();
    insta::assert_snapshot!(problems[0], @"`b`: topic `b` is not there; hint: create it, or say `create = { partitions = N }`");
    // A repartition topic takes the count of the topic that it meets, not of the one it comes from.
    let text = text.replace(
        "[steps.m]",
        "[steps.g]\nop = \"group-by\"\nby = \"value\"\nfrom = \"b\"\n[steps.m]",
    );
    let topology = parse(&text.replace("[\"a\", \"b\"]", "[\"a\", \"g\"]")).topology;
    let plan = topology
        .partition_counts(&|topic| Some(if topic == "a" { 4 } else { 6 }))
        .unwrap();
    assert_eq!(plan.counts["p-g-repartition"], 4);
}

#[test]
fn the_sides_of_a_join_need_equal_counts() {
    let joins = [
        ("", "", "within = \"1m\"\ngrace = \"0s\""),
        ("", "as = \"table\"", ""),
        ("as = \"table\"", "as = \"table\"", ""),
    ];
    for (left, right, more) in joins {
        let text = format!(
            "wasmill = 1\nname = \"p\"\n[sources.a]\ntopic = \"a\"\n{left}\n[sources.b]\ntopic = \"b\"\n{right}\n\
             [steps.j]\nop = \"join\"\nleft = \"a\"\nright = \"b\"\n{more}\n"
        );
        let counts = |topic: &str| Some(if topic == "a" { 4 } else { 6 });
        let problems = parse(&text).topology.partition_counts(&counts).unwrap_err();
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(
            said.iter()
                .any(|p| p.starts_with("`j`: ") && p.contains("`a` has 4, `b` has 6")),
            "{said:?}"
        );
    }
}

#[test]
fn a_graph_with_every_operator() {
    let text = r#"
wasmill = 1
name = "shop"
guarantee = "at-least-once"

[vars]
prefix = ""
partitions = 2

[defaults]
on-error = "dead-letter"
dead-letters = "${prefix}dead"

[sources.orders]
topics = ["${prefix}orders", "${prefix}old-orders"]
key = "string"
value = "json"
start = 2026-01-31T12:00:00Z

[sources.users]
topic = "users"
key = "string"
value = "json"
as = "table"

[steps.checked]
module = "two@2.0.0"
from = { left = "orders", right = "users" }
params = { wait = "2s" }

[steps.checked.stores.seen]
cache = "1MiB"

[steps.sorted]
op = "branch"
from = "checked.good"
branches = [{ name = "paid", of = "value.state", equals = "paid" }]
default = "open"

[steps.spent]
op = "sum"
was = "revenue"
of = "value.amount"
result = "i64"
group-by = "value.user"
from = "sorted.paid"
emit = "on-commit"

[steps.all]
op = "merge"
from = ["sorted.open", "checked.bad"]

[steps.latest]
op = "to-table"
from = "all"

[sinks.spent]
from = "spent"
topic = "${prefix}spent"
create = { partitions = "${partitions}", settings = { "retention.ms" = -1 } }
"#;
    let mut vars = Vars::default();
    vars.set("prefix=prod.").unwrap();
    vars.set("partitions=7").unwrap();
    let pipeline = parse_with(text, &vars);
    insta::assert_snapshot!(pipeline.topology.describe(), @r#"
    Pipeline shop (at-least-once)

    Sub-topology 0 reads prod.orders, prod.old-orders, users
      source orders: topics prod.orders, prod.old-orders, string -> json, from time 1769860800000
        --> checked (left)
      source users: topic users, string -> json, a table, from the earliest
        --> users-table
      to-table users-table: store users
        --> checked (right)
        <-- users
      module checked: two@2.0.0 (0123456789ab), stores checked-seen, wait = 2000, depth = 3
        limits: memory 256MiB, recycle 128MiB, call 5000 ms, result 64MiB, log-lines 100 a second, http 4000 ms
        on error: dead-letter; retries: 10 at most, after 200 to 10000 ms
        --> good: sorted
        --> bad: all
        <-- orders, users-table
      branch sorted: paid when value.state = "paid", else open
        on error: dead-letter
        --> paid: spent-select-key
        --> open: all
        <-- checked.good
      select-key spent-select-key: new key is value.user
        on error: dead-letter
        --> spent-repartition-sink
        <-- sorted.paid
      repartition spent-repartition-sink: topic shop-revenue-repartition, string -> json
        <-- spent-select-key
      merge all: all inputs to one output
        --> latest-repartition-sink
        <-- sorted.open, checked.bad
      repartition latest-repartition-sink: topic shop-latest-repartition, string -> json
        <-- all
      store users: timestamped, string -> json, changelog shop-users-changelog
      store checked-seen: key-value, bytes -> bytes, changelog shop-checked-seen-changelog
      store times-0: key-value, bytes -> bytes, changelog shop-times-0-changelog

    Sub-topology 1 reads shop-revenue-repartition
      source spent-repartition-source: topic shop-revenue-repartition, string -> json, repartitioned
        --> spent
      sum spent: of value.amount (json), store spent, gives i64, emits on commit
        on error: dead-letter
        --> spent
        <-- spent-repartition-source
      sink spent: topic prod.spent, string -> i64
        <-- spent
      store spent: timestamped, string -> i64, changelog shop-revenue-changelog

    Sub-topology 2 reads shop-latest-repartition
      source latest-repartition-source: topic shop-latest-repartition, string -> json, repartitioned
        --> latest
      to-table latest: store latest
        <-- latest-repartition-source
      store latest: timestamped, string -> json, changelog shop-latest-changelog

    Dead letters go to prod.dead
    "#);
    assert_eq!(pipeline.store_caches["checked-seen"], 1 << 20);
    let plan = pipeline
        .topology
        .partition_counts(&|topic| (topic != "prod.spent").then_some(5))
        .unwrap();
    assert_eq!(plan.create.len(), 1);
    assert_eq!(plan.create[0].create.as_ref().unwrap().partitions, 7);
}

fn changes(old: &str, new: &str) -> String {
    let changes = topology::compatibility(&parse(old).topology, &parse(new).topology);
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_plan_tells_swaps_settings_and_lost_state_apart() {
    assert_eq!(changes(WORD_COUNT, WORD_COUNT), "");
    insta::assert_snapshot!(changes(WORD_COUNT, &WORD_COUNT.replace("tokenize@1", "tokenize@2")), @"swap words: tokenize@1 -> tokenize@2");
    insta::assert_snapshot!(changes(WORD_COUNT, &WORD_COUNT.replace("on-commit", "every-update")), @"change `emit` of count `counts`: on-commit -> every-update");
    let renamed = WORD_COUNT
        .replace("[steps.counts]", "[steps.totals]")
        .replace("from = \"counts\"", "from = \"totals\"");
    insta::assert_snapshot!(changes(WORD_COUNT, &renamed), @r#"
    refuse topic `word-count-counts-repartition`: it is read today, and its position and what is left in it would be given up; hint: if a step was renamed, say `was = "OLD NAME"` in it; else give the pipeline another name
    refuse topic `word-count-totals-repartition`: it is not read today, and reading it needs another table of tasks; hint: give the pipeline another name, or delete it first
    refuse store `counts`: it holds state that no step would own any more; hint: if a step was renamed, say `was = "OLD NAME"` in it; else give the pipeline another name
    change store `totals`: none -> a new, empty one
    change count `counts`: there -> gone
    change inputs of sink `counts`: counts -> totals
    change count `totals`: not there -> new
    "#);
    let kept = renamed.replace("[steps.totals]", "[steps.totals]\nwas = \"counts\"");
    insta::assert_snapshot!(changes(WORD_COUNT, &kept), @"rename counts -> totals, its state stays");
    let regrouped = kept.replace("group-by = \"value\"", "group-by = \"value\"\npartitions = 9");
    insta::assert_snapshot!(changes(WORD_COUNT, &regrouped), @r#"
    rename counts -> totals, its state stays
    refuse topic `word-count-counts-repartition`: keys would change partition; hint: give the pipeline another name, or delete it first
    "#);
    let json = WORD_COUNT
        .replace("group-by = \"value\"", "group-by = \"value.a\"")
        .replace("tokenize@1", "changes@1");
    let json = json.replace("value = \"string\"", "value = \"json\"");
    let renamed_json = json
        .replace("value.a", "value.b")
        .replace("[steps.counts]", "[steps.totals]\nwas = \"counts\"");
    let renamed_json = renamed_json.replace("from = \"counts\"", "from = \"totals\"");
    insta::assert_snapshot!(changes(&json, &renamed_json), @r#"
    rename counts -> totals, its state stays
    refuse select-key `totals-select-key`: it groups by `value.a` and would group by `value.b`; behind `word-count-counts-repartition` lies state of the old groups; hint: give the pipeline another name, or delete it first
    "#);
    insta::assert_snapshot!(changes(WORD_COUNT, &WORD_COUNT.replace("\"count\"", "\"last\"")), @r#"
    refuse store `counts`: its values are `i64` and would be `string`; hint: give the pipeline another name, or delete it first
    change `counts`: count -> last
    change formats of sink `counts`: string -> i64 -> string -> string
    "#);
    insta::assert_snapshot!(changes(WORD_COUNT, &WORD_COUNT.replace("topic = \"lines\"", "topic = \"other\"")), @r#"
    refuse topic `lines`: it is read today, and its position and what is left in it would be given up; hint: if a step was renamed, say `was = "OLD NAME"` in it; else give the pipeline another name
    refuse topic `other`: it is not read today, and reading it needs another table of tasks; hint: give the pipeline another name, or delete it first
    "#);
    insta::assert_snapshot!(changes(WORD_COUNT, &WORD_COUNT.replace("group-by = \"value\"", "group-by = \"key\"")), @r#"
    refuse topic `word-count-counts-repartition`: it is read today, and its position and what is left in it would be given up; hint: if a step was renamed, say `was = "OLD NAME"` in it; else give the pipeline another name
    refuse store `counts`: tasks of another sub-topology would own it; hint: give the pipeline another name, or delete it first
    change inputs of count `counts`: counts-repartition-source -> words
    change formats of sink `counts`: string -> i64 -> bytes -> i64
    "#);
}
