//! update: stochastic gradient descent with momentum and weight decay, as part of the program. Every output `grad.w` becomes the new values
//! of `w` and of its momentum: `v = momentum * v + (g + decay * w); w = w - lr * v`, decay only where the parameter says so.

use pushforward_ir::program::{Init, Output, ParamDecl, Port};
use pushforward_ir::{Builder, Diagnostic, Op, Program};

use crate::algorithm::{Options, float_of};
use crate::border::scalar_input;
use crate::gradient::GRADIENT;

/// Prefix of the parameters that hold momentum.
pub const MOMENTUM: &str = "momentum.";

pub fn run(program: &Program, options: &Options) -> Result<Program, Vec<Diagnostic>> {
    let mut b = Builder::new(program.clone());
    let outputs = std::mem::take(&mut b.program_mut().outputs);
    for out in outputs {
        let Some(index) = out.port.name.strip_prefix(GRADIENT).and_then(|n| program.param(n)) else {
            b.program_mut().outputs.push(out);
            continue;
        };
        let decl = program.params[index as usize].clone();
        let dtype = decl.port.dtype;
        let mut lr = scalar_input(&mut b, "lr", float_of(program))?;
        if b.ty(lr).dtype != dtype {
            lr = b.op(Op::Cast(dtype), &[lr]);
        }
        let w = b.op(Op::Param(index), &[]);
        let mut g = out.value;
        if decl.decay && options.weight_decay != 0.0 {
            let pull = b.scale(w, options.weight_decay);
            g = b.op(Op::Add, &[g, pull]);
        }
        if options.momentum != 0.0 {
            let port = Port { name: format!("{MOMENTUM}{}", decl.port.name), ..decl.port.clone() };
            b.program_mut().params.push(ParamDecl { port: port.clone(), init: Init::Constant(0.0), exact: false, decay: false });
            let slot = b.program().params.len() as u32 - 1;
            let v = b.op(Op::Param(slot), &[]);
            let kept = b.scale(v, options.momentum);
            g = b.op(Op::Add, &[kept, g]);
            b.program_mut().outputs.push(Output { port, value: g });
        }
        let move_by = b.op(Op::Mul, &[lr, g]);
        let new = b.op(Op::Sub, &[w, move_by]);
        b.program_mut().outputs.push(Output { port: decl.port, value: new });
    }
    Ok(crate::dce::run(&b.finish()))
}
