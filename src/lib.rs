//! Pushforward.

/// The file and terminal side of training: folders, checkpoints, metrics, learning curve, progress, Ctrl-C.
pub mod run;
