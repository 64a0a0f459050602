//! `train`: what it says and writes; that bits depend on neither threads nor interruptions; checkpoints that do not fit; full disks.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Place, Ran, check_refused, pushforward, refused, run, succeeds};

/// Arguments of a small run: S/1/1 on the place's data, into its folder `output`, and `more`.
pub fn small(place: &Place, output: &str, more: &[&str]) -> Vec<String> {
    let (data, output) = (place.arg("data"), place.arg(output));
    let fixed = ["train", "--preset", "S/1/1", "--data", &data, "-o", &output].map(String::from);
    fixed.into_iter().chain(more.iter().map(|s| s.to_string())).collect()
}

pub fn strs(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).collect()
}

#[track_caller]
fn trains(place: &Place, output: &str, more: &[&str]) -> String {
    succeeds(&strs(&small(place, output, more)))
}

fn checkpoint(place: &Place, output: &str) -> Vec<u8> {
    fs::read(place.path(output).join("checkpoint.safetensors")).expect("the run left a checkpoint")
}

/// Metrics without what a clock says.
fn metrics(place: &Place, output: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(place.path(output).join("metrics.csv")).expect("the run left metrics");
    text.lines().map(|line| line.split(',').take(6).map(String::from).collect()).collect()
}

/// `test error X.XX % train error Y.YY %`: both figures.
#[track_caller]
pub fn errors(out: &str) -> (f64, f64) {
    let line = out.lines().last().expect("a closing line");
    let rest = line.strip_prefix("test error ").and_then(|l| l.strip_suffix(" %")).expect(line);
    let (test, train) = rest.split_once(" % train error ").expect(line);
    for figure in [test, train] {
        assert_eq!(figure.split_once('.').expect(line).1.len(), 2, "{line}: two decimals");
    }
    (test.parse().expect(line), train.parse().expect(line))
}

#[test]
fn a_run_learns_and_leaves_its_files() {
    let place = Place::with_images(300, 100);
    let ran = run(&strs(&small(&place, "run", &["--epochs", "6"])));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let (test, train) = errors(&ran.out);
    // Chance is 90 %; a network of 272 thousand parameters learns 300 digits in 18 steps far better than that, and not perfectly.
    assert!((20.0..65.0).contains(&test) && (5.0..50.0).contains(&train), "{}", ran.out);
    assert_eq!(ran.out.lines().count(), 1);
    assert!(ran.err.contains("271,892 parameters") && ran.err.contains("epoch 6/6  loss "), "{}", ran.err);
    assert!(!ran.err.contains('\u{1b}') && !ran.err.contains('\r'), "plain lines where there is no terminal: {}", ran.err);

    assert_eq!(place.names("run"), ["checkpoint.safetensors", "curve.svg", "metrics.csv"]);
    let rows = metrics(&place, "run");
    assert_eq!(rows[0], ["epoch", "step", "lr", "train_loss", "train_error", "test_error"]);
    // 300 images in batches of 128: two whole ones and one of 44, which is trained on as well.
    let steps: Vec<&str> = rows[1..].iter().map(|r| r[1].as_str()).collect();
    assert_eq!(steps, ["3", "6", "9", "12", "15", "18"]);
    // The rate falls linearly over these 18 steps, to a last one of 1/18.
    let last: f64 = rows[6][2].parse().expect("a number");
    assert!((last - 0.01 / 18.0).abs() < 1e-12, "{last}");
    for (figure, shown) in [(&rows[6][5], test), (&rows[6][4], train)] {
        assert_eq!(format!("{:.2}", figure.parse::<f64>().expect("a number")), format!("{shown:.2}"));
    }
    let loss = |row: usize| rows[row][3].parse::<f64>().expect("a number");
    assert!(loss(6) < 0.8 * loss(1), "the loss falls: {rows:?}");
    let curve = fs::read_to_string(place.path("run").join("curve.svg")).expect("text");
    assert!(curve.starts_with("<svg") && curve.contains("localmixer S/1/1, LG-FG-A"));
}

/// Twenty processes, with one thread and with two.
#[test]
fn bits_depend_on_neither_process_nor_threads() {
    let place = Place::with_images(200, 50);
    let first = trains(&place, "run0", &["--epochs", "1", "--threads", "1"]);
    for i in 1..20 {
        let (output, threads) = (format!("run{i}"), if i % 2 == 0 { "1" } else { "2" });
        assert_eq!(trains(&place, &output, &["--epochs", "1", "--threads", threads]), first);
        assert_eq!(checkpoint(&place, &output), checkpoint(&place, "run0"), "process {i} with {threads} threads");
    }
    trains(&place, "other", &["--epochs", "1", "--seed", "1"]);
    assert_ne!(checkpoint(&place, "other"), checkpoint(&place, "run0"));
}

#[test]
fn every_algorithm_trains() {
    let place = Place::with_images(300, 100);
    for algorithm in ["bp", "LG-BP", "lg-fg-a"] {
        let (test, train) = errors(&trains(&place, algorithm, &["--epochs", "6", "--algorithm", algorithm]));
        assert!(test < 65.0 && train < 50.0, "{algorithm}: {test} {train}");
    }
}

#[test]
fn every_optimizer_trains() {
    let place = Place::with_images(300, 100);
    for (optimizer, flags) in [
        ("nesterov", &["--schedule", "constant"][..]),
        ("lars", &["--trust", "0.02", "--lr", "0.5", "--schedule", "cosine"]),
        ("adamw", &["--lr", "0.001", "--lr-factor", "cls.*=0.5", "--warmup", "1", "--decay", "all"]),
    ] {
        let more = [&["--epochs", "6", "--optimizer", optimizer], flags].concat();
        let (test, train) = errors(&trains(&place, optimizer, &more));
        assert!(test < 65.0 && train < 50.0, "{optimizer}: {test} {train}");
    }
    let rates: Vec<f64> = metrics(&place, "adamw")[1..].iter().map(|row| row[2].parse().expect("a number")).collect();
    // The last of each epoch of three steps: the warm-up's, which leads to the highest, then those of a line to 0.
    for (rate, exact) in rates.iter().zip([0.75, 13.0 / 15.0, 10.0 / 15.0, 7.0 / 15.0, 4.0 / 15.0, 1.0 / 15.0]) {
        assert!((rate - 0.001 * exact).abs() < 1e-12, "{rates:?}");
    }
}

#[test]
fn a_frozen_parameter_stays() {
    let place = Place::with_images(200, 50);
    let tensor = |output: &str, name: &str| {
        let bytes = checkpoint(&place, output);
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("a checkpoint");
        file.tensor(name).map(|t| t.data().to_vec()).ok()
    };
    trains(&place, "begins", &["--epochs", "0", "--optimizer", "adamw"]);
    trains(&place, "ends", &["--epochs", "1", "--optimizer", "adamw", "--lr-factor", "block0.fc.*=0"]);
    assert_eq!(tensor("begins", "block0.fc.w"), tensor("ends", "block0.fc.w"));
    assert_ne!(tensor("begins", "block0.group.w"), tensor("ends", "block0.group.w"));
    assert!(tensor("ends", "adamw.mean.block0.group.w").is_some() && tensor("ends", "adamw.mean.block0.fc.w").is_none());
    refused(
        &strs(&small(&place, "none", &["--lr-factor", "block7.*=0.1"])),
        1,
        &["`block7.*=0.1` is for no parameter: there are block0.fc.w, block0.fc.b, ", "hint: "],
    );
    assert!(!place.path("none").exists());
}

/// Ctrl-C after the first epoch: 130, and the checkpoint is whole. Going on from it ends with the bits of a run that was never stopped.
#[test]
#[cfg(unix)]
fn an_interrupted_run_resumes_to_the_same_bits() {
    interrupted_and_resumed(&["--epochs", "12", "--batch", "16", "--seed", "5"]);
}

/// What the optimiser keeps, its settings and the schedule go on, too.
#[test]
#[cfg(unix)]
fn an_interrupted_run_of_adamw_resumes_to_the_same_bits() {
    interrupted_and_resumed(&[
        "--epochs",
        "12",
        "--batch",
        "16",
        "--optimizer",
        "adamw",
        "--lr",
        "0.001",
        "--beta2",
        "0.99",
        "--schedule",
        "cosine",
        "--warmup",
        "2.5",
        "--lr-factor",
        "cls.*=0.1",
        "--lr-factor",
        "*.b=0.5",
        "--decay",
        "all",
        "--weight-decay",
        "0.01",
    ]);
}

#[cfg(unix)]
fn interrupted_and_resumed(flags: &[&str]) {
    let place = Place::with_images(300, 100);
    let whole = trains(&place, "whole", flags);
    let args = small(&place, "parts", flags);
    let mut child = pushforward(&strs(&args)).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the command starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines().map(|l| l.expect("text"));
    assert!(lines.any(|line| line.starts_with("epoch  1/12")), "no first epoch");
    let killed = Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    assert!(killed.success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{rest:?}");
    let said = rest.last().expect("a last word");
    assert!(said.contains("interrupted in epoch") && said.contains("is whole") && said.contains("--resume -o"), "{said}");

    // What there is can be evaluated, and nothing changes by it.
    let output = place.arg("parts");
    let stopped = checkpoint(&place, "parts");
    let data = place.arg("data");
    errors(&succeeds(&["train", "--resume", "--epochs", "0", "--data", &data, "-o", &output]));
    assert_eq!(checkpoint(&place, "parts"), stopped);
    assert_ne!(stopped, checkpoint(&place, "whole"));

    // Flags that are left out are those of the run.
    assert_eq!(succeeds(&["train", "--resume", "--data", &data, "-o", &output]), whole);
    assert_eq!(checkpoint(&place, "parts"), checkpoint(&place, "whole"));
    assert_eq!(metrics(&place, "parts"), metrics(&place, "whole"));
    assert_eq!(fs::read(place.path("parts/curve.svg")).unwrap(), fs::read(place.path("whole/curve.svg")).unwrap());
    // A run that is complete says what it came to.
    assert_eq!(succeeds(&["train", "--resume", "--data", &data, "-o", &output]), whole);
}

/// Ctrl-C in the very first epoch: the checkpoint of the untrained network is there, and the run starts over from it.
#[test]
#[cfg(unix)]
fn the_first_epoch_may_be_interrupted() {
    let place = Place::with_images(2000, 20);
    // One image a step: thousands of steps before the epoch ends.
    let args = small(&place, "run", &["--epochs", "1", "--batch", "1"]);
    let mut child = pushforward(&strs(&args)).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the command starts");
    let file = place.path("run/checkpoint.safetensors");
    while !file.exists() && child.try_wait().expect("it runs").is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().expect("kill is there");
    let ended = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(said.contains("interrupted in epoch 1") && said.contains("after epoch 0"), "{said}");
    // The command that it names goes on with the run: it says where the data lies.
    let again = format!("`pushforward train --data {} --resume -o {}`", place.arg("data"), place.arg("run"));
    assert!(said.contains(&again), "{said}");
    assert_eq!(place.names("run"), ["checkpoint.safetensors"]);
    let (data, output) = (place.arg("data"), place.arg("run"));
    let (test, _) = errors(&succeeds(&["train", "--resume", "--epochs", "0", "--data", &data, "-o", &output]));
    assert!(test > 60.0, "the untrained network guesses: {test}");
}

/// The message names step, place and op, and the last good checkpoint stays.
#[test]
fn a_run_that_diverges_stops() {
    let place = Place::with_images(300, 100);
    trains(&place, "begins", &["--epochs", "0"]);
    let diverges = small(&place, "run", &["--epochs", "3", "--lr", "1e30"]);
    let ran = run(&strs(&diverges));
    check_refused(
        ran,
        1,
        &["after step ", " of 9 (epoch 1): this `", "first value that is not finite", "models/localmixer.pf:", "hint: "],
        &strs(&diverges),
    );
    assert_eq!(place.names("run"), ["checkpoint.safetensors"]);
    let (data, output) = (place.arg("data"), place.arg("run"));
    let (test, _) = errors(&succeeds(&["train", "--resume", "--epochs", "0", "--data", &data, "-o", &output]));
    assert!(test > 80.0, "the untrained network is kept: {test}");
    // It goes the same way again.
    refused(&["train", "--resume", "--data", &data, "-o", &output], 1, &["after step ", "models/localmixer.pf:"]);
}

/// The loss of the last step knows nothing of what that step did to the parameters.
#[test]
fn parameters_that_are_not_finite_are_never_saved() {
    let place = Place::with_images(100, 50);
    let text = "pf 1\naxis N, I = 784, K = 10;\nmodel loud(x: f32[N, I], digits: i32[N]) {\n    exact param w: f32[I, K] = 0;\n    \
                scores = sum[I](x * w) * 1000;\n    output scores: f32[N, K] = scores;\n    loss cross_entropy[K](scores, digits);\n}\n";
    fs::write(place.path("loud.pf"), text).unwrap();
    let (model, data, output) = (place.arg("loud.pf"), place.arg("data"), place.arg("run"));
    let args = |lr| {
        ["train", &model, "--algorithm", "bp", "--data", &data, "-o", &output, "--epochs", "1", "--batch", "100", "--lr", lr, "--force"]
            .map(String::from)
    };
    refused(&strs(&args("3e38")), 1, &["`w` is not finite any more after step 1 of 1 (epoch 1)", "this `mul`", "loud.pf:4:17", "hint: "]);
    assert_eq!(place.names("run"), ["checkpoint.safetensors"]);
    succeeds(&["train", &model, "--resume", "--epochs", "0", "--data", &data, "-o", &output]);
    succeeds(&strs(&args("1e-6")));
}

/// Rounding apart: sums are taken in another order. The noise is that of the whole batch.
#[test]
fn a_step_in_pieces_is_the_step() {
    let place = Place::with_images(300, 100);
    let numbers = |output: &str| {
        let bytes = checkpoint(&place, output);
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("a checkpoint");
        let floats = |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<f32>>();
        let mut all: Vec<(String, Vec<f32>)> = file.iter().map(|(name, t)| (name.to_string(), floats(t.data()))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    for algorithm in ["bp", "lg-fg-a"] {
        let flags = ["--epochs", "1", "--batch", "100", "--algorithm", algorithm];
        let pieces = format!("{algorithm}-pieces");
        trains(&place, algorithm, &flags);
        trains(&place, &pieces, &[&flags[..], &["--micro-batch", "32"]].concat());
        let (whole, parts) = (numbers(algorithm), numbers(&pieces));
        assert_eq!(whole.len(), parts.len());
        for ((name, x), (other, y)) in whole.iter().zip(&parts) {
            assert_eq!(name, other);
            let largest = x.iter().fold(0.0f32, |max, x| max.max(x.abs()));
            let worst = x.iter().zip(y).fold(0.0f32, |max, (x, y)| max.max((x - y).abs()));
            assert!(worst <= 1e-4 * largest, "{algorithm}, {name}: {worst} of {largest}");
        }
        let [a, b] = [algorithm, &pieces].map(|output| metrics(&place, output)[1][3].parse::<f64>().expect("a loss"));
        assert!((a - b).abs() < 1e-5 * a, "{a} {b}");
    }
    // Flags that are left out are those of the run, and pieces that examples of others matter to are warned of.
    let (data, output) = (place.arg("data"), place.arg("bp-pieces"));
    succeeds(&["train", "--resume", "--data", &data, "-o", &output]);
    refused(&["train", "--resume", "--data", &data, "-o", &output, "--micro-batch", "50"], 1, &["--micro-batch=32", "--micro-batch=50"]);
    let ran = run(&strs(&small(&place, "bn", &["--epochs", "1", "--micro-batch", "32", "--set", "norm=bn"])));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(
        ran.err.contains("warning: this `sum` over N lets examples see each other") && ran.err.contains("localmixer.pf:"),
        "{}",
        ran.err
    );
}

/// Pieces have no loss of their own to stop at: it is the batch's that counts.
#[test]
fn a_run_in_pieces_that_diverges_stops() {
    let place = Place::with_images(300, 100);
    let diverges = small(&place, "run", &["--epochs", "3", "--lr", "1e30", "--micro-batch", "50"]);
    check_refused(run(&strs(&diverges)), 1, &["after step ", "first value that is not finite", "hint: "], &strs(&diverges));
    // What the optimiser computes stands where the parameter is declared.
    let in_the_update = small(&place, "other", &["--lr", "1e30", "--weight-decay", "1e38", "--micro-batch", "50"]);
    let parts = ["after step 1 ", "this `mul` is the first", "param w: f32["];
    check_refused(run(&strs(&in_the_update)), 1, &parts, &strs(&in_the_update));
}

/// What a batch norm makes of one example is 0: said before the first step, not at the end of the first epoch or step.
#[test]
fn a_single_example_left_for_a_batch_norm_is_refused() {
    let place = Place::with_images(301, 100);
    let norm = ["--epochs", "1", "--set", "norm=bn"];
    for (sizes, told) in [
        (&["--batch", "100"][..], "301 images with --batch 100 leave 1 over: a norm over the batch"),
        (&["--batch", "43", "--micro-batch", "21"], "301 images with --batch 43 and --micro-batch 21 leave 1 over"),
    ] {
        let args = small(&place, "run", &[&norm[..], sizes].concat());
        refused(&strs(&args), 1, &[told, "localmixer.pf:", "hint: take sizes that leave none over"]);
        assert!(!place.path("run").exists(), "nothing is begun");
    }
    let one = small(&place, "run", &[&norm[..], &["--batch", "1"]].concat());
    refused(&strs(&one), 1, &["error: a norm over the batch, and the batch has one example", "localmixer.pf:", "hint: take more examples"]);
    trains(&place, "run", &[&norm[..], &["--batch", "43"]].concat());
    // Nothing is over the batch here.
    trains(&place, "local", &["--epochs", "1", "--batch", "100"]);
}

#[test]
fn no_epochs_leave_the_untrained_network() {
    let place = Place::with_images(200, 50);
    let (test, train) = errors(&trains(&place, "run", &["--epochs", "0"]));
    // The classifier begins at 0: everything is put into the first class.
    assert!(test > 80.0 && train > 80.0);
    assert_eq!(place.names("run"), ["checkpoint.safetensors"]);
}

#[test]
fn an_existing_run_is_replaced_only_by_force() {
    let place = Place::with_images(200, 50);
    trains(&place, "run", &["--epochs", "1"]);
    let old = checkpoint(&place, "run");
    let again = small(&place, "run", &["--epochs", "1", "--seed", "1"]);
    refused(&strs(&again), 1, &["already holds a run", "hint: continue it with --resume, replace it with --force"]);
    assert_eq!(checkpoint(&place, "run"), old);
    trains(&place, "run", &["--epochs", "1", "--seed", "1", "--force"]);
    assert_ne!(checkpoint(&place, "run"), old);
    trains(&place, "run", &["--epochs", "0", "--force"]);
    assert_eq!(place.names("run"), ["checkpoint.safetensors"], "nothing of the old run is left beside the new");
    let both = small(&place, "run", &["--force", "--resume"]);
    refused(&strs(&both), 2, &["'--resume'", "'--force'"]);
}

#[test]
fn folders_are_named_for_the_run() {
    let place = Place::with_images(200, 50);
    let ran =
        pushforward(&["train", "--preset", "S/1/1", "--data", "data", "--epochs", "1", "--seed", "3"]).current_dir(place.path("")).output();
    let ran = Ran::of(ran.expect("the command starts"));
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert_eq!(place.names("runs"), ["localmixer-lg-fg-a-3"]);
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let place = Place::with_images(200, 50);
    trains(&place, "run", &["--epochs", "1"]);
    let old = checkpoint(&place, "run");
    let resume = |more: &[&str]| {
        let (data, output) = (place.arg("data"), place.arg("run"));
        let fixed = ["train", "--resume", "--data", &data, "-o", &output].map(String::from);
        fixed.into_iter().chain(more.iter().map(|s| s.to_string())).collect::<Vec<_>>()
    };
    let both = "belongs to another run";
    refused(
        &strs(&resume(&["--preset", "M/1/16"])),
        1,
        &[both, "preset: `S/1/1` in the file, `M/1/16` here", "tensor `block0.fc.w`", "hint: "],
    );
    refused(&strs(&resume(&["--algorithm", "bp"])), 1, &[both, "algorithm: `lg-fg-a` in the file, `bp` here"]);
    refused(&strs(&resume(&["--epochs", "2"])), 1, &[both, "epochs: `1` in the file, `2` here"]);
    refused(
        &strs(&resume(&["--seed", "9", "--lr", "0.5"])),
        1,
        &[both, "seed: `0` in the file, `9` here", "learning rate: `0.01` in the file, `0.5` here"],
    );
    refused(&strs(&resume(&["--no-prune"])), 1, &[both, "flags: `none` in the file, `--no-prune` here"]);
    refused(&strs(&resume(&["--rules", "exact"])), 1, &[both, "flags: `none` in the file, `--rules=exact` here"]);
    refused(&strs(&resume(&["--set", "norm=ln"])), 1, &[both, "sizes and options: `none` in the file, `norm=ln` here"]);

    // Another model altogether, though its name is the same.
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/localmixer.pf")).expect("it is in the repository");
    let other = text.replacen("features = normed[C, C](mean[P](x));", "features = mean[P](x);", 1);
    assert_ne!(text, other);
    fs::write(place.path("localmixer.pf"), other).expect("there is room");
    refused(&strs(&resume(&[&place.arg("localmixer.pf")])), 1, &[both, "the model's text (by its hash)"]);
    assert_eq!(checkpoint(&place, "run"), old);
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let place = Place::with_images(200, 50);
    trains(&place, "run", &["--epochs", "1"]);
    let (good, file) = (checkpoint(&place, "run"), place.path("run/checkpoint.safetensors"));
    let (data, output) = (place.arg("data"), place.arg("run"));
    let resume = ["train", "--resume", "--data", &data, "-o", &output];
    let name = "checkpoint.safetensors`";
    fs::write(&file, &good[..good.len() / 2]).unwrap();
    refused(&resume, 1, &[name, "is cut short: it has", "bytes,", "are needed", "hint: "]);
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    fs::write(&file, &flipped).unwrap();
    refused(&resume, 1, &[name, "is damaged: its checksum does not fit", "hint: "]);
    // A later format: the same file with another version, padded as the format wants.
    let header = good.windows(14).position(|w| w == br#""version":"1","#).expect("the header names its version");
    let mut newer = good.clone();
    newer[header..header + 14].copy_from_slice(br#""version":"9","#);
    fs::write(&file, &newer).unwrap();
    refused(&resume, 1, &[name, "has format version 9, this program reads version 1", "hint: "]);
    fs::write(&file, b"something else").unwrap();
    refused(&resume, 1, &[name, "is not a pushforward checkpoint", "hint: "]);
    fs::remove_file(&file).unwrap();
    refused(&resume, 1, &["holds no run to resume: it has metrics but no checkpoint", "hint: "]);
    refused(&["train", "--resume", "-o", &place.arg("nowhere")], 1, &["holds no run to resume: it does not exist", "hint: "]);
}

/// A limit on the size of files stands in for a full disk: a write fails in the middle.
#[test]
#[cfg(unix)]
fn a_full_disk_leaves_the_old_checkpoint() {
    let place = Place::with_images(200, 50);
    let limited = |args: &[String]| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -f 200; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_pushforward")]).args(args).stdin(Stdio::null());
        Ran::of(command.output().expect("sh is there"))
    };
    let new = small(&place, "new", &["--epochs", "1"]);
    check_refused(limited(&new), 1, &["cannot write", "checkpoint.safetensors`", "hint: the disk takes no file of this size"], &strs(&new));
    assert_eq!(place.names("new"), [""; 0]);

    trains(&place, "run", &["--epochs", "0"]);
    let old = checkpoint(&place, "run");
    let again = small(&place, "run", &["--epochs", "0", "--force"]);
    assert_eq!(limited(&again).code, Some(1));
    assert_eq!(checkpoint(&place, "run"), old, "the old run stays until the new one has a checkpoint");
    assert_eq!(place.names("run"), ["checkpoint.safetensors"], "nothing half-written is left");

    trains(&place, "run", &["--epochs", "2", "--force"]);
    fs::write(place.path("run/checkpoint.safetensors"), &old).unwrap();
    let output = place.arg("run");
    let resume = ["train", "--resume", "--epochs", "0", "--data", &place.arg("data"), "-o", &output].map(String::from);
    assert_eq!(limited(&resume).code, Some(0), "evaluation writes nothing");
    assert_eq!(checkpoint(&place, "run"), old);
}

#[test]
#[cfg(unix)]
fn a_folder_that_cannot_be_written_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::with_images(200, 50);
    let with = |output: &str| ["train", "--preset", "S/1/1", "--epochs", "1", "--data", &place.arg("data"), "-o", output].map(String::from);
    refused(&strs(&with("/proc/pushforward-run")), 1, &["cannot write `/proc/pushforward-run`", "hint: "]);
    fs::write(place.path("file"), "mine").unwrap();
    refused(&strs(&with(&place.arg("file"))), 1, &["file` is not a folder", "hint: choose another folder with -o"]);

    fs::create_dir(place.path("closed")).unwrap();
    fs::set_permissions(place.path("closed"), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(place.path("closed/probe"), "").is_ok() {
        return eprintln!("skipped in part: this user may write everywhere");
    }
    refused(&strs(&with(&place.arg("closed"))), 1, &["cannot write", "closed`", "hint: make the folder writable"]);

    // Looking at a run needs no more than reading it.
    trains(&place, "run", &["--epochs", "1"]);
    fs::set_permissions(place.path("run"), fs::Permissions::from_mode(0o555)).unwrap();
    let (data, output) = (place.arg("data"), place.arg("run"));
    errors(&succeeds(&["train", "--resume", "--epochs", "0", "--data", &data, "-o", &output]));
}

/// The model that the README shows, read from there.
#[test]
fn a_model_of_ones_own_trains() {
    let place = Place::with_images(300, 100);
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("it is in the repository");
    let text = readme.split("```").find(|part| part.starts_with("\npf 1\n")).expect("the README shows a model");
    fs::write(place.path("perceptron.pf"), text).unwrap();
    let (model, data, output) = (place.arg("perceptron.pf"), place.arg("data"), place.arg("run"));
    let out = succeeds(&["train", &model, "--data", &data, "--epochs", "6", "--batch", "32", "--lr", "0.1", "-o", &output]);
    let (test, train) = errors(&out);
    assert!(test < 60.0 && train < 50.0, "{out}");
    assert_eq!(succeeds(&["train", &model, "--resume", "--data", &data, "-o", &output]), out);
    refused(&["train", "--resume", "--data", &data, "-o", &output], 2, &["one of the model `perceptron`", "hint: give its file"]);

    // Sizes of the built-in model are nothing to another.
    let mixer = place.arg("mixer");
    succeeds(&["train", "--preset", "S/1/1", "--epochs", "0", "--data", &data, "-o", &mixer]);
    refused(
        &["train", &model, "--resume", "--data", &data, "-o", &mixer],
        1,
        &["another run", "model: `localmixer` in the file, `perceptron` here"],
    );
}
