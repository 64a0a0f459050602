//! The verifier of plans. It collects every problem: first of each buffer, kernel and launch alone, then, if these are sound, of the order in
//! which launches use memory. Back ends follow raw pointers because this passed. Whether the plan computes what the program says is not seen
//! from here.
//!
//! | what holds | where |
//! |---|---|
//! | temporaries lie in the arena, aligned; parameters have unique names | `buffers` |
//! | registers are defined before they are used, primitives get the dtypes that they take, places have a stride for each loop | `nest` |
//! | a product writes its result and neither factor, each dimension moves in two operands, the cut fits | `product` |
//! | noise has a buffer, a seed and a step | `noise` |
//! | a launch's buffers have the arguments' dtypes and enough elements; inputs are not written | `launch` |
//! | a temporary or output is read only after it was written, and not after another took its place | `order` |
//! | slices and parts write only what is theirs, and slices read of their own stage only what is theirs | `shares` |
//!
//! Read [`verify`] first.

use std::collections::{HashMap, HashSet};

use crate::kernel::*;

/// Everything that is wrong with `plan`; empty if it is sound.
pub fn verify(plan: &Plan) -> Vec<String> {
    let mut problems: Vec<String> = Vec::new();
    let mut names = HashSet::new();
    problems.extend(plan.buffers.iter().filter_map(|b| buffer(plan, b, &mut names).err()));
    for kernel in &plan.kernels {
        let result = match &kernel.body {
            Body::Loops(loops) => nest(kernel, loops),
            Body::Gemm(gemm) => product(kernel, gemm),
            Body::Normals(normals) => noise(kernel, normals),
        };
        problems.extend(result.err().map(|e| format!("kernel `{}`: {e}", kernel.name)));
    }
    if !problems.is_empty() {
        return problems;
    }
    for (s, stage) in plan.stages.iter().enumerate() {
        for l in &stage.launches {
            let Some(kernel) = plan.kernels.get(l.kernel) else {
                problems.push(format!("stage {s} launches kernel {}, which is none", l.kernel));
                continue;
            };
            problems.extend(launch(plan, stage, kernel, l).err().map(|e| format!("stage {s}, kernel `{}`: {e}", kernel.name)));
        }
    }
    if problems.is_empty() {
        order(plan, &mut problems);
        shares(plan, &mut problems);
    }
    problems
}

fn buffer<'p>(plan: &Plan, buffer: &'p Buffer, names: &mut HashSet<&'p str>) -> Result<(), String> {
    let size = size(buffer.dims.iter().map(|d| d.1)).and_then(|n| n.checked_mul(buffer.dtype.bytes()));
    let bytes = size.filter(|&bytes| bytes <= isize::MAX as usize).ok_or(format!("buffer `{}` is too large", buffer.name))?;
    match buffer.role {
        Role::Temp(offset) => {
            let inside = offset.checked_add(bytes).is_some_and(|end| end <= plan.arena_bytes);
            ensure(inside && offset % 64 == 0, || format!("temporary `{}` at {offset} does not fit the arena", buffer.name))
        }
        Role::State(_) => ensure(names.insert(&buffer.name), || format!("two parameters are called `{}`", buffer.name)),
        Role::Input(i) | Role::Output(i) => ensure(i < 1 << 20, || format!("`{}` has the number {i}", buffer.name)),
    }
}

/// Reads follow writes.
fn order(plan: &Plan, problems: &mut Vec<String>) {
    let mut written: HashSet<BufferId> = HashSet::new();
    for (s, stage) in plan.stages.iter().enumerate() {
        for l in &stage.launches {
            let kernel = &plan.kernels[l.kernel];
            let uses = || l.args.iter().copied().zip(&kernel.args);
            for (b, arg) in uses() {
                let given = match plan.buffers[b].role {
                    Role::Input(_) | Role::State(_) => true,
                    Role::Output(_) | Role::Temp(_) => false,
                };
                if reads(arg) && !given && !written.contains(&b) {
                    let name = &plan.buffers[b].name;
                    problems.push(format!(
                        "stage {s}, kernel `{}`: reads `{name}`, which nothing has written, or another took its place",
                        kernel.name
                    ));
                }
            }
            for (b, _) in uses().filter(|(_, arg)| is_written(arg)) {
                written.retain(|&other| !overlap(plan, other, b));
                written.insert(b);
            }
        }
    }
}

/// Slices and parts keep out of each other's way.
fn shares(plan: &Plan, problems: &mut Vec<String>) {
    for (s, stage) in plan.stages.iter().enumerate() {
        // What this stage's slices write, and how far one example's numbers are from the next's.
        let mut local: HashMap<BufferId, usize> = HashMap::new();
        for l in &stage.launches {
            let kernel = &plan.kernels[l.kernel];
            let cut = cut_size(kernel);
            let several = match &stage.slice {
                Some(slice) => slice.chunk < slice.size,
                None => l.part > 0 && l.part < cut,
            };
            for (arg, (&b, declared)) in l.args.iter().zip(&kernel.args).enumerate() {
                let name = &plan.buffers[b].name;
                if several && is_written(declared) && !plan.buffers[b].is_empty() && !moves(kernel, arg) {
                    problems.push(format!("stage {s}, kernel `{}`: several parts write the same of `{name}`", kernel.name));
                }
                let Some(slice) = &stage.slice else { continue };
                let steps = steps(kernel, arg);
                if let (true, Some(&first)) = (is_written(declared), steps.first()) {
                    local.entry(b).or_insert(own_step(&plan.buffers[b], slice).unwrap_or(first));
                }
                if several && local.get(&b).is_some_and(|own| steps.iter().any(|step| step != own)) {
                    problems.push(format!("stage {s}, kernel `{}`: a slice uses what other slices write of `{name}`", kernel.name));
                }
            }
        }
    }
}

/// From one example's numbers to the next's, where the buffer names them.
fn own_step(buffer: &Buffer, slice: &Slice) -> Option<usize> {
    let at = buffer.dims.iter().position(|d| d.0 == slice.axis && d.1 == slice.size)?;
    Some(buffer.dims[at + 1..].iter().map(|d| d.1).product())
}

/// Whether each step of the cut axis reaches other elements of an argument.
fn moves(kernel: &Kernel, arg: ArgId) -> bool {
    let steps = steps(kernel, arg);
    !steps.is_empty() && steps.iter().all(|&s| s > 0)
}

/// How far one step of the cut axis moves in an argument, for each place where the kernel touches it.
fn steps(kernel: &Kernel, arg: ArgId) -> Vec<usize> {
    match &kernel.body {
        Body::Loops(loops) => {
            let insts = loops.sections.iter().flat_map(|s| match s {
                Section::Once(insts) | Section::Row(insts) => insts,
            });
            let place = |i: &Inst| match &i.kind {
                InstKind::Load(place) | InstKind::Store(place, _) if place.arg == arg => Some(place.strides.first().copied().unwrap_or(0)),
                _ => None,
            };
            match loops.outer.is_empty() {
                true => vec![0],
                false => insts.filter_map(place).collect(),
            }
        }
        Body::Gemm(g) => {
            let step = |a: usize, b: usize, c: usize| [(g.a, a), (g.b, b), (g.c, c)].iter().filter(|s| s.0 == arg).map(|s| s.1).collect();
            match g.cut {
                Cut::Batch(i) => step(g.batch[i].a, g.batch[i].b, g.batch[i].c),
                Cut::M { per } => step(g.m.a * per, 0, g.m.c * per),
                Cut::N { per } => step(0, g.n.b * per, g.n.c * per),
                Cut::None => step(0, 0, 0),
            }
        }
        Body::Normals(n) => match arg {
            // In each direction.
            0 => vec![n.per],
            _ => vec![0],
        },
    }
}

fn launch(plan: &Plan, stage: &Stage, kernel: &Kernel, launch: &Launch) -> Result<(), String> {
    ensure(launch.args.len() == kernel.args.len(), || format!("{} buffers for {} arguments", launch.args.len(), kernel.args.len()))?;
    for (a, (&b, arg)) in launch.args.iter().zip(&kernel.args).enumerate() {
        let buffer = plan.buffers.get(b).ok_or(format!("argument {a} is buffer {b}, which is none"))?;
        let (wants, got) = (name(arg.dtype), name(buffer.dtype));
        let name = &buffer.name;
        ensure(arg.dtype == buffer.dtype, || format!("argument {a} is {wants}, buffer `{name}` is {got}"))?;
        let input = match buffer.role {
            Role::Input(_) => true,
            Role::State(_) | Role::Output(_) | Role::Temp(_) => false,
        };
        ensure(!input || !is_written(arg), || format!("argument {a} is written, `{name}` is an input"))?;
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
pub fn cut_size(kernel: &Kernel) -> usize {
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
pub fn overlap(plan: &Plan, a: BufferId, b: BufferId) -> bool {
    match (plan.buffers[a].role, plan.buffers[b].role) {
        _ if a == b => true,
        (Role::Temp(x), Role::Temp(y)) => x < y + plan.buffers[b].bytes() && y < x + plan.buffers[a].bytes(),
        // A state knows its parameters by name.
        (Role::State(_), Role::State(_)) => plan.buffers[a].name == plan.buffers[b].name,
        (Role::Input(x), Role::Input(y)) | (Role::Output(x), Role::Output(y)) => x == y,
        (Role::Input(_) | Role::State(_) | Role::Output(_) | Role::Temp(_), _) => false,
    }
}

pub fn is_written(arg: &Arg) -> bool {
    match arg.access {
        Access::Read => false,
        Access::Write | Access::ReadWrite => true,
    }
}

fn reads(arg: &Arg) -> bool {
    match arg.access {
        Access::Write => false,
        Access::Read | Access::ReadWrite => true,
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
            0 => n.steps.checked_mul(n.per)?.checked_mul(n.directions),
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
        ensure(arg.dtype == g.dtype, || format!("a product in {} of {}", name(g.dtype), name(arg.dtype)))?;
    }
    ensure(is_float(g.dtype), || format!("a product in {}", name(g.dtype)))?;
    ensure(!is_written(&kernel.args[g.a]) && !is_written(&kernel.args[g.b]) && is_written(&kernel.args[g.c]), || {
        "only c is written".into()
    })?;
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
    let words = dtypes.get(1..).is_some_and(|words| matches!(words.len(), 2 | 3) && words.iter().all(|&t| t == ElementType::I32));
    ensure(dtypes.first() == Some(&n.dtype) && words && is_float(n.dtype), || {
        format!("noise in {} takes a buffer, seed and step, or a row too, got {dtypes:?}", name(n.dtype))
    })?;
    ensure(is_written(&kernel.args[0]) && !kernel.args[1..].iter().any(is_written), || "only the buffer is written".into())
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
                            ensure(x == i.dtype && x != ElementType::Bool, || format!("a reduction to {} of {x:?}", name(i.dtype)))?;
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
        ensure(x == y, || format!("register {}: {what} {} for {}", inst.reg, name(x), name(y)))
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
        InstKind::Draw(_) => return Err("noise inside a nest: it has kernels of its own".into()),
        InstKind::Prim(prim, args) => {
            let args = args.iter().map(|&r| operand(regs, r)).collect::<Result<Vec<_>, _>>()?;
            ensure(fits(*prim, inst.dtype, &args), || format!("register {}: {prim:?} of {args:?} to {:?}", inst.reg, inst.dtype))?;
        }
        InstKind::Reduce(..) => return Err("a reduction outside of a row".into()),
        InstKind::Store(place, x) => {
            let arg = argument(kernel, loops, place, row)?;
            ensure(is_written(arg), || format!("argument {} is only read, and stored", place.arg))?;
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
        (Prim::Exp | Prim::Log | Prim::Tanh | Prim::Erf | Prim::Sqrt | Prim::Rsqrt | Prim::Relu, [x]) => *x == to && is_float(to),
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
            | Prim::Erf
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

/// As in the IR's text.
fn name(dtype: ElementType) -> &'static str {
    pushforward_ir::DType::from(dtype).name()
}

fn ensure(holds: bool, problem: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(problem()) }
}
