//! `wasmill:log`: a guest's messages become `tracing` events that say whose they are and which record they are about.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use record::TopicPartition;
use task::processor::Origin;
use tracing::Level;
use wasmtime::Result;

use crate::bindings::wasmill::log::log as wit;
use crate::host::{Host, Phase};
use crate::instance::TaskName;

/// The target of all events of guests, for filters: `guest=debug`.
pub(crate) const TARGET: &str = "guest";

/// Longer messages are cut: a log line is for people.
const MESSAGE_BYTES_MAX: usize = 8 << 10;
/// What is kept of an error message for the cause of a trap.
const LAST_WORDS_BYTES_MAX: usize = 500;

const WINDOW: Duration = Duration::from_secs(1);

/// Where messages go beside `tracing`: a node keeps the last ones for those who ask.
pub trait LogSink: Send + Sync + Debug {
    /// The finest level that is wanted. Asked for every message.
    fn level(&self) -> Level;

    /// Must not wait: it is called while the guest runs.
    fn write(&self, line: GuestLine<'_>);
}

/// A message of a guest, after the limits on rate and length.
#[derive(Clone, Copy, Debug)]
pub struct GuestLine<'a> {
    pub level: Level,
    /// `name@version`.
    pub module: &'a str,
    pub task: &'a TaskName,
    /// The record that it is about, where the guest named one.
    pub record: Option<(&'a TopicPartition, i64)>,
    pub message: &'a str,
}

/// The log of one instance.
pub(crate) struct Log {
    sink: Option<Arc<dyn LogSink>>,
    module: String,
    task: TaskName,
    lines_per_second: u32,
    window_start: Option<Instant>,
    lines: u32,
    dropped: u64,
    last_error: Option<String>,
}

impl Log {
    pub(crate) fn new(module: String, task: TaskName, lines_per_second: u32) -> Self {
        Self {
            sink: None,
            module,
            task,
            lines_per_second,
            window_start: None,
            lines: 0,
            dropped: 0,
            last_error: None,
        }
    }

    pub(crate) fn with_sink(self, sink: Option<Arc<dyn LogSink>>) -> Self {
        Self { sink, ..self }
    }

    /// The last message of level `error` in the running call: the SDKs write one before they give up.
    pub(crate) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }

    pub(crate) fn begin_call(&mut self) {
        self.last_error = None;
    }

    /// Says how many messages were left out. Also when the instance goes, so that none are forgotten.
    pub(crate) fn report_dropped(&mut self) {
        if self.dropped > 0 {
            let dropped = std::mem::take(&mut self.dropped);
            self.emit(
                Level::WARN,
                None,
                &format!(
                    "{dropped} messages left out, more than {} a second (`limits.log`)",
                    self.lines_per_second
                ),
            );
        }
    }

    fn write(&mut self, level: Level, record: Record<'_>, message: &str, now: Instant) {
        if level == Level::ERROR {
            // One line, since it becomes part of one; a Rust panic has its place and its message on two.
            let words = message.split_whitespace().collect::<Vec<_>>().join(" ");
            self.last_error = Some(cut(&words, LAST_WORDS_BYTES_MAX).to_owned());
        }
        if self
            .window_start
            .is_none_or(|start| now.duration_since(start) >= WINDOW)
        {
            self.report_dropped();
            self.window_start = Some(now);
            self.lines = 0;
        }
        if self.lines >= self.lines_per_second {
            self.dropped += 1;
            return;
        }
        self.lines += 1;
        self.emit(level, record, cut(message, MESSAGE_BYTES_MAX));
    }

    fn emit(&self, level: Level, record: Record<'_>, message: &str) {
        if let Some(sink) = self.sink.as_ref().filter(|sink| level <= sink.level()) {
            sink.write(GuestLine {
                level,
                module: &self.module,
                task: &self.task,
                record,
                message,
            });
        }
        let record = record.map(|(partition, offset)| format!("{partition}@{offset}"));
        let record = record.unwrap_or_default();
        // A macro's level must be known when it is compiled.
        macro_rules! event {
            ($level:expr) => {
                tracing::event!(
                    target: TARGET,
                    $level,
                    module = %self.module,
                    pipeline = %self.task.pipeline,
                    step = %self.task.step,
                    task = %format_args!("{}_{}", self.task.sub_topology, self.task.partition),
                    record,
                    "{message}"
                )
            };
        }
        match level {
            Level::ERROR => event!(Level::ERROR),
            Level::WARN => event!(Level::WARN),
            Level::INFO => event!(Level::INFO),
            Level::DEBUG => event!(Level::DEBUG),
            _ => event!(Level::TRACE),
        }
    }
}

impl wit::Host for Host {
    fn enabled(&mut self) -> Result<wit::Level> {
        self.allow("log.enabled", |_| true)?;
        let wanted = self.log.sink.as_ref().map(|sink| sink.level());
        let wanted = |level: Level| wanted.is_some_and(|wanted| level <= wanted);
        Ok(
            if wanted(Level::TRACE) || tracing::enabled!(target: TARGET, Level::TRACE) {
                wit::Level::Trace
            } else if wanted(Level::DEBUG) || tracing::enabled!(target: TARGET, Level::DEBUG) {
                wit::Level::Debug
            } else if wanted(Level::INFO) || tracing::enabled!(target: TARGET, Level::INFO) {
                wit::Level::Info
            } else if wanted(Level::WARN) || tracing::enabled!(target: TARGET, Level::WARN) {
                wit::Level::Warn
            } else {
                wit::Level::Error
            },
        )
    }

    fn write(&mut self, level: wit::Level, message: String, row: Option<u32>) -> Result<()> {
        self.allow("log.write", |_| true)?;
        let level = match level {
            wit::Level::Trace => Level::TRACE,
            wit::Level::Debug => Level::DEBUG,
            wit::Level::Info => Level::INFO,
            wit::Level::Warn => Level::WARN,
            wit::Level::Error => Level::ERROR,
        };
        let record = match (self.phase, row) {
            (Phase::Process { .. } | Phase::Transform, Some(row)) => record_at(&self.context.origin, row),
            _ => None,
        };
        self.log.write(level, record, &message, Instant::now());
        Ok(())
    }
}

/// Where a record was read.
type Record<'a> = Option<(&'a TopicPartition, i64)>;

/// `None` where the row is not known: a wrong row in a log line is no reason to trap.
fn record_at(origin: &Origin, row: u32) -> Record<'_> {
    let row = row as usize;
    let partition = origin.partitions.get(*origin.partition_of.get(row)? as usize)?;
    Some((partition, *origin.offsets.get(row)?))
}

fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_what_is_over_the_rate() {
        let mut log = Log::new("m@1".into(), TaskName::default(), 2);
        let start = Instant::now();
        for _ in 0..5 {
            log.write(Level::INFO, None, "x", start);
        }
        assert_eq!((log.lines, log.dropped), (2, 3));
        log.write(Level::ERROR, None, "panicked at src/lib.rs:3:\n  boom", start + WINDOW);
        assert_eq!(
            (log.lines, log.dropped, log.last_error()),
            (1, 0, Some("panicked at src/lib.rs:3: boom"))
        );
        log.begin_call();
        assert_eq!(log.last_error(), None);
    }

    #[test]
    fn names_the_record() {
        let origin = Origin {
            partitions: vec![TopicPartition::new("a", 0), TopicPartition::new("b", 7)],
            partition_of: vec![0, 1],
            offsets: vec![10, 11],
        };
        assert_eq!(
            (record_at(&origin, 1), record_at(&origin, 2)),
            (Some((&TopicPartition::new("b", 7), 11)), None)
        );
        assert_eq!(cut("aä", 2), "a");
    }
}
