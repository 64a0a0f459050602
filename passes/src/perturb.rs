//! perturb: the forward-gradient estimators. Places noise at every activity or on every weight, masks it where a ReLU is shut (`prune`), runs
//! `jvp` once for all of it, multiplies each noise by the directional derivatives of the losses in its reach (`reach`), and pulls what it gets
//! for activities back to their parameters by `transpose`. Parameters marked exact take exact gradients. It changes no value of the model.
//!
//! Everything here is read off the graph: no layer, model or loss is known by name.

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::op::Noise;
use pushforward_ir::program::Port;
use pushforward_ir::{Builder, DType, Diagnostic, Op, Program, Value, verify};

use crate::algorithm::{Neglect, NoiseSource, Options, Signal};
use crate::border::{input, output, scalar_input};
use crate::gradient::{Objective, counted, exact_gradients, objectives, output_gradients, output_losses};
use crate::jvp::{self, Departures, Route, Tangent, differentiable, refuse};
use crate::norms::{identities, unseen};
use crate::reach::{self, Held, multiplier, reach};
use crate::transpose::vjp;
use crate::util::{activities, param_values};
use crate::{DIRECTION, dce, prune};

pub fn run(program: &Program, options: &Options) -> Result<Program, Vec<Diagnostic>> {
    run_by(program, options, &reach::held)
}

/// The pass, with reach by another rule: to study what a wider one costs in variance and a narrower one in bias.
pub fn run_by(program: &Program, options: &Options, rule: &reach::Rule) -> Result<Program, Vec<Diagnostic>> {
    let model = program;
    let program = counted(model, options.algorithm.losses);
    let norms = identities(&program);
    let own = unseen(&norms, rule);
    let rule = if options.algorithm.neglect == Neglect::NormsInReach { &own } else { rule };
    let losses = objectives(&program, options.algorithm.losses);
    let roots: Vec<Value> = losses.iter().map(|l| l.replicated).collect();
    let mut b = Builder::new(program.clone());
    let sources = sources(&program, options)?;
    if options.algorithm.signal == Signal::Activities {
        check_parameters(&program, &activities(&program), &losses, Unreached::Refused)?;
    }
    check_rules(&program, &sources, &losses)?;

    // Noise, masked where a ReLU is shut.
    let mut noises = Vec::new();
    for (source, u) in sources.iter().zip(place(&mut b, &sources, options)?) {
        b.origin = program.node(source.value).origin;
        let mask = if options.prune { prune::mask(&mut b, &program, source.value) } else { None };
        noises.push(match mask {
            Some(mask) => {
                let mask = if options.share_masks { mask } else { prune::apart(&mut b, mask) };
                let zero = b.constant(0.0, b.ty(u).dtype);
                b.op(Op::Select, &[mask, u, zero])
            }
            None => u,
        });
    }

    // One forward-mode pass for all noise at once, and the multipliers.
    let noise = sources.iter().zip(&noises).map(|(s, &u)| (s.value, u)).collect();
    let tangents = jvp::append(&mut b, &jvp::Request { noise, roots: roots.clone(), ..Default::default() })?;
    let derivatives: Vec<Option<Value>> = tangents.iter().zip(&losses).map(|(t, l)| Some(derivative(&mut b, t.value()?, l))).collect();
    let (mut products, mut by_param): (Vec<(Value, Value)>, HashMap<u32, Option<Value>>) = Default::default();
    for (source, &u) in sources.iter().zip(&noises) {
        b.origin = program.node(source.value).origin;
        let axes = source.order.iter().copied().collect();
        let reached = reach(&program, source.value, axes, &roots, rule);
        let Some(g) = product(&mut b, &program, source.value, u, &reached, &losses, &derivatives) else { continue };
        let g = b.scale(g, 1.0 / options.directions as f64);
        match program.op(source.value) {
            Op::Param(i) => _ = by_param.insert(*i, Some(g)),
            _ => products.push((program.args(source.value)[0], g)),
        }
    }

    // From the activities back to their parameters; other activities stand still.
    if options.algorithm.signal == Signal::Activities {
        let but = match options.algorithm.neglect {
            Neglect::NormsInPullBack => Departures { identities: Some(&norms), ..Departures::default() },
            Neglect::Nothing | Neglect::NormsInReach => Departures::default(),
        };
        by_param = pull_back(&mut b, &program, &products, but)?;
    }
    by_param.extend(exact_gradients(&mut b, &program, &losses)?);

    output_losses(&mut b, &program);
    if options.report {
        report(&mut b, &losses, &tangents);
    }
    output_gradients(&mut b, model, &by_param);
    Ok(dce::run(&b.finish()))
}

/// What gradients at the operands of activities, `products`, are for the parameters that are not exact, no activity being passed.
pub fn pull_back(
    b: &mut Builder,
    program: &Program,
    products: &[(Value, Value)],
    but: Departures,
) -> Result<HashMap<u32, Option<Value>>, Vec<Diagnostic>> {
    let blocked = |v: Value| matches!(program.nodes.get(v.0 as usize).map(|n| &n.op), Some(Op::Activity(_)));
    let wanted: Vec<u32> = (0..program.params.len() as u32).filter(|&i| !program.params[i as usize].exact).collect();
    let (present, values) = param_values(program, &wanted);
    let gradients = vjp(b, products, &values, &Departures { blocked: Some(&blocked), ..but })?;
    Ok(present.into_iter().zip(gradients).collect())
}

/// Prefixes of the inputs by which a caller hands noise in: that of an activity, that of a parameter.
pub const ACTIVITY_NOISE: &str = "anoise.";
pub const WEIGHT_NOISE: &str = "wnoise.";

/// Something that is perturbed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    /// An activity or a parameter.
    pub value: Value,
    /// The axes of its noise, beside directions: the value's own, and perhaps before them the batch.
    pub order: Vec<AxisId>,
    /// What the noise is called where the caller hands it in.
    pub noise: String,
}

/// All that an algorithm perturbs: activities, or the parameters that are not exact. None where it draws no noise.
pub fn sources(program: &Program, options: &Options) -> Result<Vec<Source>, Vec<Diagnostic>> {
    match options.algorithm.signal {
        Signal::Backward | Signal::Feedback | Signal::Direct => Ok(Vec::new()),
        Signal::Activities => {
            let source = |value: Value| {
                let Op::Activity(layer) = program.op(value) else { return None };
                let order = program.axes.in_order(program.axes_of(value));
                Some(Source { value, order, noise: format!("{ACTIVITY_NOISE}{layer}") })
            };
            Ok(activities(program).into_iter().filter_map(source).collect())
        }
        Signal::Weights => weights(program, options),
    }
}

fn weights(program: &Program, options: &Options) -> Result<Vec<Source>, Vec<Diagnostic>> {
    let batch = match (options.noise_per_example, program.batch) {
        (false, _) => None,
        (true, batch @ Some(_)) => batch,
        (true, None) => {
            let error = Diagnostic::error("noise for every example is asked for, and the model has no axis of examples");
            return Err(vec![error.hint("declare it: `axis N;`")]);
        }
    };
    let source = |value: Value| {
        let Op::Param(i) = program.op(value) else { return None };
        let param = &program.params[*i as usize];
        let order = batch.into_iter().chain(param.port.order.iter().copied()).collect();
        (!param.exact).then(|| Source { value, order, noise: format!("wnoise.{}", param.port.name) })
    };
    let sources: Vec<Source> = program.values().filter_map(source).collect();
    if let Some(v) = batch.and_then(|batch| placed(program, &sources, batch)) {
        let message = "this `window` makes examples of what has noise of every example already, and which example it would follow is open";
        let error = verify::origin_diagnostic(program, v, message);
        return Err(vec![error.hint("leave --noise-per-example out, or use the weights behind the `window`")]);
    }
    Ok(sources)
}

/// A `window` that brings the batch to what is moved by weights and has no examples.
fn placed(program: &Program, sources: &[Source], batch: AxisId) -> Option<Value> {
    let values: Vec<Value> = sources.iter().map(|s| s.value).collect();
    let moved = program.depends(&values, |v| jvp::is_end(program.op(v)) || !program.ty(v).dtype.is_float());
    let brings = |v: Value| match program.op(v) {
        Op::Window(affine) => affine.axis != batch && affine.terms.iter().any(|term| term.1 == batch),
        _ => false,
    };
    program.values().find(|&v| brings(v) && moved[program.args(v)[0].0 as usize])
}

/// The noise of every source: generated, or an input that the caller hands in.
fn place(b: &mut Builder, sources: &[Source], options: &Options) -> Result<Vec<Value>, Vec<Diagnostic>> {
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
    for (stream, source) in sources.iter().enumerate() {
        let node = b.program().node(source.value);
        let (origin, dtype) = (node.origin, node.ty.dtype);
        b.origin = origin;
        let order: Vec<AxisId> = direction.into_iter().chain(source.order.iter().copied()).collect();
        noises.push(match state {
            Some((seed, step)) => {
                // Examples are the slowest, whatever else there is: a part of the batch draws consecutive elements of the whole's.
                let batch = b.program().batch;
                let mut order = order;
                order[direction.iter().len()..].sort_by_key(|&axis| Some(axis) != batch);
                let noise = Noise { stream: stream as u32, order, direction, dtype };
                b.op(Op::Normal(Box::new(noise)), &[seed, step])
            }
            None => input(b, Port { name: source.noise.clone(), dtype, order })?,
        });
    }
    Ok(noises)
}

/// A loss's derivative along the noise, weighted as in the objective. What of a loss is of no example, as a penalty on weights is, moves with the
/// noise that every example has of its own: the mean over them is one derivative for it.
fn derivative(b: &mut Builder, tangent: Value, loss: &Objective) -> Value {
    let directions = b.program().axes.find(DIRECTION).into_iter().collect();
    let apart = b.axes_of(tangent) - b.axes_of(loss.replicated) - directions;
    let examples = b.program().axes.count(apart);
    let sum = b.sum(tangent, apart);
    b.scale(sum, loss.weight / examples as f64)
}

/// `u * (sum of the derivatives in reach)`, summed over directions, and over examples if only the noise has them: an estimate of the gradient
/// at the source. `None`: no loss in reach.
fn product(
    b: &mut Builder,
    program: &Program,
    source: Value,
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
    let more = b.axes_of(g) - program.axes_of(source);
    Some(b.sum(g, more))
}

/// What becomes of a parameter that moves neither an activity nor a loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unreached {
    Refused,
    Stays,
}

/// Every parameter that is not exact must move an activity, and must move no loss but through one.
pub fn check_parameters(program: &Program, acts: &[Value], losses: &[Objective], unreached: Unreached) -> Result<(), Vec<Diagnostic>> {
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
            (false, None) if unreached == Unreached::Stays => continue,
            (false, _) => format!("the parameter `{name}` reaches no `activity`, and it is not marked `exact`: nothing would train it"),
            (true, Some(l)) => {
                format!("the parameter `{name}` reaches the loss `{}` on a way without an `activity`: its estimate would be wrong", l.name)
            }
        };
        errors.push(verify::origin_diagnostic(program, v, message).hint("put an `activity(..)` behind its layer, or write `exact param`"));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// All derivatives that are going to be taken have rules: forwards from the noise to the losses, backwards from activities to their parameters
/// and from the losses to exact ones. Checked at once, for one list of all that is missing.
fn check_rules(program: &Program, sources: &[Source], losses: &[Objective]) -> Result<(), Vec<Diagnostic>> {
    let param = |v: Value, exact: bool| matches!(program.op(v), Op::Param(i) if program.params[*i as usize].exact == exact);
    let (replicated, conventional): (Vec<Value>, Vec<Value>) = losses.iter().map(|l| (l.replicated, l.value)).unzip();
    // Weights have no operands, and what ends at them is no way.
    let operands: Vec<Value> = sources.iter().flat_map(|s| program.args(s.value)).copied().collect();
    let (nothing, source) = (|_: Value| false, |v: Value| sources.iter().any(|s| s.value == v));
    let (all, blocked) = (Departures::default(), Departures { blocked: Some(&source), ..Departures::default() });
    let routes = [
        Route { seeds: &nothing, noise: &source, roots: &replicated, but: all },
        Route { seeds: &|v| param(v, false), noise: &nothing, roots: &operands, but: blocked },
        Route { seeds: &|v| param(v, true), noise: &nothing, roots: &conventional, but: all },
    ];
    refuse(program, routes.iter().flat_map(|r| r.without_rule(program)).collect())
}

/// For every loss that counts: `d.<name>`, and where it is local `<name>`, weighted as in the objective.
fn report(b: &mut Builder, losses: &[Objective], tangents: &[Tangent]) {
    for (loss, tangent) in losses.iter().zip(tangents) {
        let axes = b.axes_of(loss.replicated);
        if loss.local {
            let weighted = b.scale(loss.replicated, loss.weight);
            output(b, loss.name.clone(), weighted, axes);
        }
        if let Tangent::Value(t) = *tangent {
            let d = b.scale(t, loss.weight);
            output(b, format!("d.{}", loss.name), d, axes);
        }
    }
}
