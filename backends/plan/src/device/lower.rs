//! From a flat program to a device plan: what one kernel computes is decided as for the CPU (`lower/`), with more fusion; then each kernel is
//! shared out among threads, temporaries get slots, and the whole is held against the target's limits. Read [`lower`].

use std::collections::{BTreeSet, HashMap};

use pushforward_ir::{DType, Op, Program};

use super::kernel::*;
use super::limits::Target;
use super::nest::{MOST_KEPT, Threads, kept, nest};
use super::tidy::tidy;
use super::tile::tile;
use super::write::{Bound, Writer};
use crate::kernel::{Arg, Body, Buffer, BufferId, Role};
use crate::lower::cluster::{self, Ability, Cluster, Kind, Updates};
use crate::lower::nest::Lowered;
use crate::lower::place::{self, Layouts};
use crate::lower::prepare::{self, Prepared};
use crate::lower::{self, LowerError, addressable, name, order, product, schedule, stores};

/// The plan of `program` for `target`.
pub fn lower(program: &Program, target: &Target) -> Result<DevicePlan, LowerError> {
    if let Some(fault) = pushforward_ir::verify::verify(program).first() {
        return Err(LowerError::Unsound(fault.message.clone()));
    }
    addressable(program)?;
    let wide = program.values().find(|&v| program.ty(v).dtype == DType::F64);
    if let Some(v) = wide.filter(|_| !target.f64) {
        let name = match program.op(v) {
            Op::Input(i) => program.inputs[*i as usize].name.clone(),
            Op::Param(i) => program.params[*i as usize].port.name.clone(),
            op => op.name().into(),
        };
        return Err(LowerError::NoF64 { name: format!("{name}: {}", program.ty(v).show(&program.axes)) });
    }
    // Fusion counts the tensors of a kernel before it is known what is computed again: where it was too hopeful, it is asked for less.
    let bindings = target.limits.max_storage_buffers_per_shader_stage as usize;
    let mut most_args = bindings;
    loop {
        let plan = plan(program, target, Ability { fuses: true, most_args });
        match plan.kernels.iter().any(|k| k.args.len() > bindings) && most_args > 1 {
            true => most_args -= 1,
            false => {
                check(&plan, target)?;
                return Ok(plan);
            }
        }
    }
}

fn plan(program: &Program, target: &Target, ability: Ability) -> DevicePlan {
    let mut plans = Updates::ALL.into_iter().filter_map(|updates| {
        let prepared = prepare::run(program, updates == Updates::Apart, true);
        decide(program, &prepared, target, updates, ability)
    });
    plans.next().expect("updates by copies that nothing waits for have an order")
}

/// `None` if the kernels have no order; see [`Updates`].
fn decide(original: &Program, prepared: &Prepared, target: &Target, updates: Updates, ability: Ability) -> Option<DevicePlan> {
    let program = &prepared.program;
    let clusters = cluster::clusters(prepared, updates, ability);
    let mut layouts = Layouts::new(original, prepared, &clusters, false);
    let alive: Vec<Option<bool>> = clusters.list.iter().map(|c| (!c.roots.is_empty()).then_some(false)).collect();
    let groups = schedule::schedule(program, &clusters, &cluster::updates(prepared), &alive)?;
    let orders = place::orders(program);
    let buffers = std::mem::take(&mut layouts.buffers);
    let mut plan = Plan::new(program, buffers, target);
    layouts.buffers = plan.buffers.clone();
    for c in groups.into_iter().flat_map(|g| g.clusters) {
        let cluster = &clusters.list[c];
        let stores = stores(prepared, &clusters, cluster, &layouts);
        let most = target.limits.max_compute_invocations_per_workgroup.min(target.limits.max_compute_workgroup_size_x);
        match cluster.kind {
            Kind::Nest => {
                let order = order(program, cluster, &orders);
                let lowered = |keeps| {
                    let Lowered { body, args, buffers, .. } = lower::nest::nest(program, cluster, &layouts, stores.clone(), &order, keeps);
                    let Body::Loops(loops) = body else { unreachable!("nests are loops") };
                    (loops, args, buffers)
                };
                let mut nest_of = lowered(true);
                if kept(&nest_of.0, most) > MOST_KEPT {
                    nest_of = lowered(false);
                }
                let (loops, args, buffers) = nest_of;
                let named = name::of_nest(program, cluster);
                plan.kernel(cluster, named, &args, &buffers, |writer, target| nest(writer, &loops, &args, most, line(target)));
            }
            Kind::Gemm => {
                let product = product::product(program, cluster, &layouts, stores);
                let named = name::of_product(&product.m, &product.n, &product.k);
                plan.kernel(cluster, named, &product.args, &product.buffers, |writer, target| {
                    tile(writer, &product, target.precision, most, line(target))
                });
            }
            Kind::Noise => unreachable!("noise is drawn in nests and products"),
        }
    }
    Some(plan.finish(program))
}

/// Blocks of one line of a grid.
pub(super) fn line(target: &Target) -> u64 {
    target.limits.max_compute_workgroups_per_dimension.clamp(1, 65_535)
}

/// Lines as long as they may be, the last one perhaps longer than it must.
pub(super) fn grid(blocks: u64, line: u64) -> (u32, u32) {
    if blocks <= line { (blocks as u32, 1) } else { (line as u32, blocks.div_ceil(line) as u32) }
}

/// A plan in the making: buffers by the layouts' numbers.
struct Plan<'a> {
    program: &'a Program,
    target: &'a Target,
    buffers: Vec<Buffer>,
    /// The number of the scalar that a buffer is.
    scalars: HashMap<BufferId, usize>,
    scalar_list: Vec<Scalar>,
    kernels: Vec<DeviceKernel>,
    known: HashMap<String, usize>,
    launches: Vec<DeviceLaunch>,
}

impl<'a> Plan<'a> {
    fn new(program: &'a Program, buffers: Vec<Buffer>, target: &'a Target) -> Plan<'a> {
        let mut numbered: Vec<(usize, BufferId)> = Vec::new();
        for (b, buffer) in buffers.iter().enumerate() {
            match buffer.role {
                Role::Input(input) if buffer.dims.is_empty() => numbered.push((input, b)),
                Role::Input(_) | Role::State(_) | Role::Output(_) | Role::Temp(_) => {}
            }
        }
        numbered.sort_unstable();
        let scalar_list = numbered.iter().map(|&(input, b)| Scalar { name: buffers[b].name.clone(), dtype: buffers[b].dtype, input });
        let scalar_list = scalar_list.collect();
        let scalars = numbered.iter().enumerate().map(|(s, &(_, b))| (b, s)).collect();
        Plan { program, target, buffers, scalars, scalar_list, kernels: Vec::new(), known: HashMap::new(), launches: Vec::new() }
    }

    /// Adds a launch, and its kernel if no other launch has it.
    fn kernel(
        &mut self,
        cluster: &Cluster,
        named: String,
        args: &[Arg],
        buffers: &[BufferId],
        threads: impl FnOnce(&mut Writer, &Target) -> Threads,
    ) {
        let mut device_args: Vec<DeviceArg> = Vec::new();
        let (mut bound, mut memory, mut read) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (arg, &b) in args.iter().zip(buffers) {
            match self.scalars.get(&b) {
                Some(&scalar) => {
                    bound.push(Bound::Scalar(scalar));
                    read.insert(scalar);
                }
                None => {
                    bound.push(Bound::Memory(device_args.len()));
                    let name = name::unique(&argument(&self.buffers[b]), |n| device_args.iter().any(|a| a.name == n));
                    device_args.push(DeviceArg { name, dtype: arg.dtype, access: arg.access });
                    memory.push(b);
                }
            }
        }
        let mut writer = Writer::new(bound);
        let Threads { body, blocks, block, work } = threads(&mut writer, self.target);
        if blocks == 0 {
            return;
        }
        let body = tidy(body);
        let Writer { streams, shared, .. } = writer;
        let line = line(self.target);
        let grid = grid(blocks, line);
        let wide = memory.iter().any(|&b| self.buffers[b].len() > u32::MAX as usize) || blocks * block as u64 > u32::MAX as u64;
        let dtypes: Vec<_> = device_args.iter().map(|a| (a.dtype, a.access)).collect();
        let key = format!("{dtypes:?} {read:?} {grid:?} {block} {wide} {shared:?} {body:?}");
        let number = *self.known.entry(key).or_insert_with(|| {
            let name = name::unique(&named, |n| self.kernels.iter().any(|k| k.name == n));
            let about = name::about(self.program, cluster);
            let (scalars, streams) = (read.into_iter().collect(), streams.len());
            self.kernels.push(DeviceKernel { name, about, args: device_args, scalars, streams, grid, block, shared, wide, work, body });
            self.kernels.len() - 1
        });
        self.launches.push(DeviceLaunch { kernel: number, args: memory, streams });
    }

    /// Buffers that something uses, with slots for temporaries.
    fn finish(self, program: &Program) -> DevicePlan {
        let last = self.launches.len().saturating_sub(1);
        let mut lives: Vec<Option<(usize, usize)>> = vec![None; self.buffers.len()];
        for (l, launch) in self.launches.iter().enumerate() {
            for &b in &launch.args {
                lives[b].get_or_insert((l, l)).1 = l;
            }
        }
        let mut numbers: HashMap<BufferId, BufferId> = HashMap::new();
        let mut buffers = Vec::new();
        for (b, buffer) in self.buffers.into_iter().enumerate() {
            let (role, live) = match (buffer.role, lives[b]) {
                (Role::Input(_), _) if buffer.dims.is_empty() => continue,
                (Role::Input(i), _) => (DeviceRole::Input(i), (0, last)),
                (Role::State(i), _) => (DeviceRole::State(i), (0, last)),
                (Role::Output(i), _) => (DeviceRole::Output(i), (0, last)),
                (Role::Temp(_), None) => continue,
                (Role::Temp(_), Some(live)) => (DeviceRole::Slot(0), live),
            };
            numbers.insert(b, buffers.len());
            buffers.push(DeviceBuffer { name: buffer.name, dtype: buffer.dtype, dims: buffer.dims, role, live });
        }
        let mut launches = self.launches;
        launches.iter_mut().flat_map(|l| &mut l.args).for_each(|b| *b = numbers[b]);
        let slots = slots(&mut buffers);
        DevicePlan { name: program.name.clone(), scalars: self.scalar_list, buffers, slots, kernels: self.kernels, launches }
    }
}

/// Gives each temporary a slot; those of one slot never live at the same time. The largest first, each in the smallest slot that is free.
fn slots(buffers: &mut [DeviceBuffer]) -> Vec<usize> {
    let temporary = |b: &DeviceBuffer| match b.role {
        DeviceRole::Slot(_) => true,
        DeviceRole::Input(_) | DeviceRole::State(_) | DeviceRole::Output(_) => false,
    };
    let mut order: Vec<usize> = (0..buffers.len()).filter(|&b| temporary(&buffers[b])).collect();
    order.sort_by_key(|&b| (std::cmp::Reverse(buffers[b].bytes()), b));
    let mut slots: Vec<(usize, Vec<(usize, usize)>)> = Vec::new();
    for b in order {
        let (bytes, live) = (buffers[b].bytes().next_multiple_of(SLOT_ALIGN).max(SLOT_ALIGN), buffers[b].live);
        let free = |lives: &[(usize, usize)]| lives.iter().all(|l| l.1 < live.0 || live.1 < l.0);
        // Slots were made by larger ones, so all are large enough; the last made is the smallest.
        let slot = match slots.iter().rposition(|s| free(&s.1)) {
            Some(slot) => slot,
            None => {
                slots.push((bytes, Vec::new()));
                slots.len() - 1
            }
        };
        slots[slot].1.push(live);
        buffers[b].role = DeviceRole::Slot(slot);
    }
    slots.into_iter().map(|s| s.0).collect()
}

/// What every device lets a binding begin at.
const SLOT_ALIGN: usize = 256;

/// An identifier of every language: what a buffer is to the outside comes first, so that it is no keyword.
fn argument(buffer: &Buffer) -> String {
    let name = name::identifier(&buffer.name);
    match buffer.role {
        Role::Input(_) => format!("in_{name}"),
        Role::State(_) => format!("param_{name}"),
        Role::Output(_) => format!("out_{name}"),
        Role::Temp(_) => name,
    }
}

/// Whether the target has what the plan needs.
fn check(plan: &DevicePlan, target: &Target) -> Result<(), LowerError> {
    let limits = &target.limits;
    let fits = |kernel: &str, what: &str, needs: u64, limit: &'static str, has: u64, hint: &'static str| {
        let error = || LowerError::Limit { kernel: kernel.into(), what: what.into(), needs, limit, has, hint };
        if needs <= has { Ok(()) } else { Err(error()) }
    };
    let declare = "declare what the device has (`compile --limits FILE`), or take another target";
    let smaller = "a smaller --batch, or declare what the device has (`compile --limits FILE`)";
    for k in &plan.kernels {
        let shared: usize = k.shared.iter().map(|s| s.len * element_bytes(s.dtype)).sum();
        let (args, threads) = (k.args.len() as u64, k.block as u64);
        fits(&k.name, "storage buffers", args, "maxStorageBuffersPerShaderStage", limits.max_storage_buffers_per_shader_stage, declare)?;
        fits(
            &k.name,
            "bytes of workgroup memory",
            shared as u64,
            "maxComputeWorkgroupStorageSize",
            limits.max_compute_workgroup_storage_size,
            declare,
        )?;
        fits(
            &k.name,
            "threads in a workgroup",
            threads,
            "maxComputeInvocationsPerWorkgroup",
            limits.max_compute_invocations_per_workgroup,
            declare,
        )?;
        fits(&k.name, "threads in a workgroup", threads, "maxComputeWorkgroupSizeX", limits.max_compute_workgroup_size_x, declare)?;
        let lines = k.grid.0.max(k.grid.1) as u64;
        fits(
            &k.name,
            "workgroups in a line",
            lines,
            "maxComputeWorkgroupsPerDimension",
            limits.max_compute_workgroups_per_dimension,
            smaller,
        )?;
    }
    for launch in &plan.launches {
        let kernel = &plan.kernels[launch.kernel].name;
        for &b in &launch.args {
            let buffer = &plan.buffers[b];
            let (what, bytes) = (format!("bytes for `{}`", buffer.name), buffer.bytes() as u64);
            fits(kernel, &what, bytes, "maxStorageBufferBindingSize", limits.max_storage_buffer_binding_size, smaller)?;
            fits(kernel, &what, bytes, "maxBufferSize", limits.max_buffer_size, smaller)?;
        }
    }
    Ok(())
}
