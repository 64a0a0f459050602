//! Measures compiled kernels on one thread: `cargo run --release -p pushforward-cpu --example speed`. It checks nothing.
//! A layer norm with its tangent and a ReLU mask, one pass over primal and tangent rows; exp, log and tanh; what compiling costs; the GEMM peak.

use std::time::Instant;

use pushforward_cpu::{Executable, Options, Pool, Slice, SliceMut, State, peak};
use pushforward_plan::Plan;
use pushforward_plan::kernel::ElementType::{Bool, F32, I32};
use pushforward_plan::kernel::*;

fn main() {
    for row in [512, 64, 32, 10] {
        let rows = (32 * 1024) / row;
        let (seconds, text) = time(norm(rows, row), rows * row);
        println!("norm with tangent, {rows:5} rows of {row:3}: {:6.1} GB/s   {text}", (4 * 4 * rows * row) as f64 / seconds / 1e9);
    }
    for (name, prim) in [("exp", Prim::Exp), ("log", Prim::Log), ("tanh", Prim::Tanh), ("relu", Prim::Relu)] {
        let size = 16 * 1024;
        let (seconds, text) = time(map(prim, size), size);
        println!("{name:4}: {:5.2} elements/ns   {text}", size as f64 / seconds / 1e9);
    }
    let size = 64 * 1024;
    println!("noise: {:.2} normals/ns", size as f64 / time(noise(size), size).0 / 1e9);
    for threads in [1, 2] {
        let mut many = norm(8, 100);
        many.kernels = (101..151).flat_map(|row| norm(8, row).kernels).collect();
        many.stages.clear();
        let start = Instant::now();
        let exe = Executable::new(many, &Options { threads }).expect("a sound plan");
        println!("{} norms compiled by {threads} threads: {:.1} ms", exe.compiled().len(), start.elapsed().as_secs_f64() * 1e3);
    }
    for (rows, columns) in [(64, 512), (8192, 512), (8192, 32), (131072, 10)] {
        let (seconds, text) = time(columns_sum(rows, columns), rows * columns);
        println!("sum over {rows} rows of {columns}: {:.1} GB/s   {text}", (4 * rows * columns) as f64 / seconds / 1e9);
    }
    for (rows, groups, k, n) in [(8192, 16, 32, 32), (8192, 64, 8, 8), (2048, 1, 512, 512), (8192, 1, 512, 10), (128, 64, 64, 64)] {
        let (seconds, _) = time(grouped(rows, groups, k, n), rows * groups * k.max(n));
        let flop = (2 * rows * groups * k * n) as f64;
        println!("{groups:2} groups of {rows}x{k}x{n}: {:6.1} GFLOP/s", flop / seconds / 1e9);
    }
    for threads in [1, 2] {
        let mut plan = map(Prim::Relu, 64);
        let stage = plan.stages[0].clone();
        plan.stages.resize(100, stage);
        let (seconds, _) = time_on(threads, plan, 64);
        println!("a stage of next to no work, {threads} threads: {:.2} us", seconds * 1e6 / 100.0);
        let peak = Pool::new(threads).and_then(|pool| peak::gemm_gflops(&pool, 30));
        println!("gemm peak, {threads} threads: {:.0} GFLOP/s", peak.expect("threads and memory"));
    }
}

/// Seconds of the best of many runs on tensors of `size` elements.
fn time(plan: Plan, size: usize) -> (f64, String) {
    time_on(1, plan, size)
}

fn time_on(threads: usize, plan: Plan, size: usize) -> (f64, String) {
    let mut exe = Executable::new(plan, &Options { threads }).expect("a sound plan");
    let mut state = State::new(exe.plan()).expect("memory");
    let x: Vec<f32> = (0..size).map(|i| (i * 2654435761 % 1000) as f32 / 500.0 - 1.0).collect();
    let (mut y, mut dy) = (vec![0.0f32; size], vec![0.0f32; size]);
    let inputs = vec![Slice::F32(&x); exe.inputs().count()];
    let mut outputs = vec![SliceMut::F32(&mut y), SliceMut::F32(&mut dy)];
    outputs.truncate(exe.outputs().count());
    let mut best = f64::INFINITY;
    let begin = Instant::now();
    while begin.elapsed().as_secs_f64() < 0.3 {
        let start = Instant::now();
        exe.run(&mut state, &inputs, &mut outputs).expect("tensors that fit");
        best = best.min(start.elapsed().as_secs_f64());
    }
    let text = exe.compiled().iter().map(|c| format!("compiled in {:.2} ms, {} bytes", c.time.as_secs_f64() * 1e3, c.bytes)).collect();
    (best, text)
}

/// A plan of one nest. `tensors`: how many inputs and outputs; `sizes`: of the outer loop and of the row, 0 for none.
fn plan(tensors: (usize, usize), size: usize, sizes: (usize, usize), lanes: Lanes, scratch: usize, sections: Vec<Section>) -> Plan {
    let ((inputs, outputs), (outer, row)) = (tensors, sizes);
    let buffer = |name: String, role| Buffer { name, dtype: F32, dims: vec![("E".into(), size)], role, live: (0, 0) };
    let mut buffers: Vec<Buffer> = (0..inputs).map(|i| buffer(format!("x{i}"), Role::Input(i))).collect();
    buffers.extend((0..outputs).map(|i| buffer(format!("y{i}"), Role::Output(i))));
    let access = |i| if i < inputs { Access::Read } else { Access::Write };
    let args = (0..buffers.len()).map(|i| Arg { dtype: F32, access: access(i) }).collect();
    let named = |axis: &str, size| Loop { axis: axis.into(), size };
    let row = if row > 0 { vec![named("D", row)] } else { vec![] };
    let body = Body::Loops(Loops { outer: vec![named("N", outer)], row, lanes, scratch: vec![Scratch { dtype: F32 }; scratch], sections });
    let kernels = vec![Kernel { name: "measured".into(), about: String::new(), args, body }];
    let launch = Launch { kernel: 0, args: (0..buffers.len()).collect(), stream: 0, part: 0 };
    Plan { name: "measured".into(), buffers, kernels, stages: vec![Stage { slice: None, launches: vec![launch] }], arena_bytes: 0 }
}

fn inst(reg: Reg, kind: InstKind) -> Inst {
    Inst { reg, dtype: F32, kind }
}

fn prim(reg: Reg, prim: Prim, args: &[Reg]) -> Inst {
    inst(reg, InstKind::Prim(prim, args.to_vec()))
}

/// y = relu(norm(x)), dy = its tangent along dx where y > 0.
fn norm(rows: usize, row: usize) -> Plan {
    let place = |arg| Place { arg, strides: vec![row, 1] };
    let load = |reg, arg| inst(reg, InstKind::Load(place(arg)));
    let sum = |reg, x| inst(reg, InstKind::Reduce(Reduction::Sum, x));
    let sections = vec![
        Section::Row(vec![load(0, 0), sum(1, 0), load(2, 1), sum(3, 2)]),
        Section::Once(vec![
            inst(4, InstKind::Const(1.0 / row as f64)),
            inst(5, InstKind::Const(1e-5)),
            inst(6, InstKind::Const(0.0)),
            prim(7, Prim::Mul, &[1, 4]),
            prim(8, Prim::Mul, &[3, 4]),
        ]),
        Section::Row(vec![
            load(9, 0),
            load(10, 1),
            prim(11, Prim::Sub, &[9, 7]),
            prim(12, Prim::Sub, &[10, 8]),
            inst(0, InstKind::Keep(0, 11)),
            inst(0, InstKind::Keep(1, 12)),
            prim(13, Prim::Mul, &[11, 11]),
            prim(14, Prim::Mul, &[11, 12]),
            sum(15, 13),
            sum(16, 14),
        ]),
        Section::Once(vec![
            prim(17, Prim::Mul, &[15, 4]),
            prim(18, Prim::Add, &[17, 5]),
            prim(19, Prim::Rsqrt, &[18]),
            prim(20, Prim::Mul, &[16, 4]),
            prim(21, Prim::Mul, &[19, 19]),
            prim(22, Prim::Mul, &[20, 21]),
        ]),
        Section::Row(vec![
            inst(23, InstKind::Recall(0)),
            inst(24, InstKind::Recall(1)),
            prim(25, Prim::Mul, &[23, 19]),
            prim(26, Prim::Mul, &[23, 22]),
            prim(27, Prim::Sub, &[24, 26]),
            prim(28, Prim::Mul, &[27, 19]),
            Inst { reg: 29, dtype: Bool, kind: InstKind::Prim(Prim::Gt, vec![25, 6]) },
            prim(30, Prim::Select, &[29, 25, 6]),
            prim(31, Prim::Select, &[29, 28, 6]),
            inst(0, InstKind::Store(place(2), 30)),
            inst(0, InstKind::Store(place(3), 31)),
        ]),
    ];
    plan((2, 2), rows * row, (rows, row), Lanes::Row, 2, sections)
}

/// `y[rows, groups, n] = x[rows, groups, k] * w[groups, k, n]`.
fn grouped(rows: usize, groups: usize, k: usize, n: usize) -> Plan {
    let size = rows * groups * k.max(n);
    let mut plan = plan((2, 1), size, (1, 0), Lanes::Outer, 0, vec![]);
    let dim = |size, a, b, c| GemmDim { axes: String::new(), size, a, b, c };
    plan.kernels[0].body = Body::Gemm(Gemm {
        dtype: F32,
        a: 0,
        b: 1,
        c: 2,
        batch: vec![GemmLoop { axis: "G".into(), size: groups, a: k, b: k * n, c: n }],
        m: dim(rows, groups * k, 0, groups * n),
        n: dim(n, 0, 1, 1),
        k: dim(k, 1, n, 0),
        more_k: vec![],
        cut: Cut::None,
    });
    plan
}

/// `y[columns] = sum over rows of x[rows, columns]`.
fn columns_sum(rows: usize, columns: usize) -> Plan {
    let sections = vec![
        Section::Row(vec![
            inst(0, InstKind::Load(Place { arg: 0, strides: vec![1, columns] })),
            inst(1, InstKind::Reduce(Reduction::Sum, 0)),
        ]),
        Section::Once(vec![inst(0, InstKind::Store(Place { arg: 1, strides: vec![1, 0] }, 1))]),
    ];
    plan((1, 1), rows * columns, (columns, rows), Lanes::Outer, 0, sections)
}

fn noise(size: usize) -> Plan {
    let mut plan = plan((0, 1), size, (1, 0), Lanes::Outer, 0, vec![]);
    let scalar = |name: &str, i| Buffer { name: name.into(), dtype: I32, dims: vec![], role: Role::State(i), live: (0, 0) };
    plan.buffers.extend([scalar("seed", 0), scalar("step", 1)]);
    plan.kernels[0].args.extend([Arg { dtype: I32, access: Access::Read }, Arg { dtype: I32, access: Access::Read }]);
    plan.kernels[0].body = Body::Normals(Normals { dtype: F32, steps: 1, per: size, directions: 1 });
    plan.stages[0].launches[0].args.extend([1, 2]);
    plan
}

fn map(p: Prim, size: usize) -> Plan {
    let place = |arg| Place { arg, strides: vec![1] };
    let insts = vec![inst(0, InstKind::Load(place(0))), prim(1, p, &[0]), inst(0, InstKind::Store(place(1), 1))];
    plan((1, 1), size, (size, 0), Lanes::Outer, 0, vec![Section::Once(insts)])
}
