//! `experiment`: the files that it writes, and that what is counted in them is the same each time. What is measured is looked at only for being
//! there.

use std::collections::BTreeMap;
use std::fs;

use crate::{Place, refused, run, succeeds};

/// Rows of a CSV file, by the names in its head.
fn table(text: &str) -> Vec<BTreeMap<String, String>> {
    let mut lines = text.lines().map(|l| l.split(',').map(String::from).collect::<Vec<_>>());
    let head = lines.next().expect("a head");
    let rows = lines.map(|row| {
        assert_eq!(row.len(), head.len(), "{row:?}");
        head.iter().cloned().zip(row).collect()
    });
    rows.collect()
}

const SMALL: [&str; 9] = ["--set", "patches=4", "--set", "channels=16", "--batch", "3", "--steps", "1", "--threads=1"];

#[test]
fn fig5_is_a_table_and_a_figure() {
    let place = Place::new();
    let out = place.arg("out");
    let args = [&["experiment", "fig5", "--groups", "1,4", "-o", &out], &SMALL[..]].concat();
    let ran = run(&args);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{}", ran.err);
    assert!(ran.err.contains("forward, 4 groups: ") && ran.err.contains("fig5.csv, fig5.svg in `"), "{}", ran.err);
    assert_eq!(place.names("out"), ["fig5.csv", "fig5.svg"]);
    let rows = table(&fs::read_to_string(place.path("out/fig5.csv")).unwrap());
    let kinds: Vec<_> = rows.iter().map(|r| ["by", "mode", "groups", "form"].map(|k| r[k].clone()).join(" ")).collect();
    let expected = ["forward 1", "forward 4", "reverse 1", "reverse 4"];
    let expected = expected.iter().flat_map(|of| ["simplified", "written out"].map(|form| format!("pushforward {of} {form}")));
    // Sizes are not those that the reference was measured at, so it is not there.
    assert_eq!(kinds, expected.collect::<Vec<_>>());
    for pair in rows.chunks(2) {
        for key in ["flops", "contraction_flops", "made_bytes", "peak_bytes", "largest_temporary_bytes"] {
            let [after, before] = [0, 1].map(|i| pair[i][key].parse::<u64>().unwrap_or_else(|e| panic!("{key}: {e}")));
            assert!(after > 0 && after <= before, "{key}: {after} simplified, {before} written out");
        }
        if std::path::Path::new("/proc/self/clear_refs").exists() {
            assert!(pair.iter().all(|r| r["resident_bytes"].parse::<u64>().is_ok()), "{pair:?}");
        }
        assert!(pair.iter().all(|r| r["ms"].parse::<f64>().is_ok_and(|ms| ms > 0.0) && r["rounds"] == "1" && r["not_run"].is_empty()));
    }
    let svg = fs::read_to_string(place.path("out/fig5.svg")).unwrap();
    for part in ["Time, forward", "Temporaries and results, reverse", "written out", "N=3, P=4, C=16, K=10; 1 threads, relaxed rules"] {
        assert!(svg.contains(part), "`{part}` is not in the figure");
    }
    assert!(svg.starts_with("<svg ") && !svg.contains("JAX") && !svg.contains("NaN"));

    refused(&args, 1, &["out` is not empty", "hint: replace it with --force"]);
    fs::write(place.path("out/mine.txt"), "mine").unwrap();
    refused(&[&args[..], &["--force"]].concat(), 1, &["it holds `mine.txt`"]);
}

#[test]
fn ablation_leaves_out_one_thing_at_a_time() {
    let place = Place::new();
    let read = |out: &str, end: &str| fs::read_to_string(place.path(&format!("{out}/ablation.{end}"))).unwrap();
    let counted = |out: &str, more: &[&str]| {
        let to = place.arg(out);
        let args = ["experiment", "ablation", "--preset", "m/1/16", "--batch", "4", "--threads", "1", "-o", &to];
        succeeds(&[&args[..], more].concat());
        table(&read(out, "csv"))
    };
    let rows = counted("a", &["--most", "0"]);
    let variants: Vec<&str> = rows.iter().map(|r| r["variant"].as_str()).collect();
    assert_eq!(variants[..5], ["everything", "no simplify", "exact rules alone", "no pruning", "a mask of its own for noise"]);
    assert!(
        variants[5..].iter().all(|v| v.starts_with("without ")) && variants.contains(&"without masks"),
        "a row for each family: {variants:?}"
    );
    let figure = |row: usize, key: &str| rows[row][key].parse::<f64>().unwrap_or_else(|e| panic!("{key}: {e}"));
    for key in ["times_flops", "times_bytes"] {
        assert_eq!(figure(0, key), 1.0);
        assert!(figure(1, key) > 1.0, "without simplify there is more to do");
    }
    assert!(rows.iter().all(|r| r["ms"].is_empty() && r["not_run"] == "it takes more than 0 GFLOP (--most)" && r["preset"] == "M/1/16"));
    assert!(
        read("a", "md").contains("\nNot run, as it takes more than 0 GFLOP (--most): everything, no simplify, "),
        "{}",
        read("a", "md")
    );

    assert_eq!(place.names("a"), ["ablation.csv", "ablation.md", "ablation.svg"]);
    counted("b", &["--most", "0"]);
    for end in ["csv", "md", "svg"] {
        assert_eq!(read("a", end), read("b", end), "what is counted is the same each time");
    }
    assert!(read("a", "svg").contains("M/1/16, lg-fg-a, batch 4") && read("a", "svg").contains("a mask of its own for noise"));

    let timed = counted("c", &["--steps", "1", "--algorithm", "lg-bp"]);
    assert!(timed.iter().all(|r| r["ms"].parse::<f64>().is_ok_and(|ms| ms > 0.0) && r["times_ms"].parse::<f64>().is_ok()));
    assert!(read("c", "md").contains("| everything | "));
}

/// 102 points of 400 samples each, with their own standard errors. Five of these are allowed: squares of products of normal numbers have long
/// tails, so that standard errors from a few hundred samples are rough. Nothing is drawn anew from one run of the test to the next.
#[test]
fn fig8_lies_on_its_lines() {
    let place = Place::new();
    let ran = run(&["experiment", "fig8", "--samples", "400", "--threads", "1", "-o", &place.arg("out")]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{}", ran.err);
    assert_eq!(place.names("out"), ["fig8.csv", "fig8.svg"]);
    let rows = table(&fs::read_to_string(place.path("out/fig8.csv")).unwrap());
    assert_eq!(rows.len(), 2 * (7 + 5 + 5) * 3);
    let figure = |row: &BTreeMap<String, String>, key: &str| row[key].parse::<f64>().unwrap_or_else(|e| panic!("{key}: {e}"));
    for row in &rows {
        let off = (figure(row, "variance") - figure(row, "theory")) / figure(row, "standard_error");
        assert!(off.abs() < 5.0 && (off - figure(row, "standard_errors_off")).abs() < 0.01, "{row:?}");
        // Of at least one number, in units of its standard deviation.
        assert!(figure(row, "bias") < 4.0, "{row:?}");
        assert_eq!(row["noise_on"] == "the layer alone", row["theory"] == row["theory_layer_alone"], "{row:?}");
    }
    // What the figure is about: noise that the batch shares does not average out over it, and noise on activities does not mind inputs.
    let at = |noise: &str, estimator: &str, batch: &str, inputs: &str| {
        let found = |r: &&BTreeMap<String, String>| {
            (r["noise_on"].as_str(), r["estimator"].as_str(), r["batch"].as_str(), r["inputs"].as_str())
                == (noise, estimator, batch, inputs)
                && r["outputs"] == "4"
        };
        figure(rows.iter().find(found).expect("it is measured"), "variance")
    };
    for noise in ["the layer alone", "all layers"] {
        assert!(at(noise, "weights: shared noise", "4096", "4") > 10.0 * at(noise, "weights: independent noise", "4096", "4"));
        assert!(at(noise, "weights: independent noise", "16", "256") > 5.0 * at(noise, "weights: independent noise", "16", "4"));
        assert!(at(noise, "activities", "16", "256") < 2.0 * at(noise, "activities", "16", "4"));
    }
    let svg = fs::read_to_string(place.path("out/fig8.svg")).unwrap();
    for part in ["Noise on all layers", "batch N", "outputs q", "weights: shared noise", "400 samples each"] {
        assert!(svg.contains(part), "`{part}` is not in the figure");
    }
}

#[test]
fn table3_does_not_do_again_what_is_done() {
    let place = Place::with_images(300, 100);
    let (data, out) = (place.arg("data"), place.arg("out"));
    let args = |seeds: &'static str, epochs: &'static str| {
        let first = ["experiment", "table3", "--preset", "S/1/1", "--algorithm", "bp", "--algorithm", "dfa", "--threads", "1"];
        run(&[&first[..], &["--epochs", epochs, "--seeds", seeds, "--data", &data, "-o", &out]].concat())
    };
    let read = |file: &str| fs::read_to_string(place.path(&format!("out/{file}"))).unwrap();
    let ran = args("1", "2");
    assert_eq!((ran.code, ran.out.as_str()), (Some(0), ""), "{}", ran.err);
    assert_eq!(ran.err.matches("\nepoch ").count(), 4, "two epochs of two rows\n{}", ran.err);
    assert_eq!(place.names("out"), ["s-1-1-bp-0", "s-1-1-dfa-0", "table3.csv", "table3.md", "table3.svg"]);
    let checkpoint = fs::read(place.path("out/s-1-1-bp-0/checkpoint.safetensors")).unwrap();

    let ran = args("2", "2");
    assert_eq!(ran.err.matches("\nepoch ").count(), 4, "two epochs of the second seed alone\n{}", ran.err);
    assert!(ran.err.contains("S/1/1 bp, seed 1 (3 of 4)"), "{}", ran.err);
    assert_eq!(fs::read(place.path("out/s-1-1-bp-0/checkpoint.safetensors")).unwrap(), checkpoint);
    let rows = table(&read("table3.csv"));
    assert_eq!(rows.iter().map(|r| r["algorithm"].as_str()).collect::<Vec<_>>(), ["bp", "dfa"]);
    for row in &rows {
        // The mean and deviation of what the runs say themselves.
        let last = |seed: usize| {
            let metrics = table(&read(&format!("s-1-1-{}-{seed}/metrics.csv", row["algorithm"])));
            metrics[1]["test_error"].parse::<f64>().unwrap()
        };
        let (a, b) = (last(0), last(1));
        let near = |key: &str, x: f64| assert!((row[key].parse::<f64>().unwrap() - x).abs() < 1e-3, "{key}: {row:?}, not {x}");
        near("test_error", (a + b) / 2.0);
        near("test_deviation", (a - b).abs() / 2f64.sqrt());
        assert_eq!((row["seeds"].as_str(), row["epochs"].as_str()), ("2", "2"));
        // Of other data and fewer epochs, nothing is known.
        assert!(row["reference_test_error"].is_empty() && row["paper_test_error"].is_empty());
    }
    assert!(read("table3.md").contains("| S/1/1 | DFA | 2 | ") && read("table3.svg").contains("S/1/1"));

    let ran = args("1", "3");
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("S/1/1 bp, seed 0 (1 of 2): ") && ran.err.contains("epochs: `2` in the file, `3` here"), "{}", ran.err);

    // What one run cannot do leaves the others alone.
    fs::remove_dir_all(place.path("out/s-1-1-bp-0")).unwrap();
    fs::write(place.path("out/s-1-1-bp-0"), "mine").unwrap();
    let ran = args("2", "2");
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains("error: without S/1/1 bp, seed 0 (1 of 4)\n") && ran.err.contains("hint: what became of each"), "{}", ran.err);
    let rows = table(&read("table3.csv"));
    assert_eq!(rows.iter().map(|r| r["seeds"].as_str()).collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn wrong_requests() {
    refused(&["experiment", "fig8", "--samples", "1"], 2, &["two samples at least"]);
    refused(&["experiment", "table3", "--seeds", "0"], 2, &["at least one run"]);
    refused(&["experiment", "table3", "--epochs", "0"], 2, &["at least one epoch"]);
    refused(&["experiment", "table3", "--data", "no-such-folder"], 1, &["no-such-folder"]);
    refused(&["experiment", "table3", "--algorithm", "lgfg-a"], 2, &["did you mean `lg-fg-a`?"]);
    refused(&["experiment", "fig6"], 2, &["fig6"]);
    refused(&["experiment", "fig5", "--groups", "0"], 2, &["at least one group"]);
    refused(&["experiment", "fig5", "--groups", "7"], 1, &["groups"]);
    refused(&["experiment", "fig5", "--no-simplify"], 2, &["hint: leave --no-simplify out"]);
    refused(&["experiment", "ablation", "--preset", "M/1/61"], 2, &["did you mean `M/1/16`?"]);
}
