//! Every estimator on every model and under every norm has its gradient as its mean, exactly: the sum over all one-hot directions. What neglects
//! norms is seen to be biased where it is, and nowhere else; and what samples say agrees with what is exact.

use std::fs;
use std::path::Path;

use pushforward::estimator::{Request, Verification, verify};
use pushforward::{Algorithm, Model, Pool, Settings};
use pushforward_passes::algorithm::{Neglect, Signal};

const MIXER: [(&str, &str); 6] = [("height", "4"), ("width", "4"), ("grid", "2"), ("channels", "8"), ("groups", "2"), ("blocks", "2")];

fn settings(algorithm: Algorithm, sets: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::new(algorithm, 3);
    settings.sets = sets.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
    settings
}

fn exactly(model: &Model, settings: &Settings) -> Verification {
    let request = Request { samples: 0, exact_up_to: usize::MAX, seed: 3 };
    let found = verify(model, settings, &request, &Pool::new(1).unwrap(), &mut |_| {});
    found.unwrap_or_else(|e| panic!("{}, {}: {e}", model.name(), settings.passes.algorithm.name())).expect("it is an estimator")
}

/// The parameters whose expectation is not the gradient.
fn biased(found: &Verification) -> Vec<&str> {
    found.verdicts.iter().filter(|v| v.is_biased()).map(|v| v.parameter.as_str()).collect()
}

/// It was worth looking: most parameters have a gradient.
fn assert_telling(what: &str, found: &Verification) {
    let moved = found.verdicts.iter().filter(|v| v.gradient > 1e-6).count();
    assert!(moved * 2 >= found.verdicts.len() && moved > 0, "{what}: {moved} of {} parameters have a gradient", found.verdicts.len());
    assert!(found.verdicts.iter().all(|v| v.departure.is_some()));
}

#[test]
fn localmixer_is_unbiased_under_every_norm() {
    let model = Model::built_in("localmixer").unwrap().unwrap();
    for norm in ["local", "ln", "bn", "none"] {
        for algorithm in Algorithm::ALL.into_iter().filter(|a| a.is_estimate()) {
            for per_example in if algorithm.signal == Signal::Weights { vec![false, true] } else { vec![false] } {
                let mut settings = settings(algorithm, &[&MIXER[..], &[("norm", norm)]].concat());
                settings.passes.noise_per_example = per_example;
                let found = exactly(&model, &settings);
                let what = format!("norm {norm}, {}, noise per example: {per_example}", algorithm.name());
                assert_eq!(biased(&found), [""; 0], "{what}");
                assert_telling(&what, &found);
            }
        }
    }
}

/// The built-in models and those of the corpus, at sizes at which the noise has few elements.
#[test]
fn every_model_is_unbiased_or_warned_of() {
    let small: &[(&str, &[(&str, &str)])] = &[
        ("localmixer", &MIXER),
        ("tanh_mlp", &[("outputs", "2")]),
        ("mlp", &[("height", "2"), ("width", "3"), ("hidden", "8"), ("groups", "2"), ("layers", "2"), ("classes", "3")]),
        ("residual_mlp", &[("height", "2"), ("width", "3"), ("hidden", "5"), ("blocks", "2"), ("classes", "3")]),
        ("mixer", &[("height", "4"), ("width", "4"), ("grid", "2"), ("channels", "6"), ("groups", "2"), ("inner", "4"), ("blocks", "1")]),
        ("convnet", &[("height", "4"), ("width", "8"), ("colours", "2"), ("filters", "3"), ("classes", "3")]),
        ("attention", &[("height", "4"), ("width", "4"), ("grid", "2"), ("channels", "6"), ("heads", "2"), ("blocks", "1")]),
    ];
    let mut models: Vec<(Model, &[(&str, &str)])> =
        small.iter().map(|(name, sets)| (Model::built_in(name).expect("it is built in").unwrap(), *sets)).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/models");
    for entry in fs::read_dir(&folder).unwrap() {
        models.push((Model::read(&entry.unwrap().path()).unwrap(), &[]));
    }
    assert!(models.len() >= 14, "the folder has lost models");
    let mut compared = 0;
    let mut neglecting = 0;
    for (model, sets) in &models {
        for algorithm in Algorithm::every().filter(|a| a.is_estimate()) {
            for per_example in if algorithm.signal == Signal::Weights { vec![false, true] } else { vec![false] } {
                let mut settings = settings(algorithm, sets);
                settings.passes.noise_per_example = per_example;
                let program = model.inline(&settings.sets, settings.batch).unwrap().program;
                // Local losses are asked for where there are some.
                if model.check(&program, &settings).is_err() {
                    continue;
                }
                let found = exactly(model, &settings);
                let what = format!("{}, {}, noise per example: {per_example}", model.name(), algorithm.name());
                // Whatever neglects something is biased where the compiler says so beforehand, and nowhere else.
                let warned = !model.bias(&program, &settings).unwrap().is_empty();
                assert_eq!(!biased(&found).is_empty(), warned, "{what}: {:?}", biased(&found));
                assert!(!warned || algorithm.neglect != Neglect::Nothing, "{what}");
                assert_telling(&what, &found);
                compared += 1;
                neglecting += usize::from(warned);
            }
        }
    }
    assert!(compared >= 100 && neglecting >= 8, "{compared} estimators were looked at, {neglecting} biased");
}

/// A penalty on weights is of no example: noise that each example has of its own counts it once, not once for each.
#[test]
fn what_is_of_no_example_counts_once() {
    let text = "pf 1\naxis N, D = 3, E = 2;\nmodel m(x: f32[N, D], y: f32[N]) {\n    param w: f32[D, E] ~ normal(1);\n    \
                z = sum[E](tanh(sum[D](x * w)));\n    loss fit: (z - y) * (z - y);\n    loss penalty: sum[D, E](w * w);\n    \
                loss both: sum[N](z * z) + sum[D, E](w * w * w);\n}\n";
    let model = Model::parse("m.pf", text).unwrap();
    for (per_example, directions) in [(false, 1), (true, 1), (true, 3)] {
        let mut settings = settings(Algorithm::FG_W, &[]);
        settings.passes.noise_per_example = per_example;
        settings.passes.directions = directions;
        let request = Request { samples: 400, exact_up_to: 1000, seed: 3 };
        let found = verify(&model, &settings, &request, &Pool::new(1).unwrap(), &mut |_| {}).unwrap().unwrap();
        assert_eq!(biased(&found), [""; 0], "noise per example: {per_example}");
        let sampled = found.verdicts[0].sampled.expect("it is drawn");
        assert!(sampled.along.expect("there is a gradient").may_be(1.0), "{sampled:?}");
    }
}

/// `own` is right where reach through norms is no wider, by the fixtures' table; `ng` nowhere.
#[test]
fn what_neglects_norms_is_biased_where_it_should_be() {
    let model = Model::built_in("localmixer").unwrap().unwrap();
    let cases = [
        ("lg-fg-a/own", "local", false),
        ("lg-fg-a/own", "ln", true),
        ("lg-fg-a/own", "bn", true),
        ("fg-a/own", "local", false),
        ("fg-a/own", "ln", false),
        ("fg-a/own", "bn", true),
        ("lg-fg-w/own", "local", true),
        ("lg-fg-w/own", "ln", true),
        ("lg-fg-w/own", "bn", false),
        ("lg-fg-a/ng", "local", true),
        ("lg-fg-a/ng", "ln", true),
        ("lg-fg-a/ng", "bn", true),
        ("fg-a/ng", "local", true),
        ("fg-a/ng", "ln", true),
        ("fg-a/ng", "bn", true),
    ];
    for (name, norm, is_biased) in cases {
        let settings = settings(Algorithm::parse(name).unwrap(), &[&MIXER[..], &[("norm", norm)]].concat());
        let found = exactly(&model, &settings);
        assert_eq!(!biased(&found).is_empty(), is_biased, "{name}, norm {norm}: {:?}", biased(&found));
        // The compiler says so beforehand, and gives the reason.
        let program = model.inline(&settings.sets, settings.batch).unwrap().program;
        let warnings = model.bias(&program, &settings).unwrap();
        assert_eq!(!warnings.is_empty(), is_biased, "{name}, norm {norm}: {warnings:?}");
        assert!(warnings.iter().all(|w| w.message.contains("are biased: ") && w.place.is_some()), "{warnings:?}");
    }
}

/// Samples find no bias where there is none, and one where it is large.
#[test]
fn samples_agree_with_what_is_exact() {
    let model = Model::built_in("localmixer").unwrap().unwrap();
    for (name, norm, is_biased) in [("lg-fg-a", "bn", false), ("fg-w", "local", false), ("lg-fg-a/own", "bn", true)] {
        let settings = settings(Algorithm::parse(name).unwrap(), &[&MIXER[..], &[("norm", norm)]].concat());
        let request = Request { samples: 2000, exact_up_to: 0, seed: 3 };
        let found = verify(&model, &settings, &request, &Pool::new(2).unwrap(), &mut |_| {}).unwrap().unwrap();
        assert!(found.verdicts.iter().all(|v| v.departure.is_none() && v.sampled.is_some()));
        assert_eq!(!biased(&found).is_empty(), is_biased, "{name}, norm {norm}: {:?}", found.verdicts);
        assert!(found.verdicts.iter().all(|v| v.gradient < 1e-9 || v.sampled.unwrap().variance.value > 0.0));
    }
}
