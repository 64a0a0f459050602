//! `experiment fig5`: what replicating a loss costs in memory and time, against the number of groups: simplified, written out, and as the JAX
//! implementation measured both. Read [`run`].

use pushforward::{Algorithm, Pool, Settings};
use pushforward_passes::alone::Mode;

use super::super::failure::{Failure, note};
use super::super::flags::{self, ModelFlags, SimplifyFlags};
use super::super::loss::{Compared, DEFAULT_LOSS, Form, compare};
use super::{Common, Rounds, cell, csv};
use crate::run::chart::{Drawing, Line, Look, Panel, lines};

#[derive(clap::Args)]
pub struct Args {
    /// Examples [default: 128]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = flags::batch)]
    batch: Option<usize>,
    #[command(flatten)]
    simplify: SimplifyFlags,
    /// A size of the loss: patches, channels, classes; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = flags::set)]
    sets: Vec<(String, String)>,
    /// Numbers of groups
    #[arg(long, value_name = "G,G", value_delimiter = ',', default_value = "1,4,16,64", value_parser = groups)]
    groups: Vec<usize>,
    #[command(flatten)]
    rounds: Rounds,
    #[command(flatten)]
    common: Common,
}

/// A measurement of the reference: groups, milliseconds, MiB.
type Measured = (usize, f64, Option<f64>);

/// Of its hand-fused loss and of the naive one, JAX 0.10, two cores; of the reverse it says no memory. All at these sizes.
const REFERENCE: [(Mode, bool, &[Measured]); 4] = [
    (Mode::Forward, true, &[(1, 5.0, Some(16.0)), (4, 5.0, Some(16.0)), (16, 5.0, Some(16.0)), (64, 5.0, Some(16.0))]),
    (Mode::Forward, false, &[(1, 29.0, Some(48.0)), (4, 91.0, Some(84.0)), (16, 315.0, Some(288.0)), (64, 1583.0, Some(1102.0))]),
    (Mode::Reverse, true, &[(1, 1.8, None), (4, 1.8, None), (16, 1.8, None), (64, 1.8, None)]),
    (Mode::Reverse, false, &[(1, 34.0, None), (4, 162.0, None), (16, 564.0, None), (64, 2222.0, None)]),
];
const REFERENCE_BATCH: usize = 128;

const MIB: f64 = (1 << 20) as f64;

pub fn run(args: Args) -> Result<(), Failure> {
    let model = ModelFlags { model: Some(DEFAULT_LOSS.into()), preset: None, sets: args.sets.clone() };
    let chosen = model.choose(None)?;
    if args.simplify.no_simplify {
        return Err(Failure::usage("fig5 sets the written out loss beside the simplified one as it is; hint: leave --no-simplify out"));
    }
    let mut settings = Settings::new(Algorithm::LG_FG_A, args.batch.unwrap_or(REFERENCE_BATCH));
    settings.sets = chosen.sets.clone();
    settings.passes.simplify = args.simplify.settings();
    let pool = Pool::new(args.common.threads)?;
    let mut measured = Vec::new();
    for mode in Mode::ALL {
        for &groups in &args.groups {
            let one = compare(&chosen, &settings, Some(groups), mode, &pool, args.rounds.steps)?;
            let what = format!("{}, {groups} groups", mode.name());
            match &one.times {
                Ok(t) => note(format_args!("{what}: {:.2} ms simplified, {:.2} ms written out", t.simplified, t.written_out)),
                Err(reason) => note(format_args!("{what}: not run, as {reason}")),
            }
            measured.push(one);
        }
    }
    // The reference measured one set of sizes.
    let sizes = chosen.model.inline(&settings.sets, settings.batch)?.program;
    let batch = sizes.batch.map_or(1, |a| sizes.axes.size(a));
    let reference: &[_] = if args.sets.is_empty() && batch == REFERENCE_BATCH { &REFERENCE } else { &[] };
    let size = |name: &str| sizes.axes.find(name).map_or(1, |a| sizes.axes.size(a));
    let shown = format!(
        "N={batch}, P={}, C={}, K={}; {} threads, {} rules",
        size("P"),
        size("G") * size("D"),
        size("K"),
        pool.threads(),
        settings.passes.simplify.rules.name()
    );
    let table = csv(&HEAD, &rows(&measured, reference))?;
    let figure = lines("The replicated cross entropy with its derivative", &shown, 2, &panels(&measured, reference))?;
    args.common.write("fig5", &[("csv", table), ("svg", figure)])
}

const HEAD: [&str; 13] = [
    "by",
    "form",
    "mode",
    "groups",
    "ms",
    "made_bytes",
    "largest_temporary_bytes",
    "peak_bytes",
    "resident_bytes",
    "contraction_flops",
    "flops",
    "rounds",
    "not_run",
];

fn rows(measured: &[Compared], reference: &[(Mode, bool, &[Measured])]) -> Vec<Vec<String>> {
    let ours = measured.iter().flat_map(|c| [true, false].map(|simplified| row(c, simplified)));
    let theirs = reference.iter().flat_map(|(mode, fused, points)| {
        let row = |&(groups, ms, mib): &Measured| {
            let form = if *fused { "fused by hand" } else { "written out" };
            let known = ["reference (JAX)", form, mode.name(), &groups.to_string(), &ms.to_string(), &cell(mib.map(|m| (m * MIB) as u64))];
            known.iter().map(|c| c.to_string()).chain(vec![String::new(); HEAD.len() - known.len()]).collect()
        };
        points.iter().map(row).collect::<Vec<Vec<String>>>()
    });
    ours.chain(theirs).collect()
}

fn row(c: &Compared, simplified: bool) -> Vec<String> {
    let (form, name) = form(c, simplified);
    vec![
        "pushforward".into(),
        name.into(),
        c.mode.name().into(),
        cell(c.groups),
        cell(ms(c, simplified).map(|ms| format!("{ms:.3}"))),
        form.made_bytes.to_string(),
        cell(form.figures.memory.as_ref().map(|m| m.largest_temporary_bytes)),
        form.peak_bytes.to_string(),
        cell(resident(c, simplified)),
        form.figures.contraction_flops.to_string(),
        form.figures.flops.to_string(),
        cell(c.times.as_ref().ok().map(|t| t.rounds)),
        cell(c.times.as_ref().err()),
    ]
}

fn form(c: &Compared, simplified: bool) -> (&Form, &'static str) {
    if simplified { (&c.simplified, "simplified") } else { (&c.written_out, "written out") }
}

fn ms(c: &Compared, simplified: bool) -> Option<f64> {
    let times = c.times.as_ref().ok()?;
    Some(if simplified { times.simplified } else { times.written_out })
}

fn resident(c: &Compared, simplified: bool) -> Option<u64> {
    let (after, before) = c.times.as_ref().ok()?.resident?;
    Some(if simplified { after } else { before })
}

fn panels(measured: &[Compared], reference: &[(Mode, bool, &[Measured])]) -> Vec<Panel> {
    let panel =
        |mode: Mode, title: &str, y: &'static str, ours: fn(&Compared, bool) -> Option<f64>, theirs: fn(&Measured) -> Option<f64>| {
            let own = |simplified| {
                let of_mode = measured.iter().filter(move |c| c.mode == mode);
                of_mode.filter_map(move |c| Some((c.groups? as f64, ours(c, simplified)?))).collect::<Vec<_>>()
            };
            let other = |fused: bool| {
                let points = reference.iter().filter(|r| r.0 == mode && r.1 == fused).flat_map(|r| r.2);
                points.filter_map(|p| Some((p.0 as f64, theirs(p)?))).collect::<Vec<_>>()
            };
            let all = [
                Line { name: "written out", look: Look::Second, drawn: Drawing::Both, points: own(false) },
                Line { name: "simplified", look: Look::First, drawn: Drawing::Both, points: own(true) },
                Line { name: "JAX, written out", look: Look::SecondAside, drawn: Drawing::Both, points: other(false) },
                Line { name: "JAX, fused by hand", look: Look::FirstAside, drawn: Drawing::Both, points: other(true) },
            ];
            let lines = all.into_iter().filter(|l| !l.points.is_empty()).collect();
            Panel { title: format!("{title}, {}", mode.name()), x: "groups", y, lines }
        };
    let memory = |c: &Compared, simplified: bool| Some(form(c, simplified).0.made_bytes as f64 / MIB);
    let time = |mode| panel(mode, "Time", "ms", ms, |p| Some(p.1));
    let memory = |mode| panel(mode, "Temporaries and results", "MiB", memory, |p| p.2);
    vec![time(Mode::Forward), time(Mode::Reverse), memory(Mode::Forward), memory(Mode::Reverse)]
}

fn groups(text: &str) -> Result<usize, String> {
    flags::count(text, 1, "there is at least one group")
}
