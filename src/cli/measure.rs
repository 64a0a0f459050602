//! Programs run on made-up data, again and again, with a clock: what `bench` and the experiments time. It prints nothing. Read [`Runner`],
//! then [`alternate`].

use std::fs;
use std::time::{Duration, Instant};

use pushforward::{Input, Parameters, Report, Step};
use pushforward_ir::philox::{Domain, fill_normals};
use pushforward_ir::{DType, Program};

use super::failure::Failure;

/// Runs that are not counted: caches and page tables fill.
pub const WARM_UP: usize = 3;

/// A compiled program, and tensors for it.
pub struct Runner {
    step: Step,
    parameters: Parameters,
    tensors: Vec<(String, Tensor)>,
    /// Runs so far: the number of the step, for noise.
    count: i32,
}

impl Runner {
    pub fn new(step: Step) -> Result<Runner, Failure> {
        let parameters = Parameters::new(&step, 0)?;
        let tensors = made_up(step.program());
        Ok(Runner { step, parameters, tensors, count: 0 })
    }

    /// Runs once. Milliseconds.
    pub fn once(&mut self) -> Result<f64, Failure> {
        let mut inputs: Vec<(&str, Input<'_>)> = self.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.input())).collect();
        for (name, value) in [("lr", Input::from(0.01f32)), ("seed", Input::from(0)), ("step", Input::from(self.count))] {
            if self.step.program().input(name).is_some() {
                inputs.push((name, value));
            }
        }
        let start = Instant::now();
        self.step.run(&mut self.parameters, &inputs)?;
        self.count += 1;
        Ok(start.elapsed().as_secs_f64() * 1e3)
    }

    pub fn step(&self) -> &Step {
        &self.step
    }

    pub fn report(&self) -> Report {
        self.step.report()
    }
}

/// Runs two in turns, so that what else the machine does falls on both. Milliseconds of each, round by round; see [`repeat`].
pub fn alternate(a: &mut Runner, b: &mut Runner, rounds: Option<usize>, patience: Duration) -> Result<Vec<(f64, f64)>, Failure> {
    timed(rounds, patience, || Ok((a.once()?, b.once()?)))
}

/// Once uncounted, then `rounds` times, or if that is none given, as often as `patience` allows, but at least 3 times. Milliseconds.
pub fn repeat(one: &mut Runner, rounds: Option<usize>, patience: Duration) -> Result<Vec<f64>, Failure> {
    timed(rounds, patience, || one.once())
}

fn timed<T>(rounds: Option<usize>, patience: Duration, mut round: impl FnMut() -> Result<T, Failure>) -> Result<Vec<T>, Failure> {
    let began = Instant::now();
    round()?;
    let mut times = Vec::new();
    loop {
        times.push(round()?);
        let enough = match rounds {
            Some(rounds) => times.len() >= rounds,
            None => times.len() >= 200 || times.len() >= 3 && began.elapsed() > patience,
        };
        if enough {
            return Ok(times);
        }
    }
}

pub fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Data for an input.
enum Tensor {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I32(Vec<i32>),
    Bool(Vec<u8>),
}

impl Tensor {
    fn input(&self) -> Input<'_> {
        match self {
            Tensor::F32(x) => x.as_slice().into(),
            Tensor::F64(x) => x.as_slice().into(),
            Tensor::I32(x) => x.as_slice().into(),
            Tensor::Bool(x) => x.as_slice().into(),
        }
    }
}

/// Normal numbers, and integers that look like labels, for every input that is no scalar.
fn made_up(program: &Program) -> Vec<(String, Tensor)> {
    let tensors = (0u32..).zip(&program.inputs).filter(|(_, port)| !port.order.is_empty()).map(|(stream, port)| {
        let count: usize = program.shape(port).iter().product();
        let mut normals = vec![0.0f32; count];
        fill_normals(1, Domain::Data, stream, 0, 0, 0, &mut normals);
        let tensor = match port.dtype {
            DType::F32 => Tensor::F32(normals),
            DType::F64 => Tensor::F64(normals.into_iter().map(f64::from).collect()),
            DType::I32 => Tensor::I32((0..count as i32).map(|i| i % 10).collect()),
            DType::Bool => Tensor::Bool((0..count).map(|i| (i % 2) as u8).collect()),
        };
        (port.name.clone(), tensor)
    });
    tensors.collect()
}

/// How much memory the process comes to hold from a moment on, where the system says it (Linux).
pub struct Resident {
    bytes: u64,
}

impl Resident {
    /// Sets the system's high-water mark back to now.
    pub fn start() -> Option<Resident> {
        fs::write("/proc/self/clear_refs", "5").ok()?;
        Some(Resident { bytes: figure("/proc/self/status", "VmRSS:")? })
    }

    pub fn grown(self) -> Option<u64> {
        Some(figure("/proc/self/status", "VmHWM:")?.saturating_sub(self.bytes))
    }
}

/// Why a step that plans `bytes` is better not run here; none where the system does not say what memory it has.
pub fn too_large(bytes: u64) -> Option<String> {
    let available = figure("/proc/meminfo", "MemAvailable:")?;
    let (needed, left) = (super::out::bytes(bytes), super::out::bytes(available));
    (bytes > available / 10 * 8).then(|| format!("it needs {needed} of memory, of {left} that are free"))
}

/// A line of such a file, in bytes.
fn figure(file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}
