//! Small builders that several passes share. No pass is here.

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::{AxisSet, Builder, DType, Op, Program, Value};

/// `x`, made to depend on all of `axes` (constant along those that it lacks).
pub fn expand(b: &mut Builder, x: Value, axes: AxisSet) -> Value {
    let missing = axes - b.axes_of(x);
    let mut y = x;
    for axis in b.program().axes.in_order(missing) {
        let index = b.op(Op::Iota(axis), &[]);
        let zero = b.constant(0.0, DType::I32);
        let always = b.op(Op::Ge, &[index, zero]);
        y = b.op(Op::Select, &[always, y, x]);
    }
    y
}

/// A tensor of zeros over `axes`.
pub fn zeros(b: &mut Builder, dtype: DType, axes: AxisSet) -> Value {
    let zero = b.constant(0.0, dtype);
    expand(b, zero, axes)
}

/// An axis of the size of `axis` that is none of `avoid`: `P'` for `P`, with more primes as long as that is taken. `None` when the program's
/// axes are used up.
pub fn mirror(b: &mut Builder, axis: AxisId, avoid: AxisSet) -> Option<AxisId> {
    let mut name = b.program().axes[axis].name.clone();
    loop {
        name.push('\'');
        let mirror = b.program_mut().axes.find_or_add_like(&name, axis)?;
        if !avoid.contains(mirror) {
            return Some(mirror);
        }
    }
}

/// Axes under other names.
pub type Renames = HashMap<AxisId, AxisId>;

pub fn renamed(axes: AxisSet, map: &Renames) -> AxisSet {
    axes.iter().map(|a| *map.get(&a).unwrap_or(&a)).collect()
}

/// `op` with the axes that it names replaced.
pub fn rename_op(op: &Op, map: &Renames) -> Op {
    op.with_axes(|a| *map.get(&a).unwrap_or(&a))
}

/// Values that depend on `from` and on which `to` depends, both included: the slice between them, operands first.
pub fn slice(program: &Program, from: Value, to: Value) -> Vec<Value> {
    let below = program.depends(&[from], |_| false);
    let above = program.reaches([to]);
    program.values().filter(|v| below[v.0 as usize] && above[v.0 as usize]).collect()
}

/// Mean of `x` over all its axes.
pub fn mean(b: &mut Builder, x: Value) -> Value {
    let axes = b.axes_of(x);
    let count = b.program().axes.count(axes);
    let total = b.sum(x, axes);
    b.scale(total, 1.0 / count as f64)
}

/// The `param` values among `wanted` that the program uses.
pub fn param_values(program: &Program, wanted: &[u32]) -> (Vec<u32>, Vec<Value>) {
    let value = |i: u32| program.values().find(|&v| *program.op(v) == Op::Param(i));
    wanted.iter().filter_map(|&i| Some((i, value(i)?))).unzip()
}

/// All `activity` values of a program.
pub fn activities(program: &Program) -> Vec<Value> {
    program.values().filter(|&v| matches!(program.op(v), Op::Activity(_))).collect()
}
