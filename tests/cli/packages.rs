//! `compile` for GPUs: what is in the folder, that it compiles, and that it trains: `runner.mjs` under Dawn for node on the software Vulkan
//! driver, `launch.cu` under nvcc. What the kernels compute is tested where they run through drivers.

use std::fs;
use std::path::Path;
use std::process::Command;

use pushforward::{Algorithm, Model, Parameters, Pool, Settings, Step};
use serde_json::Value;

use crate::support::{self, Nvcc, Text};
use crate::{Place, refused, succeeds};

/// Small, with everything: patches, groups, two blocks.
const SETS: [(&str, &str); 7] =
    [("height", "8"), ("width", "8"), ("colours", "1"), ("grid", "2"), ("channels", "16"), ("groups", "4"), ("blocks", "2")];
const BATCH: usize = 4;

/// Compiles the small model into `out` of a place.
fn compiled(place: &Place, target: &str, more: &[&str]) {
    let out = place.arg("out");
    let sets: Vec<String> = SETS.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut args = vec!["compile", "localmixer", "--batch", "4", "--target", target, "-o", &out];
    args.extend(sets.iter().flat_map(|set| ["--set", set]));
    args.extend(more);
    succeeds(&args);
}

fn plan(place: &Place) -> Value {
    serde_json::from_slice(&fs::read(place.path("out/plan.json")).unwrap()).unwrap()
}

fn kernels(place: &Place) -> Vec<(String, String)> {
    let entries = fs::read_dir(place.path("out/kernels")).unwrap().map(|e| e.unwrap().path());
    let mut all: Vec<(String, String)> =
        entries.map(|path| (path.file_stem().unwrap().to_str().unwrap().to_string(), fs::read_to_string(&path).unwrap())).collect();
    all.sort();
    all
}

fn texts(kernels: &[(String, String)]) -> Vec<Text<'_>> {
    kernels.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect()
}

#[test]
fn the_plan_says_what_to_launch_on_what() {
    for (target, others) in [("cuda", ["launch.cu", "pushforward.cuh"].as_slice()), ("wgsl", ["runner.mjs"].as_slice())] {
        let place = Place::new();
        compiled(&place, target, &[]);
        let mut names = vec!["kernels", "plan.json", "report.md"];
        names.extend(others);
        names.sort();
        assert_eq!(place.names("out"), names);
        let plan = plan(&place);
        assert_eq!((&plan["format"], &plan["version"], &plan["target"]), (&"pushforward-device-plan".into(), &1.into(), &target.into()));
        let files: Vec<String> = place.names("out/kernels").iter().map(|name| format!("kernels/{name}")).collect();
        let mut used: Vec<String> = Vec::new();
        for name in ["init", "step", "eval"] {
            let entry = &plan["entries"][name];
            let buffers = entry["buffers"].as_array().unwrap();
            for launch in entry["launches"].as_array().unwrap() {
                let kernel = &entry["kernels"][launch["kernel"].as_str().unwrap()];
                let file = kernel["file"].as_str().unwrap().to_string();
                assert!(files.contains(&file), "{file}");
                used.push(file);
                let arguments = launch["arguments"].as_array().unwrap();
                assert_eq!(arguments.len(), kernel["arguments"].as_array().unwrap().len());
                for (at, argument) in arguments.iter().zip(kernel["arguments"].as_array().unwrap()) {
                    assert_eq!(buffers[at.as_u64().unwrap() as usize]["dtype"], argument["dtype"]);
                }
            }
        }
        used.sort();
        used.dedup();
        assert_eq!(used, files, "every file is launched");
        let report = fs::read_to_string(place.path("out/report.md")).unwrap();
        assert!(report.starts_with(&format!("# localmixer, lg-fg-a, batch 4, {target}\n")), "{report}");
        assert!(report.contains(&format!("| launches | {} |", plan["entries"]["step"]["launches"].as_array().unwrap().len())));
        assert!(report.contains("share pruned"));
    }
}

#[test]
fn wgsl_gets_past_tint_and_naga() {
    let place = Place::new();
    compiled(&place, "wgsl", &[]);
    let kernels = kernels(&place);
    for (name, text) in &kernels {
        support::validate_wgsl(text).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    if let Some(result) = support::tint(&texts(&kernels)) {
        result.unwrap_or_else(|e| panic!("{e}"));
    }
}

/// All of the package as one program: kernels that do not match their declarations do not compile.
#[test]
fn launch_cu_compiles_with_its_kernels() {
    let Some(nvcc) = Nvcc::find() else { return };
    let place = Place::new();
    compiled(&place, "cuda", &[]);
    let read = |name: &str| fs::read_to_string(place.path("out").join(name)).unwrap();
    let (prelude, launch) = (read("pushforward.cuh"), read("launch.cu"));
    let calls = "
void all(cudaStream_t stream, const localmixer::Buffers& buffers)
{
    localmixer::init(stream, buffers, 7);
    localmixer::step(stream, buffers, 0, 0.1f);
    localmixer::launch_step(stream, buffers);
    localmixer::eval(stream, buffers);
}
";
    let kernels: String = kernels(&place).into_iter().map(|(_, text)| text).collect();
    let whole = [kernels.as_str(), &launch, calls].concat();
    let headers = [("pushforward.cuh", prelude.as_str())];
    nvcc.compile_host(&headers, &[("whole", &whole), ("launch", &launch)]).unwrap_or_else(|e| panic!("{e}"));
}

/// A script that trains with `runner.mjs`; what it prints.
fn trained_under_dawn(folder: &Path, steps: usize) -> Option<Value> {
    let dawn = support::tool("PUSHFORWARD_DAWN", "target/tools/dawn/node_modules/webgpu", "Dawn for node")?;
    let driver = support::tool("VK_DRIVER_FILES", "/usr/share/vulkan/icd.d/lvp_icd.json", "the software Vulkan driver")?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("backends/gpu/checks/runner.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(folder).arg(steps.to_string()).env("PUSHFORWARD_DAWN", dawn).env("VK_DRIVER_FILES", driver);
    let output = node.output().expect("node runs where Dawn for node is installed");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    Some(serde_json::from_str(out.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {out}{err}")))
}

fn floats(values: &Value) -> Vec<f32> {
    values.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

/// The same parameters from the same seed, and the same losses but for rounding.
#[test]
fn the_runner_trains_as_the_cpu_does() {
    const STEPS: usize = 6;
    let place = Place::new();
    compiled(&place, "wgsl", &[]);
    let Some(ran) = trained_under_dawn(&place.path("out"), STEPS) else { return };
    assert_eq!(ran["faults"], Value::Array(Vec::new()));

    let sets = SETS.map(|(name, value)| (name.to_string(), value.to_string())).to_vec();
    let settings = Settings { sets, ..Settings::new(Algorithm::LG_FG_A, BATCH) };
    let model = Model::built_in("localmixer").unwrap().unwrap();
    let mut step = Step::training(&model, &settings, &Pool::new(0).unwrap()).unwrap();
    let mut parameters = Parameters::new(&step, 42).unwrap();
    for (name, view) in parameters.iter() {
        let want: Vec<f32> = view.f32().unwrap().iter().copied().take(64).collect();
        let got = floats(&ran["parameters"][name]);
        assert_eq!(got.len(), want.len());
        // Two units in the last place: what WGSL leaves to implementations.
        assert!(got.iter().zip(&want).all(|(x, y)| (x - y).abs() <= 2.4e-7 * y.abs()), "{name}: {got:?} for {want:?}");
    }

    let images: Vec<f32> = (0..BATCH * 64).map(|i| (i % 17) as f32 / 17.0).collect();
    let labels: Vec<i32> = (0..BATCH as i32).map(|i| i % 10).collect();
    let losses = floats(&ran["losses"]);
    for (number, got) in losses.iter().enumerate() {
        let inputs = [
            ("images", images.as_slice().into()),
            ("labels", labels.as_slice().into()),
            ("lr", 0.1f32.into()),
            ("seed", 42.into()),
            ("step", (number as i32).into()),
        ];
        step.run(&mut parameters, &inputs).unwrap();
        let want = step.output("loss").unwrap().item().unwrap() as f32;
        assert!((got - want).abs() <= 1e-4 * want.abs(), "step {number}: {got} for {want}");
    }
    assert!(losses[STEPS - 1] < losses[0], "it learns: {losses:?}");

    let said: Vec<&str> = ran["said"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
    assert_eq!(
        said[..6],
        [
            "the tensor `images` is missing",
            "step has no input `pictures`",
            "the scalar `step` is missing: there are seed, step, lr",
            "`images` has 256 elements, got 255",
            "`labels` is i32: it takes a Int32Array",
            &format!("no parameter is called `nothing`: there are {}", parameters.iter().map(|p| p.0).collect::<Vec<_>>().join(", ")),
        ]
    );
    assert!(said[6].starts_with("the device was lost: "), "{}", said[6]);
}

#[test]
fn limits_are_read_and_held_to() {
    let place = Place::new();
    let (out, file) = (place.arg("out"), place.arg("limits.json"));
    let limited = |text: &str| fs::write(&file, text).unwrap();
    let args = ["compile", "localmixer", "--preset", "S/1/1", "--batch", "4", "--target", "wgsl", "--limits", &file, "-o", &out];
    refused(&args, 1, &["cannot be read", "hint: write JSON"]);
    limited("maxBufferSize = 3");
    refused(&args, 1, &["are no JSON object", "hint: write JSON"]);
    limited(r#"{"maxBuffersSize": 3}"#);
    refused(&args, 1, &["name `maxBuffersSize`, which WebGPU has not"]);
    limited(r#"{"maxBufferSize": "much"}"#);
    refused(&args, 1, &["are not whole numbers"]);
    limited(r#"{"maxStorageBufferBindingSize": 4096}"#);
    refused(&args, 1, &["kernel `", "maxStorageBufferBindingSize", "4096", "hint: "]);
    limited(r#"{"maxComputeWorkgroupStorageSize": 64}"#);
    refused(&args, 1, &["kernel `", "maxComputeWorkgroupStorageSize", "64", "hint: "]);
    assert!(!place.path("out").exists());
    // What a device reports has more in it.
    limited(r#"{"maxStorageBuffersPerShaderStage": 16, "maxTextureDimension2D": 8192}"#);
    succeeds(&args);
    assert_eq!(plan(&place)["limits"]["maxStorageBuffersPerShaderStage"], 16);
}

#[test]
fn nothing_foreign_is_overwritten() {
    let place = Place::new();
    compiled(&place, "cuda", &[]);
    refused(&["compile", "tanh_mlp", "--batch", "4", "--target", "wgsl", "-o", &place.arg("out")], 1, &["is not empty", "hint: "]);
    succeeds(&["compile", "tanh_mlp", "--batch", "4", "--target", "wgsl", "--force", "-o", &place.arg("out")]);
    assert_eq!(place.names("out"), ["kernels", "plan.json", "report.md", "runner.mjs"]);
    fs::write(place.path("out/kernels/mine.cl"), "mine").unwrap();
    let args = ["compile", "tanh_mlp", "--batch", "4", "--target", "cuda", "--force", "-o", &place.arg("out")];
    refused(&args, 1, &["kernels/mine.cl", "hint: choose another folder"]);
}
