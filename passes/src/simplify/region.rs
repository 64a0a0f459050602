//! Cuts a program into the parts that go through one e-graph each. Values at which nothing can be gained by looking further are borders: what
//! comes out of a nonlinear op, and products with a factor that already has all axes, behind which a contraction is done. Parts are connected
//! otherwise. Equal parts have equal keys, whatever parameters they read, so a block that repeats is solved once. Nothing is rewritten here.

use std::collections::HashMap;

use pushforward_ir::op::Class;
use pushforward_ir::{DType, Op, Program, Type, Value};

/// A part of a program.
pub struct Region {
    /// Its values, operands first, in an order that does not depend on where the part stands.
    pub nodes: Vec<Value>,
    /// Values from outside, by first use.
    pub leaves: Vec<Value>,
    pub key: Key,
}

/// What makes two parts equal.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub nodes: Vec<(Op, Vec<Operand>)>,
    pub leaves: Vec<Type>,
    /// Of all nodes.
    pub float: DType,
    /// Nodes that are needed outside.
    pub outputs: Vec<usize>,
    /// Whether one of them goes into a comparison, or a ReLU: there what is beside zero may not stand for zero.
    pub decides: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    Node(usize),
    Leaf(usize),
}

/// Parts of more values are cut finer.
const MOST_VALUES: usize = 120;

/// The parts of `program` that have something to rewrite. Every value is in one at most, constants aside.
pub fn regions(program: &Program) -> Vec<Region> {
    let live = program.live();
    let mut used_by: Vec<Vec<Value>> = vec![Vec::new(); program.nodes.len()];
    for v in program.values().filter(|v| live[v.0 as usize]) {
        program.args(v).iter().for_each(|a| used_by[a.0 as usize].push(v));
    }
    let mut parts = Parts::of(program, &live, &borders(program, Pinned::Alike));
    let mut finer = Parts::of(program, &live, &borders(program, Pinned::Any));
    let mut sizes: HashMap<usize, usize> = HashMap::new();
    program.values().filter(|v| live[v.0 as usize] && inside(program, *v)).for_each(|v| *sizes.entry(parts.part(v)).or_default() += 1);
    let mut part_of = |v: Value| if sizes[&parts.part(v)] > MOST_VALUES { (1, finer.part(v)) } else { (0, parts.part(v)) };
    let mut members: HashMap<(usize, usize), Vec<Value>> = HashMap::new();
    let mut order = Vec::new();
    for v in program.values().filter(|v| live[v.0 as usize] && inside(program, *v)) {
        let part = part_of(v);
        let list = members.entry(part).or_default();
        if list.is_empty() {
            order.push(part);
        }
        list.push(v);
    }
    let compared = compared(program);
    let is_output = |v: Value| program.outputs.iter().any(|o| o.value == v);
    order
        .into_iter()
        .filter(|part| members[part].len() > 1)
        .map(|part| {
            let own = &members[&part];
            let here = |v: Value| own.binary_search(&v).is_ok();
            let outputs = own.iter().copied().filter(|&v| is_output(v) || used_by[v.0 as usize].iter().any(|&u| !here(u)));
            region(program, &here, &outputs.collect::<Vec<_>>(), &compared)
        })
        .collect()
}

/// Whether a value may be a node of a part: inputs are leaves; conditions, numbers of positions and changes of precision take no part in the
/// algebra.
fn inside(program: &Program, v: Value) -> bool {
    let narrowed = matches!(program.op(v), Op::Cast(_)) && program.ty(program.args(v)[0]).dtype.is_float();
    program.op(v).class() != Class::Leaf && program.ty(v).dtype.is_float() && !narrowed && !is_everywhere(program, v)
}

/// Constants and masks as numbers, scaled or not, stand in every part that uses them: losses of the same labels share one, and would be one part
/// that grows with the number of blocks.
pub fn is_everywhere(program: &Program, v: Value) -> bool {
    let is_number = |v: &Value| matches!(program.op(*v), Op::Const(_));
    match (program.op(v), program.args(v)) {
        (Op::Const(_), _) => true,
        (Op::Cast(to), &[x]) => to.is_float() && program.ty(x).dtype == DType::Bool,
        (Op::Neg, &[x]) => is_everywhere(program, x),
        (Op::Mul, args) => args.iter().any(is_number) && args.iter().all(|&x| is_everywhere(program, x)),
        _ => false,
    }
}

fn region(program: &Program, here: &dyn Fn(Value) -> bool, outputs: &[Value], compared: &[bool]) -> Region {
    let mut numbers: HashMap<Value, Operand> = HashMap::new();
    let (mut nodes, mut leaves, mut terms) = (Vec::new(), Vec::new(), Vec::new());
    for &root in outputs {
        // Operands first, without recursion: parts can be deep.
        let mut stack = vec![(root, false)];
        while let Some((v, ready)) = stack.pop() {
            if numbers.contains_key(&v) {
                continue;
            }
            if !here(v) && !is_everywhere(program, v) {
                numbers.insert(v, Operand::Leaf(leaves.len()));
                leaves.push(v);
            } else if ready {
                let operands = program.args(v).iter().map(|a| numbers[a]).collect();
                numbers.insert(v, Operand::Node(nodes.len()));
                nodes.push(v);
                terms.push((program.op(v).clone(), operands));
            } else {
                stack.push((v, true));
                stack.extend(program.args(v).iter().rev().map(|&a| (a, false)));
            }
        }
    }
    let position = |v: &Value| match numbers[v] {
        Operand::Node(i) | Operand::Leaf(i) => i,
    };
    let key = Key {
        nodes: terms,
        leaves: leaves.iter().map(|&l| program.ty(l)).collect(),
        float: program.ty(outputs[0]).dtype,
        outputs: outputs.iter().map(position).collect(),
        decides: outputs.iter().any(|o| compared[o.0 as usize]),
    };
    Region { nodes, leaves, key }
}

/// Values that a comparison or a ReLU depends on.
fn compared(program: &Program) -> Vec<bool> {
    let live = program.live();
    let deciding =
        program.values().filter(|&v| live[v.0 as usize] && (*program.op(v) == Op::Relu || program.op(v).class() == Class::Compare));
    program.reaches(deciding.flat_map(|v| program.args(v).to_vec()).collect::<Vec<_>>())
}

/// Which products with a factor that has all axes, and was made by no sum, are borders.
#[derive(Clone, Copy, PartialEq)]
enum Pinned {
    /// Where another factor that has all axes was made by one: nothing can join that sum from outside.
    Alike,
    /// Where any other factor was.
    Any,
}

/// Values that join nothing.
fn borders(program: &Program, pinned: Pinned) -> Vec<bool> {
    let mut border = vec![false; program.nodes.len()];
    // Whether a sum stands between a value and the borders before it.
    let mut summed = vec![false; program.nodes.len()];
    for v in program.values() {
        let at = v.0 as usize;
        let args = program.args(v);
        let any_summed = args.iter().any(|a| summed[a.0 as usize]);
        let full = |f: Value| program.axes_of(f) == program.axes_of(v);
        let made = |f: Value, wanted: bool, any: bool| (any || full(f)) && summed[f.0 as usize] == wanted;
        let is_pinned = || args.iter().any(|&f| made(f, false, false)) && args.iter().any(|&f| made(f, true, pinned == Pinned::Any));
        border[at] = !program.ty(v).dtype.is_float()
            || match program.op(v) {
                Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Normal(_) | Op::Seed(_) => true,
                Op::Exp | Op::Log | Op::Tanh | Op::Erf | Op::Sqrt | Op::Rsqrt | Op::Relu | Op::Max(_) => true,
                Op::Window(_) | Op::Gather(_) | Op::StopGradient | Op::Activity(_) => true,
                Op::Cast(_) => true,
                Op::Rename(_) => border[args[0].0 as usize],
                Op::Select => full(args[0]) && !is_delta(program, args[0]),
                Op::Mul | Op::Div => is_pinned(),
                Op::Add | Op::Sub | Op::Neg | Op::Sum(_) | Op::Contract(_) => false,
                Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne | Op::And | Op::Or | Op::Not => true,
            };
        summed[at] = !border[at] && (any_summed || matches!(program.op(v), Op::Sum(_) | Op::Contract(_)));
    }
    border
}

/// A condition that only compares axes.
fn is_delta(program: &Program, v: Value) -> bool {
    match program.op(v) {
        Op::Delta(_) => true,
        Op::And | Op::Or | Op::Not => program.args(v).iter().all(|&a| is_delta(program, a)),
        _ => false,
    }
}

/// Which values belong together.
struct Parts(Vec<usize>);

impl Parts {
    fn of(program: &Program, live: &[bool], borders: &[bool]) -> Parts {
        let mut parts = Parts((0..program.nodes.len()).collect());
        for v in program.values().filter(|v| live[v.0 as usize]) {
            for &a in program.args(v).iter().filter(|a| !borders[a.0 as usize] && !is_everywhere(program, **a)) {
                parts.join(v, a);
            }
        }
        parts
    }

    fn part(&mut self, v: Value) -> usize {
        let mut root = v.0 as usize;
        while self.0[root] != root {
            root = self.0[root];
        }
        let mut at = v.0 as usize;
        while self.0[at] != root {
            at = std::mem::replace(&mut self.0[at], root);
        }
        root
    }

    fn join(&mut self, a: Value, b: Value) {
        let (a, b) = (self.part(a), self.part(b));
        self.0[a.max(b)] = a.min(b);
    }
}
