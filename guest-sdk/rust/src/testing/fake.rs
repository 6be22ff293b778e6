//! The host of a native test: stores, schedules and a log in memory.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use crate::bindings::wasmill::data::columns::Column;
use crate::bindings::wasmill::log::log::Level;
use crate::bindings::wasmill::state::key_value::{Entries, Page};
use crate::bindings::wasmill::timers::timers::{Clock, Schedule};
use crate::columns::ColumnBuilder;
use crate::testing::outside::Outside;

thread_local! {
    /// The host of the call that runs on this thread.
    static CURRENT: RefCell<Option<Rc<RefCell<Host>>>> = const { RefCell::new(None) };
}

/// Runs a call of the module with this host behind it.
pub(crate) fn call<T>(host: &Rc<RefCell<Host>>, run: impl FnOnce() -> T) -> T {
    CURRENT.set(Some(Rc::clone(host)));
    let result = run();
    CURRENT.set(None);
    result
}

/// The host of the running call, or a fresh one that nobody looks at (a unit test of a function that logs).
pub(crate) fn with<T>(run: impl FnOnce(&mut Host) -> T) -> T {
    let host = CURRENT.with_borrow_mut(|current| Rc::clone(current.get_or_insert_with(Rc::default)));
    run(&mut host.borrow_mut())
}

/// Few, so that tests of a dozen entries meet the edges between pages.
const PAGE_ROWS_MAX: usize = 3;

#[derive(Default)]
pub(crate) struct Host {
    pub(crate) stores: Vec<BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(crate) schedules: BTreeMap<String, Running>,
    pub(crate) log: Vec<(Level, String)>,
    pub(crate) stream_time: i64,
    pub(crate) wall_time: i64,
    /// Stream time at each row of the running call.
    pub(crate) stream_times: Vec<i64>,
    /// The running call may have at most so many rows, because a schedule that it started falls due there. Stopping the
    /// schedule later in the call changes nothing about that.
    pub(crate) cut: Option<usize>,
    /// Calls that read from or wrote to stores.
    pub(crate) store_calls: usize,
    pub(crate) outside: Outside,
}

/// A schedule and the time at which it is due.
#[derive(Clone, Copy)]
pub(crate) struct Running {
    pub(crate) schedule: Schedule,
    pub(crate) due: i64,
}

impl Running {
    /// The next point of the grid after `now`: intervals that were jumped over are not made up for.
    pub(crate) fn fired(&mut self, now: i64) {
        let every = i64::try_from(self.schedule.every_ms).unwrap_or(i64::MAX);
        let missed = now.saturating_sub(self.due) / every;
        self.due = self.due.saturating_add(every.saturating_mul(missed.saturating_add(1)));
    }
}

impl Host {
    pub(crate) fn time(&self, clock: Clock) -> i64 {
        match clock {
            Clock::StreamTime => self.stream_time,
            Clock::WallTime => self.wall_time,
        }
    }

    fn store(&mut self, store: u32) -> &mut BTreeMap<Vec<u8>, Vec<u8>> {
        self.store_calls += 1;
        &mut self.stores[store as usize]
    }

    pub(crate) fn get(&mut self, store: u32, keys: &Column) -> Entries {
        let store = self.store(store);
        let mut values = ColumnBuilder::default();
        keys.iter()
            .for_each(|key| values.push(key.and_then(|key| store.get(key)).map(Vec::as_slice)));
        Entries {
            keys: keys.clone(),
            values: values.finish(),
            timestamps: Vec::new(),
        }
    }

    pub(crate) fn put(&mut self, store: u32, entries: &Entries) {
        let store = self.store(store);
        for (key, value) in entries.keys.iter().zip(entries.values.iter()) {
            let key = key.expect("a key that is written is not null").to_vec();
            match value {
                Some(value) => store.insert(key, value.to_vec()),
                None => store.remove(&key),
            };
        }
    }

    pub(crate) fn range(
        &mut self,
        store: u32,
        lower: Option<&[u8]>,
        upper: Option<&[u8]>,
        after: bool,
        limit: u32,
    ) -> Page {
        let lower = lower.map_or(Bound::Unbounded, |key| {
            if after {
                Bound::Excluded(key)
            } else {
                Bound::Included(key)
            }
        });
        let limit = PAGE_ROWS_MAX.min(limit as usize);
        let (mut keys, mut values, mut more) = (ColumnBuilder::default(), ColumnBuilder::default(), false);
        for (key, value) in self.store(store).range::<[u8], _>((lower, Bound::Unbounded)) {
            if upper.is_some_and(|upper| key.as_slice() >= upper) {
                break;
            }
            if keys.rows() == limit {
                more = true;
                break;
            }
            keys.push(Some(key));
            values.push(Some(value));
        }
        let entries = Entries {
            keys: keys.finish(),
            values: values.finish(),
            timestamps: Vec::new(),
        };
        Page { entries, more }
    }

    pub(crate) fn log(&mut self, level: Level, message: &str, _: Option<u32>) {
        self.log.push((level, message.to_owned()));
    }

    pub(crate) fn start(&mut self, name: &str, schedule: Schedule, row: Option<u32>) {
        assert!(
            (1..=64).contains(&name.len()),
            "the name of a schedule is 1 to 64 bytes long, not `{name}`"
        );
        assert!(schedule.every_ms > 0, "schedule `{name}` has no interval");
        let same =
            |a: &Schedule, b: &Schedule| (a.every_ms, a.clock as u8, a.anchor) == (b.every_ms, b.clock as u8, b.anchor);
        if self
            .schedules
            .get(name)
            .is_some_and(|running| same(&running.schedule, &schedule))
        {
            return;
        }
        let now = match (schedule.clock, row) {
            (Clock::StreamTime, Some(row)) => self.stream_times[row as usize],
            (clock, _) => self.time(clock),
        };
        let anchor = schedule.anchor.unwrap_or(now.max(0));
        let mut running = Running { schedule, due: anchor };
        if anchor <= now {
            running.fired(now);
        }
        if let (Clock::StreamTime, Some(row)) = (schedule.clock, row) {
            let due = self
                .stream_times
                .iter()
                .skip(row as usize)
                .position(|time| *time >= running.due);
            let cut = due.map(|after| row as usize + after + 1);
            self.cut = [self.cut, cut].into_iter().flatten().min();
        }
        self.schedules.insert(name.to_owned(), running);
    }

    pub(crate) fn stop(&mut self, name: &str) {
        self.schedules.remove(name);
    }
}

/// What an undone call puts back.
pub(crate) type Saved = (Vec<BTreeMap<Vec<u8>, Vec<u8>>>, BTreeMap<String, Running>);

impl Host {
    pub(crate) fn save(&self) -> Saved {
        (self.stores.clone(), self.schedules.clone())
    }

    pub(crate) fn restore(&mut self, saved: Saved) {
        (self.stores, self.schedules) = saved;
    }

    /// How many rows a call may have: it ends with the first that makes a punctuation due.
    pub(crate) fn rows_until_due(&self, stream_times: &[i64]) -> usize {
        let by_stream_time = |running: &&Running| matches!(running.schedule.clock, Clock::StreamTime);
        let due = self
            .schedules
            .values()
            .filter(by_stream_time)
            .map(|running| running.due)
            .min();
        let row = due.and_then(|due| stream_times.iter().position(|time| *time >= due));
        row.map_or(stream_times.len(), |row| row + 1)
    }

    /// The schedule of this clock that was due first, if any is.
    pub(crate) fn due(&self, clock: Clock) -> Option<String> {
        let now = self.time(clock);
        let mine = |running: &Running| running.schedule.clock as u8 == clock as u8 && running.due <= now;
        let due = self.schedules.iter().filter(|(_, running)| mine(running));
        due.min_by_key(|(_, running)| running.due).map(|(name, _)| name.clone())
    }

    pub(crate) fn fired(&mut self, name: &str, now: i64) {
        if let Some(running) = self.schedules.get_mut(name) {
            running.fired(now);
        }
    }
}
