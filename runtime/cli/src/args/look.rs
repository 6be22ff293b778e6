//! Arguments of the commands that look into what runs: dead letters.

use clap::{Args, Subcommand, ValueEnum};

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
