//! How a command ends when it does not end well: one message on standard error, and the exit code. Read [`Failure`].

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::process::ExitCode;

use pushforward::Error;
use pushforward_cpu::CpuError;
use pushforward_gpu::driver::DeviceError;
use pushforward_models::data::DataError;

use crate::run::{RunError, interrupt};

/// What is said, and the exit code that goes with it.
pub enum Failure {
    /// The command line asks for what there is not: 2.
    Usage(String),
    /// The input is wrong: 1.
    Wrong(String),
    /// A check failed, and its report has said so: 1.
    Check,
    /// Ctrl-C: 130.
    Interrupted(String),
    /// Whoever read standard output has gone: 0, as there is nothing left to do.
    Closed,
}

impl Failure {
    pub fn wrong(message: impl Display) -> Failure {
        Failure::Wrong(message.to_string())
    }

    pub fn usage(message: impl Display) -> Failure {
        Failure::Usage(message.to_string())
    }
}

/// Says what there is to say, and gives the code.
pub fn exit_code(outcome: Result<(), Failure>) -> ExitCode {
    match outcome {
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Check) => ExitCode::from(1),
        Err(Failure::Wrong(message)) => {
            complain(&message);
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            complain(&message);
            ExitCode::from(2)
        }
        Err(Failure::Interrupted(message)) => {
            note(message);
            ExitCode::from(u8::try_from(interrupt::EXIT_CODE).unwrap_or(1))
        }
    }
}

/// A line for a person, on standard error; if nobody reads it, that is no reason to stop.
pub fn note(line: impl Display) {
    use io::Write;
    let _ = writeln!(io::stderr(), "{line}");
}

/// A warning, or several, drawn as errors are.
pub fn warn(warnings: pushforward::Wrong) {
    if !warnings.diagnostics.is_empty() {
        note(warnings.render(colour()));
    }
}

/// `error: ..`, its hint on a line of its own. Diagnostics of a text are drawn already.
pub fn complain(message: &str) {
    match message.split_once("; hint: ") {
        _ if is_drawn(message) => note(message),
        Some((what, hint)) => note(format_args!("error: {what}\n  hint: {hint}")),
        None => note(format_args!("error: {message}")),
    }
}

fn is_drawn(message: &str) -> bool {
    message.starts_with("error") || message.starts_with('\u{1b}')
}

fn colour() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Text(wrong) => Failure::Wrong(wrong.render(colour())),
            Error::Cpu(error) => error.into(),
            other => Failure::wrong(other),
        }
    }
}

impl From<CpuError> for Failure {
    fn from(error: CpuError) -> Failure {
        match error {
            CpuError::Memory { .. } => Failure::Wrong(format!("{error}; hint: take a smaller --batch, or smaller sizes")),
            other => Failure::wrong(other),
        }
    }
}

impl From<DeviceError> for Failure {
    fn from(error: DeviceError) -> Failure {
        Failure::wrong(error)
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Failure {
        Failure::wrong(error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        Failure::wrong(error)
    }
}
