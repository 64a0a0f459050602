//! What passes add to a program's border: inputs of their own and outputs, by name. No pass is here.

use pushforward_ir::program::{Output, Port};
use pushforward_ir::{AxisSet, Builder, DType, Diagnostic, Op, Value};

use crate::algorithm::float_of;
use crate::util::expand;

/// The input that `port` declares, added unless an earlier pass or the model did. An error if what is there has another type.
pub fn input(b: &mut Builder, port: Port) -> Result<Value, Vec<Diagnostic>> {
    let index = match b.program().input(&port.name) {
        Some(index) => index,
        None => {
            b.program_mut().inputs.push(port.clone());
            b.program().inputs.len() as u32 - 1
        }
    };
    let there = &b.program().inputs[index as usize];
    if *there != port {
        let axes = &b.program().axes;
        let message = format!(
            "the model's input `{}` is {}, and a training step has an input {} of that name",
            port.name,
            there.ty().show(axes),
            port.ty().show(axes)
        );
        return Err(vec![Diagnostic::error(message).hint("give the model's input another name")]);
    }
    Ok(b.op(Op::Input(index), &[]))
}

pub fn scalar_input(b: &mut Builder, name: &str, dtype: DType) -> Result<Value, Vec<Diagnostic>> {
    input(b, Port { name: name.into(), dtype, order: Vec::new() })
}

/// A number that the caller hands in at the program's precision, as `dtype`.
pub fn number_input(b: &mut Builder, name: &str, dtype: DType) -> Result<Value, Vec<Diagnostic>> {
    let float = float_of(b.program());
    let x = scalar_input(b, name, float)?;
    Ok(if float == dtype { x } else { b.op(Op::Cast(dtype), &[x]) })
}

/// Adds an output in canonical axis order, filled up to `axes`.
pub fn output(b: &mut Builder, name: String, v: Value, axes: AxisSet) {
    let v = expand(b, v, axes);
    let (ty, order) = (b.ty(v), b.program().axes.in_order(b.axes_of(v)));
    b.program_mut().outputs.push(Output { port: Port { name, dtype: ty.dtype, order }, value: v });
}
