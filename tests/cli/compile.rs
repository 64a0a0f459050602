//! `compile`: its files, the same bytes always, and a folder that is written whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use pushforward::Algorithm;

use crate::{Place, pushforward, refused, succeeds};

/// Every file below a folder, with its contents.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap().is_dir() {
            true => found.extend(files(&entry.path())),
            false => found.push((entry.path(), fs::read(entry.path()).unwrap())),
        }
    }
    found.sort();
    found
}

fn relative(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(dir).into_iter().map(|(path, bytes)| (path.strip_prefix(dir).unwrap().to_path_buf(), bytes)).collect()
}

#[test]
fn the_folder_says_what_a_step_does_and_costs() {
    let place = Place::new();
    let out = place.arg("out");
    succeeds(&["compile", "localmixer", "--preset", "S/1/1", "--batch", "128", "--algorithm", "lg-fg-a", "--target", "cpu", "-o", &out]);
    let plan: Value = serde_json::from_slice(&fs::read(place.path("out/plan.json")).unwrap()).unwrap();
    assert_eq!((&plan["format"], &plan["version"]), (&Value::from("pushforward-plan"), &Value::from(1)));
    assert_eq!((&plan["preset"], &plan["algorithm"], &plan["sets"]["groups"]), (&"S/1/1".into(), &"lg-fg-a".into(), &"1".into()));

    // By hand: forward 128 x (784 x 256 + 256 x 256); weight gradients the same again; the tangent of `group` alone, as noise enters behind
    // `fc`; head and classifier. Within a hundredth: loss and derivative of the head are small contractions, too.
    let linear = 2.0 * 128.0 * (784.0 * 256.0 + 256.0 * 256.0);
    let expected = 2.0 * linear + 2.0 * 128.0 * 256.0 * 256.0;
    let counted = plan["report"]["contraction_flops"].as_f64().unwrap();
    assert!(counted >= expected && counted < 1.05 * expected, "{counted} against {expected}");
    let parts = ["state_bytes", "input_bytes", "output_bytes", "temporary_bytes"].map(|key| plan["report"][key].as_u64().unwrap());
    assert_eq!(parts[0], 2 * 4 * 271_892, "parameters and their momentum");
    assert_eq!(plan["report"]["peak_bytes"].as_u64(), Some(parts.iter().sum()));

    assert!(fs::read_to_string(place.path("out/plan.txt")).unwrap().starts_with("plan localmixer: "));
    let report = fs::read_to_string(place.path("out/report.md")).unwrap();
    assert!(report.starts_with("# localmixer S/1/1, lg-fg-a, batch 128, cpu\n"));
    let launches: Vec<&Value> = plan["plan"]["stages"].as_array().unwrap().iter().flat_map(|s| s["launches"].as_array().unwrap()).collect();
    assert!(report.contains(&format!("| launches | {} |", launches.len())));
    assert!(report.contains("| share pruned: of the noise, before a ReLU that masks it | 100.00 % |"), "{report}");
    assert_eq!(plan["pruning"]["total"]["draws"].as_u64(), plan["report"]["normals"].as_u64());
    assert_eq!(plan["pruning"]["layers"].as_array().map(Vec::len), Some(2));
    for kernel in plan["plan"]["kernels"].as_array().unwrap() {
        let name = kernel["name"].as_str().unwrap();
        assert!(report.contains(&format!("| `{name}` |")), "{name}");
        // Contractions and noise are library code; everything else is generated, one file each.
        let generated = kernel["body"].get("Loops").is_some();
        let code = place.path(&format!("out/kernels/{name}.clif"));
        assert_eq!(code.exists(), generated, "{name}");
        assert!(!generated || fs::read_to_string(code).unwrap().contains("function"));
    }
}

/// Wherever it is run from and wherever the model lies, in any locale, on any number of threads: golden files are kept by users.
#[test]
fn the_same_bytes_from_anywhere() {
    let place = Place::new();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/localmixer.pf");
    fs::create_dir_all(place.path("elsewhere")).unwrap();
    fs::copy(&model, place.path("elsewhere/localmixer.pf")).unwrap();
    for target in ["cpu", "cuda", "wgsl"] {
        let mut first = Vec::new();
        for i in 0..20 {
            let out = place.arg(&format!("{target}/er{i}/out"));
            let model = ["localmixer", "localmixer.pf", model.to_str().unwrap()][i % 3];
            let mut command = pushforward(&["compile", model, "--preset", "S/1/1", "--batch", "8", "--target", target, "-o", &out]);
            command.current_dir(if i % 3 == 1 { place.path("elsewhere") } else { place.path("") });
            if i % 2 == 1 {
                command.env("LC_ALL", "de_DE.UTF-8").env("TZ", "Asia/Tokyo").env("RAYON_NUM_THREADS", "1");
            }
            let ran = command.output().unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            let files = relative(Path::new(&out));
            assert!(files.len() > 5 && (i == 0 || files == first), "{target}: run {i} wrote other bytes");
            first = files;
        }
    }
}

#[test]
fn nothing_of_the_users_is_overwritten() {
    let place = Place::new();
    let out = place.arg("out");
    let args = ["compile", "tanh_mlp", "--batch", "4", "-o", &out];
    succeeds(&args);
    let first = relative(&place.path("out"));
    refused(&args, 1, &["out` is not empty", "hint: replace it with --force"]);
    fs::write(place.path("out/kernels/stale.clif"), "old").unwrap();
    succeeds(&[&args[..], &["--force"]].concat());
    assert_eq!(relative(&place.path("out")), first);

    fs::write(place.path("out/notes.txt"), "mine").unwrap();
    refused(&[&args[..], &["--force"]].concat(), 1, &["it holds `notes.txt`", "hint: choose another folder"]);
    assert_eq!(fs::read(place.path("out/notes.txt")).unwrap(), b"mine");
    assert_eq!(place.names(""), ["out"]);

    refused(&["compile", "tanh_mlp", "-o", "/proc/out"], 1, &["cannot write `/proc/out`", "hint: "]);
}

#[test]
fn both_models_and_every_algorithm() {
    let place = Place::new();
    for target in ["cpu", "cuda", "wgsl"] {
        for algorithm in Algorithm::ALL {
            let cases = [
                ("tanh_mlp", vec![], !algorithm.is_local()),
                ("localmixer", vec!["--preset", "S/1/1"], algorithm == Algorithm::LG_FG_A),
                ("localmixer", vec!["--set", "channels=32", "--set", "groups=4", "--set", "norm=bn"], true),
            ];
            let algorithm = algorithm.name();
            for (model, sets, _) in cases.into_iter().filter(|case| case.2) {
                let out = place.arg(&format!("{target}-{algorithm}-{model}-{}", sets.len()));
                let fixed = ["compile", model, "--batch", "4", "--algorithm", algorithm, "--target", target, "-o", &out];
                succeeds(&[&fixed, &sets[..]].concat());
            }
        }
    }
}

/// What the paper trains fits every WebGPU device.
#[test]
fn every_preset_for_gpus() {
    let place = Place::new();
    for preset in pushforward_models::PRESETS {
        for (target, algorithm) in [("cuda", "lg-fg-a"), ("wgsl", "lg-fg-a"), ("wgsl", "bp")] {
            let out = place.arg(&format!("{target}-{algorithm}-{}", preset.name.replace('/', "-")));
            succeeds(&["compile", "localmixer", "--preset", preset.name, "--algorithm", algorithm, "--target", target, "-o", &out]);
        }
    }
}

#[test]
fn what_a_target_lacks_is_refused() {
    let place = Place::new();
    let (model, out) = (place.arg("double.pf"), place.arg("out"));
    fs::write(&model, "pf 1\naxis N, A = 3;\nmodel double(x: f64[N, A]) { param w: f64[A] = 1; loss sum[A](x * w * w); }\n").unwrap();
    let args =
        |target: &'static str| ["compile", &model, "--batch", "4", "--algorithm", "bp", "--target", target, "-o", &out].map(String::from);
    let wgsl = args("wgsl");
    let wgsl: Vec<&str> = wgsl.iter().map(String::as_str).collect();
    refused(&wgsl, 1, &["`x: f64[N, A]` is f64, which this target does not have", "hint: the cuda target has it"]);
    let cuda = args("cuda");
    succeeds(&cuda.iter().map(String::as_str).collect::<Vec<_>>());
    refused(&["compile", "tanh_mlp", "--target", "metal", "-o", &out], 2, &["no target is called `metal`: there are cpu, cuda, wgsl"]);
}
