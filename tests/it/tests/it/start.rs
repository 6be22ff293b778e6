//! Nodes that cannot start: no broker, a damaged or foreign directory, a directory that is in use.

use it::node::{Broker, Setup};
use it::place::files;
use it::told::Told;
use std::fs;
use std::path::{Path, PathBuf};

/// `serve` in `setup`, to its end.
fn refused(setup: &Setup) -> Told {
    Told::by(&mut setup.command(&["serve"]))
}

#[test]
fn a_broker_that_is_not_there() {
    let dir = tempfile::tempdir().unwrap();
    // Nothing listens on port 1.
    let setup = Setup::new(dir.path(), &Broker::Kafka("127.0.0.1:1".to_owned())).settings("broker-timeout = \"5s\"\n");
    refused(&setup).exits(3).says(&[
        "the broker does not answer; trying again",
        "failed to reach Kafka at 127.0.0.1:1 within 5s",
        "Connection refused",
        "hint: is the broker there?",
    ]);
}

/// A directory as a node leaves it.
fn used(dir: &Path) -> Setup {
    let setup = Setup::new(dir, &Broker::Embedded);
    let node = setup.start();
    node.ask(&["topics", "create", "there"]).done();
    node.stop(&[]);
    setup
}

/// RocksDB begins a new file of its own talk at every try; all else must be as it was.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = files(dir);
    found.retain(|(path, _)| !path.file_name().unwrap().to_string_lossy().starts_with("LOG"));
    found
}

/// Damages the log with `damage`; the node must refuse it in the words of `says`, twice, and leave it alone.
fn is_left_alone(damage: impl FnOnce(&Path), code: i32, says: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let setup = used(dir.path());
    damage(&setup.data().join("log"));
    let before = contents(&setup.data());
    for _ in 0..2 {
        refused(&setup).exits(code).says(says);
        let after = contents(&setup.data());
        let names = |files: &[(PathBuf, Vec<u8>)]| files.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
        assert_eq!(names(&before), names(&after));
        assert!(before == after, "a file was changed");
    }
}

#[test]
fn a_stamp_that_makes_no_sense() {
    is_left_alone(
        |log| fs::write(log.join("wasmill-log"), "what?").unwrap(),
        3,
        &["wasmill-log", "names no format"],
    );
}

#[test]
fn a_directory_of_another_format() {
    let other = |log: &Path| fs::write(log.join("wasmill-log"), "format 9\ncluster x\nstate made\n").unwrap();
    is_left_alone(other, 1, &["its format is 9, this program reads 1"]);
}

#[test]
fn a_database_that_is_gone() {
    is_left_alone(
        |log| fs::remove_dir_all(log.join("db")).unwrap(),
        3,
        &["is gone or damaged"],
    );
}

#[test]
fn a_database_that_is_damaged() {
    let damage = |log: &Path| {
        let manifests = fs::read_dir(log.join("db")).unwrap().map(|entry| entry.unwrap().path());
        for path in manifests.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("MANIFEST")) {
            fs::write(path, "not what RocksDB wrote").unwrap();
        }
    };
    is_left_alone(damage, 3, &["failed to open the log", "MANIFEST"]);
}

#[test]
fn a_directory_with_other_files() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path(), &Broker::Embedded);
    fs::create_dir_all(setup.data().join("log")).unwrap();
    fs::write(setup.data().join("log/thesis.txt"), "mine").unwrap();
    refused(&setup).exits(1).says(&[
        "holds other files and no `wasmill-log`",
        "hint: name an empty directory",
    ]);
    let names: Vec<PathBuf> = files(&setup.data()).into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, [setup.data().join("log/thesis.txt")]);
}

#[test]
fn a_second_node_in_the_same_directory() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path(), &Broker::Embedded);
    let first = setup.start();
    refused(&setup).exits(1).says(&["another process has it open"]);
    // The first one serves on.
    first.ask(&["topics", "create", "still-there"]).done();
    first.stop(&[]);
}

#[test]
fn an_unknown_setting() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path(), &Broker::Embedded).settings("threads = 2\ncomit-interval = \"1s\"\n");
    refused(&setup)
        .exits(1)
        .says(&["node.toml", "line 2", "comit-interval"]);
    assert!(!setup.data().exists());
}
