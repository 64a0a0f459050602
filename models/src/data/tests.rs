//! Tests of the loaders: what is read, and every way in which a folder can be wrong. The full sets are used where they are found.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;

use super::*;

const TRAIN_IMAGES: &str = "train-images-idx3-ubyte";
const TRAIN_LABELS: &str = "train-labels-idx1-ubyte";
const TEST_IMAGES: &str = "t10k-images-idx3-ubyte";
const TEST_LABELS: &str = "t10k-labels-idx1-ubyte";

// What is read.

#[test]
fn builtin_is_the_head_of_mnist() {
    let built = load(&Source::Builtin).unwrap();
    assert_eq!((built.name.as_str(), built.note.as_deref()), ("mnist-10k", None));
    assert_eq!((built.train.len(), built.test.len()), (10_000, 2_000));
    for set in [&built.train, &built.test] {
        assert_eq!((set.height, set.width, set.channels, set.classes, set.pixels_per_image()), (28, 28, 1, 10, 784));
        assert_eq!(set.images.len(), set.len() * 784);
    }
    assert_eq!(built.train.per_class(), [1001, 1127, 991, 1032, 980, 863, 1014, 1070, 944, 978]);
    assert_eq!(built.test.per_class(), [175, 234, 219, 207, 217, 179, 178, 205, 192, 194]);
    assert_eq!(built.train.labels[..10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]);
    assert_eq!(built.test.labels[..10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]);
    built.check_classes(10).unwrap();

    let Some(dir) = full_set_for_test("mnist") else { return };
    let full = load(&Source::Dir(dir)).unwrap();
    assert!(built.train == full.train.head(10_000), "training images");
    assert!(built.test == full.test.head(2_000), "test images");
}

#[test]
fn full_mnist() {
    let Some(dir) = full_set_for_test("mnist") else { return };
    let full = load(&Source::Dir(dir)).unwrap();
    assert_eq!((full.name.as_str(), full.note), ("mnist", None));
    assert_eq!(full.train.per_class(), [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]);
    assert_eq!(full.test.per_class(), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
    let (mean, deviation) = moments(full.train.images.iter().copied());
    assert!((mean - 0.1307).abs() < 5e-5 && (deviation - 0.3081).abs() < 5e-5, "{mean} {deviation}");
}

#[test]
fn full_cifar() {
    let Some(dir) = full_set_for_test("cifar-10") else { return };
    let full = load(&Source::Dir(dir)).unwrap();
    assert_eq!(full.name, "cifar-10");
    assert_eq!((full.train.len(), full.train.per_class()), (50_000, vec![5000; 10]));
    assert_eq!(full.test.per_class(), [105, 93, 100, 104, 92, 87, 114, 102, 110, 110]);
    assert_eq!(
        full.note.as_deref(),
        Some("test error is measured on `test_batch_first1017.bin.gz`: 1017 images, the full test batch has 10000")
    );
    let expected = [(0.4914, 0.2470), (0.4822, 0.2435), (0.4465, 0.2616)];
    for (channel, expected) in expected.into_iter().enumerate() {
        let (mean, deviation) = moments(full.train.images.iter().skip(channel).step_by(3).copied());
        assert!((mean - expected.0).abs() < 6e-5 && (deviation - expected.1).abs() < 6e-5, "channel {channel}: {mean} {deviation}");
    }
    // The first image is a frog; its first red, green and blue were read off the file.
    assert_eq!((full.train.labels[0], &full.train.image(0)[..6]), (6, &[59, 62, 63, 43, 46, 45][..]));
}

#[test]
fn idx_raw_gzip_and_every_spelling() {
    let images = idx(&[2, 2, 3], &(0..12).collect::<Vec<u8>>());
    let labels = idx(&[2], &[1, 9]);
    let spellings = [
        ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"],
        ["train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz", "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"],
        ["train-images.idx3-ubyte", "train-labels.idx1-ubyte", "t10k-images.idx3-ubyte.gz", "t10k-labels.idx1-ubyte.gz"],
    ];
    for names in spellings {
        // The name promises nothing: gzip under a raw name, raw under a gzip name.
        for packed in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            for (name, contents) in names.iter().zip([&images, &labels, &images, &labels]) {
                write(dir.path(), name, &if packed { gzip(contents) } else { contents.clone() });
            }
            let set = load(&Source::Dir(dir.path().into())).unwrap().train;
            assert_eq!((set.height, set.width, set.channels, set.classes, set.len()), (2, 3, 1, 10, 2));
            assert_eq!(set.image(1), [6, 7, 8, 9, 10, 11]);
            assert_eq!(set.labels, [1, 9]);
        }
    }
}

#[test]
fn idx_with_channels_and_many_classes() {
    let dir = good_idx();
    write(dir.path(), TRAIN_IMAGES, &idx(&[1, 1, 2, 3], &[1, 2, 3, 4, 5, 6]));
    write(dir.path(), TRAIN_LABELS, &idx(&[1], &[3]));
    fs::remove_file(dir.path().join(TEST_IMAGES)).unwrap();
    write(dir.path(), "t10k-images-idx4-ubyte", &idx(&[1, 1, 2, 3], &[0; 6]));
    write(dir.path(), TEST_LABELS, &idx(&[1], &[46]));
    let splits = load(&Source::Dir(dir.path().into())).unwrap();
    assert_eq!((splits.train.channels, splits.train.classes, splits.test.classes), (3, 47, 47));
    assert_eq!(splits.train.image(0), [1, 2, 3, 4, 5, 6]);
}

#[test]
fn several_gzip_members_are_one_file() {
    let dir = good_idx();
    let whole = idx(&[2, 1, 2], &[1, 2, 3, 4]);
    write(dir.path(), TRAIN_IMAGES, &[gzip(&whole[..9]), gzip(&whole[9..])].concat());
    assert_eq!(load(&Source::Dir(dir.path().into())).unwrap().train.images, [1, 2, 3, 4]);
}

#[test]
fn head_is_clamped() {
    let set = load(&Source::Dir(good_idx().path().into())).unwrap().train;
    assert_eq!((set.head(1).len(), set.head(1).images.len(), set.head(5)), (1, 2, set));
}

#[test]
fn cifar_planes_become_channels() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "data_batch_1.bin", &cifar(&[7]));
    write(dir.path(), "test_batch.bin.gz", &gzip(&cifar(&[1, 2])));
    let splits = load(&Source::Dir(dir.path().into())).unwrap();
    assert_eq!((splits.train.height, splits.train.width, splits.train.channels, splits.train.classes), (32, 32, 3, 10));
    assert_eq!((splits.train.labels, splits.test.labels), (vec![7], vec![1, 2]));
    // `cifar` writes plane * 80 + row in every pixel.
    let pixel = |at: usize| &splits.train.images[3 * at..][..3];
    assert_eq!(
        (pixel(0), pixel(31), pixel(32), pixel(1023)),
        (&[0, 80, 160][..], &[0, 80, 160][..], &[1, 81, 161][..], &[31, 111, 191][..])
    );
}

#[test]
fn cifar_test_batch_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for (number, label) in [(2, 2), (1, 1), (5, 5)] {
        write(dir.path(), &format!("data_batch_{number}.bin"), &cifar(&[label]));
    }
    let held_out = load(&Source::Dir(dir.path().into())).unwrap();
    assert_eq!((held_out.train.labels, held_out.test.labels), (vec![1, 2], vec![5]));
    assert_eq!(
        held_out.note.as_deref(),
        Some(
            "no test batch: test error is measured on `data_batch_5.bin` (1 images), held out of training; \
             training uses 2 of 5 batches: data_batch_1.bin, data_batch_2.bin"
        )
    );

    write(dir.path(), "test_batch_a.bin.gz", &gzip(&cifar(&[8, 9])));
    write(dir.path(), "data_batch_3.bin", &cifar(&[3]));
    write(dir.path(), "data_batch_4.bin", &cifar(&[4]));
    let partial = load(&Source::Dir(dir.path().into())).unwrap();
    assert_eq!((partial.train.labels, partial.test.labels), (vec![1, 2, 3, 4, 5], vec![8, 9]));
    assert_eq!(partial.note.as_deref(), Some("test error is measured on `test_batch_a.bin.gz`: 2 images, the full test batch has 10000"));

    write(dir.path(), "test_batch.bin", &cifar(&[0; 10_000]));
    let full = load(&Source::Dir(dir.path().into())).unwrap();
    assert_eq!((full.test.len(), full.note), (10_000, None));
}

// What is refused. Each check names parts of the message: the file, both sides, the hint.

#[test]
fn missing_folder() {
    let dir = tempfile::tempdir().unwrap();
    refused(&dir.path().join("absent"), &["absent` does not exist", "hint: give a folder"]);
}

#[test]
fn file_instead_of_folder() {
    refused(&good_idx().path().join(TRAIN_IMAGES), &["train-images-idx3-ubyte` is a file", "give the folder"]);
}

#[test]
fn nothing_known() {
    let dir = tempfile::tempdir().unwrap();
    refused(dir.path(), &["no file at all", "train-images-idx3-ubyte", "data_batch_1.bin .. data_batch_5.bin", "hint: unpack"]);
    write(dir.path(), "data_batch_1", b"pickle");
    refused(dir.path(), &["it has `data_batch_1`", "get the binary version"]);
    for name in ["a", "b", "c", "e", "f"] {
        write(dir.path(), name, b"");
    }
    refused(dir.path(), &["`a`, `b`, `c`, `data_batch_1`, `e` and 1 more"]);
    fs::create_dir(dir.path().join("mnist")).unwrap();
    write(&dir.path().join("mnist"), TEST_LABELS, b"");
    refused(dir.path(), &["hint: give `", "mnist`"]);
}

#[test]
fn two_sets_in_one_folder() {
    let dir = good_idx();
    write(dir.path(), "data_batch_2.bin", &cifar(&[0]));
    refused(dir.path(), &["`train-images-idx3-ubyte`", "`data_batch_2.bin`", "a folder of its own"]);
}

#[test]
fn missing_one_of_four() {
    for name in [TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS] {
        let dir = good_idx();
        fs::remove_file(dir.path().join(name)).unwrap();
        refused(dir.path(), &[&format!("lacks `{name}`"), "it has `t", "an idx set is four files"]);
    }
}

#[test]
fn truncated_gzip() {
    let whole = gzip(&idx(&[2, 1, 2], &[1, 2, 3, 4]));
    for kept in [2, 9, 15, whole.len() - 5, whole.len() - 1] {
        let dir = good_idx();
        write(dir.path(), TRAIN_IMAGES, &whole[..kept]);
        refused(dir.path(), &[TRAIN_IMAGES, "truncated gzip", &format!("its {kept} bytes"), "hint: fetch it again"]);
    }
}

#[test]
fn corrupt_gzip() {
    let whole = gzip(&idx(&[2, 1, 2], &[1, 2, 3, 4]));
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let checksum = flipped(whole.len() - 8);
    let trailing = [&whole[..], b"trailing bytes after the stream"].concat();
    for bytes in [checksum, flipped(2), trailing] {
        let dir = good_idx();
        write(dir.path(), TEST_IMAGES, &bytes);
        refused(dir.path(), &[TEST_IMAGES, "corrupt gzip", "hint: fetch it again"]);
    }
}

/// Whatever is wrong with any byte, the answer is an error or the same data, never a panic.
#[test]
fn every_flipped_byte() {
    let dir = good_idx();
    let good = load(&Source::Dir(dir.path().into())).unwrap().train;
    let raw = idx(&[2, 1, 2], &[1, 2, 3, 4]);
    let whole = gzip(&raw);
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            write(dir.path(), TRAIN_IMAGES, &bytes);
            if let Ok(splits) = load(&Source::Dir(dir.path().into())) {
                assert_eq!(splits.train, good, "byte {at}, bit {bit}");
            }
        }
    }
    for at in 0..16 {
        for bit in 0..8 {
            let mut bytes = raw.clone();
            bytes[at] ^= 1 << bit;
            write(dir.path(), TRAIN_IMAGES, &bytes);
            assert!(load(&Source::Dir(dir.path().into())).is_err(), "header byte {at}, bit {bit}");
        }
    }
}

#[test]
fn wrong_magic() {
    let dir = good_idx();
    let expected = "2051 (0x00000803, grey images) or 2052";
    write(dir.path(), TRAIN_IMAGES, b"<html>not found</html>");
    refused(dir.path(), &[TRAIN_IMAGES, "magic number 1013478509 (0x3c68746d)", expected, "error page"]);
    write(dir.path(), TRAIN_IMAGES, &[0, 0, 0x0d, 3, 0, 0, 0, 1]);
    refused(dir.path(), &["magic number 3331 (0x00000d03)", expected, "only idx files of unsigned bytes"]);
    write(dir.path(), TRAIN_IMAGES, &idx(&[2], &[1, 2]));
    refused(dir.path(), &["magic number 2049 (0x00000801)", expected, "this is a labels file; are labels and images swapped?"]);

    let dir = good_idx();
    write(dir.path(), TEST_LABELS, &idx(&[2, 1, 2], &[1, 2, 3, 4]));
    refused(dir.path(), &[TEST_LABELS, "2051 (0x00000803), expected 2049 (0x00000801", "this is an images file; are labels"]);
}

#[test]
fn header_cut_short() {
    let whole = idx(&[2, 1, 2], &[1, 2, 3, 4]);
    for (kept, needed) in [(0, 4), (3, 4), (4, 16), (15, 16)] {
        let dir = good_idx();
        write(dir.path(), TRAIN_IMAGES, &whole[..kept]);
        refused(dir.path(), &[TRAIN_IMAGES, &format!("has {kept} bytes, but its idx header alone takes {needed}"), "cut short"]);
    }
}

#[test]
fn data_of_another_length_than_the_header() {
    let dir = good_idx();
    write(dir.path(), TRAIN_IMAGES, &idx(&[2, 1, 2], &[1, 2, 3]));
    refused(dir.path(), &[TRAIN_IMAGES, "shorter than its header says", "[2, 1, 2] means 4 bytes", "has 3", "cut short"]);
    write(dir.path(), TRAIN_IMAGES, &gzip(&idx(&[2, 1, 2], &[1, 2, 3, 4, 5])));
    refused(dir.path(), &["longer than its header says", "means 4 bytes", "has 5", "appended"]);
    // A lying header allocates nothing and overflows nothing.
    write(dir.path(), TRAIN_IMAGES, &idx(&[u32::MAX; 4], &[0; 8]));
    refused(dir.path(), &["shorter", "340282366604025813516997721482669850625 bytes", "has 8"]);
    let dir = good_idx();
    write(dir.path(), TEST_LABELS, &idx(&[7], &[1, 2]));
    refused(dir.path(), &[TEST_LABELS, "[7] means 7 bytes", "has 2"]);
}

#[test]
fn zero_images() {
    let dir = good_idx();
    write(dir.path(), TRAIN_IMAGES, &idx(&[0, 28, 28], &[]));
    refused(dir.path(), &[TRAIN_IMAGES, "holds no images", "[0, 28, 28]"]);
    write(dir.path(), TRAIN_IMAGES, &idx(&[5, 0, 28], &[]));
    refused(dir.path(), &["holds no images", "[5, 0, 28]"]);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "data_batch_1.bin", &[]);
    write(dir.path(), "test_batch.bin", &cifar(&[1]));
    refused(dir.path(), &["data_batch_1.bin", "holds no images"]);
}

#[test]
fn images_and_labels_of_different_counts() {
    let dir = good_idx();
    write(dir.path(), TEST_LABELS, &idx(&[3], &[1, 2, 3]));
    refused(dir.path(), &["t10k-images-idx3-ubyte` has 2 images", "t10k-labels-idx1-ubyte` has 3 labels", "same set"]);
}

#[test]
fn train_and_test_of_different_sizes() {
    let dir = good_idx();
    write(dir.path(), TEST_IMAGES, &idx(&[2, 1, 3], &[0; 6]));
    refused(dir.path(), &["training images have size [1, 2, 1]", "test images [1, 3, 1]", "one set"]);
}

#[test]
fn label_out_of_range() {
    let dir = good_idx();
    write(dir.path(), TEST_LABELS, &idx(&[2], &[3, 10]));
    let splits = load(&Source::Dir(dir.path().into())).unwrap();
    assert_eq!(splits.train.classes, 11);
    splits.check_classes(11).unwrap();
    says(splits.check_classes(10).unwrap_err(), &[TEST_LABELS, "label 10 at index 1", "there are 10 classes", "hint"]);
    says(splits.train.check_classes(2, "some file").unwrap_err(), &["`some file`: label 9 at index 1", "there are 2 classes"]);

    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "data_batch_1.bin", &cifar(&[1, 2, 250, 11]));
    write(dir.path(), "test_batch.bin", &cifar(&[1]));
    refused(dir.path(), &["data_batch_1.bin", "label 250 at index 2", "there are 10 classes"]);
}

#[test]
fn cifar_of_odd_length() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "test_batch.bin", &cifar(&[1]));
    write(dir.path(), "data_batch_1.bin", &cifar(&[1, 2])[..6000]);
    refused(dir.path(), &["data_batch_1.bin", "6000 bytes", "3073", "2927 are left over", "cut short"]);
    write(dir.path(), "data_batch_1.bin", &[0; 3074]);
    refused(dir.path(), &["3074 bytes", "1 are left over", "is it CIFAR-100?"]);
    write(dir.path(), "data_batch_1.bin", &gzip(&cifar(&[1]))[..20]);
    refused(dir.path(), &["data_batch_1.bin", "truncated gzip"]);
}

#[test]
fn cifar_without_training_or_test() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "data_batch_3.bin", &cifar(&[1]));
    refused(dir.path(), &["one training batch, `data_batch_3.bin`", "no test batch", "hint: add test_batch.bin"]);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "test_batch.bin", &cifar(&[1]));
    refused(dir.path(), &["lacks `data_batch_1.bin`", "`test_batch.bin` and no training batch", "hint: add at least one"]);
}

#[test]
fn image_files_in_folders_of_classes() {
    let dir = pictures();
    let splits = load(&Source::Dir(dir.path().into())).unwrap();
    assert_eq!(splits.name, dir.path().file_name().unwrap().to_string_lossy());
    let set = &splits.train;
    // A grey one among coloured ones; classes and files in the order of their names; nothing but images, and no hidden folder.
    assert_eq!((set.height, set.width, set.channels, &set.labels, &splits.test.labels), (2, 3, 3, &vec![0, 0, 1], &vec![1]));
    assert_eq!(set.image(0)[..6], [10, 20, 30, 10, 20, 30]);
    assert_eq!(set.image(2)[..6], [7, 7, 7, 7, 7, 7]);
    assert!(splits.skipped.is_empty());

    fs::remove_dir_all(dir.path().join("train/cat")).unwrap();
    picture(dir.path(), "test/dog/b.png", 3, 2, &[9]);
    let splits = load(&Source::Dir(dir.path().into()));
    assert_eq!(splits.unwrap().train.channels, 3, "one of the test images has colours");
}

#[test]
fn broken_image_files_are_named_and_counted() {
    let dir = pictures();
    let whole = fs::read(dir.path().join("train/cat/a.png")).unwrap();
    write(dir.path(), "train/cat/cut.png", &whole[..whole.len() / 2]);
    write(dir.path(), "train/dog/text.jpg", b"no image at all");
    write(dir.path(), "train/dog/empty.png", b"");
    picture(dir.path(), "test/dog/large.png", 4, 4, &[1, 2, 3]);
    refused(
        dir.path(),
        &[
            "4 of 8 image files are broken",
            "train/cat/cut.png`: ",
            "train/dog/text.jpg`: ",
            "train/dog/empty.png`: ",
            "test/dog/large.png`: it is 4 x 4 pixels (height x width), most are 2 x 3",
            "--broken skip",
        ],
    );
    let splits = load_with(&Source::Dir(dir.path().into()), Broken::Skip).unwrap();
    assert_eq!((splits.train.labels, splits.test.labels, splits.skipped.len()), (vec![0, 0, 1], vec![1], 4));
    assert!(splits.skipped[0].contains("train/cat/cut.png`: "), "{:?}", splits.skipped);

    // Of many, ten are shown.
    for number in 0..20 {
        write(dir.path(), &format!("train/cat/z{number}.png"), b"");
    }
    refused(dir.path(), &["24 of 28 image files are broken", "; and 14 more"]);
    assert_eq!(load_with(&Source::Dir(dir.path().into()), Broken::Skip).unwrap().skipped.len(), 24);
}

/// A file that is meant as an image is not passed over because it is another kind of image.
#[test]
fn images_of_other_kinds_are_named() {
    let dir = pictures();
    write(dir.path(), "train/cat/moving.gif", b"GIF89a");
    write(dir.path(), "train/cat/notes.txt", b"no image at all");
    refused(dir.path(), &["1 of 5 image files are broken", "train/cat/moving.gif`: ", "not supported"]);
    assert_eq!(load_with(&Source::Dir(dir.path().into()), Broken::Skip).unwrap().skipped.len(), 1);
}

#[test]
fn folders_of_images_that_make_no_set() {
    let dir = pictures();
    fs::create_dir(dir.path().join("test/cow")).unwrap();
    refused(dir.path(), &["test` has a class `cow`", "they have cat, dog"]);
    fs::remove_dir_all(dir.path().join("test")).unwrap();
    refused(dir.path(), &["there is no folder `", "test`; hint: ", "cat/1.png"]);
    fs::create_dir_all(dir.path().join("test/dog")).unwrap();
    refused(dir.path(), &["test` holds no image; hint: ", "cat/1.png"]);
    write(dir.path(), "test/dog/a.png", b"");
    let error = load_with(&Source::Dir(dir.path().into()), Broken::Skip).unwrap_err();
    says(error, &["test` holds no image that is not broken (1 are)"]);
    for number in 0..300 {
        fs::create_dir_all(dir.path().join(format!("train/{number}"))).unwrap();
    }
    refused(dir.path(), &["has 302 folders", "at most 256 classes"]);
}

#[test]
fn unreadable() {
    let dir = good_idx();
    fs::remove_file(dir.path().join(TRAIN_LABELS)).unwrap();
    fs::create_dir(dir.path().join(TRAIN_LABELS)).unwrap();
    refused(dir.path(), &["cannot read", TRAIN_LABELS, "not a regular file"]);
}

#[test]
fn bomb() {
    let packed = gzip(&vec![0; 1 << 20]);
    assert!(packed.len() < 2000);
    assert_eq!(file::gunzip("zeros".as_ref(), &packed, 1 << 20).unwrap().len(), 1 << 20);
    let error = file::gunzip("zeros".as_ref(), &packed, (1 << 20) - 1).unwrap_err();
    says(error, &["`zeros` holds more than the 1048575 bytes", "hint"]);
}

// Helpers.

/// Loading fails, with a message of one line that has all the parts.
fn refused(dir: &Path, parts: &[&str]) {
    says(load(&Source::Dir(dir.into())).expect_err("this folder is wrong"), parts);
}

fn says(error: DataError, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    assert!(message.contains("hint: ") && !message.contains('\n'), "{message}");
}

/// Two training and two test images of 1x2 pixels.
fn good_idx() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in [TRAIN_IMAGES, TEST_IMAGES] {
        write(dir.path(), name, &idx(&[2, 1, 2], &[1, 2, 3, 4]));
    }
    for name in [TRAIN_LABELS, TEST_LABELS] {
        write(dir.path(), name, &idx(&[2], &[0, 9]));
    }
    dir
}

/// An idx file with any header and any data.
fn idx(sizes: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(data);
    bytes
}

/// Records with these labels; each pixel is plane * 80 + row.
fn cifar(labels: &[u8]) -> Vec<u8> {
    let pixels: Vec<u8> = (0..3).flat_map(|plane| (0..1024).map(move |at| plane * 80 + (at / 32) as u8)).collect();
    labels.iter().flat_map(|&label| [&[label][..], &pixels].concat()).collect()
}

/// Images of 2 x 3 pixels: two coloured cats and a grey dog to train on, a coloured dog to test; and what is none of it.
fn pictures() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["train/cat", "train/dog", "train/.cache", "test/dog"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
    }
    picture(dir.path(), "train/cat/a.png", 3, 2, &[10, 20, 30]);
    picture(dir.path(), "train/cat/b.PNG", 3, 2, &[11, 21, 31]);
    picture(dir.path(), "train/dog/c.png", 3, 2, &[7]);
    picture(dir.path(), "test/dog/d.png", 3, 2, &[1, 2, 3]);
    write(dir.path(), "train/cat/notes.txt", b"mine");
    write(dir.path(), "train/.cache/x.png", b"");
    dir
}

/// A PNG file of one colour, grey if it has one number.
fn picture(dir: &Path, name: &str, width: u32, height: u32, colour: &[u8]) {
    let kind = if colour.len() == 1 { image::ExtendedColorType::L8 } else { image::ExtendedColorType::Rgb8 };
    let pixels = colour.repeat((width * height) as usize);
    image::save_buffer_with_format(dir.join(name), &pixels, width, height, kind, image::ImageFormat::Png).unwrap();
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

fn write(dir: &Path, name: &str, contents: &[u8]) {
    fs::write(dir.join(name), contents).unwrap();
}

/// Mean and standard deviation of pixels on [0, 1].
fn moments(pixels: impl Iterator<Item = u8>) -> (f64, f64) {
    let (mut count, mut sum, mut squares) = (0u64, 0u64, 0u64);
    for pixel in pixels {
        count += 1;
        sum += u64::from(pixel);
        squares += u64::from(pixel) * u64::from(pixel);
    }
    let mean = sum as f64 / count as f64 / 255.0;
    (mean, (squares as f64 / count as f64 / (255.0 * 255.0) - mean * mean).sqrt())
}
