//! `wasmill:log`: a guest's messages become `tracing` events that say whose they are and which record they are about.

use std::time::{Duration, Instant};

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

/// The log of one instance.
pub(crate) struct Log {
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
            module,
            task,
            lines_per_second,
            window_start: None,
            lines: 0,
            dropped: 0,
            last_error: None,
        }
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
                "",
                &format!(
                    "{dropped} messages left out, more than {} a second (`limits.log`)",
                    self.lines_per_second
                ),
            );
        }
    }

    fn write(&mut self, level: Level, record: &str, message: &str, now: Instant) {
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

    fn emit(&self, level: Level, record: &str, message: &str) {
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
        Ok(if tracing::enabled!(target: TARGET, Level::TRACE) {
            wit::Level::Trace
        } else if tracing::enabled!(target: TARGET, Level::DEBUG) {
            wit::Level::Debug
        } else if tracing::enabled!(target: TARGET, Level::INFO) {
            wit::Level::Info
        } else if tracing::enabled!(target: TARGET, Level::WARN) {
            wit::Level::Warn
        } else {
            wit::Level::Error
        })
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
            (Phase::Process { .. }, Some(row)) => record_name(&self.context.origin, row),
            _ => String::new(),
        };
        self.log.write(level, &record, &message, Instant::now());
        Ok(())
    }
}

/// `topic-partition@offset`; empty where the row is not known: a wrong row in a log line is no reason to trap.
fn record_name(origin: &Origin, row: u32) -> String {
    let row = row as usize;
    let place = origin
        .partition_of
        .get(row)
        .and_then(|at| origin.partitions.get(*at as usize));
    match place.zip(origin.offsets.get(row)) {
        Some((partition, offset)) => format!("{partition}@{offset}"),
        None => String::new(),
    }
}

fn cut(text: &str, bytes_max: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use record::TopicPartition;

    #[test]
    fn counts_what_is_over_the_rate() {
        let mut log = Log::new("m@1".into(), TaskName::default(), 2);
        let start = Instant::now();
        for _ in 0..5 {
            log.write(Level::INFO, "", "x", start);
        }
        assert_eq!((log.lines, log.dropped), (2, 3));
        log.write(Level::ERROR, "", "panicked at src/lib.rs:3:\n  boom", start + WINDOW);
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
            (record_name(&origin, 1), record_name(&origin, 2)),
            ("b-7@11".into(), String::new())
        );
        assert_eq!(cut("aä", 2), "a");
    }
}
