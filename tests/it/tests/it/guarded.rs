//! Who may ask a node: with a token, over TLS, and from elsewhere.

use it::node::{Broker, Setup, wasmill};
use it::place;
use it::told::Told;
use std::fs;
use std::process::Command;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[test]
fn whoever_shows_the_token_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, format!("{TOKEN}\n")).unwrap();
    let text = format!("token-file = {:?}\n", file.display().to_string());
    let node = Setup::new(dir.path(), &Broker::Embedded).settings(&text).start();
    node.ask(&["status"])
        .exits(1)
        .says(&["a token is wanted", "WASMILL_TOKEN"]);
    let wrong = "f".repeat(32);
    node.ask(&["status", "--token", &wrong])
        .exits(1)
        .says(&["another token is wanted"]);
    assert!(node.ask(&["status", "--token", TOKEN]).done().out.contains("cluster"));
    let log = node.end();
    assert!(
        !log.contains(TOKEN) && !log.contains(&wrong),
        "a token is in the log:\n{log}"
    );
}

/// `serve` on `listen` with these settings, to its end.
fn refused(listen: &str, settings: &str) -> Told {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    fs::write(&file, settings).unwrap();
    let mut command = wasmill();
    command.args(["serve", "--listen", listen]);
    Told::by(
        command
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .arg("--config")
            .arg(file),
    )
}

#[test]
fn an_address_that_others_reach_wants_a_token_and_tls() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, TOKEN).unwrap();
    let with_token = format!("token-file = {:?}\n", file.display().to_string());
    let everywhere = "0.0.0.0:0";
    refused(everywhere, "")
        .exits(1)
        .says(&["without a token and in plain text", "insecure = true"]);
    refused(everywhere, &with_token)
        .exits(1)
        .says(&["answer them in plain text"]);
    let loopback = "127.0.0.1:0";
    refused(loopback, "token-file = \"/nowhere/token\"\n")
        .exits(1)
        .says(&["/nowhere/token", "token-file"]);
    refused(
        loopback,
        "[tls]\ncert = \"/nowhere/cert.pem\"\nkey = \"/nowhere/key.pem\"\n",
    )
    .exits(1)
    .says(&["/nowhere/cert.pem", "tls.cert"]);
    fs::write(&file, "short").unwrap();
    refused(loopback, &with_token)
        .exits(1)
        .says(&["has 5 bytes", "can be guessed"]);
}

#[test]
fn over_tls_by_an_authority_of_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -keyout key.pem -out cert.pem \
                 -subj /CN=node -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=CA:FALSE";
    let made = Command::new("openssl")
        .args(words.split_whitespace())
        .current_dir(dir.path())
        .output();
    if !made.is_ok_and(|output| output.status.success()) {
        return place::skipped("needs `openssl` 3");
    }
    let [cert, key] = ["cert.pem", "key.pem"].map(|file| dir.path().join(file).display().to_string());
    let node = Setup::new(dir.path(), &Broker::Embedded)
        .settings(&format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n"))
        .start();
    node.ask(&["status"]).exits(3).says(&["no node answers at https://"]);
    assert!(node.ask(&["status", "--ca", &cert]).done().out.contains("cluster"));
    node.end();
}
