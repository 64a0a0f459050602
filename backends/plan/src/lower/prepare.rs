//! From a program to one that kernels can be read off: what no target has is written with what all have. It changes no number beyond the
//! order in which a contraction's factors are multiplied and summed.
//!
//! * Marks are gone; `window` and `gather` are sums under a mask.
//! * Axes of size 1 are gone: they hold nothing apart.
//! * Of a sum under a delta of a summed axis and another, the one term that counts is read ([`sum`]).
//! * A contraction has two factors, its result axes of either alone, or it is a product and a sum ([`is_gemm`]).
//! * A renaming stands on a value that is in memory anyway, where it costs nothing, wherever that needs no second computation.
//! * Each updated parameter, and each output that is a kernel's own result, has a copy ([`COPY`]) as its last value.
//!
//! Read [`run`] first.

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::op::{Affine, Class, Noise};
use pushforward_ir::program::{Output, Port, rebuild};
use pushforward_ir::{AxisSet, Builder, DType, Op, Program, Value};

use super::split::split;

/// The op that copies: marks have no meaning any more, so one of them, the identity, is free for it.
pub const COPY: Op = Op::StopGradient;

/// What an output is to a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// The parameter of this number, in place.
    State(usize),
    /// The tensor of this number among the program's outputs.
    Output(usize),
}

/// A prepared program. Its outputs are in the order of the program's own.
pub struct Prepared {
    pub program: Program,
    pub targets: Vec<Target>,
}

/// `splits`: long sums go in two steps. `apart`: the new values of parameters have a second copy, so that they can lie in memory of their own before the update.
pub fn run(program: &Program, apart: bool, splits: bool) -> Prepared {
    let program = indexed(program);
    let program = trimmed(&program);
    let program = rebuild(&program, |b, v, args| match program.op(v) {
        Op::Contract(over) => contraction(b, args, *over),
        Op::Sum(over) => sum(b, args[0], *over),
        _ => b.copy(&program, v, args),
    });
    let program = if splits { split(&program) } else { program };
    let program = sunk(&program);
    copies(&program, apart)
}

// ---- marks, window, gather

fn indexed(program: &Program) -> Program {
    rebuild(program, |b, v, args| match program.op(v) {
        Op::StopGradient | Op::Activity(_) => args[0],
        Op::Window(affine) => {
            let Affine { axis, terms, offset } = &**affine;
            let (x, along) = apart(b, args[0], *axis, terms.iter().map(|t| t.1).collect());
            let mut position = b.constant(*offset as f64, DType::I32);
            for &(factor, axis) in terms {
                let (index, factor) = (b.op(Op::Iota(axis), &[]), b.constant(factor as f64, DType::I32));
                let term = b.op(Op::Mul, &[index, factor]);
                position = b.op(Op::Add, &[position, term]);
            }
            entry(b, x, along, position)
        }
        Op::Gather(axis) => {
            let index_axes = b.axes_of(args[1]);
            let (x, along) = apart(b, args[0], *axis, index_axes);
            entry(b, x, along, args[1])
        }
        _ => b.copy(program, v, args),
    })
}

/// `x` with `axis` under a name that is not among `others`, and that name.
fn apart(b: &mut Builder, x: Value, axis: AxisId, others: AxisSet) -> (Value, AxisId) {
    if !others.contains(axis) {
        return (x, axis);
    }
    let taken = others | b.axes_of(x);
    let mut name = format!("{}'", b.program().axes[axis].name);
    loop {
        let fresh = b.program_mut().axes.find_or_add_like(&name, axis).expect("a program that indexes has not used up its axes");
        if !taken.contains(fresh) {
            return (b.rename(x, &[(axis, fresh)]), fresh);
        }
        name.push('\'');
    }
}

/// The entry of `x` along `axis` at `position`; 0 outside.
fn entry(b: &mut Builder, x: Value, axis: AxisId, position: Value) -> Value {
    let dtype = b.ty(x).dtype;
    let here = b.op(Op::Iota(axis), &[]);
    let hit = b.op(Op::Eq, &[here, position]);
    let number = if dtype == DType::Bool { b.op(Op::Cast(DType::I32), &[x]) } else { x };
    let zero = b.constant(0.0, b.ty(number).dtype);
    let kept = b.op(Op::Select, &[hit, number, zero]);
    let sum = b.op(Op::Sum(AxisSet::of([axis])), &[kept]);
    if dtype == DType::Bool { b.op(Op::Cast(DType::Bool), &[sum]) } else { sum }
}

// ---- axes of size 1

fn trimmed(program: &Program) -> Program {
    let long = |a: AxisId| program.axes.size(a) != 1;
    let set = |axes: AxisSet| axes.iter().filter(|&a| long(a)).collect::<AxisSet>();
    let list = |axes: &[AxisId]| axes.iter().copied().filter(|&a| long(a)).collect::<Vec<_>>();
    let port = |p: &Port| Port { order: list(&p.order), ..p.clone() };
    let mut bordered = program.clone();
    bordered.inputs.iter_mut().for_each(|p| *p = port(p));
    bordered.params.iter_mut().for_each(|p| p.port = port(&p.port));
    bordered.outputs.iter_mut().for_each(|o| o.port = port(&o.port));
    bordered.losses.clear();
    bordered.names.clear();
    rebuild(&bordered, |b, v, args| match program.op(v) {
        Op::Iota(a) if !long(*a) => b.constant(0.0, DType::I32),
        Op::Delta((a, _)) if !long(*a) => b.constant(1.0, DType::Bool),
        Op::Sum(over) if set(*over).is_empty() => args[0],
        Op::Max(over) if set(*over).is_empty() => args[0],
        Op::Sum(over) => b.op(Op::Sum(set(*over)), args),
        Op::Max(over) => b.op(Op::Max(set(*over)), args),
        Op::Contract(over) => b.contract(args, set(*over)),
        Op::Rename(pairs) => b.rename(args[0], &pairs.iter().copied().filter(|p| long(p.0)).collect::<Vec<_>>()),
        Op::Normal(noise) => {
            let direction = noise.direction.filter(|&a| long(a));
            // Seed and step are read from memory: a constant gets some.
            let stored = |b: &mut Builder, x: Value| if matches!(b.program().op(x), Op::Const(_)) { b.op(COPY, &[x]) } else { x };
            let mut args: Vec<Value> = args.iter().map(|&x| stored(b, x)).collect();
            let order = list(&noise.order);
            // If the axis whose rows are counted goes, rows of the next one are.
            let first = |order: &[AxisId]| order.iter().copied().find(|&a| Some(a) != noise.direction);
            if let ([_, _, row], Some(next)) = (&mut args[..], first(&order).filter(|_| first(&noise.order).is_some_and(|a| !long(a)))) {
                let rows = b.constant(program.axes.size(next) as f64, DType::I32);
                *row = b.op(Op::Mul, &[*row, rows]);
            }
            b.op(Op::Normal(Box::new(Noise { order, direction, ..(**noise).clone() })), &args)
        }
        _ => b.copy(program, v, args),
    })
}

// ---- contractions

/// Two factors at a time, the cheapest pair first.
fn contraction(b: &mut Builder, factors: &[Value], over: AxisSet) -> Value {
    let (mut factors, mut over) = (factors.to_vec(), over);
    while factors.len() > 2 {
        let mut pairs: Vec<(usize, usize)> = Vec::new();
        for j in 1..factors.len() {
            pairs.extend((0..j).map(|i| (i, j)));
        }
        let cost = |&(i, j): &(usize, usize)| {
            let join = b.axes_of(factors[i]) | b.axes_of(factors[j]);
            let inside = ended(b, &factors, over, i, j);
            (b.program().axes.count(join), b.program().axes.count(join - inside), i, j)
        };
        let (i, j) = pairs.into_iter().min_by_key(cost).expect("three factors make pairs");
        let inside = ended(b, &factors, over, i, j);
        let (y, x) = (factors.remove(j), factors.remove(i));
        let product = pair(b, x, y, inside);
        factors.push(product);
        over = over - inside;
    }
    match factors[..] {
        [x, y] => pair(b, x, y, over),
        _ => b.contract(&factors, over),
    }
}

/// The summed axes that no factor has but `i` and `j`.
fn ended(b: &Builder, factors: &[Value], over: AxisSet, i: usize, j: usize) -> AxisSet {
    let others = factors.iter().enumerate().filter(|(k, _)| *k != i && *k != j);
    let others = others.fold(AxisSet::EMPTY, |axes, (_, &f)| axes | b.axes_of(f));
    (over & (b.axes_of(factors[i]) | b.axes_of(factors[j]))) - others
}

fn pair(b: &mut Builder, x: Value, y: Value, over: AxisSet) -> Value {
    // What only one of them has is summed before.
    let (alone_x, alone_y) = (over - b.axes_of(y), over - b.axes_of(x));
    let (x, y) = (sum(b, x, alone_x), sum(b, y, alone_y));
    let over = over - alone_x - alone_y;
    if is_gemm(b.program(), x, y, over) {
        return b.op(Op::Contract(over), &[x, y]);
    }
    let product = b.op(Op::Mul, &[x, y]);
    b.sum(product, over)
}

// ---- sums under a mask

/// Sum over `over`. What stands for one index of a summed axis alone, `select(delta[P, Q](), x, 0)` summed over Q, is there already: `x` under
/// the name of the other axis. What stands for every index, a select between equals, needs no mask. Nothing is ever stored over P and Q.
fn sum(b: &mut Builder, x: Value, over: AxisSet) -> Value {
    let axes = b.axes_of(x) - over;
    match unmasked(b, x, over) {
        Some((inner, rest)) => {
            let y = sum(b, inner, rest);
            spread(b, y, axes)
        }
        None => b.sum(x, over),
    }
}

/// A value, and axes to sum it over, that give what `x` summed over `over` gives.
fn unmasked(b: &mut Builder, x: Value, over: AxisSet) -> Option<(Value, AxisSet)> {
    let (Op::Select, &[mask, inner, other]) = (b.program().op(x), b.program().args(x)) else { return None };
    if inner == other {
        return Some((inner, over));
    }
    let conditions = conjuncts(b.program(), mask);
    let axes = |v: &Value| b.axes_of(*v);
    let free = |l: AxisId, r: AxisId| (over.contains(l) && !over.contains(r)).then_some((l, r));
    let (at, (bound, free)) = conditions.iter().enumerate().find_map(|(i, c)| match b.program().op(*c) {
        Op::Delta((l, r)) => Some((i, free(*l, *r).or_else(|| free(*r, *l))?)),
        _ => None,
    })?;
    let mut rest = [&conditions[..at], &conditions[at + 1..]].concat();
    let captured = |v: &Value| axes(v).contains(bound) && axes(v).contains(free);
    let zero = matches!(b.program().op(other), Op::Const(n) if n.value() == 0.0);
    if !zero || !axes(&inner).contains(bound) || captured(&inner) || rest.iter().any(captured) {
        return None;
    }
    let pair = [(bound, free)];
    rest.iter_mut().for_each(|c| *c = b.rename(*c, &pair));
    let inner = b.rename(inner, &pair);
    let mask = rest.into_iter().reduce(|all, c| b.op(Op::And, &[all, c]));
    let kept = mask.map_or(inner, |mask| b.op(Op::Select, &[mask, inner, other]));
    Some((kept, over.without(bound)))
}

fn conjuncts(program: &Program, mask: Value) -> Vec<Value> {
    match (program.op(mask), program.args(mask)) {
        (Op::And, &[l, r]) => [conjuncts(program, l), conjuncts(program, r)].concat(),
        _ => vec![mask],
    }
}

/// `x`, written out along those of `axes` that it lacks.
fn spread(b: &mut Builder, x: Value, axes: AxisSet) -> Value {
    let missing = b.program().axes.in_order(axes - b.axes_of(x));
    missing.into_iter().fold(x, |y, axis| {
        let (index, zero) = (b.op(Op::Iota(axis), &[]), b.constant(0.0, DType::I32));
        let always = b.op(Op::Ge, &[index, zero]);
        b.op(Op::Select, &[always, y, x])
    })
}

/// Whether a contraction is a matrix product: both factors have result axes of their own. What is not is one pass over memory, and belongs
/// with its neighbours.
fn is_gemm(program: &Program, x: Value, y: Value, over: AxisSet) -> bool {
    let (x, y) = (program.axes_of(x), program.axes_of(y));
    !over.is_empty() && !((x - y) - over).is_empty() && !((y - x) - over).is_empty()
}

// ---- renamings

/// Whether an op computes each element of its result from the same element of its operands.
pub fn is_map(op: &Op) -> bool {
    match op.class() {
        Class::Arith | Class::Float | Class::Slow | Class::Compare | Class::Logic | Class::Select | Class::Cast => true,
        Class::Mark => *op == COPY,
        Class::Leaf | Class::Reduce | Class::Contract | Class::Rename | Class::Index => false,
    }
}

fn sunk(program: &Program) -> Program {
    let (mut uses, live) = (vec![0u32; program.nodes.len()], program.live());
    program.values().filter(|v| live[v.0 as usize]).flat_map(|v| program.args(v)).for_each(|a| uses[a.0 as usize] += 1);
    program.outputs.iter().for_each(|o| uses[o.value.0 as usize] += 1);
    // New values that nothing but a renaming uses.
    let mut once: HashMap<Value, bool> = HashMap::new();
    let sunk = rebuild(program, |b, v, args| {
        let y = match program.op(v) {
            Op::Rename(pairs) => sink(b, args[0], pairs, &once),
            _ => b.copy(program, v, args),
        };
        let single = uses[v.0 as usize] == 1 && once.get(&y).is_none_or(|&o| o);
        once.insert(y, single);
        y
    });
    rebuild(&sunk, |b, v, args| b.copy(&sunk, v, args))
}

/// `rename[pairs](x)`, as far down as values allow that nobody else needs under their own names.
fn sink(b: &mut Builder, x: Value, pairs: &[(AxisId, AxisId)], once: &HashMap<Value, bool>) -> Value {
    let pairs: Vec<_> = pairs.iter().copied().filter(|p| b.axes_of(x).contains(p.0)).collect();
    if pairs.is_empty() {
        return x;
    }
    let node = b.program().node(x).clone();
    let to = |a: AxisId| pairs.iter().find(|p| p.0 == a).map_or(a, |p| p.1);
    match &node.op {
        Op::Rename(inner) => {
            let source = node.args[0];
            let step = |a: AxisId| to(inner.iter().find(|p| p.0 == a).map_or(a, |p| p.1));
            let joined: Vec<_> = b.axes_of(source).iter().map(|a| (a, step(a))).collect();
            b.rename(source, &joined)
        }
        Op::Iota(a) => b.op(Op::Iota(to(*a)), &[]),
        Op::Delta((l, r)) => b.op(Op::Delta((to(*l), to(*r))), &[]),
        op if is_map(op) && once.get(&x).copied().unwrap_or(true) => {
            let args: Vec<Value> = node.args.iter().map(|&a| sink(b, a, &pairs, once)).collect();
            b.op(node.op, &args)
        }
        _ => b.rename(x, &pairs),
    }
}

// ---- outputs

fn copies(program: &Program, apart: bool) -> Prepared {
    let mut b = Builder::new(program.clone());
    let mut targets = Vec::new();
    let mut taken: Vec<Value> = Vec::new();
    let mut outputs = Vec::new();
    for (i, out) in program.outputs.iter().enumerate() {
        let state = program.param(&out.port.name).map(|p| p as usize);
        targets.push(state.map_or(Target::Output(i), Target::State));
        let op = program.op(out.value);
        // A matrix product may write its output itself, once.
        let own = match op {
            Op::Contract(_) => !taken.contains(&out.value),
            op => is_map(op) || matches!(op.class(), Class::Reduce),
        };
        let mut value = if state.is_some() || !own { copy(&mut b, out.value) } else { out.value };
        if state.is_some() && apart {
            value = copy(&mut b, value);
        }
        taken.push(value);
        outputs.push(Output { port: out.port.clone(), value });
    }
    let mut program = b.finish();
    program.outputs = outputs;
    Prepared { program, targets }
}

/// A copy of `x` of its own: [`Builder`] would share it.
fn copy(b: &mut Builder, x: Value) -> Value {
    let program = b.program_mut();
    let (ty, origin) = (program.ty(x), program.node(x).origin);
    let value = Value(program.nodes.len() as u32);
    program.nodes.push(pushforward_ir::program::Node { op: COPY, args: vec![x], ty, origin });
    value
}
