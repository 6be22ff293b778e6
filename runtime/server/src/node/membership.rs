//! The loop around a pipeline's coordinator: this node's membership in the group, and the leading of it.

use super::committer::PositionRequest;
use super::runner::{RESTART_PAUSE, Shared, ThreadShare, clock, tasks_of};
use super::{Node, lock, standbys};
use crate::registry::PipelineEntry;
use broker::{Broker, Error, ErrorKind};
use crossbeam_channel::Receiver;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use worker::coordinator::{self, Coordinator};

/// Between two polls of a coordinator, unless a thread asks it to commit.
const PAUSE: Duration = Duration::from_millis(20);
/// While a membership begins or a placement is on its way: each takes several polls, and tasks wait for it.
const HASTE: Duration = Duration::from_millis(2);

/// `follows`: whether this node keeps standbys of the pipeline.
pub(super) fn options(node: &Node, entry: &PipelineEntry, follows: bool) -> coordinator::Options {
    let name = &entry.details.topology.name;
    coordinator::Options {
        stateful: standbys::stateful(entry),
        standbys: entry.details.topology.standbys as usize,
        follows,
        address: node.config.advertised(),
        rack: Some(node.config.rack.clone()).filter(|rack| !rack.is_empty()),
        session_timeout: node.config.session_timeout,
        ..coordinator::Options::new(name, &node.config.node, entry.record.run(), tasks_of(entry))
    }
}

/// Until the stream threads are gone.
pub(super) fn follow(
    broker: &Arc<dyn Broker>,
    options: &coordinator::Options,
    shared: &Shared,
    requests: &Receiver<PositionRequest>,
) {
    let mut coordinator: Option<Coordinator> = None;
    // As much of the placement topic as `shared` shows.
    let mut seen = -1;
    let mut pause = HASTE;
    // Stream threads commit through this one: it goes when their senders are gone.
    loop {
        let request = match requests.recv_timeout(pause) {
            Ok(request) => Some(request),
            Err(crossbeam_channel::RecvTimeoutError::Timeout) => None,
            Err(crossbeam_channel::RecvTimeoutError::Disconnected) => break,
        };
        let polled = match &mut coordinator {
            Some(coordinator) => advance(coordinator, shared, &options.pipeline, &mut seen).map(|settled| {
                pause = if settled { PAUSE } else { HASTE };
            }),
            // A node without its global tables is no place for a task.
            None if !shared.globals.are_whole() => continue,
            none => Coordinator::new(broker.clone(), options.clone()).map(|new| {
                *none = Some(new);
            }),
        };
        match polled {
            Ok(()) => *lock(&shared.trouble) = None,
            Err(error) => {
                tracing::warn!(pipeline = %options.pipeline, %error, "the coordinator starts anew");
                *lock(&shared.trouble) = Some(error.to_string());
                shared.leads.store(false, Ordering::Relaxed);
                coordinator = None;
                std::thread::sleep(RESTART_PAUSE);
            }
        }
        if let Some(request) = request {
            let done = match &mut coordinator {
                Some(coordinator) => coordinator.commit(&request.offsets),
                None => Err(Error::new(ErrorKind::Unavailable, "commit positions", "no membership")),
            };
            // A thread that waits no longer has drawn its conclusion.
            drop(request.answer.send(done));
        }
    }
    if shared.leave.load(Ordering::Relaxed)
        && let Some(coordinator) = coordinator
        && let Err(error) = coordinator.finish()
    {
        tracing::warn!(pipeline = %options.pipeline, %error, "left the group by silence, which takes a session");
    }
}

/// One step; whether nothing is on its way.
fn advance(coordinator: &mut Coordinator, shared: &Shared, pipeline: &str, seen: &mut i64) -> Result<bool, Error> {
    let thread = |t: &ThreadShare| coordinator::Thread {
        id: t.id.clone(),
        advanced_at: t.advanced_at.load(Ordering::Relaxed),
    };
    let threads: Vec<_> = shared.threads.iter().map(thread).collect();
    let now = clock();
    if shared.hands_over.load(Ordering::Relaxed) {
        coordinator.leave();
    }
    let standbys = lock(&shared.standbys);
    let warm = standbys.iter().filter(|standby| standby.warm);
    coordinator.set_warm(&warm.map(|standby| standby.task).collect());
    drop(standbys);
    let status = coordinator.poll(now, &threads)?;
    shared.handed_over.store(status.left, Ordering::Relaxed);
    if !status.membership.member_id.is_empty() {
        let confirmed = now - status.membership.confirmed_ago.as_millis() as i64;
        shared.confirmed_at.store(confirmed, Ordering::Relaxed);
    }
    if shared.leads.swap(status.leads, Ordering::Relaxed) != status.leads {
        let leads = if status.leads { "leads now" } else { "leads no more" };
        tracing::info!(%pipeline, "this node {leads}");
    }
    if coordinator.position() != *seen {
        *seen = coordinator.position();
        *lock(&shared.view) = coordinator.view().clone();
    }
    Ok(status.settled)
}
