//! Standbys and warm-ups, case by case.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::super::{Facts, Plan, plan};
use super::WARM_UPS_MAX;
use crate::control::Run;
use crate::placement::{Node, NodeState, Placement, Record, Standbys, Started, View};
use std::collections::BTreeSet;
use task::TaskId;
use uuid::Uuid;

const RUN: Run = Run {
    incarnation: Uuid::from_u128(1),
    epoch: 1,
};

fn task(partition: i32) -> TaskId {
    TaskId {
        sub_topology: 0,
        partition,
    }
}

/// A cluster whose nodes have one thread each, by the name of the node.
#[derive(Default)]
struct Cluster {
    view: View,
    live: BTreeSet<String>,
    offset: i64,
    tasks: Vec<TaskId>,
    standbys: usize,
}

impl Cluster {
    fn new(tasks: i32, standbys: usize) -> Self {
        Self {
            tasks: (0..tasks).map(task).collect(),
            standbys,
            ..Self::default()
        }
    }

    fn write(&mut self, record: &Record) {
        let (key, value) = record.encode().unwrap();
        self.view.apply(self.offset, &key, value.as_deref()).unwrap();
        self.offset += 1;
    }

    fn node(&mut self, name: &str, rack: Option<&str>) {
        self.live.insert(name.to_owned());
        let node = Node {
            run: RUN,
            state: NodeState::Ready,
            threads: vec![name.to_owned()],
            address: None,
            rack: rack.map(str::to_owned),
            follows: true,
            warm: Vec::new(),
        };
        self.write(&Record::Node(name.to_owned(), Some(node)));
    }

    fn warm(&mut self, name: &str, tasks: &[i32]) {
        let warm = tasks.iter().map(|n| task(*n).to_string()).collect();
        let node = self.view.nodes[name].clone();
        self.write(&Record::Node(name.to_owned(), Some(Node { warm, ..node })));
    }

    fn plan(&self) -> Plan {
        plan(&Facts {
            run: RUN,
            tasks: &self.tasks,
            stateful: &self.tasks.iter().copied().collect(),
            standbys: self.standbys,
            view: &self.view,
            live: &self.live,
            mutant: None,
        })
    }

    /// Carries a plan out, as if every task started at once.
    fn lead(&mut self) -> Plan {
        let plan = self.plan();
        for (task, placement) in &plan.placements {
            self.write(&Record::Placement(*task, Some(placement.clone())));
            let Placement {
                run, task_epoch, owner, ..
            } = placement.clone();
            let started = Started { run, task_epoch, owner };
            self.write(&Record::Started(*task, Some(started)));
        }
        for (task, standbys) in &plan.standbys {
            self.write(&Record::Standbys(*task, Some(standbys.clone())));
        }
        plan
    }

    fn owner(&self, n: i32) -> &str {
        &self.view.placement(RUN, task(n)).unwrap().owner
    }

    fn copies(&self, n: i32) -> &[String] {
        self.view.standbys(RUN, task(n))
    }
}

#[test]
fn standbys_go_to_other_racks_first() {
    let mut cluster = Cluster::new(1, 1);
    cluster.node("a", Some("east"));
    cluster.node("b", Some("east"));
    cluster.node("c", Some("west"));
    cluster.lead();
    assert_eq!((cluster.owner(0), cluster.copies(0)), ("a", &["c".to_owned()][..]));
    // The second has to share one.
    cluster.standbys = 2;
    cluster.lead();
    assert_eq!(cluster.copies(0), ["c", "b"]);
    assert!(cluster.plan().is_empty());
}

#[test]
fn a_task_whose_node_died_goes_to_its_warm_standby() {
    let mut cluster = Cluster::new(2, 1);
    for name in ["a", "b", "c"] {
        cluster.node(name, None);
    }
    cluster.lead();
    let (dead, warm) = (cluster.owner(0).to_owned(), cluster.copies(0)[0].clone());
    cluster.warm(&warm, &[0]);
    cluster.live.remove(&dead);
    let plan = cluster.lead();
    assert_eq!(plan.placements.len(), 1);
    assert_eq!(cluster.owner(0), warm);
    assert_eq!(cluster.copies(0).len(), 1, "and it has a standby again");
    assert!(cluster.copies(0)[0] != warm && cluster.copies(0)[0] != dead);
}

#[test]
fn a_task_moves_for_balance_when_its_state_is_there() {
    let mut cluster = Cluster::new(8, 0);
    cluster.node("a", None);
    cluster.lead();
    assert_eq!(cluster.view.tasks.len(), 8);
    cluster.node("b", None);
    let plan = cluster.lead();
    assert!(plan.placements.is_empty(), "nothing moves to a cold node: {plan:?}");
    let warming: Vec<i32> = (0..8).filter(|n| !cluster.copies(*n).is_empty()).collect();
    assert_eq!(warming.len(), WARM_UPS_MAX);
    assert!(cluster.plan().is_empty(), "and all waits for them");
    cluster.warm("b", &warming[..1]);
    let plan = cluster.lead();
    assert_eq!(plan.placements.len(), 1);
    assert_eq!((cluster.owner(warming[0]), cluster.owner(warming[1])), ("b", "a"));
    assert!(cluster.copies(warming[0]).is_empty(), "it is no standby any more");
    // Until all is even.
    for _ in 0..8 {
        let all: Vec<i32> = (0..8).collect();
        cluster.warm("b", &all);
        cluster.lead();
    }
    assert!(cluster.plan().is_empty());
    assert_eq!((0..8).filter(|n| cluster.owner(*n) == "b").count(), 4);
}

#[test]
fn a_node_of_an_older_version_gets_tasks_at_once() {
    let mut cluster = Cluster::new(4, 1);
    cluster.node("a", None);
    cluster.lead();
    cluster.node("b", None);
    let node = Node {
        follows: false,
        ..cluster.view.nodes["b"].clone()
    };
    cluster.write(&Record::Node("b".into(), Some(node)));
    let plan = cluster.lead();
    assert_eq!(plan.placements.len(), 2);
    assert!((0..4).all(|n| !cluster.copies(n).contains(&"b".to_owned())));
}

#[test]
fn what_is_not_wanted_any_more_goes_when_the_rest_is_warm() {
    let mut cluster = Cluster::new(1, 2);
    for name in ["a", "b", "c"] {
        cluster.node(name, None);
    }
    cluster.lead();
    assert_eq!(cluster.copies(0), ["b", "c"]);
    cluster.standbys = 1;
    assert!(cluster.plan().is_empty(), "neither is warm");
    cluster.warm("b", &[0]);
    cluster.lead();
    assert_eq!(cluster.copies(0), ["b"]);
    cluster.standbys = 0;
    cluster.lead();
    assert!(cluster.copies(0).is_empty());
    assert_eq!(
        cluster.view.tasks[&task(0)].standbys,
        Some(Standbys {
            run: RUN,
            nodes: vec![]
        })
    );
}
