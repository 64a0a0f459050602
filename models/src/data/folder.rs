//! Which files of a folder make a data set, from their names alone. Never opens a file. Read [`recognise`] first.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{DataError, pictures};

/// The files of a set that was recognised.
#[derive(Debug)]
pub(super) enum Found {
    Idx(IdxFiles),
    /// Training batches in the order of their numbers; the test batch if there is one.
    Cifar {
        train: Vec<PathBuf>,
        test: Option<PathBuf>,
    },
    /// Image files in folders.
    Pictures,
}

/// The four files of an idx set.
#[derive(Debug)]
pub(super) struct IdxFiles {
    pub train_images: PathBuf,
    pub train_labels: PathBuf,
    pub test_images: PathBuf,
    pub test_labels: PathBuf,
}

/// (split and content, the number of axes after `idx` in the file's name)
const IDX_ROLES: [(&str, &[u8]); 4] = [("train-images", &[3, 4]), ("train-labels", &[1]), ("t10k-images", &[3, 4]), ("t10k-labels", &[1])];

const CIFAR_BATCHES: std::ops::RangeInclusive<usize> = 1..=5;

/// Tells the kind of a data folder and names its files.
pub(super) fn recognise(dir: &Path) -> Result<Found, DataError> {
    let names = list(dir)?;
    let idx = idx_files(&names);
    let train = training_batches(&names);
    let test = test_batch(&names);

    let any_idx = idx.iter().flatten().next();
    let any_cifar = train.first().or(test.as_ref());
    match (any_idx, any_cifar) {
        (None, None) if pictures::is_one(dir) => Ok(Found::Pictures),
        (None, None) => Err(nothing_known(dir, &names)),
        (Some(&idx), Some(&cifar)) => Err(DataError::TwoSets { dir: dir.into(), idx: idx.into(), cifar: cifar.into() }),
        (Some(_), None) => {
            let role = |at: usize| idx[at].map(|name| dir.join(name)).ok_or_else(|| idx_missing(dir, &idx, at));
            let (train_images, train_labels, test_images, test_labels) = (role(0)?, role(1)?, role(2)?, role(3)?);
            Ok(Found::Idx(IdxFiles { train_images, train_labels, test_images, test_labels }))
        }
        (None, Some(&cifar)) if train.is_empty() => Err(DataError::MissingFile {
            dir: dir.into(),
            missing: "data_batch_1.bin".into(),
            found: format!("`{cifar}` and no training batch"),
            hint: "add at least one of data_batch_1.bin .. data_batch_5.bin, each with or without .gz",
        }),
        (None, Some(_)) => {
            Ok(Found::Cifar { train: train.iter().map(|name| dir.join(name)).collect(), test: test.map(|name| dir.join(name)) })
        }
    }
}

/// The names in a folder, sorted, so that the same folder is always read the same way.
pub(super) fn list(dir: &Path) -> Result<BTreeSet<String>, DataError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => DataError::NoFolder { dir: dir.into() },
        io::ErrorKind::NotADirectory => DataError::NotAFolder { path: dir.into() },
        _ => DataError::Io { path: dir.into(), source },
    };
    let entries = fs::read_dir(dir).map_err(failed)?;
    entries.map(|entry| Ok(entry.map_err(failed)?.file_name().to_string_lossy().into_owned())).collect()
}

/// `name` or `name.gz`; an unpacked file wins over the packed one beside it.
fn with_suffix<'a>(names: &'a BTreeSet<String>, name: &str) -> Option<&'a str> {
    names.get(name).or_else(|| names.get(&format!("{name}.gz"))).map(String::as_str)
}

/// One name for each of [`IDX_ROLES`]: `train-images-idx3-ubyte`, or `train-images.idx3-ubyte` as some distributions have it.
fn idx_files(names: &BTreeSet<String>) -> [Option<&str>; 4] {
    IDX_ROLES.map(|(stem, ranks)| {
        let spellings = ranks.iter().flat_map(|rank| ['-', '.'].map(|dot| format!("{stem}{dot}idx{rank}-ubyte")));
        spellings.filter_map(|name| with_suffix(names, &name)).next()
    })
}

/// In the order of their numbers.
fn training_batches(names: &BTreeSet<String>) -> Vec<&str> {
    CIFAR_BATCHES.filter_map(|number| with_suffix(names, &format!("data_batch_{number}.bin"))).collect()
}

/// The full test batch, else the first by name of any `test_batch*.bin[.gz]`.
fn test_batch(names: &BTreeSet<String>) -> Option<&str> {
    let partial = |name: &&String| name.starts_with("test_batch") && (name.ends_with(".bin") || name.ends_with(".bin.gz"));
    with_suffix(names, "test_batch.bin").or_else(|| names.iter().find(partial).map(String::as_str))
}

fn any_known(names: &BTreeSet<String>) -> bool {
    idx_files(names).iter().any(Option::is_some) || !training_batches(names).is_empty() || test_batch(names).is_some()
}

fn idx_missing(dir: &Path, idx: &[Option<&str>; 4], at: usize) -> DataError {
    let (stem, ranks) = IDX_ROLES[at];
    // The rank in the name is that of the format's own spelling; the others are accepted as well.
    let present: Vec<String> = idx.iter().flatten().map(|name| format!("`{name}`")).collect();
    DataError::MissingFile {
        dir: dir.into(),
        missing: format!("{stem}-idx{}-ubyte", ranks[0]),
        found: present.join(", "),
        hint: "an idx set is four files: train-images, train-labels, t10k-images, t10k-labels, each with or without .gz",
    }
}

fn nothing_known(dir: &Path, names: &BTreeSet<String>) -> DataError {
    const SHOWN: usize = 5;
    let looked_for = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (idx), \
                      data_batch_1.bin .. data_batch_5.bin, test_batch.bin (CIFAR-10), each with or without .gz; train/CLASS/*.png, \
                      test/CLASS/*.png (or .jpg)";
    let quoted: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    let holds = match names.len() {
        0 => "no file at all".into(),
        count if count > SHOWN => format!("{} and {} more", quoted.join(", "), count - SHOWN),
        _ => quoted.join(", "),
    };
    // One level down only: people give the folder that holds `mnist/`.
    let hint = match names.iter().find(|name| list(&dir.join(name)).is_ok_and(|inner| any_known(&inner))) {
        Some(inner) => format!("give `{}`", dir.join(inner).display()),
        None if names.contains("data_batch_1") => "this is the Python version of CIFAR-10; get the binary version".into(),
        None => "unpack archives first, and give the folder that holds the files themselves".into(),
    };
    DataError::NothingKnown { dir: dir.into(), holds, looked_for: looked_for.into(), hint }
}
