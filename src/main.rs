//! The command `pushforward`: `cli` reads the command line, `classifier` trains, `probe` judges features, `run` writes the files of a run.

mod classifier;
mod cli;
mod probe;
mod run;

fn main() -> std::process::ExitCode {
    cli::main()
}
