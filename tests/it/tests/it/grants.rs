//! A module that asks a service for every order, as a user runs it: refused without its grant, then granted, with a secret
//! that nobody sees. (Dead letters need a topic that is there.)

use it::node::{Broker, Node, Setup, TASKS, wasmill};
use it::told::Told;
use it::web::{AUTHORIZED, Web};
use it::{place, until};
use std::fs;
use std::net::ToSocketAddrs;
use std::path::Path;

pub const SECRET: &str = "key-of-the-customers";

/// The pipeline of `examples/enrich` with `grant` in place of its own. `None`: no modules were built.
pub fn write_pipeline(dir: &Path, grant: &str) -> Option<String> {
    fs::copy(place::guest("enrich")?, dir.join("enrich.wasm")).unwrap();
    let text = format!(
        r#"wasmill = 1
name = "enrich"

[defaults]
on-error = "dead-letter"
dead-letters = "letters"
retries = {{ max = 1, backoff = "10ms..10ms" }}

[sources.orders]
topic = "orders"
key = "string"
value = "json"
start = "earliest"
create = {{ partitions = 1 }}

[steps.enriched]
from = "orders"
module = "./enrich.wasm"
# Shorter than the service's silence: time in requests is not the module's.
limits = {{ call = "1s", http = "6s" }}
{grant}
[sinks.enriched]
from = "enriched"
topic = "enriched"
create = {{ partitions = 1 }}
"#
    );
    let path = dir.join("enrich.toml");
    fs::write(&path, text).unwrap();
    Some(path.display().to_string())
}

pub fn grant(origin: &str) -> String {
    format!(
        r#"
[[steps.enriched.grants.http]]
origin = "{origin}"
headers = {{ authorization = "Bearer ${{secret:KEY}}" }}
timeout = "2s"
response-bytes = "64KiB"
"#
    )
}

pub fn orders(node: &Node, dir: &Path, customers: &[u32]) {
    let line = |customer: &u32| {
        format!("{{\"key\": \"o{customer}\", \"value\": {{\"customer\": {customer}, \"amount\": 1.5}}}}\n")
    };
    let path = dir.join("orders.jsonl");
    fs::write(&path, customers.iter().map(line).collect::<String>()).unwrap();
    node.ask(&["produce", "orders", &path.display().to_string()]).done();
}

/// Lines of a topic, as soon as there are so many.
pub fn lines(node: &Node, topic: &str, count: usize) -> Vec<String> {
    until(&format!("{count} records in `{topic}`"), TASKS, || {
        let told = node.ask(&["consume", topic, "--as", "jsonl"]).done().out;
        let found: Vec<String> = told.lines().map(str::to_owned).collect();
        (found.len() >= count).then_some(found)
    })
}

#[test]
fn a_module_is_refused_without_its_grant() {
    let dir = tempfile::tempdir().unwrap();
    let Some(pipeline) = write_pipeline(dir.path(), "") else {
        return;
    };
    let wants = [
        "module `enrich@1.0.0` wants `http` (asks for the customer of each order), and step `enriched` does not grant it",
        "enrich.toml:18:10",
        "say `[[steps.enriched.grants.http]]`",
    ];
    Told::by(wasmill().args(["check", &pipeline])).exits(1).says(&wants);
    let node = Setup::new(dir.path(), &Broker::Embedded).start();
    node.ask(&["topics", "create", "letters"]).done();
    node.ask(&["plan", &pipeline]).exits(1).says(&wants);
    node.ask(&["apply", "--yes", &pipeline]).exits(1).says(&wants);

    // Granted, but the node has no such secret.
    write_pipeline(dir.path(), &grant("http://127.0.0.1:9"));
    let lacks = ["step `enriched`: this node has no secret `KEY`: looked for the variable `WASMILL_SECRET_KEY`"];
    node.ask(&["apply", "--yes", &pipeline]).exits(1).says(&lacks);
    assert_eq!(node.get("/v1/pipelines").unwrap(), serde_json::json!([]));
    node.stop(&[]);
}

#[test]
fn a_granted_module_asks_and_sees_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let web = Web::start();
    let Some(pipeline) = write_pipeline(dir.path(), &grant(&web.origin())) else {
        return;
    };
    let mut setup = Setup::new(dir.path(), &Broker::Embedded);
    setup.env.push(("WASMILL_SECRET_KEY", SECRET.to_owned()));
    let node = setup.start();
    node.ask(&["topics", "create", "letters"]).done();
    let planned = node.ask(&["plan", &pipeline]).out;
    assert!(planned.contains("authorization: Bearer ${secret:KEY}"), "{planned}");
    node.ask(&["apply", "--yes", &pipeline]).done();
    orders(&node, dir.path(), &[1, 404, 2, 13, 403, 96, 98, 97, 3]);

    let enriched = lines(&node, "enriched", 3);
    for (line, customer) in enriched.iter().zip([1, 2, 3]) {
        assert!(line.contains(&format!("customer {customer}")), "{enriched:?}");
    }
    let letters = lines(&node, "letters", 6).join("\n");
    for reason in [
        "the service knows no such customer",
        "repeats the value of the secret `KEY`",
        "the service answers 403",
        "`http://127.0.0.1:9` is where",
        "more than 65536 bytes",
        "within 2000 ms",
    ] {
        assert!(
            letters.contains(reason),
            "`{reason}` is not among the dead letters:\n{letters}"
        );
    }
    assert!(
        web.asked()
            .iter()
            .all(|asked| asked.header("authorization") == Some(AUTHORIZED))
    );
    counted_by_step(&setup, &node);

    let shown = node.ask(&["status"]).done().out + &planned + &node.get("/v1/pipelines/enrich").unwrap().to_string();
    assert!(!shown.contains(SECRET), "{shown}");
    let log = node.end();
    assert!(!log.contains(SECRET), "{log}");
    // Neither topics nor stores nor the compiled module.
    for (path, bytes) in place::files(&setup.data()) {
        let found = bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
        assert!(!found, "the secret is in `{}`", path.display());
    }
}

fn counted_by_step(setup: &Setup, node: &Node) {
    let mut answer = ureq::get(format!("{}/metrics", node.address)).call().unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    for outcome in ["ok", "denied", "too-large", "timeout"] {
        let label =
            format!("wasmill_http_requests_total{{pipeline=\"enrich\",step=\"enriched\",outcome=\"{outcome}\"}} ");
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix(&label)?.parse::<u64>().ok());
        assert!(
            count.is_some_and(|count| count > 0),
            "{outcome} of {}:\n{text}",
            setup.cluster
        );
    }
}

#[test]
fn a_name_that_leads_inside_is_refused() {
    // A name of this machine for itself, which is no public one and is not `localhost`.
    let host = fs::read_to_string("/etc/hostname").unwrap_or_default();
    let names = [host.trim(), "ip6-localhost", "ip6-loopback"];
    let inside = |name: &&&str| {
        !name.is_empty()
            && (**name, 1)
                .to_socket_addrs()
                .is_ok_and(|mut found| found.next().is_some())
    };
    let Some(name) = names.iter().find(inside) else {
        return place::skipped("this machine has no name for itself");
    };
    let dir = tempfile::tempdir().unwrap();
    let web = Web::start();
    let Some(pipeline) = write_pipeline(dir.path(), &grant(&format!("http://{name}:{}", web.port()))) else {
        return;
    };
    let mut setup = Setup::new(dir.path(), &Broker::Embedded);
    setup.env.push(("WASMILL_SECRET_KEY", SECRET.to_owned()));
    let node = setup.start();
    node.ask(&["topics", "create", "letters"]).done();
    node.ask(&["apply", "--yes", &pipeline]).done();
    orders(&node, dir.path(), &[1]);
    let letters = lines(&node, "letters", 1).concat();
    assert!(
        letters.contains("resolves to") && letters.contains("private = true"),
        "{letters}"
    );
    assert_eq!(web.connections(), 0);
    node.stop(&[]);
}

/// A pipeline of the module `reach`, which wants everything and does without, and a case of it.
fn write_case(dir: &Path, grants: &str, input: &[&str], expected: &str) -> Option<()> {
    fs::copy(place::guest("reach")?, dir.join("reach.wasm")).unwrap();
    let text = format!(
        r#"wasmill = 1
name = "reach"
[defaults]
on-error = "dead-letter"
dead-letters = "letters"
[sources.asked]
topic = "asked"
value = "string"
[steps.reach]
from = "asked"
module = "./reach.wasm"
{grants}
[sinks.got]
from = "reach"
topic = "got"
"#
    );
    fs::write(dir.join("pipeline.toml"), text).unwrap();
    let line = |asked: &&str| match asked.strip_prefix("advance ") {
        Some(ms) => format!("{{\"advance\": {ms}}}\n"),
        None => format!("{{\"topic\": \"asked\", \"value\": \"{asked}\", \"timestamp\": 0}}\n"),
    };
    fs::write(dir.join("input.jsonl"), input.iter().map(line).collect::<String>()).unwrap();
    fs::write(dir.join("expected.jsonl"), expected).unwrap();
    fs::write(dir.join("env.toml"), "REGION = \"eu\"\nHOME = \"/root\"\n").unwrap();
    fs::write(
        dir.join("http.jsonl"),
        "{\"url\": \"https://a.example/x\", \"text\": \"hello\"}\n",
    )
    .unwrap();
    Some(())
}

fn plays(dir: &Path) -> Told {
    Told::by(wasmill().args(["test", "--seed", "7"]).arg(dir))
}

fn got(values: &[&str]) -> String {
    let line = |value: &&str| format!("{{\"topic\": \"got\", \"value\": {}}}\n", serde_json::json!(value));
    values.iter().map(line).collect()
}

#[test]
fn what_is_granted_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let grants = r#"
[steps.reach.grants]
env = ["REGION"]
clock = true
random = true
[[steps.reach.grants.http]]
origin = "https://a.example"
"#;
    let input = [
        "granted",
        "env REGION",
        "clock",
        "random",
        "http https://a.example/x",
        "advance 1500",
        "clock",
    ];
    let expected = got(&[
        "env [\"REGION\"] clock true random true http [\"https://a.example\"]",
        "Some(\"eu\")",
        "0 0",
        "7191089600892374487 [28, 102, 60]",
        "200 hello",
        "1500 1500000000",
    ]);
    if write_case(dir.path(), grants, &input, &expected).is_some() {
        plays(dir.path()).done();
    }
}

#[test]
fn what_is_not_granted_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let input = ["granted", "env REGION", "clock", "random", "http https://a.example/x"];
    let letter = |value: &str, reason: &str| {
        let reason = format!("`process` failed: {reason}");
        format!(
            "{}\n",
            serde_json::json!({"dead-letter": "asked", "value": value, "reason": reason})
        )
    };
    let ungranted = |import: &str, capability: &str| {
        format!(
            "`{import}`: the step does not grant `{capability}`, or the module's description does not ask for it; \
             hint: declare it in the module, and say `{capability} = true` in `[steps.NAME.grants]`"
        )
    };
    let env = "`env.get`: `REGION` is not granted, or the module's description does not ask for `env`; \
               hint: say `env = [\"REGION\"]` in `[steps.NAME.grants]`";
    let expected = got(&[
        "env [] clock false random false http []",
        "Cause::Denied: the step grants no `http`, or the module's description does not ask for it",
    ]) + &letter("env REGION", env)
        + &letter("clock", &ungranted("clock.wall", "clock"))
        + &letter("random", &ungranted("random.number", "random"));
    if write_case(dir.path(), "", &input, &expected).is_some() {
        plays(dir.path()).done();
    }
}
