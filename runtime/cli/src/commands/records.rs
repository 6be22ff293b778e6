//! `produce` and `consume`: records between a topic and text, jsonl or csv.

use crate::args::{ConsumeArgs, ProduceArgs, RecordFormat};
use crate::client::Client;
use crate::show;
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use server::api::{Consumed, ProduceRequest, Produced, Record};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Records of one request: large enough that the request does not matter, small enough for any node.
const PAGE: usize = 5_000;
/// How long one request of `--follow` waits at the node.
const FOLLOW_MS: u64 = 1_000;

pub fn produce(client: &Client, args: &ProduceArgs) -> Result<()> {
    let from_stdin = args.file.as_ref().is_none_or(|file| file.as_os_str() == "-");
    let (input, bytes): (Box<dyn Read>, Option<u64>) = match &args.file {
        Some(file) if !from_stdin => {
            let opened = File::open(file).with_context(|| format!("failed to open `{}`", file.display()))?;
            let bytes = opened.metadata().ok().map(|m| m.len());
            (Box::new(opened), bytes)
        }
        _ => (Box::new(std::io::stdin()), None),
    };
    let progress = match bytes {
        Some(bytes) => ProgressBar::new(bytes).with_style(ProgressStyle::with_template(
            "{bar:30} {percent}% {bytes_per_sec} {msg}",
        )?),
        None => ProgressBar::new_spinner(),
    };
    let input = progress.wrap_read(input);
    let started = std::time::Instant::now();
    let mut sender = Sender {
        client,
        args,
        page: Vec::with_capacity(PAGE),
        sent: 0,
        progress: &progress,
    };
    match args.input.unwrap_or_else(|| guess(args.file.as_deref())) {
        RecordFormat::Text => text(BufReader::new(input), &mut sender)?,
        RecordFormat::Jsonl => jsonl(BufReader::new(input), &mut sender)?,
        RecordFormat::Csv => csv(input, &mut sender)?,
    }
    sender.flush()?;
    let sent = sender.sent;
    progress.finish_and_clear();
    let ms = started.elapsed().as_millis() as u64;
    let rate = sent * 1_000 / ms.max(1);
    show::say(&format!(
        "{} records to {} in {}, {} records/s",
        show::number(sent as i64),
        args.topic,
        show::duration(ms),
        show::number(rate as i64)
    ));
    Ok(())
}

fn guess(file: Option<&Path>) -> RecordFormat {
    match file.and_then(Path::extension).and_then(|e| e.to_str()) {
        Some("jsonl" | "ndjson") => RecordFormat::Jsonl,
        Some("csv") => RecordFormat::Csv,
        _ => RecordFormat::Text,
    }
}

struct Sender<'a> {
    client: &'a Client,
    args: &'a ProduceArgs,
    page: Vec<Record>,
    sent: u64,
    progress: &'a ProgressBar,
}

impl Sender<'_> {
    fn push(&mut self, record: Record) -> Result<()> {
        self.page.push(record);
        if self.page.len() < PAGE { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> Result<()> {
        if self.page.is_empty() {
            return Ok(());
        }
        let request = ProduceRequest {
            key_format: self.args.key_format.clone(),
            value_format: self.args.value_format.clone(),
            records: std::mem::take(&mut self.page),
        };
        let done: Produced = self
            .client
            .post(&format!("/v1/topics/{}/records", self.args.topic), &request)
            .with_context(|| format!("after {} records", self.sent))?;
        self.sent += done.records;
        self.progress
            .set_message(format!("{} records", show::number(self.sent as i64)));
        Ok(())
    }
}

fn text(input: impl BufRead, sender: &mut Sender<'_>) -> Result<()> {
    let separator = sender.args.separator.clone();
    for (number, line) in input.lines().enumerate() {
        let line = line.with_context(|| format!("line {} is no text (UTF-8)", number + 1))?;
        let (key, value) = match separator.as_deref().and_then(|s| line.split_once(s)) {
            Some((key, value)) => (Value::from(key), Value::from(value)),
            None => (Value::Null, Value::from(line)),
        };
        sender.push(Record {
            key,
            value,
            ..Record::default()
        })?;
    }
    Ok(())
}

/// A line is a record as `consume` prints it when it has a `value`, else a plain object that becomes the value.
fn jsonl(input: impl BufRead, sender: &mut Sender<'_>) -> Result<()> {
    for (number, line) in input.lines().enumerate() {
        let line = line.with_context(|| format!("line {} is no text (UTF-8)", number + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(&line).with_context(|| format!("line {} is no JSON", number + 1))?;
        let is_record = value.get("value").is_some() && sender.args.key.is_none();
        let record = if is_record {
            let mut record: Record =
                serde_json::from_value(value).with_context(|| format!("line {} is no record", number + 1))?;
            record.offset = None;
            record
        } else {
            let key = match &sender.args.key {
                Some(field) => value.get(field).cloned().unwrap_or(Value::Null),
                None => Value::Null,
            };
            Record {
                key,
                value,
                ..Record::default()
            }
        };
        sender.push(record)?;
    }
    Ok(())
}

/// Every row becomes a JSON object, numbers as numbers; the column named by `--key` is the key.
fn csv(input: impl Read, sender: &mut Sender<'_>) -> Result<()> {
    let mut reader = csv::Reader::from_reader(input);
    let head = reader.headers().context("the first line has no column names")?.clone();
    if let Some(key) = &sender.args.key
        && !head.iter().any(|column| column == key)
    {
        bail!(
            "no column `{key}`; there are: {}",
            head.iter().collect::<Vec<_>>().join(", ")
        );
    }
    for row in reader.records() {
        let row = row?;
        let mut object = serde_json::Map::new();
        let mut key = Value::Null;
        for (column, field) in head.iter().zip(row.iter()) {
            if Some(column) == sender.args.key.as_deref() {
                key = Value::from(field);
            }
            let number = serde_json::from_str::<serde_json::Number>(field)
                .ok()
                .map(Value::Number);
            object.insert(column.to_owned(), number.unwrap_or_else(|| Value::from(field)));
        }
        sender.push(Record {
            key,
            value: Value::Object(object),
            ..Record::default()
        })?;
    }
    Ok(())
}

pub fn consume(client: &Client, args: &ConsumeArgs) -> Result<()> {
    let mut from = args.from.clone();
    let mut left = args.limit.unwrap_or(usize::MAX);
    while left > 0 {
        let mut query = vec![("from", from.clone()), ("limit", left.min(PAGE).to_string())];
        query.push(("wait-ms", if args.follow { FOLLOW_MS } else { 0 }.to_string()));
        query.extend(args.key_format.clone().map(|f| ("key-format", f)));
        query.extend(args.value_format.clone().map(|f| ("value-format", f)));
        let page: Consumed = client.get(&format!("/v1/topics/{}/records", args.topic), &query)?;
        for record in &page.records {
            show::line(&printed(record, args.output)?);
        }
        left -= page.records.len().min(left);
        from = page.next;
        if page.end && !args.follow {
            break;
        }
    }
    Ok(())
}

fn printed(record: &Record, format: RecordFormat) -> Result<String> {
    Ok(match format {
        RecordFormat::Jsonl => serde_json::to_string(record)?,
        RecordFormat::Text => match &record.key {
            Value::Null => show::cell(&record.value),
            key => format!("{}\t{}", show::cell(key), show::cell(&record.value)),
        },
        RecordFormat::Csv => {
            let mut line = csv::Writer::from_writer(Vec::new());
            line.write_record([show::cell(&record.key), show::cell(&record.value)])?;
            String::from_utf8(line.into_inner()?)?.trim_end().to_owned()
        }
    })
}
