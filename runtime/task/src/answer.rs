//! Answers of processors: checked against the contract, and turned into rows per output port.

use arrow_array::{Array, BinaryArray, BooleanArray, UInt32Array};
use arrow_buffer::ScalarBuffer;
use record::{Batch, Headers};

use crate::processor::{Answer, Emission, Emitted, RowOutcome};
use crate::rows::Lineage;

/// Rows for one output port.
#[derive(Debug)]
pub struct Out {
    pub port: u32,
    pub batch: Batch,
    pub lineage: Lineage,
}

/// Rows for the ports, and what is to happen with rows that did not go well.
type Outputs = (Vec<Out>, Vec<(u32, RowOutcome)>);

/// The outputs of an answer to `input`, and its outcomes.
///
/// # Errors
/// What breaks the contract.
pub fn outputs(answer: Answer, input: &Batch, ports: usize) -> Result<Outputs, String> {
    let Answer { emitted, outcomes } = answer;
    let increasing = outcomes.windows(2).all(|pair| matches!(pair, [a, b] if a.0 < b.0));
    if !increasing || outcomes.last().is_some_and(|(row, _)| *row as usize >= input.len()) {
        return Err(format!("outcomes are not at increasing rows below {}", input.len()));
    }
    let outs = match emitted {
        Emitted::Nothing => Vec::new(),
        Emitted::Selected(selected) => {
            if selected.len() != input.len() {
                return Err(format!(
                    "a selection over {} rows for a batch of {}",
                    selected.len(),
                    input.len()
                ));
            }
            if ports == 0 && selected.count_set_bits() > 0 {
                return Err("rows for output 0, which is not there".into());
            }
            match selected.count_set_bits() {
                0 => Vec::new(),
                all if all == input.len() => {
                    vec![Out {
                        port: 0,
                        batch: input.clone(),
                        lineage: Lineage::default(),
                    }]
                }
                _ => {
                    let causes: Vec<u32> = selected.set_indices().map(|i| i as u32).collect();
                    let batch = input
                        .filter(&BooleanArray::new(selected, None))
                        .map_err(|e| e.to_string())?;
                    vec![Out {
                        port: 0,
                        batch,
                        lineage: Lineage {
                            causes: Some(causes),
                            ordinals: None,
                        },
                    }]
                }
            }
        }
        Emitted::Rows(emission) => rows(emission, Some(input), ports, 0)?,
    };
    for out in &outs {
        let fails = |row: &u32| outcomes.binary_search_by_key(row, |(r, _)| *r).is_ok();
        let failed = match &out.lineage.causes {
            None => outcomes.first().map(|(row, _)| *row),
            Some(_) if outcomes.is_empty() => None,
            Some(causes) => causes.iter().find(|c| fails(c)).copied(),
        };
        if let Some(row) = failed {
            return Err(format!("row {row} has both an outcome and an output"));
        }
    }
    Ok((outs, outcomes))
}

/// Rows of an emission per output port. Without `input` (a punctuation) there are no causes, and `time` is the time of
/// rows that have none.
///
/// # Errors
/// What breaks the contract.
pub fn rows(emission: Emission, input: Option<&Batch>, ports: usize, time: i64) -> Result<Vec<Out>, String> {
    let length = length(&emission, input)?;
    if length == 0 {
        return Ok(Vec::new());
    }
    let Emission {
        causes,
        targets,
        keys,
        values,
        timestamps,
        headers,
    } = emission;
    check_column("targets", targets.as_ref().map(Vec::len), length)?;
    check_column("keys", keys.as_ref().map(Array::len), length)?;
    check_column("values", values.as_ref().map(Array::len), length)?;
    check_column("timestamps", timestamps.as_ref().map(|t| t.len()), length)?;
    check_column("headers", headers.as_ref().map(Headers::len), length)?;
    check_causes(causes.as_deref(), input.map_or(0, Batch::len))?;
    if timestamps.as_ref().is_some_and(|t| t.iter().any(|t| *t < 0)) {
        return Err("a negative timestamp".into());
    }
    let highest = targets.iter().flatten().copied().max().unwrap_or(0);
    if highest as usize >= ports {
        return Err(format!("rows for output {highest}, but there are {ports}"));
    }
    let causes_column = causes.as_ref().map(|c| UInt32Array::from(c.clone()));
    let inherited = |pick: fn(&Batch) -> &BinaryArray| -> Result<BinaryArray, String> {
        match (input, &causes_column) {
            (None, _) => Ok(BinaryArray::new_null(length)),
            (Some(input), None) => Ok(pick(input).clone()),
            (Some(input), Some(causes)) => take(pick(input), causes),
        }
    };
    let keys = keys.map_or_else(|| inherited(Batch::keys), Ok)?;
    let values = values.map_or_else(|| inherited(Batch::values), Ok)?;
    let timestamps = timestamps.unwrap_or_else(|| inherited_times(input, causes.as_deref(), length, time));
    let headers = headers.or_else(|| inherited_headers(input, causes.as_deref()));
    let batch = Batch::new(keys, values, timestamps, headers).map_err(|e| e.to_string())?;
    let ordinals = causes.as_deref().map(ordinals);
    let lineage = Lineage { causes, ordinals };
    match targets {
        None => Ok(vec![Out {
            port: 0,
            batch,
            lineage,
        }]),
        Some(targets) => by_port(&batch, &lineage, &targets, ports),
    }
}

/// Splits rows by output port.
pub fn by_port(batch: &Batch, lineage: &Lineage, targets: &[u32], ports: usize) -> Result<Vec<Out>, String> {
    let mut outs = Vec::new();
    for port in 0..ports as u32 {
        let chosen: Vec<u32> = (0..)
            .zip(targets)
            .filter(|(_, t)| **t == port)
            .map(|(row, _)| row)
            .collect();
        if chosen.is_empty() {
            continue;
        }
        if chosen.len() == batch.len() {
            let lineage = lineage.clone();
            outs.push(Out {
                port,
                batch: batch.clone(),
                lineage,
            });
            break;
        }
        let pick = |column: &Vec<u32>| chosen.iter().filter_map(|r| column.get(*r as usize).copied()).collect();
        let causes = lineage.causes.as_ref().map_or_else(|| chosen.clone(), pick);
        let ordinals = lineage.ordinals.as_ref().map(pick);
        let batch = batch.take(&chosen).map_err(|e| e.to_string())?;
        outs.push(Out {
            port,
            batch,
            lineage: Lineage {
                causes: Some(causes),
                ordinals,
            },
        });
    }
    Ok(outs)
}

fn length(emission: &Emission, input: Option<&Batch>) -> Result<usize, String> {
    match (&emission.causes, input) {
        (Some(_), None) => Err("causes in a punctuation".into()),
        (Some(causes), Some(_)) => Ok(causes.len()),
        (None, Some(input)) => Ok(input.len()),
        (None, None) => {
            let columns = [
                emission.keys.as_ref().map(Array::len),
                emission.values.as_ref().map(Array::len),
                emission.targets.as_ref().map(Vec::len),
                emission.timestamps.as_ref().map(|t| t.len()),
                emission.headers.as_ref().map(Headers::len),
            ];
            Ok(columns.into_iter().flatten().next().unwrap_or(0))
        }
    }
}

fn check_column(column: &str, found: Option<usize>, length: usize) -> Result<(), String> {
    match found {
        Some(found) if found != length => Err(format!("column `{column}` has {found} rows where there are {length}")),
        _ => Ok(()),
    }
}

fn check_causes(causes: Option<&[u32]>, input: usize) -> Result<(), String> {
    let Some(causes) = causes else { return Ok(()) };
    if !causes.is_sorted() {
        return Err("causes decrease".into());
    }
    match causes.last() {
        Some(last) if *last as usize >= input => Err(format!("cause {last} in a batch of {input} rows")),
        _ => Ok(()),
    }
}

fn take(column: &BinaryArray, rows: &UInt32Array) -> Result<BinaryArray, String> {
    // Through a batch, which knows how to take rows of a column.
    let (none, times) = (BinaryArray::new_null(column.len()), vec![0_i64; column.len()]);
    let batch = Batch::new(column.clone(), none, times.into(), None).map_err(|e| e.to_string())?;
    batch
        .take(rows.values())
        .map(|b| b.keys().clone())
        .map_err(|e| e.to_string())
}

fn inherited_times(input: Option<&Batch>, causes: Option<&[u32]>, length: usize, time: i64) -> ScalarBuffer<i64> {
    match (input, causes) {
        (None, _) => vec![time.max(0); length].into(),
        (Some(input), None) => input.timestamp_buffer().clone(),
        (Some(input), Some(causes)) => causes
            .iter()
            .filter_map(|c| input.timestamps().get(*c as usize).copied())
            .collect(),
    }
}

fn inherited_headers(input: Option<&Batch>, causes: Option<&[u32]>) -> Option<Headers> {
    let headers = input?.headers()?;
    Some(match causes {
        None => headers.clone(),
        Some(causes) => Headers::from_rows(causes.iter().map(|c| headers.row(*c as usize).to_vec()).collect()),
    })
}

/// Numbers of rows among those of their cause, where a cause has several.
pub fn repeated(causes: &[u32]) -> Option<Vec<u32>> {
    causes
        .windows(2)
        .any(|pair| pair.first() == pair.last())
        .then(|| ordinals(causes))
}

/// Numbers the rows of each cause.
pub fn ordinals(causes: &[u32]) -> Vec<u32> {
    let mut last = None;
    let mut next = 0;
    causes
        .iter()
        .map(|cause| {
            next = if last == Some(*cause) { next + 1 } else { 0 };
            last = Some(*cause);
            next
        })
        .collect()
}
