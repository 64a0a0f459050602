//! `experiment fig8`: the variance of forward-gradient estimators against the batch and the sizes of a layer, measured, over the lines that
//! theory has for them.
//!
//! What is held: the weights of a tanh network of two layers (`models/tanh_mlp.pf`, 4-4-1 where nothing else is said), drawn from the seed
//! as its text says, and a pool of 1024 examples, inputs and targets standard normal. What is random in each sample: which N examples of the
//! pool, drawn with replacement, and the noise. Looked at: the estimate of the gradient of the first layer's p x q weights, how far it is from
//! the exact gradient, squared, in the mean over samples and weights. N is 16 where p or q grows, and both of these 4 where N does.
//!
//! The pool being finite, the lines are exact: see `theory`, then [`run`].

mod theory;

use pushforward::{Algorithm, Engine, Input, Model, Parameters, Pool, Settings, Step, View};
use pushforward_ir::philox::{Domain, fill_normals, philox4x32};

use super::super::failure::{Failure, note};
use super::super::flags;
use super::{Common, csv};
use crate::run::chart::{Drawing, Line, Look, Panel, lines};
use theory::{Estimator, Example, Moments, distance};

#[derive(clap::Args)]
pub struct Args {
    /// Estimates to draw for each point
    #[arg(long, value_name = "S", default_value = "5000", value_parser = samples)]
    samples: usize,
    /// Decides weights, examples and noise
    #[arg(long, value_name = "S", default_value = "0", value_parser = flags::seed)]
    seed: u32,
    #[command(flatten)]
    common: Common,
}

/// Examples to draw from: a power of two, so that the low bits of a random word choose one.
const POOL: usize = 1024;
/// What is not varied.
const USUAL: Sizes = Sizes { batch: 16, inputs: 4, outputs: 4 };

/// The layer whose gradient is looked at, and the outputs that hold gradients.
const WEIGHTS: &str = "grad.layer1.w";
const ALL_WEIGHTS: [&str; 4] = [WEIGHTS, "grad.layer1.b", "grad.layer2.w", "grad.layer2.b"];
/// Of one example, the gradient of a bias is the derivative by the activities that it is added to.
const ALL_ACTIVITIES: [&str; 2] = ["grad.layer1.b", "grad.layer2.b"];

/// What has noise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Perturbed {
    Layer,
    Network,
}

impl Perturbed {
    const ALL: [Perturbed; 2] = [Perturbed::Layer, Perturbed::Network];

    fn name(self) -> &'static str {
        match self {
            Perturbed::Layer => "the layer alone",
            Perturbed::Network => "all layers",
        }
    }

    fn model(self) -> Result<Model, Failure> {
        let network = || Model::built_in("tanh_mlp").expect("it is one of the built-in models");
        Ok(match self {
            Perturbed::Layer => Model::parse("fig8/one_layer.pf", include_str!("fig8/one_layer.pf"))?,
            Perturbed::Network => network()?,
        })
    }

    fn weights(self) -> &'static [&'static str] {
        match self {
            Perturbed::Layer => &ALL_WEIGHTS[..1],
            Perturbed::Network => &ALL_WEIGHTS,
        }
    }

    fn activities(self) -> &'static [&'static str] {
        match self {
            Perturbed::Layer => &ALL_ACTIVITIES[..1],
            Perturbed::Network => &ALL_ACTIVITIES,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sizes {
    /// N
    batch: usize,
    /// p
    inputs: usize,
    /// q
    outputs: usize,
}

/// What runs along the lower end of a panel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Varied {
    Batch,
    Inputs,
    Outputs,
}

impl Varied {
    const ALL: [Varied; 3] = [Varied::Batch, Varied::Inputs, Varied::Outputs];

    fn name(self) -> &'static str {
        match self {
            Varied::Batch => "batch N",
            Varied::Inputs => "inputs p",
            Varied::Outputs => "outputs q",
        }
    }

    fn points(self) -> Vec<Sizes> {
        let powers = |most: u32| (0..=most).map(|i| 4usize.pow(i));
        match self {
            Varied::Batch => powers(6).map(|batch| Sizes { batch, ..USUAL }).collect(),
            Varied::Inputs => powers(4).map(|inputs| Sizes { inputs, ..USUAL }).collect(),
            Varied::Outputs => powers(4).map(|outputs| Sizes { outputs, ..USUAL }).collect(),
        }
    }

    fn of(self, sizes: Sizes) -> usize {
        match self {
            Varied::Batch => sizes.batch,
            Varied::Inputs => sizes.inputs,
            Varied::Outputs => sizes.outputs,
        }
    }
}

/// A point of the figure.
struct Measured {
    perturbed: Perturbed,
    varied: Varied,
    sizes: Sizes,
    estimator: Estimator,
    /// The mean square of how far a weight's estimate is from its exact gradient, and the standard error of that.
    variance: f64,
    error: f64,
    /// What theory says, and what it says where nothing but the layer has noise.
    line: f64,
    line_alone: f64,
    /// How far the mean of all estimates is from the exact gradient, in units of what chance alone would make it: about 1.
    bias: f64,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let threads = Pool::new(args.common.threads)?;
    let engine = Engine::from(&threads);
    let mut measured: Vec<Measured> = Vec::new();
    for perturbed in Perturbed::ALL {
        let model = perturbed.model()?;
        for varied in Varied::ALL {
            for sizes in varied.points() {
                let pool = Examples::draw(sizes, args.seed);
                let moments = Moments::of(&pool.gradients(&model, perturbed, sizes, args.seed, &engine)?, sizes.outputs);
                for estimator in Estimator::ALL {
                    let [variance, error, bias] = pool.sample(&model, estimator, sizes, &moments.mean, &args, &engine)?;
                    let (line, line_alone) = (moments.variance(estimator, sizes.batch), moments.alone().variance(estimator, sizes.batch));
                    measured.push(Measured { perturbed, varied, sizes, estimator, variance, error, line, line_alone, bias });
                }
                note(format_args!("{}, {} = {}", perturbed.name(), varied.name(), varied.of(sizes)));
            }
        }
    }
    let table = csv(&HEAD, &measured.iter().map(|m| row(m, &args)).collect::<Vec<_>>())?;
    let shown = format!(
        "Mean over the first layer's p x q weights, {}-{}-1 network with tanh. Dots: {} samples each; lines: theory. Where one grows, N={}, p={}, q={}",
        USUAL.inputs, USUAL.outputs, args.samples, USUAL.batch, USUAL.inputs, USUAL.outputs
    );
    let figure = lines("Variance of forward gradients", &shown, Varied::ALL.len(), &panels(&measured))?;
    args.common.write("fig8", &[("csv", table), ("svg", figure)])
}

/// The pool.
struct Examples {
    inputs: usize,
    /// Row by row, an example in each.
    x: Vec<f32>,
    /// One target each.
    y: Vec<f32>,
}

/// Streams of what is drawn here.
const INPUTS: u32 = 0;
const TARGETS: u32 = 1;
const CHOICE: u32 = 2;

impl Examples {
    fn draw(sizes: Sizes, seed: u32) -> Examples {
        let drawn = |stream: u32, count: usize| {
            let mut numbers = vec![0.0f32; count];
            fill_normals(seed, Domain::Data, stream, 0, 0, 0, &mut numbers);
            numbers
        };
        Examples { inputs: sizes.inputs, x: drawn(INPUTS, POOL * sizes.inputs), y: drawn(TARGETS, POOL) }
    }

    fn x(&self, i: usize) -> &[f32] {
        &self.x[i * self.inputs..(i + 1) * self.inputs]
    }

    /// The exact gradient of every example.
    fn gradients(&self, model: &Model, perturbed: Perturbed, sizes: Sizes, seed: u32, engine: &Engine) -> Result<Vec<Example>, Failure> {
        let mut step = compiled(model, &settings(Algorithm::BP, Sizes { batch: 1, ..sizes }), engine)?;
        let mut parameters = Parameters::new(&step, seed)?;
        let examples = (0..POOL).map(|i| {
            step.run(&mut parameters, &[("x", self.x(i).into()), ("y", self.y[i..i + 1].into())])?;
            let gradients = |names: &[&str]| names.iter().flat_map(|name| numbers(&step, name)).collect::<Vec<f64>>();
            Ok(Example {
                layer: gradients(&[WEIGHTS]),
                all: gradients(perturbed.weights()),
                input: self.x(i).iter().map(|&x| f64::from(x) * f64::from(x)).sum(),
                activities: gradients(perturbed.activities()).iter().map(|d| d * d).sum(),
            })
        });
        examples.collect()
    }

    /// Variance, its standard error, and bias of an estimator; see [`Measured`].
    fn sample(
        &self,
        model: &Model,
        estimator: Estimator,
        sizes: Sizes,
        exact: &[f64],
        args: &Args,
        engine: &Engine,
    ) -> Result<[f64; 3], Failure> {
        let mut settings = settings(if estimator == Estimator::Activities { Algorithm::FG_A } else { Algorithm::FG_W }, sizes);
        settings.passes.noise_per_example = estimator == Estimator::Independent;
        let mut step = compiled(model, &settings, engine)?;
        let mut parameters = Parameters::new(&step, args.seed)?;
        let (mut x, mut y) = (vec![0.0; sizes.batch * self.inputs], vec![0.0; sizes.batch]);
        let (mut mean, mut squares) = (vec![0.0; exact.len()], Vec::with_capacity(args.samples));
        // Noise is a function of the step's number, so each sample has its own.
        for sample in 0..args.samples as u32 {
            for n in 0..sizes.batch {
                let words = philox4x32([n as u32 / 4, CHOICE, 0, sample], [args.seed, Domain::Data.key()]);
                let i = words[n % 4] as usize % POOL;
                x[n * self.inputs..(n + 1) * self.inputs].copy_from_slice(self.x(i));
                y[n] = self.y[i];
            }
            let all = [
                ("x", Input::from(&x[..])),
                ("y", Input::from(&y[..])),
                ("seed", Input::from(args.seed as i32)),
                ("step", Input::from(sample as i32)),
            ];
            step.run(&mut parameters, &all)?;
            let estimate = numbers(&step, WEIGHTS);
            mean.iter_mut().zip(&estimate).for_each(|(m, x)| *m += x / args.samples as f64);
            squares.push(distance(&estimate, exact) / exact.len() as f64);
        }
        let count = squares.len() as f64;
        let variance = squares.iter().sum::<f64>() / count;
        let spread = squares.iter().map(|s| (s - variance) * (s - variance)).sum::<f64>() / (count - 1.0);
        let bias = (distance(&mean, exact) / exact.len() as f64 / (variance / count)).sqrt();
        Ok([variance, (spread / count).sqrt(), bias])
    }
}

fn settings(algorithm: Algorithm, sizes: Sizes) -> Settings {
    let mut settings = Settings::new(algorithm, sizes.batch);
    settings.sets = vec![("inputs".into(), sizes.inputs.to_string()), ("hidden".into(), sizes.outputs.to_string())];
    settings
}

fn compiled(model: &Model, settings: &Settings, engine: &Engine) -> Result<Step, Failure> {
    Ok(Step::compile(model.gradients(settings)?, engine)?)
}

fn numbers(step: &Step, name: &str) -> Vec<f64> {
    step.output(name).as_ref().map_or(Vec::new(), View::to_f64)
}

// ---- files

const HEAD: [&str; 14] = [
    "noise_on",
    "varied",
    "batch",
    "inputs",
    "outputs",
    "estimator",
    "samples",
    "variance",
    "standard_error",
    "theory",
    "standard_errors_off",
    "theory_layer_alone",
    "bias",
    "seed",
];

fn row(m: &Measured, args: &Args) -> Vec<String> {
    let figure = |x: f64| format!("{x:.6e}");
    vec![
        m.perturbed.name().into(),
        m.varied.name().into(),
        m.sizes.batch.to_string(),
        m.sizes.inputs.to_string(),
        m.sizes.outputs.to_string(),
        m.estimator.name().into(),
        args.samples.to_string(),
        figure(m.variance),
        figure(m.error),
        figure(m.line),
        format!("{:.2}", (m.variance - m.line) / m.error),
        figure(m.line_alone),
        format!("{:.3}", m.bias),
        args.seed.to_string(),
    ]
}

fn panels(measured: &[Measured]) -> Vec<Panel> {
    let panel = |perturbed: Perturbed, varied: Varied| {
        let of = |estimator: Estimator, drawn: Drawing, y: fn(&Measured) -> f64| {
            let points = measured.iter().filter(|m| (m.perturbed, m.varied, m.estimator) == (perturbed, varied, estimator));
            let look = match estimator {
                Estimator::Shared => Look::Second,
                Estimator::Independent => Look::First,
                Estimator::Activities => Look::Third,
            };
            Line { name: estimator.name(), look, drawn, points: points.map(|m| (varied.of(m.sizes) as f64, y(m))).collect() }
        };
        let all = Estimator::ALL.into_iter().flat_map(|e| [of(e, Drawing::Line, |m| m.line), of(e, Drawing::Dots, |m| m.variance)]);
        Panel { title: format!("Noise on {}", perturbed.name()), x: varied.name(), y: "variance", lines: all.collect() }
    };
    Perturbed::ALL.into_iter().flat_map(|p| Varied::ALL.map(|v| panel(p, v))).collect()
}

/// As many as a step's number can tell apart.
fn samples(text: &str) -> Result<usize, String> {
    flags::count(text, 2, "a deviation needs two samples at least")
}
