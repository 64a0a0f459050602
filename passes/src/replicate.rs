//! replicate: writes every replicated local loss out, literally (equations 4 and 5 of Ren et al.): one copy of the marked value for each
//! index of the replicated axes, with everything but the copy's own part under a stop-gradient, and one loss for each copy. That is the
//! naive design, G * P times too expensive; later passes make it cheap. The copies' primal is the conventional loss, so no number changes.

use std::collections::HashMap;

use pushforward_ir::program::{Local, Loss};
use pushforward_ir::{AxisSet, Builder, Diagnostic, Op, Program, Value, verify};

use crate::jvp::is_end;
use crate::util::{Renames, activities, mirror, rename_op, slice};

pub fn run(program: &Program) -> Result<Program, Vec<Diagnostic>> {
    let mut b = Builder::new(program.clone());
    let mut errors = Vec::new();
    for i in 0..program.losses.len() {
        let loss = &program.losses[i];
        let Some(local) = &loss.local else { continue };
        let over = program.axes_of(loss.value) & local.along;
        if !over.is_empty() {
            let message = format!(
                "the local loss `{}` depends on {} itself, so it cannot be replicated along it",
                loss.name,
                program.axes.show(over)
            );
            errors.push(verify::origin_diagnostic(program, loss.value, message).hint("reduce the value over that axis before the loss"));
            continue;
        }
        let own = slice(program, local.at, loss.value);
        if let Some(error) = perturbed(program, loss) {
            errors.push(error);
            continue;
        }
        if let Some(v) = beside(program, local, &own) {
            let message = format!("the local loss `{}` depends on an activity beside the value that it is a loss of", loss.name);
            errors.push(verify::origin_diagnostic(program, v, message).hint("write `stop_gradient(..)` around the other operand"));
            continue;
        }
        match copies(&mut b, program, local, loss.value) {
            Some(copies) => b.program_mut().losses[i].local.as_mut().expect("a local loss").copies = Some(copies),
            None => errors.push(
                verify::origin_diagnostic(
                    program,
                    loss.value,
                    format!("no axes are left for the copies of the local loss `{}`", loss.name),
                )
                .hint("the program uses too many axes"),
            ),
        }
    }
    if errors.is_empty() { Ok(b.finish()) } else { Err(errors) }
}

/// Why a loss cannot be replicated, if it is local: an activity stands between the marked value and the loss.
pub fn perturbed(program: &Program, loss: &Loss) -> Option<Diagnostic> {
    let at = loss.local.as_ref()?.at;
    let (v, layer) = slice(program, at, loss.value).into_iter().filter(|v| *v != at).find_map(|v| Some((v, activity(program, v)?)))?;
    let message = format!("the activity `{layer}` belongs to the local loss `{}`: it would be perturbed once for each copy", loss.name);
    let error = verify::origin_diagnostic(program, v, message);
    Some(error.hint("take the activity out, and mark the parameters of the loss's own layers `exact`"))
}

fn activity(program: &Program, v: Value) -> Option<&str> {
    match program.op(v) {
        Op::Activity(layer) => Some(layer),
        _ => None,
    }
}

/// Where one of `values`, the slice from the marked value to its loss, depends on an activity on another way. A copy shows a loss its own part of
/// the marked value and holds the rest still, but sees all of anything else: each copy would count that again.
fn beside(program: &Program, local: &Local, values: &[Value]) -> Option<Value> {
    let moved = program.depends(&activities(program), |v| is_end(program.op(v)) || !program.ty(v).dtype.is_float());
    let other = |v: Value| program.args(v).iter().any(|a| moved[a.0 as usize] && !values.contains(a));
    values.iter().copied().filter(|_| !local.along.is_empty()).find(|&v| v != local.at && other(v))
}

/// The replicated loss: its value's axes and `along`. `None` when the program's axes are used up.
fn copies(b: &mut Builder, program: &Program, local: &Local, loss: Value) -> Option<Value> {
    let values = slice(program, local.at, loss);
    // Inside the copies, the replicated axes have other names: P' is the patch that is looked at, P the copy's own.
    let mut used = values.iter().flat_map(|v| program.args(*v).iter().chain([v])).fold(AxisSet::EMPTY, |s, &v| s | program.axes_of(v));
    let mut map = Renames::new();
    for axis in local.along.iter() {
        // An axis and its mirror may both be replicated: their copies' names differ.
        let copy = mirror(b, axis, used)?;
        used = used.with(copy);
        map.insert(axis, copy);
    }
    let pairs: Vec<_> = local.along.iter().map(|a| (a, map[&a])).collect();
    b.origin = program.node(local.at).origin;
    let inner = b.rename(local.at, &pairs);
    let mut own: Option<Value> = None;
    for &(outer, inner) in &pairs {
        let same = b.op(Op::Delta((outer, inner)), &[]);
        own = Some(own.map_or(same, |o| b.op(Op::And, &[o, same])));
    }
    let copy = match own {
        Some(own) => {
            let others = b.op(Op::StopGradient, &[inner]);
            b.op(Op::Select, &[own, inner, others])
        }
        None => inner,
    };
    let mut new: HashMap<Value, Value> = HashMap::from([(local.at, copy)]);
    for &v in values.iter().filter(|v| **v != local.at) {
        let args: Vec<Value> = program.args(v).iter().map(|a| new.get(a).copied().unwrap_or_else(|| b.rename(*a, &pairs))).collect();
        b.origin = program.node(v).origin;
        let clone = b.op(rename_op(program.op(v), &map), &args);
        new.insert(v, clone);
    }
    new.get(&loss).copied()
}
