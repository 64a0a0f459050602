//! An equality of the e-graph as a program of its own: what it says of arguments that it does not look into stands as inputs, both sides as
//! outputs. Tests run it on numbers. It proves nothing.

use std::collections::HashMap;

use egg::Id;
use pushforward_ir::program::{Output, Port};
use pushforward_ir::{Axes, AxisSet, Builder, DType, Op, Program, Value};

use super::rules::Tree;
use super::solve::Known;
use super::term::{Head, present};
use crate::util::expand;

/// Names of the two outputs.
pub const SIDES: [&str; 2] = ["left", "right"];

/// `known` says what classes are. Terms that are constant along an axis of the other side are written out along it.
pub fn program(axes: &Axes, known: &HashMap<Id, Known>, float: DType, left: &Tree, right: &Tree) -> Program {
    let mut b = Builder::new(Program { axes: axes.clone(), ..Program::default() });
    let [l, r] = [left, right].map(|side| write(&mut b, known, float, side));
    let all = b.axes_of(l) | b.axes_of(r);
    let order = b.program().axes.in_order(all);
    for (name, side) in SIDES.iter().zip([l, r]) {
        let value = expand(&mut b, side, all);
        let port = Port { name: name.to_string(), dtype: b.ty(value).dtype, order: order.clone() };
        b.program_mut().outputs.push(Output { port, value });
    }
    b.finish()
}

fn write(b: &mut Builder, known: &HashMap<Id, Known>, float: DType, tree: &Tree) -> Value {
    let (head, args) = match tree {
        Tree::Class(id) => return class(b, known, *id),
        Tree::Node(head, args) => (head, args.iter().map(|a| write(b, known, float, a)).collect::<Vec<_>>()),
    };
    match head {
        Head::Leaf(_) => unreachable!("rules look into no leaf"),
        Head::Product(over) => b.contract(&args, *over),
        Head::Combine(coefficients) => {
            let terms: Vec<Value> = coefficients.iter().zip(&args).map(|(c, &a)| b.scale(a, c.0)).collect();
            let zero = b.constant(0.0, float);
            terms.into_iter().fold(zero, |sum, t| b.op(Op::Add, &[sum, t]))
        }
        Head::Op(op) => match present(op, args.first().map_or(AxisSet::EMPTY, |&x| b.axes_of(x))) {
            Some(op) => b.op(op, &args),
            None => args[0],
        },
    }
}

fn class(b: &mut Builder, known: &HashMap<Id, Known>, id: Id) -> Value {
    let Known { ty, constant, indicator } = known[&id];
    if let Some(number) = constant {
        return b.op(Op::Const(number), &[]);
    }
    let name = format!("c{id}");
    let index = match b.program().input(&name) {
        Some(index) => index,
        None => {
            let order = b.program().axes.in_order(ty.axes);
            let dtype = if indicator { DType::Bool } else { ty.dtype };
            b.program_mut().inputs.push(Port { name, dtype, order });
            b.program().inputs.len() as u32 - 1
        }
    };
    let value = b.op(Op::Input(index), &[]);
    if indicator { b.op(Op::Cast(ty.dtype), &[value]) } else { value }
}

#[cfg(test)]
mod tests;
