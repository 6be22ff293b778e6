//! Requests of modules over TLS: to whom the machine trusts, and to nobody else.

use crate::grants::{SECRET, grant, lines, orders, write_pipeline};
use it::node::{Broker, Setup, TASKS};
use it::{place, until};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// OpenSSL's own server, with a certificate for `localhost` by an authority of the test's own.
struct Encrypted {
    child: Child,
    port: u16,
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `None`, and says so, where there is no OpenSSL.
fn serve(dir: &Path) -> Option<Encrypted> {
    let new_key = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    let authority = format!("{new_key} -keyout authority-key.pem -out authority.pem -subj /CN=authority");
    let certificate = format!(
        "{new_key} -CA authority.pem -CAkey authority-key.pem -keyout key.pem -out cert.pem -subj /CN=localhost \
         -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE"
    );
    for words in [authority, certificate] {
        let words = words.split_whitespace();
        let made = Command::new("openssl").args(words).current_dir(dir).output();
        if !made.is_ok_and(|output| output.status.success()) {
            place::skipped("needs `openssl` 3");
            return None;
        }
    }
    // It serves files as they are, heads included.
    let body = r#"{"name": "Ada", "country": "GB"}"#;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    fs::create_dir(dir.join("customers")).unwrap();
    fs::write(dir.join("customers/1"), answer).unwrap();
    let output = dir.join("openssl.log");
    let child = Command::new("openssl")
        .args("s_server -accept 127.0.0.1:0 -cert cert.pem -key key.pem -HTTP".split_whitespace())
        .current_dir(dir)
        // Ends at the end of its input.
        .stdin(Stdio::piped())
        .stdout(File::create(&output).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Encrypted { child, port: 0 };
    server.port = until("the port of OpenSSL's server", TASKS, || {
        let text = fs::read_to_string(&output).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("ACCEPT "))?.to_owned();
        line.rsplit(':').next()?.parse().ok()
    });
    Some(server)
}

/// What comes of an order of customer 1, in `topic`, on a node that trusts the server or does not.
fn ordered(topic: &str, trusts: bool) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(dir.path())?;
    let pipeline = write_pipeline(dir.path(), &grant(&format!("https://localhost:{}", server.port)))?;
    let mut setup = Setup::new(dir.path(), &Broker::Embedded);
    setup.env.push(("WASMILL_SECRET_KEY", SECRET.to_owned()));
    if trusts {
        let authority = dir.path().join("authority.pem").display().to_string();
        setup.env.push(("SSL_CERT_FILE", authority));
    }
    let node = setup.start();
    node.ask(&["topics", "create", "letters"]).done();
    node.ask(&["apply", "--yes", &pipeline]).done();
    orders(&node, dir.path(), &[1]);
    let found = lines(&node, topic, 1).concat();
    node.stop(&[]);
    Some(found)
}

#[test]
fn a_trusted_server_is_asked_over_tls() {
    if let Some(enriched) = ordered("enriched", true) {
        assert!(enriched.contains("Ada"), "{enriched}");
    }
}

#[test]
fn a_server_that_nobody_vouches_for_is_not_asked() {
    if let Some(letters) = ordered("letters", false) {
        assert!(letters.contains("TLS with https://localhost:"), "{letters}");
    }
}
