//! What a term costs: FLOPs and bytes written, on a graph in which shared work counts once, and the largest value as a tie-break. It counts
//! and never measures.

use egg::Id;
use pushforward_ir::AxisSet;
use pushforward_ir::op::Class;

use super::rules::{axes, is_indicator, join};
use super::term::{Graph, Head, Term};

/// A written byte counts as much as two FLOPs. Any weight from 1 to 10 gives the same forms of the replicated losses.
const FLOPS_PER_BYTE: f64 = 2.0;
const BYTES: f64 = 4.0;

#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// FLOPs, and bytes in FLOPs.
    pub work: f64,
    /// Elements of the largest value that is written.
    pub largest: f64,
}

impl Cost {
    pub const ZERO: Cost = Cost { work: 0.0, largest: 0.0 };

    /// Of a value of so many elements.
    pub fn written(elements: f64) -> Cost {
        Cost { work: FLOPS_PER_BYTE * BYTES * elements, largest: elements }
    }

    pub fn plus(self, o: Cost) -> Cost {
        Cost { work: self.work + o.work, largest: self.largest.max(o.largest) }
    }

    pub fn plus_flops(self, flops: f64) -> Cost {
        Cost { work: self.work + flops, ..self }
    }

    pub fn less(self, o: Cost) -> bool {
        (self.work, self.largest) < (o.work, o.largest)
    }
}

pub fn elements(graph: &Graph, axes: AxisSet) -> f64 {
    axes.iter().map(|a| graph.analysis.program.axes.size(a) as f64).product()
}

/// Whether a node is to be written as something else: `order` or `merge` say as what, unless they are left out.
pub fn is_last_resort(node: &Term) -> bool {
    match &node.head {
        Head::Product(_) => (3..=super::order::MOST_FACTORS).contains(&node.args.len()),
        Head::Combine(coefficients) => coefficients.is_empty(),
        Head::Leaf(_) | Head::Op(_) => false,
    }
}

/// Of computing one node of `class` from its arguments.
pub fn of(graph: &Graph, class: Id, node: &Term) -> Cost {
    let size = |id: Id| elements(graph, axes(graph, id));
    let out = Cost::written(size(class));
    match &node.head {
        Head::Leaf(_) => Cost::ZERO,
        Head::Product(over) => {
            let join = join(graph, &node.args);
            let points = elements(graph, join);
            let summed = !(*over & join).is_empty();
            match (node.args.len(), summed) {
                (1, _) => out.plus_flops(points),
                (2, true) => out.plus_flops(2.0 * points),
                (2, false) => out.plus_flops(points),
                (n, _) => out.plus_flops(points * n as f64),
            }
        }
        Head::Combine(coefficients) if coefficients.is_empty() => Cost::ZERO,
        Head::Combine(coefficients) => {
            let scaled: f64 = coefficients.iter().zip(&node.args).filter(|(c, _)| c.0.abs() != 1.0).map(|(_, &t)| scaling(graph, t)).sum();
            let added = size(class) * (coefficients.len() - 1) as f64;
            let negated = if coefficients.iter().all(|c| c.0 < 0.0) { size(class) } else { 0.0 };
            if coefficients.len() == 1 { Cost { work: 0.0, ..out }.plus_flops(scaled + negated) } else { out.plus_flops(added + scaled) }
        }
        Head::Op(op) => match op.class() {
            Class::Leaf | Class::Rename | Class::Mark => Cost::ZERO,
            Class::Cast if is_indicator(graph, class) => Cost::ZERO,
            Class::Reduce => out.plus_flops(size(node.args[0])),
            Class::Arith | Class::Float | Class::Slow | Class::Compare | Class::Logic | Class::Select | Class::Cast | Class::Index => {
                out.plus_flops(size(class))
            }
            Class::Contract => out.plus_flops(2.0 * elements(graph, join(graph, &node.args))),
        },
    }
}

/// Of multiplying by a number: done to the smallest of a product's factors and itself.
fn scaling(graph: &Graph, id: Id) -> f64 {
    let size = |id: Id| elements(graph, axes(graph, id));
    let factors = graph[id].nodes.iter().filter(|n| matches!(n.head, Head::Product(_)) && n.args.len() <= 2).flat_map(|n| &n.args);
    factors.map(|&f| size(f)).fold(size(id), f64::min)
}
