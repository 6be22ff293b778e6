//! A stream thread's way to the coordinator: at-least-once, positions are committed by a member of the group.

use super::runner::{Shared, clock};
use broker::{CommittedOffset, Error, ErrorKind};
use crossbeam_channel::{Sender, bounded};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const POSITIONS_WAIT: Duration = Duration::from_secs(10);

pub(super) struct PositionRequest {
    pub(super) offsets: Vec<CommittedOffset>,
    pub(super) answer: Sender<Result<(), Error>>,
}

pub(super) struct Committer {
    pub(super) requests: Sender<PositionRequest>,
    pub(super) shared: Arc<Shared>,
}

impl worker::PositionCommitter for Committer {
    fn commit(&mut self, offsets: &[CommittedOffset]) -> Result<(), Error> {
        let unavailable = |cause: &str| Error::new(ErrorKind::Unavailable, "commit positions", cause);
        let (answer, done) = bounded(1);
        let request = PositionRequest {
            offsets: offsets.to_vec(),
            answer,
        };
        self.requests
            .send(request)
            .map_err(|_| unavailable("the coordinator is gone"))?;
        done.recv_timeout(POSITIONS_WAIT)
            .map_err(|_| unavailable("the coordinator does not answer"))?
    }

    fn confirmed_ago_ms(&mut self) -> Option<u64> {
        let at = self.shared.confirmed_at.load(Ordering::Relaxed);
        (at >= 0).then(|| clock().saturating_sub(at).max(0) as u64)
    }
}
