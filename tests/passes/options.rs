//! Every option of localmixer.pf: a setting says which losses and parameters there are, makes a step that all back ends agree on, and leaves the
//! estimate unbiased. Contrastive losses without stop-gradients are the hard ones: each query's loss moves with every example's features.

use std::collections::HashMap;

use pushforward_ir::eval::Tensor;
use pushforward_ir::{DType, LIBRARY, Program, parse};
use pushforward_passes::inline::{self, Bindings};
use pushforward_passes::{Algorithm, NoiseSource, Options, reach};
use pushforward_plan::device::{Limits, Precision, Target};

use crate::support::{LOCALMIXER, Random, assert_near, evaluated, inlined, on_cpu, on_threads, passed, tensors};
use crate::unbiased::{exact, expectation, gradients};

type Sets = Vec<(&'static str, &'static str)>;

const BATCH: usize = 3;

/// Two blocks, four patches, two groups of three channels: a local norm over two would leave nothing.
const SMALL: &[(&str, &str)] = &[
    ("height", "2"),
    ("width", "2"),
    ("colours", "3"),
    ("grid", "2"),
    ("channels", "6"),
    ("groups", "2"),
    ("blocks", "2"),
    ("classes", "3"),
];

const LOCALITIES: [&str; 3] = ["block", "layer", "end"];
const REPLICAS: [&str; 4] = ["patch_group", "patch", "group", "none"];
const NORMS: [&str; 4] = ["local", "ln", "bn", "none"];
const PLACES: [&str; 3] = ["both", "before", "after"];
const FORMS: [&str; 3] = ["simclr", "cos", "dot"];
const STOPS: [&str; 3] = ["both", "one", "none"];

/// Where norms stand: each kind at each place, and each before heads.
fn placements() -> Vec<Sets> {
    let layers = NORMS.into_iter().flat_map(|norm| PLACES.map(|place| vec![("norm", norm), ("place", place)]));
    layers.chain(NORMS.map(|norm| vec![("head_norm", norm)])).collect()
}

/// Where local losses stand, and how they are told apart.
fn localities() -> Vec<Sets> {
    LOCALITIES.into_iter().flat_map(|locality| REPLICAS.map(|replicas| vec![("locality", locality), ("replicas", replicas)])).collect()
}

/// Contrastive losses.
fn contrasts() -> Vec<Sets> {
    FORMS.into_iter().flat_map(|form| STOPS.map(|stop| vec![("task", "contrastive"), ("form", form), ("stop", stop)])).collect()
}

fn settings() -> Vec<Sets> {
    let mixed = [
        vec![("task", "contrastive"), ("norm", "bn"), ("stop", "none"), ("locality", "layer")],
        vec![("task", "contrastive"), ("form", "cos"), ("norm", "ln"), ("locality", "end"), ("replicas", "patch")],
        vec![("norm", "bn"), ("head_norm", "bn"), ("locality", "layer"), ("replicas", "group")],
    ];
    placements().into_iter().chain(localities()).chain(contrasts()).chain(mixed).collect()
}

fn model(sets: &Sets, float: DType) -> Program {
    let all: Sets = SMALL.iter().chain(sets).copied().collect();
    inlined(LOCALMIXER, &all, BATCH, float)
}

/// A model without a loss for the whole of it has nothing to propagate back through the whole of it.
fn algorithms(sets: &Sets) -> Vec<Algorithm> {
    let contrastive = sets.contains(&("task", "contrastive"));
    [Algorithm::BP, Algorithm::LG_BP, Algorithm::LG_FG_A].into_iter().filter(|a| a.is_local() || !contrastive).collect()
}

#[test]
fn every_setting_has_a_step_that_all_back_ends_agree_on() {
    for sets in settings() {
        let options = Options { noise: NoiseSource::Given, ..Options::new(Algorithm::LG_FG_A) };
        let step = passed(model(&sets, DType::F64), Algorithm::LG_FG_A.passes(), &options);
        let inputs = tensors(&step, &mut Random::new(21));
        let (what, expected) = (format!("{sets:?}"), evaluated(&step, &inputs));
        assert!(expected.values().flat_map(|t| &t.data).all(|x| x.is_finite()), "{what}");
        assert_near(&what, &on_cpu(&step, &inputs, true, 1), &expected, 1e-10, 1e-12);
        assert_near(&what, &on_threads(&step, &inputs, &Target::cuda(Precision::Fp32)), &expected, 1e-10, 1e-12);
    }
}

/// For the target with the narrowest limits.
#[test]
fn every_setting_has_plans_of_exact_gradients_and_estimates() {
    for sets in settings() {
        let program = model(&sets, DType::F32);
        for algorithm in algorithms(&sets) {
            let step = passed(program.clone(), algorithm.passes(), &Options::new(algorithm));
            let plan = pushforward_plan::device::lower(&step, &Target::webgpu(Limits::default()));
            assert!(plan.is_ok_and(|plan| pushforward_plan::device::verify::verify(&plan).is_empty()), "{sets:?}, {}", algorithm.name());
        }
    }
}

#[test]
fn estimates_are_unbiased_in_every_setting() {
    for sets in settings() {
        let program = model(&sets, DType::F64);
        let inputs = tensors(&program, &mut Random::new(22));
        let exact = gradients(&exact(&program, Algorithm::LG_BP), &inputs);
        let weights: Vec<&Tensor> = exact.iter().filter(|(n, _)| n.ends_with(".w") && *n != "grad.cls.w").map(|g| g.1).collect();
        // Not a comparison of zeros.
        assert!(weights.len() > 5 && weights.iter().all(|w| w.max_abs() > 1e-7), "{sets:?}: a weight has no gradient");
        assert_near(&format!("{sets:?}"), &expectation(&program, &inputs, true, &reach::held), &exact, 1e-9, 1e-11);
    }
}

/// A join that holds what any of its operands holds: harmless where banks are held still, and wrong where one of them moves.
#[test]
fn a_bank_that_moves_spreads_noise_over_examples() {
    let any = |p: &Program, v, s: &[Option<reach::Names>]| {
        let right = reach::held(p, v, s)?;
        let operands = p.args(v).iter().filter_map(|a| s[a.0 as usize].clone());
        match p.op(v) {
            pushforward_ir::Op::Contract(over) => {
                let all = operands.reduce(|l, r| l.into_iter().zip(r).map(|(l, r)| l | r).collect())?;
                Some(all.into_iter().map(|h| h - *over).collect())
            }
            _ => Some(right),
        }
    };
    for (stop, biased) in [("both", false), ("one", true), ("none", true)] {
        let program = model(&vec![("task", "contrastive"), ("form", "dot"), ("stop", stop)], DType::F64);
        let simclr = model(&vec![("task", "contrastive"), ("stop", stop)], DType::F64);
        // The one view whose candidates `one` holds still is the one that is asked for in the one-sided forms.
        for (program, biased) in [(program, biased && stop == "none"), (simclr, biased)] {
            let inputs = tensors(&program, &mut Random::new(23));
            let exact = gradients(&exact(&program, Algorithm::LG_BP), &inputs);
            let wrong = expectation(&program, &inputs, true, &any);
            let off = exact.keys().any(|name| !wrong[name].close(&exact[name], 1e-9, 1e-11));
            assert_eq!(off, biased, "stop {stop}");
        }
    }
}

/// Names of losses, and of parameters that are marked exact.
fn marks(sets: &Sets) -> (Vec<String>, Vec<String>) {
    let program = model(sets, DType::F32);
    let exact = program.params.iter().filter(|p| p.exact).map(|p| p.port.name.clone());
    (program.losses.iter().map(|l| l.name.clone()).collect(), exact.filter(|n| n.ends_with(".w")).collect())
}

#[test]
fn losses_stand_where_locality_says() {
    let layers = ["block0.fc", "block0.group", "block1.token", "block1.fc", "block1.group"];
    let (losses, heads) = marks(&vec![]);
    assert_eq!((losses, heads), (names(&["block0.loss", "block1.loss", "loss"]), names(&["head0.w", "head1.w", "cls.w"])));
    let (losses, heads) = marks(&vec![("locality", "layer")]);
    assert_eq!(losses, layers.iter().map(|l| format!("{l}.loss")).chain(["loss".to_string()]).collect::<Vec<_>>());
    assert_eq!(heads, layers.iter().map(|l| format!("{l}.head.w")).chain(["cls.w".to_string()]).collect::<Vec<_>>());
    let (losses, heads) = marks(&vec![("locality", "end")]);
    assert_eq!((losses, heads), (names(&["end.loss", "loss"]), names(&["head.w", "cls.w"])));
    let (losses, heads) = marks(&vec![("task", "contrastive")]);
    assert_eq!((losses, heads), (names(&["block0.loss", "block1.loss"]), names(&["head0.w", "head1.w"])));
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|n| n.to_string()).collect()
}

/// How a loss is told apart changes no gradient of LG-BP, and the axes of the copies.
#[test]
fn replicas_have_the_axes_that_they_are_told_apart_by() {
    let mut before: Option<HashMap<String, Tensor>> = None;
    for (replicas, along) in [("patch_group", "N Y X G"), ("patch", "N Y X"), ("group", "N G"), ("none", "N")] {
        let program = model(&vec![("replicas", replicas)], DType::F64);
        let inputs = tensors(&program, &mut Random::new(24));
        let exact = gradients(&exact(&program, Algorithm::LG_BP), &inputs);
        if let Some(before) = &before {
            assert_near(replicas, &exact, before, 1e-12, 1e-14);
        }
        before = Some(exact);
        let ready = passed(program, &["cut", "replicate"], &Options::new(Algorithm::LG_FG_A));
        let copies = ready.losses[0].local.as_ref().and_then(|l| l.copies).expect("replicated");
        let axes: Vec<&str> = ready.axes.in_order(ready.axes_of(copies)).into_iter().map(|a| ready.axes[a].name.as_str()).collect();
        assert_eq!(axes.join(" "), along, "{replicas}");
    }
}

/// What a trainer shows and a probe takes can be asked for by name; views come first.
#[test]
fn contrastive_models_have_losses_and_features_to_ask_for() {
    let sets = SMALL.iter().map(|(n, v)| (n.to_string(), v.to_string())).chain([("task".into(), "contrastive".into())]).collect();
    let bindings = Bindings { sets, batch: Some(BATCH), results: names(&["block1.loss", "features"]), ..Bindings::default() };
    let (library, module) = (parse::parse(LIBRARY, 1).expect("it parses"), parse::parse(LOCALMIXER, 0).expect("it parses"));
    let program = inline::run(&[&library], &module, &bindings).expect("it inlines").program;
    let shape = |name: &str| program.shape(&program.output(name).expect(name).port);
    assert_eq!(program.shape(&program.inputs[0]), [2, BATCH, 2, 1, 2, 1, 3]);
    assert_eq!((shape("block1.loss"), shape("features")), (vec![2, BATCH], vec![2, BATCH, 2, 3]));
    let inputs = tensors(&program, &mut Random::new(25));
    let (loss, features) = {
        let out = evaluated(&program, &inputs);
        (out["block1.loss"].clone(), out["features"].clone())
    };
    // Five other candidates: chance is log(5), and products of unit vectors stay between -1 and 1.
    assert!(loss.data.iter().all(|x| (x - 5f64.ln()).abs() <= 4.0) && loss.max_abs() > 0.1, "{loss:?}");
    let mean = |row: &[f64]| row.iter().sum::<f64>() / row.len() as f64;
    assert!(features.data.chunks(6).all(|row| mean(row).abs() < 1e-6), "features are normalised");
}

/// The one-sided forms ask once for every example: what the second view's loss is not, the first view's is twice.
#[test]
fn one_sided_losses_are_means_over_queries() {
    for form in ["cos", "dot"] {
        let program = model(&vec![("task", "contrastive"), ("form", form)], DType::F64);
        let mut out = program.clone();
        let loss = program.losses[0].value;
        let port =
            pushforward_ir::program::Port { name: "l".into(), dtype: DType::F64, order: program.axes.in_order(program.axes_of(loss)) };
        out.outputs.push(pushforward_ir::program::Output { port, value: loss });
        let l = &evaluated(&out, &tensors(&program, &mut Random::new(26)))["l"];
        assert!(l.data[..BATCH].iter().all(|x| *x > 0.0) && l.data[BATCH..].iter().all(|x| *x == 0.0), "{form}: {l:?}");
    }
}

/// What lacks a norm is said, once, and is no error; what stands has nothing said of it.
#[test]
fn placements_without_a_norm_are_warned_of() {
    let warned = |sets: &[(&str, &str)]| {
        let sets = SMALL.iter().chain(sets).map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let bindings = Bindings { sets, batch: Some(BATCH), ..Bindings::default() };
        let (library, module) = (parse::parse(LIBRARY, 1).expect("it parses"), parse::parse(LOCALMIXER, 0).expect("it parses"));
        let inlined = inline::run(&[&library], &module, &bindings).expect("it inlines");
        inlined.warnings.into_iter().map(|w| w.message).collect::<Vec<_>>()
    };
    for (sets, parts) in [
        (vec![], vec![]),
        (vec![("place", "after"), ("norm", "bn"), ("head_norm", "ln")], vec![]),
        (vec![("place", "before")], vec!["activities are not normalised"]),
        (vec![("norm", "none")], vec!["no layer is normalised"]),
        (vec![("norm", "none"), ("head_norm", "none")], vec!["no layer is normalised", "what local losses"]),
    ] {
        let messages = warned(&sets);
        let fits = messages.len() == parts.len() && messages.iter().zip(&parts).all(|(m, part)| m.contains(part));
        assert!(fits, "{sets:?}: {messages:?}");
    }
}

/// Sums, means and maxima over the empty tuple are what they are over an axis of one element, and so is a norm: nothing is left.
#[test]
fn the_empty_tuple_has_one_element() {
    let text = "pf 1\noption views = none | one;\naxis N, A = 2, V = match views { none => (), one => 1 };\n\
                model m(x: f32[N, A]) {\n\
                output sum: f32[N, A] = sum[V](x);\n output product: f32[N] = sum[A](sum[V](x * x));\n\
                output both: f32[N] = max[V, A](x);\n output mean: f32[N, A] = mean[V](x) * size(V);\n\
                output norm: f32[N, A] = norm[V](x);\n output same: f32[N] = sum[A](select(delta[V, V](), x, 0));\n}\n";
    let program = inlined(text, &[], BATCH, DType::F64);
    let inputs = tensors(&program, &mut Random::new(27));
    let (x, out) = (&inputs["x"], evaluated(&program, &inputs));
    let rows = |f: &dyn Fn(&[f64]) -> f64| x.data.chunks(2).map(f).collect::<Vec<_>>();
    assert_eq!((&out["sum"].data, &out["mean"].data), (&x.data, &x.data));
    assert_eq!(out["product"].data, rows(&|r| r[0] * r[0] + r[1] * r[1]));
    assert_eq!(out["both"].data, rows(&|r| r[0].max(r[1])));
    assert_eq!(out["same"].data, rows(&|r| r[0] + r[1]));
    assert!(out["norm"].data.iter().all(|&y| y == 0.0));
}
