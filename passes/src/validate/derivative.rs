//! Derivatives that a pass adds, against difference quotients of the program before it. A stop-gradient is no function that has one: what it
//! stops is held still, as an input. Quotients are taken with two steps; where they differ by much there is a kink, and nothing is judged.
//! It knows no rule of any op. Read [`check`] first.

use std::collections::HashMap;
use std::fmt;

use pushforward_ir::eval::{self, EvalError, Inputs, Tensor};
use pushforward_ir::program::{Output, Port, rebuild};
use pushforward_ir::{DType, Op, Program, Value};

use super::inputs::{Kind, inputs};
use super::rounding::{self, noise};
use super::{Checked, Fault, Pair, SPREADS, Subject, finite_max};
use crate::algorithm::Options;
use crate::gradient::{GRADIENT, objectives};
use crate::table::Derivative;

/// Half the distance of the points that a quotient looks at; the other quotient's is half of that. A power of two, and the numbers have few
/// digits ([`coarse`]), so that these points are what they should be.
const STEP: f64 = 1.0 / (1 << 17) as f64;
/// Two quotients apart by more than this share of themselves have no derivative between them.
const KINK: f64 = 1e-3;

/// Difference quotients of one result, by element, or of a weighted sum of several.
struct Quotient {
    /// With both steps.
    long: Tensor,
    short: Tensor,
    /// What rounding may do to the function, and to what the pass says of its derivative.
    noise: f64,
    claim_noise: f64,
}

impl Quotient {
    /// How far the claim may be from the short quotient; `None` where there is no derivative.
    fn tolerance(&self) -> Option<f64> {
        let apart = self.long.data.iter().zip(&self.short.data).map(|(&l, &s)| noise(l, s)).fold(0.0, f64::max);
        let rounding = SPREADS * (self.noise / STEP + self.claim_noise);
        (apart <= KINK * finite_max(&self.short) + rounding).then_some(8.0 * apart + rounding)
    }
}

/// Holds the derivatives that the pass added to their quotients.
pub(super) fn check(pair: &Pair, derivative: Derivative, options: &Options, seed: u64, checked: &mut Checked) -> Result<(), Fault> {
    for kind in [Kind::Ordinary, Kind::Positive] {
        let given = coarse(inputs(pair.before, pair.after, kind, seed));
        let claims = Claims::of(pair, &given, seed)?;
        let roots = roots(pair.before, derivative, options);
        if roots.is_empty() {
            continue;
        }
        let directions = coarse(inputs(pair.before, pair.after, Kind::Ordinary, seed.wrapping_add(1)));
        let direction = |name: &str| match derivative {
            Derivative::Tangents => given.get(&format!("d.{name}")),
            Derivative::Cotangents => claims.get(&format!("g.{name}")).and(directions.get(name)),
            Derivative::Gradients => claims.get(&format!("{GRADIENT}{name}")).and(directions.get(name)),
            Derivative::ExactGradients => {
                let exact = pair.before.params.iter().any(|p| p.exact && p.port.name == name);
                claims.get(&format!("{GRADIENT}{name}")).and(directions.get(name)).filter(|_| exact)
            }
        };
        if !given.keys().any(|name| direction(name).is_some()) {
            continue;
        }
        let Some(quotients) = quotients(pair, &roots, &given, &direction, seed)? else {
            checked.infinite += 1;
            continue;
        };
        match derivative {
            Derivative::Tangents => {
                for (root, quotient) in roots.iter().zip(quotients) {
                    let name = format!("d.{}", root.name);
                    let Some((tangent, claim_noise)) = claims.get(&name) else { continue };
                    let tangent = pair.evaluated(tangent.reorder(&quotient.short.order))?;
                    judge(pair, kind, &Subject::Output(name), root.value, &Quotient { claim_noise, ..quotient }, &tangent, checked)?;
                }
            }
            Derivative::Cotangents | Derivative::Gradients | Derivative::ExactGradients => {
                let mut sum = Quotient { long: scalar(0.0), short: scalar(0.0), noise: 0.0, claim_noise: 0.0 };
                for (root, quotient) in roots.iter().zip(&quotients) {
                    let weights = match given.get(&format!("ct.{}", root.name)).filter(|_| derivative == Derivative::Cotangents) {
                        Some(cotangent) => pair.evaluated(cotangent.reorder(&quotient.short.order))?,
                        None => Tensor { data: vec![root.weight; quotient.short.data.len()], ..quotient.short.clone() },
                    };
                    sum.long.data[0] += dot(&weights, &quotient.long);
                    sum.short.data[0] += dot(&weights, &quotient.short);
                    sum.noise += quotient.noise * total(&weights);
                }
                let prefix = if derivative == Derivative::Cotangents { "g." } else { GRADIENT };
                let mut product = 0.0;
                for name in pair.after.outputs.iter().filter_map(|o| o.port.name.strip_prefix(prefix)) {
                    if let (Some((g, noise)), Some(d)) = (claims.get(&format!("{prefix}{name}")), direction(name)) {
                        product += dot(&pair.evaluated(d.reorder(&g.order))?, g);
                        sum.claim_noise += noise * total(d);
                    }
                }
                let all = format!("the sum of the outputs `{prefix}..` along a direction");
                judge(pair, kind, &all, roots[0].value, &sum, &scalar(product), checked)?;
            }
        }
    }
    Ok(())
}

fn judge(
    pair: &Pair,
    kind: Kind,
    what: &dyn fmt::Display,
    v: Value,
    quotient: &Quotient,
    claim: &Tensor,
    checked: &mut Checked,
) -> Result<(), Fault> {
    let Some(tolerance) = quotient.tolerance() else {
        checked.edges += 1;
        return Ok(());
    };
    let x = &quotient.short;
    if let Some(at) = x.data.iter().zip(&claim.data).position(|(&x, &y)| noise(x, y) > tolerance) {
        let why = format!("the latter is the difference quotient of the program before, good to {tolerance:.1e}");
        return Err(pair.broken(what, v, kind, x, at, claim.data[at], &why));
    }
    checked.derivatives += 1;
    Ok(())
}

/// Numbers of about 1 with 20 binary digits after the point.
fn coarse(mut inputs: Inputs) -> Inputs {
    const DIGITS: f64 = (1 << 20) as f64;
    let floats = inputs.values_mut().filter(|t| t.dtype.is_float());
    floats.for_each(|t| t.data.iter_mut().for_each(|x| *x = (*x * DIGITS).round() / DIGITS));
    inputs
}

/// What the program after says, by output, with what rounding does to it.
struct Claims(HashMap<String, (Tensor, f64)>);

impl Claims {
    fn of(pair: &Pair, given: &Inputs, seed: u64) -> Result<Claims, Fault> {
        let values: Vec<Value> = pair.after.outputs.iter().map(|o| o.value).collect();
        let runs = pair.evaluated(rounding::run(pair.after, given, &values, seed))?;
        let names = pair.after.outputs.iter().map(|o| o.port.name.clone());
        Ok(Claims(names.zip(runs.results.into_iter().zip(runs.noise)).collect()))
    }

    fn get(&self, name: &str) -> Option<(&Tensor, f64)> {
        self.0.get(name).map(|(tensor, noise)| (tensor, *noise))
    }
}

/// A result that is differentiated.
struct Root {
    name: String,
    value: Value,
    /// Of all its elements, in the sum of all roots; a cotangent stands in its place.
    weight: f64,
}

fn roots(before: &Program, derivative: Derivative, options: &Options) -> Vec<Root> {
    match derivative {
        Derivative::Tangents | Derivative::Cotangents => {
            let float = before.outputs.iter().filter(|o| o.port.dtype.is_float());
            float.map(|o| Root { name: o.port.name.clone(), value: o.value, weight: 1.0 }).collect()
        }
        Derivative::Gradients | Derivative::ExactGradients => {
            let counted = objectives(before, options.algorithm.losses).into_iter();
            counted.map(|l| Root { name: l.name, value: l.value, weight: l.weight }).collect()
        }
    }
}

/// Difference quotients of all roots, what has a direction moving along it; `None` if one is no number.
fn quotients<'a>(
    pair: &Pair,
    roots: &[Root],
    given: &Inputs,
    direction: &dyn Fn(&str) -> Option<&'a Tensor>,
    seed: u64,
) -> Result<Option<Vec<Quotient>>, Fault> {
    let frozen = frozen(pair.before, roots);
    let values: Vec<Value> = frozen.outputs.iter().map(|o| o.value).collect();
    let mut at = given.clone();
    at.extend(pair.evaluated(stopped_values(pair.before, given))?);
    let here = pair.evaluated(rounding::run(&frozen, &at, &values, seed))?;
    let moved = |step: f64| {
        let mut at = at.clone();
        for (name, x) in at.iter_mut().filter(|(_, x)| x.dtype.is_float()) {
            if let Some(d) = direction(name) {
                x.data.iter_mut().zip(&d.data).for_each(|(x, d)| *x += step * d);
            }
        }
        pair.evaluated(eval::run_values(&frozen, &at, &values))
    };
    let quotient = |step: f64| {
        let (ahead, behind) = (moved(step)?, moved(-step)?);
        let of = |(a, b): (Tensor, Tensor)| {
            let data = a.data.iter().zip(&b.data).map(|(a, b)| (a - b) / (2.0 * step));
            Tensor { data: data.collect(), ..a.clone() }
        };
        Ok(ahead.into_iter().zip(behind).map(of).collect::<Vec<Tensor>>())
    };
    let (long, short) = (quotient(STEP)?, quotient(STEP / 2.0)?);
    if long.iter().chain(&short).any(|t| t.data.iter().any(|x| !x.is_finite())) {
        return Ok(None);
    }
    let all = long.into_iter().zip(short).zip(here.results.iter().zip(&here.noise));
    let of = |((long, short), (f, noise)): ((Tensor, Tensor), (&Tensor, &f64))| Quotient {
        long,
        short,
        noise: noise + f64::EPSILON * finite_max(f),
        claim_noise: 0.0,
    };
    Ok(Some(all.map(of).collect()))
}

/// A program of the roots, with an input `stopped.<number>` for every stop-gradient.
fn frozen(program: &Program, roots: &[Root]) -> Program {
    let port = |v: Value, name: String| Port { name, dtype: program.ty(v).dtype, order: program.axes.in_order(program.axes_of(v)) };
    let outputs = roots.iter().map(|root| Output { port: port(root.value, root.name.clone()), value: root.value });
    let program = Program { outputs: outputs.collect(), losses: Vec::new(), ..program.clone() };
    rebuild(&program, |b, v, args| match program.op(v) {
        Op::StopGradient => {
            b.program_mut().inputs.push(port(v, stopped(v)));
            b.op(Op::Input(b.program().inputs.len() as u32 - 1), &[])
        }
        _ => b.copy(&program, v, args),
    })
}

fn stopped(v: Value) -> String {
    format!("stopped.{}", v.0)
}

/// What those inputs are.
fn stopped_values(program: &Program, given: &Inputs) -> Result<Inputs, EvalError> {
    let stops: Vec<Value> = program.values().filter(|&v| *program.op(v) == Op::StopGradient).collect();
    Ok(stops.iter().map(|&v| stopped(v)).zip(eval::run_values(program, given, &stops)?).collect())
}

fn dot(x: &Tensor, y: &Tensor) -> f64 {
    x.data.iter().zip(&y.data).map(|(x, y)| x * y).sum()
}

fn total(x: &Tensor) -> f64 {
    x.data.iter().map(|x| x.abs()).sum()
}

fn scalar(x: f64) -> Tensor {
    Tensor::scalar(DType::F64, x)
}
