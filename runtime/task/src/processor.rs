//! The seam between a task and the code of a module: one call a batch.
//!
//! `sandbox` implements [`Processor`] on a Wasm component, tests implement it natively. A processor holds no state
//! that matters: the task throws it away after a failure and asks for a [`Processor::renew`]ed one.

use arrow_array::BinaryArray;
use arrow_buffer::{BooleanBuffer, ScalarBuffer};
use record::{Batch, Headers, TopicPartition};
use state::{GlobalReader, Stores};

use crate::schedules::{Clock, Schedule, Schedules};

/// The host's clocks, frozen for one call. Milliseconds since 1970 UTC; `stream_time` is -1 before the first record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    pub stream_time: i64,
    pub wall_time: i64,
}

/// Where each row of a call was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    pub partitions: Vec<TopicPartition>,
    /// Row i was read from `partitions[partition_of[i]]`.
    pub partition_of: Vec<u32>,
    pub offsets: Vec<i64>,
}

/// The rows of one call.
#[derive(Clone, Debug)]
pub struct Input {
    pub batch: Batch,
    /// Input port of each row; empty when the module has one input.
    pub ports: Vec<u8>,
    /// The task's stream time at each row, its own source record included.
    pub stream_times: ScalarBuffer<i64>,
    pub origin: Origin,
}

/// Rows that a processor sends on. `None` columns are those of the cause.
#[derive(Clone, Debug, Default)]
pub struct Emission {
    /// Input row of each output row, never decreasing. `None`: row i comes from input row i, and there are as many.
    pub causes: Option<Vec<u32>>,
    /// Output port of each row. `None`: all to port 0.
    pub targets: Option<Vec<u32>>,
    pub keys: Option<BinaryArray>,
    pub values: Option<BinaryArray>,
    pub timestamps: Option<ScalarBuffer<i64>>,
    pub headers: Option<Headers>,
}

#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one a call, moved once")]
pub enum Emitted {
    Nothing,
    /// These input rows go to output 0 unchanged.
    Selected(BooleanBuffer),
    Rows(Emission),
}

/// What is to happen with an input row that did not go well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOutcome {
    Drop(String),
    DeadLetter(String),
    Retry { after_ms: u32, reason: String },
    Fail(String),
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub emitted: Emitted,
    /// At most one a row, rows increasing; such a row causes no output.
    pub outcomes: Vec<(u32, RowOutcome)>,
}

/// Why a call gave no answer. The whole call is undone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The instance is gone: a trap, a limit, an endless loop. `cause` is one line, `backtrace` may have many.
    #[error("{cause}")]
    Trap { cause: String, backtrace: String },
    /// The guest answered with an error.
    #[error("{0}")]
    Guest(String),
    /// The answer breaks the contract.
    #[error("{0}")]
    Contract(String),
    /// A store of the host failed; not the guest's fault.
    #[error("{0}")]
    Host(String),
}

/// What a call may use: lent to the processor for the call, moved into the sandbox and back.
#[derive(Default)]
pub struct Context {
    pub stores: Stores,
    /// Store index in the module's description to store number in `stores`.
    pub store_of: Vec<usize>,
    pub schedules: Schedules,
    /// Global tables, as the task's plan numbers them.
    pub globals: Vec<GlobalReader>,
    /// Rows of the running `process` call: their origin and stream times, for logs and schedules. Empty elsewhere.
    pub origin: Origin,
    pub stream_times: ScalarBuffer<i64>,
    pub now: Now,
}

impl Context {
    /// Starts a schedule for the running call. `row` is the row of the running `process` call because of which it
    /// starts, and is ignored elsewhere.
    ///
    /// # Errors
    /// A row that is missing or not in the batch, and what [`Schedules::start`] refuses.
    pub fn start_schedule(&mut self, name: &str, schedule: Schedule, row: Option<u32>) -> Result<(), String> {
        let time = match (schedule.clock, self.stream_times.is_empty()) {
            (_, false) => {
                let row = row.ok_or_else(|| format!("schedule `{name}` is started in `process` without a row"))?;
                let stream_time = self.stream_times.get(row as usize).copied();
                let stream_time = stream_time
                    .ok_or_else(|| format!("schedule `{name}` is started by row {row}, which is not there"))?;
                if schedule.clock == Clock::StreamTime {
                    stream_time
                } else {
                    self.now.wall_time
                }
            }
            (Clock::StreamTime, true) => self.now.stream_time,
            (Clock::WallTime, true) => self.now.wall_time,
        };
        self.schedules.start(name, schedule, time)
    }
}

/// The code of a step in one task.
pub trait Processor: Send {
    /// Once for an instance, before anything else. An error refuses the pipeline or the swap.
    fn open(&mut self, context: &mut Context) -> Result<(), Failure>;

    /// `input` has at least one row.
    fn process(&mut self, context: &mut Context, now: Now, input: &Input) -> Result<Answer, Failure>;

    /// For a schedule named `name`; the answer has no causes.
    fn punctuate(&mut self, context: &mut Context, now: Now, name: &str) -> Result<Emission, Failure>;

    /// Entries of a store as an older schema wrote them, to entries as this code writes them: keys and values, as many of
    /// each. `store` is its number in the module's description. Needs no [`Processor::open`] before, and touches no store.
    ///
    /// # Errors
    /// [`Failure::Guest`] where the module does not know that schema.
    fn migrate(
        &mut self,
        store: u32,
        schema: u32,
        keys: &BinaryArray,
        values: &BinaryArray,
    ) -> Result<(BinaryArray, BinaryArray), Failure> {
        let _ = (keys, values);
        Err(Failure::Guest(format!(
            "`{}` cannot migrate store {store} from schema {schema}",
            self.module()
        )))
    }

    /// A new instance in place of this one; [`Processor::open`] comes next.
    fn renew(&mut self) -> Result<(), Failure>;

    fn close(&mut self);

    /// `name@version`, for messages.
    fn module(&self) -> &str;

    /// Whether the instance holds so much memory that it is to be replaced before the next run.
    fn is_worn(&self) -> bool {
        false
    }

    /// Bytes of memory that the instance holds now; 0 where that means nothing.
    fn memory_bytes(&self) -> usize {
        0
    }

    /// Time spent in calls since this was made, in nanoseconds; 0 where it is not measured.
    fn busy_ns(&self) -> u64 {
        0
    }

    /// Whether [`Input::origin`] is to be filled in; `None`: as the step says.
    fn needs_origin(&self) -> Option<bool> {
        None
    }
}
