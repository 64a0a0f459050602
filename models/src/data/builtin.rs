//! The built-in set: the head of MNIST, compiled in (see `models/data/mnist-10k/README.md`). Never touches the file system.

use std::path::PathBuf;

use super::file::{LIMIT, gunzip};
use super::{DataError, DataSet, Splits, idx};

/// A file of the built-in set: its name and its bytes.
macro_rules! file {
    ($name:literal) => {
        ($name, include_bytes!(concat!("../../data/mnist-10k/", $name)))
    };
}

const TRAIN_IMAGES: (&str, &[u8]) = file!("train-images-idx3-ubyte.gz");
const TRAIN_LABELS: (&str, &[u8]) = file!("train-labels-idx1-ubyte.gz");
const TEST_IMAGES: (&str, &[u8]) = file!("t10k-images-idx3-ubyte.gz");
const TEST_LABELS: (&str, &[u8]) = file!("t10k-labels-idx1-ubyte.gz");

pub(super) fn load() -> Result<Splits, DataError> {
    Ok(Splits {
        name: "mnist-10k".into(),
        train: unpack(TRAIN_IMAGES, TRAIN_LABELS)?,
        test: unpack(TEST_IMAGES, TEST_LABELS)?,
        note: None,
        label_files: [shown(TRAIN_LABELS.0), shown(TEST_LABELS.0)],
        skipped: Vec::new(),
    })
}

fn unpack(images: (&str, &[u8]), labels: (&str, &[u8])) -> Result<DataSet, DataError> {
    let (image_name, label_name) = (shown(images.0), shown(labels.0));
    let (images, labels) = (gunzip(&image_name, images.1, LIMIT)?, gunzip(&label_name, labels.1, LIMIT)?);
    idx::pair((&image_name, images), (&label_name, labels))
}

/// The name under which a message shows a built-in file.
fn shown(name: &str) -> PathBuf {
    PathBuf::from("built-in").join(name)
}
