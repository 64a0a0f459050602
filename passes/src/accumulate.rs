//! accumulate: a training step in pieces of its batch, for batches that memory does not hold at once. In the place of `update`, every output
//! `grad.w` is added to a tensor that is kept, `accumulated.w`, times the input `share`: the piece's examples over the batch's. Noise is
//! drawn for the piece's rows of the batch, which begin at the input `row`, so that all pieces together draw what the whole would. [`apply`]
//! is the program that follows the last piece: the optimiser on the sums, which then are 0 again.
//!
//! Pieces are the batch only if no example has a part in another's loss: [`mixing`] finds where one has.

use pushforward_ir::diag::Severity;
use pushforward_ir::program::{Output, Port, rebuild};
use pushforward_ir::{AxisSet, Builder, DType, Diagnostic, Op, Program, Value, verify};

use crate::algorithm::Options;
use crate::border::{number_input, scalar_input};
use crate::gradient::GRADIENT;
use crate::update::{self, kept};
use crate::util::zeros;

/// Prefix of the parameters that hold sums of gradients.
pub const ACCUMULATED: &str = "accumulated.";
/// The input that says which part of the batch a piece is, as a number from 0 to 1.
pub const SHARE: &str = "share";
/// The input that says how many examples of the batch stand before the piece's.
pub const ROW: &str = "row";

pub fn run(program: &Program, options: &Options) -> Result<Program, Vec<Diagnostic>> {
    update::check(program, &options.update)?;
    let mut b = Builder::new(in_rows(program)?);
    let outputs = std::mem::take(&mut b.program_mut().outputs);
    for out in outputs {
        let Some(index) = out.port.name.strip_prefix(GRADIENT).and_then(|n| program.param(n)) else {
            b.program_mut().outputs.push(out);
            continue;
        };
        let Port { name, dtype, .. } = program.params[index as usize].port.clone();
        if options.update.factor(&name) == 0.0 {
            continue;
        }
        let share = number_input(&mut b, SHARE, dtype)?;
        let port = Port { name: format!("{ACCUMULATED}{name}"), ..out.port };
        let (sum, part) = (kept(&mut b, &port), b.op(Op::Mul, &[out.value, share]));
        let value = b.op(Op::Add, &[sum, part]);
        b.program_mut().outputs.push(Output { port, value });
    }
    Ok(crate::dce::run(&b.finish()))
}

/// The update of all parameters of a model's program by what has been accumulated, which becomes 0.
pub fn apply(model: &Program, options: &Options) -> Result<Program, Vec<Diagnostic>> {
    let mut b = Builder::like(model);
    b.program_mut().inputs.clear();
    let moving: Vec<Port> = model.params.iter().map(|p| p.port.clone()).filter(|p| options.update.factor(&p.name) != 0.0).collect();
    for port in &moving {
        // What is computed of it stands where the parameter is declared.
        let declared = model.values().find(|&v| matches!(model.op(v), Op::Param(i) if model.params[*i as usize].port.name == port.name));
        b.origin = declared.map_or(0, |v| model.node(v).origin);
        let value = kept(&mut b, &accumulated(port));
        b.program_mut().outputs.push(Output { port: Port { name: format!("{GRADIENT}{}", port.name), ..port.clone() }, value });
    }
    let mut b = Builder::new(update::run(&b.finish(), options)?);
    for port in moving {
        let value = zeros(&mut b, port.dtype, port.ty().axes);
        b.program_mut().outputs.push(Output { port: accumulated(&port), value });
    }
    Ok(crate::dce::run(&b.finish()))
}

/// What lets an example take part in the loss of another, as a warning: pieces of a batch are not the batch then. `model` is the program
/// before any pass.
pub fn mixing(model: &Program, options: &Options) -> Option<Diagnostic> {
    let batch = model.batch?;
    let warning = |v: Value, message: String| Diagnostic { severity: Severity::Warning, ..verify::origin_diagnostic(model, v, message) };
    let needed = model.reaches(model.losses.iter().map(|l| l.value));
    let over = |axes: &AxisSet| axes.contains(batch);
    let mixes = |v: Value| match model.op(v) {
        Op::Sum(axes) | Op::Max(axes) => over(axes),
        Op::Contract(axes) => over(axes),
        // An example stands beside all others.
        Op::Rename(pairs) => pairs.iter().any(|(from, _)| *from == batch),
        Op::Window(affine) => affine.axis == batch,
        Op::Gather(axis) => *axis == batch,
        Op::Input(_) | Op::Param(_) | Op::Const(_) | Op::Iota(_) | Op::Delta(_) | Op::Normal(_) | Op::Seed(_) => false,
        Op::Add | Op::Sub | Op::Mul | Op::Neg | Op::Div | Op::Exp | Op::Log | Op::Tanh | Op::Erf | Op::Sqrt | Op::Rsqrt | Op::Relu => false,
        Op::Lt | Op::Le | Op::Gt | Op::Ge | Op::Eq | Op::Ne | Op::And | Op::Or | Op::Not | Op::Select | Op::Cast(_) => false,
        Op::StopGradient | Op::Activity(_) => false,
    };
    let name = &model.axes[batch].name;
    if let Some(v) = model.values().find(|&v| needed[v.0 as usize] && mixes(v)) {
        let message = format!(
            "this `{}` over {name} lets examples see each other: one of a piece sees only those of its piece, so a step in pieces is not the \
             step of the whole batch",
            model.op(v).name()
        );
        return Some(warning(v, message));
    }
    // The noise of all examples meets in it.
    let of_none = model.losses.iter().find(|l| options.noise_per_example && !model.axes_of(l.value).contains(batch))?;
    let message = format!(
        "the loss `{}` is of no example, and feels the noise of all of a piece at once: a step in pieces is an estimate of the same gradient, \
         but not the one of the whole batch",
        of_none.name
    );
    Some(warning(of_none.value, message))
}

fn accumulated(port: &Port) -> Port {
    Port { name: format!("{ACCUMULATED}{}", port.name), ..port.clone() }
}

/// The program with all noise that examples have of their own drawn from the row on at which they stand in the batch. Examples are what such
/// noise numbers first, as `perturb` draws it.
fn in_rows(program: &Program) -> Result<Program, Vec<Diagnostic>> {
    let Some(batch) = program.batch else { return Ok(program.clone()) };
    let own = |v: Value| matches!(program.op(v), Op::Normal(noise) if noise.order.contains(&batch));
    if !program.values().any(own) {
        return Ok(program.clone());
    }
    let mut b = Builder::new(program.clone());
    scalar_input(&mut b, ROW, DType::I32)?;
    let with = b.finish();
    let row = with.input(ROW).map(Op::Input);
    Ok(rebuild(&with, |b, v, args| match &row {
        Some(row) if own(v) => {
            b.origin = with.node(v).origin;
            let row = b.op(row.clone(), &[]);
            b.op(with.op(v).clone(), &[args, &[row]].concat())
        }
        _ => b.copy(&with, v, args),
    }))
}
