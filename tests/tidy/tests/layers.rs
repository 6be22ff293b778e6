//! Forbidden edges between crates (runtime/ARCHITECTURE.md): who may reach what, through any number of hops.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};
use std::collections::{BTreeMap, BTreeSet};

fn metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    MetadataCommand::new()
        .manifest_path(manifest)
        // Other platforms' packages need not be there.
        .other_options(
            ["--offline", "--filter-platform", "host-tuple"]
                .map(String::from)
                .to_vec(),
        )
        .exec()
        .expect("cargo metadata")
}

/// Names of the packages that `from` reaches by ordinary dependencies.
fn reaches(metadata: &Metadata, from: &str) -> BTreeSet<String> {
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let edges: BTreeMap<&PackageId, Vec<&PackageId>> = resolve
        .nodes
        .iter()
        .map(|node| {
            let normal = node
                .deps
                .iter()
                .filter(|d| d.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal));
            (&node.id, normal.map(|d| &d.pkg).collect())
        })
        .collect();
    let name = |id: &PackageId| metadata[id].name.to_string();
    let start = &metadata
        .workspace_packages()
        .into_iter()
        .find(|p| p.name.as_str() == from)
        .expect(from)
        .id;
    let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
    while let Some(id) = next.pop() {
        if seen.insert(id) {
            next.extend(edges[id].iter());
        }
    }
    seen.into_iter().map(name).collect()
}

/// Only these crates of ours may have a direct edge to the package.
const OWNERS: [(&str, &[&str]); 6] = [
    ("wasmtime", &["sandbox"]),
    ("tokio-rustls", &["outbound", "server"]),
    ("cel", &["expressions"]),
    ("rdkafka", &["kafka"]),
    ("rdkafka-sys", &["kafka"]),
    ("rocksdb", &["rocks", "local"]),
];

/// The pure crates reach none of these.
const PURE: [&str; 9] = [
    "record",
    "topology",
    "expressions",
    "pipeline",
    "state",
    "operators",
    "task",
    "broker",
    "driver",
];
const IMPURE: [&str; 6] = [
    "tokio",
    "wasmtime",
    "rdkafka",
    "rdkafka-sys",
    "rocksdb",
    "librocksdb-sys",
];

#[test]
fn heavy_libraries_have_one_owner() {
    let metadata = metadata();
    for package in metadata.workspace_packages() {
        for (library, owners) in OWNERS {
            let uses = package
                .dependencies
                .iter()
                .any(|d| d.name == library && d.kind == DependencyKind::Normal);
            assert!(
                !uses || owners.contains(&package.name.as_str()),
                "`{}` depends on `{library}`, which only {owners:?} may",
                package.name
            );
        }
    }
}

#[test]
fn the_engine_is_pure() {
    let metadata = metadata();
    for crate_name in PURE.into_iter().chain(["worker", "sim"]) {
        let reached = reaches(&metadata, crate_name);
        for library in IMPURE {
            assert!(!reached.contains(library), "`{crate_name}` reaches `{library}`");
        }
    }
}

#[test]
fn the_guest_sdk_knows_nothing_of_the_runtime() {
    let metadata = metadata();
    let ours: BTreeSet<String> = metadata
        .workspace_packages()
        .iter()
        .map(|p| p.name.to_string())
        .collect();
    let reached = reaches(&metadata, "wasmill-guest");
    let both: Vec<_> = reached
        .intersection(&ours)
        .filter(|n| n.as_str() != "wasmill-guest")
        .collect();
    assert!(both.is_empty(), "{both:?}");
}

#[test]
fn only_the_command_line_uses_anyhow() {
    for package in metadata().workspace_packages() {
        let uses = package
            .dependencies
            .iter()
            .any(|d| d.name == "anyhow" && d.kind == DependencyKind::Normal);
        let allowed = package.name.as_str() == "cli" || package.manifest_path.as_str().contains("/tests/");
        assert!(!uses || allowed, "`{}` depends on anyhow", package.name);
    }
}
