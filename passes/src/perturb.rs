//! perturb: the activity-perturbation estimators. Places noise at every activity, masks it where a ReLU is shut (`prune`), runs `jvp` once
//! for all of it, multiplies each noise by the directional derivatives of the losses in its reach (`reach`), and pulls the products back
//! from the activities to their parameters by `transpose`. Parameters marked exact take exact gradients. It changes no value of the model.
//!
//! Everything here is read off the graph: no layer, model or loss is known by name.

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::op::Noise;
use pushforward_ir::program::Port;
use pushforward_ir::{Builder, DType, Diagnostic, Op, Program, Value, verify};

use crate::algorithm::{NoiseSource, Options};
use crate::border::{input, output, scalar_input};
use crate::gradient::{Objective, exact_gradients, objectives, output_gradients, output_losses};
use crate::jvp::{self, Route, Tangent, differentiable, refuse};
use crate::reach::{self, Held, multiplier, reach};
use crate::transpose::vjp;
use crate::util::{activities, param_values};
use crate::{DIRECTION, dce, prune};

pub fn run(program: &Program, options: &Options) -> Result<Program, Vec<Diagnostic>> {
    run_by(program, options, &reach::held)
}

/// The pass, with reach by another rule: to study what a wider one costs in variance and a narrower one in bias.
pub fn run_by(program: &Program, options: &Options, rule: &reach::Rule) -> Result<Program, Vec<Diagnostic>> {
    let program = dce::run(program);
    let acts = activities(&program);
    let losses = objectives(&program);
    let roots: Vec<Value> = losses.iter().map(|l| l.replicated).collect();
    check_parameters(&program, &acts, &losses)?;
    check_rules(&program, &acts, &losses)?;
    let mut b = Builder::new(program.clone());

    // Noise, masked where a ReLU is shut.
    let noises = place(&mut b, &acts, options)?;
    let mut masked = Vec::new();
    for (&a, &u) in acts.iter().zip(&noises) {
        b.origin = program.node(a).origin;
        let mask = if options.prune { prune::mask(&mut b, &program, a) } else { None };
        masked.push(match mask {
            Some(mask) => {
                let mask = if options.share_masks { mask } else { prune::apart(&mut b, mask) };
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
        if let Some(g) = product(&mut b, &program, a, u, &reach(&program, a, &roots, rule), &losses, &derivatives) {
            products.push((program.args(a)[0], b.scale(g, 1.0 / options.directions as f64)));
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
    let refused = |message: String, hint: &str| vec![Diagnostic::error(message).hint(hint)];
    let direction = match options.directions {
        0 => return Err(refused("an estimate needs at least one direction".into(), "ask for 1 direction or more")),
        1 => None,
        _ if b.program().axes.find(DIRECTION).is_some() => {
            return Err(refused(
                format!("the model has an axis `{DIRECTION}`, the name of the axis of tangent directions"),
                "give it another name",
            ));
        }
        k => Some(
            b.program_mut()
                .axes
                .add(DIRECTION, k, None)
                .ok_or_else(|| refused("no axis is left for directions".into(), "the program uses too many axes"))?,
        ),
    };
    let state = match options.noise {
        NoiseSource::Generated => Some((scalar_input(b, "seed", DType::I32)?, scalar_input(b, "step", DType::I32)?)),
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
            None => input(b, Port { name: format!("anoise.{name}"), dtype: node.ty.dtype, order })?,
        });
    }
    Ok(noises)
}

/// `u * (sum of the derivatives in reach)`, summed over directions: an estimate of the gradient at the activity. `None`: no loss in reach.
fn product(
    b: &mut Builder,
    program: &Program,
    activity: Value,
    noise: Value,
    reached: &[Option<Held>],
    losses: &[Objective],
    derivatives: &[Option<Value>],
) -> Option<Value> {
    let mut total: Option<Value> = None;
    for ((held, loss), derivative) in reached.iter().zip(losses).zip(derivatives) {
        let (Some(held), Some(derivative)) = (held, derivative) else { continue };
        let m = multiplier(b, *derivative, program.axes_of(loss.replicated), held);
        total = Some(total.map_or(m, |t| b.op(Op::Add, &[t, m])));
    }
    let g = b.op(Op::Mul, &[total?, noise]);
    let directions = b.axes_of(g) - program.axes_of(activity);
    Some(b.sum(g, directions))
}

/// Every parameter that is not exact must move an activity, and must move no loss but through one.
fn check_parameters(program: &Program, acts: &[Value], losses: &[Objective]) -> Result<(), Vec<Diagnostic>> {
    let mut errors = Vec::new();
    let stops = |v: Value| matches!(program.op(v), Op::Activity(_) | Op::StopGradient);
    for v in program.values() {
        let Op::Param(i) = program.op(v) else { continue };
        let param = &program.params[*i as usize];
        if param.exact {
            continue;
        }
        let name = &param.port.name;
        // What the parameter moves, not looking past activities.
        let mut moves = vec![false; program.nodes.len()];
        moves[v.0 as usize] = true;
        for u in program.values().filter(|&u| !stops(u)) {
            moves[u.0 as usize] |= differentiable(program, u).any(|a| moves[a.0 as usize]);
        }
        let perturbed = acts.iter().any(|&a| program.args(a).iter().any(|x| moves[x.0 as usize]));
        let leak = losses.iter().find(|l| moves[l.value.0 as usize] || moves[l.replicated.0 as usize]);
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

/// All derivatives that are going to be taken have rules: forwards from the noise to the losses, backwards from the activities to their
/// parameters and from the losses to exact ones. Checked at once, for one list of all that is missing.
fn check_rules(program: &Program, acts: &[Value], losses: &[Objective]) -> Result<(), Vec<Diagnostic>> {
    let param = |v: Value, exact: bool| matches!(program.op(v), Op::Param(i) if program.params[*i as usize].exact == exact);
    let (replicated, conventional): (Vec<Value>, Vec<Value>) = losses.iter().map(|l| (l.replicated, l.value)).unzip();
    let perturbed: Vec<Value> = acts.iter().map(|&a| program.args(a)[0]).collect();
    let (nothing, activity) = (|_: Value| false, |v: Value| acts.contains(&v));
    let routes = [
        Route { seeds: &nothing, noise: &activity, roots: &replicated, blocked: &nothing },
        Route { seeds: &|v| param(v, false), noise: &nothing, roots: &perturbed, blocked: &activity },
        Route { seeds: &|v| param(v, true), noise: &nothing, roots: &conventional, blocked: &nothing },
    ];
    refuse(program, routes.iter().flat_map(|r| r.without_rule(program)).collect())
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
