//! Local losses alone, with derivatives: simplified, against the same written out. `bench --loss` shows it; `experiment fig5` draws it.
//! Read [`compare`].

use std::time::Duration;

use pushforward::explain::{Figures, figures};
use pushforward::{Algorithm, Pool, Report, Settings, Step, View};
use pushforward_passes::alone::Mode;
use serde_json::{Value, json};

use super::failure::Failure;
use super::flags::{Chosen, ModelFlags, StepFlags};
use super::measure::{Resident, Runner, alternate, median, too_large};
use super::out::{self, bytes, thousands};

/// The loss where no model is named.
pub const DEFAULT_LOSS: &str = "cross_entropy";
/// For one pair of programs.
const PATIENCE: Duration = Duration::from_secs(3);

/// What `bench` is asked for.
pub struct Request<'a> {
    pub groups: &'a [usize],
    pub rounds: Option<usize>,
    pub threads: usize,
    pub json: bool,
}

/// A loss in two forms.
pub struct Compared {
    /// As the model was told; none if it was not.
    pub groups: Option<usize>,
    pub mode: Mode,
    pub simplified: Form,
    pub written_out: Form,
    pub times: Result<Times, String>,
}

pub struct Form {
    pub figures: Figures,
    /// Parameters, inputs, outputs and temporaries.
    pub peak_bytes: u64,
    /// Of these, outputs and temporaries.
    pub made_bytes: u64,
}

/// Medians, in milliseconds.
pub struct Times {
    pub rounds: usize,
    pub simplified: f64,
    pub written_out: f64,
    /// How much longer the written out form took, round by round.
    pub ratio: f64,
    /// By how much results differ, of the largest entry of each.
    pub departs: f64,
    /// Bytes that the process came to hold by the simplified one, inputs among them, and by the other, where the system says it.
    pub resident: Option<(u64, u64)>,
}

pub fn run(model: &ModelFlags, step: &StepFlags, request: &Request) -> Result<(), Failure> {
    let mut model = model.clone();
    model.model.get_or_insert(DEFAULT_LOSS.into());
    let chosen = model.choose(None)?;
    let settings = step.settings(&chosen, chosen.default_batch())?;
    let pool = Pool::new(request.threads)?;
    let groups: Vec<Option<usize>> = match request.groups {
        [] => vec![None],
        some => some.iter().copied().map(Some).collect(),
    };
    let mut rows = Vec::new();
    for groups in groups {
        for mode in Mode::ALL {
            rows.push(compare(&chosen, &settings, groups, mode, &pool, request.rounds)?);
        }
    }
    let program = chosen.model.inline(&settings.sets, settings.batch)?.program;
    let batch = program.batch.map_or(1, |a| program.axes.size(a));
    match request.json {
        true => out::print(&document(&chosen, &settings, batch, pool.threads(), &rows).to_string()),
        false => out::print(&describe(&chosen, &settings, batch, pool.threads(), &rows)),
    }
}

/// Both forms, counted; timed if memory allows.
pub fn compare(
    chosen: &Chosen,
    settings: &Settings,
    groups: Option<usize>,
    mode: Mode,
    pool: &Pool,
    rounds: Option<usize>,
) -> Result<Compared, Failure> {
    let mut settings = settings.clone();
    settings.passes.algorithm = Algorithm::LG_FG_A;
    settings.sets.extend(groups.map(|g| ("groups".to_string(), g.to_string())));
    let simplified = chosen.model.losses(&settings, mode)?;
    settings.passes.simplify.off = true;
    let written_out = chosen.model.losses(&settings, mode)?;
    let mut notes = Vec::new();
    let counted = [("after", &simplified), ("before", &written_out)].map(|(which, program)| figures(program, which, &mut notes));
    let [simplified, written_out] = [Step::compile(simplified, pool)?, Step::compile(written_out, pool)?];
    let reports = [simplified.report(), written_out.report()];
    let times = match too_large(reports.iter().map(|r| r.peak_bytes as u64).sum()) {
        Some(reason) => Err(reason),
        None => Ok(times(simplified, written_out, rounds)?),
    };
    let [after, before] = counted;
    let form =
        |figures, r: &Report| Form { figures, peak_bytes: r.peak_bytes as u64, made_bytes: (r.temporary_bytes + r.output_bytes) as u64 };
    Ok(Compared { groups, mode, simplified: form(after, &reports[0]), written_out: form(before, &reports[1]), times })
}

fn times(simplified: Step, written_out: Step, rounds: Option<usize>) -> Result<Times, Failure> {
    let ((mut simplified, a), (mut written_out, b)) = (run_once(simplified)?, run_once(written_out)?);
    let times = alternate(&mut simplified, &mut written_out, rounds, PATIENCE)?;
    let departs = written_out.step().outputs().filter_map(|(name, view)| departure(simplified.step().output(name)?, view));
    Ok(Times {
        rounds: times.len(),
        simplified: median(times.iter().map(|t| t.0)),
        written_out: median(times.iter().map(|t| t.1)),
        ratio: median(times.iter().map(|t| t.1 / t.0)),
        departs: departs.fold(0.0, f64::max),
        resident: a.zip(b),
    })
}

/// What the process came to hold by it, inputs and parameters among that.
fn run_once(step: Step) -> Result<(Runner, Option<u64>), Failure> {
    let resident = Resident::start();
    let mut runner = Runner::new(step)?;
    runner.once()?;
    Ok((runner, resident.and_then(Resident::grown)))
}

/// The largest difference of two tensors, of the largest entry; none if they are no floats.
fn departure(got: View<'_>, expected: View<'_>) -> Option<f64> {
    let (got, expected) = (got.f32()?, expected.f32()?);
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
    let apart = got.iter().zip(&expected).map(|(a, b)| f64::from((a - b).abs() / largest));
    Some(apart.fold(0.0, |most, x| if x.is_nan() { f64::INFINITY } else { most.max(x) }))
}

fn document(chosen: &Chosen, settings: &Settings, batch: usize, threads: usize, rows: &[Compared]) -> Value {
    let row = |c: &Compared| {
        let pair = |figure: fn(&Form) -> Option<u64>| json!({ "before": figure(&c.written_out), "after": figure(&c.simplified) });
        let times = c.times.as_ref().ok();
        json!({
            "mode": c.mode.name(),
            "groups": c.groups,
            "ms": times.map(|t| json!({ "before": t.written_out, "after": t.simplified })),
            "ratio": times.map(|t| t.ratio),
            "rounds": times.map(|t| t.rounds),
            "departs": times.map(|t| t.departs),
            "resident_bytes": times.and_then(|t| t.resident).map(|(after, before)| json!({ "before": before, "after": after })),
            "not_run": c.times.as_ref().err(),
            "contraction_flops": pair(|f| Some(f.figures.contraction_flops)),
            "flops": pair(|f| Some(f.figures.flops)),
            "bytes": pair(|f| Some(f.figures.memory.as_ref()?.bytes)),
            "largest_temporary_bytes": pair(|f| Some(f.figures.memory.as_ref()?.largest_temporary_bytes)),
            "made_bytes": pair(|f| Some(f.made_bytes)),
            "peak_bytes": pair(|f| Some(f.peak_bytes)),
        })
    };
    json!({
        "model": chosen.model.name(),
        "batch": batch,
        "threads": threads,
        "rules": settings.passes.simplify.rules.name(),
        "without": settings.passes.simplify.without,
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
    })
}

fn describe(chosen: &Chosen, settings: &Settings, batch: usize, threads: usize, rows: &[Compared]) -> String {
    let rules = settings.passes.simplify.rules.name();
    let mut text = format!("the losses of {} alone, batch {batch}, {rules} rules, {threads} threads\n\n", chosen.title());
    let head = ["mode", "groups", "", "ms", "FLOPs", "of contractions", "largest temporary", "peak memory"].map(String::from).to_vec();
    let mut table = vec![head];
    let mut notes = Vec::new();
    for c in rows {
        let groups = c.groups.map_or(String::new(), |g| g.to_string());
        for (name, form, ms) in [
            ("written out", &c.written_out, c.times.as_ref().map(|t| t.written_out)),
            ("simplified", &c.simplified, c.times.as_ref().map(|t| t.simplified)),
        ] {
            table.push(vec![
                c.mode.name().into(),
                groups.clone(),
                name.into(),
                ms.map_or("not run".into(), |ms| format!("{ms:.2}")),
                thousands(form.figures.flops),
                thousands(form.figures.contraction_flops),
                form.figures.memory.as_ref().map_or("not known".into(), |m| bytes(m.largest_temporary_bytes)),
                bytes(form.peak_bytes),
            ]);
        }
        let which = match &c.groups {
            Some(groups) => format!("{}, {groups} groups", c.mode.name()),
            None => c.mode.name().to_string(),
        };
        notes.push(match &c.times {
            Ok(t) => format!("{which}: {:.1} times faster ({} rounds in turns), results within {:.1e}", t.ratio, t.rounds, t.departs),
            Err(reason) => format!("{which}: not run, as {reason}"),
        });
    }
    text += &out::table(&table, &[false, true, false, true, true, true, true, true]);
    text + "\n" + &notes.join("\n")
}
