//! `dead-letters list|show|replay`.

use super::confirmed;
use crate::args::{BytesFormat, ChooseArgs, DeadLettersCommand, Format, Global};
use crate::client::Client;
use crate::failure::{Code, Exit};
use crate::{moment, show};
use anyhow::Result;
use server::api::letters::{DeadLetter, DeadLetters, LettersRequest, ReplayAnswer, ReplayRequest};
use server::text;

/// Of a hex dump.
const BYTES_PER_LINE: usize = 16;
/// Reasons in a table are cut to this; `show` has all of it.
const REASON_CHARS_MAX: usize = 100;

pub fn run(global: &Global, client: &Client, command: DeadLettersCommand) -> Result<()> {
    match command {
        DeadLettersCommand::List {
            pipeline,
            choose,
            limit,
        } => list(global, client, &pipeline, &chosen(&choose, Some(limit))?),
        DeadLettersCommand::Show { pipeline, id, bytes } => {
            let letter: DeadLetter = client.get(&format!("/v1/pipelines/{pipeline}/dead-letters/{id}"), &[])?;
            show::either(global.format, &letter, |letter| whole(letter, bytes))
        }
        DeadLettersCommand::Replay {
            pipeline,
            ids,
            choose,
            limit,
            to,
            again,
            dry_run,
            yes,
        } => {
            let request = ReplayRequest {
                letters: ids,
                choose: chosen(&choose, limit)?,
                to,
                again,
                dry_run,
            };
            replay(global, client, &pipeline, request, yes)
        }
    }
}

fn chosen(args: &ChooseArgs, limit: Option<usize>) -> Result<LettersRequest> {
    Ok(LettersRequest {
        step: args.step.clone(),
        since: args.since.as_deref().map(moment::since).transpose()?,
        reason: args.reason.clone(),
        limit,
    })
}

fn list(global: &Global, client: &Client, pipeline: &str, request: &LettersRequest) -> Result<()> {
    let mut query: Vec<(&str, String)> = Vec::new();
    query.extend(request.step.clone().map(|step| ("step", step)));
    query.extend(request.since.map(|since| ("since", since.to_string())));
    query.extend(request.reason.clone().map(|reason| ("reason", reason)));
    query.extend(request.limit.map(|limit| ("limit", limit.to_string())));
    let found: DeadLetters = client.get(&format!("/v1/pipelines/{pipeline}/dead-letters"), &query)?;
    show::either(global.format, &found.letters, |letters| {
        if letters.is_empty() {
            show::say(&format!("no dead letters in `{}`", found.topic));
            return;
        }
        let now = moment::now_ms();
        let row = |letter: &DeadLetter| {
            vec![
                letter.id.clone(),
                letter.at.map(|at| moment::age(at, now)).unwrap_or_default(),
                or_dash(&letter.step),
                or_dash(&letter.module),
                letter
                    .origin
                    .as_ref()
                    .map_or_else(|| "-".to_owned(), ToString::to_string),
                replays(letter),
                cut(&letter.reason),
            ]
        };
        let head = ["id", "age", "step", "module", "record", "replays", "reason"];
        show::table(&head, &["age"], letters.iter().map(row).collect());
    })
}

fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

/// How often the record had been sent back before it failed, and whether it was since.
fn replays(letter: &DeadLetter) -> String {
    match (letter.replays, &letter.replayed) {
        (0, None) => "-".to_owned(),
        (count, None) => count.to_string(),
        (count, Some(_)) => format!("{count} + done"),
    }
}

fn cut(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default();
    match line.char_indices().nth(REASON_CHARS_MAX) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or(line)),
        None => line.to_owned(),
    }
}

fn whole(letter: &DeadLetter, bytes: Option<BytesFormat>) {
    let when = letter.at.map(|at| {
        let age = moment::age(at, moment::now_ms());
        format!(", {age} ago ({})", moment::utc(at))
    });
    show::line(&format!(
        "{}  {}{}",
        letter.id,
        or_dash(&letter.stage),
        when.unwrap_or_default()
    ));
    let step = [letter.step.as_str(), letter.module.as_str()].join("  ");
    show::line(&format!(
        "step       {}  task {}",
        or_dash(step.trim()),
        or_dash(&letter.task)
    ));
    let origin = letter
        .origin
        .as_ref()
        .map_or_else(|| "none".to_owned(), ToString::to_string);
    let timestamp = letter.record.timestamp.map(moment::utc).unwrap_or_default();
    show::line(&format!("record     {origin}  timestamp {timestamp}"));
    show::line(&format!("reason     {}", letter.reason.replace('\n', "\n           ")));
    if letter.replays > 0 {
        show::line(&format!("replays    {} before it failed this time", letter.replays));
    }
    if let Some(replayed) = &letter.replayed {
        let at = moment::utc(replayed.at);
        show::line(&format!(
            "replayed   to {}-{} at {at}",
            replayed.topic, replayed.partition
        ));
    }
    for line in letter.backtrace.iter().flat_map(|trace| trace.lines()) {
        show::line(&format!("  at {line}"));
    }
    for (name, value) in &letter.record.headers {
        show::line(&format!("header     {name}: {}", value.as_deref().unwrap_or("null")));
    }
    let of = |text: &Option<String>| text.as_deref().map(|text| text::from_base64(text).unwrap_or_default());
    let (key, value) = letter
        .bytes
        .as_ref()
        .map_or((None, None), |raw| (of(&raw.key), of(&raw.value)));
    part("key", key.as_deref(), bytes);
    part("value", value.as_deref(), bytes);
}

fn part(name: &str, bytes: Option<&[u8]>, format: Option<BytesFormat>) {
    let Some(bytes) = bytes else {
        return show::line(&format!("{name:10} null"));
    };
    show::line(&format!("{name:10} {}", show::size(bytes.len() as u64)));
    let readable = |text: &&str| !text.chars().any(|c| c.is_control() && !c.is_whitespace());
    let text = std::str::from_utf8(bytes).ok().filter(readable);
    match (format, text) {
        (Some(BytesFormat::Text), _) => String::from_utf8_lossy(bytes).lines().for_each(indented),
        (None, Some(text)) => text.lines().for_each(indented),
        (Some(BytesFormat::Hex) | None, _) => hex_lines(bytes).iter().for_each(|line| indented(line)),
    }
}

fn indented(line: &str) {
    show::line(&format!("  {line}"));
}

/// Offset, bytes, and the same as text where it is ASCII.
fn hex_lines(bytes: &[u8]) -> Vec<String> {
    let line = |(number, chunk): (usize, &[u8])| {
        let hex: Vec<String> = chunk.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String = chunk
            .iter()
            .map(|byte| {
                if byte.is_ascii_graphic() || *byte == b' ' {
                    *byte as char
                } else {
                    '.'
                }
            })
            .collect();
        format!("{:08x}  {:47}  {text}", number * BYTES_PER_LINE, hex.join(" "))
    };
    bytes.chunks(BYTES_PER_LINE).enumerate().map(line).collect()
}

fn replay(global: &Global, client: &Client, pipeline: &str, mut request: ReplayRequest, yes: bool) -> Result<()> {
    let path = format!("/v1/pipelines/{pipeline}/dead-letters/replay");
    let dry_run = std::mem::replace(&mut request.dry_run, true);
    let mut answer: ReplayAnswer = client.post(&path, &request)?;
    if !dry_run && answer.replayed > 0 {
        let question = format!("write {} back?", said(&answer));
        if !confirmed(&question, yes || global.format == Format::Json)? {
            return Ok(());
        }
        request.dry_run = false;
        answer = client.post(&path, &request)?;
    }
    show::either(global.format, &answer, |answer| {
        let what = if dry_run { "would replay" } else { "replayed" };
        show::line(&format!("{what} {}", said(answer)));
        if answer.before > 0 {
            let hint = "`--again` sends them once more";
            show::say(&format!("left out {} that were replayed before; {hint}", answer.before));
        }
        if answer.replays_max > 1 {
            let count = answer.replays_max;
            show::say(&format!(
                "one of them goes back for the {count}. time: does it fail for the same reason each time?"
            ));
        }
        for left_out in &answer.left_out {
            show::say(&format!("left out {}: {}", left_out.id, left_out.reason));
        }
    })?;
    if answer.left_out.is_empty() {
        Ok(())
    } else {
        Err(Exit::silent(Code::User))
    }
}

/// `3 records to lines, 1 to words`.
fn said(answer: &ReplayAnswer) -> String {
    let mut topics = answer
        .topics
        .iter()
        .map(|(topic, count)| format!("{} to {topic}", show::number(*count as i64)));
    match topics.next() {
        None => "nothing".to_owned(),
        Some(first) => {
            let (count, rest) = first.split_once(' ').unwrap_or((&first, ""));
            let first = format!("{count} record{} {rest}", if answer.replayed == 1 { "" } else { "s" });
            [first].into_iter().chain(topics).collect::<Vec<_>>().join(", ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_rows_of_sixteen() {
        let lines = hex_lines(b"abc\x00\xff0123456789ABC");
        assert_eq!(lines.len(), 2);
        assert_eq!(
            lines.first().map(String::as_str),
            Some("00000000  61 62 63 00 ff 30 31 32 33 34 35 36 37 38 39 41  abc..0123456789A")
        );
        assert_eq!(lines.last().map(|l| l.trim_end().ends_with("BC")), Some(true));
    }

    #[test]
    fn replies_count_by_topic() {
        let answer = |topics: &[(&str, u64)]| ReplayAnswer {
            replayed: topics.iter().map(|(_, count)| count).sum(),
            topics: topics
                .iter()
                .map(|(topic, count)| ((*topic).to_owned(), *count))
                .collect(),
            ..ReplayAnswer::default()
        };
        assert_eq!(said(&answer(&[])), "nothing");
        assert_eq!(said(&answer(&[("lines", 1)])), "1 record to lines");
        assert_eq!(said(&answer(&[("a", 3), ("b", 1)])), "3 records to a, 1 to b");
    }
}
