//! The command line: what can be typed. What it does is in `commands`.

mod look;
mod swap;

pub use look::{BytesFormat, ChooseArgs, DeadLettersCommand, LogsArgs, QueryArgs, TapArgs};

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;
pub use swap::{Change, Named, PromoteArgs, RollbackArgs, SwapArgs, TermArgs, VersionsArgs};

/// Stream processing on Kafka with Wasm processors: stateful and exactly-once.
#[derive(Debug, Parser)]
#[command(name = "wasmill", version, propagate_version = true, max_term_width = 100, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 what was asked cannot be done (input, files, names); 2 wrong usage; \
3 the node or the broker failed or is not there; 4 `plan`: there are changes to apply; 5 `test`: cases failed; \
6 `swap`, `apply`, `promote`: the new version failed and was rolled back.";

#[derive(Args, Debug)]
pub struct Global {
    /// Address of the node
    #[arg(
        long,
        global = true,
        env = "WASMILL_NODE",
        default_value = "http://127.0.0.1:7700",
        value_name = "URL"
    )]
    pub node: String,
    /// The node's token, where it wants one
    #[arg(
        long,
        global = true,
        env = "WASMILL_TOKEN",
        hide_env_values = true,
        value_name = "TOKEN"
    )]
    pub token: Option<String>,
    /// Authorities that vouch for an https node, in PEM, instead of the public ones
    #[arg(long, global = true, env = "WASMILL_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// How to print answers
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Log level of this process (error, warn, info, debug, trace), or a filter such as `worker=debug`
    #[arg(
        long,
        global = true,
        env = "WASMILL_LOG",
        default_value = "info",
        value_name = "LEVEL"
    )]
    pub log: String,
    /// Log lines as JSON
    #[arg(long, global = true)]
    pub log_json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a node; without --brokers on the embedded log in --data-dir
    Serve(NodeArgs),
    /// Start a node and apply a pipeline file (or run a bare module) in the foreground
    Run(RunArgs),
    /// Scaffold a processor with its cases and pipeline.toml
    New(NewArgs),
    /// Compile a processor to a component
    Build(BuildArgs),
    /// Turn a core module with our bindings into a component
    Componentize(ComponentizeArgs),
    /// Build, run on the embedded log, and take over every saved change, with the state kept
    Dev(DevArgs),
    /// Run the cases of a pipeline: input, fake time, restarts, expected output and state
    Test(TestArgs),
    /// Check a pipeline file without a node
    Check(FileArgs),
    /// Show what apply would change; exit code 4 when there is something
    Plan(FileArgs),
    /// Apply a pipeline file: topics, stores, modules; twice changes nothing
    Apply(ApplyArgs),
    /// Exchange the module of a running step, its state kept; goes back by itself when the new one fails
    Swap(SwapArgs),
    /// Go back: end the swap that is under way, or swap to the versions before the last one
    Rollback(RollbackArgs),
    /// Take the swap that is under way as it stands: canary and shadow go to all tasks, the watch ends
    Promote(PromoteArgs),
    /// What runs, what ran when, and why it changed
    Versions(VersionsArgs),
    /// Registered modules
    #[command(subcommand)]
    Module(ModuleCommand),
    /// Pipelines of the node
    #[command(subcommand)]
    Pipeline(PipelineCommand),
    /// Read a store, on committed state
    Query(QueryArgs),
    /// The node, its pipelines, their tasks
    Status(StatusArgs),
    /// All nodes on one screen: tasks, rates, lag, restores, swaps
    Top(TopArgs),
    /// Hand this node's tasks over to the others at once, and end it
    ///
    /// A node that is merely stopped keeps its tasks for the time of its session, so that a restart moves nothing.
    Leave,
    /// Records that failed: list, show, replay
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// What modules write, with the record that it is about
    Logs(LogsArgs),
    /// Records that pass between steps, live, as JSON lines
    #[command(after_help = look::TAP)]
    Tap(TapArgs),
    /// Write records to a topic, from a file or stdin
    Produce(ProduceArgs),
    /// Read records of a topic
    Consume(ConsumeArgs),
    /// Topics of the log
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Check what a node, a broker and a compiler need
    Doctor(DoctorArgs),
    /// Print the commented default node.toml
    DefaultConfig,
    /// Print completions for a shell
    Completions { shell: clap_complete::Shell },
}

#[derive(Args, Clone, Debug, Default)]
pub struct NodeArgs {
    /// node.toml; `wasmill default-config` prints one
    #[arg(long, env = "WASMILL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Kafka, as host:port,host:port; without it the embedded log
    #[arg(long, env = "WASMILL_BROKERS", value_name = "HOST:PORT")]
    pub brokers: Option<String>,
    /// State, compiled modules, embedded log
    #[arg(long, env = "WASMILL_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where REST, metrics and health are served
    #[arg(long, env = "WASMILL_LISTEN", value_name = "HOST:PORT")]
    pub listen: Option<SocketAddr>,
    /// Stream threads per pipeline
    #[arg(long, env = "WASMILL_THREADS", value_name = "N")]
    pub threads: Option<usize>,
    /// Nodes of one cluster share pipelines
    #[arg(long, env = "WASMILL_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,
    /// Stable name of this node
    #[arg(long, env = "WASMILL_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
}

#[derive(Args, Debug)]
pub struct RunArgs {
    /// pipeline.toml, or a component whose ports become topics of the same names
    pub file: PathBuf,
    #[command(flatten)]
    pub vars: VarArgs,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Args, Debug)]
pub struct DevArgs {
    /// Folder with pipeline.toml, and the sources of its modules in it or in folders of it
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Run the cases after every change
    #[arg(long)]
    pub test: bool,
    #[command(flatten)]
    pub vars: VarArgs,
    #[command(flatten)]
    pub node: NodeArgs,
}

#[derive(Args, Clone, Debug, Default)]
pub struct VarArgs {
    /// Set a variable of the file
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// TOML file with variables
    #[arg(long, value_name = "FILE")]
    pub vars: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct FileArgs {
    #[arg(default_value = "pipeline.toml")]
    pub file: PathBuf,
    #[command(flatten)]
    pub vars: VarArgs,
}

#[derive(Args, Debug)]
pub struct ApplyArgs {
    #[command(flatten)]
    pub file: FileArgs,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Where a swap runs another version than the file names: take the file's
    #[arg(long, conflicts_with = "keep_versions")]
    pub force: bool,
    /// Where a swap runs another version than the file names: keep the running one
    #[arg(long)]
    pub keep_versions: bool,
    /// For module versions that change, which is a swap
    #[command(flatten, next_help_heading = "Swap")]
    pub terms: TermArgs,
}

#[derive(Args, Debug)]
pub struct NewArgs {
    pub name: String,
    #[arg(long, value_enum, default_value_t = Language::Rust)]
    pub lang: Language,
    /// Where the SDK lies, when it is not taken from the package registry
    #[arg(long, env = "WASMILL_SDK", value_name = "DIR")]
    pub sdk: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Language {
    Rust,
}

#[derive(Args, Debug)]
pub struct BuildArgs {
    /// Folder with wasmill.toml or Cargo.toml
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Where the component goes; default: NAME.wasm in the folder
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub struct ComponentizeArgs {
    pub core: PathBuf,
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
}

#[derive(Args, Clone, Debug)]
pub struct TestArgs {
    /// Folder with pipeline.toml and cases/; beside a case's input.jsonl, http.jsonl answers requests and env.toml has variables
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Only cases whose names contain this
    #[arg(long)]
    pub only: Option<String>,
    #[command(flatten)]
    pub vars: VarArgs,
    /// Seed of the random cuts; a failure prints the one to repeat
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Make a case of the traffic of a running pipeline, instead of running any: its input, and what the running version
    /// gives for it
    #[arg(long, value_name = "PIPELINE", conflicts_with = "only")]
    pub record: Option<String>,
    /// With --record: input records at most
    #[arg(long, default_value_t = 100, requires = "record")]
    pub limit: usize,
    /// With --record: the newest records of the topics, or the first ones
    #[arg(long, value_enum, default_value_t = RecordFrom::Newest, requires = "record")]
    pub from: RecordFrom,
    /// With --record: name of the case; default: recorded-1, -2, …
    #[arg(long, requires = "record")]
    pub name: Option<String>,
    /// With --record: also what the stores hold in the end
    #[arg(long, requires = "record")]
    pub stores: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordFrom {
    Newest,
    Earliest,
}

impl Default for TestArgs {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("."),
            only: None,
            vars: VarArgs::default(),
            seed: 1,
            record: None,
            limit: 100,
            from: RecordFrom::Newest,
            name: None,
            stores: false,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum ModuleCommand {
    /// Register a component; name, version and stores come from its own description
    Add {
        file: PathBuf,
    },
    List,
    /// Ports, stores, parameters
    Show {
        #[arg(value_name = "NAME@VERSION")]
        id: String,
    },
    /// Remove a module that no pipeline uses
    Remove {
        #[arg(value_name = "NAME@VERSION")]
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum PipelineCommand {
    List,
    /// The topology: sub-topologies, stores, internal topics
    Describe {
        name: String,
    },
    /// Stop processing; tasks and state are kept
    Pause {
        name: String,
    },
    Resume {
        name: String,
    },
    /// Read from other positions: again from the start, or past what is not wanted
    ///
    /// Stops the pipeline on every node, empties its stores and internal topics, moves its positions, and lets it go on.
    /// What it wrote to its output topics stays there.
    Reset {
        name: String,
        /// start (as the pipeline file says), earliest, latest, or a time like 2026-01-31T12:00:00Z [default: start]
        #[arg(long, value_name = "WHERE")]
        to: Option<String>,
        /// For one partition; may be repeated
        #[arg(long = "offset", value_name = "TOPIC:PARTITION=OFFSET", value_parser = offset)]
        offsets: Vec<(String, i32, i64)>,
        /// Keep stores and stream times: what is read again counts again
        #[arg(long)]
        keep_state: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
    /// Stop it and delete its state, internal topics and positions
    Delete {
        name: String,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Again and again, with records a second; every two seconds unless a time is given
    #[arg(long, short, value_name = "TIME", num_args = 0..=1, default_missing_value = "2s", value_parser = pause)]
    pub watch: Option<Duration>,
}

#[derive(Args, Debug)]
pub struct TopArgs {
    /// Time between looks
    #[arg(long, short, value_name = "TIME", default_value = "2s", value_parser = pause)]
    pub every: Duration,
    /// End after so many looks; rates are known from the second on
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
}

fn pause(text: &str) -> Result<Duration, String> {
    match pipeline::duration_ms(text).map(Duration::from_millis) {
        Some(time) if time >= Duration::from_millis(100) => Ok(time),
        _ => Err("write a time like 2s, at least 100ms".to_owned()),
    }
}

fn offset(text: &str) -> Result<(String, i32, i64), String> {
    let read = || {
        let (partition, offset) = text.rsplit_once('=')?;
        let (topic, partition) = partition.rsplit_once(':')?;
        Some((topic.to_owned(), partition.parse().ok()?, offset.parse().ok()?))
    };
    read().ok_or_else(|| "write TOPIC:PARTITION=OFFSET, like orders:0=1200".to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RecordFormat {
    /// One JSON object a line: key, value, timestamp, headers
    Jsonl,
    /// Every line is a value
    Text,
    Csv,
}

#[derive(Args, Debug)]
pub struct ProduceArgs {
    pub topic: String,
    /// File to read; - or nothing for stdin
    pub file: Option<PathBuf>,
    /// How the input is written; default by the file's name, else text
    #[arg(long = "as", value_enum)]
    pub input: Option<RecordFormat>,
    /// Format of keys: string, i64, f64, json, bytes
    #[arg(long, default_value = "string")]
    pub key_format: String,
    /// Format of values
    #[arg(long, default_value = "string")]
    pub value_format: String,
    /// csv: the column that becomes the key; jsonl of plain objects: the field
    #[arg(long, value_name = "COLUMN")]
    pub key: Option<String>,
    /// Key and value on one line, with this between them
    #[arg(long, value_name = "TEXT")]
    pub separator: Option<String>,
}

#[derive(Args, Debug)]
pub struct ConsumeArgs {
    pub topic: String,
    /// earliest, latest, or PARTITION:OFFSET,…
    #[arg(long, default_value = "earliest")]
    pub from: String,
    /// Wait for more
    #[arg(long, short)]
    pub follow: bool,
    /// Stop after N records
    #[arg(long, short = 'n')]
    pub limit: Option<usize>,
    /// Format of keys; default: as the pipelines that use the topic say, else text
    #[arg(long)]
    pub key_format: Option<String>,
    #[arg(long)]
    pub value_format: Option<String>,
    #[arg(long = "as", value_enum, default_value_t = RecordFormat::Jsonl)]
    pub output: RecordFormat,
}

#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    List {
        /// Also changelogs, repartition topics and the cluster's own
        #[arg(long)]
        internal: bool,
    },
    Create {
        name: String,
        #[arg(long, default_value_t = 1)]
        partitions: i32,
        /// delete, compact or compact,delete
        #[arg(long)]
        cleanup: Option<String>,
        /// A topic setting of Kafka
        #[arg(long = "config", value_name = "NAME=VALUE")]
        config: Vec<String>,
    },
    Delete {
        name: String,
    },
}

#[derive(Args, Debug)]
pub struct DoctorArgs {
    #[arg(long, env = "WASMILL_BROKERS", value_name = "HOST:PORT")]
    pub brokers: Option<String>,
}
