//! The world outside of a case: answers to the requests of its modules, variables, its own clock, numbers from its seed.
//!
//! `http.jsonl` in the case's folder has a line for each request that is answered:
//! `{"url": "/score?id=7", "status": 200, "json": {"score": 1}}`. Beside `url` there may be `method` (`GET` unless said),
//! `status` (200), `headers` (an object), and the body as `json` or `text`; or `problem` instead of an answer, with a word
//! of `wasmill:http` (`timeout`, `connection`, `denied`, …). Requests are answered any number of times, in any order: a
//! case is played in several ways. `env.toml` has the variables that are granted.

use anyhow::{Context, Result, anyhow, bail};
use sandbox::{Allowance, Cause, Outside, Problem, Request, Response};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

type Answer = Result<Response, Problem>;

/// Shared by the modules of a case.
#[derive(Debug, Default)]
pub struct World {
    /// By method and URL.
    answers: BTreeMap<(String, String), Answer>,
    env: BTreeMap<String, String>,
    wall_ms: AtomicI64,
    seed: u64,
    drawn: AtomicU64,
    /// Requests that had no answer, for the report of a case that fails.
    missed: Mutex<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(default = "get")]
    method: String,
    url: String,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    json: Option<serde_json::Value>,
    text: Option<String>,
    problem: Option<String>,
}

fn get() -> String {
    "GET".into()
}

fn ok() -> u16 {
    200
}

const CAUSES: [Cause; 7] = [
    Cause::Denied,
    Cause::InvalidRequest,
    Cause::Timeout,
    Cause::Connection,
    Cause::TooLarge,
    Cause::Protocol,
    Cause::Other,
];

impl World {
    /// What the files in the folder of a case say; both may be missing.
    ///
    /// # Errors
    /// A line or a value that cannot be read, with its place.
    pub fn read(case: &Path, seed: u64) -> Result<Self> {
        let mut world = Self {
            seed,
            ..Self::default()
        };
        let http = case.join("http.jsonl");
        if http.is_file() {
            world.answers = answers(&super::read(&http)?, &http.display().to_string())?;
        }
        let env = case.join("env.toml");
        if env.is_file() {
            let place = || format!("{}: variables are `NAME = \"value\"`", env.display());
            world.env = toml::from_str(&super::read(&env)?).with_context(place)?;
        }
        Ok(world)
    }

    /// Before each way in which the case is played.
    pub fn begin(&self, wall_ms: i64) {
        self.wall_ms.store(wall_ms, Ordering::Relaxed);
        self.drawn.store(0, Ordering::Relaxed);
    }

    pub fn advance(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// What to add to `http.jsonl`, when requests met no answer.
    pub fn hint(&self) -> Option<String> {
        let missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        let first = missed.first()?;
        Some(format!(
            "hint: {} requests have no answer in http.jsonl, the first is {first}",
            missed.len()
        ))
    }

    fn number(&self) -> u64 {
        // SplitMix64: the same numbers for the same seed.
        let drawn = self.drawn.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
        let mut mixed = self.seed.wrapping_add(drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn answer(&self, request: &Request) -> Answer {
        let key = (request.method.clone(), request.url.clone());
        if let Some(answer) = self.answers.get(&key) {
            return answer.clone();
        }
        let asked = format!("{} {}", request.method, request.url);
        let message = format!("the case has no answer for {asked}");
        let mut missed = self.missed.lock().unwrap_or_else(PoisonError::into_inner);
        if !missed.contains(&asked) {
            missed.push(asked);
        }
        Err(Problem::new(Cause::Denied, message))
    }
}

fn answers(text: &str, file: &str) -> Result<BTreeMap<(String, String), Answer>> {
    let mut answers = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let place = format!("{file}:{number}");
        let line: Line = serde_json::from_str(line).map_err(|e| anyhow!("{place}: {e}"))?;
        let key = (line.method.clone(), line.url.clone());
        let answer = line.answer().map_err(|why| anyhow!("{place}: {why}"))?;
        if answers.insert(key, answer).is_some() {
            bail!("{place}: this request is answered already");
        }
    }
    Ok(answers)
}

impl Line {
    fn answer(self) -> Result<Answer, String> {
        let body = match (self.json, self.text) {
            (Some(_), Some(_)) => return Err("a body is `json` or `text`, not both".into()),
            (Some(json), None) => json.to_string(),
            (None, text) => text.unwrap_or_default(),
        };
        let Some(word) = self.problem else {
            let headers = self.headers.into_iter();
            return Ok(Ok(Response {
                status: self.status,
                headers: headers
                    .map(|(name, value)| (name.to_ascii_lowercase(), value.into_bytes()))
                    .collect(),
                body: body.into_bytes(),
                url: self.url,
            }));
        };
        let cause = CAUSES.into_iter().find(|cause| cause.word() == word);
        let cause = cause.ok_or_else(|| {
            let words: Vec<&str> = CAUSES.iter().map(|cause| cause.word()).collect();
            format!("`{word}` is no problem; there are {}", words.join(", "))
        })?;
        Ok(Err(Problem::new(cause, format!("{word}: the case says so"))))
    }
}

impl Outside for World {
    fn fetch(&self, requests: Vec<Request>, _: Allowance) -> Vec<Answer> {
        requests.iter().map(|request| self.answer(request)).collect()
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.env.get(name).cloned()
    }

    fn wall_ns(&self) -> i64 {
        self.wall_ms.load(Ordering::Relaxed).saturating_mul(1_000_000)
    }

    fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.wall_ns()).unwrap_or(0)
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), String> {
        for chunk in bytes.chunks_mut(8) {
            let drawn = self.number().to_le_bytes();
            chunk.iter_mut().zip(drawn).for_each(|(to, from)| *to = from);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn asked(world: &World, url: &str) -> Answer {
        world.answer(&Request {
            method: "GET".into(),
            url: url.into(),
            headers: vec![],
            body: vec![],
            timeout: None,
            follow: true,
        })
    }

    #[test]
    fn a_case_answers_what_it_knows() {
        let lines = "{\"url\": \"/a\", \"json\": {\"x\": 1}}\n\n{\"url\": \"/b\", \"problem\": \"timeout\"}\n";
        let world = World {
            answers: answers(lines, "http.jsonl").unwrap(),
            ..World::default()
        };
        assert_eq!(asked(&world, "/a").unwrap().body, b"{\"x\":1}");
        assert!(asked(&world, "/b").unwrap_err().transient);
        assert_eq!(world.hint(), None);
        assert_eq!(asked(&world, "/c").unwrap_err().cause, Cause::Denied);
        assert!(world.hint().unwrap().ends_with("GET /c"));
    }

    #[test]
    fn a_wrong_line_is_named() {
        let cases = [
            "{\"uri\": \"/a\"}",
            "{\"url\": \"/a\", \"problem\": \"late\"}",
            "{\"url\": \"/a\", \"json\": 1, \"text\": \"a\"}",
            "nothing",
        ];
        for line in cases {
            let error = answers(&format!("\n{line}"), "http.jsonl").unwrap_err().to_string();
            assert!(error.starts_with("http.jsonl:2: "), "{error}");
        }
        assert!(answers("{\"url\": \"/a\"}\n{\"url\": \"/a\"}", "http.jsonl").is_err());
    }
}
