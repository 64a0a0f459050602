//! Every primitive, on every dtype, along every kind of lanes, in every pattern of strides, at odd sizes: against the interpreter.

mod support;

use pushforward_plan::kernel::ElementType::{Bool, F32, F64, I32};
use pushforward_plan::kernel::*;
use support::*;

const PRIMS: [Prim; 23] = [
    Prim::Add,
    Prim::Sub,
    Prim::Mul,
    Prim::Neg,
    Prim::Div,
    Prim::Exp,
    Prim::Log,
    Prim::Tanh,
    Prim::Erf,
    Prim::Sqrt,
    Prim::Rsqrt,
    Prim::Relu,
    Prim::Lt,
    Prim::Le,
    Prim::Gt,
    Prim::Ge,
    Prim::Eq,
    Prim::Ne,
    Prim::And,
    Prim::Or,
    Prim::Not,
    Prim::Select,
    Prim::Cast,
];

/// Signatures to test, result first, and the place in [`PRIMS`]. A new primitive does not compile until it stands here.
fn signatures(prim: Prim) -> (usize, Vec<Vec<ElementType>>) {
    let same = |arity: usize, dtypes: &[ElementType]| dtypes.iter().map(|&t| vec![t; arity + 1]).collect::<Vec<_>>();
    let compare = || vec![vec![Bool, F32, F32], vec![Bool, F64, F64], vec![Bool, I32, I32], vec![Bool, Bool, Bool]];
    let (numbers, floats) = (&[F32, F64, I32], &[F32, F64]);
    match prim {
        Prim::Add => (0, same(2, numbers)),
        Prim::Sub => (1, same(2, numbers)),
        Prim::Mul => (2, same(2, numbers)),
        Prim::Neg => (3, same(1, numbers)),
        Prim::Div => (4, same(2, floats)),
        Prim::Exp => (5, same(1, floats)),
        Prim::Log => (6, same(1, floats)),
        Prim::Tanh => (7, same(1, floats)),
        Prim::Erf => (8, same(1, floats)),
        Prim::Sqrt => (9, same(1, floats)),
        Prim::Rsqrt => (10, same(1, floats)),
        Prim::Relu => (11, same(1, floats)),
        Prim::Lt => (12, compare()),
        Prim::Le => (13, compare()),
        Prim::Gt => (14, compare()),
        Prim::Ge => (15, compare()),
        Prim::Eq => (16, compare()),
        Prim::Ne => (17, compare()),
        Prim::And => (18, same(2, &[Bool])),
        Prim::Or => (19, same(2, &[Bool])),
        Prim::Not => (20, same(1, &[Bool])),
        Prim::Select => (21, [F32, F64, I32, Bool].iter().map(|&t| vec![t, Bool, t, t]).collect()),
        Prim::Cast => {
            let all = [F32, F64, I32, Bool];
            (22, all.iter().flat_map(|&to| all.map(|from| vec![to, from])).collect())
        }
    }
}

#[test]
fn every_primitive_has_a_case() {
    for (i, &prim) in PRIMS.iter().enumerate() {
        let (place, cases) = signatures(prim);
        assert_eq!(place, i, "{prim:?} stands elsewhere in PRIMS");
        assert!(!cases.is_empty(), "{prim:?} has no case");
    }
}

/// A nest to compute elementwise in: outer sizes, row sizes, lanes.
fn shapes(size: usize) -> Vec<(Vec<usize>, Vec<usize>, Lanes)> {
    vec![
        (vec![size], vec![], Lanes::Outer),
        (vec![3, size], vec![], Lanes::Outer),
        (vec![2, size], vec![3], Lanes::Outer),
        (vec![3], vec![size], Lanes::Row),
        (vec![2], vec![2, size], Lanes::Row),
        (vec![], vec![size], Lanes::Row),
        (vec![2, size], vec![], Lanes::Scalar),
        (vec![2], vec![size], Lanes::Scalar),
    ]
}

/// Row-major strides over `sizes`, `lane` from element to element along `along`: 0 leaves that loop out.
fn strides(sizes: &[usize], along: Option<usize>, lane: usize) -> (Vec<usize>, usize) {
    let mut strides = vec![0; sizes.len()];
    // The lane's loop runs fastest, as in a transposed view, if it is not the last.
    let mut order: Vec<usize> = (0..sizes.len()).rev().filter(|&l| Some(l) != along).collect();
    let mut step = 1;
    if let Some(l) = along.filter(|_| lane > 0) {
        order.insert(0, l);
        step = lane;
    }
    for l in order {
        strides[l] = step;
        step *= sizes[l];
    }
    (strides, step.max(1))
}

#[test]
fn primitives_agree_with_the_interpreter() {
    for prim in PRIMS {
        for signature in signatures(prim).1 {
            let mut b = Build::new("prims");
            let mut inputs = Vec::new();
            for size in [1, 3, 4, 5, 17, 40] {
                for (outer, row, lanes) in shapes(size) {
                    for (pattern, lane_strides) in [[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1], [3, 1, 0, 2], [0, 0, 0, 1]].iter().enumerate()
                    {
                        let all: Vec<usize> = outer.iter().chain(&row).copied().collect();
                        let along = match lanes {
                            Lanes::Outer => Some(outer.len() - 1),
                            Lanes::Row | Lanes::Scalar => Some(all.len() - 1),
                        };
                        let mut args = Vec::new();
                        let mut bound = Vec::new();
                        let mut insts = Vec::new();
                        let operands = &signature[1..];
                        for (i, &dtype) in operands.iter().enumerate() {
                            let (strides, len) = strides(&all, along, lane_strides[i]);
                            args.push((dtype, Access::Read));
                            bound.push(b.input(dtype, len));
                            inputs.push(numbers(dtype, len, (size * 100 + pattern * 10 + i) as u32));
                            insts.push(inst(i as Reg, dtype, InstKind::Load(place(i, &strides))));
                        }
                        let n = operands.len();
                        let (strides, len) = strides(&all, along, lane_strides[3]);
                        args.push((signature[0], Access::Write));
                        bound.push(b.output(signature[0], len));
                        insts.push(inst(n as Reg, signature[0], InstKind::Prim(prim, (0..n as Reg).collect())));
                        insts.push(inst(0, signature[0], InstKind::Store(place(n, &strides), n as Reg)));
                        // A row's strides must be 0 in a section that runs once.
                        let section = if row.is_empty() { Section::Once(insts) } else { Section::Row(insts) };
                        let kernel = b.kernel(&args, loops(&outer, &row, lanes, &[], vec![section]));
                        b.launch(kernel, &bound, 0);
                    }
                }
            }
            let want = interpret(&b.plan, &inputs, &mut []);
            let got = run(&b.plan, &inputs, &mut [], 1);
            let exact = !(prim.is_slow() && signature[0] == F32);
            for (k, (want, got)) in want.iter().zip(&got).enumerate() {
                for (e, (&want, &got)) in want.iter().zip(got).enumerate() {
                    let ok = if exact { same(want, got) } else { near(want, got, 2.5e-7) };
                    assert!(ok, "{prim:?} {signature:?}, kernel {k} {:?}, element {e}: {got} for {want}", b.plan.kernels[k].body);
                }
            }
        }
    }
}
