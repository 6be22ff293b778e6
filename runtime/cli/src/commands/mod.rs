//! One file per group of commands; here is which command runs what.

mod dead_letters;
mod doctor;
pub mod file;
mod logs;
mod module;
pub mod node;
mod pipeline;
mod project;
mod query;
mod records;
mod status;
mod swap;
mod tap;
mod top;
mod topics;

pub use project::write_component;

use crate::args::{Cli, Command};
use crate::client::Client;
use crate::show;
use anyhow::Result;
use clap::CommandFactory;

pub fn run(cli: Cli) -> Result<()> {
    let global = &cli.global;
    let client = Client::new(global)?;
    match cli.command {
        Command::Serve(args) => node::serve(global, &args),
        Command::Run(args) => node::run(global, &args),
        Command::New(args) => project::new(&args),
        Command::Build(args) => project::build(&args),
        Command::Componentize(args) => project::componentize(&args),
        Command::Dev(args) => crate::dev::run(global, &args),
        Command::Test(args) => project::test(global, &args),
        Command::Check(args) => file::check(global, &args),
        Command::Plan(args) => file::plan(global, &client, &args),
        Command::Apply(args) => file::apply(global, &client, &args),
        Command::Swap(args) => swap::swap(global, &client, &args),
        Command::Rollback(args) => swap::rollback(global, &client, &args),
        Command::Promote(args) => swap::promote(global, &client, &args),
        Command::Versions(args) => swap::versions(global, &client, &args),
        Command::Module(command) => module::run(global, &client, command),
        Command::Pipeline(command) => pipeline::run(global, &client, command),
        Command::Query(args) => query::run(global, &client, &args),
        Command::Leave => {
            client.post::<()>("/v1/leave", &())?;
            show::say("the node has left");
            Ok(())
        }
        Command::Status(args) => status::run(global, &client, &args),
        Command::Top(args) => top::run(global, &client, &args),
        Command::DeadLetters(command) => dead_letters::run(global, &client, command),
        Command::Logs(args) => logs::run(global, &client, &args),
        Command::Tap(args) => tap::run(&client, &args),
        Command::Produce(args) => records::produce(&client, &args),
        Command::Consume(args) => records::consume(&client, &args),
        Command::Topics(command) => topics::run(global, &client, command),
        Command::Doctor(args) => doctor::run(global, &client, &args),
        Command::DefaultConfig => {
            show::line(server::config::DEFAULT.trim_end());
            Ok(())
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "wasmill", &mut script);
            show::line(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
    }
}

/// Asks on a terminal; without one, or with `yes`, goes on.
fn confirmed(question: &str, yes: bool) -> Result<bool> {
    use std::io::IsTerminal;
    if yes || !std::io::stdin().is_terminal() {
        return Ok(true);
    }
    anstream::eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Sets up logging of this process to stderr.
pub fn start_logging(filter: &str, json: bool) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = if json {
        builder.json().try_init()
    } else {
        use std::io::IsTerminal;
        builder
            .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
            .try_init()
    };
    // Only a second call fails, and then logging is there already.
    drop(started);
}
