//! gradient: exact gradients by `transpose`: backpropagation and its local variants, and the part of the model that is marked exact. What is
//! minimised is decided here, from the marks: a conventional loss counts as the mean over its own axes, replicas are summed.

use std::collections::HashMap;

use pushforward_ir::program::{Output, Port};
use pushforward_ir::{Builder, Diagnostic, Program, Value};

use crate::algorithm::Options;
use crate::border::output;
use crate::transpose::{filled, vjp};
use crate::util::{mean, param_values};

/// One term of what is minimised.
pub struct Objective {
    pub name: String,
    /// The conventional loss.
    pub value: Value,
    /// The replicated loss, where the mark is local and has been replicated; the conventional one else.
    pub replicated: Value,
    /// 1 / the number of elements of the conventional loss.
    pub weight: f64,
    pub local: bool,
}

/// All marked losses.
pub fn objectives(program: &Program) -> Vec<Objective> {
    let objective = |l: &pushforward_ir::program::Loss| Objective {
        name: l.name.clone(),
        value: l.value,
        replicated: l.local.as_ref().and_then(|m| m.copies).unwrap_or(l.value),
        weight: 1.0 / program.axes.count(program.axes_of(l.value)) as f64,
        local: l.local.is_some(),
    };
    program.losses.iter().map(objective).collect()
}

/// Backpropagation: of the global loss, or where the algorithm is local of the sum of all marked losses.
pub fn run(program: &Program, options: &Options) -> Result<Program, Vec<Diagnostic>> {
    let mut b = Builder::new(program.clone());
    let losses: Vec<Objective> = objectives(program).into_iter().filter(|l| options.algorithm.is_local() || !l.local).collect();
    let all: Vec<u32> = (0..program.params.len() as u32).collect();
    let gradients = gradients(&mut b, program, &losses, &all)?;
    output_losses(&mut b, program);
    if options.report_local {
        for loss in objectives(program).into_iter().filter(|l| l.local) {
            let weighted = b.scale(loss.value, loss.weight);
            let axes = b.axes_of(weighted);
            output(&mut b, loss.name, weighted, axes);
        }
    }
    output_gradients(&mut b, &gradients);
    Ok(crate::dce::run(&b.finish()))
}

/// Exact gradients of the conventional losses with respect to the parameters marked exact.
pub fn exact_gradients(b: &mut Builder, program: &Program, losses: &[Objective]) -> Result<HashMap<u32, Option<Value>>, Vec<Diagnostic>> {
    let exact: Vec<u32> = (0..program.params.len() as u32).filter(|&i| program.params[i as usize].exact).collect();
    gradients(b, program, losses, &exact)
}

fn gradients(
    b: &mut Builder,
    program: &Program,
    losses: &[Objective],
    params: &[u32],
) -> Result<HashMap<u32, Option<Value>>, Vec<Diagnostic>> {
    let (present, values) = param_values(program, params);
    let mut roots = Vec::new();
    for loss in losses {
        b.origin = program.node(loss.value).origin;
        let weight = b.constant(loss.weight, b.ty(loss.value).dtype);
        roots.push((loss.value, weight));
    }
    let cotangents = vjp(b, &roots, &values, &|_| false)?;
    Ok(present.into_iter().zip(cotangents).collect())
}

/// The mean of every loss that is not local, as outputs of their names.
pub fn output_losses(b: &mut Builder, program: &Program) {
    for loss in program.losses.iter().filter(|l| l.local.is_none()) {
        let m = mean(b, loss.value);
        let port = Port { name: loss.name.clone(), dtype: b.ty(m).dtype, order: Vec::new() };
        b.program_mut().outputs.push(Output { port, value: m });
    }
    b.program_mut().losses.clear();
}

/// `grad.<parameter>` for every parameter, zeros where no loss reaches it.
pub fn output_gradients(b: &mut Builder, gradients: &HashMap<u32, Option<Value>>) {
    for i in 0..b.program().params.len() as u32 {
        let param = b.program().params[i as usize].port.clone();
        let value = b.op(pushforward_ir::Op::Param(i), &[]);
        let gradient = filled(b, gradients.get(&i).copied().flatten(), value);
        b.program_mut().outputs.push(Output { port: Port { name: format!("{GRADIENT}{}", param.name), ..param }, value: gradient });
    }
}

/// Prefix of the outputs that hold gradients or their estimates.
pub const GRADIENT: &str = "grad.";
