//! What an algorithm needs of a model, said before any pass runs; and what of its estimates is biased, and why. It changes no program.
//! [`check`] refuses, [`bias`] warns.

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::diag::Severity;
use pushforward_ir::{AxisSet, Diagnostic, Op, Program, Value, verify};

use crate::accumulate::ACCUMULATED;
use crate::algorithm::{self, Algorithm, Losses, Neglect, Options, Signal};
use crate::feedback::{DIRECT, FEEDBACK};
use crate::gradient::{Objective, objectives};
use crate::jvp::{Departures, Route};
use crate::norms::{identities, norms, unseen};
use crate::perturb::{self, Source};
use crate::reach::{self, Held, reach};
use crate::replicate::perturbed;

/// Everything that an algorithm needs and the model, after `inline`, does not have.
pub fn check(program: &Program, options: &Options) -> Result<(), Vec<Diagnostic>> {
    let algorithm = options.algorithm;
    let mut errors = Vec::new();
    let (local, global): (Vec<_>, Vec<_>) = program.losses.iter().partition(|l| l.local.is_some());
    // None where the model lacks the losses of those as well.
    let names = |losses: Losses, has: bool| {
        let others = Algorithm::ALL
            .into_iter()
            .filter(|a| has && a.signal == algorithm.signal && (a.losses == Losses::Global) == (losses == Losses::Global));
        others.map(Algorithm::name).collect::<Vec<_>>().join(" or ")
    };
    if algorithm.is_local() && local.is_empty() {
        let error = Diagnostic::error(format!("`{}` learns from local losses, and this model marks none", algorithm.name()));
        let hint = match names(Losses::Global, !global.is_empty()) {
            none if none.is_empty() => "mark one, `local x along P, G { .. }`".to_string(),
            others => format!("mark one, `local x along P, G {{ .. }}`, or choose {others}"),
        };
        errors.push(error.hint(hint));
    }
    if !algorithm.is_local() && global.is_empty() {
        let error = Diagnostic::error(format!("`{}` learns from the global loss, and this model has none", algorithm.name()));
        let hint = match names(Losses::Greedy, !local.is_empty()) {
            none if none.is_empty() => "write `loss ..;` in the model".to_string(),
            others => format!("write `loss ..;` in the model, or choose {others}"),
        };
        errors.push(error.hint(hint));
    }
    if algorithm.is_local() && algorithm.is_estimate() {
        errors.extend(program.losses.iter().filter_map(|loss| perturbed(program, loss)));
    }
    for (v, norm) in norms(program) {
        let of_batch = program.batch.is_some_and(|batch| norm.over.contains(batch));
        if of_batch && norm.vanishes(program) {
            let message = "a norm over the batch, and the batch has one example: all that it gives is 0";
            errors.push(verify::origin_diagnostic(program, v, message).hint("take more examples at once (--batch), or another norm"));
        }
    }
    let fixed = match algorithm.signal {
        Signal::Feedback => Some(FEEDBACK),
        Signal::Direct => Some(DIRECT),
        Signal::Backward | Signal::Weights | Signal::Activities => None,
    };
    for v in program.values() {
        let Op::Param(i) = program.op(v) else { continue };
        let name = &program.params[*i as usize].port.name;
        if let Some(prefix) = fixed.into_iter().chain([ACCUMULATED]).find(|&prefix| name.starts_with(prefix)) {
            let message =
                format!("the parameter `{name}` has a name such as a step with `{}` gives to tensors of its own", algorithm.name());
            errors.push(verify::origin_diagnostic(program, v, message).hint(format!("let no label begin with `{prefix}`")));
        }
    }
    let place = |e: &Diagnostic| e.place.as_ref().map(|p| p.0);
    errors.sort_by_key(|e| place(e).map(|span| (span.file, span.start)));
    // However often one function is called.
    errors.dedup_by(|a, b| a.message == b.message && place(a) == place(b));
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn warning(program: &Program, v: Value, message: String) -> Diagnostic {
    Diagnostic { severity: Severity::Warning, ..verify::origin_diagnostic(program, v, message) }
}

/// Why estimates of this algorithm do not have the gradient as their mean: a warning for each perturbed value and loss, or for what the way
/// back leaves out.
pub fn bias(program: &Program, options: &Options) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
    let neglect = options.algorithm.neglect;
    if neglect == Neglect::Nothing {
        return Ok(Vec::new());
    }
    let before: Vec<&str> = options.algorithm.passes().iter().copied().take_while(|&name| name != "perturb").collect();
    let program = algorithm::run(program.clone(), &before, options, &mut |_, _| {})?;
    let (sources, norms) = (perturb::sources(&program, options)?, identities(&program));
    Ok(match neglect {
        Neglect::NormsInPullBack => {
            let by_source = |s| left_out(&program, s, &sources, &norms, options.algorithm);
            sources.iter().filter_map(by_source).collect()
        }
        Neglect::Nothing | Neglect::NormsInReach => {
            let losses = objectives(&program, options.algorithm.losses);
            sources.iter().flat_map(|s| not_reached(&program, s, &losses, &norms, options.algorithm)).collect()
        }
    })
}

/// The way back from a perturbed value to its parameters, which ends at other perturbed values, goes through a norm.
fn left_out(program: &Program, s: &Source, sources: &[Source], norms: &HashMap<Value, Value>, algorithm: Algorithm) -> Option<Diagnostic> {
    let trained = |v: Value| matches!(program.op(v), Op::Param(i) if !program.params[*i as usize].exact);
    let other = |v: Value| sources.iter().any(|s| s.value == v);
    let but = Departures { blocked: Some(&other), ..Departures::default() };
    let way = Route { seeds: &trained, noise: &|_| false, roots: program.args(s.value), but };
    way.path(program).iter().find(|v| norms.contains_key(v))?;
    let (shown, name) = (shown(program, s), algorithm.name());
    let message = format!("estimates through {shown} are biased: `{name}` leaves the Jacobian of the norm before it out");
    Some(warning(program, s.value, message).hint("leave /ng out for unbiased ones"))
}

/// Losses of which elements are in reach by the right rule, and not with norms taken for the identity.
fn not_reached(
    program: &Program,
    s: &Source,
    losses: &[Objective],
    norms: &HashMap<Value, Value>,
    algorithm: Algorithm,
) -> Vec<Diagnostic> {
    let axes = s.order.iter().copied().collect();
    let roots: Vec<Value> = losses.iter().map(|l| l.replicated).collect();
    let narrow = reach(program, s.value, axes, &roots, &unseen(norms, &reach::held));
    let right = reach(program, s.value, axes, &roots, &reach::held);
    let warned = |((narrow, right), loss): ((Option<Held>, Option<Held>), &Objective)| {
        let missed = missed(&narrow?, &right?, program.axes_of(loss.replicated));
        let message = format!(
            "estimates through {} are biased: a norm spreads its noise to all of {} of the loss `{}`, and `{}` counts the same index alone",
            shown(program, s),
            program.axes.show(missed),
            loss.name,
            algorithm.name()
        );
        (!missed.is_empty()).then(|| warning(program, s.value, message).hint("leave /own out for unbiased ones"))
    };
    narrow.into_iter().zip(right).zip(losses).filter_map(warned).collect()
}

fn shown(program: &Program, source: &Source) -> String {
    match program.op(source.value) {
        Op::Param(i) => format!("the parameter `{}`", program.params[*i as usize].port.name),
        Op::Activity(layer) => format!("the activity `{layer}`"),
        op => format!("`{}`", op.name()),
    }
}

/// Axes of a loss that the narrower rule holds for some axis of the source and the right one does not.
fn missed(narrow: &Held, right: &Held, loss: AxisSet) -> AxisSet {
    let of = |held: &Held, axis: &AxisId| held.get(axis).copied().unwrap_or(AxisSet::EMPTY) & loss;
    narrow.keys().fold(AxisSet::EMPTY, |all, axis| all | (of(narrow, axis) - of(right, axis)))
}
