//! The last messages of guests, in memory, and those who follow them.
//!
//! Bounded in lines and bytes: the oldest go first, and a reader that falls behind is told how many it missed. Levels
//! finer than `info` cost nothing while nobody follows them: guests are told that they are off.

use crate::api::letters::Place;
use crate::api::logs::{LogLine, LogsRequest};
use crate::refusal::Refusal;
use crate::registry::now_ms;
use sandbox::{GuestLine, LogSink};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tracing::Level;

/// An hour of a talkative step; with the bound in bytes, what a node can spare.
const LINES_MAX: usize = 10_000;
const BYTES_MAX: usize = 8 << 20;
/// What a line takes beside its message.
const LINE_BYTES: usize = 200;

const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
/// Position in [`LEVELS`] of what is always kept.
const KEPT: usize = 2;

#[derive(Debug, Default)]
struct Book {
    lines: VecDeque<(Level, Arc<LogLine>)>,
    /// Number of the first line that is there; lines count from 0.
    first: u64,
    bytes: usize,
}

/// See the page.
#[derive(Debug)]
pub(crate) struct GuestLog {
    book: Mutex<Book>,
    /// The number that the next line will have.
    next: watch::Sender<u64>,
    /// Followers by level.
    followers: [AtomicUsize; LEVELS.len()],
}

impl Default for GuestLog {
    fn default() -> Self {
        Self {
            book: Mutex::default(),
            next: watch::Sender::new(0),
            followers: Default::default(),
        }
    }
}

impl LogSink for GuestLog {
    fn level(&self) -> Level {
        let wanted = |at: &usize| {
            *at <= KEPT
                || self
                    .followers
                    .get(*at)
                    .is_some_and(|count| count.load(Ordering::Relaxed) > 0)
        };
        let finest = (0..LEVELS.len()).rev().find(wanted);
        finest.and_then(|at| LEVELS.get(at)).copied().unwrap_or(Level::INFO)
    }

    fn write(&self, line: GuestLine<'_>) {
        let shown = LogLine {
            at: now_ms(),
            level: line.level.as_str().to_lowercase(),
            pipeline: line.task.pipeline.clone(),
            step: line.task.step.clone(),
            task: format!("{}_{}", line.task.sub_topology, line.task.partition),
            module: line.module.to_owned(),
            record: line.record.map(|(partition, offset)| Place {
                topic: partition.topic.to_string(),
                partition: partition.partition,
                offset,
            }),
            message: line.message.to_owned(),
        };
        let mut book = super::lock(&self.book);
        book.bytes += shown.message.len() + LINE_BYTES;
        book.lines.push_back((line.level, Arc::new(shown)));
        while book.lines.len() > LINES_MAX || book.bytes > BYTES_MAX {
            let Some((_, gone)) = book.lines.pop_front() else { break };
            book.bytes = book.bytes.saturating_sub(gone.message.len() + LINE_BYTES);
            book.first += 1;
        }
        let next = book.first + book.lines.len() as u64;
        drop(book);
        self.next.send_replace(next);
    }
}

/// One reader of the log, with its filter and its place in it.
#[derive(Debug)]
pub(crate) struct Follower {
    log: Arc<GuestLog>,
    request: LogsRequest,
    /// Position in [`LEVELS`].
    level: usize,
    at: u64,
    news: watch::Receiver<u64>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(count) = self.log.followers.get(self.level) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl GuestLog {
    pub(crate) fn follow(self: &Arc<Self>, request: LogsRequest) -> Result<Follower, Refusal> {
        let name = request.level.as_deref().unwrap_or("info");
        let level = LEVELS
            .iter()
            .position(|level| level.as_str().eq_ignore_ascii_case(name));
        let level = level.ok_or_else(|| {
            let message = format!("level `{name}` is none of error, warn, info, debug, trace");
            Refusal::invalid("invalid-level", message)
        })?;
        if let Some(count) = self.followers.get(level) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let book = super::lock(&self.book);
        let mut follower = Follower {
            log: self.clone(),
            level,
            at: book.first,
            news: self.next.subscribe(),
            request,
        };
        if let Some(tail) = follower.request.tail {
            let fitting = |(_, line): &(usize, &(Level, Arc<LogLine>))| follower.wants(&line.0, &line.1);
            let places = book.lines.iter().enumerate().filter(fitting).map(|(place, _)| place);
            let places: Vec<usize> = places.collect();
            let skip = places.len().saturating_sub(tail);
            let place = places.get(skip).copied().unwrap_or(book.lines.len());
            follower.at = book.first + place as u64;
        }
        drop(book);
        Ok(follower)
    }
}

impl Follower {
    fn wants(&self, level: &Level, line: &LogLine) -> bool {
        let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        LEVELS.get(self.level).is_some_and(|finest| level <= finest)
            && fits(&self.request.pipeline, &line.pipeline)
            && fits(&self.request.step, &line.step)
            && self.request.since.is_none_or(|since| line.at >= since)
    }

    pub(crate) fn follows(&self) -> bool {
        self.request.follow
    }

    /// What came since the last call, and how many lines before that were dropped.
    pub(crate) fn take(&mut self) -> (u64, Vec<Arc<LogLine>>) {
        let book = super::lock(&self.log.book);
        let missed = book.first.saturating_sub(self.at);
        let skip = usize::try_from(self.at.saturating_sub(book.first)).unwrap_or(usize::MAX);
        let new = book.lines.iter().skip(skip);
        let wanted = new.filter(|(level, line)| self.wants(level, line));
        let lines = wanted.map(|(_, line)| line.clone()).collect();
        self.at = book.first + book.lines.len() as u64;
        (missed, lines)
    }

    /// Waits for another line. An error: the log is gone.
    pub(crate) async fn news(&mut self) -> Result<(), watch::error::RecvError> {
        let at = self.at;
        self.news.wait_for(|next| *next > at).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use record::TopicPartition;
    use sandbox::TaskName;

    fn write(log: &GuestLog, level: Level, step: &str, message: &str) {
        let task = TaskName {
            pipeline: "p".into(),
            step: step.into(),
            sub_topology: 1,
            partition: 2,
        };
        let partition = TopicPartition::new("lines", 2);
        log.write(GuestLine {
            level,
            module: "m@1",
            task: &task,
            record: Some((&partition, 7)),
            message,
        });
    }

    fn messages(follower: &mut Follower) -> (u64, Vec<String>) {
        let (missed, lines) = follower.take();
        (missed, lines.iter().map(|line| line.message.clone()).collect())
    }

    fn request(level: &str, step: Option<&str>, tail: Option<usize>) -> LogsRequest {
        LogsRequest {
            level: Some(level.into()),
            step: step.map(str::to_owned),
            tail,
            ..LogsRequest::default()
        }
    }

    #[test]
    fn lines_are_chosen_by_level_step_and_tail() {
        let log = Arc::new(GuestLog::default());
        for (level, step, message) in [
            (Level::INFO, "a", "one"),
            (Level::WARN, "b", "two"),
            (Level::INFO, "a", "three"),
        ] {
            write(&log, level, step, message);
        }
        let mut all = log.follow(request("info", None, None)).unwrap();
        assert_eq!(
            messages(&mut all),
            (0, vec!["one".into(), "two".into(), "three".into()])
        );
        let mut loud = log.follow(request("warn", None, None)).unwrap();
        assert_eq!(messages(&mut loud), (0, vec!["two".into()]));
        let mut last = log.follow(request("info", Some("a"), Some(1))).unwrap();
        assert_eq!(messages(&mut last), (0, vec!["three".into()]));
        write(&log, Level::ERROR, "a", "four");
        assert_eq!(messages(&mut last), (0, vec!["four".into()]));
        let (_, lines) = all.take();
        let line = lines.first().unwrap();
        assert_eq!(
            (line.task.as_str(), line.record.clone().unwrap().to_string()),
            ("1_2", "lines-2-7".into())
        );
        assert!(log.follow(request("loud", None, None)).is_err());
    }

    #[test]
    fn who_falls_behind_is_told_how_many_it_missed() {
        let log = Arc::new(GuestLog::default());
        let mut slow = log.follow(request("info", None, None)).unwrap();
        for n in 0..LINES_MAX + 5 {
            write(&log, Level::INFO, "a", &n.to_string());
        }
        let (missed, lines) = messages(&mut slow);
        assert_eq!(
            (missed, lines.len(), lines.first().unwrap().as_str()),
            (5, LINES_MAX, "5")
        );
        let mut long = log.follow(request("info", None, Some(0))).unwrap();
        let message = "x".repeat(BYTES_MAX / 4);
        for _ in 0..8 {
            write(&log, Level::INFO, "a", &message);
        }
        let (missed, lines) = messages(&mut long);
        assert_eq!((missed, lines.len()), (5, 3), "bytes are bounded too");
    }

    #[test]
    fn finer_levels_are_on_while_somebody_follows_them() {
        let log = Arc::new(GuestLog::default());
        assert_eq!(log.level(), Level::INFO);
        let follower = log.follow(request("debug", None, None)).unwrap();
        assert_eq!(log.level(), Level::DEBUG);
        drop(follower);
        assert_eq!(log.level(), Level::INFO);
    }
}
