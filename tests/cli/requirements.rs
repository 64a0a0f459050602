//! What algorithms need of a model, and what is biased of them: refused with a reason, or warned of, on the command line.

use std::fs;

use crate::{Place, refused, run, succeeds};

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

/// A norm anywhere between an activity and its parameters is left out by `/ng`, however it is written; one before all of them is not.
#[test]
fn norms_behind_other_ops_are_seen() {
    let place = Place::new();
    let (model, out) = (place.arg("m.pf"), place.arg("out"));
    let warned = |layer: &str| {
        let text = format!(
            "pf 1\naxis N, C = 4;\nmodel m(x: f32[N, C], y: f32[N]) {{\n    axis E like C;\n    param w: f32[C, E] ~ normal(0.5);\n    \
             param gain: f32[C] = 1;\n    z = rename[E -> C](sum[C](x * w));\n    h = activity({layer});\n    \
             loss sum[C](h * h) - y;\n}}\nfn deviation(c) {{\n    sqrt(mean[C](c * c) + 0.001)\n}}\n"
        );
        fs::write(place.path("m.pf"), text).unwrap();
        let ran = run(&["compile", &model, "--algorithm", "fg-a", "--ng", "--batch", "4", "--force", "-o", &out]);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        ran.err.contains("leaves the Jacobian of the norm before it out")
    };
    assert!(warned("norm[C](z) * gain"));
    assert!(warned("z / deviation(z) + gain"));
    assert!(!warned("norm[C](x) * gain + z"));
}

/// Statements at places that are odd: what has a meaning compiles, what has none is refused in the model's own terms.
#[test]
fn odd_places_are_told_apart() {
    let place = Place::new();
    let (path, out) = (place.arg("odd.pf"), place.arg("out"));
    let write = |body: &str| {
        let text =
            format!("pf 1\naxis N, C = 3;\nmodel odd(x: f32[N, C]) {{\n    param w: f32[C] = 1;\n    y = activity(x * w);\n{body}\n}}\n");
        fs::write(place.path("odd.pf"), text).unwrap();
    };
    let compile =
        |algorithm: &'static str| ["compile", &path, "--algorithm", algorithm, "--batch", "4", "--force", "-o", &out].map(String::from);
    let compiles = |algorithm| {
        let args = compile(algorithm);
        succeeds(&args.each_ref().map(String::as_str));
    };
    let is_refused = |algorithm, parts: &[&str]| {
        let args = compile(algorithm);
        refused(&args.each_ref().map(String::as_str), 1, parts);
    };
    // An activity between a marked value and its loss, which the global loss needs as well.
    write("    v = activity(y * w);\n    local y along C { sum[C](v * v) }\n    loss sum[C](v);");
    ["bp", "l-bp", "lg-bp", "lg-fa"].into_iter().for_each(compiles);
    is_refused("lg-fg-a", &["the activity `activity1` belongs to the local loss `local0`", "odd.pf:6", "hint: take the activity out"]);
    // A local loss within another one: both have names of their own.
    write("    local y along C { local y along C { sum[C](y) } sum[C](y * y) }\n    loss sum[C](y);");
    compiles("lg-fg-a");
    // No loss at all: no algorithm that needs one is offered.
    write("    output y: f32[N, C] = y;");
    let args = compile("fg-a");
    let ran = run(&args.each_ref().map(String::as_str));
    assert!(ran.code == Some(1) && ran.err.contains("this model has none") && !ran.err.contains("lg-fg-a"), "{}", ran.err);
    // Examples made of other axes, behind weights that have noise of every example.
    write("    axis M like N;\n    z = rename[N -> M](x) * w;\n    loss sum[C](window[M = N + 1](z));");
    let args = compile("fg-w");
    let args = [&args.each_ref().map(String::as_str)[..], &["--noise-per-example"]].concat();
    refused(&args, 1, &["makes examples of what has noise of every example already", "odd.pf:8", "hint: leave --noise-per-example out"]);
}
