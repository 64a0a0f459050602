//! `conform` itself: the reference values in `tests/fixtures` pass on every back end; whatever is changed in a file is noticed; a bad file is a
//! message; and a set that it has never seen, made here from the formulas of the fixtures' README, passes too.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use pushforward_ir::DType;
use pushforward_models::conform::{self, Backend, Cpu, Eval, Miss, Report, Verdict};
use serde_json::{Value, json};
use tempfile::TempDir;

// ---- the reference values

/// Case, and its output arrays: all of them pass.
const EXPECTED: [(&str, usize); 9] = [
    ("xent", 11),
    ("xent_g1", 11),
    ("infonce", 18),
    ("norm", 18),
    ("step_s_like", 144),
    ("step_m_like", 428),
    ("step_norm_ln", 286),
    ("step_norm_bn", 286),
    ("step_contrastive", 64),
];

#[test]
fn the_evaluator_meets_all_reference_values() {
    for float in [DType::F64, DType::F32] {
        meets_all(&Eval { float });
    }
}

#[test]
fn the_cpu_meets_all_reference_values() {
    for float in [DType::F32, DType::F64] {
        meets_all(&cpu(float));
    }
}

fn meets_all(backend: &dyn Backend) {
    let report = conform::run(&[fixtures()], backend);
    let counts: Vec<(&str, usize)> = report.cases.iter().map(|c| (c.name.as_str(), c.passed())).collect();
    assert_eq!(counts, EXPECTED, "{} in {}\n{report}", backend.name(), backend.float().name());
    assert!(report.is_good() && report.notes.is_empty() && report.not_covered() == 0, "{report}");
}

/// Steps in sizes that no fixture has, from a second reference that shares nothing with the first but the README (`odd_sizes/make.py`).
/// In f64 only: with one channel in a group and batch norm, gradients of scales nearly cancel, and f32 says little of them.
#[test]
fn odd_sizes_pass() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/odd_sizes");
    for backend in [&EVAL as &dyn Backend, &cpu(DType::F64)] {
        let report = conform::run(std::slice::from_ref(&folder), backend);
        let (passed, failed, not_covered) = (report.passed(), report.failed(), report.not_covered());
        assert_eq!((report.cases.len(), passed, failed, not_covered), (5, 407, 0, 0), "{}\n{report}", backend.name());
    }
}

// ---- changed values

/// Every covered array is really compared, at its ends and in its middle: one changed element fails that array, and only that.
#[test]
fn one_changed_number_fails_its_array_alone() {
    let set = Set::of(&["xent", "norm", "step_norm_ln"]);
    let good = conform::run(&[set.path()], &EVAL);
    for case in good.cases.iter() {
        let covered: Vec<&str> = case.arrays.iter().map(|a| a.name.as_str()).collect();
        // Of a step, as many as patience allows: each costs a run of all algorithms.
        let every = if covered.len() > 100 { 13 } else { 1 };
        for (number, array) in covered.iter().enumerate().step_by(every) {
            let file = set.read(&case.name);
            let mut changed = file.clone();
            let values = file.floats(array);
            let position = [0, values.len() / 2, values.len() - 1][number % 3];
            let largest = values.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
            changed.set(array, position, values[position] + 1e-8 * largest + 1e-11);
            set.write(&case.name, &changed);
            let report = set.run(&case.name);
            let failed: Vec<&str> = failures(&report).into_iter().map(|(name, _)| name).collect();
            assert_eq!(failed, [*array], "{report}");
            assert_eq!((report.failed(), report.passed()), (1, covered.len() - 1));
            let at = &report.cases[0].arrays.iter().find(|a| a.name == *array).unwrap().verdict;
            let Verdict::Failed(Miss::Departs { at, .. }) = at else { panic!("{at:?}") };
            assert_eq!(flat(at, &file.shape(array)), position, "{array}");
            set.write(&case.name, &file);
        }
    }
}

/// A wrong input is wrong everywhere behind it.
#[test]
fn one_changed_input_fails_what_depends_on_it() {
    let set = Set::of(&["xent"]);
    let file = set.read("xent");
    let mut changed = file.clone();
    changed.set("dx", 3, file.floats("dx")[3] + 1e-3);
    set.write("xent", &changed);
    let report = set.run("xent");
    let failed: Vec<&str> = failures(&report).into_iter().map(|(name, _)| name).collect();
    assert_eq!(failed, ["dloss", "dloss_x"]);
}

/// A weight's gradient with a wrong sign or scale is no rounding error in f32 either.
#[test]
fn f32_is_no_excuse() {
    let set = Set::of(&["step_m_like"]);
    let file = set.read("step_m_like");
    let covered = ["grad.LG-FG-A.block2.fc.w", "grad.LG-BP.block1.token.w", "grad.BP.head0.w", "LG-FG-A.block1.dloss"];
    let mut changed = file.clone();
    for array in covered {
        let values = file.floats(array);
        let largest = file.floats("grad.BP.cls.w").iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        let at = values.iter().enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap().0;
        changed.set(array, at, values[at] * 1.01 + 1e-3 * largest * values[at].signum());
    }
    set.write("step_m_like", &changed);
    let report = conform::run(&[set.path()], &cpu(DType::F32));
    let mut failed: Vec<&str> = failures(&report).into_iter().map(|(name, _)| name).collect();
    failed.sort_unstable();
    let mut expected = covered.to_vec();
    expected.sort_unstable();
    assert_eq!(failed, expected, "{report}");
}

// ---- bad files

#[test]
fn a_file_that_is_cut_short_fails_all_that_it_promised() {
    let set = Set::of(&["xent"]);
    let whole = fs::read(set.file("xent")).unwrap();
    for kept in [0, 1, 7, 8, 9, 100, 1000, whole.len() / 2, whole.len() - 8, whole.len() - 1] {
        fs::write(set.file("xent"), &whole[..kept]).unwrap();
        let report = set.run("xent");
        assert_eq!((report.passed(), report.failed()), (0, 11));
        let refused = report.cases[0].refused.as_ref().unwrap();
        assert!(refused.contains("xent.safetensors` is cut short") && refused.contains(&format!("it has {kept} bytes")), "{refused}");
    }
    fs::write(set.file("xent"), [&whole[..], b"x"].concat()).unwrap();
    refused(&set, "xent", &["xent.safetensors", "its header promises"]);
    fs::write(set.file("xent"), b"P5 28 28 255 and more").unwrap();
    refused(&set, "xent", &["is no safetensors file"]);
    fs::remove_file(set.file("xent")).unwrap();
    problem(&set.file("xent"), &["xent.safetensors` does not exist"]);
    let report = conform::run(&[set.path()], &EVAL);
    assert_eq!((report.passed(), report.failed()), (0, 11), "{report}");
    assert!(report.to_string().contains("index.json` lists it"), "{report}");
}

#[test]
fn what_an_index_lacks_or_a_path_is_not() {
    let set = Set::of(&["xent", "norm"]);
    problem(&set.path().join("nowhere"), &["nowhere` does not exist", "hint: "]);
    problem(&set.path().join("index.json"), &["neither a folder nor a .safetensors file"]);
    fs::copy(set.file("xent"), set.file("other")).unwrap();
    problem(&set.file("other"), &["lists no case `other`", "xent, norm"]);
    let report = conform::run(&[set.path()], &EVAL);
    assert!(report.is_good() && report.notes.len() == 1 && report.notes[0].contains("other.safetensors"), "{report}");
    for (text, part) in [("{", "no index of cases"), ("[]", "no index of cases"), ("{}", "it is empty"), ("\u{7}", "no index of cases")] {
        fs::write(set.path().join("index.json"), text).unwrap();
        problem(&set.path(), &["index.json", part]);
    }
    fs::remove_file(set.path().join("index.json")).unwrap();
    problem(&set.path(), &["index.json` does not exist"]);
    problem(&set.file("xent"), &["index.json` does not exist"]);
}

#[test]
fn a_wrong_entry_of_the_index_fails_its_case_and_no_other() {
    for (entry, part) in [
        (json!(3), "wrong about the case `xent`"),
        (json!({ "inputs": {} }), "missing field `outputs`"),
        (json!({ "inputs": {}, "outputs": {} }), "it has no outputs"),
        (json!({ "inputs": {}, "outputs": { "loss": [-1] } }), "wrong about the case `xent`"),
        (json!({ "inputs": {}, "outputs": { "loss": [1] }, "checks": { "f32_worst": -1.0 } }), "f32_worst is -1"),
    ] {
        let set = Set::of(&["xent", "norm"]);
        set.index(|index| index["xent"] = entry.clone());
        let report = conform::run(&[set.path()], &EVAL);
        assert_eq!((report.passed(), report.failed()), (18, 1), "{report}");
        let refused = report.cases[0].refused.as_ref().unwrap();
        assert!(refused.contains(part), "{refused}");
    }
}

#[test]
fn wrong_arrays_are_named() {
    let set = Set::of(&["xent"]);
    let whole = set.read("xent");
    // Inputs refuse the case.
    let input = |change: &dyn Fn(&mut File), parts: &[&str]| {
        let mut file = whole.clone();
        change(&mut file);
        set.write("xent", &file);
        refused(&set, "xent", parts);
    };
    input(&|f| f.remove("dx"), &["xent.safetensors", "lacks the array `dx`"]);
    input(&|f| f.retype("w", "I64"), &["`w` is I64, expected F64"]);
    input(&|f| f.retype("labels", "F64"), &["`labels` is F64, expected I64"]);
    input(&|f| f.retype("w", "U64"), &["`w` is U64"]);
    input(&|f| f.reshape("x", &[3, 4, 5, 2]), &["`x` has the shape [3, 4, 5, 2]", "[3, 4, 2, 5]"]);
    input(&|f| f.set("x", 7, f64::NAN), &["`x` holds NaN at [0, 0, 1, 2]"]);
    input(&|f| f.set("b", 1, f64::INFINITY), &["`b` holds inf at [1]"]);
    input(&|f| f.set_bits("labels", 1, 5), &["`labels` holds 5 at [1]", "labels of 5 classes lie below 5"]);
    input(&|f| f.set_bits("labels", 2, u64::MAX), &["`labels` holds -1 at [2]"]);
    // Outputs fail for themselves.
    let output = |change: &dyn Fn(&mut File), array: &str, part: &str| {
        let mut file = whole.clone();
        change(&mut file);
        set.write("xent", &file);
        let report = set.run("xent");
        let failed = failures(&report);
        assert_eq!(failed.len(), 1, "{report}");
        assert!(failed[0].0 == array && failed[0].1.contains(part), "{failed:?}");
        assert_eq!(report.passed(), 10);
    };
    output(&|f| f.remove("loss"), "loss", "lacks the array `loss`");
    output(&|f| f.retype("gw", "I64"), "gw", "`gw` is I64, expected F64");
    output(&|f| f.reshape("gx", &[120]), "gx", "`gx` has the shape [120]");
    output(&|f| f.set("dloss", 23, f64::NAN), "dloss", "`dloss` holds NaN at [2, 3, 1]");
    set.write("xent", &whole);
    assert_eq!(set.run("xent").passed(), 11);
}

/// The index and the file may agree, and yet not hold what the config says.
#[test]
fn sizes_come_from_the_config() {
    let set = Set::of(&["xent"]);
    let whole = set.read("xent");
    let config = |text: &str, parts: &[&str]| {
        let mut file = whole.clone();
        file.header["__metadata__"]["config"] = json!(text);
        set.write("xent", &file);
        set.index(|index| {
            index["xent"].as_object_mut().unwrap().remove("config");
        });
        let report = set.run("xent");
        assert_eq!((report.passed(), report.failed()), (0, 11), "{report}");
        let text = report.to_string();
        parts.iter().for_each(|part| assert!(text.contains(part), "`{part}` is not in\n{text}"));
    };
    config(
        r#"{"kind": "xent", "N": 3, "P": 4, "G": 5, "D": 2, "K": 5}"#,
        &["`x` has the shape [3, 4, 2, 5], but its config says [3, 4, 5, 2]"],
    );
    config(
        r#"{"kind": "xent", "N": 4, "P": 4, "G": 2, "D": 5, "K": 5}"#,
        &["`x` has the shape [3, 4, 2, 5], but its config says [4, 4, 2, 5]"],
    );
    config(r#"{"kind": "xent", "N": 3, "P": 4, "G": 2, "D": 5}"#, &["its config is wrong: missing field `K`"]);
    config(r#"{"kind": "xent", "N": 3, "P": 4, "G": 2, "D": 5, "K": 0}"#, &["nonzero"]);
    config(r#"{"kind": "xent", "N": 4000000000, "P": 4000000000, "G": 4000000000, "D": 4000000000, "K": 5}"#, &["4000000000"]);
    config(r#"{"kind": "conv", "N": 3}"#, &["`conv`"]);
    config("nonsense", &["its config is wrong"]);
    let mut file = whole.clone();
    file.header["__metadata__"] = json!({});
    set.write("xent", &file);
    refused(&set, "xent", &["its config is missing"]);
}

#[test]
fn a_config_that_the_index_has_otherwise_is_refused() {
    let set = Set::of(&["xent"]);
    set.index(|index| index["xent"]["config"]["K"] = json!(6));
    refused(&set, "xent", &["xent.safetensors` says config", "index.json` says"]);
}

/// Arrays that the index does not promise need no inputs; a layer that the config does not have is no array of ours.
#[test]
fn a_smaller_set_is_a_set() {
    let set = Set::of(&["step_s_like"]);
    set.index(|index| {
        let case = &mut index["step_s_like"];
        case["inputs"].as_object_mut().unwrap().retain(|name, _| !name.starts_with("anoise.") && !name.starts_with("fa."));
        case["outputs"]
            .as_object_mut()
            .unwrap()
            .retain(|name, _| name == "loss" || name.starts_with("grad.BP.") || name.starts_with("block0.fc."));
        case["outputs"]["grad.BP.block7.fc.b"] = json!([8]);
    });
    let mut file = set.read("step_s_like");
    file.rename("grad.LG-BP.block0.fc.b", "grad.BP.block7.fc.b");
    set.write("step_s_like", &file);
    let report = set.run("step_s_like");
    assert_eq!((report.passed(), report.failed(), report.not_covered()), (12, 0, 1), "{report}");
    // What does need noise says so.
    set.index(|index| index["step_s_like"]["outputs"]["LG-FG-A.block0.dloss"] = json!([4, 1, 1]));
    let report = set.run("step_s_like");
    let failed = failures(&report);
    assert!(failed.iter().any(|f| f.0 == "LG-FG-A.block0.dloss" && f.1.contains("`anoise.block0.fc` is needed")), "{report}");
}

/// Any byte of the header may be wrong: that is a message or a failure, never a panic, and never more passes than there are arrays.
#[test]
fn damaged_headers_do_no_harm() {
    let set = Set::of(&["xent_g1"]);
    let whole = fs::read(set.file("xent_g1")).unwrap();
    let end = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut random = Random(7);
    for _ in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(end);
            bytes[at] = [random.below(256) as u8, b'0', b'9', b'"', b'}', b'-'][random.below(6)];
        }
        fs::write(set.file("xent_g1"), &bytes).unwrap();
        let report = set.run("xent_g1");
        assert_eq!(report.passed() + report.failed() + report.not_covered(), 11, "{report}");
    }
}

// ---- a set that nobody has seen

/// Cases made here by plain loops over the formulas of the fixtures' README, with sizes that no fixture has.
#[test]
fn unseen_sizes_of_the_replicated_loss_pass() {
    let sizes = [[1, 3, 5, 2, 7], [2, 1, 3, 1, 2], [5, 7, 1, 3, 3], [1, 1, 1, 1, 2], [3, 2, 2, 9, 4]];
    let set = Set { dir: tempfile::tempdir().unwrap() };
    let mut index = json!({});
    for (number, sizes) in sizes.into_iter().enumerate() {
        let (file, entry) = replicated(sizes, number as u64);
        let name = format!("unseen{number}");
        set.write(&name, &file);
        index[name] = entry;
    }
    fs::write(set.path().join("index.json"), index.to_string()).unwrap();
    for backend in [&EVAL as &dyn Backend, &cpu(DType::F32), &cpu(DType::F64)] {
        let report = conform::run(&[set.path()], backend);
        assert_eq!((report.passed(), report.failed(), report.not_covered()), (11 * sizes.len(), 0, 0), "{report}");
    }
}

/// The replicated cross entropy by hand.
#[allow(clippy::many_single_char_names)]
fn replicated([n, p, g, d, k]: [usize; 5], seed: u64) -> (File, Value) {
    let (c, mut random) = (g * d, Random(seed));
    let mut numbers = |count: usize, scale: f64| -> Vec<f64> { (0..count).map(|_| scale * random.number()).collect() };
    let (x, w, b) = (numbers(n * p * c, 1.0), numbers(c * k, 0.7), numbers(k, 0.3));
    let (dx, dw, db, ct) = (numbers(n * p * c, 1.0), numbers(c * k, 1.0), numbers(k, 1.0), numbers(n * p * g, 1.0));
    let labels: Vec<usize> = (0..n).map(|i| (3 * i + 1) % k).collect();

    let mut mean = vec![0.0; n * c];
    for (i, x) in x.iter().enumerate() {
        mean[i / (p * c) * c + i % c] += x / p as f64;
    }
    let (mut logits, mut e, mut xent) = (vec![0.0; n * k], vec![0.0; n * k], vec![0.0; n]);
    for i in 0..n {
        for j in 0..k {
            logits[i * k + j] = b[j] + (0..c).map(|l| mean[i * c + l] * w[l * k + j]).sum::<f64>();
        }
        let row = &logits[i * k..][..k];
        let total: f64 = row.iter().map(|z| z.exp()).sum();
        xent[i] = total.ln() - row[labels[i]];
        for j in 0..k {
            e[i * k + j] = row[j].exp() / total - if j == labels[i] { 1.0 } else { 0.0 };
        }
    }
    let (mut aggregated, mut loss, mut dloss_x, mut dloss) = (vec![], vec![], vec![], vec![]);
    for i in 0..n {
        let ei = |j: usize| e[i * k + j];
        let shared: f64 = (0..k).map(|j| (db[j] + (0..c).map(|l| mean[i * c + l] * dw[l * k + j]).sum::<f64>()) * ei(j)).sum();
        for q in 0..p {
            for h in 0..g {
                aggregated.extend_from_slice(&mean[i * c..][..c]);
                loss.push(xent[i]);
                let own: f64 =
                    (0..d).map(|l| dx[(i * p + q) * c + h * d + l] * (0..k).map(|j| w[(h * d + l) * k + j] * ei(j)).sum::<f64>()).sum();
                dloss_x.push(own / p as f64);
                dloss.push(own / p as f64 + shared);
            }
        }
    }
    let product = |ct: &[f64]| {
        let (mut gx, mut gw, mut gb) = (vec![0.0; n * p * c], vec![0.0; c * k], vec![0.0; k]);
        for i in 0..n {
            let total: f64 = ct[i * p * g..][..p * g].iter().sum();
            for j in 0..k {
                gb[j] += total * e[i * k + j];
                (0..c).for_each(|l| gw[l * k + j] += total * mean[i * c + l] * e[i * k + j]);
            }
            for q in 0..p {
                for l in 0..c {
                    let down: f64 = (0..k).map(|j| w[l * k + j] * e[i * k + j]).sum();
                    gx[(i * p + q) * c + l] = ct[(i * p + q) * g + l / d] * down / p as f64;
                }
            }
        }
        (gx, gw, gb)
    };
    let ((gx, gw, gb), (g1x, g1w, g1b)) = (product(&ct), product(&vec![1.0; n * p * g]));

    let (features, head, each) = (vec![n, p, g, d], vec![c, k], vec![n, p, g]);
    let mut file = File { header: json!({}), data: Vec::new() };
    let config = json!({ "kind": "xent", "N": n, "P": p, "G": g, "D": d, "K": k });
    file.header["__metadata__"] = json!({ "config": config.to_string() });
    let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<u64>>();
    let mut lists = [json!({}), json!({})];
    for (list, name, shape, values) in [
        (0, "x", &features, &x),
        (0, "w", &head, &w),
        (0, "b", &vec![k], &b),
        (0, "dx", &features, &dx),
        (0, "dw", &head, &dw),
        (0, "db", &vec![k], &db),
        (0, "ct", &each, &ct),
        (1, "aggregated", &vec![n, p, g, c], &aggregated),
        (1, "logits", &vec![n, k], &logits),
        (1, "loss", &each, &loss),
        (1, "dloss_x", &each, &dloss_x),
        (1, "dloss", &each, &dloss),
        (1, "gx", &features, &gx),
        (1, "gw", &head, &gw),
        (1, "gb", &vec![k], &gb),
        (1, "g1x", &features, &g1x),
        (1, "g1w", &head, &g1w),
        (1, "g1b", &vec![k], &g1b),
    ] {
        file.add(name, "F64", shape, &bits(values));
        lists[list][name] = json!(shape);
    }
    file.add("labels", "I64", &[n], &labels.iter().map(|&l| l as u64).collect::<Vec<_>>());
    lists[0]["labels"] = json!([n]);
    let [inputs, outputs] = lists;
    (file, json!({ "config": config, "checks": { "f32_worst": 2e-7 }, "inputs": inputs, "outputs": outputs }))
}

// ---- the command

#[test]
fn the_command_says_it_in_its_last_lines_and_its_exit_code() {
    let fixtures = fixtures();
    let path = |name: &str| fixtures.join(name).to_str().unwrap().to_string();
    ends(&[&path("")], 0, "not covered: 0\n1266 passed, 0 failed\n");
    ends(&[&path(""), "--backend", "cpu"], 0, "not covered: 0\n1266 passed, 0 failed\n");
    ends(&[&path("xent.safetensors"), &path("norm.safetensors"), "--dtype", "f32"], 0, "not covered: 0\n29 passed, 0 failed\n");
    // Nothing is covered: nothing was shown.
    let foreign = Set::of(&["xent"]);
    foreign.index(|index| index["xent"]["outputs"] = json!({ "nobody.knows": [3, 4, 2, 5] }));
    let mut file = foreign.read("xent");
    file.rename("gx", "nobody.knows");
    foreign.write("xent", &file);
    ends(&[foreign.file("xent").to_str().unwrap()], 1, "not covered: 1\n0 passed, 0 failed\n");
    let err = ends(&[&path("xent.safetensors"), &path("nowhere")], 1, "not covered: 0\n11 passed, 1 failed\n");
    assert!(err.starts_with("error: ") && err.contains("nowhere` does not exist") && err.contains("hint: "), "{err}");
    let err = ends(&[&path("xent.safetensors"), "--backend", "gpu"], 2, "");
    assert!(err.contains("no back end is called `gpu`: there are eval, cpu, cuda-emu, wgsl, cuda"), "{err}");
    ends(&[], 2, "");

    let set = Set::of(&["xent"]);
    let mut file = set.read("xent");
    file.set("gx", 11, 0.25);
    set.write("xent", &file);
    let ran = command(&[set.file("xent").to_str().unwrap()]);
    let out = String::from_utf8(ran.stdout).unwrap();
    assert_eq!(ran.status.code(), Some(1));
    for part in ["FAIL xent gx: worst error ", " at [0, 1, 0, 1]: got ", ", expected 2.5e-1, tolerance ", "10 passed, 1 failed\n"] {
        assert!(out.contains(part), "`{part}` is not in\n{out}");
    }
}

#[track_caller]
fn ends(args: &[&str], code: i32, last: &str) -> String {
    let ran = command(args);
    let (out, err) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    assert_eq!(ran.status.code(), Some(code), "{args:?}\n{out}{err}");
    assert!(out.ends_with(last), "{args:?}\n{out}");
    err
}

fn command(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_pushforward")).arg("conform").args(args).env("NO_COLOR", "1").output().unwrap()
}

// ---- helpers

const EVAL: Eval = Eval { float: DType::F64 };

fn cpu(float: DType) -> Cpu {
    Cpu::new(float, 2).unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// What failed, and why.
fn failures(report: &Report) -> Vec<(&str, String)> {
    let arrays = report.cases.iter().flat_map(|c| &c.arrays);
    arrays.filter_map(|a| if let Verdict::Failed(miss) = &a.verdict { Some((a.name.as_str(), miss.to_string())) } else { None }).collect()
}

#[track_caller]
fn refused(set: &Set, case: &str, parts: &[&str]) {
    let report = set.run(case);
    let promised = report.cases[0].arrays.len();
    assert_eq!((report.passed(), report.failed()), (0, promised.max(1)), "{report}");
    let message = report.cases[0].refused.as_ref().unwrap_or_else(|| panic!("it was run:\n{report}"));
    parts.iter().for_each(|part| assert!(message.contains(part), "`{part}` is not in: {message}"));
}

#[track_caller]
fn problem(path: &Path, parts: &[&str]) {
    let report = conform::run(&[path.into()], &EVAL);
    assert_eq!((report.cases.len(), report.problems.len(), report.failed()), (0, 1, 1), "{report}");
    let message = &report.problems[0].message;
    parts.iter().for_each(|part| assert!(message.contains(part), "`{part}` is not in: {message}"));
}

fn flat(index: &[usize], shape: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |at, (i, size)| at * size + i)
}

/// A folder of cases that may be damaged.
struct Set {
    dir: TempDir,
}

impl Set {
    /// A copy of some of the reference values.
    fn of(cases: &[&str]) -> Set {
        let set = Set { dir: tempfile::tempdir().unwrap() };
        let index: Value = serde_json::from_slice(&fs::read(fixtures().join("index.json")).unwrap()).unwrap();
        let kept: BTreeMap<&str, &Value> = cases.iter().map(|c| (*c, &index[*c])).collect();
        let kept: serde_json::Map<String, Value> = cases.iter().map(|c| (c.to_string(), kept[c].clone())).collect();
        fs::write(set.path().join("index.json"), Value::Object(kept).to_string()).unwrap();
        for case in cases {
            fs::write(set.file(case), fs::read(fixtures().join(format!("{case}.safetensors"))).unwrap()).unwrap();
        }
        set
    }

    fn path(&self) -> PathBuf {
        self.dir.path().into()
    }

    fn file(&self, case: &str) -> PathBuf {
        self.dir.path().join(format!("{case}.safetensors"))
    }

    fn run(&self, case: &str) -> Report {
        conform::run(&[self.file(case)], &EVAL)
    }

    fn index(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path().join("index.json");
        let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut index);
        fs::write(path, index.to_string()).unwrap();
    }

    fn read(&self, case: &str) -> File {
        let bytes = fs::read(self.file(case)).unwrap();
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        File { header: serde_json::from_slice(&bytes[8..end]).unwrap(), data: bytes[end..].to_vec() }
    }

    fn write(&self, case: &str, file: &File) {
        let header = file.header.to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &file.data].concat();
        fs::write(self.file(case), bytes).unwrap();
    }
}

/// A safetensors file taken apart. All elements have eight bytes.
#[derive(Clone)]
struct File {
    header: Value,
    data: Vec<u8>,
}

impl File {
    fn range(&self, array: &str) -> (usize, usize) {
        let at = |i: usize| self.header[array]["data_offsets"][i].as_u64().unwrap() as usize;
        (at(0), at(1))
    }

    fn floats(&self, array: &str) -> Vec<f64> {
        let (start, end) = self.range(array);
        self.data[start..end].chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
    }

    fn shape(&self, array: &str) -> Vec<usize> {
        serde_json::from_value(self.header[array]["shape"].clone()).unwrap()
    }

    fn set(&mut self, array: &str, position: usize, value: f64) {
        self.set_bits(array, position, value.to_bits());
    }

    fn set_bits(&mut self, array: &str, position: usize, bits: u64) {
        let start = self.range(array).0 + 8 * position;
        self.data[start..start + 8].copy_from_slice(&bits.to_le_bytes());
    }

    fn retype(&mut self, array: &str, dtype: &str) {
        self.header[array]["dtype"] = json!(dtype);
    }

    fn reshape(&mut self, array: &str, shape: &[usize]) {
        self.header[array]["shape"] = json!(shape);
    }

    fn rename(&mut self, array: &str, to: &str) {
        let header = self.header.as_object_mut().unwrap();
        let info = header.remove(array).unwrap();
        header.insert(to.into(), info);
    }

    fn remove(&mut self, array: &str) {
        // Its bytes stay, under another name: the data must have no holes.
        self.rename(array, "nobody's");
    }

    fn add(&mut self, name: &str, dtype: &str, shape: &[usize], bits: &[u64]) {
        let start = self.data.len();
        self.data.extend(bits.iter().flat_map(|b| b.to_le_bytes()));
        self.header[name] = json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, self.data.len()] });
    }
}

/// Numbers that are the same everywhere (splitmix64).
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// Between -1 and 1.
    fn number(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}
