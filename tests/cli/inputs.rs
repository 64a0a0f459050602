//! Bad flags and bad data: each ends with 1 (the input is wrong) or 2 (the command line is), with one message that says what and what to do.

use std::fs;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::{Place, refused, run};

#[test]
fn bad_flags() {
    let train = |flag: &'static str, value: &'static str| vec!["train", flag, value];
    for (args, parts) in [
        (train("--batch", "0"), vec!["'--batch <N>'", "at least one example", "hint: "]),
        (train("--batch", "many"), vec!["'--batch <N>'", "whole number"]),
        (train("--preset", "M/1/61"), vec!["'--preset <NAME>'", "S/1/1, M/1/16, M/8/16, L/8/64, L/32/64", "did you mean `M/1/16`?"]),
        (train("--algorithm", "lg-fgb"), vec!["'--algorithm <NAME>'", "there are bp, l-bp, lg-bp, fa", "did you mean `lg-f"]),
        (train("--backend", "gpu"), vec!["'--backend <NAME>'", "no back end is called `gpu`", "there are cpu, cuda-emu"]),
        (train("--set", "groups"), vec!["'--set <NAME=VALUE>'", "--set groups=16"]),
        (train("--lr", "-1"), vec!["'--lr"]),
        (train("--lr", "nan"), vec!["'--lr <X>'", "not negative"]),
        (train("--lr", "1e39"), vec!["'--lr <X>'", "at most 3.4"]),
        (train("--momentum", "1"), vec!["'--momentum <X>'", "from 0 to less than 1"]),
        (train("--optimizer", "adam"), vec!["no optimiser is called `adam`", "sgd, nesterov, lars, adamw", "did you mean `adamw`?"]),
        (train("--beta1", "0.5"), vec!["--beta1 is of adamw, and nothing to sgd", "hint: "]),
        (vec!["train", "--optimizer", "adamw", "--momentum", "0.5"], vec!["--momentum is of sgd, nesterov, lars", "hint: "]),
        (vec!["compile", "--optimizer", "adamw", "--trust", "0.5", "-o", "x"], vec!["--trust is of lars", "hint: "]),
        (train("--beta2", "1"), vec!["'--beta2 <X>'", "from 0 to less than 1"]),
        (train("--eps", "0"), vec!["'--eps <X>'", "above 0"]),
        (train("--decay", "biases"), vec!["'--decay <weights|all|none>'", "there are weights, all, none"]),
        (train("--lr-factor", "cls.w"), vec!["'--lr-factor <PATTERN=X>'", "a pattern, `=`, and a factor"]),
        (train("--lr-factor", "[=1"), vec!["`[` is no pattern", "hint: "]),
        (train("--schedule", "cosin"), vec!["no schedule is called `cosin`", "constant, linear, cosine", "did you mean `cosine`?"]),
        (train("--warmup", "-1"), vec!["'--warmup <E>'", "not negative"]),
        (train("--micro-batch", "0"), vec!["'--micro-batch <M>'", "at least one example"]),
        (train("--micro-batch", "129"), vec!["pieces of 129 examples are larger than the batch of 128", "hint: "]),
        (train("--warmup", "inf"), vec!["'--warmup <E>'", "not negative"]),
        (train("--warmup", "10"), vec!["the warm-up of 10 epochs takes the whole run of 10", "hint: ", "--warmup shorter than --epochs"]),
        (train("--weight-decay", "inf"), vec!["'--weight-decay <X>'", "not negative"]),
        (train("--seed", "-1"), vec!["'--seed <S>'", "whole number from 0 to 4294967295"]),
        (train("--batch", "99999999999999999999"), vec!["'--batch <N>'", "whole number from 1 to 16777216"]),
        (train("--directions", "0"), vec!["'--directions <K>'", "at least one direction", "hint: "]),
        (
            vec!["compile", "localmixer", "--algorithm", "lg-bp", "--directions", "4", "-o", "x"],
            vec!["--directions: `lg-bp` draws no noise", "hint: leave it out, or choose fg-w or fg-a or lg-fg-w or lg-fg-a"],
        ),
        (train("--threads", "100000"), vec!["'--threads <T>'", "1024"]),
        (train("--epochs", "1.5"), vec!["'--epochs <E>'", "whole number"]),
        (train("--learning-rate", "1"), vec!["'--learning-rate'"]),
        (vec!["compile", "localmixer", "--target", "obj", "-o", "x"], vec!["'--target", "does not write `obj` yet"]),
        (vec!["compile", "localmixer", "--target", "ptx", "-o", "x"], vec!["no target is called `ptx`", "there are cpu, cuda, wgsl"]),
        (vec!["compile", "--target", "cuda", "--precision", "bf16", "-o", "x"], vec!["no precision is called `bf16`", "fp32, tf32"]),
        (vec!["compile", "--target", "wgsl", "--precision", "tf32", "-o", "x"], vec!["TF32 is for", "hint: ", "--target cuda"]),
        (vec!["compile", "--target", "cuda", "--limits", "x", "-o", "x"], vec!["--limits declares", "hint: ", "--target wgsl"]),
        (vec!["compile", "localmixer"], vec!["--output"]),
        (vec!["opt", "localmixer", "-p", "cut,repliacte"], vec!["no pass is called `repliacte`", "did you mean `replicate`?"]),
        (vec!["opt", "localmixer", "-p", "cut,inline"], vec!["`inline`", "hint: name it first"]),
        (vec!["opt", "localmixer", "--print-after", "jvp"], vec!["--print-after jvp", "hint: "]),
        (vec!["bench", "--steps", "0"], vec!["'--steps <N>'", "at least one step"]),
        (vec!["train", "tanh_mlp", "--preset", "S/1/1"], vec!["preset S/1/1 is one of the model `localmixer`", "hint: "]),
        (vec!["trian"], vec!["'trian'", "train"]),
        (vec!["list", "nothing"], vec!["'nothing'", "presets"]),
    ] {
        refused(&args, 2, &parts);
    }
}

#[test]
fn bad_models() {
    let place = Place::new();
    refused(&["opt", "localmixr"], 1, &["no file `localmixr`", "localmixer, tanh_mlp", "hint: did you mean the built-in `localmixer`?"]);
    refused(&["train", "tanh_mlp"], 1, &["`tanh_mlp` is no classifier", "hint: "]);
    refused(
        &["opt", "localmixer", "--set", "group=4"],
        1,
        &["`--set group=4`", "no size and no option called `group`", "hint: did you mean `groups`?"],
    );
    refused(
        &["opt", "localmixer", "--set", "groups=3"],
        1,
        &["models/localmixer.pf:20:22", "axis `D` = channels / groups", "channels = 512, groups = 3", "hint: "],
    );
    refused(&["opt", &place.arg("")], 1, &["cannot read"]);
    fs::write(place.path("bytes.pf"), b"pf 1\n\xff\xfe").unwrap();
    refused(&["opt", &place.arg("bytes.pf")], 1, &["cannot read", "bytes.pf`", "not text"]);
    let many: String = (0..500).map(|i| format!("size s{i} = t;\n")).collect();
    fs::write(place.path("many.pf"), format!("pf 1\n{many}axis N;\nmodel m(x: f32[N]) {{ loss x; }}\n")).unwrap();
    let ran = run(&["opt", &place.arg("many.pf")]);
    assert_eq!((ran.code, ran.err.matches("no size is called `t`").count()), (Some(1), 100), "{}", ran.err);
    assert!(ran.err.trim_end().ends_with("... and 400 more of this kind or another"), "{}", ran.err);
    fs::remove_file(place.path("many.pf")).unwrap();
    fs::write(place.path("slip.pf"), "pf 1\naxis N, D = 4;\nmodel m(x: f32[N, D]) {\n    loss sum[D](x;\n}\n").unwrap();
    refused(&["opt", &place.arg("slip.pf")], 1, &["slip.pf:4:18", "hint: "]);

    // A slip inside a called function: the message leads from it to the call.
    let text = "pf 1\naxis N, D = 4;\nmodel m(x: f32[N, D]) {\n    y = twice(sum[D](x));\n    loss y;\n}\nfn twice(x) { sum[D](x) * 2 }\n";
    fs::write(place.path("call.pf"), text).unwrap();
    refused(
        &["opt", &place.arg("call.pf")],
        1,
        &["call.pf:7:15", "does not depend on D", "call.pf:4:9", "in `twice`, called here", "hint: "],
    );
    refused(&["compile", &place.arg("call.pf"), "-o", &place.arg("out")], 1, &["call.pf:7:15"]);
    assert_eq!(place.names(""), ["bytes.pf", "call.pf", "slip.pf"]);
}

/// What becomes of a run on the place's data; no run leaves a folder.
#[track_caller]
fn data_refused(place: &Place, parts: &[&str]) {
    let (data, output) = (place.arg("data"), place.arg("run"));
    refused(&["train", "--preset", "S/1/1", "--epochs", "1", "--data", &data, "-o", &output], 1, parts);
    assert!(!place.path("run").exists(), "a run that did not start has left a folder");
}

#[test]
fn bad_data_folders() {
    let place = Place::new();
    data_refused(&place, &["data folder", "data` does not exist", "hint: "]);
    fs::write(place.path("data"), "a file").unwrap();
    data_refused(&place, &["data` is a file, but a data set is a folder", "hint: "]);
    fs::remove_file(place.path("data")).unwrap();
    fs::create_dir(place.path("data")).unwrap();
    data_refused(&place, &["holds no known data file", "no file at all", "train-images-idx3-ubyte", "hint: "]);
}

#[test]
fn bad_data_files() {
    let images = "data/train-images-idx3-ubyte";
    let labels = "data/train-labels-idx1-ubyte";
    let place = Place::with_images(300, 50);
    let (good_images, good_labels) = (fs::read(place.path(images)).unwrap(), fs::read(place.path(labels)).unwrap());
    let change = |file: &str, bytes: &[u8]| fs::write(place.path(file), bytes).unwrap();

    let mut zipped = GzEncoder::new(Vec::new(), Compression::fast());
    zipped.write_all(&good_images).unwrap();
    let zipped = zipped.finish().unwrap();
    change(images, &zipped[..zipped.len() / 2]);
    data_refused(&place, &["train-images-idx3-ubyte` is a truncated gzip file", "hint: "]);
    let mut corrupt = zipped.clone();
    let end = corrupt.len() - 6;
    corrupt[end] ^= 0xff;
    change(images, &corrupt);
    data_refused(&place, &["train-images-idx3-ubyte` is a corrupt gzip file", "hint: "]);

    change(images, &[&[0, 0, 8, 1], &good_images[4..]].concat());
    data_refused(&place, &["train-images-idx3-ubyte` has magic number 2049", "expected", "hint: "]);
    change(images, &good_images[..good_images.len() - 1]);
    data_refused(&place, &["train-images-idx3-ubyte` is shorter than its header says", "hint: "]);
    change(images, &good_images);

    let mut wrong = good_labels.clone();
    wrong[8 + 7] = 10;
    change(labels, &wrong);
    data_refused(&place, &["train-labels-idx1-ubyte`: label 10 at index 7 is out of range, there are 10 classes", "hint: "]);
    let fewer = [&[0, 0, 8, 1, 0, 0, 0, 200], &good_labels[8..208]].concat();
    change(labels, &fewer);
    data_refused(&place, &["300 images", "200 labels", "hint: "]);
    fs::remove_file(place.path(labels)).unwrap();
    data_refused(&place, &["lacks `train-labels-idx1-ubyte`", "hint: "]);
}

#[test]
fn data_that_does_not_fit() {
    let place = Place::with_images(100, 20);
    data_refused(&place, &["the batch of 128 is larger than the training set `data` of 100 images", "hint: --batch 100, or less"]);
    let (data, output) = (place.arg("data"), place.arg("run"));
    refused(
        &["train", "--preset", "M/8/16", "--data", &data, "-o", &output],
        1,
        &["`data` has images of 28 x 28 x 1 = 784 numbers, but `localmixer.images` takes 3072", "hint: --preset S/1/1 or M/1/16"],
    );
}
