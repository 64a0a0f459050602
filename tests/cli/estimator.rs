//! `verify-estimator`: what it says, and its exit code. That what it finds is right is for `tests/estimators.rs`.

use std::fs;

use crate::{Place, refused, run, succeeds};

/// A LocalMixer whose noise has few elements.
const SMALL: [&str; 14] = [
    "--set",
    "height=4",
    "--set",
    "width=4",
    "--set",
    "grid=2",
    "--set",
    "channels=8",
    "--set",
    "groups=2",
    "--set",
    "blocks=1",
    "--batch",
    "3",
];

#[test]
fn what_is_unbiased_succeeds() {
    let out = succeeds(&["verify-estimator", "tanh_mlp", "--batch", "3", "--samples", "40"]);
    assert!(out.contains("tanh_mlp, fg-a against bp: batch 3") && out.contains("layer1.w") && !out.contains("BIASED"), "{out}");
    assert!(out.trim_end().ends_with("its expectation is the gradient of bp for all 4 parameters"), "{out}");

    let out = succeeds(&["verify-estimator", "tanh_mlp", "--batch", "3", "--samples", "0", "--json"]);
    let found: serde_json::Value = serde_json::from_str(&out).expect("one JSON object");
    let parameters = found["parameters"].as_array().expect("a list");
    assert_eq!((parameters.len(), &found["exact"]), (4, &"bp".into()));
    assert!(parameters.iter().all(|p| p["biased"] == false && p["expectation_departure"].as_f64().expect("exact") < 1e-9), "{out}");
}

#[test]
fn what_is_biased_fails() {
    let args = [&["verify-estimator", "localmixer", "--algorithm", "lg-fg-a", "--own", "--set", "norm=bn", "--samples", "0"], &SMALL[..]];
    let ran = run(&args.concat());
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.out.contains("BIASED") && ran.out.contains("lg-fg-a/own is biased for "), "{}", ran.out);
}

#[test]
fn what_cannot_be_verified_is_refused() {
    let verify = |args: &[&str], code: i32, parts: &[&str]| refused(&[&["verify-estimator"], args].concat(), code, parts);
    verify(&["tanh_mlp", "--algorithm", "bp"], 2, &["`bp` draws no noise", "hint: there are fg-w"]);
    verify(&["tanh_mlp", "--samples", "10"], 2, &["fewer than 40 samples have no intervals", "hint: "]);
    verify(&["tanh_mlp", "--samples", "0", "--exact-up-to", "3"], 2, &["more than --exact-up-to 3, and --samples is 0", "hint: "]);
    verify(&["tanh_mlp", "--algorithm", "lg-fg-a"], 1, &["`lg-fg-a` learns from local losses", "hint: "]);

    // The logarithm of numbers of either sign.
    let place = Place::new();
    let text = "pf 1\naxis N, D = 4;\nmodel m(x: f32[N, D]) {\n    param w: f32[D] = 1;\n    z = activity(log(x) * w);\n    loss sum[D](z * z);\n}\n";
    fs::write(place.path("log.pf"), text).unwrap();
    let model = place.arg("log.pf");
    verify(&[&model], 1, &["the gradient of `w` by bp is not finite", "hint: "]);
    verify(&[&model, "--exact-up-to", "0"], 1, &["the gradient of `w` by bp is not finite", "hint: "]);
}
