//! `compile`: the generated code, the plan and a report, as a folder: the same bytes for the same input, written whole or not at all.
//! Read [`run`], then [`files`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pushforward::pruning::Pruning;
use pushforward::report::{self, Cost};
use pushforward::{Pool, Report, Settings, Step};
use pushforward_gpu::source::Language;
use pushforward_plan::device::{Limits, Precision, Target as Device};
use pushforward_plan::kernel::Role;
use serde_json::{Map, Value, json};

use super::failure::{Failure, note};
use super::flags::{self, Chosen, ModelFlags, StepFlags};
use super::out::{bytes, thousands};
use super::package;
use crate::run::write_folder;

/// Of `plan.json`: goes up whenever a reader of the older one could misread it.
const VERSION: u32 = 1;

const PLAN_JSON: &str = "plan.json";
const PLAN_TEXT: &str = "plan.txt";
pub const REPORT: &str = "report.md";
const KERNELS: &str = "kernels";
/// Cranelift's text, of a kernel.
const CODE: &str = "clif";
/// What else stands beside them for a GPU.
const FOR_GPUS: [&str; 3] = ["launch.cu", "pushforward.cuh", "runner.mjs"];
const CODE_FOR_GPUS: [&str; 2] = ["cu", "wgsl"];

#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelFlags,
    #[command(flatten)]
    step: StepFlags,
    /// What the code is for
    #[arg(long, value_name = "cpu|cuda|wgsl", default_value = "cpu", value_parser = target)]
    target: Target,
    /// Of products of f32, for cuda: `tf32` rounds their factors to ten bits of fraction, for tensor cores [default: fp32]
    #[arg(long, value_name = "fp32|tf32", value_parser = flags::precision)]
    precision: Option<Precision>,
    /// What the device can do, for wgsl: JSON with WebGPU's names of limits [default: what every device has]
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    /// The folder to write
    #[arg(short = 'o', long = "output", value_name = "DIR")]
    output: PathBuf,
    /// Replace what an earlier `compile` wrote there
    #[arg(long)]
    force: bool,
}

/// What code can be for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Cpu,
    Gpu(Language),
}

pub fn run(args: Args) -> Result<(), Failure> {
    let device = device(&args)?;
    let chosen = args.model.choose(None)?;
    let settings = args.step.settings(&chosen, chosen.default_batch())?;
    chosen.ready(&settings)?;
    let (files, report) = match &device {
        Some(device) => package::files(&chosen, &settings, device)?,
        None => {
            let step = Step::training(&chosen.model, &settings, &Pool::new(0)?)?;
            let pruning = Pruning::of(&chosen.model, &settings)?;
            (files(&chosen, &settings, &step, pruning.as_ref())?, step.report())
        }
    };
    write_folder(&args.output, &files, args.force, ours)?;
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

/// None for the CPU.
fn device(args: &Args) -> Result<Option<package::Device>, Failure> {
    let language = match args.target {
        Target::Cpu => None,
        Target::Gpu(language) => Some(language),
    };
    if args.precision == Some(Precision::Tf32) && language != Some(Language::Cuda) {
        return Err(Failure::usage("TF32 is for NVIDIA's tensor cores; hint: leave --precision out, or take --target cuda"));
    }
    if args.limits.is_some() && language != Some(Language::Wgsl) {
        return Err(Failure::usage("--limits declares what a WebGPU device can do; hint: leave it out, or take --target wgsl"));
    }
    Ok(match language {
        None => None,
        Some(Language::Cuda) => {
            Some(package::Device { language: Language::Cuda, target: Device::cuda(args.precision.unwrap_or(Precision::Fp32)) })
        }
        Some(Language::Wgsl) => {
            let limits = args.limits.as_deref().map(package::limits).transpose()?.unwrap_or_else(Limits::default);
            Some(package::Device { language: Language::Wgsl, target: Device::webgpu(limits) })
        }
    })
}

/// What `compile` may have written: it alone is replaced.
fn ours(file: &Path) -> bool {
    let named = [PLAN_JSON, PLAN_TEXT, REPORT].into_iter().chain(FOR_GPUS).any(|name| file == Path::new(name));
    let code = |e: &std::ffi::OsStr| e == CODE || CODE_FOR_GPUS.iter().any(|&c| e == c);
    named || file.parent() == Some(Path::new(KERNELS)) && file.extension().is_some_and(code)
}

fn files(chosen: &Chosen, settings: &Settings, step: &Step, pruning: Option<&Pruning>) -> Result<Vec<(PathBuf, Vec<u8>)>, Failure> {
    let executable = step.executable().expect("compiled for this processor");
    let plan = executable.plan();
    let mut document = json!({ "format": "pushforward-plan", "version": VERSION, "target": "cpu", "model": chosen.model.name() });
    let map = document.as_object_mut().expect("it was written as an object");
    map.extend(details(chosen, settings, &step.report(), pruning));
    map.insert("plan".into(), json!(plan));
    let mut json = serde_json::to_vec_pretty(&document).map_err(|e| Failure::wrong(format!("the plan cannot be written as JSON: {e}")))?;
    json.push(b'\n');
    let mut files = vec![
        (PLAN_JSON.into(), json),
        (PLAN_TEXT.into(), pushforward_plan::print::plan(plan).into_bytes()),
        (REPORT.into(), describe(chosen, settings, step, pruning).into_bytes()),
    ];
    for (name, text) in executable.clif() {
        files.push((Path::new(KERNELS).join(format!("{name}.{CODE}")), text.clone().into_bytes()));
    }
    Ok(files)
}

/// What a plan was made of, and its figures.
pub fn details(chosen: &Chosen, settings: &Settings, report: &Report, pruning: Option<&Pruning>) -> Map<String, Value> {
    let sets: BTreeMap<&str, &str> = settings.sets.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let fields = [
        ("preset", json!(chosen.preset.map(|p| p.name))),
        ("sets", json!(sets)),
        ("algorithm", json!(settings.passes.algorithm.name())),
        ("report", json!(report)),
        ("pruning", portable(json!(pruning))),
    ];
    fields.map(|(name, value)| (name.to_string(), value)).into_iter().collect()
}

/// Places without folders: what is written does not depend on where the model lies.
fn portable(mut pruning: Value) -> Value {
    let layers = pruning.pointer_mut("/layers").and_then(Value::as_array_mut);
    for place in layers.into_iter().flatten().filter_map(|layer| layer.get_mut("place")) {
        if let Some(name) = place.as_str().and_then(|p| Path::new(p).file_name()) {
            *place = name.to_string_lossy().into();
        }
    }
    pruning
}

/// The report, in Markdown.
fn describe(chosen: &Chosen, settings: &Settings, step: &Step, pruning: Option<&Pruning>) -> String {
    let (plan, report) = (step.executable().expect("compiled for this processor").plan(), step.report());
    let program = step.program();
    let batch = program.batch.map_or(1, |a| program.axes.size(a));
    let title = format!("{}, {}, batch {batch}, cpu", chosen.title(), settings.passes.algorithm.name());
    let mut text = format!(
        "# {title}\n\nOne training step, counted from its plan. The same figures are in `{PLAN_JSON}` under `report` and `pruning`.\n\n"
    );
    text += &markdown(&["of a step", "figure"], &figures(&report, pruning), 1);

    text += "\n## Kernels\n\nMost FLOPs first; all launches of a kernel together.\n\n";
    let launches = || plan.stages.iter().flat_map(|s| &s.launches);
    let of = |k: usize| launches().filter(move |l| l.kernel == k);
    let costs = |k: usize| (k, of(k).count(), of(k).map(|l| Cost::of(plan, l)).sum::<Cost>());
    let mut kernels: Vec<(usize, usize, Cost)> = (0..plan.kernels.len()).map(costs).collect();
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
        Some((b.name.as_str(), role, &b.dims[..], b.bytes()))
    });
    text + &tensors(border)
}

/// Name, role, axes and bytes of each, as a table.
pub fn tensors<'a>(all: impl Iterator<Item = (&'a str, &'a str, &'a [(String, usize)], usize)>) -> String {
    let rows = all.map(|(name, role, dims, size)| {
        let dims: Vec<String> = dims.iter().map(|(axis, size)| format!("{axis}={size}")).collect();
        vec![format!("`{name}`"), role.into(), format!("[{}]", dims.join(", ")), bytes(size as u64)]
    });
    markdown(&["name", "role", "axes", "bytes"], &rows.collect::<Vec<_>>(), 3)
}

pub fn figures(report: &Report, pruning: Option<&Pruning>) -> Vec<Vec<String>> {
    let Report { contraction_flops, other_flops, normals, bytes_read, bytes_written, kernels, launches, stages, .. } = *report;
    let Report { state_bytes, input_bytes, output_bytes, temporary_bytes, peak_bytes, .. } = *report;
    let row = |name: &str, figure: String| vec![name.to_string(), figure];
    let mut rows = vec![
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
    ];
    let masked = |p: &Pruning| row("share pruned: of the noise, before a ReLU that masks it", format!("{:.2} %", 100.0 * p.share_masked()));
    rows.extend(pruning.map(masked));
    rows
}

/// A table; columns from `numbers` on, but for the last of a long one, stand at the right.
pub fn markdown(head: &[&str], rows: &[Vec<String>], numbers: usize) -> String {
    let rule = |c: usize| if c >= numbers && (c + 1 < head.len() || head.len() < 5) { "---:" } else { "---" };
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head.iter().map(|h| h.to_string()).collect::<Vec<_>>());
    text += &line(&(0..head.len()).map(|c| rule(c).to_string()).collect::<Vec<_>>());
    text + &rows.iter().map(|row| line(row)).collect::<String>()
}

fn target(text: &str) -> Result<Target, String> {
    match text.to_lowercase().as_str() {
        "cpu" => Ok(Target::Cpu),
        "cuda" => Ok(Target::Gpu(Language::Cuda)),
        "wgsl" => Ok(Target::Gpu(Language::Wgsl)),
        "obj" => Err(format!("this version does not write `{text}` yet: there are cpu, cuda, wgsl")),
        _ => Err(format!("no target is called `{text}`: there are cpu, cuda, wgsl")),
    }
}
