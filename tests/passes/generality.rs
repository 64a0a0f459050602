//! Every algorithm on every model, LocalMixer being one of many: all passes run and are verified, the evaluator, the CPU and plans for devices agree
//! on every output of the step, and training lowers the loss. Models are files in `tests/corpus/models`; a new one is a new file.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use pushforward_ir::eval::{Inputs, Tensor};
use pushforward_ir::{DType, Program};
use pushforward_models::MODELS;
use pushforward_passes::update::{self, Rule};
use pushforward_passes::{Algorithm, NoiseSource, Options, perturb, reach};

use pushforward_plan::device::{Limits, Precision, Target};

use crate::support::{Random, SMALL_MIXER, TANH_MLP, assert_near, evaluated, inlined, on_cpu, on_threads, passed, suits, tensors};

const BATCH: usize = 5;

/// Sizes of the models that are built in, for tests; the two without layers have tests of their own.
const SMALL: &[(&str, &[(&str, &str)])] = &[
    ("localmixer", SMALL_MIXER),
    ("tanh_mlp", &[("outputs", "2")]),
    ("mlp", &[("height", "2"), ("width", "3"), ("hidden", "8"), ("groups", "2"), ("layers", "2"), ("classes", "3")]),
    ("residual_mlp", &[("height", "2"), ("width", "3"), ("hidden", "5"), ("blocks", "2"), ("classes", "3")]),
    (
        "mixer",
        &[
            ("height", "4"),
            ("width", "4"),
            ("grid", "2"),
            ("channels", "6"),
            ("groups", "2"),
            ("inner", "4"),
            ("blocks", "1"),
            ("classes", "3"),
        ],
    ),
    ("convnet", &[("height", "4"), ("width", "8"), ("colours", "2"), ("filters", "3"), ("classes", "3")]),
    ("attention", &[("height", "4"), ("width", "4"), ("grid", "2"), ("channels", "6"), ("heads", "2"), ("blocks", "1"), ("classes", "3")]),
];

/// Name, text, sizes.
pub fn models() -> Vec<(String, String, Vec<(&'static str, &'static str)>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/models");
    let mut models = Vec::new();
    for model in MODELS.iter().filter(|m| !["cross_entropy", "linear"].contains(&m.name)) {
        let sizes = SMALL.iter().find(|s| s.0 == model.name).unwrap_or_else(|| panic!("`{}` needs small sizes here", model.name)).1;
        models.push((model.name.into(), model.text.into(), sizes.to_vec()));
    }
    for entry in fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("a folder can be read").path();
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        models.push((name, fs::read_to_string(&path).expect("models are text"), Vec::new()));
    }
    models.sort();
    assert!(models.len() >= 13, "only {} models: the walker lost some", models.len());
    models
}

fn float(text: &str, sets: &[(&str, &str)], float: DType) -> Program {
    inlined(text, sets, BATCH, float)
}

#[test]
fn all_back_ends_agree_on_steps_of_all_models() {
    for (name, text, sets) in models() {
        let program = float(&text, &sets, DType::F32);
        for algorithm in Algorithm::ALL.into_iter().filter(|&a| suits(&program, a)) {
            for directions in if algorithm.is_estimate() { vec![1, 3] } else { vec![1] } {
                let options = Options { directions, report: true, ..Options::new(algorithm) };
                let step = passed(program.clone(), algorithm.passes(), &options);
                let inputs = tensors(&step, &mut Random::new(11));
                let what = format!("{name}, {}, {directions} directions", algorithm.name());
                let expected = evaluated(&step, &inputs);
                assert_near(&what, &on_cpu(&step, &inputs, true, 2), &expected, 2e-5, 2e-6);
                for target in [Target::cuda(Precision::Fp32), Target::webgpu(Limits::default())] {
                    assert_near(&format!("{what}, on threads"), &on_threads(&step, &inputs, &target), &expected, 2e-5, 2e-6);
                }
            }
        }
    }
}

/// The same step in f64 has the same passes, and a tolerance in which nothing can hide.
#[test]
fn all_back_ends_agree_in_f64() {
    for (name, text, sets) in models() {
        let program = float(&text, &sets, DType::F64);
        for algorithm in Algorithm::ALL.into_iter().filter(|&a| suits(&program, a)) {
            let step = passed(program.clone(), algorithm.passes(), &Options { noise: NoiseSource::Given, ..Options::new(algorithm) });
            let inputs = tensors(&step, &mut Random::new(12));
            let what = format!("{name}, {}", algorithm.name());
            let expected = evaluated(&step, &inputs);
            assert_near(&what, &on_cpu(&step, &inputs, true, 1), &expected, 1e-11, 1e-13);
            let threads = on_threads(&step, &inputs, &Target::cuda(Precision::Fp32));
            assert_near(&format!("{what}, on threads"), &threads, &expected, 1e-11, 1e-13);
        }
    }
}

/// In expectation, LG-FG-A is LG-BP on all of them; and BP where no loss is local, which is what FG-A makes of them.
#[test]
fn estimates_are_unbiased_on_all_models() {
    for (name, text, sets) in models() {
        let program = inlined(&text, &sets, 3, DType::F64);
        let inputs = tensors(&program, &mut Random::new(13));
        let exact = crate::unbiased::gradients(&crate::unbiased::exact(&program, Algorithm::LG_BP), &inputs);
        let expectation = crate::unbiased::expectation(&program, &inputs, true, &reach::held);
        assert_near(&name, &expectation, &exact, 1e-9, 1e-11);
        let mut global = program;
        global.losses.retain(|l| l.local.is_none());
        let exact = crate::unbiased::gradients(&crate::unbiased::exact(&global, Algorithm::BP), &inputs);
        let expectation = crate::unbiased::expectation(&global, &inputs, true, &reach::held);
        assert_near(&format!("{name}, no loss local"), &expectation, &exact, 1e-9, 1e-11);
    }
}

#[test]
fn a_step_of_bp_lowers_the_loss() {
    for (name, text, sets) in models() {
        let program = float(&text, &sets, DType::F64);
        let mut options = Options::new(Algorithm::BP);
        options.update = update::Settings { rule: Rule::Sgd { momentum: 0.0, nesterov: false }, weight_decay: 0.0, ..options.update };
        let step = passed(program.clone(), Algorithm::BP.passes(), &options);
        let mut inputs = tensors(&step, &mut Random::new(14));
        inputs.insert("lr".into(), Tensor::scalar(DType::F64, 0.01));
        let (before, next) = after(&step, &inputs, &program);
        let (last, _) = after(&step, &next, &program);
        assert!(last < before, "{name}: the loss went from {before} to {last}");
    }
}

/// The sum of the conventional losses, and what the next step starts from.
fn after(step: &Program, inputs: &Inputs, program: &Program) -> (f64, Inputs) {
    let out: HashMap<String, Tensor> = evaluated(step, inputs);
    let losses = program.losses.iter().filter(|l| l.local.is_none());
    let total = losses.map(|l| out[&l.name].item().expect("a loss is reported as a scalar")).sum();
    let mut next = inputs.clone();
    next.extend(out.into_iter().filter(|(n, _)| step.param(n).is_some()));
    (total, next)
}

#[test]
fn a_model_without_local_losses_is_left_as_it_is() {
    let program = inlined(TANH_MLP, &[], BATCH, DType::F32);
    let options = Options::new(Algorithm::LG_FG_A);
    let replicated = passed(program.clone(), &["replicate"], &options);
    assert_eq!(replicated.to_text(), program.to_text());
    assert!(perturb::run(&replicated, &options).is_ok());
}
