//! `[steps.NAME]`: a native operator (`op`) or a module.

use indexmap::IndexMap;
use topology::{AggregateFunction, Emit, Expression, Format, OnError, Predicate, Selector};

use crate::diagnostics::{Code, Diagnostic, meant};
use crate::failures;
use crate::file::{self, AggregatePart, Defaults, Inputs, ModulePart, Part, StepPart, StorePart, Work};
use crate::reader::{Reader, Text};
use crate::stateless;
use crate::tree::{Kind, Table, to_json};

const OPS: &[&str] = &[
    "group-by",
    "count",
    "sum",
    "min",
    "max",
    "first",
    "last",
    "select-key",
    "branch",
    "merge",
    "to-table",
    "join",
    "suppress",
    "dedup",
    "cogroup",
];

/// Every operator there is.
fn ops() -> impl Iterator<Item = &'static str> + Clone {
    OPS.iter().chain(stateless::OPS).copied()
}

const OPS_LATER: &[&str] = &["aggregate", "reduce", "window", "mean", "distinct", "top"];
pub(crate) const STEP: &[&str] = &["op", "from", "was", "on-error"];
const AGGREGATE: &[&str] = &[
    "op",
    "from",
    "was",
    "on-error",
    "of",
    "group-by",
    "emit",
    "result",
    "partitions",
    "window",
    "late",
];
const AGGREGATE_LATER: &[&str] = &["grace", "retention", "stores", "name", "standbys", "cache"];
const MODULE: &[&str] = &[
    "module", "from", "was", "params", "limits", "grants", "stores", "on-error", "retries",
];
const MODULE_LATER: &[&str] = &["env", "watch", "probation"];
const STORE_LATER: &[&str] = &["standbys", "shared", "ttl", "retention"];

pub fn read(name: Text, table: &Table, defaults: &Defaults, reader: &mut Reader) -> StepPart {
    let work = match (table.entry("op"), table.entry("module")) {
        (Some(_), Some(module)) => {
            let message = format!("step `{}` has `op` and `module`, and may have one", name.text);
            reader.report(Diagnostic::at(Code::BadValue, &module.key_span, message));
            Work::Unknown
        }
        (None, None) => {
            let ops: Vec<&str> = ops().collect();
            let hint = format!("say `module = \"NAME@VERSION\"`, or `op =` one of {}", ops.join(", "));
            reader.missing(&name.span, &format!("step `{}`", name.text), "op` or `module", &hint);
            Work::Unknown
        }
        (Some(_), None) => operator(table, reader),
        (None, Some(_)) => module(table, defaults, reader),
    };
    let was = reader.text(table, "was");
    if let Some(was) = &was {
        file::check_name(was, reader);
    }
    // What the inputs of an unknown operator are called is unknown too.
    let inputs = if matches!(work, Work::Unknown) && table.get("from").is_none() {
        Inputs::None
    } else {
        inputs(&name, table, &work, reader)
    };
    let on_error = failures::on_error(table, reader).or_else(|| defaults.on_error.clone());
    StepPart {
        name,
        was,
        inputs,
        on_error: on_error.as_ref().map(|(on_error, _)| *on_error).unwrap_or_default(),
        dead_letter_span: on_error
            .filter(|(on_error, _)| *on_error == OnError::DeadLetter)
            .map(|(_, span)| span),
        work,
    }
}

fn inputs(name: &Text, table: &Table, work: &Work, reader: &mut Reader) -> Inputs {
    if let Work::Join(join) = work {
        return join.inputs(table);
    }
    if let Work::Cogroup(cogroup) = work {
        return Inputs::Several(cogroup.inputs.iter().map(|input| input.from.clone()).collect());
    }
    let Some(value) = table.get("from") else {
        let hint = "say `from =` the name of a source or step, or `STEP.PORT`";
        reader.missing(&name.span, &format!("step `{}`", name.text), "from", hint);
        return Inputs::None;
    };
    match &value.kind {
        Kind::Text(text) => Inputs::One(Text {
            text: text.clone(),
            span: value.span.clone(),
        }),
        Kind::List(list) if matches!(work, Work::Merge | Work::Unknown) => Inputs::Several(
            list.iter()
                .filter_map(|value| reader.as_text(value, "an input"))
                .collect(),
        ),
        Kind::List(_) => {
            let message = format!("step `{}` takes one input, and only `merge` takes a list", name.text);
            let hint = "merge them in a step of their own: `op = \"merge\"`";
            reader.report(Diagnostic::at(Code::WrongType, &value.span, message).hint(hint));
            Inputs::None
        }
        Kind::Table(ports) if matches!(work, Work::Module(_) | Work::Unknown) => {
            let bound = ports.entries.iter().filter_map(|entry| {
                let from = reader.as_text(&entry.value, &format!("input `{}`", entry.key))?;
                Some((
                    Text {
                        text: entry.key.clone(),
                        span: entry.key_span.clone(),
                    },
                    from,
                ))
            });
            Inputs::Ports(bound.collect(), value.span.clone())
        }
        Kind::Table(_) => {
            let message = format!("step `{}` is a native operator and has no named inputs", name.text);
            reader.report(Diagnostic::at(Code::WrongType, &value.span, message).hint("say `from = \"NAME\"`"));
            Inputs::None
        }
        _ => {
            reader.wrong_type(value, "`from`", "a string");
            Inputs::None
        }
    }
}

fn operator(table: &Table, reader: &mut Reader) -> Work {
    let Some(op) = reader.text(table, "op") else {
        return Work::Unknown;
    };
    if let Some(function) = function(&op.text) {
        return aggregate(function, table, reader);
    }
    match op.text.as_str() {
        "group-by" => group_by(table, reader),
        "select-key" => {
            reader.keys(
                table,
                "a `select-key` step",
                &[STEP, &["by", "key", "key-result"]].concat(),
                &[],
            );
            if table.get("key").is_some() && table.get("by").is_none() {
                return stateless::key_by_expression(table, reader);
            }
            by(table, reader).map_or(Work::Unknown, |by| Work::SelectKey { by })
        }
        "branch" => {
            reader.keys(
                table,
                "a `branch` step",
                &[STEP, &["branches", "default"]].concat(),
                &[],
            );
            branch(table, reader)
        }
        "merge" => {
            reader.keys(table, "a `merge` step", STEP, &[]);
            Work::Merge
        }
        "to-table" => {
            reader.keys(
                table,
                "a `to-table` step",
                &[STEP, &["partitions", "ttl", "versioned"]].concat(),
                &["stores", "emit", "name"],
            );
            Work::ToTable {
                partitions: file::partitions(table, reader),
                rows: crate::tables::read_rows(table, true, reader),
            }
        }
        "suppress" => crate::suppress::read(table, reader),
        "dedup" => crate::tables::read_dedup(table, reader),
        "cogroup" => crate::cogroup::read(table, reader),
        "join" => crate::joins::read(table, reader),
        other if stateless::OPS.contains(&other) => stateless::read(&op, table, reader).unwrap_or(Work::Unknown),
        other if OPS_LATER.contains(&other) => {
            reader.later(&op.span, &format!("operator `{other}`"));
            Work::Unknown
        }
        other => {
            let message = format!("there is no operator `{other}`");
            let hint = meant(other, ops());
            reader.report(Diagnostic::at(Code::BadValue, &op.span, message).maybe_hint(hint));
            Work::Unknown
        }
    }
}

fn group_by(table: &Table, reader: &mut Reader) -> Work {
    let keys = [STEP, &["by", "partitions"]].concat();
    reader.keys(table, "a `group-by` step", &keys, &["name"]);
    match by(table, reader) {
        Some(by) => Work::GroupBy {
            by,
            partitions: file::partitions(table, reader),
        },
        None => Work::Unknown,
    }
}

fn function(op: &str) -> Option<AggregateFunction> {
    Some(match op {
        "count" => AggregateFunction::Count,
        "sum" => AggregateFunction::Sum,
        "min" => AggregateFunction::Min,
        "max" => AggregateFunction::Max,
        "first" => AggregateFunction::First,
        "last" => AggregateFunction::Last,
        _ => return None,
    })
}

fn by(table: &Table, reader: &mut Reader) -> Option<Part> {
    match table.get("by") {
        Some(value) => file::selector(value, "`by`", reader),
        None => {
            let span = table.get("op").map_or(table.span.clone(), |op| op.span.clone());
            reader.missing(
                &span,
                "the step",
                "by",
                "say `by = \"key\"`, `\"value\"` or `\"value.FIELD\"`",
            );
            None
        }
    }
}

fn aggregate(function: AggregateFunction, table: &Table, reader: &mut Reader) -> Work {
    reader.keys(
        table,
        &format!("a `{}` step", function.word()),
        AGGREGATE,
        AGGREGATE_LATER,
    );
    aggregate_part(function, table, reader).map_or(Work::Unknown, Work::Aggregate)
}

/// What the rows of a step, or of an input of one, come to.
pub(crate) fn aggregate_part(function: AggregateFunction, table: &Table, reader: &mut Reader) -> Option<AggregatePart> {
    if let Some(entry) = table.entry("of").filter(|_| function == AggregateFunction::Count) {
        let message = "`count` counts records and has no `of`";
        reader.report(Diagnostic::at(Code::BadValue, &entry.key_span, message).hint("group by it: `group-by = …`"));
    }
    let of = table.get("of").and_then(|v| file::selector(v, "`of`", reader));
    let own_key = Part {
        selector: Selector::Key,
        span: table.span.clone(),
    };
    let by = table
        .get("group-by")
        .map_or(Some(own_key), |v| file::selector(v, "`group-by`", reader));
    let emits = [("every-update", Emit::EveryUpdate), ("on-commit", Emit::OnCommit)];
    let emit = match crate::windows::is_on_close(table) {
        true => Emit::EveryUpdate,
        false => reader.word(table, "emit", &emits, &[]).unwrap_or_default(),
    };
    let window = crate::windows::read(table, reader);
    let result = file::format(table, "result", reader);
    let partitions = file::partitions(table, reader);
    Some(AggregatePart {
        function,
        of,
        by: by?,
        result,
        emit,
        partitions,
        window,
    })
}

/// `branches = [{ name = "errors", of = "value.level", equals = "error" }, …]`: the first that fits takes the row, so
/// they are a list and not a table.
fn branch(table: &Table, reader: &mut Reader) -> Work {
    if table.get("branches").is_none() {
        let span = table.get("op").map_or(table.span.clone(), |op| op.span.clone());
        let hint = "say `branches = [{ name = \"…\", of = \"value.FIELD\", equals = … }]`";
        reader.missing(&span, "a `branch` step", "branches", hint);
    }
    let mut branches = Vec::new();
    for value in reader.list(table, "branches").unwrap_or_default() {
        let Some(row) = reader.table(value, "a branch") else {
            continue;
        };
        reader.keys(
            row,
            "a branch",
            &["name", "of", "equals", "starts-with", "exists", "where"],
            &["matches", "above", "below"],
        );
        let Some(name) = reader.text(row, "name") else {
            if row.get("name").is_none() {
                reader.missing(
                    &value.span,
                    "a branch",
                    "name",
                    "the name is the output port: `STEP.NAME`",
                );
            }
            continue;
        };
        file::check_name(&name, reader);
        if let Some(predicate) = predicate(row, value.span.clone(), reader) {
            let of = row.get("of").or(row.get("where"));
            let of = of.map_or(value.span.clone(), |of| of.span.clone());
            branches.push((name, predicate, of));
        }
    }
    let default = reader.text(table, "default");
    if let Some(default) = &default {
        file::check_name(default, reader);
    }
    Work::Branch { branches, default }
}

fn predicate(row: &Table, span: crate::tree::Span, reader: &mut Reader) -> Option<Predicate> {
    if row.get("where").is_some() && row.get("of").is_none() {
        // What its key and value are is filled in where the step is built.
        let text = reader.text(row, "where")?.text;
        let (key, value) = (Format::Any, Format::Any);
        return Some(Predicate::Where(Expression { text, key, value }));
    }
    let of = match row.get("of") {
        Some(value) => file::selector(value, "`of`", reader)?.selector,
        None => {
            reader.missing(
                &span,
                "a branch",
                "of",
                "say `of = \"key\"`, `\"value\"` or `\"value.FIELD\"`, or an expression: `where = \"…\"`",
            );
            return None;
        }
    };
    let given: Vec<&str> = ["equals", "starts-with", "exists"]
        .into_iter()
        .filter(|key| row.get(key).is_some())
        .collect();
    match given.as_slice() {
        ["equals"] => Some(Predicate::Equals {
            of,
            value: to_json(row.get("equals")?)?,
        }),
        ["starts-with"] => Some(Predicate::StartsWith {
            of,
            prefix: reader.text(row, "starts-with")?.text,
        }),
        ["exists"] => {
            if reader.boolean(row, "exists")? {
                return Some(Predicate::Exists { of });
            }
            let hint = "put the branch for what exists first; the rest goes to `default`".to_string();
            reader.bad_value(&span, "`exists` can only be true".to_string(), Some(hint));
            None
        }
        _ => {
            let message = "a branch has one condition: `equals`, `starts-with` or `exists`".to_string();
            reader.bad_value(&span, message, None);
            None
        }
    }
}

fn module(table: &Table, defaults: &Defaults, reader: &mut Reader) -> Work {
    reader.keys(table, "a module step", MODULE, MODULE_LATER);
    let part = ModulePart {
        params: table
            .get("params")
            .and_then(|value| reader.table(value, "`params`"))
            .cloned(),
        stores: stores(table, reader),
        retries: failures::retries(table, defaults.retries, reader),
        limits: file::limits(table, defaults.limits, reader),
        grants: crate::grants::read(table, reader),
        module: match reader.text(table, "module") {
            Some(module) => module,
            None => return Work::Unknown,
        },
    };
    Work::Module(Box::new(part))
}

fn stores(table: &Table, reader: &mut Reader) -> IndexMap<String, StorePart> {
    let mut stores = IndexMap::new();
    let Some(table) = table.get("stores").and_then(|value| reader.table(value, "`stores`")) else {
        return stores;
    };
    for entry in &table.entries {
        let Some(tuning) = reader.table(&entry.value, &format!("`stores.{}`", entry.key)) else {
            continue;
        };
        reader.keys(tuning, "the tuning of a store", &["cache"], STORE_LATER);
        let name = Text {
            text: entry.key.clone(),
            span: entry.key_span.clone(),
        };
        // An object cache of a store: all tasks of a node have one each.
        let cache_bytes = reader.size(tuning, "cache", 0..=4 << 30);
        stores.insert(entry.key.clone(), StorePart { name, cache_bytes });
    }
    stores
}
