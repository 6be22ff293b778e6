//! Uses what the value of each record says of the world outside, and sends on what it got.
//!
//! - `env NAME`, `clock`, `random`, `http URL`: whether or not they are granted
//! - `granted`: which of them are
//!
//! Its description asks for all of them as optional.
use wasmill_guest::prelude::*;
use wasmill_guest::{Env, Random, SystemClock};

struct Reach {
    asked: Input<(), String>,
    got: Output<(), String>,
    env: Env,
    clock: SystemClock,
    random: Random,
    http: Http,
}

impl Processor for Reach {
    fn declare(m: &mut Module) -> Self {
        Reach {
            asked: m.input("asked"),
            got: m.output("got"),
            env: m.optional(|m| m.env("a test", &["REGION"])),
            clock: m.optional(|m| m.clock("a test")),
            random: m.optional(|m| m.random("a test")),
            http: m.optional(|m| m.http("a test")),
        }
    }

    fn process(&mut self, row: Row<'_>, out: &mut Outbox) -> Outcome {
        let Some(asked) = row.of(&self.asked)? else {
            return done();
        };
        let got = match asked.value.split_once(' ').unwrap_or((&asked.value, "")) {
            ("env", name) => format!("{:?}", self.env.get(name)),
            ("clock", _) => format!("{} {}", self.clock.wall_ms(), self.clock.monotonic_ns()),
            ("random", _) => format!("{} {:?}", self.random.number(), self.random.bytes(3)),
            ("http", url) => match self.http.fetch(Request::get(url)) {
                Ok(response) => format!("{} {}", response.status(), response.text()),
                Err(problem) => format!("{:?}: {problem}", problem.cause()),
            },
            _ => format!(
                "env {:?} clock {} random {} http {:?}",
                self.env.names(),
                self.clock.granted(),
                self.random.granted(),
                self.http.origins()
            ),
        };
        out.send_value(&self.got, got);
        done()
    }
}

wasmill_guest::processor!(Reach);
