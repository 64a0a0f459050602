//! `explain`: what it says of a step, for people and for machines, and that it says the same each time.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{refused, succeeds};

const SIZES: [&str; 16] = [
    "--set",
    "height=8",
    "--set",
    "width=8",
    "--set",
    "grid=4",
    "--set",
    "channels=32",
    "--set",
    "groups=8",
    "--set",
    "blocks=2",
    "--batch",
    "4",
    "--set",
    "norm=none",
];

fn explain(args: &[&str]) -> Value {
    let text = succeeds(&[&["explain", "localmixer", "--json"], &SIZES[..], args].concat());
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

fn figure(json: &Value, key: &str) -> [u64; 2] {
    ["before", "after"].map(|when| json[key][when].as_u64().unwrap_or_else(|| panic!("{key}.{when}: {json}")))
}

#[test]
fn a_step_before_and_after() {
    let json = explain(&[]);
    assert_eq!((&json["model"], &json["algorithm"], &json["rules"]), (&"localmixer".into(), &"lg-fg-a".into(), &"relaxed".into()));
    // Written out, two blocks' losses and their tangents: 2*N*P*G*C*K each, by equations 4 and 5.
    let [before, after] = figure(&json, "contraction_flops");
    let written_out = 4 * (2 * 4 * 16 * 8 * 32 * 10);
    assert!(before > written_out && before > after + written_out / 2, "{before} before, {after} after, {written_out} of the losses");
    for key in ["flops", "bytes", "largest_temporary_bytes"] {
        let [before, after] = figure(&json, key);
        assert!(before > after && after > 0, "{key}: {before} before, {after} after");
    }
    for key in ["nodes", "iterations", "largest", "regions", "distinct"] {
        assert!(json["egraph"][key].is_u64(), "{key}: {json}");
    }
    assert!(json["egraph"]["seconds"].as_f64().is_some_and(|s| s > 0.0), "{json}");
    assert!(json["notes"].is_array());
    for rewrite in json["rewrites"].as_array().expect("a list") {
        let place = rewrite["place"].as_str().unwrap_or("");
        assert!(rewrite["rule"].is_string() && rewrite["scope"].is_string() && rewrite["count"].as_u64() > Some(0), "{rewrite}");
        assert_eq!(place.split(':').count(), 3, "file, line and column: {rewrite}");
    }
}

#[test]
fn without_simplify_nothing_changes() {
    for args in [&["--no-simplify"][..], &["-p", "cut,replicate,perturb,dce"]] {
        let json = explain(args);
        for key in ["contraction_flops", "flops", "bytes", "largest_temporary_bytes"] {
            let [before, after] = figure(&json, key);
            assert_eq!(before, after, "{args:?} {key}");
        }
        assert_eq!(json["rewrites"].as_array().map(Vec::len), Some(0));
    }
    let [before, _] = figure(&explain(&[]), "contraction_flops");
    assert_eq!(figure(&explain(&["--no-simplify"]), "contraction_flops"), [before; 2]);
}

/// A rule that is left out makes no part of the result.
#[test]
fn rules_can_be_left_out() {
    let rules = |json: &Value| {
        let rewrites = json["rewrites"].as_array().expect("a list").clone();
        rewrites.iter().map(|r| r["rule"].as_str().expect("a name").to_string()).collect::<BTreeSet<_>>()
    };
    assert!(rules(&explain(&[])).contains("delta-sum"));
    let without = explain(&["--without", "delta-sum", "--without", "commute"]);
    assert_eq!(without["without"], serde_json::json!(["delta-sum", "commute"]));
    assert!(!rules(&without).contains("delta-sum") && !rules(&without).contains("commute") && rules(&without).contains("select-same"));
    assert!(figure(&without, "flops")[1] > figure(&explain(&[]), "flops")[1], "what is left out was worth something");
    let exact = explain(&["--rules", "exact"]);
    assert_eq!(exact["rules"], "exact");
    assert!(!rules(&exact).contains("mask-out"), "that law is one of real numbers");
}

#[test]
fn people_read_the_whole_step_first() {
    let args = [&["explain", "localmixer"], &SIZES[..]].concat();
    let text = succeeds(&args);
    let first = text.lines().next().unwrap_or("");
    assert!(first.starts_with("localmixer, lg-fg-a, batch 4, relaxed rules: ") && first.ends_with("without simplify"), "{first}");
    for part in ["FLOPs of contractions", "bytes read and written", "largest temporary", "e-graphs: ", "largest before: t"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    // All but the time is the same each time.
    let untimed = |text: &str| text.lines().filter(|l| !l.starts_with("e-graphs: ")).collect::<Vec<_>>().join("\n");
    for _ in 0..5 {
        assert_eq!(untimed(&succeeds(&args)), untimed(&text));
    }
    // Every preset's naive step can be counted, however large.
    let huge = succeeds(&["explain", "--preset", "L/32/64"]);
    assert!(huge.starts_with("localmixer L/32/64, lg-fg-a, batch "), "{huge}");
}

#[test]
fn wrong_requests() {
    refused(&["explain", "localmixer", "-p", "simplfy"], 2, &["no pass is called `simplfy`", "did you mean `simplify`?"]);
    refused(&["explain", "nowhere.pf"], 1, &["there is no file `nowhere.pf`", "hint: "]);
}

/// Every step of a proof names a rule of the table; it begins with the copies and ends with what is chosen.
#[test]
fn a_proof_is_a_chain_of_rules() {
    let proof = succeeds(&[&["explain", "localmixer", "--proof", "d.block0.loss"], &SIZES[..]].concat());
    let rules: BTreeSet<&str> = pushforward_passes::simplify::RULES.iter().map(|r| r.name).collect();
    let mut named = BTreeSet::new();
    for line in proof.lines().filter(|l| l.trim_start().starts_with("equals ")) {
        let by = line.rsplit_once("   by ").unwrap_or_else(|| panic!("a step without a rule: {line}")).1;
        // A step of the e-graph shows the equality itself, too.
        let by = by.split(", as ").next().expect("there is a first part");
        for rule in by.split(", ") {
            assert!(rules.contains(rule), "`{rule}` is no rule: {line}");
            named.insert(rule.to_string());
        }
    }
    for rule in ["drop-mark", "select-same", "delta-sum", "flatten", "factor", "order"] {
        assert!(named.contains(rule), "`{rule}` has no part in it: {named:?}");
    }
    assert!(proof.contains("delta[") && proof.contains("// chosen\n"), "{proof}");
    let (_, chosen) = proof.rsplit_once("// chosen\n").expect("it ends with the result");
    assert!(!chosen.contains("delta["), "copies are left:\n{chosen}");
    refused(&["explain", "localmixer", "--proof", "d.block0.los"], 2, &["no output has that name", "did you mean `d.block0.loss`?"]);
}

#[test]
fn a_drawing_is_a_graph() {
    let dot = succeeds(&[&["explain", "localmixer", "--dot"], &SIZES[..]].concat());
    assert!(dot.starts_with("digraph simplify {") && dot.trim_end().ends_with('}'));
    assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    assert!(dot.contains("subgraph cluster_0") && dot.contains(" -> ") && dot.contains("by "), "{dot}");
}

/// A loss of each patch alone, and the worst of them.
#[test]
fn what_the_copies_do_not_share_is_said() {
    let text = succeeds(&["explain", "tests/fusion/worst_patch_layer.pf", "--batch", "4", "--json"]);
    let json: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let notes = json["notes"].as_array().expect("a list");
    assert!(notes.iter().any(|n| n.as_str().is_some_and(|n| n.contains("`exp` is taken at each of P"))), "{notes:?}");
    let fused = explain(&[]);
    let shared = fused["notes"].as_array().expect("a list").iter().all(|n| n.as_str().is_some_and(|n| !n.contains("not shared")));
    assert!(shared, "{}", fused["notes"]);
}
