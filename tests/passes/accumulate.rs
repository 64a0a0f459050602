//! A step in pieces is the step: for every algorithm on every model whose examples do not see each other, with the noise of the whole batch,
//! on the evaluator, the CPU and plans for devices. And where examples do see each other, that is found.

use std::collections::HashMap;

use pushforward_ir::eval::{Inputs, Tensor};
use pushforward_ir::program::Port;
use pushforward_ir::{DType, Program};
use pushforward_passes::accumulate::{self, ACCUMULATED, ROW, SHARE, apply, mixing};
use pushforward_passes::update::{Decay, Factor, Pattern, Rule, Settings};
use pushforward_passes::{Algorithm, Options};
use pushforward_plan::device::{Precision, Target};

use crate::generality::models;
use crate::support::{LOCALMIXER, Random, SMALL_MIXER, TANH_MLP, assert_near, evaluated, inlined, on_cpu, on_threads, passed, tensors};

const BATCH: usize = 5;

type Run<'a> = &'a dyn Fn(&Program, &Inputs) -> HashMap<String, Tensor>;

/// The rows of a tensor that has them, or the tensor.
fn rows(program: &Program, port: &Port, whole: &Tensor, first: usize, count: usize) -> Tensor {
    let Some(at) = port.order.iter().position(|a| Some(*a) == program.batch) else { return whole.clone() };
    let (outer, inner) = (whole.shape[..at].iter().product::<usize>(), whole.shape[at + 1..].iter().product::<usize>());
    let n = whole.shape[at];
    let data = (0..outer).flat_map(|o| whole.data[(o * n + first) * inner..(o * n + first + count) * inner].to_vec()).collect();
    let shape = whole.shape.iter().enumerate().map(|(i, &size)| if i == at { count } else { size }).collect();
    Tensor::new(whole.dtype, whole.order.clone(), shape, data)
}

/// All parameters after one step in pieces of those sizes.
fn in_pieces(of: &dyn Fn(usize) -> Program, pieces: &[usize], options: &Options, inputs: &Inputs, once: Run) -> HashMap<String, Tensor> {
    let passes: Vec<&str> = options.algorithm.passes().iter().map(|&p| if p == "update" { "accumulate" } else { p }).collect();
    let mut tensors = inputs.clone();
    let whole: usize = pieces.iter().sum();
    let last = apply(&of(whole), options).expect("it is applied");
    assert!(pushforward_ir::verify::verify(&last).is_empty());
    for Port { name, dtype, order } in last.params.iter().map(|p| &p.port) {
        tensors.entry(name.clone()).or_insert_with(|| Tensor::from_fn(&last.axes, *dtype, order, |_| 0.0));
    }
    let mut first = 0;
    for &count in pieces {
        let program = passed(of(count), &passes, options);
        let mut given = tensors.clone();
        for port in &program.inputs {
            let value = match port.name.as_str() {
                SHARE => Tensor::scalar(port.dtype, count as f64 / whole as f64),
                ROW => Tensor::scalar(port.dtype, first as f64),
                name => rows(&program, port, &inputs[name], first, count),
            };
            given.insert(port.name.clone(), value);
        }
        let out = once(&program, &given);
        tensors.extend(out.into_iter().filter(|(name, _)| name.starts_with(ACCUMULATED)));
        first += count;
    }
    let out = once(&last, &tensors);
    for (name, sum) in out.iter().filter(|(name, _)| name.starts_with(ACCUMULATED)) {
        assert!(sum.data.iter().all(|x| *x == 0.0), "{name} is not cleared");
    }
    out.into_iter().filter(|(name, _)| !name.starts_with(ACCUMULATED)).collect()
}

fn check(what: &str, of: &dyn Fn(usize) -> Program, options: &Options, ways: &[(&str, Run)], relative: f64, absolute: f64) {
    let step = passed(of(BATCH), options.algorithm.passes(), options);
    let inputs = tensors(&step, &mut Random::new(71));
    let expected: HashMap<_, _> = evaluated(&step, &inputs).into_iter().filter(|(name, _)| step.param(name).is_some()).collect();
    for pieces in [&[5][..], &[2, 2, 1], &[1, 3, 1]] {
        for (name, once) in ways {
            let got = in_pieces(of, pieces, options, &inputs, once);
            assert_near(&format!("{what}, {pieces:?} on {name}"), &got, &expected, relative, absolute);
            assert_eq!(got.len(), expected.len(), "{what}");
        }
    }
}

fn adamw() -> Settings {
    let factors = vec![Factor { pattern: Pattern::new("*.b").expect("a pattern"), factor: 0.5 }];
    Settings { rule: Rule::AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-3 }, decay: Decay::All, factors, ..Settings::default() }
}

#[test]
fn a_step_in_pieces_is_the_step() {
    let mut checked = 0;
    for (name, text, sets) in models() {
        let of = |batch| inlined(&text, &sets, batch, DType::F64);
        if mixing(&of(BATCH), &Options::new(Algorithm::BP)).is_some() {
            continue;
        }
        for algorithm in [Algorithm::BP, Algorithm::LG_BP, Algorithm::LG_FG_A] {
            for directions in if algorithm == Algorithm::LG_FG_A { vec![1, 3] } else { vec![1] } {
                let options = Options { directions, ..Options::new(algorithm) };
                check(&format!("{name}, {}", algorithm.name()), &of, &options, &[("the evaluator", &evaluated)], 1e-11, 1e-13);
                checked += 1;
            }
        }
    }
    assert!(checked >= 12, "only {checked}");
}

#[test]
fn every_back_end_takes_pieces() {
    let of = |batch| inlined(LOCALMIXER, SMALL_MIXER, batch, DType::F64);
    let options = Options { update: adamw(), ..Options::new(Algorithm::LG_FG_A) };
    let cuda = Target::cuda(Precision::Fp32);
    let ways: [(&str, Run); 2] = [("the CPU", &|p, x| on_cpu(p, x, true, 2)), ("threads", &|p, x| on_threads(p, x, &cuda))];
    check("localmixer", &of, &options, &ways, 1e-10, 1e-12);
    for algorithm in [Algorithm::FG_W, Algorithm::FG_A] {
        let per_example = algorithm == Algorithm::FG_W;
        let of = |batch| inlined(TANH_MLP, &[("outputs", "2")], batch, DType::F64);
        let options = Options { directions: 2, noise_per_example: per_example, ..Options::new(algorithm) };
        check(algorithm.name(), &of, &options, &ways, 1e-10, 1e-12);
    }
}

/// A mutation of the pass: without rows, every piece would draw the noise of the first.
#[test]
fn rows_matter() {
    let of = |batch| inlined(LOCALMIXER, SMALL_MIXER, batch, DType::F64);
    let options = Options::new(Algorithm::LG_FG_A);
    let step = passed(of(BATCH), options.algorithm.passes(), &options);
    let inputs = tensors(&step, &mut Random::new(72));
    let expected = evaluated(&step, &inputs);
    let blind = |program: &Program, inputs: &Inputs| {
        let mut inputs = inputs.clone();
        inputs.insert(ROW.into(), Tensor::scalar(DType::I32, 0.0));
        evaluated(program, &inputs)
    };
    let got = in_pieces(&of, &[2, 3], &options, &inputs, &blind);
    assert!(!got["block0.fc.w"].close(&expected["block0.fc.w"], 1e-3, 0.0));
}

#[test]
fn examples_that_see_each_other_are_found() {
    let plain = Options::new(Algorithm::FG_W);
    for (norm, sees) in [("local", false), ("ln", false), ("none", false), ("bn", true)] {
        let sets: Vec<(&str, &str)> = SMALL_MIXER.iter().copied().chain([("norm", norm)]).collect();
        let warning = mixing(&inlined(LOCALMIXER, &sets, BATCH, DType::F32), &plain);
        assert_eq!(warning.is_some(), sees, "{norm}: {warning:?}");
        assert!(warning.is_none_or(|w| w.message.contains("`sum` over N") && w.place.is_some()));
    }
    assert!(mixing(&inlined(TANH_MLP, &[], BATCH, DType::F32), &plain).is_none());
    let contrast = "pf 1\naxis N, M like N, C = 3;\nmodel m(x: f32[N, C]) {\n    param w: f32[C] = 1;\n    z = x * w;\n    \
                    loss sum[M, C](z * rename[N -> M](z));\n}\n";
    let warning = mixing(&inlined(contrast, &[], BATCH, DType::F32), &plain).expect("they meet");
    assert!(warning.message.contains("`rename` over N"), "{}", warning.message);

    // In a loss of no example, the noise meets that each example has of its own.
    let penalty = "pf 1\naxis N, C = 3;\nmodel m(x: f32[N, C]) {\n    param w: f32[C] = 1;\n    loss fit: sum[C](x * w);\n    \
                   loss penalty: sum[C](w * w);\n}\n";
    let program = inlined(penalty, &[], BATCH, DType::F32);
    assert!(mixing(&program, &plain).is_none());
    let warning = mixing(&program, &Options { noise_per_example: true, ..plain }).expect("it meets");
    assert!(warning.message.contains("`penalty` is of no example") && warning.place.is_some(), "{}", warning.message);
}

#[test]
fn a_name_that_is_taken_is_refused() {
    let text = TANH_MLP.replace("x: f32[N, I], y", "row: f32[N, I], y").replace("(x);", "(row);");
    let program = passed(inlined(&text, &[], 3, DType::F32), &["perturb"], &Options::new(Algorithm::FG_A));
    let errors = accumulate::run(&program, &Options::new(Algorithm::FG_A)).expect_err("`row` is the model's");
    assert!(errors[0].message.contains("`row`") && errors[0].hint.is_some(), "{errors:?}");
}
