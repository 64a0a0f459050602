//! Derivatives, op by op and on random graphs, in f64: jvp against central differences, transpose against jvp by the dot-product test. Every op
//! of the table has a case or says why it has none.

use std::collections::BTreeSet;

use pushforward_ir::eval::{Inputs, Tensor};
use pushforward_ir::program::Program;
use pushforward_ir::{DType, Op};
use pushforward_passes::jvp::has_rule;
use pushforward_passes::{Algorithm, Options};

use crate::graphs::graph;
use crate::support::{Random, evaluated, inlined, passed, tensors};

/// Op, inputs, result. Inputs called `p..` are positive.
const CASES: &[(&str, &str, &str)] = &[
    ("add", "x: f32[N, C], y: f32[C]", "f32[N, C] = x + y"),
    // A structural zero gives the tangent fewer axes than its value.
    ("add", "x: f32[N, C], y: f32[C]", "f32[N, C] = (stop_gradient(x) + y) * x"),
    ("sub", "x: f32[N, C], y: f32[N]", "f32[N, C] = x - y"),
    ("sub", "x: f32[N, C], y: f32[C]", "f32[N, C] = (stop_gradient(x) - y) * x"),
    ("mul", "x: f32[N, C], y: f32[C]", "f32[N, C] = x * y"),
    ("mul", "x: f32[N]", "f32[N] = x * x"),
    ("neg", "x: f32[N, C]", "f32[N, C] = -x"),
    ("div", "x: f32[N], p: f32[N, C]", "f32[N, C] = x / p"),
    ("div", "x: f32[N, C], p: f32[N]", "f32[N, C] = stop_gradient(x) / p"),
    ("exp", "x: f32[N, C]", "f32[N, C] = exp(x)"),
    ("log", "p: f32[N, C]", "f32[N, C] = log(p)"),
    ("tanh", "x: f32[N, C]", "f32[N, C] = tanh(x)"),
    ("erf", "x: f32[N, C]", "f32[N, C] = erf(x)"),
    ("sqrt", "p: f32[N, C]", "f32[N, C] = sqrt(p)"),
    ("rsqrt", "p: f32[N, C]", "f32[N, C] = rsqrt(p)"),
    ("relu", "x: f32[N, C]", "f32[N, C] = relu(x)"),
    ("select", "x: f32[N, C], y: f32[C], z: f32[N]", "f32[N, C] = select(lt(x, z), x, y)"),
    ("select", "x: f32[N], y: f32[C]", "f32[N, C] = select(lt(stop_gradient(y), 0.1), x, 2)"),
    ("cast", "x: f32[N, C]", "f32[N, C] = cast[f32](cast[f64](x) * cast[f64](x))"),
    ("sum", "x: f32[N, C]", "f32[N] = sum[C](x)"),
    ("contract", "x: f32[N, C], y: f32[C, D]", "f32[N, D] = contract[C](x, y)"),
    ("contract", "x: f32[N, C], y: f32[C], z: f32[N, D]", "f32[D] = contract[N, C](x, y, z)"),
    ("contract", "x: f32[N, C]", "f32[N] = contract[C](x, x, x, x)"),
    // The tangent of one factor lacks the axis that is summed.
    ("contract", "x: f32[N], y: f32[C]", "f32[N] = contract[C](stop_gradient(y), x + stop_gradient(y))"),
    ("rename", "x: f32[N, C], y: f32[C, E]", "f32[N, C] = sum[E](rename[C -> E](x) * y)"),
    ("rename", "x: f32[C, E]", "f32[C, E] = rename[C -> E, E -> C](x) * x"),
    ("window", "x: f32[N, C]", "f32[N, D, T] = window[C = 2 * D + T - 1](x)"),
    ("window", "x: f32[N, C]", "f32[N, C] = window[C = 2 - C](x) * x"),
    ("window", "x: f32[N], y: f32[C]", "f32[N, D] = window[C = D + 1](x + stop_gradient(y))"),
    ("window", "x: f32[N, C]", "f32[N] = window[C = 1](x)"),
    ("gather", "x: f32[C, D], i: i32[N]", "f32[N, D] = gather[C](x, i)"),
    ("gather", "x: f32[N, C], i: i32[N]", "f32[N] = gather[C](x, i)"),
    ("gather", "x: f32[C, D], i: i32[C]", "f32[C, D] = gather[C](x, i) * x"),
    ("gather", "x: f32[D], y: f32[C], i: i32[N]", "f32[N, D] = gather[C](x + stop_gradient(y), i)"),
    ("activity", "x: f32[N, C]", "f32[N, C] = fc: activity(x) * x"),
];

const NO_CASE: &[(&str, &str)] = &[
    ("input", "what derivatives are taken with respect to: in every case"),
    ("param", "as an input: `parameters_are_differentiated` below"),
    ("const", "a constant, its tangent is a structural zero; in several cases"),
    ("iota", "no float"),
    ("delta", "no float"),
    ("normal", "depends on no float"),
    ("seed", "stands for a tangent inside `transpose` and has no value"),
    ("lt", "gives no float"),
    ("le", "gives no float"),
    ("gt", "gives no float"),
    ("ge", "gives no float"),
    ("eq", "gives no float"),
    ("ne", "gives no float"),
    ("and", "gives no float"),
    ("or", "gives no float"),
    ("not", "gives no float"),
    ("max", "has no rule, `jvp::has_rule` says why; refused with places by `tests/corpus/errors/no_derivative_rule*.pf`"),
    (
        "stop_gradient",
        "its derivative is not its difference quotient: `nothing_passes_a_stop_gradient` below, and frozen in the cases above",
    ),
];

#[test]
fn every_op_has_a_case_or_a_reason() {
    let cases: BTreeSet<&str> = CASES.iter().map(|c| c.0).collect();
    let reasons: BTreeSet<&str> = NO_CASE.iter().map(|c| c.0).collect();
    for info in Op::ALL {
        let (case, reason) = (cases.contains(info.name), reasons.contains(info.name));
        assert!(case || reason, "`{}` needs a case in tests/passes/derivatives.rs, or a reason why it has none", info.name);
        assert!(!(case && reason), "`{}` has a case and a reason why it has none", info.name);
    }
    assert_eq!(cases.len() + reasons.len(), Op::ALL.len(), "an op is named here that the table lacks");
    assert!(!has_rule(&Op::Max(Default::default())), "`max` has a rule now: it needs a case");
}

#[test]
fn each_op() {
    for (n, &(op, inputs, result)) in CASES.iter().enumerate() {
        let text = format!("pf 1\naxis N, C = 4, D = 3, T = 2, E like C;\nmodel m({inputs}) {{\n    output r: {result};\n}}\n");
        let program = inlined(&text, &[], 3, DType::F64);
        assert!(program.values().any(|v| program.op(v).name() == op), "no `{op}` in the case for it:\n{text}");
        let mut random = Random::new(n as u64);
        let mut inputs = tensors(&program, &mut random);
        for (name, tensor) in &mut inputs {
            if name.starts_with('p') {
                tensor.data.iter_mut().for_each(|x| *x = 1.0 + 0.6 * *x);
            }
        }
        check(&format!("{op}:\n{text}"), &program, &inputs, &mut random);
    }
}

#[test]
fn random_graphs() {
    for seed in 0..400 {
        let mut random = Random::new(50_000 + seed);
        let program = graph(&mut random);
        let inputs = tensors(&program, &mut random);
        check(&format!("graph {seed}:\n{}", program.to_text()), &program, &inputs, &mut random);
    }
}

#[test]
fn parameters_are_differentiated() {
    let text = "pf 1\naxis N, C = 4;\nmodel m(x: f32[N, C]) {\n    param w: f32[C] = 1;\n    output r: f32[N] = sum[C](tanh(x * w));\n}\n";
    let program = inlined(text, &[], 2, DType::F64);
    let mut random = Random::new(7);
    let inputs = tensors(&program, &mut random);
    check(text, &program, &inputs, &mut random);
    let with_w = passed(program, &["transpose"], &Options::new(Algorithm::BP));
    assert!(with_w.output("g.w").is_some_and(|o| !matches!(with_w.op(o.value), Op::Const(_))));
}

#[test]
fn nothing_passes_a_stop_gradient() {
    let text = "pf 1\naxis N, C = 4;\nmodel m(x: f32[N, C]) {\n    output r: f32[N, C] = stop_gradient(x * x);\n}\n";
    let program = inlined(text, &[], 2, DType::F64);
    let mut random = Random::new(8);
    for pass in ["jvp", "transpose"] {
        let derived = passed(program.clone(), &[pass], &Options::new(Algorithm::BP));
        let out = evaluated(&derived, &tensors(&derived, &mut random));
        let name = if pass == "jvp" { "d.r" } else { "g.x" };
        assert!(out[name].data.iter().all(|&x| x == 0.0), "{pass}");
        assert!(out["r"].data.iter().any(|&x| x != 0.0), "{pass}");
    }
}

/// Along a random direction: jvp is the difference quotient of the outputs (with stop-gradients' values frozen, by comparing to the program in
/// which they are inputs), and the dot-product test holds.
fn check(what: &str, program: &Program, inputs: &Inputs, random: &mut Random) {
    let options = Options::new(Algorithm::BP);
    let (frozen, given) = crate::reach::freeze(program, inputs.clone());
    let forward = passed(program.clone(), &["jvp"], &options);
    let backward = passed(program.clone(), &["transpose"], &options);

    let mut all = inputs.clone();
    for (program, prefix) in [(&forward, "d."), (&backward, "ct.")] {
        for port in program.inputs.iter().filter(|p| p.name.starts_with(prefix) && !inputs.contains_key(&p.name)) {
            let direction = Tensor::from_fn(&program.axes, port.dtype, &port.order, |_| random.number());
            all.insert(port.name.clone(), direction);
        }
    }
    let tangents = evaluated(&forward, &all);
    let cotangents = evaluated(&backward, &all);
    let moved = |by: f64| {
        let mut moved = given.clone();
        for (name, x) in inputs {
            if let Some(d) = all.get(&format!("d.{name}")) {
                let d = d.reorder(&x.order).expect("a tangent has its value's axes");
                moved.get_mut(name).expect("an input").data.iter_mut().zip(&d.data).for_each(|(x, d)| *x += by * d);
            }
        }
        evaluated(&frozen, &moved)
    };
    const STEP: f64 = 1e-5;
    let (ahead, behind) = (moved(STEP), moved(-STEP));
    let (mut dot, mut terms) = (0.0, 0.0f64);
    for out in &program.outputs {
        let name = &out.port.name;
        let tangent = &tangents[&format!("d.{name}")];
        let quotient: Vec<f64> = ahead[name].data.iter().zip(&behind[name].data).map(|(a, b)| (a - b) / (2.0 * STEP)).collect();
        let quotient = Tensor { data: quotient, ..ahead[name].clone() };
        let worst = tangent.worst(&quotient, 2e-6, 2e-8).unwrap_or_else(|| panic!("axes differ: {what}"));
        assert!(worst.ratio <= 1.0, "jvp is {} where the difference quotient is {}, output {name}, {what}", worst.got, worst.expected);
        let ct = all[&format!("ct.{name}")].reorder(&tangent.order).expect("a cotangent has its value's axes");
        for (c, t) in ct.data.iter().zip(&tangent.data) {
            dot += c * t;
            terms += (c * t).abs();
        }
    }
    let mut other = 0.0;
    for name in inputs.keys() {
        if let (Some(g), Some(d)) = (cotangents.get(&format!("g.{name}")), all.get(&format!("d.{name}"))) {
            let d = d.reorder(&g.order).expect("the same axes");
            other += g.data.iter().zip(&d.data).map(|(g, d)| g * d).sum::<f64>();
        }
    }
    assert!((dot - other).abs() <= 1e-11 * terms + 1e-13, "<ct, J d> is {dot}, <J' ct, d> is {other}: {what}");
}

/// The error of the layer that gives the prediction is known: direct feedback leads it through no random tensor, be the prediction an activity
/// itself or what a nonlinear function makes of one.
#[test]
fn direct_feedback_leaves_the_last_layer_its_own_error() {
    for last in ["activity(z)", "tanh(activity(z))", "1 / (1 + exp(-activity(z)))"] {
        let text = format!(
            "pf 1\naxis N, I = 3, J = 4, O = 2;\nmodel m(x: f32[N, I], y: f32[N, O]) {{\n    h = tanh(activity(first: linear[I, J](x)));\n    \
             z = last: linear[J, O](h);\n    p = {last};\n    output p: f32[N, O] = p;\n    loss squared_error[O](p, y);\n}}\n\
             fn linear[A, B](x) {{\n    param w: f32[A, B] ~ normal(0.5);\n    param b: f32[B] = 0;\n    sum[A](x * w) + b\n}}\n"
        );
        let program = inlined(&text, &[], 3, DType::F64);
        let direct = passed(program.clone(), &["direct"], &Options::new(Algorithm::DFA));
        let names: Vec<&str> = direct.params.iter().map(|p| p.port.name.as_str()).filter(|n| n.starts_with("dfa.")).collect();
        assert_eq!(names.len(), 1, "{last}: {names:?}");
        let inputs = tensors(&direct, &mut Random::new(5));
        let (direct, exact) =
            (evaluated(&direct, &inputs), evaluated(&passed(program, &["gradient"], &Options::new(Algorithm::BP)), &inputs));
        for (name, same) in [("last.w", true), ("last.b", true), ("first.w", false), ("first.b", false)] {
            let (direct, exact) = (&direct[&format!("grad.{name}")], &exact[&format!("grad.{name}")]);
            let off = direct.data.iter().zip(&exact.data).map(|(d, e)| (d - e).abs()).fold(0.0, f64::max);
            assert_eq!(off < 1e-12, same, "{last}: {name} is off by {off}");
        }
    }
}
