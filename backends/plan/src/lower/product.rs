//! A matrix product with what surrounds it: operands computed while they are loaded, maps of the result before it is stored. It finds the
//! dimensions from the names, as `gemm.rs` does, and chooses no tiles. Read [`product`].

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::{AxisSet, Op, Program, Value};

use super::cluster::Cluster;
use super::nest::{Nest, Store};
use super::place::{Layouts, Located};
use crate::kernel::{Arg, BufferId, ElementType, Inst, InstKind, Loop, Reg};
use crate::merge::merge;

/// `finish(sum over k of a[batch, m, k] * b[batch, k, n])`. Places have a stride for each loop of batch, m, n and k, in this order.
pub struct Product {
    pub dtype: ElementType,
    pub batch: Vec<Loop>,
    pub m: Vec<Loop>,
    pub n: Vec<Loop>,
    pub k: Vec<Loop>,
    pub a: Operand,
    pub b: Operand,
    /// The register of the sum, defined where `finish` begins.
    pub sum: Reg,
    /// What is done with it at each point of batch, m and n.
    pub finish: Vec<Inst>,
    pub args: Vec<Arg>,
    pub buffers: Vec<BufferId>,
}

/// How an element of a factor is computed.
pub struct Operand {
    pub insts: Vec<Inst>,
    pub reg: Reg,
}

impl Operand {
    /// Whether memory that it is loaded from runs on along a loop.
    pub fn is_contiguous_along(&self, loop_number: usize) -> bool {
        let loads = |i: &Inst| matches!(&i.kind, InstKind::Load(place) if place.strides.get(loop_number) == Some(&1));
        self.insts.iter().any(loads)
    }
}

impl Product {
    pub fn size(loops: &[Loop]) -> usize {
        loops.iter().map(|l| l.size).product()
    }
}

pub fn product(program: &Program, cluster: &Cluster, layouts: &Layouts, mut stores: Vec<Store>) -> Product {
    let contraction = |&v: &Value| matches!(program.op(v), Op::Contract(_));
    let v = cluster.computes.iter().copied().find(contraction).expect("clusters of this kind hold a contraction");
    let (Op::Contract(over), &[x, y]) = (program.op(v), program.args(v)) else { unreachable!("prepared: two factors") };
    stores.sort_by_key(|s| s.in_place);
    // Columns are what the result has last: threads side by side store side by side.
    let result = &stores.iter().find(|s| program.axes_of(s.value) == program.axes_of(v)).expect("what is finished is stored").at;
    let by_result = |set: AxisSet| sorted(set, result);
    let last = program.axes_of(v).iter().min_by_key(|&a| (result.stride(a), a)).expect("a product has result axes");
    let swapped = program.axes_of(x).contains(last) && !program.axes_of(y).contains(last);
    let (a, b) = if swapped { (y, x) } else { (x, y) };
    let (a_axes, b_axes) = (program.axes_of(a), program.axes_of(b));
    let batch = by_result((a_axes & b_axes) - *over);
    let (m, n) = (by_result(a_axes - b_axes), by_result(b_axes - a_axes));
    let k = match main(program, layouts, cluster, a) {
        Some(at) => sorted(*over, &at),
        None => program.axes.in_order(*over),
    };

    let order: Vec<AxisId> = [&batch[..], &m, &n, &k].concat();
    let whole = Cluster { points: AxisSet::of(order.iter().copied()), row: AxisSet::EMPTY, ..cluster.clone() };
    let values: Vec<Value> = stores.iter().map(|s| s.value).collect();
    let mut nest = Nest::new(program, &whole, layouts, stores, &order, true);
    let mut operand = |v: Value| {
        let mut insts = Vec::new();
        let reg = nest.value(v, 0, &mut HashMap::new(), &mut insts);
        Operand { insts, reg }
    };
    let (mut a, mut b) = (operand(a), operand(b));
    let sum = nest.fresh();
    let (mut finish, mut regs) = (Vec::new(), HashMap::from([(v, sum)]));
    // All that is read is read before anything is stored in its place.
    values.iter().for_each(|&v| {
        nest.value(v, 0, &mut regs, &mut finish);
    });
    nest.store(0, 0, false, &mut regs, &mut finish);
    let (args, buffers) = nest.bound();

    let each =
        |axes: &[AxisId]| axes.iter().map(|&a| Loop { axis: program.axes[a].name.clone(), size: program.axes.size(a) }).collect::<Vec<_>>();
    let (mut batch, mut m, mut n, mut k) = (each(&batch), each(&m), each(&n), each(&k));
    let mut insts: Vec<&mut Inst> = a.insts.iter_mut().chain(&mut b.insts).chain(&mut finish).collect();
    merge(&mut [&mut batch, &mut m, &mut n, &mut k], &mut insts);
    Product { dtype: program.ty(v).dtype.into(), batch, m, n, k, a, b, sum, finish, args, buffers }
}

/// Slowest first, as they lie there.
fn sorted(set: AxisSet, at: &Located) -> Vec<AxisId> {
    let mut axes: Vec<AxisId> = set.iter().collect();
    axes.sort_by_key(|&a| (std::cmp::Reverse(at.stride(a)), a));
    axes
}

/// Where the numbers lie that an operand is mostly made of.
fn main(program: &Program, layouts: &Layouts, cluster: &Cluster, v: Value) -> Option<Located> {
    if !cluster.computes.contains(&v) {
        return layouts.locate(v);
    }
    let args = program.args(v).iter().copied();
    let largest = args.filter(|&a| program.axes_of(a) == program.axes_of(v)).max_by_key(|&a| std::cmp::Reverse(a))?;
    main(program, layouts, cluster, largest)
}
