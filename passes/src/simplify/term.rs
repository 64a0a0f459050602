//! Terms of the e-graph: the IR's own ops, with n-ary products and n-ary linear combinations in place of binary ones. A summed product has
//! its summed axes by name; a term that does not mention an axis is constant along it. No rule and no cost is here.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use egg::{Analysis, DidMerge, EGraph, Id, Language};
use pushforward_ir::infer::infer;
use pushforward_ir::op::Number;
use pushforward_ir::{AxisSet, DType, Op, Program, Type};

/// What a node computes from its arguments.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Head {
    /// A value from outside of the region: its number there.
    Leaf(u32),
    /// Sum over axes of the product of all arguments. Arguments are sorted: products commute. An axis that no argument has is a factor, its
    /// size.
    Product(AxisSet),
    /// Sum of coefficient * argument. Arguments are sorted and differ.
    Combine(Vec<Coefficient>),
    /// Any other op.
    Op(Op),
}

/// A number with a total order.
#[derive(Clone, Copy, Debug)]
pub struct Coefficient(pub f64);

impl PartialEq for Coefficient {
    fn eq(&self, o: &Self) -> bool {
        self.cmp(o) == Ordering::Equal
    }
}

impl Eq for Coefficient {}

impl PartialOrd for Coefficient {
    fn partial_cmp(&self, o: &Self) -> Option<Ordering> {
        Some(self.cmp(o))
    }
}

impl Ord for Coefficient {
    fn cmp(&self, o: &Self) -> Ordering {
        self.0.total_cmp(&o.0)
    }
}

impl Hash for Coefficient {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// An e-node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Term {
    pub head: Head,
    pub args: Vec<Id>,
}

impl Term {
    pub fn new(head: Head, args: Vec<Id>) -> Term {
        let mut term = Term { head, args };
        term.normalise();
        term
    }

    /// Arguments in order; equal ones of a sum are one.
    fn normalise(&mut self) {
        match &mut self.head {
            Head::Product(_) => self.args.sort_unstable(),
            Head::Combine(coefficients) => {
                let mut terms: Vec<(Id, f64)> = self.args.iter().copied().zip(coefficients.iter().map(|c| c.0)).collect();
                terms.sort_by_key(|t| t.0);
                let mut merged: Vec<(Id, f64)> = Vec::new();
                for (id, c) in terms {
                    match merged.last_mut() {
                        Some(last) if last.0 == id => last.1 += c,
                        Some(_) | None => merged.push((id, c)),
                    }
                }
                merged.retain(|t| t.1 != 0.0);
                self.args = merged.iter().map(|t| t.0).collect();
                *coefficients = merged.iter().map(|t| Coefficient(t.1)).collect();
            }
            Head::Leaf(_) | Head::Op(_) => {}
        }
    }
}

impl Language for Term {
    type Discriminant = (Head, usize);

    fn discriminant(&self) -> Self::Discriminant {
        (self.head.clone(), self.args.len())
    }

    fn matches(&self, other: &Self) -> bool {
        self.head == other.head && self.args.len() == other.args.len()
    }

    fn children(&self) -> &[Id] {
        &self.args
    }

    fn children_mut(&mut self) -> &mut [Id] {
        &mut self.args
    }

    /// After a union arguments may have another order, and terms of a sum may have become one: without this, congruence would miss it.
    fn update_children<F: FnMut(Id) -> Id>(&mut self, mut f: F) {
        self.args.iter_mut().for_each(|id| *id = f(*id));
        self.normalise();
    }
}

/// What all nodes of a class agree on.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Facts {
    /// Every axis that the value may depend on: those that all its nodes mention. That a copy does not depend on its number is found here.
    pub axes: AxisSet,
    pub dtype: DType,
    /// The scalar that it is, if that is known.
    pub constant: Option<Number>,
}

/// What typing a node needs: the program's axes, and the types of leaves.
pub struct Typing {
    pub program: Program,
    pub leaves: Vec<Type>,
    /// The dtype of sums without a term.
    pub float: DType,
}

pub type Graph = EGraph<Term, Typing>;

impl Analysis<Term> for Typing {
    type Data = Facts;

    fn make(graph: &mut Graph, node: &Term, _: Id) -> Facts {
        let facts = |id: &Id| graph[*id].data;
        let typing = &graph.analysis;
        let join = node.args.iter().fold(AxisSet::EMPTY, |axes, id| axes | facts(id).axes);
        let dtype = node.args.first().map_or(typing.float, |id| facts(id).dtype);
        match &node.head {
            Head::Leaf(i) => {
                let ty = typing.leaves[*i as usize];
                Facts { axes: ty.axes, dtype: ty.dtype, constant: None }
            }
            Head::Product(over) => Facts { axes: join - *over, dtype, constant: None },
            Head::Combine(c) if c.is_empty() => Facts { axes: join, dtype, constant: Some(Number::new(0.0, dtype)) },
            Head::Combine(_) => Facts { axes: join, dtype, constant: None },
            Head::Op(Op::Const(number)) => Facts { axes: AxisSet::EMPTY, dtype: number.dtype, constant: Some(*number) },
            Head::Op(op) => {
                let types: Vec<Type> = node.args.iter().map(|id| Type::new(facts(id).dtype, facts(id).axes)).collect();
                let ty = type_of(&typing.program, op, &types);
                Facts { axes: ty.axes, dtype: ty.dtype, constant: None }
            }
        }
    }

    fn merge(&mut self, to: &mut Facts, from: Facts) -> DidMerge {
        let merged = Facts { axes: to.axes & from.axes, dtype: to.dtype, constant: to.constant.or(from.constant) };
        let did = DidMerge(merged != *to, merged != from);
        *to = merged;
        did
    }
}

/// The type of `op`, whose operands may have turned out not to depend on axes that it names.
fn type_of(program: &Program, op: &Op, types: &[Type]) -> Type {
    let present = present(op, types.first().map_or(AxisSet::EMPTY, |t| t.axes));
    let mut types = types.to_vec();
    // A read along an axis gives the table that axis, written out.
    match op {
        Op::Window(affine) => types[0].axes = types[0].axes.with(affine.axis),
        Op::Gather(axis) => types[0].axes = types[0].axes.with(*axis),
        _ => {}
    }
    match present {
        None => types[0],
        Some(op) => infer(program, &op, &types).expect("a term of the program is well-typed"),
    }
}

/// `op` over those of its axes that its operand has; `None` for the identity.
pub fn present(op: &Op, axes: AxisSet) -> Option<Op> {
    match op {
        Op::Max(over) => (!(*over & axes).is_empty()).then_some(Op::Max(*over & axes)),
        Op::Rename(pairs) => {
            let op = Op::rename(pairs.iter().copied().filter(|(from, _)| axes.contains(*from)));
            (op != Op::Rename(Vec::new())).then_some(op)
        }
        _ => Some(op.clone()),
    }
}
