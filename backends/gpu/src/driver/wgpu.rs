//! WGSL on the machine's own devices, through wgpu: Vulkan, Metal or DirectX 12, whichever answers, software included. It decides nothing about
//! kernels. Whatever wgpu reports becomes a [`DeviceError`]; a device that is lost stays lost. Read [`Wgpu`], then [`Driver::run`] below.
//!
//! Texts bind argument i at group 0, binding i, the plan's scalars as a uniform struct at group 1, and take streams of noise as the constants
//! `stream0`, `stream1`, ..

mod module;

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use pollster::block_on;
use pushforward_plan::device::kernel::{DeviceKernel, DevicePlan, element_bytes};
use pushforward_plan::kernel::Access;
use wgpu::{BindGroup, BindGroupLayout, Buffer, BufferUsages, ComputePipeline, DeviceType, ErrorFilter, PollType, SubmissionIndex};

use crate::driver::{DeviceError, Driver, Loaded, Memory};
use crate::emit;
use crate::source::{Language, Source};

/// The variable that names a device by a part of its name.
const ADAPTER: &str = "PUSHFORWARD_ADAPTER";
/// Runs that the device may be behind: more would only pile up their scalars.
const AHEAD: usize = 3;

/// One device.
pub struct Wgpu {
    about: String,
    device: wgpu::Device,
    queue: wgpu::Queue,
    /// Why nothing works any more, once it does not.
    lost: Arc<Mutex<Option<String>>>,
    memory: BTreeMap<Memory, Piece>,
    /// How many pieces of memory there ever were: numbers are not used twice.
    pieces: usize,
    plans: Vec<Prepared>,
    submitted: VecDeque<SubmissionIndex>,
}

struct Piece {
    name: String,
    buffer: Buffer,
}

/// A loaded plan.
struct Prepared {
    name: String,
    /// Bytes of each buffer.
    bytes: Vec<usize>,
    pipelines: Vec<ComputePipeline>,
    dispatches: Vec<Dispatch>,
    /// The plan's scalars on the device, and where kernels find them.
    scalars: Buffer,
    scalars_group: BindGroup,
    /// The buffers of the last run, and each dispatch's group of them: most runs are on the same.
    bound: Option<(Vec<Memory>, Vec<BindGroup>)>,
}

struct Dispatch {
    pipeline: usize,
    layout: BindGroupLayout,
    /// Index of each argument's buffer.
    args: Vec<usize>,
    reads_scalars: bool,
    grid: (u32, u32),
}

impl Wgpu {
    /// The device that `PUSHFORWARD_ADAPTER` names, else a discrete GPU, else whatever there is, with all that it can do.
    pub fn open() -> Result<Wgpu, DeviceError> {
        match std::env::var(ADAPTER) {
            Ok(name) => Wgpu::open_named(&name),
            Err(_) => Wgpu::open_named(""),
        }
    }

    /// The most capable device with a part of its name, upper or lower case.
    pub fn open_named(part: &str) -> Result<Wgpu, DeviceError> {
        let adapters = adapters();
        let names: Vec<String> = adapters.iter().map(about).collect();
        let fits = |name: &str| name.to_lowercase().contains(&part.to_lowercase());
        let fitting = adapters.into_iter().filter(|a| fits(&about(a)) || fits(&a.get_info().name));
        let Some(adapter) = fitting.min_by_key(|a| rank(a.get_info().device_type)) else {
            let (why, hint) = match names.is_empty() {
                true => ("no driver of Vulkan, Metal or DirectX 12 answers".to_string(), "Mesa's lavapipe runs Vulkan in software"),
                false => {
                    (format!("no name of [{}] has `{part}` in it", names.join(", ")), "name one of them, or unset PUSHFORWARD_ADAPTER")
                }
            };
            return Err(absent(why, hint));
        };
        let about = about(&adapter);
        let wanted = wgpu::DeviceDescriptor {
            // Plans that need more than it has are refused when they are loaded.
            required_limits: adapter.limits(),
            // Few buffers that live long: no reserve.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let hint = "its driver may be too old, or the device in use";
        let (device, queue) = block_on(adapter.request_device(&wanted)).map_err(|e| absent(format!("{about}: {e}"), hint))?;
        let lost: Arc<Mutex<Option<String>>> = Arc::default();
        let reports = [lost.clone(), lost.clone()];
        let [on_loss, on_error] = reports;
        device.set_device_lost_callback(move |_, why| note(&on_loss, why));
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| note(&on_error, chain(&error))));
        let (memory, plans, submitted) = Default::default();
        Ok(Wgpu { about, device, queue, lost, memory, pieces: 0, plans, submitted })
    }

    /// The names of all devices that answer.
    pub fn devices() -> Vec<String> {
        adapters().iter().map(about).collect()
    }

    /// Bytes of the largest tensor that a kernel can be bound to, and that can be allocated.
    pub fn largest(&self) -> (u64, u64) {
        let limits = self.device.limits();
        (limits.max_storage_buffer_binding_size, limits.max_buffer_size)
    }

    /// As [`Driver::load`], with the kernels' texts, in the plan's order.
    fn load_sources(&mut self, plan: &DevicePlan, sources: &[Source]) -> Result<Loaded, DeviceError> {
        assert_eq!(plan.kernels.len(), sources.len(), "each kernel has a text");
        let refused = |kernel: &str, why: String| DeviceError::Compile { device: self.about.clone(), kernel: kernel.to_string(), why };
        let groups = self.caught(|| layout(&self.device, [wgpu::BufferBindingType::Uniform]));
        let scalars_layout = groups.map_err(|e| self.lost(&plan.name, e))?;
        let mut shaders = Vec::new();
        for (kernel, source) in plan.kernels.iter().zip(sources) {
            // The one limit that wgpu does not look at.
            let (shares, most) = (shared_bytes(kernel), self.device.limits().max_compute_workgroup_storage_size as usize);
            if shares > most {
                let why = format!("its blocks share {shares} bytes of memory; a block has {most} there");
                return Err(refused(&kernel.name, why));
            }
            let made = self.caught(|| {
                let accesses = kernel.args.iter().map(|a| storage(a.access));
                let arguments = layout(&self.device, accesses);
                (arguments, module::module(&self.device, &kernel.name, &source.text))
            });
            shaders.push(made.map_err(|e| refused(&kernel.name, e))?);
        }
        let mut pipelines = Vec::new();
        let mut known: BTreeMap<(usize, &[u32]), usize> = BTreeMap::new();
        let mut dispatches = Vec::new();
        for launch in &plan.launches {
            let kernel = &plan.kernels[launch.kernel];
            let (arguments, module) = &shaders[launch.kernel];
            let key = (launch.kernel, launch.streams.as_slice());
            let pipeline = match known.get(&key) {
                Some(pipeline) => *pipeline,
                None => {
                    let made = self.caught(|| pipeline(&self.device, kernel, module, arguments, &scalars_layout, &launch.streams));
                    pipelines.push(made.map_err(|e| refused(&kernel.name, e))?);
                    known.insert(key, pipelines.len() - 1);
                    pipelines.len() - 1
                }
            };
            dispatches.push(Dispatch {
                pipeline,
                layout: arguments.clone(),
                args: launch.args.clone(),
                reads_scalars: !kernel.scalars.is_empty(),
                grid: kernel.grid,
            });
        }
        let name = format!("the scalars of {}", plan.name);
        let scalars = self.buffer(&name, 4 * plan.scalars.len(), BufferUsages::UNIFORM | BufferUsages::COPY_DST)?;
        let group = self.caught(|| group(&self.device, &scalars_layout, [scalars.as_entire_binding()]));
        let scalars_group = group.map_err(|e| self.lost(&plan.name, e))?;
        let bytes = plan.buffers.iter().map(|b| b.bytes()).collect();
        self.plans.push(Prepared { name: plan.name.clone(), bytes, pipelines, dispatches, scalars, scalars_group, bound: None });
        Ok(Loaded(self.plans.len() - 1))
    }

    /// Each dispatch's group of buffers.
    fn bind(&self, plan: &Prepared, buffers: &[Memory]) -> Result<Vec<BindGroup>, String> {
        let groups = || {
            let of = |dispatch: &Dispatch| {
                let bindings = dispatch.args.iter().map(|&arg| {
                    let size = wgpu::BufferSize::new(plan.bytes[arg].max(4) as u64);
                    wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer: &self.piece(buffers[arg]).buffer, offset: 0, size })
                });
                group(&self.device, &dispatch.layout, bindings)
            };
            plan.dispatches.iter().map(of).collect()
        };
        self.caught(groups)
    }

    fn submit(&mut self, commands: wgpu::CommandEncoder) {
        let index = self.queue.submit([commands.finish()]);
        self.submitted.push_back(index);
    }

    /// Waits until no more than so many submissions are under way.
    fn wait(&mut self, what: &str, ahead: usize) -> Result<(), DeviceError> {
        while self.submitted.len() > ahead {
            let oldest = self.submitted.pop_front();
            let waited = self.caught(|| {
                // wgpu panics where a driver reports the loss of its device to a wait.
                let poll = || self.device.poll(PollType::Wait { submission_index: oldest, timeout: None });
                catch_unwind(AssertUnwindSafe(poll)).map(|status| status.map_err(|e| e.to_string()))
            });
            match waited {
                Ok(Ok(Ok(_))) => {}
                Ok(Ok(Err(why))) | Err(why) => return Err(self.lost(what, why)),
                Ok(Err(_)) => return Err(self.lost(what, "waiting for it failed".to_string())),
            }
        }
        self.alive(what)
    }

    /// A buffer of zeros. The least that a kernel can be given is four bytes.
    fn buffer(&self, name: &str, bytes: usize, usage: BufferUsages) -> Result<Buffer, DeviceError> {
        self.alive(name)?;
        let size = (bytes.max(1) as u64).next_multiple_of(wgpu::COPY_BUFFER_ALIGNMENT);
        let wanted = wgpu::BufferDescriptor { label: Some(name), size, usage, mapped_at_creation: false };
        let made = self.caught(|| self.device.create_buffer(&wanted));
        made.map_err(|why| DeviceError::Memory { device: self.about.clone(), name: name.to_string(), bytes, why })
    }

    fn piece(&self, memory: Memory) -> &Piece {
        self.memory.get(&memory).expect("memory is used between its allocation and its release")
    }

    /// What `make` makes, or what wgpu reports meanwhile.
    fn caught<T>(&self, make: impl FnOnce() -> T) -> Result<T, String> {
        let memory = self.device.push_error_scope(ErrorFilter::OutOfMemory);
        let internal = self.device.push_error_scope(ErrorFilter::Internal);
        let validation = self.device.push_error_scope(ErrorFilter::Validation);
        let made = make();
        let validation = block_on(validation.pop());
        let internal = block_on(internal.pop());
        let memory = block_on(memory.pop());
        match validation.or(internal).or(memory) {
            Some(error) => Err(chain(&error)),
            None => Ok(made),
        }
    }

    /// An error if the device has been lost before or meanwhile.
    fn alive(&self, what: &str) -> Result<(), DeviceError> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).clone();
        lost.map_or(Ok(()), |why| Err(self.lost(what, why)))
    }

    /// The device cannot be relied on from here.
    fn lost(&self, what: &str, why: String) -> DeviceError {
        note(&self.lost, why.clone());
        DeviceError::Lost { device: self.about.clone(), what: what.to_string(), why }
    }
}

impl Driver for Wgpu {
    fn about(&self) -> String {
        self.about.clone()
    }

    fn allocate(&mut self, name: &str, bytes: usize) -> Result<Memory, DeviceError> {
        let buffer = self.buffer(name, bytes, BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST)?;
        let memory = Memory(self.pieces);
        self.pieces += 1;
        self.memory.insert(memory, Piece { name: name.to_string(), buffer });
        Ok(memory)
    }

    fn free(&mut self, memory: Memory) {
        self.memory.remove(&memory);
        // Groups hold on to their buffers.
        for plan in &mut self.plans {
            plan.bound.take_if(|(buffers, _)| buffers.contains(&memory));
        }
    }

    fn write(&mut self, memory: Memory, bytes: &[u8]) -> Result<(), DeviceError> {
        let piece = self.piece(memory);
        self.alive(&piece.name)?;
        let written = self.caught(|| self.queue.write_buffer(&piece.buffer, 0, bytes));
        written.map_err(|why| self.lost(&piece.name, why))
    }

    fn read(&mut self, memory: Memory, bytes: &mut [u8]) -> Result<(), DeviceError> {
        let (name, buffer) = (self.piece(memory).name.clone(), self.piece(memory).buffer.clone());
        let staging = self.buffer(&name, bytes.len(), BufferUsages::MAP_READ | BufferUsages::COPY_DST)?;
        let mut commands = self.device.create_command_encoder(&Default::default());
        commands.copy_buffer_to_buffer(&buffer, 0, &staging, 0, staging.size());
        let mapped: Arc<Mutex<Option<String>>> = Arc::default();
        let failed = mapped.clone();
        self.submit(commands);
        staging.map_async(wgpu::MapMode::Read, .., move |result| {
            if let Err(error) = result {
                note(&failed, error.to_string());
            }
        });
        self.wait(&name, 0)?;
        if let Some(why) = mapped.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(self.lost(&name, why));
        }
        match staging.get_mapped_range(..) {
            Ok(view) => bytes.copy_from_slice(&view[..bytes.len()]),
            Err(error) => return Err(self.lost(&name, error.to_string())),
        }
        Ok(())
    }

    fn load(&mut self, plan: &DevicePlan) -> Result<Loaded, DeviceError> {
        let device = self.about.clone();
        let refused =
            |lacking: crate::source::Lacking| DeviceError::Compile { device, kernel: lacking.kernel.clone(), why: lacking.to_string() };
        let sources = emit::kernels(plan, Language::Wgsl).map_err(refused)?;
        self.load_sources(plan, &sources)
    }

    fn run(&mut self, plan: Loaded, buffers: &[Memory], scalars: &[u8]) -> Result<(), DeviceError> {
        let name = self.plans[plan.0].name.clone();
        self.alive(&name)?;
        if self.plans[plan.0].bound.as_ref().is_none_or(|(bound, _)| bound != buffers) {
            let groups = self.bind(&self.plans[plan.0], buffers).map_err(|why| self.lost(&name, why))?;
            self.plans[plan.0].bound = Some((buffers.to_vec(), groups));
        }
        let encoded = self.caught(|| self.encode(&self.plans[plan.0], scalars)).map_err(|why| self.lost(&name, why))?;
        self.submit(encoded);
        self.wait(&name, AHEAD)
    }
}

impl Wgpu {
    /// All dispatches, in order; each sees what those before it wrote.
    fn encode(&self, plan: &Prepared, scalars: &[u8]) -> wgpu::CommandEncoder {
        if !scalars.is_empty() {
            self.queue.write_buffer(&plan.scalars, 0, scalars);
        }
        let mut commands = self.device.create_command_encoder(&Default::default());
        let mut pass = commands.begin_compute_pass(&Default::default());
        let groups = plan.bound.iter().flat_map(|(_, groups)| groups);
        for (dispatch, group) in plan.dispatches.iter().zip(groups) {
            pass.set_pipeline(&plan.pipelines[dispatch.pipeline]);
            pass.set_bind_group(0, group, &[]);
            if dispatch.reads_scalars {
                pass.set_bind_group(1, &plan.scalars_group, &[]);
            }
            pass.dispatch_workgroups(dispatch.grid.0, dispatch.grid.1, 1);
        }
        drop(pass);
        commands
    }
}

fn adapters() -> Vec<wgpu::Adapter> {
    let mut wanted = wgpu::InstanceDescriptor::new_without_display_handle();
    wanted.backends = wgpu::Backends::PRIMARY;
    wanted.flags = wgpu::InstanceFlags::empty();
    block_on(wgpu::Instance::new(wanted).enumerate_adapters(wgpu::Backends::PRIMARY))
}

/// `llvmpipe (Vulkan)`: drivers append their versions in brackets.
fn about(adapter: &wgpu::Adapter) -> String {
    let info = adapter.get_info();
    let interface = match info.backend {
        wgpu::Backend::Vulkan => "Vulkan",
        wgpu::Backend::Metal => "Metal",
        wgpu::Backend::Dx12 => "DirectX 12",
        wgpu::Backend::Gl => "OpenGL",
        wgpu::Backend::BrowserWebGpu => "WebGPU",
        wgpu::Backend::Noop => "nothing",
    };
    format!("{} ({interface})", info.name.split(" (").next().unwrap_or_default())
}

/// Which device to take first.
fn rank(kind: DeviceType) -> u32 {
    match kind {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

fn storage(access: Access) -> wgpu::BufferBindingType {
    let read_only = match access {
        Access::Read => true,
        Access::Write | Access::ReadWrite => false,
    };
    wgpu::BufferBindingType::Storage { read_only }
}

fn layout(device: &wgpu::Device, bindings: impl IntoIterator<Item = wgpu::BufferBindingType>) -> BindGroupLayout {
    let entry = |(binding, ty)| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let entries: Vec<wgpu::BindGroupLayoutEntry> = (0..).zip(bindings).map(entry).collect();
    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
}

fn group<'a>(device: &wgpu::Device, layout: &BindGroupLayout, bindings: impl IntoIterator<Item = wgpu::BindingResource<'a>>) -> BindGroup {
    let entries: Vec<wgpu::BindGroupEntry> =
        (0..).zip(bindings).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
    device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries })
}

fn pipeline(
    device: &wgpu::Device,
    kernel: &DeviceKernel,
    module: &wgpu::ShaderModule,
    arguments: &BindGroupLayout,
    scalars: &BindGroupLayout,
    streams: &[u32],
) -> ComputePipeline {
    let groups = [Some(arguments), Some(scalars)];
    let used = if kernel.scalars.is_empty() { &groups[..1] } else { &groups[..] };
    let layout = wgpu::PipelineLayoutDescriptor { label: Some(&kernel.name), bind_group_layouts: used, immediate_size: 0 };
    let layout = device.create_pipeline_layout(&layout);
    let names: Vec<String> = (0..streams.len()).map(|n| format!("stream{n}")).collect();
    let constants: Vec<(&str, f64)> = names.iter().map(String::as_str).zip(streams.iter().map(|s| f64::from(*s))).collect();
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&kernel.name),
        layout: Some(&layout),
        module,
        entry_point: Some(&kernel.name),
        // Kernels write what they share before they read it.
        compilation_options: wgpu::PipelineCompilationOptions { constants: &constants, zero_initialize_workgroup_memory: false },
        cache: None,
    })
}

fn shared_bytes(kernel: &DeviceKernel) -> usize {
    kernel.shared.iter().map(|s| s.len * element_bytes(s.dtype)).sum()
}

fn absent(why: String, hint: &str) -> DeviceError {
    DeviceError::Absent { what: "WGSL", why, hint: hint.to_string() }
}

/// Keeps the first reason.
fn note(place: &Mutex<Option<String>>, why: String) {
    place.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
}

/// An error and what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    let mut lines: Vec<String> = causes.map(|e| (e as &dyn Display).to_string().trim().to_string()).collect();
    // Each level may repeat what caused it.
    lines.dedup_by(|cause, level| level.contains(cause.as_str()));
    lines.join(": ")
}

#[cfg(test)]
mod tests {
    use pushforward_plan::device::Limits;

    use super::*;

    fn opened<T>(opened: Result<T, DeviceError>) -> Option<T> {
        if let Err(why) = &opened {
            assert!(std::env::var_os("CI").is_none(), "in CI no test may skip: {why}");
            eprintln!("skipped: {why}");
        }
        opened.ok()
    }

    #[test]
    fn only_tensors_may_be_larger_than_every_device_takes() {
        let Some((_, limits)) = opened(crate::driver::open::wgsl()) else { return };
        let usual = Limits::default();
        assert!(limits.max_storage_buffer_binding_size >= usual.max_storage_buffer_binding_size, "{limits:?}");
        assert!(limits.max_buffer_size >= usual.max_buffer_size, "{limits:?}");
        let Limits { max_storage_buffer_binding_size, max_buffer_size, .. } = usual;
        assert_eq!(Limits { max_storage_buffer_binding_size, max_buffer_size, ..limits }, usual);
    }

    #[test]
    fn a_device_that_is_gone_stays_gone_and_says_so() {
        let Some(mut device) = opened(Wgpu::open()) else { return };
        let memory = device.allocate("x", 4).unwrap();
        device.write(memory, &[1, 2, 3, 4]).unwrap();
        device.device.destroy();
        let lost = |error: DeviceError| match &error {
            DeviceError::Lost { what, .. } => what.clone(),
            DeviceError::Absent { .. }
            | DeviceError::Memory { .. }
            | DeviceError::Plan { .. }
            | DeviceError::Tensor { .. }
            | DeviceError::Compile { .. } => {
                panic!("another error: {error}")
            }
        };
        for _ in 0..2 {
            assert_eq!(lost(device.read(memory, &mut [0; 4]).unwrap_err()), "x");
            assert_eq!(lost(device.write(memory, &[0; 4]).unwrap_err()), "x");
            assert_eq!(lost(device.allocate("y", 4).unwrap_err()), "y");
        }
        device.free(memory);
    }
}
