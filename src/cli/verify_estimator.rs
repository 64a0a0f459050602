//! `verify-estimator`: the bias and the variance of an algorithm's estimates, parameter by parameter; exit code 1 if one is biased. What is
//! found is `pushforward::estimator`'s; here it is asked for and shown. Read [`run`].

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};
use pushforward::estimator::{GROUPS, Measured, Request, Verdict, Verification, verify};
use pushforward::{Algorithm, Pool, Settings};
use serde_json::json;

use super::failure::Failure;
use super::flags::{self, Chosen, ModelFlags, StepFlags};
use super::out::{self, thousands};

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    step: StepFlags,
    /// Estimates to draw; 0 for the exact expectation alone
    #[arg(long, value_name = "S", default_value = "1000", allow_negative_numbers = true, value_parser = samples)]
    samples: usize,
    /// Compute the expectation exactly where one direction of noise has no more elements than this; 0 for never
    #[arg(long, value_name = "N", default_value = "4096", allow_negative_numbers = true, value_parser = elements)]
    exact_up_to: usize,
    /// Of inputs, parameters and noise
    #[arg(long, value_name = "SEED", default_value = "0", allow_negative_numbers = true, value_parser = flags::seed)]
    seed: u32,
    /// [default: as many as the machine runs at once]
    #[arg(long, value_name = "T", default_value = "0", hide_default_value = true, value_parser = flags::threads)]
    threads: usize,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Examples in a step where nothing is said: enough for what a norm over the batch does.
const BATCH: usize = 8;
/// Fewer have no intervals.
const FEWEST: usize = 40;

pub fn run(args: Args) -> Result<(), Failure> {
    let chosen = args.model.choose(None)?;
    let settings = args.step.settings(&chosen, chosen.model.needs_batch().then_some(BATCH))?;
    let algorithm = settings.passes.algorithm;
    if !algorithm.is_estimate() {
        let names: Vec<&str> = Algorithm::every().filter(|a| a.is_estimate()).map(Algorithm::name).collect();
        return Err(Failure::usage(format!(
            "`{}` draws no noise, so it estimates nothing; hint: there are {}",
            algorithm.name(),
            names.join(", ")
        )));
    }
    let program = chosen.inline(&settings)?;
    let batch = program.batch.map_or(1, |a| program.axes.size(a));
    let request = Request { samples: args.samples, exact_up_to: args.exact_up_to, seed: args.seed };
    let bar = bar(args.samples);
    let found = verify(&chosen.model, &settings, &request, &Pool::new(args.threads)?, &mut |done| bar.set_position(done as u64))?;
    bar.finish_and_clear();
    let Some(found) = found else { return Ok(()) };
    if found.verdicts.is_empty() {
        return Err(Failure::wrong("the model has no parameter that is estimated; hint: all are marked `exact`"));
    }
    let asked = found.noise <= args.exact_up_to || args.samples > 0;
    if !asked {
        return Err(Failure::usage(format!(
            "one direction of noise has {} elements, more than --exact-up-to {}, and --samples is 0; hint: raise one of them",
            thousands(found.noise as u64),
            args.exact_up_to
        )));
    }
    if let Some(odd) = found.verdicts.iter().find(|v| !v.gradient.is_finite()) {
        return Err(Failure::wrong(format!(
            "the gradient of `{}` by {} is not finite at the numbers that are drawn, so estimates cannot be held against it; hint: inputs are \
             normal numbers, of either sign; try another --seed, or a model that is smooth there",
            odd.parameter,
            found.exact.name()
        )));
    }
    match args.json {
        true => out::print(&document(&chosen, &settings, batch, &request, &found).to_string())?,
        false => out::print(&describe(&chosen, &settings, batch, &request, &found))?,
    }
    match found.verdicts.iter().any(Verdict::is_biased) {
        true => Err(Failure::Check),
        false => Ok(()),
    }
}

fn bar(samples: usize) -> ProgressBar {
    if samples == 0 || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} samples, {eta} left").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(samples as u64).with_style(style)
}

fn describe(chosen: &Chosen, settings: &Settings, batch: usize, request: &Request, found: &Verification) -> String {
    let algorithm = settings.passes.algorithm.name();
    let mut text = format!(
        "{}, {algorithm} against {}: batch {batch}, {} elements of noise, {} directions, seed {}\n",
        chosen.title(),
        found.exact.name(),
        thousands(found.noise as u64),
        settings.passes.directions,
        request.seed
    );
    let shown = |m: Measured| format!("{:.4} ± {:.4}", m.value, m.half);
    let small = |m: Measured| format!("{:.3e} ± {:.0e}", m.value, m.half);
    let head = [
        "parameter",
        "entries",
        "|gradient|",
        "expectation off by",
        "mean along gradient",
        "bias² / gradient²",
        "variance of an entry",
        "",
    ];
    let rows = found.verdicts.iter().map(|v| {
        let none = || "-".to_string();
        vec![
            v.parameter.clone(),
            thousands(v.entries as u64),
            format!("{:.3e}", v.gradient),
            v.departure.map_or_else(none, |d| format!("{d:.1e}")),
            v.sampled.and_then(|s| s.along).map_or_else(none, shown),
            v.sampled.map_or_else(none, |s| shown(s.bias)),
            v.sampled.map_or_else(none, |s| small(s.variance)),
            if v.is_biased() { "BIASED".into() } else { String::new() },
        ]
    });
    let rows: Vec<Vec<String>> = [head.map(String::from).to_vec()].into_iter().chain(rows).collect();
    text += &out::table(&rows, &[false, true, true, true, true, true, true]);
    let biased = found.verdicts.iter().filter(|v| v.is_biased()).count();
    let total = found.verdicts.len();
    text += &match biased {
        0 if found.verdicts.iter().all(|v| v.departure.is_some()) => {
            format!("{algorithm} is unbiased here: its expectation is the gradient of {} for all {total} parameters", found.exact.name())
        }
        0 => format!("no bias shows in {} samples; intervals are of 95 %", request.samples),
        n => format!("{algorithm} is biased for {n} of {total} parameters"),
    };
    text
}

fn document(chosen: &Chosen, settings: &Settings, batch: usize, request: &Request, found: &Verification) -> serde_json::Value {
    let interval = |m: Measured| json!({ "value": m.value, "half_width_95": m.half });
    let parameters = found.verdicts.iter().map(|v| {
        json!({
            "parameter": v.parameter,
            "entries": v.entries,
            "gradient_norm": v.gradient,
            "expectation_departure": v.departure,
            "along_gradient": v.sampled.and_then(|s| s.along).map(interval),
            "relative_squared_bias": v.sampled.map(|s| interval(s.bias)),
            "variance_per_entry": v.sampled.map(|s| interval(s.variance)),
            "biased": v.is_biased(),
        })
    });
    json!({
        "model": chosen.model.name(),
        "preset": chosen.preset.map(|p| p.name),
        "algorithm": settings.passes.algorithm.name(),
        "exact": found.exact.name(),
        "batch": batch,
        "directions": settings.passes.directions,
        "noise_elements": found.noise,
        "samples": request.samples,
        "seed": request.seed,
        "parameters": parameters.collect::<Vec<_>>(),
    })
}

fn samples(text: &str) -> Result<usize, String> {
    match flags::count(text, 0, "")? {
        0 => Ok(0),
        n if n < FEWEST => Err(format!("fewer than {FEWEST} samples have no intervals; hint: 0 for none")),
        n => Ok(n.next_multiple_of(GROUPS)),
    }
}

fn elements(text: &str) -> Result<usize, String> {
    flags::count(text, 0, "")
}
