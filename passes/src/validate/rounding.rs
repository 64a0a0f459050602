//! How far rounding moves the results of a program, measured: it runs as it stands, then again with the rounding of every operation moved at
//! random (Monte Carlo arithmetic: Parker 1997, after Vignes' CESTAC). That needs no analysis of any op and sees cancellation wherever in the
//! program it happens. Two programs that are equal in real numbers are apart by about as much as such runs of one, or the other, are. Read
//! [`run`].

use std::rc::Rc;

use pushforward_ir::eval::{self, EvalError, Inputs, Tensor};
use pushforward_ir::{Op, Program, Value};

use super::inputs::Random;
use crate::table::Arithmetic;

/// A program's results on some numbers.
pub struct Runs {
    pub results: Vec<Tensor>,
    /// Whether infinity, NaN or the quotient by a number without an inverse went into a result or stands in it.
    pub infinite: Vec<bool>,
    /// The most that moved roundings moved an element.
    pub noise: Vec<f64>,
}

/// Runs with moved roundings.
const MOVED: u64 = 3;
/// Units of the last place by which a rounding is moved, at most. It is more than the half of which a rounding is off, as few runs are made.
const ULPS: f64 = 4.0;

/// Runs of the evaluator for each kind of numbers; those with moved roundings sum twice.
pub fn runs(arithmetic: Arithmetic) -> u64 {
    match arithmetic {
        Arithmetic::Exact | Arithmetic::Adds => 1,
        Arithmetic::Real => 1 + 2 * MOVED,
    }
}

pub fn run(program: &Program, inputs: &Inputs, values: &[Value], seed: u64) -> Result<Runs, EvalError> {
    let mut infinite = vec![false; program.nodes.len()];
    let results = eval::run_values_by(program, inputs, values, &mut |v, x, y| {
        let inherits = program.args(v).iter().any(|a| infinite[a.0 as usize]);
        // A quotient is a product with an inverse: where that overflows, as for denormal numbers, the algebra ends.
        let inverts = *program.op(v) == Op::Div && x[1].data.iter().any(|d| !d.recip().is_finite());
        infinite[v.0 as usize] = inherits || inverts || y.data.iter().any(|y| !y.is_finite());
        y
    })?;
    let mut spread = vec![0.0f64; values.len()];
    for n in 0..MOVED {
        let mut failed = None;
        let moved = eval::run_values_by(program, inputs, values, &mut |v, x, y| {
            let mut random = Random::new(seed ^ (n << 32) ^ u64::from(v.0));
            moved(program, v, x, &y, &mut random).unwrap_or_else(|e| {
                failed.get_or_insert(e);
                y
            })
        })?;
        failed.map_or(Ok(()), Err)?;
        for (spread, (x, y)) in spread.iter_mut().zip(results.iter().zip(&moved)) {
            *spread = x.data.iter().zip(&y.data).map(|(&x, &y)| noise(x, y)).fold(*spread, f64::max);
        }
    }
    Ok(Runs { infinite: values.iter().map(|v| infinite[v.0 as usize]).collect(), results, noise: spread })
}

/// How far apart two numbers are; infinitely where one is a number and the other is none.
pub fn noise(x: f64, y: f64) -> f64 {
    match () {
        () if x == y || x.is_nan() && y.is_nan() => 0.0,
        () if !x.is_finite() || !y.is_finite() => f64::INFINITY,
        () => (x - y).abs(),
    }
}

/// What `v` is, computed as `y` from `x`, if its roundings go elsewhere. A zero that is exact stays: ties are no accident of rounding.
fn moved(program: &Program, v: Value, x: &[Rc<Tensor>], y: &Rc<Tensor>, random: &mut Random) -> Result<Rc<Tensor>, EvalError> {
    if !program.ty(v).dtype.is_float() {
        return Ok(y.clone());
    }
    // What the rounding is relative to.
    let size = match program.op(v) {
        // Every partial sum is rounded: of n, about sqrt(n) add up, relative to all that is summed.
        Op::Sum(over) | Op::Contract(over) => {
            let x: Vec<Rc<Tensor>> = x.iter().map(|x| Rc::new(magnitude(x))).collect();
            let total = eval::evaluate(program, &Inputs::new(), v, &x)?;
            let roundings = (program.axes.count(*over).max(1) as f64).sqrt();
            Tensor { data: total.data.iter().map(|t| t * roundings).collect(), ..(*total).clone() }.reorder(&y.order)?
        }
        Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Exp | Op::Log | Op::Tanh | Op::Erf | Op::Sqrt | Op::Rsqrt => magnitude(y),
        // These round nothing.
        Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Normal(_) | Op::Seed(_) => return Ok(y.clone()),
        Op::Neg | Op::Relu | Op::Select | Op::Cast(_) | Op::Max(_) | Op::Rename(_) | Op::Window(_) | Op::Gather(_) => return Ok(y.clone()),
        Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne | Op::And | Op::Or | Op::Not => return Ok(y.clone()),
        Op::StopGradient | Op::Activity(_) => return Ok(y.clone()),
    };
    let data = y.data.iter().zip(&size.data).map(|(y, size)| y + ULPS * f64::EPSILON * size * random.number());
    Ok(Rc::new(Tensor { data: data.collect(), ..(**y).clone() }))
}

fn magnitude(x: &Tensor) -> Tensor {
    Tensor { data: x.data.iter().map(|x| x.abs()).collect(), ..x.clone() }
}
