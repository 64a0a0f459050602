//! A folder of image files: `train/CLASS/*.png` and `test/CLASS/*.png`, or `.jpg`, `.jpeg`; the image crate decodes them. Classes are numbered
//! in the order of their names in `train`.
//!
//! Every file is looked at before anything is decided: all that are broken are named, and a file of another size than most is one of them.
//! Read [`load`].

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use image::{ColorType, DynamicImage};

use super::folder::list;
use super::{Broken, DataError, DataSet, Splits, file};

const SPLITS: [&str; 2] = ["train", "test"];
/// Of files that are meant as images. Those that are neither PNG nor JPEG cannot be decoded, and are named rather than passed over.
const ENDINGS: [&str; 8] = ["png", "jpg", "jpeg", "gif", "bmp", "webp", "tif", "tiff"];
/// A label is a byte.
const MOST_CLASSES: usize = 256;

/// Whether a folder is one of image files, by the names in it.
pub(super) fn is_one(dir: &Path) -> bool {
    dir.join(SPLITS[0]).is_dir()
}

pub(super) fn load(dir: &Path, broken: Broken) -> Result<Splits, DataError> {
    let classes = folders(&dir.join(SPLITS[0]))?;
    if classes.len() > MOST_CLASSES {
        return Err(DataError::ManyClasses { dir: dir.join(SPLITS[0]), found: classes.len(), most: MOST_CLASSES });
    }
    let mut files = Vec::new();
    for split in SPLITS {
        let dir = dir.join(split);
        if !dir.is_dir() {
            return Err(DataError::NoSplit { dir, class: classes.first().map_or("cat", |class| class).into() });
        }
        for class in folders(&dir)? {
            let label = classes.iter().position(|known| *known == class);
            let label =
                label.ok_or_else(|| DataError::UnknownClass { dir: dir.clone(), class: class.clone(), known: classes.join(", ") })?;
            let folder = dir.join(&class);
            let images = list(&folder)?.into_iter().map(|name| folder.join(name)).filter(|path| is_image(path));
            files.extend(images.map(|path| File { path, split, label: label as u8 }));
        }
    }
    let mut pictures: Vec<Result<Picture, String>> = files.iter().map(|file| Picture::read(&file.path)).collect();
    let size = most_common_size(&pictures);
    for picture in &mut pictures {
        if let Ok(found) = picture
            && found.size != size
        {
            *picture = Err(format!("it is {} x {} pixels (height x width), most are {} x {}", found.size.0, found.size.1, size.0, size.1));
        }
    }
    let skipped: Vec<String> =
        files.iter().zip(&pictures).filter_map(|(file, p)| Some(format!("`{}`: {}", file.path.display(), p.as_ref().err()?))).collect();
    if broken == Broken::Stop && !skipped.is_empty() {
        return Err(DataError::Broken { count: skipped.len(), total: files.len(), files: named(&skipped) });
    }

    // Grey images among coloured ones have three equal channels.
    let channels = if pictures.iter().flatten().all(|p| p.channels == 1) { 1 } else { 3 };
    let [train, test] = SPLITS.map(|split| {
        let mut set = DataSet { height: size.0, width: size.1, channels, classes: 0, images: Vec::new(), labels: Vec::new() };
        for (file, picture) in files.iter().zip(&pictures).filter(|(file, _)| file.split == split) {
            let Ok(picture) = picture else { continue };
            set.labels.push(file.label);
            match picture.channels == channels {
                true => set.images.extend(&picture.pixels),
                false => set.images.extend(picture.pixels.iter().flat_map(|&grey| [grey; 3])),
            }
        }
        set
    });
    for (set, split) in [(&train, SPLITS[0]), (&test, SPLITS[1])] {
        if set.is_empty() {
            return Err(DataError::NoPictures { dir: dir.join(split), broken: skipped.len() });
        }
    }
    let named = dir.canonicalize().ok().and_then(|whole| Some(whole.file_name()?.to_string_lossy().into_owned()));
    Ok(Splits {
        name: named.unwrap_or_else(|| "images".into()),
        train,
        test,
        note: None,
        label_files: SPLITS.map(|split| dir.join(split)),
        skipped,
    })
}

struct File {
    path: PathBuf,
    split: &'static str,
    label: u8,
}

/// One decoded image.
struct Picture {
    /// Height and width.
    size: (usize, usize),
    /// 1 or 3
    channels: usize,
    pixels: Vec<u8>,
}

impl Picture {
    fn read(path: &Path) -> Result<Picture, String> {
        let bytes = file::read(path).map_err(|error| match error {
            DataError::Io { source, .. } => source.to_string(),
            other => other.to_string(),
        })?;
        let decoded = image::load_from_memory(&bytes).map_err(|error| error.to_string().trim_end().to_string())?;
        let size = (decoded.height() as usize, decoded.width() as usize);
        let (channels, pixels) = match is_grey(&decoded) {
            true => (1, decoded.into_luma8().into_raw()),
            false => (3, decoded.into_rgb8().into_raw()),
        };
        Ok(Picture { size, channels, pixels })
    }
}

fn is_grey(image: &DynamicImage) -> bool {
    matches!(image.color(), ColorType::L8 | ColorType::L16 | ColorType::La8 | ColorType::La16)
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// Names of the folders in a folder, sorted; hidden ones are none of it.
fn folders(dir: &Path) -> Result<Vec<String>, DataError> {
    let names = list(dir)?;
    Ok(names.into_iter().filter(|name| !name.starts_with('.') && fs::metadata(dir.join(name)).is_ok_and(|m| m.is_dir())).collect())
}

/// Of equals, the smallest.
fn most_common_size(pictures: &[Result<Picture, String>]) -> (usize, usize) {
    let mut counts = HashMap::new();
    for picture in pictures.iter().flatten() {
        *counts.entry(picture.size).or_insert(0) += 1;
    }
    counts.into_iter().min_by_key(|&(size, count)| (std::cmp::Reverse(count), size)).map_or((0, 0), |(size, _)| size)
}

/// All of a few, the first of many.
fn named(all: &[String]) -> String {
    const SHOWN: usize = 10;
    let shown = all[..all.len().min(SHOWN)].join("; ");
    if all.len() > SHOWN { format!("{shown}; and {} more", all.len() - SHOWN) } else { shown }
}
