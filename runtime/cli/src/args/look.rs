//! Arguments of the commands that look into what runs: stores, dead letters, logs, tap.

use clap::{Args, Subcommand, ValueEnum};

#[derive(Args, Debug)]
pub struct QueryArgs {
    pub pipeline: String,
    /// Full name: STEP or STEP-STORE
    pub store: String,
    /// One key, in the store's key format
    #[arg(long, conflicts_with_all = ["prefix", "lower", "upper"])]
    pub key: Option<String>,
    #[arg(long, conflicts_with_all = ["lower", "upper"])]
    pub prefix: Option<String>,
    /// First key of a range
    #[arg(long)]
    pub lower: Option<String>,
    /// End of a range, not included
    #[arg(long)]
    pub upper: Option<String>,
    /// Only an answer that reflects the store's input up to there, not included: TOPIC-PARTITION:OFFSET (repeatable)
    #[arg(long, value_name = "POSITION")]
    pub at_least: Vec<String>,
    /// Where the node that runs a task does not answer, take what a standby knows; how far that is behind is told
    #[arg(long, conflicts_with = "at_least")]
    pub stale_ok: bool,
    /// Entries at most; 0 = all
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
    /// Print the largest values first, of the whole store (numbers only)
    #[arg(long, value_name = "N", conflicts_with_all = ["key", "limit"])]
    pub top: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub enum DeadLettersCommand {
    /// The newest letters: when, where and why
    List {
        pipeline: String,
        #[command(flatten)]
        choose: ChooseArgs,
        /// Letters at most
        #[arg(long, short = 'n', default_value_t = 50)]
        limit: usize,
    },
    /// One letter: cause, back-trace, headers, bytes
    Show {
        pipeline: String,
        /// PARTITION:OFFSET, as `list` shows it
        id: String,
        /// How to show key and value; default: text where they are text
        #[arg(long = "as", value_enum)]
        bytes: Option<BytesFormat>,
    },
    /// Write the records back to the topics that they came from, each once
    #[command(after_help = REPLAY)]
    Replay {
        pipeline: String,
        /// PARTITION:OFFSET, as `list` shows it; without any: all that the filters leave, the oldest first
        #[arg(conflicts_with_all = ["step", "since", "reason", "limit"])]
        ids: Vec<String>,
        #[command(flatten)]
        choose: ChooseArgs,
        /// Letters at most
        #[arg(long, short = 'n')]
        limit: Option<usize>,
        /// Another topic; records go to partitions by their keys
        #[arg(long, value_name = "TOPIC")]
        to: Option<String>,
        /// Also letters that were replayed before
        #[arg(long)]
        again: bool,
        /// Say what would be done, and do nothing
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

const REPLAY: &str = "\
A record goes back as it was: key, value, timestamp, headers, partition. The headers that say why it failed are left out, \
and `wasmill.replays` counts how often it was sent back.

Each letter is replayed once, also when this command or the node dies in the middle and is run again: the record and a mark \
that it was sent are written in one transaction. Readers of committed records (pipelines are) see it once. `--again` sends \
it once more.";

#[derive(Args, Clone, Debug, Default)]
pub struct ChooseArgs {
    /// Only letters of this step
    #[arg(long)]
    pub step: Option<String>,
    /// Only those that failed since: 10m, 2h, 3d, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "AGO|TIME")]
    pub since: Option<String>,
    /// Only those whose reason contains this, in any case of letters
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BytesFormat {
    Text,
    Hex,
}

#[derive(Args, Clone, Debug)]
pub struct LogsArgs {
    /// Only of this pipeline
    pub pipeline: Option<String>,
    /// Stay and print what comes
    #[arg(long, short)]
    pub follow: bool,
    /// Only since: 10m, 2h, or a time such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "AGO|TIME")]
    pub since: Option<String>,
    /// Finest of error, warn, info, debug, trace; debug and trace are kept only while somebody follows them
    #[arg(long, default_value = "info")]
    pub level: String,
    #[arg(long)]
    pub step: Option<String>,
    /// Only the last N lines of what is there
    #[arg(long, short = 'n', value_name = "N")]
    pub tail: Option<usize>,
}

#[derive(Args, Clone, Debug)]
pub struct TapArgs {
    pub pipeline: String,
    /// STEP or STEP.PORT: what the step sends on; also the name of a source or a sink
    pub step: String,
    /// Stop after N records
    #[arg(long, short = 'n')]
    pub limit: Option<u64>,
}

pub const TAP: &str = "\
Shown are records of runs that have passed and whose transaction is not committed yet: records of a transaction that is \
aborted are shown, and again when they are processed anew. What comes faster than it is read is counted, not shown; the \
pipeline never waits, and nothing is copied while nobody taps.";
