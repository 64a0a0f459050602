//! What algorithms need of a model, and what is biased of them: refused with a reason, or warned of, on the command line.

use std::fs;

use crate::{Place, refused, run};

const SMALL: [&str; 12] =
    ["--set", "height=4", "--set", "width=4", "--set", "grid=2", "--set", "channels=8", "--set", "groups=2", "--set", "blocks=2"];

fn small<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [args, &SMALL[..]].concat()
}

#[test]
fn what_an_algorithm_needs_is_asked_for() {
    let place = Place::new();
    let out = place.arg("out");
    let compile = |args: &[&'static str]| [&["compile"], args, &["--batch", "4", "-o"]].concat();
    let refused_with = |args: &[&'static str], parts: &[&str]| refused(&[&compile(args)[..], &[&out]].concat(), 1, parts);
    refused_with(
        &["tanh_mlp", "--algorithm", "lg-fg-w"],
        &["`lg-fg-w` learns from local losses, and this model marks none", "hint: ", "choose fg-w"],
    );
    refused_with(
        &["localmixer", "--set", "task=contrastive", "--algorithm", "fg-a"],
        &["`fg-a` learns from the global loss, and this model has none", "lg-fg-a"],
    );
    let one = ["compile", "localmixer", "--set", "norm=bn", "--batch", "1", "-o", &out];
    let ran = run(&one);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("the batch has one example") && ran.err.contains("hint: take more examples at once"), "{}", ran.err);

    let text = "pf 1\naxis N, A = 3, K = 2;\nmodel hidden(x: f32[N, A], y: i32[N]) {\n    param w: f32[A, K] ~ normal(0.5);\n    \
                loss cross_entropy[K](activity(sum[A](x * w)), y);\n}\n";
    fs::write(place.path("hidden.pf"), text).unwrap();
    let hidden = place.arg("hidden.pf");
    let dfa = ["compile", &hidden, "--algorithm", "dfa", "--batch", "4", "-o", &out];
    refused(&dfa, 1, &["direct feedback starts at the model's prediction", "hidden.pf:5", "hint: declare the prediction"]);
    fs::write(
        place.path("flat.pf"),
        "pf 1\naxis N, A = 3;\nmodel flat(x: f32[N, A], y: f32[N]) {\n    exact param w: f32[A] ~ normal(0.5);\n    \
         z = sum[A](activity(x) * w);\n    output z: f32[N] = z;\n    loss (z - y) * (z - y);\n}\n",
    )
    .unwrap();
    let flat = place.arg("flat.pf");
    let dfa = ["compile", &flat, "--algorithm", "dfa", "--batch", "4", "-o", &out];
    refused(&dfa, 1, &["no `activity` of this model stands behind a parameter", "hint: "]);
    assert!(!place.path("out").exists());

    refused(
        &["compile", "localmixer", "--algorithm", "fg-w", "--own", "-o", &out],
        2,
        &["--own: `fg-w` has no such variant", "lg-fg-w/own"],
    );
    refused(&["compile", "localmixer", "--noise-per-example", "-o", &out], 2, &["puts no noise on weights", "fg-w or lg-fg-w"]);
    refused(&["compile", "localmixer", "--algorithm", "bp/own", "-o", &out], 2, &["`bp` has no variant `own`", "lg-fg-a/own"]);
}

/// Labels whose parameters would pass for what a step keeps beside the model's own.
#[test]
fn names_that_a_step_gives_are_refused() {
    let place = Place::new();
    let (model, out) = (place.arg("taken.pf"), place.arg("out"));
    for (label, algorithm) in [("fa", "fa"), ("dfa", "dfa"), ("accumulated", "bp")] {
        let text = format!(
            "pf 1\naxis N, D = 4;\nmodel m(x: f32[N, D]) {{\n    y = {label}: layer(x);\n    output y: f32[N, D] = y;\n    loss sum[D](y * y);\n}}\n\
             fn layer(x) {{\n    param w: f32[D] = 1;\n    activity(x * w)\n}}\n"
        );
        fs::write(place.path("taken.pf"), text).unwrap();
        let told = format!("the parameter `{label}.w` has a name such as a step with `{algorithm}` gives");
        let args = ["compile", &model, "--algorithm", algorithm, "--batch", "4", "-o", &out];
        refused(&args, 1, &[&told, "taken.pf:9:11", "hint: let no label begin with"]);
    }
}

/// The warning names the value, the loss, the axes, and the place.
#[test]
fn a_biased_rule_is_warned_of() {
    let place = Place::new();
    let out = place.arg("out");
    let compile = |more: &[&'static str]| {
        let args = small(&[&["compile", "localmixer", "--batch", "2", "--force"], more].concat());
        let ran = run(&[&args[..], &["-o", &out]].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        ran.err
    };
    let warned = compile(&["--own", "--set", "norm=ln"]);
    for part in ["warning: ", "the activity `block1.fc` are biased", "of the loss `block1.loss`", "localmixer.pf:", "leave /own out"] {
        assert!(warned.contains(part), "`{part}` is not in: {warned}");
    }
    assert!(!warned.contains("`block1.group`"), "what keeps its own index is not biased: {warned}");
    assert!(!compile(&["--own"]).contains("biased"), "under local norm it is the same rule");
    assert!(compile(&["--ng"]).contains("leaves the Jacobian of the norm before it out"));
}
