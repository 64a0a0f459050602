//! Optimisers, held to the formulas that `passes/src/update.rs` cites: each written once more here, tensor by tensor in f64, and followed for
//! several steps on the evaluator, the CPU and plans for devices.

use std::collections::HashMap;

use pushforward_ir::eval::{Inputs, Tensor};
use pushforward_ir::{DType, Program};
use pushforward_passes::update::{self, Decay, Factor, Pattern, Rule, Settings, is_kept};
use pushforward_passes::{Algorithm, Options};
use pushforward_plan::device::{Limits, Precision, Target};

use crate::support::{LOCALMIXER, Random, SMALL_MIXER, TANH_MLP, assert_near, evaluated, inlined, on_cpu, on_threads, passed, tensors};

const STEPS: usize = 5;
const LR: f64 = 0.1;

fn rules() -> Vec<Rule> {
    let mut rules = vec![Rule::AdamW { beta1: 0.9, beta2: 0.99, eps: 1e-3 }, Rule::AdamW { beta1: 0.0, beta2: 0.5, eps: 1e-8 }];
    for momentum in [0.0, 0.9] {
        rules.extend([false, true].map(|nesterov| Rule::Sgd { momentum, nesterov }));
        rules.push(Rule::Lars { momentum, trust: 0.02 });
    }
    rules
}

/// Every rule with every way to decay; the second layer learns at a rate of its own, and its bias not at all.
fn settings() -> Vec<Settings> {
    let factor = |pattern, factor| Factor { pattern: Pattern::new(pattern).expect("a pattern"), factor };
    let factors = [vec![], vec![factor("layer2.b", 0.0), factor("layer2.*", 0.25), factor("*", 1.0)]];
    let ways = rules().into_iter().flat_map(|rule| Decay::ALL.map(|decay| (rule, decay)));
    let all = ways.enumerate().map(|(i, (rule, decay))| Settings { rule, decay, weight_decay: 0.03, factors: factors[i % 2].clone() });
    all.collect()
}

/// One tensor by the book: what it is, and the two that may be kept of it.
struct Book {
    w: Vec<f64>,
    a: Vec<f64>,
    b: Vec<f64>,
}

impl Book {
    /// Step `t`, from 1.
    fn step(&mut self, rule: Rule, g: &[f64], lr: f64, decay: f64, layer: bool, t: i32) {
        let length = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
        let (long, slope) = (length(&self.w), length(g));
        for (i, &g) in g.iter().enumerate() {
            let (w, a, b) = (&mut self.w[i], &mut self.a[i], &mut self.b[i]);
            match rule {
                Rule::Sgd { momentum, nesterov } => {
                    *a = momentum * *a + (g + decay * *w);
                    *w -= lr * if nesterov { g + decay * *w + momentum * *a } else { *a };
                }
                Rule::Lars { momentum, trust } => {
                    let local = if layer && long > 0.0 && slope > 0.0 { trust * long / (slope + decay * long) } else { 1.0 };
                    *a = momentum * *a + lr * local * (g + decay * *w);
                    *w -= *a;
                }
                Rule::AdamW { beta1, beta2, eps } => {
                    *a = beta1 * *a + (1.0 - beta1) * g;
                    *b = beta2 * *b + (1.0 - beta2) * g * g;
                    let (m, s) = (*a / (1.0 - beta1.powi(t)), *b / (1.0 - beta2.powi(t)));
                    *w -= lr * (m / (s.sqrt() + eps) + decay * *w);
                }
            }
        }
    }
}

/// All parameters after `STEPS` steps by the book; `gradients` is the program before the update.
fn by_the_book(gradients: &Program, settings: &Settings, inputs: &Inputs) -> HashMap<String, Tensor> {
    let mut inputs = inputs.clone();
    let mut books: HashMap<String, Book> = HashMap::new();
    for t in 1..=STEPS {
        let out = evaluated(gradients, &inputs);
        for param in &gradients.params {
            let name = &param.port.name;
            let w = inputs.get_mut(name).expect("a parameter");
            let zeros = vec![0.0; w.data.len()];
            let book = books.entry(name.clone()).or_insert_with(|| Book { w: w.data.clone(), a: zeros.clone(), b: zeros });
            let factor = match name.as_str() {
                _ if settings.factors.is_empty() => 1.0,
                "layer2.b" => 0.0,
                "layer2.w" => 0.25,
                _ => 1.0,
            };
            let decays = settings.decay == Decay::All || settings.decay == Decay::Weights && name.ends_with(".w");
            let layer = settings.decay == Decay::All || name.ends_with(".w");
            if factor > 0.0 {
                book.step(settings.rule, &out[&format!("grad.{name}")].data, LR * factor, if decays { 0.03 } else { 0.0 }, layer, t as i32);
            }
            w.data = book.w.clone();
        }
    }
    gradients.params.iter().map(|p| (p.port.name.clone(), inputs[&p.port.name].clone())).collect()
}

/// All parameters after `STEPS` steps of a program, run by `once`.
fn by_program(
    program: &Program,
    inputs: &Inputs,
    mut once: impl FnMut(&Program, &Inputs) -> HashMap<String, Tensor>,
) -> HashMap<String, Tensor> {
    let mut inputs = inputs.clone();
    for param in program.params.iter().filter(|p| is_kept(&p.port.name)) {
        inputs.insert(param.port.name.clone(), Tensor::from_fn(&program.axes, param.port.dtype, &param.port.order, |_| 0.0));
    }
    let lr = program.inputs.iter().find(|p| p.name == "lr").expect("something is updated");
    inputs.insert("lr".into(), Tensor::scalar(lr.dtype, LR));
    for _ in 0..STEPS {
        let out = once(program, &inputs);
        inputs.extend(out.into_iter().filter(|(name, _)| program.param(name).is_some()));
    }
    let own = program.params.iter().filter(|p| !is_kept(&p.port.name));
    own.map(|p| (p.port.name.clone(), inputs[&p.port.name].clone())).collect()
}

fn network(float: DType) -> (Program, Inputs) {
    let gradients = passed(inlined(TANH_MLP, &[("outputs", "2"), ("hidden", "5")], 3, float), &["gradient"], &Options::new(Algorithm::BP));
    let mut inputs = tensors(&gradients, &mut Random::new(61));
    // As it begins: a length of 0.
    inputs.get_mut("layer1.b").expect("a bias").data.fill(0.0);
    (gradients, inputs)
}

fn updated(gradients: &Program, settings: &Settings) -> Program {
    passed(gradients.clone(), &["update", "dce"], &Options { update: settings.clone(), ..Options::new(Algorithm::BP) })
}

#[test]
fn every_rule_is_the_published_one() {
    let (gradients, inputs) = network(DType::F64);
    for settings in settings() {
        let program = updated(&gradients, &settings);
        let expected = by_the_book(&gradients, &settings, &inputs);
        assert_ne!(expected["layer1.w"], inputs["layer1.w"], "{settings:?}: nothing moves");
        let what = |where_: &str| format!("{settings:?} on {where_}");
        assert_near(&what("the evaluator"), &by_program(&program, &inputs, evaluated), &expected, 1e-12, 1e-14);
        assert_near(&what("the CPU"), &by_program(&program, &inputs, |p, x| on_cpu(p, x, true, 2)), &expected, 1e-12, 1e-14);
        let cuda = Target::cuda(Precision::Fp32);
        assert_near(&what("threads"), &by_program(&program, &inputs, |p, x| on_threads(p, x, &cuda)), &expected, 1e-12, 1e-14);
    }
}

#[test]
fn every_rule_holds_in_f32() {
    let (exact, _) = network(DType::F64);
    let (gradients, inputs) = network(DType::F32);
    let in_f64: Inputs = inputs.iter().map(|(n, x)| (n.clone(), x.clone())).map(|(n, x)| (n, widened(x))).collect();
    for settings in settings() {
        let program = updated(&gradients, &settings);
        let expected: HashMap<_, _> = by_the_book(&exact, &settings, &in_f64).into_iter().map(|(n, x)| (n, narrowed(x))).collect();
        let what = |where_: &str| format!("{settings:?} on {where_}");
        assert_near(&what("the evaluator"), &by_program(&program, &inputs, evaluated), &expected, 1e-5, 1e-6);
        assert_near(&what("the CPU"), &by_program(&program, &inputs, |p, x| on_cpu(p, x, true, 2)), &expected, 1e-5, 1e-6);
        let webgpu = Target::webgpu(Limits::default());
        assert_near(&what("threads"), &by_program(&program, &inputs, |p, x| on_threads(p, x, &webgpu)), &expected, 1e-5, 1e-6);
    }
}

fn widened(x: Tensor) -> Tensor {
    if x.dtype == DType::F32 { Tensor { dtype: DType::F64, ..x } } else { x }
}

fn narrowed(x: Tensor) -> Tensor {
    Tensor::new(DType::F32, x.order, x.shape, x.data)
}

/// What is frozen costs nothing: no output, no tensor kept, no gradient computed. The rest of the step is as it was.
#[test]
fn a_factor_of_zero_freezes() {
    let sets: Vec<(&str, &str)> = SMALL_MIXER.to_vec();
    let program = inlined(LOCALMIXER, &sets, 3, DType::F64);
    let step = |factors: &[(&str, f64)]| {
        let factors = factors.iter().map(|(p, factor)| Factor { pattern: Pattern::new(p).expect("a pattern"), factor: *factor }).collect();
        let update = Settings { rule: Rule::AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8 }, factors, ..Settings::default() };
        passed(program.clone(), Algorithm::LG_FG_A.passes(), &Options { update, ..Options::new(Algorithm::LG_FG_A) })
    };
    let (all, part) = (step(&[]), step(&[("block1.*", 1.0), ("block?.*", 0.0)]));
    assert!(part.nodes.len() < all.nodes.len());
    for name in ["block0.fc.w", "block0.group.b"] {
        assert!(all.output(name).is_some() && all.param(&format!("{}mean.{name}", update::ADAMW)).is_some());
        assert!(part.output(name).is_none() && part.param(&format!("{}mean.{name}", update::ADAMW)).is_none());
        assert!(part.param(name).is_some());
    }
    let mut inputs = tensors(&all, &mut Random::new(62));
    for name in all.params.iter().map(|p| &p.port.name).filter(|n| is_kept(n)) {
        inputs.get_mut(name).expect("a tensor").data.iter_mut().for_each(|x| *x = x.abs());
    }
    let (whole, rest) = (evaluated(&all, &inputs), evaluated(&part, &inputs));
    assert!(rest.contains_key("block1.fc.w") && rest.contains_key("head0.w"));
    let expected = whole.into_iter().filter(|(n, _)| !n.contains("block0.")).collect();
    assert_near("what is not frozen", &rest, &expected, 1e-12, 1e-14);
    assert_eq!(rest.len(), expected.len());
}

/// 50,000 steps on, the correction is still the power's, where a product of as many rounded factors would not be.
#[test]
fn corrections_of_bias_stay_exact_in_f32() {
    for beta in [0.9f64, 0.99, 0.999, 0.9999] {
        let (keep, add) = (beta as f32, (1.0 - beta) as f32);
        let mut count = 0.0f32;
        for t in 1..=50_000 {
            count = keep * count + add;
            let exact = 1.0 - beta.powi(t);
            assert!((f64::from(count) - exact).abs() <= 1e-3 * exact, "{beta} at step {t}: {count}, not {exact}");
            // As close as f32 can hold the average's factors: they add up to 1 within 2^-24.
            assert!(t > 10 || (f64::from(count) - exact).abs() <= 1e-6 * exact, "{beta} at step {t}: {count}, not {exact}");
        }
    }
}

#[test]
fn factors_for_nobody_and_names_that_are_taken_are_refused() {
    let (gradients, _) = network(DType::F32);
    let factors = ["layer1.*", "head*", "layer3.w"].map(|p| Factor { pattern: Pattern::new(p).expect("a pattern"), factor: 0.5 }).to_vec();
    let options = Options { update: Settings { factors, ..Settings::default() }, ..Options::new(Algorithm::BP) };
    let errors = update::run(&gradients, &options).expect_err("two patterns match nothing");
    let told: Vec<&str> = errors.iter().map(|e| e.message.as_str()).collect();
    assert_eq!(told.len(), 2);
    for (told, pattern) in told.iter().zip(["`head*=0.5`", "`layer3.w=0.5`"]) {
        assert!(told.contains(pattern) && told.ends_with("there are layer1.w, layer1.b, layer2.w, layer2.b"), "{told}");
    }
    let text = TANH_MLP.replace("layer1:", "momentum:");
    let program = passed(inlined(&text, &[], 3, DType::F32), &["gradient"], &Options::new(Algorithm::BP));
    let errors = update::run(&program, &Options::new(Algorithm::BP)).expect_err("the name is taken");
    assert!(errors[0].message.contains("`momentum.w`") && errors[0].hint.is_some(), "{errors:?}");
}
