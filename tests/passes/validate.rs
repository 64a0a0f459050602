//! Translation validation of every pass on every model and on graphs that no one wrote: the evaluator before and after, on ordinary numbers and
//! on hard ones, within the arithmetic that the table states (`pushforward_passes::validate`). And the validation itself: passes that are
//! wrong, planted here, are caught, and what is wrong is named.

use std::collections::{BTreeMap, BTreeSet};

use pushforward_ir::program::rebuild;
use pushforward_ir::{Builder, DType, Op, Program, Value};
use pushforward_passes::simplify::{Rules, Settings as Simplify};
use pushforward_passes::table::{Arithmetic, Derivative, find};
use pushforward_passes::validate::inputs::Kind;
use pushforward_passes::validate::{Broken, Checked, Fault, Settings, validate};
use pushforward_passes::{Algorithm, NoiseSource, Options};

use crate::generality::models;
use crate::graphs::graph;
use crate::lowering::generated;
use crate::random_models::model;
use crate::support::{LOCALMIXER, Random, SMALL_MIXER, evaluated, inlined, passed, suits, tensors};

const BATCH: usize = 3;

/// What the passes of a test came to, by name and arithmetic.
#[derive(Default)]
struct Tally(BTreeMap<(&'static str, &'static str), Checked>);

impl Tally {
    fn add(&mut self, pass: &'static str, checked: Checked) {
        let all = self.0.entry((pass, checked.arithmetic.name())).or_insert(Checked {
            kinds: Vec::new(),
            compared: 0,
            edges: 0,
            infinite: 0,
            derivatives: 0,
            worst: 0.0,
            ..checked.clone()
        });
        all.kinds.extend(checked.kinds.into_iter().filter(|k| !all.kinds.contains(k)).collect::<Vec<_>>());
        all.compared += checked.compared;
        all.edges += checked.edges;
        all.infinite += checked.infinite;
        all.derivatives += checked.derivatives;
        all.worst = all.worst.max(checked.worst);
    }

    /// Enough was judged to mean something, on every kind of numbers.
    fn assert_telling(&self, passes: &[&str]) {
        let seen: BTreeSet<&str> = self.0.keys().map(|k| k.0).collect();
        assert_eq!(seen, passes.iter().copied().collect(), "not all passes were validated");
        for ((pass, arithmetic), checked) in &self.0 {
            let kinds = if checked.arithmetic == Arithmetic::Real { Kind::FINITE.len() } else { Kind::ALL.len() };
            assert_eq!(checked.kinds.len(), kinds, "{pass}, {arithmetic}: no result was compared on some kind: {checked:?}");
            assert!((checked.edges + checked.infinite) * 3 < checked.compared, "{pass}, {arithmetic}: little was judged: {checked:?}");
            // Random models have no exact parameters.
            let derivative = (find(pass).expect("a pass").derivative)(&Options::new(Algorithm::BP));
            let derives = derivative.is_some_and(|d| d != Derivative::ExactGradients);
            assert!(!derives || checked.derivatives > 0, "{pass}: no derivative was judged: {checked:?}");
        }
    }
}

/// Runs passes one after the other and validates each.
fn check(what: &str, program: &Program, names: &[&'static str], options: &Options, tally: &mut Tally) {
    let mut before = program.clone();
    for &name in names {
        let after = passed(before.clone(), &[name], options);
        match validate(&before, &after, find(name).expect("a pass"), options, &Settings::default()) {
            Ok(checked) => tally.add(name, checked),
            Err(fault) => panic!("{what}: {}\n{}\nafter `{name}`:\n{}", fault.diagnostic(), before.to_text(), after.to_text()),
        }
        before = after;
    }
}

/// All algorithms, with noise from outside and from within, several directions, and all reports.
fn all_options() -> Vec<Options> {
    let mut all = Vec::new();
    for algorithm in Algorithm::ALL {
        for rules in Rules::ALL {
            let simplify = Simplify { rules, ..Simplify::default() };
            let plain = Options { simplify, ..Options::new(algorithm) };
            all.push(plain.clone());
            all.push(Options { noise: NoiseSource::Given, directions: 2, report: true, ..plain });
        }
    }
    all
}

fn name(options: &Options) -> String {
    format!("{}, {} rules, {} directions", options.algorithm.name(), options.simplify.rules.name(), options.directions)
}

#[test]
fn every_pass_of_every_algorithm_on_every_model() {
    let mut tally = Tally::default();
    for (model, text, sets) in models() {
        let program = inlined(&text, &sets, BATCH, DType::F64);
        for options in all_options().into_iter().filter(|o| suits(&program, o.algorithm)) {
            check(&format!("{model}, {}", name(&options)), &program, options.algorithm.passes(), &options, &mut tally);
        }
    }
    tally.assert_telling(&["cut", "replicate", "perturb", "gradient", "direct", "simplify", "update", "dce"]);
    assert!(tally.0[&("perturb", "adds")].derivatives > 0, "no exact gradient of an estimator was judged");
}

/// Features that are 0, each example's mean of what a norm has centred: no order of the products is without terms that cancel, and the head's
/// gradient is 0 as its logits are, along other axes.
#[test]
fn what_cancels_is_no_other_zero() {
    let text = "pf 1\naxis N, T = 3, D = 4, K = 2;\nmodel m(x: f32[N, T, D], y: i32[N]) {\n    exact param w: f32[D, K] ~ normal(0.6);\n    \
                param u: f32[D] ~ normal(0.6);\n    loss last: cross_entropy[K](sum[D](mean[T](norm[T](activity(x * u))) * w), y);\n}\n";
    let mut tally = Tally::default();
    for algorithm in [Algorithm::BP, Algorithm::FG_W, Algorithm::FG_A] {
        let options = Options { noise: NoiseSource::Given, ..Options::new(algorithm) };
        check(algorithm.name(), &inlined(text, &[], BATCH, DType::F64), algorithm.passes(), &options, &mut tally);
    }
}

/// Norms that spread, and simplify where derivatives are still to come.
#[test]
fn every_norm_of_localmixer() {
    let mut tally = Tally::default();
    for norm in ["ln", "bn"] {
        let sets: Vec<(&str, &str)> = SMALL_MIXER.iter().copied().chain([("norm", norm)]).collect();
        let program = inlined(LOCALMIXER, &sets, BATCH, DType::F64);
        for options in all_options() {
            let names = [&["simplify"], options.algorithm.passes()].concat();
            check(&format!("norm {norm}, {}", name(&options)), &program, &names, &options, &mut tally);
        }
    }
    tally.assert_telling(&["cut", "replicate", "perturb", "gradient", "direct", "simplify", "update", "dce"]);
}

#[test]
fn derivatives_of_every_model() {
    let mut tally = Tally::default();
    for (model, text, sets) in models() {
        let program = inlined(&text, &sets, BATCH, DType::F64);
        if program.outputs.is_empty() {
            continue;
        }
        for rules in Rules::ALL {
            let options = Options { simplify: Simplify { rules, ..Simplify::default() }, ..Options::new(Algorithm::BP) };
            for names in [["jvp", "simplify"], ["transpose", "simplify"]] {
                check(&format!("{model}, {} rules", rules.name()), &program, &names, &options, &mut tally);
            }
        }
    }
    tally.assert_telling(&["jvp", "transpose", "simplify"]);
}

#[test]
fn random_models() {
    let mut tally = Tally::default();
    let all = all_options();
    for seed in 0..240 {
        let program = model(&mut Random::new(seed));
        let options = &all[seed as usize % all.len()];
        if !suits(&program, options.algorithm) {
            continue;
        }
        check(&format!("seed {seed}, {}", name(options)), &program, options.algorithm.passes(), options, &mut tally);
    }
    tally.assert_telling(&["cut", "replicate", "perturb", "gradient", "simplify", "update", "dce"]);
}

#[test]
fn random_graphs() {
    let mut tally = Tally::default();
    for seed in 0..300 {
        let program = graph(&mut Random::new(70_000 + seed));
        let rules = Rules::ALL[seed as usize % 2];
        let options = Options { simplify: Simplify { rules, ..Simplify::default() }, ..Options::new(Algorithm::BP) };
        for names in [&["simplify"][..], &["jvp", "simplify", "dce"], &["transpose", "simplify", "dce"]] {
            check(&format!("graph {seed}"), &program, names, &options, &mut tally);
        }
    }
    tally.assert_telling(&["jvp", "transpose", "simplify", "dce"]);
}

/// Integers, casts, noise, empty axes, windows that see nothing, infinities on the way.
#[test]
fn random_programs() {
    let mut tally = Tally::default();
    for seed in 0..120 {
        let program = generated(&mut Random::new(seed), &[DType::F64]);
        let rules = Rules::ALL[seed as usize % 2];
        let options = Options { simplify: Simplify { rules, ..Simplify::default() }, ..Options::new(Algorithm::BP) };
        check(&format!("program {seed}"), &program, &["cut", "simplify", "dce"], &options, &mut tally);
    }
    tally.assert_telling(&["cut", "simplify", "dce"]);
}

// ---- validation is validated

/// A pass that makes something else of a program than it should.
type Wrong = fn(&Program) -> Program;

/// What is found of `wrong` in the place of the pass `name`.
fn judged(name: &str, options: &Options, before: &Program, wrong: Wrong) -> Result<Checked, Fault> {
    validate(before, &wrong(before), find(name).expect("a pass"), options, &Settings::default())
}

fn caught(name: &str, options: &Options, before: &Program, wrong: Wrong) -> Broken {
    match judged(name, options, before, wrong) {
        Err(Fault::Broken(broken)) => *broken,
        other => panic!("a wrong `{name}` is found to be {other:?}"),
    }
}

/// Makes another value of every use of `wrong`.
fn replaced(program: &Program, wrong: &Op, by: fn(&mut Builder, &[Value]) -> Value) -> Program {
    rebuild(program, |b, v, x| if program.op(v) == wrong { by(b, x) } else { b.copy(program, v, x) })
}

/// Outputs whose names start so, times `factor`.
fn scaled(program: &Program, prefix: &str, factor: f64) -> Program {
    let mut b = Builder::new(program.clone());
    let mut outputs = program.outputs.clone();
    for output in outputs.iter_mut().filter(|o| o.port.name.starts_with(prefix)) {
        output.value = b.scale(output.value, factor);
    }
    b.program_mut().outputs = outputs;
    b.finish()
}

fn run(name: &str, options: &Options, program: &Program) -> Program {
    passed(program.clone(), &[name], options)
}

fn rules(rules: Rules) -> Options {
    Options { simplify: Simplify { rules, ..Simplify::default() }, ..Options::new(Algorithm::BP) }
}

fn read(body: &str) -> Program {
    inlined(&format!("pf 1\naxis N, C = 4, K = 3;\nmodel m(x: f32[N, C], labels: i32[N]) {{\n{body}\n}}\n"), &[], BATCH, DType::F64)
}

fn plain() -> Program {
    read(
        "param w: f32[C, K] ~ normal(1);
         z = sum[C](x * w);
         output hidden: f32[N, K] = relu(z);
         output quotient: f32[N] = sum[C](x) / sum[K](1 + z * z);
         loss cross_entropy[K](z, labels);",
    )
}

const ZERO: f64 = 0.0;

#[test]
fn a_wrong_number_is_caught_and_named() {
    let upside_down: Wrong = |p| replaced(p, &Op::Div, |b, x| b.op(Op::Div, &[x[1], x[0]]));
    for rules in Rules::ALL.map(rules) {
        let broken = caught("simplify", &rules, &plain(), upside_down);
        assert_eq!((broken.result.as_str(), broken.kind), ("the output `quotient`", Kind::Ordinary));
        let told = &broken.diagnostic;
        assert!(told.place.is_some() && told.hint.is_some());
        for part in ["after `simplify`, the output `quotient` is", "at [N ", "on ordinary numbers", &format!("{:?}", broken.before)] {
            assert!(told.message.contains(part), "`{part}` is not in: {}", told.message);
        }
    }
}

/// Real numbers do not mind what the last place is; bits do.
#[test]
fn a_wrong_bit_is_caught_where_bits_count() {
    let reciprocal: Wrong = |p| {
        replaced(p, &Op::Div, |b, x| {
            let one = b.constant(1.0, DType::F64);
            let inverse = b.op(Op::Div, &[one, x[1]]);
            b.op(Op::Mul, &[x[0], inverse])
        })
    };
    assert_eq!(caught("simplify", &rules(Rules::Exact), &plain(), reciprocal).result, "the output `quotient`");
    let checked = judged("simplify", &rules(Rules::Relaxed), &plain(), reciprocal).expect("the same in real numbers");
    assert!(checked.worst > 0.0 && checked.worst < 1e-14 && checked.edges + checked.infinite == 0, "{checked:?}");
}

/// One op of a random graph or of its derivative is another: where the results differ on numbers of this test's own, validation must see it.
#[test]
fn random_mutations_are_caught() {
    let options = rules(Rules::Relaxed);
    let (mut differ, mut same) = (0, 0);
    for seed in 0..400 {
        let mut random = Random::new(30_000 + seed);
        let names: &[&str] = random.of(&[&["simplify"][..], &["jvp", "simplify"], &["transpose", "simplify"]]);
        let before = passed(graph(&mut random), names, &options);
        let live = before.live();
        let other = |op: &Op| match op {
            Op::Add => Some(Op::Sub),
            Op::Sub | Op::Mul => Some(Op::Add),
            Op::Neg => Some(Op::Tanh),
            Op::Tanh | Op::Erf => Some(Op::Neg),
            Op::Sum(over) => Some(Op::Max(*over)),
            Op::Gt => Some(Op::Lt),
            _ => None,
        };
        let places: Vec<Value> = before.values().filter(|&v| live[v.0 as usize] && other(before.op(v)).is_some()).collect();
        if places.is_empty() {
            continue;
        }
        let at = random.of(&places);
        let after = rebuild(&before, |b, v, x| match other(before.op(v)).filter(|_| v == at) {
            Some(op) => b.op(op, x),
            None => b.copy(&before, v, x),
        });
        let inputs = tensors(&before, &mut random);
        let (x, y) = (evaluated(&before, &inputs), evaluated(&after, &inputs));
        let outcome = validate(&before, &after, find("simplify").expect("a pass"), &options, &Settings::default());
        if x.iter().all(|(name, x)| y[name].close(x, 1e-4, 1e-12)) {
            same += 1;
        } else {
            differ += 1;
            assert!(
                matches!(outcome, Err(Fault::Broken(_))),
                "seed {seed}: {outcome:?}\n{}\nmutated at {at:?}:\n{}",
                before.to_text(),
                after.to_text()
            );
        }
    }
    assert!(differ > 250, "{differ} mutations made a difference, {same} made none");
}

/// Right on ordinary numbers, and wrong on zeros, their signs, or NaN.
#[test]
fn what_is_wrong_on_hard_numbers_is_caught() {
    let plus_zero: Wrong = |p| {
        replaced(p, &Op::Neg, |b, x| {
            let zero = b.constant(ZERO, DType::F64);
            b.op(Op::Sub, &[zero, x[0]])
        })
    };
    let before = read("output y: f32[N, C] = -x;");
    for name in ["dce", "cut", "update"] {
        let broken = caught(name, &rules(Rules::Relaxed), &before, plus_zero);
        assert_eq!((broken.result.as_str(), broken.kind, broken.before, broken.after), ("the output `y`", Kind::Zeros, -0.0, 0.0));
    }
    assert!(judged("simplify", &rules(Rules::Relaxed), &before, plus_zero).is_ok());

    // Of NaN, relu makes 0.
    let keeps_nan: Wrong = |p| {
        replaced(p, &Op::Relu, |b, x| {
            let zero = b.constant(ZERO, DType::F64);
            let below = b.op(Op::Le, &[x[0], zero]);
            b.op(Op::Select, &[below, zero, x[0]])
        })
    };
    let broken = caught("simplify", &rules(Rules::Exact), &read("output y: f32[N, C] = relu(x);"), keeps_nan);
    assert_eq!((broken.result.as_str(), broken.kind, broken.before), ("the output `y`", Kind::NaN, 0.0));

    // The derivative of relu is 0 where it has none.
    let tie: Wrong = |p| replaced(p, &Op::Gt, |b, x| b.op(Op::Ge, x));
    let before = run("jvp", &rules(Rules::Relaxed), &read("output y: f32[N, C] = relu(x);"));
    let broken = caught("simplify", &rules(Rules::Relaxed), &before, tie);
    assert_eq!((broken.result.as_str(), broken.kind), ("the output `d.y`", Kind::Ties));
}

/// x as (x + 1e12) - 1e12 is x in real numbers, with a quarter of its digits; as (x + 1) - 1, it is as good as it was.
#[test]
fn lost_digits_are_caught() {
    let before = read("output y: f32[N, C] = -x;");
    let digits: Wrong = |p| replaced(p, &Op::Neg, |b, x| there_and_back(b, x[0], 1e12));
    assert_eq!(caught("simplify", &rules(Rules::Relaxed), &before, digits).result, "the output `y`");
    let fine: Wrong = |p| replaced(p, &Op::Neg, |b, x| there_and_back(b, x[0], 1.0));
    judged("simplify", &rules(Rules::Relaxed), &before, fine).expect("as good as before");
}

fn there_and_back(b: &mut Builder, x: Value, far: f64) -> Value {
    let far = b.constant(far, DType::F64);
    let there = b.op(Op::Add, &[x, far]);
    b.op(Op::Sub, &[far, there])
}

#[test]
fn wrong_derivatives_are_caught() {
    let options = rules(Rules::Relaxed);
    let cases: [(&str, Wrong, &str); 4] = [
        ("jvp", |p| scaled(&run("jvp", &rules(Rules::Relaxed), p), "d.hidden", 1.0001), "the output `d.hidden`"),
        ("transpose", |p| scaled(&run("transpose", &rules(Rules::Relaxed), p), "g.x", 1.0001), "the sum of the outputs `g...`"),
        ("gradient", |p| scaled(&run("gradient", &rules(Rules::Relaxed), p), "grad.w", 1.0001), "the sum of the outputs `grad...`"),
        ("gradient", |p| scaled(&run("gradient", &rules(Rules::Relaxed), p), "loss", 1.0 + f64::EPSILON), "the output `loss`"),
    ];
    for (name, wrong, result) in cases {
        let broken = caught(name, &options, &plain(), wrong);
        assert!(broken.result.starts_with(result), "{}", broken.result);
    }
    // What perturb says of parameters that are exact is no estimate.
    let mixer = inlined(LOCALMIXER, SMALL_MIXER, BATCH, DType::F64);
    let fg: Options = Options::new(Algorithm::LG_FG_A);
    let ready = passed(mixer.clone(), &["cut", "replicate"], &fg);
    let broken = caught("perturb", &fg, &ready, |p| scaled(&run("perturb", &Options::new(Algorithm::LG_FG_A), p), "grad.head1.w", 1.001));
    assert!(broken.result.starts_with("the sum of the outputs `grad...`"), "{}", broken.result);
    // A gradient that forgets where derivatives end.
    let cut = run("cut", &Options::new(Algorithm::LG_BP), &mixer);
    let through: Wrong = |p| {
        // That of logsumexp's maximum stays: it has no derivative.
        let open = replaced(p, &Op::StopGradient, |b, x| match b.program().op(x[0]) {
            Op::Max(_) => b.op(Op::StopGradient, x),
            _ => x[0],
        });
        run("gradient", &Options::new(Algorithm::LG_BP), &open)
    };
    let broken = caught("gradient", &Options::new(Algorithm::LG_BP), &cut, through);
    assert!(broken.result.starts_with("the sum of the outputs `grad...`"), "{}", broken.result);
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let refused = |name: &str, before: &Program, wrong: Wrong, parts: &[&str]| {
        let Err(Fault::Refused(why)) = judged(name, &rules(Rules::Relaxed), before, wrong) else { panic!("{parts:?}: not refused") };
        assert!(why.hint.is_some());
        parts.iter().for_each(|part| assert!(why.message.contains(part), "`{part}` is not in: {}", why.message));
    };
    let first: Wrong = |p| Program { outputs: p.outputs[..1].to_vec(), ..p.clone() };
    for name in ["dce", "simplify", "jvp"] {
        refused(name, &plain(), first, &["the output `quotient` is gone after", name]);
    }
    let unmarked: Wrong = |p| Program { losses: Vec::new(), ..p.clone() };
    refused("cut", &plain(), unmarked, &["the loss `loss` is gone after `cut`"]);
    refused("gradient", &plain(), unmarked, &["the output `loss` is gone after `gradient`"]);
    let as_is: Wrong = |p| p.clone();
    refused("dce", &inlined("pf 1\nmodel m(x: f32[]) { output y: f32[] = x; }", &[], 1, DType::F32), as_is, &["f64", "f32"]);
    refused("dce", &inlined(LOCALMIXER, &[], 64, DType::F64), as_is, &["to validate `dce`", "operations on elements"]);
}
