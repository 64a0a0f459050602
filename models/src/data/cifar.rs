//! CIFAR-10's binary batches: records of one label byte and three 32x32 planes, red, green, blue. Planes become channels here.
//!
//! Never passes off one test file for another: which records the test error stands on is said in the note, unless it is the
//! whole canonical batch.

use std::path::{Path, PathBuf};

use super::{DataError, DataSet, Splits, file};

const SIDE: usize = 32;
const PLANE: usize = SIDE * SIDE;
const CHANNELS: usize = 3;
const CLASSES: usize = 10;
const RECORD: usize = 1 + CHANNELS * PLANE;
/// Records in a full batch, and batches in the full training set.
const FULL_BATCH: usize = 10_000;
const FULL_TRAINING: usize = 5;

/// Trains on every batch in `train`; without a `test` batch the last of them is held out.
pub(super) fn load(dir: &Path, train: &[PathBuf], test: Option<&Path>) -> Result<Splits, DataError> {
    let (train, test_file) = match (test, train) {
        (Some(test), _) => (train, test),
        (None, [rest @ .., last]) if !rest.is_empty() => (rest, last.as_path()),
        (None, _) => {
            let batch = train.first().map(|path| file_name(path)).unwrap_or_default();
            return Err(DataError::NothingToTest { dir: dir.into(), batch });
        }
    };
    let mut train_set = empty();
    for path in train {
        append(&mut train_set, path, &file::read(path)?)?;
    }
    let mut test_set = empty();
    append(&mut test_set, test_file, &file::read(test_file)?)?;

    let note = note(train, test_file, test_set.len(), test.is_none());
    Ok(Splits {
        name: "cifar-10".into(),
        train: train_set,
        test: test_set,
        note,
        label_files: [dir.into(), test_file.into()],
        skipped: Vec::new(),
    })
}

fn empty() -> DataSet {
    DataSet { height: SIDE, width: SIDE, channels: CHANNELS, classes: CLASSES, images: Vec::new(), labels: Vec::new() }
}

/// Adds the records of one file.
fn append(set: &mut DataSet, path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    if bytes.is_empty() {
        return Err(DataError::Empty { path: path.into(), sizes: vec![0, SIDE as u32, SIDE as u32, CHANNELS as u32] });
    }
    let (records, rest) = bytes.as_chunks::<RECORD>();
    if !rest.is_empty() {
        // CIFAR-100 has a coarse and a fine label in each record.
        let hint = if bytes.len().is_multiple_of(RECORD + 1) { "is it CIFAR-100?" } else { "the file is cut short or no CIFAR-10 batch" };
        return Err(DataError::Records { path: path.into(), length: bytes.len(), record: RECORD, hint });
    }
    if let Some(index) = records.iter().position(|record| usize::from(record[0]) >= CLASSES) {
        return Err(DataError::Label { path: path.into(), index, label: records[index][0], classes: CLASSES });
    }
    set.labels.extend(records.iter().map(|record| record[0]));
    set.images.reserve(records.len() * CHANNELS * PLANE);
    for record in records {
        let (red, green, blue) = (&record[1..][..PLANE], &record[1 + PLANE..][..PLANE], &record[1 + 2 * PLANE..][..PLANE]);
        set.images.extend((0..PLANE).flat_map(|at| [red[at], green[at], blue[at]]));
    }
    Ok(())
}

/// What a reader of the result must know about the files behind it.
fn note(train: &[PathBuf], test: &Path, test_count: usize, held_out: bool) -> Option<String> {
    let test_name = file_name(test);
    let mut remarks = Vec::new();
    if held_out {
        remarks.push(format!("no test batch: test error is measured on `{test_name}` ({test_count} images), held out of training"));
    } else if test_count != FULL_BATCH {
        remarks.push(format!("test error is measured on `{test_name}`: {test_count} images, the full test batch has {FULL_BATCH}"));
    }
    // With a batch held out, four are all there can be.
    if train.len() + usize::from(held_out) < FULL_TRAINING {
        let names: Vec<String> = train.iter().map(|path| file_name(path)).collect();
        remarks.push(format!("training uses {} of {FULL_TRAINING} batches: {}", train.len(), names.join(", ")));
    }
    (!remarks.is_empty()).then(|| remarks.join("; "))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
