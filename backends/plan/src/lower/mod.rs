//! From a flat program to a plan: prepare, fuse, lay out, spell loop nests and matrix products, order, allocate. Each step is a file and
//! decides one thing; [`lower`] is their order. Nothing here knows a model or a target.
//!
//! | file | decides |
//! |---|---|
//! | `prepare.rs` | how ops that no target has are written with others |
//! | `cluster.rs` | what one kernel computes, and what reaches memory |
//! | `place.rs` | layouts |
//! | `nest.rs` | the sections of a loop nest, its lanes, what it keeps |
//! | `gemm.rs` | dimensions of a matrix product that is a call, and where it is cut |
//! | `product.rs` | dimensions of one that computes its operands and what becomes of its result |
//! | `split.rs` | which sums go in two steps, on devices |
//! | `schedule.rs` | the order of launches, stages, slices |
//! | `memory.rs` | where temporaries lie |
//! | `name.rs` | what kernels are called |

pub(crate) mod cluster;
mod gemm;
mod memory;
pub(crate) mod name;
pub(crate) mod nest;
pub(crate) mod place;
pub(crate) mod prepare;
pub(crate) mod product;
pub(crate) mod schedule;
pub(crate) mod split;

use std::collections::HashMap;

use pushforward_ir::axis::AxisId;
use pushforward_ir::{Op, Program, Value};

use crate::kernel::*;
use crate::verify::cut_size;
use cluster::{Ability, Cluster, Clusters, Kind, Updates};
use nest::{Lowered, Store};
use place::Layouts;
use prepare::{Prepared, Target};
use schedule::Group;

/// What a plan can be asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Run what is independent from example to example on one slice of the batch before the next.
    pub slices: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { slices: true }
    }
}

/// Why a program has no plan.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LowerError {
    #[error("the program is not sound, so it cannot be planned: {0}")]
    Unsound(String),
    #[error("`{name}` runs over {elements} elements, more than can be counted; hint: choose smaller sizes or a smaller batch")]
    TooLarge { name: String, elements: String },
    #[error("kernel `{kernel}` needs {needs} {what}, and `{limit}` is {has}; hint: {hint}")]
    Limit { kernel: String, what: String, needs: u64, limit: &'static str, has: u64, hint: &'static str },
    #[error("`{name}` is f64, which this target does not have; hint: the cuda target has it, or declare the model in f32")]
    NoF64 { name: String },
}

/// The plan of `program`.
pub fn lower(program: &Program, options: &Options) -> Result<Plan, LowerError> {
    if let Some(fault) = pushforward_ir::verify::verify(program).first() {
        return Err(LowerError::Unsound(fault.message.clone()));
    }
    addressable(program)?;
    let mut plans = Updates::ALL.into_iter().filter_map(|updates| {
        let prepared = prepare::run(program, updates == Updates::Apart, false);
        decide(program, &prepared, options, updates).map(Decided::plan)
    });
    let mut plan = plans.next().expect("updates by copies that nothing waits for have an order");
    memory::allocate(&mut plan);
    Ok(plan)
}

/// A program's kernels and their order.
struct Decided<'a> {
    program: &'a Program,
    buffers: Vec<Buffer>,
    /// By cluster: the kernel, its buffers, its stream of noise; none for clusters that compute nothing.
    kernels: Vec<Option<(Kernel, Vec<BufferId>, u32)>>,
    groups: Vec<Group>,
}

/// `None` if the kernels have no order; see [`Updates`].
fn decide<'a>(original: &Program, prepared: &'a Prepared, options: &Options, updates: Updates) -> Option<Decided<'a>> {
    let program = &prepared.program;
    let clusters = cluster::clusters(prepared, updates, Ability::CALLS);
    let layouts = Layouts::new(original, prepared, &clusters, true);
    let orders = place::orders(program);
    let (mut kernels, mut by_example) = (Vec::new(), Vec::new());
    for cluster in &clusters.list {
        if cluster.roots.is_empty() {
            kernels.push(None);
            by_example.push(None);
            continue;
        }
        let (lowered, stream) = match cluster.kind {
            Kind::Nest => {
                let stores = stores(prepared, &clusters, cluster, &layouts);
                (nest::nest(program, cluster, &layouts, stores, &order(program, cluster, &orders), true), 0)
            }
            Kind::Gemm => (product(program, cluster, &layouts), 0),
            Kind::Noise => noise(program, cluster, &layouts),
        };
        by_example.push(Some(options.slices && lowered.by_example));
        let Lowered { body, args, buffers, .. } = lowered;
        let kernel = Kernel { name: name::name(program, cluster, &body), about: name::about(program, cluster), args, body };
        kernels.push(Some((kernel, buffers, stream)));
    }
    let groups = schedule::schedule(program, &clusters, &cluster::updates(prepared), &by_example)?;
    Some(Decided { program, buffers: layouts.buffers, kernels, groups })
}

impl Decided<'_> {
    /// Stages and launches; equal kernels once.
    fn plan(self) -> Plan {
        let Decided { program, buffers, kernels, groups } = self;
        let mut plan = Plan { name: program.name.clone(), buffers, kernels: Vec::new(), stages: Vec::new(), arena_bytes: 0 };
        let mut known: HashMap<String, usize> = HashMap::new();
        for group in groups {
            let live: Vec<_> = group.clusters.iter().filter_map(|&c| kernels[c].as_ref()).collect();
            let slice = program.batch.filter(|_| group.by_example).map(|n| {
                let size = program.axes.size(n);
                Slice { axis: program.axes[n].name.clone(), size, chunk: schedule::chunk(size, live.iter().map(|k| &k.0)) }
            });
            let mut launches = Vec::new();
            for (kernel, args, stream) in live {
                let number = *known.entry(format!("{:?} {:?}", kernel.args, kernel.body)).or_insert_with(|| {
                    let name = name::unique(&kernel.name, |n| plan.kernels.iter().any(|k| k.name == n));
                    plan.kernels.push(Kernel { name, ..kernel.clone() });
                    plan.kernels.len() - 1
                });
                let part = if slice.is_some() { 0 } else { part(kernel) };
                launches.push(Launch { kernel: number, args: args.clone(), stream: *stream, part });
            }
            plan.stages.push(Stage { slice, launches });
        }
        plan
    }
}

/// Sizes whose products do not fit a machine word, with room for strides, have no plan: those of values, and of the points that ops run over.
pub(crate) fn addressable(program: &Program) -> Result<(), LowerError> {
    for v in program.values() {
        let points = program.args(v).iter().fold(program.axes_of(v), |axes, &a| axes | program.axes_of(a));
        let axes = program.axes.in_order(points);
        let count = axes.iter().try_fold(1usize, |n, &a| n.checked_mul(program.axes.size(a)));
        if count.is_none_or(|n| n > isize::MAX as usize / 1024) {
            let elements = axes.iter().map(|&a| program.axes.size(a).to_string()).collect::<Vec<_>>().join(" * ");
            return Err(LowerError::TooLarge { name: format!("{v:?}: {}", program.ty(v).show(&program.axes)), elements });
        }
    }
    Ok(())
}

/// The order of a nest's loops: that of its largest result in memory; the examples first.
pub(crate) fn order(program: &Program, cluster: &Cluster, orders: &[Vec<AxisId>]) -> Vec<AxisId> {
    let leading =
        cluster.roots.iter().max_by_key(|&&v| (program.axes_of(v).len(), std::cmp::Reverse(v))).expect("a live cluster has roots");
    let mut order = orders[leading.0 as usize].clone();
    let rest = program.axes.in_order(cluster.points).into_iter().filter(|a| !order.contains(a)).collect::<Vec<_>>();
    order.extend(rest);
    order.sort_by_key(|a| Some(*a) != program.batch);
    order
}

/// Where the roots of a nest go: to memory of their own, and to outputs.
pub(crate) fn stores(prepared: &Prepared, clusters: &Clusters, cluster: &Cluster, layouts: &Layouts) -> Vec<Store> {
    let program = &prepared.program;
    let mut stores = Vec::new();
    for &value in &cluster.roots {
        let home = layouts.locate(value).filter(|_| clusters.stored[value.0 as usize]);
        let own = home.as_ref().map(|h| h.buffer);
        stores.extend(home.map(|at| Store { value, at, in_place: false }));
        for ((target, out), at) in prepared.targets.iter().zip(&program.outputs).zip(&layouts.targets) {
            if out.value == value && own != Some(at.buffer) {
                stores.push(Store { value, at: at.clone(), in_place: matches!(target, Target::State(_)) });
            }
        }
    }
    stores
}

fn product(program: &Program, cluster: &Cluster, layouts: &Layouts) -> Lowered {
    let v = cluster.roots[0];
    let Op::Contract(over) = program.op(v) else { unreachable!("clusters of this kind hold a contraction") };
    let operand = |v: Value| {
        let at = layouts.locate(v).expect("operands of matrix products are in memory");
        gemm::Operand { axes: program.axes_of(v), at }
    };
    let [x, y] = program.args(v)[..] else { unreachable!("prepared: two factors") };
    let (x, y, c) = (operand(x), operand(y), operand(v));
    let dtype: ElementType = program.ty(v).dtype.into();
    let (mut gemm, swapped) = gemm::gemm(&program.axes, dtype, &x, &y, &c, *over, program.batch);
    let (a, b) = if swapped { (&y, &x) } else { (&x, &y) };
    let batch = program.batch.filter(|n| c.axes.contains(*n));
    let own = |l: &place::Located| l.batch.is_none() || l.batch == batch;
    let cut_by_example = batch.is_some_and(|n| {
        let size = program.axes.size(n);
        match gemm.cut {
            Cut::Batch(i) => gemm.batch[i].size == size && gemm.batch[i].axis == program.axes[n].name,
            Cut::M { per } => gemm.m.axes.split('*').next() == Some(&program.axes[n].name) && gemm.m.size == size * per,
            Cut::N { per } => gemm.n.axes.split('*').next() == Some(&program.axes[n].name) && gemm.n.size == size * per,
            Cut::None => false,
        }
    });
    let by_example = cut_by_example && own(&a.at) && own(&b.at);
    let read = Arg { dtype, access: Access::Read };
    let write = Arg { dtype, access: Access::Write };
    // A value times itself is one argument.
    let (args, buffers) = if a.at.buffer == b.at.buffer {
        (gemm.b, gemm.c) = (0, 1);
        (vec![read, write], vec![a.at.buffer, c.at.buffer])
    } else {
        (vec![read.clone(), read, write], vec![a.at.buffer, b.at.buffer, c.at.buffer])
    };
    Lowered { body: Body::Gemm(gemm), args, buffers, by_example }
}

fn noise(program: &Program, cluster: &Cluster, layouts: &Layouts) -> (Lowered, u32) {
    let v = cluster.roots[0];
    let Op::Normal(noise) = program.op(v) else { unreachable!("clusters of this kind hold noise") };
    let located = |v: Value| layouts.locate(v).expect("noise, seed and step are in memory").buffer;
    let size = |a: AxisId| program.axes.size(a);
    let elements: Vec<AxisId> = noise.order.iter().copied().filter(|&a| Some(a) != noise.direction).collect();
    let (steps, rest) = match elements.split_first() {
        Some((&first, rest)) => (size(first), rest),
        None => (1, &[][..]),
    };
    let dtype: ElementType = noise.dtype.into();
    let body =
        Body::Normals(Normals { dtype, steps, per: rest.iter().map(|&a| size(a)).product(), directions: noise.direction.map_or(1, size) });
    let scalar = Arg { dtype: ElementType::I32, access: Access::Read };
    // Seed and step, and the row if it is a part of more.
    let words = program.args(v);
    let args = [Arg { dtype, access: Access::Write }].into_iter().chain(words.iter().map(|_| scalar.clone())).collect();
    let buffers = [v].iter().chain(words).map(|&v| located(v)).collect();
    let by_example = program.batch.is_some() && elements.first() == program.batch.as_ref();
    (Lowered { body, args, buffers, by_example }, noise.stream)
}

/// Steps of a kernel's cut axis that one part takes, in a stage without slices: some [`WORK`] of work, so that threads wait for nothing, and
/// no fewer parts than can be had by that.
fn part(kernel: &Kernel) -> usize {
    let work: usize = match &kernel.body {
        Body::Loops(l) => l.outer.iter().chain(&l.row).map(|l| l.size).product(),
        Body::Gemm(g) => {
            let loops: usize = g.batch.iter().chain(&g.more_k).map(|l| l.size).product();
            loops * g.m.size * g.n.size * g.k.size / 32
        }
        Body::Normals(n) => 4 * n.steps * n.per * n.directions,
    };
    let parts = (work / WORK).clamp(1, MOST_PARTS);
    cut_size(kernel).div_ceil(parts).max(1)
}

/// Elements of a loop nest that are worth a task of their own.
const WORK: usize = 16 * 1024;
/// More tasks than this only cost.
const MOST_PARTS: usize = 32;
