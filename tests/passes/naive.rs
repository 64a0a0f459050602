//! The replicated loss as it is written out, without `simplify`: it has a plan, runs, and gives what the evaluator and the simplified program
//! give. Nothing here is fast.

use std::collections::BTreeSet;

use pushforward_ir::{DType, Op};
use pushforward_passes::alone::{self, Mode};
use pushforward_passes::{Algorithm, NoiseSource, Options, cost, simplify};

use crate::support::{LOCALMIXER, Random, SMALL_MIXER, TANH_MLP, assert_near, evaluated, inlined, on_cpu, passed, tensors};

const CROSS_ENTROPY: &str = include_str!("../../models/cross_entropy.pf");

fn literal(options: &Options) -> Options {
    Options { simplify: simplify::Settings { off: true, ..Default::default() }, ..options.clone() }
}

#[test]
fn training_steps_as_they_were_derived() {
    for algorithm in Algorithm::ALL {
        for norm in ["local", "ln", "bn"] {
            let options = Options { noise: NoiseSource::Given, report: true, ..Options::new(algorithm) };
            let program = inlined(LOCALMIXER, &[SMALL_MIXER, &[("norm", norm)]].concat(), 3, DType::F64);
            let naive = passed(program.clone(), algorithm.passes(), &literal(&options));
            let usual = passed(program, algorithm.passes(), &options);
            let inputs = tensors(&usual, &mut Random::new(41));
            let (what, expected) = (format!("{}, norm {norm}", algorithm.name()), evaluated(&naive, &inputs));
            assert_near(&what, &on_cpu(&naive, &inputs, true, 2), &expected, 1e-10, 1e-13);
            assert_near(&what, &evaluated(&usual, &inputs), &expected, 1e-10, 1e-13);
        }
    }
}

#[test]
fn the_loss_alone_as_it_was_derived() {
    let options = Options::new(Algorithm::LG_FG_A);
    for mode in Mode::ALL {
        for (groups, patches) in [("1", "3"), ("2", "4"), ("4", "1"), ("8", "2")] {
            let sets = [("patches", patches), ("groups", groups), ("channels", "8"), ("classes", "3")];
            let program = passed(inlined(CROSS_ENTROPY, &sets, 5, DType::F64), &["replicate"], &options);
            let derived = alone::run(&program, mode).expect("the loss has derivatives");
            let naive = passed(derived.clone(), &["simplify", "dce"], &literal(&options));
            assert_eq!(naive.to_text(), derived.to_text());
            let usual = passed(derived, &["simplify", "dce"], &options);
            let inputs = tensors(&naive, &mut Random::new(42));
            let (what, expected) = (format!("{}, {groups} groups, {patches} patches", mode.name()), evaluated(&naive, &inputs));
            let outputs: Vec<&str> = naive.outputs.iter().map(|o| o.port.name.as_str()).collect();
            match mode {
                Mode::Forward => assert_eq!(outputs, ["loss", "d.loss"]),
                Mode::Reverse => assert_eq!(outputs, ["loss", "g.x", "g.w", "g.b"]),
            }
            assert_near(&what, &on_cpu(&naive, &inputs, true, 2), &expected, 1e-10, 1e-13);
            assert_near(&what, &on_cpu(&usual, &inputs, true, 2), &expected, 1e-10, 1e-13);
        }
    }
}

/// What the written out loss costs by equations 4 and 5, and what the loss fused by hand does, in contractions.
#[test]
fn flops_of_the_loss_are_those_of_the_paper() {
    let (n, p, d, k) = (128u64, 64, 512, 10);
    for groups in [1u64, 16, 256] {
        let text = "pf 1\nsize groups = 1;\naxis N, P = 64, G = groups, D = 512 / groups, K = 10;\naxis C = (G, D);\n\
                    model fused(x: f32[N, P, G, D], dx: f32[N, P, G, D], w: f32[C, K], labels: i32[N]) {\n    \
                    z = sum[C](mean[P](x) * w);\n    t = exp(z - logsumexp[K](z)) - select(eq(iota[K](), labels), 1, 0);\n    \
                    output d: f32[N, P, G] = sum[D](dx * sum[K](w * t)) / size(P);\n}\n";
        let sets = groups.to_string();
        let fused = cost::flops(&inlined(text, &[("groups", &sets)], n as usize, DType::F32));
        assert_eq!(fused.contraction, 2 * n * d * k + 2 * n * d * k + 2 * n * p * d);
        // The mean over P of x, and maps over N, K and N, P, G.
        assert!(fused.other < n * p * d + 20 * n * k + 2 * n * d + 2 * n * p * groups, "{fused:?}");

        let naive =
            passed(inlined(CROSS_ENTROPY, &[("groups", &sets)], n as usize, DType::F32), &["replicate"], &Options::new(Algorithm::LG_FG_A));
        let naive = cost::flops(&alone::run(&naive, Mode::Forward).expect("the loss has derivatives"));
        assert_eq!(naive.contraction, 2 * (2 * n * p * groups * d * k));
        assert!(naive.other < 8 * n * p * groups * d, "{naive:?}");
    }
}

/// Marked values that are computed become inputs: what is before them is gone.
#[test]
fn losses_of_hidden_values_stand_alone() {
    let options = Options::new(Algorithm::LG_FG_A);
    let program = passed(inlined(LOCALMIXER, SMALL_MIXER, 3, DType::F64), &["replicate"], &options);
    let forward = alone::run(&program, Mode::Forward).expect("the losses have derivatives");
    let used = forward.values().filter_map(|v| match forward.op(v) {
        Op::Input(i) => Some(forward.inputs[*i as usize].name.as_str()),
        Op::Param(i) => Some(forward.params[*i as usize].port.name.as_str()),
        _ => None,
    });
    let used: BTreeSet<&str> = used.collect();
    let of_blocks = ["block0.loss.of", "block1.loss.of", "d.block0.loss.of", "d.block1.loss.of"];
    assert_eq!(used, ["head0.b", "head0.w", "head1.b", "head1.w", "labels"].into_iter().chain(of_blocks).collect());

    let none = alone::run(&inlined(TANH_MLP, &[], 3, DType::F64), Mode::Forward).expect_err("it marks no local loss");
    assert!(none[0].message.contains("marks no local loss"), "{}", none[0].message);
}

/// A sum under a delta reads the one term; under other conditions, or where one operand has both axes, it stays a sum.
#[test]
fn sums_under_deltas() {
    let sums = [
        ("N, A", "sum[B](select(delta[A, B](), x, 0))"),
        ("N, B", "sum[A](select(delta[A, B](), x, 0))"),
        ("N, A", "sum[B](select(delta[A, B]() & (y > 0), x, 0))"),
        ("N, A", "sum[B](select(delta[A, B]() & (x > 0), x, 0))"),
        ("N, A", "sum[B](select(delta[A, B]() & (x > y), x, 0))"),
        ("N, A", "sum[B](select(delta[A, B]() & (x > 0), y, 0))"),
        ("N, A", "sum[B](select(delta[A, B](), x * y, 0))"),
        ("N, A", "sum[B](select(delta[A, B](), x, 1))"),
        ("N, A", "sum[B](select(delta[A, B](), x, x))"),
        ("N", "sum[A, B](select(delta[A, B](), x, x))"),
        ("N, B", "sum[A](select(y > 0, x, x))"),
        ("N, A, C", "sum[B](select(delta[A, B]() & delta[C, B](), x, 0))"),
        ("N, C", "sum[A, B](select(delta[A, B]() & delta[C, B](), x, 0))"),
        ("N, A, C", "contract[B](select(delta[A, B](), x, 0), z)"),
        ("N, A", "contract[B](select(delta[A, B](), x, 0), y)"),
        ("N, A", "contract[B, C](select(delta[A, B](), x, 0), select(delta[A, C](), y, 0), z)"),
    ];
    for (axes, sum) in sums {
        let text = format!(
            "pf 1\naxis N, A = 4;\naxis B like A, C like A;\nmodel m(x: f32[N, B], y: f32[A], z: f32[B, C]) {{\n    \
             s = {sum};\n    output s: f32[{axes}] = s;\n    output t: f32[{axes}] = tanh(s) + s;\n}}\n"
        );
        let program = inlined(&text, &[], 3, DType::F64);
        let inputs = tensors(&program, &mut Random::new(43));
        assert_near(sum, &on_cpu(&program, &inputs, true, 1), &evaluated(&program, &inputs), 1e-12, 1e-13);
    }
}
