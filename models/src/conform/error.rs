//! What can be wrong with fixture files: the file, the array, both sides, a hint. Never prints. Read [`FixtureError`].

use std::io;
use std::path::PathBuf;

/// Why a case, or an array of it, was refused.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    #[error("`{path}` does not exist; hint: give a folder that holds index.json, or a .safetensors file beside one")]
    NoPath { path: PathBuf },
    #[error("`{path}` is neither a folder nor a .safetensors file; hint: give the folder that holds index.json")]
    Neither { path: PathBuf },
    #[error("`{index}` does not exist, and nothing else says which arrays are outputs; hint: give a folder that holds index.json")]
    NoIndex { index: PathBuf },
    #[error("cannot read `{path}`: {source}; hint: it must be a readable, regular file")]
    Read { path: PathBuf, source: io::Error },
    #[error("`{index}` is no index of cases: {reason}; hint: it is a JSON object of cases, each with `inputs` and `outputs`")]
    Index { index: PathBuf, reason: String },
    #[error("`{index}` is wrong about the case `{case}`: {reason}; hint: it needs `inputs` and `outputs`, names with shapes")]
    Entry { index: PathBuf, case: String, reason: String },
    #[error("`{index}` lists no case `{case}`; hint: it lists {known}")]
    Unlisted { index: PathBuf, case: String, known: String },
    #[error("`{path}` does not exist, though `{index}` lists it")]
    NoFile { path: PathBuf, index: PathBuf },
    #[error("`{path}` is cut short: it has {found} bytes, and needs at least {needed}; hint: fetch it again")]
    Cut { path: PathBuf, found: usize, needed: usize },
    #[error("`{path}` is no safetensors file: {reason}; hint: is it the right file?")]
    Foreign { path: PathBuf, reason: String },
    #[error("`{path}`: its config {reason}; hint: `__metadata__` holds `config`, a JSON text with `kind` and the sizes")]
    Config { path: PathBuf, reason: String },
    #[error("`{path}` says config {file}, but `{index}` says {listed}; hint: do both belong to the same set?")]
    Configs { path: PathBuf, file: String, index: PathBuf, listed: String },
    #[error("`{path}` lacks the array `{array}`, which the index promises")]
    NoArray { path: PathBuf, array: String },
    #[error("`{path}`: the array `{array}` is {got}, expected {wants}")]
    DType { path: PathBuf, array: String, got: String, wants: String },
    #[error("`{path}`: the array `{array}` has the shape {got:?}, but {by} says {wants:?}")]
    Shape { path: PathBuf, array: String, got: Vec<usize>, by: &'static str, wants: Vec<usize> },
    #[error("`{path}`: the array `{array}` holds {value} at {at:?}; hint: {hint}")]
    Element { path: PathBuf, array: String, value: String, at: Vec<usize>, hint: String },
    #[error("`{path}`: `{array}` is needed, and no input of the case is called so")]
    NoInput { path: PathBuf, array: String },
}
