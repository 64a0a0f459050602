//! gradient: gradients by `transpose`: backpropagation and feedback alignment, with global and with local losses, and the part of the model
//! that is marked exact. What is minimised is decided here, from the marks: a conventional loss counts as the mean over its own axes, replicas
//! are summed.

use std::collections::HashMap;

use pushforward_ir::program::{Output, Port};
use pushforward_ir::{Builder, Diagnostic, Program, Value};

use crate::algorithm::{Losses, Options, Signal};
use crate::border::output;
use crate::feedback::Feedback;
use crate::jvp::Departures;
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

/// The program without marks of losses that do not count, and what only they need.
pub fn counted(program: &Program, losses: Losses) -> Program {
    let mut program = program.clone();
    program.losses.retain(|l| l.local.is_none() || losses != Losses::Global);
    crate::dce::run(&program)
}

/// The losses that count.
pub fn objectives(program: &Program, losses: Losses) -> Vec<Objective> {
    let objective = |l: &pushforward_ir::program::Loss| Objective {
        name: l.name.clone(),
        value: l.value,
        replicated: l.local.as_ref().and_then(|m| m.copies).unwrap_or(l.value),
        weight: 1.0 / program.axes.count(program.axes_of(l.value)) as f64,
        local: l.local.is_some(),
    };
    let counts = |l: &&pushforward_ir::program::Loss| l.local.is_none() || losses != Losses::Global;
    program.losses.iter().filter(counts).map(objective).collect()
}

/// Gradients of the sum of all losses that count, or what feedback alignment has in their place.
pub fn run(program: &Program, options: &Options) -> Result<Program, Vec<Diagnostic>> {
    let mut b = Builder::new(program.clone());
    let losses = objectives(program, options.algorithm.losses);
    let all: Vec<u32> = (0..program.params.len() as u32).collect();
    let feedback = Feedback::default();
    let but = match options.algorithm.signal {
        Signal::Feedback => Departures { coefficient: Some(&|b, w, over| feedback.instead_of(b, w, over)), ..Departures::default() },
        Signal::Backward | Signal::Direct | Signal::Weights | Signal::Activities => Departures::default(),
    };
    let gradients = gradients(&mut b, program, &losses, &all, &but)?;
    output_losses(&mut b, program);
    if options.report {
        for loss in losses.iter().filter(|l| l.local) {
            let weighted = b.scale(loss.value, loss.weight);
            let axes = b.axes_of(weighted);
            output(&mut b, loss.name.clone(), weighted, axes);
        }
    }
    output_gradients(&mut b, program, &gradients);
    Ok(crate::dce::run(&b.finish()))
}

/// Exact gradients of the conventional losses with respect to the parameters marked exact.
pub fn exact_gradients(b: &mut Builder, program: &Program, losses: &[Objective]) -> Result<HashMap<u32, Option<Value>>, Vec<Diagnostic>> {
    let exact: Vec<u32> = (0..program.params.len() as u32).filter(|&i| program.params[i as usize].exact).collect();
    gradients(b, program, losses, &exact, &Departures::default())
}

fn gradients(
    b: &mut Builder,
    program: &Program,
    losses: &[Objective],
    params: &[u32],
    but: &Departures,
) -> Result<HashMap<u32, Option<Value>>, Vec<Diagnostic>> {
    let (present, values) = param_values(program, params);
    let roots = weighted(b, program, losses);
    let cotangents = vjp(b, &roots, &values, but)?;
    Ok(present.into_iter().zip(cotangents).collect())
}

/// The conventional losses, with their weights as cotangents.
pub fn weighted(b: &mut Builder, program: &Program, losses: &[Objective]) -> Vec<(Value, Value)> {
    let mut roots = Vec::new();
    for loss in losses {
        b.origin = program.node(loss.value).origin;
        let weight = b.constant(loss.weight, b.ty(loss.value).dtype);
        roots.push((loss.value, weight));
    }
    roots
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

/// `grad.<parameter>` for every parameter of the model, `program`; zeros where no loss reaches it.
pub fn output_gradients(b: &mut Builder, program: &Program, gradients: &HashMap<u32, Option<Value>>) {
    for i in 0..program.params.len() as u32 {
        let param = b.program().params[i as usize].port.clone();
        let value = b.op(pushforward_ir::Op::Param(i), &[]);
        let gradient = filled(b, gradients.get(&i).copied().flatten(), value);
        b.program_mut().outputs.push(Output { port: Port { name: format!("{GRADIENT}{}", param.name), ..param }, value: gradient });
    }
}

/// Prefix of the outputs that hold gradients or their estimates.
pub const GRADIENT: &str = "grad.";
