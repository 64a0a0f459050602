//! jvp: forward-mode derivatives, symbolically. One rule per op, in [`rule`]; structural zeros are a variant, not a tensor of zeros; several
//! directions are one more axis on tangents and share the primal. It is linear algebra on the program: no noise, no estimator.

use std::collections::HashMap;

use pushforward_ir::op::Affine;
use pushforward_ir::{AxisSet, Builder, DType, Diagnostic, Op, Program, Value, verify};

use crate::util::expand;

/// The tangent of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tangent {
    /// Zero whatever the numbers are; it costs nothing.
    Zero,
    /// May lack axes of its primal (constant along them) and have others (directions, replicas).
    Value(Value),
}

impl Tangent {
    pub fn value(self) -> Option<Value> {
        match self {
            Tangent::Zero => None,
            Tangent::Value(v) => Some(v),
        }
    }

    fn map(self, f: impl FnOnce(Value) -> Value) -> Tangent {
        match self {
            Tangent::Zero => Tangent::Zero,
            Tangent::Value(v) => Tangent::Value(f(v)),
        }
    }

    fn plus(self, b: &mut Builder, other: Tangent) -> Tangent {
        match (self, other) {
            (Tangent::Zero, t) | (t, Tangent::Zero) => t,
            (Tangent::Value(l), Tangent::Value(r)) => Tangent::Value(b.op(Op::Add, &[l, r])),
        }
    }
}

/// What is differentiated.
#[derive(Default)]
pub struct Request<'a> {
    /// Values whose tangents are given; where one is computed from another, its own tangent is the given one alone.
    pub seeds: HashMap<Value, Value>,
    /// Noise that is added to the tangent of an activity.
    pub noise: HashMap<Value, Value>,
    /// Values whose tangents are wanted.
    pub roots: Vec<Value>,
    /// Derivatives end at values for which this holds (beside stop-gradients).
    pub blocked: Option<&'a dyn Fn(Value) -> bool>,
}

/// Appends the tangent program and returns the roots' tangents. An op without a rule on a differentiable path from a seed to a root is an
/// error; all of them are listed.
pub fn append(b: &mut Builder, request: &Request) -> Result<Vec<Tangent>, Vec<Diagnostic>> {
    let program = b.program();
    let count = program.nodes.len();
    let seeded = |v: Value| request.seeds.contains_key(&v);
    let ends = |v: Value| !seeded(v) && (is_end(program.op(v)) || request.blocked.is_some_and(|blocked| blocked(v)));
    // Forwards: what depends on a seed or on noise.
    let mut moves = vec![false; count];
    for v in program.values() {
        let noisy = request.noise.contains_key(&v);
        let moved = !ends(v) && differentiable(program, v).any(|a| moves[a.0 as usize]);
        moves[v.0 as usize] = seeded(v) || noisy || moved;
    }
    // Backwards: what a root depends on, along such values only.
    let mut wanted = vec![false; count];
    request.roots.iter().for_each(|r| wanted[r.0 as usize] = true);
    for v in program.values().rev() {
        if wanted[v.0 as usize] && moves[v.0 as usize] && !seeded(v) {
            for a in differentiable(program, v) {
                wanted[a.0 as usize] |= moves[a.0 as usize];
            }
        }
    }
    let path: Vec<Value> = program.values().filter(|v| wanted[v.0 as usize] && moves[v.0 as usize]).collect();
    let missing: Vec<Diagnostic> = path
        .iter()
        .filter(|&&v| !seeded(v) && matches!(program.op(v), Op::Max(_)))
        .map(|&v| {
            verify::origin_diagnostic(
                program,
                v,
                format!("`{}` has no derivative rule, and a derivative is wanted through it", program.op(v).name()),
            )
            .hint("take it out of the differentiated path with `stop_gradient`, or write it with other ops")
        })
        .collect();
    if !missing.is_empty() {
        return Err(missing);
    }
    let mut tangents = vec![Tangent::Zero; count];
    for v in path {
        let node = b.program().node(v).clone();
        b.origin = node.origin;
        let t = match request.seeds.get(&v) {
            Some(&seed) => Tangent::Value(seed),
            None => {
                // Beside noise, nothing passes a blocked value.
                let stays = is_end(&node.op) || request.blocked.is_some_and(|blocked| blocked(v));
                let operands: Vec<Tangent> = node.args.iter().map(|a| if stays { Tangent::Zero } else { tangents[a.0 as usize] }).collect();
                let t =
                    if operands.iter().all(|t| *t == Tangent::Zero) { Tangent::Zero } else { rule(b, &node.op, &node.args, v, &operands) };
                match request.noise.get(&v) {
                    Some(&noise) => t.plus(b, Tangent::Value(noise)),
                    None => t,
                }
            }
        };
        tangents[v.0 as usize] = t;
    }
    Ok(request.roots.iter().map(|r| tangents[r.0 as usize]).collect())
}

/// Whether derivatives of either mode end at an op.
pub fn is_end(op: &Op) -> bool {
    matches!(op, Op::StopGradient)
}

/// The operands of `v` through which a derivative can pass: floats of a float value, not the conditions and indices.
pub fn differentiable(program: &Program, v: Value) -> impl Iterator<Item = Value> {
    let float = program.ty(v).dtype.is_float();
    program.args(v).iter().copied().filter(move |&a| float && program.ty(a).dtype.is_float())
}

/// Tangent of `y = op(x..)`; `y` is passed so that rules can reuse it. At least one operand's tangent is not zero.
fn rule(b: &mut Builder, op: &Op, x: &[Value], y: Value, dx: &[Tangent]) -> Tangent {
    match op {
        Op::Add => dx[0].plus(b, dx[1]),
        Op::Sub => {
            let right = dx[1].map(|d| b.op(Op::Neg, &[d]));
            match (dx[0], dx[1]) {
                (Tangent::Value(l), Tangent::Value(r)) => Tangent::Value(b.op(Op::Sub, &[l, r])),
                _ => dx[0].plus(b, right),
            }
        }
        Op::Neg => dx[0].map(|d| b.op(Op::Neg, &[d])),
        // Bilinear: d(l r) = dl r + l dr.
        Op::Mul => {
            let left = dx[0].map(|d| b.op(Op::Mul, &[d, x[1]]));
            let right = dx[1].map(|d| b.op(Op::Mul, &[x[0], d]));
            left.plus(b, right)
        }
        // d(l / r) = dl / r - (y / r) dr.
        Op::Div => {
            let left = dx[0].map(|d| b.op(Op::Div, &[d, x[1]]));
            let right = dx[1].map(|d| {
                let slope = b.op(Op::Div, &[y, x[1]]);
                let part = b.op(Op::Mul, &[slope, d]);
                b.op(Op::Neg, &[part])
            });
            left.plus(b, right)
        }
        Op::Exp => dx[0].map(|d| b.op(Op::Mul, &[d, y])),
        Op::Log => dx[0].map(|d| b.op(Op::Div, &[d, x[0]])),
        // d tanh = dx (1 - y y), reusing the primal result.
        Op::Tanh => dx[0].map(|d| {
            let yy = b.op(Op::Mul, &[y, y]);
            let one = b.constant(1.0, b.ty(y).dtype);
            let slope = b.op(Op::Sub, &[one, yy]);
            b.op(Op::Mul, &[d, slope])
        }),
        // d erf = dx 2 / sqrt(pi) exp(-x x).
        Op::Erf => dx[0].map(|d| {
            let xx = b.op(Op::Mul, &[x[0], x[0]]);
            let minus = b.op(Op::Neg, &[xx]);
            let bell = b.op(Op::Exp, &[minus]);
            let slope = b.scale(bell, std::f64::consts::FRAC_2_SQRT_PI);
            b.op(Op::Mul, &[d, slope])
        }),
        // d sqrt = dx / (2 y).
        Op::Sqrt => dx[0].map(|d| {
            let twice = b.op(Op::Add, &[y, y]);
            b.op(Op::Div, &[d, twice])
        }),
        // d x^(-1/2) = -1/2 y^3 dx.
        Op::Rsqrt => dx[0].map(|d| {
            let yy = b.op(Op::Mul, &[y, y]);
            let yyy = b.op(Op::Mul, &[yy, y]);
            let slope = b.scale(yyy, -0.5);
            b.op(Op::Mul, &[d, slope])
        }),
        // The mask is the one that pruning and updates use.
        Op::Relu => dx[0].map(|d| {
            let zero = b.constant(0.0, b.ty(d).dtype);
            let mask = b.op(Op::Gt, &[x[0], zero]);
            b.op(Op::Select, &[mask, d, zero])
        }),
        Op::Select => {
            let zero = b.constant(0.0, b.ty(y).dtype);
            let (then, other) = (dx[1].value().unwrap_or(zero), dx[2].value().unwrap_or(zero));
            Tangent::Value(b.op(Op::Select, &[x[0], then, other]))
        }
        Op::Cast(to) => dx[0].map(|d| b.op(Op::Cast(*to), &[d])),
        Op::Sum(over) => dx[0].map(|d| b.sum(d, *over)),
        // Multilinear: each factor's tangent in its place, in turn.
        Op::Contract(over) => {
            let mut total = Tangent::Zero;
            for i in 0..x.len() {
                let term = dx[i].map(|d| {
                    let mut factors = x.to_vec();
                    factors[i] = d;
                    b.contract(&factors, *over)
                });
                total = total.plus(b, term);
            }
            total
        }
        Op::Rename(pairs) => dx[0].map(|d| b.rename(d, pairs)),
        Op::Window(affine) => dx[0].map(|d| {
            let d = expand(b, d, AxisSet::of([affine.axis]));
            b.op(Op::Window(affine.clone()), &[d])
        }),
        Op::Gather(axis) => dx[0].map(|d| {
            let d = expand(b, d, AxisSet::of([*axis]));
            b.op(Op::Gather(*axis), &[d, x[1]])
        }),
        Op::Activity(_) => dx[0],
        Op::StopGradient => Tangent::Zero,
        Op::Max(_) => unreachable!("reported as missing before any rule runs"),
        // No floats go in or none come out, so no tangent reaches them.
        Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Normal(_) | Op::Seed(_) => Tangent::Zero,
        Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne | Op::And | Op::Or | Op::Not => Tangent::Zero,
    }
}

/// The condition that a window reads position `i` of its axis: for each i along the axis and each index of the terms.
pub(crate) fn window_hits(b: &mut Builder, affine: &Affine) -> Value {
    let mut position = b.constant(affine.offset as f64, DType::I32);
    for &(factor, axis) in &affine.terms {
        let i = b.op(Op::Iota(axis), &[]);
        let f = b.constant(factor as f64, DType::I32);
        let term = b.op(Op::Mul, &[i, f]);
        position = b.op(Op::Add, &[position, term]);
    }
    let along = b.op(Op::Iota(affine.axis), &[]);
    b.op(Op::Eq, &[along, position])
}
