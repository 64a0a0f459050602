//! Files of cases: the index, and one safetensors file for each case, read whole and checked against each other. It derives nothing and
//! compares nothing. Read [`find`] first, then [`Fixture::read`].

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Deserialize;

use super::config::{Config, Size};
use super::error::FixtureError;

const INDEX: &str = "index.json";

/// Cases that one path of the user's stands for.
pub struct Found {
    pub index: PathBuf,
    pub cases: Vec<Listed>,
    /// What lies beside and is left alone.
    pub unlisted: Vec<PathBuf>,
}

/// A case of the index.
pub struct Listed {
    pub name: String,
    pub path: PathBuf,
    pub entry: Result<Entry, FixtureError>,
}

/// What the index says of a case.
#[derive(Clone, Debug, Deserialize)]
pub struct Entry {
    config: Option<serde_json::Value>,
    #[serde(default)]
    checks: Checks,
    inputs: BTreeMap<String, Vec<usize>>,
    pub outputs: BTreeMap<String, Vec<usize>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Checks {
    f32_worst: Option<f64>,
}

/// The cases of a folder that holds an index, or the one of a file beside an index.
pub fn find(path: &Path) -> Result<Found, FixtureError> {
    if !path.exists() {
        return Err(FixtureError::NoPath { path: path.into() });
    }
    if path.is_dir() {
        let index = path.join(INDEX);
        let cases = read_index(&index)?;
        let unlisted = fixtures(path)?.into_iter().filter(|p| cases.iter().all(|c| c.path != *p)).collect();
        return Ok(Found { index, cases, unlisted });
    }
    let Some(stem) = path.file_stem().filter(|_| path.extension() == Some(OsStr::new("safetensors"))) else {
        return Err(FixtureError::Neither { path: path.into() });
    };
    let (index, case) = (path.with_file_name(INDEX), stem.to_string_lossy());
    let (wanted, others): (Vec<Listed>, Vec<Listed>) = read_index(&index)?.into_iter().partition(|c| c.name == case);
    if wanted.is_empty() {
        let known = others.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(FixtureError::Unlisted { index, case: case.into_owned(), known });
    }
    Ok(Found { index, cases: wanted, unlisted: Vec::new() })
}

/// Files of a folder that may be cases, in order of their names.
fn fixtures(folder: &Path) -> Result<Vec<PathBuf>, FixtureError> {
    let failed = |source| FixtureError::Read { path: folder.into(), source };
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(failed)?;
    let mut paths: Vec<PathBuf> =
        entries.into_iter().map(|e| e.path()).filter(|p| p.extension() == Some(OsStr::new("safetensors"))).collect();
    paths.sort();
    Ok(paths)
}

fn read_index(index: &Path) -> Result<Vec<Listed>, FixtureError> {
    if !index.exists() {
        return Err(FixtureError::NoIndex { index: index.into() });
    }
    let text = fs::read(index).map_err(|source| FixtureError::Read { path: index.into(), source })?;
    let wrong = |reason: String| FixtureError::Index { index: index.into(), reason };
    let cases: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    if cases.is_empty() {
        return Err(wrong("it is empty".into()));
    }
    let listed = |(name, value): (String, serde_json::Value)| {
        let path = index.with_file_name(format!("{name}.safetensors"));
        let entry = Entry::parse(value).map_err(|reason| FixtureError::Entry { index: index.into(), case: name.clone(), reason });
        Listed { name, path, entry }
    };
    Ok(cases.into_iter().map(listed).collect())
}

impl Entry {
    fn parse(value: serde_json::Value) -> Result<Entry, String> {
        let entry: Entry = serde_json::from_value(value).map_err(|e| e.to_string())?;
        match entry.checks.f32_worst {
            Some(worst) if !(0.0..1.0).contains(&worst) => {
                Err(format!("its f32_worst is {worst}, and a relative departure lies between 0 and 1"))
            }
            _ if entry.outputs.is_empty() => Err("it has no outputs".into()),
            _ => Ok(entry),
        }
    }

    /// By how much the reference itself departs in f32, relative to an array's largest entry.
    pub fn f32_worst(&self) -> f64 {
        self.checks.f32_worst.unwrap_or(0.0)
    }
}

/// A case, read and checked.
pub struct Fixture {
    pub path: PathBuf,
    pub config: Config,
    pub inputs: BTreeMap<String, Array>,
    /// All that the index promises; what the file lacks, or has otherwise, is an error.
    pub outputs: BTreeMap<String, Result<Array, FixtureError>>,
}

/// A dense array, row-major. Labels are whole numbers.
#[derive(Clone, PartialEq, Debug)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

/// The one array that holds no floats.
const LABELS: &str = "labels";

impl Fixture {
    /// Reads the case's file. Wrong inputs refuse the case; a wrong output is its own matter.
    pub fn read(path: &Path, index: &Path, entry: &Entry) -> Result<Fixture, FixtureError> {
        if !path.exists() {
            return Err(FixtureError::NoFile { path: path.into(), index: index.into() });
        }
        let bytes = fs::read(path).map_err(|source| FixtureError::Read { path: path.into(), source })?;
        let (header, data) = split(path, &bytes)?;
        let config = config(path, &header, index, entry)?;
        let array = |(name, shape): (&String, &Vec<usize>)| (name.clone(), read_array(path, &header, data, name, shape));
        let inputs = entry.inputs.iter().map(array).map(|(name, array)| Ok((name, array?))).collect::<Result<BTreeMap<_, _>, _>>()?;
        if let (Some(classes), Some(labels)) = (config.classes(), inputs.get(LABELS)) {
            below(path, labels, classes)?;
        }
        let outputs = entry.outputs.iter().map(array).collect();
        Ok(Fixture { path: path.into(), config, inputs, outputs })
    }
}

impl Array {
    /// The index of an element, by its position.
    pub fn index(&self, position: usize) -> Vec<usize> {
        let (mut index, mut left) = (vec![0; self.shape.len()], position);
        for (i, &size) in index.iter_mut().zip(&self.shape).rev() {
            (*i, left) = (left % size.max(1), left / size.max(1));
        }
        index
    }
}

/// The header and the data of a whole file. Done here, and not by the crate, to tell a file that was cut from one of another kind.
fn split<'a>(path: &Path, bytes: &'a [u8]) -> Result<(Metadata, &'a [u8]), FixtureError> {
    let foreign = |reason: String| FixtureError::Foreign { path: path.into(), reason };
    let cut = |needed| FixtureError::Cut { path: path.into(), found: bytes.len(), needed };
    let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(|| cut(8))?;
    let end = usize::try_from(u64::from_le_bytes(*length)).ok().and_then(|length| length.checked_add(8));
    let end = match (end, rest.first()) {
        (Some(end), None | Some(b'{')) => end,
        (Some(_), Some(_)) | (None, _) => return Err(foreign("it does not begin as one".into())),
    };
    let header = bytes.get(8..end).ok_or_else(|| cut(end))?;
    let metadata: Metadata = serde_json::from_slice(header).map_err(|e| foreign(format!("its header is wrong: {e}")))?;
    let needed = end.checked_add(metadata.data_len()).ok_or_else(|| foreign("its header is wrong: it promises too much".into()))?;
    if bytes.len() < needed {
        return Err(cut(needed));
    }
    if bytes.len() > needed {
        return Err(foreign(format!("it has {} bytes, and its header promises {needed}", bytes.len())));
    }
    Ok((metadata, &bytes[end..]))
}

fn config(path: &Path, header: &Metadata, index: &Path, entry: &Entry) -> Result<Config, FixtureError> {
    let wrong = |reason: String| FixtureError::Config { path: path.into(), reason };
    let text = header.metadata().as_ref().and_then(|m| m.get("config")).ok_or_else(|| wrong("is missing".into()))?;
    let config = Config::parse(text).map_err(wrong)?;
    let in_file: serde_json::Value = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    match &entry.config {
        Some(listed) if *listed != in_file => {
            Err(FixtureError::Configs { path: path.into(), file: in_file.to_string(), index: index.into(), listed: listed.to_string() })
        }
        Some(_) | None => Ok(config),
    }
}

fn read_array(path: &Path, header: &Metadata, data: &[u8], name: &str, wants: &[usize]) -> Result<Array, FixtureError> {
    let (path, array) = (|| path.to_path_buf(), || name.to_string());
    let Some(TensorInfo { dtype, shape, data_offsets: (start, end) }) = header.info(name) else {
        return Err(FixtureError::NoArray { path: path(), array: array() });
    };
    if shape != wants {
        return Err(FixtureError::Shape { path: path(), array: array(), got: shape.clone(), by: "the index", wants: wants.to_vec() });
    }
    let wants = if name == LABELS { Dtype::I64 } else { Dtype::F64 };
    if *dtype != wants {
        return Err(FixtureError::DType { path: path(), array: array(), got: format!("{dtype:?}"), wants: format!("{wants:?}") });
    }
    // The header was checked: offsets lie within the data, and hold as many elements as the shape says.
    let words = data[*start..*end].as_chunks::<8>().0.iter();
    let data: Vec<f64> = match name {
        LABELS => words.map(|&w| i64::from_le_bytes(w) as f64).collect(),
        _ => words.map(|&w| f64::from_le_bytes(w)).collect(),
    };
    let array = Array { shape: shape.clone(), data };
    // A reference that is no number proves nothing.
    match array.data.iter().position(|x| !x.is_finite()) {
        None => Ok(array),
        Some(at) => Err(element(path(), name, &array, at, "all arrays of a case are finite".into())),
    }
}

fn below(path: &Path, labels: &Array, classes: Size) -> Result<(), FixtureError> {
    match labels.data.iter().position(|x| !(0.0..f64::from(classes.get())).contains(x)) {
        None => Ok(()),
        Some(at) => Err(element(path.into(), LABELS, labels, at, format!("labels of {classes} classes lie below {classes}"))),
    }
}

fn element(path: PathBuf, name: &str, array: &Array, at: usize, hint: String) -> FixtureError {
    FixtureError::Element { path, array: name.into(), value: array.data[at].to_string(), at: array.index(at), hint }
}
