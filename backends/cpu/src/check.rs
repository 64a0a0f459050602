//! What compiled code relies on without looking: that every access of a plan lies inside its buffer, every register is defined, of one dtype
//! and used as such. `call.rs` follows raw pointers because this passed. Whether slices and parts keep out of each other's way, and whether the
//! plan computes what the program says, is not seen from here.
//!
//! Read [`check`] first.

use pushforward_plan::Plan;
use pushforward_plan::kernel::*;

use crate::error::dtype_name;

/// The first thing that is wrong with `plan`, if any.
pub(crate) fn check(plan: &Plan) -> Result<(), String> {
    let mut names = std::collections::HashSet::new();
    for buffer in &plan.buffers {
        let size = size(buffer.dims.iter().map(|d| d.1)).and_then(|n| n.checked_mul(buffer.dtype.bytes()));
        let bytes = size.filter(|&bytes| bytes <= isize::MAX as usize).ok_or(format!("buffer `{}` is too large", buffer.name))?;
        match buffer.role {
            Role::Temp(offset) => {
                let inside = offset.checked_add(bytes).is_some_and(|end| end <= plan.arena_bytes);
                ensure(inside && offset % 64 == 0, || format!("temporary `{}` at {offset} does not fit the arena", buffer.name))?;
            }
            Role::State(_) => ensure(names.insert(&buffer.name), || format!("two parameters are called `{}`", buffer.name))?,
            Role::Input(i) | Role::Output(i) => ensure(i < 1 << 20, || format!("`{}` has the number {i}", buffer.name))?,
        }
    }
    for kernel in &plan.kernels {
        match &kernel.body {
            Body::Loops(loops) => nest(kernel, loops),
            Body::Gemm(gemm) => product(kernel, gemm),
            Body::Normals(normals) => noise(kernel, normals),
        }
        .map_err(|e| format!("kernel `{}`: {e}", kernel.name))?;
    }
    for (s, stage) in plan.stages.iter().enumerate() {
        for l in &stage.launches {
            let kernel = plan.kernels.get(l.kernel).ok_or(format!("stage {s} launches kernel {}, which is none", l.kernel))?;
            launch(plan, stage, kernel, l).map_err(|e| format!("stage {s}, kernel `{}`: {e}", kernel.name))?;
        }
    }
    Ok(())
}

fn launch(plan: &Plan, stage: &Stage, kernel: &Kernel, launch: &Launch) -> Result<(), String> {
    ensure(launch.args.len() == kernel.args.len(), || format!("{} buffers for {} arguments", launch.args.len(), kernel.args.len()))?;
    for (a, (&b, arg)) in launch.args.iter().zip(&kernel.args).enumerate() {
        let buffer = plan.buffers.get(b).ok_or(format!("argument {a} is buffer {b}, which is none"))?;
        let name = &buffer.name;
        let (wants, got) = (dtype_name(arg.dtype), dtype_name(buffer.dtype));
        ensure(arg.dtype == buffer.dtype, || format!("argument {a} is {wants}, buffer `{name}` is {got}"))?;
        let input = match buffer.role {
            Role::Input(_) => true,
            Role::State(_) | Role::Output(_) | Role::Temp(_) => false,
        };
        ensure(!input || !written(arg), || format!("argument {a} is written, `{name}` is an input"))?;
        let needed = extent(kernel, a);
        ensure(needed.is_some_and(|n| n <= buffer.len()), || {
            format!("argument {a} reaches {} elements, `{name}` has {}", needed.map_or("too many".into(), |n| n.to_string()), buffer.len())
        })?;
    }
    if let Body::Gemm(gemm) = &kernel.body {
        let [a, b, c] = [gemm.a, gemm.b, gemm.c].map(|arg| launch.args[arg]);
        ensure(!overlap(plan, a, c) && !overlap(plan, b, c), || "a product into one of its own factors".into())?;
    }
    if let Some(slice) = &stage.slice {
        let (size, wants) = (cut_size(kernel), slice.size);
        ensure(slice.chunk > 0, || format!("slices of 0 along {}", slice.axis))?;
        ensure(size == wants, || format!("slices along {} of {wants}, the kernel's cut axis has {size}", slice.axis))?;
    }
    Ok(())
}

/// Steps of a kernel's cut axis; 1 where it has none.
pub(crate) fn cut_size(kernel: &Kernel) -> usize {
    match &kernel.body {
        Body::Loops(loops) => loops.outer.first().map_or(1, |l| l.size),
        Body::Gemm(gemm) => match gemm.cut {
            Cut::Batch(i) => gemm.batch[i].size,
            Cut::M { per } => gemm.m.size / per,
            Cut::N { per } => gemm.n.size / per,
            Cut::None => 1,
        },
        Body::Normals(normals) => normals.steps,
    }
}

/// Whether two buffers share memory.
pub(crate) fn overlap(plan: &Plan, a: BufferId, b: BufferId) -> bool {
    match (plan.buffers[a].role, plan.buffers[b].role) {
        _ if a == b => true,
        (Role::Temp(x), Role::Temp(y)) => x < y + plan.buffers[b].bytes() && y < x + plan.buffers[a].bytes(),
        // A state knows its parameters by name.
        (Role::State(_), Role::State(_)) => plan.buffers[a].name == plan.buffers[b].name,
        (Role::Input(x), Role::Input(y)) | (Role::Output(x), Role::Output(y)) => x == y,
        (Role::Input(_) | Role::State(_) | Role::Output(_) | Role::Temp(_), _) => false,
    }
}

pub(crate) fn written(arg: &Arg) -> bool {
    match arg.access {
        Access::Read => false,
        Access::Write | Access::ReadWrite => true,
    }
}

/// How many elements of an argument a kernel may touch, counted from its start. None if that overflows.
fn extent(kernel: &Kernel, arg: ArgId) -> Option<usize> {
    match &kernel.body {
        Body::Loops(loops) => {
            let mut most = 0;
            for section in &loops.sections {
                let (insts, row) = match section {
                    Section::Once(insts) => (insts, false),
                    Section::Row(insts) => (insts, true),
                };
                for inst in insts {
                    let (InstKind::Load(place) | InstKind::Store(place, _)) = &inst.kind else { continue };
                    if place.arg == arg {
                        let sizes = loops.outer.iter().chain(loops.row.iter().filter(|_| row)).map(|l| l.size);
                        most = most.max(reach(sizes.zip(place.strides.iter().copied()))?);
                    }
                }
            }
            Some(most)
        }
        Body::Gemm(g) => {
            let dims = |of: fn(&GemmDim) -> usize| [&g.m, &g.n, &g.k].map(|d| (d.size, of(d)));
            let loops = |of: fn(&GemmLoop) -> usize| g.batch.iter().chain(&g.more_k).map(|l| (l.size, of(l))).collect::<Vec<_>>();
            let (a, b) = (dims(|d| d.a).into_iter().chain(loops(|l| l.a)), dims(|d| d.b).into_iter().chain(loops(|l| l.b)));
            // A sum over nothing still writes c.
            let c = dims(|d| d.c).into_iter().take(2).chain(loops(|l| l.c).into_iter().take(g.batch.len()));
            let mut most = 0;
            for reached in [(g.a, reach(a)), (g.b, reach(b)), (g.c, reach(c))] {
                if reached.0 == arg {
                    most = most.max(reached.1?);
                }
            }
            Some(most)
        }
        Body::Normals(n) => match arg {
            0 => n.steps.checked_mul(n.per)?.checked_mul(n.directions.max(1)),
            _ => Some(1),
        },
    }
}

/// One more than the last element of a walk; 0 if it has no steps.
fn reach(walk: impl Iterator<Item = (usize, usize)>) -> Option<usize> {
    let mut last = 0usize;
    for (size, stride) in walk {
        if size == 0 {
            return Some(0);
        }
        last = last.checked_add((size - 1).checked_mul(stride)?)?;
    }
    last.checked_add(1)
}

fn size(mut sizes: impl Iterator<Item = usize>) -> Option<usize> {
    sizes.try_fold(1usize, |product, size| product.checked_mul(size))
}

fn product(kernel: &Kernel, g: &Gemm) -> Result<(), String> {
    for arg in [g.a, g.b, g.c] {
        let arg = kernel.args.get(arg).ok_or(format!("there is no argument {arg}"))?;
        ensure(arg.dtype == g.dtype, || format!("a product in {} of {}", dtype_name(g.dtype), dtype_name(arg.dtype)))?;
    }
    ensure(is_float(g.dtype), || format!("a product in {}", dtype_name(g.dtype)))?;
    ensure(!written(&kernel.args[g.a]) && !written(&kernel.args[g.b]) && written(&kernel.args[g.c]), || "only c is written".into())?;
    ensure(g.m.b == 0 && g.n.a == 0 && g.k.c == 0, || "a dimension moves in the operand that it is not of".into())?;
    ensure(g.more_k.iter().all(|l| l.c == 0), || "a summed loop moves in the result".into())?;
    let fits = match g.cut {
        Cut::Batch(i) => i < g.batch.len(),
        Cut::M { per } => per > 0 && g.m.size.is_multiple_of(per),
        Cut::N { per } => per > 0 && g.n.size.is_multiple_of(per),
        Cut::None => true,
    };
    ensure(fits, || format!("cannot be cut by {:?}", g.cut))
}

fn noise(kernel: &Kernel, n: &Normals) -> Result<(), String> {
    let dtypes: Vec<ElementType> = kernel.args.iter().map(|a| a.dtype).collect();
    ensure(dtypes == [n.dtype, ElementType::I32, ElementType::I32] && is_float(n.dtype), || {
        format!("noise in {} takes a buffer, seed and step, got {dtypes:?}", dtype_name(n.dtype))
    })?;
    ensure(written(&kernel.args[0]) && !kernel.args[1..].iter().any(written), || "only the buffer is written".into())
}

fn is_float(dtype: ElementType) -> bool {
    match dtype {
        ElementType::F32 | ElementType::F64 => true,
        ElementType::I32 | ElementType::Bool => false,
    }
}

/// Registers by number, with their dtypes.
type Registers = std::collections::HashMap<Reg, ElementType>;

fn nest(kernel: &Kernel, loops: &Loops) -> Result<(), String> {
    let has_rows = loops.sections.iter().any(|s| match s {
        Section::Row(_) => true,
        Section::Once(_) => false,
    });
    ensure(loops.lanes != Lanes::Row || !loops.row.is_empty() || !has_rows, || "lanes along a row of no loops".into())?;
    let sizes = loops.outer.iter().chain(&loops.row).map(|l| l.size);
    let steps = size(sizes.map(|s| s.max(1))).filter(|&n| n <= isize::MAX as usize / 1024);
    ensure(steps.is_some(), || "more steps than can be counted".into())?;
    let mut regs = Registers::new();
    let mut kept = vec![false; loops.scratch.len()];
    for section in &loops.sections {
        match section {
            Section::Once(insts) => {
                for i in insts {
                    inst(kernel, loops, i, false, &mut regs, &mut kept)?;
                }
            }
            // What a row defines ends with it, but for the results of reductions, which begin then.
            Section::Row(insts) => {
                let mut row = regs.clone();
                for i in insts {
                    match i.kind {
                        InstKind::Reduce(_, x) => {
                            let x = operand(&row, x)?;
                            ensure(x == i.dtype && x != ElementType::Bool, || format!("a reduction to {} of {x:?}", dtype_name(i.dtype)))?;
                            ensure(i.reg < MOST, || format!("register {}", i.reg))?;
                            regs.insert(i.reg, i.dtype);
                        }
                        _ => inst(kernel, loops, i, true, &mut row, &mut kept)?,
                    }
                }
            }
        }
    }
    Ok(())
}

/// Registers are numbered below this: the code generator keeps a table.
const MOST: Reg = 1 << 20;

fn inst(kernel: &Kernel, loops: &Loops, inst: &Inst, row: bool, regs: &mut Registers, kept: &mut [bool]) -> Result<(), String> {
    let same = |what: &str, x: ElementType, y: ElementType| {
        ensure(x == y, || format!("register {}: {what} {} for {}", inst.reg, dtype_name(x), dtype_name(y)))
    };
    let slot = |slot: usize| loops.scratch.get(slot).map(|s| s.dtype).ok_or(format!("there is no scratch row {slot}"));
    match &inst.kind {
        InstKind::Const(_) => {}
        InstKind::Index(l) => {
            let most = loops.outer.len() + if row { loops.row.len() } else { 0 };
            ensure(*l < most, || format!("the index of loop {l}, here are {most}"))?;
            same("an index as", inst.dtype, ElementType::I32)?;
        }
        InstKind::Load(place) => {
            let arg = argument(kernel, loops, place, row)?;
            ensure(arg.access != Access::Write, || format!("argument {} is only written, and loaded", place.arg))?;
            same("loads", arg.dtype, inst.dtype)?;
        }
        InstKind::Prim(prim, args) => {
            let args = args.iter().map(|&r| operand(regs, r)).collect::<Result<Vec<_>, _>>()?;
            ensure(fits(*prim, inst.dtype, &args), || format!("register {}: {prim:?} of {args:?} to {:?}", inst.reg, inst.dtype))?;
        }
        InstKind::Reduce(..) => return Err("a reduction outside of a row".into()),
        InstKind::Store(place, x) => {
            let arg = argument(kernel, loops, place, row)?;
            ensure(written(arg), || format!("argument {} is only read, and stored", place.arg))?;
            return same("stores", operand(regs, *x)?, arg.dtype);
        }
        InstKind::Keep(s, x) => {
            ensure(row, || "a row is kept outside of it".into())?;
            same("keeps", operand(regs, *x)?, slot(*s)?)?;
            kept[*s] = true;
            return Ok(());
        }
        InstKind::Recall(s) => {
            same("recalls", slot(*s)?, inst.dtype)?;
            ensure(row && kept[*s], || format!("scratch row {s} is recalled before it is kept"))?;
        }
    }
    ensure(inst.reg < MOST, || format!("register {}", inst.reg))?;
    regs.insert(inst.reg, inst.dtype);
    Ok(())
}

fn argument<'a>(kernel: &'a Kernel, loops: &Loops, place: &Place, row: bool) -> Result<&'a Arg, String> {
    let arg = kernel.args.get(place.arg).ok_or(format!("there is no argument {}", place.arg))?;
    let (outer, all) = (loops.outer.len(), loops.outer.len() + loops.row.len());
    ensure(place.strides.len() == all, || format!("argument {}: {} strides for {all} loops", place.arg, place.strides.len()))?;
    ensure(place.strides.iter().all(|&s| s <= isize::MAX as usize / 1024), || {
        format!("argument {} has a stride beyond all memory", place.arg)
    })?;
    ensure(row || place.strides[outer..].iter().all(|&s| s == 0), || format!("argument {} moves along the row outside of it", place.arg))?;
    Ok(arg)
}

fn operand(regs: &Registers, reg: Reg) -> Result<ElementType, String> {
    regs.get(&reg).copied().ok_or(format!("register {reg} is used before it is defined"))
}

/// Whether a primitive takes these dtypes.
fn fits(prim: Prim, to: ElementType, args: &[ElementType]) -> bool {
    use ElementType::{Bool, F32, F64, I32};
    let number = |t: ElementType| matches!(t, F32 | F64 | I32);
    match (prim, args) {
        (Prim::Add | Prim::Sub | Prim::Mul, [x, y]) => x == y && *x == to && number(to),
        (Prim::Neg, [x]) => *x == to && number(to),
        (Prim::Div, [x, y]) => x == y && *x == to && is_float(to),
        (Prim::Exp | Prim::Log | Prim::Tanh | Prim::Sqrt | Prim::Rsqrt | Prim::Relu, [x]) => *x == to && is_float(to),
        (Prim::Lt | Prim::Le | Prim::Gt | Prim::Ge | Prim::Eq | Prim::Ne, [x, y]) => x == y && to == Bool,
        (Prim::And | Prim::Or, [x, y]) => *x == Bool && *y == Bool && to == Bool,
        (Prim::Not, [x]) => *x == Bool && to == Bool,
        (Prim::Select, [c, x, y]) => *c == Bool && x == y && *x == to,
        (Prim::Cast, [_]) => true,
        (
            Prim::Add
            | Prim::Sub
            | Prim::Mul
            | Prim::Neg
            | Prim::Div
            | Prim::Exp
            | Prim::Log
            | Prim::Tanh
            | Prim::Sqrt
            | Prim::Rsqrt
            | Prim::Relu
            | Prim::Lt
            | Prim::Le
            | Prim::Gt
            | Prim::Ge
            | Prim::Eq
            | Prim::Ne
            | Prim::And
            | Prim::Or
            | Prim::Not
            | Prim::Select
            | Prim::Cast,
            _,
        ) => false,
    }
}

fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}
