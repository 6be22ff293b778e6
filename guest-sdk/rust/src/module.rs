//! What a module declares: ports, stores, parameters. One declaration makes the description and the handles.

use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use crate::bindings::wasmill::streams::description::{self, Attribute, Description, Setting, Task, Value};
use crate::bindings::wasmill::timers::timers::Schedule;
use crate::format::Format;
use crate::host;
use crate::http::{Http, Queue};
use crate::outbox::Clock;
use crate::store::{Buffer, KeyValue};

/// The declaration of a module, filled by [`crate::Processor::declare`]. It runs to describe the module and again for
/// every instance, so what is described and what runs cannot disagree.
#[derive(Default)]
pub struct Module {
    /// `None` while the module is described.
    settings: Option<Vec<Setting>>,
    inputs: Vec<description::Port>,
    outputs: Vec<description::Port>,
    stores: Vec<description::Store>,
    parameters: Vec<description::Parameter>,
    needs: Vec<&'static str>,
    capabilities: Vec<description::Capability>,
    buffers: Vec<Rc<Buffer>>,
    queues: Vec<Rc<Queue>>,
    errors: Vec<String>,
}

impl Module {
    pub(crate) fn with_settings(settings: Vec<Setting>) -> Self {
        Module {
            settings: Some(settings),
            ..Module::default()
        }
    }

    /// An input. Names are `[a-z][a-z0-9-]*`; the pipeline file says which topic or step it reads.
    pub fn input<K: Format, V: Format>(&mut self, name: &str) -> Input<K, V> {
        self.inputs.push(port::<K, V>(name));
        Input {
            port: (self.inputs.len() - 1) as u8,
            format: PhantomData,
        }
    }

    /// An output. The first is the one of the step's own name in pipeline files.
    pub fn output<K: Format, V: Format>(&mut self, name: &str) -> Output<K, V> {
        self.outputs.push(port::<K, V>(name));
        Output {
            port: (self.outputs.len() - 1) as u32,
            format: PhantomData,
        }
    }

    /// A store, finished by [`StoreBuilder::done`].
    pub fn store<K: Format, V: Format>(&mut self, name: &str) -> StoreBuilder<'_, K, V> {
        let store = description::Store {
            name: name.to_owned(),
            summary: String::new(),
            kind: "key-value".to_owned(),
            schema: 1,
            options: vec![attribute("key-format", K::NAME), attribute("value-format", V::NAME)],
        };
        StoreBuilder {
            module: self,
            store,
            format: PhantomData,
        }
    }

    /// A parameter, finished by [`ParamBuilder::done`]. The pipeline file must give it unless it has a default.
    pub fn param<T: Parameter>(&mut self, name: &str) -> ParamBuilder<'_, T> {
        let parameter = description::Parameter {
            name: name.to_owned(),
            summary: String::new(),
            kind: T::KIND.to_owned(),
            default: None,
            options: Vec::new(),
        };
        ParamBuilder {
            module: self,
            parameter,
            default: None,
        }
    }

    /// Asks for the headers of every row ([`crate::Row::headers`]).
    pub fn needs_headers(&mut self) {
        self.needs.push("headers");
    }

    /// Asks for the place of every row ([`crate::Row::origin`]).
    pub fn needs_origin(&mut self) {
        self.needs.push("origin");
    }

    /// Asks for the stream time at every row ([`crate::Row::stream_time`]).
    pub fn needs_stream_times(&mut self) {
        self.needs.push("stream-times");
    }

    pub(crate) fn capabilities(&mut self) -> &mut Vec<description::Capability> {
        &mut self.capabilities
    }

    pub(crate) fn keep_http(&mut self, http: &Http) {
        self.queues.push(Rc::clone(&http.0));
    }

    pub(crate) fn queues(&self) -> Vec<Rc<Queue>> {
        self.queues.clone()
    }

    pub(crate) fn buffers(&self) -> Vec<Rc<Buffer>> {
        self.buffers.clone()
    }

    pub(crate) fn errors(&self) -> Option<String> {
        (!self.errors.is_empty()).then(|| self.errors.join("; "))
    }

    pub(crate) fn store_name(&self, store: u32) -> &str {
        self.stores.get(store as usize).map_or("", |store| &store.name)
    }

    pub(crate) fn describe(mut self, name: &str, version: &str, summary: &str) -> Description {
        if !self.needs.is_empty() {
            let words: Vec<String> = self.needs.iter().map(|word| format!("{word:?}")).collect();
            for port in &mut self.inputs {
                port.options.push(Attribute {
                    name: "needs".to_owned(),
                    value: format!("[{}]", words.join(", ")),
                });
            }
        }
        Description {
            name: name.to_owned(),
            version: version.to_owned(),
            summary: summary.to_owned(),
            inputs: self.inputs,
            outputs: self.outputs,
            stores: self.stores,
            parameters: self.parameters,
            capabilities: self.capabilities,
            options: Vec::new(),
        }
    }
}

pub(crate) fn port<K: Format, V: Format>(name: &str) -> description::Port {
    description::Port {
        name: name.to_owned(),
        summary: String::new(),
        key_format: K::NAME.to_owned(),
        value_format: V::NAME.to_owned(),
        options: Vec::new(),
    }
}

/// A word of pipeline.toml with a string for its value.
fn attribute(name: &str, text: &str) -> Attribute {
    attribute_of(name, toml_string(text))
}

/// A word of pipeline.toml with a value in its syntax.
pub(crate) fn attribute_of(name: &str, value: String) -> Attribute {
    Attribute {
        name: name.to_owned(),
        value,
    }
}

/// A string in TOML's syntax.
pub(crate) fn toml_string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", c as u32)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// An input with the formats of its keys and values; give it to [`crate::Row::of`].
pub struct Input<K, V> {
    pub(crate) port: u8,
    format: PhantomData<fn() -> (K, V)>,
}

/// An output with the formats of its keys and values; give it to [`crate::Outbox::send`].
pub struct Output<K, V> {
    pub(crate) port: u32,
    format: PhantomData<fn() -> (K, V)>,
}

impl<K, V> fmt::Debug for Input<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Input({})", self.port)
    }
}

impl<K, V> fmt::Debug for Output<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Output({})", self.port)
    }
}

/// A store being declared.
pub struct StoreBuilder<'m, K, V> {
    module: &'m mut Module,
    store: description::Store,
    format: PhantomData<fn() -> (K, V)>,
}

impl<K: Format, V: Format> StoreBuilder<'_, K, V> {
    /// What is in it, for people.
    pub fn summary(mut self, text: &str) -> Self {
        self.store.summary = text.to_owned();
        self
    }

    /// Raised when the bytes in the store change their meaning; 1 unless said otherwise.
    /// [`crate::Processor::migrate`] turns entries of an older schema into new ones.
    pub fn schema(mut self, schema: u32) -> Self {
        self.store.schema = schema;
        self
    }

    /// The handle.
    pub fn done(self) -> KeyValue<K, V> {
        let index = self.module.stores.len() as u32;
        let buffer = Rc::new(Buffer::new(self.store.name.clone(), index));
        self.module.stores.push(self.store);
        self.module.buffers.push(Rc::clone(&buffer));
        KeyValue::new(buffer)
    }
}

/// A parameter's value. It is there from `open` on.
#[derive(Debug, Clone)]
pub struct Param<T> {
    name: String,
    value: Option<T>,
}

impl<T> Deref for Param<T> {
    type Target = T;

    #[expect(
        clippy::panic,
        reason = "only in `declare`, where the module's author sees it at the first build"
    )]
    fn deref(&self) -> &T {
        match &self.value {
            Some(value) => value,
            None => panic!(
                "the parameter `{}` has no value yet. hint: read it in `open`, not in `declare`",
                self.name
            ),
        }
    }
}

/// A parameter being declared.
pub struct ParamBuilder<'m, T> {
    module: &'m mut Module,
    parameter: description::Parameter,
    default: Option<T>,
}

impl<T: Parameter> ParamBuilder<'_, T> {
    /// What it does, for people.
    pub fn summary(mut self, text: &str) -> Self {
        self.parameter.summary = text.to_owned();
        self
    }

    /// Its value where the pipeline file gives none.
    pub fn default(mut self, value: T) -> Self {
        self.parameter.default = Some(value.toml());
        self.default = Some(value);
        self
    }

    /// The smallest value that the host accepts.
    pub fn min(self, value: T) -> Self {
        let text = value.toml();
        self.option("min", text)
    }

    /// The largest value that the host accepts.
    pub fn max(self, value: T) -> Self {
        let text = value.toml();
        self.option("max", text)
    }

    /// The only values that the host accepts.
    pub fn one_of(self, values: impl IntoIterator<Item = T>) -> Self {
        let values: Vec<String> = values.into_iter().map(|value| value.toml()).collect();
        self.option("one-of", format!("[{}]", values.join(", ")))
    }

    fn option(mut self, name: &str, value: String) -> Self {
        self.parameter.options.push(Attribute {
            name: name.to_owned(),
            value,
        });
        self
    }

    /// The handle.
    pub fn done(self) -> Param<T> {
        let name = self.parameter.name.clone();
        let given = self
            .module
            .settings
            .as_ref()
            .map(|all| all.iter().find(|setting| setting.name == name));
        let value = match given {
            None => self.default,
            Some(Some(setting)) => T::from_value(&setting.value)
                .map_err(|reason| self.module.errors.push(format!("parameter `{name}` {reason}")))
                .ok(),
            Some(None) if self.default.is_some() => self.default,
            Some(None) => {
                self.module.errors.push(format!("parameter `{name}` is missing"));
                None
            }
        };
        self.module.parameters.push(self.parameter);
        Param { name, value }
    }
}

/// A type that a parameter can have.
pub trait Parameter: Sized {
    /// Its name in descriptions.
    const KIND: &'static str;
    /// In TOML's syntax.
    fn toml(&self) -> String;
    /// Reads what the host gives; an error completes "parameter `x` …".
    fn from_value(value: &Value) -> Result<Self, String>;
    /// What the host gives for this value, for tests.
    fn to_value(&self) -> Value;
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Text(_) => "a text",
        Value::Integer(_) => "an integer",
        Value::Number(_) => "a number",
        Value::Boolean(_) => "a boolean",
        Value::Texts(_) => "a list",
        Value::Json(_) => "JSON",
    }
}

macro_rules! integers {
    ($($type:ty),*) => {
        $(impl Parameter for $type {
            const KIND: &'static str = "integer";
            fn toml(&self) -> String {
                self.to_string()
            }
            fn from_value(value: &Value) -> Result<Self, String> {
                match value {
                    Value::Integer(n) => Self::try_from(*n).map_err(|_| format!("is out of range: {n}")),
                    other => Err(format!("must be an integer, not {}", kind(other))),
                }
            }
            fn to_value(&self) -> Value {
                Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        })*
    };
}
integers!(i32, i64, u32, u64, usize);

macro_rules! parameter {
    ($type:ty, $kind:literal, $case:ident, $toml:expr) => {
        impl Parameter for $type {
            const KIND: &'static str = $kind;
            fn toml(&self) -> String {
                $toml(self)
            }
            fn from_value(value: &Value) -> Result<Self, String> {
                match value {
                    Value::$case(value) => Ok(value.clone()),
                    other => Err(format!("must be a {}, not {}", $kind, kind(other))),
                }
            }
            fn to_value(&self) -> Value {
                Value::$case(self.clone())
            }
        }
    };
}
parameter!(String, "string", Text, |text: &String| toml_string(text));
parameter!(bool, "boolean", Boolean, bool::to_string);
parameter!(f64, "number", Number, |number: &f64| format!("{number:?}"));
parameter!(Vec<String>, "list", Texts, |texts: &Vec<String>| {
    let texts: Vec<String> = texts.iter().map(|text| toml_string(text)).collect();
    format!("[{}]", texts.join(", "))
});

impl Parameter for Duration {
    const KIND: &'static str = "duration";
    fn toml(&self) -> String {
        let ms = self.as_millis();
        let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        match units.iter().find(|(unit, _)| ms > 0 && ms.is_multiple_of(*unit)) {
            Some((unit, name)) => format!("\"{}{name}\"", ms / unit),
            None => format!("\"{ms}ms\""),
        }
    }
    fn from_value(value: &Value) -> Result<Self, String> {
        match value {
            Value::Integer(ms) => u64::try_from(*ms)
                .map(Duration::from_millis)
                .map_err(|_| format!("is negative: {ms}")),
            other => Err(format!("must be a duration, not {}", kind(other))),
        }
    }
    fn to_value(&self) -> Value {
        Value::Integer(i64::try_from(self.as_millis()).unwrap_or(i64::MAX))
    }
}

/// What [`crate::Processor::open`] can do.
pub struct Open {
    task: Task,
    /// The schedules by the wall clock.
    pub(crate) wall: HashSet<String>,
}

impl Open {
    pub(crate) fn new(task: Task) -> Self {
        Open {
            task,
            wall: HashSet::new(),
        }
    }

    /// The pipeline that runs the module.
    pub fn pipeline(&self) -> &str {
        &self.task.pipeline
    }

    /// The step of the pipeline.
    pub fn step(&self) -> &str {
        &self.task.step
    }

    /// The partition of the task.
    pub fn partition(&self) -> u32 {
        self.task.partition
    }

    /// Asks for [`crate::Processor::punctuate`] with this name at every multiple of `every`, by stream time, or
    /// `every` from now on, by the wall clock. The same name and schedule again (a new instance, a new version)
    /// changes nothing. A jump over several intervals calls once.
    pub fn every(&mut self, name: &str, every: Duration, clock: Clock) {
        if matches!(clock, Clock::WallTime) {
            self.wall.insert(name.to_owned());
        }
        host::start(name, schedule(every, clock), None);
    }
}

/// Stream time has its grid at 0, as in Kafka Streams, so that it does not depend on when a task began.
pub(crate) fn schedule(every: Duration, clock: Clock) -> Schedule {
    let anchor = matches!(clock, Clock::StreamTime).then_some(0);
    Schedule {
        every_ms: u64::try_from(every.as_millis()).unwrap_or(u64::MAX),
        clock,
        anchor,
    }
}
