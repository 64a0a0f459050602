//! `conform`: reference values against what is computed here. The work is done in `pushforward_models::conform`. Read [`run`].

use std::path::PathBuf;

use clap::ValueEnum;
use pushforward::engine::{self, DEVICES};
use pushforward_ir::DType;
use pushforward_models::conform::{self, Backend, Cpu, Device, Eval};
use pushforward_plan::device::Precision;

use super::failure::{Failure, complain};
use super::flags::{self, SimplifyFlags};
use super::out;

#[derive(clap::Args)]
pub struct Args {
    /// A folder that holds index.json, or one .safetensors file beside an index.json
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// What runs the programs: eval, the reference evaluator; cpu; cuda-emu, CUDA C++ on this processor; wgsl; cuda
    #[arg(long, value_name = "NAME", default_value = "eval", value_parser = backend)]
    backend: String,
    /// What they compute in [default: f64 for eval, f32 for others]
    #[arg(long)]
    dtype: Option<Float>,
    /// Of products of f32 on cuda-emu and cuda: tf32 judges losses, within TF32's own tolerance
    #[arg(long, value_name = "fp32|tf32", default_value = "fp32", value_parser = flags::precision)]
    precision: Precision,
    #[command(flatten)]
    simplify: SimplifyFlags,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Float {
    F64,
    F32,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let float = match args.dtype {
        Some(Float::F64) => DType::F64,
        Some(Float::F32) => DType::F32,
        None if args.backend == "eval" => DType::F64,
        None => DType::F32,
    };
    if args.precision == Precision::Tf32 && !args.backend.starts_with("cuda") {
        return Err(Failure::usage(format!(
            "`{}` has no tensor cores; hint: --precision tf32 goes with --backend cuda-emu or cuda",
            args.backend
        )));
    }
    let backend: Box<dyn Backend> = match args.backend.as_str() {
        "eval" => Box::new(Eval { float }),
        "cpu" => Box::new(Cpu::new(float, 0).map_err(Failure::wrong)?),
        name => {
            let (driver, target) = engine::driver(name, args.precision).ok_or_else(|| Failure::usage(unknown(name)))??;
            if float == DType::F64 && !target.f64 {
                return Err(Failure::usage(format!(
                    "`{name}` has no f64; hint: leave --dtype out, or take --backend eval, cpu, cuda-emu or cuda"
                )));
            }
            Box::new(Device::new(name, float, driver, target))
        }
    };
    let report = conform::run_with(&args.paths, &*backend, &args.simplify.settings());
    report.problems.iter().for_each(|problem| complain(&problem.message));
    out::print(&report.to_string())?;
    if report.is_good() { Ok(()) } else { Err(Failure::Check) }
}

fn backend(text: &str) -> Result<String, String> {
    match text.to_lowercase().as_str() {
        name if ["eval", "cpu", "wgpu"].contains(&name) || DEVICES.contains(&name) => Ok(name.into()),
        _ => Err(unknown(text)),
    }
}

fn unknown(name: &str) -> String {
    format!("no back end is called `{name}`: there are eval, cpu, {}", DEVICES.join(", "))
}
