//! What survives, and which directories are refused.

use super::*;
use broker::{CommittedOffset, Error, ErrorKind};
use std::collections::BTreeMap;
use std::fs;

/// As a killed process leaves it: whatever the log has not handed to the system is lost.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file with its content, without RocksDB's own messages and lock.
fn content(dir: &Path, into: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            content(&path, into);
        } else if !name.starts_with("LOG") && name != "LOCK" {
            into.insert(path.to_string_lossy().into_owned(), fs::read(&path).unwrap());
        }
    }
}

fn refused(dir: &Path) -> Error {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    content(dir, &mut before);
    let error = Log::open(dir, Options::default())
        .err()
        .expect("the directory was opened");
    content(dir, &mut after);
    assert_eq!(before, after, "the directory was touched");
    error
}

#[test]
fn what_was_committed_survives_a_kill_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let killed = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[("retention.ms", "5")]);
    let cluster = log.admin().unwrap().cluster_id().unwrap();
    let position = CommittedOffset {
        partition: t.clone(),
        offset: 3,
        metadata: "m".to_owned(),
    };
    let mut a = producer(&log, Some("a"));
    a.begin().unwrap();
    a.send("t", Partitioning::Fixed(0), &batch(&["a=1", "b=2"]), 0).unwrap();
    a.send_offsets("g", std::slice::from_ref(&position), None).unwrap();
    a.commit().unwrap();
    write(&log, &t, &["c=3"]);
    log.admin().unwrap().delete_records(&[(t.clone(), 1)]).unwrap();
    let description = log.admin().unwrap().describe(&["t".to_owned()]).unwrap();
    a.begin().unwrap();
    a.send("t", Partitioning::Fixed(0), &batch(&["lost=1"]), 0).unwrap();
    a.send_offsets(
        "g",
        &[CommittedOffset {
            offset: 9,
            ..position.clone()
        }],
        None,
    )
    .unwrap();
    a.flush(Duration::ZERO).unwrap();
    copy(dir.path(), killed.path());

    let log = open(killed.path());
    assert_eq!(read(&log, &t), ["1:b=2", "2:c=3"]);
    assert_eq!(offset(&log, &t, END), 3);
    let mut admin = log.admin().unwrap();
    assert_eq!(admin.cluster_id().unwrap(), cluster);
    assert_eq!(admin.describe(&["t".to_owned()]).unwrap(), description);
    assert_eq!(
        admin.committed("g", std::slice::from_ref(&t)).unwrap(),
        [Some(position)]
    );
    write(&log, &t, &["d=4"]);
    assert_eq!(read(&log, &t), ["1:b=2", "2:c=3", "3:d=4"]);
    // A topic that was made after the start must not get the number, and so the records, of an older one.
    let u = create(&log, "u", Cleanup::Delete, &[]);
    assert_eq!(read(&log, &u), [""; 0]);
}

#[test]
fn a_torn_last_write_is_no_write() {
    let dir = tempfile::tempdir().unwrap();
    let killed = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[]);
    write(&log, &t, &["a=1"]);
    write(&log, &t, &["b=2", "c=3"]);
    copy(dir.path(), killed.path());
    let newest = fs::read_dir(killed.path().join("db"))
        .unwrap()
        .map(|e| e.unwrap().path());
    let journal = newest
        .filter(|p| p.extension().is_some_and(|e| e == "log"))
        .max()
        .unwrap();
    let bytes = fs::read(&journal).unwrap();
    fs::write(&journal, &bytes[..bytes.len() - 5]).unwrap();
    let log = open(killed.path());
    assert_eq!(read(&log, &t), ["0:a=1"]);
}

#[test]
fn an_emptied_partition_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[]);
    write(&log, &t, &["a=1", "b=2"]);
    log.admin().unwrap().delete_records(&[(t.clone(), 2)]).unwrap();
    log.close().unwrap();
    let log = open(dir.path());
    assert_eq!((offset(&log, &t, OffsetAt::Earliest), offset(&log, &t, END)), (2, 2));
    write(&log, &t, &["c=3"]);
    assert_eq!(read(&log, &t), ["2:c=3"]);
}

#[test]
fn a_deleted_topic_is_gone_with_its_positions() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[]);
    write(&log, &t, &["a=1", "b=2"]);
    let mut admin = log.admin().unwrap();
    let position = CommittedOffset {
        partition: t.clone(),
        offset: 2,
        metadata: String::new(),
    };
    admin.commit("g", &[position]).unwrap();
    admin.delete(&["t".to_owned()]).unwrap();
    drop(admin);
    log.close().unwrap();
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[]);
    assert_eq!(read(&log, &t), [""; 0]);
    assert_eq!(log.admin().unwrap().committed("g", &[t]).unwrap(), [None]);
}

/// An older producer stays fenced when the process was started anew between the two.
#[test]
fn epochs_survive() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    drop(producer(&log, Some("a")));
    drop(log);
    let log = open(dir.path());
    let t = create(&log, "t", Cleanup::Delete, &[]);
    let mut old = producer(&log, Some("a"));
    let mut fencing = log.fence("a");
    assert!(matches!(fencing.poll(), Some(Ok(()))));
    assert_eq!(old.begin().unwrap_err().kind, ErrorKind::Fenced);
    assert_eq!(read(&log, &t), [""; 0]);
}

#[test]
fn a_directory_has_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let second = refused(dir.path());
    assert_eq!(second.kind, ErrorKind::Configuration);
    assert!(second.cause.contains("another process"), "{second}");
    drop(log);
    open(dir.path());
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let foreign = tempfile::tempdir().unwrap();
    fs::write(foreign.path().join("notes.txt"), "mine").unwrap();
    let error = refused(foreign.path());
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(error.cause.contains("hint: name an empty directory"), "{error}");
    assert_eq!(fs::read_dir(foreign.path()).unwrap().count(), 1);

    let other = tempfile::tempdir().unwrap();
    drop(open(other.path()));
    let stamp = other.path().join("wasmill-log");
    let text = fs::read_to_string(&stamp).unwrap();
    fs::write(&stamp, text.replace("format 1", "format 2")).unwrap();
    let error = refused(other.path());
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(error.cause.contains("format is 2"), "{error}");
}

type Damage = fn(&Path);

#[test]
fn a_damaged_log_is_refused() {
    let damage: [(&str, Damage); 4] = [
        ("an empty stamp", |dir| fs::write(dir.join("wasmill-log"), "").unwrap()),
        ("no database", |dir| fs::remove_dir_all(dir.join("db")).unwrap()),
        ("another cluster's database", |dir| {
            let text = fs::read_to_string(dir.join("wasmill-log")).unwrap();
            let other = text
                .lines()
                .map(|l| if l.starts_with("cluster") { "cluster x" } else { l });
            fs::write(dir.join("wasmill-log"), other.collect::<Vec<_>>().join("\n")).unwrap();
        }),
        ("a lost file", |dir| {
            let files = fs::read_dir(dir.join("db")).unwrap().map(|e| e.unwrap().path());
            files
                .filter(|p| p.extension().is_some_and(|e| e == "sst"))
                .for_each(|p| fs::remove_file(p).unwrap());
        }),
    ];
    for (what, damage) in damage {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        let t = create(&log, "t", Cleanup::Delete, &[]);
        write(&log, &t, &["a=1"]);
        log.close().unwrap();
        damage(dir.path());
        let error = Log::open(dir.path(), Options::default()).err().expect(what);
        assert_eq!(error.kind, ErrorKind::Corrupt, "{what}: {error}");
    }
}
