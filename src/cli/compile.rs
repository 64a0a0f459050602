//! `compile`: the generated code, the plan and a report, as a folder: the same bytes for the same input, written whole or not at all.
//! Read [`run`], then [`files`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pushforward::pruning::Pruning;
use pushforward::report::{self, Cost};
use pushforward::{Pool, Report, Settings, Step};
use pushforward_plan::kernel::Role;
use serde_json::json;

use super::failure::{Failure, note};
use super::flags::{Chosen, ModelFlags, StepFlags};
use super::out::{bytes, thousands};
use crate::run::write_folder;

/// Of `plan.json`: goes up whenever a reader of the older one could misread it.
const VERSION: u32 = 1;

const PLAN_JSON: &str = "plan.json";
const PLAN_TEXT: &str = "plan.txt";
const REPORT: &str = "report.md";
const KERNELS: &str = "kernels";
/// Cranelift's text, of a kernel.
const CODE: &str = "clif";

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    step: StepFlags,
    /// What the code is for
    #[arg(long, value_name = "cpu", default_value = "cpu", value_parser = target)]
    target: String,
    /// The folder to write
    #[arg(short = 'o', long = "output", value_name = "DIR")]
    output: PathBuf,
    /// Replace what an earlier `compile` wrote there
    #[arg(long)]
    force: bool,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let chosen = args.model.choose(None)?;
    let settings = args.step.settings(&chosen, chosen.default_batch());
    chosen.inline(&settings)?;
    let step = Step::training(&chosen.model, &settings, &Pool::new(0)?)?;
    let pruning = Pruning::of(&chosen.model, &settings)?;
    let files = files(&chosen, &settings, &args.target, &step, pruning.as_ref())?;
    write_folder(&args.output, &files, args.force, ours)?;
    let report = step.report();
    note(format_args!(
        "{}: {} kernels, {} launches, {} of memory at most, in `{}`",
        chosen.title(),
        report.kernels,
        report.launches,
        bytes(report.peak_bytes as u64),
        args.output.display()
    ));
    Ok(())
}

/// What `compile` may have written: it alone is replaced.
fn ours(file: &Path) -> bool {
    let named = [PLAN_JSON, PLAN_TEXT, REPORT].iter().any(|name| file == Path::new(name));
    named || file.parent() == Some(Path::new(KERNELS)) && file.extension().is_some_and(|e| e == CODE)
}

fn files(
    chosen: &Chosen,
    settings: &Settings,
    target: &str,
    step: &Step,
    pruning: Option<&Pruning>,
) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
    let executable = step.executable().expect("compiled for this processor");
    let plan = executable.plan();
    let sets: BTreeMap<&str, &str> = settings.sets.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let document = json!({
        "format": "pushforward-plan",
        "version": VERSION,
        "target": target,
        "model": chosen.model.name(),
        "preset": chosen.preset.map(|p| p.name),
        "sets": sets,
        "algorithm": settings.passes.algorithm.name(),
        "report": step.report(),
        "pruning": pruning,
        "plan": plan,
    });
    let mut json = serde_json::to_vec_pretty(&document).map_err(|e| Failure::wrong(format!("the plan cannot be written as JSON: {e}")))?;
    json.push(b'\n');
    let mut files = vec![
        (PLAN_JSON.into(), json),
        (PLAN_TEXT.into(), pushforward_plan::print::plan(plan).into_bytes()),
        (REPORT.into(), describe(chosen, settings, target, step, pruning).into_bytes()),
    ];
    for (name, text) in executable.clif() {
        files.push((Path::new(KERNELS).join(format!("{name}.{CODE}")), text.clone().into_bytes()));
    }
    Ok(files)
}

/// The report, in Markdown.
fn describe(chosen: &Chosen, settings: &Settings, target: &str, step: &Step, pruning: Option<&Pruning>) -> String {
    let (plan, report) = (step.executable().expect("compiled for this processor").plan(), step.report());
    let program = step.program();
    let batch = program.batch.map_or(1, |a| program.axes.size(a));
    let title = format!("{}, {}, batch {batch}, {target}", chosen.title(), settings.passes.algorithm.name());
    let mut text = format!(
        "# {title}\n\nOne training step, counted from its plan. The same figures are in `{PLAN_JSON}` under `report` and `pruning`.\n\n"
    );
    let mut rows = figures(&report);
    rows.extend(
        pruning
            .map(|p| vec!["share pruned: of the noise, before a ReLU that masks it".into(), format!("{:.2} %", 100.0 * p.share_masked())]),
    );
    text += &markdown(&["of a step", "figure"], &rows, 1);

    text += "\n## Kernels\n\nMost FLOPs first; all launches of a kernel together.\n\n";
    let mut kernels: Vec<(usize, usize, Cost)> = (0..plan.kernels.len()).map(|k| (k, 0, Cost::default())).collect();
    for launch in plan.stages.iter().flat_map(|s| &s.launches) {
        let cost = Cost::of(plan, launch);
        let (_, count, total) = &mut kernels[launch.kernel];
        *count += 1;
        total.contraction_flops += cost.contraction_flops;
        total.other_flops += cost.other_flops;
        total.normals += cost.normals;
        total.bytes_read += cost.bytes_read;
        total.bytes_written += cost.bytes_written;
    }
    kernels.sort_by_key(|(k, _, cost)| (std::cmp::Reverse(cost.contraction_flops + cost.other_flops), *k));
    let rows = kernels.iter().map(|(k, launches, cost)| {
        let kernel = &plan.kernels[*k];
        let about = kernel.about.lines().next().unwrap_or("").replace('|', "\\|");
        vec![
            format!("`{}`", kernel.name),
            report::kind(kernel).into(),
            launches.to_string(),
            thousands(cost.contraction_flops + cost.other_flops),
            bytes(cost.bytes_read + cost.bytes_written),
            about,
        ]
    });
    text += &markdown(&["kernel", "kind", "launches", "FLOPs", "bytes", "computes"], &rows.collect::<Vec<_>>(), 2);

    text += "\n## Tensors at the border\n\n";
    let border = plan.buffers.iter().filter_map(|b| {
        let role = match b.role {
            Role::Input(_) => "input",
            Role::State(_) => "parameter",
            Role::Output(_) => "output",
            Role::Temp(_) => return None,
        };
        let dims: Vec<String> = b.dims.iter().map(|(axis, size)| format!("{axis}={size}")).collect();
        Some(vec![format!("`{}`", b.name), role.into(), format!("[{}]", dims.join(", ")), bytes(b.bytes() as u64)])
    });
    text + &markdown(&["name", "role", "axes", "bytes"], &border.collect::<Vec<_>>(), 3)
}

fn figures(report: &Report) -> Vec<Vec<String>> {
    let Report { contraction_flops, other_flops, normals, bytes_read, bytes_written, kernels, launches, stages, .. } = *report;
    let Report { state_bytes, input_bytes, output_bytes, temporary_bytes, peak_bytes, .. } = *report;
    let row = |name: &str, figure: String| vec![name.to_string(), figure];
    vec![
        row("FLOPs of contractions", thousands(contraction_flops)),
        row("other FLOPs", thousands(other_flops)),
        row("normal numbers drawn", thousands(normals)),
        row("bytes read", thousands(bytes_read)),
        row("bytes written", thousands(bytes_written)),
        row("kernels", kernels.to_string()),
        row("launches", launches.to_string()),
        row("stages", stages.to_string()),
        row("peak memory", bytes(peak_bytes as u64)),
        row("of it parameters and momentum", bytes(state_bytes as u64)),
        row("of it inputs", bytes(input_bytes as u64)),
        row("of it outputs", bytes(output_bytes as u64)),
        row("of it temporaries", bytes(temporary_bytes as u64)),
    ]
}

/// A table; columns from `numbers` on, but for the last of a long one, stand at the right.
fn markdown(head: &[&str], rows: &[Vec<String>], numbers: usize) -> String {
    let rule = |c: usize| if c >= numbers && (c + 1 < head.len() || head.len() < 5) { "---:" } else { "---" };
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head.iter().map(|h| h.to_string()).collect::<Vec<_>>());
    text += &line(&(0..head.len()).map(|c| rule(c).to_string()).collect::<Vec<_>>());
    text + &rows.iter().map(|row| line(row)).collect::<String>()
}

fn target(text: &str) -> Result<String, String> {
    match text.to_lowercase().as_str() {
        "cpu" => Ok("cpu".into()),
        "obj" | "cuda" | "wgsl" => Err(format!("this version does not write `{text}` yet: there is cpu")),
        _ => Err(format!("no target is called `{text}`: there is cpu")),
    }
}
