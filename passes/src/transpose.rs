//! transpose: reverse mode, by transposing the linear tangent program that `jvp` makes. No second table of gradients: only ops that can be
//! linear in a tangent have a rule, in [`rule`]. It knows no losses and no algorithms.
//!
//! A structural zero gives a tangent fewer axes than its value, so a cotangent is summed over what its operand lacks; axes that only the
//! cotangent has (directions, replicas) ride along.

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::op::{Affine, Class};
use pushforward_ir::{AxisSet, Builder, DType, Diagnostic, Op, Value, verify};

use crate::jvp::{self, Departures, Tangent};
use crate::util::mirror;

/// Sum over `roots` of (cotangent * derivative of the root) with respect to `wrt`; `None` where nothing arrives. A result may lack axes of its
/// value: it is constant along them.
pub fn vjp(b: &mut Builder, roots: &[(Value, Value)], wrt: &[Value], but: &Departures) -> Result<Vec<Option<Value>>, Vec<Diagnostic>> {
    let first = b.program().nodes.iter().filter(|n| matches!(n.op, Op::Seed(_))).count() as u32;
    let seeds: Vec<Value> = wrt.iter().enumerate().map(|(i, &v)| b.op(Op::Seed(Box::new((first + i as u32, b.ty(v)))), &[])).collect();
    let request = jvp::Request {
        seeds: wrt.iter().copied().zip(seeds.iter().copied()).collect(),
        noise: HashMap::new(),
        roots: roots.iter().map(|r| r.0).collect(),
        but: *but,
    };
    let tangents = jvp::append(b, &request)?;
    let mut starts: HashMap<Value, Value> = HashMap::new();
    for (tangent, &(root, cotangent)) in tangents.iter().zip(roots) {
        if let Tangent::Value(t) = *tangent {
            // The cotangent belongs to the root's axes; the tangent may lack some of them.
            let lost = b.axes_of(root) - b.axes_of(t);
            let c = b.sum(cotangent, lost);
            add(b, &mut starts, t, c);
        }
    }
    transpose(b, starts, &seeds)
}

/// Cotangents of `seeds`, given cotangents of values that are linear in them.
fn transpose(b: &mut Builder, mut cotangents: HashMap<Value, Value>, seeds: &[Value]) -> Result<Vec<Option<Value>>, Vec<Diagnostic>> {
    let linear = b.program().depends(seeds, |v| is_condition(b, v));
    let order: Vec<Value> = b.program().values().rev().filter(|v| linear[v.0 as usize]).collect();
    for v in order {
        let Some(&c) = cotangents.get(&v) else { continue };
        let node = b.program().node(v).clone();
        if matches!(node.op, Op::Seed(_)) {
            continue;
        }
        b.origin = node.origin;
        for (i, &a) in node.args.iter().enumerate() {
            if linear[a.0 as usize] {
                let part = rule(b, &node.op, &node.args, i, v, c)
                    .ok_or_else(|| vec![verify::origin_diagnostic(b.program(), v, NO_AXES).hint("the program uses too many axes")])?;
                add(b, &mut cotangents, a, part);
            }
        }
    }
    Ok(seeds.iter().map(|s| cotangents.get(s).copied()).collect())
}

fn is_condition(b: &Builder, v: Value) -> bool {
    matches!(b.program().op(v).class(), Class::Compare | Class::Logic)
}

fn add(b: &mut Builder, cotangents: &mut HashMap<Value, Value>, to: Value, part: Value) {
    let total = match cotangents.get(&to) {
        Some(&sum) => b.op(Op::Add, &[sum, part]),
        None => part,
    };
    cotangents.insert(to, total);
}

const NO_AXES: &str = "no axis is left for the derivative of this";

/// What the cotangent `c` of `r = op(x..)` gives to operand `i`, in which `r` is linear. `None` when the program's axes are used up.
fn rule(b: &mut Builder, op: &Op, x: &[Value], i: usize, r: Value, c: Value) -> Option<Value> {
    let lost = b.axes_of(r) - b.axes_of(x[i]);
    Some(match op {
        Op::Add => b.sum(c, lost),
        Op::Sub if i == 0 => b.sum(c, lost),
        Op::Sub | Op::Neg => {
            let c = b.sum(c, lost);
            b.op(Op::Neg, &[c])
        }
        Op::Mul => b.contract(&[c, x[1 - i]], lost),
        // Linear in the numerator only.
        Op::Div => {
            let q = b.op(Op::Div, &[c, x[1]]);
            b.sum(q, lost)
        }
        Op::Sum(_) => c,
        Op::Contract(over) => {
            let others = x.iter().enumerate().filter(|(j, _)| *j != i).map(|(_, &f)| f);
            let factors: Vec<Value> = std::iter::once(c).chain(others).collect();
            b.contract(&factors, (b.axes_of(r) | *over) - b.axes_of(x[i]))
        }
        Op::Rename(pairs) => {
            let back: Vec<_> = pairs.iter().map(|&(from, to)| (to, from)).collect();
            b.rename(c, &back)
        }
        Op::Select => {
            let zero = b.constant(0.0, b.ty(c).dtype);
            let part = if i == 1 { [x[0], c, zero] } else { [x[0], zero, c] };
            let part = b.op(Op::Select, &part);
            b.sum(part, lost)
        }
        Op::Cast(_) => {
            let c = b.sum(c, lost);
            b.op(Op::Cast(b.ty(x[i]).dtype), &[c])
        }
        // Every position gathers what was read from it.
        Op::Window(affine) => {
            let position = position(b, affine);
            scatter(b, c, position, affine.axis, affine.terms.iter().map(|t| t.1).collect())?
        }
        Op::Gather(axis) => scatter(b, c, x[1], *axis, b.axes_of(x[1]) - b.axes_of(x[0]).without(*axis))?,
        Op::Activity(_) => c,
        Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Normal(_) | Op::Seed(_) => no_tangent(op),
        Op::Exp | Op::Log | Op::Tanh | Op::Erf | Op::Sqrt | Op::Rsqrt | Op::Relu | Op::Max(_) | Op::StopGradient => no_tangent(op),
        Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne | Op::And | Op::Or | Op::Not => no_tangent(op),
    })
}

/// The positions along its axis that a window reads.
fn position(b: &mut Builder, affine: &Affine) -> Value {
    let mut position = b.constant(affine.offset as f64, DType::I32);
    for &(factor, axis) in &affine.terms {
        let i = b.op(Op::Iota(axis), &[]);
        let f = b.constant(factor as f64, DType::I32);
        let term = b.op(Op::Mul, &[i, f]);
        position = b.op(Op::Add, &[position, term]);
    }
    position
}

/// Every place along `axis` gets the sum over `over` of those elements of `c` whose `position` it is.
fn scatter(b: &mut Builder, c: Value, position: Value, axis: AxisId, over: AxisSet) -> Option<Value> {
    let (mut c, mut position, mut over) = (c, position, over);
    // What was read may go by the name of what it was read from (`window[B = 2 - B]`): not the same axis here.
    if over.contains(axis) {
        let other = mirror(b, axis, b.axes_of(c) | b.axes_of(position) | over)?;
        c = b.rename(c, &[(axis, other)]);
        position = b.rename(position, &[(axis, other)]);
        over = over.without(axis).with(other);
    }
    let along = b.op(Op::Iota(axis), &[]);
    let hits = b.op(Op::Eq, &[along, position]);
    let zero = b.constant(0.0, b.ty(c).dtype);
    let part = b.op(Op::Select, &[hits, c, zero]);
    Some(b.sum(part, over))
}

fn no_tangent(op: &Op) -> ! {
    unreachable!("jvp writes no `{}` on tangents", op.name())
}

/// Axes that the type of `x` has: a cotangent of it, filled up, has them all.
pub fn filled(b: &mut Builder, cotangent: Option<Value>, of: Value) -> Value {
    let (dtype, axes): (_, AxisSet) = (b.ty(of).dtype, b.axes_of(of));
    match cotangent {
        Some(c) => crate::util::expand(b, c, axes),
        None => crate::util::zeros(b, dtype, axes),
    }
}
