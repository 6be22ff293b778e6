//! Queries of stores: committed state, task by task, in pages by key. Whichever node is asked, each task's part comes
//! from the node that runs it, or, where that is gone and the caller allows it, from a standby (`stale`).

mod global;
mod read;
mod route;
mod stale;

use super::peers::{Peer, Unanswered};
use super::runner::Shared;
use super::{Node, lock};
use crate::api::{QueryAnswer, QueryRequest};
use crate::refusal::{Fault, Refusal};
use crate::registry::PipelineEntry;
use read::After;
use route::{Holder, Part};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use topology::{Format, StoreKind};
use worker::TaskSnapshot;

/// No task with what was asked for runs now, there or here.
pub(crate) const NOT_READY: &str = "store-not-ready";
/// The state is not as far as was asked for.
pub(crate) const BEHIND: &str = "behind";

const ENTRIES_MAX: usize = 10_000;
const ENTRIES_DEFAULT: usize = 100;
/// A task that moves, or is behind, is asked again for so long: beyond a commit, a switch and a look at the placement.
const PATIENCE: Duration = Duration::from_secs(1);
const AGAIN: Duration = Duration::from_millis(50);

/// Where a store is, and how its bytes are shown.
struct Place {
    sub_topology: u32,
    /// Number within the task.
    store: usize,
    kind: StoreKind,
    key: Format,
    value: Format,
    tasks: i32,
    /// What the tasks read.
    topics: Vec<String>,
}

fn place(entry: &PipelineEntry, name: &str) -> Result<Place, Refusal> {
    let topology = &entry.details.topology;
    for (index, sub) in topology.sub_topologies.iter().enumerate() {
        for (store, id) in sub.stores.iter().enumerate() {
            if let Some(found) = topology.stores.get(*id).filter(|found| found.name == name) {
                let tasks = entry.details.tasks.get(index).copied().unwrap_or(0);
                let (kind, key, value) = (found.kind, found.key, found.value);
                return Ok(Place {
                    sub_topology: sub.id,
                    store,
                    kind,
                    key,
                    value,
                    tasks,
                    topics: sub.topics.clone(),
                });
            }
        }
    }
    let globals = topology.globals.iter().map(|table| table.name.as_str());
    let known: Vec<&str> = topology
        .stores
        .iter()
        .map(|store| store.name.as_str())
        .chain(globals)
        .collect();
    let message = format!(
        "`{}` has no store `{name}`; it has: {}",
        topology.name,
        known.join(", ")
    );
    Err(Refusal::not_found(message))
}

impl Node {
    /// From the nodes that run the tasks; with `partitions`, as nodes ask each other, only what runs here.
    ///
    /// # Errors
    /// A pipeline, store, key or bound that is none, and tasks that do not run.
    pub fn query(&self, pipeline: &str, store: &str, request: &QueryRequest) -> Result<QueryAnswer, Refusal> {
        let entry = self.entry(pipeline)?;
        if let Some(table) = entry.details.topology.globals.iter().find(|table| table.name == store) {
            return global::answer(table, self.shared(pipeline).as_deref(), request);
        }
        let place = place(&entry, store)?;
        if request.stale_ok && request.at_least.is_some() {
            let message = "a standby does not know how far the input is that it reflects\n\
                           hint: ask either for `at-least` or with `stale-ok`";
            return Err(Refusal::invalid("invalid-position", message));
        }
        let least = request
            .at_least
            .as_deref()
            .map_or(Ok(BTreeMap::new()), |text| least(&place, text))?;
        let asked = Asked {
            node: self,
            entry: &entry,
            store,
            place: &place,
            request,
            least,
        };
        if let Some(text) = &request.partitions {
            let partitions = partitions(&place, text)?;
            return match asked.here(&partitions, request) {
                Err(refusal) if request.stale_ok && refusal.code == NOT_READY => {
                    asked.stale_here(&partitions, request, refusal)
                }
                answer => answer,
            };
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match asked.everywhere() {
                Err(refusal) if [NOT_READY, BEHIND].contains(&refusal.code) && Instant::now() < deadline => {
                    std::thread::sleep(AGAIN);
                }
                answer => return answer,
            }
        }
    }

    pub(crate) fn entry(&self, pipeline: &str) -> Result<PipelineEntry, Refusal> {
        let registry = self.registry();
        registry.view().pipelines.get(pipeline).cloned().ok_or_else(|| {
            let known: Vec<&str> = registry.view().pipelines.keys().map(String::as_str).collect();
            let known = if known.is_empty() {
                "there is none".to_owned()
            } else {
                format!("there are: {}", known.join(", "))
            };
            Refusal::not_found(format!("no pipeline `{pipeline}`; {known}"))
        })
    }
}

/// A query that was understood.
struct Asked<'a> {
    node: &'a Node,
    entry: &'a PipelineEntry,
    store: &'a str,
    place: &'a Place,
    request: &'a QueryRequest,
    least: BTreeMap<String, i64>,
}

impl Asked<'_> {
    fn shared(&self) -> Option<Arc<Shared>> {
        self.node.shared(&self.entry.details.topology.name)
    }

    fn everywhere(&self) -> Result<QueryAnswer, Refusal> {
        let holders = route::holders(&self.node.config.node, self.entry, self.place, self.shared().as_deref());
        let parts = route::parts(holders, self.request.key.is_some());
        self.gather(&parts, self.request)
    }

    /// What the parts answer together.
    fn gather(&self, parts: &[Part], request: &QueryRequest) -> Result<QueryAnswer, Refusal> {
        if request.key.is_none() {
            return self.page(parts, request);
        }
        let mut all = QueryAnswer::default();
        for part in parts {
            let answer = self.part(part, request.clone())?;
            all.entries.extend(answer.entries);
            all.positions.extend(answer.positions);
            all.stale.extend(answer.stale);
        }
        all.entries.sort_by_key(|entry| entry.partition);
        Ok(all)
    }

    /// A page that may reach over several nodes.
    fn page(&self, parts: &[Part], asked: &QueryRequest) -> Result<QueryAnswer, Refusal> {
        let limit = limit(asked);
        let after = asked.after.as_deref().map(After::parse).transpose()?;
        let mut all = QueryAnswer::default();
        for part in parts {
            let (Some(first), Some(last)) = (part.partitions.first(), part.partitions.last()) else {
                continue;
            };
            if after.as_ref().is_some_and(|after| after.partition > *last) {
                continue;
            }
            if all.entries.len() >= limit {
                all.next = Some(first.to_string());
                return Ok(all);
            }
            let request = QueryRequest {
                limit: Some(limit - all.entries.len()),
                after: asked
                    .after
                    .clone()
                    .filter(|_| after.as_ref().is_some_and(|after| after.partition >= *first)),
                ..asked.clone()
            };
            let answer = self.part(part, request)?;
            all.entries.extend(answer.entries);
            all.positions.extend(answer.positions);
            all.stale.extend(answer.stale);
            if answer.next.is_some() {
                all.next = answer.next;
                return Ok(all);
            }
        }
        Ok(all)
    }

    fn part(&self, part: &Part, request: QueryRequest) -> Result<QueryAnswer, Refusal> {
        if let Holder::Copies(copies) = &part.holder {
            return self.copy(copies, &part.partitions, &request);
        }
        match self.owned(part, &request) {
            Err(unanswered) if request.stale_ok => self.instead(part, &request, unanswered),
            answer => answer.map_err(Unanswered::into_refusal),
        }
    }

    /// From whoever runs the tasks.
    fn owned(&self, part: &Part, request: &QueryRequest) -> Result<QueryAnswer, Unanswered> {
        match &part.holder {
            Holder::There(peer) => self.ask(peer, &part.partitions, request, false),
            Holder::Hidden(node) => {
                let message = format!(
                    "node `{node}` holds what was asked for and does not say where it answers\n\
                     hint: set `advertise` in its node.toml"
                );
                let refusal = Refusal::new(Fault::Unavailable, NOT_READY, message);
                Err(Unanswered::Gone(refusal))
            }
            Holder::Here | Holder::Copies(_) => self.here(&part.partitions, request).map_err(Unanswered::Refused),
        }
    }

    /// `stale_ok`: the other node may answer from a standby.
    fn ask(
        &self,
        peer: &Peer,
        partitions: &[i32],
        request: &QueryRequest,
        stale_ok: bool,
    ) -> Result<QueryAnswer, Unanswered> {
        let numbers: Vec<String> = partitions.iter().map(i32::to_string).collect();
        let in_a_hurry = request.stale_ok;
        let request = QueryRequest {
            partitions: Some(numbers.join(",")),
            stale_ok,
            ..request.clone()
        };
        let name = &self.entry.details.topology.name;
        let peers = &self.node.peers;
        peers.query(peer, (name, self.store), &request, in_a_hurry)
    }

    /// What tasks of this process have committed.
    fn here(&self, partitions: &[i32], request: &QueryRequest) -> Result<QueryAnswer, Refusal> {
        let shared = self.shared();
        if let Some(shared) = &shared
            && !shared.is_proven(self.node.config.session_timeout)
        {
            // Others may have taken its tasks over, and gone on.
            let message = format!(
                "node `{}` has not heard of its group for a session, so what it holds may be old\n\
                 hint: `wasmill status`",
                self.node.config.node
            );
            return Err(Refusal::new(Fault::Unavailable, NOT_READY, message));
        }
        let mut tasks = shared.map(|shared| shared.snapshots()).unwrap_or_default();
        tasks.retain(|t| t.task.sub_topology == self.place.sub_topology && partitions.contains(&t.task.partition));
        tasks.sort_by_key(|task| task.task);
        self.check_here(partitions, &tasks)?;
        let mut answer = self.read(&tasks, request)?;
        let positions = tasks.iter().flat_map(|task| &task.positions);
        answer.positions = positions
            .map(|(partition, next)| (partition.to_string(), *next))
            .collect();
        Ok(answer)
    }

    fn read(&self, tasks: &[TaskSnapshot], request: &QueryRequest) -> Result<QueryAnswer, Refusal> {
        match &request.key {
            Some(key) => read::one(self.place, tasks, &read::key_bytes(self.place, key)?),
            None => {
                let bounds = read::bounds(self.place, request)?;
                read::page(self.place, tasks, &bounds, request.after.as_deref(), limit(request))
            }
        }
    }

    fn check_here(&self, partitions: &[i32], tasks: &[TaskSnapshot]) -> Result<(), Refusal> {
        let lacks = |partition: &&i32| !tasks.iter().any(|task| task.task.partition == **partition);
        let lacking: Vec<String> = partitions.iter().filter(lacks).map(i32::to_string).collect();
        if !lacking.is_empty() {
            let message = format!(
                "{} of {} tasks with store `{}` do not run now (partitions {}): they start, restore, move or have stopped\n\
                 hint: `wasmill status`",
                lacking.len(),
                self.place.tasks,
                self.store,
                lacking.join(", ")
            );
            return Err(Refusal::new(Fault::Unavailable, NOT_READY, message));
        }
        for (partition, next) in tasks.iter().flat_map(|task| &task.positions) {
            let Some(least) = self.least.get(&partition.to_string()).filter(|least| *next < **least) else {
                continue;
            };
            let message = format!("{partition} is committed up to {next}, and {least} was asked for\nhint: ask again");
            return Err(Refusal::new(Fault::Unavailable, BEHIND, message));
        }
        Ok(())
    }
}

fn limit(request: &QueryRequest) -> usize {
    request.limit.unwrap_or(ENTRIES_DEFAULT).clamp(1, ENTRIES_MAX)
}

fn partitions(place: &Place, text: &str) -> Result<Vec<i32>, Refusal> {
    let number = |word: &str| word.parse().ok().filter(|number| (0..place.tasks).contains(number));
    text.split(',').map(number).collect::<Option<_>>().ok_or_else(|| {
        let message = format!(
            "`partitions` is `{text}`, and must name some of 0 to {}",
            place.tasks - 1
        );
        Refusal::invalid("invalid-partitions", message)
    })
}

/// `TOPIC-PARTITION:OFFSET,…`: what an answer has to reflect.
fn least(place: &Place, text: &str) -> Result<BTreeMap<String, i64>, Refusal> {
    let parse = |word: &str| {
        let (partition, offset) = word.rsplit_once(':')?;
        let (topic, number) = partition.rsplit_once('-')?;
        let known = place.topics.iter().any(|known| known == topic);
        let there = number
            .parse()
            .is_ok_and(|number: i32| (0..place.tasks).contains(&number));
        (known && there).then_some((partition.to_owned(), offset.parse().ok()?))
    };
    text.split(',').map(parse).collect::<Option<_>>().ok_or_else(|| {
        let message = format!(
            "`at-least` is `{text}`, and must be TOPIC-PARTITION:OFFSET,… of what the store's tasks read: {}; \
             partitions 0 to {}",
            place.topics.join(", "),
            place.tasks - 1
        );
        Refusal::invalid("invalid-position", message)
    })
}
