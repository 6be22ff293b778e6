//! A swap, told step by step on stderr while it goes on.

use crate::client::Client;
use crate::failure::Code;
use crate::show;
use anyhow::Result;
use server::api::{Swap, SwapOffsets, SwapTask};
use std::time::{Duration, Instant};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A node that restarts in the middle goes on with the swap by itself; so long it is waited for.
const NODE_WAIT: Duration = Duration::from_secs(60);
/// Differences of a shadow that are told.
const SAMPLES_MAX: usize = 10;
/// How long a shadow is looked at unless `--watch` says.
const SHADOW_MS: u64 = 10_000;

/// Tells how `swap` goes until nothing more happens by itself: it has ended, the canaries have switched, or the shadow
/// was looked at long enough. Gives how it stands then.
pub fn follow(client: &Client, swap: Swap, detach: bool, watch_ms: Option<u64>) -> Result<Swap> {
    let mut told = Told::default();
    told.begun(&swap);
    if detach || swap.id.is_empty() {
        return Ok(swap);
    }
    let (began, path) = (Instant::now(), format!("/v1/pipelines/{}/swap", swap.pipeline));
    let mut shadowed: Option<Instant> = None;
    let mut now = swap;
    loop {
        told.tell(&now, began.elapsed());
        if now.has_ended() {
            told.ended(&now);
            return Ok(now);
        }
        if canaries_stand(&now) {
            told.canary(&now);
            return Ok(now);
        }
        if now.mode == "shadow" && now.phase == "switching" && now.tasks.iter().all(|task| task.state == "shadow") {
            let looked = shadowed.get_or_insert_with(Instant::now).elapsed();
            if looked >= Duration::from_millis(watch_ms.unwrap_or(SHADOW_MS)) {
                told.shadow(&now);
                return Ok(now);
            }
        }
        std::thread::sleep(LOOK_EVERY);
        now = look(client, &path, &now)?;
    }
}

/// The next look at the same swap. A node that is away for a moment is waited for.
fn look(client: &Client, path: &str, last: &Swap) -> Result<Swap> {
    let started = Instant::now();
    let mut said = false;
    loop {
        let error = match client.get::<Swap>(path, &[("id", last.id.clone())]) {
            Ok(swap) => return Ok(swap),
            Err(error) => error,
        };
        let ours = error
            .downcast_ref::<crate::failure::Exit>()
            .is_some_and(|exit| exit.code == Code::Ours);
        if !ours || started.elapsed() > NODE_WAIT {
            return Err(error.context(format!(
                "the swap of {} is not watched any more; it goes on or back by itself, see `wasmill versions {}`",
                last.pipeline, last.pipeline
            )));
        }
        if !said {
            said = true;
            show::say("  ...           the node does not answer; it goes on with the swap when it is back");
        }
        std::thread::sleep(LOOK_EVERY * 4);
    }
}

fn canaries_stand(swap: &Swap) -> bool {
    let alone = |task: &SwapTask| task.state == "left-alone";
    let mut canaries = swap.tasks.iter().filter(|task| !alone(task)).peekable();
    swap.mode == "canary"
        && swap.phase == "switching"
        && canaries.peek().is_some()
        && canaries.all(|task| task.state == "switched")
}

/// What was told, so that nothing is told twice.
#[derive(Default)]
struct Told {
    phase: String,
    line: String,
}

fn step(word: &str, text: &str) {
    let mut lines = text.lines();
    show::say(&format!("  {word:<13} {}", lines.next().unwrap_or_default()));
    for line in lines {
        show::say(&format!("  {:<13} {line}", ""));
    }
}

impl Told {
    fn begun(&mut self, swap: &Swap) {
        for change in &swap.steps {
            show::say(&format!(
                "{}: {} {} -> {}",
                swap.pipeline, change.step, change.from, change.to
            ));
        }
        for done in &swap.prepared {
            let digest = done.digest.get(..12).unwrap_or(&done.digest);
            let mut text = format!(
                "{} (sha256 {digest}, {}) verified and loaded in {}, fits, opened on a trial",
                done.module,
                show::size(done.bytes),
                show::duration(done.loaded_ms)
            );
            if done.migrated > 0 {
                text += &format!(", {} entries migrated on a trial", show::number(done.migrated as i64));
            }
            step("prepared", &text);
        }
        for note in &swap.notes {
            step("note", note);
        }
    }

    fn tell(&mut self, swap: &Swap, after: Duration) {
        let line = match swap.phase.as_str() {
            "switching" => switching(swap),
            "watching" => "every failure still takes the old version back".to_owned(),
            "rolling-back" => swap.reason.clone().unwrap_or_else(|| "asked for".to_owned()),
            _ => return,
        };
        if swap.phase == "watching" && self.phase != "watching" {
            step("switched", &switched(swap, after));
            let left = show::duration(swap.watch_left_ms.unwrap_or_default());
            step(
                "watching",
                &format!("for {left}: {line}; `wasmill promote {}` ends it now", swap.pipeline),
            );
        } else if swap.phase != "watching" && (swap.phase != self.phase || line != self.line) {
            step(&swap.phase.replace('-', " "), &line);
        }
        self.phase.clone_from(&swap.phase);
        self.line = line;
    }

    fn ended(&mut self, swap: &Swap) {
        if swap.phase == "swapped" {
            for change in &swap.steps {
                step("done", &format!("{} runs {}", change.step, change.to));
            }
            return;
        }
        if self.phase != "rolling-back" {
            step("rolling back", swap.reason.as_deref().unwrap_or("asked for"));
        }
        for change in &swap.steps {
            step(
                "rolled back",
                &format!("{} runs {}, as before", change.step, change.from),
            );
        }
        for line in left_behind(&swap.written) {
            step("", &line);
        }
    }

    fn canary(&mut self, swap: &Swap) {
        let count = swap.tasks.iter().filter(|task| task.state == "switched").count();
        step(
            "canary",
            &format!(
                "{count} of {} tasks run the new version, the others wait\n\
                 `wasmill promote {1}` takes all along, `wasmill rollback {1}` goes back",
                swap.tasks.len(),
                swap.pipeline
            ),
        );
    }

    fn shadow(&mut self, swap: &Swap) {
        for line in compared(swap) {
            step("compared", &line);
        }
        step(
            "",
            &format!(
                "the comparison goes on, see `wasmill versions {0}`; `wasmill promote {0}` swaps, \
                 `wasmill rollback {0}` ends it",
                swap.pipeline
            ),
        );
    }
}

fn switching(swap: &Swap) -> String {
    let count = |state: &str| swap.tasks.iter().filter(|task| task.state == state).count();
    let taking_part = swap.tasks.len() - count("left-alone");
    if swap.mode == "shadow" {
        return format!(
            "beside the running version in {} of {taking_part} tasks",
            count("shadow")
        );
    }
    let mut line = format!("{} of {taking_part} tasks switched", count("switched"));
    for (state, word) in [
        ("preparing", "preparing"),
        ("probation", "in probation"),
        ("failed", "failed"),
    ] {
        if count(state) > 0 {
            line += &format!(", {} {word}", count(state));
        }
    }
    line
}

fn switched(swap: &Swap, after: Duration) -> String {
    let mut line = format!(
        "all {} tasks, {} after it was recorded",
        swap.tasks.len(),
        show::duration(after.as_millis() as u64)
    );
    let untried: Vec<&str> = swap
        .tasks
        .iter()
        .filter(|task| task.untried)
        .map(|task| task.task.as_str())
        .collect();
    if !untried.is_empty() {
        line += &format!("\nnot a record came in their probation: {}", untried.join(", "));
    }
    line
}

/// What is read by others although its version is gone.
pub(super) fn left_behind(written: &[SwapOffsets]) -> Vec<String> {
    if written.is_empty() {
        return Vec::new();
    }
    let range = |w: &SwapOffsets| format!("  {}-{} offsets {} to {}", w.topic, w.partition, w.first, w.last);
    let head = "what it had committed stands, between these offsets:".to_owned();
    std::iter::once(head).chain(written.iter().map(range)).collect()
}

fn compared(swap: &Swap) -> Vec<String> {
    let shadows: Vec<_> = swap.tasks.iter().filter_map(|task| task.shadow.as_ref()).collect();
    let sum = |of: fn(&server::api::SwapShadow) -> u64| shadows.iter().map(|s| of(s)).sum::<u64>() as i64;
    let mut lines = vec![format!(
        "{} records: {} rows differ, {} calls of the new version failed",
        show::number(sum(|s| s.records)),
        show::number(sum(|s| s.different)),
        show::number(sum(|s| s.failures))
    )];
    for sample in shadows.iter().flat_map(|shadow| &shadow.samples).take(SAMPLES_MAX) {
        let input = sample.input.as_deref().unwrap_or("no record");
        lines.push(format!("{} of {input}: {} | {}", sample.step, sample.from, sample.to));
    }
    lines
}

/// How a swap that is under way stands, for `versions` and `status`.
pub fn standing(swap: &Swap) -> Vec<String> {
    let mut lines = Vec::new();
    for change in &swap.steps {
        lines.push(format!(
            "under way: {} {} -> {}, since {}",
            change.step,
            change.from,
            change.to,
            show::time(swap.began_at)
        ));
    }
    let phase = match swap.phase.as_str() {
        "switching" => switching(swap),
        "watching" => format!("{} left", show::duration(swap.watch_left_ms.unwrap_or_default())),
        _ => swap.reason.clone().unwrap_or_default(),
    };
    lines.push(format!("  {}: {phase}", swap.phase));
    if swap.mode == "shadow" {
        lines.extend(compared(swap).into_iter().map(|line| format!("  {line}")));
    }
    for task in swap.tasks.iter().filter(|task| task.reason.is_some()) {
        lines.push(format!(
            "  task {}: {}",
            task.task,
            task.reason.as_deref().unwrap_or_default()
        ));
    }
    lines
}
