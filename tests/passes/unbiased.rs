//! Estimates are unbiased, exactly and without statistics: with all one-hot directions on the direction axis, the mean over them times their
//! number is the expectation over standard normal noise. It equals LG-BP, or BP where no loss is local. A narrower reach must be caught.

use std::collections::HashMap;

use pushforward_ir::eval::{Inputs, Tensor};
use pushforward_ir::{DType, Op, Program};
use pushforward_passes::util::activities;
use pushforward_passes::{Algorithm, NoiseSource, Options, perturb, reach};

use crate::generality::models;
use crate::reach::WRONG;
use crate::support::{LOCALMIXER, Random, SMALL_MIXER, TANH_MLP, assert_near, evaluated, inlined, passed, tensors};

const BATCH: usize = 3;

#[test]
fn localmixer_in_expectation_is_lg_bp() {
    for norm in ["local", "ln", "bn"] {
        let program = mixer(norm);
        let inputs = tensors(&program, &mut Random::new(1));
        let exact = gradients(&exact(&program, Algorithm::LG_BP), &inputs);
        for prune in [true, false] {
            let expectation = expectation(&program, &inputs, prune, &reach::held);
            assert_near(&format!("norm {norm}, prune {prune}"), &expectation, &exact, 1e-9, 1e-12);
        }
        assert_trained(&exact);
    }
}

#[test]
fn tanh_mlp_in_expectation_is_bp() {
    let program = inlined(TANH_MLP, &[("outputs", "2")], BATCH, DType::F64);
    let inputs = tensors(&program, &mut Random::new(2));
    let exact = gradients(&exact(&program, Algorithm::BP), &inputs);
    assert_near("tanh_mlp", &expectation(&program, &inputs, true, &reach::held), &exact, 1e-9, 1e-12);
    assert_trained(&exact);
}

/// Reach with every norm taken for the identity is too narrow where a later norm spreads noise, and right where none does.
#[test]
fn a_narrower_reach_is_biased_and_seen_to_be() {
    // A sum of a power or of a mean keeps what it sums, as if x - mean(x) were x.
    let narrow = |p: &Program, v, s: &[Option<reach::Names>]| match p.op(v) {
        Op::Sum(_) => s[p.args(v)[0].0 as usize].clone(),
        Op::Contract(_) if p.args(v)[0] == p.args(v)[p.args(v).len() - 1] => s[p.args(v)[0].0 as usize].clone(),
        _ => reach::held(p, v, s),
    };
    for (norm, biased) in [("local", false), ("ln", true), ("bn", true)] {
        let program = mixer(norm);
        let inputs = tensors(&program, &mut Random::new(3));
        let exact = gradients(&exact(&program, Algorithm::LG_BP), &inputs);
        let narrow = expectation(&program, &inputs, true, &narrow);
        let right = |name: &String| narrow[name].close(&exact[name], 1e-9, 1e-12);
        let wrong: Vec<&String> = exact.keys().filter(|n| !right(n)).collect();
        assert_eq!(!wrong.is_empty(), biased, "norm {norm}: {wrong:?}");
    }
}

/// Token mixing reaches all groups by the norm and the contraction over channels after it. Taken for its own group alone, its weights are off,
/// and no other layer's are.
#[test]
fn a_token_that_kept_its_group_would_be_biased() {
    let kept = |p: &Program, v, s: &[Option<reach::Names>]| match p.op(v) {
        Op::Sum(_) | Op::Contract(_) => {
            let factors = p.args(v).iter().filter_map(|a| s[a.0 as usize].clone());
            factors.reduce(|l, r| l.into_iter().zip(r).map(|(l, r)| l & r).collect())
        }
        _ => reach::held(p, v, s),
    };
    let program = mixer("local");
    let inputs = tensors(&program, &mut Random::new(4));
    let exact = gradients(&exact(&program, Algorithm::LG_BP), &inputs);
    let wrong = expectation(&program, &inputs, true, &kept);
    for (name, expected) in &exact {
        assert_eq!(wrong[name].close(expected, 1e-9, 1e-12), *name != "grad.block1.token.w", "{name}");
    }
}

/// What brute force finds of a wrong arm, estimates show as well: on some model, their mean is not the gradient.
#[test]
fn every_wrong_arm_of_reach_biases_an_estimate() {
    let models: Vec<(Program, Inputs, HashMap<String, Tensor>)> = models()
        .into_iter()
        .map(|(_, text, sets)| {
            let program = inlined(&text, &sets, BATCH, DType::F64);
            let inputs = tensors(&program, &mut Random::new(6));
            let exact = gradients(&exact(&program, Algorithm::LG_BP), &inputs);
            (program, inputs, exact)
        })
        .collect();
    for (what, rule) in WRONG {
        let seen = models.iter().any(|(program, inputs, exact)| {
            let mean = expectation(program, inputs, true, &rule);
            exact.iter().any(|(name, expected)| !mean[name].close(expected, 1e-9, 1e-12))
        });
        assert!(seen, "no model shows this: {what}");
    }
}

#[test]
fn several_directions_are_the_mean_of_single_ones() {
    for norm in ["local", "bn"] {
        let program = mixer(norm);
        let mut random = Random::new(5);
        let together = estimator(&program, 3, true, &reach::held);
        let alone = estimator(&program, 1, true, &reach::held);
        let inputs = tensors(&together, &mut random);
        let mut mean: HashMap<String, Tensor> = HashMap::new();
        for k in 0..3 {
            let mut one = inputs.clone();
            for port in alone.inputs.iter().filter(|p| p.name.starts_with("anoise.")) {
                let all = &inputs[&port.name];
                let count = all.data.len() / 3;
                one.insert(
                    port.name.clone(),
                    Tensor::from_data(&alone.axes, DType::F64, &port.order, all.data[k * count..(k + 1) * count].to_vec()),
                );
            }
            for (name, tensor) in gradients(&alone, &one) {
                let zeros = Tensor { data: vec![0.0; tensor.data.len()], ..tensor.clone() };
                let sum = mean.entry(name).or_insert(zeros);
                sum.data.iter_mut().zip(&tensor.data).for_each(|(s, x)| *s += x / 3.0);
            }
        }
        assert_near(&format!("norm {norm}"), &gradients(&together, &inputs), &mean, 1e-12, 1e-14);
    }
}

fn mixer(norm: &str) -> Program {
    let sets: Vec<(&str, &str)> = SMALL_MIXER.iter().copied().chain([("norm", norm)]).collect();
    inlined(LOCALMIXER, &sets, BATCH, DType::F64)
}

pub fn exact(program: &Program, algorithm: Algorithm) -> Program {
    let names: Vec<&str> = algorithm.passes().iter().copied().filter(|&n| n != "update").collect();
    passed(program.clone(), &names, &Options::new(algorithm))
}

fn estimator(program: &Program, directions: usize, prune: bool, rule: &reach::Rule) -> Program {
    let options = Options { directions, prune, noise: NoiseSource::Given, ..Options::new(Algorithm::LG_FG_A) };
    let ready = passed(program.clone(), &["cut", "replicate"], &options);
    let perturbed = perturb::run_by(&ready, &options, rule).expect("the model can be perturbed");
    passed(perturbed, &["simplify", "dce"], &options)
}

/// The mean of the estimates over all noise.
pub fn expectation(program: &Program, inputs: &Inputs, prune: bool, rule: &reach::Rule) -> HashMap<String, Tensor> {
    let count = |v| program.axes.count(program.axes_of(v));
    let directions: usize = activities(program).into_iter().map(count).sum();
    let estimator = estimator(program, directions, prune, rule);
    let mut inputs = inputs.clone();
    let mut first = 0;
    for port in estimator.inputs.iter().filter(|p| p.name.starts_with("anoise.")) {
        let size: usize = estimator.shape(port)[1..].iter().product();
        let mut data = vec![0.0; directions * size];
        (0..size).for_each(|i| data[(first + i) * size + i] = 1.0);
        inputs.insert(port.name.clone(), Tensor::from_data(&estimator.axes, DType::F64, &port.order, data));
        first += size;
    }
    assert_eq!(first, directions, "each element of each activity is one direction");
    let mut gradients = gradients(&estimator, &inputs);
    for param in program.params.iter().filter(|p| !p.exact) {
        let estimate = gradients.get_mut(&format!("grad.{}", param.port.name)).expect("every parameter has one");
        estimate.data.iter_mut().for_each(|x| *x *= directions as f64);
    }
    gradients
}

pub fn gradients(program: &Program, inputs: &Inputs) -> HashMap<String, Tensor> {
    evaluated(program, inputs).into_iter().filter(|(n, _)| n.starts_with("grad.")).collect()
}

/// The comparison is not one of zeros.
fn assert_trained(gradients: &HashMap<String, Tensor>) {
    let weights: Vec<&Tensor> = gradients.iter().filter(|(n, _)| n.ends_with(".w")).map(|g| g.1).collect();
    assert!(weights.len() >= 2 && weights.iter().all(|w| w.max_abs() > 1e-6), "a weight has no gradient");
}
