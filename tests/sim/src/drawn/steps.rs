//! The operators with state that a pipeline is drawn of, as lines of a pipeline file, and what each promises.

/// What a reader of an operator's output may rely on, whatever happened on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Every row of a key, in order, with its time: one task makes them all, of inputs that it reads in one order only.
    Rows,
    /// The last value of a key. What lies between depends on when commits came (tables that emit on commit), or on how
    /// tasks upstream took turns in writing to a repartition topic.
    Last,
    /// The same, and rows that are processed again after a crash change nothing in it.
    Settled,
}

pub struct Source {
    pub name: &'static str,
    pub text: &'static str,
}

/// `l` and `r` are streams, the others tables; all rows of a key lie in one partition.
pub const SOURCES: [Source; 7] = [
    Source {
        name: "l",
        text: "value = \"json\"",
    },
    Source {
        name: "r",
        text: "value = \"string\"",
    },
    Source {
        name: "t",
        text: "value = \"json\"\nas = \"table\"",
    },
    Source {
        name: "u",
        text: "value = \"string\"\nas = \"table\"",
    },
    Source {
        name: "v",
        text: "value = \"string\"\nas = \"table\"\nversioned = \"50ms\"",
    },
    Source {
        name: "x",
        text: "value = \"string\"\nas = \"table\"\nttl = \"30ms\"",
    },
    Source {
        name: "g",
        text: "value = \"string\"\nas = \"global-table\"",
    },
];

pub struct Step {
    pub name: &'static str,
    pub promise: Promise,
    pub reads: &'static [&'static str],
    /// Its steps; the last one is called `name`.
    pub text: &'static str,
}

const fn step(name: &'static str, promise: Promise, reads: &'static [&'static str], text: &'static str) -> Step {
    Step {
        name,
        promise,
        reads,
        text,
    }
}

use Promise::{Last, Rows, Settled};

const L: &[&str] = &["l"];
const LR: &[&str] = &["l", "r"];

#[rustfmt::skip]
pub const STEPS: [Step; 34] = [
    step("tumbling", Rows, L, r#"
[steps.tumbling]
op = "count"
from = "l"
window = { tumbling = "20ms", grace = "10ms" }
late = "late-tumbling"
"#),
    step("hopping", Rows, L, r#"
[steps.hopping]
op = "sum"
of = "value.n"
result = "i64"
from = "l"
window = { hopping = "20ms", advance = "5ms", grace = "5ms" }
late = "late-hopping"
"#),
    step("sliding", Rows, L, r#"
[steps.sliding]
op = "count"
from = "l"
window = { sliding = "10ms", grace = "20ms" }
"#),
    step("session", Rows, L, r#"
[steps.session]
op = "sum"
of = "value.n"
result = "i64"
from = "l"
window = { session = "10ms", grace = "3ms" }
late = "late-session"
"#),
    step("unlimited", Rows, L, r#"
[steps.unlimited]
op = "max"
of = "value.n"
result = "i64"
from = "l"
window = "unlimited"
"#),
    step("tumbling-closed", Rows, L, r#"
[steps.tumbling-closed]
op = "count"
from = "l"
window = { tumbling = "20ms", grace = "10ms" }
emit = "on-close"
"#),
    step("hopping-closed", Rows, L, r#"
[steps.hopping-closed]
op = "last"
from = "l"
window = { hopping = "20ms", advance = "10ms", grace = "5ms" }
emit = "on-close"
"#),
    step("sliding-closed", Rows, L, r#"
[steps.sliding-closed]
op = "count"
from = "l"
window = { sliding = "10ms", grace = "10ms" }
emit = "on-close"
"#),
    step("session-closed", Rows, L, r#"
[steps.session-closed]
op = "count"
from = "l"
window = { session = "10ms", grace = "5ms" }
emit = "on-close"
"#),
    step("held", Rows, L, r#"
[steps.held-of]
op = "count"
from = "l"
window = { tumbling = "20ms", grace = "5ms" }

[steps.held]
op = "suppress"
from = "held-of"
until = "window-closes"
"#),
    step("held-session", Rows, L, r#"
[steps.held-session-of]
op = "count"
from = "l"
window = { session = "10ms", grace = "5ms" }

[steps.held-session]
op = "suppress"
from = "held-session-of"
until = "window-closes"
"#),
    step("limited", Rows, L, r#"
[steps.limited-of]
op = "count"
from = "l"

[steps.limited]
op = "suppress"
from = "limited-of"
until = "15ms"
max-records = 3
"#),
    step("dedup", Rows, L, r#"
[steps.dedup]
op = "dedup"
from = "l"
within = "15ms"
"#),
    step("first", Rows, L, r#"
[steps.first]
op = "first"
from = "l"
"#),
    step("cogroup", Rows, LR, r#"
[steps.cogroup]
op = "cogroup"
inputs = [
  { name = "sum", from = "l", op = "sum", of = "value.n" },
  { name = "count", from = "r", op = "count" },
]
"#),
    step("inner", Rows, LR, r#"
[steps.inner]
op = "join"
left = "l"
right = "r"
within = "15ms"
grace = "5ms"
"#),
    step("left", Rows, LR, r#"
[steps.left]
op = "join"
kind = "left"
left = "l"
right = "r"
within = "10ms"
grace = "10ms"
"#),
    step("outer", Rows, LR, r#"
[steps.outer]
op = "join"
kind = "outer"
left = "l"
right = "r"
before = "5ms"
after = "20ms"
grace = "5ms"
"#),
    step("with-table", Rows, &["l", "t"], r#"
[steps.with-table]
op = "join"
left = "l"
right = "t"
"#),
    step("with-table-left", Rows, &["r", "t"], r#"
[steps.with-table-left]
op = "join"
kind = "left"
left = "r"
right = "t"
"#),
    step("as-of", Rows, &["l", "v"], r#"
[steps.as-of]
op = "join"
kind = "left"
left = "l"
right = "v"
"#),
    step("as-of-grace", Rows, &["r", "v"], r#"
[steps.as-of-grace]
op = "join"
left = "r"
right = "v"
grace = "10ms"
"#),
    step("with-ttl", Rows, &["r", "x"], r#"
[steps.with-ttl]
op = "join"
kind = "left"
left = "r"
right = "x"
"#),
    step("tables", Rows, &["t", "u"], r#"
[steps.tables]
op = "join"
left = "t"
right = "u"
"#),
    step("tables-left", Rows, &["t", "u"], r#"
[steps.tables-left]
op = "join"
kind = "left"
left = "t"
right = "u"
"#),
    step("tables-outer", Rows, &["t", "u"], r#"
[steps.tables-outer]
op = "join"
kind = "outer"
left = "t"
right = "u"
"#),
    step("with-global", Rows, &["l", "g"], r#"
[steps.with-global]
op = "join"
left = "l"
right = "g"
on = "value.k"
"#),
    step("with-global-left", Rows, &["l", "g"], r#"
[steps.with-global-left]
op = "join"
kind = "left"
left = "l"
right = "g"
on = "value.k"
"#),
    step("foreign", Settled, &["t", "u"], r#"
[steps.foreign]
op = "join"
kind = "inner"
left = "t"
right = "u"
on = "value.k"
value = { n = "left.n", u = "right" }
"#),
    step("foreign-left", Settled, &["t", "u"], r#"
[steps.foreign-left]
op = "join"
kind = "left"
left = "t"
right = "u"
on = "value.k"
value = { n = "left.n", u = "right" }
"#),
    step("on-commit", Last, L, r#"
[steps.on-commit]
op = "count"
from = "l"
emit = "on-commit"
"#),
    step("grouped", Last, L, r#"
[steps.grouped]
op = "count"
from = "l"
group-by = "value.k"
"#),
    step("grouped-windows", Last, L, r#"
[steps.grouped-windows]
op = "sum"
of = "value.n"
result = "i64"
from = "l"
group-by = "value.k"
window = { tumbling = "50ms", grace = "1h" }
"#),
    step("table-sum", Last, &["t"], r#"
[steps.table-sum]
op = "sum"
of = "value.n"
result = "i64"
from = "t"
group-by = "value.k"
emit = "on-commit"
"#),
];
