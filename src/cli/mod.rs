//! The command line: one file for each command, flags that several share in `flags.rs`, exit codes in `failure.rs`.
//!
//! Results go to standard output, all else to standard error. No command computes anything of its own: it reads flags, calls the library,
//! and writes. Read [`Command`] for what there is.

mod bench;
mod compile;
mod conform;
mod devices;
mod experiment;
mod explain;
mod failure;
mod feed;
mod flags;
mod list;
mod loss;
mod measure;
mod opt;
mod out;
mod package;
mod prune;
mod train;
mod update;
mod verify_estimator;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::{Failure, exit_code};

/// Compiles training steps for forward-gradient learning, and runs them.
#[derive(Parser)]
#[command(name = "pushforward", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a classifier; ends with the line `test error X.XX % train error Y.YY %`
    Train(train::Args),
    /// Write the generated code, the plan and a report into a folder
    Compile(compile::Args),
    /// Run passes on a model's text and print the text that comes out
    Opt(opt::Args),
    /// Say which rewrites made a step what it is, where, and what it costs without and with them
    Explain(explain::Args),
    /// Compare what is computed here with files of reference values; exit code 1 if an array departs
    Conform(conform::Args),
    /// Hold an algorithm's estimates against the exact gradients: bias and variance of every parameter; exit code 1 if one is biased
    VerifyEstimator(verify_estimator::Args),
    /// Time a training step, and compare it with what the machine can do
    Bench(bench::Args),
    /// Measure a table or figure, and write it as CSV, Markdown and SVG
    Experiment(experiment::Args),
    /// Say which back ends run here, and why others do not
    Devices(devices::Args),
    /// List models, presets, algorithms and passes
    List(list::Args),
}

/// Runs the command that the arguments name.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell if this fails.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let outcome = crate::run::survive_size_limits().map_err(Failure::from).and_then(|()| match cli.command {
        Command::Train(args) => train::run(args),
        Command::Compile(args) => compile::run(args),
        Command::Opt(args) => opt::run(args),
        Command::Explain(args) => explain::run(args),
        Command::Conform(args) => conform::run(args),
        Command::VerifyEstimator(args) => verify_estimator::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Experiment(args) => experiment::run(args),
        Command::Devices(args) => devices::run(args),
        Command::List(args) => list::run(args),
    });
    exit_code(outcome)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_flags_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
