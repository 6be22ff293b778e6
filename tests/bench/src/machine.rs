//! When, where and with what was measured.

use crate::programs::Programs;
use crate::rows::Results;
use std::fmt::Write;
use std::fs;
use std::process::Command;

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map_or_else(
        |_| Vec::new(),
        |o| if o.stdout.is_empty() { o.stderr } else { o.stdout },
    );
    String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or("")
        .trim()
        .to_owned()
}

fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
}

pub fn described(results: &Results, programs: &Programs) -> String {
    let at = results.rows.iter().map(|r| r.at);
    let (first, last) = (at.clone().min().unwrap_or(0), at.max().unwrap_or(0));
    let date = |at: u64| said("date", &["-u", "-d", &format!("@{at}"), "+%Y-%m-%d %H:%M"]);
    let loads: Vec<f64> = results.rows.iter().map(|r| r.load).collect();
    let load = |pick: fn(f64, f64) -> f64| loads.iter().copied().reduce(pick).unwrap_or(0.0);
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let memory = field("/proc/meminfo", "MemTotal")
        .replace(" kB", "")
        .parse::<f64>()
        .unwrap_or(0.0)
        / 1_048_576.0;
    let mut text = String::new();
    let mut say = |what: &str, is: String| _ = writeln!(text, "- {what}: {is}");
    say("When", format!("{} to {} UTC", date(first), date(last)));
    say(
        "Machine",
        format!(
            "{}, {cores} cores, {memory:.0} GiB; broker and programs on it",
            field("/proc/cpuinfo", "model name")
        ),
    );
    say("System", said("uname", &["-sr"]));
    say(
        "Wasmill",
        format!(
            "{}, commit {}",
            said(&programs.wasmill.to_string_lossy(), &["--version"]),
            said("git", &["rev-parse", "--short", "HEAD"])
        ),
    );
    if let Some(classpath) = &programs.streams_classpath {
        let jar = classpath.split(':').filter_map(|j| j.rsplit('/').next());
        let jars: Vec<&str> = jar
            .filter(|j| j.starts_with("kafka-streams") || j.starts_with("rocksdbjni"))
            .collect();
        say(
            "Kafka Streams",
            format!(
                "{}; {}; {}",
                jars.join(", "),
                said("java", &["-version"]),
                programs.jvm.join(" ")
            ),
        );
    }
    say(
        "Load average before a run",
        format!("{:.1} to {:.1}", load(f64::min), load(f64::max)),
    );
    text.push_str(
        "\nHow to read it: figures are medians of alternating rounds. Records/s and CPU run from the first committed \
         output to the last one; what comes before is `start`. Warm is the second half. CPU is user and system of the \
         whole process per million inputs; `floor` is a loop on librdkafka alone that does no work. Every output was \
         read back and checked. Repeat with `bash tests/bench/run.sh`.\n",
    );
    text
}
