//! Versions after versions on the embedded log: what is kept, what is refused, what goes back, and what is said.
//! `tests/swap.sh` does the same under load on Kafka.

use it::node::{Broker, Node, Setup};
use it::swaps::Stage;
use it::until;
use serde_json::Value;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Records come through in some commits.
const THROUGH: Duration = Duration::from_secs(60);
/// Of a node's log: what it says when a swap goes back is asked for here.
const EXPECTED: [&str; 1] = ["Failed to acquire "];

struct Story {
    stage: Stage,
    node: Node,
    next: u64,
}

impl Story {
    /// Version 1 has stamped a hundred records.
    fn begin(dir: &tempfile::TempDir, partitions: i32, versions: &[&str]) -> Option<Self> {
        let stage = Stage::new(Setup::new(dir.path(), &Broker::Embedded), partitions);
        let node = stage.begin(versions)?;
        let mut story = Self { stage, node, next: 0 };
        story.feed(100);
        Some(story)
    }

    /// Feeds `count` records more, with ten keys, and waits until they are through.
    fn feed(&mut self, count: u64) {
        let line = |n: u64| format!("k{}\t{n}\n", n % 10);
        let lines: String = (self.next..self.next + count).map(line).collect();
        let path = self.stage.setup.dir.join("lines");
        fs::write(&path, lines).unwrap();
        self.next += count;
        let path = path.display().to_string();
        self.node
            .ask(&["produce", &self.stage.input(), &path, "--separator", "\t"])
            .done();
        self.stage.caught_up(&self.node);
        until("all records are through", THROUGH, || {
            (self.output().len() as u64 == self.next).then_some(())
        });
    }

    /// Stamps of all records: version, count, number.
    fn output(&self) -> Vec<(String, u64, u64)> {
        let path = format!("/v1/topics/{}/records?limit=10000", self.stage.output());
        let page = self.node.get(&path).unwrap();
        let stamp = |record: &Value| {
            let value = record["value"].as_str().unwrap_or_else(|| panic!("{record}"));
            let words: Vec<&str> = value.split(' ').collect();
            (
                words[0].to_owned(),
                words[1].parse().unwrap(),
                words[2].parse().unwrap(),
            )
        };
        page["records"].as_array().unwrap().iter().map(stamp).collect()
    }

    /// Every number once, every key counted without a gap; `versions` made the records, in ranges of numbers.
    fn output_is(&self, versions: &[(&str, std::ops::Range<u64>)]) {
        let mut output = self.output();
        output.sort_by_key(|(_, _, number)| *number);
        let expected = (0..self.next).map(|number| {
            let by = versions.iter().find(|(_, numbers)| numbers.contains(&number)).unwrap();
            (by.0.to_owned(), number / 10 + 1, number)
        });
        assert_eq!(output, expected.collect::<Vec<_>>());
    }
}

#[test]
fn a_version_follows_another_and_its_state_stays() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut story) = Story::begin(&dir, 2, &["1", "2"]) else {
        return;
    };
    let before = story.node.pipeline(&story.stage.name).unwrap();

    let told = story.stage.swap(&story.node, "2", &["--watch", "0"]).done();
    let told = told.says(&["stamp stamp@1 -> stamp@2", "prepared", "done", "stamp runs stamp@2"]);
    assert_eq!(told.json()["phase"], "swapped");
    story.feed(100);
    story.output_is(&[("1", 0..100), ("2", 100..200)]);
    assert_eq!(story.stage.of_tasks(&story.node), ["2".to_owned()].into());

    // No thread was restarted for it.
    let after = story.node.pipeline(&story.stage.name).unwrap();
    for field in ["applied-at", "incarnation", "epoch"] {
        assert_eq!(before[field], after[field], "`{field}` after a swap");
    }
    let history = story.stage.versions(&story.node)["history"].clone();
    let outcome = |n: usize| {
        (
            history[n]["why"].as_str().unwrap(),
            history[n]["outcome"].as_str().unwrap(),
        )
    };
    assert_eq!([outcome(0), outcome(1)], [("swap", "running"), ("applied", "replaced")]);

    // Again is nothing, and back is a swap like any other.
    let again = story.stage.swap(&story.node, "2", &["--watch", "0"]).done();
    again.says(&["stamp runs stamp@2 already"]);
    story.node.ask(&["rollback", &story.stage.name]).done();
    story.feed(10);
    story.output_is(&[("1", 0..100), ("2", 100..200), ("1", 200..210)]);
    story.node.stop(&EXPECTED);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(story) = Story::begin(&dir, 2, &["1", "2", "3-closed", "4-schema"]) else {
        return;
    };
    let (node, name) = (&story.node, story.stage.name.as_str());
    let swap = |change: &str| node.ask(&["swap", name, change]);
    swap("stamp=stamp@9")
        .exits(1)
        .says(&["no module `stamp@9`", "stamp@1", "wasmill module add"]);
    swap("stamps=stamp@2").exits(1).says(&["`stamps`", "there are: stamp"]);
    swap("out=stamp@2").exits(1).says(&["is the host's own"]);
    swap("stamp=stamp@3-closed")
        .exits(1)
        .says(&["not swapped", "this version does not open"]);
    let schema = swap("stamp=stamp@4-schema").exits(1);
    schema.says(&[
        "not swapped",
        "stamp-counts",
        "the counts in `counts` are of another time",
    ]);
    node.ask(&["swap", name, "stamp=stamp@2", "--canary", "2"])
        .exits(1)
        .says(&["the swap concerns 2"]);
    node.ask(&["swap", name, "stamp=stamp@2", "--probation", "5s"])
        .exits(2)
        .says(&["at most 1000 ms"]);
    node.ask(&["promote", name]).exits(1).says(&["no swap", "is under way"]);
    node.ask(&["rollback", name]).exits(1).says(&["nothing to go back to"]);
    node.ask(&["swap", "nobody", "stamp=stamp@2"])
        .exits(1)
        .says(&["no pipeline `nobody`"]);

    node.ask(&["pipeline", "pause", name]).done();
    swap("stamp=stamp@2").exits(1).says(&["is paused", "resume"]);
    node.ask(&["pipeline", "resume", name]).done();
    assert_eq!(story.stage.settled(node), "1");
    assert_eq!(story.stage.versions(node)["history"].as_array().unwrap().len(), 1);
    story.output_is(&[("1", 0..100)]);
    story.node.stop(&EXPECTED);
}

/// State is never left behind: a version that cannot read it is refused, and one that can finds it in its new form, also
/// after a kill.
#[test]
fn another_schema_goes_through_migrate_or_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut story) = Story::begin(&dir, 2, &["1", "4-schema", "5-migrates"]) else {
        return;
    };
    let refused = story.stage.swap(&story.node, "4-schema", &[]).exits(1);
    refused.says(&["not swapped", "stamp-counts", "do not go through `migrate`"]);
    story.feed(10);
    story.stage.swap(&story.node, "5-migrates", &["--watch", "0"]).done();
    story.feed(90);
    story.output_is(&[("1", 0..110), ("5-migrates", 110..200)]);
    story.node.kill();
    story.node = story.stage.setup.start();
    story.feed(100);
    story.output_is(&[("1", 0..110), ("5-migrates", 110..300)]);
    story.node.stop(&EXPECTED);
}

#[test]
fn a_file_with_only_another_version_is_a_swap() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut story) = Story::begin(&dir, 2, &["1", "2"]) else {
        return;
    };
    let before = story.node.pipeline(&story.stage.name).unwrap();
    let file = story.stage.write("2");
    story
        .node
        .ask(&["apply", "--yes", &file, "--watch", "0"])
        .done()
        .says(&["stamp runs stamp@2"]);
    let after = story.node.pipeline(&story.stage.name).unwrap();
    assert_eq!(before["applied-at"], after["applied-at"], "a swap restarts no thread");
    story.feed(10);
    story.output_is(&[("1", 0..100), ("2", 100..110)]);

    // A swap that the file does not know of is not taken back by it unasked.
    story.stage.swap(&story.node, "1", &["--watch", "0"]).done();
    let stopped = story.node.ask(&["apply", "--yes", &file]).exits(1);
    stopped.says(&[
        "the file names stamp@2, and stamp@1 runs there",
        "swap by",
        "--force",
        "--keep-versions",
    ]);
    let kept = story.node.ask(&["apply", "--yes", "--keep-versions", &file]).done();
    assert!(kept.out.contains("nothing to change"), "{}", kept.out);
    assert_eq!(story.stage.settled(&story.node), "1");
    story
        .node
        .ask(&["apply", "--yes", "--force", &file, "--watch", "0"])
        .done();
    assert_eq!(story.stage.settled(&story.node), "2");

    // The file learns what runs.
    let told = story
        .stage
        .swap(&story.node, "1", &["--watch", "0", "--write", &file])
        .done();
    told.says(&["names it now"]);
    assert_eq!(fs::read_to_string(&file).unwrap(), story.stage.file("1"));
    let plan = story.node.ask(&["plan", &file]).done();
    assert!(plan.out.contains("nothing to change"), "{}", plan.out);
    story.node.stop(&EXPECTED);
}

#[test]
fn a_version_that_fails_in_its_probation_publishes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut story) = Story::begin(&dir, 1, &["1", "3-traps"]) else {
        return;
    };
    // Records come as long as the swap takes, thousands a second, so that the new version sees more than one thousand of
    // them; no more than one answer of `consume` holds.
    let ended = AtomicBool::new(false);
    let (failed, next) = std::thread::scope(|scope| {
        let (stage, node, ended) = (&story.stage, &story.node, &ended);
        let feeding = scope.spawn(move || {
            let mut next = 100_u64;
            while !ended.load(Ordering::Relaxed) && next < 9_000 {
                let lines: String = (next..next + 400).map(|n| format!("k{}\t{n}\n", n % 10)).collect();
                let path = stage.setup.dir.join("more");
                fs::write(&path, lines).unwrap();
                let path = path.display().to_string();
                node.ask(&["produce", &stage.input(), &path, "--separator", "\t"])
                    .done();
                next += 400;
                std::thread::sleep(Duration::from_millis(60));
            }
            next
        });
        let told = stage.swap(node, "3-traps", &["--probation", "1s", "--watch", "5s"]);
        ended.store(true, Ordering::Relaxed);
        (told, feeding.join().unwrap())
    });
    let failed = failed
        .exits(6)
        .says(&["rolling back", "this version cannot count beyond a thousand"]);
    assert_eq!(failed.json()["phase"], "rolled-back");
    story.next = next;
    story.feed(10);
    story.output_is(&[("1", 0..next + 10)]);
    assert_eq!(story.stage.of_tasks(&story.node), ["1".to_owned()].into());
    let versions = story.node.ask(&["versions", &story.stage.name]).done();
    assert!(
        versions.out.contains("rolled-back") && versions.out.contains("beyond a thousand"),
        "{}",
        versions.out
    );
    drop(story.node.end());
}

#[test]
fn canaries_go_first() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut story) = Story::begin(&dir, 8, &["1", "2"]) else {
        return;
    };
    let told = story
        .stage
        .swap(&story.node, "2", &["--canary", "2", "--watch", "0"])
        .done();
    let told = told.says(&["2 of 8 tasks run the new version", "wasmill promote"]);
    assert_eq!(
        (&told.json()["phase"], &told.json()["mode"]),
        (&"switching".into(), &"canary".into())
    );
    let both = ["1".to_owned(), "2".to_owned()];
    assert_eq!(story.stage.of_tasks(&story.node), both.into());
    let another = story.stage.swap(&story.node, "1", &[]).exits(1);
    another.says(&["is being swapped already", "wasmill promote", "wasmill rollback"]);
    story.node.ask(&["promote", &story.stage.name]).done();
    assert_eq!(story.stage.settled(&story.node), "2");
    story.feed(100);
    story.output_is(&[("1", 0..100), ("2", 100..200)]);
    story.node.stop(&EXPECTED);
}

#[test]
fn a_shadow_is_only_compared() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut story) = Story::begin(&dir, 2, &["1", "9-differs"]) else {
        return;
    };
    let begun = story
        .stage
        .swap(&story.node, "9-differs", &["--shadow", "--watch", "0"])
        .done();
    assert_eq!(begun.json()["mode"], "shadow");
    story.feed(100);
    story.output_is(&[("1", 0..200)]);
    let shadowed = until("the shadow has seen everything", THROUGH, || {
        let tasks = story.stage.versions(&story.node)["swap"]["tasks"].as_array().cloned()?;
        let sum = |field: &str| {
            tasks
                .iter()
                .map(|task| task["shadow"][field].as_u64().unwrap_or(0))
                .sum::<u64>()
        };
        (sum("records") == 100).then(|| sum("different"))
    });
    assert_eq!(shadowed, 10, "every tenth record differs");
    story.node.ask(&["rollback", &story.stage.name]).done();
    assert_eq!(story.stage.settled(&story.node), "1");
    story.node.stop(&EXPECTED);
}
