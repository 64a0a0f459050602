//! jvp: forward-mode derivatives, symbolically. One rule per op, in [`rule`]; structural zeros are a variant, not a tensor of zeros; several
//! directions are one more axis on tangents and share the primal. It is linear algebra on the program and knows no estimator: noise is one
//! more tangent that the caller hands in. Read [`append`] first; which ops have no rule says [`has_rule`].

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::{AxisSet, Builder, Diagnostic, Op, Program, Value, verify};

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
    pub but: Departures<'a>,
}

/// Where derivatives are not what the ops' rules say, on request.
#[derive(Clone, Copy, Default)]
pub struct Departures<'a> {
    /// Derivatives end at values for which this holds (beside stop-gradients).
    pub blocked: Option<&'a dyn Fn(Value) -> bool>,
    /// Values that are taken for the identity of an earlier one, given here.
    pub identities: Option<&'a HashMap<Value, Value>>,
    /// What stands in the place of a factor of a contraction over these axes, where another factor moves.
    pub coefficient: Option<&'a dyn Fn(&mut Builder, Value, AxisSet) -> Value>,
}

impl Departures<'_> {
    /// Whether nothing passes `v`, beside noise.
    fn ends(&self, program: &Program, v: Value) -> bool {
        is_end(program.op(v)) || self.blocked.is_some_and(|blocked| blocked(v))
    }

    fn identity(&self, v: Value) -> Option<Value> {
        self.identities?.get(&v).copied()
    }

    /// The values by which `v` moves.
    fn movers(&self, program: &Program, v: Value) -> Vec<Value> {
        match self.identity(v) {
            Some(x) => vec![x],
            None => differentiable(program, v).collect(),
        }
    }
}

/// Appends the tangent program and returns the roots' tangents. An op without a rule on a differentiable path from a seed to a root is an
/// error; all of them are listed.
pub fn append(b: &mut Builder, request: &Request) -> Result<Vec<Tangent>, Vec<Diagnostic>> {
    let route = Route {
        seeds: &|v| request.seeds.contains_key(&v),
        noise: &|v| request.noise.contains_key(&v),
        roots: &request.roots,
        but: request.but,
    };
    refuse(b.program(), route.without_rule(b.program()))?;
    let mut tangents = vec![Tangent::Zero; b.program().nodes.len()];
    for v in route.path(b.program()) {
        let node = b.program().node(v).clone();
        b.origin = node.origin;
        let t = match request.seeds.get(&v) {
            Some(&seed) => Tangent::Value(seed),
            None => {
                let t = if request.but.ends(b.program(), v) {
                    Tangent::Zero
                } else if let Some(x) = request.but.identity(v) {
                    tangents[x.0 as usize]
                } else {
                    let operands: Vec<Tangent> = node.args.iter().map(|a| tangents[a.0 as usize]).collect();
                    if operands.iter().all(|t| *t == Tangent::Zero) {
                        Tangent::Zero
                    } else {
                        rule(b, &node.op, &node.args, v, &operands, &request.but)
                    }
                };
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

/// From where to where derivatives are taken.
pub struct Route<'a> {
    /// Values that move whatever their operands do.
    pub seeds: &'a dyn Fn(Value) -> bool,
    /// Values that move beside their operands.
    pub noise: &'a dyn Fn(Value) -> bool,
    pub roots: &'a [Value],
    pub but: Departures<'a>,
}

impl Route<'_> {
    /// Values on a differentiable way from what moves to a root, operands first.
    pub fn path(&self, program: &Program) -> Vec<Value> {
        // Forwards: what depends on a seed or on noise.
        let mut moves = vec![false; program.nodes.len()];
        for v in program.values() {
            let moved = !self.but.ends(program, v) && self.but.movers(program, v).iter().any(|a| moves[a.0 as usize]);
            moves[v.0 as usize] = (self.seeds)(v) || (self.noise)(v) || moved;
        }
        // Backwards: what a root depends on, along such values only.
        let mut wanted = vec![false; program.nodes.len()];
        self.roots.iter().for_each(|r| wanted[r.0 as usize] = moves[r.0 as usize]);
        for v in program.values().rev().filter(|&v| !(self.seeds)(v) && !self.but.ends(program, v)) {
            if wanted[v.0 as usize] {
                self.but.movers(program, v).iter().for_each(|a| wanted[a.0 as usize] |= moves[a.0 as usize]);
            }
        }
        program.values().filter(|v| wanted[v.0 as usize]).collect()
    }

    /// Values on the way whose op has no rule.
    pub fn without_rule(&self, program: &Program) -> Vec<Value> {
        let given = |v: Value| (self.seeds)(v) || self.but.identity(v).is_some();
        self.path(program).into_iter().filter(|&v| !given(v) && !has_rule(program.op(v))).collect()
    }
}

/// One error for each place in the text from which one of `missing` comes: clones of a value have its place.
pub fn refuse(program: &Program, mut missing: Vec<Value>) -> Result<(), Vec<Diagnostic>> {
    missing.sort_unstable();
    let mut errors: Vec<Diagnostic> = Vec::new();
    for v in missing {
        let message = format!("`{}` has no derivative rule, and a derivative is wanted through it", program.op(v).name());
        let error = verify::origin_diagnostic(program, v, message)
            .hint("take it out of the differentiated path with `stop_gradient`, or write it with other ops");
        let place = |d: &Diagnostic| d.place.as_ref().map(|p| p.0);
        if error.place.is_none() || !errors.iter().any(|e| place(e) == place(&error) && e.calls == error.calls) {
            errors.push(error);
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
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

/// Whether [`rule`] has one for `op`. One that has none may stand beside what is differentiated, or behind a stop-gradient.
pub fn has_rule(op: &Op) -> bool {
    match op {
        // Where several elements are largest there is no derivative, and a choice among them would be this compiler's, not the model's.
        Op::Max(_) => false,
        Op::Add | Op::Sub | Op::Mul | Op::Neg | Op::Div | Op::Exp | Op::Log | Op::Tanh | Op::Erf | Op::Sqrt | Op::Rsqrt | Op::Relu => true,
        Op::Select | Op::Cast(_) | Op::Sum(_) | Op::Contract(_) | Op::Rename(_) | Op::Window(_) | Op::Gather(_) => true,
        Op::Activity(_) | Op::StopGradient => true,
        Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Normal(_) | Op::Seed(_) => true,
        Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne | Op::And | Op::Or | Op::Not => true,
    }
}

/// Tangent of `y = op(x..)`; `y` is passed so that rules can reuse it. At least one operand's tangent is not zero.
fn rule(b: &mut Builder, op: &Op, x: &[Value], y: Value, dx: &[Tangent], but: &Departures) -> Tangent {
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
            for (i, moved) in dx.iter().enumerate() {
                let term = moved.map(|d| {
                    let others = |(j, &f): (usize, &Value)| match but.coefficient {
                        _ if j == i => d,
                        Some(instead) => instead(b, f, *over),
                        None => f,
                    };
                    let factors: Vec<Value> = x.iter().enumerate().map(others).collect();
                    b.contract(&factors, *over)
                });
                total = total.plus(b, term);
            }
            total
        }
        Op::Rename(pairs) => dx[0].map(|d| renamed(b, d, pairs)),
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
        Op::Max(_) => unreachable!("`has_rule` refuses it before any rule runs"),
        // No floats go in or none come out: their tangents are zero.
        Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Normal(_) | Op::Seed(_) => Tangent::Zero,
        Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne | Op::And | Op::Or | Op::Not => Tangent::Zero,
    }
}

/// A tangent renamed as its primal is. It may have an axis of its own whose name the primal only now takes, as noise for every example has: what
/// was candidate m of all examples is example n, and moves with the noise of that one.
fn renamed(b: &mut Builder, d: Value, pairs: &[(AxisId, AxisId)]) -> Value {
    let (mut d, mut rest) = (d, Vec::new());
    for &(from, to) in pairs {
        let axes = b.axes_of(d);
        let taken = axes.contains(to) && pairs.iter().all(|p| p.0 != to);
        if taken && axes.contains(from) {
            let (same, zero) = (b.op(Op::Delta((from, to)), &[]), b.constant(0.0, b.ty(d).dtype));
            let own = b.op(Op::Select, &[same, d, zero]);
            d = b.sum(own, AxisSet::of([from]));
        } else if !taken {
            rest.push((from, to));
        }
    }
    b.rename(d, &rest)
}
