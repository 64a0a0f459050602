//! Where values are in memory: which buffer holds a value, and how far each of its axes moves in it. Layouts are chosen here: what becomes an
//! output is laid out like it, everything else in the canonical order of axes. Nothing here computes. Read [`Layouts::new`] and
//! [`Layouts::locate`].

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::op::Class;
use pushforward_ir::program::Port;
use pushforward_ir::{AxisSet, Op, Program, Value};

use super::cluster::Clusters;
use super::prepare::{Prepared, Target, is_map};
use crate::kernel::{Buffer, BufferId, Role};

/// A value in memory.
#[derive(Clone, Debug)]
pub struct Located {
    pub buffer: BufferId,
    /// Elements from one index to the next, by the value's own axes.
    pub strides: HashMap<AxisId, usize>,
    /// Of the value's axes, the one along which the buffer's examples lie.
    pub batch: Option<AxisId>,
}

impl Located {
    pub fn stride(&self, axis: AxisId) -> usize {
        self.strides.get(&axis).copied().unwrap_or(0)
    }
}

/// The buffers of a plan, and where values are in them.
pub struct Layouts<'a> {
    program: &'a Program,
    pub buffers: Vec<Buffer>,
    homes: HashMap<Value, Located>,
    /// For each output of the program, where it goes.
    pub targets: Vec<Located>,
}

impl<'a> Layouts<'a> {
    /// Buffers for all that reaches memory. `original` is the program before it was prepared: its border is what the caller sees.
    /// `products`: those of contractions have memory of their own, whoever reads it.
    pub fn new(original: &Program, prepared: &'a Prepared, clusters: &Clusters, products: bool) -> Layouts<'a> {
        let program = &prepared.program;
        let mut layouts = Layouts { program, buffers: Vec::new(), homes: HashMap::new(), targets: Vec::new() };
        let mut states: HashMap<usize, Located> = HashMap::new();
        for v in program.values() {
            let (port, role) = match program.op(v) {
                Op::Input(i) => (&original.inputs[*i as usize], Role::Input(*i as usize)),
                Op::Param(i) => (&original.params[*i as usize].port, Role::State(*i as usize)),
                _ => continue,
            };
            let located = layouts.border(original, port, role);
            if let Role::State(i) = role {
                states.insert(i, located.clone());
            }
            layouts.homes.insert(v, located);
        }
        for (i, (target, out)) in prepared.targets.iter().zip(&original.outputs).enumerate() {
            let located = match *target {
                Target::State(p) => match states.get(&p) {
                    Some(known) => known.clone(),
                    None => layouts.border(original, &original.params[p].port, Role::State(p)),
                },
                Target::Output(_) => layouts.border(original, &out.port, Role::Output(i)),
            };
            layouts.targets.push(located);
        }
        let orders = orders(program);
        for v in program.values() {
            let target = || prepared.targets.iter().zip(&program.outputs).position(|(t, o)| matches!(t, Target::Output(_)) && o.value == v);
            let own = products && matches!(program.op(v).class(), Class::Contract) && clusters.of[v.0 as usize].is_some();
            if !(clusters.stored[v.0 as usize] || own) || matches!(program.op(v), Op::Input(_) | Op::Param(_)) {
                continue;
            }
            // An output is its own home; everything else is a temporary.
            let located = match target() {
                Some(t) => layouts.targets[t].clone(),
                None => layouts.temporary(v, &orders[v.0 as usize]),
            };
            layouts.homes.insert(v, located);
        }
        layouts
    }

    /// Where `v` is, if it is in memory; of a renaming, where what it renames is.
    pub fn locate(&self, v: Value) -> Option<Located> {
        if let Op::Rename(pairs) = self.program.op(v) {
            let to = |a: AxisId| pairs.iter().find(|p| p.0 == a).map_or(a, |p| p.1);
            let Located { buffer, strides, batch } = self.locate(self.program.args(v)[0])?;
            let strides = strides.into_iter().map(|(a, s)| (to(a), s)).collect();
            return Some(Located { buffer, strides, batch: batch.map(to) });
        }
        self.homes.get(&v).cloned()
    }

    fn border(&mut self, original: &Program, port: &Port, role: Role) -> Located {
        self.buffer(&original.axes, port.name.clone(), port.dtype, &port.order, role)
    }

    fn temporary(&mut self, v: Value, order: &[AxisId]) -> Located {
        // The offset is chosen when it is known how long the value lives.
        self.buffer(&self.program.axes, format!("t{}", v.0), self.program.ty(v).dtype, order, Role::Temp(0))
    }

    fn buffer(&mut self, axes: &pushforward_ir::Axes, name: String, dtype: pushforward_ir::DType, order: &[AxisId], role: Role) -> Located {
        let mut strides = HashMap::new();
        let mut step = 1;
        for &a in order.iter().rev() {
            strides.insert(a, step);
            step *= axes.size(a);
        }
        let dims = order.iter().map(|&a| (axes[a].name.clone(), axes.size(a))).collect();
        self.buffers.push(Buffer { name, dtype: dtype.into(), dims, role, live: (0, 0) });
        let batch = self.program.batch.filter(|n| order.contains(n));
        Located { buffer: self.buffers.len() - 1, strides, batch }
    }
}

/// An order for each value's axes: that of the output which it becomes through maps, or else the canonical one, noise its own.
pub fn orders(program: &Program) -> Vec<Vec<AxisId>> {
    let mut wanted: Vec<Option<Vec<AxisId>>> = vec![None; program.nodes.len()];
    for out in &program.outputs {
        wanted[out.value.0 as usize].get_or_insert_with(|| out.port.order.clone());
    }
    for v in program.values().rev() {
        let Some(order) = wanted[v.0 as usize].clone() else { continue };
        for &a in program.args(v) {
            let passed: Option<Vec<AxisId>> = match program.op(v) {
                Op::Rename(pairs) => {
                    let back = |b: AxisId| pairs.iter().find(|p| p.1 == b).map_or(b, |p| p.0);
                    Some(order.iter().map(|&b| back(b)).collect())
                }
                op if is_map(op) => Some(order.clone()),
                _ => None,
            };
            if let Some(order) = passed.filter(|o| AxisSet::of(o.iter().copied()) == program.axes_of(a)) {
                wanted[a.0 as usize].get_or_insert(order);
            }
        }
    }
    let own = |v: Value| match program.op(v) {
        // The buffer's order numbers the elements; directions come first.
        Op::Normal(noise) => {
            let rest = noise.order.iter().copied().filter(|&a| Some(a) != noise.direction);
            noise.direction.into_iter().chain(rest).collect()
        }
        _ => wanted[v.0 as usize].clone().unwrap_or_else(|| program.axes.in_order(program.axes_of(v))),
    };
    program.values().map(own).collect()
}
