//! An application from outside: its plan, and what its closures may answer. Its exports are a few instructions; those
//! of the SDK are run in `tests/guests/application`.

use std::path::PathBuf;

use task::processor::{Context, Emitted, Failure};
use topology::description::World;
use topology::{Closure, ClosureForm, Format};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::{NOW, batch, input, sandbox};
use crate::{Error, InstanceOptions, Module};

/// `build` and `transform` answer with what lies at 2048 and 4096: zeros, which are an empty plan and nothing emitted,
/// until the bodies write there.
fn component(build: &str, transform: &str) -> Vec<u8> {
    let wit = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let mut resolve = Resolve::default();
    for package in ["data", "log", "timers", "state", "http", "env", "clock", "random"] {
        resolve.push_path(wit.join("deps").join(package)).unwrap();
    }
    let read = |file: &str| std::fs::read_to_string(wit.join(file)).unwrap();
    let others =
        ["description.wit", "grants.wit", "application.wit"].map(|file| read(file).replacen("package ", "// ", 1));
    let streams = format!("{}\n{}", read("processor.wit"), others.join("\n"));
    let package = resolve.push_str("streams.wit", &streams).unwrap();
    let world = resolve.select_world(&[package], Some("application")).unwrap();
    let (topology, functions) = ("wasmill:streams/topology@0.1.0", "wasmill:streams/functions@0.1.0");
    let module = "wasmill:streams/module@0.1.0";
    let calls: String = ["aggregate", "join", "topics", "partitions", "process"]
        .map(|name| format!(r#"(func (export "{functions}#{name}") (param i32) (result i32) unreachable)"#))
        .concat();
    let text = format!(
        r#"(module
  (import "wasmill:timers/timers@0.1.0" "stop" (func $stop (param i32 i32)))
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 65536))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
  (func (export "{module}#describe") (result i32) (i32.const 1024))
  (func (export "{module}#open") (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32) (i32.const 64))
  (func (export "{module}#migrate")
    (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) unreachable)
  (func (export "{module}#close"))
  (func (export "{topology}#build") (param i32 i32) (result i32) {build} (i32.const 2048))
  (func (export "{functions}#transform") (param i32) (result i32) {transform} (i32.const 4096))
  {calls}
  (func (export "{functions}#punctuate") (param i32 i64 i64 i32 i32) (result i32) unreachable)
  (data (i32.const 512) "tiny1.0.0")
  (data (i32.const 1024) "\00\02\00\00\04\00\00\00\04\02\00\00\05\00\00\00"))"#
    );
    let mut module = wat::parse_str(text).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    let encoder = ComponentEncoder::default().validate(true);
    encoder.module(&module).unwrap().encode().unwrap()
}

fn load(build: &str, transform: &str) -> Result<Module, Error> {
    sandbox().load(&component(build, transform))
}

fn calling(form: ClosureForm, plan: &str) -> InstanceOptions {
    let closure = Closure {
        form,
        step: "app".to_owned(),
        number: 0,
        plan: plan.to_owned(),
        key: Format::Bytes,
        value: Format::Bytes,
    };
    InstanceOptions {
        closure: Some(Box::new(closure)),
        ..InstanceOptions::default()
    }
}

fn digest(module: &Module) -> String {
    module.description().plan.clone().unwrap().digest
}

#[test]
fn an_application_is_described_with_its_plan_and_answers_for_a_node() {
    let module = load("", "").unwrap();
    assert_eq!(module.description().world, World::Application);
    let plan = digest(&module);
    assert_eq!(plan.len(), 64);
    let mut context = Context::default();
    let rows = input(batch(&[Some("a"), Some("b")]));
    let mut filter = module.instance(calling(ClosureForm::Filter, &plan)).unwrap();
    filter.open(&mut context).unwrap();
    let answer = filter.process(&mut context, NOW, &rows).unwrap();
    assert!(matches!(answer.emitted, Emitted::Nothing));
    let mut map = module.instance(calling(ClosureForm::MapValues, &plan)).unwrap();
    map.open(&mut context).unwrap();
    let failure = map.process(&mut context, NOW, &rows).unwrap_err();
    let expected = "the answer of `transform` has 0 rows, where a `map-values` gives one for each of 2";
    assert_eq!(failure, Failure::Contract(expected.to_owned()));
}

#[test]
fn another_plan_than_the_one_that_runs_is_refused_at_open() {
    let module = load("", "").unwrap();
    let mut node = module.instance(calling(ClosureForm::Filter, "another")).unwrap();
    let failure = node.open(&mut Context::default()).unwrap_err();
    assert!(
        matches!(&failure, Failure::Contract(cause) if cause.contains("`tiny@1.0.0` built is another than the one that runs")),
        "{failure:?}"
    );
}

#[test]
fn closures_are_not_asked_of_processors_nor_whole_steps_of_applications() {
    let module = load("", "").unwrap();
    let error = module.instance(InstanceOptions::default()).err().unwrap();
    assert_eq!(
        error.to_string(),
        "module `tiny@1.0.0` is an application, and its step needs a processor"
    );
    let processor = super::load(&super::Guest::default());
    let error = processor.instance(calling(ClosureForm::Filter, "")).err().unwrap();
    assert!(
        error
            .to_string()
            .ends_with("is a processor, and its step needs an application")
    );
}

#[test]
fn a_build_that_fails_or_calls_the_host_is_no_application() {
    let refused = "(i32.store8 (i32.const 2048) (i32.const 1))
                   (i32.store (i32.const 2052) (i32.const 512)) (i32.store (i32.const 2056) (i32.const 4))";
    let error = load(refused, "").unwrap_err().to_string();
    assert_eq!(error, "its topology cannot be built: tiny");
    let error = load("(call $stop (i32.const 512) (i32.const 4))", "")
        .unwrap_err()
        .to_string();
    assert!(error.contains("`timers.stop`"), "{error}");
}

#[test]
fn a_closure_has_no_timers_and_a_panic_names_the_export() {
    let module = load("", "(call $stop (i32.const 512) (i32.const 4))").unwrap();
    let mut context = Context::default();
    let mut node = module.instance(calling(ClosureForm::Filter, &digest(&module))).unwrap();
    node.open(&mut context).unwrap();
    let rows = input(batch(&[Some("a")]));
    let failure = node.process(&mut context, NOW, &rows).unwrap_err().to_string();
    assert!(
        failure.contains("`timers.stop` cannot be called from `transform`"),
        "{failure}"
    );
    let module = load("", "unreachable").unwrap();
    let mut node = module.instance(calling(ClosureForm::Filter, &digest(&module))).unwrap();
    node.open(&mut context).unwrap();
    let failure = node.process(&mut context, NOW, &rows).unwrap_err().to_string();
    assert!(failure.contains("`transform` gave up"), "{failure}");
}
