//! perturb: the activity-perturbation estimators. Places noise at every activity, masks it where a ReLU is shut (`prune`), runs `jvp` once
//! for all of it, multiplies each noise by the directional derivatives of the losses in its reach (`reach`), and pulls the products back
//! from the activities to their parameters by `transpose`. Parameters marked exact take exact gradients. It changes no value of the model.
//!
//! Everything here is read off the graph: no layer, model or loss is known by name.

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::op::Noise;
use pushforward_ir::program::{Output, Port};
use pushforward_ir::{AxisSet, Builder, DType, Diagnostic, Op, Program, Value, verify};

use crate::algorithm::{NoiseSource, Options};
use crate::gradient::{Objective, exact_gradients, objectives, output_gradients, output_losses};
use crate::jvp::{self, Tangent};
use crate::reach::{multiplier, reach};
use crate::transpose::vjp;
use crate::util::activities;
use crate::{DIRECTION, dce, prune};

pub fn run(program: &Program, options: &Options) -> Result<Program, Vec<Diagnostic>> {
    let program = dce::run(program);
    let acts = activities(&program);
    check_parameters(&program, &acts)?;
    let mut b = Builder::new(program.clone());
    let losses = objectives(&program);
    let roots: Vec<Value> = losses.iter().map(|l| l.replicated).collect();

    // Noise, masked where a ReLU is shut.
    let noises = place(&mut b, &acts, options)?;
    let mut masked = Vec::new();
    for (&a, &u) in acts.iter().zip(&noises) {
        b.origin = program.node(a).origin;
        let mask = if options.prune { prune::mask(&mut b, a) } else { None };
        masked.push(match mask {
            Some(mask) => {
                let zero = b.constant(0.0, b.ty(u).dtype);
                b.op(Op::Select, &[mask, u, zero])
            }
            None => u,
        });
    }

    // One forward-mode pass for all noise at once, and the multipliers.
    let request =
        jvp::Request { noise: acts.iter().copied().zip(masked.iter().copied()).collect(), roots: roots.clone(), ..Default::default() };
    let tangents = jvp::append(&mut b, &request)?;
    let derivatives: Vec<Option<Value>> = tangents.iter().zip(&losses).map(|(t, l)| Some(b.scale(t.value()?, l.weight))).collect();
    let mut products = Vec::new();
    for (&a, &u) in acts.iter().zip(&masked) {
        b.origin = program.node(a).origin;
        if let Some(g) = product(&mut b, &program, a, u, &losses, &roots, &derivatives, options.directions) {
            products.push((program.args(a)[0], g));
        }
    }

    // From the activities back to their parameters; other activities stand still.
    let blocked = |v: Value| matches!(program.nodes.get(v.0 as usize).map(|n| &n.op), Some(Op::Activity(_)));
    let wanted: Vec<u32> = (0..program.params.len() as u32).filter(|&i| !program.params[i as usize].exact).collect();
    let (present, values) = param_values(&program, &wanted);
    let gradients = vjp(&mut b, &products, &values, &blocked)?;
    let mut by_param: HashMap<u32, Option<Value>> = present.into_iter().zip(gradients).collect();
    by_param.extend(exact_gradients(&mut b, &program, &losses)?);

    output_losses(&mut b, &program);
    if options.report_local {
        report(&mut b, &losses, &tangents);
    }
    output_gradients(&mut b, &by_param);
    Ok(dce::run(&b.finish()))
}

/// The noise of every activity: generated, or an input `anoise.<activity>` that the caller hands in.
fn place(b: &mut Builder, acts: &[Value], options: &Options) -> Result<Vec<Value>, Vec<Diagnostic>> {
    let direction = match options.directions {
        1 => None,
        k => Some(
            b.program_mut()
                .axes
                .find_or_add_plain(DIRECTION, k)
                .ok_or_else(|| vec![Diagnostic::error("no axis is left for directions")])?,
        ),
    };
    let state = match options.noise {
        NoiseSource::Generated => Some((scalar_input(b, "seed"), scalar_input(b, "step"))),
        NoiseSource::Given => None,
    };
    let mut noises = Vec::new();
    for (stream, &a) in acts.iter().enumerate() {
        let node = b.program().node(a).clone();
        b.origin = node.origin;
        let Op::Activity(name) = &node.op else { unreachable!("these are the activities") };
        let order: Vec<AxisId> = direction.into_iter().chain(b.program().axes.in_order(node.ty.axes)).collect();
        noises.push(match state {
            Some((seed, step)) => {
                let noise = Noise { stream: stream as u32, order, direction, dtype: node.ty.dtype };
                b.op(Op::Normal(Box::new(noise)), &[seed, step])
            }
            None => input(b, Port { name: format!("anoise.{name}"), dtype: node.ty.dtype, order }),
        });
    }
    Ok(noises)
}

pub(crate) fn input(b: &mut Builder, port: Port) -> Value {
    let index = match b.program().input(&port.name) {
        Some(index) => index,
        None => {
            b.program_mut().inputs.push(port);
            b.program().inputs.len() as u32 - 1
        }
    };
    b.op(Op::Input(index), &[])
}

fn scalar_input(b: &mut Builder, name: &str) -> Value {
    input(b, Port { name: name.into(), dtype: DType::I32, order: Vec::new() })
}

/// `u * (sum of the derivatives in reach)`, the mean over directions: an estimate of the gradient at the activity. `None`: no loss in reach.
#[allow(clippy::too_many_arguments)]
fn product(
    b: &mut Builder,
    program: &Program,
    activity: Value,
    noise: Value,
    losses: &[Objective],
    roots: &[Value],
    derivatives: &[Option<Value>],
    directions: usize,
) -> Option<Value> {
    let mut total: Option<Value> = None;
    for ((held, loss), derivative) in reach(program, activity, roots).iter().zip(losses).zip(derivatives) {
        let (Some(held), Some(derivative)) = (held, derivative) else { continue };
        let m = multiplier(b, *derivative, program.axes_of(loss.replicated), held);
        total = Some(total.map_or(m, |t| b.op(Op::Add, &[t, m])));
    }
    let g = b.op(Op::Mul, &[total?, noise]);
    let extra = b.axes_of(g) - program.axes_of(activity);
    let g = b.sum(g, extra);
    Some(b.scale(g, 1.0 / directions as f64))
}

/// The `param` values among `wanted` that the program uses.
pub(crate) fn param_values(program: &Program, wanted: &[u32]) -> (Vec<u32>, Vec<Value>) {
    let value = |i: u32| program.values().find(|&v| *program.op(v) == Op::Param(i));
    wanted.iter().filter_map(|&i| Some((i, value(i)?))).unzip()
}

/// Every parameter that is not exact must reach an activity, and must reach no loss but through one.
fn check_parameters(program: &Program, acts: &[Value]) -> Result<(), Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let stops = |v: Value| matches!(program.op(v), Op::Activity(_) | Op::StopGradient);
    for v in program.values() {
        let Op::Param(i) = program.op(v) else { continue };
        let param = &program.params[*i as usize];
        if param.exact {
            continue;
        }
        let name = &param.port.name;
        let below = program.depends(&[v], stops);
        let perturbed = acts.iter().any(|&a| program.args(a).iter().any(|x| below[x.0 as usize]));
        let leak = program.losses.iter().find(|l| {
            let copies = l.local.as_ref().and_then(|m| m.copies);
            [Some(l.value), copies].into_iter().flatten().any(|x| below[x.0 as usize])
        });
        let message = match (perturbed, leak) {
            (true, None) => continue,
            (false, _) => format!("the parameter `{name}` reaches no `activity`, and it is not marked `exact`: nothing would train it"),
            (true, Some(l)) => {
                format!("the parameter `{name}` reaches the loss `{}` on a way without an `activity`: its estimate would be wrong", l.name)
            }
        };
        errors.push(verify::origin_diagnostic(program, v, message).hint("put an `activity(..)` behind its layer, or write `exact param`"));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// For every local loss: `<name>` and `d.<name>`, weighted as in the objective.
fn report(b: &mut Builder, losses: &[Objective], tangents: &[Tangent]) {
    for (loss, tangent) in losses.iter().zip(tangents).filter(|(l, _)| l.local) {
        let weighted = b.scale(loss.replicated, loss.weight);
        output(b, loss.name.clone(), weighted, b.axes_of(loss.replicated));
        if let Tangent::Value(t) = *tangent {
            let d = b.scale(t, loss.weight);
            output(b, format!("d.{}", loss.name), d, b.axes_of(loss.replicated));
        }
    }
}

/// Adds an output in canonical axis order, filled up to `axes`.
pub(crate) fn output(b: &mut Builder, name: String, v: Value, axes: AxisSet) {
    let v = crate::util::expand(b, v, axes);
    let (ty, order) = (b.ty(v), b.program().axes.in_order(b.axes_of(v)));
    b.program_mut().outputs.push(Output { port: Port { name, dtype: ty.dtype, order }, value: v });
}
