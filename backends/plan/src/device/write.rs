//! Writing a thread's program: fresh names, places in memory, instructions of a nest as statements. It decides nothing about who computes
//! what: `nest.rs` and `tile.rs` do. Read [`Writer`].

use std::collections::HashMap;

use super::kernel::{Comparison, Expr, IndexOp, Normal, Shared, SharedId, Stmt, Var, VarType};
use crate::kernel::{ElementType, Inst, InstKind, Loop, Place, Prim, Reduction, Reg};
use pushforward_ir::philox::Domain;

/// What an argument of the nest is to the thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bound {
    /// An argument of the kernel, by number.
    Memory(usize),
    /// One of the plan's scalars.
    Scalar(usize),
}

/// Registers of the nest as expressions.
pub type Registers = HashMap<Reg, (ElementType, Expr)>;

pub struct Writer {
    next: Var,
    /// Of each argument of the nest.
    pub bound: Vec<Bound>,
    /// The streams that are drawn from, in the order of their first draws.
    pub streams: Vec<u32>,
    pub shared: Vec<Shared>,
}

impl Writer {
    pub fn new(bound: Vec<Bound>) -> Writer {
        Writer { next: 0, bound, streams: Vec::new(), shared: Vec::new() }
    }

    pub fn fresh(&mut self) -> Var {
        self.next += 1;
        self.next - 1
    }

    /// A name for an index.
    pub fn index(&mut self, value: Expr, body: &mut Vec<Stmt>) -> Expr {
        if let Expr::Int(_) | Expr::Var(_) = value {
            return value;
        }
        let var = self.fresh();
        body.push(Stmt::Let(var, VarType::Index, value));
        Expr::Var(var)
    }

    /// Memory of the block. Who asks again for the same gets the same: each user leaves it when no thread reads it any more.
    pub fn share(&mut self, dtype: ElementType, len: usize) -> SharedId {
        let wanted = Shared { dtype, len };
        match self.shared.iter().position(|s| *s == wanted) {
            Some(known) => known,
            None => {
                self.shared.push(wanted);
                self.shared.len() - 1
            }
        }
    }

    /// Memory of the block that nobody else gets.
    pub fn share_alone(&mut self, dtype: ElementType, len: usize) -> SharedId {
        self.shared.push(Shared { dtype, len });
        self.shared.len() - 1
    }

    /// The indices of `loops` at a linear index, the last one fastest.
    pub fn split(&mut self, linear: &Expr, loops: &[Loop], body: &mut Vec<Stmt>) -> Vec<Expr> {
        let mut rest = linear.clone();
        let mut indices = vec![Expr::Int(0); loops.len()];
        for (i, l) in loops.iter().enumerate().rev() {
            if i == 0 {
                indices[0] = rest.clone();
                break;
            }
            let size = l.size.max(1) as u64;
            indices[i] = self.index(rem(rest.clone(), size), body);
            rest = self.index(div(rest, size), body);
        }
        indices
    }

    /// Appends what an instruction computes, but for reductions and what is kept in rows. Stores are made by `store`, which may guard them.
    pub fn inst(&mut self, inst: &Inst, index: &[Expr], regs: &mut Registers, body: &mut Vec<Stmt>) {
        let dtype = inst.dtype;
        let value = match &inst.kind {
            InstKind::Const(x) => {
                regs.insert(inst.reg, (dtype, Expr::Number(*x, dtype)));
                return;
            }
            InstKind::Index(l) => Expr::Integer(Box::new(index[*l].clone())),
            InstKind::Load(place) => self.load(place, index),
            InstKind::Draw(draw) => {
                let stream = match self.streams.iter().position(|&s| s == draw.stream) {
                    Some(known) => known,
                    None => {
                        self.streams.push(draw.stream);
                        self.streams.len() - 1
                    }
                };
                let (seed, step) = (regs[&draw.seed].1.clone(), regs[&draw.step].1.clone());
                let (direction, mut element) = (place(&draw.direction, index), place(&draw.element, index));
                if let Some((row, per_row)) = draw.row {
                    let row = Expr::Position(Box::new(regs[&row].1.clone()));
                    let before = Expr::Index(IndexOp::Mul, Box::new(row), Box::new(Expr::Int(per_row as u64)));
                    element = Expr::Index(IndexOp::Add, Box::new(before), Box::new(element));
                }
                Expr::Normal(Box::new(Normal { dtype, domain: Domain::Noise.key(), seed, step, stream, direction, element }))
            }
            InstKind::Prim(prim, args) => prim_expr(*prim, dtype, args, regs),
            InstKind::Store(..) | InstKind::Reduce(..) | InstKind::Keep(..) | InstKind::Recall(_) => {
                unreachable!("the nest's own, spelled where its threads are known")
            }
        };
        self.define(inst.reg, dtype, value, regs, body);
    }

    pub fn define(&mut self, reg: Reg, dtype: ElementType, value: Expr, regs: &mut Registers, body: &mut Vec<Stmt>) {
        let value = match value {
            Expr::Scalar(_) => value,
            value => {
                let var = self.fresh();
                body.push(Stmt::Let(var, VarType::Element(dtype), value));
                Expr::Var(var)
            }
        };
        regs.insert(reg, (dtype, value));
    }

    pub fn load(&self, at: &Place, index: &[Expr]) -> Expr {
        match self.bound[at.arg] {
            Bound::Memory(arg) => Expr::Load(arg, Box::new(place(&at.strides, index))),
            Bound::Scalar(scalar) => Expr::Scalar(scalar),
        }
    }

    pub fn store(&self, at: &Place, value: Expr, index: &[Expr]) -> Stmt {
        match self.bound[at.arg] {
            Bound::Memory(arg) => Stmt::Store(arg, place(&at.strides, index), value),
            Bound::Scalar(_) => unreachable!("verified: inputs are not written"),
        }
    }
}

fn prim_expr(prim: Prim, dtype: ElementType, args: &[Reg], regs: &Registers) -> Expr {
    let from = regs[args.last().expect("primitives have operands")].0;
    Expr::Prim(prim, from, dtype, args.iter().map(|r| regs[r].1.clone()).collect())
}

/// Sum of indices times strides.
pub fn place(strides: &[usize], index: &[Expr]) -> Expr {
    let terms = strides.iter().zip(index).filter(|(s, _)| **s != 0).map(|(&s, i)| mul(i.clone(), s as u64));
    terms.reduce(add).unwrap_or(Expr::Int(0))
}

pub fn add(x: Expr, y: Expr) -> Expr {
    match (x, y) {
        (Expr::Int(0), z) | (z, Expr::Int(0)) => z,
        (Expr::Int(x), Expr::Int(y)) => Expr::Int(x + y),
        (x, y) => Expr::Index(IndexOp::Add, Box::new(x), Box::new(y)),
    }
}

pub fn mul(x: Expr, by: u64) -> Expr {
    match (x, by) {
        (_, 0) => Expr::Int(0),
        (x, 1) => x,
        (Expr::Int(x), by) => Expr::Int(x * by),
        (x, by) => Expr::Index(IndexOp::Mul, Box::new(x), Box::new(Expr::Int(by))),
    }
}

pub fn div(x: Expr, by: u64) -> Expr {
    match (x, by) {
        (x, 1) => x,
        (Expr::Int(x), by) => Expr::Int(x / by),
        (x, by) => Expr::Index(IndexOp::Div, Box::new(x), Box::new(Expr::Int(by))),
    }
}

pub fn rem(x: Expr, by: u64) -> Expr {
    match (x, by) {
        (_, 1) => Expr::Int(0),
        (Expr::Int(x), by) => Expr::Int(x % by),
        (x, by) => Expr::Index(IndexOp::Rem, Box::new(x), Box::new(Expr::Int(by))),
    }
}

pub fn least(x: Expr, most: u64) -> Expr {
    Expr::Index(IndexOp::Min, Box::new(x), Box::new(Expr::Int(most)))
}

pub fn below(x: Expr, bound: u64) -> Expr {
    Expr::Compare(Comparison::Lt, Box::new(x), Box::new(Expr::Int(bound)))
}

/// Both conditions, where there are two.
pub fn both(x: Option<Expr>, y: Option<Expr>) -> Option<Expr> {
    match (x, y) {
        (Some(x), Some(y)) => Some(Expr::Both(Box::new(x), Box::new(y))),
        (x, y) => x.or(y),
    }
}

/// `body` where the condition holds; everywhere, if there is none.
pub fn guarded(condition: Option<Expr>, body: Vec<Stmt>, into: &mut Vec<Stmt>) {
    match condition {
        _ if body.is_empty() => {}
        Some(condition) => into.push(Stmt::If(condition, body)),
        None => into.extend(body),
    }
}

/// What a reduction starts with.
pub fn neutral(reduction: Reduction, dtype: ElementType) -> Expr {
    let x = match (reduction, dtype) {
        (Reduction::Sum, _) => 0.0,
        (Reduction::Max, ElementType::I32) => i32::MIN as f64,
        (Reduction::Max, ElementType::F32 | ElementType::F64 | ElementType::Bool) => f64::NEG_INFINITY,
    };
    Expr::Number(x, dtype)
}

pub fn combined(reduction: Reduction, dtype: ElementType, x: Expr, y: Expr) -> Expr {
    match reduction {
        Reduction::Sum => Expr::Prim(Prim::Add, dtype, dtype, vec![x, y]),
        Reduction::Max => Expr::Max(dtype, Box::new(x), Box::new(y)),
    }
}
