//! `opt`, `list`, `devices`, `bench`: commands that show something; and what becomes of them when nobody looks.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use pushforward::Algorithm;
use serde_json::Value;

use crate::{Ran, check_refused, pushforward, run, succeeds};

const SMALL: [&str; 6] = ["--set", "channels=8", "--set", "groups=2", "--set", "grid=2"];

fn opt(args: &[&str]) -> String {
    succeeds(&[&["opt", "localmixer", "--batch", "2", "--set", "height=4", "--set", "width=4"], &SMALL[..], args].concat())
}

/// A command that reads `text` from standard input.
fn piped(args: &[&str], text: &str) -> Ran {
    let mut child = pushforward(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    Ran::of(child.wait_with_output().unwrap())
}

#[test]
fn opt_prints_text_that_opt_reads() {
    let inlined = opt(&["-p", "inline"]);
    assert!(inlined.starts_with("pf 1\n") && inlined.contains("model localmixer("), "{inlined}");
    assert!(!inlined.contains("anoise") && !inlined.contains("normal["));
    // Passes one at a time, through a pipe, are the passes all at once.
    let cut = piped(&["opt", "-", "-p", "cut"], &inlined);
    assert_eq!((cut.code, cut.err.as_str()), (Some(0), ""));
    assert_eq!(cut.out, opt(&["-p", "cut"]));
    let both = piped(&["opt", "-", "-p", "replicate"], &cut.out);
    assert_eq!(both.out, opt(&["-p", "cut,replicate"]));
    assert!(both.out.contains("copies "), "the replicated losses are marked");
    check_refused(piped(&["opt", "-"], "pf 1\nmodel"), 1, &["stdin:2:", "hint: "], &["opt", "-"]);
}

#[test]
fn opt_runs_the_algorithms_passes_and_shows_each() {
    let last = opt(&[]);
    assert!(last.contains("normal[") && last.contains("momentum.block0.fc.w"));
    assert_eq!(opt(&["--algorithm", "lg-fg-a"]), last);
    assert!(!opt(&["--algorithm", "bp"]).contains("normal["));
    let all = opt(&["--print-after-all"]);
    let heads: Vec<&str> = all.lines().filter_map(|line| line.strip_prefix("// after ")).collect();
    assert_eq!(heads, ["inline", "cut", "replicate", "perturb", "simplify", "update", "dce"]);
    assert!(all.trim_end().ends_with(last.trim_end()));
    let one = opt(&["--print-after", "cut"]);
    assert_eq!(one.trim_end(), format!("// after cut\n{}", opt(&["-p", "cut"])).trim_end());

    let ran = run(&["opt", "tanh_mlp", "--time-passes"]);
    assert_eq!(ran.code, Some(0));
    let timed: Vec<&str> = ran.err.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(timed, ["pass", "inline", "perturb", "simplify", "update", "dce"], "{}", ran.err);
}

/// Nothing depends on a process: not on the order of a hash map, nor on addresses or time. LocalMixer's step takes longer, and is made less often.
#[test]
fn a_hundred_processes_make_the_same_bytes() {
    let infonce = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fusion/infonce.pf");
    let infonce = ["opt", infonce, "--batch", "4", "--set", "similarity=cos", "--algorithm", "lg-bp"];
    let first = (succeeds(&infonce), opt(&[]));
    assert!(first.0.contains("contract[") && first.1.contains("contract["));
    std::thread::scope(|s| {
        for part in 0..2 {
            let first = &first;
            s.spawn(move || {
                for i in (1..100).filter(|i| i % 2 == part) {
                    assert!(succeeds(&infonce) == first.0, "infonce, process {i}");
                    assert!(i >= 20 || opt(&[]) == first.1, "localmixer, process {i}");
                }
            });
        }
    });
}

#[test]
fn opt_holds_passes_to_their_arithmetic() {
    let small = [&["opt", "localmixer", "--validate", "--set", "height=4", "--set", "width=4"], &SMALL[..]].concat();
    let lines = |extra: &[&str]| -> Vec<(String, String, String)> {
        let shown = succeeds(&[&small[..], extra].concat());
        let words = |line: &str| line.split_whitespace().map(String::from).collect::<Vec<_>>();
        let rows = shown.lines().skip(1).map(words);
        rows.map(|w| (w[0].clone(), w[1].clone(), w[6..].join(" ").split(',').next().unwrap_or("").to_string())).collect()
    };
    for algorithm in ["bp", "lg-fg-a"] {
        let rows = lines(&["--algorithm", algorithm]);
        assert!(rows.len() >= 4 && rows.iter().all(|(_, _, said)| said == "ok"), "{rows:?}");
        let arithmetic = |pass: &str| rows.iter().find(|r| r.0 == pass).map(|r| r.1.as_str());
        assert_eq!((arithmetic("simplify"), arithmetic("update"), arithmetic("dce")), (Some("real"), Some("adds"), Some("exact")));
    }
    assert_eq!(lines(&["-p", "jvp"]), [("jvp".into(), "adds".into(), "ok".into())]);

    let large = run(&["opt", "localmixer", "--validate", "--batch", "128"]);
    assert_eq!(large.code, Some(1));
    assert!(large.out.contains("cut") && large.out.contains("not validated") && !large.out.contains("dce"), "{}", large.out);
    for part in ["error: to validate `cut`", "hint: smaller sizes show the same (--batch 3", "D 32"] {
        assert!(large.err.contains(part), "{}", large.err);
    }
    assert_eq!(large.err.matches("error:").count(), 1);
    check_refused(run(&["opt", "--validate", "--print-after-all"]), 2, &["--validate", "--print-after-all"], &["opt"]);
    check_refused(run(&["opt", "tanh_mlp", "-p", "jvp,jvp"]), 1, &["the output `d.prediction`", "hint: "], &["opt"]);
}

#[test]
fn lists_hold_what_the_flags_take() {
    let all = succeeds(&["list"]);
    for part in ["models", "localmixer", "tanh_mlp", "L/32/64", "17,335,796", "lg-fg-a", "cut, replicate, perturb", "transpose"] {
        assert!(all.contains(part), "`{part}` is not in:\n{all}");
    }
    let presets = succeeds(&["list", "presets"]);
    assert!(presets.starts_with("presets\n") && presets.contains("429,076") && !presets.contains("tanh_mlp"));
}

#[test]
fn devices_say_what_runs_here() {
    let text = succeeds(&["devices"]);
    let says = |name: &str, what: &str| {
        let mut words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        words.any(|w| w.first() == Some(&name) && w.get(1) == Some(&what))
    };
    assert!(says("cpu", "runs") && says("cuda", "no"), "{text}");
    let json: Value = serde_json::from_str(&succeeds(&["devices", "--json"])).unwrap();
    let runs: Vec<(&str, bool)> =
        json.as_array().unwrap().iter().map(|d| (d["backend"].as_str().unwrap(), d["runs"].as_bool().unwrap())).collect();
    let names: Vec<&str> = runs.iter().map(|r| r.0).collect();
    assert_eq!(names, ["eval", "cpu", "cuda-emu", "wgsl", "cuda"]);
    assert!(runs[0].1 && runs[1].1);
    // Each that does not run says what to do.
    let devices = json.as_array().unwrap();
    assert!(devices.iter().all(|d| d["runs"] == true || d["about"].as_str().unwrap().contains("hint: ")), "{json}");
}

#[test]
fn bench_gives_its_figures_as_json() {
    let json: Value =
        serde_json::from_str(&succeeds(&["bench", "--preset", "S/1/1", "--batch", "32", "--steps", "5", "--threads", "1", "--json"]))
            .unwrap();
    let text = |key: &str| json[key].as_str().unwrap_or_else(|| panic!("{key}: {json}")).to_string();
    assert_eq!(["model", "preset", "algorithm", "backend"].map(text), ["localmixer", "S/1/1", "lg-fg-a", "cpu"]);
    let number = |key: &str| json[key].as_f64().unwrap_or_else(|| panic!("{key}: {json}"));
    assert_eq!((number("batch"), number("threads"), number("steps")), (32.0, 1.0, 5.0));
    for key in [
        "ms_median",
        "images_per_s",
        "gflops",
        "gemm_peak_gflops",
        "share_of_peak",
        "planned_bytes",
        "memory_gbytes_per_s",
        "floor_gemm_ms",
        "floor_memory_ms",
    ] {
        assert!(number(key) > 0.0, "{key}: {json}");
    }
    assert!((number("images_per_s") - 32e3 / number("ms_median")).abs() < 1e-6 * number("images_per_s"));
    assert!((number("share_of_peak") - number("gflops") / number("gemm_peak_gflops")).abs() < 1e-9);
    if Path::new("/proc/self/clear_refs").exists() {
        // Parameters and their momentum are touched for the first time while it is measured.
        assert!(number("peak_bytes") > 2.0 * 4.0 * 271_892.0 * 0.9, "{json}");
    }
    let shown = succeeds(&["bench", "tanh_mlp", "--batch", "8", "--steps", "3"]);
    assert!(shown.contains("median of a step") && shown.contains("(3 steps"), "{shown}");
}

/// Both forms in one run, and what they cost, for each number of groups.
#[test]
fn bench_sets_all_algorithms_beside_one() {
    let sizes = ["--preset", "S/1/1", "--batch", "8", "--steps", "3", "--threads", "1"];
    let text = succeeds(&[&["bench", "--all", "--json"], &sizes[..]].concat());
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let rows = all["algorithms"].as_array().expect("a row for each");
    let names: Vec<_> = rows.iter().map(|r| r["algorithm"].as_str().unwrap()).collect();
    assert_eq!(names, Algorithm::ALL.map(Algorithm::name));
    assert!(rows.iter().all(|r| r["rounds"] == 3 && r["ms_median"].as_f64() > Some(0.0) && r["times"].as_f64() > Some(0.0)), "{text}");
    assert_eq!((&all["measured_by"], &all["batch"]), (&"lg-fg-a".into(), &8.into()));
    let shown = succeeds(&[&["bench", "--all"], &sizes[..]].concat());
    let head = "localmixer S/1/1, batch 8, cpu, in turns with lg-fg-a\nalgorithm  ms a step  times lg-fg-a  rounds\nbp  ";
    assert!(shown.starts_with(head), "{shown}");
    // Without local losses, the algorithms that need one are left out.
    let ran = run(&["bench", "--all", "tanh_mlp", "--batch", "8", "--steps", "3", "--threads", "1"]);
    assert!(ran.code == Some(0) && ran.out.starts_with("tanh_mlp, batch 8, cpu, in turns with fg-a\n"), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("\nbp ") && !ran.out.contains("\nlg-bp ") && ran.err.contains("lg-bp: not run: "), "{}{}", ran.out, ran.err);
    check_refused(run(&["bench", "--all", "--algorithm", "bp"]), 2, &["cannot be used with"], &["bench"]);
}

#[test]
fn bench_compares_losses_alone() {
    let sizes = ["--set", "patches=4", "--set", "channels=32", "--set", "classes=5", "--batch", "6", "--steps", "2", "--threads", "1"];
    let text = succeeds(&[&["bench", "--loss", "--groups", "1,8", "--json"], &sizes[..]].concat());
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["model"], &json["batch"], &json["rules"]), (&"cross_entropy".into(), &6.into(), &"relaxed".into()));
    let rows = json["rows"].as_array().unwrap();
    let kinds: Vec<_> = rows.iter().map(|r| (r["mode"].as_str().unwrap(), r["groups"].as_u64().unwrap())).collect();
    assert_eq!(kinds, [("forward", 1), ("reverse", 1), ("forward", 8), ("reverse", 8)]);
    for row in rows {
        let figure = |key: &str, when: &str| row[key][when].as_f64().unwrap_or_else(|| panic!("{key}.{when}: {row}"));
        let groups = row["groups"].as_f64().unwrap();
        // 2*N*P*G*C*K for the losses, as much for their tangents, or twice as much for the gradients of x and w.
        let times = if row["mode"] == "forward" { 2.0 } else { 3.0 };
        assert_eq!(figure("contraction_flops", "before"), times * 2.0 * 6.0 * 4.0 * groups * 32.0 * 5.0, "{row}");
        for key in ["contraction_flops", "flops", "largest_temporary_bytes", "peak_bytes", "bytes"] {
            assert!(figure(key, "after") <= figure(key, "before") && figure(key, "after") > 0.0, "{key}: {row}");
        }
        assert!(figure("ms", "before") > 0.0 && figure("ms", "after") > 0.0 && row["ratio"].as_f64() > Some(0.0));
        assert!(row["departs"].as_f64().is_some_and(|d| d < 1e-4) && row["rounds"] == 2, "{row}");
    }
    let shown = succeeds(&[&["bench", "--loss"], &sizes[..]].concat());
    assert!(shown.contains("the losses of cross_entropy alone, batch 6") && shown.matches("times faster (2 rounds in turns)").count() == 2);
    check_refused(run(&["bench", "--groups", "2"]), 2, &["--loss"], &["bench"]);
    check_refused(run(&["bench", "--loss", "--no-simplify"]), 2, &["cannot be used with"], &["bench"]);
    check_refused(run(&["bench", "--loss", "tanh_mlp"]), 1, &["marks no local loss", "hint: mark one"], &["bench"]);
    check_refused(run(&["bench", "--loss", "--groups", "7"]), 1, &["groups"], &["bench"]);
}

/// The last two lines are for scripts.
#[test]
fn conform_counts_and_fails() {
    let fixtures = format!("{}/tests/fixtures", env!("CARGO_MANIFEST_DIR"));
    let one = format!("{fixtures}/xent.safetensors");
    for backend in ["eval", "cpu"] {
        let out = succeeds(&["conform", &one, "--backend", backend]);
        assert!(out.ends_with("not covered: 0\n11 passed, 0 failed\n"), "{out}");
    }
    let missing = run(&["conform", &one, "/nowhere"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("`/nowhere` does not exist") && missing.err.contains("hint: "), "{}", missing.err);
    assert!(missing.out.contains("FAIL /nowhere: ") && missing.out.ends_with("11 passed, 1 failed\n"), "{}", missing.out);
    check_refused(run(&["conform"]), 2, &["<PATH>"], &["conform"]);
    check_refused(run(&["conform", &one, "--backend", "gpu"]), 2, &["no back end is called `gpu`", "eval, cpu"], &["conform"]);
    let tf32 = ["conform", &one, "--backend", "cpu", "--precision", "tf32"];
    check_refused(run(&tf32), 2, &["no tensor cores", "--backend cuda-emu"], &["conform"]);
    check_refused(run(&["conform", &one, "--dtype", "f16"]), 2, &["'--dtype <DTYPE>'", "f64, f32"], &["conform"]);
    for flags in [&["--rules", "exact"][..], &["--no-simplify"]] {
        assert!(succeeds(&[&["conform", &one], flags].concat()).ends_with("11 passed, 0 failed\n"), "{flags:?}");
    }
}

/// Every command that compiles a step takes them, and refuses the same things.
#[test]
fn simplify_can_be_told_what_to_do() {
    let naive = opt(&["--no-simplify"]);
    assert!(naive.contains("stop_gradient(") && naive.contains("activity") && !opt(&[]).contains("stop_gradient("), "{naive}");
    assert_eq!(opt(&["--rules", "RELAXED"]), opt(&[]));
    for command in ["train", "compile", "opt", "explain", "bench", "conform"] {
        let refused = |flags: &[&str], parts: &[&str]| {
            let args = [&[command, "x"], flags].concat();
            check_refused(run(&args), 2, parts, &args);
        };
        refused(&["--rules", "exct"], &["no set of rules is called `exct`: there are exact, relaxed; did you mean `exact`?"]);
        refused(&["--without", "flaten"], &["no rule is called `flaten`: there are ", "did you mean `flatten`?"]);
        refused(&["--no-simplify", "--rules", "exact"], &["'--no-simplify' cannot be used with", "--rules"]);
    }
}

#[test]
fn what_memory_cannot_hold_is_refused() {
    let refused = |args: &[&str], parts: &[&str]| check_refused(run(args), 1, parts, args);
    refused(&["bench", "--preset", "L/8/64", "--batch", "16777216", "--steps", "1"], &["no memory for", "hint: take a smaller --batch"]);
}

/// A reader that has gone is no error; a full disk is one.
#[test]
#[cfg(target_os = "linux")]
fn results_that_cannot_be_written() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for args in [&["list"][..], &["devices"], &["opt", "tanh_mlp"]] {
        let mut command = pushforward(args);
        let ran = Ran::of(command.stdout(full()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap());
        check_refused(ran, 1, &["cannot write to standard output", "hint: "], args);
        let mut child = pushforward(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let ran = Ran::of(child.wait_with_output().unwrap());
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn help_and_version() {
    for command in ["train", "compile", "opt", "explain", "conform", "bench", "experiment", "devices", "list"] {
        assert!(succeeds(&["--help"]).contains(command));
        assert!(succeeds(&[command, "--help"]).contains("Usage: pushforward"));
    }
    assert_eq!(succeeds(&["--version"]).trim(), format!("pushforward {}", env!("CARGO_PKG_VERSION")));
}
