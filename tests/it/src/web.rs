//! A web server for tests, small enough to do everything wrong that servers do.
//!
//! - `/customers/N`: JSON, when the request is authorized. 403 and 404 have that status, 13 repeats the credentials, 96
//!   redirects to a port where nobody is, 97 is `/hang` and 98 is `/endless`.
//! - `/gate?n=N`: answers when N requests are in it at the same time. `/hold`: stays a moment.
//! - `/echo`: the headers of the request. `/redirect?to=URL`, `/hang` (no answer), `/slow` (a byte now and then, for ever),
//!   `/endless` (as fast as it goes, for ever), `/garbage` (no HTTP), `/large?n=BYTES`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// What `/customers` wants to be told.
pub const AUTHORIZED: &str = "Bearer key-of-the-customers";

/// For `/gate`: a gate that never fills is a test that fails, not one that hangs.
const GATE: Duration = Duration::from_secs(20);
const HOLD: Duration = Duration::from_millis(60);
const DRIP: Duration = Duration::from_millis(20);

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.path.split_once('?')?;
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

#[derive(Default)]
struct Shared {
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    running: Mutex<usize>,
    changed: Condvar,
    running_max: AtomicUsize,
    stop: AtomicBool,
}

/// A running server; it stops listening when this is dropped.
pub struct Web {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Web {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::<Shared>::default();
        let serving = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stop.load(Ordering::Relaxed) {
                    return;
                }
                let (Ok(stream), shared) = (stream, serving.clone()) else {
                    continue;
                };
                shared.connections.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { address, shared }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    /// The most requests that were in `/gate` or `/hold` at the same time.
    pub fn running_max(&self) -> usize {
        self.shared.running_max.load(Ordering::Relaxed)
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
    }
}

/// Until the client goes.
fn serve(stream: TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut writer = stream;
    while let Some(asked) = read(&mut reader) {
        shared.asked.lock().unwrap().push(asked.clone());
        if answer(&asked, &mut writer, shared).is_none() {
            return;
        }
    }
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        headers,
        body,
    })
}

/// `None`: the connection is over.
fn answer(asked: &Asked, to: &mut TcpStream, shared: &Shared) -> Option<()> {
    let path = match asked.path.split('?').next().unwrap() {
        "/customers/97" => "/hang",
        "/customers/98" => "/endless",
        path => path,
    };
    match path {
        "/echo" => {
            let lines: Vec<String> = asked
                .headers
                .iter()
                .map(|(name, value)| format!("{name}: {value}"))
                .collect();
            write(to, 200, "", lines.join("\n").as_bytes())
        }
        "/redirect" => write(to, 302, &format!("location: {}\r\n", asked.query("to").unwrap()), b""),
        "/hang" => {
            // The client gives up first.
            drop(to.read(&mut [0]));
            None
        }
        "/slow" | "/endless" => {
            let chunk: &[u8] = if path == "/slow" { b"1\r\n.\r\n" } else { b"1000\r\n" };
            to.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                .ok()?;
            loop {
                to.write_all(chunk).ok()?;
                match path {
                    "/slow" => std::thread::sleep(DRIP),
                    _ => to.write_all(&[b'x'; 4096]).and_then(|()| to.write_all(b"\r\n")).ok()?,
                }
            }
        }
        "/garbage" => {
            to.write_all(b"this is no HTTP\r\n\r\n").ok()?;
            None
        }
        "/large" => write(to, 200, "", &vec![b'x'; asked.query("n").unwrap().parse().unwrap()]),
        "/gate" => {
            let passed = through_gate(asked.query("n").unwrap().parse().unwrap(), shared);
            write(to, if passed { 200 } else { 500 }, "", b"")
        }
        "/hold" => {
            enter(shared);
            std::thread::sleep(HOLD);
            *shared.running.lock().unwrap() -= 1;
            write(to, 200, "", b"")
        }
        _ => customer(path, asked, to),
    }
}

fn customer(path: &str, asked: &Asked, to: &mut TcpStream) -> Option<()> {
    let number = path.strip_prefix("/customers/").unwrap_or("404");
    if asked.header("authorization") != Some(AUTHORIZED) {
        return write(to, 401, "", b"who are you?");
    }
    match number {
        "96" => write(to, 302, "location: http://127.0.0.1:9/customers/1\r\n", b""),
        "403" | "404" => write(to, number.parse().unwrap(), "", b""),
        // A service that hands out what it was trusted with.
        "13" => write(
            to,
            200,
            "",
            format!("{{\"name\": \"{AUTHORIZED}\", \"country\": \"\"}}").as_bytes(),
        ),
        _ => {
            let body = format!("{{\"name\": \"customer {number}\", \"country\": \"GB\"}}");
            write(to, 200, "content-type: application/json\r\n", body.as_bytes())
        }
    }
}

fn write(to: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> Option<()> {
    let head = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n", body.len());
    to.write_all(head.as_bytes()).and_then(|()| to.write_all(body)).ok()
}

fn enter(shared: &Shared) -> usize {
    let mut running = shared.running.lock().unwrap();
    *running += 1;
    shared.running_max.fetch_max(*running, Ordering::Relaxed);
    shared.changed.notify_all();
    *running
}

/// Everybody who is counted in stays until all are there.
fn through_gate(wanted: usize, shared: &Shared) -> bool {
    enter(shared);
    let running = shared.running.lock().unwrap();
    let (_guard, waited) = shared
        .changed
        .wait_timeout_while(running, GATE, |running| *running < wanted)
        .unwrap();
    !waited.timed_out()
}
