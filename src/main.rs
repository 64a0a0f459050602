//! The command `pushforward`: `cli` reads the command line, `classifier` trains, `run` writes the files of a run.

mod classifier;
mod cli;
mod run;

fn main() -> std::process::ExitCode {
    cli::main()
}
