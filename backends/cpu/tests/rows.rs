//! Row kernels: reductions, kept rows, several sections, indices; products of matrices; noise; and that neither cuts nor threads change a bit.

mod support;

use pushforward_plan::kernel::ElementType::{Bool, F32, F64, I32};
use pushforward_plan::kernel::*;
use support::*;

const SIZES: [usize; 13] = [1, 2, 3, 4, 5, 7, 8, 16, 17, 20, 32, 33, 100];

fn compare(b: &Build, inputs: &[Numbers], relative: f64) {
    let want = interpret(&b.plan, inputs, &mut []);
    for threads in [1, 2] {
        let got = run(&b.plan, inputs, &mut [], threads);
        for (k, (want, got)) in want.iter().zip(&got).enumerate() {
            for (e, (&want, &got)) in want.iter().zip(got).enumerate() {
                let ok = near(want, got, relative) || (want - got).abs() < relative;
                assert!(ok, "{}, output {k}, element {e}: {got} for {want}", b.plan.name);
            }
        }
    }
}

/// Mean, variance and normalised rows, with what is kept between sections, a max and a second output.
fn norm(b: &mut Build, dtype: ElementType, outer: &[usize], row: &[usize], lanes: Lanes, transposed: bool) -> (usize, Vec<usize>) {
    let (o, r): (usize, usize) = (outer.iter().product(), row.iter().product());
    let all: Vec<usize> = outer.iter().chain(row).copied().collect();
    let mut strides = vec![0; all.len()];
    let mut step = 1;
    let order: Vec<usize> =
        if transposed { (0..outer.len()).rev().chain((outer.len()..all.len()).rev()).collect() } else { (0..all.len()).rev().collect() };
    for l in order {
        strides[l] = step;
        step *= all[l];
    }
    // Of the outer axes alone, and of the row's alone.
    let part = |range: std::ops::Range<usize>| {
        let mut strides = vec![0; all.len()];
        let mut step = 1;
        for l in range.rev() {
            strides[l] = step;
            step *= all[l];
        }
        strides
    };
    let (of_outer, of_row) = (part(0..outer.len()), part(outer.len()..all.len()));
    let t = dtype;
    let prim = |reg, p, args: &[Reg]| inst(reg, t, InstKind::Prim(p, args.to_vec()));
    let sections = vec![
        Section::Once(vec![inst(0, t, InstKind::Const(1.0 / r as f64)), inst(1, t, InstKind::Const(1e-5))]),
        Section::Row(vec![
            inst(2, t, InstKind::Load(place(0, &strides))),
            inst(3, t, InstKind::Reduce(Reduction::Sum, 2)),
            inst(4, t, InstKind::Reduce(Reduction::Max, 2)),
        ]),
        Section::Once(vec![prim(5, Prim::Mul, &[3, 0])]),
        Section::Row(vec![
            inst(6, t, InstKind::Load(place(0, &strides))),
            prim(7, Prim::Sub, &[6, 5]),
            inst(8, Bool, InstKind::Prim(Prim::Gt, vec![6, 5])),
            inst(0, t, InstKind::Keep(0, 7)),
            inst(0, Bool, InstKind::Keep(1, 8)),
            prim(9, Prim::Mul, &[7, 7]),
            inst(10, t, InstKind::Reduce(Reduction::Sum, 9)),
        ]),
        Section::Once(vec![
            prim(11, Prim::Mul, &[10, 0]),
            prim(12, Prim::Add, &[11, 1]),
            prim(13, Prim::Rsqrt, &[12]),
            inst(0, t, InstKind::Store(place(3, &of_outer), 4)),
        ]),
        Section::Row(vec![
            inst(14, t, InstKind::Recall(0)),
            inst(15, Bool, InstKind::Recall(1)),
            inst(16, t, InstKind::Load(place(1, &of_row))),
            inst(22, t, InstKind::Load(place(4, &of_outer))),
            prim(17, Prim::Mul, &[14, 13]),
            prim(18, Prim::Mul, &[17, 16]),
            inst(19, I32, InstKind::Index(all.len() - 1)),
            inst(20, t, InstKind::Prim(Prim::Cast, vec![19])),
            prim(23, Prim::Add, &[20, 22]),
            prim(21, Prim::Select, &[15, 18, 23]),
            inst(0, t, InstKind::Store(place(2, &strides), 21)),
        ]),
    ];
    let body = loops(outer, row, lanes, &[t, Bool], sections);
    let read = (t, Access::Read);
    let kernel = b.kernel(&[read, read, (t, Access::Write), (t, Access::Write), read], body);
    (kernel, vec![o * r, r, o * r, o, o])
}

#[test]
fn norms_agree_with_the_interpreter() {
    for dtype in [F32, F64] {
        for size in SIZES {
            let mut b = Build::new("norms");
            let mut inputs = Vec::new();
            for lanes in [Lanes::Row, Lanes::Outer, Lanes::Scalar] {
                for (outer, row) in [(vec![3], vec![size]), (vec![2, 3], vec![2, size]), (vec![size], vec![5]), (vec![2, size], vec![3, 2])]
                {
                    for transposed in [false, true] {
                        let (kernel, lens) = norm(&mut b, dtype, &outer, &row, lanes, transposed);
                        let bound = [b.input(dtype, lens[0]), b.input(dtype, lens[1])];
                        let out = [b.output(dtype, lens[2]), b.output(dtype, lens[3])];
                        let last = b.input(dtype, lens[4]);
                        for len in [lens[0], lens[1], lens[4]] {
                            inputs.push(tame(dtype, len, (len + inputs.len()) as u32));
                        }
                        b.launch(kernel, &[bound[0], bound[1], out[0], out[1], last], 1);
                    }
                }
            }
            // Where a whole row is one number, x - mean is rounding noise over sqrt(1e-5): allow for it.
            compare(&b, &inputs, if dtype == F32 { 2e-4 } else { 1e-11 });
        }
    }
}

#[test]
fn reductions_of_special_numbers() {
    for dtype in [F32, F64, I32] {
        for reduction in [Reduction::Sum, Reduction::Max] {
            let mut b = Build::new("reductions");
            let mut inputs = Vec::new();
            for size in [0, 1, 3, 4, 5, 16, 17, 64, 65] {
                for lanes in [Lanes::Row, Lanes::Outer, Lanes::Scalar] {
                    let insts = vec![
                        inst(0, dtype, InstKind::Load(place(0, &[size, 1]))),
                        inst(1, dtype, InstKind::Reduce(reduction, 0)),
                        inst(2, dtype, InstKind::Const(2.0)),
                        inst(3, dtype, InstKind::Reduce(reduction, 2)),
                    ];
                    let stores =
                        vec![inst(0, dtype, InstKind::Store(place(1, &[1, 0]), 1)), inst(0, dtype, InstKind::Store(place(2, &[1, 0]), 3))];
                    let body = loops(&[40], &[size], lanes, &[], vec![Section::Row(insts), Section::Once(stores)]);
                    let kernel = b.kernel(&[(dtype, Access::Read), (dtype, Access::Write), (dtype, Access::Write)], body);
                    let bound = [b.input(dtype, 40 * size), b.output(dtype, 40), b.output(dtype, 40)];
                    b.launch(kernel, &bound, 0);
                    let mut x = numbers(dtype, 40 * size, size as u32);
                    // Sums: half of the rows without numbers that swallow the others.
                    let tame = tame(dtype, 20 * size, size as u32);
                    x[..20 * size].copy_from_slice(&tame);
                    if reduction == Reduction::Sum && dtype != I32 {
                        x.iter_mut().filter(|x| x.is_finite() && x.abs() > 1e3).for_each(|x| *x = 1.0);
                    }
                    inputs.push(x);
                }
            }
            compare(&b, &inputs, if dtype == F64 { 1e-12 } else { 1e-5 });
        }
    }
}

#[test]
fn updates_in_place_and_strided_reductions() {
    // w = w - 0.5 * sum over n of g[n, :], as the optimiser does it: lanes outside, the sum a row; the parameter is read and written.
    for size in SIZES {
        let mut b = Build::new("update");
        let w = b.state("w", F32, size);
        let g = b.input(F32, 6 * size);
        let sections = vec![
            Section::Row(vec![inst(0, F32, InstKind::Load(place(1, &[1, size]))), inst(1, F32, InstKind::Reduce(Reduction::Sum, 0))]),
            Section::Once(vec![
                inst(2, F32, InstKind::Load(place(0, &[1, 0]))),
                inst(3, F32, InstKind::Const(0.5)),
                inst(4, F32, InstKind::Prim(Prim::Mul, vec![1, 3])),
                inst(5, F32, InstKind::Prim(Prim::Sub, vec![2, 4])),
                inst(0, F32, InstKind::Store(place(0, &[1, 0]), 5)),
            ]),
        ];
        let body = loops(&[size], &[6], Lanes::Outer, &[], sections);
        let kernel = b.kernel(&[(F32, Access::ReadWrite), (F32, Access::Read)], body);
        b.launch(kernel, &[w, g], 3);
        b.launch(kernel, &[w, g], 0);
        let inputs = [tame(F32, 6 * size, 1)];
        let (mut want, mut got) = ([tame(F32, size, 2)], [tame(F32, size, 2)]);
        interpret(&b.plan, &inputs, &mut want);
        run(&b.plan, &inputs, &mut got, 2);
        for (want, got) in want[0].iter().zip(&got[0]) {
            assert!(near(*want, *got, 1e-5), "{got} for {want}");
        }
    }
}

fn dim(size: usize, a: usize, b: usize, c: usize) -> GemmDim {
    GemmDim { axes: String::new(), size, a, b, c }
}

fn over(size: usize, a: usize, b: usize, c: usize) -> GemmLoop {
    GemmLoop { axis: "L".into(), size, a, b, c }
}

#[test]
fn products_agree_with_the_interpreter() {
    for dtype in [F32, F64] {
        let mut b = Build::new("products");
        let mut inputs = Vec::new();
        for (m, n, k) in [(1, 1, 1), (3, 5, 4), (17, 9, 33), (1, 17, 5), (17, 1, 5), (64, 32, 48), (4, 4, 0), (0, 3, 2), (3, 0, 2)] {
            for (batch, more) in [(vec![], vec![]), (vec![3], vec![]), (vec![2, 3], vec![2]), (vec![3], vec![2, 3]), (vec![2], vec![0])] {
                for layout in 0..4 {
                    // a is [batch.., more.., m, k] or with m and k swapped, b and c likewise.
                    let (at, bt, ct) = (layout & 1 == 1, layout & 2 == 2, layout == 3);
                    let swap = |t: bool, rows: usize, columns: usize| if t { (1, rows) } else { (columns, 1) };
                    let ((ma, ka), (kb, nb), (mc, nc)) = (swap(at, m, k), swap(bt, k, n), swap(ct, m, n));
                    let (mut sa, mut sb, mut sc) = (m * k, k * n, m * n);
                    let mut more_k: Vec<GemmLoop> = Vec::new();
                    for &size in more.iter().rev() {
                        more_k.insert(0, over(size, sa, sb, 0));
                        (sa, sb) = (sa * size, sb * size);
                    }
                    let mut loops: Vec<GemmLoop> = Vec::new();
                    for &size in batch.iter().rev() {
                        loops.insert(0, over(size, sa, sb, sc));
                        (sa, sb, sc) = (sa * size, sb * size, sc * size);
                    }
                    let cuts = [
                        (Cut::None, 0),
                        (Cut::M { per: 1 }, 5),
                        (Cut::N { per: 1 }, 4),
                        if batch.is_empty() { (Cut::None, 0) } else { (Cut::Batch(batch.len() - 1), 1) },
                        if m == 64 { (Cut::M { per: 8 }, 3) } else { (Cut::None, 0) },
                    ];
                    let (cut, part) = cuts[(layout + m + more.len()) % cuts.len()];
                    let (m, n, k) = (dim(m, ma, 0, mc), dim(n, 0, nb, nc), dim(k, ka, kb, 0));
                    let gemm = Gemm { dtype, a: 0, b: 1, c: 2, batch: loops, m, n, k, more_k, cut };
                    let (la, lb, lc) = (sa.max(1), sb.max(1), sc);
                    let kernel = b.kernel(&[(dtype, Access::Read), (dtype, Access::Read), (dtype, Access::Write)], Body::Gemm(gemm));
                    let bound = [b.input(dtype, la), b.input(dtype, lb), b.output(dtype, lc)];
                    inputs.push(tame(dtype, la, layout as u32));
                    inputs.push(tame(dtype, lb, 7));
                    b.launch(kernel, &bound, part);
                }
            }
        }
        compare(&b, &inputs, if dtype == F32 { 1e-4 } else { 1e-12 });
    }
}

#[test]
fn a_product_never_reads_what_it_overwrites() {
    // The temporary holds NaN from an earlier launch; a product overwrites it.
    let mut b = Build::new("overwrite");
    let (x, t, y) = (b.input(F32, 64), b.temp(F32, 64), b.output(F32, 64));
    let fill = vec![inst(0, F32, InstKind::Const(f64::NAN)), inst(0, F32, InstKind::Store(place(0, &[1]), 0))];
    let fill = b.kernel(&[(F32, Access::Write)], loops(&[64], &[], Lanes::Outer, &[], vec![Section::Once(fill)]));
    let gemm = Gemm {
        dtype: F32,
        a: 0,
        b: 0,
        c: 1,
        batch: vec![],
        m: dim(8, 8, 0, 8),
        n: dim(8, 0, 1, 1),
        k: dim(4, 1, 8, 0),
        more_k: vec![over(2, 4, 32, 0)],
        cut: Cut::None,
    };
    let gemm = b.kernel(&[(F32, Access::Read), (F32, Access::Write)], Body::Gemm(gemm));
    let copy = vec![inst(0, F32, InstKind::Load(place(0, &[1]))), inst(0, F32, InstKind::Store(place(1, &[1]), 0))];
    let copy = b.kernel(&[(F32, Access::Read), (F32, Access::Write)], loops(&[64], &[], Lanes::Outer, &[], vec![Section::Once(copy)]));
    b.launch(fill, &[t], 0);
    b.launch(gemm, &[x, t], 0);
    b.launch(copy, &[t, y], 0);
    compare(&b, &[tame(F32, 64, 3)], 1e-5);
}

#[test]
fn noise_is_that_of_the_reference() {
    for dtype in [F32, F64] {
        let mut b = Build::new("noise");
        let (seed, step) = (b.input(I32, 1), b.input(I32, 1));
        for (steps, per, directions, part) in [(1, 1, 1, 0), (5, 3, 1, 2), (4, 64, 1, 3), (7, 5, 3, 2), (1, 33, 2, 0), (128, 70, 1, 16)] {
            let kernel = b.kernel(
                &[(dtype, Access::Write), (I32, Access::Read), (I32, Access::Read)],
                Body::Normals(Normals { dtype, steps, per, directions }),
            );
            let out = b.output(dtype, steps * per * directions);
            b.launch(kernel, &[out, seed, step], part);
        }
        let inputs = [vec![-5.0], vec![9.0]];
        let want = interpret(&b.plan, &inputs, &mut []);
        for threads in [1, 3] {
            let got = run(&b.plan, &inputs, &mut [], threads);
            assert_eq!(want, got);
        }
    }
}

/// The bits of results of two chained kernels under a cut and a number of threads.
fn chain(part: usize, slice: bool, threads: usize, lanes: Lanes) -> Vec<u64> {
    let (outer, row) = (37, if lanes == Lanes::Outer { 9 } else { 45 });
    let mut b = Build::new("chain");
    let (kernel, lens) = norm(&mut b, F32, &[outer], &[row], lanes, lanes == Lanes::Outer);
    let (x, w) = (b.input(F32, lens[0]), b.input(F32, lens[1]));
    let (t, y, max) = (b.temp(F32, lens[2]), b.output(F32, lens[2]), b.output(F32, lens[3]));
    let shift = b.input(F32, lens[4]);
    b.launch(kernel, &[x, w, t, max, shift], part);
    let strides = if lanes == Lanes::Outer { vec![1, outer] } else { vec![row, 1] };
    let insts = vec![
        inst(0, F32, InstKind::Load(place(0, &strides))),
        inst(1, F32, InstKind::Prim(Prim::Tanh, vec![0])),
        inst(2, F32, InstKind::Prim(Prim::Exp, vec![1])),
        inst(3, F32, InstKind::Prim(Prim::Log, vec![2])),
        inst(0, F32, InstKind::Store(place(1, &strides), 3)),
    ];
    let body = loops(&[outer], &[row], lanes, &[], vec![Section::Row(insts)]);
    let second = b.kernel(&[(F32, Access::Read), (F32, Access::Write)], body);
    b.launch(second, &[t, y], part);
    if slice {
        let launches = b.plan.stages.drain(..).flat_map(|s| s.launches).collect();
        b.plan
            .stages
            .push(Stage { slice: Some(pushforward_plan::kernel::Slice { axis: "A0".into(), size: outer, chunk: part }), launches });
    }
    let inputs = [tame(F32, lens[0], 1), tame(F32, lens[1], 2), tame(F32, lens[4], 3)];
    let out = run(&b.plan, &inputs, &mut [], threads);
    out.into_iter().flatten().map(f64::to_bits).collect()
}

#[test]
fn neither_cuts_nor_threads_change_a_bit() {
    for lanes in [Lanes::Row, Lanes::Outer, Lanes::Scalar] {
        let whole = chain(0, false, 1, lanes);
        for part in [1, 2, 3, 4, 5, 7, 16, 36, 37, 50] {
            for threads in [1, 2, 5] {
                assert_eq!(whole, chain(part, false, threads, lanes), "{lanes:?}, parts of {part}, {threads} threads");
            }
            assert_eq!(whole, chain(part, true, 2, lanes), "{lanes:?}, slices of {part}");
        }
    }
}
