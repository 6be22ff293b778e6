//! What a module wants of the world outside: how it is described, and how a native test stands in for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use wasmill_guest::component::{Component, Running};
use wasmill_guest::prelude::*;
use wasmill_guest::{Cause, Env, Problem, Random, Response, SystemClock};

/// Sends on what it sees of the world for every row, and asks for each row twice: once queued, once alone.
struct Everything {
    asked: Input<(), String>,
    seen: Output<(), String>,
    http: Http,
    env: Env,
    clock: SystemClock,
    random: Random,
}

impl Processor for Everything {
    fn declare(m: &mut Module) -> Self {
        Everything {
            asked: m.input("asked"),
            seen: m.output("seen"),
            http: m.http_to("asks", &["https://a.example"]),
            env: m.env("where it runs", &["REGION"]),
            clock: m.optional(|m| m.clock("measures \"it\"")),
            random: m.random("draws"),
        }
    }

    fn prefetch(&self, rows: &Rows) -> Result<()> {
        for row in rows.of(&self.asked).filter(|row| row.value != "alone") {
            self.http.queue(row.row, Request::get(format!("/{}", row.value)));
        }
        Ok(())
    }

    fn process(&mut self, row: Row<'_>, out: &mut Outbox) -> Outcome {
        let Some(asked) = row.of(&self.asked)? else {
            return done();
        };
        let response = match self.http.answer(asked.row) {
            Some(answer) => answer?,
            None => self.http.fetch(Request::post("/alone").body("x").header("x-a", "1"))?,
        };
        let region = self.env.require("REGION")?;
        let seen = format!(
            "{} {region} {} {}",
            response.text(),
            self.clock.wall_ms(),
            self.random.bytes(9).len()
        );
        out.send_value(&self.seen, seen);
        done()
    }
}

fn server(request: &Request) -> wasmill_guest::Answer {
    match (request.method(), request.url()) {
        (_, "/later") => Err(Problem::new(Cause::Timeout, "no answer yet")),
        (_, "/never") => Err(Problem::new(Cause::Denied, "not granted")),
        (method, url) => Ok(Response::new(200, format!("{method} {url}"))),
    }
}

fn started() -> testing::Test<Everything> {
    let start = testing::run::<Everything>()
        .http(server)
        .env("REGION", "eu")
        .wall_time(1_000);
    start.start()
}

#[test]
fn what_is_wanted_is_described() {
    let described = Running::<Everything>::describe("m", "1", "");
    let wants: Vec<String> = described
        .capabilities
        .iter()
        .map(|c| {
            let options: Vec<String> = c.options.iter().map(|o| format!("{} = {}", o.name, o.value)).collect();
            format!("{} ({}) {}", c.name, c.reason, options.join(", "))
        })
        .collect();
    assert_eq!(
        wants,
        [
            "http (asks) origins = [\"https://a.example\"]",
            "env (where it runs) names = [\"REGION\"]",
            "clock (measures \"it\") optional = true",
            "random (draws) ",
        ]
    );
}

#[test]
fn a_batch_is_asked_for_at_once() {
    let mut t = started();
    t.pipe_batch("asked", [((), "a", 0), ((), "alone", 0), ((), "b", 0)]);
    let seen: Vec<String> = t
        .read::<(), String>("seen")
        .into_iter()
        .map(|sent| sent.value)
        .collect();
    assert_eq!(seen, ["GET /a eu 1000 9", "POST /alone eu 1000 9", "GET /b eu 1000 9"]);
    assert_eq!(t.request_rounds(), [2, 1]);
    assert_eq!(t.requests()[2].bytes(), b"x");
    // What was queued for one call says nothing in the next.
    t.pipe_batch("asked", [((), "c", 0)]);
    assert_eq!(t.read::<(), String>("seen").len(), 1);
    assert_eq!(t.request_rounds(), [2, 1, 1]);
}

#[test]
fn a_problem_is_tried_again_only_if_it_passes() {
    let mut t = started();
    t.pipe_batch("asked", [((), "never", 0), ((), "a", 0)]);
    assert_eq!(t.read::<(), String>("seen").len(), 1);
    assert_eq!(t.rejected(testing::Kind::Fail)[0].reason, "not granted");
    t.pipe_batch("asked", [((), "later", 0)]);
    assert_eq!(t.rejected(testing::Kind::Retry)[0].reason, "no answer yet");
}

#[test]
fn what_a_test_does_not_give_is_not_there() {
    let mut t = testing::run::<Everything>().start();
    t.pipe_batch("asked", [((), "a", 0)]);
    assert!(
        t.rejected(testing::Kind::Fail)[0]
            .reason
            .contains("the test has no server")
    );
    let mut t = testing::run::<Everything>().http(server).start();
    t.pipe_batch("asked", [((), "a", 0)]);
    assert!(
        t.rejected(testing::Kind::Fail)[0]
            .reason
            .contains("no variable `REGION`")
    );
}
