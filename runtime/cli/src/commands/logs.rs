//! `logs`: what guests write, with the record that it is about.

use crate::args::{Format, Global, LogsArgs};
use crate::client::Client;
use crate::{moment, show};
use anyhow::Result;
use server::api::logs::{LogLine, Missed};

pub fn run(global: &Global, client: &Client, args: &LogsArgs) -> Result<()> {
    let mut query: Vec<(&str, String)> = vec![("follow", args.follow.to_string()), ("level", args.level.clone())];
    query.extend(args.pipeline.clone().map(|pipeline| ("pipeline", pipeline)));
    query.extend(args.step.clone().map(|step| ("step", step)));
    let since = args.since.as_deref().map(moment::since).transpose()?;
    query.extend(since.map(|since| ("since", since.to_string())));
    query.extend(args.tail.map(|tail| ("tail", tail.to_string())));
    client.stream("/v1/logs", &query, |line| {
        if let Ok(Missed { missed }) = serde_json::from_str(line) {
            show::say(&format!(
                "{missed} messages are gone: the node keeps the last ones only, and they came faster than they were read"
            ));
            return Ok(true);
        }
        if global.format == Format::Json {
            show::line(line);
        } else {
            show::line(&text(&serde_json::from_str(line)?));
        }
        Ok(true)
    })
}

/// `12:00:01.250 WARN  word-count/words 0_1 tokenize@1.0.0 lines-1-42: …`; the date is that of `--format json`.
fn text(line: &LogLine) -> String {
    let utc = moment::utc(line.at);
    let time = utc.split_once('T').map_or(&*utc, |(_, time)| time);
    let time = time.trim_end_matches('Z');
    let record = line
        .record
        .as_ref()
        .map(|record| format!(" {record}"))
        .unwrap_or_default();
    format!(
        "{time:12} {:5} {}/{} {} {}{record}: {}",
        line.level.to_uppercase(),
        line.pipeline,
        line.step,
        line.task,
        line.module,
        line.message.replace('\n', "\n    ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use server::api::letters::Place;

    #[test]
    fn a_line_says_whose_it_is_and_about_which_record() {
        let mut line = LogLine {
            at: 1_769_860_801_250,
            level: "warn".into(),
            pipeline: "word-count".into(),
            step: "words".into(),
            task: "0_1".into(),
            module: "tokenize@1.0.0".into(),
            record: Some(Place {
                topic: "lines".into(),
                partition: 1,
                offset: 42,
            }),
            message: "odd\nline".into(),
        };
        assert_eq!(
            text(&line),
            "12:00:01.25  WARN  word-count/words 0_1 tokenize@1.0.0 lines-1-42: odd\n    line"
        );
        line.record = None;
        assert!(text(&line).contains("tokenize@1.0.0: odd"));
    }
}
