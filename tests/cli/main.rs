//! The command `pushforward` as a person meets it: the binary is run, and what it says, writes and returns is looked at. All training is on
//! a few hundred images.

mod compile;
mod contrastive;
mod devices;
mod estimator;
mod experiment;
mod explain;
mod inputs;
mod look;
mod packages;
mod prune;
mod requirements;
#[path = "../../backends/gpu/tests/support/mod.rs"]
mod support;
mod train;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use pushforward_models::data::{self, DataSet, Source};
use tempfile::TempDir;

/// The command with these arguments; standard input is empty.
fn pushforward(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pushforward"));
    command.args(args).stdin(Stdio::null()).env("NO_COLOR", "1");
    command
}

/// What a command came to.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("all output is text");
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

fn run(args: &[&str]) -> Ran {
    Ran::of(pushforward(args).output().expect("the command starts"))
}

/// A run that must succeed; its standard output.
#[track_caller]
fn succeeds(args: &[&str]) -> String {
    let ran = run(args);
    assert_eq!(ran.code, Some(0), "{args:?}\n{}{}", ran.out, ran.err);
    ran.out
}

/// A run that must end with `code` and one message that holds all of `parts`, on standard error, without a panic.
#[track_caller]
fn refused(args: &[&str], code: i32, parts: &[&str]) {
    check_refused(run(args), code, parts, args);
}

#[track_caller]
fn check_refused(ran: Ran, code: i32, parts: &[&str], args: &[&str]) {
    let Ran { code: got, out, err } = ran;
    assert_eq!(got, Some(code), "{args:?}\n{out}{err}");
    assert_eq!(out, "", "{args:?}: results of a run that failed");
    assert_eq!(err.matches("error:").count(), 1, "{args:?}: one message\n{err}");
    assert!(!err.contains("panicked"), "{args:?}\n{err}");
    for part in parts {
        assert!(err.contains(part), "{args:?}: `{part}` is not in:\n{err}");
    }
}

/// A folder that is gone when the test ends, with a small idx data set in `data`.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().expect("there is room") }
    }

    /// With a data set of the first images of MNIST.
    fn with_images(train: usize, test: usize) -> Place {
        let place = Place::new();
        let splits = data::load(&Source::Builtin).expect("it is compiled in");
        let dir = place.path("data");
        fs::create_dir(&dir).expect("there is room");
        write_idx(&dir, "train", &splits.train.head(train));
        write_idx(&dir, "t10k", &splits.test.head(test));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A path as an argument.
    fn arg(&self, name: &str) -> String {
        self.path(name).to_str().expect("temporary paths are text").to_string()
    }

    /// Names in the folder `name`, sorted, hidden ones too.
    fn names(&self, name: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(name)).expect("the folder is there");
        let mut names: Vec<String> = entries.map(|e| e.expect("readable").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn write_idx(dir: &Path, split: &str, set: &DataSet) {
    let header = |magic: u32, sizes: &[usize]| -> Vec<u8> {
        let sizes = sizes.iter().map(|&n| n as u32);
        [magic].into_iter().chain(sizes).flat_map(u32::to_be_bytes).collect()
    };
    let images = [header(0x803, &[set.len(), set.height, set.width]), set.images.clone()].concat();
    let labels = [header(0x801, &[set.len()]), set.labels.clone()].concat();
    fs::write(dir.join(format!("{split}-images-idx3-ubyte")), images).expect("there is room");
    fs::write(dir.join(format!("{split}-labels-idx1-ubyte")), labels).expect("there is room");
}
