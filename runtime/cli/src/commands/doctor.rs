//! `doctor`: is everything there that a node, a broker and a guest author need.

use crate::args::{DoctorArgs, Format, Global};
use crate::client::Client;
use crate::failure::{Code, Exit};
use crate::show;
use crate::toolchain::output;
use anyhow::Result;
use serde::Serialize;
use server::api::Status;

#[derive(Serialize)]
struct Check {
    what: &'static str,
    ok: bool,
    /// What is there, or what is missing and what to do.
    found: String,
    /// A missing one of these is no failure: only some users need it.
    optional: bool,
}

pub fn run(global: &Global, client: &Client, args: &DoctorArgs) -> Result<()> {
    let mut checks = vec![node(client), compiler(), wasm_target()];
    checks.extend(args.brokers.as_deref().map(broker));
    if global.format == Format::Json {
        show::json(&checks)?;
    } else {
        for check in &checks {
            let mark = if check.ok {
                "ok     "
            } else if check.optional {
                "missing"
            } else {
                "FAILED "
            };
            show::line(&format!("{mark}  {:12} {}", check.what, check.found));
        }
    }
    let failed = checks.iter().any(|check| !check.ok && !check.optional);
    if failed { Err(Exit::silent(Code::Ours)) } else { Ok(()) }
}

fn node(client: &Client) -> Check {
    let status: Result<Status> = client.get("/v1/status", &[]);
    let (ok, found) = match status {
        Ok(s) => (true, format!("{} of cluster {}, log {}", s.node, s.cluster, s.log)),
        Err(error) => (
            false,
            format!("{error:#}").lines().next().unwrap_or_default().to_owned(),
        ),
    };
    Check {
        what: "node",
        ok,
        found,
        optional: true,
    }
}

fn compiler() -> Check {
    let (ok, found) = match output("cargo", &["--version"]) {
        Some(version) => (true, version),
        None => (false, "no cargo; for Rust processors see https://rustup.rs".into()),
    };
    Check {
        what: "rust",
        ok,
        found,
        optional: true,
    }
}

fn wasm_target() -> Check {
    let rustup = output("rustup", &["target", "list", "--installed"]).unwrap_or_default();
    let debian = std::path::Path::new("/usr/lib/rustlib/src/rust/library").exists();
    let (ok, found) = if rustup.lines().any(|line| line == "wasm32-unknown-unknown") {
        (true, "wasm32-unknown-unknown of rustup".to_owned())
    } else if debian {
        (true, "Debian's rust-web-src".to_owned())
    } else {
        (
            false,
            "none; `rustup target add wasm32-unknown-unknown`, or apt-get install rustc-web rust-web-src".to_owned(),
        )
    };
    Check {
        what: "wasm target",
        ok,
        found,
        optional: true,
    }
}

fn broker(brokers: &str) -> Check {
    let (ok, found) = match server::probe_brokers(brokers) {
        Ok(text) => (true, text),
        Err(refusal) => (false, refusal.message),
    };
    Check {
        what: "broker",
        ok,
        found,
        optional: false,
    }
}
