//! The sandbox from outside, on components of a few instructions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod application;
mod calls;
mod guest;
mod loading;

use record::{Batch, BatchBuilder, TopicPartition};
use task::Processor;
use task::processor::{Context, Input, Now, Origin};
use topology::Limits;

use crate::{InstanceOptions, Module, Sandbox, SandboxOptions};
use guest::Guest;

fn sandbox() -> Sandbox {
    Sandbox::new(SandboxOptions::default()).unwrap()
}

fn load(guest: &Guest<'_>) -> Module {
    sandbox().load(&guest.build()).unwrap()
}

fn opened(guest: &Guest<'_>, limits: Limits) -> (Box<dyn Processor>, Context) {
    let mut processor = load(guest)
        .instance(InstanceOptions {
            limits,
            ..InstanceOptions::default()
        })
        .unwrap();
    let mut context = Context::default();
    processor.open(&mut context).unwrap();
    (processor, context)
}

/// Values with null keys, at timestamps 0, 1, …
fn batch(values: &[Option<&str>]) -> Batch {
    let mut builder = BatchBuilder::default();
    for (i, value) in values.iter().enumerate() {
        builder.push(Some(format!("k{i}").as_bytes()), value.map(str::as_bytes), i as i64);
    }
    builder.finish()
}

fn input(batch: Batch) -> Input {
    let rows = batch.len();
    Input {
        origin: Origin {
            partitions: vec![TopicPartition::new("words", 3)],
            partition_of: vec![0; rows],
            offsets: (100..100 + rows as i64).collect(),
        },
        stream_times: batch.timestamp_buffer().clone(),
        ports: vec![],
        batch,
    }
}

const NOW: Now = Now {
    stream_time: -1,
    wall_time: 1_000,
};
