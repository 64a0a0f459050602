//! `explain --prune`: what ReLUs make needless of a step, on the built-in data, on a user's, with the parameters of a run.

use serde_json::Value;

use crate::{Place, refused, succeeds};

const SMALL: [&str; 6] = ["--preset", "S/1/1", "--batch", "32", "--set", "channels=64"];

fn json(args: &[&str]) -> Value {
    let text = succeeds(&[&["explain", "localmixer", "--json", "--prune"], args].concat());
    let all: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    all["prune"].clone()
}

fn shut(prune: &Value, layer: usize) -> f64 {
    prune["step"]["layers"][layer]["shut"]["elements"].as_f64().unwrap_or_else(|| panic!("{prune}"))
}

#[test]
fn the_report_is_counted_and_measured() {
    let prune = json(&[&SMALL[..], &["--batches", "2"]].concat());
    assert_eq!(prune["share_masked"], 1.0);
    assert_eq!(prune["measured_on"], "64 training images of mnist-10k, parameters a start's");
    let layers = prune["step"]["layers"].as_array().expect("a list");
    assert_eq!(layers.iter().map(|l| l["name"].as_str().unwrap()).collect::<Vec<_>>(), ["block0.fc", "block0.group"]);
    for (i, layer) in layers.iter().enumerate() {
        assert!(layer["behind"]["draws"] == 32 * 64 && layer["masked"] == true && layer["why"].is_null(), "{layer}");
        // Normalised, so about as many above zero as below.
        assert!((0.3..0.7).contains(&shut(&prune, i)), "{layer}");
    }
    let needless = prune["needless"]["elements"]["draws"].as_f64().expect("measured");
    assert!((needless - (shut(&prune, 0) + shut(&prune, 1)) / 2.0).abs() < 1e-12, "{prune}");

    let text = succeeds(&[&["explain", "localmixer", "--prune", "--batches", "2"], &SMALL[..]].concat());
    let first = format!("{:.2} %", 100.0 * shut(&prune, 0));
    for part in ["A step draws 4,096 normal numbers; 100.00 % of them", "\nblock0.group  ", &first, "none of it left out"] {
        assert!(text.contains(part), "`{part}` is not in:\n{text}");
    }
    let other = succeeds(&[&["explain", "localmixer"], &SMALL[..]].concat());
    assert!(!other.contains("normal numbers"), "only where it is asked for");
}

#[test]
fn what_cannot_be_measured_is_counted_and_says_why() {
    let prune = json(&["--batch", "2"]);
    assert!(prune["measured_on"].is_null() && prune["needless"]["elements"].is_null(), "{prune}");
    let why = prune["not_measured"].as_str().expect("a reason");
    assert!(why.contains("28 x 28 x 1") && why.contains("takes 3072"), "{why}");
    assert_eq!(prune["step"]["layers"].as_array().map(Vec::len), Some(11));

    let text = succeeds(&["explain", "tanh_mlp", "--prune"]);
    assert!(text.contains("0.00 % of them stand before a ReLU") && text.contains("layer1: no noise is masked: `tanh` comes"), "{text}");
    assert!(text.contains("Not measured on data: `tanh_mlp` is no classifier"), "{text}");

    let text = succeeds(&[&["explain", "localmixer", "--prune", "--algorithm", "lg-bp"], &SMALL[..]].concat());
    assert!(text.contains("lg-bp draws no noise: there is nothing to prune"), "{text}");
    let prune = json(&[&SMALL[..], &["--no-prune", "--batches", "1"]].concat());
    assert_eq!((&prune["share_masked"], &prune["step"]["layers"][0]["why"]), (&0.0.into(), &"pruning is switched off".into()));
}

#[test]
fn data_and_parameters_may_be_a_users() {
    let place = Place::with_images(100, 10);
    let (data, run) = (place.arg("data"), place.arg("run"));
    let of = |args: &[&str]| json(&[&SMALL[..], &["--data", &data], args].concat());
    let start = of(&[]);
    assert_eq!(start["measured_on"], "96 training images of data, parameters a start's", "whole batches alone");
    succeeds(&[&["train"], &SMALL[..], &["--data", &data, "--epochs", "3", "--lr", "0.1", "-o", &run]].concat());
    let trained = of(&["--run", &run]);
    assert!(trained["measured_on"].as_str().is_some_and(|on| on.contains("those of `")), "{trained}");
    assert_ne!(shut(&start, 1), shut(&trained, 1), "it has learnt something");

    let args = |more: &[&'static str]| [&["explain", "localmixer", "--prune", "--preset", "S/1/1"], more].concat();
    let with_run = [&args(&[])[..], &["--run", &run]].concat();
    refused(&with_run, 1, &["has no `block0.fc.w` of shape", "hint: give the model and sizes of that run"]);
    refused(&args(&["--run", "/nowhere"]), 1, &["`/nowhere` holds no run", "hint: "]);
    refused(&args(&["--data", "/nowhere"]), 1, &["/nowhere", "hint: "]);
    refused(&[&["explain", "tanh_mlp", "--prune"], &["--data", &data][..]].concat(), 1, &["is no classifier", "hint: "]);
    refused(&[&args(&[])[..], &["--data", &data, "--batch", "200"]].concat(), 1, &["batch of 200 is larger", "hint: "]);
    refused(&["explain", "--data", "builtin"], 2, &["--prune"]);
    refused(&args(&["--batches", "0"]), 2, &["at least one batch"]);
}
