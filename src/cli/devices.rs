//! `devices`: which back ends run here, and why others do not. It asks the processor and opens devices, and runs nothing. Read [`run`].

use std::thread;

use pushforward::engine::{self, DEVICES};
use pushforward_plan::device::Precision;

use super::failure::Failure;
use super::out;

#[derive(clap::Args)]
pub struct Args {
    /// As JSON
    #[arg(long)]
    json: bool,
}

struct Device {
    name: &'static str,
    runs: bool,
    about: String,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let devices = devices();
    if args.json {
        let rows = devices.iter().map(|d| serde_json::json!({ "backend": d.name, "runs": d.runs, "about": d.about }));
        return out::print(&serde_json::Value::Array(rows.collect()).to_string());
    }
    let rows: Vec<Vec<String>> =
        devices.iter().map(|d| vec![d.name.to_string(), if d.runs { "runs" } else { "no" }.to_string(), d.about.clone()]).collect();
    out::print(&out::table(&rows, &[]))
}

fn devices() -> Vec<Device> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let here = [
        Device { name: "eval", runs: true, about: "reference evaluator in f64 and f32: slow, for conform".into() },
        Device { name: "cpu", runs: true, about: format!("{}, {threads} threads{}", std::env::consts::ARCH, vectors()) },
    ];
    let there = DEVICES.iter().filter_map(|&name| {
        let (runs, about) = match engine::device(name, Precision::Fp32)? {
            Ok(device) => (true, device.about()),
            Err(why) => (false, why.to_string()),
        };
        Some(Device { name, runs, about })
    });
    here.into_iter().chain(there).collect()
}

/// The vector instructions that code generation and matrix products can use.
fn vectors() -> String {
    #[cfg(target_arch = "x86_64")]
    let found = [
        ("fma", std::arch::is_x86_feature_detected!("fma")),
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512f", std::arch::is_x86_feature_detected!("avx512f")),
    ];
    #[cfg(target_arch = "aarch64")]
    let found = [("neon", std::arch::is_aarch64_feature_detected!("neon"))];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let found: [(&str, bool); 0] = [];
    found.iter().filter(|f| f.1).map(|f| format!(", {}", f.0)).collect()
}
