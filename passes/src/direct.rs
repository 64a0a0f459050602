//! direct: direct feedback alignment (Nokland 2016). The error of the model's prediction goes to the activity of every layer at once, through
//! a fixed random tensor of the layer's own, and from there back to the layer's parameters. Where no weight stands between a layer and the
//! prediction, as at the last one, the error is the layer's own and goes through no tensor; what is marked exact takes exact gradients. Which
//! value is the prediction, and what is a layer's own, is read off the graph.

use std::collections::HashMap;

use pushforward_ir::{AxisSet, Builder, Diagnostic, Op, Program, Value, verify};

use crate::algorithm::Options;
use crate::gradient::{Objective, counted, exact_gradients, objectives, output_gradients, output_losses, weighted};
use crate::jvp::{Departures, Route};
use crate::norms::{identities, unseen};
use crate::perturb::{Unreached, check_parameters, pull_back};
use crate::reach::{self, Names, reach};
use crate::transpose::vjp;
use crate::util::{activities, param_values, slice};
use crate::{dce, feedback, prune};

pub fn run(program: &Program, options: &Options) -> Result<Program, Vec<Diagnostic>> {
    let model = program;
    let program = counted(model, options.algorithm.losses);
    let (acts, losses) = (activities(&program), objectives(&program, options.algorithm.losses));
    check_parameters(&program, &acts, &losses, Unreached::Stays)?;
    let own = own_axes(&program, &acts);
    if own.iter().all(|own| own.is_empty()) {
        let error = Diagnostic::error("direct feedback goes to layers, and no `activity` of this model stands behind a parameter of one");
        return Err(vec![error.hint("write `activity(..)` around what each layer computes, or choose another algorithm")]);
    }
    let prediction = prediction(&program, &acts, &losses)?;

    let mut b = Builder::new(program.clone());
    let roots = weighted(&mut b, &program, &losses);
    let error = vjp(&mut b, &roots, &[prediction], &Departures::default())?.remove(0);
    let mut products = Vec::new();
    for (activity, own) in acts.iter().copied().zip(own) {
        let Some(error) = error else { continue };
        b.origin = program.node(activity).origin;
        let Op::Activity(layer) = program.op(activity) else { continue };
        if !slice(&program, activity, prediction).into_iter().any(|v| by_weight(&program, v)) {
            let exact = vjp(&mut b, &[(prediction, error)], &[activity], &Departures::default())?.remove(0);
            products.extend(exact.map(|g| (program.args(activity)[0], g)));
            continue;
        }
        if own.is_empty() {
            continue;
        }
        let at = prune::behind(&program, activity);
        let shared = program.axes_of(at);
        let over = program.axes_of(prediction) - shared;
        let order = [b.program().axes.in_order(own), b.program().axes.in_order(over)].concat();
        let tensor = feedback::direct(&mut b, layer, program.ty(at).dtype, order);
        let direct = b.contract(&[error, tensor], over);
        // One error for all elements along axes that neither the layer's parameters nor the prediction have.
        let same = program.axes.count(shared - own - program.axes_of(prediction));
        let direct = b.scale(direct, 1.0 / same as f64);
        if let Some(g) = vjp(&mut b, &[(at, direct)], &[activity], &Departures::default())?.remove(0) {
            products.push((program.args(activity)[0], g));
        }
    }
    let mut by_param: HashMap<u32, Option<Value>> = pull_back(&mut b, &program, &products, Departures::default())?;
    by_param.extend(exact_gradients(&mut b, &program, &losses)?);
    output_losses(&mut b, &program);
    output_gradients(&mut b, model, &by_param);
    Ok(dce::run(&b.finish()))
}

/// The declared output that is nearest to the loss among those through which all derivatives from the activities to the loss pass.
fn prediction(program: &Program, acts: &[Value], losses: &[Objective]) -> Result<Value, Vec<Diagnostic>> {
    let refused = |v: Value, message: String, hint: &str| vec![verify::origin_diagnostic(program, v, message).hint(hint)];
    let loss = match losses {
        [loss] => loss.value,
        [] => {
            let error = Diagnostic::error("direct feedback starts at the model's loss, and it has none that is not local");
            return Err(vec![error.hint("write `loss ..;` in the model")]);
        }
        [_, second, ..] => {
            let message = format!("direct feedback starts at one loss, and `{}` is a second one", second.name);
            return Err(refused(second.value, message, "keep one `loss`, and make the others local"));
        }
    };
    let passes_all = |v: Value| {
        let at = |u: Value| u == v;
        let but = Departures { blocked: Some(&at), ..Departures::default() };
        let moved = |but: Departures, root: Value| {
            // The prediction may be an activity itself: what moves it there does not pass it.
            let passes = |u: Value| acts.contains(&u) && !but.blocked.is_some_and(|blocked| blocked(u));
            let route = Route { seeds: &|_| false, noise: &passes, roots: &[root], but };
            !route.path(program).is_empty()
        };
        moved(Departures::default(), v) && !moved(but, loss)
    };
    program.outputs.iter().map(|o| o.value).filter(|&v| v != loss && passes_all(v)).max().ok_or_else(|| {
        let message = "direct feedback starts at the model's prediction, and no output stands on all ways to the loss".to_string();
        refused(loss, message, "declare the prediction that the loss compares: `output logits: f32[N, K] = logits;`")
    })
}

/// A contraction with a weight, perhaps with its axes renamed: what direct feedback has a tensor for, in place of leading an error back through it.
fn by_weight(program: &Program, v: Value) -> bool {
    let weight = |mut x: Value| {
        while let Op::Rename(_) = program.op(x) {
            x = program.args(x)[0];
        }
        matches!(program.op(x), Op::Param(_))
    };
    matches!(program.op(v), Op::Contract(_)) && program.args(v).iter().any(|&x| weight(x))
}

/// The axes of each activity along which its own parameters tell its elements apart: what a fully connected layer has channels along. Norms
/// are taken for the identity.
fn own_axes(program: &Program, acts: &[Value]) -> Vec<AxisSet> {
    let norms = identities(program);
    let past_norms = unseen(&norms, &reach::held);
    // The parameters of a layer are those that move no other activity first.
    let rule = |p: &Program, v: Value, state: &[Option<Names>]| match p.op(v) {
        Op::Activity(_) => None,
        _ => past_norms(p, v, state),
    };
    let operands: Vec<Value> = acts.iter().map(|&a| program.args(a)[0]).collect();
    let layers: Vec<u32> = (0..program.params.len() as u32).filter(|&i| !program.params[i as usize].exact).collect();
    let mut own = vec![AxisSet::EMPTY; acts.len()];
    for param in param_values(program, &layers).1 {
        for (own, held) in own.iter_mut().zip(reach(program, param, program.axes_of(param), &operands, &rule)) {
            *own = held.iter().flat_map(|held| held.values()).fold(*own, |own, &names| own | names);
        }
    }
    own.into_iter().zip(acts).map(|(own, &a)| own & program.axes_of(a)).collect()
}
