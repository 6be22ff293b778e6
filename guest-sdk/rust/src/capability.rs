//! What a module wants beyond its world: declared with the reason, granted by the pipeline file, used by a handle.

use crate::bindings::wasmill::streams::description::{Attribute, Capability};
use crate::host;
use crate::http::Http;
use crate::module::{Module, attribute_of, toml_string};
use crate::{Error, Result};

/// The `reason` of each is for the person who is to grant it: what it is needed for.
impl Module {
    /// HTTP requests, to any origin that the pipeline grants.
    pub fn http(&mut self, reason: &str) -> Http {
        self.http_to(reason, &[])
    }

    /// HTTP requests to these origins (`https://api.example.com`), each of which the pipeline must grant.
    pub fn http_to(&mut self, reason: &str, origins: &[&str]) -> Http {
        self.want("http", reason, "origins", origins);
        let http = Http::default();
        self.keep_http(&http);
        http
    }

    /// These variables of the node's environment.
    pub fn env(&mut self, reason: &str, names: &[&str]) -> Env {
        self.want("env", reason, "names", names);
        Env(())
    }

    /// The time while a call runs; for most, [`crate::Row::timestamp`] and [`crate::Now`] are the better answer.
    pub fn clock(&mut self, reason: &str) -> SystemClock {
        self.want("clock", reason, "", &[]);
        SystemClock(())
    }

    /// Random bytes.
    pub fn random(&mut self, reason: &str) -> Random {
        self.want("random", reason, "", &[]);
        Random(())
    }

    /// What is wanted in `declare` need not be granted: without it the module runs all the same, and asks the handle
    /// whether it is there.
    ///
    /// ```
    /// # use wasmill_guest::prelude::*;
    /// # use wasmill_guest::SystemClock;
    /// # fn declare(m: &mut Module) -> SystemClock {
    /// m.optional(|m| m.clock("measures how long a lookup takes"))
    /// # }
    /// ```
    pub fn optional<T>(&mut self, declare: impl FnOnce(&mut Module) -> T) -> T {
        let before = self.capabilities().len();
        let handle = declare(self);
        for capability in self.capabilities().iter_mut().skip(before) {
            capability.options.push(Attribute {
                name: "optional".to_owned(),
                value: "true".to_owned(),
            });
        }
        handle
    }

    fn want(&mut self, name: &str, reason: &str, option: &str, values: &[&str]) {
        let values: Vec<String> = values.iter().map(|value| toml_string(value)).collect();
        let list = (!values.is_empty()).then(|| attribute_of(option, format!("[{}]", values.join(", "))));
        self.capabilities().push(Capability {
            name: name.to_owned(),
            reason: reason.to_owned(),
            options: list.into_iter().collect(),
        });
    }
}

/// Granted variables of the node's environment.
#[derive(Debug)]
pub struct Env(());

impl Env {
    /// The names that are granted.
    pub fn names(&self) -> Vec<String> {
        host::env_names()
    }

    /// The value of a granted variable, or `None` where the node has none. A name that is not granted ends the call.
    pub fn get(&self, name: &str) -> Option<String> {
        host::env_get(name)
    }

    /// As [`Env::get`], for one that must be there.
    pub fn require(&self, name: &str) -> Result<String> {
        let missing = || Error::new(format!("the node has no variable `{name}` in its environment"));
        self.get(name).ok_or_else(missing)
    }
}

/// The node's clock while a call runs. Without the grant it ends the call.
#[derive(Debug)]
pub struct SystemClock(());

impl SystemClock {
    /// Whether the step grants it, for a module that wants it [optionally](Module::optional).
    pub fn granted(&self) -> bool {
        host::clock_granted()
    }

    /// Nanoseconds since 1970 UTC. May go back.
    pub fn wall_ns(&self) -> i64 {
        host::clock_wall()
    }

    /// Milliseconds since 1970 UTC, as timestamps of records are.
    pub fn wall_ms(&self) -> i64 {
        self.wall_ns().div_euclid(1_000_000)
    }

    /// Nanoseconds since some moment. Never goes back in one instance.
    pub fn monotonic_ns(&self) -> u64 {
        host::clock_monotonic()
    }
}

/// The operating system's generator. Without the grant it ends the call.
#[derive(Debug)]
pub struct Random(());

impl Random {
    /// Whether the step grants it, for a module that wants it [optionally](Module::optional).
    pub fn granted(&self) -> bool {
        host::random_granted()
    }

    /// That many bytes, at most 65,536.
    pub fn bytes(&self, length: u32) -> Vec<u8> {
        host::random_bytes(length)
    }

    /// Any number.
    pub fn number(&self) -> u64 {
        host::random_number()
    }
}
