//! `compile` for GPUs: the entries of a model, `init`, `step` and `eval`, as kernels, plan and what runs them. It decides nothing about kernels and spells
//! none. Read [`files`].

use std::path::{Path, PathBuf};

use pushforward::pruning::Pruning;
use pushforward::report::Cost;
use pushforward::{Error, Report, Settings};
use pushforward_gpu::package::Package;
use pushforward_gpu::source::Language;
use pushforward_plan::device::kernel::{DevicePlan, DeviceRole};
use pushforward_plan::device::{self, Limits, Precision, Target};
use serde_json::{Map, Value, json};

use super::compile::{REPORT, details, figures, markdown, tensors};
use super::failure::Failure;
use super::flags::Chosen;
use super::out::{bytes, thousands};

/// What `compile` is told about a device.
pub struct Device {
    pub language: Language,
    pub target: Target,
}

/// Files by their path in the folder, and the figures of a step.
pub fn files(chosen: &Chosen, settings: &Settings, device: &Device) -> Result<(Vec<(PathBuf, Vec<u8>)>, Report), Failure> {
    let model = &chosen.model;
    let lower = |program: &pushforward_ir::Program| device::lower(program, &device.target).map_err(|e| Failure::from(Error::from(e)));
    let training = model.training(settings)?;
    let step = lower(&training)?;
    let init = device::init(&training, &step, &device.target);
    let mut entries = vec![("init", init), ("step", step)];
    // A model that declares no output has nothing to look at.
    if !model.inline(&settings.sets, settings.batch)?.program.outputs.is_empty() {
        entries.push(("eval", lower(&model.evaluation(settings)?)?));
    }
    let report = Report::of_device(&entries[1].1);
    let pruning = Pruning::of(model, settings)?;
    let mut document = details(chosen, settings, &report, pruning.as_ref());
    document.insert("precision".into(), json!(device.target.precision));
    document.insert("limits".into(), json!(device.target.limits));
    let package = Package {
        language: device.language,
        model: model.name(),
        entries: entries.iter().map(|(name, plan)| (*name, plan)).collect(),
        details: document,
    };
    let texts = package.files().map_err(|lacking| Failure::wrong(format!("{lacking}; hint: --target cpu or cuda takes it")))?;
    let mut files: Vec<(PathBuf, Vec<u8>)> = texts.into_iter().map(|(name, text)| (name.into(), text.into_bytes())).collect();
    let text = describe(chosen, settings, device, &entries, &report, pruning.as_ref());
    files.push((REPORT.into(), text.into_bytes()));
    Ok((files, report))
}

/// What is declared in a file with WebGPU's names, the rest as every device has it.
pub fn limits(path: &Path) -> Result<Limits, Failure> {
    let wrong = |what: String| {
        Failure::wrong(format!(
            "the limits `{}` {what}; hint: {}",
            path.display(),
            r#"write JSON such as {"maxComputeWorkgroupStorageSize": 32768}"#
        ))
    };
    let text = std::fs::read_to_string(path).map_err(|e| wrong(format!("cannot be read: {e}")))?;
    let declared: Map<String, Value> = serde_json::from_str(&text).map_err(|e| wrong(format!("are no JSON object: {e}")))?;
    let known = json!(Limits::default());
    let mut ours = Map::new();
    for (name, value) in declared {
        if known.get(&name).is_some() {
            ours.insert(name, value);
        } else if !OTHER_LIMITS.contains(&name.as_str()) {
            return Err(wrong(format!("name `{name}`, which WebGPU has not")));
        }
    }
    serde_json::from_value(ours.into()).map_err(|e| wrong(format!("are not whole numbers: {e}")))
}

/// Limits of WebGPU that say nothing about compute.
const OTHER_LIMITS: &[&str] = &[
    "maxTextureDimension1D",
    "maxTextureDimension2D",
    "maxTextureDimension3D",
    "maxTextureArrayLayers",
    "maxBindGroups",
    "maxBindGroupsPlusVertexBuffers",
    "maxBindingsPerBindGroup",
    "maxDynamicUniformBuffersPerPipelineLayout",
    "maxDynamicStorageBuffersPerPipelineLayout",
    "maxSampledTexturesPerShaderStage",
    "maxSamplersPerShaderStage",
    "maxStorageTexturesPerShaderStage",
    "maxUniformBuffersPerShaderStage",
    "maxUniformBufferBindingSize",
    "minUniformBufferOffsetAlignment",
    "minStorageBufferOffsetAlignment",
    "maxVertexBuffers",
    "maxVertexAttributes",
    "maxVertexBufferArrayStride",
    "maxInterStageShaderVariables",
    "maxColorAttachments",
    "maxColorAttachmentBytesPerSample",
    "maxComputeWorkgroupSizeY",
    "maxComputeWorkgroupSizeZ",
    "maxImmediateSize",
    "maxStorageBuffersInVertexStage",
    "maxStorageBuffersInFragmentStage",
    "maxStorageTexturesInVertexStage",
    "maxStorageTexturesInFragmentStage",
];

/// The report, in Markdown.
fn describe(
    chosen: &Chosen,
    settings: &Settings,
    device: &Device,
    entries: &[(&str, DevicePlan)],
    report: &Report,
    pruning: Option<&Pruning>,
) -> String {
    let precision = match device.target.precision {
        Precision::Fp32 => "",
        Precision::Tf32 => ", TF32",
    };
    let batch = settings.batch.map_or(String::new(), |n| format!(", batch {n}"));
    let algorithm = settings.passes.algorithm.name();
    let target = device.language.to_string().to_lowercase();
    let mut text = format!(
        "# {}, {algorithm}{batch}, {target}{precision}\n\nOne training step, counted from its plan; nothing is measured. What is computed again, for each tile that loads it, counts again. The same figures are in `plan.json` under `report` and `pruning`.\n\n",
        chosen.title()
    );
    text += &markdown(&["of a step", "figure"], &figures(report, pruning), 1);
    for (name, plan) in entries {
        text += &format!("\n## Kernels of `{name}`\n\nIn the order of their first launches; all launches of a kernel together.\n\n");
        text += &markdown(&["kernel", "blocks", "threads", "launches", "FLOPs", "bytes", "computes"], &kernels(plan), 1);
    }
    text += "\n## Tensors at the border of a step\n\n";
    let border = entries.iter().filter(|e| e.0 == "step").flat_map(|e| &e.1.buffers).filter_map(|b| {
        let role = match b.role {
            DeviceRole::Input(_) => "input",
            DeviceRole::State(_) => "parameter",
            DeviceRole::Output(_) => "output",
            DeviceRole::Slot(_) => return None,
        };
        Some((b.name.as_str(), role, &b.dims[..], b.bytes()))
    });
    text + &tensors(border)
}

fn kernels(plan: &DevicePlan) -> Vec<Vec<String>> {
    let row = |(number, kernel): (usize, &device::kernel::DeviceKernel)| {
        let launches = || plan.launches.iter().filter(|l| l.kernel == number);
        let cost: Cost = launches().map(|l| Cost::of_device(plan, l)).sum();
        vec![
            format!("`{}`", kernel.name),
            thousands(kernel.grid.0 as u64 * kernel.grid.1 as u64),
            kernel.block.to_string(),
            launches().count().to_string(),
            thousands(cost.contraction_flops + cost.other_flops),
            bytes(cost.bytes_read + cost.bytes_written),
            kernel.about.lines().next().unwrap_or("").replace('|', "\\|"),
        ]
    };
    plan.kernels.iter().enumerate().map(row).collect()
}
