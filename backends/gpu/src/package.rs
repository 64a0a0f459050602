//! What `compile` writes for a GPU, as texts by file name: kernels, the plan as JSON, and what runs it: `launch.cu` for CUDA, `runner.mjs`
//! for WebGPU. It writes no files. The schema of `plan.json` is in docs/gpu.md. Read [`Package::files`].

use std::collections::BTreeMap;

use pushforward_plan::device::kernel::*;
use pushforward_plan::kernel::Access;
use serde_json::{Map, Value, json};

use crate::source::{Lacking, Language};
use crate::{cuda, emit, launch};

/// Of `plan.json`: goes up whenever a reader of the older one could misread it.
pub const VERSION: u32 = 1;

/// What goes into a folder.
pub struct Package<'a> {
    pub language: Language,
    pub model: &'a str,
    /// Plans of one model by entry: `init`, `step`, `eval`. Parameters of one name are one tensor.
    pub entries: Vec<(&'a str, &'a DevicePlan)>,
    /// What else stands in `plan.json`: options, figures.
    pub details: Map<String, Value>,
}

/// A plan whose kernels have names that are unique in the package.
struct Entry<'a> {
    name: &'a str,
    plan: DevicePlan,
}

impl Package<'_> {
    /// File names, with `/`, and texts.
    pub fn files(&self) -> Result<Vec<(String, String)>, Lacking> {
        let (entries, kernels) = self.kernels()?;
        let mut files = vec![("plan.json".to_string(), self.document(&entries))];
        match self.language {
            Language::Cuda => {
                let plans: Vec<(&str, &DevicePlan)> = entries.iter().map(|e| (e.name, &e.plan)).collect();
                files.push(("launch.cu".into(), launch::source(self.model, &plans)));
                files.push(("pushforward.cuh".into(), cuda::prelude().into()));
            }
            Language::Wgsl => files.push(("runner.mjs".into(), include_str!("runner.mjs").into())),
        }
        files.extend(kernels.into_iter().map(|(name, text)| (file(&name, self.language), text)));
        Ok(files)
    }

    /// Equal texts once; different ones of one name get a number.
    fn kernels(&self) -> Result<(Vec<Entry<'_>>, BTreeMap<String, String>), Lacking> {
        let mut texts: BTreeMap<String, String> = BTreeMap::new();
        let mut entries = Vec::new();
        for &(name, plan) in &self.entries {
            let mut plan = plan.clone();
            for k in 0..plan.kernels.len() {
                let stem = plan.kernels[k].name.clone();
                let mut number = 1;
                loop {
                    let source = emit::kernel(&plan, k, self.language)?;
                    let text = texts.entry(source.name).or_insert_with(|| source.text.clone());
                    if *text == source.text {
                        break;
                    }
                    number += 1;
                    plan.kernels[k].name = format!("{stem}_{number}");
                }
            }
            entries.push(Entry { name, plan });
        }
        Ok((entries, texts))
    }

    fn document(&self, entries: &[Entry]) -> String {
        let mut document = json!({
            "format": "pushforward-device-plan",
            "version": VERSION,
            "target": self.language.to_string().to_lowercase(),
            "model": self.model,
        });
        let map = document.as_object_mut().expect("it was written as an object");
        map.extend(self.details.clone());
        map.insert("entries".into(), entries.iter().map(|e| (e.name.to_string(), self.entry(&e.plan))).collect::<Map<_, _>>().into());
        format!("{document:#}\n")
    }

    fn entry(&self, plan: &DevicePlan) -> Value {
        let scalars = plan.scalars.iter().map(|s| json!({ "name": s.name, "dtype": s.dtype }));
        let kernels = plan.kernels.iter().map(|k| {
            let argument = |a: &DeviceArg| json!({ "name": a.name, "dtype": a.dtype, "access": access(a.access) });
            (
                k.name.clone(),
                json!({
                    "file": file(&k.name, self.language),
                    "about": k.about,
                    "arguments": k.args.iter().map(argument).collect::<Vec<_>>(),
                    "reads_scalars": !k.scalars.is_empty(),
                    "shared_bytes": shared_bytes(k),
                }),
            )
        });
        json!({
            "scalars": scalars.collect::<Vec<_>>(),
            "buffers": plan.buffers.iter().map(buffer).collect::<Vec<_>>(),
            "slots": plan.slots,
            "kernels": kernels.collect::<Map<_, _>>(),
            "launches": plan.launches.iter().map(|l| launch(plan, l)).collect::<Vec<_>>(),
        })
    }
}

fn buffer(b: &DeviceBuffer) -> Value {
    let (role, index) = match b.role {
        DeviceRole::Input(i) => ("input", i),
        DeviceRole::State(i) => ("state", i),
        DeviceRole::Output(i) => ("output", i),
        DeviceRole::Slot(i) => ("slot", i),
    };
    let dims: Vec<Value> = b.dims.iter().map(|(axis, size)| json!([axis, size])).collect();
    json!({ "name": b.name, "dtype": b.dtype, "dims": dims, "bytes": b.bytes(), "role": role, "index": index, "live": [b.live.0, b.live.1] })
}

fn launch(plan: &DevicePlan, l: &DeviceLaunch) -> Value {
    let kernel = &plan.kernels[l.kernel];
    let constants: Map<String, Value> = l.streams.iter().enumerate().map(|(s, &stream)| (emit::stream(s), stream.into())).collect();
    json!({ "kernel": kernel.name, "grid": [kernel.grid.0, kernel.grid.1], "block": kernel.block, "arguments": l.args, "constants": constants })
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::ReadWrite => "read_write",
    }
}

fn shared_bytes(kernel: &DeviceKernel) -> usize {
    kernel.shared.iter().map(|s| s.len * element_bytes(s.dtype)).sum()
}

fn file(kernel: &str, language: Language) -> String {
    let extension = match language {
        Language::Cuda => "cu",
        Language::Wgsl => "wgsl",
    };
    format!("kernels/{kernel}.{extension}")
}
