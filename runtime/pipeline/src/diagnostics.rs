//! What is wrong with a file: all of it at once, each with its place, for people and for programs.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde::Serialize;

/// Columns that a rendered message may take.
const RENDER_COLUMNS: usize = 120;

/// What kind of mistake it is; stable, for scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// No TOML.
    Syntax,
    TooLarge,
    UnknownKey,
    MissingKey,
    WrongType,
    BadValue,
    BadName,
    DuplicateName,
    /// `from` names what is not there.
    UnknownName,
    UnknownPort,
    UnboundPort,
    Cycle,
    FormatMismatch,
    UnknownModule,
    BadModule,
    UnknownParameter,
    MissingParameter,
    BadParameter,
    UnknownVariable,
    BadTopic,
    DuplicateStore,
    /// A module wants a capability that its step does not grant.
    NotGranted,
    NotSupportedYet,
    /// The graph that the file makes is none; see the message.
    BadTopology,
}

impl Code {
    pub fn word(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::TooLarge => "too-large",
            Self::UnknownKey => "unknown-key",
            Self::MissingKey => "missing-key",
            Self::WrongType => "wrong-type",
            Self::BadValue => "bad-value",
            Self::BadName => "bad-name",
            Self::DuplicateName => "duplicate-name",
            Self::UnknownName => "unknown-name",
            Self::UnknownPort => "unknown-port",
            Self::UnboundPort => "unbound-port",
            Self::Cycle => "cycle",
            Self::FormatMismatch => "format-mismatch",
            Self::UnknownModule => "unknown-module",
            Self::BadModule => "bad-module",
            Self::UnknownParameter => "unknown-parameter",
            Self::MissingParameter => "missing-parameter",
            Self::BadParameter => "bad-parameter",
            Self::UnknownVariable => "unknown-variable",
            Self::BadTopic => "bad-topic",
            Self::DuplicateStore => "duplicate-store",
            Self::NotGranted => "not-granted",
            Self::NotSupportedYet => "not-supported-yet",
            Self::BadTopology => "bad-topology",
        }
    }
}

/// A place in the file. `start` and `end` count bytes; `line` and `column` start at 1, columns count characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    pub start: usize,
    pub end: usize,
    pub line: usize,
    pub column: usize,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    pub code: Code,
    pub message: String,
    /// Short words at the marked place.
    pub label: String,
    /// `None`: it is about no place in the file (a variable given on the command line).
    pub place: Option<Place>,
    /// Another place that belongs to it, with its label.
    pub also: Option<(Place, String)>,
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A mistake at `span`; `line` and `column` are filled in by [`Diagnostics::new`].
    pub(crate) fn at(code: Code, span: &Range<usize>, message: impl Into<String>) -> Self {
        Self {
            place: Some(place(span)),
            ..Self::nowhere(code, message)
        }
    }

    pub(crate) fn nowhere(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            label: String::new(),
            place: None,
            also: None,
            hint: None,
        }
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(crate) fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    pub(crate) fn also(mut self, span: &Range<usize>, label: impl Into<String>) -> Self {
        self.also = Some((place(span), label.into()));
        self
    }
}

fn place(span: &Range<usize>) -> Place {
    Place {
        start: span.start,
        end: span.end,
        line: 0,
        column: 0,
    }
}

/// Everything that is wrong with one file. Never empty when it is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostics {
    pub file: String,
    pub items: Vec<Diagnostic>,
    /// The file, for rendering.
    #[serde(skip)]
    pub text: String,
}

impl Diagnostics {
    pub(crate) fn new(file: &str, text: &str, mut items: Vec<Diagnostic>) -> Self {
        for item in &mut items {
            let also = item.also.as_mut().map(|(place, _)| place);
            for place in item.place.as_mut().into_iter().chain(also) {
                (place.line, place.column) = line_and_column(text, place.start);
            }
        }
        items.sort_by_key(|item| item.place.as_ref().map_or(0, |place| place.start));
        Self {
            file: file.to_string(),
            items,
            text: text.to_string(),
        }
    }

    /// For people: each mistake with its source line marked. `color`: with ANSI escapes.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() }.term_width(RENDER_COLUMNS);
        let mut out = String::new();
        for item in &self.items {
            let title = Level::ERROR.primary_title(&item.message).id(item.code.word());
            let mut group = match &item.place {
                Some(place) => {
                    let mut snippet = Snippet::source(&self.text).path(&self.file);
                    let primary = AnnotationKind::Primary
                        .span(self.span(place))
                        .label(item.label.as_str());
                    snippet = snippet.annotation(primary);
                    if let Some((other, label)) = &item.also {
                        let context = AnnotationKind::Context.span(self.span(other)).label(label.as_str());
                        snippet = snippet.annotation(context);
                    }
                    title.element(snippet)
                }
                None => Group::with_title(title),
            };
            if let Some(hint) = &item.hint {
                group = group.element(Level::HELP.with_name("hint").message(hint.as_str()));
            }
            out.push_str(&renderer.render(&[group]));
            out.push_str("\n\n");
        }
        let count = self.items.len();
        let plural = if count == 1 { "problem" } else { "problems" };
        out.push_str(&format!("{}: {count} {plural}\n", self.file));
        out
    }

    /// Within the text and at character boundaries, so that no rendering can fail.
    fn span(&self, place: &Place) -> Range<usize> {
        let floor = |at: usize| {
            (0..=at.min(self.text.len()))
                .rev()
                .find(|i| self.text.is_char_boundary(*i))
                .unwrap_or(0)
        };
        let (start, end) = (floor(place.start), floor(place.end));
        // A table's span may cover lines; its first line says enough.
        let line_end = self
            .text
            .get(start..end)
            .and_then(|text| text.find('\n'))
            .map_or(end, |at| start + at);
        start..line_end.max(start)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.items.first() else {
            return write!(f, "`{}` has no problem", self.file);
        };
        write!(f, "`{}`", self.file)?;
        if let Some(place) = &first.place {
            write!(f, " line {} column {}", place.line, place.column)?;
        }
        write!(f, ": {}", first.message)?;
        match self.items.len() {
            1 => Ok(()),
            count => write!(f, " (and {} more)", count - 1),
        }
    }
}

impl std::error::Error for Diagnostics {}

fn line_and_column(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The known word that is most like `word`, when one is like it.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // A third of the letters may be wrong; of short words one.
    let far = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|other| (strsim::damerau_levenshtein(word, other), other))
        .filter(|(distance, other)| *distance <= far || (word.len() > 3 && other.starts_with(word)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

/// "did you mean …?", or what there is, when it is little enough to list.
pub(crate) fn meant<'k>(word: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> Option<String> {
    if let Some(near) = nearest(word, known.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all: Vec<String> = known.into_iter().map(|word| format!("`{word}`")).collect();
    match all.len() {
        0 => None,
        1 => all.first().map(|only| format!("there is {only}")),
        2..=30 => Some(format!("there are {}", all.join(", "))),
        _ => None,
    }
}
