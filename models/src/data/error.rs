//! Everything that can be wrong with a data set, one message each: the file, both sides, a hint. Never prints, never exits.

use std::io;
use std::path::PathBuf;

/// Why a data set was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    #[error("data folder `{dir}` does not exist; hint: give a folder that holds idx files or CIFAR-10 batches, or use the built-in set")]
    NoFolder { dir: PathBuf },

    #[error("`{path}` is a file, but a data set is a folder; hint: give the folder it lies in")]
    NotAFolder { path: PathBuf },

    #[error("`{dir}` holds no known data file: it has {holds}; looked for {looked_for}; hint: {hint}")]
    NothingKnown { dir: PathBuf, holds: String, looked_for: String, hint: String },

    #[error("`{dir}` holds both an idx set (`{idx}`) and CIFAR-10 batches (`{cifar}`); hint: put each set in a folder of its own")]
    TwoSets { dir: PathBuf, idx: String, cifar: String },

    #[error("`{dir}` lacks `{missing}`: it has {found}; hint: {hint}")]
    MissingFile { dir: PathBuf, missing: String, found: String, hint: &'static str },

    #[error("cannot read `{path}`: {source}; hint: it must be a readable, regular file")]
    Io { path: PathBuf, source: io::Error },

    #[error("`{path}` holds more than the {limit} bytes that one data file may have; hint: is it a data set?")]
    TooLarge { path: PathBuf, limit: u64 },

    #[error(
        "`{path}` is a truncated gzip file: its {stored} bytes end after {unpacked} bytes of data, before the stream does; hint: fetch it again"
    )]
    GzipTruncated { path: PathBuf, stored: usize, unpacked: usize },

    #[error("`{path}` is a corrupt gzip file: {reason}, after {unpacked} bytes of data; hint: fetch it again")]
    GzipCorrupt { path: PathBuf, reason: String, unpacked: usize },

    #[error("`{path}` has {found} bytes, but its idx header alone takes {needed}; hint: the file is cut short or no idx file")]
    HeaderCut { path: PathBuf, found: usize, needed: usize },

    #[error("`{path}` has magic number {found} ({found:#010x}), expected {expected}; hint: {hint}")]
    Magic { path: PathBuf, found: u32, expected: &'static str, hint: &'static str },

    #[error(
        "`{path}` is {} than its header says: {sizes:?} means {promised} bytes after the header, the file has {found}; hint: {}",
        if *promised > *found as u128 { "shorter" } else { "longer" },
        if *promised > *found as u128 { "the file is cut short" } else { "something was appended, or the header is damaged" },
    )]
    Length { path: PathBuf, sizes: Vec<u32>, promised: u128, found: usize },

    #[error("`{path}` holds no images: its sizes are {sizes:?}, at least one of each is needed; hint: is it the right file?")]
    Empty { path: PathBuf, sizes: Vec<u32> },

    #[error("`{images}` has {image_count} images, but `{labels}` has {label_count} labels; hint: do both files belong to the same set?")]
    CountsDiffer { images: PathBuf, image_count: usize, labels: PathBuf, label_count: usize },

    #[error(
        "{name}: training images have size {train:?}, test images {test:?} (height, width, channels); hint: do the files belong to one set?"
    )]
    SizesDiffer { name: String, train: [usize; 3], test: [usize; 3] },

    #[error(
        "`{path}`: label {label} at index {index} is out of range, there are {classes} classes; hint: is it the labels file of this set, and has the model a score for each class?"
    )]
    Label { path: PathBuf, index: usize, label: u8, classes: usize },

    #[error(
        "`{path}` has {length} bytes, which is no multiple of the {record} of a CIFAR-10 record: {} are left over; hint: {hint}",
        length % record
    )]
    Records { path: PathBuf, length: usize, record: usize, hint: &'static str },

    #[error(
        "`{dir}` has one training batch, `{batch}`, and no test batch, so nothing is left to test on; hint: add test_batch.bin or another data_batch_N.bin"
    )]
    NothingToTest { dir: PathBuf, batch: String },

    #[error(
        "{count} of {total} image files are broken: {files}; hint: repair them or take them away, or leave them out with --broken skip"
    )]
    Broken { count: usize, total: usize, files: String },

    #[error(
        "`{dir}` holds no image{}; hint: images are PNG or JPEG files in one folder for each class, such as {}",
        if *broken > 0 { format!(" that is not broken ({broken} are)") } else { String::new() },
        dir.join("cat").join("1.png").display(),
    )]
    NoPictures { dir: PathBuf, broken: usize },

    #[error("there is no folder `{dir}`; hint: images lie in one folder for each class, such as {}", dir.join(class).join("1.png").display())]
    NoSplit { dir: PathBuf, class: String },

    #[error(
        "`{dir}` has a class `{class}` that the training images do not have: they have {known}; hint: folders of both name the same classes"
    )]
    UnknownClass { dir: PathBuf, class: String, known: String },

    #[error("`{dir}` has {found} folders, one for each class, but at most {most} classes are possible; hint: is it the right folder?")]
    ManyClasses { dir: PathBuf, found: usize, most: usize },
}
