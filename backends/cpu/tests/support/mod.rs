//! For the tests of this crate: plans written by hand and a scalar interpreter of plans, as simple as can be. Read [`interpret`].
#![allow(dead_code, reason = "each test file uses its part")]

use pushforward_cpu::{Executable, Options, SliceMut, State};
use pushforward_ir::philox::{self, Domain};
use pushforward_plan::Plan;
use pushforward_plan::device::run;
pub use pushforward_plan::device::run::round;
use pushforward_plan::kernel::*;

/// One kernel's nest, the loops' sizes given.
pub fn loops(outer: &[usize], row: &[usize], lanes: Lanes, scratch: &[ElementType], sections: Vec<Section>) -> Body {
    let named = |prefix: &str, sizes: &[usize]| {
        sizes.iter().enumerate().map(|(i, &size)| Loop { axis: format!("{prefix}{i}"), size }).collect::<Vec<_>>()
    };
    let scratch = scratch.iter().map(|&dtype| Scratch { dtype }).collect();
    Body::Loops(Loops { outer: named("A", outer), row: named("R", row), lanes, scratch, sections })
}

pub fn inst(reg: Reg, dtype: ElementType, kind: InstKind) -> Inst {
    Inst { reg, dtype, kind }
}

pub fn place(arg: ArgId, strides: &[usize]) -> Place {
    Place { arg, strides: strides.to_vec() }
}

/// A plan under construction: every launch is a stage.
pub struct Build {
    pub plan: Plan,
}

impl Build {
    pub fn new(name: &str) -> Build {
        Build { plan: Plan { name: name.into(), buffers: vec![], kernels: vec![], stages: vec![], arena_bytes: 0 } }
    }

    fn count(&self, f: impl Fn(Role) -> bool) -> usize {
        self.plan.buffers.iter().filter(|b| f(b.role)).count()
    }

    pub fn buffer(&mut self, name: &str, dtype: ElementType, len: usize, role: Role) -> BufferId {
        let dims = vec![("E".to_string(), len)];
        self.plan.buffers.push(Buffer { name: name.into(), dtype, dims, role, live: (0, usize::MAX) });
        self.plan.buffers.len() - 1
    }

    pub fn input(&mut self, dtype: ElementType, len: usize) -> BufferId {
        let i = self.count(|r| matches!(r, Role::Input(_)));
        self.buffer(&format!("x{i}"), dtype, len, Role::Input(i))
    }

    pub fn output(&mut self, dtype: ElementType, len: usize) -> BufferId {
        let i = self.count(|r| matches!(r, Role::Output(_)));
        self.buffer(&format!("y{i}"), dtype, len, Role::Output(i))
    }

    pub fn state(&mut self, name: &str, dtype: ElementType, len: usize) -> BufferId {
        let i = self.count(|r| matches!(r, Role::State(_)));
        self.buffer(name, dtype, len, Role::State(i))
    }

    pub fn temp(&mut self, dtype: ElementType, len: usize) -> BufferId {
        let offset = self.plan.arena_bytes;
        self.plan.arena_bytes += (len * dtype.bytes()).next_multiple_of(64);
        self.buffer(&format!("t{offset}"), dtype, len, Role::Temp(offset))
    }

    pub fn kernel(&mut self, args: &[(ElementType, Access)], body: Body) -> usize {
        let args = args.iter().map(|&(dtype, access)| Arg { dtype, access }).collect();
        let name = format!("kernel{}", self.plan.kernels.len());
        self.plan.kernels.push(Kernel { name, about: String::new(), args, body });
        self.plan.kernels.len() - 1
    }

    pub fn launch(&mut self, kernel: usize, args: &[BufferId], part: usize) {
        let launch = Launch { kernel, args: args.to_vec(), stream: 3, part };
        self.plan.stages.push(Stage { slice: None, launches: vec![launch] });
    }
}

/// Numbers of a buffer, whatever their dtype: all of them fit.
pub type Numbers = Vec<f64>;

pub fn random(seed: u32, len: usize) -> impl Iterator<Item = u32> {
    (0..len as u64).map(move |e| philox::normals4(seed, Domain::Data, 0, 0, 0, e)[0])
}

/// Numbers of a dtype, special ones among them.
pub fn numbers(dtype: ElementType, len: usize, seed: u32) -> Numbers {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        1e-40,
        -1e-45,
        f32::MIN_POSITIVE as f64,
        3e38,
        -3e38,
        2147483648.0,
        -2147483649.0,
        0.625,
        88.8,
        -103.9,
        16777217.0,
    ];
    random(seed, len)
        .map(|bits| {
            let unit = (bits >> 8) as f64 / (1 << 24) as f64;
            let float = if bits % 3 == 0 { special[bits as usize / 3 % special.len()] } else { (unit - 0.5) * 12.0 };
            match dtype {
                ElementType::F32 => float as f32 as f64,
                ElementType::F64 => float,
                ElementType::I32 => [bits as i32, (bits % 7) as i32 - 3, i32::MIN, i32::MAX][bits as usize / 64 % 4] as f64,
                ElementType::Bool => (bits / 4 % 2) as f64,
            }
        })
        .collect()
}

/// Numbers of moderate size, for sums.
pub fn tame(dtype: ElementType, len: usize, seed: u32) -> Numbers {
    random(seed, len)
        .map(|bits| {
            let x = (bits >> 8) as f64 / (1 << 23) as f64 - 1.0;
            match dtype {
                ElementType::F32 => x as f32 as f64,
                ElementType::F64 => x,
                ElementType::I32 => (x * 1e9).trunc(),
                ElementType::Bool => (bits / 4 % 2) as f64,
            }
        })
        .collect()
}

/// A tensor of the caller's.
pub enum Owned {
    F32(Vec<f32>),
    F64(Vec<f64>),
    I32(Vec<i32>),
    Bool(Vec<u8>),
}

fn typed(dtype: ElementType, x: &[f64]) -> Owned {
    match dtype {
        ElementType::F32 => Owned::F32(x.iter().map(|&x| x as f32).collect()),
        ElementType::F64 => Owned::F64(x.to_vec()),
        ElementType::I32 => Owned::I32(x.iter().map(|&x| x as i32).collect()),
        ElementType::Bool => Owned::Bool(x.iter().map(|&x| x as u8).collect()),
    }
}

impl Owned {
    pub fn new(dtype: ElementType, len: usize) -> Owned {
        typed(dtype, &vec![0.0; len])
    }

    pub fn slice(&self) -> pushforward_cpu::Slice<'_> {
        match self {
            Owned::F32(x) => pushforward_cpu::Slice::F32(x),
            Owned::F64(x) => pushforward_cpu::Slice::F64(x),
            Owned::I32(x) => pushforward_cpu::Slice::I32(x),
            Owned::Bool(x) => pushforward_cpu::Slice::Bool(x),
        }
    }

    pub fn slice_mut(&mut self) -> SliceMut<'_> {
        match self {
            Owned::F32(x) => SliceMut::F32(x),
            Owned::F64(x) => SliceMut::F64(x),
            Owned::I32(x) => SliceMut::I32(x),
            Owned::Bool(x) => SliceMut::Bool(x),
        }
    }

    fn numbers(&self) -> Numbers {
        match self {
            Owned::F32(x) => x.iter().map(|&x| x as f64).collect(),
            Owned::F64(x) => x.clone(),
            Owned::I32(x) => x.iter().map(|&x| x as f64).collect(),
            Owned::Bool(x) => x.iter().map(|&x| x as f64).collect(),
        }
    }
}

/// What outputs hold before a run: numbers that would be noticed.
pub const BEFORE: f64 = 77.0;

/// Runs the plan with `threads` threads. `state` goes in and comes out.
pub fn run(plan: &Plan, inputs: &[Numbers], states: &mut [Numbers], threads: usize) -> Vec<Numbers> {
    let mut exe = Executable::new(plan.clone(), &Options { threads }).unwrap_or_else(|e| panic!("{e}"));
    let mut state = State::new(plan).expect("memory");
    let buffers = |wanted: fn(Role) -> Option<usize>| {
        let mut found: Vec<(usize, &Buffer)> = plan.buffers.iter().filter_map(|b| Some((wanted(b.role)?, b))).collect();
        found.sort_by_key(|f| f.0);
        found.into_iter().map(|f| f.1).collect::<Vec<_>>()
    };
    let state_buffers = buffers(|r| if let Role::State(i) = r { Some(i) } else { None });
    for (b, x) in state_buffers.iter().zip(states.iter()) {
        state.set(&b.name, typed(b.dtype, x).slice()).expect("a parameter");
    }
    let given: Vec<Owned> =
        buffers(|r| if let Role::Input(i) = r { Some(i) } else { None }).iter().zip(inputs).map(|(b, x)| typed(b.dtype, x)).collect();
    let mut out: Vec<Owned> = buffers(|r| if let Role::Output(i) = r { Some(i) } else { None })
        .iter()
        .map(|b| typed(b.dtype, &vec![if b.dtype == ElementType::Bool { 0.0 } else { BEFORE }; b.len()]))
        .collect();
    let given: Vec<pushforward_cpu::Slice<'_>> = given.iter().map(Owned::slice).collect();
    let mut lent: Vec<SliceMut<'_>> = out.iter_mut().map(Owned::slice_mut).collect();
    exe.run(&mut state, &given, &mut lent).unwrap_or_else(|e| panic!("{e}"));
    for (b, x) in state_buffers.iter().zip(states) {
        *x = match state.get(&b.name).expect("a parameter") {
            pushforward_cpu::Slice::F32(x) => x.iter().map(|&x| x as f64).collect(),
            pushforward_cpu::Slice::F64(x) => x.to_vec(),
            pushforward_cpu::Slice::I32(x) => x.iter().map(|&x| x as f64).collect(),
            pushforward_cpu::Slice::Bool(x) => x.iter().map(|&x| x as f64).collect(),
        };
    }
    out.iter().map(Owned::numbers).collect()
}

/// The same by the interpreter.
pub fn interpret(plan: &Plan, inputs: &[Numbers], states: &mut [Numbers]) -> Vec<Numbers> {
    let mut memory: Vec<Numbers> = plan
        .buffers
        .iter()
        .map(|b| match b.role {
            Role::Input(i) => inputs[i].clone(),
            Role::State(i) => states[i].clone(),
            Role::Output(_) | Role::Temp(_) => vec![if b.dtype == ElementType::Bool { 0.0 } else { BEFORE }; b.len()],
        })
        .collect();
    for launch in plan.stages.iter().flat_map(|s| &s.launches) {
        let kernel = &plan.kernels[launch.kernel];
        match &kernel.body {
            Body::Loops(loops) => nest(loops, &kernel.args, &launch.args, &mut memory),
            Body::Gemm(gemm) => product(gemm, &launch.args, &mut memory),
            Body::Normals(normals) => noise(normals, launch, &mut memory),
        }
    }
    let mut outputs: Vec<(usize, Numbers)> = Vec::new();
    for (b, x) in plan.buffers.iter().zip(memory) {
        match b.role {
            Role::Output(i) => outputs.push((i, x)),
            Role::State(i) => states[i] = x,
            Role::Input(_) | Role::Temp(_) => {}
        }
    }
    outputs.sort_by_key(|o| o.0);
    outputs.into_iter().map(|o| o.1).collect()
}

fn nest(loops: &Loops, args: &[Arg], buffers: &[BufferId], memory: &mut [Numbers]) {
    let sizes = |loops: &[Loop]| loops.iter().map(|l| l.size).collect::<Vec<_>>();
    let row: Vec<Vec<usize>> = indices(&sizes(&loops.row));
    for outer in indices(&sizes(&loops.outer)) {
        let mut once: std::collections::HashMap<Reg, (ElementType, f64)> = Default::default();
        let mut kept = vec![vec![f64::NAN; row.len()]; loops.scratch.len()];
        for section in &loops.sections {
            let (insts, points) = match section {
                Section::Once(insts) => (insts, vec![vec![0; loops.row.len()]]),
                Section::Row(insts) => (insts, row.clone()),
            };
            let mut regs = once.clone();
            let mut reduced: std::collections::HashMap<Reg, (ElementType, f64)> = Default::default();
            for inst in insts {
                if let InstKind::Reduce(r, _) = inst.kind {
                    let first = match (r, inst.dtype) {
                        (Reduction::Sum, _) => 0.0,
                        (Reduction::Max, ElementType::I32) => i32::MIN as f64,
                        (Reduction::Max, _) => f64::NEG_INFINITY,
                    };
                    reduced.insert(inst.reg, (inst.dtype, first));
                }
            }
            for (p, point) in points.iter().enumerate() {
                let index: Vec<usize> = outer.iter().chain(point).copied().collect();
                let at = |place: &Place| place.strides.iter().zip(&index).map(|(s, i)| s * i).sum::<usize>();
                for inst in insts {
                    let value = match &inst.kind {
                        InstKind::Const(x) => round(*x, inst.dtype),
                        InstKind::Index(l) => index[*l] as f64,
                        InstKind::Load(place) => memory[buffers[place.arg]][at(place)],
                        InstKind::Prim(prim, operands) => {
                            let x: Vec<(ElementType, f64)> = operands.iter().map(|r| regs[r]).collect();
                            scalar(*prim, inst.dtype, &x)
                        }
                        InstKind::Reduce(reduction, reg) => {
                            let (x, sum) = (regs[reg].1, &mut reduced.get_mut(&inst.reg).expect("started").1);
                            *sum = match (reduction, inst.dtype) {
                                (Reduction::Sum, ElementType::I32) => (*sum as i32).wrapping_add(x as i32) as f64,
                                (Reduction::Sum, _) => *sum + x,
                                (Reduction::Max, _) if sum.is_nan() || *sum >= x => *sum,
                                (Reduction::Max, _) => x,
                            };
                            continue;
                        }
                        InstKind::Store(place, reg) => {
                            memory[buffers[place.arg]][at(place)] = round(regs[reg].1, args[place.arg].dtype);
                            continue;
                        }
                        InstKind::Keep(slot, reg) => {
                            kept[*slot][p] = regs[reg].1;
                            continue;
                        }
                        InstKind::Recall(slot) => kept[*slot][p],
                        InstKind::Draw(_) => unreachable!("verified: noise has kernels of its own"),
                    };
                    regs.insert(inst.reg, (inst.dtype, value));
                }
            }
            match section {
                Section::Once(_) => once = regs,
                Section::Row(_) => once.extend(reduced.into_iter().map(|(r, (t, x))| (r, (t, round(x, t))))),
            }
        }
    }
}

/// All index tuples, the last one fastest.
pub fn indices(sizes: &[usize]) -> Vec<Vec<usize>> {
    sizes.iter().fold(vec![vec![]], |all, &size| {
        all.iter().flat_map(|index| (0..size).map(move |i| index.iter().copied().chain([i]).collect())).collect()
    })
}

/// One primitive on numbers with their dtypes, as the plans' oracle has it.
pub fn scalar(prim: Prim, dtype: ElementType, x: &[(ElementType, f64)]) -> f64 {
    let from = x.last().expect("primitives have operands").0;
    run::scalar(prim, from, dtype, &x.iter().map(|x| x.1).collect::<Vec<_>>())
}

fn product(g: &Gemm, buffers: &[BufferId], memory: &mut [Numbers]) {
    let sizes = |loops: &[GemmLoop]| indices(&loops.iter().map(|l| l.size).collect::<Vec<_>>());
    let offset =
        |loops: &[GemmLoop], index: &[usize], f: fn(&GemmLoop) -> usize| -> usize { loops.iter().zip(index).map(|(l, i)| f(l) * i).sum() };
    for batch in sizes(&g.batch) {
        let [a0, b0, c0] = [|l: &GemmLoop| l.a, |l: &GemmLoop| l.b, |l: &GemmLoop| l.c].map(|f| offset(&g.batch, &batch, f));
        for (i, j) in indices(&[g.m.size, g.n.size]).into_iter().map(|ij| (ij[0], ij[1])) {
            let mut sum = 0.0;
            for more in sizes(&g.more_k) {
                let (a1, b1) = (offset(&g.more_k, &more, |l| l.a), offset(&g.more_k, &more, |l| l.b));
                for k in 0..g.k.size {
                    sum += memory[buffers[g.a]][a0 + a1 + i * g.m.a + k * g.k.a] * memory[buffers[g.b]][b0 + b1 + j * g.n.b + k * g.k.b];
                }
            }
            memory[buffers[g.c]][c0 + i * g.m.c + j * g.n.c] = round(sum, g.dtype);
        }
    }
}

/// Element by element, from the definition.
fn noise(n: &Normals, launch: &Launch, memory: &mut [Numbers]) {
    let (seed, step) = (memory[launch.args[1]][0] as i32 as u32, memory[launch.args[2]][0] as i32 as u32);
    let each = n.steps * n.per;
    for direction in 0..n.directions {
        for e in 0..each {
            let bits = philox::normals4(seed, Domain::Noise, launch.stream, direction as u32, step, e as u64 / 4);
            let pair = e % 4 / 2 * 2;
            let number = match n.dtype {
                ElementType::F32 => {
                    let (x, y) = philox::box_muller_f32(bits[pair], bits[pair + 1]);
                    if e % 2 == 0 { x as f64 } else { y as f64 }
                }
                _ => {
                    let (x, y) = philox::box_muller_f64(bits[pair], bits[pair + 1]);
                    if e % 2 == 0 { x } else { y }
                }
            };
            memory[launch.args[0]][direction * each + e] = number;
        }
    }
}

/// The same numbers: equal bits, or both NaN.
pub fn same(x: f64, y: f64) -> bool {
    x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan()
}

/// The same numbers to `relative` of the larger one.
pub fn near(x: f64, y: f64, relative: f64) -> bool {
    same(x, y) || x == y || (x - y).abs() <= relative * x.abs().max(y.abs()) + 2e-45
}
