//! Requests of modules against a real server, without a node: what is allowed, refused and cut, and in which words.

use it::web::Web;
use outbound::{Lookup, Options, Outbound, Resolve, SecretSources};
use sandbox::{Allowance, Cause, Outside, Problem, Request, Response};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Runtime;
use topology::{Grants, HeaderPart, HttpGrant, Origin};

/// The value of the only secret.
const KEY: &str = "key-of-the-customers";

/// Far above what anything here takes that is to be answered.
const PLENTY: Duration = Duration::from_secs(30);

/// Names as the test says, each look-up the next of its answers; the last stays.
#[derive(Debug, Default)]
struct Names(BTreeMap<&'static str, (Vec<&'static str>, AtomicUsize)>);

impl Names {
    fn of(names: &[(&'static str, &[&'static str])]) -> Arc<Self> {
        let entry =
            |(name, answers): &(&'static str, &[&'static str])| (*name, (answers.to_vec(), AtomicUsize::new(0)));
        Arc::new(Self(names.iter().map(entry).collect()))
    }
}

impl Resolve for Names {
    fn resolve(&self, name: &str) -> Lookup {
        let found = self.0.get(name).map(|(answers, asked)| {
            let number = asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
            answers[number].parse::<IpAddr>().unwrap()
        });
        Box::pin(async move {
            found
                .map(|address| vec![address])
                .ok_or_else(|| std::io::Error::other("no such name"))
        })
    }
}

struct World {
    web: Web,
    // Ends after the step's last request.
    _runtime: Runtime,
    outbound: Outbound,
    _secrets: tempfile::TempDir,
}

impl World {
    fn new(names: Arc<Names>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .worker_threads(2)
            .build()
            .unwrap();
        let secrets = tempfile::tempdir().unwrap();
        std::fs::write(secrets.path().join("KEY"), format!("{KEY}\n")).unwrap();
        let options = Options {
            secrets: SecretSources {
                directory: secrets.path().to_owned(),
                ..SecretSources::default()
            },
            env: vec![],
            resolve: Some(names),
        };
        Self {
            web: Web::start(),
            outbound: Outbound::new(runtime.handle().clone(), options),
            _runtime: runtime,
            _secrets: secrets,
        }
    }

    fn grant(&self, host: &str) -> HttpGrant {
        let key = vec![HeaderPart::Text("Bearer ".into()), HeaderPart::Secret("KEY".into())];
        let mut grant = HttpGrant::new(Origin::parse(&format!("http://{host}:{}", self.web.port())).unwrap());
        grant.headers.insert("authorization".into(), key);
        grant.timeout_ms = 20_000;
        grant
    }

    fn step(&self, grants: Vec<HttpGrant>) -> Arc<dyn Outside> {
        let grants = Grants {
            http: grants,
            ..Grants::default()
        };
        self.outbound.step("p", "s", &grants)
    }
}

/// The server under its address, granted.
fn granted() -> (World, Arc<dyn Outside>) {
    with(|_| {})
}

fn with(change: impl FnOnce(&mut HttpGrant)) -> (World, Arc<dyn Outside>) {
    let world = World::new(Names::of(&[]));
    let mut grant = world.grant("127.0.0.1");
    change(&mut grant);
    let step = world.step(vec![grant]);
    (world, step)
}

fn get(url: &str) -> Request {
    Request {
        method: "GET".into(),
        url: url.into(),
        headers: vec![],
        body: vec![],
        timeout: None,
        follow: true,
    }
}

fn fetch_within(step: &Arc<dyn Outside>, requests: Vec<Request>, time: Duration) -> Vec<Result<Response, Problem>> {
    let body_bytes = 64 << 20;
    step.fetch(requests, Allowance { time, body_bytes })
}

fn fetch(step: &Arc<dyn Outside>, url: &str) -> Result<Response, Problem> {
    fetch_within(step, vec![get(url)], PLENTY).remove(0)
}

/// The problem has this cause and all of these words, and never the secret.
fn refused(answer: Result<Response, Problem>, cause: Cause, words: &[&str]) {
    let problem = answer.expect_err("there is a response");
    assert_eq!(problem.cause, cause, "{problem:?}");
    for word in words {
        assert!(problem.message.contains(word), "`{word}` is not in {problem:?}");
    }
    assert!(!problem.message.contains(KEY), "{problem:?}");
}

#[test]
fn the_secret_reaches_the_server_and_not_the_guest() {
    let (world, step) = granted();
    let answer = fetch(&step, "/customers/7").unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        world.web.asked()[0].header("authorization"),
        Some("Bearer key-of-the-customers")
    );
    assert_eq!(
        world.web.asked()[0].header("host"),
        Some(format!("127.0.0.1:{}", world.web.port()).as_str())
    );
    refused(
        fetch(&step, "/echo"),
        Cause::Denied,
        &["repeats the value of the secret `KEY`"],
    );
    // Nor by way of an error's words, or of another grant that has no secret.
    let answer = fetch(&step, &format!("/redirect?to=ftp://{KEY}"));
    refused(answer, Cause::Protocol, &["redirects to what is no URL of HTTP"]);
    let answer = fetch(&step, &format!("/redirect?to=http://{KEY}.example/"));
    refused(answer, Cause::Denied, &["repeats the value"]);
    let other = Web::start();
    let mut plain = world.grant("127.0.0.1");
    plain.origin = Origin::parse(&other.origin()).unwrap();
    plain.headers.clear();
    let both = world.step(vec![world.grant("127.0.0.1"), plain]);
    let leads = format!("{}/redirect?to={}/echo?{KEY}", world.web.origin(), other.origin());
    refused(fetch(&both, &leads), Cause::Denied, &["repeats the value"]);
    // Any status is an answer.
    assert_eq!(fetch(&step, "/customers/404").unwrap().status, 404);
}

#[test]
fn only_the_granted_origin_is_reached() {
    let (world, step) = granted();
    let other = Web::start();
    let elsewhere = [
        format!("http://127.0.0.1:{}/customers/7", other.port()),
        format!("https://127.0.0.1:{}/customers/7", world.web.port()),
        format!("http://localhost:{}/customers/7", world.web.port()),
        format!("http://127.0.0.2:{}/customers/7", world.web.port()),
    ];
    for url in elsewhere {
        refused(
            fetch(&step, &url),
            Cause::Denied,
            &["is not granted", &world.web.origin()],
        );
    }
    let port = world.web.port();
    for url in [
        format!("http://127.0.0.1:{port}@evil.example/"),
        format!("http://127.1:{port}/"),
        "gopher://x".into(),
    ] {
        refused(fetch(&step, &url), Cause::InvalidRequest, &[]);
    }
    assert!(world.web.asked().is_empty() && other.asked().is_empty());
}

#[test]
fn what_a_guest_may_not_write_is_refused() {
    let (world, step) = granted();
    let with_header = |name: &str| Request {
        headers: vec![(name.into(), b"x".to_vec())],
        ..get("/customers/7")
    };
    for name in [
        "Authorization",
        "host",
        "Content-Length",
        "Transfer-Encoding",
        "proxy-x",
    ] {
        let answer = fetch_within(&step, vec![with_header(name)], PLENTY).remove(0);
        refused(answer, Cause::InvalidRequest, &[&name.to_lowercase()]);
    }
    for method in ["TRACE", "CONNECT", "get", "G T"] {
        let request = Request {
            method: method.into(),
            ..get("/customers/7")
        };
        refused(
            fetch_within(&step, vec![request], PLENTY).remove(0),
            Cause::InvalidRequest,
            &["method"],
        );
    }
    assert!(world.web.asked().is_empty());
}

#[test]
fn redirects_stay_on_the_list() {
    let (world, step) = granted();
    let other = Web::start();
    let to_other = format!("/redirect?to={}/customers/7", other.origin());
    refused(
        fetch(&step, &to_other),
        Cause::Denied,
        &[&other.origin(), "redirects to", "not granted"],
    );
    assert!(other.asked().is_empty());

    let answer = fetch(&step, "/redirect?to=/customers/7").unwrap();
    assert_eq!(
        (answer.status, answer.url),
        (200, format!("{}/customers/7", world.web.origin()))
    );
    refused(
        fetch(&step, "/redirect?to=/redirect?to=/echo"),
        Cause::Denied,
        &["secret"],
    );
    let unfollowed = Request {
        follow: false,
        ..get(&to_other)
    };
    assert_eq!(
        fetch_within(&step, vec![unfollowed], PLENTY).remove(0).unwrap().status,
        302
    );

    // To another origin that is granted: with that grant's headers and without the guest's.
    let mut second = world.grant("127.0.0.1");
    second.origin = Origin::parse(&other.origin()).unwrap();
    second.headers.clear();
    let mut first = world.grant("127.0.0.1");
    first.headers.clear();
    let both = world.step(vec![first, second]);
    let request = Request {
        headers: vec![
            ("authorization".into(), b"Bearer own".to_vec()),
            ("x-kept".into(), b"1".to_vec()),
        ],
        ..get(&format!("{}{to_other}", world.web.origin()))
    };
    assert_eq!(
        fetch_within(&both, vec![request], PLENTY).remove(0).unwrap().status,
        401
    );
    let asked = other.asked();
    assert_eq!(
        (asked[0].header("authorization"), asked[0].header("x-kept")),
        (None, Some("1"))
    );
}

#[test]
fn a_circle_of_redirects_ends() {
    let (world, step) = granted();
    // Every answer of this server that it cannot read as a path redirects to itself.
    let circle = (0..8).fold("/customers/7".to_owned(), |to, _| format!("/redirect?to={to}"));
    refused(fetch(&step, &circle), Cause::Protocol, &["redirects more than 5 times"]);
    assert_eq!(world.web.asked().len(), 6);
}

#[test]
fn a_name_that_resolves_elsewhere_is_refused_at_the_dial() {
    let names = Names::of(&[
        ("inside.example", &["127.0.0.1"]),
        ("metadata.example", &["169.254.169.254"]),
        ("mapped.example", &["::ffff:10.0.0.1"]),
        // Another place at every look.
        ("rebinding.example", &["203.0.113.7", "127.0.0.1"]),
    ]);
    let world = World::new(names);
    let cases = [
        ("inside.example", "127.0.0.1, a loopback address"),
        ("metadata.example", "169.254.169.254, a link-local address"),
        ("mapped.example", "an address of a private network"),
        ("rebinding.example", "203.0.113.7, a reserved address"),
        ("rebinding.example", "127.0.0.1, a loopback address"),
    ];
    for (name, words) in cases {
        let step = world.step(vec![world.grant(name)]);
        refused(fetch(&step, "/customers/7"), Cause::Denied, &[name, words, "hint: "]);
    }
    assert_eq!(world.web.connections(), 0);

    let private = HttpGrant {
        private: true,
        ..world.grant("inside.example")
    };
    assert_eq!(fetch(&world.step(vec![private]), "/customers/7").unwrap().status, 200);
    let link_local = HttpGrant {
        private: true,
        ..world.grant("metadata.example")
    };
    refused(
        fetch(&world.step(vec![link_local]), "/"),
        Cause::Denied,
        &["link-local"],
    );
    let unknown = world.step(vec![world.grant("nowhere.example")]);
    refused(
        fetch(&unknown, "/"),
        Cause::Connection,
        &["`nowhere.example` cannot be resolved"],
    );
}

#[test]
fn slow_and_endless_answers_are_cut() {
    let (_world, step) = with(|grant| {
        grant.timeout_ms = 300;
        grant.response_bytes = 100_000;
    });
    for path in ["/hang", "/slow"] {
        refused(
            fetch(&step, path),
            Cause::Timeout,
            &["no whole answer", "within 300 ms"],
        );
    }
    refused(
        fetch(&step, "/endless"),
        Cause::TooLarge,
        &["more than 100000 bytes (`response-bytes`)"],
    );
    refused(fetch(&step, "/large?n=100001"), Cause::TooLarge, &["100000"]);
    assert_eq!(fetch(&step, "/large?n=100000").unwrap().body.len(), 100_000);
    refused(fetch(&step, "/garbage"), Cause::Protocol, &["no HTTP"]);
    let large = Request {
        method: "POST".into(),
        body: vec![0; (1 << 20) + 1],
        ..get("/customers/7")
    };
    refused(
        fetch_within(&step, vec![large], PLENTY).remove(0),
        Cause::TooLarge,
        &["request-bytes"],
    );
}

#[test]
fn a_closed_port_is_a_passing_problem() {
    let (world, step) = granted();
    drop(world.web);
    let problem = fetch(&step, "/customers/7").unwrap_err();
    assert!(problem.cause == Cause::Connection && problem.transient, "{problem:?}");
}

#[test]
fn a_batch_runs_at_the_same_time_and_in_bounds() {
    let (world, step) = with(|grant| grant.concurrent = 8);
    // Nobody passes before all eight are there.
    let answers = fetch_within(&step, vec![get("/gate?n=8"); 8], PLENTY);
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().is_ok_and(|a| a.status == 200)),
        "{answers:?}"
    );
    assert_eq!(world.web.running_max(), 8);

    let (world, step) = with(|grant| grant.concurrent = 3);
    let mut requests = vec![get("/hold"); 10];
    requests.insert(4, get("http://elsewhere.example/"));
    let answers = fetch_within(&step, requests, PLENTY);
    let good = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!(good == 10 && answers[4].is_err(), "{answers:?}");
    assert_eq!(world.web.running_max(), 3);
    assert!(world.web.connections() <= 3, "connections are not kept");
}

#[test]
fn a_call_has_a_time_and_a_memory_for_all_its_requests() {
    let (_world, step) = with(|grant| grant.concurrent = 1);
    let answers = fetch_within(&step, vec![get("/hang"), get("/hang")], Duration::from_millis(200));
    for answer in answers {
        refused(answer, Cause::Timeout, &["200 ms", "limits.http"]);
    }
    let allowance = Allowance {
        time: PLENTY,
        body_bytes: 5_000,
    };
    let answers = step.fetch(vec![get("/large?n=4000"), get("/large?n=4000")], allowance);
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    refused(
        answers.into_iter().find(Result::is_err).unwrap(),
        Cause::TooLarge,
        &["limits.memory"],
    );
}

#[test]
fn a_secret_is_read_again_and_its_absence_told() {
    let (world, step) = granted();
    assert_eq!(fetch(&step, "/customers/7").unwrap().status, 200);
    std::fs::write(world._secrets.path().join("KEY"), "another-key-from-now-on").unwrap();
    it::until("the new secret is used", PLENTY, || {
        (fetch(&step, "/customers/7").unwrap().status == 401).then_some(())
    });
    std::fs::remove_file(world._secrets.path().join("KEY")).unwrap();
    let problem = it::until("the secret is gone", PLENTY, || fetch(&step, "/customers/7").err());
    assert!(
        problem.message.contains("no secret `KEY`: looked for the file"),
        "{problem:?}"
    );
    let grants = Grants {
        http: vec![world.grant("127.0.0.1")],
        env: vec!["HOME".into()],
        ..Grants::default()
    };
    let lacking = world.outbound.lacking("s", &grants).join("\n");
    assert!(
        lacking.contains("no secret `KEY`") && lacking.contains("grantable-env = [\"HOME\"]"),
        "{lacking}"
    );
}

#[test]
fn requests_are_counted_by_what_came_of_them() {
    let (world, step) = granted();
    drop(fetch_within(
        &step,
        vec![get("/customers/7"), get("http://b.example/"), get("/garbage")],
        PLENTY,
    ));
    let counts = world.outbound.counts();
    let ((pipeline, name), counts) = &counts[0];
    let seen: BTreeMap<&str, u64> = counts.requests().filter(|(_, count)| *count > 0).collect();
    assert_eq!((pipeline.as_str(), name.as_str()), ("p", "s"));
    assert_eq!(seen, BTreeMap::from([("ok", 1), ("denied", 1), ("protocol", 1)]));
    assert!(counts.received_bytes() > 0);
}
