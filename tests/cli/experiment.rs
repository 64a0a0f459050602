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

#[test]
fn wrong_requests() {
    refused(&["experiment", "fig6"], 2, &["fig6"]);
    refused(&["experiment", "fig5", "--groups", "0"], 2, &["at least one group"]);
    refused(&["experiment", "fig5", "--groups", "7"], 1, &["groups"]);
    refused(&["experiment", "fig5", "--no-simplify"], 2, &["hint: leave --no-simplify out"]);
    refused(&["experiment", "ablation", "--preset", "M/1/61"], 2, &["did you mean `M/1/16`?"]);
}
