//! Training on devices that are there without a GPU, through the command: it ends where the CPU ends, goes on from its checkpoints, and says what
//! to do when a device is lost or was never there. Tests of a device that does not run here say that they are skipped; in CI none may be.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::train::{errors, small, strs};
use crate::{Place, Ran, check_refused, pushforward, refused, succeeds};

fn device(backend: &str) -> serde_json::Value {
    let devices: serde_json::Value = serde_json::from_str(&succeeds(&["devices", "--json"])).expect("it is JSON");
    devices.as_array().expect("a list").iter().find(|d| d["backend"] == backend).expect("every back end is listed").clone()
}

fn is_there(backend: &str) -> bool {
    device(backend)["runs"] == true
}

/// Whether a back end runs here; says so if a test has to do without it.
fn runs(backend: &str) -> bool {
    if !is_there(backend) {
        crate::support::skipped(&device(backend).to_string());
    }
    is_there(backend)
}

/// A point and a half is what the order of sums may come to.
fn ends_where_the_cpu_ends(backend: &str) {
    if !runs(backend) {
        return;
    }
    let place = Place::with_images(1280, 400);
    let flags = ["--epochs", "2", "--seed", "3", "--backend"];
    let of = |output: &str, backend: &str| errors(&succeeds(&strs(&small(&place, output, &[&flags[..], &[backend]].concat()))));
    let (cpu, device) = (of("cpu", "cpu"), of("device", backend));
    assert!((cpu.0 - device.0).abs() <= 1.5 && (cpu.1 - device.1).abs() <= 1.5, "{cpu:?} on the CPU, {device:?} on {backend}");
    // Learnt, not left as it was.
    assert!(device.0 < 70.0, "{device:?}");

    // What was trained there is in the checkpoint: the CPU finds the same error with it.
    let output = place.arg("device");
    let data = place.arg("data");
    let again = errors(&succeeds(&["train", "--resume", "--epochs", "0", "--data", &data, "-o", &output]));
    assert!((again.0 - device.0).abs() <= 0.5, "{again:?} on the CPU with what {backend} learnt, {device:?} there");
}

#[test]
fn training_on_wgsl_ends_where_the_cpu_ends() {
    ends_where_the_cpu_ends("wgsl");
}

#[test]
fn training_on_cuda_emu_ends_where_the_cpu_ends() {
    ends_where_the_cpu_ends("cuda-emu");
}

/// Its process is killed while it takes steps, and while it is asked for the error, where a run with few images for training is most of the time.
#[test]
#[cfg(target_os = "linux")]
fn a_lost_device_leaves_the_last_checkpoint() {
    if runs("cuda-emu") {
        [(256, 20), (16, 2000)].into_iter().for_each(|(training, testing)| lost_after_an_epoch(training, testing));
    }
}

#[cfg(target_os = "linux")]
fn lost_after_an_epoch(training: usize, testing: usize) {
    let place = Place::with_images(training, testing);
    let args = small(&place, "run", &["--epochs", "1000", "--batch", "16", "--backend", "cuda-emu"]);
    let mut child = pushforward(&strs(&args)).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the command starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines().map(|l| l.expect("text"));
    assert!(lines.any(|line| line.starts_with("epoch    2/1000")), "no second epoch");
    let of_child = format!("/proc/{0}/task/{0}/children", child.id());
    let device = fs::read_to_string(of_child).expect("the kernel tells").split_whitespace().next().expect("a process").to_string();
    assert!(Command::new("kill").args(["-KILL", &device]).status().expect("kill is there").success());
    let err = lines.map(|l| l + "\n").filter(|l| !l.starts_with("epoch ")).collect::<String>();
    let ran = Ran { code: child.wait().expect("it ends").code(), out: String::new(), err };
    check_refused(
        ran,
        1,
        &["was lost while it ran", "the checkpoint after epoch", "is whole", "--backend cuda-emu --resume -o", "goes on from there"],
        &["train"],
    );
    let (output, data) = (place.arg("run"), place.arg("data"));
    errors(&succeeds(&["train", "--resume", "--epochs", "0", "--data", &data, "-o", &output]));
}

#[test]
fn what_wgsl_lacks_is_refused_at_once() {
    if !runs("wgsl") {
        return;
    }
    let one = format!("{}/tests/fixtures/xent.safetensors", env!("CARGO_MANIFEST_DIR"));
    refused(&["conform", &one, "--backend", "wgsl", "--dtype", "f64"], 2, &["`wgsl` has no f64", "hint: leave --dtype out"]);
    refused(&["conform", &one, "--backend", "wgsl", "--precision", "tf32"], 2, &["`wgsl` has no tensor cores", "hint: "]);
}

#[test]
fn a_device_that_is_not_there_is_named() {
    let place = Place::with_images(20, 10);
    let on = |backend: &str, variable: &str, value: &str| {
        let args = small(&place, "run", &["--batch", "10", "--backend", backend]);
        let ran = pushforward(&strs(&args)).env(variable, value).output().expect("the command starts");
        let ran = Ran::of(ran);
        assert!(!place.path("run").exists(), "{backend}: a run was begun");
        ran
    };
    check_refused(on("cuda-emu", "PATH", ""), 1, &["no device runs", "g++", "hint: "], &["cuda-emu"]);
    check_refused(on("wgsl", "PUSHFORWARD_ADAPTER", "there is none of this name"), 1, &["no device runs WGSL here", "hint: "], &["wgsl"]);
    // Where there is one, it is found without any variable.
    if !is_there("cuda") {
        check_refused(on("cuda", "LD_LIBRARY_PATH", ""), 1, &["no device runs CUDA C++ here", "hint: "], &["cuda"]);
    }
}
