//! Swaps in flight: versions of the module, who leads them, and what must be true of the rows that they leave.

use crate::dice::Dice;
use crate::node::{CONTROL, Settings};
use crate::pipeline::{PARTITIONS, PIPELINE};
use crate::world::World;
use std::collections::{BTreeMap, BTreeSet};
use task::TaskId;
use uuid::Uuid;
use worker::control::{self, PipelineRecord};
use worker::placement::{self, Record, View};
use worker::swap::drive::{self, Step};
use worker::swap::{
    Bounds, Change, Migration, ModuleVersion, Outcome, Part, Phase, Probation, ReportState, Swap, Versions,
};

pub const STEP: &str = "split";
/// Header of a row that the module sent on: the version that did, and the input record that it came of.
pub const VERSION: &str = "version";
pub const ORIGIN: &str = "origin";

/// Virtual time after which the tasks of a quiet world have come to their threads.
const SETTLED_MS: i64 = 1_000;

/// What a version does to its input, besides what every version does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Good,
    /// Every call traps.
    Trap,
    /// Calls for partition 0 trap.
    TrapIn0,
    /// Ten times as slow.
    Slow,
    /// `open` answers with an error.
    Closed,
    /// The node cannot make it.
    Absent,
}

const MANNERS: [Manner; 6] = [
    Manner::Good,
    Manner::Trap,
    Manner::TrapIn0,
    Manner::Slow,
    Manner::Closed,
    Manner::Absent,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    pub version: u32,
    pub manner: Manner,
    /// Of the module's store.
    pub schema: u32,
}

impl Code {
    pub const FIRST: Self = Self {
        version: 1,
        manner: Manner::Good,
        schema: 1,
    };

    /// The code of the module step by the versions that a task was given.
    pub fn of(versions: &Versions) -> Self {
        let Some(version) = versions.get(STEP) else {
            return Self::FIRST;
        };
        let (manner, schema) = version.digest.split_once('/').expect("a digest has two parts");
        let manner = MANNERS.into_iter().find(|m| format!("{m:?}") == manner);
        Self {
            version: version.version.parse().unwrap(),
            manner: manner.unwrap(),
            schema: schema.parse().unwrap(),
        }
    }

    fn module(self) -> ModuleVersion {
        ModuleVersion {
            name: STEP.into(),
            version: self.version.to_string(),
            digest: format!("{:?}/{}", self.manner, self.schema),
        }
    }
}

/// The versions that a world begins with.
pub fn first() -> Versions {
    [(STEP.to_owned(), Code::FIRST.module())].into()
}

/// Whoever leads: writes what is due into the record. Its own crashes are those of compare-and-set, which is `server`'s.
pub struct Lead {
    pub record: PipelineRecord,
    dice: Dice,
    newest: u32,
    left: u32,
    only: Option<Manner>,
    /// Some of its versions have another schema.
    migrates: bool,
    /// Task 0_0 failed under these versions, and never said that it had switched.
    unpublished: BTreeSet<u32>,
    switched: BTreeSet<u32>,
    began: Option<i64>,
}

impl Lead {
    /// `swaps`: how many it begins; `only`: all of this kind.
    pub fn new(record: PipelineRecord, dice: Dice, swaps: u32, only: Option<Manner>) -> Self {
        Self {
            migrates: false,
            record,
            dice,
            newest: 1,
            left: swaps,
            only,
            unpublished: BTreeSet::new(),
            switched: BTreeSet::new(),
            began: None,
        }
    }

    /// Some of its versions write the module's store with another schema.
    #[must_use]
    pub fn migrating(self, migrates: bool) -> Self {
        Self { migrates, ..self }
    }

    /// Nothing is under way, and nothing is to come.
    pub fn is_done(&self) -> bool {
        self.left == 0 && self.record.swap.is_none()
    }

    /// To be called from time to time; `trouble`: something may be asked for.
    pub fn advance(&mut self, world: &World, trouble: bool) {
        let now = world.now();
        let began = *self.began.get_or_insert(now);
        self.watch_the_first(world);
        let next = match &self.record.swap {
            // In a quiet world every task has come to its thread by then.
            None if self.only.is_some() && now < began + SETTLED_MS => return,
            None if self.left > 0 && (!trouble || self.dice.chance(0.2)) => {
                self.left -= 1;
                self.begun(now)
            }
            None => return,
            Some(swap) => {
                let mood = trouble && self.only.is_none() && swap.phase != Phase::RollingBack;
                let asked = mood && self.dice.chance(0.03);
                let back = || Step::RollBack {
                    reason: "asked for".into(),
                };
                let due = drive::next(&self.record, &view(world), now);
                let due = if asked { Some(back()) } else { due };
                // What no record has tried yet may be kept, and would trap later; a person would know better.
                let traps = self.newest_traps();
                let step = due.map(|step| if traps && step == Step::Keep { back() } else { step });
                match step {
                    Some(step) => self.record.stepped(&step, now),
                    None if waits_for_promote(&self.record, world) => self.record.promoted(now),
                    None => return,
                }
            }
        };
        self.record = next;
        self.write(world);
    }

    fn newest_traps(&self) -> bool {
        let swap = self.record.swap.as_ref();
        swap.is_some_and(|s| {
            let traps = [Manner::Trap, Manner::TrapIn0];
            let digest = &s.steps[STEP].to.digest;
            traps.iter().any(|m| digest.starts_with(&format!("{m:?}/")))
        })
    }

    /// What task 0_0 says of the swap that is under way.
    fn watch_the_first(&mut self, world: &World) {
        let Some(swap) = &self.record.swap else { return };
        let first = TaskId {
            sub_topology: 0,
            partition: 0,
        };
        // Every report that was ever committed: the last one alone would hide one that it followed quickly.
        for row in world.rows(&placement::topic(PIPELINE), 0) {
            let record = Record::decode(&row.key.unwrap_or_default(), row.value.as_deref());
            let Ok(Some(Record::Version(task, Some(report)))) = record else {
                continue;
            };
            match report.state {
                _ if task != first || report.swap != swap.id => {}
                ReportState::Switched => drop(self.switched.insert(self.newest)),
                ReportState::Failed if !self.switched.contains(&self.newest) => {
                    self.unpublished.insert(self.newest);
                }
                _ => {}
            }
        }
    }

    /// One node, no faults: when a thread fails in its probation, no thread has published anything.
    pub fn check_barrier(&self, settings: &Settings) -> Result<(), String> {
        let sent = sent(settings);
        let Some(row) = sent.iter().find(|row| self.unpublished.contains(&row.version)) else {
            return Ok(());
        };
        let mut said = String::new();
        for row in settings.world.rows(&placement::topic(PIPELINE), 0) {
            let record = Record::decode(&row.key.unwrap_or_default(), row.value.as_deref());
            if let Ok(Some(Record::Version(task, Some(report)))) = record {
                said.push_str(&format!("\n  {task} {:?} {:?}", report.state, report.reason));
            }
        }
        Err(format!(
            "version {} failed in probation, and its row {}-{} is out:{said}",
            row.version, row.partition, row.offset
        ))
    }

    pub fn write(&self, world: &World) {
        let key = control::key(PIPELINE);
        world.append(CONTROL, 0, key.as_bytes(), &self.record.encode().unwrap());
    }

    fn begun(&mut self, now: i64) -> PipelineRecord {
        self.newest += 1;
        let dice = &self.dice;
        let manner = self.only.unwrap_or_else(|| match dice.below(9) {
            n if n < MANNERS.len() => MANNERS[n],
            _ => Manner::Good,
        });
        let from = self.record.versions[STEP].clone();
        let from_schema = Code::of(&self.record.versions).schema;
        // Once a task has committed what it migrated, the others follow: one that traps for ever is no world at rest.
        let harmless = matches!(manner, Manner::Good | Manner::Closed | Manner::Absent);
        let migrates = self.migrates && harmless && dice.chance(0.5);
        let to = Code {
            version: self.newest,
            manner,
            schema: from_schema + u32::from(migrates),
        };
        let migration = migrates.then(|| Migration {
            step: STEP.to_owned(),
            store: "split-seen".to_owned(),
            store_of_module: 0,
            from_schema,
            to_schema: to.schema,
        });
        let swap = Swap {
            id: Uuid::from_u128(u128::from(self.newest) << 64 | 0x5a),
            steps: [(STEP.to_owned(), Change { from, to: to.module() })].into(),
            parts: vec![Part {
                sub_topology: 0,
                tasks: PARTITIONS,
            }],
            phase: Phase::Switching,
            phase_at: now,
            shadow: self.only.is_none() && !migrates && dice.chance(0.2),
            canary: (self.only.is_none() && !migrates && dice.chance(0.25)).then_some(1),
            probation: Probation {
                ms: if self.only.is_some() {
                    80
                } else {
                    [0, 20, 60][dice.below(3)]
                },
                records: [1, 4, 5_000][dice.below(3)],
            },
            watch_ms: [0, 50, 300][dice.below(3)],
            bounds: Bounds {
                // A good version may trap: with 0 allowed, it goes back too.
                traps: if manner == Manner::Good && dice.chance(0.7) {
                    1_000
                } else {
                    0
                },
                failed_share: 1.0,
                latency_of_rows: 2,
                ..Bounds::default()
            },
            migrations: migration.into_iter().collect(),
            forward: false,
            reason: None,
            began_at: now,
            why: "swap".into(),
            who: "the simulation".into(),
        };
        PipelineRecord {
            swap: Some(swap),
            ..self.record.clone()
        }
    }
}

fn waits_for_promote(record: &PipelineRecord, world: &World) -> bool {
    let Some(swap) = record.swap.as_ref().filter(|s| s.phase == Phase::Switching) else {
        return false;
    };
    let view = view(world);
    if swap.shadow {
        let shadows = |task: TaskId| {
            drive::report(&view, record.run(), swap.id, task).is_some_and(|r| r.state == ReportState::Shadowing)
        };
        return swap.tasks().all(shadows) && world.now() - swap.phase_at > 100;
    }
    if swap.canary.is_none() {
        return false;
    }
    let switched = |task: TaskId| {
        drive::report(&view, record.run(), swap.id, task).is_some_and(|r| r.state == ReportState::Switched)
    };
    swap.switching().all(switched)
}

/// What a reader of the placement topic knows.
pub fn view(world: &World) -> View {
    let mut view = View::default();
    for row in world.rows(&placement::topic(PIPELINE), 0) {
        view.apply(row.offset, &row.key.unwrap_or_default(), row.value.as_deref())
            .unwrap();
    }
    view
}

/// A row of the repartition topic, as far as versions go.
struct Sent {
    partition: i32,
    offset: i64,
    version: u32,
    /// Input partition and offset.
    origin: (i32, i64),
}

fn sent(settings: &Settings) -> Vec<Sent> {
    let topic = topology::repartition_topic(PIPELINE, "count");
    let text = |row: &crate::world::Row, name: &str| {
        let header = row.headers.iter().find(|(n, _)| n == name);
        String::from_utf8(header.and_then(|(_, v)| v.clone()).unwrap_or_default()).unwrap()
    };
    let of = |partition: i32| {
        settings.world.rows(&topic, partition).into_iter().map(move |row| {
            let origin = text(&row, ORIGIN);
            let (p, o) = origin.split_once('-').expect("every row has an origin");
            Sent {
                partition,
                offset: row.offset,
                version: text(&row, VERSION).parse().unwrap(),
                origin: (p.parse().unwrap(), o.parse().unwrap()),
            }
        })
    };
    (0..PARTITIONS).flat_map(of).collect()
}

/// Per input partition all of one version, then all of the next, as the history says; and what a version that was taken
/// back has left lies within the offsets that the history names.
pub fn check(settings: &Settings, record: &PipelineRecord) -> Result<(), String> {
    let mut stages = vec![1];
    for ran in &record.history {
        if ran.outcome == Outcome::Shadowed {
            // Nothing of it may ever be seen.
            continue;
        }
        let back = *stages.last().unwrap();
        stages.push(ran.versions[STEP].version.parse().unwrap());
        if ran.outcome == Outcome::RolledBack {
            stages.push(back);
        }
    }
    let sent = sent(settings);
    let mut by_input: BTreeMap<i32, BTreeMap<i64, u32>> = BTreeMap::new();
    for row in &sent {
        let versions = by_input.entry(row.origin.0).or_default();
        let known = *versions.entry(row.origin.1).or_insert(row.version);
        if known != row.version {
            return Err(format!(
                "one record was processed by versions {known} and {}",
                row.version
            ));
        }
    }
    for (partition, versions) in by_input {
        let mut left = stages.iter();
        let mut at = left.next();
        for (offset, version) in &versions {
            while at.is_some_and(|stage| stage != version) {
                at = left.next();
            }
            if at.is_none() {
                let order: Vec<_> = versions.values().collect();
                return Err(format!(
                    "input {partition}-{offset} was processed by version {version}, out of the order {stages:?}: {order:?}"
                ));
            }
        }
    }
    for ran in record.history.iter().filter(|r| r.outcome == Outcome::RolledBack) {
        let version: u32 = ran.versions[STEP].version.parse().unwrap();
        for row in sent.iter().filter(|r| r.version == version) {
            let named = ran
                .offsets
                .iter()
                .any(|w| w.partition == row.partition && (w.first..=w.last).contains(&row.offset));
            if !named {
                return Err(format!(
                    "version {version} was taken back and left row {}-{}, outside of {:?}",
                    row.partition, row.offset, ran.offsets
                ));
            }
        }
    }
    Ok(())
}
