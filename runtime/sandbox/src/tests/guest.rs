//! Components of a few instructions: one core module whose functions a test fills in, wrapped in the contract's world.
//!
//! Parameters and answers lie in memory as the canonical ABI lays them out; the offsets below are counted from the
//! records in `wit/`. Real guests of every language are run in `tests/`.

use std::path::PathBuf;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Where the answer of `process` lies: zeros, which are an answer that emits nothing, until the body writes there.
///
/// `emitted` is the byte at +4, its payload starts at +8: `selected` has pointer and length; `rows` has `causes` at +8,
/// `targets` +20, `keys` +32 with the column at +36, `values` +64 with the column at +68. Outcomes are at +176.
pub const ANSWER: u32 = 2048;

/// Scratch space for host calls.
pub const SCRATCH: u32 = 3072;

/// Bodies of the functions, in WAT. `process` has `$p`, the address of its parameters: keys at +16, values at +44,
/// timestamps at +72, ports at +188.
pub struct Guest<'a> {
    pub describe: &'a str,
    pub open: &'a str,
    pub process: &'a str,
    pub punctuate: &'a str,
    /// What `cabi_realloc` does first; the global `$flag` is 0 until a body sets it.
    pub realloc: &'a str,
    /// Declared in the description, all of the kind `key-value`.
    pub stores: &'a [&'a str],
    pub streams_version: &'a str,
    pub extra_import: &'a str,
}

impl Default for Guest<'_> {
    fn default() -> Self {
        Self {
            describe: "",
            open: "",
            process: "",
            punctuate: "",
            realloc: "",
            stores: &[],
            streams_version: "0.1.0",
            extra_import: "",
        }
    }
}

impl Guest<'_> {
    pub fn build(&self) -> Vec<u8> {
        let wit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../wit");
        let mut resolve = Resolve::default();
        for package in ["data", "log", "timers", "state"] {
            resolve.push_path(wit.join("deps").join(package)).unwrap();
        }
        let of_streams = |text: String| {
            let old = "package wasmill:streams@0.1.0";
            text.replace(old, &format!("package wasmill:streams@{}", self.streams_version))
        };
        let read = |file: &str| of_streams(std::fs::read_to_string(wit.join(file)).unwrap());
        let description = read("description.wit").replacen("package ", "// package ", 1);
        let mut streams = format!("{}\n{description}", read("processor.wit"));
        if !self.extra_import.is_empty() {
            resolve
                .push_str(
                    "extra.wit",
                    "package wasi:clocks@0.2.0; interface wall-clock { now: func(); }",
                )
                .unwrap();
            let import = format!("world processor {{\n import {};", self.extra_import);
            streams = streams.replace("world processor {", &import);
        }
        let package = resolve.push_str("streams.wit", &streams).unwrap();
        let world = resolve.select_world(&[package], Some("processor")).unwrap();
        let mut module = wat::parse_str(self.text()).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
        ComponentEncoder::default()
            .validate(true)
            .module(&module)
            .unwrap()
            .encode()
            .unwrap()
    }

    fn text(&self) -> String {
        let streams = self.streams_version;
        let extra = match self.extra_import {
            "" => String::new(),
            name => format!(r#"(import "{name}" "now" (func))"#),
        };
        let Self {
            describe,
            open,
            process,
            punctuate,
            realloc,
            ..
        } = self;
        let (data, base) = (escape(&self.description()), DESCRIPTION);
        format!(
            r#"(module $guest
  {extra}
  (import "wasmill:log/log@0.1.0" "write" (func $log (param i32 i32 i32 i32 i32)))
  (import "wasmill:timers/timers@0.1.0" "stop" (func $stop (param i32 i32)))
  (import "wasmill:timers/timers@0.1.0" "start" (func $start (param i32 i32 i64 i32 i32 i64 i32 i32)))
  (import "wasmill:state/key-value@0.1.0" "get"
    (func $get (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasmill:state/key-value@0.1.0" "put" (func $put (param i32)))
  (import "wasmill:state/key-value@0.1.0" "range"
    (func $range (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasmill:state/key-value@0.1.0" "prefix"
    (func $prefix (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (import "wasmill:state/key-value@0.1.0" "delete-range" (func $delete_range (param i32 i32 i32 i32 i32)))
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 65536))
  (global $flag (mut i32) (i32.const 0))
  (func $realloc (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    {realloc}
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (block $done (loop $grow
      (br_if $done (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
      (drop (memory.grow (i32.const 16)))
      (br $grow)))
    (local.get $at))
  (func $describe (export "wasmill:streams/module@{streams}#describe") (result i32)
    {describe} (i32.const {base}))
  (func $open (export "wasmill:streams/module@{streams}#open")
    (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {open} (i32.const 64))
  (func (export "wasmill:streams/module@{streams}#migrate")
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable)
  (func (export "wasmill:streams/module@{streams}#close"))
  (func $process (export "wasmill:streams/processing@{streams}#process") (param $p i32) (result i32)
    {process} (i32.const {ANSWER}))
  (func (export "cabi_post_wasmill:streams/processing@{streams}#process") (param i32)
    (global.set $heap (i32.const 65536)))
  (func $punctuate (export "wasmill:streams/processing@{streams}#punctuate")
    (param i64 i64 i32 i32) (result i32) {punctuate} (i32.const {ANSWER}))
  (data (i32.const 16) "the third rail")
  (data (i32.const {base}) "{data}"))"#
        )
    }

    /// The record `description` as it lies in memory: nine pairs of pointer and length, then what they point to.
    fn description(&self) -> Vec<u8> {
        let mut data = Data { bytes: vec![0; 72] };
        let fields = [data.text("tiny"), data.text("1.0.0"), data.text("a test")];
        let ports = [data.port("in"), data.port("out")].map(|port| data.list(&[port]));
        let stores: Vec<[u32; 9]> = self.stores.iter().map(|name| data.store(name)).collect();
        let stores = data.list(&stores);
        for (i, (at, length)) in fields.into_iter().chain(ports).chain([stores]).enumerate() {
            data.bytes[i * 8..i * 8 + 4].copy_from_slice(&at.to_le_bytes());
            data.bytes[i * 8 + 4..i * 8 + 8].copy_from_slice(&length.to_le_bytes());
        }
        data.bytes
    }
}

const DESCRIPTION: u32 = 8192;

struct Data {
    bytes: Vec<u8>,
}

impl Data {
    fn text(&mut self, text: &str) -> (u32, u32) {
        let at = DESCRIPTION + self.bytes.len() as u32;
        self.bytes.extend_from_slice(text.as_bytes());
        (at, text.len() as u32)
    }

    fn port(&mut self, name: &str) -> [u32; 10] {
        let (name, text) = (self.text(name), self.text("bytes"));
        [name.0, name.1, 0, 0, text.0, text.1, text.0, text.1, 0, 0]
    }

    fn store(&mut self, name: &str) -> [u32; 9] {
        let (name, kind) = (self.text(name), self.text("key-value"));
        [name.0, name.1, 0, 0, kind.0, kind.1, 1, 0, 0]
    }

    fn list<const N: usize>(&mut self, records: &[[u32; N]]) -> (u32, u32) {
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        let at = DESCRIPTION + self.bytes.len() as u32;
        for field in records.iter().flatten() {
            self.bytes.extend_from_slice(&field.to_le_bytes());
        }
        (at, records.len() as u32)
    }
}

fn escape(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}
