//! reach: which elements of which losses a perturbed element can affect, read off the axis names. For every axis of the perturbed value: the
//! set of names under which a later value *holds* it (its index there is the source's); the empty set means spread. No name of a layer, a
//! model or a loss is known here. What follows from it is [`multiplier`].

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::{AxisSet, Builder, Op, Program, Value};

use crate::jvp::differentiable;

/// Where one perturbed value arrives: for each of its axes, the names that hold it.
pub type Held = HashMap<AxisId, AxisSet>;

/// The same, axis by axis in the order of their ids.
pub type Names = Vec<AxisSet>;

/// How a value holds the source's axes, from how values before it do. `None`: no differentiable path.
pub type Rule<'a> = dyn Fn(&Program, Value, &[Option<Names>]) -> Option<Names> + 'a;

/// For each of `targets`, how the value `source` reaches it by `rule`, which is [`held`] unless someone studies another, if it is perturbed by
/// noise with `axes`: its own, and perhaps more. `None` if it does not.
pub fn reach(program: &Program, source: Value, axes: AxisSet, targets: &[Value], rule: &Rule) -> Vec<Option<Held>> {
    let axes: Vec<AxisId> = axes.iter().collect();
    let mut state: Vec<Option<Names>> = vec![None; program.nodes.len()];
    for v in program.values() {
        state[v.0 as usize] = if v == source { Some(axes.iter().map(|&a| AxisSet::of([a])).collect()) } else { rule(program, v, &state) };
    }
    targets.iter().map(|t| Some(axes.iter().copied().zip(state[t.0 as usize].clone()?).collect())).collect()
}

/// The rule: one arm for each op.
pub fn held(program: &Program, v: Value, state: &[Option<Names>]) -> Option<Names> {
    let at = |a: Value| state[a.0 as usize].as_ref();
    let args = program.args(v);
    if !differentiable(program, v).any(|a| at(a).is_some()) {
        return None;
    }
    let each = |f: &dyn Fn(AxisSet) -> AxisSet, x: Value| at(x).map(|s| s.iter().map(|&h| f(h)).collect::<Vec<_>>());
    match program.op(v) {
        Op::StopGradient => None,
        Op::Add | Op::Sub | Op::Mul | Op::Div => intersect(args.iter().filter_map(|&a| at(a).cloned())),
        Op::Neg | Op::Exp | Op::Log | Op::Tanh | Op::Erf | Op::Sqrt | Op::Rsqrt | Op::Relu | Op::Cast(_) | Op::Activity(_) => {
            at(args[0]).cloned()
        }
        // Where the condition is a comparison of two axes, the branch taken under it holds both names.
        Op::Select => {
            let pairs = deltas(program, args[0]);
            let then = each(&|h| close(h, &pairs), args[1]);
            let other = at(args[2]).cloned();
            intersect(then.into_iter().chain(other))
        }
        Op::Sum(over) | Op::Max(over) => each(&|h| h - *over, args[0]),
        Op::Contract(over) => {
            let joint = intersect(args.iter().filter_map(|&a| at(a).cloned()))?;
            Some(joint.into_iter().map(|h| h - *over).collect())
        }
        Op::Rename(pairs) => {
            let to = |a: AxisId| pairs.iter().find(|p| p.0 == a).map_or(a, |p| p.1);
            each(&|h| h.iter().map(to).collect(), args[0])
        }
        Op::Window(w) => each(&|h| h.without(w.axis), args[0]),
        // The index, if it has an axis that the table holds, selects on it as a join does.
        Op::Gather(axis) => each(&|h| h.without(*axis), args[0]),
        Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Normal(_) | Op::Seed(_) => None,
        Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne | Op::And | Op::Or | Op::Not => None,
    }
}

/// A value that joins several dependent operands holds an axis only under names that all of them hold it under.
fn intersect(states: impl Iterator<Item = Names>) -> Option<Names> {
    states.reduce(|l, r| l.into_iter().zip(r).map(|(l, r)| l & r).collect())
}

/// Pairs of axes that a condition requires to be equal.
pub fn deltas(program: &Program, condition: Value) -> Vec<(AxisId, AxisId)> {
    match program.op(condition) {
        Op::Delta(pair) => vec![*pair],
        Op::And => program.args(condition).iter().flat_map(|&a| deltas(program, a)).collect(),
        _ => Vec::new(),
    }
}

fn close(mut held: AxisSet, pairs: &[(AxisId, AxisId)]) -> AxisSet {
    loop {
        let before = held;
        for &(a, b) in pairs {
            if held.contains(a) || held.contains(b) {
                held = held.with(a).with(b);
            }
        }
        if held == before {
            return held;
        }
    }
}

/// The sum of a loss's directional derivatives over all its elements in reach: axes of the loss that are held are renamed to the source's,
/// all others are summed. `loss_axes`: those of the loss; the derivative may lack some (constant) and have more (directions).
pub fn multiplier(b: &mut Builder, derivative: Value, loss_axes: AxisSet, held: &Held) -> Value {
    let mut kept: Vec<(AxisId, AxisId)> = Vec::new();
    let mut sources: Vec<AxisId> = held.keys().copied().collect();
    sources.sort_unstable();
    for source in sources {
        // One name is enough: a further one is summed over, which is sound.
        let free = |t: &AxisId| kept.iter().all(|k| k.0 != *t);
        if let Some(name) = (held[&source] & loss_axes).iter().find(free) {
            kept.push((name, source));
        }
    }
    let keep: AxisSet = kept.iter().map(|k| k.0).collect();
    let total = b.sum(derivative, loss_axes - keep);
    b.rename(total, &kept)
}
