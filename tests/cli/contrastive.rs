//! `train` on a model that learns from views: its loss falls, what it learns is worth something to a linear probe, and bits depend on neither
//! threads nor interruptions. And what is done to images on the way.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use pushforward_models::data::{self, Source};

use crate::train::{errors, small, strs};
use crate::{Place, check_refused, pushforward, refused, run, succeeds};

const CONTRASTIVE: [&str; 4] = ["--set", "task=contrastive", "--set", "channels=64"];

fn contrastive(place: &Place, output: &str, more: &[&str]) -> Vec<String> {
    small(place, output, &[&CONTRASTIVE, more].concat())
}

/// Epoch, loss and error columns of the metrics.
fn losses(place: &Place, output: &str) -> Vec<(usize, f64)> {
    let text = fs::read_to_string(place.path(output).join("metrics.csv")).expect("the run left metrics");
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells[4..6], ["NaN", "NaN"], "there are no errors before the probe: {line}");
        (cells[0].parse().expect(line), cells[3].parse().expect(line))
    };
    text.lines().skip(1).map(row).collect()
}

fn checkpoint(place: &Place, output: &str) -> Vec<u8> {
    fs::read(place.path(output).join("checkpoint.safetensors")).expect("the run left a checkpoint")
}

#[test]
fn the_loss_falls_and_the_probe_gains() {
    let place = Place::with_images(1000, 500);
    let ran = run(&strs(&contrastive(&place, "run", &["--epochs", "10"])));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for part in ["untrained: loss ", "epoch 10/10  loss ", "steps waited ", "linear probe: 64 features, standardised; 100 epochs"] {
        assert!(ran.err.contains(part), "`{part}` is not in: {}", ran.err);
    }
    let losses = losses(&place, "run");
    assert_eq!(losses.iter().map(|l| l.0).collect::<Vec<_>>(), (0..=10).collect::<Vec<_>>());
    let (untrained, last) = (losses[0].1, losses[10].1);
    assert!(last < 0.95 * untrained, "the loss falls: {losses:?}");
    let curve = fs::read_to_string(place.path("run").join("curve.svg")).expect("text");
    assert!(curve.contains("Loss (mean per image)") && !curve.contains("Error (%)"));

    // The usual recipe is the one for views: at the end of the first of ten epochs the rate is near the highest, 128 / 512.
    let metrics = fs::read_to_string(place.path("run").join("metrics.csv")).expect("the run left metrics");
    let rate: f64 = metrics.lines().nth(2).and_then(|row| row.split(',').nth(2)?.parse().ok()).expect(&metrics);
    assert!((0.2..=0.25).contains(&rate), "{metrics}");
    let untrained = errors(&succeeds(&strs(&contrastive(&place, "untrained", &["--epochs", "0"])))).0;
    let trained = errors(&ran.out).0;
    assert!(trained < untrained - 3.0, "{trained} % after training, {untrained} % before");
}

#[test]
fn bits_depend_on_neither_threads_nor_interruptions() {
    let place = Place::with_images(150, 50);
    let out = succeeds(&strs(&contrastive(&place, "one", &["--epochs", "2", "--threads", "1", "--crop-area", "0.3"])));
    succeeds(&strs(&contrastive(&place, "two", &["--epochs", "2", "--threads", "2", "--crop-area", "0.3"])));
    assert!(checkpoint(&place, "one") == checkpoint(&place, "two"), "one thread and two leave different bits");

    // The flags of the run are in its checkpoint.
    let again = place.arg("one");
    let data = place.arg("data");
    let looked = succeeds(&["train", "--resume", "--epochs", "0", "--data", &data, "-o", &again]);
    assert_eq!(looked, out);
    let other = ["train", "--resume", "--crop-area", "0.4", "--data", &data, "-o", &again];
    refused(&other, 1, &["belongs to another run", "--crop-area=0.3"]);
}

/// All is trained and saved by then; Ctrl-C stops the probe all the same, and the command that goes on makes the same one.
#[test]
#[cfg(unix)]
fn the_probe_may_be_interrupted() {
    let place = Place::with_images(150, 50);
    let args = contrastive(&place, "run", &["--epochs", "1", "--probe-epochs", "10000000"]);
    let mut child = pushforward(&strs(&args)).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the command starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines().map(|line| line.expect("text"));
    assert!(lines.by_ref().any(|line| line.starts_with("steps waited ")), "no word of the end of training");
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    let said: Vec<String> = lines.collect();
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!((ended.status.code(), ended.stdout), (Some(130), Vec::new()), "{said:?}");
    let again = format!("`pushforward train --data {} --probe-epochs 10000000 --resume -o {}`", place.arg("data"), place.arg("run"));
    let told = format!("interrupted after epoch 1, the last; its checkpoint is whole: {again} measures the errors");
    assert_eq!(said.last(), Some(&told), "{said:?}");
}

/// What a loss leaves out with a constant of -inf is no fault of a step.
#[test]
fn a_contrastive_run_that_diverges_stops() {
    let place = Place::with_images(150, 50);
    let args = contrastive(&place, "run", &["--epochs", "1", "--lr", "1e38"]);
    let ran = run(&strs(&args));
    assert!(!ran.err.contains("`const`") && !ran.err.contains("`select`"), "{}", ran.err);
    check_refused(ran, 1, &["after step ", "first value that is not finite", "models/localmixer.pf:", "hint: "], &strs(&args));
}

#[test]
fn classifiers_see_augmented_images_if_asked() {
    let place = Place::with_images(150, 50);
    for (output, more) in [("plain", &[][..]), ("flip", &["--augment", "flip"]), ("byol", &["--augment", "byol"])] {
        errors(&succeeds(&strs(&small(&place, output, &[&["--epochs", "1"], more].concat()))));
    }
    let bits = ["plain", "flip", "byol"].map(|output| checkpoint(&place, output));
    assert!(bits[0] != bits[1] && bits[1] != bits[2] && bits[0] != bits[2]);
}

#[test]
fn what_cannot_be_done_to_images_is_refused() {
    let place = Place::with_images(150, 10);
    let check = |more: &[&str], parts: &[&str]| refused(&strs(&small(&place, "run", more)), 2, parts);
    check(&["--augment", "crop"], &["no augmentation is called `crop`: there are none, flip, byol\n"]);
    check(&["--crop-area", "0"], &["above 0 and at most 1"]);
    check(&["--crop-area", "0.5"], &["--crop-area says how `--augment byol` crops", "hint: leave it out"]);
    check(&["--augment", "flip", "--crop-area", "0.5"], &["nothing else crops"]);
}

#[test]
fn a_batch_of_one_image_is_warned_of() {
    let place = Place::with_images(4, 2);
    let warned = |batch| {
        let ran = run(&strs(&contrastive(&place, batch, &["--epochs", "1", "--probe-epochs", "1", "--batch", batch])));
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        ran.err.contains("warning: a batch of one image has no other")
    };
    assert!(warned("1") && !warned("2"));
}

/// A hundred digits as PNG files, one of them cut short, one no image at all.
#[test]
fn broken_image_files_stop_training_or_are_left_out() {
    let place = Place::new();
    let splits = data::load(&Source::Builtin).expect("it is compiled in");
    for (split, set) in [("train", &splits.train), ("test", &splits.test)] {
        for index in 0..50 {
            let folder = place.path("data").join(split).join(set.labels[index].to_string());
            fs::create_dir_all(&folder).expect("there is room");
            let file = folder.join(format!("{index}.png"));
            image::save_buffer(file, set.image(index), 28, 28, image::ExtendedColorType::L8).expect("there is room");
        }
    }
    // The first image is a 5, the second a 0.
    let [cut, text] = ["data/train/5/0.png", "data/train/0/1.png"].map(|name| place.path(name));
    let whole = fs::read(&cut).expect("it was written");
    fs::write(&cut, &whole[..100]).expect("there is room");
    fs::write(&text, "no image").expect("there is room");

    let args = small(&place, "run", &["--batch", "16", "--epochs", "1"]);
    let hint = "--broken skip";
    refused(&strs(&args), 1, &["2 of 100 image files are broken", "train/5/0.png`: ", "train/0/1.png`: ", hint]);
    let args: Vec<String> = args.into_iter().chain(["--broken".into(), "skip".into()]).collect();
    let ran = run(&strs(&args));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    for part in ["left out: `", "train/5/0.png`: ", "2 of 100 image files are broken and left out", "48 training and 50 test images"] {
        assert!(ran.err.contains(part), "`{part}` is not in: {}", ran.err);
    }
    errors(&ran.out);
    refused(&["train", "--broken", "often"], 2, &["expected `stop` or `skip`"]);
}
