//! Dead letters: what the task wrote in headers beside a record that failed, read back; and the record sent again.

mod read;
mod replay;

use super::Node;
use crate::api::Record;
use crate::api::letters::{DeadLetter, DeadLetters, LettersRequest, Place, RecordBytes};
use crate::refusal::Refusal;
use crate::text;
use read::{Letter, LettersReader};
use std::collections::BTreeMap;
use topology::Format;

/// Of one answer.
const LETTERS_MAX: usize = 10_000;
const LETTERS_DEFAULT: usize = 50;

/// On a record that was replayed: how often, as text. A record that fails for the same reason each time shows it.
pub(super) const REPLAYS: &str = "wasmill.replays";

impl Node {
    /// The newest letters that fit, without their bytes.
    pub fn dead_letters(&self, pipeline: &str, request: &LettersRequest) -> Result<DeadLetters, Refusal> {
        let topic = self.letters_topic(pipeline, request.step.as_deref())?;
        let limit = request.limit.unwrap_or(LETTERS_DEFAULT).clamp(1, LETTERS_MAX);
        let mut reader = LettersReader::open(&*self.broker, pipeline, &topic)?;
        let found = reader.newest(request.since, limit, |letter| fits(letter, request))?;
        let replayed = replay::Marks::read(&*self.broker, pipeline)?;
        let formats = self.origin_formats(pipeline)?;
        let shown = found.iter().map(|letter| {
            let mut shown = shown(letter, &formats);
            shown.replayed = replayed.of(&topic, letter.id).cloned();
            shown
        });
        Ok(DeadLetters {
            letters: shown.collect(),
            topic,
        })
    }

    /// One letter with its bytes.
    pub fn dead_letter(&self, pipeline: &str, id: &str) -> Result<DeadLetter, Refusal> {
        let topic = self.letters_topic(pipeline, None)?;
        let mut reader = LettersReader::open(&*self.broker, pipeline, &topic)?;
        let letter = reader.one(read::parse_id(id)?)?;
        let mut shown = shown(&letter, &self.origin_formats(pipeline)?);
        shown.replayed = replay::Marks::read(&*self.broker, pipeline)?
            .of(&topic, letter.id)
            .cloned();
        shown.bytes = Some(RecordBytes {
            key: letter.key.as_deref().map(text::to_base64),
            value: letter.value.as_deref().map(text::to_base64),
        });
        Ok(shown)
    }

    /// The dead-letter topic; also checks that there is such a step.
    fn letters_topic(&self, pipeline: &str, step: Option<&str>) -> Result<String, Refusal> {
        let topology = self.entry(pipeline)?.details.topology;
        if let Some(step) = step
            && !topology.nodes.iter().any(|node| node.name == step)
        {
            let names: Vec<&str> = topology.nodes.iter().map(|node| node.name.as_str()).collect();
            let message = format!("`{pipeline}` has no step `{step}`; it has: {}", names.join(", "));
            return Err(Refusal::not_found(message));
        }
        let letters = topology.dead_letters.ok_or_else(|| {
            let hint = "hint: `[defaults]` with `dead-letters = \"TOPIC\"`, and `on-error = \"dead-letter\"` on steps";
            Refusal::not_found(format!("`{pipeline}` has no dead-letter topic\n{hint}"))
        })?;
        Ok(letters.topic)
    }

    /// What keys and values of the topics are that the pipeline reads.
    fn origin_formats(&self, pipeline: &str) -> Result<Formats, Refusal> {
        let nodes = self.entry(pipeline)?.details.topology.nodes;
        let mut formats = Formats::new();
        for node in nodes {
            if let topology::NodeKind::Source(source) = node.kind {
                let of_source = source
                    .topics
                    .into_iter()
                    .map(|topic| (topic, (source.key, source.value)));
                formats.extend(of_source);
            }
        }
        Ok(formats)
    }
}

type Formats = BTreeMap<String, (Format, Format)>;

fn fits(letter: &Letter, request: &LettersRequest) -> bool {
    let reason = |part: &String| letter.cause("reason").to_lowercase().contains(&part.to_lowercase());
    request.step.as_ref().is_none_or(|step| *step == letter.cause("step"))
        && request
            .since
            .is_none_or(|since| letter.at().is_none_or(|at| at >= since))
        && request.reason.as_ref().is_none_or(reason)
}

fn shown(letter: &Letter, formats: &Formats) -> DeadLetter {
    let origin = letter.origin();
    let formats = origin.as_ref().and_then(|place| formats.get(&place.topic)).copied();
    let (key, value) = formats.unwrap_or((Format::String, Format::String));
    let headers = letter.headers.iter().map(|(name, value)| {
        let text = value.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        (name.clone(), text)
    });
    DeadLetter {
        id: format!("{}:{}", letter.id.0, letter.id.1),
        at: letter.at(),
        stage: letter.cause("stage"),
        reason: letter.cause("reason"),
        step: letter.cause("step"),
        module: letter.cause("module"),
        task: letter.cause("task"),
        origin,
        backtrace: Some(letter.cause("backtrace")).filter(|trace| !trace.is_empty()),
        replays: letter.replays(),
        replayed: None,
        record: Record {
            key: text::decode(key, letter.key.as_deref()),
            value: text::decode(value, letter.value.as_deref()),
            timestamp: Some(letter.timestamp),
            partition: None,
            offset: None,
            headers: headers.collect(),
        },
        bytes: None,
    }
}

impl Letter {
    fn at(&self) -> Option<i64> {
        self.cause("at").parse().ok()
    }

    fn origin(&self) -> Option<Place> {
        Some(Place {
            topic: Some(self.cause("topic")).filter(|topic| !topic.is_empty())?,
            partition: self.cause("partition").parse().ok()?,
            offset: self.cause("offset").parse().ok()?,
        })
    }

    fn replays(&self) -> u32 {
        let of = |(name, value): &(String, Option<Vec<u8>>)| {
            let text = (name == REPLAYS).then_some(value.as_ref())??;
            std::str::from_utf8(text).ok()?.trim().parse().ok()
        };
        self.headers.iter().rev().find_map(of).unwrap_or(0)
    }
}
