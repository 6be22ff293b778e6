//! Where a stream thread is, written down for kill tests: off unless the environment asks for it.
//!
//! `WASMILL_STEPS_FILE`: byte i of the file is the last [`CrashPoint`] of thread i, so that it can be read after a
//! SIGKILL. `WASMILL_KILL_AT=offsets-sent:25`: the process kills itself at the 25th time that any thread takes that step.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use worker::crash::{CrashPoint, Steps, Unwatched};

struct Watched {
    file: Option<File>,
    thread: u64,
    kill_at: Option<(String, u64)>,
}

/// Of all threads together.
static HITS: AtomicU64 = AtomicU64::new(0);

/// What thread number `thread` reports to.
pub(super) fn watch(thread: usize) -> Arc<dyn Steps> {
    static FILE: OnceLock<Option<String>> = OnceLock::new();
    let path = FILE.get_or_init(|| std::env::var("WASMILL_STEPS_FILE").ok());
    let kill_at = std::env::var("WASMILL_KILL_AT").ok().and_then(|text| {
        let (step, count) = text.split_once(':')?;
        Some((step.to_owned(), count.parse().ok()?))
    });
    if path.is_none() && kill_at.is_none() {
        return Arc::new(Unwatched);
    }
    let open = |path: &String| {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .ok()
    };
    Arc::new(Watched {
        file: path.as_ref().and_then(open),
        thread: thread as u64,
        kill_at,
    })
}

impl Steps for Watched {
    fn at(&self, point: CrashPoint) -> bool {
        if let Some(file) = &self.file {
            // A test hook: a step that cannot be written down is missing in the test's report, which says so.
            drop(file.write_all_at(&[point as u8 + 1], self.thread));
        }
        if let Some((step, count)) = &self.kill_at
            && step == point.as_str()
            && HITS.fetch_add(1, Ordering::Relaxed) + 1 == *count
        {
            die();
        }
        false
    }
}

/// SIGKILL, as from outside: nothing of ours runs any more.
fn die() -> ! {
    loop {
        let pid = std::process::id().to_string();
        drop(std::process::Command::new("kill").args(["-9", &pid]).status());
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
}
