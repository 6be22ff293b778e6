//! Stream time and punctuations as rows of the internal store, so that they are committed, changelogged and restored
//! like other state.
//!
//! Keys: `t` for the stream time (8 bytes big-endian); `s` + node name + 0 + schedule name for a punctuation; `m` for
//! the marker of a swap (the worker's bytes); `p` + topic for the largest time of an input's rows, where rows without
//! one get that.

use record::TopicPartition;
use state::{Bounds, Stores};

use crate::error::Error;
use crate::plan::Plan;
use crate::queue::{Latest, Queue};
use crate::schedules::{Clock, Running, Schedule, ScheduleId, Schedules};

const STREAM_TIME: &[u8] = b"t";
const SCHEDULE: u8 = b's';
const MARKER: &[u8] = b"m";
const LATEST: u8 = b'p';

fn key(plan: &Plan, id: &ScheduleId) -> Vec<u8> {
    let node = plan.nodes.get(id.node as usize).map(|n| &*n.name).unwrap_or_default();
    [&[SCHEDULE], node.as_bytes(), &[0], id.name.as_bytes()].concat()
}

fn encode(running: &Running) -> Vec<u8> {
    let clock = match running.schedule.clock {
        Clock::StreamTime => 0_u8,
        Clock::WallTime => 1,
    };
    let mut bytes = vec![clock, u8::from(running.schedule.anchor.is_some())];
    bytes.extend_from_slice(&running.schedule.every_ms.to_be_bytes());
    for time in [running.schedule.anchor.unwrap_or_default(), running.grid, running.due] {
        bytes.extend_from_slice(&time.to_be_bytes());
    }
    bytes
}

fn decode(bytes: &[u8]) -> Option<Running> {
    let (head, numbers) = bytes.split_first_chunk::<2>()?;
    let (numbers, rest) = numbers.as_chunks::<8>();
    let ([clock, anchored], [every, anchor, grid, due], []) = (head, numbers, rest) else {
        return None;
    };
    let clock = match clock {
        0 => Clock::StreamTime,
        1 => Clock::WallTime,
        _ => return None,
    };
    let anchor = (*anchored == 1).then(|| i64::from_be_bytes(*anchor));
    let schedule = Schedule {
        every_ms: u64::from_be_bytes(*every),
        clock,
        anchor,
    };
    Some(Running {
        schedule,
        grid: i64::from_be_bytes(*grid),
        due: i64::from_be_bytes(*due),
    })
}

/// Writes what changed since the last commit; `queues` are the task's.
pub fn write(
    plan: &Plan,
    stores: &mut Stores,
    schedules: &mut Schedules,
    queues: &[Queue],
    stream_time: i64,
    committed_stream_time: i64,
) -> Result<(), Error> {
    let changed = schedules.take_changed();
    let Some(store) = plan.times else { return Ok(()) };
    let timestamp = stream_time.max(0);
    if stream_time != committed_stream_time {
        stores.write(store, STREAM_TIME, Some(&stream_time.to_be_bytes()), timestamp)?;
    }
    for queue in queues {
        if let Some(latest) = queue.latest_changed() {
            let key = latest_key(&queue.partition);
            stores.write(store, &key, Some(&latest.to_be_bytes()), timestamp)?;
        }
    }
    for (id, running) in changed {
        let (key, value) = (key(plan, &id), running.as_ref().map(encode));
        // A change that was undone is none.
        if stores.read(store, &key, |stored| stored != value.as_deref())? {
            stores.write(store, &key, value.as_deref(), timestamp)?;
        }
    }
    Ok(())
}

fn latest_key(partition: &TopicPartition) -> Vec<u8> {
    [&[LATEST], partition.topic.as_bytes()].concat()
}

/// Brings back the largest time of the rows of each input.
pub fn read_latest(plan: &Plan, stores: &mut Stores, queues: &mut [Queue]) -> Result<(), Error> {
    let Some(store) = plan.times else { return Ok(()) };
    for queue in queues {
        let found = stores.read(store, &latest_key(&queue.partition), |stored| {
            stored.and_then(|stored| stored.try_into().ok()).map(i64::from_be_bytes)
        })?;
        if let Some(found) = found {
            queue.latest = Latest::new(found);
        }
    }
    Ok(())
}

/// The stream time and the punctuations that the store holds. Those of steps that are no longer there are left alone.
pub fn read(plan: &Plan, stores: &mut Stores) -> Result<(i64, Vec<(ScheduleId, Running)>), Error> {
    let Some(store) = plan.times else {
        return Ok((-1, Vec::new()));
    };
    let mut stream_time = -1;
    let mut found = Vec::new();
    let mut broken = None;
    stores.scan(store, &Bounds::all(), false, &mut |key, value| {
        if key == STREAM_TIME {
            match <[u8; 8]>::try_from(value) {
                Ok(bytes) => stream_time = i64::from_be_bytes(bytes),
                Err(_) => broken = Some(key.to_vec()),
            }
        } else if let Some((&SCHEDULE, rest)) = key.split_first() {
            let mut parts = rest.splitn(2, |b| *b == 0);
            let name = |part: Option<&[u8]>| part.and_then(|p| std::str::from_utf8(p).ok()).map(str::to_owned);
            match (name(parts.next()), name(parts.next()), decode(value)) {
                (Some(node), Some(name), Some(running)) => found.push((node, name, running)),
                _ => broken = Some(key.to_vec()),
            }
        }
        broken.is_none()
    })?;
    if let Some(key) = broken {
        let cause = format!("the entry `{}` makes no sense", String::from_utf8_lossy(&key));
        return Err(Error::State(state::Error::Storage {
            doing: "read the times of the task".into(),
            cause,
        }));
    }
    let number = |node: &str| plan.nodes.iter().position(|n| &*n.name == node);
    let schedules = found.into_iter().filter_map(|(node, name, running)| {
        Some((
            ScheduleId {
                node: number(&node)? as u32,
                name,
            },
            running,
        ))
    });
    Ok((stream_time, schedules.collect()))
}

/// The marker of a swap.
pub fn marker(plan: &Plan, stores: &mut Stores) -> Result<Option<Vec<u8>>, Error> {
    match plan.times {
        Some(store) => Ok(stores.read(store, MARKER, |value| value.map(<[u8]>::to_vec))?),
        None => Ok(None),
    }
}

/// Writes the marker of a swap, or (`None`) removes it.
pub fn set_marker(plan: &Plan, stores: &mut Stores, marker: Option<&[u8]>, timestamp: i64) -> Result<(), Error> {
    match plan.times {
        Some(store) => Ok(stores.write(store, MARKER, marker, timestamp)?),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (clock, anchor) in [(Clock::StreamTime, None), (Clock::WallTime, Some(-5))] {
            let running = Running {
                schedule: Schedule {
                    every_ms: u64::MAX,
                    clock,
                    anchor,
                },
                grid: i64::MIN,
                due: i64::MAX,
            };
            assert_eq!(decode(&encode(&running)), Some(running));
        }
        assert_eq!(decode(&[0; 33]), None);
    }
}
