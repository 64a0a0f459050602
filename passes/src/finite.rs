//! finite: of every value of a program, whether all its elements are finite, for finding where a step went wrong. It is no row of the table: no
//! step is made with it. Read [`checks`].

use std::collections::BTreeMap;

use pushforward_ir::program::{Output, Port};
use pushforward_ir::{Builder, Op, Program, Value};

use crate::{border, dce};

/// The same program with other outputs: of each value of a float type that it needs, a number that is 0 if all its elements are finite, else
/// NaN: the sum of its elements, each times 0. With the values, in the order of the program, that the outputs speak of.
pub fn checks(program: &Program) -> (Program, Vec<Value>) {
    let live = program.live();
    let values: Vec<Value> = program.values().filter(|&v| live[v.0 as usize] && program.ty(v).dtype.is_float()).collect();
    let mut b = Builder::new(bare(program));
    let mut outputs = Vec::new();
    for &v in &values {
        b.origin = program.node(v).origin;
        let (ty, zero) = (b.ty(v), b.constant(0.0, b.ty(v).dtype));
        let none = b.op(Op::Mul, &[v, zero]);
        let check = b.sum(none, ty.axes);
        outputs.push(Output { port: Port { name: format!("check.{}", v.0), dtype: ty.dtype, order: Vec::new() }, value: check });
    }
    b.program_mut().outputs = outputs;
    (b.finish(), values)
}

/// The same program with one output, `name`: the value `v`.
pub fn only(program: &Program, v: Value, name: &str) -> Program {
    let mut b = Builder::new(bare(program));
    let axes = b.axes_of(v);
    border::output(&mut b, name.into(), v, axes);
    dce::run(&b.finish())
}

fn bare(program: &Program) -> Program {
    Program { outputs: Vec::new(), losses: Vec::new(), names: BTreeMap::new(), ..program.clone() }
}
