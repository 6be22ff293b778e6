//! One module in one task: the [`Processor`] that the task calls.

mod application;

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::{Array, BinaryArray};
use serde_json::Value;
use task::Processor;
use task::processor::{Answer, Context, Emission, Failure, Input, Now};
use topology::grants::Want;
use topology::{Closure, Grants, Limits, ModuleStep};
use wasmtime::{Result as WasmResult, Store};

use crate::answer;
use crate::bindings::exports::wasmill::streams::module;
use crate::bindings::wasmill::data::columns as wit;
use crate::bindings::wasmill::streams::description;
use crate::columns::{self, Lowered, LoweredHeaders};
use crate::error::Error;
use crate::exports::Guest;
use crate::failure;
use crate::host::{Host, Phase};
use crate::log::{Log, LogSink};
use crate::module::{Module, new_store, start_call};
use crate::outside::{Outside, Reach};
use crate::settings::{self, Setting};

/// Where an instance works; the guest is told, and logs carry it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskName {
    pub pipeline: String,
    pub step: String,
    pub sub_topology: u32,
    pub partition: u32,
}

#[derive(Clone, Debug, Default)]
pub struct InstanceOptions {
    pub limits: Limits,
    /// `name@version` that logs, failures and dead letters call it; `None`: as it calls itself.
    pub name: Option<String>,
    /// Parameters by name, checked and with defaults filled in; durations in milliseconds and sizes in bytes.
    pub settings: Vec<(String, Value)>,
    pub task: TaskName,
    /// Where the guest's messages go beside `tracing`.
    pub log: Option<Arc<dyn LogSink>>,
    /// Columns that only a module that asked for them gets.
    pub needs_headers: bool,
    pub needs_origin: bool,
    pub needs_stream_times: bool,
    /// What the step grants, and the world behind it; `None`: calls beyond the module's world trap.
    pub grants: Grants,
    pub outside: Option<Arc<dyn Outside>>,
    /// Of a node of an application: the closure that is called for its rows.
    pub closure: Option<Box<Closure>>,
}

impl InstanceOptions {
    /// What a step of a pipeline says about its module, for one task. `outside` is left to the host.
    pub fn of_step(step: &ModuleStep, task: TaskName) -> Self {
        let settings = step.params.iter().map(|(name, value)| (name.clone(), value.clone()));
        Self {
            limits: step.limits,
            name: Some(format!("{}@{}", step.module, step.version)),
            settings: settings.collect(),
            task,
            log: None,
            needs_headers: step.needs_headers,
            needs_origin: step.needs_origin,
            needs_stream_times: step.needs_stream_times,
            grants: (*step.grants).clone(),
            outside: None,
            closure: step.closure.clone(),
        }
    }
}

/// See [`Module::instance`].
pub(crate) struct Instance {
    module: Module,
    name: String,
    outputs: usize,
    options: InstanceOptions,
    settings: Vec<(String, Setting)>,
    running: Option<Running>,
    /// Linear memory past which the instance is replaced.
    mark_bytes: u64,
    /// The log's rate outlives instances, so that a module that traps in a loop does not get a fresh one each time.
    log: Option<Log>,
    /// In calls of `process` and `punctuate`, over all instances.
    busy: Duration,
}

struct Running {
    store: Store<Host>,
    guest: Guest,
}

impl Instance {
    pub(crate) fn new(module: Module, mut options: InstanceOptions) -> Result<Self, Error> {
        let capabilities = &module.description().capabilities;
        let lacking = topology::grants::ungranted(&options.task.step, capabilities, &options.grants);
        if !lacking.is_empty() {
            let module = module.name();
            return Err(Error::NotGranted { module, lacking });
        }
        application::fits(&module, options.closure.as_deref())?;
        let settings = settings::check(module.description(), mem::take(&mut options.settings))?;
        let name = options.name.take().unwrap_or_else(|| module.name());
        let log = Log::new(name.clone(), options.task.clone(), options.limits.log_lines_per_second)
            .with_sink(options.log.clone());
        let outputs = match options.closure {
            Some(_) => 1,
            None => module.description().outputs.len(),
        };
        let mark_bytes = options.limits.recycle_mark();
        Ok(Self {
            module,
            name,
            outputs,
            options,
            settings,
            running: None,
            mark_bytes,
            log: Some(log),
            busy: Duration::ZERO,
        })
    }

    fn start(&mut self) -> Result<(), Failure> {
        self.discard();
        let fresh = || {
            Log::new(
                self.name.clone(),
                self.options.task.clone(),
                self.options.limits.log_lines_per_second,
            )
            .with_sink(self.options.log.clone())
        };
        let log = self.log.take().unwrap_or_else(fresh);
        let inner = &self.module.inner;
        let mut host = Host::new(inner.stores.clone(), self.options.limits, log);
        host.phase = Phase::Open;
        host.log.begin_call();
        host.reach = self.reach();
        let mut store = new_store(&inner.exports, host);
        match inner.exports.instantiate(&mut store) {
            Ok(guest) => {
                self.running = Some(Running { store, guest });
                Ok(())
            }
            Err(error) => {
                let failure = failure::of_call(&error, store.data_mut());
                self.keep_log(store);
                Err(failure)
            }
        }
    }

    fn reach(&self) -> Reach {
        let capabilities = self.module.description().capabilities.iter();
        let wants: Vec<Want> = capabilities.filter_map(|c| Want::of(c).ok()).collect();
        Reach::new(&wants, &self.options.grants, self.options.outside.clone())
    }

    fn discard(&mut self) {
        if let Some(running) = self.running.take() {
            self.keep_log(running.store);
        }
    }

    fn keep_log(&mut self, store: Store<Host>) {
        let mut log = store.into_data().log;
        log.report_dropped();
        self.log = Some(log);
    }

    /// One call of an export with the task's context behind the imports. After a trap the instance is gone.
    fn call<R>(
        &mut self,
        context: &mut Context,
        phase: Phase,
        export: impl FnOnce(&mut Store<Host>, &Guest) -> WasmResult<R>,
    ) -> Result<R, Failure> {
        let Some(running) = &mut self.running else {
            return Err(Failure::Host(format!(
                "`{}` has no instance; it was not opened again after a trap",
                self.name
            )));
        };
        let host = running.store.data_mut();
        host.phase = phase;
        host.log.begin_call();
        mem::swap(&mut host.context, context);
        start_call(&mut running.store);
        let began = Instant::now();
        let answered = export(&mut running.store, &running.guest);
        if matches!(
            phase,
            Phase::Process { .. } | Phase::Transform | Phase::Aggregate | Phase::Punctuate
        ) {
            self.busy += began.elapsed();
        }
        let host = running.store.data_mut();
        mem::swap(&mut host.context, context);
        let answered = answered.map_err(|error| failure::of_call(&error, host));
        if answered.is_err() {
            self.discard();
        }
        answered
    }
}

impl Processor for Instance {
    fn open(&mut self, context: &mut Context) -> Result<(), Failure> {
        if self.running.is_none() {
            self.start()?;
        }
        if let Some(closure) = self.options.closure.clone() {
            self.build(context, &closure.plan)?;
        }
        let task = self.options.task.clone();
        let settings = mem::take(&mut self.settings);
        let opened = settings::with_views(&settings, |views| {
            let task = description::Task {
                pipeline: &task.pipeline,
                step: &task.step,
                sub_topology: task.sub_topology,
                partition: task.partition,
            };
            self.call(context, Phase::Open, |store, guest| {
                guest.module.call_open(store, views, task)
            })
        });
        self.settings = settings;
        opened?.map_err(guest_failure)?;
        self.mark_bytes = mark(self.options.limits, self.memory_bytes());
        Ok(())
    }

    fn process(&mut self, context: &mut Context, now: Now, input: &Input) -> Result<Answer, Failure> {
        if let Some(closure) = self.options.closure.take() {
            let answer = match closure.form.is_aggregate() {
                true => self.aggregate(context, input, &closure),
                false => self.transform(context, now, input, &closure),
            };
            self.options.closure = Some(closure);
            return answer;
        }
        let lowered = LoweredInput::new(input, &self.options);
        let rows = input.batch.len();
        let phase = Phase::Process {
            rows: u32::try_from(rows).unwrap_or(u32::MAX),
        };
        let answer = self.call(context, phase, |store, guest| {
            let batch = lowered.view(input);
            guest
                .processing()?
                .call_process(store, clocks(now), batch, &input.ports)
        })?;
        let answer = answer.map_err(guest_failure)?;
        answer::lift(answer, rows, self.outputs)
            .map_err(|broken| Failure::Contract(format!("the answer of `process` {broken}")))
    }

    fn punctuate(&mut self, context: &mut Context, now: Now, name: &str) -> Result<Emission, Failure> {
        if self.options.closure.is_some() {
            return Err(Failure::Contract("an application has no schedules".to_owned()));
        }
        let rows = self.call(context, Phase::Punctuate, |store, guest| {
            guest.processing()?.call_punctuate(store, clocks(now), name)
        })?;
        answer::lift_punctuation(rows.map_err(guest_failure)?, self.outputs)
            .map_err(|broken| Failure::Contract(format!("the answer of `punctuate` {broken}")))
    }

    fn migrate(
        &mut self,
        store: u32,
        schema: u32,
        keys: &BinaryArray,
        values: &BinaryArray,
    ) -> Result<(BinaryArray, BinaryArray), Failure> {
        if self.running.is_none() {
            self.start()?;
        }
        let (keys, values) = (Lowered::new(keys), Lowered::new(values));
        let migrated = self.call(&mut Context::default(), Phase::Migrate, |wasm, guest| {
            let module = &guest.module;
            module.call_migrate(wasm, store, schema, keys.view(), values.view())
        })?;
        lift_migrated(migrated.map_err(Failure::Guest)?)
            .map_err(|broken| Failure::Contract(format!("the answer of `migrate` {broken}")))
    }

    fn renew(&mut self) -> Result<(), Failure> {
        self.start()
    }

    fn close(&mut self) {
        if self.running.is_some() {
            let closed = self.call(&mut Context::default(), Phase::Close, |store, guest| {
                guest.module.call_close(store)
            });
            if let Err(failure) = closed {
                tracing::debug!(module = %self.name, %failure, "a module failed to close");
            }
        }
        self.discard();
    }

    fn module(&self) -> &str {
        &self.name
    }

    fn is_worn(&self) -> bool {
        self.memory_bytes() as u64 > self.mark_bytes
    }

    fn busy_ns(&self) -> u64 {
        u64::try_from(self.busy.as_nanos()).unwrap_or(u64::MAX)
    }

    fn needs_origin(&self) -> Option<bool> {
        Some(self.options.needs_origin)
    }

    fn memory_bytes(&self) -> usize {
        self.running
            .as_ref()
            .map_or(0, |running| running.store.data().memory_bytes())
    }
}

/// Where a new instance already holds more than the mark, replacing it would help nothing and never end: then the mark
/// is half-way to the limit.
fn mark(limits: Limits, opened_bytes: usize) -> u64 {
    let (mark, opened) = (limits.recycle_mark(), opened_bytes as u64);
    if opened < mark {
        mark
    } else {
        opened.midpoint(limits.memory_bytes)
    }
}

fn guest_failure(reason: String) -> Failure {
    Failure::Guest(answer::said(reason))
}

/// Columns of as many rows, without nulls.
fn lift_migrated(migrated: module::Migrated) -> Result<(BinaryArray, BinaryArray), String> {
    let keys = columns::lift("keys", migrated.keys)?;
    let values = columns::lift("values", migrated.values)?;
    if keys.len() != values.len() {
        return Err(format!("has {} keys and {} values", keys.len(), values.len()));
    }
    if keys.null_count() + values.null_count() > 0 {
        return Err("has null keys or values".to_owned());
    }
    Ok((keys, values))
}

fn clocks(now: Now) -> wit::Now {
    wit::Now {
        stream_time: now.stream_time,
        wall_time: now.wall_time,
    }
}

/// The columns of a call; what the module did not ask for is not made.
struct LoweredInput<'a> {
    keys: Lowered,
    values: Lowered,
    headers: Option<LoweredHeaders>,
    partitions: Option<Vec<wit::TopicPartition<'a>>>,
    needs_stream_times: bool,
}

impl<'a> LoweredInput<'a> {
    fn new(input: &'a Input, options: &InstanceOptions) -> Self {
        let headers = || LoweredHeaders::new(input.batch.headers(), input.batch.len());
        let partitions = || {
            let partitions = input.origin.partitions.iter();
            partitions
                .map(|p| wit::TopicPartition {
                    topic: &p.topic,
                    partition: p.partition as u32,
                })
                .collect()
        };
        Self {
            keys: Lowered::new(input.batch.keys()),
            values: Lowered::new(input.batch.values()),
            headers: options.needs_headers.then(headers),
            partitions: options.needs_origin.then(partitions),
            needs_stream_times: options.needs_stream_times,
        }
    }

    fn view(&'a self, input: &'a Input) -> wit::Batch<'a> {
        wit::Batch {
            keys: self.keys.view(),
            values: self.values.view(),
            timestamps: input.batch.timestamps(),
            stream_times: self.needs_stream_times.then_some(&*input.stream_times),
            headers: self.headers.as_ref().map(LoweredHeaders::view),
            origin: self.partitions.as_ref().map(|partitions| wit::Origin {
                partitions,
                partition_of: &input.origin.partition_of,
                offsets: &input.origin.offsets,
            }),
        }
    }
}
