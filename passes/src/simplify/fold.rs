//! fold: normal forms by construction, once derivatives are taken. Marks go; a select with equal branches is its branch; a mask made of
//! deltas sinks to the outside of linear ops; a sum under a delta is a renaming; bound axes go by their original's name. The replicated
//! loss, written out as one copy for each patch and group, loses its copies here, because what they share becomes equal and what they do
//! not share stands under a delta. No rule knows a loss. While a program still has losses, derivatives may come: then marks stay, and so do
//! the types of marked values.
//!
//! Equal in real numbers; where a masked-out factor is infinite or NaN, and in the signs of zeros, results may differ. Read [`make`] first.

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::program::{Loss, rebuild};
use pushforward_ir::{AxisSet, Builder, Op, Program, Value};

use crate::util::{Renames, expand, rename_op};

pub fn run(program: &Program) -> Program {
    let marks = |l: &Loss| [Some(l.value), l.local.as_ref().map(|m| m.at), l.local.as_ref().and_then(|m| m.copies)];
    let marked: Vec<Value> = program.losses.iter().flat_map(marks).flatten().collect();
    let folded = rebuild(program, |b, v, args| match program.op(v) {
        Op::StopGradient | Op::Activity(_) if program.losses.is_empty() => args[0],
        op => {
            let y = make(b, op, args);
            if marked.contains(&v) { expand(b, y, program.axes_of(v)) } else { y }
        }
    });
    // A value that turns out constant along an axis loses it; at the border it is written out again.
    let mut outputs = folded.outputs.clone();
    let mut b = Builder::new(folded);
    for output in &mut outputs {
        output.value = expand(&mut b, output.value, output.port.ty().axes);
    }
    b.program_mut().outputs = outputs;
    crate::dce::run(&b.finish())
}

/// `op(x..)` in normal form; operands are in normal form, and may have lost axes along which they are constant.
fn make(b: &mut Builder, op: &Op, x: &[Value]) -> Value {
    match op {
        Op::Select if x[1] == x[2] => x[1],
        // A mask under another select goes outside.
        Op::Select => match masked(b, x[1]) {
            Some((mask, inner)) if is_zero(b, x[2]) => {
                let kept = b.op(Op::Select, &[x[0], inner, x[2]]);
                under(b, mask, kept)
            }
            _ => b.op(Op::Select, x),
        },
        Op::Neg | Op::Cast(_) => match masked(b, x[0]) {
            Some((mask, inner)) => {
                let y = b.op(op.clone(), &[inner]);
                under(b, mask, y)
            }
            None => b.op(op.clone(), x),
        },
        Op::Div => match masked(b, x[0]) {
            Some((mask, inner)) => {
                let y = b.op(Op::Div, &[inner, x[1]]);
                under(b, mask, y)
            }
            None => b.op(Op::Div, x),
        },
        Op::Add | Op::Sub => match (masked(b, x[0]), masked(b, x[1])) {
            (Some((m, l)), Some((n, r))) if m == n => {
                let y = b.op(op.clone(), &[l, r]);
                under(b, m, y)
            }
            _ => b.op(op.clone(), x),
        },
        Op::Mul => match unmask(b, x) {
            Some((mask, factors)) => {
                let y = b.op(Op::Mul, &sorted(factors));
                under(b, mask, y)
            }
            None => b.op(Op::Mul, &sorted(x.to_vec())),
        },
        Op::Sum(over) | Op::Contract(over) => reduce(b, x, *over),
        Op::Max(over) => {
            let (x, over) = canonical_bound(b, x, *over & b.axes_of(x[0]));
            if over.is_empty() { x[0] } else { b.op(Op::Max(over), &x) }
        }
        Op::Rename(pairs) => match masked(b, x[0]) {
            Some((mask, inner)) if pairs.iter().all(|(from, to)| !b.axes_of(mask).contains(*from) && !b.axes_of(mask).contains(*to)) => {
                let y = renamed(b, inner, pairs);
                under(b, mask, y)
            }
            _ => renamed(b, x[0], pairs),
        },
        Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Normal(_) | Op::Seed(_) => b.op(op.clone(), x),
        // Outside of its axis a read gives 0, so it is not constant along it even if its operand is.
        Op::Window(affine) => {
            let table = expand(b, x[0], AxisSet::of([affine.axis]));
            b.op(op.clone(), &[table])
        }
        Op::Gather(axis) => {
            let table = expand(b, x[0], AxisSet::of([*axis]));
            b.op(op.clone(), &[table, x[1]])
        }
        Op::Exp | Op::Log | Op::Tanh | Op::Erf | Op::Sqrt | Op::Rsqrt | Op::Relu => b.op(op.clone(), x),
        Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne | Op::And | Op::Or | Op::Not => b.op(op.clone(), x),
        Op::StopGradient | Op::Activity(_) => b.op(op.clone(), x),
    }
}

// ---- masks made of deltas

/// `select(mask, inner, 0)` where the mask is nothing but comparisons of axes.
fn masked(b: &Builder, v: Value) -> Option<(Value, Value)> {
    let program = b.program();
    match (program.op(v), program.args(v)) {
        (Op::Select, &[mask, inner, zero]) if is_zero(b, zero) && pairs(program, mask).is_some() => Some((mask, inner)),
        _ => None,
    }
}

fn is_zero(b: &Builder, v: Value) -> bool {
    matches!(b.program().op(v), Op::Const(n) if n.value() == 0.0)
}

/// The pairs of axes that a mask compares, if it does nothing else.
fn pairs(program: &Program, mask: Value) -> Option<Vec<(AxisId, AxisId)>> {
    match (program.op(mask), program.args(mask)) {
        (Op::Delta(pair), _) => Some(vec![*pair]),
        (Op::And, &[l, r]) => Some([pairs(program, l)?, pairs(program, r)?].concat()),
        _ => None,
    }
}

fn under(b: &mut Builder, mask: Value, inner: Value) -> Value {
    let zero = b.constant(0.0, b.ty(inner).dtype);
    b.op(Op::Select, &[mask, inner, zero])
}

/// Factors with their one common mask taken off; `None` if there is none, or several.
fn unmask(b: &Builder, x: &[Value]) -> Option<(Value, Vec<Value>)> {
    let mut mask = None;
    let mut factors = Vec::new();
    for &f in x {
        match masked(b, f) {
            Some((m, _)) if mask.is_some_and(|n| n != m) => return None,
            Some((m, inner)) => {
                mask = Some(m);
                factors.push(inner);
            }
            None => factors.push(f),
        }
    }
    Some((mask?, factors))
}

/// Products commute; one order lets equal ones meet.
fn sorted(mut factors: Vec<Value>) -> Vec<Value> {
    factors.sort_unstable();
    factors
}

// ---- sums

/// Sum over `over` of the product of `x`.
fn reduce(b: &mut Builder, x: &[Value], over: AxisSet) -> Value {
    let Some((mask, factors)) = unmask(b, x) else {
        let (x, over) = canonical_bound(b, x, over);
        return b.contract(&sorted(x), over);
    };
    let (mut factors, mut over) = (factors, over);
    let mut equal = pairs(b.program(), mask).expect("a mask is made of deltas");
    // sum over `bound` of delta(free, bound) f = f with `free` for `bound`, unless a factor depends on both.
    while let Some((bound, free)) = equal.iter().find_map(|&pair| removable(b, &factors, over, pair)) {
        factors = factors.iter().map(|&f| substitute(b, f, bound, free)).collect();
        over = over.without(bound);
        let now = |a: AxisId| if a == bound { free } else { a };
        equal = equal.iter().map(|&(l, r)| (now(l), now(r))).filter(|(l, r)| l != r).collect();
    }
    let (inside, outside): (Vec<_>, Vec<_>) = equal.into_iter().partition(|&(l, r)| over.contains(l) || over.contains(r));
    if let Some(mask) = conjunction(b, &inside) {
        factors[0] = under(b, mask, factors[0]);
    }
    let (factors, over) = canonical_bound(b, &factors, over);
    let y = b.contract(&sorted(factors), over);
    match conjunction(b, &outside) {
        Some(mask) => under(b, mask, y),
        None => y,
    }
}

/// A summed axis of `pair` and the one that can stand for it.
fn removable(b: &Builder, factors: &[Value], over: AxisSet, (l, r): (AxisId, AxisId)) -> Option<(AxisId, AxisId)> {
    let apart = factors.iter().all(|&f| !(b.axes_of(f).contains(l) && b.axes_of(f).contains(r)));
    let (bound, free) = if over.contains(r) { (r, l) } else { (l, r) };
    (apart && over.contains(bound)).then_some((bound, free))
}

fn conjunction(b: &mut Builder, pairs: &[(AxisId, AxisId)]) -> Option<Value> {
    let mut all = None;
    for &pair in pairs {
        let d = b.op(Op::Delta(pair), &[]);
        all = Some(match all {
            Some(a) => b.op(Op::And, &[a, d]),
            None => d,
        });
    }
    all
}

/// A summed axis that mirrors another goes by that one's name, where it is free: equal sums meet.
fn canonical_bound(b: &mut Builder, x: &[Value], over: AxisSet) -> (Vec<Value>, AxisSet) {
    let mut x = x.to_vec();
    let mut over = over;
    for bound in over.iter() {
        let Some(original) = b.program().axes[bound].like else { continue };
        let taken = over.contains(original) || x.iter().any(|&f| b.axes_of(f).contains(original));
        if !taken {
            x = x.iter().map(|&f| substitute(b, f, bound, original)).collect();
            over = over.without(bound).with(original);
        }
    }
    (x, over)
}

// ---- renaming

/// `v` with `to` for `from`, pushed down to the leaves so that renamings meet and cancel. `v` does not depend on `to`.
fn substitute(b: &mut Builder, v: Value, from: AxisId, to: AxisId) -> Value {
    let mut done = HashMap::new();
    push_down(b, v, from, to, &mut done)
}

fn push_down(b: &mut Builder, v: Value, from: AxisId, to: AxisId, done: &mut HashMap<Value, Value>) -> Value {
    if !b.axes_of(v).contains(from) {
        return v;
    }
    if let Some(&y) = done.get(&v) {
        return y;
    }
    let node = b.program().node(v).clone();
    // Everywhere else the operands go by the new name, and so does the op.
    let again = |b: &mut Builder, done: &mut HashMap<Value, Value>| {
        let args: Vec<Value> = node.args.iter().map(|&a| push_down(b, a, from, to, done)).collect();
        b.op(rename_op(&node.op, &Renames::from([(from, to)])), &args)
    };
    let y = match &node.op {
        Op::Rename(_) | Op::Input(_) | Op::Param(_) | Op::Normal(_) | Op::Seed(_) => renamed(b, v, &[(from, to)]),
        // `to` is bound inside: stop here rather than capture it.
        Op::Sum(over) | Op::Max(over) | Op::Contract(over) if over.contains(to) => renamed(b, v, &[(from, to)]),
        Op::Window(_) | Op::Gather(_) | Op::StopGradient | Op::Activity(_) => renamed(b, v, &[(from, to)]),
        Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Sum(_) | Op::Max(_) | Op::Contract(_) | Op::Select | Op::Cast(_) => again(b, done),
        Op::Add | Op::Sub | Op::Mul | Op::Neg | Op::Div | Op::Exp | Op::Log | Op::Tanh | Op::Erf | Op::Sqrt | Op::Rsqrt | Op::Relu => {
            again(b, done)
        }
        Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne | Op::And | Op::Or | Op::Not => again(b, done),
    };
    done.insert(v, y);
    y
}

/// `rename[pairs](x)`, joined with a renaming that `x` is itself.
fn renamed(b: &mut Builder, x: Value, pairs: &[(AxisId, AxisId)]) -> Value {
    let Op::Rename(inner) = b.program().op(x).clone() else { return b.rename(x, pairs) };
    let source = b.program().args(x)[0];
    let step = |pairs: &[(AxisId, AxisId)], a: AxisId| pairs.iter().find(|p| p.0 == a).map_or(a, |p| p.1);
    let joined: Vec<(AxisId, AxisId)> =
        b.axes_of(source).iter().map(|a| (a, step(pairs, step(&inner, a)))).filter(|(a, c)| a != c).collect();
    b.rename(source, &joined)
}
