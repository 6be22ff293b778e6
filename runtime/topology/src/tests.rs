//! Tests of the graph: validation, sub-topologies, partitions, compatibility.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
//! Graphs that no pipeline file can say, and the limits of a task.

use crate::{
    Aggregate, AggregateFunction, Edge, Emit, Format, Guarantee, Node, NodeKind, OnError, Selector, Sink, Source,
    SourceKind, Start, Store, StoreKind, Topology, changelog_topic,
};

fn node(name: &str, kind: NodeKind, from: &[usize]) -> Node {
    let inputs = from
        .iter()
        .map(|from| Edge {
            from: *from,
            from_port: 0,
            to_port: 0,
        })
        .collect();
    Node {
        name: name.into(),
        kind,
        inputs,
        on_error: OnError::Stop,
    }
}

fn source(topic: &str, value: Format) -> NodeKind {
    NodeKind::Source(Source {
        topics: vec![topic.into()],
        kind: SourceKind::Stream,
        key: Format::Bytes,
        value,
        start: Start::Earliest,
        create: None,
        timestamps: Default::default(),
    })
}

fn sink(topic: &str, value: Format) -> NodeKind {
    NodeKind::Sink(Sink {
        topic: topic.into(),
        key: Format::Bytes,
        value,
        create: None,
    })
}

fn count(store: usize) -> NodeKind {
    NodeKind::Aggregate(Aggregate {
        function: AggregateFunction::Count,
        of: Selector::Value,
        of_format: Format::Bytes,
        result: Format::I64,
        store,
        emit: Emit::EveryUpdate,
    })
}

fn store(name: &str) -> Store {
    Store {
        name: name.into(),
        kind: StoreKind::Timestamped,
        schema: 1,
        key: Format::Bytes,
        value: Format::I64,
        changelog: changelog_topic("p", name),
        emit: Emit::EveryUpdate,
    }
}

fn topology(nodes: Vec<Node>, stores: Vec<Store>) -> Topology {
    Topology {
        name: "p".into(),
        guarantee: Guarantee::ExactlyOnce,
        max_task_idle_ms: 0,
        standbys: 0,
        nodes,
        stores,
        globals: Vec::new(),
        sub_topologies: Vec::new(),
        dead_letters: None,
    }
}

fn problems(nodes: Vec<Node>, stores: Vec<Store>) -> Vec<String> {
    topology(nodes, stores)
        .validated()
        .unwrap_err()
        .0
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn order_is_topological_and_else_as_given() {
    let nodes = vec![
        node("out", sink("o", Format::I64), &[3]),
        node("b", source("b", Format::Bytes), &[]),
        node("a", source("a", Format::Bytes), &[]),
        node("count", count(0), &[2]),
        node("copy", sink("c", Format::Bytes), &[1]),
    ];
    let sorted = topology(nodes, vec![store("count")]).validated().unwrap();
    let names: Vec<&str> = sorted.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["b", "a", "count", "out", "copy"]);
    let subs: Vec<_> = sorted
        .sub_topologies
        .iter()
        .map(|sub| (sub.nodes.clone(), sub.stores.clone()))
        .collect();
    assert_eq!(subs, [(vec![0, 4], vec![]), (vec![1, 2, 3], vec![0])]);
    assert_eq!(sorted.nodes[3].inputs[0].from, 2);
}

#[test]
fn wrong_graphs() {
    let a = || node("a", source("a", Format::String), &[]);
    assert_eq!(
        problems(
            vec![
                a(),
                node("m", NodeKind::Merge, &[0, 2]),
                node("n", NodeKind::Merge, &[1])
            ],
            vec![]
        ),
        ["`m`: is part of a cycle through m, n"]
    );
    assert_eq!(
        problems(vec![a(), node("s", sink("s", Format::Bytes), &[])], vec![]),
        ["`s`: input port 0 is not bound"]
    );
    assert_eq!(
        problems(vec![a(), node("s", sink("s", Format::Json), &[0])], vec![]),
        ["`s`: takes values as `json`, but `a` gives `string`"]
    );
    assert_eq!(
        problems(
            vec![a(), node("c", count(0), &[0]), node("d", count(0), &[0])],
            vec![store("c")]
        ),
        ["`d`: store `c` belongs to `c` already"]
    );
    assert_eq!(
        problems(
            vec![a(), node("c", count(0), &[0]), node("d", count(1), &[0])],
            vec![store("c"), store("c")]
        ),
        ["`d`: its store `c` has the name of a store of `c`"]
    );
    assert_eq!(problems(vec![a(), a()], vec![])[0], "`a`: two nodes have this name");
}

#[test]
fn more_stores_than_the_commit_metadata_can_name_are_refused() {
    let graph = |stores: usize| {
        let mut nodes = vec![node("a", source("a", Format::Bytes), &[])];
        nodes.extend((0..stores).map(|id| node(&format!("c{id}"), count(id), &[0])));
        topology(nodes, (0..stores).map(|id| store(&format!("c{id}"))).collect()).validated()
    };
    assert!(graph(160).is_ok());
    let problem = graph(161).unwrap_err().0.remove(0);
    insta::assert_snapshot!(problem, @"`a`: its sub-topology has 161 stores; what a task commits with its offsets would take 4120 bytes, the broker's limit is 4096");
}
