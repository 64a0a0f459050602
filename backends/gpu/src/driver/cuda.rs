//! CUDA C++ on NVIDIA's devices: texts are compiled by nvrtc when a plan is loaded, its launches become a graph when it first runs on its buffers,
//! and later runs replay that. The libraries are loaded at run time, so that it can be built anywhere. It decides nothing about kernels.
//! Read [`Cuda`], then [`Driver::run`] below.

mod calls;

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Arc;

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUresult, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaFunction, CudaSlice, CudaStream, DevicePtr, DriverError};
use cudarc::nvrtc::Ptx;
use pushforward_plan::device::kernel::{DevicePlan, element_bytes};

use crate::driver::{DeviceError, Driver, Loaded, Memory};
use crate::emit;
use crate::prelude;
use crate::source::{Lacking, Language, Source};

/// One device, and the one stream on which all happens.
pub struct Cuda {
    about: String,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    /// What nvrtc compiles for, `sm_90`.
    architecture: String,
    memory: BTreeMap<Memory, Piece>,
    /// How many pieces of memory there ever were: numbers are not used twice.
    pieces: usize,
    plans: Vec<Prepared>,
    /// Why nothing works any more, once it does not.
    lost: Option<String>,
}

struct Piece {
    name: String,
    bytes: CudaSlice<u8>,
}

/// A loaded plan.
struct Prepared {
    name: String,
    launches: Vec<Launch>,
    /// The plan's scalars on the device.
    scalars: CudaSlice<u8>,
    /// The buffers of the last run, and its launches on them. None where a plan launches nothing.
    graph: Option<(Vec<Memory>, Option<calls::Graph>)>,
}

struct Launch {
    function: CudaFunction,
    /// Index of each argument's buffer.
    args: Vec<usize>,
    reads_scalars: bool,
    streams: Vec<u32>,
    grid: (u32, u32),
    block: u32,
}

impl Cuda {
    /// The machine's first device, as `CUDA_VISIBLE_DEVICES` orders them.
    pub fn open() -> Result<Cuda, DeviceError> {
        if let Some(why) = calls::missing() {
            return Err(absent(why.to_string()));
        }
        // The crate panics where a driver is so old that it lacks a function.
        let made = catch_unwind(|| {
            let context = CudaContext::new(0)?;
            calls::one_stream_only(&context);
            Ok((context.name()?, context.compute_capability()?, context.new_stream()?, context))
        });
        let made = made.map_err(|_| absent("NVIDIA's driver is too old".to_string()))?;
        let (name, (major, minor), stream, context) = made.map_err(|e: DriverError| absent(e.to_string()))?;
        let about = format!("{name} (CUDA)");
        let architecture = format!("sm_{major}{minor}");
        Ok(Cuda { about, context, stream, architecture, memory: BTreeMap::new(), pieces: 0, plans: Vec::new(), lost: None })
    }

    /// As [`Driver::load`], with the kernels' texts, in the plan's order.
    fn load_sources(&mut self, plan: &DevicePlan, sources: &[Source]) -> Result<Loaded, DeviceError> {
        self.alive(&plan.name)?;
        assert_eq!(plan.kernels.len(), sources.len(), "each kernel has a text");
        let mut functions = Vec::new();
        for source in sources {
            let function = compile(&source.text, &self.architecture).and_then(|code| {
                let module = self.context.load_module(Ptx::from_binary(code));
                module.and_then(|m| m.load_function(&source.name)).map_err(|e| e.to_string())
            });
            let refused = |why| DeviceError::Compile { device: self.about.clone(), kernel: source.name.clone(), why };
            functions.push(function.map_err(refused)?);
        }
        let launch = |launch: &pushforward_plan::device::kernel::DeviceLaunch| {
            let kernel = &plan.kernels[launch.kernel];
            Launch {
                function: functions[launch.kernel].clone(),
                args: launch.args.clone(),
                reads_scalars: !kernel.scalars.is_empty(),
                streams: launch.streams.clone(),
                grid: kernel.grid,
                block: kernel.block,
            }
        };
        let launches = plan.launches.iter().map(launch).collect();
        // Each aligned to its size: no more than twice their bytes.
        let most = 2 * plan.scalars.iter().map(|s| element_bytes(s.dtype)).sum::<usize>();
        let scalars = self.zeros(&format!("the scalars of {}", plan.name), most)?;
        self.plans.push(Prepared { name: plan.name.clone(), launches, scalars, graph: None });
        Ok(Loaded(self.plans.len() - 1))
    }

    /// A plan's launches on buffers, to be replayed.
    fn capture(&self, plan: &Prepared, buffers: &[Memory]) -> Result<Option<calls::Graph>, DriverError> {
        let address = |bytes: &CudaSlice<u8>| bytes.device_ptr(&self.stream).0;
        let scalars = address(&plan.scalars);
        self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
        let launched = plan.launches.iter().try_for_each(|launch| {
            let args = launch.args.iter().map(|&arg| address(&self.piece(buffers[arg]).bytes));
            let pointers: Vec<u64> = args.chain(launch.reads_scalars.then_some(scalars)).collect();
            calls::launch(&self.stream, &launch.function, launch.grid, launch.block, &pointers, &launch.streams)
        });
        // A capture that has begun has to end, whatever came of it.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        launched.and(graph).map(|graph| graph.map(calls::Graph))
    }

    /// Memory of zeros. A kernel's pointers point somewhere, even to nothing.
    fn zeros(&mut self, name: &str, bytes: usize) -> Result<CudaSlice<u8>, DeviceError> {
        self.alive(name)?;
        match self.stream.alloc_zeros(bytes.max(8)) {
            Ok(memory) => Ok(memory),
            Err(error) if error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let why = "its memory is full".to_string();
                Err(DeviceError::Memory { device: self.about.clone(), name: name.to_string(), bytes, why })
            }
            Err(error) => Err(self.lose(name, error)),
        }
    }

    fn piece(&self, memory: Memory) -> &Piece {
        self.memory.get(&memory).expect("memory is used between its allocation and its release")
    }

    /// An error if the device has been lost before.
    fn alive(&self, what: &str) -> Result<(), DeviceError> {
        let lost = |why: &String| DeviceError::Lost { device: self.about.clone(), what: what.to_string(), why: why.clone() };
        self.lost.as_ref().map_or(Ok(()), |why| Err(lost(why)))
    }

    /// After an error, CUDA refuses all that comes later, too.
    fn lose(&mut self, what: &str, error: DriverError) -> DeviceError {
        let why = self.lost.get_or_insert(error.to_string()).clone();
        DeviceError::Lost { device: self.about.clone(), what: what.to_string(), why }
    }
}

impl Driver for Cuda {
    fn about(&self) -> String {
        self.about.clone()
    }

    fn allocate(&mut self, name: &str, bytes: usize) -> Result<Memory, DeviceError> {
        let bytes = self.zeros(name, bytes)?;
        let memory = Memory(self.pieces);
        self.pieces += 1;
        self.memory.insert(memory, Piece { name: name.to_string(), bytes });
        Ok(memory)
    }

    fn free(&mut self, memory: Memory) {
        for plan in &mut self.plans {
            plan.graph.take_if(|(buffers, _)| buffers.contains(&memory));
        }
        self.memory.remove(&memory);
    }

    fn write(&mut self, memory: Memory, bytes: &[u8]) -> Result<(), DeviceError> {
        let name = self.piece(memory).name.clone();
        self.alive(&name)?;
        let piece = self.memory.get_mut(&memory).expect("it was there a moment ago");
        let written = if bytes.is_empty() { Ok(()) } else { self.stream.memcpy_htod(bytes, &mut piece.bytes) };
        written.map_err(|e| self.lose(&name, e))
    }

    fn read(&mut self, memory: Memory, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let name = self.piece(memory).name.clone();
        self.alive(&name)?;
        let view = self.piece(memory).bytes.slice(..bytes.len());
        let copied = if bytes.is_empty() { Ok(()) } else { self.stream.memcpy_dtoh(&view, bytes) };
        let done = copied.and_then(|()| self.stream.synchronize());
        done.map_err(|e| self.lose(&name, e))
    }

    fn load(&mut self, plan: &DevicePlan) -> Result<Loaded, DeviceError> {
        let device = self.about.clone();
        let refused = |lacking: Lacking| DeviceError::Compile { device, kernel: lacking.kernel.clone(), why: lacking.to_string() };
        let sources = emit::kernels(plan, Language::Cuda).map_err(refused)?;
        self.load_sources(plan, &sources)
    }

    fn run(&mut self, plan: Loaded, buffers: &[Memory], scalars: &[u8]) -> Result<(), DeviceError> {
        let name = self.plans[plan.0].name.clone();
        self.alive(&name)?;
        if self.plans[plan.0].graph.as_ref().is_none_or(|(bound, _)| bound != buffers) {
            let graph = self.capture(&self.plans[plan.0], buffers).map_err(|e| self.lose(&name, e))?;
            self.plans[plan.0].graph = Some((buffers.to_vec(), graph));
        }
        let prepared = &mut self.plans[plan.0];
        let handed = if scalars.is_empty() { Ok(()) } else { self.stream.memcpy_htod(scalars, &mut prepared.scalars) };
        let graph = prepared.graph.as_ref().and_then(|(_, graph)| graph.as_ref());
        let launched = handed.and_then(|()| graph.map_or(Ok(()), |graph| graph.0.launch()));
        launched.map_err(|e| self.lose(&name, e))
    }
}

/// Machine code of a kernel's text.
fn compile(text: &str, architecture: &str) -> Result<Vec<u8>, String> {
    // nvrtc knows what these declare.
    let headers = [("pushforward.cuh", prelude()), ("math.h", ""), ("string.h", "")];
    calls::machine_code(text, &headers, architecture)
}

fn absent(why: String) -> DeviceError {
    let hint = "libcuda comes with NVIDIA's driver, libnvrtc with the CUDA toolkit or the Python package nvidia-cuda-nvrtc";
    DeviceError::Absent { what: "CUDA C++", why, hint: hint.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOISE: &str = r#"
#include "pushforward.cuh"
extern "C" __global__ void __launch_bounds__(256) noise(float* __restrict__ y, unsigned stream0) {
    y[threadIdx.x] = pf_normal_f32(1u, 0u, stream0, 0u, 2u, threadIdx.x);
}
"#;

    #[test]
    fn it_may_move_between_threads() {
        fn moves<T: Send>() {}
        moves::<Cuda>();
    }

    #[test]
    fn nvrtc_needs_no_device_to_make_machine_code_and_says_what_is_wrong() {
        if !calls::has_compiler() {
            assert!(std::env::var_os("CI").is_none(), "in CI no test may skip: libnvrtc is not there");
            return eprintln!("skipped: libnvrtc is not there; hint: .ci/tools installs it");
        }
        for architecture in ["sm_80", "sm_90", "sm_100"] {
            let code = compile(NOISE, architecture).unwrap();
            assert_eq!(code[..4], *b"\x7fELF", "{architecture}");
            assert!(code.windows(5).any(|w| w == b"noise"), "{architecture}");
        }
        let error = compile(&NOISE.replace("0u, 2u", "0u; 2u"), "sm_90").unwrap_err();
        assert!(error.contains("kernel.cu(4): error: expected a \")\""), "{error}");
        let error = compile(NOISE, "sm_9").unwrap_err();
        assert!(error.contains("architecture"), "{error}");
    }
}
