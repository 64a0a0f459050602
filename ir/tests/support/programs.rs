//! Random flat programs: every op of the table, in any combination that [`pushforward_ir::infer`] accepts.

use pushforward_ir::axis::{AxisId, AxisSet};
use pushforward_ir::op::{Affine, Noise, Number};
use pushforward_ir::program::{Init, Local, Loss, Output, ParamDecl, Port};
use pushforward_ir::{Builder, DType, Op, Program, Value};

use super::Choices;

/// A program with a few axes, inputs and parameters, some values, losses and outputs. It verifies.
pub fn program(c: &mut Choices) -> Program {
    let mut program = Program { name: "random".into(), ..Program::default() };
    let axes: Vec<AxisId> = ["N", "A", "B", "A'", "C.d"]
        .into_iter()
        .zip([2, 3, 3, 3, 2])
        .map(|(name, size)| program.axes.add(name, size, (name == "A'").then_some(AxisId(1))).expect("few axes"))
        .collect();
    program.batch = c.chance().then_some(axes[0]);
    // Parameters do not depend on the batch.
    let own: Vec<AxisId> = axes.iter().copied().filter(|&a| Some(a) != program.batch).collect();
    for i in 0..3 {
        let port = Port { name: format!("x{i}"), dtype: c.of(&DType::ALL), order: order(c, &axes) };
        program.inputs.push(port);
        let port = Port { name: format!("block{i}.w"), dtype: c.of(&[DType::F32, DType::F64]), order: order(c, &own) };
        let init = if c.chance() { Init::Constant(c.of(&[0.0, -1.5, 0.1])) } else { Init::Normal(c.of(&[0.1, 2.0])) };
        program.params.push(ParamDecl { port, init, exact: c.chance(), decay: c.chance() });
    }
    let mut b = Builder::new(program);
    // All of the border is there, so that a program and its text number values alike.
    for i in 0..3 {
        b.op(Op::Input(i), &[]);
    }
    for i in 0..3 {
        b.op(Op::Param(i), &[]);
    }
    let seed = b.constant(7.0, DType::I32);
    for _ in 0..c.below(30) {
        let op = op(c, &axes, &b);
        let count = match op.info().arity {
            pushforward_ir::op::Arity::Exactly(n) => n,
            pushforward_ir::op::Arity::AtLeast(n) => n + c.below(3),
            pushforward_ir::op::Arity::Between(least, most) => least + c.below(most - least + 1),
        };
        let values: Vec<Value> = b.program().values().collect();
        let args: Vec<Value> = (0..count).map(|_| if matches!(op, Op::Normal(_)) { seed } else { c.of(&values) }).collect();
        let _ = b.try_op(op, &args); // most do not fit
    }
    let mut program = b.finish();
    let values: Vec<Value> = program.values().collect();
    let floats: Vec<Value> = values.iter().copied().filter(|&v| program.ty(v).dtype.is_float()).collect();
    for i in 0..c.below(4) {
        let value = c.of(&floats);
        let below: Vec<Value> = values.iter().copied().filter(|&v| program.depends(&[v], |_| false)[value.0 as usize]).collect();
        let local = c.chance().then(|| {
            let at = c.of(&below);
            let along = program.axes_of(at).iter().filter(|_| c.chance()).collect();
            let copies = floats
                .iter()
                .copied()
                .find(|&v| program.ty(v) == pushforward_ir::Type::new(program.ty(value).dtype, program.axes_of(value) | along));
            Local { at, along, copies: copies.filter(|_| c.chance()) }
        });
        program.losses.push(Loss { name: format!("loss{i}"), value, local });
    }
    for i in 0..c.below(4) {
        let value = c.of(&values);
        let mut order: Vec<AxisId> = program.axes_of(value).iter().collect();
        if c.chance() {
            order.reverse();
        }
        program.outputs.push(Output { port: Port { name: format!("out{i}.y"), dtype: program.ty(value).dtype, order }, value });
    }
    program
}

fn order(c: &mut Choices, axes: &[AxisId]) -> Vec<AxisId> {
    let mut order: Vec<AxisId> = axes.iter().copied().filter(|_| c.chance()).collect();
    if c.chance() {
        order.reverse();
    }
    order
}

/// An op of any row of the table but the border's, with parameters.
fn op(c: &mut Choices, axes: &[AxisId], b: &Builder) -> Op {
    let rows: Vec<&str> = Op::ALL.iter().map(|info| info.name).filter(|n| !["input", "param", "seed"].contains(n)).collect();
    let name = c.of(&rows);
    if let Some(op) = Op::plain(name) {
        return op;
    }
    let axis = |c: &mut Choices| c.of(axes);
    let set = |c: &mut Choices| {
        let last = Value(b.program().nodes.len() as u32 - 1);
        let near: AxisSet = b.axes_of(last);
        near.iter().filter(|_| c.chance()).collect::<AxisSet>()
    };
    match name {
        "const" => {
            let dtype = c.of(&DType::ALL);
            let value = match dtype {
                DType::F32 | DType::F64 => c.of(&[0.0, -0.0, 0.1, 1e-5, -2.5, f64::INFINITY, f64::NAN, 1e30]),
                DType::I32 => c.of(&[0.0, -1.0, 2147483647.0, -2147483648.0]),
                DType::Bool => c.of(&[0.0, 1.0]),
            };
            Op::Const(Number::new(value, dtype))
        }
        "iota" => Op::Iota(axis(c)),
        "delta" => Op::Delta((axis(c), axis(c))),
        "normal" => {
            let order = order(c, axes);
            let direction = (!order.is_empty() && c.chance()).then(|| c.of(&order));
            Op::Normal(Box::new(Noise { stream: c.below(5) as u32, order, direction, dtype: c.of(&[DType::F32, DType::F64]) }))
        }
        "cast" => Op::Cast(c.of(&DType::ALL)),
        "sum" => Op::Sum(set(c)),
        "max" => Op::Max(set(c)),
        "contract" => Op::Contract(set(c)),
        "rename" => Op::rename(c.list(0, 2, |c| (axis(c), axis(c)))),
        "window" => {
            let terms = c.list(0, 2, |c| (c.of(&[1, -1, 2, -3]), axis(c)));
            Op::Window(Box::new(Affine { axis: axis(c), terms, offset: c.of(&[0, 1, -2]) }))
        }
        "gather" => Op::Gather(axis(c)),
        "activity" => {
            let used = b.program().values().filter(|&v| matches!(b.program().op(v), Op::Activity(_))).count();
            Op::Activity(format!("layer{used}.fc"))
        }
        other => panic!("`{other}` has no row in ir/tests/support/programs.rs"),
    }
}
