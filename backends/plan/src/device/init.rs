//! The plan that gives parameters the values with which training begins: one thread for each element, the same numbers as on the CPU. Parameter
//! `i` of a program draws from stream `i`. Read [`init`].

use pushforward_ir::Program;
use pushforward_ir::philox::Domain;
use pushforward_ir::program::Init;

use super::kernel::*;
use super::limits::Target;
use super::lower::{grid, line};
use crate::kernel::{Access, ElementType, Prim};
use crate::lower::name;

/// What a seed is called among the scalars.
const SEED: &str = "seed";
/// Threads of a block, where a device takes so many.
const BLOCK: u32 = 256;

/// The first values of the parameters that `step`, a plan of `program`, has.
pub fn init(program: &Program, step: &DevicePlan, target: &Target) -> DevicePlan {
    let scalars = vec![Scalar { name: SEED.into(), dtype: ElementType::I32, input: 0 }];
    let mut plan =
        DevicePlan { scalars, buffers: Vec::new(), slots: Vec::new(), kernels: Vec::new(), launches: Vec::new(), ..step.clone() };
    let limits = &target.limits;
    let block = (BLOCK as u64).min(limits.max_compute_invocations_per_workgroup).min(limits.max_compute_workgroup_size_x).max(1) as u32;
    for buffer in &step.buffers {
        let (DeviceRole::State(parameter), false) = (buffer.role, buffer.is_empty()) else { continue };
        let kernel = kernel(buffer.dtype, program.params[parameter].init, buffer.len() as u64, block, line(target));
        let number = match plan.kernels.iter().position(|k| k.body == kernel.body && k.args == kernel.args) {
            Some(known) => known,
            None => {
                let name = name::unique(&kernel.name, |n| plan.kernels.iter().any(|k| k.name == n));
                plan.kernels.push(DeviceKernel { name, ..kernel });
                plan.kernels.len() - 1
            }
        };
        let streams = if plan.kernels[number].streams == 0 { Vec::new() } else { vec![parameter as u32] };
        plan.launches.push(DeviceLaunch { kernel: number, args: vec![plan.buffers.len()], streams });
        plan.buffers.push(buffer.clone());
    }
    let last = plan.launches.len().saturating_sub(1);
    plan.buffers.iter_mut().for_each(|b| b.live = (0, last));
    plan
}

/// Fills `len` elements.
fn kernel(dtype: ElementType, init: Init, len: u64, block: u32, line: u64) -> DeviceKernel {
    let float = match dtype {
        ElementType::F32 | ElementType::F64 => true,
        ElementType::I32 | ElementType::Bool => false,
    };
    let blocks = len.div_ceil(block as u64);
    let grid = grid(blocks, line);
    let wide = grid.0 as u64 * grid.1 as u64 * block as u64 > u32::MAX as u64;
    let at = || Expr::Var(0);
    let (name, about, value) = match init {
        Init::Normal(deviation) if float => {
            let normal = Normal {
                dtype,
                domain: Domain::Init.key(),
                seed: Expr::Scalar(0),
                step: Expr::Number(0.0, ElementType::I32),
                stream: 0,
                direction: Expr::Int(0),
                element: at(),
            };
            let value = Expr::Prim(Prim::Mul, dtype, dtype, vec![Expr::Normal(Box::new(normal)), Expr::Number(deviation, dtype)]);
            ("init_normal", format!("{len} normal numbers of standard deviation {deviation}"), value)
        }
        Init::Normal(value) | Init::Constant(value) => ("init_constant", format!("{len} times {value}"), Expr::Number(value, dtype)),
    };
    let draws = name == "init_normal";
    let place = Expr::Index(
        IndexOp::Add,
        Box::new(Expr::Index(IndexOp::Mul, Box::new(Expr::Block), Box::new(Expr::Int(block as u64)))),
        Box::new(Expr::Thread),
    );
    let inside = Expr::Compare(Comparison::Lt, Box::new(at()), Box::new(Expr::Int(len)));
    DeviceKernel {
        name: name.into(),
        about,
        args: vec![DeviceArg { name: "parameter".into(), dtype, access: Access::Write }],
        scalars: if draws { vec![0] } else { Vec::new() },
        streams: usize::from(draws),
        grid,
        block,
        shared: Vec::new(),
        wide,
        work: Work { normals: if draws { len } else { 0 }, other_flops: if draws { len } else { 0 }, ..Work::default() },
        body: vec![Stmt::Let(0, VarType::Index, place), Stmt::If(inside, vec![Stmt::Store(0, at(), value)])],
    }
}
