//! A cluster as a loop nest: in which section of the nest each value is computed, what is kept from one row section to the next, and which
//! loop runs side by side. It decides no fusion and no layout. Read [`Nest::new`], then [`Nest::build`].

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pushforward_ir::axis::AxisId;
use pushforward_ir::op::{Class, Noise};
use pushforward_ir::{AxisSet, DType, Op, Program, Value};

use super::cluster::{Cluster, is_free};
use super::place::{Layouts, Located};
use super::prepare::COPY;
use crate::kernel::*;

/// What one nest stores where.
#[derive(Clone)]
pub struct Store {
    pub value: Value,
    pub at: Located,
    /// The numbers there are read, too, and so stored last.
    pub in_place: bool,
}

/// A kernel, and the buffers that it is launched on.
pub struct Lowered {
    pub body: Body,
    pub args: Vec<Arg>,
    pub buffers: Vec<BufferId>,
    /// Whether it runs example by example: cut along the batch axis, and no example reads what is another's.
    pub by_example: bool,
}

/// `keeps`: whether costly values are kept from one section to the next; else all are computed again.
pub fn nest(program: &Program, cluster: &Cluster, layouts: &Layouts, stores: Vec<Store>, order: &[AxisId], keeps: bool) -> Lowered {
    Nest::new(program, cluster, layouts, stores, order, keeps).build()
}

pub(super) struct Nest<'a> {
    program: &'a Program,
    cluster: &'a Cluster,
    layouts: &'a Layouts<'a>,
    stores: Vec<Store>,
    computes: BTreeSet<Value>,
    outer: Vec<AxisId>,
    row: Vec<AxisId>,
    /// Of each computed value: the first row section that can hold it, or the first `once` section.
    ready: HashMap<Value, usize>,
    /// Of each value over the row: the row sections that need it.
    needed: BTreeMap<Value, BTreeSet<usize>>,
    /// Values that are kept for later sections, by scratch row.
    kept: BTreeMap<Value, usize>,
    scratch: Vec<Scratch>,
    /// The buffers at hand; whether they are read, and written.
    args: Vec<(BufferId, bool, bool)>,
    by_example: bool,
    next: Reg,
}

/// A value over the row that takes more ops than this is kept rather than computed again in a later section.
const MOST_AGAIN: usize = 3;

impl<'a> Nest<'a> {
    pub(super) fn new(
        program: &'a Program,
        cluster: &'a Cluster,
        layouts: &'a Layouts,
        stores: Vec<Store>,
        order: &[AxisId],
        keeps: bool,
    ) -> Nest<'a> {
        let along = |set: AxisSet| order.iter().copied().filter(|&a| set.contains(a)).collect::<Vec<_>>();
        let mut nest = Nest {
            program,
            cluster,
            layouts,
            stores,
            computes: cluster.computes.iter().copied().collect(),
            outer: along(cluster.points - cluster.row),
            row: along(cluster.row),
            ready: HashMap::new(),
            needed: BTreeMap::new(),
            kept: BTreeMap::new(),
            scratch: Vec::new(),
            args: Vec::new(),
            by_example: true,
            next: 0,
        };
        for &v in &cluster.computes {
            let ready = nest.ready_at(v);
            nest.ready.insert(v, ready);
        }
        nest.need(keeps);
        nest
    }

    fn over_row(&self, v: Value) -> bool {
        !(self.program.axes_of(v) & self.cluster.row).is_empty()
    }

    fn is_own_reduction(&self, v: Value) -> bool {
        matches!(self.program.op(v).class(), Class::Reduce)
    }

    /// The first section where `v` can be computed: for a reduction, the row section that does it; its result is there from the next on.
    fn ready_at(&self, v: Value) -> usize {
        let operand = |&a: &Value| match self.computes.contains(&a) {
            true => self.ready[&a] + self.is_own_reduction(a) as usize,
            false => 0,
        };
        self.program.args(v).iter().map(operand).max().unwrap_or(0)
    }

    /// The last section, after all rows: updates in place happen there.
    fn last(&self) -> usize {
        let each = self.computes.iter().map(|&v| self.ready[&v] + self.is_own_reduction(v) as usize);
        each.max().unwrap_or(0).max(self.row_sections())
    }

    fn row_sections(&self) -> usize {
        let rows = self.computes.iter().filter(|&&v| self.over_row(v) || self.is_own_reduction(v));
        rows.map(|v| self.ready[v] + 1).max().unwrap_or(0)
    }

    /// In which row sections values over the row are needed, and which of them are kept from the first of these to the others.
    fn need(&mut self, keeps: bool) {
        let last_row = self.row_sections().saturating_sub(1);
        for store in &self.stores {
            if self.over_row(store.value) {
                let at = if store.in_place { last_row } else { self.ready[&store.value] };
                self.needed.entry(store.value).or_default().insert(at);
            }
        }
        for &v in self.cluster.computes.iter().rev() {
            let sections: BTreeSet<usize> = if self.is_own_reduction(v) {
                BTreeSet::from([self.ready[&v]])
            } else if !self.over_row(v) {
                continue;
            } else {
                let sections = self.needed.get(&v).cloned().unwrap_or_default();
                let (Some(&first), later) = (sections.first(), sections.len() > 1) else { continue };
                if keeps && later && self.costs(v) > MOST_AGAIN {
                    self.kept.insert(v, self.scratch.len());
                    self.scratch.push(Scratch { dtype: self.program.ty(v).dtype.into() });
                    BTreeSet::from([first])
                } else {
                    sections
                }
            };
            for a in self.program.args(v) {
                if self.computes.contains(a) && self.over_row(*a) {
                    self.needed.entry(*a).or_default().extend(&sections);
                }
            }
        }
    }

    /// Ops over the row that computing `v` again takes.
    fn costs(&self, v: Value) -> usize {
        let op = self.program.op(v);
        let own = match op {
            op if is_free(op) || *op == COPY => 0,
            op if op.class() == Class::Slow || matches!(op, Op::Normal(_)) => 12,
            _ => 1,
        };
        let operands =
            self.program.args(v).iter().filter(|a| self.computes.contains(a) && self.over_row(**a) && !self.is_own_reduction(**a));
        own + operands.map(|&a| self.costs(a)).sum::<usize>()
    }

    fn build(mut self) -> Lowered {
        let rows = self.row_sections();
        let mut sections = Vec::new();
        // Registers of reductions and of values computed once: they stay defined.
        let mut once: HashMap<Value, Reg> = HashMap::new();
        let last = self.last();
        for at in 0..=last {
            let mut insts = Vec::new();
            let cluster = self.cluster;
            for &v in &cluster.computes {
                if !self.over_row(v) && !self.is_own_reduction(v) && self.ready[&v] == at {
                    self.value(v, at, &mut once, &mut insts);
                }
            }
            // Once after a row has ended: results of the row before are there.
            self.store(at, last, false, &mut once, &mut insts);
            if !insts.is_empty() {
                sections.push(Section::Once(insts));
            }
            if at >= rows {
                continue;
            }
            let mut insts = Vec::new();
            let mut regs = once.clone();
            let mut results = Vec::new();
            for &v in &cluster.computes {
                if self.is_own_reduction(v) && self.ready[&v] == at {
                    let x = self.value(self.program.args(v)[0], at, &mut regs, &mut insts);
                    let reduction = match self.program.op(v) {
                        Op::Max(_) => Reduction::Max,
                        _ => Reduction::Sum,
                    };
                    let reg = self.inst(self.program.ty(v).dtype, InstKind::Reduce(reduction, x), &mut insts);
                    results.push((v, reg));
                } else if self.over_row(v) && self.needed.get(&v).is_some_and(|s| s.contains(&at)) {
                    self.value(v, at, &mut regs, &mut insts);
                }
            }
            self.store(at, rows - 1, true, &mut regs, &mut insts);
            sections.push(Section::Row(insts));
            once.extend(results);
        }
        let lanes = self.lanes(&sections);
        let each = |axes: &[AxisId]| {
            let size = |&a: &AxisId| Loop { axis: self.program.axes[a].name.clone(), size: self.program.axes.size(a) };
            axes.iter().map(size).collect::<Vec<_>>()
        };
        let loops = Loops { outer: each(&self.outer), row: each(&self.row), lanes, scratch: self.scratch.clone(), sections };
        let (args, buffers) = self.bound();
        Lowered {
            body: Body::Loops(loops),
            args,
            buffers,
            by_example: self.by_example && self.program.batch.is_some() && self.outer.first() == self.program.batch.as_ref(),
        }
    }

    /// The arguments, and their buffers.
    pub(super) fn bound(&self) -> (Vec<Arg>, Vec<BufferId>) {
        let access = |&(_, read, written): &(BufferId, bool, bool)| match (read, written) {
            (true, true) => Access::ReadWrite,
            (false, true) => Access::Write,
            (_, false) => Access::Read,
        };
        let arg = |a: &(BufferId, bool, bool)| Arg { dtype: self.layouts.buffers[a.0].dtype, access: access(a) };
        (self.args.iter().map(arg).collect(), self.args.iter().map(|a| a.0).collect())
    }

    /// A register that nothing defines here.
    pub(super) fn fresh(&mut self) -> Reg {
        self.next += 1;
        self.next - 1
    }

    /// Stores of section `at`; those in place in section `last`.
    pub(super) fn store(&mut self, at: usize, last: usize, in_row: bool, regs: &mut HashMap<Value, Reg>, insts: &mut Vec<Inst>) {
        for s in 0..self.stores.len() {
            let Store { value, at: ref located, in_place } = self.stores[s];
            let ready = self.ready[&value] + self.is_own_reduction(value) as usize;
            if self.over_row(value) == in_row && at == if in_place { last } else { ready } {
                let located = located.clone();
                let reg = self.value(value, at, regs, insts);
                let place = self.place(&located, true, in_row);
                let dtype = self.program.ty(value).dtype;
                insts.push(Inst { reg: self.next, dtype: dtype.into(), kind: InstKind::Store(place, reg) });
                self.next += 1;
            }
        }
    }

    /// The register of `v` in a section; computed there if it is not there yet.
    pub(super) fn value(&mut self, v: Value, at: usize, regs: &mut HashMap<Value, Reg>, insts: &mut Vec<Inst>) -> Reg {
        if let Some(&reg) = regs.get(&v) {
            return reg;
        }
        let dtype = self.program.ty(v).dtype;
        let kept = self.kept.get(&v).copied();
        let reg = match (self.program.op(v).clone(), kept) {
            (_, Some(slot)) if self.needed[&v].first() != Some(&at) => self.inst(dtype, InstKind::Recall(slot), insts),
            (Op::Const(number), _) => self.inst(dtype, InstKind::Const(number.value()), insts),
            (Op::Iota(a), _) => {
                let index = self.outer.iter().chain(&self.row).position(|&b| b == a).expect("an index is of an axis of the nest");
                self.inst(dtype, InstKind::Index(index), insts)
            }
            (Op::Delta((a, b)), _) => {
                let index =
                    |a: AxisId| self.outer.iter().chain(&self.row).position(|&b| b == a).expect("an index is of an axis of the nest");
                let (a, b) = (index(a), index(b));
                let a = self.inst(DType::I32, InstKind::Index(a), insts);
                let b = self.inst(DType::I32, InstKind::Index(b), insts);
                self.inst(dtype, InstKind::Prim(Prim::Eq, vec![a, b]), insts)
            }
            (op, kept) if self.computes.contains(&v) => {
                let args: Vec<Value> = self.program.args(v).to_vec();
                let args: Vec<Reg> = args.into_iter().map(|a| self.value(a, at, regs, insts)).collect();
                let reg = match (prim(&op), &op) {
                    (Some(prim), _) => self.inst(dtype, InstKind::Prim(prim, args), insts),
                    (None, Op::Normal(noise)) => self.inst(dtype, InstKind::Draw(self.draw(noise, &args)), insts),
                    (None, _) => args[0], // a copy
                };
                if let Some(slot) = kept {
                    insts.push(Inst { reg: self.next, dtype: dtype.into(), kind: InstKind::Keep(slot, reg) });
                    self.next += 1;
                }
                reg
            }
            _ => {
                let located = self.layouts.locate(v).expect("what a nest does not compute is in memory");
                let in_row = self.over_row(v);
                let place = self.place(&located, false, in_row);
                self.inst(dtype, InstKind::Load(place), insts)
            }
        };
        regs.insert(v, reg);
        reg
    }

    /// The buffer's own row-major order would number the elements, within each direction.
    fn draw(&self, noise: &Noise, args: &[Reg]) -> Draw {
        let mut step = 1;
        let mut strides: HashMap<AxisId, usize> = HashMap::new();
        for &a in noise.order.iter().rev().filter(|&&a| Some(a) != noise.direction) {
            strides.insert(a, step);
            step *= self.program.axes.size(a);
        }
        let loops = || self.outer.iter().chain(&self.row);
        let element = loops().map(|a| strides.get(a).copied().unwrap_or(0)).collect();
        let direction = loops().map(|&a| (Some(a) == noise.direction) as usize).collect();
        let slowest = noise.order.iter().find(|&&a| Some(a) != noise.direction);
        let per_row = slowest.map_or(1, |a| strides[a]);
        Draw { stream: noise.stream, seed: args[0], step: args[1], row: args.get(2).map(|&row| (row, per_row)), direction, element }
    }

    fn inst(&mut self, dtype: DType, kind: InstKind, insts: &mut Vec<Inst>) -> Reg {
        let reg = self.next;
        self.next += 1;
        insts.push(Inst { reg, dtype: dtype.into(), kind });
        reg
    }

    fn place(&mut self, located: &Located, write: bool, in_row: bool) -> Place {
        let arg = match self.args.iter().position(|a| a.0 == located.buffer) {
            Some(arg) => arg,
            None => {
                self.args.push((located.buffer, false, false));
                self.args.len() - 1
            }
        };
        let (_, read, written) = &mut self.args[arg];
        *(if write { written } else { read }) = true;
        // Another example's numbers, whose kernel may not have run yet.
        self.by_example &= located.batch.is_none_or(|n| Some(&n) == self.outer.first());
        let outer = self.outer.iter().map(|&a| located.stride(a));
        let row = self.row.iter().map(|&a| if in_row { located.stride(a) } else { 0 });
        Place { arg, strides: outer.chain(row).collect() }
    }

    /// Side by side runs the loop along which more of the memory is contiguous; a row if there is a choice.
    fn lanes(&self, sections: &[Section]) -> Lanes {
        let mut unit = (0usize, 0usize);
        for section in sections {
            let (Section::Once(insts) | Section::Row(insts)) = section;
            for inst in insts {
                if let InstKind::Load(place) | InstKind::Store(place, _) = &inst.kind {
                    let (outer, row) = place.strides.split_at(self.outer.len());
                    unit.0 += (outer.last() == Some(&1)) as usize;
                    unit.1 += (row.last() == Some(&1)) as usize;
                }
            }
        }
        match (self.outer.is_empty(), self.row.is_empty()) {
            (true, true) => Lanes::Scalar,
            (false, true) => Lanes::Outer,
            (true, false) => Lanes::Row,
            (false, false) if unit.0 > unit.1 => Lanes::Outer,
            (false, false) => Lanes::Row,
        }
    }
}

/// The primitive of a map; none for a copy.
fn prim(op: &Op) -> Option<Prim> {
    Some(match op {
        Op::Add => Prim::Add,
        Op::Sub => Prim::Sub,
        Op::Mul => Prim::Mul,
        Op::Neg => Prim::Neg,
        Op::Div => Prim::Div,
        Op::Exp => Prim::Exp,
        Op::Log => Prim::Log,
        Op::Tanh => Prim::Tanh,
        Op::Erf => Prim::Erf,
        Op::Sqrt => Prim::Sqrt,
        Op::Rsqrt => Prim::Rsqrt,
        Op::Relu => Prim::Relu,
        Op::Lt => Prim::Lt,
        Op::Le => Prim::Le,
        Op::Gt => Prim::Gt,
        Op::Ge => Prim::Ge,
        Op::Eq => Prim::Eq,
        Op::Ne => Prim::Ne,
        Op::And => Prim::And,
        Op::Or => Prim::Or,
        Op::Not => Prim::Not,
        Op::Select => Prim::Select,
        Op::Cast(_) => Prim::Cast,
        Op::StopGradient | Op::Normal(_) => return None,
        Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Seed(_) => unreachable!("a leaf"),
        Op::Sum(_) | Op::Max(_) | Op::Contract(_) => unreachable!("sections take reductions apart"),
        Op::Rename(_) | Op::Window(_) | Op::Gather(_) | Op::Activity(_) => unreachable!("prepared programs compute none"),
    })
}
