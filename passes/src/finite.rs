//! finite: of every value of a program, whether all its elements are finite, for finding where a step went wrong. It is no row of the table: no
//! step is made with it. Read [`checks`].

use std::collections::BTreeMap;

use pushforward_ir::program::{Output, Port};
use pushforward_ir::{Builder, Op, Program, Value};

use crate::{border, dce};

/// What an output of [`checks`] tells of the elements of a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Check {
    /// 0 if all are finite, else NaN.
    Finite,
    /// 0 if none is NaN, else NaN. Told of values that come of a constant that is not finite, as a model may mean such a one: a candidate that
    /// does not count has -inf.
    Number,
}

/// The same program with other outputs: of each value of a float type that it needs a [`Check`], or both. With what each output tells, and of
/// which value, in the order of the program.
pub fn checks(program: &Program) -> (Program, Vec<(Value, Check)>) {
    let live = program.live();
    let mut of_infinity = vec![false; program.nodes.len()];
    let mut told = Vec::new();
    for v in program.values() {
        let args = &program.node(v).args;
        of_infinity[v.0 as usize] = is_infinity(program, v) || args.iter().any(|a| of_infinity[a.0 as usize]);
        if live[v.0 as usize] && program.ty(v).dtype.is_float() {
            told.push((v, Check::Finite));
            told.extend(of_infinity[v.0 as usize].then_some((v, Check::Number)));
        }
    }
    let mut b = Builder::new(bare(program));
    let mut outputs = Vec::new();
    for &(v, check) in &told {
        b.origin = program.node(v).origin;
        let (ty, zero) = (b.ty(v), b.constant(0.0, b.ty(v).dtype));
        let each = match check {
            Check::Finite => b.op(Op::Mul, &[v, zero]),
            Check::Number => {
                let (other, nan) = (b.op(Op::Ne, &[v, v]), b.constant(f64::NAN, ty.dtype));
                b.op(Op::Select, &[other, nan, zero])
            }
        };
        let sum = b.sum(each, ty.axes);
        outputs.push(Output { port: Port { name: format!("check.{}", outputs.len()), dtype: ty.dtype, order: Vec::new() }, value: sum });
    }
    b.program_mut().outputs = outputs;
    (b.finish(), told)
}

/// Whether a value is an infinity that stands in the model's text.
pub fn is_infinity(program: &Program, v: Value) -> bool {
    matches!(program.op(v), Op::Const(number) if number.value().is_infinite())
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
