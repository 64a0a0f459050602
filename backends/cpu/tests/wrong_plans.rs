//! A wrong plan is an error, never undefined behaviour and never a panic: by name for the common mistakes, at random for the others.

mod support;

use pushforward_cpu::{CpuError, Executable, Options, SliceMut, State};
use pushforward_plan::Plan;
use pushforward_plan::kernel::ElementType::{Bool, F32, F64, I32};
use pushforward_plan::kernel::*;
use support::*;

/// A row kernel, a product and noise, chained.
fn sound() -> Plan {
    let mut b = Build::new("sound");
    let (x, t, n, y) = (b.input(F32, 24), b.temp(F32, 24), b.temp(F32, 24), b.output(F32, 16));
    let (seed, w) = (b.input(I32, 1), b.state("w", F32, 6));
    let insts = vec![
        inst(0, F32, InstKind::Load(place(0, &[6, 1]))),
        inst(1, F32, InstKind::Load(place(1, &[0, 1]))),
        inst(2, F32, InstKind::Prim(Prim::Mul, vec![0, 1])),
        inst(0, F32, InstKind::Keep(0, 2)),
        inst(3, F32, InstKind::Reduce(Reduction::Sum, 2)),
    ];
    let last = vec![
        inst(4, F32, InstKind::Recall(0)),
        inst(5, F32, InstKind::Prim(Prim::Add, vec![4, 3])),
        inst(0, F32, InstKind::Store(place(2, &[6, 1]), 5)),
    ];
    let read = (F32, Access::Read);
    let body = loops(&[4], &[6], Lanes::Row, &[F32], vec![Section::Row(insts), Section::Row(last)]);
    let rows = b.kernel(&[read, read, (F32, Access::Write)], body);
    let noise = Body::Normals(Normals { dtype: F32, steps: 4, per: 6, directions: 1 });
    let noise = b.kernel(&[(F32, Access::Write), (I32, Access::Read), (I32, Access::Read)], noise);
    let dim = |size, a, b, c| GemmDim { axes: String::new(), size, a, b, c };
    let (m, n_dim, k) = (dim(4, 6, 0, 4), dim(4, 0, 6, 1), dim(6, 1, 1, 0));
    let product = Body::Gemm(Gemm { dtype: F32, a: 0, b: 1, c: 2, batch: vec![], m, n: n_dim, k, more_k: vec![], cut: Cut::M { per: 1 } });
    let product = b.kernel(&[read, read, (F32, Access::Write)], product);
    b.launch(rows, &[x, w, t], 2);
    b.launch(noise, &[n, seed, seed], 0);
    b.launch(product, &[t, n, y], 1);
    b.plan
}

fn problem(change: impl FnOnce(&mut Plan)) -> String {
    let mut plan = sound();
    change(&mut plan);
    match Executable::new(plan, &Options { threads: 1 }) {
        Err(CpuError::Plan { problem, .. }) => problem,
        Err(e) => panic!("{e}"),
        Ok(_) => panic!("a wrong plan was taken"),
    }
}

fn rows(plan: &mut Plan) -> &mut Loops {
    match &mut plan.kernels[0].body {
        Body::Loops(loops) => loops,
        Body::Gemm(_) | Body::Normals(_) => unreachable!("the first kernel is a nest"),
    }
}

fn row_inst(plan: &mut Plan, section: usize, i: usize) -> &mut Inst {
    let (Section::Once(insts) | Section::Row(insts)) = &mut rows(plan).sections[section];
    &mut insts[i]
}

#[test]
fn mistakes_are_named() {
    assert_eq!(problem(|p| p.buffers[0].dims[0].1 = 23), "stage 0, kernel `kernel0`: argument 0 reaches 24 elements, `x0` has 23");
    assert_eq!(problem(|p| p.buffers[0].dtype = F64), "stage 0, kernel `kernel0`: argument 0 is f32, buffer `x0` is f64");
    assert_eq!(problem(|p| p.arena_bytes = 64), "temporary `t0` at 0 does not fit the arena");
    assert_eq!(problem(|p| p.stages[0].launches[0].args[2] = 0), "stage 0, kernel `kernel0`: argument 2 is written, `x0` is an input");
    assert_eq!(problem(|p| p.stages[2].launches[0].args[2] = 1), "stage 2, kernel `kernel2`: a product into one of its own factors");
    assert_eq!(problem(|p| row_inst(p, 0, 2).reg = 7), "kernel `kernel0`: register 2 is used before it is defined");
    assert_eq!(problem(|p| row_inst(p, 0, 2).dtype = I32), "kernel `kernel0`: register 2: Mul of [F32, F32] to I32");
    assert_eq!(problem(|p| row_inst(p, 1, 0).kind = InstKind::Recall(3)), "kernel `kernel0`: there is no scratch row 3");
    assert_eq!(problem(|p| rows(p).row.push(Loop { axis: "Q".into(), size: 2 })), "kernel `kernel0`: argument 0: 2 strides for 3 loops");
    assert_eq!(problem(|p| p.stages[1].launches[0].kernel = 9), "stage 1 launches kernel 9, which is none");
    let slice = Slice { axis: "N".into(), size: 3, chunk: 1 };
    assert_eq!(problem(|p| p.stages[0].slice = Some(slice)), "stage 0, kernel `kernel0`: slices along N of 3, the kernel's cut axis has 4");
    let cut = problem(|p| match &mut p.kernels[2].body {
        Body::Gemm(g) => g.cut = Cut::M { per: 3 },
        Body::Loops(_) | Body::Normals(_) => unreachable!("the third kernel is a product"),
    });
    assert_eq!(cut, "kernel `kernel2`: cannot be cut by M { per: 3 }");
}

/// Changes one thing somewhere, by chance.
fn scramble(plan: &mut Plan, mut next: impl FnMut(usize) -> usize) {
    let odd = [0, 1, 2, 3, 5, 7, 25, 1 << 20, usize::MAX][next(9)];
    let dtype = [F32, F64, I32, Bool][next(4)];
    let kernel = next(3);
    match next(16) {
        0 => plan.buffers[next(6)].dims[0].1 = odd,
        1 => plan.buffers[next(6)].dtype = dtype,
        2 => plan.buffers[next(6)].role = [Role::Input(odd), Role::Output(odd), Role::Temp(odd), Role::State(odd)][next(4)],
        3 => plan.arena_bytes = odd.min(1 << 20),
        4 => plan.stages[kernel].launches[0].kernel = odd,
        5 => plan.stages[kernel].launches[0].args[next(3)] = odd,
        6 => plan.stages[kernel].launches[0].part = odd,
        7 => plan.stages[kernel].slice = Some(Slice { axis: "N".into(), size: [4, odd][next(2)], chunk: odd }),
        8 => plan.kernels[kernel].args[next(3)].dtype = dtype,
        9 => plan.kernels[kernel].args[next(3)].access = [Access::Read, Access::Write, Access::ReadWrite][next(3)],
        10 => rows(plan).outer[0].size = odd,
        11 => rows(plan).row[0].size = odd,
        12 => rows(plan).lanes = [Lanes::Row, Lanes::Outer, Lanes::Scalar][next(3)],
        13 => {
            let inst = row_inst(plan, 0, next(5));
            match next(2) {
                0 => inst.reg = odd as Reg,
                _ => inst.dtype = dtype,
            }
        }
        14 => {
            let inst = row_inst(plan, 1, next(3));
            match &mut inst.kind {
                InstKind::Store(place, reg) => match next(3) {
                    0 => *reg = odd as Reg,
                    1 => place.arg = odd,
                    _ => place.strides[next(2)] = odd,
                },
                InstKind::Prim(prim, args) => match next(2) {
                    0 => *prim = [Prim::Select, Prim::Exp, Prim::And, Prim::Cast][next(4)],
                    _ => args[0] = odd as Reg,
                },
                InstKind::Recall(slot) => *slot = odd,
                _ => unreachable!("nothing else is there"),
            }
        }
        _ => match &mut plan.kernels[1 + next(2)].body {
            Body::Gemm(g) => match next(6) {
                0 => g.m.size = odd,
                1 => g.k.b = odd,
                2 => g.n.c = odd,
                3 => g.cut = [Cut::M { per: odd }, Cut::N { per: odd }, Cut::Batch(odd), Cut::None][next(4)],
                4 => g.more_k.push(GemmLoop { axis: "Q".into(), size: odd, a: 1, b: 0, c: next(2) }),
                _ => g.c = odd,
            },
            Body::Normals(n) => match next(3) {
                0 => n.steps = odd,
                1 => n.per = odd,
                _ => n.directions = odd,
            },
            Body::Loops(_) => unreachable!("the first kernel alone is a nest"),
        },
    }
}

#[test]
fn chance_finds_no_hole() {
    let mut bits = random(11, 1 << 20);
    let mut next = |n: usize| bits.next().expect("enough") as usize % n;
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..1500 {
        let mut plan = sound();
        for _ in 0..1 + next(2) {
            let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut plan = plan.clone();
                scramble(&mut plan, &mut next);
                plan
            }));
            plan = changed.expect("scrambling itself is sound");
        }
        let mut exe = match Executable::new(plan.clone(), &Options { threads: 1 }) {
            Ok(exe) => exe,
            Err(CpuError::Plan { .. } | CpuError::Memory { .. }) => {
                refused += 1;
                continue;
            }
            Err(e) => panic!("{e}"),
        };
        taken += 1;
        let Ok(mut state) = State::new(&plan) else { continue };
        if exe.inputs().count() > 100 || plan.buffers.iter().any(|b| b.len() > 1 << 24) {
            continue;
        }
        let numbers: Vec<(ElementType, usize)> = exe.inputs().map(|b| b.map_or((F32, 0), |b| (b.dtype, b.len()))).collect();
        let mut out: Vec<(ElementType, usize)> = exe.outputs().map(|b| (b.dtype, b.len())).collect();
        let inputs: Vec<Owned> = numbers.iter().map(|&(t, n)| Owned::new(t, n)).collect();
        let mut outputs: Vec<Owned> = out.drain(..).map(|(t, n)| Owned::new(t, n)).collect();
        let inputs: Vec<_> = inputs.iter().map(Owned::slice).collect();
        let mut outputs: Vec<SliceMut<'_>> = outputs.iter_mut().map(Owned::slice_mut).collect();
        let _ = exe.run(&mut state, &inputs, &mut outputs);
    }
    println!("{taken} taken, {refused} refused");
    assert!(taken > 100 && refused > 100, "{taken} taken, {refused} refused");
}
