//! `conform`: reference values against what is computed here. The work is done in `pushforward_models::conform`. Read [`run`].

use std::path::PathBuf;

use clap::ValueEnum;
use pushforward_ir::DType;
use pushforward_models::conform::{self, Backend, Cpu, Eval};

use super::failure::{Failure, complain};
use super::flags::SimplifyFlags;
use super::out;

#[derive(clap::Args)]
pub struct Args {
    /// A folder that holds index.json, or one .safetensors file beside an index.json
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<PathBuf>,
    /// What runs the programs: eval, the reference evaluator, or cpu
    #[arg(long, value_name = "NAME", default_value = "eval", value_parser = backend)]
    backend: BackendName,
    /// What they compute in [default: f64 for eval, f32 for others]
    #[arg(long)]
    dtype: Option<Float>,
    #[command(flatten)]
    simplify: SimplifyFlags,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum BackendName {
    Eval,
    Cpu,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Float {
    F64,
    F32,
}

pub fn run(args: Args) -> Result<(), Failure> {
    let float = match (args.dtype, args.backend) {
        (Some(Float::F64), _) | (None, BackendName::Eval) => DType::F64,
        (Some(Float::F32), _) | (None, BackendName::Cpu) => DType::F32,
    };
    let backend: Box<dyn Backend> = match args.backend {
        BackendName::Eval => Box::new(Eval { float }),
        BackendName::Cpu => Box::new(Cpu::new(float, 0).map_err(Failure::wrong)?),
    };
    let report = conform::run_with(&args.paths, &*backend, &args.simplify.settings());
    report.problems.iter().for_each(|problem| complain(&problem.message));
    out::print(&report.to_string())?;
    if report.is_good() { Ok(()) } else { Err(Failure::Check) }
}

fn backend(text: &str) -> Result<BackendName, String> {
    match text.to_lowercase().as_str() {
        "eval" => Ok(BackendName::Eval),
        "cpu" => Ok(BackendName::Cpu),
        "cuda" | "cuda-emu" | "wgsl" | "wgpu" => Err(format!("this version has no back end `{text}` yet: there are eval, cpu")),
        _ => Err(format!("no back end is called `{text}`: there are eval, cpu")),
    }
}
