//! What can be typed after `swap`, `rollback`, `promote` and `versions`.

use clap::Args;
use std::path::PathBuf;
use std::str::FromStr;

/// The longest probation: a transaction that is held open holds back every reader of its topics.
const PROBATION_MS_MAX: u64 = 1_000;

#[derive(Args, Clone, Debug)]
pub struct SwapArgs {
    pub pipeline: String,
    /// Which step gets which module: words=tokenize@2.0.0, words=tokenize (as registered last), words=./tokenize.wasm
    #[arg(required = true, value_name = "STEP=MODULE", value_parser = Change::from_str)]
    pub changes: Vec<Change>,
    /// Let K tasks switch, and the others when `wasmill promote` says so
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub canary: Option<u32>,
    /// Switch nothing: run the new version beside the old one on the same records and compare what they send
    #[arg(long, conflicts_with = "canary")]
    pub shadow: bool,
    #[command(flatten)]
    pub terms: TermArgs,
    /// Write the new versions into this pipeline file, too, when the swap is done
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Return when the swap has begun; `wasmill versions PIPELINE` shows how it goes
    #[arg(long)]
    pub detach: bool,
}

/// When a version counts as failed.
#[derive(Args, Clone, Debug, Default)]
pub struct TermArgs {
    /// Hold the first transaction of the new version open for so long, or for so many records: 250ms, 5000 or both
    /// with a comma, whichever comes first; at most 1s [default: 250ms,5000]
    #[arg(long, value_name = "TIME|RECORDS", value_parser = Probation::from_str)]
    pub probation: Option<Probation>,
    /// Keep the old version ready for so long after all tasks have switched, and go back on a breach [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    pub watch: Option<u64>,
    /// Calls of a task that may fail as a whole: traps, errors, broken answers [default: 0]
    #[arg(long, value_name = "N")]
    pub traps_max: Option<u64>,
    /// Share of the records that may become dead letters, in percent [default: 20%]
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    pub dead_letters_max: Option<f64>,
    /// How many times the old version's time a row may take in the module, on average [default: 10]
    #[arg(long, value_name = "FACTOR")]
    pub slower_max: Option<f64>,
    /// Time that a call of the module may take, on average [default: none but the step's own limit]
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    pub call_max: Option<u64>,
}

#[derive(Args, Clone, Debug)]
pub struct RollbackArgs {
    pub pipeline: String,
    /// Return when it has begun
    #[arg(long)]
    pub detach: bool,
}

#[derive(Args, Clone, Debug)]
pub struct PromoteArgs {
    pub pipeline: String,
    /// Return when it has begun
    #[arg(long)]
    pub detach: bool,
}

#[derive(Args, Clone, Debug)]
pub struct VersionsArgs {
    pub pipeline: String,
}

/// `STEP=MODULE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub step: String,
    pub module: Named,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// `name@version` or `name`.
    Registered(String),
    File(PathBuf),
}

impl FromStr for Change {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (step, module) = text
            .split_once('=')
            .filter(|(step, module)| !step.is_empty() && !module.is_empty())
            .ok_or("it is written STEP=MODULE, such as words=tokenize@2.0.0")?;
        let is_file = module.contains('/') || module.ends_with(".wasm");
        Ok(Self {
            step: step.to_owned(),
            module: if is_file {
                Named::File(module.into())
            } else {
                Named::Registered(module.to_owned())
            },
        })
    }
}

/// A time, a number of records, or both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probation {
    pub ms: Option<u64>,
    pub records: Option<u64>,
}

impl FromStr for Probation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut probation = Self::default();
        for part in text.split(',') {
            let part = part.trim();
            let twice = if let Ok(records) = part.parse() {
                probation.records.replace(records).is_some()
            } else {
                probation.ms.replace(milliseconds(part)?).is_some()
            };
            if twice {
                return Err("one time and one number of records at most".to_owned());
            }
        }
        match probation.ms {
            Some(ms) if ms > PROBATION_MS_MAX => Err(format!(
                "at most {PROBATION_MS_MAX} ms: readers of its topics wait while the transaction is open; \
                 `--watch` looks longer"
            )),
            _ => Ok(probation),
        }
    }
}

/// `250ms`, `60s`, `5m`.
fn milliseconds(text: &str) -> Result<u64, String> {
    if text == "0" {
        return Ok(0);
    }
    let parsed: Result<jiff::SignedDuration, _> = text.parse();
    parsed
        .ok()
        .and_then(|time| u64::try_from(time.as_millis()).ok())
        .ok_or_else(|| format!("`{text}` is no time such as 250ms or 60s"))
}

/// `10%`, or `0.1`.
fn share(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let share = number.trim().parse::<f64>().ok().map(|number| number / unit);
    share
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| format!("`{text}` is no share of records such as 10% or 0.1"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_change_names_a_file_or_a_registered_module() {
        let named = |text: &str| text.parse::<Change>().map(|change| change.module);
        assert_eq!(named("words=tokenize@2"), Ok(Named::Registered("tokenize@2".into())));
        assert_eq!(named("words=./t.wasm"), Ok(Named::File("./t.wasm".into())));
        assert_eq!(named("words=t.wasm"), Ok(Named::File("t.wasm".into())));
        assert!(named("words").is_err() && named("=x").is_err() && named("words=").is_err());
    }

    #[test]
    fn a_probation_is_a_time_or_a_number_or_both() {
        let read = |text: &str| text.parse::<Probation>().map(|p| (p.ms, p.records));
        assert_eq!(read("250ms"), Ok((Some(250), None)));
        assert_eq!(read("5000"), Ok((None, Some(5_000))));
        assert_eq!(read("1s, 100"), Ok((Some(1_000), Some(100))));
        for wrong in ["2s", "1ms,2ms", "soon", ""] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_are_percent_or_parts_of_one() {
        assert_eq!([share("10%"), share("0.5"), share("0")], [Ok(0.1), Ok(0.5), Ok(0.0)]);
        assert!(share("20").is_err() && share("-1%").is_err());
    }
}
