//! `experiment ablation`: what each part of the compiler is worth to a training step, by leaving it out. FLOPs and bytes are counted for every
//! preset; milliseconds are measured in turns with the whole step where that takes no more than a limit. Read [`variants`], then [`run`].

use std::time::Duration;

use pushforward::explain::{Figures, figures};
use pushforward::{Algorithm, Model, Pool, Settings, Step};
use pushforward_models::{PRESETS, Preset};
use pushforward_passes::simplify::{RULES, Rules};

use super::super::failure::{Failure, note};
use super::super::flags;
use super::super::measure::{Runner, alternate, median, repeat, too_large};
use super::super::out::{bytes, plural, thousands};
use super::{Common, Rounds, cell, csv};
use crate::run::chart::{Along, Dot, Dots, dots};

#[derive(clap::Args)]
pub struct Args {
    /// Only this preset; may be given several times
    #[arg(long = "preset", value_name = "NAME", value_parser = flags::preset)]
    presets: Vec<&'static Preset>,
    /// [default: lg-fg-a]
    #[arg(long, value_name = "NAME", value_parser = flags::algorithm)]
    algorithm: Option<Algorithm>,
    /// Examples in a step [default: the preset's]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = flags::batch)]
    batch: Option<usize>,
    /// Steps of more FLOPs than this are counted only; 0 for no time at all
    #[arg(long, value_name = "GFLOP", default_value = "150", value_parser = flags::not_negative)]
    most: f64,
    #[command(flatten)]
    rounds: Rounds,
    #[command(flatten)]
    common: Common,
}

/// For one pair of steps.
const PATIENCE: Duration = Duration::from_secs(6);

/// A step with something left out.
struct Variant {
    name: String,
    change: Box<dyn Fn(&mut Settings)>,
}

impl Variant {
    fn new(name: impl Into<String>, change: impl Fn(&mut Settings) + 'static) -> Variant {
        Variant { name: name.into(), change: Box::new(change) }
    }
}

/// The whole step first.
fn variants() -> Vec<Variant> {
    let mut all = vec![
        Variant::new("everything", |_| {}),
        Variant::new("no simplify", |s| s.passes.simplify.off = true),
        Variant::new("exact rules alone", |s| s.passes.simplify.rules = Rules::Exact),
        Variant::new("no pruning", |s| s.passes.prune = false),
        Variant::new("a mask of its own for noise", |s| s.passes.share_masks = false),
    ];
    let mut families: Vec<&str> = RULES.iter().map(|r| r.family).collect();
    families.dedup();
    families.sort_unstable();
    families.dedup();
    all.extend(families.into_iter().map(|family| {
        let without: Vec<&str> = RULES.iter().filter(|r| r.family == family).map(|r| r.name).collect();
        Variant::new(format!("without {family}"), move |s| s.passes.simplify.without = without.clone())
    }));
    all
}

/// What a variant costs.
struct Cost {
    name: String,
    figures: Figures,
    /// Milliseconds of it, and how much longer it took than the whole step, round by round.
    time: Result<(f64, f64), String>,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let pool = Pool::new(args.common.threads)?;
    let presets: Vec<&Preset> = if args.presets.is_empty() { PRESETS.iter().collect() } else { args.presets.clone() };
    let mut measured = Vec::new();
    for preset in presets {
        let mut settings = Settings::new(args.algorithm.unwrap_or(Algorithm::LG_FG_A), args.batch.unwrap_or(preset.batch));
        settings.sets = preset.sets.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let Some(model) = Model::built_in(preset.model) else { continue };
        measured.push((preset, settings.clone(), costs(&model?, &settings, &args, &pool)?));
    }
    let mut table = Vec::new();
    for (preset, settings, costs) in &measured {
        table.extend(costs.iter().map(|cost| row(preset, settings, &costs[0], cost)));
    }
    let shown = plural(pool.threads(), "thread");
    let panels: Vec<Dots> = measured.iter().map(|(preset, settings, costs)| panel(preset, settings, costs)).collect();
    let figure = dots(
        "What each part is worth to a step",
        "times what the whole step takes",
        &["FLOPs", "bytes", "milliseconds"],
        Along::Ratios,
        &panels,
    )?;
    args.common.write("ablation", &[("csv", csv(&HEAD, &table)?), ("md", markdown(&measured, &shown)), ("svg", figure)])
}

fn costs(model: &Model, settings: &Settings, args: &Args, pool: &Pool) -> Result<Vec<Cost>, Failure> {
    let mut whole: Option<Runner> = None;
    let mut all: Vec<Cost> = Vec::new();
    // Of the whole step, in all turns.
    let mut own = Vec::new();
    for variant in variants() {
        let mut settings = settings.clone();
        (variant.change)(&mut settings);
        let program = model.training(&settings)?;
        let figures = figures(&program, "of it", &mut Vec::new());
        let time = match (too_much(&figures, args.most), &mut whole) {
            (Some(reason), _) => Err(reason),
            (None, None) if !all.is_empty() => Err("the whole step was not run either".into()),
            (None, whole) => {
                let mut runner = Runner::new(Step::compile(program, pool)?)?;
                Ok(match whole {
                    Some(whole) => {
                        let times = alternate(whole, &mut runner, args.rounds.steps, PATIENCE)?;
                        own.extend(times.iter().map(|t| t.0));
                        (median(times.iter().map(|t| t.1)), median(times.iter().map(|t| t.1 / t.0)))
                    }
                    None => {
                        let times = repeat(&mut runner, args.rounds.steps, PATIENCE)?;
                        *whole = Some(runner);
                        own.extend(times);
                        (median(own.iter().copied()), 1.0)
                    }
                })
            }
        };
        match &time {
            Ok((ms, _)) => note(format_args!("{}: {ms:.2} ms", variant.name)),
            Err(reason) => note(format_args!("{}: not run, as {reason}", variant.name)),
        }
        all.push(Cost { name: variant.name, figures, time });
    }
    if let Some(Ok((ms, _))) = all.first_mut().map(|whole| &mut whole.time) {
        *ms = median(own);
    }
    Ok(all)
}

/// Why a step is not run: its time, or its memory beside that of the whole one.
fn too_much(figures: &Figures, most: f64) -> Option<String> {
    let gflop = figures.flops as f64 / 1e9;
    if gflop > most {
        return Some(format!("it takes more than {most} GFLOP (--most)"));
    }
    match &figures.memory {
        Some(memory) => too_large(memory.peak_bytes.saturating_mul(2)),
        None => Some("it has no plan".into()),
    }
}

// ---- files

const HEAD: [&str; 14] = [
    "preset",
    "algorithm",
    "batch",
    "variant",
    "flops",
    "contraction_flops",
    "bytes",
    "largest_temporary_bytes",
    "peak_bytes",
    "ms",
    "times_flops",
    "times_bytes",
    "times_ms",
    "not_run",
];

fn row(preset: &Preset, settings: &Settings, whole: &Cost, cost: &Cost) -> Vec<String> {
    let memory = cost.figures.memory.as_ref();
    let [flops, bytes, ms] = ratios(whole, cost).map(|r| cell(r.map(|r| format!("{r:.4}"))));
    vec![
        preset.name.into(),
        settings.passes.algorithm.name().into(),
        cell(settings.batch),
        cost.name.clone(),
        cost.figures.flops.to_string(),
        cost.figures.contraction_flops.to_string(),
        cell(memory.map(|m| m.bytes)),
        cell(memory.map(|m| m.largest_temporary_bytes)),
        cell(memory.map(|m| m.peak_bytes)),
        cell(cost.time.as_ref().ok().map(|t| format!("{:.3}", t.0))),
        flops,
        bytes,
        ms,
        cell(cost.time.as_ref().err()),
    ]
}

/// FLOPs, bytes and time, of the whole step's.
fn ratios(whole: &Cost, cost: &Cost) -> [Option<f64>; 3] {
    let bytes = |c: &Cost| c.figures.memory.as_ref().map(|m| m.bytes as f64);
    let moved = bytes(cost).zip(bytes(whole)).map(|(a, b)| a / b);
    [Some(cost.figures.flops as f64 / whole.figures.flops as f64), moved, cost.time.as_ref().ok().map(|t| t.1)]
}

fn title(preset: &Preset, settings: &Settings) -> String {
    format!("{}, {}, batch {}", preset.name, settings.passes.algorithm.name(), cell(settings.batch))
}

fn panel(preset: &Preset, settings: &Settings, costs: &[Cost]) -> Dots {
    let rows = costs.iter().skip(1).map(|cost| (cost.name.clone(), ratios(&costs[0], cost).map(|r| r.map(Dot::from)).to_vec()));
    Dots { title: title(preset, settings), rows: rows.collect() }
}

fn markdown(measured: &[(&Preset, Settings, Vec<Cost>)], shown: &str) -> String {
    let mut text = format!(
        "# What each part is worth\n\nEach row is a training step with one thing left out; figures in brackets are times those of the whole step. \
         FLOPs and bytes are counted, milliseconds are medians, measured in turns with the whole step on {shown}.\n"
    );
    for (preset, settings, costs) in measured {
        text +=
            &format!("\n## {}\n\n| step | FLOPs | bytes | largest temporary | ms |\n|---|---:|---:|---:|---:|\n", title(preset, settings));
        for cost in costs {
            let times = ratios(&costs[0], cost).map(|r| r.map_or(String::new(), |r| format!(" ({r:.3})")));
            let known = |figure: Option<u64>| figure.map_or("not known".into(), bytes);
            let memory = cost.figures.memory.as_ref();
            let ms = cost.time.as_ref().map_or("not run".into(), |t| format!("{:.2}{}", t.0, times[2]));
            text += &format!(
                "| {} | {}{} | {}{} | {} | {ms} |\n",
                cost.name,
                thousands(cost.figures.flops),
                times[0],
                known(memory.map(|m| m.bytes)),
                times[1],
                known(memory.map(|m| m.largest_temporary_bytes)),
            );
        }
        let mut reasons: Vec<(&String, Vec<&str>)> = Vec::new();
        for (reason, cost) in costs.iter().filter_map(|c| Some((c.time.as_ref().err()?, c))) {
            match reasons.iter_mut().find(|r| r.0 == reason) {
                Some((_, names)) => names.push(&cost.name),
                None => reasons.push((reason, vec![&cost.name])),
            }
        }
        for (reason, names) in reasons {
            text += &format!("\nNot run, as {reason}: {}.\n", names.join(", "));
        }
    }
    text
}
