//! The file and terminal side of training: the folder of a run, its checkpoint, metrics, learning curve, progress and Ctrl-C.
//!
//! It knows names, shapes and numbers; nothing of compilers, models or data sets. Nothing here ever leaves a half-written file
//! or exits the process (but for a second Ctrl-C). Start at [`RunDir`], where the files lie; every message stands in [`RunError`].
//!
//! | file | what it knows |
//! |---|---|
//! | `dir.rs` | the folder, and how a file is written whole or not at all |
//! | `folder.rs` | a folder of files, whole or not at all |
//! | `checkpoint.rs` | tensors and what they belong to, as safetensors |
//! | `metrics.rs` | one row per epoch, as CSV |
//! | `curve.rs` | those rows as a figure |
//! | `chart.rs` | figures of experiments |
//! | `svg.rs` | what figures are drawn with |
//! | `progress.rs` | a bar on a terminal, lines elsewhere |
//! | `interrupt.rs` | Ctrl-C as a flag, and no signal where a file grows too large |
//!
//! At the end of an epoch: metrics, curve, checkpoint, in this order. Whatever a crash falls between, the checkpoint is then never ahead
//! of the metrics, and [`Metrics::resume`] drops the rows that ran ahead of it.

pub mod chart;
pub mod checkpoint;
pub mod curve;
pub mod dir;
pub mod folder;
pub mod interrupt;
pub mod metrics;
pub mod progress;
mod svg;

use std::io;
use std::path::PathBuf;

pub use checkpoint::{Checkpoint, Meta, Purpose, Tensor, fingerprint};
pub use curve::learning_curve;
pub use dir::{RunDir, write_whole};
pub use folder::write_folder;
pub use interrupt::{install, interrupted, survive_size_limits};
pub use metrics::{Metrics, Row};
pub use progress::Progress;

/// Everything that can go wrong with the files of a run: what is wrong, both sides, what to do.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(
        "`{dir}` already holds a run ({holds}); hint: continue it with --resume, replace it with --force, or choose another folder with -o"
    )]
    Exists { dir: PathBuf, holds: String },
    #[error("`{dir}` is in use: another process trains there; hint: wait for it or stop it, or choose another folder with -o")]
    InUse { dir: PathBuf },
    #[error("`{dir}` is not empty: it holds `{holds}`; hint: {hint}")]
    Occupied { dir: PathBuf, holds: String, hint: &'static str },
    #[error("`{path}` is not a folder, but one is needed; hint: choose another folder with -o")]
    NotAFolder { path: PathBuf },
    #[error("`{dir}` holds no run to resume: {why}; hint: {hint}")]
    NothingToResume { dir: PathBuf, why: &'static str, hint: &'static str },
    #[error("cannot write `{path}`: {source}; hint: {hint}")]
    Write { path: PathBuf, source: io::Error, hint: &'static str },
    #[error("cannot read `{path}`: {source}; hint: {hint}")]
    Read { path: PathBuf, source: io::Error, hint: &'static str },

    #[error("checkpoint `{path}` does not exist; hint: give the folder of a run with -o, or train without --resume")]
    NoCheckpoint { path: PathBuf },
    #[error(
        "checkpoint `{path}` is cut short: it has {found} bytes, {needed} are needed; hint: use another copy, or start anew with --force"
    )]
    CutShort { path: PathBuf, found: usize, needed: usize },
    #[error("`{path}` is not a pushforward checkpoint: {reason}; hint: is it the right file?")]
    NotACheckpoint { path: PathBuf, reason: String },
    #[error(
        "checkpoint `{path}` has format version {found}, this program reads version {expected}; hint: use the pushforward that wrote it, \
         or start anew with --force"
    )]
    Version { path: PathBuf, found: String, expected: &'static str },
    #[error("checkpoint `{path}` is damaged: {reason}; hint: use another copy, or start anew with --force")]
    Damaged { path: PathBuf, reason: String },
    #[error("checkpoint `{path}` belongs to another run: {}; hint: {hint}", differences.join("; "))]
    OtherRun { path: PathBuf, differences: Vec<String>, hint: &'static str },
    #[error("cannot save checkpoint `{path}`: {reason}; hint: this is a fault of the program, please report it")]
    Unsavable { path: PathBuf, reason: String },

    #[error("`{path}` line {line}: {reason}; hint: repair the line, or delete the file: training needs the checkpoint only")]
    Metrics { path: PathBuf, line: u64, reason: String },
    #[error("cannot draw a figure: {reason}; hint: this is a fault of the program, please report it")]
    Figure { reason: String },
    #[error("cannot listen for Ctrl-C: {source}; hint: start the program from a shell of its own")]
    Interrupt { source: ctrlc::Error },
    #[error("cannot take hold of the signal for files that grow too large: {source}; hint: start the program from a shell of its own")]
    SizeSignal { source: io::Error },
}

impl RunError {
    /// A failed write, with the hint that fits its cause.
    pub fn write(path: impl Into<PathBuf>, source: io::Error) -> RunError {
        let hint = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "the disk is full: free some space, or choose another folder with -o"
            }
            io::ErrorKind::FileTooLarge => "the disk takes no file of this size: choose another folder with -o",
            io::ErrorKind::PermissionDenied => "make the folder writable for you, or choose another one with -o",
            io::ErrorKind::ReadOnlyFilesystem => "this disk is read-only: choose another folder with -o",
            io::ErrorKind::NotFound => "the folder is gone: was it moved or deleted?",
            _ => "choose another folder with -o",
        };
        RunError::Write { path: path.into(), source, hint }
    }

    /// A failed read, with the hint that fits its cause.
    pub fn read(path: impl Into<PathBuf>, source: io::Error) -> RunError {
        let hint = match source.kind() {
            io::ErrorKind::PermissionDenied => "make it readable for you",
            _ => "it must be a readable, regular file",
        };
        RunError::Read { path: path.into(), source, hint }
    }
}
