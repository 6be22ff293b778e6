//! Expressions over one record: `value.amount > 10 && key.startsWith("a")`, in the Common Expression Language.
//!
//! The only crate that knows CEL. An expression reads `key`, `value`, `timestamp` and `headers` (and `item`, inside a
//! flat-map), calls the functions listed in [`FUNCTIONS`], and can do nothing else: no I/O, no clock, no loop but over
//! the elements of a list. `pipeline` checks expressions when a file is read; `operators` evaluates them.

mod value;

use cel::{Context, Env, Program, Value};
use std::fmt;
use std::sync::{Arc, LazyLock};
use topology::{Expression, Format};

pub use value::encode;

/// What an expression may be long.
pub const TEXT_BYTES_MAX: usize = 4096;
/// What the result of an expression may be large: beyond what a broker takes as one record by default.
pub const RESULT_BYTES_MAX: usize = 16 << 20;

/// What an expression can read.
pub const VARIABLES: &[&str] = &["key", "value", "timestamp", "headers", "item"];

/// What an expression can call, beside operators.
pub const FUNCTIONS: &[&str] = &[
    "has",
    "size",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "bytes",
    "dyn",
    "contains",
    "startsWith",
    "endsWith",
    "matches",
    "charAt",
    "indexOf",
    "lastIndexOf",
    "join",
    "lowerAscii",
    "upperAscii",
    "replace",
    "split",
    "substring",
    "trim",
    "reverse",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib().with_optional_support(false);
    // It declares what no one else does; were that to change, its functions would be unknown, and tests say so.
    let _ = env.add_extension(cel::extensions::strings);
    Arc::new(env)
});

/// Why a text is no expression, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    pub message: String,
    pub hint: Option<String>,
    /// Byte in the text, where it is known.
    pub at: Option<usize>,
}

/// Why a record could not be evaluated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not what the format says.
    #[error("{0}")]
    Deserialization(String),
    #[error("{0}")]
    Evaluation(String),
}

/// A record as an expression sees it. `headers`: names and values, in order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Row<'a> {
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub timestamp: i64,
    pub headers: &'a [(String, Option<Vec<u8>>)],
}

/// What [`Compiled::list`] gives: one element, to be seen as `item` by other expressions.
#[derive(Clone, Debug, PartialEq)]
pub struct Item(Value);

/// An expression that is ready.
#[derive(Clone)]
pub struct Compiled {
    program: Arc<Program>,
    key: Option<Format>,
    value: Option<Format>,
    timestamp: bool,
    headers: bool,
    item: bool,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Compiled({:?})", self.program.expression())
    }
}

impl Compiled {
    /// # Errors
    /// What is wrong with the text, at the first place where something is.
    pub fn new(expression: &Expression) -> Result<Self, Problem> {
        let program = compile(&expression.text)?;
        let references = program.references();
        let reads = |name: &str| references.has_variable(name);
        Ok(Self {
            key: reads("key").then_some(expression.key),
            value: reads("value").then_some(expression.value),
            timestamp: reads("timestamp"),
            headers: reads("headers"),
            item: reads("item"),
            program: Arc::new(program),
        })
    }

    pub fn reads_headers(&self) -> bool {
        self.headers
    }

    pub fn reads_timestamp(&self) -> bool {
        self.timestamp
    }

    pub fn reads_item(&self) -> bool {
        self.item
    }

    fn value(&self, row: &Row<'_>, item: Option<&Item>) -> Result<Value, Error> {
        let root = ROOT.with(Clone::clone);
        let mut context = root.new_inner_scope();
        if let Some(format) = self.key {
            context.add_variable_from_value("key", value::decode(format, row.key, "key")?);
        }
        if let Some(format) = self.value {
            context.add_variable_from_value("value", value::decode(format, row.value, "value")?);
        }
        if self.timestamp {
            context.add_variable_from_value("timestamp", row.timestamp);
        }
        if self.headers {
            context.add_variable_from_value("headers", value::headers(row.headers));
        }
        if let (true, Some(item)) = (self.item, item) {
            context.add_variable_from_value("item", item.0.clone());
        }
        self.program
            .execute(&context)
            .map_err(|error| Error::Evaluation(excerpt(&error.to_string())))
    }

    /// A condition.
    ///
    /// # Errors
    /// Why it could not be evaluated, or that it is neither true nor false.
    pub fn holds(&self, row: &Row<'_>) -> Result<bool, Error> {
        match self.value(row, None)? {
            Value::Bool(holds) => Ok(holds),
            other => Err(Error::Evaluation(format!(
                "a condition is true or false, and this is {}",
                value::kind(&other)
            ))),
        }
    }

    /// # Errors
    /// Why it could not be evaluated.
    pub fn json(&self, row: &Row<'_>, item: Option<&Item>) -> Result<serde_json::Value, Error> {
        value::to_json(&self.value(row, item)?, 0)
    }

    /// # Errors
    /// Why it could not be evaluated, or that it is no list.
    pub fn list(&self, row: &Row<'_>) -> Result<Vec<Item>, Error> {
        match self.value(row, None)? {
            Value::List(list) => Ok(list.iter().cloned().map(Item).collect()),
            other => Err(Error::Evaluation(format!(
                "`each` gives a list, and this is {}",
                value::kind(&other)
            ))),
        }
    }
}

thread_local! {
    /// Functions are looked up in it; a row's variables stand in a scope inside.
    static ROOT: Arc<Context<'static, 'static>> = Arc::new(Context::with_env(ENV.clone()));
}

fn compile(text: &str) -> Result<Program, Problem> {
    let problem = |message: String| Problem {
        message,
        hint: None,
        at: None,
    };
    if text.len() > TEXT_BYTES_MAX {
        return Err(problem(format!("an expression has at most {TEXT_BYTES_MAX} bytes")));
    }
    let program = ENV.compile(text).map_err(|errors| match errors.errors.first() {
        Some(first) => Problem {
            message: first.msg.trim().to_owned(),
            hint: None,
            at: offset(text, first.pos),
        },
        None => problem("this is no expression".to_owned()),
    })?;
    let references = program.references();
    let mut unknown: Vec<(&str, &str, &[&str])> = Vec::new();
    for name in references.variables() {
        if !VARIABLES.contains(&name) && !name.starts_with('@') && !bound_within(text, name) {
            unknown.push((name, "variable", VARIABLES));
        }
    }
    for name in references.functions() {
        let operator = !name.starts_with(|c: char| c.is_ascii_alphabetic());
        if !operator && !FUNCTIONS.contains(&name) {
            unknown.push((name, "function", FUNCTIONS));
        }
    }
    let place = |name: &str| text.find(name);
    unknown.sort_by_key(|(name, _, _)| place(name));
    match unknown.first() {
        None => Ok(program),
        Some((name, what, known)) => Err(Problem {
            message: format!("there is no {what} `{name}`"),
            hint: Some(hint(name, known)),
            at: place(name),
        }),
    }
}

fn hint(name: &str, known: &[&str]) -> String {
    let distance = |other: &&&str| strsim::damerau_levenshtein(name, other);
    match known.iter().min_by_key(distance) {
        Some(best) if distance(&best) <= 2 => format!("did you mean `{best}`?"),
        _ => format!("there are: {}", known.join(", ")),
    }
}

/// Whether a macro of the text binds the name: `list.exists(NAME, …)`.
fn bound_within(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let before = text.get(..at).unwrap_or_default().trim_end();
        let after = text.get(at + name.len()..).unwrap_or_default().trim_start();
        before.ends_with('(') && after.starts_with(',')
    })
}

/// Lines and columns count from 1 and 0.
fn offset(text: &str, (line, column): (isize, isize)) -> Option<usize> {
    let line = usize::try_from(line).ok()?.checked_sub(1)?;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let at = start + usize::try_from(column).ok()?.saturating_sub(1);
    (at <= text.len()).then_some(at)
}

/// The beginning of a message that may show a whole record.
fn excerpt(text: &str) -> String {
    const CHARACTERS_MAX: usize = 200;
    match text.char_indices().nth(CHARACTERS_MAX) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests;
