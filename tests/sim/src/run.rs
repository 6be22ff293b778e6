//! One run: a world, its nodes, a time of trouble, a time of calm, and what must be true at the end.

use crate::case::Case;
use crate::check;
use crate::dice::Dice;
use crate::drawn::Drawn;
use crate::node::{CONTROL, Hits, Node, SESSION_MS, Settings, Watch};
use crate::pipeline::{self, BAD, DEAD, Expected, INPUT, PARTITIONS, PIPELINE, POISON};
use crate::swap::{self, Lead};
use crate::world::{Faults, Tally, World};
use broker::{Broker, Cleanup, CommittedOffset, NewTopic};
use record::TopicPartition;
use std::sync::{Arc, Mutex};
use task::TaskId;
use topology::Guarantee;
use worker::control::{PipelineRecord, Run, State};
use worker::placement;

/// What a run was like.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub hits: Hits,
    pub crashes: u32,
    pub freezes: u32,
    pub virtual_ms: i64,
    /// Rows in the topics that users see.
    pub rows: usize,
    pub swaps: usize,
    pub tally: Tally,
}

const TROUBLE_TURNS: usize = 450;
const ROWS: usize = 60;
/// Virtual time after the end of all faults within which everything must be done: some sessions, transaction timeouts
/// and back-offs. What takes longer is a livelock.
const CALM_MS_MAX: i64 = 60_000;

/// How the complaint about a bounce that others noticed begins.
pub const BOUNCE: &str = "a bounce cost other nodes";

struct Scene {
    case: Case,
    lead: Lead,
    settings: Settings,
    nodes: Vec<Node>,
    expected: Expected,
    drawn: Option<Drawn>,
    rows_left: usize,
    moody: f64,
    figures: Figures,
}

/// Runs `case` to its end.
///
/// # Errors
/// What was not as it must be.
pub fn run(case: Case) -> Result<Figures, String> {
    let mut scene = Scene::new(case);
    scene.trouble();
    let calm = scene.calm();
    scene.figures.hits = scene.settings.watch.hits.lock().unwrap().clone();
    let checked = calm.and_then(|()| {
        check::all(
            &scene.settings,
            &mut scene.nodes,
            &scene.expected,
            case,
            &scene.lead.record,
            scene.drawn.as_ref(),
        )
    });
    let checked = checked.and_then(|()| match scene.case.only {
        Some(_) => scene.lead.check_barrier(&scene.settings),
        None => Ok(()),
    });
    let Scene {
        settings,
        mut figures,
        nodes,
        lead,
        ..
    } = scene;
    drop(nodes);
    figures.virtual_ms = settings.world.now();
    let topics = settings.topology.user_topics();
    let partitions = topics.iter().flat_map(|t| (0..PARTITIONS).map(move |p| (&t.name, p)));
    figures.rows = partitions.map(|(t, p)| settings.world.rows(t, p).len()).sum();
    figures.swaps = lead.record.history.len();
    figures.tally = settings.world.tally();
    checked
        .map(|()| figures)
        .map_err(|e| format!("{case:?}: {e}\n{}", settings.world.describe()))
}

impl Scene {
    fn new(case: Case) -> Self {
        let faults = if case.embedded {
            Faults::embedded()
        } else {
            Faults::kind()
        };
        let world = World::new(case.seed, faults);
        let mut drawn = case.drawn.then(|| Drawn::new(case.seed, case.guarantee));
        let topology = match &drawn {
            Some(drawn) => drawn.topology(),
            None => Arc::new(pipeline::topology(case.guarantee, case.emit)),
        };
        let run = Run {
            incarnation: uuid::Uuid::from_u128(u128::from(case.seed) + 1),
            epoch: 1,
        };
        let subs = topology.sub_topologies.iter();
        let tasks: Vec<TaskId> = subs
            .flat_map(|s| {
                (0..PARTITIONS).map(|partition| TaskId {
                    sub_topology: s.id,
                    partition,
                })
            })
            .collect();
        let dice = Dice::new(case.seed ^ 0x5eed);
        let watch = Arc::new(Watch {
            dice: dice.clone(),
            favourite: case.favourite(),
            armed: Mutex::new(true),
            hits: Mutex::default(),
        });
        let settings = Settings {
            world,
            topology,
            run,
            tasks,
            dice,
            watch,
            mutant: case.mutant,
            broken: case.broken,
            threads: case.threads,
            standbys: case.standbys,
        };
        prepare(&settings);
        if let Some(drawn) = &mut drawn {
            drawn.prepare(&settings.world);
        }
        let lead = Lead::new(record(run), settings.dice.clone(), case.swaps, case.only)
            .migrating(case.guarantee == Guarantee::ExactlyOnce);
        lead.write(&settings.world);
        let nodes = (1..=case.nodes).map(|n| Node::new(&format!("n{n}"))).collect();
        Self {
            case,
            lead,
            settings,
            nodes,
            expected: Expected::default(),
            drawn,
            rows_left: if case.drawn { 0 } else { ROWS },
            moody: if case.only.is_some() { 0.0 } else { 0.02 },
            figures: Figures::default(),
        }
    }

    fn trouble(&mut self) {
        let dice = self.settings.dice.clone();
        let quiet = self.case.only.is_some();
        *self.settings.watch.armed.lock().unwrap() = !quiet;
        if !self.case.embedded && !quiet {
            let lost_commit = if dice.chance(0.25) { 0.2 } else { 0.02 };
            let rebalances = if self.case.rebalances { 0.15 } else { 0.0 };
            self.settings.world.set_faults(Faults {
                lost_commit,
                lost_rebalance: rebalances,
                doubled_rebalance: rebalances,
                ..Faults::kafka()
            });
        }
        for _ in 0..TROUBLE_TURNS {
            self.settings.world.advance(dice.between(0, 12));
            if dice.chance(if quiet { 0.15 } else { 0.3 }) {
                self.produce();
            }
            if !quiet && dice.chance(0.05) {
                self.settings.world.compact();
            }
            if self.case.swaps > 0 && (quiet || dice.chance(0.3)) {
                self.lead.advance(&self.settings.world, true);
            }
            let n = dice.below(self.nodes.len());
            if !quiet {
                self.disturb(n, &dice);
            } else if self.nodes[n].process.is_none() {
                self.nodes[n].start(&self.settings, self.moody);
            }
            for _ in 0..3 {
                self.poll(n, &dice);
            }
        }
    }

    /// One node, one of its state machines.
    fn poll(&mut self, n: usize, dice: &Dice) {
        let now = self.settings.world.now();
        let Some(node) = self.nodes.get_mut(n).filter(|n| now >= n.frozen_until) else {
            return;
        };
        let follower = usize::from(self.case.standbys.is_some());
        let threads = self.case.threads as usize;
        match dice.below(threads + 1 + follower) {
            t if t > threads => node.poll_follower(&self.settings, now),
            0 => node.poll_coordinator(now),
            t if now < node.stalled_until[t - 1] => {}
            t => node.poll_thread(&self.settings, t - 1, now, self.moody),
        }
    }

    fn disturb(&mut self, n: usize, dice: &Dice) {
        let (now, alone) = (self.settings.world.now(), self.nodes.len() == 1);
        let exactly_once = self.case.guarantee == Guarantee::ExactlyOnce;
        let node = &mut self.nodes[n];
        if node.process.is_none() {
            if dice.chance(if alone { 0.3 } else { 0.1 }) {
                if dice.chance(0.15) {
                    node.disk.lose();
                }
                node.start(&self.settings, self.moody);
            }
            return;
        }
        if self.case.rebalances && dice.chance(0.02) {
            self.settings.world.rebalance(PIPELINE);
        }
        if now < node.frozen_until {
            return;
        }
        if dice.chance(0.1) {
            node.disk.flush_some(dice);
        }
        if self.case.stalls && dice.chance(0.04) {
            let thread = dice.below(self.case.threads as usize);
            node.stalled_until[thread] = now + dice.between(100, 1_500);
        }
        if dice.chance(0.004) {
            node.crash();
            self.figures.crashes += 1;
        } else if dice.chance(0.004) {
            node.bounce();
        } else if dice.chance(0.004) {
            node.restart_thread(&self.settings, dice.below(self.case.threads as usize), now, self.moody);
        } else if exactly_once && dice.chance(0.006) {
            // Longer than a session: it comes back as a zombie. At-least-once promises nothing then.
            node.frozen_until = now + dice.between(SESSION_MS / 2, SESSION_MS * 4);
            self.figures.freezes += 1;
        }
    }

    fn produce(&mut self) {
        if let Some(drawn) = &mut self.drawn {
            drawn.produce(&self.settings.world);
            return;
        }
        if self.rows_left == 0 {
            return;
        }
        self.rows_left -= 1;
        let dice = &self.settings.dice;
        let mut words: Vec<&str> = (0..=dice.below(3))
            .map(|_| ["a", "b", "c", "d", "e"][dice.below(5)])
            .collect();
        match dice.below(60) {
            // A refused record aborts a commit after the verdict, which is no failure of the barrier.
            _ if self.case.only.is_some() => {}
            0 => words.push(BAD),
            1 => words.push(POISON),
            _ => {}
        }
        let key = format!("k{}", dice.below(4));
        let text = words.join(" ");
        let partition = dice.below(PARTITIONS as usize) as i32;
        self.settings
            .world
            .append(INPUT, partition, key.as_bytes(), text.as_bytes());
        self.expected.add(key.as_bytes(), &text);
    }

    /// Faults end; everything must come to rest.
    fn calm(&mut self) -> Result<(), String> {
        if !self.case.embedded {
            self.settings.world.set_faults(Faults::kind());
        }
        *self.settings.watch.armed.lock().unwrap() = false;
        while self.rows_left > 0 {
            self.produce();
        }
        if let Some(drawn) = &mut self.drawn {
            drawn.finish(&self.settings.world);
        }
        if self.case.redeployed {
            self.redeploy();
        }
        self.rest()?;
        self.quiet_bounce()
    }

    /// The first node is restarted in a quiet world: nobody fences a thread of another node, which lives.
    fn quiet_bounce(&mut self) -> Result<(), String> {
        let Self { settings, nodes, .. } = self;
        let others = nodes
            .iter()
            .skip(1)
            .flat_map(|n| (0..settings.threads).map(|t| (n.name.clone(), t)));
        let ids: Vec<String> = others
            .map(|(node, t)| placement::thread_id(PIPELINE, &node, t))
            .collect();
        let fencings = |world: &World| ids.iter().map(|id| world.fencings(id)).sum::<u32>();
        let before = fencings(&settings.world);
        nodes[0].crash();
        self.rest()?;
        let fenced = fencings(&self.settings.world) - before;
        if fenced == 0 {
            Ok(())
        } else {
            Err(format!("{BOUNCE}: {fenced} fencings"))
        }
    }

    /// A new task table, as `server` makes it: every id is fenced before the record says so. What is stricter here:
    /// the old placement is left where it is, so that only its epoch tells it apart. Frozen nodes stay cut off for a
    /// while with their old view.
    fn redeploy(&mut self) {
        let now = self.settings.world.now();
        for node in &mut self.nodes {
            if now < node.frozen_until {
                node.stale_turns = 100;
            } else {
                node.crash();
            }
            for thread in 0..self.case.threads {
                fence(
                    &self.settings.world,
                    &placement::thread_id(PIPELINE, &node.name, thread),
                );
            }
        }
        fence(&self.settings.world, &placement::leader_id(PIPELINE));
        self.settings.run.epoch += 1;
        self.lead.record.epoch += 1;
        self.lead.write(&self.settings.world);
    }

    fn rest(&mut self) -> Result<(), String> {
        let began = self.settings.world.now();
        for turn in 0_usize.. {
            self.settings.world.advance(if turn < 200 { 5 } else { 15 });
            let now = self.settings.world.now();
            for node in &mut self.nodes {
                node.frozen_until = 0;
                if node.stale_turns == 1 {
                    node.crash();
                }
                if node.process.is_none() {
                    node.start(&self.settings, 0.0);
                }
                if node.stale_turns == 0 {
                    node.poll_coordinator(now);
                    if self.case.standbys.is_some() {
                        node.poll_follower(&self.settings, now);
                    }
                }
                node.stale_turns = node.stale_turns.saturating_sub(1);
                for t in 0..self.case.threads as usize {
                    node.poll_thread(&self.settings, t, now, 0.0);
                }
            }
            self.lead.advance(&self.settings.world, false);
            if turn % 8 == 7 && self.lead.is_done() && check::at_rest(&self.settings, &mut self.nodes) {
                return Ok(());
            }
            if now - began > CALM_MS_MAX {
                break;
            }
        }
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|n| n.process.as_ref().map(|p| p.settled))
            .collect();
        let settled = !self.settings.world.unsettled();
        Err(format!(
            "not at rest after {CALM_MS_MAX} ms: transactions settled: {settled}, nodes settled: {nodes:?}{}",
            check::statuses(&mut self.nodes)
        ))
    }
}

/// Topics, start positions and the pipeline's record, as `server` makes them before nodes join.
fn prepare(settings: &Settings) {
    let world = &settings.world;
    let mut admin = world.admin().unwrap();
    let counts = settings.topology.partition_counts(&|_| Some(PARTITIONS)).unwrap();
    let topic = |name: &str, partitions: i32, cleanup: Cleanup| NewTopic {
        name: name.into(),
        partitions,
        cleanup,
        settings: Default::default(),
    };
    let mut topics = vec![
        topic(CONTROL, 1, Cleanup::Compact),
        topic(&placement::topic(PIPELINE), 1, Cleanup::Compact),
        topic(&placement::token_topic(PIPELINE), 1, Cleanup::Compact),
    ];
    let users = settings.topology.user_topics();
    topics.extend(users.iter().map(|t| topic(&t.name, PARTITIONS, Cleanup::Delete)));
    for internal in &counts.internal {
        let cleanup = if internal.cleanup == "delete" {
            Cleanup::Delete
        } else {
            Cleanup::Compact
        };
        topics.push(topic(&internal.name, internal.partitions, cleanup));
    }
    admin.create(&topics).unwrap();
    let sources = settings.topology.sub_topologies.iter().flat_map(|s| &s.topics);
    let starts: Vec<CommittedOffset> = sources
        .flat_map(|t| (0..PARTITIONS).map(move |p| TopicPartition::new(t.as_str(), p)))
        .map(|partition| CommittedOffset {
            partition,
            offset: 0,
            metadata: String::new(),
        })
        .collect();
    admin.commit(PIPELINE, &starts).unwrap();
    world.poison(POISON.as_bytes(), DEAD);
}

/// The pipeline's record: it runs.
fn record(run: Run) -> PipelineRecord {
    PipelineRecord {
        incarnation: run.incarnation,
        epoch: run.epoch,
        state: State::Running,
        versions: swap::first(),
        swap: None,
        history: Vec::new(),
        rest: Default::default(),
    }
}

fn fence(world: &World, id: &str) {
    let mut fencing = world.fence(id);
    while fencing.poll().is_none() {}
}
