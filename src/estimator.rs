//! Estimates of gradients, held against the gradients: the bias and the variance of an algorithm on a model, for every parameter. Where the
//! noise has few elements its expectation is computed exactly: every estimator is bilinear in the noise and its effect, so the sum over all
//! one-hot directions is the mean over standard normal noise. Beyond that, samples say it, within intervals. It knows no estimator and no
//! model. Read [`verify`] first.

use pushforward_cpu::Pool;
use pushforward_ir::philox::{Domain, fill_normals_f64};
use pushforward_ir::program::{Init, Port};
use pushforward_ir::{DType, Op, Program};
use pushforward_passes::algorithm::{Algorithm, NoiseSource, Options, Signal};
use pushforward_passes::gradient::GRADIENT;
use pushforward_passes::perturb::{ACTIVITY_NOISE, WEIGHT_NOISE};

use crate::error::Error;
use crate::model::{Model, Settings};
use crate::step::{Input, Parameters, Step};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Request {
    /// Estimates that are drawn, in [`GROUPS`] of one size, so perhaps a few more; 0 for none.
    pub samples: usize,
    /// The most elements of noise for which the expectation is computed exactly.
    pub exact_up_to: usize,
    /// Of inputs, parameters and noise.
    pub seed: u32,
}

/// An estimate of a number: its value, and half the width of the interval that holds the number with a probability of 95 %.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Measured {
    pub value: f64,
    pub half: f64,
    /// Of the value's distribution, as far as samples tell: estimates are products of normal numbers, and far from symmetric.
    skewness: f64,
}

/// How far a number may be from what it should be before that is no accident, in standard errors, skewness allowed for: with a hundred
/// comparisons, one in about 100 honest runs of a thousand samples is called wrong by what has an error from all samples, and at most one in 25
/// by what has one from [`GROUPS`] (Student's distribution). Of fewer samples the skewness itself is less known: with 40, one in five to ten.
const ACCIDENT: f64 = 4.0;
/// Half of a 95 % interval, in standard errors: Student's, for as many groups of samples as there are; a little wide for what each sample says.
const HALF: f64 = 2.09;
/// Of the expectation, relative to the largest entry of all gradients.
const EXACT: f64 = 1e-9;
/// The same, of what is no more than rounding.
const ROUNDING: f64 = 1e-13;

impl Measured {
    fn of(value: f64, standard_error: f64) -> Measured {
        Measured { value, half: HALF * standard_error, skewness: 0.0 }
    }

    /// Whether the number can be `x`.
    pub fn may_be(&self, x: f64) -> bool {
        let error = self.half / HALF;
        if error == 0.0 {
            return self.value == x;
        }
        // Hall's transformation: of a mean of skewed numbers, low values come with small errors, so that plain quotients have one long tail.
        let (z, k) = ((self.value - x) / error, self.skewness);
        let straight = z + k * z * z / 3.0 + k * k * z * z * z / 27.0 + k / 6.0;
        straight.abs() <= ACCIDENT
    }
}

/// What samples say of one parameter.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sampled {
    /// The part of the exact gradient that the mean estimate has along it: 1 if there is no bias. `None` where the gradient is 0.
    pub along: Option<Measured>,
    /// The squared distance of the mean estimate from the gradient, relative to the gradient's square (where that is 0, to the square of the
    /// largest entry of all gradients): 0 if there is no bias. Its estimate has no bias itself, so it may be negative.
    pub bias: Measured,
    /// The variance of an entry, the mean over all of them.
    pub variance: Measured,
}

/// What is found of one parameter that is estimated.
#[derive(Clone, PartialEq, Debug)]
pub struct Verdict {
    pub parameter: String,
    pub entries: usize,
    /// The Euclidean norm of the exact gradient. Where it is not finite, nothing can be held against it.
    pub gradient: f64,
    /// The largest departure of the expectation from the gradient, relative to the largest entry of all gradients. `None`: not computed.
    pub departure: Option<f64>,
    /// `None`: nothing was drawn.
    pub sampled: Option<Sampled>,
}

impl Verdict {
    /// Whether something shows that the estimate's mean is not the gradient.
    pub fn is_biased(&self) -> bool {
        // What is not a number proves nothing good.
        let within = |x: f64, most: f64| x <= most;
        let drawn = |s: Sampled| s.along.is_some_and(|a| !a.may_be(1.0)) || !within(s.bias.value, ACCIDENT / HALF * s.bias.half);
        match self.departure {
            // An exact answer settles it.
            Some(departure) => !within(departure, EXACT),
            None => self.sampled.is_some_and(drawn),
        }
    }
}

/// All that is found.
#[derive(Clone, PartialEq, Debug)]
pub struct Verification {
    /// The algorithm whose gradients are the exact ones.
    pub exact: Algorithm,
    /// Elements of noise in one direction.
    pub noise: usize,
    pub verdicts: Vec<Verdict>,
}

/// The algorithm that takes exactly the gradients that `algorithm` estimates. `None` where it estimates none.
pub fn exact(algorithm: Algorithm) -> Option<Algorithm> {
    let backward = |a: &Algorithm| a.signal == Signal::Backward && a.losses == algorithm.losses;
    Algorithm::ALL.into_iter().find(backward).filter(|_| algorithm.is_estimate())
}

/// The program of an algorithm's gradients alone, `grad.<parameter>`, in f64.
pub fn gradients(model: &Model, settings: &Settings) -> Result<Program, Error> {
    let mut program = model.gradients_in(DType::F64, settings)?;
    program.outputs.retain(|o| o.port.name.starts_with(GRADIENT));
    model.passes(program, &["dce"], &settings.passes, &mut |_, _| {})
}

/// Holds the settings' algorithm against the exact gradients of the same losses, at inputs and parameters drawn from the seed: numbers are
/// normal with deviation 1, labels are spread evenly, and parameters are as the model says that they begin, those that begin at one number
/// (where gradients may vanish) with normal numbers of deviation 0.1 added. `progress` is called after each sample.
pub fn verify(
    model: &Model,
    settings: &Settings,
    request: &Request,
    pool: &Pool,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Verification>, Error> {
    let algorithm = settings.passes.algorithm;
    let Some(exact) = exact(algorithm) else { return Ok(None) };
    let with = |options: Options| Settings { passes: options, ..settings.clone() };
    let plain = &settings.passes;

    let given = with(Options { noise: NoiseSource::Given, directions: 1, ..plain.clone() });
    let noise = {
        let program = gradients(model, &given)?;
        noise_ports(&program).map(|port| program.shape(port).iter().product::<usize>()).sum::<usize>()
    };
    let mut reference = Point::new(gradients(model, &with(Options { algorithm: exact, ..plain.clone() }))?, request.seed, pool)?;
    reference.run(&[])?;
    let estimated: Vec<String> = {
        let program = model.inline_in(DType::F64, &settings.sets, settings.batch)?.program;
        program.params.iter().filter(|p| !p.exact).map(|p| p.port.name.clone()).collect()
    };
    let mut truth: Vec<Vec<f64>> = estimated.iter().map(|name| reference.gradient(name)).collect();
    let largest = truth.iter().flatten().fold(0.0f64, |m, x| m.max(x.abs()));
    // What rounding leaves of a gradient that is 0 (of a bias before a norm) is no direction.
    truth.iter_mut().filter(|t| t.iter().all(|x| x.abs() <= ROUNDING * largest)).for_each(|t| t.fill(0.0));
    let expectation = match noise <= request.exact_up_to {
        true => Some(expectation(model, &given, &estimated, noise, request.seed, pool)?),
        false => None,
    };
    let sampled = match request.samples {
        0 => None,
        _ => Some(sample(model, settings, &estimated, &truth, request, pool, progress)?),
    };
    let verdicts = estimated.into_iter().enumerate().map(|(i, parameter)| Verdict {
        parameter,
        entries: truth[i].len(),
        gradient: dot(&truth[i], &truth[i]).sqrt(),
        departure: expectation.as_ref().map(|e| {
            let apart = e[i].iter().zip(&truth[i]).map(|(x, y)| (x - y).abs());
            // `max` would lose NaN.
            apart.fold(0.0f64, |m, x| if m.is_nan() || x.is_nan() { f64::NAN } else { m.max(x) }) / largest.max(f64::MIN_POSITIVE)
        }),
        sampled: sampled.as_ref().map(|s| s[i]),
    });
    Ok(Some(Verification { exact, noise, verdicts: verdicts.collect() }))
}

/// Directions that go through one run.
const TOGETHER: usize = 32;

/// The mean of the estimates over standard normal noise of `noise` elements, by parameter.
fn expectation(model: &Model, given: &Settings, names: &[String], noise: usize, seed: u32, pool: &Pool) -> Result<Vec<Vec<f64>>, Error> {
    let settings = Settings { passes: Options { directions: TOGETHER, ..given.passes.clone() }, ..given.clone() };
    let mut point = Point::new(gradients(model, &settings)?, seed, pool)?;
    let ports: Vec<(String, usize)> = {
        let program = point.step.program();
        noise_ports(program).map(|p| (p.name.clone(), program.shape(p)[1..].iter().product())).collect()
    };
    let mut total: Vec<Vec<f64>> = Vec::new();
    for start in (0..noise).step_by(TOGETHER) {
        let mut first = 0;
        let mut lent = Vec::new();
        for (name, size) in &ports {
            let mut hot = vec![0.0; TOGETHER * size];
            for direction in 0..TOGETHER {
                if let Some(at) = (start + direction).checked_sub(first).filter(|at| at < size) {
                    hot[direction * size + at] = 1.0;
                }
            }
            lent.push((name.clone(), hot));
            first += size;
        }
        point.run(&lent)?;
        // Estimates are means over directions; what is wanted is the sum.
        let part = names.iter().map(|name| point.gradient(name).into_iter().map(|x| x * TOGETHER as f64).collect::<Vec<f64>>());
        match total.is_empty() {
            true => total = part.collect(),
            false => total.iter_mut().zip(part).for_each(|(sum, part)| sum.iter_mut().zip(part).for_each(|(s, x)| *s += x)),
        }
    }
    Ok(total)
}

/// Groups of samples, by whose means what has no error bar of its own gets one.
pub const GROUPS: usize = 20;

fn sample(
    model: &Model,
    settings: &Settings,
    names: &[String],
    truth: &[Vec<f64>],
    request: &Request,
    pool: &Pool,
    progress: &mut dyn FnMut(usize),
) -> Result<Vec<Sampled>, Error> {
    let mut point = Point::new(gradients(model, settings)?, request.seed, pool)?;
    let per_group = request.samples.div_ceil(GROUPS);
    let mut all: Vec<Statistics> = truth.iter().map(|t| Statistics::new(t)).collect();
    for group in 0..GROUPS {
        for i in 0..per_group {
            point.sample = (group * per_group + i) as i32;
            point.run(&[])?;
            for ((name, truth), statistics) in names.iter().zip(truth).zip(&mut all) {
                statistics.add(&point.gradient(name), truth);
            }
            progress(group * per_group + i + 1);
        }
        all.iter_mut().for_each(Statistics::end_group);
    }
    let largest = truth.iter().flatten().fold(f64::MIN_POSITIVE, |m, x| m.max(x.abs()));
    Ok(all.iter().map(|s| s.found(largest)).collect())
}

/// Running sums over the samples of one parameter.
struct Statistics {
    /// Of this group.
    sum: Vec<f64>,
    squares: f64,
    count: usize,
    /// Of every group: the mean minus the gradient, and the total variance.
    departures: Vec<Vec<f64>>,
    variances: Vec<f64>,
    /// Of every sample, its part along the gradient.
    along: Vec<f64>,
    /// Of the gradient.
    square: f64,
}

impl Statistics {
    fn new(truth: &[f64]) -> Statistics {
        Statistics {
            sum: vec![0.0; truth.len()],
            squares: 0.0,
            count: 0,
            departures: Vec::new(),
            variances: Vec::new(),
            along: Vec::new(),
            square: dot(truth, truth),
        }
    }

    fn add(&mut self, estimate: &[f64], truth: &[f64]) {
        // Sums of departures from the gradient: of numbers near the mean, squares lose no digits.
        for ((sum, x), t) in self.sum.iter_mut().zip(estimate).zip(truth) {
            *sum += x - t;
            self.squares += (x - t) * (x - t);
        }
        self.count += 1;
        if self.square > 0.0 {
            self.along.push(dot(estimate, truth) / self.square);
        }
    }

    fn end_group(&mut self) {
        let n = self.count as f64;
        let departure: Vec<f64> = self.sum.iter().map(|s| s / n).collect();
        if self.count > 1 {
            self.variances.push((self.squares - n * dot(&departure, &departure)) / (n - 1.0) / departure.len().max(1) as f64);
        }
        self.departures.push(departure);
        self.sum.fill(0.0);
        (self.squares, self.count) = (0.0, 0);
    }

    fn found(&self, largest: f64) -> Sampled {
        let scale = if self.square > 0.0 { self.square } else { largest * largest };
        let total = self.departures.iter().fold(vec![0.0; self.sum.len()], |mut total, d| {
            total.iter_mut().zip(d).for_each(|(t, x)| *t += x);
            total
        });
        // Products of different groups' departures have the squared bias as their mean, and no share of the variance.
        let own: Vec<f64> = self.departures.iter().map(|d| dot(d, d)).collect();
        let pairs = |total: f64, own: f64, groups: f64| (total - own) / (groups * (groups - 1.0));
        let groups = self.departures.len() as f64;
        let all = pairs(dot(&total, &total), own.iter().sum(), groups);
        let without = self.departures.iter().zip(&own).map(|(d, o)| {
            let rest: f64 = total.iter().zip(d).map(|(t, x)| (t - x) * (t - x)).sum();
            pairs(rest, own.iter().sum::<f64>() - o, groups - 1.0)
        });
        let without: Vec<f64> = without.collect();
        let mean = without.iter().sum::<f64>() / groups;
        let jackknife = ((groups - 1.0) / groups * without.iter().map(|w| (w - mean) * (w - mean)).sum::<f64>()).sqrt();
        Sampled {
            along: (!self.along.is_empty()).then(|| measured(&self.along)),
            bias: Measured::of(all / scale, jackknife / scale),
            variance: measured(&self.variances),
        }
    }
}

/// The mean of independent numbers, with its error.
fn measured(x: &[f64]) -> Measured {
    let n = x.len() as f64;
    let mean = x.iter().sum::<f64>() / n;
    let moment = |power: i32| x.iter().map(|x| (x - mean).powi(power)).sum::<f64>() / n;
    let variance = moment(2) * n / (n - 1.0);
    // The mean of n numbers has their skewness over the root of n.
    let skewness = if variance > 0.0 { moment(3) / moment(2).powf(1.5) / n.sqrt() } else { 0.0 };
    Measured { skewness, ..Measured::of(mean, (variance / n).sqrt()) }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn noise_ports(program: &Program) -> impl Iterator<Item = &Port> {
    program.inputs.iter().filter(|p| [ACTIVITY_NOISE, WEIGHT_NOISE].iter().any(|prefix| p.name.starts_with(prefix)))
}

/// A program of gradients with the inputs and parameters at which it is looked at.
struct Point {
    step: Step,
    parameters: Parameters,
    floats: Vec<(String, Vec<f64>)>,
    whole: Vec<(String, Vec<i32>)>,
    seed: u32,
    /// Stands for the number of the step: noise depends on it.
    sample: i32,
}

impl Point {
    fn new(program: Program, seed: u32, pool: &Pool) -> Result<Point, Error> {
        let (mut floats, mut whole) = (Vec::new(), Vec::new());
        for (stream, port) in (0u32..).zip(&program.inputs) {
            if ["seed", "step"].contains(&port.name.as_str()) || noise_ports(&program).any(|p| p == port) {
                continue;
            }
            let mut numbers = vec![0.0; program.shape(port).iter().product()];
            fill_normals_f64(seed, Domain::Data, stream, 0, 0, 0, &mut numbers);
            match port.dtype {
                DType::F32 | DType::F64 => floats.push((port.name.clone(), numbers)),
                DType::I32 | DType::Bool => {
                    let count = choices(&program, port);
                    whole.push((port.name.clone(), numbers.iter().map(|x| (x.abs() * 1e6) as i32 % count).collect()));
                }
            }
        }
        let step = Step::compile(program, pool)?;
        let mut parameters = Parameters::new(&step, seed)?;
        for (stream, param) in (0u32..).zip(&step.program().params) {
            if let (Init::Constant(value), DType::F64, Some(view)) = (param.init, param.port.dtype, parameters.get(&param.port.name)) {
                let mut numbers = vec![0.0; view.to_f64().len()];
                fill_normals_f64(seed, Domain::Init, stream, 0, 0, 0, &mut numbers);
                numbers.iter_mut().for_each(|x| *x = value + 0.1 * *x);
                parameters.set(&param.port.name, &numbers)?;
            }
        }
        Ok(Point { step, parameters, floats, whole, seed, sample: 0 })
    }

    fn run(&mut self, noise: &[(String, Vec<f64>)]) -> Result<(), Error> {
        let program = self.step.program();
        let takes = |name: &str| program.input(name).is_some();
        let mut inputs: Vec<(&str, Input)> = Vec::new();
        inputs.extend(self.floats.iter().chain(noise).map(|(name, x)| (name.as_str(), Input::from(&x[..]))));
        inputs.extend(self.whole.iter().map(|(name, x)| (name.as_str(), Input::from(&x[..]))));
        if takes("seed") {
            inputs.push(("seed", Input::from(self.seed as i32)));
        }
        if takes("step") {
            inputs.push(("step", Input::from(self.sample)));
        }
        self.step.run(&mut self.parameters, &inputs)
    }

    /// Of the last run, for a parameter.
    fn gradient(&self, parameter: &str) -> Vec<f64> {
        self.step.output(&format!("{GRADIENT}{parameter}")).map_or(Vec::new(), |v| v.to_f64())
    }
}

/// How many different numbers an input of whole numbers may hold: as many as the shortest axis has along which they are looked up.
fn choices(program: &Program, port: &Port) -> i32 {
    let is_input = |v| matches!(program.op(v), Op::Input(i) if program.inputs[*i as usize] == *port);
    let looked_up = program.values().filter(|&v| program.args(v).iter().any(|&a| is_input(a))).filter_map(|v| match program.op(v) {
        Op::Gather(axis) => Some(*axis),
        Op::Eq => program.args(v).iter().find_map(|&a| match program.op(a) {
            Op::Iota(axis) => Some(*axis),
            _ => None,
        }),
        _ => None,
    });
    looked_up.map(|axis| program.axes.size(axis)).min().unwrap_or(2).max(1) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Squares of normal numbers, their mean 1 times `mean`: as skewed as the part of an estimate along its gradient.
    fn squares(count: usize, mean: f64, sample: u32) -> Vec<f64> {
        let mut numbers = vec![0.0; count];
        fill_normals_f64(5, Domain::Data, 0, sample, 0, 0, &mut numbers);
        numbers.iter().map(|x| mean * x * x).collect()
    }

    /// Plain quotients would call 2.7 in 1000 of these wrong.
    #[test]
    fn honest_estimates_are_seldom_called_wrong() {
        let wrong = (0..20_000).filter(|&i| !measured(&squares(100, 1.0, i)).may_be(1.0)).count();
        assert!(wrong <= 10, "{wrong} of 20000");
    }

    #[test]
    fn wrong_estimates_are_called_wrong_on_either_side() {
        for mean in [0.7, 1.4] {
            let found = (0..100).filter(|&i| !measured(&squares(2000, mean, i)).may_be(1.0)).count();
            assert!(found >= 95, "mean {mean}: {found} of 100");
        }
        let equal = measured(&[2.0; 50]);
        assert!(equal.may_be(2.0) && !equal.may_be(1.0) && !Measured::of(f64::NAN, 1.0).may_be(1.0));
    }
}
