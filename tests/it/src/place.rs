//! Where things are: the checkout, the binary, built modules, a broker, a directory of the test's own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The binary under test.
pub fn wasmill() -> PathBuf {
    let hint = "is not set: run `bash tests/run.sh`, or `cargo build --bin wasmill` and name the binary in it";
    let path = PathBuf::from(std::env::var_os("WASMILL_BIN").unwrap_or_else(|| panic!("WASMILL_BIN {hint}")));
    assert!(
        path.is_file(),
        "WASMILL_BIN names `{}`, which is no file",
        path.display()
    );
    path
}

/// The built module of that name; `None`, and says so, where no modules were built.
pub fn guest(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("WASMILL_GUESTS") else {
        skipped(&format!(
            "needs the module `{name}`: set WASMILL_GUESTS, as tests/run.sh does"
        ));
        return None;
    };
    let path = Path::new(&folder).join(format!("{name}.wasm"));
    assert!(path.is_file(), "WASMILL_GUESTS has no `{}`", path.display());
    Some(path)
}

/// The real broker; `None`, and says so, where there is none.
pub fn kafka() -> Option<String> {
    let address = std::env::var("WASMILL_KAFKA")
        .ok()
        .filter(|address| !address.is_empty());
    if address.is_none() {
        skipped("needs a Kafka broker: set WASMILL_KAFKA=host:port");
    }
    address
}

/// Past the capture of the test harness, since a skipped test must be seen.
pub fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("SKIPPED {test}: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}

/// A name that no other test, process or former run has: fit for pipelines, topics and clusters.
pub fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{now:x}-{:x}-{number}", std::process::id())
}

/// Every file below `folder` with its bytes, so that a test can see that nothing was touched.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}
