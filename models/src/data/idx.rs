//! The idx format of MNIST: a magic number, one big-endian `u32` per axis, then bytes. Never believes a size before it has counted.

use std::path::{Path, PathBuf};

use super::folder::IdxFiles;
use super::{DataError, DataSet, Splits, file};

/// What an idx file is expected to hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Content {
    Images,
    Labels,
}

const LABELS: u32 = 0x0801; // 2049: unsigned bytes, one axis
const GREY_IMAGES: u32 = 0x0803; // 2051: [count, height, width]
const COLOUR_IMAGES: u32 = 0x0804; // 2052: [count, height, width, channels]

pub(super) fn load(dir: &Path, files: &IdxFiles) -> Result<Splits, DataError> {
    let train = pair((&files.train_images, file::read(&files.train_images)?), (&files.train_labels, file::read(&files.train_labels)?))?;
    let test = pair((&files.test_images, file::read(&files.test_images)?), (&files.test_labels, file::read(&files.test_labels)?))?;
    // `.` and `a/..` have no name of their own.
    let named = dir.canonicalize().ok().and_then(|whole| Some(whole.file_name()?.to_string_lossy().into_owned()));
    Ok(Splits {
        name: named.unwrap_or_else(|| "idx".into()),
        train,
        test,
        note: None,
        label_files: [files.train_labels.clone(), files.test_labels.clone()],
        skipped: Vec::new(),
    })
}

/// A set from the unpacked bytes of its two files.
pub(super) fn pair(images: (&PathBuf, Vec<u8>), labels: (&PathBuf, Vec<u8>)) -> Result<DataSet, DataError> {
    let (image_path, label_path) = (images.0, labels.0);
    let (image_sizes, images) = parse(image_path, images.1, Content::Images)?;
    let (_, labels) = parse(label_path, labels.1, Content::Labels)?;
    if image_sizes[0] != labels.len() {
        return Err(DataError::CountsDiffer {
            images: image_path.clone(),
            image_count: image_sizes[0],
            labels: label_path.clone(),
            label_count: labels.len(),
        });
    }
    let channels = image_sizes.get(3).copied().unwrap_or(1);
    // `Splits::agree` counts the classes once both sets are known.
    Ok(DataSet { height: image_sizes[1], width: image_sizes[2], channels, classes: 0, images, labels })
}

/// The sizes that the header promises, and the items, which are exactly as many.
fn parse(path: &Path, mut bytes: Vec<u8>, content: Content) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let word = |at: usize, needed: usize| match bytes[(4 * at).min(bytes.len())..].first_chunk() {
        Some(word) => Ok(u32::from_be_bytes(*word)),
        None => Err(DataError::HeaderCut { path: path.into(), found: bytes.len(), needed }),
    };
    let magic = word(0, 4)?;
    let axes = match (content, magic) {
        (Content::Images, GREY_IMAGES) => 3,
        (Content::Images, COLOUR_IMAGES) => 4,
        (Content::Labels, LABELS) => 1,
        (Content::Images | Content::Labels, _) => return Err(wrong_magic(path, magic, content)),
    };
    let header = 4 * (1 + axes);
    let sizes = (1..=axes).map(|at| word(at, header)).collect::<Result<Vec<u32>, _>>()?;

    // Four factors below 2^32 fit.
    let promised: u128 = sizes.iter().map(|&size| u128::from(size)).product();
    let found = bytes.len() - header;
    if promised != found as u128 {
        return Err(DataError::Length { path: path.into(), sizes, promised, found });
    }
    if promised == 0 {
        return Err(DataError::Empty { path: path.into(), sizes });
    }
    bytes.drain(..header);
    Ok((sizes.into_iter().map(|size| size as usize).collect(), bytes))
}

fn wrong_magic(path: &Path, found: u32, content: Content) -> DataError {
    let expected = match content {
        Content::Images => "2051 (0x00000803, grey images) or 2052 (0x00000804, images with channels)",
        Content::Labels => "2049 (0x00000801, labels)",
    };
    let hint = match (content, found) {
        (Content::Images, LABELS) => "this is a labels file; are labels and images swapped?",
        (Content::Labels, GREY_IMAGES | COLOUR_IMAGES) => "this is an images file; are labels and images swapped?",
        (Content::Images | Content::Labels, 0x0900..=0x0eff) => "only idx files of unsigned bytes (type 0x08) are read",
        (Content::Images | Content::Labels, _) => "this is no idx file of unsigned bytes; was an error page saved under its name?",
    };
    DataError::Magic { path: path.into(), found, expected, hint }
}
