//! Labelled images in memory: the built-in head of MNIST, any set in the idx format, CIFAR-10's binary batches, folders of image files.
//!
//! Start at [`load`]. It never downloads, never writes a file, never scales or augments a pixel of a set (views of one are `augment`'s),
//! and never trusts a header: what a file promises is compared with what it holds before anything is built from it.
//!
//! | file | what it knows |
//! |---|---|
//! | `builtin.rs` | the set that is compiled in |
//! | `folder.rs` | which files make a set, from their names alone |
//! | `idx.rs`, `cifar.rs` | one format each, bytes to images |
//! | `pictures.rs` | folders of PNG and JPEG files, one for each class |
//! | `file.rs` | raw or gzip, whole and bounded |
//! | `error.rs` | every message |
//! | `augment/` | views of an image for training |
//! | `scale.rs` | channels of mean 0 and deviation 1 |
//! | `loader.rs` | batches of them, made ahead by threads |
//! | `order.rs` | the order in which an epoch visits the images |
//! | `root.rs` | where tests find the full sets |

pub mod augment;
mod builtin;
mod cifar;
mod error;
mod file;
mod folder;
mod idx;
pub mod loader;
mod order;
mod pictures;
mod root;
mod scale;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use error::DataError;
pub use order::epoch_order;
pub use root::{data_root, full_set_for_test};
pub use scale::Scale;

/// Sets of at most this many classes are given this many: a digit that happens to be absent does not change the model.
const FEWEST_CLASSES: usize = 10;

/// A set of labelled images in memory.
///
/// Pixels are 0..=255, row-major `[count, height, width, channels]`, channel last (CIFAR's planes are interleaved on load).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSet {
    pub height: usize,
    pub width: usize,
    pub channels: usize,
    /// The largest label + 1 over training and test set together, at least 10.
    pub classes: usize,
    pub images: Vec<u8>,
    pub labels: Vec<u8>,
}

impl DataSet {
    /// How many images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    pub fn pixels_per_image(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// The pixels of one image, `[height, width, channels]`.
    pub fn image(&self, index: usize) -> &[u8] {
        let pixels = self.pixels_per_image();
        &self.images[index * pixels..(index + 1) * pixels]
    }

    /// The first `count` images, or all if there are fewer.
    pub fn head(&self, count: usize) -> DataSet {
        let count = count.min(self.len());
        DataSet { images: self.images[..count * self.pixels_per_image()].to_vec(), labels: self.labels[..count].to_vec(), ..*self }
    }

    /// How many images each class has.
    pub fn per_class(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for &label in &self.labels {
            counts[usize::from(label)] += 1;
        }
        counts
    }

    /// Fails on the first label that a model of `classes` classes cannot have; `what` is the file to blame.
    pub fn check_classes(&self, classes: usize, what: impl AsRef<Path>) -> Result<(), DataError> {
        match self.labels.iter().position(|&label| usize::from(label) >= classes) {
            None => Ok(()),
            Some(index) => Err(DataError::Label { path: what.as_ref().into(), index, label: self.labels[index], classes }),
        }
    }
}

/// What a training run needs: two sets of images of one size, and where they came from.
#[derive(Clone, Debug)]
pub struct Splits {
    /// `mnist-10k`, `cifar-10`, or the name of the folder.
    pub name: String,
    pub train: DataSet,
    pub test: DataSet,
    /// A line to show the user before the result, e.g. which CIFAR-10 batch was held out.
    pub note: Option<String>,
    /// Where the labels of `train` and of `test` stand, for messages.
    pub label_files: [PathBuf; 2],
    /// Image files that were broken and left out, each with the reason.
    pub skipped: Vec<String>,
}

/// What becomes of a set with broken image files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Broken {
    /// It is not loaded, and all of them are counted.
    Stop,
    /// They are left out, and [`Splits::skipped`] names them.
    Skip,
}

impl Splits {
    /// [`DataSet::check_classes`] for both sets, each under the name of its own file.
    pub fn check_classes(&self, classes: usize) -> Result<(), DataError> {
        self.train.check_classes(classes, &self.label_files[0])?;
        self.test.check_classes(classes, &self.label_files[1])
    }

    /// Both sets must agree on everything but their length; only the number of classes can be made to.
    fn agree(mut self) -> Result<Splits, DataError> {
        let size = |set: &DataSet| [set.height, set.width, set.channels];
        if size(&self.train) != size(&self.test) {
            return Err(DataError::SizesDiffer { name: self.name, train: size(&self.train), test: size(&self.test) });
        }
        let largest = self.train.labels.iter().chain(&self.test.labels).max();
        let classes = largest.map_or(0, |&label| usize::from(label) + 1).max(FEWEST_CLASSES);
        self.train.classes = classes;
        self.test.classes = classes;
        Ok(self)
    }
}

/// Where images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The first 10,000 training and first 2,000 test images of MNIST, compiled in.
    Builtin,
    /// A folder with the four files of an idx set, or with CIFAR-10's binary batches, raw or gzip, told by content; or with `train/CLASS/*.png`
    /// and `test/CLASS/*.png`.
    Dir(PathBuf),
}

/// Reads a whole data set into memory. No image file may be broken.
pub fn load(source: &Source) -> Result<Splits, DataError> {
    load_with(source, Broken::Stop)
}

/// Reads a whole data set into memory.
pub fn load_with(source: &Source, broken: Broken) -> Result<Splits, DataError> {
    let splits = match source {
        Source::Builtin => builtin::load()?,
        Source::Dir(dir) => match folder::recognise(dir)? {
            folder::Found::Idx(files) => idx::load(dir, &files)?,
            folder::Found::Pictures => pictures::load(dir, broken)?,
            folder::Found::Cifar { train, test } => cifar::load(dir, &train, test.as_deref())?,
        },
    };
    splits.agree()
}
