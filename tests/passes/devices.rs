//! Generated programs on devices that are there without a GPU: what the evaluator computes, the CPU computes, and so do CUDA C++ on an emulator and
//! WGSL on a software device. Under AddressSanitizer and with the last thread first, too, where nothing may be found. The programs and the
//! tolerance are those of `lowering.rs`.

use pushforward_gpu::driver::wgpu::Wgpu;
use pushforward_gpu::driver::{DeviceError, Driver};
use pushforward_gpu::emu::{Emulator, Options};
use pushforward_gpu::session::Session;
use pushforward_ir::eval::{Inputs, run_values};
use pushforward_ir::{DType, Program, Value};
use pushforward_plan::device::{Limits, Precision, Target};

use crate::lowering::{Tally, case, compare};
use crate::support::{on_cpu, on_device};

const PROGRAMS: u64 = 500;
const SANITIZED: u64 = 40;

#[test]
fn random_programs_on_cuda_emu() {
    let open = || emulator(Options { threads: 1, ..Options::default() });
    let Some(tally) = check("cuda-emu", 3000..3000 + PROGRAMS, &[DType::F32], open, Target::cuda(Precision::Fp32)) else { return };
    tally.assert_telling();
}

#[test]
fn random_programs_in_f64_on_cuda_emu_last_thread_first_under_the_sanitizer() {
    let open = || emulator(Options { sanitize: true, reversed: true, threads: 1 });
    check("cuda-emu", 4000..4000 + SANITIZED, &[DType::F32, DType::F64], open, Target::cuda(Precision::Fp32));
}

#[test]
fn random_programs_on_wgsl() {
    let open = || Ok(Box::new(Wgpu::open()?) as Box<dyn Driver + Send>);
    let Some(tally) = check("wgsl", 3000..3000 + PROGRAMS, &[DType::F32], open, Target::webgpu(Limits::default())) else { return };
    tally.assert_telling();
}

type Opened = Result<Box<dyn Driver + Send>, DeviceError>;

fn emulator(options: Options) -> Opened {
    Ok(Box::new(Emulator::new(options)?))
}

/// Two devices of a kind share the programs. None if there is no such device here: in CI, that is a failure.
fn check(name: &str, seeds: std::ops::Range<u64>, floats: &[DType], open: impl Fn() -> Opened + Sync, target: Target) -> Option<Tally> {
    let part = |which: u64| {
        let mut session = match open() {
            Ok(driver) => Session::new(driver),
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "in CI no test may skip: {error}");
                eprintln!("skipped: {error}");
                return None;
            }
        };
        let one = |seed| {
            let (mut program, inputs) = case(seed, floats);
            if !target.f64 {
                finite_alone(&mut program, &inputs);
            }
            let ways = [("cpu", on_cpu(&program, &inputs, true, 1)), (name, on_device(&program, &inputs, &mut session, &target))];
            compare(seed, &program, &inputs, &ways)
        };
        Some(seeds.clone().filter(|seed| seed % 2 == which).map(one).fold(Tally::default(), Tally::plus))
    };
    std::thread::scope(|scope| {
        let half = scope.spawn(|| part(0));
        let other = part(1);
        Some(half.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?.plus(other?))
    })
}

/// Leaves the outputs that no infinity and no NaN has a part in: WGSL lets implementations assume that there are none.
fn finite_alone(program: &mut Program, inputs: &Inputs) {
    let values: Vec<Value> = program.values().collect();
    let tensors = run_values(program, inputs, &values).expect("the program runs");
    let is_finite = |v: &Value| tensors[v.0 as usize].data.iter().all(|x| x.is_finite());
    let others: Vec<Value> = values.into_iter().filter(|v| !is_finite(v)).collect();
    let touched = program.depends(&others, |_| false);
    program.outputs.retain(|out| !touched[out.value.0 as usize]);
}
